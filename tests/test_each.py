"""`enqueue --each`: a job for each row, in which no value is ever syntax."""

from __future__ import annotations

import csv
import io
import json
import shlex
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from queuectl.commands.grammar.tokens import command_line
from queuectl.commands.handlers.each import MOST_ROWS, Template, rows
from queuectl.errors import InvalidInput
from queuectl.model.times import parse_time

CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=30)
NASTY = ["", " ", "-rf", "$(exit 3)", "`exit 3`", "'", '"', "a\nb", "; exit 3", "{dst}", "\\", "é"]


def read(text, name="f.csv"):
    return [row for _, row in rows(io.BytesIO(text.encode()), name)]


@settings(max_examples=25, deadline=None)
@given(values=st.lists(CELLS | st.sampled_from(NASTY), min_size=2, max_size=2))
def test_a_value_is_one_word_whatever_it_holds(values):
    table = io.StringIO()
    csv.writer(table).writerows([["src", "dst"], values])
    row = read(table.getvalue())[0]
    words = ["printf", "%s\\0", "{src}", "out/{dst}", "{n}"]
    lines = [
        Template({"command": command_line(words)}, in_words=True).fill(row)["command"],
        Template({"command": "printf '%s\\0' {src} out/{dst} {n}"}, in_words=False).fill(row)[
            "command"
        ],
    ]
    src, dst = (row["src"], row["dst"])
    for line in lines:
        done = subprocess.run(["/bin/sh", "-c", line], capture_output=True, check=True)
        assert done.stdout.decode() == f"{src}\0out/{dst}\0001\0"


def test_a_table_has_columns_and_a_list_lines():
    assert read("\ufeffa;b,c d\r\n1,2\r\n\r\n3,4\r\n") == [
        {"n": "1", "a;b": "1", "c d": "2"},
        {"n": "2", "a;b": "3", "c d": "4"},
    ]
    assert read("a\tb\nx y\t\n", "f.TSV") == [{"n": "1", "a": "x y", "b": ""}]
    assert read("one\n\n two \r\n", "list") == [{"n": "1", "": "one"}, {"n": "2", "": " two "}]
    assert read("n\n7\n")[0]["n"] == "7"


@pytest.mark.parametrize(
    ("text", "name", "why"),
    [
        ("", "f.csv", "f.csv holds no row"),
        ("a,b\n", "f.csv", "f.csv holds no row"),
        ("a,a\n1,2\n", "f.csv", "column 'a' twice"),
        ("a,\n1,2\n", "f.csv", "not at all"),
        ("a,b\n1,2\n1\n", "f.csv", "f.csv:3: 1 cell under 2 columns"),
        ("rate;seed\n0,1;2\n", "f.csv", "f.csv:1: commas must part its columns"),
        ("a\tb\n1\t2\n", "f.csv", "part its columns: name a table with tabs .tsv"),
        ("a;b\n1;2\n", "f.tsv", "f.tsv:1: tabs must part its columns"),
        ('a\n"x\n', "f.csv", "f.csv:2: quotes that begin here are not closed"),
        ("a\n1\n" + '"x\n' * 2 + "z\n" * 9, "f.csv", "f.csv:3: ',' expected after"),
        ('a\n1\n"' + "x\n" * 66_000, "f.csv", "f.csv:3: a cell is longer than 131,072 char"),
        ("a\rb\r", "f.csv", "f.csv:1: a line must end with LF or CRLF"),
        ("x\n" * (MOST_ROWS + 1), "list", "more than 100,000 rows"),
    ],
)
def test_a_table_that_is_wrong_is_refused_with_its_line(text, name, why):
    with pytest.raises(InvalidInput, match=why):
        read(text, name)


def test_bytes_that_are_not_text_are_refused():
    with pytest.raises(InvalidInput, match="list:2: not UTF-8"):
        list(rows(io.BytesIO(b"a\n\xff\n"), "list"))


@pytest.mark.parametrize(
    "line",
    ['echo "{src}"', "echo '{src}'", "echo `ls {src}`", "sh -c 'ls {src}'", "eval 'ls {src}'"],
)
def test_a_placeholder_where_a_value_would_be_syntax_is_refused(line):
    with pytest.raises(InvalidInput, match="could be read as syntax"):
        Template({"command": line}, in_words=False)


@pytest.mark.parametrize(
    "draft", [{"command": "echo {n} {learning rate}"}, {"id": "{n}{learning rate}"}]
)
def test_a_column_that_no_placeholder_can_name_is_not_left_as_text(draft):
    for in_words in (False, True):
        template = Template({"command": "true", **draft}, in_words=in_words)
        with pytest.raises(InvalidInput, match="'learning rate': call it 'learning_rate'"):
            template.fill({"learning rate": "1", "n": "1"})
        assert template.fill({"rate": "1", "n": "1"})


def test_other_braces_stay_as_they_are():
    line = "awk '{print $1}' {src} ${HOME} a{b,c} [0-9]{4} HEAD@{1} {{.}}"
    filled = Template({"command": line}, in_words=False).fill({"src": "x y", "n": "1"})
    assert filled["command"] == "awk '{print $1}' 'x y' ${HOME} a{b,c} [0-9]{4} HEAD@{1} {.}"


@pytest.mark.parametrize("word", ["{.}.jpg", "out/{/}", "{//}", "{/.}", "{#}", "{%}", "{1}"])
def test_a_placeholder_of_gnu_parallel_is_not_left_as_text(word):
    for in_words in (False, True):
        with pytest.raises(InvalidInput, match=r"a list has \{\} and \{n\} only"):
            Template({"command": f"cp {{}} {word}"}, in_words=in_words).fill({"": "x", "n": "1"})


def test_a_line_of_several_words_is_not_taken_for_a_program(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my program").touch()
    for in_words in (False, True):
        template = Template({"command": "{}"}, in_words=in_words)
        assert template.fill({"": "./my program", "n": "1"})["command"] == "'./my program'"
        assert template.fill({"": "make", "n": "1"})["command"] == "make"
        with pytest.raises(
            InvalidInput, match="'make -j4' would be the name of a program; to enqueue"
        ):
            template.fill({"": "make -j4", "n": "1"})


def test_rows_that_would_all_be_the_same_job_are_refused():
    draft = {"command": "make", "tags": ("a",), "env": {"A": "{b,c}"}}
    with pytest.raises(InvalidInput, match="all rows would be the same job: put "):
        Template(draft, in_words=True).fill({"": "x", "n": "1"})


def test_doubled_braces_are_braces():
    words = ["awk", "{{print}}", "{{}}", "{{{src}}}", "{{{{src}}}}", "{{src}", "{src}}", "a{b,c}"]
    row = {"src": "x y", "n": "1", "": "l"}
    filled = Template({"command": command_line(words)}, in_words=True).fill(row)["command"]
    read_as = ["awk", "{print}", "{}", "{x y}", "{{src}}", "{x y", "x y}", "a{b,c}"]
    assert shlex.split(filled) == read_as
    line = "find {src} -name '{{}}' -exec ls {{}} \\;"
    draft = {"command": line, "env": {"A": "{{n}}{n}"}}
    assert Template(draft, in_words=False).fill(row) == {
        "command": "find 'x y' -name '{}' -exec ls {} \\;",
        "env": {"A": "{n}1"},
    }


def test_options_of_every_kind_are_filled_in(cli, tmp_path):
    table = tmp_path / "runs.csv"
    table.write_text("p,t,gpu,d\n1,5m,a100,90\n2,10,h100,0\n")
    each = ("enqueue", "--each", str(table))
    options = ("--priority={p}", "--timeout", "{t}", "--tag", "{gpu}", "--tag", "x", "--base=1.{p}")
    options += ("--max-retries", "{p}", "--lock", "l-{gpu}", "--delay", "{d}", "--id", "r{p}")
    assert cli.ok(options[0], *each, *options[1:], "--", "true") == (
        "Jobs added to the queue: 2 (r1 to r2), with the tags {gpu} x\n"
    )
    rows = [json.loads(line) for line in cli.ok("list", "--jsonl").splitlines()]
    names = ("priority", "timeout", "tags", "base", "max_retries", "lock")
    assert [[row[name] for name in names] for row in rows] == [
        [1, 300, ["a100", "x"], 1.1, 1, ["l-a100"]],
        [2, 10, ["h100", "x"], 1.2, 2, ["l-h100"]],
    ]
    assert round(parse_time(rows[0]["run_at"]) - parse_time(rows[1]["run_at"])) == 90
    for wrong, told in (
        (("--priority", "{gpu}"), f"{table}:2: priority must be a whole number, not 'a100'"),
        (("--delay", "{gpu}"), f"{table}:2: delay: 'a100' is not a duration"),
        (("--run-at", "{gpu}"), f"{table}:2: 'a100' is not a time"),
        (("--priority", "{nope}"), "no column 'nope'"),
    ):
        refused = cli(*each, *wrong, "--", "true")
        assert refused.code == 2
        assert told in refused.err
    refused = cli("enqueue", "--priority", "{p}", "--", "true")
    assert (refused.code, "--priority must be a whole number, not '{p}'" in refused.err) == (
        2,
        True,
    )


def test_all_rows_or_none_are_handed_in(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs.csv").write_text("rate,seed\n0.1,1\n0.1,2\n")
    told = cli.ok("enqueue", "--each", "runs.csv", "--id", "run-{rate}-{seed}", "--tag", "night",
                  "--env", "SEED={seed}", "--", "train", "--rate", "{rate}")  # fmt: skip
    assert told == ("Jobs added to the queue: 2 (run-0.1-1 to run-0.1-2), with the tag night\n")
    assert cli.ok("list").splitlines()[2:] == [
        "run-0.1-1       pending    train --rate 0.1",
        "run-0.1-2       pending    train --rate 0.1",
    ]
    (tmp_path / "more.csv").write_text("rate,seed\n0.3,1\n0.1,2\n")
    result = cli("enqueue", "--each", "more.csv", "--id", "run-{rate}-{seed}", "--", "true")
    assert (result.code, result.out) == (4, "")
    assert "more.csv:3: " in result.err
    assert cli("-q", "list").out == "run-0.1-1\nrun-0.1-2\n"
    script = "enqueue --each runs.csv --id s{n} -- echo {rate}/x\n"
    assert cli.ok(stdin=script) == "Jobs added to the queue: 2 (s1 to s2)\n"
    assert cli("enqueue", "--each", "runs.csv", "--file", "x", "--", "true").code == 2
    listed = ("-q", "enqueue", "--each", "-", "--id", "l{n}", "--", "echo", "{}")
    assert cli.ok(*listed, stdin="a\n") == "l1\n"


@pytest.mark.parametrize(
    "line",
    [
        "echo \\{src}",
        "echo # {src}",
        "cat <<EOF\n{src}\nEOF",
        "echo $(( {src} ))",
        "echo ${x:-{src}}",
        "eval echo {src}",
        "ssh host rm {src}",
    ],
)
def test_a_line_in_which_quotes_cannot_be_told_is_refused(line):
    with pytest.raises(InvalidInput, match="could be read as syntax"):
        Template({"command": line}, in_words=False)


@pytest.mark.parametrize(
    ("words", "refused"),
    [
        (["ssh", "host", "rm {src}"], True),
        (["python3.11", "-c", "print({src})"], True),
        (["flock", "lock", "-c", "ls {src}"], True),
        (["gzip", "-c", "{src}"], False),
        (["env", "A={src}", "grep", "-e", "{src}", "f"], False),
    ],
)
def test_what_another_program_reads_as_a_line_takes_no_placeholder(words, refused):
    draft = {"command": command_line(words)}
    if refused:
        with pytest.raises(InvalidInput, match="could be read as syntax"):
            Template(draft, in_words=True)
    else:
        filled = Template(draft, in_words=True).fill({"src": "a b"})["command"]
        assert shlex.split(filled) == [word.replace("{src}", "a b") for word in words]


def test_a_folder_is_the_rows_own_or_the_one_that_we_are_in(cli, tmp_path, monkeypatch):
    here = tmp_path / "{b}"
    here.mkdir()
    monkeypatch.chdir(here)
    (here / "list").write_text("/abs\nrel\n")
    cli.ok("enqueue", "--each", "list", "--id", "a{n}", "--cwd", "{}", "--", "true")
    cli.ok("enqueue", "--each", "list", "--id", "b{n}", "--", "true")
    listed = cli.ok("list", "--fields", "cwd", "--tsv").splitlines()[1:]
    assert listed == ["/abs", str(here / "rel"), str(here), str(here)]
