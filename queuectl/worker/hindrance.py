"""What keeps a living worker from working. Lean, because `status` loads it."""

from __future__ import annotations

import sys

from queuectl.errors import NO_WORKER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from queuectl.store.facts import WorkerInfo


def hindrance(worker: WorkerInfo) -> str:
    """Why a living worker cannot work, as words after its name; "" if it can, or is dead."""
    if not worker.alive:
        return ""
    if _is_stopped(worker.pid, worker.start_time):
        return f"is stopped; 'kill -CONT {worker.pid}' lets it go on"
    return f"cannot work: {worker.trouble}" if worker.trouble else ""


def unserved(workers: Iterable[WorkerInfo], front: str = "") -> str:
    """Why no worker runs jobs at the moment, as a sentence; "" if some worker can.

    `front` is put before the command line in it.
    """
    alive = [worker for worker in workers if worker.alive]
    if not alive:
        return NO_WORKER.format(front)
    if not all(map(hindrance, alive)):
        return ""
    what = "The only worker" if len(alive) == 1 else "None of the workers can work; one"
    return f"{what}, PID {alive[0].pid}, {hindrance(alive[0])}."


def told_shortly(workers: Iterable[WorkerInfo]) -> str:
    """The workers that cannot work, in a few words; "" if all can."""
    hindered = [worker for worker in workers if hindrance(worker)]
    if len(hindered) > 1:
        return f"{len(hindered)} workers cannot work"
    return "".join(
        f"worker {worker.pid} {hindrance(worker).partition(';')[0]}" for worker in hindered
    )


def _is_stopped(pid: int, started: str) -> bool:
    """Whether the process was stopped by a signal or a debugger."""
    if sys.platform != "linux":
        from queuectl.worker import processes

        return processes.is_stopped(pid, started)
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            words = file.read().rpartition(b")")[2].split()
    except OSError:  # in another container
        return False
    return words[0] in (b"T", b"t") and words[19].decode() == started
