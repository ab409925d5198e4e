"""Changes of jobs in a database: all or none, each by a rule that sees the present jobs.

What a rule has read is compared when its result is written, and only what it changed is written: so
neither another queuectl's change nor an edit in mongosh is overwritten.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeAlias, cast

from pymongo import errors
from pymongo.operations import DeleteOne, InsertOne, UpdateMany, UpdateOne

from queuectl.errors import NoSuchJob, StoreBusy
from queuectl.model.dependencies import asked_anew, needed, parents
from queuectl.model.fields import STATES
from queuectl.model.gate import OPEN, Gate
from queuectl.model.job import CLAIMABLE, Job
from queuectl.model.selection import Selection, selected
from queuectl.model.times import format_time
from queuectl.store.facts import check_count, is_selection
from queuectl.store.mongodb.claims import Settling
from queuectl.store.mongodb.connection import DUPLICATE, SHARDED, Connection, pieces
from queuectl.store.mongodb.documents import (
    FOLLOWED,
    KIDS,
    STAGED,
    Document,
    difference,
    to_document,
    to_job,
)
from queuectl.store.mongodb.keys import Keys
from queuectl.store.mongodb.kin import Family, needs_set, noting, turns, waits_of
from queuectl.store.mongodb.lanes import lane_by
from queuectl.store.mongodb.staging import Staging

TYPE_CHECKING = False
if TYPE_CHECKING:
    from queuectl.model.dependencies import Pair
    from queuectl.store.contract import Kept, Rule, Which

    Step: TypeAlias = UpdateOne | UpdateMany | InsertOne[Document]

PIECE = 1000  # jobs changed in one transaction
TRIES = 100  # tries of a change while others keep being faster


class Faster(Exception):
    """The basis of a decision has changed meanwhile; nothing was done.

    Its argument is the server's write error if an index refused a write.
    """


class Changes:
    """Changes and removes jobs of one database, which must be a queue already.

    `follows` gives the jobs that the same step adds, `next_seq` the first of as many numbers as
    they need.
    On a standalone server, and for more than a thousand jobs, each piece is a step of its own; a
    refusal comes before the first of them.
    """

    def __init__(
        self,
        connection: Connection,
        staging: Staging,
        gate: Callable[[], Gate],
        follows: Callable[[Sequence[tuple[Job, Job]]], Iterable[Job]],
        next_seq: Callable[[int], int],
    ) -> None:
        self._connection = connection
        self._staging, self._gate, self._keys = staging, gate, Keys(connection)
        self.freed = 0  # see Store
        self.unconfirmed = False  # see `swap`
        self._follows, self._next_seq = follows, next_seq

    @property
    def _jobs(self) -> Any:
        return self._connection.jobs

    def change(
        self, which: Which, rule: Rule, exactly: int | None = None, *, alone: bool = False
    ) -> dict[str, Job]:
        """See Jobs; StoreBusy if others keep being faster."""
        self.freed = 0
        if not is_selection(which) and len(which) == 1 and exactly is None:
            return self._change_one(which, rule, alone=alone)
        documents = self._found(which)
        found = [job for job, _ in documents]
        what = f"a change of {len(found)} jobs"
        if self._is_one_step(found):
            return self._in_one_step(self._changing(which, rule, exactly, alone=alone), what)
        pairs = []
        for job, document in documents:
            if (new := rule(job)) is not None:
                self._refuse_kin(job, new, document)
                pairs.append((job, new))
        check_count(len(pairs), exactly)
        self._keys.refuse(pairs)
        changed: dict[str, Job] = {}
        for ids in pieces([job.id for job in found], PIECE):
            if self._connection.has_transactions:
                piece = self._changing(_narrowed(which, ids), rule, alone=alone)
                changed |= self._in_one_step(piece, what)
            else:
                for job_id in ids:
                    changed |= self._change_one(_narrowed(which, [job_id]), rule)
        return changed

    def remove(
        self,
        which: Which,
        goes: Callable[[Job], bool],
        exactly: int | None = None,
        kept: Kept = None,
    ) -> list[Job]:
        """See Jobs; StoreBusy as above. A standalone server leaves a job that changes meanwhile."""
        found = [job for job, _ in self._found(which)]
        doomed = list(filter(goes, found))
        if self._is_one_step(found):
            what = f"that {len(doomed)} jobs were removed"
            doomed, stay = self._connection.transaction(self._removing(which, goes, exactly), what)
            return _parted(doomed, stay, kept)
        check_count(len(doomed), exactly)
        with self._connection.told():
            stay = self._needed(doomed)
        doomed = _parted(doomed, stay, kept)
        gone: list[Job] = []
        for piece in pieces(doomed, PIECE):
            gone += self._remove(piece)
        return gone

    def settling(self, old: Job, new: Job) -> Settling:
        """How a finished run is settled, for the claim that follows."""
        self.unconfirmed = False
        added = [*self._follows([(old, new)])]
        alone = partial(self.swap, old, new, added, soon=True)
        can = not (added or new.state in CLAIMABLE)  # one of those may be claimed next
        return Settling(old, partial(self._step_alone, old, new) if can else None, alone)

    def _step_alone(self, old: Job, new: Job) -> UpdateOne:
        """The write that replaces the old job by the new one, if no job waits for it."""
        as_was, update = self.difference(old, new)
        return UpdateOne({**as_was, KIDS: None}, update, hint="_id_")

    def settle(self, old: Job, new: Job, added: Collection[Job] = ()) -> bool:
        """`swap`, which also adds what follows, such as hooks."""
        return self.swap(old, new, [*self._follows([(old, new)]), *added])

    def swap(self, old: Job, new: Job, added: Collection[Job] = (), *, soon: bool = False) -> bool:
        """Replace the old job by the new one, and add others; False if it has changed meanwhile.

        `soon`: the next write confirms it, since each write confirms all before it; `unconfirmed`
        shows whether that is needed. StoreBusy if others keep taking the same unique keys.
        """
        self.unconfirmed = False
        as_was, update = self.difference(old, new)
        if not update and not added:
            return True
        what, can = f"a change of job '{old.id}'", self._connection.has_transactions
        if can and _has_kin(old, new, {}):
            return self._swap_with_kin(as_was, old, new, added)
        matters = can and turns(old, new)
        lonely = {**as_was, KIDS: None} if matters else as_was  # one write if no job waits for it
        soon = soon and not added and self._connection.form != SHARDED
        jobs = self._connection.soon.jobs if soon else self._jobs

        def swapped(changes: Document) -> bool:
            with self._connection.told(what):
                try:
                    # Without a hint the server tries each index with some of the fields.
                    done = jobs.update_one(lonely, changes, hint="_id_")
                    return bool(done.matched_count)
                except errors.DuplicateKeyError:
                    return False  # another job has its key

        def commit(batch: str) -> bool:
            return swapped({**update, "$push": {FOLLOWED: batch}})

        if not added:
            done = swapped(update)
            self.unconfirmed = done and soon
        else:
            # Not in a transaction: if its process is killed, it locks the job for a minute.
            done = self._staging.follow_on(added, self._next_seq(len(added)), old, commit)
        return done or (matters and self._swap_with_kin(as_was, old, new, added))

    def _swap_with_kin(self, as_was: Document, old: Job, new: Job, added: Collection[Job]) -> bool:
        """`swap` for a job that waits for others or that others wait for."""

        def deed(session: Any) -> dict[str, Job]:
            if self._jobs.find_one(as_was, {"_id": 1}, session=session) is None:
                return {}
            return self._step([(old, new)], session, added)

        return bool(self._in_one_step(deed, f"a change of job '{old.id}'"))

    def _documents(self, added: Collection[Job]) -> list[Document]:
        first = self._next_seq(len(added))
        return [
            to_document(job, _lane=lane_by(job, self._gate), _seq=seq)
            for seq, job in enumerate(added, first)
        ]

    def difference(self, old: Job, new: Job) -> tuple[Document, Document]:
        """See documents.difference; for a waiting job with its lane."""
        as_was, update = difference(old, new)
        if new.state in CLAIMABLE:
            lane = lane_by(new, self._gate)
            step, value = ("$unset", "") if lane is None else ("$set", lane)
            update.setdefault(step, {})["_lane"] = value
        return as_was, update

    def _is_one_step(self, found: Collection[Job]) -> bool:
        return bool(found) and len(found) <= PIECE and self._connection.has_transactions

    def _found(self, which: Which) -> list[tuple[Job, Document]]:
        with self._connection.snapshot() as moment, self._connection.told():
            found = list(self._meant(which, moment))
        for _, document in found:
            self._staging.finish_what_follows(document)
        return found

    def _meant(self, which: Which, session: Any = None) -> Iterator[tuple[Job, Document]]:
        """The jobs that are meant, with their documents; NoSuchJob for an unknown id."""
        if is_selection(which):
            in_order = self._jobs.find(_query(which), session=session).sort("_seq", 1)
            in_order = sorted(in_order, key=lambda document: document["state"] == "dead")
            documents = {document["_id"]: document for document in in_order}
            for job in selected(map(to_job, in_order), which):
                yield job, documents[job.id]
            return
        asked = {"_id": {"$in": list(which)}, "state": {"$ne": STAGED}}
        documents = {found["_id"]: found for found in self._jobs.find(asked, session=session)}
        for job_id in dict.fromkeys(which):
            if job_id not in documents:
                raise NoSuchJob(job_id)
            yield to_job(documents[job_id]), documents[job_id]

    def _change_one(self, which: Which, rule: Rule, *, alone: bool = False) -> dict[str, Job]:
        """Change the one job that is named or still selected."""
        for _ in range(TRIES):
            found = self._found(which)
            if not found or (new := rule(found[0][0])) is None:
                return {}
            old, document = found[0]
            self._refuse_kin(old, new, document)
            if _has_kin(old, new, document):
                what = f"a change of job '{old.id}'"
                return self._in_one_step(self._changing(which, rule, alone=alone), what)
            self._keys.refuse([(old, new)])
            if self.settle(old, new):
                return {new.id: new}
        raise StoreBusy(f"job '{old.id}' is changed by others all the time; try again")

    def _refuse_kin(self, old: Job, new: Job, document: Document) -> None:
        """Raise InvalidInput for a step that needs a transaction on a server without them."""
        concerns = _has_kin(old, new, document) or asked_anew([(old, new)])
        if concerns and not self._connection.has_transactions:
            raise needs_set(old.id, self._connection.address.name)

    def put(self, pairs: list[Pair], session: Any) -> None:
        """Replace jobs in a transaction; Faster if the old ones have changed meanwhile."""
        for old, new in pairs:
            as_was = self.difference(old, new)[0]
            if self._jobs.find_one(as_was, {"_id": 1}, session=session) is None:
                raise Faster
        self._step(pairs, session)

    def _changing(
        self, which: Which, rule: Rule, exactly: int | None = None, *, alone: bool = False
    ) -> Callable[[Any], dict[str, Job]]:
        """The function that changes all the jobs in a transaction."""

        def deed(session: Any) -> dict[str, Job]:
            pairs, has_kin = [], False
            for old, document in self._meant(which, session):
                if (new := rule(old)) is not None:
                    pairs.append((old, new))
                    has_kin = has_kin or _has_kin(old, new, document)
            check_count(len(pairs), exactly)
            if has_kin:
                return self._step(pairs, session, alone=alone)
            return self._write(pairs, session)

        return deed

    def _step(
        self, pairs: list[Pair], session: Any, added: Collection[Job] = (), *, alone: bool = False
    ) -> dict[str, Job]:
        """Change jobs with their parents and children; returns all that changed.

        `added`: the jobs that already follow from the first change.
        """
        family = Family(self._connection, self._gate(), session)
        now = format_time(self._connection.now())
        more, state_of = family.consequences(pairs, now, alone=alone)
        every = [*pairs, *more]
        waits = {new.id: waits_of(new, state_of) for _, new in every if parents(new)}
        writes, self.freed = family.freed(every)
        writes = [*family.counted(asked_anew(every).values()), *writes]
        if added and more:
            added = [*added, *self._follows(more)]
        return self._write(every, session, added, waits, writes)

    def _write(
        self,
        pairs: Sequence[Pair],
        session: Any,
        added: Collection[Job] = (),
        waits: Mapping[str, list[str] | None] | None = None,
        others: Iterable[UpdateMany] = (),
    ) -> dict[str, Job]:
        """Write the changes of jobs; `waits`: what the jobs with parents lack."""
        self._keys.refuse(pairs, session)
        steps: list[Step] = []
        for old, new in pairs:
            update = self.difference(old, new)[1]
            if waits is not None and new.id in waits:
                update = noting(update, waits[new.id])
            # A change by another process since then makes the transaction fail and run again.
            steps += [UpdateOne({"_id": old.id}, update)] if update else []
        if pairs and (added := added or [*self._follows(pairs)]):
            steps += map(InsertOne, self._documents(added))
        steps += others
        if steps:
            self.write(steps, session)
        return {new.id: new for _, new in pairs}

    def write(self, steps: Sequence[Step], session: Any) -> None:
        """Write the steps in a transaction; Faster if a unique index refuses one."""
        try:
            self._jobs.bulk_write(steps, session=session)
        except errors.BulkWriteError as exc:
            for fault in (exc.details or {}).get("writeErrors", ()):
                if fault["code"] == DUPLICATE:
                    raise Faster(fault) from exc
            raise

    def _in_one_step(self, deed: Callable[[Any], dict[str, Job]], what: str) -> dict[str, Job]:
        for _ in range(TRIES):
            with suppress(Faster):
                return cast("dict[str, Job]", self._connection.transaction(deed, what))
        raise StoreBusy(f"others take the same unique keys all the time; {what} was not made")

    def _removing(
        self, which: Which, goes: Callable[[Job], bool], exactly: int | None
    ) -> Callable[[Any], tuple[list[Job], set[str]]]:
        def deed(session: Any) -> tuple[list[Job], set[str]]:
            doomed = [job for job, _ in self._meant(which, session) if goes(job)]
            check_count(len(doomed), exactly)
            stay = self._needed(doomed, session)
            deletes = [DeleteOne({"_id": job.id}) for job in doomed if job.id not in stay]
            if deletes:
                self._jobs.bulk_write(deletes, session=session)
            return doomed, stay

        return deed

    def _needed(self, doomed: Sequence[Job], session: Any = None) -> set[str]:
        ids = {job.id for job in doomed}
        return needed(Family(self._connection, OPEN, session).live_kids(ids).values(), ids)

    def _remove(self, jobs: Sequence[Job]) -> list[Job]:
        """Remove the jobs that have not changed; returns those that are gone."""
        wanted = {job.id: job for job in jobs}
        with self._connection.told("that jobs were removed"):
            named = self._meant(Selection(ids=frozenset(wanted)))
            won = {
                job.id: document
                for job, document in named
                if wanted[job.id] == job and FOLLOWED not in document
            }
            if won:
                same = [  # none that has changed since
                    DeleteOne({name: {"$eq": value} for name, value in document.items()})
                    for document in won.values()
                ]
                done = self._jobs.bulk_write(same)
                if done.deleted_count < len(won):
                    for document in self._jobs.find({"_id": {"$in": [*won]}}, {"_id": 1}):
                        del won[document["_id"]]
        return [job for job in jobs if job.id in won]


def _has_kin(old: Job, new: Job, document: Mapping[str, Any]) -> bool:
    """Whether the change of a document's job concerns its parents or children."""
    matters = KIDS in document and turns(old, new)
    return matters or (bool(parents(new)) and new.state in CLAIMABLE)


def _parted(doomed: Sequence[Job], stay: Collection[str], kept: Kept) -> list[Job]:
    """Those of the jobs that do not stay; passes the others to `kept`."""
    if kept is not None:
        kept += [job for job in doomed if job.id in stay]
    return [job for job in doomed if job.id not in stay]


def _query(selection: Selection) -> Document:
    """The query for the server: it finds slightly more than is selected."""
    asked: Document = {
        "state": {"$in": [*(STATES if selection.states is None else selection.states)]}
    }
    if selection.ids is not None:
        asked["_id"] = {"$in": [*selection.ids]}
    if selection.tags:
        asked["tags"] = {"$all": [*selection.tags]}
    return asked


def _narrowed(which: Which, ids: Collection[str]) -> Which:
    """These of the jobs that are meant; of a selection those that it still selects."""
    return which._replace(ids=frozenset(ids), limit=None) if is_selection(which) else ids
