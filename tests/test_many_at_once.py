"""Several jobs changed by one command: a person is asked, a script is not; and colours."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

pytest.importorskip("pyte")

from terminal import ENTER, Terminal

from queuectl.job_queue import JobQueue
from queuectl.model.lifecycle import Outcome

DEEDS = {
    "cancel a b": ("Cancel 2 jobs?", {"a": "cancelled", "b": "cancelled"}),
    "retry dead1 dead2": ("Retry 2 jobs?", {"dead1": "pending", "dead2": "pending"}),
    "dlq retry dead1 dead2": ("Retry 2 jobs?", {"dead1": "pending", "dead2": "pending"}),
    "dlq retry --all": ("Retry 2 jobs?", {"dead1": "pending", "dead2": "pending"}),
}
BEFORE = {"a": "pending", "b": "pending", "dead1": "dead", "dead2": "dead"}


@pytest.fixture
def queue(cli) -> Iterator[JobQueue]:
    """Two jobs that wait and two that are dead."""
    queue = JobQueue.open(cli.folder)
    for job_id in ("dead1", "dead2"):
        queue.enqueue([{"id": job_id, "command": "x", "max_retries": 0}])
        job = queue.claim("w")
        assert job is not None
        queue.settle(job, Outcome("exited", 3, None, queue.now()))
    queue.enqueue([{"id": "a", "command": "x"}, {"id": "b", "command": "x"}])
    queue.close()
    yield queue
    queue.close()


@pytest.fixture
def terminal(queue, tmp_path, monkeypatch) -> Iterator[Callable[..., Terminal]]:
    monkeypatch.setenv("QUEUECTL_HISTORY", str(tmp_path / "history"))
    started: list[Terminal] = []

    def start(*argv: str) -> Terminal:
        started.append(Terminal(80, 24, argv))
        return started[-1]

    yield start
    for one in started:
        one.close()


def states(queue: JobQueue) -> dict[str, str]:
    return {job.id: job.state for job in JobQueue.open(queue.folder).find()}


@pytest.mark.parametrize("line", DEEDS)
@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("", 1)])
def test_on_a_terminal_it_asks_with_the_count(terminal, queue, line, answer, code) -> None:
    question, after = DEEDS[line]
    command = terminal(*line.split())
    command.shows(question)
    assert states(queue) == BEFORE
    command.keys(answer + ENTER)
    assert command.ended() == code
    assert states(queue) == BEFORE | (after if answer else {})


@pytest.mark.parametrize("line", DEEDS)
def test_it_asks_in_the_shell_and_not_with_yes(terminal, queue, line) -> None:
    question, after = DEEDS[line]
    shell = terminal()
    shell.prompted()
    shell.keys(line + ENTER)
    shell.shows(question)
    shell.keys("n" + ENTER)
    shell.shows("Nothing was changed.")
    shell.prompted()
    assert states(queue) == BEFORE
    shell.keys(f"{line} --yes{ENTER}")
    shell.until(lambda: states(queue) == BEFORE | after, "the change")


@pytest.mark.parametrize("line", DEEDS)
def test_a_script_is_not_asked_and_a_dry_run_changes_nothing(cli, queue, line) -> None:
    argv = line.split()
    wanted = [job_id for job_id, state in DEEDS[line][1].items() if BEFORE[job_id] != state]
    assert cli.ok(*argv, "--dry-run", "-q").split() == wanted
    assert states(queue) == BEFORE
    cli.ok(*argv)
    assert states(queue) == BEFORE | DEEDS[line][1]


def test_a_script_on_a_terminal_is_not_asked_either(terminal, queue, tmp_path) -> None:
    script = tmp_path / "script"
    script.write_text("cancel a b\n")
    assert terminal("-f", str(script)).ended() == 0
    assert states(queue) == BEFORE | {"a": "cancelled", "b": "cancelled"}
    script.write_text("dlq retry --all\n")
    shell = terminal()
    shell.prompted()
    shell.run(f"source '{script}'")
    assert states(queue)["dead1"] == "pending"


def test_a_dry_run_refuses_what_would_be_refused(cli, queue) -> None:
    assert cli("cancel", "a", "dead1", "--dry-run").code == 4
    assert cli("retry", "a", "nobody", "--dry-run").code == 3
    assert cli("dlq", "retry", "a", "--dry-run").code == 4


# -- colours


@pytest.mark.parametrize(
    ("argv", "environ", "coloured"),
    [
        (["list"], {}, False),
        (["list", "--color", "always"], {}, True),
        (["--color=always", "list"], {}, True),
        (["list"], {"FORCE_COLOR": "1"}, True),
        (["list"], {"FORCE_COLOR": "0"}, False),
        (["list", "--color", "never"], {"FORCE_COLOR": "1"}, False),
        (["list", "--no-color"], {"FORCE_COLOR": "1"}, False),
        (["list"], {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
        (["list", "--color", "always"], {"NO_COLOR": "1", "TERM": "dumb"}, True),
        (["list", "--json", "--color", "always"], {}, False),
    ],
)
def test_colours_without_a_terminal_are_those_that_were_asked_for(
    cli, queue, monkeypatch, argv, environ, coloured
) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert ("\033[" in cli.ok(*argv)) == coloured


def test_an_unknown_colour_is_refused(cli) -> None:
    for argv in (["list", "--color", "sometimes"], ["--color=sometimes"]):
        result = cli(*argv)
        assert result.code == 2
        assert "auto, always, never" in result.err


def test_a_script_may_be_coloured(cli, queue) -> None:
    assert "\033[" in cli.ok("--color=always", stdin="list\n")
    assert "\033[" not in cli.ok(stdin="list\n")
    assert os.environ.get("FORCE_COLOR") is None
