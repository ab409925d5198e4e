"""Waiting for jobs to end: `wait`."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import islice
from typing import Any, TypeVar

from queuectl.commands import render
from queuectl.commands.context import Context
from queuectl.commands.dispatch import Result
from queuectl.commands.handlers.jobs import NO_MATCH
from queuectl.commands.selecting import listed_jobs, selects, whole_ids
from queuectl.errors import PAUSED, InvalidInput, NoMatch, NoSuchJob, StoreError, Unanswered
from queuectl.job_queue import JobQueue
from queuectl.model.hooks import is_hook
from queuectl.model.job import LIVE, Job, recurs
from queuectl.model.selection import Selection
from queuectl.model.times import format_duration, parse_time
from queuectl.worker.hindrance import unserved
from queuectl.worker.report import stuck

TIMED_OUT = 124  # as in timeout(1)
_FEW = 5  # up to so many jobs are looked up one by one
_TOLD_AFTER = 1.0  # seconds
_MOST_NAMED = 20  # jobs named that did not complete
_FEW_LEFT = 1000  # jobs
_BAR = 20  # columns
_LONG = 600.0  # seconds until the next job is due
_LOOK = 1.0  # seconds between looks when nothing wakes us

_Taken = TypeVar("_Taken")


class WaitFailed(StoreError):
    """The wait itself failed: its exit code must not look like that of a job."""

    exit_code = 125


def wait(context: Context, args: dict[str, Any]) -> Result:
    """Wait; the job's exit code, 0 or 1 for several, 124 when the time is up."""
    if (bool(args["job"]) or selects(args)) == args["all"]:
        raise InvalidInput("wait wants ids of jobs, or --all for every one")
    timeout = args["timeout"]
    deadline = None if timeout is None else time.monotonic() + timeout
    try:
        watch = _Watch(context, deadline)
        if args["all"]:
            code = patiently(context.queue, watch.everything)
        elif ids := _ids(context, args, watch.own):
            code = patiently(context.queue, lambda: watch.jobs(ids))
        elif watch.own:
            return Result([NO_MATCH])
        else:
            raise NoMatch  # perhaps misspelled, and a script would go on
        watch.queue.tidy()  # a script that waited for a job may look for it in the files next
    except StoreError as exc:
        raise WaitFailed(str(exc)) from exc
    return Result(code=code)


def patiently(queue: JobQueue, step: Callable[[], _Taken]) -> _Taken:
    """The step's result; it is taken again, from its start, whenever a server fell silent in it.

    Raises Unanswered once the server has been silent for too long.
    """
    while True:
        try:
            return step()
        except Unanswered:
            queue.store.await_answer()


def _ids(context: Context, args: dict[str, Any], own: str) -> list[str]:
    if not selects(args):
        return whole_ids(context, args["job"])
    # Schedules never end.
    jobs = (job for job in listed_jobs(context, args) if not recurs(job) and job.id != own)
    return [job.id for job in islice(jobs, args["limit"])]


def own_job(context: Context) -> str:
    """The id of the job that runs this command, if it is in this queue; else ""."""
    environ = context.environ
    if "QUEUECTL_JOB_ID" not in environ:
        return ""
    from queuectl.worker.runner import MARKS, marks_of, queue_mark  # slow, but only inside a job

    try:
        job = context.queue.get(environ["QUEUECTL_JOB_ID"])
    except NoSuchJob:
        return ""
    given = {f"{name}={environ.get(name)}".encode() for name in MARKS}
    is_own = job.state == "in_progress" and given == {*marks_of(job), queue_mark(context.queue)}
    return job.id if is_own else ""


def require_other_worker(context: Context, own: str) -> None:
    """Raise InvalidInput if the job `own` would wait for another job on the only worker."""
    workers = [worker for worker in context.queue.workers() if worker.alive] if own else []
    if [worker.job_id for worker in workers] == [own]:
        raise InvalidInput(
            f"job '{own}' runs this command on the only worker, which can run no other job until "
            f"it ends; '{context.front}worker start' starts one more"
        )


def waits_for_itself(own: str) -> InvalidInput:
    """The error for a command of a job that would wait for its own end."""
    return InvalidInput(f"job '{own}' runs this command, which would wait for its end for ever")


class WorkerLook:
    """Says once, during a wait for jobs, that no worker runs them."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._due = 0.0

    def look(self) -> None:
        """Check, at most once a second, whether some worker can work."""
        now = time.monotonic()
        if self._context.quiet or now < self._due:
            return
        self._due = now + _LOOK
        queue = self._context.queue
        front = self._context.front
        text = PAUSED.format(front) if queue.all_paused else unserved(queue.workers(), front)
        if text:
            self._due = float("inf")
            self._context.note(f"{text} Waiting goes on.")


class DrainLook:
    """Shows what a draining worker waits for, and what it leaves when it is stopped."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._began = time.monotonic()
        self._told = False

    def look(self) -> None:
        """Show what the worker waits for with nothing to run, but not in the first second.

        A log gets a line only once, for a long wait.
        """
        is_shown = self._context.shows_waiting
        if time.monotonic() - self._began < _TOLD_AFTER or (self._told and not is_shown):
            return
        left, jobs = self._left()
        now, told = self._context.queue.now(), f"Waiting for {render.jobs(left)}"
        if running := sum(job.state == "in_progress" for job in jobs):
            told += f", {running} running"
        waiting = (job for job in jobs if job.state != "in_progress")
        if later := [job.run_at for job in waiting if job.run_at > now]:
            told += f", the next due {render.moment(min(later), parse_time(now))}"
        self._context.show_waiting(told)
        is_long = later and parse_time(min(later)) - parse_time(now) > _LONG
        if is_long and not running and not is_shown:
            self._context.note(told)
            self._told = True

    def tell_left(self) -> None:
        """Show how many jobs are left when the worker was told to stop."""
        left, _ = self._left()
        if left and not self._context.quiet:
            self._context.note(f"Told to stop; still in the queue: {render.jobs(left)}")

    def _left(self) -> tuple[int, list[Job]]:
        """The number of live jobs except schedules, and these jobs if they are not many."""
        queue = self._context.queue
        left = _live(queue.counts())
        if left > _FEW_LEFT:
            return left, []
        jobs = [job for job in queue.find(LIVE) if not recurs(job)]
        return len(jobs), jobs


def _live(counts: Mapping[str, int]) -> int:
    return sum(counts[state] for state in LIVE)


class _Watch:
    """One wait, with its deadline."""

    def __init__(self, context: Context, deadline: float | None) -> None:
        self.context = context
        self.queue = context.queue
        self.deadline = deadline
        self.began = time.monotonic()
        self.workers = WorkerLook(context)
        self.own = own_job(context)
        # Kept here, as `patiently` may call a method again. Of `jobs`: those shown as ended.
        self._ended: dict[str, Job] = {}
        # For `everything`: the jobs waited for, and the counts at the start.
        self._at_start: tuple[set[str], dict[str, int]] | None = None

    def jobs(self, ids: list[str]) -> int:
        """Wait for the jobs with these ids; shows each as it ends. Returns the exit code."""
        ended = self._ended
        many = len(ids) > _MOST_NAMED
        seen: dict[str, int] = {}
        looks = 0
        while True:
            left = [job_id for job_id in ids if job_id not in ended]
            # To look for many costs a pass over the queue: seldom, while its counts stay the same.
            before, seen = seen, self.queue.counts() if len(left) > _FEW else {}
            is_due = len(left) <= _FEW or seen != before or looks % 10 == 0
            looks += 1
            for job in self._present(left) if is_due else ():
                if job.id == self.own:
                    raise waits_for_itself(job.id)
                if job.state in LIVE and recurs(job):
                    raise InvalidInput(
                        f"job '{job.id}' is a schedule, which does not end: wait for a copy of it"
                        + (f", like {job.last}" if job.last else "")
                    )
                if job.state in LIVE:
                    require_other_worker(self.context, self.own if looks == 1 else "")
                else:
                    ended[job.id] = job
                    if not many or job.state != "completed":
                        self._tell(job)
            if len(ended) == len(ids):
                if many and not self.context.quiet:
                    completed = sum(job.state == "completed" for job in ended.values())
                    self.context.write(f"Ended: {len(ids)}. Completed: {completed}.")
                codes = [exit_code(job) for job in ended.values()]
                return codes[0] if len(codes) == 1 else int(any(codes))
            failed = sum(job.state != "completed" for job in ended.values())
            if not self._again(len(ended) - failed, failed, len(ids) - len(ended)):
                left = [job_id for job_id in ids if job_id not in ended]
                waiting = f"{len(left)} jobs" if many else ", ".join(left)
                self.context.note(f"The time is up; not ended yet: {waiting}")
                return TIMED_OUT

    def _present(self, ids: Collection[str]) -> Iterable[Job]:
        """The present form of the jobs; NoSuchJob if one is gone."""
        if len(ids) <= _FEW:
            return [self.queue.get(job_id) for job_id in ids]
        # One pass over the queue costs less than a search of it for each of them.
        found = {job.id: job for job in self.queue.select(Selection(ids=frozenset(ids)))}
        if len(found) < len(ids):
            raise NoSuchJob(next(job_id for job_id in ids if job_id not in found))
        return [found[job_id] for job_id in ids]

    def everything(self) -> int:
        """Wait until no job is left to run, including jobs enqueued meanwhile."""
        if self._at_start is None:
            live = {job.id for job in self.queue.find(LIVE) if self._ends(job)}
            self._at_start = live, self.queue.counts()
        ids, before = self._at_start
        counts = self.queue.counts()
        require_other_worker(self.context, self.own if ids else "")
        while left := self._left(counts):
            if any(held := self.queue.count_stuck()):
                self.context.note(stuck(*held, self.context.front))
                return 1
            done, *failed = (counts[s] - before[s] for s in ("completed", "dead", "cancelled"))
            if not self._again(max(done, 0), max(sum(failed), 0), left):
                self.context.note(f"The time is up; jobs not ended yet: {left}")
                return TIMED_OUT
            counts = self.queue.counts()
        ended = [job for job in self.queue.find() if job.id in ids]
        others = [job for job in ended if job.state != "completed"]
        completed = len(ended) - len(others)
        for job in others[:_MOST_NAMED]:
            self._tell(job)
        if len(others) > _MOST_NAMED and not self.context.quiet:
            self.context.write(f"... and {len(others) - _MOST_NAMED} more that did not complete.")
        if not ids and not self.context.quiet:
            dead = counts.get("dead", 0)
            told = f" Dead: {dead}; '{self.context.front}dlq list' shows them." if dead else ""
            self.context.write(self.context.nothing_yet or f"No job was left to wait for.{told}")
        elif not self.context.quiet:
            self.context.write(f"Ended: {len(ids)}. Completed: {completed}.")
        return int(completed < len(ids))

    def _left(self, counts: Mapping[str, int]) -> int:
        """The number of live jobs that the wait is for.

        They are told apart from others only when few are left or none runs, since that takes a pass
        over the queue.
        """
        left = _live(counts)
        if left and (left <= _FEW_LEFT or not (counts["in_progress"] or counts["failed"])):
            left = sum(map(self._ends, self.queue.find(LIVE)))
        return left

    def _ends(self, job: Job) -> bool:
        """Whether the wait is for this job: not a schedule, a hook, or the waiting job itself."""
        return not (recurs(job) or is_hook(job) or job.id == self.own)

    def _again(self, done: int, failed: int, left_over: int) -> bool:
        """Let some time pass, or see that none is left; shows progress after the first second."""
        left = _LOOK if self.deadline is None else min(_LOOK, self.deadline - time.monotonic())
        if left <= 0:
            return False
        self.context.flush()
        # Without a worker nobody would rescue a dead worker's jobs, nor run anything.
        self.context.rescue()
        self.workers.look()
        took = time.monotonic() - self.began
        if took >= _TOLD_AFTER:
            self.context.show_waiting(_how_far(done, failed, left_over, took))
        self.queue.wait(left)
        return True

    def _tell(self, job: Job) -> None:
        if not self.context.quiet:
            self.context.write(ending(job))


def _how_far(done: int, failed: int, left: int, took: float) -> str:
    """The progress in `took` seconds, and how long the rest may take at that pace."""
    ended, total = done + failed, done + failed + left
    if total == 1:
        return f"Waiting for the job, {format_duration(int(took))} so far"
    bar = "#" * (ended * _BAR // total)
    failures = f", {failed} failed" if failed else ""
    rest = f", about {format_duration(took / ended * left)} left" if ended else ""
    return f"[{bar.ljust(_BAR, '-')}] {ended} of {total} jobs ended{failures}{rest}"


def ending(job: Job) -> str:
    """How the job ended, as a sentence."""
    why = f": {render.brief(job.error)}" if job.state == "dead" and job.error else ""
    return f"Job '{job.id}' is {job.state}{why}."


def exit_code(job: Job) -> int:
    """The exit code of a wait for this job."""
    if job.state == "completed":
        return 0
    return (job.exit_code if job.state == "dead" else None) or 1
