"""The last lines of an output, made safe and short for a report."""

from __future__ import annotations

import re
from collections.abc import Iterator

_LONGEST_LINE = 200  # characters of a last line that are quoted in an error
END = 4096  # bytes at the end of an output that are searched for its last words
_JOINER = "\u200d"  # combines with a neighbour into one sign
# Sequences that move the cursor, colour text or name a window (ECMA-48), 7 bits or 8.
_ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|(?:\x1b\]|\x9d)[^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[ -/]*[0-~]"
)
# How tools close after something above failed: the reason stands above such a line.
_CLOSING = r"""(?x)
    (?:g?make(?:\[\d+\])?:\ (?!.*Stop\.$) | ninja:\ build\ stopped)
    | \d+\ \|\  | \|\ (?!.*\|$) | compilation\ terminated\.$    # of a compiler
    | (?:collect2:\ error:\ ld|clang(?:\+\+)?:\ error:\ linker)\b
    | at\ \S.*(?::\d+\)?|\((?:Native\ Method|Unknown\ Source)\))$    # of a stack
    | \.\.\.\ \d+\ more$ | from\ \S+:\d+:in\  | Node\.js\ v\d
    | npm\ (?:ERR!|error)(?:\ A\ complete\ log|\ /|$) | \[notice\]
    | tar:\ Exiting\ with | Please\ make\ sure\ you\ have | and\ the\ repository\ exists
"""
_REASON = (
    r"(?i:\b(?:error|fatal|panic|failed|cannot|undefined|denied)\b|not found|no such)(?![./])"
    r"|(?:Error|Exception)\b(?![./])|Stop\.$"
)


def last_words(data: bytes) -> str:
    """The last line of an output that has any text, as a terminal shows it; "" if none has.

    A line overwritten with carriage returns shows what was written last, a long line its end, both
    without escape sequences and control characters. `data`: the last END bytes or more.
    """
    return next(_said(data), "")


def reason(data: bytes) -> str:
    """The line of a failed run's output that says why it failed, made like `last_words`.

    The last line, unless it is how a tool closes when something above it failed.
    """
    lines = list(_said(data))
    if not lines or not re.match(_CLOSING, lines[0]):
        return lines[0] if lines else ""
    others = [line for line in lines if not re.match(_CLOSING, line)] or lines
    return next((line for line in others if re.search(_REASON, line)), others[0])


def _said(data: bytes) -> Iterator[str]:
    """The lines with any text, the last one first."""
    for line in reversed(data.decode("utf-8", "replace").split("\n")):
        shown = _overwritten(line)
        if plain := one_line(shown, len(shown)):
            yield _end_of(plain)


def last_lines(data: bytes, most: int) -> list[str]:
    """The last `most` lines of an output, each made like `last_words`, blanks kept."""
    lines = data.decode("utf-8", "replace").removesuffix("\n").split("\n")[-most:]
    return [_end_of(_overwritten(line).expandtabs()) for line in lines] if data else []


def _overwritten(line: str) -> str:
    return _ESCAPES.sub("", line.rstrip("\r").rpartition("\r")[2])


def _end_of(line: str) -> str:
    return line if len(line) <= _LONGEST_LINE else "…" + line[1 - _LONGEST_LINE :]


def one_line(text: str, most: int = _LONGEST_LINE) -> str:
    """The text on one line that is safe to show, cut to `most` characters."""
    plain = "".join(
        mark if mark.isprintable() or mark == _JOINER else " " for mark in text[: 4 * most]
    )
    return " ".join(plain.split())[:most]
