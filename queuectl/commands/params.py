"""Parameters that several commands share; the rows of table.py take them in."""

from __future__ import annotations

from queuectl.commands.grammar.specs import Param

ORDERS = ("created", "time", "due", "id", "state", "priority", "tries")
# How `list` and `dlq list` show jobs.
SHOWN = (
    Param("--sort", "text", "the order, oldest or lowest first", choices=ORDERS),
    Param("--newest", "flag", "newest first, or the order of --sort turned round"),
    Param("--limit", "count", "show at most so many"),
    Param("--fields", "field", "only these, like id,state,run_time; 'help fields'", many=True),
    Param("--json", "flag", "print JSON; docs/json.md describes it"),
    Param("--jsonl", "flag", "print JSON, a job a line"),
    Param("--csv", "flag", "print comma-separated values, titles first"),
    Param("--tsv", "flag", "the same with tabs between; those in values as \\t, \\n, \\\\"),
    Param("--input", "flag", "with --jsonl: only what 'enqueue --file' takes back, secrets too"),
)
# Options that set a field of the same name; `update` takes them too.
FIELDS = (
    Param("--command", "text", "what /bin/sh -c runs"),
    Param("--priority", "int", "lower runs first"),
    Param("--max-retries", "count", "runs after the first"),
    Param("--run-at", "time", "not before this time, like 18:30 or 2030-01-31T05:00:00Z"),
    Param("--delay", "duration", "not before so long from now"),
    Param("--timeout", "duration", "end a run that takes longer"),
    Param("--cwd", "path", "folder to run in; the present one if left out"),
    Param("--env", "text", "NAME=VALUE added to the environment", many=True),
    Param("--env-file", "path", "file of NAME=VALUE lines, read at each run"),
    Param("--retry-delay", "duration", "wait before the first retry; --base multiplies it then"),
    Param("--base", "number", "instead of the setting base, for this job", low=0, high=1e6),
    Param("--max-delay", "duration", "instead of the setting max-delay, for this job"),
    Param("--jitter", "number", "instead of the setting jitter, for this job", low=0, high=1),
    Param("--retry-on", "text", "retry only these: exit codes, timeout, signal; like 1,75,timeout"),
    Param("--no-retry-on", "text", "retry all but these"),
)
