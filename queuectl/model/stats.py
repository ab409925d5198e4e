"""Statistics of a queue's jobs: counts, failures, waiting and run times, and the last hour.

One pass over the jobs in bounded memory: of very many times a sample is kept. Only jobs that still
exist count, so the form says how far back they go. Quantiles are nearest ranks.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from heapq import heappush, heappushpop
from math import ceil
from typing import Any

from queuectl.model.derived import moment, run_ended
from queuectl.model.fields import STATES
from queuectl.model.hooks import is_hook
from queuectl.model.job import FINISHED, Job
from queuectl.model.times import format_time, parse_time

HOUR, MINUTE = 3600.0, 60.0
HOURS = 24
_SAMPLE = 10_000  # times that are kept; of more every 2nd, then every 4th...
_RECENT = 200  # events of the last hour that are reported
_KINDS = {"completed": 0, "failed": 1, "dead": 2}  # of ends, by their position in a slot


class Times:
    """Durations, for their median, 95th percentile and maximum."""

    def __init__(self) -> None:
        self.count = 0
        self._longest = 0.0
        self._every = 1
        self._kept: list[float] = []

    def add(self, seconds: float) -> None:
        self.count += 1
        self._longest = max(self._longest, seconds)
        if self.count % self._every == 0:
            self._kept.append(seconds)
            if len(self._kept) > _SAMPLE:
                self._kept = self._kept[1::2]
                self._every *= 2

    def form(self) -> dict[str, Any]:
        """The figures in seconds; null if there are no durations."""
        kept = sorted(self._kept)
        return {
            "count": self.count,
            "median": _rank(kept, 0.5),
            "p95": _rank(kept, 0.95),
            "longest": round(self._longest, 6) if self.count else None,
        }


def _rank(ordered: list[float], part: float) -> float | None:
    if not ordered:
        return None
    return round(ordered[max(0, ceil(part * len(ordered)) - 1)], 6)


class Stats:
    """Statistics that take in jobs one by one; `now` is epoch seconds."""

    def __init__(self, now: float) -> None:
        self._counts = dict.fromkeys(STATES, 0)
        self._since: str | None = None
        self._runs = self._failures = self._retries = 0
        self._waits, self._lengths = Times(), Times()
        # The ends of runs in each minute and hour: jobs completed, runs failed, jobs dead.
        self._minutes = [[0, 0, 0] for _ in range(60)]
        self._hours = [[0, 0, 0] for _ in range(HOURS)]
        self._recent: list[tuple[str, str, str, int, str]] = []
        self._at = format_time(now)
        self._hours_from = [format_time(now - HOUR * age) for age in range(HOURS, 0, -1)]
        self._minutes_from = [format_time(now - MINUTE * age) for age in range(60, 0, -1)]
        self._hour_ago, self._day_ago = self._minutes_from[0], self._hours_from[0]

    def add(self, job: Job) -> None:
        self._counts[job.state] = self._counts.get(job.state, 0) + 1
        if self._since is None or job.created_at < self._since:
            self._since = job.created_at
        self._runs += job.run
        for entry in job.history:
            self._add_entry(job, entry)
        self._add_times(job)
        if job.started_at and job.started_at >= self._hour_ago:
            self._note(job.started_at, "started", job, job.run)
        ended = job.finished_at
        if job.state in FINISHED and ended:
            self._count_end(job.state, ended)
            if ended >= self._hour_ago:
                why = job.error or "" if job.state == "dead" else ""
                self._note(ended, job.state, job, job.run, why)

    def _add_entry(self, job: Job, entry: Mapping[str, Any]) -> None:
        event, at = entry.get("event"), entry.get("at")
        if not isinstance(at, str):
            return
        if event == "fail":
            self._failures += 1
            self._count_end("failed", at)
        elif event == "retry":
            self._retries += 1
        if at >= self._hour_ago and event in ("fail", "retry", "lose", "release"):
            last = event == "fail" and job.state == "dead" and at == job.finished_at
            if not last:  # its burial is reported
                names = {"fail": "failed", "retry": "retried", "lose": "lost", "release": "stopped"}
                run = entry.get("run")
                why = str(entry.get("error") or "")
                self._note(at, names[event], job, run if isinstance(run, int) else 0, why)

    def _add_times(self, job: Job) -> None:
        started, ended = moment(job.started_at), moment(run_ended(job))
        if started is not None and ended is not None and ended >= started:
            self._lengths.add(ended - started)
        due = moment(max(job.run_at, job.created_at))
        if started is not None and due is not None and job.run and started >= due:
            self._waits.add(started - due)

    def _count_end(self, name: str, at: str) -> None:
        if name not in _KINDS or at < self._day_ago or at > self._at:
            return
        # Times sort as text: that is much less work than to read each of very many.
        self._hours[bisect_right(self._hours_from, at) - 1][_KINDS[name]] += 1
        if at >= self._hour_ago:
            self._minutes[bisect_right(self._minutes_from, at) - 1][_KINDS[name]] += 1

    def _note(self, at: str, event: str, job: Job, run: int, why: str = "") -> None:
        entry = (at, job.id, event, run, why[:200])
        if len(self._recent) < _RECENT:
            heappush(self._recent, entry)
        else:
            heappushpop(self._recent, entry)

    def form(self) -> dict[str, Any]:
        """All the figures as JSON; times are RFC 3339 text, durations seconds."""
        completed, dead = self._counts["completed"], self._counts["dead"]
        ended = completed + dead
        return {
            "at": self._at,
            "since": self._since,
            "total": sum(self._counts.values()),
            "jobs": dict(self._counts),
            "runs": self._runs,
            "failures": self._failures,
            "retries": self._retries,
            "success": round(completed / ended, 4) if ended else None,
            "wait": self._waits.form(),
            "run": self._lengths.form(),
            "hour": _hour(self._minutes),
            "hours": self._hours,
            "recent": [
                {"at": at, "id": job_id, "event": event, "run": run} | ({"why": why} if why else {})
                for at, job_id, event, run, why in sorted(self._recent, reverse=True)
            ],
        }


def _hour(minutes: list[list[int]]) -> dict[str, Any]:
    sums = map(sum, zip(*minutes, strict=True))
    return {**dict(zip(_KINDS, sums, strict=True)), "minutes": minutes}


def stats(jobs: Iterable[Job], now: float) -> dict[str, Any]:
    """The statistics of the jobs, without hooks."""
    found = Stats(now)
    for job in jobs:
        if not is_hook(job):
            found.add(job)
    return found.form()


def aged(form: Mapping[str, Any], now: float) -> dict[str, Any]:
    """The figures in `form` as they are at `now`, if nothing happened since they were counted."""
    begun = parse_time(form["at"])
    passed = max(0, int((now - begun) // MINUTE))
    at = begun + passed * MINUTE
    hour_ago = format_time(at - HOUR)
    return {
        **form,
        "at": format_time(at),
        "hour": _hour(_moved_on(form["hour"]["minutes"], passed)),
        "hours": _moved_on(form["hours"], int((at - begun) // HOUR)),
        "recent": [event for event in form["recent"] if event["at"] >= hour_ago],
    }


def _moved_on(slots: list[list[int]], by: int) -> list[list[int]]:
    return [*slots[by:], *([0, 0, 0] for _ in range(min(by, len(slots))))]
