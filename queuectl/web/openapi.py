"""`/openapi.json`: the route table and the table of fields in the form of OpenAPI 3.1."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any
from zoneinfo import available_timezones

from queuectl import __version__
from queuectl.config import LONGEST_HOOK, MOST_AT_ONCE, SETTINGS, Setting
from queuectl.model.field_checks import LARGEST_LOG, LONGEST_TAG, MOST_TAGS
from queuectl.model.fields import (
    DELAY,
    FIELDS,
    LONGEST_KEY,
    MOST_RETRIES,
    PRIORITY_SPAN,
    RECURS,
    SCHEDULED,
    STATES,
    Field,
)
from queuectl.model.ids import ID
from queuectl.model.times import LONGEST
from queuectl.web.exchange import TITLES, Answer, Call
from queuectl.web.jobs_api import GUARDED
from queuectl.web.route_table import ROUTES
from queuectl.web.routes import Member, Route
from queuectl.web.service import Service

Form = dict[str, Any]
_TEXT, _INT = {"type": "string"}, {"type": "integer"}
_MOMENT = (
    r"^(19[7-9]\d|20\d\d)-(0[1-9]|1[0-2])-(0[1-9]|1\d|2[0-8])"
    r"T([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,6})?Z$"
)
_WORD = r"^[^\u0000]*[^\s\u0000\u001c-\u001f\u0085][^\u0000]*$"  # text that is not blank
_TAG = f"[A-Za-z0-9._:-]{{1,{LONGEST_TAG}}}"


def _cron_field(one: str, *more: str) -> str:
    item = "|".join((rf"(\*|{one}(-{one})?)(/[1-9]\d?)?", *more))
    return f"({item})(,({item}))*"


def _words(text: str) -> str:
    return "|".join([text.replace(" ", "|"), text.lower().replace(" ", "|")])


_MONTHS = _words("JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC")
_WEEKDAY = f"([0-7]|{_words('SUN MON TUE WED THU FRI SAT')})"
_FIVE = (
    *(_cron_field("[0-5]?[0-9]"), _cron_field("([01]?[0-9]|2[0-3])")),
    _cron_field("(0?[1-9]|[12][0-9]|3[01])", "L"),
    _cron_field(f"(0?[1-9]|1[0-2]|{_MONTHS})"),
    _cron_field(_WEEKDAY, f"{_WEEKDAY}#[1-5]", "[0-7]L"),
)
CRON = f"^({' '.join(_FIVE)}|@(yearly|annually|monthly|weekly|daily|midnight|hourly))$"
_GIVEN: Form = {"not": {"type": "null"}}
_KINDS: dict[str, Form] = {
    "id": {"type": "string", "pattern": f"^{ID}$"},
    "text": {"type": "string", "pattern": _WORD},
    "key": {"type": "string", "pattern": _WORD, "maxLength": LONGEST_KEY},
    "int": {"type": "integer", "minimum": -PRIORITY_SPAN, "maximum": PRIORITY_SPAN},
    "count": {"type": "integer", "minimum": 0, "maximum": MOST_RETRIES},
    "duration": {"type": "number", "exclusiveMinimum": 0, "maximum": LONGEST},
    "delay": {"type": "number", "minimum": 0, "maximum": LONGEST},
    "number": {"type": "number", "minimum": 0, "maximum": 1e6},
    "period": {"type": "number", "minimum": 1, "maximum": LONGEST},
    "cron": {"type": "string", "pattern": CRON},
    "share": {"type": "number", "minimum": 0, "maximum": 1},
    "size": {"type": "integer", "minimum": 0, "maximum": LARGEST_LOG},
    "time": {"type": "string", "pattern": _MOMENT},
    "env": {
        "type": "object",
        "propertyNames": {"pattern": r"^[^=\u0000]+$"},
        "additionalProperties": {"type": "string", "pattern": r"^[^\u0000]*$"},
    },
    "flag": {"type": "boolean"},
    "state": {"type": "string", "enum": list(STATES)},
    "tags": {
        "type": "array",
        "items": {"type": "string", "pattern": f"^{_TAG}$"},
        "uniqueItems": True,
        "maxItems": MOST_TAGS,
    },
    "ids": {"type": "array", "items": {"type": "string", "pattern": f"^{ID}$"}},
    "outcomes": {
        "type": "array",
        "items": {
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": 255},
                {"enum": ["timeout", "signal"]},
            ]
        },
        "minItems": 1,
    },
}
_EXAMPLES: Form = {
    "command": "echo Hello",
    "id": "job1",
    "priority": -1,
    "max_retries": 3,
    "timeout": 60,
    "cwd": "/tmp",
    "env": {"NAME": "value"},
    "delay": 5,
}
# At most one of these may be given.
_EITHER = (("run_at", "delay"), ("retry_on", "no_retry_on"), ("every", "cron"), ("every", "tz"))
# Members of a body that select jobs.
_SELECTORS = ("ids", "state", "tag", "q", "error", "exit_code", "since", "until", "group", "all")


def _list(of: Form) -> Form:
    return {"type": "array", "items": of}


def _object(properties: Form, needed: Iterable[str] = ()) -> Form:
    form: Form = {"type": "object", "properties": properties}
    return form | ({"required": list(needed)} if needed else {})


def _ref(name: str) -> Form:
    return {"$ref": f"#/components/schemas/{name}"}


def _or_null(form: Form) -> Form:
    told = {name: form[name] for name in ("description",) if name in form}
    return {"anyOf": [form, {"type": "null"}], **told}


def _field(field: Field) -> Form:
    kind = _ref("Zone") if field.name == "tz" else _KINDS.get(field.kind, _TEXT)
    form = {**kind, "description": field.meaning}
    if field.name in _EXAMPLES:
        form["examples"] = [_EXAMPLES[field.name]]
    return form


def _job() -> Form:
    return _object(
        {field.name: {"description": field.meaning} for field in FIELDS},
        ("id", "state", "command", "rev"),
    )


def _named_fields(editing: bool) -> Form:
    fields = [f for f in (*FIELDS, DELAY) if (f.edit if editing else f.enqueue)]
    return {field.name: _or_null(_field(field)) for field in fields}


def _not_both() -> list[Form]:
    pairs = [_object(dict.fromkeys(pair, _GIVEN), pair) for pair in _EITHER]
    return [{"not": pair} for pair in pairs]


def _draft() -> Form:
    fields = _named_fields(editing=False)
    fields["state"] = {"enum": ["pending", None], "description": "a new job is pending"}
    fields["command"] = _field(next(field for field in FIELDS if field.name == "command"))
    rules = [*_not_both(), *_schedule_rules()]
    return _object(fields, ["command"]) | {"additionalProperties": False, "allOf": rules}


def _schedule_rules() -> list[Form]:
    """The rule that options of a schedule need a schedule."""
    by_clock = [_object({"cron": _GIVEN}, ["cron"])]
    any_kind = [_object({name: _GIVEN}, [name]) for name in RECURS]
    return [
        {"anyOf": [_object({name: {"type": "null"}}), *(by_clock if name == "tz" else any_kind)]}
        for name in sorted(SCHEDULED.difference(RECURS))
    ]


def _changes() -> Form:
    fields = _named_fields(editing=True)
    fields["state"] = {"enum": ["pending", "cancelled", None], "description": "retry or cancel it"}
    return _object(fields) | {"additionalProperties": False, "allOf": _not_both()}


def _changes_of_many() -> Form:
    """Changes, without fields that only one job at a time may change."""
    form = _changes()
    form["properties"] = {n: f for n, f in form["properties"].items() if n not in GUARDED}
    return form


def _update() -> Form:
    """A change that names its job."""
    form = _changes()
    form["properties"]["id"] = {**_KINDS["id"], "description": "of the job"}
    form["required"] = ["id"]
    return form


def _setting(setting: Setting) -> Form:
    if setting.kind == "names":
        name = {"type": "string", "pattern": r"^[A-Za-z_]\w*$"}
        return {"type": "array", "items": name, "description": setting.meaning}
    if setting.kind == "command":
        text = {"type": "string", "pattern": _WORD, "maxLength": LONGEST_HOOK}
        return {**text, "description": setting.meaning}
    if setting.kind == "paused":
        tag = {"type": "string", "pattern": rf"^(\*|{_TAG})$"}
        return {"type": "array", "items": tag, "description": setting.meaning}
    if setting.kind == "limits":
        most = {"type": "integer", "minimum": 1, "maximum": MOST_AT_ONCE}
        named = {"pattern": f"^{_TAG}$"}
        limits: Form = {"type": "object", "propertyNames": named, "additionalProperties": most}
        return limits | {"description": setting.meaning}
    form: Form = {"type": "integer" if setting.kind in ("count", "size") else "number"}
    form |= {"minimum": setting.low, "maximum": setting.high, "description": setting.meaning}
    return form


def _settings() -> Form:
    fields = {setting.name: _or_null(_setting(setting)) for setting in SETTINGS}
    return _object(fields) | {"additionalProperties": False, "minProperties": 1}


def _one_setting() -> Form:
    """The body of the older endpoint: a setting by name."""
    ways = []
    for setting in SETTINGS:
        pair = {"key": {"const": setting.name}, "value": _setting(setting)}
        ways.append(_object(pair, pair) | {"additionalProperties": False})
    return {"type": "object", "oneOf": ways}


def _touching(selectors: Iterable[str]) -> Form:
    """The body of a bulk action: some jobs and their number, which a dry run does not need."""
    some = {
        **{name: {"type": "array"} for name in ("ids", "state", "tag")},
        "exit_code": _INT,
        "all": {"const": True},
    }
    text = {"type": "string", "minLength": 1}
    how = [
        _object({"expect": {"type": "integer", "minimum": 0}}, ["expect"]),
        _object({"dry_run": {"const": True}}, ["dry_run"]),
    ]
    which = [_object({name: some.get(name, text)}, [name]) for name in selectors]
    return {"allOf": [{"anyOf": how}, {"anyOf": which}]}


def _schemas() -> Form:
    job, count = _ref("Job"), {"type": "integer", "minimum": 0}
    settings = _object({s.name: {"description": s.meaning} for s in SETTINGS})
    worker = _object({name: {} for name in ("id", "pid", "since", "job", "run", "command")})
    worker["properties"]["alive"] = {"type": "boolean"}
    group = _object({"group": _TEXT, "count": count, "cause": _TEXT, "samples": _list(_TEXT)})
    fault = _object({"pointer": _TEXT, "detail": _TEXT})
    problem = {"type": _TEXT, "title": _TEXT, "status": _INT, "detail": _TEXT, "code": _TEXT}
    counts = _object(dict.fromkeys(STATES, count), STATES)
    limit = _object({"tag": _TEXT, "limit": count, "running": count}, ("tag", "limit", "running"))
    scaled = {"started": _list(_INT), "stopped": _list(_INT)}
    touched = {
        "count": count,
        "ids": _list(_TEXT),
        "kept": _list(_TEXT),
        "done": {"type": "boolean"},
    }
    found = {"offset": _or_null(count), "next": _or_null(count), "size": count}
    page = {"items": _list(job), "next": _or_null(_TEXT), "total": _or_null(count)}
    return {
        "Job": _job(),
        "Draft": _draft(),
        "Changes": _changes(),
        "ChangesOfMany": _changes_of_many(),
        "Update": _update(),
        "Settings": _settings(),
        "Zone": {"type": "string", "enum": ["UTC", *sorted(available_timezones() - {"UTC"})]},
        "JobList": _object({**page, "position": _TEXT}, ("items", "next", "total")),
        "JobBatch": _object(
            {"items": _list(job), "total": count, "instead": _list(count)}, ("items", "total")
        ),
        "Check": _object({"ok": {"type": "boolean"}, "errors": _list(fault)}, ("ok", "errors")),
        "Touched": _object(touched, touched),
        "Found": _object({**found, "complete": {"type": "boolean"}}, (*found, "complete")),
        "Variables": _object({"id": _TEXT, "env": {"type": "object"}}, ("id", "env")),
        "Explanation": _object(
            {"id": _TEXT, "state": _TEXT, "reasons": _list({})}
            | {name: {"type": "object"} for name in ("parents", "children", "limits")},
            ("reasons",),
        ),
        "Groups": _object({"groups": _list(group), "total": count}, ("groups", "total")),
        "Workers": _object({"items": _list(worker), "total": count}, ("items", "total")),
        "Started": _object({"pids": _list(_INT), "items": _list(worker)}, ("pids",)),
        "Pids": _object({"pids": _list(_INT)}, ("pids",)),
        "Config": _object({"settings": settings}, ("settings",)),
        "Access": _object({"may": _list(_TEXT), "queue": _TEXT, "version": _TEXT}, ("may",)),
        "Status": _object({"total": count, "jobs": counts, "health": _TEXT}, ("total", "jobs")),
        "Stats": _object({"total": count, "jobs": counts, "runs": count}, ("total", "jobs")),
        "Paused": _object({"paused": _list(_TEXT)}, ("paused",)),
        "Limits": _object({"limits": _list(limit)}, ("limits",)),
        "Scaled": _object(scaled, scaled),
        "Doctor": _object({"findings": _list({})}, ("findings",)),
        "Ok": _object({"status": {"const": "ok"}}, ("status",)),
        "Problem": _object({**problem, "errors": _list(fault)}, problem),
        "OldProblem": _object({"status_code": _INT, "detail": _TEXT}, ("status_code", "detail")),
    }


def _parameter(member: Member, where: str = "query") -> Form:
    schema = _schema(member)
    if member.many:
        schema = _list(schema)
    form: Form = {"name": member.name, "in": where, "schema": schema}
    form["description"] = member.meaning
    if member.required or where == "path":
        form["required"] = True
    return form


def _schema(member: Member) -> Form:
    kinds: dict[str, Form] = {
        "int": {"type": "integer", "minimum": member.low, "maximum": member.high},
        "duration": {"type": "number", "minimum": member.low, "maximum": member.high},
        "flag": {"type": "boolean"},
        "texts": _list(_TEXT) | {"minItems": 1},
        "tags": _list(_KINDS["tags"]["items"]) | {"minItems": 1},
        "tag": _KINDS["tags"]["items"],
        "changes": _ref("ChangesOfMany"),
        "states": _list({"type": "string", "enum": list(member.choices)}) | {"minItems": 1},
        "value": {},
        "time": _KINDS["time"],
    }
    form = dict(kinds.get(member.kind, {"type": "string", "pattern": r"^[^\u0000]*$"}))
    if member.choices and member.kind in ("text", "state"):
        form["enum"] = list(member.choices)
    if member.name == "If-Match":
        form["pattern"] = r'^(\*|(W/)?"\d{1,15}")$'
    elif member.name == "Idempotency-Key":
        form |= {"minLength": 1, "maxLength": 200, "pattern": r"^[!-~]+$"}
    elif member.name == "key":
        form = {"type": "string", "enum": [setting.name for setting in SETTINGS]}
    elif member.name in ("job_id", "log"):
        form = _KINDS["id"]
    elif member.name == "q" and member.required:
        form["minLength"] = 1
    return form


def _body(route: Route) -> Form:
    named = {"job": "Draft", "changes": "Changes", "settings": "Settings", "update": "Update"}
    required = True
    if route.name == "oldConfigSet":
        schema = _one_setting()
    elif isinstance(route.body, tuple):
        needed = [member.name for member in route.body if member.required]
        members = {
            m.name: (_schema(m) if m.required else _or_null(_schema(m)))
            | {"description": m.meaning}
            for m in route.body
        }
        schema = _object(members, needed) | {"additionalProperties": False}
        required = bool(needed) or "expect" in members
        if "expect" in members:
            schema |= _touching(name for name in members if name in _SELECTORS)
    elif route.body == "jobs":
        schema = _list(_ref("Draft")) | {"minItems": 1}
    elif isinstance(route.body, str) and route.body in named:
        schema = _ref(named[route.body])
    else:
        schema = {"type": "object"}
    return {"required": required, "content": {"application/json": {"schema": schema}}}


# Answers that every route can give.
def _refusals(route: Route) -> Sequence[int]:
    found = [400, 403, 414, 429, 500, 503] if route.right else [400, 403, 414, 500]
    found += [401] if route.right else []
    found += [413, 415, 422] if route.body is not None else []
    old = route.kind == "old"
    found += [422] if old and route.query else []
    return sorted({*found, *([422] if route.acts or old else [])})


def _answers(route: Route) -> Form:
    media = {"text": "text/plain", "stream": "text/event-stream"}.get(route.kind)
    good: Form = {"schema": _ref(route.result) if route.result else {}}
    event = _object(dict.fromkeys(("event", "data", "id"), _TEXT) | {"retry": _INT})
    text = {"schema": event if route.kind == "stream" else _TEXT}
    content = {media: text} if media else {"application/json": good}
    bad = "OldProblem" if route.kind == "old" else "Problem"
    kind = "application/json" if route.kind == "old" else "application/problem+json"
    found: Form = {}
    for status, told in sorted(route.answers.items()):
        found[str(status)] = {"description": told}
        if status < 300 and status != 204:
            found[str(status)]["content"] = content
        elif status >= 400:
            found[str(status)]["content"] = {kind: {"schema": _ref(bad)}}
    for status in _refusals(route):
        answer = {"description": TITLES[status], "content": {kind: {"schema": _ref(bad)}}}
        found.setdefault(str(status), answer)
    return found


def _operation(route: Route) -> Form:
    inner = route.path.split("{")[1:]
    names = [Member(part.split("}")[0], "text", "the job's id") for part in inner]
    headers = []
    if route.answers.get(412):
        if route.name == "createJob":
            headers.append(Member("If-None-Match", "text", "*: only if it is new", choices=("*",)))
        else:
            headers.append(Member("If-Match", "text", "the ETag of the job as it was seen"))
    if route.answers.get(304):
        headers.append(Member("If-None-Match", "text", "the ETag that the caller has"))
    if route.name == "createJob":
        headers.append(Member("Idempotency-Key", "text", "the same key makes the job once"))
    if route.kind == "stream":
        headers.append(Member("Last-Event-ID", "text", "the id of the last event received"))
    if route.name == "getLogs":
        headers.append(Member("Range", "text", "bytes=FIRST-LAST"))
    form: Form = {"operationId": route.name, "summary": route.summary}
    area = (route.path.split("/")[3:4] or ["server"])[0]
    form["tags"] = ["older" if route.kind == "old" else area]
    form["parameters"] = [
        *(
            _parameter(name, "path") | {"schema": {**_KINDS["id"], "examples": ["job1"]}}
            for name in names
        ),
        *(_parameter(member) for member in route.query),
        *(_parameter(header, "header") for header in headers),
    ]
    if route.body is not None:
        form["requestBody"] = _body(route)
    form["responses"] = _answers(route)
    if not route.right:
        form["security"] = []
    if route.kind == "old":
        form["deprecated"] = True
    if route.command:
        form["x-command"] = f"queuectl {route.command}"
    form["x-right"] = route.right or "open"
    return form


@cache
def document() -> Form:
    """The whole document."""
    paths: Form = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    scheme = {"type": "http", "scheme": "bearer"}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "queuectl",
            "version": __version__,
            "description": "A queue of shell commands. 'queuectl serve' prints the token's file.",
        },
        "servers": [{"url": "/"}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {"schemas": _schemas(), "securitySchemes": {"token": scheme}},
    }


def show(service: Service, call: Call) -> Answer:
    """The document."""
    return Answer(200, document(), {"cache-control": "no-cache"})
