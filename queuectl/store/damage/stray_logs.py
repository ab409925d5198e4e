"""Stray output: of jobs that are gone, and of workers that left it behind."""

from __future__ import annotations

import os

from queuectl.errors import StoreError, list_few
from queuectl.places import LOGS
from queuectl.store import door
from queuectl.store.contract import Store
from queuectl.store.facts import Finding
from queuectl.store.files.log_cut import worker_of
from queuectl.store.files.logs import LogFolder, named_run
from queuectl.store.files.strays import listed

_ASIDE = ".bad-"


def find_stray_logs(store: Store) -> list[Finding]:
    """What `doctor` says about the folder `logs`; nothing while jobs are unreadable."""
    path = LogFolder(store.folder).path
    found = []
    stray = stray_logs(store)
    if stray:
        text = f"output of jobs or workers that are gone: {list_few(stray)}"
        found.append(Finding(LOGS, text, "'queuectl doctor --repair' puts it aside"))
    words = [name for name in listed(path) if _is_last_word(store, path, name)]
    if words:
        text = f"what workers that are gone had to say: {list_few(words)}"
        found.append(Finding(LOGS, text, "read it, then delete it", False))
    aside = [name for name in listed(path) if _ASIDE in name and not name.endswith(".log")]
    if aside:
        todo = "look at it, and delete it if it is not missed"
        found.append(Finding(LOGS, f"put aside: {list_few(aside)}", todo, False))
    return found


def stray_logs(store: Store) -> list[str]:
    """Logs of jobs that are not in the queue, and spools of workers without a file."""
    # First the logs, then the jobs: the log of a job that ran in between must not look stray.
    names = listed(LogFolder(store.folder).path)
    try:
        if not names or not store.exists():
            return []
        jobs = {job.id: job.log_word for job in store.find()}
        workers = {worker.id for worker in store.workers()}
    except StoreError:
        return []
    return [name for name in names if _is_stray(name, jobs, workers)]


def put_aside(store: Store, stamp: str) -> list[str]:
    """Rename stray logs and remove empty ones; returns a line for each."""
    path, done = LogFolder(store.folder).path, []
    for name in stray_logs(store):
        old = os.path.join(path, name)
        try:
            size = os.path.getsize(old)
        except FileNotFoundError:  # its worker or a purge removed it
            continue
        if size:
            door.rename(old, f"{old}{_ASIDE}{stamp}")
            done.append(f"logs/{name}: belongs to no job or worker; kept as {name}{_ASIDE}{stamp}")
        else:
            door.remove(old)
            done.append(f"logs/{name}: empty, and belongs to no job or worker; removed")
    return done


def _is_stray(name: str, jobs: dict[str, str | None], workers: set[str]) -> bool:
    if name.endswith(".spool"):
        return worker_of(name) not in workers
    run = named_run(name)
    return run is not None and (run[0] not in jobs or run[2] != jobs[run[0]])


def _is_last_word(store: Store, path: str, name: str) -> bool:
    """Whether it is a non-empty log of a worker itself, and that worker is gone."""
    if not (name.startswith("worker-") and name.endswith(".log")) or named_run(name):
        return False
    living = {f"worker-{worker.id}.log" for worker in store.workers()}
    try:
        return name not in living and os.path.getsize(os.path.join(path, name)) > 0
    except OSError:
        return False
