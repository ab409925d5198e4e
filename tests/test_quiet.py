"""-q: every command prints its data and nothing else."""

from __future__ import annotations

import os
import re

import pytest

import queuectl
from queuectl.commands.table import COMMANDS

# What each command prints with -q on the queue of the fixture, as a regular expression.
DATA = {
    "enqueue": ("enqueue --id new -- true", "new\n"),
    "list": ("list", "done\nwait\ndead\n"),
    "show": ("show done", "completed\n"),
    "explain": ("explain wait", "not_due\nno_workers\n"),
    "logs": ("logs done", "hi\n"),
    "status": (
        "status",
        "pending 1\nin_progress 0\ncompleted 1\nfailed 0\ndead 1\ncancelled 0\n",
    ),
    "stats": (
        "stats",
        "pending 1\nin_progress 0\ncompleted 1\nfailed 0\ndead 1\ncancelled 0\n",
    ),
    "top": ("top", "wait\ndead\ndone\n"),
    "watch": ("watch list", "done\nwait\ndead\n"),
    "wait": ("wait done", ""),
    "update": ("update wait --priority 3", "wait\n"),
    "edit": ("edit wait", "wait\n"),
    "cancel": ("cancel wait", "wait\n"),
    "retry": ("retry done", "done\n"),
    "purge": ("purge --yes", "done\n"),
    "worker start": ("worker start", r"\d+\n"),
    "worker scale": ("worker scale 1", r"\d+\n"),
    "worker stop": ("worker stop", ""),
    "worker list": ("worker list", ""),
    "worker run": ("worker run --drain", ""),
    "dlq list": ("dlq list", "dead\n"),
    "dlq retry": ("dlq retry dead", "dead\n"),
    "dlq purge": ("dlq purge dead --yes", "dead\n"),
    "config get": ("config get base", "2\n"),
    "config set": ("config set base 3", ""),
    "config unset": ("config unset base", ""),
    "init": ("init other", "/.*/other\n"),
    "checkpoint": ("checkpoint", ""),
    "doctor": ("doctor", ""),
    "backup": ("backup file", "file\n"),
    "restore": ("restore file --replace --yes", r"/.*/before-restore-.*\.jsonl\n"),
    "copy": ("copy queue other", "/.*/other\n"),
    "pause": ("pause gpu", "gpu\n"),
    "resume": ("resume gpu", ""),
    "limit": ("limit gpu 1", ""),
    "ping": ("ping", ""),
    "completion": ("completion fish", r"(?s)# queuectl for fish\..*"),
    "help": ("help version", r"(?s)Usage: queuectl version\n.*"),
    "version": ("version", re.escape(queuectl.__version__) + "\n"),
}


@pytest.fixture
def queue(cli, tmp_path, monkeypatch):
    """`done` printed something, `dead` failed, `wait` is to run in an hour; no worker."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VISUAL", 'sed -i.old \'s/"true"/"false"/\'')
    cli.ok("enqueue", "--id", "done", "--", "echo", "hi")
    cli.ok("enqueue", "--id", "dead", "--max-retries", "0", "--", "false")
    assert cli("worker", "run", "--drain").code == 1
    cli.ok("enqueue", "--id", "wait", "--delay", "1h", "--", "true")
    cli.ok("backup", "kept")
    return cli


def test_every_command_is_tried() -> None:
    known = {" ".join(spec.words) for spec in COMMANDS}
    assert DATA.keys() == known - {"serve", "dashboard", "run"}  # which go on, run for a worker


@pytest.mark.parametrize("words", DATA)
def test_quiet_is_the_data_alone(queue, words) -> None:
    line, wanted = DATA[words]
    if words == "restore":
        os.rename("kept", "file")
    if words == "worker run":
        queue.ok("cancel", "wait")  # else it would wait for an hour
    if words == "resume":
        queue.ok("pause", "gpu")
    result = queue.run("-q", *line.split())
    assert (result.code, result.err) == (0, "")
    assert re.fullmatch(wanted, result.out), result.out


def test_quiet_is_silent_of_what_is_not_there(queue, monkeypatch) -> None:
    for line in ("list --state failed", "logs wait", "worker list", "dlq list --limit 0"):
        assert queue("-q", *line.split()) == (0, "", "")
    monkeypatch.setenv("VISUAL", "true")
    assert queue("-q", "edit", "wait") == (0, "", "")
