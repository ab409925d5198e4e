"""The dead letter queue: `dlq list`, `dlq retry`."""

from __future__ import annotations

import time

from queuectl.commands import listing, render
from queuectl.commands.dispatch import Note, Result
from queuectl.commands.handlers.jobs import jobs_result, listed, these
from queuectl.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from queuectl.commands.context import Context

_COLUMNS = (
    render.Column("ID", 15),
    render.Column("Command", 29, elastic=True),
    render.Column("Error", 5, elastic=True),
)


def dlq_list(context: Context, args: dict[str, Any]) -> Result:
    """The dead jobs, a row each."""
    dead = listing.ordered(context.queue.find({"dead"}), args)

    def lines() -> Iterator[str]:
        rows = [(job.id, render.brief(job.command), render.brief(job.error or "-")) for job in dead]
        yield from render.table(_COLUMNS, rows, screen=context.screen, colour=context.color)
        if not rows and args["limit"] != 0:
            yield Note("No job is dead.")

    result = listed(context, args, dead, lines())
    result.form = lambda: {"jobs": [*listing.job_forms(dead, args, time.time())]}
    return result


def dlq_retry(context: Context, args: dict[str, Any]) -> Result:
    """Named dead jobs, or all, pending again."""
    queue, ids = context.queue, args["job"] or None
    if bool(ids) == args["all"]:
        raise InvalidInput("dlq retry wants ids of dead jobs, or --all for every one")
    if args["dry_run"]:
        known = ids or [job.id for job in queue.find({"dead"})]
        return these(context, queue.would_retry(known, dead=True))
    count = len(set(ids)) if ids else queue.counts().get("dead", 0)
    if not context.agreed("Retry", count, args):
        return Result(code=1)
    moved = queue.retry_dead(ids)
    told = [f"Job '{job.id}' has been moved back to the main queue for retry." for job in moved]
    return jobs_result(moved, told or [Note("No job is dead.")])
