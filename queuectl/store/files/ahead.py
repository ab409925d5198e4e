"""The jobs that are claimed before another one, counted from the fronts of their lines.

A hundred thousand may wait, so no line is parsed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator
from operator import itemgetter

from queuectl.model.claim_order import claim_order, rank
from queuectl.model.job import Job
from queuectl.store.files.job_files import decode_job
from queuectl.store.files.snapshot import Snapshot

# Begins with a newline: a search that starts with fixed bytes is the fastest way through a file.
_WAITING = re.compile(
    rb'\n\{"id": "([^"]+)", "state": "(?:pending|failed)", "priority": (-?\d+), "run_at": "([^"]+)"'
    rb', \t?((?:"(?:after|after_end|tags|lock)": \[[^]]*\], )*)'
)
_SAID = itemgetter(1, 2, 3)
# A line with only what matters of such a job; its id is not a job's.
_KIND = (
    b'{"id": " %d", "state": "pending", "priority": 0, "run_at": "", %b"command": "", '
    b'"max_retries": 0, "updated_at": ""}'
)


def ahead(snapshot: Snapshot, job: Job, now: str, aging: float) -> list[tuple[Job, int]]:
    """See Jobs of store/contract.py."""
    mine, name = claim_order(job, aging), job.id.encode()
    own = b'\n{"id": "%b", ' % name
    earlier, later = Counter[tuple[bytes, ...]](), Counter[tuple[bytes, ...]]()
    into = earlier
    for text, newer in _texts(snapshot):
        head, met, rest = text.partition(own) if name not in newer else (text, b"", b"")
        into.update(_fronts(head, newer))
        if met:
            into = later
            into.update(_fronts(rest, newer))
    counts = Counter[bytes]()
    for found, most in ((earlier, (mine, True)), (later, (mine, False))):
        for (priority, run_at, rules), count in found.items():
            due = run_at.decode()
            order = rank(int(priority), due, aging), due
            if due <= now and (order, False) < most:
                counts[rules] += count
    kinds = enumerate(counts.items())
    return [(decode_job(_KIND % (at, rules)), count) for at, (rules, count) in kinds]


def _texts(snapshot: Snapshot) -> Iterator[tuple[bytes, Collection[bytes]]]:
    """The lines of all jobs, each after a newline, and the ids of the jobs with newer lines.

    The newer lines come last, as for a claim.
    """
    for piece in snapshot.base_pieces():
        yield b"\n" + piece, snapshot.overlay
    yield b"\n" + b"\n".join(snapshot.overlay.values()), ()


def _fronts(text: bytes, newer: Collection[bytes]) -> Iterator[tuple[bytes, ...]]:
    """Priority, due time and rules of the waiting jobs."""
    found = _WAITING.findall(text)
    return map(_SAID, [front for front in found if front[0] not in newer] if newer else found)
