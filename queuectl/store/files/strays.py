"""What should not be in a data folder, or not like this: leftovers of killed processes, modes."""

from __future__ import annotations

import os
import re
import stat

from queuectl.errors import BadFile
from queuectl.places import (
    DEAD,
    ENV_SETS,
    JOBS,
    JOURNAL,
    LOCK,
    LOGS,
    MARKER,
    NOTES,
    SETTINGS,
    WORKER_LIST,
    WORKERS,
)
from queuectl.store import door
from queuectl.store.files import worker_files
from queuectl.store.files.evidence import is_evidence
from queuectl.store.files.journal import NAMELESS
from queuectl.store.files.marker import TOLD, is_edit_set_aside

FOLDERS = (LOGS, WORKERS)
DATA = (JOBS, DEAD, SETTINGS, WORKER_LIST, ENV_SETS, JOURNAL)
OURS = frozenset({*DATA, *FOLDERS, MARKER, LOCK})
BEFORE_RESTORE = "before-restore-"
# The names that door.write_new gives, and those of older versions.
# Compiled only when one is found: most folders have none.
_TEMPORARY = (
    rf"({'|'.join(map(re.escape, (*DATA, NOTES)))}|{re.escape(MARKER)}|{JOURNAL}\.torn-[0-9-]+"
    rf"|(jobs|dlq)\.json\.edit-[0-9TZ-]+|{BEFORE_RESTORE}[^/]+)(\.[0-9a-f]{{16}}|\.\d+)?{re.escape(door.TEMPORARY)}"
)
_SET_ASIDE = (".bad-", ".torn-", BEFORE_RESTORE)


def stray_worker_files(folder: str) -> list[str]:
    """Files in workers/ that do not belong to a living or lost worker; certain under the lock."""
    path = os.path.join(folder, WORKERS)
    names = set() if door.folder_oddity(path) else set(listed(path))
    dead = {name for name in names if name.startswith(".") and not _is_held(folder, name)}
    owners = names - dead
    return sorted(
        name
        for name in names
        if name in dead
        or (
            name.endswith(".wake")
            and owners.isdisjoint({name.removesuffix(".wake"), f".{name.removesuffix('.wake')}"})
        )
    )


def odd_ones(folder: str) -> list[tuple[str, str]]:
    """What stands where a file or folder of ours should be, but is another kind or not ours alone.

    Each as its name within the data folder, and what is wrong with it.
    """
    names = [MARKER, LOCK, *DATA, *filter(is_evidence, listed(folder))]
    found = [(name, _oddity(os.path.join(folder, name))) for name in names]
    for above in FOLDERS:
        path = os.path.join(folder, above)
        fault = door.folder_oddity(path)
        found.append((above, fault))
        for name in () if fault else listed(path):
            if not is_set_aside(name):
                found.append((f"{above}/{name}", _oddity_inside(above, os.path.join(path, name))))
    return [(name, fault) for name, fault in found if fault]


def _oddity(path: str) -> str:
    try:
        return door.oddity(os.lstat(path))
    except OSError:
        return ""


def _oddity_inside(above: str, path: str) -> str:
    """What is odd about a file in workers/ or logs/: pipes, and logs with more names, are not."""
    if above == LOGS and not path.endswith((".log", ".spool")):
        return ""
    if above == WORKERS and path.endswith(".wake"):
        return door.pipe_oddity(path)
    if above == WORKERS and is_linked(path):
        return _oddity(path) if _is_another_folders(path) else ""
    if path.endswith((".log", ".spool")) and is_linked(path):
        from queuectl.store.files.logs import is_locked  # not of an enqueue

        # A worker or its job still writes here: a copy in place of the file would miss the rest.
        return "" if path.endswith(".log") or is_locked(path) else _oddity(path)
    return _oddity(path)


def _is_another_folders(path: str) -> bool:
    """Whether a worker's file with several names does not say that it belongs to this folder."""
    above, worker_id = os.path.split(path)
    try:
        return worker_files.probe(os.path.dirname(above), worker_id) is None
    except BadFile:
        return True


def is_linked(path: str) -> bool:
    """Whether it is a plain file of ours, apart from having several names."""
    try:
        found = os.lstat(path)
    except OSError:
        return False
    ours = stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid()
    return ours and found.st_nlink > 1


def _is_held(folder: str, name: str) -> bool:
    try:
        info = worker_files.probe(folder, name)
    except BadFile:
        return False
    return info is not None and info.alive


def make_folder_private(folder: str) -> None:
    """Remove the rights of others to the folder, unless a person keeps other things in it.

    Others may need access to those; our own files in it are private anyway.
    """
    found = os.stat(folder)
    if found.st_mode & 0o077 and not _holds_others(folder):
        door.make_private(folder, found)


def _holds_others(folder: str) -> bool:
    return not all(map(is_known, listed(folder)))


def wrong_modes(folder: str) -> list[tuple[str, int]]:
    """Files and folders of ours that others may read or we may not, with the mode each should have.

    The folder itself comes first; if it holds other things, it need not be private.
    """
    wrong: list[tuple[str, int]] = []
    if not _holds_others(folder) or not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        wrong += _unless_right(folder, 0o700)
    for name in filter(is_known, listed(folder)):
        wrong += _unless_right(os.path.join(folder, name), 0o600)
    for path in (os.path.join(folder, name) for name in FOLDERS):
        if os.path.isdir(path) and not os.path.islink(path):
            wrong += _unless_right(path, 0o700)
            for name in listed(path):
                wrong += _unless_right(os.path.join(path, name), 0o600)
    return wrong


def _unless_right(path: str, wanted: int) -> list[tuple[str, int]]:
    try:
        found = os.lstat(path)
    except OSError:
        return []
    mode = found.st_mode
    if found.st_uid != os.geteuid():
        return []  # not ours to change
    if wanted == 0o600 and door.oddity(found) and not stat.S_ISFIFO(mode):
        return []
    wanted |= mode & NAMELESS  # not a right but a mark on the journal
    return [(path, wanted)] if mode & 0o077 or mode & wanted != wanted else []


def listed(path: str) -> list[str]:
    """The sorted names in the folder; empty if it cannot be read."""
    try:
        return sorted(os.listdir(path))
    except OSError:
        return []


def leftovers(folder: str) -> list[str]:
    """Temporary files of ours; only under the lock are they certain to be leftovers."""
    return list(filter(_is_temporary, listed(folder)))


def _is_temporary(name: str) -> bool:
    # No other names: a person's jobs.json.mine.new must not be removed.
    return name.endswith(door.TEMPORARY) and re.fullmatch(_TEMPORARY, name) is not None


def is_set_aside(name: str) -> bool:
    """Whether it is a file that queuectl set aside."""
    if is_edit_set_aside(name):
        return True
    return not name.endswith(door.TEMPORARY) and any(part in name for part in _SET_ASIDE)


def is_known(name: str) -> bool:
    """Whether queuectl writes, or once wrote, files of this name in a data folder."""
    return is_ours(name) or is_set_aside(name) or _is_temporary(name)


def is_ours(name: str) -> bool:
    """Whether a file of this name belongs to queuectl in a data folder."""
    return name in OURS or name.startswith(TOLD) or is_evidence(name)
