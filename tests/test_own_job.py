"""Commands inside a job that act on the job's own queue."""

from __future__ import annotations

import os
import signal

import pytest

from queuectl.store.files.logs import LogFolder
from queuectl.worker import processes
from queuectl.worker.runner import MARKS


@pytest.fixture
def own(queue, monkeypatch):
    """The slot of a worker, which is this process, and runs the job `own`, which it is, too."""
    slot = queue.register_worker(processes.start_time(os.getpid()), processes.boot_id())
    queue.enqueue([{"id": "own", "command": "true", "tags": ["t"]}])
    [job] = filter(None, [queue.claim(slot.id)])
    slot.note_run(job.id, job.run, os.getpid(), "-")
    for name, text in zip(MARKS, (slot.id, "own", "1", queue.identity()), strict=True):
        monkeypatch.setenv(name, text)
    yield slot
    slot.release()


FOR_EVER = "queuectl: job 'own' runs this command, which would wait for its end for ever\n"


@pytest.mark.parametrize(
    "line", ["wait own", "logs -f own", "worker run --drain", "worker run --drain -q"]
)
def test_a_command_does_not_wait_for_the_job_that_it_is_a_part_of(cli, own, line):
    assert cli(*line.split()) == (2, "", FOR_EVER)


ALONE = (
    "queuectl: job 'own' runs this command on the only worker, which can run no other job until "
    "it ends; 'worker start' starts one more\n"
)


@pytest.mark.parametrize("line", ["wait a", "wait --all", "logs -f a", "run -- true"])
def test_a_job_does_not_wait_on_the_only_worker_for_another_one(cli, queue, own, line):
    queue.enqueue([{"id": "a", "command": "true"}])
    assert cli(*line.split()) == (2, "", ALONE)
    assert sum(queue.counts().values()) == 2
    other = queue.register_worker(processes.start_time(os.getpid()), processes.boot_id())
    try:
        assert cli("wait", "a", "--timeout", "0").code == 124
    finally:
        other.release()


def test_waiting_for_many_leaves_out_the_job_that_waits(cli, own):
    assert cli.ok("wait", "--all") == "No job was left to wait for.\n"
    assert cli("wait", "--tag", "t") == (0, "", "No job matches.\n")


@pytest.mark.parametrize(("name", "text"), [(MARKS[1], "other"), (MARKS[2], "2"), (MARKS[3], "x")])
def test_a_process_of_an_earlier_run_or_of_a_copy_is_not_part_of_the_job(
    cli, own, monkeypatch, name, text
):
    monkeypatch.setenv(name, text)
    assert cli("wait", "own", "--timeout", "0").code == 124


def test_the_worker_that_runs_the_command_is_told_to_stop_and_not_waited_for(cli, own):
    came = []
    before = signal.signal(signal.SIGUSR2, lambda *args: came.append(args[0]))
    try:
        told = f"Worker PID {os.getpid()} runs this command, and stops when its job has ended.\n"
        assert cli("worker", "stop") == (0, "", told)
        assert cli("worker", "scale", "0").err == told
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert came == [signal.SIGUSR2] * 2


@pytest.mark.parametrize("read", [LogFolder.output, lambda logs, job: logs.tail(job, 9)])
def test_output_that_is_written_into_the_same_output_has_an_end(queue, own, read):
    job = queue.get("own")
    logs = LogFolder(queue.folder)
    logs.make()
    with open(logs.spool_path(own.id), "ab", buffering=0) as spool:
        spool.write(b"line\n" * 7)
        for piece in read(logs, job):
            spool.write(piece)
        assert spool.tell() == 70
