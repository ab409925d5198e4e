"""The status of the queue: `status` and `ping`. The leanest path: no job file is parsed."""

from __future__ import annotations

import os
import time

from queuectl.commands import render
from queuectl.commands.dispatch import Result
from queuectl.errors import StoreError
from queuectl.places import JOURNAL, LOCK
from queuectl.store import opening
from queuectl.store.facts import ALL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    from queuectl.commands.context import Context
    from queuectl.store.facts import Summary

# The states of the closest earlier tool, in its order; `cancelled` and others follow.
_SEED_STATES = ("pending", "in_progress", "completed", "failed", "dead")
_WAITING = ("pending", "failed")
_MOST_TOLD = 3  # workers that cannot work


def status(context: Context, args: dict[str, Any]) -> Result:
    """Counts by state, workers, health."""
    summary = opening.summary(context.folder, time.time())
    is_used = summary.workers or any(summary.counts.values())
    nothing_yet = "" if is_used else context.nothing_yet
    return Result(
        _lines(context, summary, nothing_yet),
        words=(f"{state} {count}" for state, count in summary.counts.items()),
        form=lambda: _form(summary, exists=not nothing_yet),
    )


def ping(context: Context, args: dict[str, Any]) -> Result:
    """Check that the queue can be read and its folder written, or that its server answers."""
    folder = context.folder
    if opening.is_database(folder):
        return Result([f"Queue can be reached: {opening.greeting(folder)}"], words=())
    if context.nothing_yet:
        return Result([context.nothing_yet], words=())
    opening.summary(folder, time.time())
    for path in (folder, *(os.path.join(folder, name) for name in (LOCK, JOURNAL))):
        if os.path.exists(path) and not os.access(path, os.W_OK):
            raise StoreError(f"{path} can be read but not written")
    return Result([f"Queue can be reached: {render.one_line(folder)}"], words=())


def _left_alone(summary: Summary, hindered: Mapping[int, str], front: str) -> list[str]:
    """The lines about workers that cannot work, and about jobs that no worker runs or will run."""
    if summary.worker_pids:
        told = [f"Warning: worker PID {pid} {why}" for pid, why in hindered.items()]
        if len(told) > _MOST_TOLD:
            told[_MOST_TOLD:] = [
                f"Warning: {len(told)} workers cannot work; '{front}worker list' tells why"
            ]
        return told
    waiting = sum(summary.counts[state] for state in _WAITING)
    lost = summary.counts["in_progress"]
    told = []
    if waiting:
        jobs = "1 job waits" if waiting == 1 else f"{waiting} jobs wait"
        if summary.is_early:
            told.append(f"Note: {jobs} for a later time; no worker runs yet")
        else:
            told.append(f"Warning: {jobs} and no worker runs; '{front}worker start' starts one")
    if lost:
        jobs = "a job that is" if lost == 1 else f"{lost} jobs that are"
        told.append(
            f"Warning: the worker of {jobs} in progress died; "
            f"'{front}worker start' has it run again"
        )
    return told


def _hindrances(summary: Summary) -> dict[int, str]:
    """Why living workers cannot work, by pid."""
    if not summary.workers:
        return {}
    from queuectl.worker.hindrance import hindrance  # not without a worker

    return {worker.pid: why for worker in summary.workers if (why := hindrance(worker))}


def _health(summary: Summary, hindered: Mapping[int, str]) -> str:
    """One word: `stalled` if there are jobs to run and no worker can run them.

    `degraded` if some worker cannot work.
    """
    to_run = any(summary.counts[state] for state in (*_WAITING, "in_progress"))
    if to_run and not summary.is_early and len(hindered) == len(summary.worker_pids):
        return "stalled"
    return "degraded" if hindered else "ok"


def _lines(context: Context, summary: Summary, nothing_yet: str) -> Iterator[str]:
    counts, pids, hindered = summary.counts, summary.worker_pids, _hindrances(summary)
    colour, front = context.color, context.front
    if summary.paused:
        yield render.paint(_paused(summary.paused, front), "yellow", on=colour)
    yield f"Total Jobs: {sum(counts.values())}"
    for state in _SEED_STATES:
        shade = render.STATE_COLOURS.get(state) if counts[state] else None
        label = render.paint(f"{state.capitalize():<12}", shade, on=colour)
        yield f"  {label}: {counts[state]}"
    health = _health(summary, hindered)
    yield f"Active Workers: {len(pids)}"
    yield f"Worker PIDs: {', '.join(map(str, pids)) or 'none'}"
    yield f"Cancelled: {counts['cancelled']}"
    yield f"Health: {render.paint(health, 'green' if health == 'ok' else 'yellow', on=colour)}"
    yield f"Data Folder: {render.one_line(summary.folder)}"
    yield f"Time: {_now()}"
    if summary.waiting:
        yield (
            f"Changes Waiting: {summary.waiting} "
            f"(not in the JSON files yet; '{front}checkpoint' writes them)"
        )
    if summary.note:
        yield f"Note: {summary.note}"
    if nothing_yet:
        yield render.paint(nothing_yet, "yellow", on=colour)
    yield from _left_alone(summary, hindered, front)
    if summary.untold:
        yield f"Warning: {'; '.join(render.untold(summary.untold))}"


def _paused(paused: Sequence[str], front: str) -> str:
    tags = [tag for tag in paused if tag != ALL]
    if ALL in paused:
        return f"Paused: the whole queue; '{front}resume' lets it go on"
    return (
        f"Paused: jobs tagged {', '.join(tags)}; '{front}resume {' '.join(tags)}' lets them start"
    )


def _form(summary: Summary, *, exists: bool) -> dict[str, Any]:
    from queuectl.commands.forms import status_form

    hindered = _hindrances(summary)
    form = status_form(summary, hindered, _health(summary, hindered), _now())
    return {**form, "exists": exists}


def _now() -> str:
    # As format_time writes it; loading that would cost a tenth of this command's time.
    seconds, micros = divmod(time.time_ns() // 1000, 1_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{micros:06d}Z"
