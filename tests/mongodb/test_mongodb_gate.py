"""Limits, locks and pauses in MongoDB: what holds in a race, in an edit, and at what cost."""

from __future__ import annotations

import contextlib
import os
import threading

import pytest
from samples import configure, make_job, moment, put

from queuectl.model.gate import gate_of
from queuectl.model.lifecycle import claimed

NOW = moment(10)


def lanes(database):
    return {job["_id"]: job.get("_lane") for job in database.jobs.find()}


def keys_examined(database, deed):
    """How many keys of indexes, and documents, the server looked at meanwhile."""
    database.command("profile", 2)
    try:
        deed()
    finally:
        database.command("profile", 0)
    asked = {"ns": f"{database.name}.jobs", "keysExamined": {"$exists": True}}
    seen = list(database.system.profile.find(asked))
    database.system.profile.drop()
    return sum(entry["keysExamined"] + entry["docsExamined"] for entry in seen)


@pytest.mark.parametrize(
    ("fields", "settings"),
    [
        ({"tags": ("gpu",)}, {"limits": {"gpu": 1}}),
        ({"tags": ("gpu",)}, {"paused": ["gpu"]}),
        ({"lock": ("db",)}, {}),
    ],
)
def test_a_claim_behind_many_that_are_held_back_looks_at_few(store, database, fields, settings):
    configure(store, settings)
    due = moment(-1e8)
    store.add([make_job(f"g{n}", priority=-1, run_at=due, **fields) for n in range(400)])
    store.add([make_job(f"p{n}", run_at=due) for n in range(4)])
    store.claim("w", NOW)
    got = []

    def claim():
        got.append(store.claim("w", NOW).job.id)

    def fruitless():
        assert [store.claim("w", NOW).job for _ in range(4)][3] is None

    # A look at edits, which comes now and then, would count too.
    assert min(keys_examined(database, claim) for _ in range(2)) < 40
    assert all(job_id.startswith("p") for job_id in got)
    assert min(keys_examined(database, fruitless) for _ in range(3)) < 160
    assert min(keys_examined(database, store.next_due) for _ in range(3)) < 40


def test_no_two_claims_at_once_are_one_too_many(store, url, opened, monkeypatch, wait_until):
    """Six claim and end jobs as fast as they can: of locks, and of a limit that is lowered."""
    from queuectl.store.mongodb import claims

    monkeypatch.setattr(claims, "TRUSTED", 0.1)
    configure(store, {"limits": {"gpu": 3}})
    locks = {n: ("a",) if n % 4 == 0 else () for n in range(60)}
    store.add([make_job(f"g{n}", tags=("gpu",), lock=lock) for n, lock in locks.items()])
    store.add([make_job(f"l{n}", lock=("a", "b")) for n in range(10)])
    slot = store.register("w", 1, "s", "b")  # so that who lowers the limit waits
    mutex, held, ended, wrong = threading.Lock(), {}, [], []
    lowered, low = threading.Event(), threading.Event()

    def note(job):
        slots = [slot for others in held.values() for slot in others]
        wrong.extend(slot for slot in job.slots if slot in slots)
        held[job.id] = job.slots
        if sum("gpu#" in slot for slot in (*slots, *job.slots)) > 2:
            wrong.extend(["one too many"] if low.is_set() else ())
        elif lowered.is_set():
            low.set()  # what ran as it was lowered has ended

    def work(worker):
        own = opened(url)
        while job := own.claim(worker, NOW).job or len(ended) < 70:
            if job is True:
                continue
            with mutex:
                note(job)
            with mutex:
                del held[job.id]  # before others may hold them
                ended.append(job.id)
            put(own, job._replace(state="completed", slots=(), rev=job.rev + 1))

    threads = [threading.Thread(target=work, args=(f"w{n}",)) for n in range(6)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(ended) > 15)
    configure(store, {"limits": {"gpu": 2}})
    lowered.set()
    for thread in threads:
        thread.join()
    store.release(slot)
    assert wrong == []
    assert low.is_set()
    assert len(ended) == len(set(ended)) == 70


@pytest.mark.parametrize(("most", "slots"), [(1, None), (2, ("gpu#1", "lock/b"))])
def test_a_slot_that_another_took_since_it_was_looked_for_is_held(
    store, url, opened, monkeypatch, most, slots
):
    from queuectl.store.mongodb.lanes import Lanes

    configure(store, {"limits": {"gpu": most}})
    store.add([make_job(name, tags=("gpu",), lock=(name,)) for name in "ab"])
    other, first, got = opened(url), Lanes.first, []

    def late(self, *given):
        if not got:
            got.append(None)
            got.append(other.claim("v", NOW).job)
        return first(self, *given)

    monkeypatch.setattr(Lanes, "first", late)
    job = store.claim("w", NOW).job
    assert got[1].slots == ("gpu#0", "lock/a")
    assert (job and job.slots) == slots


def test_a_job_lies_in_the_lane_of_what_may_hold_it_back(store, database):
    tags = {"a": (), "b": ("x", "gpu"), "c": ("gpu", "net", "x"), "d": ("x",)}
    store.add([make_job(name, tags=words) for name, words in tags.items()])
    store.add([make_job("e", lock=("l", "k"), tags=("net",))])
    assert lanes(database) == {**dict.fromkeys("abcd"), "e": "lock/l lock/k"}
    configure(store, {"limits": {"gpu": 1}, "paused": ["net"]})
    expected = {"a": None, "b": "gpu", "c": "gpu net", "d": None, "e": "net lock/l lock/k"}
    assert lanes(database) == expected
    store.add([make_job("f", tags=("net",)), make_job("g", tags=("gpu",))])
    put(store, make_job("d", rev=2, lock=("m",)))
    put(store, make_job("b", rev=2))
    expected |= {"b": None, "d": "lock/m", "f": "net", "g": "gpu"}
    assert lanes(database) == expected
    database.jobs.update_many({}, {"$set": {"_lane": "x"}})
    store.fold()
    assert lanes(database) == expected


def test_edits_in_mongosh_count(store, database):
    configure(store, {"limits": {"gpu": 1}, "paused": ["net"]})
    store.add([make_job("run", tags=("gpu",)), make_job("a"), make_job("b", priority=1)])
    store.add([make_job("c", tags=("net",), priority=2), make_job("d", lock=("l",), priority=3)])
    assert store.claim("w", NOW).job.id == "run"
    database.jobs.update_one({"_id": "a"}, {"$set": {"tags": ["gpu"]}})
    database.jobs.update_one({"_id": "c"}, {"$unset": {"tags": ""}})
    # Of no form that queuectl writes: each is taken for the lock that it is.
    database.jobs.update_many({"_id": {"$in": ["b", "d"]}}, {"$set": {"lock": ["a lock"]}})
    store.fold()
    assert [store.claim("w", NOW).job.id for _ in range(2)] == ["b", "c"]
    assert store.claim("w", NOW).job is None
    database.jobs.update_one({"_id": "run"}, {"$set": {"state": "cancelled"}})
    got = store.claim("w", NOW).job
    assert (got.id, got.slots) == ("a", ("gpu#0",))
    assert store.get("run").slots == ()
    database.jobs.update_one({"_id": "b"}, {"$set": {"state": "completed"}})
    assert store.claim("w", NOW).job.slots == ("lock/a lock",)


def test_a_schedule_whose_lock_is_held_waits(store):
    store.add([make_job("a", lock=("l",)), make_job("s", lock=("l",), every=60.0, priority=1)])
    job = store.claim("w", NOW).job
    assert store.claim("w", NOW).job is None
    assert store.get("s").rev == 1
    put(store, job._replace(state="completed", slots=(), rev=job.rev + 1))
    copy = store.claim("w", NOW).job
    assert (copy.id.partition(":")[0], copy.slots) == ("s", ("lock/l",))
    assert store.get("s").last == copy.id


def test_a_claim_by_what_was_known_before_a_limit_is_put_back(store, url, opened, monkeypatch):
    """It came too late: another one has the only number of the tag by then."""
    from pymongo.collection import Collection

    from queuectl.store.mongodb import claims

    seconds, claim = [1000.0], Collection.find_one_and_update
    monkeypatch.setattr(claims, "clock", lambda: seconds[0])
    monkeypatch.setattr("queuectl.store.mongodb.mongodb_store.clock", lambda: seconds[0])
    store.add([make_job("a", tags=("gpu",)), make_job("b", tags=("gpu",)), make_job("c")])
    other, got = opened(url), []

    def late(self, *args, **kwargs):
        if not got:
            seconds[0] += claims.TRUSTED + 0.01
            configure(other, {"limits": {"gpu": 1}})
            got.append(other.claim("v", NOW).job)
        return claim(self, *args, **kwargs)

    store.settings()
    monkeypatch.setattr(Collection, "find_one_and_update", late)
    assert store.claim("w", NOW).job.id == "c"
    assert got == [claimed(make_job("a", tags=("gpu",)), "v", NOW, slots=("gpu#0",))]
    assert store.get("b") == make_job("b", tags=("gpu",), rev=3)


def test_more_lanes_than_the_server_merges_are_asked_for_in_turn(store):
    from queuectl.store.mongodb.lanes import Lanes

    some = [make_job(f"j{n:03}", lock=(f"l{n}",), priority=200 - n) for n in range(200)]
    store.add(some, {})
    found, using = Lanes(store.connection).look(gate_of(()))
    assert (len(found), using) == (200, {})
    assert [store.claim("w", NOW).job.id for _ in range(2)] == ["j199", "j198"]


def test_what_ends_wakes_idle_workers_of_other_hosts(store, server, wait_until):
    from queuectl.store.mongodb.connection import Connection
    from queuectl.store.mongodb.workers import Waker

    if server.form == "standalone":
        pytest.skip("a standalone server has no stream")
    store.add([make_job("a", lock=("l",)), make_job("b", lock=("l",))])
    job = store.claim("w", NOW).job
    slot = store.register("w-idle", 1, "s", "b")

    def is_woken():
        with contextlib.suppress(BlockingIOError):
            return os.read(slot.wake_fd, 99)

    waker = Waker(Connection(store.connection.address), store.folder)
    waker.listen(True)
    wait_until(is_woken)  # once, when the stream is open
    wait_until(lambda: waker.hears)
    put(store, job._replace(state="completed", slots=(), rev=job.rev + 1))
    wait_until(is_woken)
    waker.listen(False)
    store.release(slot)
