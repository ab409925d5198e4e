"""Logs that are removed by age and by what all of them take."""

from __future__ import annotations

import fcntl
import os
import time

import pytest

from queuectl.job_queue import JobQueue
from queuectl.store.files.logs import LogFolder
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


def test_no_logs_at_all_are_no_trouble(queue):
    queue.change_settings({"keep-logs": 0})
    assert remove_old_logs(queue, LogFolder(queue.folder)) == []
