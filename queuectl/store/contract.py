"""What every store keeps. It knows jobs and their `rev`, but no rule of a job's life but claiming.

Times are RFC 3339 text as in a job. Every method raises StoreError when the store cannot be used,
and then changed nothing; what `add`, `change` and `remove` returned for is durable.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from queuectl.model.job import Job

Rule = Callable[[Job], "Job | None"]  # the job as it should be; None: leave it as it is


class Claim(NamedTuple):
    """What `claim` did: the job to run, if any.

    If the finished job was not `settled` because somebody changed it first, nothing was claimed
    either, and `stored` is its present form (None: it is no longer live).
    """

    job: Job | None
    settled: bool = True
    stored: Job | None = None


class Store(Protocol):
    """A place where jobs lie. All methods are atomic and safe from many processes at once."""

    def add(
        self,
        jobs: Iterable[Job],
        named: Mapping[str, int] | None = None,
        env_set: Mapping[str, Any] | None = None,
    ) -> None:
        """Add all the jobs, or none and raise DuplicateId; they need not fit into memory.

        `named`: the ids that may exist already, each once, and the index of its job; it is looked
        at when all jobs were taken. Without it all ids may. `env_set`, in the form of
        model/env_set.py, is kept under the id of it that all the jobs hold.
        """

    def set_id(self, env_set: Mapping[str, Any]) -> str:
        """The id under which `add` will keep the set."""

    def env_set(self, job: Job) -> Mapping[str, Any] | None:
        """The job's set of captured variables, None if it has none; NoSuchSet if that is gone."""

    def get(self, job_id: str) -> Job | None:
        """The job, wherever it lies, or None."""

    def find(self, states: Collection[str] | None = None) -> Iterator[Job]:
        """The jobs in one of the states (None: all): first in first, the dead last."""

    def counts(self) -> dict[str, int]:
        """How many jobs are in each state; every state is there."""

    def claim(
        self,
        worker: str,
        now: str,
        finished: tuple[Job, Job] | None = None,
        log_word: str | None = None,
    ) -> Claim:
        """Put `finished`'s new job for its old one, then claim the first ready job for `worker`.

        Neither is done if the old one's rev is no longer the stored one; see Claim. `log_word` is
        for the logs of a job that never ran before.
        """

    def change(self, ids: Collection[str], rule: Rule, promised: bool = True) -> dict[str, Job]:
        """Put `rule(job)` for each of the jobs, all or none; returns those that changed, by id.

        Raises NoSuchJob, and what the rule raises. It sees the jobs as they are and nobody comes
        between; None from it leaves a job be, a new job must have another rev. What is not
        `promised` may be forgotten in a power cut, and is not synced.
        """

    def remove(self, jobs: Sequence[Job]) -> list[Job]:
        """Remove the jobs that are stored just as they are given; returns those that are not."""

    def settings(self) -> Mapping[str, object]:
        """The settings that were changed, as they were written."""

    def change_settings(self, old: Mapping[str, object], new: Mapping[str, object]) -> bool:
        """Replace the changed settings as a whole; False if they are no longer `old`."""

    def now(self) -> float:
        """The store's clock: seconds since 1970."""

    def wait(self, seconds: float) -> None:
        """Return after `seconds`, or earlier when something may have changed."""

    def check(self) -> list[str]:
        """What is wrong with the store, a line each; empty if all is well."""

    def close(self) -> None:
        """Let go of everything held."""
