"""Logs of jobs that stay, removed by age (keep-logs) and by what all of them take (logs-total)."""

from __future__ import annotations

from queuectl.model.job import LIVE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from queuectl.job_queue import JobQueue
    from queuectl.store.output import Output


def remove_old_logs(queue: JobQueue, logs: Output) -> list[str]:
    """Remove logs of ended jobs as the settings have it, the oldest first; their names."""
    settings = queue.settings()
    age, total = settings.keep_logs, settings.logs_total
    if age is None and not total:
        return []
    return logs.remove_old(age, total, lambda: {job.id for job in queue.find(LIVE)})
