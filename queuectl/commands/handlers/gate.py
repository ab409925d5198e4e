"""What may start: `pause`, `resume`, `limit`."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from queuectl.commands import forms
from queuectl.commands.context import Context
from queuectl.commands.dispatch import Note, Result
from queuectl.errors import InvalidInput
from queuectl.job_queue import JobQueue
from queuectl.model.gate import ALL, usage, variable


def pause(context: Context, args: dict[str, Any]) -> Result:
    """Pause the queue or some tags; running jobs go on and are counted."""
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

    return Result(lines(), words=paused, form=lambda: {"paused": paused})


def resume(context: Context, args: dict[str, Any]) -> Result:
    """Resume the queue or some tags; reports what stays paused."""
    tags = args["tag"]
    paused = context.queue.resume(tags)

    def lines() -> Iterator[str]:
        yield f"Jobs tagged {_either(tags)} start again." if tags else "The queue goes on."
        if ALL in paused:
            yield "The whole queue is still paused: 'resume' lets it go on."
        if left := [tag for tag in paused if tag != ALL]:
            yield f"Still paused: {', '.join(left)}; '{_command('resume', left)}' ends that."

    return Result(lines(), words=paused, form=lambda: {"paused": paused})


def limit(context: Context, args: dict[str, Any]) -> Result:
    """Show the limits and their use, or set or remove one."""
    tag, number = args["tag"], args["number"]
    if number is None:
        return _limits(context, tag)
    most = _number(number)
    context.queue.limit(tag, most)
    if most is None:
        told = f"Any number of jobs tagged {tag} may run at once."
    else:
        jobs = f"1 job tagged {tag} runs" if most == 1 else f"{most} jobs tagged {tag} run"
        told = f"At most {jobs} at once, numbered in {variable(tag)} from 0 on."
    return Result([told], words=(), form=lambda: forms.limits_form(in_use(context.queue, tag)))


def _number(text: str) -> int | None:
    if text == "none":
        return None
    if text.isascii() and text.isdigit() and len(text) < 8 and int(text):
        return int(text)
    raise InvalidInput(f"a limit is a number from 1 on, or none, not '{text}'")


def _limits(context: Context, tag: str | None) -> Result:
    rows = in_use(context.queue, tag)

    def lines() -> Iterator[str]:
        if rows:
            width = max(3, *(len(name) for name, _, _ in rows))
            yield f"{'Tag':<{width}}  Limit  Running"
            for name, most, running in rows:
                yield f"{name:<{width}}  {most:>5}  {running:>7}"
        else:
            yield Note(f"Tag {tag} has no limit." if tag else "No tag has a limit.")

    return Result(
        lines(),
        words=(f"{name} {most} {running}" for name, most, running in rows),
        form=lambda: forms.limits_form(rows),
    )


def in_use(queue: JobQueue, tag: str | None = None) -> list[tuple[str, int, int]]:
    """The limit of a tag (None: of all) and its use, as gate.usage returns it."""
    used = usage(queue.find(("in_progress",)), queue.settings().limits)
    return [row for row in used if tag in (None, row[0])]


def _either(tags: Collection[str]) -> str:
    return " or ".join(tags)


def _command(word: str, tags: Collection[str]) -> str:
    return " ".join((word, *tags))
