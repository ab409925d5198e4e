"""People who edit the job files and take their time, beside clients and workers.

    python -m tests.campaigns.edit_storm --edits 200 --seed 1

Editors read a file, think for up to three seconds, and save: fields changed, jobs removed, added,
retried, cancelled or moved between the files, the newest job deleted, `[]`, another layout, all at
once or in place with a pause in the middle. Nothing that was accepted may be lost, and no job may
run again unless an editor retried it. It must take less than ten minutes: until then an edit that
shows nothing of what was read removes nothing.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import random
import secrets
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from queuectl.errors import DuplicateId, StoreError
from queuectl.job_queue import JobQueue
from queuectl.worker import pool
from tests.campaigns.crew import Crew, Shared, crew
from tests.campaigns.yard import Notes, show, whole_lines

CLIENTS, WORKERS, EDITORS = 3, 3, 3
THOUGHT = 3.0  # seconds at most
PAUSE = 0.15  # mean seconds between two enqueues of a client
DRAIN = 60.0  # seconds for the queue to come to rest
Forms = list[dict[str, Any]]


class Editor:
    """One person with one file open at a time. `done` counts all edits of all editors."""

    def __init__(self, campaign: Campaign, notes: Notes, number: int) -> None:
        self.campaign, self.notes, self.number = campaign, notes, number
        self.chance = random.Random(f"{campaign.seed} editor {number}")
        self.made = 0
        self.deeds: dict[Callable[[Forms, str], Forms], float] = {
            self.reprioritise: 4,
            self.remove: 2,
            self.delete_newest: 2,
            self.empty: 2,
            self.reformat: 2,
            self.retry: 2,
            self.cancel: 1,
            self.add: 2,
        }

    def live(self) -> None:
        """Edit until there were enough of it."""
        while not self.campaign.crew.over() and sum(self.campaign.edits()) < self.campaign.wanted:
            name = self.chance.choices(("jobs.json", "dlq.json"), (4, 1))[0]
            path = os.path.join(self.campaign.crew.yard.data, name)
            try:
                with open(path, encoding="utf-8") as file:
                    forms = json.load(file)
            except (ValueError, FileNotFoundError):
                time.sleep(0.1)  # somebody else is saving
                continue
            deed = self.chance.choices(list(self.deeds), list(self.deeds.values()))[0]
            time.sleep(self.chance.uniform(0, THOUGHT) if self.chance.random() < 0.7 else 0)
            self.save(path, deed(forms, name))
            self.notes.tell("edit", deed.__name__, name)
            self.campaign.count(self.number)

    def save(self, path: str, forms: Forms) -> None:
        """Write the file, in some layout, over the old one or into it."""
        layout = self.chance.choice(({}, {"indent": 2}, {"sort_keys": True}))
        text = json.dumps(forms, ensure_ascii=self.chance.random() < 0.5, **layout)
        how = self.chance.choices(("renamed", "in place", "slowly"), (4, 2, 2))[0]
        if how == "renamed":
            beside = f"{path}.{self.number}~"
            with open(beside, "w", encoding="utf-8") as file:
                file.write(text)
            os.rename(beside, path)
            return
        # Two who write into one file at once leave a mixture of both, which is refused for good.
        with open(os.path.join(self.campaign.crew.yard.root, "editor.lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.write(path, text, slowly=how == "slowly")

    def write(self, path: str, text: str, *, slowly: bool) -> None:
        """Write into the file, which is empty, and then half of it, until that is done."""
        with open(path, "w", encoding="utf-8") as file:
            if slowly:
                file.write(text[: len(text) // 2])
                file.flush()
                time.sleep(self.chance.uniform(0, THOUGHT))
                text = text[len(text) // 2 :]
            file.write(text)

    def some(self, forms: Forms, *states: str) -> dict[str, Any] | None:
        found = [form for form in forms if form["state"] in states]
        return self.chance.choice(found) if found else None

    # -- what they do

    def reprioritise(self, forms: Forms, name: str) -> Forms:
        for _ in range(self.chance.randint(1, 4)):
            form = self.some(forms, "pending", "failed", "in_progress", "completed", "dead")
            if form is not None:
                form["priority"] = self.chance.randint(-9, 9)
        return forms

    def remove(self, forms: Forms, name: str) -> Forms:
        form = self.some(forms[:-1], "completed", "pending", "dead")
        if form is not None:
            self.notes.tell("removing", form["id"])
            forms.remove(form)
        return forms

    def delete_newest(self, forms: Forms, name: str) -> Forms:
        # One that came with others that stay was seen with them, and goes.
        self.notes.tell("removing", *(form["id"] for form in forms[-1:]))
        return forms[:-1]

    def empty(self, forms: Forms, name: str) -> Forms:
        return []

    def reformat(self, forms: Forms, name: str) -> Forms:
        return forms

    def retry(self, forms: Forms, name: str) -> Forms:
        form = self.some(forms, "completed", "cancelled", "dead")
        if form is not None:
            self.notes.tell("retrying", form["id"])
            form["state"] = "pending"
        return forms

    def cancel(self, forms: Forms, name: str) -> Forms:
        # Not one that an editor before made pending, whose edit may not have been taken in yet.
        form = self.some([form for form in forms if not form.get("run")], "pending")
        if form is not None:
            self.notes.tell("cancelling", form["id"])
            form["state"] = "cancelled"
        return forms

    def add(self, forms: Forms, name: str) -> Forms:
        self.made += 1
        job_id = f"h{self.number}-{self.made}"
        command = self.campaign.command(self.chance)
        form = {"id": job_id, "command": command, "max_retries": 0}
        return [*forms, {**form, "cwd": self.campaign.crew.yard.root, "state": "pending"}]


class Campaign:
    """What all processes share."""

    def __init__(self, crew: Crew, seed: str, wanted: int) -> None:
        self.crew, self.seed, self.wanted = crew, seed, wanted
        self._edits = Shared(EDITORS)

    def edits(self) -> list[int]:
        """How many edits each editor has made."""
        return [self._edits[n] for n in range(EDITORS)]

    def count(self, editor: int) -> None:
        """One more edit."""
        self._edits[editor] = self._edits[editor] + 1

    def queue(self) -> JobQueue:
        return JobQueue.open(self.crew.yard.data)

    def command(self, chance: random.Random) -> str:
        """A command that records its run; one in eight fails."""
        ends = ("sleep 0.1", "true", "true", "true", "sleep 0.4", "true", "true", "exit 3")
        end = chance.choice(ends)
        return f'echo "$QUEUECTL_ATTEMPT" >> "edit-runs/$QUEUECTL_JOB_ID"; {end}'

    def start(self) -> None:
        """Fork everybody."""
        os.mkdir(os.path.join(self.crew.yard.root, "edit-runs"))
        settings = {"poll-interval": 0.2, "base": 0, "max-retries": 0, "lock-timeout": 20}
        self.queue().change_settings(settings)
        pool.start(self.crew.yard.data, WORKERS)
        for n in range(CLIENTS):
            self.crew.fork(f"client-{n}", lambda notes, n=n: self.enqueue(notes, n))
        for n in range(EDITORS):
            self.crew.fork(f"editor-{n}", lambda notes, n=n: Editor(self, notes, n).live())

    def enqueue(self, notes: Notes, mine: int) -> None:
        """Enqueue jobs; while an editor's file is half written, try again."""
        chance, queue, number = random.Random(f"{self.seed} client {mine}"), self.queue(), 0
        while not self.crew.over():
            ids = [f"c{mine}-{number + n}" for n in range(chance.randint(1, 2))]
            number += len(ids)
            cwd = self.crew.yard.root
            drafts = [{"id": i, "command": self.command(chance), "cwd": cwd} for i in ids]
            while True:
                try:
                    queue.enqueue(drafts)
                except DuplicateId:
                    notes.tell("violation", f"{ids} were refused, and yet are there")
                except StoreError:
                    time.sleep(0.1)
                    if self.crew.over():
                        return
                    continue
                break
            notes.tell("accepted", *ids)
            if chance.random() < 0.3:
                with suppress(StoreError):
                    queue.checkpoint()
            time.sleep(min(chance.expovariate(1 / PAUSE), 1.0))

    def is_at_rest(self, queue: JobQueue) -> bool:
        """Whether all jobs have ended; not while a file is half written."""
        try:
            return queue.is_drained()
        except StoreError:
            return False

    def faults(self, queue: JobQueue) -> Iterator[str]:
        """What is wrong when all have come to rest."""
        yard, jobs = self.crew.yard, {job.id: job for job in queue.find()}
        noted = {
            word: Counter(job_id for note in yard.told(word) for job_id in note[1:])
            for word in ("accepted", "removing", "retrying", "cancelling")
        }
        for job_id in noted["accepted"].keys() - jobs.keys() - noted["removing"].keys():
            yield f"{job_id} was accepted, but is LOST"
        for job in jobs.values():
            runs = len(whole_lines(os.path.join(yard.root, "edit-runs", job.id)))
            if runs > 1 + noted["retrying"][job.id]:
                yield f"{job.id} ran {runs} times, retried {noted['retrying'][job.id]} times: {job}"
            if job.state in ("completed", "dead") and not runs:
                yield f"{job.id} is {job.state}, but did not run"
            if job.state not in ("completed", "dead", "cancelled"):
                yield f"{job.id} is {job.state} for ever"
            if job.state == "cancelled" and not noted["cancelling"][job.id]:
                yield f"{job.id} is cancelled, and nobody cancelled it"
            if job.losses:
                yield f"{job.id} has lost a worker, and none was killed"
        yield from queue.store.check()


def run(edits: int, seed: str) -> Iterator[str]:
    """The whole campaign; a line for each fault, then one for its figures, which begins with #."""
    with crew() as gathered:
        campaign = Campaign(gathered, seed, edits)
        queue = campaign.queue()
        campaign.start()
        try:
            seen, since = 0, time.monotonic()
            while seen < edits and not gathered.yard.violations():
                if sum(campaign.edits()) > seen:
                    seen, since = sum(campaign.edits()), time.monotonic()
                elif time.monotonic() > since + DRAIN:
                    yield f"no edit for {DRAIN:g} s, after {seen}"
                    break
                time.sleep(0.1)
            yield from gathered.work(0.0)
            deadline = time.monotonic() + DRAIN
            while not campaign.is_at_rest(queue) and time.monotonic() < deadline:
                time.sleep(0.1)
        finally:
            pool.stop(queue, now=True)
        queue.checkpoint()
        yield from campaign.faults(queue)
        kinds = Counter(note[1] for note in gathered.yard.told("edit"))
        aside = sum(".edit-" in name for name in os.listdir(gathered.yard.data))
        accepted = sum(len(note) - 1 for note in gathered.yard.told("accepted"))
        figures = f"{sum(kinds.values())} edits, {accepted} jobs accepted, {aside} set aside"
        yield f"# {figures}: {dict(kinds)}"
        queue.close()


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.edit_storm")
    parser.add_argument("--edits", type=int, default=200)
    parser.add_argument("--seed", default=secrets.token_hex(4))
    options = parser.parse_args()
    print(f"edit storm: {options.edits} edits, --seed {options.seed}", flush=True)
    return show(run(options.edits, options.seed))


if __name__ == "__main__":
    sys.exit(main())
