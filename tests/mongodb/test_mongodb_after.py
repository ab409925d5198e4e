"""`after` and `after_end` in MongoDB: rules, races and edits; what a standalone server refuses."""

from __future__ import annotations

import threading
from inspect import signature
from io import BytesIO

import pytest
from samples import at_once, make_job, moment, put
from test_mongodb_gate import keys_examined

from queuectl.errors import DuplicateId, InvalidInput, KeyTaken
from queuectl.store.backup import read_backup
from queuectl.store.mongodb.documents import to_document
from tests import test_after

NOW = moment(10)
on_a_set = pytest.mark.parametrize("server", ["replica set"], indirect=True)
for _name, _test in vars(test_after).items():  # those that need no folder
    if _name.startswith("test_") and "queue" in signature(_test).parameters:
        globals()[_name] = on_a_set(_test)


@pytest.fixture
def meanwhile(monkeypatch):
    """Deeds of others in the middle of a step that concerns jobs which wait for others."""
    from queuectl.store.mongodb.kin import Family

    deeds, load = [], Family.load

    def loaded(self, names):
        load(self, names)
        if deeds and self._session is not None:
            deeds.pop()()

    monkeypatch.setattr(Family, "load", loaded)
    return deeds


def finish(store, job_id, state="completed"):
    job = store.get(job_id)
    put(store, job._replace(state=state, worker=None, rev=job.rev + 1))


@pytest.mark.parametrize("server", ["standalone"], indirect=True)
def test_a_standalone_server_is_told_what_it_needs(store):
    store.add([make_job("a"), make_job("b")])
    told = "standalone server: start mongod with --replSet rs0, then once rs.initiate"
    child = make_job("c", after=("a",))
    deeds = [
        lambda: store.add([child]),
        lambda: store.add([make_job("x"), child]),
        lambda: store.add([child], meet=lambda index, job, others: job),
        lambda: put(store, make_job("b", after_end=("a",), rev=2)),
        lambda: store.change(["a", "b"], lambda job: job._replace(after=("x",), rev=2)),
        lambda: store.archive.refill([make_job("a"), child], {}, {}, replace=True),
    ]
    for deed in deeds:
        with pytest.raises(InvalidInput, match=told):
            deed()
    assert list(store.find()) == [make_job("a"), make_job("b")]


@pytest.mark.parametrize("server", ["standalone"], indirect=True)
def test_a_standalone_server_that_was_a_set_changes_no_jobs_that_wait_for_others(store, database):
    store.add([make_job("a"), make_job("p")])
    database.jobs.update_one({"_id": "p"}, {"$set": {"_kids": 1}})
    child = to_document(make_job("c", after=("p",)))
    database.jobs.insert_one({**child, "_seq": 1, "_waits": ["p"], "_lane": "after/"})

    def changed(job):
        return job._replace(priority=1, state="pending" if job.id == "c" else "dead", rev=2)

    before = list(database.jobs.find())
    for ids in (["c"], ["p"], ["a", "c"], ["a", "p"]):
        with pytest.raises(InvalidInput, match="waits for others, or they for it: that needs a re"):
            store.change(ids, changed)
        assert list(database.jobs.find()) == before


@on_a_set
def test_a_transaction_of_a_process_that_was_killed_is_ended(store, monkeypatch):
    from queuectl.store.mongodb import connection

    monkeypatch.setattr(connection, "_ABANDONED", 0.05)
    store.add([make_job("a"), make_job("b")])
    killed = connection.Connection(store.connection.address)
    session = killed.client.start_session()
    session.start_transaction()
    killed.jobs.update_one({"_id": "a"}, {"$set": {"priority": 9}}, session=session)
    store.change(["a", "b"], lambda job: job._replace(priority=5, rev=2))
    assert [job.priority for job in store.find()] == [5, 5]
    killed.close()


@on_a_set
@pytest.mark.parametrize("first", ["the child", "the end"])
def test_a_parent_that_ends_as_its_child_comes_frees_it(store, url, opened, meanwhile, first):
    other = opened(url)
    store.add([make_job("a"), make_job("k", after=("a",))])
    child, job = make_job("b", after=("a",)), store.claim("w", NOW).job
    end = job._replace(state="completed", rev=job.rev + 1)
    if first == "the child":  # it has read that its parent runs
        meanwhile.append(lambda: other.claim("w", NOW, (job, end)))
        store.add([child])
    else:  # it has read which jobs wait for it
        meanwhile.append(lambda: other.add([child]))
        assert store.claim("w", NOW, (job, end)).settled
    got = {one.job.id for _ in range(3) if (one := store.claim("v", NOW)).job}
    assert got | {one.id for one in store.find(("in_progress",))} == {"k", "b"}


@on_a_set
def test_a_parent_that_is_retried_keeps_its_child_from_a_claim(store, url, opened, monkeypatch):
    from queuectl.store.mongodb.claims import Claims

    other, start = opened(url), Claims._start
    store.add([make_job("lock", lock=("l",), priority=-1), make_job("a", state="completed")])
    store.add([make_job("b", after=("a",))])
    assert store.claim("w", NOW).job.id == "lock"

    def late(self, *given):
        if other.get("a").state == "completed":
            put(other, make_job("a", rev=2, run_at=moment(99)))
        return start(self, *given)

    monkeypatch.setattr(Claims, "_start", late)
    assert store.claim("w", NOW).job is None
    finish(store, "a")
    monkeypatch.undo()
    assert store.claim("w", NOW).job.id == "b"


@on_a_set
def test_a_taken_id_or_key_is_refused_for_jobs_that_wait(store):
    store.add([make_job("a", unique="k")])
    for jobs, error in (
        ([make_job("x", after=("a",)), make_job("a")], DuplicateId),
        ([make_job("x", after=("a",)), make_job("y", unique="k")], KeyTaken),
        ([make_job("x", after=("a",)), make_job("x")], DuplicateId),
    ):
        with pytest.raises(error):
            store.add(jobs)
    assert [job.id for job in store.find()] == ["a"]


@on_a_set
def test_edits_of_parents_in_mongosh_count(store, database):
    store.add(
        [make_job("a", priority=9), make_job("b", after=("a",)), make_job("c"), make_job("d")]
    )
    database.jobs.update_one({"_id": "c"}, {"$set": {"after": ["a"]}})
    assert store.claim("w", NOW).job.id == "d"
    store.add([make_job("e")])
    database.jobs.update_one({"_id": "e"}, {"$set": {"after_end": ["a"]}})
    store.fold()
    assert store.claim("w", NOW).job.id == "a"
    assert store.claim("w", NOW).job is None
    database.jobs.update_one({"_id": "a"}, {"$set": {"state": "completed"}})
    store.fold()
    assert {store.claim("w", NOW).job.id for _ in "bce"} == {"b", "c", "e"}
    store.add([make_job("x"), make_job("y", after=("x",))])
    database.jobs.update_one({"_id": "y"}, {"$unset": {"after": ""}})
    store.fold()
    assert {store.claim("w", NOW).job.id for _ in "xy"} == {"x", "y"}


@on_a_set
def test_a_look_at_edits_costs_nothing_for_jobs_that_wait_for_none_or_ended(store, database):
    store.add([make_job("p"), make_job("k", after=("p",))])
    few = keys_examined(database, store.fold)
    store.add([make_job(f"x{n}") for n in range(50)])
    kin = [make_job(f"e{n}", after=("p",), state="completed") for n in range(50)]
    database.jobs.insert_many(map(to_document, kin))
    assert keys_examined(database, store.fold) == few


@on_a_set
def test_a_parent_that_fails_and_is_tried_again_is_not_a_step_of_its_children(store, database):
    store.add([make_job("a"), make_job("b", after=("a",))])
    job, before = store.claim("w", NOW).job, database.jobs.find_one({"_id": "b"})
    database.command("profile", 2)
    failed = job._replace(state="failed", rev=job.rev + 1, worker=None, run_at=moment(99))
    assert store.claim("w", NOW, (job, failed)).settled
    database.command("profile", 0)
    wrote = [entry for entry in database.system.profile.find() if entry["op"] == "update"]
    database.system.profile.drop()
    assert len(wrote) == 1
    assert database.jobs.find_one({"_id": "b"}) == before
    finish(store, "a")
    assert store.claim("w", NOW).job.id == "b"


@on_a_set
def test_the_doctor_names_what_edits_in_mongosh_keep_from_starting(store, database):
    store.add([make_job(name, unique=name) for name in "abcdef"])
    store.add([make_job("ok", after=("a",)), make_job("gone", state="completed", after=("a",))])
    for name, after in (("a", ["b"]), ("b", ["a"]), ("c", ["x"])):
        database.jobs.update_one({"_id": name}, {"$set": {"after": after}})
    database.jobs.update_one({"_id": "e"}, {"$set": {"unique": "d"}})
    database.jobs.update_one({"_id": "f"}, {"$set": {"unique": "d", "state": "cancelled"}})
    found = [f"{one.text}; {one.todo}" for one in store.care.examine() if one.problem]
    mends = "'queuectl update {}' with --after or --after-end"
    assert found == [
        "live with one unique key: d, e; 'queuectl cancel ID' all but one of them",
        f"job 'c' waits for 'x', which is not there; {mends.format('c')}",
        f"job 'a' waits in a ring: a after b after a; {mends.format('a')}",
    ]


@on_a_set
def test_a_claim_behind_many_that_wait_for_others_looks_at_few(store, database):
    due = moment(-1e8)
    store.add([make_job("a", run_at=due), make_job("p", run_at=due), make_job("q", run_at=due)])
    store.add(make_job(f"k{n}", priority=-1, run_at=due, after=("q",)) for n in range(150))
    assert store.claim("w", NOW).job.id == "a"
    assert keys_examined(database, lambda: store.claim("w", NOW)) < 40
    assert store.claim("w", NOW).job.id == "q"
    assert keys_examined(database, lambda: store.claim("w", NOW)) < 40
    assert keys_examined(database, store.next_due) < 40
    finish(store, "q")
    assert store.freed == 150
    assert store.claim("w", NOW).job.id == "k0"


@on_a_set
def test_a_graph_is_worked_off_in_order_by_several(store, url, opened):
    jobs = [make_job("root"), *(make_job(f"m{n}", after=("root",)) for n in range(9))]
    jobs += [make_job(f"n{n}", after=(f"m{n}",), after_end=(f"m{n - 1}",)) for n in range(1, 9)]
    jobs.append(make_job("last", priority=-9, after=tuple(f"n{n}" for n in range(1, 9))))
    store.add(jobs, {})
    mutex, order = threading.Lock(), []

    def work(number):
        own, job = opened(url), None
        while len(order) < len(jobs):
            settled = (job, job._replace(state="completed", rev=job.rev + 1)) if job else None
            if job:
                with mutex:
                    order.append(job.id)
            job = own.claim(f"w{number}", NOW, settled).job

    at_once(3, work)
    place = {name: at for at, name in enumerate(order)}
    assert len(order) == len(place) == len(jobs)
    for job in jobs:
        assert all(place[name] < place[job.id] for name in (*job.after, *job.after_end))


@on_a_set
def test_a_backup_of_jobs_that_wait_is_restored(store, opened, new_url):
    store.add([make_job("a"), make_job("b", after=("a",)), make_job("c", after_end=("b",))])
    store.add([make_job("x", state="dead"), make_job("y", state="dead")])
    backup = read_backup(BytesIO(b"".join(store.archive.backup())), "it")
    store.archive.refill(backup.jobs, {}, {}, replace=True)
    empty = opened(new_url)
    empty.archive.refill(backup.jobs, {}, {}, replace=False)
    for one in (store, empty):
        for name in "abc":
            job = one.claim("w", NOW).job
            assert (job.id, one.claim("w", NOW).job) == (name, None)
            finish(one, name)
