"""The clients in a storm: each is a process that does one kind of thing until it is killed."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable

from queuectl.errors import Conflict, KeyTaken, NoSuchJob
from queuectl.job_queue import JobQueue
from queuectl.model.dependencies import LOST
from queuectl.model.fields import STATES
from queuectl.model.job import LIVE, Job, recurs
from queuectl.model.selection import in_state
from queuectl.store import opening
from queuectl.store.files.job_files import encode_job
from queuectl.store.mongodb import documents
from tests.campaigns.yard import Notes, Yard, whole_lines

LIMITS = {"gpu": 3}
KEYS = ("a key", "another", "a third")
CROWDED = 100  # live jobs; above that, enqueuers wait
PURGE_AGE = 15.0  # seconds
_SLOW = 0.1  # seconds; operations that took longer are noted


class Client:
    """One process's view of the campaign. `name` is its own, for it is never used again."""

    def __init__(self, yard: Yard, name: str, seed: object) -> None:
        self.yard, self.name = yard, name
        self.chance = random.Random(f"{seed} {name}")
        self.notes = Notes(yard, name)
        self.queue = JobQueue.open(yard.data)
        self._slowest = _SLOW
        self._tickets = 0

    def timed(self, what: str, *args: object) -> object:
        """Ask the queue for something, noting who had to wait longest."""
        begun = time.monotonic()
        try:
            return getattr(self.queue, what)(*args)
        finally:
            took = time.monotonic() - begun
            if took > self._slowest:
                self._slowest = took
                self.notes.tell("wait", f"{took:.3f}", what)

    def violation(self, what: str) -> None:
        """Note what must not be."""
        self.notes.tell("violation", f"{self.name}:", what)

    def live_by(self, role: Role, pause: float) -> None:
        """Do what the role asks for until the process that forked this one is gone."""
        parent = os.getppid()
        try:
            while os.getppid() == parent:
                role(self)
                time.sleep(min(self.chance.expovariate(1 / pause), 5 * pause))
        except Exception:
            self.violation(traceback.format_exc())

    # -- enqueuing

    def enqueue(self) -> None:
        """Add a few jobs, and note their ids once they are accepted."""
        if sum(self.queue.counts()[state] for state in ("pending", "failed")) > CROWDED:
            return
        ticket, drafts = self._drafts(self.chance.choice((1, 1, 1, 2, 5, 12)))
        if self.yard.has_all and len(drafts) == 1 and self.chance.random() < 0.4:
            drafts[0]["unique"] = self.chance.choice(KEYS)
        elif self.yard.has_all and self._keeps_kin() and self.chance.random() < 0.4:
            self._chain(ticket, drafts)
        try:
            jobs: list[Job] = self.timed("enqueue", drafts)  # type: ignore[assignment]
        except KeyTaken:
            return
        self.notes.tell("accepted", ticket, *(job.id for job in jobs))
        if "id" in drafts[0] and self.chance.random() < 0.2:
            self._enqueue_again(drafts)

    def _keeps_kin(self) -> bool:
        """Whether jobs may wait for others, which a standalone server refuses."""
        connection = getattr(self.queue.store, "connection", None)
        return connection is None or connection.has_transactions

    def _drafts(self, count: int) -> tuple[str, list[dict[str, object]]]:
        """Jobs to enqueue together; that they will be tried is noted before."""
        self._tickets += 1
        ticket = f"{self.name}.{self._tickets}"
        drafts = [self.yard.draft(self.chance, f"{ticket}.{n}") for n in range(count)]
        if self.chance.random() < 0.3:
            for n, draft in enumerate(drafts):
                draft["id"] = f"{ticket}.{n}"
        self.notes.tell("tried", ticket, count)
        return ticket, drafts

    def _chain(self, ticket: str, drafts: list[dict[str, object]]) -> None:
        """Let each of the jobs wait for some of those before it."""
        for n, draft in enumerate(drafts):
            draft["id"] = f"{ticket}.{n}"
            before = [f"{ticket}.{m}" for m in range(n)]
            parents = self.chance.sample(before, min(n, self.chance.choice((0, 1, 1, 2))))
            draft[self.chance.choice(("after", "after", "after_end"))] = parents

    def _enqueue_again(self, drafts: list[dict[str, object]]) -> None:
        try:
            self.queue.enqueue(drafts)
        except Conflict:
            return
        self.violation(f"{drafts[0]['id']} was accepted twice")

    def command_line(self) -> None:
        """What a person at a terminal does."""
        ticket, drafts = self._drafts(1)
        words = ["enqueue", "--cwd", self.yard.root, "--max-retries", str(drafts[0]["max_retries"])]
        words += ["--id", f"{ticket}.0", "--command", str(drafts[0]["command"])]
        words += ["--timeout", "0.3"] if "timeout" in drafts[0] else []
        done = self._queuectl(*words)
        if done.returncode == 0:
            self.notes.tell("accepted", ticket, f"{ticket}.0")
        for words in (["status"], ["list", "--state", "failed"], ["worker", "list"]):
            self._queuectl(*words)

    def _queuectl(self, *words: str) -> subprocess.CompletedProcess[bytes]:
        older = bool(self.yard.older) and self.chance.random() < 0.5
        begun = time.monotonic()
        done = command(self.yard.data, *words, code=self.yard.older if older else "")
        self.notes.tell("command", f"{time.monotonic() - begun:.3f}", words[0])
        if older and b"this queuectl knows format 1: update it" in done.stderr:
            return done  # it was taken over, and the older version refuses it
        if done.returncode != 0:
            self.violation(f"{words} ended with {done.returncode}: {done.stderr.decode()}")
        return done

    # -- changing

    def meddle(self) -> None:
        """Cancel, retry or change a few jobs; each may have moved on by then."""
        deed = self.chance.choices(
            (self._cancel, self._retry, self._retry_dead, self._update), (3, 3, 1, 6)
        )[0]
        try:
            deed()
        except (NoSuchJob, Conflict):
            return  # somebody was faster

    def _some(self, *states: str) -> list[str]:
        # A copy of a schedule that comes back may live beside a later one.
        jobs = (job for job in self.queue.find(states) if not (job.planned or recurs(job)))
        found = [job.id for job in jobs]
        return self.chance.sample(found, min(len(found), self.chance.choice((1, 1, 3))))

    def _cancel(self) -> None:
        ids = self._some("pending", "failed", "in_progress")
        if ids:
            self.notes.tell("cancelling", *ids)
            self.timed("cancel", ids)
            self.notes.tell("cancelled", *ids)

    def _retry(self) -> None:
        ids = self._some("failed", "completed", "cancelled")
        if ids:
            self.notes.tell("retrying", *ids)
            self.timed("retry", ids)

    def _retry_dead(self) -> None:
        ids = self._some("dead")
        if ids:
            self.notes.tell("retrying", *ids)
            self.timed("retry_dead", ids)

    def _update(self) -> None:
        for job_id in self._some("pending", "failed", "in_progress"):
            self.notes.tell("updating", job_id)
            self.timed("update", job_id, {"priority": self.chance.randint(-9, 9)})

    def purge(self) -> None:
        """Remove what ended a while ago; what that may be is noted before, as it is now."""
        states = ("completed", "cancelled", "dead")
        begun = time.time()
        doomed: list[Job] = self.queue.purge(in_state(*states), PURGE_AGE, dry_run=True)
        for job in doomed:
            self.notes.tell("purging", encode_job(job).decode())
        # What has ended meanwhile was not noted: it must stay.
        removed = self.queue.purge(in_state(*states), PURGE_AGE + time.time() - begun + 0.5)
        opening.output(self.yard.data).prune(removed)

    def checkpoint(self) -> None:
        """Fold, by hand or as a command that closes does."""
        self.timed(self.chance.choice(("checkpoint", "close")))

    def set_up(self) -> None:
        """Change a setting to and fro, or let some jobs not start for a while."""
        self.timed("change_settings", {"max-delay": self.chance.choice((0.2, 0.3, 0.4))})
        if self.yard.older:
            return
        tags = self.chance.choice(([], ["gpu"], ["night", "gpu"]))
        self.timed("change_settings", {"paused": None})
        self.timed("pause", tags)
        before = self._started(tags)
        time.sleep(self.chance.uniform(0.0, 0.5))
        if late := {start for start in self._started(tags) - before if self._has_begun(*start)}:
            self.violation(f"started though paused {tags}: {sorted(late)}")
        self.timed("resume", tags)

    def _has_begun(self, job_id: str, run: int) -> bool:
        """Whether a claim is more than that: one in a database may be put back before it runs."""
        begun = ["start", str(run)]
        return not self.yard.url or any(note[:2] == begun for note in self.yard.runs(job_id))

    def _started(self, tags: list[str]) -> set[tuple[str, int]]:
        running = self.queue.find(("in_progress",))
        return {(job.id, job.run) for job in running if not tags or set(tags) & set(job.tags)}

    def edit(self) -> None:
        """Write a remark into a few jobs of jobs.json, as a person who takes their time."""
        if self.yard.url:
            for job_id in self._some("pending", "in_progress", "failed", "completed"):
                jobs = self.queue.store.connection.database.jobs  # type: ignore[attr-defined]
                jobs.update_one({"_id": job_id}, {"$set": {"remark": self.name}})
            return
        path = os.path.join(self.yard.data, "jobs.json")
        try:
            with open(path, encoding="utf-8") as file:
                forms = json.load(file)
        except FileNotFoundError:
            return
        time.sleep(self.chance.uniform(0.0, 3.0))
        for form in self.chance.sample(forms, min(len(forms), 3)):
            form["remark"] = self.name
        beside = f"{path}.{self.name}~"
        with open(beside, "w", encoding="utf-8") as file:
            json.dump(forms, file, indent=self.chance.choice((None, 2)))
        os.replace(beside, path)


class Reader(Client):
    """Reads without the lock, and knows what it must find."""

    def __init__(self, yard: Yard, name: str, seed: object) -> None:
        super().__init__(yard, name, seed)
        self._read: dict[str, int] = {}  # bytes of the notes that were read
        self._accepted: set[str] = set()
        self._purged: set[str] = set()
        self._revs: dict[str, int] = {}

    def _moment(self, jobs: list[Job]) -> list[Job]:
        """The jobs of one moment, which a list of a database is not; none where none can be had."""
        if not self.yard.url:
            return jobs
        connection = self.queue.store.connection  # type: ignore[attr-defined]
        with connection.snapshot() as moment:
            if moment is None:
                return []  # a standalone server reads job by job
            found = connection.jobs.find({"state": {"$in": [*STATES]}}, session=moment)
            return [documents.to_job(document) for document in found]

    def _check_moment(self, jobs: list[Job]) -> None:
        """What must be so of all jobs at any moment."""
        slots = Counter(s for job in jobs if job.state == "in_progress" for s in job.slots)
        if any(count > 1 or s == f"gpu#{LIMITS['gpu']}" for s, count in slots.items()):
            self.violation(f"too many run: {slots}")
        live = [job for job in jobs if job.state in LIVE]
        for what, names in (
            ("unique key", [job.unique for job in live if job.unique]),
            ("schedule", [job.id.rpartition(":")[0] for job in live if job.planned]),
        ):
            if len(set(names)) < len(names):
                self.violation(f"two live jobs of one {what}: {sorted(names)}")
        states = {job.id: job for job in jobs}
        for job in live:
            parents = [states[name] for name in job.after if name in states]
            if job.state != "in_progress" and any(p.state in LOST for p in parents):
                self.violation(f"{job.id} waits for what is dead or cancelled: {job.after}")
            if job.state == "in_progress" and not all(p.run for p in parents):
                self.violation(f"{job.id} runs before its parents: {job.after}")

    def read(self) -> None:
        """Every job accepted before is there once, and not older than at the last look."""
        self._catch_up()
        expected = self._accepted - self._purged
        jobs = list(self.queue.find())
        self._check_moment(self._moment(jobs))
        seen = {job.id: job.rev for job in jobs}
        if len(seen) < len(jobs):
            self.violation("a job was seen twice")
        for job_id, rev in seen.items():
            if rev < self._revs.get(job_id, 0):
                self.violation(f"{job_id} went back to rev {rev} from {self._revs[job_id]}")
        self._revs = seen
        missed = expected - seen.keys()
        if missed:
            self._catch_up()  # a purge may be noted by now
            missed -= self._purged
        if missed:
            self.violation(f"accepted, but not seen: {sorted(missed)[:5]} of {len(missed)}")
        self._look_closer(seen)

    def _look_closer(self, seen: dict[str, int]) -> None:
        counts = self.queue.counts()
        if min(counts.values()) < 0:
            self.violation(f"counts {counts}")
        self.queue.workers()
        for job_id in self.chance.sample(sorted(seen), min(3, len(seen))):
            try:
                if self.queue.get(job_id).rev < seen[job_id]:
                    self.violation(f"{job_id} went back")
            except NoSuchJob:
                self._catch_up()
                if job_id not in self._purged:
                    self.violation(f"{job_id} was not found")

    def _catch_up(self) -> None:
        for entry in os.scandir(self.yard.notes):
            if entry.name.startswith(("enqueue", "command", "purge")):
                start = self._read.get(entry.name, 0)
                lines = whole_lines(entry.path, start)
                self._read[entry.name] = start + sum(len(line.encode()) + 1 for line in lines)
                for line in lines:
                    self._take_in(line)

    def _take_in(self, line: str) -> None:
        word, _, rest = line.partition(" ")
        if word == "accepted":
            self._accepted.update(rest.split(" ")[1:])
        elif word == "purging":
            self._purged.add(rest.split('"', 4)[3])


def command(data: str, *words: str, code: str = "") -> subprocess.CompletedProcess[bytes]:
    """What `queuectl WORDS...` comes to on a data folder, of the package that lies in `code`."""
    argv = [sys.executable, "-m", "queuectl", "--data", data, *words]
    environ = {**os.environ, "PYTHONPATH": code} if code else None
    return subprocess.run(
        argv, stdin=subprocess.DEVNULL, capture_output=True, check=False, env=environ
    )


def older_command(yard: Yard, *words: str) -> subprocess.CompletedProcess[bytes]:
    """The same of the version of format 1."""
    return command(yard.data, *words, code=yard.older)


Role = Callable[[Client], None]
# By name: what to do, how many at once, mean seconds between two deeds.
ROLES: dict[str, tuple[Role, int, float]] = {
    "enqueue": (Client.enqueue, 2, 0.1),
    "command": (Client.command_line, 1, 0.3),
    "meddle": (Client.meddle, 2, 0.1),
    "purge": (Client.purge, 1, 2.0),
    "checkpoint": (Client.checkpoint, 1, 0.1),
    "settings": (Client.set_up, 1, 1.0),
    "edit": (Client.edit, 1, 2.0),
    "read": (Reader.read, 2, 0.1),  # type: ignore[dict-item]
}


def new_client(yard: Yard, role: str, name: str, seed: object) -> Client:
    """The client for a role."""
    return (Reader if role == "read" else Client)(yard, name, seed)
