"""The dead letter queue: `dlq list`, `dlq retry`, `dlq purge`."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from queuectl.commands import listing, render
from queuectl.commands.context import Context
from queuectl.commands.dispatch import Note, Result
from queuectl.commands.handlers.jobs import NO_MATCH, along, jobs_result, listed, removed, these
from queuectl.commands.selecting import Which, chosen, confirmed, listed_jobs, selection_of, selects
from queuectl.errors import InvalidInput
from queuectl.model.causes import Cause, by_cause, named
from queuectl.model.dependencies import came_back
from queuectl.model.job import Job

_COLUMNS = (
    render.Column("ID", 15),
    render.Column("Command", 29, elastic=True),
    render.Column("Error", 5, elastic=True),
)
_CAUSES = (
    render.Column("Jobs", 4),
    render.Column("Latest", 8),
    render.Column("Like", 8),
    render.Column("Error", 5, elastic=True),
)


def dlq_list(context: Context, args: dict[str, Any]) -> Result:
    """List dead jobs, a row for each, or a row for each cause."""
    found = listed_jobs(context, args, ("dead",))
    if args["by"]:
        return _by_cause(context, args, found)
    dead = listing.ordered(found, args)
    nothing = "No job matches." if args["job"] or selects(args) else "No job is dead."

    def lines() -> Iterator[str]:
        rows = [(job.id, render.brief(job.command), render.brief(job.error or "-")) for job in dead]
        yield from render.table(_COLUMNS, rows, screen=context.screen, colour=context.color)
        if not rows and args["limit"] != 0:
            yield Note(nothing)

    result = listed(context, args, dead, lines())
    result.form = lambda: {"jobs": [*listing.job_forms(dead, args, time.time())]}
    return result


def _by_cause(context: Context, args: Mapping[str, Any], dead: Iterable[Job]) -> Result:
    """The number of dead jobs for each cause, the largest first."""
    if listing.form_of(args) not in (None, "json") or args["fields"] or args["sort"]:
        raise InvalidInput("--by counts jobs: only --json and --limit go with it")
    groups = by_cause(dead)[: args["limit"]]

    def lines() -> Iterator[str]:
        rows = [
            (
                str(group.jobs),
                render.moment(group.latest, context.clock),
                group.example,
                _told(group),
            )
            for group in groups
        ]
        yield from render.table(_CAUSES, rows, screen=context.screen, colour=context.color)
        if not rows:
            yield Note("No job is dead.")

    words = (f"{group.jobs}\t{_told(group)}" for group in groups)
    shown = Cause._fields[:5]  # as in docs/json.md
    forms = [dict(zip(shown, group, strict=False)) for group in groups]
    return Result(lines(), words=words, form=lambda: {"causes": forms})


def _told(group: Cause) -> str:
    told = named(group.exit_code, group.error)
    code = "" if group.exit_code is None else f"exit code {group.exit_code}"
    return render.brief(told if told.startswith(code) else f"{told} ({code})")


def dlq_retry(context: Context, args: dict[str, Any]) -> Result:
    """Make named, selected or all dead jobs pending again."""
    queue, which = context.queue, _which(context, args, "dlq retry")
    if args["dry_run"]:
        return these(context, queue.would_retry(which, dead=True, alone=args["alone"]))
    agreed: Which | None = which
    if args["all"]:
        if not context.agreed("Retry", queue.counts().get("dead", 0), args):
            agreed = None
    else:
        agreed = confirmed(context, "Retry", which, args)
    if agreed is None:
        return Result(code=1)
    moved = queue.retry_dead(agreed, alone=args["alone"])
    back = [job for job in moved if came_back(job)]
    told = [
        f"Job '{job.id}' has been moved back to the main queue for retry."
        for job in moved
        if not came_back(job)
    ]
    return jobs_result(
        moved,
        told + along(back, "pending") or [Note("No job is dead.") if args["all"] else NO_MATCH],
    )


def dlq_purge(context: Context, args: dict[str, Any]) -> Result:
    """Remove named, selected or all dead jobs with their output."""
    return removed(context, args, _which(context, args, "dlq purge"), dead=True)


def _which(context: Context, args: Mapping[str, Any], command: str) -> Which:
    if args["all"]:
        if args["job"] or selects(args):
            raise InvalidInput(f"{command} wants ids or options that select dead jobs, or --all")
        return selection_of(args, ("dead",))
    return chosen(context, args, command, ("dead",))
