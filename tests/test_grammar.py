"""Binding lines and argv lists to the table of commands."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuectl.commands.grammar.binding import bind, bind_argv
from queuectl.commands.grammar.bound import Bound
from queuectl.commands.grammar.expecting import expected
from queuectl.commands.grammar.specs import GLOBAL_OPTIONS, CommandSpec, Param, find_command
from queuectl.commands.grammar.tokens import command_line, is_plain, is_variable

JSON = Param("--json", "flag", "print JSON")


def spec(words: str, *params: Param, aliases: tuple[tuple[str, ...], ...] = ()) -> CommandSpec:
    return CommandSpec(tuple(words.split()), "Do it.", "module:function", params, aliases=aliases)


SPECS = (
    spec(
        "enqueue",
        Param("object", "object", "a job"),
        Param("--id", "text", "id"),
        Param("--command", "text", "command"),
        Param("--priority", "int", "priority", low=-1000, high=1000),
        Param("--max-retries", "count", "retries"),
        Param("--timeout", "duration", "limit"),
        Param("--run-at", "time", "not before"),
        Param("--env", "text", "NAME=VALUE", many=True),
        Param("argv", "argv", "a program"),
    ),
    spec("update", Param("object", "object", "a job", required=True, many=True)),
    spec(
        "list", Param("--state", "state", "state", many=True), Param("--limit", "count", "n"), JSON
    ),
    spec("show", Param("job", "job", "id", required=True), JSON),
    spec("status", JSON),
    spec("dlq list", JSON, aliases=(("dlq-list",),)),
    spec(
        "dlq retry",
        Param("job", "dead_job", "id", required=True, many=True, unless=("--all",)),
        Param("--all", "flag", "all"),
    ),
    spec(
        "worker start",
        Param("--count", "count", "how many", default=1, short="-n", low=1, high=64),
        aliases=(("worker-start",),),
    ),
    spec("worker stop", Param("--now", "flag", "at once"), aliases=(("worker-stop",),)),
    spec("config get", Param("setting", "setting", "name")),
    spec(
        "config set",
        Param("setting", "setting", "name", required=True),
        Param("value", "setting_value", "value", required=True),
    ),
    spec(
        "jitter",
        Param("--by", "number", "part", high=1),
        Param("--as", "text", "form", choices=("a", "b")),
    ),
    spec("help", Param("topic", "command", "topic", many=True)),
)
DEFAULTS = {"data": None, "help": False, "quiet": False, "no_color": False}
DEFAULTS |= {"color": None, "no_pager": False}


def given_values(bound: Bound) -> dict[str, object]:
    """What the line gave, without what was filled in."""
    return {
        key: value
        for key, value in bound.values.items()
        if value is not None and value is not False and value != [] and (key, value) != ("argv", "")
    }


GOOD = [
    # line, command, values that are not defaults
    ("status", "status", {}),
    ("status --json", "status", {"json": True}),
    ("list --state pending --limit 3", "list", {"state": ["pending"], "limit": 3}),
    ("list --state=pending --state running", "list", {"state": ["pending", "in_progress"]}),
    ("list --state completed,Dead", "list", {"state": ["completed", "dead"]}),
    ("--quiet list", "list", {"quiet": True}),
    ("-q list --no-color", "list", {"quiet": True, "no_color": True}),
    ("--data /x dlq --json list", "dlq list", {"data": "/x", "json": True}),
    ("dlq --data=/x list", "dlq list", {"data": "/x"}),
    ("dlq-list", "dlq list", {}),
    ("worker-start", "worker start", {"count": 1}),
    ("worker-start --count 2", "worker start", {"count": 2}),
    ("--count 2 worker start", "worker start", {"count": 2}),
    ("worker -n 2 start", "worker start", {"count": 2}),
    ("show job1", "show", {"job": "job1"}),
    ("show -- -x", "show", {"job": "-x"}),
    ("show --json -- --json", "show", {"job": "--json", "json": True}),
    ("show 'a b'", "show", {"job": "a b"}),
    ("show a # --json", "show", {"job": "a"}),
    ("dlq retry a b", "dlq retry", {"job": ["a", "b"]}),
    ("dlq retry --all", "dlq retry", {"all": True}),
    ("config get", "config get", {}),
    ("config set max_retries 5", "config set", {"setting": "max-retries", "value": "5"}),
    ("config set backoff_base 3", "config set", {"setting": "base", "value": "3"}),
    ("config set timeout none", "config set", {"setting": "timeout", "value": "none"}),
    ("jitter --by .5 --as b", "jitter", {"by": 0.5, "as": "b"}),
    ("jitter --by -0.5", "jitter", {"by": -0.5}),
    ("help dlq retry", "help", {"topic": ["dlq", "retry"]}),
    ("enqueue -", "enqueue", {"object": "-"}),
    ("enqueue {id: a, command: ls -l}", "enqueue", {"object": {"id": "a", "command": "ls -l"}}),
    (
        "enqueue --priority -5 --command 'a b' --timeout 1h30m",
        "enqueue",
        {"priority": -5, "command": "a b", "timeout": 5400.0},
    ),
    ("enqueue --priority=-5 --id=", "enqueue", {"priority": -5, "id": ""}),
    ("enqueue --command=--json --id -x", "enqueue", {"command": "--json", "id": "-x"}),
    ("enqueue --env A=1 --env 'B=2 3'", "enqueue", {"env": ["A=1", "B=2 3"]}),
    (
        "enqueue --run-at 2026-01-31T09:30:00+01:00",
        "enqueue",
        {"run_at": "2026-01-31T08:30:00.000000Z"},
    ),
    (
        "enqueue {command: ls} --max-retries 0",
        "enqueue",
        {"object": {"command": "ls"}, "max_retries": 0},
    ),
    (
        "enqueue --id a -- echo 'it is' --id -h",
        "enqueue",
        {"id": "a", "argv": "echo 'it is' --id -h"},
    ),
    ("enqueue -- ls -- x", "enqueue", {"argv": "ls -- x"}),
    (
        'enqueue "{\\"id\\":\\"a\\",\\"command\\":\\"echo hello\\",\\"max_retries\\":2}"',
        "enqueue",
        {"object": {"id": "a", "command": "echo hello", "max_retries": 2}},
    ),
    (
        'update \'{"id": "a", "state": "pending"}\'',
        "update",
        {"object": [{"id": "a", "state": "pending"}]},
    ),
    ("update {id: a} {id: b}", "update", {"object": [{"id": "a"}, {"id": "b"}]}),
]


@pytest.mark.parametrize(("line", "words", "values"), GOOD)
def test_lines_are_bound(line: str, words: str, values: dict[str, object]) -> None:
    bound = bind(SPECS, line)
    assert [fault.message for fault in bound.faults] == []
    assert bound.spec is not None
    assert bound.spec.words == tuple(words.split())
    assert given_values(bound) == values
    keys = {param.key for param in (*bound.spec.params, *GLOBAL_OPTIONS)}
    assert set(bound.values) == keys
    assert not bound.open
    assert not bound.help


@pytest.mark.parametrize(("line", "words", "values"), GOOD)
def test_argv_is_bound_to_the_same(line: str, words: str, values: dict[str, object]) -> None:
    argv = [token.text for token in bind(SPECS, line).tokens if token.role != "comment"]
    bound = bind_argv(SPECS, argv)
    assert [fault.message for fault in bound.faults] == []
    assert bound.spec is not None
    assert bound.spec.words == tuple(words.split())
    assert given_values(bound) == values


BAD = [
    # line, message, what the span covers, what could stand there
    ("lst", "unknown command 'lst' (did you mean 'list'?)", "lst", "list"),
    ("stat", "unknown command 'stat' (did you mean 'status'?)", "stat", "status"),
    ("xyzzy now", "unknown command 'xyzzy'", "xyzzy", ""),
    ("dlq lst", "unknown command 'dlq lst' (did you mean 'dlq list'?)", "lst", "list"),
    ("dlq", "dlq needs one of: list, retry", "", ""),
    ("worker --json", "worker needs one of: start, stop", "", ""),
    ("--jsn", "unknown option '--jsn'", "--jsn", ""),
    ("list --sta x", "list: unknown option '--sta' (did you mean '--state'?)", "--sta", "--state"),
    ("list --jso=1", "list: unknown option '--jso' (did you mean '--json'?)", "--jso", "--json"),
    ("list --json=yes", "--json takes no value", "--json=yes", ""),
    (
        "list --dead",
        "list: unknown option '--dead' (did you mean '--state dead'?)",
        "--dead",
        "--state dead",
    ),
    (
        "list --running",
        "list: unknown option '--running' (did you mean '--state running'?)",
        "--running",
        "--state running",
    ),
    ("list --state", "--state needs a state", "--state", ""),
    ("list --state --json", "--state needs a state", "--state", ""),
    ("list --state -q", "--state needs a state", "--state", ""),
    (
        "list --state pendng",
        "unknown state 'pendng' (did you mean 'pending'?)",
        "pendng",
        "pending",
    ),
    (
        "list --state=pendng",
        "unknown state 'pendng' (did you mean 'pending'?)",
        "pendng",
        "pending",
    ),
    ("list --limit -1", "--limit must be at least 0, not -1", "-1", ""),
    ("list --limit x", "--limit must be a whole number, not 'x'", "x", ""),
    ("list --limit 1.5", "--limit must be a whole number, not '1.5'", "1.5", ""),
    ("list --limit " + "9" * 30, "--limit is too large", "9" * 30, ""),
    ("list --limit " + "9" * 9999, "--limit is too large", "9" * 9999, ""),
    ("list --limit ''", "--limit must be a whole number", "''", ""),
    ("list --limit ٣", "--limit must be a whole number", "٣", ""),
    ("worker start --count=0", "--count must be at least 1, not 0", "0", ""),
    ("worker start --count 100000", "--count must be at most 64, not 100000", "100000", ""),
    ("worker start 2", "unexpected '2'", "2", ""),
    ("jitter --by nan", "--by must be a number, not 'nan'", "nan", ""),
    ("jitter --by 1e999", "--by must be a number, not '1e999'", "1e999", ""),
    ("jitter --by 2", "--by must be at most 1", "2", ""),
    ("jitter --as c", "--as must be one of a, b, not 'c'", "c", ""),
    ("show", "show needs a job id", "", ""),
    ("show a b", "unexpected 'b'", "b", ""),
    ("dlq retry", "dlq retry needs a job id or --all", "", ""),
    ("config set", "config set needs a setting", "", ""),
    ("config set base", "config set needs a value", "", ""),
    ("config set bse 3", "unknown setting 'bse' (did you mean 'base'?)", "bse", "base"),
    ("config set base x", "base must be a number, not 'x'", "x", ""),
    ("config set max-retries -1", "max-retries must lie between", "-1", ""),
    ("enqueue --timeout 5x", "--timeout: '5x' is not a duration", "5x", ""),
    (
        "enqueue --run-at 2026-01-31",
        "--run-at: '2026-01-31' is not a time like 18:30",
        "2026-01-31",
        "",
    ),
    ("enqueue --", "the command after -- is missing", "", ""),
    ("enqueue echo 'a b'", "to run a command: enqueue -- echo 'a b'", "echo", "-- echo"),
    ("update echo", "'echo' is not an object", "echo", ""),
    ("update", "update needs an object", "", ""),
    (
        "enqueue {id: a, comand: x}",
        "unknown field 'comand' (did you mean 'command'?)",
        "comand",
        "",
    ),
    ("enqueue '{id: a, comand: x}'", "unknown field 'comand'", "comand", ""),
    ('enqueue {"id":"a","priority":true}', "priority must be a whole number, not true", "true", ""),
    ("enqueue {command: x}}", "unexpected '}'", "}", ""),
    ("enqueue {id: a", "the object that begins here is not closed", "{", ""),
    ("show 'a", "a closing ' is missing", "'", ""),
    ("list \\", "a line must follow the backslash", "\\", ""),
]


@pytest.mark.parametrize(("line", "message", "spanned", "hint"), BAD, ids=[b[0][:40] for b in BAD])
def test_faults_say_what_and_where(line: str, message: str, spanned: str, hint: str) -> None:
    fault = bind(SPECS, line).faults[0]
    assert message in fault.message
    assert line[fault.start : fault.end] == spanned
    assert fault.hint == hint
    assert "\n" not in fault.message
    assert len(fault.message) < 200


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--help", ()),
        ("-h", ()),
        ("list --help", ("list",)),
        ("--help list", ("list",)),
        ("list --state nonsense -h --foo", ("list",)),
        ("show -h", ("show",)),
        ("dlq -h", ("dlq",)),
        ("enqueue echo hi -h", ("enqueue",)),
        ("enqueue {id: a, nonsense: b} -h", ("enqueue",)),
    ],
)
def test_help_wins_over_every_fault(line: str, words: tuple[str, ...]) -> None:
    for bound in (bind(SPECS, line), bind_argv(SPECS, line.split())):
        assert bound.help
        assert bound.words == words
        assert bound.faults == []


def test_help_behind_dashes_or_in_an_object_is_not_help() -> None:
    assert not bind(SPECS, "enqueue -- ls -h").help
    assert not bind(SPECS, "enqueue {command: ls -h}").help
    assert not bind_argv(SPECS, ["enqueue", "{command:", "ls", "-h}"]).help
    assert bind(SPECS, "lst -h").faults


@pytest.mark.parametrize("line", ["", "   ", "# only a comment", "\n"])
def test_an_empty_line_is_not_a_fault(line: str) -> None:
    bound = bind(SPECS, line)
    assert bound.spec is None
    assert bound.faults == []
    assert bound.values == DEFAULTS


@pytest.mark.parametrize(
    ("line", "roles"),
    [
        ("list --state pending # x", "command option value comment"),
        ("dlq retry a b --json", "command command value value error"),
        ("lst a", "error error"),
        ("enqueue {id: a} --id=b", "command object option"),
        ("enqueue --id a -- ls -l", "command option value end value value"),
        ("enqueue -- ls {a} # x", "command end value value comment"),
        ("enqueue echo hi", "command error error"),
        ("show a b", "command value error"),
    ],
)
def test_every_token_gets_a_role(line: str, roles: str) -> None:
    assert " ".join(token.role for token in bind(SPECS, line).tokens) == roles


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("", [("word", "", 0), ("option", "", 0)]),
        ("li", [("word", "li", 0)]),
        ("dlq", [("word", "dlq", 0)]),
        ("dlq ", [("word", "", 4), ("option", "", 4)]),
        ("dlq re", [("word", "re", 4)]),
        ("dlq retry ", [("dead_job", "", 10), ("option", "", 10)]),
        ("dlq retry a", [("dead_job", "a", 10)]),
        ("dlq retry a ", [("dead_job", "", 12), ("option", "", 12)]),
        ("show a ", [("option", "", 7)]),
        ("list ", [("option", "", 5)]),
        ("list --st", [("option", "--st", 5)]),
        ("list --state ", [("state", "", 13)]),
        ("list --state pen", [("state", "pen", 13)]),
        ("list --state=pen", [("state", "pen", 13)]),
        ("list --state pending ", [("option", "", 21)]),
        ("config set ", [("setting", "", 11), ("option", "", 11)]),
        ("config set base ", [("setting_value", "", 16), ("option", "", 16)]),
        ("enqueue ", [("object", "", 8), ("option", "", 8)]),
        ("enqueue {id", [("object", "{id", 8)]),
        ("enqueue -- ", [("argv", "", 11)]),
        ("enqueue -- ls ", [("argv", "", 14)]),
        ("--data ", [("path", "", 7)]),
        ("lst ", []),
        ("list # ", []),
    ],
)
def test_the_next_words_are_told(line: str, wanted: list[tuple[str, str, int]]) -> None:
    found = expected(bind(SPECS, line))
    assert [(item.kind, item.prefix, item.start) for item in found] == wanted


def test_expected_words_and_options_are_named() -> None:
    word, _ = expected(bind(SPECS, "dlq "))
    assert word.words == ("list", "retry")
    (option,) = expected(bind(SPECS, "list --json --state dead --"))
    assert "--limit" in option.words
    assert "--state" in option.words  # may be given again
    assert "--json" not in option.words


CORPUS = sorted({row[0][:200] for row in (*GOOD, *BAD)})


@pytest.mark.parametrize("line", CORPUS, ids=range(len(CORPUS)))
def test_every_beginning_of_a_line_is_bound(line: str) -> None:
    for end in range(len(line) + 1):
        bound = bind(SPECS, line[:end])
        for item in expected(bound):
            assert line[item.start : end].startswith(item.prefix) or bound.tokens[-1].quoted
        for fault in bound.faults:
            assert 0 <= fault.start <= fault.end <= end


SCRAPS = "list enqueue dlq retry config set --state --id= { } ' \" -- -h \\ # id: base -5 é世 nan"
LINES = st.lists(
    st.sampled_from([*SCRAPS.split(" "), " ", " ", "\n", "\0", "9" * 30]), max_size=12
).map("".join)


@given(st.one_of(LINES, st.text(max_size=30)))
def test_no_line_raises(line: str) -> None:
    bound = bind(SPECS, line)
    assert isinstance(expected(bound), list)
    assert all(0 <= fault.start <= fault.end <= len(line) for fault in bound.faults)
    assert bound.open == bool(bound.tokens and bound.tokens[-1].open)


@given(st.lists(st.one_of(LINES, st.text(max_size=12)), max_size=6))
def test_no_argv_raises(argv: list[str]) -> None:
    bound = bind_argv(SPECS, argv)
    assert isinstance(expected(bound), list)
    assert all(0 <= fault.start <= fault.end <= len(bound.text) for fault in bound.faults)


@given(st.lists(st.text(st.characters(exclude_characters="\0")), min_size=1, max_size=5))
def test_arguments_behind_dashes_are_quoted_back(words: list[str]) -> None:
    bound = bind_argv(SPECS, ["enqueue", "--id", "a", "--", *words])
    assert bound.values["argv"] == command_line(words)
    lone = len(words) == 1 and not is_plain(words[0])  # a program of that name may be there or not
    assert lone or bool(bound.faults) == (not words[0].strip() or is_variable(words[0]))


@pytest.mark.parametrize(
    "command",
    [
        "grep 'a b' *.txt | wc -l",
        "{ echo a; echo b; }",
        "f() { echo x; }; f",
        """x='a b'; echo "$x" """.strip(),
        "echo  two   blanks # and a comment",
        "echo a; # it's a comment",
        "echo it\\'s \\\n  more",
        "echo 'a\nb'",
        "FOO=1 if true; then echo {a,b}; fi",
        "echo a\\ ",
        "ls -- --id x",
    ],
)
def test_the_words_behind_dashes_are_left_to_sh(command: str) -> None:
    bound = bind(SPECS, f"enqueue --id a --  {command}")
    assert bound.faults == []
    assert bound.values["argv"] == command
    assert bound.values["id"] == "a"
    assert not bound.open


@given(st.text(st.sampled_from("abc0 \t\n'\"\\{}#-=,:;|$*é世"), max_size=40))
def test_only_blanks_around_a_command_behind_dashes_are_lost(text: str) -> None:
    bound = bind(SPECS, "enqueue -- " + text)
    if bound.faults:
        assert bound.open or "-- is " in bound.faults[0].message
    else:
        command = bound.values["argv"]
        assert isinstance(command, str)
        assert text.count(command) >= 1
        assert not text.replace(command, "", 1).replace("\\\n", "").strip()


def test_an_empty_or_missing_program_behind_dashes_is_refused() -> None:
    for bound, how in (
        (bind(SPECS, "enqueue -- '' x"), "empty"),
        (bind(SPECS, "enqueue -- # x"), "missing"),
        (bind_argv(SPECS, ["enqueue", "--", " ", "x"]), "empty"),
    ):
        assert bound.faults[0].message == f"the command after -- is {how}"


@pytest.mark.parametrize(
    "argv",
    [
        ["enqueue", "id:a", "command:echo hi", "--priority", "3"],
        ["enqueue", "{id:", "a,", "command:", "echo", "hi}", "--priority", "3"],
        ["--priority", "3", "enqueue", "'{id:a,command:echo hi}'"],
        ["enqueue", "--priority=3", '{"id":"a","command":"echo hi"}'],
    ],
)
def test_objects_that_a_shell_has_cut_are_joined(argv: list[str]) -> None:
    bound = bind_argv(SPECS, argv)
    assert bound.faults == []
    assert given_values(bound) == {"object": {"id": "a", "command": "echo hi"}, "priority": 3}


def test_a_fault_in_a_joined_object_has_its_place() -> None:
    bound = bind_argv(SPECS, ["enqueue", "{id:", "a,", "comand:", "x}"])
    fault = bound.faults[0]
    assert bound.text[fault.start : fault.end] == "comand"


def test_commands_are_found_by_their_words() -> None:
    found = find_command(SPECS, ("dlq", "retry"))
    assert found is not None
    assert found.words == ("dlq", "retry")
    assert find_command(SPECS, ("worker-start",)) is find_command(SPECS, ("worker", "start"))
    assert find_command(SPECS, ("dlq",)) is None
    assert find_command(SPECS, ("dlq", "")) is None
    assert find_command(SPECS, ()) is None


def test_defaults_are_not_shared_between_lines() -> None:
    first = bind(SPECS, "list").values["state"]
    assert isinstance(first, list)
    first.append("x")
    assert bind(SPECS, "list").values["state"] == []


WATCHED = (
    *SPECS,
    spec(
        "watch",
        Param("interval", "duration", "time", default=2.0, low=0.2),
        Param("command", "line", "what", required=True),
    ),
    spec("logs", Param("job", "job", "id", required=True), Param("--follow", "flag", "on")),
    spec("alias", Param("name", "alias", "word"), Param("command", "front", "what")),
)


@pytest.mark.parametrize("reader", [bind, lambda specs, line: bind_argv(specs, line.split())])
@pytest.mark.parametrize(
    ("line", "interval", "words", "values"),
    [
        ("watch list", 2.0, ("list",), {}),
        ("watch 5 list --state failed --limit 3", 5.0, ("list",), {"limit": 3}),
        ("watch 1m dlq list --json", 60.0, ("dlq", "list"), {"json": True}),
        ("watch -- list", 2.0, ("list",), {}),
        ("watch -q 1.5 status --data x", 1.5, ("status",), {"data": "x", "quiet": False}),
        ("watch dlq-list", 2.0, ("dlq-list",), {}),
    ],
)
def test_the_rest_of_a_line_is_a_command_of_its_own(reader, line, interval, words, values):
    bound = reader(WATCHED, line)
    assert bound.faults == []
    assert bound.values["interval"] == interval
    inner = bound.values["command"]
    assert inner is bound.innermost
    assert inner.words == words
    assert values.items() <= inner.values.items()
    assert [token.start for token in inner.tokens] == [
        token.start for token in bound.tokens[-len(inner.tokens) :]
    ]


@pytest.mark.parametrize(
    ("line", "message", "marked"),
    [
        ("watch", "watch needs a command", ""),
        ("watch 5", "watch needs a command", ""),
        ("watch 0.1 list", "interval must be at least 0.2, not 0.1", "0.1"),
        ("watch 5x list", "interval: '5x' is not a duration", "5x"),
        ("watch lst --limit 3", "unknown command 'lst' (did you mean 'list'?)", "lst"),
        ("watch list --limt 3", "list: unknown option '--limt' (did you mean", "--limt"),
        ("watch dlq retry x", "'dlq retry' cannot be watched; these can: list, ", "retry"),
        ("watch watch list", "'watch' cannot be watched; these can:", "watch"),
        ("watch logs a --follow", "'logs --follow' cannot be watched; without", "--follow"),
        ("watch show 'a", "a closing ' is missing", "'"),
        ("alias c cancle x", "unknown command 'cancle'", "cancle"),
        ("alias c list --limit x y", "--limit must be a whole number, not 'x'", "x"),
        ("alias c list 'x", "unexpected 'x'", "'x"),
    ],
)
def test_faults_of_an_inner_command_stand_where_they_are_typed(line, message, marked):
    bound = bind(WATCHED, line)
    fault = bound.faults[0]
    assert fault.message.startswith(message)
    assert line[fault.start : fault.end] == marked
    assert line.rindex(marked) == fault.start


@pytest.mark.parametrize("front", ["list", "list --state", "dlq", "show", "enqueue --id a --"])
def test_the_front_of_a_line_may_lack_the_rest(front):
    bound = bind(WATCHED, f"alias x  {front}  # note")
    assert bound.faults == []
    assert bound.values["command"] == front


def test_help_within_a_line_is_about_the_line():
    bound = bind(WATCHED, "watch list -h --no-such")
    assert (bound.help, bound.faults, bound.words) == (True, [], ("watch",))


def test_the_grammar_loads_little() -> None:
    code = (
        "import sys; before = set(sys.modules); import queuectl.commands.grammar.binding as g;"
        "s = (g.CommandSpec(('status',), '', ''),); g.bind_argv(s, ['status', '--quiet']);"
        "print(*sorted(set(sys.modules) - before))"
    )
    ran = subprocess.run(
        [
            sys.executable,
            "-I",
            "-c",
            f"sys = __import__('sys'); sys.path[:] = {sys.path!r}; {code}",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert all(name.startswith(("queuectl", "__future__")) for name in ran.stdout.split())
    assert "queuectl.commands.grammar.objects" not in ran.stdout
    assert "queuectl.commands.grammar.values" not in ran.stdout


def test_binding_takes_microseconds() -> None:
    lines = [row[0] for row in GOOD]
    best = min(_seconds_a_line(lines) for _ in range(5))
    assert best < 0.001  # some 15 microseconds on an idle machine


def _seconds_a_line(lines: list[str]) -> float:
    begun = time.perf_counter()
    for line in lines:
        bind(SPECS, line)
    return (time.perf_counter() - begun) / len(lines)
