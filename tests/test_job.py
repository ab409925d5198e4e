"""The job's JSON form, new jobs, and jobs that a person wrote into a file."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import make_job, moment

from queuectl.errors import InvalidInput
from queuectl.model.fields import STATES
from queuectl.model.job import Job, job_from_person, new_job
from queuectl.store.files.checkpoint import Layout
from queuectl.store.files.job_files import (
    _whole,
    decode_job,
    encode_job,
    find_line,
    is_sound,
    line_front,
    line_id,
    line_state,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
COUNT = st.integers(0, 10**6)
MOMENT = st.floats(0, 10**9).map(moment)
IDS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,20}", fullmatch=True)
WORDS = st.from_regex(r"[A-Za-z0-9]{1,32}", fullmatch=True)
KEYS = TEXT.filter(str.strip).map(lambda text: text[:200]).filter(str.strip)
SIMPLE = st.none() | st.booleans() | st.integers() | TEXT
ENDS = st.sets(st.integers(1, 255) | st.sampled_from(["timeout", "signal"]), min_size=1).map(
    lambda ends: sorted(ends, key=lambda end: (isinstance(end, str), end))
)
JOBS = st.builds(
    Job,
    id=IDS,
    state=st.sampled_from(STATES),
    priority=st.integers(-(10**6), 10**6),
    run_at=MOMENT,
    command=TEXT.filter(str.strip),
    max_retries=COUNT,
    created_at=MOMENT,
    updated_at=MOMENT,
    attempts=COUNT,
    run=COUNT,
    losses=COUNT,
    rev=COUNT,
    started_at=st.none() | MOMENT,
    finished_at=st.none() | MOMENT,
    timeout=st.none() | st.floats(0.001, 1e9),
    cwd=st.none() | TEXT.filter(str.strip),
    env=st.none() | st.dictionaries(TEXT.filter(lambda name: "=" not in name), TEXT, max_size=3),
    env_file=st.none() | TEXT.filter(str.strip),
    tags=st.lists(WORDS, max_size=3, unique=True).map(tuple),
    after=st.lists(IDS, max_size=2, unique=True).map(tuple),
    after_end=st.lists(IDS, max_size=2, unique=True).map(tuple),
    lock=st.lists(WORDS, max_size=2, unique=True).map(tuple),
    slots=st.sampled_from([(), ("gpu#0",), ("a.b#12", "lock/db")]),
    unique=st.none() | KEYS,
    every=st.none() | st.floats(1, 1e9),
    cron=st.none() | st.sampled_from(["@daily", "0,30 3 * * mon-fri"]),
    tz=st.none() | st.sampled_from(["UTC", "Europe/Berlin"]),
    catch_up=st.booleans(),
    overlap=st.booleans(),
    planned=st.none() | MOMENT,
    last=st.none() | IDS,
    rerun=st.booleans(),
    notify=st.booleans(),
    exit_code=st.none() | st.integers(-255, 255),
    error=st.none() | TEXT.filter(str.strip),
    worker=st.none() | IDS,
    cancel_requested=st.booleans(),
    retry_delay=st.none() | st.floats(0.001, 1e9),
    base=st.none() | st.floats(0, 1e6),
    max_delay=st.none() | st.floats(0.001, 1e9),
    jitter=st.none() | st.floats(0, 1),
    retry_on=st.none() | ENDS,
    no_retry_on=st.none() | ENDS,
    log_limit=st.none() | st.integers(0, 10**15),
    deferrals=COUNT,
    log_word=st.none() | WORDS,
    env_set=st.none() | WORDS,
    history=st.lists(st.dictionaries(TEXT, SIMPLE, max_size=3), max_size=3).map(tuple),
    extra=st.none() | st.dictionaries(TEXT.map("x-".__add__), SIMPLE, min_size=1, max_size=3),
)


_DEFAULTS = Job._field_defaults
PARENTS = {"after", "after_end"}


@given(JOBS)
def test_a_job_survives_its_json_form(job):
    line = encode_job(job)
    assert b"\n" not in line
    assert decode_job(line) == job
    values = {name: value for name, value in job._asdict().items() if name != "extra"}
    behind = list(values)[: list(values).index("run_at") + 1]
    behind += ["after", "after_end", "tags", "lock", "slots", "unique", "every", "cron"]
    values = {name: values[name] for name in dict.fromkeys((*behind, *values))}
    told = {name: value for name, value in values.items() if value != _DEFAULTS.get(name, ...)}
    # A tab stands before the parents of a job, and nowhere else.
    tabs = 0 if PARENTS.isdisjoint(told) else 1
    assert line.count(b"\t") == line.count(b', \t"after') == tabs
    plain = line.replace(b"\t", b"").decode()
    assert plain == json.dumps({**told, **(job.extra or {})}, ensure_ascii=False)
    assert is_sound(line)
    assert job.extra or job.history or _whole().fullmatch(line)  # it need not be parsed for a fold


@given(JOBS)
def test_the_front_of_a_line_tells_what_a_claim_needs(job):
    line = encode_job(job)
    assert line_id(line).decode() == job.id
    assert (line_state(line) or b"").decode() == job.state
    front = (job.id, job.state, str(job.priority), job.run_at)
    assert (line_front(line) or ())[:4] == tuple(part.encode() for part in front)


@given(JOBS.filter(lambda job: job.worker or job.state != "in_progress"))
def test_a_line_of_ours_is_taken_back_unchanged(job):
    form = json.loads(encode_job(job))
    assert job_from_person(form, now=moment(99), state="pending") == job


def test_a_line_is_found_wherever_the_pieces_of_the_file_end(tmp_path):
    lines = [encode_job(make_job(f"j{n}", command="x" * (300_000 + n))) for n in range(9)]
    path = tmp_path / "jobs.json"
    path.write_bytes(b"".join(Layout(iter(lines))))
    with open(path, "rb") as file:
        assert [find_line(file.fileno(), f"j{n}") for n in range(10)] == [*lines, None]
    for size in range((1 << 20) - 40, (1 << 20) + 5):
        front = b"[\n" + b" " * (size - 3) + b"\n"
        path.write_bytes(front + lines[0] + b",\n" + lines[1] + b"\n]\n")
        with open(path, "rb") as file:
            assert find_line(file.fileno(), "j0") == lines[0]
            assert find_line(file.fileno(), "j") is None


def test_defaults_are_left_out():
    assert list(json.loads(encode_job(make_job()))) == [
        *("id", "state", "priority", "run_at", "command", "max_retries"),
        *("created_at", "updated_at"),
    ]


def test_a_key_named_extra_is_kept_like_any_other():
    form = {**json.loads(encode_job(make_job())), "extra": 1, "stall": ["a"]}
    job = Job.from_dict(dict(form))
    assert job.extra == {"extra": 1, "stall": ["a"]}
    assert json.loads(encode_job(job)) == form


@pytest.mark.parametrize("kept", ["gpu", None, 7, [1, "a"], {"a": 1}])
def test_tags_that_an_older_version_took_from_a_person_are_kept_without_effect(kept):
    form = {**json.loads(encode_job(make_job())), "tags": kept}
    job = Job.from_dict(dict(form))
    assert (job.tags, job.extra) == ((), {"tags": kept})
    assert json.loads(encode_job(job)) == form
    assert is_sound(encode_job(job))
    assert job_from_person(form, now=moment(), state="pending", ours=True) == job
    assert json.loads(encode_job(job._replace(tags=("a",)))) == {**form, "tags": ["a"]}


# -- new jobs

NOW = {"run_at": moment(4), "created_at": moment(4), "updated_at": moment(4)}
DEFAULTS = make_job("", command="", max_retries=7, timeout=60.0, **NOW)


def new(**draft):
    return new_job(draft, job_id="made1", defaults=DEFAULTS)


def test_a_command_suffices():
    job = new(command="true")
    assert job == make_job("made1", max_retries=7, timeout=60.0, **NOW)


def test_given_values_are_taken():
    job = new(
        **{"id": "mine", "command": "x", "priority": "2", "max_retries": 0, "timeout": None},
        **{"run_at": moment(9), "cwd": "/x", "env": {"A": "b"}, "rerun": False},
        **{"state": "Pending"},
    )
    assert (job.id, job.priority, job.max_retries, job.timeout) == ("mine", 2, 0, None)
    assert (job.run_at, job.cwd, job.env, job.rerun) == (moment(9), "/x", {"A": "b"}, False)


@pytest.mark.parametrize(
    ("draft", "complaint"),
    [
        ({}, "a job needs a command"),
        ({"id": "a"}, "a job needs a command"),
        ({"command": "x", "state": "dead"}, "can only be pending, not dead"),
        ({"command": "x", "attempts": 0}, "field 'attempts' cannot be set"),
        ({"command": "x", "created_at": moment()}, "field 'created_at' cannot be set"),
        ({"command": "x", "history": []}, "field 'history' cannot be set"),
        ({"command": "x", "stdin": "y"}, "field 'stdin' is not supported"),
        ({"command": "x", "prio": 1}, "did you mean 'priority'"),
        ({"command": "x", "timeout": 1, "run_timeout": 2}, "field 'timeout' is given twice"),
        ({"command": "x", "max_retries": True}, "must be a whole number, not true"),
        ({"command": "x", "id": "../x"}, "id '../x' may hold only"),
    ],
)
def test_a_draft_with_a_mistake_is_refused(draft, complaint):
    with pytest.raises(InvalidInput, match=complaint):
        new(**draft)


# -- jobs that a person wrote


def written(form, state="pending"):
    return job_from_person(form, now=moment(3), state=state)


def test_id_and_command_suffice_in_a_file():
    assert written({"id": "a", "command": "x"}) == make_job(
        "a",
        **{"command": "x", "run_at": moment(3), "created_at": moment(3), "updated_at": moment(3)},
    )
    assert written({"id": "a", "command": "x"}, "dead").state == "dead"


def test_values_are_read_as_people_write_them():
    job = written({"id": "a", "command": "x", "state": "Completed", "timeout": "5m", "note": [1]})
    assert (job.state, job.timeout, job.extra) == ("completed", 300.0, {"note": [1]})


def test_old_spellings_take_effect_in_a_file():
    job = written({"id": "a", "command": "x", "run_timeout": 5, "available_at": moment(70)})
    assert (job.timeout, job.run_at, job.extra) == (5.0, moment(70), None)


def test_a_value_that_may_be_missing_may_be_null():
    names = ["started_at", "finished_at", "timeout", "cwd", "env", "exit_code", "error", "worker"]
    assert written({"id": "a", "command": "x", **dict.fromkeys(names)}).worker is None


def test_a_job_in_progress_that_names_no_worker_gets_one_that_is_lost():
    # Else nobody would ever finish it, nor take it back.
    for form in ({}, {"worker": None}):
        job = written({"id": "a", "command": "x", "state": "processing", **form})
        assert (job.state, job.worker) == ("in_progress", "unknown")


@pytest.mark.parametrize(
    ("form", "complaint"),
    [
        ([], "a job must be an object"),
        ("a", "a job must be an object"),
        (None, "a job must be an object"),
        ({}, "a job has no id"),
        ({"id": "a"}, "a job has no command"),
        ({"command": "x"}, "a job has no id"),
        ({"id": "a b", "command": "x"}, "may hold only"),
        ({"id": "a", "command": ""}, "command is empty"),
        ({"id": "a", "command": "x", "state": "gone"}, "unknown state 'gone'"),
        ({"id": "a", "command": "x", "rev": -1}, "rev must lie between"),
        ({"id": "a", "command": "x", "attempts": None}, "attempts must be a whole number"),
        ({"id": "a", "command": "x", "history": {}}, "history must be a list of objects"),
        ({"id": "a", "command": "x", "history": [1]}, "history must be a list of objects"),
        ({"id": "a", "command": "x", "run_at": "now"}, "run_at: 'now' is not a time"),
        ({"id": "a", "command": "x", "created_at": None}, "created_at must be a time"),
        ({"id": "a", "command": "x", "cancel_requested": 1}, "must be true or false"),
        ({"id": "a", "command": "x", "tags": ["x", "x"]}, "tag 'x' is given twice"),
    ],
)
def test_mistakes_in_a_file_are_refused(form, complaint):
    with pytest.raises(InvalidInput, match=complaint):
        written(form)
