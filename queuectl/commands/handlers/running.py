"""A job that its enqueuer waits for: `run`."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from queuectl.commands.context import Context
from queuectl.commands.dispatch import Result
from queuectl.commands.handlers.enqueue import Entry, described
from queuectl.commands.handlers.logs import follow
from queuectl.commands.handlers.wait import (
    WaitFailed,
    ending,
    exit_code,
    own_job,
    patiently,
    require_other_worker,
)
from queuectl.errors import InvalidInput, QueuectlError

_AGAIN = 2.0  # seconds in which a second Ctrl-C cancels the job


def run(context: Context, args: dict[str, Any]) -> Result:
    """Show the output of all runs as it appears; the job's exit code, 125 for our own errors."""
    if not args["argv"] and args["command"] is None:
        raise InvalidInput("run wants a command: 'run -- COMMAND'")
    try:
        require_other_worker(context, own_job(context))
        entry = Entry(context, "refuse")
        entry.hand_in(described(args))
        [job_id] = entry.ids
        if not context.quiet:
            context.note(f"Job added to the queue with job id: {job_id}")
        with _left_running(context, job_id):
            follow(context, job_id, shown=0)
        job = patiently(context.queue, lambda: context.queue.get(job_id))
        context.queue.tidy()
    except InvalidInput:
        raise
    except QueuectlError as exc:
        raise WaitFailed(str(exc)) from exc
    if job.state != "completed" and not context.quiet:
        context.note(ending(job))
    return Result(code=exit_code(job))


@contextmanager
def _left_running(context: Context, job_id: str) -> Iterator[None]:
    """A block in which Ctrl-C, SIGTERM and a lost reader end only the command, not the job.

    It then says how to find the job.
    """

    def end(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    usual = signal.getsignal(signal.SIGTERM)
    if usual == signal.SIG_DFL:  # in the shell, its own handler raises
        signal.signal(signal.SIGTERM, end)
    try:
        yield
    except (KeyboardInterrupt, SystemExit, BrokenPipeError) as exc:
        context.note(
            f"Job '{job_id}' goes on: '{context.front}logs -f {job_id}' follows it, "
            f"'{context.front}cancel {job_id}' ends it."
        )
        if isinstance(exc, KeyboardInterrupt) and context.has_person and not context.interactive:
            _cancel_if_asked_again(context, job_id)
        raise
    finally:
        if usual == signal.SIG_DFL:
            signal.signal(signal.SIGTERM, usual)


def _cancel_if_asked_again(context: Context, job_id: str) -> None:
    context.note(f"Ctrl-C again within {_AGAIN:g} s cancels it.")
    try:
        time.sleep(_AGAIN)
    except KeyboardInterrupt:
        context.queue.cancel([job_id])
        context.note(f"Job '{job_id}' is cancelled.")
