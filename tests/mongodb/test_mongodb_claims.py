"""How a claim settles the run before it: in the same request, or confirmed by the claim's own."""

from __future__ import annotations

import pytest

pytest.importorskip("pymongo")

from pymongo.collection import Collection
from samples import configure, make_job, moment, put

from queuectl.store.mongodb.connection import Connection

NOW = moment(10)


def ended(job):
    return job._replace(state="completed", worker=None, slots=(), rev=job.rev + 1)


@pytest.fixture
def limited(store):
    """A queue in which two of the five jobs may run at once."""
    configure(store, {"limits": {"gpu": 2}})
    store.add([make_job(name, tags=("gpu",)) for name in "abcde"])
    return store


def before_next(monkeypatch, method, deed):
    """Do something just before the next call of a method of collections; the arguments of all."""
    calls, call = [], getattr(Collection, method)

    def late(self, *args, **kwargs):
        calls.append(args)
        if len(calls) == 1:
            deed()
        return call(self, *args, **kwargs)

    monkeypatch.setattr(Collection, method, late)
    return calls


@pytest.mark.parametrize("with_lock", [False, True])
def test_slots_are_kept_from_one_job_to_the_next(limited, url, opened, monkeypatch, with_lock):
    """Though another one is faster with the job that comes first."""
    other, job = opened(url), limited.claim("w", NOW).job
    if with_lock:
        limited.add([make_job("l", priority=-9, lock=("x",))])
        assert limited.claim("u", NOW).job.slots == ("lock/x",)
    got = []
    calls = before_next(monkeypatch, "bulk_write", lambda: got.append(other.claim("v", NOW).job.id))
    claim = limited.claim("w", NOW, (job, ended(job)))
    assert got == ["b"]
    assert (claim.job.id, claim.job.slots) == ("c", ("gpu#0",))
    assert limited.get("c") == claim.job
    assert limited.get("a") == ended(job)
    assert [len(steps) for (steps,) in calls] == [4, 3]
    assert limited.claim("x", NOW).job is None


def test_of_a_run_that_counts_no_more_nothing_is_done(limited, url, opened, monkeypatch):
    other, job = opened(url), limited.claim("w", NOW).job
    given_up = job._replace(state="pending", worker=None, slots=(), rev=job.rev + 1)
    asked = job._replace(cancel_requested=True, rev=job.rev + 1)
    for now_stored in (asked, given_up):
        before = {name: other.get(name) for name in "bcde"}
        with monkeypatch.context() as patch:
            before_next(patch, "bulk_write", lambda new=now_stored: put(other, new))
            claim = limited.claim("w", NOW, (job, ended(job)))
        assert claim == (None, False, now_stored)
        assert {name: other.get(name) for name in "bcde"} == {
            name: one if other.get(name) == one else one._replace(rev=one.rev + 2)
            for name, one in before.items()
        }
        put(other, job._replace(rev=now_stored.rev + 1))
        job = other.get("a")


def test_what_a_settled_run_frees_is_claimed_at_once(store, server):
    if server.form == "standalone":
        pytest.skip("a standalone server keeps no jobs that wait for others")
    configure(store, {"limits": {"gpu": 1}})
    store.add([make_job("a", tags=("gpu",))])
    store.add([make_job("b", after=("a",))])
    job = store.claim("w", NOW).job
    assert store.claim("v", NOW).job is None
    assert store.claim("w", NOW, (job, ended(job))).job.id == "b"


@pytest.mark.parametrize("left", [0, 1])
def test_a_settling_that_was_lost_with_a_primary_is_made_again(store, database, monkeypatch, left):
    """It waits for no majority itself: the claim's own write does, if it went to the same one."""
    store.add([make_job(name) for name in "ab"[: 1 + left]])
    job = store.claim("w", NOW).job
    was, terms = database.jobs.find_one({"_id": "a"}), iter([1, 2, 2])
    monkeypatch.setattr(Connection, "term", property(lambda _: next(terms)))
    before_next(
        monkeypatch, "find_one_and_update", lambda: database.jobs.replace_one({"_id": "a"}, was)
    )
    claim = store.claim("w", NOW, (job, ended(job)))
    assert claim.settled
    assert (claim.job and claim.job.id) == ("b" if left else None)
    assert store.get("a") == ended(job)
