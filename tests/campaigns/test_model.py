"""Two stores and three claimers against a plain dictionary, with all that may come between them.

A step is a deed of one of two processes, which may die at any call of it; the dictionary says what
each deed makes of the queue, by rules written anew here. After each step all who look must see
what the dictionary holds. QUEUECTL_MODEL_EXAMPLES is the number of examples of the long form.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from queuectl.errors import KeyTaken, QueuectlError
from queuectl.job_queue import JobQueue
from queuectl.model.fields import STATES
from queuectl.model.job import Job
from queuectl.model.lifecycle import Outcome
from queuectl.model.selection import in_state
from queuectl.model.times import format_time, parse_time
from queuectl.store.files import firing, writer
from queuectl.store.files.job_files import line_id
from queuectl.store.files.journal import Journal
from tests.campaigns.crash_points import scratch
from tests.failing_disk import DEATHS, failing_disk

WORKERS = ("w-0", "w-1", "w-2")
ENDED = ("completed", "dead", "cancelled")
LOST = ("dead", "cancelled")


class Entry(NamedTuple):
    """What the dictionary knows of a job. `worker` only while it runs, `ended` only afterwards."""

    state: str
    priority: int
    command: str
    run_at: str
    max_retries: int
    attempts: int = 0
    run: int = 0
    losses: int = 0
    worker: str | None = None
    asked: bool = False
    ended: str | None = None
    tags: tuple[str, ...] = ()
    lock: tuple[str, ...] = ()
    every: float | None = None  # of a schedule
    last: str | None = None
    after: tuple[str, ...] = ()
    after_end: tuple[str, ...] = ()
    fell: bool = False  # with a job that it waited for
    unique: str | None = None

    @classmethod
    def of(cls, job: Job) -> Entry:
        ended = (job.finished_at or job.updated_at) if job.state in ENDED else None
        worker = job.worker if job.state == "in_progress" else None
        return cls(
            *(job.state, job.priority, job.command, job.run_at, job.max_retries, job.attempts),
            *(job.run, job.losses, worker, job.cancel_requested, ended, job.tags, job.lock),
            *(job.every, job.last, job.after, job.after_end),
            (job.error or "").startswith("dependency: "),
            job.unique,
        )

    def waits_for(self) -> tuple[str, ...]:
        return (*self.after, *self.after_end)

    def end(self, state: str, now: str, **changes: Any) -> Entry:
        return self._replace(state=state, worker=None, asked=False, ended=now, **changes)


Jobs = dict[str, Entry]
REFUSALS = ("once", "full")
FATES = (*DEATHS, *REFUSALS)
fates = st.one_of(*[st.none()] * 4, st.tuples(st.sampled_from(FATES), st.integers(1, 25)))
pick = st.integers(0, 1000)
one_of_two = st.integers(0, 1)


class NotNow(Exception):
    """A step that cannot be taken as the queue is: it is passed over."""


def assume(condition: object) -> None:
    """Unlike hypothesis' own, which would throw the whole example away."""
    if not condition:
        raise NotNow


def step(**strategies: Any) -> Callable[[Callable[..., None]], Any]:
    """A rule that may turn out to be none at the moment."""

    def decorated(act: Callable[..., None]) -> Any:
        @functools.wraps(act)
        def tried(self: Any, *args: Any, **given: Any) -> None:
            with suppress(NotNow):
                act(self, *args, **given)

        return rule(**strategies)(tried)

    return decorated


class Queues(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        patch = self.stack.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(os, "fsync", lambda fd: None)  # nothing here is a power cut
        made = SimpleNamespace(take=lambda: str(self.copies))
        patch.setattr(firing, "MadeIds", lambda *_: made)
        patch.setattr(writer, "_VET_EVERY", 0.0)  # a busy worker looks for edits now and then only
        self.root = scratch()
        self.path = os.path.join(self.root, "queue")
        self.clock = float(int(time.time()))
        self.queues = [self._open(), self._open()]
        self.jobs: Jobs = {}
        self.after: Jobs = {}  # the same as the last step should have left them, without its hooks
        self.settings: dict[str, object] = {}
        self.held: dict[str, Job] = {}  # what workers think they run
        self.edited: dict[str, list[dict[str, Any]]] = {}  # files that are open in an editor
        self.made = self.copies = 0

    def teardown(self) -> None:
        for queue in self.queues:
            queue.store._writer.close()
        shutil.rmtree(self.root)
        self.stack.close()

    def _open(self) -> JobQueue:
        queue = JobQueue.open(self.path)
        queue.store.now = queue.store._writer._now = lambda: self.clock
        queue._dice = lambda: 0.0
        return queue

    @property
    def now(self) -> str:
        return format_time(self.clock)

    def _ids(self, *states: str) -> list[str]:
        return sorted(i for i, entry in self.jobs.items() if entry.state in states)

    def _pick(self, number: int, *states: str) -> str:
        ids = self._ids(*states)
        assume(ids)
        return ids[number % len(ids)]

    def _do(
        self, which: int, fate: Any, act: Callable[[JobQueue], Any], *afters: Jobs
    ) -> tuple[bool, Any]:
        """Do it: the queue is then one of `afters`, or as before if it died or was refused.

        Whether it ended. Who was refused goes on with what it knows.
        """
        queue, before, result, ended = self.queues[which], self.jobs, None, False
        if fate is None:
            result, ended = act(queue), True
        else:
            try:
                with failing_disk(fate[1], fate[0]):
                    result, ended = act(queue), True
            except (QueuectlError, OSError):
                assert fate[0] in REFUSALS
        if not ended and fate[0] in DEATHS:
            self.crash(which)
        found = self._seen(self.queues[which])
        expected = afters if ended else (before, *afters)
        matching = [after for after in expected if self._is(self.queues[which], found, after)]
        assert matching
        self.after, self.jobs = matching[0], found
        return ended, result

    def _is(self, queue: JobQueue, found: Jobs, after: Jobs) -> bool:
        """Whether the jobs are those, and a hook for each that died; none has one twice."""
        new = {i: e for i, e in found.items() if _is_hook(i) and i not in self.jobs}
        if {i: e for i, e in found.items() if i not in new} != after:
            return False
        of = [(queue.get(hook_id).env or {})["QUEUECTL_OF"] for hook_id in new]
        return sorted(of) == self._with_hooks(after)

    def _with_hooks(self, after: Jobs) -> list[str]:
        """The jobs that died by themselves on the way to those, if hooks are to tell of it."""
        return sorted(
            job_id
            for job_id, entry in after.items()
            if "on-dead" in self.settings
            and entry.state == "dead"
            and not entry.fell
            and not _is_hook(job_id)
            and self.jobs[job_id].state not in ENDED
        )

    def _seen(self, queue: JobQueue) -> Jobs:
        return {job.id: Entry.of(job) for job in queue.find()}

    # -- people

    @step(
        which=one_of_two,
        fate=fates,
        count=st.integers(1, 3),
        priority=st.integers(-2, 2),
        delay=st.sampled_from([0, 0, 0, 60, -60]),
        retries=st.integers(0, 2),
        tags=st.sampled_from([(), (), ("t",), ("u",), ("t", "u")]),
        lock=st.sampled_from([(), (), ("l",)]),
        every=st.sampled_from([None, None, 40.0]),
        kin=st.sampled_from(["", "", "after", "after_end", "chain", "fan-in"]),
        number=pick,
    )
    def enqueue(self, which, fate, count, priority, delay, retries, tags, lock, every, kin, number):
        self.made += 1
        ids = [f"j{self.made}.{number}" for number in range(count)]
        run_at = format_time(self.clock + delay)
        entry = Entry("pending", priority, "x" * count, run_at, retries, tags=tags, lock=lock)
        entry = entry._replace(every=every)
        new = dict.fromkeys(ids, entry)
        states = ENDED if kin == "after_end" else ("completed",)
        parents = self._ids("pending", "failed", "in_progress", *states)
        parents = [i for i in parents if self.jobs[i].every is None]
        if kin.startswith("after") and parents:
            waits = (parents[number % len(parents)],)
            new = {job_id: entry._replace(**{kin: waits}) for job_id in ids}
        elif kin == "chain" and not every:
            for parent, child in pairwise(ids):
                new[child] = entry._replace(after=(parent,))
        elif kin == "fan-in" and not every:
            new[ids[0]] = entry._replace(after=tuple(ids[1:2]), after_end=tuple(ids[2:]))
        drafts = [
            {
                "id": job_id,
                "command": entry.command,
                "priority": priority,
                "max_retries": retries,
                "run_at": entry.run_at,
                "tags": tags,
                "lock": lock,
                "after": new[job_id].after,
                "after_end": new[job_id].after_end,
                **({"every": every} if every else {}),
            }
            for job_id in ids
        ]
        self._do(which, fate, lambda queue: queue.enqueue(drafts), {**self.jobs, **new})

    @step(
        which=one_of_two,
        fate=fates,
        key=st.sampled_from("kl"),
        meeting=st.sampled_from(["refuse", "keep", "replace"]),
        priority=st.integers(-2, 2),
    )
    def enqueue_unique(self, which, fate, key, meeting, priority):
        holder = self._holder(key)
        new = Entry("pending", priority, "unique", self.now, 0, unique=key)
        draft = {"command": "unique", "priority": priority, "run_at": self.now}
        draft |= {"max_retries": 0, "unique": key}
        after = self.jobs
        if meeting == "replace":  # the id of one that takes nobody's place is not known
            assume(holder and self.jobs[holder].state != "in_progress")
            after = {**self.jobs, holder: new._replace(run=self.jobs[holder].run)}
        else:
            self.made += 1
            draft["id"] = f"u{self.made}"
            after = self.jobs if holder else {**self.jobs, draft["id"]: new}

        def act(queue):
            refused = None
            try:
                queue.enqueue([draft], None, meeting)
            except KeyTaken as exc:
                refused = exc.job_id
            assert refused == (holder if meeting == "refuse" else None)

        self._do(which, fate, act, after)

    def _holder(self, key: str | None) -> str | None:
        """The one live job with the key, if it is one."""
        held = [i for i, e in self.jobs.items() if e.unique == key and e.state not in ENDED]
        return held[0] if held and key else None

    @step(which=one_of_two, fate=fates, number=pick)
    def cancel(self, which, fate, number):
        job_id = self._pick(number, "pending", "failed", "in_progress")
        entry = self.jobs[job_id]
        running = entry.state == "in_progress"
        new = entry._replace(asked=True) if running else entry.end("cancelled", self.now)
        after = self._followed({**self.jobs, job_id: new})
        self._do(which, fate, lambda q: q.cancel([job_id]), after)

    @step(which=one_of_two, fate=fates, number=pick, alone=st.booleans())
    def retry(self, which, fate, number, alone):
        job_id = self._pick(number, "failed", *ENDED)
        entry = self.jobs[job_id]._replace(state="pending", run_at=self.now, ended=None, fell=False)
        if self.jobs[job_id].state != "failed":
            entry = entry._replace(attempts=0, losses=0)
            if entry.every is not None:  # a schedule that had ended waits for its next time
                entry = entry._replace(run_at=self._coming(self.jobs[job_id]))
            assume(self._may_wait(job_id, entry))
            assume(self._holder(entry.unique) is None)
        after = self._followed({**self.jobs, job_id: entry}, alone)
        self._do(which, fate, lambda q: q.retry([job_id], alone=alone), after)

    @step(
        which=one_of_two,
        fate=fates,
        number=pick,
        other=pick,
        name=st.sampled_from(["after", "after_end"]),
    )
    def depend(self, which, fate, number, other, name):
        job_id, parent = self._pick(number, "pending", "failed"), self._pick(other, *STATES)
        entry = self.jobs[job_id]._replace(**{name: (parent,)})
        assume(entry.unique is None)  # it could come back while another holds its key
        assume(self._may_wait(job_id, entry))
        after = {**self.jobs, job_id: entry}
        self._do(which, fate, lambda q: q.update(job_id, {name: [parent]}), after)

    def _may_wait(self, job_id: str, entry: Entry) -> bool:
        """Whether a live job may wait for what it names: that is there, and in no ring with it."""
        jobs = {**self.jobs, job_id: entry}
        if any(name not in jobs or jobs[name].every is not None for name in entry.waits_for()):
            return False
        if any(jobs[name].state in LOST for name in entry.after):
            return False
        reached, queue = set(), list(entry.waits_for())
        while queue:
            name = queue.pop()
            if name not in reached and name in jobs and jobs[name].state not in ENDED:
                queue += jobs[name].waits_for()
            reached.add(name)
        return job_id not in reached

    def _followed(self, after: Jobs, alone: bool = False) -> Jobs:
        """The jobs after a step that makes `after` of them, with what falls or comes back."""
        before, jobs = self.jobs, dict(after)
        back = {i for i in jobs if jobs[i].state not in LOST and before[i].state in LOST}
        while True:
            for job_id, entry in jobs.items():
                parents = [name for name in entry.after if name in jobs]
                lost = [name for name in parents if jobs[name].state in LOST]
                waits = entry.state in ("pending", "failed")
                if waits and lost and job_id not in back:
                    jobs[job_id] = entry.end(jobs[lost[0]].state, self.now, fell=True)
                    break
                whole = all(name in jobs for name in entry.waits_for())
                rises = entry.fell and whole and not lost and back.intersection(entry.after)
                if rises and before[job_id] == entry and not alone:
                    due = self._coming(entry)
                    risen = entry._replace(state="pending", run_at=due, ended=None, fell=False)
                    jobs[job_id] = risen._replace(attempts=0, losses=0)
                    back.add(job_id)
                    break
            else:
                return jobs

    @step(which=one_of_two, fate=fates, number=pick, priority=st.integers(-2, 2))
    def update(self, which, fate, number, priority):
        job_id = self._pick(number, "pending", "failed", "in_progress")
        entry = self.jobs[job_id]._replace(priority=priority)
        after = {**self.jobs, job_id: entry}
        self._do(which, fate, lambda q: q.update(job_id, {"priority": priority}), after)

    @step(which=one_of_two, fate=fates, states=st.sampled_from([("completed",), ENDED]))
    def purge(self, which, fate, states):
        live = (entry for entry in self.jobs.values() if entry.state not in ENDED)
        named = {name for entry in live for name in entry.waits_for()}
        after = {
            job_id: entry
            for job_id, entry in self.jobs.items()
            if entry.state not in states or str(entry.ended) > self.now or job_id in named
        }
        self._do(which, fate, lambda queue: queue.purge(in_state(*states)), after)

    @step(which=one_of_two, fate=fates, base=st.integers(0, 3))
    def configure(self, which, fate, base):
        self._configure(which, fate, {"base": base}, {"base": base} if base != 2 else {})

    @step(
        which=one_of_two,
        fate=fates,
        paused=st.lists(st.sampled_from("tu*"), max_size=1),
        limits=st.dictionaries(st.sampled_from("tu"), st.integers(1, 2)),
    )
    def shut_and_open(self, which, fate, paused, limits):
        new = {"paused": paused, "limits": limits}
        self._configure(which, fate, new, {name: value for name, value in new.items() if value})

    @initialize(told=st.sampled_from([True, True, False]))
    def hook(self, told):
        if told:
            self._configure(0, None, {"on-dead": "tell"}, {"on-dead": "tell"})

    def _configure(self, which, fate, changes, kept):
        new = {**{n: v for n, v in self.settings.items() if n not in changes}, **kept}
        ended, _ = self._do(which, fate, lambda q: q.change_settings(changes), self.jobs)
        found = dict(self.queues[which].settings().to_dict())
        assert found in ([new] if ended else [self.settings, new])
        self.settings = found

    @step(
        number=pick,
        change=st.sampled_from(["priority", "add", "remove"]),
        renamed=st.booleans(),
        name=st.sampled_from(["jobs.json", "dlq.json"]),
    )
    def edit_by_hand(self, number, change, renamed, name):
        path = os.path.join(self.path, name)
        assume(os.path.exists(path) and self._journaled() is not None)
        if change == "remove":
            # An edit of the job that no process has met yet would be lost in the file itself.
            self.queues[0].checkpoint()
        journaled = self._journaled()
        assert journaled is not None
        with open(path, encoding="utf-8") as file:
            forms = json.load(file)
        if change == "add":
            self.made += 1
            job_id, run_at = f"hand{self.made}", self.now
            forms.append(
                {
                    "id": job_id,
                    "command": "by hand",
                    "run_at": run_at,
                    "max_retries": 1,
                    "state": "pending",
                }
            )
            self.jobs = {**self.jobs, job_id: Entry("pending", 0, "by hand", run_at, 1)}
        else:
            free = [f for f in forms if f["id"] not in journaled and f["state"] != "in_progress"]
            assume(free)
            form = free[number % len(free)]
            self.jobs = dict(self.jobs)
            if change == "remove":
                forms.remove(form)
            else:
                self.made += 1
                form |= {"priority": number, "note": "x" * self.made}  # never twice of one size
                entry = self.jobs[form["id"]]
                self.jobs[form["id"]] = entry._replace(priority=form["priority"])
        self._write_by_hand(path, json.dumps(forms, indent=number % 3), renamed)
        if change == "remove":
            # Whether the editor has seen it depends on times: what the first writer finds counts.
            self.queues[0].checkpoint()
            found = self._seen(self.queues[0])
            assert found in (self.jobs, {i: e for i, e in self.jobs.items() if i != form["id"]})
            self.jobs = found

    @step(name=st.sampled_from(["jobs.json", "dlq.json"]))
    def open_in_an_editor(self, name):
        path = os.path.join(self.path, name)
        assume(os.path.exists(path))
        with open(path, encoding="utf-8") as file:
            self.edited[name] = json.load(file)

    @step(
        number=pick,
        change=st.sampled_from(["priority", "add", "remove", "remove all", "nothing"]),
        renamed=st.booleans(),
        name=st.sampled_from(["jobs.json", "dlq.json"]),
    )
    def save_what_was_read_long_ago(self, number, change, renamed, name):
        """Of the jobs that were not touched each is as it was just before the saving."""
        assume(name in self.edited and self._journaled() is not None)
        # An edit that no process has met yet would be lost in the file itself.
        self.queues[0].checkpoint()
        forms = self.edited.pop(name)
        free = [form for form in forms if form["state"] != "in_progress"]
        touched: set[str] = set()
        if change == "add":
            self.made += 1
            touched = {f"hand{self.made}"}
            forms.append({"id": f"hand{self.made}", "command": "by hand", "state": "pending"})
        elif change == "remove all":
            touched, forms = {form["id"] for form in forms}, []
        elif change != "nothing":
            assume(free)
            form = free[number % len(free)]
            touched = {form["id"]}
            if change == "remove":
                forms.remove(form)
            else:
                form |= {"priority": 5000 + number}
        text = json.dumps(forms, indent=number % 3, sort_keys=number % 2 == 0)
        self._write_by_hand(os.path.join(self.path, name), text, renamed)
        self.queues[0].checkpoint()
        found = self._seen(self.queues[0])
        for job_id in (found.keys() | self.jobs.keys()) - touched:
            assert found.get(job_id) == self.jobs.get(job_id), (change, job_id)
        for job_id in touched:
            before, after = self.jobs.get(job_id), found.get(job_id)
            if change == "add":
                assert after is not None
            elif change == "priority":
                assert after in (before, before and before._replace(priority=5000 + number))
            else:
                assert after in (before, None)
        self.jobs = found

    def _write_by_hand(self, path: str, text: str, renamed: bool) -> None:
        with open(f"{path}~" if renamed else path, "w", encoding="utf-8") as file:
            file.write(text)
        if renamed:
            os.rename(f"{path}~", path)

    def _journaled(self) -> set[str] | None:
        """The jobs with journal records, over which an edit does not win; None: no journal yet."""
        if not os.path.exists(os.path.join(self.path, "journal")):
            return None
        journal = Journal.for_reading(self.path)
        journal.read_on()
        ids = {line_id(line).decode() for line in journal.all_lines()}
        journal.close()
        return ids

    # -- workers

    @step(which=one_of_two, fate=fates, worker=st.sampled_from(WORKERS), code=st.integers(0, 1))
    def claim(self, which, fate, worker, code):
        """Settle what the worker holds, if anything, and claim the next job."""
        job, settled = self.held.get(worker), self.jobs
        finished = (job, Outcome("exited", code, None, self.now)) if job else None
        if job:
            settled = self._settled(job, code)
        self.copies += 1
        afters = list(self._claimed(settled, worker)) or [settled]
        if self._with_hooks(settled) and "*" not in self.settings.get("paused", ()):
            afters = [settled]  # and a new hook, which comes before all, is what it runs
        ended, got = self._do(which, fate, lambda q: q.claim(worker, finished), *afters)
        if ended:
            self.held.pop(worker, None)
            assert (got is not None) is any(
                entry.worker == worker and settled.get(job_id) != entry
                for job_id, entry in self.jobs.items()
            )
            if got:
                assert self.jobs[got.id] == Entry.of(got)
                self.held[worker] = got
        elif self.after in afters:
            self.held.pop(worker, None)  # it died, and does not know what it has

    @step(which=one_of_two, fate=fates, worker=st.sampled_from(WORKERS), code=st.integers(0, 1))
    def settle(self, which, fate, worker, code):
        assume(worker in self.held)
        job = self.held[worker]
        outcome = Outcome("exited", code, None, self.now)
        after = self._settled(job, code)
        ended, _ = self._do(which, fate, lambda q: q.settle(job, outcome), after)
        if ended:
            del self.held[worker]

    def _settled(self, job: Job, code: int) -> Jobs:
        """The jobs after this run ended, which changes nothing if the run no longer counts."""
        entry = self.jobs.get(job.id)
        if entry is None or (entry.state, entry.worker, entry.run) != (
            *("in_progress", job.worker, job.run),
        ):
            return self.jobs
        attempts = entry.attempts + 1
        if entry.asked:
            new = entry.end("cancelled", self.now)
        elif code == 0:
            new = entry.end("completed", self.now, attempts=attempts)
        elif attempts > entry.max_retries:
            new = entry.end("dead", self.now, attempts=attempts)
        else:
            base = self.settings.get("base", 2)
            due = format_time(self.clock + min(float(base) ** attempts, 86400.0))
            new = entry._replace(state="failed", worker=None, attempts=attempts, run_at=due)
        return self._followed({**self.jobs, job.id: new})

    def _claimed(self, jobs: Jobs, worker: str) -> Iterator[Jobs]:
        """The jobs after the next one is claimed: of those that are as good, any."""
        running = [entry for entry in jobs.values() if entry.state == "in_progress"]
        ready = {
            job_id: (entry.priority, entry.run_at)
            for job_id, entry in jobs.items()
            if entry.state in ("pending", "failed")
            and entry.run_at <= self.now
            and not {"*", *entry.tags} & {*self.settings.get("paused", ())}
            and all(name in jobs and jobs[name].state == "completed" for name in entry.after)
            and all(name in jobs and jobs[name].state in ENDED for name in entry.after_end)
            and not any(set(entry.lock) & set(other.lock) for other in running)
            and all(
                sum(tag in other.tags for other in running) < most
                for tag, most in self.settings.get("limits", {}).items()
                if tag in entry.tags
            )
        }
        for job_id, entry in jobs.items():
            if job_id in ready and ready[job_id] == min(ready.values()):
                if entry.every is not None:
                    yield from self._fired(jobs, job_id, worker)
                    continue
                new = entry._replace(state="in_progress", run=entry.run + 1, worker=worker)
                yield {**jobs, job_id: new}

    def _fired(self, jobs: Jobs, job_id: str, worker: str) -> Iterator[Jobs]:
        """The jobs after a worker met a schedule: put off, and a copy runs if none lives."""
        entry = jobs[job_id]
        due = self._next_time(entry.run_at, entry.every or 0.0)
        kept = {**jobs, job_id: entry._replace(run_at=due)}
        last = jobs.get(entry.last or "")
        if last is not None and last.state not in ENDED:
            yield from list(self._claimed(kept, worker)) or [kept]
            return
        copy_id = f"{job_id}:{self.copies}"
        copy = entry._replace(state="in_progress", run=1, worker=worker, every=None, last=None)
        copy = copy._replace(after=(), after_end=())
        kept[job_id] = kept[job_id]._replace(last=copy_id)
        yield {**kept, copy_id: copy._replace(attempts=0, losses=0)}

    def _coming(self, entry: Entry) -> str:
        """When it is due that had ended and waits again."""
        if entry.every is not None:
            return self._next_time(entry.run_at, entry.every)
        return max(entry.run_at, self.now)

    def _next_time(self, was: str, every: float) -> str:
        due = parse_time(was)
        while due <= self.clock:
            due += every
        return format_time(due)

    @step(which=one_of_two, worker=st.sampled_from(WORKERS))
    def rescue(self, which, worker):
        """Take its jobs from a worker; it may live, and find its result refused."""
        after = dict(self.jobs)
        for job_id, entry in self.jobs.items():
            if entry.worker == worker:
                losses = entry.losses + 1
                if entry.asked:
                    after[job_id] = entry.end("cancelled", self.now)
                elif losses >= 3:
                    after[job_id] = entry.end("dead", self.now, losses=losses)
                else:
                    after[job_id] = entry._replace(state="pending", worker=None, losses=losses)
        # One job after another is taken from it, each with what falls with it.
        self._do(which, None, lambda queue: queue.rescue_worker(worker), self._followed(after))

    # -- what comes between

    @step(which=one_of_two, fate=fates)
    def checkpoint(self, which, fate):
        ended, _ = self._do(which, fate, lambda queue: queue.checkpoint(), self.jobs)
        if ended:
            self._look_into_files()

    def _look_into_files(self) -> None:
        """After a fold the JSON files are the whole truth."""
        where = {}
        for name in ("jobs.json", "dlq.json"):
            with open(os.path.join(self.path, name), encoding="utf-8") as file:
                where |= {form["id"]: (name, form["state"]) for form in json.load(file)}
        assert where == {
            job_id: ("dlq.json" if entry.state == "dead" else "jobs.json", entry.state)
            for job_id, entry in self.jobs.items()
        }

    @step(which=one_of_two, fate=fates)
    def close(self, which, fate):
        self._do(which, fate, lambda queue: queue.close(), self.jobs)
        self.crash(which)

    @step(which=one_of_two)
    def crash(self, which):
        """Drop a store as it is."""
        self.queues[which].store._writer.close()
        self.queues[which] = self._open()

    @step(seconds=st.sampled_from([1, 5, 100, -1, -50, -4000]))
    def set_clock(self, seconds):
        self.clock += seconds

    @invariant()
    def all_see_the_same(self):
        stranger = self._open()
        for queue in (*self.queues, stranger):
            assert self._seen(queue) == self.jobs
            assert queue.store.check() == []
            counts = queue.counts()
            assert counts == {state: len(self._ids(state)) for state in counts}
            assert dict(queue.settings().to_dict()) == self.settings
            slots = [slot for job in queue.find(["in_progress"]) for slot in job.slots]
            assert len(slots) == len(set(slots))
        keys = [e.unique for e in self.jobs.values() if e.unique and e.state not in ENDED]
        assert len(keys) == len(set(keys))
        for entry in self.jobs.values():  # that is what falling is for
            if entry.state in ("pending", "failed"):
                assert not any(self.jobs[i].state in LOST for i in entry.after if i in self.jobs)
        stranger.store._writer.close()


def _is_hook(job_id: str) -> bool:
    return job_id.startswith("hook:")


COMMON = {
    "deadline": None,
    "database": None,
    "suppress_health_check": list(HealthCheck),
    "print_blob": True,
}


def test_two_stores_and_a_dictionary_agree():
    run_state_machine_as_test(
        Queues, settings=settings(max_examples=25, stateful_step_count=30, **COMMON)
    )


@pytest.mark.campaign
@pytest.mark.timeout(0)
def test_two_stores_and_a_dictionary_agree_for_long():
    examples = int(os.environ.get("QUEUECTL_MODEL_EXAMPLES", "1000"))
    run_state_machine_as_test(
        Queues, settings=settings(max_examples=examples, stateful_step_count=60, **COMMON)
    )
