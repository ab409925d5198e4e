"""The file that takes what a detached worker itself has to say."""

from __future__ import annotations

import os

from queuectl.store import door


class OwnLog:
    """The file that a detached worker's stderr goes to, if it was given one."""

    def __init__(self, path: str | None) -> None:
        self._path = path

    def name_for(self, worker_id: str) -> None:
        """Give it a name that tells whose log it is, so that it can be tidied away later."""
        if self._path is not None:
            named = os.path.join(os.path.dirname(self._path), f"worker-{worker_id}.log")
            os.rename(self._path, named)
            self._path = named

    def drop_if_empty(self) -> None:
        """Remove it at the worker's end if nothing was said."""
        if self._path is not None and not os.fstat(2).st_size:
            door.remove(self._path)
