"""What `doctor` has to say of a queue in MongoDB: its files are the server's to mend."""

from __future__ import annotations

from collections.abc import Callable

from queuectl.errors import StoreError
from queuectl.store.facts import Finding
from queuectl.store.mongodb.connection import Connection


class MongodbCare:
    """See Care."""

    def __init__(self, connection: Connection, exists: Callable[[], bool]) -> None:
        self._connection = connection
        self._exists = exists

    def examine(self) -> list[Finding]:
        """See Care: what a person should know of the server."""
        self._exists()  # refuses what is another's
        if self._connection.has_transactions:
            return []
        return [
            Finding(
                self._connection.address.name,
                "a standalone server: changes of several jobs are made job by job",
                "start it with --replSet rs0, and run rs.initiate() in mongosh once",
                problem=False,
            )
        ]

    def repair(self, done: list[str], unread: list[str]) -> None:
        """Refused."""
        raise StoreError("the store in MongoDB has no repair: 'mongod --repair' mends its files")
