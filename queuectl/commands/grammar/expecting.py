"""What may come at the end of a half-typed line: the basis of completion."""

from __future__ import annotations

from queuectl.commands.grammar.binding import Binder
from queuectl.commands.grammar.bound import Token, could_be_either, is_named

TYPE_CHECKING = False
if TYPE_CHECKING:
    from queuectl.commands.grammar.bound import Bound, Reading
    from queuectl.commands.grammar.specs import Param


class Expected:
    """What may come at the end of the text: a value of `kind` that begins with `prefix`.

    `kind` is a Param kind, "word" (of a command) or "option"; `words` are the possible words or
    options, `param` the parameter whose value it is.
    """

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


class UncheckedBinder(Binder):
    """A binder that finds what may come next but not the faults, for which a Tab has no time."""

    checks = False


def expected(bound: Bound) -> list[Expected]:
    """What may come at the end of the text, in place of the word being typed there."""
    reading = bound.innermost.reading
    tokens = reading.tokens
    last = tokens[-1] if tokens else None
    if last is None or last.end < len(reading.text):
        return _after(reading, "", len(reading.text))
    if last.role == "comment":
        return []
    # The fault was reported already.
    unbound = [
        Token(t.text, t.start, t.end, t.raw, quoted=t.quoted, open=t.open)
        if t.role != "comment"
        else t
        for t in tokens[:-1]
    ]
    before = UncheckedBinder(reading.specs, reading.text, unbound, reading.is_argv)
    before.bind()
    return _after(before, last.text, last.start)


def _after(reading: Reading, prefix: str, start: int) -> list[Expected]:
    if reading.awaited is not None:
        param = reading.awaited
        return [Expected(param.kind, prefix, start, param.choices, param)]
    if reading.lost:
        return []
    found = [*_words(reading, prefix, start), *_operands(reading, prefix, start)]
    if not reading.ended and prefix[:1] in ("", "-"):
        found.extend(_options(reading, prefix, start))
    return found


def _words(reading: Reading, prefix: str, start: int) -> list[Expected]:
    spec = reading.bound.spec
    operands = sum(param.name[0] != "-" for param in spec.params) if spec else 0
    begun = spec is not None and (reading.ended or len(reading.operands) < operands)
    words = tuple(word for word in reading.node if word)
    return [] if begun or not words else [Expected("word", prefix, start, words)]


def _operands(reading: Reading, prefix: str, start: int) -> list[Expected]:
    wanted = [param for param in reading.operands if reading.argv is None or param.kind == "argv"]
    if wanted and could_be_either(reading, wanted[0], len(reading.tokens)):
        ids = reading.bound.values.get(wanted[0].key)
        if is_named(reading, wanted[0], 1 + len(ids if isinstance(ids, list) else ())):
            return []  # as an id it would be refused
    found = [Expected(p.kind, prefix, start, p.choices, p) for p in wanted[:1]]
    if any(param.kind in ("line", "front") for param in wanted[:2]):
        from queuectl.commands.grammar.inner_line import first_words

        # An optional operand may come before a line.
        lines = [p for p in wanted[:2] if p.kind == "line"] or wanted[:1]
        found = [e for e in found if e.param not in lines]
        found += [Expected(p.kind, prefix, start, first_words(p, reading.specs), p) for p in lines]
    return found


def _options(reading: Reading, prefix: str, start: int) -> list[Expected]:
    """The options not given yet, or the value in `--option=value`."""
    params = reading.bound.params
    name, equals, text = prefix.partition("=")
    if equals:
        return [
            Expected(p.kind, text, start + len(name) + 1, p.choices, p)
            for p in params
            if p.name == name and p.kind != "flag"
        ]
    given = reading.given
    names = tuple(p.name for p in params if p.name[0] == "-" and (p.many or p.key not in given))
    return [Expected("option", prefix, start, names)]
