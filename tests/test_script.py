"""Scripts: lines into statements, how far an open one reaches, and faults with a caret."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuectl.commands.grammar.bound import Fault
from queuectl.commands.grammar.specs import CommandSpec
from queuectl.commands.grammar.tokens import tokenize
from queuectl.commands.scripts.statements import (
    Statement,
    command_words,
    format_fault,
    read_statements,
)

WORDS = frozenset({"enqueue", "list", "show", "wait", "status"})


def statements(script: str) -> list[tuple[int, str]]:
    read = read_statements(script.splitlines(keepends=True), "s", WORDS)
    return [(statement.line, statement.text) for statement in read]


@pytest.mark.parametrize(
    ("script", "found"),
    [
        ("", []),
        ("\n  \n\t\n", []),
        ("list\n", [(1, "list")]),
        ("list", [(1, "list")]),
        ("\ufefflist\r\nstatus\r\n", [(1, "list"), (2, "status")]),
        ("# one\nlist # two\n  # three\n", [(2, "list # two")]),
        ("show a\\\n b\nlist", [(1, "show a\\\n b"), (3, "list")]),
        ("show \\\nlist\nlist", [(1, "show \\\nlist"), (3, "list")]),
        ("list # no \\\nlist", [(1, "list # no \\"), (2, "list")]),
        (
            "enqueue {\n id: a,\n command: x\n}\nlist",
            [(1, "enqueue {\n id: a,\n command: x\n}"), (5, "list")],
        ),
        ("enqueue {\n\n}\nlist", [(1, "enqueue {\n\n}"), (4, "list")]),
        ("show 'a\nb'\nlist", [(1, "show 'a\nb'"), (3, "list")]),
        ("show \"a\nb\" 'c\nd'\nlist", [(1, "show \"a\nb\" 'c\nd'"), (4, "list")]),
        ("enqueue {command: it's}\nlist", [(1, "enqueue {command: it's}"), (2, "list")]),
        ("enqueue -- cat 'a\n\nb'", [(1, "enqueue -- cat 'a\n\nb'")]),
    ],
)
def test_lines_become_statements(script: str, found: list[tuple[int, str]]) -> None:
    assert statements(script) == found


SHELL_SCRIPT = 'enqueue {id: a, command: "\nsleep 1 &\nwait\nlist the rest\n"}'
WHOLE_SINGLE = "enqueue '{id: a, command: \"\nwait\n\"}'"
HERE_DOCUMENT = "enqueue -- sh -c 'cat <<E\nlist\nstatus\nE\n'"


@pytest.mark.parametrize("text", [SHELL_SCRIPT, WHOLE_SINGLE, HERE_DOCUMENT])
def test_a_quote_may_hold_lines_that_look_like_commands(text: str) -> None:
    assert statements(text + "\nlist\n") == [(1, text), (text.count("\n") + 2, "list")]


@pytest.mark.parametrize(
    "bad",
    [
        "enqueue {id: a, command: echo hi",
        "enqueue {id: a,\n  command: echo hi",
        'enqueue {id: a, command: "echo hi}',
        "enqueue {id: a, command: 'echo hi}",
        'show "a',
        "show 'a",
        "enqueue '{id: a, command: x}",
        'enqueue {"id":"a","command":"x',
    ],
)
@pytest.mark.parametrize(
    "rest",
    [
        ["list", "show b"],
        ['enqueue {id: b, command: "echo b"}', "enqueue {id: c, command: 'echo c'}", "list"],
        ['enqueue {"id":"b","command":"x"}', 'show "b"', "show 'c d'"],
        ["list # it's", "show 'b'"],
    ],
)
def test_a_bad_statement_does_not_swallow_the_next(bad: str, rest: list[str]) -> None:
    found = statements("\n".join(["status", bad, *rest]))
    first = 3 + bad.count("\n")
    assert found == [(1, "status"), (2, bad), *((first + at, text) for at, text in enumerate(rest))]


def test_two_bad_quotes_do_not_make_one_good_one() -> None:
    lines = [
        'enqueue {id: a, command: "echo hi}',
        'enqueue {id: b, command: "echo b"}',
        'enqueue {id: c, command: echo c"}',
        "list",
    ]
    assert [text for _, text in statements("\n".join(lines))] == lines


def test_an_indented_script_has_its_signs_too() -> None:
    found = statements("  enqueue {id: a\n  list\n    list\n")
    assert found == [(1, "  enqueue {id: a"), (2, "  list"), (3, "    list")]
    assert statements("enqueue {id: a,\n  list\n}\n") == [(1, "enqueue {id: a,\n  list\n}")]


def test_without_a_sign_an_open_statement_reaches_to_the_end() -> None:
    assert statements("show 'a\nb\n\nc") == [(1, "show 'a\nb\n\nc")]


def test_statements_come_as_soon_as_they_are_whole() -> None:
    taken: list[str] = []

    def lines() -> Iterator[str]:
        for line in ("list\n", "enqueue {\n", "}\n", "show a\n"):
            taken.append(line)
            yield line

    read = read_statements(lines(), "s", WORDS)
    assert next(read).text == "list"
    assert len(taken) == 1
    assert next(read).text == "enqueue {\n}"
    assert len(taken) == 3


@pytest.mark.parametrize(
    "script",
    [
        'enqueue {id: a, command: "x\n' + 'show "a b"\n' * 3000,
        "enqueue {id: a, command: 'x\n" + "show b\n" * 3000,
        'enqueue {id: a, command: "x}\n' * 2000,
        "enqueue {\n" + " env: {a: b},\n" * 5000,
        "show 'a\n" + "b\n" * 20000,
        "show a \\\n" * 20000,
    ],
)
def test_bad_scripts_take_no_quadratic_time(script: str) -> None:
    begun = time.perf_counter()
    statements(script)
    assert time.perf_counter() - begun < 10


PIECES = st.sampled_from(
    [
        "list",
        "enqueue ",
        "{",
        "}",
        "'",
        '"',
        "\\",
        "\n",
        "\n",
        "# ",
        " ",
        "id: a",
        ", ",
        "it's",
        "show ",
    ]
)


@given(st.lists(PIECES, max_size=30).map("".join))
def test_every_line_of_any_script_is_in_one_statement_or_none(script: str) -> None:
    lines = script.split("\n")
    at = 0
    for line, text in statements(script):
        assert line > at
        assert all(
            not skipped.strip() or skipped.strip()[0] in "#\\" for skipped in lines[at : line - 1]
        )
        at = line - 1 + text.count("\n") + 1
        assert text == "\n".join(lines[line - 1 : at])


@given(st.lists(PIECES, max_size=30).map("".join))
def test_only_the_last_statement_is_open_where_nothing_looks_like_a_command(script: str) -> None:
    read = list(read_statements(script.split("\n"), "s"))
    assert not any(tokenize(statement.text)[-1].open for statement in read[:-1])


@pytest.mark.parametrize(
    ("text", "start", "end", "shown"),
    [
        ("lst --all", 0, 3, "s:7: no\nlst --all\n^^^"),
        ("list x", 5, 6, "s:7: no\nlist x\n     ^"),
        ("list", 4, 4, "s:7: no\nlist\n    ^"),
        ("a\nlist x\nb", 7, 8, "s:8: no\nlist x\n     ^"),
        ("enqueue {\n}", 8, 11, "s:7: no\nenqueue {\n        ^"),
        ("show 世界 x", 8, 9, "s:7: no\nshow 世界 x\n          ^"),
        ("show 世界", 5, 7, "s:7: no\nshow 世界\n     ^^^^"),
        ("show e\u0301 x", 8, 9, "s:7: no\nshow e\u0301 x\n       ^"),
        ("\tshow\tx", 6, 7, "s:7: no\n show x\n      ^"),
        ("show \x1b[31m", 5, 6, "s:7: no\nshow  [31m\n     ^"),
        ("", 0, 0, "s:7: no\n\n^"),
        ("list", 99, 100, "s:7: no\nlist\n    ^"),
    ],
)
def test_a_fault_is_shown_with_its_place(text: str, start: int, end: int, shown: str) -> None:
    assert format_fault("s", Statement(text, 7, "s"), Fault("no", start, end)) == shown


def test_of_a_long_line_the_part_at_fault_is_shown() -> None:
    text = "show " + "x" * 500 + " bad " + "y" * 500
    at = text.index("bad")
    _, shown, under = format_fault("s", Statement(text, 1, "s"), Fault("no", at, at + 3)).split(
        "\n"
    )
    assert len(shown) <= 102
    assert shown[under.index("^") : under.rindex("^") + 1] == "bad"
    assert shown.startswith("…")
    assert shown.endswith("…")


@given(st.text(max_size=200), st.integers(0, 210), st.integers(0, 210))
def test_any_fault_can_be_shown(text: str, start: int, end: int) -> None:
    lines = format_fault("s", Statement(text, 1, "s"), Fault("no", start, end)).split("\n")
    assert len(lines) == 3
    assert lines[2].strip(" ").strip("^") == ""


def test_command_words_are_the_first_words_in_all_spellings() -> None:
    spec = CommandSpec(("worker", "start"), "Start.", "m:f", aliases=(("worker-start",),))
    assert command_words([spec]) == {"queuectl", "worker", "worker-start"}
