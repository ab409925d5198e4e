"""A thread that checks whether the queue changed, and updates the toolbar and the notices.

It makes a few stats a second and reads only what is new, so that an idle shell costs almost
nothing; nothing is drawn unless the shown content has changed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from contextlib import closing

from queuectl.errors import UNREADABLE
from queuectl.live.notices import Notices
from queuectl.live.standing import LOOK_AT_WORKERS, Standing, standing_of
from queuectl.store.watch import Watch

_PAUSE = 0.2  # seconds between looks, so at most five repaints a second


class Watcher:
    """Keeps `standing` up to date, and calls `changed` when it or the notices have news.

    Calls `moved` when anything in the queue has changed.
    """

    def __init__(
        self,
        watch: Watch,
        notices: Notices,
        changed: Callable[[], None],
        moved: Callable[[], None] = lambda: None,
    ) -> None:
        self.standing: Standing | None = None
        self._watch = watch
        self._notices = notices
        self._changed = changed
        self._moved = moved
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._mark: object = None
        self._workers_at = 0.0
        self._anew = False  # set when newly followed jobs may already have ended

    def follow(self, ids: Collection[str]) -> None:
        """Follow these jobs from now on, even if they have ended meanwhile."""
        if ids:
            self._notices.follow(ids)
            self._anew = True

    def start(self) -> None:
        """Start the thread; further calls do nothing."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the thread and wait for it."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(2.0)

    def look(self) -> bool:
        """Look once; returns whether there is anything new to show."""
        mark = self._watch.mark()
        quiet = mark == self._mark and not self._anew
        if quiet and time.monotonic() - self._workers_at < LOOK_AT_WORKERS:
            return False
        self._mark = mark
        self._workers_at = time.monotonic()
        try:
            standing = standing_of(self._watch.summary())
        except UNREADABLE as exc:
            self._mark = None  # look again although nothing changed: the error may pass
            standing = Standing({}, 0, str(exc))
        news = standing != self.standing
        self.standing = standing
        if not quiet:
            self._feed()
            self._moved()
        return news or self._notices.any_waiting()

    def _run(self) -> None:
        # Load what the first command needs, now that the prompt is on the screen.
        import queuectl.job_queue  # noqa: F401

        while not self._stop.is_set():
            if self.look():
                self._changed()
            self._stop.wait(_PAUSE)
        self._watch.close()

    def _feed(self) -> None:
        anew, self._anew = self._anew, False
        followed = self._notices.followed  # read after that: another thread may follow more
        try:
            changes = self._watch.changes(followed)
            if followed and (anew or changes is None):
                self._look_anew(followed)
            elif changes:
                self._notices.feed(job for _, job in changes if job is not None)
        except UNREADABLE:
            self._mark = None
            self._anew |= anew

    def _look_anew(self, followed: frozenset[str]) -> None:
        """Read the followed jobs anew, after some changes were missed."""
        with closing(self._watch.glance()) as glance:
            found = glance.present(followed)
        self._notices.feed(found.values())
        self._notices.silence(followed - found.keys())
