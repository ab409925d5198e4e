"""The look of results: tables, colours, times for people. Returns text, never prints.

Lean because `status` loads this: what only other commands need is imported where it is used.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from queuectl.store.facts import WorkerInfo

COLOURS = {
    "bold": "\033[1m",
    "red": "\033[31m",
    "green": "\033[32m",
    "yellow": "\033[33m",
    "cyan": "\033[36m",
    "grey": "\033[90m",
}
PLAIN = "\033[0m"
STATE_COLOURS = {
    "in_progress": "cyan",
    "completed": "green",
    "failed": "yellow",
    "dead": "red",
    "cancelled": "grey",
}
# On a pipe a column is padded only up to this: one command of a megabyte must not pad each row.
WIDEST_PADDING = 64
RULE = 64
_JOINER = "\u200d"
LONGEST = 1000  # characters of a text that a report shows; --json shows all
_MOST_LINES = 20  # lines of a text


class Column:
    """A column of a table: at least `least` wide; an elastic one may be cut on a terminal."""

    def __init__(
        self, title: str, least: int, *, elastic: bool = False, state: bool = False
    ) -> None:
        self.title = title
        self.least = least
        self.elastic = elastic
        self.state = state  # its cells name a job's state and have that state's colour


def paint(text: str, colour: str | None, *, on: bool) -> str:
    """`text` in one of the 16 ANSI colours, if colours are on."""
    return f"{COLOURS[colour]}{text}{PLAIN}" if on and colour else text


def one_line(text: str) -> str:
    """`text` with line breaks and other control characters shown as signs, for one row."""
    return text if text.isprintable() else "".join(map(_visible, text))


def _visible(char: str) -> str:
    code = ord(char)
    if char in "\n\u2028\u2029":
        return "\u2424"
    if code < 32:
        return chr(0x2400 + code)
    if code == 127:
        return "\u2421"
    # C1 controls, and marks that change the direction of the text after them.
    if 128 <= code < 160 or 0x202A <= code <= 0x202E or 0x2066 <= code <= 0x2069:
        return "\ufffd"
    return char


def unended(worker: WorkerInfo, job_id: str | None = None) -> str:
    """The processes of the worker's run that cannot be ended, and what to do about them."""
    names = [f"PID {pid} ({user}, {name})" for pid, user, name in worker.left]
    job = brief(job_id or worker.job_id or "JOB")
    return (
        f"{', '.join(names)} of its run cannot be ended; "
        f"'queuectl cancel {job} --abandon' gives the run up."
    )


def untold(ids: Sequence[str]) -> tuple[str, str]:
    """The line that hooks for the ends of these jobs are dead, and how to list them."""
    hooks, shows = ("1 hook is", "it") if len(ids) == 1 else (f"{len(ids)} hooks are", "them")
    jobs = ", ".join(ids[-3:]) + ", ..." * (len(ids) > 3)
    return f"{hooks} dead and did not report {brief(jobs)}", f"'dlq list' shows {shows}"


def brief(text: object, most: int = LONGEST) -> str:
    """`text` on one line that is safe to show, with an ellipsis if cut to `most`."""
    shown = one_line(str(text)[: most + 1])
    return shown if len(shown) <= most else shown[: most - 1] + "…"


def safe_lines(text: str) -> str:
    """`text` with line breaks and tabs, but other control characters shown as signs."""
    return "".join(char if char in "\n\t" else _visible(char) for char in text)


def block(lines: Sequence[object]) -> str:
    """Lines of a long text, each brief; of many the first, and the number of the rest."""
    shown = [brief(line) for line in lines[:_MOST_LINES]]
    if len(lines) > _MOST_LINES:
        shown.append(f"… and {len(lines) - _MOST_LINES} more lines (--json shows all)")
    return "\n".join(shown)


def cells(text: str) -> int:
    """The number of terminal columns that `text` takes."""
    if text.isascii():
        return len(text)
    from wcwidth import wcswidth

    columns: int = wcswidth(text)
    return columns if columns >= 0 else sum(max(1, wcswidth(char)) for char in text)


def graphemes(text: str) -> Iterator[str]:
    """The text in parts that a terminal draws as one sign, with joined or combined characters."""
    from wcwidth import wcwidth

    start = flags = 0
    for at, char in enumerate(text):
        flags = flags + 1 if "\U0001f1e6" <= char <= "\U0001f1ff" else 0  # two letters, one flag
        tinted = "\U0001f3fb" <= char <= "\U0001f3ff"
        joined = tinted or wcwidth(char) == 0 or text[at - 1] == _JOINER
        if at > start and not joined and (flags == 0 or flags % 2):
            yield text[start:at]
            start = at
    yield text[start:]


def unjoined(text: str) -> str:
    """`text` without what joins or tints signs: only the first of them; flags as letters.

    A screen that is drawn sign by sign, and many terminals, use the columns of each of them.
    """
    return text if text.isascii() else "".join(map(_first_sign, graphemes(text)))


def _first_sign(part: str) -> str:
    if "\U0001f1e6" <= part[0] <= "\U0001f1ff":
        return "".join(chr(ord(char) - 0x1F1E6 + 65) for char in part if char >= "\U0001f1e6")
    kept = part.partition(_JOINER)[0].replace("\ufe0e", "").replace("\ufe0f", "")
    return kept[:1] + "".join(char for char in kept[1:] if not "\U0001f3fb" <= char <= "\U0001f3ff")


def clip(text: str, width: int) -> str:
    """`text` cut to `width` columns, with an ellipsis at the cut; "" if there is no room."""
    if cells(text) <= width:
        return text
    if text.isascii():
        return text[: width - 1] + "…" if width > 0 else ""
    kept, room = [], width - 1
    for part in graphemes(text) if room >= 0 else ():
        room -= cells(part)
        if room < 0:
            break
        kept.append(part)
    return "".join(kept) + "…" if width > 0 else ""


def pad(text: str, width: int) -> str:
    """`text` filled with blanks to `width` columns."""
    return text + " " * (width - cells(text))


def table(
    columns: Sequence[Column],
    rows: Sequence[Sequence[str]],
    *,
    screen: int | None = None,
    colour: bool = False,
) -> Iterator[str]:
    """The lines of a table: titles, a rule, one for each row. `screen`: a terminal's width or None.

    Rows hold one line of text for each column. On a terminal the elastic columns share the room
    that the others leave; elsewhere nothing is cut.
    """
    widths = _widths(columns, rows, screen)
    titles = " ".join(_cells([column.title for column in columns], columns, widths, screen))
    yield paint(titles.rstrip(), "bold", on=colour)
    rule = max(RULE, cells(titles))
    yield "-" * (rule if screen is None else min(rule, screen))
    for row in rows:
        shown = _cells(row, columns, widths, screen)
        if colour:
            shown = [
                paint(cell, STATE_COLOURS.get(text) if column.state else None, on=True)
                for cell, text, column in zip(shown, row, columns, strict=True)
            ]
        yield " ".join(shown).rstrip()


def _widths(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], screen: int | None
) -> list[int]:
    longest = [
        max([column.least, cells(column.title), *(cells(row[at]) for row in rows)])
        for at, column in enumerate(columns)
    ]
    if screen is None:
        return [
            min(width, max(WIDEST_PADDING, columns[i].least)) if columns[i].elastic else width
            for i, width in enumerate(longest)
        ]
    room = screen - len(columns) + 1
    room -= sum(w for w, column in zip(longest, columns, strict=True) if not column.elastic)
    elastic = [at for at, column in enumerate(columns) if column.elastic]
    for left, at in zip(range(len(elastic), 0, -1), elastic, strict=True):
        # The first columns get what they need, at least their least width or a fair share.
        share = room if left == 1 else max(room // left, min(columns[at].least, room))
        longest[at] = max(0, min(longest[at], share))
        room -= longest[at]
    return longest


def _cells(
    row: Sequence[str], columns: Sequence[Column], widths: Sequence[int], screen: int | None
) -> list[str]:
    """The row's texts, cut and padded to their columns; the last one is not padded."""
    shown = [
        clip(text, width) if column.elastic and screen is not None else text
        for text, column, width in zip(row, columns, widths, strict=True)
    ]
    return [*map(pad, shown[:-1], widths), shown[-1]]


def counted(number: int, noun: str) -> str:
    """A number with its noun: `1 job`, `2 jobs`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def jobs(count: int) -> str:
    """A number of jobs: `1 job`, `2 jobs`."""
    return counted(count, "job")


def moment(text: str | None, now: float | None) -> str:
    """A time: as stored if `now` is None (not a terminal), else in the form for people."""
    if not text or now is None:
        return text or "-"
    from queuectl.errors import InvalidInput
    from queuectl.model.times import format_duration, parse_time

    try:
        seconds = now - parse_time(text)
    except InvalidInput:
        return brief(text)  # a person wrote it by hand
    if abs(seconds) < 1:
        return "now"
    spoken = format_duration(abs(seconds))
    return f"{spoken} ago" if seconds > 0 else f"in {spoken}"


def fields(pairs: Iterable[tuple[str, str]]) -> str:
    """`Name : value` lines with aligned colons; further lines of a value are indented."""
    listed = [(name, text.replace("\n", "\n" + " " * 16)) for name, text in pairs]
    return "\n".join(f"{name:<13} : {text}" for name, text in listed)
