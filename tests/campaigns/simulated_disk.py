"""A disk that records all calls, and the states that a power cut may leave.

The recorder stands in for `os` in files.py, over a real folder. From its events a Model tells any
state that the disk may be in when the power goes: what was written to a file since its last fsync
may be lost, there in part, or zeros; names that were made, renamed or removed since the last fsync
of their folder may be kept or lost one by one, as long as each single name keeps its order.
(That is what POSIX leaves open, and more than today's file systems make use of; see Pillai and
others, All File Systems Are Not Created Equal, OSDI 2014.)
"""

from __future__ import annotations

import os
import random
import stat
from collections.abc import Callable
from typing import Any, NamedTuple

from tests.failing_disk import Disk

FOLDER, PIPE = -1, -2  # what is not a plain file, in place of its number
_CREATING = ("create", "mkdir", "mkfifo")


class Event(NamedTuple):
    """One thing that was done. `path` is a name, `node` a file's number, whatever its names."""

    kind: str
    path: str = ""
    to: str = ""
    node: int = 0
    at: int = 0
    data: bytes = b""


class Recorder(Disk):
    """Does everything in the real folder `root`, and notes what changed it in `events`."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.events: list[Event] = []
        self._nodes: dict[int, int] = {}  # by inode
        self._folders = {os.stat(root).st_ino: root}

    def change(self, name: str, real: Any, *args: Any, **more: Any) -> Any:
        """Do it and note it; what happens outside of the folder is let pass."""
        note: Callable[..., Any] = getattr(self, f"_{name}", self._pass)
        return note(real, *args, **more)

    def _pass(self, real: Any, *args: Any, **more: Any) -> Any:
        return real(*args, **more)

    def _tell(self, kind: str, path: str = "", to: str = "", **facts: Any) -> None:
        if path.startswith(self.root + os.sep) or not path:
            self.events.append(Event(kind, path, to, **facts))

    def _create(self, real: Any, path: str, flags: int, *rest: Any) -> int:
        there = os.path.exists(path)
        fd: int = real(path, flags, *rest)
        inode = os.fstat(fd).st_ino
        if there:
            self._tell("truncate", node=self._nodes[inode])
        else:
            # The number of a file that is gone may be given to another.
            self._nodes[inode] = len(self.events) + 1
            self._tell("create", path, node=self._nodes[inode])
        return fd

    def _write(self, real: Any, fd: int, data: Any) -> int:
        at = os.fstat(fd).st_size  # every data file is written at its end
        count: int = real(fd, data)
        self._tell("write", node=self._nodes[os.fstat(fd).st_ino], at=at, data=bytes(data)[:count])
        return count

    def _ftruncate(self, real: Any, fd: int, size: int) -> None:
        real(fd, size)
        self._tell("truncate", node=self._nodes[os.fstat(fd).st_ino], at=size)

    def _fsync(self, real: Any, fd: int) -> None:
        real(fd)
        found = os.fstat(fd)
        if not stat.S_ISDIR(found.st_mode):
            self._tell("sync", node=self._nodes[found.st_ino])
        elif found.st_ino in self._folders:
            self.events.append(Event("sync folder", self._folders[found.st_ino]))

    def _rename(self, real: Any, old: str, new: str) -> None:
        real(old, new)
        self._tell("rename", old, new)

    def _link(self, real: Any, old: str, new: str) -> None:
        real(old, new)
        self._tell("link", old, new)

    def _unlink(self, real: Any, path: str) -> None:
        real(path)
        self._tell("unlink", path)

    def _mkdir(self, real: Any, path: str, *mode: Any) -> None:
        real(path, *mode)
        self._folders[os.stat(path).st_ino] = path
        self._tell("mkdir", path, node=FOLDER)

    def _makedirs(self, real: Any, path: str, mode: int, exist_ok: bool = False) -> None:
        missing = []
        level = path
        while not os.path.isdir(level):
            missing.append(level)
            level = os.path.dirname(level)
        real(path, mode, exist_ok=exist_ok)
        for level in reversed(missing):
            self._folders[os.stat(level).st_ino] = level
            self._tell("mkdir", level, node=FOLDER)

    def _mkfifo(self, real: Any, path: str, *mode: Any) -> None:
        real(path, *mode)
        self._tell("mkfifo", path, node=PIPE)


class _Node:
    """A file's content: what is surely on the disk, and what was done since."""

    def __init__(self) -> None:
        self.safe = b""
        self.since: list[Event] = []

    def sync(self) -> None:
        self.safe, self.since = _done(self.safe, self.since), []


def _done(content: bytes, events: list[Event]) -> bytes:
    for event in events:
        if event.kind == "truncate":
            content = content[: event.at]
        else:
            content = content[: event.at].ljust(event.at, b"\0") + event.data
    return content


class State(NamedTuple):
    """One state of the disk after a power cut: bytes of files, None for folders and pipes.

    `holes`: some file may lack a part before one that is there.
    """

    files: dict[str, bytes | None]
    pipes: frozenset[str]
    holes: bool

    def build(self, old: str, new: str) -> None:
        """Make it real, the folder `old` under the name `new`."""
        for path in sorted(self.files):
            content, real = self.files[path], new + path.removeprefix(old)
            if path in self.pipes:
                os.mkfifo(real)
            elif content is None:
                os.mkdir(real)
            else:
                with open(real, "wb") as file:
                    file.write(content)

    def key(self) -> tuple[object, ...]:
        """The same for equal states."""
        return (tuple(sorted(self.files.items())), self.pipes)


class Model:
    """What is on the disk below the folder `root`, and what may be."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._nodes: dict[int, _Node] = {}
        self._names: dict[str, int] = {}
        self._pending: list[Event] = []  # changes of names

    def apply(self, event: Event) -> None:
        """Take in what was done next."""
        if event.kind == "sync folder":
            inside = [e for e in self._pending if os.path.dirname(e.path) == event.path]
            self._pending = [e for e in self._pending if os.path.dirname(e.path) != event.path]
            for earlier in inside:
                _rename(self._names, earlier)
        elif event.kind == "sync":
            self._nodes[event.node].sync()
        elif event.kind in ("write", "truncate"):
            self._nodes[event.node].since.append(event)
        else:
            self._pending.append(event)
            if event.kind == "create":
                self._nodes[event.node] = _Node()

    def sample(self, chance: random.Random, *, holes: bool) -> State:
        """A state that the disk may be in if the power goes now."""
        names = dict(self._names)
        for event in self._kept(chance):
            _rename(names, event)
        left: dict[str, bytes | None] = {}
        torn: dict[int, bytes] = {}  # two names of one file show the same
        for path, node in sorted(names.items()):
            if os.path.dirname(path) in (self._root, *left):
                if node >= 0 and node not in torn:
                    torn[node] = _remains(self._nodes[node], chance, holes)
                left[path] = torn.get(node)
        pipes = frozenset(path for path in left if names[path] == PIPE)
        return State(left, pipes, holes)

    def _kept(self, chance: random.Random) -> list[Event]:
        """The changes of names that reached the disk: of each name the first few."""
        share = chance.choice((0.0, 1.0, chance.random(), chance.random()))
        kept: list[Event] = []
        blocked: set[str] = set()
        for event in self._pending:
            touched = {event.path, event.to} - {""}
            if touched & blocked or chance.random() >= share:
                blocked |= touched
            else:
                kept.append(event)
        return kept


def _rename(names: dict[str, int], event: Event) -> None:
    if event.kind == "rename":
        names[event.to] = names.pop(event.path)
    elif event.kind == "link":
        names[event.to] = names[event.path]
    elif event.kind == "unlink":
        names.pop(event.path)
    else:
        names[event.path] = event.node


def _remains(node: _Node, chance: random.Random, holes: bool) -> bytes:
    """A content that a file may have: what is safe, and some of what was done since."""
    if not node.since:
        return node.safe
    page = chance.choice((64, 512, 4096))
    whole = _done(node.safe, node.since)
    if holes and chance.random() < 0.7:
        return _patched(node.safe, whole, page, chance)
    count = chance.choice((0, len(node.since), chance.randint(0, len(node.since))))
    content = _done(node.safe, node.since[:count])
    if count < len(node.since) and node.since[count].kind == "write":
        event = node.since[count]
        part = event.data[: (chance.randint(0, len(event.data) // page)) * page]
        content = _done(content, [event._replace(data=part)])
    if chance.random() < 0.3:  # the size is there, the data is not
        size = chance.choice((len(whole), len(content) // page * page + page))
        content = content.ljust(size, b"\0")[: max(len(whole), len(node.safe), len(content))]
    return content


def _patched(safe: bytes, whole: bytes, page: int, chance: random.Random) -> bytes:
    """Each page by itself as it was, as it should be, or zeros where there was none."""
    size = max(len(safe), len(whole))
    content = b""
    for at in range(0, size, page):
        old, new = safe[at : at + page], whole[at : at + page]
        length = min(page, size - at)
        content += chance.choice((old, new)).ljust(length, b"\0")[:length]
    return content[: chance.choice((len(whole), size))]
