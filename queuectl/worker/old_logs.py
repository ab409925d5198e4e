"""Logs of jobs that stay, removed by age (keep-logs) and by what all of them take (logs-total)."""

from __future__ import annotations

import os
import time
from typing import cast

from queuectl.addresses import address_of
from queuectl.model.job import LIVE
from queuectl.store import door
from queuectl.store.files.logs import is_locked, named_run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from queuectl.job_queue import JobQueue
    from queuectl.store.files.logs import LogFolder
    from queuectl.store.mongodb.database_logs import DatabaseLogs


def remove_old_logs(queue: JobQueue, logs: LogFolder) -> list[str]:
    """Remove logs of ended jobs as the settings have it, the oldest first; their names.

    A log is as old as its last byte. One that something still writes to stays.
    """
    settings = queue.settings()
    age, total = settings.keep_logs, settings.logs_total
    if age is None and not total:
        return []
    if address_of(queue.folder):
        return cast("DatabaseLogs", logs).remove_old(age, total)
    # First the logs, then the jobs: what begins to run from here on has no log in the list.
    found = sorted(_logs(logs.path))
    live = {job.id for job in queue.find(LIVE)}
    oldest = 0.0 if age is None else time.time() - age
    over = sum(size for _, size, _, _ in found) - total if total else 0
    removed = []
    for written, size, name, job_id in found:
        if written >= oldest and over <= 0:
            break
        path = os.path.join(logs.path, name)
        if job_id not in live and not is_locked(path):
            door.remove(path)
            removed.append(name)
            over -= size
    return removed


def _logs(folder: str) -> Iterator[tuple[float, int, str, str]]:
    """When each was written last, its bytes, its name, and the id of its job."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                named = named_run(entry.name)
                if named and entry.is_file(follow_symlinks=False):
                    found = entry.stat(follow_symlinks=False)
                    yield found.st_mtime, found.st_size, entry.name, named[0]
    except FileNotFoundError:  # the folder, or a log that somebody removed meanwhile
        return
