"""A whole queue from one store to another: `copy`."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from typing import Any

from queuectl.commands.context import Context
from queuectl.commands.dispatch import Note, Result
from queuectl.commands.render import one_line
from queuectl.commands.selecting import named
from queuectl.errors import Conflict, InvalidInput, StoreError
from queuectl.job_queue import JobQueue
from queuectl.model.job import Job
from queuectl.store import opening
from queuectl.store.backup import Backup


def copy(context: Context, args: dict[str, Any]) -> Result:
    """Copy or move jobs, settings, captured variables and output into an empty queue.

    Output comes first and the jobs last, in one step: a copy that was interrupted before left an
    empty queue, after it a whole one, and can be repeated. So can a move that was interrupted while
    it emptied its source.
    """
    source, target = (
        JobQueue.open(opening.find(args[end], context.environ)) for end in ("from", "to")
    )
    try:
        return _copied(source, target, move=args["move"])
    finally:
        source.close()
        target.close()


def _copied(source: JobQueue, target: JobQueue, *, move: bool) -> Result:
    names = opening.name_of(source.folder), opening.name_of(target.folder)
    if not source.exists():
        raise InvalidInput(f"there is no queue in {names[0]}")
    # Not by name: a link, a mount or another spelling of a URL leads to the same queue, and a move
    # would find all jobs there and remove them.
    if target.exists() and source.store.origin() == target.store.origin():
        raise InvalidInput(f"{names[0]} cannot be copied onto itself")
    for queue, name in zip((source, target), names, strict=True):
        if workers := sum(worker.alive for worker in queue.workers()):
            raise Conflict(
                f"{workers} worker(s) of {name} run: 'worker stop' comes first, everywhere"
            )
    backup = _backup_of(source, target, names[0])
    jobs = {job.id: job for job in backup.jobs}
    if running := sum(job.state == "in_progress" for job in backup.jobs):
        raise Conflict(f"{running} job(s) in {names[0]} are running")
    if move and not jobs:  # a move may have been interrupted after its last step
        return Result([Note(f"{one_line(names[0])} holds no job: nothing is left to be moved")])
    was_copied = jobs and not _missing(target, jobs)
    if was_copied and not move and sum(target.counts().values()) == len(jobs):
        told = f"{names[1]} already holds the {len(jobs)} job(s) of {names[0]}, and no others"
        return Result([one_line(told)], words=[names[1]])
    was_moved = move and was_copied
    logs = 0 if was_moved else _copy_all(source, target, backup)
    if not was_moved and (missing := _missing(target, jobs)):
        raise StoreError(f"{names[1]} does not hold what was copied, such as job '{missing[0]}'")
    told = f"{len(jobs)} job(s), and the output of {logs} run(s), from {names[0]} to {names[1]}"
    told = one_line(told)
    if not move:
        return Result([f"Copied {told}"], words=[names[1]])
    try:
        moved = source.take_away(jobs)
    except Conflict as exc:
        _take_back(target, jobs, names)
        raise Conflict(f"{exc} in {names[0]}: nothing was moved") from exc
    except StoreError as exc:
        why = str(exc).partition("; nothing")[0]
        both = f"{names[0]} and {names[1]} both hold the jobs until the same line ends the move"
        raise StoreError(f"{why}; {both}") from exc
    source.store.output.prune(moved)
    lines = [f"Moved {told}"]
    if stay := jobs.keys() - {job.id for job in moved}:
        text = (
            f"Jobs of {one_line(names[0])} wait for {named(sorted(stay))}, which stay there, too: "
        )
        lines.append(Note(f"{text}'cancel' them in one of the two"))
    return Result(lines, words=[names[1]])


def _take_back(target: JobQueue, jobs: Mapping[str, Job], names: tuple[str, str]) -> None:
    """Remove the copies of jobs that remain in the source, so that none runs twice."""
    if _missing(target, jobs):
        raise Conflict(f"jobs changed in both {names[0]} and {names[1]}, which both hold them now")
    copies = target.take_away({job.id: job for job in target.find() if job.id in jobs})
    target.store.output.prune(copies)


def _backup_of(source: JobQueue, target: JobQueue, name: str) -> Backup:
    """The whole source, as the target would read it from a backup."""
    try:
        with tempfile.TemporaryFile() as file:
            file.writelines(source.archive.backup())
            file.seek(0)
            return target.read_backup(file, name)
    except OSError as exc:
        raise StoreError(
            f"writing to {tempfile.tempdir or 'TMPDIR'}: {exc.strerror}; nothing was changed: "
            "TMPDIR may name a folder with more room"
        ) from exc


def _copy_all(source: JobQueue, target: JobQueue, backup: Backup) -> int:
    """Copy everything into an empty queue; returns how many runs had output."""
    if held := sum(target.counts().values()):
        name = opening.name_of(target.folder)
        raise Conflict(f"{name} holds {held} job(s); a queue is copied into an empty one")
    jobs = {job.id: job for job in backup.jobs}
    for job in backup.jobs:
        target.store.check_size(job)
    target.make()
    came, goes, count = source.store.output, target.store.output, 0
    for job_id, run, word in came.all_runs():
        if job_id in jobs and jobs[job_id].log_word == word:
            goes.keep(jobs[job_id], run, came.output(jobs[job_id], run))
            count += 1
    target.restore(backup)
    return count


def _missing(target: JobQueue, jobs: Mapping[str, Job]) -> list[str]:
    """The ids of the jobs that the queue does not hold unchanged."""
    found = {job.id: _content(job) for job in target.find()}
    return [job.id for job in jobs.values() if found.get(job.id) != _content(job)]


def _content(job: Job) -> tuple[Job, bool]:
    """What must be equal. The id of a set of variables may differ between stores."""
    return job._replace(env_set=None), job.env_set is None
