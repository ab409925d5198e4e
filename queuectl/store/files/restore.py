"""Backups of a data folder, and restoring one: a single append replaces all jobs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from queuectl.errors import StoreError
from queuectl.model.job import Job
from queuectl.model.times import format_time
from queuectl.store.backup import check_refill, following, format_backup, keep_replaced
from queuectl.store.files import side_files, worker_files
from queuectl.store.files.job_files import decode_job, encode_job, removal_line
from queuectl.store.files.journal import PROMISED
from queuectl.store.files.side_files import EnvSets
from queuectl.store.files.snapshot import Snapshot
from queuectl.store.files.writer import Writer


class FileArchive:
    """Archive for the store in files; methods without a docstring: see Archive."""

    def __init__(
        self,
        writer: Writer,
        snapshot: Callable[[], AbstractContextManager[Snapshot | None]],
        settings: Callable[[], Mapping[str, object]],
        now: Callable[[], float],
    ) -> None:
        self._writer, self._env_sets = writer, writer.env_sets
        self._snapshot, self._settings, self._now = snapshot, settings, now

    def backup(self) -> Iterator[bytes]:
        settings, made_at = self._settings(), format_time(self._now())
        before = self._env_sets.read()
        with self._snapshot() as snapshot:
            lines = snapshot.lines() if snapshot else iter(())
            # Read twice: some may have been added before the snapshot, and others removed since.
            env_sets = {**before, **self._env_sets.read()}
            yield from format_backup(lines, settings, env_sets, made_at)

    def refill(
        self,
        jobs: Sequence[Job],
        settings: Mapping[str, object],
        env_sets: Mapping[str, Mapping[str, Any]],
        *,
        replace: bool,
    ) -> str | None:
        """See Archive; an earlier queue is kept as a backup in its folder."""
        backup = (jobs, settings, env_sets)
        return refill(self._writer, self._env_sets, *backup, self._now(), replace=replace)


def refill(
    writer: Writer,
    kept_sets: EnvSets,
    jobs: Sequence[Job],
    settings: Mapping[str, object],
    env_sets: Mapping[str, Mapping[str, Any]],
    now: float,
    *,
    replace: bool,
) -> str | None:
    """Replace everything by these jobs and settings, in one append.

    An earlier queue is first written to a backup in the folder, whose path is returned. Raises,
    with nothing changed, Conflict for a queue that holds jobs unless `replace` is set and for one
    that runs a job; StoreError if older workers live and the jobs need format 2. A kill just before
    the append leaves the new settings with the old jobs.
    """
    with writer.writing() as journal:
        if env_sets and journal.header.version == 1:
            raise worker_files.too_old(writer.folder)
        present = {job.id: job for job in map(decode_job, writer.files.lines(journal))}
        running = sum(job.state == "in_progress" for job in present.values())
        check_refill(len(present), running, replace=replace)
        old = side_files.read_settings(writer.folder)
        kept = None
        if present or old:
            there = map(encode_job, present.values())
            backup = format_backup(there, old, kept_sets.read(), format_time(now))
            kept = keep_replaced(writer.folder, backup, now)
        ids = kept_sets.keep_all(env_sets)
        jobs = [job._replace(env_set=ids.get(str(job.env_set), job.env_set)) for job in jobs]
        lines = [removal_line(job.id, job.state) for job in present.values()]
        lines += [encode_job(following(job, present.get(job.id))) for job in jobs]
        moves: list[tuple[str | None, str | None]] = [(j.state, None) for j in present.values()]
        moves += [(None, job.state) for job in jobs]
        side_files.write_settings(writer.folder, settings)
        try:
            if lines:
                writer.append(journal, lines, moves, PROMISED)
        except StoreError:
            side_files.write_settings(writer.folder, old)
            raise
    writer.confirm()
    return kept
