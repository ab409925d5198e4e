"""The jobs that are claimed before another one, counted by the fronts of their lines.

A hundred thousand may wait: of those with the same rules only the first is parsed.
"""

from __future__ import annotations

import re
from collections import Counter

from queuectl.model.claim_order import claim_order, rank
from queuectl.store.files.job_files import decode_job

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from queuectl.model.job import Job
    from queuectl.store.files.snapshot import Snapshot

_WAITING = re.compile(
    rb'\{"id": "([^"]+)", "state": "(?:pending|failed)", "priority": (-?\d+), "run_at": "([^"]+)"'
    rb', \t?((?:"(?:after|after_end|tags|lock)": \[[^]]*\], )*)'
)


def ahead(snapshot: Snapshot, job: Job, now: str, aging: float) -> list[tuple[Job, int]]:
    """See Jobs of store/contract.py."""
    first, due = claim_order(job, aging)
    mine, own_due, moment = job.id.encode(), due.encode(), now.encode()
    met, counts, examples = False, Counter[bytes](), dict[bytes, re.Match[bytes]]()
    for front in _fronts(snapshot):
        job_id, priority, run_at, rules = front.groups()
        if job_id == mine:
            met = True
        elif run_at <= moment:
            its = rank(int(priority), run_at.decode(), aging) if aging else int(priority)
            if its < first or (
                its == first and (run_at < own_due or (run_at == own_due and not met))
            ):
                counts[rules] += 1
                if rules not in examples:
                    examples[rules] = front
    return [(_job_of(front), counts[rules]) for rules, front in examples.items()]


def _fronts(snapshot: Snapshot) -> Iterator[re.Match[bytes]]:
    """The fronts of the lines of waiting jobs; those that changed come last, as for a claim."""
    match, newer = _WAITING.match, snapshot.overlay
    for piece in snapshot.base_pieces():
        for line in piece.split(b"\n"):
            if (front := match(line)) and front[1] not in newer:
                yield front
    yield from filter(None, map(match, newer.values()))


def _job_of(front: re.Match[bytes]) -> Job:
    return decode_job(front.string.rstrip(b","))
