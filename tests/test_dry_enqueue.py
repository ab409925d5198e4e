"""`enqueue --dry-run`: shows what would be added, checks it fully, and changes nothing."""

from __future__ import annotations

import json
import os
import re
import shlex
from pathlib import Path

import pytest


def content(folder):
    return {path: path.read_bytes() for path in Path(folder).iterdir() if path.is_file()}


@pytest.mark.parametrize("mode", ["argv", "script"])
@pytest.mark.parametrize(
    ("words", "ids"),
    [
        ("--file jobs", ["a", "b"]),
        ("--each runs.csv --id 'r-{n}' --priority '{p}' --command 'echo {src}'", ["r-1", "r-2"]),
        ("--id one --command true", ["one"]),
    ],
)
def test_it_shows_what_would_be_added_and_makes_no_folder(cli, tmp_path, mode, words, ids):
    (tmp_path / "jobs").write_text("{id: a, command: x}\n{id: b, command: y, after: [a]}\n")
    (tmp_path / "runs.csv").write_text("src,p\none,1\nt w,2\n")

    def shown(*options):
        line = " ".join(("enqueue --dry-run", *options, words))
        return cli(stdin=f"{line}\n") if mode == "script" else cli(*shlex.split(line))

    told = shown()
    assert (told.code, told.err) == (0, "")
    assert [row.split()[0] for row in told.out.splitlines()[2:-1]] == ids
    assert told.out.splitlines()[-1] == f"Would be added: {len(ids)}"
    jobs = json.loads(shown("--json").out)["jobs"]
    assert [(job["id"], job["state"]) for job in jobs] == [(name, "pending") for name in ids]
    assert shown("-q").out.split() == ids
    assert not os.path.exists(cli.folder)


REFUSED = {
    "there": "{id: old, command: x}",
    "twice": "{id: n, command: x}\n{id: n, command: x}",
    "key there": "{command: x, unique: k}",
    "key twice": "{command: x, unique: n}\n{command: x, unique: n}",
    "no parent": "{command: x, after: [none]}",
    "lost parent": "{command: x, after: [gone]}",
    "schedule": "{command: x, after: [tick]}",
    "ring": "{id: n, command: x, after: [m]}\n{id: m, command: x, after: [n]}",
    "field": "{command: x, priority: high}",
    "size": json.dumps({"command": "x" * 200_000}),
    "nothing": "",
}
REFUSED_WITH = {
    "no id": ("--if-absent", "{command: x}"),
    "no key": ("--replace", "{command: x}"),
    "own parent": ("--replace", "{command: x, unique: k, after: [old]}"),
    "own kid": ("--replace", "{command: x, unique: k, after: [kid]}"),
    "no new parent": ("--replace", "{command: x, unique: k, after: [none]}"),
}


@pytest.mark.parametrize("case", [*REFUSED, *REFUSED_WITH])
def test_it_refuses_what_would_be_refused(cli, tmp_path, case):
    cli.ok("enqueue", "--id", "old", "--unique", "k", "--", "true")
    cli.ok("enqueue", "--id", "kid", "--after", "old", "--", "true")
    cli.ok("enqueue", "--id", "gone", "--", "true")
    cli.ok("cancel", "gone")
    cli.ok("enqueue", "--id", "tick", "--every", "1h", "--", "true")
    options, text = REFUSED_WITH.get(case, ("", REFUSED.get(case)))
    (tmp_path / "jobs").write_text(text)
    line = ["enqueue", "--file", "jobs", *options.split()]
    before = content(cli.folder)
    dry = cli(*line, "--dry-run")
    assert content(cli.folder) == before
    real = cli(*line)
    assert dry.code == real.code != 0
    assert dry.out == ""
    # The file store alone knows in which file a job lies; ids that are made up differ.
    assert without_ids(dry.err) == without_ids(real.err.replace("/jobs.json", ""))


def without_ids(text):
    return re.sub(r"'1p\w{12}'", "'ID'", text)


def test_it_tells_which_are_there_and_which_would_be_replaced(cli, tmp_path):
    cli.ok("enqueue", "--id", "old", "--unique", "k", "--", "true")
    (tmp_path / "jobs").write_text("{id: old, command: x}\n{id: new, command: x}\n")
    told = cli("enqueue", "--dry-run", "--if-absent", "--file", "jobs").out.splitlines()
    assert [row.split()[0] for row in told[2:-1]] == ["new"]
    assert told[-1] == "Would be added: 1; there before: 1"
    told = cli("enqueue", "--dry-run", "--replace", "--unique", "k", "--", "false").out.splitlines()
    assert told[2].split() == ["old", "pending", "false"]
    assert told[-1] == "Would be added: 0; there before: 1"
    assert cli.ok("list").split()[-1] == "true"


def test_json_without_it_is_refused(cli):
    assert cli("enqueue", "--json", "--", "true")[:2] == (2, "")
    assert not os.path.exists(cli.folder)
