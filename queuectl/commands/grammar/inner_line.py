"""The rest of a line as a separate command: what `watch` repeats, what an alias stands for.

Loaded only for such a line.
"""

from __future__ import annotations

from collections.abc import Sequence

from queuectl.commands.grammar.bound import Bound, Fault, Reading, Token
from queuectl.commands.grammar.specs import CommandSpec, Param, command_tree

# Commands that change nothing and end by themselves, except with these options.
LOOKING = (
    *("list", "show", "explain", "logs", "status", "worker list", "dlq list", "config get"),
    *("doctor", "ping"),
)
_BUT_NOT = ("follow", "repair")


def begins_line(operands: Sequence[Param], token: Token) -> bool:
    """Whether the rest of the line begins here, not a value that may come before it."""
    if len(operands) == 1:
        return True
    return operands[-1].kind == "line" and token.text[:1] not in "0123456789.-+"


def commands_for(param: Param, specs: Sequence[CommandSpec]) -> Sequence[CommandSpec]:
    """The commands that such a parameter may hold, with aliases among them."""
    if param.kind == "front":
        return specs
    named = [(spec, " ".join(spec.words) if spec.handler else spec.details) for spec in specs]
    looking = [f"{name} " for name in LOOKING]
    return [spec for spec, words in named if any(n.startswith(f"{words} ") for n in looking)]


def first_words(param: Param, specs: Sequence[CommandSpec]) -> tuple[str, ...]:
    """The first words of these commands."""
    return tuple(command_tree(commands_for(param, specs)))


def faults_of(param: Param, found: Bound, specs: Sequence[CommandSpec]) -> list[Fault]:
    """The faults of what such a parameter holds; a "line" must not change anything."""
    if param.kind == "front":
        return found.faults
    tokens = [token for token in found.tokens if token.role == "error"][:1]
    words = (*found.words, *(token.text for token in tokens))
    if found.spec is None and tokens and _is_known(specs, words):
        others = f"; these can: {', '.join(LOOKING)}"
        return [_only_looking(words, tokens[0], others)]
    for token in found.tokens if found.spec else ():
        name = token.text.partition("=")[0]
        for option in found.spec.params if found.spec and token.role == "option" else ():
            if option.key in _BUT_NOT and name in (option.name, option.short):
                words = (*found.words, option.name)
                return [_only_looking(words, token, f"; without {option.name} it can")]
    return found.faults


def _only_looking(words: Sequence[str], token: Token, others: str) -> Fault:
    return Fault(f"'{' '.join(words)}' cannot be watched{others}", token.start, token.end)


def _is_known(specs: Sequence[CommandSpec], words: Sequence[str]) -> bool:
    node = command_tree(specs)
    for word in words:
        below = node.get(word)
        if not isinstance(below, dict):
            return False
        node = below
    return True


def text_from(reading: Reading, at: int) -> str:
    """The text of the tokens from `at` on, without comments at its ends."""
    said = [token for token in reading.tokens[at:] if token.role != "comment"]
    return reading.text[said[0].start : said[-1].end]
