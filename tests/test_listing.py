"""Jobs as rows: programs read back the exact values, and the table for people fits."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import random
import subprocess
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import START, make_job, moment

from queuectl.commands import listing, params
from queuectl.commands.context import Context
from queuectl.commands.grammar.objects import json_lines
from queuectl.job_queue import JobQueue
from queuectl.model.derived import DERIVED, SHOWN, age, next_retry, run_time, wait_time
from queuectl.model.fields import FIELDS
from queuectl.model.job import new_job
from queuectl.model.lifecycle import Outcome
from queuectl.model.times import format_time

NASTY = st.text('a ,"\r\n\t\\\\é', min_size=1, max_size=6).filter(str.strip)
JOBS = st.builds(
    make_job,
    st.sampled_from(("a", "0.-_:Z")),
    priority=st.integers(-2, 2),
    command=NASTY,
    timeout=st.none() | st.sampled_from((0.25, 5.0)),
    cwd=st.none() | NASTY,
    env=st.none() | st.dictionaries(NASTY, NASTY, max_size=2),
    tags=st.sampled_from(((), ("a",), ("b:1", "c"))),
    rerun=st.booleans(),
    error=st.none() | NASTY,
    exit_code=st.none() | st.integers(-1, 255),
    retry_on=st.none() | st.just([75, "timeout"]),
    history=st.sampled_from(((), ({"event": "fail", "at": "x,y"},))),
)
NO_OPTIONS = {name: False for name in ("json", "jsonl", "csv", "tsv", "input", "newest")}
NO_OPTIONS |= {"fields": [], "sort": None, "limit": None}


def lines(jobs, form, *fields):
    args = {**NO_OPTIONS, "fields": list(fields), form: True}
    context = Context(out=io.StringIO())
    return list(listing.data_lines(context, jobs, args, form, START + 60.0))


def texts(job):
    """The job's fields as a table for programs has them, said in the most direct way."""
    for field in FIELDS:
        value = getattr(job, field.name)
        if field.name == "tags":
            yield " ".join(value)
        elif value is None or value == ():
            yield ""
        elif isinstance(value, bool) or not isinstance(value, (str, int, float)):
            yield json.dumps(value, ensure_ascii=False)
        else:
            yield str(value).removesuffix(".0")


@settings(max_examples=25)
@given(st.lists(JOBS, max_size=2))
def test_csv_and_tsv_are_read_back_as_they_were(jobs):
    names = [field.name for field in FIELDS]
    wanted = [names, *(list(texts(job)) for job in jobs)]
    read = csv.reader(io.StringIO("\n".join(lines(jobs, "csv")) + "\n", newline=""), strict=True)
    assert list(read) == wanted
    marks = {"\\t": "\t", "\\n": "\n", "\\r": "\r", "\\\\": "\\"}
    rows = [line.split("\t") for line in lines(jobs, "tsv")]
    assert [["".join(_plain(cell, marks)) for cell in row] for row in rows] == wanted


def _plain(cell, marks):
    parts = iter(cell)
    for char in parts:
        yield marks[char + next(parts)] if char == "\\" else char


@settings(max_examples=25)
@given(st.lists(JOBS, max_size=2))
def test_the_jobs_of_input_are_made_again_when_it_is_enqueued(jobs):
    args = {**NO_OPTIONS, "jsonl": True, "input": True}
    printed = listing.data_lines(Context(out=io.StringIO()), jobs, args, "jsonl", START)
    file = io.BytesIO("".join(f"{line}\n" for line in printed).encode())
    drafts = [draft for _, draft in json_lines(file, "x")]
    defaults = make_job(max_retries=9, timeout=7.0)
    made = [new_job(draft, job_id="x", defaults=defaults) for draft in drafts]
    kept = [*listing._INPUT]
    assert [[getattr(job, name) for name in kept] for job in made] == [
        [getattr(job, name) for name in kept] for job in jobs
    ]


def test_times_that_follow_from_others():
    waiting = make_job(run_at=moment(10))
    assert (age(waiting, START + 60), wait_time(waiting, START + 60)) == (60, 50)
    assert (wait_time(waiting, START + 5), run_time(waiting, START + 60)) == (0, None)
    running = make_job(state="in_progress", run_at=moment(10), started_at=moment(14.5))
    assert (wait_time(running, START + 60), run_time(running, START + 60)) == (4.5, 45.5)
    ended = running._replace(state="completed", finished_at=moment(15.75))
    assert (wait_time(ended, START + 99), run_time(ended, START + 99)) == (4.5, 1.25)
    again = ended._replace(state="pending", finished_at=None)
    assert run_time(again, START + 99) is None
    failed = ended._replace(state="failed", run_at=moment(99))
    assert (next_retry(failed, START + 60), next_retry(ended, START + 60)) == (moment(99), None)
    assert age(make_job(created_at="by hand"), START) is None


def test_a_cancel_while_a_job_waits_is_not_the_end_of_its_run():
    entry = {"event": "fail", "at": moment(15.75), "run": 2}
    ran = make_job(run=2, started_at=moment(14.5), finished_at=moment(15.75), history=(entry,))
    gone = ran._replace(state="cancelled", finished_at=moment(70))
    assert run_time(gone, START + 99) == 1.25
    later = ({**entry, "run": 1}, {"event": "cancel", "at": moment(20), "run": 2})
    assert run_time(gone._replace(finished_at=moment(20), history=later), START + 99) == 5.5
    again = ({"event": "retry", "at": moment(30), "run": 2, "was": "completed"},)
    assert run_time(gone._replace(history=again), START + 99) is None
    assert [derived.name for derived in DERIVED] == [*SHOWN[-5:]]


def test_each_order_of_a_list_is_what_its_name_says():
    ran = {"started_at": moment(1), "finished_at": moment(9)}
    a = make_job("a", priority=2, attempts=1, updated_at=moment(9), state="dead", **ran)
    b = make_job("b", priority=1, attempts=0, created_at=moment(1), run_at=moment(-5))
    c = make_job("c", attempts=2, created_at=moment(2), updated_at=moment(3), state="in_progress")
    b = b._replace(started_at=moment(1), finished_at=moment(3))
    wanted = {
        **{"created": "abc", "time": "bca", "due": "bac", "id": "abc"},
        **{"state": "cba", "priority": "bca", "tries": "bac", "run_time": "cba"},
    }
    assert set(wanted) == set(params.ORDERS) == {*listing.ORDERS, "priority"}
    for sort, ids in wanted.items():
        for newest, limit in ((False, None), (False, 2), (True, None), (True, 2)):
            args = {**NO_OPTIONS, "sort": sort, "newest": newest, "limit": limit}
            found = "".join(job.id for job in listing.ordered([b, c, a], args, moment(0)))
            assert found == (ids[::-1] if newest else ids)[:limit]
    assert "".join(job.id for job in listing.ordered([b, a, c], NO_OPTIONS)) == "bac"


@pytest.mark.parametrize("aging", [0, 10])
def test_the_order_by_priority_is_that_of_claims(data_dir, aging):
    queue = JobQueue.open(data_dir)
    queue.change_settings({"aging": aging or None})
    rng = random.Random(aging)
    for n in range(40):
        more = {"run_at": format_time(time.time() - rng.randrange(90))} if n % 3 else {}
        queue.enqueue([{"id": f"j{rng.random()}", "command": "x", "priority": n % 4, **more}])
    later = format_time(time.time() + 3600)
    queue.enqueue([{"id": "late", "command": "x", "priority": -5, "run_at": later}])
    queue.settle(queue.claim("w"), Outcome("exited", 0, None, queue.now()))
    args = {**NO_OPTIONS, "sort": "priority"}
    listed = [job.id for job in listing.ordered(queue.find(), args, queue.now(), aging)]
    claimed = [queue.claim("w").id for _ in range(39)]
    assert queue.claim("w") is None
    assert listed[:40] == [*claimed, "late"]


@pytest.fixture
def queue(cli):
    queue = JobQueue.open(cli.folder)
    queue.enqueue([{"id": "a", "command": "x\ty", "tags": ["gpu", "n:1"], "max_retries": 0}])
    queue.enqueue([{"id": "b", "command": 'say "é, \x1b[1m"'}])
    queue.settle(queue.claim("w"), Outcome("exited", 3, None, queue.now()))
    queue.close()
    return cli


def test_a_list_has_its_fields_in_each_form(queue):
    assert queue.ok("list", "--fields", "id,tags", "--fields=state") == (
        "ID   Tags State\n" + "-" * 64 + "\nb    -    pending\na    gpu n:1 dead\n"
    ).replace("Tags State", "Tags    State").replace("-    pending", "-       pending")
    assert queue.ok("list", "-q", "--fields", "id,command") == 'b\tsay "é, \x1b[1m"\na\tx\\ty\n'
    assert queue.ok("list", "--csv", "--fields", "id,command,exit-code") == (
        'id,command,exit_code\nb,"say ""é, \x1b[1m""",\na,x\ty,3\n'
    )
    assert queue.ok("dlq", "list", "-q", "--tsv", "--fields", "id,command") == "a\tx\\ty\n"
    assert queue.ok("list", "--jsonl", "--fields", "id,next_retry") == (
        '{"id": "b", "next_retry": null}\n{"id": "a", "next_retry": null}\n'
    )
    assert json.loads(queue.ok("list", "--json", "--fields", "id")) == [{"id": "b"}, {"id": "a"}]
    found = json.loads(queue.ok("dlq", "list", "--json", "--fields", "id"))
    assert found == {"schema": 1, "jobs": [{"id": "a"}]}
    whole = [json.loads(line) for line in queue.ok("list", "--jsonl").splitlines()]
    assert whole == json.loads(queue.ok("list", "--json"))
    exported = queue.ok("list", "--jsonl", "--input")
    assert [json.loads(line)["id"] for line in exported.splitlines()] == ["b", "a"]
    assert "state" not in exported
    assert queue.ok("list", "--newest", "--limit", "1", "-q") == "b\n"


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--fields", "id,sate"], "unknown field 'sate' (did you mean 'state'?); fields are id, "),
        (["--fields", "id,id"], "field 'id' is given twice"),
        (["--fields", ""], "unknown field ''"),
        (["--csv", "--json"], "give one of --json, --csv"),
        (["--input"], "add --jsonl or --json"),
        (["--input", "--csv"], "add --jsonl or --json"),
        (["--input", "--jsonl", "--fields", "id"], "no --fields"),
        (["--sort", "size"], "--sort must be one of created, time"),
    ],
)
def test_options_that_do_not_go_together_are_refused(queue, options, complaint):
    refused = queue("list", *options)
    assert (refused.code, refused.out) == (2, "")
    assert complaint in refused.err


def test_a_terminal_shows_age_and_tries_where_there_is_room_and_obeys_no_command(queue):
    def shown(columns, *options):
        main, end = pty.openpty()
        env = {**os.environ, "COLUMNS": str(columns), "NO_COLOR": "1", "TERM": "dumb"}
        argv = [sys.executable, "-m", "queuectl", "--data", queue.folder, "list", *options]
        with subprocess.Popen(argv, stdout=end, stderr=end, stdin=end, env=env) as process:
            os.close(end)
            text = b""
            try:
                while piece := os.read(main, 1 << 16):
                    text += piece
            except OSError:  # Linux says so at the end
                pass
            assert process.wait() == 0
        os.close(main)
        return text.decode().splitlines()

    assert shown(80)[0].split() == ["ID", "State", "Age", "Tries", "Command"]
    assert shown(80)[3].split()[3:] == ["1", "x␉y"]
    assert shown(50)[0].split() == ["ID", "State", "Command"]
    assert not any("\x1b" in line for line in shown(80, "--csv"))
    queue.ok("enqueue", "--id", "c", "--tag", "gpu", "--", "true")
    queue.ok("enqueue", "--id", "d", "--tag", "gpu", "--delay", "1h", "--", "true")
    queue.ok("enqueue", "--id", "e", "--after-end", "c", "--after-end", "d", "--", "true")
    queue.ok("pause", "gpu")
    assert shown(80)[0].split() == ["ID", "State", "Age", "Tries", "Command"]
    wide = shown(130)
    assert wide[0].split() == ["ID", "State", "Age", "Tries", "Waits", "Command"]
    rows = {line.split()[0]: " ".join(line.split()[4:]) for line in wide[2:]}
    assert (rows["c"], rows["d"]) == ("tag gpu is paused true", "- true")
    assert rows["e"] == "waits for c, d true"


def test_a_long_list_streams_and_a_closed_pipe_ends_it_quietly(cli):
    queue = JobQueue.open(cli.folder)
    queue.enqueue([{"id": f"j{n}", "command": "x" * 200} for n in range(3000)])
    queue.close()
    for form in ("--jsonl", "--csv", "--tsv"):
        process = cli.popen("list", form)
        assert process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() in (0, 141, -13)


# -- handed in again


def test_a_list_in_json_can_be_enqueued_again(cli, tmp_path):
    cli.ok("config", "set", "inherit-env", "HOME")
    cli.ok("config", "set", "base", "0")
    cli.ok("enqueue", "{id: a, command: exit 3, max_retries: 1, timeout: 5m, priority: 2}")
    cli.ok("enqueue", "--id", "b", "--env", "E=1", "--cwd", "/", "--", "echo", "it's")
    cli.ok("enqueue", "--id", "c", "--delay", "1h", "--no-rerun", "--", "true")
    cli.ok("cancel", "c")
    cli.ok("dlq", "list")
    listed = cli.ok("list", "--json")
    before = json.loads(listed)
    (tmp_path / "jobs.json").write_text(listed)
    other = str(tmp_path / "other")
    result = cli("--data", other, "enqueue", "--file", "jobs.json")
    assert result.code == 0, result
    assert "jobs.json: ignored" in result.err
    for name in ("attempts", "created_at", "history", "state", "env_set"):
        assert name in result.err
    after = {job["id"]: job for job in json.loads(cli.ok("--data", other, "list", "--json"))}
    kept = ("id", "command", "priority", "max_retries", "run_at", "timeout", "cwd", "env", "rerun")
    for job in before:
        assert {name: after[job["id"]][name] for name in kept} == {n: job[n] for n in kept}
        assert after[job["id"]]["state"] == "pending"


def test_dead_jobs_and_single_ones_in_json_can_be_enqueued_again(cli, tmp_path):
    for job_id in ("a", "b"):
        cli.ok("enqueue", "--id", job_id, "--max-retries", "0", "--priority", "2", "--", "false")
    cli.ok("enqueue", "--id", "child", "--after-end", "b", "--", "true")
    cli("worker", "run", "--drain")
    dead, one = cli.ok("dlq", "list", "--json"), cli.ok("show", "b", "--json")
    (tmp_path / "one").write_text(one)
    (tmp_path / "twice").write_text(one + one.replace('"b"', '"c"') + '{"id": "d", "command": "x"}')
    (tmp_path / "dead").write_text(dead)
    for name, ids in (("one", ["b"]), ("twice", ["b", "c", "d"]), ("dead", ["a", "b"])):
        other = str(tmp_path / f"other {name}")
        result = cli("--data", other, "enqueue", "--file", name)
        assert result.code == 0, result
        assert f"{name}: ignored" in result.err
        assert "exit_code" in result.err
        jobs = json.loads(cli.ok("--data", other, "list", "--json"))
        assert [job["id"] for job in jobs] == ids
        assert {job["state"] for job in jobs} == {"pending"}
        assert jobs[0]["priority"] == 2
    (tmp_path / "cut").write_text(dead.rstrip()[:-1])
    result = cli("--data", str(tmp_path / "none"), "enqueue", "--file", "cut")
    assert result.code == 2
    assert "'}' is missing after the jobs" in result.err
    assert cli("enqueue", "--file", "dead").code == 4, "they are there already"


def test_a_field_that_a_person_wrote_is_never_passed_over(cli, tmp_path):
    (tmp_path / "jobs").write_text('{"id": "a", "command": "true", "attempts": 3}')
    assert cli("enqueue", "--file", "jobs").code == 2
    assert json.loads(cli.ok("list", "--json")) == []
