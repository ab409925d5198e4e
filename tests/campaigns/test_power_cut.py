"""The power cut in a short form, and single stories that it once told."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator

import pytest

from queuectl.model.selection import in_state
from tests.campaigns.crash_points import scratch
from tests.campaigns.power_cut import Cut, Story, run
from tests.campaigns.scenes import open_queue, outcome
from tests.failing_disk import FailingDisk, Killed, standing_in


@pytest.fixture
def root() -> Iterator[str]:
    path = scratch()
    yield path
    shutil.rmtree(path)


@pytest.mark.parametrize("seed", ["1", None], indirect=True, ids=["1", "fresh"])
def test_promises_survive_wherever_the_power_is_cut(root, seed):
    (cut,) = run(1, seed, root, deeds=25, each=4)
    assert cut.faults == []
    assert cut.states > 100


class Told(Story):
    """A story whose deeds are given."""

    def do(self, name: str, die: int = 0, how: str = "die after") -> None:
        """Do it in a process of its own, which dies at the n-th call."""
        deed = getattr(self, name)
        queue, begun = open_queue(self.path), len(self.events)
        disk = FailingDisk(die, how, under=self.disk)
        with standing_in(disk):
            try:
                deed(queue)
            except Killed:
                assert die
        queue.store._writer.close()
        assert disk.broken is (die > 0)
        self._note(name, begun, promised=not die and name not in ("claim", "bury"))

    def claim(self, queue):
        queue.claim("w-1")

    def bury(self, queue):
        queue.settle(queue.get(self.ids("in_progress")[0]), outcome(1))

    def purge_dead(self, queue):
        queue.purge(in_state("dead"))

    def checkpoint(self, queue):
        queue.checkpoint()

    def cut(self, each: int, since: int = 0) -> Cut:
        """The power cut after each event, so many times."""
        cut = Cut(self, random.Random(1))
        cut.everywhere(each, since=since)
        assert cut.states > 20
        return cut


# States after each event; of four one may have holes.
EACH = pytest.mark.parametrize("each", [4, pytest.param(40, marks=pytest.mark.campaign)])


def calls(last: int) -> list[object]:
    """The calls to die at: in the short form every other one."""
    long = pytest.mark.campaign
    return [pytest.param(die, marks=[] if die % 2 else [long]) for die in range(1, last + 1)]


@pytest.fixture
def story(root) -> Told:
    return Told(os.path.join(root, "story"), "told")


# A death before a call leaves what one after the call before it leaves.
@EACH
@pytest.mark.parametrize(
    "how", [pytest.param("die before", marks=pytest.mark.campaign), "die after"]
)
@pytest.mark.parametrize("die", calls(17))
def test_a_folder_whose_making_was_cut_short_is_made_anew(story, die, how, each):
    story.do("enqueue", die, how)
    story.do("enqueue")
    assert story.cut(each).faults == []


@EACH
@pytest.mark.parametrize("die", calls(16))
def test_a_fold_that_was_cut_short_loses_nothing(story, die, each):
    for name in ("enqueue", "claim", "bury"):
        story.do(name)
    story.do("enqueue")
    story.do("checkpoint")
    story.do("purge_dead")
    told = len(story.events) if die > 1 else 0  # the beginning is the same for all of them
    story.do("checkpoint", die)
    story.do("enqueue")
    story.do("checkpoint")
    assert story.cut(each, since=told).faults == []


@EACH
@pytest.mark.parametrize("die", calls(16))
def test_a_fold_that_was_cut_short_and_left_nothing_to_write_loses_nothing(story, die, each):
    for name in ("enqueue", "claim", "bury"):
        story.do(name)
    story.do("checkpoint")
    story.do("purge_dead")
    told = len(story.events) if die > 1 else 0
    story.do("checkpoint", die)
    story.do("checkpoint")
    story.do("enqueue")
    assert story.cut(each, since=told).faults == []
