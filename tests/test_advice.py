"""Every command that an error suggests is run here, and does what the error says."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Iterator

import pytest

from queuectl.commands.grammar import answers
from queuectl.commands.grammar.binding import bind, bind_argv
from queuectl.commands.grammar.expecting import expected
from queuectl.commands.grammar.objects import parse_object
from queuectl.commands.grammar.specs import GLOBAL_OPTIONS
from queuectl.commands.table import COMMANDS
from queuectl.config import SETTINGS, find_setting, parse_setting
from queuectl.errors import InvalidInput
from queuectl.model.fields import FIELDS, MEANT, STATES, check_state
from queuectl.shell.own_commands import SHELL_COMMANDS

OF_OTHER_TOOLS = (
    *("add", "rm", "remove", "delete", "kill", "clean", "clear", "follow", "tail", "ps"),
    *("jobs", "ls", "start", "stop", "restart", "shutdown", "history", "cd"),
    *("?", "get", "workers"),
)
FILLED_IN = {
    "ID": "job1",
    "COMMAND": "true",
    "DIR": "/",
    "NAME": "base",
    "VALUE": "2",
    "N": "2",
}


def slips(word: str) -> Iterator[str]:
    """The word with one letter left out, doubled, or swapped with the next."""
    for at in range(len(word)):
        yield word[:at] + word[at + 1 :]
        yield word[: at + 1] + word[at:]
        yield word[:at] + word[at + 1 : at + 2] + word[at] + word[at + 2 :]


def meant(message: str) -> str:
    found = re.search(r"\(did you mean '(.*?)'\?\)", message)
    return found[1] if found else ""


# -- words


@pytest.mark.parametrize("specs", [COMMANDS, SHELL_COMMANDS], ids=["argv", "shell"])
def test_the_command_that_is_offered_is_one(specs):
    offered = 0
    names = {words for spec in specs for words in (spec.words, *spec.aliases)}
    for words in sorted(names):
        for slip in slips(words[-1]):
            for line in ([*words[:-1], slip], [slip, *words[1:]])[: len(words)]:
                bound = bind_argv(specs, line)
                offer = meant(bound.faults[0].message) if bound.faults else ""
                if not offer:
                    continue
                offered += 1
                rest = line[1:] if len(offer.split()) == 1 else []
                assert any((*offer.split(), *rest)[: len(name)] == name for name in names), offer
                assert bound.faults[0].hint in offer
    assert offered > 200


def test_a_command_that_destroys_is_offered_for_a_similar_word_only():
    for word in (*OF_OTHER_TOOLS, *answers.ANSWERS, "reset", "reuse", "canal", "rest"):
        bound = bind_argv(COMMANDS, word.split())
        assert not bound.faults or meant(bound.faults[0].message) not in (
            *("purge", "restore", "cancel"),
        ), word
    near = (("purgee", "purge"), ("restor", "restore"), ("cancle", "cancel"), ("puase", "pause"))
    for slip, command in (*near, ("stop_workers", "worker stop"), ("list-dlq", "dlq list")):
        assert meant(bind_argv(COMMANDS, [slip]).faults[0].message) == command


@pytest.mark.parametrize("word", OF_OTHER_TOOLS)
def test_a_word_of_another_tool_is_answered_in_one_line(cli, word):
    result = cli(word)
    assert (result.code, result.out) == (2, "")
    assert re.fullmatch(rf"queuectl: .*'{re.escape(word)}'.*'.+' .+\n", result.err)
    assert "did you mean" not in result.err


@pytest.mark.parametrize("words", [*answers.ANSWERS, *answers.NOT_YET])
def test_every_command_that_an_answer_names_can_be_run(words):
    known = {**answers.ANSWERS, **answers.NOT_YET}
    assert bind_argv(COMMANDS, words.split()).faults[0].message == answers.answer(words)
    lines = [line for line, _ in known[words]] + re.findall(r"'(\w+ \w+)'", known[words][0][1])
    for line in lines:
        argv = [FILLED_IN.get(word, word) for word in line.split()]
        bound = bind_argv(COMMANDS, argv)
        assert bound.spec is not None, line
        assert [fault.message for fault in bound.faults] == [], line


@pytest.mark.parametrize("words", answers.OPTIONS)
def test_an_option_that_a_command_lacks_is_answered_with_what_does_it(words):
    for value in ([], ["dead"]):
        (fault, *_) = bind_argv(COMMANDS, [*words.split(), *value]).faults
        *command, option = words.split()
        of = f"{' '.join(command)}: " if command else ""
        told = f"{of}unknown option '{option}': {answers.option_answer(words)}"
        assert (fault.message, fault.hint) == (told, "")
    for line, _ in answers.OPTIONS[words]:
        argv = [{"STATE": "dead", "TEXT": "x"}.get(word, word) for word in line.split()]
        assert bind_argv(COMMANDS, argv).faults == []


def test_the_option_that_is_offered_is_one():
    offered, tried = 0, set()
    for spec in COMMANDS:
        options = [param.name for param in (*spec.params, *GLOBAL_OPTIONS) if param.name[0] == "-"]
        for option in options:
            for slip in () if option in tried else slips(option[2:]):
                faults = bind_argv(COMMANDS, [*spec.words, f"--{slip}"]).faults
                offer = meant(faults[0].message) if faults else ""
                offered += bool(offer)
                assert not offer or offer in options
        tried.update(options)
    assert offered > 500


@pytest.mark.parametrize(
    ("line", "offer"),
    [
        ("enqueue --name x -- true", "--id"),
        ("enqueue --cmd true", "--command"),
        ("enqueue --at 18:30 -- true", "--run-at"),
        ("enqueue --depends-on x -- true", "--after"),
        ("list --status dead", "--state"),
        ("list --dead", "--state dead"),
        ("list -n 5", "--limit"),
        ("logs x --tail 5", "--lines"),
        ("worker start --workers 3", "--count"),
        ("worker start 3", "--count 3"),
        ("purge --force", "--yes"),
        ("list --verbose", ""),
    ],
)
def test_the_names_of_options_in_other_tools_are_known(line, offer):
    argv = line.split()
    (fault, *_) = bind_argv(COMMANDS, argv).faults
    assert meant(fault.message) == offer
    if offer:
        instead = argv.index(next(word for word in argv[1:] if word[0] in "-3"))
        mended = [*argv[:instead], *offer.split(), *argv[instead + 1 :]]
        assert bind_argv(COMMANDS, mended).faults == []


def test_a_file_that_stands_alone_is_handed_in_as_what_it_is(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, text in (("a job.sh", "true\n"), ("run", "#!/bin/sh\n"), ("j.json", "{id: a}")):
        (tmp_path / name).write_text(text)
    (tmp_path / "run").chmod(0o700)
    for word, line in (
        ("a job.sh", "to run a command: enqueue -- sh './a job.sh'"),
        ("./a job.sh", "to run a command: enqueue -- sh './a job.sh'"),
        ("run", "to run a command: enqueue -- ./run"),
        ("./run", "to run a command: enqueue -- ./run"),
        ("@j.json", "for its jobs: enqueue --file j.json"),
        ("none.sh", "to run a command: enqueue -- none.sh"),
    ):
        assert cli("enqueue", word).err.endswith(f"; {line}\n")
    assert "for several jobs: enqueue --file FILE" in cli("enqueue", '[{"command": "ls"}]').err


def test_the_value_that_is_offered_is_one():
    for state in STATES:
        for slip in slips(state):
            with pytest.raises(InvalidInput) as caught:
                check_state(f"{slip}x")
            assert meant(str(caught.value)) in ("", *STATES)
    for setting in SETTINGS:
        for slip in slips(setting.name):
            try:
                find_setting(slip)
            except InvalidInput as exc:
                if meant(str(exc)):
                    find_setting(meant(str(exc)))
    for spec in COMMANDS:
        for param in spec.params:
            for choice in param.choices:
                option = [param.name] if param.name[0] == "-" else []
                faults = bind_argv(COMMANDS, [*spec.words, *option, f"{choice}x"]).faults
                assert meant(faults[0].message) in ("", *param.choices)


def test_the_field_that_is_offered_can_be_given():
    values = {
        "env": "{A: 1}",
        "state": "pending",
        **dict.fromkeys(("rerun", "notify", "catch_up", "overlap"), "true"),
        "cron": "@daily",
        "run_at": "18:30",
        "jitter": "0.5",
    }
    spelled = [slip for field in FIELDS if field.enqueue for slip in slips(field.name)]
    for name in [*MEANT, *spelled]:
        try:
            parse_object(f"{{{name}: 5}}")
        except InvalidInput as exc:
            offer = meant(str(exc))
            if offer:
                assert parse_object(f"{{{offer}: {values.get(offer, '5')}}}")


# -- lines


LINES = [
    # argv, what the job's command becomes, and other fields of it
    (["sleep 0.1; echo done | wc -c"], "sleep 0.1; echo done | wc -c", {}),
    (["a; b"], "a; b", {}),
    (["echo 'it''s' $HOME"], "echo 'it''s' $HOME", {}),
    (["sleep", "1"], "sleep 1", {}),
    (["sleep", "1", "--priority", "3"], "sleep 1", {"priority": 3}),
    (["sleep", "--priority=3", "1"], "sleep 1", {"priority": 3}),
    (["--id", "x", "ls", "-l", "/"], "ls -l /", {"id": "x"}),
    (["grep", "-q", "x y"], "grep -q 'x y'", {}),
    (["printf", "%s\\n", "two  blanks"], "printf '%s\\n' 'two  blanks'", {}),
    (["job1", "--", "echo", "hi"], "echo hi", {"id": "job1"}),
    (["--command", "sleep", "1"], "sleep 1", {}),
    (["--command=sleep", "1", "--priority", "2"], "sleep 1", {"priority": 2}),
    (["--priority", "2", "--command", "echo it's; ls", "-l"], "echo it's; ls -l", {"priority": 2}),
    (["--", "sleep 0.1; echo done | wc -c"], "sleep 0.1; echo done | wc -c", {}),
    (["--id", "x", "--", "a b"], "a b", {"id": "x"}),
    (["--tag", "a", "b", "--", "echo", "a b"], "echo 'a b'", {"tags": ["a", "b"]}),
    (["--lock=a", "b", "c", "--id", "x", "--command", "true"], "true", {"lock": ["a", "b", "c"]}),
    (["--tag", "a", "echo", "hi"], "echo hi", {"tags": ["a"]}),
    (["A=1", "B=a b", "ls", "C=2"], "ls C=2", {"env": {"A": "1", "B": "a b"}}),
    (["--id", "x", "--", "A=1", "ls", "-l"], "ls -l", {"id": "x", "env": {"A": "1"}}),
]


def advice(message: str) -> str:
    """The line that a refusal of enqueue advises."""
    found = re.search(
        r"(?:to run a command|to the command|for a shell line|again for more): (enqueue .*)",
        message,
    )
    assert found, message
    return found[1].partition("; for a program: ")[0]


@pytest.mark.parametrize(("argv", "command", "fields"), LINES)
def test_the_line_that_is_advised_hands_in_that_job(cli, argv, command, fields):
    refused = cli("enqueue", *argv)
    assert (refused.code, refused.out) == (2, "")
    assert cli.ok("list", "-q") == ""
    cli.ok(*shlex.split(advice(refused.err)))
    [job] = json.loads(cli.ok("list", "--json"))
    assert job["command"] == command
    assert {name: job[name] for name in fields} == fields


@pytest.mark.parametrize(
    ("words", "advised"),
    [
        (["run", "sleep", "1"], "run -- sleep 1"),
        (["run", "--id", "x", "sleep 1; ls"], "run --id x --command 'sleep 1; ls'"),
        (["run", "A=1", "ls"], "run --env A=1 -- ls"),
        (["sleep", "1"], "enqueue -- sleep 1"),
        (["sleep 1; ls"], "enqueue --command 'sleep 1; ls'"),
    ],
)
def test_a_command_without_its_dashes_is_told_with_them(words, advised):
    told = bind_argv(COMMANDS, words).faults[0].message
    assert told.endswith(f"; to run a command: {advised}")
    assert bind_argv(COMMANDS, shlex.split(advised)).faults == []


def test_a_word_that_a_command_has_no_use_for_is_answered():
    for words, lines in answers.WORDS.items():
        (fault,) = bind_argv(COMMANDS, [*words.split(), "job1"]).faults
        assert fault.message == f"unexpected 'job1': {answers.option_answer(words)}"
        for line, _ in lines:
            assert bind_argv(COMMANDS, line.split()).faults == []


@pytest.mark.parametrize(
    ("line", "command", "fields"),
    [
        ("enqueue sleep 1", "sleep 1", {}),
        ("enqueue A=1 env", "A=1 env", {}),
        ("enqueue ls | wc -l", "ls | wc -l", {}),
        ("enqueue ls|wc", "ls|wc", {}),
        ('enqueue "a; b"', "a; b", {}),
        ("enqueue 'a; b' # why", "a; b", {}),
        ("enqueue 'it'\"'\"'s; b'", "it's; b", {}),
        ('enqueue -- "a; b"', "a; b", {}),
        ("enqueue --id x -- 'a $b'", "a $b", {"id": "x"}),
        ("enqueue sleep 1 --priority 3", "sleep 1", {"priority": 3}),
        ("enqueue --command sleep 1", "sleep 1", {}),
        ('enqueue --command \'echo "a"\' "it\'s"', '\'echo "a"\' "it\'s"', {}),
        ("queuectl enqueue --command ls -l", "ls -l", {}),
    ],
)
def test_the_line_that_is_advised_in_a_script_hands_in_that_job(cli, line, command, fields):
    refused = cli(stdin=line)
    assert refused.code == 1
    told = refused.err.splitlines()[0]
    cli.ok(stdin=advice(told))
    [job] = json.loads(cli.ok("list", "--json"))
    assert job["command"] == command
    assert {name: job[name] for name in fields} == fields


def test_the_hint_for_tab_makes_a_line_right():
    for line in ("enqueue sleep 1", "enqueue 'a; b'"):
        fault = bind(COMMANDS, line).faults[0]
        assert fault.hint
        mended = bind(COMMANDS, line[: fault.start] + fault.hint + line[fault.end :])
        assert mended.faults == []
        assert mended.values["argv"] == "sleep 1" or mended.values["command"] == "a; b"


@pytest.mark.parametrize(
    "argv",
    [
        ["--command", "a", "--", "b"],
        ["a", "b", "--", "c"],
        ["--file", "jobs", "x"],
        ["x", "--command", "y"],
    ],
)
def test_nothing_is_advised_where_nothing_clear_was_meant(cli, argv):
    refused = cli("enqueue", *argv)
    assert refused.code == 2
    assert "to run" not in refused.err


@pytest.mark.parametrize("where", ["cwd", "path", "here"])
def test_a_program_with_a_blank_in_its_name_is_run(cli, tmp_path, monkeypatch, where):
    program = tmp_path / "of mine" / "say hi"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho hi\n")
    program.chmod(0o700)
    if where == "cwd":
        argv = ["--cwd", str(tmp_path), "--", "of mine/say hi"]
    elif where == "path":
        monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
        argv = ["--", "say hi"]
    else:
        argv = ["--", "./of mine/say hi"]
    cli.ok("enqueue", *argv)
    assert cli("enqueue", "--", "say ho").code == 2


@pytest.mark.parametrize("command", ["ls|wc", '"$HOME/my program"', "a\\ b", "{a;}"])
def test_a_command_that_only_sh_can_read_goes_to_sh_in_a_script(command):
    bound = bind(COMMANDS, f"enqueue -- {command}")
    assert bound.faults == []
    assert bound.values["argv"] == command


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("list | head", "to /bin/sh; in the shell: !queuectl list | head"),
        ("list > f", "to /bin/sh; in the shell: !queuectl list > f"),
        ("queuectl list >f", "in the shell: !queuectl list >f"),
        ("show a 2>/dev/null", "shell: !queuectl show a 2>/dev/null"),
        ("logs a | grep x | head", "shell: !queuectl logs a | grep x | head"),
        ("cancel a && list", "'&&' means nothing here: give one command a line"),
        ("list; status", "';' means nothing here: give one command a line"),
        ("list -q; status", "';' means nothing here: give one command a line"),
        ("show a; status", "';' means nothing here: give one command a line"),
        ("$ .venv/bin/queuectl list | head", "in the shell: !queuectl list | head"),
    ],
)
def test_a_pipe_is_answered(line, told):
    [fault] = bind(COMMANDS, line).faults
    assert told in fault.message
    assert fault.hint == ""


def test_a_program_in_the_place_of_a_command_is_told_how_to_be_run(cli):
    for argv in (["cp", "-r", "a b", "c"], ["/bin/echo", "hi"]):
        refused = cli(*argv)
        assert (refused.code, refused.out) == (2, "")
        cli.ok(*shlex.split(advice(refused.err)))
        told = cli(stdin=shlex.join(argv)).err.splitlines()[0]
        cli.ok(stdin=advice(told))
    commands = [job["command"] for job in json.loads(cli.ok("list", "--json"))]
    assert commands == ["cp -r 'a b' c"] * 2 + ["/bin/echo hi"] * 2
    assert cli("no-such-program", "x").err == "queuectl: unknown command 'no-such-program'\n"


def test_a_leading_queuectl_is_passed_over_in_scripts(cli):
    script = "queuectl enqueue --id a -- true\nqueuectl list -q\nqueuectl --quiet list # why\n"
    script += "$ queuectl list -q\n.venv/bin/queuectl list -q\n"
    assert cli.ok(stdin=script).splitlines()[1:] == ["a"] * 4
    assert cli("queuectl", "list").code == 2
    assert bind(COMMANDS, "queuectl lst").faults[0].message.startswith("unknown command 'lst'")


@pytest.mark.parametrize("name", ["stdin", "max-rss"])
def test_an_option_of_a_later_version_is_refused(cli, name):
    for front in (["enqueue"], ["update", "job1"]):
        refused = cli(*front, f"--{name}", "x")
        assert refused.code == 2
        assert f"--{name} is not supported by this version" in refused.err


def test_an_address_is_not_a_folder(cli, monkeypatch, tmp_path):
    before = sorted(os.listdir(tmp_path))
    address = "redis://me:secret@host/queuectl"
    for argv in (["--data", address, "list"], ["init", address]):
        refused = cli(*argv)
        assert (refused.code, refused.out) == (2, "")
        assert "redis://... is not supported by this version" in refused.err
        assert "secret" not in refused.err
    monkeypatch.setenv("QUEUECTL_DATA", address)
    assert cli("enqueue", "--", "true").code == 2
    assert sorted(os.listdir(tmp_path)) == before


EITHER = [  # the word that could be either, and the two lines that are told
    ("update a --after b c", "c", "update c a --after b", "update a --after b --after c"),
    (
        "update a --after=b c d",
        "c",
        "update c d a --after=b",
        "update a --after=b --after c --after d",
    ),
    ("update --tag x a b --tag y z", "a", None, "update --tag x --tag a --tag b --tag y --tag z"),
    ("update {id: a} --lock x b", "b", None, "update {id: a} --lock x --lock b"),
    ("update --tag x a --with-tag y", "a", "update a --tag x --with-tag y", None),
    ("cancel --tag x y -y", "y", "cancel y --tag x -y", "cancel --tag x --tag y -y"),
    ("list --state dead failed", "failed", None, "list --state dead --state failed"),
    ("--tag x cancel --tag y z", "z", "--tag x cancel z --tag y", "--tag x cancel --tag y --tag z"),
    ("list --fields id state", "state", None, "list --fields id --fields state"),
    ("wait --tag x y", "y", "wait y --tag x", "wait --tag x --tag y"),
    ("watch 2 list --tag x y", "y", "list y --tag x", "list --tag x --tag y"),
    ("top --tag x y", "y", None, "top --tag x --tag y"),
    ("run --after a b -- x --tag 1 2", "b", None, "run --after a --after b -- x --tag 1 2"),
    ("enqueue --after a b --tag x y -- c", "b", None, None),
]


@pytest.mark.parametrize(("line", "word", "ids", "again"), EITHER, ids=[row[0] for row in EITHER])
def test_an_id_that_could_be_a_value_of_the_option_before_is_refused(line, word, ids, again):
    argv = shlex.split(line) if "{" not in line else ["update", "{id: a}", "--lock", "x", "b"]
    for bound in (bind(COMMANDS, line), bind_argv(COMMANDS, argv)):
        (fault,) = bound.faults
        assert bound.text[fault.start : fault.end] == word
        told = fault.message.replace("'{id: a}'", "{id: a}")
        assert f"write {ids or ''}" in told or ids is None
        assert told.endswith(again or "")
        for way in re.split(": write |, or |for more: ", fault.message)[1:]:
            assert not bind(COMMANDS, way).faults


@pytest.mark.parametrize(
    ("line", "ids"),
    [
        ("update --after b a", ["a"]),
        ("update a --after b -- c", ["a", "c"]),
        ("update a --priority 3 c", ["a", "c"]),
        ("update --env A=1 a c", ["a", "c"]),
        ("cancel a b --tag x", ["a", "b"]),
        ("cancel --tag x --yes a", ["a"]),
    ],
)
def test_an_id_that_can_be_nothing_else_stays_one(line, ids):
    for bound in (bind(COMMANDS, line), bind_argv(COMMANDS, line.split())):
        assert bound.faults == []
        assert bound.values["job"] == ids


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("update a --after b ", False),
        ("update a --after=b ", False),
        ("cancel --tag x ", False),
        ("cancel a --yes ", True),
        ("cancel a --exit-code 3 ", True),
        ("wait a b ", True),
    ],
)
def test_no_id_is_offered_where_it_would_be_refused(line, offered):
    kinds = {item.kind for item in expected(bind(COMMANDS, line))}
    assert ("job" in kinds or "live_job" in kinds) == offered
    assert "word" in kinds or "option" in kinds


def test_the_error_of_a_setting_says_that_it_can_be_none():
    with pytest.raises(InvalidInput, match=r"aging must lie between .* or be none"):
        parse_setting(find_setting("aging"), "0")
