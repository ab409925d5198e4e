"""One way from a command to its result, even for a front end without terminal and text."""

from __future__ import annotations

import io
import json
import threading

import pytest

from queuectl.commands.context import Context
from queuectl.commands.dispatch import Note, Result, answer, shortage, show
from queuectl.commands.grammar.binding import bind
from queuectl.errors import InvalidInput, NoSuchJob, Reworded
from queuectl.shell.own_commands import SHELL_COMMANDS


@pytest.fixture
def asked(data_dir):
    """Answers to a line as a server has them: in a thread of its own, without a terminal."""

    def ask(line):
        context = Context(data_dir, out=io.StringIO(), err=io.StringIO())
        bound = bind(SHELL_COMMANDS, line)
        assert not bound.faults
        got = []

        def work():
            try:
                result = answer(context, bound.spec, bound.values)
                form = result.form and result.form()
                got.append((form if isinstance(form, dict) else form and list(form), result.code))
            except Exception as exc:
                got.append(exc)
            finally:
                context.close()

        thread = threading.Thread(target=work)
        thread.start()
        thread.join(30)
        assert context.out.getvalue() == context.err.getvalue() == ""
        return got[0]

    return ask


def test_a_server_gets_data_and_errors_with_their_codes(cli, asked):
    for job_id in "abc":
        cli.ok("enqueue", "--id", job_id, "--", "true")
    form, code = asked("list --state pending")
    assert ([job["id"] for job in form], code) == (["a", "b", "c"], 0)
    assert [job["state"] for job in asked("cancel a b --yes")[0]["jobs"]] == ["cancelled"] * 2
    assert [job["state"] for job in asked("retry a")[0]["jobs"]] == ["pending"]
    assert [job["id"] for job in asked("purge --yes --dry-run")[0]["jobs"]] == ["b"]
    assert [job["id"] for job in asked("purge --yes")[0]["jobs"]] == ["b"]
    looking = ("show a", "explain a", "status", "worker list", "config get", "doctor", "dlq list")
    for line in looking:
        form, code = asked(line)
        form = json.loads(json.dumps(form))
        shown = json.loads(cli.ok(*line.split(), "--json"))
        assert shown.pop("schema") == 1
        assert {**form, "time": 0} == {**shown, "time": 0}, line
        assert list(form) == list(shown)
        assert code == 0
    missing = asked("show b")
    assert isinstance(missing, NoSuchJob)
    assert missing.exit_code == 3
    assert isinstance(asked("purge"), InvalidInput)  # nobody can be asked


def test_a_class_that_does_not_compile_is_a_lack_of_memory():
    found = shortage(SyntaxError("expected ':'"))
    assert (found and found.exit_code, "memory" in str(found)) == (5, True)


def test_of_an_answer_one_form_is_shown():
    def ways():
        lines = ["line", Note("remark"), "last"]
        return Result(lines, words=iter(["word"]), form=lambda: {"key": "é"}, code=7)

    for quiet, as_json, out, err in (
        (False, False, "line\nlast\n", "remark\n"),
        (True, False, "word\n", ""),
        (True, True, '{\n  "schema": 1,\n  "key": "é"\n}\n', ""),
    ):
        context = Context(out=io.StringIO(), err=io.StringIO(), quiet=quiet)
        assert show(context, ways(), as_json=as_json) == 7
        assert (context.out.getvalue(), context.err.getvalue()) == (out, err)
    context = Context(out=io.StringIO(), err=io.StringIO(), quiet=True)
    show(context, Result(["text alone"]), as_json=True)
    assert context.out.getvalue() == "text alone\n"


def test_an_error_in_other_words_ends_a_command_as_it_would_itself():
    error = Reworded("FILE:3: it", NoSuchJob("a"))
    assert (str(error), error.exit_code, error.job_id) == ("FILE:3: it", 3, "a")


def test_a_script_that_is_only_read_has_the_mistakes_of_one_that_runs(cli):
    script = "version -h\nfrobnicate -h\n"
    ran, read = cli(stdin=script), cli("--dry-run", stdin=script)
    assert (ran.code, read.code) == (1, 1)
    assert ran.err == read.err != ""
    assert cli("frobnicate", "-h").code == 0  # on a command line it shows all commands
