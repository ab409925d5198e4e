"""Reads a journal, damaged or not: every record with a right checksum, at any position.

Nothing here changes a file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import NamedTuple

from queuectl.errors import BadFile, FileMissing, StoreError, list_few
from queuectl.store import door
from queuectl.store.files.job_files import is_sound
from queuectl.store.files.journal import (
    INTENT,
    Header,
    Record,
    end_of_records,
    is_corrupt,
    parse_counts,
    read_at,
    record_at,
)

_BLOCK = 4096  # bytes; unreadable parts of the disk are skipped in pieces of this size
_PIECE = 1 << 20  # bytes
_HEAD, _LONGEST_FRONT = re.compile(rb"@\d{1,20} [0-9a-f]{8} \d"), 40  # bytes of a match
JOB_ID = re.compile(rb'"id": "([^"\n]{1,128})"')  # in bytes that are not to be trusted
_UNSHOWN = "the changes that the job files did not show yet"


class JournalRemains(NamedTuple):
    """The journal as far as it is readable. `fault`: what is wrong with it, empty if nothing is.

    `lost`: what of it is unreadable, empty if nothing is. `torn`: where an append that was cut
    short begins, which is not a fault. `counts`: those after the last record.
    """

    path: str
    there: bool
    header: Header | None
    lines: list[bytes]
    intents: list[bytes]
    torn: int | None
    counts: dict[str, int] | None
    fault: str
    lost: str


def read_journal(path: str) -> JournalRemains:
    """The content of the journal at `path`."""
    try:
        end, size = _end_before_nothing(path)
        data = read_what_goes(path, end)
    except FileMissing:
        return JournalRemains(path, False, None, [], [], None, None, "is missing", _UNSHOWN)
    except StoreError as exc:
        fault = unreadable(path, exc)
        return JournalRemains(path, True, None, [], [], None, None, fault, _UNSHOWN)
    try:
        header: Header | None = Header.parse(data, path)
    except BadFile:
        header = None
    records, bad = _records(data, header.length if header else 0)
    torn = _torn_at(data, bad) if header else None
    told = [
        line for record in records if record.flag != INTENT for line in record.payload.split(b"\n")
    ]
    told = [line for line in told if line]
    lines = [line for line in told if is_sound(line)]
    intents = [record.payload for record in records if record.flag == INTENT]
    counts = _last_counts(header, records)
    fault = _journal_fault(data, header, records, [] if torn is not None else bad)
    lost = "" if torn is not None else _lost(header, records, bad)
    if len(lines) < len(told):
        nonsense = f"{len(told) - len(lines)} line(s) that are not jobs"
        fault, lost = fault or f"holds {nonsense}", lost or nonsense
    if counts is None or not all(map(_is_intent, intents)):
        fault = fault or "holds a record that means nothing"
    if end < size:
        fault = fault or f"holds no change from byte {end} on"
        fault, torn = fault if header else "holds nothing of a journal", None
    intents = list(filter(_is_intent, intents))
    return JournalRemains(path, True, header, lines, intents, torn, counts, fault, lost)


def _end_before_nothing(path: str) -> tuple[int, int]:
    """How much of the journal to read, and its size: a huge file without records is not read."""
    fd, found = door.open_ours(path, os.O_RDONLY, linked=True)
    try:
        size = found.st_size
        header = Header.parse(os.pread(fd, _BLOCK, 0), path) if size > door.LARGEST else None
        end = end_of_records(fd, header.length, size) if header else size
        is_nothing = size - end > door.LARGEST and not os.pread(fd, _BLOCK, end).strip(b"\0")
        return (end if is_nothing else size), size
    except (BadFile, OSError):  # its beginning is damaged: search it for records
        is_large = found.st_size > door.LARGEST
        return (_BLOCK if is_large and not _has_records(fd) else found.st_size), found.st_size
    finally:
        os.close(fd)


def _has_records(fd: int) -> bool:
    """Whether the file may contain the head of a record; reads it in pieces."""
    at, rest = 0, b""
    try:
        while piece := os.pread(fd, _PIECE, at):
            if _HEAD.search(rest + piece):
                return True
            at, rest = at + len(piece), piece[-_LONGEST_FRONT:]
    except OSError:  # a block is unreadable; go on with the others
        return True
    return False


def _last_counts(header: Header | None, records: list[Record]) -> dict[str, int] | None:
    """The latest counts; None if the last record has none."""
    if not records:
        return header.counts if header else {}
    try:
        return parse_counts(records[-1].counts)
    except ValueError:
        return None


def _is_intent(payload: bytes) -> bool:
    return len(payload.split()) == 4 and all(word.isdigit() for word in payload.split())


def _records(data: bytes, at: int) -> tuple[list[Record], list[tuple[int, int]]]:
    """All whole records, and the regions between them that are not records."""
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


def _torn_at(data: bytes, bad: list[tuple[int, int]]) -> int | None:
    """Where an append was cut short, if nothing else is wrong."""
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
    return "" if _is_gapless(records) else "lacks a record: their numbers leave a gap"


def _is_gapless(records: list[Record]) -> bool:
    return [record.seq for record in records] == list(range(1, len(records) + 1))


def _lost(header: Header | None, records: list[Record], bad: list[tuple[int, int]]) -> str:
    if header is None:
        if not records:
            return _UNSHOWN
        bad = bad[records[0].seq == 1 :]  # the first region is the header, which is no loss
    if bad:
        return f"{sum(end - begin for begin, end in bad)} bytes of changes"
    return "" if _is_gapless(records) else "changes that are not there any more"


def _named_jobs(pieces: Iterable[bytes]) -> str:
    """The ids in bytes that are not to be trusted, for a person to check."""
    ids = dict.fromkeys(name for piece in pieces for name in JOB_ID.findall(piece))
    return f" (about {list_few(name.decode('utf-8', 'replace') for name in ids)})" if ids else ""


def unreadable(path: str, error: StoreError) -> str:
    """Why a file is unreadable, in words that follow its name."""
    why = error.__cause__
    if isinstance(why, OSError) and not isinstance(error, BadFile):
        return f"cannot be read: {why.strerror}"
    return str(error).removeprefix(f"{path} ").partition("; ")[0]


def read_what_goes(path: str, most: int | None = None) -> bytes:
    """The file's bytes, or the first `most`; NULs replace blocks that the disk cannot read.

    Raises StoreError if it is not a file of ours or cannot be opened.
    """
    fd, found = door.open_ours(path, os.O_RDONLY, linked=True)
    with door.Closing(fd):
        size = found.st_size if most is None else min(found.st_size, most)
        try:
            return read_at(fd, 0, size)
        except OSError:
            return b"".join(_block(fd, at, size) for at in range(0, size, _BLOCK))


def begins_as_ours(path: str) -> bool:
    """Whether a job file begins as in our layout; raises StoreError as read_what_goes does."""
    return read_what_goes(path, 10).startswith(b'[\n{"id": "')


def _block(fd: int, at: int, size: int) -> bytes:
    length = min(_BLOCK, size - at)
    try:
        return os.pread(fd, length, at)
    except OSError:
        return b"\0" * length
