"""The single table of routes: it checks requests, and the reference is made from it."""

from __future__ import annotations

from collections.abc import Collection

from queuectl.commands.params import MOST_WORKERS
from queuectl.commands.selecting import ABLE, USUAL
from queuectl.config import MOST_AT_ONCE
from queuectl.model.fields import STATES
from queuectl.web import jobs_api, queue_api
from queuectl.web.jobs_api import LIGHT_MORE, MOST_OUTPUT
from queuectl.web.mirror import ORDERS
from queuectl.web.old_routes import OLD
from queuectl.web.routes import Member, Route, row

_FILTERS = (
    Member("state", "state", "only jobs in this state", many=True, choices=STATES),
    Member("tag", "text", "only jobs with this tag", many=True),
    Member("q", "text", "part of the id or the command"),
    Member("error", "text", "part of the error"),
    Member("exit_code", "int", "of the latest run", low=-(1 << 31), high=1 << 31),
    Member("since", "time", "changed not before this time"),
    Member("until", "time", "changed not after this time"),
)
_EXPECT = (
    Member("expect", "int", "how many jobs to change; refused if there are more or fewer"),
    Member("dry_run", "flag", "only say how many, and which"),
)


def _bulk(able: Collection[str], usual: Collection[str] = ()) -> tuple[Member, ...]:
    """Members that select jobs in some states; `usual`: the states meant by default."""
    told = f"jobs in these states; {' and '.join(usual)} if no ids are given either"
    return (
        Member("ids", "texts", "these jobs"),
        Member(
            "state",
            "states",
            told if usual else "jobs in these states",
            choices=tuple(state for state in STATES if state in able),
        ),
        Member("tag", "texts", "jobs with all these tags"),
        *(member for member in _FILTERS if member.name not in ("state", "tag")),
        *_EXPECT,
    )


_LIST = (
    *_FILTERS,
    Member("sort", "text", "the order", choices=tuple(ORDERS)),
    Member("limit", "int", "jobs of a page, 50 if left out", low=1, high=200),
    Member("cursor", "text", "where the page begins, from the page before"),
    Member("fields", "text", "another field of each job", many=True, choices=LIGHT_MORE),
    Member("wait", "duration", "with If-None-Match: wait this long for a change", low=0, high=60),
)
_WAIT = (_LIST[-1],)
_NO_PARENT = "there is no such job to wait for"
_MEETING = (
    Member(
        "on_conflict",
        "text",
        "if a job with its id or key is there, keep that one; replace a waiting one with its key",
        choices=("keep", "replace"),
    ),
)
_OF_THE_DEAD = (
    Member("group", "text", "the jobs of this group"),
    Member("ids", "texts", "these jobs"),
    Member("all", "flag", "all of them"),
    *_EXPECT,
)
_LOGS = (
    Member("run", "int", "the run, counted from 1; the latest if left out", low=1, high=1 << 31),
    Member("offset", "int", "first byte; negative counts from the end", low=-(1 << 53)),
    Member("limit", "int", "bytes", low=1, high=MOST_OUTPUT),
)
_EVENTS = (
    Member("since", "text", "the position after which changes are sent"),
    Member("log", "text", "also follow the output of this job"),
    Member("run", "int", "of this run; the latest if left out", low=1, high=1 << 31),
    Member("offset", "int", "from this byte on", low=0),
    Member("max", "int", "end after this many events", low=1, high=1_000_000),
    Member("timeout", "duration", "end after this time", low=0, high=86_400),
)
_TAGS = (Member("tags", "tags", "these tags; the whole queue if left out"),)
_GUARDS = {
    200: "the job as it is now",
    404: "no such job",
    409: "its state does not allow it",
    412: "it changed meanwhile",
}
_TOUCHED = {200: "the changed jobs", 409: "other jobs are selected now", 428: "expect is missing"}

ROUTES: tuple[Route, ...] = (
    row("GET /access", "access", queue_api.access, "What the caller may do here", result="Access"),
    row(
        "GET /status",
        "status",
        queue_api.status,
        "Counts by state, workers, health",
        _WAIT,
        answers={200: "the status", 304: "nothing changed"},
        result="Status",
        command="status",
    ),
    row(
        "GET /stats",
        "stats",
        queue_api.stats,
        "Counts, failures, waiting and run times, and the last hour",
        answers={200: "the figures", 304: "nothing changed"},
        result="Stats",
        command="stats",
    ),
    row(
        "GET /jobs",
        "listJobs",
        jobs_api.list_jobs,
        "A page of jobs",
        _LIST,
        answers={200: "the page", 304: "nothing changed"},
        result="JobList",
        command="list",
    ),
    row(
        "POST /jobs",
        "createJob",
        jobs_api.create,
        "Enqueue a job",
        _MEETING,
        body="job",
        answers={
            200: "the existing job: its Idempotency-Key was used, or it has the id or key",
            201: "the job",
            404: _NO_PARENT,
            409: "a job with this id or key exists",
            412: "the same, with If-None-Match",
        },
        result="Job",
        command="enqueue",
    ),
    row(
        "POST /jobs/batch",
        "createJobs",
        jobs_api.create_many,
        "Enqueue many jobs, all or none",
        _MEETING,
        body="jobs",
        answers={
            201: "the jobs in their order",
            404: _NO_PARENT,
            409: "a job with one of the ids exists",
        },
        result="JobBatch",
        command="enqueue --file",
    ),
    row(
        "POST /jobs/check",
        "checkJob",
        jobs_api.check,
        "Check the fields of a job; adds nothing",
        body="any",
        answers={200: "what is wrong with it"},
        result="Check",
        right="read",
    ),
    row(
        "POST /jobs/retry",
        "retryJobs",
        jobs_api.bulk("retry"),
        "Run all selected jobs again",
        body=_bulk(ABLE["retry"], USUAL["retry"]),
        answers=_TOUCHED,
        result="Touched",
        command="retry",
    ),
    row(
        "POST /jobs/update",
        "changeJobs",
        jobs_api.change_many,
        "Change fields of all selected jobs",
        body=(
            *_bulk(STATES),
            Member("set", "changes", "the fields, except command, env and cwd"),
            Member("add_tags", "tags", "tags to add to their own"),
            Member("drop_tags", "tags", "tags to remove"),
        ),
        answers={**_TOUCHED, 404: _NO_PARENT},
        result="Touched",
        command="update",
    ),
    row(
        "POST /jobs/cancel",
        "cancelJobs",
        jobs_api.bulk("cancel"),
        "Cancel all selected jobs",
        body=_bulk(ABLE["cancel"]),
        answers=_TOUCHED,
        result="Touched",
        command="cancel",
    ),
    row(
        "POST /jobs/purge",
        "purgeJobs",
        jobs_api.bulk("purge"),
        "Remove all selected jobs that have ended",
        body=(
            *_bulk(ABLE["purge"], USUAL["purge"]),
            Member("older_than", "duration", "only those that ended at least this long ago"),
        ),
        answers=_TOUCHED,
        result="Touched",
        command="purge",
    ),
    row(
        "GET /jobs/{id}",
        "getJob",
        jobs_api.show,
        "All of a job",
        answers={200: "the job", 304: "it has not changed", 404: "no such job"},
        result="Job",
        command="show",
    ),
    row(
        "PATCH /jobs/{id}",
        "changeJob",
        jobs_api.change,
        "Change fields of a job",
        body="changes",
        answers={**_GUARDS, 428: "changes of command, env and cwd need If-Match"},
        result="Job",
        command="update",
    ),
    row(
        "DELETE /jobs/{id}",
        "removeJob",
        jobs_api.remove,
        "Remove an ended job for good",
        answers={204: "it is gone", **{s: t for s, t in _GUARDS.items() if s != 200}},
        command="purge",
    ),
    row(
        "POST /jobs/{id}/retry",
        "retryJob",
        jobs_api.retry,
        "Run a job again",
        answers=_GUARDS,
        result="Job",
        command="retry",
    ),
    row(
        "POST /jobs/{id}/cancel",
        "cancelJob",
        jobs_api.cancel,
        "Cancel a job; a running one is ended by its worker",
        (Member("abandon", "flag", "give up a run whose processes cannot be ended"),),
        answers=_GUARDS,
        result="Job",
        command="cancel",
    ),
    row(
        "GET /jobs/{id}/env",
        "getVariables",
        jobs_api.variables,
        "The variables of a job, with their values",
        answers={200: "the variables", 404: "no such job"},
        result="Variables",
        right="full",
    ),
    row(
        "GET /jobs/{id}/explain",
        "explainJob",
        jobs_api.explain,
        "Why a job has not run yet, or ended as it did",
        answers={200: "the reasons", 404: "no such job"},
        result="Explanation",
        command="explain",
    ),
    row(
        "GET /jobs/{id}/logs",
        "getLogs",
        jobs_api.logs,
        "A part of a run's output",
        _LOGS,
        answers={
            200: "the part",
            206: "the Range",
            404: "no such job or run",
            416: "it is shorter",
        },
        kind="text",
        command="logs",
    ),
    row(
        "GET /jobs/{id}/logs/find",
        "findInLogs",
        jobs_api.find_in_logs,
        "Where a run's output contains a text",
        (
            Member(
                "q", "text", "the text; the case of ASCII letters does not matter", required=True
            ),
            _LOGS[0],
            Member("offset", "int", "the byte to begin at, 0 if left out", low=0),
            Member("back", "flag", "search before that byte, and return the last hit"),
        ),
        answers={200: "the byte at which it begins, or null", 404: "no such job or run"},
        result="Found",
    ),
    row(
        "GET /dlq/groups",
        "listDeadGroups",
        queue_api.dead_groups,
        "Dead jobs by cause",
        answers={200: "the groups", 304: "nothing changed"},
        result="Groups",
        command="dlq list",
    ),
    row(
        "POST /dlq/retry",
        "retryDead",
        queue_api.touch_dead("retry_dead"),
        "Put dead jobs back: a group, some, or all",
        body=_OF_THE_DEAD,
        answers=_TOUCHED,
        result="Touched",
        command="dlq retry",
    ),
    row(
        "POST /dlq/purge",
        "removeDead",
        queue_api.touch_dead("purge"),
        "Remove dead jobs for good: a group, some, or all",
        body=_OF_THE_DEAD,
        answers=_TOUCHED,
        result="Touched",
        command="dlq purge",
    ),
    row(
        "GET /workers",
        "listWorkers",
        queue_api.list_workers,
        "The workers and what they run",
        result="Workers",
        command="worker list",
    ),
    row(
        "POST /workers",
        "startWorkers",
        queue_api.start_workers,
        "Start workers in the background",
        body=(Member("count", "int", "how many; 1 if left out", low=1, high=MOST_WORKERS),),
        answers={202: "they run"},
        result="Started",
        command="worker start",
    ),
    row(
        "POST /workers/stop",
        "stopWorkers",
        queue_api.stop_workers,
        "Tell workers to stop, each once it has finished its job",
        body=(
            Member("workers", "texts", "ids or pids; all if left out"),
            Member("now", "flag", "end the running jobs; they are queued again, no attempt spent"),
            Member("all_hosts", "flag", "also ask those of other hosts (a queue in MongoDB)"),
        ),
        answers={202: "they were told", 404: "no such worker"},
        result="Pids",
        command="worker stop",
    ),
    row(
        "POST /workers/scale",
        "scaleWorkers",
        queue_api.scale_workers,
        "Start or stop workers until this many run; idle ones are stopped first",
        body=(Member("count", "int", "how many", required=True, high=MOST_WORKERS),),
        answers={202: "some were started or told to stop"},
        result="Scaled",
        command="worker scale",
    ),
    row(
        "POST /pause",
        "pause",
        queue_api.pause,
        "Let no job start, or none with a tag; running jobs go on",
        body=_TAGS,
        result="Paused",
        command="pause",
    ),
    row(
        "POST /resume",
        "resume",
        queue_api.resume,
        "Let jobs start again",
        body=_TAGS,
        answers={200: "what is still paused", 409: "that is not paused"},
        result="Paused",
        command="resume",
    ),
    row(
        "GET /limits",
        "listLimits",
        queue_api.limits,
        "The tags with a limit, and how many jobs with each run",
        result="Limits",
        command="limit",
    ),
    row(
        "PUT /limits",
        "changeLimit",
        queue_api.limit,
        "Limit how many jobs with a tag run at once",
        body=(
            Member("tag", "tag", "the tag", required=True),
            Member("most", "int", "any number if left out", low=1, high=MOST_AT_ONCE),
        ),
        result="Limits",
        command="limit",
    ),
    row(
        "POST /checkpoint",
        "checkpoint",
        queue_api.checkpoint,
        "Write all changes into jobs.json and dlq.json now",
        result="Ok",
        command="checkpoint",
    ),
    row(
        "GET /doctor",
        "doctor",
        queue_api.doctor,
        "What is wrong with the queue's folder; mends nothing",
        result="Doctor",
        command="doctor",
    ),
    row(
        "GET /config",
        "getConfig",
        queue_api.config,
        "All settings",
        result="Config",
        command="config get",
    ),
    row(
        "PATCH /config",
        "changeConfig",
        queue_api.change_config,
        "Change settings; null goes back to the default",
        body="settings",
        result="Config",
        command="config set",
    ),
    row(
        "GET /events",
        "events",
        None,
        "Changes as they happen: server-sent events",
        _EVENTS,
        answers={200: "the events", 404: "no such job"},
        kind="stream",
    ),
    row(
        "GET /metrics", "metrics", queue_api.metrics, "Metrics for Prometheus", kind="text", base=""
    ),
    Route("GET", "/healthz", "healthz", "", queue_api.health, "That the server runs", result="Ok"),
    *OLD,
)
