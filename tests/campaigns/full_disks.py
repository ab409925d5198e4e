"""Lets the disk refuse each call, once or for a while, and goes on afterwards.

    python -m tests.campaigns.full_disks --points 4000 --seed 1

Every deed of deeds.py meets a full disk (ENOSPC) or a broken one (EIO) at its n-th call. It must
be refused cleanly: the queue is as it was, or the answer says so; and whoever met the trouble, and
others, work on when it is over.
"""

from __future__ import annotations

import argparse
import errno
import os
import random
import secrets
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from queuectl.errors import NotConfirmed, StoreError
from tests.campaigns import scenes
from tests.campaigns.crash_points import Trial, scratch
from tests.campaigns.deeds import Deed, deeds_for
from tests.campaigns.scenes import View, copy, let_go, open_queue, view
from tests.failing_disk import failing_disk

ERRORS = (errno.ENOSPC, errno.EIO)
HOWS = ("once", "full")
STARTS = ("nothing", "empty", "small", "busy", "torn", "edited", "folding-9")
# Steps that a deed takes after it was answered for: what they meet is nobody's refusal.
IN_STEPS = ("add_and_close", "bury_and_fold", "register_release", "take_back", "repair", "restore")


class Trouble(NamedTuple):
    """One refusal: from the n-th call on, or only then."""

    start: str
    deed: Deed
    how: str
    error: int
    at: int

    def __str__(self) -> str:
        name = f"{self.deed.__name__} in {self.start}"
        return f"{name}: {errno.errorcode[self.error]} {self.how} at call {self.at}"


class Campaign:
    """Tries troubles, and remembers how many, and what went wrong."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.tried: Counter[str] = Counter()
        self.faults: list[str] = []
        self._trials: dict[str, Trial] = {}

    def meet(self, trouble: Trouble) -> bool:
        """Whether the deed came that far; a fault is noted."""
        if trouble.start not in self._trials:
            self._trials[trouble.start] = Trial(self.root, trouble.start)
        trial = self._trials[trouble.start]
        path = os.path.join(self.root, f"queue{self.tried.total()}")
        if os.path.exists(trial.template):
            copy(trial.template, path)
        met = True
        try:
            met = _meet(trouble, path, trial.before, trial.after(trouble.deed))
        except (AssertionError, StoreError, OSError, ValueError) as exc:
            self.faults.append(f"{trouble}: {type(exc).__name__}: {exc}")
        shutil.rmtree(path, ignore_errors=True)
        self.tried[trouble.deed.__name__] += met
        return met

    def meet_each(self, start: str, deed: Deed, how: str, error: int) -> None:
        """The trouble at each call of one deed."""
        at = 1
        while self.meet(Trouble(start, deed, how, error, at)) and len(self.faults) < 10:
            at += 1


def _meet(trouble: Trouble, path: str, before: View, after: View) -> bool:
    queue, refusal = open_queue(path), None
    deed = trouble.deed(queue)
    with failing_disk(trouble.at, trouble.how, error=trouble.error) as disk:
        try:
            deed()
        except StoreError as exc:
            refusal = exc
        found = view(queue)  # reading needs no room
    if trouble.deed.__name__ not in IN_STEPS:
        assert found in (before, after), "half of it was done"
    if refusal is None:
        assert found == after, "it was answered, but not done"
    elif trouble.deed.__name__ not in IN_STEPS and not isinstance(refusal, NotConfirmed):
        assert found == before, f"it was done in spite of: {refusal}"
    stranger = open_queue(path)
    stranger.enqueue([{"id": "s1", "command": "x"}])
    queue.enqueue([{"id": "s2", "command": "x"}])
    queue.checkpoint()
    seen = view(stranger)
    assert {**seen.jobs, "s1": None, "s2": None} == {**found.jobs, "s1": None, "s2": None}
    assert seen.settings == found.settings
    assert set(scenes.in_files(path)) == set(seen.jobs)
    for each in (queue, stranger):
        let_go(each)
    return disk.broken


def troubles() -> Iterator[tuple[str, Deed, str, int]]:
    """Every start, deed and kind of trouble."""
    for start in STARTS:
        for deed in deeds_for(start):
            for how in HOWS:
                for error in ERRORS:
                    yield start, deed, how, error


def run(points: int, seed: str, root: str) -> Campaign:
    """Trouble at each call of deeds that chance has chosen, until so many were met."""
    campaign = Campaign(root)
    kinds = list(troubles())
    random.Random(seed).shuffle(kinds)
    for kind in kinds:
        if campaign.tried.total() < points and len(campaign.faults) < 10:
            campaign.meet_each(*kind)
    return campaign


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.full_disks")
    parser.add_argument("--points", type=int, default=1_000_000, help="default: all there are")
    parser.add_argument("--seed", default=secrets.token_hex(4))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    root, begun = scratch(), time.monotonic()
    os.fsync = lambda fd: None
    try:
        campaign = run(options.points, options.seed, root)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    for name, count in sorted(campaign.tried.items()):
        print(f"{name:18} {count:6}")
    seconds = time.monotonic() - begun
    print(f"{campaign.tried.total()} refusals in {seconds:.0f} s, {len(campaign.faults)} faults")
    for fault in campaign.faults:
        print(fault)
    return 1 if campaign.faults else 0


if __name__ == "__main__":
    sys.exit(main())
