"""Real detached workers on a real queue: starting, stopping, dying, and rescuing their jobs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from samples import PYTHON

from queuectl.errors import QueuectlError, StoreError
from queuectl.job_queue import JobQueue
from queuectl.model.times import format_time
from queuectl.store.facts import WorkerInfo
from queuectl.store.files import side_files
from queuectl.store.files.file_store import FileStore
from queuectl.store.files.logs import LogFolder
from queuectl.store.files.worker_files import WorkerSlot
from queuectl.worker import pool, processes
from queuectl.worker.entry import main
from queuectl.worker.loop import run_worker
from queuectl.worker.rescue import rescue

STUBBORN = "trap '' TERM; touch ready; while :; do sleep 0.05; done"
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="/proc")


class Bench:
    """A queue, and workers that do not outlive the test."""

    def __init__(self, folder: str, here: str, wait_until: Callable[..., Any]) -> None:
        self.folder, self.here, self.wait_until = folder, here, wait_until
        self.queue = JobQueue.open(folder)
        self.queue.change_settings({"poll-interval": 0.2, "kill-grace": 0.3, "base": 0})

    def enqueue(self, command: str, **fields: object) -> str:
        draft = {"command": command, "cwd": self.here, **fields}
        return self.queue.enqueue([draft])[0].id

    def start(self, count: int = 1) -> list[int]:
        return pool.start(self.folder, count)

    def kill(self, pid: int) -> None:
        """End a worker so that it can tidy nothing, and wait until that is seen."""
        os.kill(pid, signal.SIGKILL)
        self.wait_until(lambda: not any(w.alive and w.pid == pid for w in self.queue.workers()))

    def await_state(self, job_id: str, *states: str) -> Any:
        self.wait_until(lambda: self.queue.get(job_id).state in states, what=f"{job_id} {states}")
        return self.queue.get(job_id)

    def await_file(self, name: str) -> str:
        path = os.path.join(self.here, name)
        self.wait_until(lambda: os.path.exists(path), what=name)
        return path

    def make(self, name: str) -> None:
        with open(os.path.join(self.here, name), "w", encoding="ascii"):
            pass

    def await_end(self, pid: int) -> None:
        self.wait_until(lambda: not processes.is_running(pid, processes.start_time(pid) or ""))

    def worker(self) -> WorkerInfo:
        return self.queue.workers()[0]

    def await_group(self) -> int:
        """The process group of the job that the only worker runs."""
        self.wait_until(lambda: self.worker().group_pid)
        return self.worker().group_pid

    def log(self, job_id: str, run: int) -> str:
        path = LogFolder(self.folder).run_path(self.queue.get(job_id), run)
        with open(path, encoding="utf-8") as log:
            return log.read()

    def workers_logs(self) -> str:
        """All that workers had to say."""
        texts = []
        for entry in os.scandir(LogFolder(self.folder).path):
            if entry.name.startswith("worker-"):
                with open(entry.path, encoding="utf-8") as log:
                    texts.append(log.read())
        return "".join(texts)


@pytest.fixture
def bench(data_dir, tmp_path, wait_until) -> Iterator[Bench]:
    bench = Bench(data_dir, str(tmp_path), wait_until)
    yield bench
    for worker in bench.queue.workers():
        if worker.alive:
            processes.signal_group(worker.pid, signal.SIGKILL)
        if worker.group_pid:
            processes.signal_group(worker.group_pid, signal.SIGKILL)
    bench.queue.close()


def write_worker_file(bench: Bench, worker_id: str, text: str) -> None:
    """The file of a worker that is dead, for its lock is free."""
    path = os.path.join(bench.folder, "workers")
    os.makedirs(path, exist_ok=True)
    with open(os.path.join(path, worker_id), "w", encoding="ascii") as file:
        file.write(text)


# -- starting


def test_started_workers_are_registered_and_run_jobs(bench):
    job_id = bench.enqueue("echo hello")
    pids = bench.start(2)
    assert sorted(pids) == sorted(w.pid for w in bench.queue.workers() if w.alive)
    job = bench.await_state(job_id, "completed")
    assert (job.exit_code, job.run, job.attempts) == (0, 1, 1)
    assert job.worker in [worker.id for worker in bench.queue.workers()]
    assert bench.log(job_id, 1) == "hello\n"


def test_workers_are_nobodys_children_and_hold_nothing(bench):
    read, write = os.pipe()
    os.set_inheritable(write, True)
    (pid,) = bench.start()
    os.close(write)
    assert os.getsid(pid) == pid != os.getsid(0)
    assert os.read(read, 1) == b""  # no process holds the other end any more
    os.close(read)
    with pytest.raises(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


@linux_only
def test_a_worker_has_its_own_log_and_no_input(bench):
    (pid,) = bench.start()
    assert os.readlink(f"/proc/{pid}/fd/0") == os.devnull
    log = os.path.join(bench.folder, "logs", f"worker-{bench.worker().id}.log")
    bench.wait_until(lambda: os.readlink(f"/proc/{pid}/fd/2") == log)
    assert os.readlink(f"/proc/{pid}/fd/1") == log


def test_a_worker_that_cannot_start_is_told_with_its_reason(bench, tmp_path, monkeypatch):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho something first >&2\necho no such luck >&2\nexit 1\n")
    python.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(QueuectlError, match=r"2 of 2 worker\(s\) did not start: no such luck"):
        bench.start(2)
    assert bench.queue.workers() == []


@pytest.mark.parametrize("count", [1, 3])
def test_the_reason_is_told_though_no_log_can_be_written(bench, tmp_path, monkeypatch, count):
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {PYTHON} "$@" 2> /dev/full\n')
    python.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(python))
    bench.enqueue("true")
    with open(os.path.join(bench.folder, "worker_pids.json"), "w", encoding="ascii") as file:
        file.write("{}")
    with pytest.raises(QueuectlError) as caught:
        bench.start(count)
    assert str(caught.value) == (
        f"{count} of {count} worker(s) did not start: {bench.folder}/worker_pids.json must hold an "
        "array of objects; nothing was changed: put it right, then try again"
    )
    bench.wait_until(lambda: os.listdir(os.path.join(bench.folder, "logs")) == [])


def test_a_worker_that_dies_without_a_word_is_told_with_its_log(bench, tmp_path, monkeypatch):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexit 1\n")
    python.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(QueuectlError, match=r"it said nothing, and its log is empty \(.*\.log\)$"):
        bench.start()


def test_a_worker_that_does_not_answer_in_time_may_come_up_yet(bench, tmp_path, monkeypatch):
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\nread go < '{tmp_path}/go'\n")
    python.chmod(0o700)
    os.mkfifo(tmp_path / "go")
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setattr(pool, "_PATIENCE", 0.0)
    monkeypatch.setattr(pool, "_PATIENCE_EACH", 0.01)
    with pytest.raises(QueuectlError, match="no answer in time, so it may come up yet: 'worker li"):
        bench.start()
    (tmp_path / "go").write_text("on")


def test_a_folder_that_cannot_be_used_is_refused_before_anything_starts(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="is a file"):
        pool.start(str(tmp_path / "file"), 1)


def test_a_worker_started_by_a_job_is_not_part_of_that_job(bench):
    bench.start()
    code = f"from queuectl.worker import pool; pool.start({bench.folder!r}, 1)"
    job_id = bench.enqueue(f'{PYTHON} -c "{code}"')
    bench.await_state(job_id, "completed")
    assert len([w for w in bench.queue.workers() if w.alive]) == 2
    marks = [f"QUEUECTL_WORKER={bench.queue.get(job_id).worker}".encode()]
    assert processes.processes_marked(marks) == []


def test_empty_logs_of_workers_that_were_killed_are_tidied_away(bench):
    (pid,) = bench.start()
    old = os.path.join(bench.folder, "logs", f"worker-{bench.worker().id}.log")
    bench.kill(pid)
    os.utime(old, (1, 1))
    bench.start()
    assert not os.path.exists(old)


def test_a_log_that_its_worker_removes_just_then_stops_no_start(bench, monkeypatch):
    class Leaving:
        name = "worker-w-1.log"
        is_file = staticmethod(lambda **_: True)

        def stat(self, **_: object) -> None:
            raise FileNotFoundError

    logs = bench.queue.store.output
    monkeypatch.setattr(os, "scandir", lambda _: [Leaving()])
    pool._remove_stale_logs(bench.queue, logs)


def test_a_queue_that_refuses_to_be_closed_is_told_in_a_line(bench, monkeypatch, capfd):
    def refuse(_: object) -> None:
        raise StoreError("no room")

    monkeypatch.setattr("queuectl.worker.entry.run_worker", lambda *_, **__: 0)
    monkeypatch.setattr(FileStore, "close", refuse)
    assert main(["--data", bench.folder, "--foreground"]) == 0
    assert capfd.readouterr().err.endswith("Z no room\n")


IN_A_TERMINAL = """
import fcntl, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from queuectl.model.times import format_time
from queuectl.worker import pool
print(pool.start(sys.argv[1], 1)[0], flush=True)
sys.stdin.readline()
"""


def test_workers_outlive_the_terminal(bench):
    ours, theirs = os.openpty()
    starter = subprocess.Popen(
        [sys.executable, "-c", IN_A_TERMINAL, bench.folder],
        stdin=theirs,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    os.close(theirs)
    pid = int(starter.stdout.readline())
    os.close(ours)  # the terminal is gone: its session gets SIGHUP
    starter.wait()
    starter.stdout.close()
    bench.await_state(bench.enqueue("true"), "completed")
    assert bench.worker().pid == pid


def test_a_worker_whose_starter_is_gone_works_on(bench):
    job_id = bench.enqueue("true")
    read, write = os.pipe()
    os.close(read)
    argv = [sys.executable, "-m", "queuectl.worker", "--data", bench.folder]
    with subprocess.Popen([*argv, "--ready", str(write)], pass_fds=(write,)) as worker:
        os.close(write)
        bench.await_state(job_id, "completed")
        worker.terminate()
        assert worker.wait() == 0


# -- working


def test_an_idle_worker_starts_a_new_job_at_once(bench):
    bench.queue.change_settings({"poll-interval": 3600})
    bench.start()
    first = bench.enqueue("true")
    bench.await_state(first, "completed")
    bench.await_state(bench.enqueue("true"), "completed")


def test_each_worker_that_gets_a_job_wakes_another(bench):
    bench.queue.change_settings({"poll-interval": 3600})
    bench.start(3)
    first = bench.enqueue("true")  # so that all of them have looked for work, and rest
    bench.await_state(first, "completed")
    job = bench.queue.get(first)
    jobs = [job._replace(id=f"j{n}", state="pending", command="sleep 60") for n in range(3)]
    bench.queue.store.add(jobs)
    bench.queue.wake_idle(1)
    for job in jobs:
        bench.await_state(job.id, "in_progress")


def test_a_job_that_is_due_soon_starts_in_time_whoever_was_woken(bench):
    bench.queue.change_settings({"poll-interval": 3600})
    bench.start(3)
    for _ in range(4):
        soon = format_time(bench.queue.store.now() + 0.5)
        bench.await_state(bench.enqueue("true", run_at=soon), "completed")


def test_a_retry_is_run_when_it_is_due_though_nobody_wakes_the_worker(bench):
    bench.queue.change_settings({"poll-interval": 3600})
    bench.start()
    job_id = bench.enqueue("exit 3", max_retries=2)
    job = bench.await_state(job_id, "dead")
    assert (job.run, job.attempts, job.exit_code, job.error) == (3, 3, 3, "exit code 3")


def test_a_running_job_is_cancelled_with_all_its_processes(bench):
    bench.start()
    job_id = bench.enqueue(f"({STUBBORN}) & sleep 60")
    bench.await_file("ready")
    group = bench.await_group()
    bench.queue.cancel([job_id])
    job = bench.await_state(job_id, "cancelled")
    assert job.run == 1
    assert not processes.group_alive(group)


# -- stopping


def test_stopping_lets_the_job_finish_and_claims_no_more(bench, monkeypatch):
    (pid,) = bench.start()
    command = "touch begun; until [ -e go ]; do sleep 0.01; done; echo finished"
    first, second = bench.enqueue(command), bench.enqueue("true")
    bench.await_file("begun")
    wait = processes.Process.wait

    def told(process: processes.Process, seconds: float) -> bool:
        bench.make("go")  # it was told to stop before it is waited for
        return wait(process, seconds)

    monkeypatch.setattr(processes.Process, "wait", told)
    assert pool.stop(bench.queue) == [pid]
    assert bench.queue.get(first).state == "completed"
    assert bench.queue.get(second).state == "pending"
    assert not processes.is_running(pid, processes.start_time(pid) or "")
    assert bench.queue.workers() == []


def test_all_workers_are_stopped_and_each_is_told(bench):
    pids, told = bench.start(3), []
    assert sorted(pool.stop(bench.queue, on_stopped=told.append)) == sorted(pids) == sorted(told)
    assert os.listdir(os.path.join(bench.folder, "workers")) == []
    assert os.listdir(os.path.join(bench.folder, "logs")) == []
    assert pool.stop(bench.queue) == []


def test_interrupting_a_stop_ends_the_waiting_only(bench, monkeypatch):
    (pid,) = bench.start()
    job_id = bench.enqueue("touch begun; until [ -e go ]; do sleep 0.01; done")
    bench.await_file("begun")

    def interrupted(_process: object, _seconds: float) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(processes.Process, "wait", interrupted)
        with pytest.raises(KeyboardInterrupt):
            pool.stop(bench.queue)
    assert bench.queue.get(job_id).state == "in_progress"
    bench.make("go")
    bench.await_state(job_id, "completed")
    bench.await_end(pid)


def test_stopping_now_puts_the_job_back_with_nothing_spent(bench):
    bench.start()
    job_id = bench.enqueue(STUBBORN)
    bench.await_file("ready")
    group = bench.await_group()
    assert len(pool.stop(bench.queue, now=True)) == 1
    job = bench.queue.get(job_id)
    assert (job.state, job.attempts, job.losses, job.run) == ("pending", 0, 0, 1)
    assert not processes.group_alive(group)


def test_stopping_twice_is_not_an_order_to_hurry_but_a_second_term_is(bench):
    (pid,) = bench.start()
    job_id = bench.enqueue("touch begun; sleep 60")
    bench.await_file("begun")
    for number in (pool.FINISH, pool.FINISH, signal.SIGTERM):
        os.kill(pid, number)
    bench.await_end(pid)
    assert bench.queue.get(job_id).state == "pending"
    assert bench.queue.get(job_id).attempts == 0


def test_only_a_verified_process_is_told_to_stop(bench, monkeypatch):
    bench.start()
    innocent = subprocess.Popen(["sleep", "60"])
    try:
        worker = bench.worker()
        real, worker.pid = worker.pid, innocent.pid
        with monkeypatch.context() as patch:
            patch.setattr(bench.queue, "workers", lambda **_: [worker])
            with pytest.raises(QueuectlError, match="not seen from here"):
                pool.stop(bench.queue)
        assert innocent.poll() is None
        assert processes.start_time(real) == worker.start_time
    finally:
        innocent.kill()
        innocent.wait()


# -- dying


def test_a_killed_workers_job_is_rescued_and_its_leftovers_ended(bench):
    (pid,) = bench.start()
    job_id = bench.enqueue(f"echo so far; {STUBBORN}")
    bench.await_file("ready")
    group = bench.await_group()
    bench.kill(pid)
    assert processes.group_alive(group)
    assert [job.id for job in rescue(bench.queue)] == [job_id]
    assert not processes.group_alive(group)
    job = bench.queue.get(job_id)
    assert (job.state, job.losses, job.attempts, job.run) == ("pending", 1, 0, 1)
    assert bench.log(job_id, 1) == "so far\n"
    assert bench.queue.workers() == []
    assert rescue(bench.queue) == []


def test_an_idle_worker_that_was_killed_leaves_nothing_behind(bench):
    (pid,) = bench.start()
    bench.kill(pid)
    assert rescue(bench.queue) == []
    assert bench.queue.workers() == []
    left = os.listdir(os.path.join(bench.folder, "logs"))
    assert [name for name in left if name.endswith(".spool")] == []


def test_many_workers_that_died_at_once_cost_one_look_at_the_jobs(bench, monkeypatch):
    ids = [bench.enqueue("true") for _ in range(3)]
    for _ in ids:
        slot = bench.queue.register_worker("-", "-")
        bench.queue.claim(slot.id)
        slot.close()
    looks, find = [], bench.queue.find
    monkeypatch.setattr(bench.queue, "find", lambda *states: looks.append(states) or find(*states))
    assert [job.id for job in rescue(bench.queue)] == ids
    assert looks == [(("in_progress",),)]


def test_a_job_whose_processes_cannot_be_ended_stays_in_progress(bench, monkeypatch):
    (pid,) = bench.start()
    job_id = bench.enqueue("touch begun; exec sleep 60")
    bench.await_file("begun")
    group = bench.await_group()
    bench.kill(pid)
    with monkeypatch.context() as helpless:  # as with a process that became another user's
        helpless.setattr(processes, "send_to", lambda *_: False)
        helpless.setattr(processes, "kill_group", lambda _: True)
        assert rescue(bench.queue) == []
    assert bench.queue.get(job_id).state == "in_progress"
    if sys.platform == "linux":
        assert bench.worker().facts["left"].startswith(f"{group}:")
    assert [job.id for job in bench.wait_until(lambda: rescue(bench.queue))] == [job_id]
    assert not processes.group_alive(group)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere ps tells of a zombie, too")
def test_a_worker_that_nobody_reaps_is_dead_all_the_same(bench):
    job_id = bench.enqueue("true")
    worker = subprocess.Popen(["sleep", "60"])
    facts = {"id": "w-lost", "pid": worker.pid, "start_time": processes.start_time(worker.pid)}
    facts |= {"boot_id": processes.boot_id(), "started_at": bench.queue.now()}
    bench.queue.claim("w-lost")
    side_files.write_workers(bench.folder, [facts])
    try:
        assert rescue(bench.queue) == []  # only its file is missing
        worker.kill()
        os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)
        assert [job.id for job in rescue(bench.queue)] == [job_id]
    finally:
        worker.kill()
        worker.wait()


def test_a_failure_of_the_worker_itself_loses_no_job(bench, monkeypatch):
    job_id = bench.enqueue("sleep 60")

    def fail(*_args: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(WorkerSlot, "note_run", fail)
    with pytest.raises(ZeroDivisionError):
        run_worker(bench.queue)
    assert [job.id for job in rescue(bench.queue)] == [job_id]
    assert bench.queue.get(job_id).state == "pending"


def test_workers_on_a_new_folder_do_not_stumble_over_each_other(tmp_path):
    folder = str(tmp_path / "never" / "used")
    assert len(pool.start(folder, 4)) == 4
    assert len(pool.stop(JobQueue.open(folder))) == 4


@pytest.mark.parametrize("busy", [True, False])
def test_a_worker_gives_back_a_job_that_names_it_and_that_it_does_not_run(bench, busy):
    bench.start()
    held = bench.enqueue("touch ready; while [ ! -e go ]; do sleep 0.05; done") if busy else None
    if busy:
        bench.await_file("ready")
    path = os.path.join(bench.folder, "jobs.json")
    bench.queue.checkpoint()
    with open(path, encoding="utf-8") as file:
        forms = json.load(file)
    mine = {"state": "in_progress", "worker": bench.worker().id, "run": 4}
    forms.append({"id": "stray", "command": "true", "cwd": bench.here, **mine})
    forms.append({"id": "later", **mine, "command": "true", "run_at": "2099-01-01T00:00:00Z"})
    with open(path, "w", encoding="utf-8") as file:
        json.dump(forms, file)
    assert bench.await_state("later", "pending").history[-1]["reason"] == "not_run"
    if held:
        assert bench.await_state("stray", "pending").worker is None
        assert bench.queue.get(held).state == "in_progress"
        bench.make("go")
        assert bench.await_state(held, "completed").run == 1
    stray = bench.await_state("stray", "completed")
    assert (stray.run, stray.losses, stray.attempts) == (5, 0, 1)


def test_another_worker_rescues_by_itself_and_runs_the_job_again(bench):
    (pid,) = bench.start()
    job_id = bench.enqueue("[ $QUEUECTL_ATTEMPT = 2 ] || { touch begun; sleep 60; }")
    bench.await_file("begun")
    bench.start()
    bench.kill(pid)
    job = bench.await_state(job_id, "completed")
    assert (job.run, job.losses, job.attempts) == (2, 1, 1)
    assert f"rescued job {job_id}" in bench.workers_logs()


@linux_only
def test_a_process_that_left_the_group_of_a_lost_run_is_ended_too(bench):
    (pid,) = bench.start()
    job_id = bench.enqueue("setsid sh -c 'echo $$ > escaped; exec sleep 60' & sleep 60")
    with open(bench.await_file("escaped"), encoding="ascii") as file:
        bench.wait_until(lambda: file.seek(0) == 0 and file.read().strip())
        file.seek(0)
        escaped = int(file.read())
    bench.kill(pid)
    assert [job.id for job in rescue(bench.queue)] == [job_id]
    assert not processes.group_alive(escaped)


@linux_only
def test_a_process_that_an_earlier_job_left_on_purpose_is_not_ended_with_a_later_one(bench):
    (pid,) = bench.start()
    daemon = "setsid sh -c 'echo $$ > daemon; exec sleep 60' & until [ -s daemon ]; do :; done"
    bench.await_state(bench.enqueue(daemon), "completed")
    with open(os.path.join(bench.here, "daemon"), encoding="ascii") as file:
        left = int(file.read())
    try:
        bench.enqueue("touch begun; sleep 60")
        bench.await_file("begun")
        bench.kill(pid)
        assert len(rescue(bench.queue)) == 1
        assert processes.group_alive(left)
    finally:
        processes.kill_group(left)


@pytest.mark.parametrize("wrong", ["start", "boot"])
def test_a_group_whose_pid_was_taken_by_another_is_not_touched(bench, wrong):
    innocent = subprocess.Popen(["sleep", "60"], start_new_session=True)
    try:
        started = "1" if wrong == "start" else processes.start_time(innocent.pid)
        boot = "another-boot" if wrong == "boot" else processes.boot_id()
        first = f"w-dead 999999999 1 {boot} 2026-01-01T00:00:00.000000Z"
        write_worker_file(bench, "w-dead", f"{first}\nsome-job 1 {innocent.pid} {started}\n")
        assert [worker.id for worker in bench.queue.lost_workers()] == ["w-dead"]
        assert rescue(bench.queue) == []
        assert innocent.poll() is None
        assert bench.queue.workers() == []
    finally:
        innocent.kill()
        innocent.wait()


def test_a_leftover_of_a_lost_run_rescues_nobody(bench, monkeypatch):
    write_worker_file(bench, "w-dead", "w-dead 999999999 1 boot 2026-01-01T00:00:00.000000Z\n")
    monkeypatch.setenv("QUEUECTL_WORKER", "w-dead")
    assert rescue(bench.queue) == []
    assert [worker.id for worker in bench.queue.workers()] == ["w-dead"]


def test_a_worker_whose_file_was_removed_ends_its_job_and_leaves(bench):
    (pid,) = bench.start()
    job_id = bench.enqueue(STUBBORN)
    bench.await_file("ready")
    group = bench.await_group()
    os.unlink(os.path.join(bench.folder, "workers", bench.worker().id))
    assert rescue(bench.queue) == []  # it still lives: its job is not given to another
    bench.await_end(pid)
    assert not processes.group_alive(group)
    assert "was given up" in bench.workers_logs()
    assert [job.id for job in rescue(bench.queue)] == [job_id]
    assert bench.queue.get(job_id).state == "pending"


# -- in the foreground


@pytest.fixture
def foreground(bench) -> Iterator[subprocess.Popen[str]]:
    worker = subprocess.Popen(
        [sys.executable, "-m", "queuectl.worker", "--data", bench.folder, "--foreground"],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    bench.wait_until(bench.queue.workers)
    yield worker
    worker.kill()
    worker.wait()
    worker.stdout.close()


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT])
def test_the_first_signal_lets_the_job_finish(bench, foreground, number):
    job_id = bench.enqueue("touch begun; until [ -e go ]; do sleep 0.01; done")
    bench.await_file("begun")
    foreground.send_signal(number)
    foreground.stdout.readline()
    assert "goes on to its end" in foreground.stdout.readline()
    bench.make("go")
    assert foreground.wait() == 0
    assert bench.queue.get(job_id).state == "completed"
