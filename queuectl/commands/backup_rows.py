"""The commands for a whole queue: `backup`, `restore`, `copy`; rows of table.py."""

from __future__ import annotations

from queuectl.commands.grammar.specs import CommandSpec, Param
from queuectl.commands.params import YES

BACKUPS = (
    CommandSpec(
        words=("backup",),
        summary="Copy jobs and settings into one file, while workers run.",
        params=(
            Param("file", "path", "the file to write; - for standard output", required=True),
            Param("--force", "flag", "overwrite the file if it is there"),
        ),
        handler="queuectl.commands.handlers.backups:backup",
        examples=("backup queue.jsonl", "backup -"),
        details="One JSON object a line: settings, jobs, checksum. The jobs' output is not in it.",
        access="read",
    ),
    CommandSpec(
        words=("restore",),
        summary="Put a backup into an empty queue.",
        params=(
            Param("file", "path", "the backup; - for standard input", required=True),
            Param("--replace", "flag", "put it in the place of the jobs there; they are kept"),
            YES,
        ),
        handler="queuectl.commands.handlers.backups:restore",
        examples=("restore queue.jsonl --replace --yes",),
        details=(
            "All of it or nothing. Jobs that were running are pending again, with nothing spent. "
            "What is replaced is first written to a backup of its own in the data folder."
        ),
        access="write",
    ),
    CommandSpec(
        words=("copy",),
        summary="Copy a whole queue from one folder or database to another.",
        params=(
            Param("from", "path", "a data folder, URL or @FILE; it stays as it is", required=True),
            Param("to", "path", "the same, of a queue that holds no jobs", required=True),
            Param("--move", "flag", "take the jobs and their output away where they came from"),
        ),
        handler="queuectl.commands.handlers.copying:copy",
        examples=("copy ./data @queue-url", "copy mongodb://db1/jobs ~/jobs --move"),
        details=(
            "Workers must be stopped in both. What was cut short is done by the same line again."
        ),
        access="none",
    ),
)
