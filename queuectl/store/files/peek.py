"""The newest jobs of some states as a menu shows them, read from the bytes of their lines.

Each Tab in another shell loads this anew: unless a job file was edited, it imports only zlib and
what a bare interpreter has loaded. No call takes the queue's lock.
"""

from __future__ import annotations

import os
from itertools import islice

from queuectl.errors import StoreBusy
from queuectl.places import DEAD, JOBS, JOURNAL, SETTINGS, WORKERS
from queuectl.store import door
from queuectl.store.files import marker
from queuectl.store.files.journal import Journal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from typing import NoReturn

    from queuectl.store.files.snapshot import Snapshot

# Bytes searched at once, and the factor for later chunks, where fewer calls matter more. A search
# blocks other threads, so it must take less than a millisecond.
_CHUNK, _GROWN = 1 << 16, 4
_FEW = 2000  # jobs; reading so many lines is faster than searching a large file
_FRONT = b'{"id": "'
_STATE = b'", "state": "'  # directly after the id; a removal has "removed" there
_TAGS = b'Z", "tags": ['  # directly after the due time
_WATCHED = (JOURNAL, JOBS, DEAD, SETTINGS, WORKERS)
_SHOWN = 1000  # characters of a command
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f"}


def queue_mark(path: str) -> tuple[object, ...]:
    """A value that differs from an earlier one if jobs, settings or the workers changed."""
    return tuple([door.change_mark(os.path.join(path, name)) for name in _WATCHED])


class Seen:
    """What a menu shows of a job; of a long command only the beginning. Times are RFC 3339 text."""

    __slots__ = ("command", "id", "started_at", "state", "updated_at")

    def __init__(self, line: bytes) -> None:
        """Raises ValueError for a line that `encode_job` did not write."""
        end = line.index(_STATE)
        begin = end + len(_STATE)
        self.id = line[len(_FRONT) : end].decode()
        self.state = line[begin : line.index(b'"', begin)].decode()
        # A quote within JSON text has a backslash before it, so no text can look like these keys.
        begin = line.index(b'"command": "', begin) + 12
        end = line.index(b'", "max_retries": ', begin)
        self.command = _plain_text(line[begin : min(end, begin + 4 * _SHOWN)])
        self.updated_at = _time_behind(line, b', "updated_at": "', end) or ""
        self.started_at = _time_behind(line, b', "started_at": "', end)


def _time_behind(line: bytes, key: bytes, start: int) -> str | None:
    at = line.find(key, start) + len(key)
    return line[at : line.index(b'"', at)].decode() if at >= len(key) else None


def _plain_text(written: bytes) -> str:
    """The beginning of a text without its JSON escapes."""
    text = written.decode(errors="ignore")[:_SHOWN]
    first, *parts = text.split("\\")
    plain, parts = [first], parts[::-1]
    while parts:
        part = parts.pop()
        if not part:  # two backslashes are one
            plain.append("\\" + (parts.pop() if parts else ""))
        elif part[0] == "u":
            plain.append((chr(int(part[1:5], 16)) if len(part) > 4 else "") + part[5:])
        else:
            plain.append(_ESCAPED.get(part[0], part[0]) + part[1:])
    return "".join(plain)


class Peek:
    """The queue as it was when this was made; close it when done. Not for two threads at once."""

    def __init__(self, path: str, now: float) -> None:
        self._path = path
        self._lines: NewestLines | None = None
        self._opened: list[int] = []
        self._journal: Journal | None = None
        self._snapshot: Snapshot | None = None
        if not marker.check_folder(path) or marker.is_new(path):
            return
        try:
            plain = self._read_plain(now)
        except BaseException:
            self.close()
            raise
        if not plain:
            self.close()
            self._read_anything(now)

    def close(self) -> None:
        """Close the files; may be called twice."""
        self._lines = None
        if self._journal is not None:
            self._journal.close()
        while self._opened:
            os.close(self._opened.pop())
        if self._snapshot is not None:
            self._snapshot.close()
        self._journal = self._snapshot = None

    def newest(self, states: Collection[str] | None, start: str, most: int) -> list[Seen]:
        """At most `most` jobs in these states (None: any), newest first. `start`: of their ids."""
        if self._lines is None:
            return []
        with door.Reading(self._path):
            return [Seen(line) for line in self._lines.find(states, start, most)]

    def tags(self) -> list[str]:
        """The tags of the newest jobs with tags, each once."""
        if self._lines is None:
            return []
        with door.Reading(self._path):
            return [*dict.fromkeys([tag for line in self._lines.tagged() for tag in _tags(line)])]

    def _read_plain(self, now: float) -> bool:
        """Open a queue whose files are as queuectl wrote them; False if that is not certain."""
        journal = self._journal = Journal.for_reading(self._path)
        for name, stamp in zip((JOBS, DEAD), journal.header.stamps, strict=True):
            fd, found = door.open_ours(os.path.join(self._path, name), os.O_RDONLY)
            self._opened.append(fd)
            if not stamp.fits(found) or door.is_young(found.st_mtime_ns, now):
                return False
        journal.read_on()
        if journal.edited or not journal.is_current():
            return False
        overlay = {line[len(_FRONT) : line.index(b'"', 8)]: line for line in journal.all_lines()}
        self._lines = NewestLines(overlay, self._opened, journal.counts)
        return True

    def _read_anything(self, now: float) -> None:
        from queuectl.store.files.snapshot import Snapshot

        self._snapshot = Snapshot.read(self._path, now, no_lock, patience=0.0)
        self._lines = lines_of(self._snapshot)


class NewestLines:
    """The lines of jobs, newest first: those of `overlay` by id, then those of both job files.

    `files` are two descriptors of files in our layout, or two calls that give lines. `counts` are
    the jobs by state, None if that is not known.
    """

    def __init__(
        self,
        overlay: dict[bytes, bytes],
        files: Sequence[int | Callable[[], Iterator[bytes]]],
        counts: Mapping[str, int] | None,
    ) -> None:
        self._overlay = overlay
        self._files = files
        self._counts = counts

    def find(self, states: Collection[str] | None, start: str, most: int) -> Iterator[bytes]:
        """At most `most` lines of jobs in these states (None: any) whose ids begin with `start`."""
        left = -1  # jobs in these states not seen yet, if that is known
        if self._counts is not None:
            counts = self._counts.items()
            here = {s: n for s, n in counts if n and (states is None or s in states)}
            left = sum(here.values())
            states = states and tuple(here)
        if most <= 0 or not left:
            return
        wanted = _Wanted(states, start, 0 <= left < _FEW)
        for line in self._all(wanted):
            left -= 1
            if line.startswith(wanted.front):
                yield line
                most -= 1
            if not (most and left):
                return

    def tagged(self) -> Iterator[bytes]:
        """The lines of the newest jobs with tags; only a few lines are read."""
        return islice(self._all(_Tagged()), _FEW)

    def _all(self, wanted: _Wanted | _Tagged) -> Iterator[bytes]:
        overlay = self._overlay
        for line in reversed(overlay.values()):
            if wanted.has(line):
                yield line
        for at, source in enumerate(self._files):
            if not wanted.may_be_dead if at else wanted.only_dead:
                continue
            lines = _backward(source, wanted) if isinstance(source, int) else source()
            for line in lines:
                if wanted.has(line) and line[8 : line.index(b'"', 8)] not in overlay:
                    yield line


class _Wanted:
    """Which lines are wanted; `few`: the number of jobs in these states, if known."""

    def __init__(self, states: Collection[str] | None, start: str, few: bool) -> None:
        self.only_dead = states is not None and set(states) == {"dead"}
        self.may_be_dead = states is None or "dead" in states
        self.front = _FRONT + start.encode()
        self._states = tuple([_STATE + f'{state}"'.encode() for state in states or ("",)])
        if states is None:
            self._states = (_STATE,)
        # Text that every wanted line contains, and few others; each is a separate search.
        by_state = states is not None and (not start or (few and len(states) == 1))
        self.needles = self._states if by_state else (b"\n" + self.front,)

    def has(self, line: bytes) -> bool:
        """Whether this is the line of a job in these states; the id is not checked."""
        return line.startswith(_FRONT) and line.startswith(self._states, line.index(b'"', 8))


class _Tagged:
    """_Wanted for the lines of jobs with tags."""

    only_dead, may_be_dead, needles = False, True, (_TAGS,)

    def has(self, line: bytes) -> bool:
        """Whether this is the line of a job with tags."""
        return _TAGS in line


def _tags(line: bytes) -> list[str]:
    at = line.index(_TAGS) + len(_TAGS)
    words = line[at : line.index(b"]", at)].decode().split(", ")
    # What an older version accepted from a person may be anything.
    return [word[1:-1] for word in words if word[:1] == '"' and "\\" not in word]


def _backward(fd: int, wanted: _Wanted | _Tagged) -> Iterator[bytes]:
    """The wanted lines of a file in our layout, the last one first."""
    end, size, rare = os.fstat(fd).st_size, _CHUNK, b""
    while end > 0:
        begin = max(0, end - size)
        data = os.pread(fd, end - begin, begin)
        # What precedes the first newline belongs to a line of the chunk before; a file begins
        # with a line of its own, the opening bracket.
        cut = data.find(b"\n")
        if cut < 0:
            if not begin:
                return
            size *= 2  # the line is longer than the chunk
            continue
        if rare in data:  # one byte is found ten times as fast as longer text
            for at in _line_starts(data, cut, wanted.needles):
                stop = data.find(b"\n", at)
                yield data[at : stop if stop >= 0 else len(data)].rstrip(b",")
        if not rare and len(wanted.needles) == 1:
            rare = min([bytes([byte]) for byte in set(wanted.needles[0])], key=data.count)
        end, size = begin + cut, min(2 * size, _GROWN * _CHUNK)


def _line_starts(data: bytes, cut: int, needles: tuple[bytes, ...]) -> Iterable[int]:
    """Where lines that contain a needle begin, the last one first, from `cut` on."""
    if len(needles) > 1:
        found = [at for needle in needles for at in _line_starts(data, cut, (needle,))]
        return sorted(set(found), reverse=True)
    return _starts_with(data, cut, needles[0])


def _starts_with(data: bytes, cut: int, needle: bytes) -> Iterator[int]:
    at = len(data)
    while (at := data.rfind(needle, cut, at)) >= 0:
        at = data.rfind(b"\n", 0, at + 1)
        if at < cut:
            return
        yield at + 1


def no_lock() -> NoReturn:
    """Raise StoreBusy: a Tab does not wait for a queue that changes faster than it can be read."""
    raise StoreBusy("the queue changes too fast to be read without its lock")


def lines_of(snapshot: Snapshot) -> NewestLines:
    """The newest lines of a snapshot, which must stay open."""
    if snapshot.edited:
        return NewestLines(snapshot.overlay, (snapshot.base_jobs, snapshot.base_dead), None)
    fds = [base.fd for base in snapshot.bases]
    return NewestLines(snapshot.overlay, fds, snapshot.journal.counts)
