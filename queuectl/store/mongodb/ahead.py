"""The jobs that are claimed before another one, counted by the server."""

from __future__ import annotations

from typing import Any

from queuectl.model.claim_order import ahead_of
from queuectl.model.job import Job
from queuectl.store.mongodb.documents import to_job
from queuectl.store.mongodb.lanes import ready

_RULES = ("after", "after_end", "tags", "lock")


def ahead(jobs: Any, job: Job, now: str, aging: float) -> list[tuple[Job, int]]:
    """See Jobs of store/contract.py."""
    if aging:  # this order has no index
        return ahead_of(job, map(to_job, jobs.find(ready(now)).sort("_seq", 1)), now, aging)
    own = jobs.find_one({"_id": job.id}, {"_seq": 1}) or {}
    same_due = {"priority": job.priority, "run_at": job.run_at}
    before = [
        {"priority": {"$lt": job.priority}},
        {"priority": job.priority, "run_at": {"$lt": job.run_at}},
        {**same_due, "_seq": {"$lt": own.get("_seq", 0)}},
    ]
    steps: list[dict[str, Any]] = [
        {"$match": {"$and": [ready(now), {"$or": before}]}},
        {
            "$group": {
                "_id": {name: f"${name}" for name in _RULES},
                "count": {"$sum": 1},
                "example": {"$first": "$_id"},
            }
        },
    ]
    counts = {found["example"]: found["count"] for found in jobs.aggregate(steps)}
    examples = map(to_job, jobs.find({"_id": {"$in": [*counts]}}))
    return [(example, counts[example.id]) for example in examples]
