"""The content of a database that is a queue: its marker, its collections and their indexes."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from pymongo import ASCENDING, errors

from queuectl.config import Settings
from queuectl.errors import BadFile, InvalidInput, StoreError
from queuectl.model.job import CLAIMABLE
from queuectl.store.mongodb.connection import MARKER, SETTINGS, Connection
from queuectl.store.mongodb.documents import KEY, WAITS
from queuectl.store.mongodb.schema import validator

FORMAT = 1
LAYOUT = 9  # raise it with each new index or rule: a process that finds a lower one makes them
COLLECTIONS = ("jobs", "dlq", "config", "workers", "logs", "env_sets", "meta")
_EXISTS = 48
_Index = tuple[tuple[str, ...], dict[str, Any]]  # the fields, and how


def _if(**conditions: Mapping[str, Any]) -> dict[str, Any]:
    return {"partialFilterExpression": conditions}


_SPARSE, _ONE = {"sparse": True}, {"unique": True}  # _ONE: at most one job may hold the value
_THERE = {"$exists": True}
_UNENDED = {"$gte": min(CLAIMABLE)}  # alphabetically: MongoDB 5.0 takes no list of values here
# A claim scans the first index: the waiting jobs of each state in the order of claims; if something
# may hold jobs it scans the second (see lanes.py). The third is for counts and for what is due
# next; the fourth lists. An index without ended jobs makes the end of a job cheaper.
_JOB_INDEXES: dict[str, _Index] = {
    "claim": (("state", "priority", "run_at", "_seq"), _if(state=_UNENDED)),
    "lane": (("state", "_lane", "priority", "run_at", "_seq"), _if(state=_UNENDED)),
    "due": (("state", "run_at"), {}),
    "order": (("_seq",), {}),
    "worker": (("worker",), _if(state={"$eq": "in_progress"})),
    "after": (("after",), _SPARSE),
    "after_end": (("after_end",), _SPARSE),
    "waits_after": (("state", "after"), _if(after=_THERE, state=_UNENDED)),
    "waits_after_end": (("state", "after_end"), _if(after_end=_THERE, state=_UNENDED)),
    "waits": ((WAITS,), _SPARSE),
    "batch": (("_batch",), _SPARSE),
    "slots": (("slots",), _ONE | _if(slots=_THERE)),
    "key": ((KEY,), _ONE | _if(**{KEY: _THERE})),
    "unique": (("unique", "state"), _if(unique=_THERE)),
}


class Look(NamedTuple):
    """What a process finds first: whether this is a queue, waiting batches, and settings.

    `right_for`: see counts.py.
    """

    marked: bool
    batches: list[dict[str, Any]]
    settings: dict[str, object]
    right_for: object


def first_look(connection: Connection) -> Look:
    """Look at a database, with one query if it is a queue.

    Raises StoreError if a newer queuectl made it or it has foreign collections, and BadFile if it
    lost its marker.
    """
    marker, batches, settings = _meta(connection)
    if marker is None:
        with connection.told():
            names = set(connection.database.list_collection_names())
        foreign = sorted(names.intersection(COLLECTIONS))
        if foreign:
            # Another process may have made it between the two looks.
            marker, batches, settings = _meta(connection)
            if marker is None:
                with connection.told():
                    was_ours = "lane" in connection.database.jobs.index_information()
                if was_ours:
                    raise BadFile(
                        f"database {connection.address.name} has lost the marker of a queue; to "
                        f"put it back, in mongosh: db.meta.insertOne({{_id: '{MARKER}', format: "
                        f"{FORMAT}}})"
                    )
                raise StoreError(
                    f"database {connection.address.name} holds a collection '{foreign[0]}' that is "
                    "not queuectl's; name another database (docs/mongodb.md says how to bring its "
                    "jobs over)"
                )
    if marker is not None and marker.get("format") != FORMAT:
        raise StoreError(
            f"{connection.address.name} was made by a newer queuectl (format "
            f"{marker.get('format')}; this one knows {FORMAT}): update it"
        )
    return Look(marker is not None, batches, settings, (marker or {}).get("right_for"))


def _meta(
    connection: Connection,
) -> tuple[dict[str, Any] | None, list[dict[str, Any]], dict[str, object]]:
    both = {"$unionWith": {"coll": "config", "pipeline": [{"$match": {"_id": SETTINGS}}]}}
    with connection.told():
        ours = {"$match": {"_id": {"$type": "string"}}}
        found = {one["_id"]: one for one in connection.database.meta.aggregate([ours, both])}
    marker, settings = found.get(MARKER), _as_written(connection, found.get(SETTINGS))
    layout = (marker or {}).get("layout")
    if marker is not None and (not isinstance(layout, int) or layout < LAYOUT):
        _make_collections(connection)
    batches = [found[name] for name in found if name.startswith("batch/")]
    return marker, batches, settings


def made_at(connection: Connection) -> str:
    """When the database became a queue, by the server's clock; "None" if it is not one yet."""
    return str((_meta(connection)[0] or {}).get("made_at"))


def make(connection: Connection) -> None:
    """Make the database a queue; several processes may do so at once."""
    marker = {"format": FORMAT, "made_at": connection.now(), "layout": 0}
    # First: a collection of ours without the marker would look foreign.
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
    # Not for what breaks the rule already: it must be put aside, or the queue would stand still.
    database, rule = connection.database, {"validator": validator(), "validationLevel": "moderate"}
    if not _make_collection(database, name, **rule):
        with suppress(errors.OperationFailure):  # not every user may; the rule is for people
            database.command("collMod", name, **rule)
    jobs = database[name]
    older = jobs.index_information()
    for index, (keys, how) in _JOB_INDEXES.items():
        # An older version indexed all documents.
        if "partialFilterExpression" in how.keys() - older.get(index, how).keys():
            with suppress(errors.OperationFailure):  # another process did
                jobs.drop_index(index)
        jobs.create_index([(key, ASCENDING) for key in keys], name=index, **how)
    if not connection.has_transactions:  # for queries of recent changes: see watch.py
        jobs.create_index([("updated_at", ASCENDING)], name="changed")


def _make_collection(database: Any, name: str, **how: Any) -> bool:
    """Make a collection or view; False if it exists."""
    try:
        database.create_collection(name, **how)
    except (errors.CollectionInvalid, errors.OperationFailure) as exc:
        if getattr(exc, "code", _EXISTS) not in (_EXISTS, None):
            raise
        return False
    return True


def read_settings(connection: Connection) -> dict[str, object]:
    """The settings that differ from the defaults, as written; BadFile if they have a mistake."""
    with connection.told():
        found = connection.database.config.find_one({"_id": SETTINGS})
    return _as_written(connection, found)


def _as_written(connection: Connection, document: Mapping[str, object] | None) -> dict[str, object]:
    values = {name: value for name, value in (document or {}).items() if name != "_id"}
    try:
        Settings(values)
    except InvalidInput as exc:
        where = f"the collection config of {connection.address.name}"
        raise BadFile(f"{where} holds a mistake: {exc}; mend it in mongosh") from None
    return values
