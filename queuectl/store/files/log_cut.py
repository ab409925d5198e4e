"""Keeps the first and the last bytes, half of log-limit each, of a run's longer output.

The spool of such a run is cut while it runs: `WORKER.head.spool` gets its first bytes, once, and
`WORKER.tail.spool` its last ones, anew at each cut. Then the spool is emptied, and the run goes on
writing at its new end. What is written between copy and cut is lost, so numbers are "about".
A kill at any moment leaves enough for a rescue to assemble the log: a tail is whole or absent, and
without a tail nothing was cut, with or without a head. Until the spool is emptied the tail is
`WORKER.next.spool`; it holds the length of the spool, which shows whether it was emptied.
If the disk has little room, less is kept; if it has none for the parts, the spool keeps its first
half and a line that says so: a run must not fill the disk. The Spool in logs.py chooses the limit.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress

from queuectl.errors import DiskRefused, FileMissing
from queuectl.model.sizes import format_size
from queuectl.store import door
from queuectl.store.facts import LATER, SOON

MISSING = b"\n... some output not kept ...\n"  # for a reader that follows
_PARTS = ("new", "next", "tail", "head", "whole")  # in the order in which they are removed
_BLOCK = 1 << 20
_LEAST = 1_000_000  # bytes of a run that are kept however full the disk is
_FASTEST = 2e9  # bytes a second that a run is assumed to write at most
_NUMBERS = b"%020d %020d\n"  # begins a tail: bytes cut off before it, size of the spool then
_FRONT = 42


class Cuts:
    """The cuts of one worker's spool. `gone`: bytes cut off from the present run."""

    def __init__(self, spool: str) -> None:
        self.spool, self.gone = spool, 0
        self.looked: tuple[int, float] | None = None  # size and moment at the run's last look

    def path(self, part: str) -> str:
        """The path of a part: "head", "tail", the "whole" log, or a "new" one of them."""
        return f"{self.spool.removesuffix('spool')}{part}.spool"

    def look(self, fd: int, limit: int) -> float:
        """Cut the spool if it has more than `limit` bytes; returns seconds until the next look.

        Raises DiskRefused if there is no room for the parts; then nothing is cut.
        """
        size, now = os.fstat(fd).st_size, time.monotonic()
        if size > limit:
            self._cut(fd, size, limit // 2)
            self.looked = (0, now)
            return SOON
        before, at = self.looked or (0, now - SOON)
        grown, took = size - before, now - at
        self.looked = (size, now)
        # Half of the time until the limit at this pace, or at the disk's fastest.
        latest = min(LATER, free_of(fd) / (2 * _FASTEST))
        if grown > 0:
            latest = min(latest, (limit - size) * took / (2 * grown))
        return max(SOON, latest)

    def shorten(self, fd: int, limit: int) -> None:
        """Keep the first half of the spool on `fd`, and a line that reports the rest.

        For a disk that has no room for the parts.
        """
        half, size = limit // 2, os.fstat(fd).st_size
        if size > limit:
            door.truncate(fd, half, self.spool)
            self.looked = (half, time.monotonic())
            line = _line(size - half, _ends_line(fd, half), ": the disk was full")
            with suppress(DiskRefused):
                door.append(fd, line, half, self.spool)

    def _cut(self, fd: int, size: int, half: int) -> None:
        if not self.gone:
            self._put("head", _span(fd, 0, half))
        end = size

        def newest() -> Iterator[bytes]:
            """The last half, and what was written meanwhile."""
            nonlocal end
            yield _NUMBERS % (self.gone, size)
            yield from _span(fd, size - half, size)
            while end < size + 2 * half and (piece := os.pread(fd, _BLOCK, end)):
                end += len(piece)
                yield piece

        self._put("next", newest())
        size = os.fstat(fd).st_size
        last = os.pread(fd, _BLOCK, max(end, size - _BLOCK))
        door.truncate(fd, 0, self.spool)  # right after: what is written in between is lost
        self.gone += size
        if last:
            gap = size - end - len(last)  # the run wrote faster than this copied
            self._add("next", (_line(gap, False) if gap > 0 else b"") + last)
        door.rename(self.path("next"), self.path("tail"))

    def _put(self, part: str, chunks: Iterator[bytes]) -> None:
        door.write_unsynced(self.path("new"), chunks)
        door.rename(self.path("new"), self.path(part))

    def _add(self, part: str, data: bytes) -> None:
        path = self.path(part)
        fd = door.open_file(path, os.O_WRONLY | os.O_APPEND)
        with door.Closing(fd):
            door.append(fd, data, os.fstat(fd).st_size, path)

    def is_cut(self, fd: int) -> bool:
        """Whether any process has cut something off the spool on `fd`."""
        tail = self._tail(os.fstat(fd).st_size)
        if tail is not None:
            os.close(tail)
        return tail is not None

    def _tail(self, size: int) -> int | None:
        """The open tail of the last complete cut, judged by the size of the spool."""
        following = self._whole("next")
        if following is not None:
            if size < _numbers(following)[1]:
                return following
            os.close(following)
        return self._whole("tail")

    def _whole(self, part: str) -> int | None:
        """An open tail; None if there is none, or only what a power cut left of it."""
        fd = _opened(self.path(part))
        if fd is not None and len(_numbers(fd)) != 2:
            os.close(fd)
            return None
        return fd

    def assemble(self, fd: int, limit: int) -> str:
        """The path of a file with the whole log of the spool on `fd`: head, a line, and tail."""
        self._put("whole", self.kept(fd, limit))
        self.gone = self.gone or 1  # there is something to drop now
        return self.path("whole")

    def rescued(self, fd: int, limit: int) -> str:
        """The path of what becomes the log of a dead worker's run; "" if that wrote nothing."""
        size, whole = os.fstat(fd).st_size, self.path("whole")
        if os.path.lexists(whole):  # the worker was killed before the log got its name
            return whole
        if self.is_cut(fd) or 0 < limit < size:
            return self.assemble(fd, limit)
        return self.spool if size else ""

    def kept(self, fd: int, limit: int) -> Iterator[bytes]:
        """What is kept of the output so far: `limit` bytes; 0: all that the cuts left."""
        size = os.fstat(fd).st_size
        tail = self._tail(size)
        if tail is None:
            half = limit // 2
            yield from _span(fd, 0, half)
            yield _line(size - 2 * half, _ends_line(fd, half))
            yield from _span(fd, size - half, size)
            return
        head = _opened(self.path("head"))
        try:
            end = os.fstat(tail).st_size
            written = sum(_numbers(tail)) + size
            half = min(end - _FRONT, limit // 2 or end)
            if head is not None:
                yield from _span(head, 0, half)
            yield _line(written - 2 * half, head is None or _ends_line(head, half))
            yield from _span(tail, max(_FRONT, end - half + min(size, half)), end)
            yield from _span(fd, max(0, size - half), size)
        finally:
            os.close(tail)
            if head is not None:
                os.close(head)

    def end(self, most: int) -> bytes:
        """At most the last `most` bytes of those cut off and kept."""
        tail = _opened(self.path("tail"))
        if tail is None:
            return b""
        with door.Closing(tail):
            end = os.fstat(tail).st_size
            return b"".join(_span(tail, max(_FRONT, end - most), end))

    def drop(self) -> None:
        """Remove all parts, once the log has its name or nobody wants it."""
        for part in _PARTS:
            door.remove(self.path(part))
        self.gone = 0


def worker_of(name: str) -> str:
    """The id of the worker whose spool, or part of a spool, has this name."""
    worker = name.removesuffix(".spool")
    for part in _PARTS:
        worker = worker.removesuffix(f".{part}")
    return worker


def _numbers(tail: int) -> list[int]:
    front = os.pread(tail, _FRONT, 0)
    is_whole = len(front) == _FRONT and front.replace(b" ", b"").strip().isdigit()
    return [int(number) for number in front.split()] if is_whole else []


def fitting(fd: int, limit: int) -> int:
    """The limit, or less if the disk of the spool on `fd` has no room for four times the limit."""
    room = os.fstat(fd).st_size + free_of(fd)
    while limit > _LEAST and 4 * limit > room:
        limit = max(limit // 2, _LEAST)
    return limit


def free_of(fd: int) -> float:
    """Free bytes on the disk of a file; infinite if the system does not say."""
    disk = os.fstatvfs(fd)
    return disk.f_bavail * disk.f_frsize if disk.f_blocks else float("inf")


def _line(missing: int, fresh: bool, why: str = "") -> bytes:
    start = "" if fresh else "\n"
    return f"{start}... about {format_size(max(missing, 0))} not kept{why} ...\n".encode()


def _ends_line(fd: int, at: int) -> bool:
    return at == 0 or os.pread(fd, 1, at - 1) == b"\n"


def _span(fd: int, begin: int, end: int) -> Iterator[bytes]:
    while begin < end and (piece := os.pread(fd, min(_BLOCK, end - begin), begin)):
        yield piece
        begin += len(piece)


def _opened(path: str) -> int | None:
    with suppress(FileMissing):
        return door.open_file(path, os.O_RDONLY)
    return None
