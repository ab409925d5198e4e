"""Commands that only the shell has, as rows of the same table; the shell is in their context."""

from __future__ import annotations

from typing import Any

from queuectl.commands.context import Context
from queuectl.commands.dispatch import Result
from queuectl.commands.grammar.specs import CommandSpec, Param
from queuectl.commands.table import COMMANDS

NOTIFY = ("on", "off", "dead")
MODES = ("emacs", "vi")

OWN_ROWS = (
    CommandSpec(
        words=("notify",),
        summary="Tell when jobs enqueued in this shell end: on, off, or dead ones only.",
        params=(Param("when", "text", "what to tell; shows it if left out", choices=NOTIFY),),
        handler="queuectl.shell.own_commands:notify",
        examples=("notify off", "notify dead"),
        access="none",
    ),
    CommandSpec(
        words=("keys",),
        summary="Choose the keys for editing the line: emacs or vi (F4 changes it too).",
        params=(Param("mode", "text", "the keys; shows them if left out", choices=MODES),),
        handler="queuectl.shell.own_commands:keys",
        examples=("keys vi",),
        access="none",
    ),
    CommandSpec(
        words=("source",),
        summary="Run the commands in a file, as if they were typed; goes on after an error.",
        params=(Param("file", "path", "a script; ~ is your home", required=True),),
        handler="queuectl.shell.own_commands:source",
        examples=("source nightly.txt",),
        access="none",
    ),
    CommandSpec(
        words=("alias",),
        summary="Let a word stand for the front of a line; list such words.",
        params=(
            Param("name", "alias", "the word; all are listed if left out"),
            Param("command", "front", "what it stands for; shown if left out"),
        ),
        handler="queuectl.shell.own_commands:alias",
        examples=("alias bad list --state failed,dead", "alias go enqueue {priority: -5} --"),
        details=(
            "It holds for this session; as a line of $XDG_CONFIG_HOME/queuectl/shellrc or "
            "~/.config/queuectl/shellrc for every one. No alias hides a command. "
            "One for another alias stands for what that stands for now."
        ),
        access="none",
    ),
    CommandSpec(
        words=("unalias",),
        summary="Forget an alias.",
        params=(Param("name", "alias", "the word", required=True),),
        handler="queuectl.shell.own_commands:unalias",
        examples=("unalias bad",),
        access="none",
    ),
    CommandSpec(
        words=("exit",),
        summary="Leave the shell; workers and jobs go on.",
        handler="queuectl.shell.own_commands:leave",
        aliases=(("quit",),),
        access="none",
    ),
)
SHELL_COMMANDS = (*COMMANDS, *OWN_ROWS)


def notify(context: Context, args: dict[str, Any]) -> Result:
    """Change or show which notices are shown."""
    notices = context.shell.notices
    if args["when"]:
        notices.mode = args["when"]
    return _told(context, args["when"], f"Notices are {_TOLD[notices.mode]}.")


_TOLD = {"on": "on", "off": "off", "dead": "shown for dead jobs only"}


def keys(context: Context, args: dict[str, Any]) -> Result:
    """Change or show the editing keys."""
    prompt = context.shell.prompt
    if args["mode"]:
        prompt.set_keys(args["mode"])
    return _told(context, args["mode"], f"Keys are those of {prompt.keys}.")


def _told(context: Context, changed: str | None, how: str) -> Result:
    """The present value; without a line for a change made in a file, whose reader knows it."""
    return Result([] if changed and context.prefix else [how])


def source(context: Context, args: dict[str, Any]) -> Result:
    """Run the commands of a file; mistakes are shown with their line."""
    return Result(code=context.shell.run_file(args["file"]))


def alias(context: Context, args: dict[str, Any]) -> Result:
    """Define or show an alias, or show all, as lines that define them."""
    name, front, aliases = args["name"], args["command"], context.shell.aliases
    if name and front:
        aliases.define(name, front)
        return Result()
    shown = [(name, aliases[name])] if name else aliases.items()
    return Result(f"alias {word} {stands_for}" for word, stands_for in shown)


def unalias(context: Context, args: dict[str, Any]) -> Result:
    """Forget an alias."""
    context.shell.aliases.remove(args["name"])
    return Result()


def leave(context: Context, args: dict[str, Any]) -> Result:
    """End the session."""
    context.shell.leaving = True
    return Result()
