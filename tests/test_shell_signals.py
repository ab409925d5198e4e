"""Signals to the shell and its screens: the terminal is restored, and the exit code names them."""

from __future__ import annotations

import os
import signal
import termios
from collections.abc import Callable, Iterator

import pytest

pytest.importorskip("pyte")

from terminal import CTRL_D, ENTER, Terminal

from queuectl.job_queue import JobQueue

CTRL_BACKSLASH = "\x1c"
ENDINGS = [(signal.SIGTERM, 143), (signal.SIGHUP, 129)]


@pytest.fixture
def terminal(cli, tmp_path, monkeypatch) -> Iterator[Callable[..., Terminal]]:
    """Starts shells, or commands, on the test's queue, on terminals that outlive them."""
    monkeypatch.setenv("QUEUECTL_HISTORY", str(tmp_path / "history"))
    queue = JobQueue.open(cli.folder)
    queue.enqueue([{"id": "a", "command": "true"}])
    queue.close()
    started: list[Terminal] = []

    def start(*argv: str) -> Terminal:
        started.append(Terminal(80, 24, argv, SHELL="/bin/sh"))
        return started[-1]

    yield start
    for shell in started:
        shell.close()


def usual(shell: Terminal) -> list[object]:
    """What the terminal does with keys; to be asked while a program runs that changed nothing."""
    return termios.tcgetattr(shell.fd)


ON_SCREEN = {
    "": "queuectl>",
    "wait a": "Waiting goes on",
    "!echo st''arted; sleep 60": "started",
    "top": "q quit",
    "watch list": "Every 2s",
    "worker run": "completed after",
}


@pytest.mark.parametrize(("number", "code"), ENDINGS)
@pytest.mark.parametrize("line", ON_SCREEN)
def test_a_signal_gives_the_terminal_back(terminal, line, number, code) -> None:
    shell = terminal()
    before = usual(shell)
    shell.prompted()
    if line:
        shell.keys(line + ENTER)
    shell.shows(ON_SCREEN[line])
    os.kill(shell.process.pid, number)
    assert shell.ended() == code
    assert usual(shell)[3] == before[3]
    assert shell.raw.count(b"\x1b[?1049h") == shell.raw.count(b"\x1b[?1049l")
    assert "Traceback" not in shell.text


@pytest.mark.parametrize("argv", [("top",), ("watch", "list")])
@pytest.mark.parametrize(("number", "code"), ENDINGS)
def test_a_screen_of_its_own_gives_the_terminal_back(terminal, argv, number, code) -> None:
    shell = terminal(*argv)
    before = usual(shell)
    shell.shows(ON_SCREEN[" ".join(argv)])
    os.kill(shell.process.pid, number)
    assert shell.ended() == code
    assert usual(shell)[3] == before[3]
    assert shell.raw.count(b"\x1b[?1049h") == shell.raw.count(b"\x1b[?1049l")


@pytest.mark.parametrize("line", ON_SCREEN)
def test_the_quit_key_ends_a_program_and_never_the_shell(terminal, line) -> None:
    shell = terminal()
    shell.prompted()
    if line:
        shell.keys(line + ENTER)
    shell.shows(ON_SCREEN[line])
    shell.keys(CTRL_BACKSLASH)
    if line.startswith("!"):
        shell.shows("exit code 131")  # it had the signal, for the shell ignores it for itself alone
    elif line:
        shell.keys("\x03")
    shell.prompted()
    shell.run("version")
    shell.keys(CTRL_D)
    assert shell.ended() == 0


def test_a_terminal_that_is_gone_ends_the_shell(terminal) -> None:
    shell = terminal()
    shell.prompted()
    fd = os.dup(shell.fd)
    os.close(shell.fd)
    shell.fd = os.open(os.devnull, os.O_RDWR)
    os.close(fd)
    assert shell.process.wait(20) == 129


def test_what_the_starter_ignored_stays_ignored(terminal, monkeypatch) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        shell = terminal()
    finally:
        signal.signal(signal.SIGHUP, before)
    shell.prompted()
    os.kill(shell.process.pid, signal.SIGHUP)
    shell.run("version")
    shell.keys(CTRL_D)
    assert shell.ended() == 0
