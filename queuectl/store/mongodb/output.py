"""Output of runs in the database, in pieces, so that every host can show it while the job runs.

A command writes to the worker's spool, a local file; a thread sends on what is new. What a host
printed in the second before it was lost is gone with it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

from pymongo import WriteConcern
from pymongo.operations import ReplaceOne

from queuectl.errors import QueuectlError
from queuectl.model.job import Job
from queuectl.store.files import door
from queuectl.store.mongodb.connection import Connection

PIECE = 1 << 18  # bytes
PAUSE = 0.5  # seconds between looks at the spool


class Pieces:
    """The pieces of all runs: documents of the collection `logs`.

    `name` is that of the log's file, as a data folder would have it; `at` is the offset.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def send(self, name: str, job: Job, at: int, data: bytes, *, promised: bool) -> None:
        """Keep some bytes of a run's output; once more does no harm."""
        head = {"name": name, "job": job.id, "run": job.run, "word": job.log_word}
        steps = []
        for start in range(0, len(data), PIECE):
            document = {"_id": f"{name}:{at + start:015d}", **head, "at": at + start}
            document["data"] = data[start : start + PIECE]
            steps.append(ReplaceOne({"_id": document["_id"]}, document, upsert=True))
        logs = self._connection.database.logs
        if not promised:
            logs = logs.with_options(write_concern=WriteConcern(w=1))
        with self._connection.told():
            if steps:
                logs.bulk_write(steps)

    def read(self, name: str, start: int = 0) -> Iterator[bytes]:
        """What there is of a run's output behind the first `start` bytes."""
        with self._connection.told():
            asked: dict[str, Any] = {"name": name, "at": {"$gt": start - PIECE}}
            for document in self._connection.database.logs.find(asked).sort("at", 1):
                data = document["data"][max(0, start - document["at"]) :]
                start += len(data)
                if data:
                    yield data

    def size(self, name: str) -> int:
        """How many bytes there are of a run's output."""
        with self._connection.told():
            last = self._connection.database.logs.find({"name": name}).sort("at", -1).limit(1)
            return sum(document["at"] + len(document["data"]) for document in last)

    def remove(self, jobs: Iterable[Job]) -> None:
        """Remove the output of these jobs."""
        with self._connection.told():
            for job in jobs:
                # Not by the id alone: another job may have it by now.
                self._connection.database.logs.delete_many({"job": job.id, "word": job.log_word})


class Sender:
    """Sends on the output of one worker's runs as its spool grows."""

    def __init__(self, pieces: Pieces) -> None:
        self._pieces = pieces
        self._lock = threading.Lock()
        self._job: Job | None = None
        self._name, self._fd, self._sent = "", -1, 0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self, job: Job, name: str, fd: int) -> None:
        """A run begins to write into an empty file."""
        with self._lock:
            self._job, self._name, self._fd, self._sent = job, name, fd, 0
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="output", daemon=True)
            self._thread.start()

    def end(self) -> None:
        """The run is over: what is left in the file is for `send_file`."""
        with self._lock:
            self._job, self._fd = None, -1

    def send_file(self, job: Job, path: str) -> None:
        """Send what a finished run has written, then remove the file."""
        name = os.path.basename(path)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        try:
            at = self._sent if name == self._name else self._pieces.size(name)
            size = os.fstat(fd).st_size
            while at < size:
                data = os.pread(fd, 4 * PIECE, at)
                self._pieces.send(name, job, at, data, promised=at + len(data) >= size)
                at += len(data)
        finally:
            os.close(fd)
        door.remove(path)

    def close(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(2.0)

    def _run(self) -> None:
        while not self._stop.wait(PAUSE):
            with self._lock, suppress(QueuectlError, OSError):
                while self._job is not None:
                    data = os.pread(self._fd, PIECE, self._sent)
                    if not data:
                        break
                    self._pieces.send(self._name, self._job, self._sent, data, promised=False)
                    self._sent += len(data)
