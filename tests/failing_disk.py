"""A disk that fails at the n-th call: it replaces the `os` in store/door.py.

    with failing_disk(at=3, how="die after"):
        store.add(jobs)

`how`: "die before", "die after" or "die half-way" through the n-th call (as killed there: no later
call does anything either); "once" (the n-th call fails, ENOSPC) or "full" (and all later writes).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

from queuectl.store import door

DEATHS = ("die before", "die after", "die half-way")
_CHANGES = ("write", "fsync", "rename", "link", "unlink", "ftruncate", "chmod", "makedirs", "mkdir")
_CHANGES += ("mkfifo",)
_NEEDS_ROOM = ("write", "rename", "link", "makedirs", "mkdir", "mkfifo", "create")


class Killed(BaseException):
    """The process would be dead here."""


def killed(*_: object) -> NoReturn:
    """Stands in for what the process does not live to do."""
    raise Killed


class Disk:
    """Passes everything on to `os`; what changes the disk goes through `change`."""

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name == "open":
            return lambda path, flags, *rest, **more: (
                self.change("create", real, path, flags, *rest, **more)
                if flags & os.O_TRUNC or (flags & os.O_CREAT and not os.path.exists(path))
                else real(path, flags, *rest, **more)
            )
        if name not in _CHANGES:
            return real
        return lambda *args, **more: self.change(name, real, *args, **more)

    def change(self, name: str, real: Any, *args: Any, **more: Any) -> Any:
        """Do one thing to the disk: by default just that."""
        return real(*args, **more)


class FailingDisk(Disk):
    """Counts what changes the disk in `calls`, and fails as the module says.

    `die` is what happens instead of a death; `error` the number of what "once" and "full" raise;
    `lasts`: so many calls after the n-th the disk is sound again (None: never). `half` gives how
    many of a write's bytes are written when it dies or fails half-way. `under` is the disk below.
    """

    def __init__(
        self,
        at: int,
        how: str,
        *,
        error: int = errno.ENOSPC,
        lasts: int | None = None,
        die: Callable[[], NoReturn] = killed,
        half: Callable[[int], int] = lambda size: size // 2,
        under: Disk | None = None,
    ) -> None:
        self.at, self.how, self.error, self.lasts = at, how, error, lasts
        self.calls: list[str] = []
        self.broken = False
        self._die, self._half, self._under = die, half, under or Disk()

    def change(self, name: str, real: Any, *args: Any, **more: Any) -> Any:
        """Do it, or fail at it."""
        if self.broken and self.how.startswith("die"):
            self._die()
        self.calls.append(name)
        if len(self.calls) == self.at:
            self.broken = True
            return self._break(name, real, *args, **more)
        if self.broken and self.how == "full" and name in _NEEDS_ROOM and not self._is_over():
            raise OSError(self.error, os.strerror(self.error))
        return self._under.change(name, real, *args, **more)

    def _is_over(self) -> bool:
        return self.lasts is not None and len(self.calls) > self.at + self.lasts

    def _break(self, name: str, real: Any, *args: Any, **more: Any) -> Any:
        part = args
        if name == "write":
            part = (args[0], bytes(args[1])[: self._half(len(args[1]))])
        if self.how in ("once", "full"):
            if name == "write" and part[1]:
                self._under.change(name, real, *part)
            raise OSError(self.error, os.strerror(self.error))
        if self.how == "die half-way" and name == "write":
            self._under.change(name, real, *part)
        elif self.how == "die after":
            self._under.change(name, real, *args, **more)
        return self._die()


@contextmanager
def failing_disk(at: int, how: str, **more: Any) -> Iterator[FailingDisk]:
    """Until the block ends; a Killed that comes out of it ends here."""
    disk = FailingDisk(at, how, **more)
    with standing_in(disk), suppress(Killed):
        yield disk


@contextmanager
def standing_in(disk: Disk) -> Iterator[None]:
    """Until the block ends, door.py has this disk."""
    real, door.os = door.os, disk  # type: ignore[assignment]
    try:
        yield
    finally:
        door.os = real
