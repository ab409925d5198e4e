"""Taking back the jobs of workers that died: first what they left running, then the job."""

from __future__ import annotations

import os

from queuectl.store import files
from queuectl.worker import processes
from queuectl.worker.logs import LogFolder
from queuectl.worker.runner import MARK, marks_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from queuectl.job_queue import JobQueue
    from queuectl.model.job import Job
    from queuectl.store.worker_files import WorkerInfo


def rescue(queue: JobQueue) -> list[Job]:
    """Rescue every job of a lost worker; the jobs as they are now. Takes no lock while it waits.

    A worker whose leftovers cannot be ended keeps its job: it must not run twice at once.
    """
    rescued = []
    logs = LogFolder(queue.folder)
    for worker in queue.lost_workers():
        if _may_be_given_up(worker):
            jobs = [job for job in queue.find(("in_progress",)) if job.worker == worker.id]
            if _end_leftovers(worker, jobs):
                for job in jobs:
                    logs.rescue_spool(worker.id, job)
                # Before the worker is struck off: if this process is killed, the next one finds it.
                files.remove(logs.spool_path(worker.id))
                rescued += queue.rescue_worker(worker.id)
    return rescued


def _may_be_given_up(worker: WorkerInfo) -> bool:
    # A command that a lost run left behind is to be ended by others; it would kill itself here.
    if os.environ.get(MARK) == worker.id:
        return False
    # Somebody removed its file: it will notice by itself, and until then it may still run a job.
    # One that has ended does neither, though its parent may never reap it.
    same_boot = worker.boot_id == processes.boot_id()
    lives = same_boot and processes.is_running(worker.pid, worker.start_time)
    return not (worker.missing and lives)


def _end_leftovers(worker: WorkerInfo, jobs: list[Job]) -> bool:
    """KILL what is left of the worker's run; whether nothing of it is left.

    Only processes of the run that was lost: what an earlier job left on purpose is not ours.
    """
    gone = True
    if processes.is_process(worker.group_pid, worker.group_start, worker.boot_id):
        # Also one that became another user's: who cannot be ended must not be doubled.
        gone = processes.kill_group(worker.group_pid) and not processes.is_running(
            worker.group_pid, worker.group_start
        )
    return all([gone, *(processes.kill_marked(marks_of(job)) for job in jobs)])
