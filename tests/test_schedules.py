"""Schedules: when they are due, what a claim does with one, and how they are enqueued."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import sys
from datetime import datetime, timedelta, timezone
from itertools import islice
from zoneinfo import ZoneInfo, reset_tzpath

import pytest
from cronsim import CronSim
from memory_store import MemoryStore
from samples import START, make_job, moment, put

from queuectl.commands.zones import zone_here
from queuectl.errors import Conflict, InvalidInput
from queuectl.job_queue import JobQueue
from queuectl.model.cron import next_fitting
from queuectl.model.fields import LONGEST_ID, MOST_RETRIES
from queuectl.model.lifecycle import Outcome
from queuectl.model.schedule import fired, next_time
from queuectl.model.times import LATEST, format_time, parse_time
from queuectl.store.files.file_store import FileStore
from queuectl.store.files.firing import fire

DAY = 86_400


def schedule(job_id="s", **fields):
    return make_job(job_id, **{"every": 60.0, **fields})


# -- the next time


@pytest.mark.parametrize(
    ("every", "now", "due"),
    [
        (60, 0, 60),
        (60, 59.9, 60),
        (60, 60, 120),  # not at this moment: that is now
        (60, 61, 120),
        (60, 14 * DAY, 14 * DAY + 60),
        (60, -5, 60),  # the clock was set back since it was due
        (1, 3599.5, 3600),
        (0.1 + 0.2 + 0.7, 1e6, 1e6 + 1),  # counted in whole microseconds
    ],
)
def test_every_counts_from_when_it_was_due(every, now, due):
    assert next_time(schedule(every=every), moment(now)) == moment(due)


def test_every_does_not_drift():
    job = schedule(every=1.1)
    for number in range(1, 500):
        job, copy = fired(job, f"s:{number}", moment(1.1 * (number - 1) + 0.05), lives=False)
        assert (job.run_at, copy.planned) == (moment(1.1 * number), moment(1.1 * (number - 1)))


# What a clock change does, as Debian's cron has it: a time that is left out comes at once behind
# the change, one that comes twice counts the first time, and what begins with * follows the clock.
BERLIN, NEW_YORK = "Europe/Berlin", "America/New_York"
CHANGES = [
    # zone, fields, from when on, when it then fits; in local time with its offset
    ("Europe/Berlin", "30 2 * * *", "2026-03-28T12:00+01:00", ["29T03:00+02:00", "30T02:30+02:00"]),
    ("Europe/Berlin", "30 2 * * *", "2026-10-24T12:00+02:00", ["25T02:30+02:00", "26T02:30+01:00"]),
    # From within the hour that comes twice, its second time.
    ("Europe/Berlin", "30 2 * * *", "2026-10-25T02:10+01:00", ["26T02:30+01:00"]),
    (
        "Europe/Berlin",
        "*/30 * * * *",
        "2026-03-29T01:15+01:00",
        ["29T01:30+01:00", "29T03:00+02:00"],
    ),
    (
        *("Europe/Berlin", "*/30 * * * *", "2026-10-25T02:15+02:00"),
        ["25T02:30+02:00", "25T02:00+01:00", "25T02:30+01:00", "25T03:00+01:00"],
    ),
    (
        "America/New_York",
        "15 2 * * *",
        "2026-03-07T12:00-05:00",
        ["08T03:00-04:00", "09T02:15-04:00"],
    ),
    (
        "America/New_York",
        "15 1 * * *",
        "2026-10-31T12:00-04:00",
        ["01T01:15-04:00", "02T01:15-05:00"],
    ),
    # Half an hour, a change at midnight, and a whole day that is left out.
    ("Australia/Lord_Howe", "15 2 * * *", "2026-10-03T12:00+10:30", ["04T02:30+11:00"]),
    ("Asia/Beirut", "30 0 * * *", "2026-03-28T12:00+02:00", ["29T01:00+03:00", "30T00:30+03:00"]),
    ("Pacific/Apia", "0 9 * * *", "2011-12-29T12:00-10:00", ["31T00:00+14:00", "31T09:00+14:00"]),
    ("UTC", "0 0 29 2 *", "2026-01-01T00:00+00:00", ["29T00:00+00:00"]),  # 2028
    ("Europe/Berlin", "@daily", "2026-06-01T00:00+02:00", ["02T00:00+02:00"]),  # not that moment
    ("Europe/Berlin", "0 12 1 * mon", "2026-06-01T12:00+02:00", ["08T12:00+02:00"]),
]


@pytest.mark.parametrize(("zone", "fields", "after", "fits"), CHANGES)
def test_the_clock_changes_as_debians_cron_has_it(zone, fields, after, fits):
    at, found = datetime.fromisoformat(after).timestamp(), []
    for _ in fits:
        at = next_fitting(fields, zone, at)
        found.append(datetime.fromtimestamp(at, ZoneInfo(zone)).isoformat(timespec="minutes")[8:])
    assert found == fits


ZONES = ("Europe/London", "America/Santiago", "Australia/Lord_Howe", "Africa/Cairo", "Asia/Tehran")


@pytest.mark.parametrize("zone", [*ZONES, "America/St_Johns"])
@pytest.mark.parametrize("fields", ["30 1 * * *", "0 0 * * *", "17 */3 * * *", "5,35 2-3 * * 0"])
def test_one_step_at_a_time_a_year_is_as_cronsim_goes_through_it(zone, fields):
    start = datetime(2020, 1, 1, 12, tzinfo=ZoneInfo(zone))
    at, wanted = start.timestamp(), islice(CronSim(fields, start), 600)
    for fits in wanted:
        # Asked at any moment between two times, it is the same.
        assert next_fitting(fields, zone, (at + fits.timestamp()) / 2) == fits.timestamp()
        at = next_fitting(fields, zone, at)
        assert at == fits.timestamp()


@pytest.mark.parametrize(
    ("fields", "zone", "complaint"),
    [
        ("0 25 * * *", "UTC", "cron '0 25 \\* \\* \\*': Bad hour; cron takes minute, hour, day"),
        (
            "0 0 30 2 *",
            "UTC",
            "'0 0 30 2 \\*': it never fits, because none of its months has such a day",
        ),
        ("0 0 31 4,6 *", "UTC", "it never fits"),
        ("0 0 32 2 *", "UTC", "Bad day-of-month; cron takes"),
        ("@reboot", "UTC", "cron '@reboot': cron takes minute"),
        ("0 0 0 * * *", "UTC", "cron takes minute, hour, day"),
        ("0 0 \x7f * *", "UTC", "cron takes"),
        ("0 0 * * *", "Europe/Nowhere", "tz: there is no time zone 'Europe/Nowhere' here"),
        ("0 0 * * *", "../../etc/passwd", "there is no time zone"),
        ("0 0 * * *", "Europe", "there is no time zone"),
    ],
)
def test_a_schedule_that_never_fits_is_refused(fields, zone, complaint):
    with pytest.raises(InvalidInput, match=complaint):
        next_fitting(fields, zone, 1e9)


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/New_York"])
def test_no_time_fits_behind_the_last_year(zone):
    with pytest.raises(InvalidInput, match="it never fits"):
        next_fitting("@daily", zone, LATEST)


def test_a_machine_without_time_zones_says_what_to_install(monkeypatch, request):
    monkeypatch.setitem(sys.modules, "tzdata", None)
    ZoneInfo.clear_cache()
    reset_tzpath([])
    request.addfinalizer(reset_tzpath)
    with pytest.raises(InvalidInput, match="this machine has no time zones: install tzdata"):
        next_fitting("0 0 * * *", "Europe/Vienna", 1e9)
    assert next_fitting("0 0 * * *", "UTC", 0.0) == DAY


def test_the_zone_of_this_machine_has_a_name(tmp_path):
    etc = str(tmp_path)
    assert zone_here({"TZ": ":Asia/Tokyo"}, etc) == "Asia/Tokyo"
    assert zone_here({"TZ": ""}, etc) == "UTC"
    assert zone_here({"TZ": "/usr/share/zoneinfo/Asia/Tokyo"}, etc) == "Asia/Tokyo"
    assert zone_here({}, etc) == "UTC"
    os.symlink("../usr/share/zoneinfo/Europe/Berlin", tmp_path / "localtime")
    assert zone_here({}, etc) == "Europe/Berlin"
    os.unlink(tmp_path / "localtime")
    (tmp_path / "localtime").write_bytes(b"TZif")
    with pytest.raises(InvalidInput, match="has no name: give --tz, like --tz UTC"):
        zone_here({}, etc)
    (tmp_path / "timezone").write_text("Europe/Paris\n")
    assert zone_here({}, etc) == "Europe/Paris"


# -- firing


def test_a_copy_is_an_ordinary_job_of_its_own():
    given = {
        **{"priority": 3, "tags": ("a",), "env": {"A": "b"}, "cwd": "/x", "timeout": 5.0},
        **{"max_retries": 1, "rerun": False, "retry_on": [75], "env_set": "ab", "env_file": "/e"},
        **{"extra": {"note": 1}, "created_at": moment(-9)},
    }
    job = schedule(**given, unique="k", last="s:0", history=({"event": "skip"},), rev=7)
    new, copy = fired(job, "s:1", moment(2), lives=False)
    assert new == job._replace(run_at=moment(60), last="s:1", rev=8, updated_at=moment(2))
    times = {"run_at": moment(), "created_at": moment(2), "updated_at": moment(2)}
    assert copy == make_job("s:1", **{**given, **times, "planned": moment()})


@pytest.mark.parametrize(
    ("fields", "now", "lives", "reason"),
    [
        ({}, 0, True, "overlap"),
        ({"overlap": True}, 0, True, None),
        ({}, 9999, False, None),
        ({"catch_up": False}, 60, False, None),
        ({"catch_up": False}, 61, False, "late"),
        ({"catch_up": False}, 61, True, "overlap"),
    ],
)
def test_times_that_are_left_out_are_noted(fields, now, lives, reason):
    new, copy = fired(schedule(**fields), "s:1", moment(now), lives=lives)
    assert new.state == "pending"
    assert new.run_at > moment(now)
    assert (copy is None) is (reason is not None)
    entry = {"event": "skip", "at": moment(now), "run": 0, "reason": reason, "planned": moment()}
    assert new.history == ((entry,) if reason else ())
    assert new.last == (None if reason else "s:1")


def test_a_schedule_whose_next_time_cannot_be_told_runs_once_more_and_is_dead():
    new, copy = fired(make_job("s", cron="* * * * 9", tz="UTC"), "s:1", moment(1), lives=False)
    assert (new.state, new.finished_at, new.last) == ("dead", moment(1), "s:1")
    assert new.error.startswith("cron '* * * * 9': Bad day-of-week; cron takes minute,")
    assert copy.id == "s:1"


# -- in a store


class Clocked:
    """A queue whose time is a value, and a worker of it."""

    def __init__(self, store):
        self.seconds, self.queue, self.held = 0.0, JobQueue(store), None
        store.now = lambda: START + self.seconds
        if isinstance(store, FileStore):
            store._writer._now = store.now

    def add(self, **fields):
        self.queue.enqueue([{"id": "s", "command": "true", **fields}])

    def claim(self, seconds, code=0):
        """The next job at this moment, the one before having ended."""
        self.seconds = seconds
        finished = self.held and (self.held, Outcome("exited", code, None, moment(seconds)))
        self.held = self.queue.claim("w", finished)
        return self.held

    def runs(self, *moments, code=0):
        """For each copy that was run at one of the moments, the moment and when it was planned."""
        claimed = [(at, self.claim(at, code)) for at in moments]
        return [(at, parse_time(job.planned) - START) for at, job in claimed if job]


@pytest.fixture(params=["files", "memory"])
def clocked(request, data_dir):
    store = FileStore(data_dir) if request.param == "files" else MemoryStore()
    yield (found := Clocked(store))
    found.queue.close()


def test_a_schedule_of_a_file_may_have_any_id_and_change_for_ever(clocked):
    """A million changes are those of twelve days, at one each second."""
    clocked.queue.store.add([schedule("s" * LONGEST_ID, every=1.0, rev=MOST_RETRIES)])
    clocked.queue.store.change(["s" * LONGEST_ID], lambda job: job._replace(rev=job.rev + 1))
    assert len(clocked.claim(0).id) <= LONGEST_ID
    clocked.queue.checkpoint()
    assert [job.rev for job in clocked.queue.find()] == [MOST_RETRIES + 2, 2]


def test_a_schedule_runs_a_copy_again_and_again(clocked):
    clocked.add(every="1m")
    assert clocked.runs(0, 1, 59, 60, 61, 125, 180) == [(0, 0), (60, 60), (125, 120), (180, 180)]
    copies = [job for job in clocked.queue.find() if job.id != "s"]
    assert [job.state for job in copies] == ["completed"] * 3 + ["in_progress"]
    assert all(job.id.startswith("s:") and job.run == 1 and job.every is None for job in copies)
    assert clocked.queue.get("s").last == copies[-1].id
    assert clocked.queue.counts()["pending"] == 1
    assert not clocked.queue.is_drained()
    clocked.claim(181)
    assert clocked.queue.is_drained()


def test_after_two_weeks_off_it_runs_once(clocked):
    clocked.add(every=60)
    late = 14 * DAY + 5
    once = [(0, 0), (late, 60), (late + 55, late + 55)]
    assert clocked.runs(0, late, late + 1, late + 54, late + 55) == once


def test_a_clock_that_is_set_doubles_nothing(clocked):
    clocked.add(every=60)
    year = 365 * DAY
    assert clocked.runs(0, 1, year + 1, year + 2) == [(0, 0), (year + 1, 60)]
    assert clocked.runs(2, DAY, year + 59) == []  # back: it waits for the moment that it has
    assert clocked.runs(year + 60) == [(year + 60, year + 60)]
    clocked.claim(0)
    clocked.queue.retry(["s"])  # a person need not wait for it
    assert clocked.runs(0, 59, 60) == [(0, 0), (60, 60)]


def test_by_the_clock_one_copy_makes_up_for_what_was_missed(clocked):
    noon = parse_time("2027-01-15T12:00:00Z") - START
    clocked.seconds = noon - 3600
    clocked.add(cron="0 12 * * *", tz="UTC")
    assert clocked.queue.get("s").run_at == moment(noon)
    late = noon + 3 * DAY + 7
    assert clocked.runs(noon - 1, noon, late, late + 1) == [(noon, noon), (late, noon + DAY)]
    assert clocked.queue.get("s").run_at == moment(noon + 4 * DAY)


def test_while_a_copy_lives_none_is_added(clocked):
    clocked.add(every=60, max_retries=1, retry_delay=90, base=1)
    copy = clocked.claim(0)
    assert clocked.queue.claim("w2") is None
    clocked.seconds = 60
    assert clocked.queue.claim("w2") is None  # it runs
    assert clocked.claim(70, code=1) is None  # it failed, and waits until 160
    assert clocked.claim(120) is None
    assert clocked.claim(160).id == copy.id
    assert clocked.runs(181) == [(181, 180)]  # it completed in that very step
    skips = [entry["planned"] for entry in clocked.queue.get("s").history]
    assert skips == [moment(60), moment(120)]


def test_a_copy_that_waits_behind_the_window_is_looked_up(data_dir):
    clocked = Clocked(FileStore(data_dir))
    clocked.add(every=60, max_retries=1, retry_delay=1000, base=1)
    assert clocked.claim(0)
    assert clocked.claim(1, code=1) is None
    store = clocked.queue.store
    with store._writer.writing() as journal:
        live = store._writer.live(journal)
        live._forget(clocked.queue.get("s").last.encode())
        live._later_end = moment(500).encode()
        lines, moves = [], []
        how = (lambda _: (), lines, moves)
        job = clocked.queue.get("s")
        assert fire(store._writer, journal, job, moment(60), *how) is None
    assert moves == [("pending", "pending")]
    assert b'"reason": "overlap"' in lines[0]


def test_the_end_of_a_schedule_adds_a_hook(clocked):
    clocked.queue.change_settings({"on-dead": "tell"})
    broken = make_job("s", cron="* * * * 9", tz="UTC")
    clocked.queue.store.add([broken])
    assert clocked.claim(1).id.startswith("s:")
    hook = clocked.claim(2)
    assert (hook.command, hook.env["QUEUECTL_OF"]) == ("tell", "s")
    assert clocked.queue.get("s").state == "dead"


def test_many_workers_that_meet_it_run_one_copy(data_dir):
    queues = [JobQueue(FileStore(data_dir)) for _ in range(8)]
    queues[0].enqueue([{"command": "true", "every": 3600} for _ in range(3)])
    found = [queue.claim(f"w{number}") for number, queue in enumerate(queues)]
    assert [job is not None for job in found] == [True] * 3 + [False] * 5
    assert queues[7].counts() == {**queues[7].counts(), "pending": 3, "in_progress": 3}


def test_a_pause_holds_a_schedule_and_then_it_runs_once(clocked):
    clocked.add(every=60, tags=["t"])
    assert clocked.runs(0, 1) == [(0, 0)]
    clocked.queue.change_settings({"paused": ["t"]})
    assert clocked.runs(60, 500) == []
    clocked.queue.change_settings({"paused": []})
    assert clocked.runs(501, 502, 540) == [(501, 60), (540, 540)]


def test_a_cancelled_schedule_rests_and_its_copy_runs_on(clocked):
    clocked.add(every=60)
    copy = clocked.claim(0)
    clocked.queue.cancel(["s"])
    assert clocked.queue.get(copy.id).state == "in_progress"
    assert clocked.runs(60, 600) == []
    clocked.queue.retry(["s"])
    assert clocked.runs(600, 659, 660) == [(660, 660)]  # it waits for its next time
    clocked.queue.cancel(["s"])
    clocked.queue.update("s", {"state": "pending"})
    clocked.queue.retry(["s"])  # once more makes it due
    assert clocked.runs(661, 719, 720) == [(661, 660), (720, 720)]


def test_a_schedule_that_comes_back_with_a_parent_waits_for_its_next_time(clocked):
    clocked.queue.enqueue([{"id": "p", "command": "true", "run_at": moment(1000)}])
    clocked.add(every=60, after=["p"])
    clocked.queue.cancel(["p"])
    assert clocked.queue.get("s").state == "cancelled"
    clocked.seconds = 130
    clocked.queue.retry(["p"])
    job = clocked.queue.get("s")
    assert (job.state, job.run_at) == ("pending", moment(180))


def test_an_update_plans_it_anew(clocked):
    clocked.add(every=60)
    clocked.claim(0)
    queue = clocked.queue
    clocked.seconds = 5
    assert queue.update("s", {"every": 600}).run_at == moment(605)
    assert queue.update("s", {"command": "false", "overlap": True}).run_at == moment(605)
    assert queue.update("s", {"every": 60, "run_at": moment(9)}).run_at == moment(9)
    noon = parse_time("2027-01-15T12:00:00Z")
    job = queue.update("s", {"cron": "0 12 * * *", "tz": "UTC"})
    assert (job.every, job.cron, parse_time(job.run_at)) == (None, "0 12 * * *", noon)
    job = queue.update("s", {"tz": "Europe/Berlin"})
    assert parse_time(job.run_at) == noon - 3600
    job = queue.update("s", {"every": 60})
    assert (job.cron, job.tz, job.run_at) == (None, None, moment(65))
    for changes, why in (
        ({"cron": "0 12 * * *"}, "cron needs a tz"),
        ({"tz": "UTC"}, "tz goes with cron"),
        ({"cron": "0 25 * * *", "tz": "UTC"}, "Bad hour"),
        ({"every": 5, "cron": "@daily"}, "give every or cron, not both"),
    ):
        with pytest.raises((InvalidInput, Conflict), match=why):
            queue.update("s", changes)
    queue.enqueue([{"id": "plain", "command": "true"}])
    with pytest.raises(Conflict, match="is not a schedule and stays so"):
        queue.update("plain", {"every": 5})
    with pytest.raises(Conflict, match="job 'plain': overlap goes with every or cron"):
        queue.update("plain", {"overlap": True})
    assert queue.get("s") == job


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"every": 0.5}, "every must be at least 1 second, not 0.5"),
        ({"every": "often"}, "every: 'often' is not a duration"),
        ({"every": 60, "cron": "@daily"}, "give every or cron, not both"),
        ({"every": 60, "tz": "UTC"}, "tz goes with cron"),
        ({"tz": "UTC"}, "tz goes with cron"),
        ({"catch_up": False}, "catch_up goes with every or cron"),
        ({"cron": "@daily"}, "cron needs a tz"),
        ({"cron": "1 * * *", "tz": "UTC"}, "cron takes minute, .*, not '1 \\* \\* \\*'"),
        ({"every": 60, "id": "x" * 101}, "at most 100 characters"),
        ({"every": 60, "last": "x"}, "field 'last' cannot be set"),
    ],
)
def test_a_mistake_in_a_schedule_is_refused(clocked, fields, complaint):
    with pytest.raises(InvalidInput, match=complaint):
        clocked.add(**fields)
    assert list(clocked.queue.find()) == []


def test_a_start_may_be_given(clocked):
    clocked.add(every=60, run_at=moment(100))
    assert clocked.runs(99, 100, 160) == [(100, 100), (160, 160)]
    noon = parse_time("2027-02-01T12:00:00Z")
    fields = {"command": "true", "cron": "0 12 * * *", "tz": "UTC"}
    [at, later] = clocked.queue.enqueue(
        [{**fields, "run_at": format_time(noon)}, {**fields, "run_at": format_time(noon + 1)}]
    )
    assert [parse_time(job.run_at) for job in (at, later)] == [noon, noon + DAY]


def test_a_hand_edit_makes_and_breaks_one(data_dir):
    clocked = Clocked(FileStore(data_dir))
    clocked.queue.enqueue([{"id": "a", "command": "true"}])
    clocked.queue.checkpoint()
    path = os.path.join(data_dir, "jobs.json")
    with open(path) as file:
        forms = json.load(file)
    forms[0] |= {"every": "1m"}
    forms.append({"id": "b", "command": "true", "cron": "61 * * * *", "tz": "UTC"})
    with open(path, "w") as file:
        json.dump(forms, file)
    assert [job.partition(":")[0] for job in (clocked.claim(9).id, clocked.claim(9).id)] == [
        "a",
        "b",
    ]
    assert clocked.queue.get("a").run_at == moment(60)
    assert clocked.queue.get("b").error.startswith("cron '61 * * * *': Bad minute")
    assert clocked.queue.get("b").state == "dead"


def test_a_restored_queue_makes_up_once_for_each(clocked):
    clocked.add(every=60)
    clocked.claim(0)
    clocked.claim(1)
    kept = list(clocked.queue.find())
    clocked.queue.store.refill = None  # the rest is as of a backup
    put(clocked.queue.store, kept[0]._replace(rev=9, last="s:gone"))
    assert clocked.runs(5 * DAY + 1, 5 * DAY + 2) == [(5 * DAY + 1, 60)]


# -- commands


@pytest.mark.parametrize("pip", ["-m pip install", None])
def test_without_the_extra_one_line_says_what_to_install(cli, monkeypatch, pip):
    monkeypatch.delitem(sys.modules, "queuectl.model.cron")
    monkeypatch.setitem(sys.modules, "cronsim", None)
    monkeypatch.setattr(sys, "executable", "/my venv/python")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: pip)
    refused = cli("enqueue", "--cron", "@daily", "--", "true")
    assert (refused.code, refused.out) == (2, "")
    python = "'/my venv/python'"
    install = f"{python} {pip} cronsim" if pip else f"uv pip install --python {python} cronsim"
    assert refused.err == f"queuectl: cron needs cronsim, not installed here: {install}\n"
    cli.ok("enqueue", "--every", "1h", "--", "true")


def test_a_copy_knows_its_schedule_and_commands_show_it(cli, monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    cli.ok(
        "enqueue", "--id", "s", "--every", "1h", "--overlap", "--", "printenv", "QUEUECTL_PLANNED"
    )
    cli.ok("enqueue", "--id", "c", "--cron", "0 12 * * *", "--no-catch-up", "--", "true")
    before = json.loads(cli.ok("show", "s", "--json"))["job"]
    assert cli("worker", "run", "--drain").code == 0
    after = json.loads(cli.ok("show", "s", "--json"))["job"]
    copy = after["last"]
    assert cli.ok("logs", copy) == before["run_at"] + "\n"
    hour = timedelta(hours=1).total_seconds()
    assert parse_time(after["run_at"]) == parse_time(before["run_at"]) + hour
    shown = json.loads(cli.ok("show", "c", "--json"))["job"]
    assert (shown["tz"], shown["catch_up"], shown["overlap"]) == ("Asia/Tokyo", False, False)
    assert datetime.fromtimestamp(parse_time(shown["run_at"]), timezone.utc).hour == 3
    assert "Schedule      : every 1h; beside the copy before\n" in cli.ok("show", "s")
    assert "Schedule      : cron 0 12 * * *, Asia/Tokyo; not what is late\n" in cli.ok("show", "c")
    assert f"Planned       : {before['run_at']}\n" in cli.ok("show", copy)
    rows = cli.ok("list").splitlines()
    assert rows[0].split() == ["ID", "State", "Next", "Command"]
    assert [row.split()[:3] for row in rows[2:]] == [
        ["s", "pending", after["run_at"]],
        ["c", "pending", shown["run_at"]],
        [copy, "completed", "-"],
    ]
    assert cli.ok("list", "--fields", "next_run", "-q", "s") == after["run_at"] + "\n"
    why = json.loads(cli.ok("explain", "s", "--json"))
    codes = ["schedule", "scheduled", "no_workers", "latest_copy"]
    assert [reason["code"] for reason in why["reasons"]] == codes
    assert format_time(parse_time(after["run_at"]) + 2 * hour) in why["reasons"][1]["text"]
    told = f"Its latest copy {copy}, which was due {before['run_at']}, is completed."
    assert why["reasons"][3]["text"] == told
    assert why["retries"] == []
    exported = [json.loads(line) for line in cli.ok("list", "--jsonl", "--input").splitlines()]
    assert {"every": 3600.0, "overlap": True}.items() <= exported[0].items()
    assert {"cron": "0 12 * * *", "tz": "Asia/Tokyo", "catch_up": False}.items() <= exported[
        1
    ].items()
    assert not {"planned", "last"} & {name for form in exported for name in form}


def test_a_retry_says_when_a_schedule_runs_next(cli):
    cli.ok("enqueue", "--id", "s", "--every", "1h", "--", "true")
    cli.ok("cancel", "s")
    due = r"Job 's' is pending; it is due \S+Z\. 'retry s' has it run now\.\n"
    assert re.fullmatch(due, cli.ok("retry", "s"))
    assert cli.ok("retry", "s") == "Job 's' is pending and due now.\n"


def test_nobody_waits_for_a_schedule(cli):
    cli.ok("enqueue", "--id", "s", "--every", "1h", "--tag", "t", "--", "true")
    assert "'s' is a schedule, and runs as copies: none has run yet" in cli("logs", "s").err
    cli("worker", "run", "--drain")
    copy = json.loads(cli.ok("show", "s", "--json"))["job"]["last"]
    for argv in (["wait", "s"], ["logs", "s", "-f"]):
        refused = cli(*argv)
        assert refused.code == 2
        assert "job 's' is a schedule" in refused.err
        assert copy in refused.err
    assert cli.ok("wait", "--tag", "t", "--timeout", "5s") == f"Job '{copy}' is completed.\n"
    assert "No job was left to wait for." in cli.ok("wait", "--all", "--timeout", "5s")


def test_a_schedule_is_explained_with_what_became_of_it(cli):
    cli.ok("enqueue", "--id", "s", "--every", "1h", "--", "true")
    assert "No copy of it has run yet." in cli.ok("explain", "s")
    queue = JobQueue.open(cli.folder)
    copy = queue.claim("w")
    queue.update("s", {"run_at": copy.planned})
    assert queue.claim("w") is None
    queue.close()
    lines = cli.ok("explain", "s").splitlines()[1:]
    assert lines[0] == "  It is a schedule (every 1h): a copy of it runs each time it is due."
    assert lines[-3:] == [
        f"  Its latest copy {copy.id}, which was due {copy.planned}, is in_progress.",
        "  Until that copy ends, what is due is left out.",
        f"  What was due {copy.planned} was left out, as the copy before it was still alive.",
    ]
    cli.ok("cancel", "s")
    assert "cancelled\nlatest_copy\nskipped\n" in cli.ok("explain", "s", "-q")


def test_a_time_zone_that_is_null_is_not_set(cli, monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    cli.ok("enqueue", '{"id": "c", "command": "true", "cron": "@daily", "tz": null}')
    cli.ok("enqueue", "{id: e, command: true, every: 1h, cron: null, tz: null}")
    cli.ok("enqueue", "{id: u, command: true, cron: @daily, tz: UTC, every: null}")
    for job_id, cron in (("e", "@hourly"), ("u", "@hourly")):
        cli.ok("update", job_id, "--cron", cron)
    shown = cli.ok("list", "--fields", "id,cron,tz", "--tsv", "-q").splitlines()
    assert shown == ["c\t@daily\tAsia/Tokyo", "e\t@hourly\tAsia/Tokyo", "u\t@hourly\tUTC"]
    cli.ok("update", '{"id": "u", "cron": "@daily", "tz": null}')
    assert cli.ok("list", "u", "--fields", "tz", "-q") == "Asia/Tokyo\n"


def test_a_schedule_is_refused_while_an_older_worker_lives(cli, older):
    older.run("worker", "start")
    queue = JobQueue.open(cli.folder)
    of_today = queue.register_worker()
    refused = cli("enqueue", "--every", "1h", "--", "true")
    queue.release_worker(of_today)
    assert (refused.code, refused.out) == (5, "")
    assert "1 worker(s) of an older queuectl still run: queuectl worker stop" in refused.err
    cli.ok("enqueue", "--id", "plain", "--delay", "1h", "--", "true")
    cli.ok("worker", "stop")
    cli.ok("enqueue", "--every", "1h", "--", "true")
