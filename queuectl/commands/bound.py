"""What binding a line gives: values, faults, and what may come next."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from queuectl.commands.binding import Binder
    from queuectl.commands.specs import CommandSpec, Param


class Fault:
    """Something wrong with `text[start:end]`; `hint` is what could stand there instead, or ""."""

    __slots__ = ("end", "hint", "message", "start")

    def __init__(self, message: str, start: int, end: int, hint: str = "") -> None:
        self.message = message
        self.start = start
        self.end = end
        self.hint = hint


class Expected:
    """What may come at the end of the text: a value of `kind`, of which `prefix` is typed.

    `kind` is a Param kind, "word" (of a command) or "option"; `words` are the possible words or
    options, `param` the parameter whose value it is.
    """

    __slots__ = ("kind", "param", "prefix", "start", "words")

    def __init__(
        self,
        kind: str,
        prefix: str,
        start: int,
        words: tuple[str, ...] = (),
        param: Param | None = None,
    ) -> None:
        self.kind = kind
        self.prefix = prefix
        self.start = start
        self.words = words
        self.param = param


class Bound:
    """A bound line: `spec` (None if no command was recognised) and `values` by Param.key.

    Every parameter of the command has a value: what was given, else its default (False for a flag,
    [] for `many`, "" for "argv", None without a default). An object is a dict of checked fields, or
    "-"; "argv" is the command line for /bin/sh. `help`: -h was given, which wins over everything
    else; `words` are the command words recognised, perhaps only a group's: ("dlq",). `open`: the
    text ends inside a quote or brace or with a backslash, so that more lines may follow. Spans
    count in `text`.
    """

    __slots__ = ("_binder", "faults", "help", "open", "spec", "text", "tokens", "values", "words")

    def __init__(self, binder: Binder) -> None:
        self._binder = binder
        self.spec: CommandSpec | None = None
        self.words: tuple[str, ...] = ()
        self.values: dict[str, object] = {}
        self.faults: list[Fault] = []
        self.help = False
        self.open = False
        self.tokens = binder.tokens
        self.text = binder.text

    @property
    def expected(self) -> list[Expected]:
        """What may stand at the end of the text, in place of the word that is being typed there."""
        from queuectl.commands.expecting import expected

        return expected(self._binder)
