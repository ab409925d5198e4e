"""The part of every store that keeps the output of runs, and reads it back.

Nothing imports this at run time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol

from queuectl.model.job import Job


class Spool(Protocol):
    """A worker's file on its host that takes the output of its runs, one after the other."""

    fd: int  # the descriptor that a command gets
    path: str
    kept: int  # bytes that became logs; the code that prunes logs sets it back to 0

    @property
    def is_ready(self) -> bool:
        """Whether a run may write to the file."""

    def make_ready(self) -> None:
        """Open the file for the next run unless it is open; DiskRefused if that fails."""

    def begin(self, job: Job) -> None:
        """Prepare for this job to write into the file."""

    def limit_to(self, limit: int) -> None:
        """Keep at most `limit` bytes of each run (0: all), unless its job says otherwise."""

    def look(self, tell: Callable[[Exception], None]) -> float:
        """Do what is due while a run writes; returns seconds until the next look.

        `tell` is called with the error if the disk refuses something.
        """

    def is_let_go(self) -> bool:
        """Whether no process that inherited the file still has it open."""

    def finish(self, job: Job, *, clean: bool = True) -> None:
        """Keep what the run wrote, if anything, as its output; DiskRefused if that fails.

        If the end is not `clean`, a process may still write.
        """

    def reason(self) -> str:
        """The line of the output that says why the run failed, see model/log_words.py."""

    def close(self) -> None:
        """Close the file, and remove it if it is empty."""


class Printed(Protocol):
    """The output of one run as it was when it was opened, readable from any position."""

    size: int  # bytes

    def read(self, begin: int, most: int) -> bytes:
        """At most `most` bytes from position `begin`; fewer only at the end."""

    def close(self) -> None:
        """Close it."""


class Output(Protocol):
    """The output of runs. Without `run` the latest is meant. All may raise StoreError."""

    path: str  # the folder on this host for spools and for the workers' own messages

    def make(self) -> None:
        """Make that folder if it is missing; FileMissing if the queue's folder is gone."""

    def spool(self, worker_id: str) -> Spool:
        """The open file that takes the output of a worker's runs."""

    def output(self, job: Job, run: int | None = None) -> Iterator[bytes]:
        """All that the run has written so far."""

    def tail(self, job: Job, lines: int, run: int | None = None) -> Iterator[bytes]:
        """The last `lines` lines that the run has written so far."""

    def end(self, job: Job, most: int) -> bytes:
        """At most the last `most` bytes of the latest run's output so far; never raises."""

    def open(self, job: Job, run: int | None = None) -> Printed | None:
        """The run's output, fetched only as it is read; None if there is none yet."""

    def follow(
        self,
        look: Callable[[], Job],
        wait: Callable[[float], None],
        begins: Callable[[int], None],
        waits: Callable[[Job], None],
        shown: int | None = None,
    ) -> Iterator[bytes]:
        """The output of a job's runs after the first `shown` (None: all but one), as it appears.

        It ends with the job and waits for a job that has not run yet. `look` returns the job as it
        is now and may raise NoSuchJob; `wait` lets that many seconds pass, or fewer. `begins` is
        called with each run before its output, `waits` with the job when its next run is awaited.
        """

    def all_runs(self) -> Iterator[tuple[str, int, str | None]]:
        """For each run with output: the id of its job, its number, and the job's `log_word`."""

    def keep(self, job: Job, run: int, output: Iterable[bytes]) -> None:
        """Keep output from another queue as the output of a run."""

    def places(self, worker_id: str, jobs: Iterable[Job]) -> list[str]:
        """The files of this host that the latest runs of these jobs of a worker may write to."""

    def is_held(self, worker_id: str, jobs: Iterable[Job]) -> bool:
        """Whether a process that inherited the output of one of these runs still lives."""

    def rescue_spool(self, worker_id: str, job: Job, limit: int = 0) -> None:
        """Keep what a dead worker's last run had written; `limit`: bytes, 0 for all."""

    def drop_spool(self, worker_id: str) -> None:
        """Remove the spool of a dead worker."""

    def prune(self, jobs: Iterable[Job]) -> None:
        """Remove all output of these jobs, and what older jobs with the same ids left.

        Raises StoreError for the first that cannot be removed, after removing all others.
        """

    def remove_old(
        self, age: float | None, total: int, running: Callable[[], Mapping[str, int]]
    ) -> list[str]:
        """Remove output older than `age` seconds, and the oldest output beyond the `total`.

        `total`: bytes that all output may take, 0 for any number. Output that is still written to,
        or belongs to the `running` jobs and runs, stays. Returns the names of what was removed.
        """
