"""Workers of several hosts: each holds a lock on its host, and renews a lease that all hosts see.

On its own host a worker is known as in a data folder: by the lock on a file in the host folder,
which the kernel frees when it dies, and by a pipe beside it. For other hosts a thread increments
`beat` in its document. Clocks of hosts are not compared. Only a process that has watched the same
beat for a whole lease, without a gap, may declare the worker lost, since after an outage all beats
are old at once. A worker that could not renew its lease ends its job some time before that; a
stopped process (SIGSTOP) cannot.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from queuectl.config import Settings
from queuectl.errors import QueuectlError, StoreError
from queuectl.model.job import UNKNOWN
from queuectl.model.times import format_time
from queuectl.places import WORKERS
from queuectl.store import door
from queuectl.store.facts import CANCEL, WorkerInfo
from queuectl.store.files import worker_files
from queuectl.store.files.worker_files import WorkerSlot
from queuectl.store.mongodb.connection import STANDALONE, Connection, clock, wait
from queuectl.store.mongodb.documents import WAITS
from queuectl.store.mongodb.host import folder_held, forget_secret, make_host_folder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from queuectl.store.contract import End

_LEAST = 30.0  # seconds of a lease, besides 3 times kill-grace
_PARTS = 12  # of a lease: it is renewed once in each
_MARGIN = 2.0  # seconds besides kill-grace that a worker needs to end its job
_GAPS = 4  # parts of a lease: the most that the time between two looks counts
_AGAIN = 2.0  # seconds until a silent server is asked again
_STUCK = 12.0  # seconds without a step of the worker, more than a wait for work takes
_FREED = 0.25  # seconds from the release of a slot to a check whether it is still free
_AWAIT = 5000  # milliseconds for which the server delays an answer while nothing is new
_PENDING = [
    {
        "$match": {
            "$or": [
                {"ns.coll": "jobs", "operationType": "insert", "fullDocument.state": "pending"},
                {"ns.coll": "jobs", "updateDescription.updatedFields.state": "pending"},
                {"ns.coll": "jobs", "updateDescription.updatedFields.run_at": {"$exists": True}},
                {
                    "ns.coll": "jobs",
                    "updateDescription.removedFields": {"$in": ["slots", WAITS]},
                },
                {"ns.coll": "config"},
                {"operationType": "rename"},
            ]
        }
    },
    {"$project": {"updateDescription.removedFields": 1}},  # not that of a job
]
_OURS = {"$match": {"_id": {"$type": "string"}}}  # other documents there are not workers
# The workers last: a worker has its document before it has a job.
_RUNS_AND_WORKERS = [
    {"$match": {"state": "in_progress"}},
    {"$project": {"worker": 1, "run": 1}},
    {"$unionWith": {"coll": "workers", "pipeline": [_OURS, {"$project": {"is": "$$ROOT"}}]}},
]
_PATIENCE = 5.0  # times poll-interval
# A worker's document: its id, then defaults for fields that an edit in mongosh removed or gave
# another type.
_DOCUMENT: dict[str, Any] = {
    **dict.fromkeys(("_id", "host", "folder", "start_time", "boot_id", "started_at"), ""),
    **{"pid": 0, "lease": _LEAST, "beat": 0.0, "beat_at": "", "facts": {}, "lost": False},
}
_FACTS = ("trouble", "stopping", "left")  # what others may want to know about a worker


class MongodbWorkers:
    """The workers of one queue, as shown by one host's folder and the documents."""

    def __init__(
        self, connection: Connection, folder: str, settings: Callable[[], Settings]
    ) -> None:
        self._connection = connection
        self._folder = folder
        self._settings = settings
        # Beats of workers elsewhere: the last one, how long it was seen, the time of the last look.
        self._seen: dict[str, tuple[int, float, float]] = {}
        self._orphans: tuple[int, list[str]] | None = None  # and how many of them run something

    @property
    def _documents(self) -> Any:
        return self._connection.database.workers

    def _lease(self) -> float:
        settings = self._settings()
        return max(settings.lease, 3 * settings.kill_grace + _LEAST)

    def register(self, worker_id: str, pid: int, start_time: str, boot_id: str) -> LeasedSlot:
        """See Workers."""
        make_host_folder(self._folder, self._connection.address)
        started_at = format_time(self._connection.now())
        words = f"{pid} {start_time} {boot_id} {started_at}"
        self.clear()
        with folder_held(self._folder):
            local = worker_files.make_slot(self._folder, worker_id, words)
        lease = self._lease()
        document = {
            "_id": worker_id,
            "host": os.uname().nodename,
            "folder": self._here(),
            "pid": pid,
            "start_time": start_time,
            "boot_id": boot_id,
            "started_at": started_at,
            "lease": lease,
            "beat": 1,
            "beat_at": started_at,
        }
        try:
            with self._connection.told():
                self._documents.insert_one(document)
        except BaseException:
            local.release()
            raise
        slack = self._settings().kill_grace + _MARGIN
        return LeasedSlot(self._connection, local, lease, slack, self.observe)

    def clear(self) -> None:
        """Remove what workers that were killed at their start left in this host's folder."""
        from queuectl.store.files.strays import stray_worker_files  # needed only here

        # A worker that is just making its file has not locked it yet and looks dead.
        with suppress(OSError, StoreError), folder_held(self._folder, alone=True):
            for name in stray_worker_files(self._folder):
                door.remove(os.path.join(self._folder, WORKERS, name))

    def release(self, slot: LeasedSlot) -> None:
        """See Workers."""
        slot.stop()
        try:
            with self._connection.told():
                self._documents.delete_one({"_id": slot.id})
        finally:
            slot.release()
            self.forget_secret()

    def forget(self, worker_id: str) -> bool:
        """See Workers.forget_worker."""
        if os.path.isdir(self._folder) and not worker_files.forget(self._folder, worker_id):
            return False
        with self._connection.told():
            self._documents.delete_one({"_id": worker_id})
        self._seen.pop(worker_id, None)
        self.forget_secret()
        return True

    def forget_secret(self) -> None:
        """Remove the password from the host's folder unless a worker there needs it."""
        with suppress(OSError, StoreError):
            if not any(worker_files.worker_infos(self._folder)):
                forget_secret(self._folder, self._connection.address)

    def all(self) -> Iterator[WorkerInfo]:
        """Every worker of every host; a worker that is not alive was lost."""
        documents, held = {}, {}
        with self._connection.told():
            for found in self._connection.jobs.aggregate(_RUNS_AND_WORKERS):
                if "is" in found:
                    documents[found["_id"]] = _sound(found["is"])
                else:
                    held[found.get("worker")] = (found["_id"], found.get("run", 0))
        if None in held:  # an edit in mongosh set the state and named no worker
            held[UNKNOWN] = held.pop(None)
        local = {info.id: info for info in worker_files.worker_infos(self._folder)}
        orphans = sorted(held.keys() - documents.keys() - local.keys())
        self._orphans = (len(held), orphans)
        yield from local.values()
        here = self._here()
        for worker_id in documents.keys() - local.keys():
            yield self._elsewhere(documents[worker_id], held.get(worker_id), here)
        for gone in self._seen.keys() - documents.keys():
            del self._seen[gone]

    def orphans(self, busy: int) -> list[str]:
        """The ids of workers that had a job but neither file nor document at the last look."""
        if self._orphans is None:
            list(self.all())
        (running, orphans), self._orphans = self._orphans or (0, []), None
        if UNKNOWN in orphans:
            nameless = {"state": "in_progress", "worker": None}
            with self._connection.told():
                self._connection.jobs.update_many(nameless, {"$set": {"worker": UNKNOWN}})
        return orphans if running > busy else []

    def _elsewhere(
        self, document: dict[str, Any], job: tuple[str, int] | None, here: str | None
    ) -> WorkerInfo:
        """A worker without a file here; `here`: see _here."""
        info = WorkerInfo(document["_id"], True, "")
        for name in ("pid", "start_time", "boot_id", "started_at"):
            setattr(info, name, document[name])
        info.facts = {name: str(fact) for name, fact in document["facts"].items()}
        info.facts |= {"host": document["host"], "beat": document["beat_at"]}
        if job is not None:
            info.job_id, info.run = job
        info.missing = here is not None and document["folder"] == here
        if info.missing:  # its file was in this folder and is gone: it is dead
            del info.facts["host"]
        gone = info.missing or document["lost"]
        info.alive = not gone and not self._is_overdue(document)
        return info

    def _here(self) -> str | None:
        """What tells this folder from all others; None if unknown.

        Its inode and the host's name are not enough: a cloned disk has both.
        """
        try:
            with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
                return f"{worker_files.folder_identity(self._folder)} {file.read().strip()}"
        except OSError:
            return None

    def observe(self) -> None:
        """Read the beats of workers elsewhere, so that watching has no gap while a job runs."""
        here = worker_files.worker_names(self._folder)
        others = {"_id": {"$nin": here, "$type": "string"}, "lost": None}
        with self._connection.told():
            for document in self._documents.find(others, {"beat": 1, "lease": 1}):
                self._is_overdue(_sound(document))

    def _is_overdue(self, document: dict[str, Any]) -> bool:
        """Whether the same beat was seen for a whole lease; declares the worker lost if so."""
        worker_id, beat, lease, now = document["_id"], document["beat"], document["lease"], clock()
        seen, lasted, looked = self._seen.get(worker_id, (None, 0.0, now))
        lasted = lasted + min(now - looked, lease / _GAPS) if seen == beat else 0.0
        self._seen[worker_id] = (beat, lasted, now)
        if lasted < lease:
            return False
        with self._connection.told():
            same = {"_id": worker_id, "beat": beat}
            return bool(self._documents.update_one(same, {"$set": {"lost": True}}).matched_count)

    def stop_elsewhere(self, now: bool) -> list[str]:
        """See Workers; they learn of it with their next beat."""
        ids = [worker.id for worker in self.all() if worker.host and worker.alive]
        asked = {"$set": {"asked": "now" if now else "stop"}}
        with self._connection.told():
            self._documents.update_many({"_id": {"$in": ids}}, asked)
        return ids


def _sound(document: dict[str, Any]) -> dict[str, Any]:
    """The document of a worker with all fields, each of the right type."""
    found = {}
    for name, usual in _DOCUMENT.items():
        kinds = (int, float) if isinstance(usual, float) else type(usual)
        found[name] = value if isinstance(value := document.get(name), kinds) else usual
    return found


class Waker:
    """Wakes an idle worker of this host when a job becomes pending or frees what others need.

    Only the idle worker on watch listens: each stream costs the server more than a claim.
    """

    def __init__(self, connection: Connection, folder: str) -> None:
        self._connection = connection
        self._folder = folder
        self.hears = False
        self._wanted = threading.Event()
        self._thread: threading.Thread | None = None
        self._later: threading.Timer | None = None

    def listen(self, wanted: bool) -> None:
        """Start or stop listening."""
        if not wanted:
            self._wanted.clear()
            return
        self._wanted.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="waker", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while True:
            self._wanted.wait()
            try:
                with self._connection.told():
                    if not self._connection.has_transactions:
                        return  # a standalone server has no stream: workers poll
                    self._hear()
            except QueuectlError:
                wait(_AGAIN)

    def _hear(self) -> None:
        with self._connection.database.watch(_PENDING, max_await_time_ms=_AWAIT) as stream:
            self._wake()  # what came before the stream was open
            try:
                while self._wanted.is_set() and stream.alive:
                    self.hears = True
                    event = stream.try_next()
                    if event is None:
                        continue
                    if "slots" in event.get("updateDescription", {}).get("removedFields", ()):
                        self._wake_later()
                    else:
                        self._wake()
            finally:
                self.hears = False

    def _wake(self) -> None:
        if self._wanted.is_set():
            worker_files.wake_idle(self._folder, 1)

    def _wake_later(self) -> None:
        """Wake for what a run freed, after a delay: usually its own worker takes it at once."""
        if self._later is None or not self._later.is_alive():
            self._later = threading.Timer(_FREED, self._wake)
            self._later.daemon = True
            self._later.start()


class LeasedSlot(WorkerSlot):
    """A worker's file and pipe on its host, and its lease, which a thread renews."""

    def __init__(
        self,
        connection: Connection,
        local: WorkerSlot,
        lease: float,
        slack: float,
        observe: Callable[[], None],
    ) -> None:
        self.__dict__.update(local.__dict__)  # shares the open files
        self._connection = connection
        self._lease, self._slack, self._observe = lease, slack, observe
        self._renewed = self._lives = clock()
        self._declared = False
        self._told: dict[str, str] = {}
        self._waker = Waker(connection, self._folder)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._thread.start()

    def still_held(self) -> bool:
        """Whether the worker may go on: not given up, and its lease lasts long enough."""
        self._lives = clock()
        lasts = self._lives - self._renewed < self._lease - self._slack
        return lasts and not self._declared and super().still_held()

    @property
    def lapsed(self) -> bool:
        """See Slot: a process that declares it lost changes its document, which the beat sees."""
        return not self._declared and super().still_held()

    @property
    def declared(self) -> bool:
        """See Slot; its file on this host is still there."""
        return self._declared and super().still_held()

    def why_gone(self) -> str:
        """See WorkerSlot."""
        if self._declared:
            return "was declared lost elsewhere, as its lease was not renewed in time"
        return super().why_gone()

    @property
    def patience(self) -> float:
        """See Slot: if a worker on watch hears all news, polling is only a precaution."""
        hears = self._waker.hears if self.on_watch else self._connection.form != STANDALONE
        return _PATIENCE if hears else 1.0

    def keep_watch(self) -> bool:
        """See Slot; the worker on watch is also woken for what other hosts enqueue."""
        watches = super().keep_watch()
        self._waker.listen(watches)
        return watches

    def leave_watch(self) -> None:
        self._waker.listen(False)
        super().leave_watch()

    def note_facts(self, **facts: object) -> None:
        """See Slot; other hosts learn of it with the next beat."""
        super().note_facts(**facts)
        told = {name: self._facts[name] for name in _FACTS if self._facts.get(name)}
        if told != self._told:
            self._told = told
            self._stop.set()  # ends the pause; only `stop` ends the thread

    def note_end(self, job_id: str, run: int, end: End) -> bool:
        """See Slot; False, since a rescue on another host could not see it without the server."""
        return False

    def _renew(self) -> None:
        while True:
            self._stop.wait(self._lease / _PARTS)
            self._stop.clear()
            if self._thread is None:
                return
            began, lives = clock(), max(self._lives, self._connection.got_on)
            if began - lives > _STUCK:  # it may wait for a lock of a killed process
                self._connection.end_abandoned()
            if began - lives > self._lease / 2:
                continue  # the worker itself is stuck: do not renew its lease
            try:
                with self._connection.told():
                    beat_at = format_time(self._connection.now())
                    found = self._connection.database.workers.find_one_and_update(
                        {"_id": self.id, "lost": {"$ne": True}},
                        {"$inc": {"beat": 1}, "$set": {"beat_at": beat_at, "facts": self._told}},
                    )
            except QueuectlError:
                continue
            self._declared = found is None
            self._renewed = began
            if found is not None and found.get("asked", "") != self.asked:
                self.asked = found["asked"]
                worker_files.wake(self._folder, CANCEL, self.id)
            with suppress(QueuectlError, OSError):
                self._observe()

    def stop(self) -> None:
        """Stop renewing the lease."""
        self._waker.listen(False)
        thread, self._thread = self._thread, None  # type: ignore[assignment]
        self._stop.set()
        if thread is not None:
            thread.join(2.0)

    def release(self) -> None:
        self._lease, self._declared = float("inf"), False  # the file is ours in any case
        super().release()

    def close(self) -> None:
        """See Slot; the document stays, for the rescue of what is left of the run."""
        self.stop()
        super().close()
