"""Worker files: locked for as long as the worker lives, however it ends."""

from __future__ import annotations

import errno
import json
import os
import select
import subprocess
import sys

import pytest
from failing_disk import DEATHS, failing_disk
from samples import make_job, moment, read

from queuectl.errors import BadFile, StoreError
from queuectl.store.facts import MOST_LEFT, WorkerInfo
from queuectl.store.files.file_store import FileStore
from queuectl.store.files.summary import read_summary
from queuectl.store.files.worker_files import (
    make_slot,
    note_lost,
    probe,
    wake,
    wake_idle,
    worker_infos,
)

WORKER = """
import sys
from queuectl.job_queue import JobQueue
queue = JobQueue.open(sys.argv[1])
slot = queue.register_worker("start", "boot")
job = queue.claim(slot.id) if "claim" in sys.argv else None
if job:
    slot.note_run(job.id, job.run, 4242, "777")
print(slot.id, flush=True)
sys.stdin.read()
queue.release_worker(slot)
"""


@pytest.fixture
def store(tmp_path):
    store = FileStore(str(tmp_path / "queue"))
    store.add([make_job("a", run_at=moment(-(10**8)))])
    yield store
    assert store.check() == []
    store.close()


@pytest.fixture
def start(store):
    """Starts a worker in a process of its own: the process and the worker's id."""
    started = []

    def start(*words):
        process = subprocess.Popen(
            [sys.executable, "-c", WORKER, store.folder, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        started.append(process)
        return process, process.stdout.readline().decode().strip()

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=20)


def register(store, worker_id="w-1"):
    return store.register(worker_id, os.getpid(), "12", "boot")


def files_of(store):
    return sorted(os.listdir(os.path.join(store.folder, "workers")))


def pids(store):
    with open(os.path.join(store.folder, "worker_pids.json")) as file:
        return [entry["id"] for entry in json.load(file)]


def test_a_worker_is_seen_alive_with_its_facts(store):
    slot = register(store)
    (info,) = store.workers()
    assert (info.id, info.alive, info.missing, info.pid) == ("w-1", True, False, os.getpid())
    assert (info.start_time, info.boot_id, info.job_id, info.run) == ("12", "boot", None, 0)
    assert info.started_at.endswith("Z")
    assert pids(store) == ["w-1"]
    assert slot.still_held()
    store.release(slot)
    assert store.workers() == []
    assert files_of(store) == []
    assert pids(store) == []
    assert not slot.still_held()


def test_a_worker_without_facts_is_seen_too(store):
    slot = store.register("w-1", 77, "", "")
    (info,) = store.workers()
    assert (info.pid, info.start_time, info.boot_id) == (77, "", "")
    assert info.started_at
    store.release(slot)


def test_facts_stand_behind_the_job_and_an_older_queuectl_reads_past_them(store):
    slot = register(store)
    path = os.path.join(store.folder, "workers", "w-1")
    assert store.workers()[0].facts == {"format": "2", "inode": str(os.stat(path).st_ino)}
    slot.note_run("x" * 128, 10**6, 2**22, "9" * 20)
    slot.note_facts(stopping=1, pidns="4026531836")
    slot.clear_run()
    slot.note_run("b", 3, 88, "9")
    (info,) = store.workers()
    assert (info.facts["stopping"], info.facts["pidns"]) == ("1", "4026531836")
    assert (info.job_id, info.run, info.group_pid, info.group_start) == ("b", 3, 88, "9")
    lines = read(path).split(b"\n")
    assert [len(lines[0].split(b" ")), lines[1]] == [5, b"b 3 88 9"]  # as a61fc90 takes them apart
    store.release(slot)


def test_a_worker_of_an_older_queuectl_has_no_facts():
    text = f"w-1 1 2 3 4\n{'b 3 88 9': <255}\n".ljust(1024)
    assert WorkerInfo("w-1", True, text).facts == {}
    assert WorkerInfo("w-1", False, "w-1 1 2 3 4", missing=True).facts == {}


@pytest.mark.parametrize(
    "text",
    ["", "\n", "w-1", "w-1 x y z t", "w-1 -5 a b c\n", "\0" * 100, "w-1 1 2 3 4 5 6", "a b\nc d\n"],
)
def test_a_worker_file_of_garbage_is_a_worker_of_whom_nothing_is_known(text):
    info = WorkerInfo("w-1", False, text)
    assert (info.pid, info.start_time, info.boot_id, info.job_id) == (0, "", "", None)


def test_looking_does_not_disturb_those_who_look(store, start):
    _, worker_id = start()
    for _ in range(3):
        assert probe(store.folder, worker_id).alive
    assert not store.forget_worker(worker_id)
    slot = register(store, "w-2")
    assert [info.alive for info in worker_infos(store.folder)] == [True, True]
    store.release(slot)


def test_a_killed_worker_is_seen_dead_at_once(store, start, wait_until):
    process, worker_id = start("claim")
    info = probe(store.folder, worker_id)
    assert (info.alive, info.job_id, info.run, info.group_pid) == (True, "a", 1, 4242)
    process.kill()
    process.wait(20)
    wait_until(lambda: not probe(store.folder, worker_id).alive)
    info = probe(store.folder, worker_id)
    assert (info.job_id, info.group_start, info.pid) == ("a", "777", process.pid)
    assert store.forget_worker(worker_id)
    assert store.workers() == []
    assert files_of(store) == []
    assert pids(store) == []
    assert store.forget_worker(worker_id)  # again is harmless


def test_a_folder_that_may_not_be_looked_into_for_a_moment_gives_no_worker_up(store, monkeypatch):
    def refuse(path, *_):
        raise PermissionError(errno.EACCES, "Permission denied", path)

    slot = register(store)
    with monkeypatch.context() as refusing:
        refusing.setattr(os, "lstat", refuse)
        assert slot.still_held()
    with monkeypatch.context() as refusing:
        refusing.setattr(os, "listdir", refuse)
        for look in (store.workers, lambda: read_summary(store.folder, store.now())):
            with pytest.raises(StoreError, match=r"listing .*/workers: Permission denied"):
                look()
    store.release(slot)


def test_a_worker_notices_that_its_file_was_taken_away_or_replaced(store):
    slot = register(store)
    path = os.path.join(store.folder, "workers", "w-1")
    os.rename(path, f"{path}-away")
    assert not slot.still_held()
    with open(path, "w"):
        pass
    assert not slot.still_held()
    os.rename(f"{path}-away", path)
    assert slot.still_held()
    store.release(slot)


def test_the_lock_passes_to_no_child(store):
    slot = register(store)
    child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=-1)
    slot.close()
    try:
        assert not probe(store.folder, "w-1").alive
    finally:
        child.communicate(timeout=20)
    store.forget_worker("w-1")


def test_a_worker_that_has_no_file_any_more_is_an_orphan_with_what_is_known(store, start):
    process, worker_id = start("claim")
    os.unlink(os.path.join(store.folder, "workers", worker_id))
    (orphan,) = store.orphans()
    assert (orphan.id, orphan.missing, orphan.alive) == (worker_id, True, False)
    assert (orphan.pid, orphan.start_time, orphan.boot_id) == (process.pid, "start", "boot")
    assert store.get("a").worker == worker_id
    process.kill()
    process.wait(20)
    assert store.forget_worker(worker_id)
    assert files_of(store) == []


def test_an_orphan_of_whom_nothing_is_known_is_one_too(store):
    store.claim("w-unknown", moment(1))
    (orphan,) = store.orphans()
    assert (orphan.id, orphan.pid, orphan.missing) == ("w-unknown", 0, True)


def test_a_bad_worker_pids_file_is_refused_and_left_alone(store):
    path = os.path.join(store.folder, "worker_pids.json")
    for text in ("", "{}", "[1]", "[" * 100_000):
        with open(path, "w") as file:
            file.write(text)
        with pytest.raises(BadFile, match=r"worker_pids\.json"):
            register(store)
        with open(path) as file:
            assert file.read() == text
    assert list(store.find()) != []


def test_a_worker_that_could_not_be_registered_leaves_nothing_behind(store):
    store.release(register(store))
    at = 0
    while True:
        at += 1
        with failing_disk(at, "once") as disk:
            try:
                slot = register(store)
                break
            except StoreError:
                pass
        assert all(not info.alive for info in store.workers())
        assert [name for name in files_of(store) if name.startswith(".")] == []
    assert not disk.broken
    assert at > 3
    store.release(slot)


def forget_all(store):
    for worker in (*store.workers(), *store.orphans()):
        assert store.forget_worker(worker.id)
    assert files_of(store) == pids(store) == []


@pytest.mark.parametrize("how", DEATHS)
def test_a_worker_killed_while_it_registers_leaves_nothing_that_is_not_found(store, how):
    store.release(register(store))
    slots, at = [], 0
    while not slots:
        at += 1
        with failing_disk(at, how):
            slots.append(register(store, f"w-{at}"))
        if not slots:
            forget_all(store)
    assert at > 5
    store.release(slots[0])


@pytest.mark.parametrize("how", DEATHS)
def test_a_worker_whose_forgetting_was_cut_short_is_found_again(store, how):
    def forget(at):
        worker_id = f"w-{at}"
        slot = register(store, worker_id)
        slot.close()
        with failing_disk(at, how) as disk:
            store.forget_worker(worker_id)
        return disk.broken

    at = 1
    while forget(at):
        forget_all(store)
        at += 1
    assert at > 5


def test_a_pipe_that_cannot_be_made_is_a_refusal(store, monkeypatch):
    def refuse(path, mode):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "mkfifo", refuse)
    with pytest.raises(StoreError, match="Operation not permitted"):
        register(store)
    assert files_of(store) == []


# -- waking


def woken(slot):
    waiting = select.poll()
    waiting.register(slot.wake_fd, select.POLLIN)
    ready = waiting.poll(0)
    return os.read(slot.wake_fd, 100) if ready else b""


def test_as_many_idle_workers_are_woken_as_are_asked_for(tmp_path):
    folder = str(tmp_path)
    slots = [make_slot(folder, f"w-{number}", "1 a b c") for number in range(4)]
    slots[0].note_run("job", 1, 1, "start")
    slots[1].close()  # it died
    wake_idle(folder, 1)
    assert sorted(woken(slot) for slot in slots[2:]) == [b"", b"w"]
    wake_idle(folder, 9)
    assert [woken(slot) for slot in slots[2:]] == [b"w", b"w"]
    assert woken(slots[0]) == b""
    slots[0].clear_run()
    wake_idle(folder, 9)
    assert woken(slots[0]) == b"w"
    for slot in (slots[0], *slots[2:]):
        slot.release()


def test_waking_idle_workers_never_fails(tmp_path):
    wake_idle(str(tmp_path), 1)
    os.mkdir(tmp_path / "workers")
    wake_idle(str(tmp_path), 1)
    os.mkfifo(tmp_path / "workers" / "w-1")  # in the place of a worker's file
    wake_idle(str(tmp_path), 1)


# -- the watch


def test_one_worker_keeps_watch_until_it_leaves_it_or_dies(tmp_path):
    first, second, third = (make_slot(str(tmp_path), f"w-{n}", "1 a b c") for n in range(3))
    assert first.keep_watch()
    assert first.keep_watch()
    assert not second.keep_watch()
    first.leave_watch()
    assert second.keep_watch()
    assert not first.keep_watch()
    second.close()  # as the kernel does for one that dies
    assert third.keep_watch()
    for slot in (first, third):
        slot.release()


def test_a_worker_knows_how_many_there_are_and_sees_a_lost_one(tmp_path):
    first, second = (make_slot(str(tmp_path), f"w-{n}", "1 a b c") for n in range(2))
    assert first.crowd() == 2
    assert not any(first.sees_lost() for _ in range(20))
    second.close()
    assert any(first.sees_lost() for _ in range(100))
    first.release()


def test_waking_never_waits_and_never_fails(tmp_path):
    folder = str(tmp_path)
    wake(folder, b"w")  # no worker ever was
    slot = make_slot(folder, "w-1", "1 a b c")
    wake(folder, b"w", "w-nobody")
    for _ in range(100_000 // 4096 + 2):
        wake(folder, b"w" * 4096)  # the pipe is full at last
    wake(folder, b"w")
    slot.release()
    os.mkfifo(os.path.join(folder, "workers", "w-2.wake"))  # and nobody reads it
    wake(folder, b"w")
    wake(folder, b"c", "w-2")


def test_the_longest_facts_fit_into_the_file(store):
    """Of five processes that cannot be ended and the longest trouble, all numbers are whole."""
    worker_id = "w" * 100
    facts = f"{2**22} {2**63} {'b' * 36} 2030-01-01T00:00:00.000000Z"
    slot = make_slot(store.folder, worker_id, facts)
    left = ",".join(f"{2**22 - n}:{'u' * 32}:{'c' * 15}" for n in range(MOST_LEFT))
    slot.note_facts(pidns=2**32, folder=f"{2**64 - 1}:{2**64 - 1}", stopping=1)
    slot.note_run("j" * 128, 10**6, 2**22, str(2**63))
    slot.note_facts(left=left)
    slot.note_trouble("ä" * 1000)
    info = probe(store.folder, worker_id)
    assert os.stat(slot.path).st_size == 1024
    assert (info.job_id, info.run, info.group_pid) == ("j" * 128, 10**6, 2**22)
    assert info.facts["inode"] == str(os.stat(slot.path).st_ino)
    assert info.facts["folder"] == f"{2**64 - 1}:{2**64 - 1}"
    assert info.facts["stopping"] == "1"
    assert len(info.left) >= 2
    assert info.left[0] == (2**22, "u" * 32, "c" * 15)
    assert info.trouble.startswith("ää")
    slot.note_trouble("")
    assert len(probe(store.folder, worker_id).left) == MOST_LEFT
    slot.close()
    note_lost(store.folder, worker_id, trouble="x" * 480, lost=2**40)
    info = probe(store.folder, worker_id)
    assert (os.stat(slot.path).st_size, info.facts["lost"]) == (1024, str(2**40))
    assert info.facts["folder"] == f"{2**64 - 1}:{2**64 - 1}"
