"""The sets of captured variables, a document each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from hashlib import sha256
from typing import Any

from pymongo import errors

from queuectl.errors import NoSuchSet
from queuectl.model.job import Job
from queuectl.store.mongodb.connection import MARKER, Connection

EnvSet = Mapping[str, Any]

_HOUR, _DAY = 3600.0, 86_400.0  # seconds
_MANY = 32  # with more sets, those that no job names are looked for


class EnvSets:
    """Sets by id. `form` is JSON text, since a captured variable may not be UTF-8.

    `kept_at`: when a job with the set was last about to be added, or up to an hour earlier. A set
    is removed only a day after that, since its job may not be there yet.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def id_of(self, form: EnvSet) -> str:
        """The id of a set, made from its content."""
        return sha256(json.dumps(form, sort_keys=True).encode()).hexdigest()[:16]

    def keep(self, form: EnvSet) -> str:
        """Store a set if it is not stored yet; returns its id."""
        own, now = self.id_of(form), self._connection.now()
        kept = {"$set": {"kept_at": now}, "$setOnInsert": {"form": json.dumps(form)}}
        lately = {"_id": own, "kept_at": {"$gt": now - _HOUR}}
        # Another process may store the same set at this moment.
        with self._connection.told(), suppress(errors.DuplicateKeyError):
            if self._sets.find_one(lately, {"_id": 1}) is None:
                self._sets.update_one({"_id": own}, kept, upsert=True)
        return own

    def drop_unused(self) -> None:
        """Once a day, if there are many sets, remove those that no job names."""
        database, now = self._connection.database, self._connection.now()
        with self._connection.told():
            if self._sets.estimated_document_count() < _MANY:
                return
            due = {"_id": MARKER, "sets_looked_at": {"$not": {"$gt": now - _DAY}}}
            looks = database.meta.update_one(due, {"$set": {"sets_looked_at": now}})
            if not looks.modified_count:
                return
            self._sets.update_many({"kept_at": None}, {"$set": {"kept_at": now}})
            unused = {"_id": {"$nin": database.jobs.distinct("env_set")}}
            self._sets.delete_many({**unused, "kept_at": {"$lt": now - _DAY}})

    @property
    def _sets(self) -> Any:
        return self._connection.database.env_sets

    def of(self, job: Job) -> EnvSet | None:
        """The job's set, None if it has none; NoSuchSet if it is gone."""
        if job.env_set is None:
            return None
        with self._connection.told():
            found = self._sets.find_one({"_id": job.env_set})
        if found is None:
            where = f"the collection env_sets of {self._connection.address.name}"
            raise NoSuchSet(job.id, job.env_set, where)
        form: EnvSet = json.loads(found["form"])
        return form

    def all(self) -> dict[str, EnvSet]:
        """Every set by its id."""
        with self._connection.told():
            found = self._sets.find()
            return {document["_id"]: json.loads(document["form"]) for document in found}
