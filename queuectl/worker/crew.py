"""Several workers in the foreground: child processes whose lines are shown as they come."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from queuectl.worker import pool
from queuectl.worker.wakeups import STOP_NOW

_PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_LARGEST_READ = 1 << 16
_SILENCE = 1.0  # seconds


def run_crew(
    folder: str,
    count: int,
    *,
    tell: Callable[[str], None],
    log: Callable[[str], None],
    until_empty: bool = False,
    on_wait: Callable[[], None] | None = None,
    on_stop: Callable[[int], object] | None = None,
) -> int:
    """Run `count` workers until signals stop them; returns the first exit code that is not 0.

    `tell` is called with each line about a job, `log` with each line of trouble. A signal is passed
    on to all of them, once, since they are not in the terminal's foreground group. `on_wait` is
    called after each second without a line, `on_stop` with 128 + the number of the first signal.
    """
    with selectors.DefaultSelector() as lines:
        crew: list[subprocess.Popen[bytes]] = []
        try:
            for _ in range(count):
                crew.append(_start(folder, until_empty))
        except BaseException:  # nobody reads the output of those already started
            for member in crew:
                member.terminate()
            raise
        with _passing_on(crew, on_stop):
            for member in crew:
                for pipe, show in ((member.stdout, tell), (member.stderr, log)):
                    assert pipe is not None
                    lines.register(pipe, selectors.EVENT_READ, _Lines(show))
            while lines.get_map():
                events = lines.select(None if on_wait is None else _SILENCE)
                if on_wait is not None and not events:
                    on_wait()
                for key, _ in events:
                    data = os.read(key.fd, _LARGEST_READ)
                    key.data.feed(data)
                    if not data:
                        lines.unregister(key.fileobj)
            codes = [member.wait() for member in crew]
    for member in crew:
        for pipe in (member.stdout, member.stderr):
            if pipe is not None:
                pipe.close()
    return next((code if code > 0 else 128 - code for code in codes if code), 0)


def _start(folder: str, until_empty: bool) -> subprocess.Popen[bytes]:
    drain = ["--drain"] if until_empty else []
    argv, environ, package = pool.command(folder, "--foreground", *drain)
    return subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env=environ,
        cwd=package,
    )


class _Lines:
    """Bytes that arrive in pieces, shown line by line."""

    def __init__(self, show: Callable[[str], None]) -> None:
        self._show = show
        self._rest = b""

    def feed(self, data: bytes) -> None:
        """Take in some bytes; empty bytes mean the end."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if not data and self._rest:
            lines.append(self._rest)
        for line in lines:
            self._show(line.decode("utf-8", "replace"))


@contextmanager
def _passing_on(
    crew: list[subprocess.Popen[bytes]], on_stop: Callable[[int], object] | None = None
) -> Iterator[None]:
    """Until the block ends, pass signals that ask us to stop on to the whole crew."""
    asked = False

    def pass_on(number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        if on_stop is not None and not asked:
            on_stop(128 + number)
        # A second signal of the same kind before the first was handled would merge with it.
        number, asked = (STOP_NOW if asked else number), True
        for member in crew:
            member.send_signal(number)

    before = {number: signal.getsignal(number) for number in _PASSED_ON}
    try:
        for number, handler in before.items():
            if handler != signal.SIG_IGN or number == signal.SIGINT:
                signal.signal(number, pass_on)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
