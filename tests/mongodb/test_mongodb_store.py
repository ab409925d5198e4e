"""The store in MongoDB keeps the contract, on a replica set and on a standalone server."""

from __future__ import annotations

import subprocess
import sys
from datetime import datetime
from functools import partialmethod

import pytest
from failing_disk import Killed, killed
from samples import at_once, configure, make_job, moment, put
from store_contract import StoreContract, filled, names
from test_mongodb_gate import keys_examined

from queuectl.errors import BadFile, Conflict, DuplicateId, InvalidInput, StoreError
from queuectl.model.fields import STATES
from queuectl.model.job import FINISHED
from queuectl.model.lifecycle import claimed
from queuectl.store.backup import read_backup
from queuectl.store.files.job_files import encode_job

NOW = moment(10)


class TestMongodbStore(StoreContract):
    begins_absent = False  # a database is there as soon as it is named


# -- counts


def test_completed_jobs_are_reckoned_once_the_servers_number_was_found_right(
    store, url, opened, database, client, server, monkeypatch
):
    from pymongo.collection import Collection

    from queuectl.store.mongodb import counts

    monkeypatch.setattr(counts, "_MANY", 9)
    monkeypatch.setattr("queuectl.store.mongodb.connection._ABANDONED", 0.0)
    store.connection.end_abandoned()  # transactions that other tests left open
    database.meta.update_one({"_id": "queuectl"}, {"$unset": {"right_for": ""}})
    store.add([make_job(f"c{n}", state="completed") for n in range(70)])
    store.add([make_job(f"{state}-{n}", state=state) for state in STATES for n in range(3)])
    right, got = {**dict.fromkeys(STATES, 3), "completed": 73}, []

    def counted(one):
        return keys_examined(database, lambda: got.append(one.counts())) > 70

    def reckoned(one):
        """Not at each look: other tests have transactions on this server."""
        return any(not counted(one) for _ in range(200))

    assert counted(store)
    assert reckoned(store)
    another = opened(url)
    assert reckoned(another)
    assert got == [right] * len(got)
    got.clear()
    database.jobs.delete_one({"_id": "c0"})
    database.jobs.update_one({"_id": "c1"}, {"$set": {"state": "pending"}})
    right |= {"completed": 71, "pending": 4}
    assert reckoned(another)
    if server.form == "replica set":
        with client.start_session() as session:
            session.start_transaction()
            database.jobs.delete_one({"_id": "c2"}, session=session)
            assert counted(another)
            session.abort_transaction()
    told = Collection.estimated_document_count
    monkeypatch.setattr(Collection, "estimated_document_count", lambda self: told(self) + 5)
    monkeypatch.setattr(counts.Counts, "_process", lambda _: "another")  # the first one was killed
    assert all(counted(another) for _ in range(2))
    assert got == [right] * len(got)


# -- documents


def test_a_document_is_the_job_of_the_json_files(store, database):
    store.add([make_job("a", run=2, log_word="x", extra={"note": [1]})])
    found = database.jobs.find_one()
    assert found.pop("_seq") > 0
    assert found.pop("_nonce")
    assert found == {
        **{"_id": "a", "state": "pending", "priority": 0, "run_at": moment(), "command": "true"},
        **{"max_retries": 3, "created_at": moment(), "updated_at": moment(), "run": 2},
        **{"log_word": "x", "note": [1]},
    }


def test_a_job_that_mongodb_cannot_keep_is_refused_by_its_name(store):
    with pytest.raises(InvalidInput, match=r"job 'a' has the key '\$x', which MongoDB cannot keep"):
        store.add([make_job("a", extra={"$x": 1})])
    with pytest.raises(InvalidInput, match="MongoDB cannot keep this job"):
        store.add([make_job("b"), make_job("c", extra={"large": 1 << 70})])
    assert list(store.find()) == []


@pytest.mark.parametrize("before", [{}, {"run": 4, "log_word": "old", "error": "e", "rev": 9}])
def test_a_claim_is_the_rule_of_a_claim(store, before):
    job = make_job("a", state="failed", exit_code=1, finished_at=moment(1), **before)
    store.add([job])
    assert store.claim("w", NOW, None, "word").job == claimed(job, "w", NOW, "word")
    assert store.get("a") == claimed(job, "w", NOW, "word")


def test_an_edit_that_leaves_rev_alone_is_not_written_over(store, database):
    store.add([make_job("a")])
    edits = iter([{"priority": 7}, {"state": "cancelled"}, {"note": "mine"}])

    def rule(job):
        if edit := next(edits, None):
            database.jobs.update_one({"_id": "a"}, {"$set": edit})
        return job._replace(priority=job.priority + 1, rev=job.rev + 1)

    store.change(["a"], rule)
    job = store.get("a")
    assert (job.priority, job.state, job.extra) == (8, "cancelled", {"note": "mine"})


@pytest.mark.parametrize(
    ("edit", "read_so"),
    [
        ({"priority": "high"}, None),
        ({"timeout": "soon"}, None),
        ({"env": {"A": 1}}, None),
        ({"command": None}, None),
        ({"every": "1m"}, 60.0),
        ({"tags": "gpu"}, ("gpu",)),
        ({"state": "running"}, "in_progress"),
        ({"run_at": "tomorrow"}, "tomorrow"),
        ({"run_at": "2026-13-01T00:00:00.000000Z"}, "2026-13-01T00:00:00.000000Z"),
        ({"worker": "../w"}, "../w"),
        ({"log_word": "a/b"}, "a/b"),
        ({"run_at": "2027-02-29T00:00:00.000000Z"}, "2027-02-29T00:00:00.000000Z"),
        ({"created_at": "1969-12-31T00:00:00.000000Z"}, "1969-12-31T00:00:00.000000Z"),
        ({"priority": 1 << 40}, 1 << 40),
        ({"env": {"A=B": ""}}, {"A=B": ""}),
        ({"cron": "daily"}, None),
        ({"base": 1e7}, None),
        ({"jitter": 1.5}, None),
        ({"max_delay": 1e400}, None),
        ({"retry_on": [256]}, None),
        ({"no_retry_on": []}, None),
        ({"log_limit": -1}, None),
        ({"unique": " "}, None),
    ],
)
def test_an_edit_without_sense_is_refused_by_the_server_else_by_the_jobs_name(
    store, database, edit, read_so
):
    from pymongo import UpdateOne, errors

    store.add([make_job("a")])
    with pytest.raises(errors.WriteError, match="Document failed validation"):
        database.jobs.update_one({"_id": "a"}, {"$set": edit})
    steps = [UpdateOne({"_id": "a"}, {"$set": edit})]
    database.jobs.bulk_write(steps, bypass_document_validation=True)
    if read_so is None:
        with pytest.raises(StoreError, match="document of job 'a' was edited and is not a job now"):
            store.get("a")
    else:
        assert getattr(store.get("a"), *edit) == read_so


@pytest.mark.parametrize(
    "edit",
    [{"_lane": 5}, {"_seq": "1"}, {"_waits": "x"}, {"_kids": "x"}, {"_key": [1]}, {"_batch": 5}],
)
def test_an_edit_without_sense_of_what_the_store_adds_is_refused(store, database, edit):
    from pymongo import errors

    store.add([make_job("a")])
    with pytest.raises(errors.WriteError, match="Document failed validation"):
        database.jobs.update_one({"_id": "a"}, {"$set": edit})


@pytest.mark.parametrize("moment", ["2028-02-29T12:00:00", "9999-12-31T23:59:59"])
def test_a_later_moment_that_there_is_lets_others_start(store, database, moment):
    store.add([make_job("a")])
    database.jobs.update_one({"_id": "a"}, {"$set": {"run_at": f"{moment}.999999Z"}})
    assert store.claim("w", NOW).job is None
    assert store.next_due() > 1e6


@pytest.mark.parametrize("settings", [{}, {"limits": {"gpu": 2}}])
def test_a_job_without_sense_keeps_no_other_from_starting(store, database, settings):
    configure(store, settings)
    store.add([make_job("good", tags=("gpu",))])
    good = database.jobs.find_one()
    edits = {"a": {"timeout": "soon"}, "b": {"run": "x"}, "c": {"cron": "x"}, "../e": {}}
    for name, edit in edits.items():
        bad = {**good, "_id": name, "_seq": 1, **edit}
        database.jobs.insert_one(bad, bypass_document_validation=True)
    database.jobs.insert_one({**good, "_id": "d", "state": "x"}, bypass_document_validation=True)
    assert store.claim("w", NOW).job.id == "good"
    left = {"good": "in_progress", "d": "x", **dict.fromkeys(edits, "dead")}
    assert {job["_id"]: job["state"] for job in database.jobs.find()} == left
    assert {line[:21] for line in store.notices} == {
        f"the document of job '{a}"[:21] for a in "abc."
    }
    store.notices.clear()
    database.jobs.delete_many({"state": "dead"})
    with pytest.raises(StoreError, match="job 'd' was edited and is not a job now: unknown state"):
        list(store.find())
    database.jobs.delete_one({"_id": "d"})


def test_an_index_that_somebody_dropped_is_made_anew(store, database, url, opened):
    store.add([make_job("a")])
    database.jobs.drop()
    store.add([make_job("b")])
    with pytest.raises(StoreError, match="lacks an index that it had; the next command makes it"):
        store.claim("w", NOW)
    assert store.claim("w", NOW).job.id == "b"
    assert names(opened(url).find()) == ["b"]
    assert database.jobs.options()["validationLevel"] == "moderate"


def test_a_worker_that_begins_anew_makes_the_queue_anew_that_was_dropped(new_url, opened, client):
    store, name = opened(new_url), new_url.rpartition("/")[2]
    store.make()
    client.drop_database(name)
    store.release(store.register("w-a", 1, "s", "b"))
    assert client[name].meta.find_one({"_id": "queuectl"})["format"] == 1


def test_an_edit_that_makes_sense_counts(store, database):
    from bson import Int64, ObjectId

    store.add([make_job("a")])
    edit = {"timeout": 5, "tags": ["gpu"], "priority": Int64(7), "log_limit": 1 << 40}
    edit |= {"note": {"at": datetime(2026, 1, 1), "by": ObjectId("0" * 24), "n": [Int64(1)]}}
    database.jobs.update_one({"_id": "a"}, {"$set": edit})
    job = store.get("a")
    assert (job.timeout, job.tags, job.priority, job.log_limit) == (5, ("gpu",), 7, 1 << 40)
    assert type(job.priority) is int
    assert encode_job(job).endswith(
        b'"note": {"at": "2026-01-01T00:00:00.000000Z", "by": "%s", "n": [1]}}' % (b"0" * 24)
    )
    put(store, job._replace(command="false", rev=2))
    assert database.jobs.find_one()["note"] == edit["note"]
    assert names(store.remove(["a"])) == ["a"]


def test_each_job_is_listed_once_whatever_becomes_of_it_meanwhile(store):
    store.add([make_job(f"j{number}") for number in range(300)], {})
    store.add([make_job("lives", state="dead"), make_job("goes"), make_job("dies")], {})
    listed = store.find()
    seen = [next(listed).id]
    put(store, make_job("lives", rev=2))
    put(store, make_job("dies", state="dead", rev=2))
    put(store, make_job("j250", state="completed", rev=2))
    seen += names(listed)
    assert sorted(seen) == sorted(
        [*(f"j{number}" for number in range(300)), "lives", "goes", "dies"]
    )


# -- several at once


def test_no_job_is_claimed_twice(url, opened):
    first = opened(url)
    first.add([make_job(f"j{number}") for number in range(120)], {})
    got = []

    def claim_all(number):
        store = opened(url)
        while job := store.claim(f"w{number}", NOW).job:
            got.append(job.id)

    at_once(6, claim_all)
    assert sorted(got) == sorted(f"j{number}" for number in range(120))


def test_a_claim_that_took_too_long_is_put_back_if_all_was_paused_meanwhile(
    store, url, opened, monkeypatch
):
    from pymongo.collection import Collection

    from queuectl.store.mongodb import claims

    seconds, claim = [1000.0], Collection.find_one_and_update
    monkeypatch.setattr(claims, "clock", lambda: seconds[0])
    monkeypatch.setattr("queuectl.store.mongodb.mongodb_store.clock", lambda: seconds[0])
    store.add([make_job("a")])
    other = opened(url)

    def late(self, *args, **kwargs):
        seconds[0] += claims.TRUSTED + 0.01
        configure(other, {"paused": ["*"]})
        return claim(self, *args, **kwargs)

    store.settings()
    monkeypatch.setattr(Collection, "find_one_and_update", late)
    assert store.claim("w", NOW).job is None
    assert store.get("a") == make_job("a", rev=3)


def test_with_aging_a_claim_looks_again_if_another_was_faster(store, url, opened, monkeypatch):
    from pymongo.collection import Collection

    store.add([make_job("a"), make_job("b", priority=1), make_job("c", run_at=moment(10))])
    configure(store, {"aging": 9})
    other, claim = opened(url), Collection.find_one_and_update

    def late(self, *args, **kwargs):
        monkeypatch.setattr(Collection, "find_one_and_update", claim)
        assert other.claim("v", NOW).job.id == "a"
        return claim(self, *args, **kwargs)

    monkeypatch.setattr(Collection, "find_one_and_update", late)
    assert [store.claim("w", NOW).job.id for _ in range(2)] == ["b", "c"]


def test_a_pause_waits_for_workers_that_may_not_know_of_it(store, url, opened, monkeypatch):
    from queuectl.store.mongodb import claims

    waited = []
    monkeypatch.setattr(claims, "wait", waited.append)
    configure(store, {"paused": ["gpu"]})
    assert waited == []
    slot = store.register("w", 1, "s", "b")
    configure(store, {"paused": ["*"]})
    assert waited == [claims.TRUSTED + claims._MARGIN]
    configure(store, {})
    assert len(waited) == 1
    store.release(slot)


def test_a_change_of_several_is_made_again_if_another_comes_between(store, url, opened):
    store.add([make_job("a"), make_job("b")])
    other, seen = opened(url), []

    def rule(job):
        seen.append(job.id)
        if seen == ["a"]:
            put(other, other.get("b")._replace(command="theirs", rev=2))
        return job._replace(priority=5, rev=job.rev + 1)

    done = store.change(["a", "b"], rule)
    assert [(job.id, job.command, job.rev) for job in done.values()] == [
        ("a", "true", 2),
        ("b", "theirs", 3),
    ]


def test_an_insert_that_is_done_twice_is_one(store, database, monkeypatch):
    """As when the answer to the first try was lost."""
    from pymongo.collection import Collection

    insert = Collection.insert_one

    def twice(self, document, *args, **kwargs):
        insert(self, dict(document), *args, **kwargs)
        return insert(self, document, *args, **kwargs)

    store.add([make_job("warm")])
    with monkeypatch.context() as patch:
        patch.setattr(Collection, "insert_one", twice)
        store.add([make_job("a")])
    with pytest.raises(DuplicateId, match="exists already, in mongodb://"):
        store.add([make_job("a")])
    database.jobs.update_one({"_id": "warm"}, {"$set": {"state": "staged", "_batch": "b"}})
    with pytest.raises(DuplicateId, match=r"being enqueued \(for at most an hour"):
        store.add([make_job("warm")])


# -- jobs that are handed in together


def hold_back(store, jobs, monkeypatch, *, committed):
    """Hand jobs in by a process that is killed before, or after, they are handed in."""
    from queuectl.store.mongodb.staging import Staging

    with monkeypatch.context() as patch:
        patch.setattr(Staging, "finish" if committed else "_commit", killed)
        with pytest.raises(Killed):
            store.add(jobs)


def test_jobs_that_were_handed_in_are_finished_by_the_next_command(store, url, opened, monkeypatch):
    hold_back(store, [make_job("a"), make_job("b", state="dead")], monkeypatch, committed=True)
    assert names(opened(url).find()) == ["a", "b"]
    assert store.counts() == {**dict.fromkeys(store.counts(), 0), "pending": 1, "dead": 1}


def test_jobs_that_were_never_handed_in_are_seen_by_nobody_and_removed(
    store, url, opened, database, monkeypatch
):
    hold_back(store, [make_job("a"), make_job("b")], monkeypatch, committed=False)
    another = opened(url)
    assert (list(another.find()), another.get("a"), another.claim("w", NOW).job) == ([], None, None)
    assert sum(another.counts().values()) == 0
    assert database.jobs.count_documents({}) == 2
    with pytest.raises(DuplicateId):  # it may still be handed in
        another.add([make_job("a")])
    database.meta.update_many({"_id": {"$ne": "queuectl"}}, {"$set": {"made_at": 0}})
    another.fold()
    assert database.jobs.count_documents({}) == database.meta.count_documents({}) - 1 == 0
    another.add([make_job("a")])


@pytest.mark.parametrize("removed", [True, False])
def test_a_process_that_wakes_up_cannot_hand_in_what_others_took_for_abandoned(
    store, url, opened, database, monkeypatch, removed
):
    from queuectl.store.mongodb.staging import Staging

    insert = Staging._insert

    def suspended(self, documents, before):
        """It stands still for more than an hour."""
        database.meta.update_many({"_id": {"$ne": "queuectl"}}, {"$set": {"made_at": 0}})
        with monkeypatch.context() as patch:
            if not removed:  # whoever takes it for abandoned is just about to remove it
                patch.setattr(Staging, "_drop", lambda *_: None)
            opened(url).fold()
        insert(self, documents, before)

    store.add([make_job("old")])
    with monkeypatch.context() as patch:
        patch.setattr(Staging, "_insert", suspended)
        with pytest.raises(StoreError, match="took more than an hour; nothing was added"):
            store.add([make_job("a"), make_job("b")])
    assert names(store.find()) == ["old"]
    assert database.jobs.count_documents({}) == database.meta.count_documents({}) == 1


def test_what_is_handed_in_is_confirmed_though_the_server_goes_then(
    store, url, opened, monkeypatch
):
    from queuectl.store.mongodb.staging import Staging

    def broken(*_args):
        raise StoreError("the connection broke")

    store.on_change = lambda pairs, _: [make_job("hook") for _, new in pairs if new.id == "a"]
    with monkeypatch.context() as patch:
        patch.setattr(Staging, "finish", broken)
        store.add([make_job("a"), make_job("b")])
    assert names(opened(url).find()) == ["a", "b"]
    with monkeypatch.context() as patch:
        patch.setattr(Staging, "finish", broken)
        assert store.change(["a"], lambda job: job._replace(state="cancelled", rev=2))
    assert names(opened(url).find()) == ["a", "b", "hook"]


# -- jobs that a change adds


WRITES = ("insert_one", "insert_many", "update_one", "update_many", "bulk_write")
WRITES += ("delete_one", "delete_many", "find_one_and_update")


def is_killed_behind(monkeypatch, writes, deed):
    """Whether a process that does the deed was killed behind so many of its writes."""
    from pymongo.collection import Collection

    def write(self, *args, real, **kwargs):
        nonlocal writes
        done = real(self, *args, **kwargs)
        writes -= 1
        if writes < 0:
            raise Killed
        return done

    with monkeypatch.context() as patch:
        for name in WRITES:
            patch.setattr(Collection, name, partialmethod(write, real=getattr(Collection, name)))
        try:
            deed()
        except Killed:
            return True
    return False


@pytest.mark.parametrize("how", ["claim", "change", "change of many"])
def test_an_end_and_what_follows_on_it_are_both_there_or_neither(
    store, url, opened, database, monkeypatch, how
):
    def end(job):
        return job._replace(state="completed", rev=job.rev + 1)

    deeds = {
        "claim": lambda held: store.claim("w", moment(-1), (held[0], end(held[0]))),
        "change": lambda held: store.change([held[0].id], end),
        "change of many": lambda held: store.change([job.id for job in held], end),
    }
    store.on_change = lambda pairs, _: [make_job(f"h-{new.id}") for _, new in pairs]
    killed, step, outcomes = True, 0, set()
    while killed:
        store.add([make_job(f"a{step}"), make_job(f"b{step}")][: 1 + how.endswith("many")])
        held = []
        while job := store.claim("w", NOW).job:
            held.append(job)
        killed = is_killed_behind(monkeypatch, step, lambda held=held: deeds[how](held))
        another = opened(url)
        for job in held:
            hook, state = another.get(f"h-{job.id}"), another.get(job.id).state
            assert (hook and hook.state, state) in ((None, "in_progress"), ("pending", "completed"))
            outcomes.add(state)
        another.remove([job.id for job in another.find()])
        another.fold()
        assert list(another.find()) == [], "what was removed comes again"
        step += 1
    assert "completed" in outcomes
    assert database.jobs.count_documents({}) == database.meta.count_documents({}) - 1 == 0


def test_a_firing_is_neither_doubled_nor_missed_whenever_its_worker_is_killed(
    store, url, opened, database, monkeypatch
):
    killed, step, outcomes = True, 0, set()
    while killed:
        store.add([make_job("s", every=60.0)])
        killed = is_killed_behind(monkeypatch, step, lambda: store.claim("w", NOW))
        another = opened(url)
        [schedule, *copies] = another.find()
        outcomes.add(len(copies))
        assert schedule.run_at == (moment(60) if copies else moment(0))
        assert (schedule.state, schedule.last) == ("pending", copies[0].id if copies else None)
        if copies == []:
            copies = [another.claim("w", NOW).job]
        elif copies[0].state == "pending":
            assert another.claim("w", NOW).job.id == copies[0].id
        assert another.claim("w", NOW).job is None
        assert names(another.find()) == ["s", copies[0].id]
        another.remove(["s", copies[0].id])
        another.fold()
        step += 1
    assert outcomes == {0, 1}
    assert database.jobs.count_documents({}) == database.meta.count_documents({}) - 1 == 0


def test_a_copy_that_was_not_shown_yet_is_live(store, url, opened, monkeypatch):
    from queuectl.store.mongodb.staging import Staging

    store.add([make_job("s", every=60.0)])
    another = opened(url)
    assert another.counts()["pending"] == 1  # what was left half-way by then is looked after
    with monkeypatch.context() as patch:
        patch.setattr(Staging, "finish", killed)
        with pytest.raises(Killed):
            store.claim("w", NOW)
    job = another.claim("w", moment(60)).job
    assert (job.id, job.planned) == (store.get("s").last, moment(0))
    assert [entry["reason"] for entry in store.get("s").history] == ["overlap"]


def test_many_workers_that_meet_a_schedule_run_one_copy(url, opened):
    first, found = opened(url), []
    first.add([make_job(f"s{number}", every=60.0) for number in range(20)])

    def claim_all(number):
        store = opened(url)
        while job := store.claim(f"w{number}", NOW).job:
            found.append(job.id.partition(":")[0])

    at_once(6, claim_all)
    assert sorted(found) == sorted(f"s{number}" for number in range(20))
    assert first.counts()["pending"] == first.counts()["in_progress"] == 20


def test_what_follows_on_an_end_is_added_before_that_job_goes(store, url, opened, monkeypatch):
    """As where another command comes between two writes of the process that ended the job."""
    from queuectl.store.mongodb.staging import Staging

    store.add([make_job("a"), make_job("b")])
    store.on_change = lambda pairs, _: [make_job(f"h-{new.id}") for _, new in pairs]
    finish, another = Staging.finish, opened(url)

    def meddled(self, batch, of=None):
        monkeypatch.setattr(Staging, "finish", finish)
        if of == "a":
            assert names(another.remove(["a"])) == ["a"]
        else:  # it ends a second time
            another.on_change = lambda pairs, _: [make_job("second")]
            another.change(["b"], lambda job: job._replace(rev=7))
        finish(self, batch, of)

    for job_id in "ab":
        monkeypatch.setattr(Staging, "finish", meddled)
        store.change([job_id], lambda job: job._replace(state="cancelled", rev=2))
    assert {job.id: job.state for job in store.find()} == {
        **{"h-a": "pending", "b": "cancelled", "h-b": "pending", "second": "pending"},
    }


def test_jobs_are_replaced_in_one_step_unless_others_change_them(store, database, monkeypatch):
    from queuectl.store.mongodb.archive import MongodbArchive

    store.add([make_job("a", command="old", rev=5, run=3), make_job("b")])
    new = [make_job("a", command="new"), make_job("c")]
    fill = MongodbArchive._fill

    def meddled(*given):
        fill(*given)
        database.jobs.insert_one({**database.jobs.find_one({"_id": "b"}), "_id": "late"})

    with monkeypatch.context() as patch:
        patch.setattr(MongodbArchive, "_fill", meddled)
        with pytest.raises(Conflict, match="others change the queue meanwhile"):
            store.archive.refill(new, {"base": 3}, {}, replace=True)
    assert names(store.find()) == ["a", "b", "late"]
    assert dict(store.settings()) == {}
    kept = store.archive.refill(new, {"base": 3}, {}, replace=True)
    assert [(job.id, job.command, job.rev, job.run) for job in store.find()] == [
        ("a", "new", 6, 3),
        ("c", "true", 1, 0),
    ]
    assert dict(store.settings()) == {"base": 3}
    with open(kept, "rb") as file:
        assert names(read_backup(file, "it").jobs) == ["a", "b", "late"]
    assert "claim" in database.jobs.index_information()
    assert store.claim("w", NOW).job.id == "a"


@pytest.mark.parametrize("first", [["a"], []])
def test_of_two_that_put_jobs_in_place_at_once_one_is_refused(
    store, database, url, opened, monkeypatch, first
):
    from queuectl.store.mongodb.archive import MongodbArchive

    in_place, held = MongodbArchive._put_in_place, []

    def put_in_turn(*given):
        held.append(given)
        if len(held) == 1:  # the first waits until the second is ready, too
            with pytest.raises(Conflict, match="others change the queue meanwhile"):
                opened(url).archive.refill([make_job("b")], {}, {}, replace=False)
        else:
            in_place(*held[0])
            in_place(*given)

    store.make()
    database.create_collection("queuectl_incoming_17")  # of a process that was killed long ago
    database.create_collection("queuectl_incoming_mine")  # of a person
    monkeypatch.setattr(MongodbArchive, "_put_in_place", put_in_turn)
    store.archive.refill([*map(make_job, first)], {}, {}, replace=False)
    assert names(store.find()) == first
    left = [name for name in database.list_collection_names() if "incoming" in name]
    database.queuectl_incoming_mine.drop()
    assert left == ["queuectl_incoming_mine"]


# -- the database


def test_a_new_database_is_looked_at_without_being_made(new_url, opened, client):
    store = opened(new_url)
    assert list(store.find()) == store.workers() == []
    assert dict(store.settings()) == {}
    assert new_url.rpartition("/")[2] not in client.list_database_names()
    store.add([make_job("a", state="dead")])
    database = client[new_url.rpartition("/")[2]]
    assert [job["_id"] for job in database.dlq.find()] == ["a"]
    assert database.meta.find_one({"_id": "queuectl"})["format"] == 1


@pytest.mark.parametrize("foreign", ["jobs", "config"])
def test_a_database_with_anothers_collection_is_refused(new_url, opened, client, foreign):
    client[new_url.rpartition("/")[2]][foreign].insert_one({"_id": "theirs"})
    for deed in (lambda store: store.add([make_job("a")]), lambda store: list(store.find())):
        with pytest.raises(StoreError, match=f"holds a collection '{foreign}' that is not"):
            deed(opened(new_url))


def test_a_queue_without_its_marker_tells_how_to_put_it_back(store, database, url, opened):
    store.add([make_job("a")])
    database.meta.drop()
    with pytest.raises(BadFile, match="has lost the marker of a queue") as raised:
        list(opened(url).find())
    wanted = str(raised.value).partition("insertOne(")[2].rstrip(")")
    assert wanted == "{_id: 'queuectl', format: 1}"
    database.meta.insert_one({"_id": "queuectl", "format": 1})
    assert names(opened(url).find()) == ["a"]


@pytest.mark.parametrize("layout", ["8", None, [], -1])
def test_a_layout_without_sense_is_made_anew(store, database, url, opened, layout):
    from queuectl.store.mongodb.layout import LAYOUT

    store.add([make_job("a")])
    database.meta.update_one({"_id": "queuectl"}, {"$set": {"layout": layout}})
    assert names(opened(url).find()) == ["a"]
    assert database.meta.find_one({"_id": "queuectl"})["layout"] == LAYOUT


@pytest.mark.parametrize("nonsense", [5, "b", None, {"a": 1}])
def test_a_note_of_what_follows_without_sense_is_passed_over(store, database, nonsense):
    store.add([make_job("a"), make_job("b")])
    database.jobs.update_one({"_id": "a"}, {"$set": {"_followed": nonsense}})
    assert store.claim("w", moment(10)).job.id == "a"
    assert names(store.find()) == ["a", "b"]
    store.change(["a"], lambda job: job._replace(priority=3))
    assert store.get("a").priority == 3


def test_indexes_of_an_older_layout_are_made_anew(store, database, url, opened):
    order = ["state", "priority", "run_at", "_seq"]
    database.jobs.drop_index("claim")
    database.jobs.drop_index("waits_after")
    database.jobs.create_index(order, name="claim")
    database.meta.update_one({"_id": "queuectl"}, {"$set": {"layout": 6}})
    store.add([make_job("a")])
    assert opened(url).claim("w", moment(10)).job.id == "a"
    made = database.jobs.index_information()
    assert made["claim"]["partialFilterExpression"] == {"state": {"$gte": "failed"}}
    assert "waits_after" in made
    left_out = [state for state in STATES if state < "failed"]
    assert {*left_out} == FINISHED


def test_a_newer_database_is_refused(store, database, url, opened):
    store.add([make_job("a")])
    database.meta.update_one({"_id": "queuectl"}, {"$set": {"format": 9}})
    try:
        with pytest.raises(StoreError, match="was made by a newer queuectl"):
            opened(url).get("a")
    finally:
        database.meta.update_one({"_id": "queuectl"}, {"$set": {"format": 1}})


def test_what_is_acknowledged_was_written_by_a_majority(url, opened):
    concern = opened(url + "?w=0&journal=false").connection.database.jobs.write_concern
    assert concern.document == {"w": "majority", "j": True}


def test_what_somebody_else_keeps_beside_it_does_no_harm(store, database, url, opened):
    store.add([make_job("a")])
    database.meta.insert_one({})
    database.workers.insert_many([{}, {"_id": "w", "lease": "long", "facts": 7, "pid": "x"}])
    assert names(opened(url).find()) == ["a"]
    [worker] = opened(url).workers()
    assert (worker.id, worker.alive, worker.pid) == ("w", True, 0)


def test_a_mistake_in_the_settings_is_told_with_its_place(store, database):
    configure(store, {"base": 3})
    database.config.update_one({"_id": "settings"}, {"$set": {"base": "x"}})
    with pytest.raises(StoreError, match=r"collection config of .* holds a mistake: base must be"):
        store.settings()


def test_settings_edited_in_mongosh_count(store, database):
    configure(store, {"base": 3})
    database.config.update_one({"_id": "settings"}, {"$set": {"jitter": 1}})
    assert dict(store.settings()) == {"base": 3, "jitter": 1}
    assert store.settings() is store.settings()
    assert not store.change_settings({"base": 3}, {})


def test_the_servers_clock_counts(store, monkeypatch):
    import time

    own = time.time
    assert abs(store.now() - own()) < 1
    monkeypatch.setattr(time, "time", lambda: own() + 3600)
    assert abs(store.now() - own()) < 1


# -- trouble


def test_nobody_answers(opened, monkeypatch):
    from queuectl.store.mongodb import connection

    assert connection.PATIENCE <= 4  # seconds: a command ends within 5
    monkeypatch.setattr(connection, "_TELL_AFTER", 0.1)
    store, told = opened("mongodb://u:secret@127.0.0.1:1/q"), []
    store.connection._patience = 1.2
    store.on_wait(told.append)
    with pytest.raises(StoreError, match=r"mongodb://u@127\.0\.0\.1:1/q does not answer: "):
        store.counts()
    assert told == ["mongodb://u@127.0.0.1:1/q does not answer; waiting"]


def test_a_wrong_password_is_one_line_without_it(server, opened):
    url = server.url.replace("//", "//ann:s3cr%40t@") + "q"
    with pytest.raises(StoreError, match="refuses what queuectl needs: Authentication") as refused:
        opened(url).counts()
    assert "s3cr" not in str(refused.value)


@pytest.mark.parametrize(
    ("said", "code", "told"),
    [
        (
            'not authorized on q to execute command { find: "meta", filter: {}, lsid: { id: 1 } }',
            13,
            'not authorized on q to execute command { find: "meta" }; '
            "give the user the role readWrite on the database",
        ),
        (
            "Authentication failed.",
            18,
            "Authentication failed.; look at user, password and authSource in the URL",
        ),
    ],
)
def test_a_refusal_names_what_may_not_be_done(opened, said, code, told):
    from pymongo.errors import OperationFailure

    connection = opened("mongodb://u:secret@127.0.0.1:1/q").connection
    with pytest.raises(StoreError) as refused, connection.told():
        raise OperationFailure(said, code)
    assert str(refused.value) == f"mongodb://u@127.0.0.1:1/q refuses what queuectl needs: {told}"


def test_of_a_set_without_a_primary_is_told_where_to_look(opened):
    from pymongo.errors import ServerSelectionTimeoutError

    connection = opened("mongodb://127.0.0.1:1/q").connection
    told = r'"Primary\(\)"; rs.status\(\) in mongosh tells why$'
    with pytest.raises(StoreError, match=told), connection.told():
        raise ServerSelectionTimeoutError('No replica set members match selector "Primary()"')


def test_a_change_of_several_names_its_refusal_before_anything_is_changed(store):
    jobs = filled(store)

    def refuse(job):
        if job.id == "dead":
            raise Conflict("not this one")
        return job._replace(rev=2)

    with pytest.raises(Conflict, match="not this one"):
        store.change(list(jobs), refuse)
    assert {job.id: job for job in store.find()} == jobs


def test_without_the_driver_one_line_says_what_to_install(tmp_path):
    program = (
        "import sys; sys.modules['pymongo'] = None; from queuectl.cli import main; "
        "sys.exit(main(['--data', 'mongodb://u:secret@localhost/q', 'list']))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (5, "")
    assert done.stderr == (
        "queuectl: a queue in MongoDB needs pymongo, not installed here: "
        f"{sys.executable} -m pip install pymongo\n"
    )
