"""Signals that would end a program on a terminal: it restores the terminal before it ends."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_ENDING = (signal.SIGTERM, signal.SIGHUP)


@contextmanager
def terminal_kept(leave: Callable[[int], bool] = lambda code: False) -> Iterator[None]:
    """In this block SIGTERM and SIGHUP raise SystemExit(128 + number); SIGQUIT does nothing.

    `leave` is called first with that exit code; it returns True if it ends the program its own way.
    A second signal raises in any case. A signal that was ignored before stays ignored.
    """
    asked: list[int] = []

    def end(number: int, _: object) -> None:
        asked.append(number)
        if len(asked) > 1 or not leave(128 + number):
            raise SystemExit(128 + number)

    # A handler, since programs started meanwhile would inherit SIG_IGN.
    handlers = dict.fromkeys(_ENDING, end) | {signal.SIGQUIT: lambda *_: None}
    before = {}
    for number, handler in handlers.items():
        if signal.getsignal(number) != signal.SIG_IGN:
            before[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, usual in before.items():
            signal.signal(number, usual)
