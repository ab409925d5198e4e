"""Notices about the jobs that this shell enqueued: a line for each, or a summary."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

from queuectl.commands.render import brief, clip, one_line
from queuectl.model.job import Job
from queuectl.model.times import format_duration, parse_time

_MOST_LINES = 3  # at once; more are summed up
_WIDEST = 30  # columns of a command
_TOLD = ("completed", "failed", "dead")


class Notices:
    """Follows some jobs and keeps the notices about them until they are taken.

    `mode` is "on", "off" or "dead". Any thread may call the methods.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.mode = "on"
        self._clock = clock
        self._mutex = threading.Lock()
        self._followed: dict[str, tuple[str, int]] = {}  # id -> state and run of the last notice
        self._waiting: list[Job] = []

    @property
    def followed(self) -> frozenset[str]:
        """The ids of the jobs that have not ended yet."""
        with self._mutex:
            return frozenset(self._followed)

    def follow(self, ids: Iterable[str]) -> None:
        with self._mutex:
            for job_id in ids:
                self._followed.setdefault(job_id, ("", 0))

    def silence(self, ids: Iterable[str]) -> None:
        """Stop notices about these jobs, whose end was shown in another way."""
        gone = set(ids)
        with self._mutex:
            self._waiting = [job for job in self._waiting if job.id not in gone]
            for job_id in gone:
                self._followed.pop(job_id, None)

    def feed(self, jobs: Iterable[Job]) -> None:
        """Take in the present form of jobs, in the order of their changes."""
        with self._mutex:
            for job in jobs:
                told = self._followed.get(job.id)
                if told is None or told == (job.state, job.run):
                    continue
                self._followed[job.id] = (job.state, job.run)
                if job.state in ("completed", "dead", "cancelled"):
                    del self._followed[job.id]
                if job.state in _TOLD:
                    self._waiting.append(job)

    def any_waiting(self) -> bool:
        """Whether `take` would return anything."""
        with self._mutex:
            return any(self._wanted(job) for job in self._waiting)

    def take(self) -> list[str]:
        """The lines to show now."""
        with self._mutex:
            jobs = [job for job in self._waiting if self._wanted(job)]
            self._waiting = []
        if len(jobs) <= _MOST_LINES:
            return [self._line(job) for job in jobs]
        return [_summary(jobs)]

    def _wanted(self, job: Job) -> bool:
        return self.mode == "on" or (self.mode == "dead" and job.state == "dead")

    def _line(self, job: Job) -> str:
        why = brief(job.error or "")
        named = f"Job '{job.id}' ({clip(one_line(job.command[: _WIDEST * 4]), _WIDEST)})"
        if job.state == "completed":
            took = ""
            if job.started_at and job.finished_at:
                seconds = parse_time(job.finished_at) - parse_time(job.started_at)
                took = f" in {format_duration(seconds)}" if seconds > 0 else ""
            return f"{named} completed{took}."
        if job.state == "dead":
            return f"{named} is dead: {why} ('show {job.id}' tells more)."
        wait = format_duration(max(0.0, round(parse_time(job.run_at) - self._clock())))
        return f"{named} failed: {why}; it runs again in {wait}."


def _summary(jobs: list[Job]) -> str:
    counts = {state: sum(job.state == state for job in jobs) for state in _TOLD}
    told = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    dead = [job.id for job in jobs if job.state == "dead"]
    named = f" (dead: {', '.join(dead[:_MOST_LINES])}{', ...' * (len(dead) > _MOST_LINES)})"
    return f"Jobs: {told}{named if dead else ''}."
