"""The identity of processes, and that only the right ones are ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from queuectl.worker import processes

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="/proc")


@pytest.fixture
def spawn() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    children = []

    def start(command: str, **env: str) -> subprocess.Popen[bytes]:
        child = subprocess.Popen(
            ["/bin/sh", "-c", command],
            stdout=subprocess.PIPE,
            start_new_session=True,
            env={**os.environ, **env},
        )
        children.append(child)
        return child

    yield start
    for child in children:
        processes.signal_group(child.pid, signal.SIGKILL)
        child.wait()
        child.stdout.close()


def test_a_start_time_is_one_word_and_stays(spawn):
    child = spawn("sleep 60")
    first = processes.start_time(child.pid)
    assert first
    assert " " not in first
    assert processes.start_time(child.pid) == first


@linux_only
@pytest.mark.parametrize("shown", ["1", None])
def test_where_proc_is_that_of_others_nothing_is_told_by_its_numbers(spawn, monkeypatch, shown):
    child = spawn("sleep 60")
    started = processes.start_time(child.pid)
    assert processes.are_seen()

    def readlink(path):
        if shown is None:
            raise FileNotFoundError(path)
        return shown

    monkeypatch.setattr(os, "readlink", readlink)
    assert not processes.are_seen()
    assert not processes.be_subreaper()
    with pytest.raises(ProcessLookupError):
        processes.Process(child.pid, started)
    monkeypatch.setattr(processes, "look", dict)
    assert processes.group_alive(child.pid)


def test_a_pid_without_a_process_has_no_start_time(spawn):
    child = spawn("true")
    child.wait()
    assert processes.start_time(child.pid) is None


@linux_only
def test_a_name_with_brackets_and_spaces_does_not_confuse(spawn, tmp_path):
    odd = tmp_path / "a) S 1 2 (b"
    os.symlink("/bin/sleep", odd)
    child = subprocess.Popen([str(odd), "60"])
    try:
        assert processes.start_time(child.pid).isdigit()
        assert abs(int(processes.start_time(child.pid)) - processes.SpawnClock().tick()) < 1000
    finally:
        child.kill()
        child.wait()


def test_the_boot_has_one_word():
    assert processes.boot_id()
    assert " " not in processes.boot_id()
    assert processes.boot_id() == processes.boot_id()


def test_a_process_is_known_by_pid_start_and_boot(spawn):
    child = spawn("sleep 60")
    started, boot = processes.start_time(child.pid), processes.boot_id()
    assert processes.is_process(child.pid, started, boot)
    assert not processes.is_process(child.pid, "1", boot)
    assert not processes.is_process(child.pid, started, "another-boot")
    assert not processes.is_process(0, "", boot)


def test_a_signal_never_reaches_who_came_after(spawn):
    child = spawn("sleep 60")
    with pytest.raises(ProcessLookupError):
        processes.Process(child.pid, "1")
    assert child.poll() is None


@pytest.fixture(params=["with a pidfd", "without"])
def grip(request, monkeypatch) -> None:
    if request.param == "without":
        monkeypatch.setattr(processes, "_pidfd", lambda _pid: -1)
    elif not hasattr(os, "pidfd_open"):
        pytest.skip("no pidfd")


@pytest.mark.usefixtures("grip")
def test_a_process_is_signalled_and_waited_for(spawn):
    child = spawn("sleep 60")
    process = processes.Process(child.pid, processes.start_time(child.pid))
    assert not process.wait(0.01)
    process.send(signal.SIGTERM)
    assert child.wait() == -signal.SIGTERM
    assert process.wait(5)
    process.send(signal.SIGTERM)
    process.close()


def test_a_group_lives_as_long_as_one_of_it(spawn):
    child = spawn("sleep 60 & echo started; exit 0")
    child.stdout.readline()
    child.wait()
    assert processes.group_alive(child.pid)
    assert processes.kill_group(child.pid)
    assert not processes.group_alive(child.pid)


@linux_only
def test_a_zombie_is_not_alive(spawn, wait_until):
    child = spawn("exit 0")
    wait_until(lambda: os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG))
    os.killpg(child.pid, 0)
    assert not processes.group_alive(child.pid)


def test_a_group_that_ends_in_time_is_not_killed(spawn):
    child = spawn(
        "trap 'sleep 0.1; echo tidied; exit 0' TERM; echo ready; while :; do sleep 0.05; done"
    )
    child.stdout.readline()
    processes.signal_group(child.pid, signal.SIGTERM)
    assert processes.await_group_end(child.pid, 10)
    assert child.stdout.read() == b"tidied\n"


def test_a_group_that_stays_is_killed_after_the_grace(spawn):
    child = spawn("trap '' TERM; echo ready; while :; do sleep 0.05; done")
    child.stdout.readline()
    processes.signal_group(child.pid, signal.SIGTERM)
    assert processes.await_group_end(child.pid, 0.1)
    assert child.wait() == -signal.SIGKILL


@linux_only
def test_marked_processes_are_found_and_no_others(spawn, wait_until):
    marked = spawn("echo ready; sleep 60 & wait", MARK="m-1", OTHER="2")
    similar = spawn("echo ready; sleep 60", MARK="m-12")
    marked.stdout.readline()
    similar.stdout.readline()
    wait_until(lambda: len(processes.processes_marked([b"MARK=m-1"])) == 2)
    assert processes.processes_marked([b"MARK=m-1", b"OTHER=3"]) == []
    assert marked.pid in processes.processes_marked([b"MARK=m-1"])
    assert similar.pid not in processes.processes_marked([b"MARK=m-1"])


@linux_only
def test_the_clock_gives_the_start_times_that_the_system_gives(spawn):
    clock = processes.SpawnClock()
    for _ in range(20):
        before = clock.tick()
        child = spawn("sleep 60")
        assert clock.start_of(child.pid, before) == processes.start_time(child.pid)


@linux_only
def test_a_clock_that_does_not_agree_is_not_used(spawn, monkeypatch):
    clock = processes.SpawnClock()
    monkeypatch.setattr(clock, "tick", lambda: 7)
    for _ in range(3):
        child = spawn("sleep 60")
        assert clock.start_of(child.pid, 7) == processes.start_time(child.pid)
