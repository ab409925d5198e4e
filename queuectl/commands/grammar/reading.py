"""One grammar for argv, script and shell: lines and argv lists bound to the table of commands.

Binding never raises: it collects faults with their spans and tells what could come next, so that
one function serves the argv parser, the script reader, completion, highlighting and validation.
"""

from __future__ import annotations

from queuectl.commands.grammar.binding import bind, bind_argv
from queuectl.commands.grammar.bound import Bound, Expected, Fault
from queuectl.commands.grammar.specs import GLOBAL_OPTIONS, CommandSpec, Param, find_command
from queuectl.commands.grammar.tokens import Token, command_line, tokenize

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
