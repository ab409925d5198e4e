"""Rescues the jobs of workers that died: first ends what they left running, then frees the job.

A process is ended only if it certainly belongs to this data folder and the lost run, and its worker
is dead. If that is uncertain nothing is signalled, and the job waits while a process lives that may
belong to its run.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Collection

from queuectl.job_queue import JobQueue
from queuectl.model.job import Job
from queuectl.model.times import parse_time
from queuectl.store.facts import MOST_LEFT, WorkerInfo
from queuectl.store.output import Output
from queuectl.worker import processes, remains
from queuectl.worker.remains import Found, Run
from queuectl.worker.runner import MARK, marks_of, queue_mark

_PATIENCE, _AGAIN = 3.0, 0.3  # seconds to try to KILL what is left: at first, later
_LAST_BREATH = 1.0  # seconds within which a process that freed its lock must be gone


def rescue(queue: JobQueue) -> list[Job]:
    """Rescue the jobs of all lost workers; returns them as they are now. Waits without a lock.

    A worker whose leftovers cannot be ended keeps its job: it must not run twice at once.
    """
    rescued = []
    logs = queue.store.output
    lost = queue.lost_workers()
    # Once for all workers: after a restart of the machine there may be many, with a long queue.
    running = list(queue.find(("in_progress",))) if lost else []
    for worker in lost:
        # A command that a lost run left behind must not do this: it would kill itself.
        if os.environ.get(MARK) == worker.id or (worker.missing and _lives(worker)):
            continue
        jobs = [job for job in running if job.worker == worker.id]
        if _end_leftovers(queue, worker, jobs, logs):
            for job in jobs:
                logs.rescue_spool(worker.id, job, queue.settings().log_limit)
            # Before the worker leaves the list: if this process is killed, the next one finds it.
            logs.drop_spool(worker.id)
            asked = worker.facts.get("stopping") == "1"
            rescued += queue.rescue_worker(worker.id, jobs, asked_to_stop=asked, end=worker.end)
    return rescued


def kept_by(queue: JobQueue, worker: WorkerInfo | None, job: Job) -> str | None:
    """Why the job of a dead worker is not rescued at once, as a word; None if it is.

    "left": a process cannot be ended; "elsewhere": a process lives in another container; "unsure":
    a process lives that may belong to a copy of this folder.
    """
    if worker is not None and worker.left:
        return "left"
    worker = worker or WorkerInfo(str(job.worker), False, missing=True)
    if not may_live(worker, [job], queue.store.output):
        return None
    if is_foreign(worker):
        return "elsewhere"
    marks = [*marks_of(job), queue_mark(queue)]
    is_ours = _is_of_this_folder(queue, worker) or bool(processes.processes_marked(marks))
    return None if is_ours and not _lives(worker) else "unsure"


def is_foreign(worker: WorkerInfo) -> bool:
    """Whether the worker ran in another pid namespace of this machine, such as a container."""
    space = worker.facts.get("pidns")
    return bool(space) and space != processes.namespace() and worker.boot_id == processes.boot_id()


def may_live(worker: WorkerInfo, jobs: Collection[Job], logs: Output) -> bool:
    """Whether a process lives that may belong to a lost run, by its marks, session or output."""
    if any(processes.processes_marked(marks_of(job)) for job in jobs):
        return True
    if is_foreign(worker):
        return logs.is_held(worker.id, jobs)
    here = worker.boot_id == processes.boot_id()
    return bool(jobs) and (logs.is_held(worker.id, jobs) or (here and _session_lives(worker)))


def _session_lives(worker: WorkerInfo) -> bool:
    """Whether a process lives in the session that the worker noted, or one with its number."""
    table = processes.look()
    leader = table.get(worker.group_pid)
    if worker.job_id is None or (leader is not None and leader.start != worker.group_start):
        return False
    numbers = ((one.session, one.group) for one in table.values() if not one.ended)
    return any(worker.group_pid in pair for pair in numbers)


def _end_leftovers(
    queue: JobQueue, worker: WorkerInfo, jobs: Collection[Job], logs: Output
) -> bool:
    """End what is left of the worker's run; returns whether nothing is left."""
    if is_foreign(worker):
        return not may_live(worker, jobs, logs) or _has_waited(queue, worker)
    if _lives(worker):
        # The worker lives though its file is free: the file is a copy, or was put there by hand.
        return not may_live(worker, jobs, logs)
    if sys.platform != "linux":
        return _end_group(queue, worker)
    left = _end_found(queue, worker, jobs, logs)
    if left is None:
        return False
    names = ",".join(processes.described(one) for one in list(left.values())[:MOST_LEFT])
    if left and names != worker.facts.get("left"):
        queue.note_lost(worker.id, left=names)
    # A process with this run's marks but not this folder's is not ours to end.
    return not left and not may_live(worker, jobs, logs)


def _end_found(
    queue: JobQueue, worker: WorkerInfo, jobs: Collection[Job], logs: Output
) -> Found | None:
    """KILL all that certainly belongs to the lost runs.

    Returns what is left; None if another process must do it.
    """
    mark = queue_mark(queue)
    marks = [frozenset((*marks_of(job), mark)) for job in jobs]
    places = logs.places(worker.id, jobs)
    certain = _is_of_this_folder(queue, worker)
    leader = Run(worker.group_pid, worker.group_start) if certain and worker.job_id else None

    def holders(table: Found) -> set[int]:
        return processes.holders(table, places) if certain else set()

    def find() -> Found:
        return remains.lost_run(leader, marks, holders)

    if processes.ancestors(os.getpid()) & set(find()):
        return None
    patience = _AGAIN if "left" in worker.facts else _PATIENCE
    return remains.kill_all(find, patience, time.sleep)


def _is_of_this_folder(queue: JobQueue, worker: WorkerInfo) -> bool:
    """Whether the processes in the worker's file are this folder's, not those of a copy."""
    facts = worker.facts
    return (
        worker.boot_id == processes.boot_id()
        and facts.get("inode") == str(worker.inode)
        and facts.get("folder") == queue.identity()
    )


def _end_group(queue: JobQueue, worker: WorkerInfo) -> bool:
    """KILL the group of the lost run, all that some systems let find; whether it is gone."""
    # Also one that became another user's: what cannot be ended must not be doubled.
    return (
        not _is_of_this_folder(queue, worker)
        or not processes.is_process(worker.group_pid, worker.group_start, worker.boot_id)
        or processes.kill_group(worker.group_pid)
    ) and not processes.is_running(worker.group_pid, worker.group_start)


def _lives(worker: WorkerInfo) -> bool:
    """Whether the worker itself still runs although its file does not show it.

    A zombie does not run, even if its parent never reaps it.
    """
    if worker.boot_id != processes.boot_id():
        return False
    # The kernel frees the lock a moment before the process is gone.
    copied = worker.missing or worker.facts.get("inode") != str(worker.inode)
    patience = 0.0 if copied else _LAST_BREATH
    return not processes.await_end(worker.pid, worker.start_time, patience)


def _has_waited(queue: JobQueue, worker: WorkerInfo) -> bool:
    """Whether foreign-grace has passed since the worker's death was first seen."""
    now = parse_time(queue.now())
    noted = worker.facts.get("lost", "")
    if not noted.isdigit():
        queue.note_lost(worker.id, lost=int(now))
        noted = str(int(now))
    grace = queue.settings().foreign_grace
    return grace is not None and now - int(noted) >= grace
