"""Rows of table.py: commands about what holds for the whole queue."""

from __future__ import annotations

from queuectl.commands.grammar.specs import CommandSpec, Param
from queuectl.commands.params import JSON

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
