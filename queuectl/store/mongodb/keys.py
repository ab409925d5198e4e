"""Unique keys in a database: an index refuses a key that another live job holds.

A live job holds both halves of its key. While it runs, another job may be put beside it, which
needs only the second half: the running job gives that up and keeps the first. So if several
processes do this at once, only one succeeds, and no job that needs the whole key comes between.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from pymongo import errors

from queuectl.errors import KeyTaken
from queuectl.model.job import LIVE, Job, refuse_key, revived
from queuectl.store.mongodb.connection import Connection, pieces
from queuectl.store.mongodb.documents import KEY, STAGED, Document, first_half, second_half, to_job


class Keys:
    """The unique keys of one queue."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @property
    def _jobs(self) -> Any:
        return self._connection.jobs

    def holders(self, keys: Iterable[str], session: Any = None) -> list[Job]:
        """The live jobs with one of the keys, the oldest first."""
        found: list[Document] = []
        for wanted in pieces(dict.fromkeys(keys)):
            asked = {"unique": {"$in": wanted}, "state": {"$in": [*LIVE]}}
            with self._connection.told():
                found += list(self._jobs.find(asked, hint="unique", session=session))
        return [to_job(document) for document in sorted(found, key=lambda one: one.get("_seq", 0))]

    def refuse(self, pairs: Collection[tuple[Job, Job]], session: Any = None) -> None:
        """Raise KeyTaken if a job would come back to life while another with its key lives."""
        if back := revived(pairs):
            for holder in self.holders(back, session):
                refuse_key(back[str(holder.unique)], [holder])
            self._free([half(key) for key in back for half in (first_half, second_half)], session)

    def split(self, key: str) -> None:
        """Make a running job give up the second half, so that another job can hold it.

        A waiting job keeps both.
        """
        asked = {KEY: second_half(key), "state": "in_progress"}
        with self._connection.told():
            try:
                self._jobs.update_one(asked, {"$set": {KEY: [first_half(key)]}})
            except errors.DuplicateKeyError:  # it is beside another one that still runs
                self._jobs.update_one(asked, {"$unset": {KEY: ""}})

    def _free(self, halves: Collection[str], session: Any = None) -> None:
        """Free the halves of jobs that an edit in mongosh ended."""
        ended = {KEY: {"$in": [*halves]}, "state": {"$nin": [*LIVE, STAGED]}}
        with self._connection.told():
            self._jobs.update_many(ended, {"$unset": {KEY: ""}}, session=session)

    def taken(self, document: Document, index: int | None) -> KeyTaken | None:
        """The error for a new job whose key was taken; None if the key is free by now."""
        self._free(document[KEY])
        with self._connection.told():
            found = self._jobs.find_one({KEY: {"$in": document[KEY]}}, {"state": 1})
        if found is None:
            return None
        state = "being enqueued" if found["state"] == STAGED else found["state"]
        return KeyTaken(found["_id"], document["unique"], state, index)
