"""Changes of jobs in the files: their consequences for other jobs, and one record of it all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from queuectl.model.dependencies import needed
from queuectl.model.job import Job, refuse_key, revived
from queuectl.store.files import kin
from queuectl.store.files.job_files import encode_job, removal_line
from queuectl.store.files.journal import PROMISED
from queuectl.store.files.lookup import find_holders
from queuectl.store.files.staged import refuse_newer

if TYPE_CHECKING:
    from queuectl.model.dependencies import Pair
    from queuectl.store.contract import Kept
    from queuectl.store.files.journal import Journal
    from queuectl.store.files.writer import Move, Writer


def step(
    writer: Writer,
    journal: Journal,
    pairs: list[Pair],
    hooks_of: Callable[[Sequence[Pair]], Iterable[Job]],
    now: str,
    flag: bytes,
    *,
    alone: bool,
) -> tuple[dict[str, Job], int]:
    """Append the new form of these jobs and of others with them.

    Returns all changed jobs by id, and the number of freed ones. Raises KeyTaken and what
    `check_new` raises; then nothing is changed.
    """
    more, freed = kin.consequences(writer, journal, pairs, now, alone=alone)
    pairs = [*pairs, *more]
    changed = {new.id: new for _, new in pairs}
    alive = revived(pairs)
    holders = find_holders(writer.files, journal, alive)
    for key, job in alive.items():
        refuse_key(job, holders[key])
    if journal.header.version == 1:
        refuse_newer(writer.folder, changed.values())
    hooks = list(hooks_of(pairs))
    moves: list[Move] = [(old.state, new.state) for old, new in pairs]
    moves += [(None, hook.state) for hook in hooks]
    live = writer.known_live
    if live is not None:
        live.freed = 0
    lines = [encode_job(job) for job in (*changed.values(), *hooks)]
    writer.append(journal, lines, moves, flag)
    return changed, freed if live is None else live.freed


def remove(writer: Writer, journal: Journal, jobs: list[Job], kept: Kept) -> list[Job]:
    """Remove those of the jobs that no live job names; passes the others to `kept`."""
    naming = kin.with_parents(writer.files, journal).values()
    staying = needed(naming, {job.id for job in jobs})
    gone = [job for job in jobs if job.id not in staying]
    if kept is not None:
        kept += [job for job in jobs if job.id in staying]
    if gone:
        lines = [removal_line(job.id, job.state) for job in gone]
        writer.append(journal, lines, [(job.state, None) for job in gone], PROMISED)
    return gone
