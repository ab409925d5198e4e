"""Rows of route_table.py: the ten endpoints of an earlier tool."""

from __future__ import annotations

from typing import Any

from queuectl.commands.params import MOST_WORKERS
from queuectl.model.fields import STATES
from queuectl.web import legacy
from queuectl.web.routes import Handler, Member, Route

_OLD_START = "curl -H @TOKENFILE http://HOST/worker/start"
_PAGE_HAS = (
    "The page has a button for it; a program sends the token, as in: {} (or use 'queuectl {}')."
)


def _old(
    method: str, path: str, name: str, right: str, handler: Handler, told: str, **more: Any
) -> Route:
    return Route(method, path, name, right, handler, told, kind="old", **more)


OLD = (
    _old(
        "POST",
        "/enqueue",
        "oldEnqueue",
        "full",
        legacy.enqueue,
        "Hand in a job",
        body="job",
        answers={
            200: "its id",
            404: "there is no such job to wait for",
            409: "there is a job with this id",
        },
    ),
    _old(
        "GET",
        "/list",
        "oldList",
        "read",
        legacy.list_jobs,
        "The jobs, or those in a state",
        query=(
            Member("state", "state", "only jobs in this state", choices=STATES),
            Member("limit", "int", "at most so many", low=1),
        ),
    ),
    _old(
        "PUT",
        "/update",
        "oldUpdate",
        "full",
        legacy.update,
        "Change a job",
        body="update",
        answers={200: "it is changed", 404: "no such job", 409: "its state does not allow it"},
    ),
    _old(
        "GET",
        "/worker/start",
        "oldStart",
        "full",
        legacy.start_workers,
        "Start workers",
        query=(Member("num_workers", "int", "how many; 1 if left out", low=1, high=MOST_WORKERS),),
        acts=True,
        advice=_PAGE_HAS.format(_OLD_START, "worker start"),
    ),
    _old(
        "GET",
        "/worker/stop",
        "oldStop",
        "full",
        legacy.stop_workers,
        "Stop all workers",
        acts=True,
        advice=_PAGE_HAS.format(_OLD_START.replace("start", "stop"), "worker stop"),
    ),
    _old("GET", "/status", "oldStatus", "read", legacy.status, "How the queue stands"),
    _old("GET", "/dlq/list", "oldDead", "read", legacy.dlq_list, "The dead jobs"),
    _old(
        "POST",
        "/dlq/retry",
        "oldRetry",
        "full",
        legacy.dlq_retry,
        "Put a dead job back",
        query=(Member("job_id", "text", "its id", required=True),),
        answers={200: "it is back", 404: "no such job", 409: "it is not dead"},
    ),
    _old(
        "GET",
        "/config/get",
        "oldConfigGet",
        "read",
        legacy.config_get,
        "One setting",
        query=(Member("key", "text", "its name", required=True),),
    ),
    _old(
        "POST",
        "/config/set",
        "oldConfigSet",
        "full",
        legacy.config_set,
        "Change a setting",
        body=(
            Member("key", "text", "its name", required=True),
            Member("value", "value", "its new value", required=True),
        ),
    ),
)
