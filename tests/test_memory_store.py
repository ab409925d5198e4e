"""The store in a dictionary keeps the contract."""

from __future__ import annotations

import pytest
from memory_store import MemoryStore
from store_contract import StoreContract

from queuectl.job_queue import JobQueue
from queuectl.worker.logs import LogFolder
from queuectl.worker.loop import run_worker


@pytest.fixture
def store():
    store = MemoryStore()
    yield store
    assert store.check() == []
    store.close()


class TestMemoryStore(StoreContract):
    pass


def test_a_worker_drains_it(tmp_path):
    queue, said = JobQueue(MemoryStore(str(tmp_path))), []
    queue.enqueue([{"id": "a", "command": "echo out"}, {"id": "b", "command": "false"}])
    queue.update("b", {"max_retries": 0})
    assert run_worker(queue, log=said.append, until_empty=True) == 0
    states = {job.id: (job.state, job.exit_code) for job in queue.find()}
    assert states == {"a": ("completed", 0), "b": ("dead", 1)}
    assert b"".join(LogFolder(queue.folder).output(queue.get("a"))) == b"out\n"
    assert queue.workers() == []
    assert said == []
