"""What a detached worker itself has to say: to a file, and to whoever started it."""

from __future__ import annotations

import os
import select
import time
from contextlib import suppress

from queuectl.model.times import format_time
from queuectl.store import door


class OwnLog:
    """The file that a detached worker's stderr goes to, if it was given one."""

    def __init__(self, path: str | None) -> None:
        self._path = path

    def name_for(self, worker_id: str) -> None:
        """Give it a name that tells whose log it is, so that it can be tidied away later."""
        if self._path is not None:
            named = os.path.join(os.path.dirname(self._path), f"worker-{worker_id}.log")
            os.rename(self._path, named)
            self._path = named

    def drop_if_empty(self) -> None:
        """Remove it at the worker's end if nothing was said."""
        if self._path is not None and not os.fstat(2).st_size:
            door.remove(self._path)


class Starter:
    """The starter of the worker, which waits at the other end of a pipe to hear how that went."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def tell(self, line: str) -> None:
        """Say it, the first time only."""
        if self._fd < 0:
            return
        fd, self._fd = self._fd, -1
        try:
            os.write(fd, line.encode("utf-8", "replace")[: select.PIPE_BUF])
        except BrokenPipeError:
            return  # it is gone; the worker works on
        finally:
            os.close(fd)


def to_stderr(text: str) -> None:
    """Say it with its time."""
    with suppress(OSError):  # a full disk or a closed terminal; the work goes on
        os.write(2, f"{format_time(time.time())} {text}\n".encode("utf-8", "replace"))
