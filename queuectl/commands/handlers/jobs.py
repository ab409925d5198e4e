"""Jobs in the queue: `list`, `show`, `cancel`, `retry`, `purge`."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from queuectl.commands import forms, listing, render
from queuectl.commands.context import Context
from queuectl.commands.dispatch import Note, Result
from queuectl.commands.selecting import (
    ABLE,
    USUAL,
    Which,
    chosen,
    confirmed,
    listed_jobs,
    named,
    named_job,
    selection_of,
    selects,
)
from queuectl.errors import DiskRefused, InvalidInput, QueuectlError, StoreError
from queuectl.model.dependencies import came_back, has_fallen
from queuectl.model.derived import age, next_run
from queuectl.model.env_set import present
from queuectl.model.fields import POLICY
from queuectl.model.job import FINISHED, Job, given, recurs
from queuectl.model.schedule import rhythm
from queuectl.model.secret_names import hidden
from queuectl.model.selection import Selection
from queuectl.model.times import format_duration, format_time

_COLUMNS = (
    render.Column("ID", 15),
    render.Column("State", 10, state=True),
    render.Column("Command", 7, elastic=True),
)
_NEXT = (render.Column("Next", 5),)
_WAITING = (render.Column("Waits", 5),)
_BETWEEN = (render.Column("Age", 5), render.Column("Tries", 5))
_ROOM = 56  # columns besides the ids: for state, age and tries, and 30 of the command
_WAITS = 32  # columns; the most for what a job waits for
NO_MATCH = Note("No job matches.")
_PURGEABLE = ("completed", "cancelled", "dead")
_MOST_NAMED = 10  # children
_TAIL, _END = 10, 16_384  # lines of output at the end of `show`; bytes read for them


def list_jobs(context: Context, args: dict[str, Any]) -> Result:
    """List the selected jobs, or all, a row for each."""
    states = args["state"] or None
    queue, now, aging = context.queue, "", 0.0
    if args["sort"] == "priority":
        now, aging = queue.now(), queue.settings().aging or 0.0
    jobs = listing.ordered(listed_jobs(context, args), args, now, aging)
    if args["job"] or selects({**args, "state": []}):
        what = "No job matches"
    else:
        what = f"No job is {' or '.join(states)}" if states else "The queue holds no job"
        if states == ["failed"]:
            what += ", that is, none waits for a retry; 'dlq list' shows the dead"

    def lines() -> Iterator[str]:
        found = list(jobs)
        yield from _table(context, found, wide=context.screen is not None)
        if not found and args["limit"] != 0:
            yield Note(context.nothing_yet or f"{what} ({context.name}).")

    return listed(context, args, jobs, lines())


def listed(
    context: Context, args: Mapping[str, Any], jobs: Iterable[Job], lines: Iterable[str]
) -> Result:
    """Jobs in the form asked for, else as `lines`."""
    form, now = listing.form_of(args), time.time()
    if form is not None and form != "json":
        return Result(listing.data_lines(context, jobs, args, form, now))
    words: Iterable[str] = (job.id for job in jobs)
    if args["fields"]:
        lines = listing.table(context, jobs, args["fields"], now)
        words = listing.data_lines(context, jobs, args, "tsv", now)
    return Result(lines, words=words, form=lambda: listing.job_forms(jobs, args, now))


def these(context: Context, jobs: Iterable[Job]) -> Result:
    """The result for the jobs that a command would change."""
    return jobs_result(jobs, _table(context, jobs))


def jobs_result(jobs: Iterable[Job], lines: Iterable[str], code: int = 0) -> Result:
    """A result about jobs, with their ids as words and their forms as data."""
    words = (job.id for job in jobs)
    return Result(
        lines, words=words, form=lambda: {"jobs": [*map(forms.job_form, jobs)]}, code=code
    )


def _table(context: Context, jobs: Iterable[Job], *, wide: bool = False) -> Iterator[str]:
    """The jobs as rows. `wide`: with age and tries, if there is room.

    With more room also what a job waits for; with a schedule among them, when it runs next.
    """
    listed, screen, now = list(jobs), context.screen, time.time()
    room = 0
    if wide and screen is not None:
        room = screen - max((len(job.id) for job in listed), default=0)
        wide = room >= _ROOM
    waits = _waits(context, listed, now) if room >= _ROOM + _WAITS else {}
    timed = any(map(recurs, listed))
    added = (*(_NEXT if timed else ()), *(_BETWEEN if wide else ()), *(_WAITING if waits else ()))
    rows: list[tuple[str, ...]] = []
    for job in listed:
        due = (_next_run(job, context.clock),) if timed else ()
        years = (format_duration(int(age(job, now) or 0)), str(job.attempts)) if wide else ()
        why = (render.clip(waits.get(job.id, "-"), _WAITS - 1),) if waits else ()
        rows.append((job.id, job.state, *due, *years, *why, render.brief(job.command)))
    columns = (*_COLUMNS[:2], *added, _COLUMNS[2])
    yield from render.table(columns, rows, screen=screen, colour=context.color)


def _waits(context: Context, jobs: Iterable[Job], now: float) -> dict[str, str]:
    from queuectl.model.gate import OPEN  # few lists are on a wide terminal
    from queuectl.model.waiting import waits

    queue = context.queue
    gate = queue.settings().gate() or OPEN
    return waits(jobs, gate, lambda: queue.find(("in_progress",)), queue.states, format_time(now))


def show(context: Context, args: dict[str, Any]) -> Result:
    """Show one job with all its fields and the last lines of its output."""
    from queuectl.model.log_words import last_lines

    job, reveal = named_job(context, args["job"]), bool(args.get("reveal"))

    def lines() -> Iterator[str]:
        yield render.fields(_facts(context, job, reveal))
        for entry in job.history:
            yield _event(context, entry)
        printed = last_lines(context.logs.end(job, _END), _TAIL)
        if printed:
            yield f"Output (the last {_TAIL} lines; '{context.front}logs {job.id}' shows all):"
            yield from map(render.one_line, printed)

    def form() -> dict[str, Any]:
        children = context.queue.children(job.id)
        return {
            "job": forms.job_form(job, reveal),
            "children": [{"id": child.id, "state": child.state} for child in children],
        }

    return Result(lines(), words=[job.state], form=form)


def _facts(context: Context, job: Job, reveal: bool) -> list[tuple[str, str]]:
    """The facts about the job, without unset fields."""
    now, env = context.clock, dict(job.env or {})
    env = env if reveal else hidden(env)
    facts: list[tuple[str, Any]] = [
        ("ID", job.id),
        ("State", _state(context, job)),
        ("Command", render.block(job.command.split("\n"))),
        ("Priority", job.priority),
        ("Tags", ", ".join(job.tags) or None),
        ("After", _parents(context, job.after)),
        ("After End Of", _parents(context, job.after_end)),
        ("Children", _children(context.queue.children(job.id))),
        ("Locks", ", ".join(job.lock) or None),
        ("Holds", ", ".join(job.slots) or None),
        ("Unique Key", job.unique),
        ("Attempts", f"{job.attempts} of at most {job.max_retries + 1}"),
        ("Runs", job.run),
        ("Workers Lost", job.losses or None),
        ("Created", render.moment(job.created_at, now)),
        ("Schedule", rhythm(job) if recurs(job) else None),
        ("Next Run", render.moment(next_run(job, 0.0), now) if next_run(job, 0.0) else None),
        ("Latest Copy", job.last),
        ("Planned", render.moment(job.planned, now) if job.planned else None),
        ("Not Before", render.moment(job.run_at, now) if _is_delayed(job) else None),
        ("Started", render.moment(job.started_at, now) if job.started_at else None),
        ("Finished", render.moment(job.finished_at, now) if job.finished_at else None),
        ("Exit Code", job.exit_code),
        ("Error", job.error and render.brief(job.error)),
        ("Worker", job.worker and render.brief(job.worker)),
        ("Timeout", f"{job.timeout:g} s" if job.timeout else None),
        ("Folder", job.cwd and render.brief(job.cwd)),
        ("Environment", render.block([f"{k}={v}" for k, v in env.items()]) or None),
        ("Env File", job.env_file and render.brief(job.env_file)),
        ("Taken Along", _taken_along(context, job)),
        ("Retries", _own_policy(job)),
        ("Log Limit", None if job.log_limit is None else f"{job.log_limit} bytes"),
        ("Notify", None if job.notify else "no, no hook tells of its end"),
        ("Rerun", None if job.rerun else "no, not if its worker is lost"),
        *(
            (render.brief(name, 40), render.brief(forms.json_line(value)))
            for name, value in (job.extra or {}).items()
        ),
    ]
    return [(name, str(value)) for name, value in facts if value is not None]


def _parents(context: Context, names: Sequence[str]) -> str | None:
    """The parents of a job, each with its state."""
    found = context.queue.states(names)
    return ", ".join(f"{name} ({found.get(name, 'gone')})" for name in names) or None


def _children(children: Sequence[Job]) -> str | None:
    """The children of a job, each with its state."""
    named = [f"{child.id} ({child.state})" for child in children[:_MOST_NAMED]]
    more = len(children) - len(named)
    return ", ".join(named) + (f", and {more} more" if more else "") or None


def _own_policy(job: Job) -> str | None:
    """The job's own retry fields, and how often it was put off."""
    told = []
    for name, value in given(job._replace(log_limit=None), POLICY).items():
        words = ", ".join(map(str, value)) if isinstance(value, list) else f"{value:g}"
        told.append(f"{name.replace('_', ' ')} {words}")
    return "; ".join(told) or None


def _taken_along(context: Context, job: Job) -> str | None:
    """The names of the captured variables of the job, and its umask."""
    try:
        form = context.queue.env_set(job)
    except QueuectlError as exc:
        return str(exc)
    if form is None:
        return None
    return ", ".join([f"umask {form.get('umask', '022')}", *present(form)])


def _next_run(job: Job, clock: float | None) -> str:
    due = next_run(job, 0.0)
    if due is not None and clock is not None:
        due = max(due, format_time(clock))
    return render.moment(due, clock)


def _is_delayed(job: Job) -> bool:
    if recurs(job):
        return False
    return job.state == "failed" or (job.state == "pending" and job.run_at > job.updated_at)


def _state(context: Context, job: Job) -> str:
    state = render.paint(job.state, render.STATE_COLOURS.get(job.state), on=context.color)
    return f"{state} (asked to cancel)" if job.cancel_requested else state


def _event(context: Context, entry: Mapping[str, Any]) -> str:
    """One earlier event of the job, on a line."""
    facts = {name: value for name, value in entry.items() if name not in ("event", "at", "run")}
    if "error" in facts:
        facts.pop("exit_code", None)  # the error says it too
    told = [
        str(value) if name == "error" else f"{name.replace('_', ' ')} {value}"
        for name, value in facts.items()
    ]
    why = f" ({', '.join(told)})" if told else ""
    at = render.moment(str(entry.get("at") or ""), context.clock)
    return render.brief(f"  run {entry.get('run', '?')}: {entry.get('event', '?')}, {at}{why}")


def cancel(context: Context, args: dict[str, Any]) -> Result:
    """Cancel the named or selected jobs, all or none."""
    queue = context.queue
    which = chosen(context, args, "cancel", ABLE["cancel"])
    if args["dry_run"]:
        return these(context, queue.would_cancel(which, abandon=args["abandon"]))
    if (agreed := confirmed(context, "Cancel", which, args)) is None:
        return Result(code=1)
    jobs = queue.abandon(agreed) if args["abandon"] else queue.cancel(agreed)
    fallen = [job for job in jobs if has_fallen(job)]
    told = [
        f"Job '{job.id}' is cancelled."
        if job.state == "cancelled"
        else f"Job '{job.id}' is running; its worker is asked to end it."
        for job in jobs
        if not has_fallen(job)
    ]
    return jobs_result(jobs, told + along(fallen, "cancelled") or [NO_MATCH])


def along(jobs: Sequence[Job], state: str) -> list[str]:
    """The lines about jobs that fell or came back with their parents."""
    if not jobs:
        return []
    many = len(jobs)
    them = "1 job that comes after is" if many == 1 else f"{many} jobs that come after are"
    return [f"{them} {state}, too: {named([job.id for job in jobs])}."]


def retry(context: Context, args: dict[str, Any]) -> Result:
    """Retry the named or selected jobs, all or none."""
    queue = context.queue
    which = chosen(context, args, "retry", ABLE["retry"], USUAL["retry"])
    if args["dry_run"]:
        return these(context, queue.would_retry(which, alone=args["alone"]))
    if (agreed := confirmed(context, "Retry", which, args)) is None:
        return Result(code=1)
    jobs = queue.retry(agreed, alone=args["alone"])
    told = [_due(context, job) for job in jobs if not came_back(job)]
    return jobs_result(jobs, told + along([*filter(came_back, jobs)], "pending") or [NO_MATCH])


def _due(context: Context, job: Job) -> str:
    if job.run_at <= job.updated_at:
        return f"Job '{job.id}' is pending and due now."
    due = render.moment(job.run_at, context.clock)
    now = f"'{context.front}retry {job.id}' has it run now"
    return f"Job '{job.id}' is pending; it is due {due}. {now}."


def purge(context: Context, args: dict[str, Any]) -> Result:
    """Remove ended jobs with their output, after a question."""
    states = args["state"] or USUAL["purge"]
    for state in states:
        if state not in FINISHED:
            raise InvalidInput(f"only finished jobs can be purged ({', '.join(_PURGEABLE)})")
    which: Which = selection_of(args, USUAL["purge"])
    if args["job"]:
        which = chosen(context, args, "purge", FINISHED, FINISHED)
    return removed(context, args, which, states)


def removed(
    context: Context,
    args: Mapping[str, Any],
    which: Which,
    states: Collection[str] = (),
    *,
    dead: bool = False,
) -> Result:
    """Remove ended jobs with their output, or only that: exactly those that it asked about."""
    queue, older, only = context.queue, args["older_than"], args["logs"]
    kept: list[Job] | None = None if only else []
    if args["dry_run"]:
        return these(context, queue.purge(which, older, dead=dead, dry_run=True, kept=kept))
    if not args["yes"]:
        doomed = queue.purge(which, older, dead=dead, dry_run=True, kept=kept)
        context.require_person("purge asks before it removes")
        of = f" ({', '.join(states)})" if states else f" ({named([job.id for job in doomed])})"
        if doomed and not context.confirm(
            f"Remove {_output(doomed)}{of} for good "
            if only
            else f"Remove {render.jobs(len(doomed))}{of} and their output for good "
            "('backup FILE' keeps a copy)?"
        ):
            return Result([Note("Nothing was removed.")], code=1)
        ids = [job.id for job in doomed]
        if isinstance(which, Selection):
            which = which._replace(ids=frozenset(ids), limit=None)
        else:
            which = ids
    try:
        gone = queue.purge(which, older, dead=dead, dry_run=only, kept=kept)
    except DiskRefused:  # on a full disk, removing their output may make room for that
        context.logs.prune(queue.purge(which, older, dead=dead, dry_run=True))
        gone = queue.purge(which, older, dead=dead, kept=kept)
    told = f"Removed {_output(gone) if only else render.jobs(len(gone))}."
    if kept:
        names = named(list(dict.fromkeys(job.id for job in kept)))
        context.note(f"Not removed, as jobs that have not ended wait for them: {names}.")
    try:
        context.logs.prune(gone)
    except StoreError as exc:
        if only:
            raise
        # The jobs are gone, so a log that stays is never shown for another job.
        why = str(exc).removesuffix("; nothing was changed")
        context.note(f"{told[:-1]}, but not all of their output: {why}.")
        return jobs_result(gone, [], code=exc.exit_code)
    return jobs_result(gone, [told])


def _output(jobs: Sequence[Job]) -> str:
    return f"the output of {render.jobs(len(jobs))}"
