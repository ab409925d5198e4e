"""What becomes of a new job that meets others: with the same id, or live with its unique key."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

from queuectl.errors import InvalidInput
from queuectl.model.job import CLAIMABLE, Job
from queuectl.model.lifecycle import replaced

# "refuse" raises, "keep" keeps the existing job, "replace" changes it if it waits.
Meeting: TypeAlias = Literal["refuse", "keep", "replace"]


def check_meeting(job: Job, meeting: Meeting, index: int, *, has_id: bool) -> None:
    """Raise InvalidInput if the job has nothing by which it could meet another."""
    told = ""
    if meeting == "keep" and not has_id and job.unique is None:
        told = "--if-absent looks for a job by its id or unique key: give one"
    elif meeting == "replace" and job.unique is None:
        told = "--replace looks for a job by its unique key: give one"
    elif meeting == "replace" and has_id:
        told = "a job that is replaced keeps its id: give none with --replace"
    if told:
        raise InvalidInput(told, index=index)


def meeting_rule(
    meeting: Meeting, instead: dict[int, Job], check_size: Callable[[Job], None], now: str
) -> Callable[[int, Job, Sequence[Job]], Job | None]:
    """The rule by which a store decides what becomes of a new job that meets others; see Meet.

    `instead` is called with each job that stands in for a new one.
    """

    def meet(index: int, job: Job, others: Sequence[Job]) -> Job | None:
        waiting = [other for other in others if other.state in CLAIMABLE]
        if meeting == "keep":
            instead[index] = others[0] if others[0].id == job.id else (waiting or others)[0]
            return None
        # Behind one that runs: at most one of a key runs, and one waits.
        running = (other.id for other in others if other.state == "in_progress")
        behind = tuple(dict.fromkeys((*job.after_end, *running)))
        if not waiting:
            return job._replace(after_end=behind)
        new = replaced(waiting[-1], job, now)
        check_size(new)  # before `behind` is set: a store that cannot hold it drops it
        instead[index] = new = new._replace(after_end=behind)
        return new

    return meet
