"""A real process on a pseudo-terminal, drawn by pyte: what a person would see."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Sequence

import pyte

ENTER, CTRL_C, CTRL_D, CTRL_R, TAB = "\r", "\x03", "\x04", "\x12", "\t"
UP, RIGHT = "\x1b[A", "\x1b[C"
_DEADLINE = 15.0
# The shell as a session of its own, whose Ctrl-C comes from the terminal.
_SHELL = """
import fcntl, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from queuectl.cli import entry
entry()
"""


class Terminal:
    """A shell on a terminal of `columns` x `rows`; `until` waits for what the screen must show.

    With `argv` it is one command.
    """

    def __init__(
        self, columns: int = 80, rows: int = 24, argv: Sequence[str] = (), **env: str
    ) -> None:
        self.screen = pyte.Screen(columns, rows)
        self.stream = pyte.ByteStream(self.screen)
        self.raw = b""
        self.fd, inner = pty.openpty()
        self.resize(columns, rows)
        usual = {"TERM": "xterm-256color", "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8"}
        usual["QUEUECTL_SHELLRC"] = os.devnull  # the person's own is none of a test's
        kept = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLUMNS", "LINES")}
        self.process = subprocess.Popen(
            [sys.executable, "-c", _SHELL, *argv],
            **dict.fromkeys(("stdin", "stdout", "stderr"), inner),
            start_new_session=True,
            env={**kept, **usual, **env},
        )
        os.close(inner)
        # The terminal answers where the cursor is; without that there is no toolbar.
        self.screen.write_process_input = lambda text: os.write(self.fd, text.encode())

    def resize(self, columns: int, rows: int) -> None:
        self.screen.resize(rows, columns)
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def keys(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def read(self, seconds: float) -> bool:
        """Draw what the shell writes within so long; False when it has ended or wrote nothing."""
        waiting = select.poll()  # select() knows no descriptor beyond 1023
        waiting.register(self.fd, select.POLLIN)
        if not waiting.poll(seconds * 1000):
            return False
        try:
            data = os.read(self.fd, 65_536)
        except OSError:
            return False
        self.raw += data
        self.stream.feed(data)
        return bool(data)

    @property
    def lines(self) -> list[str]:
        return [line.rstrip() for line in self.screen.display]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    @property
    def line(self) -> str:
        """The line that the cursor is on."""
        return self.lines[self.screen.cursor.y]

    def until(self, condition: Callable[[], object], what: str = "") -> None:
        deadline = time.monotonic() + _DEADLINE
        while not condition():
            assert time.monotonic() < deadline, f"still waiting for {what}:\n{self.text}"
            self.read(0.05)

    def shows(self, *texts: str) -> None:
        for text in texts:
            self.until(lambda text=text: text in self.text, text)

    def prompted(self, line: str = "") -> None:
        """Wait until the line being typed is this one."""
        self.until(lambda: self.line == f"queuectl> {line}".rstrip(), f"prompt {line!r}")

    def run(self, line: str) -> None:
        """Type a line, and wait until the next prompt is there."""
        self.keys(line)
        self.until(lambda: line[-20:] in self.text.replace("\n", ""), line)
        self.keys(ENTER)
        self.prompted()

    def style(self, text: str):
        """The drawing of the first cell of a text on the screen."""
        self.shows(text)
        y = next(y for y, line in enumerate(self.lines) if text in line)
        return self.screen.buffer[y][self.lines[y].index(text)]

    def ended(self) -> int:
        """Wait for the shell's end; its exit code."""
        self.until(lambda: self.process.poll() is not None, "the shell to end")
        self.read(0)
        return self.process.returncode

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.fd)
