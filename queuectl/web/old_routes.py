"""Rows of route_table.py: the ten endpoints of an earlier tool."""

from __future__ import annotations

from functools import partial

from queuectl.commands.params import MOST_WORKERS
from queuectl.model.fields import STATES
from queuectl.web import legacy
from queuectl.web.routes import Member, row

_OLD_START = "curl -H @TOKENFILE http://HOST/worker/start"
_PAGE_HAS = (
    "The page has a button for it; a program sends the token, as in: {} (or use 'queuectl {}')."
)
_old = partial(row, base="", kind="old")

OLD = (
    _old(
        "POST /enqueue",
        "oldEnqueue",
        legacy.enqueue,
        "Enqueue a job",
        body="job",
        answers={
            200: "its id",
            404: "there is no such job to wait for",
            409: "a job with this id exists",
        },
    ),
    _old(
        "GET /list",
        "oldList",
        legacy.list_jobs,
        "The jobs, or those in a state",
        query=(
            Member("state", "state", "only jobs in this state", choices=STATES),
            Member("limit", "int", "at most this many", low=1),
        ),
    ),
    _old(
        "PUT /update",
        "oldUpdate",
        legacy.update,
        "Change a job",
        body="update",
        answers={200: "it is changed", 404: "no such job", 409: "its state does not allow it"},
    ),
    _old(
        "GET /worker/start",
        "oldStart",
        legacy.start_workers,
        "Start workers",
        query=(Member("num_workers", "int", "how many; 1 if left out", low=1, high=MOST_WORKERS),),
        acts=True,
        advice=_PAGE_HAS.format(_OLD_START, "worker start"),
    ),
    _old(
        "GET /worker/stop",
        "oldStop",
        legacy.stop_workers,
        "Stop all workers",
        acts=True,
        advice=_PAGE_HAS.format(_OLD_START.replace("start", "stop"), "worker stop"),
    ),
    _old("GET /status", "oldStatus", legacy.status, "The status of the queue"),
    _old("GET /dlq/list", "oldDead", legacy.dlq_list, "The dead jobs"),
    _old(
        "POST /dlq/retry",
        "oldRetry",
        legacy.dlq_retry,
        "Put a dead job back",
        query=(Member("job_id", "text", "its id", required=True),),
        answers={200: "it waits again", 404: "no such job", 409: "it is not dead"},
    ),
    _old(
        "GET /config/get",
        "oldConfigGet",
        legacy.config_get,
        "One setting",
        query=(Member("key", "text", "its name", required=True),),
    ),
    _old(
        "POST /config/set",
        "oldConfigSet",
        legacy.config_set,
        "Change a setting",
        body=(
            Member("key", "text", "its name", required=True),
            Member("value", "value", "its new value", required=True),
        ),
    ),
)
