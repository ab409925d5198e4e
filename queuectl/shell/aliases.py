"""The commands of one session: those of the table, the shell's own, and aliases.

Everything that reads a line uses this, so that an alias is completed, coloured, checked and run as
what it stands for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from queuectl.commands.grammar.binding import bind
from queuectl.commands.grammar.bound import Bound, Token
from queuectl.commands.grammar.specs import CommandSpec
from queuectl.errors import InvalidInput, did_you_mean
from queuectl.shell.own_commands import SHELL_COMMANDS

_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
_LONGEST = 40


class Span(NamedTuple):
    """`text[start:end]` of a typed line: an alias, bound as `size` characters in its place."""

    start: int
    end: int
    size: int


class Reading(NamedTuple):
    """A bound line; offsets in `bound` refer to the line with its aliases replaced."""

    bound: Bound
    aliases: tuple[Span, ...]

    def typed(self, start: int, end: int) -> tuple[int, int]:
        """The position of `bound.text[start:end]` in the typed text; an alias is never split."""
        return self._typed(start), self._typed(end, last=True)

    def within_alias(self, start: int) -> bool:
        """Whether the text there comes from an alias instead of being typed."""
        shift = 0
        for span in self.aliases:
            if span.start + shift <= start < span.start + shift + span.size:
                return True
            shift += span.size - (span.end - span.start)
        return False

    def _typed(self, at: int, last: bool = False) -> int:
        shift = 0
        for span in self.aliases:
            begins = span.start + shift
            if at < begins + last:
                break
            if at < begins + span.size + last:
                return span.end if last else span.start
            shift += span.size - (span.end - span.start)
        return at - shift


class Aliases:
    """Words that stand for the front of a line. Any thread may read them."""

    def __init__(self) -> None:
        self.specs: tuple[CommandSpec, ...] = SHELL_COMMANDS
        self._fronts: dict[str, str] = {}

    def __getitem__(self, name: str) -> str:
        """What the word stands for. Raises InvalidInput if it is not an alias."""
        if name not in self._fronts:
            raise InvalidInput(f"'{name}' is not an alias{did_you_mean(name, self._fronts)}")
        return self._fronts[name]

    def items(self) -> list[tuple[str, str]]:
        """All words and what they stand for, by name."""
        return sorted(self._fronts.items())

    def define(self, name: str, front: str) -> None:
        """Define the word as the front of a line, which `bind` found valid.

        Raises InvalidInput for what is not a word or is already a command.
        """
        from queuectl.commands.scripts.statements import command_words

        if name in command_words(SHELL_COMMANDS):
            raise InvalidInput(f"'{name}' is a command, which an alias must not hide")
        if not name[:1].isalnum() or not _LETTERS.issuperset(name) or len(name) > _LONGEST:
            raise InvalidInput(f"an alias is a word of letters, digits, . _ and -, not '{name}'")
        self._change({**self._fronts, name: front})

    def remove(self, name: str) -> None:
        """Forget a word. Raises InvalidInput if it is not an alias."""
        self[name]
        self._change({word: front for word, front in self._fronts.items() if word != name})

    def bind(self, line: str, *, typing: bool = False) -> Reading:
        """Bind a line with its aliases replaced by what they stand for.

        `typing`: a word at the very end is still being typed and hence not an alias yet.
        """
        specs, fronts = self.specs, self._fronts  # another thread may change them meanwhile
        bound, spans, shift = bind(specs, line), [], 0
        # The text of an alias was checked when it was defined and begins with a command. So one
        # round for the line and one for a command inside it are enough.
        while token := _alias(bound, fronts, typing):
            front = fronts[token.text]
            size = token.end - token.start
            spans.append(Span(token.start - shift, token.end - shift, len(front)))
            shift += len(front) - size
            text = bound.text[: token.start] + front + bound.text[token.end :]
            bound = bind(specs, text)
        return Reading(bound, tuple(spans))

    def _change(self, fronts: dict[str, str]) -> None:
        self._fronts = fronts
        self.specs = (*SHELL_COMMANDS, *(_row(name, fronts[name]) for name in fronts))


def _row(name: str, front: str) -> CommandSpec:
    """A row of the table for an alias; its details are the words of its command."""
    bound = bind(SHELL_COMMANDS, front)
    words = bound.spec.words if bound.spec else bound.words
    return CommandSpec((name,), f"Stands for '{front}'.", "", details=" ".join(words))


def _alias(bound: Bound, fronts: Mapping[str, str], typing: bool) -> Token | None:
    """The word of the line that is an alias."""
    inner = bound.innermost
    if inner.spec is None or inner.spec.handler or inner.spec.words[0] not in fronts:
        return None
    token = next(token for token in inner.tokens if token.role == "command")
    return None if token.open or (typing and token.end == len(bound.text)) else token
