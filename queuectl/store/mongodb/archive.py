"""A queue in MongoDB as one file, and back; see store/backup.py."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from queuectl.config import Settings
from queuectl.errors import Conflict
from queuectl.model.dependencies import parent_state, parents
from queuectl.model.gate import OPEN, Gate
from queuectl.model.job import Job
from queuectl.model.times import format_time
from queuectl.store.backup import check_refill, following, format_backup, keep_replaced
from queuectl.store.files.job_files import encode_job
from queuectl.store.mongodb import layout
from queuectl.store.mongodb.connection import MARKER, Connection, pieces
from queuectl.store.mongodb.documents import KEY, KIDS, WAITS, to_document
from queuectl.store.mongodb.env_sets import EnvSets
from queuectl.store.mongodb.kin import refuse_kin, waits_of
from queuectl.store.mongodb.lanes import AFTER, lane_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from queuectl.store.contract import Store

_INCOMING = "queuectl_incoming"  # the collection that is to take the place of `jobs`


class _Own(NamedTuple):
    """A job that is to be kept, the parents that it lacks, and whether others name it."""

    job: Job
    lacks: list[str] | None
    has_kids: bool


class MongodbArchive:
    """The archive of such a store: methods without a text are as Archive says.

    What is changed while a backup is made may be in it or not, job by job.
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

        A kill just before the end leaves new settings and the old jobs. What another process
        changes in the last moment, when all was looked at once more, is replaced with the rest.
        """
        store, counts = self._store, self._store.counts()
        held = sum(counts.values())
        check_refill(held, counts["in_progress"], replace=replace)
        for job in jobs:
            store.check_size(job)
        store.make()
        ids = {name: self._env_sets.keep(form) for name, form in env_sets.items()}
        jobs = [job._replace(env_set=ids.get(job.env_set or "", job.env_set)) for job in jobs]
        if not self._connection.has_transactions:
            refuse_kin(jobs, self._connection.address.name)
        old = store.settings()
        present: dict[str, Job] = {}
        kept = self._keep(present) if held else None
        gate = Settings(settings).gate() or OPEN
        states = {job.id: parent_state(job) for job in jobs}
        named = {name for job in jobs for name in parents(job)}
        new = (following(job, present.get(job.id)) for job in jobs)
        self._fill((_Own(job, waits_of(job, states.get), job.id in named) for job in new), gate)
        if not store.change_settings(old, settings):
            raise Conflict("somebody else has changed the settings; nothing was replaced")
        try:
            self._put_in_place(present)
        except BaseException:
            store.change_settings(settings, old)
            raise
        return kept

    def _keep(self, present: dict[str, Job]) -> str:
        """A backup of what is about to be replaced, which is noted in `present`."""

        def jobs() -> Iterator[Job]:
            for job in self._store.find():
                present[job.id] = job._replace(history=(), command="")  # they may be many
                yield job

        return keep_replaced(self._store.folder, self._lines(jobs()), self._store.now())

    def _fill(self, jobs: Iterator[_Own], gate: Gate) -> None:
        """Put the jobs into a collection of their own, that no other process knows yet."""
        incoming = self._connection.database[_INCOMING]
        with self._connection.told():
            incoming.drop()
        layout.make_jobs(self._connection, _INCOMING)
        first = round(self._connection.now() * 1_000_000) * 1000
        keys: set[str] = set()
        for piece in pieces(jobs):
            documents = []
            for seq, (job, lacks, has_kids) in enumerate(piece, first):
                lane = AFTER if lacks else lane_of(job, gate)
                own = {"_lane": lane, "_seq": seq, WAITS: lacks, KIDS: 1 if has_kids else None}
                document = to_document(job, **own)
                if not keys.isdisjoint(held := document.get(KEY, ())):
                    del document[KEY]  # one was added beside one that ran
                keys.update(held)
                documents.append(document)
            first += len(piece)
            with self._connection.told():
                incoming.insert_many(documents)

    def _put_in_place(self, present: Mapping[str, Job]) -> None:
        """Let that collection be the jobs, in one step; Conflict if these changed meanwhile."""
        database = self._connection.database
        with self._connection.told("that the jobs were replaced"):
            found = {one["_id"]: one.get("rev", 1) for one in database.jobs.find({}, {"rev": 1})}
            if found != {job.id: job.rev for job in present.values()}:
                raise Conflict(
                    "others change the queue meanwhile; nothing was replaced: stop them, try again"
                )
            database[_INCOMING].rename("jobs", dropTarget=True)
            database.meta.update_one({"_id": MARKER}, {"$inc": {"replaced": 1}})
