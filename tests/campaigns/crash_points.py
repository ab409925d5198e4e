"""Kills a process at each of its calls to the disk, and checks what it leaves.

    python -m tests.campaigns.crash_points --points 10000 --seed 1

For every start of scenes.py and deed of deeds.py a child dies (os._exit) before, after and half-way
through its n-th call, for every n. Once these are tried, further points have starts made by chance,
writes torn at any byte, and a second death in the process that comes after the first.
"""

from __future__ import annotations

import argparse
import os
import random
import secrets
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple, NoReturn

from queuectl.errors import StoreError
from queuectl.job_queue import JobQueue
from queuectl.worker.rescue import rescue
from tests.campaigns import scenes
from tests.campaigns.deeds import Deed, act, deeds_for
from tests.campaigns.scenes import View, copy, let_go, open_queue, view
from tests.failing_disk import DEATHS, FailingDisk, standing_in

ENDED, DIED, FAILED = 0, 77, 78
LONGEST = 20.0  # seconds that a child may take
NEXT = {"id": "next", "command": "echo next"}


class Point(NamedTuple):
    """One death. `again`: the call at which the process that comes next dies too, 0 if it lives."""

    start: str
    deed: Deed
    how: str
    at: int
    cut: float = 0.5  # share of a write that is done when it dies half-way
    again: int = 0

    def __str__(self) -> str:
        second = f", then at call {self.again} of what comes next" if self.again else ""
        name = self.deed.__name__
        return f"{name} in {self.start}: {self.how} call {self.at} (cut {self.cut:.2f}){second}"


class Trial:
    """The folder of a start, the queue before a deed and after it, and the deaths between."""

    def __init__(self, root: str, start: str) -> None:
        self.root, self.start = root, start
        self.template = os.path.join(root, start)
        make = scenes.STARTS.get(start) or scenes.crowd(start)
        make(self.template)
        self._afters: dict[Deed, View] = {}
        self.before = self._after(None)

    def _after(self, deed: Deed | None) -> View:
        """The queue after the deed, done on a copy."""
        path = os.path.join(self.root, f"after-{self.start}")
        if os.path.exists(self.template):
            copy(self.template, path)
        try:
            if deed is not None:
                act(path, deed)
            return _seen(path)
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def after(self, deed: Deed) -> View:
        """The queue as the deed leaves it."""
        if deed not in self._afters:
            self._afters[deed] = self._after(deed)
        return self._afters[deed]

    def die(self, point: Point, path: str) -> bool:
        """Let a child die there, in a copy of the folder; False if it ended before."""
        if os.path.exists(self.template):
            copy(self.template, path)
        half = _half(point.cut)
        disk = FailingDisk(point.at, point.how, die=_exit, half=half)
        ended = not _in_child(lambda: act(path, point.deed), disk)
        wanted = [self.after(point.deed)] if ended else [self.before, self.after(point.deed)]
        self._judge(point, path, wanted)
        return not ended

    def _judge(self, point: Point, path: str, wanted: list[View]) -> None:
        found = _seen(path)
        _expect(found, wanted, "a reader after the death")
        if point.again:
            disk = FailingDisk(point.again, "die half-way", die=_exit, half=_half(point.cut))
            ended = not _in_child(lambda: _go_on(path), disk)
            further = [_with_next(found)] if ended else [found, _with_next(found)]
            found = _expect(_seen(path), further, "a reader after the second death")
        follower = open_queue(path)
        try:
            _go_on_with(path, follower, found, early=point.at % 2 == 0)
        finally:
            let_go(follower)


def _go_on_with(path: str, follower: JobQueue, found: View, *, early: bool) -> None:
    """The next operations must work: by a process that comes now, or one that was there before."""
    if early:
        follower.store.next_due()  # it knows journal and live jobs before the others write
    if "next" in found.jobs:  # enqueued before the second death
        follower.checkpoint()
    else:
        _go_on(path)
        found = _expect(_seen(path), [_with_next(found)], "after the next enqueue")
    assert set(scenes.in_files(path)) == set(found.jobs), "the JSON files differ from the queue"
    assert scenes.leftovers(path) in ([], ["workers/.w-new"]), scenes.leftovers(path)
    follower.update("next", {"priority": 1})
    jobs = {**found.jobs, "next": follower.get("next")}
    assert jobs["next"].priority == 1
    follower.checkpoint()
    _expect(_seen(path), [View(jobs, found.settings)], "after the next update and checkpoint")
    _rescue_all(path, follower)


def _rescue_all(path: str, queue: JobQueue) -> None:
    """Nothing may be left of workers that were killed."""
    tries = 0
    while queue.lost_workers():
        rescue(queue)
        tries += 1
        assert tries < 5, f"lost for good: {[worker.id for worker in queue.lost_workers()]}"
    left = os.path.join(path, "workers")
    assert not os.path.isdir(left) or os.listdir(left) == [], os.listdir(left)
    assert all(job.state != "in_progress" for job in queue.find())
    view(queue)


def _seen(path: str) -> View:
    """What a process sees that has just come."""
    queue = open_queue(path)
    try:
        return view(queue)
    finally:
        let_go(queue)


def _go_on(path: str) -> None:
    """What the next process does: one more job, and a fold."""
    queue = open_queue(path)
    queue.enqueue([NEXT])
    queue.checkpoint()
    let_go(queue)


def _with_next(found: View) -> View:
    if "next" in found.jobs:
        return found
    return View({**found.jobs, "next": _next_job(found)}, found.settings)


def _next_job(found: View) -> scenes.Job:
    now = scenes.format_time(scenes.NOW)
    return scenes.Job("next", "pending", 0, now, str(NEXT["command"]), 3, now, now)


def _expect(found: View, wanted: list[View], when: str) -> View:
    if found not in wanted:
        raise AssertionError(f"{when}: {_difference(found, wanted[-1])}")
    return found


def _difference(found: View, wanted: View) -> str:
    ids = sorted(found.jobs.keys() | wanted.jobs.keys())
    wrong = [i for i in ids if found.jobs.get(i) != wanted.jobs.get(i)]
    pairs = [f"{i}: {found.jobs.get(i)} instead of {wanted.jobs.get(i)}" for i in wrong[:3]]
    return "; ".join([*pairs, f"settings {dict(found.settings)}, wanted {dict(wanted.settings)}"])


def _half(cut: float) -> Callable[[int], int]:
    return lambda size: min(size - 1, int(size * cut))


def _exit() -> NoReturn:
    os._exit(DIED)


def _in_child(deed: Callable[[], object], disk: FailingDisk) -> bool:
    """Do the deed in a child that has this disk; whether it died of it."""
    pid = os.fork()
    if pid == 0:
        code = FAILED
        try:
            with standing_in(disk):
                deed()
            code = ENDED
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    code = _await(pid)
    assert code in (ENDED, DIED), f"the child ended with {code}"
    return code == DIED


def _await(pid: int) -> int:
    deadline = time.monotonic() + LONGEST
    pause = 0.0005
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.kill(pid, 9)
        time.sleep(pause)
        pause = min(pause * 1.3, 0.01)


class Campaign:
    """Tries points, and remembers what was tried and what went wrong."""

    def __init__(self, root: str, seed: str, most_faults: int = 10) -> None:
        self.root, self.chance = root, random.Random(seed)
        self.seed, self.most_faults = seed, most_faults
        self.tried: Counter[str] = Counter()
        self.faults: list[str] = []
        self._trials: dict[str, Trial] = {}
        self._reach: dict[tuple[str, Deed], int] = {}
        self._count = 0

    @property
    def points(self) -> int:
        """How many deaths were died."""
        return sum(self.tried.values())

    def trial(self, start: str) -> Trial:
        """The start's folder, made when it is first asked for."""
        if start not in self._trials:
            self._trials[start] = Trial(self.root, start)
        return self._trials[start]

    def try_point(self, point: Point) -> bool:
        """Whether the process died there; a fault is noted."""
        self._count += 1
        path = os.path.join(self.root, f"queue{self._count}")
        died, trial = True, self.trial(point.start)
        try:
            died = trial.die(point, path)
        except (AssertionError, StoreError, OSError, ValueError) as exc:
            self.faults.append(f"{point}: {type(exc).__name__}: {exc}")
        shutil.rmtree(path, ignore_errors=True)
        self.tried[point.deed.__name__] += died
        return died and len(self.faults) < self.most_faults

    def try_all(self, start: str, deed: Deed) -> None:
        """Each point of one deed."""
        for how in DEATHS:
            at = 1
            while self.try_point(Point(start, deed, how, at)):
                self._reach[start, deed] = at
                at += 1

    def try_by_chance(self, crowds: int = 40) -> None:
        """One point that chance has chosen."""
        chance = self.chance
        starts = [*scenes.STARTS, *(f"crowd-{self.seed}-{number}" for number in range(crowds))]
        start = chance.choice(starts)
        deed = chance.choice(deeds_for(start))
        latest = self._reach.get((start, deed), 12)
        point = Point(
            start,
            deed,
            chance.choice(DEATHS),
            chance.randint(1, latest),
            chance.choice((0.0, 1.0, chance.random())),
            chance.randint(1, 25) if chance.random() < 0.6 else 0,
        )
        self.try_point(point)


def run(points: int, seed: str, root: str) -> Campaign:
    """Every point there is, then points by chance until so many are tried."""
    campaign = Campaign(root, seed)
    for start in scenes.STARTS:
        for deed in deeds_for(start):
            if campaign.points < points and len(campaign.faults) < campaign.most_faults:
                campaign.try_all(start, deed)
    while campaign.points < points and len(campaign.faults) < campaign.most_faults:
        campaign.try_by_chance()
    return campaign


def scratch() -> str:
    """A folder to work in: in memory, where that is to be had."""
    return tempfile.mkdtemp(prefix="crash-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.crash_points")
    parser.add_argument("--points", type=int, default=10_000)
    parser.add_argument("--seed", default=secrets.token_hex(4))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    root = scratch()
    begun = time.monotonic()
    os.fsync = lambda fd: None  # no death here is a power cut
    try:
        campaign = run(options.points, options.seed, root)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    for name, count in sorted(campaign.tried.items()):
        print(f"{name:18} {count:6}")
    print(
        f"{campaign.points} crash points in {time.monotonic() - begun:.0f} s, "
        f"{len(campaign.faults)} faults"
    )
    for fault in campaign.faults:
        print(fault)
    return 1 if campaign.faults else 0


if __name__ == "__main__":
    sys.exit(main())
