"""What completion offers, which depends only on the line, the table and the queue."""

from __future__ import annotations

import pytest
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document

from queuectl.commands.grammar.binding import bind
from queuectl.commands.selecting import ABLE
from queuectl.completion.candidates import complete, describe, ranked
from queuectl.config import Settings
from queuectl.live.standing import Standing
from queuectl.model.job import Job
from queuectl.shell.aliases import Aliases
from queuectl.shell.lines import is_open, split_commands
from queuectl.shell.own_commands import SHELL_COMMANDS
from queuectl.shell.prompt.highlighter import styles_of
from queuectl.shell.prompt.menu import ShellCompleter
from queuectl.shell.prompt.toolbar import standing_text, toolbar, toolbar_lines, usage
from queuectl.shell.prompt.validator import Mistake, find_mistake, fitted

_MOMENT = "2026-01-31T08:30:00.000000Z"


def _job(job_id: str, state: str, command: str = "true") -> Job:
    return Job(job_id, state, 0, _MOMENT, command, 3, _MOMENT, _MOMENT)


class _Queue:
    """A queue of known jobs, the newest first."""

    def __init__(self, *jobs: Job) -> None:
        self._jobs = jobs

    def jobs(self, states, start=""):
        return [
            job
            for job in self._jobs
            if (states is None or job.state in states) and job.id.startswith(start)
        ]

    def tags(self):
        return ["gpu", "night:2", "site"]

    def settings(self):
        return Settings({"max-retries": 7})

    def workers(self):
        return []


_QUEUE = _Queue(
    _job("done1", "completed"),
    _job("wait1", "pending"),
    _job("dead2", "dead", "exit 2"),
    _job("run1", "in_progress", "sleep 9"),
    _job("fail1", "failed"),
    _job("dead1", "dead", "exit 1"),
    _job("gone1", "cancelled"),
)


def _found(line: str, queue: _Queue = _QUEUE):
    return complete(bind(SHELL_COMMANDS, line), queue)


def _offers(line: str, queue: _Queue = _QUEUE) -> list[str]:
    return [found.shown for found in _found(line, queue)]


def _completed(line: str) -> str:
    """The line when the first offer was taken."""
    first = _found(line)[0]
    return line[: first.start] + first.text


def test_commands_and_their_groups_are_offered() -> None:
    offers = _offers("")
    assert {"enqueue", "list", "dlq", "config", "worker", "help", "exit"} <= set(offers)
    assert "worker-start" not in offers
    assert _offers("dlq ") == ["list", "retry", "purge"]
    assert _offers("enq") == ["enqueue"]
    assert _offers("enqueue") == []
    meaning = {found.shown: found.meaning for found in _found("")}
    assert meaning["dlq"] == "list, retry, purge"
    assert meaning["cancel"].startswith("Cancel jobs")


def test_old_spellings_are_offered_to_those_who_type_them() -> None:
    assert _offers("worker-sta") == ["worker-start"]


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("dlq retry ", ["dead2", "dead1"]),
        ("cancel ", ["run1", "fail1", "wait1"]),
        ("retry ", ["fail1", "dead2", "dead1", "done1", "gone1"]),
        ("wait ", ["run1", "fail1", "wait1"]),
    ],
)
def test_job_ids_are_offered_by_state(line, wanted) -> None:
    offers = [offer for offer in _offers(line) if not offer.startswith("-")]
    assert offers == wanted


@pytest.mark.parametrize("line", ["logs -f ", "show ", "logs "])
def test_running_jobs_come_first(line) -> None:
    assert _offers(line)[:3] == ["run1", "done1", "wait1"]


def test_tags_and_fields_are_offered() -> None:
    assert _offers("enqueue --tag ") == ["gpu", "night:2", "site"]
    assert _offers("enqueue --tag gpu --tag i") == ["night:2", "site"]
    assert _offers("update wait1 --untag g") == ["gpu", "night:2"]
    assert _offers("cancel --tag g") == ["gpu", "night:2"]
    assert "run_time" in _offers("list --fields id,run")
    assert "id" not in _offers("list --fields id,")
    assert _offers("dlq list --by ") == ["error"]


def test_ids_typed_already_are_not_offered_again() -> None:
    assert [o for o in _offers("dlq retry dead2 ") if o[0] != "-"] == ["dead1"]
    assert _offers("cancel run1 fail1 w") == ["wait1"]


def test_each_job_has_its_state_and_command_beside_it() -> None:
    meaning = {found.shown: found.meaning for found in _found("dlq retry ")}["dead1"]
    assert meaning.startswith("dead ")
    assert meaning.endswith("exit 1")
    running = _job("r", "in_progress", "a\nb")._replace(started_at="2026-01-31T08:31:00.000000Z")
    assert describe(running, 1769848320.0) == "in_progress 1m  a␤b"  # 08:32


def test_offers_come_by_prefix_then_substring_then_scattered_letters() -> None:
    assert ranked(["abc1", "x1", "1b", "b-1-c", "1c"], "1") == ["1b", "1c", "abc1", "x1", "b-1-c"]
    assert ranked(["xjab", "job", "j-o-b", "ajob"], "job") == ["job", "ajob", "j-o-b"]
    assert ranked(["b", "a"], "") == ["b", "a"]
    assert ranked(["Job"], "jO") == ["Job"]


def test_options_are_offered_until_they_are_given() -> None:
    assert "--count" in _offers("worker start ")
    assert "--data" not in _offers("worker start ")
    assert "--data" in _offers("worker start --")
    assert "--count" not in _offers("worker start --count 2 --")
    assert _completed("list --st") == "list --state"


def test_states_are_offered_that_the_command_takes() -> None:
    assert _offers("list --state ")[:3] == ["pending", "in_progress", "completed"]
    assert _completed("list --state pe") == "list --state pending"
    assert _completed("list --state=pe") == "list --state=pending"
    assert _completed("list --state dead,pe") == "list --state dead,pending"
    assert "dead" not in _offers("list --state dead --state ")
    offered = {command: {*_offers(f"{command} --state ")} for command in ABLE}
    assert offered == {command: {*states} for command, states in ABLE.items()}
    assert _offers("update wait1 --state ") == ["pending", "cancelled"]


def test_settings_are_offered_with_value_and_meaning() -> None:
    first = _found("config set ")[0]
    assert (first.shown, first.meaning) == ("max-retries", "7: runs after the first, for new jobs")
    assert _offers("config set max-retries ") == ["7", "3", "--json"]
    assert _offers("config set timeout ") == ["none", "--json"]
    assert _offers("config set nonsense ") == ["--json"]


def test_fields_are_offered_inside_braces() -> None:
    assert _offers("enqueue {")[:3] == ["id", "command", "priority"]
    assert _completed("enqueue {id: a, com") == "enqueue {id: a, command: "
    assert _completed('enqueue {"id": "a", "com') == 'enqueue {"id": "a", "command": '
    assert _completed("enqueue '{id: a, com") == "enqueue '{id: a, command: "
    assert "id" not in _offers("enqueue {id: a, ")
    assert _offers('enqueue {command: "echo a, b') == []
    assert _offers("enqueue {rerun: ") == ["true", "false"]
    assert _offers("enqueue {id: a, command: echo") == []


def test_topics_of_help_are_offered() -> None:
    assert {"enqueue", "dlq", "exit-codes", "fields"} <= set(_offers("help "))
    assert _offers("help dlq ret") == ["retry"]


@pytest.fixture
def programs(tmp_path, monkeypatch) -> str:
    """The only folder of the PATH; also a file that is not a program, and a folder beside it."""
    folder = tmp_path / "bin"
    for name, mode in (("zap", 0o700), ("zip", 0o700), ("zero", 0o600)):
        folder.mkdir(exist_ok=True)
        (folder / name).write_text("")
        (folder / name).chmod(mode)
    monkeypatch.setenv("PATH", f"{folder}:/nowhere")
    monkeypatch.chdir(tmp_path)
    return str(folder)


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("enqueue -- z", ["zap", "zip"]),
        ("enqueue -- zi", ["zip"]),
        ("enqueue -- zap ", ["bin/"]),
        ("enqueue -- zap | z", ["zap", "zip"]),
        ("enqueue -- zap; z", ["zap", "zip"]),
        ("enqueue -- bin/z", ["zap", "zero", "zip"]),
        ("update wait1 -- z", []),
    ],
)
def test_behind_the_dashes_come_programs_then_files(programs, line, wanted) -> None:
    assert _offers(line) == wanted


@pytest.mark.parametrize(
    ("line", "wanted"), [("!z", ["zap", "zip"]), ("!zap ", ["bin/"]), ("!zap 'bi", ["bin/"])]
)
def test_a_system_line_completes_programs_then_files(programs, line, wanted) -> None:
    completer = ShellCompleter(_QUEUE, Aliases())
    event = CompleteEvent(completion_requested=True)
    found = list(completer.get_completions(Document(line), event))
    assert [one.display_text for one in found] == wanted


def test_a_whole_word_is_offered_where_that_is_asked_for() -> None:
    bound = bind(SHELL_COMMANDS, "status")
    assert complete(bound, _QUEUE) == []
    assert [found.text for found in complete(bound, _QUEUE, whole=True)] == ["status"]


def test_a_command_within_a_line_is_completed_as_it_would_be_alone() -> None:
    watched = _offers("watch ")
    assert {"list", "logs", "worker", "dlq"} <= set(watched)
    assert not {"cancel", "watch", "top", "exit"} & set(watched)
    assert _offers("watch 5 ") == watched
    assert {found.shown: found.meaning for found in _found("watch ")}["worker"] == "list"
    assert _offers("watch li")[0] == "list"
    assert _offers("watch 2 dlq ") == ["list"]
    assert _offers("watch list --sta") == ["--state"]
    assert _completed("watch 5 list --state pen") == "watch 5 list --state pending"
    assert _offers("watch show d")[:3] == ["done1", "dead2", "dead1"]
    assert "cancel" in _offers("alias c ")
    assert _offers("alias c dlq retry ")[:2] == ["dead2", "dead1"]


def test_paths_are_offered_where_a_file_is_named(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "some jobs.jsonl").write_text("")
    (tmp_path / "folder").mkdir()
    (tmp_path / ".hidden").write_text("")
    assert _offers("enqueue --file ") == ["folder/", "some jobs.jsonl"]
    assert _completed("enqueue --file so") == "enqueue --file 'some jobs.jsonl'"
    assert _offers("enqueue --cwd ") == ["folder/"]


@pytest.mark.parametrize(
    "line",
    [
        "watch 5 list --state x",
        "alias a list --st",
        "nonsense ",
        "list --state",
        "'",
        '"',
        "{",
        "list # x",
        "enqueue -- ",
        "\\",
        "dlq x y ",
    ],
)
def test_no_line_makes_it_fail(line) -> None:
    for end in range(len(line) + 1):
        _found(line[:end])
        styles_of(line[:end], Aliases())
        find_mistake(line[:end], Aliases())
        toolbar(None, line[:end], 80, 24, Aliases())


def test_lines_are_cut_into_commands() -> None:
    text = "list\n\n# nothing\n!echo it's\nenqueue {id: a,\n command: b}\nstatus"
    pieces = split_commands(text, SHELL_COMMANDS)
    assert [p.text for p in pieces] == [
        "list",
        "!echo it's",
        "enqueue {id: a,\n command: b}",
        "status",
    ]
    assert all(text[p.start :].startswith(p.text) for p in pieces)
    assert [p.line for p in pieces] == [1, 4, 5, 7]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("list", False),
        ("", False),
        ("enqueue {id: a,", True),
        ("enqueue --command 'a", True),
        ("list \\", True),
        ("!echo 'a", False),
        ("enqueue {id: a,\ncommand: b}", False),
    ],
)
def test_an_open_line_goes_on(text, wanted) -> None:
    assert is_open(text, Aliases()) == wanted


def test_a_mistake_is_found_with_its_place_and_what_was_meant() -> None:
    found = find_mistake("list --state pendng", Aliases())
    assert found is not None
    assert (found.start, found.end, found.hint) == (13, 19, "pending")
    assert "did you mean 'pending'?" in found.message
    assert find_mistake("list --state pending", Aliases()) is None
    assert find_mistake("!no such thing '", Aliases()) is None
    assert find_mistake("", Aliases()) is None


def test_a_mistake_in_pasted_lines_names_the_line() -> None:
    found = find_mistake("list\nlits\nstatus", Aliases())
    assert found is not None
    assert found.message.startswith("line 2: ")
    assert found.start == 5


@pytest.mark.parametrize("width", [10, 20, 40, 60, 80, 200])
def test_a_message_fits_the_width(width) -> None:
    mistake = Mistake(
        "unknown state 'pendng' (did you mean 'pending'?); states are", 0, 6, "pending"
    )
    shown = fitted(mistake, width)
    assert len(shown) <= width
    assert "pending" in shown or width < 12


def _style(text: str, part: str) -> set[str]:
    start = text.index(part)
    return set(styles_of(text, Aliases())[start : start + len(part)])


def test_each_part_of_a_line_has_its_style() -> None:
    line = "list --state pendng --limit 5 # note"
    assert _style(line, "list") == {"class:line.command"}
    assert _style(line, "--state") == {"class:line.option"}
    assert _style(line, "pendng") == {"class:line.fault"}
    assert _style(line, "# note") == {"class:line.comment"}
    assert _style("enqueue {id: a, command: b}", "command") == {"class:line.key"}
    assert _style("!ls -l", "!ls -l") == {"class:line.system"}
    assert _style("list\nlits", "lits") == {"class:line.fault"}


@pytest.mark.parametrize(
    "line",
    [
        "watch",
        "watch 2",
        "watch 2 li",
        "watch list --state pe",
        "alias x dl",
        "li",
        "list --st",
        "list --state",
        "list --state pe",
        "dlq",
        "dlq re",
    ],
)
def test_what_may_still_become_right_is_not_marked(line) -> None:
    assert "class:line.fault" not in styles_of(line, Aliases())


def test_a_command_within_a_line_is_coloured_as_it_would_be_alone() -> None:
    assert _style("watch 5 list --state dead", "list") == {"class:line.command"}
    assert _style("watch 5 list --state dead", "--state") == {"class:line.option"}
    assert _style("watch list --state pendng ", "pendng") == {"class:line.fault"}
    assert _style("watch cancel a", "cancel") == {"class:line.fault"}
    assert "class:line.fault" not in styles_of("alias c list --state ", Aliases())


def _text(parts) -> str:
    return "".join(part[1] for part in parts)


def test_the_toolbar_counts_and_warns() -> None:
    calm = Standing({"pending": 2, "dead": 1, "completed": 0}, 1)
    assert _text(standing_text(calm, 80)) == " 1 worker | 2 pending, 1 dead"
    stalled = calm._replace(workers=0)
    assert "2 jobs wait, no worker runs" in _text(standing_text(stalled, 80))
    assert "no worker, 2 wait" in _text(standing_text(stalled, 25))
    assert "no workers | no jobs" in _text(standing_text(Standing({}, 0), 80))
    assert "! it is broken" in _text(standing_text(Standing({}, 0, "it is broken"), 80))


@pytest.mark.parametrize("columns", [20, 40, 80, 200])
@pytest.mark.parametrize("rows", [4, 6, 24])
def test_the_toolbar_fits_any_terminal(columns, rows) -> None:
    standing = Standing({"pending": 123456, "in_progress": 99, "failed": 5, "dead": 7}, 0)
    for line in ("", "enqueue ", "list --state ", "config set base ", "!ls"):
        shown = _text(toolbar(standing, line, columns, rows, Aliases()))
        lines = shown.split("\n") if shown else []
        assert len(lines) == toolbar_lines(rows)
        assert all(len(line) <= columns for line in lines)


def test_the_toolbar_shows_the_usage_of_the_command() -> None:
    assert "dlq retry JOB... [OPTIONS] - id of a dead job" in _text(
        usage(bind(SHELL_COMMANDS, "dlq retry "))
    )
    assert _text(usage(bind(SHELL_COMMANDS, "worker start --count "))) == "--count: how many"
    assert usage(bind(SHELL_COMMANDS, "nonsense ")) == []
    assert _text(usage(bind(SHELL_COMMANDS, "watch "))).startswith("watch [INTERVAL] COMMAND...")
    assert _text(usage(bind(SHELL_COMMANDS, "watch 5 show "))).startswith("show JOB")
