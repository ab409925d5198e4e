"""Moments as text and durations as seconds."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuectl.errors import InvalidInput
from queuectl.model.times import (
    LATEST,
    LONGEST,
    format_duration,
    format_time,
    parse_duration,
    parse_time,
)

MICROS_TO_2100 = st.integers(0, 4_102_444_800_000_000)


@given(MICROS_TO_2100)
def test_a_moment_is_spelled_as_datetime_spells_it(micros):
    known = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(microseconds=micros)
    text = format_time(micros / 1e6)
    assert text == known.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    assert round(parse_time(text) * 1e6) == micros


@given(st.lists(st.floats(0, LATEST), min_size=2, max_size=2))
def test_text_order_is_time_order(pair):
    early, late = sorted(pair)
    assert format_time(early) <= format_time(late)
    assert len(format_time(early)) == 27


def test_moments_outside_the_years_are_clamped():
    assert format_time(-5) == "1970-01-01T00:00:00.000000Z"
    assert format_time(1e300) == "9999-12-31T23:59:59.000000Z"
    assert format_time(float("inf")) == "9999-12-31T23:59:59.000000Z"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("2026-01-31T08:30:00Z", "2026-01-31T08:30:00.000000Z"),
        ("2026-01-31t08:30:00z", "2026-01-31T08:30:00.000000Z"),
        ("  2026-01-31 08:30:00Z ", "2026-01-31T08:30:00.000000Z"),
        ("2026-01-31T08:30:00.5Z", "2026-01-31T08:30:00.500000Z"),
        ("2026-01-31T08:30:00.123456789Z", "2026-01-31T08:30:00.123456Z"),
        ("2026-01-31T09:30:00+01:00", "2026-01-31T08:30:00.000000Z"),
        ("2026-01-31T00:30:00.25-08:00", "2026-01-31T08:30:00.250000Z"),
        ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00.000000Z"),
        ("2024-02-29T23:59:59Z", "2024-02-29T23:59:59.000000Z"),
    ],
)
def test_times_are_read_and_normalised(text, wanted):
    assert format_time(parse_time(text)) == wanted


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("2026-01-31T08:30:00", "names no zone"),
        ("2026-01-31", "names no zone"),
        ("", "is not a time like"),
        ("   ", "is not a time like"),
        ("now", "is not a time like"),
        ("Z", "is not a time like"),
        ("1750000000", "is not a time like"),
        ("2026-02-30T08:30:00Z", "is not a time like"),
        ("2026-01-31T25:30:00Z", "is not a time like"),
        ("2026-01-31T08:30:00+99:00", "is not a time like"),
        ("1969-12-31T23:59:59Z", "outside the years 1970 to 9999"),
        ("0001-01-01T00:00:00+14:00", "outside the years 1970 to 9999"),
        ("9999-12-31T23:59:59-14:00", "outside the years 1970 to 9999"),
        ("2026-01-31T08:30:00Zx", "is not a time like"),
    ],
)
def test_other_times_are_refused(text, complaint):
    with pytest.raises(InvalidInput, match=complaint):
        parse_time(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("1.5", 1.5),
        ("0", 0),
        ("90s", 90),
        ("5m", 300),
        ("1h30m", 5400),
        ("2d", 172_800),
        ("1w", 604_800),
        ("250ms", 0.25),
        (" 10 ", 10),
        ("1h0.5m", 3630),
    ],
)
def test_durations_are_read(text, seconds):
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    ["", " ", "m", "5x", "-5", "+5", "1..5", ".", "1e5", "5 m", "inf", "nan", "5M", "1h-1m", "٣"],
)
def test_other_durations_are_refused(text):
    with pytest.raises(InvalidInput, match="is not a duration like"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["9" * 400, "99999w", f"{LONGEST + 1:.0f}"])
def test_durations_of_a_lifetime_are_refused(text):
    with pytest.raises(InvalidInput, match="is longer than"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.25, "250ms"),
        (12, "12s"),
        (59.6, "1m"),
        (300, "5m"),
        (5400, "1h30m"),
        (183_600, "2d3h"),
        (183_661, "2d3h"),
    ],
)
def test_durations_for_people_have_two_units_at_most(seconds, text):
    assert format_duration(seconds) == text


@given(st.integers(0, 10**8))
def test_shown_durations_can_be_read_back(seconds):
    assert parse_duration(format_duration(seconds)) <= seconds
