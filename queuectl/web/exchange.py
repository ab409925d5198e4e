"""What goes in and out of a request's handler: `Call`, `Answer`, and `Refused`."""

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
    """A request is answered with an error status; `str` of it is what a person reads."""

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
    """One request. `query` holds what the route declares, each as it was checked.

    `right` is "full", "read" or "" (no token was asked for or given). `who` names the caller in
    the log.
    """

    method: str
    path: Mapping[str, str]
    query: Mapping[str, Any]
    headers: Mapping[str, str]  # names in lower case
    body: Any = None
    right: str = ""
    who: str = ""


class Answer(NamedTuple):
    """A status, a body (JSON, or bytes with their `media` type, also in parts) and headers.

    `did` is what goes into the log of changes: empty for a request that changed nothing.
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
    """A value as JSON in UTF-8; what is not valid text leaves as an escape."""
    text = json.dumps(form, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode("utf-8", "backslashreplace")


def status_of(error: QueuectlError) -> int:
    """The HTTP status of an error of a command: its exit code decides."""
    if isinstance(error, InvalidInput):
        return 422
    if isinstance(error, (NoSuchJob, NoSuchRun, NoSuchWorker)):
        return 404
    return 409 if isinstance(error, Conflict) else 503


def refusal_of(error: Exception) -> Refused:
    """Any error as an answer. One that is not ours tells nothing of our insides."""
    if isinstance(error, Refused):
        return error
    if not isinstance(error, QueuectlError):
        return Refused(500, "queuectl failed in a way that it did not foresee; its log tells more")
    status = status_of(error)
    code = {422: "invalid_input", 404: "not_found", 409: "conflict", 503: "store_error"}[status]
    headers = {"retry-after": "1"} if status == 503 else {}
    return Refused(status, str(error), headers=headers, code=code)


def fault(detail: str, *path: object) -> dict[str, str]:
    """What is wrong with a part of a body; `path` leads to it and becomes its JSON pointer."""
    names = (str(name).replace("~", "~0").replace("/", "~1") for name in path)
    return {"pointer": "".join(f"/{name}" for name in names), "detail": detail}


def wrong(faults: Sequence[Mapping[str, str]]) -> Refused:
    """The answer to a body with faults."""
    return Refused(422, faults[0]["detail"], code="invalid_input", errors=list(faults))


def problem(refused: Refused) -> Answer:
    """The error as RFC 9457 has it: `application/problem+json`."""
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
    """The error as the ten older endpoints have it."""
    form = {"status_code": refused.status, "detail": str(refused)}
    return Answer(refused.status, form, refused.headers)
