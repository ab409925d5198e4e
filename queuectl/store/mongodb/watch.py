"""Looking over the shoulder of a queue in MongoDB: what changes, and the newest jobs.

One thread a process listens for each queue: to a change stream of a replica set, and by asking
twice a second on a standalone server, which has no stream. A reader takes what the thread has
heard, and waits for no network.
"""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from queuectl.addresses import address_of
from queuectl.errors import QueuectlError, StoreError
from queuectl.model.job import Job
from queuectl.model.times import format_time
from queuectl.store.files.job_files import encode_job, removal_line
from queuectl.store.mongodb.connection import Connection, connect
from queuectl.store.mongodb.documents import STAGED, to_job
from queuectl.store.mongodb.layout import MARKER
from queuectl.store.mongodb.opening import opened

_PAUSE = 0.5  # seconds between two questions to a standalone server
_AGAIN = 2.0  # seconds until a server that did not answer is asked again
_RING = 10_000  # changes that a reader may be behind
_OVERLAP = 2.0  # seconds by which changes may become visible later than they are dated
_QUICK = 0.3  # seconds that a menu waits for an answer
_UNKNOWN = "completed"  # the state that a removal is told with: what a job was is not kept
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
    """What was heard of one queue. `heard` counts up whenever anything may have changed."""

    def __init__(self, folder: str) -> None:
        address = address_of(folder)
        assert address is not None
        self._connection = connect(address)
        self._changes: deque[tuple[int, bytes]] = deque(maxlen=_RING)
        self.heard = 0
        self.whole_since = -1  # changes from this number on were all heard; -1: not yet
        self.trouble = ""
        self._seen: dict[str, tuple[int, str]] = {}
        threading.Thread(target=self._run, name="listener", daemon=True).start()

    def changes(self, since: int) -> list[bytes] | None:
        """The lines of jobs that changed behind the number; None if some were not heard."""
        changes = list(self._changes)
        if self.whole_since < 0 or since < self.whole_since:
            return None
        if len(changes) == _RING and since < changes[0][0] - 1:
            return None
        return [line for number, line in changes if number > since]

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
                _wait(_AGAIN)

    def _begin(self) -> None:
        self.trouble = ""
        self.heard += 1
        self.whole_since = self.heard

    def _note(self, line: bytes | None) -> None:
        if line is not None:
            self._changes.append((self.heard + 1, line))
        self.heard += 1

    def _listen(self) -> None:
        """Hear the change stream until it breaks."""
        database = self._connection.database
        with database.watch(_HEARD, full_document="updateLookup", max_await_time_ms=1000) as stream:
            self._begin()
            while stream.alive:
                event = stream.try_next()
                if event is None:
                    continue
                if event["operationType"] == "rename":
                    self._begin()  # others are in the place of all jobs
                elif event.get("ns", {}).get("coll") != "jobs":
                    self._note(None)
                elif event["operationType"] == "delete":
                    self._note(removal_line(event["documentKey"]["_id"], _UNKNOWN))
                elif (document := event.get("fullDocument")) and document["state"] != STAGED:
                    self._note(encode_job(to_job(document)))
        raise StoreError(f"{self._connection.address.name}: the database was dropped")

    def _ask(self) -> None:
        """Ask what has changed, again and again."""
        database = self._connection.database
        count, others = self._count(database), self._others(database)
        self._seen = {}
        self._look(database, told=False)
        self._begin()
        while True:
            _wait(_PAUSE)
            count = (count[0] + self._look(database, told=True), count[1])
            now, found = self._count(database), self._others(database)
            if now != count or found != others:
                if now != count:  # jobs were removed or replaced, which ones nobody tells
                    self._begin()
                count, others = now, found
                self.heard += 1

    def _look(self, database: Any, *, told: bool) -> int:
        """Note the jobs that changed a moment ago and were not noted; how many of them are new."""
        since = format_time(self._connection.now() - _OVERLAP - 2 * _PAUSE)
        asked = {"updated_at": {"$gte": since}, "state": {"$ne": STAGED}}
        new, seen = 0, {}
        for document in database.jobs.find(asked).sort("updated_at", 1):
            stamp = (document.get("rev", 1), document["state"])
            seen[document["_id"]] = stamp
            if told and self._seen.get(document["_id"]) != stamp:
                new += stamp[0] == 1 and document["_id"] not in self._seen
                self._note(encode_job(to_job(document)))
        self._seen = seen
        return new

    def _count(self, database: Any) -> tuple[int, int]:
        """How many jobs there are, and how often all were replaced."""
        marker = database.meta.find_one({"_id": MARKER}) or {}
        return database.jobs.estimated_document_count(), marker.get("replaced", 0)

    def _others(self, database: Any) -> object:
        workers = [document["_id"] for document in database.workers.find({}, {"_id": 1})]
        return workers, database.config.find_one()


def _wait(seconds: float) -> None:
    time.sleep(seconds)


_listeners: dict[str, Listener] = {}


def listener(folder: str) -> Listener:
    """What this process hears of the queue that the host folder stands for, from now on."""
    if folder not in _listeners:
        _listeners[folder] = Listener(folder)
    return _listeners[folder]


def change_mark(folder: str) -> tuple[object, ...]:
    """Differs from an earlier one whenever anything may have changed."""
    return (listener(folder).heard,)


class MongodbFollower:
    """See Follower in store/files/glance.py."""

    def __init__(self, folder: str) -> None:
        self._listener = listener(folder)
        self._at = -1

    def changes(self) -> list[bytes] | None:
        """The lines of jobs that changed, oldest first; None if some were missed: look anew."""
        if self._listener.trouble:
            raise StoreError(self._listener.trouble)
        before, self._at = self._at, self._listener.heard
        lines = self._listener.changes(before) if before >= 0 else None
        if self._listener.whole_since < 0:
            self._at = -1  # what is read now may be older than what will be heard first
        return lines

    def close(self) -> None:
        """Nothing: others may listen, too."""


class MongodbGlance:
    """See Glance in store/files/glance.py; it is not of one moment."""

    def __init__(self, folder: str) -> None:
        address = address_of(folder)
        assert address is not None
        self._connection = connect(address)

    def close(self) -> None:
        """Nothing: the connection is the process's."""

    def newest(self, states: Collection[str] | None, start: str, most: int) -> list[Job]:
        """At most so many jobs in these states (None: any) whose ids begin so, newest first."""
        asked: dict[str, Any] = {"state": {"$ne": STAGED} if states is None else {"$in": [*states]}}
        if start:
            asked["_id"] = {"$regex": f"^{re.escape(start)}"}
        return self._found(asked, [("_seq", -1)], most)

    def next_claimed(self, now: str, most: int) -> list[Job]:
        """At most so many of the jobs that wait: those that are claimed first from `now` on."""
        order = [("priority", 1), ("run_at", 1), ("_seq", 1)]
        waiting = {"state": {"$in": ["failed", "pending"]}}
        return self._found({**waiting, "run_at": {"$lte": now}}, order, most) or self._found(
            waiting, [("run_at", 1), ("priority", 1), ("_seq", 1)], most
        )

    def latest(self, key: str, most: int) -> tuple[list[Job], bool]:
        """At most so many jobs, those with the latest time `key`; whether these are all."""
        found = self._found({"state": {"$ne": STAGED}}, [(key, -1), ("_id", -1)], most + 1)
        return found[:most], len(found) <= most

    def holding(self, states: Collection[str] | None, text: str) -> Iterator[Job]:
        """The jobs in these states (None: any) whose id or command holds the text."""
        fits = {"$regex": re.escape(text), "$options": "i"}
        asked: dict[str, Any] = {"$or": [{"_id": fits}, {"command": fits}]}
        asked["state"] = {"$ne": STAGED} if states is None else {"$in": [*states]}
        with self._connection.told():
            for document in self._connection.database.jobs.find(asked).sort("_seq", 1):
                yield to_job(document)

    def present(self, ids: Collection[str]) -> dict[str, Job]:
        """Those of the jobs that exist, by id."""
        asked = {"_id": {"$in": [*ids]}, "state": {"$ne": STAGED}}
        return {job.id: job for job in self._found(asked, [("_seq", 1)], len(ids))}

    def _found(self, asked: dict[str, Any], order: list[tuple[str, int]], most: int) -> list[Job]:
        if most <= 0:
            return []
        with self._connection.told():
            found = self._connection.database.jobs.find(asked).sort(order).limit(most)
            return [to_job(document) for document in found]


class MongodbPeek(MongodbGlance):
    """What a menu shows; see Peek in store/files/peek.py. An answer is not waited for long."""

    def __init__(self, folder: str) -> None:
        super().__init__(folder)
        self._connection = quick(folder)

    def tags(self) -> list[str]:
        """The tags of the newest jobs that have some, each once."""
        jobs = self._found({"tags.0": {"$exists": True}}, [("_seq", -1)], 200)
        return [*dict.fromkeys(tag for job in jobs for tag in job.tags)]


_quick: dict[str, Connection] = {}


def quick(folder: str) -> Connection:
    """A connection for menus: who types does not wait."""
    if folder not in _quick:
        address = address_of(folder)
        assert address is not None
        _quick[folder] = Connection(address, _QUICK)
    return _quick[folder]


def quick_settings(folder: str) -> Mapping[str, object]:
    """The settings that were changed, for a menu."""
    store = opened(folder)
    store.connection = quick(folder)
    return store.settings()
