"""Checking and mending the data folder: `doctor`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from queuectl.commands import forms, render
from queuectl.commands.context import Context
from queuectl.commands.dispatch import Result
from queuectl.job_queue import JobQueue
from queuectl.model.fields import NOT_YET
from queuectl.model.hooks import is_hook
from queuectl.model.times import compact
from queuectl.store.facts import Finding
from queuectl.worker.rescue import rescue


def doctor(context: Context, args: dict[str, Any]) -> Result:
    """Report faults, one line for each; with --repair first what was mended."""
    queue, mended, unread = context.queue, list[str](), list[str]()
    try:
        if args["repair"]:
            queue.care.repair(mended, unread)
            if queue.exists():
                _rescue(queue, mended)
                mended += queue.care.tidy_output(compact(time.time()))
    finally:
        if not args["json"]:  # even if the disk refused to go on
            for line in mended:
                context.write(f"Mended: {render.brief(line)}")
            for line in unread:
                context.write(f"Not readable: {render.brief(line)}")
    found = queue.care.examine()
    if not any(finding.problem for finding in found):
        found += _of_later_versions(queue) + _of_dead_hooks(queue)
    broken = any(finding.problem for finding in found)
    lines = [_line(context, finding) for finding in found]

    def summed_up() -> Iterator[str]:
        yield from lines
        yield _summary(context, found)

    return Result(
        summed_up(),
        words=lines,
        form=lambda: forms.doctor_form(found, mended, unread, context.name),
        code=1 if broken or unread else 0,
    )


def _of_later_versions(queue: JobQueue) -> list[Finding]:
    """Fields of jobs that only a later version knows; `examine` reports such settings."""
    holders: dict[str, list[str]] = {}
    for job in queue.find():
        for name in NOT_YET.intersection(job.extra or ()):
            holders.setdefault(name, []).append(job.id)
    todo = "it has no effect, and is kept"
    found = []
    for name, ids in sorted(holders.items()):
        named = ", ".join(ids[:3]) + ", ..." * (len(ids) > 3)
        text = f"is not supported by this version; {render.jobs(len(ids))} with it: {named}"
        found.append(Finding(f"field '{name}'", text, todo, problem=False))
    return found


def _of_dead_hooks(queue: JobQueue) -> list[Finding]:
    of = [(job.env or {}).get("QUEUECTL_OF", "") for job in queue.find(("dead",)) if is_hook(job)]
    if not of:
        return []
    return [Finding("hooks", *render.untold(of), problem=False)]


def _line(context: Context, finding: Finding) -> str:
    name, colour = ("Problem", "red") if finding.problem else ("Note", "yellow")
    label = render.paint(name, colour, on=context.color)
    about, text, todo = map(render.brief, (finding.about, finding.text, finding.todo))
    return f"{label}: {about}: {text}; {todo}"


def _summary(context: Context, found: list[Finding]) -> str:
    problems = sum(finding.problem for finding in found)
    name, queue = render.one_line(context.name), context.queue
    if problems:
        return f"{render.counted(problems, 'problem')} in {name}"
    if context.nothing_yet:
        return context.nothing_yet
    jobs = render.jobs(sum(queue.counts().values()))
    workers = render.counted(sum(worker.alive for worker in queue.workers()), "worker")
    return f"All is well: {jobs}, {workers}, {name}"


def _rescue(queue: JobQueue, done: list[str]) -> None:
    """Rescue jobs from dead workers with a file, then from those without."""
    for _ in range(2):
        lost = {worker.id for worker in queue.lost_workers()}
        for job in rescue(queue):
            done.append(f"job '{job.id}': taken back from its dead worker; it is {job.state} now")
        left = {worker.id for worker in queue.lost_workers()} if lost else set()
        done += [f"workers/{name}: the files of a dead worker removed" for name in lost - left]
