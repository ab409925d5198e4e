"""Parameters of commands that are many or shared; the rows of table.py name them."""

from __future__ import annotations

from queuectl.commands.grammar.specs import JSON, YES, Param

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MOST_WORKERS = 256


def workers(name: str, told: str, **how: Any) -> Param:
    """A parameter for a number of workers."""
    return Param(name, "count", told, high=MOST_WORKERS, **how)


def free(name: str, kind: str, told: str, **how: Any) -> Param:
    """An option for a field that a job may lack: an empty value removes it."""
    return Param(name, kind, told, clears=True, **how)


# Which jobs are meant; all given options must hold.
SELECTORS = (
    Param("--state", "state", "only jobs in this state", many=True),
    Param("--tag", "tag", "only jobs with this tag; given again, with all of them", many=True),
    Param("--match", "match", "only jobs whose id or command contains this"),
    Param("--error", "match", "only jobs whose error contains this"),
    Param("--exit-code", "int", "only jobs whose latest run ended with it"),
    Param("--since", "past", "only jobs that changed since then: 18:30, today, or 2h ago as 2h"),
    Param("--until", "past", "only jobs that last changed before then"),
    Param("--recurring", "flag", "only schedules, which run copies (--every, --cron)"),
)
# Options that make ids unnecessary.
SELECTING = tuple(param.name for param in SELECTORS)
# For commands that change jobs.
SELECT = (*SELECTORS, Param("--limit", "count", "at most this many of those, the oldest first"))
# In `update`, --state and --tag set the fields.
SELECT_TO_UPDATE = (
    Param("--in-state", "state", "only jobs in this state", many=True),
    Param("--with-tag", "tag", "only jobs with this tag", many=True),
    *SELECT[2:],
)
ORDERS = ("created", "time", "due", "id", "state", "priority", "tries", "run_time")
# How `list` and `dlq list` show jobs.
SHOWN = (
    Param("--sort", "text", f"lowest first, by {', '.join(ORDERS)}", choices=ORDERS),
    Param("--newest", "flag", "newest first, or the order of --sort reversed"),
    Param("--limit", "count", "show at most this many"),
    Param("--fields", "field", "only these, like id,state,run_time; 'help fields'", many=True),
    JSON,
    Param("--jsonl", "flag", "print JSON lines, one for each job"),
    Param("--csv", "flag", "print comma-separated values, titles first"),
    Param("--tsv", "flag", "the same with tabs; in values \\ is \\\\, a tab \\t, a newline \\n"),
    Param("--input", "flag", "with --jsonl: only what 'enqueue --file' takes back, secrets too"),
)
LISTED = (
    Param("job", "job", "id of a job, or how it begins; all if left out", many=True),
    *SELECTORS,
    *SHOWN,
)
DEAD_LISTED = (
    Param("job", "dead_job", "id of a dead job; all if left out", many=True),
    *SELECTORS[1:],
    *SHOWN,
    Param("--by", "text", "count those that ended alike", choices=("error",)),
)
# Options that set a field of the same name; `update` takes them too.
FIELDS = (
    Param("--command", "text", "what /bin/sh -c runs"),
    Param("--priority", "int", "lower runs first"),
    Param("--max-retries", "count", "runs after the first"),
    Param("--run-at", "time", "not before this time, like 18:30 or 2030-01-31T05:00:00Z"),
    Param("--delay", "duration", "not before this time has passed"),
    free("--timeout", "duration", "end a run that takes longer"),
    free("--cwd", "path", "folder to run in; the current one if left out"),
    free("--env", "text", "NAME=VALUE added to the environment", many=True),
    free("--env-file", "path", "file of NAME=VALUE lines, read at each run"),
    free("--after", "job", "start once this job is completed, or tag=T; again for more", many=True),
    free(
        "--after-end", "job", "start once this job has ended, or tag=T; again for more", many=True
    ),
    free(
        "--lock", "tag", "a name that no two running jobs hold at once; again for more", many=True
    ),
    free("--retry-delay", "duration", "wait before the first retry; --base multiplies it later"),
    free("--base", "number", "instead of the setting base, for this job", low=0, high=1e6),
    free("--max-delay", "duration", "instead of the setting max-delay, for this job"),
    free("--jitter", "number", "instead of the setting jitter, for this job", low=0, high=1),
    free("--retry-on", "text", "retry only these: exit codes, timeout, signal; like 1,75,timeout"),
    free("--no-retry-on", "text", "retry all but these; exit code 75 is put off unless it is one"),
    free("--log-limit", "text", "instead of the setting log-limit, like 5MB; none keeps all"),
)
# Among these are those that make a job a schedule.
RECURRING = (
    Param("--every", "duration", "run copies of it at this interval, like 15m", low=1),
    Param("--cron", "text", "run copies of it when the clock fits this, like '0 3 * * *'"),
    free("--tz", "text", "the time zone of --cron, like Europe/Berlin; yours if left out"),
)
_ARGV = Param("argv", "argv", "after --: a command and its arguments, unchanged")
# What `enqueue` and `run` take.
_ENQUEUED = (
    Param("--id", "text", "name of the job; made up if left out"),
    *FIELDS,
    Param("--tag", "tag", "a word to select it by; may be given again", many=True),
    Param("--no-rerun", "flag", "bury the job if its worker is lost while it runs"),
    Param("--no-notify", "flag", "run no hook at its end ('help hooks')"),
    Param("--unique", "text", "a key: refused while a live job has the same one"),
)
ENQUEUE = (
    Param("object", "object", "the job as {...}; - reads jobs from standard input"),
    *_ENQUEUED,
    *RECURRING,
    Param("--no-catch-up", "flag", "skip what is due while no worker runs"),
    Param("--overlap", "flag", "run a copy even if the one before still lives"),
    Param("--if-absent", "flag", "add nothing if a job with its id or key exists"),
    Param(
        "--replace",
        "flag",
        "replace a waiting job with its key, or wait for a running one",
    ),
    Param("--file", "path", "a file of jobs, one {...} on each line; all or none"),
    Param("--each", "path", "a .csv, .tsv or list: a job for each row; 'help each'"),
    Param("--dry-run", "flag", "only show what would be added"),
    Param("--json", "flag", "print it as JSON, with --dry-run"),
    _ARGV,
)
RUN = (*_ENQUEUED, _ARGV)
UPDATE = (
    Param("object", "object", "the fields to change, and the job's id, as {...}"),
    Param(
        "job",
        "job",
        "ids of jobs, if the object names none",
        many=True,
        unless=("object", "--id", *(param.name for param in SELECT_TO_UPDATE[:-1])),
    ),
    *SELECT_TO_UPDATE,
    Param("--id", "job", "the same, as an option"),
    *FIELDS,
    *RECURRING,
    Param("--tag", "tag", "a tag to add; may be given again", many=True),
    Param("--untag", "tag", "a tag to remove; may be given again", many=True),
    Param("--state", "state", "pending or cancelled"),
    Param("--dry-run", "flag", "only show what would be changed"),
    YES,
)
_ALLOW_ROOT = Param("--allow-root", "flag", "serve as root, and run jobs as root")
# How the page and the API are served.
SERVE = (
    Param("--host", "text", "the address to listen on", default="127.0.0.1"),
    Param("--port", "count", "the port; 0 takes any", default=8000, low=0, high=65_535),
    workers("--workers", "also start this many workers", low=0),
    Param("--read-only", "flag", "refuse every change"),
    Param("--unix", "path", "listen only on a Unix socket, without a port or token"),
    Param("--new-token", "flag", "make new tokens; the old ones become invalid"),
    Param("--no-token", "flag", "require no token; only on this machine's own address"),
    Param("--name", "text", "another name of this server", many=True),
    Param("--proxy", "text", "the address of the proxy whose headers are trusted"),
    _ALLOW_ROOT,
    Param("--open", "flag", "open the page in a browser"),
)
DASHBOARD = (
    Param("--port", "count", "of a new one; 5000 if left out", low=0, high=65_535),
    Param("--no-browser", "flag", "only print the link"),
    _ALLOW_ROOT,
)
TOP = (
    Param("--sort", "text", "the order", choices=("state", "time", "id", "priority")),
    Param("--filter", "text", "only jobs whose id, state or command contains this"),
    *SELECTORS,
)


def _named(kind: str, *instead: str) -> Param:
    told = "id of a dead job" if kind == "dead_job" else "id of the job"
    return Param("job", kind, told, required=True, many=True, unless=instead)


# The jobs for a command, by ids or a selection.
_ANY = (_named("job", *SELECTING), *SELECT)
WAIT = (
    _named("job", "--all", *SELECTING),
    Param("--all", "flag", "every job that has not ended yet"),
    *SELECT,
    Param("--timeout", "duration", "give up after this time, with exit code 124"),
)
_DEAD = (
    _named("dead_job", "--all", *SELECTING[1:]),
    Param("--all", "flag", "every dead job"),
    *SELECT[1:],
)
CANCEL = (
    _named("live_job", *SELECTING),
    *SELECT,
    Param("--abandon", "flag", "give up a run whose processes cannot be ended"),
    Param("--dry-run", "flag", "only show what would be cancelled"),
    YES,
)
_RETRIED = (
    Param("--dry-run", "flag", "only show what would be retried"),
    Param("--alone", "flag", "leave jobs dead or cancelled that fell with these"),
    YES,
)
_REMOVED = (
    Param("--older-than", "duration", "only those that ended at least this long ago"),
    Param("--logs", "flag", "remove only their output, and keep the jobs"),
    Param("--dry-run", "flag", "only show what would be removed"),
    YES,
)
LOGS = (
    *_ANY,
    Param("--follow", "flag", "go on, run after run, until the job has ended", short="-f"),
    Param("--run", "count", "the run to show, counted from 1; the latest if left out"),
    Param("--lines", "count", "only this many last lines", short="-n"),
)
RETRY = (*_ANY, *_RETRIED)
PURGE = (Param("job", "finished_job", "id of an ended job", many=True), *SELECT, *_REMOVED)
DEAD_RETRY = (*_DEAD, *_RETRIED)
DEAD_PURGE = (*_DEAD, *_REMOVED)
WORKER_START = (workers("--count", "how many", default=1, short="-n", low=1),)
WORKER_SCALE = (workers("count", "how many should run; 0 stops all", required=True, low=0),)
WORKER_RUN = (
    Param("--drain", "flag", "end when no job is left to run"),
    workers("--count", "how many jobs at a time", default=1, short="-n", low=1),
)
