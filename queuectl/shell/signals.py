"""Signals that would end a program on a terminal: it gives the terminal back before it ends."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_ENDING = (signal.SIGTERM, signal.SIGHUP)


@contextmanager
def terminal_kept(leave: Callable[[int], bool] = lambda code: False) -> Iterator[None]:
    """Inside, SIGTERM and SIGHUP raise SystemExit of 128 + their number; SIGQUIT does nothing.

    `leave` is given that exit code first; True if it has begun to leave in its own way. A second
    signal raises all the same. A signal that was ignored before stays so.
    """
    asked: list[int] = []

    def end(number: int, _: object) -> None:
        asked.append(number)
        if len(asked) > 1 or not leave(128 + number):
            raise SystemExit(128 + number)

    # A handler, not SIG_IGN, which the programs started meanwhile would inherit.
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
