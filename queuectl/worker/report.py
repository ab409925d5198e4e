"""What a worker in the foreground shows of each job: one line for each event."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

from queuectl.model.job import Job
from queuectl.model.lifecycle import Outcome
from queuectl.model.log_words import one_line
from queuectl.model.times import format_duration, parse_time

_MOST_NAMED = 10  # jobs that ended dead are named
_WIDEST = 60  # characters of a command shown


def started(job: Job) -> str:
    """The line for the start of a run."""
    return _line(job, f"started: {one_line(job.command, _WIDEST)}")


def ended(job: Job, outcome: Outcome, settled: Job | None, seconds: float) -> str:
    """The line for the end of a run of `seconds`, and what became of the job (None: stale)."""
    after = f"after {seconds:.1f} s"
    why = one_line(outcome.error or f"exit code {outcome.exit_code}")
    if settled is None:
        return _line(job, f"ended {after} ({why}), but its result no longer counts")
    if settled.state == "completed":
        return _line(job, f"completed {after} ({why})")
    if settled.state == "failed":
        wait = max(0.0, parse_time(settled.run_at) - parse_time(settled.updated_at))
        return _line(job, f"failed {after} ({why}), retry in {format_duration(wait)}")
    if settled.state == "pending":
        return _line(job, f"stopped {after} ({why}), back in the queue")
    return _line(job, f"{settled.state} {after} ({why})")


def finishing(job: Job) -> str:
    """The line that a worker which was told to stop still runs this job."""
    return _line(job, "goes on to its end; a second signal ends it and puts it back")


def drained(died: Mapping[str, str], paused: int, waiting: int, front: str = "") -> Iterator[str]:
    """What a drain leaves: jobs that ended dead, and why; jobs that cannot start.

    `front` is put before command lines.
    """
    for job_id, why in sorted(died.items())[:_MOST_NAMED]:
        yield f"Ended dead: {job_id}: {why}; '{front}show {job_id}' tells more."
    if len(died) > _MOST_NAMED:
        yield f"... and {len(died) - _MOST_NAMED} more; '{front}dlq list' shows them."
    if paused or waiting:
        yield stuck(paused, waiting, front)


def front(folder: str) -> str:
    """The beginning of a suggested command line, so that it reaches the queue in this folder."""
    import shlex  # needed once, at the end of a drain

    from queuectl.store.opening import reached_by

    named = reached_by(folder)
    return f"queuectl --data {shlex.quote(named)} " if named else ""


def stuck(paused: int, waiting: int, front: str = "") -> str:
    """The line that only paused jobs, or jobs that wait for others, are left."""
    held = "1 job is paused" if paused == 1 else f"{paused} jobs are paused"
    others = "1 job waits for another" if waiting == 1 else f"{waiting} jobs wait for others"
    told = f"{held}, {others}" if paused and waiting else held if paused else others
    tells = "status' tells what is paused" if paused else "explain ID' tells for which"
    return f"{told} and nothing else is left to run; '{front}{tells}"


def _line(job: Job, what: str) -> str:
    return f"{time.strftime('%Y-%m-%d %H:%M:%S')} {job.id} run {job.run} {what}"
