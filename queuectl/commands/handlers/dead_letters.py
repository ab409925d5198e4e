"""The dead letter queue: `dlq list`, `dlq retry`."""

from __future__ import annotations

from queuectl.commands import render
from queuectl.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from queuectl.commands.context import Context

_COLUMNS = (
    render.Column("ID", 15),
    render.Column("Command", 29, elastic=True),
    render.Column("Error", 5, elastic=True),
)


def dlq_list(context: Context, args: dict[str, Any]) -> int:
    """The dead jobs, a row each."""
    dead = context.queue.find({"dead"}, args.get("limit"))
    if args.get("json"):
        jobs = [render.job_form(job) for job in dead]
        context.write_json([render.json_document({"jobs": jobs})])
    elif context.quiet:
        context.write_lines(job.id for job in dead)
    else:
        rows = [(job.id, render.brief(job.command), render.brief(job.error or "-")) for job in dead]
        context.write_lines(
            render.table(_COLUMNS, rows, screen=context.screen, colour=context.color)
        )
        if not rows and args.get("limit") != 0:
            context.note("No job is dead.")
    return 0


def dlq_retry(context: Context, args: dict[str, Any]) -> int:
    """Named dead jobs, or all, pending again."""
    ids = args.get("job") or None
    if bool(ids) == bool(args.get("all")):
        raise InvalidInput("dlq retry wants ids of dead jobs, or --all for every one")
    if args.get("dry_run"):
        from queuectl.commands.handlers.jobs import list_these

        known = ids or [job.id for job in context.queue.find({"dead"})]
        return list_these(context, context.queue.would_retry(known, dead=True))
    count = len(set(ids)) if ids else context.queue.counts().get("dead", 0)
    if not context.agreed("Retry", count, args):
        return 1
    moved = context.queue.retry_dead(ids)
    for job in moved:
        context.write(
            job.id
            if context.quiet
            else f"Job '{job.id}' has been moved back to the main queue for retry."
        )
    if not moved and not context.quiet:
        context.note("No job is dead.")
    return 0
