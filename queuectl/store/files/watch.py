"""What menus, `top`, notices and the page read from a data folder: its changes and its state.

Modules are imported only when needed, because each Tab in another shell starts anew.
"""

from __future__ import annotations

import os
import time

from queuectl.places import JOURNAL
from queuectl.store.door import Presence, change_mark
from queuectl.store.files import peek

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from queuectl.model.job import Job
    from queuectl.store.facts import Summary, WorkerInfo
    from queuectl.store.files.glance import Follower, Glance
    from queuectl.store.files.peek import Peek
    from queuectl.store.watch import Change

_LOOK = 0.02  # seconds between looks at the journal during `wait`


def wait(folder: str, seconds: float) -> None:
    """Return after `seconds`, or once the journal has grown or was replaced."""
    path, deadline = os.path.join(folder, JOURNAL), time.monotonic() + seconds
    before = change_mark(path)
    while change_mark(path) == before:
        left = deadline - time.monotonic()
        if left <= 0:
            return
        time.sleep(min(_LOOK, left))


class FileWatch:
    """Watch for the store in files; methods without a docstring: see Watch."""

    def __init__(self, folder: str, find: Callable[[], Iterator[Job]]) -> None:
        self._folder, self._find = folder, find
        self._presence = Presence(folder)
        self._follower: Follower | None = None
        self._files: tuple[object, ...] | None = None  # as they were when `changes` was called

    def now(self) -> float:
        """The store's clock."""
        return time.time()

    def mark(self) -> tuple[object, ...]:
        return peek.queue_mark(self._folder)

    def menu_mark(self) -> tuple[object, ...]:
        return self.mark()

    def summary(self) -> Summary:
        """See Watch; FileMissing if the folder existed and is gone."""
        from queuectl.store.files.summary import read_summary

        self._presence.check()
        return read_summary(self._folder, self.now())

    def workers(self) -> list[WorkerInfo]:
        from queuectl.store.files.worker_files import worker_infos

        return list(worker_infos(self._folder))

    def settings(self) -> Mapping[str, object]:
        from queuectl.store.files.side_files import SettingsFile

        return SettingsFile(self._folder).read()

    def changes(self, ids: Collection[str] | None = None) -> list[Change] | None:
        if self._follower is None:
            from queuectl.store.files.glance import Follower

            self._follower = Follower(self._folder)
        before, self._files = self._files, self.mark()[:3]
        found = self._follower.changes(ids)
        # An edit by hand does not show in the journal. During a fold this also holds, and all is
        # read once too often.
        edited = before is not None and before[0] == self._files[0] and before != self._files
        return None if edited else found

    def jobs(self) -> Iterator[Job]:
        return self._find()

    def glance(self) -> Glance:
        from queuectl.store.files.glance import Glance

        return Glance(self._folder, self.now())

    def peek(self) -> Peek:
        return peek.Peek(self._folder, self.now())

    def close(self) -> None:
        """See Watch; may be called twice."""
        if self._follower is not None:
            self._follower.close()
            self._follower = None
