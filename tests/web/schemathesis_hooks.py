"""What `st run` must know about this API that is not in the schema; see schemathesis_run.py."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

import schemathesis

from queuectl.errors import InvalidInput
from queuectl.model.cron import next_fitting
from queuectl.web.openapi import CRON

_MOST = {"wait": 60, "timeout": 86_400}  # seconds that a request may ask to be kept waiting


@schemathesis.hook
def map_case(context: Any, case: Any) -> Any:
    """The request as somebody would send it who has read the words of the document, too."""
    if isinstance(case.query, dict):
        case.query = _query(case.query, case.operation.path)
    if isinstance(case.headers, dict):
        _head(case.headers, case.body)
    if isinstance(case.body, (dict, list)):
        case.body = _body(case.body)
        _meeting(case)
    return case


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """A link from one request to the next puts ids into a body that `map_case` has seen."""
    if isinstance(case.body, (dict, list)):
        _meeting(case)


def _query(query: dict[str, Any], path: str) -> dict[str, Any]:
    """A cursor is opaque: only the server can make one. And nobody waits here."""
    query = {name: value for name, value in query.items() if name != "cursor"}
    for name, most in _MOST.items():
        if name in query and _is_within(query[name], most):
            query[name] = 0
    if path.endswith("/events"):
        query.setdefault("timeout", 0)
    return query


def _meeting(case: Any) -> None:
    """Who leaves it at another job, or replaces one, says by what that is known."""
    wanted = (case.query or {}).get("on_conflict")
    drafts = case.body if isinstance(case.body, list) else [case.body]
    for at, draft in enumerate(drafts):
        if wanted in ("keep", "replace") and isinstance(draft, dict):
            draft["unique"] = draft.get("unique") or f"key {at}"
            if wanted == "replace" and isinstance(draft.get("id"), str):
                draft["id"] = None


def _is_within(value: Any, most: float) -> bool:
    try:
        return 0 <= float(value) <= most
    except (TypeError, ValueError):
        return False


def _head(headers: Any, body: Any) -> None:
    """Which ETag a job has only an earlier answer tells, `*` is any; a key is of one body."""
    for name in list(headers):
        value = str(headers[name])
        if name.lower() == "if-match" and re.fullmatch(r'\*|(W/)?"\d{1,15}"', value):
            headers[name] = "*"
        elif name.lower() == "idempotency-key" and re.fullmatch(r"[!-~]{1,200}", value):
            text = json.dumps(body, default=repr, sort_keys=True)
            headers[name] = hashlib.sha256(text.encode()).hexdigest()


def _body(body: Any) -> Any:
    """To JSON Schema 5.0 is an integer; here it is a fraction, and refused on purpose.

    A lock-timeout of 0 would make the queue too busy for all that follow: it is left as it is. A
    cron line may have the right form and fit no day.
    """
    if isinstance(body, dict):
        body = {name: value for name, value in body.items() if name != "lock-timeout"}
        if body.get("key") == "lock-timeout":
            body["key"] = "base"
        if isinstance(body.get("cron"), str) and re.fullmatch(CRON, body["cron"]):
            body["cron"] = _fitting(body["cron"])
        return {name: _body(value) for name, value in body.items()}
    if isinstance(body, list):
        return [_body(value) for value in body]
    return int(body) if isinstance(body, float) and body.is_integer() else body


def _fitting(fields: str) -> str:
    try:
        next_fitting(fields, None, 0.0)
    except InvalidInput:
        return "0 3 * * 1-5"
    return fields
