"""`top`: jobs and workers live on the whole screen; without a screen, once as text."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from typing import Any

from queuectl.commands.context import Context, is_terminal
from queuectl.commands.dispatch import Note, Result
from queuectl.commands.selecting import selection_of
from queuectl.errors import StoreError
from queuectl.live.rows import View

_MOST = 1000  # jobs in a snapshot


def top(context: Context, args: dict[str, Any]) -> Result:
    """Show the screen until the person leaves it, or one snapshot."""
    view = View(args.get("sort") or "state", args.get("filter") or "", selection_of(args))
    if not _has_screen(context):
        return _snapshot(context, view)
    from queuectl.shell.top.screen import TopScreen

    context.flush()
    return Result(code=TopScreen(context.folder, view, colour=context.color).run())


def _has_screen(context: Context) -> bool:
    keys = context.interactive or (not context.stdin_taken and is_terminal(sys.stdin))
    return keys and context.terminal and context.environ.get("TERM") not in ("dumb", "", None)


def _snapshot(context: Context, view: View) -> Result:
    from queuectl.commands import render
    from queuectl.live.feed import Feed
    from queuectl.shell.top.table import SNAPSHOT, snapshot_head, snapshot_rows
    from queuectl.store import opening

    with closing(Feed(opening.watch(context.folder), context.logs)) as feed:
        picture = feed.look(at_once=False)
        rows = view.rows(picture.jobs)
        count, jobs = len(rows), list(islice(rows, _MOST))
        picture = feed.look(jobs, at_once=False)
    if picture.standing.trouble:
        raise StoreError(picture.standing.trouble)

    def lines() -> Iterator[str]:
        yield snapshot_head(picture)
        rows = snapshot_rows(jobs, picture)
        yield from render.table(SNAPSHOT, rows, screen=context.screen, colour=context.color)
        if count > _MOST:
            yield Note(f"The first {_MOST} of {count} jobs; 'queuectl list' shows all.")

    return Result(lines(), words=(job.id for job in jobs))
