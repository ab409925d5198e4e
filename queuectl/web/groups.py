"""Dead jobs by what killed them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

from queuectl.model.causes import cause_of, folded, named
from queuectl.model.job import Job

_SAMPLES = 3


def cause(job: Job) -> str:
    """What killed the job, without what differs from one job to the next."""
    return named(*cause_of(job))


def group_id(job: Job) -> str:
    """The name of the job's group: a hash of its exit code and cause."""
    return hashlib.sha256(f"{job.exit_code}\n{folded(job.error or '')}".encode()).hexdigest()[:12]


def groups(jobs: Iterable[Job]) -> list[dict[str, Any]]:
    """The groups of the jobs, the largest first; `samples` are some of the newest ids."""
    found: dict[str, dict[str, Any]] = {}
    for job in jobs:
        name = group_id(job)
        group = found.get(name)
        if group is None:
            group = found[name] = {
                "group": name,
                "count": 0,
                "cause": cause(job),
                "exit_code": job.exit_code,
                "first": job.updated_at,
                "last": job.updated_at,
                "samples": [],
            }
        group["count"] += 1
        group["first"] = min(group["first"], job.updated_at)
        group["last"] = max(group["last"], job.updated_at)
        group["samples"] = [*group["samples"], job.id][-_SAMPLES:]
    return sorted(found.values(), key=lambda group: (-group["count"], group["group"]))
