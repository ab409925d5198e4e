"""Changing existing jobs: `update`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from queuectl.commands.context import Context
from queuectl.commands.dispatch import Result
from queuectl.commands.grammar.local_times import tell_time
from queuectl.commands.handlers.enqueue import joined, make_absolute, name_tagged, option_fields
from queuectl.commands.handlers.jobs import NO_MATCH, these
from queuectl.commands.selecting import chosen, confirmed, selects
from queuectl.commands.zones import add_zone
from queuectl.errors import InvalidInput
from queuectl.model.job import Job
from queuectl.model.selection import Selection


def update(context: Context, args: dict[str, Any]) -> Result:
    """Change the named or selected jobs, all or none; shows each with its state."""
    named = [("id", job_id) for job_id in args["job"][:1]]
    given = option_fields(args, unset=True)
    name_tagged(context, given)
    given.pop("tags", None)
    env = given.pop("env") if given.get("env") else None
    assert env is None or isinstance(env, dict)
    tag, untag = args.get("tag") or (), args.get("untag") or ()
    changes = joined(args.get("object"), [*named, *given.items()])
    if "tags" in changes and (tag or untag):
        raise InvalidInput("give all tags as the field 'tags', or --tag and --untag, not both")
    if "env" in changes and env:
        raise InvalidInput("give all variables as the field 'env', or some by --env, not both")
    job_id = changes.pop("id", None)
    ids = args["job"] or ([job_id] if isinstance(job_id, str) else [])
    if not ids and not selects(args):
        raise InvalidInput(
            "update wants the id of the job, as in update job1 --priority 3; "
            "--with-tag, --in-state and --match select several (--tag and --state are set)"
        )
    make_absolute(changes)
    queue, which = context.queue, chosen(context, {**args, "job": ids}, "update")

    def meant() -> Iterable[Job]:
        return queue.select(which) if isinstance(which, Selection) else map(queue.get, which)

    add_zone(changes, meant)
    if args["dry_run"]:
        return these(context, queue.would_update(which, changes, tag, untag, env))
    also = {"pending": " and retry", "cancelled": " and cancel"}.get(str(changes.get("state")), "")
    agreed = confirmed(context, f"Change{also}", which, args)
    if agreed is None:
        return Result(code=1)
    jobs = queue.update_all(agreed, changes, tag, untag, env=env)

    def told(lines: Iterable[str]) -> Iterator[str]:
        yield from lines
        if jobs and "run_at" in changes:
            tell_time(context, changes["run_at"])

    shown = [f"Job '{job.id}' is updated; it is {job.state}." for job in jobs] or [NO_MATCH]
    return Result(told(shown), words=told(job.id for job in jobs))
