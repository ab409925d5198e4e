"""Reads what is readable in a queue's files, damaged or not, and says what is wrong with them.

A journal record counts if its checksum is right, at any position; a job in a JSON file, which has
no checksum of its own, counts if it parses as a job. Nothing here changes a file.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple
from zlib import crc32

from queuectl.errors import BadFile, FileMissing, InvalidInput, StoreError
from queuectl.model.fields import State
from queuectl.model.job import Job, job_from_person
from queuectl.model.times import format_time
from queuectl.places import DEAD, JOBS, JOURNAL
from queuectl.store.damage.journal_remains import (
    JOB_ID,
    JournalRemains,
    begins_as_ours,
    read_journal,
    read_what_goes,
    unreadable,
)
from queuectl.store.door import LARGEST, change_mark, is_young
from queuectl.store.files.evidence import find_copy
from queuectl.store.files.job_files import decode_job, encode_job, line_id, line_state, parse_edited
from queuectl.store.files.journal import Stamp

_OPENING = re.compile(r"^[ \t\[,]*(?=\{)", re.M)
_BETWEEN = re.compile(r"[\s,]*")
OTHER_BYTES = "has other bytes than were written to it"
_NOTHING = " \t\r\n,[]"


class FileRemains(NamedTuple):
    """One job file: its bytes, whether queuectl wrote exactly these, and what is wrong with it.

    `mark` shows whether it changed since: see change_mark. `copy`: if it is damaged, the path of a
    file with exactly the bytes that the last fold wrote.
    """

    path: str
    data: bytes
    there: bool
    ours: bool
    fault: str
    mark: tuple[int, int, int] | None
    copy: str | None = None

    @property
    def name(self) -> str:
        return os.path.basename(self.path)


class Remains(NamedTuple):
    """All three files that hold jobs."""

    journal: JournalRemains
    jobs: FileRemains
    dead: FileRemains

    def faults(self) -> list[tuple[str, str]]:
        """Each faulty file, and what is wrong with it."""
        named = ((JOURNAL, self.journal.fault), (JOBS, self.jobs.fault), (DEAD, self.dead.fault))
        return [(name, fault) for name, fault in named if fault]


def read_remains(folder: str, now: float) -> Remains:
    """The files as they are; raises StoreError only for a journal of a newer format."""
    journal = read_journal(os.path.join(folder, JOURNAL))
    words = [[int(word) for word in intent.split()] for intent in journal.intents]
    files: list[FileRemains] = []
    for at, name in enumerate((JOBS, DEAD)):
        known = {(word[2 * at], word[2 * at + 1]) for word in words}
        stamp = journal.header.stamps[at] if journal.header else None
        found = _read_job_file(os.path.join(folder, name), stamp, known, now)
        if found.fault and stamp is not None:
            found = found._replace(copy=find_copy(folder, name, stamp))
        files.append(found)
    return Remains(journal, *files)


# -- the job files


def _read_job_file(
    path: str, stamp: Stamp | None, known: set[tuple[int, int]], now: float
) -> FileRemains:
    if stamp is not None:
        known = {*known, (stamp.size, stamp.crc)}
    try:
        mark = change_mark(path)
        most = _most_of(path, known)
        found = os.lstat(path)
        data = read_what_goes(path, most)
    except (FileMissing, FileNotFoundError):
        return FileRemains(path, b"", False, False, "is missing", None)
    except StoreError as exc:
        return FileRemains(path, b"", True, False, unreadable(path, exc), mark)
    if found.st_size > most:
        # What was put after the jobs, or in their place, is not read.
        fault = f"holds {found.st_size:,} bytes, and may have at most {most + LARGEST:,}"
        return FileRemains(path, data, True, False, fault, mark)
    if (len(data), crc32(data)) in known:
        return FileRemains(path, data, True, True, "", mark)
    if stamp is not None and stamp.fits(found) and not is_young(found.st_mtime_ns, now):
        return FileRemains(path, data, True, False, OTHER_BYTES, mark)
    return FileRemains(path, data, True, False, _mistake_in(data, path, now), mark)


def _most_of(path: str, known: set[tuple[int, int]]) -> int:
    """How many bytes of a job file to read: all, unless it is far larger than we made it."""
    size, wrote = os.lstat(path).st_size, max([0, *(size for size, _ in known)])
    if size <= wrote + LARGEST:
        return size
    # Without a journal its size is unknown; if we wrote its beginning, it is read whole.
    return size if not known and begins_as_ours(path) else wrote


def _mistake_in(data: bytes, path: str, now: float) -> str:
    try:
        parse_edited(data, path, format_time(now), _state_in(path), {})
    except BadFile as exc:
        text, _, _ = str(exc).rpartition(";")
        position, _, what = text.removeprefix(path).removeprefix(":").partition(": ")
        line, _, column = position.partition(":")
        return (
            f"has a mistake in line {line}, column {column}: {what}" if what else position.strip()
        )
    return ""


def _state_in(path: str) -> State:
    """The state of a job that names none, judged by its file."""
    return "dead" if os.path.basename(path) == DEAD else "pending"


class Unread(NamedTuple):
    """A line of a JSON file that is not a job, and the id that it seems to have."""

    line: int
    job_id: str | None


def jobs_in(file: FileRemains, now: float) -> tuple[list[Job], list[Unread]]:
    """The jobs of a job file in its order, with twins, and what was unreadable.

    If there is a copy nothing is lost; but what is readable in a file that a person left with a
    mistake comes first.
    """
    jobs, unread = _jobs_in(file.data, _state_in(file.path), now)
    if file.copy is None:
        return jobs, unread
    try:
        whole, _ = _jobs_in(read_what_goes(file.copy), _state_in(file.path), now)
    except StoreError:  # gone by now
        return jobs, unread
    if file.fault == OTHER_BYTES:
        jobs = []
    known = {job.id for job in jobs}
    return [*jobs, *(job for job in whole if job.id not in known)], []


def _jobs_in(data: bytes, state: State, now: float) -> tuple[list[Job], list[Unread]]:
    moment = format_time(now)
    jobs: list[Job] = []
    spans: list[tuple[int, int]] = []
    text = data.decode("utf-8", "surrogateescape")
    for start, end, form in objects_in(text):
        try:
            job = job_from_person(form, now=moment, state=state, ours=True)
            encode_job(job)  # what could not be written back is not kept
        except (InvalidInput, ValueError, TypeError, RecursionError):
            continue
        jobs.append(job)
        spans.append((start, end))
    return jobs, _unread(text, spans)


def objects_in(text: str) -> Iterator[tuple[int, int, object]]:
    """Start, end and value of each JSON object that begins a line or follows one on its line."""
    decode = json.JSONDecoder().raw_decode
    opening = _OPENING.search(text)
    while opening is not None:
        at = opening.end()
        while text.startswith("{", at):
            try:
                form, end = decode(text, at)
            except (ValueError, RecursionError):
                at += 1
                break
            yield at, end, form
            between = _BETWEEN.match(text, end)
            at = between.end() if between else end
        # The line that the last object ended in is behind us: on to the next one, or the end.
        opening = _OPENING.search(text, text.find("\n", at - 1) + 1 or len(text))


def _unread(text: str, spans: list[tuple[int, int]]) -> list[Unread]:
    """The lines between the spans that contain more than brackets and commas."""
    found: list[Unread] = []
    begin, line = 0, 1
    for start, end in [*spans, (len(text), len(text))]:
        for number, part in enumerate(text[begin:start].split("\n"), line):
            if part.strip(_NOTHING):
                named = JOB_ID.search(part.encode("utf-8", "replace"))
                found.append(Unread(number, named[1].decode("utf-8", "replace") if named else None))
        line += text.count("\n", begin, end)
        begin = end
    return found


# -- both


class Kept(NamedTuple):
    """The jobs that the files together still hold, by id, and the ids that were removed.

    `twins`: the names of files with a job that is also somewhere else.
    """

    jobs: dict[str, Job]
    removed: dict[str, str]
    twins: set[str]


def merge(journal: JournalRemains, files: Iterable[tuple[str, list[Job]]]) -> Kept:
    """One copy of each job: the newest, or the journal's of two equally new ones.

    `files`: name and jobs of each job file. A higher `rev` is newer, but a job enqueued later under
    the same id is newer still.
    """
    jobs: dict[str, Job] = {}
    held_in: dict[str, str] = {}
    twins: set[str] = set()
    for name, found in files:
        for job in found:
            if job.id in jobs:
                twins |= {name, held_in[job.id]}
            if job.id not in jobs or _age(jobs[job.id]) < _age(job):
                jobs[job.id], held_in[job.id] = job, name
    removed: dict[str, str] = {}
    for line in journal.lines:
        _take_in(line, jobs, removed)
    return Kept(jobs, removed, twins)


def _take_in(line: bytes, jobs: dict[str, Job], removed: dict[str, str]) -> None:
    job_id = line_id(line).decode()
    if line_state(line) is None:
        jobs.pop(job_id, None)
        removed[job_id] = json.loads(line)["removed"]
        return
    job = decode_job(line)
    removed.pop(job_id, None)
    if job_id not in jobs or _age(jobs[job_id]) <= _age(job):
        jobs[job_id] = job


def _age(job: Job) -> tuple[str, int]:
    return job.created_at, job.rev
