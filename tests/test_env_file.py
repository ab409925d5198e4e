"""A job's file of variables, and what is shown of variables whose names suggest a secret."""

from __future__ import annotations

import json
import os

import pytest

from queuectl.errors import InvalidInput
from queuectl.model.env_file import LARGEST, variables
from queuectl.model.secret_names import is_secret


def test_a_line_is_a_name_and_a_value_as_it_stands():
    data = b'\xef\xbb\xbf# a comment\n\nA=1\n B = two words \r\nC="$HOME"\nD=\nE=x=y\nF_1=\xff\n'
    assert variables(data, "f") == {
        b"A": b"1",
        b"B": b" two words ",
        b"C": b'"$HOME"',
        b"D": b"",
        b"E": b"x=y",
        b"F_1": b"\xff",
    }


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"A=1\nexport B=2\n", "f:2: not NAME=VALUE"),
        (b"A\n", "f:1: not NAME=VALUE"),
        (b"=1\n", "f:1: not NAME=VALUE"),
        (b"1A=1\n", "f:1: not NAME=VALUE"),
        (b"A=a\0b\n", "f:1: the value holds a NUL byte"),
        (b"A=" + b"x" * LARGEST, "longer than 1,000,000 bytes"),
    ],
)
def test_a_line_of_another_form_is_named(data, why):
    with pytest.raises(InvalidInput, match=why):
        variables(data, "f")


def test_it_is_read_at_each_run_and_the_queue_holds_only_its_path(cli, tmp_path, monkeypatch):
    secrets, out = tmp_path / "my secrets", tmp_path / "out"
    secrets.write_text("API=one\nLEVEL=2\nQUEUECTL_JOB_ID=other\n")
    monkeypatch.chdir(tmp_path)
    script = f'echo "$API $LEVEL $QUEUECTL_JOB_ID" >> "{out}"'
    for job_id in ("a", "b"):
        given = ("--env-file", secrets.name, "--env", "LEVEL=3", "--command", script)
        cli.ok("enqueue", "--id", job_id, *given)
        cli.ok("worker", "run", "--drain")
        secrets.write_text("API=two\n")
    assert out.read_text() == "one 3 a\ntwo 3 b\n"
    assert json.loads(cli.ok("show", "a", "--json"))["job"]["env_file"] == str(secrets)
    assert "API" not in cli.ok("backup", "-").replace("$API", "")


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda path: None, "No such file or directory"),
        (os.mkfifo, "is not a plain file"),
        (lambda path: path.write_text("no equals sign"), ":1: not NAME=VALUE"),
    ],
)
def test_without_it_a_job_cannot_start(cli, tmp_path, make, why):
    path = tmp_path / "env"
    make(path)
    cli.ok("enqueue", "--id", "a", "--max-retries", "0", "--env-file", str(path), "--", "true")
    cli("worker", "run", "--drain")
    job = json.loads(cli.ok("show", "a", "--json"))["job"]
    assert job["state"] == "dead"
    assert job["error"].startswith("cannot start: env_file ")
    assert why in job["error"]


def test_secrets_are_hidden_by_their_names(cli):
    cli.ok("enqueue", "--id", "a", "--env", "API_TOKEN=s3cret", "--env", "LEVEL=3", "--", "true")
    for command in (("show", "a"), ("show", "a", "--json"), ("list", "--json")):
        shown = cli.ok(*command)
        assert "s3cret" not in shown
        assert "***" in shown
        assert "3" in shown
    for command in (("show", "a", "--reveal"), ("show", "a", "--reveal", "--json")):
        assert "s3cret" in cli.ok(*command)
    assert [is_secret(name) for name in ("db_password", "KEY", "PATH")] == [True, True, False]


def test_a_hidden_value_is_not_taken_for_the_value(cli):
    result = cli("enqueue", "--env", "API_TOKEN=***", "--", "true")
    assert result.code == 2
    assert "stands for a value that was hidden" in result.err
    assert cli.ok("-q", "list") == ""


def test_update_adds_a_variable_to_those_that_a_job_has(cli):
    cli.ok("enqueue", "--id", "a", "--env", "A=1", "--env", "B=2", "--", "true")
    cli.ok("update", "a", "--env", "B=3", "--env", "C=4")
    env = json.loads(cli.ok("show", "a", "--json"))["job"]["env"]
    assert env == {"A": "1", "B": "3", "C": "4"}


def test_an_option_with_one_value_is_given_once(cli):
    for argv in (["--id", "a", "--id", "b"], ["--priority", "1", "--priority=2"]):
        result = cli("enqueue", *argv, "--", "true")
        assert (result.code, "is given twice" in result.err) == (2, True)
