"""Dead jobs by what killed them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Any

from queuectl.model.job import Job

_SAMPLES = 3
_PATH = re.compile(r"(?:/[^\s/:'\"]+){2,}/?")
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ][\d:.]+Z?|\d\d:\d\d(?::\d\d(?:\.\d+)?)?")
_HEX = re.compile(r"\b0x[0-9a-fA-F]+\b|\b(?=[a-f]*\d)[0-9a-f]{7,}\b")
_NUMBER = re.compile(r"\d+")


def cause(job: Job) -> str:
    """What killed the job, without what differs from one job to the next."""
    text = (job.error or "unknown")[:1000]
    exits = job.error == f"exit code {job.exit_code}"
    if not exits:
        for pattern in (_QUOTED, _TIME, _PATH, _HEX, _NUMBER):
            text = pattern.sub("*", text)
    return text


def group_id(job: Job) -> str:
    """The name of the job's group: a hash of its exit code and cause."""
    return hashlib.sha256(f"{job.exit_code}\n{cause(job)}".encode()).hexdigest()[:12]


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
