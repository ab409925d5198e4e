"""What results look like: widths, cuts, times, JSON."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prompt_toolkit.utils import get_cwidth

from queuectl.commands import forms, render
from queuectl.model.fields import STATES
from queuectl.model.times import format_time

COLUMNS = (
    render.Column("ID", 15),
    render.Column("State", 10, state=True),
    render.Column("Command", 7, elastic=True),
)
DEAD = (
    render.Column("ID", 15),
    render.Column("Command", 29, elastic=True),
    render.Column("Error", 5, elastic=True),
)


def lines(rows, columns=COLUMNS, **how):
    return list(render.table(columns, rows, **how))


def test_the_header_is_the_seeds():
    assert lines([])[0] == "ID              State      Command"
    assert lines([], DEAD)[0] == "ID              Command                       Error"
    assert set(lines([])[1]) == {"-"}


def test_columns_grow_for_long_ids_on_a_pipe():
    shown = lines([("j" * 40, "in_progress", "echo 1"), ("a", "pending", "x" * 300)])
    at = shown[0].index("Command")
    assert shown[2][at:] == "echo 1"
    assert shown[3][at:] == "x" * 300, "nothing is cut where there is no terminal"


def test_a_column_is_as_wide_as_its_title():
    columns = [render.Column("Exit Code", 4), render.Column("Error", 4)]
    title, _, row = render.table(columns, [("3", "no space")])
    assert title.index("Error") == row.index("no space") == 10


def test_one_huge_command_does_not_pad_every_row():
    shown = lines([("a", "c" * 100_000, "exit code 1"), ("b", "true", "lost")], DEAD)
    assert len(shown[3]) < 200


@pytest.mark.parametrize("width", [1, 5, 20, 33, 40, 80, 300])
def test_a_terminal_cuts_the_command_and_never_id_or_state(width):
    rows = [("a-rather-long-job-id", "in_progress", "echo " + "long " * 70)]
    shown = lines(rows, screen=width)
    assert "a-rather-long-job-id in_progress" in shown[2]
    if width >= 40:
        assert all(render.cells(line) <= width for line in shown)
        assert shown[2].endswith("…")


@pytest.mark.parametrize("width", [20, 40, 60, 80, 200])
def test_two_elastic_columns_share_the_room(width):
    rows = [("job1", "run " * 40, "exit code 3: " + "bad " * 40)]
    shown = lines(rows, DEAD, screen=width)
    assert all(render.cells(line) <= max(width, 17) for line in shown)
    if width >= 60:
        assert "exit code" in shown[2]


def test_wide_and_combining_characters_are_aligned():
    rows = [("日本語のジョブ", "pending", "echo"), ("e\u0301te\u0301", "pending", "echo")]
    at = {render.cells(line[: line.index("pending")]) for line in lines(rows)[2:]}
    assert at == {16}


def test_clip_never_splits_a_wide_character():
    assert render.clip("日本語", 4) == "日…"
    assert render.clip("日本語", 5) == "日本…"
    assert render.clip("abc", 3) == "abc"
    assert render.clip("abc", 0) == ""


def test_a_row_stays_one_row():
    shown = render.one_line("a\nb\tc\x1b[31md\x7f\u2028e\x9b\u202ef")
    assert shown.isprintable()
    assert "\n" not in shown
    assert "\x1b" not in shown
    assert "␤" in shown
    assert render.one_line("émoji 🎉 and nbsp\u00a0") == "émoji 🎉 and nbsp\u00a0"


def test_colours_change_nothing_but_escapes():
    rows = [("a", "dead", "dead"), ("b", "completed", "true")]
    painted = lines(rows, colour=True)
    plain = lines(rows)
    for escape in [*render.COLOURS.values(), render.PLAIN]:
        painted = [line.replace(escape, "") for line in painted]
    assert painted == plain


def test_every_colour_is_one_of_the_sixteen():
    for escape in render.COLOURS.values():
        code = int(escape[2:-1])
        assert code == 1 or 30 <= code <= 37 or 90 <= code <= 97
    assert set(render.STATE_COLOURS) <= set(STATES)


@pytest.mark.parametrize(
    ("age", "said"),
    [(0.2, "now"), (5, "5s ago"), (-90, "in 1m30s"), (200_000, "2d7h ago")],
)
def test_moments_for_people(age, said):
    now = 1_800_000_000.0
    assert render.moment(format_time(now - age), now) == said


def test_moments_elsewhere_are_exact():
    text = format_time(1_800_000_000.25)
    assert render.moment(text, None) == text == "2027-01-15T08:00:00.250000Z"
    assert render.moment(None, None) == render.moment(None, 5.0) == "-"


def test_json_arrays_hold_one_value_a_line():
    for values in ([], [1], [{"a": "ü"}, {"b": None}]):
        text = "\n".join(forms.json_array(values))
        assert json.loads(text) == values
        assert text.count("\n") == len(values) + 1


def test_json_documents_name_their_schema_first():
    (text,) = forms.json_text({"b": "ü"})
    assert list(json.loads(text)) == ["schema", "b"]
    assert json.loads(text)["schema"] == 1
    assert "ü" in text


def test_a_text_is_brief_and_safe():
    assert render.brief("a\nb\x1b" + "c" * 5000, 10) == "a\u2424b\u241bccccc…"
    assert render.brief(17) == "17"
    assert render.safe_lines("a\tb\n\x1b[2Jc") == "a\tb\n\u241b[2Jc"


def test_of_many_lines_the_first_are_shown():
    shown = render.block([f"line {number}" for number in range(1, 31)]).split("\n")
    assert shown[19:] == ["line 20", "… and 10 more lines (--json shows all)"]
    assert render.block(["x" * 5000]) == "x" * 999 + "…"


def test_a_text_that_is_not_a_time_is_shown_as_it_stands():
    assert render.moment("yesterday\x1b", 5.0) == "yesterday\u241b"


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("abc", 3),
        ("日本語", 6),
        ("e\u0301", 1),
        ("👩\u200d👩\u200d👧", 2),
        ("🇩🇪🇫🇷", 4),
        ("👍🏽", 2),
        ("❤\ufe0f", 2),
    ],
)
def test_wide_joined_and_combining_characters_align(text, columns):
    assert render.cells(text) == columns
    assert "".join(render.graphemes(text)) == text
    row = lines([(text, "pending", "x"), ("a", "pending", "x")])[2]
    assert row.index("pending") == 16 - columns + len(text)
    for width in range(columns + 4):
        cut = render.clip(text + "abcd", width)
        assert render.cells(cut) <= width
        assert cut in ("", text + "abcd") or cut.endswith("…")
        assert (text + "abcd").startswith(cut.rstrip("…"))


def test_joined_signs_are_never_cut_in_two():
    family, accent, flag = "👩\u200d👩\u200d👧", "e\u0301", "🇩🇪"
    assert [*render.graphemes(f"a{family}{accent}{flag}{flag}b")] == [
        "a", family, accent, flag, flag, "b",
    ]  # fmt: skip
    assert render.clip(family * 3, 4) == family + "…"
    assert render.clip(accent * 3, 2) == accent + "…"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("abc", "abc"),
        ("日本語", "日本語"),
        ("e\u0301", "e\u0301"),
        ("x👩\u200d👩\u200d👧y", "x👩y"),
        ("👩🏽\u200d💻", "👩"),
        ("🇩🇪🇫🇷", "DEFR"),
        ("👍🏽", "👍"),
        ("❤\ufe0f", "❤"),
        ("1\ufe0f\u20e3", "1\u20e3"),
        ("\u200d🏽\ufe0f", ""),
    ],
)
def test_signs_are_shown_unjoined_where_each_takes_its_columns(text, shown):
    assert render.unjoined(text) == shown
    assert render.cells(shown) == get_cwidth(shown)


@given(st.text(st.sampled_from("a日e\u0301\u200d👩🏽🇩🇪❤\ufe0f각\u1100\u1161")))
def test_unjoined_signs_take_the_same_columns_for_all(text):
    shown = render.unjoined(text)
    assert render.cells(shown) == get_cwidth(shown)
    assert render.unjoined(shown) == shown
