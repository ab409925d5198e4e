"""The same line means the same as an argv, in a script and in the shell."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
from functools import cache
from typing import Any, NamedTuple, TypeAlias

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.key_binding.defaults import load_key_bindings
from prompt_toolkit.output import DummyOutput

from queuectl.addresses import address_of
from queuectl.commands.context import Context
from queuectl.commands.dispatch import run_line
from queuectl.commands.grammar.tokens import tokenize
from queuectl.job_queue import JobQueue
from queuectl.model.lifecycle import Outcome
from queuectl.shell.session import Shell
from queuectl.store.files.job_files import encode_job
from queuectl.store.files.peek import queue_mark

# One scene after the other, each on a queue of its own: what a line does depends on those before.
# `!fail ID` and `!done ID` let the next job, which must be that one, end so.
SCENES = {
    "enqueue": r"""
enqueue '{"id": "a", "command": "echo Hello"}'
enqueue '{id: b, command: "echo it is, id: 1"}'
enqueue '{id: c, command: echo a, b, max_retries: 1}'
enqueue '{id:d,command:true,priority:-3}'
enqueue '{"id": "e", "command": "x", "env": {"A": "1", "B": "two words"}}'
enqueue '{id: f, command: "printf \"%s\" x"}'
enqueue '{id: 007, command: yes}'
enqueue '{id: "12:30", command: "12"}'
enqueue '{id: w, command: x, run_at: "2090-01-01T00:00:00Z"}'
enqueue '{id: z, command: x, rerun: false, timeout: 5m}'
enqueue '{id: x1, command: x, cwd: /}' --priority 4
enqueue --id g -- true
enqueue --id h --priority -1 -- echo one two
enqueue --id i --command 'ls / | wc -l' --max-retries 0
enqueue --id=j --command="a b  c" --timeout=1h30m
enqueue --command 'x' --id k --env A=1 --env 'B=2 3'
enqueue --id l --command x --run-at 2090-01-31T09:30:00+01:00
enqueue --id m --cwd /tmp --command pwd
enqueue --id n --no-rerun -- true
enqueue --id o -- ls -l --json -h
enqueue --id p -- -x
enqueue -q --id q -- true
enqueue --quiet '{id: r, command: x}'
--quiet enqueue --id s -- true
enqueue --id t --priority=-5 -- true
enqueue --command 'é 世' --id u
enqueue '{id: v, command: "echo 世 é"}'
enqueue --id Y.y_y:y-y -- true
enqueue '{id: tag1, command: x, tags: [gpu, "night:2"]}'
enqueue '{"id": "tag2", "command": "x", "tags": ["gpu"]}'
enqueue '{id: tag3, command: "x", tags: gpu}'
enqueue --id tag4 --tag gpu --tag site:a -- true
enqueue '{}'
enqueue
enqueue --
enqueue -- ''
enqueue '{id: a, command: x}'
enqueue --id a -- true
enqueue '{id: a'
enqueue '{id: n1, comand: x}'
enqueue '{"id": "n2", "command": 5}'
enqueue '{"id": "n3", "command": "x", "id": "n4"}'
enqueue '{id: n5, command: x, priority: high}'
enqueue '{id: n6, command: x, state: running}'
enqueue '{id: n7, command: x}' --id n8
enqueue '{id: n9, command: x}' -- y
enqueue '{command: x, id: "-n"}'
enqueue --id '' -- true
enqueue --id 'a b' -- true
enqueue --id n10 --priority x -- true
enqueue --id n10 --priority 1.5 -- true
enqueue --id n10 --max-retries -1 -- true
enqueue --id n10 --timeout 5x -- true
enqueue --id n10 --timeout 0 -- true
enqueue --id n10 --run-at tomorrow -- true
enqueue --id n10 --run-at 2026-01-31T08:30:00 -- true
enqueue --id n10 --delay 1h --run-at 2090-01-01T00:00:00Z -- true
enqueue --id n10 --env A -- true
enqueue --id n10 --env A=1 --env A=2 -- true
enqueue --id n10 --env =1 -- true
enqueue --id n10 --tag a,b -- true
enqueue --id n10 --tag gpu --tag gpu -- true
enqueue '{id: n10, command: x, tags: [gpu]}' --tag night
enqueue --id
enqueue --id n10 echo hi
enqueue echo hi
enqueue --idd n10 -- true
enqueue --file /no/such/file
enqueue --file /no/such/file --id n10
list
list -q
list --state pending --limit 3 -q
list --limit 0
status
""",
    "reading": r"""
list
list --json
list -q
dlq list
dlq list -q
worker list
status
show nobody
logs nobody
explain nobody
enqueue --id a --priority 5 -- true
enqueue --id b -- false
enqueue --id c --max-retries 0 -- exit 3
!done b
!fail c
list
list --state completed -q
list --state dead -q
list --state completed,dead -q
list --state=pending --state completed -q
list --state running
list --state pendng
list --state
list --state --json
list --state ''
list --limit 1 -q
list --limit x
list --limit -1
list --limit=2 -q
list --limi 2
list --fields id,state,exit_code
list --fields id,stat
list --fields
list --csv --fields id,command
list --tsv -q --fields=id,command,attempts
list --jsonl --input --sort priority
list --jsonl --csv
list --input
list --sort id --newest -q
list --sort size
list a c nobody
list a c -q
list --state dead --match exit -q
list --error exit --exit-code 1 -q
list --since 1h -q --until 1m
list --since soon
list --tag 'a b'
wait --tag none
wait --match exit
logs --match exit
logs --match exit --follow
dlq list --by error -q
dlq list --by error --csv
dlq list --by state
dlq purge
dlq purge --all --dry-run
dlq purge a
list --newest --limit 1 -q
dlq list --fields id,error --json
dlq list --csv --fields id
list extra
dlq list
dlq-list -q
dlq list --limit 1 -q
dlq list --limit 0 -q
dlq lst
dlq
dlq list extra
show
show a b
show 'no such'
show --jsn a
logs a
logs b
logs c --run 1
logs c --run 2
logs c --run 0
logs c --lines 0
logs c --lines 2
logs c --follow --lines 2
logs c -n
explain a
explain b --jsn
wait b
wait c
wait a --timeout 0
wait b c
wait b nobody
wait
wait a --all
wait a --timeout x
watch list
watch 5 list --state dead,completed -q
watch 1m30s show nobody
watch -q 1 list --limit 1
watch 0.2 config get base --json
watch --json list
watch list --limit x
watch list --state pendng
watch 0.1 list
watch 5x list
watch
watch 5
watch lst
watch cancel a
watch worker start
watch worker list
watch watch list
watch logs a -f
watch doctor --repair
watch list -h
ping
help
help list
help dlq
help dlq retry
help exit-codes
help objects
help fields
help settings
help watch
help nothing
list -h
-h list
list --state nonsense -h
dlq -h
version
--version list
completion bash
completion zsh
completion csh
completion
lst
stat
status --json=yes
status extra
--quiet status
status --no-color
--no-color -q list
'list' -q
"list" -q
li\st
xyzzy now
--frobnicate
-x
""",
    "changing": r"""
enqueue --id a --max-retries 0 -- true
enqueue --id b --max-retries 0 -- true
enqueue --id c --max-retries 2 -- true
enqueue --id d -- true
enqueue --id e -- true
!fail a
!fail b
!fail c
!done d
update a --priority 3
update '{id: e, priority: 4}'
update '{"id": "e", "command": "echo new", "timeout": 9}'
update e '{max_retries: 7}'
update --id e --max-retries 8
update e --run-at 2091-01-01T00:00:00Z --cwd /
update e --env A=1
update e --tag gpu --tag night
update e --tag gpu --untag night --untag none
update '{id: e, tags: [a, b]}'
update '{id: e, tags: [a, b]}' --untag a
update e
update
update '{priority: 3}'
update '{id: e, priority: 3}' e
update nobody --priority 3
update e --state running
update e --state dead
update e --stat pending
update e --priority x
update '{id: e, nonsense: 1}'
update '{id: e, id: e}'
update d --state cancelled
update -q e --priority 9
retry c
retry d
retry nobody
retry d nobody --yes
cancel --tag none --yes
cancel --state dead
cancel --match e --dry-run
cancel --match ''
retry --tag none --dry-run
retry --state dead --dry-run
retry --exit-code x
retry --limit 2 --yes
update --in-state dead --tag gone --yes
update --with-tag gone --priority 7 --dry-run
update a b --priority 8 --yes
update a b '{priority: 9}' --yes
retry
retry e
dlq retry a
dlq retry a
dlq retry d
dlq retry nobody
dlq-retry b
dlq retry
dlq retry --all
dlq retry --al
cancel e
cancel e
cancel a nobody --yes
cancel
cancel a b --yes
update '{"id": "a", "state": "pending"}'
update b --state pending
cancel -q a
list -q --state cancelled
purge --yes --state pending
purge --yes --state nonsense
purge --yes --older-than 5x
purge --dry-run
purge -y --older-than 90d
purge --yes --state completed
purge --yes
list -q
config get
config get base
config get backoff_base
config get bse
config get base extra
config set base 3
config set base x
config set base -1
config set max-retries 5
config set max_retries 6
config-set timeout 5m
config set timeout none
config set keep-finished 30d
config set inherit-env LANG,HOME
config set bse 3
config set base
config set
config set base 3 4
config unset base
config unset bse
config unset
config get base
checkpoint
checkpoint extra
worker stop
worker stop --later
worker start --count 0
worker start --count x
worker start two
worker
worker nothing
worker-start --count 100000
init
init /dev/null/place
backup /no/such/place/file
backup
restore /no/such/file --yes
restore
status
""",
}
_CHANGING_TEXT = re.compile(
    r"\d{4}-\d\d-\d\dT[\d:.]+Z|\d+[smhd] ago|[\d.]+ ms|\b[0-9a-z]{10,}\b|\br[0-9a-z]{6}\b"
)


Stored: TypeAlias = "tuple[list[dict[str, Any]], dict[str, object]]"


class Done(NamedTuple):
    """What a line did: its results, its exit code, and the jobs and settings behind it."""

    out: str
    code: int
    jobs: list[dict[str, Any]]
    settings: dict[str, object]


def scene_lines(scene: str) -> list[str]:
    return SCENES[scene].strip().splitlines()


def stored(folder: str) -> Stored:
    """All jobs without times, and the settings; files are read anew only if they changed."""
    if address_of(folder) is not None:
        return _stored(folder)
    mark = queue_mark(folder)
    if _read.get(folder, (None,))[0] != mark:
        _read[folder] = mark, _stored(folder)
    return _read[folder][1]


_read: dict[str, tuple[object, Stored]] = {}


def _stored(folder: str) -> Stored:
    queue = JobQueue.open(folder)
    jobs = [json.loads(encode_job(job)) for job in queue.find()]
    for job in jobs:
        for name in [name for name in job if name.endswith("_at")]:
            del job[name]
        job.pop("log_word", None)
        job["history"] = [entry["event"] for entry in job.get("history", ())]
        job["later"] = job.pop("run_at", "") > "2050"
    settings = queue.settings().to_dict()
    queue.close()
    return jobs, settings


def let_end(folder: str, line: str) -> None:
    """What a worker would do."""
    how, job_id = line[1:].split()
    queue = JobQueue.open(folder)
    job = queue.get(job_id)
    queue.update(job_id, {"priority": -99})
    claimed = queue.claim("w-1")
    assert claimed is not None
    assert claimed.id == job_id
    queue.settle(claimed, Outcome("exited", 1 if how == "fail" else 0, None, queue.now()))
    queue.update(job_id, {"priority": job.priority})
    queue.close()


class AsArgv:
    """Each line cut as a shell cuts it, and run by itself."""

    def __init__(self, cli) -> None:
        self.cli = cli

    def run(self, line: str) -> tuple[str, int]:
        result = self.cli(*(token.text for token in tokenize(line)))
        return result.out, result.code


class AsScript(AsArgv):
    """Each line a script."""

    def run(self, line: str) -> tuple[str, int]:
        result = self.cli(stdin=line + "\n")
        return result.out, result.code


class AsTyped(AsArgv):
    """Each line typed into a shell; one that is refused stays on the prompt, and is cleared."""

    def run(self, line: str) -> tuple[str, int]:
        out, err = io.StringIO(), io.StringIO()
        codes: list[int] = []

        def run_and_note(context: Context, bound, **how) -> int:
            codes.append(run_line(context, bound, **how))
            shell.leaving = True
            return codes[-1]

        context = Context(out=out, err=err, interactive=True)
        with create_pipe_input() as pipe, create_app_session(pipe, DummyOutput()):
            shell = Shell(context, run_and_note, input=pipe, output=DummyOutput())
            # Pasted, which is as good as typed and takes a fifth of the time; then Enter, Ctrl-C
            # and Ctrl-D, for a line that is refused.
            pipe.send_text(f"\x1b[200~{line}\x1b[201~\r\x03\x04")
            shell.run()
        text = out.getvalue().partition("\n")[2]
        return text.partition("In the shell\n")[0], codes[0] if codes else 2


def play(mode: AsArgv, scene: str, where: str, folder: str) -> list[Done]:
    """Every line of a scene, one after the other, on the queue `where` that the folder is for."""
    done: list[Done] = []
    for line in scene_lines(scene):
        if line[0] == "!":
            let_end(folder, line)
            continue
        out, code = mode.run(line)
        shown = _CHANGING_TEXT.sub("T", out).replace(where, "FOLDER")
        done.append(Done(shown, code, *stored(folder)))
    return done


@pytest.fixture
def tmp_path(memory_path):
    """Each line is played three times, and all jobs are read after each."""
    return memory_path


@pytest.fixture
def place(tmp_path):
    """Gives each mode a queue of its own: how it is named, and the folder that stands for it."""

    def placed(mode: str) -> tuple[str, str]:
        folder = str(tmp_path / mode / "data")
        os.makedirs(os.path.dirname(folder))
        return folder, folder

    return placed


@pytest.fixture
def stage(tmp_path, monkeypatch, place):
    """Plays a scene in a mode, on a queue of its own."""
    from tests.conftest import Cli

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("QUEUECTL_HISTORY", str(tmp_path / "history"))
    monkeypatch.setenv("QUEUECTL_SHELLRC", os.devnull)
    monkeypatch.setenv("COLUMNS", "80")
    # The key bindings that all shells have: made anew they are a third of a shell's start.
    made_once = cache(load_key_bindings)
    monkeypatch.setattr("prompt_toolkit.application.application.load_key_bindings", made_once)
    # Nobody looks at the screen: to draw it takes as long as all else.
    monkeypatch.setattr("prompt_toolkit.renderer.Renderer.render", lambda *_, **how: None)

    def played(mode: type[AsArgv], scene: str) -> list[Done]:
        where, folder = place(mode.__name__)
        monkeypatch.setenv("QUEUECTL_DATA", where)
        return play(mode(Cli(folder)), scene, where, folder)

    return played


def test_there_are_two_hundred_lines() -> None:
    lines = [line for scene in SCENES for line in scene_lines(scene) if line[0] != "!"]
    assert len(lines) >= 200


@pytest.mark.parametrize("scene", SCENES)
def test_a_line_does_the_same_in_all_modes(stage, scene) -> None:
    modes = {mode.__name__: stage(mode, scene) for mode in (AsArgv, AsScript, AsTyped)}
    # A script tells no more than that a line failed.
    modes["AsScript"] = [
        done._replace(code=alone.code if done.code == 1 and alone.code else done.code)
        for done, alone in zip(modes["AsScript"], modes["AsArgv"], strict=True)
    ]
    lines = [line for line in scene_lines(scene) if line[0] != "!"]
    different = [
        f"{line}\n" + "\n".join(f"  {name}: {done[at]}" for name, done in modes.items())
        for at, line in enumerate(lines)
        if len({json.dumps(done[at], default=str) for done in modes.values()}) > 1
    ]
    assert "\n".join(different) == ""


def test_the_lines_can_be_cut_by_another_shell_too() -> None:
    """What the corpus calls an argv is what /bin/sh would make of the line."""
    for scene in SCENES:
        for line in scene_lines(scene):
            if "\\" not in line:
                assert shlex.split(line) == [token.text for token in tokenize(line)]
