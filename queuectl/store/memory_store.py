"""A store in a dictionary: the contract without a disk, for tests and for reading."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from queuectl.errors import DuplicateId, NoSuchJob, NoSuchSet
from queuectl.model.fields import STATES
from queuectl.model.job import Job
from queuectl.model.lifecycle import claimed
from queuectl.model.scheduling import claim_order, is_ready
from queuectl.store.contract import Claim, Rule


class MemoryStore:
    """Keeps the contract for one process; nothing survives it."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        self._settings: dict[str, object] = {}
        self._env_sets: dict[str, Mapping[str, Any]] = {}

    def add(
        self,
        jobs: Iterable[Job],
        named: Mapping[str, int] | None = None,
        env_set: Mapping[str, Any] | None = None,
    ) -> None:
        """See Store."""
        if env_set is not None:
            self._env_sets[self.set_id(env_set)] = env_set
        added: dict[str, Job] = {}
        for index, job in enumerate(jobs):
            if job.id in self._jobs or job.id in added:
                raise DuplicateId(job.id, "memory", index)
            added[job.id] = job
        self._jobs |= added

    def set_id(self, env_set: Mapping[str, Any]) -> str:
        """See Store."""
        kept = (name for name, form in self._env_sets.items() if form == env_set)
        return next(kept, f"{len(self._env_sets):08x}")

    def env_set(self, job: Job) -> Mapping[str, Any] | None:
        """See Store."""
        if job.env_set is None:
            return None
        if job.env_set not in self._env_sets:
            raise NoSuchSet(job.id, job.env_set)
        return self._env_sets[job.env_set]

    def get(self, job_id: str) -> Job | None:
        """See Store."""
        return self._jobs.get(job_id)

    def find(self, states: Collection[str] | None = None) -> Iterator[Job]:
        """See Store."""
        found = [job for job in self._jobs.values() if states is None or job.state in states]
        yield from sorted(found, key=lambda job: job.state == "dead")

    def counts(self) -> dict[str, int]:
        """See Store."""
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
        """See Store."""
        if finished is not None:
            if not self._holds(finished[0]):
                return Claim(None, settled=False, stored=self._jobs.get(finished[0].id))
            self._put(*finished)
        ready = [job for job in self._jobs.values() if is_ready(job, now)]
        if not ready:
            return Claim(None)
        job = claimed(min(ready, key=claim_order), worker, now, log_word)
        self._jobs[job.id] = job
        return Claim(job)

    def change(self, ids: Collection[str], rule: Rule, promised: bool = True) -> dict[str, Job]:
        """See Store."""
        pairs = []
        for job_id in dict.fromkeys(ids):
            old = self._jobs.get(job_id)
            if old is None:
                raise NoSuchJob(job_id)
            pairs.append((old, rule(old)))
        changed = [(old, new) for old, new in pairs if new is not None]
        for old, new in changed:
            self._put(old, new)
        return {new.id: new for _, new in changed}

    def _put(self, old: Job, new: Job) -> None:
        if "dead" in (old.state, new.state) and old.state != new.state:
            del self._jobs[old.id]  # it moves behind the others, as between two files
        self._jobs[new.id] = new

    def remove(self, jobs: Sequence[Job]) -> list[Job]:
        """See Store."""
        lost = [job for job in jobs if self._jobs.get(job.id) != job]
        for job in jobs:
            if job not in lost:
                del self._jobs[job.id]
        return lost

    def _holds(self, job: Job) -> bool:
        stored = self._jobs.get(job.id)
        return stored is not None and stored.rev == job.rev

    def settings(self) -> Mapping[str, object]:
        """See Store."""
        return dict(self._settings)

    def change_settings(self, old: Mapping[str, object], new: Mapping[str, object]) -> bool:
        """See Store."""
        if self._settings != old:
            return False
        self._settings = dict(new)
        return True

    def now(self) -> float:
        """See Store."""
        return time.time()

    def wait(self, seconds: float) -> None:
        """See Store."""
        time.sleep(seconds)

    def check(self) -> list[str]:
        """See Store."""
        return []

    def close(self) -> None:
        """See Store."""
