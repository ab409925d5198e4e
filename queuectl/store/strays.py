"""What lies in a data folder and should not, or not so: leftovers of who was killed, open modes."""

from __future__ import annotations

import os
import stat

from queuectl.store import worker_files
from queuectl.store.folder import MARKER
from queuectl.store.journal import NAME, NAMELESS

FOLDERS = ("logs", worker_files.FOLDER)
DATA = ("jobs.json", "dlq.json", "config.json", "worker_pids.json", NAME)
OURS = frozenset({*DATA, *FOLDERS, MARKER, "queue.lock"})
BEFORE_RESTORE = "before-restore-"
_WRITTEN_BESIDE = (f"{MARKER}.", f"{NAME}.torn-", BEFORE_RESTORE)
_SET_ASIDE = (".bad-", ".torn-", BEFORE_RESTORE)


def stray_worker_files(folder: str) -> list[str]:
    """Files in workers/ that belong to no worker, living or lost; certain under the lock."""
    path = os.path.join(folder, worker_files.FOLDER)
    names = set(os.listdir(path)) if os.path.isdir(path) else set()
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


def _is_held(folder: str, name: str) -> bool:
    info = worker_files.probe(folder, name)
    return info is not None and info.alive


def wrong_modes(folder: str) -> list[tuple[str, int]]:
    """Files and folders of ours that others may read, or we may not; the mode each should have.

    The folder itself comes first.
    """
    wrong: list[tuple[str, int]] = []
    for path in (folder, *(os.path.join(folder, name) for name in FOLDERS)):
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
    mode, user = found.st_mode, os.geteuid()
    if user not in (0, found.st_uid):
        return []  # not ours to change
    if wanted == 0o600 and not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
        return []
    wanted |= mode & NAMELESS  # which is no right, but a mark on the journal
    return [(path, wanted)] if mode & 0o077 or mode & wanted != wanted else []


def listed(path: str) -> list[str]:
    """The names in the folder, sorted; none if it cannot be read."""
    try:
        return sorted(os.listdir(path))
    except OSError:
        return []


def leftovers(folder: str) -> list[str]:
    """Temporary files of ours; certain to be left behind only under the lock."""
    return [name for name in listed(folder) if _is_temporary(name)]


def _is_temporary(name: str) -> bool:
    # No more than this: a person's jobs.json.mine.new must not go.
    base = name.removesuffix(".new")
    return base != name and (base in DATA or base.startswith(_WRITTEN_BESIDE))


def is_set_aside(name: str) -> bool:
    """Whether it is a file that queuectl put out of the way and kept."""
    return not name.endswith(".new") and any(part in name for part in _SET_ASIDE)
