"""The store in a MongoDB database: the contract, with one document for each job.

A claim is one step of the server. Every other change compares what the rule has read and writes
only what it changed, so that no change by another queuectl or in mongosh is overwritten.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain, count, islice
from typing import Any

from queuectl.addresses import Address
from queuectl.config import Settings
from queuectl.errors import InvalidInput, NoSuchJob
from queuectl.model.dependencies import parents
from queuectl.model.fields import STATES
from queuectl.model.gate import OPEN
from queuectl.model.job import Job
from queuectl.model.lifecycle import Claim
from queuectl.store.facts import Summary, WorkerInfo, is_selection
from queuectl.store.files import worker_files
from queuectl.store.files.job_files import checked_line
from queuectl.store.mongodb import layout
from queuectl.store.mongodb.adding import Adding
from queuectl.store.mongodb.changes import Changes
from queuectl.store.mongodb.claims import Claims, Fenced
from queuectl.store.mongodb.connection import (
    JOB_BY_JOB,
    MAKE_SET,
    SETTINGS,
    clock,
    connect,
    pieces,
)
from queuectl.store.mongodb.counts import Counts
from queuectl.store.mongodb.documents import STAGED, check_document, to_job
from queuectl.store.mongodb.env_sets import EnvSets
from queuectl.store.mongodb.firing import Firing
from queuectl.store.mongodb.host import make_host_folder
from queuectl.store.mongodb.kin import Family, refuse_kin
from queuectl.store.mongodb.staging import Staging
from queuectl.store.mongodb.workers import LeasedSlot, MongodbWorkers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from queuectl.store.contract import Archive, Care, Kept, Meet, OnChange, Rule, Which
    from queuectl.store.output import Output
    from queuectl.store.watch import Watch

_UPKEEP = 60.0  # seconds between looks for unfinished batches
_LOOK = 0.2  # seconds; longer waits end early, since the waiter looks again
_SAME_MOMENT = 0.1  # seconds after its first look for which a command does not ask again


class MongodbStore:
    """The store in one database; methods without a docstring: see Store."""

    spans_hosts = True

    def __init__(self, address: Address, folder: str) -> None:
        self.connection = connect(address)
        self.name = address.name
        self.folder = folder  # this host's folder, see addresses.py
        self.notices = self.connection.notices
        self.on_change: OnChange = lambda pairs, settings: ()
        self._env_sets, self._counts = EnvSets(self.connection), Counts(self.connection)
        self._claims = Claims(self.connection, self.settings)
        gate = self._claims.gate
        self._staging = Staging(self.connection, gate)
        self._changes = Changes(self.connection, self._staging, gate, self._follows, self._next_seq)
        self._adding = Adding(self.connection, self._staging, self._changes, gate, self._next_seq)
        self._firing = Firing(self.connection, self._staging, self._changes)
        self._looked = time.monotonic()  # when batches were last looked for
        self._workers = MongodbWorkers(self.connection, folder, lambda: Settings(self.settings()))
        # What is theirs alone; see Store.
        self.set_id, self.env_set = self._env_sets.id_of, self._env_sets.of
        self.release, self.forget_worker = self._workers.release, self._workers.forget
        self.next_due, self.await_answer = self._claims.next_due, self.connection.await_answer
        # Only of this host's workers: others poll, and their losses are noted there.
        self.wake = partial(worker_files.wake, folder)
        self.wake_idle = partial(worker_files.wake_idle, folder)
        self.note_lost = partial(worker_files.note_lost, folder)
        self._marked = False  # whether the database is known to be a queue
        self._has_folder = False  # whether this object has made the host's folder
        self._settings: Mapping[str, object] = {}
        self._came_at = float("-inf")  # when they came with the first look, by `clock`
        self._last_seq = 0

    @property
    def freed(self) -> int:
        return self._changes.freed

    @freed.setter
    def freed(self, count: int) -> None:
        self._changes.freed = count

    # -- which database; what only a few commands need is imported in them

    def _there(self) -> bool:
        """Whether the database is a queue already.

        If so, this also makes what it lacks, and takes care of unfinished batches.
        """
        if not self._marked or self.connection.lacks_index:
            self.connection.lacks_index = False
            asked_at = clock()
            look = layout.first_look(self.connection)
            self._marked, self._counts.right_for = look.marked, look.right_for
            self._note_settings(look.settings, asked_at)
            self._came_at = asked_at
            self._staging.look_after(look.batches)
        return self._marked

    def _make(self) -> None:
        """Make the database a queue if it is not one."""
        if not self._there():
            layout.make(self.connection)
            self._marked = True

    @property
    def _jobs(self) -> Any:
        return self.connection.jobs

    @property
    def care(self) -> Care:
        from queuectl.store.mongodb.care import MongodbCare

        return MongodbCare(self, self.connection)

    @property
    def archive(self) -> Archive:
        from queuectl.store.mongodb.archive import MongodbArchive

        return MongodbArchive(self, self.connection, self._env_sets)

    @property
    def output(self) -> Output:
        from queuectl.store.mongodb.database_logs import DatabaseLogs

        return DatabaseLogs(self.folder, self.connection)

    def watch(self) -> Watch:
        from queuectl.store.mongodb.watch import MongodbWatch

        return MongodbWatch(self, self.connection, self.summary)

    def summary(self) -> Summary:
        """What `status` shows of the queue."""
        settings = Settings(self.settings())
        note = "" if self.connection.has_transactions else f"{JOB_BY_JOB}; {MAKE_SET}"
        return Summary(self.name, self.counts(), 0, self.workers(), settings, note=note)

    def exists(self) -> bool:
        """See Store; every database without foreign collections counts as a queue."""
        self._there()
        return True

    def make(self) -> None:
        self._make()
        self._has_folder = True
        make_host_folder(self.folder, self.connection.address)

    def identity(self) -> str:
        """See Store: that of the host folder, since a host knows only the workers there."""
        if not os.path.isdir(self.folder):
            return "none"  # no worker has run on this host
        return worker_files.folder_identity(self.folder)

    def origin(self) -> str:
        """See Store: the database, and when it became a queue."""
        return f"{self.connection.address.database} {layout.made_at(self.connection)}"

    # -- jobs

    def add(
        self,
        jobs: Iterable[Job],
        named: Mapping[str, int] | None = None,
        env_set: Mapping[str, Any] | None = None,
        meet: Meet | None = None,
    ) -> None:
        jobs = map(_sized, count(), jobs)
        first = list(islice(jobs, 1))
        if not first:
            return
        self._make()
        if env_set is not None:
            self._env_sets.keep(env_set)
        self._adding.add(chain(first, jobs), named, meet)

    def _next_seq(self, count: int) -> int:
        """The first of `count` numbers, by the clock, that come after all numbers given before."""
        first = max(round(self.connection.now() * 1_000_000) * 1000, self._last_seq)
        self._last_seq = first + count
        return first

    def get(self, job_id: str) -> Job | None:
        if not self._there():
            return None
        with self.connection.told():
            found = self._jobs.find_one({"_id": job_id, "state": {"$ne": STAGED}})
        return to_job(found) if found else None

    def find(self, states: Collection[str] | None = None) -> Iterator[Job]:
        if not self._there():
            return
        # An unknown state, which an edit may leave, is reported when all jobs are searched.
        wanted = {"$ne": STAGED} if states is None else {"$in": [*states]}
        # Not by the index of states, which could miss a job that changes state or show it twice.
        one_pass = {"hint": "order"} if states is None or len(states) > 1 else {}
        dead: list[str] = []
        with self.connection.snapshot() as moment:
            how = {"session": moment} if moment else one_pass
            for document in self._in_order({"state": wanted}, how):
                if document["state"] == "dead":
                    dead.append(document["_id"])
                else:
                    yield to_job(document)
        # By their ids: a job that was retried since then has not been yielded yet.
        for ids in pieces(dead):
            asked = {"_id": {"$in": ids}, "state": wanted}
            yield from map(to_job, self._in_order(asked, {}))

    def _in_order(
        self, asked: Mapping[str, Any], how: Mapping[str, Any]
    ) -> Iterator[Mapping[str, Any]]:
        with self.connection.told():
            yield from self._jobs.find(asked, **how).sort("_seq", 1)

    def children(self, job_id: str | None) -> Iterator[Job]:
        if self._there():
            with self.connection.told():
                yield from list(Family(self.connection, OPEN).kids_of(job_id))

    def ahead(self, job: Job, now: str, aging: float) -> list[tuple[Job, int]]:
        if not self._there():
            return []
        from queuectl.store.mongodb.ahead import ahead

        with self.connection.told():
            return ahead(self._jobs, job, now, aging)

    def counts(self) -> dict[str, int]:
        return self._counts.now() if self._there() else dict.fromkeys(STATES, 0)

    def claim(
        self,
        worker: str,
        now: str,
        finished: tuple[Job, Job] | None = None,
        log_word: str | None = None,
    ) -> Claim:
        """See Store. If the claim fails after the settling, calling it again is right."""
        if not self._there():
            return Claim(None, settled=finished is None)
        self.freed, term = 0, self.connection.term
        settling = self._changes.settling(*finished) if finished else None
        try:
            job = self._claims.claim(
                worker, now, log_word, self._changes.swap, self._firing.fire, settling
            )
        except Fenced as exc:
            for started, before in exc.args:
                self._changes.swap(started, before._replace(rev=started.rev + 1))
            return Claim(None, settled=False, stored=finished and self.get(finished[0].id))
        sure = self._claims.wrote and self.connection.term == term
        if finished and self._changes.unconfirmed and not sure:
            self._changes.settle(*finished)  # the write may be lost with a primary
        if job is not None and self.freed and parents(job):
            self.freed -= 1  # this very run
        return Claim(job)

    def _follows(self, pairs: Sequence[tuple[Job, Job]]) -> Iterable[Job]:
        return self.on_change(pairs, self._claims.recent())

    def change(
        self,
        which: Which,
        rule: Rule,
        promised: bool = True,
        exactly: int | None = None,
        alone: bool = False,
    ) -> dict[str, Job]:
        self._refuse_if_absent(which)
        return self._changes.change(which, rule, exactly, alone=alone)

    def remove(
        self,
        which: Which,
        goes: Callable[[Job], bool] | None = None,
        exactly: int | None = None,
        kept: Kept = None,
    ) -> list[Job]:
        self._refuse_if_absent(which)
        return self._changes.remove(which, goes or (lambda _: True), exactly, kept)

    def _refuse_if_absent(self, which: Which) -> None:
        if not self._there() and not is_selection(which):
            for job_id in which:
                raise NoSuchJob(job_id)

    # -- settings

    def settings(self) -> Mapping[str, object]:
        there, asked_at = self._there(), clock()
        if there and asked_at - self._came_at > _SAME_MOMENT:
            self._note_settings(layout.read_settings(self.connection), asked_at)
        return self._settings

    def _note_settings(self, values: Mapping[str, object], asked_at: float) -> None:
        if values != self._settings:
            self._settings = values
        self._claims.note(self._settings, asked_at)

    def change_settings(self, old: Mapping[str, object], new: Mapping[str, object]) -> bool:
        self._make()
        self._came_at = float("-inf")
        config = self.connection.database.config
        size = {"$eq": [{"$size": {"$objectToArray": "$$ROOT"}}, len(old) + 1]}
        as_was = {name: {"$eq": value} for name, value in old.items()}
        with self.connection.told("the change of settings"):
            config.update_one({"_id": SETTINGS}, {"$setOnInsert": {}}, upsert=True)
            done = config.replace_one({"_id": SETTINGS, **as_was, "$expr": size}, dict(new))
        if done.matched_count:
            self._claims.hold_off(old, new, self._has_workers)
        return bool(done.matched_count)

    def _has_workers(self) -> bool:
        with self.connection.told():
            return self.connection.database.workers.find_one({}, {"_id": 1}) is not None

    # -- what workers need

    def present(self, job: Job) -> Job | None:
        """The present form of the job that a worker runs."""
        return self.get(job.id)

    def held_by(self, worker: str) -> list[Job]:
        """The running jobs that name this worker."""
        with self.connection.told():
            asked = {"worker": worker, "state": "in_progress"}
            return [to_job(document) for document in self._jobs.find(asked)]

    # -- workers

    def register(self, worker_id: str, pid: int, start_time: str, boot_id: str) -> LeasedSlot:
        self._marked = False  # a worker may start anew because the database was dropped
        self._make()
        return self._workers.register(worker_id, pid, start_time, boot_id)

    def workers(self, *, here: bool = False) -> list[WorkerInfo]:
        """Every worker of every host; a worker that is not alive was lost."""
        if here:
            return list(worker_files.worker_infos(self.folder))
        return list(self._workers.all()) if self._there() else []

    def orphans(self, busy: int = 0) -> list[WorkerInfo]:
        """See Workers: those with a job but without a file or document."""
        if not self._there():
            return []
        return [
            WorkerInfo(worker_id, False, worker_id, missing=True)
            for worker_id in self._workers.orphans(busy)
        ]

    def stop_elsewhere(self, now: bool) -> list[str]:
        return self._workers.stop_elsewhere(now) if self._there() else []

    # -- the rest

    def on_wait(self, tell: Callable[[str], None] | None) -> None:
        """See Store."""
        self.connection.on_wait = tell

    def prepare_claims(self) -> None:
        """Connect, so that the first claim does not."""
        self._there()

    def leave_notices(self) -> None:
        """See Store."""
        self.notices.clear()

    def check_size(self, job: Job) -> None:
        """See Jobs; also refuses what MongoDB, or a standalone server, cannot hold."""
        checked_line(job)
        check_document(job)
        if parents(job) and not self.connection.has_transactions:
            refuse_kin((job,), self.name)

    def sync(self) -> None:
        """Nothing to do: every acknowledged write is durable."""

    def fold(self) -> None:
        """Take care of unfinished batches and of jobs that were edited in mongosh."""
        self._marked = False
        if self._there():
            self._claims.put_right()
            self._env_sets.drop_unused()
        self._workers.clear()

    def tidy(self) -> None:
        """Nothing to do: there are no files to bring up to date."""

    def fold_if_due(self, *, busy: bool = False) -> bool:
        """Do now and then what `fold` does; returns False, since no files changed."""
        if time.monotonic() - self._looked > _UPKEEP:
            self._looked = time.monotonic()
            self.fold()
        return False

    def fold_due_in(self) -> float | None:
        """None: a worker polls early enough."""
        return None

    def now(self) -> float:
        """See Store; the server's clock."""
        return self.connection.now()

    def wait(self, seconds: float) -> None:
        time.sleep(min(seconds, _LOOK))

    def check(self) -> list[str]:
        """See Store: documents that are not jobs."""
        return []

    def close(self) -> None:
        """See Store. The connection belongs to the process: the next store also uses it."""
        if self._has_folder:
            self._workers.forget_secret()


def _sized(index: int, job: Job) -> Job:
    """The new job; InvalidInput, with its index, if it is too large."""
    try:
        checked_line(job)
    except InvalidInput as exc:
        exc.index = index
        raise
    return job
