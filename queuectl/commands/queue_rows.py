"""Rows of table.py: commands about what holds for the whole queue."""

from __future__ import annotations

from queuectl.commands.grammar.specs import CommandSpec, Param
from queuectl.commands.params import JSON, YES

GATE = (
    CommandSpec(
        words=("pause",),
        summary="Let no job start, or none with a tag; what runs goes on.",
        params=(Param("tag", "tag", "a tag; the whole queue if left out", many=True), JSON),
        handler="queuectl.commands.handlers.gate:pause",
        examples=("pause", "pause gpu"),
        details="Once it has answered nothing starts, whatever worker was about to.",
        access="write",
    ),
    CommandSpec(
        words=("resume",),
        summary="Let jobs start again after a pause.",
        params=(Param("tag", "tag", "a paused tag; the whole queue if left out", many=True), JSON),
        handler="queuectl.commands.handlers.gate:resume",
        examples=("resume", "resume gpu"),
        details="Tags that were paused by name stay paused until they are named here.",
        access="write",
    ),
    CommandSpec(
        words=("limit",),
        summary="Bound how many jobs with a tag run at once, or show that.",
        params=(
            Param("tag", "tag", "the tag; all that have a limit if left out"),
            Param("number", "text", "the most that may run at once, or none; shown if left out"),
            JSON,
        ),
        handler="queuectl.commands.handlers.gate:limit",
        examples=("limit gpu 2", "limit", "limit gpu none"),
        details=(
            "Each of them gets a number from 0 on that no other has, in QUEUECTL_SLOT_GPU for the "
            "tag gpu. A limit below what runs ends nothing."
        ),
        access="write",
    ),
)
CONFIG = (
    CommandSpec(
        words=("config", "get"),
        aliases=(("config-get",),),
        summary="Show one setting, or all of them.",
        params=(Param("setting", "setting", "name of the setting; all if left out"), JSON),
        handler="queuectl.commands.handlers.settings:config_get",
        examples=("config get", "config get base", "config get --json"),
        access="read",
    ),
    CommandSpec(
        words=("config", "set"),
        aliases=(("config-set",),),
        summary="Change a setting.",
        params=(
            Param("setting", "setting", "name of the setting", required=True),
            Param("value", "setting_value", "its new value", required=True),
            JSON,
        ),
        handler="queuectl.commands.handlers.settings:config_set",
        examples=("config set max-retries 5", "config set base 3", "config set timeout 5m"),
        access="write",
    ),
    CommandSpec(
        words=("config", "unset"),
        aliases=(("config-unset",),),
        summary="Put a setting back to its default.",
        params=(Param("setting", "setting", "name of the setting", required=True), JSON),
        handler="queuectl.commands.handlers.settings:config_unset",
        examples=("config unset max-retries",),
        access="write",
    ),
)
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
