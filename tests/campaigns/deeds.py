"""What campaigns do to a queue: each deed looks at it, and then gives the act to be cut short.

A deed that ends gives the same queue whenever it is done; see scenes.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from queuectl.job_queue import JobQueue
from queuectl.model.selection import in_state
from queuectl.store.files import staged
from queuectl.worker.rescue import rescue
from tests.campaigns.scenes import FULL, STARTS, let_go, open_queue, outcome

Deed = Callable[[JobQueue], Callable[[], object]]


def enqueue(queue: JobQueue) -> Callable[[], object]:
    return lambda: queue.enqueue([{"id": "n1", "command": "echo new"}])


def enqueue_many(queue: JobQueue) -> Callable[[], object]:
    drafts = [{"id": f"n{number}", "command": "y" * (40 * number + 1)} for number in range(30)]
    return lambda: queue.enqueue(drafts)


def enqueue_very_many(queue: JobQueue) -> Callable[[], object]:
    """So many that they do not fit into memory: staged in a file, one record, a fold at once."""
    drafts = [{"id": f"n{number}", "command": "y" * (40 * number + 1)} for number in range(30)]

    def act() -> None:
        few, staged.FEW = staged.FEW, 4000
        try:
            queue.enqueue(drafts)
        finally:
            staged.FEW = few

    return act


def set_up(queue: JobQueue) -> Callable[[], object]:
    return lambda: queue.change_settings({"base": 5, "keep-finished": 60})


def checkpoint(queue: JobQueue) -> Callable[[], object]:
    return queue.checkpoint


def register(queue: JobQueue) -> Callable[[], object]:
    return lambda: queue.store.register("w-new", 1, "-", "-")


def register_release(queue: JobQueue) -> Callable[[], object]:
    return lambda: queue.store.release(queue.store.register("w-new", 1, "-", "-"))


def claim(queue: JobQueue) -> Callable[[], object]:
    return lambda: queue.claim("w-here")


def settle_and_claim(queue: JobQueue) -> Callable[[], object]:
    held = queue.get("runs")
    return lambda: queue.claim("w-here", (held, outcome()))


def fail(queue: JobQueue) -> Callable[[], object]:
    held = queue.get("runs")
    return lambda: queue.settle(held, outcome(7))


def bury(queue: JobQueue) -> Callable[[], object]:
    held = queue.get("last")
    return lambda: queue.claim("w-here", (held, outcome(7)))


def end_cancelled(queue: JobQueue) -> Callable[[], object]:
    held = queue.get("asked")
    return lambda: queue.settle(held, outcome()._replace(kind="stopped"))


def retry(queue: JobQueue) -> Callable[[], object]:
    return lambda: queue.retry(["off", "waits", "d2"] if _has(queue, "off") else ["waits", "d2"])


def retry_dead(queue: JobQueue) -> Callable[[], object]:
    return lambda: queue.retry_dead(in_state("dead"))


def cancel(queue: JobQueue) -> Callable[[], object]:
    return lambda: queue.cancel(["p1", "waits", "runs"])


def update(queue: JobQueue) -> Callable[[], object]:
    return lambda: queue.update("p2", {"command": "echo updated", "priority": -3})


def purge(queue: JobQueue) -> Callable[[], object]:
    return lambda: queue.purge(in_state("completed", "cancelled", "dead"))


def take_back(queue: JobQueue) -> Callable[[], object]:
    return lambda: rescue(queue)


def add_and_close(queue: JobQueue) -> Callable[[], object]:
    def act() -> None:
        queue.enqueue([{"id": "n1", "command": "echo new"}])
        queue.close()

    return act


def bury_and_fold(queue: JobQueue) -> Callable[[], object]:
    held = queue.get("last")

    def act() -> None:
        queue.settle(held, outcome(7))
        queue.checkpoint()

    return act


def backup(queue: JobQueue) -> Callable[[], object]:
    return lambda: queue.write_backup(f"{queue.folder}.backup", overwrite=True)


def repair(queue: JobQueue) -> Callable[[], object]:
    return lambda: queue.care.repair([], [])


ANYWHERE: tuple[Deed, ...] = (
    enqueue,
    enqueue_many,
    enqueue_very_many,
    set_up,
    checkpoint,
    register,
    register_release,
    add_and_close,
)
DEEDS: tuple[Deed, ...] = (
    *ANYWHERE,
    claim,
    settle_and_claim,
    fail,
    bury,
    end_cancelled,
    retry,
    retry_dead,
    cancel,
    update,
    purge,
    take_back,
    bury_and_fold,
    backup,
    repair,
)


def _has(queue: JobQueue, job_id: str) -> bool:
    return any(job.id == job_id for job in queue.find())


def deeds_for(start: str) -> tuple[Deed, ...]:
    """The deeds that can be done in a folder of this start."""
    return DEEDS if start in FULL or start not in STARTS else ANYWHERE


def act(path: str, deed: Deed) -> Any:
    """Do the deed, in a queue of its own."""
    queue = open_queue(path)
    try:
        return deed(queue)()
    finally:
        let_go(queue)
