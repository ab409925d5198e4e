"""A job's life: every state and every event, the fence, losses, cancelling, retrying."""

from __future__ import annotations

from typing import get_args

import pytest
from samples import ended, make_job, moment

from queuectl.errors import Conflict, InvalidInput, InvalidTransition
from queuectl.model import lifecycle
from queuectl.model.backoff import RetryPolicy
from queuectl.model.fields import STATES
from queuectl.model.job import FINISHED, LIVE, LONGEST_HISTORY, holds

POLICY = RetryPolicy(base=2.0, max_delay=100.0)
NOW = moment(10)


def running(**fields):
    known = {"state": "in_progress", "worker": "w-1", "run": 1, "started_at": moment(1)}
    return make_job(**{**known, **fields})


def settle(job, outcome, held=None, policy=POLICY, dice=0.0):
    return lifecycle.settled(job, held or job, outcome, lambda: policy, dice, NOW)


# -- the table

WAITING = {"replace": "pending", "fire": "pending", "skip": "pending", "bury": "dead"}
WAITING |= {"fall": "dead", "fall_cancelled": "cancelled"}
LEGAL = {
    "pending": {"claim": "in_progress", "cancel": "cancelled", "retry": "pending", **WAITING},
    "failed": {"claim": "in_progress", "cancel": "cancelled", "retry": "pending", **WAITING},
    "in_progress": {
        "succeed": "completed",
        "fail": "failed",
        "defer": "failed",
        "bury": "dead",
        "release": "pending",
        "lose": "pending",
        "cancel": "in_progress",
        "end": "cancelled",
    },
    "completed": {"retry": "pending"},
    "dead": {"retry": "pending"},
    "cancelled": {"retry": "pending"},
}


@pytest.mark.parametrize("event", get_args(lifecycle.Event))
@pytest.mark.parametrize("state", STATES)
def test_every_state_meets_every_event(state, event):
    job = make_job(state=state)
    if event in LEGAL[state]:
        assert lifecycle.next_state(job, event) == LEGAL[state][event]
    else:
        with pytest.raises(InvalidTransition) as caught:
            lifecycle.next_state(job, event)
        assert str(caught.value) == f"job 'job1' is {state}: cannot {event} it"
        assert caught.value.exit_code == 4


def test_the_table_holds_nothing_else():
    spelled = {(state, event) for state, moves in LEGAL.items() for event in moves}
    assert set(lifecycle.TRANSITIONS) == spelled


def test_every_state_is_live_or_finished():
    assert set(STATES) == LIVE | FINISHED
    assert not LIVE & FINISHED


# -- claim


@pytest.mark.parametrize("state", ["pending", "failed"])
def test_a_claim_starts_a_fresh_run(state):
    job = make_job(state=state, run=4, attempts=2, rev=7, exit_code=1, error="x", finished_at=NOW)
    got = lifecycle.claimed(job, "w-9", NOW)
    assert (got.state, got.run, got.worker, got.started_at) == ("in_progress", 5, "w-9", NOW)
    assert (got.exit_code, got.error, got.finished_at) == (None, None, None)
    assert (got.attempts, got.rev, got.updated_at) == (2, 8, NOW)


@pytest.mark.parametrize("state", sorted(set(STATES) - {"pending", "failed"}))
def test_only_waiting_jobs_are_claimed(state):
    with pytest.raises(InvalidTransition):
        lifecycle.claimed(make_job(state=state), "w-9", NOW)


# -- settle


def test_success_completes():
    got = settle(running(), ended(0, at=9))
    assert (got.state, got.attempts, got.exit_code) == ("completed", 1, 0)
    assert (got.finished_at, got.updated_at, got.rev) == (moment(9), NOW, 2)
    assert got.error is None
    assert got.history == ()


@pytest.mark.parametrize(
    ("outcome", "error"),
    [
        (ended(1), "exit code 1"),
        (ended(137, error="killed by signal 9 (SIGKILL)"), "killed by signal 9 (SIGKILL)"),
        (ended(143, "timed_out", error="timed out after 5s"), "timed out after 5s"),
        (ended(0, "timed_out", error="timed out after 5s"), "timed out after 5s"),
        (ended(None, "not_started", error="no such folder: /x"), "no such folder: /x"),
    ],
)
def test_a_failure_with_retries_left_waits(outcome, error):
    got = settle(running(attempts=1), outcome)
    assert (got.state, got.attempts, got.error) == ("failed", 2, error)
    assert got.exit_code == outcome.exit_code
    assert got.run_at == moment(10 + 4)
    assert got.finished_at == outcome.finished_at
    assert got.history[-1]["event"] == "fail"
    assert got.history[-1]["run"] == 1
    assert got.history[-1]["at"] == outcome.finished_at


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_a_failure_with_none_left_is_buried(retries):
    got = settle(running(attempts=retries, max_retries=retries), ended(2))
    assert (got.state, got.attempts, got.exit_code) == ("dead", retries + 1, 2)
    assert got.error == "exit code 2"
    assert got.worker == "w-1"


def test_max_retries_runs_once_more_than_it_says():
    job, states = make_job(max_retries=2), []
    while job.state in ("pending", "failed"):
        job = settle(lifecycle.claimed(job, "w-1", NOW), ended(1))
        states.append(job.state)
    assert states == ["failed", "failed", "dead"]
    assert (job.run, job.attempts) == (3, 3)
    assert [entry["run"] for entry in job.history] == [1, 2, 3]


def test_max_retries_lowered_while_it_ran_counts():
    job = running(attempts=2, max_retries=5)
    job = lifecycle.edited(job, {"max_retries": 1}, NOW)
    assert settle(job, ended(1)).state == "dead"


@pytest.mark.parametrize("kind", ["stopped", "no_resources"])
def test_a_run_that_says_nothing_of_the_job_spends_nothing(kind):
    job = running(attempts=2, run=5)
    got = settle(job, ended(143, kind, error="why"))
    assert (got.state, got.attempts, got.run, got.losses) == ("pending", 2, 5, 0)
    assert got.worker is None
    assert got.run_at == job.run_at
    assert got.history[-1] == {
        "event": "release",
        "at": NOW,
        "run": 5,
        "reason": kind,
        "error": "why",
    }


def test_jitter_shortens_the_wait():
    got = settle(running(attempts=2), ended(1), policy=RetryPolicy(2.0, 100.0, 0.5), dice=0.5)
    assert got.run_at == moment(10 + 8 * 0.75)


def test_the_wait_does_not_overflow_at_any_attempt():
    job = running(attempts=9_999, max_retries=1_000_000)
    assert settle(job, ended(1), policy=RetryPolicy(10.0, 1e9)).run_at == moment(10 + 1e9)


# -- the fence


@pytest.mark.parametrize(
    "newer",
    [
        running(run=2),
        running(worker="w-2"),
        running(worker=None),
        *[make_job(state=s, worker="w-1", run=1) for s in STATES if s != "in_progress"],
    ],
)
@pytest.mark.parametrize("outcome", [ended(0), ended(1), ended(None, "stopped")])
def test_a_result_of_a_run_that_was_given_up_counts_no_more(newer, outcome):
    assert lifecycle.settled(newer, running(), outcome, lambda: POLICY, 0.0, NOW) is None


def test_a_result_counts_though_other_things_changed():
    newer = running(priority=5, max_retries=9, rev=44)
    got = lifecycle.settled(newer, running(), ended(0), lambda: POLICY, 0.0, NOW)
    assert (got.state, got.priority, got.rev) == ("completed", 5, 45)


def test_another_jobs_result_is_refused():
    assert not holds(running(), running()._replace(id="job2"))


# -- losses


def test_a_lost_worker_spends_no_retry():
    got = lifecycle.lost(running(attempts=1), "w-1", NOW)
    assert (got.state, got.losses, got.attempts, got.run, got.worker) == ("pending", 1, 1, 1, None)
    assert got.history[-1] == {"event": "lose", "at": NOW, "run": 1, "worker": "w-1"}


def lose_after_a_stop(job):
    return lifecycle.lost(lifecycle.claimed(job, "w-1", NOW), "w-1", NOW, asked_to_stop=True)


def test_a_worker_killed_after_it_was_asked_to_stop_is_not_evidence_against_the_job():
    job = lose_after_a_stop(lose_after_a_stop(lose_after_a_stop(make_job("a"))))
    assert (job.state, job.losses, job.attempts) == ("pending", 0, 0)
    assert job.history[-1]["reason"] == "asked_to_stop"


def test_twenty_such_losses_in_a_row_bury():
    job = make_job("a", max_retries=3)
    for _ in range(19):
        job = lose_after_a_stop(job)
    assert job.state == "pending"
    job = lose_after_a_stop(job)
    assert (job.state, job.error, job.losses) == ("dead", "interrupted", 0)


def test_an_end_starts_the_count_of_such_losses_anew():
    job = make_job("a", max_retries=3)
    for _ in range(19):
        job = lose_after_a_stop(job)
    claimed = lifecycle.claimed(job, "w-1", NOW)
    job = settle(claimed, ended(3), claimed)
    for _ in range(19):
        job = lose_after_a_stop(job)
    assert job.state == "pending"


def test_only_a_running_job_can_be_abandoned():
    got = lifecycle.abandoned(running(), NOW)
    assert (got.state, got.error, got.history[-1]["reason"]) == (
        "cancelled",
        "cancelled",
        "abandoned",
    )
    with pytest.raises(Conflict, match="only a running job"):
        lifecycle.abandoned(make_job("a"), NOW)


def test_three_losses_bury():
    job, states = make_job(), []
    for _ in range(lifecycle.MOST_LOSSES):
        job = lifecycle.lost(lifecycle.claimed(job, "w-1", NOW), "w-1", NOW)
        states.append((job.state, job.losses))
    assert states == [("pending", 1), ("pending", 2), ("dead", 3)]
    assert (job.error, job.finished_at) == ("lost", NOW)


def test_a_job_that_must_not_rerun_is_buried_at_once():
    got = lifecycle.lost(running(rerun=False), "w-1", NOW)
    assert (got.state, got.error, got.losses) == ("dead", "interrupted", 1)


@pytest.mark.parametrize("job", [running(worker="w-2"), make_job(worker="w-1")])
def test_only_the_dead_workers_jobs_are_lost(job):
    assert lifecycle.lost(job, "w-1", NOW) is None


# -- cancel


@pytest.mark.parametrize("state", ["pending", "failed"])
def test_a_waiting_job_is_cancelled(state):
    got = lifecycle.cancelled(make_job(state=state), NOW)
    assert (got.state, got.finished_at, got.error, got.rev) == ("cancelled", NOW, "cancelled", 2)
    assert not got.cancel_requested


@pytest.mark.parametrize("state", ["completed", "dead", "cancelled"])
def test_an_ended_job_cannot_be_cancelled(state):
    with pytest.raises(InvalidTransition, match=f"is {state}: cannot cancel it"):
        lifecycle.cancelled(make_job(state=state), NOW)


@pytest.mark.parametrize(
    ("outcome", "noted"),
    [
        (ended(0), {"exit_code": 0, "reason": "exited"}),
        (ended(3, error="boom"), {"exit_code": 3, "reason": "exited", "error": "boom"}),
        (ended(None, "stopped"), {"reason": "stopped"}),
        (ended(143, "timed_out", error="slow"), {"exit_code": 143, "reason": "timed_out"}),
    ],
)
def test_a_running_job_that_was_cancelled_ends_cancelled_however_it_ends(outcome, noted):
    job = lifecycle.cancelled(running(attempts=1), NOW)
    assert (job.state, job.cancel_requested, job.worker) == ("in_progress", True, "w-1")
    got = settle(job, outcome)
    assert (got.state, got.cancel_requested, got.error) == ("cancelled", False, "cancelled")
    assert (got.attempts, got.finished_at) == (1, NOW)
    assert got.history[-1]["event"] == "cancel"
    assert noted.items() <= got.history[-1].items()


def test_a_cancelled_run_whose_worker_is_lost_ends_cancelled():
    got = lifecycle.lost(lifecycle.cancelled(running(), NOW), "w-1", NOW)
    assert (got.state, got.losses, got.cancel_requested) == ("cancelled", 0, False)


def test_cancelling_twice_is_not_an_error_while_it_runs():
    got = lifecycle.cancelled(lifecycle.cancelled(running(), NOW), NOW)
    assert got.cancel_requested


# -- retry


@pytest.mark.parametrize("state", ["pending", "failed"])
def test_retry_of_a_job_that_waits_for_its_time_keeps_its_attempts(state):
    job = make_job(state=state, attempts=2, losses=1, run=3, run_at=moment(999))
    got = lifecycle.retried(job, NOW)
    assert (got.state, got.attempts, got.losses, got.run) == ("pending", 2, 1, 3)
    assert got.run_at == NOW
    assert got.history == ()


@pytest.mark.parametrize("state", ["dead", "completed", "cancelled"])
def test_retry_of_an_ended_job_starts_its_count_anew(state):
    old = ({"event": "fail", "at": NOW, "run": 1},)
    job = make_job(
        **{"state": state, "attempts": 4, "losses": 2, "run": 6, "exit_code": 7, "error": "x"},
        **{"finished_at": NOW, "worker": "w-1", "history": old, "run_at": moment(999)},
    )
    got = lifecycle.retried(job, NOW)
    assert (got.state, got.attempts, got.losses, got.run) == ("pending", 0, 0, 6)
    assert (got.exit_code, got.error, got.finished_at, got.worker) == (None, None, None, None)
    assert got.run_at == NOW
    assert got.history == (
        *old,
        {"event": "retry", "at": NOW, "run": 6, "exit_code": 7, "was": state},
    )


@pytest.mark.parametrize(
    ("job", "rule", "by", "entry"),
    [
        ({"state": "failed"}, lifecycle.retried, "cli", None),
        ({"state": "failed"}, lifecycle.retried, "web", {"event": "retry", "by": "web"}),
        ({"state": "dead"}, lifecycle.retried, "cli", {"event": "retry", "was": "dead"}),
        ({"state": "pending"}, lifecycle.cancelled, "web", {"event": "cancel", "by": "web"}),
        ({"state": "in_progress"}, lifecycle.cancelled, "web", {"event": "ask", "by": "web"}),
        ({"state": "in_progress"}, lifecycle.abandoned, "web", {"event": "cancel", "by": "web"}),
        ({"state": "dead"}, lambda job, now: None, "web", None),
    ],
)
def test_the_asker_of_a_change_stands_in_the_history(job, rule, by, entry):
    job = make_job(run=2, exit_code=1, history=({"event": "x"},), **job)
    got = lifecycle.signed(lambda job: rule(job, NOW), by, "edit")(job)
    added = None if got is None else list(got.history[1:])
    if entry is None:
        assert not added
    else:
        assert added[0].items() >= {"at": NOW, "run": 2, "by": by, **entry}.items()
    assert lifecycle.signed(rule, "", "edit") is rule


def test_an_edit_by_the_page_stands_in_the_history():
    rule = lifecycle.signed(lambda job: lifecycle.edited(job, {"priority": 1}, NOW), "web", "edit")
    entry = {"event": "edit", "at": NOW, "run": 0, "by": "web"}
    assert rule(make_job()).history == (entry,)


def test_nothing_else_can_be_retried():
    with pytest.raises(InvalidTransition, match="cannot retry it"):
        lifecycle.retried(make_job(state="in_progress"), NOW)
    with pytest.raises(Conflict, match="is pending and due already"):
        lifecycle.retried(make_job(state="pending", run_at=NOW), NOW)


# -- history, removal, edits


def test_the_history_is_capped_at_its_newest_entries():
    job = make_job(max_retries=1000)
    for _ in range(LONGEST_HISTORY + 20):
        job = settle(lifecycle.claimed(job, "w-1", NOW), ended(1))
    assert len(job.history) == LONGEST_HISTORY
    assert job.history[-1]["run"] == LONGEST_HISTORY + 20
    assert job.history[0]["run"] == 21


ANYTIME = {"priority": 4, "max_retries": 9}
IDLE = {
    "command": "false",
    "run_at": moment(50),
    "timeout": 5.0,
    "cwd": "/tmp",
    "env": {"A": "b"},
    "rerun": False,
}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("name", [*ANYTIME, *IDLE])
def test_fields_are_edited_in_every_state_but_some_not_while_it_runs(state, name):
    job, value = make_job(state=state), {**ANYTIME, **IDLE}[name]
    if state == "in_progress" and name in IDLE:
        with pytest.raises(Conflict, match=f"'{name}' cannot be changed while it runs"):
            lifecycle.edited(job, {name: value}, NOW)
    else:
        got = lifecycle.edited(job, {name: value}, NOW)
        assert getattr(got, name) == value
        assert (got.state, got.rev, got.updated_at) == (state, 2, NOW)


def test_another_command_of_a_job_that_has_ended_is_noted_with_the_one_that_ran():
    job = make_job(state="completed", run=1)
    [noted] = lifecycle.edited(job, {"command": "other"}, NOW).history
    assert noted == {"event": "edit", "at": NOW, "run": 1, "was": job.command}
    assert lifecycle.edited(job, {"command": job.command}, NOW).history == ()
    assert lifecycle.edited(make_job(), {"command": "other"}, NOW).history == ()


@pytest.mark.parametrize(
    "name",
    [
        *("id", "state", "attempts", "run", "losses", "rev", "created_at", "updated_at"),
        *("started_at", "finished_at", "exit_code", "error", "worker", "cancel_requested"),
        "history",
    ],
)
def test_fields_that_queuectl_sets_are_not_edited(name):
    with pytest.raises(InvalidInput, match=f"field '{name}' cannot be changed"):
        lifecycle.edited(make_job(), {name: "1"}, NOW)


def test_an_edit_that_is_wrong_in_one_field_changes_nothing():
    job = make_job()
    with pytest.raises(InvalidInput, match="unknown field 'comand'"):
        lifecycle.edited(job, {"priority": 1, "comand": "x"}, NOW)
    assert job == make_job()


def test_old_spellings_are_edited_too():
    got = lifecycle.edited(make_job(), {"run_timeout": "5m", "available_at": moment(7)}, NOW)
    assert (got.timeout, got.run_at) == (300.0, moment(7))


def test_a_limit_is_taken_away_by_null():
    got = lifecycle.edited(make_job(timeout=5.0, cwd="/x"), {"timeout": None, "cwd": None}, NOW)
    assert (got.timeout, got.cwd) == (None, None)


# -- given back by a worker that does not run it


def test_a_job_that_its_worker_does_not_run_is_pending_again_with_nothing_spent():
    given_back = lifecycle.given_back
    job = make_job("a", state="in_progress", worker="w", run=3, attempts=1, losses=2)
    for held in (None, make_job("b", state="in_progress", worker="w"), job._replace(run=2)):
        back = given_back(job, "w", held, moment(9))
        assert (back.state, back.worker, back.rev) == ("pending", None, job.rev + 1)
        assert (back.attempts, back.losses, back.run) == (1, 2, 3)
        assert back.history[-1] == {
            "event": "release",
            "at": moment(9),
            "run": 3,
            "reason": "not_run",
        }
    assert given_back(job, "w", job, moment(9)) is None
    assert given_back(job, "other", None, moment(9)) is None
    assert given_back(job._replace(state="pending"), "w", None, moment(9)) is None
    asked = given_back(job._replace(cancel_requested=True), "w", None, moment(9))
    assert (asked.state, asked.cancel_requested) == ("cancelled", False)
