"""What `doctor` does with a data folder: finds all that is wrong, and mends it."""

from __future__ import annotations

from queuectl.store.contract import Store
from queuectl.store.damage import examination, stray_logs
from queuectl.store.facts import Finding
from queuectl.store.files.lock import QueueLock

_PATIENCE = 5.0  # seconds to wait for the lock while the settings may be damaged


class FileCare:
    """Care for the store in files; methods without a docstring: see Care."""

    def __init__(self, store: Store) -> None:
        self._store, self._folder = store, store.folder

    def examine(self) -> list[Finding]:
        """See Care; StoreError if the folder cannot be read at all or is not ours."""
        store = self._store
        if not examination.is_there(self._folder):
            return []
        found = examination.examine(self._folder, store.now, self._lock(), store.wait)
        return found + stray_logs.find_stray_logs(store)

    def repair(self, done: list[str], unread: list[str]) -> None:
        from queuectl.store.damage.repair import open_to_owner, repair

        store = self._store
        open_to_owner(self._folder, done)
        if examination.is_there(self._folder):
            repair(self._folder, store.now(), self._lock(), store.fold, done, unread)

    def tidy_output(self, stamp: str) -> list[str]:
        return stray_logs.put_aside(self._store, stamp)

    def _lock(self) -> QueueLock:
        """The queue's lock, for use while the settings may be unreadable."""
        return QueueLock(self._folder, lambda: _PATIENCE)
