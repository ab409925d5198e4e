"""Schedules: when they are due, what a claim makes of one, and how they are handed in."""

from __future__ import annotations

import pytest
from memory_store import MemoryStore
from samples import START, make_job, moment

from queuectl.job_queue import JobQueue
from queuectl.model.lifecycle import Outcome
from queuectl.model.schedule import fired, next_time
from queuectl.model.times import parse_time
from queuectl.store.files.file_store import FileStore


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
        (60, 14 * 86_400, 14 * 86_400 + 60),
        (60, -5, 60),  # the clock was set back since it was due
        (1, 3599.5, 3600),
        (0.1 + 0.2 + 0.7, 1e6, 1e6 + 1),  # counted in whole microseconds, so that nothing drifts
    ],
)
def test_every_counts_from_when_it_was_due(every, now, due):
    assert next_time(schedule(every=every), moment(now)) == moment(due)


def test_every_does_not_drift():
    job = schedule(every=1.1)
    for number in range(1, 2000):
        job, copy = fired(job, f"s:{number}", moment(1.1 * (number - 1) + 0.05), lives=False)
        assert (job.run_at, copy.planned) == (moment(1.1 * number), moment(1.1 * (number - 1)))


# -- firing


def test_a_copy_is_an_ordinary_job_of_its_own():
    given = {
        **{"priority": 3, "tags": ("a",), "env": {"A": "b"}, "cwd": "/x", "timeout": 5.0},
        **{"max_retries": 1, "rerun": False, "retry_on": [75], "env_set": "ab", "env_file": "/e"},
        **{"extra": {"note": 1}, "created_at": moment(-9)},
    }
    job = schedule(**given, last="s:0", history=({"event": "skip"},), rev=7)
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
def test_what_is_left_out_is_noted(fields, now, lives, reason):
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

    def __init__(self, store, tick=0.0):
        self.seconds, self.queue, self.held = 0.0, JobQueue(store), None
        store.now = lambda: START + self.seconds
        if isinstance(store, FileStore):
            store._writer._now = store.now

    def claim(self, seconds, code=0):
        """The next job at this moment, the one before having ended."""
        self.seconds = seconds
        finished = self.held and (self.held, Outcome("exited", code, None, moment(seconds)))
        self.held = self.queue.claim("w", finished)
        return self.held

    def runs(self, moments):
        """For each copy that was run at one of the moments, the moment and when it was planned."""
        claimed = [(at, self.claim(at)) for at in moments]
        return [(at, parse_time(job.planned) - START) for at, job in claimed if job]


@pytest.fixture(params=["files", "memory"])
def clocked(request, data_dir):
    store = FileStore(data_dir) if request.param == "files" else MemoryStore()
    yield (found := Clocked(store))
    found.queue.close()


def test_a_schedule_runs_a_copy_again_and_again(clocked):
    clocked.queue.enqueue([{"id": "s", "command": "true", "every": "1m"}])
    assert clocked.runs([0, 1, 59, 60, 61, 125, 180]) == [(0, 0), (60, 60), (125, 120), (180, 180)]
    copies = [job for job in clocked.queue.find() if job.id != "s"]
    assert [job.state for job in copies] == ["completed"] * 3 + ["in_progress"]
    assert all(job.id.startswith("s:") and job.run == 1 and job.every is None for job in copies)
    assert clocked.queue.get("s").last == copies[-1].id
    assert clocked.queue.counts()["pending"] == 1


def test_after_two_weeks_off_it_runs_once(clocked):
    clocked.queue.enqueue([{"id": "s", "command": "true", "every": 60}])
    late = 14 * 86_400 + 5
    assert clocked.runs([0, late, late + 1, late + 54, late + 55]) == [
        *((0, 0), (late, 60), (late + 55, late + 55)),
    ]
