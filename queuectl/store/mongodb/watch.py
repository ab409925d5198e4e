"""What menus, `top`, notices and the page read from a queue in MongoDB: changes, newest jobs.

In each process one thread for each queue listens to the change stream of a replica set, or polls a
standalone server, which has no stream, twice a second. A reader takes what the thread has heard,
and does not wait for the network.
"""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from queuectl.addresses import Address
from queuectl.errors import QueuectlError, StoreError
from queuectl.model.job import Job
from queuectl.model.times import format_time
from queuectl.store.files.worker_files import worker_infos
from queuectl.store.mongodb.connection import MARKER, Connection, connect, wait
from queuectl.store.mongodb.documents import STAGED, to_job
from queuectl.store.mongodb.lanes import ORDER, WAITING, ready
from queuectl.store.mongodb.layout import read_settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from queuectl.store.contract import Store
    from queuectl.store.facts import Summary, WorkerInfo
    from queuectl.store.watch import Change

_PAUSE = 0.5  # seconds between two polls of a standalone server
_AGAIN = 2.0  # seconds until a silent server is asked again
_RING = 10_000  # changes by which a reader may be behind
_OVERLAP = 2.0  # seconds by which changes may become visible after their date
_QUICK = 0.3  # seconds that a menu waits for an answer
_HEARD = [
    {
        "$match": {
            "$or": [
                {"ns.coll": {"$in": ["jobs", "config"]}},
                {"ns.coll": "workers", "operationType": {"$in": ["insert", "delete"]}},
                {"operationType": {"$in": ["invalidate", "rename"]}},
            ]
        }
    }
]


class Listener:
    """What was heard about one queue. `heard` grows whenever anything may have changed."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._changes: deque[tuple[int, Change]] = deque(maxlen=_RING)
        self.heard = 0
        self.whole_since = -1  # all changes from this number on were heard; -1: none yet
        self.trouble = ""
        self._seen: dict[str, tuple[int, str | None]] = {}
        threading.Thread(target=self._run, name="listener", daemon=True).start()

    def changes(self, since: int) -> list[Change] | None:
        """What changed after this number; None if something was not heard."""
        changes = list(self._changes)
        if self.whole_since < 0 or since < self.whole_since:
            return None
        if len(changes) == _RING and since < changes[0][0] - 1:
            return None
        return [change for number, change in changes if number > since]

    def _run(self) -> None:
        while True:
            try:
                with self._connection.told():
                    if self._connection.has_transactions:
                        self._listen()
                    else:
                        self._ask()
            except QueuectlError as exc:
                self.trouble = str(exc)
                self.whole_since = -1
                self.heard += 1
                wait(_AGAIN)

    def _begin(self) -> None:
        self.trouble = ""
        self.heard += 1
        self.whole_since = self.heard

    def _note(self, change: Change | None) -> None:
        if change is not None:
            self._changes.append((self.heard + 1, change))
        self.heard += 1

    def _listen(self) -> None:
        """Read the change stream until it breaks."""
        database = self._connection.database
        with database.watch(_HEARD, full_document="updateLookup", max_await_time_ms=1000) as stream:
            self._begin()
            while stream.alive:
                event = stream.try_next()
                if event is None:
                    continue
                if event["operationType"] == "rename":
                    self._begin()  # a restore replaced all jobs
                elif event.get("ns", {}).get("coll") != "jobs":
                    self._note(None)
                elif event["operationType"] == "delete":
                    self._note((event["documentKey"]["_id"], None))
                elif (document := event.get("fullDocument")) and document.get("state") != STAGED:
                    self._note((document["_id"], to_job(document)))
        raise StoreError(f"{self._connection.address.name}: the database was dropped")

    def _ask(self) -> None:
        """Poll for changes until an error."""
        database = self._connection.database
        count, others = self._count(database), self._others(database)
        self._seen = {}
        self._look(database, told=False)
        self._begin()
        while True:
            wait(_PAUSE)
            count = (count[0] + self._look(database, told=True), count[1])
            now, found = self._count(database), self._others(database)
            if now != count or found != others:
                if now != count:  # jobs were removed or replaced, but it is unknown which
                    self._begin()
                count, others = now, found
                self.heard += 1

    def _look(self, database: Any, *, told: bool) -> int:
        """Note recent changes that were not noted yet; returns how many of the jobs are new."""
        since = format_time(self._connection.now() - _OVERLAP - 2 * _PAUSE)
        asked = {"updated_at": {"$gte": since}, "state": {"$ne": STAGED}}
        new, seen = 0, {}
        for document in database.jobs.find(asked).sort("updated_at", 1):
            stamp = (document.get("rev", 1), document.get("state"))
            seen[document["_id"]] = stamp
            if told and self._seen.get(document["_id"]) != stamp:
                new += stamp[0] == 1 and document["_id"] not in self._seen
                self._note((document["_id"], to_job(document)))
        self._seen = seen
        return new

    def _count(self, database: Any) -> tuple[int, int]:
        """The number of jobs, and how often all were replaced."""
        marker = database.meta.find_one({"_id": MARKER}) or {}
        return database.jobs.estimated_document_count(), marker.get("replaced", 0)

    def _others(self, database: Any) -> object:
        workers = [document["_id"] for document in database.workers.find({}, {"_id": 1})]
        return workers, database.config.find_one()


_listeners: dict[str, Listener] = {}


def listener(connection: Connection, folder: str) -> Listener:
    """The process's listener for the queue of this host folder, started if necessary."""
    if folder not in _listeners:
        _listeners[folder] = Listener(connection)
    return _listeners[folder]


class MongodbWatch:
    """Watch for a store in MongoDB; methods without a docstring: see Watch.

    It begins to listen at the first call of `mark` or `changes`.
    """

    def __init__(
        self, store: Store, connection: Connection, summary: Callable[[], Summary]
    ) -> None:
        self.summary = summary
        self._store, self._connection = store, connection
        self._at = -1

    def mark(self) -> tuple[object, ...]:
        return (listener(self._connection, self._store.folder).heard,)

    def menu_mark(self) -> tuple[object, ...]:
        """See Watch: a menu asks the server each time, and does not listen."""
        return (time.monotonic(),)

    def workers(self) -> list[WorkerInfo]:
        """See Watch: those of this host."""
        return list(worker_infos(self._store.folder))

    def settings(self) -> Mapping[str, object]:
        return read_settings(quick(self._connection.address))

    def changes(self, ids: Collection[str] | None = None) -> list[Change] | None:
        """See Watch; StoreError while the server is out of reach."""
        heard = listener(self._connection, self._store.folder)
        if heard.trouble:
            raise StoreError(heard.trouble)
        before, self._at = self._at, heard.heard
        found = heard.changes(before) if before >= 0 else None
        if heard.whole_since < 0:
            self._at = -1  # what is read now may be older than the first change heard
        if found is None or ids is None:
            return found
        return [change for change in found if change[0] in ids]

    def jobs(self) -> Iterator[Job]:
        return self._store.find()

    def glance(self) -> MongodbGlance:
        return MongodbGlance(self._connection)

    def peek(self) -> MongodbPeek:
        """See Watch; connects, so that typing waits at most once for a silent server."""
        connection = quick(self._connection.address)
        _ = connection.client
        return MongodbPeek(connection)

    def close(self) -> None:
        """Nothing to do: others may still listen."""


class MongodbGlance:
    """See Glance; not all of one moment."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def close(self) -> None:
        """Nothing to do: the connection belongs to the process."""

    def newest(self, states: Collection[str] | None, start: str, most: int) -> list[Job]:
        """See Glance."""
        asked: dict[str, Any] = {"state": {"$ne": STAGED} if states is None else {"$in": [*states]}}
        if start:
            asked["_id"] = {"$regex": f"^{re.escape(start)}"}
        return self._found(asked, [("_seq", -1)], most)

    def next_claimed(self, now: str, most: int) -> list[Job]:
        """See Glance."""
        soonest = [("run_at", 1), ("priority", 1), ("_seq", 1)]
        later = {"state": WAITING}
        return self._found(ready(now), ORDER, most) or self._found(later, soonest, most)

    def latest(self, key: str, most: int) -> tuple[list[Job], bool]:
        """See Glance."""
        found = self._found({"state": {"$ne": STAGED}}, [(key, -1), ("_id", -1)], most + 1)
        return found[:most], len(found) <= most

    def holding(self, states: Collection[str] | None, text: str) -> Iterator[Job]:
        """See Glance; only in the id or the command."""
        fits = {"$regex": re.escape(text), "$options": "i"}
        asked: dict[str, Any] = {"$or": [{"_id": fits}, {"command": fits}]}
        asked["state"] = {"$ne": STAGED} if states is None else {"$in": [*states]}
        with self._connection.told():
            for document in self._connection.database.jobs.find(asked).sort("_seq", 1):
                yield to_job(document)

    def present(self, ids: Collection[str]) -> dict[str, Job]:
        """See Glance."""
        asked = {"_id": {"$in": [*ids]}, "state": {"$ne": STAGED}}
        return {job.id: job for job in self._found(asked, [("_seq", 1)], len(ids))}

    def _found(self, asked: dict[str, Any], order: list[tuple[str, int]], most: int) -> list[Job]:
        if most <= 0:
            return []
        with self._connection.told():
            found = self._connection.database.jobs.find(asked).sort(order).limit(most)
            return [to_job(document) for document in found]


class MongodbPeek(MongodbGlance):
    """See Peek; does not wait long for an answer."""

    def tags(self) -> list[str]:
        """See Peek."""
        jobs = self._found({"tags.0": {"$exists": True}}, [("_seq", -1)], 200)
        return [*dict.fromkeys(tag for job in jobs for tag in job.tags)]


def quick(address: Address) -> Connection:
    """A connection with a short patience for menus, since a person is typing."""
    return connect(address, _QUICK)
