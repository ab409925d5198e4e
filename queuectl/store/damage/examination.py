"""Examines a data folder: everything that can be wrong with it, one line for each fault.

Reads without the lock, and works on a folder in any state. Only after it found something does it
look again under the lock, since a writer at work leaves harmless traces.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, nullcontext, suppress

from queuectl.config import Settings
from queuectl.errors import BadFile, StoreBusy, StoreError, list_few
from queuectl.model.job import Job
from queuectl.model.times import format_duration
from queuectl.places import (
    DEAD,
    ENV_SETS,
    JOBS,
    JOURNAL,
    LOCK,
    MARKER,
    SETTINGS,
    WORKER_LIST,
    WORKERS,
)
from queuectl.store import door
from queuectl.store.damage.check import left_by_hand, problems
from queuectl.store.damage.salvage import Remains, read_remains
from queuectl.store.facts import Finding, WorkerInfo
from queuectl.store.files import side_files, worker_files
from queuectl.store.files.job_files import decode_job
from queuectl.store.files.journal import MAGIC
from queuectl.store.files.lock import QueueLock
from queuectl.store.files.marker import check_folder, is_new
from queuectl.store.files.snapshot import Snapshot
from queuectl.store.files.strays import (
    DATA,
    is_ours,
    is_set_aside,
    leftovers,
    listed,
    odd_ones,
    stray_worker_files,
    wrong_modes,
)

REPAIR = "'queuectl doctor --repair' mends it"
KEEP = "'queuectl doctor --repair' keeps what can be read"
_SPARE = 1 << 20  # bytes of free space, beyond what a fold needs, below which it is time to act
_SKEW = 2.0  # seconds by which a file may be ahead of the clock, since some systems round up
_WATCHED = 1.0  # seconds for which a job must be without its worker before that is reported


def is_there(path: str) -> bool:
    """Whether there is a queue to examine, in any state.

    Raises StoreError for a folder that is not ours: see check_folder.
    """
    try:
        return check_folder(path)
    except BadFile:
        return True
    except StoreError:
        if lacks_marker(path):
            return True
        raise


def lacks_marker(path: str) -> bool:
    """Whether only the marker is missing: the journal shows that the folder is ours."""
    try:
        if os.stat(path).st_uid != os.geteuid() or os.path.lexists(os.path.join(path, MARKER)):
            return False
        with open(door.open_file(os.path.join(path, JOURNAL), os.O_RDONLY), "rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except (OSError, StoreError):
        return False


def examine(
    folder: str, now: Callable[[], float], lock: QueueLock, wait: Callable[[float], None]
) -> list[Finding]:
    """All findings, the gravest first. The folder must exist.

    `now`: the store's clock, called anew because a look may take long. `wait` lets that many
    seconds pass, or fewer.
    """
    found = look(folder, now)
    if os.path.lexists(lock.path) and not any(one.about == LOCK for one in found):
        try:
            with lock:
                if any(finding.problem for finding in found):
                    found = look(folder, now)
        except StoreBusy as exc:
            todo = "see what that process does; nobody can write until it lets go"
            found.append(Finding(LOCK, plain(exc, folder), todo))
        except StoreError as exc:
            found.append(Finding(LOCK, plain(exc, folder), "nobody can write as it is"))
        finally:
            lock.close()
    return found + _unattended(folder, now(), wait)


def look(folder: str, clock: Callable[[], float]) -> list[Finding]:
    """The findings of one look at the files; StoreError if the folder cannot be listed."""
    now = clock()
    try:
        os.listdir(folder)
    except OSError as exc:
        raise StoreError(f"data folder {folder}: {exc.strerror}") from exc
    found = list(_marker(folder))
    remains = None if _never_written(folder) else read_remains(folder, now)
    if remains is not None:
        found += _holdings(folder, remains, now)
        found += _settings(folder)
        found += _env_sets(folder, now)
    found += [*_workers(folder, _infos(folder)), *_modes(folder), *_names(folder)]
    found += _space(folder)
    found += _clock(folder, remains, clock)
    odd = [Finding(name, fault, REPAIR) for name, fault in odd_ones(folder)]
    named = {finding.about for finding in odd}
    found = [*odd, *(finding for finding in found if finding.about not in named)]
    return sorted(found, key=lambda finding: not finding.problem)


def plain(error: Exception, folder: str) -> str:
    """The text of an error without the folder and the advice."""
    text, _, _ = str(error).partition("; ")
    return text.replace(os.path.join(folder, ""), "")


def _marker(folder: str) -> Iterator[Finding]:
    try:
        if not check_folder(folder):
            raise BadFile("is missing")
    except StoreError as exc:
        text = "is missing" if lacks_marker(folder) else plain(exc, folder)
        yield Finding(MARKER, text.removeprefix(f"{MARKER} "), REPAIR)


def _never_written(folder: str) -> bool:
    try:
        return is_new(folder)
    except StoreError:
        return False


# -- jobs


def _holdings(folder: str, remains: Remains, now: float) -> Iterator[Finding]:
    """What is wrong with the files that hold jobs, or with their jobs."""
    faults = remains.faults()
    copied = {sheet.name for sheet in (remains.jobs, remains.dead) if sheet.copy}
    for name, fault in faults:
        yield Finding(name, fault, f"{REPAIR} from our copy of it" if name in copied else KEEP)
    if remains.journal.torn is not None:
        text = f"ends in the midst of a change, at byte {remains.journal.torn}"
        yield Finding(JOURNAL, text, f"the next change cuts that off; {REPAIR}")
    if not faults:
        yield from contradictions(folder, now)


def contradictions(folder: str, now: float) -> Iterator[Finding]:
    """What is wrong with the jobs in readable files."""
    try:
        snapshot = Snapshot.read(folder, now, nullcontext)
    except (StoreError, OSError, *door.NO_LINES) as exc:
        yield Finding(JOBS, plain(exc, folder), KEEP)
        return
    by_hand: list[Finding] = []
    try:
        found = problems(snapshot)
        by_hand = left_by_hand(snapshot.lines, JOBS)
    except door.NO_LINES as exc:
        found = [f"holds what is not a job: {exc}"]
    finally:
        snapshot.close()
    yield from (Finding(JOBS, text, REPAIR) for text in found)
    yield from by_hand


def running(folder: str, now: float) -> dict[str, tuple[str | None, int]]:
    """Worker and run of each job in progress; empty if the files cannot be read."""
    found = _found_in(folder, now, lambda snapshot: snapshot.find(("in_progress",)))
    return {job.id: (job.worker, job.run) for job in found or ()}


def _found_in(
    folder: str, now: float, find: Callable[[Snapshot], Iterable[Job]]
) -> list[Job] | None:
    """The jobs found in the files; None if these cannot be read."""
    unread = suppress(StoreError, OSError, *door.NO_LINES)
    with unread, closing(Snapshot.read(folder, now, nullcontext)) as snapshot:
        return list(find(snapshot))
    return None


def _unattended(folder: str, now: float, wait: Callable[[float], None]) -> list[Finding]:
    """Jobs in progress that no living worker showed as its run while this watched."""
    suspects, deadline = running(folder, now), time.monotonic() + _WATCHED
    while True:
        infos = _infos(folder)
        if infos is None:  # that is reported; it is then unknown which job has no worker
            return []
        workers = {info.id: info for info in infos}
        still_running = running(folder, now) if suspects else {}
        for job_id, (worker, run) in list(suspects.items()):
            info = workers.get(str(worker))
            # A worker that died is reported through its own file.
            attended = info and (not info.alive or (info.job_id, info.run) == (job_id, run))
            if attended or still_running.get(job_id) != (worker, run):
                del suspects[job_id]
        if not suspects or time.monotonic() >= deadline:
            break
        wait(_WATCHED / 10)
    found = []
    for job_id, (worker, _) in suspects.items():
        fate, todo = "is gone", REPAIR
        if str(worker) in workers:
            fate = "runs something else"
            todo = "'queuectl worker stop', then 'queuectl doctor --repair'"
        text = f"is in progress, but its worker {worker} {fate}"
        found.append(Finding(f"job '{job_id}'", text, todo))
    return found


# -- settings and workers


def _settings(folder: str) -> Iterator[Finding]:
    try:
        unknown = Settings(side_files.read_settings(folder)).extra
    except StoreError as exc:
        yield Finding(SETTINGS, _of_side_file(exc, folder), KEEP)
        return
    if unknown:
        text = f"holds settings that mean nothing here: {list_few(unknown)}"
        todo = "they are kept; 'queuectl help settings' lists those that are known"
        yield Finding(SETTINGS, text, todo, False)


def _env_sets(folder: str, now: float) -> Iterator[Finding]:
    try:
        sets = side_files.EnvSets(folder).read()
    except StoreError as exc:
        yield Finding(ENV_SETS, _of_side_file(exc, folder), KEEP)
        return

    def needy(snapshot: Snapshot) -> Iterator[Job]:
        lines = (line for line in snapshot.lines() if b'"env_set": "' in line)
        return (job for job in map(decode_job, lines) if job.env_set and job.env_set not in sets)

    if found := _found_in(folder, now, needy):
        text = f"lacks the captured variables of {list_few(job.id for job in found)}"
        todo = "they cannot start: restore the file from a backup, or enqueue them again"
        yield Finding(ENV_SETS, text, todo)


def _of_side_file(error: StoreError, folder: str) -> str:
    text = plain(error, folder).removeprefix("reading ").partition(".json")[2].lstrip(": ")
    return "is missing" if isinstance(error.__cause__, FileNotFoundError) else text


def _infos(folder: str) -> list[WorkerInfo] | None:
    """Every worker with a file; None if a file cannot be read."""
    try:
        return list(worker_files.worker_infos(folder))
    except (OSError, StoreError):
        return None


def _workers(folder: str, infos: list[WorkerInfo] | None) -> Iterator[Finding]:
    if infos is None:
        yield Finding(WORKERS, "cannot be read", REPAIR)
        return
    for info in infos:
        if not info.alive:
            doing = f" while it ran job '{info.job_id}'" if info.job_id else ""
            text = f"the worker with pid {info.pid} died{doing}"
            mended = "takes its job back" if info.job_id else "removes its file"
            todo = f"the next command that writes {mended}; {REPAIR}"
            yield Finding(f"workers/{info.id}", text, todo)
    for name in stray_worker_files(folder):
        yield Finding(f"workers/{name}", "was left behind by a worker that was killed", REPAIR)
    if not _never_written(folder):
        yield from _worker_list(folder, infos)


def _worker_list(folder: str, infos: list[WorkerInfo]) -> Iterator[Finding]:
    try:
        listed = {str(entry.get("id")) for entry in side_files.read_workers(folder)}
    except StoreError as exc:
        yield Finding(WORKER_LIST, _of_side_file(exc, folder), REPAIR)
        return
    unlisted = [info.id for info in infos if info.alive and info.id not in listed]
    if unlisted:
        yield Finding(WORKER_LIST, f"does not name {list_few(unlisted)}", REPAIR)
    gone = sorted(listed - {info.id for info in infos})
    if gone:
        yield Finding(WORKER_LIST, f"names {list_few(gone)}, gone by now", REPAIR)


# -- the folder itself


def _modes(folder: str) -> Iterator[Finding]:
    wrong = [os.path.relpath(path, folder) for path, _ in wrong_modes(folder)]
    if wrong:
        names = list_few("the folder" if name == "." else name for name in wrong)
        yield Finding("modes", f"not private to you: {names}", REPAIR)
    user = os.geteuid()
    others = [
        name
        for name in listed(folder)
        if not is_ours(name)
        and not is_set_aside(name)
        and (found := _stat(os.path.join(folder, name))) is not None
        and found.st_uid != user
    ]
    if others:
        yield Finding("owner", f"belong to another user: {list_few(others)}", "chown them")


def _stat(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except OSError:
        return None


def _names(folder: str) -> Iterator[Finding]:
    names = listed(folder)
    temporary = leftovers(folder)
    for name in temporary:
        yield Finding(name, "was left behind by a writer that was killed", REPAIR)
    aside = [name for name in names if is_set_aside(name)]
    if aside:
        todo = "look at them, and delete them when nothing in them is missed"
        yield Finding("set aside", list_few(aside), todo, False)
    ours = set(filter(is_ours, names))
    foreign = set(names) - ours - set(temporary) - set(aside)
    if foreign:
        text = f"not of queuectl: {list_few(sorted(foreign))}"
        yield Finding("other files", text, "they are left alone", False)


def _space(folder: str) -> Iterator[Finding]:
    try:
        disk = os.statvfs(folder)
    except OSError:
        return
    free = disk.f_bavail * disk.f_frsize
    # A fold also keeps a copy of each job file that it writes.
    names = (*DATA, JOBS, DEAD)
    stats = [_stat(os.path.join(folder, name)) for name in names]
    needed = sum(found.st_size for found in stats if found is not None) + _SPARE
    if free < needed:
        text = f"{free >> 10} KiB are free, writing the files anew takes {needed >> 10} KiB"
        yield Finding("free space", text, "make room")
    if disk.f_files and not disk.f_favail:
        yield Finding("free space", "the file system has no room for another file", "make room")


def _clock(folder: str, remains: Remains | None, clock: Callable[[], float]) -> Iterator[Finding]:
    stats = ((name, _stat(os.path.join(folder, name))) for name in DATA)
    times = {name: found.st_mtime for name, found in stats if found is not None}
    header = remains.journal.header if remains else None
    times["the last fold"] = header.folded_at if header else 0.0
    name, latest = max(times.items(), key=lambda item: item[1])
    now = clock()  # other processes write during this check
    if latest > now + _SKEW:
        text = f"{name} is {format_duration(latest - now)} ahead of the clock"
        todo = "set the clock right: jobs wait for their time by it"
        yield Finding("clock", text, todo)
