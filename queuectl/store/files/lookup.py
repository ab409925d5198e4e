"""Finding single jobs by the front of their line, without reading the queue."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import chain
from json.encoder import encode_basestring

from queuectl.errors import NoSuchJob
from queuectl.model.job import Job
from queuectl.places import DEAD, JOBS
from queuectl.store.files.job_files import (
    decode_job,
    find_line,
    is_live,
    line_id,
    line_state,
    lines_with,
    read_lines,
    read_lines_with,
)
from queuectl.store.files.journal import Journal
from queuectl.store.files.own_files import OwnFiles

FEW = 20  # ids; more are searched for in one pass over all lines
Found = tuple[bytes, str]  # the job's line, the file that holds the job


@contextmanager
def named_jobs(
    writing: AbstractContextManager[Journal],
    look_up: Callable[[Journal, Collection[str]], dict[str, Found]],
    ids: Collection[str],
) -> Iterator[tuple[Journal, Iterator[Job]]]:
    """Takes the lock; gives the journal, read to its end, and the jobs. Raises NoSuchJob."""
    with writing as journal:
        found = look_up(journal, ids)

        def jobs() -> Iterator[Job]:
            for job_id in dict.fromkeys(ids):
                if job_id not in found:
                    raise NoSuchJob(job_id)
                yield decode_job(found[job_id][0])

        yield journal, jobs()


def find_jobs(
    journal: Journal, jobs_fd: int, dead_fd: int, ids: Collection[str]
) -> dict[str, Found]:
    """The present lines of the jobs that exist, by id."""
    found = _in_journal(journal, ids)
    missing = [job_id for job_id in ids if job_id not in found]
    for fd, where in ((jobs_fd, JOBS), (dead_fd, DEAD)):
        for job_id, line in _in_file(fd, missing):
            found[job_id] = (line, where)
    return {job_id: (line, where) for job_id, (line, where) in found.items() if line_state(line)}


def _in_journal(journal: Journal, ids: Collection[str]) -> dict[str, Found]:
    """The last journal line, perhaps a removal, of each job that has one."""
    if len(ids) > FEW:
        lines = dict(_wanted(journal.all_lines(), ids))
    else:
        text = journal.text()
        pairs = ((job_id, _last_line(text, job_id)) for job_id in ids)
        lines = {job_id: line for job_id, line in pairs if line is not None}
    return {
        job_id: (line, DEAD if line_state(line) == b"dead" else JOBS)
        for job_id, line in lines.items()
    }


def _last_line(text: bytes, job_id: str) -> bytes | None:
    start = text.rfind(b'\n{"id": "%s", ' % job_id.encode()) + 1
    return text[start : text.index(b"\n", start)] if start else None


def _in_file(fd: int, ids: Collection[str]) -> Iterator[tuple[str, bytes]]:
    if len(ids) > FEW:
        yield from _wanted(read_lines(fd), ids)
        return
    for job_id in ids:
        line = find_line(fd, job_id)
        if line is not None:
            yield job_id, line


def _wanted(lines: Iterable[bytes], ids: Collection[str]) -> Iterator[tuple[str, bytes]]:
    wanted = {job_id.encode() for job_id in ids}
    for line in lines:
        job_id = line_id(line)
        if job_id in wanted:
            yield job_id.decode(), line


def find_holders(files: OwnFiles, journal: Journal, keys: Collection[str]) -> dict[str, list[Job]]:
    """The live jobs with each of these `unique` keys, found by the bytes of their lines."""
    if not keys:
        return {}
    few, text = len(keys) <= FEW, journal.text()
    needles = (
        [b'"unique": ' + encode_basestring(key).encode() for key in keys]
        if few
        else [b'"unique": "']
    )
    newer = lines_with(text, needles) if few else journal.all_lines()
    newest = {line_id(line): line for line in newer}
    with files.open(journal, 0) as jobs:
        lines = (line for line in read_lines_with(jobs.fd, needles) if line_id(line) not in newest)
        older = list(filter(is_live, lines))
    found: dict[str, list[Job]] = {key: [] for key in keys}
    for line in chain(older, filter(is_live, newest.values())):
        # A newer line may lack the key: a person removed it, or the job is gone.
        if not few or _last_line(text, line_id(line).decode()) in (None, line):
            job = decode_job(line)
            if job.unique in found:
                found[job.unique].append(job)
    return found
