"""Keeps the output of runs in `logs/JOB.RUN.WORD.log`, and during a run in `logs/WORKER.spool`.

WORD is the job's own `log_word`, so that a job never shows the output of another that had its id. A
job that first ran under format 1 has none, and its logs are `JOB.RUN.log`.
A worker keeps one spool open for all its runs and renames it only if something was written: a new
file for each run would cost a third of the throughput. If a run may have left a process that still
writes, the file belongs to that run for good. It is locked, and the processes of a run inherit the
lock with the descriptor: while it is held, one of them lives, perhaps in another container.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import suppress

from queuectl.errors import DiskRefused, FileMissing, StoreError
from queuectl.model.job import LIVE, Job, log_name
from queuectl.model.log_words import END, reason
from queuectl.model.times import parse_time
from queuectl.places import LOGS
from queuectl.store import door
from queuectl.store.facts import LATER, SOON
from queuectl.store.files.log_cut import MISSING, Cuts, fitting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from queuectl.store.output import Printed

_BLOCK = 65_536
_LOOK = 0.2  # seconds between looks at a followed spool


class LogFolder:
    """The folder `logs` of a data folder. Nothing here takes a lock or raises for a missing log.

    Raises BadFile for anything but a file of ours in place of a log.
    Methods without a docstring: see Output.
    """

    def __init__(self, data_folder: str) -> None:
        self.path = os.path.join(data_folder, LOGS)

    def now(self) -> float:
        """The clock for the age of logs: seconds since 1970."""
        return time.time()

    def run_path(self, job: Job, run: int | None = None) -> str:
        """The path of the log of a finished run (None: the latest), if it had output."""
        return door.within(self.path, log_name(job, run))

    def spool_path(self, worker_id: str) -> str:
        """The path that a worker's run writes to; BadFile if `logs` is not a folder of ours."""
        door.check_folder_of_ours(self.path)
        return door.within(self.path, f"{worker_id}.spool")

    def spool(self, worker_id: str) -> Spool:
        return Spool(self, worker_id)

    def make(self) -> None:
        """Make the folder if it is missing; BadFile if something else is in its place.

        Raises FileMissing if the data folder is gone: it is not made again.
        """
        if not os.path.isdir(os.path.dirname(self.path)):
            raise door.gone(os.path.dirname(self.path))
        door.check_folder_of_ours(self.path)
        door.make_folder(self.path)

    def all_runs(self) -> Iterator[tuple[str, int, str | None]]:
        return filter(None, map(named_run, self._names()))

    def keep(self, job: Job, run: int, output: Iterable[bytes]) -> None:
        self.make()
        door.write_unsynced(self.run_path(job, run), output)

    def output(self, job: Job, run: int | None = None) -> Iterator[bytes]:
        fd = self._open(job, run)
        if fd is None:
            return
        cuts = Cuts(self.spool_path(str(job.worker)))
        if os.fstat(fd).st_ino == _inode(cuts.spool) and cuts.is_cut(fd):
            with door.Closing(fd):
                yield from cuts.kept(fd, 0)
        else:
            yield from _pieces(fd, 0)

    def tail(self, job: Job, lines: int, run: int | None = None) -> Iterator[bytes]:
        from queuectl.store.files.printed import rest, start_of_tail  # a worker reads no log

        log = self.open(job, run)
        if log is not None:
            yield from rest(log, start_of_tail(log, lines))

    def end(self, job: Job, most: int) -> bytes:
        try:
            fd = self._open(job)
        except StoreError:
            return b""
        if fd is None:
            return b""
        with door.Closing(fd):
            return os.pread(fd, most, max(os.fstat(fd).st_size - most, 0))

    def follow(
        self,
        look: Callable[[], Job],
        wait: Callable[[float], None],
        begins: Callable[[int], None],
        waits: Callable[[Job], None],
        shown: int | None = None,
    ) -> Iterator[bytes]:
        job = look()
        shown = max(0, job.run - 1) if shown is None else shown
        while True:
            while shown < job.run:
                shown += 1
                begins(shown)
                yield from self._follow_run(job, shown, look, wait)
                job = look()
            if job.state not in LIVE:
                return
            waits(job)
            while job.state in LIVE and job.run == shown:
                wait(_LOOK)
                job = look()

    def _follow_run(
        self, job: Job, run: int, look: Callable[[], Job], wait: Callable[[float], None]
    ) -> Iterator[bytes]:
        shown: int | None = 0
        if job.state == "in_progress" and job.run == run:
            shown = yield from self._growing(job, look, wait)
        fd = None if shown is None else _open_to_read(self.run_path(job, run))
        if fd is not None and shown is not None:
            yield from _pieces(fd, shown)

    def places(self, worker_id: str, jobs: Iterable[Job]) -> list[str]:
        return [self.spool_path(worker_id), *map(self.run_path, jobs)]

    def is_held(self, worker_id: str, jobs: Iterable[Job]) -> bool:
        """Whether a process that inherited the output of one of these runs lives.

        If not, a process that redirected its output may still live.
        """
        return any(map(is_locked, self.places(worker_id, jobs)))

    def rescue_spool(self, worker_id: str, job: Job, limit: int = 0) -> None:
        """Keep what a dead worker's last run wrote, if anything, as that run's log.

        `limit`: bytes to keep unless the job says otherwise, 0 for all.
        """
        limit = limit if job.log_limit is None else job.log_limit
        spool, kept = self.spool_path(worker_id), self.run_path(job)
        try:
            fd = door.open_file(spool, os.O_RDWR | os.O_APPEND)
        except FileMissing:
            return  # another rescue of this worker was faster
        cuts = Cuts(spool)
        try:
            if not os.path.lexists(kept) and (log := cuts.rescued(fd, limit)):
                door.rename(log, kept)
        except DiskRefused:
            cuts.shorten(fd, limit)
            door.rename(spool, kept)
        finally:
            os.close(fd)

    def drop_spool(self, worker_id: str) -> None:
        door.remove(self.spool_path(worker_id))
        Cuts(self.spool_path(worker_id)).drop()

    def prune(self, jobs: Iterable[Job]) -> None:
        trouble: StoreError | None = None
        doomed = {job.id: job for job in jobs}
        for name in self._names():
            named = named_run(name)
            job = doomed.get(named[0]) if named else None
            if named and job is not None:
                path = os.path.join(self.path, name)
                if named[2] == job.log_word or _is_older(path, job):
                    try:
                        door.remove(path)
                    except StoreError as exc:
                        trouble = trouble or exc
        if trouble is not None:
            raise trouble

    def remove_old(
        self, age: float | None, total: int, running: Callable[[], Mapping[str, int]]
    ) -> list[str]:
        # First the logs, then the jobs: a run that starts from here on has no log in the list.
        found = sorted(self._by_age())
        busy = running()
        oldest = 0.0 if age is None else self.now() - age
        over = sum(size for _, size, *_ in found) - total if total else 0
        removed = []
        for written, size, name, job_id, run in found:
            if written >= oldest and over <= 0:
                break
            path = os.path.join(self.path, name)
            if run < busy.get(job_id, run + 1) and not is_locked(path):
                door.remove(path)
                removed.append(name)
                over -= size
        return removed

    def _by_age(self) -> Iterator[tuple[float, int, str, str, int]]:
        """Of each log: time of the last write, bytes, name, the id of its job and the run."""
        try:
            with os.scandir(self.path) as entries:
                for entry in entries:
                    named = named_run(entry.name)
                    if named and entry.is_file(follow_symlinks=False):
                        found = entry.stat(follow_symlinks=False)
                        yield found.st_mtime, found.st_size, entry.name, *named[:2]
        except FileNotFoundError:  # the folder or this log was removed meanwhile
            return

    def _names(self) -> list[str]:
        door.check_folder_of_ours(self.path)
        try:
            return os.listdir(self.path)
        except FileNotFoundError:
            return []
        except OSError as exc:
            raise door.refused("listing", self.path, exc) from exc

    def open(self, job: Job, run: int | None = None) -> Printed | None:
        from queuectl.store.files.printed import PrintedFile  # a worker reads no log

        fd = self._open(job, run)
        return None if fd is None else PrintedFile(fd)

    def _open(self, job: Job, run: int | None = None) -> int | None:
        """A descriptor of the run's (None: the latest) output; None if there is none yet."""
        door.check_folder_of_ours(self.path)
        fd = _open_to_read(self.run_path(job, run))
        if fd is None and job.state == "in_progress" and run in (None, job.run):
            fd = _open_to_read(self.spool_path(str(job.worker)))
        return fd

    def _growing(
        self, job: Job, look: Callable[[], Job], wait: Callable[[float], None]
    ) -> Generator[bytes, None, int | None]:
        """What is certainly this run's output, until the run is over.

        Returns where the rest begins in the log; None if the spool was cut, so there is no rest.
        """
        fd = _open_to_read(self.spool_path(str(job.worker)))
        offset, is_cut, is_ours = 0, False, False
        try:
            while True:
                if fd is not None and os.fstat(fd).st_size < offset:  # it was cut
                    offset, is_cut = 0, True
                    yield MISSING
                piece = b"" if fd is None else os.pread(fd, _BLOCK, offset)
                # Checked after reading: once this run is over, the spool may be another run's.
                now = look()
                if now.state != "in_progress" or now.run != job.run:
                    if fd is None or not is_ours or os.fstat(fd).st_nlink:
                        return None if is_cut else offset
                    # The log was made of parts, and this one left as it was at the end.
                    yield from _pieces(os.dup(fd), offset)
                    return None
                is_ours = True
                if piece:
                    offset += len(piece)
                    yield piece
                else:
                    wait(_LOOK)
        finally:
            if fd is not None:
                os.close(fd)


class Spool:
    """The open file that takes the output of a worker's runs, one after the other."""

    def __init__(self, logs: LogFolder, worker_id: str) -> None:
        self._logs = logs
        self.path = logs.spool_path(worker_id)
        self.fd = -1
        self.kept = 0
        self._usual = self._limit = 0
        self._cuts = Cuts(self.path)
        self.make_ready()

    @property
    def is_ready(self) -> bool:
        return self.fd >= 0

    def make_ready(self) -> None:
        if self.fd >= 0:
            return
        self._logs.make()
        door.remove(self.path)  # a rename failed: keep its content out of the next run's log
        # Append: whatever the commands do to the shared offset, nothing is overwritten.
        fd = door.above_standard(door.open_file(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT))
        os.set_blocking(fd, True)  # commands may expect this of their output
        _lock(fd)
        self.fd = fd

    def begin(self, job: Job) -> None:
        if self._cuts.gone:  # the log of the run before could not be renamed
            self._cuts.drop()
        self._cuts.looked = None
        if job.run > 1:  # a job restored from a backup may have had a run with this number before
            with suppress(StoreError):
                door.remove(self._logs.run_path(job))
        self._limit = self._usual if job.log_limit is None else job.log_limit

    def limit_to(self, limit: int) -> None:
        self._usual = limit

    def look(self, tell: Callable[[Exception], None]) -> float:
        if not self._limit or self.fd < 0:
            return LATER
        self._limit = fitting(self.fd, self._limit)
        try:
            return self._cut()
        except (StoreError, OSError) as exc:
            tell(exc)
            if isinstance(exc, DiskRefused):
                self._cuts.shorten(self.fd, self._limit)
        return SOON

    def _cut(self) -> float:
        return self._cuts.look(self.fd, self._limit)

    def is_let_go(self) -> bool:
        """Whether no process that inherited the file still has it open.

        A process that opened it anew by its path is not seen.
        """
        fd, self.fd = self.fd, -1
        os.close(fd)  # the lock lives on with the processes that share it
        self.fd = door.above_standard(
            door.open_file(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
        )
        return _lock(self.fd)

    def finish(self, job: Job, *, clean: bool = True) -> None:
        """Keep what the run wrote, if anything, as its log; DiskRefused if that fails.

        If the end is not `clean`, a process may still write: even an empty file becomes the log.
        """
        found = os.fstat(self.fd)
        if self._cuts.gone or found.st_size or not found.st_nlink or not clean:
            try:
                if found.st_nlink:  # otherwise somebody removed the file, and the output with it
                    if self._cuts.gone or 0 < self._limit < found.st_size:
                        self._finish_cut(self._logs.run_path(job), clean)
                    else:
                        door.rename(self.path, self._logs.run_path(job))
                    self.kept += min(found.st_size, self._limit or found.st_size)
            finally:
                # Forgotten before it is closed: the journal may soon get the same number.
                fd, self.fd = self.fd, -1
                os.close(fd)
                self.make_ready()

    def _finish_cut(self, kept: str, clean: bool) -> None:
        try:
            whole = self._cuts.assemble(self.fd, self._limit)
        except DiskRefused:  # no room: what is already there is better than nothing
            self._cuts.shorten(self.fd, self._limit)
            door.rename(self.path, kept)
            self._cuts.drop()
            raise
        if clean:
            door.rename(whole, kept)
            door.remove(self.path)  # not emptied: a reader that follows it reads to its end
        else:
            # The file that may still be written to is to be the log.
            door.truncate(self.fd, 0, self.path)
            fd = door.open_file(whole, os.O_RDONLY)
            for piece in _pieces(fd, 0):
                door.append(self.fd, piece, os.fstat(self.fd).st_size, self.path)
            door.rename(self.path, kept)
        self._cuts.drop()

    def reason(self) -> str:
        size = os.fstat(self.fd).st_size
        data = os.pread(self.fd, END, max(size - END, 0))
        if self._cuts.gone and size < END:
            data = self._cuts.end(END - size) + data
        return reason(data)

    def close(self) -> None:
        if self.fd < 0:
            return
        fd, self.fd = self.fd, -1
        with door.Closing(fd):
            if not os.fstat(fd).st_size:
                door.remove(self.path)


def _lock(fd: int) -> bool:
    """Lock the file for this process and all that inherit the descriptor; returns success."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # other processes have it, or the system has no such locks
        return False
    return True


def is_locked(path: str) -> bool:
    """Whether a process that inherited the file from a worker has it open."""
    fd = _open_to_read(path)
    if fd is None:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def named_run(name: str) -> tuple[str, int, str | None] | None:
    """Job id, run and word from the name of a log; None for another file.

    An id may contain dots and digits; a word begins with a letter, and the run is before it.
    """
    if not name.endswith(".log"):
        return None
    head, _, last = name[: -len(".log")].rpartition(".")
    word = last if last[:1].isalpha() else None
    job_id, run = (head, last) if word is None else head.rpartition(".")[::2]
    return (job_id, int(run), word) if job_id and run.isascii() and run.isdigit() else None


def _is_older(path: str, job: Job) -> bool:
    """Whether the file was written before this job existed."""
    try:
        return os.stat(path).st_mtime < parse_time(job.created_at)
    except FileNotFoundError:
        return False


def _open_to_read(path: str) -> int | None:
    try:
        # Output that also has another name is the same output.
        return door.open_ours(path, os.O_RDONLY, linked=True)[0]
    except FileMissing:
        return None


def _inode(path: str) -> int:
    try:
        return os.lstat(path).st_ino
    except OSError:
        return -1


def _pieces(fd: int, offset: int) -> Iterator[bytes]:
    """The file from `offset` to its present end; closes it."""
    with door.Closing(fd):
        end = os.fstat(fd).st_size  # these pieces may be written to this very file
        while piece := os.pread(fd, min(_BLOCK, max(0, end - offset)), offset):
            yield piece
            offset += len(piece)
