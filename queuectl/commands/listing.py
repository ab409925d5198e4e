"""Jobs as rows of chosen fields: a table for people; JSON lines, CSV and TSV for programs.

What `list` shows without chosen fields, and without jobs, is in handlers/jobs.py.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import count, islice
from operator import attrgetter
from time import time
from typing import Any

from queuectl.commands import forms, render
from queuectl.commands.context import Context
from queuectl.commands.dispatch import Data
from queuectl.errors import InvalidInput
from queuectl.model.claim_order import claim_order
from queuectl.model.derived import DERIVED, run_time
from queuectl.model.escapes import terminal_safe
from queuectl.model.fields import FIELDS, STATES
from queuectl.model.job import CLAIMABLE, Job
from queuectl.model.secret_names import hidden
from queuectl.model.times import format_duration

Value = Callable[[Job], object]
FORMS = ("json", "jsonl", "csv", "tsv")
# How `--sort` orders jobs, oldest first; the creation time decides between equal ones.
_RANKS = {"in_progress": 0, "failed": 1, "pending": 2, "dead": 3, "completed": 4, "cancelled": 5}
ORDERS: dict[str, Callable[[Job], Any]] = {
    "created": lambda job: (job.created_at, job.id),
    "time": lambda job: (job.updated_at, job.id),
    "due": lambda job: (job.run_at, job.created_at, job.id),
    "id": lambda job: job.id,
    "state": lambda job: (_RANKS.get(job.state, len(STATES)), job.created_at, job.id),
    "tries": lambda job: (job.attempts, job.created_at, job.id),
    "run_time": lambda job: (run_time(job, time()) or 0.0, job.created_at, job.id),
}
# The fields that enqueue accepts, and those that it leaves at the values here.
_INPUT = tuple(field.name for field in FIELDS if field.enqueue and field.name != "state")
_LEFT_OUT: dict[str, object] = {"priority": 0, **Job._field_defaults}
for _name in ("timeout", "cwd"):  # if left out, these come from the settings and the environment
    del _LEFT_OUT[_name]
_TITLES = {"id": "ID", "cwd": "Folder", "env": "Environment"}
_LONG = frozenset(("command", "error", "cwd", "env", "history"))
_TSV = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
_must_be_quoted = re.compile('[,"\r\n]').search


def ordered(
    jobs: Iterable[Job], args: Mapping[str, Any], now: str = "", aging: float = 0.0
) -> Iterator[Job]:
    """The jobs in the order of --sort and --newest, at most --limit of them.

    `now` and the setting `aging` affect the order by priority.
    """
    limit = args["limit"]
    if args["sort"] is None and not args["newest"]:
        return islice(jobs, limit)
    key = ORDERS.get(args["sort"] or "created") or _as_claimed(now, aging)
    if limit is None:
        return iter(sorted(jobs, key=key, reverse=args["newest"]))
    return iter((heapq.nlargest if args["newest"] else heapq.nsmallest)(limit, jobs, key=key))


def _as_claimed(now: str, aging: float) -> Callable[[Job], Any]:
    """A sort key: due jobs in the order of claims, then jobs due later, then the rest.

    It counts its calls, so it must be called in the order of `find`, in which the jobs came in:
    that order decides between otherwise equal jobs.
    """
    arrivals = count()

    def key(job: Job) -> Any:
        arrived = next(arrivals)
        if job.state not in CLAIMABLE:
            return 2, job.priority, job.run_at, arrived
        if job.run_at > now:
            return 1, job.run_at, job.priority, arrived
        return 0, *claim_order(job, aging), arrived

    return key


def form_of(args: Mapping[str, Any]) -> str | None:
    """Which of FORMS is asked for, if any; InvalidInput if the options contradict."""
    asked = [name for name in FORMS if args[name]]
    if len(asked) > 1:
        raise InvalidInput(f"give one of {', '.join(f'--{name}' for name in asked)}")
    if args["input"]:
        if args["fields"]:
            raise InvalidInput("--input prints the fields that enqueue takes: no --fields")
        if asked not in (["json"], ["jsonl"]):
            raise InvalidInput("--input prints jobs for enqueue: add --jsonl or --json")
    return asked[0] if asked else None


def job_forms(jobs: Iterable[Job], args: Mapping[str, Any], now: float) -> Iterator[dict[str, Any]]:
    """The jobs as `--json` and `--jsonl` show them."""
    if args["input"]:
        return map(input_form, jobs)
    if not args["fields"]:
        return map(forms.job_form, jobs)
    values = _values(args["fields"], now)
    return ({name: value(job) for name, value in values.items()} for job in jobs)


def input_form(job: Job) -> dict[str, Any]:
    """The job as `enqueue --file` takes it, to make an equal job that has not run yet.

    Secrets are not hidden: the job could not run without them.
    """
    form = {name: getattr(job, name) for name in _INPUT}
    return {
        name: value
        for name, value in form.items()
        if name not in _LEFT_OUT or value != _LEFT_OUT[name]
    }


def data_lines(
    context: Context, jobs: Iterable[Job], args: Mapping[str, Any], form: str, now: float
) -> Iterator[Data]:
    """JSON lines, CSV (RFC 4180 except for line ends) or TSV; without titles for -q."""
    if form == "jsonl":
        for value in job_forms(jobs, args, now):
            yield Data(terminal_safe(forms.json_line(value)))
        return
    names = args["fields"] or [field.name for field in FIELDS]
    values = _values(names, now)
    between, spell = ("\t", _tsv) if form == "tsv" else (",", _csv)
    # A terminal must not obey what a command contains; elsewhere the data stays as it is.
    shown = render.safe_lines if context.terminal else str
    if not context.quiet:
        yield Data(between.join(values))
    for job in jobs:
        cells = [value(job) for value in values.values()]
        texts = [spell(cell if type(cell) is str else _text(cell)) for cell in cells]
        yield Data(shown(between.join(texts)))


def table(context: Context, jobs: Iterable[Job], names: Sequence[str], now: float) -> Iterator[str]:
    """A table of these fields; on a terminal times and durations are in the form for people."""
    values = _values(names, now)
    spoken = {derived.name for derived in DERIVED if derived.is_duration} | {"timeout"}
    times = {field.name for field in FIELDS if field.kind == "time"} | {"next_retry", "next_run"}
    columns = [
        render.Column(
            _TITLES.get(name, name.replace("_", " ").title()),
            4,
            elastic=name in _LONG,
            state=name == "state",
        )
        for name in names
    ]

    def cell(name: str, value: Any) -> str:
        if context.clock is not None and name in times:
            return render.moment(value, now)
        if context.clock is not None and name in spoken and value is not None:
            return format_duration(value)
        return render.brief(_text(value)) or "-"

    rows = [[cell(name, value(job)) for name, value in values.items()] for job in jobs]
    yield from render.table(columns, rows, screen=context.screen, colour=context.color)


def _values(names: Iterable[str], now: float) -> dict[str, Value]:
    """A function for each field that gets it from a job."""

    def value(name: str) -> Value:
        if name == "env":
            return lambda job: job.env and hidden(job.env)
        of = next((derived.of for derived in DERIVED if derived.name == name), None)
        return attrgetter(name) if of is None else lambda job: of(job, now)

    return {name: value(name) for name in names}


def _text(value: Any) -> str:
    """A value as text: "" for None, words for tags, JSON for other values with parts."""
    if isinstance(value, str):
        return value
    if value is None or value == ():
        return ""
    if type(value) is int:
        return str(value)
    if isinstance(value, tuple) and isinstance(value[0], str):
        return " ".join(value)
    if isinstance(value, float):
        return str(value).removesuffix(".0")
    return forms.json_line(value)


def _csv(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if _must_be_quoted(text) else text


def _tsv(text: str) -> str:
    return text.translate(_TSV)
