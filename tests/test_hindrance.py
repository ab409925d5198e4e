"""A living worker that cannot work is reported wherever a person looks."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sys

import pytest

from queuectl.live.feed import Feed
from queuectl.live.notices import Notices
from queuectl.live.watcher import Watcher
from queuectl.shell.prompt.toolbar import standing_text
from queuectl.store import opening
from queuectl.store.files.worker_files import make_slot, probe
from queuectl.worker.hindrance import hindrance, told_shortly


@pytest.fixture
def worker(cli):
    """The pid of a worker of an empty queue."""
    cli.ok("config", "set", "poll-interval", "0.05")
    return int(cli.ok("worker", "start", "-q"))


def health(cli):
    return json.loads(cli.ok("status", "--json"))["health"]


def check_told(cli, pid, why, job_id):
    """Every report says so; `why` stands in each."""
    assert f"Warning: worker PID {pid} {why}" in cli.ok("status")
    form = json.loads(cli.ok("status", "--json"))
    assert form["health"] == "stalled"
    assert [entry["pid"] for entry in form["workers"]["hindered"]] == [pid]
    listed = cli("worker", "list")
    assert f"Worker PID {pid} {why}" in listed.err
    assert " hindered " in listed.out
    (form,) = json.loads(cli.ok("worker", "list", "--json"))["workers"]
    assert why in form["hindered"]
    assert why in cli.ok("explain", job_id)
    watcher = Watcher(opening.watch(cli.folder), Notices(), lambda: None)
    watcher.look()
    feed = Feed(opening.watch(cli.folder), opening.output(cli.folder))
    for standing in (watcher.standing, feed.look().standing):
        assert f" ! worker {pid} {why}" in standing_text(standing, 500)[0][1]
    feed.close()
    assert f"{pid} hindered" in cli.ok("top")


def test_a_pause_is_told_wherever_somebody_waits_for_jobs(cli):
    told = "The queue is paused; 'resume' lets jobs start."
    cli.ok("pause")
    assert cli("enqueue", "--id", "a", "--", "true").err == f"{told}\n"
    assert f"{told} Waiting goes on.\n" in cli("wait", "a", "--timeout", "0.1").err
    cli.ok("resume")
    assert "paused" not in cli("wait", "a", "--timeout", "0.1").err


@pytest.mark.skipif(sys.platform != "linux", reason="ps is slow to tell")
def test_a_worker_that_a_signal_stopped_is_told(cli, worker, wait_until):
    os.kill(worker, signal.SIGSTOP)
    wait_until(lambda: health(cli) == "degraded")
    cli.ok("enqueue", "--id", "a", "--", "true")
    check_told(cli, worker, "is stopped", "a")
    told = f"The only worker, PID {worker}, is stopped; 'kill -CONT {worker}' lets it go on. "
    result = cli("wait", "a", "--timeout", "2.1")
    assert (result.code, result.out) == (124, "")
    assert result.err == f"{told}Waiting goes on.\nThe time is up; not ended yet: a\n"
    assert "Waiting" not in cli("-q", "wait", "a", "--timeout", "0.1").err
    follower = cli.popen("logs", "-f", "a")
    quiet = cli.popen("-q", "logs", "-f", "a")
    assert follower.stderr
    assert follower.stderr.readline() == b"Run 1 is due now.\n"
    assert follower.stderr.readline().decode() == f"{told}Waiting goes on.\n"
    os.kill(worker, signal.SIGCONT)
    for process, err in ((follower, b"Run 1 of job 'a' begins.\n"), (quiet, b"")):
        assert process.communicate(timeout=30) == (b"", err)
    wait_until(lambda: health(cli) == "ok")
    assert cli("worker", "list").err == ""


def test_a_worker_without_room_for_the_log_of_a_job_is_told(cli, worker, wait_until):
    logs = os.path.join(cli.folder, "logs")
    os.rename(logs, f"{logs}.away")
    with open(logs, "wb"):
        pass
    cli.ok("enqueue", "--id", "a", "--", "echo", "hello")
    wait_until(lambda: health(cli) == "stalled")
    # The first writes into what was open, and may have ended: it is the next that must wait.
    cli.ok("enqueue", "--id", "b", "--", "echo", "hello")
    check_told(cli, worker, "cannot work: ", "b")
    assert "queue/logs is a file" in cli.ok("status")
    os.unlink(logs)
    wait_until(lambda: health(cli) == "ok")
    assert cli("wait", "a", "b").code == 0
    assert cli.ok("logs", "b") == "hello\n"


def test_a_worker_that_waits_for_the_lock_is_told(cli, worker, wait_until):
    cli.ok("enqueue", "--id", "a", "--delay", "1h", "--", "true")
    fd = os.open(cli.folder, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    wait_until(lambda: health(cli) != "ok")
    check_told(cli, worker, "cannot work: waiting for", "a")
    os.close(fd)
    wait_until(lambda: health(cli) == "ok")


@pytest.mark.parametrize(
    ("why", "read"),
    [
        ("", ""),
        ("no space left: 50 %", "no space left: 50 %"),
        ("a\nb\x1b", "a\nb\x1b"),
        ("ünï " * 20, "ünï " * 20),
        ("/x" * 1000 + ": the disk is full", "/x" * 26 + "/..." + "/x" * 31 + ": the disk is full"),
        ("日" * 999, "日" * 53 + "..."),
    ],
)
def test_the_note_of_a_hindrance_can_be_read(tmp_path, why, read):
    slot = make_slot(str(tmp_path), "w-1", "1 2 3 4")
    slot.note_trouble("before")
    slot.note_run("a", 7, 8, "9")
    slot.note_trouble(why)
    info = probe(str(tmp_path), "w-1")
    assert (info.job_id, info.run, info.facts["format"]) == ("a", 7, "2")
    assert info.trouble == read
    assert hindrance(info) == (f"cannot work: {read}" if why else "")
    assert os.path.getsize(slot.path) == 1024
    slot.close()


def test_several_hindered_workers_are_counted(tmp_path):
    slots = [make_slot(str(tmp_path), name, "1 2 3 4") for name in ("w-1", "w-2")]
    for slot in slots:
        slot.note_trouble("the disk is full")
    infos = [probe(str(tmp_path), slot.id) for slot in slots]
    assert told_shortly(infos) == "2 workers cannot work"
    assert told_shortly(infos[:1]) == "worker 1 cannot work: the disk is full"
    for slot in slots:
        slot.close()
    assert told_shortly([probe(str(tmp_path), "w-1")]) == "", "it is dead"
