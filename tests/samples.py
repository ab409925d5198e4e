"""Sample jobs, moments and outcomes for tests."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from queuectl.model.job import Job
from queuectl.model.lifecycle import Outcome
from queuectl.model.times import format_time

PYTHON = shlex.quote(sys.executable)  # this interpreter, as a word for /bin/sh
START = 1_800_000_000  # epoch seconds; some moment in 2027


def moment(seconds: float = 0.0) -> str:
    """The moment `seconds` after START, as jobs hold it."""
    return format_time(START + seconds)


def make_job(job_id: str = "job1", **fields: Any) -> Job:
    """A job as enqueued at START, but for `fields`."""
    given = {
        "state": "pending",
        "priority": 0,
        "run_at": moment(),
        "command": "true",
        "max_retries": 3,
        "created_at": moment(),
        "updated_at": moment(),
        **fields,
    }
    return Job(id=job_id, **given)


def ended(exit_code: int | None = 0, kind: Any = "exited", at: float = 5.0, error=None) -> Outcome:
    """How a run ended, `at` seconds after START."""
    return Outcome(kind, exit_code, error, moment(at))


def put(store: Any, job: Job, **kind: Any) -> None:
    """Put the job in the place of the stored one of its id."""
    assert store.change([job.id], lambda _: job, **kind) == {job.id: job}


def configure(store: Any, values: dict[str, object]) -> None:
    """Set the store's changed settings as a whole."""
    assert store.change_settings(store.settings(), values)


def read(*path: str) -> bytes:
    """What a file holds; its folder may be given before its name."""
    with open(os.path.join(*path), "rb") as file:
        return file.read()


def at_once(count: int, deed: Callable[[int], object]) -> None:
    """Let so many threads do the deed, each with its number, and raise what one of them raises."""
    with ThreadPoolExecutor(count) as pool:
        list(pool.map(deed, range(count)))


def let_rest(folder: str) -> None:
    """Make the job files old: a mistake in a young one may be half of a save, and is waited for."""
    for name in ("jobs.json", "dlq.json"):
        os.utime(os.path.join(folder, name), (1e9, 1e9))
