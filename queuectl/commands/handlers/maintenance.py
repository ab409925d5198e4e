"""Looking after the data folder: `init`, `checkpoint`."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from queuectl.commands.context import Context


def init(context: Context, args: dict[str, Any]) -> int:
    """A data folder made; one that is there already is left as it is."""
    import os

    from queuectl.job_queue import JobQueue
    from queuectl.store.files.marker import check_folder, refuse_address

    refuse_address(args.get("folder") or "")
    folder = os.path.abspath(args.get("folder") or context.folder)
    if check_folder(folder):
        context.write(folder if context.quiet else f"Data folder is there already: {folder}")
        return 0
    queue = JobQueue.open(folder)
    queue.checkpoint()
    queue.close()
    context.write(folder if context.quiet else f"Data folder made: {folder}")
    return 0


def checkpoint(context: Context, args: dict[str, Any]) -> int:
    """The journal folded into the JSON files."""
    context.queue.checkpoint()
    if not context.quiet:
        context.write("Checkpoint done: the JSON files hold the whole queue.")
    return 0
