"""Reads a script: splits lines into statements, and shows faults at their position.

A statement is a line, or several if an object or a quote is still open or a backslash ends the
line. Blank lines and lines with only a comment are left out.

One bad line must not swallow the rest of a script, so an open object or quote reaches only as far
as was probably meant. A *sign* is a line, indented no more than the first one, that starts with a
command's word followed by a blank or the end of the line. An open object ends before a sign. An
open quote may contain such lines (`wait` in a shell script), so it reads on. It goes back to before
the first sign if it never closes, if it does not close within `FARTHEST` more lines, or if one of
its quote characters does not look like one: after, or before, a blank, a bracket, a comma or the
like. The statement is then returned open, and binding it gives the fault. After a backslash the
next line always belongs to the statement.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from typing import IO, NamedTuple

from queuectl.commands.grammar.bound import Bound, Fault, Token
from queuectl.commands.grammar.objects import read_line
from queuectl.commands.grammar.relaxed import pairs
from queuectl.commands.grammar.specs import CommandSpec
from queuectl.commands.grammar.tokens import reach, tokenize
from queuectl.errors import InvalidInput, line_of
from queuectl.model.fields import LONGEST_JOB

FARTHEST = 1000  # lines that an open quote may run on after a sign
_WIDEST = 100  # columns of a line that an error shows
_BLANKS = " \t\r\f\v"
_BEFORE_A_QUOTE = frozenset(" \t\n:=,{([")
_BEHIND_A_QUOTE = frozenset(" \t\n,;}])")


class Statement(NamedTuple):
    """One statement: `text`, whose first line has number `line` (1 is the first)."""

    text: str
    line: int
    name: str

    def word(self, bound: Bound, problem: Fault | Exception) -> str:
        """The fault or error of the statement, shown in the script."""
        fault = problem if isinstance(problem, Fault) else _fault_in(bound, problem)
        return format_fault(self.name, self, fault)


def open_script(path: str | None) -> Iterator[Statement]:
    """The statements of the file; None and `-` mean standard input."""
    from queuectl.commands.table import COMMANDS

    path = path or "-"
    name = "<stdin>" if path == "-" else path
    return read_statements(_read_lines(path), name, command_words(COMMANDS))


def _read_lines(path: str) -> Iterator[str]:
    """The script's lines; bytes that are not text are kept, for the error of their line."""
    try:
        if path != "-":
            with open(path, "rb") as script:
                yield from _decoded(script, path)
        elif sys.stdin is not None:
            yield from _decoded(sys.stdin.buffer, "<stdin>")
    except OSError as exc:
        raise InvalidInput(f"reading {path}: {exc.strerror}") from None


def _decoded(script: IO[bytes], name: str) -> Iterator[str]:
    number = 1
    while line := read_line(script, name, number, LONGEST_JOB):
        yield line.decode("utf-8", "surrogateescape")
        number += 1


def read_statements(
    lines: Iterable[str], name: str, words: Collection[str] = ()
) -> Iterator[Statement]:
    """The statements of a stream of lines, with or without newlines; `name`: the script's.

    `words`: the first words of all commands. Reads no further than necessary, so that a script can
    be typed or piped in bit by bit.
    """
    source = _Lines(lines)
    while (first := source.take()) is not None:
        tokens = tokenize(first)
        if _says_nothing(tokens):
            continue
        line = source.number
        text = first
        if tokens[-1].open:
            text = _Growing(first, tokens, words).grow(source)
            if _says_nothing(tokenize(text)):
                continue
        yield Statement(text, line, name)


def _says_nothing(tokens: list[Token]) -> bool:
    return all(token.role == "comment" for token in tokens)


def command_words(specs: Iterable[CommandSpec]) -> frozenset[str]:
    """The words that a line can begin with: our own name, and commands in all spellings."""
    named = (words[0] for spec in specs for words in (spec.words, *spec.aliases))
    return frozenset(("queuectl", *named))


class _Lines:
    """A stream of lines that takes lines back; `number`: that of the line taken last."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = iter(lines)
        self._returned: deque[str] = deque()
        self.number = 0

    def take(self) -> str | None:
        if self._returned:
            line: str | None = self._returned.popleft()
        else:
            line = next(self._lines, None)
            if line is not None:
                line = line.removesuffix("\n").removesuffix("\r")
                line = line.removeprefix("\ufeff") if self.number == 0 else line
        self.number += line is not None
        return line

    def give_back(self, lines: list[str]) -> None:
        self._returned.extendleft(reversed(lines))
        self.number -= len(lines)


class _Growing:
    """A statement whose last token is open, which takes further lines."""

    def __init__(self, first: str, tokens: list[Token], words: Collection[str]) -> None:
        self.lines = [first]
        self.start = tokens[-1].start
        self.lacks = tokens[-1].open
        self.behind_dashes = False
        self._note_dashes(tokens)
        self.words = words
        self.signs: list[int] = []  # which of the lines start like a command

    def grow(self, source: _Lines) -> str:
        """The statement's text; gives back lines that it must not swallow."""
        while self.lacks and (line := source.take()) is not None:
            sign = self.lacks != "\\" and self._is_sign(line)
            if sign:
                self.signs.append(len(self.lines))
            self.lines.append(line)
            if sign and self.lacks[0] == "}":
                break
            if self.signs and len(self.lines) - self.signs[0] > FARTHEST:
                break
            self.lacks = self._still_lacks(line)
        cut = self._first_doubtful()
        if cut:
            source.give_back(self.lines[cut:])
            del self.lines[cut:]
        return "\n".join(self.lines)

    def _is_sign(self, line: str) -> bool:
        word = line.split(None, 1)[:1]
        return bool(word) and word[0] in self.words and _indent(line) <= _indent(self.lines[0])

    def _still_lacks(self, line: str) -> str:
        """What is lacking after `line` was added; tokenizes everything only if it may close."""
        if "}" in self.lacks:
            _, lacks = reach("\n" + line, 0, self.lacks)
            if lacks:
                return lacks
        elif self.lacks == "\\":
            if self.lines[-2][-2:-1] in _BLANKS:  # no word continues, so the line stands alone
                tokens = tokenize(line, self.behind_dashes)
                self._note_dashes(tokens)
                return tokens[-1].open if tokens else ""
        elif self.lacks not in line:
            return self.lacks
        tokens = tokenize("\n".join(self.lines))
        self._note_dashes(tokens)
        return tokens[-1].open

    def _note_dashes(self, tokens: list[Token]) -> None:
        self.behind_dashes = self.behind_dashes or any(token.raw == "--" for token in tokens)

    def _first_doubtful(self) -> int:
        """The first sign outside of well-formed quotes; 0 if there is none."""
        if not self.signs:
            return 0
        text = "\n".join(self.lines)
        quotes = [
            pair for pair in pairs(text, self.start, len(text)).items() if _is_quote(text, *pair)
        ]
        for sign in self.signs:
            begins = len("\n".join(self.lines[:sign])) + 1
            if not any(opens < begins <= closes for opens, closes in quotes):
                return sign
        return 0


def _is_quote(text: str, opens: int, closes: int) -> bool:
    """Whether both ends look like those of one quote, not of two quotes on other lines."""
    return (
        text[opens] in "\"'"
        and (opens == 0 or text[opens - 1] in _BEFORE_A_QUOTE)
        and (closes + 1 == len(text) or text[closes + 1] in _BEHIND_A_QUOTE)
    )


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(_BLANKS))


def _fault_in(bound: Bound, error: Exception) -> Fault:
    """The faulty part: the job that the error is about, else the command's words."""
    line = line_of(error)
    about = getattr(error, "job_id", "")
    for token in bound.tokens if about else ():
        at = bound.text.find(about, token.start, token.end)
        if token.text == about or (token.role == "object" and at >= 0):
            return Fault(line, max(at, token.start), max(at, token.start) + len(about))
    words = [token for token in bound.tokens if token.role == "command"]
    return Fault(line, words[0].start, words[-1].end) if words else Fault(line, 0, 1)


def format_fault(name: str, statement: Statement, fault: Fault) -> str:
    """`name:line: message`, the line of the script, and carets under the faulty part."""
    text, start = statement.text, min(fault.start, len(statement.text))
    number = statement.line + text.count("\n", 0, start)
    begins = text.rfind("\n", 0, start) + 1
    line = text[begins:].partition("\n")[0]
    shown, under = _underlined(line, start - begins, fault.end - begins)
    return f"{name}:{number}: {fault.message}\n{shown}\n{under}"


def _underlined(line: str, start: int, end: int) -> tuple[str, str]:
    """The line, or the part around `start` if it is long, and a line of carets."""
    from queuectl.commands.render import cells

    line = "".join(char if char.isprintable() else " " for char in line)
    end = max(min(end, len(line)), start + 1)
    cut = 0 if start < _WIDEST * 3 // 4 else start - _WIDEST // 3
    before = ("…" if cut else "") + line[cut:start]
    shown = before + line[start : cut + _WIDEST] + ("…" if cut + _WIDEST < len(line) else "")
    marked = line[start : min(end, cut + _WIDEST)]
    return shown, " " * cells(before) + "^" * max(cells(marked), 1)
