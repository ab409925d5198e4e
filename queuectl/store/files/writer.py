"""The writing side of a folder: catches up with the journal, appends to it, folds it.

Every change runs the same way: take the lock, read what others appended, decide, append one record
(the commit point), free the lock, and sync if durability was promised. An exception under the lock
makes the writer forget what it knew; the next change reads everything anew.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress

from queuectl.errors import BadFile, NotConfirmed, StoreError
from queuectl.model.times import format_time
from queuectl.places import DEAD, JOBS, JOURNAL
from queuectl.store import door
from queuectl.store.files import checkpoint, evidence, marker, strays, worker_files
from queuectl.store.files.job_files import check_lines, read_live_lines
from queuectl.store.files.journal import PROMISED, VERSION, Journal, counts_after
from queuectl.store.files.lock import QueueLock
from queuectl.store.files.own_files import OwnFiles
from queuectl.store.files.side_files import EnvSets
from queuectl.store.files.snapshot import BaseFile, Snapshot
from queuectl.store.files.staged import Staged

TYPE_CHECKING = False
if TYPE_CHECKING:
    from queuectl.model.gate import Gate
    from queuectl.store.edits.hand_edits import HandEdit
    from queuectl.store.files.journal import Counts
    from queuectl.store.files.live_index import LiveIndex
    from queuectl.store.files.lookup import Found

Move = tuple[str | None, str | None]  # old and new state of a job; None: outside
Moves = Iterable[Move]
_VET_EVERY = 0.05  # seconds; a busy worker does not look for hand edits at each job
_LOOKS = 4  # at an edit; the last look is under the lock, so that nothing comes between
TAKEN_IN = "the edit was taken in"
_PUT_OFF = 10.0  # seconds until a refused fold is tried again
LARGE = 16 << 20  # bytes of journal; from this size on busy workers fold too when a fold is due


class _Edited(Exception):
    """A person edited a job file: read it without the lock, so that nobody waits."""


class Writing(door.Reading):
    """A context: the lock, and the journal read to its end; an error makes the writer forget.

    Made once and entered for each change, since a worker enters it for each job that it runs.
    """

    def __init__(self, writer: Writer, busy: bool) -> None:
        super().__init__(writer.folder)
        self._writer, self._busy = writer, busy

    def __enter__(self) -> Journal:
        edit: HandEdit | None = None
        for looks in range(_LOOKS):
            self._writer.lock.acquire()
            try:
                return self._writer.catch_up(self._busy, edit, looks + 1 == _LOOKS)
            except _Edited:
                self._writer.lock.release()
            except BaseException as exc:
                self.__exit__(None, exc, None)
                raise
            edit = self._writer.look_at_edit()
        raise AssertionError  # the last look takes in what it finds

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            if error is not None:
                self._writer.forget()
        finally:
            self._writer.lock.release()
        if error is not None:
            super().__exit__(kind, error, trace)


class Writer:
    """The writing side of a data folder. `now`: the store's clock; `gate`: what holds jobs."""

    def __init__(
        self,
        path: str,
        now: Callable[[], float],
        patience: Callable[[], float],
        gate: Callable[[], Gate | None],
    ) -> None:
        self.folder = path
        self._gate = gate
        self._paths = (os.path.join(path, JOBS), os.path.join(path, DEAD))
        self.notices: list[str] = []
        self.lock = QueueLock(path, patience, now)
        self.files = OwnFiles(path, now)
        self.journal: Journal | None = None
        self._now = now
        self._live: LiveIndex | None = None
        # The folder's time of change (see QueueLock) for which `gate` is known, and the one for
        # which the journal's name was checked; 0: check again.
        self._gated_at = self._seen_at = 0
        self._unsynced = False
        self._sync_error: OSError | None = None  # from a sync under the lock
        self._no_fold_before = 0.0  # monotonic; puts off a fold that the disk refused
        self._prepared = False
        self.env_sets = EnvSets(path)
        self._writing = (Writing(self, False), Writing(self, True))

    def writing(self, *, busy: bool = False) -> Writing:
        """The lock, and the journal read to its end. `busy`: look for hand edits less often."""
        if not self._prepared:
            if not marker.check_folder(self.folder):
                marker.mark_folder(self.folder)
            strays.make_folder_private(self.folder)
            door.require_writable(self.folder)
            self._prepared = True
        return self._writing[busy]

    def staging_path(self) -> str:
        """The path beside which staged lines may be written; makes the folder."""
        self.writing()
        return os.path.join(self.folder, JOURNAL)

    def append(self, journal: Journal, lines: list[bytes], moves: Moves, flag: bytes) -> None:
        """Append one record of job lines and removal lines: the commit point of a change."""
        self._append(journal, lines, flag, counts_after(journal.counts, moves))

    def _append(self, journal: Journal, lines: list[bytes], flag: bytes, counts: Counts) -> None:
        journal.append(b"\n".join(lines) + b"\n", flag, counts)
        self._unsynced = True
        if self._live is not None:
            self._live.apply(lines)

    def append_staged(self, journal: Journal, staged: Staged) -> None:
        """Append new jobs as one record. After a large one a fold follows: nobody else reads it."""
        counts, done = staged.counted(journal.counts), False
        if staged.lines is not None:
            self._append(journal, staged.lines, PROMISED, counts)
            return
        with BaseFile(self._paths[0]) as jobs, BaseFile(self._paths[1]) as dead:
            snapshot = Snapshot(journal, jobs, dead, self._now())
            try:
                journal.append_pieces(staged.pieces(), staged.size, staged.crc, PROMISED, counts)
                self._live, self._unsynced = None, True
                try:
                    door.sync(journal.fd)
                except OSError as exc:
                    self._sync_error = exc
                    return
                self._unsynced = False
                version = journal.header.version
                with suppress(StoreError, OSError):  # a later fold will do that
                    done = not snapshot.edited and checkpoint.fold(
                        *(self.folder, journal, snapshot, self._now(), version),
                        *(self.lock.is_there, staged),
                    )
            finally:
                snapshot.close_copies()
        if done:
            self._move_on(journal)

    def confirm(self) -> None:
        """Wait, without the lock, until the disk has what was appended. NotConfirmed."""
        error, self._sync_error = self._sync_error, None
        if error is not None:
            self._unsynced = False
            self._confirm_by_fold(error)
        if not self._unsynced or self.journal is None:
            return
        self._unsynced = False
        try:
            door.sync(self.journal.fd)
        except OSError as exc:
            self._confirm_by_fold(exc)

    def _confirm_by_fold(self, error: OSError) -> None:
        # The kernel reports a failed sync once and then counts the pages as clean: a second try on
        # the same file would confirm what is not on the disk. Fresh files are proof.
        try:
            self.fold()
        except (OSError, StoreError):
            raise NotConfirmed(
                f"syncing {self.folder}/journal: {error.strerror}; the change is in the queue, "
                "but may not survive a power cut: mend the disk, then run queuectl checkpoint"
            ) from error

    def live(self, journal: Journal) -> LiveIndex:
        """The index of live jobs, brought up to the journal and settings; under the lock."""
        live, named_at = self._live, self.lock.named_at
        # A change of the settings renames a file, which changes the folder's ctime.
        if live is not None and not named_at == self._gated_at > 0:
            if live.gate != self._gate():
                live = None
            self._gated_at = named_at
        if live is None:
            return self.live_anew(journal)
        if live.unresolved:
            live.resolve(lambda ids: self.look_up(journal, ids))
        return live

    def live_anew(self, journal: Journal) -> LiveIndex:
        """The index read anew, after the known window turned out too short."""
        with self.files.open(journal, 0) as jobs:
            self._live = self._load(journal, jobs)
        self._live.resolve(lambda ids: self.look_up(journal, ids))
        return self._live

    def first_ready(self, journal: Journal, now: str, lines: Iterable[bytes]) -> bytes | None:
        """The line of the job to claim next, after `live`; `lines` are not in the journal yet."""
        live = self._live or self.live_anew(journal)
        try:
            return live.first_ready(now.encode())
        except live.Beyond:  # others claimed many jobs since `prepare_live`
            live = self.live_anew(journal)
            live.apply(lines)
            return live.first_ready(now.encode())

    @property
    def known_live(self) -> LiveIndex | None:
        """The index as it was at the last change, if it is known."""
        return self._live

    def prepare_live(self) -> None:
        """Build the index in advance, without the lock, so that others do not wait for it."""
        live = self._live
        if live is not None and (live.is_whole or not live.is_low(self._time())):
            return
        with self.writing() as journal:
            jobs = self.files.open(journal, 0)
        # Anything appended, folded or edited from here on is caught up with under the lock.
        with suppress(BadFile):  # edited while it was read
            with jobs:
                index = self._load(journal, jobs)
            self._live = index

    def _load(self, journal: Journal, jobs: BaseFile) -> LiveIndex:
        from queuectl.store.files.live_index import SHARE, SMALLEST, LiveIndex  # not of an enqueue

        waiting = journal.counts["pending"] + journal.counts["failed"]
        most = max(SMALLEST, waiting // SHARE)
        with door.Reading(self.folder):
            live, newer = read_live_lines(jobs.fd), journal.all_lines()
            return LiveIndex(live, newer, self._time(), most, self._gate())

    def _time(self) -> bytes:
        return format_time(self._now()).encode()

    def look_up(self, journal: Journal, ids: Collection[str]) -> dict[str, Found]:
        """The lines and files of the jobs that exist; under the lock."""
        live = self._live.lines if self._live is not None else {}
        known = {job_id: line for job_id in ids if (line := live.get(job_id.encode()))}
        if len(known) == len(ids):
            return {job_id: (line, JOBS) for job_id, line in known.items()}
        from queuectl.store.files.lookup import find_jobs  # not of a job whose id was made up

        with self.files.open(journal, 0) as jobs, self.files.open(journal, 1) as dead:
            return find_jobs(journal, jobs.fd, dead.fd, ids)

    # -- folding

    def fold(self) -> None:
        """Bring the job files up to the journal now."""
        with self.writing() as journal:
            if journal.seq:
                self._fold(journal)

    def fold_if_quick(self) -> None:
        """Fold a small queue, whichever process changed it; an error puts it off."""
        try:
            with self.writing() as journal:
                if journal.seq and checkpoint.is_quick(journal):
                    self._fold(journal)
        except StoreError:
            return

    def fold_if_due(self, *, least: int = 1) -> bool:
        """Fold if folding remains a small share of the time; an error puts it off.

        `least`: with fewer bytes of journal nothing is done.
        """
        journal = self.journal
        if journal is None or journal.end - journal.header.length < least:
            return False
        if time.monotonic() < self._no_fold_before:
            return False
        if not checkpoint.is_due(journal, self._now()):
            return False
        try:
            self.fold()
        except StoreError:
            self._no_fold_before = time.monotonic() + _PUT_OFF
            return False  # the journal holds everything; a later fold will find room, or say why
        return True

    def fold_due_in(self) -> float | None:
        """Seconds until a fold is due; None if nothing waits for one."""
        journal = self.journal
        if journal is None or journal.seq == 0:
            return None
        pause = checkpoint.pause(journal)
        wait = min(max(0.0, journal.header.folded_at + pause - self._now()), pause)
        return max(wait, self._no_fold_before - time.monotonic())

    def version_to_write(self, journal: Journal) -> int:
        """The format of the next journal: the old one while a worker lives that knows no other.

        Such a worker could neither settle its run under a newer journal nor leave.
        """
        if journal.header.version < VERSION and worker_files.older(self.folder, VERSION):
            return journal.header.version
        return VERSION

    def _fold(self, journal: Journal, edit: HandEdit | None = None, last: bool = True) -> None:
        """Fold; an edit that comes between is read, and the fold repeated.

        `edit` was found before. Raises _Edited for another one, except at the last look.
        """
        version = self.version_to_write(journal)
        if marker.marked_format(self.folder) < version:
            # Before the journal: an older `doctor --repair` would take that for damaged and replace
            # it; only the marker keeps it off.
            marker.mark_folder(self.folder, version)
        done = False
        while not done:
            if not self.lock.is_there():
                raise door.gone(self.folder)
            with BaseFile(self._paths[0]) as jobs, BaseFile(self._paths[1]) as dead:
                now = self._now()
                if not (last or (edit is not None and edit.holds(journal, (jobs, dead)))):
                    raise _Edited
                snapshot = Snapshot(journal, jobs, dead, now, edit)
                try:
                    if journal.own < journal.seq:  # what we wrote ourselves makes sense
                        check_lines(snapshot.overlay.values())
                    self._tell_of_edits(snapshot)
                    there = self.lock.is_there
                    done = checkpoint.fold(self.folder, journal, snapshot, now, version, there)
                finally:
                    snapshot.close_copies()
                if done and self._live is not None and snapshot.hand_edit is not None:
                    self._live.apply(snapshot.hand_edit.edit.lines.values())
        self._unsynced = False
        journal = self._move_on(journal)
        with suppress(StoreError):  # the reader that needs a set will report a damaged file
            self.env_sets.drop_unused(self.files.lines(journal))

    def look_at_edit(self) -> HandEdit | None:
        """What a person changed, read and judged without the lock; None if unknown."""
        with door.Reading(self.folder):
            snapshot = Snapshot.read(self.folder, self._now(), lambda: self.lock)
        snapshot.close()
        return snapshot.hand_edit

    def _tell_of_edits(self, snapshot: Snapshot) -> None:
        # After a repair the files differ from the journal although nobody edited them.
        if snapshot.edited and snapshot.journal.header.stamps[0].size >= 0:
            from queuectl.store.edits.hand_edits import settled

            taken_in, told = settled(snapshot.hand_edit, snapshot.files)
            if taken_in:
                self.notices.append(f"{self.folder}: a job file was edited by hand; {TAKEN_IN}")
            self.notices += told

    # -- catching up

    def forget(self) -> None:
        """Forget everything read; the next change reads it anew."""
        if self.journal is not None:
            self.journal.close()
        self.journal = self._live = None
        self.files.forget()

    def close(self) -> None:
        """Close the files."""
        self.forget()
        self.lock.close()

    def catch_up(self, busy: bool, edit: HandEdit | None = None, last: bool = True) -> Journal:
        """Take in what others appended, folded or edited; under the lock. See _fold for edits."""
        journal, opened = self.journal, self.journal is None
        named_at = self.lock.named_at
        if journal is None:
            journal = self._open()
        elif named_at == self._seen_at > 0:
            journal.look()
        elif not journal.is_current():
            journal = self._move_on(journal)
        self._seen_at = named_at
        if journal.size != journal.end:
            self._read_on(journal)
        now = self._now()
        # The index is not read from an edited file.
        if not (busy and self._live is not None and 0 <= now - self.files.looked_at < _VET_EVERY):
            if not self.files.are_ours(journal):
                self._fold(journal, edit, last)
            self.files.looked_at, self._gated_at = now, 0  # settings may also be edited in place
        journal = self.journal
        assert journal is not None
        if opened:
            evidence.make_whole(self.folder, journal.header)
        if opened and journal.header.version < self.version_to_write(journal):
            self._fold(journal)  # this also takes over an older folder
            assert self.journal is not None
            return self.journal
        return journal

    def _read_on(self, journal: Journal) -> None:
        edited = journal.edited
        payloads, rest = journal.read_on(looked=True, check=self._live is None)
        if rest:
            journal.cut_tail(rest)
        if journal.edited and not edited:
            # A process may have taken the edit in and died: the files are still the person's.
            self.files.forget()
            self._live = None
        if self._live is not None:
            for payload in payloads:
                self._live.apply(payload.splitlines())

    def _open(self) -> Journal:
        if marker.is_new(self.folder):
            checkpoint.make_files(self.folder, self._paths)
        last = os.path.join(self.folder, marker.LAST_MADE)
        if not os.path.lexists(last):
            door.replace(last, marker.EMPTY)
        checkpoint.remove_leftovers(self.folder)
        door.make_all_private(self.folder, strays.is_known)
        self.journal = self._take_up()
        return self.journal

    def _take_up(self) -> Journal:
        """Open the present journal, with its name on the disk."""
        journal = Journal.for_writing(self.folder)
        try:
            if not journal.is_named:
                checkpoint.confirm_name(self.folder)
        except BaseException:
            journal.close()
            raise
        return journal

    def _move_on(self, old: Journal) -> Journal:
        """Open the journal that a fold put in place of the old one."""
        # A record this large is from a large `enqueue --file`, and is in the files by now.
        known = self._live is not None and old.unread_size() <= LARGE
        payloads = old.read_on()[0] if known else []
        new = self._take_up()
        follows = new.header.generation == old.header.generation + 1 and not new.header.edited
        if self._live is not None and known and follows:
            for payload in payloads:
                self._live.apply(payload.splitlines())
        else:
            self._live = None
        old.close()
        self.files.forget()
        self.journal = new
        return new
