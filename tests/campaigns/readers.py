"""Readers without the lock beside writers that fold all the time.

    python -m tests.campaigns.readers --seconds 60 --seed 1

They never miss a job that was acknowledged before they began to look, never see one twice, and
never go back in time: a job's `rev` and the number of jobs that ended only grow.
"""

from __future__ import annotations

import argparse
import random
import secrets
import sys
import time
from collections.abc import Iterator

from queuectl.job_queue import JobQueue
from queuectl.model.job import Job
from queuectl.model.lifecycle import Outcome
from tests.campaigns.crew import Crew, Shared, crew
from tests.campaigns.yard import Notes, show

ADDERS, MOVERS, FOLDERS, READERS = 2, 2, 1, 4
PAUSE = 0.02  # mean seconds between two enqueues of one process


class Campaign:
    """What all processes share: `counts[n]` jobs of adder n are acknowledged."""

    def __init__(self, crew: Crew, seed: str) -> None:
        self.crew, self.seed = crew, seed
        self.counts = Shared(ADDERS)

    def queue(self) -> JobQueue:
        return JobQueue.open(self.crew.yard.data)

    def start(self) -> None:
        """Fork everybody."""
        self.queue().change_settings({"base": 0, "lock-timeout": 30})
        for n in range(ADDERS):
            self.crew.fork(f"adder-{n}", lambda notes, n=n: self.add(n))
        for n in range(MOVERS):
            self.crew.fork(f"mover-{n}", lambda notes, n=n: self.move(n))
        for n in range(FOLDERS):
            self.crew.fork(f"folder-{n}", lambda notes: self.fold())
        for n in range(READERS):
            self.crew.fork(f"reader-{n}", lambda notes, n=n: Reader(self, notes, n).live())

    def add(self, mine: int) -> None:
        """Enqueue jobs `aMINE-0`, `aMINE-1`..., and say how many are acknowledged."""
        chance, queue = random.Random(f"{self.seed} adder {mine}"), self.queue()
        while not self.crew.over():
            first = self.counts[mine]
            ids = [f"a{mine}-{first + n}" for n in range(chance.randint(1, 3))]
            drafts = [
                {"id": i, "command": "true", "max_retries": chance.randint(0, 1)} for i in ids
            ]
            queue.enqueue(drafts)
            self.counts[mine] = first + len(ids)
            time.sleep(chance.expovariate(1 / PAUSE))

    def move(self, mine: int) -> None:
        """Claim jobs and let them succeed, fail or die, without running anything."""
        chance, queue = random.Random(f"{self.seed} mover {mine}"), self.queue()
        finished: tuple[Job, Outcome] | None = None
        while not self.crew.over():
            job = queue.claim(f"w-mover-{mine}", finished)
            finished = None
            if job is None:
                time.sleep(PAUSE)
                continue
            code = int(chance.random() < 0.3)
            finished = (job, Outcome("exited", code, None, queue.now()))
            time.sleep(chance.expovariate(4 / PAUSE))

    def fold(self) -> None:
        """Fold, again and again."""
        queue = self.queue()
        while not self.crew.over():
            queue.checkpoint()


class Reader:
    """One reader and what it knows already."""

    def __init__(self, campaign: Campaign, notes: Notes, mine: int) -> None:
        self.campaign, self.notes = campaign, notes
        self.chance = random.Random(f"{campaign.seed} reader {mine}")
        self.queue = campaign.queue()
        self.revs: dict[str, int] = {}
        self.ended = self.reads = 0

    def live(self) -> None:
        """Look in every way there is until the campaign is over."""
        looks = (self.list_all, self.count, self.get_one, self.get_one)
        while not self.campaign.crew.over():
            self.chance.choice(looks)()
            self.reads += 1
        self.notes.tell("reads", self.reads)

    def wrong(self, what: str) -> None:
        self.notes.tell("violation", what)

    def acknowledged(self) -> list[int]:
        return [self.campaign.counts[n] for n in range(ADDERS)]

    def list_all(self) -> None:
        floor = self.acknowledged()
        jobs = list(self.queue.find())
        seen = {job.id: job.rev for job in jobs}
        if len(seen) < len(jobs):
            self.wrong(f"{len(jobs) - len(seen)} job(s) seen twice")
        expected = [f"a{n}-{k}" for n in range(ADDERS) for k in range(floor[n])]
        missed = [job_id for job_id in expected if job_id not in seen]
        if missed:
            self.wrong(f"acknowledged, but not listed: {missed[:5]} of {len(missed)}")
        for job_id, rev in self.revs.items():
            if seen.get(job_id, 0) < rev:
                self.wrong(f"{job_id} went back from rev {rev} to {seen.get(job_id)}")
        self.revs = seen
        self.check_ended(sum(job.state in ("completed", "dead") for job in jobs), "list")

    def count(self) -> None:
        floor = sum(self.acknowledged())
        counts = self.queue.counts()
        if sum(counts.values()) < max(floor, len(self.revs)) or min(counts.values()) < 0:
            self.wrong(f"{floor} acknowledged, {len(self.revs)} seen, status counts {counts}")
        self.check_ended(counts["completed"] + counts["dead"], "status")

    def check_ended(self, ended: int, where: str) -> None:
        if ended < self.ended:
            self.wrong(f"{where} shows {ended} ended jobs after {self.ended}")
        self.ended = ended

    def get_one(self) -> None:
        adder = self.chance.randrange(ADDERS)
        known = self.campaign.counts[adder]
        if known:
            job_id = f"a{adder}-{self.chance.randrange(known)}"
            rev = self.queue.get(job_id).rev  # raises if it is missed
            if rev < self.revs.get(job_id, 0):
                self.wrong(f"{job_id} went back from rev {self.revs[job_id]} to {rev}")
            if job_id in self.revs:
                self.revs[job_id] = rev


def run(seconds: float, seed: str) -> Iterator[str]:
    """The whole campaign; a line for each fault, then one for its figures, which begins with #."""
    with crew() as gathered:
        campaign = Campaign(gathered, seed)
        campaign.start()
        yield from gathered.work(seconds)
        queue = campaign.queue()
        yield from queue.store.check()
        queue.checkpoint()
        reads = [int(note[1]) for note in gathered.yard.told("reads")]
        added = sum(campaign.counts[n] for n in range(ADDERS))
        yield f"# {sum(reads)} reads, {added} jobs, {gathered.yard.folds()} folds"
        queue.close()


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.readers")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", default=secrets.token_hex(4))
    options = parser.parse_args()
    print(f"readers: {options.seconds:g} s, --seed {options.seed}", flush=True)
    return show(run(options.seconds, options.seed))


if __name__ == "__main__":
    sys.exit(main())
