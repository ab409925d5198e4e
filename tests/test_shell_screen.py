"""What the shell shows on a terminal: a real process on a pseudo-terminal, drawn by pyte."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

import pytest

pytest.importorskip("pyte")

from terminal import (
    CTRL_C,
    CTRL_D,
    CTRL_R,
    ENTER,
    RIGHT,
    TAB,
    UP,
    Terminal,
)

from queuectl.job_queue import JobQueue
from queuectl.model.lifecycle import Outcome


@pytest.fixture
def terminal(cli, tmp_path, monkeypatch) -> Iterator[Callable[..., Terminal]]:
    """Starts shells on the test's queue; they are at their first prompt."""
    monkeypatch.setenv("QUEUECTL_HISTORY", str(tmp_path / "history"))
    started: list[Terminal] = []

    def start(columns: int = 80, rows: int = 24, **env: str) -> Terminal:
        shell = Terminal(columns, rows, **env)
        started.append(shell)
        shell.until(lambda: ">" in shell.line, "the first prompt")
        return shell

    yield start
    for shell in started:
        shell.close()


@pytest.fixture
def queue(data_dir) -> Iterator[JobQueue]:
    queue = JobQueue.open(data_dir)
    yield queue
    queue.close()


def _fail(queue: JobQueue, job_id: str) -> None:
    queue.enqueue([{"id": job_id, "command": "exit 3", "max_retries": 0, "priority": -1}])
    job = queue.claim("w-1")
    assert job is not None
    queue.settle(job, Outcome("exited", 3, None, queue.now()))


def test_a_first_session(terminal, data_dir) -> None:
    shell = terminal()
    assert f"data folder {data_dir}" in shell.text.replace("\n", "")
    shell.shows("no workers | no jobs", "Ctrl-D leaves")
    shell.run("enqueue {id: job1, command: echo it's}")
    shell.shows("Job added to the queue with job id: job1", "! 1 job waits, no worker runs")
    shell.keys(CTRL_D)
    assert shell.ended() == 0
    with open(os.path.join(data_dir, "jobs.json")) as file:
        assert "job1" in file.read()


def test_the_menu_shows_dead_jobs_with_their_command(terminal, queue) -> None:
    _fail(queue, "bad1")
    queue.enqueue([{"id": "good1", "command": "x"}])
    shell = terminal()
    shell.keys("dlq retry ")
    shell.shows("bad1", "exit 3")
    assert "good1" not in shell.text
    shell.keys(TAB)
    shell.prompted("dlq retry bad1")
    shell.keys(ENTER)  # takes the entry
    shell.until(lambda: "exit 3" not in shell.text, "the menu to close")
    shell.keys(ENTER)
    shell.shows("Job 'bad1' has been moved back to the main queue for retry.")


def test_completion_follows_other_processes(terminal, queue) -> None:
    shell = terminal()
    shell.keys("show ")
    shell.shows("show JOB")
    queue.enqueue([{"id": "zz1", "command": "x"}])
    shell.shows("1 pending")
    shell.keys("z")
    typed = time.monotonic()

    def offered() -> bool:
        # What completion read last stands for a moment; a key typed after that shows the news.
        nonlocal typed
        if "zz1" not in shell.text and time.monotonic() - typed > 1.0:
            shell.keys("\x7fz")
            typed = time.monotonic()
        return "zz1" in shell.text

    shell.until(offered, "the new job to be offered")


def test_a_wrong_line_stays_with_the_cursor_at_the_fault(terminal) -> None:
    shell = terminal()
    shell.keys("list --state pendng --limit 3")
    shell.until(lambda: shell.style("pendng").underscore, "the fault to be marked")
    assert shell.style("pendng").fg == "red"
    assert not shell.style("--state").underscore
    shell.keys(ENTER)
    shell.shows("did you mean 'pending'?")
    shell.prompted("list --state pendng --limit 3")
    assert shell.screen.cursor.x == len("queuectl> list --state ")
    shell.keys(TAB)
    shell.prompted("list --state pending --limit 3")
    assert "did you mean" not in shell.text


def test_the_toolbar_lives_and_is_silent_when_nothing_changes(terminal, queue) -> None:
    shell = terminal()
    shell.keys("half a li")
    shell.shows("no jobs", "half a li")
    queue.enqueue([{"command": "x"}, {"command": "y"}])
    shell.shows("! 2 jobs wait, no worker runs: worker start")
    assert "half a li" in shell.text
    while shell.read(0.7):  # until the last repaint was a while ago
        pass
    before = len(shell.raw)
    assert not shell.read(2.5)
    assert len(shell.raw) == before


def test_notices_leave_the_half_typed_line_alone(terminal, cli) -> None:
    shell = terminal()
    shell.run("enqueue {id: quick, command: exit 0}")
    shell.run("enqueue {id: bad, command: exit 7, max_retries: 0}")
    shell.keys("list --sta")
    shell.shows("only jobs in this state")
    cli.ok("worker", "start")
    shell.shows("Job 'quick' completed", "Job 'bad' is dead: exit code 7", "1 worker")
    shell.prompted("list --sta")
    shell.shows("only jobs in this state")


def test_ctrl_c_clears_the_line_and_ends_a_wait_but_no_job(terminal, queue) -> None:
    shell = terminal()
    shell.keys("nonsense")
    shell.prompted("nonsense")
    shell.keys(CTRL_C)
    shell.prompted()
    shell.run("enqueue {id: job1, command: x}")
    shell.keys("wait job1" + ENTER)
    shell.shows("No worker runs")
    shell.keys(CTRL_C)
    shell.shows("Interrupted")
    shell.prompted()
    assert queue.get("job1").state == "pending"
    shell.keys(CTRL_D)
    assert shell.ended() == 0


def test_what_is_typed_during_a_command_is_neither_shown_nor_lost(terminal) -> None:
    shell = terminal()
    shell.keys("wait job9 --timeout 1" + ENTER)
    shell.shows("no job has the id")
    shell.run("enqueue {id: job1, command: x}")
    shell.keys("wait job1 --timeout 1" + ENTER)
    shell.shows("No worker runs")
    shell.keys("version")
    shell.shows("The time is up")
    shell.prompted("version")
    assert "version" not in shell.lines


def test_a_small_terminal_is_usable(terminal) -> None:
    shell = terminal(20, 4)
    shell.keys("stat")
    shell.until(lambda: "status" in shell.text, "the menu")
    shell.keys("us" + ENTER)
    shell.until(lambda: b"Time:" in shell.raw, "the status")
    shell.keys("lits" + ENTER)
    shell.shows("list?")
    shell.keys(CTRL_C + "version" + ENTER)
    shell.shows("queuectl 0")
    assert b"too small" not in shell.raw
    shell.resize(100, 30)
    shell.keys("dlq ")
    shell.shows("queuectl> dlq", "Tab completes", "no jobs")
    shell.keys(CTRL_C + CTRL_D)
    assert shell.ended() == 0


def test_history_by_prefix_by_search_and_by_suggestion(terminal, tmp_path) -> None:
    (tmp_path / "history").write_text("config get base\nstatus\nlist --limit 3\n")
    shell = terminal()
    shell.keys("con")
    shell.shows("fig get base")  # the grey rest of the line
    shell.keys(RIGHT)
    shell.prompted("config get base")
    shell.keys(CTRL_C)
    shell.prompted()
    shell.keys("st\x1b")  # Escape closes the menu, so that the arrow means history
    shell.until(lambda: "Show how many" not in shell.text, "the menu to close")
    shell.keys(UP)
    shell.prompted("status")
    shell.keys(CTRL_C)
    shell.prompted()
    shell.keys(CTRL_R + "limit")
    shell.shows("list --limit 3")
    shell.keys(ENTER)
    shell.prompted("list --limit 3")


@pytest.mark.parametrize("env", [{"NO_COLOR": "1"}, {"LC_ALL": "C", "LANG": "C"}])
def test_without_colours_or_unicode(terminal, env) -> None:
    shell = terminal(**env)
    shell.run("enqueue {id: a, command: echo}")
    shell.keys("list --state pendng")
    shell.until(lambda: shell.style("pendng").underscore, "the fault to be marked")
    if "NO_COLOR" in env:
        assert {cell.fg for row in shell.screen.buffer.values() for cell in row.values()} == {
            "default"
        }


def test_only_the_sixteen_colours_are_used(terminal) -> None:
    shell = terminal()
    shell.keys("list --sta")
    shell.shows("only jobs in this state")
    assert b"38;5;" not in shell.raw
    assert b"38;2;" not in shell.raw
    assert b"48;5;" not in shell.raw


def test_a_dumb_terminal_is_usable(terminal) -> None:
    shell = terminal(TERM="dumb")
    shell.keys("lits" + ENTER)
    shell.shows("did you mean 'list'?")
    shell.keys("version" + ENTER)
    shell.shows("queuectl 0")
    shell.keys("exit" + ENTER)
    assert shell.ended() == 0
    assert b"\x1b" not in shell.raw


def test_typing_goes_on_while_the_queue_is_locked(terminal, queue) -> None:
    queue.enqueue([{"id": f"job{n}", "command": "x"} for n in range(50)])
    shell = terminal()
    with queue.store._writer.lock:
        shell.keys("show job4")
        shell.shows("job49", "pending")
        shell.prompted("show job4")
