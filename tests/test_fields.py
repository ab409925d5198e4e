"""What the fields of a job accept, and how they refuse the rest."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from queuectl.errors import InvalidInput
from queuectl.model.field_checks import LONGEST_TAG
from queuectl.model.fields import (
    FIELDS,
    LONGEST_COMMAND,
    LONGEST_ID,
    NOT_YET,
    STATES,
    check_id,
    check_state,
    check_value,
    find_field,
    from_text,
)
from queuectl.model.ids import ID
from queuectl.model.job import Job
from queuectl.store.facts import STATE_ORDER


def test_states_are_named_alike_where_no_field_is_loaded():
    assert STATE_ORDER == STATES


def check(name, value):
    return check_value(find_field(name), value)


@pytest.mark.parametrize(
    ("spelled", "name"), [("run_timeout", "timeout"), ("available_at", "run_at"), ("id", "id")]
)
def test_fields_are_found_in_old_spellings_too(spelled, name):
    assert find_field(spelled).name == name


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("comand", "unknown field 'comand' (did you mean 'command'?)"),
        ("Priority", "unknown field 'Priority' (did you mean 'priority'?)"),
        ("xyzzy", "unknown field 'xyzzy'"),
        ("", "unknown field ''"),
        ("output", "field 'output' cannot be set (queuectl logs ID shows the output)"),
        *((name, f"field '{name}' is not supported by this version") for name in sorted(NOT_YET)),
    ],
)
def test_unknown_fields_are_refused(name, complaint):
    with pytest.raises(InvalidInput) as caught:
        find_field(name)
    assert str(caught.value) == complaint


def test_the_table_names_every_field_of_a_job():
    assert {field.name for field in FIELDS} == set(Job._fields) - {"extra"}
    assert all(field.meaning for field in FIELDS)


GOOD = [
    ("id", "a", "a"),
    ("id", "0.-_:Z", "0.-_:Z"),
    ("id", "x" * LONGEST_ID, "x" * LONGEST_ID),
    ("command", "echo 'ä ✓'\n", "echo 'ä ✓'\n"),
    ("priority", "-3", -3),
    ("priority", " +7 ", 7),
    ("priority", 0, 0),
    ("max_retries", "0", 0),
    ("max_retries", 1_000_000, 1_000_000),
    ("timeout", 5, 5.0),
    ("timeout", 0.25, 0.25),
    ("timeout", "5m", 300.0),
    ("timeout", None, None),
    ("run_at", "2026-01-31T09:30:00+01:00", "2026-01-31T08:30:00.000000Z"),
    ("cwd", "/tmp", "/tmp"),
    ("cwd", None, None),
    ("env", {"A": "", "b c": "x=y"}, {"A": "", "b c": "x=y"}),
    ("env", {}, {}),
    ("env", None, None),
    ("rerun", "no", False),
    ("rerun", "TRUE", True),
    ("rerun", False, False),
    ("state", "pending", "pending"),
    ("tags", ["a", "0.-_:Z"], ("a", "0.-_:Z")),
    ("tags", "a", ("a",)),
    ("tags", '[a, "b"]', ("a", "b")),
    ("tags", " a b,c ", ("a", "b", "c")),
    ("tags", ["x" * LONGEST_TAG], ("x" * LONGEST_TAG,)),
    ("tags", [], ()),
    ("tags", "", ()),
    ("tags", None, ()),
]


@pytest.mark.parametrize(("name", "value", "kept"), GOOD)
def test_good_values_are_kept_in_one_form(name, value, kept):
    got = check(name, value)
    assert got == kept
    assert type(got) is type(kept)


BAD = [
    ("id", "", "id is empty"),
    ("id", "x" * 1000, "id has 1000 characters; at most 128"),
    ("id", 5, "id must be text, not 5"),
    ("id", None, "id must be text, not null"),
    ("id", True, "id must be text, not true"),
    *(
        ("id", bad, "may hold only letters, digits")
        for bad in [".", "..", "-a", "_a", ":a", "a b", "a/b", "a\nb", "a\0", "ä", "１", "a\x1b[1m"]
    ),
    ("command", "", "command is empty"),
    ("command", " \n\t", "command is empty"),
    ("command", 5, "command must be text, not 5"),
    ("command", None, "command must be text, not null"),
    ("command", ["a"], "command must be text, not a list"),
    ("command", {"a": 1}, "command must be text, not an object"),
    ("command", "a\0b", "holds a NUL byte"),
    ("command", "a\ud800", "is not valid UTF-8 .at character 2"),
    ("command", "x" * (LONGEST_COMMAND + 1), "is longer than"),
    *(
        ("priority", bad, "priority must be a whole number")
        for bad in ["", "x", "1.5", 1.5, True, None, [], "1e3", "-+5", "--5", "0x5", "٣", "²"]
    ),
    *(
        ("priority", bad, "priority must be a whole number")
        for bad in ["9" * 30, float("nan"), float("inf")]
    ),
    ("priority", 10**7, "priority must lie between"),
    ("priority", -(10**7), "priority must lie between"),
    *(
        ("max_retries", bad, "max_retries must be a whole number")
        for bad in [True, False, None, "", "many", 2.0, {}]
    ),
    ("max_retries", -1, "max_retries must lie between 0 and 1000000, not -1"),
    ("max_retries", "-1", "max_retries must lie between"),
    ("max_retries", 10**100, "max_retries must lie between"),
    *(
        ("timeout", bad, "timeout must be more than 0")
        for bad in [0, -1, 1e300, float("inf"), float("-inf"), float("nan"), 10**400, "0"]
    ),
    ("timeout", True, "timeout must be a number of seconds, not true"),
    ("timeout", [], "timeout must be a number of seconds, not a list"),
    ("timeout", "soon", "timeout: 'soon' is not a duration"),
    ("timeout", "", "timeout: '' is not a duration"),
    ("run_at", "2026-01-31T08:30:00", "run_at: the time .* names no zone"),
    ("run_at", "tomorrow", "run_at: 'tomorrow' is not a time like"),
    ("run_at", 1_750_000_000, "run_at must be a time as text"),
    ("run_at", None, "run_at must be a time as text, not null"),
    ("cwd", "", "cwd is empty"),
    ("cwd", "a\0", "cwd holds a NUL byte"),
    ("cwd", 7, "cwd must be text, not 7"),
    ("env", [], "env must be an object of text values, not a list"),
    ("env", "A=b", "env must be an object of text values"),
    ("env", {"A": 1}, "env: 'A' must be a name with a value that is text"),
    ("env", {"A": None}, "env: 'A' must be a name"),
    ("env", {"": "x"}, "env: '' must be a name"),
    ("env", {"A=B": "x"}, "env: 'A=B' must be a name"),
    ("env", {"A": "x\0"}, "env A holds a NUL byte"),
    ("env", {"A\0": "x"}, "holds a NUL byte"),
    ("env", {"A": "\udcff"}, "is not valid UTF-8"),
    ("rerun", 1, "rerun must be true or false, not 1"),
    ("rerun", None, "rerun must be true or false, not null"),
    ("rerun", "maybe", "rerun must be true or false, not 'maybe'"),
    ("state", "done", "unknown state 'done'"),
    ("state", "pendng", "did you mean 'pending'"),
    ("state", 1, "state must be text, not 1"),
    ("state", None, "state must be text, not null"),
    ("tags", ["a", "a"], "tag 'a' is given twice"),
    ("tags", ["a", 1], "tags must be a list of words, not a list"),
    ("tags", {"a": 1}, "tags must be a list of words, not an object"),
    ("tags", True, "tags must be a list of words, not true"),
    ("tags", [""], "a tag is empty"),
    *(("tags", [bad], "may hold only letters") for bad in ("a b", "a,b", "ä", "a\n", "[a]", "a=b")),
    ("tags", ["x" * 65], "a tag has 65 characters; at most 64"),
    ("tags", list("abcdefghijklmnopq"), "a job has at most 16 tags, not 17"),
]


@pytest.mark.parametrize(("name", "value", "complaint"), BAD)
def test_bad_values_are_refused_in_one_clear_line(name, value, complaint):
    with pytest.raises(InvalidInput, match=complaint) as caught:
        check(name, value)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.parametrize("name", [field.name for field in FIELDS])
@settings(max_examples=15)
@given(value=ANYTHING)
def test_every_value_is_kept_or_refused(name, value):
    try:
        kept = check(name, value)
    except InvalidInput:
        return
    assert check(name, kept) == kept


@given(st.text())
def test_an_id_is_kept_as_it_is_or_refused(text):
    try:
        assert check_id(text) == text
    except InvalidInput:
        assert not re.fullmatch(ID, text)
        return
    assert re.fullmatch(ID, text)
    assert text[0].isalnum()
    assert "/" not in text


@pytest.mark.parametrize(
    ("spelled", "state"),
    [
        *((state, state) for state in STATES),
        ("processing", "in_progress"),
        ("running", "in_progress"),
        ("In-Progress", "in_progress"),
        (" DEAD ", "dead"),
    ],
)
def test_states_are_read_in_every_spelling(spelled, state):
    assert check_state(spelled) == state


@pytest.mark.parametrize(
    ("name", "text", "kept"),
    [
        ("command", "5", "5"),
        ("command", "null", "null"),
        ("priority", "5", 5),
        ("id", "5", "5"),
        ("timeout", "none", None),
        ("timeout", "null", None),
        ("timeout", "90", 90.0),
        ("rerun", "false", False),
    ],
)
def test_a_bare_word_is_typed_by_its_field(name, text, kept):
    assert from_text(find_field(name), text) == kept
