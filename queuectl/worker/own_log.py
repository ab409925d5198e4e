"""What a detached worker itself reports: to a file and to its starter."""

from __future__ import annotations

import os
import select
import time
from contextlib import suppress

from queuectl.model.times import format_time
from queuectl.store import door


class OwnLog:
    """The file for a detached worker's stderr, if it got one."""

    def __init__(self, path: str | None) -> None:
        self._path = path

    def name_for(self, worker_id: str) -> None:
        """Name it after its worker, so that it can be tidied away later."""
        if self._path is not None:
            named = os.path.join(os.path.dirname(self._path), f"worker-{worker_id}.log")
            os.rename(self._path, named)
            self._path = named

    def drop_if_empty(self) -> None:
        """Remove it at the worker's end if it is empty."""
        if self._path is not None and not os.fstat(2).st_size:
            door.remove(self._path)


class Starter:
    """The starter of the worker, which waits at the other end of a pipe for the result."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def tell(self, line: str) -> None:
        """Send the line; only the first call does."""
        if self._fd < 0:
            return
        fd, self._fd = self._fd, -1
        try:
            os.write(fd, line.encode("utf-8", "replace")[: select.PIPE_BUF])
        except BrokenPipeError:
            return  # the starter is gone; the worker goes on
        finally:
            os.close(fd)


def to_stderr(text: str) -> None:
    """Write the text to stderr with the time."""
    with suppress(OSError):  # a full disk or a closed terminal; the work goes on
        os.write(2, f"{format_time(time.time())} {text}\n".encode("utf-8", "replace"))
