"""The shell's logic, with keys from a pipe and no screen; and what it watches the queue with."""

from __future__ import annotations

import io
import os
import threading
import time
from contextvars import copy_context
from pathlib import Path

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

from queuectl.commands.context import Context
from queuectl.errors import StoreBusy
from queuectl.job_queue import JobQueue
from queuectl.live.live_queue import LiveQueue
from queuectl.live.notices import Notices
from queuectl.live.watcher import Watcher
from queuectl.model.lifecycle import Outcome
from queuectl.shell.history_file import HistoryFile
from queuectl.shell.session import Shell
from queuectl.store import opening
from queuectl.store.files import peek as peek_module
from queuectl.store.files.glance import Glance
from queuectl.store.files.peek import Peek

ENTER, CTRL_C, CTRL_D, TAB, UP = "\r", "\x03", "\x04", "\t", "\x1b[A"


class Typed:
    """Types keys into a shell on the test's queue, and keeps what it said."""

    def __init__(self) -> None:
        self.out, self.err = io.StringIO(), io.StringIO()

    def __call__(self, keys: str) -> Typed:
        """A whole session; it must end by itself."""
        context = Context(out=self.out, err=self.err, interactive=True)
        with create_pipe_input() as pipe, create_app_session(pipe, DummyOutput()):
            shell = Shell(context, input=pipe, output=DummyOutput())
            pipe.send_text(keys)
            assert shell.run() == 0
        return self


@pytest.fixture
def typed(data_dir, tmp_path, monkeypatch) -> Typed:
    monkeypatch.setenv("QUEUECTL_HISTORY", str(tmp_path / "history"))
    monkeypatch.setenv("QUEUECTL_SHELLRC", os.devnull)
    monkeypatch.setenv("TERM", "xterm")
    return Typed()


def _states(folder: str) -> dict[str, str]:
    return {job.id: job.state for job in JobQueue.open(folder).find()}


# -- the session


def test_a_change_that_is_seen_as_the_line_ends_is_not_drawn(data_dir) -> None:
    class Closed:
        """A loop that ends just after it was found open."""

        def is_closed(self):
            return False

        def call_soon_threadsafe(self, *_, **how):
            raise RuntimeError("Event loop is closed")

    with create_pipe_input() as pipe, create_app_session(pipe, DummyOutput()):
        prompt = Shell(Context(interactive=True), input=pipe, output=DummyOutput()).prompt
        prompt._context, app = copy_context(), prompt._session.app
        app._is_running, app.loop = True, Closed()
        prompt.redraw()


def test_a_line_runs_and_is_remembered(typed, data_dir, tmp_path) -> None:
    typed(f"enqueue {{id: a, command: echo it's}}{ENTER} ping{ENTER}{CTRL_D}")
    assert "Job added to the queue with job id: a\n" in typed.out.getvalue()
    assert _states(data_dir) == {"a": "pending"}
    entries, _ = HistoryFile(str(tmp_path / "history")).news()
    assert entries == ["enqueue {id: a, command: echo it's}"]


@pytest.mark.parametrize("word", ["exit", "quit"])
def test_exit_and_quit_leave(typed, word) -> None:
    typed(f"{word}{ENTER}status{ENTER}")
    assert "Total Jobs" not in typed.out.getvalue()


def test_ctrl_c_clears_the_line_and_ctrl_d_only_leaves_an_empty_one(typed) -> None:
    typed(f"enqueue {CTRL_D}{CTRL_C}status{ENTER}{CTRL_D}")
    assert "Total Jobs: 0" in typed.out.getvalue()


def test_a_wrong_line_is_kept_and_not_run(typed, data_dir) -> None:
    # The cursor stands at the fault: what is deleted there is the fault itself.
    deleted = "\x1b[3~" * len("pendng")
    typed(f"list --state pendng{ENTER}{deleted}dead{ENTER}{CTRL_D}")
    assert "ID" in typed.out.getvalue()
    assert "queuectl:" not in typed.err.getvalue()
    assert "pendng" not in typed.err.getvalue()
    assert HistoryFile(os.environ["QUEUECTL_HISTORY"]).news()[0] == ["list --state dead"]


def test_tab_takes_what_was_meant(typed) -> None:
    typed(f"sttus{ENTER}{TAB}{ENTER}{CTRL_D}")
    assert "Total Jobs: 0" in typed.out.getvalue()


def test_an_open_brace_goes_on_in_the_next_line(typed, data_dir) -> None:
    typed(f"enqueue {{id: a,{ENTER}command: echo 1}}{ENTER}{CTRL_D}")
    assert _states(data_dir) == {"a": "pending"}


def test_pasted_lines_run_in_order(typed, data_dir) -> None:
    lines = "enqueue {id: a, command: x}\n# note\nenqueue {id: b,\n command: y}\ncancel a\n"
    typed(f"\x1b[200~{lines}\x1b[201~{ENTER}{CTRL_D}")
    assert _states(data_dir) == {"a": "cancelled", "b": "pending"}


def test_no_pasted_line_runs_if_one_is_wrong(typed, data_dir) -> None:
    lines = "enqueue {id: a, command: x}\nenqeue {id: b, command: y}"
    typed(f"\x1b[200~{lines}\x1b[201~{ENTER}{CTRL_C}{CTRL_D}")
    assert _states(data_dir) == {}


def test_an_error_is_one_line_and_the_shell_goes_on(typed) -> None:
    typed(f"show nobody{ENTER}status{ENTER}{CTRL_D}")
    assert typed.err.getvalue().startswith("queuectl: no job has the id 'nobody'")
    assert "Total Jobs: 0" in typed.out.getvalue()


def test_help_tells_of_the_shell_too(typed) -> None:
    typed(f"help{ENTER}help exit{ENTER}notify -h{ENTER}help list{ENTER}{CTRL_D}")
    out = typed.out.getvalue()
    for words in ("Commands:", "In the shell", "Leave the shell", "notify dead", "list --state"):
        assert words in out


def test_a_comment_alone_does_nothing(typed) -> None:
    typed(f"# nothing{ENTER}   {ENTER}{ENTER}{CTRL_D}")
    assert typed.err.getvalue() == ""
    assert len(typed.out.getvalue().splitlines()) == 1


def test_options_of_one_line_hold_for_that_line(typed, tmp_path) -> None:
    other = tmp_path / "other"
    typed(
        f"enqueue -q {{id: a, command: x}}{ENTER}"
        f"enqueue --data '{other}' {{id: b, command: x}}{ENTER}list -q{ENTER}{CTRL_D}"
    )
    assert typed.out.getvalue().splitlines()[1:] == [
        "a",
        "Job added to the queue with job id: b",
        "a",
    ]
    assert _states(str(other)) == {"b": "pending"}


def test_commands_of_the_shell_change_notices_and_keys(typed) -> None:
    typed(f"notify{ENTER}notify off{ENTER}keys vi{ENTER}\x1bOSkeys{ENTER}exit{ENTER}")
    out = typed.out.getvalue()
    assert "Notices are on." in out
    assert "Notices are off." in out
    assert "Keys are those of vi." in out
    assert "Keys are those of emacs." in out


def test_a_system_line_runs_and_its_exit_code_is_told(typed, tmp_path) -> None:
    typed(f"!echo hi > '{tmp_path}/said'; exit 4{ENTER}{CTRL_D}")
    assert (tmp_path / "said").read_text() == "hi\n"
    assert "(exit code 4)" in typed.err.getvalue()


def test_interrupting_ends_the_watching_only(typed, data_dir, monkeypatch) -> None:
    def interrupted(self: JobQueue, seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(JobQueue, "wait", interrupted)
    lines = "wait a\nstatus"
    typed(
        f"enqueue {{id: a, command: x}}{ENTER}\x1b[200~{lines}\x1b[201~{ENTER}"
        f"list -q{ENTER}{CTRL_D}"
    )
    assert "Interrupted; jobs and workers go on.\n" in typed.err.getvalue()
    assert "Total Jobs" not in typed.out.getvalue()  # the rest of the paste is not run
    assert _states(data_dir) == {"a": "pending"}


@pytest.mark.parametrize("line", ["worker stop", "worker stop --now", "end --now", "source lines"])
def test_interrupting_the_wait_for_workers_says_that_they_stop(typed, monkeypatch, line) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("queuectl.worker.pool.stop", interrupted)
    with open("lines", "w") as file:
        file.write("end\n")
    typed(f"alias end worker stop{ENTER}{line}{ENTER}{CTRL_D}")
    assert typed.err.getvalue() == "Interrupted; the workers still stop.\n"


def test_leaving_folds_a_small_queue(typed, data_dir) -> None:
    typed(f"enqueue {{id: a, command: x}}{ENTER}{CTRL_D}")
    with open(os.path.join(data_dir, "jobs.json")) as file:
        assert '"id": "a"' in file.read()


def test_a_folder_that_is_not_ours_is_told(typed, data_dir) -> None:
    os.mkdir(data_dir)
    with open(os.path.join(data_dir, "jobs.json"), "w") as file:
        file.write("[]")
    typed(f"list{ENTER}{CTRL_D}")
    assert "is not queuectl's" in typed.err.getvalue()


# -- notices


def _run(queue: JobQueue, job_id: str, exit_code: int) -> None:
    """Claim the first job, which must be this one, and end its run."""
    job = queue.claim("w-1")
    assert job is not None
    assert job.id == job_id
    queue.settle(job, Outcome("exited", exit_code, None, queue.now()))


def _look_twice(watcher: Watcher) -> None:
    watcher.look()
    watcher.look()


def _watched(folder: str) -> tuple[Watcher, Notices]:
    notices = Notices()
    return Watcher(opening.watch(folder), notices, lambda: None), notices


def test_followed_jobs_are_told_of(queue) -> None:
    watcher, notices = _watched(queue.folder)
    queue.enqueue([{"id": "a", "command": "x"}, {"id": "b", "command": "x", "max_retries": 0}])
    queue.enqueue([{"id": "c", "command": "x"}, {"id": "other", "command": "x"}])
    watcher.follow(["a", "b", "c"])
    watcher.look()
    assert notices.take() == []
    _run(queue, "a", 0)
    _run(queue, "b", 3)
    _run(queue, "c", 4)
    _run(queue, "other", 0)
    assert watcher.look()
    completed, dead, failed = notices.take()
    assert completed.startswith("Job 'a' (x) completed")
    assert dead == "Job 'b' (x) is dead: exit code 3 ('show b' tells more)."
    assert failed.startswith("Job 'c' (x) failed: exit code 4; it runs again in ")
    assert not watcher.look()
    assert notices.take() == []
    assert notices.followed == {"c"}


def test_a_job_that_ended_before_it_was_followed_is_told_of(queue) -> None:
    watcher, notices = _watched(queue.folder)
    watcher.look()
    queue.enqueue([{"id": "a", "command": "x"}])
    _run(queue, "a", 0)
    watcher.look()
    watcher.follow(["a"])
    assert watcher.look()
    assert len(notices.take()) == 1


def test_folds_lose_no_notice(queue) -> None:
    watcher, notices = _watched(queue.folder)
    ids = [f"j{n}" for n in range(6)]
    queue.enqueue([{"id": job_id, "command": "x"} for job_id in ids])
    watcher.follow(ids)
    watcher.look()
    told = []
    for folds, job_id in enumerate(ids):
        _run(queue, job_id, 0)
        for _ in range(folds % 3):  # none, one, and more than the watcher can follow
            queue.checkpoint()
            queue.enqueue([{"command": "y", "run_at": "2099-01-01T00:00:00Z"}])
        watcher.look()
        told += notices.take()
    assert [line.split("'")[1] for line in told] == ids


def test_many_are_summed_up(queue) -> None:
    watcher, notices = _watched(queue.folder)
    ids = [f"j{n}" for n in range(5)]
    queue.enqueue([{"id": job_id, "command": "x", "max_retries": 0} for job_id in ids])
    watcher.follow(ids)
    watcher.look()
    for job_id in ids:
        _run(queue, job_id, int(job_id == "j4"))
    watcher.look()
    assert notices.take() == ["Jobs: 4 completed, 1 dead (dead: j4)."]


@pytest.mark.parametrize(("mode", "count"), [("on", 2), ("dead", 1), ("off", 0)])
def test_each_mode_of_notify_tells_its_jobs(queue, mode, count) -> None:
    watcher, notices = _watched(queue.folder)
    notices.mode = mode
    queue.enqueue([{"id": "a", "command": "x"}, {"id": "b", "command": "x", "max_retries": 0}])
    watcher.follow(["a", "b"])
    watcher.look()
    _run(queue, "a", 0)
    _run(queue, "b", 1)
    watcher.look()
    assert notices.any_waiting() == (count > 0)
    assert len(notices.take()) == count


def test_a_job_that_was_told_otherwise_is_not_told_again(queue) -> None:
    watcher, notices = _watched(queue.folder)
    queue.enqueue([{"id": "a", "command": "x"}])
    watcher.follow(["a"])
    _run(queue, "a", 0)
    watcher.look()
    notices.silence(["a"])
    assert notices.take() == []


def test_the_standing_changes_only_when_the_queue_does(queue) -> None:
    watcher, _ = _watched(queue.folder)
    assert watcher.look()
    assert not watcher.look()
    queue.enqueue([{"command": "x"}])
    assert watcher.look()
    assert watcher.standing is not None
    assert watcher.standing.counts["pending"] == 1
    _look_twice(watcher)
    queue.checkpoint()
    assert not watcher.look()  # a fold changes files, but nothing that is shown


def test_trouble_is_shown_and_passes(queue) -> None:
    watcher, _ = _watched(queue.folder)
    queue.enqueue([{"command": "x"}])
    queue.checkpoint()
    path = os.path.join(queue.folder, "journal")
    os.rename(path, path + ".away")
    watcher.look()
    assert watcher.standing is not None
    assert watcher.standing.trouble
    os.rename(path + ".away", path)
    watcher.look()
    assert watcher.standing.trouble == ""


# -- looking without locks


def _ids(jobs) -> list[str]:
    return [job.id for job in jobs]


@pytest.fixture
def mixed(queue) -> JobQueue:
    """done (completed), bad (dead), new, then changes in the journal only: late, new cancelled."""
    queue.enqueue([{"id": "done", "command": "x"}])
    _run(queue, "done", 0)
    queue.enqueue([{"id": "bad", "command": "x", "max_retries": 0}])
    _run(queue, "bad", 1)
    queue.enqueue([{"id": "new", "command": "x"}])
    queue.checkpoint()
    queue.enqueue([{"id": "late", "command": "x"}])
    queue.cancel(["new"])
    return queue


@pytest.mark.parametrize(
    ("states", "start", "wanted"),
    [
        (None, "", {"new", "late", "done", "bad"}),
        (("dead",), "", {"bad"}),
        (("pending", "failed"), "", {"late"}),
        (("cancelled", "completed"), "", {"new", "done"}),
        (None, "d", {"done"}),
        (("dead",), "d", set()),
        (None, 'x", "', set()),
    ],
)
@pytest.mark.parametrize("look", [Glance, Peek])
def test_a_glance_finds_jobs_by_state_and_beginning(look, mixed, states, start, wanted) -> None:
    found = look(mixed.folder, time.time())
    assert set(_ids(found.newest(states, start, 10))) == wanted
    found.close()
    assert found.newest(states, start, 10) == []


@pytest.mark.parametrize("look", [Glance, Peek])
def test_a_glance_tells_the_newest_first_over_many_chunks(look, queue, monkeypatch) -> None:
    monkeypatch.setattr(peek_module, "_CHUNK", 1000)
    queue.enqueue(
        [{"id": f"j{n}", "command": "x" * (3000 if n % 7 == 0 else n)} for n in range(50)]
    )
    queue.checkpoint()
    found = look(queue.folder, time.time())
    assert _ids(found.newest(None, "", 100)) == [f"j{n}" for n in range(49, -1, -1)]
    assert _ids(found.newest(("pending",), "j4", 3)) == ["j49", "j48", "j47"]
    found.close()


@pytest.mark.parametrize("look", [Glance, Peek])
def test_a_glance_is_not_misled_by_the_text_of_a_command(look, queue, monkeypatch) -> None:
    monkeypatch.setattr(peek_module, "_CHUNK", 200)
    said = '"state": "in_progress" {"id": "j", "state": "in_progress"'
    queue.enqueue([{"id": f"j{n}", "command": f"{said}\n{said}"} for n in range(9)])
    running = queue.claim("w")
    queue.checkpoint()
    found = look(queue.folder, time.time())
    assert _ids(found.newest(("in_progress",), "", 100)) == [running.id]
    assert _ids(found.newest(None, "j", 100)) == [f"j{n}" for n in range(8, -1, -1)]
    assert found.newest(("dead",), "", 100) == []
    found.close()


def test_the_tags_of_the_newest_jobs_come_first_each_once(queue, monkeypatch) -> None:
    monkeypatch.setattr(peek_module, "_CHUNK", 200)
    lie = 'Z", "tags": ["lie"]'
    queue.enqueue([{"id": f"j{n}", "command": lie, "tags": [f"t{n // 2}"]} for n in range(8)])
    queue.enqueue([{"id": "plain", "command": lie}])
    queue.checkpoint()
    queue.enqueue([{"id": "new", "command": lie, "tags": ["x:1", "t2"]}])
    queue.update_all(["j0"], {}, untag=["t0"])
    live = LiveQueue(queue.store.watch())
    assert live.tags() == ["x:1", "t2", "t3", "t1", "t0"]
    live.close()


@pytest.mark.parametrize("look", [Glance, Peek])
def test_a_glance_sees_an_edit_by_hand(look, queue) -> None:
    queue.enqueue([{"id": "a", "command": "x"}])
    queue.checkpoint()
    with open(os.path.join(queue.folder, "jobs.json"), "w") as file:
        file.write('[\n {"command": "y",\n "id": "mine"}]')
    found = look(queue.folder, time.time())
    assert "mine" in _ids(found.newest(None, "", 10))
    found.close()


@pytest.mark.parametrize("running", [False, True])
@pytest.mark.parametrize(
    "command",
    ["echo 'a b'", 'say "x", "max_retries": 7', "a\\n\nb\\", "\x01\t\x1bü\\u0041", "x" * 4000],
)
def test_a_line_is_seen_as_it_was_written(queue, command, running) -> None:
    queue.enqueue([{"id": "a", "command": command, "env": {"updated_at": '", "updated_at": "x"'}}])
    job = queue.claim("w") if running else queue.get("a")
    for _ in range(2):
        found = Peek(queue.folder, time.time())
        (seen,) = found.newest(None, "", 10)
        found.close()
        assert (seen.id, seen.state, seen.command) == (job.id, job.state, job.command[:1000])
        assert (seen.updated_at, seen.started_at) == (job.updated_at, job.started_at)
        queue.checkpoint()


def test_states_that_few_jobs_are_in_are_told_newest_first(queue) -> None:
    queue.enqueue([{"id": f"j{n}", "command": "x"} for n in range(9)])
    queue.cancel(["j2", "j7"])
    failed = queue.claim("w")
    queue.settle(failed, Outcome("exited", 3, None, queue.now()))
    queue.checkpoint()
    found = Peek(queue.folder, time.time())
    assert _ids(found.newest(("failed", "cancelled"), "", 10)) == ["j7", "j2", failed.id]
    assert _ids(found.newest(("failed", "cancelled"), "j7", 10)) == ["j7"]
    found.close()


def test_a_menu_reads_no_further_than_to_the_last_job_that_may_be_meant(queue, monkeypatch) -> None:
    monkeypatch.setattr(peek_module, "_CHUNK", 1000)
    queue.enqueue([{"id": f"j{n}", "command": "x"} for n in range(40)])
    queue.cancel(["j35", "j38"])
    queue.enqueue([{"id": name, "command": "x"} for name in ("Q1", "done")])
    queue.checkpoint()
    found, pieces, pread = Peek(queue.folder, time.time()), [], os.pread
    monkeypatch.setattr(os, "pread", lambda *what: pieces.append(what) or pread(*what))
    assert _ids(found.newest(("failed", "cancelled"), "j38", 9)) == ["j38"]
    assert _ids(found.newest(("failed", "cancelled"), "none", 9)) == []
    assert found.newest(("failed", "dead"), "j", 9) == []
    assert len(pieces) < 6  # of 10 a pass
    assert _ids(found.newest(None, "Q", 9)) == ["Q1"]
    assert _ids(found.newest(None, "j1", 99)) == [f"j{n}" for n in (*range(19, 9, -1), 1)]
    found.close()


def test_a_watch_reads_on_through_folds(queue) -> None:
    watch = queue.store.watch()
    assert watch.changes() == []  # no queue yet
    queue.enqueue([{"id": "a", "command": "x"}])
    assert watch.changes() is None  # what was before is not known
    queue.enqueue([{"id": "b", "command": "x"}, {"id": "c", "command": "x"}])
    assert watch.changes(["c", "z"]) == [("c", queue.get("c"))]
    assert watch.changes() == []
    (cancelled,) = queue.cancel(["b"])
    queue.checkpoint()
    queue.enqueue([{"id": "d", "command": "x"}])
    queue.purge(["b"])
    assert watch.changes() == [("b", cancelled), ("d", queue.get("d")), ("b", None)]
    queue.checkpoint()
    queue.enqueue([{"id": "e", "command": "x"}])
    queue.checkpoint()
    assert watch.changes() is None
    assert watch.changes() == []
    with open(os.path.join(queue.folder, "jobs.json"), "a") as file:
        file.write("\n")
    assert watch.changes() is None  # a person edits a file without the journal
    watch.close()


def test_jobs_that_take_long_to_read_are_read_seldom(queue, monkeypatch) -> None:
    now, takes = [0.0], [0.0]

    def slow(path: str, moment: float) -> Peek:
        now[0] += takes[0]
        return Peek(path, moment)

    monkeypatch.setattr(peek_module, "Peek", slow)
    live = LiveQueue(queue.store.watch(), clock=lambda: now[0])
    assert live.jobs(None) == []
    queue.enqueue([{"id": "a", "command": "x"}])
    assert _ids(live.jobs(None)) == ["a"]
    takes[0] = 0.1
    queue.cancel(["a"])
    assert _ids(live.jobs(("cancelled",))) == ["a"]
    queue.retry(["a"])
    assert _ids(live.jobs(("cancelled",))) == ["a"]
    now[0] += 0.31
    assert _ids(live.jobs(("cancelled",))) == []
    queue.cancel(["a"])
    live.look_again()  # Tab
    assert _ids(live.jobs(("cancelled",))) == ["a"]
    live.close()


def test_live_jobs_never_wait_for_the_lock(queue) -> None:
    queue.enqueue([{"id": "a", "command": "x"}])
    live = LiveQueue(queue.store.watch())
    with queue.store._writer.lock:
        assert _ids(live.jobs(None)) == ["a"]
        assert live.settings().max_retries == 3
        assert live.workers() == []
    live.close()


def test_live_jobs_never_raise(queue, monkeypatch) -> None:
    queue.enqueue([{"id": "a", "command": "x"}])
    live = LiveQueue(queue.store.watch())
    assert _ids(live.jobs(None)) == ["a"]

    def refused(*_: object) -> None:
        raise StoreBusy("busy")

    monkeypatch.setattr(peek_module, "Peek", refused)
    queue.enqueue([{"id": "b", "command": "x"}])
    assert _ids(live.jobs(None)) == ["a"]  # what was read last stands
    live.close()


def test_live_jobs_may_be_asked_by_many_threads(queue) -> None:
    queue.enqueue([{"id": f"j{n}", "command": "x"} for n in range(100)])
    live = LiveQueue(queue.store.watch())
    problems: list[object] = []

    def ask() -> None:
        for _ in range(20):
            if len(live.jobs(None)) != 100:
                problems.append("too few")

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    live.close()


# -- files of commands, slow commands


def test_source_runs_the_commands_of_a_file(typed, data_dir, tmp_path) -> None:
    script = (
        "enqueue {id: a, command: x}\n# note\n\nlist --state pendng\nenqueue {id: b,\n command: y}"
    )
    (tmp_path / "jobs.txt").write_text(script)
    typed(f"source jobs.txt{ENTER}{CTRL_D}")
    assert _states(data_dir) == {"a": "pending", "b": "pending"}
    assert "jobs.txt:4: unknown state 'pendng'" in typed.err.getvalue()
    assert "             ^^^^^^" in typed.err.getvalue()


def test_source_refuses_a_missing_file_and_one_that_names_itself(typed, tmp_path) -> None:
    (tmp_path / "loop.txt").write_text("source loop.txt\nping\n")
    typed(f"source nowhere.txt{ENTER}source loop.txt{ENTER}{CTRL_D}")
    assert "reading nowhere.txt: No such file" in typed.err.getvalue()
    assert "go too deep" in typed.err.getvalue()
    assert typed.out.getvalue().count("Nothing is queued yet") == 10


def test_a_slow_command_tells_its_time(typed) -> None:
    typed(f"ping{ENTER}!sleep 0.55{ENTER}{CTRL_D}")
    told = [line for line in typed.err.getvalue().splitlines() if line.endswith(" s)")]
    assert len(told) == 1
    assert float(told[0].strip("()s ")) >= 0.5


def test_the_shell_says_that_the_keys_are_its_own(typed) -> None:
    typed(f"enqueue -{ENTER}{CTRL_D}")
    assert "the shell reads the keys" in typed.err.getvalue()


# -- aliases and the start-up file


@pytest.fixture
def start_up(tmp_path, monkeypatch, typed) -> Path:
    """The folder of the start-up file, which is not there."""
    monkeypatch.delenv("QUEUECTL_SHELLRC")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    folder = tmp_path / "config" / "queuectl"
    folder.mkdir(parents=True)
    return folder


def test_an_alias_runs_as_what_it_stands_for(typed, data_dir) -> None:
    typed(
        f"alias say enqueue --id a --{ENTER}alias ll list --state{ENTER}say echo 'x  y' | wc{ENTER}"
        f"ll pending -q{ENTER}watch ll pending -q{ENTER}alias{ENTER}help ll{ENTER}alias ll{ENTER}"
        f"unalias ll{ENTER}ll pending{ENTER}{CTRL_C}{CTRL_D}"
    )
    assert "queuectl:" not in typed.err.getvalue()
    assert typed.out.getvalue().splitlines()[1:] == [
        "Job added to the queue with job id: a",
        "a",
        "a",
        "alias ll list --state",
        "alias say enqueue --id a --",
        "ll: Stands for 'list --state'.",
        "alias ll list --state",
    ]
    queue = JobQueue.open(data_dir)
    assert queue.get("a").command == "echo 'x  y' | wc"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("alias list ping", "'list' is a command, which an alias must not hide"),
        ("alias worker-start ping", "is a command"),
        ("alias dlq ping", "is a command"),
        ("alias quit ping", "is a command"),
        ("alias a=b ping", "an alias is a word of letters"),
        ("alias -5 ping", "an alias is a word of letters"),
        ("unalias nobody", "'nobody' is not an alias"),
        ("alias nobody", "'nobody' is not an alias"),
    ],
)
def test_some_aliases_are_refused(typed, line, told) -> None:
    typed(f"{line}{ENTER}alias{ENTER}{CTRL_D}")
    assert told in typed.err.getvalue()
    assert len(typed.out.getvalue().splitlines()) == 1


def test_the_start_up_file_runs_before_the_first_prompt(typed, start_up, data_dir) -> None:
    (start_up / "shellrc").write_text(
        "# mine\nalias jobs list -q\nnotify off\nenqueue {id: a, comand: x}\nshow nobody\n"
        "!exit 3\nalias list ping\nenqueue {id: b,\n  command: x}\n"
    )
    typed(f"jobs{ENTER}notify{ENTER}{CTRL_D}")
    path = start_up / "shellrc"
    errors = [line for line in typed.err.getvalue().splitlines() if "shellrc" in line]
    assert errors == [
        f"queuectl: {path}:4: unknown field 'comand' (did you mean 'command'?)",
        f"queuectl: {path}:5: no job has the id 'nobody' (queuectl list shows the ids)",
        f"({path}:6: exit code 3)",
        f"queuectl: {path}:7: 'list' is a command, which an alias must not hide",
    ]
    assert "enqueue {id: a, comand: x}\n                ^^^^^^\n" in typed.err.getvalue()
    assert typed.out.getvalue().splitlines()[1:] == [
        "Job added to the queue with job id: b",
        "b",
        "Notices are off.",
    ]


def test_without_a_start_up_file_nothing_is_said(typed, start_up) -> None:
    typed(CTRL_D)
    assert typed.err.getvalue() == ""


def test_another_start_up_file_may_be_named_or_none(typed, start_up, monkeypatch, tmp_path) -> None:
    (start_up / "shellrc").write_text("version\n")
    (tmp_path / "other").write_text("status\n")
    monkeypatch.setenv("QUEUECTL_SHELLRC", os.devnull)
    assert len(typed(CTRL_D).out.getvalue().splitlines()) == 1
    monkeypatch.setenv("QUEUECTL_SHELLRC", str(tmp_path / "other"))
    assert "Total Jobs" in typed(CTRL_D).out.getvalue()
    monkeypatch.setenv("QUEUECTL_SHELLRC", str(tmp_path / "nowhere"))
    assert "nowhere: No such file" in typed(CTRL_D).err.getvalue()


def test_a_start_up_file_that_is_not_a_plain_one_holds_nothing_up(
    typed, monkeypatch, tmp_path
) -> None:
    pipe, large = str(tmp_path / "pipe"), str(tmp_path / "large")
    os.mkfifo(pipe)
    with open(large, "wb") as file:
        file.truncate(10**12)
    told = {pipe: "not a plain file", "/dev/zero": "not a plain file", large: "holds more than"}
    for path, why in told.items():
        monkeypatch.setenv("QUEUECTL_SHELLRC", path)
        assert f"reading {path}: " in (said := typed(CTRL_D).err.getvalue())
        assert why in said


def test_a_start_up_file_is_looked_for_where_it_surely_is(typed, start_up, monkeypatch) -> None:
    (start_up / "shellrc").write_text("status\n")
    monkeypatch.chdir(start_up.parents[1])
    for name, odd in (("XDG_CONFIG_HOME", "config"), ("HOME", ".")):
        monkeypatch.setenv(name, odd)
    os.rename("config", ".config")
    assert "Total Jobs" not in typed(CTRL_D).out.getvalue()
    monkeypatch.setenv("HOME", os.getcwd())
    assert "Total Jobs" in typed(CTRL_D).out.getvalue()


def test_scripts_and_commands_know_no_start_up_file(cli, start_up) -> None:
    (start_up / "shellrc").write_text("version\nalias jobs list\n")
    assert "queuectl 0" not in cli.ok("status")
    assert cli(stdin="jobs\n").code == 1


def test_a_start_up_file_may_leave_and_be_interrupted(typed, start_up, monkeypatch) -> None:
    def interrupted(self: JobQueue, seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(JobQueue, "wait", interrupted)
    (start_up / "shellrc").write_text("enqueue {id: a, command: x}\nwait a\nversion\n")
    typed(f"ping{ENTER}{CTRL_D}")
    assert "Interrupted" in typed.err.getvalue()
    assert "queuectl 0.1.0\n" not in typed.out.getvalue()
    assert "Queue can be reached" in typed.out.getvalue()
    (start_up / "shellrc").write_text("exit\nversion\n")
    typed("")
    assert "queuectl 0.1.0\n" not in typed.out.getvalue()


def test_watch_on_no_terminal_prints_once(typed) -> None:
    typed(f"watch 60 ping{ENTER}watch show nobody{ENTER}{CTRL_D}")
    assert len(typed.out.getvalue().splitlines()) == 2
    assert typed.err.getvalue().startswith("queuectl: no job has the id 'nobody'")


def test_a_system_line_finds_the_queue_of_the_shell(typed, cli, tmp_path) -> None:
    typed(f"!echo $QUEUECTL_DATA > '{tmp_path}/said'{ENTER}{CTRL_D}")
    assert (tmp_path / "said").read_text() == f"{cli.folder}\n"
