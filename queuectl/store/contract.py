"""What every store keeps, as protocols. A store knows jobs and their `rev`; of the rules of a job's
life it knows claiming alone.

A store is one object with all of Jobs, Workers and Upkeep; it may lack Care and Archive. Times are
RFC 3339 text, as in a job, by the store's own clock: it may differ from this host's. Any method
raises StoreError when the store cannot be used, and then changed nothing, but for NotConfirmed:
then it changed all, though a power cut may undo that, or it cannot tell. What `add`, `change` and
`remove` returned for is durable. All methods may be called from many processes at once, but one
object by one thread only.

Nothing imports this as it runs: it is for annotations, and making its classes takes 2 ms.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

from queuectl.model.claim_order import Claim
from queuectl.model.job import Job
from queuectl.model.selection import Selection
from queuectl.store.facts import Finding, WorkerInfo
from queuectl.store.output import Output
from queuectl.store.watch import Watch

Rule: TypeAlias = Callable[[Job], Job | None]  # the job as it should be; None: leave it as it is
# Ids of jobs, all of which must be there, or a selection: all the jobs that match at the moment of
# the change, in the order of `find`, up to its limit.
Which: TypeAlias = Collection[str] | Selection
# Given what a step changes, jobs before and after, and the settings that were changed, it gives new
# jobs that the same step adds. The settings are the same object while nobody changes them. Like a
# rule it may be asked more than once, and for a step that is not made then.
OnChange: TypeAlias = Callable[[Sequence[tuple[Job, Job]], Mapping[str, object]], Iterable[Job]]
# Asked for a new job, by its index, that meets others: with its id, or live with its `unique` key.
# It gives the new job to add it beside them, one of them as it should be instead, or None to leave
# it at them; or it raises.
Meet: TypeAlias = Callable[[int, Job, Sequence[Job]], Job | None]
# What is given the jobs that were to be removed, and stay because live ones name them as parents.
Kept: TypeAlias = list[Job] | None
# How a run ended: kind, exit code, error, time. It is an Outcome of model/lifecycle.py, which no
# store knows.
End: TypeAlias = tuple[Any, int | None, str | None, str]


class Jobs(Protocol):
    """Jobs and settings: all that must be atomic. A rule may be run more than once."""

    def add(
        self,
        jobs: Iterable[Job],
        named: Mapping[str, int] | None = None,
        env_set: Mapping[str, Any] | None = None,
        meet: Meet | None = None,
    ) -> None:
        """Add all the jobs, or none and raise DuplicateId; they need not fit into memory.

        `named`: the ids that may exist already, each once, and the index of its job; it is looked
        at when all jobs were taken. Without it all ids may. `env_set`, in the form of
        model/env_set.py, is kept under the id of it that all the jobs hold. `meet` decides where a
        new job meets others, with those handed in before it among them; without it KeyTaken is
        raised for a key, as DuplicateId is for an id. Raises as well what `check_new` of
        model/dependencies.py does of what the jobs wait for, and InvalidInput for a job that is too
        large or cannot be kept, or for more of them than one step can take. DuplicateId, KeyTaken
        and a job that is too large tell the `index` of the job.
        """

    def set_id(self, env_set: Mapping[str, Any]) -> str:
        """The id under which `add` will keep the set, unless another takes it first."""

    def env_set(self, job: Job) -> Mapping[str, Any] | None:
        """The job's set of captured variables, None if it has none; NoSuchSet if that is gone."""

    def get(self, job_id: str) -> Job | None:
        """The job, wherever it lies, or None."""

    def find(self, states: Collection[str] | None = None) -> Iterator[Job]:
        """The jobs in one of the states (None: all): first in first, the dead last."""

    def children(self, job_id: str | None) -> Iterator[Job]:
        """The jobs that name it as a parent, in whatever state, in any order; None: any parent."""

    def ahead(self, job: Job, now: str, aging: float) -> list[tuple[Job, int]]:
        """The ready jobs that are claimed before this one if none is held back, in any order.

        One of each kind with the same parents, tags and locks, of which no more need be told, and
        how many of that kind there are.
        """

    def counts(self) -> dict[str, int]:
        """How many jobs are in each state; every state is there."""

    def prepare_claims(self) -> None:
        """Read what a first claim needs, while nobody waits for it. It may take a while."""

    def claim(
        self,
        worker: str,
        now: str,
        finished: tuple[Job, Job] | None = None,
        log_word: str | None = None,
    ) -> Claim:
        """Put `finished`'s new job for its old one, then claim the first ready job for `worker`.

        A job is ready that is due, that lacks no parent (model/dependencies.py) and that nothing of
        model/gate.py holds back: of the settings those count that hold in this very step, so that
        nothing starts once a pause is answered. What falls with the finished job falls in this
        step, as in `change`.

        Neither is done if the old one's rev is no longer the stored one; see Claim. The new one may
        be claimed in the same step. `log_word` is for the logs of a job that never ran before. Not
        synced: a power cut may forget it. May be called again with the same `finished` after a
        StoreError.
        """

    def present(self, job: Job) -> Job | None:
        """For the worker that runs it: the job as it is stored.

        None if there is none; a store may have forgotten one that has ended.
        """

    def held_by(self, worker: str) -> list[Job]:
        """For that worker: the running jobs that name it, as far as it knows."""

    def next_due(self) -> float | None:
        """Seconds until the next waiting job is due, 0 if one is; None if none waits.

        Only to be asked of a store object by which `claim` was called before.
        """

    def change(
        self,
        which: Which,
        rule: Rule,
        promised: bool = True,
        exactly: int | None = None,
        alone: bool = False,
    ) -> dict[str, Job]:
        """Put `rule(job)` for each of the jobs, all or none; returns those that changed, by id.

        The same step changes what falls with these jobs, or comes back with them unless they come
        back `alone`: see Kin.consequences of model/dependencies.py. Those come last.

        Raises NoSuchJob for an id, what the rule raises, KeyTaken if a job would come back to
        life while another one with its key lives, what `check_new` does of jobs that wait for
        others than before, or live again, OtherJobs unless the rule changes `exactly` so many, and
        InvalidInput for a job that cannot be kept.
        One step finds the jobs and changes them: nobody comes between. None from the rule leaves a
        job be, a new job must have another rev. What is not `promised` may be forgotten in a power
        cut, and is not synced.
        """

    def check_size(self, job: Job) -> None:
        """Raise InvalidInput for a job that is too large to be taken from a person."""

    def remove(
        self,
        which: Which,
        goes: Callable[[Job], bool] | None = None,
        exactly: int | None = None,
        kept: Kept = None,
    ) -> list[Job]:
        """Remove those of the jobs for which `goes` is true (None: all); returns what was removed.

        A parent that a live job names stays, unless that goes as well, and is put into `kept`. In
        one step, as `change`; all or none if `goes` raises, NoSuchJob for an id, or OtherJobs.
        """

    def settings(self) -> Mapping[str, object]:
        """The settings that were changed, as they were written; BadFile if they hold a mistake.

        The same object as long as nobody changes them.
        """

    def change_settings(self, old: Mapping[str, object], new: Mapping[str, object]) -> bool:
        """Replace the changed settings as a whole; False if they are no longer `old`.

        `new` holds what Settings takes. Raises BadFile as `settings`, and StoreError while workers
        of an older queuectl live that would not heed them.
        """

    def now(self) -> float:
        """The store's clock: seconds since 1970."""

    def wait(self, seconds: float) -> None:
        """Return after `seconds`, or earlier when something may have changed."""

    def check(self) -> list[str]:
        """What is wrong with the store, a line each; empty if all is well."""


class Slot(Protocol):
    """A registered worker's own place. Others see what it notes; most of it may be forgotten.

    The `note_` methods and `clear_run` raise OSError or StoreError where that cannot be written.
    """

    id: str
    wake_fd: int  # of this process: readable once somebody has woken the worker, a byte each time
    on_watch: bool  # whether this worker keeps watch
    asked: str  # whether another host asked it to stop: "", "stop" or, at once, "now"

    @property
    def patience(self) -> float:
        """How many times poll-interval it may wait now: more than 1 if it is woken for all news."""

    def still_held(self) -> bool:
        """Whether it still is a worker. False once it was given up or its lease ended.

        Cheap: asked before each claim and several times a second while a job runs.
        """

    @property
    def lapsed(self) -> bool:
        """Whether, not held, it may be again: nobody answers, and nobody has given it up so far."""

    @property
    def declared(self) -> bool:
        """Whether another host has declared it lost: then the worker may begin anew as another."""

    def why_gone(self) -> str:
        """Why `still_held` is False, to stand behind the worker's id."""

    def note_run(self, job_id: str, run: int, pid: int, start_time: str) -> None:
        """Note which process group runs which job, for a rescue that must end it."""

    def clear_run(self) -> None:
        """Note that nothing runs."""

    def note_facts(self, **facts: object) -> None:
        """Note facts beside those noted before; names and values hold no blanks."""

    def note_trouble(self, why: str) -> None:
        """Note what keeps the worker from working; "" if nothing does any more."""

    def note_end(self, job_id: str, run: int, end: End) -> bool:
        """Note how a run ended that cannot be settled; whether a rescue would see that."""

    def keep_watch(self) -> bool:
        """Be the one worker that keeps watch for all, unless another is; whether this one is now.

        Of a store of many hosts there may be one on each.
        """

    def leave_watch(self) -> None:
        """Let another one keep watch; nothing if this one does not."""

    def crowd(self) -> int:
        """How many workers there are, this one included; a moment ago is good enough."""

    def sees_lost(self) -> bool:
        """Whether one other worker, taken at random, was lost."""

    def close(self) -> None:
        """Let go without taking leave, as a process does that dies: the worker is lost then."""


class Workers(Protocol):
    """The workers of the queue, and how they are woken."""

    def register(self, worker_id: str, pid: int, start_time: str, boot_id: str) -> Slot:
        """Make this process a worker that others see; `release` must take it off again."""

    # A slot goes back to the store that made it, and no other.
    def release(self, slot: Any) -> None:
        """Take a worker off the list, at its own end; its slot is closed."""

    def workers(self, *, here: bool = False) -> list[WorkerInfo]:
        """Every worker. One that is not `alive` was lost: its lock is free, or its lease ended.

        `here`: those of this host, as its own folder shows them; no server is asked.
        """

    def orphans(self, busy: int = 0) -> list[WorkerInfo]:
        """What is known of workers that are not among `workers` though they may have a job.

        `busy`: how many of those have one; if no more are in progress, none names another worker.
        """

    def note_lost(self, worker_id: str, **facts: object) -> None:
        """Note facts about a worker that is dead; nothing if nothing is known of it.

        Raises OSError, and BadFile for what is not a worker's file.
        """

    def forget_worker(self, worker_id: str) -> bool:
        """Take a dead worker off the list, after its job was rescued; False if it lives."""

    def stop_elsewhere(self, now: bool) -> list[str]:
        """Ask the living workers of other hosts to stop; their ids, none in a store of one host."""

    def wake(self, message: bytes = ..., only: str | None = None) -> None:
        """Wake every worker, or `only` one, with WAKE or CANCEL; a hint that may be lost."""

    def wake_idle(self, count: int) -> None:
        """Wake so many workers that run nothing, or all of those; a hint that may be lost."""


class Upkeep(Protocol):
    """What a store has to do now and then. A store that has nothing to do does nothing."""

    def sync(self) -> None:
        """Make claims and results durable that were not promised."""

    def fold(self) -> None:
        """Bring what people read, and whatever was left half-way, up to date now."""

    def tidy(self) -> None:
        """Fold, if that is quick."""

    def fold_if_due(self, *, busy: bool = False) -> bool:
        """Fold, if it is time; a busy worker only does what cannot wait. Whether it was time."""

    def fold_due_in(self) -> float | None:
        """Seconds until `fold_if_due` would do something; None if nothing waits for it."""


class Care(Protocol):
    """Finding and mending damage: `doctor`. For stores whose files lie in our hands."""

    def examine(self) -> list[Finding]:
        """All that is wrong, in whatever state the store is; empty if nothing is there yet."""

    def repair(self, done: list[str], unread: list[str]) -> None:
        """Mend what can be mended; what was done, and could not be read, goes into the lists.

        They hold what was done so far if a StoreError is raised.
        """

    def tidy_output(self, stamp: str) -> list[str]:
        """Put output of no job and no worker aside, `stamp` in its name; a line for each piece.

        For after `repair`, when the jobs of dead workers were taken back.
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
        """Put these in the place of all that is there; the path where that is kept, if any.

        All or nothing. Conflict if there are jobs and not `replace`, if one is in progress, if
        workers of an older queuectl live, or if somebody else changes the queue meanwhile.
        """


class Store(Jobs, Workers, Upkeep, Protocol):
    """A place where a queue lies."""

    on_change: OnChange  # the queue sets it
    freed: int  # jobs that lack no parent any more since the last change or claim by this object
    spans_hosts: bool  # whether workers of several hosts may run its jobs

    @property
    def notices(self) -> list[str]:
        """What a person should be told beside results; cleared by whatever shows it."""

    @property
    def folder(self) -> str:
        """The folder of this host for the queue: output lies there, and people are shown it."""

    @property
    def care(self) -> Care | None:
        """How damage is found and mended; None if the store has no part in that."""

    @property
    def archive(self) -> Archive | None:
        """How the queue becomes a file; None if the store cannot."""

    @property
    def output(self) -> Output:
        """What runs print."""

    def watch(self) -> Watch:
        """What looks over the queue's shoulder from now on."""

    def exists(self) -> bool:
        """Whether there is a queue already; StoreError if what is there cannot be used."""

    def make(self) -> None:
        """Make the queue, if there is none yet; nothing else has to: a first change makes it."""

    def identity(self) -> str:
        """What tells this queue from a copy of it, as a word. OSError if its folder is gone."""

    def origin(self) -> str:
        """What tells a queue that is there from all others, by whatever name it was opened.

        Raises OSError if its folder is gone.
        """

    def on_wait(self, tell: Callable[[str], None] | None) -> None:
        """Have a line told once whenever an answer is waited for longer than a second."""

    def leave_notices(self) -> None:
        """For a worker, whose words nobody reads: clear the notices.

        The next command says what is not usual in them, where a store can keep that.
        """

    def close(self) -> None:
        """Let go of everything held; what is quickly tidied is. FileMissing if the folder is gone.

        May be called twice.
        """
