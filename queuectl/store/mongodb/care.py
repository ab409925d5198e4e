"""What `doctor` has to say of a queue in MongoDB: its files are the server's to mend."""

from __future__ import annotations

from queuectl.errors import StoreError
from queuectl.store.damage.stray_logs import find_stray_logs, put_aside
from queuectl.store.facts import Finding
from queuectl.store.mongodb.connection import Connection

TYPE_CHECKING = False
if TYPE_CHECKING:
    from queuectl.store.contract import Store


class MongodbCare:
    """See Care."""

    def __init__(self, store: Store, connection: Connection) -> None:
        self._store, self._connection = store, connection

    def examine(self) -> list[Finding]:
        """See Care: what a person should know of the server."""
        self._store.exists()  # refuses what is another's
        found = find_stray_logs(self._store)
        if self._connection.has_transactions:
            return found
        return [
            *found,
            Finding(
                self._connection.address.name,
                "a standalone server: changes of several jobs are made job by job",
                "start it with --replSet rs0, and run rs.initiate() in mongosh once",
                problem=False,
            ),
        ]

    def repair(self, done: list[str], unread: list[str]) -> None:
        """Refused."""
        raise StoreError("the store in MongoDB has no repair: 'mongod --repair' mends its files")

    def tidy_output(self, stamp: str) -> list[str]:
        """See Care."""
        return put_aside(self._store, stamp)
