"""Many processes on one queue: no job lost, none claimed twice, every count right."""

from __future__ import annotations

import collections
import contextlib
import os
import subprocess
import sys
import threading

import pytest
from test_job_queue import run_all

from queuectl.job_queue import JobQueue

# Claims and settles until nothing is left; says what it claimed. Every fifth job fails once.
WORK = """
import sys
from queuectl.job_queue import JobQueue
from queuectl.model.lifecycle import Outcome
queue, me = JobQueue.open(sys.argv[1]), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
finished = None
while True:
    job = queue.claim("w-" + me, finished)
    finished = None
    if job is None:
        if queue.is_drained():
            break
        queue.wait(0.05)
        continue
    print(job.id, job.run, flush=True)
    code = 1 if job.priority % 5 == 0 and job.run == 1 else 0
    finished = (job, Outcome("exited", code, None, queue.now()))
    queue.fold_if_due()
queue.close()
"""
# Enqueues jobs, one by one and in batches, folds, cancels some and says what became of all.
ENQUEUE = """
import sys
from queuectl.job_queue import JobQueue
queue, me, count = JobQueue.open(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
for number in range(count):
    jobs = queue.enqueue([{"command": "x", "priority": number}] * (1 + number % 3))
    print(*(job.id for job in jobs), sep="\\n", flush=True)
    if number % 7 == 0:
        queue.checkpoint()
queue.close()
"""


def race(folder, workers, enqueuers, count):
    """Enqueue from some processes while others drain: what was accepted, and every claim."""
    queue = JobQueue.open(folder)
    queue.change_settings({"base": 0})
    accepted = b"".join(run_all(ENQUEUE, folder, enqueuers, count)).decode().split()
    outputs = run_all(WORK, folder, workers)
    claims = [tuple(line.split()) for text in outputs for line in text.decode().splitlines()]
    return queue, accepted, claims


def check(queue, accepted, claims):
    assert len(set(accepted)) == len(accepted)
    assert max(collections.Counter(claims).values()) == 1, "a run was claimed twice"
    jobs = {job.id: job for job in queue.find()}
    assert set(jobs) == set(accepted)
    for job in jobs.values():
        runs = 2 if job.priority % 5 == 0 else 1
        assert (job.state, job.run, job.attempts) == ("completed", runs, runs)
        assert sorted(run for job_id, run in claims if job_id == job.id) == [
            str(run + 1) for run in range(runs)
        ]
    assert queue.counts()["completed"] == len(accepted)
    assert queue.store.check() == []
    queue.checkpoint()
    assert queue.store.check() == []
    assert not [name for name in os.listdir(queue.folder) if "torn" in name or ".new" in name]
    queue.close()


def test_what_several_enqueue_several_drain_once(tmp_path):
    check(*race(str(tmp_path / "queue"), workers=3, enqueuers=3, count=20))


@contextlib.contextmanager
def removals(folder):
    """Somebody removes the lock as stale, again and again: the list gets one entry each time."""
    over, removed, path = threading.Event(), [], os.path.join(folder, "queue.lock")

    def remove():
        while not over.wait(0.002):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
                removed.append(path)

    remover = threading.Thread(target=remove)
    remover.start()
    try:
        yield removed
    finally:
        over.set()
        remover.join()


def test_a_lock_that_is_removed_all_the_time_loses_and_doubles_nothing(tmp_path):
    folder = str(tmp_path / "queue")
    with removals(folder) as removed:
        found = race(folder, workers=3, enqueuers=4, count=100)
    assert len(removed) > 20
    check(*found)


def test_several_may_be_the_first_to_use_a_queue(tmp_path):
    for number in range(3):
        argv = [sys.executable, "-m", "queuectl", "--data", str(tmp_path / str(number))]
        first = [subprocess.Popen([*argv, "enqueue", "--", "true"]) for _ in range(6)]
        assert [process.wait(60) for process in first] == [0] * 6
        assert JobQueue.open(argv[-1]).counts()["pending"] == 6


@pytest.mark.campaign
def test_sixteen_processes_lose_and_double_nothing(tmp_path):
    check(*race(str(tmp_path / "queue"), workers=16, enqueuers=16, count=200))
