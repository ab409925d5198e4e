"""`enqueue --each FILE`: a job for each row of a table or line of a list, made from a template.

A value in the command is one word of the shell, whatever it contains. Doubled braces are braces:
`{{x}}` is the text `{x}`, and `{{{x}}}` the value of x in braces.
"""

from __future__ import annotations

import csv
import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import IO

from queuectl.commands.grammar.local_times import read_time
from queuectl.commands.grammar.tokens import command_line, quote
from queuectl.commands.render import counted
from queuectl.errors import COMMANDS_IN, InvalidInput, did_you_mean
from queuectl.model.fields import DELAY, check_value

Draft = dict[str, object]
Row = Mapping[str, str]
MOST_ROWS = 100_000
_SEPARATORS = {".csv": ",", ".tsv": "\t"}
# What is wrong with a row, by a word of the csv module's error.
_MISTAKES = {
    "unexpected end": "quotes that begin here are not closed",
    "field limit": "a cell is longer than 131,072 characters, or its quotes are not closed",
    "new-line": "a line must end with LF or CRLF, not with CR alone",
}
_NUMBER, _LINE = "n", ""  # {n} is the number of the row, {} the whole line
# Not after a $, where a variable of the shell begins.
_NAME = r"[A-Za-z_][\w.-]*"
# GNU parallel's {.}, {/}, {#} and {1} do not name columns: refused; x{4} is part of a pattern.
_FOREIGN = r"[./#%]{1,2}|(?<![^\s/{]\{)\d+"
_BRACED = re.compile(rf"(?<![${{])(\{{+)({_NAME}|{_FOREIGN}|)(\}}+)")
# What makes it too hard to see what is quoted in a shell line: comments, heredocs, arithmetic,
# backquotes, and a backslash or an expansion before a placeholder.
_UNCLEAR = re.compile(r"(?:^|[\s;&|(])#|<<|\$\(\(|`|\\\{|\$\{[^}]*\{|\$\[")
# Programs that read some of their arguments as a command line.
_READERS = frozenset(("eval", "ssh", "su", "watch", "parallel", "script", "runuser"))
# Programs that read one argument like that, after -c or -e.
_INTERPRETERS = frozenset(("sh", "bash", "dash", "zsh", "ksh", "ash", "fish", "flock", "python"))
_INTERPRETERS |= frozenset(("perl", "ruby", "node", "php"))


def rows(file: IO[bytes], name: str) -> Iterator[tuple[int, Row]]:
    """The rows of a .csv or .tsv file with a header, or the non-blank lines of another file.

    Each comes with its line number. Raises InvalidInput that names the line of a mistake.
    """
    separator = _SEPARATORS.get(os.path.splitext(name)[1].lower())
    texts = _texts(file, name)
    found = _lines(texts) if separator is None else _table(texts, name, separator)
    number = 0
    for number, (line, row) in enumerate(found, 1):
        if number > MOST_ROWS:
            raise InvalidInput(f"{name} has more than {MOST_ROWS:,} rows: enqueue it in parts")
        yield line, {_NUMBER: str(number), **row}
    if not number:
        raise InvalidInput(f"{name} holds no row")


def _texts(file: IO[bytes], name: str) -> Iterator[str]:
    for number, line in enumerate(file, 1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError:
            raise InvalidInput(f"{name}:{number}: not UTF-8") from None


def _lines(texts: Iterator[str]) -> Iterator[tuple[int, Row]]:
    for number, text in enumerate(texts, 1):
        if text.strip():
            yield number, {_LINE: text.rstrip("\r\n")}


def _table(texts: Iterator[str], name: str, separator: str) -> Iterator[tuple[int, Row]]:
    reader = csv.reader(texts, delimiter=separator, strict=True)
    header: list[str] = []
    done = 0  # lines
    try:
        for cells in reader:
            done = reader.line_num
            if not cells:
                continue
            if not header:
                header = _header([cell.strip() for cell in cells], name)
                if len(header) == 1 and {";", "\t"}.intersection(header[0]):
                    ours = "commas" if separator == "," else "tabs"
                    told = f"{name}:{reader.line_num}: {ours} must part its columns"
                    if separator == "," and "\t" in header[0]:
                        told += ": name a table with tabs .tsv"
                    raise InvalidInput(told)
            elif len(cells) != len(header):
                under = f"{counted(len(cells), 'cell')} under {counted(len(header), 'column')}"
                raise InvalidInput(f"{name}:{reader.line_num}: {under}")
            else:
                yield reader.line_num, dict(zip(header, cells, strict=True))
    except csv.Error as exc:
        why = next((told for word, told in _MISTAKES.items() if word in str(exc)), exc)
        raise InvalidInput(f"{name}:{done + 1}: {why}") from None


def _header(names: list[str], name: str) -> list[str]:
    for at, column in enumerate(names):
        if not column or column in names[:at]:
            raise InvalidInput(f"{name}: its header names column {column!r} twice or not at all")
    return names


class Template:
    """A draft with placeholders like {src}; `fill` gives the draft of a row.

    `in_words`: the command came as words, quoted since; each is filled and quoted again. Otherwise
    it is a line for the shell, in which placeholders must be outside of quotes. Raises InvalidInput
    for a placeholder in quotes, or in text that another shell will read.
    """

    def __init__(self, draft: Draft, *, in_words: bool) -> None:
        self._draft = dict(draft)
        command = str(self._draft.pop("command", ""))
        words = shlex.split(command) if in_words else _words(command)
        _check_inner(words)
        self._texts = [command, *words, *map(str, self._draft.values())]
        self._words = words if in_words else None
        self._alone = words[0] if len(words) == 1 else ""  # a program, perhaps a placeholder
        self._parts = [] if in_words else _parts(command)
        self._columns: frozenset[str] = frozenset()  # of the row filled in last

    def fill(self, row: Row) -> Draft:
        """The draft of one row; InvalidInput for an unknown column.

        A filled-in value is still text, to be read like any other; only times are read here. Also
        InvalidInput for a line of several words in place of a program.
        """
        if row.keys() != self._columns:  # all rows of a table have the same columns
            self._check_columns(row)
            self._columns = frozenset(row)
        draft = {name: _filled(value, row) for name, value in self._draft.items()}
        for name in ("run_at", "delay"):
            if isinstance(text := draft.get(name), str):
                draft[name] = read_time(text) if name == "run_at" else check_value(DELAY, text)
        if self._words is not None:
            draft["command"] = command_line(_put(word, row) for word in self._words)
        elif self._parts:
            draft["command"] = "".join(
                quote(_value(text, row)) if is_name else text for text, is_name in self._parts
            )
        program = _put(self._alone, row)
        if " " in program and not os.path.exists(os.path.join(str(draft.get("cwd", "")), program)):
            raise InvalidInput(f"'{program}' would be the name of a program; {COMMANDS_IN}")
        return draft

    def _check_columns(self, row: Row) -> None:
        """Raise InvalidInput for an impossible column in braces, or a draft without a column."""
        whole = " ".join(self._texts)
        for column in row:
            if column and not re.fullmatch(_NAME, column) and f"{{{column}}}" in whole:
                ours = re.sub(r"[^A-Za-z0-9_]+", "_", column)
                raise InvalidInput(f"no braces can name column {column!r}: call it {ours!r}")
        if not any(is_name for text in self._texts for _, is_name in _cut(text)):
            raise InvalidInput(
                "all rows would be the same job: put {} or {column} where the value belongs, "
                "or {n}, the number of the row"
            )


def _filled(value: object, row: Row) -> object:
    if isinstance(value, str):
        return _put(value, row)
    if isinstance(value, dict):
        return {name: _put(text, row) for name, text in value.items()}
    if isinstance(value, (list, tuple)):
        return [_put(one, row) if isinstance(one, str) else one for one in value]
    return value


def _put(text: str, row: Row) -> str:
    return "".join(_value(part, row) if is_name else part for part, is_name in _cut(text))


def _cut(text: str) -> Iterator[tuple[str, bool]]:
    """The text split at its placeholders: texts, and names marked True."""
    done = 0
    for found in _BRACED.finditer(text):
        around = min(len(found[1]), len(found[3]))
        start, end = found.end(1) - around, found.start(3) + around
        braces = around // 2
        yield text[done:start] + "{" * braces, False
        yield found[2], around % 2 == 1
        yield "}" * braces, False
        done = end
    yield text[done:], False


def _value(name: str, row: Row) -> str:
    if name in row:
        return row[name]
    known = [column for column in row if column not in (_NUMBER, _LINE)]
    if not name:
        raise InvalidInput(f"{{}} is a line of a list; here are columns: {_listed(known)}")
    what = f"the columns are {_listed(known)}" if known else "a list has {} and {n} only"
    raise InvalidInput(f"no column {name!r}{did_you_mean(name, known)}; {what}")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"{{{name}}}" for name in names[:10]) + (", ..." if len(names) > 10 else "")


def _parts(line: str) -> list[tuple[str, bool]]:
    """The line split at its placeholders; InvalidInput where a value could become syntax."""
    parts, before = list(_cut(line)), ""
    unclear = _UNCLEAR.search(line)
    for text, is_name in parts:
        if is_name and unclear:
            raise InvalidInput(
                f"{{{text}}} is in a line with {unclear[0].strip()}, where a value could be "
                "read as syntax: write words after --, or pass values by --env"
            )
        if is_name and (opened := _quote_around(before)):
            raise InvalidInput(
                f"{{{text}}} is inside {opened}, where a value could be read as syntax: "
                "end the quotes before it, as in 'out/'{x}'.png'"
            )
        before += "_" if is_name else text
    return parts


def _quote_around(line: str) -> str:
    """The quotes open at the end of the line, or ""."""
    opened, at = "", 0
    while at < len(line):
        char = line[at]
        if char == "\\" and opened != "'":
            at += 1
        elif char == opened:
            opened = ""
        elif not opened and char in "'\"":
            opened = char
        at += 1
    return opened


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError:
        return line.split()


def _check_inner(words: Sequence[str]) -> None:
    """Refuse a placeholder in text that another program will read as a line or program."""
    programs = {os.path.basename(word).rstrip("0123456789.") for word in words}
    reader, interpreter = programs & _READERS, programs & _INTERPRETERS
    for before, word in zip(["", *words], words, strict=False):
        is_code = interpreter and re.fullmatch(r"-\w*[ce]|--command|--eval", before)
        if (reader or is_code) and any(is_name for _, is_name in _cut(word)):
            raise InvalidInput(
                "a placeholder in what another program reads as a line could be read as syntax: "
                """hand the value over, as in sh -c 'echo "$1"' sh {x}"""
            )
