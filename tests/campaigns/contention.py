"""Many processes that all want to write: no update is lost, and no process starves.

    python -m tests.campaigns.contention --seconds 60 --processes 16 [--remove-lock]

Each counts up a few shared jobs by compare-and-set and adds jobs of its own; in the end the sums
must agree. Tells how long anybody had to wait for the lock. With `--remove-lock` one more process
removes queue.lock every 20 ms, as people do who take it for a stale one.
"""

from __future__ import annotations

import argparse
import os
import random
import secrets
import sys
import time
from collections.abc import Iterator
from contextlib import suppress

from queuectl.errors import StoreBusy
from queuectl.job_queue import JobQueue
from queuectl.model.job import Job
from queuectl.store.files.lock import QueueLock
from tests.campaigns.crew import Crew, crew
from tests.campaigns.yard import Notes, show

COUNTERS = ("counter-0", "counter-1", "counter-2")
PATIENCE = 30.0  # seconds; whoever waits longer for the lock starves
REMOVE_EVERY = 0.02  # seconds
MOST_JOBS = 20_000  # added by all together; from then on they only count


class TimedLock(QueueLock):
    """The queue's lock, with a record of the waits for it."""

    def __init__(self, folder: str) -> None:
        super().__init__(folder, lambda: PATIENCE)
        self.longest = self.total = 0.0

    def acquire(self) -> None:
        begun = time.monotonic()
        super().acquire()
        waited = time.monotonic() - begun
        self.total += waited
        self.longest = max(self.longest, waited)


def contend(crew: Crew, notes: Notes, mine: int, seed: str, most: int) -> None:
    """One process: count up or add until the campaign is over, then say what was done."""
    chance, queue = random.Random(f"{seed} {mine}"), JobQueue.open(crew.yard.data)
    lock = TimedLock(queue.folder)
    queue.store._writer.lock = lock
    counted, added = dict.fromkeys(COUNTERS, 0), 0
    while not crew.over():
        if added < most and chance.random() < 0.3:
            queue.enqueue([{"command": "true"}])
            added += 1
        else:
            job_id = chance.choice(COUNTERS)
            queue.store.change([job_id], count_up, promised=False)
            counted[job_id] += 1
        queue.store.fold_if_due()  # as a command does when it is done
    notes.tell("done", added, *counted.values())
    notes.tell("waited", lock.longest, lock.total)


def count_up(job: Job) -> Job:
    """The job with one more in its priority."""
    return job._replace(priority=job.priority + 1, rev=job.rev + 1)


def remove_locks(crew: Crew, notes: Notes) -> None:
    """One process: take the lock for a stale one and remove it, until the campaign is over."""
    removed, path = 0, os.path.join(crew.yard.data, "queue.lock")
    while not crew.over():
        with suppress(FileNotFoundError):
            os.unlink(path)
            removed += 1
        time.sleep(REMOVE_EVERY)
    notes.tell("removed", removed)


def run(seconds: float, seed: str, processes: int, remove: bool = False) -> Iterator[str]:
    """The whole campaign; a line for each fault, then lines of figures, which begin with #."""
    with crew() as gathered:
        queue = JobQueue.open(gathered.yard.data)
        due = "2999-01-01T00:00:00Z"
        queue.enqueue([{"id": name, "command": "true", "run_at": due} for name in COUNTERS])
        queue.close()
        most = MOST_JOBS // processes
        for n in range(processes):
            gathered.fork(f"p{n:02d}", lambda notes, n=n: contend(gathered, notes, n, seed, most))
        if remove:
            gathered.fork("remover", lambda notes: remove_locks(gathered, notes))
        yield from gathered.work(seconds)
        done = [[int(word) for word in note[1:]] for note in gathered.yard.told("done")]
        yield from compare(queue, done)
        waits = [[float(word) for word in note[1:]] for note in gathered.yard.told("waited")]
        yield from figures(done, waits)
        for note in gathered.yard.told("removed"):
            yield f"# queue.lock was removed {note[1]} times"
        queue.close()


def compare(queue: JobQueue, done: list[list[int]]) -> Iterator[str]:
    """What was done against what the queue holds."""
    yield from queue.store.check()
    for at, name in enumerate(COUNTERS):
        wanted, job = sum(words[1 + at] for words in done), queue.get(name)
        if (job.priority, job.rev) != (wanted, wanted + 1):
            yield f"{name} was counted up {wanted} times, but shows {job.priority} (rev {job.rev})"
    added, found = sum(words[0] for words in done), sum(queue.counts().values())
    if found != added + len(COUNTERS):
        yield f"{added} jobs were added, but there are {found - len(COUNTERS)}"
    if not all(sum(words) for words in done):
        yield "a process never came to do anything"


def figures(done: list[list[int]], waits: list[list[float]]) -> Iterator[str]:
    """What the processes did and how they waited."""
    deeds = sorted(sum(words) for words in done)
    yield f"# {sum(deeds)} changes by {len(deeds)} processes, {deeds[0]} to {deeds[-1]} each"
    mean = 1000 * sum(words[1] for words in waits) / max(1, sum(deeds))
    longest = max(words[0] for words in waits)
    if not longest:
        yield "no wait for the lock was measured"
    yield f"# waits for the lock: longest {longest:.3f} s, {mean:.2f} ms for each change"


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.contention")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--processes", type=int, default=16)
    parser.add_argument("--remove-lock", action="store_true", help="queue.lock, every 20 ms")
    parser.add_argument("--seed", default=secrets.token_hex(4))
    options = parser.parse_args()
    print(f"contention: {options.seconds:g} s, --seed {options.seed}", flush=True)
    try:
        return show(run(options.seconds, options.seed, options.processes, options.remove_lock))
    except StoreBusy as exc:
        return show([str(exc)])


if __name__ == "__main__":
    sys.exit(main())
