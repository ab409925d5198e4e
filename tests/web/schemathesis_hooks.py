"""What `st run` must know of this API: SCHEMATHESIS_HOOKS=tests.web.schemathesis_hooks."""

from __future__ import annotations

from typing import Any

import schemathesis


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    """To JSON Schema 5.0 is an integer; here it is a fraction, and refused on purpose.

    A lock-timeout of 0 would make the queue too busy for all that follow: it is left as it is.
    """
    if isinstance(body, dict):
        body = {name: value for name, value in body.items() if name != "lock-timeout"}
        if body.get("key") == "lock-timeout":
            body["key"] = "base"
        return {name: map_body(context, value) for name, value in body.items()}
    if isinstance(body, list):
        return [map_body(context, value) for value in body]
    return int(body) if isinstance(body, float) and body.is_integer() else body


@schemathesis.hook
def map_query(context: Any, query: Any) -> Any:
    """A cursor is opaque: nobody but the server can make one."""
    return {k: v for k, v in query.items() if k != "cursor"} if isinstance(query, dict) else query


@schemathesis.hook
def map_headers(context: Any, headers: Any) -> Any:
    """Which ETag a job has only an earlier answer tells; `*` is that of any."""
    return {**headers, "If-Match": "*"} if isinstance(headers, dict) else headers
