"""Rows of route_table.py: what holds for the whole queue."""

from __future__ import annotations

from queuectl.commands.params import MOST_WORKERS
from queuectl.config import MOST_AT_ONCE
from queuectl.web import queue_api
from queuectl.web.routes import V1, Member, Route

_TAGS = (Member("tags", "tags", "these tags; the whole queue if left out"),)

QUEUE = (
    Route(
        "POST",
        f"{V1}/workers/scale",
        "scaleWorkers",
        "full",
        queue_api.scale_workers,
        "Start or stop workers until so many run; idle ones are stopped first",
        body=(Member("count", "int", "how many", required=True, high=MOST_WORKERS),),
        answers={202: "some start, or were told to stop"},
        result="Scaled",
        command="worker scale",
    ),
    Route(
        "POST",
        f"{V1}/pause",
        "pause",
        "full",
        queue_api.pause,
        "Let no job start, or none with a tag; what runs goes on",
        body=_TAGS,
        result="Paused",
        command="pause",
    ),
    Route(
        "POST",
        f"{V1}/resume",
        "resume",
        "full",
        queue_api.resume,
        "Let jobs start again",
        body=_TAGS,
        answers={200: "what is paused still", 409: "that is not paused"},
        result="Paused",
        command="resume",
    ),
    Route(
        "GET",
        f"{V1}/limits",
        "listLimits",
        "read",
        queue_api.limits,
        "The tags that have a limit, and how many jobs with each run",
        result="Limits",
        command="limit",
    ),
    Route(
        "PUT",
        f"{V1}/limits",
        "changeLimit",
        "full",
        queue_api.limit,
        "Bound how many jobs with a tag run at once",
        body=(
            Member("tag", "tag", "the tag", required=True),
            Member("most", "int", "any number if left out", low=1, high=MOST_AT_ONCE),
        ),
        result="Limits",
        command="limit",
    ),
    Route(
        "POST",
        f"{V1}/checkpoint",
        "checkpoint",
        "full",
        queue_api.checkpoint,
        "Write all changes into jobs.json and dlq.json now",
        result="Ok",
        command="checkpoint",
    ),
    Route(
        "GET",
        f"{V1}/doctor",
        "doctor",
        "read",
        queue_api.doctor,
        "What is wrong with the queue's folder; nothing is mended",
        result="Doctor",
        command="doctor",
    ),
)
