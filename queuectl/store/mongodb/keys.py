"""Unique keys in a database: an index refuses one that another live job holds.

A live job holds both halves of its key. While it runs another may be put beside it, which only
needs the second half: the running one lets go of that and keeps the first. So of those who put one
there at once a single one succeeds, and nobody who asks for the whole key comes in between.
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
        """The live jobs with one of the keys, first in first."""
        found: list[Document] = []
        for wanted in pieces(dict.fromkeys(keys)):
            asked = {"unique": {"$in": wanted}, "state": {"$in": [*LIVE]}}
            with self._connection.told():
                found += list(self._jobs.find(asked, hint="unique", session=session))
        return [to_job(document) for document in sorted(found, key=lambda one: one.get("_seq", 0))]

    def refuse(self, pairs: Collection[tuple[Job, Job]], session: Any = None) -> None:
        """KeyTaken if a job would come back to life while another one with its key lives."""
        if back := revived(pairs):
            for holder in self.holders(back, session):
                refuse_key(back[str(holder.unique)], [holder])
            self._free([half(key) for key in back for half in (first_half, second_half)], session)

    def split(self, key: str) -> None:
        """Let a running job hold no more than the first half, so that another can hold the second.

        A waiting one keeps both.
        """
        asked = {KEY: second_half(key), "state": "in_progress"}
        with self._connection.told():
            try:
                self._jobs.update_one(asked, {"$set": {KEY: [first_half(key)]}})
            except errors.DuplicateKeyError:  # it is beside another that runs still
                self._jobs.update_one(asked, {"$unset": {KEY: ""}})

    def _free(self, halves: Collection[str], session: Any = None) -> None:
        """Let jobs that an edit in mongosh has ended hold nothing."""
        ended = {KEY: {"$in": [*halves]}, "state": {"$nin": [*LIVE, STAGED]}}
        with self._connection.told():
            self._jobs.update_many(ended, {"$unset": {KEY: ""}}, session=session)

    def taken(self, document: Document, index: int | None) -> KeyTaken | None:
        """The error for a new job whose key was taken; None if it is free by now."""
        self._free(document[KEY])
        with self._connection.told():
            found = self._jobs.find_one({KEY: {"$in": document[KEY]}}, {"state": 1})
        if found is None:
            return None
        state = "being handed in" if found["state"] == STAGED else found["state"]
        return KeyTaken(found["_id"], document["unique"], state, index)
