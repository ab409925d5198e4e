"""backup and restore: a whole queue in one file, whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import pytest
from failing_disk import DEATHS, failing_disk
from samples import make_job, moment, read

from queuectl.errors import BadFile, Conflict, StoreError
from queuectl.job_queue import JobQueue
from queuectl.model.selection import in_state


@pytest.fixture
def tmp_path(memory_path):
    """Thousands of files are written here."""
    return memory_path


@pytest.fixture
def queue(tmp_path):
    """Jobs in every state, some only in the journal, and settings."""
    queue = JobQueue.open(str(tmp_path / "queue"))
    states = ("pending", "completed", "failed", "dead", "cancelled")
    queue.store.add([make_job(f"j-{state}", state=state) for state in states])
    queue.checkpoint()
    queue.store.add([make_job("j-run", run_at=moment(-(10**9))), make_job("j-odd", extra={"x": 1})])
    queue.claim("w-1")
    queue.change_settings({"base": 3})
    yield queue
    queue.store._writer.close()


@pytest.fixture
def saved(queue, tmp_path):
    """Where a backup of it lies."""
    path = str(tmp_path / "saved.jsonl")
    assert queue.write_backup(path) == 7
    return path


def restore(queue, path, **how):
    return queue.restore(queue.read_backup(BytesIO(read(path)), "saved"), **how)


def jobs_of(queue):
    assert queue.store.check() == []
    return {job.id: job for job in queue.find()}


def sealed(lines):
    """A backup of these lines, with a last line that fits them."""
    body = b"".join(line + b"\n" for line in lines)
    return body + b'{"jobs": 1, "sha256": "%s"}\n' % sha256(body).hexdigest().encode()


# -- the file


def test_it_is_lines_of_json_that_anyone_can_check(queue, saved):
    lines = read(saved).splitlines(keepends=True)
    head, *jobs, tail = (json.loads(line) for line in lines)
    assert (head["queuectl"], head["format"], head["settings"]) == ("backup", 2, {"base": 3})
    assert [job["id"] for job in jobs] == [job.id for job in queue.find()]
    assert tail == {"jobs": 7, "sha256": sha256(b"".join(lines[:-1])).hexdigest()}
    assert os.stat(saved).st_mode & 0o777 == 0o600


def test_a_backup_and_a_restore_give_the_same_queue(queue, saved, tmp_path):
    other = JobQueue.open(str(tmp_path / "other"))
    assert restore(other, saved) is None
    found, before = jobs_of(other), jobs_of(queue)
    running = found.pop("j-run")
    assert (before.pop("j-run").state, running.state) == ("in_progress", "pending")
    assert (running.attempts, running.losses, running.worker) == (0, 0, None)
    assert found == before
    assert other.settings().base == 3
    assert other.claim("w-2").id == "j-run"
    other.close()


def test_a_job_that_was_to_be_cancelled_comes_back_cancelled(queue, tmp_path):
    queue.cancel(["j-run"])
    queue.write_backup(str(tmp_path / "file"))
    other = JobQueue.open(str(tmp_path / "other"))
    restore(other, tmp_path / "file")
    assert jobs_of(other)["j-run"].state == "cancelled"


def test_an_empty_queue_has_a_backup_too(tmp_path):
    queue = JobQueue.open(str(tmp_path / "queue"))
    assert queue.write_backup(str(tmp_path / "file")) == 0
    assert not os.path.exists(queue.folder)
    restore(queue, tmp_path / "file")
    assert jobs_of(queue) == {}


def test_it_is_of_one_moment_while_others_write(tmp_path):
    """Every writer enqueues pairs: a backup holds none by half, none without those before."""
    program = (
        "import sys\n"
        "from queuectl.job_queue import JobQueue\n"
        "queue = JobQueue.open(sys.argv[1])\n"
        "for n in range(10**6):\n"
        "    pair = [f'{sys.argv[2]}-{n}-{half}' for half in 'ab']\n"
        "    queue.enqueue([{'id': name, 'command': 'true'} for name in pair])\n"
        "    queue.fold_if_due()\n"
    )
    path = str(tmp_path / "queue")
    JobQueue.open(path).checkpoint()
    writers = [subprocess.Popen([sys.executable, "-c", program, path, name]) for name in "xy"]
    try:
        queue, seen = JobQueue.open(path), 0
        while seen < 60:
            queue.write_backup(str(tmp_path / "file"), overwrite=True)
            jobs = queue.read_backup(BytesIO(read(tmp_path / "file")), "file").jobs
            ids = {job.id for job in jobs}
            assert len(ids) == len(jobs) >= seen
            for name in "xy":
                count = sum(job_id.startswith(name) for job_id in ids)
                assert {f"{name}-{n}-{half}" for n in range(count // 2) for half in "ab"} <= ids
            seen = len(jobs)
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()


@pytest.mark.parametrize("at", range(0, 100, 9))
def test_a_damaged_backup_is_refused_whole(queue, saved, tmp_path, at):
    data = bytearray(read(saved))
    data[len(data) * at // 100] ^= 1
    other = JobQueue.open(str(tmp_path / "other"))
    with pytest.raises(StoreError, match=r"nothing was changed|update it"):
        other.restore(other.read_backup(BytesIO(bytes(data)), "saved"))
    assert not os.path.exists(other.folder)


def test_a_backup_that_was_cut_is_refused(queue, saved):
    data = read(saved)
    for cut in (*range(0, len(data), 97), len(data) - 1):
        with pytest.raises(BadFile, match=r"not a backup|cut short"):
            queue.read_backup(BytesIO(data[:cut]), "saved")


HEAD = b'{"queuectl": "backup", "format": 1, "made_at": "", "settings": {}}'


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a backup of queuectl"),
        (b"[]\n[]\n", "not a backup of queuectl"),
        (
            HEAD.replace(b"1", b"3") + b"\n",
            r"made by a newer queuectl \(a backup of format 3; this one knows 2\): update it",
        ),
        (sealed([HEAD.replace(b"}}", b'}, "env_sets": []}')]), "f:1: env_sets: it must be"),
        (sealed([HEAD.replace(b"}}", b'}, "env_sets": {"a": 1}}')]), "f:1: env_sets: it must"),
        (sealed([HEAD.replace(b"{}", b'{"base": -1}')]), "f:1: base must lie"),
        (sealed([HEAD, b"{}"]), "f:2: a job has no id"),
        (sealed([HEAD, b"nothing"]), "f:2: a job must be an object"),
        (sealed([HEAD, b'{"id": "a", "command": "x"}'] * 2), "f:3: a job has no id"),
        (sealed([HEAD, *[b'{"id": "a", "command": "x"}'] * 2]), "f:3: job 'a' occurs twice"),
        (sealed([HEAD]).replace(b'"jobs": 1', b'"jobs": 1}'), "cut short"),
        (sealed([HEAD]) + b"\n", "cut short"),
        (sealed([HEAD]).replace(b"\n", b"\r\n"), "its line ends were changed"),
    ],
)
def test_what_is_not_a_backup_is_refused_with_its_position(queue, data, message):
    with pytest.raises(StoreError, match=message):
        queue.read_backup(BytesIO(data), "f")


# -- into a queue that is not empty


def test_a_queue_with_jobs_is_not_replaced_unasked(queue, saved):
    queue.rescue_worker("w-1")
    before = jobs_of(queue)
    with pytest.raises(Conflict, match=r"holds 7 job\(s\); --replace"):
        restore(queue, saved)
    assert jobs_of(queue) == before


def test_a_queue_that_runs_jobs_is_not_replaced(queue, saved):
    with pytest.raises(Conflict, match="worker stop"):
        restore(queue, saved, replace=True)


def test_what_was_there_is_kept(queue, saved):
    queue.rescue_worker("w-1")
    queue.purge(in_state("completed"))
    queue.update("j-odd", {"priority": 9})
    queue.enqueue([{"id": "newer", "command": "true"}])
    queue.change_settings({"base": 5})
    before = jobs_of(queue)
    kept = restore(queue, saved, replace=True)
    found = jobs_of(queue)
    assert found.keys() == before.keys() - {"newer"} | {"j-completed"}
    assert queue.settings().base == 3
    assert found["j-odd"].priority == 0
    # Whoever still knows the replaced job must not write over the restored one.
    assert found["j-odd"].rev > before["j-odd"].rev
    assert found["j-run"].run >= before["j-run"].run
    assert restore(queue, kept, replace=True) != kept
    assert jobs_of(queue).keys() == before.keys()
    assert queue.settings().base == 5


def test_settings_alone_are_kept_too(queue, saved, tmp_path):
    other = JobQueue.open(str(tmp_path / "other"))
    other.change_settings({"jitter": 0.5})
    kept = restore(other, saved)
    assert other.settings().changed == {"base": 3}
    restore(other, kept, replace=True) if not jobs_of(other) else None
    assert other.read_backup(BytesIO(read(kept)), "kept").settings == {"jitter": 0.5}


def test_workers_that_follow_the_queue_see_the_restored_jobs(queue, saved, tmp_path):
    worker = JobQueue.open(str(tmp_path / "other"))
    worker.enqueue([{"id": "first", "command": "true"}])
    assert worker.claim("w-2").id == "first"  # it has its index now
    worker.settle(worker.get("first"), _completed(worker))
    restore(JobQueue.open(worker.folder), saved, replace=True)
    assert worker.claim("w-2").id == "j-run"
    assert worker.store.check() == []


def _completed(queue):
    from queuectl.model.lifecycle import Outcome

    return Outcome("exited", 0, None, queue.now())


@pytest.mark.parametrize("how", [*DEATHS, "once", "full"])
def test_killed_or_refused_at_any_step(queue, saved, tmp_path, monkeypatch, how):
    monkeypatch.setattr(os, "fsync", lambda fd: None)
    queue.rescue_worker("w-1")
    queue.enqueue([{"id": "newer", "command": "true"}])
    before, at, broken = jobs_of(queue), 0, True
    after = before.keys() - {"newer"}
    while broken:
        at += 1
        copy = JobQueue.open(shutil.copytree(queue.folder, str(tmp_path / f"copy{at}")))
        ended = False
        with failing_disk(at, how) as disk:
            try:
                restore(copy, saved, replace=True)
                ended = True
            except StoreError:
                assert not how.startswith("die")
        broken = disk.broken
        fresh = JobQueue.open(copy.folder)
        found = jobs_of(fresh)
        assert found == before or found.keys() == after, at
        assert found.keys() == after or not ended
        if how in ("once", "full") and found == before:
            assert fresh.settings().base == 3
        for name in os.listdir(copy.folder):
            if name.endswith(".jsonl"):
                whole = fresh.read_backup(BytesIO(read(os.path.join(copy.folder, name))), name)
                assert {job.id for job in whole.jobs} == before.keys()
        restore(fresh, saved, replace=True)
        assert jobs_of(fresh).keys() == after
        copy.store._writer.close()
        fresh.store._writer.close()
        shutil.rmtree(copy.folder)


@pytest.mark.parametrize("how", [*DEATHS, "once", "full"])
def test_a_backup_is_written_whole_or_not_at_all(queue, saved, how):
    before, at, broken = read(saved), 0, True
    while broken:
        at += 1
        with failing_disk(at, how) as disk, contextlib.suppress(StoreError):
            queue.write_backup(saved, overwrite=True)
        broken = disk.broken
        queue.read_backup(BytesIO(read(saved)), "saved")
        assert read(saved).splitlines()[1:-1] == before.splitlines()[1:-1]


# -- the commands


def test_backup_and_restore_carry_a_queue_to_another_folder(cli, tmp_path):
    for name in "ab":
        cli.ok("enqueue", "--id", name, "--", "true")
    assert cli.ok("backup", "q.jsonl") == "Backed up 2 jobs to q.jsonl\n"
    again = cli("backup", "q.jsonl")
    assert (again.code, "--force overwrites it" in again.err) == (4, True)
    assert cli.ok("backup", "q.jsonl", "--force", "-q") == "q.jsonl\n"
    assert (
        cli.run("backup", "-").out.splitlines()[1:3] == read("q.jsonl").decode().splitlines()[1:3]
    )
    refused = cli("restore", "q.jsonl")
    assert (refused.code, "--replace" in refused.err) == (4, True)
    asked = cli("restore", "q.jsonl", "--replace")
    assert (asked.code, "add --yes" in asked.err) == (2, True)
    cli.ok("enqueue", "--id", "c", "--", "true")
    done = cli("restore", "q.jsonl", "--replace", "--yes")
    assert done.out.startswith("Restored 2 jobs as they were at 20")
    kept = done.err.split()[-1]
    assert Path(kept).parent == Path(cli.folder)
    other = ("--data", str(tmp_path / "other"))
    assert "Restored 3 jobs" in cli.ok("restore", kept, *other)
    assert [job["id"] for job in json.loads(cli.ok("list", "--json", *other))] == ["a", "b", "c"]
    assert cli.ok("doctor").startswith("Note: set aside: before-restore-")


def test_the_command_reads_standard_input(cli, tmp_path):
    cli.ok("enqueue", "--id", "a", "--", "true")
    data = cli.run("backup", "-").out
    assert "Restored 1 job" in cli.ok("restore", "-", "--data", str(tmp_path / "o"), stdin=data)
    result = cli("restore", "-", "--data", str(tmp_path / "p"), stdin=data[:-9])
    assert (result.code, "standard input is cut short" in result.err) == (5, True)


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (("backup",), 2),
        (("backup", "no/such/folder/file"), 2),
        (("backup", "."), 2),
        (("backup", "/dev/null", "--force"), 2),
        (("backup", "link", "--force"), 2),
        (("restore", "nothing"), 2),
        (("restore", "."), 2),
        (("restore", "/dev/null"), 5),
    ],
)
def test_a_file_that_cannot_be_written_or_read_is_refused_in_a_line(cli, argv, code):
    cli.ok("init")
    Path("file").touch()
    os.symlink("file", "link")
    result = cli(*argv)
    assert (result.code, result.out) == (code, "")
    assert len(result.err.splitlines()) == 1
