"""Cutting lines into tokens, and quoting arguments back for /bin/sh."""

from __future__ import annotations

import shlex
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuectl.commands.grammar.tokens import command_line, quote, reach, tokenize

TEXTS = st.text(st.sampled_from("abc0 \t\n'\"\\{}#-=,:;|$*é世"), max_size=40)

CASES = [
    ("list --json", ["list", "--json"]),
    ("show 'a b'", ["show", "a b"]),
    ('show "a b"', ["show", "a b"]),
    ("show ''", ["show", ""]),
    ('--command="a b"', ["--command=a b"]),
    ("--command='a b'", ["--command=a b"]),
    ("say it's fine", ["say", "it's", "fine"]),
    ("-F',' x", ["-F,", "x"]),
    (r"cd C:\temp\new", ["cd", r"C:\temp\new"]),
    (r"cd \\server\share", ["cd", r"\\server\share"]),
    (r"cd two\ words", ["cd", "two words"]),
    (r"say \"a b\"", ["say", '"a', 'b"']),
    (r'say "C:\temp"', ["say", r"C:\temp"]),
    (r'say "a \"b\" \\ \$HOME"', ["say", r'a "b" \ $HOME']),
    ("say 'a\\b'", ["say", "a\\b"]),
    ("say 'it'\"'\"'s'", ["say", "it's"]),
    (
        "enqueue {id: a, command: \"echo '}'\"} x",
        ["enqueue", "{id: a, command: \"echo '}'\"}", "x"],
    ),
    ("enqueue {a: {b: c}} x", ["enqueue", "{a: {b: c}}", "x"]),
    ("enqueue {command: echo it's} x", ["enqueue", "{command: echo it's}", "x"]),
    ("{command: awk -F',' '{print $1}'} x", ["{command: awk -F',' '{print $1}'}", "x"]),
    ("list # a comment", ["list", "# a comment"]),
    ("list a#b", ["list", "a#b"]),
    ("list \\\n --json", ["list", "--json"]),
    ("li\\\nst", ["list"]),
    ("a -- {b c}", ["a", "--", "{b", "c}"]),
    ("a -- it's x'", ["a", "--", "its x"]),
    (r"a -- C:\temp", ["a", "--", "C:temp"]),
    ('a "--" {b c}', ["a", "--", "{b c}"]),
    ("a -- b;#it's", ["a", "--", "b;", "#it's"]),
    ("a -- $# ${#x}", ["a", "--", "$#", "${#x}"]),
]


@pytest.mark.parametrize(("line", "texts"), CASES)
def test_a_line_is_cut_into_words(line: str, texts: list[str]) -> None:
    tokens = tokenize(line)
    assert [token.text for token in tokens] == texts
    assert not any(token.open for token in tokens)


@pytest.mark.parametrize(
    ("line", "lacks"),
    [
        ("show 'a b", "'"),
        ('show "a b', '"'),
        ('show "a b\\"', '"'),
        ("enqueue {id: a", "}"),
        ("enqueue {id: a, env: {b: c", "}}"),
        ('enqueue {id: a, command: "x}', '"}'),
        ("enqueue {id: a, command: 'x}", "'}"),
        ("list \\", "\\"),
        ("a -- it's", "'"),
        ("list '# no comment", "'"),
    ],
)
def test_the_missing_end_of_a_line_is_told(line: str, lacks: str) -> None:
    assert tokenize(line)[-1].open == lacks


def test_a_comment_is_a_token_with_a_role() -> None:
    assert [token.role for token in tokenize("list # x\nshow")] == ["", "comment", ""]


@given(TEXTS)
def test_any_text_is_cut_and_spans_cover_it(text: str) -> None:
    at = 0
    for token in tokenize(text):
        gap = text[at : token.start].replace("\\\n", "")
        assert not gap.strip(" \t\n\r\f\v")
        assert token.start < token.end
        assert token.raw == text[token.start : token.end]
        at = token.end
    assert not text[at:].replace("\\\n", "").strip(" \t\n\r\f\v")


@given(TEXTS, st.integers(0, 40))
def test_the_reach_of_an_object_can_be_found_line_by_line(text: str, cut: int) -> None:
    text = "{" + text
    head, newline, tail = text[: cut + 1], "\n", text[cut + 1 :]
    whole = head + newline + tail
    end, lacks = reach(head, 0)
    if lacks and not head.endswith("\\"):
        end, lacks = reach(newline + tail, 0, lacks)
        end += len(head)
    if not head.endswith("\\"):
        assert (end, lacks) == reach(whole, 0)


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0")), min_size=1))
def test_arguments_are_quoted_back_as_the_standard_library_reads_them(words: list[str]) -> None:
    assert shlex.split(command_line(words)) == words


@given(st.lists(TEXTS, min_size=1, max_size=5))
def test_a_line_of_quoted_words_is_cut_into_them(words: list[str]) -> None:
    tokens = tokenize("enqueue -- " + " ".join(map(quote, words)))
    assert [token.text for token in tokens[2:]] == words


@pytest.mark.parametrize(
    "words",
    [
        ["printf", "%s\n", "a  b", "it's", '"', "", "$HOME", "*", "`x`", "a\nb", "\\", "é世"],
        ["printf", "%s\n", "~", "#x", "-n", "a;b", "x|y", "!", "{a,b}", "[a]"],
    ],
)
def test_sh_runs_exactly_the_arguments(words: list[str]) -> None:
    shown = subprocess.run(
        ["/bin/sh", "-c", command_line(words)], capture_output=True, text=True, check=True
    )
    assert shown.stdout == "".join(f"{word}\n" for word in words[2:])


@pytest.mark.parametrize("name", ["A=1", "if", "!", "while", "{"])
def test_a_program_named_like_shell_grammar_is_a_program(name: str) -> None:
    run = subprocess.run(["/bin/sh", "-c", command_line([name])], capture_output=True, check=False)
    assert run.returncode == 127
