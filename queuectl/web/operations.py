"""Everything that the page and the API need from the queue: their only way to the layers below.

A JobQueue is not for two threads at once. Requests run in up to four threads, so that one that
blocks does not delay the others. Each call takes a queue object from a small stack, the one used
last, which has the least to catch up with. The event loop itself does not touch the queue.
"""

from __future__ import annotations

import os
import re
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from io import StringIO
from typing import Any, Literal, NamedTuple, TypeAlias

from queuectl.commands.context import Context
from queuectl.commands.dispatch import answer
from queuectl.commands.forms import document
from queuectl.commands.grammar.specs import find_command
from queuectl.commands.handlers.enqueue import make_absolute, set_moment
from queuectl.commands.table import COMMANDS
from queuectl.commands.zones import add_zone, zone_here
from queuectl.errors import NoSuchRun, StoreError
from queuectl.job_queue import JobQueue
from queuectl.model.dependencies import parents
from queuectl.model.job import Job
from queuectl.model.meeting import Meeting
from queuectl.model.selection import Selection, selected
from queuectl.store import opening
from queuectl.store.contract import Which
from queuectl.store.door import Presence
from queuectl.store.facts import is_selection
from queuectl.store.output import Printed
from queuectl.store.watch import Watch
from queuectl.worker import pool
from queuectl.worker.rescue import rescue

_BLOCK, _MOST_BLOCKS = 1 << 20, 64  # bytes of output searched at once, and how often
_MOST_KIN = 100  # parents, or children, listed for one job
_MOST_WRITTEN = 10_000  # jobs that requests changed, until `watch` reports them
_PLAIN = re.compile(r"[A-Za-z0-9 ._:/=-]+")  # characters that JSON does not escape


# Actions on jobs: methods of JobQueue.
Action: TypeAlias = Literal["cancel", "abandon", "retry", "retry_dead", "purge", "update_all"]


class Part(NamedTuple):
    """Some bytes of a run's output, from `offset` on; `size`: of the whole output so far.

    `complete`: the run has ended, so no more will come.
    """

    data: bytes
    offset: int
    size: int
    complete: bool


class Found(NamedTuple):
    """Where a run's output contains a text; else where to `go_on`, None if all was read."""

    offset: int | None
    go_on: int | None
    size: int
    complete: bool


class Operations:
    """The queue in a data folder, for many threads. Methods raise QueuectlError like commands.

    `environ` and `here`: of the start of the server; jobs take them along.
    """

    def __init__(self, folder: str, environ: Mapping[str, str], here: str) -> None:
        self.folder = folder
        self._environ = dict(environ)
        self._here = here
        self._umask = os.umask(0o077)  # the umask can only be read by setting it
        os.umask(self._umask)
        self._free: list[JobQueue] = []
        self._mutex = threading.Lock()
        self._presence = Presence(folder)
        self._logs = opening.output(folder)
        self._watch = opening.watch(folder)  # all threads take marks and glances from it
        # A database reports a change back a moment later: until then the list gets it from here.
        self.is_told_late = opening.is_database(folder)
        self._writes, self._written = 0, deque[tuple[str, Job | None]](maxlen=_MOST_WRITTEN)

    @contextmanager
    def queue(self) -> Iterator[JobQueue]:
        """A queue for this thread only."""
        self._presence.check()
        with self._mutex:
            queue = self._free.pop() if self._free else None
        if queue is None:
            queue = JobQueue.open(self.folder)
            queue.by = "web"
        try:
            yield queue
        finally:
            queue.notices.clear()
            with self._mutex:
                self._free.append(queue)

    @contextmanager
    def writing(self) -> Iterator[JobQueue]:
        """The same for changes; first rescues jobs of workers that died."""
        with self.queue() as queue:
            if queue.exists() and queue.lost_workers():
                rescue(queue)
            yield queue

    def _wrote(self, jobs: Iterable[Job], *, removed: bool = False) -> None:
        """Note what a request has changed."""
        self._writes += 1
        if self.is_told_late:
            self._written.extend((job.id, None if removed else job) for job in jobs)

    def written(self) -> list[tuple[str, Job | None]]:
        """Take the changes by requests that `watch` may report later, in its form."""
        return [self._written.popleft() for _ in range(len(self._written))]

    def close(self) -> None:
        """Close all queues; a small one is folded."""
        while self._free:
            self._free.pop().close()

    # -- forms that commands print

    def form(self, *words: str, **values: object) -> dict[str, Any]:
        """The document that a command prints with `--json`."""
        spec = find_command(COMMANDS, words)
        assert spec is not None
        given = {param.key: None for param in spec.params} | values
        context = Context(self.folder, environ=self._environ, err=StringIO())
        with self.queue() as queue:
            context._queue = queue
            form = answer(context, spec, given).form
            assert form is not None
            data = document(form())
            context._queue = None
        return data

    # -- jobs

    def enqueue(
        self, drafts: Sequence[Mapping[str, object]], meeting: Meeting = "refuse"
    ) -> tuple[list[Job], list[int]]:
        """Add all the jobs or none; also returns by index which stand for drafts that met others.

        InvalidInput and DuplicateId have the `index` of the wrong one.
        """
        placed = [self._placed(draft) for draft in drafts]
        jobs: list[Job] = []
        with self.writing() as queue:
            taken = queue.taken_along(self._environ, self._umask)
            instead = queue.enqueue_each(placed, jobs.append, taken, meeting)
        for index, job in instead.items():
            jobs[index] = job
        self._wrote(jobs)
        return jobs, sorted(instead)

    def _placed(self, draft: Mapping[str, object]) -> dict[str, object]:
        """The draft with its folder, and with the moment of a delay."""
        placed = {"cwd": self._here, **draft}
        make_absolute(placed, lambda: self._here)
        if placed.get("cron") and not placed.get("tz"):
            placed["tz"] = zone_here(self._environ)
        set_moment(placed)
        return placed

    def _changes(
        self, given: Mapping[str, object], meant: Callable[[], Iterable[Job]]
    ) -> dict[str, object]:
        """Changes with paths, moment and time zone as in `update` on the command line.

        `meant` gives the jobs that are changed.
        """
        changes = dict(given)
        set_moment(changes)
        make_absolute(changes, lambda: self._here)
        add_zone(changes, meant, self._environ)
        return changes

    def job(self, job_id: str) -> Job:
        """The job; raises NoSuchJob."""
        with self.queue() as queue:
            return queue.get(job_id)

    def present(self, ids: Collection[str]) -> dict[str, Job]:
        """Those of the jobs that exist, by id."""
        with closing(self._watch.glance()) as glance:
            return glance.present(ids)

    def bounds(self, job_id: str) -> dict[str, dict[str, Any]]:
        """What a job waits for and what waits for it: parents, children, and limits of its tags.

        The states by id, "gone" for a missing parent; of very many the first. Raises NoSuchJob.
        """
        with self.queue() as queue:
            job = queue.get(job_id)
            names = parents(job)[:_MOST_KIN]
            states = queue.states(names)
            children = queue.children(job_id)[:_MOST_KIN]
            limits = queue.settings().limits
        return {
            "parents": {name: states.get(name, "gone") for name in names},
            "children": {child.id: child.state for child in children},
            "limits": {tag: limits[tag] for tag in job.tags if tag in limits},
        }

    def jobs(self, selection: Selection) -> Iterator[Job]:
        """The selected jobs, the oldest first, the dead last."""
        words = selection.match
        if words is None or not _PLAIN.fullmatch(words):
            with self.queue() as queue:
                yield from selected(queue.find(selection.states), selection)
            return
        with closing(self._watch.glance()) as glance:
            yield from selected(glance.holding(selection.states, words), selection)

    def latest(self, key: str, most: int) -> tuple[list[Job], bool]:
        """At most `most` jobs with the latest time in field `key`, and whether these are all."""
        with closing(self._watch.glance()) as glance:
            return glance.latest(key, most)

    def touch(self, action: Action, which: Which, **how: Any) -> list[Job]:
        """Change the jobs meant in one step, all or none; returns them after it.

        `how`: more arguments of the action; with `exactly` among them it raises OtherJobs, and does
        nothing, if another number is meant at that moment.
        """
        with self.writing() as queue:
            if action == "update_all":
                how["changes"] = self._changes(
                    how["changes"],
                    lambda: queue.select(which) if is_selection(which) else map(queue.get, which),
                )
            done: list[Job] = getattr(queue, action)(which, **how)
        self._wrote(done, removed=action == "purge")
        if action == "purge":
            with suppress(StoreError):  # the jobs are gone, so no other one shows a log that stays
                self._logs.prune(done)
        return done

    def would_touch(
        self, action: Action, selection: Selection, goes: Callable[[Job], bool] | None = None
    ) -> list[Job]:
        """The jobs that `touch` would change now; `goes` as there."""
        with self.queue() as queue:
            found = (
                queue.would_retry(selection, alone=True)
                if action == "retry"
                else queue.select(selection)
            )
        return list(filter(goes, found))

    @contextmanager
    def _printed(self, job: Job, run: int | None) -> Iterator[tuple[Printed | None, int, bool]]:
        """A run's output (None: there is none), its size, and whether it is complete."""
        if run is not None and not 1 <= run <= job.run:
            raise NoSuchRun(job.id, run, job.run)
        ended = job.state != "in_progress" or run not in (None, job.run)
        log = self._logs.open(job, run) if job.run else None
        try:
            yield log, 0 if log is None else log.size, ended
        finally:
            if log is not None:
                log.close()

    def output(self, job: Job, run: int | None, offset: int, limit: int) -> Part:
        """A part of a run's output (None: the latest); a negative `offset` counts from its end."""
        with self._printed(job, run) as (log, size, ended):
            if log is None:
                return Part(b"", 0, 0, ended)
            begin = max(0, size + offset) if offset < 0 else min(offset, size)
            return Part(log.read(begin, limit), begin, size, ended)

    def find_output(self, job: Job, run: int | None, text: str, offset: int, back: bool) -> Found:
        """The next position of the text in a run's output, from a byte on or (`back`) before it.

        The case of ASCII letters does not matter. After 64 MiB it gives up and says where to go on.
        """
        needle = text.encode().lower()
        with self._printed(job, run) as (log, size, ended):
            at: int | None = min(offset, size)
            for _ in range(_MOST_BLOCKS):
                if log is None or at is None:
                    break
                begin = max(0, at - _BLOCK) if back else at
                # With the bytes that a hit beginning in the block may need beyond it.
                most = (at - begin if back else _BLOCK) + len(needle) - 1
                block = log.read(begin, most).lower()
                hit = block.rfind(needle) if back else block.find(needle)
                if hit >= 0:
                    return Found(begin + hit, None, size, ended)
                at = begin if back else begin + _BLOCK
                at = at if 0 < at < size else None
            return Found(None, at, size, ended)

    # -- workers

    def start_workers(self, count: int) -> list[int]:
        """Start `count` more workers; returns their pids."""
        with self.writing() as queue:
            queue.settings()
        return pool.start(self.folder, count)

    def stop_workers(self, names: Sequence[str] | None, *, now: bool = False) -> list[int]:
        """Tell workers (None: all) to stop, without waiting; returns their pids."""
        told: list[int] = []

        def leave(pids: list[int]) -> None:
            told.extend(pids)
            raise _Told

        with self.queue() as queue:
            only = None if names is None else {found.id for found in pool.named(queue, names)}
            with suppress(_Told):
                pool.stop(queue, now=now, only=only, on_wait=leave)
        return told

    def scale_workers(self, count: int) -> tuple[list[int], list[int]]:
        """Scale to `count` workers on this host: the pids of those started, and told to stop."""
        with self.queue() as queue:
            living = len(pool.living_here(queue))
            spare = [worker.id for worker in pool.spare(queue, count)]
        if count > living:
            return self.start_workers(count - living), []
        return [], self.stop_workers(spare) if spare else []

    # -- what changes

    def mark(self) -> object:
        """A value that differs from an earlier one if anything may have changed."""
        self._presence.check()
        return self._watch.mark(), self._writes

    def watch(self) -> Watch:
        """A watch that reports which jobs change from now on; for one thread at a time."""
        return opening.watch(self.folder)


class _Told(Exception):
    """Ends the wait once the workers were told to stop."""
