"""Detached workers: starting them so that they outlive their starter, and stopping them."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Collection

import queuectl
from queuectl.errors import NO_PROCESS, Conflict, NoSuchWorker, QueuectlError, StoreError
from queuectl.job_queue import JobQueue
from queuectl.store import door
from queuectl.store.facts import WorkerInfo
from queuectl.store.opening import without_secrets
from queuectl.store.output import Output
from queuectl.worker.processes import Process
from queuectl.worker.rescue import is_foreign
from queuectl.worker.runner import MARKS
from queuectl.worker.wakeups import FINISH, STOP_NOW

_PATIENCE, _PATIENCE_EACH = 10.0, 1.0  # seconds for workers to register: for all, plus for each
_STALE = 60.0  # seconds after which an empty log without a living worker is stale


class _Start:
    """One worker that is starting. On `ready` it sends its pid, or a reason, or just dies."""

    def __init__(self, folder: str, logs: Output) -> None:
        self.log = os.path.join(logs.path, f"worker-start-{os.urandom(6).hex()}.log")
        self._reason = ""
        self.is_silent = True
        self.ready, said = os.pipe()
        try:
            with door.Closing(said):
                _spawn(folder, self.log, said)
        except BaseException:
            os.close(self.ready)
            raise

    def pid(self) -> int | None:
        """Its pid once it registered, None if it died before; call it when `ready` is readable."""
        said, self.is_silent = os.read(self.ready, select.PIPE_BUF), False
        if said.isdigit():
            return int(said)
        self._reason = said.decode("utf-8", "replace")
        return None

    def last_words(self) -> str:
        """Why it did not start: what it sent, or else the last line of its log."""
        if self.is_silent:
            return "no answer in time, so it may come up yet: 'worker list' shows it then"
        if self._reason:
            return self._reason
        try:
            with open(self.log, encoding="utf-8", errors="replace") as log:
                lines = log.read().strip().splitlines()
        except FileNotFoundError:
            return "it said nothing"
        return lines[-1] if lines else f"it said nothing, and its log is empty ({self.log})"


def start(folder: str, count: int) -> list[int]:
    """Start `count` detached workers on the data folder; returns the pids of all, registered.

    Raises QueuectlError with the reason if one did not start; the others go on.
    """
    folder = os.path.abspath(folder)
    # Done here once, so that the workers do not all fail at it or get in each other's way.
    queue = JobQueue.open(folder)
    queue.make()
    queue.settings()
    logs = queue.store.output
    logs.make()
    _remove_stale_logs(queue, logs)
    starts: list[_Start] = []
    try:
        for _ in range(count):
            starts.append(_Start(folder, logs))
        pids = _await_all(starts)
    finally:
        for begun in starts:
            os.close(begun.ready)
    failed = [begun for begun in starts if begun not in pids]
    if failed:
        raise QueuectlError(
            f"{len(failed)} of {count} worker(s) did not start: {failed[0].last_words()}"
        )
    return [pids[begun] for begun in starts]


def command(folder: str, *options: str) -> tuple[list[str], dict[str, str], str]:
    """The arguments of a worker of the queue, its environment, and the folder to start it in.

    The environment is ours without the marks of a run and without the queue's password.
    """
    environ = without_secrets(os.environ, folder)
    for mark in MARKS:
        environ.pop(mark, None)
    # Here `-m` finds the running package, installed or not.
    package = os.path.dirname(os.path.dirname(os.path.abspath(queuectl.__file__)))
    argv = [sys.executable, "-m", "queuectl.worker", "--data", folder, *options]
    return argv, environ, package


def _spawn(folder: str, log: str, said: int) -> None:
    """Start a worker that inherits only the descriptor `said` and is not our child."""
    argv, environ, package = command(folder, "--log", log, "--ready", str(said))
    out = door.open_file(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL)
    os.set_blocking(out, True)  # a worker may expect this of its standard error
    with door.Closing(out):
        # The shell ends at once, so that the worker becomes init's child, which a starter that
        # lives on does not have to reap.
        done = subprocess.run(
            ["/bin/sh", "-c", '"$@" &', "worker", *argv],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            pass_fds=(said,),
            start_new_session=True,
            env=environ,
            cwd=package,
            check=False,
        )
        if done.returncode:  # the shell could not fork
            raise StoreError(NO_PROCESS)


def _await_all(starts: list[_Start]) -> dict[_Start, int]:
    """The pids of the workers that registered in time."""
    deadline = time.monotonic() + _PATIENCE + _PATIENCE_EACH * len(starts)
    waiting = {begun.ready: begun for begun in starts}
    poll = select.poll()
    for fd in waiting:
        poll.register(fd, select.POLLIN)
    pids: dict[_Start, int] = {}
    while waiting and (left := deadline - time.monotonic()) > 0:
        for fd, _ in poll.poll(left * 1000):
            poll.unregister(fd)
            begun = waiting.pop(fd)
            pid = begun.pid()
            if pid is not None:
                pids[begun] = pid
    return pids


def _remove_stale_logs(queue: JobQueue, logs: Output) -> None:
    """Remove the empty logs of killed workers; other workers remove their own."""
    living = {f"worker-{worker.id}.log" for worker in queue.workers() if worker.alive}
    for entry in os.scandir(logs.path):
        named = entry.name.startswith("worker-") and entry.name.endswith(".log")
        if named and entry.is_file(follow_symlinks=False):
            try:
                found = entry.stat(follow_symlinks=False)
            except FileNotFoundError:  # its worker is just ending
                continue
            old = time.time() - found.st_mtime > _STALE
            if not found.st_size and old and entry.name not in living:
                door.remove(entry.path)


def stop(
    queue: JobQueue,
    *,
    now: bool = False,
    only: Collection[str] | None = None,
    on_stopped: Callable[[int], None] | None = None,
    on_wait: Callable[[list[int]], None] | None = None,
) -> list[int]:
    """Tell workers to stop and wait until each is gone; returns their pids.

    They finish their jobs first; `now`: they end them, and the jobs go back with no attempt spent.
    `only`: the workers with these ids (None: all). The worker that runs this very process is told
    too, but not waited for. `on_wait` is called now and then with the pids still waited for. An
    interrupt ends only the waiting. Raises QueuectlError if a worker cannot be reached.
    """
    here = queue.identity() if os.path.isdir(queue.folder) else ""
    told: list[Process] = []
    unreached: list[WorkerInfo] = []
    for worker in living_here(queue):
        if only is None or worker.id in only:
            if worker.facts.get("folder", here) != here:
                raise QueuectlError(
                    f"worker {worker.id} (PID {worker.pid}) belongs to another folder, of which "
                    f"{queue.folder} is a copy; stop it there"
                )
            try:
                if is_foreign(worker):  # its pid is another process here
                    raise ProcessLookupError
                process = Process(worker.pid, worker.start_time)
            except ProcessLookupError:
                unreached.append(worker)
                continue
            process.send(STOP_NOW if now else FINISH)
            if runs_this(worker):
                process.close()
            else:
                told.append(process)
    stopped = _await_ends(told, on_stopped, on_wait)
    for worker in unreached:
        if any(other.alive and other.id == worker.id for other in queue.workers(here=True)):
            raise QueuectlError(
                f"worker {worker.id} is alive, but its pid {worker.pid} is not seen from here; "
                "stop it where it was started"
            )
    return stopped


def runs_this(worker: WorkerInfo) -> bool:
    """Whether this process is part of the worker's present job, whose end the worker awaits."""
    own = (worker.id, worker.job_id, str(worker.run))
    return own == tuple(map(os.environ.get, MARKS[:3]))


def living_here(queue: JobQueue) -> list[WorkerInfo]:
    """The living workers of this host, even if the store does not answer."""
    return [worker for worker in queue.workers(here=True) if worker.alive]


def named(queue: JobQueue, names: Collection[str]) -> list[WorkerInfo]:
    """The living workers of this host with these ids or pids; NoSuchWorker for a missing one.

    Raises Conflict for the id of a worker on another host.
    """
    living = living_here(queue)
    found = []
    for name in names:
        meant = [worker for worker in living if name in (worker.id, str(worker.pid))]
        if not meant:
            for worker in queue.workers():
                if worker.id == name and worker.host:
                    raise Conflict(
                        f"worker {name} runs on host {worker.host}: stop it there, or all of them "
                        "with 'worker stop --all-hosts'"
                    )
            raise NoSuchWorker(name)
        found += meant[:1]
    return found


def spare(queue: JobQueue, count: int) -> list[WorkerInfo]:
    """The living workers of this host to stop so that `count` are left.

    Idle workers first, then the youngest.
    """
    living = living_here(queue)
    living.sort(key=lambda worker: (worker.job_id is None, worker.started_at), reverse=True)
    return living[: max(0, len(living) - count)]


def _await_ends(
    told: list[Process],
    on_stopped: Callable[[int], None] | None,
    on_wait: Callable[[list[int]], None] | None,
) -> list[int]:
    """The pids in the order in which the processes ended."""
    stopped = []
    try:
        while told:
            if on_wait is not None:
                on_wait([process.pid for process in told])
            for process in list(told):
                # If more remain, the next one is checked soon.
                if process.wait(1.0 if len(told) == 1 else 0.05):
                    told.remove(process)
                    process.close()
                    stopped.append(process.pid)
                    if on_stopped is not None:
                        on_stopped(process.pid)
    finally:
        for process in told:
            process.close()
    return stopped
