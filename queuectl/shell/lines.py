"""The commands in the text on the prompt: one, or several that were pasted together."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

from queuectl.commands.grammar.specs import CommandSpec
from queuectl.shell.aliases import Aliases


class Piece(NamedTuple):
    """One command: its offset in the whole text, the number of its line, its own text."""

    start: int
    line: int
    text: str


def split_commands(text: str, specs: Sequence[CommandSpec]) -> list[Piece]:
    """The commands of a text in order, read like a script; the last one may be unfinished.

    A line that starts with `!` is a separate command.
    """
    if "\n" not in text:
        return [Piece(0, 1, text)] if text.strip() else []
    from queuectl.commands.scripts.statements import command_words, read_statements

    starts = [0]
    for line in text.split("\n"):
        starts.append(starts[-1] + len(line) + 1)
    pieces: list[Piece] = []
    words = command_words(specs)
    numbered = enumerate(text.split("\n"))
    for system, group in groupby(numbered, lambda pair: is_system_line(pair[1])):
        lines = list(group)
        if system:
            pieces += [Piece(starts[at], at + 1, line) for at, line in lines]
            continue
        first = lines[0][0]
        for found in read_statements((line for _, line in lines), "", words):
            at = first + found.line - 1
            pieces.append(Piece(starts[at], at + 1, found.text))
    return pieces


def is_open(text: str, aliases: Aliases) -> bool:
    """Whether the text ends inside a quote or brace, or with a backslash, so that more follows."""
    pieces = split_commands(text, aliases.specs)
    if not pieces or is_system_line(pieces[-1].text):
        return False
    last = pieces[-1]
    at_end = last.start + len(last.text) == len(text)
    return at_end and aliases.bind(last.text).bound.open


def is_system_line(text: str) -> bool:
    """Whether the line is meant for /bin/sh: `!ls`."""
    return text.lstrip()[:1] == "!"
