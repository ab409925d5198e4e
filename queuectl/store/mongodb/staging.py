"""Jobs that are enqueued together: all of them or none, even on a standalone server.

They are inserted under a batch, in a state that no command shows and no worker claims. A single
write, which commits the batch's own document, enqueues them. Any process that meets a committed
batch finishes it; an uncommitted one is removed after an hour.

Jobs that the change of another job adds come in the same way. There the commit is that change, one
write of one document, which also notes the batch.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from typing import Any

from pymongo import errors

from queuectl.errors import DuplicateId, StoreBusy, StoreError
from queuectl.model.gate import Gate
from queuectl.model.job import Job
from queuectl.store.mongodb.connection import DUPLICATE, Connection, pieces
from queuectl.store.mongodb.documents import (
    FIRST_REV,
    FOLLOWED,
    KEY,
    STAGED,
    Document,
    to_document,
)
from queuectl.store.mongodb.keys import Keys
from queuectl.store.mongodb.lanes import lane_by

_SHOWN = 5000  # jobs made visible at once: the server must answer in time
_ABANDONED = 3600.0  # seconds after which an uncommitted batch counts as abandoned


class Staging:
    """The batches of one queue."""

    def __init__(self, connection: Connection, gate: Callable[[], Gate]) -> None:
        self._connection = connection
        self._gate, self._keys = gate, Keys(connection)

    def hand_in(self, documents: Iterable[Document], next_seq: Callable[[int], int]) -> None:
        """Add the jobs of all the documents, or none.

        Raises DuplicateId, KeyTaken, and StoreBusy for a key that was taken only a moment ago.
        """
        database, batch = self._connection.database, os.urandom(8).hex()
        made_at = self._connection.now()
        with self._connection.told():
            database.meta.insert_one({"_id": f"batch/{batch}", "made_at": made_at})
        count = 0
        try:
            for piece in pieces(documents):
                for seq, document in enumerate(piece, next_seq(len(piece))):
                    _hold_back(document, batch, seq)
                self._insert(piece, count)
                count += len(piece)
        except BaseException:
            with suppress(StoreError):  # then it is removed as abandoned
                self._drop(batch)
            raise
        if count:
            self._commit(batch, count)
            with suppress(StoreError):  # it is committed; any process that meets it finishes it
                self.finish(batch)
        else:
            self._drop(batch)

    def follow_on(
        self, jobs: Collection[Job], first_seq: int, old: Job, commit: Callable[[str], bool]
    ) -> bool:
        """Add the jobs if `commit` succeeds; returns whether it did.

        `commit` gets the batch and notes it in the document of `old` in the same write that changes
        that document, if it is still unchanged. Raises what `commit` and `hand_in` raise.
        """
        batch = os.urandom(8).hex()
        noted = {"made_at": self._connection.now(), "of": old.id, "rev": old.rev}
        with self._connection.told():
            self._connection.soon.meta.insert_one({"_id": f"batch/{batch}", **noted})
        documents = [to_document(job, _lane=lane_by(job, self._gate)) for job in jobs]
        for seq, document in enumerate(documents, first_seq):
            _hold_back(document, batch, seq)
        self._insert(documents, 0)
        # If the answer is lost, `look_after` finds out what happened.
        done = commit(batch)
        if done:
            with suppress(StoreError):  # as above
                self.finish(batch, old.id)
        else:
            self._drop(batch)
        return done

    def _insert(self, documents: list[dict[str, Any]], before: int) -> None:
        with self._connection.told():
            try:
                self._connection.database.jobs.insert_many(documents)
            except errors.BulkWriteError as exc:
                fault = (exc.details or {}).get("writeErrors", [{}])[0]
                if fault.get("code") != DUPLICATE:
                    raise
                index = fault["index"]
                raise self.refusal(fault, documents[index], before + index) or StoreBusy(
                    "others add jobs with the same unique keys; nothing was changed: try again"
                ) from None

    def refusal(
        self, fault: Mapping[str, Any], document: Document, index: int
    ) -> DuplicateId | None:
        """The error for what an index refused; None if it would be accepted by now."""
        if KEY in fault.get("keyPattern", ()):
            return self._keys.taken(document, index)
        where, staged = self._connection.address.name, {"_id": document["_id"], "state": STAGED}
        with self._connection.told():
            if self._connection.jobs.find_one(staged, {"_id": 1}) is not None:
                where += ", being enqueued (for at most an hour, if that was killed)"
        return DuplicateId(document["_id"], where, index)

    def _commit(self, batch: str, count: int) -> None:
        held, done = {"_id": f"batch/{batch}", "dropped": None}, {"$set": {"committed": True}}
        with self._connection.told(f"that {count} jobs were added"):
            found = self._connection.database.meta.update_one(held, done)
        if not found.matched_count:
            self._drop(batch)
            raise StoreError("adding the jobs took more than an hour; nothing was added")

    def _drop(self, batch: str) -> None:
        """Remove the jobs of a batch that was not committed."""
        database = self._connection.database
        with self._connection.told():
            database.jobs.delete_many({"_batch": batch, "state": STAGED})
            database.meta.delete_one({"_id": f"batch/{batch}", "committed": {"$exists": False}})

    def _abandon(self, batch: str) -> None:
        """Drop an old batch, after making sure that its process cannot commit it any more."""
        own, never = {"_id": f"batch/{batch}", "committed": None}, {"$set": {"dropped": True}}
        with self._connection.told():
            found = self._connection.database.meta.update_one(own, never)
        if found.matched_count:
            self._drop(batch)

    def finish(self, batch: str, of: str | None = None) -> None:
        """Make the jobs of a committed batch visible; `of`: the job whose change committed it."""
        database = self._connection.database
        with self._connection.told():
            held = {"_batch": batch, "state": STAGED}
            while ids := [job["_id"] for job in database.jobs.find(held, {"_id": 1}).limit(_SHOWN)]:
                database.jobs.update_many(
                    {**held, "_id": {"$in": ids}},
                    [{"$set": {"state": "$_as"}}, {"$unset": ["_as", "_batch"]}],
                )
            if of is not None:
                others = {"$setDifference": [f"${FOLLOWED}", [batch]]}
                left = {"$cond": [{"$eq": [others, []]}, "$$REMOVE", others]}
                noted = {"_id": of, FOLLOWED: batch}
                self._connection.soon.jobs.update_one(noted, [{"$set": {FOLLOWED: left}}])
            self._connection.soon.meta.delete_one({"_id": f"batch/{batch}"})

    def finish_what_follows(self, document: Mapping[str, Any]) -> None:
        """Make visible the jobs that changes of this job added, if nobody has yet."""
        for batch in _followed(document):
            self.finish(batch, document["_id"])

    def look_after(self, batches: Iterable[dict[str, Any]]) -> None:
        """Finish what others committed but did not finish; remove what they abandoned."""
        for found in batches:
            batch = found["_id"].partition("/")[2]
            if "of" in found:
                self._look_after_following(batch, found)
            elif found.get("committed"):
                self.finish(batch)
            elif self._connection.now() - found.get("made_at", 0.0) > _ABANDONED:
                self._abandon(batch)

    def _look_after_following(self, batch: str, found: Mapping[str, Any]) -> None:
        """Finish a batch that its job's document notes; drop one that it can note no more."""
        with self._connection.told():
            job = self._connection.database.jobs.find_one(
                {"_id": found["of"]}, {"rev": 1, FOLLOWED: 1}
            )
        if job is not None and batch in _followed(job):
            self.finish(batch, found["of"])
        elif job is None or job.get("rev", FIRST_REV) > found["rev"]:
            self._drop(batch)


def _followed(document: Mapping[str, Any]) -> list[str]:
    noted = document.get(FOLLOWED)
    return noted if isinstance(noted, list) else []  # an edit in mongosh may put anything there


def _hold_back(document: Document, batch: str, seq: int) -> None:
    document |= {"_as": document["state"], "state": STAGED, "_batch": batch, "_seq": seq}
