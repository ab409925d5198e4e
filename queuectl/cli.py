"""The entry point, and the only place where the parts are wired together.

`queuectl COMMAND ...` runs one command; without one, standard input is a script of commands, or
the shell opens if both ends are terminals. An error that no command reported becomes one line and
an exit code here.
"""

# ruff: noqa: E402 - see below
from __future__ import annotations

import gc

# A start makes 25,000 objects that live to the end of the command. With the usual threshold the
# collector scans them 26 times, half of that during these imports: a twentieth of an `enqueue`.
gc.set_threshold(50_000, 2, 2)

import errno
import os
import sys

from queuectl.commands.context import Context, is_terminal
from queuectl.commands.dispatch import FAILED, close, run_line, shortage
from queuectl.commands.grammar.binding import bind_argv
from queuectl.commands.table import COMMANDS
from queuectl.errors import InvalidInput, QueuectlError, StoreError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn

    from queuectl.commands.grammar.bound import Bound

INTERRUPTED = 130
SIGNALLED = (129, 143)  # 128 + SIGHUP, and SIGTERM
PIPE_CLOSED = 141  # 128 + SIGPIPE, like a program that dies of the signal
# Options before a command, and what each sets.
_VALUED = {"--data": "data", "-f": "script", "--file": "script", "--resume": "resume"}
_VALUED["--color"] = "color"
_FLAGS = {"-q": "quiet", "--quiet": "quiet", "--no-pager": "no_pager"}
_FLAGS |= {"--stop-on-error": "stop_on_error", "--dry-run": "dry_run"}
_OF_SCRIPTS = ("script", "resume", "stop_on_error", "dry_run")
_PAGED_ALONE = (("list",), ("dlq", "list"))  # single commands whose long results are paged


def entry() -> NoReturn:
    """The console command: `main`, then an exit without the interpreter's slow shutdown."""
    try:
        code = main()
    except (MemoryError, SystemError):
        # A second time, while the first was reported: this needs almost no memory.
        os.write(2, b"queuectl: there is not enough memory\n")
        code = StoreError.exit_code
    # Everything was flushed; shutting the interpreter down would cost each command 2 to 4 ms.
    os._exit(code)


def main(argv: Sequence[str] | None = None) -> int:
    """Run what the arguments say; returns the exit code. Prints, never raises."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        _fill_standard()
        os.umask(os.umask(0o077) & 0o077)  # otherwise what is written could not be read back
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
        # Nobody reads the output any more: it must not be written again at the exit.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.close(nowhere)
        code = PIPE_CLOSED
    except KeyboardInterrupt:
        code = _report("interrupted", INTERRUPTED)
    except SystemExit as exc:  # a signal asked for it, and the terminal is restored or gone
        code = int(exc.code or 0)
        _flush_after(code)
    except QueuectlError as exc:
        code = _report(str(exc), exc.exit_code)
    except (OSError, MemoryError, SystemError, ImportError) as exc:
        short = shortage(exc)
        if short is not None:
            code = _report(str(short), short.exit_code)
        elif isinstance(exc, OSError):
            code = _report(f"writing the output: {exc.strerror or exc}", FAILED)
        else:
            raise
    return code


def _run(argv: list[str]) -> int:
    front = _Front(argv)
    if front.rest[:1] == ["__complete"]:
        from queuectl.completion.tab_completion import answer

        return answer(front.rest[1:])
    if front.rest:
        if front.for_script:
            raise InvalidInput(f"{front.for_script} is for scripts, not for a command")
        return _run_command(["version"] if front.rest in (["--version"], ["-V"]) else argv)
    if front.script is not None or not is_terminal(sys.stdin):
        return _run_script(front)
    if front.for_script:
        raise InvalidInput(f"{front.for_script} wants a script: -f FILE, or on standard input")
    if not is_terminal(sys.stdout):
        raise InvalidInput(
            "the shell needs a terminal at both ends; give a command ('queuectl help' lists them)"
        )
    from queuectl.shell.session import run_shell

    return run_shell(front.context(interactive=True))


def _run_script(front: _Front) -> int:
    from queuectl.commands.scripts.run import check_script, run_script

    if not front.dry_run:
        return run_script(
            front.context(), front.script, resume=front.resume, stop_on_error=front.stop_on_error
        )
    if front.resume:
        raise InvalidInput("--dry-run runs nothing, so there is nothing to --resume")
    return check_script(front.context(), front.script)


class _Front:
    """The options before a command, which also hold for a script and the shell."""

    def __init__(self, argv: Sequence[str]) -> None:
        self.data: str | None = None
        self.script: str | None = None
        self.resume: str | None = None
        self.quiet = self.no_pager = self.stop_on_error = self.dry_run = False
        self.color = "auto"
        self.for_script = ""  # the last option that only a script may have
        self.rest = list(argv)
        while self.rest and self._take(self.rest[0]):
            del self.rest[0]

    def _take(self, word: str) -> bool:
        """Take such an option with its value off the front; returns whether there was one."""
        name, equals, value = word.partition("=")
        key = _VALUED.get(name) or _FLAGS.get(word)
        if word == "--no-color":
            self.color = "never"
        elif key is None:
            return False
        elif name in _FLAGS:
            setattr(self, key, True)
        else:
            if not equals:
                value = self.rest.pop(1) if len(self.rest) > 1 else ""
            if not value:
                raise InvalidInput(f"{name} wants a value")
            if key == "color" and value not in ("auto", "always", "never"):
                raise InvalidInput(f"--color must be one of auto, always, never, not '{value}'")
            setattr(self, key, value)
        if key in _OF_SCRIPTS:
            self.for_script = name
        return True

    def context(self, *, interactive: bool = False) -> Context:
        context = Context(self.data, quiet=self.quiet, color=self.color, interactive=interactive)
        context.no_pager = self.no_pager
        return context


def _run_command(argv: Sequence[str]) -> int:
    bound = bind_argv(COMMANDS, argv)
    if bound.help:
        bound.faults.clear()  # -h after a word that is not a command shows all commands
    context = Context()
    paged = context.terminal and bound.words in _PAGED_ALONE and is_terminal(sys.stdin)
    try:
        return run_line(context, bound, paged=_paged if paged else None)
    finally:
        close(context)


def _paged(context: Context, bound: Bound, how: Callable[[Context, Bound], int]) -> int:
    from queuectl.shell.screens.pager import run_paged

    rows = os.get_terminal_size(sys.stdout.fileno()).lines
    return run_paged(context, bound, how, rows or 24)[0]


def _fill_standard() -> None:
    """Open /dev/null for each of the descriptors 0 to 2 that is closed.

    A file or pipe of ours would get that number otherwise, and a child would lose or use it.
    """
    try:
        fd = os.open(os.devnull, os.O_RDWR)
        while fd <= 2:
            os.set_inheritable(fd, True)
            fd = os.open(os.devnull, os.O_RDWR)
        os.close(fd)
    except OSError:
        pass  # a system without /dev/null: they stay closed


def _accept_any_text() -> None:
    """Keep a file name or output that the locale cannot show from ending a command."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace" if stream is sys.stderr else "replace")


def _flush_after(code: int) -> None:
    """Flush at the end; a terminal that hung up is not a failure."""
    try:
        _flush()
    except OSError as exc:
        if code not in SIGNALLED or exc.errno != errno.EIO:
            raise


def _flush() -> None:
    if sys.stdout is not None and not sys.stdout.closed:
        sys.stdout.flush()


def _report(line: str, code: int) -> int:
    try:
        from queuectl.commands.render import safe_lines

        line = safe_lines(line)
    except (MemoryError, SystemError, ImportError, OSError):  # perhaps the very error to report
        line = line.encode("ascii", "replace").decode().replace("\n", " ")
    try:
        sys.stderr.write(f"queuectl: {line}\n")
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):
        pass  # standard error is closed: the exit code tells
    return code


if __name__ == "__main__":
    entry()
