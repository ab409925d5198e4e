"""What `st run` must know of this API: SCHEMATHESIS_HOOKS=tests.web.schemathesis_hooks."""

from __future__ import annotations

from typing import Any

import schemathesis


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    """To JSON Schema 5.0 is an integer; here it is a fraction, and refused on purpose."""
    if isinstance(body, dict):
        return {name: map_body(context, value) for name, value in body.items()}
    if isinstance(body, list):
        return [map_body(context, value) for value in body]
    return int(body) if isinstance(body, float) and body.is_integer() else body


@schemathesis.hook
def map_query(context: Any, query: Any) -> Any:
    """A cursor is opaque: nobody but the server can make one."""
    return {k: v for k, v in query.items() if k != "cursor"} if isinstance(query, dict) else query
