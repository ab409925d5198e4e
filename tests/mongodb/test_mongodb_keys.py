"""Unique keys in MongoDB: one live job for each, in any race and after any edit."""

from __future__ import annotations

from io import BytesIO

import pytest
from samples import at_once, make_job, moment, put

from queuectl.errors import KeyTaken
from queuectl.job_queue import JobQueue
from queuectl.store.backup import read_backup

NOW = moment(10)


@pytest.fixture
def between(monkeypatch):
    """Deeds of others, each of which follows at once on a look for the live jobs of a key."""
    from queuectl.store.mongodb.keys import Keys

    deeds, holders = [], Keys.holders

    def looked(self, *given):
        found = holders(self, *given)
        if deeds:
            deeds.pop()()
        return found

    monkeypatch.setattr(Keys, "holders", looked)
    return deeds


def test_a_key_that_another_took_since_it_was_looked_for_is_taken(store, url, opened, between):
    other = opened(url)
    store.add([make_job("dead", state="dead", unique="k")])
    between.append(lambda: other.add([make_job("a", unique="k")]))
    with pytest.raises(KeyTaken, match="job 'a' with the unique key 'k' is pending"):
        store.add([make_job("b", unique="k")])
    store.remove(["a"])
    between.append(lambda: other.add([make_job("c", unique="k")]))
    with pytest.raises(KeyTaken, match="job 'c' with the unique key 'k' is pending"):
        store.add([make_job("d"), make_job("e", unique="k")])
    store.remove(["c"])
    for ids in (["dead"], ["dead", "one"]):
        store.add([make_job("one")])
        between.append(lambda: other.add([make_job("f", unique="k")]))
        with pytest.raises(KeyTaken, match="job 'f'"):
            store.change(ids, lambda job: job._replace(state="pending", rev=job.rev + 1))
        assert store.get("one").rev == 1
        store.remove(["f", "one"])
    assert [job.id for job in store.find()] == ["dead"]


def test_who_meets_another_only_as_it_is_written_decides_anew(store, url, opened, between):
    other, met = opened(url), []
    store.add([make_job("a", unique="k"), make_job("r", unique="l")])
    running = store.claim("w", NOW).job, store.claim("w", NOW).job

    def replace(index, job, others):
        met.append([other.id for other in others])
        waiting = [other for other in others if other.state == "pending"]
        return waiting[0]._replace(command=job.id, rev=waiting[0].rev + 1) if waiting else job

    between.append(lambda: other.add([make_job("b", unique="k")], {}, meet=replace))
    store.add([make_job("c", unique="k")], {}, meet=replace)
    assert met == [["a"], ["a"], ["a", "b"]]
    assert {job.id: job.command for job in store.find()} == {"a": "true", "r": "true", "b": "c"}
    between.append(lambda: other.claim("v", NOW))
    many = [make_job("d"), make_job("e", unique="k"), make_job("f", unique="l")]
    store.add(many, {}, meet=replace)
    assert met[3:] == [["a", "b"], ["r"], ["a", "b"], ["r"]]
    live = {job.id: (job.state, job.command) for job in store.find()}
    assert [live[name] for name in "bdef"] == [("in_progress", "c"), *[("pending", "true")] * 3]
    for job in running:
        put(store, job._replace(state="completed", rev=job.rev + 1))
    for key in "kl":
        with pytest.raises(KeyTaken):
            store.add([make_job("g", unique=key)])


def test_an_edit_in_mongosh_that_ends_a_job_frees_its_key(store, database):
    store.add([make_job("a", unique="k")])
    database.jobs.update_one({"_id": "a"}, {"$set": {"state": "cancelled"}})
    store.add([make_job("b", unique="k")])
    database.jobs.update_one({"_id": "b"}, {"$set": {"state": "dead"}})
    put(store, make_job("a", unique="k", rev=2))
    with pytest.raises(KeyTaken, match="'a'"):
        store.add([make_job("c"), make_job("d", unique="k")])


def test_a_job_that_was_inserted_in_mongosh_has_its_key(store, database):
    store.add([make_job("a", unique="k")])
    database.jobs.update_one({"_id": "a"}, {"$unset": {"_seq": "", "_key": ""}})
    with pytest.raises(KeyTaken, match="'a'"):
        store.add([make_job("b", unique="k")])


def test_of_many_at_once_one_gets_the_key_and_one_more_waits(url, opened):
    counts, wrong = [0, 0], []

    def hand_in(number):
        queue = JobQueue(opened(url))
        for turn in range(12):
            meeting = ("refuse", "replace")[(number + turn) % 2]
            try:
                queue.enqueue([{"command": "true", "unique": "k"}], meeting=meeting)
                counts[0] += 1
            except KeyTaken:
                counts[1] += 1
            live = [job.state for job in queue.find(("pending", "in_progress", "failed"))]
            if live.count("pending") > 1:
                wrong.append(live)
            if turn % 4 == 3 and (job := queue.claim(f"w{number}")):
                put(queue.store, job._replace(state="completed", rev=job.rev + 1))

    at_once(4, hand_in)
    assert wrong == []
    assert min(counts) > 0


def test_one_that_waits_beside_a_running_one_is_replaced(url, opened):
    queue = JobQueue(opened(url))
    for command in ("first", "second", "third"):
        queue.enqueue([{"command": command, "unique": "k"}], meeting="replace")
        if command == "first":
            assert queue.claim("w") is not None
    assert [job.command for job in queue.find()] == ["first", "third"]


def test_a_backup_with_several_live_jobs_of_a_key_is_restored(store, opened, new_url):
    many = [make_job(name, unique="k") for name in "abc"]
    store.add(many, {}, meet=lambda index, job, others: job)
    backup = read_backup(BytesIO(b"".join(store.archive.backup())), "it")
    content = (backup.jobs, backup.settings, backup.env_sets)
    store.archive.refill(*content, replace=True)
    empty = opened(new_url)
    empty.archive.refill(*content, replace=False)
    for one in (store, empty):
        assert [job.id for job in one.find()] == ["a", "b", "c"]
        for name in "abc":
            with pytest.raises(KeyTaken):
                one.add([make_job("new", unique="k")])
            put(one, one.get(name)._replace(state="completed", rev=9))
        one.add([make_job("new", unique="k")])
