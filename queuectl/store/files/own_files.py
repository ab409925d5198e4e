"""The job files as queuectl wrote them, for a change under the lock, even if a person edits them.

A person may save a file at any moment, even after a change checked it and before it reads it. Read
as one of ours, a file in another layout would seem to hold no jobs: a purge would not find what
waits for a job, nor a fold the jobs that use a set of variables. In that case the change reads our
copy, and the next change takes the edit in.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from queuectl.errors import BadFile
from queuectl.store import door
from queuectl.store.files.evidence import find_copy
from queuectl.store.files.job_files import read_lines
from queuectl.store.files.journal import Journal, Stamp
from queuectl.store.files.snapshot import NAMES, BaseFile, intended, merged, overlay_of


class OwnFile(BaseFile):
    """A job file in our layout, or our copy of it; BadFile if it was written to while open."""

    def __exit__(self, kind: object = None, *_: object) -> None:
        now, then = os.fstat(self.fd), self.found
        self.close()
        # Not the ctime: a fold that renames over the file changes that, but not the content.
        if kind is None and (now.st_size, now.st_mtime_ns) != (then.st_size, then.st_mtime_ns):
            raise door.changed(os.path.dirname(self.path))


class OwnFiles:
    """Both job files of a folder. `now` is the store's clock."""

    def __init__(self, folder: str, now: Callable[[], float]) -> None:
        self.folder, self._now = folder, now
        self._paths = [os.path.join(folder, name) for name in NAMES]
        # By file: its stat when it was found right, and whether it was then old enough for a later
        # change to show in the stat.
        self._vetted: list[tuple[Stamp, bool] | None] = [None, None]
        self.looked_at = 0.0  # when a change last looked for edits, by that clock

    def forget(self) -> None:
        """Forget which files were found right, since a fold or a person has written them."""
        self._vetted, self.looked_at = [None, None], 0.0

    def are_ours(self, journal: Journal) -> bool:
        """Whether no person has saved one of them since queuectl wrote it."""
        return self._is_vetted(journal, 0) and self._is_vetted(journal, 1)

    def open(self, journal: Journal, which: int) -> OwnFile:
        """jobs.json (0) or dlq.json (1); BadFile if it was edited and has no copy."""
        file = OwnFile(self._paths[which])
        vetted = self._vetted[which] if self._is_vetted(journal, which) else None
        if vetted is not None and vetted[0].fits(file.found):
            return file
        file.close()
        path = find_copy(self.folder, NAMES[which], journal.header.stamps[which])
        if path is None:
            raise door.changed(self.folder)
        return OwnFile(path)

    def lines(self, journal: Journal) -> Iterator[bytes]:
        """Every job's present line, the dead last."""
        overlay = overlay_of(journal.all_lines())
        with self.open(journal, 0) as jobs, self.open(journal, 1) as dead:
            yield from merged(read_lines(jobs.fd), overlay, False)
            yield from merged(read_lines(dead.fd), overlay, True)

    def _is_vetted(self, journal: Journal, which: int) -> bool:
        """Whether a job file is still as queuectl wrote it.

        The checksum of a file that was found right is not computed again while its stat stays the
        same. If the file was young then, it is computed again later: two changes within one tick of
        the file system's clock look alike.
        """
        path = self._paths[which]
        try:
            found = os.lstat(path)
        except FileNotFoundError:
            raise BadFile(f"{path} is missing; queuectl doctor --repair mends it") from None
        vetted = self._vetted[which]
        young = door.is_young(found.st_mtime_ns, self._now())
        if vetted is not None and vetted[0].fits(found) and (vetted[1] or young):
            return True
        with BaseFile(path) as base:
            ours = base.is_ours(journal.header.stamps[which], intended(journal)[which], self._now())
            self._vetted[which] = (Stamp.of(base.found, 0), not young) if ours else None
        return ours
