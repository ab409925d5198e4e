"""The part of every store that keeps what runs print: where, and how it is read back.

Nothing imports this as it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol

from queuectl.model.job import Job


class Spool(Protocol):
    """The file of a worker, on its host, that takes the output of its runs, one after the other."""

    fd: int  # what a command is given
    path: str
    kept: int  # bytes that became logs; whoever looks after those sets it back to 0

    @property
    def is_ready(self) -> bool:
        """Whether a run may write to the file."""

    def make_ready(self) -> None:
        """Open the file for the next run, if it is not; DiskRefused if that fails."""

    def begin(self, job: Job) -> None:
        """The job is going to write into the file."""

    def limit_to(self, limit: int) -> None:
        """Keep at most so many bytes of each run, 0 for all, unless its job says otherwise."""

    def look(self, tell: Callable[[Exception], None]) -> float:
        """Do what is due while a run writes; seconds until the next look. `tell`: of a refusal."""

    def is_let_go(self) -> bool:
        """Whether no process that inherited the file has it open any more."""

    def finish(self, job: Job, *, clean: bool = True) -> None:
        """Keep what the run has written as its output, if anything; DiskRefused if that fails.

        Unless it is `clean`, something may still write.
        """

    def reason(self) -> str:
        """What was written of why the run failed, as model/log_words.py has it."""

    def close(self) -> None:
        """Let go of the file and remove it if nothing is in it."""


class Printed(Protocol):
    """What one run has printed, as it was when it was opened; any part of it."""

    size: int  # bytes

    def read(self, begin: int, most: int) -> bytes:
        """At most so many bytes behind the first `begin`; fewer only at the end."""

    def close(self) -> None:
        """Let go of it."""


class Output(Protocol):
    """What runs print. The latest run is meant where none is given; StoreError as everywhere."""

    path: str  # the folder on this host for spools, and for what workers themselves have to say

    def make(self) -> None:
        """Make that folder, if it is missing; FileMissing if the queue's folder is gone."""

    def spool(self, worker_id: str) -> Spool:
        """The open file that takes the output of a worker's runs."""

    def output(self, job: Job, run: int | None = None) -> Iterator[bytes]:
        """All that the run has written so far."""

    def tail(self, job: Job, lines: int, run: int | None = None) -> Iterator[bytes]:
        """The last `lines` lines that the run has written so far."""

    def end(self, job: Job, most: int) -> bytes:
        """At most the last `most` bytes that the latest run has written so far; never raises."""

    def open(self, job: Job, run: int | None = None) -> Printed | None:
        """The run's output, of which only what is read is fetched; None if there is none yet."""

    def follow(
        self,
        look: Callable[[], Job],
        wait: Callable[[float], None],
        begins: Callable[[int], None],
        waits: Callable[[Job], None],
        shown: int | None = None,
    ) -> Iterator[bytes]:
        """The output of a job's runs behind the first `shown` (None: all but one), as it appears.

        It ends with the job; one that has not run yet is waited for. `look` returns the job as it
        is now and may raise NoSuchJob; `wait` lets that many seconds pass, or fewer. `begins` is
        told each run before its output, `waits` the job whenever its next run is awaited.
        """

    def all_runs(self) -> Iterator[tuple[str, int, str | None]]:
        """Of each run with output the id of its job, its number, and the job's `log_word`."""

    def keep(self, job: Job, run: int, output: Iterable[bytes]) -> None:
        """Keep what another queue has as the output of a run."""

    def places(self, worker_id: str, jobs: Iterable[Job]) -> list[str]:
        """The files of this host to which the latest runs of these jobs of a worker may write."""

    def is_held(self, worker_id: str, jobs: Iterable[Job]) -> bool:
        """Whether something lives that inherited the output of one of these runs."""

    def rescue_spool(self, worker_id: str, job: Job, limit: int = 0) -> None:
        """Keep what a dead worker's last run had written; `limit`: bytes, 0 for all."""

    def drop_spool(self, worker_id: str) -> None:
        """Remove the spool of a dead worker."""

    def prune(self, jobs: Iterable[Job]) -> None:
        """Remove all output of these jobs, and what older ones left that had the same ids.

        StoreError for the first that cannot be removed, when all others are.
        """

    def remove_old(
        self, age: float | None, total: int, running: Callable[[], Mapping[str, int]]
    ) -> list[str]:
        """Remove output, the oldest first, that is older than `age` seconds, or makes too much.

        `total`: bytes that all may take, 0 for any. None that something still writes to, and
        none of what runs: `running` gives the jobs and their runs. The names of what was removed.
        """
