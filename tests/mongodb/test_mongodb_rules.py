"""The rules of hooks hold in MongoDB as they do in the files."""

from __future__ import annotations

import pytest
from samples import ended

from queuectl.addresses import Address
from queuectl.job_queue import JobQueue
from tests.test_hooks import test_the_worker_that_ends_a_job_runs_its_hook_next  # noqa: F401


@pytest.fixture
def queue(url, tmp_path):
    from queuectl.store.mongodb.mongodb_store import MongodbStore

    queue = JobQueue(MongodbStore(Address(url), str(tmp_path / "host")))
    yield queue
    queue.close()


def test_a_hook_needs_no_folder_that_other_hosts_lack(queue):
    queue.change_settings({"on-completed": "tell"})
    queue.enqueue([{"id": "a", "command": "x"}])
    queue.settle(queue.claim("w"), ended())
    hook = queue.claim("w")
    assert (hook.command, hook.cwd, hook.env["QUEUECTL_LOG"]) == ("tell", None, "")
