"""Output of runs of a queue in a database: the spool is a local file, the logs are not.

Files in the host folder's `logs/` could not be sent yet.
"""

from __future__ import annotations

import os
from contextlib import suppress

from queuectl.errors import QueuectlError, Unanswered
from queuectl.store.files.log_cut import MISSING
from queuectl.store.files.logs import LogFolder, Spool
from queuectl.store.files.printed import rest
from queuectl.store.mongodb.connection import Connection
from queuectl.store.mongodb.output import Cut, Pieces, Sender

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from queuectl.model.job import Job
    from queuectl.store.output import Printed

_LOOK = 0.2  # seconds between looks at followed output


class DatabaseLogs(LogFolder):
    """Output for a store in MongoDB: in a host folder, and as pieces in the database.

    Methods without a docstring: see Output.
    """

    def __init__(self, folder: str, connection: Connection) -> None:
        super().__init__(folder)
        self._pieces = Pieces(connection)

    def _name(self, job: Job, run: int | None) -> str:
        return os.path.basename(self.run_path(job, run))

    def open(self, job: Job, run: int | None = None) -> Printed | None:
        # It may be on this host and not sent yet.
        return self._pieces.printed(self._name(job, run)) or super().open(job, run)

    def output(self, job: Job, run: int | None = None) -> Iterator[bytes]:
        log = self._pieces.printed(self._name(job, run))
        return super().output(job, run) if log is None else rest(log, 0)

    def all_runs(self) -> Iterator[tuple[str, int, str | None]]:
        return self._pieces.all_runs()

    def keep(self, job: Job, run: int, output: Iterable[bytes]) -> None:
        self._pieces.keep(self._name(job, run), job._replace(run=run), output)

    def end(self, job: Job, most: int) -> bytes:
        """At most the last `most` bytes of the latest run's output so far."""
        try:
            log = self._pieces.printed(self._name(job, None))
            return log.read(max(0, log.size - most), most) if log else super().end(job, most)
        except QueuectlError:
            return b""

    def _follow_run(
        self, job: Job, run: int, look: Callable[[], Job], wait: Callable[[float], None]
    ) -> Iterator[bytes]:
        name, shown, now = self._name(job, run), 0, job
        while True:
            over = now.state != "in_progress" or now.run != run
            try:
                size, cut = self._pieces.end(name)
                kept = cut if cut and over and shown > cut.front else None
                if kept is None and (cut is None or over):
                    for at, data in self._pieces.spans(name, shown):
                        if at > shown:
                            yield MISSING
                        shown = at + len(data)
                        yield data
            except Unanswered:  # a set elects a primary
                self._pieces.await_answer()
                continue
            if kept:  # what follows within the kept part
                missed = kept.written - shown
                if missed > size - kept.front:
                    yield MISSING
                yield from self._pieces.read(name, max(size - missed, kept.front))
            if over:  # hence checked before the last reading
                return
            wait(_LOOK)
            now = look()

    def rescue_spool(self, worker_id: str, job: Job, limit: int = 0) -> None:
        """Keep what a dead worker's last run wrote, if it died on this host."""
        super().rescue_spool(worker_id, job, limit)
        limit = limit if job.log_limit is None else job.log_limit
        # What was sent after the front may belong to what is not kept.
        cut = Cut(0, limit // 2) if limit else None
        Sender(self._pieces).send_file(job, self.run_path(job), cut)

    def prune(self, jobs: Iterable[Job]) -> None:
        """Remove all output of these jobs."""
        doomed = list(jobs)
        self._pieces.remove(doomed)
        super().prune(doomed)

    def remove_old(
        self, age: float | None, total: int, running: Callable[[], Mapping[str, int]]
    ) -> list[str]:
        return self._pieces.remove_old(age, total)

    def spool(self, worker_id: str) -> Spool:
        """The file that takes the output of a worker's runs."""
        return SentSpool(self, worker_id, self._pieces)


class SentSpool(Spool):
    """A Spool whose content is sent to the database as it grows."""

    def __init__(self, logs: LogFolder, worker_id: str, pieces: Pieces) -> None:
        self._sender = Sender(pieces, worker_id)
        self._unsent: list[tuple[Job, str, Cut | None]] = []
        super().__init__(logs, worker_id)

    def make_ready(self) -> None:
        super().make_ready()
        with suppress(QueuectlError):
            self._send()  # what could not be sent before

    def begin(self, job: Job) -> None:
        """Prepare for this job to write into the file."""
        super().begin(job)
        self._sender.begin(job, os.path.basename(self._logs.run_path(job)), self.fd)

    def _cut(self) -> float:
        with self._sender.cutting(lambda: self._cuts.gone, self._limit // 2, self._cuts.end):
            return super()._cut()

    def is_let_go(self) -> bool:
        self._sender.end()
        return super().is_let_go()

    def finish(self, job: Job, *, clean: bool = True) -> None:
        """See Spool; what cannot be sent stays here and is sent later."""
        self._sender.end()
        written = self._cuts.gone + os.fstat(self.fd).st_size
        cut = Cut(written, self._limit // 2) if 0 < self._limit < written else None
        try:
            super().finish(job, clean=clean)
        finally:
            self._unsent.append((job, self._logs.run_path(job), cut))
        self._send()

    def _send(self) -> None:
        while self._unsent:
            self._sender.send_file(*self._unsent[-1])
            del self._unsent[-1]

    def close(self) -> None:
        self._sender.close()
        with suppress(QueuectlError):
            self._send()
        super().close()
