"""The queue as every front end and worker uses it: enqueue, claim, settle, cancel, retry, rescue.

Rules are in model/, jobs in a store; here they meet. A change is a pure function of the present
job, which the store applies while no other process can change it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from queuectl.config import Settings, unknown_settings
from queuectl.errors import Conflict, DuplicateId, InvalidInput, KeyTaken, NoSuchJob, StoreError
from queuectl.job_changes import JobChanges
from queuectl.model.fields import SCHEDULED
from queuectl.model.ids import WORDS, MadeIds, made_word
from queuectl.model.job import Job, holds, new_job
from queuectl.model.times import format_time
from queuectl.store.facts import ALL
from queuectl.store.opening import open_store, without_secrets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO

    from queuectl.model.backoff import RetryPolicy
    from queuectl.model.lifecycle import Outcome
    from queuectl.model.meeting import Meeting
    from queuectl.store.backup import Backup
    from queuectl.store.contract import Archive, Care, Slot, Store
    from queuectl.store.facts import WorkerInfo


class JobQueue(JobChanges):
    """One queue. A method that raises a QueuectlError has changed nothing, except NotConfirmed."""

    def __init__(self, store: Store, dice: Callable[[], float] | None = None) -> None:
        self.store = store
        # Methods without a rule come from the store; see its contract.
        self.exists, self.make, self.identity = store.exists, store.make, store.identity
        self.env_set, self.on_wait, self.note_lost = store.env_set, store.on_wait, store.note_lost
        self.leave_notices, self.prepare_claims = store.leave_notices, store.prepare_claims
        self.next_due, self.sync, self.fold_if_due = store.next_due, store.sync, store.fold_if_due
        self.counts, self.tidy, self.close = store.counts, store.tidy, store.close
        self.checkpoint, self.checkpoint_due_in = store.fold, store.fold_due_in
        self.find, self.release_worker = store.find, store.release
        store.on_change = self._hooks
        self._dice = dice or _throw
        self._word = 0
        self._settings = Settings()
        self._values: Mapping[str, object] | None = None
        self._commands: tuple[Mapping[str, object], dict[str, str]] = ({}, {})  # hooks in settings

    @classmethod
    def open(cls, where: str) -> JobQueue:
        """The queue in a data folder; it reads and makes nothing before that is needed.

        Raises what store.opening.open_store raises.
        """
        return cls(open_store(where))

    @property
    def folder(self) -> str:
        """The data folder's path."""
        return self.store.folder

    @property
    def care(self) -> Care:
        """How damage is found and mended: see Care. StoreError if the store lacks that part."""
        if self.store.care is None:
            raise self._lacks("no doctor: it has no files that could be checked")
        return self.store.care

    @property
    def archive(self) -> Archive:
        """How the queue becomes a file: see Archive. StoreError if the store lacks that part."""
        if self.store.archive is None:
            raise self._lacks("no backups: the store has other ways to make them")
        return self.store.archive

    def _lacks(self, what: str) -> StoreError:
        return StoreError(f"the queue in {self.folder} has {what}")

    @property
    def notices(self) -> list[str]:
        """Lines for a person besides the result; the caller that shows them clears the list."""
        return self.store.notices

    # -- for people

    def enqueue(
        self,
        drafts: Iterable[Mapping[str, object]],
        env_set: Mapping[str, Any] | None = None,
        meeting: Meeting = "refuse",
    ) -> list[Job]:
        """Accept all the jobs, or none; they are on disk when this returns.

        A draft holds fields as a person wrote them; the `index` of InvalidInput and DuplicateId
        says which draft is wrong. `env_set` (see model/env_set.py): what all the jobs take along.
        `meeting`: what becomes of a draft that meets a job with its id, or a live one with its
        unique key: "refuse" raises, "keep" returns the existing job, "replace" changes a waiting
        one.
        """
        jobs: list[Job] = []
        for index, job in self.enqueue_each(drafts, jobs.append, env_set, meeting).items():
            jobs[index] = job
        return jobs

    def enqueue_each(
        self,
        drafts: Iterable[Mapping[str, object]],
        made: Callable[[Job], object],
        env_set: Mapping[str, Any] | None = None,
        meeting: Meeting = "refuse",
        dry_run: bool = False,
    ) -> dict[int, Job]:
        """`enqueue` for drafts that need not fit into memory; calls `made` with each job before.

        Returns, by the index of the draft, existing jobs that stand for drafts that were not added.
        `dry_run`: only raise what would be raised. DuplicateId and KeyTaken also name the index.
        """
        settings, moment = self.settings(), self.store.now()
        now = format_time(moment)
        ids = MadeIds(moment, os.urandom(3))
        named, keys = dict[str, int](), set[str]()
        defaults = Job(
            *("", "pending", 0, now, "", settings.max_retries, now, now),
            timeout=settings.timeout,
            env_set=None if env_set is None else self.store.set_id(env_set),
        )
        instead, meet, count = dict[int, Job](), None, 0
        if meeting != "refuse":
            from queuectl.model.meeting import check_meeting, meeting_rule  # few ask for it

            meet = meeting_rule(meeting, instead, self.store.check_size, now)

        def jobs() -> Iterator[Job]:
            nonlocal count
            for index, draft in enumerate(drafts):
                own = ids.take()
                try:
                    job = new_job(draft, job_id=own, defaults=defaults)
                    if not SCHEDULED.isdisjoint(draft):
                        job = _begun(job, draft, now)
                except InvalidInput as exc:
                    exc.index = index
                    raise
                if meeting != "refuse":
                    check_meeting(job, meeting, index, has_id=job.id != own)
                if meeting == "refuse" and job.unique is not None:
                    if job.unique in keys:
                        raise KeyTaken(job.id, job.unique, index=index)
                    keys.add(job.unique)
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

        add = self._rehearse if dry_run else self.store.add
        add(jobs(), named, env_set, meet)
        self.wake_idle(0 if dry_run else count)
        return instead

    def settings(self) -> Settings:
        """All settings with their values; the same object until they change."""
        values = self.store.settings()
        if values is not self._values:
            self._settings, self._values = Settings(values), values
            if self._settings.extra:
                self.notices.append(
                    f"{self.folder}/config.json: {unknown_settings(self._settings.extra)}"
                )
        return self._settings

    def taken_along(self, environ: Mapping[str, str], umask: int) -> dict[str, Any]:
        """The set of variables that jobs take along from this environment, for `enqueue_each`."""
        from queuectl.model.env_set import captured  # as most commands do not need it

        kept = without_secrets(environ, self.folder)
        return captured(kept, umask, self.settings().inherit_env)

    def change_settings(self, changes: Mapping[str, object]) -> Settings:
        """Change settings; None as a value goes back to the default."""
        self.settings()  # tells of what is unknown in the file
        return self._change_settings(lambda settings: changes)

    def _change_settings(self, changes: Callable[[Settings], Mapping[str, object]]) -> Settings:
        while True:
            old = self.store.settings()
            before = Settings(old)
            settings = before.with_changes(changes(before))
            if self.store.change_settings(old, settings.to_dict()):
                if settings.gate() != before.gate():
                    self.store.wake()
                return settings

    def pause(self, tags: Collection[str] = ()) -> list[str]:
        """Pause all jobs, or those with one of the tags; returns what is then paused.

        After it returns no paused job starts. Running jobs go on.
        """
        return self._set_paused(lambda paused: [*paused, *(tags or (ALL,))])

    def resume(self, tags: Collection[str] = ()) -> list[str]:
        """End the pause of the whole queue, or of the tags; returns what is still paused.

        Raises Conflict for what is not paused.
        """

        def without(paused: Collection[str]) -> list[str]:
            for tag in tags or (ALL,):
                if tag not in paused:
                    from queuectl.model.gate import not_paused

                    raise Conflict(not_paused(tag, paused))
            return [tag for tag in paused if tag not in (tags or (ALL,))]

        return self._set_paused(without)

    @property
    def all_paused(self) -> bool:
        """Whether the whole queue is paused, so that no job starts."""
        return ALL in self.settings().paused

    def limited(self) -> Collection[str]:
        """The tags that have a limit."""
        return self.settings().limits

    def _set_paused(self, change: Callable[[Collection[str]], Collection[str]]) -> list[str]:
        def changes(settings: Settings) -> dict[str, object]:
            return {"paused": list(dict.fromkeys(change(settings.paused)))}

        return list(self._change_settings(changes).paused)

    def limit(self, tag: str, most: int | None) -> None:
        """Let at most `most` jobs with the tag run at once (None: any number).

        Running jobs go on. Raises InvalidInput for a number below 1.
        """

        def changes(settings: Settings) -> dict[str, object]:
            others = {name: n for name, n in settings.limits.items() if name != tag}
            return {"limits": others if most is None else {**others, tag: most}}

        self._change_settings(changes)

    def write_backup(self, path: str, *, overwrite: bool = False) -> int:
        """Write a backup to a file, whole or not at all; returns the number of jobs."""
        from queuectl.store.backup import write_backup

        return write_backup(path, self.archive.backup(), overwrite=overwrite)

    def read_backup(self, file: IO[bytes], name: str) -> Backup:
        """The backup in a file, which errors call `name`; BadFile unless it is whole."""
        from queuectl.store.backup import read_backup

        _ = self.archive  # StoreError if what is read could not be put back
        return read_backup(file, name)

    def restore(self, backup: Backup, *, replace: bool = False) -> str | None:
        """Replace the queue by a backup; returns the path that keeps what was there, if any.

        Raises Conflict if the queue holds jobs and not `replace`, or if it runs one. Jobs that ran
        when the backup was made wait for their next run, with no attempt spent.
        """
        from queuectl.model.lifecycle import Outcome

        now = self.now()
        stopped = Outcome("stopped", None, None, now)

        def put_back(job: Job) -> Job:
            return self._settled(job, (job, stopped), now) or job

        jobs = [put_back(job) if job.state == "in_progress" else job for job in backup.jobs]
        kept = self.archive.refill(jobs, backup.settings, backup.env_sets, replace=replace)
        self.store.wake()
        return kept

    def take_away(self, jobs: Mapping[str, Job]) -> list[Job]:
        """Remove jobs, by id, that were copied elsewhere, except parents of others.

        Raises Conflict if one differs from what is given; then none is removed.
        """
        from queuectl.model.selection import Selection  # no other command of one line needs it

        def same(job: Job) -> bool:
            if job != jobs[job.id]:
                raise Conflict(f"job '{job.id}' changed meanwhile")
            return True

        return self.store.remove(Selection(ids=frozenset(jobs)), same)

    def wait(self, seconds: float) -> None:
        """Return after `seconds`, or earlier if something may have changed."""
        self.store.wait(seconds)

    # -- for workers

    def register_worker(self, start_time: str = "", boot_id: str = "") -> Slot:
        """Make this process a worker; `start_time` and `boot_id` hold no spaces."""
        worker_id = "w-" + MadeIds(self.store.now(), os.urandom(3)).take()
        return self.store.register(worker_id, os.getpid(), start_time, boot_id)

    def claim(self, worker: str, finished: tuple[Job, Outcome] | None = None) -> Job | None:
        """Settle the finished run, if any, and claim the next ready job.

        May be called again with the same `finished` after a StoreError.
        """
        # A counter from a random start: asking the system for randomness costs each claim more.
        self._word = (self._word or int(self._dice() * WORDS)) + 1
        stored, log_word = finished[0] if finished else None, made_word(self._word)
        self.prepare_claims()  # before the clock is read, since it can take a while
        while True:
            now = self.now()
            new = self._settled(stored, finished, now) if stored and finished else None
            settled = (stored, new) if stored and new else None
            claim = self.store.claim(worker, now, settled, log_word)
            if claim.settled:
                if stored and claim.job and (stored.slots or self._hooked or self.store.freed):
                    # What it held and does not hold again is free for others; this worker runs one
                    # of the hooks itself.
                    left = _tokens(stored) - _tokens(claim.job)
                    self.wake_idle(len(left) - bool(self._hooked))
                return claim.job
            stored = claim.stored

    def settle(self, job: Job, outcome: Outcome) -> Job | None:
        """Settle a run without claiming another; None if the run no longer counts."""
        with suppress(NoSuchJob):
            settled = self.store.change(
                [job.id],
                lambda stored: self._settled(stored, (job, outcome), self.now()),
                promised=False,
            ).get(job.id)
            self.wake_idle(len(job.slots))
            return settled
        return None

    def _hooks(
        self, pairs: Sequence[tuple[Job, Job]], values: Mapping[str, object]
    ) -> Sequence[Job]:
        """The hooks for the ends among these changes; see Store."""
        if values is not self._commands[0]:
            self._commands = (values, Settings(values).hooks())
        commands = self._commands[1]
        if not commands:
            return ()
        from queuectl.model.hooks import hooks_of

        ids = MadeIds(self.store.now(), os.urandom(3))
        hooks = hooks_of(pairs, commands, ids, None if self.store.spans_hosts else self.folder)
        self._hooked += len(hooks)
        return hooks

    def _settled(self, stored: Job, finished: tuple[Job, Outcome], now: str) -> Job | None:
        from queuectl.model.lifecycle import settled

        dice = 0.0 if finished[1].exit_code == 0 else self._dice()
        return settled(stored, *finished, self._retry_policy, dice, now)

    def _retry_policy(self) -> RetryPolicy:
        return self.settings().retry_policy()

    def cancel_requested(self, job: Job) -> bool:
        """Whether the run `job` should end because it was cancelled or no longer counts."""
        stored = self.store.present(job)
        return stored is None or not holds(stored, job) or stored.cancel_requested

    def still_runs(self, job: Job) -> bool:
        """Whether the run `job` still counts."""
        stored = self.store.present(job)
        return stored is not None and holds(stored, job)

    def give_back(self, worker: str, held: Job | None) -> list[Job]:
        """Give back all jobs that name this worker but `held`, which it runs (None: nothing)."""
        from queuectl.model.lifecycle import given_back

        back: list[Job] = []
        for job in self.store.held_by(worker):
            if held is None or not holds(job, held):
                with suppress(NoSuchJob):
                    back += self.store.change(
                        [job.id],
                        lambda stored: given_back(stored, worker, held, self.now()),
                    ).values()
        if back:
            self.store.wake()
        return back

    def count_stuck(self) -> tuple[int, int]:
        """The numbers of paused jobs and of jobs that wait for others, if no other job is left.

        None of those will end then. Otherwise 0 and 0.
        """
        gate, counts = self.settings().gate(), self.counts()
        pauses = gate is not None and bool(gate.all_paused or gate.paused)
        if counts["in_progress"] or (counts["failed"] and not pauses):
            return 0, 0
        from queuectl.model.gate import OPEN

        found = self._held_back(gate or OPEN)
        # Checked again: a job claimed since may free them.
        return (0, 0) if any(found) and self.counts()["in_progress"] else found

    def lost_workers(self) -> list[WorkerInfo]:
        """Workers that died without `release`.

        Those without a file come from worker_pids.json; they may live or just be leaving.
        """
        workers = self.workers()
        lost = [worker for worker in workers if not worker.alive]
        busy = sum(worker.job_id is not None for worker in workers)
        return lost or self.store.orphans(busy)

    def rescue_worker(
        self,
        worker_id: str,
        jobs: Iterable[Job] | None = None,
        *,
        asked_to_stop: bool = False,
        end: tuple[str, int, Any, int | None, str | None, str] | None = None,
    ) -> list[Job]:
        """Take a dead worker's jobs back, and the worker off the list.

        `jobs`: those that name it, read after its death; None: find them. `asked_to_stop`: it was
        asked to stop before it was killed, which is not evidence against its jobs. `end`: see
        WorkerInfo.end. What was left of their processes must have been ended before.
        """
        from queuectl.model.lifecycle import Outcome, lost

        def rule(job: Job) -> Job | None:
            now = self.now()
            if end is not None and end[:2] == (job.id, job.run) and job.worker == worker_id:
                return self._settled(job, (job, Outcome(*end[2:])), now)
            return lost(job, worker_id, now, asked_to_stop=asked_to_stop)

        rescued: list[Job] = []
        running = self.find(("in_progress",)) if jobs is None else jobs
        for job_id in [job.id for job in running if job.worker == worker_id]:
            with suppress(NoSuchJob):  # another process rescued it, and it was purged
                rescued += self.store.change([job_id], rule).values()
        self.store.forget_worker(worker_id)
        self.wake_idle(len(rescued))
        return rescued

    def purge_old(self) -> list[Job]:
        """Remove completed and cancelled jobs that are older than the setting keep-finished."""
        age = self.settings().keep_finished
        if age is None:
            return []
        from queuectl.model.selection import in_state  # see facts.is_selection

        return self.purge(in_state("completed", "cancelled"), age)


def _tokens(job: Job) -> set[str]:
    return {slot.partition("#")[0] for slot in job.slots}


def _begun(job: Job, draft: Mapping[str, object], now: str) -> Job:
    from queuectl.model.schedule import begun  # rarely needed

    return begun(job, now, timed="run_at" in draft or "available_at" in draft)


def _throw() -> float:
    """A random number in [0, 1)."""
    return int.from_bytes(os.urandom(4), "big") / (1 << 32)
