"""Data of each format that ever was loads, and what it holds that we do not know survives."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from queuectl.commands.render import job_form
from queuectl.job_queue import JobQueue
from queuectl.model.job import Job
from queuectl.model.lifecycle import Outcome
from queuectl.store import folder

DATA = Path(__file__).parent / "data"
VERSIONS = sorted(path.name for path in DATA.glob("v*") if path.is_dir())
UNKNOWN = {
    "done": {"ticket": 4711, "labels": ["a", "b"]},
    "waiting": {"owner": {"name": "Zoë", "ids": [1, 2.5, None, True]}, "resources": "gpu"},
    "running": {"ticket": 4712},
    "buried": {"ticket": 4713},
    "late": {"ticket": 4714},
    "long.since:dead-1": {"why": None},
}


@pytest.fixture(params=VERSIONS)
def old(request, data_dir):
    """A queue opened on a copy of old data. No stamp fits a copy: checksums decide."""
    shutil.copytree(DATA / request.param, data_dir)
    queue = JobQueue.open(data_dir)
    yield queue
    queue.close()


def expected(version="v1"):
    return json.loads((DATA / f"{version}.expected.json").read_text(encoding="utf-8"))


def forms(queue):
    return [json.loads(json.dumps(job_form(job))) for job in queue.find()]


def unknown(queue):
    return {job.id: dict(job.extra) for job in queue.find() if job.extra}


def test_there_is_data_of_the_present_format():
    assert f"v{folder.FORMAT}" in VERSIONS
    for version in VERSIONS:
        assert {path.name for path in (DATA / version).iterdir()} >= {
            ".queuectl",
            "jobs.json",
            "dlq.json",
            "config.json",
            "worker_pids.json",
            "journal",
        }


def test_it_holds_every_kind_of_thing():
    """So that what is not tested here cannot be there: each state, each field, each record."""
    jobs = expected()
    assert {job["state"] for job in jobs} == set(
        ("pending", "in_progress", "completed", "failed", "dead", "cancelled")
    )
    defaults = Job._field_defaults | {"priority": 0, "history": [], "max_retries": 3}
    for name in Job._fields:
        if name not in ("extra", "cancel_requested"):
            assert any(job[name] != defaults.get(name, "") for job in jobs), name
    journal = (DATA / "v1" / "journal").read_bytes()
    assert b'"removed"' in journal
    assert journal.count(b"\n@") == 5


def test_every_job_is_there_as_it_was(old):
    assert forms(old) == expected()
    assert old.store.check() == []
    states = [job["state"] for job in expected()]
    assert old.counts() == {state: states.count(state) for state in old.counts()}
    assert [job_form(old.get(job["id"])) for job in expected()] == [
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


def test_a_fold_keeps_it(old):
    old.checkpoint()
    assert old.notices == []
    assert forms(old) == expected()
    assert unknown(old) == UNKNOWN
    for name in ("jobs.json", "dlq.json"):
        assert os.stat(os.path.join(old.folder, name)).st_mode & 0o777 == 0o600
    assert b"Zo\xc3\xab" in Path(old.folder, "jobs.json").read_bytes()


def test_unknown_keys_survive_every_change(old):
    old.update("waiting", {"priority": 1, "run_at": old.now()})
    old.retry_dead(["long.since:dead-1", "buried"])
    old.cancel(["late"])
    old.retry(["done"])
    old.checkpoint()
    while (job := old.claim("w-new")) is not None:
        old.settle(job, Outcome("exited", 1, None, old.now()))
    old.checkpoint()
    assert unknown(JobQueue.open(old.folder)) == UNKNOWN
    assert old.get("buried").state == "dead"
    assert json.loads(Path(old.folder, "dlq.json").read_text())[-1]["ticket"] == 4713
    old.change_settings({"base": 5})
    assert json.loads(Path(old.folder, "config.json").read_text())["colour-of-later"] == "blue"
    slot = old.register_worker()
    old.release_worker(slot)
    assert json.loads(Path(old.folder, "worker_pids.json").read_text())[0]["host"] == "elsewhere"
    assert old.store.check() == []


def test_unknown_keys_survive_a_backup_and_a_repair(old, tmp_path):
    old.write_backup(str(tmp_path / "backup"))
    other = JobQueue.open(str(tmp_path / "other"))
    other.restore(other.read_backup((tmp_path / "backup").read_bytes(), "backup"))
    assert unknown(other) == UNKNOWN
    assert other.settings().extra == {"colour-of-later": "blue"}
    other.close()
    Path(old.folder, "journal").write_bytes(b"\0" + Path(old.folder, "journal").read_bytes()[1:])
    done: list[str] = []
    old.repair(done, [])
    assert done
    assert forms(old) == expected()


def test_the_commands_work_on_it(old, cli):
    listed = json.loads(cli.ok("list", "--json"))
    assert [job["id"] for job in listed] == [job["id"] for job in expected()]
    assert cli.ok("logs", "done", "--run", "2") == "naïve\n"
    found = cli("doctor")
    assert found.code == 1
    assert "job 'running': is in progress, but its worker w-1b is gone" in found.out
    assert cli("doctor", "--repair").code == 0
    assert cli("doctor").code == 0
    assert json.loads(cli.ok("show", "running", "--json"))["job"]["ticket"] == 4712
