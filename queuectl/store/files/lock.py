"""The lock of the queue: one writer at a time, on descriptors that stay open.

It consists of two locks, always both taken and in this order: the lock of the data folder, which
nobody can remove, and that of `queue.lock`, which other hosts and older queuectls see. Each is
taken by descriptor, so both names are checked afterwards: the folder may have been moved away, and
`queue.lock` removed by a person who took it for a stale one. The check alone would not be enough: a
removal between the check and the append would let a second writer in.
"""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress

from queuectl.errors import FileMissing, StoreBusy, StoreError
from queuectl.places import LOCK, MARKER
from queuectl.store import door
from queuectl.store.door import gone

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_FIRST_PAUSE, _LONGEST_PAUSE, _LONGEST_OF_ALL = 0.0001, 0.001, 0.02  # seconds
_LONG = 1.0  # seconds of waiting after which a person is told


class QueueLock:
    """The exclusive lock of a data folder, a context manager; not re-entrant.

    `patience` gives the seconds to wait for it; it is called only if another process has the lock.
    `now` is the store's clock; without it both names are checked each time the lock is taken.
    """

    def __init__(
        self, folder: str, patience: Callable[[], float], now: Callable[[], float] = lambda: 0.0
    ) -> None:
        self.path = os.path.join(folder, LOCK)
        self._now = now
        self._folder = folder
        self._patience = patience
        # Called once, after a second of waiting, with a line that says what for.
        self.on_wait: Callable[[str], None] | None = None
        self._fds: tuple[int, ...] = ()  # of the folder and of queue.lock while open
        self._inodes = (-1, -1, -1, -1)  # device and inode of each
        # The ctime of the folder (which nobody can set) when the lock was taken: when a name in it
        # was last made, renamed or removed. 0 if too recent for another change to show.
        self.named_at = 0
        self._lock: Callable[..., bool]  # filelock's two functions, set at the first lock:
        self._unlock: Callable[[int], None]  # a reader never pays for loading it

    def acquire(self) -> None:
        """Take the lock; StoreBusy when `patience` ends, StoreError if there is no way to lock."""
        deadline = None
        try:
            while True:
                if not self._fds:
                    self._open()
                for fd in self._fds:
                    if not self._try(fd):
                        if deadline is None:  # one patience for all waits
                            deadline = time.monotonic() + self._patience()
                        self._wait(fd, deadline)
                if self._is_named():
                    return
                self._give_up()  # a lock on a file without its name keeps nobody out
        except BaseException:  # Ctrl-C in a shell that lives on, a failing disk
            self._give_up()
            raise

    def _give_up(self) -> None:
        """Free what was taken, even if a forked process has the same open files; close them."""
        try:
            if self._fds:
                with suppress(OSError):  # a file system without locks, which `_try` reported
                    self.release()
        finally:
            self.close()

    def release(self) -> None:
        """Free the lock; it must be held."""
        folder, file = self._fds
        self._unlock(file)
        fcntl.flock(folder, fcntl.LOCK_UN)

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()

    def _open(self) -> None:
        # docs/architecture.md promises filelock as the lock of the files; hence its loading time,
        # half of an `enqueue`.
        from filelock import lock_descriptor, unlock_descriptor

        self._lock, self._unlock = lock_descriptor, unlock_descriptor
        try:
            folder = door.open_folder(self._folder)
        except FileMissing:
            raise gone(self._folder) from None
        above = os.fstat(folder)
        known = self._inodes[:2] in ((-1, -1), (above.st_dev, above.st_ino))
        try:
            if not known and not os.path.lexists(os.path.join(self._folder, MARKER)):
                raise gone(self._folder)  # what now has its name is not a queue
            file = door.open_file(self.path, os.O_RDWR | os.O_CREAT)
        except BaseException:
            os.close(folder)
            raise
        self._fds, found = (folder, file), os.fstat(file)
        self._inodes = (above.st_dev, above.st_ino, found.st_dev, found.st_ino)

    def with_folder(self, action: Callable[[], None]) -> None:
        """Do something under the folder's lock alone, because `queue.lock` must be mended."""
        from filelock import lock_descriptor

        self._lock = lock_descriptor
        deadline = time.monotonic() + self._patience()
        held = [door.open_folder(self._folder)]
        try:
            with suppress(StoreError):  # no process can hold a lock of what is not a file
                held.append(door.open_ours(self.path, os.O_RDWR, linked=True)[0])
            for fd in held:
                self._wait(fd, deadline)
            action()
        finally:
            for fd in held:
                os.close(fd)

    def is_there(self) -> bool:
        """Whether the locked folder still has its name; it may be moved at any time."""
        try:
            found = os.stat(self._folder)
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == self._inodes[:2]

    def close(self) -> None:
        """Close both files; the next lock opens them anew."""
        fds, self._fds = self._fds, ()
        for fd in reversed(fds):
            os.close(fd)

    def _try(self, fd: int) -> bool:
        try:
            if fd not in self._fds[:1]:
                return self._lock(fd, blocking=False)
            # The same lock without filelock's checks, because a worker takes it for each job.
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except (BlockingIOError, PermissionError):  # some file systems report EACCES instead
            return False
        except OSError as exc:
            # No soft lock instead: with two kinds of lock on one queue, neither keeps others out.
            raise StoreError(
                f"{self.path}: this file system has no locks ({exc.strerror}); "
                "name a folder on another with --data DIR"
            ) from exc

    def _wait(self, fd: int, deadline: float) -> None:
        began, pause, tell_at = time.monotonic(), _FIRST_PAUSE, time.monotonic() + _LONG
        while not self._try(fd):
            now = time.monotonic()
            if now >= tell_at and self.on_wait is not None:
                tell_at = float("inf")
                self.on_wait(f"waiting for {self.path}, which is held by {_holder(fd)}")
            if now >= deadline:
                raise StoreBusy(
                    f"{self.path} is held by {_holder(fd)}; "
                    "nothing was changed: try again, or raise lock-timeout"
                )
            time.sleep(pause)
            # A tenth of what was waited: during a fold of a second, 200 that look every
            # millisecond would use all processors.
            longest = min(max(_LONGEST_PAUSE, (now - began) / 10), _LONGEST_OF_ALL)
            pause = min(pause * 1.5, longest)

    def _is_named(self) -> bool:
        try:
            above = os.stat(self._folder)
            is_same = above.st_ctime_ns == self.named_at
            if is_same and (above.st_dev, above.st_ino) == self._inodes[:2]:
                return True  # nor was `queue.lock` removed since it was looked at
            found = os.lstat(self.path)
        except FileNotFoundError:
            return False
        young = door.is_young(above.st_ctime_ns, self._now())
        self.named_at = 0 if young else above.st_ctime_ns
        return (above.st_dev, above.st_ino, found.st_dev, found.st_ino) == self._inodes


def _holder(fd: int) -> str:
    """The process that holds the lock of an open file, according to Linux's /proc/locks."""
    inode = b":%d" % os.fstat(fd).st_ino
    try:
        with open("/proc/locks", "rb") as file:
            for line in file:
                words = line.split()
                if words[1] == b"FLOCK" and words[5].endswith(inode):
                    return f"process {int(words[4])}{_kinship(int(words[4]))}"
    except (OSError, ValueError, IndexError):
        pass
    return "another process"


def _kinship(pid: int) -> str:
    """What to add if the holder started this process, as `flock FOLDER queuectl ...` does."""
    above = os.getpid()
    while above > 1:
        with open(f"/proc/{above}/stat", "rb") as file:
            above = int(file.read().rpartition(b")")[2].split()[1])
        if above == pid:
            return ", which started this command and waits for it: leave the lock to queuectl"
    return ""
