"""One grammar for argv, script and shell: lines and argv lists bound to the table of commands.

Binding never raises: it collects faults with their spans and tells what could come next, so that
one function serves the argv parser, the script reader, completion, highlighting and validation.
Lean: `queuectl status` loads this module; what checks values is loaded when there are some.
"""

from __future__ import annotations

from queuectl.commands.grammar.binding import Binder
from queuectl.commands.grammar.bound import Bound, Expected, Fault
from queuectl.commands.grammar.specs import GLOBAL_OPTIONS, CommandSpec, Param, find_command
from queuectl.commands.grammar.tokens import Token, command_line, tokenize

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "GLOBAL_OPTIONS",
    "Bound",
    "CommandSpec",
    "Expected",
    "Fault",
    "Param",
    "Token",
    "bind",
    "bind_argv",
    "command_line",
    "find_command",
    "tokenize",
]


def bind(
    specs: Sequence[CommandSpec], line: str, options: Sequence[Param] = GLOBAL_OPTIONS
) -> Bound:
    """A line of a script or of the shell, or several that belong together. Never raises.

    `options` are those that every command takes.
    """
    return Binder(specs, options, line, tokenize(line)).bind()


def bind_argv(
    specs: Sequence[CommandSpec], argv: Sequence[str], options: Sequence[Param] = GLOBAL_OPTIONS
) -> Bound:
    """The same for arguments that a shell has cut already; `text` is argv joined by blanks."""
    tokens, start = [], 0
    for word in argv:
        tokens.append(Token(word, start, start + len(word), word))
        start += len(word) + 1
    return Binder(specs, options, " ".join(argv), tokens, is_argv=True).bind()
