"""Workers in containers (other pid namespaces): as first processes, and beside each other."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from queuectl.job_queue import JobQueue
from queuectl.worker import processes
from queuectl.worker.rescue import kept_by, rescue

APART = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
WORKER = (sys.executable, "-m", "queuectl.worker", "--foreground", "--data")


def can_unshare() -> bool:
    if (
        sys.platform != "linux"
        or shutil.which("unshare") is None
        or shutil.which("nsenter") is None
    ):
        return False
    return subprocess.run([*APART, "true"], capture_output=True, check=False).returncode == 0


pytestmark = pytest.mark.skipif(not can_unshare(), reason="no pid namespace can be made here")


class Bench:
    """A queue, and containers that do not outlive the test."""

    def __init__(self, folder: str, here: str, wait_until: Callable[..., Any]) -> None:
        self.folder, self.here, self.wait_until = folder, here, wait_until
        self.queue = JobQueue.open(folder)
        self.queue.change_settings({"poll-interval": 0.1, "kill-grace": 0.3, "base": 0})
        self.containers: list[subprocess.Popen[bytes]] = []

    def enqueue(self, command: str, **fields: object) -> str:
        return self.queue.enqueue([{"command": command, "cwd": self.here, **fields}])[0].id

    def contain(self, *argv: str) -> int:
        """Start a container; the pid of its first process as it is seen from here."""
        outer = subprocess.Popen([*APART, *argv], stdout=subprocess.DEVNULL)
        self.containers.append(outer)
        return self.wait_until(lambda: children(outer.pid))[0]

    def apart(self, *argv: str) -> None:
        """A command in a container of its own."""
        command = [*APART, sys.executable, "-m", "queuectl", *argv]
        subprocess.run(command, capture_output=True, timeout=60, check=True)

    def await_rescue_apart(self, job_id: str) -> None:
        """A command apart takes the job back, once the system has let go of what was killed."""

        def rescued() -> bool:
            self.apart("checkpoint")
            return self.state(job_id) == "pending"

        self.wait_until(rescued)

    def await_worker(self) -> int:
        """The pid, seen from here, of the only worker, once it runs a job."""
        self.wait_until(lambda: any(w.job_id for w in self.queue.workers()))
        (worker,) = self.queue.workers()
        return next(
            pid
            for pid in processes.look()
            if os.path.exists(f"/proc/{pid}/fd")
            and processes.arguments_of(pid)[1:3] == [b"-m", b"queuectl.worker"]
            and os.fsencode(self.folder) in processes.arguments_of(pid)
            and f"NSpid:\t{pid}\t{worker.pid}\n" in status(pid)
        )

    def state(self, job_id: str) -> str:
        return self.queue.get(job_id).state


def children(pid: int) -> list[int]:
    return [one.pid for one in processes.look().values() if one.parent == pid]


def status(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


@pytest.fixture
def bench(data_dir, tmp_path, wait_until) -> Iterator[Bench]:
    bench = Bench(data_dir, str(tmp_path), wait_until)
    yield bench
    for outer in bench.containers:
        outer.kill()
        outer.wait()
    bench.queue.close()


# -- as the first process


def test_the_first_process_reaps_what_it_inherits_and_exits_as_the_worker_did(bench):
    failing = bench.enqueue("exit 7", max_retries=0)
    first = bench.contain(*WORKER, bench.folder)
    bench.wait_until(lambda: bench.state(failing) == "dead")
    assert bench.queue.get(failing).exit_code == 7
    # As `docker exec` does: its orphan becomes a child of the first process.
    orphan = ["nsenter", "-t", str(first), "-p", "-m", "sh", "-c", "(sleep 0.1 &) ; exit 0"]
    subprocess.run(orphan, check=True)
    living = ["nsenter", "-t", str(first), "-p", "-m", "setsid", "-f", "sleep", "60"]
    subprocess.run(living, check=True)
    bench.wait_until(lambda: len(children(first)) == 2, what="the orphan to be reaped")
    bench.enqueue("exit 8", max_retries=0)
    bench.wait_until(bench.queue.is_drained)
    assert len(children(first)) == 2  # the worker and what was merely inherited
    os.kill(first, signal.SIGTERM)
    assert bench.containers[0].wait() == 0
    assert bench.queue.workers() == []


def test_the_first_process_tells_that_its_worker_was_killed(bench):
    bench.enqueue("touch begun; sleep 60")
    bench.contain(*WORKER, bench.folder)
    os.kill(bench.await_worker(), signal.SIGKILL)
    assert bench.containers[0].wait() == 128 + signal.SIGKILL
    assert len(rescue(bench.queue)) == 1  # with the container all of it is gone


# -- two containers, one folder


def lose_worker(bench: Bench, command: str) -> str:
    """A job whose worker is killed while its container, and what the job started, live on."""
    job_id = bench.enqueue(command)
    bench.contain("sh", "-c", '"$@" & wait; sleep 60', "sh", *WORKER, bench.folder)
    worker = bench.await_worker()
    bench.wait_until(lambda: os.path.exists(os.path.join(bench.here, "begun")))
    os.kill(worker, signal.SIGKILL)
    bench.wait_until(lambda: not bench.queue.workers()[0].alive)
    return job_id


# Seconds to sleep that no other process has, so that only those of this test are found by them.
LONG, OTHER = (f"777.{os.getpid()}{number}" for number in (1, 2))
HIDDEN = f"env -i setsid -f sleep {LONG}; touch begun; exec sleep {OTHER}"


def sleepers(seconds: str) -> list[int]:
    wanted = [b"sleep", seconds.encode()]
    return [pid for pid in processes.look() if processes.arguments_of(pid)[:2] == wanted]


def end(seconds: str) -> None:
    for pid in sleepers(seconds):
        os.kill(pid, signal.SIGKILL)


def test_a_run_that_lives_on_in_another_container_is_not_started_beside_it(bench):
    job_id = lose_worker(bench, f"touch begun; exec sleep {LONG}")
    assert rescue(bench.queue) == []  # from above it is seen by its marks, but not signalled
    bench.apart("checkpoint")  # from beside it is known by the lock that it has inherited
    assert bench.state(job_id) == "in_progress"
    (worker,) = bench.queue.workers()
    assert kept_by(bench.queue, worker, bench.queue.get(job_id)) == "elsewhere"
    assert sleepers(LONG)
    end(LONG)
    bench.await_rescue_apart(job_id)


def test_a_process_without_marks_is_known_by_the_lock_of_its_output(bench):
    job_id = lose_worker(bench, HIDDEN)
    end(OTHER)
    bench.apart("checkpoint")
    assert (rescue(bench.queue), bench.state(job_id)) == ([], "in_progress")
    end(LONG)
    bench.await_rescue_apart(job_id)


def test_after_the_grace_such_a_run_is_taken_back_all_the_same(bench):
    job_id = lose_worker(bench, f"touch begun; exec sleep {LONG}")
    bench.queue.change_settings({"foreign-grace": 0.2})
    bench.wait_until(lambda: rescue(bench.queue))
    assert bench.state(job_id) == "pending"
    assert sleepers(LONG)
