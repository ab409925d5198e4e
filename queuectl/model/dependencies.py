"""Jobs that wait for others: what `after` and `after_end` require, and what a parent's end does.

A job starts when each job in its `after` is completed and each job in its `after_end` has ended in
any way. Only their present state counts. A job whose parent in `after` is dead or cancelled can
never start: it falls with that parent, in the same step, and comes back with it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TypeAlias

from queuectl.errors import Conflict, InvalidInput, NoSuchJob
from queuectl.model import lifecycle
from queuectl.model.job import CLAIMABLE, FINISHED, LIVE, Job, recurs

Pair: TypeAlias = tuple[Job, Job]  # a job before and after a step
StateOf: TypeAlias = Callable[[str], str | None]  # as `parent_state`, None: no such job

LOST = frozenset({"dead", "cancelled"})  # states of a parent with which a child falls
ENDLESS = "a schedule"  # stands for the state of a job that never ends
_MOST_NAMED = 8  # jobs of a ring


def parents(job: Job) -> tuple[str, ...]:
    """The ids of the jobs that the job waits for."""
    return (*job.after, *job.after_end)


def parent_state(job: Job) -> str:
    """The state of a job as its children see it; ENDLESS for a live schedule."""
    return ENDLESS if recurs(job) and job.state in LIVE else job.state


def states_with(jobs: Mapping[str, Job], state_of: StateOf) -> StateOf:
    """A lookup of states: `jobs` (by id) as they are here, any other job by `state_of`."""

    def found(job_id: str) -> str | None:
        return parent_state(jobs[job_id]) if job_id in jobs else state_of(job_id)

    return found


def is_met(state: str | None, *, strict: bool) -> bool:
    """Whether a parent in this state lets its child start; `strict`: it stands in `after`."""
    return state == "completed" if strict else state in FINISHED


def unmet(job: Job, state_of: StateOf) -> dict[str, str | None]:
    """The parents that keep a job waiting, with their states."""
    found = {}
    for names, strict in ((job.after, True), (job.after_end, False)):
        for name in names:
            if not is_met(state := state_of(name), strict=strict):
                found[name] = state
    return found


def has_fallen(job: Job) -> bool:
    """Whether the job ended because another one did."""
    return (job.error or "").startswith(lifecycle.FELL)


def fell_with(job: Job) -> str:
    """The parent with which a job fell."""
    return (job.error or "")[len(lifecycle.FELL) :].partition("'")[0]


def came_back(job: Job) -> bool:
    """Whether the latest event of the job is that it came back with a parent."""
    last = job.history[-1] if job.history else {}
    return job.state == "pending" and last.get("event") == "retry" and "parent" in last


def check_parents(jobs: Iterable[Job], state_of: StateOf) -> None:
    """Check the parents that these jobs name; the jobs may name each other.

    Raises NoSuchJob for a missing parent, and Conflict for a schedule or for a dead or cancelled
    parent in `after`.
    """
    for job in jobs:
        for parent in parents(job):
            state = state_of(parent)
            if state is None:
                told = f"job '{job.id}' is to wait for '{parent}', and no job has that id"
                raise NoSuchJob(parent, told)
            if state == ENDLESS:
                raise Conflict(
                    f"job '{job.id}' cannot wait for '{parent}': that is a schedule, which never "
                    "ends"
                )
            if state in LOST and parent in job.after:
                raise Conflict(
                    f"job '{job.id}' waits for '{parent}', which is {state}: retry that first, or "
                    "name it in --after-end"
                )


def ring(starts: Iterable[str], parents_of: Callable[[str], Iterable[str]]) -> list[str]:
    """The ids of jobs that wait for each other in a ring, with the first repeated at the end.

    Empty if there is no ring that one of `starts` is part of or waits for.
    """
    done: set[str] = set()
    for start in starts:
        if start in done:
            continue
        path = {start: iter(parents_of(start))}  # in order, from child to parent
        while path:
            job_id, left = next(reversed(path.items()))
            parent = next(left, None)
            if parent is None:
                done.add(job_id)
                del path[job_id]
            elif parent in path:
                ids = list(path)
                return [*ids[ids.index(parent) :], parent]
            elif parent not in done:
                path[parent] = iter(parents_of(parent))
    return []


def told_ring(ids: Sequence[str]) -> str:
    """A ring in words: "a after b after a"; the middle of a large one is left out."""
    shown = ids if len(ids) <= _MOST_NAMED else [*ids[: _MOST_NAMED - 2], "...", ids[-1]]
    return " after ".join(shown)


def check_new(
    jobs: Mapping[str, Job], find: Callable[[str], Job | None], state_of: StateOf
) -> None:
    """Check what jobs (by id) are to wait for; raises what `check_parents` does.

    Also InvalidInput for a ring. `find` gives other jobs that name parents, each at most once.
    """
    check_parents(jobs.values(), state_of)

    def parents_of(job_id: str) -> Iterable[str]:
        job = jobs.get(job_id) or find(job_id)
        return parents(job) if job is not None and job.state in LIVE else ()

    if found := ring(jobs, parents_of):
        raise InvalidInput(f"jobs would wait for each other in a ring: {told_ring(found)}")


def needed(kin: Iterable[Job], doomed: Collection[str]) -> set[str]:
    """The ids of the doomed jobs that must stay because a live job that stays names them.

    `kin`: the jobs that have parents, or those that name doomed ones.
    """
    live = {job.id: parents(job) for job in kin if job.state in LIVE}
    staying = [job_id for job_id in live if job_id not in doomed]
    found: set[str] = set()
    while staying:
        names = [name for name in live.get(staying.pop(), ()) if name in doomed]
        staying += [name for name in names if name not in found]
        found.update(names)
    return found


def asked_anew(pairs: Iterable[Pair]) -> dict[str, Job]:
    """The jobs with parents whose parents changed, or that live again."""
    return {
        new.id: new
        for old, new in pairs
        if (new.after or new.after_end)
        and new.state in LIVE
        and (old.state not in LIVE or (old.after, old.after_end) != (new.after, new.after_end))
    }


def is_lost(old: Job, new: Job) -> bool:
    """Whether a step made a job dead or cancelled."""
    return new.state in LOST and old.state not in LOST


def is_back(old: Job, new: Job) -> bool:
    """Whether a step made a dead or cancelled job live again, or completed."""
    return old.state in LOST and new.state not in LOST


def goes_back(old: Job, new: Job) -> bool:
    """Whether a job with parents waits again after a run."""
    return bool(new.after) and new.state in CLAIMABLE and old.state == "in_progress"


def concerns_others(pairs: Iterable[Pair]) -> bool:
    """Whether a step can matter for jobs that wait for others; completions are not looked at."""
    return any(
        is_lost(*pair) or is_back(*pair) or goes_back(*pair) or asked_anew([pair]) for pair in pairs
    )


class Kin:
    """Jobs that name others, and the states of those, as they were before a step."""

    def __init__(self, kids_of: Callable[[str], Iterable[Job]], state_of: StateOf) -> None:
        """`kids_of` gives the jobs that name a parent: all that wait for it, and all that fell."""
        self._kids_of, self._state_of = kids_of, state_of

    @classmethod
    def among(cls, jobs: Iterable[Job], state_of: StateOf) -> Kin:
        """The kin among these jobs alone."""
        kids: dict[str, list[Job]] = {}
        for job in jobs:
            for name in dict.fromkeys(parents(job)):
                kids.setdefault(name, []).append(job)
        return cls(lambda parent: kids.get(parent, ()), state_of)

    def consequences(self, pairs: Sequence[Pair], now: str, *, alone: bool = False) -> list[Pair]:
        """What else happens in a step that changes these jobs.

        The children of a lost job fall, and their children too. The jobs that fell with a job come
        back with it, unless it is to come back `alone`.
        """
        changed = {new.id: new for _, new in pairs}
        found: list[Pair] = []
        state_of = states_with(changed, self._state_of)

        def put(old: Job, new: Job) -> None:
            found.append((old, new))
            changed[new.id] = new
            (lost if new.state in LOST else back).append(new)

        lost = [new for old, new in pairs if is_lost(old, new)]
        back = [new for old, new in pairs if is_back(old, new)]
        for _, new in filter(lambda pair: goes_back(*pair), pairs):
            name = next((name for name in new.after if state_of(name) in LOST), None)
            if name is not None:
                put(new, lifecycle.fallen(new, name, str(state_of(name)), now))
        for parent in lost:  # both `lost` and `back` grow in this loop
            for kid in self._kids_of(parent.id):
                if kid.id not in changed and kid.state in CLAIMABLE and parent.id in kid.after:
                    put(kid, lifecycle.fallen(kid, parent.id, parent.state, now))
        # The parents still to check of each job that fell: ten thousand may come back.
        left: dict[str, list[str]] = {}
        for parent in back if not alone else ():
            for kid in self._kids_of(parent.id):
                if kid.id in changed or kid.state not in LOST or not has_fallen(kid):
                    continue
                if (names := left.get(kid.id)) is None:
                    names = left[kid.id] = [*kid.after]
                while names and state_of(names[-1]) not in (None, *LOST):
                    names.pop()
                if names or parent.id not in kid.after or None in map(state_of, kid.after_end):
                    continue
                put(kid, _risen(kid, parent.id, now))
        return found

    def freed(self, pairs: Sequence[Pair]) -> list[Job]:
        """The waiting jobs whose last missing parent was met by a step that changes these."""
        changed = {new.id: new for _, new in pairs}
        state_of = states_with(changed, self._state_of)
        ended = (new for old, new in pairs if new.state in FINISHED and old.state not in FINISHED)
        kids = {kid.id: kid for parent in ended for kid in self._kids_of(parent.id)}
        return [
            kid
            for kid in kids.values()
            if kid.id not in changed and kid.state in CLAIMABLE and not unmet(kid, state_of)
        ]


def _risen(job: Job, parent: str, now: str) -> Job:
    new = lifecycle.risen(job, parent, now)
    if recurs(job):
        from queuectl.model.schedule import brought_back  # few schedules have parents

        return brought_back(job, new, now)
    return new
