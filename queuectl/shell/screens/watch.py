"""`watch`: the output of a command on the whole screen, again every few seconds."""

from __future__ import annotations

import io
import os
import re
import select
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TextIO, cast

from queuectl.commands.context import Context, is_terminal
from queuectl.commands.dispatch import Result, attempt, run_within
from queuectl.commands.grammar.bound import Bound
from queuectl.commands.render import PLAIN, cells, clip, one_line, paint
from queuectl.model.times import format_duration
from queuectl.shell.screens.terminal import unseen_keys
from queuectl.shell.signals import terminal_kept

_LOOK = 0.1  # seconds between checks of the terminal's size
# To the alternate screen, without wrapping and cursor; and back. A terminal without an alternate
# screen is left empty.
_ENTER, _LEAVE = "\033[?1049h\033[?7l\033[?25l", "\033[H\033[J\033[?25h\033[?7h\033[?1049l"
_HOME, _EMPTY, _BELOW = "\033[H", "\033[K", "\033[J"
_COLOUR = re.compile(r"(\033\[[0-9;]*m)")
_COMMAND = re.compile(r"\033(?:\[[0-?]*[ -/]*[@-~]|[()][0-9A-B]|[=>78cDEHM])")


def watch(context: Context, args: dict[str, Any]) -> Result:
    """Watch until the person ends it (0); without a terminal print once, with that exit code."""
    inner: Bound = args["command"]
    if not context.terminal or (context.stdin_taken and not context.interactive):
        return Result(code=run_within(context, inner))
    context.flush()
    context.stay()
    try:
        with terminal_kept(), unseen_keys(sys.stdin):
            _Watch(context, inner, args["interval"]).run()
    except KeyboardInterrupt:
        context.close()  # interrupted work starts over with a fresh queue
    return Result()


class _Watch:
    """The watching of one command."""

    def __init__(self, context: Context, inner: Bound, interval: float) -> None:
        assert context.out is not None
        self.context = context
        self.inner = inner
        self.interval = interval
        self.out = context.out
        self.plain = context.environ.get("TERM") in ("dumb", "", None)
        self.shown = False  # whether the last picture is still on the screen
        self.keys = sys.stdin if is_terminal(sys.stdin) else None

    def run(self) -> None:
        """Run until q; Ctrl-C raises KeyboardInterrupt."""
        if self.plain:
            while True:
                self._write(f"{self._head()}\n{self._result()}")
                if self._waited(self._size()):
                    return
        with self._screen():
            while True:
                size = self._size()
                shown = picture(self._head(), self._result().removesuffix("\n").split("\n"), *size)
                self._write(_HOME + "".join(shown) + _BELOW)
                if self._waited(size):
                    return

    def _result(self) -> str:
        """The present output of the command, with its errors."""
        frame = _Frame(self.out)
        kept = self.context.out, self.context.err
        self.context.out = self.context.err = cast("TextIO", frame)
        try:
            attempt(self.context, lambda: run_within(self.context, self.inner))
        finally:
            self.context.out, self.context.err = kept
        return frame.text()

    def _head(self) -> str:
        every = format_duration(self.interval)
        line = self.inner.text[self.inner.tokens[0].start :].strip()
        now = time.strftime("%H:%M:%S")
        told = clip(f"Every {every}: {one_line(line)}", self._size()[0] - len(now) - 1)
        gap = " " * (self._size()[0] - cells(told) - len(now))
        return paint(told + gap + now, "bold", on=self.context.color)

    def _size(self) -> tuple[int, int]:
        try:
            rows = os.get_terminal_size(self.out.fileno()).lines
        except (OSError, ValueError):
            rows = 24
        return self.context.width, rows

    def _waited(self, size: tuple[int, int]) -> bool:
        """Let the interval pass, or less if the size changes; returns whether q was pressed."""
        due, self.shown = time.monotonic() + self.interval, True
        while self.shown and (left := due - time.monotonic()) > 0 and self._size() == size:
            if self._pressed(min(left, _LOOK)) in (b"q", b"Q"):
                return True
        return False

    def _pressed(self, seconds: float) -> bytes:
        """A key pressed within `seconds`, if any."""
        if self.keys is None or not select.select([self.keys], [], [], seconds)[0]:
            if self.keys is None:
                time.sleep(seconds)
            return b""
        key = os.read(self.keys.fileno(), 1)
        if not key:
            self.keys = None  # the terminal is gone
        return key

    @contextmanager
    def _screen(self) -> Iterator[None]:
        """The alternate screen, which is always left again."""
        before = signal.signal(signal.SIGTSTP, self._stopped)
        try:
            self._write(_ENTER)
            yield
        finally:
            self._write(_LEAVE)
            signal.signal(signal.SIGTSTP, before)

    def _stopped(self, *_: object) -> None:
        """Ctrl-Z: leave the screen to the next program, and take it again afterwards."""
        # Not through the stream, in the midst of whose writing we may be.
        os.write(self.out.fileno(), _LEAVE.encode())
        handler = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, handler)
        os.write(self.out.fileno(), _ENTER.encode())
        self.shown = False

    def _write(self, text: str) -> None:
        self.out.write(text)
        self.out.flush()


def picture(head: str, lines: Sequence[str], columns: int, rows: int) -> Iterator[str]:
    """The text for each row of the screen; the last one says what does not fit."""
    room = rows - 1
    left = len(lines) - room
    shown = [*lines] if left <= 0 else [*lines[: room - 1], f"... {left + 1} more lines"]
    for at, line in enumerate([head, *(fitted(line, columns) for line in shown)][:rows]):
        # Cleared first: after a line as wide as the screen, its last character would vanish too.
        yield "\r\n" * bool(at) + _EMPTY + line


def fitted(line: str, columns: int) -> str:
    """A line within `columns` columns; keeps colours but nothing that moves the cursor."""
    line = line.rstrip("\r").rpartition("\r")[2].expandtabs()
    kept: list[str] = []
    for part in _COLOUR.split(line):
        if _COLOUR.fullmatch(part):
            kept.append(part)
            continue
        text = clip(one_line(_COMMAND.sub("", part)), columns)
        columns -= cells(text)
        kept.append(text)
    return "".join(kept) + PLAIN * (len(kept) > 1)


class _Frame(io.TextIOWrapper):
    """Keeps what is written, and answers for the terminal."""

    def __init__(self, terminal: TextIO) -> None:
        encoding = terminal.encoding or "utf-8"
        super().__init__(io.BytesIO(), encoding, errors="replace", newline="\n", write_through=True)
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal.isatty()

    def fileno(self) -> int:
        return self._terminal.fileno()

    def text(self) -> str:
        """All that was written, with what the terminal cannot show replaced."""
        self.flush()
        return cast("io.BytesIO", self.buffer).getvalue().decode(self.encoding, "replace")
