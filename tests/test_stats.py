"""Statistics of a queue's jobs, with fixed times."""

from __future__ import annotations

import json

from queuectl.model.job import Job
from queuectl.model.stats import Times, aged, stats
from queuectl.model.times import format_time

NOW = 1_800_000_000.0


def at(age: float) -> str:
    return format_time(NOW - age)


def job(job_id: str, state: str, age: float, **more: object) -> Job:
    """A job that came in 10 s before it started, and ran for 5 s until `age` seconds ago."""
    made = at(age + 15)
    values = {"started_at": at(age + 5), "finished_at": at(age), "run": 1, **more}
    return Job(job_id, state, 0, made, "true", 3, made, at(age), **values)


def failed(age: float, run: int = 1) -> dict[str, object]:
    return {"event": "fail", "at": at(age), "run": run, "error": "exit code 1"}


def test_nothing_is_nothing():
    form = stats([], NOW)
    assert (form["total"], form["since"], form["success"]) == (0, None, None)
    assert form["wait"] == {"count": 0, "median": None, "p95": None, "longest": None}
    assert form["hour"]["minutes"] == [[0, 0, 0]] * 60
    assert form["recent"] == []


def test_figures_grow_old_as_if_they_were_found_anew():
    jobs = [
        job("a", "completed", 30.0),
        job("b", "dead", 3500.0, exit_code=1, error="boom", history=(failed(3500.0),)),
        job("c", "completed", 80_000.0),
    ]
    form = stats(jobs, NOW)
    for passed in (0, 59, 60, 179, 3540, 3600, 7200, 90_000):
        told, anew = aged(form, NOW + passed), stats(jobs, NOW + passed // 60 * 60)
        for part in ("at", "hour", "recent", "jobs", "run"):
            assert told[part] == anew[part], (passed, part)
        if passed % 3600 == 0:
            assert told["hours"] == anew["hours"], passed


def test_counts_times_and_the_last_hour():
    jobs = [
        job("a", "completed", 30.0),
        job("b", "dead", 90.0, exit_code=1, error="boom", history=(failed(90.0),)),
        job("c", "completed", 7300.0),
        job("d", "failed", 0.0, finished_at=at(610), history=(failed(610),)),
        job("e", "pending", 0.0, started_at=None, finished_at=None, run=0),
        job("f", "completed", 200_000.0),
    ]
    form = stats(jobs, NOW)
    assert form["jobs"]["completed"] == 3
    assert (form["runs"], form["failures"], form["success"]) == (5, 2, 0.75)
    assert form["since"] == at(200_015)
    assert form["run"]["median"] == 5.0
    assert form["wait"]["median"] == 10.0
    hour = form["hour"]
    assert (hour["completed"], hour["failed"], hour["dead"]) == (1, 2, 1)
    assert hour["minutes"][59] == [1, 0, 0]
    assert hour["minutes"][58] == [0, 1, 1]
    assert hour["minutes"][49] == [0, 1, 0]
    assert form["hours"][-1] == [1, 2, 1]
    assert form["hours"][-3] == [1, 0, 0]
    told = [(event["id"], event["event"]) for event in form["recent"]]
    assert told == [
        ("d", "started"),
        ("a", "completed"),
        ("a", "started"),
        ("b", "dead"),
        ("b", "started"),
        ("d", "failed"),
    ]


def test_ranks_are_nearest_and_very_many_times_are_sampled():
    times = Times()
    for number in range(1, 101):
        times.add(float(number))
    assert times.form() == {"count": 100, "median": 50.0, "p95": 95.0, "longest": 100.0}
    many = Times()
    for number in range(50_000):
        many.add(float(number))
    form = many.form()
    assert form["count"] == 50_000
    assert abs(form["median"] - 25_000) < 500
    assert form["longest"] == 49_999.0


def test_the_command_tells_what_json_holds(cli):
    cli.ok("config", "set", "max-retries", "0")
    for number in range(3):
        cli.ok("enqueue", "--command", f"exit {number}")
    assert "Jobs: 3, since " in cli.ok("stats")
    cli("worker", "run", "--drain")
    form = json.loads(cli.ok("stats", "--json"))
    assert (form["schema"], form["runs"], form["failures"], form["success"]) == (1, 3, 2, 0.3333)
    lines = cli.ok("stats").splitlines()
    assert "Runs: 3, of which 2 failed" in lines
    assert "Completed of those that ended: 33.33 %" in lines
    assert "The last hour: 1 completed, 2 runs failed, 2 dead" in lines
    assert lines[-1].endswith("█ (most: 3)")
    assert "dead 2" in cli.ok("stats", "-q").splitlines()
