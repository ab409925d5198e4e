"""What a database holds that is a queue: its marker, its collections and their indexes."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from pymongo import ASCENDING, errors

from queuectl.errors import StoreError
from queuectl.store.mongodb.connection import MARKER, SETTINGS, Connection
from queuectl.store.mongodb.documents import KEY, WAITS
from queuectl.store.mongodb.schema import validator

FORMAT = 1
LAYOUT = 6  # raised when an index or a rule is added: a process that finds less makes them
COLLECTIONS = ("jobs", "dlq", "config", "workers", "logs", "env_sets", "meta")
_EXISTS = 48
# A claim scans the first: the ready jobs of each state, in the order in which they are claimed,
# whatever is due later; where something may hold jobs back, the second (see lanes.py). The third
# counts, and tells what is due next; the fourth lists.
_JOB_INDEXES = {
    "claim": ("state", "priority", "run_at", "_seq"),
    "lane": ("state", "_lane", "priority", "run_at", "_seq"),
    "due": ("state", "run_at"),
    "order": ("_seq",),
    "worker": ("worker", "state"),
    "after": ("after",),
    "after_end": ("after_end",),
    "waits": (WAITS,),
    "batch": ("_batch",),
}
_SPARSE = ("worker", "batch", "after", "after_end", "waits")
_PARTIAL = {"slots": ("slots",), "key": (KEY,), "unique": ("unique", "state")}
_ONE = ("slots", "key")  # what one job at most may hold


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
    if marker is not None and marker.get("layout", 0) < LAYOUT:
        _make_collections(connection)
    return marker, [document for document in found if document["_id"].startswith("batch/")]


def make(connection: Connection) -> None:
    """Make the database a queue; several may do so at once."""
    marker = {"format": FORMAT, "made_at": connection.now(), "layout": 0}
    # First: a collection of ours without the marker would be taken for another's.
    with connection.told(), suppress(errors.DuplicateKeyError):
        connection.database.meta.update_one({"_id": MARKER}, {"$setOnInsert": marker}, upsert=True)
    _make_collections(connection)


def _make_collections(connection: Connection) -> None:
    database = connection.database
    with connection.told():
        make_jobs(connection, "jobs")
        database.logs.create_index([("name", ASCENDING), ("at", ASCENDING)], name="piece")
        database.logs.create_index([("job", ASCENDING)], name="job")
        database.logs.create_index([("sent_at", ASCENDING)], name="sent")
        _make_collection(database, "dlq", viewOn="jobs", pipeline=[{"$match": {"state": "dead"}}])
        database.meta.update_one({"_id": MARKER}, {"$set": {"layout": LAYOUT}})


def make_jobs(connection: Connection, name: str) -> None:
    """Make a collection for jobs, with its rule and its indexes; or give it what it lacks."""
    database, rule = connection.database, validator()
    if not _make_collection(database, name, validator=rule):
        with suppress(errors.OperationFailure):  # not every user may; it is a rule for people
            database.command("collMod", name, validator=rule)
    for index, keys in _JOB_INDEXES.items():
        how = {"sparse": True} if index in _SPARSE else {}
        database[name].create_index([(key, ASCENDING) for key in keys], name=index, **how)
    for index, keys in _PARTIAL.items():
        there = {"partialFilterExpression": {keys[0]: {"$exists": True}}}
        order = [(key, ASCENDING) for key in keys]
        database[name].create_index(order, name=index, unique=index in _ONE, **there)
    if not connection.has_transactions:  # what changed is asked for: see watch.py
        database[name].create_index([("updated_at", ASCENDING)], name="changed")


def _make_collection(database: Any, name: str, **how: Any) -> bool:
    """Make a collection or view; False if it is there already."""
    try:
        database.create_collection(name, **how)
    except (errors.CollectionInvalid, errors.OperationFailure) as exc:
        if getattr(exc, "code", _EXISTS) not in (_EXISTS, None):
            raise
        return False
    return True


def read_settings(connection: Connection) -> dict[str, object]:
    """The settings that were changed, as they were written."""
    with connection.told():
        found = connection.database.config.find_one({"_id": SETTINGS}) or {}
    return {name: value for name, value in found.items() if name != "_id"}
