"""A script of real commands, drained by four workers, against what running them directly gives."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import pytest

from queuectl.job_queue import JobQueue
from tests.acceptance.workload import Case, cases, script_line

WORKERS = 4


class Run(NamedTuple):
    """One run: `code` as subprocess has it (-n for signal n), stdout and stderr together."""

    code: int
    output: bytes

    @property
    def exit_code(self) -> int:
        return 128 - self.code if self.code < 0 else self.code

    @property
    def error(self) -> str:
        """How the error that a job shows for this run begins."""
        if self.code < 0:
            return f"killed by signal {-self.code} ({signal.Signals(-self.code).name})"
        return f"exit code {self.code}"


def run_directly(case: Case, folder: str) -> list[Run]:
    """The runs that the case should have: its command, run as often as it should be."""
    runs: list[Run] = []
    while len(runs) <= case.max_retries:
        names = {"QUEUECTL_JOB_ID": case.id, "QUEUECTL_ATTEMPT": str(len(runs) + 1)}
        done = subprocess.run(
            ["/bin/sh", "-c", case.command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env={**os.environ, **names},
            start_new_session=True,
            check=False,
        )
        runs.append(Run(done.returncode, done.stdout))
        if done.returncode == 0:
            break
    return runs


def differences(case: Case, job: dict, runs: list[Run], queue: JobQueue) -> list[str]:
    """In what the job differs from the direct runs; empty if in nothing."""
    last = runs[-1]
    expected = {
        "state": "dead" if last.code else "completed",
        "exit_code": last.exit_code,
        "attempts": len(runs),
        "run": len(runs),
        "losses": 0,
        "max_retries": case.max_retries,
        "cwd": os.getcwd(),
    }
    found = {name: job[name] for name in expected}
    found["failures"] = [e["exit_code"] for e in job["history"] if e["event"] == "fail"]
    expected["failures"] = [run.exit_code for run in runs if run.code]
    wrong = [
        f"{case.id}: {name} is {found[name]!r}, not {value!r}"
        for name, value in expected.items()
        if found[name] != value
    ]
    if not (job["error"] or "").startswith(last.error if last.code else ""):
        wrong.append(f"{case.id}: its error is {job['error']!r}, not {last.error!r}")
    for number, run in enumerate(runs, 1):
        log = b"".join(queue.store.output.output(queue.get(case.id), number))
        if log != run.output:
            wrong.append(f"{case.id}: run {number} printed {log[:200]!r}, not {run.output[:200]!r}")
    return wrong


def drain(cli, work: list[Case]) -> dict[str, dict]:
    """The jobs, by id, after a script handed them all in and four workers ran them."""
    script = [
        "# 300 real commands and more",
        "config set base 0.2",
        *(script_line(number, case) for number, case in enumerate(work)),
        f"worker start --count {WORKERS}",
        "wait --all --timeout 60 --quiet",
        "worker stop",
    ]
    result = cli.run(stdin="\n".join(script))
    # Some are made to fail, which `wait` tells; nothing else went wrong.
    errors = [line for line in result.err.splitlines() if line.startswith("queuectl: ")]
    assert errors == [f"queuectl: <stdin>:{len(script) - 1}: wait ended with exit code 1"]
    assert result.code == 1
    dead = json.loads(cli.ok("dlq", "list", "--json"))["jobs"]
    jobs = json.loads(cli.ok("list", "--json"))
    assert {job["id"] for job in dead} <= {job["id"] for job in jobs}
    return {job["id"]: job for job in jobs}


@pytest.mark.timeout(90)
def test_every_command_ends_as_if_it_was_run_directly(cli, tmp_path):
    work = cases()
    assert len(work) >= 300
    jobs = drain(cli, work)
    assert set(jobs) == {case.id for case in work}
    for case in work:
        assert jobs[case.id]["command"] == case.command
    with ThreadPoolExecutor(os.cpu_count() or 2) as pool:
        direct = list(pool.map(lambda case: run_directly(case, str(tmp_path)), work))
    queue = JobQueue.open(cli.folder)
    wrong = [
        line
        for case, runs in zip(work, direct, strict=True)
        for line in differences(case, jobs[case.id], runs, queue)
    ]
    queue.close()
    assert "\n".join(wrong) == ""
    assert len({job["worker"] for job in jobs.values()}) == WORKERS


def test_logs_prints_every_byte_that_the_command_printed(cli):
    code = "import sys; sys.stdout.buffer.write(bytes(range(256)))"
    cli.ok("enqueue", "--id", "bytes", "--", sys.executable, "-S", "-c", code)
    cli.run("worker", "run", "--drain")
    with cli.popen("logs", "bytes") as logs:
        assert logs.communicate()[0] == bytes(range(256))
