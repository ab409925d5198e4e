"""What single commands do, beyond what the seeds require."""

from __future__ import annotations

import json
import os
import pty
import signal
import time
from pathlib import Path

import pytest
from samples import let_rest, read

from queuectl.errors import DiskRefused
from queuectl.live.standing import standing_of
from queuectl.model.fields import STATES
from queuectl.shell.prompt.toolbar import standing_text
from queuectl.store.files.file_store import FileStore
from queuectl.store.files.summary import read_summary


def names(cli):
    return [job["id"] for job in json.loads(cli.ok("list", "--json"))]


class TestWait:
    @pytest.fixture
    def ended(self, cli):
        """Jobs that have ended, by exit code; 0 is completed, the others dead."""
        from queuectl.job_queue import JobQueue
        from queuectl.model.lifecycle import Outcome

        queue = JobQueue.open(cli.folder)
        for code in (0, 3, 124, 143):
            queue.enqueue([{"id": f"exit{code}", "command": "true", "max_retries": 0}])
            queue.settle(queue.claim("w"), Outcome("exited", code, None, queue.now()))
        queue.enqueue([{"id": "late", "command": "true", "max_retries": 0}])
        queue.settle(queue.claim("w"), Outcome("timed_out", None, "took too long", queue.now()))
        queue.enqueue([{"id": "off", "command": "true"}])
        queue.cancel(["off"])
        queue.close()
        return cli

    @pytest.mark.parametrize(
        ("ids", "code"),
        [
            ("exit0", 0),
            ("exit3", 3),
            ("exit124", 124),
            ("exit143", 143),
            ("late", 1),
            ("off", 1),
            ("exit0 exit0", 0),
            ("exit3 exit3", 3),
            ("exit0 exit3", 1),
            ("nobody", 3),
            ("exit0 nobody", 3),
        ],
    )
    def test_wait_ends_with_the_exit_code_of_the_job(self, ended, ids, code):
        assert ended("wait", *ids.split()).code == code

    @pytest.mark.usefixtures("no_patience")
    def test_a_failure_of_wait_itself_has_an_exit_code_of_its_own(self, ended):
        with open(os.path.join(ended.folder, "jobs.json"), "wb") as file:
            file.write(b"{}")
        assert ended("wait", "exit0").code == 125

    def test_all_jobs_share_one_deadline(self, cli):
        for job_id in "abc":
            cli.ok("enqueue", "--id", job_id, "--", "true")
        result = cli("wait", "a", "b", "c", "--timeout", "50ms")
        assert result.code == 124
        assert "a, b, c" in result.err


def test_status_lists_every_state_there_is(cli):
    counts = json.loads(cli.ok("status", "--json"))["jobs"]
    assert tuple(counts) == STATES


def test_enqueue_keeps_where_it_was_asked(cli, tmp_path, monkeypatch):
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")
    told = json.loads(cli.ok("config", "set", "inherit-env", "FROM_HERE,MISSING", "--json"))
    assert told == {"schema": 1, "settings": {"inherit-env": ["FROM_HERE", "MISSING"]}}
    monkeypatch.setenv("FROM_HERE", "1")
    cli.ok("enqueue", "--id", "a", "--", "true")
    cli.ok(
        "enqueue",
        "--id",
        "b",
        "--cwd",
        "..",
        "--env",
        "FROM_HERE=2",
        "--env",
        "B=x=y",
        "--",
        "./a b",
        "c",
    )
    cli.ok("enqueue", "-", stdin='{"id": "c", "command": "true", "cwd": "/"}')
    a, b, c = json.loads(cli.ok("list", "--json"))
    assert (a["cwd"], a["env"]) == (str(tmp_path / "sub"), None)
    sets = json.loads((Path(cli.folder) / "env_sets.json").read_text())
    taken = sets[a["env_set"]]["env"]
    assert (taken["FROM_HERE"], taken["MISSING"], taken["PATH"]) == ("1", None, os.environ["PATH"])
    assert b["env_set"] == a["env_set"]
    assert os.path.samefile(b["cwd"], tmp_path)
    assert b["env"] == {"FROM_HERE": "2", "B": "x=y"}
    assert b["command"] == "'./a b' c"
    assert c["cwd"] == "/"


def test_purge_asks_on_a_terminal(cli):
    cli.ok("enqueue", "--id", "a", "--", "true")
    cli.ok("cancel", "a")
    for answer, left in ((b"\n", ["a"]), (b"n\n", ["a"]), (b"y\n", [])):
        outer, inner = pty.openpty()
        process = cli.popen("purge", stdin=inner, stdout=inner, stderr=inner)
        os.close(inner)
        os.write(outer, answer)
        process.wait(timeout=20)
        shown = os.read(outer, 4096)
        os.close(outer)
        assert b"Remove 1 job" in shown
        assert names(cli) == left


def test_update_changes_fields_given_as_an_object_or_as_options(cli):
    cli.ok("enqueue", "--id", "a", "--", "true")
    assert "'a'" in cli.ok("update", "{id: a, priority: 3, command: echo 1}")
    [job] = json.loads(cli.ok("list", "--json"))
    assert (job["priority"], job["command"], job["state"]) == (3, "echo 1", "pending")
    cli.ok("update", "--id", "a", "--priority", "4", "--timeout", "5m")
    [job] = json.loads(cli.ok("list", "--json"))
    assert (job["priority"], job["timeout"]) == (4, 300)
    cli.ok("update", '{"id": "a", "state": "cancelled"}')
    assert "cancelled" in cli.ok("list")


def test_purge_leaves_dead_jobs_unless_they_are_named(cli):
    cli.ok("enqueue", "{id: a, command: false, max_retries: 0}")
    cli.ok("enqueue", "{id: b, command: echo 1}")
    assert cli("worker", "run", "--drain").code == 1
    assert cli.ok("purge", "--logs", "--yes", "--older-than", "1h").endswith("0 jobs.\n")
    assert len(os.listdir(os.path.join(cli.folder, "logs"))) == 1
    assert cli.ok("purge", "--logs", "--yes") == "Removed the output of 1 job.\n"
    assert sorted(names(cli)) == ["a", "b"]
    assert cli.ok("purge", "--yes") == "Removed 1 job.\n"
    assert names(cli) == ["a"]
    assert os.listdir(os.path.join(cli.folder, "logs")) == []
    assert cli.ok("purge", "--yes", "--state", "dead", "-q") == "a\n"


def test_a_log_that_cannot_be_removed_is_told_and_keeps_no_other(cli):
    for job_id in ("a", "b"):
        cli.ok("enqueue", "--id", job_id, "--command", "echo", "--max-retries", "0")
    cli.ok("worker", "run", "--drain")
    logs = Path(cli.folder) / "logs"
    (log,) = logs.glob("a.1.*")
    log.unlink()
    log.mkdir()  # nobody, root included, can take that away as a file
    kept = cli("purge", "a", "b", "--logs", "--yes")
    assert kept.code == 5
    assert str(log) in kept.err
    assert list(logs.glob("b.*")) == []
    gone = cli("purge", "a", "b", "--yes")
    assert gone.code == 5
    assert "nothing was changed" not in gone.err
    assert gone.err.startswith(f"Removed 2 jobs, but not all of their output: removing {log}")
    assert names(cli) == []


def test_logs_shows_any_run_of_a_job_and_tells_of_silent_ones(cli):
    cli.ok("enqueue", "{id: a, command: echo run $QUEUECTL_ATTEMPT; seq 3; exit 1, max_retries: 1}")
    cli.ok("enqueue", "{id: silent, command: true}")
    assert cli("logs", "a") == (0, "", "Job 'a' has not run yet.\n")
    assert_no_run(cli, "a", "1", "it has not run yet")
    cli.ok("config", "set", "base", "0")
    assert cli("worker", "run", "--drain").code == 1
    assert cli.ok("logs", "a") == "run 2\n1\n2\n3\n"
    assert cli.ok("logs", "a", "--run", "1") == "run 1\n1\n2\n3\n"
    assert cli.ok("logs", "a", "--lines", "2") == "2\n3\n"
    assert cli.ok("logs", "a", "-n", "1", "--run", "1") == "3\n"
    assert cli.ok("logs", "a", "-f") == "run 2\n1\n2\n3\n"
    assert cli("logs", "silent") == (
        0,
        "",
        "Job 'silent' printed nothing, or its output was removed.\n",
    )
    for run in ("0", "3", "99"):
        assert_no_run(cli, "a", run, "it has runs 1 to 2")
    assert_no_run(cli, "silent", "2", "it has run once")
    assert cli("logs", "a", "--run", "-1").code == 2
    assert cli("logs", "a", "-f", "--run", "1").code == 2


def assert_no_run(cli, job_id, run, runs):
    told = f"queuectl: job '{job_id}' has no run {run}; {runs}\n"
    assert cli("logs", job_id, "--run", run) == (3, "", told)


def test_logs_follow_a_running_job(cli, tmp_path, wait_until):
    gate = tmp_path / "gate"
    command = f"echo first; while [ ! -e '{gate}' ]; do sleep 0.05; done; echo last"
    cli.ok("enqueue", "--id", "a", "--command", command)
    process = cli.popen("logs", "-f", "a")
    cli.ok("worker", "start")
    assert process.stdout
    assert process.stdout.readline() == b"first\n"
    gate.touch()
    assert process.communicate(timeout=20)[0] == b"last\n"
    assert process.returncode == 0


def test_show_prints_the_job_its_history_and_its_last_output(cli):
    cli.ok("enqueue", "{id: a, command: echo oops; exit 4, max_retries: 1, timeout: 1m}")
    cli.ok("config", "set", "base", "0")
    assert cli("worker", "run", "--drain").code == 1
    shown = cli.ok("show", "a")
    for line in (
        "ID            : a",
        "State         : dead",
        "Exit Code     : 4",
        "Timeout       : 60 s",
    ):
        assert line in shown
    assert shown.count("run 1: fail") == 1
    assert shown.endswith("oops\n")
    job = json.loads(cli.ok("show", "a", "--json"))
    assert (job["schema"], job["job"]["state"]) == (1, "dead")


def test_init_makes_a_folder_with_its_files(cli, tmp_path, monkeypatch):
    said = cli.ok("init", "data")
    assert said == f"Data folder made: {tmp_path / 'data'}\n"
    made = set(os.listdir("data"))
    assert {".queuectl", "jobs.json", "dlq.json", "config.json", "worker_pids.json"} <= made
    assert "there already" in cli.ok("init", "data")
    monkeypatch.delenv("QUEUECTL_DATA")
    assert f"Data Folder: {tmp_path / 'data'}\n" in cli.ok("status")


def test_ping_makes_no_folder_and_names_the_one_that_is_there(cli):
    assert cli("ping").code == 0
    assert not os.path.exists(cli.folder)
    cli.ok("enqueue", "--", "true")
    assert cli.folder in cli.ok("ping")


def test_a_command_that_writes_rescues_the_job_of_a_dead_worker(cli, wait_until):
    cli.ok("enqueue", "--id", "a", "--", "sleep", "60")
    cli.ok("worker", "start")
    wait_until(lambda: " running  a " in cli.ok("worker", "list"))
    [worker] = json.loads(cli.ok("worker", "list", "--json"))["workers"]
    assert (worker["alive"], worker["job"], worker["run"]) == (True, "a", 1)
    os.kill(worker["pid"], signal.SIGKILL)
    wait_until(lambda: "lost" in cli.ok("worker", "list"))
    result = cli("enqueue", "--id", "b", "--", "true")
    assert result.code == 0
    assert "job 'a'" in result.err
    [job, _] = json.loads(cli.ok("list", "--json"))
    assert (job["state"], job["losses"]) == ("pending", 1)


def test_status_tells_of_a_worker_that_died(cli, wait_until):
    cli.ok("enqueue", "--id", "a", "--", "sleep", "60")
    cli.ok("worker", "start")
    wait_until(lambda: " running  a " in cli.ok("worker", "list"))
    assert "Health: ok" in cli.ok("status")
    [worker] = json.loads(cli.ok("worker", "list", "--json"))["workers"]
    os.kill(worker["pid"], signal.SIGKILL)
    wait_until(lambda: "lost" in cli.ok("worker", "list"))
    assert "Health: stalled" in cli.ok("status")
    assert "the worker of a job that is in progress died" in cli.ok("status")
    assert json.loads(cli.ok("status", "--json"))["health"] == "stalled"


def test_a_job_that_is_due_later_stalls_nothing(cli):
    def shown():
        return "".join(part[1] for part in standing_text(standing_of(summary()), 200))

    def summary():
        return read_summary(cli.folder, time.time())

    cli.ok("enqueue", "--delay", "1h", "--", "true")
    told = cli.ok("status")
    assert "Health: ok\n" in told
    assert told.endswith("\nNote: 1 job waits for a later time; no worker runs yet\n")
    assert shown() == " no workers | 1 pending"
    cli.ok("enqueue", "--", "true")
    told = cli.ok("status")
    assert "Health: stalled\n" in told
    assert told.endswith("Warning: 2 jobs wait and no worker runs; 'worker start' starts one\n")
    assert shown() == " ! 2 jobs wait, no worker runs: worker start | 2 pending"


@pytest.mark.parametrize("now", [(), ("--now",)])
def test_workers_of_a_damaged_queue_can_be_stopped(cli, wait_until, now):
    cli.ok("worker", "start")
    if now:
        cli.ok("enqueue", "--", "sleep", "60")
        wait_until(lambda: "in_progress" in cli.ok("list"))
    cli.ok("checkpoint")
    path = os.path.join(cli.folder, "jobs.json")
    with open(path, "a", encoding="utf-8") as file:
        file.write("]")
    let_rest(cli.folder)
    result = cli("worker", "stop", *now)
    assert result.code == 5
    assert result.out.startswith("Stopped worker PID ")
    assert result.err.startswith("queuectl: the workers are stopped, but ")
    assert result.err.count("\n") == 1
    assert "idle" not in cli("worker", "list").out


def test_cancel_ends_a_running_job(cli, wait_until):
    cli.ok("enqueue", "--id", "a", "--", "sleep", "60")
    cli.ok("worker", "start")
    wait_until(lambda: "in_progress" in cli.ok("list"))
    assert "its worker is asked to end it" in cli.ok("cancel", "a")
    assert cli("wait", "a", "--timeout", "20").code == 1
    assert "cancelled" in cli.ok("list")


def test_a_worker_in_the_foreground_goes_on_when_nobody_listens(cli, wait_until):
    cli.ok("enqueue", "--file", "-", stdin='{"command": "true"}\n' * 3)
    process = cli.popen("worker", "run", "--drain")
    assert process.stdout
    process.stdout.close()
    process.wait(timeout=20)
    assert "Completed   : 3" in cli.ok("status")


def test_the_error_of_a_progress_bar_is_what_it_ended_with(cli):
    bar = r"""for i in $(seq 900); do printf "\r%d%%" $i; done; printf "\rERROR: no space\n"; """
    bar += "exit 4"
    cli.ok("enqueue", "--id", "bar", "--max-retries", "0", "--command", bar)
    assert cli("worker", "run", "--drain").code == 1
    job = json.loads(cli.ok("show", "bar", "--json"))["job"]
    assert job["error"] == "exit code 4: ERROR: no space"
    assert cli.ok("show", "bar").endswith("shows all):\nERROR: no space\n")
    assert "exit code 4: ERROR: no space" in cli.ok("top")


def test_logs_follow_a_job_across_its_runs(cli, tmp_path, wait_until):
    gate = tmp_path / "gate"
    command = f"echo run $QUEUECTL_ATTEMPT; test -e '{gate}'"
    cli.ok("config", "set", "base", "3")
    cli.ok("enqueue", "--id", "a", "--max-retries", "50", "--command", command)
    process = cli.popen("logs", "-f", "a")
    assert process.stdout
    assert process.stderr
    assert process.stderr.readline() == b"Run 1 is due now.\n"
    assert process.stderr.readline().startswith(b"No worker runs")
    cli.ok("worker", "start")
    assert process.stdout.readline() == b"run 1\n"
    assert process.stderr.readline() == b"Run 1 of job 'a' begins.\n"
    told = process.stderr.readline()
    gate.touch()
    assert told.startswith(b"Run 1 of job 'a' failed: exit code 1: run 1. Run 2 is due ")
    assert process.stderr.readline() == b"Run 2 of job 'a' begins.\n"
    out = process.communicate(timeout=30)[0]
    assert process.returncode == 0
    job = json.loads(cli.ok("show", "a", "--json"))["job"]
    assert job["state"] == "completed"
    assert out.decode() == "".join(f"run {run}\n" for run in range(2, job["run"] + 1))


def test_retry_makes_a_delayed_job_due_now(cli):
    cli.ok("enqueue", "--id", "a", "--delay", "1h", "--", "true")
    assert cli.ok("retry", "a") == "Job 'a' is pending and due now.\n"
    result = cli("retry", "a")
    assert (result.code, result.err) == (4, "queuectl: job 'a' is pending and due already\n")
    cli.ok("worker", "run", "--drain")
    assert json.loads(cli.ok("show", "a", "--json"))["job"]["state"] == "completed"


def test_an_unknown_setting_is_told_by_every_command_that_reads_the_settings(cli):
    cli.ok("enqueue", "--id", "a", "--", "true")
    with open(os.path.join(cli.folder, "config.json"), "w", encoding="utf-8") as file:
        file.write('{"max_retrys": 5, "\\u001b[2J": 1}')
    told = (
        f"queuectl: {cli.folder}/config.json: not a setting, and without effect: "
        "'max_retrys' (did you mean 'max-retries'?), '\u241b[2J'\n"
    )
    for line in ("status", "list", "show a"):
        assert cli(*line.split()).err == "", line
    for line in (
        "enqueue --id b -- true",
        "config get",
        "config get base",
        "config set base 1",
        "config unset base",
        "explain a",
        "worker start",
    ):
        assert cli(*line.split()).err.count(told) == 1, line
    # What the worker that was started found is told once more, to whoever comes next.
    result = cli("worker", "run", "--drain")
    assert (result.code, told in result.err) == (0, True)
    assert b"max_retrys" in read(cli.folder, "config.json")


def test_a_missing_settings_file_is_told_with_its_cure(cli):
    cli.ok("enqueue", "--", "true")
    os.unlink(os.path.join(cli.folder, "config.json"))
    result = cli("config", "get")
    assert result.code == 5
    assert "config.json is missing; queuectl doctor --repair writes it anew" in result.err
    assert cli("doctor", "--repair").code == 0
    cli.ok("config", "get")


LONGEST = 131_071  # bytes; as the kernel of Linux has it


def test_the_longest_command_runs_and_a_longer_one_is_refused(cli):
    longest = "true ".ljust(LONGEST, "#")
    cli.ok("enqueue", "--id", "a", "--", "true")
    cli.ok("enqueue", "-", stdin=json.dumps({"id": "b", "command": longest}))
    cli.ok("worker", "run", "--drain")
    assert json.loads(cli.ok("show", "b", "--json"))["job"]["state"] == "completed"
    for draft in (
        {"id": "c", "command": longest + "#"},
        {"id": "c", "command": "ü" * (LONGEST // 2 + 1)},
        {"id": "c", "command": "true", "env": {"E": "x" * (LONGEST - 1)}},
    ):
        result = cli("enqueue", "-", stdin=json.dumps(draft))
        assert (result.code, names(cli)) == (2, ["a", "b"])
        assert f"at most {LONGEST} in one word" in result.err
        assert cli("update", json.dumps({**draft, "id": "b"})).code == 2


def test_a_command_line_that_is_told_names_the_queue_that_was_named(cli, tmp_path):
    other = ("--data", str(tmp_path / "an other"))
    front = f"'queuectl --data '{other[1]}'"
    draft = ("enqueue", "--id", "a", "--max-retries", "0", "--", "false")
    assert cli(*other, *draft).err == f"No worker runs; {front} worker start' starts one.\n"
    assert f"no worker runs; {front} worker start' starts one\n" in cli.ok(*other, "status")
    told = cli(*other, "worker", "run", "--drain").err
    assert told == f"Ended dead: a: exit code 1; {front} show a' tells more.\n"
    assert f"{front} dlq retry a' queues" in cli.ok(*other, "explain", "a")
    assert cli(*draft).err == "No worker runs; 'worker start' starts one.\n"


def test_purge_makes_room_on_a_full_disk_with_the_output_that_goes(cli, monkeypatch):
    cli.ok("enqueue", "--id", "a", "--command", "echo x")
    cli.ok("worker", "run", "--drain")
    remove = FileStore.remove

    def full(self, *which):
        if list(self.output.output(self.get("a"))):
            raise DiskRefused("No space left on device")
        return remove(self, *which)

    monkeypatch.setattr(FileStore, "remove", full)
    assert cli("purge", "a", "--yes") == (0, "Removed 1 job.\n", "")
    assert names(cli) == []


def test_an_update_that_is_tried_out_shows_what_would_be(cli):
    cli.ok("enqueue", "--id", "a", "--command", "old")
    change = ("update", "a", "--command", "new", "--priority", "3", "--dry-run")
    assert cli.ok(*change).endswith("a               pending    new\n")
    assert "old" in cli.ok("list")


def test_an_empty_list_says_so_beside_the_result(cli):
    told = f"Nothing is queued yet: {cli.folder} is made at the first write.\n"
    assert cli("list").err == told
    assert cli.ok("status").endswith(told)
    assert cli.ok("wait", "--all") == told
    assert json.loads(cli.ok("status", "--json"))["exists"] is False
    cli.ok("init")
    assert cli("list").err == f"The queue holds no job ({cli.folder}).\n"
    assert json.loads(cli.ok("status", "--json"))["exists"] is True
    cli.ok("enqueue", "--", "true")
    assert cli("list").err == ""
    result = cli("list", "--state", "dead", "--state", "failed")
    assert result.out.count("\n") == 2
    assert result.err == f"No job is dead or failed ({cli.folder}).\n"
    assert (
        "none waits for a retry; 'dlq list' shows the dead" in cli("list", "--state", "failed").err
    )
    assert cli("dlq", "list").err == "No job is dead.\n"
    assert cli("worker", "list").err == "No worker runs; 'worker start' starts one.\n"
    for line in ("list -q --state dead", "list --json --state dead", "dlq list -q", "list -q"):
        assert cli(*line.split()).err == ""


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("--cwd {here}/no -- true", ["The folder {here}/no"]),
        ("--env-file no.env -- true", ["The file {here}/no.env"]),
        ("-- pyhton x", ["The program pyhton"]),
        ("--cwd no -- ./x", ["The folder {here}/no", "The program ./x"]),
        ("--each rows -- frob {{}}", ["The program frob"]),
        ("--dry-run -- frob", ["The program frob"]),
        ("--each rows --cwd {{}} -- true {{}}", []),
        ("--after a -- frob", []),  # which may build it
        ("--env PATH=/opt -- frob", []),
        ("--env-file rows -- frob", []),
        ("-q -- frob", []),
        ("-- exec true", []),
        ("-- ./true", []),
        ("--command frob", []),
    ],
)
def test_what_a_job_needs_and_is_not_here_is_told(cli, tmp_path, monkeypatch, line, told):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows").write_text("1\n")
    (tmp_path / "true").touch(0o700)
    cli.ok("-q", "enqueue", "--id", "a", "--", "true")
    added = cli("enqueue", *(word.format(here=tmp_path) for word in line.split()))
    ending = " is not here now; where it is missing, each run fails."
    lines = [f"{what}{ending}".format(here=tmp_path) for what in told]
    assert (added.code, added.err.splitlines()[: len(lines)]) == (0, lines)
    assert added.err.count(ending) == len(lines)
