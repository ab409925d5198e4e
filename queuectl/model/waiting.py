"""What keeps due jobs waiting, in a few words for a table row; `explain` says more."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

from queuectl.model.claim_order import is_ready
from queuectl.model.dependencies import parents, unmet
from queuectl.model.gate import Gate, holders, shut_by, tokens
from queuectl.model.job import Job

_MOST_NAMED = 2  # parents that are named


def waits(
    jobs: Iterable[Job],
    gate: Gate,
    running: Callable[[], Iterable[Job]],
    states: Callable[[Collection[str]], Mapping[str, str]],
    now: str,
) -> dict[str, str]:
    """What keeps each due job waiting, by id.

    Only if needed, `running` is called for the running jobs, and `states` for the states of parents
    as in dependencies.parent_state.
    """
    due = [job for job in jobs if is_ready(job, now)]
    using = holders(running(), gate) if any(tokens(job, gate) for job in due) else {}
    awaited = {name for job in due for name in parents(job)}
    known = states(awaited) if awaited else {}
    found = {}
    for job in due:
        if lacking := list(unmet(job, known.get)):
            more = " and others" * (len(lacking) > _MOST_NAMED)
            found[job.id] = f"waits for {', '.join(lacking[:_MOST_NAMED])}{more}"
        elif shut := shut_by(job, gate, using):
            found[job.id] = shut[0][1]
    return found
