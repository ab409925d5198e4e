"""Reading any part of a run's output, from files or MongoDB."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from queuectl.store.output import Printed

_BLOCK = 65_536
PIECE = 1 << 18  # bytes read at once; MongoDB keeps this many in a document


class PrintedFile:
    """Output in a file; methods without a docstring: see Printed."""

    def __init__(self, fd: int) -> None:
        self._fd, self.size = fd, os.fstat(fd).st_size

    def read(self, begin: int, most: int) -> bytes:
        """See Printed; also returns what was written since it was opened."""
        return os.pread(self._fd, most, begin)

    def close(self) -> None:
        os.close(self._fd)


def rest(log: Printed, begin: int) -> Iterator[bytes]:
    """The output from an offset to its end when it was opened; closes it."""
    with closing(log):
        while piece := log.read(begin, min(PIECE, max(0, log.size - begin))):
            yield piece
            begin += len(piece)


def start_of_tail(log: Printed, lines: int) -> int:
    """The offset where the last `lines` lines start."""
    end = log.size
    if lines <= 0:
        return end
    start = end
    # A newline at the very end ends the last line and starts none.
    ends_line = end > 0 and log.read(end - 1, 1) == b"\n"
    wanted = lines + 1 if ends_line else lines
    while start > 0:
        size = min(_BLOCK, start)
        block = log.read(start - size, size)
        at = size
        while (at := block.rfind(b"\n", 0, at)) >= 0:
            wanted -= 1
            if wanted == 0:
                return start - size + at + 1
        start -= size
    return 0
