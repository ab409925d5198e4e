"""A thread for long computations: they would part a worker from the processor of its jobs."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread
from typing import TypeVar

T = TypeVar("T")


def aside(action: Callable[[], T]) -> T:
    """Do what can take long in a thread of its own; what it returns. Raises what it raises.

    A scheduler that has seen a worker compute for long spreads it and its jobs over processors
    from then on: on Linux 6.18 with two of them that costs a sixth of the throughput.
    """
    done: list[T] = []
    raised: list[Exception] = []

    def run() -> None:
        try:
            done.append(action())
        except Exception as exc:
            raised.append(exc)

    thread = Thread(target=run)
    try:
        thread.start()
    except RuntimeError:  # there are too many already
        run()
    else:
        thread.join()
    if raised:
        raise raised[0]
    return done[0]
