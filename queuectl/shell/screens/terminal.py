"""The terminal between prompts: text typed ahead stays invisible until the next prompt."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import TextIO


def unseen_keys(stdin: TextIO) -> AbstractContextManager[None]:
    """Keys are neither echoed nor collected into lines; Ctrl-C still interrupts.

    Prompts set their own mode and return to this one.
    """
    return _changed(stdin, lambda flags: flags & ~(termios.ECHO | termios.ICANON))


def cooked_keys(stdin: TextIO | None) -> AbstractContextManager[None]:
    """The usual keys, for a question or another program."""
    return _changed(stdin, lambda flags: flags | termios.ECHO | termios.ICANON)


@contextmanager
def _changed(stdin: TextIO | None, change: Callable[[int], int]) -> Iterator[None]:
    """Other local flags for the terminal; does nothing if it is not one or gets closed."""
    try:
        fd = stdin.fileno() if stdin is not None else -1
        before = termios.tcgetattr(fd)
    except (OSError, ValueError, termios.error):
        yield
        return
    changed = [*before]
    changed[3] = change(before[3])
    with suppress(OSError, termios.error):
        termios.tcsetattr(fd, termios.TCSANOW, changed)
    try:
        yield
    finally:
        with suppress(OSError, termios.error):
            termios.tcsetattr(fd, termios.TCSANOW, before)


def line_start(columns: int) -> str:
    """The text that moves the cursor to the start of a line: the next one if this has text.

    A row of blanks less one wraps exactly in that case (as in zsh).
    """
    return " " * (columns - 1) + "\r"


def run_system(command: str, shell: str, data: str) -> int:
    """Run a line in the person's own shell on the terminal; returns its code, 128 + n for a signal.

    `queuectl` in it is this program, on the queue in the folder `data`.
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
