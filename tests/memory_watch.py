"""The watch of a store in a dictionary, in its simplest form."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING

from queuectl.config import Settings
from queuectl.model.job import CLAIMABLE, Job
from queuectl.store.facts import Summary, WorkerInfo

if TYPE_CHECKING:
    from memory_store import MemoryStore

    from queuectl.store.watch import Change


class MemoryWatch:
    """Keeps the contract of Watch, Glance and Peek: each look is at all the jobs."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._known: dict[str, Job] | None = None

    def mark(self) -> tuple[object, ...]:
        settings = tuple(self._store.settings().items())
        return tuple(self.jobs()), settings, tuple(worker.id for worker in self.workers())

    def menu_mark(self) -> tuple[object, ...]:
        return self.mark()

    def summary(self) -> Summary:
        settings, counts = Settings(self._store.settings()), self._store.counts()
        return Summary(self._store.folder, counts, 0, self.workers(), settings)

    def workers(self) -> list[WorkerInfo]:
        return self._store.workers()

    def settings(self) -> Mapping[str, object]:
        return self._store.settings()

    def changes(self, ids: Collection[str] | None = None) -> list[Change] | None:
        """See Watch: how the jobs are that are not as they were."""
        before, self._known = self._known, {job.id: job for job in self.jobs()}
        if before is None:
            return None
        now = self._known
        changed = [job_id for job_id in before | now if before.get(job_id) != now.get(job_id)]
        return [(job_id, now.get(job_id)) for job_id in changed if ids is None or job_id in ids]

    def jobs(self) -> Iterator[Job]:
        return self._store.find()

    def glance(self) -> MemoryWatch:
        return self

    def peek(self) -> MemoryWatch:
        return self

    def close(self) -> None:
        """See Watch: nothing is held."""

    def newest(self, states: Collection[str] | None, start: str, most: int) -> list[Job]:
        found = [job for job in self._store.find(states) if job.id.startswith(start)]
        return found[::-1][:most]

    def next_claimed(self, now: str, most: int) -> list[Job]:
        def order(job: Job) -> tuple[object, ...]:
            if job.run_at > now:
                return True, job.run_at, job.priority
            return False, job.priority, job.run_at

        return sorted(self._store.find(CLAIMABLE), key=order)[:most]

    def latest(self, key: str, most: int) -> tuple[list[Job], bool]:
        found = sorted(self.jobs(), key=lambda job: (getattr(job, key), job.id), reverse=True)
        return found[:most], len(found) <= most

    def holding(self, states: Collection[str] | None, text: str) -> Iterator[Job]:
        wanted = text.lower()
        found = self._store.find(states)
        return (job for job in found if wanted in f"{job.id} {job.command}".lower())

    def present(self, ids: Collection[str]) -> dict[str, Job]:
        return {job.id: job for job in self.jobs() if job.id in ids}

    def tags(self) -> list[str]:
        return [*dict.fromkeys(tag for job in self.newest(None, "", 200) for tag in job.tags)]
