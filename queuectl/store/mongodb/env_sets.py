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
from queuectl.store.mongodb.connection import Connection

EnvSet = Mapping[str, Any]


class EnvSets:
    """Sets by their ids. `form` is JSON text: a captured variable may hold more than UTF-8."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.where = connection.address.name

    def id_of(self, form: EnvSet) -> str:
        """The id of a set, made of its content."""
        return sha256(json.dumps(form, sort_keys=True).encode()).hexdigest()[:16]

    def keep(self, form: EnvSet) -> str:
        """Keep a set, unless it is kept already; its id."""
        own, kept = self.id_of(form), {"$setOnInsert": {"form": json.dumps(form)}}
        # Another process may keep the same set at this moment.
        with self._connection.told(), suppress(errors.DuplicateKeyError):
            self._connection.database.env_sets.update_one({"_id": own}, kept, upsert=True)
        return own

    def of(self, job: Job) -> EnvSet | None:
        """The job's set, None if it has none; NoSuchSet if that is gone."""
        if job.env_set is None:
            return None
        with self._connection.told():
            found = self._connection.database.env_sets.find_one({"_id": job.env_set})
        if found is None:
            raise NoSuchSet(job.id, job.env_set)
        form: EnvSet = json.loads(found["form"])
        return form

    def all(self) -> dict[str, EnvSet]:
        """Every set by its id."""
        with self._connection.told():
            found = self._connection.database.env_sets.find()
            return {document["_id"]: json.loads(document["form"]) for document in found}
