"""A job's life: the table of legal moves, and the only functions that change a state.

Two rules hold here. Every move that a job can make stands in TRANSITIONS; any other raises and
changes nothing. And nothing here knows the time, the dice or a worker's fate: the caller says what
happened and when. A function whose rule does not apply returns None.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal, NamedTuple

from queuectl.errors import Conflict, InvalidInput, InvalidTransition
from queuectl.model.backoff import RetryPolicy, deferral_delay, retry_delay
from queuectl.model.fields import FIELDS, State, check_runnable, check_value, find_field
from queuectl.model.job import FINISHED, LONGEST_HISTORY, Job, holds, recurs, with_values
from queuectl.model.times import format_time, parse_time

Event = Literal[
    "claim",
    "fire",
    "skip",
    "succeed",
    "fail",
    "defer",
    "bury",
    "release",
    "lose",
    "cancel",
    "end",
    "retry",
    "replace",
    "fall",
    "fall_cancelled",
]
LATER = 75  # exit code of a run that asks for a later one: EX_TEMPFAIL of sysexits.h
MOST_DEFERRALS = 100  # in a row; a further one counts as a failure like any other
MOST_LOSSES = 3  # workers lost while running one job before the job counts as the cause
_SIGNALLED = range(129, 193)  # 128 + n: signal n killed the command, as a shell tells it
MOST_INTERRUPTIONS = 20  # workers killed after they were asked to stop, before a run has ended

TRANSITIONS: dict[tuple[State, Event], State] = {
    ("pending", "claim"): "in_progress",
    ("failed", "claim"): "in_progress",
    # Of a schedule: a copy runs or not. It is dead when its next time cannot be computed.
    ("pending", "fire"): "pending",
    ("failed", "fire"): "pending",
    ("pending", "skip"): "pending",
    ("failed", "skip"): "pending",
    ("pending", "bury"): "dead",
    ("failed", "bury"): "dead",
    ("in_progress", "succeed"): "completed",
    ("in_progress", "fail"): "failed",
    ("in_progress", "defer"): "failed",
    ("in_progress", "bury"): "dead",
    ("in_progress", "release"): "pending",
    ("in_progress", "lose"): "pending",
    # A parent is dead or cancelled.
    ("pending", "fall"): "dead",
    ("failed", "fall"): "dead",
    ("pending", "fall_cancelled"): "cancelled",
    ("failed", "fall_cancelled"): "cancelled",
    ("pending", "cancel"): "cancelled",
    ("failed", "cancel"): "cancelled",
    # A running job that is asked to end keeps its state; its worker then ends it.
    ("in_progress", "cancel"): "in_progress",
    ("in_progress", "end"): "cancelled",
    ("pending", "retry"): "pending",  # of a job that is not due yet
    ("failed", "retry"): "pending",
    ("dead", "retry"): "pending",
    ("completed", "retry"): "pending",
    ("cancelled", "retry"): "pending",
    ("pending", "replace"): "pending",
    ("failed", "replace"): "pending",
}


class Outcome(NamedTuple):
    """How a run ended. `exit_code` is the shell's (128 + n for signal n), None if there is none.

    `kind`: "exited", "timed_out", "not_started" (folder gone, command too long), "no_resources"
    (cannot fork, no descriptors) or "stopped" (its worker was told to stop now, or asked to end
    it for a cancel).
    """

    kind: Literal["exited", "timed_out", "not_started", "no_resources", "stopped"]
    exit_code: int | None
    error: str | None
    finished_at: str


class Claim(NamedTuple):
    """What a claim did: the job to run, if any.

    If the finished job was not `settled`, because it was changed in between, nothing was claimed
    either. `stored` is then its present form (None: it is no longer live).
    """

    job: Job | None
    settled: bool = True
    stored: Job | None = None


def next_state(job: Job, event: Event) -> State:
    """The state after `event`, or InvalidTransition."""
    try:
        return TRANSITIONS[job.state, event]
    except KeyError:
        raise InvalidTransition(job.id, job.state, event) from None


def _moved(job: Job, event: Event, now: str, **changes: Any) -> Job:
    state = TRANSITIONS.get((job.state, event)) or next_state(job, event)
    changes |= {"state": state, "rev": job.rev + 1, "updated_at": now}
    if job.slots and state != "in_progress":
        changes["slots"] = ()
    return with_values(job, changes)


def _noted(job: Job, event: str, at: str, **facts: object) -> tuple[Any, ...]:
    """The history with one more entry; facts without a value are left out."""
    entry = {"event": event, "at": at, "run": job.run}
    entry |= {name: fact for name, fact in facts.items() if fact is not None}
    return (*job.history, entry)[-LONGEST_HISTORY:]


def claimed(
    job: Job, worker: str, now: str, log_word: str | None = None, slots: tuple[str, ...] = ()
) -> Job:
    """The job as `worker` starts it, holding `slots`; `log_word` is used at its first run only."""
    return _moved(
        job,
        "claim",
        now,
        run=job.run + 1,
        worker=worker,
        log_word=job.log_word if job.run else log_word,
        slots=slots,
        started_at=now,
        finished_at=None,
        exit_code=None,
        error=None,
    )


def fired(job: Job, copy_id: str, due: str, now: str) -> Job:
    """The schedule after a copy was made, put off to its next time `due`."""
    return _moved(job, "fire", now, run_at=due, last=copy_id)


def skipped(job: Job, reason: str, due: str, now: str) -> Job:
    """The schedule put off without a copy."""
    history = _noted(job, "skip", now, reason=reason, planned=job.run_at)
    return _moved(job, "skip", now, run_at=due, history=history)


def stranded(job: Job, why: str, now: str, last: str | None) -> Job:
    """The schedule dead, since its next time cannot be known."""
    history = _noted(job, "fail", now, error=why)
    return _moved(job, "bury", now, error=why, finished_at=now, last=last, history=history)


def settled(
    job: Job, held: Job, outcome: Outcome, policy: Callable[[], RetryPolicy], dice: float, now: str
) -> Job | None:
    """The job after the run `held` ended with `outcome`; None if that run no longer counts.

    `policy` is called only if the run failed and the job has to wait.
    """
    if not holds(job, held):
        return None
    if job.cancel_requested:
        facts = {"exit_code": outcome.exit_code, "error": outcome.error, "reason": outcome.kind}
        return _ended(job, now, **facts)
    if outcome.kind in ("stopped", "no_resources"):
        history = _noted(job, "release", now, reason=outcome.kind, error=outcome.error)
        return _moved(job, "release", now, worker=None, history=history)
    if outcome.kind == "exited" and outcome.exit_code == 0:
        return _moved(
            job,
            "succeed",
            now,
            attempts=job.attempts + 1,
            exit_code=0,
            finished_at=outcome.finished_at,
        )
    return _failed(job, outcome, policy, dice, now)


def _failed(
    job: Job, outcome: Outcome, policy: Callable[[], RetryPolicy], dice: float, now: str
) -> Job:
    attempts, asks_later = job.attempts + 1, outcome.kind == "exited" and outcome.exit_code == LATER
    if asks_later and LATER not in (job.no_retry_on or ()) and job.deferrals < MOST_DEFERRALS:
        return _deferred(job, outcome, policy, now)
    changes: dict[str, Any] = {
        "attempts": attempts,
        "deferrals": 0,
        "exit_code": outcome.exit_code,
        "error": outcome.error or f"exit code {outcome.exit_code}",
        "finished_at": outcome.finished_at,
        "history": _noted(
            job, "fail", outcome.finished_at, exit_code=outcome.exit_code, error=outcome.error
        ),
    }
    if attempts > job.max_retries or not is_retried(job, outcome):
        return _moved(job, "bury", now, **changes)
    due = parse_time(now) + retry_delay(own_policy(job, policy()), attempts, dice)
    return _moved(job, "fail", now, run_at=format_time(due), **changes)


def own_policy(job: Job, policy: RetryPolicy) -> RetryPolicy:
    """How long this job waits: what it says itself, else `policy`."""
    return RetryPolicy(
        policy.base if job.base is None else job.base,
        policy.max_delay if job.max_delay is None else job.max_delay,
        policy.jitter if job.jitter is None else job.jitter,
        job.retry_delay,
    )


def is_retried(job: Job, outcome: Outcome) -> bool:
    """Whether the job's own fields allow another run after such a failure."""
    if job.retry_on is not None:
        return _is_among(job.retry_on, outcome)
    return not _is_among(job.no_retry_on or (), outcome)


def _is_among(causes: Collection[int | str], outcome: Outcome) -> bool:
    if outcome.kind == "timed_out":
        return "timeout" in causes
    code = outcome.exit_code
    return code in causes or ("signal" in causes and code in _SIGNALLED)


def _deferred(job: Job, outcome: Outcome, policy: Callable[[], RetryPolicy], now: str) -> Job:
    """The job waiting, nothing spent: its run asked for a later one."""
    deferrals = job.deferrals + 1
    due = parse_time(now) + deferral_delay(own_policy(job, policy()), deferrals)
    return _moved(
        job,
        "defer",
        now,
        run_at=format_time(due),
        exit_code=LATER,
        error=f"exit code {LATER}: to be run later",
        finished_at=outcome.finished_at,
        deferrals=deferrals,
        history=_noted(job, "later", outcome.finished_at, exit_code=LATER),
    )


def given_back(job: Job, worker: str, held: Job | None, now: str) -> Job | None:
    """The job released from the worker that it names, if that runs `held` (or nothing); else None.

    An edit by hand may have named that worker, or a claim whose answer never reached it.
    """
    if job.state != "in_progress" or job.worker != worker or (held and holds(job, held)):
        return None
    if job.cancel_requested:
        return _ended(job, now)
    history = _noted(job, "release", now, reason="not_run")
    return _moved(job, "release", now, worker=None, history=history)


def _ended(job: Job, now: str, **facts: Any) -> Job:
    """The job cancelled while it ran; the facts about that run go into the history."""
    return _moved(
        job,
        "end",
        now,
        finished_at=now,
        error="cancelled",
        cancel_requested=False,
        history=_noted(job, "cancel", now, **facts),
    )


def lost(job: Job, worker: str | None, now: str, *, asked_to_stop: bool = False) -> Job | None:
    """The job after the worker that ran it died; None if that worker does not run it any more.

    A worker that was asked to stop and then killed by its supervisor is not evidence against the
    job: such losses are counted separately.
    """
    if job.state != "in_progress" or job.worker != worker:
        return None
    if job.cancel_requested:
        return _ended(job, now)
    losses = job.losses + (not asked_to_stop)
    reason = "asked_to_stop" if asked_to_stop else None
    changes: dict[str, Any] = {
        "losses": losses,
        "history": _noted(job, "lose", now, worker=worker, reason=reason),
    }
    if not job.rerun or _interruptions(changes["history"]) >= MOST_INTERRUPTIONS:
        return _moved(job, "bury", now, error="interrupted", finished_at=now, **changes)
    if losses >= MOST_LOSSES:
        return _moved(job, "bury", now, error="lost", finished_at=now, **changes)
    return _moved(job, "lose", now, worker=None, **changes)


def _interruptions(history: tuple[Mapping[str, Any], ...]) -> int:
    """How many workers that were asked to stop the job lost, since a run of it last ended."""
    count = 0
    for entry in reversed(history):
        if entry.get("event") == "edit":
            continue
        if entry.get("event") not in ("lose", "release"):
            break
        count += entry.get("reason") == "asked_to_stop"
    return count


def abandoned(job: Job, now: str) -> Job:
    """The running job given up, though its run may go on; Conflict if the job does not run."""
    if job.state != "in_progress":
        raise Conflict(f"job '{job.id}' is {job.state}: only a running job can be abandoned")
    return _ended(job, now, reason="abandoned", worker=job.worker)


def cancelled(job: Job, now: str) -> Job:
    """The job after a request to cancel it; a running job only carries the request."""
    if job.state == "in_progress":
        return _moved(job, "cancel", now, cancel_requested=True)
    return _moved(job, "cancel", now, finished_at=now, error="cancelled")


def retried(job: Job, now: str) -> Job:
    """The job pending and due now; a job that had ended counts its attempts anew.

    Raises Conflict for a job that is pending and due already.
    """
    if job.state == "pending" and job.run_at <= now:
        raise Conflict(f"job '{job.id}' is pending and due already")
    if job.state in ("pending", "failed"):
        return _moved(job, "retry", now, run_at=now)
    entry = _noted(job, "retry", now, exit_code=job.exit_code, was=job.state)
    return _moved(
        job,
        "retry",
        now,
        run_at=now,
        attempts=0,
        losses=0,
        worker=None,
        exit_code=None,
        error=None,
        finished_at=None,
        deferrals=0,
        history=entry,
    )


def replaced(job: Job, new: Job, now: str) -> Job:
    """The waiting job with the fields of `new`; its id, runs and history stay."""
    return new._replace(
        id=job.id,
        state=next_state(job, "replace"),
        created_at=job.created_at,
        updated_at=now,
        run=job.run,
        rev=job.rev + 1,
        log_word=job.log_word,
        history=_noted(job, "replace", now),
        last=job.last if recurs(new) else None,
        extra=job.extra,
    )


FELL = "dependency: parent '"  # how the error of a job that fell begins


def fallen(job: Job, parent: str, state: str, now: str) -> Job:
    """The waiting job after a parent in its `after` died or was cancelled; no attempt is spent.

    A cancelled parent cancels it: what a person decided does not belong in the DLQ.
    """
    error = f"{FELL}{parent}' is {state}"
    history = _noted(job, "dependency", now, parent=parent, state=state)
    event: Event = "fall" if state == "dead" else "fall_cancelled"
    return _moved(job, event, now, finished_at=now, error=error, history=history)


def risen(job: Job, parent: str, now: str) -> Job:
    """The job that fell, after its parent came back; its run_at still holds."""
    new = retried(job, now)
    history = (*new.history[:-1], {**new.history[-1], "parent": parent})
    return new._replace(run_at=max(job.run_at, now), history=history)


def signed(rule: Callable[[Job], Job | None], by: str, event: str) -> Callable[[Job], Job | None]:
    """The rule, with the author of the request (`by`) in the history entry that it adds.

    If the rule adds no entry, one is added: "cancel", "retry", "ask" (a run was asked to end), or
    else `event`.
    """

    def noting(job: Job) -> Job | None:
        new = rule(job)
        if new is None or new is job:
            return new
        if new.history[-1:] != job.history[-1:]:
            return new._replace(history=(*new.history[:-1], {**new.history[-1], "by": by}))
        if by == "cli":
            return new
        what = event
        if new.cancel_requested and not job.cancel_requested:
            what = "ask"
        elif new.state != job.state:
            what = "cancel" if new.state == "cancelled" else "retry"
        return new._replace(history=_noted(new, what, new.updated_at, by=by))

    return noting if by else rule


_INSTEAD = (
    ("retry_on", "no_retry_on"),
    ("no_retry_on", "retry_on"),
    ("every", "cron", "tz"),
    ("cron", "every"),
)


def edited(job: Job, changes: dict[str, object], now: str) -> Job:
    """The job with some of its fields changed; its state stays.

    InvalidInput for a field that never changes, Conflict for one fixed while the job runs."""
    values: dict[str, Any] = {}
    for name, value in changes.items():
        field = find_field(name)
        if field.edit is None or field.name == "state":
            raise InvalidInput(f"field '{name}' cannot be changed")
        if field.edit == "idle" and job.state == "in_progress":
            raise Conflict(
                f"job '{job.id}' is in_progress: '{name}' cannot be changed while it runs"
            )
        values[field.name] = check_value(field, value)
    check_runnable(values)
    for one, *others in _INSTEAD:
        if values.get(one) is not None:
            values = dict.fromkeys(others) | values  # the last one given decides
    if job.state in FINISHED and values.get("command", job.command) != job.command:
        # What is recorded about its runs holds for the command that it had.
        values["history"] = _noted(job, "edit", now, was=job.command)
    return job._replace(rev=job.rev + 1, updated_at=now, **values)


_WHILE_RUNNING = [f.name for f in FIELDS if f.edit == "always" and f.name != "state"]


def rewritten(job: Job, wanted: Job, now: str) -> Job | None:
    """The job after a person replaced it by `wanted` in a file; None if that changes nothing.

    The state pending means a retry, cancelled a cancel; any other new state raises
    InvalidTransition. A running job changes only as `edited` allows.
    """
    if job.state == "in_progress":
        kept = {name: getattr(wanted, name) for name in (*_WHILE_RUNNING, "extra")}
        base = job._replace(**kept)
    else:
        base = wanted._replace(state=job.state, rev=job.rev, slots=job.slots)
    if wanted.state == job.state:
        return None if base == job else base._replace(rev=job.rev + 1)
    if wanted.state == "cancelled":
        return cancelled(base, now)
    if wanted.state != "pending":
        raise InvalidTransition(job.id, job.state, f"make {wanted.state} of")
    again = retried(base, now)
    return again if wanted.run_at == job.run_at else again._replace(run_at=wanted.run_at)
