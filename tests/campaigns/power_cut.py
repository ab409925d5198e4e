"""Cuts the power after each call to the disk, and checks all states that may be left.

    python -m tests.campaigns.power_cut --stories 40 --seed 1

A story is a few dozen deeds by chance, done on a recorded disk (simulated_disk.py) by processes
that follow each other, die, and come between another's write and its fsync. For every prefix of
what was recorded some of the states are built that a power cut might leave there, and opened. What
was promised by then must be there; what was not may be missing, but only from its end.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from queuectl.errors import BadFile, StoreError
from queuectl.job_queue import JobQueue
from queuectl.model.job import Job
from queuectl.model.selection import in_state
from queuectl.store import door
from tests.campaigns import scenes
from tests.campaigns.crash_points import NEXT, scratch
from tests.campaigns.scenes import View, let_go, open_queue, outcome, view
from tests.campaigns.simulated_disk import Event, Model, Recorder, State
from tests.failing_disk import DEATHS, Disk, FailingDisk, Killed, standing_in

NOTHING = View({}, {})
Jobs = dict[str, Job]


class Chapter(NamedTuple):
    """One deed: between which events it was begun and answered, and the queue after it.

    `answered` is None for what was not promised, or never answered.
    """

    name: str
    begun: int
    answered: int | None
    after: View


class Story:
    """Deeds done one after the other, or one within the other, on a recorded disk."""

    def __init__(self, root: str, seed: str) -> None:
        os.makedirs(root)
        self.root, self.path = root, os.path.join(root, "queue")
        self.chance = random.Random(seed)
        self.disk = Recorder(root)
        self.chapters: list[Chapter] = []
        self._made = 0
        self._queues: list[JobQueue] = []

    @property
    def events(self) -> list[Event]:
        """What was done to the disk."""
        return self.disk.events

    def tell(self, deeds: int) -> None:
        """Do so many deeds."""
        with standing_in(self.disk):
            while len(self.chapters) < deeds:
                self._do(*self._choose())
            for queue in self._queues:
                let_go(queue)

    def _queue(self) -> JobQueue:
        """One of three processes, or one that has just come."""
        if len(self._queues) < 3 or self.chance.random() < 0.2:
            if len(self._queues) == 3:
                let_go(self._queues.pop(self.chance.randrange(3)))
            self._queues.append(open_queue(self.path))
        return self.chance.choice(self._queues)

    def _choose(self) -> tuple[str, bool, Callable[[JobQueue], object]]:
        names = list(_PLOT)
        name = self.chance.choices(names, [_PLOT[name][0] for name in names])[0]
        _, promised, deed = _PLOT[name]
        return name, promised, lambda queue: deed(self, queue)

    def _do(self, name: str, promised: bool, deed: Callable[[JobQueue], object]) -> None:
        queue = self._queue()
        if self.chance.random() < (0.3 if name in ("checkpoint", "register") else 0.1):
            self._die_at(name, queue, deed)
        elif self.chance.random() < 0.15:
            self._be_interrupted(name, promised, queue, deed)
        else:
            begun = len(self.events)
            deed(queue)
            self._note(name, begun, promised)

    def _note(self, name: str, begun: int, promised: bool) -> None:
        answered = len(self.events) if promised else None
        self.chapters.append(Chapter(name, begun, answered, self._look()))

    def sure(self, count: int) -> tuple[int, int]:
        """The last chapters whose jobs and whose settings are promised after so many events.

        What changed nothing promised nothing; -1 stands for the time before the first chapter.
        """
        jobs = settings = -1
        before = NOTHING
        for number, chapter in enumerate(self.chapters):
            after = chapter.after
            if chapter.answered is not None and chapter.answered <= count:
                if after.jobs != before.jobs or chapter.name.startswith("checkpoint"):
                    jobs = number
                if after.settings != before.settings:
                    settings = number
            before = after
        return jobs, settings

    def _look(self) -> View:
        with standing_in(Disk()):
            queue = open_queue(self.path)
            try:
                return view(queue)
            finally:
                let_go(queue)

    def _die_at(self, name: str, queue: JobQueue, deed: Callable[[JobQueue], object]) -> None:
        """Let the process die in the middle of it."""
        begun, how = len(self.events), self.chance.choice(DEATHS)
        doomed = FailingDisk(self.chance.randint(1, 12), how, under=self.disk)
        with standing_in(doomed):
            try:
                deed(queue)
            except Killed:
                name += f", killed {how} call {doomed.at}"
            let_go(queue)
        self._queues.remove(queue)
        self._note(name, begun, promised=False)

    def _be_interrupted(
        self, name: str, promised: bool, queue: JobQueue, deed: Callable[[JobQueue], object]
    ) -> None:
        """Let others do something between the deed's append and its fsync."""
        begun, at = len(self.events), len(self.chapters)
        confirm = queue.store._writer.confirm
        others = [self._choose() for _ in range(self.chance.randint(1, 3))]

        def late() -> None:
            queue.store._writer.confirm = confirm  # type: ignore[method-assign]
            if len(self.chapters) == at:
                self._note(name, begun, promised=False)
                for other, sure, act in others:
                    stranger = open_queue(self.path)
                    start = len(self.events)
                    act(stranger)
                    self._note(f"{other} meanwhile", start, sure)
                    let_go(stranger)
            confirm()

        queue.store._writer.confirm = late  # type: ignore[method-assign]
        deed(queue)
        queue.store._writer.confirm = confirm  # type: ignore[method-assign]
        if len(self.chapters) == at:
            self._note(name, begun, promised)
        elif promised:
            self.chapters[at] = self.chapters[at]._replace(answered=len(self.events))

    # -- deeds

    def ids(self, *states: str) -> list[str]:
        """The jobs in these states, in some order."""
        found = [i for i, job in self._look().jobs.items() if job.state in states]
        self.chance.shuffle(found)
        return found

    def enqueue(self, queue: JobQueue) -> None:
        drafts: list[dict[str, object]] = []
        for _ in range(self.chance.choice((1, 1, 1, 4))):
            self._made += 1
            command = "x" * self.chance.choice((1, 30, 700, 5000))
            drafts.append({"id": f"j{self._made}", "command": command, "max_retries": 0})
        queue.enqueue(drafts)

    def settle_and_claim(self, queue: JobQueue) -> None:
        running = self.ids("in_progress")
        job = queue.get(running[0]) if running else None
        queue.claim("w-1", (job, outcome(self.chance.randint(0, 1))) if job else None)

    def change(self, queue: JobQueue) -> None:
        for job_id in self.ids("pending")[:1]:
            queue.update(job_id, {"priority": self.chance.randint(-9, 9)})

    def retry(self, queue: JobQueue) -> None:
        if ids := self.ids("dead", "cancelled", "completed")[:2]:
            queue.retry(ids)

    def cancel(self, queue: JobQueue) -> None:
        if ids := self.ids("pending")[:2]:
            queue.cancel(ids)

    def set_up(self, queue: JobQueue) -> None:
        queue.change_settings({"base": self.chance.randint(2, 90)})

    def purge(self, queue: JobQueue) -> None:
        queue.purge(in_state(*self.chance.choice((["dead"], ["completed", "cancelled"]))))

    def register(self, queue: JobQueue) -> None:
        self._made += 1
        slot = queue.store.register(f"w-{self._made}", 1, "-", "-")
        queue.store.release(slot)

    def edit(self, queue: JobQueue) -> None:
        """Edit a file as a good editor does: written beside, synced, and renamed over it."""
        queue.checkpoint()  # an edit outlives what came before and was not promised
        name = self.chance.choice(("jobs.json", "dlq.json"))
        path = os.path.join(self.path, name)
        if not os.path.exists(path):
            return
        with open(path, "rb") as file:
            forms = json.load(file)
        for form in [form for form in forms if form["state"] != "in_progress"][:2]:
            form["command"] = f"by hand {len(self.events)}"
        door.rename(door.write_new(path, [json.dumps(forms).encode()]), path)
        door.sync_folder(self.path)


_PLOT: dict[str, tuple[float, bool, Callable[[Story, JobQueue], object]]] = {
    "enqueue": (5, True, Story.enqueue),
    "settle and claim": (5, False, Story.settle_and_claim),
    "change": (2, True, Story.change),
    "retry": (2, True, Story.retry),
    "cancel": (1, True, Story.cancel),
    "set up": (1, True, Story.set_up),
    "purge": (1.5, True, Story.purge),
    "register": (0.5, True, Story.register),
    "checkpoint": (3, True, lambda story, queue: queue.checkpoint()),
    "tidy": (1, False, lambda story, queue: queue.tidy()),
    "edit": (0.7, True, Story.edit),
}


class Cut:
    """The power cuts of one story: how many states were tried, and what was wrong with them."""

    def __init__(self, story: Story, chance: random.Random) -> None:
        self.story, self.chance = story, chance
        self.states = self.refused = 0
        self.faults: list[str] = []
        self._seen: set[tuple[object, ...]] = set()
        self._path = f"{story.root}-cut"

    def everywhere(self, each: int, deadline: float = float("inf"), since: int = 0) -> None:
        """After each event, so many states; stops at the deadline or at the fifth fault.

        After the first `since` events the power stays.
        """
        model = Model(self.story.root)
        for count, event in enumerate(self.story.events, 1):
            model.apply(event)
            for number in range(each if count > since else 0):
                if len(self.faults) == 5 or time.monotonic() > deadline:
                    return
                state = model.sample(self.chance, holes=number % 4 == 3)
                key = (*state.key(), *self._bounds(count))
                if key not in self._seen:
                    self._seen.add(key)
                    self._try(state, count)

    def _bounds(self, count: int) -> tuple[int, int, int]:
        """The last chapters whose jobs and settings are sure by then, and the last begun."""
        jobs, settings = self.story.sure(count)
        begun = [n for n, c in enumerate(self.story.chapters) if c.begun < count]
        return jobs, settings, max([jobs, *begun])

    def _try(self, state: State, count: int) -> None:
        self.states += 1
        os.mkdir(self._path)
        state.build(self.story.root, self._path)
        try:
            self._judge(os.path.join(self._path, "queue"), state, *self._bounds(count))
        except (AssertionError, StoreError, OSError, ValueError) as exc:
            told = self.story.chapters[self._bounds(count)[2]].name if self.story.chapters else ""
            where = f"event {count} ({self.story.events[count - 1].kind}) in {told}"
            self.faults.append(f"{where}: {type(exc).__name__}: {exc}")
        shutil.rmtree(self._path)

    def _judge(self, path: str, state: State, *bounds: int) -> None:
        queue = open_queue(path)
        try:
            found, repaired = self._found(queue, state)
            self._expect(found, repaired, *bounds)
            queue.enqueue([{**NEXT, "id": "next"}])
            queue.checkpoint()
            after = view(queue)
            assert after.jobs.pop("next").state == "pending"
            assert after == found, "the next enqueue changed more"
            assert set(scenes.in_files(path)) == {*found.jobs, "next"}
        finally:
            let_go(queue)

    def _found(self, queue: JobQueue, state: State) -> tuple[View, bool]:
        """The queue as it is now; where a file may have holes, as doctor --repair leaves it."""
        if not state.holes:
            return view(queue), False
        try:  # a reader stops before damage; a writer tells it from an append that was cut short
            queue.store.change_settings(queue.store.settings(), queue.store.settings())
            return view(queue), False
        except BadFile:
            self.refused += 1
        queue.care.repair([], [])
        return view(queue), True

    def _expect(self, found: View, repaired: bool, jobs: int, settings: int, begun: int) -> None:
        views = [NOTHING, *(chapter.after for chapter in self.story.chapters)]
        allowed = [wanted.jobs for wanted in views[jobs + 1 : begun + 2]]
        fits = _fits_in_part(found.jobs, allowed) if repaired else found.jobs in allowed
        if not fits and any("edit" in c.name for c in self.story.chapters[: begun + 1]):
            # Our copy of the file, which nobody syncs, is gone: it is taken as it is, all revs + 1.
            fits = _all_bare(found.jobs) in map(_all_bare, allowed)
        assert fits, f"jobs: {_difference(found, views[jobs + 1])}"
        fit = [wanted for wanted in views[settings + 1 :] if wanted.settings == found.settings]
        assert fit, f"settings: {found.settings}"


def _all_bare(jobs: Jobs) -> dict[str, Job | None]:
    return {job_id: _bare(job) for job_id, job in jobs.items()}


def _fits_in_part(found: Jobs, allowed: list[Jobs]) -> bool:
    """Whether each job is as it was at some time since the last promise, if not all at one time."""
    ids = {job_id for jobs in allowed for job_id in jobs} | found.keys()
    return all(_bare(found.get(i)) in [_bare(jobs.get(i)) for jobs in allowed] for i in ids)


def _bare(job: Job | None) -> Job | None:
    """The job without the number that tells newer from older: taking in an edit raises it."""
    return job and job._replace(rev=0)


def _difference(found: View, wanted: View) -> str:
    """What is other than in the last state that was promised."""
    lost = sorted(wanted.jobs.keys() - found.jobs.keys())
    more = sorted(found.jobs.keys() - wanted.jobs.keys())
    other = [i for i, job in found.jobs.items() if i in wanted.jobs and wanted.jobs[i] != job]
    shown = [(i, wanted.jobs[i].state, found.jobs[i].state, found.jobs[i].rev) for i in other[:4]]
    return f"missing {lost[:5]}, more {more[:5]}, other {shown}"


def run(
    stories: int,
    seed: str,
    root: str,
    *,
    deeds: int = 40,
    each: int = 8,
    deadline: float = float("inf"),
) -> Iterator[Cut]:
    """The cuts of so many stories, one after the other, or as many as there is time for."""
    for number in range(stories):
        if time.monotonic() > deadline:
            return
        story = Story(os.path.join(root, f"story{number}"), f"{seed}-{number}")
        story.tell(deeds)
        cut = Cut(story, random.Random(f"{seed}-{number}-cut"))
        cut.everywhere(each, deadline)
        yield cut
        shutil.rmtree(story.root)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.power_cut")
    parser.add_argument("--stories", type=int, default=40)
    parser.add_argument("--each", type=int, default=8, help="states after each event")
    parser.add_argument("--seed", default=secrets.token_hex(4))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    root = scratch()
    begun, totals, faults = time.monotonic(), [0, 0, 0], 0
    try:
        for number, cut in enumerate(run(options.stories, options.seed, root, each=options.each)):
            figures = (len(cut.story.events), cut.states, cut.refused)
            totals = [total + figure for total, figure in zip(totals, figures, strict=True)]
            faults += len(cut.faults)
            for fault in cut.faults:
                print(f"story {number}: {fault}", flush=True)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    print(
        f"{options.stories} stories, {totals[0]} events, {totals[1]} states of the disk in "
        f"{time.monotonic() - begun:.0f} s, {totals[2]} refused and repaired, {faults} faults"
    )
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
