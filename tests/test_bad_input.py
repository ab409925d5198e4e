"""Bad input: one clear line, the right exit code, and nothing changed."""

from __future__ import annotations

import os

import pytest

LONG = "x" * 1000

# What is typed, the exit code, and words that the line must hold.
ARGV = [
    ([("enqueue", '{"id": "a", "command": "true"')], 2, ["not"]),
    ([("enqueue", '{"id": "a" "command": "true"}')], 2, ["line 1", "column"]),
    ([("enqueue", '{id: a, command: "true')], 2, []),
    ([("enqueue", "")], 2, []),
    ([("enqueue", "{}")], 2, ["command"]),
    ([("enqueue", '["a"]')], 2, ["object"]),
    ([("enqueue",)], 2, ["--command"]),
    ([("enqueue", '{"id": "a", "id": "b", "command": "true"}')], 2, ["twice"]),
    ([("enqueue", "{id: a, id: b, command: true}")], 2, ["twice"]),
    ([("enqueue", "{command: true, priority: 1}", "--priority", "2")], 2, ["priority", "twice"]),
    ([("enqueue", '{"id": 7, "command": "true"}')], 2, ["id", "text"]),
    ([("enqueue", '{"command": ["true"]}')], 2, ["command", "text"]),
    ([("enqueue", '{"command": "true", "priority": "high"}')], 2, ["priority", "whole number"]),
    ([("enqueue", '{"command": "true", "env": "A=1"}')], 2, ["env"]),
    ([("enqueue", '{"comand": "true"}')], 2, ["comand", "did you mean 'command'"]),
    ([("enqueue", "{comand: true}")], 2, ["did you mean 'command'"]),
    ([("enqueue", "{command: true, priorty: 1}")], 2, ["did you mean 'priority'"]),
    ([("enqueue", '{"command": "true", "attempts": 3}')], 2, ["attempts"]),
    ([("enqueue", '{"command": "true", "output": "x"}')], 2, ["output"]),
    ([("enqueue", '{"command": "true", "stdin": "x"}')], 2, ["stdin"]),
    ([("enqueue", '{"command": "true", "state": "dead"}')], 2, ["pending"]),
    ([("enqueue", "{id: job1, command: true}")], 4, ["job1", "jobs.json"]),
    ([("enqueue", "--id", "gone", "--command", "true")], 4, ["gone", "dlq.json"]),
    (
        [
            ("enqueue", "--id", bad, "--command", "true")
            for bad in ("a/b", ".", "..", "a b", LONG, "", "-x", "ä")
        ],
        2,
        ["id"],
    ),
    (
        [("enqueue", "--command", ""), ("enqueue", "--command", "  "), ("enqueue", "--", "")],
        2,
        ["empty"],
    ),
    ([("enqueue", '{"command": "echo \\u0000"}')], 2, ["NUL"]),
    (
        [("enqueue", '{"command": "echo \\ud800"}'), ("enqueue", "--command", "echo \udcff")],
        2,
        ["UTF-8"],
    ),
    (
        [
            ("enqueue", '{"command": "true", "max_retries": -1}'),
            ("enqueue", "--command", "true", "--max-retries", "-1"),
            ("enqueue", "--command", "true", "--max-retries", "9" * 30),
            ("enqueue", '{"command": "true", "max_retries": 1e400}'),
            ("enqueue", '{"command": "true", "max_retries": 1.5}'),
            ("enqueue", '{"command": "true", "max_retries": true}'),
            ("enqueue", "{command: true, max_retries: true}"),
        ],
        2,
        ["max"],
    ),
    (
        [
            ("enqueue", '{"command": "true", "timeout": NaN}'),
            ("enqueue", '{"command": "true", "timeout": Infinity}'),
        ],
        2,
        [],
    ),
    (
        [
            ("enqueue", '{"command": "true", "timeout": -1}'),
            ("enqueue", '{"command": "true", "timeout": 0}'),
            ("enqueue", "--command", "true", "--timeout", "soon"),
            ("enqueue", "--command", "true", "--timeout", "1e99"),
        ],
        2,
        [],
    ),
    (
        [
            ("enqueue", "--command", "true", "--run-at", "2030-01-01"),
            ("enqueue", '{"command": "true", "run_at": "2030-01-01 25:00"}'),
        ],
        2,
        ["time"],
    ),
    ([("enqueue", "--command", "true", "--run-at", "tomorrow")], 2, ["tomorrow"]),
    (
        [("enqueue", "--command", "true", "--run-at", "2030-01-01T00:00:00Z", "--delay", "5")],
        2,
        ["--delay"],
    ),
    (
        [
            ("enqueue", "--command", "true", "--env", "A"),
            ("enqueue", "--command", "true", "--env", "=1"),
        ],
        2,
        ["NAME=VALUE"],
    ),
    ([("enqueue", "--file", "missing.jsonl")], 2, ["missing.jsonl"]),
    ([("list", "--state", "pendng")], 2, ["pendng", "did you mean 'pending'"]),
    ([("list", "--limit", "-1"), ("list", "--limit", "many")], 2, ["limit"]),
    (
        [
            ("worker", "start", "--count", "0"),
            ("worker", "start", "--count", "100000"),
            ("worker", "start", "--count", "two"),
        ],
        2,
        ["count"],
    ),
    ([("dlq", "retry", "job1")], 4, ["job1", "pending"]),
    (
        [
            ("dlq", "retry", "nobody"),
            ("show", "nobody"),
            ("cancel", "job1", "nobody"),
            ("retry", "nobody"),
            ("logs", "nobody"),
            ("wait", "nobody"),
            ("update", "{id: nobody, priority: 1}"),
        ],
        3,
        ["nobody"],
    ),
    ([("dlq", "retry"), ("wait",), ("cancel",), ("show",)], 2, []),
    ([("cancel", "gone"), ("retry", "job1")], 4, []),
    ([("update", "{id: job1, state: completed}")], 2, ["completed"]),
    (
        [
            ("update", "{id: job1, attempts: 0}"),
            ("update", "{id: job1, created_at: 1}"),
            ("update", "{id: job1}"),
            ("update", "{priority: 1}"),
        ],
        2,
        [],
    ),
    ([("purge", "--yes", "--state", "pending")], 2, ["finished"]),
    ([("purge",)], 2, ["--yes"]),
    ([("config", "set", "max-retires", "5")], 2, ["did you mean 'max-retries'"]),
    (
        [
            ("config", "set", "max-retries", "many"),
            ("config", "set", "max-retries", "-1"),
            ("config", "set", "max-retries", "true"),
            ("config", "set", "base", "nan"),
        ],
        2,
        [],
    ),
    ([("config", "get", "basis")], 2, ["did you mean 'base'"]),
    ([("lst",)], 2, ["unknown command 'lst'", "did you mean 'list'"]),
    ([("list", "--sta", "pending"), ("stat",), ("worker", "strat")], 2, ["did you mean"]),
    ([("status", "extra"), ("status", "--count", "1"), ("worker",)], 2, []),
    ([("help", "nonsense")], 2, ["nonsense"]),
    ([("-f", "missing.txt")], 2, ["missing.txt"]),
    ([("--stop-on-error", "list"), ("-f",)], 2, []),
]


def contents(folder):
    """Every file of the folder with its bytes; the lock is not content."""
    found = {}
    for top, _, names in os.walk(folder):
        for name in names:
            if name != "queue.lock":
                with open(os.path.join(top, name), "rb") as file:
                    found[os.path.join(top, name)] = file.read()
    return found


def assert_refused(cli, argv, code, words, stdin=b""):
    before = contents(cli.folder)
    result = cli(*argv, stdin=stdin)
    assert result.code == code, result
    assert result.out == ""
    assert result.err.startswith("queuectl: ")
    assert result.err.count("\n") == 1, result.err
    for word in words:
        assert word in result.err
    assert contents(cli.folder) == before


@pytest.fixture
def queue(cli):
    """A queue with a waiting job, `job1`, and a dead one, `gone`."""
    from queuectl.job_queue import JobQueue
    from queuectl.model.lifecycle import Outcome

    queue = JobQueue.open(cli.folder)
    queue.enqueue([{"id": "gone", "command": "false", "max_retries": 0}])
    dead = queue.claim("w-none")
    queue.settle(dead, Outcome("exited", 1, None, queue.now()))
    queue.enqueue([{"id": "job1", "command": "true"}])
    queue.close()
    return cli


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [(argv, code, words) for group, code, words in ARGV for argv in group],
    ids=lambda value: (
        " ".join(value)[:60].encode("ascii", "backslashreplace").decode()
        if isinstance(value, tuple)
        else None
    ),
)
def test_argv_is_refused(queue, argv, code, words):
    assert_refused(queue, argv, code, words)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (b'{"command": "true"}\n\n{"comand": "true"}\n', [":3:", "comand"]),
        (b'{"command": "true"}\n{"command": "caf\xe9"}\n', [":2:", "UTF-8"]),
        (b'{"command": "true"}\n{"command": "true"', [":2:"]),
        (b'{"command": "true"}\n{"command": "true", "attempts": 1}\n', [":2:", "attempts"]),
        (b"", ["no job"]),
    ],
)
def test_a_file_of_jobs_is_refused_whole(queue, lines, words):
    with open("jobs.jsonl", "wb") as file:
        file.write(lines)
    assert_refused(queue, ("enqueue", "--file", "jobs.jsonl"), 2, ["jobs.jsonl", *words])
    assert_refused(queue, ("enqueue", "-"), 2, ["<stdin>", *words], stdin=lines)


@pytest.mark.parametrize(("first", "where"), [("new", "dlq.json"), ("gone", "same input")])
def test_a_file_with_an_id_that_exists_is_refused_whole(queue, first, where):
    lines = f'{{"command": "true", "id": "{first}"}}\n{{"command": "true", "id": "gone"}}\n'
    words = ["<stdin>:2:", "gone", where]
    assert_refused(queue, ("enqueue", "--file", "-"), 4, words, stdin=lines.encode())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written(queue):
    os.chmod(queue.folder, 0o500)
    try:
        assert_refused(queue, ("enqueue", "--command", "true"), 5, [queue.folder])
    finally:
        os.chmod(queue.folder, 0o700)
