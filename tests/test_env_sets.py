"""What a job takes along from where it was enqueued: variables and umask, each set kept once."""

from __future__ import annotations

import json
import os
import stat
from io import BytesIO
from pathlib import Path

import pytest

from queuectl.errors import BadFile, Conflict, NoSuchSet
from queuectl.job_queue import JobQueue
from queuectl.model.env_set import STANDARD, applied, captured, fault, present
from queuectl.model.selection import in_state
from queuectl.store.files.side_files import EnvSets, layout_sets, parse_sets, sets_in

ONE = {"umask": "022", "env": {"PATH": "/bin"}}


# -- the rule


def test_standard_names_are_captured_and_what_is_not_set_is_noted():
    form = captured({"PATH": "/x", "SECRET": "s", "EXTRA": "e"}, 0o027, ("EXTRA", "MISSING"))
    assert form["umask"] == "027"
    assert (form["env"]["PATH"], form["env"]["EXTRA"]) == ("/x", "e")
    assert (form["env"]["TZ"], form["env"]["MISSING"]) == (None, None)
    assert "SECRET" not in form["env"]
    assert set(form["env"]) == {*STANDARD, "EXTRA", "MISSING"}
    assert present(form) == {"PATH": "/x", "EXTRA": "e"}


def test_all_takes_everything_but_what_is_ours_and_nothing_of_the_worker():
    form = captured({"A": "1", "QUEUECTL_WORKER": "w-1"}, 0o022, ("all",))
    assert form == {"umask": "022", "env": {"A": "1"}, "only": True}
    assert applied(form, {b"B": b"2"}) == {b"A": b"1"}


def test_a_job_lacks_the_variables_that_its_enqueuer_lacks():
    form = {"env": {"PATH": "/x", "TZ": None, "NAME": "\udcff"}}
    base = {b"PATH": b"/worker", b"TZ": b"UTC", b"HOME": b"/root"}
    assert applied(form, base) == {b"PATH": b"/x", b"HOME": b"/root", b"NAME": b"\xff"}


@pytest.mark.parametrize(
    "form",
    [
        *(None, [], {}, {"env": []}, {"env": {"": "x"}}, {"env": {"A=": "x"}}, {"env": {"A": 1}}),
        *({"env": {"A": "\0"}}, {"env": {}, "umask": 22}, {"env": {}, "umask": "9"}),
        *({"env": {}, "umask": ""}, {"env": {}, "umask": "00022"}),
    ],
)
def test_a_file_that_does_not_hold_sets_is_told(form):
    assert fault(form)
    assert not fault(ONE)


# -- the file


def test_a_set_is_kept_once_and_found_again(tmp_path):
    sets = EnvSets(str(tmp_path))
    assert sets.read() == {}
    name = sets.keep(ONE)
    before = os.stat(tmp_path / "env_sets.json")
    assert name == sets.id_of(dict(ONE))
    assert EnvSets(str(tmp_path)).keep(dict(ONE)) == name
    assert os.stat(tmp_path / "env_sets.json").st_ino == before.st_ino
    assert stat.S_IMODE(before.st_mode) == 0o600
    assert EnvSets(str(tmp_path)).read() == {name: ONE}


def test_two_sets_of_one_checksum_have_two_ids(tmp_path):
    sets = EnvSets(str(tmp_path))
    name = sets.id_of(ONE)
    (tmp_path / "env_sets.json").write_bytes(layout_sets({name: {"env": {"OTHER": "x"}}}))
    other = sets.keep(ONE)
    assert other != name
    assert sets.keep(ONE) == other
    assert sets.read()[other] == ONE


def test_bytes_that_are_not_text_come_back(tmp_path):
    form = {"umask": "022", "env": {"NAME": os.fsdecode(b"\xff\xfe")}}
    sets = EnvSets(str(tmp_path))
    name = sets.keep(form)
    assert EnvSets(str(tmp_path)).read() == {name: form}


@pytest.mark.parametrize(
    "text", ["", "[]", '{"a": 1}', '{"a": {"env": {"x": 1}}}', '{"a": 1, "a": 1}']
)
def test_a_mistake_is_named_and_nothing_is_written_over(tmp_path, text):
    path = tmp_path / "env_sets.json"
    path.write_text(text)
    with pytest.raises(BadFile, match=r"env_sets\.json"):
        EnvSets(str(tmp_path)).keep(ONE)
    assert path.read_text() == text
    with pytest.raises(BadFile):
        parse_sets(b"\xff", "env_sets.json")


def test_whole_sets_are_read_from_a_damaged_file():
    data = layout_sets({"one": ONE, "two": {"env": {"A": "b"}}, "three": ONE})
    assert sets_in(data.replace(b'"two"', b'"two')) == {"one": ONE, "three": ONE}


# -- a queue


def test_jobs_that_share_a_set_hold_only_its_name(queue):
    drafts = [{"id": name, "command": "true"} for name in "ab"]
    queue.enqueue(drafts, ONE)
    a, b = (queue.get(name) for name in "ab")
    assert a.env_set == b.env_set
    assert queue.env_set(a) == ONE
    queue.enqueue([{"id": "c", "command": "true"}])
    assert queue.env_set(queue.get("c")) is None
    plain, carrying = (len(line) for line in line_lengths(queue, "c", "a"))
    assert carrying - plain <= 40


def line_lengths(queue, *names):
    lines = Path(queue.folder, "journal").read_bytes().splitlines()
    return [
        next(line for line in lines if line.startswith(b'{"id": "%s"' % n.encode())) for n in names
    ]


def test_sets_that_no_job_names_go_in_a_fold_when_there_are_many(queue):
    for number in range(40):
        queue.enqueue([{"id": f"j{number}", "command": "true"}], {"env": {"N": str(number)}})
    queue.checkpoint()
    sets = json.loads(Path(queue.folder, "env_sets.json").read_text())
    assert len(sets) == 40
    queue.cancel([f"j{number}" for number in range(5, 40)])
    queue.purge(in_state("cancelled"))
    assert len(json.loads(Path(queue.folder, "env_sets.json").read_text())) == 40
    queue.checkpoint()
    sets = json.loads(Path(queue.folder, "env_sets.json").read_text())
    assert {form["env"]["N"] for form in sets.values()} == {"0", "1", "2", "3", "4"}
    assert queue.env_set(queue.get("j4")) == {"env": {"N": "4"}}


def test_a_backup_carries_them(queue, tmp_path):
    queue.enqueue([{"id": "a", "command": "true"}], ONE)
    queue.write_backup(str(tmp_path / "backup"))
    other = JobQueue.open(str(tmp_path / "other"))
    other.enqueue([{"id": "b", "command": "true"}], {"env": {"B": "1"}})
    backup = other.read_backup(BytesIO((tmp_path / "backup").read_bytes()), "backup")
    with pytest.raises(Conflict):
        other.restore(backup)
    kept = other.restore(backup, replace=True)
    assert other.env_set(other.get("a")) == ONE
    third = JobQueue.open(str(tmp_path / "third"))
    third.restore(third.read_backup(BytesIO(Path(kept).read_bytes()), "kept"))
    assert third.env_set(third.get("b")) == {"env": {"B": "1"}}
    for each in (other, third):
        each.close()


def test_a_job_whose_set_is_gone_says_so(queue, cli):
    queue.enqueue([{"id": "a", "command": "true", "max_retries": 0}], ONE)
    os.remove(Path(queue.folder, "env_sets.json"))
    with pytest.raises(NoSuchSet, match=r"job 'a' .* not in env_sets.json"):
        queue.env_set(queue.get("a"))
    assert "env_sets.json: lacks the captured variables of a" in cli("doctor").out
    assert cli("worker", "run", "--drain").code == 1
    assert queue.get("a").state == "dead"
    assert "cannot start: the captured variables of job 'a'" in queue.get("a").error


def test_while_the_file_holds_a_mistake_jobs_wait_and_doctor_mends_it(queue, cli, wait_until):
    queue.enqueue([{"id": "a", "command": "true"}], ONE)
    path = Path(queue.folder, "env_sets.json")
    path.write_bytes(path.read_bytes() + b"{")
    worker = cli.popen("worker", "run", "--drain")
    wait_until(lambda: queue.get("a").history, what="the first try")
    assert queue.get("a").attempts == 0
    assert "env_sets.json" in cli("doctor").out
    assert "env_sets.json: written anew" in cli("doctor", "--repair").out
    worker.communicate(timeout=30)
    assert queue.get("a").state == "completed"


# -- a job at work


def output(cli, *argv, **env):
    cli.run("enqueue", "--id", "job", *argv, **env)
    cli.ok("worker", "run", "--drain")
    return cli.ok("logs", "job")


def test_a_tool_that_only_the_enqueuers_path_has_is_found(cli, tmp_path):
    tool = tmp_path / "tools" / "my tool"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\necho found\n")
    tool.chmod(0o755)
    path = f"{tool.parent}:{os.environ['PATH']}"
    assert output(cli, "--", "my tool", PATH=path) == "found\n"


def test_umask_and_absent_variables_are_the_enqueuers(cli, tmp_path, monkeypatch):
    monkeypatch.setenv("TZ", "UTC")  # the worker's
    before = os.umask(0o027)
    try:
        monkeypatch.delenv("TZ")
        cli.ok("enqueue", "--id", "job", "--command", 'umask; echo "${TZ-none}"; touch made')
    finally:
        os.umask(before)
    monkeypatch.setenv("TZ", "UTC")
    cli.ok("worker", "run", "--drain")
    assert cli.ok("logs", "job").split() == ["0027", "none"]
    assert stat.S_IMODE(os.stat(tmp_path / "made").st_mode) == 0o640


def test_all_of_the_environment(cli, monkeypatch):
    cli.ok("config", "set", "inherit-env", "all")
    monkeypatch.setenv("ONLY_HERE", "yes")
    cli.ok("enqueue", "--id", "job", "--env", "MINE=1", "--", "env")
    monkeypatch.delenv("ONLY_HERE")
    monkeypatch.setenv("ONLY_THE_WORKER", "yes")
    cli.ok("worker", "run", "--drain")
    seen = cli.ok("logs", "job").splitlines()
    assert {"ONLY_HERE=yes", "MINE=1", "QUEUECTL_JOB_ID=job"} <= set(seen)
    assert not any(line.startswith("ONLY_THE_WORKER") for line in seen)
    assert any(line.startswith("QUEUECTL_WORKER=w-") for line in seen)


def test_under_format_1_the_variables_go_into_the_job(cli, older, monkeypatch):
    assert older.run("worker", "start").code == 0
    monkeypatch.setenv("LANG", "xx_XX")
    cli.ok("enqueue", "--id", "job", "--", "sh", "-c", "echo $LANG")
    cli.ok("wait", "job", "--timeout", "30s")
    assert cli.ok("logs", "job") == "xx_XX\n"
    assert not os.path.exists(os.path.join(cli.folder, "env_sets.json"))


def test_show_names_what_was_taken_along(cli):
    cli.ok("enqueue", "--id", "job", "--", "true")
    assert "Taken Along   : umask 0" in cli.ok("show", "job")
