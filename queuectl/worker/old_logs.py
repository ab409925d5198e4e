"""Removes ended jobs by age (keep-finished), and logs of ended runs by age (keep-logs) and by total
size (logs-total)."""

from __future__ import annotations

from queuectl.job_queue import JobQueue
from queuectl.store.output import Output


def remove_old_logs(queue: JobQueue, logs: Output) -> list[str]:
    """Remove logs of ended runs by the settings, the oldest first; returns their names."""
    settings = queue.settings()
    age, total = settings.keep_logs, settings.logs_total
    if age is None and not total:
        return []
    return logs.remove_old(
        age, total, lambda: {job.id: job.run for job in queue.find(("in_progress",))}
    )


def remove_old(queue: JobQueue, logs: Output) -> None:
    """Remove ended jobs and logs by the settings."""
    if removed := queue.purge_old():
        logs.prune(removed)
    remove_old_logs(queue, logs)
