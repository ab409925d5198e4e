"""What the shell shows on a terminal: a real process on a pseudo-terminal, drawn by pyte."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from functools import partial

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

from queuectl import __version__
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


def _fail(queue: JobQueue, job_id: str) -> None:
    queue.enqueue([{"id": job_id, "command": "exit 3", "max_retries": 0, "priority": -1}])
    job = queue.claim("w-1")
    assert job is not None
    queue.settle(job, Outcome("exited", 3, None, queue.now()))


def test_a_first_session_names_the_folder_and_leaves_a_folded_queue(terminal, data_dir) -> None:
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
    shell.keys("show zz")
    shell.shows("show JOB")
    while shell.read(0.3):  # until it has found nothing to offer
        pass
    queue.enqueue([{"id": "zz1", "command": "x"}])
    shell.keys(TAB)
    shell.prompted("show zz1")


def test_an_open_menu_follows_other_processes(terminal, queue) -> None:
    queue.enqueue([{"id": "zz1", "command": "x"}])
    shell = terminal()
    shell.keys("show zz")
    menu = partial(re.search, flags=re.DOTALL)
    shell.until(lambda: menu(r"zz1 +pending", shell.text), "the menu")
    queue.enqueue([{"id": "zz2", "command": "x"}])
    shell.until(lambda: menu(r"zz2 +pending.*zz1 +pending", shell.text), "the new job")
    queue.cancel(["zz1"])
    shell.until(lambda: menu(r"zz1 +cancelled", shell.text), "what became of the other")
    shell.keys(TAB)
    shell.until(lambda: shell.line.endswith(("zz1", "zz2")), "an entry to be chosen")
    chosen = shell.line
    queue.enqueue([{"id": "zz3", "command": "x"}])
    shell.shows("2 pending")
    assert shell.line == chosen
    assert "zz3" not in shell.text


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
    shell.shows("Job 'quick' (exit 0) completed", "Job 'bad' (exit 7) is dead", "1 worker")
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
    shell.shows("Waiting goes on")
    shell.keys(CTRL_C)
    shell.shows("Interrupted")
    shell.prompted()
    assert queue.get("job1").state == "pending"
    shell.keys(CTRL_D)
    assert shell.ended() == 0


def test_text_typed_during_a_command_is_neither_shown_nor_lost(terminal) -> None:
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


def test_history_is_found_by_prefix_by_search_and_by_suggestion(terminal, tmp_path) -> None:
    (tmp_path / "history").write_text("config get base\nstatus\nversion # it\n")
    shell = terminal()
    shell.keys("con")
    shell.shows("fig get base")  # the grey rest of the line
    shell.keys(RIGHT)
    shell.prompted("config get base")
    shell.keys(CTRL_C)
    shell.prompted()
    shell.keys("st")
    shell.shows("Count the jobs in each")
    shell.keys(UP)  # nothing of the menu was chosen, so that the arrow means history
    shell.prompted("status")
    shell.until(lambda: "Count the jobs in each" not in "\n".join(shell.lines[:-2]), "no menu")
    shell.keys(CTRL_C)
    shell.prompted()
    shell.keys(CTRL_R + "ver")
    shell.shows("version # it")
    shell.keys(ENTER)  # it is run
    shell.shows(f"queuectl {__version__}\nqueuectl>")
    shell.prompted()
    shell.keys("list" + CTRL_R + "zzz")
    shell.shows("no line holds 'zzz'")
    shell.keys(ENTER)  # nothing was found, so that nothing runs
    shell.prompted("list")
    assert shell.lines.count(f"queuectl {__version__}") == 1


def test_the_only_offer_is_taken_whole_and_the_next_menu_opens(terminal, queue) -> None:
    queue.enqueue([{"id": "job1", "command": "x"}])
    shell = terminal()
    shell.keys("purg")
    shell.shows("Remove finished jobs")
    shell.keys(TAB)
    shell.prompted("purge")
    assert shell.screen.cursor.x == len("queuectl> purge ")
    shell.keys("--sta")
    shell.shows("only jobs in this state")
    shell.keys(TAB)
    shell.shows("ended well", "cancelled before it ended")
    assert "in_progress" not in shell.text
    shell.keys(TAB)
    shell.prompted("purge --state completed")


def test_a_quick_tab_takes_the_only_offer_too(terminal) -> None:
    shell = terminal()
    shell.keys("statu" + TAB)
    shell.prompted("status")
    shell.until(lambda: shell.screen.cursor.x == len("queuectl> status "), "the blank")
    shell.keys(ENTER)
    shell.shows("Total Jobs")


@pytest.mark.parametrize("env", [{"NO_COLOR": "1"}, {"LC_ALL": "C", "LANG": "C"}])
def test_the_shell_works_without_colours_or_unicode(terminal, env) -> None:
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


def test_watch_shows_a_command_anew_and_gives_the_screen_back(terminal, queue) -> None:
    queue.enqueue([{"id": "job1", "command": "x"}])
    shell = terminal(80, 12)
    shell.run("version")
    shell.keys("watch 0.2 list --state pending" + ENTER)
    shell.shows("Every 200ms: list --state pending", "job1")
    assert "queuectl>" not in shell.text
    assert shell.lines[0][-3] == ":"  # the time, whole, at the right edge
    queue.enqueue([{"id": "job2", "command": "y"}])
    shell.shows("job2")
    queue.cancel(["job1"])
    shell.until(lambda: "job1" not in shell.text, "the job to go")
    shell.resize(40, 4)
    shell.until(lambda: len(shell.lines[0]) == 40 and "job2" in shell.lines[3], "the new size")
    shell.resize(80, 12)
    shell.until(lambda: len(shell.lines[0]) == 80, "the old size")
    shell.keys(CTRL_C)
    shell.prompted()
    assert b"\x1b[?1049l" in shell.raw
    shell.shows("no worker runs")
    assert "Interrupted" not in shell.text
    assert queue.get("job2").state == "pending"
    shell.keys("watch status" + ENTER)
    shell.shows("Every 2s: status")
    shell.keys("q")
    shell.prompted()
    shell.keys(CTRL_D)
    assert shell.ended() == 0


def test_watch_shows_errors_and_goes_on(terminal, queue) -> None:
    shell = terminal()
    shell.keys("watch 0.2 show job1" + ENTER)
    shell.shows("no job has the id 'job1'")
    queue.enqueue([{"id": "job1", "command": "echo found"}])
    shell.shows("echo found")
    shell.keys(CTRL_C)
    shell.prompted()
    shell.keys("watch cancel job1" + ENTER)
    shell.shows("'cancel' cannot be watched")
    shell.prompted("watch cancel job1")
    shell.keys(CTRL_C)
    shell.prompted()


def test_watch_on_a_dumb_terminal_goes_on_below(terminal) -> None:
    shell = terminal(TERM="dumb")
    shell.keys("watch 0.2 ping" + ENTER)
    shell.until(lambda: shell.text.count("Every 200ms: ping") > 2, "three rounds")
    shell.keys(CTRL_C)
    shell.until(lambda: shell.line.startswith("queuectl>"), "the prompt")
    assert b"\x1b" not in shell.raw


def test_watch_runs_as_a_command_of_its_own(cli) -> None:
    shell = Terminal(80, 10, argv=("watch", "0.2", "status"))
    shell.shows("Every 200ms: status", "Total Jobs: 0")
    shell.process.terminate()
    assert shell.ended() == 143
    assert shell.raw.endswith(b"\x1b[?1049l")
    shell.close()


def test_an_alias_is_offered_and_coloured_and_checked(terminal, tmp_path, queue) -> None:
    (tmp_path / "rc").write_text("alias bad list --state failed,dead\nalis x list\n")
    shell = terminal(QUEUECTL_SHELLRC=str(tmp_path / "rc"))
    shell.shows("alis x list", "^^^^")
    shell.keys("ba")
    shell.shows("Stands for 'list --state failed,dead'.")
    assert shell.style("ba").underscore is False
    shell.keys("d --limt 3")
    shell.until(lambda: shell.style("--limt").underscore, "the fault to be marked")
    line = next(row for row in shell.lines if row.startswith("queuectl> bad"))
    cell = shell.screen.buffer[shell.lines.index(line)][len("queuectl> ")]
    assert (cell.data, cell.fg, cell.bold) == ("b", "cyan", True)
    shell.keys(ENTER)
    shell.shows("did you mean '--limit'?")
    assert shell.screen.cursor.x == len("queuectl> bad ")
    shell.keys(TAB + ENTER)
    shell.shows("ID ")
    shell.prompted()
