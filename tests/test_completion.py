"""Completion in bash, zsh and fish: the real shells ask, and get what is in the queue."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import closing

import pytest
from samples import PYTHON

from queuectl.commands.grammar.tokens import quote
from queuectl.completion.tab_completion import candidates
from queuectl.job_queue import JobQueue
from queuectl.live.live_queue import LiveQueue
from queuectl.model.lifecycle import Outcome
from queuectl.store.files.peek import NewestLines, Peek

JOBS = {"re", "json", "typing", "enum", "collections", "functools", "queuectl.model.job"}
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


@pytest.fixture
def queue(data_dir) -> JobQueue:
    """dead1 and dead:2 are dead, job1 and job2 pending."""
    queue = JobQueue.open(data_dir)
    for job_id in ("dead1", "dead:2"):
        queue.enqueue([{"id": job_id, "command": "exit 3", "max_retries": 0}])
        job = queue.claim("w")
        assert job is not None
        queue.settle(job, Outcome("exited", 3, None, queue.now()))
    queue.enqueue([{"id": "job1", "command": "echo 'a b'"}, {"id": "job2", "command": "true"}])
    queue.close()
    return queue


def words(line: str) -> list[str] | None:
    found = candidates(line, os.environ)
    return None if found is None else [word for word, _ in found]


OPTIONS = [
    *("--all", "--tag", "--match", "--error", "--exit-code", "--since", "--until", "--recurring"),
    *("--limit", "--dry-run", "--alone", "--yes"),
]


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("queuectl dlq retry ", ["dead:2", "dead1", *OPTIONS]),
        ("queuectl dlq retry dead1 ", ["dead:2", *OPTIONS]),
        ("queuectl dlq retry dead:", ["dead:2"]),
        ("queuectl cancel j", ["job2", "job1"]),
        ("./bin/queuectl -q wor", ["worker"]),
        ("queuectl worker sta", ["start"]),
        ("queuectl list --sta", ["--state"]),
        ("queuectl list --state=pen", ["--state=pending"]),
        ("queuectl list --state pending,comp", ["pending,completed"]),
        ("queuectl config set max-r", ["max-retries"]),
        ("queuectl completion z", ["zsh"]),
        ("queuectl init ", None),
        ("queuectl init --d", ["--data"]),
        ("queuectl --data ", None),
        ("queuectl enqueue --cwd=", None),
        ("queuectl enqueue -- ls -", None),
        ("queuectl enqueue -- ", None),
        ("queuectl enqueue -- quite-lon", ["quite-long"]),
        ("queuectl enqueue -- no-such-pro", None),
        ("queuectl enqueue -- ./quite-lon", None),
        ("queuectl enqueue -- ls quite-lon", None),
        ("queuectl enqueue '{id: a, st", []),
        ("queuectl enqueue {id: a, st", []),
        ("queuectl nonsense ", []),
        ("queuectl show job1 # ", []),
        ("queuectl show 'jo", ["job2", "job1"]),
    ],
)
def test_a_tab_offers_what_fits_the_line(queue, tmp_path, monkeypatch, line, wanted) -> None:
    (tmp_path / "quite-long").touch(0o700)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert words(line) == wanted


def test_jobs_of_several_states_are_found_in_one_pass(queue, monkeypatch) -> None:
    passes = []
    find = NewestLines.find

    def counted(self, states, start, most):
        passes.append(states)
        return find(self, states, start, most)

    monkeypatch.setattr(NewestLines, "find", counted)
    found = candidates("queuectl retry d", os.environ, only_prefixes=True)
    assert found is not None
    assert [word for word, _ in found] == ["dead:2", "dead1"]
    assert len(passes) == 1
    assert candidates("queuectl retry --m", os.environ, only_prefixes=True)
    assert len(passes) == 1  # no id begins so


def test_the_newest_of_several_states_are_not_looked_for_again_if_one_state_has_them_all(
    queue, monkeypatch
) -> None:
    asked, newest = [], Peek.newest
    monkeypatch.setattr(Peek, "newest", lambda *what: asked.append(what) or newest(*what))
    live = LiveQueue(queue.store.watch(), most=1)
    assert [job.id for job in live.jobs(("failed", "dead"), "d")] == ["dead:2"]
    assert [job.id for job in live.jobs(("dead",), "d")] == ["dead:2"]
    assert len(asked) == 1
    assert live.jobs(("failed",), "d") == []  # an older one may be among those not shown
    assert len(asked) == 2
    live.close()


def test_each_candidate_says_what_it_is(queue) -> None:
    found = dict(candidates("queuectl show ", os.environ) or [])
    assert found["dead1"].startswith("dead ")
    assert found["dead1"].endswith(" exit 3")
    assert found["--json"].startswith("print JSON")


def test_the_folder_that_the_line_names_is_asked(queue, tmp_path, monkeypatch) -> None:
    other = JobQueue.open(str(tmp_path / "other"))
    other.enqueue([{"id": "elsewhere", "command": "x"}])
    other.close()
    monkeypatch.setenv("HOME", str(tmp_path))
    assert words("queuectl --data ~/other show e") == ["elsewhere"]
    assert words(f"queuectl show --data '{tmp_path}'/other e") == ["elsewhere"]


def test_a_tab_tells_of_no_error_and_takes_no_lock(cli, queue) -> None:
    with open(os.path.join(cli.folder, "jobs.json"), "w") as file:
        file.write("nonsense")
    for argv in (["bash", "queuectl show "], ["bash", "queuectl 'x"], ["bash"], []):
        result = cli("__complete", *argv)
        assert (result.code, result.err) == (0, "")
    before = sorted(os.listdir(cli.folder))
    assert cli("__complete", "bash", "queuectl init ").code == 10
    assert sorted(os.listdir(cli.folder)) == before


@pytest.mark.parametrize(
    ("line", "needless"),
    [
        ("queuectl sho", {"re", "json", "typing", "enum", "collections", "datetime", "difflib"}),
        ("queuectl list --state ", {"json", "datetime", "difflib", "threading", "typing"}),
        (
            "queuectl show ",
            {"datetime", "difflib", "threading", "queuectl.commands.grammar.values"} | JOBS,
        ),
        ("queuectl cancel j", {"datetime", "difflib", "threading"} | JOBS),
        ("queuectl show 1", {"shutil", "datetime", "difflib", "threading"} | JOBS),
    ],
)
def test_a_tab_loads_little(queue, line, needless) -> None:
    with closing(JobQueue.open(queue.folder)) as again:
        again.enqueue([{"id": "1a", "command": "true"}])  # the ids that we make begin with a digit
    code = (
        f"import sys; from queuectl.cli import main; main(['__complete', 'zsh', {line!r}]);"
        "print(*sys.modules, file=sys.stderr)"
    )
    env = {**os.environ, "PYTHONPATH": ROOT}
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], env=env, capture_output=True, text=True, check=True
    )
    assert "\t" in done.stdout
    heavy = needless | {
        "prompt_toolkit",
        "filelock",
        "asyncio",
        "inspect",
        "logging",
        "subprocess",
        "shlex",
    }
    assert heavy.isdisjoint(done.stderr.split())


# -- the shells themselves


@pytest.fixture
def home(queue, tmp_path, monkeypatch) -> str:
    """A folder with a `queuectl` in it, which is on the path; the shells start there."""
    script = tmp_path / "bin" / "queuectl"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nexec {PYTHON} -m queuectl "$@"\n')
    script.chmod(0o700)
    monkeypatch.setenv("PATH", str(script.parent), prepend=os.pathsep)
    monkeypatch.setenv("PYTHONPATH", ROOT)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    return str(tmp_path)


def ask(home: str, *argv: str) -> list[str]:
    """The lines that a shell prints."""
    if shutil.which(argv[0]) is None:
        pytest.skip(f"{argv[0]} is not on this machine")
    done = subprocess.run(argv, cwd=home, capture_output=True, text=True, timeout=30, check=False)
    assert done.stderr == ""
    return done.stdout.splitlines()


_BASH = """
source <(queuectl completion bash)
eval "set -- $(complete -p queuectl)"; while [ "$1" != -F ]; do shift; done
COMP_LINE=%s; COMP_POINT=${#COMP_LINE}; COMP_TYPE=%d
COMP_WORDS=(queuectl); COMP_CWORD=0
"$2" queuectl 2>/dev/null
printf '%%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize(
    ("line", "kind", "wanted"),
    [
        ("queuectl dlq retry ", 9, ["dead:2", "dead1", "--all"]),
        ("queuectl dlq retry dead:", 9, ["2"]),
        ("queuectl list --state=pe", 9, ["pending"]),
        ("queuectl list --state=", 9, ["pending", "in_progress", "completed"]),
        ("queuectl worker sta", 9, ["start"]),
        ("queuectl show 'jo", 9, ["job2", "job1"]),
        ('queuectl show "jo', 9, ["job2", "job1"]),
        ("queuectl list --state='pe", 9, ["pending"]),
        ("queuectl show 'dead:", 9, ["dead:2"]),
        ('queuectl show "dead:', 9, ["dead:2"]),
        ("queuectl worker sta", 63, ["start"]),
        ("queuectl worker st", 63, ["start  (Start workers", "stop   (Stop workers"]),
        ("queuectl worker st", 37, ["start", "stop"]),
        ("queuectl show nobody", 9, [""]),
    ],
)
def test_bash_gets_the_words_of_the_queue(home, line, kind, wanted) -> None:
    found = ask(home, "bash", "--norc", "-c", _BASH % (quote(line), kind))
    assert len(found) >= len(wanted)
    for shown, start in zip(found, wanted, strict=False):
        assert shown.startswith(start)
        assert kind == 63 or "(" not in shown


# What _describe is given, where there is no screen to show it on.
_ZSH = """
autoload -Uz compinit && compinit -u
source <(queuectl completion zsh)
_describe() { print -rl -- "${(@P)3}" }
_files() { print files }
compset() { true }
words=(%s); CURRENT=$#words; PREFIX=$words[-1]
_queuectl
"""


_FISH = "queuectl completion fish | source; complete --do-complete 'queuectl show jo'"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_interpreter_of_the_command_is_asked_directly(home, shell, monkeypatch) -> None:
    program = os.path.join(home, "bin", "queuectl")
    code = f"import sys; del sys.path[0]; sys.argv[0] = {program!r}; "
    code += "from queuectl.cli import entry; entry()"
    with open(program, "w") as file:
        file.write('#!/bin/sh\n[ "$1" = __complete ] && echo joker && exit\n')
        file.write(f'exec {PYTHON} -c "{code}" "$@"\n')
    with open(os.path.join(home, "queuectl.py"), "w") as file:
        file.write("raise SystemExit('from the folder that one is in')")
    line = {
        "bash": _BASH % (quote("queuectl show jo"), 9),
        "zsh": _ZSH % "queuectl show jo",
        "fish": _FISH,
    }[shell]
    options = {"bash": "--norc", "zsh": "-f", "fish": "--no-config"}
    found = ask(home, shell, options[shell], "-c", line)
    assert [row.split("\t")[0].split(":")[0] for row in found] == ["job2", "job1"]
    # Another command of that name, which another interpreter may run, answers for itself.
    other = os.path.join(home, "other")
    os.mkdir(other)
    shutil.copy(program, other)
    monkeypatch.setenv("PATH", other, prepend=os.pathsep)
    [row] = ask(home, shell, options[shell], "-c", line)
    assert row.startswith("joker")


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("queuectl dlq retry ''", ["dead\\:2:dead ", "dead1:dead ", "--all:every dead job"]),
        ("queuectl list --state=pe", ["--state=pending:waiting to run"]),
        ("queuectl worker sta", ["start:Start workers"]),
        ("queuectl init ''", ["files"]),
    ],
)
def test_zsh_gets_the_words_of_the_queue(home, words, wanted) -> None:
    found = ask(home, "zsh", "-f", "-c", _ZSH % words)
    for shown, start in zip(found[: len(wanted)], wanted, strict=True):
        assert shown.startswith(start)


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("queuectl dlq retry dead", ["dead:2\tdead ", "dead1\tdead "]),
        ("queuectl list --state=pe", ["--state=pending\twaiting to run"]),
        ("queuectl worker sta", ["start\tStart workers"]),
        ("queuectl init b", ["bin/"]),
        ("queuectl list --data=b", ["--data=bin/"]),
    ],
)
def test_fish_gets_the_words_of_the_queue(home, line, wanted) -> None:
    code = f"queuectl completion fish | source; complete --do-complete '{line}'"
    found = ask(home, "fish", "--no-config", "-c", code)
    assert len(found) == len(wanted)
    for shown, start in zip(found, wanted, strict=True):
        assert shown.startswith(start)
