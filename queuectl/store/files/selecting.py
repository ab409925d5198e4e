"""The jobs of a selection as they are under the lock, without reading the queue under it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager

from queuectl.model.job import Job
from queuectl.model.selection import Selection, matches, selected
from queuectl.store.files.job_files import decode_job, line_id, line_state
from queuectl.store.files.journal import Journal
from queuectl.store.files.snapshot import Snapshot
from queuectl.store.files.writer import Writer

_LOOKS = 3  # without the lock; if folds outrun them, one more under it


@contextmanager
def selected_jobs(
    writer: Writer,
    look: Callable[[], AbstractContextManager[Snapshot | None]],
    selection: Selection,
) -> Iterator[tuple[Journal | None, list[Job]]]:
    """Takes the lock; gives the journal, read to its end, and the jobs selected then.

    The jobs are looked for before the lock is taken; under it only what the journal gained since is
    read. Without such jobs the lock is not taken and no journal is given.
    """
    for _ in range(_LOOKS):
        with look() as snapshot:
            found = list(selected(snapshot.find(selection.states), selection)) if snapshot else []
            if snapshot is None or not found:
                yield None, []
                return
            with writer.writing() as journal:
                jobs = _brought_up(found, snapshot.journal, selection)
                if jobs is not None:
                    yield journal, jobs
                    return
    with writer.writing() as journal:
        lines: Iterable[bytes] = writer.files.lines(journal)
        if selection.states is not None:
            states = {state.encode() for state in selection.states}
            lines = (line for line in lines if line_state(line) in states)
        yield journal, list(selected(map(decode_job, lines), selection))


def _brought_up(found: list[Job], journal: Journal, selection: Selection) -> list[Job] | None:
    """The jobs as the journal has them now; None if it cannot show which are selected."""
    edited = journal.edited
    lines = [line for payload in journal.read_on()[0] for line in payload.splitlines()]
    if not journal.is_current() or journal.edited != edited:
        return None
    jobs = {job.id: job for job in found}
    for job_id, line in {line_id(line): line for line in lines}.items():
        job = decode_job(line) if line_state(line) else None
        was_meant = jobs.pop(job_id.decode(), None) is not None
        is_meant = job is not None and matches(job, selection)
        if selection.limit is not None and (was_meant or is_meant):
            return None  # only another search shows which are the first ones
        if job is not None and is_meant:
            jobs[job.id] = job
    return list(jobs.values())
