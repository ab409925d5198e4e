"""Colours for the line while it is typed, from the same binding that runs it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from prompt_toolkit.document import Document
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.lexers import Lexer

from queuectl.commands.grammar.bound import Bound, Token
from queuectl.commands.grammar.expecting import expected
from queuectl.model.fields import STATES
from queuectl.shell.aliases import Aliases, Reading
from queuectl.shell.lines import is_system_line, split_commands

_ROLES = {
    "command": "class:line.command",
    "option": "class:line.option",
    "end": "class:line.option",
    "object": "class:line.object",
    "comment": "class:line.comment",
}
_KEY = re.compile(r"(?<=[{,])\s*([\"']?[A-Za-z_]+[\"']?)(?=\s*[:=])")
_FREE = frozenset({"job", "dead_job", "live_job", "finished_job", "path", "text", "worker"})


def styles_of(text: str, aliases: Aliases) -> list[str]:
    """The style of each character of a text of one or more commands."""
    styles = [""] * len(text)
    for piece in split_commands(text, aliases.specs):
        if is_system_line(piece.text):
            styles[piece.start : piece.start + len(piece.text)] = ["class:line.system"] * len(
                piece.text
            )
            continue
        reading = aliases.bind(piece.text)
        for start, end, style in _spans(reading, piece.start + len(piece.text) == len(text)):
            start, end = reading.typed(start, end)
            styles[piece.start + start : piece.start + end] = [style] * (end - start)
    return styles


def _spans(reading: Reading, at_end: bool) -> Iterator[tuple[int, int, str]]:
    bound = reading.bound
    for token in bound.tokens:
        style = _ROLES.get(token.role, "class:line.text" if token.quoted else "")
        yield token.start, token.end, style
        if token.role == "object":
            for key in _KEY.finditer(token.raw):
                yield token.start + key.start(1), token.start + key.end(1), "class:line.key"
        if reading.within_alias(token.start):
            yield token.start, token.start + 1, "class:line.command"  # all that was typed for it
    last = bound.tokens[-1] if bound.tokens else None
    for fault in bound.faults:
        if not (at_end and last is not None and _may_be_unfinished(bound, last, fault.end)):
            yield fault.start, min(fault.end, len(bound.text)), "class:line.fault"


def _may_be_unfinished(bound: Bound, last: Token, end: int) -> bool:
    """Whether a fault at the end of the line may vanish with more typing."""
    if bound.open or end < last.end:
        return bound.open
    if last.role in ("option", "command"):
        return True  # its value or the rest of the command is still missing
    if last.end < len(bound.text):
        return False

    for item in expected(bound):
        words = STATES if item.kind == "state" else item.words
        typed = item.prefix.rpartition(",")[2] if item.kind == "state" else item.prefix
        if item.kind in _FREE or any(word.startswith(typed) for word in words):
            return True
    return False


class LineLexer(Lexer):
    """Colours for prompt_toolkit; keeps the last result until the text changes."""

    def __init__(self, aliases: Aliases) -> None:
        self._aliases = aliases
        self._text: str | None = None
        self._lines: list[StyleAndTextTuples] = []

    def lex_document(self, document: Document) -> Callable[[int], StyleAndTextTuples]:
        """The coloured pieces of each line."""
        if document.text != self._text:
            self._text, self._lines = document.text, _coloured(document.text, self._aliases)
        lines = self._lines
        return lambda number: lines[number] if number < len(lines) else []


def _coloured(text: str, aliases: Aliases) -> list[StyleAndTextTuples]:
    lines: list[StyleAndTextTuples] = [[]]
    for char, style in zip(text, styles_of(text, aliases), strict=True):
        if char == "\n":
            lines.append([])
        elif lines[-1] and lines[-1][-1][0] == style:
            lines[-1][-1] = (style, lines[-1][-1][1] + char)
        else:
            lines[-1].append((style, char))
    return lines
