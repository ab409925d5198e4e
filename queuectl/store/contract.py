"""The contract of every store, as protocols. A store knows jobs and their `rev`; of the rules of a
job's life it knows only claiming.

A store is one object with all of Jobs, Workers and Upkeep; it may lack Care and Archive. Times are
RFC 3339 text, as in a job, by the store's own clock, which may differ from this host's. Any method
raises StoreError if the store cannot be used, and then has changed nothing. NotConfirmed is the
exception: the change was made but a power cut may undo it, or the store cannot say whether it was.
When `add`, `change` or `remove` has returned, its change is durable. Many processes may call all
methods at once, but only one thread may use an object.

Nothing imports this at run time: it is for annotations, and creating its classes takes 2 ms.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

from queuectl.model.job import Job
from queuectl.model.lifecycle import Claim
from queuectl.model.selection import Selection
from queuectl.store.facts import Finding, WorkerInfo
from queuectl.store.output import Output
from queuectl.store.watch import Watch

Rule: TypeAlias = Callable[[Job], Job | None]  # gives the changed job; None: leave it as it is
# Ids of jobs that must all exist, or a selection: all jobs that match at the moment of the change,
# in the order of `find`, up to its limit.
Which: TypeAlias = Collection[str] | Selection
# Called with what a step changes (jobs before and after) and the changed settings, it gives new
# jobs that the same step adds. The settings are the same object until they change. Like a rule it
# may be called more than once, and for a step that is not made in the end.
OnChange: TypeAlias = Callable[[Sequence[tuple[Job, Job]], Mapping[str, object]], Iterable[Job]]
# Called for a new job, with its index, that meets others: jobs with its id, or live jobs with its
# `unique` key. It gives the new job to add it beside them, a changed one of them to store instead,
# or None to keep only them; or it raises.
Meet: TypeAlias = Callable[[int, Job, Sequence[Job]], Job | None]
# Receives the jobs that stay after all, because live jobs name them as parents.
Kept: TypeAlias = list[Job] | None
# How a run ended: kind, exit code, error, time; an Outcome of model/lifecycle.py, which stores do
# not import.
End: TypeAlias = tuple[Any, int | None, str | None, str]


class Jobs(Protocol):
    """Jobs and settings: everything that must be atomic. A rule may be run more than once."""

    def add(
        self,
        jobs: Iterable[Job],
        named: Mapping[str, int] | None = None,
        env_set: Mapping[str, Any] | None = None,
        meet: Meet | None = None,
    ) -> None:
        """Add all the jobs, or none; they need not fit into memory.

        `named`: the ids that may exist already, each once, with the index of its job; it is read
        after all jobs were taken. Without it any id may exist. `env_set`, in the form of
        model/env_set.py, is kept under its id, which all the jobs hold. `meet` decides for a new
        job that meets others, earlier ones of the same call included.

        Raises without `meet` DuplicateId for an id and KeyTaken for a key that is taken; what
        `check_new` of model/dependencies.py raises for parents; InvalidInput for a job that is too
        large or cannot be kept, or for more jobs than one step can take. DuplicateId, KeyTaken and
        InvalidInput for a too large job hold the `index` of the job.
        """

    def set_id(self, env_set: Mapping[str, Any]) -> str:
        """The id under which `add` will keep the set, unless another set takes it first."""

    def env_set(self, job: Job) -> Mapping[str, Any] | None:
        """The job's set of captured variables, None if it has none; NoSuchSet if it is gone."""

    def get(self, job_id: str) -> Job | None:
        """The job, live or ended, or None."""

    def find(self, states: Collection[str] | None = None) -> Iterator[Job]:
        """The jobs in one of the states (None: all): the oldest first, the dead last."""

    def children(self, job_id: str | None) -> Iterator[Job]:
        """The jobs in any state that name this parent (None: any parent), in any order."""

    def ahead(self, job: Job, now: str, aging: float) -> list[tuple[Job, int]]:
        """The ready jobs that are claimed before this one if no gate holds them, in any order.

        One for each kind with the same parents, tags and locks, with the number of that kind.
        """

    def counts(self) -> dict[str, int]:
        """The number of jobs in each state; every state is a key."""

    def prepare_claims(self) -> None:
        """Read in advance what a first claim needs. It may take a while."""

    def claim(
        self,
        worker: str,
        now: str,
        finished: tuple[Job, Job] | None = None,
        log_word: str | None = None,
    ) -> Claim:
        """Replace `finished`'s old job by its new one, then claim the first ready job for `worker`.

        A ready job is due, has all its parents met (model/dependencies.py) and no gate holds it
        (model/gate.py). The settings of this very step count, so that nothing starts once a pause
        is confirmed. What falls with the finished job falls in this step, as in `change`.

        Neither is done if the rev of the old job is not the stored one any more; see Claim. The new
        job may be claimed in the same step. `log_word` is for the logs of a job that never ran. The
        step is not synced: a power cut may undo it. After a StoreError it may be called again with
        the same `finished`.
        """

    def present(self, job: Job) -> Job | None:
        """The job as it is stored, for the worker that runs it.

        None if it does not exist; a store may have dropped a job that has ended.
        """

    def held_by(self, worker: str) -> list[Job]:
        """The running jobs that name this worker, as far as its store object knows."""

    def next_due(self) -> float | None:
        """Seconds until the next waiting job is due, 0 if one is due; None if none waits.

        Only for a store object whose `claim` was called before.
        """

    def change(
        self,
        which: Which,
        rule: Rule,
        promised: bool = True,
        exactly: int | None = None,
        alone: bool = False,
    ) -> dict[str, Job]:
        """Replace each of the jobs by `rule(job)`, all or none; returns the changed ones by id.

        The same step changes the jobs that fall with these or, unless `alone`, come back with them:
        see Kin.consequences in model/dependencies.py. Those come last in the result.

        Raises NoSuchJob for an id; what the rule raises; KeyTaken if a job would come back to life
        while another job with its key lives; what `check_new` raises for jobs with new parents or
        that live again; OtherJobs unless the rule changes `exactly` that many; InvalidInput for a
        job that cannot be kept. One step finds the jobs and changes them, with nothing in between.
        If the rule returns None the job stays; a new job must have another rev. A change that is
        not `promised` is not synced: a power cut may undo it.
        """

    def check_size(self, job: Job) -> None:
        """Raise InvalidInput for a job that is too large to be accepted from a person."""

    def remove(
        self,
        which: Which,
        goes: Callable[[Job], bool] | None = None,
        exactly: int | None = None,
        kept: Kept = None,
    ) -> list[Job]:
        """Remove those of the jobs for which `goes` is true (None: all); returns the removed ones.

        A parent that a live job names stays, unless that job goes as well, and is passed to `kept`.
        One step, all or none, as in `change`. Raises what `goes` raises, NoSuchJob for an id,
        OtherJobs.
        """

    def settings(self) -> Mapping[str, object]:
        """The settings that differ from the defaults, as written; BadFile if they have a mistake.

        The same object until they change.
        """

    def change_settings(self, old: Mapping[str, object], new: Mapping[str, object]) -> bool:
        """Replace these settings as a whole; False if they are not `old` any more.

        `new` holds what Settings takes. Raises BadFile as `settings` does, and StoreError while
        workers of an older queuectl live that would ignore them.
        """

    def now(self) -> float:
        """The store's clock: seconds since 1970."""

    def wait(self, seconds: float) -> None:
        """Return after `seconds`, or earlier if something may have changed."""

    def check(self) -> list[str]:
        """What is wrong with the store, one line for each fault; empty if all is well."""


class Slot(Protocol):
    """The handle of a registered worker. Others can read its notes, most of which may get lost.

    The `note_` methods and `clear_run` raise OSError or StoreError if the note cannot be written.
    """

    id: str
    wake_fd: int  # a descriptor of this process: each wake-up of the worker makes one byte readable
    on_watch: bool  # whether this worker keeps watch
    asked: str  # what another host asked of it: "" (nothing), "stop", or "now" (stop at once)

    @property
    def patience(self) -> float:
        """The wait between polls in units of poll-interval: above 1 if hints reach it reliably."""

    def still_held(self) -> bool:
        """Whether it still is a worker; False once it was given up or its lease ended.

        Must be cheap: called before each claim and several times a second while a job runs.
        """

    @property
    def lapsed(self) -> bool:
        """Whether it is not held but may be again: the server is silent and nobody gave it up."""

    @property
    def declared(self) -> bool:
        """Whether another host declared it lost; the process may then go on as another worker."""

    def why_gone(self) -> str:
        """Why `still_held` is False, as words that follow the worker's id."""

    def note_run(self, job_id: str, run: int, pid: int, start_time: str) -> None:
        """Note which process group runs which job, so that a rescue can end it."""

    def clear_run(self) -> None:
        """Note that nothing runs."""

    def note_facts(self, **facts: object) -> None:
        """Add facts to those noted before; names and values hold no blanks."""

    def note_trouble(self, why: str) -> None:
        """Note what keeps the worker from working; "" if nothing does."""

    def note_end(self, job_id: str, run: int, end: End) -> bool:
        """Note the end of a run that cannot be settled; returns whether a rescue would see it."""

    def keep_watch(self) -> bool:
        """Become the one worker that keeps watch, unless another is; returns whether this one is.

        A store of many hosts may have one on each.
        """

    def leave_watch(self) -> None:
        """Let another worker keep watch; does nothing if this one does not."""

    def crowd(self) -> int:
        """The number of workers, this one included; may be slightly out of date."""

    def sees_lost(self) -> bool:
        """Whether another worker, picked at random, was lost."""

    def close(self) -> None:
        """Let go without `release`, like a process that dies: the worker then counts as lost."""


class Workers(Protocol):
    """The workers of the queue, and how they are woken."""

    def register(self, worker_id: str, pid: int, start_time: str, boot_id: str) -> Slot:
        """Make this process a worker that others see; `release` must follow."""

    # A slot goes back to the store that made it, and to no other: hence Any.
    def release(self, slot: Any) -> None:
        """Take a worker off the list when it ends; closes its slot."""

    def workers(self, *, here: bool = False) -> list[WorkerInfo]:
        """Every worker. A worker that is not `alive` was lost: its lock is free or its lease ended.

        `here`: only those of this host, read from its own folder; no server is asked.
        """

    def orphans(self, busy: int = 0) -> list[WorkerInfo]:
        """What is known about workers that are not in `workers` but may still have a job.

        `busy`: how many workers in `workers` have a job. If no more jobs are in progress, there
        cannot be an orphan.
        """

    def note_lost(self, worker_id: str, **facts: object) -> None:
        """Note facts about a dead worker; does nothing for an unknown one.

        Raises OSError, and BadFile for a file that is not a worker's.
        """

    def forget_worker(self, worker_id: str) -> bool:
        """Take a dead worker off the list after its job was rescued; False if it lives."""

    def stop_elsewhere(self, now: bool) -> list[str]:
        """Ask the living workers of other hosts to stop; returns their ids."""

    def wake(self, message: bytes = ..., only: str | None = None) -> None:
        """Wake every worker, or `only` this one, with WAKE or CANCEL; a hint that may be lost."""

    def wake_idle(self, count: int) -> None:
        """Wake up to `count` workers that run nothing; a hint that may be lost."""


class Upkeep(Protocol):
    """What a store has to do now and then; these may do nothing."""

    def sync(self) -> None:
        """Make durable the claims and results that were not promised."""

    def fold(self) -> None:
        """Bring up to date what people read, and complete what was left half done."""

    def tidy(self) -> None:
        """Fold if that is quick."""

    def fold_if_due(self, *, busy: bool = False) -> bool:
        """Fold if it is time; a `busy` worker does only what cannot wait. Whether it was time."""

    def fold_due_in(self) -> float | None:
        """Seconds until `fold_if_due` would do something; None if nothing waits for it."""


class Care(Protocol):
    """Finding and mending damage, for `doctor`: only stores that own their files have it."""

    def examine(self) -> list[Finding]:
        """Everything that is wrong, whatever state the store is in; empty if there is no queue."""

    def repair(self, done: list[str], unread: list[str]) -> None:
        """Mend what can be mended; adds what was done, and what could not be read, to the lists.

        If a StoreError is raised, they hold what was done so far.
        """

    def tidy_output(self, stamp: str) -> list[str]:
        """Set aside output that belongs to no job or worker, under names with `stamp`.

        Returns a line for each piece. Call it after `repair` has taken back dead workers' jobs.
        """


class Archive(Protocol):
    """The whole queue as one file, and back: `backup`, `restore`."""

    def backup(self) -> Iterator[bytes]:
        """The lines of a backup; see store/backup.py."""

    def refill(
        self,
        jobs: Sequence[Job],
        settings: Mapping[str, object],
        env_sets: Mapping[str, Mapping[str, Any]],
        *,
        replace: bool,
    ) -> str | None:
        """Replace everything by these; returns the path where the replaced queue is kept, if any.

        All or nothing. Raises Conflict if there are jobs and not `replace`, if a job is in
        progress, if workers of an older queuectl live, or if the queue changes meanwhile.
        """


class Store(Jobs, Workers, Upkeep, Protocol):
    """The whole store of one queue."""

    on_change: OnChange  # the queue sets it
    freed: int  # jobs whose last missing parent was met by this object's latest change or claim
    spans_hosts: bool  # whether workers of several hosts may run its jobs

    @property
    def notices(self) -> list[str]:
        """Lines for a person besides results; the caller that shows them clears the list."""

    @property
    def folder(self) -> str:
        """This host's folder for the queue: it holds output, and people are shown its path."""

    @property
    def care(self) -> Care | None:
        """How damage is found and mended; None if the store lacks this part."""

    @property
    def archive(self) -> Archive | None:
        """How the queue becomes a file and back; None if the store lacks this part."""

    @property
    def output(self) -> Output:
        """The output of runs."""

    def watch(self) -> Watch:
        """An observer of the queue from now on."""

    def exists(self) -> bool:
        """Whether the queue exists; StoreError if what is there cannot be used."""

    def make(self) -> None:
        """Make the queue if it does not exist. Not required: a first change makes it too."""

    def identity(self) -> str:
        """A word that tells this queue from a copy of it. OSError if its folder is gone."""

    def origin(self) -> str:
        """A word that tells an existing queue from all others, the same under all its names.

        Raises OSError if its folder is gone.
        """

    def on_wait(self, tell: Callable[[str], None] | None) -> None:
        """Call `tell` once with a line whenever the store waits for an answer longer than 1 s."""

    def await_answer(self) -> None:
        """Wait until the store answers again after Unanswered, which is raised if it does not."""

    def leave_notices(self) -> None:
        """Clear the notices of a worker, whose messages nobody reads.

        The next command shows the unusual ones, if the store can keep them.
        """

    def close(self) -> None:
        """Release everything, after what is quick to tidy. FileMissing if the folder is gone.

        May be called twice.
        """
