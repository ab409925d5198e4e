"""The lock of the queue: one writer at a time, on a descriptor that stays open."""

from __future__ import annotations

import os
import time

from queuectl.errors import StoreBusy, StoreError
from queuectl.store import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_FIRST_PAUSE, _LONGEST_PAUSE = 0.0001, 0.001  # seconds


class QueueLock:
    """The exclusive lock of a data folder, a context manager; not re-entrant.

    `patience` gives the seconds to wait for it; it is asked only when another process has it.
    """

    def __init__(self, folder: str, patience: Callable[[], float]) -> None:
        self.path = os.path.join(folder, "queue.lock")
        self._patience = patience
        self._fd = -1
        self._inode = 0
        self._lock: Callable[..., bool]  # filelock's two functions, from the first lock on:
        self._unlock: Callable[[int], None]  # who only reads never pays for loading it

    def acquire(self) -> None:
        """Take the lock, or raise StoreBusy when `patience` ends."""
        try:
            self._acquire()
        except BaseException:  # Ctrl-C in a shell that lives on, a failing disk
            self.close()
            raise

    def _acquire(self) -> None:
        while True:
            if self._fd < 0:
                self._open()
            if not self._try():
                self._wait()
            if self._is_named():
                return
            self.close()  # somebody removed the file: its lock keeps nobody out

    def release(self) -> None:
        """Free the lock; it must be held."""
        self._unlock(self._fd)

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()

    def _open(self) -> None:
        from filelock import lock_descriptor, unlock_descriptor

        self._lock, self._unlock = lock_descriptor, unlock_descriptor
        self._fd = files.open_file(self.path, os.O_RDWR | os.O_CREAT)
        self._inode = os.fstat(self._fd).st_ino

    def close(self) -> None:
        """Let go of the file; the lock opens it anew."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _try(self) -> bool:
        try:
            return self._lock(self._fd, blocking=False)
        except OSError as exc:
            # No soft lock instead: two kinds of lock on one queue would keep nobody out.
            raise StoreError(
                f"{self.path}: this file system has no locks ({exc.strerror}); "
                "name a folder on another with --data DIR"
            ) from exc

    def _wait(self) -> None:
        deadline = time.monotonic() + self._patience()
        pause = _FIRST_PAUSE
        while not self._try():
            if time.monotonic() >= deadline:
                raise StoreBusy(
                    f"{self.path} is held by {self._holder()}; "
                    "nothing was changed: try again, or raise lock-timeout"
                )
            time.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE)

    def _is_named(self) -> bool:
        try:
            return os.stat(self.path).st_ino == self._inode
        except FileNotFoundError:
            return False

    def _holder(self) -> str:
        """Who holds the lock, as Linux tells it in /proc/locks."""
        inode = b":%d" % os.fstat(self._fd).st_ino
        try:
            with open("/proc/locks", "rb") as file:
                for line in file:
                    words = line.split()
                    if words[1] == b"FLOCK" and words[5].endswith(inode):
                        return f"process {int(words[4])}"
        except (OSError, IndexError):
            pass
        return "another process"
