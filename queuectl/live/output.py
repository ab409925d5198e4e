"""The output of a job on the screen of `top`: any part of it, whatever its length.

Only what is near the shown part is read, so a log of gigabytes costs no more than a short one.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import NamedTuple, TypeAlias

from queuectl.commands.render import cells, graphemes, one_line, unjoined
from queuectl.errors import StoreError
from queuectl.model.job import Job
from queuectl.store.output import Output

# Where a row of the screen begins: the byte at which its line begins, and its number in that line.
Position: TypeAlias = tuple[int, int]
_NEAR, _FAR = 1 << 15, 1 << 22  # bytes read around a position, at first and at most
_TAB = 8


class Wish(NamedTuple):
    """The wanted part of a job's output, for this many columns and rows.

    It begins `move` rows after `position`; without a position it is the growing end.
    """

    job_id: str
    position: Position | None
    move: int
    columns: int
    rows: int
    wrap: bool


class Page(NamedTuple):
    """Lines of output with their positions; `size`: bytes of the whole output."""

    lines: tuple[str, ...] = ()
    position: Position = (0, 0)
    size: int = 0
    at_end: bool = True


def read_page(logs: Output, job: Job, wish: Wish) -> Page:
    """The wished page of a job's output; an empty one if there is no output."""
    try:
        log = logs.open(job)
        if log is None:
            return Page()
        with closing(log):
            return turn(lambda begin, end: log.read(begin, end - begin), log.size, wish)
    except StoreError:
        return Page()


def turn(read: Callable[[int, int], bytes], size: int, wish: Wish) -> Page:
    """The wished page of `size` bytes; `read` gives the bytes between two offsets."""
    near = _NEAR
    while True:
        wanted = wish.position
        middle = size if wanted is None else min(wanted[0], size)
        begin, end = max(0, middle - near), min(size, middle + near)
        data = read(begin, end)
        torn = begin > 0 and data.find(b"\n", 0, middle - begin) < 0
        rows = list(_rows(data, begin, end == size, wish))
        positions = [position for position, _ in rows]
        at = len(rows) - wish.rows if wanted is None else bisect_left(positions, wanted)
        at += wish.move
        enough = (at >= 0 or begin == 0) and (at + wish.rows <= len(rows) or end == size)
        if (enough and not torn) or near >= _FAR:
            break
        near *= 4
    at = max(0, min(at, len(rows) - wish.rows))
    shown = rows[at : at + wish.rows]
    at_end = end == size and at + wish.rows >= len(rows)
    lines = tuple(text for _, text in shown)
    return Page(lines, shown[0][0] if shown else (0, 0), size, at_end)


def _rows(data: bytes, begin: int, whole: bool, wish: Wish) -> Iterator[tuple[Position, str]]:
    """The rows of the screen for some bytes of output, each with its position.

    The bytes may begin and (unless `whole`) end inside a line: such parts are left out.
    """
    lines = data.split(b"\n")
    offset = begin
    if begin and len(lines) > 1:
        offset += len(lines.pop(0)) + 1
    if (lines[-1] == b"" or not whole) and len(lines) > 1:
        del lines[-1]
    if lines == [b""]:
        return
    for line in lines:
        # A line overwritten with carriage returns shows what was written last.
        last = line.rstrip(b"\r").rpartition(b"\r")[2]
        text = unjoined(one_line(last.decode("utf-8", "replace").expandtabs(_TAB)))
        for row, part in enumerate(wrapped(text, wish.columns) if wish.wrap else (text,)):
            yield (offset, row), part
        offset += len(line) + 1


def wrapped(text: str, columns: int) -> Iterator[str]:
    """The text in parts of at most `columns` columns; at least one part."""
    if text.isascii():
        for at in range(0, max(1, len(text)), columns):
            yield text[at : at + columns]
        return
    row, taken = "", 0
    for part in graphemes(text):
        width = cells(part)
        if taken + width > columns and row:
            yield row
            row, taken = "", 0
        row, taken = row + part, taken + width
    yield row
