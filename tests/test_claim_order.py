"""Which job runs next."""

from __future__ import annotations

import pytest
from samples import configure, make_job, moment

from queuectl.model.claim_order import claim_order, is_ready
from queuectl.model.fields import STATES
from queuectl.store.files.file_store import FileStore


@pytest.mark.parametrize("state", STATES)
def test_only_waiting_jobs_are_ready(state):
    assert is_ready(make_job(state=state), moment()) is (state in ("pending", "failed"))


@pytest.mark.parametrize("state", ["pending", "failed"])
def test_a_job_is_ready_from_its_moment_on(state):
    job = make_job(state=state, run_at=moment(1))
    assert not is_ready(job, moment(0.999999))
    assert is_ready(job, moment(1))
    assert is_ready(job, moment(1.000001))


def test_the_order_is_priority_then_due_time():
    jobs = [
        make_job("late", run_at=moment(9)),
        make_job("early", run_at=moment(1)),
        make_job("urgent", priority=-1, run_at=moment(99)),
        make_job("patient", priority=10, run_at=moment(0)),
    ]
    assert [job.id for job in sorted(jobs, key=claim_order)] == [
        "urgent",
        "early",
        "late",
        "patient",
    ]


def test_jobs_that_tie_compare_equal_so_that_the_store_decides():
    assert claim_order(make_job("b")) == claim_order(make_job("a"))


def test_with_aging_each_step_of_priority_counts_as_seconds_of_waiting():
    jobs = [
        make_job("low", priority=3, run_at=moment(0)),  # as if due at 30
        make_job("new", run_at=moment(31)),
        make_job("newer", priority=-1, run_at=moment(40.5)),  # 30.5
        make_job("tie", priority=1, run_at=moment(20)),  # 30, too: the one that was due first
    ]
    assert [job.id for job in sorted(jobs, key=lambda job: claim_order(job, 10.0))] == [
        *("low", "tie", "newer", "new"),
    ]
    assert claim_order(jobs[0], 0.0) == claim_order(jobs[0]) == (3, moment(0))
    far = make_job("far", priority=1_000_000, run_at="9999-12-31T23:59:59.000000Z")
    assert claim_order(far, 1e9) > claim_order(far, 1e-3) > claim_order(jobs[0], 1e9)


def test_a_change_of_aging_counts_at_the_next_claim(data_dir):
    store = FileStore(data_dir)
    other = FileStore(data_dir)
    store.add([make_job("low", priority=1), make_job("new", run_at=moment(50))])
    store.add([make_job(f"more{number}", priority=2) for number in range(3)])
    assert store.claim("w", moment(60)).job.id == "new"
    store.add([make_job("new2", run_at=moment(50))])
    configure(other, {"aging": 10})
    assert store.claim("w", moment(60)).job.id == "low"
    configure(other, {})
    assert store.claim("w", moment(60)).job.id == "new2"
    for each in (store, other):
        each.close()


def test_aging_is_a_setting_and_is_told_by_explain(cli):
    refused = cli("config", "set", "aging", "-1")
    assert (refused.code, refused.out) == (2, "")
    long_since = "2020-01-01T00:00:00Z"
    cli.ok("enqueue", "--id", "low", "--priority", "1", "--run-at", long_since, "--", "x")
    cli.ok("enqueue", "--id", "new", "--", "x")
    assert cli.ok("explain", "low", "-q").split() == ["no_workers", "behind"]
    cli.ok("config", "set", "aging", "1h")
    assert cli.ok("config", "get", "aging", "-q") == "3600\n"
    assert cli.ok("explain", "low", "-q").split() == ["no_workers", "next"]
    cli.ok("config", "set", "aging", "none")
    assert cli.ok("explain", "low", "-q").split() == ["no_workers", "behind"]
