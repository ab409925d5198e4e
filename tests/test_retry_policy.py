"""A job's own retry fields: the wait, what is retried at all, and exit code 75."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import make_job

from queuectl.errors import InvalidInput
from queuectl.model import lifecycle
from queuectl.model.backoff import RetryPolicy, deferral_delay, retry_delay
from queuectl.model.fields import check_value, find_field
from queuectl.model.job import job_from_person, new_job
from queuectl.model.lifecycle import LATER, MOST_DEFERRALS, Outcome, settled
from queuectl.model.times import parse_time

NOW = "2026-01-01T00:00:00.000000Z"
SETTINGS = RetryPolicy(2.0, 86_400.0)


def run(job, code=1, kind="exited", dice=0.0):
    """The job after one more run that ended so."""
    held = lifecycle.claimed(job, "w-1", NOW)
    outcome = Outcome(kind, code, f"exit code {code}" if code else None, NOW)
    after = settled(held, held, outcome, lambda: SETTINGS, dice, NOW)
    assert after is not None
    return after


def waits(job):
    return parse_time(job.run_at) - parse_time(NOW)


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ({}, [2, 4, 8]),
        ({"base": 3}, [3, 9, 27]),
        ({"retry_delay": 300, "base": 1}, [300, 300, 300]),
        ({"retry_delay": 300}, [300, 600, 1200]),
        ({"retry_delay": 0}, [0, 0, 0]),
        ({"max_delay": 5}, [2, 4, 5]),
        ({"retry_delay": 100, "max_delay": 10}, [10, 10, 10]),
    ],
)
def test_the_wait_is_the_jobs_own_and_else_that_of_the_settings(own, expected):
    job, found = make_job(max_retries=9, **own), []
    for _ in expected:
        job = run(job)
        found.append(waits(job))
    assert found == expected


def test_jitter_of_its_own_shortens_its_wait():
    assert waits(run(make_job(jitter=1.0, retry_delay=8), dice=0.25)) == 6


@given(
    first=st.floats(0, 1e9), base=st.floats(0, 1e6), n=st.integers(1, 10**6), cap=st.floats(0, 1e9)
)
def test_no_wait_overflows_or_exceeds_the_cap(first, base, n, cap):
    policy = RetryPolicy(base, cap, 0.0, first)
    assert 0 <= retry_delay(policy, n) <= cap
    assert 0 <= deferral_delay(policy, n) <= cap


@pytest.mark.parametrize(
    ("own", "code", "kind", "state"),
    [
        ({"retry_on": [1, 3]}, 3, "exited", "failed"),
        ({"retry_on": [1, 3]}, 2, "exited", "dead"),
        ({"retry_on": ["timeout"]}, 143, "timed_out", "failed"),
        ({"retry_on": [143]}, 143, "timed_out", "dead"),
        ({"retry_on": ["signal"]}, 139, "exited", "failed"),
        ({"retry_on": ["signal"]}, 1, "exited", "dead"),
        ({"retry_on": ["signal"]}, 192, "exited", "failed"),
        ({"no_retry_on": ["signal"]}, 255, "exited", "failed"),
        ({"retry_on": [1]}, None, "not_started", "dead"),
        ({"no_retry_on": [2]}, 2, "exited", "dead"),
        ({"no_retry_on": [2]}, 3, "exited", "failed"),
        ({"no_retry_on": ["timeout"]}, 143, "timed_out", "dead"),
        ({"no_retry_on": ["signal"]}, None, "not_started", "failed"),
    ],
)
def test_only_what_it_names_is_retried(own, code, kind, state):
    after = run(make_job(max_retries=3, **own), code, kind)
    assert (after.state, after.attempts) == (state, 1)


def test_exit_code_75_asks_for_a_later_run_and_spends_nothing():
    job, found = make_job(max_retries=0, max_delay=200.0), []
    for _ in range(3):
        job = run(job, LATER)
        found.append((job.state, job.attempts, job.deferrals, waits(job)))
    assert found == [("failed", 0, 1, 60), ("failed", 0, 2, 120), ("failed", 0, 3, 200)]
    assert [entry["event"] for entry in job.history] == ["later"] * 3
    assert waits(run(make_job(retry_delay=0.0), LATER)) == 60
    done = run(job, 0)
    assert (done.state, done.attempts) == ("completed", 1)


def test_it_cannot_be_put_off_for_ever():
    job = make_job(max_retries=1)
    for _ in range(2 * (MOST_DEFERRALS + 1)):
        assert job.state != "dead"
        job = run(job, LATER)
    assert (job.state, job.attempts) == ("dead", 2)
    again = lifecycle.retried(job, NOW)
    assert again.deferrals == 0


def test_a_job_may_take_75_for_a_failure_and_a_cancel_comes_first():
    assert run(make_job(max_retries=3, no_retry_on=[LATER]), LATER).state == "dead"
    held = lifecycle.cancelled(lifecycle.claimed(make_job(), "w-1", NOW), NOW)
    outcome = Outcome("exited", LATER, "exit code 75", NOW)
    after = settled(held, held, outcome, lambda: SETTINGS, 0.0, NOW)
    assert after is not None
    assert after.state == "cancelled"


@pytest.mark.parametrize(
    ("name", "given", "kept"),
    [
        ("retry_on", [75, "timeout", 1], [1, 75, "timeout"]),
        ("retry_on", "1, 3 signal", [1, 3, "signal"]),
        ("no_retry_on", [2, 2], [2]),
        ("retry_on", 4, [4]),
        ("retry_delay", "5m", 300.0),
        ("retry_delay", 0, 0.0),
        ("log_limit", "5MB", 5_000_000),
        ("log_limit", "none", 0),
        ("base", "1.5", 1.5),
        ("jitter", 1, 1.0),
        ("max_delay", "1h", 3600.0),
        ("base", None, None),
    ],
)
def test_a_value_is_kept_in_one_form(name, given, kept):
    assert check_value(find_field(name), given) == kept


@pytest.mark.parametrize(
    ("name", "given", "why"),
    [
        ("retry_on", [0], "exit codes 1 to 255, timeout and signal"),
        ("retry_on", ["often"], "exit codes 1 to 255, timeout and signal"),
        ("retry_on", [], "names nothing"),
        ("base", "much", "must be a number"),
        ("base", -1, "between 0 and 1e+06"),
        ("jitter", 2, "between 0 and 1"),
        ("jitter", float("nan"), "between 0 and 1"),
        ("max_delay", 0, "more than 0"),
        ("log_limit", "much", "'much' is not a size"),
        ("log_limit", -1, "between 0 and"),
        ("log_limit", 1.5, "a number of bytes, not 1.5"),
    ],
)
def test_nonsense_is_refused(name, given, why):
    with pytest.raises(InvalidInput, match=why.replace("+", r"\+")):
        check_value(find_field(name), given)


def test_one_of_the_two_lists_says_what_is_retried():
    draft = {"command": "true", "retry_on": [1], "no_retry_on": [2]}
    with pytest.raises(InvalidInput, match="retry_on or no_retry_on, not both"):
        new_job(draft, job_id="a", defaults=make_job())


def test_a_list_that_is_given_takes_the_place_of_the_other():
    job = lifecycle.edited(make_job(retry_on=[1]), {"no_retry_on": [2]}, NOW)
    assert (job.retry_on, job.no_retry_on) == (None, [2])


def test_a_null_in_a_file_stands_for_the_default():
    form = {"id": "a", "command": "x", "deferrals": None, "base": None, "retry_on": None}
    assert job_from_person(form, now=NOW, state="pending").deferrals == 0


def test_an_empty_option_of_update_takes_away_what_a_job_may_lack(cli):
    given = {
        "timeout": "5m", "env": "A=b", "env_file": "/x", "lock": "l", "retry_delay": "5",
        "base": "1", "max_delay": "9", "jitter": "0.5", "retry_on": "1", "log_limit": "5MB",
    }  # fmt: skip
    options = {name: f"--{name.replace('_', '-')}" for name in (*given, "no_retry_on", "cwd")}
    cli.ok("enqueue", "--id", "a", *(f"{options[name]}={given[name]}" for name in given), "--", "x")
    before = json.loads(cli.ok("show", "a", "--json"))["job"]
    assert all(before[name] for name in given)
    cli.ok("update", "a", *(f"{option}=" for option in options.values()))
    after = json.loads(cli.ok("show", "a", "--json"))["job"]
    assert {after[name] for name in options if name != "lock"} == {None}
    assert after["lock"] == []
    for option in ("--priority", "--max-retries", "--run-at", "--command"):
        assert cli("update", "a", option, "").code == 2
    assert cli("enqueue", "--timeout", "", "--", "x").code == 2
    assert cli("enqueue", "--lock", "", "--", "x").code == 2
