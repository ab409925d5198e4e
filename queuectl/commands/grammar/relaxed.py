"""The relaxed form of a job: `{id: job1, command: echo Hello}`.

Its rules: keys are bare or quoted, then comes `:` or `=`. A value is quoted, `{...}` for env, or
bare text up to the closing brace or a comma followed by a word and `:`, so that `{command: echo a,
b, priority: 1}` keeps `echo a, b`. If that word is not a field the object is refused, since the
word may belong to either side; so is a line of bare text that begins with a field and `:`. A bare
value that is not text ends at any comma. Quotes, brackets and apostrophes inside bare text stay and
protect commas; text that starts quoted and goes on (`"a" && b`) is bare. The field decides the
type, not the spelling: `id: 007` and `id: yes` are text. In double quotes the escapes of JSON count
and others keep their backslash; in single quotes only `\\'` is an escape.
"""

from __future__ import annotations

from queuectl.commands.grammar.bound import BLANKS
from queuectl.commands.grammar.tokens import opens_quote, reach
from queuectl.errors import InvalidInput
from queuectl.model.fields import (
    FIELD_NAMES,
    UNSETTABLE,
    check_value,
    from_text,
    named_field,
    unknown_field,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from queuectl.model.fields import Field

    Draft = dict[str, object]

_ENDS_A_KEY = frozenset(BLANKS + ":=,{}\"'")
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_OF_A_WORD = _LETTERS | frozenset("0123456789_-")
_STARTS_A_WORD = frozenset(BLANKS + ",:=")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", '"': '"', "\\": "\\", "/": "/"}
_IN_QUOTES = "if it belongs to the text, put all of that in quotes"
_PRINTED = frozenset("\u2018\u2019\u201a\u201b\u201c\u201d\u201e\u201f\u00ab\u00bb")
_CLOSERS = {"{": "}", "(": ")", "[": "]"}


def read_relaxed(text: str, refusal: ValueError | None = None) -> Draft:
    """The fields of one job by name; InvalidInput with the faulty span of `text`.

    `refusal`: why it is not JSON, reported instead if that helps more.
    """
    try:
        return _Reader(text).read()
    except InvalidInput as exc:
        if refusal is None or not _meant_as_json(text) or "unknown field" in str(exc):
            raise
        raise _complaint(text, refusal) from None


def _meant_as_json(text: str) -> bool:
    """Whether the error of JSON helps most: keys are quoted and nothing is cut off."""
    text = text.lstrip(BLANKS)
    quoted = text[:1] == "{" and text[1:].lstrip(BLANKS)[:1] == '"'
    return quoted and not reach(text, 0)[1]


def _complaint(text: str, exc: ValueError) -> InvalidInput:
    at: int | None = getattr(exc, "pos", None)
    if at is None:
        return InvalidInput("not valid JSON: a number has thousands of digits")
    what = getattr(exc, "msg", "").removesuffix(" at")
    return InvalidInput(
        f"not valid JSON: {what} ({_line_and_column(text, at)})",
        start=at,
        end=min(at + 1, len(text)),
    )


def _line_and_column(text: str, at: int) -> str:
    """The position of the character at index `at`, for a message."""
    before = text[:at]
    return f"line {before.count(chr(10)) + 1}, column {at - before.rfind(chr(10))}"


class _Reader:
    """Reads one object in the relaxed form; `at`: the present position, `end`: its last brace."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = len(text) - len(text.lstrip(BLANKS))
        self._last = ""  # the field before, if it is a list
        self.end = len(text.rstrip(BLANKS)) - 1

    def read(self) -> Draft:
        text, start = self.text, self.at
        if text[start : start + 1] != "{":
            raise InvalidInput("a job is written as an object {...}", start=start, end=len(text))
        if text[self.end] != "}" or self.end == start:
            raise self._not_closed(start)
        self.at += 1
        draft: Draft = {}
        while self._skip():
            quoted = self.text[self.at] == '"'
            name, begun, ended = self._key()
            field = self._known(name, begun, ended)
            if field.name in draft:
                raise InvalidInput(f"field '{field.name}' is given twice", start=begun, end=ended)
            self._separator(name)
            draft[field.name] = self._value(field, strict=quoted)
            self._last = field.name if field.kind in ("tags", "ids") else ""
        return draft

    def _not_closed(self, start: int) -> InvalidInput:
        closes, lacks = reach(self.text, start)
        if not lacks:
            return InvalidInput(
                "the object ends before its text does", start=closes, end=len(self.text)
            )
        missing = "quote" if lacks[0] in "'\"" else "brace"
        return InvalidInput(
            f"the object is not closed: its last {missing} is missing "
            f"({_line_and_column(self.text, self.end + 1)})",
            start=start,
            end=start + 1,
        )

    def _skip(self) -> str:
        """Skip blanks; returns the character found, "" at the closing brace."""
        while self.at < self.end and self.text[self.at] in BLANKS:
            self.at += 1
        return self.text[self.at] if self.at < self.end else ""

    def _key(self) -> tuple[str, int, int]:
        start = self.at
        if self.text[start] in "\"'":
            name, after = self._quoted(start)
        else:
            after = start
            while after < self.end and self.text[after] not in _ENDS_A_KEY:
                after += 1
            name = self.text[start:after]
        if not name:
            raise InvalidInput("a field name is missing here", start=start, end=start + 1)
        self.at = after
        return name, start, after

    def _known(self, name: str, start: int, end: int) -> Field:
        if self._skip() not in (":", "="):
            several = f"; several values: {self._last}: [A, B]" if self._last else ""
            raise InvalidInput(f"':' is missing after '{name}'{several}", start=start, end=end)
        try:
            return named_field(name)
        except InvalidInput as exc:
            exc.start, exc.end = start, end
            raise

    def _separator(self, name: str) -> None:
        if self._skip() not in (":", "="):
            raise InvalidInput(f"':' is missing after '{name}'", start=self.at, end=self.at + 1)
        self.at += 1
        self._skip()

    def _value(self, field: Field, strict: bool) -> object:
        start = self.at
        if field.kind == "env" and self.text[start] == "{":
            value: object = self._mapping()
            return self._checked(field, value, start, bare=False)
        if start < self.end and self.text[start] in "\"'":
            text, after = self._quoted(start)
            if self._ends_here(after, field):
                return self._checked(field, text, start, bare=False)
            # A job must never contain a quote whose partner is lost on another line.
            if (strict and self.text[start] == '"') or "\n" in text:
                raise InvalidInput(
                    f"',' or '}}' is missing after the text ({_line_and_column(self.text, after)})",
                    start=start,
                    end=after,
                )
        commas = _unquoted(self.text, ",", start, self.end)
        stop = next((at for at in commas if self._is_border(at, field)), self.end)
        self._refuse_lost_comma(start, stop)
        if field.kind == "text":
            self._refuse_list(field, start, stop)
            self._refuse_printed_quotes(start, stop)
        self._pass(stop)
        return self._checked(field, self.text[start:stop].strip(BLANKS), start, bare=True)

    def _refuse_lost_comma(self, start: int, stop: int) -> None:
        """Raise InvalidInput if a line of the bare text begins like a field."""
        for at in _unquoted(self.text, "\n", start, stop):
            name, begun, quoted, sign = self._name_after(at + 1)
            if sign == ":" and name.replace("-", "_") in FIELD_NAMES:
                raise InvalidInput(
                    f"',' is missing in front of '{name}'; {_IN_QUOTES}",
                    start=begun,
                    end=begun + len(name) + 2 * quoted,
                )

    def _refuse_printed_quotes(self, start: int, stop: int) -> None:
        """Raise InvalidInput for text in the quotes of a web page or word processor."""
        text = self.text[start:stop].rstrip(BLANKS)
        if len(text) > 1 and text[0] in _PRINTED and text[-1] in _PRINTED:
            raise InvalidInput(
                f"{text[0]} and {text[-1]} are not quotes here, but part of the text: "
                "write \" or ' around it, outside of them if they are meant",
                start=start,
                end=start + len(text),
            )

    def _refuse_list(self, field: Field, start: int, stop: int) -> None:
        """Raise InvalidInput for `[echo, a]` and `{a: b}`; `[` and `{` alone are words of sh."""
        first, second = self.text[start : start + 1], self.text[start + 1 : start + 2]
        end = start + len(self.text[start:stop].rstrip(BLANKS)) - 1
        listed = first == "[" or (first == "{" and ":" in self.text[start:end])
        if listed and second not in BLANKS and pairs(self.text, start, stop).get(start) == end:
            raise InvalidInput(
                f"{field.name} must be text, not a list or object; if it is text, put it in quotes",
                start=start,
                end=end + 1,
            )

    def _checked(self, field: Field, value: object, start: int, bare: bool) -> object:
        if bare and value == "null" and (field.name in UNSETTABLE or field.kind in ("tags", "ids")):
            return None
        try:
            if field.kind == "time" and isinstance(value, str):
                from queuectl.commands.grammar.local_times import read_time_of

                return read_time_of(field, value)
            return from_text(field, str(value)) if bare else check_value(field, value)
        except InvalidInput as exc:
            exc.start, exc.end = start, max(len(self.text[: self.at].rstrip(BLANKS + ",")), start)
            raise

    def _quoted(self, start: int) -> tuple[str, int]:
        """The quoted text that starts at `start`, and the index after its last quote."""
        quote, at = self.text[start], start + 1
        parts: list[str] = []
        while at < self.end:
            char = self.text[at]
            if char == quote:
                return _joined(parts), at + 1
            if char == "\\":
                char, at = self._escape(at, quote)
            parts.append(char)
            at += 1
        raise InvalidInput(
            f"the text that starts here lacks its last {quote} "
            f"({_line_and_column(self.text, start)})",
            start=start,
            end=start + 1,
        )

    def _escape(self, at: int, quote: str) -> tuple[str, int]:
        """The meaning of the escape at `at`, and the index of its last character."""
        follows = self.text[at + 1]
        if quote == "'":
            return ("'", at + 1) if follows == "'" else ("\\", at)
        digits = self.text[at + 2 : at + 6]
        if follows == "u" and len(digits) == 4 and not digits.strip("0123456789abcdefABCDEF"):
            return chr(int(digits, 16)), at + 5
        return (_ESCAPES[follows], at + 1) if follows in _ESCAPES else ("\\", at)

    def _ends_here(self, after: int, field: Field) -> bool:
        """Whether a quoted value is complete at `after`; if so, skip the comma after it."""
        stop = after + len(self.text[after : self.end])
        stop -= len(self.text[after : self.end].lstrip(BLANKS))
        if stop < self.end and not self._is_border(stop, field):
            return False
        self._pass(stop)
        return True

    def _pass(self, stop: int) -> None:
        self.at = min(stop + 1, self.end)

    def _is_border(self, at: int, field: Field) -> bool:
        """Whether the comma at `at` ends the value of `field`."""
        if self.text[at] != ",":
            return False
        if field.kind != "text" or not self.text[at + 1 : self.end].strip(BLANKS):
            return True
        name, start, quoted, sign = self._name_after(at + 1)
        if not name or name.replace("-", "_") in FIELD_NAMES:
            return bool(name)
        is_word = name[0] in _LETTERS and _OF_A_WORD.issuperset(name)
        if quoted or (sign == ":" and is_word) or _nearly_a_field(name):
            error = unknown_field(name)
            raise InvalidInput(
                f"{error}; {_IN_QUOTES}", start=start, end=start + len(name) + 2 * quoted
            )
        return False

    def _name_after(self, at: int) -> tuple[str, int, bool, str]:
        """The key that starts at `at`, as (name, start, quoted, `:` or `=` after it).

        The name is "" if neither follows.
        """
        look = _Reader(self.text)
        look.at, look.end = at, self.end
        if not look._skip():
            return "", at, False, ""
        quoted = look.text[look.at] in "\"'"
        try:
            name, start, _ = look._key()
        except InvalidInput:
            return "", at, False, ""
        sign = look._skip()
        return (name if sign in (":", "=") else ""), start, quoted, sign

    def _mapping(self) -> dict[str, str]:
        """The variables of env: `{A: 1, "B": "two words"}`."""
        closes = pairs(self.text, self.at, self.end).get(self.at)
        if closes is None:
            raise InvalidInput("env is not closed", start=self.at, end=self.at + 1)
        inner = _Reader(self.text)
        inner.at, inner.end = self.at + 1, closes
        found: dict[str, str] = {}
        while inner._skip():
            name, begun, ended = inner._key()
            if name in found:
                raise InvalidInput(f"'{name}' is given twice", start=begun, end=ended)
            inner._separator(name)
            found[name] = inner._variable()
        self.at = closes + 1
        if self._skip() not in (",", ""):
            raise InvalidInput("',' or '}' is missing here", start=self.at, end=self.at + 1)
        self._pass(self.at)
        return found

    def _variable(self) -> str:
        start = self.at
        if start < self.end and self.text[start] in "\"'":
            text, self.at = self._quoted(start)
            if self._skip() in (",", ""):
                self._pass(self.at)
                return text
        for stop in _unquoted(self.text, ",", start, self.end):
            if self._name_after(stop + 1)[0] or not self.text[stop + 1 : self.end].strip(BLANKS):
                break
        else:
            stop = self.end
        self._pass(stop)
        return self.text[start:stop].strip(BLANKS)


def _joined(parts: list[str]) -> str:
    """The characters as text; joins two escapes that make one character."""
    text = "".join(parts)
    if any("\ud800" <= part <= "\udfff" for part in parts):
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    return text


def _nearly_a_field(name: str) -> bool:
    import difflib

    return bool(difflib.get_close_matches(name, FIELD_NAMES, n=1, cutoff=0.75))


def _unquoted(text: str, sign: str, start: int, end: int) -> Iterator[int]:
    """Where a sign occurs outside quotes and brackets."""
    if sign not in text[start:end]:
        return
    partner, at = pairs(text, start, end), start
    while at < end:
        if text[at] == sign:
            yield at
        at = partner.get(at, at) + 1


def pairs(text: str, start: int, end: int) -> dict[int, int]:
    """Index of each quote or bracket -> index of its partner, if it has one."""
    found: dict[int, int] = {}
    opened: dict[str, list[int]] = {"}": [], ")": [], "]": []}
    word = at = start
    while at < end:
        char = text[at]
        if char in "\"'" and opens_quote(text, word, at):
            closing = _closing_quote(text, at, end)
            if closing:
                found[at] = at = closing
        elif char == "\\":
            at += text[at + 1 : at + 2] in ("'", '"')
        elif char in _CLOSERS:
            opened[_CLOSERS[char]].append(at)
            word = at + 1
        elif opened.get(char):
            found[opened[char].pop()] = at
        elif char in _STARTS_A_WORD:
            word = at + 1
        at += 1
    return found


def _closing_quote(text: str, at: int, end: int) -> int:
    """Index of the quote that closes the one at `at`, or 0."""
    quote = text[at]
    at += 1
    while at < end:
        if text[at] == quote:
            return at
        at += 1 + (text[at] == "\\" and (quote == '"' or text[at + 1 : at + 2] == "'"))
    return 0
