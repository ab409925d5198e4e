"""A queue in MongoDB as one file, and back; see store/backup.py."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from queuectl.config import Settings
from queuectl.errors import Conflict, StoreError
from queuectl.model.dependencies import parent_state, parents
from queuectl.model.gate import OPEN, Gate
from queuectl.model.job import Job
from queuectl.model.times import format_time
from queuectl.store.backup import check_refill, following, format_backup, keep_replaced
from queuectl.store.contract import Store
from queuectl.store.files.job_files import encode_job
from queuectl.store.mongodb import layout
from queuectl.store.mongodb.connection import MARKER, Connection, pieces
from queuectl.store.mongodb.documents import KEY, KIDS, WAITS, to_document
from queuectl.store.mongodb.env_sets import EnvSets
from queuectl.store.mongodb.kin import waits_of
from queuectl.store.mongodb.lanes import AFTER, lane_of

# The front of the name of a collection that will replace `jobs`; the time of its making follows.
_INCOMING = "queuectl_incoming_"
_ABANDONED = 3_600_000_000  # microseconds after which it counts as left by a killed process


class _Own(NamedTuple):
    """A job to store, the parents that it lacks, and whether others name it."""

    job: Job
    lacks: list[str] | None
    has_kids: bool


class MongodbArchive:
    """Archive for a store in MongoDB; methods without a docstring: see Archive.

    Changes made during a backup may be in it or not, job by job.
    """

    def __init__(self, store: Store, connection: Connection, env_sets: EnvSets) -> None:
        self._store, self._connection = store, connection
        self._env_sets = env_sets

    def backup(self) -> Iterator[bytes]:
        return self._lines(self._store.find())

    def _lines(self, jobs: Iterable[Job]) -> Iterator[bytes]:
        store = self._store
        settings, made_at = store.settings(), format_time(store.now())
        yield from format_backup(map(encode_job, jobs), settings, self._env_sets.all(), made_at)

    def refill(
        self,
        jobs: Sequence[Job],
        settings: Mapping[str, object],
        env_sets: Mapping[str, Mapping[str, Any]],
        *,
        replace: bool,
    ) -> str | None:
        """See Archive; an earlier queue is kept as a backup in this host's folder.

        A kill just before the end leaves the new settings with the old jobs. A change by another
        process in the last moment, after the final check, is replaced with the rest. Also raises
        InvalidInput for a job that MongoDB, or a standalone server, cannot keep, and Conflict while
        workers live: a job claimed in that moment would run twice.
        """
        store, counts = self._store, self._store.counts()
        held = sum(counts.values())
        check_refill(held, counts["in_progress"], replace=replace)
        if held and (alive := sum(worker.alive for worker in store.workers())):
            raise Conflict(f"{alive} worker(s) run: 'queuectl worker stop --all-hosts' comes first")
        for job in jobs:
            store.check_size(job)
        store.make()
        ids = {name: self._env_sets.keep(form) for name, form in env_sets.items()}
        jobs = [job._replace(env_set=ids.get(job.env_set or "", job.env_set)) for job in jobs]
        old, replaced = store.settings(), self._replaced()
        present: dict[str, Job] = {}
        kept = self._keep(present) if held else None
        gate = Settings(settings).gate() or OPEN
        states = {job.id: parent_state(job) for job in jobs}
        named = {name for job in jobs for name in parents(job)}
        new = (following(job, present.get(job.id)) for job in jobs)
        owns = (_Own(job, waits_of(job, states.get), job.id in named) for job in new)
        with self._incoming() as incoming:
            self._fill(incoming, owns, gate)
            if not store.change_settings(old, settings):
                raise Conflict("somebody else has changed the settings; nothing was replaced")
            try:
                self._put_in_place(incoming, present, replaced)
            except BaseException:
                store.change_settings(settings, old)
                raise
        return kept

    def _keep(self, present: dict[str, Job]) -> str:
        """Write a backup of what is about to be replaced, noting it in `present`; its path."""

        def jobs() -> Iterator[Job]:
            for job in self._store.find():
                present[job.id] = job._replace(history=(), command="")  # there may be many
                yield job

        return keep_replaced(self._store.folder, self._lines(jobs()), self._store.now())

    @contextmanager
    def _incoming(self) -> Iterator[Any]:
        """A new collection of jobs, removed at the end; also removes those of killed processes."""
        database, now = self._connection.database, round(self._connection.now() * 1_000_000)
        made = f"{_INCOMING}{now}"
        with self._connection.told():
            like = {"name": {"$regex": f"^{_INCOMING}[0-9]+$"}}
            for name in database.list_collection_names(filter=like):
                if int(name.removeprefix(_INCOMING)) < now - _ABANDONED:
                    database.drop_collection(name)
        layout.make_jobs(self._connection, made)
        try:
            yield database[made]
        finally:
            with suppress(StoreError), self._connection.told():
                database.drop_collection(made)

    def _fill(self, incoming: Any, jobs: Iterator[_Own], gate: Gate) -> None:
        """Put the jobs into the collection `incoming`."""
        first = round(self._connection.now() * 1_000_000) * 1000
        keys: set[str] = set()
        for piece in pieces(jobs):
            documents = []
            for seq, (job, lacks, has_kids) in enumerate(piece, first):
                lane = AFTER if lacks else lane_of(job, gate)
                own = {"_lane": lane, "_seq": seq, WAITS: lacks, KIDS: 1 if has_kids else None}
                document = to_document(job, **own)
                if not keys.isdisjoint(held := document.get(KEY, ())):
                    del document[KEY]  # one was added beside a running one
                keys.update(held)
                documents.append(document)
            first += len(piece)
            with self._connection.told():
                incoming.insert_many(documents)

    def _replaced(self) -> object:
        """A value that another restore at the same time changes."""
        with self._connection.told():
            return (self._connection.database.meta.find_one(MARKER) or {}).get("replaced")

    def _put_in_place(self, incoming: Any, present: Mapping[str, Job], replaced: object) -> None:
        """Replace the jobs by `incoming` in one step; Conflict if they changed meanwhile."""
        database, one_more = self._connection.database, {"$inc": {"replaced": 1}}
        with self._connection.told("that the jobs were replaced"):
            found = {one["_id"]: one.get("rev", 1) for one in database.jobs.find({}, {"rev": 1})}
            as_was = {"_id": MARKER, "replaced": replaced}
            if (
                found != {job.id: job.rev for job in present.values()}
                or not database.meta.update_one(as_was, one_more).matched_count
            ):
                raise Conflict(
                    "others change the queue meanwhile; nothing was replaced: stop them, try again"
                )
            incoming.rename("jobs", dropTarget=True)
            database.meta.update_one({"_id": MARKER}, one_more)  # watchers read this
