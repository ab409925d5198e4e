"""Jobs that wait for others, in a database. A step and its consequences are one transaction.

A waiting job notes in `_waits` which parents it lacks, and while it lacks one it is in a lane that
is never open (see lanes.py). The step that adds it increments `_kids` in the documents of its
parents: so if a parent ends at the same moment, both steps write one document, and one of them sees
the other. A job without children still ends in a single write.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

from pymongo.operations import UpdateMany, UpdateOne

from queuectl.errors import InvalidInput
from queuectl.model.dependencies import (
    Kin,
    Pair,
    asked_anew,
    check_new,
    is_met,
    parent_state,
    parents,
    states_with,
    unmet,
)
from queuectl.model.fields import RECURS, STATES
from queuectl.model.gate import Gate
from queuectl.model.job import CLAIMABLE, FINISHED, LIVE, Job
from queuectl.store.mongodb.connection import MAKE_SET, Connection, pieces
from queuectl.store.mongodb.documents import KIDS, WAITS, Document, to_job
from queuectl.store.mongodb.lanes import AFTER, PLAIN, WAITING, lane_on_server

_NAMING = ("after", "after_end")
_HINTS = {"after": "waits_after", "after_end": "waits_after_end", WAITS: "waits"}
_OF_KIDS = dict.fromkeys(("state", *_NAMING, WAITS), 1)
_OF_PARENTS = dict.fromkeys(("state", *RECURS, KIDS), 1)
_FEW = 8  # for up to so many jobs, their children are not looked for first
MOST = 10_000  # jobs enqueued at once if some of them wait for others


class Family:
    """What one step knows of jobs that name others, and of their parents, as before the step.

    `session`: the transaction's. Methods that ask the server raise the driver's own errors, which
    the transaction must see.
    """

    def __init__(self, connection: Connection, gate: Gate, session: Any = None) -> None:
        self._jobs: Any = connection.jobs
        self._gate, self._session = gate, session
        self._states: dict[str, str | None] = {}
        self._kids: dict[str, list[Job]] = {}
        self._unaware: list[str] = []  # loaded parents without waiting children

    def load(self, names: Iterable[str]) -> None:
        """Load the states of these jobs in one query."""
        wanted = [name for name in dict.fromkeys(names) if name not in self._states]
        self._states |= dict.fromkeys(wanted)
        for ids in pieces(wanted):
            asked = {"_id": {"$in": ids}, "state": {"$in": [*STATES]}}
            for document in self._jobs.find(asked, _OF_PARENTS, session=self._session):
                self._states[document["_id"]] = parent_state(_slim(document, RECURS))
                if KIDS not in document:
                    self._unaware.append(document["_id"])

    def state_of(self, job_id: str) -> str | None:
        """The state of a parent; None if there is no such job."""
        self.load((job_id,))
        return self._states[job_id]

    def kids_of(self, parent: str | None) -> Iterator[Job]:
        """The jobs, in any state, that name this parent (None: any parent)."""
        if parent is not None and parent in self._kids:
            yield from self._kids[parent]
            return
        found = self._naming({"$exists": True} if parent is None else parent)
        if parent is not None and len(found) > _FEW:  # whose own children are needed next
            for ids in pieces([kid.id for kid in found]):
                of: dict[str, list[Job]] = {name: [] for name in ids}
                for kid in self._naming({"$in": ids}):
                    for name in of.keys() & set(parents(kid)):
                        of[name].append(kid)
                self._kids |= of
        yield from found

    def _naming(self, name: object) -> list[Job]:
        named = {"$or": [{"after": name}, {"after_end": name}], "state": {"$in": [*STATES]}}
        return [*map(to_job, self._jobs.find(named, session=self._session))]

    def live_kids(self, ids: Collection[str]) -> dict[str, Job]:
        """The live jobs, with few of their fields, that wait or waited for one of these."""
        found: dict[str, Job] = {}
        for piece in pieces(ids):
            some = {"$in": piece}
            asked = {"$or": [{"after": some}, {"after_end": some}], "state": {"$in": [*LIVE]}}
            for kid in self._jobs.find(asked, _OF_KIDS, session=self._session):
                found[kid["_id"]] = _slim(kid, _NAMING)
        return found

    def consequences(
        self, pairs: Sequence[Pair], now: str, *, alone: bool
    ) -> tuple[list[Pair], Callable[[str], str | None]]:
        """What else happens in the step, and the states of parents after it.

        Raises what `check_new` raises for jobs that are to wait for others.
        """
        self.load(name for _, new in pairs for name in parents(new))
        more = Kin(self.kids_of, self.state_of).consequences(pairs, now, alone=alone)
        changed = {new.id: new for _, new in (*pairs, *more)}
        self.load(name for job in changed.values() for name in parents(job))
        state_of = states_with(changed, self.state_of)
        check_new(
            asked_anew((*pairs, *more)),
            lambda job_id: changed.get(job_id) or self._job(job_id),
            state_of,
        )
        return more, state_of

    def check_added(self, jobs: Collection[Job]) -> Callable[[str], str | None]:
        """Check what new jobs wait for, as `check_new`; returns the states of parents with them."""
        new = {job.id: job for job in jobs}
        self.load(name for job in jobs for name in parents(job) if name not in new)
        state_of = states_with(new, self.state_of)
        # Only a job of the same batch can wait for a job with a new id.
        is_named = bool(self.live_kids(new))
        check_new(
            {job.id: job for job in jobs if parents(job)},
            lambda job_id: new.get(job_id) or (self._job(job_id) if is_named else None),
            state_of,
        )
        return state_of

    def _job(self, job_id: str) -> Job | None:
        found = self._jobs.find_one(
            {"_id": job_id, "state": {"$in": [*STATES]}}, session=self._session
        )
        return to_job(found) if found else None

    def counted(self, jobs: Iterable[Job]) -> list[UpdateMany]:
        """The writes that tell parents of their new children."""
        names = dict.fromkeys(name for job in jobs for name in parents(job))
        return [UpdateMany({"_id": {"$in": some}}, {"$inc": {KIDS: 1}}) for some in pieces(names)]

    def freed(self, pairs: Sequence[Pair]) -> tuple[list[UpdateMany], int]:
        """The writes that note in waiting jobs which of these they now lack.

        They follow the changes of these jobs. Also returns how many jobs no longer lack any.
        """
        changed = {new.id: new for _, new in pairs}
        turned = [new for old, new in pairs if turns(old, new)]
        ended = {new.id: new.state for new in turned if new.state in FINISHED}
        count, writes = 0, []
        asked = {WAITS: {"$in": [*ended]}, "state": WAITING}
        for kid in self._jobs.find(asked, {WAITS: 1, "after": 1}, session=self._session):
            strict = kid.get("after", ())
            count += kid["_id"] not in changed and all(
                name in ended and is_met(ended[name], strict=name in strict) for name in kid[WAITS]
            )
        if len(turned) > _FEW:  # few of the thousands that may fall have children themselves
            kids = [*self.live_kids([*(job.id for job in turned)]).values()]
            kids += (new for new in changed.values() if new.state in CLAIMABLE)
            named = {name for kid in kids for name in parents(kid)}
            turned = [job for job in turned if job.id in named]
        for job in turned:
            name = job.id
            if job.state in FINISHED:
                only = {} if job.state == "completed" else {"after": {"$ne": name}}
                writes.append(self._change({WAITS: name, **only}, _without(name)))
            if job.state != "completed":
                lacks: list[Document] = [{"after": name}]
                lacks += [{"after_end": name}] if job.state not in FINISHED else []
                writes.append(self._change({"$or": lacks, WAITS: {"$ne": name}}, _with(name)))
        return writes, count

    def _change(self, asked: Document, waits: Document) -> UpdateMany:
        return UpdateMany({"state": WAITING, **asked}, self._waiting(waits))

    def _waiting(self, waits: Document) -> list[Document]:
        """An update that sets what a job lacks, and its lane accordingly."""
        none = {"$eq": [f"${WAITS}", []]}
        return [
            {"$set": {WAITS: waits}},
            {"$set": {WAITS: {"$cond": [none, "$$REMOVE", f"${WAITS}"]}}},
            {"$set": {"_lane": lane_on_server(self._gate)}},
            PLAIN,
        ]

    def put_right(self) -> None:
        """Note in waiting jobs which parents they lack, after any edit in mongosh."""
        found: dict[str, Document] = {}
        for field, hint in _HINTS.items():
            asked = {"state": WAITING, field: {"$exists": True}}
            for document in self._jobs.find(asked, _OF_KIDS, hint=hint):
                found[document["_id"]] = document
        jobs = {job_id: _slim(document, _NAMING) for job_id, document in found.items()}
        self.load(name for job in jobs.values() for name in parents(job))
        steps: list[UpdateOne | UpdateMany] = [
            UpdateOne(
                {"_id": job_id, "state": WAITING, WAITS: {"$eq": found[job_id].get(WAITS)}},
                self._waiting({"$literal": lacks}),
            )
            for job_id, job in jobs.items()
            if set(lacks := [*unmet(job, self.state_of)]) != set(found[job_id].get(WAITS, ()))
        ]
        for some in pieces(self._unaware):
            steps.append(UpdateMany({"_id": {"$in": some}, KIDS: None}, {"$set": {KIDS: 1}}))
        if steps:
            self._jobs.bulk_write(steps, ordered=False)


def turns(old: Job, new: Job) -> bool:
    """Whether a step of a job can matter for its children: it ends or comes back."""
    states = {parent_state(old), parent_state(new)}
    return len(states) > 1 and not states <= LIVE


def _slim(document: Document, names: Iterable[str]) -> Job:
    """A job with only its id, its state and these fields."""
    job = Job(document["_id"], document["state"], 0, "", "", 0, "", "")
    fields: dict[str, Any] = {name: document[name] for name in names if name in document}
    for name, value in fields.items():
        fields[name] = tuple(value) if isinstance(value, list) else value
    return job._replace(**fields)


def waits_of(job: Job, state_of: Callable[[str], str | None]) -> list[str] | None:
    """What the document of a job notes about the parents that it lacks; None for none."""
    return [*unmet(job, state_of)] or None if job.state in CLAIMABLE else None


def noting(update: Document, lacks: list[str] | None) -> Document:
    """The update, extended to note what the job lacks."""
    to_set, to_unset = (dict(update.get(step, {})) for step in ("$set", "$unset"))
    if lacks is None:
        to_unset[WAITS] = ""
    else:
        to_unset.pop("_lane", None)
        to_set |= {WAITS: lacks, "_lane": AFTER}
    return {step: names for step, names in (("$set", to_set), ("$unset", to_unset)) if names}


def refuse_kin(jobs: Iterable[Job], name: str) -> None:
    """Raise InvalidInput if a job waits for others, which a standalone server cannot handle."""
    for job in jobs:
        if parents(job) and job.state in LIVE:
            raise needs_set(job.id, name)


def needs_set(job_id: str, name: str) -> InvalidInput:
    """The error for a step that concerns waiting children on a standalone server."""
    return InvalidInput(
        f"job '{job_id}' waits for others, or they for it: that needs a replica set, and {name} is "
        f"a standalone server: {MAKE_SET}"
    )


def _without(name: str) -> Document:
    others = {"$ne": ["$$this", {"$literal": name}]}
    return {"$filter": {"input": f"${WAITS}", "cond": others}}


def _with(name: str) -> Document:
    return {"$concatArrays": [{"$ifNull": [f"${WAITS}", []]}, [{"$literal": name}]]}
