"""Checks whether a data folder is ours, and makes one."""

from __future__ import annotations

import errno
import os
import stat

from queuectl.errors import BadFile, DiskRefused, FileMissing, StoreError
from queuectl.places import (
    DEAD,
    ENV_SETS,
    JOBS,
    JOURNAL,
    LOGS,
    MARKER,
    SETTINGS,
    WORKER_LIST,
    WORKERS,
)
from queuectl.store import door

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

FORMAT = 2  # also that of the journal: see the recipe there
LAST_MADE = WORKER_LIST  # made after the journal: where it is, there was a journal
EMPTY = b"[\n]\n"  # a job file without jobs
_FOR_OTHERS = stat.S_IWGRP | stat.S_IWOTH
_MARKS = {b'{"format": %d}\n' % number: number for number in range(1, FORMAT + 1)}
_NAMES = (JOBS, DEAD, SETTINGS, WORKER_LIST, JOURNAL, ENV_SETS, WORKERS, LOGS)


def check_folder(path: str) -> bool:
    """Whether `path` is a queue that may be used; False if there is none yet.

    A queue that others may write to is closed to them before anything in it is opened. Raises
    StoreError for a file, a folder of another user or shared with others (like /tmp), a newer
    format, or foreign files.
    """
    try:
        found = os.stat(path)
    except FileNotFoundError:
        if os.path.islink(path):
            raise StoreError(
                f"data folder {path} is a link to {os.readlink(path)}, where no folder is"
            ) from None
        return False
    except OSError as exc:
        raise StoreError(f"data folder {path}: {exc.strerror}") from exc
    if not stat.S_ISDIR(found.st_mode):
        raise StoreError(f"data folder {path} is a file; name a folder with --data DIR")
    if found.st_uid != os.geteuid():
        raise StoreError(
            f"data folder {path} belongs to another user (uid {found.st_uid}); "
            "name one of your own with --data DIR"
        )
    if found.st_mode & _FOR_OTHERS:
        _close_to_others(path, found)
    if marked_format(path):
        return True
    foreign = [name for name in _NAMES if os.path.lexists(os.path.join(path, name))]
    if foreign:
        if marked_format(path):  # another process made the queue between the two looks
            return True
        kind = "folder " if foreign[0] in (WORKERS, LOGS) else ""
        raise StoreError(
            f"data folder {path} holds a {kind}{foreign[0]} that is not queuectl's; "
            "name another folder with --data DIR"
        )
    return False


def _close_to_others(path: str, found: os.stat_result) -> None:
    """Remove the rights of others in a queue of ours; other folders stay as they are."""
    if found.st_mode & stat.S_ISVTX:
        raise StoreError(
            f"data folder {path} is shared with other users; name one of your own with --data DIR"
        )
    try:
        if os.lstat(os.path.join(path, MARKER)).st_uid == os.geteuid():
            door.make_private(path, found)
    except FileNotFoundError:
        return
    except DiskRefused as exc:
        # On a read-only disk nobody else can write either.
        if not isinstance(exc.__cause__, OSError) or exc.__cause__.errno != errno.EROFS:
            raise


def marked_format(path: str) -> int:
    """The format that the folder's marker names; 0 if there is none.

    Raises BadFile for a marker that is damaged, StoreError for a newer format.
    """
    marker = os.path.join(path, MARKER)
    try:
        mark = door.read(marker)
    except FileMissing:
        return 0
    return _MARKS.get(mark) or _parse_mark(marker, mark)


def _parse_mark(marker: str, mark: bytes) -> int:
    """The format in a marker that is not spelled our way."""
    import json

    try:
        found = json.loads(mark)["format"]
    except (ValueError, KeyError, TypeError, RecursionError):
        found = None
    if isinstance(found, bool) or not isinstance(found, int) or found < 1:
        raise BadFile(
            f'{marker} is not a queuectl marker: it should read {{"format": {FORMAT}}}'
        ) from None
    if found > FORMAT:
        raise StoreError(
            f"{marker} was made by a newer queuectl (format {found}; this one knows {FORMAT}): "
            "update it"
        )
    return found


def mark_folder(path: str, version: int = FORMAT) -> None:
    """Make the folder, if missing, and write its marker.

    Raises StoreError for a folder that others may write to and that holds other things, since they
    use it; and for a folder inside another queue, where each file counts as a worker or output.
    """
    above, name = os.path.split(path)
    if name in (WORKERS, LOGS) and os.path.lexists(os.path.join(above, MARKER)):
        raise StoreError(f"{path} is a part of the queue in {above}; name another with --data DIR")
    door.make_folder(path)
    found = os.stat(path)
    if not _holds_anything(path):
        door.make_private(path, found)
    elif found.st_mode & _FOR_OTHERS:
        raise StoreError(
            f"data folder {path} holds other files, and other users may write to it; "
            "name one of your own with --data DIR"
        )
    _sync_names(path)
    # A folder that does not exist yet cannot be locked, so two processes may be here at once. Each
    # has its own temporary file, and the first one done may take the other's for a leftover.
    try:
        door.replace(os.path.join(path, MARKER), b'{"format": %d}\n' % version)
    except DiskRefused:
        if marked_format(path) != version:
            raise


def _holds_anything(path: str) -> bool:
    """Whether the folder holds more than a marker, which an interrupted `make` may have left."""
    try:
        return not all(name.startswith(MARKER) for name in os.listdir(path))
    except OSError:  # writing to it will be refused
        return False


def _sync_names(path: str) -> None:
    """Sync the names of the folder and of the folders above it that we may have made.

    Before the marker is written: a folder that has one is never checked again.
    """
    above, ours = os.path.dirname(path), True
    while ours and os.access(above, os.R_OK):
        door.sync_folder(above)
        ours = os.stat(above).st_uid == os.geteuid() and above != os.path.dirname(above)
        above = os.path.dirname(above)


def is_new(path: str) -> bool:
    """Whether a marked folder was never written to, or its `make` was interrupted.

    Raises BadFile for anything else without a journal: it is a queue that lost a file.
    """
    journal = os.path.join(path, JOURNAL)
    if os.path.lexists(journal):
        return False
    fault = _sign_of_loss(path, journal)
    if fault is None:
        return True
    if os.path.lexists(journal):  # another process made it between the two looks
        return False
    raise BadFile(fault)


def _sign_of_loss(path: str, journal: str) -> str | None:
    """What shows that the folder once had a journal, if anything does."""
    for name in (JOBS, DEAD):
        held = os.path.join(path, name)
        if os.path.lexists(held) and door.read(held) != EMPTY:
            return (
                f"{journal} is missing though {held} holds jobs; queuectl doctor --repair mends it"
            )
    if os.path.lexists(os.path.join(path, LAST_MADE)):
        return f"{journal} is missing; queuectl doctor --repair mends what can be mended"
    return None


def words_left(path: str) -> tuple[list[str], list[str]]:
    """The lines left for a person, now taken, and the files with an edit that was set aside."""
    try:
        names = os.listdir(path)
    except OSError:
        return [], []
    words = take_word(path) if TOLD in names else []
    return words, sorted(filter(is_edit_set_aside, names))


def is_edit_set_aside(name: str) -> bool:
    """Whether a file of this name in a data folder is an edit that was set aside."""
    return name.startswith(_EDITS) and not name.endswith(".new")


_EDITS = (f"{JOBS}.edit-2", f"{DEAD}.edit-2")  # the rest is the time when it was saved


TOLD = ".told"  # what workers found and a person should know: the next command shows it
_MOST_TOLD = 1 << 16  # bytes


def leave_word(path: str, lines: Iterable[str]) -> None:
    """Leave lines for the next command to show; they are lost if the disk refuses them."""
    words = "".join(f"{line}\n" for line in lines).encode("utf-8", "replace")
    name = os.path.join(path, TOLD)
    try:
        fd = door.open_file(name, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    except StoreError:
        return
    try:
        size = os.fstat(fd).st_size
        if size < _MOST_TOLD:
            door.append(fd, words, size, name)
    except StoreError:
        return
    finally:
        os.close(fd)


def take_word(path: str) -> list[str]:
    """Remove and return the lines that were left."""
    name = os.path.join(path, TOLD)
    mine = f"{name}.{os.getpid()}"
    try:
        door.rename(name, mine)  # lines left from now on are for the next command
        words = door.read(mine)
        door.remove(mine)
    except StoreError:  # another command took them, or the disk is read-only
        return []
    return words.decode("utf-8", "replace").splitlines()
