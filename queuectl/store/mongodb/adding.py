"""Adds new jobs to a database, and decides for those that meet others: with the same id or key.

The decision is made from the jobs as they were read, and written only if they are still the same;
otherwise it is made anew.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import chain, islice
from typing import Any, NamedTuple

from pymongo import errors
from pymongo.operations import InsertOne

from queuectl.errors import DuplicateId, InvalidInput, StoreBusy
from queuectl.model.dependencies import parents
from queuectl.model.gate import Gate
from queuectl.model.job import CLAIMABLE, LIVE, Job, refuse_key
from queuectl.store.mongodb.changes import PIECE, TRIES, Changes, Faster
from queuectl.store.mongodb.connection import Connection, pieces
from queuectl.store.mongodb.documents import (
    KEY,
    STAGED,
    WAITS,
    Document,
    second_half,
    to_document,
    to_job,
)
from queuectl.store.mongodb.keys import Keys
from queuectl.store.mongodb.kin import MOST, Family, refuse_kin, waits_of
from queuectl.store.mongodb.lanes import AFTER, lane_by
from queuectl.store.mongodb.staging import Staging

TYPE_CHECKING = False
if TYPE_CHECKING:
    from queuectl.store.contract import Meet
    from queuectl.store.mongodb.changes import Step


_TOO_MANY = (
    f"MongoDB takes at most {MOST} jobs at once if some wait for others: enqueue them in parts"
)


class _Plan(NamedTuple):
    """What to do: new jobs with their documents, and jobs before and after, by id.

    `split`: the keys whose second half a running job must leave to one of the documents.
    """

    new: list[Job]
    documents: list[Document]
    changed: dict[str, tuple[Job, Job]]
    split: list[str]


class Adding:
    """Adds jobs to one database, which must be a queue already."""

    def __init__(
        self,
        connection: Connection,
        staging: Staging,
        changes: Changes,
        gate: Callable[[], Gate],
        next_seq: Callable[[int], int],
    ) -> None:
        self._connection = connection
        self._staging, self._changes, self._keys = staging, changes, Keys(connection)
        self._gate, self._next_seq = gate, next_seq

    @property
    def _jobs(self) -> Any:
        return self._connection.jobs

    def add(self, jobs: Iterable[Job], named: Mapping[str, int] | None, meet: Meet | None) -> None:
        """See Jobs; StoreBusy if others keep taking the same ids or keys.

        On a standalone server existing jobs are changed one by one.
        """
        if meet is not None:
            self._add_meeting(list(jobs), named, meet)
            return
        jobs = self._refusing(jobs)
        first = list(islice(jobs, MOST))
        if any(map(parents, first)):
            self._add_kin(first + list(islice(jobs, 1)))
            return
        documents = (self._document(job) for job in chain(first, map(_alone, jobs)))
        if len(first) == 1:
            self._insert(next(documents))
        elif first:
            self._staging.hand_in(documents, self._next_seq)

    def _document(self, job: Job) -> Document:
        return to_document(job, _lane=lane_by(job, self._gate))

    def _add_kin(self, jobs: list[Job]) -> None:
        """Add jobs, some of which wait for others, in one transaction."""
        for _ in range(TRIES):
            plan = _Plan(jobs, [self._document(job) for job in jobs], {}, [])
            try:
                self._carry_out(plan)
                return
            except Faster as exc:
                [fault] = exc.args
                index = fault["index"]
                refusal = self._staging.refusal(fault, plan.documents[index], index)
                if refusal is not None:
                    raise refusal from None
        raise self._busy()

    def _refusing(self, jobs: Iterable[Job]) -> Iterator[Job]:
        """The jobs; raises KeyTaken at the first one whose key a live job has."""
        count = 0
        for piece in pieces(jobs):
            holders = self._keys.holders(str(job.unique) for job in piece if _needs_key(job))
            by_key = {holder.unique: [holder] for holder in holders}
            for index, job in enumerate(piece, count):
                if _needs_key(job):
                    refuse_key(job, by_key.get(job.unique, ()), index)
                yield job
            count += len(piece)

    def _insert(self, document: Document) -> None:
        """Insert one job. Raises DuplicateId or KeyTaken."""
        document |= {"_seq": self._next_seq(1), "_nonce": os.urandom(8).hex()}
        with self._connection.told(f"that job '{document['_id']}' was enqueued"):
            for _ in range(TRIES):
                try:
                    self._jobs.insert_one(document)
                    return
                except errors.DuplicateKeyError as exc:
                    # It may be our own, inserted by the first of two tries.
                    found = self._jobs.find_one({"_id": document["_id"]}, {"_nonce": 1})
                    if found is not None and found.get("_nonce") == document["_nonce"]:
                        return
                    refusal = self._staging.refusal(exc.details or {}, document, 0)
                    if refusal is not None:
                        raise refusal from None
        raise self._busy()

    def _busy(self) -> StoreBusy:
        return StoreBusy("others keep adding jobs with the same ids or keys; try again")

    # -- jobs that meet others

    def _add_meeting(self, jobs: list[Job], named: Mapping[str, int] | None, meet: Meet) -> None:
        for _ in range(TRIES):
            plan = self._planned(jobs, named, meet)
            try:
                self._carry_out(plan)
                return
            except (Faster, DuplicateId):
                continue
        raise self._busy()

    def _planned(self, jobs: list[Job], named: Mapping[str, int] | None, meet: Meet) -> _Plan:
        """What to do, judged by the present jobs; DuplicateId for an id given twice."""
        ids = [job.id for job in jobs if named is None or job.id in named]
        keys = [str(job.unique) for job in jobs if _needs_key(job)]
        stored = {job.id: job for job in [*self._named(ids), *self._keys.holders(keys)]}
        now, new = dict(stored), {}
        beside: dict[str, Collection[Job]] = {}  # the live jobs with the keys of new ones
        by_key: dict[str | None, dict[str, None]] = {}
        for job in stored.values():
            by_key.setdefault(job.unique, {})[job.id] = None
        for index, job in enumerate(jobs):
            if job.id in new:
                raise DuplicateId(job.id, "the same input", index)
            others = [now[job.id]] if job.id in now else []
            if _needs_key(job):
                alike = (now[other] for other in by_key.get(job.unique, ()) if other != job.id)
                others += [other for other in alike if other.state in LIVE]
            after = meet(index, job, others) if others else job
            if after is None:
                continue
            if not (self._connection.has_transactions or parents(job)):
                after = after._replace(after_end=())  # what needs two documents is skipped
            if after.id not in now:
                beside[after.id] = others
                by_key.setdefault(after.unique, {})[after.id] = None
            if after.id not in stored:
                new[after.id] = after
            now[after.id] = after
        documents, split = [], []
        for job in new.values():
            document = self._document(job)
            if KEY in document and beside[job.id]:
                if any(other.state in CLAIMABLE for other in beside[job.id]):
                    del document[KEY]  # the decision allows several to wait
                else:
                    document[KEY] = [second_half(str(job.unique))]
                    split.append(str(job.unique))
            documents.append(document)
        changed = {
            job_id: (old, now[job_id]) for job_id, old in stored.items() if now[job_id] is not old
        }
        return _Plan([*new.values()], documents, changed, split)

    def _named(self, ids: list[str]) -> Iterator[Job]:
        for wanted in pieces(ids):
            asked = {"_id": {"$in": wanted}, "state": {"$ne": STAGED}}
            with self._connection.told():
                yield from map(to_job, self._jobs.find(asked))

    def _carry_out(self, plan: _Plan) -> None:
        """Do what was planned. Raises Faster or DuplicateId if its basis has changed meanwhile.

        Then nothing was done; but on a standalone server, or with more than a thousand jobs, some
        may be changed.
        """
        new, documents, changed, split = plan
        for key in split:
            self._keys.split(key)
        jobs = [*new, *(after for _, after in changed.values())]
        count, kin = len(jobs), any(map(parents, jobs))
        if kin and not self._connection.has_transactions:
            refuse_kin(jobs, self._connection.address.name)
        if kin and count > MOST:
            raise InvalidInput(_TOO_MANY)
        if kin or (changed and 1 < count <= PIECE and self._connection.has_transactions):
            what = f"that {count} jobs were added"
            self._connection.transaction(lambda session: self._do(plan, session), what)
            return
        for old, after in changed.values():
            if not self._changes.swap(old, after):
                raise Faster
        if len(documents) == 1:
            self._insert(documents[0])
        elif documents:
            self._staging.hand_in(documents, self._next_seq)

    def _do(self, plan: _Plan, session: Any) -> None:
        new, documents, changed, _ = plan
        if changed:
            self._changes.put([*changed.values()], session)
        if not new:
            return
        family = Family(self._connection, self._gate(), session)
        state_of = family.check_added(new) if any(map(parents, new)) else family.state_of
        steps: list[Step] = []
        first = self._next_seq(len(new))
        for seq, (job, document) in enumerate(zip(new, documents, strict=True), first):
            lacks = waits_of(job, state_of)
            marks = {} if lacks is None else {WAITS: lacks, "_lane": AFTER}
            steps.append(InsertOne({**document, **marks, "_seq": seq}))
        self._changes.write([*steps, *family.counted(new)], session)


def _alone(job: Job) -> Job:
    """The job; InvalidInput if it waits for another one."""
    if parents(job):
        raise InvalidInput(_TOO_MANY)
    return job


def _needs_key(job: Job) -> bool:
    return job.unique is not None and job.state in LIVE
