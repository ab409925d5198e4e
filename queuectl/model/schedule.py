"""Schedules: jobs that never run themselves; a copy of one runs whenever it is due.

A worker that claims a schedule puts it off to its next time and runs a copy, both in one step of
the store. However long no worker ran, one copy makes up for all that was missed.
"""

from __future__ import annotations

from typing import Any

from queuectl.errors import Conflict, InvalidInput
from queuectl.model import lifecycle
from queuectl.model.fields import FIELDS, LONGEST_SCHEDULE_ID, RECURS, SCHEDULE, SCHEDULED
from queuectl.model.job import CLAIMABLE, Job, recurs
from queuectl.model.times import format_duration, format_time, parse_time

LATE = 60.0  # seconds; a schedule that does not catch up skips what is later than this
_RULE = slice(Job._fields.index("every"), Job._fields.index("cron") + 1)
# Fields of a schedule that its copies do not have.
_ITS_OWN = {"id", "state", "run_at", "unique", "after", "after_end", *RECURS, *SCHEDULE}
_COPIED = [field.name for field in FIELDS if field.enqueue and field.name not in _ITS_OWN]


def next_time(job: Job, now: str) -> str:
    """When the schedule is due next after `now`; InvalidInput if that cannot be computed.

    `every` counts from when it was due, so that it does not drift; `cron` goes by the clock.
    """
    if job.every is None:
        from queuectl.model.cron import next_fitting

        return format_time(next_fitting(str(job.cron), job.tz, parse_time(now)))
    micro = 1_000_000
    period = max(1, round(job.every * micro))
    due, moment = round(parse_time(job.run_at) * micro), round(parse_time(now) * micro)
    return format_time((due + max(1, (moment - due) // period + 1) * period) / micro)


def check(job: Job) -> Job:
    """The job itself; InvalidInput for a bad schedule, or a schedule's options without one."""
    if not recurs(job):
        for name in sorted(SCHEDULED.difference(RECURS)):
            if getattr(job, name) != Job._field_defaults[name]:
                raise InvalidInput(
                    f"{name} goes with {'cron' if name == 'tz' else 'every or cron'}"
                )
    elif (job.tz is None) is not (job.cron is None):
        raise InvalidInput(
            "tz goes with cron: every counts from the time before"
            if job.cron is None
            else "cron needs a tz, the name of a time zone like Europe/Berlin"
        )
    elif len(job.id) > LONGEST_SCHEDULE_ID:
        raise InvalidInput(
            f"the id of a schedule has at most {LONGEST_SCHEDULE_ID} characters, as those of its "
            f"copies begin with it; this one has {len(job.id)}"
        )
    return job


def begun(job: Job, now: str, *, timed: bool) -> Job:
    """A new job as it is stored: a `cron` schedule gets its first time.

    `timed`: its run_at was given. Raises InvalidInput as `check` does.
    """
    if check(job).cron is None:
        return job
    at = format_time(parse_time(job.run_at) - 1e-6) if timed else now  # that moment itself will do
    return job._replace(run_at=next_time(job, at))


def replanned(before: Job, job: Job, now: str, *, timed: bool) -> Job:
    """A job after its fields changed; one whose schedule changed gets a new next time.

    `timed`: its run_at was given. Raises Conflict for options that do not fit the job, and for a
    change to or from a schedule; InvalidInput for a cron that matches no time.
    """
    if recurs(before) is not recurs(job):
        what = "a schedule" if recurs(before) else "not a schedule"
        raise Conflict(f"job '{job.id}' is {what} and stays so: cancel it and enqueue another")
    try:
        check(job)
    except InvalidInput as exc:
        raise Conflict(f"job '{job.id}': {exc}") from None
    if job[_RULE] == before[_RULE] and job.tz == before.tz:
        return job
    due = next_time(job if job.every is None else job._replace(run_at=now), now)
    return job if timed else job._replace(run_at=due)


def copy_id(job: Job, made: str) -> str:
    """The id of a copy: it begins with the schedule's, which in a file may have any length."""
    return f"{job.id[:LONGEST_SCHEDULE_ID]}:{made}"


def fired(job: Job, copy_id: str, now: str, *, lives: bool) -> tuple[Job, Job | None]:
    """The schedule after a worker found it due at `now`, and the pending copy unless skipped.

    `lives`: its last copy is live. A schedule whose next time cannot be computed is then dead.
    """
    late = parse_time(now) - parse_time(job.run_at)
    try:
        due = next_time(job, now)
    except InvalidInput as exc:
        copy = None if lives and not job.overlap else _copy(job, copy_id, now)
        return lifecycle.stranded(job, str(exc), now, copy_id if copy else job.last), copy
    if lives and not job.overlap:
        return lifecycle.skipped(job, "overlap", due, now), None
    if not job.catch_up and late > LATE:
        return lifecycle.skipped(job, "late", due, now), None
    return lifecycle.fired(job, copy_id, due, now), _copy(job, copy_id, now)


def retried(job: Job, now: str) -> Job:
    """The job after a retry: due now, except a schedule that had ended, which waits for its time.

    A second retry makes it due. Raises InvalidInput if its next time cannot be computed.
    """
    new = lifecycle.retried(job, now)
    if not recurs(job) or job.state in CLAIMABLE:
        return new
    return new._replace(run_at=_coming(job, now))


def rewritten(job: Job, wanted: Job, now: str) -> Job | None:
    """The job as `lifecycle.rewritten` makes it; a schedule that had ended waits for its time."""
    new = lifecycle.rewritten(job, wanted, now)
    if new is None or wanted.run_at != job.run_at:
        return new
    return brought_back(job, new, now)


def brought_back(job: Job, new: Job, now: str) -> Job:
    """`new`, which the job became; a schedule that had ended waits for its next time.

    If its next time cannot be computed it stays due, and dies of that when it is claimed.
    """
    if not recurs(new) or job.state in CLAIMABLE or new.state not in CLAIMABLE:
        return new
    try:
        return new._replace(run_at=_coming(new._replace(run_at=job.run_at), now))
    except InvalidInput:
        return new


def _coming(job: Job, now: str) -> str:
    return job.run_at if job.run_at > now else next_time(job, now)


def _copy(job: Job, copy_id: str, now: str) -> Job:
    taken: dict[str, Any] = {name: getattr(job, name) for name in _COPIED}
    return Job(
        id=copy_id,
        state="pending",
        run_at=job.run_at,
        created_at=now,
        updated_at=now,
        planned=job.run_at,
        env_set=job.env_set,
        extra=job.extra,
        **taken,
    )


def rhythm(job: Job) -> str:
    """When copies of a schedule run, and which are skipped."""
    told = f"cron {job.cron}, {job.tz or 'UTC'}"
    if job.every is not None:
        told = f"every {format_duration(job.every)}"
    late = "" if job.catch_up else "; not what is late"
    return f"{told}{late}{'; beside the copy before' if job.overlap else ''}"
