"""The files that show which workers live: one each, locked for as long as the worker lives.

The kernel frees the lock when its holder dies, however it dies; no process has to notice in time.
A file's first line names the worker (id, pid, start time, boot id, since when), its second the
running job (id, run, pid of its process group, start time), if any. After the 256 bytes of the
second, a third holds facts as `key=value`; `format=2` is always one of them. An older queuectl
reads only the first two. `ID.wake` beside it is a pipe: a byte written to it wakes the worker, `w`
to look for work, `c` because a job is to be cancelled.
"""

from __future__ import annotations

import fcntl
import os

from queuectl.errors import FileMissing, StoreError
from queuectl.places import WORKERS
from queuectl.store import door
from queuectl.store.facts import RUN_LINE, WAKE, WorkerInfo
from queuectl.store.files.marker import FORMAT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from queuectl.store.contract import End

_SIZE = 1024  # bytes of a worker file
_TROUBLE = 480  # bytes; the longest trouble, as spelled in a worker's file


class WorkerSlot:
    """A worker's own locked file, and the reading end of its pipe.

    Methods without a docstring: see Slot.
    """

    def __init__(self, folder: str, worker_id: str, fd: int, wake_fd: int) -> None:
        self.id = worker_id
        self.path = os.path.join(folder, WORKERS, worker_id)
        self.wake_fd = wake_fd
        self._fd = fd
        self._inode = os.fstat(fd).st_ino
        self._job_line = os.pread(fd, _SIZE, 0).find(b"\n") + 1
        self._facts = _first_facts(self._inode)
        self._folder = folder
        self._workers_fd = door.open_folder(os.path.dirname(self.path))
        self._listed_at = -1  # the folder's mtime when the names were listed
        self._names: list[str] = []
        self.on_watch = False
        self.asked = ""  # only stores of several hosts set this

    def still_held(self) -> bool:
        """Whether the file still has its name; otherwise the worker was given up."""
        try:
            return os.lstat(self.path).st_ino == self._inode
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:  # unreadable, perhaps for a moment; the lock on it is ours
            return True

    @property
    def lapsed(self) -> bool:
        return False  # there is no server that could be silent

    @property
    def declared(self) -> bool:
        return False

    def why_gone(self) -> str:
        if not os.path.lexists(self._folder):
            return f"data folder {self._folder} is gone"
        return "was given up: its file in workers/ is gone"

    def note_run(self, job_id: str, run: int, pid: int, start_time: str) -> None:
        self._set_line(f"{job_id} {run} {pid} {start_time}\n".encode())

    def clear_run(self) -> None:
        self._set_line(b"\n")

    def note_facts(self, **facts: object) -> None:
        self._facts |= {name: str(fact) for name, fact in facts.items()}
        start = self._job_line + RUN_LINE
        os.pwrite(self._fd, _facts_line(self._facts, _SIZE - start), start)

    def note_trouble(self, why: str) -> None:
        self.note_facts(trouble=_spelled(why))

    def note_end(self, job_id: str, run: int, end: End) -> bool:
        """Write the end of a run that cannot be settled into the file, as far as it has room."""
        kind, code, error, ended_at = end
        words = (job_id, str(run), kind, "" if code is None else str(code), ended_at)
        self.note_facts(end=",".join(words), error=_spelled(error or ""))
        return True

    def keep_watch(self) -> bool:
        """See Slot.

        The kernel frees the watch of a worker that dies.
        """
        if not self.on_watch:
            try:
                fcntl.flock(self._workers_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            self.on_watch = True
        return True

    def leave_watch(self) -> None:
        if self.on_watch:
            fcntl.flock(self._workers_fd, fcntl.LOCK_UN)
            self.on_watch = False

    def crowd(self) -> int:
        return len(self._all_names())

    @property
    def patience(self) -> float:
        return 1.0

    def sees_lost(self) -> bool:
        names = self._all_names()
        name = names[_any_of(len(names))]
        info = None if name == self.id else probe(self._folder, name)
        return info is not None and not info.alive

    def _all_names(self) -> list[str]:
        """The ids of all workers, at least this one; listed anew only if one came or went."""
        changed = os.fstat(self._workers_fd).st_mtime_ns
        if changed != self._listed_at:
            self._listed_at = changed
            self._names = worker_names(self._folder) or [self.id]
        return self._names

    def _set_line(self, line: bytes) -> None:
        # Padded, so that the end of a longer line before it is not left behind it. Not through a
        # mapping, which is faster: on a full disk that copies on write it would kill the worker.
        os.pwrite(self._fd, line.ljust(RUN_LINE), self._job_line)

    def release(self) -> None:
        """Remove the files and free the lock; under the queue's lock."""
        if self.still_held():
            door.remove(self.path)
        door.remove(f"{self.path}.wake")
        self.close()

    def close(self) -> None:
        """Free the lock and leave the files, as the kernel does when a process dies."""
        for fd in (self._fd, self.wake_fd, self._workers_fd):
            os.close(fd)


def folder_identity(folder: str) -> str:
    """Device and inode of a data folder as `DEV:INO`, which tell it from a copy."""
    found = os.stat(folder)
    return f"{found.st_dev}:{found.st_ino}"


def make_slot(folder: str, worker_id: str, facts: str) -> WorkerSlot:
    """Make and lock a worker's file; no other process ever sees it unlocked."""
    from filelock import lock_descriptor

    door.make_folder(os.path.join(folder, WORKERS))
    path = file_path(folder, worker_id)
    hidden = os.path.join(folder, WORKERS, f".{worker_id}")
    fd = door.open_file(hidden, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    wake_fd = -1
    try:
        lock_descriptor(fd, blocking=False)
        head = f"{worker_id} {facts}\n".encode() + b"\n".ljust(RUN_LINE)
        text = head + _facts_line(_first_facts(os.fstat(fd).st_ino), _SIZE - len(head))
        door.append(fd, text, 0, hidden)
        door.make_pipe(f"{path}.wake")
        # Opened for both, so that the pipe does not report an end when a writer leaves.
        wake_fd = door.open_pipe(f"{path}.wake", os.O_RDWR)
        door.rename(hidden, path)
    except BaseException:
        for opened in (fd, wake_fd):
            if opened >= 0:
                os.close(opened)
        for left in (hidden, f"{path}.wake"):
            door.remove(left)
        raise
    return WorkerSlot(folder, worker_id, fd, wake_fd)


def _first_facts(inode: int) -> dict[str, str]:
    """The facts that a worker file has from its start: its own inode tells it from a copy."""
    return {"format": "2", "inode": str(inode)}


def _spelled(text: str) -> str:
    """Text as one word: percent-encoded, without its middle if it is too long."""
    if len(text) > _TROUBLE // 3:
        text = f"{text[: _TROUBLE // 9]}...{text[-_TROUBLE // 6 :]}"
    word = "".join(
        chr(byte) if 32 < byte < 127 and byte != 37 else f"%{byte:02X}" for byte in text.encode()
    )
    return word[:_TROUBLE]


def _facts_line(facts: dict[str, str], room: int) -> bytes:
    """The third line in exactly `room` bytes; text for people is shortened if necessary."""
    for name, least in (("trouble", _TROUBLE // 4), ("error", 0), ("left", 0)):
        over = len(_joined(facts)) - room
        if over > 0 and name in facts:
            facts = {**facts, name: facts[name][: max(least, len(facts[name]) - over)]}
    return _joined(facts).ljust(room)


def _joined(facts: dict[str, str]) -> bytes:
    return (" ".join(f"{name}={fact}" for name, fact in facts.items()) + "\n").encode()


def file_path(folder: str, worker_id: str) -> str:
    """The path of a worker's file; BadFile for an id that leads elsewhere or a foreign folder."""
    above = os.path.join(folder, WORKERS)
    door.check_folder_of_ours(above)
    return door.within(above, worker_id)


def worker_infos(folder: str) -> Iterator[WorkerInfo]:
    """Every worker that has a file, living or dead.

    Raises BadFile if one is not a file of ours alone, DiskRefused if they cannot be listed.
    """
    above = os.path.join(folder, WORKERS)
    door.check_folder_of_ours(above)
    try:
        names = sorted(worker_names(folder))
    except FileNotFoundError:
        return
    except OSError as exc:
        raise door.refused("listing", above, exc) from exc
    for name in names:
        info = probe(folder, name)
        if info is not None:
            yield info


def worker_names(folder: str) -> list[str]:
    """The ids of the workers that have a file, unordered; raises OSError."""
    names = os.listdir(os.path.join(folder, WORKERS))
    # A person's file must not be taken for a dead worker's, which would be removed.
    return [name for name in names if name.startswith("w-") and not name.endswith(".wake")]


def _any_of(count: int) -> int:
    """A random number below `count`, without loading the random module."""
    return int.from_bytes(os.urandom(4), "little") % count


def older(folder: str, version: int) -> list[WorkerInfo]:
    """The live workers that do not know this format of the journal."""
    infos = worker_infos(folder)
    return [info for info in infos if info.alive and _known_format(info) < version]


def _known_format(info: WorkerInfo) -> int:
    named = info.facts.get("format", "")
    return int(named) if named.isdigit() else 1


def too_old(folder: str) -> StoreError:
    """The error for a change that live older workers would misunderstand."""
    count = max(1, len(older(folder, FORMAT)))  # one may have ended by now
    return StoreError(f"{count} worker(s) of an older queuectl still run: queuectl worker stop")


def probe(folder: str, worker_id: str) -> WorkerInfo | None:
    """One worker; None if it has no file, BadFile if that is not a file of ours alone.

    A file with several names is ours only if it says so: a copy made of hard links has it too.
    """
    path = os.path.join(folder, WORKERS, worker_id)
    try:
        fd, found = door.open_ours(path, os.O_RDONLY, linked=True)
    except FileMissing:
        return None
    try:
        # Shared, so that two readers at once do not take each other for the worker.
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        alive = False
    except BlockingIOError:
        alive = True
    with door.Closing(fd):
        info = WorkerInfo(worker_id, alive, os.pread(fd, _SIZE, 0).decode("ascii", "replace"))
        info.inode = found.st_ino
        if found.st_nlink > 1 and info.facts.get("folder") != folder_identity(folder):
            raise door.odd(path, door.oddity(found))
        return info


def note_lost(folder: str, worker_id: str, **facts: object) -> None:
    """Write facts into the file of a dead worker; does nothing if it has no file.

    Raises OSError, and BadFile if it is not a file of ours alone.
    """
    try:
        fd, _ = door.open_ours(file_path(folder, worker_id), os.O_RDWR, linked=True)
    except FileMissing:
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        text = os.pread(fd, _SIZE, 0)
        start = text.find(b"\n") + 1 + RUN_LINE
        known = WorkerInfo(worker_id, False, text.decode("ascii", "replace")).facts
        known |= {name: str(fact) for name, fact in facts.items()}
        os.pwrite(fd, _facts_line(known, _SIZE - start), start)
    except BlockingIOError:  # it lives after all
        return
    finally:
        os.close(fd)


def wake(folder: str, message: bytes = WAKE, only: str | None = None) -> None:
    """Wake every worker, or `only` one; a hint that may be lost, since workers also poll."""
    above = os.path.join(folder, WORKERS)
    if door.folder_oddity(above):
        return
    try:
        names = [only + ".wake"] if only else os.listdir(above)
    except OSError:  # no worker yet, or no descriptor is left: the change itself is in the queue
        return
    for name in names:
        if name.endswith(".wake") and "/" not in name:
            _write_hint(os.path.join(above, name), message)


def wake_idle(folder: str, count: int) -> None:
    """Wake up to `count` workers that run nothing; a hint, as in `wake`.

    A busy worker looks for work by itself when its run ends.
    """
    if door.folder_oddity(os.path.join(folder, WORKERS)):
        return
    try:
        names = worker_names(folder)
    except OSError:
        return
    # The order differs each time, so that two callers that wake one worker pick different ones.
    start = _any_of(len(names)) if names else 0
    for name in names[start:] + names[:start]:
        if count <= 0:
            return
        path = os.path.join(folder, WORKERS, name)
        count -= _is_idle(path) and _write_hint(f"{path}.wake", WAKE)


def _is_idle(path: str) -> bool:
    try:
        fd = door.open_file(path, os.O_RDONLY)
    except StoreError:  # it is just ending, or is not a file of ours
        return False
    with door.Closing(fd):
        text = os.pread(fd, _SIZE, 0).decode("ascii", "replace")
        return WorkerInfo("", True, text).job_id is None


def _write_hint(path: str, message: bytes) -> bool:
    """Write to the pipe; returns whether a process reads it."""
    try:
        fd = door.open_pipe(path, os.O_WRONLY)
    except OSError:  # no process reads it any more
        return False
    try:
        os.write(fd, message)
    except OSError:  # full: it has been woken often enough
        pass
    finally:
        os.close(fd)
    return True


def forget(folder: str, worker_id: str) -> bool:
    """Remove a dead worker's files, under the queue's lock; False if it lives after all."""
    from filelock import lock_descriptor

    path = file_path(folder, worker_id)
    try:
        fd, _ = door.open_ours(path, os.O_RDWR, linked=True)
    except FileMissing:
        for left in (f"{path}.wake", os.path.join(folder, WORKERS, f".{worker_id}")):
            door.remove(left)  # left by a worker that was killed in make_slot
        return True
    with door.Closing(fd):
        if not lock_descriptor(fd, blocking=False):
            return False
        door.remove(f"{path}.wake")
        door.remove(path)
        return True


def listed_info(worker_id: str, entry: Mapping[str, object] | None) -> WorkerInfo:
    """What is known about a worker without a file: its entry in worker_pids.json, if any."""
    names = ("pid", "start_time", "boot_id", "started_at")
    # Only the first line: the others would name a process to end.
    words = [str(entry.get(name, "")).partition("\n")[0] for name in names] if entry else []
    return WorkerInfo(worker_id, False, " ".join([worker_id, *words]), missing=True)
