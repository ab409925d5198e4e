"""The queue as one file, and back: `backup`, `restore`."""

from __future__ import annotations

from typing import Any

from queuectl.commands import render
from queuectl.commands.context import Context
from queuectl.commands.dispatch import Note, Result
from queuectl.errors import InvalidInput


def backup(context: Context, args: dict[str, Any]) -> Result:
    """A copy of jobs and settings at one moment."""
    path = args["file"]
    if path == "-":
        for line in context.queue.archive.backup():
            context.write_bytes(line)
        return Result()
    count = context.queue.write_backup(path, overwrite=args["force"])
    return Result([f"Backed up {render.jobs(count)} to {render.one_line(path)}"], words=[path])


def restore(context: Context, args: dict[str, Any]) -> Result:
    """A backup put into the queue, all of it or nothing."""
    queue, path, replace = context.queue, args["file"], args["replace"]
    name = "standard input" if path == "-" else path
    try:
        with context.stdin() if path == "-" else open(path, "rb") as file:
            found = queue.read_backup(file, name)
    except OSError as exc:
        raise InvalidInput(f"reading {name}: {exc.strerror}") from None
    if replace and not args["yes"] and not _agreed(context, len(found.jobs)):
        return Result([Note("Nothing was changed.")], code=1)
    kept = queue.restore(found, replace=replace)
    told = [f"Restored {render.jobs(len(found.jobs))} as they were at {found.made_at}"]
    if kept:
        told.insert(0, Note(f"What was there before is kept in {render.one_line(kept)}"))
    return Result(told, words=[kept] if kept else ())


def _agreed(context: Context, count: int) -> bool:
    held = sum(context.queue.counts().values())
    if not held:
        return True
    context.require_person("restore asks before it replaces jobs")
    return context.confirm(f"Put {render.jobs(count)} in the place of the {held} that are there?")
