"""What came from a job is safe to show: no report contains control sequences for a terminal."""

from __future__ import annotations

import json
import os
import re
import sys

import pytest

from queuectl.commands.table import COMMANDS
from queuectl.job_queue import JobQueue
from queuectl.model.lifecycle import Outcome
from queuectl.store.files.logs import LogFolder

# Resets and renames a terminal, in seven bits and in eight, and turns text around.
EVIL = "\x1bc\x0e\x1b]0;x\x07\x9b2J\x7f\u202egpj.exe\u2028\r\ttab\nline\x00"
STORED = EVIL.replace("\x00", "")
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
OUTPUT = (EVIL * 3 + "x" * 3_000_000).encode()
IDS = ("pending", "done", "dead", "failed", "running", "edited")


@pytest.fixture
def hostile(cli, tmp_path, monkeypatch):
    """A queue of jobs in each state, all of whose texts are meant to harm who looks at them."""
    queue = JobQueue.open(cli.folder)
    fields = {"command": STORED + "c" * 100_000, "cwd": f"/{STORED}", "env": {"E": STORED * 50}}
    for job_id in ("done", "dead", "failed", "running", "pending"):
        queue.enqueue([{"id": job_id, "max_retries": int(job_id != "dead"), **fields}])
        if job_id not in ("pending", "running"):
            job = queue.claim("w-1")
            code = int(job_id != "done")
            queue.settle(job, Outcome("exited", code, code and f"exit: {STORED}", queue.now()))
    queue.claim("w-1")  # its worker never lived
    logs = LogFolder(cli.folder)
    logs.make()
    paths = [logs.run_path(queue.get(job_id)) for job_id in ("done", "dead")]
    queue.close()
    for name in (*paths, logs.spool_path("w-1")):
        with open(name, "wb") as file:
            file.write(OUTPUT)
    form = {"id": "edited", "command": STORED, "error": STORED}
    form["history"] = [{"event": STORED, "at": STORED, "run": STORED, STORED: STORED}]
    path = os.path.join(cli.folder, "jobs.json")
    with open(path, encoding="utf-8") as file:
        jobs = json.load(file)
    with open(path, "w", encoding="utf-8") as file:
        json.dump([*jobs, {**form, "note" + STORED: {STORED: STORED}}], file)
    monkeypatch.setenv("EDITOR", "false")
    (tmp_path / "jobs.jsonl").write_text(json.dumps({"id": "new", "command": STORED}))
    (tmp_path / "bad.jsonl").write_text(json.dumps({"id": "bad", STORED: STORED}))
    return cli


# A % stands for each of the jobs.
REPORTS = (
    ("list",),
    ("list --state dead",),
    ("show %",),
    ("explain %",),
    ("status",),
    ("top",),
    ("top --sort id",),
    ("dlq list",),
    ("worker list",),
)
# Each command, in an order in which they do something.
WALK = (
    *REPORTS,
    ("watch list",),
    ("config get",),
    ("ping",),
    ("backup -",),
    ("backup all.backup",),
    ("edit %",),
    ("enqueue --file jobs.jsonl",),
    ("enqueue --file bad.jsonl",),
    ("enqueue", "{id: x, " + STORED + ": 1}"),
    ("enqueue", "--id", EVIL, "--", "true"),
    ("show", EVIL),
    ("wait --timeout 0.1s %",),
    ("wait --all --timeout 0.1s",),
    ("update % --priority 3",),
    ("update", "edited", "--command", STORED),
    ("retry % ",),
    ("cancel %",),
    ("dlq retry --all",),
    ("config set base 0",),
    ("config unset inherit-env",),
    ("checkpoint",),
    ("purge --dry-run",),
    ("pause gpu",),
    ("pause", EVIL),
    ("resume gpu",),
    ("limit gpu 1",),
    ("limit", EVIL, "1"),
    ("worker start",),
    ("worker list",),
    ("run -- true",),
    ("stats",),
    ("worker run --drain",),
    ("worker scale 1",),
    ("worker stop --now",),
    ("copy queue other",),
    ("restore all.backup --replace --yes",),
    ("dlq purge --yes",),
    ("purge --yes",),
    ("doctor",),
    ("doctor --repair",),
    ("init",),
    ("completion bash",),
    ("help",),
    ("version",),
)


def lines_of(words):
    """The command lines that one entry of WALK stands for."""
    argv = words[0].split() + list(words[1:])
    for job_id in IDS if "%" in argv else ("",):
        yield [job_id if word == "%" else word for word in argv]


def row_of(argv):
    """The row of the table of commands that a command line begins with."""
    return next(row for row in COMMANDS if tuple(argv[: len(row.words)]) == row.words)


def test_no_report_on_a_terminal_shows_it_either(hostile, monkeypatch):
    from queuectl.commands import context

    monkeypatch.setattr(context, "is_terminal", lambda stream: stream is sys.stdout)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    for argv in (argv for words in REPORTS for argv in lines_of(words)):
        result = hostile(*argv)
        assert result.code == 0, result
        assert not OBEYED.search(result.out), (argv, result.out)


def test_no_command_shows_what_a_terminal_obeys(hostile):
    # logs alone is raw; tests/web looks at what the two say that go on until they are stopped
    walked, seen = {("logs",), ("serve",), ("dashboard",)}, ""
    for argv in (argv for words in WALK for argv in lines_of(words)):
        row = row_of(argv)
        walked.add(row.words)
        takes_json = any(param.name == "--json" for param in row.params)
        for line in (argv, [*argv, "--json"])[: 1 + (takes_json and "--repair" not in argv)]:
            result = hostile(*line)
            told = result.out + result.err
            assert not OBEYED.search(told), (line, OBEYED.findall(told), told[:2000])
            if line[-1] in ("--json", "-"):  # "-": a backup, for restore to read
                lines = result.out.splitlines() if line[-1] == "-" else [result.out or "{}"]
                list(map(json.loads, lines))
            else:
                assert max(map(len, told.split("\n"))) <= 2500, (line, "is too long")
            seen += told
    assert walked == {row.words for row in COMMANDS}, "a command is not walked"
    assert "gpj.exe" in seen


def test_no_report_of_a_folder_a_file_or_a_setting_shows_it(cli, tmp_path, monkeypatch):
    evil = EVIL.translate(dict.fromkeys(map(ord, "\0\n\r"))) + "y"
    monkeypatch.setenv("QUEUECTL_DATA", str(tmp_path / evil))
    file, other = str(tmp_path / f"b{evil}"), str(tmp_path / f"o{evil}")
    for argv in (
        *(["ping"], ["doctor"], ["init"], ["init"], ["ping"], ["status"], ["doctor"], ["list"]),
        *(["config", "set", "on-dead", evil], ["config", "get"], ["config", "get", "on-dead"]),
        *(
            ["backup", file],
            ["restore", file, "--replace", "--yes"],
            ["copy", str(tmp_path / evil), other],
        ),
    ):
        told = cli(*argv)
        assert told.code == 0, (argv, told)
        assert not OBEYED.search(told.out + told.err), (argv, told)


def test_the_output_of_a_job_is_raw_in_logs_alone(hostile):
    assert hostile.ok("logs", "done").encode() == OUTPUT.replace(b"\r\n", b"\n")
    shown = hostile.ok("show", "done")
    assert len(shown) < 8000
    assert shown.endswith("…" + "x" * 199 + "\n")


def test_json_gives_the_texts_back_as_they_were(hostile):
    jobs = {job["id"]: job for job in json.loads(hostile.ok("list", "--json"))}
    assert jobs["done"]["command"] == STORED + "c" * 100_000
    assert jobs["edited"]["note" + STORED] == {STORED: STORED}


def test_a_backup_gives_the_texts_back_as_they_were(hostile):
    hostile.ok("checkpoint")
    before = json.loads(hostile.ok("show", "edited", "--json"))["job"]
    hostile.ok("backup", "all.backup")
    hostile.ok("restore", "all.backup", "--replace", "--yes")
    after = json.loads(hostile.ok("show", "edited", "--json"))["job"]
    assert after == {**before, "rev": after["rev"]}
