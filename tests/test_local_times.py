"""Times without a zone: read on this machine's clock, answered with their offset, never guessed."""

from __future__ import annotations

import json
import time

import pytest

from queuectl.commands.grammar.local_times import read_past, read_time
from queuectl.errors import InvalidInput
from queuectl.model.times import parse_time

NOW = 1_800_000_000.0  # 2027-01-15T08:00:00Z, a Friday


@pytest.fixture(params=["Europe/Berlin"])
def zone(request, monkeypatch):
    """The zone of this machine. Its rules are spelled out: not every machine knows the names."""
    rules = {
        "Europe/Berlin": "CET-1CEST,M3.5.0,M10.5.0/3",
        "America/St_Johns": "NST3:30NDT,M3.2.0,M11.1.0",
        "UTC": "UTC0",
    }
    monkeypatch.setenv("TZ", rules[request.param])
    time.tzset()
    yield request.param
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("18:30", "2027-01-15T18:30:00+01:00"),
        ("9:05", "2027-01-15T09:05:00+01:00"),
        ("08:00:30", "2027-01-15T08:00:30+01:00"),  # past: it stays the time of today
        ("today 00:00", "2027-01-15T00:00:00+01:00"),
        ("tomorrow 03:00", "2027-01-16T03:00:00+01:00"),
        ("Tomorrow  03:00", "2027-01-16T03:00:00+01:00"),
        ("2030-01-01 05:00", "2030-01-01T05:00:00+01:00"),
        ("2030-07-01T05:00:01", "2030-07-01T05:00:01+02:00"),
        ("2030-01-01T05:00:00Z", "2030-01-01T05:00:00.000000Z"),
        ("2030-01-01 05:00+01:00", "2030-01-01T04:00:00.000000Z"),
    ],
)
def test_a_time_is_read_on_the_clock_of_this_machine(zone, text, read):
    assert read_time(text, NOW) == read


@pytest.mark.parametrize("zone", ["America/St_Johns"], indirect=True)
def test_an_offset_of_half_an_hour_west_of_greenwich_is_kept(zone):
    assert read_time("2030-01-01 05:00", NOW) == "2030-01-01T05:00:00-03:30"
    assert read_time("2030-07-01 05:00", NOW) == "2030-07-01T05:00:00-02:30"


@pytest.mark.parametrize("zone", ["UTC"], indirect=True)
def test_a_machine_in_utc_has_no_offset(zone):
    assert read_time("2030-01-01 05:00", NOW) == "2030-01-01T05:00:00+00:00"
    assert read_time("1970-01-01 00:00", NOW) == "1970-01-01T00:00:00+00:00"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("2027-03-28 02:30", "the clock change here leaves out '2027-03-28 02:30'"),
        (
            "2027-10-31 02:30",
            "brings '2027-10-31 02:30' twice: write 2027-10-31T02:30:00+02:00 or "
            "2027-10-31T02:30:00+01:00",
        ),
        ("25:00", "'25:00' is not a time"),
        ("18:60", "'18:60' is not a time"),
        ("2027-02-29 05:00", "'2027-02-29 05:00' is not a time"),
        ("1969-01-01 05:00", "is not a time"),
        ("2030-01-01", "is not a time like 18:30"),
        ("tomorrow", "is not a time like 18:30"),
        ("now + 1 hour", "T08:30:00Z; for a time from now use --delay 1h"),
        ("5m", "for a time from now use --delay 5m"),
        ("soon", "is not a time like 18:30, tomorrow 03:00, 2026-01-31 08:30 or 2026"),
    ],
)
def test_a_text_that_is_not_a_single_time_is_refused(zone, text, complaint):
    with pytest.raises(InvalidInput) as caught:
        read_time(text, NOW)
    assert complaint in str(caught.value)


def test_a_day_alone_is_its_beginning_where_a_time_is_past(zone):
    assert read_past("2027-01-15") == read_past("2027-01-15 00:00")
    for day in ("today", "Yesterday"):
        assert read_past(day) == read_past(f"{day} 00:00")
    for text in ("tomorrow", "2027-02-29"):
        with pytest.raises(InvalidInput, match=f"'{text}.*' is not a time"):
            read_past(text)


def test_a_duration_in_words_is_told_as_one(zone):
    with pytest.raises(InvalidInput, match="time; for a time ago write 3d"):
        read_past("3 days")


def test_both_readings_of_a_time_that_comes_twice_are_accepted(zone):
    first, second = (
        parse_time(read_time(f"2027-10-31T02:30:00+0{hours}:00", NOW)) for hours in (2, 1)
    )
    assert second - first == 3600


def test_the_answer_tells_the_moment_with_its_offset(cli, zone):
    told = cli("enqueue", "--id", "a", "--run-at", "2030-01-01 05:00", "--", "true")
    assert told.code == 0
    assert told.err.startswith("Not before 2030-01-01T05:00:00+01:00.\n")
    told = cli("enqueue", "{id: b, command: true, run_at: 2020-01-01 05:00}")
    assert "2020-01-01T05:00:00+01:00 is past: it is due now.\n" in told.err
    told = cli("enqueue", "--run-at", "00:00", "--", "true").err
    assert "T00:00:00+0" in told
    assert " is past: it is due now ('tomorrow 00:00' is the next such time).\n" in told
    told = cli("update", "a", "--run-at", "2031-01-01 05:00")
    assert told.err == "Not before 2031-01-01T05:00:00+01:00.\n"
    assert cli("-q", "update", "a", "--run-at", "2031-01-01 05:00").err == ""
    assert cli("update", "a", "--run-at", "2031-01-01T05:00:00Z").err == ""
    told = cli("update", '{"id": "a", "run_at": "2031-01-01 05:00"}')
    assert told.err == "Not before 2031-01-01T05:00:00+01:00.\n"
    moments = [json.loads(cli.ok("show", name, "--json"))["job"]["run_at"] for name in "ab"]
    assert moments == ["2031-01-01T04:00:00.000000Z", "2020-01-01T04:00:00.000000Z"]


def test_a_delay_is_a_field_wherever_a_job_is_written(cli, tmp_path):
    before = time.time()
    cli.ok("enqueue", "{id: a, command: true, delay: 1h}")
    (tmp_path / "jobs").write_text('{"id": "b", "command": "true", "delay": 3600}\n')
    cli.ok("enqueue", "--file", str(tmp_path / "jobs"))
    cli.ok("enqueue", "--id", "c", "--", "true")
    cli.ok("update", "{id: c, delay: 60m}")
    for job in json.loads(cli.ok("list", "--json")):
        assert 3599 < parse_time(job["run_at"]) - before < 3700, job["id"]
        assert "delay" not in job
    (tmp_path / "jobs").write_text('{"command": "true", "delay": 1, "run_at": "18:30"}\n')
    refused = cli("enqueue", "--file", str(tmp_path / "jobs"))
    assert (refused.code, refused.out) == (2, "")
    assert "jobs:1: give run_at or delay, not both" in refused.err
