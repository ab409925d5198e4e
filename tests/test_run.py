"""`run -- COMMAND`: a job that its enqueuer waits for."""

from __future__ import annotations

import signal

import pytest

from queuectl.commands.handlers.wait import _how_far


def serve(cli):
    cli.ok("config", "set", "base", "0")
    cli.ok("worker", "start")


def test_it_shows_all_runs_and_exits_as_the_job(cli, tmp_path):
    serve(cli)
    command = f"echo one; echo $QUEUECTL_ATTEMPT; test -e '{tmp_path}/x' || exit 7"
    failed = cli("run", "--max-retries", "1", "--id", "a", "--command", command)
    assert failed.code == 7
    assert failed.err.startswith("Job added to the queue with job id: a\n")
    assert "Run 1 of job 'a' begins" not in failed.err
    told = "Run 2 of job 'a' begins.\nJob 'a' is dead: exit code 7: 2.\n"
    assert failed.err.endswith(told)
    late = cli("run", "--id", "b", "--timeout", "0.1", "--max-retries", "0", "--", "sleep", "9")
    assert (late.code, late.err.splitlines()[-1]) == (143, "Job 'b' is dead: timed out after 0.1s.")
    (tmp_path / "x").touch()
    process = cli.popen("run", "-q", "--command", command)
    assert process.communicate(timeout=20) == (b"one\n1\n", b"")
    assert process.returncode == 0
    script = cli(stdin="run --max-retries 0 -- sh -c 'echo first; exit 3'\nstatus -q\n")
    assert script.code == 1
    assert script.out.startswith("first\n")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_the_job_and_tells_how_to_find_it(cli, number, code):
    process = cli.popen("run", "--id", "a", "--", "true")
    assert process.stderr
    assert process.stderr.readline() == b"Job added to the queue with job id: a\n"
    assert b"No worker runs; 'worker start' starts one." in process.stderr.readline()
    process.send_signal(number)
    _, err = process.communicate(timeout=10)
    assert process.returncode == code
    assert b"Job 'a' goes on: 'logs -f a' follows it, 'cancel a' ends it." in err
    assert cli.ok("show", "a", "-q") == "pending\n"


def test_a_failure_of_run_itself_is_not_a_code_of_the_job(cli):
    cli.ok("enqueue", "--id", "a", "--unique", "k", "--", "true")
    for options in (("--id", "a"), ("--unique", "k")):
        assert cli("run", *options, "--", "true").code == 125
    assert cli("run").err == "queuectl: run wants a command: 'run -- COMMAND'\n"
    assert cli("run", "--priority", "x", "--", "true").code == 2
    assert cli("run", "--if-absent", "--", "true").code == 2


@pytest.mark.parametrize(
    ("done", "failed", "left", "told"),
    [
        (0, 0, 1, "Waiting for the job, 1m so far"),
        (0, 0, 8, "[--------------------] 0 of 8 jobs ended"),
        (5, 1, 2, "[###############-----] 6 of 8 jobs ended, 1 failed, about 20s left"),
    ],
)
def test_a_wait_tells_how_far_it_has_got(done, failed, left, told):
    assert _how_far(done, failed, left, 60.4) == told
