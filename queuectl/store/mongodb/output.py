"""Output of runs in the database, in pieces, so that every host can show it while the job runs.

A command writes to the worker's spool, a local file, and a thread sends what is new. Output from
the last second before a host was lost is lost too. A run that writes more than log-limit is cut in
its spool as in a data folder, see store/files/log_cut.py. Meanwhile only the end of the new output
is sent, and the middle is removed; at the end the kept log replaces all this.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from pymongo import WriteConcern
from pymongo.operations import DeleteMany, ReplaceOne

from queuectl.errors import QueuectlError
from queuectl.model.job import Job
from queuectl.model.times import format_time
from queuectl.store import door
from queuectl.store.files.log_cut import MISSING
from queuectl.store.files.logs import named_run
from queuectl.store.files.printed import PIECE
from queuectl.store.mongodb.connection import Connection, clock, pieces

PAUSE = 0.5  # seconds between looks at the spool
_TRUSTED = 1.0  # seconds; how long "not lost" is trusted: a query for each piece would slow others
_NEVER = float("-inf")
_SMALL = 1 << 14  # bytes up to which a piece grows, so that short output has few pieces
_MOST = 64  # pieces sent at each look
_NEWEST = 4 * PIECE  # bytes sent at each look once the spool was cut


class Cut(NamedTuple):
    """Output not kept whole: `written` bytes in all, of which the first `front` are kept."""

    written: int
    front: int


class Pieces:
    """The pieces of all runs: documents of the collection `logs`.

    `name`: the name that the log's file would have in a data folder. `at`: the offset.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

        self.await_answer = connection.await_answer

    @property
    def _logs(self) -> Any:
        return self._connection.database.logs

    def send(
        self,
        name: str,
        job: Job,
        at: int,
        data: bytes,
        *,
        promised: bool,
        cut: Cut | None = None,
        thinned: bool = False,
    ) -> None:
        """Store bytes of a run's output; repeating it does no harm.

        `thinned`: the middle of that output is removed.
        """
        head = {"name": name, "job": job.id, "run": job.run, "word": job.log_word}
        head |= {"sent_at": format_time(self._connection.now())}
        head |= cut._asdict() if cut else {}
        head |= {"thinned": True} if thinned else {}
        steps = []
        for start in range(0, len(data), PIECE):
            piece = data[start : start + PIECE]
            document = {"_id": f"{name}:{at + start:015d}", **head, "at": at + start}
            document |= {"size": len(piece), "data": piece}
            steps.append(ReplaceOne({"_id": document["_id"]}, document, upsert=True))
        logs = self._logs if promised else self._logs.with_options(write_concern=WriteConcern(w=1))
        with self._connection.told():
            if steps:
                logs.bulk_write(steps)

    def is_lost(self, worker_id: str) -> bool:
        """Whether the worker was declared lost or is unknown."""
        alive = {"_id": worker_id, "lost": None}
        with self._connection.told():
            return self._connection.database.workers.find_one(alive, {"_id": 1}) is None

    def got_on(self) -> None:
        """Note progress of a transfer that may take longer than a lease."""
        self._connection.got_on = clock()

    def keep(self, name: str, job: Job, output: Iterable[bytes]) -> None:
        """Store the whole output of a run from another queue."""
        self.keep_front(name, 0)
        at, data = 0, b""
        for more in output:
            data += more
            if len(data) >= PIECE:
                self.send(name, job, at, data, promised=False)
                at, data = at + len(data), b""
        self.send(name, job, at, data, promised=True)

    def all_runs(self) -> Iterator[tuple[str, int, str | None]]:
        """For each log: the id of its job, the run, and the job's `log_word`."""
        with self._connection.told():
            for found in self._logs.find({"at": 0}, {"job": 1, "run": 1, "word": 1}):
                yield found["job"], found["run"], found["word"]

    def spans(self, name: str, start: int = 0) -> Iterator[tuple[int, bytes]]:
        """The stored parts of a run's output from offset `start` on, each with its offset."""
        with self._connection.told():
            asked: dict[str, Any] = {"name": name, "at": {"$gt": start - PIECE}}
            for document in self._logs.find(asked).sort("at", 1):
                known = max(0, start - document["at"])
                if data := document["data"][known:]:
                    yield document["at"] + known, data

    def read(self, name: str, start: int = 0) -> Iterator[bytes]:
        """The same without offsets; `MISSING` replaces what is not there."""
        for at, data in self.spans(name, start):
            if at > start:
                yield MISSING
            yield data
            start = at + len(data)

    def span(self, name: str, begin: int, end: int) -> bytes:
        """The bytes of a run's output between two offsets.

        Empty lines replace what is missing because a killed server lost it.
        """
        data = b""
        with self._connection.told():
            asked: dict[str, Any] = {"name": name, "at": {"$gt": begin - PIECE, "$lt": end}}
            for document in self._logs.find(asked).sort("at", 1):
                known = begin + len(data) - document["at"]
                data += b"\n" * -known + document["data"][max(0, known) : end - document["at"]]
        return data.ljust(end - begin, b"\n")

    def printed(self, name: str) -> StoredOutput | None:
        """The run's output as it is now; None if there is none."""
        with self._connection.told():
            fields = {"at": 1, "size": 1, "thinned": 1}
            last = next(self._logs.find({"name": name}, fields).sort("at", -1).limit(1), None)
            if last is None:
                return None
            if not last.get("thinned"):
                return StoredOutput(self, name, [(0, last["at"] + last["size"])])
            parts: list[tuple[int, int]] = []
            for found in self._logs.find({"name": name}, fields).sort("at", 1):
                start, end = found["at"], found["at"] + found["size"]
                if parts and parts[-1][1] == start:
                    start = parts.pop()[0]
                parts.append((start, end))
            return StoredOutput(self, name, parts)

    def end(self, name: str) -> tuple[int, Cut | None]:
        """The number of bytes of a run's output, and its Cut if it is not kept whole."""
        with self._connection.told():
            fields = {"at": 1, "size": 1, "written": 1, "front": 1}
            last = list(self._logs.find({"name": name}, fields).sort("at", -1).limit(1))
        if not last:
            return 0, None
        cut = Cut(last[0]["written"], last[0]["front"]) if "written" in last[0] else None
        return last[0]["at"] + last[0]["size"], cut

    def keep_front(self, name: str, most: int | None) -> int:
        """Keep only the unbroken beginning, at most `most` bytes; returns its length."""
        end = 0
        with self._connection.told():
            for found in self._logs.find({"name": name}, {"at": 1, "size": 1}).sort("at", 1):
                if found["at"] != end or (most is not None and end + found["size"] > most):
                    break
                end += found["size"]
            self._logs.delete_many({"name": name, "at": {"$gte": end}})
        return end

    def thin(self, name: str, front: int, end: int) -> None:
        """Remove the bytes from offset `front` to offset `end`."""
        with self._connection.told():
            self._logs.delete_many({"name": name, "at": {"$gte": front, "$lt": end - PIECE}})

    def remove(self, jobs: Iterable[Job]) -> None:
        """Remove the output of these jobs."""
        with self._connection.told():
            for some in pieces(jobs):
                # Not by the id alone, which another job may have by now.
                same = [DeleteMany({"job": job.id, "word": job.log_word}) for job in some]
                self._logs.bulk_write(same, ordered=False)

    def remove_old(self, age: float | None, total: int) -> list[str]:
        """Remove logs of ended runs that are `age` seconds old (None: none), the oldest first.

        Then more until at most `total` bytes are left (0: any number). Returns their names.
        """
        removed: list[str] = []
        with self._connection.told():
            oldest = "" if age is None else format_time(self._connection.now() - age)
            stats = self._connection.database.command("collStats", "logs") if total else {}
            over = stats.get("size", 0) - total
            passed: set[str] = set()
            fields = {"name": 1, "job": 1, "sent_at": 1}
            for found in self._logs.find({}, fields).sort("sent_at", 1):
                if found.get("sent_at", "") >= oldest and (not total or over <= 0):
                    break
                if found["name"] not in passed:
                    passed.add(found["name"])
                    if freed := self._remove_if_ended(found["name"], found["job"], oldest, over):
                        over -= freed
                        removed.append(found["name"])
        return removed

    def _remove_if_ended(self, name: str, job_id: str, oldest: str, over: int) -> int:
        """Remove a log unless its run goes on or it is too young; returns the bytes freed."""
        named = named_run(name)
        run = named[1] if named else 0
        running = {"_id": job_id, "state": "in_progress", "run": {"$not": {"$gt": run}}}
        if self._connection.database.jobs.find_one(running, {"_id": 1}):
            return 0
        parts = list(self._logs.find({"name": name}, {"size": 1, "sent_at": 1}))
        if over <= 0 and max((part["sent_at"] for part in parts), default="") >= oldest:
            return 0
        self._logs.delete_many({"name": name})
        return sum(part["size"] for part in parts)


class StoredOutput:
    """Output in pieces; methods without a docstring: see Printed.

    `parts`: the stored parts, each with its start and end; `MISSING` fills the gaps.
    """

    def __init__(self, pieces: Pieces, name: str, parts: list[tuple[int, int]]) -> None:
        self._pieces, self._name, self._parts = pieces, name, parts
        between = len(MISSING) * (len(parts) - 1)
        self.size = between + sum(end - start for start, end in parts)

    def read(self, begin: int, most: int) -> bytes:
        """See Printed; without what was removed meanwhile."""
        data, at, until = b"", 0, min(begin + most, self.size)
        for number, (start, end) in enumerate(self._parts):
            if number:
                data += MISSING[max(0, begin - at) : max(0, until - at)]
                at += len(MISSING)
            first, last = max(begin - at, 0), min(until - at, end - start)
            if first < last:
                data += self._pieces.span(self._name, start + first, start + last)
            at += end - start
        return data

    def close(self) -> None:
        """Nothing to do: nothing is open."""


class Sender:
    """Sends the output of one worker's runs to the database as its spool grows.

    `worker_id`: once this worker was declared lost, nothing more is sent.
    """

    def __init__(self, pieces: Pieces, worker_id: str = "") -> None:
        self._pieces, self._worker_id = pieces, worker_id
        self._lock = threading.Lock()  # protects what follows; held only for moments
        self._job: Job | None = None
        self._name, self._fd, self._sent = "", -1, 0
        self._last = 0  # offset of the piece sent last
        self._gone, self._front = 0, -1  # bytes cut off the spool; bytes kept at the start
        self._cut_off: Callable[[int], bytes] = bytes
        self._sending = threading.Lock()  # an answer may take long
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._allowed_at = _NEVER  # when the worker was last known not to be lost

    def begin(self, job: Job, name: str, fd: int) -> None:
        """Prepare for a run that begins to write into an empty file."""
        if job.run > 1:  # see Spool.begin
            with suppress(QueuectlError):
                self._pieces.keep_front(name, 0)
        with self._lock:
            self._job, self._name, self._fd, self._sent = job, name, fd, 0
            self._last = 0
            self._gone, self._front = 0, -1
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="output", daemon=True)
            self._thread.start()

    def end(self) -> None:
        """End the run: `send_file` sends what is left in the file."""
        with self._lock:
            self._job, self._fd = None, -1

    @contextmanager
    def cutting(
        self, gone: Callable[[], int], front: int, cut_off: Callable[[int], bytes]
    ) -> Iterator[None]:
        """A block in which the spool may be cut: `gone` bytes are, `front` bytes are kept.

        `cut_off` gives at most the last so many bytes of what is gone.
        """
        with self._lock:
            yield
            if gone() > self._gone:
                self._gone, self._front, self._cut_off = gone(), front, cut_off

    def send_file(self, job: Job, path: str, cut: Cut | None = None) -> None:
        """Send what a finished run wrote, then remove the file.

        `cut`: the file is not the whole output; of what was sent only the front remains valid.
        """
        name = os.path.basename(path)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        with door.Closing(fd), self._sending:
            self._allowed_at = _NEVER
            if not self._is_refused():
                self._send_whole(job, name, fd, cut)
        door.remove(path)

    def _send_whole(self, job: Job, name: str, fd: int, cut: Cut | None) -> None:
        # What was sent meanwhile may be lost with a primary or a killed server.
        at = 0
        if name != self._name or self._sent:
            at = self._pieces.keep_front(name, cut.front if cut else None)
        size = os.fstat(fd).st_size
        while at < size:
            data = os.pread(fd, PIECE, at)
            last = at + len(data) >= size
            self._pieces.send(name, job, at, data, promised=last, cut=cut)
            at += len(data)
            self._pieces.got_on()

    def _is_refused(self) -> bool:
        """Whether others may have the worker's job by now, so that its output no longer counts."""
        asked_at = clock()
        if not self._worker_id or asked_at - self._allowed_at < _TRUSTED:
            return False
        if self._pieces.is_lost(self._worker_id):
            return True
        self._allowed_at = asked_at
        return False

    def close(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(2.0)

    def _run(self) -> None:
        while not self._stop.wait(PAUSE):
            with suppress(QueuectlError, OSError), self._sending:
                for _ in range(_MOST):
                    if not self._send_on():
                        break

    def _send_on(self) -> bool:
        """Send what is new, if anything; returns whether there may be more."""
        with self._lock:
            job, name, front = self._job, self._name, self._front
            if job is None:
                return False
            at = sent = self._sent
            if front < 0 and sent - self._last < _SMALL:
                at = self._last  # it is sent again, with what is new
            elif front >= 0:  # all of it would be more than what is kept
                at = max(at, self._gone + os.fstat(self._fd).st_size - _NEWEST)
            if at < self._gone:
                data = self._cut_off(PIECE)
                at = self._gone - len(data)
            else:
                data = os.pread(self._fd, PIECE, at - self._gone)
        if at + len(data) <= sent or self._is_refused():
            return False
        self._pieces.send(name, job, at, data, promised=False, thinned=front >= 0)
        end = at + len(data)
        if front >= 0:
            self._pieces.thin(name, front, end - front)
        with self._lock:
            if self._name == name:
                self._sent, self._last = end, at
        return True
