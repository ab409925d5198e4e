"""Workers: `worker start`, `worker stop`, `worker list`, `worker run`."""

from __future__ import annotations

from queuectl.commands import render
from queuectl.errors import StoreError
from queuectl.worker.hindrance import hindrance

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from queuectl.commands.context import Context
    from queuectl.store.worker_files import WorkerInfo

_COLUMNS = (
    render.Column("PID", 8),
    render.Column("Worker", 12),
    render.Column("State", 8),
    render.Column("Job", 15),
    render.Column("Since", 5),
)


def worker_start(context: Context, args: dict[str, Any]) -> int:
    """Detached workers, each registered when this returns."""
    from queuectl.worker import pool

    count = args["count"]
    if not context.quiet:
        context.write(f"Starting {count} worker(s)...")
        context.flush()
    context.queue.settings()  # what is wrong with them is told here, not in each worker's log
    pids = pool.start(context.folder, count)
    if context.quiet:
        context.write_lines(map(str, pids))
    else:
        context.write("Workers started and running in background.")
        context.write(f"PIDs: {pids}")
    return 0


def worker_stop(context: Context, args: dict[str, Any]) -> int:
    """All workers told to stop, and waited for."""
    from queuectl.worker import pool

    def told(pid: int) -> None:
        context.write(str(pid) if context.quiet else f"Stopped worker PID {pid}")
        context.flush()

    # Before anything that reads the queue: a damaged one is a reason to stop them.
    stopped = pool.stop(context.queue, now=bool(args.get("now")), on_stopped=told)
    if not stopped:
        context.note("No worker was running.")
    elif not context.quiet:
        context.write("All workers stopped.")
    try:
        context.rescue()
        context.queue.checkpoint()  # nobody else will for a while: leave the JSON files exact
    except StoreError as exc:
        if not stopped:
            raise
        why = str(exc).replace("nothing was changed: ", "")
        raise StoreError(
            f"the workers are stopped, but tidying up behind them was refused: {why}"
        ) from exc
    return 0


def worker_list(context: Context, args: dict[str, Any]) -> int:
    """The living workers, and lost ones that nobody has looked after yet."""
    workers = context.queue.workers()
    if args.get("json"):
        context.write_json([render.json_document({"workers": list(map(_form, workers))})])
        return 0
    rows = [
        (
            str(worker.pid),
            worker.id,
            _state(worker),
            worker.job_id or "-",
            render.moment(worker.started_at, context.clock),
        )
        for worker in workers
    ]
    context.write_lines(render.table(_COLUMNS, rows, screen=context.screen, colour=context.color))
    for worker in workers:
        if worker.left:
            context.write(f"{render.brief(worker.job_id)}: {render.unended(worker)}")
        if why := hindrance(worker):
            context.note(f"Worker PID {worker.pid} {why}")
    if not rows:
        context.note("No worker runs; 'worker start' starts one.")
    return 0


def _state(worker: WorkerInfo) -> str:
    if not worker.alive:
        return "lost"
    if hindrance(worker):
        return "hindered"
    return "running" if worker.job_id else "idle"


def _form(worker: WorkerInfo) -> dict[str, object]:
    return {
        "id": worker.id,
        "pid": worker.pid,
        "alive": worker.alive,
        "since": worker.started_at or None,
        "job": worker.job_id,
        "run": worker.run or None,
        "left": [{"pid": pid, "user": user, "command": name} for pid, user, name in worker.left],
        "hindered": hindrance(worker) or None,
    }


def worker_run(context: Context, args: dict[str, Any]) -> int:
    """Be a worker until a signal says stop, or nothing is left to run."""
    from contextlib import suppress
    from functools import partial

    from queuectl.worker.first_process import beneath_first
    from queuectl.worker.loop import run_worker

    # Refused at once, not by a worker that waits until it is mended.
    context.queue.settings()
    context.queue.prepare_claims()

    def quietly(show: Callable[[str], None], line: str) -> None:
        # A worker must go on though nobody reads what it says any more.
        with suppress(OSError):
            show(line)
            context.flush()

    context.queue.settings()
    context.tell_notices()
    context.flush()
    return beneath_first(
        lambda: run_worker(
            context.queue,
            tell=partial(quietly, context.write),
            log=partial(quietly, context.note),
            until_empty=bool(args.get("drain")),
        )
    )
