"""The fold: bring both job files up to the journal, then start a new journal.

Every step leaves a queue that reads the same: the new files are written beside the old ones, the
journal announces their checksums, they are renamed into place, and a new journal is renamed over
the old one. A crash between any two steps is harmless because replaying a record twice is. What a
person wrote into the files is journaled first; otherwise it would have no record.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from zlib import crc32

from queuectl.errors import DiskRefused
from queuectl.places import JOURNAL, SETTINGS
from queuectl.store import door
from queuectl.store.files import evidence, marker, strays
from queuectl.store.files.job_files import checksum, line_id, line_state
from queuectl.store.files.journal import (
    EDIT,
    INTENT,
    NAMELESS,
    PROMISED,
    Header,
    Journal,
    Stamp,
    no_counts,
)
from queuectl.store.files.snapshot import BaseFile, Snapshot, belongs, merged

SHARE = 20.0  # after a fold of c seconds the next may follow SHARE * c seconds later
_WHILE_RUNNING = 1.0  # seconds; a fold holds the lock, and a run that ends would wait for it
QUICK = 0.010  # seconds; one-shot commands fold only if the last fold took less
SMALL = 1 << 20  # bytes; with less a fold took longer only because the disk syncs slowly


class _File:
    """A job file after the fold: size and checksum of its content, and the file if it is new.

    `found`: the stat of the file that was read, or of the new one. `counts`: its jobs by state.
    """

    def __init__(
        self,
        path: str,
        size: int,
        crc: int,
        fresh: str | None,
        found: os.stat_result,
        counts: Mapping[bytes, int],
    ) -> None:
        self.path = path
        self.size = size
        self.crc = crc
        self.fresh = fresh
        self.found = found
        self.counts = counts


class Layout:
    """Turns job lines into the chunks of a file in our layout; sums size, checksum and counts.

    `counts` maps each state, as bytes, to its number of lines.
    """

    def __init__(self, lines: Iterator[bytes]) -> None:
        self._lines = lines
        self.size = 0
        self.crc = 0
        self.counts: dict[bytes, int] = {}

    def __iter__(self) -> Iterator[bytes]:
        batch: list[bytes] = []
        between = b"[\n"
        counts = self.counts
        for line in self._lines:
            at = line.index(b'"', 8) + 13  # see line_state
            state = line[at : line.index(b'"', at)]
            counts[state] = counts.get(state, 0) + 1
            batch += (between, line)
            between = b",\n"
            if len(batch) >= 2048:
                yield self._counted(b"".join(batch))
                batch.clear()
        batch.append(b"[\n]\n" if between == b"[\n" else b"\n]\n")
        yield self._counted(b"".join(batch))

    def _counted(self, chunk: bytes) -> bytes:
        self.size += len(chunk)
        self.crc = crc32(chunk, self.crc)
        return chunk


def pause(journal: Journal) -> float:
    """Seconds from the last fold to the next, so that folding takes only its share of the time."""
    least = _WHILE_RUNNING if journal.counts["in_progress"] else 0.0
    return max(least, SHARE * journal.header.fold_seconds)


def is_due(journal: Journal, now: float) -> bool:
    """Whether that pause is over."""
    # A clock that was set back must not put off folding for ever.
    return not 0 <= now - journal.header.folded_at < pause(journal)


def is_quick(journal: Journal) -> bool:
    """Whether a command may fold before it returns."""
    size = journal.end + sum(stamp.size for stamp in journal.header.stamps)
    return journal.header.fold_seconds < QUICK or size < SMALL


def fold(
    folder: str,
    journal: Journal,
    snapshot: Snapshot,
    now: float,
    version: int,
    is_there: Callable[[], bool],
    behind: Iterable[bytes] | None = None,
) -> bool:
    """Fold under the lock; False, with nothing done, if a person changed a job file meanwhile.

    The same if `is_there` says no: the folder was moved away, and another one may now have its
    name, whose files must not be overwritten.
    `behind`: the lines of new jobs that the last record holds but the snapshot does not.
    `journal` is open for writing and read to its end; afterwards the caller opens the new one,
    which has the format `version`. The jobs are counted anew; the old counts do not matter.
    """
    began = time.perf_counter()
    stamps, (jobs_file, dead_file) = journal.header.stamps, snapshot.files
    replaced: dict[bytes, bytes] = {}
    lines = merged(snapshot.base_jobs(), snapshot.overlay, False, replaced)
    jobs = _write(jobs_file, stamps[0], lines if behind is None else chain(lines, behind))
    if _touches_dead(snapshot):
        lines = merged(snapshot.base_dead(), snapshot.overlay, True, replaced)
        dead = _write(dead_file, stamps[1], lines)
    else:
        dead = _as_found(dead_file, stamps[1], _dead_before(snapshot))
    counts = _sum(jobs.counts, dead.counts)
    fresh = [file for file in (jobs, dead) if file.fresh]
    mark, going_on = journal.mark(), False
    try:
        if snapshot.edited:
            _append_edit(journal, snapshot, counts)
        _announce(journal, jobs, dead)
        going_on = is_there() and all(map(_still, snapshot.files))
    finally:
        if not going_on:
            journal.cut_back(mark)
    if not going_on:
        for file in fresh:
            door.remove(file.fresh or "")
        return False
    if behind is None:  # notes about so many new jobs would push out all others
        _note_forms(folder, snapshot, replaced, now)
    generation = journal.header.generation + 1
    for file in fresh:
        evidence.keep_copy(folder, os.path.basename(file.path), file.fresh or "", generation)
    for file in fresh:
        door.rename(file.fresh or "", file.path)
    # Even if nothing was renamed here: a fold that was killed may have renamed.
    door.sync_folder(folder)
    seconds, stamps = time.perf_counter() - began, (_stamp(jobs), _stamp(dead))
    header = Header(generation, seconds, now, journal.edited, counts, stamps, version=version)
    start_journal(folder, header)
    evidence.drop_copies(folder, generation, [os.path.basename(file.path) for file in fresh])
    return True


def _sum(*counted: Mapping[bytes, int]) -> dict[str, int]:
    counts = no_counts()
    for found in counted:
        for state, count in found.items():
            counts[state.decode()] += count
    return counts


def _dead_before(snapshot: Snapshot) -> Mapping[bytes, int]:
    """The counts of a dlq.json that is still as the last fold left and counted it."""
    header = snapshot.journal.header
    # Nothing verified the counts of version 1; after a fold that was cut short, the file may be a
    # new one that the counts of the header do not fit.
    if header.version == 1 or not header.stamps[1].fits(snapshot.files[1].found):
        return {b"dead": sum(1 for _ in snapshot.base_dead())}
    return {b"dead": header.counts["dead"]}


def _note_forms(folder: str, snapshot: Snapshot, replaced: dict[bytes, bytes], now: float) -> None:
    """Note what the next edit by hand will be compared with, before the files change."""
    generation = snapshot.journal.header.generation + 1
    if not snapshot.edited or snapshot.hand_edit:
        edited = snapshot.hand_edit.edit.lines.keys() if snapshot.hand_edit else set()
        by_hand = edited - snapshot.own.keys()
        notes = [
            evidence.note_line(job_id, replaced.get(job_id), line, job_id in by_hand)
            for job_id, line in snapshot.overlay.items()
            if replaced.get(job_id) != line and (job_id in replaced or line_state(line))
        ]
        evidence.note_fold(folder, generation, now, notes)


def _touches_dead(snapshot: Snapshot) -> bool:
    overlay = snapshot.overlay
    return (
        snapshot.edited
        or any(belongs(line, True) for line in overlay.values())
        or any(line_id(line) in overlay for line in snapshot.base_dead())
    )


def _as_found(base: BaseFile, stamp: Stamp, counts: Mapping[bytes, int]) -> _File:
    crc = stamp.crc if stamp.fits(base.found) else checksum(base.fd)
    return _File(base.path, base.found.st_size, crc, None, base.found, counts)


def _write(base: BaseFile, stamp: Stamp, lines: Iterator[bytes]) -> _File:
    layout = Layout(lines)
    fresh = door.write_new(base.path, layout)
    if (layout.size, layout.crc) == (stamp.size, stamp.crc) and stamp.fits(base.found):
        door.remove(fresh)
        return _as_found(base, stamp, layout.counts)
    door.set_back(fresh)  # otherwise every process would compute its checksum, under the lock
    return _File(base.path, layout.size, layout.crc, fresh, os.stat(fresh), layout.counts)


def _still(base: BaseFile) -> bool:
    """Whether the file is still the one that was read."""
    try:
        found = os.lstat(base.path)
    except FileNotFoundError:
        return False
    return Stamp.of(base.found, 0).fits(found)


def _append_edit(journal: Journal, snapshot: Snapshot, counts: dict[str, int]) -> None:
    """Journal what the person changed; if that is unknown, every job that has no record yet."""
    if snapshot.hand_edit is not None:
        lines, flag = snapshot.hand_edit.lines(snapshot.files), PROMISED
    else:
        both = (snapshot.base_jobs(), snapshot.base_dead())
        lines = [line for base in both for line in base if line_id(line) not in snapshot.own]
        flag = EDIT
    journal.append(b"".join(line + b"\n" for line in lines), flag, counts)


def _announce(journal: Journal, jobs: _File, dead: _File) -> None:
    intent = b"%d %d %d %d\n" % (jobs.size, jobs.crc, dead.size, dead.crc)
    journal.append(intent, INTENT, journal.counts)
    try:
        door.sync(journal.fd)
    except OSError as exc:
        raise door.refused("syncing", journal.path, exc) from exc


def _stamp(file: _File) -> Stamp:
    """The stamp of what the fold wrote or read; a later edit by a person must not fit it."""
    stamp = Stamp.of(file.found, file.crc)
    if file.fresh:
        stamp.ctime = os.stat(file.path).st_ctime_ns  # the rename changed the ctime
    return stamp


def make_files(folder: str, paths: Iterable[str]) -> None:
    """Write the first files of a folder, the journal last; `paths`: the job files."""
    # First the marker, which a killed process may not have written: else the rest looks foreign.
    if marker.marked_format(folder) < marker.FORMAT:
        marker.mark_folder(folder)
    door.sync_folder(folder)
    stamps = []
    for path in paths:
        door.replace(path, marker.EMPTY)
        with BaseFile(path) as base:
            stamps.append(Stamp.of(base.found, checksum(base.fd)))
    settings = os.path.join(folder, SETTINGS)
    if not os.path.lexists(settings):
        door.replace(settings, b"{}\n")
    start_journal(folder, Header(1, 0.0, 0.0, False, no_counts(), (stamps[0], stamps[1])))


def start_journal(folder: str, header: Header) -> None:
    """Write a journal without records and rename it into place."""
    put_in_place(folder, header.format())


def put_in_place(folder: str, data: bytes) -> None:
    """Make `data` the folder's journal, replacing the old one.

    Its name is on the disk when this returns. Until then the file is marked: if this process is
    killed, the next writer syncs the name, or its records could be lost with it.
    """
    path = os.path.join(folder, JOURNAL)
    fresh = door.write_new(path, (data,))
    door.set_mode(fresh, 0o600 | NAMELESS)
    door.rename(fresh, path)
    confirm_name(folder)


def confirm_name(folder: str) -> None:
    """Wait until the journal's name is on the disk, then remove the mark."""
    door.sync_folder(folder)
    door.set_mode(os.path.join(folder, JOURNAL), 0o600)


def remove_leftovers(folder: str) -> None:
    """Remove temporary files of a fold that was killed; under the lock."""
    for name in strays.leftovers(folder):
        try:
            door.remove(os.path.join(folder, name))
        except DiskRefused:
            continue  # they do no harm on a full or read-only disk
