"""The entry point, and the only place where the parts are wired together.

`queuectl COMMAND ...` runs one command; without one, standard input is a script of commands, or
the shell opens if both ends are terminals. Errors become one line and an exit code here and
nowhere else.
"""

from __future__ import annotations

import errno
import os
import sys

from queuectl.commands.context import Context, is_terminal
from queuectl.commands.grammar.reading import bind_argv
from queuectl.errors import InvalidInput, QueuectlError, StoreError, line_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn

    from queuectl.commands.grammar.reading import Bound, CommandSpec
    from queuectl.commands.scripts.progress import Progress
    from queuectl.commands.scripts.statements import Statement

FAILED = 1
USAGE = 2
INTERRUPTED = 130
SIGNALLED = (129, 143)  # 128 + SIGHUP, and SIGTERM
PIPE_CLOSED = 141  # 128 + SIGPIPE, as a program that dies of the signal
_PAGED_ALONE = (("list",), ("dlq", "list"))  # single commands whose long results are paged
# How a file or a terminal refuses output.
_NOT_WRITTEN = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENXIO)


def entry() -> NoReturn:
    """The console command: `main`, and then out without the interpreter's slow farewell."""
    try:
        code = main()
    except (
        MemoryError,
        SystemError,
    ):  # once more, while the first was reported: what little is needed is here
        os.write(2, b"queuectl: there is not enough memory\n")
        code = StoreError.exit_code
    # Everything was flushed; tearing the interpreter down would cost 2 to 4 ms of each command.
    os._exit(code)


def main(argv: Sequence[str] | None = None) -> int:
    """Run what the arguments ask for, and return the exit code. Prints, never raises."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        _fill_standard()
        _accept_any_text()
        try:
            code = _run(arguments)
        except SystemExit:
            raise
        except BaseException:
            _flush()
            raise
        _flush_after(code)
    except BrokenPipeError:
        code = _end_quietly()
    except KeyboardInterrupt:
        code = _interrupted()
    except SystemExit as exc:  # a signal asked for it, and the terminal is as it was, or gone
        code = int(exc.code or 0)
        _flush_after(code)
    except QueuectlError as exc:
        code = _report(str(exc), exc.exit_code)
    except (OSError, MemoryError, SystemError, ImportError) as exc:
        short = _shortage(exc)
        if short is not None:
            code = _report(str(short), short.exit_code)
        elif isinstance(exc, OSError):
            code = _report(f"writing the output: {exc.strerror or exc}", FAILED)
        else:
            raise
    return code


def _shortage(error: Exception) -> StoreError | None:
    """What an error says of a machine or a limit that gives no more; None if it is none of that."""
    if isinstance(error, (MemoryError, SystemError)) or getattr(error, "errno", 0) == errno.ENOMEM:
        return StoreError("there is not enough memory; free some, or raise the limit (ulimit -v)")
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return StoreError("too many files are open; raise the limit (ulimit -n)")
    if isinstance(error, ImportError):  # Python takes a folder that it cannot read for an empty one
        return StoreError(
            f"a part of the program cannot be loaded: {error}; "
            "raise the limits (ulimit -n, ulimit -v), or install queuectl anew"
        )
    return None


def _run(argv: list[str]) -> int:
    front = _Front(argv)
    if front.rest[:1] == ["__complete"]:
        from queuectl.completion.tab_completion import answer

        return answer(front.rest[1:])
    if front.rest:
        if front.for_script:
            raise InvalidInput(f"{front.for_script} is for scripts, not for a command")
        return _run_argv(["version"] if front.rest in (["--version"], ["-V"]) else argv)
    if front.script is not None or not is_terminal(sys.stdin):
        return _dry_run(front) if front.dry_run else _run_script(front)
    if front.for_script:
        raise InvalidInput(f"{front.for_script} wants a script: -f FILE, or on standard input")
    if not is_terminal(sys.stdout):
        raise InvalidInput(
            "the shell needs a terminal at both ends; give a command ('queuectl help' lists them)"
        )
    from queuectl.shell.session import run_shell

    return run_shell(front.context(interactive=True), run_bound)


class _Front:
    """The options in front of a command, which hold for a script and the shell too."""

    def __init__(self, argv: Sequence[str]) -> None:
        self.data: str | None = None
        self.script: str | None = None
        self.resume: str | None = None
        self.quiet = self.no_pager = self.stop_on_error = self.dry_run = False
        self.color = "auto"
        self.for_script = ""  # the last option that only a script can have
        self.rest = list(argv)
        while self.rest and self._take(self.rest[0]):
            del self.rest[0]

    def _take(self, word: str) -> bool:
        """Whether the first word was such an option; its value is taken away behind it."""
        name, equals, value = word.partition("=")
        if name in ("--data", "-f", "--file", "--resume", "--color"):
            if not equals:
                value = self.rest.pop(1) if len(self.rest) > 1 else ""
            if not value:
                raise InvalidInput(f"{name} wants a value")
            self._keep(name, value)
        elif word in ("-q", "--quiet"):
            self.quiet = True
        elif word == "--no-color":
            self.color = "never"
        elif word == "--no-pager":
            self.no_pager = True
        elif word == "--stop-on-error":
            self.stop_on_error, self.for_script = True, word
        elif word == "--dry-run":
            self.dry_run, self.for_script = True, word
        else:
            return False
        return True

    def _keep(self, name: str, value: str) -> None:
        if name == "--data":
            self.data = value
            return
        if name == "--color":
            if value not in ("auto", "always", "never"):
                raise InvalidInput(f"--color must be one of auto, always, never, not '{value}'")
            self.color = value
            return
        self.for_script = name
        if name == "--resume":
            self.resume = value
        else:
            self.script = value

    def context(self, *, interactive: bool = False) -> Context:
        context = Context(self.data, quiet=self.quiet, color=self.color, interactive=interactive)
        context.no_pager = self.no_pager
        return context


def _run_argv(argv: Sequence[str]) -> int:
    from queuectl.commands.table import COMMANDS

    bound = bind_argv(COMMANDS, argv)
    if bound.faults and not bound.help:
        return _report(bound.faults[0].message, USAGE)
    context = Context().for_line(bound.values)
    try:
        if context.terminal and bound.words in _PAGED_ALONE and is_terminal(sys.stdin):
            from queuectl.shell.screens.pager import run_paged

            rows = os.get_terminal_size(sys.stdout.fileno()).lines
            return run_paged(context, bound, run_bound, rows or 24)[0]
        return run_bound(context, bound)
    finally:
        close(context)


def run_bound(context: Context, bound: Bound) -> int:
    """Run a bound line without faults; its errors are shown and become the exit code."""
    return attempt(context, lambda: _run_command(context, bound))


def _run_command(context: Context, bound: Bound) -> int:
    if bound.help:
        from queuectl.commands.help.pages import help_text, overview

        context.write(help_text(bound.words) if bound.words else overview())
        return 0
    spec = bound.spec
    if spec is None:
        raise InvalidInput("no command is given ('help' lists them)")
    if spec.access != "none":
        if context.presence is not None:
            context.presence.check()
        context.tell_of_edits()
    if spec.access == "write":
        context.rescue()
    context.run = _run_command
    code = _handler(spec)(context, bound.values)
    context.tell_notices()
    return code


def _handler(spec: CommandSpec) -> Callable[..., int]:
    module, _, name = spec.handler.partition(":")
    __import__(module)
    handler: Callable[..., int] = getattr(sys.modules[module], name)
    return handler


def attempt(
    context: Context,
    action: Callable[[], int],
    describe: Callable[[Exception, str], str] = lambda error, line: line,
) -> int:
    """The action's exit code; an error of it as one line on standard error, and its code.

    `describe` makes of an error and its line what is shown.
    """
    try:
        return action()
    except BrokenPipeError:
        raise
    except Exception as raised:
        exc = _shortage(raised) or raised
        if not context.interactive and _is_of_output(exc):
            raise  # nothing more can be shown: what runs ends here
        if context.environ.get("QUEUECTL_DEBUG"):
            import traceback

            context.note(traceback.format_exc())
        context.note(f"queuectl: {context.place}{describe(exc, line_of(exc))}")
        return exc.exit_code if isinstance(exc, QueuectlError) else FAILED


def _is_of_output(error: Exception) -> bool:
    """Whether standard output refused what was written; errors of files name their path."""
    return isinstance(error, OSError) and error.filename is None and error.errno in _NOT_WRITTEN


def close(context: Context) -> int:
    """Show what was written, then let go of the queue; its last words are shown too."""

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


def _dry_run(front: _Front) -> int:
    from queuectl.commands.scripts.statements import check_script

    if front.resume:
        raise InvalidInput("--dry-run runs nothing, so there is nothing to --resume")
    return FAILED if check_script(front.context(), front.script) else 0


def _run_script(front: _Front) -> int:
    """Every command of the script; 1 if one of them failed."""
    from queuectl.commands.scripts.statements import open_script

    context = front.context()
    context.stdin_taken = front.script in (None, "-")
    context.in_script = True
    context.stay()
    progress = _progress(front.resume)
    failed = stopped = False
    try:
        for statement in open_script(front.script):
            if progress is not None and progress.is_done(statement):
                continue
            failed = _run_step(context, statement, progress, front.stop_on_error) != 0 or failed
            if failed and front.stop_on_error:
                stopped = True
                break
        if progress is not None:
            progress.close(whole=not stopped)
    finally:
        failed = close(context) != 0 or failed
    return FAILED if failed else 0


def _run_step(
    context: Context, statement: Statement, progress: Progress | None, stop_on_error: bool
) -> int:
    """Run a statement, and note its progress; one that ends the script shall be run once more."""
    if progress is None:
        return _run_statement(context, statement)
    if progress.was_begun():
        where = f"{statement.name}:{statement.line}"
        context.note(f"queuectl: {where}: cut short the last time; it is run once more")
    progress.begin()
    code = _run_statement(context, statement)
    context.flush()
    if not (code and stop_on_error):
        progress.end()
    return code


def _progress(path: str | None) -> Progress | None:
    if path is None:
        return None
    from queuectl.commands.scripts.progress import Progress

    return Progress(path)


def _run_statement(base: Context, statement: Statement) -> int:
    from queuectl.commands.grammar.reading import bind
    from queuectl.commands.scripts.statements import fault_in, format_fault
    from queuectl.commands.table import COMMANDS

    bound = bind(COMMANDS, statement.text)
    if bound.faults:
        base.note(f"queuectl: {format_fault(statement.name, statement, bound.faults[0])}")
        return USAGE

    def describe(error: Exception, line: str) -> str:
        return format_fault(statement.name, statement, fault_in(bound, error, line))

    context = base.for_line(bound.values)
    try:
        code = attempt(context, lambda: _run_line(context, bound), describe)
    finally:
        if context is not base:
            close(context)
    return code


def _run_line(context: Context, bound: Bound) -> int:
    code = _run_command(context, bound)
    if code:
        # Nothing was told, and yet the script is going to fail for it.
        raise _Failed(f"{' '.join(bound.words)} ended with exit code {code}")
    return code


class _Failed(QueuectlError):
    """A line of a script ended with an exit code that says failure."""


def _fill_standard() -> None:
    """Let nothing come in and go out where one of the descriptors 0 to 2 is closed.

    Else a file or a pipe of ours would get that number, and a child would lose it or write there.
    """
    try:
        fd = os.open(os.devnull, os.O_RDWR)
        while fd <= 2:
            os.set_inheritable(fd, True)
            fd = os.open(os.devnull, os.O_RDWR)
        os.close(fd)
    except OSError:
        pass  # a system without it: then they stay closed


def _accept_any_text() -> None:
    """A file name or output that the locale cannot show must not end a command."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace" if stream is sys.stderr else "replace")


def _flush_after(code: int) -> None:
    """Flush at the end; that a terminal which hung up takes nothing more is no failure."""
    try:
        _flush()
    except OSError as exc:
        if code not in SIGNALLED or exc.errno != errno.EIO:
            raise


def _flush() -> None:
    if sys.stdout is not None and not sys.stdout.closed:
        sys.stdout.flush()


def _end_quietly() -> int:
    """Nobody reads the output any more: nothing of it may be tried again at the exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    return PIPE_CLOSED


def _interrupted() -> int:
    return _report("interrupted", INTERRUPTED)


def _report(line: str, code: int) -> int:
    try:
        from queuectl.commands.render import safe_lines

        line = safe_lines(line)
    except (MemoryError, SystemError, ImportError, OSError):  # which may be what is to be reported
        line = line.encode("ascii", "replace").decode().replace("\n", " ")
    try:
        sys.stderr.write(f"queuectl: {line}\n")
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):
        pass  # standard error is closed: the exit code tells
    return code


if __name__ == "__main__":
    entry()
