"""What `status` shows: counts, workers and waiting changes, without parsing a job file.

Lean: unless a job file was edited, it imports only what a bare interpreter has loaded.
"""

from __future__ import annotations

import os
import time

from queuectl.errors import BadFile, StoreError
from queuectl.places import DEAD, JOBS, SETTINGS, WORKERS
from queuectl.store import door
from queuectl.store.facts import STATE_ORDER, Summary
from queuectl.store.files import marker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from queuectl.config import Settings
    from queuectl.store.facts import WorkerInfo
    from queuectl.store.files.journal import Journal

_MOST_READ = 1 << 18  # bytes of a job file; `status` must take no longer with a million jobs
_HOOK = b'{"id": "hook:'
_OF = b'"QUEUECTL_OF": "'


def read_summary(path: str, now: float) -> Summary:
    """The folder's summary at `now` (epoch seconds); a missing queue is empty."""
    counts, waiting = read_counts(path, now)
    workers = _workers(path)
    is_early = False
    if (counts["pending"] or counts["failed"]) and not (waiting or counts["in_progress"]):
        is_early = not any(worker.alive for worker in workers) and _is_early(path, now)
    untold = _untold(path) if counts["dead"] else ()
    return Summary(path, counts, waiting, workers, _settings(path), untold, is_early)


def _workers(path: str) -> list[WorkerInfo]:
    """The workers; the code that reads their files is loaded only if there are any."""
    above = os.path.join(path, WORKERS)
    door.check_folder_of_ours(above)
    try:
        if not os.listdir(above):
            return []
    except FileNotFoundError:
        return []
    except OSError:
        pass  # reported below
    from queuectl.store.files.worker_files import worker_infos

    return list(worker_infos(path))


def _untold(path: str) -> tuple[str, ...]:
    """The jobs whose end a dead hook failed to report, read from the end of dlq.json."""
    try:
        with open(door.open_file(os.path.join(path, DEAD), os.O_RDONLY), "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _MOST_READ))
            lines = file.read().split(b"\n")
    except (OSError, StoreError):
        return ()  # others report it
    found = [line.partition(_OF)[2].partition(b'"')[0] for line in lines if line[:13] == _HOOK]
    return tuple([name.decode("ascii", "replace") for name in found if name])


def _is_early(path: str, now: float) -> bool:
    """Whether all waiting jobs in jobs.json are due later; False if the file is too large."""
    seconds, part = divmod(now, 1)
    due = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(part * 1e6):06d}Z"
    try:
        with open(door.open_file(os.path.join(path, JOBS), os.O_RDONLY), "rb") as file:
            if os.fstat(file.fileno()).st_size > _MOST_READ:
                return False
            for line in file:
                waits = (
                    b'", "state": "pending"' in line[:200] or b'", "state": "failed"' in line[:200]
                )
                at = line.partition(b'"run_at": "')[2][:27]
                if waits and at <= due.encode():
                    return False
    except (OSError, StoreError):
        return False
    return True


def _settings(path: str) -> Settings | None:
    """The settings that may keep jobs waiting; None if unreadable, which others report."""
    try:
        data = door.read(os.path.join(path, SETTINGS))
        if not any(name in data for name in (b'"paused"', b'"limits"', b'"aging"')):
            return None
        from queuectl.config import Settings
        from queuectl.store.files.side_files import read_settings

        return Settings(read_settings(path))
    except StoreError:
        return None


def read_counts(path: str, now: float) -> tuple[dict[str, int], int]:
    """The counts by state and the number of waiting changes, as in `read_summary`."""
    counts, waiting = dict.fromkeys(STATE_ORDER, 0), 0
    if marker.check_folder(path) and not marker.is_new(path):
        with door.Reading(path):
            counts, waiting = _counts(path, now)
    return {state: counts[state] for state in STATE_ORDER}, waiting


def _counts(path: str, now: float) -> tuple[dict[str, int], int]:
    from queuectl.store.files.journal import Journal, last_counts

    journal = Journal.for_reading(path)
    try:
        counts, waiting = last_counts(journal)
        # Counts below 0 were written without the lock that keeps others out; a fold mends them.
        if min(counts.values()) >= 0 and _is_plain(path, journal, now):
            return counts, waiting
    finally:
        journal.close()
    return _count_all(path, now)


def _is_plain(path: str, journal: Journal, now: float) -> bool:
    """Whether both job files fit the journal's header, and no fold came between."""
    for name, stamp in zip((JOBS, DEAD), journal.header.stamps, strict=True):
        try:
            found = os.lstat(os.path.join(path, name))
        except FileNotFoundError:
            raise BadFile(f"{path}/{name} is missing; queuectl doctor --repair mends it") from None
        if stamp.fits(found) and not door.is_young(found.st_mtime_ns, now):
            continue
        same_size = found.st_size == stamp.size
        if not same_size or not _has_sum(os.path.join(path, name), stamp.crc):
            return False
    return journal.is_current()


def _has_sum(path: str, wanted: int) -> bool:
    from zlib import crc32

    crc = 0
    with open(door.open_file(path, os.O_RDONLY), "rb") as file:
        while chunk := file.read(1 << 20):
            crc = crc32(chunk, crc)
    return crc == wanted


def _count_all(path: str, now: float) -> tuple[dict[str, int], int]:
    """The counts from the files themselves, after an edit by hand or during a fold."""
    from contextlib import nullcontext

    from queuectl.store.files.job_files import line_state
    from queuectl.store.files.snapshot import Snapshot

    counts = dict.fromkeys(STATE_ORDER, 0)
    snapshot = Snapshot.read(path, now, nullcontext)
    try:
        for line in snapshot.lines():
            counts[(line_state(line) or b"").decode()] += 1
        return counts, snapshot.journal.seq
    finally:
        snapshot.close()
