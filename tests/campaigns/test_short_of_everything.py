"""A real worker whose disk refuses, and one that has no descriptors, processes or room.

Every job appends a line to a file when it starts. However often something is refused, each starts
once, and ends with its result and its own output, when the trouble is over.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable

import pytest

from queuectl.errors import StoreError
from queuectl.job_queue import JobQueue
from queuectl.model.times import format_time
from queuectl.store.files.logs import LogFolder
from queuectl.worker import loop
from tests.failing_disk import FailingDisk, failing_disk

# From Python 3.12 on: what other tests left running in threads does not matter to these children.
pytestmark = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")

CODES = (0, 3, 0, 4)


class Yard:
    """A queue, and a file to which each run adds a line."""

    def __init__(self, path: str) -> None:
        os.makedirs(path, exist_ok=True)
        self.path, self.runs = os.path.join(path, "queue"), os.path.join(path, "runs")
        self.queue = JobQueue.open(self.path)
        self.queue.change_settings({"poll-interval": 0.05, "lock-timeout": 20})

    def fill(self) -> None:
        self.queue.enqueue([self.draft(f"j{n}", code) for n, code in enumerate(CODES)])

    def draft(self, job_id: str, code: int = 0) -> dict[str, object]:
        command = f"echo {job_id} >> '{self.runs}'; echo output of {job_id}; exit {code}"
        return {"id": job_id, "command": command, "max_retries": 0, "cwd": "/"}

    def started(self) -> list[str]:
        if not os.path.exists(self.runs):
            return []
        with open(self.runs, encoding="utf-8") as file:
            return file.read().split()

    def await_state(self, job_id: str, *states: str) -> None:
        _until(lambda: self.queue.get(job_id).state in states)

    def check(self, ids: list[str]) -> None:
        """Each job ran once; result and output are its own."""
        assert sorted(self.started()) == sorted(ids)
        assert self.queue.store.check() == []
        for job_id in ids:
            job = self.queue.get(job_id)
            code = CODES[int(job_id[1:]) % len(CODES)]
            assert (job.state, job.exit_code) == ("dead" if code else "completed", code), job
            assert (job.run, job.attempts, job.losses) == (1, 1, 0), job


@pytest.fixture
def yard(tmp_path, monkeypatch) -> Yard:
    monkeypatch.setattr(loop, "_FIRST_PAUSE", 0.001)
    monkeypatch.setattr(loop, "_LONGEST_PAUSE", 0.005)
    monkeypatch.setattr(loop, "_LOOK_AROUND", 0.0)
    monkeypatch.setattr(os, "fsync", lambda fd: None)
    return Yard(str(tmp_path))


def outputs(yard: Yard) -> dict[str, bytes]:
    logs = LogFolder(yard.path)
    ids = [f"j{number}" for number in range(len(CODES))]
    return {job_id: b"".join(logs.output(yard.queue.get(job_id))) for job_id in ids}


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EMFILE])
@pytest.mark.parametrize("lasts", [0, 7])
def test_a_worker_keeps_its_results_whatever_the_disk_refuses(yard, tmp_path, error, lasts):
    """At each call of a worker's life but its registering, which is refused before it starts."""
    at, met = 0, True
    while met:
        at += 1
        one = Yard(str(tmp_path / f"yard{at}"))
        one.fill()
        troubles: list[str] = []
        worker = JobQueue.open(one.path)
        how = "full" if lasts else "once"
        with failing_disk(-1, how, error=error, lasts=lasts) as disk:

            def registered(_slot: object, at: int = at, disk: FailingDisk = disk) -> None:
                disk.at = len(disk.calls) + at

            code = loop.run_worker(
                worker, log=troubles.append, registered=registered, until_empty=True
            )
            met = disk.broken
        worker.close()
        assert code == 0
        ids = [f"j{number}" for number in range(len(CODES))]
        one.check(ids)
        for job_id, output in outputs(one).items():
            # A log may be lost to a full disk; another's is never taken for it.
            assert output in (f"output of {job_id}\n".encode(), b""), (at, troubles)
        if not met:
            assert troubles == []
    assert at > 10


# -- what only the system itself can refuse

OTHER = 54_321  # a user that has no other process
PATIENCE = 20.0
_NEW_NAMESPACE, _READ_ONLY, _REMOUNT, _PRIVATE = 0x20000, 1, 32, 0x44000  # Linux's numbers


class CannotTry(Exception): ...


def in_child(deed: Callable[[str], None], user: int | None = None) -> None:
    """Do it in a child, which may be another user, in a folder of its own; skip what cannot be."""
    if sys.platform != "linux":
        pytest.skip("only Linux can be short of it this way")
    if user is not None and os.geteuid() != 0:
        pytest.skip("only root can be somebody else")
    folder = tempfile.mkdtemp(prefix="short-")
    says, told = os.pipe()
    pid = os.fork()
    if pid == 0:
        _live(deed, folder, user, told)
    os.close(told)
    try:
        status = _await(pid)
        said = os.read(says, 10_000).decode()
    finally:
        os.close(says)
        shutil.rmtree(folder)
    if said.startswith("cannot try"):
        pytest.skip(said)
    assert not said, said
    assert status == 0


def _live(deed: Callable[[str], None], folder: str, user: int | None, told: int) -> None:
    """The child's life, to its end."""
    code, said = 1, ""
    try:
        os.setsid()
        if user is not None:
            os.chown(folder, user, user)
            os.setgroups([])
            os.setgid(user)
            os.setuid(user)
        os.environ["HOME"] = folder
        deed(folder)
        code = 0
    except CannotTry as exc:
        code, said = 0, f"cannot try: {exc}"
    except BaseException:
        said = traceback.format_exc()
    finally:
        os.write(told, said[-9_000:].encode())
        os._exit(code)


def _await(pid: int) -> int:
    """How the child ended; it and its session are killed if that takes too long."""
    try:
        _until(lambda: _is_zombie(pid), 3 * PATIENCE)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _is_zombie(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _until(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come in time"
        time.sleep(0.005)


class Hand:
    """A worker in a child of this process, and what it complains of."""

    def __init__(self, yard: Yard) -> None:
        self.yard = yard
        self.says, told = os.pipe()
        os.set_blocking(self.says, False)
        self.heard = ""
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                code = loop.run_worker(
                    JobQueue.open(yard.path),
                    log=lambda line: os.write(told, line.encode()),
                    registered=lambda slot: os.write(told, b"ready"),
                )
            finally:
                os._exit(code)
        os.close(told)
        self.hear("ready")

    def limit(self, what: int, soft: int) -> int:
        """Set a soft limit of the worker; the one before."""
        before, hard = resource.prlimit(self.pid, what)
        resource.prlimit(self.pid, what, (soft, hard))
        return before

    def hear(self, text: str, seconds: float = PATIENCE) -> None:
        """Wait until it complains of that."""

        def heard() -> bool:
            with contextlib.suppress(BlockingIOError):
                self.heard += os.read(self.says, 10_000).decode()
            return text in self.heard

        _until(heard, seconds)

    def leave(self) -> None:
        os.kill(self.pid, signal.SIGTERM)
        _until(lambda: _is_zombie(self.pid))
        assert os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1]) == 0


@pytest.fixture
def warm(yard) -> None:
    """All modules that a worker loads late: another user may not read them."""
    yard.fill()
    assert loop.run_worker(yard.queue, until_empty=True) == 0
    yard.queue.checkpoint()
    yard.queue.close()
    yard.queue.lost_workers()


def test_a_worker_without_descriptors_waits_and_loses_nothing(warm):
    def deed(folder: str) -> None:
        yard = Yard(folder)
        # The limit holds for a job too, which cannot run then: the worker must meet it first.
        loop._LOOK_AROUND = 0.0
        hand = Hand(yard)
        before = hand.limit(resource.RLIMIT_NOFILE, 3)
        hand.hear("Too many open files")
        yard.queue.enqueue([yard.draft("j0")])
        yard.queue.wait(0.2)  # it may wake and try
        assert yard.started() == []
        hand.limit(resource.RLIMIT_NOFILE, before)
        yard.await_state("j0", "completed", "dead")
        gate, there = os.path.join(folder, "gate"), os.path.join(folder, "there")
        waiting = yard.draft("j2")
        until = f"until [ -e '{gate}' ]; do sleep 0.01; done"
        waiting["command"] = f": > '{there}'; {until}; {waiting['command']}"
        yard.queue.enqueue([waiting])
        _until(lambda: os.path.exists(there))  # the job itself must not meet the limit
        hand.heard = ""
        hand.limit(resource.RLIMIT_NOFILE, 3)
        with open(gate, "wb"):
            pass
        with contextlib.suppress(AssertionError):  # it says nothing that it has said before
            hand.hear("Too many open files", 2.0)
        hand.limit(resource.RLIMIT_NOFILE, before)
        yard.await_state("j2", "completed", "dead")
        yard.check(["j0", "j2"])
        hand.leave()

    in_child(deed)


def test_a_worker_that_cannot_fork_spends_nothing(warm):
    def deed(folder: str) -> None:
        yard = Yard(folder)
        hand = Hand(yard)
        before = hand.limit(resource.RLIMIT_NPROC, 1)
        yard.queue.enqueue([yard.draft("j0")])
        hand.hear("cannot start: Resource temporarily unavailable")
        assert yard.started() == []
        hand.limit(resource.RLIMIT_NPROC, before)
        yard.await_state("j0", "completed", "dead")
        job = yard.queue.get("j0")
        assert (job.state, job.attempts, job.losses) == ("completed", 1, 0)
        assert yard.started() == ["j0"]
        assert yard.queue.store.check() == []
        hand.leave()

    in_child(deed, user=OTHER)


# -- file systems of our own


def _mount(folder: str, flags: int, options: str = "") -> None:
    """Mount a small tmpfs there, or remount it."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"tmpfs", folder.encode(), b"tmpfs", flags, options.encode()):
        why = ctypes.get_errno()
        if why in (errno.EPERM, errno.EACCES, errno.ENODEV):
            raise CannotTry(f"mount: {os.strerror(why)}")
        raise OSError(why, os.strerror(why))


def _leave_namespace() -> None:
    """Let nobody else see what is mounted from here on."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_NEW_NAMESPACE) or libc.mount(b"none", b"/", None, _PRIVATE, None):
        raise CannotTry(f"a namespace of our own: {os.strerror(ctypes.get_errno())}")


def test_a_small_disk_that_is_full_refuses_and_loses_nothing(warm):
    def deed(folder: str) -> None:
        _leave_namespace()
        disk = os.path.join(folder, "disk")
        os.mkdir(disk)
        _mount(disk, 0, "size=256k,mode=700")
        yard = Yard(disk)
        hand = Hand(yard)
        gate = os.path.join(folder, "gate")
        waiting = yard.draft("j0")
        runs = os.path.join(folder, "runs")
        waiting["command"] = f"until [ -e '{gate}' ]; do sleep 0.01; done; echo j0 >> '{runs}'"
        yard.queue.enqueue([waiting])
        yard.runs = runs
        yard.await_state("j0", "in_progress")
        kept = ["j0", *_fill_up(yard)]
        assert len(kept) > 3
        with open(gate, "wb"):
            pass
        hand.hear("No space left on device")
        assert [job.id for job in yard.queue.find()] == kept
        _mount(disk, _REMOUNT, "size=2m")  # there is room again
        yard.await_state("j0", "completed", "dead")
        yard.check(["j0"])
        yard.queue.checkpoint()
        assert sorted(job.id for job in yard.queue.find()) == sorted(kept)
        hand.leave()

    in_child(deed)


def _fill_up(yard: Yard) -> list[str]:
    """Enqueue until the disk refuses, and leave no room for a byte; what it took."""
    taken = _enqueue_until_refused(yard, "large", 9_000)
    with open(os.path.join(os.path.dirname(yard.path), "ballast"), "wb", buffering=0) as file:
        size = 65_536
        while size:
            try:
                file.write(b"x" * size)
            except OSError:
                size //= 2
    return taken + _enqueue_until_refused(yard, "small", 1)  # what its last page had left


def _enqueue_until_refused(yard: Yard, name: str, size: int) -> list[str]:
    taken: list[str] = []
    later = format_time(time.time() + 3600)
    refusal = ""
    while not refusal:
        draft = {"id": f"{name}{len(taken)}", "command": "x" * size, "run_at": later}
        try:
            yard.queue.enqueue([draft])
            taken.append(str(draft["id"]))
        except StoreError as exc:
            refusal = str(exc)
    assert "No space left" in refusal
    return taken


def test_a_disk_that_became_read_only_is_read_and_refused_to_writers(warm):
    def deed(folder: str) -> None:
        _leave_namespace()
        disk = os.path.join(folder, "disk")
        os.mkdir(disk)
        _mount(disk, 0, "size=1m,mode=700")
        yard = Yard(disk)
        yard.fill()
        before = [job.id for job in yard.queue.find()]
        yard.queue.store._writer.close()
        _mount(disk, _REMOUNT | _READ_ONLY)
        with pytest.raises(StoreError, match="Read-only file system"):
            yard.queue.enqueue([yard.draft("j9")])
        assert [job.id for job in yard.queue.find()] == before
        assert yard.queue.store.check() == []
        with pytest.raises(StoreError, match="Read-only file system"):
            loop.run_worker(yard.queue, until_empty=True)
        yard.queue.store._writer.close()
        _mount(disk, _REMOUNT)
        assert loop.run_worker(yard.queue, until_empty=True) == 0
        yard.check(before)

    in_child(deed)
