"""Why a job has not run, or ended as it did."""

from __future__ import annotations

import json

import pytest

from queuectl.commands.handlers.explain import Surroundings, coming_retries, reasons
from queuectl.model.backoff import RetryPolicy
from queuectl.model.claim_order import ahead_of
from queuectl.model.job import Job
from queuectl.store.facts import WorkerInfo

EARLY, NOW, LATE = (f"2026-01-31T0{hour}:30:00.000000Z" for hour in (7, 8, 9))


def job(job_id: str = "a", state: str = "pending", **fields) -> Job:
    made = Job(job_id, state, 0, EARLY, "true", 3, EARLY, EARLY)
    return made._replace(**fields)


def worker(worker_id: str = "w-1", *, alive: bool = True, busy: bool = False) -> WorkerInfo:
    text = f"{worker_id} 77 1 boot {EARLY}\n" + ("b 1 88 1\n" if busy else "")
    return WorkerInfo(worker_id, alive, text)


def stuck(*, alive: bool) -> WorkerInfo:
    info = worker(alive=alive, busy=True)
    info.facts["left"] = "12:root:sleep,13:nobody:a_b"
    return info


RUNNING = {"state": "in_progress", "worker": "w-1", "run": 2, "started_at": EARLY}
DEAD = {"state": "dead", "attempts": 4, "run": 4, "finished_at": EARLY}

CASES = [
    # fields of the job, workers, jobs ahead, codes, words in the text
    ({}, [], 0, "no_workers next", ["worker start", "next"]),
    ({}, [worker()], 0, "next", []),
    ({}, [worker(busy=True)], 0, "workers_busy", ["one of 1 worker"]),
    ({}, [worker(), worker("w-2", busy=True)], 3, "behind", ["3 jobs will be taken before it"]),
    ({"run_at": LATE}, [worker()], 0, "not_due", [LATE]),
    ({"run_at": LATE}, [worker(alive=False)], 0, "not_due no_workers", [LATE]),
    (
        {"state": "failed", "attempts": 1, "run_at": LATE, "error": "exit code 3"},
        [worker()],
        0,
        "waiting_for_retry",
        ["retry 1 of 3 after exit code 3 is due " + LATE],
    ),
    ({"state": "failed", "attempts": 2}, [], 0, "waiting_for_retry no_workers next", ["2 of 3"]),
    (RUNNING, [worker(busy=True)], 0, "running", ["run 2", "PID 77", EARLY]),
    ({**RUNNING, "cancel_requested": True}, [worker()], 0, "running cancelling", []),
    (RUNNING, [worker(alive=False)], 0, "worker_lost", ["w-1"]),
    (RUNNING, [], 0, "worker_lost", []),
    ({"state": "completed", "run": 1, "finished_at": EARLY}, [], 0, "completed", ["run 1"]),
    ({"state": "cancelled", "finished_at": EARLY}, [], 0, "cancelled", ["retry a"]),
    (
        {**DEAD, "error": "exit code 1"},
        [],
        0,
        "dead not_retried",
        ["failed 4 times", "exit code 1"],
    ),
    ({**DEAD, "error": "lost"}, [], 0, "dead not_retried", ["worker died"]),
    (
        {**DEAD, "error": "interrupted", "attempts": 0, "rerun": False},
        [],
        0,
        "dead not_retried",
        ["rerun"],
    ),
    (
        {**DEAD, "error": "interrupted", "attempts": 0},
        [],
        0,
        "dead not_retried",
        ["20 times in a row", "asked to stop"],
    ),
    (RUNNING, [stuck(alive=True)], 0, "running cannot_end", ["PID 12 (root, sleep)", "--abandon"]),
    *(
        (
            {"state": state, "finished_at": EARLY, "error": f"dependency: parent 'p' is {state}"}
            | {"after": ("p",)},
            *([], 0, f"{state} fell", ["It fell with p, which it waited for", "A retry of p"]),
        )
        for state in ("dead", "cancelled")
    ),
    ({**DEAD, "max_retries": 0, "error": "x"}, [], 0, "dead not_retried", ["no retries"]),
]


@pytest.mark.parametrize(("fields", "workers", "ahead", "codes", "words"), CASES)
def test_each_reason_has_its_code_and_its_words(fields, workers, ahead, codes, words) -> None:
    around = Surroundings(NOW, RetryPolicy(), workers, ahead)
    found = reasons(job(**fields), around, lambda at: at)
    assert " ".join(code for code, _ in found) == codes
    text = "\n".join(text for _, text in found)
    for word in words:
        assert word in text


def test_the_jobs_before_a_job_are_counted() -> None:
    waiting = [
        job("first"),
        job("late", run_at=LATE),
        job("a"),
        job("behind"),
        job("urgent", priority=-1),
        job("slow", priority=1),
        job("retried", "failed", run_at="2026-01-31T07:00:00.000000Z"),
    ]
    assert ahead_of(waiting[2], waiting, NOW) == [(waiting[0], 3)]  # first, urgent and retried


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({}, [(1, 2.0), (2, 4.0), (3, 8.0)]),
        ({"state": "failed", "attempts": 2}, [(3, 8.0)]),
        ({"state": "failed", "attempts": 3}, []),
        ({"max_retries": 0}, []),
        ({"state": "dead"}, []),
        ({"max_retries": 5000, "attempts": 4990}, [(n, 100.0) for n in range(4991, 5001)]),
    ],
)
def test_coming_retries_are_told_with_their_waits(fields, wanted) -> None:
    assert coming_retries(job(**fields), RetryPolicy(2.0, 100.0)) == wanted


@pytest.mark.parametrize(
    ("kept", "code", "word"),
    [
        ("left", "cannot_end", "PID 13 (nobody, a_b)"),
        ("elsewhere", "worker_lost_elsewhere", "foreign-grace"),
        ("unsure", "worker_lost_unsure", "copy of this folder"),
    ],
)
def test_why_a_lost_run_is_not_taken_back(kept, code, word) -> None:
    around = Surroundings(NOW, RetryPolicy(), [stuck(alive=False)], 0, kept)
    ((told, text),) = reasons(job(**RUNNING), around, str)
    assert told == code
    assert word in text


def test_explain_is_told_in_lines_and_as_json(cli) -> None:
    cli.ok("enqueue", "--id", "one", "--", "false")
    cli.ok("enqueue", "--id", "two", "--max-retries", "1", "--", "false")
    assert cli.ok("explain", "two").splitlines() == [
        "Job 'two' is pending.",
        "  No worker runs; 'worker start' starts one.",
        "  1 job will be taken before it, by priority and due time.",
        "  If it fails, it is retried at most 1 time: 1 after 2s.",
    ]
    told = json.loads(cli.ok("explain", "two", "--json"))
    assert [reason["code"] for reason in told["reasons"]] == ["no_workers", "behind"]
    assert told["retries"] == [{"retry": 1, "delay": 2.0}]
    assert (told["schema"], told["ahead"], told["workers"]) == (1, 1, 0)
    assert cli("explain", "nobody").code == 3


def test_only_jobs_that_can_start_count_as_before_a_job(cli) -> None:
    for job_id, how in [
        ("plain", ()),
        ("tagged", ("--tag", "t")),
        ("paused", ("--tag", "p")),
        ("free", ("--lock", "l")),
        ("kid", ("--after", "plain")),
        ("grandchild", ("--after", "kid")),
        ("last", ()),
    ]:
        cli.ok("enqueue", "--id", job_id, *how, "--", "true")
    cli.ok("checkpoint")
    cli.ok("pause", "p")
    told = json.loads(cli.ok("explain", "last", "--json"))
    assert told["ahead"] == 3  # plain, tagged and free
    assert "If it dies or is cancelled, 2 jobs would fall" in cli.ok("explain", "plain")


def test_a_command_that_was_not_found_is_told_with_the_origin_of_its_path(cli, monkeypatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    cli.ok("enqueue", "--id", "a", "--max-retries", "0", "--", "no-such-tool")
    cli.ok("enqueue", "--id", "b", "--max-retries", "0", "--env", "PATH=/its/own", "--", "no-tool")
    monkeypatch.setenv("PATH", "/bin:/usr/bin")
    worker = cli.popen("worker", "run", "--drain")
    worker.communicate(timeout=30)
    told = cli.ok("explain", "a")
    assert "a command was not found. It has its PATH from where it was enqueued" in told
    assert ": /usr/bin:/bin.\n" in told
    assert "PATH from its own env: /its/own.\n" in cli.ok("explain", "b")
    codes = [reason["code"] for reason in json.loads(cli.ok("explain", "a", "--json"))["reasons"]]
    assert codes == ["dead", "not_found", "not_retried"]
