"""Changes of jobs in a database: all or none, each by a rule that sees the jobs as they are.

What a rule has read is compared when its result is written, and only what it changed is written, so
that neither another queuectl nor an edit in mongosh is written over.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, cast

from pymongo import errors
from pymongo.operations import DeleteOne, InsertOne, UpdateOne

from queuectl.errors import NoSuchJob, StoreBusy
from queuectl.model.fields import STATES
from queuectl.model.job import Job
from queuectl.model.scheduling import CLAIMABLE
from queuectl.model.selection import Selection, selected
from queuectl.store.facts import check_count, is_selection
from queuectl.store.mongodb.connection import Connection
from queuectl.store.mongodb.documents import (
    FOLLOWED,
    STAGED,
    Document,
    difference,
    to_document,
    to_job,
)
from queuectl.store.mongodb.keys import Keys
from queuectl.store.mongodb.staging import Staging

TYPE_CHECKING = False
if TYPE_CHECKING:
    from queuectl.store.contract import Rule, Which

PIECE = 1000  # jobs that are changed in one transaction
TRIES = 100  # of a change that others are always faster with
_DUPLICATE = 11000  # the server's code for what another document has of a unique index


class Faster(Exception):
    """Others have changed meanwhile what something was decided by; nothing was done."""


def is_duplicate(exc: errors.BulkWriteError) -> bool:
    """Whether it was refused as another document has the same of a unique index."""
    return any(fault["code"] == _DUPLICATE for fault in (exc.details or {}).get("writeErrors", ()))


class Changes:
    """Changes and removes jobs of one database, which is a queue already.

    `follows` gives the jobs that the same step adds, `next_seq` the first of so many numbers for
    them.
    On a standalone server, and of more than a thousand jobs, each piece is one step, and the next
    one follows; a refusal comes before the first of them.
    """

    def __init__(
        self,
        connection: Connection,
        staging: Staging,
        lane: Callable[[Job], str | None],
        follows: Callable[[Sequence[tuple[Job, Job]]], Iterable[Job]],
        next_seq: Callable[[int], int],
    ) -> None:
        self._connection = connection
        self._staging, self._lane, self._keys = staging, lane, Keys(connection)
        self._follows, self._next_seq = follows, next_seq

    @property
    def _jobs(self) -> Any:
        return self._connection.database.jobs

    def change(self, which: Which, rule: Rule, exactly: int | None = None) -> dict[str, Job]:
        """See Jobs."""
        if not is_selection(which) and len(which) == 1 and exactly is None:
            return self._change_one(which, rule)
        found = self._found(which)
        what = f"a change of {len(found)} jobs"
        if self._is_one_step(found):
            return self._in_one_step(self._changing(which, rule, exactly), what)
        pairs = [(job, new) for job in found if (new := rule(job)) is not None]
        check_count(len(pairs), exactly)
        self._keys.refuse(pairs)
        changed: dict[str, Job] = {}
        for at in range(0, len(found), PIECE):
            ids = [job.id for job in found[at : at + PIECE]]
            if self._connection.has_transactions:
                piece = self._changing(_narrowed(which, ids), rule)
                changed |= self._in_one_step(piece, what)
            else:
                for job_id in ids:
                    changed |= self._change_one(_narrowed(which, [job_id]), rule)
        return changed

    def remove(
        self, which: Which, goes: Callable[[Job], bool], exactly: int | None = None
    ) -> list[Job]:
        """See Jobs. On a standalone server a job that changes meanwhile is left."""
        found = self._found(which)
        doomed = list(filter(goes, found))
        if self._is_one_step(found):
            what = f"that {len(doomed)} jobs were removed"
            deed = self._removing(which, goes, exactly)
            return cast("list[Job]", self._connection.transaction(deed, what))
        check_count(len(doomed), exactly)
        gone: list[Job] = []
        for at in range(0, len(doomed), PIECE):
            gone += self._remove(doomed[at : at + PIECE])
        return gone

    def settle(self, old: Job, new: Job, added: Collection[Job] = ()) -> bool:
        """Put the new job for the old one, and add others and what follows, as `swap`."""
        return self.swap(old, new, [*self._follows([(old, new)]), *added])

    def swap(self, old: Job, new: Job, added: Collection[Job] = ()) -> bool:
        """Put the new job for the old one, and add others; False if it is no longer as it was."""
        as_was, update = self.difference(old, new)
        if not update and not added:
            return True
        what = f"a change of job '{old.id}'"

        def swapped(changes: Document) -> bool:
            with self._connection.told(what):
                try:
                    return bool(self._jobs.update_one(as_was, changes).matched_count)
                except errors.DuplicateKeyError:
                    return False  # another job has its key

        def commit(batch: str) -> bool:
            return swapped({**update, "$push": {FOLLOWED: batch}})

        if not added:
            return swapped(update)
        # Not in a transaction: one whose process is killed locks the job for a minute.
        return self._staging.follow_on(added, self._next_seq(len(added)), old, commit)

    def _documents(self, added: Collection[Job]) -> list[Document]:
        first = self._next_seq(len(added))
        return [
            to_document(job, _lane=self._lane(job), _seq=seq)
            for seq, job in enumerate(added, first)
        ]

    def difference(self, old: Job, new: Job) -> tuple[Document, Document]:
        """See `difference`; of a job that waits, its lane too."""
        as_was, update = difference(old, new)
        if new.state in CLAIMABLE:
            lane = self._lane(new)
            step, value = ("$unset", "") if lane is None else ("$set", lane)
            update.setdefault(step, {})["_lane"] = value
        return as_was, update

    def _is_one_step(self, found: Collection[Job]) -> bool:
        return bool(found) and len(found) <= PIECE and self._connection.has_transactions

    def _found(self, which: Which) -> list[Job]:
        with self._connection.snapshot() as moment, self._connection.told():
            found = list(self._meant(which, moment))
        for _, document in found:
            self._staging.finish_what_follows(document)
        return [job for job, _ in found]

    def _meant(self, which: Which, session: Any = None) -> Iterator[tuple[Job, Document]]:
        """The jobs that are meant, with their documents; NoSuchJob for an id of none."""
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

    def _change_one(self, which: Which, rule: Rule) -> dict[str, Job]:
        """Change the one job that is named, or selected still."""
        for _ in range(TRIES):
            found = self._found(which)
            new = rule(found[0]) if found else None
            if new is None:
                return {}
            self._keys.refuse([(found[0], new)])
            if self.settle(found[0], new):
                return {new.id: new}
        raise StoreBusy(f"job '{found[0].id}' is changed by others all the time; try again")

    def _changing(
        self, which: Which, rule: Rule, exactly: int | None = None
    ) -> Callable[[Any], dict[str, Job]]:
        """What changes all the jobs in a transaction."""

        def deed(session: Any) -> dict[str, Job]:
            found = [(old, rule(old)) for old, _ in self._meant(which, session)]
            pairs = [(old, new) for old, new in found if new is not None]
            check_count(len(pairs), exactly)
            self._keys.refuse(pairs, session)
            steps: list[UpdateOne | InsertOne[Document]] = []
            for old, new in pairs:
                update = self.difference(old, new)[1]
                # Another's change since then makes the transaction fail, and run again.
                steps += [UpdateOne({"_id": old.id}, update)] if update else []
            if pairs and (added := [*self._follows(pairs)]):
                steps += map(InsertOne, self._documents(added))
            if steps:
                try:
                    self._jobs.bulk_write(steps, session=session)
                except errors.BulkWriteError as exc:
                    if is_duplicate(exc):
                        raise Faster from exc
                    raise
            return {new.id: new for _, new in pairs}

        return deed

    def _in_one_step(self, deed: Callable[[Any], dict[str, Job]], what: str) -> dict[str, Job]:
        for _ in range(TRIES):
            with suppress(Faster):
                return cast("dict[str, Job]", self._connection.transaction(deed, what))
        raise StoreBusy(f"others take the same unique keys all the time; {what} was not made")

    def _removing(
        self, which: Which, goes: Callable[[Job], bool], exactly: int | None
    ) -> Callable[[Any], list[Job]]:
        def deed(session: Any) -> list[Job]:
            gone = [job for job, _ in self._meant(which, session) if goes(job)]
            check_count(len(gone), exactly)
            if gone:
                deletes = [DeleteOne({"_id": job.id}) for job in gone]
                self._jobs.bulk_write(deletes, session=session)
            return gone

        return deed

    def _remove(self, jobs: Sequence[Job]) -> list[Job]:
        """Remove the jobs that are as they were; those that are gone then."""
        wanted = {job.id: job for job in jobs}
        with self._connection.told("that jobs were removed"):
            named = self._meant(Selection(ids=frozenset(wanted)))
            won = {
                job.id: document
                for job, document in named
                if wanted[job.id] == job and FOLLOWED not in document
            }
            if won:
                same = [DeleteOne(_same(document)) for document in won.values()]
                done = self._jobs.bulk_write(same)
                if done.deleted_count < len(won):
                    for document in self._jobs.find({"_id": {"$in": [*won]}}, {"_id": 1}):
                        del won[document["_id"]]
        return [job for job in jobs if job.id in won]


def _query(selection: Selection) -> Document:
    """What the server is asked for: somewhat more than is selected."""
    asked: Document = {
        "state": {"$in": [*(STATES if selection.states is None else selection.states)]}
    }
    if selection.ids is not None:
        asked["_id"] = {"$in": [*selection.ids]}
    if selection.tags:
        asked["tags"] = {"$all": [*selection.tags]}
    return asked


def _narrowed(which: Which, ids: Collection[str]) -> Which:
    """Those of the jobs that are meant, of a selection as far as they are selected still."""
    return which._replace(ids=frozenset(ids), limit=None) if is_selection(which) else ids


def _same(document: Mapping[str, Any]) -> dict[str, Any]:
    """What only the very same document, unchanged, satisfies."""
    return {name: {"$eq": value} for name, value in document.items()}
