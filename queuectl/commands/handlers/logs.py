"""What jobs printed: `logs`."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

from queuectl.commands import render
from queuectl.commands.context import Context
from queuectl.commands.dispatch import Note, Result
from queuectl.commands.handlers.jobs import NO_MATCH
from queuectl.commands.handlers.wait import (
    WorkerLook,
    own_job,
    patiently,
    require_other_worker,
    waits_for_itself,
)
from queuectl.commands.selecting import listed_jobs, named_job, selects
from queuectl.errors import InvalidInput, NoSuchRun
from queuectl.model.job import LIVE, Job, recurs
from queuectl.model.times import format_duration, parse_time


def logs(context: Context, args: dict[str, Any]) -> Result:
    """Write the output of a run unchanged; of several jobs one after the other."""
    if not selects(args) and len(args["job"]) == 1:
        return _of_one(context, named_job(context, args["job"][0]), args)
    jobs = list(islice(listed_jobs(context, args), args["limit"]))
    if not jobs:
        return Result([NO_MATCH])
    if len(jobs) == 1:
        return _of_one(context, jobs[0], args)
    if args["follow"] or args["run"] is not None:
        raise InvalidInput(f"--follow and --run want one job, and {len(jobs)} are meant")
    last = b""
    for job in jobs:
        if not context.quiet:
            if last not in (b"", b"\n"):
                context.write_bytes(b"\n")
            context.write(f"==> {job.id} <==")
        last = _copy(context, _output(context, job, None, args["lines"]))
    return Result()


def _of_one(context: Context, job: Job, args: Mapping[str, Any]) -> Result:
    run, lines = args["run"], args["lines"]
    if recurs(job) and job.state in LIVE:
        shown = f"'logs {job.last}' shows its latest copy" if job.last else "none has run yet"
        told = f"'{job.id}' is a schedule, and runs as copies: {shown}"
        if args["follow"]:
            raise InvalidInput(f"job {told}")
        return Result([Note(f"Job {told}.")], words=())
    if args["follow"]:
        if run is not None or lines is not None:
            raise InvalidInput("--follow shows the whole of the present run: no --run, no --lines")
        if job.id == (own := own_job(context)):
            raise waits_for_itself(job.id)
        require_other_worker(context, own if job.state in LIVE else "")
        follow(context, job.id)
        return Result()
    if run is not None and not 1 <= run <= job.run:
        raise NoSuchRun(job.id, run, job.run)
    if _copy(context, _output(context, job, run, lines)) or lines == 0:
        return Result()
    why = "printed nothing, or its output was removed" if job.run else "has not run yet"
    return Result([Note(f"Job '{job.id}' {why}.")], words=())


def _output(context: Context, job: Job, run: int | None, lines: int | None) -> Iterable[bytes]:
    logs = context.logs
    return logs.output(job, run) if lines is None else logs.tail(job, lines, run)


def follow(context: Context, job_id: str, shown: int | None = None) -> None:
    """Write the output as it appears until the job has ended; Ctrl-C ends only this.

    `shown`: the number of runs already shown; all but the latest if left out.
    """
    queue, first, workers = context.queue, True, WorkerLook(context)

    def pause(seconds: float) -> None:
        context.rescue()  # otherwise the run of a dead worker would never end
        workers.look()
        queue.wait(seconds)

    def begins(run: int) -> None:
        nonlocal first
        is_plain = first or (run == 1 and shown == 0)  # the person has just asked for it
        if not is_plain and not context.quiet:
            context.note(f"Run {run} of job '{job_id}' begins.")
        first = False

    def waits(job: Job) -> None:
        nonlocal first
        first = False
        due = parse_time(job.run_at) - time.time()
        if context.quiet or (due < 1 and job.run == shown == 0):
            return
        failed = f"Run {job.run} of job '{job_id}' failed: {render.brief(job.error)}. "
        context.note(
            f"{failed if job.state == 'failed' else ''}Run {job.run + 1} is due "
            f"{f'in {format_duration(due)}' if due >= 1 else 'now'}."
        )

    pieces = context.logs.follow(
        lambda: patiently(queue, lambda: queue.get(job_id)),
        lambda seconds: patiently(queue, lambda: pause(seconds)),
        begins,
        waits,
        shown,
    )
    _copy(context, pieces)


def _copy(context: Context, pieces: Iterable[bytes]) -> bytes:
    """Copy the pieces to the output; returns the last byte, b"" if there was none."""
    last = b""
    for piece in pieces:
        context.write_bytes(piece)
        context.flush()
        last = piece[-1:] or last
    return last
