"""Which job runs next."""

from __future__ import annotations

import pytest
from samples import make_job, moment

from queuectl.model.fields import STATES
from queuectl.model.scheduling import claim_order, is_ready


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
