"""Reading jobs as people write them: strict JSON first, then the relaxed form (relaxed.py).

Also puts an object together again that a shell has cut into arguments.
"""

from __future__ import annotations

from queuectl.commands.grammar.bound import BLANKS
from queuectl.errors import COMMANDS_IN, InvalidInput
from queuectl.model.fields import (
    FIELD_NAMES,
    FIELDS,
    LONGEST_JOB,
    TOO_LONG,
    check_value,
    is_too_long,
    named_field,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Iterator, Sequence
    from typing import IO

    Draft = dict[str, object]
    Decode = Callable[[str, int], tuple[object, int]]


def parse_object(text: str) -> Draft:
    """The fields of one job by name, each value as its field keeps it.

    Raises InvalidInput with the faulty span of `text`.
    """
    refusal: ValueError | None = None
    if '"' in text or not text.strip("{}" + BLANKS):
        try:
            return _strict(text)
        except _NotJson as exc:
            refusal = exc.cause
    from queuectl.commands.grammar.relaxed import read_relaxed  # not of strict JSON

    return read_relaxed(text, refusal)


class _NotJson(Exception):
    def __init__(self, cause: ValueError) -> None:
        super().__init__(str(cause))
        self.cause = cause


class _Twice(InvalidInput):
    """A key occurs twice in an object; json does not say where."""

    def __init__(self, key: str) -> None:
        super().__init__(f"'{key}' is given twice")
        self.key = key


def _decoder() -> Decode:
    """json's reader of one value at an index, which refuses what json accepts silently."""
    import json

    return json.JSONDecoder(object_pairs_hook=_once_each, parse_constant=_refuse).raw_decode


def _once_each(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise _Twice(next(name for at, name in enumerate(names) if name in names[:at]))
    return found


def _refuse(constant: str) -> object:
    raise InvalidInput(f"{constant} is not a number that JSON knows")


def _strict(text: str) -> Draft:
    start = len(text) - len(text.lstrip(BLANKS))
    value, end = _decode(_decoder(), text, start)
    if text[end:].strip(BLANKS):
        raise InvalidInput("there is more text after the object", start=end, end=len(text))
    return _typed(text, value, start)


def _decode(decode: Decode, text: str, start: int) -> tuple[object, int]:
    """The JSON value at `start` and its end; _NotJson if the relaxed form may be tried."""
    try:
        return decode(text, start)
    except _Twice as exc:
        first = text.find(f'"{exc.key}"', start)
        exc.start, exc.end = _key_span(text, exc.key, first + 1)
        raise
    except RecursionError:
        raise InvalidInput("the object is nested too deeply", start=start) from None
    except ValueError as exc:
        raise _NotJson(exc) from None


def _typed(text: str, found: object, start: int) -> Draft:
    """The object found at `start`, with checked names and values."""
    if not isinstance(found, dict):
        raise InvalidInput("a job is written as an object {...}", start=start, end=start + 1)
    draft: Draft = {}
    for name, value in found.items():
        try:
            field = named_field(name)
            if field.name in draft:
                raise InvalidInput(f"field '{field.name}' is given twice")
        except InvalidInput as exc:
            exc.start, exc.end = _key_span(text, name, start)
            raise
        try:
            # What nobody may set is passed on unchanged: the queue refuses it.
            settable = field.enqueue or field.edit is not None
            if settable and field.kind == "time" and isinstance(value, str):
                from queuectl.commands.grammar.local_times import read_time_of  # few jobs have one

                draft[field.name] = read_time_of(field, value)
            else:
                draft[field.name] = check_value(field, value) if settable else value
        except InvalidInput as exc:
            exc.start, exc.end = _value_span(text, name, start)
            raise
    return draft


def _key_span(text: str, key: str, start: int) -> tuple[int | None, int | None]:
    at = text.find(f'"{key}"', start)
    return (None, None) if at < 0 else (at, at + len(key) + 2)


def _value_span(text: str, key: str, start: int) -> tuple[int | None, int | None]:
    _, at = _key_span(text, key, start)
    if at is None:
        return None, None
    begins = len(text) - len(text[at:].lstrip(BLANKS + ":"))
    try:
        return begins, _decoder()(text, begins)[1]
    except (ValueError, InvalidInput):  # an earlier value also contains the key's text
        return None, None


LONGEST_LINE = 24_000_000  # bytes of one line in a file of jobs, which may hold many


def read_line(file: IO[bytes], name: str, number: int, most: int = LONGEST_LINE) -> bytes:
    """The next line of a file, b"" at its end; InvalidInput if it has more than `most` bytes."""
    line = file.readline(most + 1)
    if len(line) > most:
        raise _too_long_line(name, number, most)
    return line


def _too_long_line(name: str, number: int, most: int = LONGEST_LINE) -> InvalidInput:
    return InvalidInput(f"{name}:{number}: a line has at most {most:,} bytes")


def json_lines(
    file: IO[bytes],
    name: str,
    tell: Callable[[int], None] | None = None,
    passed: set[str] | None = None,
) -> Iterator[tuple[int, Draft]]:
    """The jobs of a file, each with the line on which it begins (1 is the first), read lazily.

    `tell` is called now and then with the number read.

    One object a line, objects over several lines, or one JSON array of them; blank lines are
    skipped. Of jobs that `list`, `dlq list` or `show` printed with --json, fields that nobody may
    set are left out and named in `passed`. Raises InvalidInput that names file and line.
    """
    passed = set() if passed is None else passed
    decode, number, count = _decoder(), 0, 0
    while line := read_line(file, name, number + 1):
        draft = _whole_line(decode, line, passed)
        if draft is None:
            break
        number += 1
        if draft:
            count += 1
            if tell is not None and count % _TELL_EACH == 0:
                tell(count)
            yield number, draft
    # What is not one object a line is read as one text.
    text = _decoded(_rest(file, line, name, number), name, number)
    reader = _ManyReader(text, number, passed, tell or (lambda count: None))
    try:
        yield from reader.read(array=count == 0)
    except InvalidInput as exc:
        at = reader.line_of(reader.at if exc.start is None else exc.start)
        raise InvalidInput(f"{name}:{at}: {exc}", start=exc.start, end=exc.end) from None


def _rest(file: IO[bytes], line: bytes, name: str, number: int) -> bytes:
    """This line and all after it; `number` lines precede it."""
    parts, unended = [line], 0
    while part := file.read(1 << 20):
        parts.append(part)
        at = part.rfind(b"\n")
        unended = unended + len(part) if at < 0 else len(part) - at - 1
        if unended > LONGEST_LINE:
            raise _too_long_line(name, number + 1 + sum(part.count(b"\n") for part in parts))
    return b"".join(parts).removeprefix(b"\xef\xbb\xbf")


def _whole_line(decode: Decode, line: bytes, passed: set[str]) -> Draft | None:
    """The job of a whole line, {} for a blank line; None if the job is not the whole line."""
    try:
        text = line.decode().strip(BLANKS)
        if not text:
            return {}
        if text[0] != "{":
            return None
        draft, end = _one_of_many(decode, text, 0, passed)
    except (ValueError, InvalidInput):  # to be reported with its position
        return None
    return draft if end == len(text) else None


_TELL_EACH = 1000  # jobs
# How a document of `dlq list --json` begins, or of `show --json`.
_DOCUMENT = r'\{\s*"schema"\s*:\s*\d+\s*,\s*(?:"jobs"\s*:\s*(\[)|"job"\s*:\s*(?=\{))'
_CHILDREN = r'\s*,\s*"children"\s*:\s*\[[^]]*\]'  # `show --json` prints this after the job


class _ManyReader:
    def __init__(
        self, text: str, lines: int, passed: set[str], tell: Callable[[int], None]
    ) -> None:
        """`lines` precede the text; adds the names of fields that are left out to `passed`."""
        self.text, self.passed, self.tell = text, passed, tell
        self.at = 0  # where the object being read begins
        self._counted = (lines + 1, 0)  # a line and an index in it
        self._count = 0  # jobs that were read

    def line_of(self, at: int) -> int:
        line, index = self._counted
        line += self.text.count("\n", index, at)
        self._counted = line, at
        return line

    def read(self, *, array: bool) -> Iterator[tuple[int, Draft]]:
        """Read the jobs; `array`: the whole text may be one array."""
        yield from self._many(array=array and self._take("["))
        if self._char():
            raise self._unfit("there is more text after the jobs")

    def _many(self, *, array: bool) -> Iterator[tuple[int, Draft]]:
        """Read objects to the end of the text or of the array."""
        import re

        decode, begins, begun = _decoder(), re.compile(_DOCUMENT), self.at
        while self._char() not in ("", "]"):
            if self._char() != "{":
                raise self._unfit(f"a job is written as an object {{...}}; {COMMANDS_IN}")
            document = begins.match(self.text, self.at)
            if document:
                yield from self._unwrapped(document)
            else:
                yield self._next(decode)
                self._count += 1
            if self._count % _TELL_EACH == 0:
                self.tell(self._count)
            if array and not self._take(",") and self._char() not in ("", "]"):
                raise self._unfit("',' or ']' is missing after the object")
        if array and not self._take("]"):
            self.at = begun
            raise self._unfit("the array that begins here is not closed")

    def _next(self, decode: Decode) -> tuple[int, Draft]:
        draft, end = _one_of_many(decode, self.text, self.at, self.passed)
        line, self.at = self.line_of(self.at), end
        return line, draft

    def _unwrapped(self, document: re.Match[str]) -> Iterator[tuple[int, Draft]]:
        """Read the jobs of what `dlq list --json` or `show --json` printed."""
        self.at = document.end()
        if document[1]:
            yield from self._many(array=True)
        else:
            import re

            yield self._next(_decoder())
            if children := re.compile(_CHILDREN).match(self.text, self.at):
                self.at = children.end()
        if not self._take("}"):
            raise self._unfit("'}' is missing after the jobs")

    def _char(self) -> str:
        """Skip blanks; returns the character found, "" at the end."""
        text, at = self.text, self.at
        while at < len(text) and text[at] in BLANKS:
            at += 1
        self.at = at
        return text[at : at + 1]

    def _take(self, char: str) -> bool:
        found = self._char() == char
        self.at += found
        return found

    def _unfit(self, message: str) -> InvalidInput:
        return InvalidInput(message, start=self.at, end=self.at + 1)


def _as_draft(found: object, passed: set[str]) -> object:
    """What a person may set of a job printed with --json; adds the names of the rest to `passed`.

    Only queuectl writes both `rev` and `created_at`; any other object stays unchanged.
    """
    if not isinstance(found, dict) or not {"rev", "created_at"} <= found.keys():
        return found
    kept = {name: value for name, value in found.items() if name in _DRAFTED}
    passed |= found.keys() - kept.keys()
    return kept


_DRAFTED = {field.name for field in FIELDS if field.enqueue and field.name != "state"}


def _one_of_many(decode: Decode, text: str, start: int, passed: set[str]) -> tuple[Draft, int]:
    """The object at `start` and the index after it; spans of errors refer to the whole text."""
    if text[start + 1 : start + 20].lstrip(BLANKS)[:1] in ('"', "}"):
        if len(text) - start > LONGEST_JOB and _is_too_long(text, start):
            raise InvalidInput(TOO_LONG, start=start)
        try:
            value, end = _decode(decode, text, start)
            return _typed(text, _as_draft(value, passed), start), end
        except _NotJson:
            pass
    from queuectl.commands.grammar.relaxed import read_relaxed
    from queuectl.commands.grammar.tokens import reach

    end, _ = reach(text, start)
    if end - start > LONGEST_JOB:
        raise InvalidInput(TOO_LONG, start=start)
    try:
        return read_relaxed(text[start:end]), end
    except InvalidInput:
        try:
            return parse_object(text[start:end]), end
        except InvalidInput as exc:
            exc.start, exc.end = start + (exc.start or 0), None
            raise


def _is_too_long(text: str, start: int) -> bool:
    end = text.find("\n", start, start + LONGEST_JOB)
    # Most objects are on a line of their own, so this is rarely needed.
    is_line = end >= 0 and "}" in text[max(start, end - 3) : end]
    return not is_line and is_too_long(text, start)


def _decoded(raw: bytes, name: str, lines: int) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as exc:
        before = raw[: exc.start]
        column = exc.start - before.rfind(b"\n")
        raise InvalidInput(
            f"{name}:{lines + before.count(10) + 1}: not valid UTF-8 at byte {column}"
        ) from None


def join_pieces(pieces: Sequence[str]) -> tuple[str, int]:
    """The object that a shell cut into the first of these arguments, and their number.

    ("", 0) if the first is not part of an object. bash, zsh and fish expand `{id:j,command:ls}` to
    `id:j` and `command:ls`; cmd.exe and PowerShell cut at blanks and drop or keep quotes.
    """
    expanded = _expanded(pieces)
    if expanded:
        return "{" + ", ".join(_with_env_joined(pieces[:expanded])) + "}", expanded
    if not pieces or not pieces[0].lstrip("'").lstrip(BLANKS).startswith("{"):
        return "", 0
    last = 0
    for count, piece in enumerate(pieces, 1):
        if not piece.rstrip(BLANKS + "'").endswith("}"):
            continue
        text = _bare(" ".join(pieces[:count]))
        if text.endswith("}"):
            last = count
            if text.count("{") <= text.count("}"):
                return text, count
            from queuectl.commands.grammar.tokens import reach  # some braces lie in quotes

            if reach(text, 0) == (len(text), ""):
                return text, count
    count = last or len(pieces)
    return _bare(" ".join(pieces[:count])), count


def _bare(text: str) -> str:
    """The text without outer blanks and the apostrophes that cmd.exe leaves there."""
    text = text.strip(BLANKS)
    if text.startswith("'"):
        text = text.lstrip("'")
    return text.rstrip("'") if text.rstrip("'").endswith("}") else text


def _expanded(pieces: Sequence[str]) -> int:
    """The number of leading pieces `field:value`, which brace expansion leaves."""
    for count, piece in enumerate(pieces):
        name = piece.lstrip(BLANKS).partition(":")[0].rstrip(BLANKS)
        if name not in FIELD_NAMES or ":" not in piece:
            return count
    return len(pieces)


def _with_env_joined(pieces: Sequence[str]) -> list[str]:
    """The pieces with `env:A:1` and `env:B:2`, from `env:{A:1,B:2}`, joined again."""
    members, variables = [], []
    for piece in pieces:
        name, _, value = piece.strip(BLANKS).partition(":")
        if name == "env" and not value.lstrip(BLANKS).startswith("{"):
            variables.append(value)
        else:
            members.append(piece.strip(BLANKS))
    return [*members, "env: {" + ", ".join(variables) + "}"] if variables else members
