"""What a row of the table of commands is made of, and finding a row by its words."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, TypeAlias

    Tree: TypeAlias = "dict[str, Tree | CommandSpec]"


class Param:
    """An operand (`name` is a word, like "id") or an option (`name` starts with "--").

    `kind` says what its value is and how it is completed: "job", "dead_job", "live_job",
    "finished_job", "state", "tag", "field", "match" (text, not empty), "past" (a time, or how long
    ago), "setting", "setting_value", "int", "count" (a whole number, 0 or more), "number",
    "duration", "time", "path", "text", "flag" (no value), "object", "argv" (all that follows `--`,
    as a command line), "worker", "command", "shell", "alias" (a word of the shell's own), and two
    for the rest of the line, always the last operand: "line" (a command that changes nothing; an
    optional operand may come before it) and "front" (a command to which more may be added). `low`
    and `high` bound int, count, number and duration. `many` collects a list. `unless` names options
    that each make a required operand unnecessary. An empty value `clears` what the option sets.
    """

    def __init__(
        self,
        name: str,
        kind: str,
        help: str,
        *,
        required: bool = False,
        many: bool = False,
        default: object = None,
        short: str | None = None,
        choices: tuple[str, ...] = (),
        low: float | None = None,
        high: float | None = None,
        unless: tuple[str, ...] = (),
        clears: bool = False,
    ) -> None:
        self.name = name
        self.kind = kind
        self.help = help
        self.required = required
        self.many = many
        self.default = default
        self.short = short  # "-n"
        self.choices = choices
        self.low = low
        self.high = high
        self.unless = unless
        self.clears = clears
        self.key = key_of(name)  # the key in the handler's values


def key_of(name: str) -> str:
    """The key of an option in the values."""
    return name.lstrip("-").replace("-", "_")


class CommandSpec:
    """A row of the table. `words` are the command's words, ("dlq", "retry").

    `aliases`: other spellings, each as words; for two words both joined by a dash. `params` may be
    "module:name", where they are defined. `handler`: "module:function", loaded when the command
    runs; empty for an alias, whose command `details` names. `examples`: the words alone if none are
    given. `access`: "read", "write" or "none".
    """

    def __init__(
        self,
        words: tuple[str, ...],
        summary: str,
        handler: str,
        params: tuple[Param, ...] | str = (),
        *,
        aliases: tuple[tuple[str, ...], ...] = (),
        examples: tuple[str, ...] = (),
        details: str = "",
        access: str = "read",
    ) -> None:
        self.words = words
        self.aliases = aliases or ((("-".join(words),),) if len(words) > 1 else ())
        self.summary = summary
        self._params = params
        self.handler = handler
        self.examples = examples or (" ".join(words),)
        self.details = details
        self.access = access

    @property
    def params(self) -> tuple[Param, ...]:
        if isinstance(self._params, str):
            params: tuple[Param, ...] = load(self._params)
            self._params = params
        return self._params


def load(named: str) -> Any:
    """The object "module:name"; imports its module."""
    module, _, name = named.partition(":")
    __import__(module)
    return getattr(sys.modules[module], name)


# Every command has these, in any position.
GLOBAL_OPTIONS: tuple[Param, ...] = (
    Param("--data", "path", "the queue's folder, or its URL"),
    Param("--help", "flag", "show how the command is used", short="-h"),
    Param("--quiet", "flag", "print results only", short="-q"),
    Param("--color", "text", "when to use colours", choices=("auto", "always", "never")),
    Param("--no-color", "flag", "no colours"),
    Param("--no-pager", "flag", "no pager for a long result"),
)
# Options of several commands.
JSON = Param("--json", "flag", "print JSON; docs/json.md describes it")
YES = Param("--yes", "flag", "do not ask", short="-y")


_latest: list[tuple[object, Tree]] = [(None, {})]


def command_tree(specs: Sequence[CommandSpec]) -> Tree:
    """Words as nested dicts; under "" lies the command that its path spells."""
    kept = _latest[0]  # looked at once: another thread may put a new one there meanwhile
    if kept[0] is specs:
        return kept[1]
    tree: Tree = {}
    for spec in specs:
        for words in (spec.words, *spec.aliases):
            node = tree
            for word in words:
                below = node.setdefault(word, {})
                assert isinstance(below, dict)
                node = below
            node[""] = spec
    _latest[0] = (specs, tree)
    return tree


def find_command(specs: Sequence[CommandSpec], words: Sequence[str]) -> CommandSpec | None:
    """The command of exactly these words, in its usual or another spelling."""
    node = command_tree(specs)
    for word in words:
        below = node.get(word) if word else None
        if not isinstance(below, dict):
            return None
        node = below
    found = node.get("")
    return found if isinstance(found, CommandSpec) else None
