"""What `doctor` reports about a queue in MongoDB; mending files is the server's task."""

from __future__ import annotations

from queuectl.errors import StoreError
from queuectl.model.dependencies import parents
from queuectl.model.gate import OPEN
from queuectl.model.job import LIVE
from queuectl.store.contract import Store
from queuectl.store.damage.check import key_twins, told_of_live
from queuectl.store.damage.stray_logs import find_stray_logs, put_aside
from queuectl.store.facts import Finding
from queuectl.store.mongodb.connection import JOB_BY_JOB, MAKE_SET, Connection
from queuectl.store.mongodb.documents import Document, to_job
from queuectl.store.mongodb.keys import Keys
from queuectl.store.mongodb.kin import Family


class MongodbCare:
    """Care for a store in MongoDB; methods without a docstring: see Care."""

    def __init__(self, store: Store, connection: Connection) -> None:
        self._store, self._connection = store, connection

    def examine(self) -> list[Finding]:
        """See Care: what a person should know about the server."""
        self._store.exists()  # raises if the database is not ours
        found = [*self._left_by_hand(), *find_stray_logs(self._store)]
        if not self._connection.has_transactions:
            name = self._connection.address.name
            found.append(Finding(name, JOB_BY_JOB, MAKE_SET, problem=False))
        return found

    def _left_by_hand(self) -> list[Finding]:
        """What edits in mongosh did to live jobs."""
        jobs, live = self._connection.jobs, {"$in": [*LIVE]}
        steps: list[Document] = [
            {"$match": {"unique": {"$exists": True}, "state": live}},
            {"$group": {"_id": "$unique", "count": {"$sum": 1}}},
            {"$match": {"count": {"$gt": 1}}},
        ]
        named = [{"after": {"$exists": True}}, {"after_end": {"$exists": True}}]
        with self._connection.told():
            shared = [one["_id"] for one in jobs.aggregate(steps)]
            found = list(
                jobs.find({"state": live, "$or": named}, {"history": 0, "env": 0}).sort("_seq", 1)
            )
            waiting = [job for job in map(to_job, found) if parents(job)]
            family = Family(self._connection, OPEN)
            family.load(name for job in waiting for name in parents(job))
            twins = key_twins(Keys(self._connection).holders(shared))
        return told_of_live(self._connection.address.name, twins, waiting, family.state_of)

    def repair(self, done: list[str], unread: list[str]) -> None:
        """Refused: StoreError."""
        raise StoreError("the store in MongoDB has no repair: 'mongod --repair' mends its files")

    def tidy_output(self, stamp: str) -> list[str]:
        return put_aside(self._store, stamp)
