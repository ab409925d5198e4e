"""What may start: `pause`, `resume`."""

from __future__ import annotations

from queuectl.commands.dispatch import Result
from queuectl.model.gate import ALL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from typing import Any

    from queuectl.commands.context import Context


def pause(context: Context, args: dict[str, Any]) -> Result:
    """The queue or some tags paused; what runs goes on, and is counted."""
    tags = args["tag"]
    paused = context.queue.pause(tags)

    def lines() -> Iterator[str]:
        if tags:
            yield f"No job tagged {_either(tags)} starts until '{_command('resume', tags)}'."
        else:
            yield "The queue is paused: no job starts until 'resume'."
        running = context.queue.counts()["in_progress"]
        if running:
            yield f"{running} running job{'s go' if running > 1 else ' goes'} on."

    return Result(lines(), words=paused)


def resume(context: Context, args: dict[str, Any]) -> Result:
    """The queue or some tags going on; what stays paused is told."""
    tags = args["tag"]
    paused = context.queue.resume(tags)

    def lines() -> Iterator[str]:
        yield f"Jobs tagged {_either(tags)} start again." if tags else "The queue goes on."
        if ALL in paused:
            yield "The whole queue is still paused: 'resume' lets it go on."
        if left := [tag for tag in paused if tag != ALL]:
            yield f"Still paused: {', '.join(left)}; '{_command('resume', left)}' ends that."

    return Result(lines(), words=paused)


def _either(tags: Collection[str]) -> str:
    return " or ".join(tags)


def _command(word: str, tags: Collection[str]) -> str:
    return " ".join((word, *tags))
