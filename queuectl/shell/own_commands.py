"""Commands that only the shell has, as rows of the same table; their handlers get the shell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from queuectl.commands.grammar import CommandSpec, Param
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
        words=("exit",),
        summary="Leave the shell; workers and jobs go on.",
        handler="queuectl.shell.own_commands:leave",
        aliases=(("quit",),),
        examples=("exit",),
        access="none",
    ),
)
SHELL_COMMANDS = (*COMMANDS, *OWN_ROWS)

KEYS_HELP = """\
In the shell
  Tab          completes; the right arrow takes the grey suggestion
  Up, Down     lines typed before that start alike; Ctrl-R searches them
  Ctrl-C       clears the line, or ends what is being watched, never a job
  Ctrl-D       leaves
  Ctrl-X Ctrl-E  edits the line in $EDITOR; F4 changes between emacs and vi
  !COMMAND     runs a command of your own shell at once, outside the queue
"""


def notify(shell: Shell, args: dict[str, Any]) -> int:
    """What notices are shown, changed or told."""
    if args.get("when"):
        shell.notices.mode = args["when"]
    shell.context.write(f"Notices are {_TOLD[shell.notices.mode]}.")
    return 0


_TOLD = {"on": "on", "off": "off", "dead": "shown for dead jobs only"}


def keys(shell: Shell, args: dict[str, Any]) -> int:
    """The editing keys, changed or told."""
    if args.get("mode"):
        shell.prompt.set_keys(args["mode"])
    shell.context.write(f"Keys are those of {shell.prompt.keys}.")
    return 0


def source(shell: Shell, args: dict[str, Any]) -> int:
    """The commands of a file, told with their line where they are wrong."""
    return shell.run_file(args["file"])


def leave(shell: Shell, args: dict[str, Any]) -> int:
    """The end of the session."""
    shell.leaving = True
    return 0


OWN_HANDLERS: dict[tuple[str, ...], Callable[[Shell, dict[str, Any]], int]] = {
    ("notify",): notify,
    ("keys",): keys,
    ("source",): source,
    ("exit",): leave,
}
