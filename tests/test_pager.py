"""Results longer than the screen in the shell: what goes through the pager, and what does not."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import pytest
from terminal import CTRL_C, ENTER, Terminal

from queuectl.commands.grammar.binding import bind
from queuectl.commands.table import COMMANDS
from queuectl.job_queue import JobQueue
from queuectl.shell.screens.pager import pager_for

LESS = ["less", "-FIRX"]


@pytest.mark.parametrize(
    ("line", "environ", "command"),
    [
        ("list", {}, LESS),
        ("help list", {}, LESS),
        ("logs a", {"PAGER": "more -s"}, ["more", "-s"]),
        ("list", {"PAGER": "more", "QUEUECTL_PAGER": "most"}, ["most"]),
        ("list", {"QUEUECTL_PAGER": ""}, []),
        ("list", {"PAGER": "cat"}, []),
        ("list", {"PAGER": "'more"}, []),
        ("list", {"TERM": "dumb"}, []),
        ("logs a --follow", {}, []),
        ("list --json", {}, []),
        ("list -q", {}, []),
        ("list --no-pager", {}, []),
        ("wait a", {}, []),
        ("backup -", {}, []),
    ],
)
def test_the_pager_is_the_one_that_the_environment_names(line, environ, command) -> None:
    assert pager_for(bind(COMMANDS, line), {"TERM": "xterm", **environ}) == command


@pytest.fixture
def shell(cli, tmp_path, monkeypatch) -> Iterator[object]:
    monkeypatch.setenv("QUEUECTL_HISTORY", str(tmp_path / "history"))
    queue = JobQueue.open(cli.folder)
    queue.enqueue([{"id": f"job{n}", "command": "x"} for n in range(5000)])
    queue.close()
    started: list[Terminal] = []

    def start(pager: str) -> Terminal:
        script = tmp_path / "pager"
        script.write_text(f"#!/bin/sh\n{pager}\n")
        script.chmod(0o700)
        started.append(Terminal(80, 24, QUEUECTL_PAGER=shlex.quote(str(script))))
        started[0].prompted()
        return started[0]

    yield start
    for shell in started:
        shell.close()


def test_a_long_result_is_paged_and_a_short_one_is_not(shell) -> None:
    one = shell("echo PAGER; cat | wc -l; read answer < /dev/tty; echo got $answer")
    one.run("list --limit 3")
    assert "PAGER" not in one.text
    one.keys("list" + ENTER)
    one.shows("PAGER", "5002")
    one.keys(CTRL_C)  # ends the pager of this test; nothing else
    one.prompted()
    assert "Interrupted" not in one.text
    assert " s)" not in one.text


def test_leaving_the_pager_early_is_not_an_error(shell) -> None:
    one = shell("echo PAGER; head -n 1; exit 1")
    one.keys("list" + ENTER)
    one.shows("PAGER")
    one.prompted()
    assert "queuectl: " not in one.text
    one.run("ping")
    one.shows("Queue can be reached")


def test_without_its_program_all_is_shown(shell, tmp_path) -> None:
    one = shell("exit 0")
    (tmp_path / "pager").unlink()
    one.keys("list" + ENTER)
    one.shows("job4999")
    one.prompted()


# -- one command on a terminal


@pytest.fixture
def listing(cli, tmp_path) -> Iterator[object]:
    """Runs one command on a terminal of 24 rows, beside 100 jobs; the pager says what it got."""
    queue = JobQueue.open(cli.folder)
    queue.enqueue([{"id": f"job{n:03}", "command": "x"} for n in range(100)])
    queue.close()
    script = tmp_path / "pager"
    script.write_text("#!/bin/sh\necho paged: $(wc -l)\n")
    script.chmod(0o700)
    started: list[Terminal] = []

    def start(*argv: str) -> Terminal:
        started.append(Terminal(80, 24, argv, QUEUECTL_PAGER=shlex.quote(str(script))))
        assert started[-1].ended() == 0
        while started[-1].read(0.2):
            pass
        return started[-1]

    yield start
    for command in started:
        command.close()


def test_a_single_list_longer_than_the_screen_is_paged(listing) -> None:
    listing("list").shows("paged: 102")
    listing("list", "--color=always").shows("paged: 102")


@pytest.mark.parametrize(
    "argv",
    [
        ("list", "--json"),
        ("list", "-q"),
        ("list", "--no-pager"),
        ("--no-pager", "list"),
        ("list", "--limit", "9"),
        ("-f", "script"),
    ],
)
def test_scripts_pipes_and_single_results_are_not_paged(listing, tmp_path, argv) -> None:
    (tmp_path / "script").write_text("list\n")
    assert "paged" not in listing(*argv).text
