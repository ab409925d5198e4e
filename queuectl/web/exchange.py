"""The input and output of a request's handler: `Call`, `Answer` and `Refused`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from queuectl.errors import (
    Conflict,
    InvalidInput,
    NoSuchJob,
    NoSuchRun,
    NoSuchWorker,
    QueuectlError,
)

TITLES = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Conflict",
    412: "Precondition Failed",
    413: "Content Too Large",
    414: "URI Too Long",
    415: "Unsupported Media Type",
    416: "Range Not Satisfiable",
    422: "Unprocessable Content",
    428: "Precondition Required",
    429: "Too Many Requests",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


class Refused(Exception):
    """A request is answered with an error status; `str` of it is the text for people."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        code: str = "",
        **more: object,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.headers = dict(headers or {})
        self.code = code or TITLES[status].lower().replace(" ", "_")
        self.more = more  # further members of the problem's object


class Call(NamedTuple):
    """One request. `query`: the checked values of the parameters that the route declares.

    `right`: "full", "read" or "" (no token was needed or given). `who` names the caller in the log.
    """

    method: str
    path: Mapping[str, str]
    query: Mapping[str, Any]
    headers: Mapping[str, str]  # names are in lower case
    body: Any = None
    right: str = ""
    who: str = ""


class Answer(NamedTuple):
    """A status, a body (JSON, or bytes with their `media` type, perhaps in parts) and headers.

    `did`: the line for the log of changes; "" for a request that changed nothing.
    """

    status: int
    body: Any = None
    headers: Mapping[str, str] = {}
    media: str = "application/json"
    did: str = ""

    def content(self) -> bytes:
        """The bytes of the body; none if there is no body."""
        if self.body is None and self.status in (202, 204, 304):
            return b""
        return self.body if isinstance(self.body, bytes) else to_json(self.body)


def to_json(form: object) -> bytes:
    """A value as JSON in UTF-8; invalid text becomes an escape."""
    text = json.dumps(form, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode("utf-8", "backslashreplace")


def status_of(error: QueuectlError) -> int:
    """The HTTP status for an error of a command, by its exit code."""
    if isinstance(error, InvalidInput):
        return 422
    if isinstance(error, (NoSuchJob, NoSuchRun, NoSuchWorker)):
        return 404
    return 409 if isinstance(error, Conflict) else 503


def refusal_of(error: Exception) -> Refused:
    """Any error as an answer. An unexpected one reveals no internals."""
    if isinstance(error, Refused):
        return error
    if not isinstance(error, QueuectlError):
        return Refused(500, "queuectl failed in a way that it did not foresee; its log tells more")
    status = status_of(error)
    code = {422: "invalid_input", 404: "not_found", 409: "conflict", 503: "store_error"}[status]
    headers = {"retry-after": "1"} if status == 503 else {}
    return Refused(status, str(error), headers=headers, code=code)


def fault(detail: str, *path: object) -> dict[str, str]:
    """A fault in a part of a body; `path` leads to the part and becomes its JSON pointer."""
    names = (str(name).replace("~", "~0").replace("/", "~1") for name in path)
    return {"pointer": "".join(f"/{name}" for name in names), "detail": detail}


def wrong(faults: Sequence[Mapping[str, str]]) -> Refused:
    """The answer to a body with faults."""
    return Refused(422, faults[0]["detail"], code="invalid_input", errors=list(faults))


def problem(refused: Refused) -> Answer:
    """The error in the form of RFC 9457: `application/problem+json`."""
    form = {
        "type": "about:blank",
        "title": TITLES[refused.status],
        "status": refused.status,
        "detail": str(refused),
        "code": refused.code,
        **refused.more,
    }
    return Answer(refused.status, form, refused.headers, "application/problem+json")


def old_problem(refused: Refused) -> Answer:
    """The error in the form of the ten older endpoints."""
    form = {"status_code": refused.status, "detail": str(refused)}
    return Answer(refused.status, form, refused.headers)
