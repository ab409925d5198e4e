"""Jobs as objects: strict JSON, the relaxed form, files of them, and what shells do to them."""

from __future__ import annotations

import io
import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuectl.commands.grammar.objects import join_pieces, json_lines, parse_object
from queuectl.commands.grammar.tokens import quote, tokenize
from queuectl.errors import InvalidInput
from queuectl.model.fields import MEANT, NOT_YET

GOOD = [
    # the seeds' own lines
    ('{id: job1, command: "echo Hello"}', {"id": "job1", "command": "echo Hello"}),
    ('{"id":"job10","command":"echo hi"}', {"id": "job10", "command": "echo hi"}),
    (
        '{"id": "job3", "command": "python -c \\"print(2+2)\\""}',
        {"id": "job3", "command": 'python -c "print(2+2)"'},
    ),
    # spacing
    ("{id:job1,command:ls}", {"id": "job1", "command": "ls"}),
    ("  { id : job1 , command : ls }  ", {"id": "job1", "command": "ls"}),
    ("{\n  id: job1,\n  command: echo hi\n}", {"id": "job1", "command": "echo hi"}),
    ("{tags: [a, 'b:1', \"c\"], id: j}", {"tags": ("a", "b:1", "c"), "id": "j"}),
    ('{"tags": ["a", "b"], "id": "j"}', {"tags": ("a", "b"), "id": "j"}),
    ("{id: j, tags: a}", {"id": "j", "tags": ("a",)}),
    ("{tags: null, id: j}", {"tags": None, "id": "j"}),
    ("{id=job1, command=ls}", {"id": "job1", "command": "ls"}),
    ("{id: job1, command: ls,}", {"id": "job1", "command": "ls"}),
    ("{}", {}),
    ("{ }", {}),
    # the field decides the type
    ("{id: 007}", {"id": "007"}),
    ("{id: yes}", {"id": "yes"}),
    ("{id: null}", {"id": "null"}),
    (
        "{retry_delay: null, base: null, jitter: null, log_limit: null, unique: null, tags: null}",
        {"retry_delay": None, "base": None, "jitter": None, "log_limit": None, "unique": None}
        | {"tags": None},
    ),
    ("{id: 12:30}", {"id": "12:30"}),
    ("{id: 2026-01-31}", {"id": "2026-01-31"}),
    ("{command: true}", {"command": "true"}),
    ("{command: 1e3}", {"command": "1e3"}),
    ("{priority: -5}", {"priority": -5}),
    ('{priority: "3"}', {"priority": 3}),
    ("{timeout: 5m}", {"timeout": 300.0}),
    ("{timeout: null}", {"timeout": None}),
    ('{"timeout": null}', {"timeout": None}),
    ("{cwd: null}", {"cwd": None}),
    ("{rerun: no}", {"rerun": False}),
    ("{run_at: 2026-01-31T08:30:00Z}", {"run_at": "2026-01-31T08:30:00.000000Z"}),
    ("{available_at: 2026-01-31T09:30:00+01:00}", {"run_at": "2026-01-31T08:30:00.000000Z"}),
    ("{run_timeout: 3, max-retries: 2}", {"timeout": 3.0, "max_retries": 2}),
    # commas
    ("{command: echo a, b, max_retries: 1}", {"command": "echo a, b", "max_retries": 1}),
    ("{command: echo a,b , c}", {"command": "echo a,b , c"}),
    ("{command: date +%H, 13:45}", {"command": "date +%H, 13:45"}),
    ("{command: echo a, b c: d}", {"command": "echo a, b c: d"}),
    ("{command: echo a, -x: b}", {"command": "echo a, -x: b"}),
    ("{command: echo a, B=c}", {"command": "echo a, B=c"}),
    ('{command: "echo a, no: b"}', {"command": "echo a, no: b"}),
    ("{command: f(a, no: b)}", {"command": "f(a, no: b)"}),
    (
        "{id: t5, command: rsync -a src/ dst/, delay: 1h}",
        {"id": "t5", "command": "rsync -a src/ dst/", "delay": 3600.0},
    ),
    ('{"command": "ls", "delay": 0}', {"command": "ls", "delay": 0.0}),
    ("{id: a, priority: 3, command: ls}", {"id": "a", "priority": 3, "command": "ls"}),
    ('{command: echo "a, id: b", id: c}', {"command": 'echo "a, id: b"', "id": "c"}),
    ("{command: f(a, id: b), id: c}", {"command": "f(a, id: b)", "id": "c"}),
    ('{command: echo hi, "id": "c"}', {"command": "echo hi", "id": "c"}),
    # quotes, braces and apostrophes in bare text
    ("{command: echo it's, id: a}", {"command": "echo it's", "id": "a"}),
    ("{command: echo 'a b'}", {"command": "echo 'a b'"}),
    ('{command: echo "a  b"  c}', {"command": 'echo "a  b"  c'}),
    ('{command: "a" && b}', {"command": '"a" && b'}),
    ("{command: 'a' 'b', id: x}", {"command": "'a' 'b'", "id": "x"}),
    ("{command: awk '{print $1}' f, id: x}", {"command": "awk '{print $1}' f", "id": "x"}),
    ("{command: awk -F',' '{print $1}', id: x}", {"command": "awk -F',' '{print $1}'", "id": "x"}),
    ("{command: { echo a; echo b; }}", {"command": "{ echo a; echo b; }"}),
    ("{command: [ -f x ] && { ls; }}", {"command": "[ -f x ] && { ls; }"}),
    ("{command: sh -c 'a\nid: b', id: c}", {"command": "sh -c 'a\nid: b'", "id": "c"}),
    ("{command: echo a\ncd b: c, id: c}", {"command": "echo a\ncd b: c", "id": "c"}),
    ("{command: echo “a”, id: c}", {"command": "echo “a”", "id": "c"}),
    ("{command: '“a”', id: c}", {"command": "“a”", "id": "c"}),
    ("{command: echo {, id: a}", {"command": "echo {", "id": "a"}),
    ("{command: echo }}", {"command": "echo }"}),
    ("{command: ls | wc -l}", {"command": "ls | wc -l"}),
    ("{command: echo #x}", {"command": "echo #x"}),
    # escapes
    ("{cwd: C:\\temp}", {"cwd": "C:\\temp"}),
    ('{cwd: "C:\\qemp"}', {"cwd": "C:\\qemp"}),
    ('{command: "a\\nb\\u00e9\\ud83d\\ude00"}', {"command": "a\nbé😀"}),
    ('{command: "say \\"hi\\""}', {"command": 'say "hi"'}),
    ("{command: 'it\\'s \\n'}", {"command": "it's \\n"}),
    ("{command: 'say \"hi\"'}", {"command": 'say "hi"'}),
    ('{command: "two\nlines"}', {"command": "two\nlines"}),
    ('{"command": "two\nlines"}', {"command": "two\nlines"}),
    # env
    ("{env: {A: 1, B: two words}}", {"env": {"A": "1", "B": "two words"}}),
    ('{env: {"A": "x, y", B: a,b}, id: c}', {"env": {"A": "x, y", "B": "a,b"}, "id": "c"}),
    ("{env: {}}", {"env": {}}),
    ('{"env": {"A": "1"}}', {"env": {"A": "1"}}),
    ("{command: grün 世界 😀, id: a}", {"command": "grün 世界 😀", "id": "a"}),
]


@pytest.mark.parametrize(("text", "job"), GOOD)
def test_objects_are_read(text: str, job: dict[str, object]) -> None:
    found = parse_object(text)
    assert found == job
    assert [type(value) for value in found.values()] == [type(value) for value in job.values()]


BAD = [
    # text, part of the message, what the span covers (None: no place is known)
    ('{"id":"j","command":"echo', "line 1, column 26", "{"),
    ('{"id":"j",\n"command":"echo"', "line 2, column 17", "{"),
    ('{"id":"j" "command":"x"}', "Expecting ',' delimiter (line 1, column 11)", '"'),
    ('{"id":"j","id":"k"}', "'id' is given twice", '"id"'),
    ('{"env":{"A":"1","A":"2"}}', "'A' is given twice", '"A"'),
    ('{"timeout":3,"run_timeout":4}', "'timeout' is given twice", '"run_timeout"'),
    ("{id: a, id: b}", "'id' is given twice", "id"),
    ("{env: {A: 1, A: 2}}", "'A' is given twice", "A"),
    ('{"priority":NaN}', "NaN is not a number", None),
    ('{"priority":-Infinity}', "-Infinity is not a number", None),
    ("{priority: NaN}", "whole number, not 'NaN'", "NaN"),
    ('{"timeout":1e400}', "timeout must be more than 0", "1e400"),
    ('{"priority":' + "9" * 5000 + "}", "thousands of digits", None),
    ('{"priority":99999999999}', "priority must lie between", "99999999999"),
    ("{priority: 99999999999999999999999}", "whole number", "99999999999999999999999"),
    ('{"max_retries":true}', "max_retries must be a whole number, not true", "true"),
    ('{"max_retries":-1}', "max_retries must lie between", "-1"),
    ('{"max_retries":1.5}', "whole number, not 1.5", "1.5"),
    ('{"command":5}', "command must be text", "5"),
    ('{"command":["a"]}', "command must be text, not a list", '["a"]'),
    ('{"comand":"x"}', "unknown field 'comand' (did you mean 'command'?)", '"comand"'),
    ("{id: a, comand: x}", "unknown field 'comand' (did you mean 'command'?)", "comand"),
    ("{command: ls, priorty: 3}", "unknown field 'priorty' (did you mean 'priority'?)", "priorty"),
    ('{command: ls, "nice": 3}', "unknown field 'nice'", '"nice"'),
    ("{stall: x}", "not supported by this version", "stall"),
    ('{"stall": 5}', "field 'stall' is not supported by this version", '"stall"'),
    ("{delay: soon}", "delay: 'soon' is not a duration", "soon"),
    ('{command: "true", tags: [x, x]}', "tag 'x' is given twice", "[x, x]"),
    ("{command: x, group: gpu, timeout: 5}", "unknown field 'group'; if it belongs to", "group"),
    ("{command: curl a, https://b}", "put all of that in quotes", "https"),
    ("{command: sleep 5\npriority: 3}", "',' is missing in front of 'priority'; if it", "priority"),
    ("{id: a\n max-retries : 3}", "',' is missing in front of 'max-retries'", "max-retries"),
    ("{command: x, tags: a, b}", "missing after 'b'; several values: tags: [A, B]", "b"),
    ('{command: ["echo", "a b"]}', "command must be text, not a list", '["echo", "a b"]'),
    ("{id: a, command: [echo, a] , priority: 1}", "must be text, not a list", "[echo, a]"),
    ("{id: a, command: “echo hi”, priority: 1}", "“ and ” are not quotes here", "“echo hi”"),
    ("{command: {run: ls}}", "must be text, not a list or object; if it is", "{run: ls}"),
    ("{command: x, dir : /}", "unknown field 'dir' (did you mean 'cwd'?)", "dir"),
    *(
        (f"{{command: x, {name}: 1}}", message, name)
        for name, message in (
            *((name, "is not supported by this version; if") for name in sorted(NOT_YET)),
            *((name, f"did you mean '{meant}'?") for name, meant in MEANT.items()),
        )
    ),
    ("{run_at: 2026-01-31}", "run_at: '2026-01-31' is not a time like 18:30", "2026-01-31"),
    ("{state: pendng}", "did you mean 'pending'", "pendng"),
    ("{id: ../x}", "may hold only letters", "../x"),
    ("{id: }", "id is empty", ""),
    ("{command: }", "command is empty", ""),
    ('{"command":"a\\u0000b"}', "NUL", '"a\\u0000b"'),
    ('{"command":"\\ud800"}', "not valid UTF-8", '"\\ud800"'),
    ("{bad json}", "':' is missing after 'bad'", "bad"),
    ("{job1}", "':' is missing after 'job1'", "job1"),
    ("{: x}", "a field name is missing", ":"),
    ("{id: a,, command: b}", "a field name is missing", ","),
    ("{id: a", "its last brace is missing (line 1, column 7)", "{"),
    ('{command: "echo hi}', "lacks its last", '"'),
    ("{id: a} x", "ends before its text", " x"),
    ('{"id":"a"} x', "more text after", " x"),
    ("{", "its last brace is missing", "{"),
    ("x", "written as an object", "x"),
    ("", "written as an object", ""),
    ("[1]", "written as an object", "[1]"),
    ('{"command":"a" "b"}', "Expecting ',' delimiter", '"'),
    ('{command: "echo a}\n{command: "echo b"}', "is missing after the text", None),
    ("{env: {A: 1}", "env is not closed", "{"),
    ("{env: 5}", "env must be an object", "5"),
    ('{"id":' + "[" * 100_000, "nested too deeply", None),
]


@pytest.mark.parametrize(("text", "message", "spanned"), BAD, ids=[bad[0][:40] for bad in BAD])
def test_bad_objects_are_refused_with_their_place(
    text: str, message: str, spanned: str | None
) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_object(text)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
    if spanned is not None:
        assert text[refused.value.start : refused.value.end] == spanned


ENV = st.dictionaries(
    st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True), st.text(max_size=12), max_size=3
).filter(lambda env: all("\0" not in text and _is_utf8(text) for text in env.values()))


def _is_utf8(text: str) -> bool:
    return not any("\ud800" <= char <= "\udfff" for char in text)


COMMAND = st.one_of(
    st.text(min_size=1, max_size=40),
    st.text(st.sampled_from("ab \n'\"\\{}[](),:=#$|&;*idcomand"), min_size=1, max_size=40),
).filter(lambda text: bool(text.strip()) and "\0" not in text and _is_utf8(text))

JOBS = st.fixed_dictionaries(
    {"command": COMMAND},
    optional={
        "id": st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,20}", fullmatch=True),
        "priority": st.integers(-1000, 1000),
        "max_retries": st.integers(0, 1000),
        "timeout": st.floats(0.001, 1e6),
        "env": ENV,
        "rerun": st.booleans(),
        "cwd": COMMAND,
    },
)


def relaxed(job: dict[str, object]) -> str:
    """The job in the relaxed form: bare keys, bare values where they are plain words."""
    members = []
    for name, value in job.items():
        plain = isinstance(value, str) and value.replace("_", "a").isalnum() and value != "null"
        if isinstance(value, dict):
            inner = ", ".join(f"{key}: {json.dumps(text)}" for key, text in value.items())
            members.append(f"{name}: {{{inner}}}")
        else:
            members.append(f"{name}: {value if plain else json.dumps(value)}")
    return "{" + ", ".join(members) + "}"


@given(JOBS)
def test_any_job_survives_json_and_the_relaxed_form(job: dict[str, object]) -> None:
    assert parse_object(json.dumps(job)) == job
    assert parse_object(json.dumps(job, indent=2, ensure_ascii=False)) == job
    assert parse_object(relaxed(job)) == job


@given(JOBS)
def test_any_job_survives_a_line_of_the_shell(job: dict[str, object]) -> None:
    for text in (json.dumps(job), relaxed(job)):
        for written in (text, quote(text), shlex.quote(text)):
            token = tokenize(f"enqueue {written} --quiet")[1]
            assert not token.open
            assert parse_object(token.text) == job


@given(JOBS)
def test_any_quoted_job_survives_being_an_argument(job: dict[str, object]) -> None:
    for text in (json.dumps(job), relaxed(job)):
        assert join_pieces([text, "--quiet"]) == (text, 1)


@given(st.text(st.sampled_from("ab \n'\"\\{}[](),:=idcomand"), max_size=40))
def test_no_text_is_read_with_another_error(text: str) -> None:
    for tried in (text, "{" + text + "}", "{id: a, command: " + text + "}"):
        start = end = 0
        try:
            parse_object(tried)
        except InvalidInput as refused:
            start, end = refused.start or 0, refused.end or 0
        assert 0 <= start <= max(end, start) <= len(tried)


ARRIVALS = [
    # what arrives in argv, by shells.md 5.4, and the job that was meant
    ("quoted", ['{"id":"job1","command":"echo hi"}'], {"id": "job1", "command": "echo hi"}),
    ("bash, bare", ["id:job1", "command:echo hi"], {"id": "job1", "command": "echo hi"}),
    ("fish, bare", ["id: job1", "command: echo 'a b'"], {"id": "job1", "command": "echo 'a b'"}),
    ("fish, spaced", ["id: job1", " command: ls "], {"id": "job1", "command": "ls"}),
    ("dash, bare", ["{id:job1,command:echo hi}"], {"id": "job1", "command": "echo hi"}),
    ("cmd", ["'{id:job1,command:echo hi}'"], {"id": "job1", "command": "echo hi"}),
    ("cmd, cut", ["'{id:", "job1,", "command:", "ls}'"], {"id": "job1", "command": "ls"}),
    ("powershell", ["{id:job1,command:echo", "hi}"], {"id": "job1", "command": "echo hi"}),
    (
        "bash, relaxed",
        ["{id:", "job1,", "command:", "echo 'a b'}"],
        {"id": "job1", "command": "echo 'a b'"},
    ),
    (
        "dashes inside",
        ["{id:", "job1,", "command:", "git", "checkout", "--", "-h}"],
        {"id": "job1", "command": "git checkout -- -h"},
    ),
    (
        "a brace inside",
        ["{id:", "job1,", "command:", "awk", "{print $1}", "f}"],
        {"id": "job1", "command": "awk {print $1} f"},
    ),
    (
        "bash, env",
        ["id:job1", "env:A:1", "env:B:2", "command:ls"],
        {"id": "job1", "command": "ls", "env": {"A": "1", "B": "2"}},
    ),
    ("bash, one member", ["{command:ls}"], {"command": "ls"}),
    ("spaces around", ["{", "command:", "ls", "}"], {"command": "ls"}),
    ("a brace in a quoted one", ['{"command":"echo {"}'], {"command": "echo {"}),
    ("another brace", ['{"command":"echo }"}'], {"command": "echo }"}),
]


@pytest.mark.parametrize(("shell", "pieces", "job"), ARRIVALS, ids=[a[0] for a in ARRIVALS])
def test_an_object_that_a_shell_took_apart_is_put_together(
    shell: str, pieces: list[str], job: dict[str, object]
) -> None:
    for rest in ([], ["--priority", "3"]):
        text, count = join_pieces([*pieces, *rest])
        assert count == len(pieces)
        assert parse_object(text) == job


@pytest.mark.parametrize("pieces", [["echo", "hi"], ["-"], ["file.json"], ["http://x"], []])
def test_other_arguments_are_not_an_object(pieces: list[str]) -> None:
    assert join_pieces(pieces) == ("", 0)


TYPED = [
    """'{"id":"job1","command":"echo hi"}'""",
    """'{id: job1, command: "echo hi"}'""",
    """'{id: job1, command: echo hi}'""",
    """"{\\"id\\":\\"job1\\",\\"command\\":\\"echo hi\\"}\"""",
    """"{id: job1, command: echo hi}\"""",
    """{"id":"job1","command":"echo hi"}""",
    """{id: job1, command: "echo hi"}""",
    """{id: job1, command: echo hi}""",
    """{id:job1,command:"echo hi"}""",
    """{ id: job1, command: echo hi }""",
]


@pytest.mark.parametrize("typed", TYPED)
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "dash"])
def test_real_shells_hand_over_the_job(shell: str, typed: str, tmp_path: Path) -> None:
    found = shutil.which(shell)
    if found is None:
        pytest.skip(f"{shell} is not installed")
    if shell == "zsh" and typed.startswith(("{id: job1", "{ id: job1")):
        pytest.skip("zsh itself refuses a bare } there")
    show = tmp_path / "show.py"
    show.write_text("import json, sys\nprint(json.dumps(sys.argv[1:]))\n")
    line = f"{quote(sys.executable)} {quote(str(show))} {typed}"
    ran = subprocess.run([found, "-c", line], capture_output=True, text=True, check=True)
    text, _ = join_pieces(json.loads(ran.stdout))
    assert parse_object(text) == {"id": "job1", "command": "echo hi"}


def read_all(text):
    data = text.encode() if isinstance(text, str) else text
    return list(json_lines(io.BytesIO(data), "f"))


def test_a_file_holds_one_object_a_line() -> None:
    text = '\ufeff{"id":"a","command":"x"}\r\n\n{id: b, command: y, z}\n'
    assert read_all(text) == [
        (1, {"id": "a", "command": "x"}),
        (3, {"id": "b", "command": "y, z"}),
    ]


def test_a_file_holds_one_array_or_objects_over_lines() -> None:
    a, b = {"id": "a", "command": "x"}, {"id": "b", "command": "y"}
    assert read_all(json.dumps([a, b])) == [(1, a), (1, b)]
    assert read_all(json.dumps([a, b], indent=1)) == [(2, a), (6, b)]
    assert read_all(json.dumps(a, indent=1) + "\n" + json.dumps(b)) == [(1, a), (5, b)]
    assert read_all("{\n id: a,\n command: x\n}\n{id: b,\n command: y}") == [(1, a), (5, b)]
    assert read_all(b"\n") == []
    assert read_all("[]") == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"id":"a"}\n{"id":"b"\n{"id":"c"}\n', "f:2: "),
        ('{"id":"a"}\n{"id":"b","id":"c"}', "f:2: 'id' is given twice"),
        ('{"id":"a"}\n\n{"comand":"b"}', "f:3: unknown field 'comand'"),
        ('{"id":"a"}\n{"max_retries":true}\n', "f:2: max_retries must be"),
        ('{"id":"a"}\nls -l\n', "f:2: a job is written as an object {...}; to enqueue a file"),
        ('{"id":"a"}\n[{"id":"b"}]', "f:2: a job is written as an object"),
        ('[{"id":"a"},\n5]', "f:2: a job is written as an object"),
        ('[{"id":"a"}\n{"id":"b"}]', "f:2: ',' or ']' is missing"),
        ('\n[{"id":"a"},', "f:2: the array that begins here is not closed"),
        ('[{"id":"a"}] x', "f:1: there is more text"),
        ('{"id":"a"}\n{"id":"b","command":"x}\n{"id":"c","command":"y"}', "f:2: "),
        ('{"id":"a"}\n{id: b, command: "x}\n{id: c, command: "y"}', "f:2: "),
        (b'{"id":"a"}\n{"id":"\xff"}', "f:2: not valid UTF-8 at byte 8"),
        ("\0", "f:1: "),
    ],
)
def test_the_bad_line_of_a_file_is_named(text: str | bytes, message: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        read_all(text)
    assert str(refused.value).startswith(message)
