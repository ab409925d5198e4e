"""The parts of a route: its path, the right that it needs, its input and its answers.

The single table of routes consists of these; it checks requests, and `/openapi.json`, `/docs` and
`/redoc` are made from it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple
from urllib.parse import parse_qs

from queuectl.commands.grammar.bound import short
from queuectl.errors import InvalidInput
from queuectl.model.field_checks import check_tag
from queuectl.model.fields import check_state
from queuectl.model.ids import ID
from queuectl.model.times import format_time, parse_duration, parse_time
from queuectl.web.exchange import Answer, Call, Refused, fault, wrong

V1 = "/api/v1"
# It raises Refused or an error of the queue; both become answers.
Handler = Callable[[Any, Call], Answer]


class Member(NamedTuple):
    """A query parameter, or a member of a body.

    `kind`: "text", "int", "flag", "state", "duration" (seconds; in a query also like 30s), "time"
    (RFC 3339), "tag", "texts", "states" and "tags" (lists), "changes" (fields of a job), "value"
    (anything). `many`: a parameter that may be repeated. `choices`: the allowed texts.
    """

    name: str
    kind: str
    meaning: str
    required: bool = False
    many: bool = False
    low: int = 0
    high: int = 1 << 53
    choices: tuple[str, ...] = ()


class Route(NamedTuple):
    """A row of the table.

    `right`: "" (open to all accepted requests), "read" or "full". `body`: its members, or "job",
    "jobs", "changes" or "settings". `answers`: the meaning of each of its own statuses. `kind`:
    "json", "old" (errors also have the form of the earlier tool), "text", "stream", "page". `acts`:
    it changes something although it is a GET; `advice`: how to do that instead.
    """

    method: str
    path: str
    name: str
    right: str
    handler: Handler | None  # None: a stream
    summary: str
    query: tuple[Member, ...] = ()
    body: tuple[Member, ...] | str | None = None
    answers: Mapping[int, str] = {200: "as asked"}
    kind: str = "json"
    result: Any = None  # JSON schema of a good answer
    acts: bool = False
    advice: str = ""
    command: str = ""  # the command line that does the same


def row(
    at: str,
    name: str,
    handler: Handler | None,
    summary: str,
    query: tuple[Member, ...] = (),
    *,
    base: str = V1,
    right: str = "",
    **more: Any,
) -> Route:
    """A row for `METHOD PATH` below `base`. A GET that does not act needs only "read".

    `right` overrides that.
    """
    method, _, path = at.partition(" ")
    right = right or ("read" if method == "GET" and not more.get("acts") else "full")
    return Route(method, base + path, name, right, handler, summary, query, **more)


@cache
def _pattern(path: str) -> re.Pattern[str]:
    """The pattern for the path of a request."""
    parts = re.split(r"(\{\w+\})", path)
    made = [f"(?P<{p[1:-1]}>{ID})" if p.startswith("{") else re.escape(p) for p in parts]
    return re.compile("".join(made))


def find(
    routes: Sequence[Route], method: str, path: str
) -> tuple[Route | None, dict[str, str], list[str]]:
    """The route for a request, the values in its path, and the methods of the path."""
    exact = [route for route in routes if route.path == path]
    methods: dict[str, tuple[Route, dict[str, str]]] = {}
    for route in exact or routes:
        match = _pattern(route.path).fullmatch(path)
        if match and route.method not in methods:
            methods[route.method] = route, match.groupdict()
    allowed = list(methods)
    if "GET" in methods and not methods["GET"][0].acts:
        allowed.append("HEAD")
        methods["HEAD"] = methods["GET"]
    if methods:
        allowed.append("OPTIONS")
    if method in methods:
        return *methods[method], allowed
    if exact:  # a job may be called like an action on many: retry
        others = [route for route in routes if route.path != path]
        return *find(others, method, path)[:2], allowed
    return None, {}, allowed


def read_query(route: Route, query: bytes) -> dict[str, Any]:
    """The parameters that the route declares; 400 for others and for wrong values."""
    try:
        given = parse_qs(query.decode("ascii"), keep_blank_values=True, errors="strict")
    except ValueError:
        raise Refused(400, "the query is not valid") from None
    known = {member.name: member for member in route.query}
    for name in given:
        if name not in known:
            raise Refused(400, f"unknown parameter '{short(name)}'")
    values: dict[str, Any] = {}
    for name, member in known.items():
        texts = given.get(name, [])
        if len(texts) > 1 and not member.many:
            raise Refused(400, f"parameter '{name}' is given twice")
        if member.required and not texts:
            raise Refused(422 if route.kind == "old" else 400, f"parameter '{name}' is missing")
        read = [_read_text(member, text) for text in texts]
        values[name] = read if member.many else (read[0] if read else None)
    return values


def _read_text(member: Member, text: str) -> Any:
    if "\0" in text:
        raise Refused(400, f"parameter '{member.name}' holds a NUL byte")
    try:
        if member.kind == "int":
            if not re.fullmatch(r"-?\d{1,16}", text, re.ASCII):
                raise InvalidInput(f"must be a whole number, not '{short(text)}'")
            return _in_bounds(member, int(text))
        if member.kind == "flag":
            if text not in ("true", "false"):
                raise InvalidInput("must be true or false")
            return text == "true"
        if member.kind == "state":
            return check_state(text)
        if member.kind == "duration":
            return _in_bounds(member, _seconds(text))
        if member.kind == "time":
            return format_time(parse_time(text))
    except InvalidInput as exc:
        raise Refused(400, f"parameter '{member.name}': {exc}") from None
    if member.choices and text not in member.choices:
        raise Refused(400, f"parameter '{member.name}' must be one of {', '.join(member.choices)}")
    return text


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return parse_duration(text)


def _in_bounds(member: Member, number: float) -> float:
    if not member.low <= number <= member.high:
        raise InvalidInput(f"must lie between {member.low} and {member.high}, not {number}")
    return number


def read_json(data: bytes) -> Any:
    """A body as strict JSON: one value, no name twice; else Refused."""
    try:
        text = data.decode("utf-8-sig")
        return json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)
    except UnicodeDecodeError:
        raise Refused(400, "the body is not UTF-8") from None
    except (ValueError, RecursionError) as exc:
        raise Refused(400, f"the body is not JSON: {exc}") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    form = dict(pairs)
    if len(form) != len(pairs):
        raise ValueError("a name occurs twice in an object")
    return form


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def check_members(members: Sequence[Member], body: Any) -> dict[str, Any]:
    """The checked members of a body; 422 names each fault by its JSON pointer."""
    if not isinstance(body, dict):
        raise wrong([fault("the body must be an object")])
    known = {member.name: member for member in members}
    faults = [fault(f"unknown member '{short(name)}'", name) for name in body if name not in known]
    values: dict[str, Any] = {}
    for member in members:
        value = body.get(member.name)
        if value is None:
            if member.required:
                faults.append(fault(f"{member.name} is missing", member.name))
            values[member.name] = None
            continue
        why = _misfit(member, value)
        if why:
            faults.append(fault(f"{member.name} {why}", member.name))
        values[member.name] = value
    if faults:
        raise wrong(faults)
    return values


def _misfit(member: Member, value: object) -> str:
    kind = member.kind
    if kind in ("int", "duration"):
        wanted = (int,) if kind == "int" else (int, float)
        if isinstance(value, bool) or not isinstance(value, wanted):
            return f"must be a {'whole number' if kind == 'int' else 'number of seconds'}"
        if not member.low <= value <= member.high:
            return f"must lie between {member.low} and {member.high}"
    elif kind == "flag" and not isinstance(value, bool):
        return "must be true or false"
    elif kind == "time" or kind == "text":
        return _misfit_text(kind, value)
    elif kind == "tag":
        return _misfit_tag(value)
    elif kind in ("texts", "states", "tags"):
        if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
            return "must be a list of texts"
        if not value:  # a list that turned out empty must not mean all
            return "must not be empty"
        if kind == "states" and not set(value) <= set(member.choices):
            return f"must hold only {', '.join(member.choices)}"
        if kind == "tags":
            return next(filter(None, map(_misfit_tag, value)), "")
    elif member.choices and value not in member.choices:
        return f"must be one of {', '.join(member.choices)}"
    return ""


def _misfit_tag(value: object) -> str:
    try:
        check_tag(value if isinstance(value, str) else "")
    except InvalidInput as exc:
        return f"must be a tag: {exc}" if isinstance(value, str) else "must be text"
    return ""


def _misfit_text(kind: str, value: object) -> str:
    if not isinstance(value, str):
        return "must be text"
    if "\0" in value:
        return "holds a NUL byte"
    try:
        if kind == "time":
            parse_time(value)
    except InvalidInput as exc:
        return f"must be a time: {exc}"
    return ""
