"""What may start: pauses, limits and locks, for people and workers."""

from __future__ import annotations

import json

import pytest
from samples import ended, make_job
from test_live_index import line

from queuectl.errors import BadFile, Conflict, StoreError
from queuectl.job_queue import JobQueue
from queuectl.model import gate
from queuectl.model.gate import gate_of
from queuectl.store import facts
from queuectl.store.files import side_files, writer
from queuectl.store.files.live_index import LiveIndex


@pytest.fixture
def queue(tmp_path):
    queue = JobQueue.open(str(tmp_path / "data"))
    yield queue
    queue.close()


@pytest.fixture
def queue_of():
    opened = []

    def opening(cli):
        queue = JobQueue.open(cli.folder)
        opened.append((queue, queue.register_worker("1", "boot")))
        return opened[0]

    yield opening
    for queue, slot in opened:
        queue.release_worker(slot)
        queue.close()


def enqueue(queue, *ids, **fields):
    return queue.enqueue([{"id": job_id, "command": "true", **fields} for job_id in ids])


def test_the_sign_for_the_whole_queue_is_the_same_where_the_gate_is_not_loaded():
    assert facts.ALL == gate.ALL


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
    with pytest.raises(Conflict, match="tag 'c' is not paused; 2 tags are: 'queuectl resume a b'"):
        queue.resume(["a", "c"])
    with pytest.raises(
        Conflict, match="the queue is not paused; 2 tags are: 'queuectl resume a b'"
    ):
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
    refused = cli("resume")
    assert (refused.code, "'queuectl resume gpu net' lets such jobs start" in refused.err) == (4, 1)
    assert json.loads(cli.ok("pause", "--json")) == {"schema": 1, "paused": ["gpu", "net", "*"]}
    assert cli.ok("pause", "-q") == "gpu\nnet\n*\n"
    assert json.loads(cli.ok("status", "--json"))["paused"] == ["gpu", "net", "*"]
    assert "The queue is paused; 'resume' ends that." in cli.ok("explain", "a")
    assert "paused" in cli.ok("top")
    assert cli.ok("resume", "gpu") == (
        "Jobs tagged gpu start again.\n"
        "The whole queue is still paused: 'resume' lets it go on.\n"
        "Still paused: net; 'resume net' ends that.\n"
    )
    assert cli("resume", "gpu").code == 4
    assert cli("pause", "g u").code == 2
    assert json.loads(cli.ok("resume", "--json"))["paused"] == ["net"]
    assert cli("worker", "run", "--drain").code == 0


def test_a_limit_numbers_what_runs_and_is_told(cli, queue_of):
    told = cli.ok("limit", "gpu", "2")
    assert (
        told == "At most 2 jobs tagged gpu run at once, numbered in QUEUECTL_SLOT_GPU from 0 on.\n"
    )
    command = "echo $QUEUECTL_SLOT_GPU"
    for job_id in "abc":
        cli.ok("enqueue", "--id", job_id, "--tag", "gpu", "--command", command)
    cli.ok("enqueue", "--id", "d", "--lock", "a", "--lock", "b", "--command", command)
    cli.ok("enqueue", "{id: e, command: x, lock: [b]}")
    queue, slot = queue_of(cli)
    for _ in range(3):
        queue.claim(slot.id)
    assert cli.ok("limit", "-q") == "gpu 2 2\n"
    assert json.loads(cli.ok("limit", "--json"))["limits"] == [
        {"tag": "gpu", "limit": 2, "running": 2}
    ]
    listed = cli.ok("list", "--state", "in_progress", "--fields", "id,slots", "--tsv")
    assert listed.splitlines()[1:] == ["a\tgpu#0", "b\tgpu#1", "d\tlock/a lock/b"]
    reasons = {job_id: json.loads(cli.ok("explain", job_id, "--json")) for job_id in "ce"}
    codes = {job_id: form["reasons"][0]["code"] for job_id, form in reasons.items()}
    assert codes == {"c": "limit", "e": "locked"}
    assert (
        "Waits for limit gpu; 2 may run at once, and these do: a, b."
        in reasons["c"]["reasons"][0]["text"]
    )
    assert "Lock b is held by d." in reasons["e"]["reasons"][0]["text"]
    refused = cli("update", "a", "--untag", "gpu")
    assert refused.code == 4
    assert "tag 'gpu' has a limit, and changes only while a job waits" in refused.err
    cli.ok("update", "a", "--tag", "other")
    assert cli("update", "d", "--lock", "x").code == 4
    assert cli("update", "d", "--lock", "x y").err.startswith("queuectl: lock 'x y' may hold only")
    for bad in ("0", "-1", "two", "1.5", "99999999"):
        assert cli("limit", "gpu", bad).code == 2
    cli.ok("limit", "a-b", "1")
    clash = cli("limit", "a.b", "1")
    assert clash.code == 2
    assert "a-b and a.b would both number their jobs in QUEUECTL_SLOT_A_B" in clash.err
    assert cli.ok("limit", "gpu", "none") == "Any number of jobs tagged gpu may run at once.\n"
    assert cli.ok("config", "get", "limits") == "a-b=1\n"


def test_a_run_knows_its_number(cli):
    cli.ok("limit", "gpu", "3")
    cli.ok("enqueue", "--id", "a", "--tag", "gpu", "--command", "echo slot $QUEUECTL_SLOT_GPU.")
    cli.ok("worker", "run", "--drain", "-q")
    assert cli.ok("logs", "a") == "slot 0.\n"
    assert json.loads(cli.ok("show", "a", "--json"))["job"]["slots"] == []


def test_the_end_that_frees_a_token_wakes_a_worker_for_it(queue, monkeypatch):
    """The worker that settles takes another job; what it freed is for an idle one."""
    queue.change_settings({"limits": {"gpu": 1}})
    enqueue(queue, "a", "b", tags=["gpu"])
    enqueue(queue, "first", priority=-9, run_at="2020-01-01T00:00:00Z")
    woken = []
    monkeypatch.setattr(queue.store, "wake_idle", woken.append)
    assert queue.claim("w").id == "first"
    job = queue.claim("w")
    enqueue(queue, "urgent", priority=-9)
    woken.clear()
    assert queue.claim("w", (job, ended())).id == "urgent"
    assert woken == [1]
    assert queue.claim("v").id == "b"
    enqueue(queue, "c", tags=["gpu"])
    woken.clear()
    assert queue.claim("v", (queue.get("b"), ended())).id == "c"
    assert woken == []  # it holds the token again
    queue.settle(queue.get("c"), ended())
    assert woken == [1]


def test_an_edit_by_hand_of_what_a_job_asks_for_counts(queue, tmp_path):
    queue.change_settings({"limits": {"gpu": 1}})
    enqueue(queue, "a", "b", "c", tags=["gpu"])
    assert queue.claim("w").id == "a"
    queue.checkpoint()
    path = tmp_path / "data" / "jobs.json"
    forms = json.loads(path.read_text())
    for form in forms:
        form["tags"] = []
    forms[2] |= {"lock": ["x"], "slots": ["gpu#0"]}
    path.write_text(json.dumps(forms))
    queue.checkpoint()
    assert queue.get("a").slots == ("gpu#0",)
    enqueue(queue, "d", tags=["gpu"])
    assert [queue.claim("w").id for _ in range(2)] == ["b", "c"]
    assert queue.get("c").slots == ("lock/x",)
    assert queue.claim("w") is None  # a holds what it was claimed with
    queue.settle(queue.get("a"), ended())
    assert queue.claim("w").slots == ("gpu#0",)


def test_a_file_that_was_just_edited_is_not_taken_for_an_empty_one(tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "_VET_EVERY", 1e9)
    queue = JobQueue.open(str(tmp_path / "q"))
    queue.enqueue([{"id": name, "command": "true", "lock": ["db"]} for name in "ab"])
    assert queue.claim("w-1").id == "a"
    queue.checkpoint()
    assert queue.claim("w-2") is None
    path = tmp_path / "q" / "jobs.json"
    forms = json.loads(path.read_text())
    path.write_text(json.dumps([{**form, "remark": 1} for form in forms]))
    side_files.write_settings(queue.folder, {"limits": {"gpu": 1}})  # so it reads all anew
    assert queue.claim("w-2") is None
    queue.checkpoint()
    assert queue.get("b").extra == {"remark": 1}
    queue.close()
