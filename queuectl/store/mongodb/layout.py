"""What a database holds that is a queue: its marker, its collections and their indexes."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from pymongo import ASCENDING, errors

from queuectl.errors import StoreError
from queuectl.store.mongodb.connection import Connection

FORMAT = 1
INDEXES = 2  # raised when one is added: a process that finds fewer makes them
MARKER = "queuectl"
COLLECTIONS = ("jobs", "dlq", "config", "workers", "logs", "env_sets", "meta")
_EXISTS = 48
# A claim scans the first: the ready jobs of each state, in the order in which they are claimed,
# whatever is due later. The second counts, and tells what is due next; the third lists.
_JOB_INDEXES = {
    "claim": ("state", "priority", "run_at", "_seq"),
    "due": ("state", "run_at"),
    "order": ("_seq",),
    "worker": ("worker", "state"),
    "batch": ("_batch",),
}
_SPARSE = ("worker", "batch")


def read_marker(connection: Connection) -> tuple[bool, list[dict[str, Any]]]:
    """Whether the database is a queue already, and the batches that wait in it.

    Raises StoreError for one that a newer queuectl made, or that holds another's collections.
    """
    marker, batches = _meta(connection)
    if marker is None:
        with connection.told():
            names = set(connection.database.list_collection_names())
        foreign = sorted(names.intersection(COLLECTIONS))
        if foreign:
            marker, batches = _meta(connection)  # somebody made it between the two looks
            if marker is None:
                raise StoreError(
                    f"database {connection.address.name} holds a collection '{foreign[0]}' that is "
                    "not queuectl's; name another database (docs/mongodb.md tells how to bring its "
                    "jobs over)"
                )
    if marker is not None and marker.get("format") != FORMAT:
        raise StoreError(
            f"{connection.address.name} was made by a newer queuectl (format "
            f"{marker.get('format')}; this one knows {FORMAT}): update it"
        )
    return marker is not None, batches


def _meta(connection: Connection) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    with connection.told():
        found = list(connection.database.meta.find())
    marker = next((document for document in found if document["_id"] == MARKER), None)
    if marker is not None and marker.get("indexes", 0) < INDEXES:
        _make_indexes(connection)
    return marker, [document for document in found if document["_id"].startswith("batch/")]


def make(connection: Connection) -> None:
    """Make the database a queue; several may do so at once."""
    marker = {"format": FORMAT, "made_at": connection.now(), "indexes": 0}
    # First: a collection of ours without the marker would be taken for another's.
    with connection.told(), suppress(errors.DuplicateKeyError):
        connection.database.meta.update_one({"_id": MARKER}, {"$setOnInsert": marker}, upsert=True)
    _make_indexes(connection)


def _make_indexes(connection: Connection) -> None:
    database = connection.database
    with connection.told():
        for name, keys in _JOB_INDEXES.items():
            how = {"sparse": True} if name in _SPARSE else {}
            database.jobs.create_index([(key, ASCENDING) for key in keys], name=name, **how)
        if not connection.has_transactions:  # what changed is asked for: see watch.py
            database.jobs.create_index([("updated_at", ASCENDING)], name="changed")
        database.logs.create_index([("name", ASCENDING), ("at", ASCENDING)], name="piece")
        database.logs.create_index([("job", ASCENDING)], name="job")
        database.logs.create_index([("sent_at", ASCENDING)], name="sent")
        try:
            dead: list[dict[str, Any]] = [{"$match": {"state": "dead"}}]
            database.create_collection("dlq", viewOn="jobs", pipeline=dead)
        except (errors.CollectionInvalid, errors.OperationFailure) as exc:
            if getattr(exc, "code", _EXISTS) not in (_EXISTS, None):
                raise
        database.meta.update_one({"_id": MARKER}, {"$set": {"indexes": INDEXES}})
