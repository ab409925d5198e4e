"""Logs that are removed by age and by what all of them take."""

from __future__ import annotations

import fcntl
import os
import time

import pytest

from queuectl.job_queue import JobQueue
from queuectl.model.lifecycle import Outcome
from queuectl.store.files.logs import LogFolder
from queuectl.worker.loop import run_worker
from queuectl.worker.old_logs import remove_old_logs


@pytest.fixture
def queue(tmp_path):
    return JobQueue.open(str(tmp_path))


def keep(logs: LogFolder, name: str, age: float, size: int = 100) -> None:
    path = os.path.join(logs.path, f"{name}.log")
    with open(path, "wb") as file:
        file.write(b"x" * size)
    os.utime(path, (time.time() - age,) * 2)


@pytest.mark.parametrize(
    ("changes", "gone"),
    [
        ({}, []),
        ({"keep-logs": 1000}, ["b.1.x", "a.1.x"]),
        ({"keep-logs": 2500}, ["b.1.x"]),
        ({"logs-total": 450}, ["b.1.x"]),
        ({"logs-total": 300}, ["b.1.x", "a.1.x"]),
        ({"logs-total": 1}, ["b.1.x", "a.1.x", "a.2.x"]),
        ({"logs-total": 500}, []),
        ({"logs-total": 450, "keep-logs": 1000}, ["b.1.x", "a.1.x"]),
    ],
)
def test_the_oldest_logs_of_ended_jobs_go_first(queue, changes, gone):
    for job_id in ("a", "b", "live"):
        queue.enqueue([{"id": job_id, "command": "true"}])
    queue.cancel(["a", "b"])
    assert queue.claim("w").id == "live"
    logs = LogFolder(queue.folder)
    logs.make()
    for name, age in (("a.1.x", 2000), ("a.2.x", 500), ("b.1.x", 3000), ("live.1.x", 9000)):
        keep(logs, name, age)
    keep(logs, "a.3.x", 8000)
    writer = os.open(os.path.join(logs.path, "a.3.x.log"), os.O_RDONLY)
    fcntl.flock(writer, fcntl.LOCK_EX)
    try:
        queue.change_settings(changes)
        assert remove_old_logs(queue, logs) == [f"{name}.log" for name in gone]
        left = {"a.1.x", "a.2.x", "a.3.x", "b.1.x", "live.1.x"} - set(gone)
        assert {name.removesuffix(".log") for name in os.listdir(logs.path)} == left
    finally:
        os.close(writer)


def test_a_queue_without_logs_is_not_trouble(queue):
    queue.change_settings({"keep-logs": 0})
    assert remove_old_logs(queue, LogFolder(queue.folder)) == []


def test_earlier_runs_of_a_job_that_runs_go_too(queue):
    queue.enqueue([{"id": "a", "command": "true"}])
    job = queue.claim("w")
    queue.settle(job, Outcome("exited", 1, None, queue.now()))
    queue.retry(["a"])
    job = queue.claim("w")
    assert job.run == 2
    logs = LogFolder(queue.folder)
    logs.make()
    keep(logs, f"a.1.{job.log_word}", 90)
    keep(logs, f"a.2.{job.log_word}", 80)
    queue.change_settings({"logs-total": 1})
    assert remove_old_logs(queue, logs) == [f"a.1.{job.log_word}.log"]


def test_a_worker_that_is_never_idle_keeps_to_the_total(queue):
    """`yes`, again and again: nothing waits for a worker that has time."""
    queue.enqueue([{"command": "yes | head -c 5000"} for _ in range(30)])
    queue.change_settings({"logs-total": 40_000})
    assert run_worker(queue, until_empty=True) == 0
    logs = os.path.join(queue.folder, "logs")
    sizes = [os.path.getsize(os.path.join(logs, name)) for name in os.listdir(logs)]
    assert 20_000 < sum(sizes) <= 50_000
