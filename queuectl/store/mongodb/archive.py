"""A queue in MongoDB as one file, and back; see store/backup.py."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from queuectl.errors import Conflict
from queuectl.model.job import Job
from queuectl.model.times import format_time
from queuectl.store.backup import format_backup
from queuectl.store.contract import Store
from queuectl.store.files.job_files import encode_job
from queuectl.store.mongodb.env_sets import EnvSets


class MongodbArchive:
    """See Archive. What is changed while a backup is made may be in it or not, job by job."""

    def __init__(self, store: Store, env_sets: EnvSets) -> None:
        self._store = store
        self._env_sets = env_sets

    def backup(self) -> Iterator[bytes]:
        """See Archive."""
        store = self._store
        settings, made_at = store.settings(), format_time(store.now())
        lines = map(encode_job, store.find())
        yield from format_backup(lines, settings, self._env_sets.all(), made_at)

    def refill(
        self,
        jobs: Sequence[Job],
        settings: Mapping[str, object],
        env_sets: Mapping[str, Mapping[str, Any]],
        *,
        replace: bool,
    ) -> str | None:
        """See Archive; a queue that holds jobs is left alone, whatever `replace` says."""
        store = self._store
        if any(store.counts().values()):
            raise Conflict(
                f"{self._env_sets.where} holds jobs, and the store in MongoDB has no restore over "
                "them: name an empty database"
            )
        store.make()
        ids = {name: self._env_sets.keep(form) for name, form in env_sets.items()}
        store.add(job._replace(env_set=ids.get(job.env_set or "", job.env_set)) for job in jobs)
        if not store.change_settings(store.settings(), settings):
            raise Conflict("the jobs are restored; somebody else has changed the settings")
        return None
