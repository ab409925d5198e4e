"""Data of every earlier format loads, and unknown parts of it survive."""

from __future__ import annotations

import json
import os
import shutil
from io import BytesIO
from pathlib import Path
from zlib import crc32

import pytest

from queuectl.commands.forms import job_form
from queuectl.job_queue import JobQueue
from queuectl.model.fields import LATER_FIELDS
from queuectl.model.job import Job
from queuectl.model.lifecycle import Outcome
from queuectl.store.files import marker
from queuectl.store.files.job_files import encode_job
from queuectl.store.files.journal import PROMISED

DATA = Path(__file__).parent / "data"
VERSIONS = sorted(path.name for path in DATA.glob("v*") if path.is_dir())
OF_FORMAT_1 = {
    "done": {"ticket": 4711, "labels": ["a", "b"]},
    "waiting": {"owner": {"name": "Zoë", "ids": [1, 2.5, None, True]}, "resources": "gpu"},
    "running": {"ticket": 4712},
    "buried": {"ticket": 4713},
    "late": {"ticket": 4714},
    "long.since:dead-1": {"why": None},
}
# A field that came later is not set in them; those of format 2's first version are.
UNSET = json.loads(json.dumps({**Job._field_defaults, "history": (), "extra": None}))
del UNSET["extra"]
SINCE_V2 = LATER_FIELDS - {"tags"}
UNKNOWN = {
    "v1": OF_FORMAT_1,
    "v2": {**OF_FORMAT_1, "late": {"ticket": 4714, "blocked_by": 1}},
}


@pytest.fixture(params=VERSIONS)
def version(request):
    return request.param


@pytest.fixture
def old(version, data_dir):
    """A queue opened on a copy of old data. No stamp fits a copy: checksums decide."""
    shutil.copytree(DATA / version, data_dir)
    queue = JobQueue.open(data_dir)
    yield queue
    queue.close()


def expected(version):
    """The jobs' forms."""
    jobs = json.loads((DATA / f"{version}.expected.json").read_text(encoding="utf-8"))
    return [{**UNSET, **job} for job in jobs]


def forms(queue):
    return [json.loads(json.dumps(job_form(job))) for job in queue.find()]


def unknown(queue):
    return {job.id: dict(job.extra) for job in queue.find() if job.extra}


def test_there_is_data_of_the_present_format():
    assert f"v{marker.FORMAT}" in VERSIONS
    for version in VERSIONS:
        assert {path.name for path in (DATA / version).iterdir()} >= {
            ".queuectl",
            "jobs.json",
            "dlq.json",
            "config.json",
            "worker_pids.json",
            "journal",
        }
    assert (DATA / f"v{marker.FORMAT}" / "env_sets.json").exists()


def test_it_holds_every_kind_of_thing(version):
    """So that what is not tested here cannot be there: each state, each field, each record."""
    jobs = expected(version)
    assert {job["state"] for job in jobs} == set(
        ("pending", "in_progress", "completed", "failed", "dead", "cancelled")
    )
    defaults = Job._field_defaults | {"priority": 0, "history": [], "tags": [], "max_retries": 3}
    for name in Job._fields:
        later = name in SINCE_V2 or (version == "v1" and name in ("log_word", "env_set", "tags"))
        if name not in ("extra", "cancel_requested") and not later:
            assert any(job[name] != defaults.get(name, "") for job in jobs), name
    journal = (DATA / version / "journal").read_bytes()
    assert b'"removed"' in journal
    assert journal.count(b"\n@") == 5


def test_every_job_is_there_as_it_was(old, version):
    assert forms(old) == expected(version)
    assert old.store.check() == []
    states = [job["state"] for job in expected(version)]
    assert old.counts() == {state: states.count(state) for state in old.counts()}
    assert [job_form(old.get(job["id"])) for job in expected(version)] == [
        job_form(job) for job in old.find()
    ]
    assert not os.path.exists(os.path.join(old.folder, "queue.lock"))


def test_settings_and_workers_are_there(old):
    settings = old.settings()
    assert (settings.base, settings.max_delay, settings.jitter) == (3, 600, 0.1)
    assert settings.inherit_env == ("LANG",)
    assert settings.extra == {"colour-of-later": "blue"}
    assert [worker.id for worker in old.lost_workers()] == ["w-1b"]
    assert old.lost_workers()[0].pid == 4194000


def test_a_fold_keeps_it(old, version):
    old.checkpoint()
    assert old.notices == []
    assert forms(old) == expected(version)
    assert unknown(old) == UNKNOWN[version]
    for name in ("jobs.json", "dlq.json"):
        assert os.stat(os.path.join(old.folder, name)).st_mode & 0o777 == 0o600
    assert b"Zo\xc3\xab" in Path(old.folder, "jobs.json").read_bytes()


def test_unknown_keys_survive_every_change(old, version):
    old.update("waiting", {"priority": 1, "run_at": old.now()})
    old.retry_dead(["long.since:dead-1", "buried"])
    old.cancel(["late"])
    old.retry(["done"])
    old.checkpoint()
    while (job := old.claim("w-new")) is not None:
        old.settle(job, Outcome("exited", 1, None, old.now()))
    old.checkpoint()
    assert unknown(JobQueue.open(old.folder)) == UNKNOWN[version]
    assert old.get("buried").state == "dead"
    assert json.loads(Path(old.folder, "dlq.json").read_text())[-1]["ticket"] == 4713
    old.change_settings({"base": 5})
    assert json.loads(Path(old.folder, "config.json").read_text())["colour-of-later"] == "blue"
    slot = old.register_worker()
    old.release_worker(slot)
    assert json.loads(Path(old.folder, "worker_pids.json").read_text())[0]["host"] == "elsewhere"
    assert old.store.check() == []


def test_unknown_keys_survive_a_backup_and_a_repair(old, version, tmp_path):
    old.write_backup(str(tmp_path / "backup"))
    other = JobQueue.open(str(tmp_path / "other"))
    other.restore(other.read_backup(BytesIO((tmp_path / "backup").read_bytes()), "backup"))
    assert unknown(other) == UNKNOWN[version]
    assert other.settings().extra == {"colour-of-later": "blue"}
    other.close()
    Path(old.folder, "journal").write_bytes(b"\0" + Path(old.folder, "journal").read_bytes()[1:])
    done: list[str] = []
    old.care.repair(done, [])
    assert done
    assert forms(old) == expected(version)


def test_the_commands_work_on_it(old, version, cli):
    listed = json.loads(cli.ok("list", "--json"))
    assert [job["id"] for job in listed] == [job["id"] for job in expected(version)]
    assert cli.ok("logs", "done", "--run", "2") == "naïve\n"
    found = cli("doctor")
    assert found.code == 1
    assert "job 'running': is in progress, but its worker w-1b is gone" in found.out
    assert cli("doctor", "--repair").code == 0
    assert cli("doctor").code == 0
    assert json.loads(cli.ok("show", "running", "--json"))["job"]["ticket"] == 4712


# -- taking over, and what an older queuectl does


def format_of(path):
    head = Path(path, "journal").read_bytes().split(b" ", 2)
    return int(head[1]), json.loads(Path(path, ".queuectl").read_text())["format"]


def test_a_folder_of_format_1_is_only_read_until_something_is_written(data_dir, cli):
    shutil.copytree(DATA / "v1", data_dir)
    for argv in (("status",), ("list",), ("show", "done"), ("dlq", "list"), ("worker", "list")):
        cli.ok(*argv)
    assert format_of(data_dir)[0] == 1
    cli.ok("enqueue", "--id", "new", "--", "true")
    assert format_of(data_dir) == (2, 2)


def test_the_takeover_counts_the_jobs_anew(data_dir):
    shutil.copytree(DATA / "v1", data_dir)
    journal = Path(data_dir, "journal")
    data = journal.read_bytes()
    head, _, rest = data.partition(b"\n")
    head = head.rpartition(b" ")[0].replace(b" 2,1,2,1,1,1 ", b" 9,9,9,9,9,9 ")
    journal.write_bytes(b"%s %08x\n" % (head, crc32(head)) + rest.split(b"@325")[0])
    queue = JobQueue.open(data_dir)
    queue.enqueue([{"id": "new", "command": "true"}])
    states = [job.state for job in queue.find()]
    assert queue.counts() == {state: states.count(state) for state in queue.counts()}
    queue.close()


def test_an_older_queuectl_refuses_what_this_one_made(data_dir, cli, older):
    cli.ok("enqueue", "--id", "a", "--", "true")
    before = {name: Path(data_dir, name).read_bytes() for name in ("journal", "jobs.json")}
    words = "is of format 2; this queuectl knows format 1: update it"
    commands = [("status",), ("enqueue", "--", "true"), ("list",), ("doctor",), ("worker", "start")]
    commands += [("doctor", "--repair"), ("checkpoint",), ("worker", "run", "--drain")]
    for argv in commands:
        result = older.run(*argv)
        assert (result.code, result.out) == (5, ""), argv
        assert words in result.err, argv
    assert before == {name: Path(data_dir, name).read_bytes() for name in before}


def test_format_1_is_written_while_a_worker_lives_that_knows_no_other(cli, older, wait_until):
    assert older.run("worker", "start").code == 0
    cli.ok("enqueue", "--id", "new", "--", "echo", "by the older worker")
    assert older.run("enqueue", "--id", "old", "--", "true").code == 0
    cli.ok("wait", "new", "old", "--timeout", "30s")
    cli.ok("worker", "start")
    cli.ok("enqueue", "--id", "later", "--", "true")
    cli.ok("wait", "later", "--timeout", "30s")
    assert format_of(cli.folder) == (1, 1)
    assert cli.ok("logs", "new") == "by the older worker\n"
    cli.ok("worker", "stop")
    cli.ok("enqueue", "--id", "last", "--", "true")
    assert format_of(cli.folder) == (2, 2)
    assert [job["id"] for job in json.loads(cli.ok("list", "--json"))] == [
        *("new", "old", "later", "last")
    ]
    assert cli("doctor").code == 0


def test_an_older_shell_that_is_open_stops_with_a_clear_error(cli, older):
    assert older.run("enqueue", "--id", "a", "--", "true").code == 0
    shell = older.popen()
    shell.stdin.write(b"enqueue --id b -- true\n")
    shell.stdin.flush()
    assert shell.stdout.readline() == b"Job added to the queue with job id: b\n"
    cli.ok("enqueue", "--id", "c", "--", "true")
    _, err = shell.communicate(b"enqueue --id d -- true\n", timeout=30)
    assert b"is of format 2; this queuectl knows format 1: update it" in err
    assert [job["id"] for job in json.loads(cli.ok("list", "--json"))] == ["a", "b", "c"]


def test_a_repair_writes_format_1_while_an_older_worker_lives(cli, older):
    assert older.run("worker", "start").code == 0
    assert older.run("enqueue", "--id", "a", "--delay", "1h", "--", "true").code == 0
    Path(cli.folder, "journal").write_bytes(b"")
    os.remove(os.path.join(cli.folder, ".queuectl"))
    Path(cli.folder, ".queuectl").write_bytes(b"{}")
    cli("doctor", "--repair")
    assert format_of(cli.folder) == (1, 1)
    cli.ok("worker", "stop")
    Path(cli.folder, "journal").write_bytes(b"")
    cli("doctor", "--repair")
    assert format_of(cli.folder) == (2, 2)


def test_a_field_and_a_count_of_a_later_version_need_no_new_format(data_dir):
    """What the recipe in store/files/journal.py promises: they are kept, and left alone."""
    queue = JobQueue.open(data_dir)
    queue.enqueue([{"id": "a", "command": "true"}])
    queue.store.change(["a"], lambda job: job._replace(rev=job.rev + 1, extra={"shade": "blue"}))
    journal = queue.store._writer.journal
    counts = {**journal.counts, "blocked": 1}
    journal.append(encode_job(queue.get("a")) + b"\n", PROMISED, counts)
    line = Path(data_dir, "journal").read_bytes().splitlines()[-1]
    assert line.endswith(b', "shade": "blue"}')
    other = JobQueue.open(data_dir)
    other.enqueue([{"id": "b", "command": "true"}])  # a version that does not know them
    assert b",blocked=1" in Path(data_dir, "journal").read_bytes().splitlines()[-2]
    assert other.claim("w").id == "a"
    other.checkpoint()
    assert b"blocked" not in Path(data_dir, "journal").read_bytes().splitlines()[0]
    assert other.get("a").extra == {"shade": "blue"}
    assert other.store.check() == []
    for each in (queue, other):
        each.close()
