"""`watch`: what it draws, and which commands may be watched."""

from __future__ import annotations

import pytest

from queuectl.commands.grammar.inner_line import LOOKING
from queuectl.commands.table import COMMANDS
from queuectl.shell.screens.watch import fitted, picture


def test_commands_that_can_be_watched_change_nothing() -> None:
    rows = {" ".join(spec.words): spec for spec in COMMANDS}
    assert all(rows[name].access != "write" for name in LOOKING)


@pytest.mark.parametrize(
    ("line", "columns", "shown"),
    [
        ("plain", 10, "plain"),
        ("too long a line", 8, "too lon\u2026"),
        ("a\tb", 20, "a       b"),
        ("10%\r20%\r", 20, "20%"),
        ("\033[31mred\033[0m rest", 20, "\033[31mred\033[0m rest\033[0m"),
        ("\033[31mred\033[0m rest", 5, "\033[31mred\033[0m \u2026\033[0m"),
        ("\033[2Jcleared\033[5;5H\033(B", 20, "cleared"),
        ("bell\a", 20, "bell\u2407"),
        ("\u4e16\u754c\u4e16", 5, "\u4e16\u754c\u2026"),
        ("", 5, ""),
    ],
)
def test_a_line_fits_and_cannot_move_the_cursor(line, columns, shown) -> None:
    assert fitted(line, columns) == shown


@pytest.mark.parametrize(("count", "rows", "last"), [(3, 4, "2"), (4, 4, "... 2 more lines")])
def test_a_picture_has_no_more_rows_than_the_screen(count, rows, last) -> None:
    shown = list(picture("head", [str(n) for n in range(count)], 40, rows))
    assert len(shown) == rows
    assert shown[-1].endswith(last)


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_a_picture_on_the_smallest_screens(rows) -> None:
    shown = list(picture("head", [str(n) for n in range(9)], 40, rows))
    assert len(shown) == rows
    assert shown[0].endswith("head")
