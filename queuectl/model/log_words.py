"""What an output says in its last lines, made safe and short for a report."""

from __future__ import annotations

import re

_LONGEST_LINE = 200  # characters of a last line that are quoted in an error
END = 4096  # bytes at the end of an output in which its last words are looked for
_JOINER = "\u200d"  # makes one sign of several
# What moves the cursor, colours or names a window, as ECMA-48 has it, of seven bits or of eight.
_ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|(?:\x1b\]|\x9d)[^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[ -/]*[0-~]"
)


def last_words(data: bytes) -> str:
    """The last line of an output that says something, as a terminal shows it; "" if none does.

    Of a line that was written over with carriage returns what was written last, of a long one its
    end; without escape sequences and control characters. `data`: the last END bytes or more.
    """
    for line in reversed(data.decode("utf-8", "replace").split("\n")):
        shown = _overwritten(line)
        if plain := one_line(shown, len(shown)):
            return _end_of(plain)
    return ""


def last_lines(data: bytes, most: int) -> list[str]:
    """The last `most` lines of an output, each made as `last_words` has it, blanks kept."""
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
