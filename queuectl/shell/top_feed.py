"""What `top` shows of the queue, read without locks and only as often as it changes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from queuectl.commands.render import one_line
from queuectl.errors import QueuectlError
from queuectl.shell.live import LiveQueue
from queuectl.shell.toolbar import Standing
from queuectl.worker.logs import LogFolder

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from queuectl.model.job import Job
    from queuectl.store.worker_files import WorkerInfo

_GROUPS = (("in_progress",), ("failed",), ("pending",), ("dead",), ("completed", "cancelled"))
_WORKERS = 2.0  # seconds between looks at workers, whose deaths change no file
_LAST_LINE = 1024  # bytes in which the last line is looked for
_LINE = 200  # bytes of a line that may matter on a screen
_TROUBLE = (QueuectlError, OSError, ValueError)


class Picture(NamedTuple):
    """The queue at the moment `now`; `said` holds the last line of output by job id.

    `log` is the end of the output that was asked for.
    """

    now: float
    standing: Standing
    jobs: tuple[Job, ...] = ()
    workers: tuple[WorkerInfo, ...] = ()
    said: Mapping[str, str] = {}
    log: tuple[str, ...] = ()


class Feed:
    """Takes pictures of a data folder. Not for two threads at once."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._live = LiveQueue(folder)
        self._logs = LogFolder(folder)
        self._mark: object = None
        self._looked = float("-inf")
        self._standing = Standing({}, 0)
        self._workers: tuple[WorkerInfo, ...] = ()
        self._said: dict[tuple[str, int, str], str] = {}

    def look(self, visible: Collection[str] | None, log: str = "", lines: int = 0) -> Picture:
        """The queue now, with the last lines of the visible jobs (None: of all).

        And with the last lines of the output of the job `log`, if one is named.
        """
        self._look_at_the_whole()
        jobs: dict[str, Job] = {}
        for states in _GROUPS:
            if any(self._standing.counts.get(state) for state in states):
                jobs |= {job.id: job for job in reversed(self._live.jobs(states))}
        shown = jobs.values() if visible is None else [jobs[i] for i in visible if i in jobs]
        said = {job.id: self._last_words(job) for job in shown}
        output = self._end(jobs[log], lines) if log in jobs else ()
        return Picture(
            time.time(), self._standing, tuple(jobs.values()), self._workers, said, output
        )

    def close(self) -> None:
        """Let go of the files."""
        self._live.close()

    def _look_at_the_whole(self) -> None:
        """Counts and workers, if they may have changed."""
        from queuectl.store.glance import change_mark
        from queuectl.store.summary import read_summary

        mark, now = change_mark(self._folder), time.monotonic()
        if mark == self._mark and now - self._looked < _WORKERS:
            return
        self._mark, self._looked = mark, now
        try:
            summary = read_summary(self._folder, time.time())
        except _TROUBLE as exc:
            self._mark = None  # it may have been a passing one
            self._standing = Standing({}, 0, str(exc))
            return
        self._standing = Standing(dict(summary.counts), len(summary.worker_pids))
        self._workers = tuple(summary.workers)

    def _last_words(self, job: Job) -> str:
        """Why the job failed, or the last line that it printed."""
        if job.state in ("failed", "dead"):
            return one_line(job.error or "")
        key = (job.id, job.run, job.state)
        if job.state == "in_progress" or key not in self._said:
            if len(self._said) > 1000:
                self._said.clear()
            lines = self._end(job, 1, _LAST_LINE) if job.run else ()
            self._said[key] = lines[0] if lines else ""
        return self._said[key]

    def _end(self, job: Job, lines: int, most: int = 0) -> tuple[str, ...]:
        """The last lines of the job's output, each safe to show."""
        text = self._logs.end(job, most or lines * _LINE).decode("utf-8", "replace")
        # A line that was written over with carriage returns shows what was written last.
        kept = [one_line(line.rstrip("\r").rpartition("\r")[2]) for line in text.split("\n")]
        while kept and not kept[-1].strip():
            kept.pop()
        return tuple(kept[-lines:])
