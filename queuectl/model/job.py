"""The job as a frozen record. store/files/job_files.py writes its JSON form."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from queuectl.errors import InvalidInput, KeyTaken
from queuectl.model.fields import (
    BY_SPELLING,
    LATER_FIELDS,
    POLICY,
    RARE,
    Field,
    State,
    check_runnable,
    check_value,
    find_field,
)

UNKNOWN = "unknown"  # the worker of a running job that names none: lost, so the job is rescued
CLAIMABLE: frozenset[str] = frozenset({"pending", "failed"})
LIVE: frozenset[str] = frozenset({"pending", "failed", "in_progress"})
FINISHED: frozenset[str] = frozenset({"completed", "cancelled", "dead"})
LONGEST_HISTORY = 50  # entries; a job with thousands of retries must not grow for ever


class Job(NamedTuple):
    """One job. Times are RFC 3339 text in UTC, durations seconds; a change is a new record."""

    id: str
    state: State
    priority: int
    run_at: str
    command: str
    max_retries: int
    created_at: str
    updated_at: str
    attempts: int = 0
    run: int = 0
    losses: int = 0
    rev: int = 1
    started_at: str | None = None
    finished_at: str | None = None
    timeout: float | None = None
    cwd: str | None = None
    env: Mapping[str, str] | None = None
    env_file: str | None = None
    # What a claim depends on besides priority and due time: PLACED_SLOTS.
    every: float | None = None
    cron: str | None = None
    unique: str | None = None
    tags: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    after_end: tuple[str, ...] = ()
    lock: tuple[str, ...] = ()
    slots: tuple[str, ...] = ()  # only while it runs: see model/gate.py
    rerun: bool = True
    exit_code: int | None = None
    error: str | None = None
    worker: str | None = None
    cancel_requested: bool = False
    # These override the settings; the order is that of POLICY.
    retry_delay: float | None = None
    base: float | None = None
    max_delay: float | None = None
    jitter: float | None = None
    retry_on: list[int | str] | None = None
    no_retry_on: list[int | str] | None = None
    log_limit: int | None = None
    deferrals: int = 0
    # Of schedules and their copies; the order is that of SCHEDULE.
    tz: str | None = None
    catch_up: bool = True
    overlap: bool = False
    planned: str | None = None
    last: str | None = None
    notify: bool = True
    log_word: str | None = None  # set at its first start; none in jobs older than format 2
    env_set: str | None = None
    history: tuple[Mapping[str, Any], ...] = ()
    extra: Mapping[str, Any] | None = None  # keys we do not know, kept as they were

    @classmethod
    def from_dict(cls, form: dict[str, Any]) -> "Job":
        """The job from its JSON form; unknown keys go to `extra`. Nothing is checked.

        An invalid value that an older version accepted, in a field that it did not know, is kept
        in `extra` and has no effect.
        """
        values, extra = list(_BLANK), {}
        for name, value in form.items():
            at = INDEXES.get(name)
            if at is None:
                extra[name] = value
            else:
                values[at] = value
        if values[RARE_SLOTS] != _NO_RARE or values[_OWN_SLOTS] != _NO_OWN:
            for at in _LOOKED_AT:
                name, value = cls._fields[at], values[at]
                if value is None:
                    values[at] = _BLANK[at]
                elif not _is_kept_so(BY_SPELLING[name], value):
                    extra[name], values[at] = value, _BLANK[at]
        if values[_WORD_LISTS] != _NO_WORDS:
            for at in range(_WORD_LISTS.start, _WORD_LISTS.stop):
                words: Any = values[at]
                if isinstance(words, (list, tuple)) and all(isinstance(w, str) for w in words):
                    values[at] = tuple(words)
                else:
                    extra[cls._fields[at]], values[at] = words, ()
        job = cls._make(values)
        if job.history or extra:
            return job._replace(history=tuple(job.history), extra=extra or None)
        return job


def _is_kept_so(field: Field, value: object) -> bool:
    try:
        return check_value(field, value) == value
    except InvalidInput:
        return False


_BLANK = tuple(Job._field_defaults.get(name) for name in Job._fields)
# Adjacent fields that few jobs have: one comparison of them all costs the other jobs little.
RARE_SLOTS = slice(Job._fields.index(POLICY[0]), Job._fields.index(RARE[-1]) + 1)
NO_RARE = _BLANK[RARE_SLOTS]
_NO_RARE = list(NO_RARE)
_OWN_SLOTS = slice(Job._fields.index("env_file"), Job._fields.index("tags"))
PLACED_SLOTS = slice(Job._fields.index("every"), Job._fields.index("slots") + 1)
NOT_PLACED = _BLANK[PLACED_SLOTS]
_WORD_LISTS = slice(Job._fields.index("tags"), PLACED_SLOTS.stop)
_NO_WORDS = list(_BLANK[_WORD_LISTS])
_NO_OWN = list(_BLANK[_OWN_SLOTS])
_LOOKED_AT = [at for slots in (_OWN_SLOTS, RARE_SLOTS) for at in range(*slots.indices(99))]
INDEXES = {name: at for at, name in enumerate(Job._fields) if name != "extra"}


def with_values(job: Job, changes: Mapping[str, Any]) -> Job:
    """The job with these fields set anew, in two thirds of the time that `_replace` takes.

    A worker asks for that twice for each run.
    """
    values: list[Any] = list(job)
    for name, value in changes.items():
        values[INDEXES[name]] = value
    return tuple.__new__(Job, values)


def revived(pairs: Iterable[tuple[Job, Job]]) -> dict[str, Job]:
    """The jobs that a change brought back to life and that have a `unique` key, by key.

    `pairs`: jobs before and after. Raises KeyTaken if two of them have the same key.
    """
    found: dict[str, Job] = {}
    for old, new in pairs:
        if new.unique is not None and new.state in LIVE and old.state not in LIVE:
            refuse_key(new, [found.setdefault(new.unique, new)])
    return found


def refuse_key(job: Job, holders: Iterable[Job], index: int | None = None) -> None:
    """Raise KeyTaken if another job is among `holders`, the live jobs with its key."""
    for holder in holders:
        if holder.id != job.id:
            raise KeyTaken(holder.id, str(job.unique), holder.state, index)


def log_name(job: Job, run: int | None = None) -> str:
    """The name of the file that holds the output of a run (None: the latest)."""
    word = f".{job.log_word}" if job.log_word else ""
    return f"{job.id}.{job.run if run is None else run}{word}.log"


def given(job: Job, names: Iterable[str]) -> dict[str, Any]:
    """Those of these fields that the job does not leave at the default."""
    usual = Job._field_defaults
    return {name: value for name in names if (value := getattr(job, name)) != usual[name]}


def holds(job: Job, held: Job) -> bool:
    """The fence: whether `job` is still the very run that a worker was given as `held`."""
    return (
        job.state == "in_progress"
        and job.id == held.id
        and job.worker == held.worker
        and job.run == held.run
    )


def recurs(job: Job) -> bool:
    """Whether the job is a schedule: it never runs itself; a copy runs whenever it is due."""
    return job.every is not None or job.cron is not None


def new_job(draft: Mapping[str, object], *, job_id: str, defaults: Job) -> Job:
    """The job that a person asked for; `defaults`, a pending job, fills what the draft leaves out.

    Raises InvalidInput for a field that is unknown, that people cannot set, or with a wrong value.
    """
    values: dict[str, Any] = {}
    for name, value in draft.items():
        field = find_field(name)
        if not field.enqueue:
            raise InvalidInput(f"field '{name}' cannot be set: queuectl sets it")
        if field.name in values:
            raise InvalidInput(f"field '{field.name}' is given twice")
        values[field.name] = check_value(field, value)
    if "command" not in values:
        raise InvalidInput("a job needs a command")
    check_runnable(values)
    if values.get("state", "pending") != "pending":
        raise InvalidInput(f"a new job can only be pending, not {values['state']}")
    values.setdefault("id", job_id)
    return with_values(defaults, values)


# What a job in a file edited by hand may leave out, besides the defaults of Job.
_WRITTEN_DEFAULTS: dict[str, Any] = {"priority": 0, "max_retries": 3}


def job_from_person(form: object, *, now: str, state: State, ours: bool = False) -> Job:
    """A job read from a JSON file that a person may have edited: id and command suffice.

    `state`: for a job that names none. Raises InvalidInput that names the wrong key;
    unknown keys are kept. `ours`: queuectl wrote it, perhaps a version that knew fewer fields.
    """
    if not isinstance(form, dict):
        raise InvalidInput("a job must be an object {...}")
    for needed in ("id", "command"):
        if needed not in form:
            raise InvalidInput(f"a job has no {needed}")
    values = {**_WRITTEN_DEFAULTS, "state": state, "created_at": now}
    for name, value in form.items():
        field = None if ours and name in LATER_FIELDS else BY_SPELLING.get(name)
        values[field.name if field else name] = _checked(field, value)
    values.setdefault("updated_at", values["created_at"])
    values.setdefault("run_at", values["created_at"])
    if values["state"] == "in_progress" and not values.get("worker"):
        values["worker"] = UNKNOWN
    return Job.from_dict(values)


def _checked(field: Field | None, value: object) -> object:
    if field is None:
        return value
    if field.name == "history":
        if isinstance(value, list) and all(isinstance(entry, dict) for entry in value):
            return value
        raise InvalidInput("history must be a list of objects")
    if value is None and Job._field_defaults.get(field.name, 0) is None:
        return None
    return check_value(field, value)
