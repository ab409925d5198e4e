"""Where the output of a queue's runs lies: in its data folder, or in its database."""

from __future__ import annotations

from queuectl.addresses import address_of
from queuectl.store.files.logs import LogFolder


def logs_of(folder: str) -> LogFolder:
    """The output of the queue that the folder stands for."""
    if address_of(folder):
        from queuectl.store.mongodb.database_logs import DatabaseLogs

        return DatabaseLogs(folder)
    return LogFolder(folder)
