"""What completion knows about the queue: read without locks, seldom, and never raising."""

from __future__ import annotations

import time
from _thread import allocate_lock  # threading costs a Tab in another shell 2 ms

from queuectl.errors import UNREADABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from queuectl.config import Settings
    from queuectl.store.facts import WorkerInfo
    from queuectl.store.watch import Peek, Seen, Watch

# A queue that changes all the time is read again after 20 times as long as the last reading took:
# that costs at most a twentieth of a processor, and a small queue is always fresh.
_REST, _LONGEST_REST = 20.0, 0.3  # times; seconds
_MOST = 300  # jobs of a kind; nobody reads a longer menu


class LiveQueue:
    """The jobs, settings and workers of a queue; its methods may be called by any thread.

    While the queue cannot be read, the last reading remains.
    """

    def __init__(
        self, watch: Watch, clock: Callable[[], float] = time.monotonic, most: int = _MOST
    ) -> None:
        self._watch = watch
        self._most = most
        self._clock = clock
        self._mutex = allocate_lock()
        self._peek: Peek | None = None
        self._mark: object = None
        self._rest_until = float("-inf")
        self._jobs: dict[tuple[tuple[str, ...] | None, str], Sequence[Seen]] = {}
        self._tags: list[str] | None = None

    def jobs(self, states: tuple[str, ...] | None, start: str = "") -> Sequence[Seen]:
        """Jobs in these states (None: any) whose ids begin with `start`, newest first."""
        with self._mutex:
            try:
                self._refresh()
                return self._looked_up(states, start)
            except UNREADABLE:
                return self._jobs.get((states, start), [])

    def tags(self) -> list[str]:
        """The tags of the newest jobs with tags."""
        with self._mutex:
            try:
                self._refresh()
                if self._tags is None:
                    self._tags = self._peek.tags() if self._peek is not None else []
            except UNREADABLE:
                pass
            return self._tags or []

    def look_again(self) -> None:
        """Read again at the next call, even if the last reading is recent."""
        self._rest_until = float("-inf")

    def settings(self) -> Settings:
        """The present settings, or their defaults."""
        from queuectl.config import Settings

        try:
            return Settings(self._watch.settings())
        except UNREADABLE:
            return Settings()

    def workers(self) -> list[WorkerInfo]:
        """The living workers."""
        try:
            return [worker for worker in self._watch.workers() if worker.alive]
        except UNREADABLE:
            return []

    def close(self) -> None:
        with self._mutex:
            if self._peek is not None:
                self._peek.close()
                self._peek = None

    def _looked_up(self, states: tuple[str, ...] | None, start: str) -> Sequence[Seen]:
        key = (states, start)
        if key not in self._jobs and self._peek is not None:
            for (others, begin), jobs in self._jobs.items():
                within = others is None or (states is not None and set(states) <= set(others))
                if not within or not start.startswith(begin):
                    continue
                found = [
                    job
                    for job in jobs
                    if (states is None or job.state in states) and job.id.startswith(start)
                ]
                if len(jobs) < self._most or len(found) == self._most:  # no more, or no newer ones
                    self._jobs[key] = found
                    break
            else:
                self._jobs[key] = self._peek.newest(states, start, self._most)
        return self._jobs.get(key, [])

    def _refresh(self) -> None:
        """Read what changed since, unless the last reading is recent."""
        if self._clock() < self._rest_until:
            return
        mark, began = self._watch.menu_mark(), self._clock()
        if mark == self._mark:
            return
        try:
            peek = self._watch.peek()
        finally:
            took = self._clock() - began
            self._rest_until = began + took + min(_REST * took, _LONGEST_REST)
        if self._peek is not None:
            self._peek.close()
        self._peek, self._mark, self._jobs, self._tags = peek, mark, {}, None
