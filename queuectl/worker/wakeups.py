"""Everything that a worker waits for, as one object: signals, its pipe, the end of a child.

A signal only sets a note here; running code is never interrupted at an arbitrary point. `wake` and
`wake_idle` in store/files/worker_files.py write into the pipe.
"""

from __future__ import annotations

import os
import select
import signal
from operator import is_
from types import FrameType, TracebackType
from typing import Any

# Sent by `worker stop` and `worker stop --now`. Unlike a second SIGTERM, a second request to finish
# is not a request to hurry: a person who stopped waiting for a stop may wait again.
FINISH = signal.SIGUSR2
STOP_NOW = signal.SIGUSR1


class Wakeups:
    """A context in which signals ask the worker to stop; at its end the old handlers return.

    `stopping`: claim no more jobs. `now`: also end the running one. `code`: 128 + the number of the
    first signal; SIGTERM's for a stop that came another way, which is not `signalled`. `detached`:
    ignore SIGHUP (as in the foreground if it was ignored before, under nohup). Main thread only.
    """

    def __init__(self, *, detached: bool) -> None:
        self.stopping = False
        self.now = self.signalled = False
        self.code = 128 + signal.SIGTERM
        self._pipe = -1
        self._handlers: dict[int, Any] = {
            signal.SIGTERM: self._on_stop,
            signal.SIGINT: self._on_stop,
            signal.SIGHUP: _on_nothing if detached else self._on_stop,
            # Not SIG_IGN: the exit status of children would be lost.
            signal.SIGCHLD: is_,
            FINISH: self._on_finish,
            STOP_NOW: self._on_stop_now,
        }
        # A child inherits ignored signals; a shell starts `&` with SIGQUIT ignored.
        if signal.getsignal(signal.SIGQUIT) == signal.SIG_IGN:
            self._handlers[signal.SIGQUIT] = signal.SIG_DFL
        if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
            self._handlers[signal.SIGHUP] = _on_nothing

    def __enter__(self) -> Wakeups:
        self._signals, self._written = os.pipe()
        for fd in (self._signals, self._written):
            os.set_blocking(fd, False)
        self._poll = select.poll()
        self._poll.register(self._signals, select.POLLIN)
        self._before = {
            number: signal.signal(number, handler) for number, handler in self._handlers.items()
        }
        self._before_fd = signal.set_wakeup_fd(self._written, warn_on_full_buffer=False)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        signal.set_wakeup_fd(self._before_fd)
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        os.close(self._signals)
        os.close(self._written)

    def watch(self, pipe: int) -> None:
        """Also wait for the worker's pipe: its non-blocking reading end, which stays open."""
        self._pipe = pipe
        self._poll.register(pipe, select.POLLIN)

    def wait(self, seconds: float) -> bytes:
        """Wait at most `seconds` for a signal, a child's end or the pipe.

        Returns the bytes from the pipe; empty if something else ended the wait.
        """
        events = self._poll.poll(max(seconds, 0.0) * 1000)
        came = b""
        for fd, event in events:
            if not event & select.POLLIN:
                self._poll.unregister(fd)  # the pipe is broken for good; it would wake us for ever
            elif fd == self._pipe:
                came = _drain(fd)
            else:
                _drain(fd)
        return came

    def heed(self, asked: str) -> None:
        """Stop if another host has asked for it; see Slot."""
        self.stopping = self.stopping or bool(asked)
        self.now = self.now or asked == "now"

    def _on_stop(self, number: int, _frame: FrameType | None) -> None:
        if not self.stopping:
            self.code, self.signalled = 128 + number, True
        self.now = self.stopping
        self.stopping = True

    def _on_finish(self, _number: int, _frame: FrameType | None) -> None:
        self.stopping = True

    def _on_stop_now(self, _number: int, _frame: FrameType | None) -> None:
        self.stopping = self.now = True


def _on_nothing(_number: int, _frame: FrameType | None) -> None:
    """A handler that does nothing; with SIG_IGN the children would ignore the signal too."""


def _drain(fd: int) -> bytes:
    try:
        return os.read(fd, 4096)
    except BlockingIOError:
        return b""
