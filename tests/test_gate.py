"""What may start: pauses, as people and workers meet them."""

from __future__ import annotations

import json

import pytest
from samples import make_job
from test_live_index import line

from queuectl.errors import BadFile, Conflict, StoreError
from queuectl.job_queue import JobQueue
from queuectl.model.gate import gate_of
from queuectl.store.files.live_index import LiveIndex


@pytest.fixture
def queue(tmp_path):
    queue = JobQueue.open(str(tmp_path / "data"))
    yield queue
    queue.close()


def enqueue(queue, *ids, **fields):
    return queue.enqueue([{"id": job_id, "command": "true", **fields} for job_id in ids])


def test_nothing_starts_once_a_pause_is_answered(queue):
    """Workers that have claimed before, and hold all that they need in memory, start nothing."""
    enqueue(queue, "a", "b", "c", "d", tags=["gpu"])
    workers = [JobQueue.open(queue.folder) for _ in range(3)]
    assert [worker.claim("w").id for worker in workers] == ["a", "b", "c"]
    assert queue.pause(["gpu"]) == ["gpu"]
    assert [worker.claim("w") for worker in workers] == [None] * 3
    assert queue.pause() == ["gpu", "*"]
    enqueue(queue, "e")
    assert [worker.claim("w") for worker in workers] == [None] * 3
    assert queue.resume() == ["gpu"]
    assert [worker.claim("w") and "e" for worker in workers] == ["e", None, None]
    assert queue.resume(["gpu"]) == []
    assert workers[2].claim("w").id == "d"
    for worker in workers:
        worker.close()


def test_resuming_what_is_not_paused_is_a_conflict_and_changes_nothing(queue):
    queue.pause(["a", "b"])
    with pytest.raises(Conflict, match="tag 'c' is not paused; paused is: a, b"):
        queue.resume(["a", "c"])
    with pytest.raises(Conflict, match="the queue is not paused; paused is: a, b"):
        queue.resume()
    assert queue.settings().paused == ("a", "b")


def test_a_mistake_in_the_settings_starts_nothing(queue, tmp_path):
    enqueue(queue, "a", tags=["gpu"])
    worker = JobQueue.open(queue.folder)
    queue.pause(["gpu"])
    assert worker.claim("w") is None
    (tmp_path / "data" / "config.json").write_text('{"paused": "gpu"}')
    with pytest.raises(BadFile, match="paused must be a list of tags"):
        worker.claim("w")
    (tmp_path / "data" / "config.json").write_text("{}")
    assert worker.claim("w").id == "a"
    worker.close()


def test_a_pause_is_refused_beside_workers_that_know_of_none(queue, monkeypatch):
    enqueue(queue, "a")
    with queue.store._writer.writing() as journal:
        monkeypatch.setattr(journal.header, "version", 1)
        monkeypatch.setattr(queue.store._writer, "version_to_write", lambda journal: 1)
    with pytest.raises(StoreError, match=r"of an older queuectl still run: queuectl worker stop"):
        queue.pause()
    assert queue.settings().paused == ()


def test_a_lane_that_is_shut_is_left_alone(monkeypatch):
    """A claim behind many paused jobs looks at none of them twice, and reads nothing anew."""
    lines = [line(f"g{n}", tags=("gpu", f"t{n % 3}"), priority=-1) for n in range(200)]
    lines += [line(f"p{n}") for n in range(3)]
    now = make_job().run_at.encode()
    index = LiveIndex(lines, now=now, gate=gate_of(["gpu", "t1"]), most=8)
    assert index._lanes is not None
    looks = []
    head = index._lanes._head
    monkeypatch.setattr(index._lanes, "_head", lambda *args: looks.append(1) or head(*args))
    for n in range(3):
        assert index.first_ready(now) == lines[200 + n]
        index.put(line(f"p{n}", state="in_progress"))
    assert index.first_ready(now) is None
    assert len(looks) == len(index._lanes.lanes) == 2
    assert not index.is_low(now)


def test_the_commands_tell_what_is_paused(cli):
    cli.ok("enqueue", "--id", "a", "--tag", "gpu", "--", "true")
    told = cli.ok("pause", "gpu", "net")
    assert told == "No job tagged gpu or net starts until 'resume gpu net'.\n"
    assert cli.ok("status").startswith(
        "Paused: jobs tagged gpu, net; 'resume gpu net' lets them start\nTotal Jobs: 1\n"
    )
    reasons = json.loads(cli.ok("explain", "a", "--json"))["reasons"]
    assert [reason["code"] for reason in reasons] == ["paused", "no_workers"]
    drained = cli("worker", "run", "--drain")
    waited = cli("wait", "--all")
    assert (drained.code, waited.code) == (1, 1)
    for told in (drained.err, waited.err):
        assert "1 job is paused and nothing else is left to run" in told
    assert cli.ok("pause", "-q") == "gpu\nnet\n*\n"
    assert json.loads(cli.ok("status", "--json"))["paused"] == ["gpu", "net", "*"]
    assert "whole queue is paused" in cli.ok("explain", "a")
    assert "paused" in cli.ok("top")
    assert cli.ok("resume", "gpu") == (
        "Jobs tagged gpu start again.\n"
        "The whole queue is still paused: 'resume' lets it go on.\n"
        "Still paused: net; 'resume net' ends that.\n"
    )
    assert cli("resume", "gpu").code == 4
    assert cli("pause", "g u").code == 2
    assert "The queue goes on." in cli.ok("resume")
    assert cli("worker", "run", "--drain").code == 0
