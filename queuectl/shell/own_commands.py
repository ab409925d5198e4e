"""Commands that only the shell has, as rows of the same table; their handlers get the shell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from queuectl.commands.grammar.reading import CommandSpec, Param
from queuectl.commands.table import COMMANDS

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from queuectl.shell.session import Shell

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
        examples=("exit",),
        access="none",
    ),
)
SHELL_COMMANDS = (*COMMANDS, *OWN_ROWS)


def notify(shell: Shell, args: dict[str, Any]) -> int:
    """What notices are shown, changed or told."""
    if args.get("when"):
        shell.notices.mode = args["when"]
    _tell(shell, args.get("when"), f"Notices are {_TOLD[shell.notices.mode]}.")
    return 0


_TOLD = {"on": "on", "off": "off", "dead": "shown for dead jobs only"}


def keys(shell: Shell, args: dict[str, Any]) -> int:
    """The editing keys, changed or told."""
    if args.get("mode"):
        shell.prompt.set_keys(args["mode"])
    _tell(shell, args.get("mode"), f"Keys are those of {shell.prompt.keys}.")
    return 0


def _tell(shell: Shell, changed: str | None, how: str) -> None:
    """How something is; a file that changes it has its reader know already."""
    if not (changed and shell.context.place):
        shell.context.write(how)


def source(shell: Shell, args: dict[str, Any]) -> int:
    """The commands of a file, told with their line where they are wrong."""
    return shell.run_file(args["file"])


def alias(shell: Shell, args: dict[str, Any]) -> int:
    """A word defined, shown, or all of them, as lines that define them again."""
    name, front = args.get("name"), args.get("command")
    if name and front:
        shell.aliases.define(name, front)
        return 0
    shown = [(name, shell.aliases[name])] if name else shell.aliases.items()
    shell.context.write_lines(f"alias {word} {stands_for}" for word, stands_for in shown)
    return 0


def unalias(shell: Shell, args: dict[str, Any]) -> int:
    """A word less."""
    shell.aliases.remove(args["name"])
    return 0


def leave(shell: Shell, args: dict[str, Any]) -> int:
    """The end of the session."""
    shell.leaving = True
    return 0


OWN_HANDLERS: dict[tuple[str, ...], Callable[[Shell, dict[str, Any]], int]] = {
    ("notify",): notify,
    ("keys",): keys,
    ("source",): source,
    ("alias",): alias,
    ("unalias",): unalias,
    ("exit",): leave,
}
