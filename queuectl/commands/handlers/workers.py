"""Workers: `worker start`, `worker stop`, `worker list`, `worker run`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from queuectl.addresses import address_of
from queuectl.commands import forms, render
from queuectl.commands.context import Context
from queuectl.commands.dispatch import Note, Result
from queuectl.errors import NO_WORKER, PAUSED, StoreError
from queuectl.store import opening
from queuectl.store.facts import WorkerInfo
from queuectl.worker.hindrance import hindrance

_COLUMNS = (
    render.Column("PID", 8),
    render.Column("Worker", 12),
    render.Column("State", 8),
    render.Column("Job", 15),
    render.Column("Worker since", 12),
)
_INTERRUPTED = 130


def worker_start(context: Context, args: dict[str, Any]) -> Result:
    """Start detached workers; each is registered when this returns."""
    from queuectl.worker import pool

    count = args["count"]
    if not context.quiet:
        context.write(f"Starting {count} worker(s)...")
    context.flush()
    context.queue.settings()  # their faults are reported here, not in each worker's log
    pids = pool.start(context.folder, count)

    def lines() -> Iterator[str | Note]:
        yield "Workers started and running in background."
        yield f"PIDs: {pids}"
        yield f"Workers running now: {_living(context)}"
        if context.queue.all_paused:
            yield Note(PAUSED.format(context.front))

    return Result(lines(), words=map(str, pids))


def _living(context: Context) -> int:
    from queuectl.worker import pool

    return len(pool.living_here(context.queue))


def worker_scale(context: Context, args: dict[str, Any]) -> Result:
    """Start workers, or stop some and wait for them, until `count` run."""
    from queuectl.worker import pool

    wanted, living = args["count"], _living(context)
    if wanted > living:
        return worker_start(context, {"count": wanted - living})
    spare = pool.spare(context.queue, wanted)
    if spare:
        _stop(context, {worker.id for worker in spare}, now=False)
    return Result([f"Workers running now: {_living(context)}"], words=())


def worker_stop(context: Context, args: dict[str, Any]) -> Result:
    """Tell some workers, or all, to stop, and wait for them."""
    from queuectl.worker import pool

    named = pool.named(context.queue, args["worker"]) if args["worker"] else None
    only = None if named is None else {worker.id for worker in named}
    if args.get("all_hosts"):
        for name in context.queue.stop_elsewhere(now=bool(args.get("now"))):
            context.write(name if context.quiet else f"Asked worker {name} of another host to stop")
    # Before anything that reads the queue: its damage may be the reason to stop them.
    stopped, own = _stop(context, only, now=args["now"])
    if not context.quiet and not own:
        where = _of_several_hosts(context, asked=bool(args.get("all_hosts")))
        if not stopped:
            context.note(f"No worker was running{where}.")
        elif only is None:
            context.write(f"All workers stopped{where}.")
    if own or (only is not None and _living(context)):
        return Result()
    try:
        context.rescue()
        context.queue.checkpoint()  # no worker will fold for a while: leave the JSON files exact
    except StoreError as exc:
        if not stopped:
            raise
        why = str(exc).replace("nothing was changed: ", "")
        raise StoreError(
            f"the workers are stopped, but tidying up after them was refused: {why}"
        ) from exc
    return Result()


def _of_several_hosts(context: Context, *, asked: bool) -> str:
    """What to add if workers of other hosts live; `asked`: they were told to stop."""
    if not address_of(context.folder):
        return ""
    with suppress(StoreError):
        if any(worker.alive and worker.host for worker in context.queue.workers()):
            hint = "; 'worker stop --all-hosts' asks those of others to stop, too"
            return " on this host" + hint * (not asked)
    return ""


def _stop(context: Context, only: set[str] | None, *, now: bool) -> tuple[list[int], list[int]]:
    """Stop workers, showing each as it ends; returns their pids, and that of one to end later."""
    from queuectl.worker import pool

    own = [
        worker.pid
        for worker in pool.living_here(context.queue)
        if pool.runs_this(worker) and (only is None or worker.id in only)
    ]
    for pid in own:
        context.note(f"Worker PID {pid} runs this command, and stops when its job has ended.")

    def told(pid: int) -> None:
        context.write(str(pid) if context.quiet else f"Stopped worker PID {pid}")
        context.flush()

    stopping = _Stopping(context)
    stopped = pool.stop(context.queue, now=now, only=only, on_stopped=told, on_wait=stopping.tell)
    return stopped, own


class _Stopping:
    """Shows after the first second, once a second, which workers are still waited for."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._next = time.monotonic() + 1.0

    def tell(self, pids: list[int]) -> None:
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + 1.0
        left = [worker for worker in self._context.queue.workers(here=True) if worker.pid in pids]
        jobs = ", ".join(worker.job_id for worker in left if worker.job_id)
        told = f"Waiting for {render.counted(len(pids), 'worker')}"
        self._context.show_waiting(told + (f", running {jobs}" if jobs else ""))


def worker_list(context: Context, args: dict[str, Any]) -> Result:
    """The living workers, and lost ones that were not rescued yet."""
    workers = context.queue.workers()
    return Result(
        _listed(context, workers),
        words=(worker.id for worker in workers),
        form=lambda: forms.workers_form(workers, list(map(hindrance, workers))),
    )


def _listed(context: Context, workers: Sequence[WorkerInfo]) -> Iterator[str]:
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
    yield from render.table(_COLUMNS, rows, screen=context.screen, colour=context.color)
    for worker in workers:
        if worker.host:
            beat = render.moment(worker.beat or "", context.clock)
            yield f"{worker.id} runs on host {worker.host}; last sign of life: {beat}"
        if worker.left:
            yield f"{render.brief(worker.job_id)}: {render.unended(worker)}"
        if why := hindrance(worker):
            yield Note(f"Worker PID {worker.pid} {why}")
    if not rows:
        yield Note(NO_WORKER.format(context.front))


def _state(worker: WorkerInfo) -> str:
    if not worker.alive:
        return "lost"
    if hindrance(worker):
        return "hindered"
    return "running" if worker.job_id else "idle"


def worker_run(context: Context, args: dict[str, Any]) -> Result:
    """Be one or several workers until a signal says stop or nothing is left to run."""
    from functools import partial

    from queuectl.worker.first_process import beneath_first
    from queuectl.worker.processes import has_children

    # Refused now, not by a worker that waits until it is mended.
    context.queue.settings()
    context.queue.prepare_claims()
    if opening.is_database(context.folder):
        context.queue.make()  # so that each worker of a crew finds the queue by its host folder
        opening.let_go(context.folder)  # the first process of a container forks

    def quietly(show: Callable[[str], None], line: str) -> None:
        # A worker must go on even if nobody reads its output any more.
        with suppress(OSError):
            show(line)
            context.flush()

    def nothing(line: str) -> None:
        """A `tell` that shows nothing."""

    tell = nothing if context.quiet else partial(quietly, context.write)
    stopped: list[int] = []
    how: dict[str, Any] = {"tell": tell, "log": partial(quietly, context.note)}
    how["on_stop"] = stopped.append
    if args["drain"]:
        from queuectl.commands.handlers.wait import DrainLook, own_job, waits_for_itself

        if own := own_job(context):
            raise waits_for_itself(own)
        look = DrainLook(context)
        how |= {"until_empty": True, "on_wait": None if context.quiet else look.look}
    context.tell_notices()
    context.flush()

    def work() -> int:
        # What was started before this process became a worker is not part of its runs.
        if args["count"] > 1 or has_children():
            from queuectl.worker.crew import run_crew

            code = run_crew(context.folder, args["count"], **how)
        else:
            from queuectl.worker.loop import run_worker

            code = run_worker(context.queue, **how)
        if args["drain"] and code > 128:
            look.tell_left()
        return code

    code = beneath_first(work)
    if args["drain"]:
        with suppress(StoreError):  # the work is done, and its exit code counts
            context.queue.tidy()  # a script may look into the files next
    # A signal to a script means more than this command; so does one to the shell, except Ctrl-C.
    if stopped and (context.in_script or (context.interactive and stopped[0] != _INTERRUPTED)):
        raise SystemExit(stopped[0])
    return Result(code=code)
