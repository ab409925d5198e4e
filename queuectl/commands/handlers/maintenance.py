"""Care of the data folder: `init`, `checkpoint`."""

from __future__ import annotations

import os
from typing import Any

from queuectl.commands.context import Context
from queuectl.commands.dispatch import Result
from queuectl.commands.render import one_line
from queuectl.job_queue import JobQueue
from queuectl.places import is_address, refuse_address
from queuectl.store import opening


def init(context: Context, args: dict[str, Any]) -> Result:
    """Make a data folder; an existing one stays as it is."""
    named = args["folder"] or ""
    if is_address(named):
        folder = opening.find(named, context.environ)
    else:
        refuse_address(named)
        folder = os.path.abspath(named or context.folder)
    queue = JobQueue.open(folder)
    if opening.is_database(folder):
        queue.make()
        queue.close()
        where = opening.name_of(folder)
        return Result([f"Queue made, or there already: {one_line(where)}"], words=[where])
    if queue.exists():
        return Result([f"Data folder is there already: {one_line(folder)}"], words=[folder])
    queue.checkpoint()
    queue.close()
    return Result([f"Data folder made: {one_line(folder)}"], words=[folder])


def checkpoint(context: Context, args: dict[str, Any]) -> Result:
    """Fold the journal into the JSON files."""
    context.queue.checkpoint()
    if opening.is_database(context.folder):
        return Result([f"Nothing to do: {context.name} has no JSON files."], words=())
    return Result(["Checkpoint done: the JSON files hold the whole queue."], words=())
