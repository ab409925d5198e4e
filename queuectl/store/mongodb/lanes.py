"""Waiting jobs that something besides their time may hold, so that a claim passes none twice.

What may hold a job are its tokens: tags that are paused or limited, and its locks; see
model/gate.py. The document of a waiting job has its tokens as one text, its lane, and the index
`lane` is sorted by that: so a claim queries the first job of the open lanes, however many wait in
the others. A lane only says where to look for a job; the job itself decides whether it may start. A
job in a wrong lane, for example after an edit in mongosh, is moved to the right one.
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
# The server merges the lanes of one query, for both states; with more than 200 it sorts all jobs.
_AT_ONCE = 90
_FEW = 3  # candidates of a claim, in case others are faster with the first ones
_PIECE = 5000  # jobs moved to another lane at once: the server must answer in time
AFTER = "after/"  # the lane of jobs that wait for others; no tag begins like this
_EPOCH = format_time(0.0)
# The first job of each priority: the server skips from one to the next in the index `claim`.
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
    """The condition for due waiting jobs."""
    return {"state": WAITING, "run_at": {"$lte": now}}


def lane_of(job: Job, gate: Gate) -> str | None:
    """The lane of a job that waits for no other; None if nothing can hold the job."""
    tags = [tag for tag in gated(gate) if tag in job.tags]
    return " ".join(tags + [LOCK + name for name in job.lock]) or None


def lane_by(job: Job, gate: Callable[[], Gate]) -> str | None:
    """`lane_of` with a gate that is read only if the job has tags."""
    return lane_of(job, gate() if job.tags else OPEN)


def gated(gate: Gate) -> list[str]:
    """The tags that may hold a job."""
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
        """The documents of the due jobs in these lanes that are claimed first.

        Several, since others may just be taking the first. `wanted`: only this job, if any.
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
        """`first` with `aging`: the first among those that are the first of their priority.

        No index has what a step of priority is worth, since the setting may change.
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
        """The condition for jobs, in any lane, that come before all jobs of other priorities.

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
        """The sort key of the first due job of each priority; the priority comes last."""
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
        """When the first job in these lanes is due, or one later than now in other lanes."""
        if (first := self._first_due({})) is None or first > now:
            return first  # one query is enough if no due job is held
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
        """When the first waiting job that meets the condition is due."""
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
        """Put this job into its lane."""
        lane = lane_of(job, gate)
        update = {"$unset": {"_lane": ""}} if lane is None else {"$set": {"_lane": lane}}
        with self._connection.told():
            self._jobs.update_one({"_id": job.id, "state": WAITING}, update)


def open_lanes(
    lanes: Iterable[str | None], gate: Gate, using: Mapping[str, list[Job]]
) -> list[str | None]:
    """The lanes whose tokens are all free, and the lane without tokens."""

    def is_shut(token: str) -> bool:
        if token == AFTER:
            return True
        most = gate.limits.get(token, 1 if token.startswith(LOCK) else None)
        return token in gate.paused or (most is not None and len(using.get(token, ())) >= most)

    others = (lane for lane in lanes if lane is not None)
    return [None, *(lane for lane in others if not any(map(is_shut, lane.split())))]


def _running(document: Document) -> Job:
    """A running job with only what it holds."""
    tags, slots = (document.get(name) for name in ("tags", "slots"))
    job = Job(document["_id"], "in_progress", 0, "", "", 0, "", "")
    return job._replace(
        tags=tuple(tags) if isinstance(tags, list) else (),
        slots=tuple(slots) if isinstance(slots, list) else (),
    )


def _place(document: Document) -> tuple[Any, ...]:
    return (document["priority"], document["run_at"], document.get("_seq", 0))


def lane_on_server(gate: Gate) -> Document:
    """`lane_of` as an expression for the server; empty for None."""
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
