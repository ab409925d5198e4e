"""The lock of the queue: one holder at a time, and how long others wait."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import time

import pytest
from filelock import FileLock
from samples import make_job, moment

from queuectl.errors import StoreBusy, StoreError
from queuectl.store.files.file_store import FileStore
from queuectl.store.files.lock import QueueLock

HOLD = """
import sys, filelock
with filelock.FileLock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock until its standard input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "queue.lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout.readline() == b"held\n"
    yield process
    process.communicate(timeout=20)


def test_a_lock_that_was_not_taken_to_the_end_is_free(tmp_path, monkeypatch):
    lock, other = lock_of(tmp_path), lock_of(tmp_path)

    def fail(_):
        raise OSError(errno.EIO, "the disk fails")

    with monkeypatch.context() as failing:
        failing.setattr(QueueLock, "_is_named", fail)
        with pytest.raises(OSError, match="the disk fails"):
            lock.acquire()
    with other, pytest.raises(StoreBusy):
        lock.acquire()
    with lock:
        pass


def lock_of(tmp_path, patience=0.05):
    return QueueLock(str(tmp_path), lambda: patience)


def test_a_lock_that_is_held_is_reported_with_its_holder(tmp_path, holder):
    lock, began = lock_of(tmp_path, 0.2), time.monotonic()
    with pytest.raises(StoreBusy) as caught, lock:
        pass
    assert 0.2 <= time.monotonic() - began < 10
    line = str(caught.value)
    assert caught.value.exit_code == 5
    assert line.startswith(f"{tmp_path}/queue.lock is held by ")
    if os.path.exists("/proc/locks"):
        with open("/proc/locks") as file:
            told = str(holder.pid) in file.read()
        assert f"process {holder.pid};" in line or not told
    assert "try again, or raise lock-timeout" in line
    lock.close()


def test_no_patience_means_one_try(tmp_path, holder):
    lock, began = lock_of(tmp_path, 0.0), time.monotonic()
    with pytest.raises(StoreBusy), lock:
        pass
    assert time.monotonic() - began < 5
    lock.close()


def test_the_lock_is_taken_as_soon_as_it_is_free(tmp_path, holder):
    lock = lock_of(tmp_path, 20.0)
    holder.stdin.close()
    with lock:
        pass
    holder.stdin = None
    lock.close()


def test_a_killed_holder_holds_nothing(tmp_path, holder):
    lock = lock_of(tmp_path, 20.0)
    holder.kill()
    with lock:
        pass
    lock.close()


def test_patience_is_asked_only_when_another_has_it(tmp_path):
    asked = []
    lock = QueueLock(str(tmp_path), lambda: asked.append(1) or 0.0)
    for _ in range(3):
        with lock:
            pass
    assert asked == []
    lock.close()


def test_it_keeps_a_filelock_of_others_out_and_frees_it_again(tmp_path):
    lock, other = lock_of(tmp_path), FileLock(str(tmp_path / "queue.lock"), timeout=0)
    with lock, pytest.raises(TimeoutError):
        other.acquire()
    with other, pytest.raises(StoreBusy), lock:
        pass
    with lock:
        pass
    lock.close()


def test_an_error_under_the_lock_frees_it(tmp_path):
    lock, other = lock_of(tmp_path), lock_of(tmp_path)
    with pytest.raises(KeyError), lock:
        raise KeyError
    with other:
        pass
    lock.close()
    other.close()


def test_a_lock_file_that_is_removed_while_held_lets_nobody_in(tmp_path):
    first, second, third = (lock_of(tmp_path) for _ in range(3))
    with second:  # it has the old file open, as third has not
        pass
    with first:
        os.unlink(first.path)
        for other in (second, third):
            with pytest.raises(StoreBusy, match=rf"queue.lock is held by process {os.getpid()};"):
                other.acquire()
    for lock in (second, third, first):
        with lock, pytest.raises(StoreBusy), lock_of(tmp_path):
            pass
        lock.close()


def test_a_lock_file_that_was_removed_is_made_anew(tmp_path):
    """An older queuectl takes that file only, and must find the one that has the name."""
    lock = lock_of(tmp_path)
    with lock:
        pass
    os.unlink(lock.path)
    with lock, pytest.raises(TimeoutError):
        FileLock(lock.path, timeout=0).acquire()
    lock.close()


def test_a_lock_that_is_opened_anew_leaves_none_to_a_forked_process(tmp_path):
    lock, other = lock_of(tmp_path), lock_of(tmp_path)
    with lock:
        pass
    inherited = [os.dup(fd) for fd in lock._fds]
    os.unlink(lock.path)
    with lock, pytest.raises(StoreBusy), other:
        pass
    with other:
        pass
    for fd in inherited:
        os.close(fd)
    lock.close()


def test_a_lock_that_waits_moves_to_the_folder_that_has_the_name(tmp_path):
    folder, away = tmp_path / "queue", tmp_path / "away"
    folder.mkdir()

    def replace_the_folder():
        folder.rename(away)
        folder.mkdir()
        (folder / ".queuectl").touch()
        held.release()
        return 20.0

    held, waiting = lock_of(folder), QueueLock(str(folder), replace_the_folder)
    held.acquire()
    with waiting, pytest.raises(StoreBusy), lock_of(folder):
        pass
    with lock_of(away):
        pass
    held.close()
    waiting.close()


def test_one_patience_serves_for_both_locks(tmp_path):
    asked = []

    def free_the_folder():
        asked.append(fcntl.flock(folder, fcntl.LOCK_UN))
        return 0.05

    folder = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    with FileLock(str(tmp_path / "queue.lock")), pytest.raises(StoreBusy):
        QueueLock(str(tmp_path), free_the_folder).acquire()
    assert asked == [None]
    with lock_of(tmp_path):  # who gave up holds neither
        pass
    os.close(folder)


@pytest.mark.parametrize("what", ["filelock.lock_descriptor", "fcntl.flock"])
def test_a_file_system_without_locks_is_refused(tmp_path, monkeypatch, what):
    """Also one that refuses the release, which hides no error."""

    def refuse(fd, *_, **__):
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(what, refuse)
    lock = lock_of(tmp_path)
    with pytest.raises(StoreError, match=r"has no locks .*--data DIR"), lock:
        pass
    lock.close()


def test_a_refusal_with_eacces_means_that_another_has_the_lock(tmp_path, monkeypatch):
    def refuse(fd, how):
        raise OSError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(StoreBusy), lock_of(tmp_path):
        pass


def test_the_lock_is_private_and_passes_to_no_child(tmp_path):
    lock = lock_of(tmp_path)
    with lock:
        assert os.stat(lock.path).st_mode & 0o777 == 0o600
        assert lock._fds
        assert not any(os.get_inheritable(fd) for fd in lock._fds)
    lock.close()


def test_a_store_gives_up_after_its_lock_timeout_and_reads_all_the_same(tmp_path):
    store, other = (FileStore(str(tmp_path / "queue")) for _ in range(2))
    store.add([make_job("a")])
    assert store.change_settings({}, {"lock-timeout": 0})
    with other._writer.lock:
        with pytest.raises(StoreBusy):
            store.add([make_job("b")])
        assert [job.id for job in store.find()] == ["a"]
        assert store.counts()["pending"] == 1
        assert store.get("a") == make_job("a")
        assert store.check() == []
    store.add([make_job("b")])
    store.close()
    other.close()


@pytest.mark.skipif(sys.platform != "linux", reason="/proc/locks tells the holder")
@pytest.mark.parametrize("name", [".", "queue.lock"])
def test_a_command_that_its_own_parent_shuts_out_is_told_so(cli, name):
    cli.ok("config", "set", "lock-timeout", "0.1")
    fd = os.open(os.path.join(cli.folder, name), os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        process = cli.popen("enqueue", "--", "true")
        _, told = process.communicate(timeout=30)
    finally:
        os.close(fd)
    assert process.returncode == 5
    wanted = f"queue.lock is held by process {os.getpid()}, which started this command"
    assert wanted in told.decode()
    assert told.count(b"\n") == 1
    cli.ok("enqueue", "--", "true")


def test_a_writer_that_rests_on_the_folder_s_time_sees_what_got_another_name(tmp_path, wait_until):
    store, other = FileStore(str(tmp_path)), FileStore(str(tmp_path))
    writer = store._writer

    def claim():
        return store.claim("w1", moment(1)).job

    def rest():
        # Nobody looks at a name again once the folder's last change is long enough ago.
        wait_until(lambda: claim() is None and writer._seen_at == writer.lock.named_at > 0)

    rest()
    os.unlink(tmp_path / "queue.lock")  # a person took it for a stale one
    other.add([make_job("a")])
    assert claim().id == "a"
    assert writer.lock._inodes[3] == os.stat(tmp_path / "queue.lock").st_ino
    rest()
    other.add([make_job("b")])  # no name changes
    assert claim().id == "b"
    other.add([make_job("c"), make_job("d", tags=("held",)), make_job("e")])
    other.fold()  # another journal
    other.change_settings({}, {"paused": ["held"]})  # and other settings
    assert claim().id == "c"
    assert claim().id == "e"
    rest()
    other.change_settings({"paused": ["held"]}, {})
    assert claim().id == "d"
    store.close()
    other.close()
