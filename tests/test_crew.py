"""Several workers: the exact number, stopping some of them, several in the foreground."""

from __future__ import annotations

import errno
import io
import itertools
import os
import pty
import re
import signal
import subprocess
import time
from types import SimpleNamespace

import pytest
from samples import PYTHON
from terminal import Terminal

from queuectl.commands.context import Context
from queuectl.commands.handlers import enqueue as enqueuing
from queuectl.commands.handlers import wait
from queuectl.worker import crew
from queuectl.worker.wakeups import STOP_NOW


def living(cli):
    return [line.split()[0] for line in cli.ok("worker", "list").splitlines()[2:]]


def until_there(path):
    return f"until [ -e '{path}' ]; do sleep 0.05; done"


def test_start_says_how_many_run_now(cli):
    assert cli.ok("worker", "start").endswith("Workers running now: 1\n")
    assert cli.ok("worker", "start", "--count", "2").endswith("Workers running now: 3\n")
    assert re.fullmatch(r"\d+\n", cli.ok("-q", "worker", "start"))


def test_a_process_that_has_children_works_through_another(cli, monkeypatch):
    crews = []
    monkeypatch.setattr(crew, "run_crew", lambda _folder, count, **_: crews.append(count) or 0)
    older = subprocess.Popen(["sleep", "60"])  # as `sh -c 'other & exec queuectl worker run'` has
    cli.ok("worker", "run", "--drain")
    older.kill()
    older.wait()
    assert crews == [1]


def test_a_machine_that_starts_no_process_is_told_in_a_line(cli, monkeypatch):
    def refuse(*_, **__):
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    cli.ok("enqueue", "--id", "a", "--command", "true")
    many, begun = ("worker", "run", "--count", "2", "--drain"), []

    def one_only(*_, **__):
        if begun:
            refuse()
        begun.append(SimpleNamespace(terminate=lambda: begun.append("ended")))
        return begun[0]

    for argv, name, action in (
        (("worker", "start"), "run", refuse),
        (("worker", "start"), "run", lambda *_, **__: SimpleNamespace(returncode=2)),  # as sh does
        (many, "Popen", one_only),
    ):
        with monkeypatch.context() as short:
            short.setattr(subprocess, name, action)
            result = cli(*argv)
        assert (result.code, "no process can be started" in result.err) == (5, True), result
        assert result.err.count("\n") == 1
    assert begun[1:] == ["ended"]


def test_scale_starts_and_stops_until_so_many_run(cli):
    for wanted in (2, 3, 3, 1, 0):
        told = cli.ok("worker", "scale", str(wanted))
        assert told.endswith(f"Workers running now: {wanted}\n")
        assert len(living(cli)) == wanted
    assert cli("worker", "scale", "-1").code == 2
    assert cli("worker", "scale", "257").code == 2
    assert cli("worker", "scale").code == 2


def test_scaling_down_leaves_the_worker_that_is_busy(cli, tmp_path, wait_until):
    cli.ok("worker", "scale", "3")
    cli.ok(
        "enqueue", "--id", "a", "--command", f"until [ -e '{tmp_path}/go' ]; do sleep 0.05; done"
    )
    wait_until(lambda: " a " in cli.ok("worker", "list"))
    [busy] = [row for row in cli.ok("worker", "list").splitlines() if " a " in row]
    cli.ok("worker", "scale", "1")
    assert living(cli) == [busy.split()[0]]
    (tmp_path / "go").touch()
    cli.ok("wait", "a")


def test_some_workers_are_stopped_by_id_or_pid(cli):
    cli.ok("worker", "scale", "3")
    rows = [line.split() for line in cli.ok("worker", "list").splitlines()[2:]]
    refused = cli("worker", "stop", rows[0][0], "w-none")
    assert (refused.code, refused.out) == (3, "")
    assert "'w-none'" in refused.err
    assert len(living(cli)) == 3
    told = cli.ok("worker", "stop", rows[0][0], rows[1][1])
    assert sorted(told.split()[3::4]) == sorted([rows[0][0], rows[1][0]])
    assert "All workers" not in told
    assert living(cli) == [rows[2][0]]


def test_several_run_in_the_foreground_at_a_time(cli, tmp_path):
    meet = "touch $QUEUECTL_JOB_ID; until [ -e a ] && [ -e b ]; do sleep 0.02; done"
    for name in "ab":
        cli.ok("enqueue", "--id", name, "--timeout", "20", "--command", meet)
    told = cli.ok("worker", "run", "--drain", "--count", "2")
    for name in "ab":
        assert f" {name} run 1 started: " in told
        assert f" {name} run 1 completed after " in told
    assert living(cli) == []


@pytest.mark.parametrize("count", ["1", "2"])
def test_a_drain_fails_if_a_job_that_it_ran_ended_dead(cli, count):
    cli.ok("config", "set", "base", "0.1")
    cli.ok("enqueue", "--id", "a", "--max-retries", "0", "--", "false")
    cli.ok("enqueue", "--id", "b", "--", "true")
    result = cli.run("worker", "run", "--drain", "--count", count)
    assert result.code == 1
    assert re.search(
        r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d a run 1 dead after", result.out, re.MULTILINE
    )
    assert "Ended dead: a: exit code 1; 'show a' tells more.\n" in result.err
    # What others left dead is not its own.
    assert cli.run("worker", "run", "--drain", "--count", count).code == 0
    # Nor what was retried and then went well.
    cli.ok(
        "enqueue",
        "--id",
        "c",
        "--max-retries",
        "1",
        "--",
        "sh",
        "-c",
        "exit $((2 - QUEUECTL_ATTEMPT))",
    )
    assert cli.run("worker", "run", "--drain", "--count", count).code == 0


@pytest.mark.parametrize("count", ["1", "2"])
def test_quiet_shows_no_lines_of_jobs(cli, count):
    cli.ok("enqueue", "--", "true")
    assert cli.run("-q", "worker", "run", "--drain", "--count", count)[:2] == (0, "")
    cli.ok("enqueue", "--id", "a", "--max-retries", "0", "--", "false")
    assert cli.run("-q", "worker", "run", "--drain", "--count", count)[:2] == (1, "")


def test_a_signal_ends_all_of_them_gracefully(cli, tmp_path, wait_until):
    run = cli.popen("worker", "run", "--count", "2", start_new_session=True)
    wait_until(lambda: len(living(cli)) == 2)
    cli.ok(
        "enqueue", "--id", "a", "--command", f"until [ -e '{tmp_path}/go' ]; do sleep 0.05; done"
    )
    wait_until(lambda: " a " in cli.ok("worker", "list"))
    os.killpg(run.pid, signal.SIGINT)  # as a terminal sends it
    wait_until(lambda: len(living(cli)) == 1)
    assert run.poll() is None
    (tmp_path / "go").touch()
    out, err = run.communicate(timeout=20)
    assert (run.returncode, err) == (0, b"")
    assert b"a run 1 completed" in out


@pytest.mark.parametrize("count", ["1", "2"])
def test_a_signal_ends_the_script_whose_worker_it_stops(cli, tmp_path, wait_until, count):
    script = tmp_path / "script"
    lines = (
        "enqueue --id a -- sleep 0.7",
        f"worker run --drain --count {count}",
        "enqueue -- true",
    )
    script.write_text("\n".join(lines))
    run = cli.popen("-f", str(script))
    wait_until(lambda: "in_progress" in cli.ok("list"))
    run.send_signal(signal.SIGTERM)
    out, _ = run.communicate(timeout=20)
    assert run.returncode == 143
    assert b"a run 1 completed" in out  # it ends its job first
    assert cli.ok("list", "-q").split() == ["a"]


def test_a_second_signal_ends_their_jobs(cli, wait_until):
    run = cli.popen("worker", "run", "--count", "2")
    wait_until(lambda: len(living(cli)) == 2)
    cli.ok("enqueue", "--id", "a", "--", "sleep", "100")
    wait_until(lambda: " a " in cli.ok("worker", "list"))
    run.send_signal(signal.SIGTERM)
    wait_until(lambda: len(living(cli)) == 1)
    run.send_signal(signal.SIGTERM)
    out, _ = run.communicate(timeout=20)
    assert b"a run 1 stopped" in out
    assert living(cli) == []
    assert "pending" in cli.ok("list")


def test_a_second_signal_cannot_be_lost_in_the_first():
    class Member:
        def __init__(self):
            self.got = []

        def send_signal(self, number):
            self.got.append(number)

    member = Member()
    with crew._passing_on([member]):
        for _ in range(2):
            signal.raise_signal(signal.SIGTERM)
    assert member.got == [signal.SIGTERM, STOP_NOW]


NOBODY = "No worker runs; 'worker start' starts one.\n"


def test_a_job_that_nobody_runs_is_told_of(cli):
    assert cli("enqueue", "--", "true").err == NOBODY
    assert cli("-q", "enqueue", "--", "true").err == ""
    script = "enqueue -- true\nenqueue -- true\n"
    assert cli(stdin=script).err == NOBODY
    assert cli("-q", stdin=script).err == ""
    assert cli(stdin=f"{script}worker run --drain\n").err == ""
    cli.ok("worker", "start")
    assert cli("enqueue", "--", "true").err == ""
    assert cli(stdin=script).err == ""


def test_wait_for_all_names_the_dead(cli, tmp_path, wait_until):
    hold = f"{until_there(tmp_path / 'go')}; exit 3"
    cli.ok("enqueue", "--id", "a", "--max-retries", "0", "--command", hold)
    cli.ok("enqueue", "--id", "b", "--command", hold.replace("exit 3", "exit 0"))
    waiting = cli.popen("wait", "--all")
    assert waiting.stderr is not None
    assert waiting.stderr.readline() == NOBODY.replace("one.", "one. Waiting goes on.").encode()
    (tmp_path / "go").touch()
    cli.ok("worker", "start")
    out, _ = waiting.communicate(timeout=30)
    assert waiting.returncode == 1
    assert out.decode() == "Job 'a' is dead: exit code 3.\nEnded: 2. Completed: 1.\n"


@pytest.fixture
def terminal():
    started = []

    def start(*argv):
        started.append(Terminal(80, 24, argv))
        return started[0]

    yield start
    for one in started:
        one.close()


def test_a_terminal_shows_what_is_waited_for(cli, terminal, tmp_path):
    hold = until_there(tmp_path / "go")
    cli.ok("enqueue", "--id", "a", "--", "true")
    cli.ok("enqueue", "--id", "b", "--command", hold)
    cli.ok("worker", "start")
    one = terminal("wait", "a", "b")
    one.shows("[##########----------] 1 of 2 jobs ended, about ")
    (tmp_path / "go").touch()
    one.shows("Job 'b' is completed.")
    assert "Waiting" not in one.text


def test_a_terminal_shows_which_workers_are_waited_for(cli, terminal, tmp_path, wait_until):
    hold = until_there(tmp_path / "go")
    cli.ok("enqueue", "--id", "b", "--command", hold)
    cli.ok("worker", "start")
    wait_until(lambda: " b " in cli.ok("worker", "list"))
    one = terminal("worker", "stop")
    one.shows("Waiting for 1 worker, running b")
    (tmp_path / "go").touch()
    one.shows("All workers stopped.")
    assert "Waiting" not in one.text


def test_a_log_is_told_once_of_a_long_wait_of_a_drain(cli, monkeypatch):
    monkeypatch.setattr(wait, "_TOLD_AFTER", 0.0)
    cli.ok("enqueue", "--id", "a", "--delay", "5m", "--", "true")
    context = Context(cli.folder, out=io.StringIO(), err=io.StringIO())
    look = wait.DrainLook(context)
    look.look()
    assert context.err.getvalue() == ""
    cli.ok("update", "a", "--delay", "3h")
    look.look()
    look.look()
    assert re.fullmatch(r"Waiting for 1 job, the next due in (3h|2h59m)\n", context.err.getvalue())


@pytest.mark.parametrize("count", ["1", "2"])
def test_a_terminal_shows_what_a_drain_waits_for(cli, terminal, count):
    cli.ok("enqueue", "--id", "b", "--delay", "3h", "--", "true")
    cli.ok("enqueue", "--id", "c", "--after", "b", "--", "true")
    cli.ok("enqueue", "--id", "s", "--every", "1h", "--delay", "1h", "--", "true")
    one = terminal("worker", "run", "--drain", "--count", count)
    one.shows("Waiting for 2 jobs, the next due in 2h59m")
    one.keys("\x03")
    one.shows("Told to stop; still in the queue: 2 jobs")
    assert one.ended() == 130
    assert "Waiting" not in one.text


def test_a_terminal_shows_who_holds_the_lock(cli, terminal, tmp_path, wait_until):
    cli.ok("enqueue", "--", "true")
    code = (
        "import sys; from queuectl.store.files.lock import QueueLock; "
        "lock = QueueLock(sys.argv[1], lambda: 5); lock.acquire(); "
        "print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        ["/bin/sh", "-c", f'exec {PYTHON} -c "$0" "$1"', code, cli.folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        one = terminal("enqueue", "--id", "z", "--", "true")
        one.shows(f"Waiting for queue.lock, which is held by process {holder.pid}")
        holder.communicate()
    one.shows("Job added to the queue with job id: z")
    assert "Waiting" not in one.text


@pytest.mark.parametrize("quiet", [False, True])
def test_a_large_file_tells_on_a_terminal_how_far_it_got(cli, tmp_path, monkeypatch, quiet):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    (tmp_path / "jobs").write_text("{command: x}\n" * 2500)
    ticks = itertools.count()
    clock = SimpleNamespace(monotonic=lambda: float(next(ticks)), time=time.time)
    monkeypatch.setattr(enqueuing, "time", clock)
    outer, inner = pty.openpty()
    with open(inner, "w", encoding="utf-8") as terminal, open(outer, "rb", buffering=0) as screen:
        context = Context(cli.folder, out=io.StringIO(), err=terminal, quiet=quiet)
        assert enqueuing.enqueue(context, {"file": "jobs"}).code == 0
        context.close()
        terminal.write("end")
        terminal.flush()
        shown = b""
        while not shown.endswith(b"end"):
            shown += screen.read(4096)
    steps = ["1,000 jobs, about 2s left", "2,000 jobs, about 500ms left"]
    wanted = [*(f"Reading jobs: {step}" for step in steps), "Enqueuing 2,500 jobs"]
    told = [line for line in shown.decode().split("\r") if "jobs" in line]
    assert told == ([] if quiet else [f"{line}\x1b[K" for line in wanted])
    assert cli.ok("status", "-q").startswith("pending 2500\n")


def test_waiting_for_all_of_nothing_says_so_and_names_the_dead(cli):
    cli.ok("init")
    assert cli.ok("wait", "--all") == "No job was left to wait for.\n"
    cli.ok("enqueue", "--id", "a", "--max-retries", "0", "--", "false")
    cli("worker", "run", "--drain")
    told = "No job was left to wait for. Dead: 1; 'dlq list' shows them.\n"
    assert cli("wait", "--all") == (0, told, "")
    assert cli("-q", "wait", "--all") == (0, "", "")
