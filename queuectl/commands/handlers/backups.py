"""The queue as one file, and back: `backup`, `restore`."""

from __future__ import annotations

from queuectl.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from queuectl.commands.context import Context


def backup(context: Context, args: dict[str, Any]) -> int:
    """A copy of jobs and settings at one moment."""
    path = args["file"]
    if path == "-":
        for line in context.queue.backup():
            context.write_bytes(line)
        return 0
    count = context.queue.write_backup(path, overwrite=bool(args.get("force")))
    context.write(path if context.quiet else f"Backed up {_jobs(count)} to {path}")
    return 0


def restore(context: Context, args: dict[str, Any]) -> int:
    """A backup put into the queue, all of it or nothing."""
    queue, path = context.queue, args["file"]
    name = "standard input" if path == "-" else path
    try:
        with context.stdin() if path == "-" else open(path, "rb") as file:
            found = queue.read_backup(file, name)
    except OSError as exc:
        raise InvalidInput(f"reading {name}: {exc.strerror}") from None
    replace = bool(args.get("replace"))
    if replace and not args.get("yes") and not _agreed(context, len(found.jobs)):
        context.note("Nothing was changed.")
        return 1
    kept = queue.restore(found, replace=replace)
    if kept and context.quiet:
        context.write(kept)
    elif kept:
        context.note(f"What was there before is kept in {kept}")
    if not context.quiet:
        context.write(f"Restored {_jobs(len(found.jobs))} as they were at {found.made_at}")
    return 0


def _agreed(context: Context, count: int) -> bool:
    held = sum(context.queue.counts().values())
    if not held:
        return True
    context.require_person("restore asks before it replaces jobs")
    return context.confirm(f"Put {_jobs(count)} in the place of the {held} that are there?")


def _jobs(count: int) -> str:
    return "1 job" if count == 1 else f"{count} jobs"
