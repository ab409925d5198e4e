"""Lines of new jobs until they are in the journal: in memory, or, of very many, in a file.

A large `enqueue --file` must cost little memory, and be accepted as a whole or not at all.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from zlib import crc32

from queuectl.errors import DuplicateId, InvalidInput
from queuectl.model.job import Job
from queuectl.store.files import door
from queuectl.store.files.job_files import checked_line, line_state

FEW = 8 << 20  # bytes of lines that are held in memory
_PIECE = 1 << 20  # bytes that are written and read at once


class Staged:
    """The lines, whatever holds them; `close` it when they are in the journal.

    `counts`: how many there are by state; `size` and `crc`: those of the payload of their record.
    """

    def __init__(self, path: Callable[[], str], lines: Iterable[bytes]) -> None:
        """Read all the lines. `path` makes the folder in which a file is written, if needed."""
        self.counts: dict[str, int] = {}
        self.size = self.crc = 0
        self.lines: list[bytes] | None = []  # None: they are in the file
        self._fd = -1
        counted = map(self._counted, lines)
        held = self.lines
        for line in counted:
            held.append(line)
            if self.size > FEW:
                self.lines = None
                self._fd = door.write_nameless(path(), _pieces(chain(held, counted)))

    def _counted(self, line: bytes) -> bytes:
        state = (line_state(line) or b"").decode()
        self.counts[state] = self.counts.get(state, 0) + 1
        self.size += len(line) + 1
        self.crc = crc32(b"\n", crc32(line, self.crc))
        return line

    def moves(self) -> Iterator[tuple[None, str]]:
        """The way of each job into its state."""
        for state, count in self.counts.items():
            for _ in range(count):
                yield None, state

    def pieces(self) -> Iterator[bytes]:
        """The payload, a part at a time."""
        return _pieces(self)

    def __iter__(self) -> Iterator[bytes]:
        if self.lines is not None:
            yield from self.lines
            return
        with open(os.dup(self._fd), "rb", buffering=_PIECE) as file:
            file.seek(0)
            for line in file:
                yield line[:-1]

    def close(self) -> None:
        """Let go of the file, which has no name; may be called twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def new_lines(jobs: Iterable[Job], order: dict[str, int] | None) -> Iterator[bytes]:
    """The jobs' lines; `order` is given the index of each id, and none may stand there twice."""
    for index, job in enumerate(jobs):
        if order is not None:
            if job.id in order:
                raise DuplicateId(job.id, "the same input", index)
            order[job.id] = index
        try:
            line = checked_line(job)
        except InvalidInput as exc:
            exc.index = index
            raise
        yield line


def _pieces(lines: Iterable[bytes]) -> Iterator[bytes]:
    batch: list[bytes] = []
    size = 0
    for line in lines:
        batch += (line, b"\n")
        size += len(line)
        if size >= _PIECE:
            yield b"".join(batch)
            batch.clear()
            size = 0
    yield b"".join(batch)
