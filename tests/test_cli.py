"""The command line as a whole: which front end runs, what goes where, how it ends."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys

import pytest
from samples import PYTHON

from queuectl.errors import StoreError
from queuectl.job_queue import JobQueue


def names(cli):
    return [job["id"] for job in json.loads(cli.ok("list", "--json"))]


class TestFrontEnds:
    def test_empty_standard_input_is_an_empty_script(self, cli):
        assert cli() == (0, "", "")
        assert cli.run() == (0, "", "")
        assert not os.path.exists(cli.folder), "doing nothing makes no folder"

    def test_standard_input_is_a_script(self, cli):
        result = cli(
            stdin="enqueue --id a -- echo 1\n# a remark\n\nlist --state pending  # shown\n"
        )
        assert result.code == 0
        assert result.out.splitlines()[0] == "Job added to the queue with job id: a"
        assert result.out.splitlines()[-1] == "a               pending    echo 1"

    def test_a_script_from_a_file(self, cli):
        with open("jobs.txt", "w", encoding="utf-8") as file:
            file.write('enqueue {id: a,\n  command: "echo ü"}\nenqueue --id b -- true\n')
        for argv in (("-f", "jobs.txt"), ("--file=jobs.txt", "-q")):
            result = cli(*argv)
            assert result.code == (0 if argv[0] == "-f" else 1), result
        assert names(cli) == ["a", "b"]

    def test_arguments_go_before_standard_input(self, cli):
        result = cli("status", stdin="enqueue --id a -- true\n")
        assert result.code == 0
        assert result.out.startswith("Total Jobs: 0\n")
        assert names(cli) == []

    def test_the_shell_wants_two_terminals(self, cli):
        outer, inner = pty.openpty()
        try:
            process = cli.popen(stdin=inner)
            out, err = process.communicate(timeout=20)
        finally:
            os.close(outer)
            os.close(inner)
        assert process.returncode == 2
        assert out == b""
        assert err.count(b"\n") == 1

    def test_options_may_stand_in_any_place(self, cli, tmp_path):
        other = str(tmp_path / "other")
        assert cli.ok("enqueue", "--data", other, "--id", "a", "-q", "--", "true") == "a\n"
        assert cli.ok("--data", other, "-q", "list") == "a\n"
        assert cli.ok("list", "--quiet", f"--data={other}") == "a\n"
        assert cli("--data", other, stdin="list -q\n").out == "a\n"
        assert cli(stdin=f"list -q --data '{other}'\nlist -q\n").out == "a\n"
        assert names(cli) == []

    def test_all_commands_of_a_script_share_one_queue(self, cli):
        lines = "".join(f"enqueue --id j{n} -- true\n" for n in range(50))
        assert cli("-q", stdin=lines + "cancel j1 j2\nlist --state cancelled -q\n").out.endswith(
            "j49\nj1\nj2\nj1\nj2\n"
        )


def test_files_are_the_whole_truth_behind_a_drain_in_a_script(cli, tmp_path):
    (tmp_path / "script").write_text("enqueue -- true\nworker run --drain\nstatus\n")
    told, _ = cli.popen("-f", str(tmp_path / "script")).communicate(timeout=20)
    assert b"Completed   : 1\n" in told
    assert b"Changes Waiting" not in told


class TestScripts:
    BAD = "enqueue --id a -- true\nlist --state pendng\nshow nobody\nenqueue --id b -- true\n"

    def test_a_bad_line_is_told_with_its_number_and_a_caret_and_the_rest_runs(self, cli):
        result = cli(stdin=self.BAD)
        assert result.code == 1
        assert names(cli) == ["a", "b"]
        told = result.err.splitlines()
        assert told[0].startswith("queuectl: <stdin>:2:")
        assert "did you mean 'pending'" in told[0]
        assert told[1].strip() == "list --state pendng"
        assert told[2].index("^") == told[1].index("pendng")
        assert told[3].startswith("queuectl: <stdin>:3: no job has the id 'nobody'")
        assert told[4] == "show nobody"
        assert told[5] == "     ^^^^^^"

    def test_stop_on_error_ends_a_script_at_its_first_bad_line(self, cli):
        assert cli("--stop-on-error", stdin=self.BAD).code == 1
        assert names(cli) == ["a"]

    def test_a_dry_run_tells_the_mistakes_and_runs_nothing(self, cli):
        result = cli("--dry-run", stdin=self.BAD)
        assert (result.code, result.out) == (1, "4 commands, 1 of them wrong; nothing was run\n")
        assert result.err.splitlines()[0].startswith("queuectl: <stdin>:2:")
        assert not os.path.exists(cli.folder)
        result = cli("--dry-run", stdin="list -h\nstatus\n")
        assert (result.code, result.err) == (0, "")
        assert "none of them wrong" in result.out

    LONG = "enqueue --id a -- true\nwait a\nenqueue --id b -- true\n"

    def test_a_script_that_was_killed_goes_on_where_it_was(self, cli, tmp_path, wait_until):
        script, progress = tmp_path / "jobs.txt", tmp_path / "progress"
        script.write_text(self.LONG)
        process = cli.popen("-f", str(script), "--resume", str(progress))
        wait_until(lambda: progress.exists() and b"begun 2 " in progress.read_bytes())
        process.kill()
        process.wait(20)
        assert names(cli) == ["a"]
        cli.ok("cancel", "a")
        result = cli("-f", str(script), "--resume", str(progress))
        assert f"{script}:2: interrupted the last time; it is run again" in result.err
        assert "exists" not in result.err  # or the first line would be told to have run twice
        assert names(cli) == ["a", "b"]
        assert not progress.exists()

    def test_a_script_that_stopped_at_a_failure_begins_anew(self, cli, tmp_path):
        """Its first lines are what has to be done again: the drain alone would now succeed."""
        progress = tmp_path / "progress"
        options = ("--stop-on-error", f"--resume={progress}")
        nightly = "enqueue --max-retries 0 -- test -e %s\nworker run --drain\nenqueue -- %s\n"
        for night in (1, 2):
            result = cli.run(*options, stdin=nightly % ("none", "true"))
            assert (result.code, result.out.count("Job added")) == (1, 1), night
            anew = "<stdin>: command 2 failed the last time; it starts over"
            assert (anew in result.err) == (night == 2)
            assert "interrupted" not in result.err
        progress.write_bytes(progress.read_bytes() + b"begun 7")  # and a line cut off
        mended = cli.run(*options, stdin=nightly % (".", "echo done"))
        assert (mended.code, mended.out.count("Job added")) == (0, 2)
        assert not progress.exists()

    @pytest.mark.parametrize(
        ("kept", "script", "why"),
        [
            (b"done 1 00000000\n", "list\n", "changed since"),
            (b"done 3 00000000\n", "list\nlist\n", "3 of its commands were done, this one has 2"),
            (b"one\n", "list\n", "does not tell how far a script got"),
            (b"one 2 3\n", "list\n", "does not tell how far a script got"),
            (b"no newline", "list\n", "does not tell how far a script got"),
        ],
    )
    def test_the_progress_of_something_else_is_refused(self, cli, tmp_path, kept, script, why):
        progress = tmp_path / "progress"
        progress.write_bytes(kept)
        result = cli(f"--resume={progress}", stdin=script)
        assert (result.code, result.out) == (2, "")
        assert why in result.err
        assert progress.read_bytes() == kept

    def test_progress_that_cannot_be_kept_ends_the_script(self, cli, tmp_path):
        result = cli("--resume", str(tmp_path), stdin=self.LONG)
        assert (result.code, names(cli)) == (2, [])
        assert f"{tmp_path} is a folder, not a file; name another for --resume" in result.err

    @pytest.mark.parametrize("option", ["--dry-run", "--resume=x", "--stop-on-error", "-f=x"])
    def test_options_of_scripts_are_not_options_of_commands(self, cli, option):
        result = cli(option, "list")
        assert result.code == 2
        assert "for scripts, not for a command" in result.err

    def test_a_dry_run_has_nothing_to_resume(self, cli):
        assert cli("--dry-run", "--resume=x", stdin="list\n").code == 2

    def test_the_file_of_a_script_is_named_in_its_errors(self, cli):
        with open("my jobs.txt", "w", encoding="utf-8") as file:
            file.write("\n\nlst\n")
        result = cli("-f", "my jobs.txt")
        assert result.code == 1
        assert result.err.startswith("queuectl: my jobs.txt:3: unknown command 'lst'")

    def test_a_line_of_bytes_that_are_not_text_is_told_and_the_rest_runs(self, cli):
        result = cli(stdin=b"enqueue --id a -- true\nshow \xff\nenqueue --id b -- true\n")
        assert result.code == 1
        assert "<stdin>:2:" in result.err
        assert names(cli) == ["a", "b"]

    def test_an_object_that_is_never_closed_is_told_at_its_beginning(self, cli):
        result = cli(stdin="enqueue --id a -- true\nenqueue {id: b,\ncommand: true\n")
        assert result.code == 1
        assert result.err.startswith("queuectl: <stdin>:2:")
        assert names(cli) == ["a"]

    def test_an_exit_code_that_is_not_an_error_counts_as_a_failed_line(self, cli):
        cli.ok("enqueue", "--id", "a", "--", "true")
        result = cli(stdin="wait a --timeout 0.01\n")
        assert result.code == 1
        assert "<stdin>:1:" in result.err

    def test_the_script_itself_is_not_a_file_of_jobs(self, cli):
        result = cli(stdin='enqueue -\n{"command": "true"}\n')
        assert result.code == 1
        assert names(cli) == []


class TestStreams:
    def test_results_and_remarks_are_kept_apart(self, cli):
        cli.ok("enqueue", "--id", "a", "--", "true")
        result = cli("wait", "a", "--timeout", "0.3")
        assert result.code == 124
        assert result.out == ""
        assert "No worker runs" in result.err

    def test_jobs_that_are_in_are_told_though_workers_cannot_be_read(self, cli, monkeypatch):
        def refuse(_: JobQueue) -> None:
            raise StoreError("nobody answers any more")

        monkeypatch.setattr(JobQueue, "workers", refuse)
        assert cli.ok("enqueue", "--id", "a", "--", "true").endswith(": a\n")

    @pytest.mark.parametrize("unbuffered", ["", "1"])
    def test_a_closed_pipe_ends_quietly(self, cli, unbuffered):
        cli.ok("enqueue", "--file", "-", stdin='{"command": "true"}\n' * 3000)
        done = subprocess.run(
            ["/bin/sh", "-c", f"{PYTHON} -m queuectl list | head -1"],
            capture_output=True,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
            timeout=60,
            check=False,
        )
        assert done.stdout.count(b"\n") == 1
        assert done.stderr == b""

    FULL = (
        ("list",),
        ("list", "--json"),
        ("status",),
        ("help",),
        ("show", "a"),
        ("logs", "a"),
        ("backup", "-"),
        ("list", "-q", "--no-color"),
        ("enqueue", "--id", "b", "--command", "true"),
    )

    @pytest.mark.parametrize("unbuffered", ["", "1"])
    @pytest.mark.parametrize("argv", FULL, ids=" ".join)
    def test_output_that_is_refused_is_told_once(self, cli, argv, unbuffered):
        cli.ok("enqueue", "--id", "a", "--", "echo", "1")
        cli.ok("worker", "run", "--drain")
        assert into_full(cli, argv, unbuffered) == (1, NOT_WRITTEN)
        assert names(cli) == (["a", "b"] if argv[0] == "enqueue" else ["a"])

    @pytest.mark.parametrize("unbuffered", ["", "1"])
    def test_a_script_ends_where_its_output_is_refused(self, cli, tmp_path, unbuffered):
        script, progress = tmp_path / "jobs.txt", tmp_path / "progress"
        script.write_text("enqueue --id a -- true\nlist -q\nenqueue --id b -- true\n")
        argv = ("-f", str(script), "--resume", str(progress))
        assert into_full(cli, argv, unbuffered) == (1, NOT_WRITTEN)
        assert names(cli) == ["a"]
        script.write_text("enqueue --id c -- true\nlist -q\n" + "show nobody\n" * 3)
        assert into_full(cli, ("-f", str(script)), unbuffered) == (1, NOT_WRITTEN)
        assert names(cli) == ["a", "c"]

    @pytest.mark.parametrize(
        "closed", ["<&- >&-", ">&- 2>&-", "<&- 2>&-", "<&- >&- 2>&-", "<&-", ">&-", "2>&-"]
    )
    def test_with_any_stream_closed_all_goes_as_it_should(self, cli, closed):
        run = f"{PYTHON} -m queuectl"
        for argv in ("worker start", "enqueue -q --id a --command 'echo out; echo err >&2'"):
            shell = subprocess.run(
                ["/bin/sh", "-c", f"{run} {argv} {closed}"],
                stderr=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                timeout=60,
                check=False,
            )
            assert (shell.returncode, shell.stderr) == (0, b"")
        assert cli("wait", "a", "--timeout", "20").code == 0
        assert cli.ok("logs", "a") == "out\nerr\n"
        assert cli.ok("worker", "list").count("w-") == 1

    def test_a_standard_output_that_is_closed_shows_nothing(self, cli):
        cli.ok("enqueue", "--id", "a", "--", "true")
        run = f"{PYTHON} -m queuectl"
        for argv in ("list", "list --json", "backup -", "help", "show a", "__complete bash 'q l'"):
            done = subprocess.run(
                ["/bin/sh", "-c", f"{run} {argv} >&-"],
                stderr=subprocess.PIPE,
                timeout=60,
                check=False,
            )
            assert (done.returncode, done.stderr) == (0, b""), argv

    def test_a_locale_without_unicode_shows_question_marks_but_in_json(self, cli):
        cli.ok("enqueue", "--id", "a", "--command", "echo ü 日本")
        env = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
        assert "echo ?" in cli.run("list", **env).out
        [job] = json.loads(cli.run("list", "--json", **env).out)
        assert job["command"] == "echo ü 日本"

    def test_json_is_the_same_on_a_terminal(self, cli):
        cli.ok("enqueue", "--id", "a", "--command", "echo ü")
        for argv in (("list", "--json"), ("show", "a", "--json"), ("dlq", "list", "--json")):
            on_terminal = in_terminal(argv).replace("\r\n", "\n")
            assert on_terminal == cli.ok(*argv)
            assert json.loads(on_terminal) is not None

    @pytest.mark.parametrize(
        "env", [{"NO_COLOR": "1"}, {"TERM": "dumb"}, {"argv": "--no-color"}, {}]
    )
    def test_a_terminal_is_coloured_unless_that_is_switched_off(self, cli, env):
        cli.ok("enqueue", "--id", "a", "--", "true")
        cli.ok("cancel", "a")
        flag = [env.pop("argv")] if "argv" in env else []
        plain = bool(env or flag)
        shown = in_terminal(["list", *flag], **{"TERM": "xterm", "NO_COLOR": "", **env})
        assert ("\x1b" in shown) is not plain
        assert "\x1b" not in cli.ok("list")

    def test_tables_fit_the_terminal(self, cli):
        cli.ok("enqueue", "--id", "a", "--command", "echo " + "long " * 100)
        shown = in_terminal(["list"], TERM="dumb", COLUMNS="40").splitlines()
        assert max(map(len, shown)) <= 40
        assert shown[-1].endswith("…")
        assert "long " * 99 in cli.ok("list")


NOT_WRITTEN = "queuectl: writing the output: No space left on device\n"


def into_full(cli, argv, unbuffered):
    """Exit code and standard error of a command whose standard output is a full disk."""
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "queuectl", *argv],
            stdin=subprocess.DEVNULL,
            stdout=full,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
            timeout=60,
            check=False,
        )
    return done.returncode, done.stderr.decode()


def in_terminal(argv, **env):
    """What the command shows on a terminal."""
    outer, inner = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "queuectl", *argv],
        stdin=inner,
        stdout=inner,
        stderr=inner,
        env={**os.environ, **env},
    )
    os.close(inner)
    shown = b""
    try:
        while chunk := os.read(outer, 65536):
            shown += chunk
    except OSError:  # Linux's way to tell the end of a terminal
        pass
    finally:
        os.close(outer)
    process.wait(timeout=20)
    return shown.decode()


class TestEnds:
    def test_an_interruption_ends_at_once_without_a_traceback(self, cli):
        cli.ok("enqueue", "--id", "a", "--", "true")
        process = cli.popen("wait", "a")
        assert process.stderr
        assert b"No worker runs" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=10)
        assert process.returncode == 130
        assert err == b"queuectl: interrupted\n"
        assert names(cli) == ["a"], "the job stays"

    def test_interrupting_what_follows_a_job_leaves_the_job(self, cli):
        cli.ok("enqueue", "--id", "a", "--command", "echo started; sleep 60")
        cli.ok("worker", "start")
        process = cli.popen("logs", "-f", "a")
        assert process.stdout
        assert process.stdout.readline() == b"started\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=10)
        assert (process.returncode, err) == (130, b"queuectl: interrupted\n")
        assert "in_progress" in cli.ok("list")

    def test_an_unexpected_error_is_one_line(self, cli, monkeypatch):
        def broken(*_):
            raise ValueError("two\nlines")

        monkeypatch.setattr("queuectl.store.opening.summary", broken)
        result = cli("status")
        assert result.code == 1
        assert result.err.count("\n") == 1
        assert "ValueError" in result.err
        assert "QUEUECTL_DEBUG=1" in result.err
        monkeypatch.setenv("QUEUECTL_DEBUG", "1")
        assert "Traceback" in cli("status").err

    @pytest.mark.parametrize(
        ("argv", "code"),
        [
            (("status",), 0),
            (("nothing-like-that",), 2),
            (("show", "nobody"), 3),
            (("enqueue", "--id", "a", "--", "false"), 4),
            (("--data", "/dev/null", "status"), 5),
            (("wait", "a", "--timeout", "0"), 124),
        ],
    )
    def test_processes_have_the_exit_codes_of_their_errors(self, cli, argv, code):
        cli.ok("enqueue", "--id", "a", "--", "true")
        assert cli.run(*argv).code == code

    def test_every_exit_code_is_explained(self, cli):
        page = cli.ok("help", "exit-codes")
        for code in (0, 1, 2, 3, 4, 5, 124, 125, 130, 141):
            assert re.search(rf"^  {code} ", page, re.MULTILINE)
