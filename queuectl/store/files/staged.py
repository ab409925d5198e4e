"""The lines of new jobs until they are in the journal: in memory or, if very many, in a file.

A large `enqueue --file` must take little memory and be accepted as a whole or not at all.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from itertools import chain
from typing import Any
from zlib import crc32

from queuectl.errors import DuplicateId, InvalidInput
from queuectl.model.env_set import present
from queuectl.model.job import LIVE, Job, recurs, refuse_key
from queuectl.store import door
from queuectl.store.files import worker_files
from queuectl.store.files.job_files import (
    NAMES_OTHERS,
    checked_line,
    decode_job,
    encode_job,
    line_id,
    line_state,
)
from queuectl.store.files.journal import counts_after

TYPE_CHECKING = False
if TYPE_CHECKING:
    from queuectl.store.contract import Meet
    from queuectl.store.files.journal import Counts
    from queuectl.store.files.side_files import EnvSets

FEW = 8 << 20  # bytes of lines held in memory
_PIECE = 1 << 20  # bytes written and read at once


class Staged:
    """The lines, in memory or in a file; `close` it when they are in the journal.

    `counts`: the jobs by state. `size`: bytes of the payload of their record. `crc`: its checksum,
    known once the lines are in a file.
    """

    def __init__(self, path: Callable[[], str], lines: Iterable[bytes]) -> None:
        """Read all the lines. `path` is called if a file is needed, and makes its folder."""
        self.counts: dict[str, int] = {}
        self._moved: list[tuple[str, str]] = []  # old and new state of stored jobs
        self.size = self.crc = 0
        self.names_parents = False  # whether any of the jobs waits for others
        self.lines: list[bytes] | None = []  # None: the lines are in the file
        self._fd = -1
        counted = self._counted(lines)
        held = self.lines
        for line in counted:
            held.append(line)
            if self.size > FEW:
                self.lines = None
                self._fd = door.write_nameless(path(), self._summed(chain(held, counted)))

    def _counted(self, lines: Iterable[bytes]) -> Iterator[bytes]:
        counts = dict[bytes, int]()
        for line in lines:
            state = line_state(line) or b""
            counts[state] = counts.get(state, 0) + 1
            self.size += len(line) + 1
            if NAMES_OTHERS in line:
                self.names_parents = True
            yield line
        self.counts = {state.decode(): count for state, count in counts.items()}

    def _summed(self, lines: Iterable[bytes]) -> Iterator[bytes]:
        for piece in _pieces(lines):
            self.crc = crc32(piece, self.crc)
            yield piece

    def change(self, pairs: Iterable[tuple[Job, Job]]) -> None:
        """Change stored jobs in the same record; InvalidInput if it becomes too large."""
        for old, new in pairs:
            if self.lines is None:
                raise InvalidInput("too many jobs would replace others at once: enqueue fewer")
            self.lines.append(encode_job(new))
            self.names_parents = self.names_parents or NAMES_OTHERS in self.lines[-1]
            self.size += len(self.lines[-1]) + 1
            self._moved.append((old.state, new.state))

    def counted(self, counts: Counts) -> Counts:
        """The counts of a queue after this record."""
        after = counts_after(counts, self._moved)
        for state, count in self.counts.items():
            after[state] += count
        return after

    def pieces(self) -> Iterator[bytes]:
        """The payload in parts."""
        return _pieces(self)

    def __iter__(self) -> Iterator[bytes]:
        if self.lines is not None:
            yield from self.lines
            return
        with open(os.dup(self._fd), "rb", buffering=_PIECE) as file:
            file.seek(0)
            for line in file:
                yield line[:-1]

    def close(self) -> None:
        """Close the file, which has no name; may be called twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def new_lines(jobs: Iterable[Job], order: dict[str, int] | None, keys: set[str]) -> Iterator[bytes]:
    """The jobs' lines; adds the index of each id to `order`, and the jobs' keys to `keys`.

    Raises DuplicateId for an id that occurs twice and InvalidInput for a too large job, both with
    the index of the job.
    """
    for index, job in enumerate(jobs):
        if order is not None:
            if job.id in order:
                raise DuplicateId(job.id, "the same input", index)
            order[job.id] = index
        if job.unique is not None:
            keys.add(job.unique)
        try:
            line = checked_line(job)
        except InvalidInput as exc:
            exc.index = index
            raise
        yield line


def refuse_newer(folder: str, jobs: Iterable[Job]) -> None:
    """Raise StoreError for a job that a worker of format 1 would run too early, or at all.

    While format 1 is written such workers may live.
    """
    if any(job.lock or job.after or job.after_end or recurs(job) for job in jobs):
        raise worker_files.too_old(folder)


def _pieces(lines: Iterable[bytes]) -> Iterator[bytes]:
    batch: list[bytes] = []
    size = 0
    for line in lines:
        batch += (line, b"\n")
        size += len(line)
        if size >= _PIECE:
            yield b"".join(batch)
            batch.clear()
            size = 0
    yield b"".join(batch)


def with_set(
    staged: Staged,
    path: Callable[[], str],
    env_sets: EnvSets,
    version: int,
    env_set: Mapping[str, Any],
) -> Staged:
    """The jobs with the id under which their set is kept or, in format 1, the set's variables.

    Usually they have that id already.
    """
    kept: str | None = None
    given: dict[str, str] = {}
    if version == 1:
        given = present(env_set)
    else:
        kept = env_sets.keep(env_set)
        if decode_job(next(iter(staged))).env_set == kept:
            return staged
    jobs = map(decode_job, staged)
    lines = (
        encode_job(job._replace(env_set=kept, env={**given, **(job.env or {})} or None))
        for job in jobs
    )
    with closing(staged):
        return Staged(path, lines)


def met(
    staged: Staged,
    path: Callable[[], str],
    there: Mapping[str, Job],
    holders: dict[str, list[Job]],
    meet: Meet | None,
) -> Staged:
    """What to journal for new jobs that meet others; see Meet. Without `meet`: KeyTaken.

    `there`: stored jobs with ids of new ones. `holders`: live jobs with their keys.
    """
    before = dict(there) | {job.id: job for jobs in holders.values() for job in jobs}
    left_out: set[int] = set()
    changed: dict[str, Job] = {}
    for index, line in enumerate(staged):
        job_id = line_id(line).decode()
        if job_id not in there and b'"unique": "' not in line:
            continue
        job = decode_job(line)
        is_live = job.unique is not None and job.state in LIVE
        live = holders.setdefault(str(job.unique), []) if is_live else []
        others = [there[job_id]] if job_id in there else []
        others += [other for other in live if other.id != job_id]
        if meet is None:
            refuse_key(job, others, index)
        new = meet(index, job, others) if others and meet is not None else job
        if new is not None and new.id == job_id:
            live.append(new)
            if new is not job:
                changed[job_id] = new
            continue
        left_out.add(index)
        if new is not None:
            changed[new.id] = new
            live[:] = [new if other.id == new.id else other for other in live]
    if not left_out and not changed:
        return staged

    def lines() -> Iterator[bytes]:
        for index, line in enumerate(staged):
            if index not in left_out:
                new = changed.pop(line_id(line).decode(), None)
                yield line if new is None else encode_job(new)

    with closing(staged):
        kept = Staged(path, lines())
        kept.change((before[job_id], new) for job_id, new in changed.items())
    return kept
