"""What jobs printed: `logs`."""

from __future__ import annotations

from queuectl.errors import InvalidInput, NoSuchRun

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from queuectl.commands.context import Context


def logs(context: Context, args: dict[str, Any]) -> int:
    """The bytes that a run wrote, as they are."""
    job, run, lines = context.queue.get(args["job"]), args.get("run"), args.get("lines")
    if args.get("follow"):
        return _follow(context, job.id, args)
    if run is not None and not 1 <= run <= job.run:
        raise NoSuchRun(job.id, run, job.run)
    output = context.logs.output(job, run) if lines is None else context.logs.tail(job, lines, run)
    if not _copy(context, output) and lines != 0:
        context.note(f"Job '{job.id}' {'printed nothing' if job.run else 'has not run yet'}.")
    return 0


def _follow(context: Context, job_id: str, args: dict[str, Any]) -> int:
    """The output as it appears, until the run is over; being interrupted ends no job."""
    if args.get("run") is not None or args.get("lines") is not None:
        raise InvalidInput("--follow shows the whole of the present run: no --run, no --lines")

    def pause(seconds: float) -> None:
        context.rescue()  # else the run of a worker that died would never end
        context.queue.wait(seconds)

    _copy(context, context.logs.follow(lambda: context.queue.get(job_id), pause))
    return 0


def _copy(context: Context, pieces: Iterable[bytes]) -> bool:
    """Whether there was anything to copy."""
    copied = False
    for piece in pieces:
        context.write_bytes(piece)
        context.flush()
        copied = True
    return copied
