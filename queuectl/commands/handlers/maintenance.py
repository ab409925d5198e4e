"""Looking after the data folder: `init`, `checkpoint`."""

from __future__ import annotations

import os

from queuectl.commands.dispatch import Result
from queuectl.job_queue import JobQueue
from queuectl.places import refuse_address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from queuectl.commands.context import Context


def init(context: Context, args: dict[str, Any]) -> Result:
    """A data folder made; one that is there already is left as it is."""
    refuse_address(args["folder"] or "")
    folder = os.path.abspath(args["folder"] or context.folder)
    queue = JobQueue.open(folder)
    if queue.exists():
        return Result([f"Data folder is there already: {folder}"], words=[folder])
    queue.checkpoint()
    queue.close()
    return Result([f"Data folder made: {folder}"], words=[folder])


def checkpoint(context: Context, args: dict[str, Any]) -> Result:
    """The journal folded into the JSON files."""
    context.queue.checkpoint()
    return Result(["Checkpoint done: the JSON files hold the whole queue."], words=())
