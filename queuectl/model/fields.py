"""The fields of a job: the name, meaning, values and setter of each.

Everything that handles a job written by a person reads this table: `enqueue`, `update`, the
relaxed object form, files edited by hand, completion and the reference.
"""

import re
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple, get_args

from queuectl.errors import InvalidInput, as_given, did_you_mean
from queuectl.model.ids import LONGEST_ID
from queuectl.model.times import LONGEST, format_time, parse_duration, parse_time

State = Literal["pending", "in_progress", "completed", "failed", "dead", "cancelled"]
STATES: tuple[State, ...] = get_args(State)
OLD_STATES: dict[str, State] = {"processing": "in_progress", "running": "in_progress"}

MOST_RETRIES = 1_000_000
MOST_COUNTED = 10**15  # of what queuectl counts itself: a schedule changes each second, for ever
PRIORITY_SPAN = 1_000_000
LONGEST_KEY = 200  # characters
LONGEST_COMMAND = 1_000_000  # characters, also of a job that is there already
LONGEST_JOB = 4_000_000  # bytes of a job as it is written, and as its line in a file
LONGEST_WORD = 131_071  # bytes that Linux takes in one word (execve(2): MAX_ARG_STRLEN less a NUL)
_ID_FIRST = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
_ID_REST = _ID_FIRST | frozenset("._:-")


class Field(NamedTuple):
    """One field of a job as people may write it.

    `kind`: how its value is checked, a key of _CHECKS or of RARE_CHECKS. `enqueue`: may be set when
    the job is made. `edit`: when it may be changed later: "idle" (not while the job runs),
    "always", or None (queuectl alone sets it).
    """

    name: str
    kind: str
    meaning: str
    old: tuple[str, ...] = ()
    enqueue: bool = False
    edit: Literal["idle", "always"] | None = None


FIELDS: tuple[Field, ...] = (
    Field("id", "id", "name of the job; made up if left out", enqueue=True),
    Field("command", "text", "what /bin/sh -c runs", enqueue=True, edit="idle"),
    Field("priority", "int", "lower runs first; 0 if left out", enqueue=True, edit="always"),
    Field("max_retries", "count", "runs after the first", enqueue=True, edit="always"),
    Field("run_at", "time", "not before this time", ("available_at",), enqueue=True, edit="idle"),
    Field(
        "timeout", "duration", "seconds a run may take", ("run_timeout",), enqueue=True, edit="idle"
    ),
    Field("cwd", "text", "folder the command runs in", enqueue=True, edit="idle"),
    Field("env", "env", "environment variables added", enqueue=True, edit="idle"),
    Field("env_file", "text", "file of NAME=VALUE, read at each run", enqueue=True, edit="idle"),
    Field("tags", "tags", "words to select it by", enqueue=True, edit="always"),
    Field("after", "ids", "jobs that must be completed first", enqueue=True, edit="idle"),
    Field("after_end", "ids", "jobs that must have ended first", enqueue=True, edit="idle"),
    Field("lock", "tags", "names that no two running jobs hold", enqueue=True, edit="idle"),
    Field("slots", "tags", "what it holds while it runs: numbers of limited tags, locks"),
    Field("unique", "key", "no two live jobs have the same one", enqueue=True),
    Field("rerun", "flag", "run again if its worker was lost", enqueue=True, edit="idle"),
    Field("notify", "flag", "run hooks at its end", enqueue=True, edit="always"),
    Field("retry_delay", "delay", "seconds before its first retry", enqueue=True, edit="always"),
    Field("base", "number", "what each wait is multiplied by", enqueue=True, edit="always"),
    Field("max_delay", "duration", "its longest wait before a retry", enqueue=True, edit="always"),
    Field("jitter", "share", "part of a wait left to chance", enqueue=True, edit="always"),
    Field("retry_on", "outcomes", "the only ends that are retried", enqueue=True, edit="always"),
    Field("no_retry_on", "outcomes", "ends that are not retried", enqueue=True, edit="always"),
    Field("every", "period", "run a copy of it at this interval", enqueue=True, edit="idle"),
    Field("cron", "cron", "run a copy when the clock fits these five", enqueue=True, edit="idle"),
    Field("tz", "text", "time zone that cron goes by", enqueue=True, edit="idle"),
    Field("catch_up", "flag", "run what was missed, once", enqueue=True, edit="idle"),
    Field("overlap", "flag", "run even if the copy before still lives", enqueue=True, edit="idle"),
    Field(
        "log_limit", "size", "bytes kept of a run's output, 0 for all", enqueue=True, edit="idle"
    ),
    Field("state", "state", "where the job is in its life", enqueue=True, edit="always"),
    Field("attempts", "count", "completions and failures that spent a retry"),
    Field("run", "count", "starts, counted for ever"),
    Field("losses", "count", "workers lost while they ran it"),
    Field("rev", "count", "grows by one with each change"),
    Field("created_at", "time", "when it was enqueued"),
    Field("updated_at", "time", "when it last changed"),
    Field("started_at", "time", "when its latest run started"),
    Field("finished_at", "time", "when its latest run ended"),
    Field("exit_code", "int", "exit code of the latest run"),
    Field("error", "text", "why the latest run failed"),
    Field("worker", "id", "the worker that runs it, or ran it last"),
    Field("cancel_requested", "flag", "its worker was asked to end it"),
    Field("log_word", "word", "a random word in the names of its logs"),
    Field("env_set", "word", "the captured variables it gets, in env_sets.json"),
    Field("deferrals", "count", "runs in a row that asked for a later one (exit code 75)"),
    Field("planned", "time", "when the schedule that it is a copy of was due"),
    Field("last", "id", "the latest copy that the schedule has run"),
    Field("history", "text", "earlier runs and what ended them"),
)
# What a job says about its retries and logs. Few jobs say anything: it is kept as one mapping.
POLICY = (
    *("retry_delay", "base", "max_delay", "jitter", "retry_on", "no_retry_on"),
    *("log_limit", "deferrals"),
)
# What makes a job a schedule: it never runs itself; a copy of it runs whenever it is due.
RECURS = ("every", "cron")
# What a schedule or a copy of one keeps besides.
SCHEDULE = ("tz", "catch_up", "overlap", "planned", "last")
# Fields that few jobs set.
RARE = (*POLICY, *SCHEDULE, "notify")
# Fields added after the first version of format 2, which kept whatever people wrote there.
LATER_FIELDS = frozenset(
    ("tags", "after", "after_end", "lock", "slots", "env_file", "unique", *RECURS, *RARE)
)
# Fields that may be null, which means: not set.
UNSETTABLE = frozenset(("timeout", "cwd", "env", "env_file", "unique", *POLICY, *RECURS, "tz"))
SCHEDULED = frozenset((*RECURS, "tz", "catch_up", "overlap"))  # those that people set
LONGEST_SCHEDULE_ID = 100  # characters; a copy's id is longer
# What a person may write instead of run_at; the job holds the resulting moment.
DELAY = Field("delay", "delay", "not before this time has passed", enqueue=True, edit="idle")
# Names reserved for a later version: refused, never ignored. In a file edited by hand they are
# kept like any unknown key, and doctor names them.
NOT_YET = frozenset(("stall", "stdin", "cpu", "max_rss"))
# Names that other tools use for a field, where no similarity leads to ours.
MEANT = {
    **dict.fromkeys(("cmd", "script", "shell", "run_command"), "command"),
    **dict.fromkeys(("dir", "directory", "folder", "path", "workdir", "working_dir"), "cwd"),
    **dict.fromkeys(("key", "job_id", "label", "name", "title"), "id"),
    **dict.fromkeys(("attempts_max", "retries", "retry", "tries"), "max_retries"),
    **dict.fromkeys(("at", "eta", "not_before", "start_at", "when"), "run_at"),
    **dict.fromkeys(("countdown", "wait"), "delay"),
    "labels": "tags",
    **dict.fromkeys(("environ", "environment", "variables"), "env"),
}
BY_SPELLING = {spelled: field for field in FIELDS for spelled in (field.name, *field.old)}
FIELD_NAMES = frozenset((*BY_SPELLING, DELAY.name))
TOO_LONG = f"a job takes at most {LONGEST_JOB:,} bytes, and this one takes more"


def is_too_long(text: str, at: int) -> bool:
    """Whether the JSON value at the offset is longer than a job may be, without parsing it."""
    depth, quoted = 0, False
    for found in re.compile(r'\\.|["{}\[\]]', re.S).finditer(text, at, at + LONGEST_JOB):
        token = found[0]
        quoted ^= token == '"'
        if not quoted:
            depth += 1 if token in "{[" else -1 if token in "}]" else 0
            if depth <= 0:
                return False
    return len(text) > at + LONGEST_JOB


def find_field(name: str) -> Field:
    """The field spelled `name`, in its present or an old spelling; else InvalidInput."""
    found = BY_SPELLING.get(name)
    if found is None:
        raise unknown_field(name)
    return found


def named_field(name: str) -> Field:
    """The field of a name in an object, `delay` among them; `max-retries` is `max_retries`."""
    usual = name.replace("-", "_")
    if usual == DELAY.name:
        return DELAY
    return find_field(usual if usual in BY_SPELLING or usual in NOT_YET else name)


def unknown_field(name: str) -> InvalidInput:
    """The error for an unknown field name, with the field that was most likely meant."""
    if name in NOT_YET:
        return InvalidInput(f"field '{name}' is not supported by this version")
    if name == "output":
        return InvalidInput("field 'output' cannot be set (queuectl logs ID shows the output)")
    if name in MEANT:
        return InvalidInput(f"unknown field '{name}' (did you mean '{MEANT[name]}'?)")
    settable = [n for n, field in BY_SPELLING.items() if field.enqueue or field.edit is not None]
    return InvalidInput(f"unknown field '{name}'{did_you_mean(name, [*settable, DELAY.name])}")


def check_id(text: object, name: str = "id") -> str:
    """A usable id of a job or worker, or InvalidInput that says what is wrong with it.

    Ids are parts of file names, so none may lead out of a folder.
    """
    if not isinstance(text, str):
        raise InvalidInput(f"{name} must be text, not {as_given(text)}")
    if not text:
        raise InvalidInput(f"{name} is empty")
    if len(text) > LONGEST_ID:
        raise InvalidInput(f"{name} has {len(text)} characters; at most {LONGEST_ID} are allowed")
    if text[0] not in _ID_FIRST or not _ID_REST.issuperset(text):
        raise InvalidInput(
            f"{name} {text!r} may hold only letters, digits and . _ : - "
            "and must start with a letter or digit"
        )
    return text


def check_state(text: object) -> State:
    """The state spelled `text` (or `processing`, `running` for in_progress); else InvalidInput."""
    if isinstance(text, str):
        spelled = text.strip().lower().replace("-", "_")
        if spelled in STATES:
            return spelled
        if spelled in OLD_STATES:
            return OLD_STATES[spelled]
        near = did_you_mean(spelled, STATES)
        raise InvalidInput(f"unknown state '{text}'{near}; states are {', '.join(STATES)}")
    raise InvalidInput(f"state must be text, not {as_given(text)}")


def check_value(field: Field, value: object) -> object:
    """`value` as the field keeps it. Text is read by the field's kind ("5" is 5, "5m" is 300.0).

    Raises InvalidInput that names the field, what was given and what is wanted. None unsets a
    field in UNSETTABLE, stands for no tags, and is refused elsewhere.
    """
    if value is None and field.name in UNSETTABLE:
        return None
    check = _CHECKS.get(field.kind)
    if check is None:
        from queuectl.model.field_checks import RARE_CHECKS

        return RARE_CHECKS[field.kind](field, value)
    return check(field, value)


def from_text(field: Field, text: str) -> object:
    """The value of a bare word of the relaxed form, typed by its field, not by how it looks."""
    if text in ("null", "none") and field.kind == "duration":
        return None
    return check_value(field, text)


def _text(field: Field, value: object) -> str:
    if not isinstance(value, str):
        raise InvalidInput(f"{field.name} must be text, not {as_given(value)}")
    if not value.strip():
        raise InvalidInput(f"{field.name} is empty")
    _storable(field.name, value)
    if len(value) > LONGEST_COMMAND:
        raise InvalidInput(f"{field.name} is longer than {LONGEST_COMMAND} characters")
    return value


def check_runnable(values: Mapping[str, object]) -> None:
    """Raise InvalidInput if a command or variable is too long to start, or fields contradict."""
    if values.get("retry_on") and values.get("no_retry_on"):
        raise InvalidInput("give retry_on or no_retry_on, not both")
    if values.get("every") is not None and values.get("cron") is not None:
        raise InvalidInput("give every or cron, not both")
    words = [("command", str(values.get("command") or ""))]
    env = values.get("env")
    if isinstance(env, dict):
        words += [(f"env {name}", f"{name}={text}") for name, text in env.items()]
    for name, word in words:
        # A character has four bytes at most.
        if 4 * len(word) > LONGEST_WORD and (size := len(word.encode())) > LONGEST_WORD:
            raise InvalidInput(
                f"{name} has {size} bytes; a system takes at most {LONGEST_WORD} in one word: "
                "put it into a file"
            )


def _storable(name: str, text: str) -> None:
    if "\0" in text:
        raise InvalidInput(f"{name} holds a NUL byte, which no command line can carry")
    try:
        text.encode()
    except UnicodeEncodeError as exc:
        raise InvalidInput(f"{name} is not valid UTF-8 (at character {exc.start + 1})") from None


def _int(field: Field, value: object) -> int:
    number = _whole(field, value)
    if abs(number) > PRIORITY_SPAN:
        raise InvalidInput(f"{field.name} must lie between -{PRIORITY_SPAN} and {PRIORITY_SPAN}")
    return number


def _count(field: Field, value: object) -> int:
    number = _whole(field, value)
    most = MOST_RETRIES if field.enqueue else MOST_COUNTED
    if not 0 <= number <= most:
        raise InvalidInput(f"{field.name} must lie between 0 and {most}, not {number}")
    return number


def _whole(field: Field, value: object) -> int:
    if isinstance(value, str):
        text = value.strip()
        digits = text[1:] if text.startswith(("-", "+")) else text
        if digits.isascii() and digits.isdigit() and len(digits) < 20:
            return int(value)
    elif isinstance(value, int) and not isinstance(value, bool):
        return value
    raise InvalidInput(f"{field.name} must be a whole number, not {as_given(value)}")


def _duration(field: Field, value: object, at_least: str = "more than 0") -> float:
    if isinstance(value, str):
        try:
            seconds = parse_duration(value)
        except InvalidInput as exc:
            raise InvalidInput(f"{field.name}: {exc}") from None
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        seconds = float(min(value, LONGEST + 1))
    else:
        raise InvalidInput(f"{field.name} must be a number of seconds, not {as_given(value)}")
    if not 0 < seconds <= LONGEST:
        raise InvalidInput(f"{field.name} must be {at_least} and at most {LONGEST:.0f} seconds")
    return seconds


def _delay(field: Field, value: object) -> float:
    if value in (0, "0") and not isinstance(value, bool):
        return 0.0
    return _duration(field, value, "0 or more")


def _period(field: Field, value: object) -> float:
    seconds = _duration(field, value)
    if seconds < 1:
        raise InvalidInput(f"{field.name} must be at least 1 second, not {seconds:g}")
    return seconds


def _between(field: Field, value: object, high: float) -> float:
    number = value
    if isinstance(value, str):
        try:
            number = float(value)
        except ValueError:
            number = None
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        raise InvalidInput(f"{field.name} must be a number, not {as_given(value)}")
    if not 0 <= number <= high:  # also refuses NaN
        raise InvalidInput(f"{field.name} must lie between 0 and {high:g}, not {number}")
    return float(number)


def _time(field: Field, value: object) -> str:
    if not isinstance(value, str):
        raise InvalidInput(f"{field.name} must be a time as text, not {as_given(value)}")
    try:
        return format_time(parse_time(value))
    except InvalidInput as exc:
        raise InvalidInput(f"{field.name}: {exc}") from None


def _env(field: Field, value: object) -> dict[str, str]:
    from queuectl.model.secret_names import HIDDEN, is_secret  # few jobs have variables

    if not isinstance(value, dict):
        raise InvalidInput(f"{field.name} must be an object of text values, not {as_given(value)}")
    for name, text in value.items():
        if not isinstance(name, str) or not name or "=" in name or not isinstance(text, str):
            raise InvalidInput(f"{field.name}: {name!r} must be a name with a value that is text")
        _storable(f"{field.name} {name}", name + text)
        if text == HIDDEN and is_secret(name):
            raise InvalidInput(
                f"{field.name}: {name} is {HIDDEN}, which stands for a value that was hidden: "
                "'list --jsonl --input' prints it"
            )
    return dict(value)


def _flag(field: Field, value: object) -> bool:
    if isinstance(value, str):
        value = {"true": True, "yes": True, "false": False, "no": False}.get(value.lower(), value)
    if isinstance(value, bool):
        return value
    raise InvalidInput(f"{field.name} must be true or false, not {as_given(value)}")


def _word(field: Field, value: object) -> str:
    if isinstance(value, str) and value.isascii() and value.isalnum() and len(value) <= 32:
        return value
    raise InvalidInput(f"{field.name} must be a word of letters and digits, not {as_given(value)}")


def _key(field: Field, value: object) -> str:
    key = _text(field, value)
    if len(key) > LONGEST_KEY:
        raise InvalidInput(f"{field.name} has {len(key)} characters; at most {LONGEST_KEY} fit")
    return key


_CHECKS: dict[str, Callable[[Field, object], object]] = {
    "id": lambda field, value: check_id(value, field.name),
    "text": _text,
    "int": _int,
    "count": _count,
    "duration": _duration,
    "delay": _delay,
    "time": _time,
    "env": _env,
    "flag": _flag,
    "state": lambda field, value: check_state(value),
    "word": _word,
    "number": lambda field, value: _between(field, value, 1e6),
    "share": lambda field, value: _between(field, value, 1.0),
    "key": _key,
    "period": _period,
}
