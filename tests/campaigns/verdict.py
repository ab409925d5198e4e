"""What must hold after a storm: compares the queue with the notes of its users and jobs."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import pairwise

from queuectl.job_queue import JobQueue
from queuectl.model.dependencies import has_fallen
from queuectl.model.hooks import is_hook
from queuectl.model.job import FINISHED, LONGEST_HISTORY, Job, recurs
from queuectl.model.lifecycle import MOST_LOSSES
from queuectl.model.times import parse_time
from queuectl.store.files.job_files import encode_job
from queuectl.store.files.logs import named_run
from queuectl.store.mongodb.documents import STAGED
from queuectl.store.mongodb.opening import opened
from tests.campaigns.yard import ENDLESS, LOUD_LINES, Task, Yard, whole_lines

_KILLED = 137
_STARVED = 60.0  # seconds
_OVERTAKEN = 30.0  # seconds; a worker may die between a claim and the start
_TICK = 0.02  # seconds; /proc/uptime counts hundredths


class Told:
    """All notes of a campaign."""

    def __init__(self, yard: Yard) -> None:
        self.tried = {ticket: int(count) for _, ticket, count in yard.told("tried")}
        self.accepted = {note[1]: note[2:] for note in yard.told("accepted")}
        self.cancelling = self._ids(yard, "cancelling")
        self.cancelled = self._ids(yard, "cancelled")
        self.retrying = self._ids(yard, "retrying")
        self.updating = self._ids(yard, "updating")
        self.shot = {(note[1], int(note[2])) for note in yard.told("shot")}
        self.usurped = self._ids(yard, "usurped")
        self.purged: dict[str, Job] = {}
        for note in yard.told("purging"):
            job = Job.from_dict(json.loads(" ".join(note[1:])))
            if job.id not in self.purged or self.purged[job.id].rev < job.rev:
                self.purged[job.id] = job

    @staticmethod
    def _ids(yard: Yard, word: str) -> set[str]:
        return {job_id for note in yard.told(word) for job_id in note[1:]}


class Trial:
    """One job, what it recorded, and what its history tells."""

    def __init__(self, yard: Yard, told: Told, job: Job) -> None:
        self.job, self.told, self.older = job, told, bool(yard.older)
        self.task = Task.of(job.command)
        self.records = yard.runs(job.id)
        self.whole = len(job.history) < LONGEST_HISTORY
        # How each run of the past ended, by the history: event, run, entry.
        self.past = [
            (str(entry["event"]), int(entry["run"]), entry)
            for entry in job.history
            if entry["event"] not in ("retry", "dependency") or entry.get("was") == "completed"
        ]
        if job.state == "completed":
            self.past.append(("completed", job.run, {}))

    def faults(self) -> Iterator[str]:
        """What is wrong with the job, a line each."""
        for fault in (
            *self._end_faults(),
            *self._count_faults(),
            *self._run_faults(),
            *self._record_faults(),
        ):
            yield f"{self.job.id} {self.job.state} run {self.job.run}: {fault}"

    def _end_faults(self) -> Iterator[str]:
        job = self.job
        if job.state not in ("completed", "dead", "cancelled"):
            yield "did not end"
        if job.state == "cancelled" and job.id not in self.told.cancelling and not has_fallen(job):
            yield "nobody cancelled it"
        if job.id in self.told.cancelled - self.told.retrying and job.state != "cancelled":
            yield "its cancelling was confirmed"
        if job.state == "dead" and not self._may_be_dead():
            yield f"dead for no reason: {job.error}"

    def _may_be_dead(self) -> bool:
        job = self.job
        if has_fallen(job):
            return True
        if job.error == "lost":
            return job.losses >= MOST_LOSSES
        if job.error == "interrupted":
            return not job.rerun and any(event == "lose" for event, _, _ in self.past)
        return job.attempts == job.max_retries + 1

    def _count_faults(self) -> Iterator[str]:
        """Counters against the history since the count last began anew."""
        job, events = self.job, [str(entry["event"]) for entry in self.job.history]
        if "retry" in events:
            events = events[len(events) - events[::-1].index("retry") :]
        elif not self.whole:
            return
        fails = events.count("fail")
        recent = job.history[len(job.history) - len(events) :]
        # A worker that was asked to stop before it was killed tells nothing of the job.
        losses = sum(e["event"] == "lose" and e.get("reason") is None for e in recent)
        if job.attempts != fails + (job.state == "completed"):
            yield f"{job.attempts} attempts, but {fails} failures in its history"
        if job.losses != losses:
            yield f"{job.losses} losses, but {losses} in its history"
        asked = any(e["event"] == "retry" and "parent" not in e for e in job.history)
        if asked and job.id not in self.told.retrying:
            yield "nobody retried it"

    def _run_faults(self) -> Iterator[str]:
        """Each run ended in exactly one way, and in one that had a cause."""
        runs = [run for _, run, _ in self.past]
        first = 1 if self.whole or not runs else runs[0]
        if runs != list(range(first, self.job.run + 1)):
            yield f"its history tells of the runs {runs}"
        for event, run, entry in self.past:
            if event == "fail":
                yield from self._failure_faults(
                    run, entry.get("exit_code"), str(entry.get("error"))
                )
            elif event in ("completed", "retry"):
                if self.task.exit_code(run) or self.task.kind in ENDLESS:
                    yield f"run {run} must not have succeeded"
                if self._ended(run) != 0:
                    yield f"run {run} succeeded, but did not come to its end"

    def _failure_faults(self, run: int, code: object, error: str) -> Iterator[str]:
        if code == _KILLED and (self.job.id, run) in self.told.shot:
            return
        if self.task.kind in ENDLESS and error.startswith("timed out"):
            return
        if not code or code != self.task.exit_code(run) or self._ended(run) != code:
            yield f"run {run} must not have failed with {code} ({error})"

    def _ended(self, run: int) -> int | None:
        codes = [int(r[2]) for r in self.records if r[0] == "end" and int(r[1]) == run]
        return codes[0] if codes else None

    def _record_faults(self) -> Iterator[str]:
        """What the runs themselves saw: none twice, none beside another, none unknown."""
        starts = [(int(r[1]), float(r[3]), r[4]) for r in self.records if r[0] == "start"]
        for run, times in Counter(run for run, _, _ in starts).items():
            if times > 1:
                yield f"run {run} was started {times} times"
            if run > self.job.run:
                yield f"run {run} was started"
        losers = {run: entry.get("worker") for event, run, entry in self.past if event == "lose"}
        for run, _, worker in starts:
            if losers.get(run, worker) != worker:
                yield f"run {run} was {worker}'s, but {losers[run]} was lost"
        if self.job.id not in self.told.usurped:
            yield from self._overlaps({run: at for run, at, _ in starts}, losers)

    def _overlaps(self, starts: dict[int, float], losers: dict[int, object]) -> Iterator[str]:
        for record in self.records:
            run = int(record[1])
            if record[0] == "twice":
                yield f"run {run} began while something of an earlier run lived"
            # Only a run that succeeded may leave something; format 1 ended it for the lost only.
            ended = losers if self.older else {r for e, r, _ in self.past if e != "retry"}
            if record[0] == "escaped" and run - 1 in ended:
                yield f"run {run} began while something lived that run {run - 1} let escape"
            if record[0] == "end" and starts.get(run + 1, 1e12) < float(record[3]) - _TICK:
                yield f"run {run + 1} began before run {run} had ended"


def faults(yard: Yard, queue: JobQueue) -> list[str]:
    """Everything that is wrong after the storm, a line each."""
    told = Told(yard)
    present = list(queue.find())
    jobs = told.purged | {job.id: job for job in present}
    found = yard.violations() + queue.store.check()
    if len({job.id for job in present}) < len(present):
        found.append("a job occurs twice")
    found += _counter_faults(queue, present)
    own = {i: job for i, job in jobs.items() if not (job.planned or recurs(job) or is_hook(job))}
    found += _acceptance_faults(told, own)
    for job in jobs.values():
        found += [] if recurs(job) else Trial(yard, told, job).faults()
    if yard.has_all:
        found += _hook_faults(jobs)
        found += _schedule_faults(yard, jobs)
        found += _order_faults(yard, told, jobs)
    found += _log_faults(yard, jobs)
    found += _database_faults(yard, jobs) if yard.url else _folder_faults(yard, present)
    return found


def _counter_faults(queue: JobQueue, present: list[Job]) -> Iterator[str]:
    listed = Counter(job.state for job in present)
    counted = {state: count for state, count in queue.counts().items() if count}
    if counted != dict(listed):
        yield f"status counts {counted}, the list shows {dict(listed)}"


def _acceptance_faults(told: Told, jobs: dict[str, Job]) -> Iterator[str]:
    """Accepted is there; there is what was tried: all of an enqueue or none, each job once."""
    for ticket, ids in told.accepted.items():
        missing = [job_id for job_id in ids if job_id not in jobs]
        if missing:
            yield f"accepted with {ticket}, but LOST: {missing}"
    tickets = Counter(Task.of(job.command).ticket for job in jobs.values())
    yield from (f"{ticket} is {times} jobs" for ticket, times in tickets.items() if times > 1)
    sizes = Counter(ticket.rpartition(".")[0] for ticket in tickets)
    for ticket, size in sizes.items():
        if told.tried.get(ticket) != size:
            yield f"of {ticket} there are {size} jobs, not {told.tried.get(ticket)}"


def _log_faults(yard: Yard, jobs: dict[str, Job]) -> Iterator[str]:
    """Each run's output is in its own log, whole if the run came to its end, and nothing else."""
    folder = os.path.join(yard.data, "logs")
    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name)
        named = named_run(name)
        if name.startswith("worker-"):
            yield from _own_log_faults(path)
        elif named and named[0] in jobs and named[2] == jobs[named[0]].log_word:
            yield from _output_faults(name, whole_lines(path), jobs[named[0]], named[1])
        else:
            yield f"{name} is left in logs"


def _hook_faults(jobs: dict[str, Job]) -> Iterator[str]:
    """Each end of a job that did not fall with another has one hook, and each hook one end."""
    told, ends = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for job in jobs.values():
        if is_hook(job):
            told[(job.env or {})["QUEUECTL_OF"], (job.env or {})["QUEUECTL_EVENT"]] += 1
            continue
        was = [str(entry.get("was")) for entry in job.history if entry["event"] == "retry"]
        for state in (*was, job.state):
            ends[job.id, state] += state in FINISHED
        for entry in job.history:
            if entry["event"] == "dependency":
                ends[job.id, str(entry["state"])] -= 1
    for job_id, state in told.keys() | ends.keys():
        job = jobs.get(job_id)
        # Of a history that is full the beginning is gone.
        whole = job is None or len(job.history) < LONGEST_HISTORY
        if whole and told[job_id, state] != ends[job_id, state]:
            counts = f"{ends[job_id, state]} times, with {told[job_id, state]} hooks"
            yield f"{job_id} was {state} {counts}"


def _schedule_faults(yard: Yard, jobs: dict[str, Job]) -> Iterator[str]:
    """No firing came twice, or at another moment than it should; each that was missed is told."""
    for draft in yard.schedules():
        schedule = jobs[str(draft["id"])]
        copies = [job for job in jobs.values() if job.id.startswith(f"{schedule.id}:")]
        fired = [_micro(str(job.planned)) for job in copies]
        if not fired or len(set(fired)) < len(fired):
            yield f"{schedule.id} fired twice, or never: {len(fired)} times"
            continue
        period = round(float(str(draft["every"])) * 1e6)
        skips = [entry for entry in schedule.history if entry["event"] == "skip"]
        # By moment, when a worker met it: what is due next is the first moment behind that.
        met = {_micro(str(job.planned)): _micro(job.created_at) for job in copies}
        met |= {_micro(str(entry["planned"])): _micro(str(entry["at"])) for entry in skips}
        full = len(schedule.history) >= LONGEST_HISTORY  # what was skipped before is not known
        known = _micro(str(skips[0]["planned"])) if full and skips else 0
        expected = {_micro(schedule.run_at), min(met)}
        expected |= {at + max(1, (seen - at) // period + 1) * period for at, seen in met.items()}
        missed = sorted(at for at in expected - met.keys() if known <= at < max(met))
        if missed:
            yield f"{schedule.id} missed {len(missed)} moments, the first {missed[0] / 1e6:f}"
        odd = sorted(at for at in met.keys() - expected if at > known)
        if odd:
            yield f"{schedule.id} fired out of turn: {len(odd)} times, first {odd[0] / 1e6:f}"
        # What was skipped for a copy that still runs was met, too.
        moments = sorted(at for at in met if at >= known)
        gap = max((after - before for before, after in pairwise(moments)), default=0) / 1e6
        if gap > _STARVED:
            yield f"{schedule.id} was not met for {gap:g} s"


def _micro(time: str) -> int:
    return round(parse_time(time) * 1e6)


def _order_faults(yard: Yard, told: Told, jobs: dict[str, Job]) -> Iterator[str]:
    """Nothing starts before its parents' ends, nor long behind what came later with its rules."""
    alike: dict[object, list[tuple[str, float, str]]] = {}
    for job in jobs.values():
        start = min((float(r[3]) for r in yard.runs(job.id) if r[0] == "start"), default=None)
        if start is None or recurs(job) or is_hook(job) or job.planned:
            continue
        for parent in (*job.after, *_completed(told, jobs, job.after_end)):
            ends = [float(r[3]) for r in yard.runs(parent) if r[0] == "end" and r[2] == "0"]
            if not ends or start < min(ends) - _TICK:
                yield f"{job.id} was started before {parent} had ended well"
        if not (job.after or job.after_end) and job.id not in told.retrying | told.updating:
            rules = (job.priority, tuple(sorted(job.tags)), tuple(sorted(job.lock)))
            alike.setdefault(rules, []).append((job.created_at, start, job.id))
    for found in alike.values():
        first, overtaker = float("inf"), ""
        for _, start, job_id in sorted(found, reverse=True):
            if start > first + _OVERTAKEN:
                seconds = start - first
                yield f"{job_id} starved: {overtaker} came later and began {seconds:g} s before"
            if start < first:
                first, overtaker = start, job_id


def _completed(told: Told, jobs: dict[str, Job], names: Iterable[str]) -> list[str]:
    """Those of the jobs that have completed, and had not ended otherwise before.

    By a retry of their own, or as they came back with a parent that somebody retried.
    """
    return [
        name
        for name in names
        if name in jobs and jobs[name].state == "completed" and name not in told.retrying
        if not any("parent" in entry for entry in jobs[name].history)
    ]


_EXPECTED = ("rescued job", "was given up: its file in workers/ is gone")
_EXPECTED += ("edited by hand; ", "changes that came first were kept", "removed meanwhile, and not")
_EXPECTED += (
    "an edit was not taken in: ",
    "an edit cannot be taken in: ",
    "not removed, because ",
    "changed only as far as ",
)


def _own_log_faults(path: str) -> Iterator[str]:
    lines = list(whole_lines(path))
    given_up = any("was given up: its file in workers/ is gone" in line for line in lines)
    # A worker whose file goes while it claims does not begin what it got.
    expected = (*_EXPECTED, "which it does not run") if given_up else _EXPECTED
    for line in lines:
        if not any(words in line for words in expected):
            yield f"{os.path.basename(path)} says: {line}"


def _output_faults(name: str, lines: list[str], job: Job, run: int) -> Iterator[str]:
    kind = Task.of(job.command).kind
    if kind == "monitored":
        return  # bash has its say about what it was told to watch
    if kind != "loud":  # a run that left something gets a log, though nothing was written
        if lines:
            yield f"{name} of a silent job holds {lines[:3]}"
        return
    wanted = [f"{job.id} {run} {n}" for n in range(1, LOUD_LINES + 1)]
    if lines != wanted[: len(lines)]:
        yield f"{name} holds {lines[:3]}..."
    if job.state == "completed" and job.run == run and len(lines) < LOUD_LINES:
        yield f"{name} has lost output: {len(lines)} lines"


def _database_faults(yard: Yard, jobs: dict[str, Job]) -> Iterator[str]:
    """Output is that of its own run, and nothing is left of those that died."""
    from queuectl.store.mongodb.output import Pieces  # needs the driver

    store = opened(yard.data)
    database = store.connection.database
    pieces = Pieces(store.connection)
    batches = database.meta.distinct("_id", {"made_at": {"$exists": True}, "committed": None})
    held = [str(batch).partition("/")[2] for batch in batches]
    for name in sorted(database.logs.distinct("name")):
        named = named_run(name)
        if named and named[0] in jobs and named[2] == jobs[named[0]].log_word:
            lines = b"".join(pieces.read(name)).decode().split("\n")[:-1]
            yield from _output_faults(name, lines, jobs[named[0]], named[1])
        else:
            yield f"{name} is left in the database"
    for what, left in (
        ("workers", database.workers.distinct("_id")),
        # What a killed process had not handed in yet is removed after an hour.
        ("staged jobs", database.jobs.distinct("_id", {"state": STAGED, "_batch": {"$nin": held}})),
        ("files of workers", os.listdir(os.path.join(yard.data, "workers"))),
    ):
        if left:
            yield f"left over: {what} {left}"


def _folder_faults(yard: Yard, present: list[Job]) -> Iterator[str]:
    """The four JSON files are the whole truth, and nothing is left of those that died."""
    forms = []
    for name in ("jobs.json", "dlq.json", "worker_pids.json"):
        with open(os.path.join(yard.data, name), encoding="utf-8") as file:
            forms.append(json.load(file))
    if {form["id"]: form for form in forms[0] + forms[1]} != {
        job.id: json.loads(encode_job(job)) for job in present
    }:
        yield "the JSON files show something else than the list"
    if forms[2]:
        yield f"worker_pids.json names workers that are gone: {forms[2]}"
    left = [name for name in os.listdir(yard.data) if name.endswith(".new")]
    left += os.listdir(os.path.join(yard.data, "workers"))
    if left:
        yield f"left over: {left}"
