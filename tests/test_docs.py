"""The documents are true: examples are run, tables compared, named files searched."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from samples import PYTHON

from queuectl.commands.grammar.binding import bind_argv
from queuectl.commands.help.pages import TOPICS
from queuectl.commands.table import COMMANDS
from queuectl.config import SETTINGS, show_value
from queuectl.errors import QueuectlError

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def read(*path: str) -> str:
    with open(os.path.join(ROOT, *path), encoding="utf-8") as file:
        return file.read()


README = read("README.md")
ARCHITECTURE = read("docs", "architecture.md")


class Example(NamedTuple):
    """One command of a console block and what it should print; `line` is where it stands."""

    line: int
    command: str
    expected: str


def examples(text: str) -> Iterator[Example]:
    """The `$ ` commands of the console blocks, with further lines of theirs behind `> `."""
    for block in re.finditer(r"^```console\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        line = text.count("\n", 0, block.start(1))
        for part in re.split(r"^\$ ", block[1], flags=re.MULTILINE)[1:]:
            command, *rest = part.splitlines()
            while rest and rest[0].startswith("> "):
                command += "\n" + rest.pop(0).removeprefix("> ")
            yield Example(line, command, "".join(f"{shown}\n" for shown in rest))


def pattern(expected: str) -> str:
    """The expected output as a pattern: `...` in a line is any text, alone any lines."""
    lines = [
        r"(?:.*\n)*" if line == "..." else re.escape(line).replace(r"\.\.\.", ".*") + r"\n"
        for line in expected.splitlines()
    ]
    return "".join(lines)


@pytest.fixture
def home(cli, tmp_path, monkeypatch) -> str:
    """A home with nothing in it but a `queuectl` command; its path. The queue is cli's."""
    folder = str(tmp_path / "home")
    script = os.path.join(folder, "bin", "queuectl")
    os.makedirs(os.path.dirname(script))
    with open(script, "w") as file:
        file.write(f'#!/bin/sh\nexec {PYTHON} -m queuectl "$@"\n')
    os.chmod(script, 0o700)
    monkeypatch.setenv("HOME", folder)
    monkeypatch.setenv("PATH", os.path.dirname(script), prepend=os.pathsep)
    monkeypatch.setenv("PYTHONPATH", ROOT, prepend=os.pathsep)
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    return folder


def test_the_examples_of_the_readme_print_what_it_says(home):
    told = list(examples(README))
    assert len(told) > 20
    for example in told:
        done = subprocess.run(
            ["/bin/sh", "-c", example.command],
            cwd=home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert re.fullmatch(pattern(example.expected), done.stdout), (
            f"README.md:{example.line}: {example.command}\nprinted:\n{done.stdout}"
            f"but should print:\n{example.expected}"
        )


def test_the_demonstration_shows_retries_and_dead_letters(cli, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert "docs/demo.txt" in README
    cli.ok("config", "set", "base", "0.2")  # less patience than who watches it has
    result = cli.run(stdin=read("docs", "demo.txt"))
    assert result.code == 1  # one job is there to die
    assert "worker run ended with exit code 1" in result.err
    for told in ("hello run 1 completed", "flaky run 1 failed", "flaky run 3 completed"):
        assert told in result.out
    assert "doomed run 2 dead" in result.out
    again = cli.run(stdin=read("docs", "demo.txt"))
    assert (again.code, again.out.count(" run 1 started: ")) == (1, 4)


def test_the_nightly_script_holds_on_every_night(cli, home, wait_until):
    """The README's own script and crontab line: two good nights, then two failing backups.

    The second one fails in a worker beside, whose dead jobs are not those of the drain.
    """
    [script] = [e for e in examples(README) if e.command.startswith("cat > nightly.txt")]
    subprocess.run(["/bin/sh", "-c", script.command], cwd=home, check=True)
    [line] = re.findall(r"^15 3 \* \* \* (.*)$", README, re.MULTILINE)

    def night():
        how = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True, "check": False}
        told = line.replace("/srv/site", shlex.quote(home))
        return subprocess.run(["/bin/sh", "-c", told], **how)

    archive = os.path.join(home, "backup.tar")
    for number in (1, 2):
        with open(os.path.join(home, "jobs.txt"), "w") as file:
            file.write(f"night {number}\n")
        done = night()
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        with open(archive, "rb") as file:
            assert f"night {number}\n".encode() in file.read()
    os.remove(os.path.join(home, "jobs.txt"))
    done = night()
    assert done.returncode == 1
    assert done.stdout == ""
    assert re.search(
        r"^Ended dead: \w+: exit code 2: tar: .*; 'queuectl --data .+ show \w+' tells more\.$",
        done.stderr,
        re.M,
    )
    assert "nightly.txt:4: worker run ended with exit code 1" in done.stderr
    queue = ("--data", os.path.join(home, "nightly"))
    listed = cli.ok(*queue, "list").splitlines()[2:]
    assert [row.split()[1] for row in listed] == ["completed"] * 4 + ["dead"]  # no check of it
    cli.ok(*queue, "config", "set", "base", "0.1")
    cli.ok(*queue, "worker", "start")
    done = night()
    cli.ok(*queue, "worker", "stop")
    assert done.returncode == 1
    assert re.search(r"nightly\.txt:[45]: \w+", done.stderr)
    listed = cli.ok(*queue, "list").splitlines()[2:]
    assert [row.split()[1] for row in listed] == ["completed"] * 4 + ["dead"] * 2


def rows(heading: str) -> list[list[str]]:
    """The cells of the table under a heading of the README, without its titles."""
    section = README.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_the_readme_lists_every_command():
    told = [command for command, meaning in rows("Commands") if meaning]
    assert told == [f"`{' '.join(spec.words)}`" for spec in COMMANDS]


def test_the_readme_lists_every_setting():
    assert rows("Settings") == [
        [f"`{setting.name}`", show_value(setting, setting.default), setting.meaning]
        for setting in SETTINGS
    ]


def test_the_readme_tells_the_exit_codes_that_help_tells():
    told = {int(code): meaning for code, meaning in rows("Exit codes")}
    for code, meaning in re.findall(r"^  (\d+) +(.+)$", TOPICS["exit-codes"], re.MULTILINE):
        assert int(code) in told, meaning
    kinds = [QueuectlError, *descendants(QueuectlError)]
    assert {kind.exit_code for kind in kinds} <= set(told)


def descendants(kind: type) -> list[type]:
    """All classes below this one."""
    children = kind.__subclasses__()
    return [*children, *(one for child in children for one in descendants(child))]


def test_the_readme_begins_with_the_two_commands_that_set_everything_up():
    first, second = re.findall(r"^```sh\n(.*)\n```$", README, re.MULTILINE)[:2]
    assert first.startswith("python3 -m venv .venv && ")
    assert second.startswith("python3 -m venv .venv && ")
    assert second.endswith(" -m pytest -n 4 --dist worksteal")


def modules() -> set[str]:
    """Every Python file of the project, as `name.py` and as `folder/name.py`."""
    found = set()
    for folder, _, names in os.walk(os.path.join(ROOT, "queuectl")):
        within = os.path.relpath(folder, os.path.join(ROOT, "queuectl"))
        paths = [os.path.join(within, name) for name in names if name.endswith(".py")]
        found |= {os.path.normpath(path) for path in paths}
    return found


def test_the_architecture_page_names_every_module_and_no_other():
    named = set(re.findall(r"[\w/]+\.py\b", ARCHITECTURE)) - {"tests/test_MODULE.py"}
    there = {path for path in modules() if os.path.basename(path)[:2] != "__"}
    names = {os.path.basename(path) for path in there}
    tests = set(os.listdir(os.path.join(ROOT, "tests")))
    assert {name for name in named if name not in there | names | tests} == set()
    assert {name for name in names if name not in named} == set()


def test_the_architecture_page_names_only_folders_that_exist():
    for name in re.findall(r"(?:^|`)(\w+)/", ARCHITECTURE, re.MULTILINE):
        places = ("", "queuectl", "tests")
        there = any(os.path.isdir(os.path.join(ROOT, place, name)) for place in places)
        assert there or name in ("workers", "logs"), name


def test_the_architecture_page_fits_three_screens():
    assert len(ARCHITECTURE.splitlines()) <= 150


def test_every_link_to_a_file_leads_somewhere():
    for target in re.findall(r"\]\(([^)#:]+)\)", README + ARCHITECTURE):
        assert os.path.exists(os.path.join(ROOT, target)), target


def test_every_line_for_another_tools_habit_is_a_command_of_ours():
    page = read("docs", "coming_from.md")
    lines = re.findall(r"`((?:[^`|]|\\\|)*\bqueuectl [^`]*)`", page)
    assert len(lines) > 50
    for line in lines:
        piece = re.split(r"\\\||\|\|", line[line.index("queuectl ") :])[0]
        words = shlex.split(piece)[1:]
        assert [fault.message for fault in bind_argv(COMMANDS, words).faults] == [], line
