"""The queue as every front end and worker uses it: enqueue, claim, settle, cancel, retry, rescue.

Rules live in model/, jobs in a store; here they meet. A change of a job is a pure function of the
job as it is now, which the store applies while nobody else can change it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any

from queuectl.config import Settings, unknown_settings
from queuectl.errors import (
    Conflict,
    DuplicateId,
    InvalidInput,
    InvalidTransition,
    NoSuchJob,
    StoreError,
)
from queuectl.model import lifecycle
from queuectl.model.backoff import RetryPolicy
from queuectl.model.fields import check_state, find_field
from queuectl.model.ids import WORDS, MadeIds, made_ids, made_word
from queuectl.model.job import FINISHED, LIVE, Job, new_job
from queuectl.model.lifecycle import Outcome
from queuectl.model.times import format_time
from queuectl.store.facts import CANCEL
from queuectl.store.opening import open_store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO

    from queuectl.store.backup import Backup
    from queuectl.store.contract import Archive, Care, Rule, Slot, Store
    from queuectl.store.facts import Finding, WorkerInfo


class JobQueue:
    """One queue. Methods raise QueuectlError's children and then changed nothing."""

    def __init__(self, store: Store, dice: Callable[[], float] | None = None) -> None:
        self.store = store
        # What needs no rule is the store's own; see its contract.
        self.exists, self.make, self.identity = store.exists, store.make, store.identity
        self.env_set, self.on_wait, self.note_lost = store.env_set, store.on_wait, store.note_lost
        self.leave_notices, self.prepare_claims = store.leave_notices, store.prepare_claims
        self.next_due, self.sync, self.fold_if_due = store.next_due, store.sync, store.fold_if_due
        self._dice = dice or _throw
        self._word = 0
        self._settings = Settings()
        self._values: Mapping[str, object] | None = None

    @classmethod
    def open(cls, where: str) -> JobQueue:
        """The queue in a data folder; nothing is read or made before it is needed.

        InvalidInput if it is the URL of a kind of store that is not installed.
        """
        return cls(open_store(where))

    @property
    def folder(self) -> str:
        """The data folder's path."""
        return self.store.folder

    @property
    def _care(self) -> Care:
        if self.store.care is None:
            raise self._lacks("no doctor: there are no files of its own to be looked at")
        return self.store.care

    @property
    def _archive(self) -> Archive:
        if self.store.archive is None:
            raise self._lacks("no backups: the store has its own means for that")
        return self.store.archive

    def _lacks(self, what: str) -> StoreError:
        return StoreError(f"the queue in {self.folder} has {what}")

    @property
    def notices(self) -> list[str]:
        """Lines that a person should see beside the result; whoever shows them clears them."""
        return self.store.notices

    def now(self) -> str:
        """The store's time, as jobs hold it."""
        return format_time(self.store.now())

    # -- what people ask

    def enqueue(
        self, drafts: Iterable[Mapping[str, object]], env_set: Mapping[str, Any] | None = None
    ) -> list[Job]:
        """Accept all the jobs, or none; they are on disk when this returns.

        A draft holds fields as a person wrote them. The `index` of InvalidInput and DuplicateId
        tells which is wrong. `env_set`, as model/env_set.py has it, is what all the jobs take along
        from the enqueuer.
        """
        jobs: list[Job] = []
        self.enqueue_each(drafts, jobs.append, env_set)
        return jobs

    def enqueue_each(
        self,
        drafts: Iterable[Mapping[str, object]],
        made: Callable[[Job], object],
        env_set: Mapping[str, Any] | None = None,
    ) -> None:
        """The same of drafts that need not fit into memory; `made` is given each job beforehand."""
        settings, moment = self.settings(), self.store.now()
        now = format_time(moment)
        ids = MadeIds(moment, _chance())
        named: dict[str, int] = {}
        defaults = Job(
            *("", "pending", 0, now, "", settings.max_retries, now, now),
            timeout=settings.timeout,
            env_set=None if env_set is None else self.store.set_id(env_set),
        )
        count = 0

        def jobs() -> Iterator[Job]:
            nonlocal count
            for index, draft in enumerate(drafts):
                own = ids.take()
                try:
                    job = new_job(draft, job_id=own, now=now, defaults=defaults)
                except InvalidInput as exc:
                    exc.index = index
                    raise
                if job.id != own:
                    if job.id in named:
                        raise DuplicateId(job.id, "the same input", index)
                    named[job.id] = index
                made(job)
                count = index + 1
                yield job
            for job_id, index in named.items():
                if job_id in ids:
                    raise DuplicateId(job_id, "the same input", index)

        self.store.add(jobs(), named, env_set)
        self.wake_idle(count)

    def get(self, job_id: str) -> Job:
        """The job, or NoSuchJob."""
        job = self.store.get(job_id)
        if job is None:
            raise NoSuchJob(job_id)
        return job

    def find(
        self, states: Collection[str] | None = None, limit: int | None = None
    ) -> Iterator[Job]:
        """Jobs in one of the states (None: all), at most `limit`; the dead come last."""
        return islice(self.store.find(states), limit)

    def counts(self) -> dict[str, int]:
        """How many jobs are in each state."""
        return self.store.counts()

    def update(
        self,
        job_id: str,
        changes: Mapping[str, object],
        tag: Collection[str] = (),
        untag: Collection[str] = (),
        rev: int | None = None,
    ) -> Job:
        """Set fields of a job anew; a state of pending is a retry, of cancelled a cancel.

        Tags in `tag` are added to those that it has, those in `untag` taken away. Outdated if the
        job is not at `rev` (None: at any).
        """
        fields = {find_field(name).name: value for name, value in changes.items()}
        state = check_state(fields.pop("state")) if "state" in fields else None
        if state not in (None, "pending", "cancelled"):
            raise InvalidInput(
                f"a job cannot be made {state}: update sets pending (retry it) or cancelled"
            )
        if not fields and state is None and not tag and not untag:
            raise InvalidInput("nothing to change is given")

        def rule(job: Job) -> Job:
            now = self.now()
            if state == "cancelled":
                job = lifecycle.cancelled(job, now)
            elif state == "pending" and (job.state != state or job.run_at > now):
                job = lifecycle.retried(job, now)  # first: a run_at that is given holds
            own = {"tags": lifecycle.retagged(job, tag, untag)} if tag or untag else {}
            job = lifecycle.edited(job, {**fields, **own}, now) if fields or own else job
            self.store.check_size(job)
            return job

        return self._change([job_id], rule, rev)[0]

    def cancel(self, ids: Sequence[str], rev: int | None = None) -> list[Job]:
        """Cancel the jobs, all or none; those that run are ended by their workers."""
        return self._change(ids, lambda job: lifecycle.cancelled(job, self.now()), rev)

    def abandon(self, ids: Sequence[str]) -> list[Job]:
        """Give up running jobs, all or none, though something of their runs may go on.

        Conflict if the worker of one can still end it.
        """
        workers = {worker.id: worker for worker in self.workers() if worker.alive}

        def rule(job: Job) -> Job:
            worker = workers.get(str(job.worker)) if job.state == "in_progress" else None
            if worker is not None and not worker.left:
                raise Conflict(
                    f"job '{job.id}' is run by worker PID {worker.pid}, which can end it: "
                    f"'queuectl cancel {job.id}'"
                )
            return lifecycle.abandoned(job, self.now())

        return self._change(ids, rule)

    def would_cancel(self, ids: Sequence[str]) -> list[Job]:
        """The jobs as they are, if all of them could be cancelled; raises as `cancel` does."""
        return self._would(ids, lambda job: lifecycle.cancelled(job, self.now()))

    def would_retry(self, ids: Sequence[str], *, dead: bool = False) -> list[Job]:
        """The same for `retry`, or for `retry_dead`."""
        return self._would(ids, self._back if dead else self._retried)

    def _would(self, ids: Sequence[str], rule: Rule) -> list[Job]:
        jobs = [self.get(job_id) for job_id in dict.fromkeys(ids)]
        for job in jobs:
            rule(job)
        return jobs

    def _retried(self, job: Job) -> Job:
        return lifecycle.retried(job, self.now())

    def _back(self, job: Job) -> Job:
        if job.state != "dead":
            raise Conflict(f"job '{job.id}' is {job.state}, not dead: it is not in the DLQ")
        return lifecycle.retried(job, self.now())

    def retry(self, ids: Sequence[str], rev: int | None = None) -> list[Job]:
        """Make the jobs pending now, all or none."""
        return self._change(ids, self._retried, rev)

    def retry_dead(self, ids: Sequence[str] | None) -> list[Job]:
        """Put dead jobs (None: all of them) back, all or none; Conflict if one is not dead."""
        while ids is None:
            with suppress(Conflict, NoSuchJob):  # one was retried or purged meanwhile
                return self._change([job.id for job in self.find(("dead",))], self._back)
        return self._change(ids, self._back)

    def purge(
        self, states: Collection[str], older_than: float | None = None, *, dry_run: bool = False
    ) -> list[Job]:
        """Remove ended jobs in these states that ended `older_than` seconds ago or more."""
        for state in states:
            if state not in FINISHED:
                raise InvalidInput(f"only ended jobs can be purged, not {state} ones")
        before = format_time(self.store.now() - (older_than or 0.0))
        found = [job for job in self.find(states) if _ended_at(job) <= before]
        if dry_run or not found:
            return found
        return self.remove(found)

    def remove(self, jobs: Sequence[Job]) -> list[Job]:
        """Remove ended jobs, as far as they still are as given; those that were removed."""
        for live in (job for job in jobs if job.state not in FINISHED):
            raise InvalidTransition(live.id, live.state, "remove")
        left = {job.id for job in self.store.remove(jobs)}
        return [job for job in jobs if job.id not in left]

    def _change(self, ids: Sequence[str], rule: Rule, rev: int | None = None) -> list[Job]:
        """Apply the rule to all jobs or to none, and tell the workers whom it concerns."""
        done = list(self.store.change(ids, lifecycle.at_rev(rule, rev)).values())
        self._tell_workers(done)
        return done

    def _tell_workers(self, jobs: Collection[Job]) -> None:
        for job in jobs:
            if job.state == "in_progress" and job.cancel_requested:
                self.store.wake(CANCEL, job.worker)
        self.wake_idle(sum(job.state == "pending" for job in jobs))

    def settings(self) -> Settings:
        """All settings with their values; the same object until somebody changes them."""
        values = self.store.settings()
        if values is not self._values:
            self._settings, self._values = Settings(values), values
            if self._settings.extra:
                self.notices.append(
                    f"{self.folder}/config.json: {unknown_settings(self._settings.extra)}"
                )
        return self._settings

    def change_settings(self, changes: Mapping[str, object]) -> Settings:
        """Set settings anew; None as a value goes back to the default."""
        self.settings()  # tells of what is unknown in the file
        while True:
            old = self.store.settings()
            settings = Settings(old).with_changes(changes)
            if self.store.change_settings(old, settings.to_dict()):
                return settings

    def checkpoint(self) -> None:
        """Bring the JSON files up to date now."""
        self.store.fold()

    def tidy(self) -> None:
        """Bring the JSON files of a small queue up to date, whoever changed it."""
        self.store.tidy()

    def examine(self) -> list[Finding]:
        """What is wrong with the data folder, in whatever state it is; nothing if it is absent."""
        return self._care.examine()

    def repair(self, done: list[str], unread: list[str]) -> None:
        """Mend the data folder; what was done, and could not be read, goes into the lists."""
        self._care.repair(done, unread)

    def backup(self) -> Iterator[bytes]:
        """The lines of a backup of jobs and settings, all of one moment."""
        return self._archive.backup()

    def write_backup(self, path: str, *, overwrite: bool = False) -> int:
        """Write a backup to a file, whole or not at all; how many jobs it holds."""
        return self._archive.write_backup(path, overwrite=overwrite)

    def read_backup(self, file: IO[bytes], name: str) -> Backup:
        """The backup in a file's bytes, `name` in errors; BadFile unless it is whole."""
        return self._archive.read_backup(file, name)

    def restore(self, backup: Backup, *, replace: bool = False) -> str | None:
        """Put a backup in the place of the queue; the path where what was there is kept, if any.

        Conflict if the queue holds jobs and is not to be replaced, or runs one. Jobs that were
        running when the backup was made wait for their next run, with nothing spent.
        """
        now = self.now()
        jobs = [
            self._put_back(job, now) if job.state == "in_progress" else job for job in backup.jobs
        ]
        kept = self._archive.refill(jobs, backup.settings, backup.env_sets, replace=replace)
        self.store.wake()
        return kept

    def _put_back(self, job: Job, now: str) -> Job:
        stopped = Outcome("stopped", None, None, now)
        return lifecycle.settled(job, job, stopped, self._retry_policy, 0.0, now) or job

    def wait(self, seconds: float) -> None:
        """Return after `seconds`, or earlier when something may have changed."""
        self.store.wait(seconds)

    def close(self) -> None:
        """Let go of the queue; a small one is folded, so that its files are the whole truth."""
        self.store.close()

    # -- what workers ask

    def register_worker(self, start_time: str = "", boot_id: str = "") -> Slot:
        """Make this process a worker; `start_time` and `boot_id` hold no spaces."""
        worker_id = "w-" + made_ids(self.store.now(), 1, _chance())[0]
        return self.store.register(worker_id, os.getpid(), start_time, boot_id)

    def release_worker(self, slot: Slot) -> None:
        """Take a worker off the list, at its own end."""
        self.store.release(slot)

    def claim(self, worker: str, finished: tuple[Job, Outcome] | None = None) -> Job | None:
        """Settle the run that finished, if one did, and claim the next job that is ready.

        May be called again with the same `finished` after a StoreError.
        """
        # Counted from a random number on: asking the system for chance costs each claim more.
        self._word = (self._word or int(self._dice() * WORDS)) + 1
        stored, log_word = finished[0] if finished else None, made_word(self._word)
        self.prepare_claims()  # before the clock is looked at: it can take a while
        while True:
            now = self.now()
            new = self._settled(stored, finished, now) if stored and finished else None
            settled = (stored, new) if stored and new else None
            claim = self.store.claim(worker, now, settled, log_word)
            if claim.settled:
                return claim.job
            stored = claim.stored

    def settle(self, job: Job, outcome: Outcome) -> Job | None:
        """Settle a run without claiming another; None if the run counts no more."""
        with suppress(NoSuchJob):
            return self.store.change(
                [job.id],
                lambda stored: self._settled(stored, (job, outcome), self.now()),
                promised=False,
            ).get(job.id)
        return None

    def _settled(self, stored: Job, finished: tuple[Job, Outcome], now: str) -> Job | None:
        dice = 0.0 if finished[1].exit_code == 0 else self._dice()
        return lifecycle.settled(stored, *finished, self._retry_policy, dice, now)

    def _retry_policy(self) -> RetryPolicy:
        return self.settings().retry_policy()

    def cancel_requested(self, job: Job) -> bool:
        """Whether the run `job` should end: somebody cancelled it, or it counts no more."""
        stored = self.store.present(job)
        return stored is None or not lifecycle.holds(stored, job) or stored.cancel_requested

    def still_runs(self, job: Job) -> bool:
        """Whether the run `job` still counts: nobody has given it up."""
        stored = self.store.present(job)
        return stored is not None and lifecycle.holds(stored, job)

    def give_back(self, worker: str, held: Job | None) -> list[Job]:
        """For that worker, which runs `held` or nothing: give back all else that names it."""
        back: list[Job] = []
        for job in self.store.held_by(worker):
            if held is None or not lifecycle.holds(job, held):
                with suppress(NoSuchJob):
                    back += self.store.change(
                        [job.id],
                        lambda stored: lifecycle.given_back(stored, worker, held, self.now()),
                    ).values()
        if back:
            self.store.wake()
        return back

    def checkpoint_due_in(self) -> float | None:
        """Seconds until a fold would be due, or None if nothing waits for one."""
        return self.store.fold_due_in()

    def is_drained(self) -> bool:
        """Whether no job is pending, in progress or waiting for a retry."""
        counts = self.counts()
        return not any(counts[state] for state in LIVE)

    def wake_idle(self, count: int) -> None:
        """Wake so many workers that run nothing, as many as there are jobs for them."""
        if count:
            self.store.wake_idle(count)

    def workers(self) -> list[WorkerInfo]:
        """Every worker that has a file, living or lost."""
        return self.store.workers()

    def lost_workers(self) -> list[WorkerInfo]:
        """Workers that died without taking leave.

        Those with no file come from worker_pids.json; they may live, or just be leaving.
        """
        workers = self.workers()
        lost = [worker for worker in workers if not worker.alive]
        busy = sum(worker.job_id is not None for worker in workers)
        return lost or self.store.orphans(of_jobs=busy < self.counts()["in_progress"])

    def rescue_worker(self, worker_id: str, *, asked_to_stop: bool = False) -> list[Job]:
        """Take the jobs of a dead worker from it, and the worker off the list.

        `asked_to_stop`: before it was killed, which is no evidence against its jobs. What is left
        of their processes must have been ended before.
        """
        rescued: list[Job] = []
        for job_id in [job.id for job in self.find(("in_progress",)) if job.worker == worker_id]:
            with suppress(NoSuchJob):  # somebody else rescued it, and it was purged
                rescued += self.store.change(
                    [job_id],
                    lambda job: lifecycle.lost(
                        job, worker_id, self.now(), asked_to_stop=asked_to_stop
                    ),
                ).values()
        self.store.forget_worker(worker_id)
        self.wake_idle(len(rescued))
        return rescued

    def purge_old(self) -> list[Job]:
        """Remove completed and cancelled jobs that are older than the setting keep-finished."""
        age = self.settings().keep_finished
        return [] if age is None else self.purge(("completed", "cancelled"), age)


def _chance(bits: int = 20) -> int:
    """So many random bits, 32 at most."""
    return int.from_bytes(os.urandom(4), "big") >> (32 - bits)


def _throw() -> float:
    """A random number in [0, 1)."""
    return _chance(30) / (1 << 30)


def _ended_at(job: Job) -> str:
    return job.finished_at or job.updated_at
