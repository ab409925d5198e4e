"""Changes of jobs that people ask for, by ids or by a selection.

A change is a pure function of the present job, which the store applies to all the jobs meant or to
none, while no other process can change them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

from queuectl.errors import Conflict, InvalidInput, InvalidTransition, NoSuchJob, Outdated
from queuectl.model.fields import SCHEDULED, STATES, check_state, check_value, find_field
from queuectl.model.job import CLAIMABLE, FINISHED, LIVE, Job, recurs, refuse_key, revived
from queuectl.model.times import format_time
from queuectl.store.facts import CANCEL, is_selection

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar

    from queuectl.model.dependencies import Kin
    from queuectl.model.gate import Gate
    from queuectl.model.selection import Selection
    from queuectl.store.contract import Meet, Rule, Store, Which
    from queuectl.store.facts import WorkerInfo

    Told = TypeVar("Told")

_FEW = 8  # up to so many jobs are read one by one; more are found in one pass


class JobChanges:
    """The part of JobQueue that finds jobs and changes them.

    model/lifecycle.py is imported by what needs it: an enqueue does not.
    """

    store: Store
    by = ""  # the author that history entries name: "cli" or "web"; "": none
    _hooked = 0  # hooks for which no worker was woken yet
    if TYPE_CHECKING:

        def limited(self) -> Collection[str]:
            """The tags that have a limit."""

    def now(self) -> str:
        """The store's time as RFC 3339 text."""
        return format_time(self.store.now())

    def get(self, job_id: str) -> Job:
        """The job; raises NoSuchJob."""
        job = self.store.get(job_id)
        if job is None:
            raise NoSuchJob(job_id)
        return job

    def is_drained(self) -> bool:
        """Whether no job except schedules is pending, in progress or waiting for a retry."""
        counts = self.store.counts()
        if counts["in_progress"] or counts["failed"]:
            return False
        return not counts["pending"] or all(map(recurs, self.store.find(("pending",))))

    def states(self, ids: Collection[str]) -> dict[str, str]:
        """The states of those of the jobs that exist, as their children see them."""
        if not ids:
            return {}
        from queuectl.model.dependencies import parent_state
        from queuectl.model.selection import Selection

        if len(ids) > _FEW:
            found = self.select(Selection(ids=frozenset(ids)))
        else:
            found = [job for job in map(self.store.get, ids) if job is not None]
        return {job.id: parent_state(job) for job in found}

    def children(self, job_id: str) -> list[Job]:
        """The jobs that wait, or waited, for this one, the oldest first."""
        return sorted(self.store.children(job_id), key=lambda job: (job.created_at, job.id))

    def kin(self) -> list[Job]:
        """All jobs that name parents, in any state."""
        return list(self.store.children(None))

    def family(self) -> Kin:
        """The jobs that a step may free, make fall or bring back."""
        from queuectl.model.dependencies import LOST, Kin, parents

        kids = [kid for kid in self.kin() if kid.state in CLAIMABLE | LOST]
        return Kin.among(kids, self.states({name for kid in kids for name in parents(kid)}).get)

    def using(self, jobs: Iterable[Job], gate: Gate) -> Mapping[str, list[Job]]:
        """The running jobs that hold each token; empty if none of the jobs needs a token."""
        from queuectl.model.gate import holders, tokens

        needed = any(tokens(job, gate) for job in jobs)
        return holders(self.store.find(("in_progress",)), gate) if needed else {}

    def ahead(self, job: Job, gate: Gate) -> int:
        """The number of jobs that can start and are claimed before this one."""
        from queuectl.model.gate import shut_by

        kinds = self.store.ahead(job, self.now(), gate.aging)
        using = self.using((other for other, _ in kinds), gate)
        kinds = [(other, count) for other, count in kinds if not shut_by(other, gate, using)]
        lacking = self.lacking(other for other, _ in kinds)
        return sum(count for other, count in kinds if other.id not in lacking)

    def lacking(self, jobs: Iterable[Job]) -> dict[str, dict[str, str | None]]:
        """For each job that lacks a parent, by id: the missing parents and their states."""
        from queuectl.model.dependencies import parents, unmet

        kin = [job for job in jobs if parents(job)]
        states = self.states({name for job in kin for name in parents(job)})
        return {job.id: lacks for job in kin if (lacks := unmet(job, states.get))}

    def select(self, selection: Selection) -> list[Job]:
        """The jobs selected now; unknown ids are skipped."""
        from queuectl.model.selection import selected  # see is_selection

        return list(selected(self.store.find(selection.states), selection))

    def update(self, job_id: str, changes: Mapping[str, object]) -> Job:
        """Change fields of one job, as `update_all` does."""
        return self.update_all([job_id], changes)[0]

    def update_all(
        self,
        which: Which,
        changes: Mapping[str, object],
        tag: Collection[str] = (),
        untag: Collection[str] = (),
        rev: int | None = None,
        env: Mapping[str, str] | None = None,
        exactly: int | None = None,
    ) -> list[Job]:
        """Change fields of the jobs, all or none.

        The state pending means a retry, cancelled a cancel. Tags in `tag` are added to a job's
        own, those in `untag` removed; variables in `env` are added. Raises Outdated for a job that
        is not at `rev` (None: any), and what the rules raise.
        """
        rule = self._update_rule(changes, tag, untag, env)
        return self._change(which, rule, "edit", rev, exactly)

    def would_update(
        self,
        which: Which,
        changes: Mapping[str, object],
        tag: Collection[str] = (),
        untag: Collection[str] = (),
        env: Mapping[str, str] | None = None,
    ) -> list[Job]:
        """The jobs as `update_all` would make them; raises what that would raise."""
        pairs = self._would(which, self._update_rule(changes, tag, untag, env))
        return [new for _, new in pairs]

    def _update_rule(
        self,
        changes: Mapping[str, object],
        tag: Collection[str],
        untag: Collection[str],
        env: Mapping[str, str] | None,
    ) -> Rule:
        fields = {find_field(name).name: value for name, value in changes.items()}
        state = check_state(fields.pop("state")) if "state" in fields else None
        if state not in (None, "pending", "cancelled"):
            raise InvalidInput(
                f"a job cannot be made {state}: update sets pending (retry it) or cancelled"
            )
        if not fields and state is None and not tag and not untag and not env:
            raise InvalidInput("nothing to change is given")
        from queuectl.model.lifecycle import cancelled, edited

        def rule(job: Job) -> Job:
            now = self.now()
            if state == "cancelled":
                job = cancelled(job, now)
            elif state == "pending" and (job.state != state or job.run_at > now):
                job = _retried(job, now)  # first, so that a given run_at holds
            own: dict[str, object] = {}
            if tag or untag:
                kept = (name for name in job.tags if name not in untag)
                own["tags"] = list(dict.fromkeys((*kept, *tag)))
            if env:
                own["env"] = {**(job.env or {}), **env}
            before = job
            if job.state == "in_progress":
                wanted = {**fields, **own}.get("tags", job.tags)
                _refuse_limited(job, wanted, self.limited())
            job = edited(job, {**fields, **own}, now) if fields or own else job
            if not SCHEDULED.isdisjoint(fields):
                from queuectl.model.schedule import replanned  # rarely needed

                timed = "run_at" in fields or state == "pending"
                job = replanned(before, job, now, timed=timed)
            self.store.check_size(job)
            return job

        return rule

    def cancel(self, which: Which, rev: int | None = None, exactly: int | None = None) -> list[Job]:
        """Cancel the jobs, all or none; workers end the running ones.

        Raises OtherJobs unless `exactly` so many are cancelled, as do `retry` and the others.
        """
        return self._change(which, self._cancelled, "cancel", rev, exactly)

    def abandon(self, which: Which, rev: int | None = None) -> list[Job]:
        """Give up running jobs, all or none, although processes of their runs may go on.

        Raises Conflict if a worker can still end its job.
        """
        done = self._change(which, self._abandon_rule(), "cancel", rev)
        self.store.wake()  # what they held is free now
        return done

    def _abandon_rule(self) -> Rule:
        from queuectl.model.lifecycle import abandoned

        workers = {worker.id: worker for worker in self.workers() if worker.alive}

        def rule(job: Job) -> Job:
            worker = workers.get(str(job.worker)) if job.state == "in_progress" else None
            if worker is not None and not worker.left:
                raise Conflict(
                    f"job '{job.id}' is run by worker PID {worker.pid}, which can end it: "
                    f"'queuectl cancel {job.id}'"
                )
            return abandoned(job, self.now())

        return rule

    def would_cancel(self, which: Which, *, abandon: bool = False) -> list[Job]:
        """The jobs that `cancel` would cancel, as they are; raises what that would raise."""
        rule = self._abandon_rule() if abandon else self._cancelled
        return [job for job, _ in self._would(which, rule)]

    def _cancelled(self, job: Job) -> Job:
        from queuectl.model.lifecycle import cancelled

        return cancelled(job, self.now())

    def would_retry(self, which: Which, *, dead: bool = False, alone: bool = False) -> list[Job]:
        """The jobs that `retry` or `retry_dead` would change, as they are; raises as those do."""
        rule = self._back if dead else self._retry_rule(which)
        return [job for job, _ in self._would(which, rule, alone=alone)]

    def _would(self, which: Which, rule: Rule, *, alone: bool = False) -> list[tuple[Job, Job]]:
        """The jobs that the rule would change, before and after, then those that follow from them.

        Raises what such a change would raise.
        """
        from queuectl.model.dependencies import asked_anew, check_new, parents, states_with

        jobs = self.select(which) if is_selection(which) else self._named(which)
        pairs = [(job, new) for job in jobs if (new := rule(job)) is not None]
        changed = {new.id: new for _, new in pairs}
        if asked := asked_anew(pairs):
            states = self.states({name for job in asked.values() for name in parents(job)})
            kin = {job.id: job for job in self.kin()} | changed
            check_new(asked, kin.get, states_with(changed, states.get))
        alive = revived(pairs)
        for other in self.store.find(LIVE) if alive else ():
            if other.unique in alive:
                refuse_key(alive[other.unique], [other])
        return [*pairs, *self.family().consequences(pairs, self.now(), alone=alone)]

    def _named(self, ids: Collection[str]) -> list[Job]:
        return [self.get(job_id) for job_id in dict.fromkeys(ids)]

    def _retried(self, job: Job) -> Job:
        return _retried(job, self.now())

    def _back(self, job: Job) -> Job:
        return _retried(_dead(job), self.now())

    def retry(
        self,
        which: Which,
        rev: int | None = None,
        exactly: int | None = None,
        *,
        alone: bool = False,
    ) -> list[Job]:
        """Make the jobs pending and due, all or none; of a selection those not due already.

        Jobs that fell with them also come back, last in the result, unless `alone`.
        """
        return self._change(which, self._retry_rule(which), "retry", rev, exactly, alone=alone)

    def _retry_rule(self, which: Which) -> Rule:
        if not is_selection(which):
            return self._retried

        def rule(job: Job) -> Job | None:
            is_due = job.state == "pending" and job.run_at <= self.now()
            return None if is_due else self._retried(job)

        return rule

    def retry_dead(
        self,
        which: Which,
        goes: Callable[[Job], bool] | None = None,
        exactly: int | None = None,
        *,
        alone: bool = False,
    ) -> list[Job]:
        """Retry dead jobs; Conflict for the id of a job that is not dead.

        `goes`: only the jobs for which it is true.
        """
        if is_selection(which):
            which = which._replace(states=frozenset({"dead"}))

        def rule(job: Job) -> Job | None:
            return self._back(job) if goes is None or goes(job) else None

        return self._change(which, rule, "retry", exactly=exactly, alone=alone)

    def purge(
        self,
        which: Which,
        older_than: float | None = None,
        *,
        dead: bool = False,
        dry_run: bool = False,
        goes: Callable[[Job], bool] | None = None,
        exactly: int | None = None,
        kept: list[Job] | None = None,
        rev: int | None = None,
    ) -> list[Job]:
        """Remove jobs that ended at least `older_than` seconds ago.

        `goes`: of a selection only the jobs for which it is true. Jobs that live ones wait for stay
        and are added to `kept`. Raises InvalidInput for a selection of other states, NoSuchJob and
        InvalidTransition for an id, Outdated for a job that is not at `rev` (None: any), and with
        `dead` Conflict for a job that is not dead; then none is removed.
        """
        from queuectl.model.selection import has_ended_by

        before = format_time(self.store.now() - (older_than or 0.0))
        if is_selection(which):
            for state in (which.states or frozenset(STATES)) - FINISHED:
                raise InvalidInput(f"only ended jobs can be purged, not {state} ones")
            which = which._replace(ended_by=before)
            if dry_run:
                return self._removed(self.select(which), kept)
            return self.store.remove(which, goes, exactly, kept)

        def ended(job: Job) -> bool:
            return has_ended_by(_dead(job) if dead else _removable(job), before)

        if dry_run:
            return self._removed(list(filter(ended, self._named(which))), kept)
        return self.store.remove(which, _at_rev(ended, rev), exactly, kept)

    def _removed(self, jobs: list[Job], kept: list[Job] | None) -> list[Job]:
        """The jobs that would be removed; adds those kept as parents to `kept`."""
        if not jobs or kept is None:
            return jobs
        from queuectl.model.dependencies import needed

        stay = needed(self.kin(), {job.id for job in jobs})
        kept += [job for job in jobs if job.id in stay]
        return [job for job in jobs if job.id not in stay]

    def _change(
        self,
        which: Which,
        rule: Rule,
        event: str,
        rev: int | None = None,
        exactly: int | None = None,
        *,
        alone: bool = False,
    ) -> list[Job]:
        """Apply the rule to all jobs or to none, and wake the workers concerned.

        `event`: the history entry if the rule itself adds none.
        """
        from queuectl.model.lifecycle import signed

        rule = signed(_at_rev(rule, rev), self.by, event)
        done = list(self.store.change(which, rule, exactly=exactly, alone=alone).values())
        for job in done:
            if job.state == "in_progress" and job.cancel_requested:
                self.store.wake(CANCEL, job.worker)
        self.wake_idle(sum(job.state == "pending" for job in done))
        return done

    def _held_back(self, gate: Gate) -> tuple[int, int]:
        """The numbers of paused jobs and of jobs that wait for others; 0 and 0 if another waits."""
        from queuectl.model.dependencies import parents, unmet
        from queuectl.model.gate import paused_by

        paused, lacking = 0, []
        for job in self.store.find(CLAIMABLE):
            if recurs(job):
                continue  # no job waits for its end
            if paused_by(job, gate) is not None:
                paused += 1
            elif parents(job):
                lacking.append(job)
            else:
                return 0, 0
        states = self.states({name for job in lacking for name in parents(job)})
        return (paused, len(lacking)) if all(unmet(j, states.get) for j in lacking) else (0, 0)

    def workers(self, *, here: bool = False) -> list[WorkerInfo]:
        """Every worker with a file, living or lost."""
        return self.store.workers(here=here)

    def stop_elsewhere(self, *, now: bool = False) -> list[str]:
        """Ask the workers of other hosts to stop, without waiting; returns their ids."""
        return self.store.stop_elsewhere(now)

    def _rehearse(
        self, jobs: Iterator[Job], named: Mapping[str, int], _set: object, meet: Meet | None
    ) -> None:
        """Raise what the store's `add` would raise; the jobs must fit into memory."""
        from queuectl.model.rehearsal import rehearse, related

        new = list(jobs)
        there = related(new, named, self.store.find)
        rehearse(new, there, self.store.folder, meet, self.store.check_size)

    def wake_idle(self, count: int) -> None:
        """Wake up to `count` workers that run nothing, where `count` is the number of new jobs.

        More are woken for hooks that were added, and for jobs that were freed, in between.
        """
        count += self._hooked + self.store.freed
        self._hooked = self.store.freed = 0
        if count > 0:
            self.store.wake_idle(count)


def _refuse_limited(job: Job, wanted: object, limits: Collection[str]) -> None:
    """Raise Conflict if a running job would get or lose a tag with a limit."""
    tags = check_value(find_field("tags"), wanted)
    assert isinstance(tags, tuple)
    for tag in limits:
        if (tag in tags) != (tag in job.tags):
            raise Conflict(
                f"job '{job.id}' is in_progress: tag '{tag}' has a limit, and changes only while "
                "a job waits"
            )


def _retried(job: Job, now: str) -> Job:
    if recurs(job):
        from queuectl.model.schedule import retried as planned  # rarely needed

        return planned(job, now)
    from queuectl.model.lifecycle import retried

    return retried(job, now)


def _dead(job: Job) -> Job:
    """The job if it is dead; else Conflict."""
    if job.state != "dead":
        raise Conflict(f"job '{job.id}' is {job.state}, not dead: it is not in the DLQ")
    return job


def _removable(job: Job) -> Job:
    """The job if it has ended; else InvalidTransition."""
    if job.state not in FINISHED:
        raise InvalidTransition(job.id, job.state, "remove")
    return job


def _at_rev(rule: Callable[[Job], Told], rev: int | None) -> Callable[[Job], Told]:
    """The rule for a job at this rev (None: any); it raises Outdated at another rev."""

    def guarded(job: Job) -> Told:
        if job.rev != rev:
            raise Outdated(job.id, rev or 0, job.rev)
        return rule(job)

    return rule if rev is None else guarded
