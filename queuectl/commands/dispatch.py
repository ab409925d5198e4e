"""From a bound line to its handler to its result: the single way of argv, script, shell and page.

A handler gets the context and the line's values, and returns a `Result`. What a command shows while
it works (a question, its progress, the end of a worker) and the bytes of a job's output go to the
context at once; everything else is its result.
"""

from __future__ import annotations

import errno
import os

from queuectl.commands.grammar.specs import find_command, load
from queuectl.commands.table import COMMANDS
from queuectl.errors import NO_PROCESS, InvalidInput, QueuectlError, StoreError, line_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any, TypeAlias

    from queuectl.commands.context import Context
    from queuectl.commands.grammar.bound import Bound, Fault
    from queuectl.commands.grammar.specs import CommandSpec

    Run: TypeAlias = Callable[[Context, Bound], int]

FAILED = 1
USAGE = 2
# The errors by which a file or a terminal refuses output.
_NOT_WRITTEN = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENXIO)


class Note(str):
    """A line that is a remark, not a result: it goes to standard error."""


class Data(str):
    """A line for programs: it is written as UTF-8, whatever the locale."""


class Result:
    """The result of a command in three forms, one of which is used, once.

    `lines` are for people and `words` for `-q` (None: the same lines); a `Note` may be among them,
    or they are `Data`. `form` makes the data of `--json`: a mapping, or a stream of forms. All may
    be lazy, and raise when used what the command raises. `code`: the exit code.
    """

    def __init__(
        self,
        lines: Iterable[str] = (),
        *,
        words: Iterable[str] | None = None,
        form: Callable[[], Any] | None = None,
        code: int = 0,
    ) -> None:
        self.lines = lines
        self.words = words
        self.form = form
        self.code = code


def answer(context: Context, spec: CommandSpec, values: Mapping[str, Any]) -> Result:
    """The result of a command for these values, one for each parameter; shows nothing.

    Raises the errors of the command.
    """
    if spec.access != "none" and context.presence is not None:
        context.presence.check()
    if spec.access == "write":
        context.rescue()
    result: Result = load(spec.handler)(context, values)
    return result


def show(context: Context, result: Result, *, as_json: bool = False) -> int:
    """Print a result in the wanted form; returns its exit code."""
    if as_json and result.form is not None:
        from queuectl.commands.forms import json_text

        context.write_json(json_text(result.form()))
        return result.code
    said = result.lines if result.words is None or not context.quiet else result.words
    for line in said:
        if isinstance(line, Note):
            context.note(line)
        elif isinstance(line, Data):
            context.write_bytes(line.encode("utf-8", "backslashreplace") + b"\n")
        else:
            context.write(line)
    return result.code


def run(context: Context, bound: Bound) -> int:
    """Run a line without faults and show its result; returns its exit code. Raises its errors."""
    spec, values = bound.spec, bound.values
    if bound.help:
        spec, values = find_command(COMMANDS, ("help",)), {"topic": bound.words}
    if spec is None:
        raise InvalidInput("no command is given ('help' lists them)")
    if spec.access != "none":
        context.tell_of_edits()  # only once, hence to a person
    code = show(context, answer(context, spec, values), as_json=bool(values.get("json")))
    context.tell_notices()
    return code


def run_within(base: Context, bound: Bound, how: Run = run) -> int:
    """Run a line with `how`, in the context that its own options require."""
    context = base.for_line(bound.values)
    try:
        return how(context, bound)
    finally:
        if context is not base:
            close(context)


def worded(bound: Bound, problem: Fault | Exception) -> str:
    """The fault of a line, or the error of its command, in words for people."""
    return line_of(problem) if isinstance(problem, Exception) else problem.message


def run_line(
    base: Context,
    bound: Bound,
    *,
    word: Callable[[Bound, Fault | Exception], str] = worded,
    paged: Callable[[Context, Bound, Run], int] | None = None,
) -> int:
    """Run a line; shows its faults or errors and returns its exit code.

    `word` makes the line of an error. `paged` runs the command with a pager for a long result.
    """
    if bound.faults:
        base.note(f"queuectl: {base.prefix}{word(bound, bound.faults[0])}")
        return USAGE
    how = _run_step if base.in_script else run

    def attempted(context: Context, bound: Bound) -> int:
        return attempt(context, lambda: how(context, bound), lambda error: word(bound, error))

    if paged is None:
        return run_within(base, bound, attempted)
    return run_within(base, bound, lambda context, bound: paged(context, bound, attempted))


def _run_step(context: Context, bound: Bound) -> int:
    code = run(context, bound)
    if code:
        # Nothing was shown, and yet the script will fail because of it.
        raise QueuectlError(f"{' '.join(bound.words)} ended with exit code {code}")
    return code


def attempt(
    context: Context, action: Callable[[], int], word: Callable[[Exception], str] = line_of
) -> int:
    """The exit code of the action; an error becomes one line on standard error, and its code."""
    try:
        return action()
    except BrokenPipeError:
        raise
    except Exception as raised:
        exc = shortage(raised) or raised
        # Standard output refused what was written; errors of files name their path.
        of_output = isinstance(exc, OSError) and exc.filename is None and exc.errno in _NOT_WRITTEN
        if of_output and not context.interactive:
            raise  # nothing more can be shown, so the front end stops here
        if context.environ.get("QUEUECTL_DEBUG"):
            import traceback

            context.note(traceback.format_exc())
        context.note(f"queuectl: {context.prefix}{word(exc)}")
        return exc.exit_code if isinstance(exc, QueuectlError) else FAILED


def shortage(error: Exception) -> QueuectlError | None:
    """A shortage that any command may meet, as an error of ours; None for other errors.

    The machine or a limit is exhausted, or the current folder is gone.
    """
    nowhere = str(OSError(errno.ENOENT, os.strerror(errno.ENOENT)))  # as os.getcwd raises it
    if isinstance(error, FileNotFoundError) and str(error) == nowhere:
        return InvalidInput("the current folder is gone: go to another, or give paths from / on")
    # Without memory even creating a class may fail.
    short = (MemoryError, SystemError, SyntaxError)
    if isinstance(error, short) or getattr(error, "errno", 0) == errno.ENOMEM:
        return StoreError("there is not enough memory; free some, or raise the limit (ulimit -v)")
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return StoreError("too many files are open; raise the limit (ulimit -n)")
    if isinstance(error, BlockingIOError) and not hasattr(error, "characters_written"):
        return StoreError(NO_PROCESS)
    if isinstance(error, ImportError):  # Python takes an unreadable folder for an empty one
        return StoreError(
            f"a part of the program cannot be loaded: {error}; "
            "raise the limits (ulimit -n, ulimit -v), or reinstall queuectl"
        )
    return None


def close(context: Context) -> int:
    """Show what was written, then close the queue and show its last notices."""

    def let_go() -> int:
        if context.in_script:
            context.tell_if_unserved()
        context.close()
        context.tell_notices()
        return 0

    try:
        context.flush()
    finally:
        code = attempt(context, let_go)
    return code
