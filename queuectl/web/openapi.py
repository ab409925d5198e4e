"""`/openapi.json`: the route table and the table of fields, said as OpenAPI 3.1 says it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from queuectl import __version__
from queuectl.config import SETTINGS
from queuectl.model.fields import DELAY, FIELDS, STATES, Field
from queuectl.web.exchange import TITLES, Answer, Call
from queuectl.web.route_table import ROUTES
from queuectl.web.routes import ID, Member, Route
from queuectl.web.service import Service

Form = dict[str, Any]
_TEXT, _INT, _TIME = {"type": "string"}, {"type": "integer"}, {"type": "string"}
_KINDS: dict[str, Form] = {
    "id": {"type": "string", "pattern": f"^{ID}$", "maxLength": 128},
    "int": {"type": "integer", "minimum": -1_000_000, "maximum": 1_000_000},
    "count": {"type": "integer", "minimum": 0, "maximum": 1_000_000},
    "duration": {"type": "number", "exclusiveMinimum": 0},
    "delay": {"type": "number", "minimum": 0},
    "size": {"type": "integer", "minimum": 0},
    "time": {"type": "string", "description": "RFC 3339"},
    "env": {"type": "object", "additionalProperties": {"type": "string"}},
    "flag": {"type": "boolean"},
    "state": {"type": "string", "enum": list(STATES)},
    "tags": {"type": "array", "items": {"type": "string"}},
}
_EXAMPLES: Form = {
    "command": "echo Hello",
    "id": "job1",
    "priority": -1,
    "max_retries": 3,
    "run_at": "2030-01-31T05:00:00Z",
    "timeout": 60,
    "cwd": "/tmp",
    "env": {"NAME": "value"},
    "delay": 5,
}


def _list(of: Form) -> Form:
    return {"type": "array", "items": of}


def _object(properties: Form, needed: Iterable[str] = ()) -> Form:
    form: Form = {"type": "object", "properties": properties}
    return form | ({"required": list(needed)} if needed else {})


def _ref(name: str) -> Form:
    return {"$ref": f"#/components/schemas/{name}"}


def _or_null(form: Form) -> Form:
    return {"anyOf": [form, {"type": "null"}]}


def _field(field: Field) -> Form:
    form = {**_KINDS.get(field.kind, _TEXT), "description": field.meaning}
    if field.name in _EXAMPLES:
        form["examples"] = [_EXAMPLES[field.name]]
    return form


def _job() -> Form:
    return _object(
        {field.name: {"description": field.meaning} for field in FIELDS},
        ("id", "state", "command", "rev"),
    )


def _draft() -> Form:
    fields = {f.name: _or_null(_field(f)) for f in (*FIELDS, DELAY) if f.enqueue}
    fields["state"] = {"enum": ["pending", None], "description": "a new job is pending"}
    fields["command"] = _field(next(field for field in FIELDS if field.name == "command"))
    return _object(fields, ["command"]) | {"additionalProperties": False}


def _changes() -> Form:
    fields = {f.name: _or_null(_field(f)) for f in (*FIELDS, DELAY) if f.edit}
    fields["state"] = {"enum": ["pending", "cancelled", None], "description": "retry or cancel it"}
    return _object(fields) | {"additionalProperties": False, "minProperties": 1}


def _settings() -> Form:
    return _object({s.name: {"description": s.meaning} for s in SETTINGS}) | {
        "additionalProperties": False,
        "minProperties": 1,
    }


def _schemas() -> Form:
    job, count = _ref("Job"), {"type": "integer", "minimum": 0}
    settings = _object({s.name: {"description": s.meaning} for s in SETTINGS})
    worker = _object({name: {} for name in ("id", "pid", "since", "job", "run", "command")})
    worker["properties"]["alive"] = {"type": "boolean"}
    group = _object({"group": _TEXT, "count": count, "cause": _TEXT, "samples": _list(_TEXT)})
    fault = _object({"pointer": _TEXT, "detail": _TEXT})
    problem = {"type": _TEXT, "title": _TEXT, "status": _INT, "detail": _TEXT, "code": _TEXT}
    counts = _object(dict.fromkeys(STATES, count), STATES)
    touched = {"count": count, "ids": _list(_TEXT), "done": {"type": "boolean"}}
    page = {"items": _list(job), "next": _or_null(_TEXT), "total": _or_null(count)}
    return {
        "Job": _job(),
        "Draft": _draft(),
        "Changes": _changes(),
        "Settings": _settings(),
        "JobList": _object({**page, "position": _TEXT}, ("items", "next", "total")),
        "JobBatch": _object({"items": _list(job), "total": count}, ("items", "total")),
        "Check": _object({"ok": {"type": "boolean"}, "errors": _list(fault)}, ("ok", "errors")),
        "Touched": _object(touched, touched),
        "Variables": _object({"id": _TEXT, "env": {"type": "object"}}, ("id", "env")),
        "Explanation": _object({"id": _TEXT, "state": _TEXT, "reasons": _list({})}, ("reasons",)),
        "Groups": _object({"groups": _list(group), "total": count}, ("groups", "total")),
        "Workers": _object({"items": _list(worker), "total": count}, ("items", "total")),
        "Started": _object({"pids": _list(_INT), "items": _list(worker)}, ("pids",)),
        "Pids": _object({"pids": _list(_INT)}, ("pids",)),
        "Config": _object({"settings": settings}, ("settings",)),
        "Access": _object({"may": _list(_TEXT), "queue": _TEXT, "version": _TEXT}, ("may",)),
        "Status": _object({"total": count, "jobs": counts, "health": _TEXT}, ("total", "jobs")),
        "Stats": _object({"total": count, "jobs": counts, "runs": count}, ("total", "jobs")),
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
        "texts": _list(_TEXT),
        "states": _list({"type": "string", "enum": list(member.choices)}),
        "value": {},
    }
    form = dict(kinds.get(member.kind, _TEXT))
    if member.choices and member.kind in ("text", "state"):
        form["enum"] = list(member.choices)
    return form


def _body(route: Route) -> Form | None:
    named = {"job": "Draft", "changes": "Changes", "settings": "Settings"}
    if isinstance(route.body, tuple):
        needed = [member.name for member in route.body if member.required]
        members = {
            m.name: _schema(m) | {"description": m.meaning}
            if m.required
            else _or_null(_schema(m)) | {"description": m.meaning}
            for m in route.body
        }
        schema = _object(members, needed) | {"additionalProperties": False}
    elif route.body == "jobs":
        schema = _list(_ref("Draft")) | {"minItems": 1}
    elif route.body == "update":
        schema = {"allOf": [_object({"id": _TEXT}, ["id"])]}
    elif route.body in named:
        schema = _ref(named[route.body])
    else:
        schema = {"type": "object"}
    return {"required": True, "content": {"application/json": {"schema": schema}}}


# What every route can answer, whatever it is for.
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
    content = {media: {"schema": _TEXT}} if media else {"application/json": good}
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
        headers.append(Member("If-Match", "text", "the ETag of the job as it was seen"))
    if route.answers.get(304):
        headers.append(Member("If-None-Match", "text", "the ETag that is known already"))
    if route.name == "createJob":
        headers.append(Member("Idempotency-Key", "text", "the same key makes the job once"))
    if route.kind == "stream":
        headers.append(Member("Last-Event-ID", "text", "the id of the last event that was had"))
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
