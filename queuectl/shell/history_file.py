"""The history file, shared by all shells of this user.

One entry for each line; a backslash, a newline and a carriage return inside an entry are escaped,
so that a person can read and grep the file. An entry is added by one appending write under a lock,
so that two shells never tear each other's entries. The newest 10,000 are kept.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
import time
from collections.abc import Mapping

from queuectl.places import expand, is_anothers, state_folder
from queuectl.store import door

MOST = 10_000  # entries
_LARGEST = 16 << 20  # bytes read at once
_SLACK = 500  # entries beyond MOST before the file is rewritten, so that not every shell does it
_PATIENCE = 0.3  # seconds for the lock; typing must not hang because another shell was stopped
_ESCAPES = {"\\": "\\\\", "\n": "\\n", "\r": "\\r"}
_ESCAPED = str.maketrans(_ESCAPES)
_ESCAPE, _MEANING = re.compile(r"\\(.?)"), {"n": "\n", "r": "\r"}


def history_path(environ: Mapping[str, str]) -> str:
    """QUEUECTL_HISTORY, else `queuectl/history` in the user's state folder, else /dev/null."""
    named = environ.get("QUEUECTL_HISTORY")
    if named:
        return expand(named) or os.devnull
    folder = state_folder(environ)
    return os.path.join(folder, "history") if folder and not is_anothers(folder) else os.devnull


class HistoryFile:
    """Adds entries and returns those added since the last look. Methods may raise OSError."""

    def __init__(self, path: str) -> None:
        self.path = _target(path)
        self._inode = 0
        self._read_to = 0

    def append(self, entry: str) -> None:
        """Add one entry at the end, whole or not at all; OSError if the disk is full."""
        data = entry.translate(_ESCAPED).encode("utf-8", "surrogateescape") + b"\n"
        os.makedirs(os.path.dirname(self.path) or ".", 0o700, exist_ok=True)
        fd = self._open_locked()
        with door.Closing(fd):
            size = os.fstat(fd).st_size
            if size and os.pread(fd, 1, size - 1) != b"\n":
                data = b"\n" + data  # what another program left stays a separate entry
            try:
                if os.write(fd, data) != len(data):
                    raise OSError("the disk is full")
            except OSError:
                os.ftruncate(fd, size)
                raise

    def news(self) -> tuple[list[str], bool]:
        """The entries added since the last call, oldest first, and whether these are all entries.

        Also cuts a file that grew too long to its newest entries.
        """
        try:
            fd = _open(self.path, os.O_RDONLY)
        except FileNotFoundError:
            return [], False
        with door.Closing(fd):
            found = os.fstat(fd)
            fresh = found.st_ino != self._inode or found.st_size < self._read_to
            start = 0 if fresh else self._read_to
            data = _read(fd, start, found.st_size)
        whole = data.rfind(b"\n") + 1  # a line still being written is left for the next look
        self._inode, self._read_to = found.st_ino, found.st_size - len(data) + whole
        lines = data[:whole].split(b"\n")[:-1]
        if fresh and len(lines) > MOST + _SLACK:
            self._trim()
        return [_unescaped(line) for line in lines[-MOST:] if line], fresh

    def _open_locked(self) -> int:
        """The file, open for appending and locked; the lock goes with the descriptor."""
        while True:
            fd = _open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
            try:
                _lock(fd)
                if os.stat(self.path).st_ino == os.fstat(fd).st_ino:
                    return fd
            except FileNotFoundError:
                pass
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)  # it was trimmed meanwhile: a write here would be lost

    def _trim(self) -> None:
        """Replace the file by its newest entries; a shell that appends meanwhile waits for us."""
        fd = self._open_locked()
        with door.Closing(fd):
            lines = _read(fd, 0, os.fstat(fd).st_size).split(b"\n")
            kept = b"\n".join(lines[-MOST - 1 :])
            self._remove_leftovers()
            fresh = f"{self.path}.{os.urandom(8).hex()}.new"
            with open(_open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as file:
                file.write(kept)
            os.rename(fresh, self.path)
            found = os.stat(self.path)
            self._inode, self._read_to = found.st_ino, found.st_size

    def _remove_leftovers(self) -> None:
        """Remove what a shell that was killed while trimming left; under the lock."""
        folder, name = os.path.split(os.path.abspath(self.path))
        left = re.compile(rf"{re.escape(name)}\.[0-9a-f]{{16}}\.new")
        for other in filter(left.fullmatch, os.listdir(folder)):
            os.unlink(os.path.join(folder, other))


def _target(path: str) -> str:
    """The path, or the target of a link there that is this user's own.

    People keep such files elsewhere; another user's link is not followed.
    """
    try:
        own = os.lstat(path).st_uid == os.geteuid()
    except OSError:
        return path
    return os.path.realpath(path) if own else path


def open_plain(path: str, flags: int = os.O_RDONLY) -> int:
    """A descriptor of a plain file or /dev/null; OSError for anything else. Never blocks."""
    fd = os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY, 0o600)
    found = os.fstat(fd)
    is_null = stat.S_ISCHR(found.st_mode) and found.st_rdev == os.stat(os.devnull).st_rdev
    if not (stat.S_ISREG(found.st_mode) or is_null):
        os.close(fd)
        raise OSError(errno.EINVAL, "not a plain file", path)
    return fd


def _open(path: str, flags: int) -> int:
    return open_plain(path, flags | os.O_NOFOLLOW)


def _lock(fd: int) -> None:
    """Lock the file, or go on without a lock soon: one write with O_APPEND is nearly as good."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError:
            if time.monotonic() >= deadline:
                return
            time.sleep(0.001)


def _read(fd: int, start: int, end: int) -> bytes:
    """The file between two offsets; if that is too much, its end from the start of a line on."""
    parts, at = [], max(start, end - _LARGEST)
    is_cut = at > start
    while at < end and (part := os.pread(fd, end - at, at)):
        parts.append(part)
        at += len(part)
    data = b"".join(parts)
    return data.partition(b"\n")[2] if is_cut else data


def _unescaped(line: bytes) -> str:
    text = line.decode("utf-8", "surrogateescape")
    if "\\" not in text:
        return text
    return _ESCAPE.sub(lambda found: _MEANING.get(found[1], found[1]), text)
