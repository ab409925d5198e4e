"""Handing jobs in: `enqueue` as an object, as options, as a command line or as a file of jobs."""

from __future__ import annotations

import io
import os
import time

from queuectl.errors import DuplicateId, InvalidInput
from queuectl.model.times import format_duration, format_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from queuectl.commands.context import Context
    from queuectl.errors import QueuectlError
    from queuectl.model.job import Job

    Draft = dict[str, object]


def enqueue(context: Context, args: dict[str, Any]) -> int:
    """One job or a file of them, durable when this returns."""
    path = "-" if args.get("object") == "-" else args.get("file")
    if path is None:
        draft = _draft(args)
        _place([draft])
        jobs = context.queue.enqueue([draft], _captured(context))
    else:
        jobs = _enqueue_file(context, path, args)
    if context.interactive:
        context.made.extend(job.id for job in jobs)
    if context.quiet:
        context.write_lines(job.id for job in jobs)
    else:
        context.write_lines(f"Job added to the queue with job id: {job.id}" for job in jobs)
    if path is None:
        _tell_time(context, draft)
    context.note_enqueued()
    return 0


def _tell_time(context: Context, draft: Draft) -> None:
    if "run_at" in draft:
        from queuectl.commands.local_times import tell_time

        tell_time(context, draft["run_at"])


def _draft(args: dict[str, Any]) -> Draft:
    """The job as the object, the options and what stands after `--` describe it together."""
    given = [*option_fields(args).items()]
    if args.get("argv"):
        given.append(("command", args["argv"]))
    if args.get("no_rerun"):
        given.append(("rerun", False))
    draft = _joined(args.get("object"), given)
    if not draft:
        raise InvalidInput("nothing to enqueue: give {...}, --command, --file or -- and a command")
    return draft


def _joined(draft: Draft | None, given: Iterable[tuple[str, object]]) -> Draft:
    """The fields of an object and those of options, none of them twice."""
    joined = dict(draft or {})
    _set_moment(joined)
    for name, value in given:
        if name in joined:
            raise InvalidInput(f"field '{name}' is given twice")
        joined[name] = value
    return joined


def option_fields(args: dict[str, Any]) -> Draft:
    """The fields that options like --priority set."""
    fields: Draft = {}
    for name in ("id", "command", "priority", "max_retries", "run_at", "timeout", "cwd", "state"):
        if args.get(name) is not None:
            fields[name] = args[name]
    if args.get("delay") is not None:
        fields["delay"] = args["delay"]
        _set_moment(fields, "--run-at or --delay")
    if args.get("env"):
        fields["env"] = _environment(args["env"])
    return fields


def _set_moment(draft: Draft, either: str = "run_at or delay") -> None:
    """Put the moment that a delay gives in its place."""
    delay = draft.pop("delay", None)
    if not isinstance(delay, (int, float)):
        return
    if "run_at" in draft:
        raise InvalidInput(f"give {either}, not both")
    draft["run_at"] = format_time(time.time() + delay)


def _environment(pairs: Sequence[str]) -> dict[str, str]:
    env: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise InvalidInput(f"--env wants NAME=VALUE, not '{pair}'")
        if name in env:
            raise InvalidInput(f"--env sets {name} twice")
        env[name] = value
    return env


def _place(drafts: Sequence[Draft]) -> None:
    """Give the drafts the folder they are enqueued from."""
    for draft in drafts:
        draft.setdefault("cwd", ".")
        _make_absolute(draft)


def _captured(context: Context) -> dict[str, Any]:
    """The variables and the umask that jobs take along from here."""
    from queuectl.model.env_set import captured

    umask = os.umask(0o077)  # it can only be read by setting it
    os.umask(umask)
    return captured(context.environ, umask, context.queue.settings().inherit_env)


def _make_absolute(draft: Draft) -> None:
    """A folder given relative to where we are, as the worker must know it."""
    cwd = draft.get("cwd")
    if isinstance(cwd, str) and cwd and cwd[0] != "/":
        draft["cwd"] = _here() if cwd == "." else os.path.join(_here(), cwd)


def _here() -> str:
    try:
        return os.getcwd()
    except OSError:
        raise InvalidInput("the current folder is gone; name one with --cwd") from None


def _enqueue_file(context: Context, path: str, args: dict[str, Any]) -> list[Job]:
    """All jobs of a file in one transaction; what is wrong is told with its line."""
    if option_fields(args) or args.get("argv") or args.get("no_rerun"):
        raise InvalidInput("a file of jobs takes no other options: write them into its lines")
    from queuectl.commands.objects import json_lines

    name = "<stdin>" if path == "-" else path
    reading, passed = _Reading(context, name), set[str]()
    numbered = json_lines(_read(context, path, name), name, reading.tell, passed)
    if not numbered:
        raise InvalidInput(f"{name} holds no job")
    drafts = [draft for _, draft in numbered]
    for line, draft in numbered:
        try:
            _set_moment(draft)
        except InvalidInput as exc:
            raise InvalidInput(f"{name}:{line}: {exc}") from None
    _place(drafts)
    reading.tell(len(drafts), 1.0)
    if passed and not context.quiet:
        told = ", ".join(sorted(passed))
        context.note(f"{name}: passed over, as jobs of a list have it from queuectl: {told}")
    try:
        return context.queue.enqueue(drafts, _captured(context))
    except (InvalidInput, DuplicateId) as exc:
        at = _culprit(exc, drafts)
        if at is not None:
            exc.args = (f"{name}:{numbered[at][0]}: {exc}",)
        raise


class _Reading:
    """Tells, from a second on, how far the reading of a file has got."""

    def __init__(self, context: Context, name: str) -> None:
        self._context, self._name = context, name
        self._began = time.monotonic()

    def tell(self, jobs: int, part: float) -> None:
        """So many jobs were read, which is that part of the file."""
        took = time.monotonic() - self._began
        if took < 1.0:
            return
        if part >= 1.0:
            self._context.show_waiting(f"Handing in {jobs:,} jobs")
            return
        left = format_duration(took / part * (1 - part))
        self._context.show_waiting(f"Reading {self._name}: {jobs:,} jobs, about {left} left")


def _culprit(exc: QueuectlError, drafts: Sequence[Draft]) -> int | None:
    """Which of the drafts an error is about; of two that share an id, the second."""
    if isinstance(exc, DuplicateId):
        return max(at for at, draft in enumerate(drafts) if draft.get("id") == exc.job_id)
    return getattr(exc, "index", None)


def _read(context: Context, path: str, name: str) -> bytes:
    from queuectl.commands.objects import read_line

    try:
        with context.stdin() if path == "-" else open(path, "rb") as file:
            data, number = io.BytesIO(), 1  # not a list: short lines would take ten times as much
            while line := read_line(file, name, number):
                data.write(line)
                number += 1
            return data.getvalue()
    except OSError as exc:
        raise InvalidInput(f"reading {path}: {exc.strerror}") from None


def update(context: Context, args: dict[str, Any]) -> int:
    """One job changed, told with the state it is in now."""
    named = [("id", args["job"])] if args.get("job") else []
    changes = _joined(args.get("object"), [*named, *option_fields(args).items()])
    job_id = changes.pop("id", None)
    if not isinstance(job_id, str):
        raise InvalidInput("update wants the id of the job, as in update job1 --priority 3")
    _make_absolute(changes)
    job = context.queue.update(job_id, changes)
    context.write(job.id if context.quiet else f"Job '{job.id}' is updated; it is {job.state}.")
    _tell_time(context, changes)
    return 0
