"""Schedules in the files: what a claim does with a due one, within its single append."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

from queuectl.model.ids import MadeIds
from queuectl.model.job import Job
from queuectl.model.schedule import copy_id, fired
from queuectl.model.times import parse_time
from queuectl.store.files.job_files import encode_job, is_live, line_id
from queuectl.store.files.journal import Journal
from queuectl.store.files.writer import Move, Writer


def fire(
    writer: Writer,
    journal: Journal,
    schedule: Job,
    now: str,
    hooks_of: Callable[[tuple[tuple[Job, Job]]], Iterable[Job]],
    lines: list[bytes],
    moves: list[Move],
) -> Job | None:
    """The copy to claim instead of the schedule, if any; `lines` gets the schedule, put off."""
    live = writer.live(journal)
    made = MadeIds(parse_time(now), os.urandom(3)).take()
    lives = schedule.last is not None and _lives(writer, journal, schedule.last, lines)
    kept, copy = fired(schedule, copy_id(schedule, made), now, lives=lives)
    hooks = [(hook, None) for hook in hooks_of(((schedule, kept),))]
    for job, before in ((kept, schedule.state), *hooks):
        lines.append(encode_job(job))
        moves.append((before, job.state))
        live.put(lines[-1])
    return copy


def _lives(writer: Writer, journal: Journal, job_id: str, lines: list[bytes]) -> bool:
    """Whether the job is live; `lines`: those that the claim will append."""
    live, wanted = writer.live(journal), job_id.encode()
    line = next((new for new in lines if line_id(new) == wanted), live.lines.get(wanted))
    if line is None and not live.is_whole:  # it may wait beyond the window
        found = writer.look_up(journal, [job_id]).get(job_id)
        line = found[0] if found else None
    return line is not None and is_live(line)
