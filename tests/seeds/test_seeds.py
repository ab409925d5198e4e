"""The five systems that queuectl follows: each of their lines works, and prints their words.

A line runs three ways: as a script, as the arguments that /bin/sh makes of it, and (where it needs
no shell quoting) as both with the same result.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys

import pytest

ADDED = r"Job added to the queue with job id: {}\n"
STATUS = (
    r"Total Jobs: 3\n"
    r"  Pending     : 3\n"
    r"  In_progress : 0\n"
    r"  Completed   : 0\n"
    r"  Failed      : 0\n"
    r"  Dead        : 0\n"
    r"Active Workers: 0\n"
    r"Worker PIDs: .*\n"
)
LIST_HEADER = "ID              State      Command"
DLQ_HEADER = "ID              Command                       Error"

# Lines of the seeds, and what their output has to match from its start.
LINES = {
    "002 relaxed object": (
        """enqueue '{id: job1, command: "echo Hello"}'""",
        ADDED.format("job1"),
    ),
    "000 strict object": (
        """enqueue '{"id":"job10","command":"echo 000"}'""",
        ADDED.format("job10"),
    ),
    "001 escaped quotes": (
        r'''enqueue "{\"id\":\"job_ok\",\"command\":\"echo hello\",\"max_retries\":2}"''',
        ADDED.format("job_ok"),
    ),
    "004 quotes inside quotes": (
        r"""enqueue '{"id": "job3", "command": "python -c \"print(2+2)\""}'""",
        ADDED.format("job3"),
    ),
    "003 old names": (
        """enqueue '{"id": "old", "command": "true", "run_timeout": 5, "priority": 1, """
        """"available_at": "2030-01-01T00:00:00Z"}'""",
        ADDED.format("old"),
    ),
    "002 status": ("status", STATUS),
    "002 list": ("list --state pending", re.escape(LIST_HEADER) + r"\n-+\nwaits1 +pending +true\n"),
    "003 old state": ("list --state processing", re.escape(LIST_HEADER) + r"\n-+\n$"),
    "003 running": ("list --state running", re.escape(LIST_HEADER) + r"\n-+\n$"),
    "000 list": ("list --state completed", re.escape(LIST_HEADER)),
    "002 dlq list": ("dlq list", re.escape(DLQ_HEADER) + r"\n-+\n"),
    "000 dlq-list": ("dlq-list", re.escape(DLQ_HEADER)),
    "002 config set": ("config set max-retries 5", r".*max-retries.* 5"),
    "002 config base": ("config set base 3", r".*base.* 3"),
    "000 underscores": ("config set max_retries 5", r".*max-retries.* 5"),
    "000 backoff_base": ("config set backoff_base 3", r".*base.* 3"),
    "001 config get": ("config get backoff_base", r"2\n$"),
    "base_delay": ("config set base_delay 4", r".*base.* 4"),
    "003 idle_delay": ("config set idle_delay 0.5", r".*poll-interval.* 0\.5"),
    "004 timeout": ("config set timeout 30", r".*timeout.* 30"),
    "000 config get": ("config get", r"max-retries = 3\nbase = 2\n"),
    "000 ping": ("ping", r".+"),
    "002 worker stop": ("worker stop", r""),
    "000 worker-stop": ("worker-stop", r""),
    "004 update": ("""update '{"id": "waits1", "state": "pending"}'""", r".*waits1.*pending"),
    "004 cancel by update": (
        """update '{"id": "waits1", "state": "cancelled"}'""",
        r".*waits1.*cancelled",
    ),
}


@pytest.fixture
def waiting(cli):
    """A queue of three jobs that nobody runs."""
    for number in (1, 2, 3):
        cli.ok("enqueue", "--id", f"waits{number}", "--command", "true")
    return cli


@pytest.mark.parametrize("name", LINES)
@pytest.mark.parametrize("way", ["script", "argv"])
def test_a_line_prints_the_seeds_words(waiting, name, way):
    line, expected = LINES[name]
    result = waiting(stdin=line + "\n") if way == "script" else waiting(*shlex.split(line))
    assert result.code == 0, result
    assert re.match(expected, result.out), result.out


@pytest.mark.parametrize(
    "program", ["-m queuectl", "-m queuectl.cli"], ids=["queuectl", "queuectl.cli"]
)
def test_queuectl_starts_as_a_module_through_a_real_shell(cli, program):
    line = """enqueue '{"id":"job10","command":"python -c \\"print(2+2)\\""}'"""
    done = subprocess.run(
        ["/bin/sh", "-c", f"{shlex.quote(sys.executable)} {program} {line}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "Job added to the queue with job id: job10\n"
    [job] = json.loads(cli.ok("list", "--json"))
    assert job["command"] == 'python -c "print(2+2)"'


def test_a_relaxed_object_may_be_typed_bare_as_in_002(cli):
    assert cli(stdin='enqueue {id: job1, command: "echo Hello"}\n').out == (
        "Job added to the queue with job id: job1\n"
    )
    [job] = json.loads(cli.ok("list", "--json"))
    assert job["command"] == "echo Hello"


def test_fields_of_003_are_known_by_their_old_names(cli):
    cli.ok("enqueue", '{"command": "true", "run_timeout": 5, "available_at": "2030-01-01T00:00Z"}')
    [job] = json.loads(cli.ok("list", "--json"))
    assert job["timeout"] == 5
    assert job["run_at"] == "2030-01-01T00:00:00.000000Z"


def test_status_of_004_has_a_time_a_health_word_workers_and_counts(waiting):
    lines = waiting.ok("status").splitlines()
    assert any(re.fullmatch(r"Time: \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", x) for x in lines)
    assert any(line.startswith("Health: ") for line in lines)
    assert "Active Workers: 0" in lines


def test_max_retries_of_a_job_go_before_the_setting(cli):
    cli.ok("config", "set", "max-retries", "5")
    cli.ok("enqueue", '{"id":"own","command":"true","max_retries":2}')
    cli.ok("enqueue", '{"id":"set","command":"true"}')
    assert [job["max_retries"] for job in json.loads(cli.ok("list", "--json"))] == [2, 5]


class TestWorkers:
    """The scenarios that the seeds test themselves, with real workers."""

    def test_start_and_stop_print_the_seeds_words(self, cli):
        started = cli.ok("worker", "start", "--count", "2")
        match = re.fullmatch(
            r"Starting 2 worker\(s\)\.\.\.\n"
            r"Workers started and running in background\.\n"
            r"PIDs: \[(\d+), (\d+)\]\n"
            r"Workers running now: 2\n",
            started,
        )
        assert match, started
        pids = set(match.groups())
        status = cli.ok("status")
        assert "Active Workers: 2\n" in status
        shown = re.search(r"^Worker PIDs: (\d+), (\d+)$", status, re.MULTILINE)
        assert shown
        assert set(shown.groups()) == pids
        stopped = cli.ok("worker", "stop").splitlines()
        assert set(stopped[:-1]) == {f"Stopped worker PID {pid}" for pid in pids}
        assert stopped[-1] == "All workers stopped."
        assert "Active Workers: 0\n" in cli.ok("status")

    def test_the_hyphenated_spellings_of_000_work(self, cli):
        assert cli.ok("worker-start", "--count", "1").startswith("Starting 1 worker(s)...\n")
        assert cli.ok("worker-stop").endswith("All workers stopped.\n")

    def test_good_jobs_complete_and_bad_ones_are_retried_and_then_dead(self, cli):
        cli.ok("config", "set", "base", "0.1")
        cli.ok("worker", "start", "--count", "2")
        cli.ok("enqueue", '{id: good, command: "echo Hello"}')
        cli.ok("enqueue", '{id: bad, command: "exit 3", max_retries: 2}')
        cli.ok("enqueue", "{id: none, command: no-such-command-here, max_retries: 0}")
        # Not --all: they may have ended before it asks, and none is left then.
        assert cli("wait", "good", "bad", "none", "--timeout", "30").code == 1
        assert cli.ok("logs", "good") == "Hello\n"
        jobs = {job["id"]: job for job in json.loads(cli.ok("list", "--json"))}
        assert jobs["good"]["state"] == "completed"
        assert (jobs["bad"]["state"], jobs["bad"]["run"]) == ("dead", 3)
        assert (jobs["none"]["state"], jobs["none"]["exit_code"]) == ("dead", 127)
        rows = cli.ok("dlq", "list").splitlines()
        assert rows[0] == DLQ_HEADER
        assert sorted(row.split()[0] for row in rows[2:]) == ["bad", "none"]

    def test_dlq_retry_puts_a_job_back_to_pending(self, cli):
        cli.ok("enqueue", "{id: job2, command: false, max_retries: 0}")
        cli.ok("worker", "start")
        assert cli("wait", "job2", "--timeout", "30").code == 1
        cli.ok("worker", "stop")
        assert cli.ok("dlq", "retry", "job2") == (
            "Job 'job2' has been moved back to the main queue for retry.\n"
        )
        [job] = json.loads(cli.ok("list", "--state", "pending", "--json"))
        assert (job["id"], job["attempts"]) == ("job2", 0)

    def test_pending_jobs_go_on_after_the_workers_restart(self, cli):
        cli.ok("worker", "start")
        cli.ok("worker", "stop")
        cli.ok("enqueue", "{id: late, command: true}")
        assert "late" in cli.ok("list", "--state", "pending")
        cli.ok("worker", "start")
        assert cli("wait", "late", "--timeout", "30").code == 0

    def test_several_workers_never_run_a_job_twice(self, cli, tmp_path):
        out = tmp_path / "ran"
        lines = [json.dumps({"command": f"echo {n} >> '{out}'"}) for n in range(60)]
        cli.ok("enqueue", "--file", "-", stdin="\n".join(lines))
        cli.ok("worker", "start", "--count", "4")
        assert cli("wait", "--all", "--timeout", "60").code == 0
        assert sorted(map(int, out.read_text().split())) == list(range(60))

    def test_worker_run_shows_the_life_of_each_job_and_stops_gracefully(self, cli, wait_until):
        import signal

        cli.ok("enqueue", "{id: first, command: true}")
        process = cli.popen("worker", "run")
        try:
            wait_until(lambda: "completed" in cli.ok("list"))
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=20)
        finally:
            process.kill()
        assert process.returncode == 0, err
        assert b"first" in out
        assert b"completed" in out

    def test_stopped_workers_finish_their_job_first(self, cli, tmp_path, wait_until):
        gate = tmp_path / "gate"
        cli.ok(
            "enqueue", "--id", "slow", "--command", f"until [ -e '{gate}' ]; do sleep 0.05; done"
        )
        cli.ok("worker", "start")
        wait_until(lambda: "in_progress" in cli.ok("list"))
        stopping = cli.popen("worker", "stop")
        gate.touch()
        out, _ = stopping.communicate(timeout=20)
        assert out.endswith(b"All workers stopped.\n")
        [job] = json.loads(cli.ok("list", "--json"))
        assert (job["state"], job["run"]) == ("completed", 1)

    def test_long_commands_and_quotes_of_every_sort_run_unharmed(self, cli):
        long = "echo " + "x" * 100_000
        cli.ok("enqueue", json.dumps({"id": "long", "command": long}))
        quoted = """printf '%s|' 'a "b" c' "it's" \\"d\\" $((1+1)) `echo e`"""
        cli.ok("enqueue", "--id", "quoted", "--command", quoted)
        cli.ok("worker", "start")
        assert cli("wait", "--all", "--timeout", "30").code == 0
        assert cli.ok("logs", "long") == "x" * 100_000 + "\n"
        assert cli.ok("logs", "quoted") == 'a "b" c|it\'s|"d"|2|e|'


def test_waits_before_retries_are_powers_of_the_base(cli):
    from queuectl.model.times import parse_time

    cli.ok("config", "set", "base", "2")
    cli.ok("enqueue", "{id: bad, command: exit 1}")
    process = cli.popen("worker", "run")
    assert process.stdout
    while b"failed" not in process.stdout.readline():
        pass
    [job] = json.loads(cli.ok("list", "--json"))
    assert job["state"] == "failed"
    waits = parse_time(job["run_at"]) - parse_time(job["finished_at"])
    assert 2 <= waits < 2.5
