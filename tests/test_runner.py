"""One command: what it gets, how its end is reported, and what it leaves behind."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from samples import PYTHON

from queuectl.model.fields import LONGEST_COMMAND
from queuectl.model.job import Job
from queuectl.model.lifecycle import Outcome
from queuectl.store.files.logs import LogFolder, Spool
from queuectl.store.files.worker_files import folder_identity
from queuectl.worker import processes
from queuectl.worker.runner import Runner, marks_of
from queuectl.worker.wakeups import Wakeups
from tests.campaigns.leftovers import FORMS

T = "2026-01-01T00:00:00.000000Z"
TERM_IGNORER = "trap '' TERM; echo ready; while :; do sleep 0.05; done"

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="/proc")


def scarce(times: int, action: Callable[..., Any]) -> Callable[..., Any]:
    """The action, which finds no descriptor that often."""
    left = iter(range(times))

    def tried(*args: Any) -> Any:
        if next(left, None) is not None:
            raise OSError(errno.EMFILE, "Too many open files")
        return action(*args)

    return tried


def make_job(command: str, **fields: Any) -> Job:
    fields = {"id": "job1", "run": 1, "worker": "w-test", **fields}
    blank = Job("", "in_progress", 0, T, command, 3, T, T)
    return blank._replace(**fields)


def children() -> set[int]:
    """The processes that this one started, and those that ended and were not reaped."""
    found = set()
    for name in os.listdir("/proc") if sys.platform == "linux" else ():
        with suppress(OSError):
            text = Path(f"/proc/{name}/stat").read_text() if name.isdigit() else ""
            if text.rpartition(")")[2].split()[1:2] == [str(os.getpid())]:
                found.add(int(name))
    return found


class Bench:
    """A runner with a spool and a pipe of its own."""

    def __init__(self, folder: str, wakeups: Wakeups) -> None:
        self.wakeups = wakeups
        self.spool = Spool(LogFolder(folder), "w-test")
        self.runner = Runner("w-test", folder, folder_identity(folder), wakeups)
        self.runner.kill_grace = 0.3
        self.started: list[tuple[int, str]] = []
        # What a command must have come to before its time limit begins to count.
        self.begun: Callable[[], object] = lambda: True
        self.left: list[int] = []  # groups that outlive their runs on purpose
        self.older = children()  # what other tests keep
        read, self.pipe = os.pipe()
        os.set_blocking(read, False)
        wakeups.watch(read)

    def run(
        self, command: str, interrupted: Callable[[], Any] = lambda: None, **fields: Any
    ) -> Outcome:
        fields.setdefault("run", len(self.started) + 1)  # each with marks of its own
        return self.run_job(make_job(command, **fields), interrupted)

    def run_job(self, job: Job, interrupted: Callable[[], Any] = lambda: None) -> Outcome:
        return self.runner.run(job, self.spool.fd, started=self._note, interrupted=interrupted)

    def _note(self, pid: int, since: str) -> None:
        self.started.append((pid, since))
        deadline = time.monotonic() + 30
        while not self.begun():
            assert time.monotonic() < deadline
            time.sleep(0.001)

    def is_ready(self) -> bool:
        """Whether a command has said so, TERM_IGNORER among them."""
        return self.output().endswith("ready\n")

    def output(self) -> str:
        with open(self.spool.path, encoding="utf-8") as file:
            return file.read()

    def group(self) -> int:
        return self.started[-1][0]


@pytest.fixture(autouse=True)
def folder_to_return_to(tmp_path, monkeypatch) -> None:
    """A runner goes to each command's folder, and stays there."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def bench(tmp_path) -> Iterator[Bench]:
    with Wakeups(detached=True) as wakeups:
        bench = Bench(str(tmp_path), wakeups)
        yield bench
    for pid, _ in bench.started:
        assert not processes.group_alive(pid)
    for pid in bench.left:
        processes.kill_group(pid)
    deadline = time.monotonic() + 5
    while bench.left and bench.runner.reap() and time.monotonic() < deadline:
        time.sleep(0.01)
    bench.runner.close()
    bench.spool.close()


def test_hints_of_new_jobs_do_not_keep_it_from_looking(bench):
    bench.runner.look = 0.05
    over = threading.Event()

    def hint() -> None:
        while not over.wait(0.002):
            os.write(bench.pipe, b"w")

    hints = threading.Thread(target=hint)
    hints.start()
    try:
        assert bench.run("sleep 60", interrupted=lambda: "cancel").kind == "stopped"
    finally:
        over.set()
        hints.join()


# -- how it ended


@pytest.mark.parametrize("code", [0, 1, 2, 126, 127, 255])
def test_an_exit_code_is_told(bench, code):
    outcome = bench.run(f"exit {code}")
    error = f"exit code {code}" if code else None
    assert outcome[:3] == ("exited", code, error)


def test_the_time_of_the_end_is_told(bench):
    before = time.time()
    outcome = bench.run("true")
    from queuectl.model.times import parse_time

    assert before - 1 <= parse_time(outcome.finished_at) <= time.time() + 1


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGINT])
def test_a_signal_that_killed_it_is_named(bench, number):
    outcome = bench.run(f"kill -{int(number)} $$")
    assert outcome[:3] == ("exited", 128 + number, f"killed by signal {number} ({number.name})")


@pytest.mark.skipif(sys.platform != "linux", reason="real-time signals")
def test_a_signal_without_a_name_is_told_by_its_number(bench):
    number = signal.SIGRTMIN + 3
    assert bench.run(f"kill -{number} $$").error == f"killed by signal {number}"


def test_a_command_that_does_not_exist_fails(bench):
    # A folder in PATH that is closed to this user would be told of instead.
    assert bench.run("PATH=/usr/bin:/bin; no-such-command-at-all").exit_code == 127
    assert "not found" in bench.output()


def test_a_syntax_error_fails(bench):
    assert bench.run("if then (").exit_code == 2


def test_a_folder_that_is_gone_is_told(bench, tmp_path):
    gone = str(tmp_path / "gone")
    outcome = bench.run("true", cwd=gone)
    assert outcome[:2] == ("not_started", None)
    assert outcome.error == f"cannot start: folder {gone}: No such file or directory"
    assert bench.started == []


def test_why_a_job_cannot_start_is_told_in_a_text_that_a_job_may_hold(bench):
    outcome = bench.run("true", cwd="/" + "x" * (LONGEST_COMMAND - 1))
    assert outcome.error.startswith("cannot start: folder /xxx")
    assert outcome.error.endswith(f"xx: {os.strerror(errno.ENAMETOOLONG)}")
    assert len(outcome.error) < 1100


def test_a_command_longer_than_the_system_takes_is_told(bench):
    outcome = bench.run("true " + "x" * 4_000_000)
    assert outcome[:2] == ("not_started", None)
    assert "too long" in outcome.error


@pytest.mark.parametrize(
    "fields",
    [
        {"command": "echo a\0b"},
        {"env": {"A=B": "1"}},
        {"env": {"A": "1\0"}},
        {"cwd": "/tmp\0"},
        {"command": "echo \ud800"},
    ],
)
def test_a_value_that_no_process_can_be_given_is_told(bench, fields):
    outcome = bench.run_job(make_job("true")._replace(**fields))
    assert outcome[:2] == ("not_started", None)
    assert outcome.error.startswith("cannot start: ")


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOMEM, errno.EMFILE])
def test_a_machine_out_of_resources_is_not_a_fault_of_the_job(bench, monkeypatch, number):
    def refuse(*_args: object, **_how: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "posix_spawn", refuse)
    outcome = bench.run("true")
    assert outcome[:3] == ("no_resources", None, f"cannot start: {os.strerror(number)}")


# -- what it is given


def test_output_and_errors_go_to_one_file_in_order(bench):
    bench.run("echo one; echo two >&2; echo three")
    assert bench.output() == "one\ntwo\nthree\n"


def test_a_command_that_starts_like_an_option_is_run(bench):
    assert bench.run("-x; echo here").exit_code == 0
    assert bench.output().endswith("here\n")


def test_standard_input_is_empty(bench):
    assert bench.run("cat; echo end").exit_code == 0
    assert bench.output() == "end\n"


def test_the_environment_tells_of_the_job(bench):
    bench.run("echo $QUEUECTL_JOB_ID $QUEUECTL_ATTEMPT $QUEUECTL_WORKER", id="a.1", run=7)
    assert bench.output() == "a.1 7 w-test\n"


def test_the_environment_is_the_workers_with_the_jobs_over_it(tmp_path, monkeypatch):
    monkeypatch.setenv("FROM_WORKER", "kept")
    monkeypatch.setenv("BOTH", "worker")
    with Wakeups(detached=True) as wakeups:
        bench = Bench(str(tmp_path), wakeups)
        job_env = {"BOTH": "job", "EMPTY": "", "QUEUECTL_WORKER": "forged", "A": "x y\n$z"}
        bench.run('echo "$FROM_WORKER,$BOTH,${EMPTY-unset},$QUEUECTL_WORKER,$A"', env=job_env)
    assert bench.output() == "kept,job,,w-test,x y\n$z\n"


def test_one_jobs_environment_does_not_reach_the_next(bench):
    bench.run("true", env={"LEAK": "1"})
    bench.run('echo "${LEAK-none}"')
    assert bench.output() == "none\n"


def test_it_runs_in_its_folder(bench, tmp_path):
    folder = tmp_path / "söme where"
    folder.mkdir()
    bench.run('pwd; echo "$PWD"', cwd=str(folder))
    assert bench.output() == f"{folder}\n{folder}\n"


def test_a_folder_made_anew_is_entered_anew(bench, tmp_path):
    folder = tmp_path / "again"
    folder.mkdir()
    bench.run("true", cwd=str(folder))
    folder.rmdir()
    folder.mkdir()
    bench.run("touch here", cwd=str(folder))
    assert (folder / "here").exists()


def test_it_leads_a_session_and_a_group_of_its_own(bench):
    bench.run(f'{PYTHON} -c "import os; print(os.getsid(0), os.getpgid(0))"; true')
    session, group = map(int, bench.output().split())
    assert session == group == bench.group() != os.getsid(0)


def test_its_start_time_is_the_one_the_system_tells(bench):
    told = []

    def look(pid: int, since: str) -> None:
        told.append((since, processes.start_time(pid)))

    for _ in range(30):
        bench.runner.run(make_job("true"), bench.spool.fd, started=look, interrupted=lambda: None)
    assert all(since == found for since, found in told)


OPEN_FILES = f"{PYTHON} -c \"import os; print(sorted(map(int, os.listdir('/dev/fd'))))\""


def test_no_descriptor_is_inherited(tmp_path):
    given = os.open(os.devnull, os.O_RDONLY)
    os.set_inheritable(given, True)  # as one that whoever started the worker left open
    with Wakeups(detached=True) as wakeups:
        bench = Bench(str(tmp_path), wakeups)
        bench.run(OPEN_FILES)
    os.close(given)
    assert bench.output() == "[0, 1, 2, 3]\n"  # 3 is the one by which it looks


SIGNALS_IGNORED = (
    f"exec {PYTHON} -c 'import signal as s; print([n.name for n in s.Signals"
    ' if n not in (s.SIGPIPE, s.SIGXFSZ, getattr(s, chr(83)+"IGXFZ", 0)) '
    "and s.getsignal(n) == s.SIG_IGN], s.pthread_sigmask(s.SIG_BLOCK, []))'"
)


def test_signals_are_at_their_defaults(bench):
    ignored = (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM)
    before = [signal.signal(number, signal.SIG_IGN) for number in ignored]
    masked = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    try:
        bench.run(SIGNALS_IGNORED)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, masked)
        for number, handler in zip(ignored, before, strict=True):
            signal.signal(number, handler)
    assert bench.output() == "[] set()\n"


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_sigpipe_is_not_ignored(bench):
    bench.run("grep SigIgn /proc/self/status")
    assert int(bench.output().split()[1], 16) & (1 << (signal.SIGPIPE - 1)) == 0


def test_another_way_is_taken_where_posix_spawn_makes_no_sessions(bench, monkeypatch):
    def refuse(*_args: object, **_how: object) -> int:
        raise NotImplementedError

    monkeypatch.setattr(os, "posix_spawn", refuse)
    outcome = bench.run('cat; echo "$QUEUECTL_JOB_ID"; exit 4')
    assert (outcome.exit_code, bench.output()) == (4, "job1\n")
    assert bench.group() == bench.started[-1][0]


def test_children_are_reaped_where_they_cannot_be_looked_at_without(bench, monkeypatch):
    monkeypatch.delattr(os, "waitid")
    assert bench.run("exit 5").exit_code == 5
    assert bench.run("kill -9 $$").exit_code == 137


@pytest.mark.parametrize("named", [None, "", "below"])
def test_a_folder_that_is_not_absolute_is_one_at_home(tmp_path, monkeypatch, named):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "below").mkdir()
    with Wakeups(detached=True) as wakeups:
        bench = Bench(str(tmp_path), wakeups)
        bench.run("pwd", cwd=named)
    assert bench.output().strip() == str(tmp_path / (named or ""))


def test_a_home_that_is_not_absolute_is_passed_over(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "below")
    (tmp_path / "below").mkdir()
    with Wakeups(detached=True) as wakeups:
        bench = Bench(str(tmp_path), wakeups)
        bench.run("pwd")
    assert bench.output() == "/\n"


@linux_only
def test_a_home_may_have_any_name(tmp_path, monkeypatch):
    home = os.fsdecode(b"%s/h\xff" % os.fsencode(tmp_path))
    os.mkdir(home)
    monkeypatch.setenv("HOME", home)
    with Wakeups(detached=True) as wakeups:
        assert Bench(str(tmp_path), wakeups).run("test -d ../h*").exit_code == 0


# -- the time limit, and being told to end


def test_a_command_in_time_is_not_touched(bench):
    assert bench.run("echo fine", timeout=30.0)[:3] == ("exited", 0, None)


def test_a_time_limit_ends_the_whole_group(bench):
    outcome = bench.run("sleep 61 & sleep 60 | cat", timeout=0.1)
    assert outcome[:3] == ("timed_out", 143, "timed out after 0.1s")


def test_a_command_that_ignores_term_is_killed_after_the_grace(bench):
    bench.begun = bench.is_ready
    began = time.monotonic()
    outcome = bench.run(TERM_IGNORER, timeout=0.1)
    assert outcome[:3] == ("timed_out", 137, "timed out after 0.1s")
    assert time.monotonic() - began >= 0.4


def test_a_child_that_ignores_term_is_killed_too(bench):
    bench.begun = bench.is_ready
    outcome = bench.run(f"({TERM_IGNORER}) & wait", timeout=0.1)
    assert outcome[:2] == ("timed_out", 143)


def test_a_command_may_tidy_up_when_its_time_is_over(bench):
    bench.begun = bench.is_ready
    bench.run("trap 'echo tidied; exit 0' TERM; echo ready; sleep 60 & wait", timeout=0.1)
    assert bench.output() == "ready\ntidied\n"


def test_a_stopped_command_is_ended_too(bench):
    # What is continued before it stops waits for the grace to end.
    bench.begun = lambda: processes.is_stopped(*bench.started[-1])
    outcome = bench.run("trap 'exit 3' TERM; kill -STOP $$; sleep 60", timeout=0.1)
    assert outcome[:2] == ("timed_out", 3)


def test_a_cancel_through_the_pipe_is_seen_at_once(bench):
    bench.runner.look = 60.0
    os.write(bench.pipe, b"c")
    outcome = bench.run("sleep 60", interrupted=lambda: "cancel")
    assert outcome[:3] == ("stopped", 143, "cancelled")


def test_being_woken_for_work_is_not_a_reason_to_look_for_a_cancel(bench):
    asked = []
    bench.runner.look = 60.0
    os.write(bench.pipe, b"www")
    assert bench.run("sleep 0.1", interrupted=lambda: asked.append(1)).exit_code == 0
    assert asked == []


def test_a_signal_to_the_worker_is_seen_at_once(bench):
    bench.runner.look = 60.0

    def interrupted() -> str | None:
        return "stop" if bench.wakeups.now else None

    job = make_job("kill -USR1 $PPID; sleep 60")
    outcome = bench.run_job(job, interrupted)
    assert outcome[:3] == ("stopped", 143, "ended because its worker was stopped")


def test_an_interruption_that_comes_too_late_changes_nothing(bench):
    bench.runner.look = 0.01
    assert bench.run("exit 3", interrupted=lambda: "stop" if bench.started == [] else None)[1] == 3


# -- what is left behind


def test_a_process_that_it_leaves_in_its_group_is_ended(bench):
    assert bench.run("sleep 60 & echo left").exit_code == 0
    assert bench.output() == "left\n"


def test_a_process_that_it_leaves_and_that_ignores_term_is_killed(bench):
    outcome = bench.run(f"({TERM_IGNORER}) & exit 6")
    assert outcome.exit_code == 6


def test_nothing_goes_on_when_the_worker_itself_fails(bench):
    def fail(pid: int, since: str) -> None:
        bench.started.append((pid, since))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        bench.runner.run(
            make_job("sleep 60"), bench.spool.fd, started=fail, interrupted=lambda: None
        )
    assert not processes.group_alive(bench.group())


DAEMON = "setsid sh -c 'echo $$ > daemon; exec sleep 60' & until [ -s daemon ]; do :; done"


def daemon_of(bench: Bench, tmp_path: Any, command: str = DAEMON) -> int:
    """The pid of what a run that succeeded has left behind in a session of its own."""
    assert bench.run(command, cwd=str(tmp_path)).exit_code == 0
    pid = int((tmp_path / "daemon").read_text())
    (tmp_path / "daemon").unlink()
    bench.left.append(pid)
    return pid


@linux_only
@pytest.mark.parametrize("form", sorted(FORMS))
@pytest.mark.parametrize("end", ["fail", "timeout", "cancel"])
def test_nothing_is_left_of_a_run_that_did_not_succeed(bench, tmp_path, form, end):
    command = f"exec 9>> '{tmp_path}/lock'; flock 9; ({FORMS[form]}) & sleep 0.1; "
    command += "exit 9" if end == "fail" else "wait"
    bench.runner.look = 0.05
    bench.runner.kill_grace = 0.1
    bench.begun = (tmp_path / "lock").exists
    outcome = bench.run(
        command,
        interrupted=lambda: "cancel" if end == "cancel" else None,
        timeout=0.2 if end == "timeout" else None,
    )
    kind = {"fail": "exited", "timeout": "timed_out", "cancel": "stopped"}[end]
    assert outcome.kind == kind
    with open(tmp_path / "lock", "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # none of the run holds it any more
    assert children() <= bench.older


@linux_only
def test_a_process_that_left_the_session_of_a_success_outlives_later_failures(bench, tmp_path):
    daemon = daemon_of(bench, tmp_path)
    assert not bench.runner.clean
    assert bench.run("true").exit_code == 0
    assert bench.runner.clean
    assert bench.run("(setsid sleep 777 &); exit 9").exit_code == 9
    assert bench.run("sleep 60", timeout=0.1).kind == "timed_out"
    assert processes.group_alive(daemon)


@linux_only
def test_a_child_of_such_a_process_outlives_failures_too(bench, tmp_path):
    script = tmp_path / "script"
    script.write_text(
        "echo $$ > daemon\n"
        "(until [ -e go ]; do sleep 0.01; done\n"
        "setsid sh -c 'echo $$ > inner; exec sleep 60' &)\n"
        "sleep 60\n"
    )
    daemon_of(bench, tmp_path, "setsid sh script & until [ -s daemon ]; do :; done")
    bench.run("touch go; until [ -s inner ]; do sleep 0.01; done; exit 9", cwd=str(tmp_path))
    inner_pid = int((tmp_path / "inner").read_text())
    bench.left.append(inner_pid)
    assert processes.group_alive(inner_pid)


@linux_only
def test_a_success_ends_processes_that_left_the_group_but_not_the_session(bench):
    assert bench.run("timeout 60 sleep 50 & sleep 0.1").exit_code == 0
    assert children() <= bench.older


@linux_only
def test_a_child_that_is_older_than_the_run_is_not_ended(bench):
    older = subprocess.Popen(["sleep", "60"])
    time.sleep(0.02)  # two ticks of the clock that tells start times
    assert bench.run("(setsid sleep 777 &); exit 9").exit_code == 9
    try:
        assert older.poll() is None
    finally:
        older.kill()
        older.wait()


@linux_only
def test_orphans_are_reaped(bench):
    bench.run("(setsid true &); (setsid sh -c 'exit 3' &); sleep 0.2")
    assert bench.runner.clean
    assert children() <= bench.older


@linux_only
def test_a_process_that_cannot_be_ended_is_told_until_it_is_given_up(bench, monkeypatch):
    told = []

    def unended(left: Any) -> bool:
        told.append(sorted(processes.described(one) for one in left.values()))
        return len(told) == 2

    bench.runner.look = 0.01
    with monkeypatch.context() as helpless:
        helpless.setattr(processes, "send_to", lambda *_: False)
        outcome = bench.runner.run(
            make_job("(setsid sleep 777 &); exit 9", run=2),
            bench.spool.fd,
            started=lambda *_: None,
            interrupted=lambda: None,
            unended=unended,
        )
    assert outcome is None
    assert told[0] == told[1]
    pid, _, name = told[0][0].split(":")
    assert name == "sleep"
    assert not bench.runner.clean
    assert processes.kill_group(int(pid))


def test_without_a_subreaper_the_group_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "be_subreaper", lambda _wanted=True: False)
    with Wakeups(detached=True) as wakeups:
        bench = Bench(str(tmp_path), wakeups)
        assert bench.run("sleep 61 & exit 9").exit_code == 9
        assert bench.run("sleep 61 & sleep 60", timeout=0.1).kind == "timed_out"
        bench.begun = bench.is_ready
        assert bench.run(TERM_IGNORER, timeout=0.1).exit_code == 137
        bench.begun = lambda: True
        assert not any(processes.group_alive(pid) for pid, _ in bench.started)
        assert bench.spool.is_let_go()
        bench.run("setsid sh -c 'echo $$ > daemon; exec sleep 60' & sleep 0.2", cwd=str(tmp_path))
        assert not bench.spool.is_let_go()
    processes.kill_group(int((tmp_path / "daemon").read_text()))


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_every_process_of_a_run_is_marked(bench, wait_until, tmp_path):
    elsewhere = "setsid sh -c 'touch moved; exec sleep 60' &"
    command = f"{elsewhere} until [ -e moved ]; do sleep 0.01; done"
    job = make_job(command, id="marked", run=3, cwd=str(tmp_path))
    bench.run_job(job)
    marks = marks_of(job)
    assert len(wait_until(lambda: processes.processes_marked(marks))) == 1
    assert processes.processes_marked([*marks, b"NOT=there"]) == []
    (pid,) = processes.processes_marked(marks)
    assert processes.kill_group(pid)
    assert processes.processes_marked(marks) == []


@linux_only
@pytest.mark.parametrize(("times", "what"), [(1, "look"), (3, "look"), (2, "send_to")])
def test_a_run_has_not_ended_while_its_processes_cannot_be_looked_at(
    bench, monkeypatch, times, what
) -> None:
    bench.runner.look = 0.01
    monkeypatch.setattr(processes, what, scarce(times, getattr(processes, what)))
    outcome = bench.run("setsid sleep 60 & exit 3")
    assert (outcome.kind, outcome.exit_code) == ("exited", 3)
    assert children() <= bench.older


@linux_only
@pytest.mark.parametrize("times", [1, 2, 3])
def test_processes_that_a_success_leaves_are_spared_though_seen_late(
    bench, tmp_path, monkeypatch, times
) -> None:
    bench.runner.look = 0.01
    daemon_of(bench, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(processes, "look", scarce(times, processes.look))
        daemon_of(bench, tmp_path)
    assert bench.run("exit 3").exit_code == 3
    assert all(processes.start_time(pid) for pid in bench.left)
