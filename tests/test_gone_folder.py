"""No data folder is made again once it was removed, nor by root in another user's home."""

from __future__ import annotations

import io
import json
import os
import shutil

import pytest

from queuectl.commands.context import Context
from queuectl.commands.dispatch import run_line
from queuectl.commands.grammar.binding import bind
from queuectl.commands.table import COMMANDS
from queuectl.errors import StoreError
from queuectl.job_queue import JobQueue
from queuectl.live.feed import Feed
from queuectl.live.notices import Notices
from queuectl.live.standing import Standing
from queuectl.live.watcher import Watcher
from queuectl.places import find_folder
from queuectl.shell.history_file import history_path
from queuectl.store import opening
from queuectl.store.files.journal import STATE_ORDER

root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can own and write everywhere")


@pytest.mark.parametrize("command", ["true", "until [ -e go ]; do sleep 0.05; done; echo done"])
def test_a_leaving_worker_does_not_make_it_again(cli, tmp_path, wait_until, command):
    cli.ok("config", "set", "poll-interval", "0.05")
    cli.ok("enqueue", "--id", "a", "--command", command)
    process = cli.popen("worker", "run")
    assert process.stdout
    for _ in range(1 + (command == "true")):
        process.stdout.readline()
    os.rename(cli.folder, cli.folder + ".away")  # at once: the worker may be writing into it
    shutil.rmtree(cli.folder + ".away")
    (tmp_path / "go").touch()
    _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert f"data folder {cli.folder} is gone" in err.decode()
    assert "Traceback" not in err.decode()
    assert not os.path.exists(cli.folder)


def test_a_front_end_does_not_make_it_again(cli):
    queue = JobQueue.open(cli.folder)
    queue.enqueue([{"id": "a", "command": "true"}])
    feed = Feed(opening.watch(cli.folder), opening.output(cli.folder))
    assert feed.look(at_once=False).standing.counts["pending"] == 1
    shutil.rmtree(cli.folder)
    assert "is gone" in feed.look(at_once=False).standing.trouble
    feed.close()
    with pytest.raises(StoreError, match="is gone"):
        queue.cancel(["a"])
    assert not os.path.exists(cli.folder)


def test_a_front_end_that_wrote_nothing_says_that_it_is_gone(cli):
    watcher = Watcher(opening.watch(cli.folder), Notices(), lambda: None)
    feed = Feed(opening.watch(cli.folder), opening.output(cli.folder))
    context = Context(cli.folder, out=io.StringIO(), err=io.StringIO())
    context.stay()
    watcher.look()
    assert watcher.standing == feed.look().standing == Standing(dict.fromkeys(STATE_ORDER, 0), 0)
    cli.ok("enqueue", "--id", "a", "--", "true")
    assert run_line(context, bind(COMMANDS, "show a -q")) == 0
    assert watcher.look()
    assert feed.look().standing.counts["pending"] == 1
    shutil.rmtree(cli.folder)
    gone = f"data folder {cli.folder} is gone; 'init' makes a new one"
    assert watcher.look()
    assert watcher.standing.trouble == feed.look().standing.trouble == gone
    for line in ("enqueue -- true", "list", "enqueue -q -- true"):
        assert run_line(context, bind(COMMANDS, line)) == 5
    assert context.err.getvalue() == f"queuectl: {gone}\n" * 3
    assert not os.path.exists(cli.folder)
    for line in ("init", "enqueue --id b -- true"):
        assert run_line(context, bind(COMMANDS, line)) == 0
    assert [job.id for job in feed.look(at_once=False).jobs] == ["b"]
    context.close()
    feed.close()


def test_a_script_does_not_make_it_again(cli, wait_until):
    script = cli.popen()
    assert script.stdin
    script.stdin.write(b"enqueue --id b -- true\n")
    script.stdin.flush()
    wait_until(lambda: cli("show", "b").code == 0)
    shutil.rmtree(cli.folder)
    _, err = script.communicate(b"enqueue --id c -- true\n", timeout=30)
    assert f"data folder {cli.folder} is gone" in err.decode()
    assert not os.path.exists(cli.folder)


def test_leaving_a_queue_whose_folder_is_gone_says_so(cli):
    queue = JobQueue.open(cli.folder)
    queue.enqueue([{"id": "a", "command": "true"}])
    shutil.rmtree(cli.folder)
    with pytest.raises(StoreError, match=f"data folder {cli.folder} is gone"):
        queue.close()
    assert not os.path.exists(cli.folder)


@root
def test_root_makes_no_folder_in_the_home_of_another_user(tmp_path, monkeypatch):
    home = tmp_path / "home"
    (home / ".local").mkdir(parents=True)
    for path in (home, home / ".local"):
        os.chown(path, 12345, 12345)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreError, match="in the home of another user"):
        find_folder(None, {})
    assert history_path({}) == os.devnull
    named = str(home / "named")
    assert find_folder(named, {}) == named, "what was named is meant"
    os.chown(home / ".local", 0, 0)
    assert find_folder(None, {}) == str(home / ".local/share/queuectl")


def test_a_list_in_json_can_be_enqueued_again(cli, tmp_path):
    cli.ok("config", "set", "inherit-env", "HOME")
    cli.ok("config", "set", "base", "0")
    cli.ok("enqueue", "{id: a, command: exit 3, max_retries: 1, timeout: 5m, priority: 2}")
    cli.ok("enqueue", "--id", "b", "--env", "E=1", "--cwd", "/", "--", "echo", "it's")
    cli.ok("enqueue", "--id", "c", "--delay", "1h", "--no-rerun", "--", "true")
    cli.ok("cancel", "c")
    cli.ok("dlq", "list")
    listed = cli.ok("list", "--json")
    before = json.loads(listed)
    (tmp_path / "jobs.json").write_text(listed)
    other = str(tmp_path / "other")
    result = cli("--data", other, "enqueue", "--file", "jobs.json")
    assert result.code == 0, result
    assert "jobs.json: passed over" in result.err
    for name in ("attempts", "created_at", "history", "state", "env_set"):
        assert name in result.err
    after = {job["id"]: job for job in json.loads(cli.ok("--data", other, "list", "--json"))}
    kept = ("id", "command", "priority", "max_retries", "run_at", "timeout", "cwd", "env", "rerun")
    for job in before:
        assert {name: after[job["id"]][name] for name in kept} == {n: job[n] for n in kept}
        assert after[job["id"]]["state"] == "pending"


def test_dead_jobs_and_single_ones_in_json_can_be_enqueued_again(cli, tmp_path):
    for job_id in ("a", "b"):
        cli.ok("enqueue", "--id", job_id, "--max-retries", "0", "--priority", "2", "--", "false")
    cli.ok("enqueue", "--id", "child", "--after-end", "b", "--", "true")
    cli("worker", "run", "--drain")
    dead, one = cli.ok("dlq", "list", "--json"), cli.ok("show", "b", "--json")
    (tmp_path / "one").write_text(one)
    (tmp_path / "twice").write_text(one + one.replace('"b"', '"c"') + '{"id": "d", "command": "x"}')
    (tmp_path / "dead").write_text(dead)
    for name, ids in (("one", ["b"]), ("twice", ["b", "c", "d"]), ("dead", ["a", "b"])):
        other = str(tmp_path / f"other {name}")
        result = cli("--data", other, "enqueue", "--file", name)
        assert result.code == 0, result
        assert f"{name}: passed over" in result.err
        assert "exit_code" in result.err
        jobs = json.loads(cli.ok("--data", other, "list", "--json"))
        assert [job["id"] for job in jobs] == ids
        assert {job["state"] for job in jobs} == {"pending"}
        assert jobs[0]["priority"] == 2
    (tmp_path / "cut").write_text(dead.rstrip()[:-1])
    result = cli("--data", str(tmp_path / "none"), "enqueue", "--file", "cut")
    assert result.code == 2
    assert "'}' is missing behind the jobs" in result.err
    assert cli("enqueue", "--file", "dead").code == 4, "they are there already"


def test_what_a_person_wrote_is_passed_over_nowhere(cli, tmp_path):
    (tmp_path / "jobs").write_text('{"id": "a", "command": "true", "attempts": 3}')
    assert cli("enqueue", "--file", "jobs").code == 2
    assert json.loads(cli.ok("list", "--json")) == []
