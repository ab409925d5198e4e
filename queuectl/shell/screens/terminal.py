"""The terminal between prompts: what is typed ahead stays unseen and waits for the next prompt."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO


class Terminal:
    """The terminal at standard input; every method is harmless if it is none."""

    def __init__(self, stdin: TextIO) -> None:
        self._fd = -1
        try:
            self._fd = stdin.fileno()
            self._usual = termios.tcgetattr(self._fd)
        except (OSError, ValueError, termios.error):
            self._fd = -1

    @contextmanager
    def unseen_keys(self) -> Iterator[None]:
        """Neither echo keys nor gather them into lines; Ctrl-C still interrupts.

        Prompts set what they need themselves, and go back to this.
        """
        if self._fd < 0:
            yield
            return
        changed = [*self._usual]
        changed[3] &= ~(termios.ECHO | termios.ICANON)
        self._set(changed)
        try:
            yield
        finally:
            self._set(self._usual)

    @contextmanager
    def usual_keys(self) -> Iterator[None]:
        """Inside `unseen_keys`: for a question that is answered on the terminal."""
        if self._fd < 0:
            yield
            return
        before = termios.tcgetattr(self._fd)
        self._set(self._usual)
        try:
            yield
        finally:
            self._set(before)

    def _set(self, attributes: list[object]) -> None:
        try:
            termios.tcsetattr(self._fd, termios.TCSANOW, attributes)  # type: ignore[arg-type]
        except (OSError, termios.error):
            self._fd = -1  # it was closed


@contextmanager
def cooked_keys(stdin: TextIO | None) -> Iterator[None]:
    """Keys as a program that knows nothing of us expects them; harmless if it is not a terminal."""
    try:
        fd = stdin.fileno() if stdin is not None else -1
        before = termios.tcgetattr(fd)
    except (OSError, ValueError, termios.error):
        yield
        return
    changed = [*before]
    changed[3] |= termios.ECHO | termios.ICANON
    termios.tcsetattr(fd, termios.TCSANOW, changed)
    try:
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSANOW, before)


def line_start(columns: int) -> str:
    """What brings the cursor to the start of a line: of the next one if this one holds text.

    A row of blanks but one wraps exactly then (zsh does the same).
    """
    return " " * (columns - 1) + "\r"


def run_system(command: str, shell: str, data: str) -> int:
    """Run a line of the person's own shell on the terminal; its exit code, 128 + n for a signal.

    `queuectl` in it is the one that runs, on the queue in the folder `data`.
    """
    environ = {**os.environ, "QUEUECTL_DATA": data}
    beside = os.path.dirname(os.path.abspath(sys.argv[0]))
    if shutil.which("queuectl") is None and os.path.exists(os.path.join(beside, "queuectl")):
        environ["PATH"] = os.pathsep.join(filter(None, (environ.get("PATH"), beside)))
    try:
        code = subprocess.call([shell, "-c", command], env=environ)
    except OSError:
        code = subprocess.call(["/bin/sh", "-c", command], env=environ)
    return code if code >= 0 else 128 - code


def own_shell() -> str:
    """The person's own shell."""
    return os.environ.get("SHELL") or "/bin/sh"
