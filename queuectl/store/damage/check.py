"""Checks a queue's promises: no job twice, counts that agree, lines in the right file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

from queuectl.errors import list_few
from queuectl.model.dependencies import (
    ENDLESS,
    LOST,
    parent_state,
    parents,
    ring,
    told_ring,
    unmet,
)
from queuectl.model.job import Job
from queuectl.store.facts import STATE_ORDER, Finding
from queuectl.store.files.job_files import (
    NAMES_OTHERS,
    decode_job,
    is_live,
    is_sound,
    line_id,
    line_state,
)
from queuectl.store.files.snapshot import Snapshot, merged


def problems(snapshot: Snapshot) -> list[str]:
    """What is wrong with the queue, one line for each fault."""
    jobs = list(merged(snapshot.base_jobs(), snapshot.overlay, False))
    dead = list(merged(snapshot.base_dead(), snapshot.overlay, True))
    times = Counter(map(line_id, jobs + dead))
    found = [f"job {job_id.decode()} occurs twice" for job_id, n in times.items() if n > 1]
    found += [f"job {line_id(line).decode()} is not dead" for line in dead if not _is_dead(line)]
    found += [f"job {line_id(line).decode()} is dead" for line in jobs if _is_dead(line)]
    unsound = (line for line in jobs + dead if not is_sound(line))
    found += [f"line {line[:60]!r} is not a whole job" for line in unsound]
    states = Counter((line_state(line) or b"").decode() for line in jobs + dead)
    noted = {state: snapshot.journal.counts[state] for state in STATE_ORDER}
    counted = {state: states[state] for state in STATE_ORDER}
    if not snapshot.edited and counted != noted:
        found.append(f"the journal counts {_shown(noted)}, there are {_shown(counted)}")
    return found


def _shown(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in counts.items() if count) or "none"


def _is_dead(line: bytes) -> bool:
    return line_state(line) == b"dead"


def left_by_hand(lines: Callable[[], Iterable[bytes]], about: str) -> list[Finding]:
    """What edits by hand did to live jobs; `lines` gives all jobs at each call."""
    keyed = (decode_job(line) for line in lines() if b'"unique": "' in line and is_live(line))
    twins = key_twins(keyed)
    naming = (line for line in lines() if NAMES_OTHERS in line and is_live(line))
    waiting = [job for job in map(decode_job, naming) if parents(job)]
    named = {name for job in waiting for name in parents(job)}
    known = (decode_job(line) for line in lines() if line_id(line).decode() in named)
    states = {job.id: parent_state(job) for job in known} if named else {}
    return told_of_live(about, twins, waiting, states.get)


def told_of_live(
    about: str,
    twins: Iterable[Sequence[str]],
    waiting: Collection[Job],
    state_of: Callable[[str], str | None],
) -> list[Finding]:
    """What is wrong with live jobs: faults that an edit by hand can leave.

    `twins`: see `key_twins`. `waiting`: the jobs that name parents. `state_of` gives a parent's
    state.
    """
    found = []
    for ids in twins:
        text = f"live with one unique key: {list_few(ids)}"
        found.append(Finding(about, text, "'queuectl cancel ID' all but one of them"))
    for job_id, text in _unstartable(waiting, state_of):
        mends = f"'queuectl update {job_id}' with --after or --after-end"
        found.append(Finding(about, f"job '{job_id}' {text}", mends))
    return found


def key_twins(jobs: Iterable[Job]) -> list[list[str]]:
    """For each unique key with too many live jobs, their ids."""
    holders: dict[str, list[Job]] = {}
    for job in jobs:
        if job.unique is not None:
            holders.setdefault(job.unique, []).append(job)
    return [[job.id for job in jobs] for jobs in holders.values() if _are_twins(jobs)]


def _unstartable(
    waiting: Collection[Job], state_of: Callable[[str], str | None]
) -> Iterator[tuple[str, str]]:
    """The waiting jobs that no end of another job lets start, and why."""
    for job in waiting:
        for name, state in unmet(job, state_of).items():
            if state is None:
                yield job.id, f"waits for '{name}', which is not there"
            elif state == ENDLESS or state in LOST:
                yield job.id, f"waits for '{name}', which is {state}"
    kin = {job.id: parents(job) for job in waiting}
    if ids := ring(kin, lambda name: kin.get(name, ())):
        yield ids[0], f"waits in a ring: {told_ring(ids)}"


def _are_twins(jobs: list[Job]) -> bool:
    """Whether these are more than a running job and the one that `--replace` put after it."""
    return len(jobs) > 2 or (len(jobs) == 2 and not any(job.run for job in jobs))
