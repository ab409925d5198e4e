"""Which jobs a command means: the same for all commands, never all of them by accident."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import make_job, moment
from terminal import ENTER, Terminal

from queuectl.commands.context import Context
from queuectl.commands.grammar.binding import bind_argv
from queuectl.commands.handlers import wait
from queuectl.commands.table import COMMANDS
from queuectl.job_queue import JobQueue
from queuectl.model.causes import by_cause, folded, named
from queuectl.model.job import FINISHED, LIVE
from queuectl.model.lifecycle import Outcome
from queuectl.model.selection import Selection, in_state


@pytest.fixture
def queue(data_dir):
    """A job in each way to be selected; `old` ended two hours ago."""
    queue = JobQueue.open(data_dir)
    clock = [queue.store.now() - 7200.0]
    queue.store.now = lambda: clock[0]
    queue.enqueue([{"id": "old", "command": "sync", "tags": ["a"], "max_retries": 0}])
    queue.settle(queue.claim("w"), Outcome("exited", 7, "disk 1 is full", queue.now()))
    clock[0] += 7200.0
    queue.enqueue(
        [
            {"id": "dead1", "command": "sync 1", "tags": ["a", "b"], "max_retries": 0},
            {"id": "again", "command": "copy", "tags": ["b"]},
            {"id": "fine", "command": "copy", "tags": ["a"]},
        ]
    )
    queue.settle(queue.claim("w"), Outcome("exited", 7, "disk 2 is full", queue.now()))
    queue.settle(queue.claim("w"), Outcome("exited", 1, "No space", queue.now()))
    queue.settle(queue.claim("w"), Outcome("exited", 0, None, queue.now()))
    queue.enqueue(
        [{"id": f"wait-{n}", "command": f"copy {n}", "tags": ["a", "b"][n % 2 :]} for n in range(3)]
    )
    queue.close()
    return queue


OPTIONS = {
    ("--tag", "a"): {"old", "dead1", "fine", "wait-0", "wait-2"},
    ("--tag", "a", "--tag", "b"): {"dead1", "wait-0", "wait-2"},
    ("--match", "SYNC"): {"old", "dead1"},
    ("--match", "wait"): {"wait-0", "wait-1", "wait-2"},
    ("--error", "is full"): {"old", "dead1"},
    ("--exit-code", "1"): {"again"},
    ("--since", "1h", "--error", "full"): {"dead1"},
    ("--until", "1h"): {"old"},
    ("--state", "failed,dead", "--tag", "b"): {"dead1", "again"},
}
# Of the jobs that are selected each command means those that it can do something to.
MEANT = {
    ("list", "-q"): set(in_state(*LIVE, *FINISHED).states),
    ("cancel", "-q", "--dry-run"): set(LIVE),
    ("retry", "-q", "--dry-run"): {"failed", "dead"},
    ("purge", "-q", "--dry-run"): {"completed", "cancelled"},
    ("dlq", "list", "-q"): {"dead"},
    ("dlq", "retry", "-q", "--dry-run"): {"dead"},
    ("dlq", "purge", "-q", "--dry-run"): {"dead"},
}


@pytest.mark.parametrize("command", MEANT, ids=" ".join)
def test_each_command_means_what_list_shows(queue, cli, command):
    states = {job.id: job.state for job in queue.find()}
    for options, ids in OPTIONS.items():
        named = options[0] == "--state"
        if named and command[0] in ("cancel", "purge", "dlq"):
            continue
        allowed = MEANT[command] if not named else {"failed", "dead"}
        wanted = {job_id for job_id in ids if states[job_id] in allowed}
        assert set(cli.ok(*command, *options).split()) == wanted, options


def test_a_state_that_a_command_can_do_nothing_to_is_refused(queue, cli):
    for line, told in (
        ("cancel --state dead", "cancel selects jobs that are pending, in_progress, failed"),
        ("retry --state running", "not in_progress"),
        ("purge --state failed", "only finished jobs can be purged"),
        ("dlq retry --state dead", "unknown option '--state'"),
    ):
        refused = cli(*line.split(), "--yes")
        assert (refused.code, told in refused.err) == (2, True), line


NOTHING_NAMED = [
    "list --since 1h --until 2h",
    *("cancel", "retry", "update --priority 3", "wait", "logs", "dlq retry", "dlq purge"),
    *("cancel --limit 3 --yes", "retry --limit 1 --yes", "dlq purge --older-than 1h --yes"),
]
EMPTY = [
    f"{command} {option}"
    for command in ("cancel", "retry", "dlq retry", "purge", "list")
    for option in ("--match", "--error", "--tag", "--exit-code", "--since")
]


@pytest.mark.parametrize("line", [*NOTHING_NAMED, *EMPTY])
def test_a_missing_or_empty_filter_never_means_all(queue, cli, line):
    before = list(queue.find())
    words = [*line.split(), *([""] if line in EMPTY else [])]
    refused = cli(*words)
    assert (refused.code, refused.out) == (2, "")
    assert list(queue.find()) == before


def test_a_selection_wants_yes_where_nobody_can_be_asked(queue, cli):
    for command in ("cancel --tag b", "retry --tag b", "update --with-tag b --priority 4"):
        refused = cli(*command.split())
        assert (refused.code, "add --yes" in refused.err) == (2, True)
        assert "add --yes" in cli(stdin=f"{command}\n").err
    assert cli.ok("cancel", "--tag", "b", "--limit", "2", "--yes", "-q").split() == [
        "again",
        "wait-0",
    ]
    assert cli.ok("retry", "--tag", "b", "--state", "cancelled", "--yes") == (
        "Job 'again' is pending and due now.\nJob 'wait-0' is pending and due now.\n"
    )
    changed = cli.ok("update", "--with-tag", "b", "--in-state", "pending", "--tag", "c", "--yes")
    assert changed.count(" is updated; it is pending.") == 4
    assert cli.ok("list", "-q", "--tag", "c").split() == ["again", "wait-0", "wait-1", "wait-2"]
    assert cli.ok("update", "wait-1", "wait-2", "--untag", "c", "-q").split() == [
        "wait-1",
        "wait-2",
    ]
    assert cli.ok("dlq", "purge", "--until", "1h", "--yes") == "Removed 1 job.\n"
    assert cli.ok("purge", "dead1", "fine", "--yes", "-q").split() == ["dead1", "fine"]


def test_nothing_selected_is_told_and_is_not_a_failure(queue, cli):
    for line in ("cancel --tag none --yes", "retry --match nowhere --yes"):
        done = cli(*line.split())
        assert (done.code, done.out, done.err) == (0, "", "No job matches.\n"), line
    assert cli("list", "--tag", "none").err.startswith("No job matches (")
    refused = cli("wait", "--tag", "none")  # a script would go on without what it waits for
    assert (refused.code, "no job matches" in refused.err) == (3, True)
    assert cli("list", "nobody", "--tag", "a").code == 3
    assert cli("cancel", "wait-0", "nobody", "--tag", "a", "--yes").code == 3
    assert cli("purge", "nobody", "--yes").code == 3
    assert cli.ok("cancel", "wait-0", "wait-1", "--tag", "a", "--yes", "-q") == "wait-0\n"


def test_all_of_a_selection_are_changed_or_none(queue):
    before = list(queue.find())
    running = queue.claim("w")
    with pytest.raises(Exception, match="cannot be changed while it runs"):
        queue.update_all(Selection(tags=frozenset({"a"})), {"cwd": "/"})
    assert [job for job in queue.find() if job.id != running.id] == [
        job for job in before if job.id != running.id
    ]


def test_a_job_that_fits_no_more_when_it_is_to_be_changed_is_left(queue, monkeypatch):
    selection = Selection(tags=frozenset({"b"}), states=LIVE)
    change = queue.store.change

    def late(ids, rule, **more):
        monkeypatch.setattr(queue.store, "change", change)
        queue.update_all(["wait-0"], {}, untag=["b"])
        queue.cancel(["wait-2"])
        queue.purge(["wait-2"])
        return change(ids, rule, **more)

    monkeypatch.setattr(queue.store, "change", late)
    assert [job.id for job in queue.cancel(selection)] == ["again", "wait-1"]
    assert queue.get("wait-0").state == "pending"


def test_the_beginning_of_an_id_suffices_where_a_person_looks(queue, cli):
    assert cli.ok("show", "agai", "-q") == "failed\n"
    assert cli.ok("list", "dead", "-q") == "dead1\n"
    assert cli("show", "wait").err == (
        "queuectl: 'wait' begins the ids of 3 jobs: wait-0, wait-1, wait-2\n"
    )
    assert cli("show", "aga").code == 3
    assert cli("wait", "dead").code == 7
    assert cli.ok("explain", "dead").startswith("Job 'dead1' is dead.")
    for line in ("cancel agai", "retry agai", "update agai --priority 3", "purge dead --yes"):
        assert cli(*line.split()).code == 3, line


def test_a_state_in_the_place_of_an_id_is_told_of_the_option_that_selects_by_it(cli):
    for argv in (["list", "dead"], ["retry", "dead"], ["wait", "dead"], ["purge", "dead"]):
        refused = cli(*argv)
        assert (refused.code, refused.err.endswith("select by state: --state dead\n")) == (3, True)
    assert cli("update", "dead", "--priority", "1").err.endswith("by state: --in-state dead\n")
    cli.ok("enqueue", "--id", "dead", "--", "true")
    assert cli.ok("list", "dead", "-q") == "dead\n"
    cli.ok("cancel", "dead")


def test_a_person_is_asked_with_the_count_and_the_first_five(queue, data_dir):
    argv = ("--data", data_dir)
    terminal = Terminal(100, 10, argv=(*argv, "cancel", "--match", "copy"))
    try:
        terminal.until(lambda: "Cancel 4 jobs (again, wait-0, wait-1, wait-2)?" in terminal.text)
        queue.enqueue([{"id": "late", "command": "copy"}])
        terminal.keys("y" + ENTER)
        terminal.until(lambda: "Job 'wait-2' is cancelled." in terminal.text)
    finally:
        terminal.close()
    assert queue.get("late").state == "pending"  # it was not asked about
    terminal = Terminal(100, 10, argv=(*argv, "cancel", "late"[:4]))
    try:
        terminal.until(lambda: "Job 'late' is cancelled." in terminal.text)
    finally:
        terminal.close()


def test_logs_of_several_jobs_follow_each_other(cli):
    for name in ("x1", "x2"):
        cli.ok("enqueue", "--id", name, "--tag", "t", "--", "echo", name)
    cli.ok("worker", "run", "--drain", "-q")
    assert cli.ok("logs", "--tag", "t") == "==> x1 <==\nx1\n==> x2 <==\nx2\n"
    assert cli.ok("logs", "x1", "x2", "-q") == "x1\nx2\n"
    assert "want one job" in cli("logs", "--tag", "t", "--follow").err
    for name, text in (("y1", "no end"), ("y2", ""), ("y3", "y\n")):
        cli.ok("enqueue", "--id", name, "--tag", "u", "--", "printf", text)
    cli.ok("worker", "run", "--drain", "-q")
    assert cli.ok("logs", "--tag", "u") == "==> y1 <==\nno end\n==> y2 <==\n==> y3 <==\ny\n"


def test_top_lists_what_is_selected(queue, cli):
    assert set(cli.ok("top", "-q", "--tag", "a", "--state", "pending").split()) == {
        "wait-0",
        "wait-2",
    }


# -- causes


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        ("exit code 7", "exit code *"),
        ("disk 12 is full", "disk * is full"),
        ("No space left on /var/tmp/x-1.log: 4096 bytes", "No space left on *: * bytes"),
        ("can't open 'a file' at 12:30:01.5", "can't open * at *"),
        ('2026-01-31T08:30:00.1Z lost "x" and `y`', "* lost * and *"),
        ("segfault at 0xdeadBEEF in 1f3a9bc", "segfault at * in *"),
        ("job 123e4567-e89b-12d3-a456-426614174000  took\n1.5s", "job * took *s"),
        ("see ./run.sh and ~/x and C:\\Temp\\y", "see * and * and *"),
        ("read/write error, deadbeef", "read/write error, deadbeef"),
        ("", ""),
    ],
)
def test_texts_that_change_from_run_to_run_are_folded(error, cause):
    assert folded(error) == cause


WORDS = st.text(st.sampled_from("ab0x/.'\"`:-~*T\n"), max_size=8)


@given(WORDS, WORDS, st.integers(), st.integers(0))
def test_errors_that_differ_in_a_number_are_one_cause(before, behind, one, other):
    assert folded(f"{before} {abs(one)} {behind}") == folded(f"{before} {other} {behind}")


def test_jobs_that_ended_alike_are_counted_together(queue, cli):
    jobs = [
        make_job("a", exit_code=7, error="disk 1 is full", finished_at=moment(3)),
        make_job("b", exit_code=1, error="exit code 1", finished_at=moment(9)),
        make_job("c", exit_code=7, error="disk 2 is full", updated_at=moment(5)),
        make_job("d", exit_code=8, error="disk 2 is full", finished_at=moment(1)),
    ]
    assert [(c.jobs, c.exit_code, named(*c[:2]), c.example) for c in by_cause(jobs)] == [
        (2, 7, "disk * is full", "c"),
        (1, 1, "exit code 1", "b"),
        (1, 8, "disk * is full", "d"),
    ]
    assert named(2, folded("exit code 2: line 12")) == "exit code 2: line *"
    [cause] = json.loads(cli.ok("dlq", "list", "--by", "error", "--json"))["causes"]
    assert (cause["jobs"], cause["error"], cause["example"]) == (2, "disk * is full", "dead1")
    assert cli.ok("dlq", "list", "--by", "error", "-q") == "2\tdisk * is full (exit code 7)\n"
    assert "disk * is full (exit code 7)" in cli.ok("dlq", "list", "--by", "error")
    assert cli("dlq", "list", "--by", "error", "--csv").code == 2


# -- one selection for all commands


def test_the_selectors_are_the_same_everywhere(cli):
    wanted = ["--match", "--error", "--exit-code", "--since", "--until", "--recurring"]
    words = ("list", "cancel", "retry", "purge", "update", "wait", "logs", "top")
    for spec in COMMANDS:
        if spec.words[0] in words or spec.words[0] == "dlq":
            options = [param.name for param in spec.params if param.name in wanted]
            assert options == wanted, spec.words
    schedule = ("enqueue", "--id", "s", "--every", "1h", "--tag", "a")
    assert cli.ok(*schedule, "--", "true", stdin="")
    cli.ok("enqueue", "--id", "plain", "--tag", "a", "--", "true")
    assert cli.ok("list", "--recurring", "-q") == "s\n"
    cli.ok("update", "--recurring", "--every", "2h", "--yes")
    assert cli.ok("cancel", "--recurring", "--tag", "a", "--yes", "-q") == "s\n"
    assert cli.ok("list", "--state", "pending", "-q") == "plain\n"
    moments = bind_argv(COMMANDS, ["list", "--since", "yesterday 00:00", "--until", "5m"]).values
    assert moments["since"] < moments["until"]


def test_many_jobs_are_waited_for_in_few_passes_and_told_in_one_line(cli, monkeypatch, capsys):
    queue = JobQueue.open(cli.folder)
    queue.enqueue([{"id": f"n{n}", "command": "x", "tags": ["t"]} for n in range(25)])
    watch = wait._Watch(Context(cli.folder), None)
    passes = []
    present = watch._present
    monkeypatch.setattr(watch, "_present", lambda ids: passes.append(len(ids)) or present(ids))
    looks = iter(range(100))

    def again(*_):
        if next(looks) % 3 == 2 and (job := queue.claim("w")):
            queue.settle(job, Outcome("exited", 0, None, queue.now()))
        return True

    monkeypatch.setattr(watch, "_again", again)
    for _ in range(10):
        queue.settle(queue.claim("w"), Outcome("exited", 0, None, queue.now()))
    assert watch.jobs([f"n{n}" for n in range(25)]) == 0
    assert capsys.readouterr().out == "Ended: 25. Completed: 25.\n"
    assert passes == sorted(passes, reverse=True)
    assert len([left for left in passes if left > 5]) <= 15  # of 30 looks
    queue.close()
