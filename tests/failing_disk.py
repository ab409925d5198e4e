"""A disk that fails at the n-th thing done to it: it stands in for `os` in queuectl.store.files.

    with failing_disk(at=3, how="die after"):
        store.add(jobs)

`how`: "die before", "die after" or "die half-way" through the n-th call (as killed there: no later
call does anything either); "once" (the n-th call fails, ENOSPC) or "full" (and all later writes).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from queuectl.store import files

DEATHS = ("die before", "die after", "die half-way")
_CHANGES = ("write", "fsync", "rename", "unlink", "ftruncate", "chmod", "makedirs", "mkdir")
_NEEDS_ROOM = ("write", "rename", "makedirs", "mkdir", "create")


class Killed(BaseException):
    """The process would be dead here."""


class FailingDisk:
    """Passes everything on to `os`, counting what changes the disk in `calls`."""

    def __init__(self, at: int, how: str) -> None:
        self.at, self.how = at, how
        self.calls: list[str] = []
        self.broken = False

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name == "open":
            return lambda path, flags, *rest, **more: (
                self._do("create", real, path, flags, *rest, **more)
                if flags & os.O_CREAT and not os.path.exists(path)
                else real(path, flags, *rest, **more)
            )
        if name not in _CHANGES:
            return real
        return lambda *args, **more: self._do(name, real, *args, **more)

    def _do(self, name: str, real: Any, *args: Any, **more: Any) -> Any:
        if self.broken and self.how.startswith("die"):
            raise Killed
        self.calls.append(name)
        if len(self.calls) == self.at:
            self.broken = True
            return self._break(name, real, *args, **more)
        if self.broken and self.how == "full" and name in _NEEDS_ROOM:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*args, **more)

    def _break(self, name: str, real: Any, *args: Any, **more: Any) -> Any:
        if self.how in ("once", "full"):
            if name == "write" and len(args[1]) > 1:
                real(args[0], bytes(args[1])[: len(args[1]) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if self.how == "die half-way" and name == "write":
            real(args[0], bytes(args[1])[: len(args[1]) // 2])
        elif self.how == "die after":
            real(*args, **more)
        raise Killed


@contextmanager
def failing_disk(at: int, how: str) -> Iterator[FailingDisk]:
    """Until the block ends; a Killed that comes out of it ends here."""
    disk = FailingDisk(at, how)
    real, files.os = files.os, disk  # type: ignore[assignment]
    try:
        yield disk
    except Killed:
        pass
    finally:
        files.os = real
