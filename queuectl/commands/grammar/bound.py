"""Input and output of binding: tokens in, values and faults out."""

from __future__ import annotations

from queuectl.commands.grammar.specs import GLOBAL_OPTIONS, command_tree, key_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from queuectl.commands.grammar.specs import CommandSpec, Param

BLANKS = " \t\r\n\f\v"  # between words, and in an object
_LIKE_AN_ID = frozenset(("job", "tag", "state", "field"))  # kinds whose values may look like an id
_NOUNS = {
    "job": "a job id",
    "dead_job": "a job id",
    "live_job": "a job id",
    "finished_job": "a job id",
    "state": "a state",
    "tag": "a tag",
    "field": "names of fields ('help fields' lists them)",
    "match": "a text",
    "past": "a time, like 18:30, or a duration, like 2h",
    "setting": "a setting",
    "setting_value": "a value",
    "int": "a whole number",
    "count": "a number",
    "number": "a number",
    "duration": "a duration, like 90, 5m or 1h30m",
    "time": "a time, like 18:30 or 2026-01-31T08:30:00Z",
    "path": "a path",
    "object": "an object, like {command: echo Hello}",
    "argv": "-- and a command",
    "worker": "a worker id",
    "command": "a command",
    "shell": "the name of a shell",
    "line": "a command",
    "front": "a command",
    "alias": "a word",
}


class Token:
    """One word: `text` is what it means, `raw` = `line[start:end]` how it was written.

    `quoted`: part of it was in quotes. `open`: "" if it is whole, else what it still lacks, in
    order: `"`, `'`, `}` (once for each open brace), or `\\` if a line must follow. `role`: "" until
    the token is bound, then "command", "option" (also `--option=value`), "value", "object", "end"
    (a bare `--`), "comment" or "error".
    """

    __slots__ = ("end", "open", "quoted", "raw", "role", "start", "text")

    def __init__(
        self,
        text: str,
        start: int,
        end: int,
        raw: str,
        *,
        quoted: bool = False,
        open: str = "",
        role: str = "",
    ) -> None:
        self.text = text
        self.start = start
        self.end = end
        self.raw = raw
        self.quoted = quoted
        self.open = open
        self.role = role

    def __repr__(self) -> str:
        return f"Token({self.text!r}, {self.start}, {self.end}, open={self.open!r})"


class Fault:
    """A fault of `text[start:end]`; `hint`: what could be there instead, or ""."""

    def __init__(self, message: str, start: int, end: int, hint: str = "") -> None:
        self.message = message
        self.start = start
        self.end = end
        self.hint = hint


class Bound:
    """A bound line: `spec` (None if no command was recognised) and `values` by Param.key.

    Every parameter of the command has a value: what was given, else its default (False for a flag,
    [] for `many`, "" for "argv", None without a default). An object is a dict of checked fields, or
    "-"; "argv" is the command line for /bin/sh. `help`: -h was given, which wins over everything
    else; `words` are the command words recognised, perhaps only a group's: ("dlq",). `open`: the
    text ends inside a quote or brace or with a backslash, so that more lines may follow. `inner`:
    the command that the rest of the line is, for `watch` and the like. Spans count in `text`.
    """

    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        self.spec: CommandSpec | None = None
        self.words: tuple[str, ...] = ()
        self.values: dict[str, object] = {}
        self.faults: list[Fault] = []
        self.help = False
        self.open = False
        self.inner: Bound | None = None
        self.tokens = reading.tokens
        self.text = reading.text

    @property
    def params(self) -> tuple[Param, ...]:
        """The parameters of the command, if it is known."""
        return (*(self.spec.params if self.spec else ()), *GLOBAL_OPTIONS)

    @property
    def innermost(self) -> Bound:
        """The innermost command, which is being typed at the end of the line."""
        return self if self.inner is None else self.inner.innermost

    @property
    def specs(self) -> Sequence[CommandSpec]:
        """The commands that could be meant."""
        return self.reading.specs


class Reading:
    """The state of reading the tokens of a line: what is known, and what is still to come."""

    def __init__(
        self,
        specs: Sequence[CommandSpec],
        text: str,
        tokens: list[Token],
        is_argv: bool = False,
        whole: bool = True,
    ) -> None:
        self.specs = specs
        self.text = text
        self.tokens = tokens
        self.is_argv = is_argv
        self.whole = whole  # False for the front of a line, to which more will be added
        self.node = command_tree(specs)
        self.operands: list[Param] = []  # operands still to come
        self.argv: list[Token] | None = None  # what follows --, for a command that takes it
        self.ended = False  # a bare -- was met
        self.lost = False  # set after a fault that makes the rest meaningless
        # The first operand that could be a value of the option before it.
        self.either: tuple[int, Param] | None = None
        self.awaited: Param | None = None  # the last option if its value is still missing
        self.given: frozenset[str] = frozenset()  # keys of the given parameters, set at the end
        self.unless_each: list[Fault] = []  # faults of values that rows of --each may fill in
        self.bound = Bound(self)

    def option(self, name: str) -> Param | None:
        """The command's option of this name."""
        for param in self.bound.params:
            if name == param.name or (param.short is not None and name == param.short):
                return param
        return None


def behind_option(reading: Reading, at: int) -> Param | None:
    """The repeatable option whose value ends right before the token at `at`, if any."""
    for back in (1, 2):
        if at < back or reading.tokens[at - back].text[:1] != "-":
            continue
        name, equals, _ = reading.tokens[at - back].text.partition("=")
        param = reading.option(name)
        return param if param is not None and param.many and bool(equals) == (back == 1) else None
    return None


def could_be_either(reading: Reading, operand: Param, at: int) -> bool:
    """Whether an id at `at` could also be a further value of the option before it."""
    before = behind_option(reading, at) if operand.many and not reading.ended else None
    return before is not None and before.kind in _LIKE_AN_ID


def is_named(reading: Reading, operand: Param, ids: int) -> bool:
    """Whether the line names its jobs even without the last of `ids` ids."""
    given = reading.given or reading.bound.values.keys()
    return ids > 1 or not operand.unless or not given.isdisjoint(map(key_of, operand.unless))


def noun(param: Param) -> str:
    """The words for a parameter's value in a fault."""
    if param.choices:
        return f"one of {', '.join(param.choices)}"
    if param.kind == "text":
        return f"a value for {param.name}" if param.name[0] != "-" else "a value"
    return _NOUNS[param.kind]


def short(text: str) -> str:
    """Text on one line of at most 40 characters."""
    text = " ".join(text.split())
    return text if len(text) <= 40 else text[:39] + "…"
