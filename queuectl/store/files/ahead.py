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
    from collections.abc import Iterable

    from queuectl.model.job import Job

_WAITING = re.compile(
    rb'\{"id": "([^"]+)", "state": "(?:pending|failed)", "priority": (-?\d+), "run_at": "([^"]+)"'
    rb', \t?((?:"(?:after|after_end|tags|lock)": \[[^]]*\], )*)'
)


def ahead(lines: Iterable[bytes], job: Job, now: str, aging: float) -> list[tuple[Job, int]]:
    """See Store; `lines` are those of the jobs that are not dead, in their order."""
    first, due = claim_order(job, aging)
    mine, own_due, moment = job.id.encode(), due.encode(), now.encode()
    met, counts, examples = False, Counter[bytes](), dict[bytes, bytes]()
    for line in lines:
        front = _WAITING.match(line)
        if front is None:
            continue
        job_id, priority, run_at, rules = front.groups()
        if job_id == mine:
            met = True
        elif run_at <= moment:
            its = rank(int(priority), run_at.decode(), aging) if aging else int(priority)
            if its < first or (
                its == first and (run_at < own_due or (run_at == own_due and not met))
            ):
                counts[rules] += 1
                examples.setdefault(rules, line)
    return [(decode_job(line), counts[rules]) for rules, line in examples.items()]
