"""The interactive shell: reads a line, runs it, and shows what happened to jobs meanwhile."""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from prompt_toolkit.input import Input
from prompt_toolkit.output import Output

from queuectl import __version__
from queuectl.commands.context import Context
from queuectl.commands.dispatch import close, run_line
from queuectl.commands.grammar.bound import Bound, Fault
from queuectl.commands.grammar.specs import CommandSpec
from queuectl.commands.help.pages import TOPICS, command_page
from queuectl.commands.table import COMMANDS
from queuectl.live.live_queue import LiveQueue
from queuectl.live.notices import Notices
from queuectl.live.watcher import Watcher
from queuectl.places import expand, own_folder
from queuectl.shell.aliases import Aliases
from queuectl.shell.failures import failure_text
from queuectl.shell.history import SharedHistory
from queuectl.shell.history_file import HistoryFile, history_path, open_plain
from queuectl.shell.lines import Piece, is_system_line, split_commands
from queuectl.shell.prompt.prompt import Prompt
from queuectl.shell.prompt.validator import find_mistake
from queuectl.shell.screens.pager import run_paged
from queuectl.shell.screens.terminal import (
    cooked_keys,
    line_start,
    own_shell,
    run_system,
    unseen_keys,
)
from queuectl.shell.signals import terminal_kept
from queuectl.store import opening

_SLOW = 0.5  # seconds after which the duration of a command is shown
_UNTIMED = frozenset({("top",), ("watch",), ("edit",)})
_DEEPEST = 10
_LARGEST = 4_000_000  # bytes of a file of commands
_MOST_FAILURES = 3  # prompts in a row that end in an error


def run_shell(context: Context) -> int:
    """Read and run lines until the person leaves; returns 0, or 128 + n for a signal."""
    return Shell(context).run()


class Shell:
    """One session. Its own commands use `notices`, `prompt`, `aliases` and `leaving`."""

    def __init__(
        self,
        context: Context,
        run: Callable[..., int] = run_line,
        *,
        input: Input | None = None,
        output: Output | None = None,
    ) -> None:
        self.context = context
        self.leaving = False
        self._ended = 0  # the exit code after a signal asked for the end
        self._failures = 0  # prompts that failed in a row
        self._depth = 0  # depth of files that run files
        self._read = False  # whether a person was reading in a pager or was asked
        self._words: tuple[str, ...] = ()  # of the command that runs, or ran last
        self.notices = Notices()
        self.aliases = Aliases()
        self._run_line = run
        self._live = LiveQueue(opening.watch(context.folder))
        self._warnings: list[str] = []
        self._watcher = Watcher(
            opening.watch(context.folder),
            self.notices,
            self._changed,
            lambda: self.prompt.offer_anew(),
        )
        history = SharedHistory(HistoryFile(history_path(context.environ)), self._warnings.append)
        self.prompt = Prompt(
            self._live,
            history,
            lambda: self._watcher.standing,
            self.aliases,
            self._failed,
            colour=context.color,
            input=input,
            output=output,
        )
        context.shell, context.ask = self, self._ask
        context.stdin_taken = True  # the keys are the shell's
        context.stay()

    def run(self) -> int:
        """Run until Ctrl-D, `exit`, a signal or the loss of the terminal; returns the code."""
        with terminal_kept(self._leave):
            try:
                self.context.write(f"queuectl {__version__}, data folder {self.context.name}")
                self.context.flush()
                with unseen_keys(sys.stdin):
                    self._start_up()
                    while not self.leaving:
                        self._step()
            except SystemExit as exc:
                self._ended = int(exc.code or 0)
            except OSError:
                if not self._ended:  # otherwise the loss of the terminal is known
                    raise
            finally:
                self._watcher.stop()
                self._live.close()
                with suppress(*(OSError,) if self._ended else ()):
                    close(self.context)
        return self._ended

    def _leave(self, code: int) -> bool:
        """Called by a signal's handler: leave the prompt; False if the handler must raise."""
        self._ended, self.leaving = code, True
        return self.prompt.leave()

    def _step(self) -> None:
        """One prompt and its input."""
        self._tell()
        try:
            text = self.prompt.read(started=self._watcher.start)
        except KeyboardInterrupt:
            return  # the line is cleared
        except EOFError:
            self.leaving = True
            return
        except OSError:
            raise  # the terminal is gone
        except Exception as exc:
            self._failed(exc)
            self._failures += 1
            self.leaving = self._failures == _MOST_FAILURES
            return
        self._failures = 0
        self.run_text(text)

    def _failed(self, error: BaseException) -> None:
        """Show an error in a key once, above the prompt."""
        text = failure_text(error, self.context.environ)
        if text not in self._warnings:
            self._warnings.append(text)
            self.prompt.above(self._tell)

    def run_text(self, text: str) -> None:
        """Run the commands of a text in order; an interrupt ends them all."""
        for piece in split_commands(text, self.aliases.specs):
            if self.leaving:
                break
            began = time.monotonic()
            try:
                self._run(piece.text)
                self._tell_time(piece.text, time.monotonic() - began)
            except KeyboardInterrupt:
                self._interrupted()
                break
            except OSError:
                raise  # the terminal is gone
            except Exception as exc:
                self.context.note(failure_text(exc, self.context.environ))
            finally:
                self.context.flush()

    def _start_up(self) -> None:
        """Run the person's start-up file, if there is one."""
        path = start_up_path(self.context.environ)
        if path is not None:
            try:
                self.run_file(path)
            except KeyboardInterrupt:
                self._interrupted()
            self.context.flush()

    def run_file(self, path: str) -> int:
        """Run the commands of a file in order; returns 1 if one failed or it cannot be read."""
        try:
            with open(open_plain(os.path.expanduser(path)), "rb") as file:
                data = file.read(_LARGEST + 1)
            if len(data) > _LARGEST:
                raise OSError(errno.EFBIG, f"it holds more than {_LARGEST:,} bytes")
            text = data.decode("utf-8", "surrogateescape")
        except OSError as exc:
            self.context.note(f"queuectl: reading {path}: {exc.strerror}")
            return 2
        if self._depth == _DEEPEST:
            self.context.note(f"queuectl: {path}: files that run files go too deep")
            return 2
        self._depth += 1
        prefix, codes = self.context.prefix, []
        pieces = split_commands(text.removeprefix("\ufeff") + "\n", self.aliases.specs)
        try:
            for piece in pieces:
                if not self.leaving:
                    self.context.prefix = f"{path}:{piece.line}: "
                    codes.append(self._run_piece(path, piece))
        finally:
            self._depth -= 1
            self.context.prefix = prefix
        return int(any(codes))

    def _run_piece(self, path: str, piece: Piece) -> int:
        """Run one command of a file; a mistake is shown with a caret."""
        fault = find_mistake(piece.text, self.aliases)
        if fault is None:
            return self._run(piece.text)
        from queuectl.commands.scripts.statements import Statement, format_fault

        shown = Fault(fault.message, fault.start, fault.end)
        statement = Statement(piece.text, piece.line, path)
        self.context.note(f"queuectl: {format_fault(path, statement, shown)}")
        return 2

    def _tell_time(self, text: str, seconds: float) -> None:
        """Show how long a slow command took, unless a person decided how long."""
        read, self._read = self._read, False
        if seconds < _SLOW or read or self.leaving:
            return
        if is_system_line(text) or self.aliases.bind(text).bound.words not in _UNTIMED:
            self.context.note(f"({seconds:.1f} s)")

    def _run(self, text: str) -> int:
        self._words = ()
        if is_system_line(text):
            return self._run_system(text.lstrip()[1:])
        bound = self.aliases.bind(text).bound
        self._words = bound.words
        about = self._asks_about_own(bound)
        for row in about:
            page = command_page(row, "") if row.handler else f"{row.words[0]}: {row.summary}"
            self.context.write(page)
        if about or not (bound.words or bound.faults or bound.help):  # a comment
            return 0
        try:
            code = self._run_line(self.context, bound, paged=self._paged)
        finally:
            self._watcher.follow(self.context.made)
            self.context.made.clear()
        if not bound.faults:
            self._afterwards(bound)
        return code

    def _asks_about_own(self, bound: Bound) -> list[CommandSpec]:
        """The shell's own commands and aliases that `help` or `-h` asks about."""
        if bound.faults:
            return []
        asked = bound.values["topic"] if bound.words == ("help",) else None
        if bound.help and bound.spec is not None:
            asked = [*bound.spec.words]
        rows = self.aliases.specs[len(COMMANDS) :]
        return [row for row in rows if asked and [*row.words] == asked]

    def _paged(self, context: Context, bound: Bound, run: Callable[[Context, Bound], int]) -> int:
        """Run a line; a result longer than the screen goes through the pager."""
        if not context.terminal or self._depth:
            return run(context, bound)
        code, long = run_paged(context, bound, run, self.prompt.rows)
        if long:
            self._read = True
            self._end_line()
        return code

    def _afterwards(self, bound: Bound) -> None:
        if bound.words == ("help",) and not bound.values.get("topic"):
            self.context.write(TOPICS["shell"])
        elif bound.words in (("logs",), ("run",)):
            self._end_line()
        elif bound.words == ("wait",):
            waited = bound.values["job"]
            assert isinstance(waited, list)
            self.notices.silence(waited)  # the command itself reported them

    def _run_system(self, command: str) -> int:
        self.context.flush()
        if opening.is_database(self.context.folder):
            self.context.queue.make()  # the command finds the queue by its host folder
        with cooked_keys(sys.stdin):
            code = run_system(command, own_shell(), self.context.folder)
        self._end_line()
        if code:
            self.context.note(f"({self.context.prefix}exit code {code})")
        return code

    def _end_line(self) -> None:
        """Start a new line after output that may lack a last newline."""
        if self.context.terminal and self.context.environ.get("TERM") != "dumb":
            self.context.write_bytes(line_start(self.context.width).encode())
            self.context.flush()

    def _ask(self, question: str) -> bool:
        """Ask on the terminal, with the answer visible as it is typed."""
        self._read = True
        with cooked_keys(sys.stdin):
            try:
                return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
            except EOFError:
                return False

    def _interrupted(self) -> None:
        self._end_line()
        stopping = self._words == ("worker", "stop")
        goes_on = "the workers still stop" if stopping else "jobs and workers go on"
        self.context.note(f"Interrupted; {goes_on}.")
        # The interrupted work starts over with a fresh queue.
        close(self.context)

    def _tell(self) -> None:
        """Show the notices above the next prompt."""
        warnings, self._warnings[:] = list(self._warnings), []
        for line in (*warnings, *self.notices.take()):
            self.context.note(line)

    def _changed(self) -> None:
        """Called by the watcher's thread when something on the screen is out of date."""
        if self.notices.any_waiting() or self._warnings:
            self.prompt.above(self._tell)
        else:
            self.prompt.redraw()


def start_up_path(environ: Mapping[str, str]) -> str | None:
    """QUEUECTL_SHELLRC, else `queuectl/shellrc` in the user's configuration if it exists."""
    named = environ.get("QUEUECTL_SHELLRC")
    if named:
        return expand(named) or named
    folder = own_folder(environ, "XDG_CONFIG_HOME", ".config")
    usual = os.path.join(folder, "shellrc")
    return usual if folder and os.path.exists(usual) else None
