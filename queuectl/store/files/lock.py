"""The lock of the queue: one writer at a time, on descriptors that stay open.

It is two locks, taken always both and in this order: the data folder's own, which nobody can
remove, and that of `queue.lock`, which other hosts and older queuectls see. Each is taken by its
descriptor, so both names are looked at afterwards: the folder may have been moved away, and
`queue.lock` removed, by a person who took it for a stale one. A look alone would not do: a removal
between the look and the append would let a second writer in.
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
_LONG = 1.0  # seconds of waiting after which somebody wants to know


class QueueLock:
    """The exclusive lock of a data folder, a context manager; not re-entrant.

    `patience` gives the seconds to wait for it; it is asked only when another process has it.
    `now` is the store's clock; without one the lock looks at both names whenever it is taken.
    """

    def __init__(
        self, folder: str, patience: Callable[[], float], now: Callable[[], float] = lambda: 0.0
    ) -> None:
        self.path = os.path.join(folder, LOCK)
        self._now = now
        self._folder = folder
        self._patience = patience
        # Told once, after a second of waiting, what is waited for.
        self.on_wait: Callable[[str], None] | None = None
        self._fds: tuple[int, ...] = ()  # of the folder and of queue.lock, while they are open
        self._inodes = (-1, -1, -1, -1)  # device and inode of each
        # When a name in the folder was made, renamed or removed last, as the lock was taken (its
        # ctime, which nobody can set); 0 if that is so young that one more may not show.
        self.named_at = 0
        self._lock: Callable[..., bool]  # filelock's two functions, from the first lock on:
        self._unlock: Callable[[int], None]  # a reader never pays for loading it

    def acquire(self) -> None:
        """Take the lock, or raise StoreBusy when `patience` ends."""
        deadline = None
        try:
            while True:
                if not self._fds:
                    self._open()
                for fd in self._fds:
                    if not self._try(fd):
                        if deadline is None:  # one patience for all that is waited for
                            deadline = time.monotonic() + self._patience()
                        self._wait(fd, deadline)
                if self._is_named():
                    return
                self._give_up()  # a lock on what has lost its name keeps nobody out
        except BaseException:  # Ctrl-C in a shell that lives on, a failing disk
            self._give_up()
            raise

    def _give_up(self) -> None:
        """Free what was taken, also where a forked process has the same open files; let go."""
        try:
            if self._fds:
                with suppress(OSError):  # a file system without locks, of which `_try` told
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
        # filelock is the lock that the files are promised under (see docs/architecture.md); what it
        # costs to load, half of an `enqueue`, is paid for that.
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
                raise gone(self._folder)  # what has its name by now is not a queue
            file = door.open_file(self.path, os.O_RDWR | os.O_CREAT)
        except BaseException:
            os.close(folder)
            raise
        self._fds, found = (folder, file), os.fstat(file)
        self._inodes = (above.st_dev, above.st_ino, found.st_dev, found.st_ino)

    def with_folder(self, action: Callable[[], None]) -> None:
        """Do something under the folder's lock alone: `queue.lock` itself is to be mended."""
        from filelock import lock_descriptor

        self._lock = lock_descriptor
        deadline = time.monotonic() + self._patience()
        held = [door.open_folder(self._folder)]
        try:
            with suppress(StoreError):  # what is not a file has no lock that a process could hold
                held.append(door.open_ours(self.path, os.O_RDWR, linked=True)[0])
            for fd in held:
                self._wait(fd, deadline)
            action()
        finally:
            for fd in held:
                os.close(fd)

    def is_there(self) -> bool:
        """Whether the folder that is locked still has its name; it may be moved at any time."""
        try:
            found = os.stat(self._folder)
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == self._inodes[:2]

    def close(self) -> None:
        """Let go of both files; the lock opens them anew."""
        fds, self._fds = self._fds, ()
        for fd in reversed(fds):
            os.close(fd)

    def _try(self, fd: int) -> bool:
        try:
            if fd not in self._fds[:1]:
                return self._lock(fd, blocking=False)
            # The same lock without filelock's checks: a worker takes it for each job.
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except (BlockingIOError, PermissionError):  # EACCES is what some file systems say instead
            return False
        except OSError as exc:
            # No soft lock instead: two kinds of lock on one queue would keep nobody out.
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
    """The process that holds the lock of an open file, as Linux tells it in /proc/locks."""
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
    """What to add of a holder that started this process, as `flock FOLDER queuectl ...` does."""
    above = os.getpid()
    while above > 1:
        with open(f"/proc/{above}/stat", "rb") as file:
            above = int(file.read().rpartition(b")")[2].split()[1])
        if above == pid:
            return ", which started this command and waits for it: leave the lock to queuectl"
    return ""
