"""The store in a dictionary keeps the contract."""

from __future__ import annotations

import pytest
from memory_store import MemoryStore
from store_contract import StoreContract

from queuectl.commands.grammar.binding import bind
from queuectl.commands.table import COMMANDS
from queuectl.completion.candidates import complete
from queuectl.job_queue import JobQueue
from queuectl.live.feed import Feed
from queuectl.live.live_queue import LiveQueue
from queuectl.live.notices import Notices
from queuectl.live.watcher import Watcher
from queuectl.model.lifecycle import Outcome
from queuectl.store import opening
from queuectl.store.contract import Archive, Slot, Store
from queuectl.store.files.logs import LogFolder
from queuectl.store.watch import Watch
from queuectl.worker.loop import run_worker


@pytest.fixture
def store():
    store = MemoryStore()
    yield store
    assert store.check() == []
    store.close()


class TestMemoryStore(StoreContract):
    def test_it_has_every_part_of_the_contract(self, store):
        slot = store.register("w-1", 1, "2", "boot")
        watch = store.watch()
        for kept, part in ((store, Store), (slot, Slot), (watch, Watch), (store, Archive)):
            wanted = {name for base in part.__mro__ for name in {**vars(base), **_annotated(base)}}
            assert [name for name in wanted if name[0] != "_" and not hasattr(kept, name)] == []
        slot.close()


def _annotated(base):
    return vars(base).get("__annotations__", {})


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


def test_top_menus_and_notices_follow_any_store(tmp_path):
    queue = JobQueue(MemoryStore(str(tmp_path)))
    watch, notices = queue.store.watch, Notices()
    feed, live = Feed(watch(), opening.output(str(tmp_path))), LiveQueue(watch())
    watcher = Watcher(watch(), notices, lambda: None)

    def offered(line):
        live.look_again()
        return {item.text for item in complete(bind(COMMANDS, line), live)}

    queue.enqueue([{"id": "a", "command": "x", "tags": ["t"]}, {"id": "b", "command": "x"}])
    queue.change_settings({"base": 7})
    watcher.follow(["a"])
    assert watcher.look()
    rows = feed.look().jobs
    assert [job.id for job in rows] == ["a", "b"]
    assert offered("cancel ") >= {"a", "b"}
    assert offered("list --tag ") == {"t"}
    assert live.settings().base == 7
    queue.settle(queue.claim("w"), Outcome("exited", 0, None, queue.now()))
    queue.cancel(["b"])
    queue.purge(["b"])
    picture = feed.look()
    assert picture.jobs is rows, "read on, not read anew"
    rows.apply(picture.changes)
    assert [(job.id, job.state) for job in rows] == [("a", "completed")]
    assert (picture.standing.counts["completed"], picture.standing.trouble) == (1, "")
    assert offered("retry ") & {"a", "b"} == {"a"}
    assert watcher.look()
    assert notices.take()[0].startswith("Job 'a' (x) completed")
    assert watcher.standing == picture.standing
    live.close()
    feed.close()
