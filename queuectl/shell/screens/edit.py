"""`edit`: the fields of a job in the person's own editor, as JSON."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from queuectl.commands.context import Context, is_terminal
from queuectl.commands.dispatch import Note, Result
from queuectl.commands.selecting import whole_ids
from queuectl.errors import InvalidInput, QueuectlError, Reworded
from queuectl.model.fields import FIELDS, NOT_YET, unknown_field
from queuectl.model.job import Job
from queuectl.shell.screens.terminal import cooked_keys

_USUAL_EDITOR = "vi"


def edit(context: Context, args: dict[str, Any]) -> Result:
    """Edit the job's fields; no change if nothing was saved or the editor failed."""
    [job_id] = whole_ids(context, [args["job"]], changing=True, by="")
    job = context.queue.get(job_id)
    form = _form(job)
    path = _write_draft(job, form)
    try:
        code = _run_editor(context, path)
    except QueuectlError:
        os.unlink(path)
        raise
    if code:
        told = Note(f"The editor ended with exit code {code}; nothing was changed.")
        result = Result([told], code=1)
    elif os.path.lexists(path):
        result = _applied(context, args, job, form, path)
    else:
        result = Result([Note("Nothing was changed: the editor removed its file.")], words=())
    with suppress(FileNotFoundError):
        os.unlink(path)
    return result


def _applied(
    context: Context, args: Mapping[str, Any], job: Job, form: Mapping[str, Any], path: str
) -> Result:
    """Change the job by the file; an error names the file, which is kept."""
    try:
        changes = _changes(form, path)
        if job.state == "dead" and _wants_retry(context, args, changes):
            changes["state"] = "pending"
        if not changes:
            return Result([Note("Nothing was changed.")], words=())
        job = context.queue.update(job.id, changes)
    except QueuectlError as exc:
        raise Reworded(f"{exc}; what you wrote is kept in {path}", exc) from exc
    return Result([f"Job '{job.id}' is updated; it is {job.state}."], words=[job.id])


def _form(job: Job) -> dict[str, Any]:
    """The fields of the job that may be changed in its state."""
    when = ("always",) if job.state == "in_progress" else ("always", "idle")
    names = [field.name for field in FIELDS if field.edit in when and field.name != "state"]
    form = {name: getattr(job, name) for name in names}
    # Lists, in the form in which they are read back.
    return {name: list(v) if isinstance(v, tuple) else v for name, v in form.items()}


def _write_draft(job: Job, form: Mapping[str, Any]) -> str:
    """Write a file that only its owner can read, because of secrets in env; returns its path."""
    try:
        fd, path = tempfile.mkstemp(prefix=f"queuectl-{job.id[:40]}-", suffix=".json")
    except OSError as exc:
        raise QueuectlError(f"making a file to be edited: {exc.strerror}") from None
    try:
        with open(fd, "w", encoding="utf-8") as file:
            json.dump(form, file, ensure_ascii=False, indent=2)
            file.write("\n")
    except OSError as exc:
        os.unlink(path)
        raise QueuectlError(f"writing {path}: {exc.strerror}") from None
    return path


def _run_editor(context: Context, path: str) -> int:
    """The editor's exit code, 128 + n for a signal."""
    editor = context.environ.get("VISUAL") or context.environ.get("EDITOR") or ""
    if not editor and not is_terminal(sys.stdin):
        raise InvalidInput("there is no terminal for an editor; 'update' changes fields without")
    command = [*(shlex.split(editor) or [_USUAL_EDITOR]), path]
    context.flush()
    # Ctrl-C is for the editor. Not SIG_IGN, which it would inherit.
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        with cooked_keys(sys.stdin):
            code = subprocess.call(command)
            return code if code >= 0 else 128 - code
    except OSError as exc:
        raise QueuectlError(f"the editor '{command[0]}' cannot be run: {exc.strerror}") from None
    finally:
        signal.signal(signal.SIGINT, before)


def _changes(form: Mapping[str, Any], path: str) -> dict[str, Any]:
    """The fields whose values in the file differ from before."""
    try:
        with open(path, encoding="utf-8") as file:
            saved = json.load(file)
    except (OSError, ValueError) as exc:
        raise InvalidInput(f"what was saved cannot be read: {exc}") from None
    if not isinstance(saved, dict):
        raise InvalidInput("what was saved is not an object {...}")
    for name in saved:
        if name in NOT_YET:
            raise unknown_field(name)
        if name not in form:
            raise InvalidInput(f"field '{name}' cannot be edited here")
    return {name: value for name, value in saved.items() if value != form[name]}


def _wants_retry(context: Context, args: Mapping[str, Any], changes: Mapping[str, Any]) -> bool:
    """Whether to retry the dead job now: by the option, else by asking the person."""
    if args.get("retry") or not changes:
        return bool(args.get("retry"))
    return context.can_ask and context.confirm("The job is dead. Retry it now?")
