"""The jobs that `top` lists: the whole queue in the chosen order, kept up as jobs change."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator, Mapping
from heapq import heapify, heappop, heappush
from typing import TypeAlias

from queuectl.model.claim_order import rank
from queuectl.model.dependencies import parent_state
from queuectl.model.job import Job
from queuectl.model.selection import Selection, matches

# The sort key of a job; its id comes last, so that no two are equal.
Key: TypeAlias = tuple[int | str, ...]

_EVERYTHING = Selection()
_RANKS = {"in_progress": 0, "failed": 1, "pending": 1, "dead": 3, "completed": 4, "cancelled": 4}
_WAITS = 1  # the rank of a job that may be claimed; jobs due later come after those
LATEST = "~"  # after every moment
_FEW = 100  # changes; more are sorted in together


class Rows:
    """Jobs by id, and those that fit a filter in order; made for 100,000 jobs.

    The cost of a change depends on what changed; another order or filter sorts everything (0.2 s
    for 100,000 jobs). Waiting jobs are in claim order: among equal ones in the order in which they
    are given here, then in that of their changes.
    """

    def __init__(self, jobs: Iterable[Job] = (), now: str = LATEST, aging: float = 0.0) -> None:
        """`aging`: the setting, 0 if it is off."""
        self._aging = aging
        self.longest = 0  # letters of an id
        self._jobs = {job.id: job for job in jobs}
        self.running = {job.id: job for job in self._jobs.values() if job.state == "in_progress"}
        self._now = now  # jobs due by then may be claimed
        self._arrivals = {job_id: at for at, job_id in enumerate(self._jobs)}
        self._count = len(self._jobs)  # of arrivals
        self._later = [(job.run_at, job.id) for job in self._jobs.values() if self._is_later(job)]
        heapify(self._later)
        self._key_of: dict[str, Key] = {}  # some belong to jobs that do not fit
        self._order, self._backward, self._filter = "state", False, ""
        self._selection = _EVERYTHING
        self._keys: list[Key] = []
        self._sort(self._jobs.values())

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, at: int) -> Job:
        return self._jobs[str(self._keys[~at if self._backward else at][-1])]

    def __iter__(self) -> Iterator[Job]:
        return (self[at] for at in range(len(self)))

    @property
    def total(self) -> int:
        """The number of jobs, fitting or not."""
        return len(self._jobs)

    def get(self, job_id: str) -> Job | None:
        """The job, whether it fits the filter or not."""
        return self._jobs.get(job_id)

    def states(self, ids: Iterable[str]) -> dict[str, str]:
        """The states of those of the jobs that exist, see dependencies.parent_state."""
        return {job_id: parent_state(self._jobs[job_id]) for job_id in ids if job_id in self._jobs}

    def row_of(self, job_id: str | None) -> int | None:
        """The row of a job, from 0; None for a job that is not listed."""
        at = self._find(job_id or "")
        return len(self._keys) - 1 - at if at is not None and self._backward else at

    def arrange(
        self, order: str, backward: bool, filter: str, selection: Selection = _EVERYTHING
    ) -> None:
        """From now on use this order and keep only jobs that fit."""
        self._backward = backward
        wanted = filter.lower()
        if (order, wanted, selection) == (self._order, self._filter, self._selection):
            return
        narrower = order == self._order and wanted.startswith(self._filter)
        narrower = narrower and selection == self._selection
        self._order, self._filter, self._selection = order, wanted, selection
        if narrower:  # as after each typed letter
            self._keys = [key for key in self._keys if self._fits(self._jobs[str(key[-1])])]
            self.longest = max((len(str(key[-1])) for key in self._keys), default=0)
        else:
            self._sort(job for job in self._jobs.values() if self._fits(job))

    def wake(self, now: str) -> None:
        """Move jobs that are due by now to those that may be claimed."""
        self._now = now
        while self._later and self._later[0][0] <= now:
            due, job_id = heappop(self._later)
            job = self._jobs.get(job_id)
            if job is not None and job.run_at == due and job_id in self._key_of:
                self._change(job_id, job, self._arrivals[job_id])

    def apply(self, changes: Mapping[str, Job | None]) -> None:
        """Take in the present form of jobs; None: the job was removed."""
        if len(changes) <= _FEW:
            for job_id, job in changes.items():
                self._change(job_id, job, self._arrival())
            return
        kept = [key for key in self._keys if key[-1] not in changes]
        for job_id, job in changes.items():
            self._keep(job_id, job, self._arrival())
            if job is not None and self._fits(job):
                kept.append(self._key(job))
        kept.sort()
        self._keys = kept

    def _arrival(self) -> int:
        self._count += 1
        return self._count

    def _change(self, job_id: str, job: Job | None, arrival: int) -> None:
        at = self._find(job_id)
        if at is not None:
            del self._keys[at]
        self._keep(job_id, job, arrival)
        if job is not None and self._fits(job):
            insort(self._keys, self._key(job))

    def _keep(self, job_id: str, job: Job | None, arrival: int) -> None:
        self._key_of.pop(job_id, None)
        self.running.pop(job_id, None)
        if job is not None and job.state == "in_progress":
            self.running[job_id] = job
        if job is None:
            self._jobs.pop(job_id, None)
            self._arrivals.pop(job_id, None)
            return
        self._jobs[job_id], self._arrivals[job_id] = job, arrival
        self.longest = max(self.longest, len(job_id) if self._fits(job) else 0)
        if self._is_later(job):
            heappush(self._later, (job.run_at, job_id))

    def _is_later(self, job: Job) -> bool:
        return _RANKS.get(job.state) == _WAITS and job.run_at > self._now

    def _key(self, job: Job) -> Key:
        key = ORDERS[self._order](job, self._arrivals[job.id], self._is_later(job))
        if self._aging and key[0] == _WAITS and self._order == "state":
            key = (_WAITS, rank(job.priority, job.run_at, self._aging), *key[2:])
        self._key_of[job.id] = key
        return key

    def _find(self, job_id: str) -> int | None:
        key = self._key_of.get(job_id)
        if key is None:
            return None
        at = bisect_left(self._keys, key)
        return at if at < len(self._keys) and self._keys[at] == key else None

    def _fits(self, job: Job) -> bool:
        wanted = self._filter
        if self._selection is not _EVERYTHING and not matches(job, self._selection):
            return False
        return (
            not wanted
            or wanted in job.id.lower()
            or wanted in job.command.lower()
            or wanted in f"{job.state} {state_name(job)}"
        )

    def _sort(self, jobs: Iterable[Job]) -> None:
        self._key_of = {}
        self._keys = sorted(map(self._key, jobs))
        self.longest = max((len(str(key[-1])) for key in self._keys), default=0)


class View:
    """What the person chose to see: the order, a filter, the marked job."""

    def __init__(
        self, order: str = "state", filter: str = "", selection: Selection | None = None
    ) -> None:
        self.order = order
        # Stays in effect while the filter is typed anew.
        self.selection = _EVERYTHING if selection in (None, _EVERYTHING) else selection
        self.backward = False
        self.filter = filter
        self.marked: str | None = None
        self.first = 0  # the first row shown
        self.paused = False
        self.worker = 0  # the first worker named if not all fit

    def rows(self, jobs: Rows) -> Rows:
        """The jobs in this order and with this filter."""
        jobs.arrange(self.order, self.backward, self.filter, self.selection)
        return jobs

    def row_shown(self, rows: Rows, room: int) -> int:
        """The marked row, from 0; scrolls so that it is visible."""
        found = rows.row_of(self.marked)
        at = max(0, min(self.first, len(rows) - 1) if found is None else found)
        self.first = max(min(self.first, at, len(rows) - room), at - room + 1, 0)
        return at


def state_name(job: Job) -> str:
    """The state in at most nine letters."""
    if job.cancel_requested and job.state == "in_progress":
        return "ending"
    return "running" if job.state == "in_progress" else job.state


def _moment(text: str | None) -> int:
    """The digits of a time as a number that sorts like the time; 0 for no time."""
    # A third of the cost of parsing the time, and this is done for each job of the queue.
    try:
        return int((text or "").translate(_NO_SIGNS))
    except ValueError:
        return 0  # a person wrote it by hand


_NO_SIGNS = str.maketrans("", "", "-:T.Z")


def _by_state(job: Job, arrival: int, later: bool) -> Key:
    rank = _RANKS.get(job.state, 5)
    if rank == _WAITS:
        return _claimed(job, arrival, later)
    started = _moment(job.started_at) if rank == 0 else -_moment(job.updated_at)
    return rank, 0, started, arrival, job.id


def _claimed(job: Job, arrival: int, later: bool) -> Key:
    """The key for claim order; jobs due later come after the others, by due time."""
    due = _moment(job.run_at)
    if later:
        return _WAITS + 1, due, job.priority, arrival, job.id
    return _WAITS, job.priority, due, arrival, job.id


ORDERS: dict[str, Callable[[Job, int, bool], Key]] = {
    "state": _by_state,
    "time": lambda job, arrival, later: (-_moment(job.updated_at), job.id),
    "id": lambda job, arrival, later: (job.id,),
    "priority": lambda job, arrival, later: (job.priority, _moment(job.run_at), arrival, job.id),
}
