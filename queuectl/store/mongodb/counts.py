"""How many jobs are in each state, told soon however many there are.

The completed ones are mostly the many. They are not counted, but reckoned: the server itself keeps
a number of all the documents, and those of every other state are counted in an index. That number
holds for as long as the server's process runs; one that was killed may come back with a number that
is a little off. So it is compared with a count once for each process, at a moment when nobody adds
a job, and what it is off by is kept with the marker.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from pymongo.errors import OperationFailure

from queuectl.model.fields import STATES
from queuectl.store.mongodb.connection import MARKER, Connection
from queuectl.store.mongodb.documents import STAGED, Document

_MANY = "completed"
_TRANSACTION = 90.0  # seconds; the server ends one after 60
_OTHERS = [*(state for state in STATES if state != _MANY), STAGED]


def _count_of(state: str) -> list[Document]:
    return [
        {"$match": {"state": state}},
        {"$count": "count"},
        {"$set": {"_id": {"$literal": state}}},
    ]


def _beside(collection: str, steps: list[Document]) -> Document:
    return {"$unionWith": {"coll": collection, "pipeline": steps}}


_COUNT_OTHERS = [
    *_count_of(_OTHERS[0]),
    *(_beside("jobs", _count_of(state)) for state in _OTHERS[1:]),
    _beside("meta", [{"$match": {"_id": MARKER}}, {"$project": {"replaced": 1, "counted": 1}}]),
]


def counts(connection: Connection) -> dict[str, int]:
    """The number of jobs by state, each at a moment of its own; every state is there."""
    jobs = connection.jobs
    with connection.told():
        held = jobs.estimated_document_count()
        found = {one["_id"]: one for one in jobs.aggregate(_COUNT_OTHERS, hint="due")}
        marker = found.pop(MARKER, {})
        others = {state: one["count"] for state, one in found.items()}
        now = {"process": connection.process, "replaced": marker.get("replaced", 0)}
        known = marker.get("counted") or {}
        known = known if known | now == known else {}
        if known.get("sure"):
            many = max(0, held + known["off"] - sum(others.values()))
        else:
            many = _counted(jobs)
            if now["process"] is not None and jobs.estimated_document_count() == held:
                _keep(connection, known, {**now, "off": many + sum(others.values()) - held})
    return {state: many if state == _MANY else others.get(state, 0) for state in STATES}


def _counted(jobs: Any) -> int:
    asked = {"query": {"state": _MANY}, "hint": "due"}
    return int(jobs.database.command("count", "jobs", **asked)["n"])


def _keep(connection: Connection, known: Document, counted: Document) -> None:
    """Keep what the server's number is off by, so that others need not count.

    What a transaction adds is in that number before it is there for others: so a difference counts
    only if it is the same when each transaction that ran then is over.
    """
    at = connection.now()
    since = known.get("since", at) if known.get("off") == counted["off"] else at
    counted |= {"since": since, "sure": counted["off"] == 0 or at - since > _TRANSACTION}
    with suppress(OperationFailure):  # not every user may write
        connection.soon.meta.update_one({"_id": MARKER}, {"$set": {"counted": counted}})
