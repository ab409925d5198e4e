"""What `top` shows of the queue, read without locks and only as often as it changes."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import closing
from typing import NamedTuple, cast

from queuectl.commands.render import one_line
from queuectl.errors import UNREADABLE
from queuectl.live.output import Page, Wish, read_page
from queuectl.live.rows import Rows
from queuectl.live.standing import LOOK_AT_WORKERS, Standing, standing_of
from queuectl.model.fields import State
from queuectl.model.gate import OPEN
from queuectl.model.job import Job
from queuectl.model.log_words import END, last_words
from queuectl.model.times import format_time
from queuectl.model.waiting import waits
from queuectl.store.facts import WorkerInfo
from queuectl.store.output import Output
from queuectl.store.watch import Watch

_GROUPS = (("in_progress",), ("dead",), ("completed", "cancelled"))
_MANY = 3000  # jobs; of more, some are shown while all are read
_SOME = 300  # jobs of each kind
_LONGEST = 2000  # characters kept of a command or an error


class Picture(NamedTuple):
    """The queue at the moment `now`.

    `said`: by job id, the last line of output, or why a due job must wait. `jobs` are kept from
    picture to picture: a screen first applies `changes` to them. `partial`: `jobs` is not complete
    yet. `page`: the part of the output asked for.
    """

    now: float
    standing: Standing
    jobs: Rows
    workers: tuple[WorkerInfo, ...] = ()
    said: Mapping[str, str] = {}
    page: Page | None = None
    changes: Mapping[str, Job | None] = {}
    partial: bool = False


class Feed:
    """Takes pictures of a queue. Not for two threads at once."""

    def __init__(self, watch: Watch, logs: Output) -> None:
        self._watch, self._logs = watch, logs
        self._mark: tuple[object, ...] | None = None
        self._looked = float("-inf")
        self._standing = Standing({}, 0)
        self._workers: tuple[WorkerInfo, ...] = ()
        self._said: dict[tuple[str, int, str], str] = {}
        self._jobs: Rows | None = None
        self._partial = False
        self._gate = OPEN

    def look(
        self, visible: Iterable[Job] = (), wish: Wish | None = None, *, at_once: bool = True
    ) -> Picture:
        """The queue now, with the last lines of the visible jobs and the page of output in `wish`.

        All jobs are read, unless that takes long and the picture must be `at_once`.
        """
        changed = self._look_at_the_whole()
        changes: Mapping[str, Job | None] = {}
        if not self._standing.trouble:
            try:
                changes = self._follow(changed, at_once)
            except UNREADABLE as exc:
                self._mark = None  # the error may pass
                self._standing = Standing({}, 0, str(exc))
                self._partial = self._jobs is not None  # all must be read anew
        jobs = self._jobs if self._jobs is not None else Rows()
        seen = [changes.get(job.id) or job for job in visible]
        # The screen applies `changes` to these rows later, so running jobs are slightly old here.
        why = waits(seen, self._gate, lambda: jobs.running.values(), jobs.states, self._now())
        said = {job.id: why.get(job.id) or self._last_words(job) for job in seen}
        page = None
        if wish is not None:
            job = changes.get(wish.job_id, jobs.get(wish.job_id))
            page = read_page(self._logs, job, wish) if job else Page()
        partial = self._partial and not self._standing.trouble
        return Picture(
            time.time(), self._standing, jobs, self._workers, said, page, changes, partial
        )

    def close(self) -> None:
        self._watch.close()

    def _look_at_the_whole(self) -> bool:
        """Counts and workers, if they may have changed; whether anything did."""
        mark, now = self._watch.mark(), time.monotonic()
        same = mark == self._mark
        if same and now - self._looked < LOOK_AT_WORKERS:
            return False
        self._mark, self._looked = mark, now
        try:
            summary = self._watch.summary()
        except UNREADABLE as exc:
            self._mark = None
            self._standing = Standing({}, 0, str(exc))
            self._partial = self._jobs is not None
            return True
        self._standing = standing_of(summary)
        before, settings = self._gate, summary.settings
        self._gate = (settings.gate() if settings else None) or OPEN
        self._workers = tuple(summary.workers)
        if before.aging != self._gate.aging:
            self._partial = self._jobs is not None  # all of them in a new order
        return not same

    def _follow(self, changed: bool, at_once: bool) -> Mapping[str, Job | None]:
        """The changes of the jobs since the last look; reads all jobs if they are unknown."""
        if self._jobs is not None and not changed and not self._partial:
            return {}
        if self._jobs is None and at_once and sum(self._standing.counts.values()) > _MANY:
            self._jobs, self._partial = Rows(self._first(), self._now(), self._gate.aging), True
            return {}
        changes = self._watch.changes()
        if changes is not None and self._jobs is not None and not self._partial:
            return {job_id: _slim(job) if job else None for job_id, job in changes}
        self._jobs = Rows(map(_slim, self._watch.jobs()), self._now(), self._gate.aging)
        self._partial = False
        return {}

    def _now(self) -> str:
        return format_time(time.time())

    def _first(self) -> list[Job]:
        """Some jobs of each state, quickly; of waiting ones those that are claimed first."""
        with closing(self._watch.glance()) as glance:
            jobs = glance.next_claimed(self._now(), _SOME)
            jobs += [job for states in _GROUPS for job in glance.newest(states, "", _SOME)]
            return list(map(_slim, jobs))

    def _last_words(self, job: Job) -> str:
        """Why the job failed, or the last line of its output."""
        if job.state in ("failed", "dead"):
            return one_line(job.error or "")
        key = (job.id, job.run, job.state)
        if job.state == "in_progress" or key not in self._said:
            if len(self._said) > 1000:
                self._said.clear()
            self._said[key] = last_words(self._logs.end(job, END)) if job.run else ""
        return self._said[key]


def _slim(job: Job) -> Job:
    """The job with only what the screen shows, since the whole queue is kept in memory."""
    runs = job.state == "in_progress"
    return job._replace(
        state=cast("State", sys.intern(job.state)),
        command=job.command[:_LONGEST],
        error=job.error and job.error[:_LONGEST],
        created_at=job.updated_at,
        started_at=job.started_at if runs else None,
        finished_at=None,
        worker=job.worker if runs else None,
        cwd=None,
        env=None,
        history=(),
        extra=None,
    )
