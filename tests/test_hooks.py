"""Hooks: jobs that the end of another adds, in the change that ends it."""

from __future__ import annotations

import os
import time

import pytest
from memory_store import MemoryStore
from samples import START, ended, make_job, read

from queuectl.commands.render import untold
from queuectl.errors import BadFile
from queuectl.job_queue import JobQueue
from queuectl.live.standing import standing_of
from queuectl.model.hooks import hooks_of, is_hook
from queuectl.model.ids import MadeIds
from queuectl.shell.prompt.toolbar import standing_text
from queuectl.store.files.file_store import FileStore
from queuectl.store.files.summary import read_summary

NASTY = "$(touch x) `touch x` '; touch x; '\" \n\x1b[31m\x7f é | touch x"
COMMANDS = {"dead": "d", "completed": "c", "cancelled": "x"}


@pytest.fixture(params=[FileStore, MemoryStore])
def queue(request, tmp_path):
    queue = JobQueue(request.param(str(tmp_path / "queue")))
    yield queue
    queue.close()


def hooked(*pairs, folder="/q"):
    return hooks_of(pairs, COMMANDS, MadeIds(START, b"any"), folder)


def test_a_hook_is_a_job_that_gets_all_by_its_environment():
    job = make_job("a", state="in_progress", run=2, log_word="w")
    dead = job._replace(state="dead", exit_code=3, error=NASTY + "\0" + 9000 * "x")
    [hook] = hooked((job, dead))
    assert hook.id.startswith("hook:")
    assert is_hook(hook)
    assert (hook.command, hook.cwd, hook.timeout, hook.max_retries) == ("d", "/q", 60.0, 3)
    assert hook.env["QUEUECTL_ERROR"].startswith(NASTY + "xxx")
    assert len(hook.env["QUEUECTL_ERROR"]) < 4001
    assert {name: hook.env[f"QUEUECTL_{name}"] for name in ("EVENT", "OF", "EXIT_CODE", "LOG")} == {
        **{"EVENT": "dead", "OF": "a", "EXIT_CODE": "3", "LOG": "/q/logs/a.2.w.log"},
    }


def test_a_folder_that_no_job_can_name_is_left_out():
    job = make_job("a", state="in_progress", run=2)
    [hook] = hooked((job, job._replace(state="dead")), folder="/q\udcff")
    assert (hook.cwd, hook.env["QUEUECTL_LOG"]) == (None, "")


def test_only_an_end_has_a_hook_and_a_hooks_end_none():
    running, idle = make_job("a", state="in_progress"), make_job("b")
    for state in ("pending", "failed", "in_progress"):
        assert hooked((running, running._replace(state=state))) == []
    assert hooked((make_job(state="dead"), make_job(state="dead", priority=3))) == []
    quiet = make_job("q", notify=False)
    two = hooked(
        *((running, running._replace(state="completed")), (idle, idle._replace(state="cancelled"))),
        *((quiet, quiet._replace(state="dead")),),
    )
    assert [hook.command for hook in two] == ["c", "x"]
    assert len({hook.id for hook in two}) == 2
    assert hooked((two[0], two[0]._replace(state="dead"))) == []


def test_a_job_that_falls_with_another_has_no_hook_of_its_own(queue):
    """Else a parent of ten thousand would send as many mails."""
    queue.change_settings({"on-dead": "tell", "on-cancelled": "told"})
    for front, notify in (("loud", True), ("quiet", False)):
        queue.enqueue([{"id": front, "command": "x", "max_retries": 0, "notify": notify}])
        queue.enqueue([{"id": f"{front}0", "command": "x", "after": [front], "notify": notify}])
        kids = [{"id": f"{front}{n}", "command": "x", "after": [f"{front}0"]} for n in (1, 2)]
        queue.enqueue(kids)
    loud = queue.claim("w")
    hook = queue.claim("w", (loud, ended(1)))
    assert hook.env["QUEUECTL_OF"] == "loud"
    quiet = queue.claim("w", (hook, ended()))
    assert quiet.id == "quiet", "the jobs that fell with the first have no hook"
    hook = queue.claim("w", (quiet, ended(1)))
    assert hook.env["QUEUECTL_OF"] == "quiet1", "a quiet cause must not hide what it took along"
    assert queue.claim("w", (hook, ended())) is None
    queue.retry(["loud"])
    queue.cancel(["loud"])
    assert queue.claim("w").env["QUEUECTL_OF"] == "loud"
    assert queue.claim("w") is None


def test_the_worker_that_ends_a_job_runs_its_hook_next(queue):
    queue.change_settings({"on-completed": "tell", "on-cancelled": "told"})
    queue.enqueue([{"id": "a", "command": "x"}, {"id": "b", "command": "x"}])
    job = queue.claim("w")
    hook = queue.claim("w", (job, ended()))
    assert (job.id, hook.command, hook.env["QUEUECTL_OF"]) == ("a", "tell", "a")
    job = queue.claim("w", (hook, ended(1)))
    assert job.id == "b", "a hook waits for its retry as others do"
    assert queue.settle(job, ended()).state == "completed"
    assert [j.env["QUEUECTL_OF"] for j in queue.find(("pending",))] == ["b"]
    queue.enqueue({"id": f"c{number}", "command": "x", "tags": "t"} for number in range(300))
    woken = []
    queue.store.wake_idle = woken.append
    queue.cancel([f"c{number}" for number in range(300)])
    assert woken == [300]
    told = [job.env["QUEUECTL_OF"] for job in queue.find() if job.command == "told"]
    assert sorted(told) == sorted(f"c{number}" for number in range(300))


def test_an_end_and_its_hook_are_one_record(data_dir):
    queue = JobQueue(FileStore(data_dir))
    queue.change_settings({"on-completed": "tell"})
    queue.enqueue([{"id": "a", "command": "x"}])
    job = queue.claim("w")
    size = os.path.getsize(f"{data_dir}/journal")
    queue.claim("w", (job, ended()))
    record = read(f"{data_dir}/journal")[size:]
    assert record.count(b"@") == 1
    assert record.count(b"\n") == 4  # its head, the job, the hook, and the claim of that
    job = queue.claim("v")
    with open(f"{data_dir}/config.json", "w", encoding="ascii") as file:
        file.write("{")
    assert job is None
    with pytest.raises(BadFile):
        queue.change_settings({"base": 3})


def test_nothing_that_a_job_holds_is_ever_syntax(cli, tmp_path):
    out = tmp_path / "told"
    tell = f"""printf "%s|" "$QUEUECTL_OF" "$QUEUECTL_ERROR" >> '{out}'"""
    cli.ok("config", "set", "on-dead", tell)
    cli.ok("config", "set", "on-completed", "queuectl enqueue --id again -- true; exit 5")
    cli.ok("config", "set", "base", "0")
    command = "printf '%s' '$(touch x) `touch x` \"; touch x'; exit 9"
    cli.ok("enqueue", "--id", "a", "--max-retries", "0", "--command", command)
    assert cli("worker", "run", "--drain").code == 1
    assert out.read_text() == 'a|exit code 9: $(touch x) `touch x` "; touch x|'
    assert not os.path.exists("x")
    assert not os.path.exists(f"{cli.folder}/x")
    cli.ok("config", "unset", "on-dead")
    cli.ok("enqueue", "--id", "b", "--no-notify", "--", "true")
    cli.ok("worker", "run", "--drain")
    assert cli.ok("list", "--tag", "hook", "-q").count("\n") == 1


def test_a_hook_that_fails_for_good_is_dead_and_makes_no_chain(cli, monkeypatch):
    cli.ok("config", "set", "on-completed", "exit 5")
    cli.ok("config", "set", "on-dead", "true")
    cli.ok("config", "set", "base", "0")
    cli.ok("enqueue", "--id", "a", "--", "true")
    cli.ok("pause", "hook")
    cli.ok("enqueue", "--id", "last", "--", "true")
    cli.ok("cancel", "last")
    assert cli("worker", "run", "--drain").code == 1
    assert cli("wait", "--all", "--timeout", "20").out == "No job was left to wait for.\n"
    assert '"total": 2' in cli.ok("stats", "--json")
    cli.ok("resume", "hook")
    assert cli("worker", "run", "--drain").code == 1
    assert cli.ok("list", "-q").count("\n") == 3
    assert cli.ok("dlq", "list", "-q").startswith("hook:")
    told = "1 hook is dead and did not report a; 'dlq list' shows it"
    assert f"Warning: {told}\n" in cli.ok("status")
    assert f"Note: hooks: {told}\n" in cli.ok("doctor")
    standing = standing_of(read_summary(cli.folder, time.time()))
    assert standing_text(standing, 500)[0][1] == f" ! {told}"
    assert untold(list("abcde")) == (
        *("5 hooks are dead and did not report c, d, e, ...", "'dlq list' shows them"),
    )
    monkeypatch.setenv("QUEUECTL_EVENT", "completed")  # as in a hook
    cli.ok("enqueue", "--id", "of-hook", "--", "true")
    cli.ok("enqueue", "{id: loud, command: 'true', notify: true}")
    assert cli.ok("list", "--fields", "notify", "--csv", "of-hook", "loud").split() == [
        *("notify", "false", "true"),
    ]


@pytest.mark.parametrize("text", ["", "  ", "x" * 10_001, "a\0b"])
def test_a_hook_is_a_command_or_none(cli, text):
    refused = cli("config", "set", "on-dead", text)
    assert refused.code == 2
    assert "on-dead must be a command of at most 10,000 characters, or none" in refused.err
    cli.ok("config", "set", "on-dead", "echo 'a  b'")
    assert cli.ok("config", "get", "on-dead") == "echo 'a  b'\n"
    assert cli.ok("config", "set", "on-dead", "none") == "Setting 'on-dead' is now none.\n"
