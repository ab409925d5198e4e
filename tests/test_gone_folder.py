"""A removed data folder is not made again; root makes none in another user's home."""

from __future__ import annotations

import io
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
from queuectl.store.facts import STATE_ORDER

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


def test_what_has_its_name_by_now_is_left_alone(cli):
    queue = JobQueue.open(cli.folder)
    queue.enqueue([{"id": "a", "command": "true"}])
    os.rename(cli.folder, f"{cli.folder}.away")
    os.mkdir(cli.folder)
    with pytest.raises(StoreError, match="is gone"):
        queue.enqueue([{"id": "b", "command": "true"}])
    assert os.listdir(cli.folder) == []
    cli.ok("init")
    queue.enqueue([{"id": "b", "command": "true"}])


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
