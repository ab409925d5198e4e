"""Jobs in the queue: `list`, `show`, `cancel`, `retry`, `purge`."""

from __future__ import annotations

from queuectl.commands import render
from queuectl.errors import InvalidInput, QueuectlError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import Any

    from queuectl.commands.context import Context
    from queuectl.model.job import Job

_COLUMNS = (
    render.Column("ID", 15),
    render.Column("State", 10, state=True),
    render.Column("Command", 7, elastic=True),
)
_PURGED_UNASKED = ("completed", "cancelled")
_PURGEABLE = ("completed", "cancelled", "dead")
_TAIL, _END = 10, 16_384  # lines of output that `show` ends with, and bytes that they are read from


def list_jobs(context: Context, args: dict[str, Any]) -> int:
    """The jobs in some states, or all, a row each."""
    states = args.get("state") or None
    jobs = context.queue.find(states, args.get("limit"))
    if args.get("json"):
        context.write_json(render.json_array(map(render.job_form, jobs)))
    elif context.quiet:
        context.write_lines(job.id for job in jobs)
    else:
        rows = _rows(jobs)
        context.write_lines(_table(context, rows))
        if not rows and args.get("limit") != 0:
            what = f"No job is {' or '.join(states)}" if states else "The queue holds no job"
            context.note(f"{what} ({context.folder}).")
    return 0


def list_these(context: Context, jobs: Sequence[Job]) -> int:
    """The jobs that something would be done to."""
    lines = (job.id for job in jobs) if context.quiet else _table(context, _rows(jobs))
    context.write_lines(lines)
    return 0


def _rows(jobs: Iterable[Job]) -> list[tuple[str, str, str]]:
    return [(job.id, job.state, render.brief(job.command)) for job in jobs]


def _table(context: Context, rows: Sequence[Sequence[str]]) -> Iterator[str]:
    return render.table(_COLUMNS, rows, screen=context.screen, colour=context.color)


def show(context: Context, args: dict[str, Any]) -> int:
    """One job with all its fields and the last lines it printed."""
    from queuectl.worker.logs import last_lines

    job = context.queue.get(args["job"])
    if args.get("json"):
        context.write_json([render.json_document({"job": render.job_form(job)})])
        return 0
    if context.quiet:
        context.write(job.state)
        return 0
    context.write(render.fields(_facts(context, job)))
    for entry in job.history:
        context.write(_event(context, entry))
    lines = last_lines(context.logs.end(job, _END), _TAIL)
    if lines:
        context.write(f"Output (the last {_TAIL} lines; 'logs {job.id}' shows all):")
        context.write_lines(map(render.one_line, lines))
    return 0


def _facts(context: Context, job: Job) -> list[tuple[str, str]]:
    """What there is to say about the job; what is not set is left out."""
    now = context.clock
    facts: list[tuple[str, Any]] = [
        ("ID", job.id),
        ("State", _state(context, job)),
        ("Command", render.block(job.command.split("\n"))),
        ("Priority", job.priority),
        ("Attempts", f"{job.attempts} of at most {job.max_retries + 1}"),
        ("Runs", job.run),
        ("Workers Lost", job.losses or None),
        ("Created", render.moment(job.created_at, now)),
        ("Not Before", render.moment(job.run_at, now) if _is_delayed(job) else None),
        ("Started", render.moment(job.started_at, now) if job.started_at else None),
        ("Finished", render.moment(job.finished_at, now) if job.finished_at else None),
        ("Exit Code", job.exit_code),
        ("Error", job.error and render.brief(job.error)),
        ("Worker", job.worker and render.brief(job.worker)),
        ("Timeout", f"{job.timeout:g} s" if job.timeout else None),
        ("Folder", job.cwd and render.brief(job.cwd)),
        ("Environment", render.block([f"{k}={v}" for k, v in (job.env or {}).items()]) or None),
        ("Taken Along", _taken_along(context, job)),
        ("Rerun", None if job.rerun else "no, not if its worker is lost"),
        *(
            (render.brief(name, 40), render.brief(render.json_line(value)))
            for name, value in (job.extra or {}).items()
        ),
    ]
    return [(name, str(value)) for name, value in facts if value is not None]


def _taken_along(context: Context, job: Job) -> str | None:
    """The names of the variables that the job has from its enqueuer, and the umask."""
    try:
        form = context.queue.env_set(job)
    except QueuectlError as exc:
        return str(exc)
    if form is None:
        return None
    names = [name for name, text in form["env"].items() if text is not None]
    return ", ".join([f"umask {form.get('umask', '022')}", *names])


def _is_delayed(job: Job) -> bool:
    return job.state == "failed" or (job.state == "pending" and job.run_at > job.updated_at)


def _state(context: Context, job: Job) -> str:
    state = render.paint(job.state, render.STATE_COLOURS.get(job.state), on=context.color)
    return f"{state} (asked to cancel)" if job.cancel_requested else state


def _event(context: Context, entry: Mapping[str, Any]) -> str:
    """One earlier event of the job's life, on a line."""
    facts = {name: value for name, value in entry.items() if name not in ("event", "at", "run")}
    if "error" in facts:
        facts.pop("exit_code", None)  # the error tells it too
    told = [
        str(value) if name == "error" else f"{name.replace('_', ' ')} {value}"
        for name, value in facts.items()
    ]
    why = f" ({', '.join(told)})" if told else ""
    at = render.moment(str(entry.get("at") or ""), context.clock)
    return render.brief(f"  run {entry.get('run', '?')}: {entry.get('event', '?')}, {at}{why}")


def cancel(context: Context, args: dict[str, Any]) -> int:
    """Jobs cancelled, all of those named or none."""
    queue = context.queue
    if args.get("dry_run"):
        return list_these(context, queue.would_cancel(args["job"]))
    if not context.agreed("Cancel", len(set(args["job"])), args):
        return 1
    for job in (queue.abandon if args.get("abandon") else queue.cancel)(args["job"]):
        if context.quiet:
            context.write(job.id)
        elif job.state == "cancelled":
            context.write(f"Job '{job.id}' is cancelled.")
        else:
            context.write(f"Job '{job.id}' is running; its worker is asked to end it.")
    return 0


def retry(context: Context, args: dict[str, Any]) -> int:
    """Jobs pending again, all of those named or none."""
    if args.get("dry_run"):
        return list_these(context, context.queue.would_retry(args["job"]))
    if not context.agreed("Retry", len(set(args["job"])), args):
        return 1
    for job in context.queue.retry(args["job"]):
        context.write(job.id if context.quiet else f"Job '{job.id}' is pending and due now.")
    return 0


def purge(context: Context, args: dict[str, Any]) -> int:
    """Finished jobs removed with their logs, after a question."""
    states = args.get("state") or _PURGED_UNASKED
    for state in states:
        if state not in _PURGEABLE:
            raise InvalidInput(f"only finished jobs can be purged ({', '.join(_PURGEABLE)})")
    older = args.get("older_than")
    if args.get("dry_run"):
        return list_these(context, context.queue.purge(states, older, dry_run=True))
    if not args.get("yes") and not _agreed(context, states, older):
        context.note("Nothing was removed.")
        return 1
    removed = context.queue.purge(states, older)
    context.logs.prune(removed)
    if context.quiet:
        context.write_lines(job.id for job in removed)
    else:
        context.write(f"Removed {_count(len(removed))}.")
    return 0


def _agreed(context: Context, states: Sequence[str], older: float | None) -> bool:
    context.require_person("purge asks before it removes")
    doomed = context.queue.purge(states, older, dry_run=True)
    return not doomed or context.confirm(
        f"Remove {_count(len(doomed))} ({', '.join(states)}) and their output for good "
        "('backup FILE' keeps a copy)?"
    )


def _count(jobs: int) -> str:
    return "1 job" if jobs == 1 else f"{jobs} jobs"
