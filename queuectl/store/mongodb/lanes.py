"""Waiting jobs that something besides their time may hold back, so that a claim passes none twice.

What may hold a job back are its tokens: tags that are paused or limited, and its locks; see
model/gate.py. The tokens of a waiting job stand in its document as one text, its lane, by which
the index `lane` is sorted: so a claim asks for the first job of the lanes that are open, however
many wait in the others. A lane is only where a job is looked for: what may start is decided by the
job itself, and one that lies in a wrong lane, as after an edit in mongosh, is put into its own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from queuectl.model.claim_order import rank
from queuectl.model.gate import LOCK, OPEN, Gate, holders
from queuectl.model.job import CLAIMABLE, Job
from queuectl.model.times import format_time
from queuectl.store.mongodb.connection import Connection, pieces
from queuectl.store.mongodb.documents import WAITS, Document

WAITING = {"$in": sorted(CLAIMABLE)}
ORDER = [("priority", 1), ("run_at", 1), ("_seq", 1)]
# The server merges the lanes of one question, of both states; of more than 200 it sorts all jobs.
_AT_ONCE = 90
_FEW = 3  # jobs that a claim is ready to take, one if others are faster with those before it
_PIECE = 5000  # jobs that are put into another lane at once: the server must answer in time
AFTER = "after/"  # the lane of jobs that wait for others; no tag begins so
_EPOCH = format_time(0.0)
# Of each priority the first job: the server skips from one to the next in the index `claim`.
_FIRSTS: list[Document] = [
    {"$sort": {"state": 1, "priority": 1, "run_at": 1, "_seq": 1}},
    {
        "$group": {
            "_id": "$priority",
            "run_at": {"$first": "$run_at"},
            "seq": {"$first": "$_seq"},
        }
    },
]


def ready(now: str) -> Document:
    """The condition for jobs that wait and are due."""
    return {"state": WAITING, "run_at": {"$lte": now}}


def lane_of(job: Job, gate: Gate) -> str | None:
    """The lane of a job that waits for no other; None for that which nothing can hold back."""
    tags = [tag for tag in gated(gate) if tag in job.tags]
    return " ".join(tags + [LOCK + name for name in job.lock]) or None


def lane_by(job: Job, gate: Callable[[], Gate]) -> str | None:
    """`lane_of` by a gate that is asked for only if the job has tags."""
    return lane_of(job, gate() if job.tags else OPEN)


def gated(gate: Gate) -> list[str]:
    """The tags by which a job may be held back."""
    return sorted(gate.paused | gate.limits.keys())


class Lanes:
    """The lanes of one queue."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @property
    def _jobs(self) -> Any:
        return self._connection.jobs

    def look(self, gate: Gate) -> tuple[list[str | None], dict[str, list[Job]]]:
        """The lanes in which jobs wait, and the running jobs that hold each token."""
        holding = [{"slots": {"$exists": True}}, {"tags": {"$in": [*gate.limits]}}]
        steps: list[Document] = [
            {"$match": {"state": "in_progress", "$or": holding}},
            {"$project": {"tags": 1, "slots": 1, "runs": {"$literal": True}}},
        ]
        for state in WAITING["$in"]:
            each = [{"$match": {"state": state}}, {"$group": {"_id": "$_lane"}}]
            steps.append({"$unionWith": {"coll": "jobs", "pipeline": each}})
        with self._connection.told():
            found = list(self._jobs.aggregate(steps))
        running = (_running(document) for document in found if "runs" in document)
        lanes = dict.fromkeys(document["_id"] for document in found if "runs" not in document)
        return [*lanes], holders(running, gate)

    def first(
        self, lanes: Collection[str | None], now: str, wanted: str | None = None
    ) -> list[Document]:
        """The documents of the jobs that are claimed first of those in the lanes that are due.

        A few, as others may take the very first at this moment. `wanted`: of this one, if any.
        """
        best: list[Document] = []
        hint = "_id_" if wanted else "lane"
        for some in pieces(lanes, _AT_ONCE):
            asked = ready(now) | {"_lane": {"$in": some}}
            asked |= {"_id": wanted} if wanted else {}
            with self._connection.told():
                best += self._jobs.find(asked, hint=hint).sort(ORDER).limit(_FEW)
        return sorted(best, key=_place)[:_FEW]

    def first_aged(self, lanes: Collection[str | None], now: str, aging: float) -> list[Document]:
        """The same by the setting `aging`: the first among those that are first of a priority.

        What a step of priority is worth stands in no index, for the setting may change.
        """
        best: Document | None = None
        place: tuple[Any, ...] = ()
        for *possible, priority in self._firsts(now, aging):
            if best is not None and place < tuple(possible):
                break
            for some in pieces(lanes, _AT_ONCE):
                asked = ready(now) | {"_lane": {"$in": some}, "priority": priority}
                with self._connection.told():
                    for found in self._jobs.find(asked, hint="lane").sort(ORDER[1:]).limit(1):
                        ranked = (rank(priority, found["run_at"], aging), *_place(found)[1:])
                        if best is None or ranked < place:
                            best, place = found, ranked
        return [best] if best else []

    def aged(self, now: str, aging: float) -> Document | None:
        """The condition for jobs that come before all those of other priorities, in any lane.

        None if no job is due.
        """
        firsts = self._firsts(now, aging)
        if not firsts:
            return None
        latest, priority = now, firsts[0][-1]
        if len(firsts) > 1:
            due = firsts[1][0] - rank(priority, _EPOCH, aging)
            latest = min(now, format_time(due / 1_000_000))
        return {"priority": priority, "run_at": {"$lte": latest}}

    def _firsts(self, now: str, aging: float) -> list[tuple[int, str, int, int]]:
        """Of each priority with a due job the place of its first one; the priority comes last."""
        steps: list[Document] = []
        for state in WAITING["$in"]:
            part: list[Document] = [{"$match": {"state": state}}, *_FIRSTS]
            steps += [{"$unionWith": {"coll": "jobs", "pipeline": part}}] if steps else part
        with self._connection.told():
            found = list(self._jobs.aggregate(steps))
        return sorted(
            (rank(one["_id"], one["run_at"], aging), one["run_at"], one.get("seq") or 0, one["_id"])
            for one in found
            if one["run_at"] <= now
        )

    def next_due(self, lanes: Collection[str | None], gate: Gate, now: str) -> str | None:
        """When the first job is due, of those in the lanes; of others that are later than now."""
        if (first := self._first_due({})) is None or first > now:
            return first  # in one question, where nothing is due that is held back
        for some in pieces(lanes, _AT_ONCE):
            asked = ready(now) | {"_lane": {"$in": some}}
            with self._connection.told():
                if self._jobs.find_one(asked, {"_id": 1}, hint="lane") is not None:
                    return now
        later: Document = {"run_at": {"$gt": now}, WAITS: None}
        if gate.paused:
            later["tags"] = {"$nin": sorted(gate.paused)}
        return self._first_due(later)

    def _first_due(self, asked: Document) -> str | None:
        """When the first of the waiting jobs like these is due."""
        asked = {"state": WAITING, **asked}
        with self._connection.told():
            soon = self._jobs.find(asked, {"run_at": 1}, hint="due").sort("run_at", 1)
            found = list(soon.limit(1))
        return found[0]["run_at"] if found else None

    def put_right(self, gate: Gate) -> None:
        """Put every waiting job into its lane."""
        concerned = [{"_lane": {"$exists": True}}, {"lock": {"$exists": True}}]
        asked = {"state": WAITING, "$or": [*concerned, {"tags": {"$in": gated(gate)}}]}
        asked["$expr"] = {"$ne": [{"$ifNull": ["$_lane", ""]}, lane_on_server(gate)]}
        with self._connection.told():
            while ids := [job["_id"] for job in self._jobs.find(asked, {"_id": 1}).limit(_PIECE)]:
                wrong = {"_id": {"$in": ids}, "state": WAITING}
                self._jobs.update_many(wrong, [{"$set": {"_lane": lane_on_server(gate)}}, PLAIN])

    def put(self, job: Job, gate: Gate) -> None:
        """Put this one into its lane."""
        lane = lane_of(job, gate)
        update = {"$unset": {"_lane": ""}} if lane is None else {"$set": {"_lane": lane}}
        with self._connection.told():
            self._jobs.update_one({"_id": job.id, "state": WAITING}, update)


def open_lanes(
    lanes: Iterable[str | None], gate: Gate, using: Mapping[str, list[Job]]
) -> list[str | None]:
    """Those of the lanes whose tokens are all free, and that without tokens."""

    def is_shut(token: str) -> bool:
        if token == AFTER:
            return True
        most = gate.limits.get(token, 1 if token.startswith(LOCK) else None)
        return token in gate.paused or (most is not None and len(using.get(token, ())) >= most)

    others = (lane for lane in lanes if lane is not None)
    return [None, *(lane for lane in others if not any(map(is_shut, lane.split())))]


def _running(document: Document) -> Job:
    """Of a running job what it holds."""
    tags, slots = (document.get(name) for name in ("tags", "slots"))
    job = Job(document["_id"], "in_progress", 0, "", "", 0, "", "")
    return job._replace(
        tags=tuple(tags) if isinstance(tags, list) else (),
        slots=tuple(slots) if isinstance(slots, list) else (),
    )


def _place(document: Document) -> tuple[Any, ...]:
    return (document["priority"], document["run_at"], document.get("_seq", 0))


def lane_on_server(gate: Gate) -> Document:
    """`lane_of`, as the server reckons it; empty for None."""
    tags = {"$cond": [{"$isArray": "$tags"}, "$tags", []]}
    locks = {"$cond": [{"$isArray": "$lock"}, "$lock", []]}
    is_text = {"$eq": [{"$type": "$$this"}, "string"]}
    tokens = {
        "$concatArrays": [
            {"$filter": {"input": {"$literal": gated(gate)}, "cond": {"$in": ["$$this", tags]}}},
            {
                "$map": {
                    "input": {"$filter": {"input": locks, "cond": is_text}},
                    "in": {"$concat": [LOCK, "$$this"]},
                }
            },
        ]
    }
    joined = {"$reduce": {"input": tokens, "initialValue": "", "in": _JOIN}}
    return {"$cond": [{"$isArray": f"${WAITS}"}, AFTER, joined]}


PLAIN = {"$set": {"_lane": {"$cond": [{"$eq": ["$_lane", ""]}, "$$REMOVE", "$_lane"]}}}
_JOIN = {
    "$cond": [
        {"$eq": ["$$value", ""]},
        "$$this",
        {"$concat": ["$$value", " ", "$$this"]},
    ]
}
