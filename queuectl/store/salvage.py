"""What can be read of a queue's files, damaged or not, and what is wrong with them.

A journal record counts if its checksum holds, wherever it stands; a job in a JSON file, which has
no checksum of its own, if it parses as one. Nothing here changes a file.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple
from zlib import crc32

from queuectl.errors import BadFile, InvalidInput
from queuectl.model.fields import State
from queuectl.model.job import Job, job_from_person
from queuectl.model.times import format_time
from queuectl.store.job_files import (
    DEAD,
    JOBS,
    decode_job,
    encode_job,
    line_id,
    line_state,
    parse_edited,
)
from queuectl.store.journal import (
    INTENT,
    NAME,
    Header,
    Record,
    Stamp,
    is_corrupt,
    parse_counts,
    read_at,
    record_at,
)
from queuectl.store.snapshot import YOUNG

_BLOCK = 4096  # bytes; what a disk cannot read is passed over in pieces of this size
_FEW = 5  # places or names that a line of text lists before it only counts them
_ID = re.compile(rb'"id": "([^"\n]{1,128})"')
_OPENING = re.compile(r"^[ \t\[,]*(?=\{)", re.M)
_BETWEEN = re.compile(r"[\s,]*")
_NOTHING = " \t\r\n,[]"


class JournalRemains(NamedTuple):
    """The journal as far as it can be read. `fault`: what is wrong with it, empty if nothing is.

    `bad` are the bytes that are no whole records, from and to; `torn` is where an append that
    was cut short begins, which is no fault; `counts` those after the last record.
    """

    path: str
    there: bool
    header: Header | None
    lines: list[bytes]
    intents: list[bytes]
    bad: list[tuple[int, int]]
    torn: int | None
    counts: tuple[int, ...] | None
    fault: str


class FileRemains(NamedTuple):
    """One job file: its bytes, whether queuectl wrote just these, and what is wrong with it."""

    path: str
    data: bytes
    there: bool
    ours: bool
    fault: str

    @property
    def name(self) -> str:
        """The file's name in the folder."""
        return os.path.basename(self.path)


class Remains(NamedTuple):
    """All three files that hold jobs."""

    journal: JournalRemains
    jobs: FileRemains
    dead: FileRemains

    def faults(self) -> list[tuple[str, str]]:
        """File and what is wrong with it."""
        named = ((NAME, self.journal.fault), (JOBS, self.jobs.fault), (DEAD, self.dead.fault))
        return [(name, fault) for name, fault in named if fault]


def read_remains(folder: str, now: float) -> Remains:
    """The files as they are; StoreError only for a journal of a newer format."""
    journal = read_journal(os.path.join(folder, NAME))
    words = [[int(word) for word in intent.split()] for intent in journal.intents]
    files: list[FileRemains] = []
    for at, name in enumerate((JOBS, DEAD)):
        known = {(word[2 * at], word[2 * at + 1]) for word in words}
        stamp = journal.header.stamps[at] if journal.header else None
        files.append(_read_job_file(os.path.join(folder, name), stamp, known, now))
    return Remains(journal, *files)


# -- the journal


def read_journal(path: str) -> JournalRemains:
    """What the journal at `path` holds."""
    try:
        data = read_what_goes(path)
    except FileNotFoundError:
        return JournalRemains(path, False, None, [], [], [], None, None, "is missing")
    except OSError as exc:
        fault = f"cannot be read: {exc.strerror}"
        return JournalRemains(path, True, None, [], [], [], None, None, fault)
    try:
        header: Header | None = Header.parse(data, path)
    except BadFile:
        header = None
    records, bad = _records(data, header.length if header else 0)
    torn = _torn_at(data, records, bad) if header else None
    counts = header.counts if header else None
    return JournalRemains(
        path,
        True,
        header,
        [
            line
            for record in records
            if record.flag != INTENT
            for line in data[record.start : record.end].splitlines()
        ],
        [data[record.start : record.end] for record in records if record.flag == INTENT],
        bad,
        torn,
        parse_counts(records[-1].counts) if records else counts,
        _journal_fault(data, header, records, [] if torn is not None else bad),
    )


def _records(data: bytes, at: int) -> tuple[list[Record], list[tuple[int, int]]]:
    """Every whole record, and the regions between that are none."""
    records: list[Record] = []
    bad: list[tuple[int, int]] = []
    while at < len(data):
        record = record_at(data, at)
        if record is not None:
            records.append(record)
            at = record.end
            continue
        begin, at = at, data.find(b"@", at + 1)
        while at >= 0 and record_at(data, at) is None:
            at = data.find(b"@", at + 1)
        at = len(data) if at < 0 else at
        bad.append((begin, at))
    return records, bad


def _torn_at(data: bytes, records: list[Record], bad: list[tuple[int, int]]) -> int | None:
    """Where an append was cut short, if that is all that is wrong."""
    if len(bad) != 1 or bad[0][1] != len(data):
        return None
    return None if is_corrupt(data[bad[0][0] :]) else bad[0][0]


def _journal_fault(
    data: bytes, header: Header | None, records: list[Record], bad: list[tuple[int, int]]
) -> str:
    if bad:
        begin, end = bad[0]
        more = f" and in {len(bad) - 1} more places" if len(bad) > 1 else ""
        named = _named_jobs(data[start:stop] for start, stop in bad)
        return f"cannot be read from byte {begin} to byte {end}{more}{named}"
    if header is None:
        return "does not begin with a whole header"
    if [record.seq for record in records] != list(range(1, len(records) + 1)):
        return "lacks a record: their numbers leave a gap"
    return ""


def _named_jobs(pieces: Iterable[bytes]) -> str:
    """The ids that stand in bytes that cannot be trusted, for a person to look after."""
    ids = list(dict.fromkeys(name for piece in pieces for name in _ID.findall(piece)))
    more = f" and {len(ids) - _FEW} more" if len(ids) > _FEW else ""
    shown = ", ".join(name.decode("utf-8", "replace") for name in ids[:_FEW])
    return f" (about {shown}{more})" if ids else ""


def read_what_goes(path: str) -> bytes:
    """The file's bytes; NULs stand for blocks that the disk cannot read. OSError if none can be."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        size = os.fstat(fd).st_size
        try:
            return read_at(fd, 0, size)
        except IsADirectoryError:
            raise
        except OSError:
            return b"".join(_block(fd, at, size) for at in range(0, size, _BLOCK))
    finally:
        os.close(fd)


def _block(fd: int, at: int, size: int) -> bytes:
    length = min(_BLOCK, size - at)
    try:
        return os.pread(fd, length, at)
    except OSError:
        return b"\0" * length


# -- the job files


def _read_job_file(
    path: str, stamp: Stamp | None, known: set[tuple[int, int]], now: float
) -> FileRemains:
    try:
        data = read_what_goes(path)
        found = os.stat(path)
    except FileNotFoundError:
        return FileRemains(path, b"", False, False, "is missing")
    except OSError as exc:
        return FileRemains(path, b"", True, False, f"cannot be read: {exc.strerror}")
    sum_ = (len(data), crc32(data))
    if sum_ in known or (stamp is not None and sum_ == (stamp.size, stamp.crc)):
        return FileRemains(path, data, True, True, "")
    if stamp is not None and stamp.fits(found) and now - found.st_mtime >= YOUNG:
        return FileRemains(path, data, True, False, "has other bytes than were written to it")
    return FileRemains(path, data, True, False, _mistake_in(data, path, now))


def _mistake_in(data: bytes, path: str, now: float) -> str:
    try:
        parse_edited(data, path, format_time(now), _state_in(path), {})
    except BadFile as exc:
        text, _, _ = str(exc).rpartition(";")
        place, _, what = text.removeprefix(path).removeprefix(":").partition(": ")
        line, _, column = place.partition(":")
        return f"has a mistake in line {line}, column {column}: {what}" if what else place.strip()
    return ""


def _state_in(path: str) -> State:
    """The state of a job that names none, by the file that it stands in."""
    return "dead" if os.path.basename(path) == DEAD else "pending"


class Unread(NamedTuple):
    """A line of a JSON file that is no job, and the id that it seems to speak of."""

    line: int
    job_id: str | None


def jobs_in(file: FileRemains, now: float) -> tuple[list[Job], list[Unread]]:
    """The jobs of a job file in its order, twins too, and what could not be read."""
    moment, state = format_time(now), _state_in(file.path)
    jobs: list[Job] = []
    spans: list[tuple[int, int]] = []
    text = file.data.decode("utf-8", "surrogateescape")
    for start, end, form in objects_in(text):
        try:
            job = job_from_person(form, now=moment, state=state)
            encode_job(job)  # what cannot be written back is not kept
        except (InvalidInput, ValueError, TypeError, RecursionError):
            continue
        jobs.append(job)
        spans.append((start, end))
    return jobs, _unread(text, spans)


def objects_in(text: str) -> Iterator[tuple[int, int, object]]:
    """Start, end and value of each JSON object that begins a line, or follows one on its line."""
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
        # A line that the last object ended in is behind us; its end may begin the next search.
        opening = _OPENING.search(text, _line_start(text, at))


def _line_start(text: str, at: int) -> int:
    if at == 0 or text[at - 1 : at] == "\n":
        return at
    newline = text.find("\n", at)
    return len(text) if newline < 0 else newline + 1


def _unread(text: str, spans: list[tuple[int, int]]) -> list[Unread]:
    """The lines between the spans that hold more than brackets and commas."""
    found: list[Unread] = []
    begin, line = 0, 1
    for start, end in [*spans, (len(text), len(text))]:
        for number, part in enumerate(text[begin:start].split("\n"), line):
            if part.strip(_NOTHING):
                named = _ID.search(part.encode("utf-8", "replace"))
                found.append(Unread(number, named[1].decode("utf-8", "replace") if named else None))
        line += text.count("\n", begin, end)
        begin = end
    return found


# -- both


class Kept(NamedTuple):
    """The jobs that all files together still tell of, by id, and the ids that were removed.

    `beaten` are the files in which a job stood that another copy has outdone, by name.
    """

    jobs: dict[str, Job]
    removed: dict[str, str]
    beaten: set[str]


def merge(journal: JournalRemains, files: Iterable[tuple[str, list[Job]]]) -> Kept:
    """One copy of each job: the newest; of two that are equally new the journal's.

    `files` gives name and jobs of the job files. A higher `rev` is newer, but a job that was
    enqueued later under the same id is newer still.
    """
    jobs: dict[str, Job] = {}
    beaten: set[str] = set()
    held_in: dict[str, str] = {}
    for name, found in files:
        for job in found:
            twin = jobs.get(job.id)
            if twin is not None and _age(twin) >= _age(job):
                beaten.add(name)
                continue
            if twin is not None:
                beaten.add(held_in[job.id])
            jobs[job.id], held_in[job.id] = job, name
    removed: dict[str, str] = {}
    for line in journal.lines:
        _take_in(line, jobs, removed)
    return Kept(jobs, removed, beaten)


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


def list_few(things: Iterable[object]) -> str:
    """The first few, with commas, and how many more there are."""
    shown = [str(thing) for thing in things]
    more = f" and {len(shown) - _FEW} more" if len(shown) > _FEW else ""
    return ", ".join(shown[:_FEW]) + more
