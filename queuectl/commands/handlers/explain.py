"""Why a job does not run, or ended as it did: `explain`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from queuectl.commands import forms, render
from queuectl.commands.context import Context
from queuectl.commands.dispatch import Result
from queuectl.commands.selecting import named_job
from queuectl.errors import InvalidInput, QueuectlError
from queuectl.job_queue import JobQueue
from queuectl.model.backoff import RetryPolicy, retry_delay
from queuectl.model.claim_order import is_ready
from queuectl.model.dependencies import (
    LOST,
    fell_with,
    has_fallen,
    parents,
    ring,
    told_ring,
    unmet,
)
from queuectl.model.fields import State
from queuectl.model.gate import ALL, OPEN, Gate, full, paused_by, shut_by
from queuectl.model.job import CLAIMABLE, LIVE, Job, recurs
from queuectl.model.lifecycle import LATER, own_policy
from queuectl.model.times import format_duration
from queuectl.store.facts import WorkerInfo
from queuectl.worker.hindrance import hindrance, unserved

Told = Callable[[str], str]  # shows a time

_NOT_FOUND = 127  # the exit code of /bin/sh for an unknown command
_MOMENTS = 3  # of a schedule
_MOST_NAMED = 5  # jobs named that hold what another one waits for
_MOST_RETRIES = 10  # that are told of
_BURIED = {
    "lost": "its worker died in each of its last runs, most likely because of the job",
    "interrupted": "its worker died while it ran, and it must not be run again (rerun: false)",
    "stopped": "its workers were killed 20 times in a row after they were asked to stop",
}
_SKIPPED = {
    "overlap": ", as the copy before it was still alive",
    "late": ", as it was more than a minute late (catch_up: false)",
}
_KEPT = {
    "elsewhere": (
        "worker_lost_elsewhere",
        "Worker {} died in another container, where something of its run lives on; the job is "
        "taken back when that has ended, or when the setting foreign-grace is over.",
    ),
    "unsure": (
        "worker_lost_unsure",
        "Worker {} is not to be found, but something of its run lives that may belong to a copy of "
        "this folder; the job is taken back when that has ended.",
    ),
}


class Surroundings(NamedTuple):
    """What a job's fate depends on besides the job: `ahead` jobs are claimed before it.

    `now`: RFC 3339 text. `workers`: those with a file, living or not. `kept`: why a dead worker's
    job is not rescued, see `rescue.kept_by`. `path`: where the job's PATH comes from, if it failed
    because of that. `shut`: what of the gate keeps it waiting. `last`: the latest copy of a
    schedule. `front` is put before command lines. `gone`: the job that it fell with does not exist.
    """

    now: str
    policy: RetryPolicy
    workers: Sequence[WorkerInfo]
    ahead: int
    kept: str | None = None
    path: str = ""
    shut: Sequence[tuple[str, str]] = ()
    last: Job | None = None
    front: str = ""
    gone: bool = False


def explain(context: Context, args: dict[str, Any]) -> Result:
    """The reasons, a line for each, and the retries to come."""
    queue = context.queue
    job, now = named_job(context, args["job"]), queue.now()
    gate = queue.settings().gate() or OPEN
    shut: list[tuple[str, str]] = []
    if job.state in CLAIMABLE:
        shut = _awaited(queue, job) + _shut(job, gate, queue.using((job,), gate))
    ahead = 0
    if is_ready(job, now) and not shut:
        ahead = queue.ahead(job, gate)
    workers = queue.workers()
    holder = next((worker for worker in workers if worker.id == job.worker), None)
    kept = None
    if job.state == "in_progress" and (holder is None or not holder.alive):
        from queuectl.worker.rescue import kept_by  # rarely needed

        kept = kept_by(queue, holder, job)
    path = _path_of(queue, job) if job.exit_code == _NOT_FOUND else ""
    policy = own_policy(job, queue.settings().retry_policy())
    last = queue.store.get(job.last) if recurs(job) and job.last is not None else None
    around = Surroundings(now, policy, workers, ahead, kept, path, shut, last, context.front)
    if has_fallen(job) and job.state in LOST:
        around = around._replace(gone=not queue.states([fell_with(job)]))
    children = _children(queue, job, now)
    retries = coming_retries(job, around.policy)
    clock = context.clock

    def lines() -> Iterator[str]:
        state = render.paint(job.state, render.STATE_COLOURS.get(job.state), on=context.color)
        yield f"Job '{job.id}' is {state}."
        for _, text in reasons(job, around, lambda at: render.moment(at, clock)) + children:
            yield f"  {text}"
        if retries:
            yield f"  {_told_retries(job, retries, around.policy)}"

    found = reasons(job, around, lambda at: at) + children
    alive = sum(worker.alive for worker in workers)
    return Result(
        lines(),
        words=(code for code, _ in found),
        form=lambda: forms.explain_form(job, found, retries, ahead, alive),
    )


def _path_of(queue: JobQueue, job: Job) -> str:
    """The source of the job's PATH, and its value."""
    own = (job.env or {}).get("PATH")
    if own is not None:
        return f"from its own env: {render.one_line(own)}"
    try:
        taken = queue.env_set(job)
    except QueuectlError as exc:
        return render.one_line(str(exc))
    if taken is None:
        return "from its worker, since an earlier version enqueued it"
    path = taken["env"].get("PATH")
    told = "none" if path is None else render.one_line(path)
    return f"from where it was enqueued: {told}"


def _shut(job: Job, gate: Gate, using: Mapping[str, list[Job]]) -> list[tuple[str, str]]:
    """What of the gate holds a waiting job, as codes and sentences."""
    found = []
    for code, words in shut_by(job, gate, using):
        more = ""
        if code == "paused":
            pause = paused_by(job, gate)
            more = f"; '{'resume' if pause == ALL else f'resume {pause}'}' ends that"
        elif code == "limit" and (token := full(job, gate, using)):
            told = _few([other.id for other in using[token]])
            more = f"; {gate.limits[token]} may run at once, and these do: {told}"
        found.append((code, f"{words[0].upper()}{words[1:]}{more}."))
    return found


def _awaited(queue: JobQueue, job: Job) -> list[tuple[str, str]]:
    """The parents that a waiting job lacks, as codes and sentences."""
    states = queue.states(parents(job))
    waits, found = unmet(job, states.get), []
    gone = [name for name, state in waits.items() if state is None]
    there = [f"{name} ({state})" for name, state in waits.items() if state is not None]
    if gone:
        text = f"It waits for {_few(gone)}, which is not there any more: 'update {job.id}' with "
        found.append(("parent_gone", text + "--after or --after-end names others."))
    if there:
        text = f"It waits for {_few(there)}."
        kin = {other.id: parents(other) for other in queue.kin() if other.state in LIVE}
        if ids := ring([job.id], lambda name: kin.get(name, ())):
            text += f" There is a ring, {told_ring(ids)}: 'update {ids[0]}' can break it."
        found.append(("waiting_for", text))
    return found


def _children(queue: JobQueue, job: Job, now: str) -> list[tuple[str, str]]:
    """What the job's end or retry would mean for its children, as codes and sentences."""
    if job.state == "completed" or not queue.children(job.id):
        return []
    kin = queue.family()

    def follow(state: State) -> list[str]:
        return [new.id for _, new in kin.consequences([(job, job._replace(state=state))], now)]

    if job.state in LOST:
        risen = follow("pending")
        text = f"{render.jobs(len(risen))} that fell with it would come back with it"
        return [("brings_back", f"{text}: {_few(risen)}.")] if risen else []
    found = []
    if free := [kid.id for kid in kin.freed([(job, job._replace(state="completed"))])]:
        text = f"When it is completed, {render.jobs(len(free))} can start: {_few(free)}."
        found.append(("frees", text))
    if fallen := follow("dead"):
        text = f"If it dies or is cancelled, {render.jobs(len(fallen))} would fall with it"
        found.append(("takes_along", f"{text}: {_few(fallen)}."))
    return found


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:_MOST_NAMED]) + (" and others" if len(names) > _MOST_NAMED else "")


def reasons(job: Job, around: Surroundings, told: Told) -> list[tuple[str, str]]:
    """Each reason as a code for programs and a sentence; `told` formats a time."""
    if job.state == "in_progress":
        return _running(job, around, told)
    if recurs(job):
        return _of_schedule(job, around, told)
    found = []
    if around.path and job.state in ("failed", "dead"):
        text = f"Exit code 127: a command was not found. It has its PATH {around.path}."
        found.append(("not_found", text))
    if job.state in CLAIMABLE:
        return _waiting(job, around, told) + found
    return _ended(job, around, told, found)


def _ended(
    job: Job, around: Surroundings, told: Told, found: list[tuple[str, str]]
) -> list[tuple[str, str]]:
    ended = f", {told(job.finished_at)}" if job.finished_at else ""
    if has_fallen(job) and job.state in LOST:
        parent = render.brief(fell_with(job))
        back = f"A retry of {parent}, or of what that fell with, brings it back."
        if fell_with(job) not in job.after:  # it was edited since then
            back = f"'retry {job.id}' brings it back."
        elif around.gone:
            back = f"{parent} is not there any more: 'update {job.id}' with --after names others"
            back += f" ('' none), then 'retry {job.id}' brings it back."
        return [
            (job.state, f"It fell with {parent}, which it waited for{ended}."),
            ("fell", back),
        ]
    if job.state == "completed":
        return [("completed", f"It ended well in run {job.run}{ended}.")]
    if job.state == "cancelled":
        retry = f"'{around.front}retry {job.id}' queues it again"
        return [("cancelled", f"It was cancelled{ended}; {retry}.")]
    return [
        ("dead", f"{_cause(job)}{ended}."),
        *found,
        (
            "not_retried",
            f"'{around.front}logs {job.id}' shows what it printed; "
            f"'{around.front}dlq retry {job.id}' queues it again.",
        ),
    ]


def _cause(job: Job) -> str:
    if job.error in _BURIED:
        stopped = job.error == "interrupted" and job.rerun
        return f"It was buried: {_BURIED['stopped' if stopped else job.error]}"
    if job.attempts > job.max_retries:
        retried = f"{job.attempts} times, and no retry is left"
        how = retried if job.max_retries else "and it has no retries"
    elif job.retry_on or job.no_retry_on:
        how = "and its retry_on or no_retry_on leaves such an end without a retry"
    else:
        how = "and no retry was left to it"
    return f"It failed {how}; the last error: {render.brief(job.error or 'unknown')}"


def _running(job: Job, around: Surroundings, told: Told) -> list[tuple[str, str]]:
    since = f", started {told(job.started_at)}" if job.started_at else ""
    holder = [worker for worker in around.workers if worker.id == job.worker]
    if not any(worker.alive for worker in holder):
        name = render.brief(job.worker)
        if around.kept in _KEPT:
            code, text = _KEPT[around.kept]
            return [(code, text.format(name))]
        if around.kept == "left":
            text = f"Worker {name} died while it ran it; {render.unended(holder[0], job.id)}"
            return [("cannot_end", text)]
        text = (
            f"Worker {name} died while it ran it; the next command that writes takes the job back."
        )
        return [("worker_lost", text)]
    worker = f"worker PID {holder[0].pid}"
    if holder[0].host:
        beat = told(holder[0].beat or "")
        worker += f" on host {render.brief(holder[0].host)}, last sign of life {beat}"
    found = [("running", f"It runs{since}: run {job.run}, {worker}.")]
    if why := hindrance(holder[0]):
        found.append(("worker_hindered", f"Its worker {why}."))
    if job.cancel_requested:
        found.append(("cancelling", "Its worker was asked to end it."))
    if holder[0].left:
        found.append(("cannot_end", render.unended(holder[0], job.id)))
    return found


def _waiting(job: Job, around: Surroundings, told: Told) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    if job.state == "failed" and job.deferrals:
        times = "" if job.deferrals == 1 else f", {job.deferrals} times in a row"
        due = "is due" if is_ready(job, around.now) else f"is due {told(job.run_at)}"
        text = f"It asked to be run later (exit code {LATER}){times}; its next run {due}."
        found.append(("deferred", text))
    elif job.state == "failed":
        what = f"retry {job.attempts} of {job.max_retries}"
        why = f" after {render.brief(job.error)}" if job.error else ""
        due = "is due" if is_ready(job, around.now) else f"is due {told(job.run_at)}"
        found.append(("waiting_for_retry", f"Its {what}{why} {due}."))
    elif recurs(job):
        found.append(_scheduled(job, around.now, told))
    elif job.run_at > around.now:
        found.append(("not_due", f"It is not due yet: {told(job.run_at)}."))
    found += around.shut
    alive = [worker for worker in around.workers if worker.alive]
    able = [worker for worker in alive if not hindrance(worker)]
    if not able:
        code = "workers_hindered" if alive else "no_workers"
        found.append((code, unserved(alive, around.front)))
    if not is_ready(job, around.now) or around.shut:
        return found
    if around.ahead:
        text = f"{render.jobs(around.ahead)} will be taken before it, by priority and due time."
        found.append(("behind", text))
    elif able and all(worker.job_id for worker in able):
        text = f"It is next, when one of {render.counted(len(able), 'worker')} has ended its job."
        found.append(("workers_busy", text))
    else:
        found.append(("next", "It is next."))
    return found


def _of_schedule(job: Job, around: Surroundings, told: Told) -> list[tuple[str, str]]:
    """A schedule: its rhythm, its next copy, its latest copy, and what was skipped."""
    from queuectl.model.schedule import rhythm  # few jobs are one

    text = f"It is a schedule ({rhythm(job)}): a copy of it runs each time it is due."
    found = [("schedule", text)]
    found += (
        _waiting(job, around, told) if job.state in CLAIMABLE else _ended(job, around, told, [])
    )
    last = around.last
    if job.last is None:
        found.append(("no_copy", "No copy of it has run yet."))
    elif last is None:
        found.append(("latest_copy", f"Its latest copy {job.last} was removed since."))
    else:
        due = f", which was due {told(last.planned)}," if last.planned else ""
        found.append(("latest_copy", f"Its latest copy {last.id}{due} is {last.state}."))
        if last.state in LIVE and not job.overlap and job.state in CLAIMABLE:
            found.append(("overlap", "Until that copy ends, what is due is left out."))
    skips = [entry for entry in job.history if entry.get("event") == "skip"]
    if skips:
        planned = told(str(skips[-1].get("planned") or ""))
        why = _SKIPPED.get(str(skips[-1].get("reason")), "")
        found.append(("skipped", f"What was due {planned} was left out{why}."))
    return found


def _scheduled(job: Job, now: str, told: Told) -> tuple[str, str]:
    """When copies of the schedule run."""
    from queuectl.model.schedule import next_time  # few jobs are one

    moments = [job.run_at]
    try:
        while len(moments) < _MOMENTS:
            last = job._replace(run_at=moments[-1])
            moments.append(next_time(last, max(last.run_at, now)))
    except InvalidInput as exc:
        return "scheduled", f"It is due {told(job.run_at)}, and dead then: {exc}."
    first = "A copy of it is due" if job.run_at <= now else f"The next copy runs {told(job.run_at)}"
    return "scheduled", f"{first}, then {', '.join(map(told, moments[1:]))}."


def coming_retries(job: Job, policy: RetryPolicy) -> list[tuple[int, float]]:
    """Number and wait in seconds of each retry left after the coming run; at most ten.

    With jitter the seconds are the longest possible wait.
    """
    if recurs(job) or (job.state not in CLAIMABLE and job.state != "in_progress"):
        return []
    first = job.attempts + 1
    last = min(job.max_retries, job.attempts + _MOST_RETRIES)
    return [(number, retry_delay(policy, number)) for number in range(first, last + 1)]


def _told_retries(job: Job, retries: list[tuple[int, float]], policy: RetryPolicy) -> str:
    most = "at most " if policy.jitter else ""
    waits = ", ".join(f"{number} after {most}{format_duration(wait)}" for number, wait in retries)
    more = ", and so on" if retries[-1][0] < job.max_retries else ""
    times = render.counted(job.max_retries, "time")
    return f"If it fails, it is retried at most {times}: {waits}{more}."
