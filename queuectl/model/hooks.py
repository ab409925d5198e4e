"""Hooks: the jobs that on-dead, on-completed and on-cancelled add when another job ends."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from queuectl.model.dependencies import LOST, fell_with, has_fallen
from queuectl.model.fields import PRIORITY_SPAN
from queuectl.model.ids import MadeIds
from queuectl.model.job import FINISHED, Job, log_name

TAG, FRONT = "hook", "hook:"
_TIMEOUT, _RETRIES = 60.0, 3
_LONGEST_ERROR = 4000  # characters; one variable cannot be of any length


def hooks_of(
    pairs: Iterable[tuple[Job, Job]], commands: Mapping[str, str], ids: MadeIds, folder: str | None
) -> list[Job]:
    """The hooks for the ends among `pairs`, which are jobs before and after a change.

    `commands`: by the state in which a job ends. What describes the job is passed in variables
    only: in a command it would be read as syntax. A hook's own end has no hook. `folder` is the
    data folder, None if each host has its own; a path that is not UTF-8 is left out.
    """
    if folder is not None and not _is_text(folder):
        folder = None
    return [
        _hook(new, commands[new.state], f"{FRONT}{ids.take()}", folder)
        for new in _told(new for old, new in pairs if old.state not in FINISHED)
        if new.state in commands
    ]


def _told(ended: Iterable[Job]) -> Iterator[Job]:
    """The jobs that get a hook, one for each cause: ten thousand may fall with it.

    If the cause has `notify` false, the first job with `notify` that fell with it gets the hook.
    """
    causes: dict[str, Job] = {}
    untold: set[str] = set()
    for job in ended:  # a parent comes before the jobs that fall with it
        cause = causes.get(fell_with(job)) if job.state in LOST and has_fallen(job) else job
        if cause is None:
            continue
        causes[job.id] = cause
        if cause is job and not job.notify:
            untold.add(job.id)
        elif cause is job or (job.notify and cause.id in untold):
            untold.discard(cause.id)
            yield job


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _hook(job: Job, command: str, hook_id: str, folder: str | None) -> Job:
    now = job.updated_at  # when it ended: the claim of that moment may take the hook
    log = f"{folder}/logs/{log_name(job)}" if job.run and folder else ""
    env = {
        "QUEUECTL_EVENT": job.state,
        "QUEUECTL_OF": job.id,
        "QUEUECTL_EXIT_CODE": "" if job.exit_code is None else str(job.exit_code),
        "QUEUECTL_ERROR": (job.error or "")[:_LONGEST_ERROR].replace("\0", ""),
        "QUEUECTL_LOG": log,
    }
    return Job(
        *(hook_id, "pending", -PRIORITY_SPAN, now, command, _RETRIES, now, now),
        timeout=_TIMEOUT,
        cwd=folder,
        env=env,
        tags=(TAG,),
        notify=False,
    )


def is_hook(job: Job) -> bool:
    """Whether the job was added because another one ended."""
    return job.id.startswith(FRONT) and TAG in job.tags
