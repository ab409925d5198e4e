"""The store in a data folder: the contract on top of the job files, the journal and the lock."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from queuectl.config import Settings
from queuectl.errors import BadFile, DuplicateId, NoSuchSet, StoreError
from queuectl.model.job import CLAIMABLE, NOT_PLACED, PLACED_SLOTS, Job, recurs
from queuectl.model.times import format_time, parse_time
from queuectl.places import ENV_SETS
from queuectl.store import door
from queuectl.store.facts import WorkerInfo, check_count, is_selection
from queuectl.store.files import marker, side_files, worker_files
from queuectl.store.files.job_files import checked_line, decode_job, encode_job
from queuectl.store.files.journal import PLAIN, PROMISED, Journal
from queuectl.store.files.snapshot import Snapshot
from queuectl.store.files.staged import Staged, met, new_lines, refuse_newer, with_set
from queuectl.store.files.worker_files import WorkerSlot
from queuectl.store.files.writer import LARGE, TAKEN_IN, Move, Writer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from queuectl.model.lifecycle import Claim
    from queuectl.store.contract import Archive, Care, Kept, Meet, OnChange, Rule, Which
    from queuectl.store.files.live_index import LiveIndex
    from queuectl.store.files.logs import LogFolder
    from queuectl.store.files.watch import FileWatch


class FileStore:
    """The store in the files of one data folder; methods without a docstring: see Store.

    Changes go through Writer.
    """

    spans_hosts = False

    def __init__(self, path: str) -> None:
        self.folder = path
        self._settings = side_files.SettingsFile(path)
        self._writer = Writer(path, self.now, self._settings.patience, self._settings.gate)
        self._held: tuple[bytes, Job] | None = None  # line and job of the last claim
        self._env_sets = self._writer.env_sets
        # What is theirs alone; see Store.
        self.sync, self.fold = self._writer.confirm, self._writer.fold
        self.fold_due_in, self.notices = self._writer.fold_due_in, self._writer.notices
        self.settings, self.set_id = self._settings.read, self._env_sets.id_of
        self.wake = partial(worker_files.wake, path)
        self.wake_idle = partial(worker_files.wake_idle, path)
        self.note_lost = partial(worker_files.note_lost, path)
        self.on_change: OnChange = lambda pairs, settings: ()
        self.freed = 0

    @property
    def care(self) -> Care:
        from queuectl.store.damage.care import FileCare

        return FileCare(self)

    @property
    def archive(self) -> Archive:
        from queuectl.store.files.restore import FileArchive

        return FileArchive(self._writer, self._snapshot, self.settings, self.now)

    @property
    def output(self) -> LogFolder:
        from queuectl.store.files.logs import LogFolder

        return LogFolder(self.folder)

    def watch(self) -> FileWatch:
        from queuectl.store.files.watch import FileWatch

        return FileWatch(self.folder, self.find)

    def exists(self) -> bool:
        return marker.check_folder(self.folder)

    def make(self) -> None:
        if not self.exists():
            marker.mark_folder(self.folder)

    def identity(self) -> str:
        """See Store: device and inode of the folder."""
        return worker_files.folder_identity(self.folder)

    origin = identity

    # -- jobs

    def add(
        self,
        jobs: Iterable[Job],
        named: Mapping[str, int] | None = None,
        env_set: Mapping[str, Any] | None = None,
        meet: Meet | None = None,
    ) -> None:
        """See Store; while format 1 is written, the set's variables go into each job's env."""
        order: dict[str, int] | None = {} if named is None else None
        ids = order if named is None else named
        keys, path = set[str](), self._writer.staging_path
        staged = Staged(path, new_lines(jobs, order, keys))
        try:
            if not staged.counts:
                return
            with self._writer.writing() as journal:
                found = self._writer.look_up(journal, ids or ())
                for job_id, (_, where) in found.items() if meet is None else ():
                    raise DuplicateId(job_id, os.path.join(self.folder, where), (ids or {})[job_id])
                if journal.header.version == 1:
                    refuse_newer(self.folder, map(decode_job, staged))
                if env_set is not None:
                    staged = with_set(staged, path, self._env_sets, journal.header.version, env_set)
                if keys or (meet is not None and found):
                    from queuectl.store.files.lookup import find_holders  # few jobs meet others

                    there = {job_id: decode_job(line) for job_id, (line, _) in found.items()}
                    holders = find_holders(self._writer.files, journal, keys)
                    staged = met(staged, path, there, holders, meet)
                if staged.names_parents:
                    from queuectl.store.files.kin import check_added

                    check_added(self._writer, journal, staged, ids or (), meet is not None)
                if staged.size:
                    self._writer.append_staged(journal, staged)
        finally:
            staged.close()
        self._writer.confirm()

    def change(
        self,
        which: Which,
        rule: Rule,
        promised: bool = True,
        exactly: int | None = None,
        alone: bool = False,
    ) -> dict[str, Job]:
        with self._meant(which) as (journal, jobs):
            pairs = [(old, new) for old in jobs if (new := rule(old)) is not None]
            check_count(len(pairs), exactly)
            if journal is None or not pairs:
                return {}
            from queuectl.store.files.stepping import step  # not of an enqueue

            with suppress(StoreError):  # a run that ended must be settled all the same
                self._settings.read()
            given = self._settings.last
            rest = (lambda ends: self.on_change(ends, given), format_time(self.now()))
            flag = PROMISED if promised else PLAIN
            changed, self.freed = step(self._writer, journal, pairs, *rest, flag, alone=alone)
        if promised:
            self._writer.confirm()
        return changed

    def check_size(self, job: Job) -> None:
        checked_line(job)

    def remove(
        self,
        which: Which,
        goes: Callable[[Job], bool] | None = None,
        exactly: int | None = None,
        kept: Kept = None,
    ) -> list[Job]:
        with self._meant(which) as (journal, jobs):
            gone = [job for job in jobs if goes is None or goes(job)]
            check_count(len(gone), exactly)
            if journal is not None and gone:
                from queuectl.store.files.stepping import remove

                gone = remove(self._writer, journal, gone, kept)
        if gone:
            self._writer.confirm()
        return gone

    def _meant(self, which: Which) -> AbstractContextManager[tuple[Journal | None, Iterable[Job]]]:
        """Takes the lock; gives the journal, read to its end, and the jobs meant, as they are now.

        Without a journal there are none.
        """
        if is_selection(which):
            from queuectl.store.files.selecting import selected_jobs

            return selected_jobs(self._writer, self._snapshot, which)
        from queuectl.store.files.lookup import named_jobs

        return named_jobs(self._writer.writing(), self._writer.look_up, which)

    def claim(
        self,
        worker: str,
        now: str,
        finished: tuple[Job, Job] | None = None,
        log_word: str | None = None,
    ) -> Claim:
        from queuectl.model.lifecycle import Claim, claimed  # an enqueue needs nothing of it

        lines: list[bytes] = []
        moves: list[Move] = []
        if finished is not None:  # encoded before the lock is taken, so that nobody waits for it
            lines.append(encode_job(finished[1]))
            moves.append((finished[0].state, finished[1].state))
        with self._writer.writing(busy=True) as journal:
            live = self._writer.live(journal)
            live.freed = 0
            if finished is not None:
                stored = self._stored(live, finished[0])
                if stored != finished[0]:
                    return Claim(None, settled=False, stored=stored)
                ends = [finished]
                if finished[1].state in CLAIMABLE or live.in_use:
                    live.put(lines[0])  # it, or a job that waits for it, may be the next to run
                    if live.waits is not None:
                        from queuectl.store.files.kin import fall  # most queues have none

                        ends += fall(self._writer, journal, live, finished, now, lines, moves)
                for hook in self.on_change(ends, self._settings.last):  # read because of the gate
                    lines.append(encode_job(hook))
                    moves.append((None, hook.state))
                    live.put(lines[-1])
            job = None
            while (
                job is None and (line := self._writer.first_ready(journal, now, lines)) is not None
            ):
                before: Job | None = decode_job(line)
                assert before is not None
                state: str | None = before.state
                slots: tuple[str, ...] = ()
                if before[PLACED_SLOTS] != NOT_PLACED:  # most jobs have no rules
                    slots = (self._writer.known_live or live).slots(line)
                    if recurs(before):
                        from queuectl.store.files.firing import fire  # most queues have none

                        how = (lambda ends: self.on_change(ends, self._settings.last), lines, moves)
                        before, state = fire(self._writer, journal, before, now, *how), None
                        if before is None:
                            continue
                named = log_word if journal.header.version > 1 else None
                job = claimed(before, worker, now, named, slots)
                lines.append(encode_job(job))
                moves.append((state, job.state))
                self._held = (lines[-1], job)
            if lines:
                self._writer.append(journal, lines, moves, PLAIN)
            if live.freed and job is not None:  # this worker runs one of them itself
                self.freed = live.freed - bool(job.after or job.after_end)
        return Claim(job)

    def prepare_claims(self) -> None:
        self._writer.prepare_live()

    def _stored(self, live: LiveIndex, job: Job) -> Job | None:
        """The present form of a live job, parsed only if it changed since its claim."""
        line = live.lines.get(job.id.encode())
        if line is None:
            return None
        if self._held is not None and self._held[0] is line:
            return self._held[1]
        return decode_job(line)

    # -- reading, without the lock

    def env_set(self, job: Job) -> Mapping[str, Any] | None:
        if job.env_set is None:
            return None
        found = self._env_sets.read().get(job.env_set)
        if found is None:
            raise NoSuchSet(job.id, job.env_set, ENV_SETS)
        return found

    def get(self, job_id: str) -> Job | None:
        with self._snapshot() as snapshot:
            found = snapshot.get(job_id) if snapshot else None
        return found[0] if found else None

    def find(self, states: Collection[str] | None = None) -> Iterator[Job]:
        with self._snapshot() as snapshot:
            yield from snapshot.find(states) if snapshot else ()

    def children(self, job_id: str | None) -> Iterator[Job]:
        with self._snapshot() as snapshot:
            yield from snapshot.children(job_id) if snapshot else ()

    def ahead(self, job: Job, now: str, aging: float) -> list[tuple[Job, int]]:
        from queuectl.store.files.ahead import ahead

        with self._snapshot() as snapshot:
            return ahead(snapshot, job, now, aging) if snapshot else []

    def counts(self) -> dict[str, int]:
        from queuectl.store.files.summary import read_counts

        return read_counts(self.folder, self.now())[0]

    @contextmanager
    def _snapshot(self) -> Iterator[Snapshot | None]:
        """The queue as it is now, or None if there is none yet."""
        if not marker.check_folder(self.folder) or marker.is_new(self.folder):
            yield None
            return
        with door.Reading(self.folder):
            snapshot = Snapshot.read(self.folder, self.now(), lambda: self._writer.lock)
            try:
                if snapshot.hand_edit is not None:
                    snapshot.hand_edit.tell_undecided(snapshot.files, self.notices)
                yield snapshot
            finally:
                snapshot.close()

    # -- settings

    def change_settings(self, old: Mapping[str, object], new: Mapping[str, object]) -> bool:
        """See Store; while format 1 is written, workers live that do not know pauses."""
        with self._writer.writing() as journal:
            if self.settings() != old:  # this raises too: a bad file is never overwritten
                return False
            if journal.header.version == 1 and Settings(new).gate() is not None:
                raise worker_files.too_old(self.folder)
            side_files.write_settings(self.folder, new)
        return True

    # -- workers

    def register(self, worker_id: str, pid: int, start_time: str, boot_id: str) -> WorkerSlot:
        facts = {
            "id": worker_id,
            "pid": pid,
            "start_time": start_time,
            "boot_id": boot_id,
            "started_at": format_time(self.now()),
        }
        with self._writer.writing():
            registered = side_files.read_workers(self.folder)
            words = " ".join(str(fact) for fact in list(facts.values())[1:])
            # Listed first and removed last: the list leads to what a killed worker leaves.
            side_files.write_workers(self.folder, [*registered, facts])
            try:
                return worker_files.make_slot(self.folder, worker_id, words)
            except BaseException:
                with suppress(StoreError):
                    side_files.write_workers(self.folder, registered)
                raise

    def release(self, slot: WorkerSlot) -> None:
        with self._writer.writing():
            slot.release()
            self._strike(slot.id)

    def forget_worker(self, worker_id: str) -> bool:
        with self._writer.writing():
            if not worker_files.forget(self.folder, worker_id):
                return False
            self._strike(worker_id)
        return True

    def _strike(self, worker_id: str) -> None:
        entries = side_files.read_workers(self.folder)
        kept = [entry for entry in entries if entry.get("id") != worker_id]
        side_files.write_workers(self.folder, kept)

    def workers(self, *, here: bool = False) -> list[WorkerInfo]:
        return list(worker_files.worker_infos(self.folder))

    def orphans(self, busy: int = 0) -> list[WorkerInfo]:
        """See Workers: those without a file that are listed or have a job."""
        known = {str(entry.get("id")): entry for entry in self._listed()}
        named = set(known)
        if busy < self.counts()["in_progress"]:
            named |= {job.worker for job in self.find(("in_progress",)) if job.worker is not None}
        # Files are read last: a worker has its file before it has a job.
        with suppress(FileNotFoundError):
            named.difference_update(worker_files.worker_names(self.folder))
        return [
            worker_files.listed_info(worker_id, known.get(worker_id)) for worker_id in sorted(named)
        ]

    def _listed(self) -> list[dict[str, object]]:
        try:
            return side_files.read_workers(self.folder)
        except BadFile:
            with self._writer.writing():  # by then a process that is making the folder has made it
                return side_files.read_workers(self.folder)

    def stop_elsewhere(self, now: bool) -> list[str]:
        return []

    # -- the rest

    def on_wait(self, tell: Callable[[str], None] | None) -> None:
        self._writer.lock.on_wait = tell

    def await_answer(self) -> None:
        """See Store: files do not fall silent."""

    def leave_notices(self) -> None:
        lines = [line for line in self.notices if not line.endswith(TAKEN_IN)]
        self.notices.clear()
        if lines:
            marker.leave_word(self.folder, lines)

    def present(self, job: Job) -> Job | None:
        with self._writer.writing() as journal:
            return self._stored(self._writer.live(journal), job)

    def held_by(self, worker: str) -> list[Job]:
        name = b'"worker": "%s"' % worker.encode()
        live = self._writer.known_live
        lines = [line for line in live.running.values() if name in line] if live else []
        return [job for job in map(decode_job, lines) if job.worker == worker]

    def next_due(self) -> float | None:
        with self._writer.writing() as journal:
            due = self._writer.live(journal).next_due()
        return None if due is None else max(0.0, parse_time(due.decode()) - self.now())

    def tidy(self) -> None:
        if marker.check_folder(self.folder):
            self._writer.fold_if_quick()

    def fold_if_due(self, *, busy: bool = False) -> bool:
        return self._writer.fold_if_due(least=LARGE if busy else 1)

    def now(self) -> float:
        return time.time()

    def wait(self, seconds: float) -> None:
        from queuectl.store.files.watch import wait

        wait(self.folder, seconds)

    def check(self) -> list[str]:
        from queuectl.store.damage.check import problems

        with self._snapshot() as snapshot:
            return problems(snapshot) if snapshot else []

    def close(self) -> None:
        """See Store; a small queue is folded, so that its files show everything."""
        try:
            if self._writer.journal is not None:
                if not os.path.lexists(self.folder):
                    raise door.gone(self.folder)
                self.tidy()
        finally:
            self._writer.close()
