"""Results longer than the screen go through the person's pager."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from types import SimpleNamespace
from typing import TextIO, cast

from queuectl.commands.context import Context
from queuectl.commands.grammar.bound import Bound
from queuectl.shell.screens.terminal import cooked_keys

_USUAL = "less -FIRX"
_NOT_WITH = ("follow", "json", "jsonl", "csv", "tsv", "quiet", "no_pager")
_PAGED = frozenset({"list", "show", "logs", "dlq list", "config get", "explain", "help"})


def pager_for(bound: Bound, environ: Mapping[str, str]) -> list[str]:
    """The pager's command line for the results of a bound line; empty for no pager."""
    import shlex

    if " ".join(bound.words) not in _PAGED or any(bound.values.get(name) for name in _NOT_WITH):
        return []
    if environ.get("TERM") in ("dumb", "", None):
        return []
    wanted = environ.get("QUEUECTL_PAGER", environ.get("PAGER", _USUAL))
    try:
        command = shlex.split(wanted)
    except ValueError:
        return []
    return [] if command == ["cat"] else command


def run_paged(
    context: Context, bound: Bound, run: Callable[[Context, Bound], int], rows: int
) -> tuple[int, bool]:
    """Run a line; returns its exit code and whether its result was longer than `rows`."""
    out = context.out
    command = [] if context.no_pager or context.quiet else pager_for(bound, context.environ)
    if not command or out is None:
        return run(context, bound), False
    pager = Pager(out, command, rows)
    context.out = cast("TextIO", pager)
    try:
        code = run(context, bound)
    finally:
        context.out = out
        pager.close()
    return code, pager.started


class Pager:
    """A text stream that holds text back; more than `rows` lines go to the pager.

    Leaving the pager early is not an error: the rest is dropped. `close` shows what is held.
    """

    def __init__(self, out: TextIO, command: list[str], rows: int) -> None:
        self.started = False
        self.buffer = SimpleNamespace(write=self.take)  # where bytes are written
        self._out = out
        self._command = command
        self._room = rows - 1  # the prompt comes below
        self._held: list[bytes] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._around = ExitStack()

    def write(self, text: str) -> int:
        """Take in a piece of the result."""
        self.take(text.encode(self._out.encoding or "utf-8", "replace"))
        return len(text)

    def take(self, data: bytes) -> int:
        """Take in bytes of the result."""
        if not self.started:
            self._held.append(data)
            self._room -= data.count(b"\n")
            if self._room < 0:
                self._start()
        else:
            self._pass_on(data)
        return len(data)

    def flush(self) -> None:
        """Nothing to do: text is shown only once it is known whether it fits."""

    def isatty(self) -> bool:
        """As the terminal."""
        return self._out.isatty()

    def fileno(self) -> int:
        """As the terminal, whose width counts."""
        return self._out.fileno()

    def close(self) -> None:
        """Show the held text, or wait until the person leaves the pager."""
        if not self.started:
            self._pass_on(b"".join(self._held))
        elif self._process is not None:
            assert self._process.stdin is not None
            with suppress(OSError):
                self._process.stdin.close()
            try:
                self._process.wait()
            except BaseException:  # a signal ends everything
                self._process.terminate()
                raise
            finally:
                self._around.close()

    def _start(self) -> None:
        self.started = True
        self._out.flush()
        # Ctrl-C is for the pager while it is open.
        before = signal.signal(signal.SIGINT, lambda *_: None)
        self._around.callback(signal.signal, signal.SIGINT, before)
        self._around.enter_context(cooked_keys(sys.stdin))
        with suppress(OSError):  # there is no pager: everything goes to the terminal
            self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, bufsize=0)
        self._pass_on(b"".join(self._held))

    def _pass_on(self, data: bytes) -> None:
        if self._process is None:
            self._out.flush()
            self._out.buffer.write(data)
            return
        assert self._process.stdin is not None
        view = memoryview(data)
        with suppress(OSError):  # the person has seen enough
            while view:
                view = view[self._process.stdin.write(view) or 0 :]
