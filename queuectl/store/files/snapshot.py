"""The whole queue at one moment, read without the lock.

Of a file that a person edited only the edit counts; for all else our own copy of it counts. So a
reader sees the queue as it will be after a writer has taken the edit in.

The order matters: open the journal and keep it open, open both job files, read that journal to its
end, then check whether it still has its name. If not, a fold came between: start over. (Reading
the files first, or not checking again, misses acknowledged jobs under load.)
"""

from __future__ import annotations

import os
import time
from itertools import chain

from queuectl.errors import BadFile
from queuectl.model.job import Job
from queuectl.model.times import format_time
from queuectl.places import DEAD, JOBS
from queuectl.store.door import LARGEST, NO_LINES, changed, check_size, is_young, open_ours
from queuectl.store.files.evidence import find_copy
from queuectl.store.files.job_files import (
    NAMES_OTHERS,
    checksum,
    decode_job,
    encode_job,
    find_line,
    line_id,
    line_state,
    parse_edited,
    read_lines,
    read_lines_with,
    read_pieces,
)
from queuectl.store.files.journal import Journal, Stamp, read_at

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator
    from contextlib import AbstractContextManager

    from queuectl.store.edits.hand_edits import HandEdit

NAMES = (JOBS, DEAD)
_TRIES = 5
PATIENCE = 2.0  # seconds; a mistake in a younger file may mean that it is still being written
_PAUSE = 0.05  # seconds between looks at such a file


class _BeingWritten(Exception):
    """A file has a mistake but may not be complete yet: it is `age` seconds old."""

    def __init__(self, mistake: BadFile, age: float) -> None:
        super().__init__(str(mistake))
        self.mistake = mistake
        self.age = age


def _wait(seconds: float) -> None:
    time.sleep(seconds)


class BaseFile:
    """One open job file: in our layout as the journal's header knows it, or edited by a person."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.fd, self.found = open_ours(path, os.O_RDONLY)

    def __enter__(self) -> BaseFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; may be called twice."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def is_ours(self, stamp: Stamp, intents: Iterable[tuple[int, int]], now: float) -> bool:
        """Whether queuectl wrote the content, by the stamp or else by an announced checksum."""
        if stamp.fits(self.found) and not is_young(self.found.st_mtime_ns, now):
            return True
        known = {(stamp.size, stamp.crc), *intents}
        if not any(size == self.found.st_size for size, _ in known):
            return False
        return (self.found.st_size, checksum(self.fd)) in known

    def check_edit(self, stamp: Stamp) -> None:
        """Raise BadFile if the file grew so much that the edit must be a mistake."""
        if stamp.size >= 0:  # otherwise a repair has just read it: its earlier size is unknown
            most = stamp.size + LARGEST
            check_size(self.path, self.found.st_size, most, "an edited one may have")

    def read(self) -> bytes:
        return read_at(self.fd, 0, self.found.st_size)


def intended(journal: Journal) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """The sizes and checksums that folds announced for jobs.json and for dlq.json."""
    words = [[int(word) for word in intent.split()] for intent in journal.intents]
    return [(w[0], w[1]) for w in words], [(w[2], w[3]) for w in words]


def overlay_of(lines: Iterable[bytes]) -> dict[bytes, bytes]:
    """The last journal line of each job, by id, in order of first appearance."""
    return {line_id(line): line for line in lines}


def _without_signs(overlay: dict[bytes, bytes]) -> tuple[dict[bytes, bytes], set[bytes]]:
    """The overlay without the lines that mark files as taken in, and those lines."""
    signs = {line for job_id, line in overlay.items() if job_id.startswith(b" ")}
    if signs:
        overlay = {job_id: line for job_id, line in overlay.items() if line not in signs}
    return overlay, signs


class Snapshot:
    """Both job files and the journal at one moment; close it when done.

    `files`: the job files as they are on disk. `bases`: the queue's own form of them: the same
    files, or our copies if a person edited one. `own` maps ids to the last journal line of each job
    that has one; `overlay` does too, with what an edit makes of a job. `edited`: whether a file is
    not as queuectl wrote it. `hand_edit`: the edit to take in; None if the earlier content is
    unknown: then the files count as they are.
    """

    # What this process judged last: a command looks several times before it takes an edit in, and
    # for a large file each judgement takes a second.
    _judged: HandEdit | None = None

    def __init__(
        self,
        journal: Journal,
        jobs: BaseFile,
        dead: BaseFile,
        now: float,
        judged: HandEdit | None = None,
    ) -> None:
        """`judged` holds an earlier judgement, which saves time if it still applies."""
        self.journal, self.files, self.bases = journal, (jobs, dead), [jobs, dead]
        self.own, signs = _without_signs(overlay_of(journal.all_lines()))
        self.overlay = self.own
        self.hand_edit: HandEdit | None = None
        self._by_hand: tuple[dict[str, Job], dict[str, Job]] | None = None
        intents = intended(journal)
        edited = [
            which
            for which, stamp in enumerate(journal.header.stamps)
            if not self.files[which].is_ours(stamp, intents[which], now)
        ]
        self.edited = bool(edited)
        if not edited:
            Snapshot._judged = None
            return
        for which in edited:
            self.files[which].check_edit(journal.header.stamps[which])
        try:
            if not self._open_copies(edited):
                self._by_hand = self._parse_both(now)
                return
            if judged is None or not judged.holds(journal, self.files):
                from queuectl.store.edits.hand_edits import judge  # rare, and large

                judged = judge(journal, self.files, self.bases, self.own, edited, signs, now)
        except BaseException:
            self.close_copies()
            raise
        self.hand_edit = Snapshot._judged = judged
        self.overlay = self.own | judged.edit.lines

    def _open_copies(self, edited: list[int]) -> bool:
        """Whether we have a copy of each edited file; the copies then become the bases.

        What a fold was about to write does not count: the journal has not moved on to it yet.
        """
        for which in edited:
            stamp = self.journal.header.stamps[which]
            path = find_copy(os.path.dirname(self.journal.path), NAMES[which], stamp)
            if path is None:
                return False
            self.bases[which] = BaseFile(path)
        return True

    @classmethod
    def read(
        cls,
        folder: str,
        now: float,
        locked: Callable[[], AbstractContextManager[None]],
        patience: float | None = None,
    ) -> Snapshot:
        """A snapshot of the folder; `locked` gives its lock, in case folds outrun the reader.

        A file with a mistake that is younger than `patience` seconds is waited for: some editors
        write in place, and slowly.
        """
        waited, patience = 0.0, PATIENCE if patience is None else patience
        while True:
            try:
                return cls._read(folder, now + waited, locked)
            except _BeingWritten as exc:
                if exc.age > patience or waited > 5 * patience:
                    raise exc.mistake from None
            _wait(_PAUSE)
            waited += _PAUSE

    @classmethod
    def _read(
        cls, folder: str, now: float, locked: Callable[[], AbstractContextManager[None]]
    ) -> Snapshot:
        for _ in range(_TRIES):
            found = cls._try(folder, now)
            if found is not None:
                return found
        with locked():
            found = cls._try(folder, now)
        if found is None:
            raise BadFile(f"the journal in {folder} is replaced by something else than queuectl")
        return found

    @classmethod
    def _try(cls, folder: str, now: float) -> Snapshot | None:
        opened: list[Journal | BaseFile] = []
        try:
            journal = Journal.for_reading(folder)
            opened.append(journal)
            jobs = BaseFile(os.path.join(folder, JOBS))
            opened.append(jobs)
            dead = BaseFile(os.path.join(folder, DEAD))
            opened.append(dead)
            journal.read_on()
            if not journal.is_current():
                return None
            try:
                snapshot = cls(journal, jobs, dead, now, cls._judged)
            except BadFile as exc:
                if not journal.is_current():
                    return None  # files that do not fit together are from two folds
                written = max(file.found.st_mtime for file in (jobs, dead))
                raise _BeingWritten(exc, abs(now - written)) from None
            if snapshot.edited and not journal.is_current():
                snapshot.close_copies()
                return None  # a fold may have removed the copies before the search
            opened.clear()
            return snapshot
        except NO_LINES as exc:
            raise changed(folder) from exc
        finally:
            for part in opened:
                part.close()

    def close(self) -> None:
        self.journal.close()
        for file in self.files:
            file.close()
        self.close_copies()

    def close_copies(self) -> None:
        """Close only our copies of edited files."""
        for base in self.bases:
            if base not in self.files:
                base.close()

    def _parse_both(self, now: float) -> tuple[dict[str, Job], dict[str, Job]]:
        """The jobs of both files as a person left them, each in the file to which it belongs.

        Their `rev` grows: a change that read them before the edit must not overwrite it.
        """
        moment = format_time(now)
        jobs_file, dead_file = self.files
        found = parse_edited(jobs_file.read(), jobs_file.path, moment, "pending", {})
        # A job with a journal record may be in both: a fold that moved it was interrupted.
        taken = {job_id for job_id in found if job_id.encode() not in self.overlay}
        found |= parse_edited(dead_file.read(), dead_file.path, moment, "dead", taken)
        jobs: tuple[dict[str, Job], dict[str, Job]] = ({}, {})
        for job in found.values():
            jobs[1 if job.state == "dead" else 0][job.id] = job._replace(rev=job.rev + 1)
        return jobs

    def base_jobs(self) -> Iterator[bytes]:
        """The lines of jobs.json without regard to the journal."""
        if self._by_hand is None:
            return read_lines(self.bases[0].fd)
        return (encode_job(job) for job in self._by_hand[0].values())

    def base_dead(self) -> Iterator[bytes]:
        """The lines of dlq.json without regard to the journal."""
        if self._by_hand is None:
            return read_lines(self.bases[1].fd)
        return (encode_job(job) for job in self._by_hand[1].values())

    def lines(self) -> Iterator[bytes]:
        """Every job's present line: those that are not dead, then the dead."""
        yield from merged(self.base_jobs(), self.overlay, False)
        yield from merged(self.base_dead(), self.overlay, True)

    def base_pieces(self) -> Iterator[bytes]:
        """The text of jobs.json in pieces of whole lines, without regard to the journal."""
        if self._by_hand is None:
            return (piece[:end] for piece, end in read_pieces(self.bases[0].fd))
        return (line + b"\n" for line in self.base_jobs())

    def find(self, states: Collection[str] | None) -> Iterator[Job]:
        """The jobs in one of the states, in the order of `lines`; others are not parsed."""
        wanted = None if states is None else {state.encode() for state in states}
        for line in self.lines():
            if wanted is None or line_state(line) in wanted:
                yield decode_job(line)

    def children(self, job_id: str | None) -> Iterator[Job]:
        """The jobs that name this parent (None: any), found by the bytes of their lines."""
        named = NAMES_OTHERS if job_id is None else b'"%s"' % job_id.encode()
        if self._by_hand is None:
            older = chain.from_iterable(read_lines_with(base.fd, (named,)) for base in self.bases)
        else:
            older = chain(self.base_jobs(), self.base_dead())
        lines = chain(
            (line for line in older if line_id(line) not in self.overlay),
            (line for line in self.overlay.values() if line_state(line)),
        )
        for job in (decode_job(line) for line in lines if named in line):
            if job_id is None or job_id in job.after or job_id in job.after_end:
                yield job

    def get(self, job_id: str) -> tuple[Job, str] | None:
        """The job and the file that holds it, or None."""
        line = self.overlay.get(job_id.encode())
        if line is not None:
            state = line_state(line)
            where = DEAD if state == b"dead" else JOBS
            return None if state is None else (decode_job(line), where)
        if self._by_hand is not None:
            for jobs, where in zip(self._by_hand, NAMES, strict=True):
                if job_id in jobs:
                    return jobs[job_id], where
            return None
        for base, where in zip(self.bases, NAMES, strict=True):
            line = find_line(base.fd, job_id)
            if line is not None:
                return decode_job(line), where
        return None


def merged(
    base: Iterator[bytes],
    overlay: dict[bytes, bytes],
    dead: bool,
    replaced: dict[bytes, bytes] | None = None,
) -> Iterator[bytes]:
    """The lines of one job file as they should be: changed ones in place, new ones at the end.

    `dead`: dlq.json, else jobs.json. A job that left the file or was removed has no line in it.
    `replaced` receives the lines that the overlay replaces.
    """
    seen = set()
    for line in base:
        job_id = line[8 : line.index(b'"', 8)]  # line_id inlined: no call for each line of a fold
        newer = overlay.get(job_id)
        if newer is None:
            yield line
        elif job_id not in seen:
            seen.add(job_id)
            if replaced is not None:
                replaced[job_id] = line
            if belongs(newer, dead):
                yield newer
    for job_id, line in overlay.items():
        if job_id not in seen and belongs(line, dead):
            yield line


def belongs(line: bytes, dead: bool) -> bool:
    """Whether a journal line belongs in dlq.json (`dead`) or else in jobs.json."""
    state = line_state(line)
    return state is not None and (state == b"dead") is dead
