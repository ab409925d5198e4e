"""Mends a damaged folder: sets bad files aside under a new name, and keeps what is readable.

Everything runs under the queue's lock, and a kill between any two steps loses nothing. First all
readable jobs are written into a fresh journal, which is renamed over the old one and from then on
alone holds the queue. Only then are unreadable job files emptied, and an ordinary fold fills them.
Until that is done a reader finds the damage or a sound queue, and a second repair starts from what
is there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

from queuectl.errors import DiskRefused, StoreError, list_few
from queuectl.model.job import CLAIMABLE
from queuectl.model.lifecycle import claimed
from queuectl.model.times import compact, format_time
from queuectl.places import ENV_SETS, JOURNAL, LOCK, MARKER, SETTINGS, WORKER_LIST, WORKERS
from queuectl.store import door
from queuectl.store.damage import examination
from queuectl.store.damage.journal_remains import read_what_goes
from queuectl.store.damage.salvage import (
    FileRemains,
    Kept,
    Remains,
    Unread,
    jobs_in,
    merge,
    objects_in,
    read_remains,
)
from queuectl.store.files import checkpoint, marker, side_files, strays, worker_files
from queuectl.store.files.job_files import encode_job, removal_line
from queuectl.store.files.journal import PROMISED, VERSION, Header, Stamp, format_record, no_counts
from queuectl.store.files.lock import QueueLock

_NO_STAMP = Stamp(-1, 0, 0, 0, 0)  # the stamp of no file


def repair(
    path: str,
    now: float,
    lock: QueueLock,
    fold: Callable[[], None],
    done: list[str],
    unread: list[str],
) -> None:
    """Mend what can be mended in the folder, which must exist; see examination.is_there.

    `fold` brings the job files up to the journal and takes the lock itself. Adds a line to `done`
    for each thing mended, and to `unread` for each thing lost. Raises StoreError if the disk
    refuses a step; what was mended before stays mended.
    """
    mending = _Mending(path, now, done, unread)
    if os.stat(path).st_mode & 0o700 != 0o700:
        door.set_mode(path, 0o700)
        done.append("modes: the folder can be used again")
    try:
        # Nobody can hold a lock on what stands in its place.
        if any(name == LOCK for name, _ in strays.odd_ones(path)):
            lock.with_folder(lambda: mending.mend_odd_ones(LOCK))
        with lock:
            mending.all()
    finally:
        lock.close()
    fold()


def open_to_owner(path: str, done: list[str]) -> None:
    """Give the owner access to marker and lock, without which nothing else can be examined."""
    first = [os.path.join(path, name) for name in (MARKER, LOCK)]
    for file, wanted in strays.wrong_modes(path) if os.path.lexists(first[0]) else ():
        if file in first:
            door.set_mode(file, wanted)
            done.append(f"modes: {os.path.basename(file)} can be used again")


class _Mending:
    """One repair of one folder, under its lock."""

    def __init__(self, path: str, now: float, done: list[str], unread: list[str]) -> None:
        self.folder, self.now = path, now
        self.done, self.unread = done, unread

    @property
    def version(self) -> int:
        """The format to write: 1 while a worker lives that knows only that."""
        return 1 if worker_files.older(self.folder, VERSION) else VERSION

    def all(self) -> None:
        """All steps in order: earlier ones mend what later ones read."""
        self.mend_odd_ones()
        self._mend_modes()
        self._mend_marker()
        self._mend_holdings()
        self._clear_leftovers()
        if not marker.is_new(self.folder):
            self._mend_settings()
            self._mend_env_sets()
            self._mend_workers()

    def mend_odd_ones(self, only: str | None = None) -> None:
        """Set aside what is not a file of ours; replace a file with several names by a copy."""
        for name, fault in strays.odd_ones(self.folder):
            if only in (None, name):
                if strays.is_linked(self._path(name)):
                    self._part(name, fault)
                else:
                    self._move_aside(name, fault)

    def _move_aside(self, name: str, fault: str) -> None:
        # Not within workers/, where every file is a worker's.
        wanted = name.replace("/", "-") if name.startswith(f"{WORKERS}/") else name
        kept = self._free_name(f"{wanted}.bad-{self._stamp()}")
        door.rename(self._path(name), self._path(kept))
        self.done.append(f"{name}: {fault}; it is kept as {kept}")
        if name == MARKER:
            marker.mark_folder(self.folder)
            self.done.append(f"{MARKER}: written anew")

    def _part(self, name: str, fault: str) -> None:
        """Give the folder its own file in place of one that has other names."""
        path = self._path(name)
        if name.startswith(f"{WORKERS}/"):
            door.remove(path)  # if the worker is this folder's, it leaves by itself
            self.done.append(f"{name}: {fault}; removed")
            return
        data = read_what_goes(path)
        is_second = self._aside_already(name) is not None
        door.replace(path, data)
        if is_second:
            return  # an earlier repair was killed after setting it aside
        self.done.append(f"{name}: {fault}; now it is this folder's alone")

    def _stamp(self) -> str:
        return compact(self.now)

    def _path(self, name: str) -> str:
        return os.path.join(self.folder, name)

    def _mend_modes(self) -> None:
        wrong = strays.wrong_modes(self.folder)
        for path, wanted in wrong:
            door.set_mode(path, wanted)
        if wrong:
            names = list_few(os.path.relpath(path, self.folder) for path, _ in wrong)
            self.done.append(f"modes: private to you again: {names}")

    def _mend_marker(self) -> None:
        try:
            if marker.check_folder(self.folder):
                return
        except StoreError:
            # If it is not ours or has a newer format this raises again. A damaged one is replaced.
            examination.is_there(self.folder)
        aside = self._set_aside(MARKER)
        marker.mark_folder(self.folder, self.version)
        self.done.append(f"{MARKER}: written anew{aside}")

    def _clear_leftovers(self) -> None:
        for name in strays.leftovers(self.folder):
            door.remove(self._path(name))
            self.done.append(f"{name}: temporary file of a killed writer removed")
        for name in strays.stray_worker_files(self.folder):
            door.remove(os.path.join(self.folder, WORKERS, name))
            self.done.append(f"workers/{name}: left behind by a killed worker, removed")

    def _set_aside(self, name: str) -> str:
        """Give the file a second name that stays; returns words that say so."""
        path = self._path(name)
        if not os.path.lexists(path):
            return ""
        kept = self._aside_already(name) or self._free_name(f"{name}.bad-{self._stamp()}")
        if not os.path.lexists(self._path(kept)):
            self._keep_as(path, self._path(kept))
            door.sync_folder(self.folder)
        return f"; what was there is kept as {kept}"

    def _keep_as(self, path: str, kept: str) -> None:
        try:
            door.link(path, kept)
            return
        except DiskRefused:
            data = self._readable(os.path.basename(path))  # this file system has no links
        if data:
            door.replace(kept, data)
        else:
            door.rename(path, kept)  # after a kill here the next repair mends the missing file

    def _aside_already(self, name: str) -> str | None:
        """The second name that an earlier, killed repair gave the file, if any."""
        for other in strays.listed(self.folder):
            if other.startswith(f"{name}.bad-") and self._is_same(name, other):
                return other
        return None

    def _is_same(self, name: str, other: str) -> bool:
        """Whether both name one file that is not empty, or have the same bytes."""
        found = [os.lstat(self._path(each)) for each in (name, other)]
        if found[0].st_size != found[1].st_size or not found[0].st_size:
            return False
        if os.path.samestat(*found):
            return True
        data = self._readable(name)
        return bool(data) and data == self._readable(other)

    def _free_name(self, wanted: str) -> str:
        name, number = wanted, 1
        while os.path.lexists(self._path(name)):
            number += 1
            name = f"{wanted}-{number}"
        return name

    # -- jobs

    def _mend_holdings(self) -> None:
        with suppress(StoreError):
            if marker.is_new(self.folder):
                return
        remains = read_remains(self.folder, self.now)
        if not remains.faults():
            if remains.journal.torn is not None:
                # The fold that follows does it, as any change would.
                self.done.append(
                    f"{JOURNAL}: its torn end cut off, and kept under a name of its own"
                )
            wrong = [finding.text for finding in examination.contradictions(self.folder, self.now)]
            if not wrong:
                return
            self.done += [f"jobs: {text}: put right" for text in wrong]
        if not self._rebuild(remains):
            self._mend_holdings()  # a person saved a file meanwhile: start over

    def _rebuild(self, remains: Remains) -> bool:
        """Put everything readable into a fresh journal, then empty the bad files.

        Returns False if one of those changed since it was read; it is then left as it is.
        """
        sheets = (remains.jobs, remains.dead)
        found = [jobs_in(sheet, self.now) for sheet in sheets]
        kept = merge(
            remains.journal,
            [(sheet.name, jobs) for sheet, (jobs, _) in zip(sheets, found, strict=True)],
        )
        self._adopt_running(kept)
        bad = [
            sheet
            for sheet, (_, unread) in zip(sheets, found, strict=True)
            if sheet.fault or unread or sheet.name in kept.twins
        ]
        aside = {s.name: self._set_aside(s.name) for s in bad}
        if remains.journal.fault and remains.journal.there:
            aside[JOURNAL] = self._set_aside(JOURNAL)
        version = self.version
        if marker.marked_format(self.folder) < version:
            marker.mark_folder(self.folder, version)
        checkpoint.put_in_place(self.folder, _journal_of(remains, kept, self.now, version))
        for sheet in bad:
            if sheet.there and door.change_mark(sheet.path) not in (sheet.mark, None):
                if strays.is_linked(sheet.path):
                    door.replace(sheet.path, read_what_goes(sheet.path))  # with one name again
                return False
            door.replace(sheet.path, marker.EMPTY)
        self._tell(remains, kept, aside, [lines for _, lines in found])
        return True

    def _adopt_running(self, kept: Kept) -> None:
        """Set a job whose claim was lost to in_progress if a living worker runs it."""
        for info in worker_files.worker_infos(self.folder):
            job = kept.jobs.get(info.job_id or "")
            if info.alive and job and job.state in CLAIMABLE and job.run < info.run:
                job = claimed(job._replace(run=info.run - 1), info.id, format_time(self.now))
                kept.jobs[job.id] = job
                self.done.append(f"job '{job.id}': {info.id} runs it, so it is in progress")

    def _tell(
        self, remains: Remains, kept: Kept, aside: dict[str, str], unread: list[list[Unread]]
    ) -> None:
        copied = {sheet.name for sheet in (remains.jobs, remains.dead) if sheet.copy}
        for name, fault in remains.faults():
            how = "written anew from our copy" if name in copied else "written anew"
            self.done.append(f"{name}: {fault}: {how}{aside.pop(name, '')}")
        for name, where in aside.items():
            self.done.append(f"{name}: put right{where}")
        sheets = (remains.jobs, remains.dead)
        for sheet, lines in zip(sheets, unread, strict=True):
            self.unread += _told(sheet, lines, kept)
        if remains.journal.lost:
            self.unread.append(f"{JOURNAL}: {remains.journal.lost}")
        counts = remains.journal.counts
        missing = sum(counts.values()) - len(kept.jobs) if counts else 0
        # What a person removed from a file by hand does not count as missing.
        if missing > 0 and all(sheet.ours or sheet.fault for sheet in sheets):
            self.unread.append(f"jobs: {missing} more than could be read were in the queue")

    # -- the small files

    def _mend_settings(self) -> None:
        try:
            side_files.read_settings(self.folder)
        except StoreError:
            kept = side_files.settings_in(self._readable(SETTINGS))
            self._rewrite(SETTINGS, list(kept))
            side_files.write_settings(self.folder, kept)

    def _mend_env_sets(self) -> None:
        try:
            side_files.EnvSets(self.folder).read()
        except StoreError:
            kept = side_files.sets_in(self._readable(ENV_SETS))
            self._rewrite(ENV_SETS, list(kept))
            door.replace(self._path(ENV_SETS), side_files.layout_sets(kept))

    def _mend_workers(self) -> None:
        """Keep the entries of workers that live or still have a job; drop the others."""
        data, whole = self._readable(WORKER_LIST), True
        try:
            entries = side_files.read_workers(self.folder)
        except StoreError:
            values = [form for *_, form in objects_in(data.decode("utf-8", "surrogateescape"))]
            entries, whole = side_files.workers_in(values), False
        infos = {info.id: info for info in worker_files.worker_infos(self.folder)}
        held = examination.running(self.folder, self.now).values()
        needed = {*infos, *(str(worker) for worker, _ in held)}
        kept = [entry for entry in entries if str(entry.get("id")) in needed]
        listed = {str(entry.get("id")) for entry in kept}
        names = ("id", "pid", "start_time", "boot_id", "started_at")
        kept += [
            {name: getattr(info, name) for name in names}
            for info in infos.values()
            if info.alive and info.id not in listed
        ]
        if not whole:
            self._rewrite(WORKER_LIST, [str(entry["id"]) for entry in kept])
        elif kept != entries:
            self.done.append(f"{WORKER_LIST}: brought up to date")
        if not whole or kept != entries:
            side_files.write_workers(self.folder, kept)

    def _readable(self, name: str) -> bytes:
        """The bytes of a file; empty if it is unreadable or too large to be ours."""
        try:
            is_large = os.lstat(self._path(name)).st_size > door.LARGEST
            return b"" if is_large else read_what_goes(self._path(name))
        except (StoreError, OSError):
            return b""

    def _rewrite(self, name: str, kept: list[str]) -> None:
        aside = self._set_aside(name)
        holding = f" with {list_few(kept)}" if kept else ""
        self.done.append(f"{name}: written anew{holding}{aside}")


def _told(sheet: FileRemains, lines: Iterable[Unread], kept: Kept) -> Iterator[str]:
    """The unreadable lines of a job file, without those whose job was found elsewhere."""
    if not (sheet.there or sheet.copy):
        yield f"{sheet.name}: whatever it held that the journal does not"
    lost = [line for line in lines if line.job_id is None or line.job_id not in kept.jobs]
    named = [f"{line.line} ({line.job_id})" if line.job_id else str(line.line) for line in lost]
    if lost:
        yield f"{sheet.name}: line {list_few(named)}"


def _journal_of(remains: Remains, kept: Kept, now: float, version: int) -> bytes:
    """A journal with every job that fits no job file, so that readers use only its jobs."""
    old = remains.journal.header
    counts = no_counts()
    for job in kept.jobs.values():
        counts[job.state] += 1
    header = Header(
        # A process that slept meanwhile must not take the new journal for the successor of its own.
        (old.generation if old else int(now)) + 1,
        old.fold_seconds if old else 0.0,
        0.0,
        True,
        no_counts(),
        (_NO_STAMP, _NO_STAMP),
        version=version,
    )
    lines = [removal_line(job_id, state) for job_id, state in kept.removed.items()]
    lines += [encode_job(job) for job in kept.jobs.values()]
    if not lines:
        return header.format()
    payload = b"".join(line + b"\n" for line in lines)
    return header.format() + format_record(payload, 1, PROMISED, counts, version)
