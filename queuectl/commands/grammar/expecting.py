"""What may stand at the end of a half-typed line: the ground for completion."""

from __future__ import annotations

from queuectl.commands.grammar.bound import Expected
from queuectl.commands.grammar.tokens import Token

TYPE_CHECKING = False
if TYPE_CHECKING:
    from queuectl.commands.grammar.binding import Binder


def expected(binder: Binder) -> list[Expected]:
    """What may stand in place of the word being typed, or after the last one that is whole."""
    tokens = binder.tokens
    last = tokens[-1] if tokens else None
    if last is None or last.end < len(binder.text):
        return _after(binder, "", len(binder.text))
    if last.role == "comment":
        return []
    before = type(binder)(
        binder.specs, binder.options, binder.text, _unbound(tokens[:-1]), binder.is_argv
    )
    before.bind()
    return _after(before, last.text, last.start)


def _unbound(tokens: list[Token]) -> list[Token]:
    return [
        Token(t.text, t.start, t.end, t.raw, quoted=t.quoted, open=t.open, role=_kept(t.role))
        for t in tokens
    ]


def _kept(role: str) -> str:
    return role if role == "comment" else ""


def _after(binder: Binder, prefix: str, start: int) -> list[Expected]:
    if binder.awaited is not None:
        param = binder.awaited
        return [Expected(param.kind, prefix, start, param.choices, param)]
    if binder.lost:
        return []
    found = [*_words(binder, prefix, start), *_operands(binder, prefix, start)]
    if not binder.ended and prefix[:1] in ("", "-"):
        found.extend(_options(binder, prefix, start))
    return found


def _words(binder: Binder, prefix: str, start: int) -> list[Expected]:
    spec = binder.bound.spec
    begun = spec is not None and (binder.ended or len(binder.operands) < _operand_count(binder))
    words = tuple(word for word in binder.node if word)
    return [] if begun or not words else [Expected("word", prefix, start, words)]


def _operand_count(binder: Binder) -> int:
    spec = binder.bound.spec
    return sum(param.name[0] != "-" for param in spec.params) if spec else 0


def _operands(binder: Binder, prefix: str, start: int) -> list[Expected]:
    wanted = [param for param in binder.operands if binder.argv is None or param.kind == "argv"]
    found = [Expected(p.kind, prefix, start, p.choices, p) for p in wanted[:1]]
    if any(param.kind in ("line", "front") for param in wanted[:2]):
        from queuectl.commands.grammar.inner_line import first_words

        # What may be left out may stand before a line.
        lines = [p for p in wanted[:2] if p.kind == "line"] or wanted[:1]
        found = [e for e in found if e.param not in lines]
        found += [Expected(p.kind, prefix, start, first_words(p, binder.specs), p) for p in lines]
    return found


def _options(binder: Binder, prefix: str, start: int) -> list[Expected]:
    """The options not given yet, or the value of one that is written `--option=value`."""
    spec = binder.bound.spec
    params = [*(spec.params if spec else ()), *binder.options]
    name, equals, text = prefix.partition("=")
    if equals:
        return [
            Expected(p.kind, text, start + len(name) + 1, p.choices, p)
            for p in params
            if p.name == name and p.kind != "flag"
        ]
    given = binder.given
    names = tuple(p.name for p in params if p.name[0] == "-" and (p.many or p.key not in given))
    return [Expected("option", prefix, start, names)]
