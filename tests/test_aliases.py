"""Aliases: read as what they stand for, everywhere a line is read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuectl.commands.grammar.binding import bind
from queuectl.completion.candidates import complete
from queuectl.errors import InvalidInput
from queuectl.shell.aliases import Aliases
from queuectl.shell.lines import is_open, split_commands
from queuectl.shell.prompt.highlighter import styles_of
from queuectl.shell.prompt.toolbar import toolbar
from queuectl.shell.prompt.validator import find_mistake


def _defined(*lines: str) -> Aliases:
    """Aliases as these lines define them."""
    aliases = Aliases()
    for line in lines:
        bound = aliases.bind(f"alias {line}").bound
        assert bound.faults == []
        aliases.define(bound.values["name"], bound.values["command"])
    return aliases


_KNOWN = _defined(
    "bad list --state failed,dead",
    "st list --state",
    "d dlq",
    "say enqueue --priority 3 --",
    "w watch 5",
    "typo list --limit 3",
    "worse bad --limit 1",
)


class _Nothing:
    """A queue of no jobs."""

    def jobs(self, states, start=""):
        return []


def _offers(line: str) -> list[str]:
    bound = _KNOWN.bind(line, typing=True).bound
    return [found.shown for found in complete(bound, _Nothing())]


@pytest.mark.parametrize(
    ("line", "same"),
    [
        ("bad", "list --state failed,dead"),
        ("bad --limit 3 # note", "list --state failed,dead --limit 3 # note"),
        ("  st pending", "  list --state pending"),
        ("d retry a", "dlq retry a"),
        ("say it's # here", "enqueue --priority 3 -- it's # here"),
        ("watch bad -q", "watch list --state failed,dead -q"),
        ("w bad", "watch 5 list --state failed,dead"),
        ("w d list", "watch 5 dlq list"),
        ("-q bad", "-q list --state failed,dead"),
        ("worse", "list --state failed,dead --limit 1"),
        ("alias x worse -q", "alias x list --state failed,dead --limit 1 -q"),
        ("list bad", "list bad"),
        ("show st", "show st"),
        ("alias bad", "alias bad"),
        ("'bad", "'bad"),
        ("{bad", "{bad"),
    ],
)
def test_a_line_is_bound_as_if_the_words_stood_there(line, same) -> None:
    found, wanted = _KNOWN.bind(line).bound, bind(_KNOWN.specs, same)
    assert found.text == same
    assert found.words == wanted.words
    assert [fault.message for fault in found.faults] == [fault.message for fault in wanted.faults]


def test_an_alias_for_another_stands_for_what_that_stood_for() -> None:
    aliases = _defined("a list", "b a -q", "a b --limit 1", "a a --json")
    assert aliases.items() == [("a", "list -q --limit 1 --json"), ("b", "list -q")]
    aliases.remove("a")
    assert aliases.bind("b").bound.faults == []
    assert find_mistake("a", aliases) is not None


def test_an_alias_of_itself_is_an_unknown_command() -> None:
    faults = Aliases().bind("alias a a").bound.faults
    assert faults[0].message.startswith("unknown command 'a'")


def test_words_that_do_not_look_are_not_watched() -> None:
    found = find_mistake("watch say x", _KNOWN)
    assert found is not None
    assert found.message.startswith("'say' cannot be watched")
    assert "bad" in _offers("watch ")
    assert "say" not in _offers("watch ")


def test_aliases_are_offered_and_what_they_stand_for_is_completed() -> None:
    assert _offers("ba") == ["backup", "bad", "dashboard"]
    assert _offers("bad") == ["bad", "dashboard"]
    assert _offers("unalias bad") == []  # it is typed already
    assert "pending" in _offers("st ")
    assert _offers("d ") == ["list", "retry", "purge"]
    assert "--limit" in _offers("bad --")
    assert _offers("w ") == _offers("watch 5 ")
    assert {name for name, _ in _KNOWN.items()} <= set(_offers("unalias "))
    assert not {"list", "exit"} & set(_offers("unalias "))


def _style(text: str, part: str) -> set[str]:
    start = text.index(part)
    return set(styles_of(text, _KNOWN)[start : start + len(part)])


def test_an_alias_and_the_words_behind_it_are_coloured() -> None:
    assert _style("bad --limit 3", "bad") == {"class:line.command"}
    assert _style("bad --limit 3", "--limit") == {"class:line.option"}
    assert _style("watch bad --limt 3", "bad") == {"class:line.command"}
    assert _style("watch bad --limt 3", "--limt") == {"class:line.fault"}
    assert _style("st pendng ", "pendng") == {"class:line.fault"}
    assert _style("list\nbad --limit x\nst ", "x") == {"class:line.fault"}
    assert _style("ba --limit 3", "ba") == {"class:line.fault"}


def test_mistakes_are_found_where_they_were_typed() -> None:
    found = find_mistake("list\n st pendng", _KNOWN)
    assert found is not None
    assert (found.start, found.end, found.hint) == (9, 15, "pending")
    found = find_mistake("w dlq lst", _KNOWN)
    assert found is not None
    assert (found.start, found.end, found.hint) == (6, 9, "list")
    found = find_mistake("st", _KNOWN)
    assert found is not None
    assert (found.message, found.start, found.end, found.hint) == (
        "--state needs a state",
        0,
        2,
        "",
    )


def test_an_open_line_is_that_of_what_it_stands_for() -> None:
    assert is_open("say it's", _KNOWN)
    assert not is_open("say {", _KNOWN)
    assert is_open("list {", _KNOWN)


def test_an_alias_is_a_sign_that_a_new_command_begins() -> None:
    pieces = split_commands("enqueue {id: a,\nbad\nlist", _KNOWN.specs)
    assert [piece.text for piece in pieces] == ["enqueue {id: a,", "bad", "list"]


@pytest.mark.parametrize("name", ["list", "worker", "quit", "alias", "a b", "", "!x", "a=b", "é"])
def test_some_names_are_refused(name) -> None:
    with pytest.raises(InvalidInput):
        Aliases().define(name, "list")


_WORDS = [
    "bad",
    "st",
    "say",
    "w",
    "watch",
    "d",
    "list",
    "--state",
    "dead",
    "{a: b}",
    "'",
    "#",
    "--",
]


@given(st.lists(st.sampled_from([*_WORDS, "alias x", "5", "\n", "!ls", "-q"]), max_size=6))
def test_no_line_makes_it_fail(words) -> None:
    line = " ".join(words)
    assert len(styles_of(line, _KNOWN)) == len(line)
    _offers(line)
    toolbar(None, line, 80, 24, _KNOWN)
    is_open(line, _KNOWN)
    found = find_mistake(line, _KNOWN)
    if found is not None:
        assert 0 <= found.start <= found.end <= len(line)
