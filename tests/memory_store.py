"""A store in a dictionary: the whole contract in its simplest form, the oracle for the others."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from memory_watch import MemoryWatch

from queuectl.config import Settings
from queuectl.errors import Conflict, DuplicateId, InvalidInput, NoSuchJob, NoSuchSet
from queuectl.model.claim_order import ahead_of, claim_order, is_ready
from queuectl.model.dependencies import (
    Kin,
    asked_anew,
    check_new,
    needed,
    parents,
    states_with,
    unmet,
)
from queuectl.model.fields import STATES
from queuectl.model.gate import OPEN, Gate, full, holders, paused_by, slots_for
from queuectl.model.ids import MadeIds
from queuectl.model.job import CLAIMABLE, LIVE, Job, recurs, refuse_key, revived
from queuectl.model.lifecycle import Claim, claimed
from queuectl.model.schedule import copy_id, fired
from queuectl.model.selection import selected
from queuectl.model.times import format_time, parse_time
from queuectl.store.backup import format_backup
from queuectl.store.facts import RUN_LINE, WAKE, WorkerInfo, check_count, is_selection
from queuectl.store.files.job_files import checked_line, encode_job
from queuectl.store.files.logs import LogFolder

if TYPE_CHECKING:
    from queuectl.store.contract import End, Kept, Meet, OnChange, Rule, Which


class MemoryStore:
    """Keeps the contract for one process, as it says; nothing survives it.

    It has no damage to mend. `folder` is where the output of its workers' runs lies.
    """

    care = None
    spans_hosts = False

    def __init__(self, folder: str = "/nonexistent") -> None:
        self.folder = folder
        self.notices: list[str] = []
        self._made = False
        self._workers: dict[str, MemorySlot] = {}
        self._jobs: dict[str, Job] = {}
        self._settings: dict[str, object] = {}
        self._env_sets: dict[str, Mapping[str, Any]] = {}
        self.on_change: OnChange = lambda pairs, settings: ()
        self.freed = 0

    def add(
        self,
        jobs: Iterable[Job],
        named: Mapping[str, int] | None = None,
        env_set: Mapping[str, Any] | None = None,
        meet: Meet | None = None,
    ) -> None:
        after = dict(self._jobs)
        for index, job in enumerate(jobs):
            try:
                self.check_size(job)
            except InvalidInput as exc:
                exc.index = index
                raise
            if job.id in after and (meet is None or job.id not in self._jobs):
                raise DuplicateId(job.id, "memory", index)
            others = [after[job.id]] if job.id in after else []
            others += _holders(after, job)
            if meet is None:
                refuse_key(job, others, index)
            new = meet(index, job, others) if others and meet is not None else job
            if new is not None:
                after[new.id] = new
        new = {job_id: job for job_id, job in after.items() if job != self._jobs.get(job_id)}
        check_new(
            {job_id: job for job_id, job in new.items() if parents(job)},
            after.get,
            _states(after),
        )
        if env_set is not None:
            self._env_sets[self.set_id(env_set)] = env_set
        self._jobs, self._made = after, self._made or bool(after)

    def set_id(self, env_set: Mapping[str, Any]) -> str:
        kept = (name for name, form in self._env_sets.items() if form == env_set)
        return next(kept, f"{len(self._env_sets):08x}")

    def env_set(self, job: Job) -> Mapping[str, Any] | None:
        if job.env_set is None:
            return None
        if job.env_set not in self._env_sets:
            raise NoSuchSet(job.id, job.env_set, "memory")
        return self._env_sets[job.env_set]

    def get(self, job_id: str) -> Job | None:
        return self._jobs.get(job_id)

    def find(self, states: Collection[str] | None = None) -> Iterator[Job]:
        found = [job for job in self._jobs.values() if states is None or job.state in states]
        yield from sorted(found, key=lambda job: job.state == "dead")

    def children(self, job_id: str | None) -> Iterator[Job]:
        kin = filter(parents, self._jobs.values())
        return (job for job in kin if job_id is None or job_id in parents(job))

    def ahead(self, job: Job, now: str, aging: float) -> list[tuple[Job, int]]:
        return ahead_of(job, self.find(CLAIMABLE), now, aging)

    def counts(self) -> dict[str, int]:
        counts: dict[str, int] = dict.fromkeys(STATES, 0)
        for job in self._jobs.values():
            counts[job.state] += 1
        return counts

    def claim(
        self,
        worker: str,
        now: str,
        finished: tuple[Job, Job] | None = None,
        log_word: str | None = None,
    ) -> Claim:
        if finished is not None:
            if not self._holds(finished[0]):
                return Claim(None, settled=False, stored=self._jobs.get(finished[0].id))
            self._step([finished], now)
        gate, using = self._gate()
        while ready := [job for job in self._jobs.values() if self._may_start(job, now)]:
            first: Job | None = min(ready, key=lambda job: claim_order(job, gate.aging))
            slots = slots_for(first, gate, using)
            if recurs(first):
                first = self._fire(first, now)
            if first is not None:
                job = claimed(first, worker, now, log_word, slots)
                self._jobs[job.id] = job
                self.freed -= bool(self.freed and parents(job))  # that it runs itself
                return Claim(job)
        return Claim(None)

    def _may_start(self, job: Job, now: str) -> bool:
        if unmet(job, self._state_of):
            return False
        gate, using = self._gate()
        return is_ready(job, now) and not (paused_by(job, gate) or full(job, gate, using))

    def _fire(self, schedule: Job, now: str) -> Job | None:
        last = self._jobs.get(schedule.last) if schedule.last else None
        made = MadeIds(parse_time(now), len(self._jobs).to_bytes(3, "big")).take()
        lives = last is not None and last.state in LIVE
        new, copy = fired(schedule, copy_id(schedule, made), now, lives=lives)
        added = {job.id: job for job in self.on_change([(schedule, new)], self._settings)}
        self._put(schedule, new)
        self._jobs |= added
        return copy

    def change(
        self,
        which: Which,
        rule: Rule,
        promised: bool = True,
        exactly: int | None = None,
        alone: bool = False,
    ) -> dict[str, Job]:
        pairs = [(old, new) for old in self._meant(which) if (new := rule(old)) is not None]
        check_count(len(pairs), exactly)
        return self._step(pairs, format_time(self.now()), alone=alone)

    def _step(
        self, pairs: list[tuple[Job, Job]], now: str, *, alone: bool = False
    ) -> dict[str, Job]:
        before = dict(self._jobs)
        kin = Kin.among(before.values(), _states(before))
        pairs = [*pairs, *kin.consequences(pairs, now, alone=alone)]
        after = before | {new.id: new for _, new in pairs}
        check_new(asked_anew(pairs), after.get, _states(after))
        for job in revived(pairs).values():
            refuse_key(job, _holders(before, job))
        added = {job.id: job for job in self.on_change(pairs, self._settings)}
        lacking = {job.id for job in before.values() if unmet(job, self._state_of)}
        for old, new in pairs:
            self._put(old, new)
        self._jobs |= added
        self.freed = sum(
            job.id in lacking and job.state in CLAIMABLE and not unmet(job, self._state_of)
            for job in self._jobs.values()
        )
        return {new.id: new for _, new in pairs}

    def _state_of(self, job_id: str) -> str | None:
        return _states(self._jobs)(job_id)

    def _put(self, old: Job, new: Job) -> None:
        if "dead" in (old.state, new.state) and old.state != new.state:
            del self._jobs[old.id]  # it moves behind the others, as between two files
        self._jobs[new.id] = new

    def remove(
        self,
        which: Which,
        goes: Callable[[Job], bool] | None = None,
        exactly: int | None = None,
        kept: Kept = None,
    ) -> list[Job]:
        gone = [job for job in self._meant(which) if goes is None or goes(job)]
        check_count(len(gone), exactly)
        stay = needed(self._jobs.values(), {job.id for job in gone})
        if kept is not None:
            kept += [job for job in gone if job.id in stay]
        gone = [job for job in gone if job.id not in stay]
        for job in gone:
            del self._jobs[job.id]
        return gone

    def _meant(self, which: Which) -> Iterator[Job]:
        if is_selection(which):
            yield from selected(self.find(which.states), which)
            return
        for job_id in dict.fromkeys(which):
            if job_id not in self._jobs:
                raise NoSuchJob(job_id)
            yield self._jobs[job_id]

    def _holds(self, job: Job) -> bool:
        stored = self._jobs.get(job.id)
        return stored is not None and stored.rev == job.rev

    def settings(self) -> Mapping[str, object]:
        return self._settings

    def change_settings(self, old: Mapping[str, object], new: Mapping[str, object]) -> bool:
        if self._settings != old:
            return False
        Settings(new)
        self._settings, self._made = dict(new), True
        return True

    def now(self) -> float:
        return time.time()

    def wait(self, seconds: float) -> None:
        time.sleep(seconds)

    def check(self) -> list[str]:
        return []

    def check_size(self, job: Job) -> None:
        checked_line(job)

    def _gate(self) -> tuple[Gate, dict[str, list[Job]]]:
        gate = Settings(self._settings).gate() or OPEN
        return gate, holders(self.find(("in_progress",)), gate)

    def prepare_claims(self) -> None:
        """See Jobs: nothing has to be read."""

    def present(self, job: Job) -> Job | None:
        stored = self._jobs.get(job.id)
        return None if stored is None or stored.state == "dead" else stored

    def held_by(self, worker: str) -> list[Job]:
        return [job for job in self.find(("in_progress",)) if job.worker == worker]

    def next_due(self) -> float | None:
        (gate, using), now = self._gate(), format_time(self.now())
        due = [
            job.run_at
            for job in self.find(CLAIMABLE)
            if not paused_by(job, gate)
            and not unmet(job, self._state_of)
            and (job.run_at > now or not full(job, gate, using))
        ]
        return max(0.0, parse_time(min(due)) - self.now()) if due else None

    # -- workers

    def register(self, worker_id: str, pid: int, start_time: str, boot_id: str) -> MemorySlot:
        words = (worker_id, str(pid), start_time, boot_id, format_time(self.now()))
        slot = MemorySlot(self, " ".join(words))
        self._workers[worker_id], self._made = slot, True
        return slot

    def release(self, slot: MemorySlot) -> None:
        slot.close()
        self._workers.pop(slot.id, None)

    def workers(self, *, here: bool = False) -> list[WorkerInfo]:
        return [slot.info() for _, slot in sorted(self._workers.items())]

    def orphans(self, busy: int = 0) -> list[WorkerInfo]:
        running = self.find(("in_progress",)) if busy < self.counts()["in_progress"] else ()
        named = {str(job.worker) for job in running}
        lost = sorted(named - self._workers.keys())
        return [WorkerInfo(worker_id, False, worker_id, missing=True) for worker_id in lost]

    def note_lost(self, worker_id: str, **facts: object) -> None:
        slot = self._workers.get(worker_id)
        if slot is not None and not slot.alive:
            slot.note_facts(**facts)

    def forget_worker(self, worker_id: str) -> bool:
        slot = self._workers.get(worker_id)
        if slot is not None and slot.alive:
            return False
        self._workers.pop(worker_id, None)
        return True

    def stop_elsewhere(self, now: bool) -> list[str]:
        return []

    def wake(self, message: bytes = WAKE, only: str | None = None) -> None:
        for slot in self._workers.values():
            if slot.alive and only in (None, slot.id):
                os.write(slot.hint_fd, message)

    def wake_idle(self, count: int) -> None:
        idle = [slot for slot in self._workers.values() if slot.alive and not slot.info().job_id]
        for slot in idle[:count]:
            os.write(slot.hint_fd, WAKE)

    # -- upkeep: whatever was said is done

    def sync(self) -> None:
        """See Upkeep."""

    def fold(self) -> None:
        self.make()

    def tidy(self) -> None:
        """See Upkeep."""

    def fold_if_due(self, *, busy: bool = False) -> bool:
        return False

    def fold_due_in(self) -> float | None:
        return None

    # -- the queue as a file

    @property
    def archive(self) -> MemoryStore:
        return self

    def backup(self) -> Iterator[bytes]:
        lines, made_at = map(encode_job, list(self.find())), format_time(self.now())
        yield from format_backup(lines, self._settings, self._env_sets, made_at)

    def refill(
        self,
        jobs: Sequence[Job],
        settings: Mapping[str, object],
        env_sets: Mapping[str, Mapping[str, Any]],
        *,
        replace: bool,
    ) -> str | None:
        """See Archive; nothing is kept of what was there."""
        running = self.counts()["in_progress"]
        if running or (self._jobs and not replace):
            raise Conflict("the queue runs jobs" if running else "the queue holds jobs")
        self._jobs = {job.id: job for job in jobs}
        self._settings, self._env_sets, self._made = dict(settings), dict(env_sets), True
        return None

    # -- the whole

    @property
    def output(self) -> LogFolder:
        """See Store: a command needs a file to write to."""
        return LogFolder(self.folder)

    def watch(self) -> MemoryWatch:
        return MemoryWatch(self)

    def exists(self) -> bool:
        return self._made

    def make(self) -> None:
        self._made = True

    def identity(self) -> str:
        return f"memory:{id(self)}"

    origin = identity

    def on_wait(self, tell: Callable[[str], None] | None) -> None:
        """See Store: nobody ever waits."""

    def await_answer(self) -> None:
        """See Store: it does not fall silent."""

    def leave_notices(self) -> None:
        self.notices.clear()

    def close(self) -> None:
        """See Store."""


def _states(jobs: Mapping[str, Job]) -> Callable[[str], str | None]:
    return states_with(jobs, {}.get)


def _holders(jobs: Mapping[str, Job], job: Job) -> list[Job]:
    """The live jobs among them with the key of another."""
    if job.unique is None or job.state not in LIVE:
        return []
    return [
        other
        for other in jobs.values()
        if other.unique == job.unique and other.state in LIVE and other.id != job.id
    ]


def _spelled(text: str) -> str:
    return text.replace("%", "%25").replace(" ", "%20")


class MemorySlot:
    """See Slot. What it notes is kept as WorkerInfo reads it."""

    patience, lapsed, declared = 1.0, False, False  # no server has to answer, and no other host is

    def __init__(self, store: MemoryStore, head: str) -> None:
        self.id = head.partition(" ")[0]
        self.alive, self.on_watch, self.asked = True, False, ""
        self.wake_fd, self.hint_fd = os.pipe()
        os.set_blocking(self.wake_fd, False)
        self._store, self._head, self._run = store, head, ""
        self._facts = {"format": "2"}

    def info(self) -> WorkerInfo:
        """What others see of it."""
        run = f"{self._run}\n".ljust(RUN_LINE)
        facts = " ".join(f"{name}={fact}" for name, fact in self._facts.items())
        return WorkerInfo(self.id, self.alive, f"{self._head}\n{run}{facts}")

    def still_held(self) -> bool:
        return self.alive and self._store._workers.get(self.id) is self

    def why_gone(self) -> str:
        return "was given up"

    def note_run(self, job_id: str, run: int, pid: int, start_time: str) -> None:
        self._run = f"{job_id} {run} {pid} {start_time}"

    def clear_run(self) -> None:
        self._run = ""

    def note_facts(self, **facts: object) -> None:
        self._facts |= {name: str(fact) for name, fact in facts.items()}

    def note_trouble(self, why: str) -> None:
        self.note_facts(trouble=_spelled(why))

    def note_end(self, job_id: str, run: int, end: End) -> bool:
        kind, code, error, ended_at = end
        words = (job_id, str(run), kind, "" if code is None else str(code), ended_at)
        self.note_facts(end=",".join(words), error=_spelled(error or ""))
        return True

    def keep_watch(self) -> bool:
        others = (slot for slot in self._store._workers.values() if slot is not self)
        self.on_watch = not any(slot.on_watch for slot in others)
        return self.on_watch

    def leave_watch(self) -> None:
        self.on_watch = False

    def crowd(self) -> int:
        return len(self._store._workers)

    def sees_lost(self) -> bool:
        """See Slot; it looks at all of them."""
        return not all(slot.alive for slot in self._store._workers.values())

    def close(self) -> None:
        if self.alive:
            self.alive = self.on_watch = False
            os.close(self.wake_fd)
            os.close(self.hint_fd)
