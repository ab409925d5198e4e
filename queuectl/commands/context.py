"""What a command's handler gets: the queue, and the way to the person who asked.

One context serves one front end: an argv, all lines of a script, or a whole shell session.
Handlers write results to `write` and all else to `note`; nothing else prints.
"""

from __future__ import annotations

import os
import sys

from queuectl.errors import NO_WORKER, PAUSED, InvalidInput, StoreError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from contextlib import AbstractContextManager
    from typing import IO, Any, TextIO

    from queuectl.job_queue import JobQueue
    from queuectl.store.door import Presence
    from queuectl.store.output import Output

NARROWEST = 20
_TAKE_OVER = "make its changes anew where they are missed, then delete it"


class Context:
    """The surroundings of a command. What it opens lazily stays open until `close`.

    `color` is "auto", "always" or "never".

    `data`: the folder that the user named, or None. `terminal`, `width`, `color` describe
    standard output. `interactive`: in the shell.
    """

    def __init__(
        self,
        data: str | None = None,
        *,
        environ: Mapping[str, str] | None = None,
        out: TextIO | None = None,
        err: TextIO | None = None,
        quiet: bool = False,
        color: str = "auto",
        interactive: bool = False,
    ) -> None:
        self.environ: Mapping[str, str] = os.environ if environ is None else environ
        self.out: TextIO | None = sys.stdout if out is None else out
        self.err: TextIO | None = sys.stderr if err is None else err
        self.quiet = quiet
        self.interactive = interactive
        self.stdin_taken = False  # a script or the shell reads it
        self.ask: Callable[[str], bool] | None = None  # how a shell asks a yes-or-no question
        self.shell: Any = None  # the session, for commands that only the shell has
        self.prefix = ""  # "file:line: " while the shell runs a file; errors begin with it
        # For long-lived front ends: the folder that was seen once must still be there.
        self.presence: Presence | None = None
        self.made: list[str] = []  # ids of the jobs enqueued in a shell, which reports their end
        self.no_pager = False
        self.terminal = is_terminal(self.out)
        self._set_color(color)
        self._told_edits: set[str] = set()
        self._waiting_shown = False
        self.in_script = False
        self._enqueued = False
        self._unserved_told: list[bool] = []  # shared with the contexts of single lines
        self._data = data
        self._folder: str | None = None
        self._queue: JobQueue | None = None

    def _set_color(self, mode: str) -> None:
        self.color_mode = mode
        wanted = mode == "auto" and _colours_wanted(self.environ, self.terminal)
        self.color = mode == "always" or wanted

    def for_line(self, values: Mapping[str, object]) -> Context:
        """This context, or one changed by the --data, --quiet or --no-color of a single line.

        A caller that gets another one must close it.
        """
        data, quiet = values.get("data"), bool(values.get("quiet"))
        color = "never" if values.get("no_color") else values.get("color")
        if data is None and not quiet and not color:
            return self
        varied = Context.__new__(Context)
        varied.__dict__.update(self.__dict__)
        varied._queue, varied._enqueued, varied._waiting_shown = None, False, False
        varied.quiet = self.quiet or quiet
        varied._set_color(str(color or self.color_mode))
        if data is not None:
            varied._data, varied._folder = str(data), None
            varied.made, varied.presence, varied._told_edits = [], None, set()
        return varied

    @property
    def folder(self) -> str:
        """The absolute path of the data folder; it may not exist yet."""
        if self._folder is None:
            from queuectl.store import opening

            self._folder = opening.find(self._data, self.environ)
        return self._folder

    @property
    def name(self) -> str:
        """The name of the queue for people: its folder or its URL."""
        from queuectl.store.opening import name_of

        return name_of(self.folder)

    @property
    def nothing_yet(self) -> str:
        """The message for a queue that does not exist yet; "" if it does."""
        from queuectl.commands.render import one_line
        from queuectl.store import opening

        if opening.exists(self.folder):
            return ""
        return f"Nothing is queued yet: {one_line(self.name)} is made at the first write."

    @property
    def front(self) -> str:
        """The beginning of a suggested command line, so that it reaches this queue."""
        from queuectl.store.opening import is_usual, reached_by

        own = self.shell is not None and self.shell.context.folder == self.folder
        if own or is_usual(self.folder, self.environ):
            return ""
        from queuectl.commands.grammar.tokens import quote

        named = reached_by(self.folder)
        return f"queuectl --data {quote(named)} " if named else ""

    def stay(self) -> None:
        """From now on report a removed folder instead of treating it as a new one."""
        from queuectl.store.door import Presence

        if self.presence is None:
            self.presence = Presence(self.folder)

    @property
    def queue(self) -> JobQueue:
        if self._queue is None:
            from queuectl.job_queue import JobQueue

            self._queue = JobQueue.open(self.folder)
            self._queue.by = "cli"
            if is_terminal(self.err):
                self._queue.on_wait(self._show_lock)
        return self._queue

    @property
    def logs(self) -> Output:
        from queuectl.store import opening

        return opening.output(self.folder)

    @property
    def width(self) -> int:
        """Columns of the terminal, 80 if unknown."""
        columns = self.environ.get("COLUMNS", "")
        if columns.isdigit() and int(columns) > 0:
            return max(NARROWEST, int(columns))
        try:
            return max(
                NARROWEST, os.get_terminal_size(self.out.fileno() if self.out else 1).columns
            )
        except (OSError, ValueError):
            return 80

    @property
    def screen(self) -> int | None:
        """The width that tables must keep to; None if nothing is cut."""
        return self.width if self.terminal else None

    @property
    def clock(self) -> float | None:
        """Now, for times in the form for people; None if they are shown exactly."""
        if not self.terminal:
            return None
        import time

        return time.time()

    def write(self, text: str) -> None:
        """A result, on lines of its own."""
        if self._waiting_shown:
            self.clear_waiting()
        if self.out is not None:
            self.out.write(text if text.endswith("\n") else text + "\n")

    def write_json(self, lines: Iterable[str]) -> None:
        """Write JSON: the same bytes in UTF-8 whatever the locale or the terminal."""
        from queuectl.model.escapes import terminal_safe

        for line in lines:
            # What is not valid text came as a JSON escape and leaves as one.
            self.write_bytes(terminal_safe(line).encode("utf-8", "backslashreplace") + b"\n")

    def write_bytes(self, data: bytes) -> None:
        """Write bytes of a job's output unchanged."""
        self.clear_waiting()
        if self.out is None:
            return
        binary = getattr(self.out, "buffer", None)
        if binary is None:
            self.out.write(data.decode("utf-8", "replace"))
            return
        self.out.flush()
        binary.write(data)

    def flush(self) -> None:
        """Show what was written, before a wait and before a note."""
        if self.out is not None:
            self.out.flush()

    def note(self, text: str) -> None:
        """Write a remark that is not a result to standard error, after the results so far."""
        self.clear_waiting()
        self.flush()
        if not text.replace("\n", "").isprintable():
            from queuectl.commands.render import safe_lines

            text = safe_lines(text)
        self._write_error(text if text.endswith("\n") else text + "\n")

    @property
    def shows_waiting(self) -> bool:
        """Whether waiting is shown at all."""
        return not self.quiet and is_terminal(self.err) and self.environ.get("TERM") != "dumb"

    def show_waiting(self, text: str) -> None:
        """Show what is waited for, on a line of the terminal that any other text replaces."""
        if not self.shows_waiting:
            return
        from queuectl.commands.render import clip

        self.flush()
        self._write_error(f"\r{clip(text, self.width - 1)}\x1b[K")
        self._waiting_shown = True

    def _show_lock(self, text: str) -> None:
        short = text.replace(os.path.join(self.folder, ""), "")
        self.show_waiting(short[:1].upper() + short[1:])

    def clear_waiting(self) -> None:
        """Take that line away again."""
        if self._waiting_shown:
            self._waiting_shown = False
            self._write_error("\r\x1b[K")

    def _write_error(self, text: str) -> None:
        if self.err is not None:
            try:
                self.err.write(text)
                self.err.flush()
            except OSError:
                self.err = None  # nobody reads it; the command itself goes on

    def note_enqueued(self) -> None:
        """After an enqueue: say if no worker runs the jobs; in a script at its end."""
        self._enqueued = True
        if not self.in_script:
            self.tell_if_unserved()

    def tell_if_unserved(self) -> None:
        """Say once that no worker runs the jobs enqueued here."""
        if self.quiet or not self._enqueued or self._unserved_told:
            return
        self._unserved_told.append(True)
        try:
            why = PAUSED if self.queue.all_paused else ""
            if not (why or any(worker.alive for worker in self.queue.workers())):
                why = "" if self.in_script and self.queue.is_drained() else NO_WORKER
        except StoreError:  # the jobs are in the queue, even if it cannot be read now
            return
        if why:
            self.note(why.format(self.front))

    def require_person(self, why: str) -> None:
        """Raise InvalidInput that names --yes if there is nobody to ask."""
        if not self.can_ask:
            raise InvalidInput(f"{why}, and nobody can be asked here: add --yes")

    def agreed(self, deed: str, count: int, args: Mapping[str, object]) -> bool:
        """Whether several jobs may be changed at once; asks a person if there is one."""
        if count < 2 or args.get("yes") or not self.has_person:
            return True
        if self.confirm(f"{deed} {count} jobs?"):
            return True
        self.note("Nothing was changed.")
        return False

    @property
    def has_person(self) -> bool:
        """Whether a person who can answer gave the command, not a script."""
        return not (self.in_script or self.prefix) and self.can_ask

    @property
    def can_ask(self) -> bool:
        """Whether a question would be seen and can be answered."""
        return self.ask is not None or (is_terminal(sys.stdin) and is_terminal(self.err))

    def confirm(self, question: str) -> bool:
        """Whether the person says yes; any other answer is no."""
        self.require_person(question)
        self.flush()
        if self.ask is not None:
            return self.ask(question)
        if self.err is not None:
            self.err.write(f"{question} [y/N] ")
            self.err.flush()
        try:
            return sys.stdin.readline().strip().lower() in ("y", "yes")
        except UnicodeDecodeError:
            return False

    def stdin(self) -> AbstractContextManager[IO[bytes]]:
        """Standard input, which stays open at the end; InvalidInput if it is in use."""
        from contextlib import nullcontext
        from io import BytesIO

        if self.stdin_taken:
            taken = "the shell reads the keys" if self.interactive else "commands are read from it"
            raise InvalidInput(f"standard input is taken ({taken}); name a file instead of -")
        return nullcontext(sys.stdin.buffer if sys.stdin is not None else BytesIO())

    def tell_of_edits(self) -> None:
        """Report edits of job files: once what workers found, and always what is kept."""
        from queuectl.store import opening

        words, names = opening.words_left(self.folder)
        for line in words:
            self.note(f"queuectl: {line}")
        for name in names:
            if name not in self._told_edits:
                self._told_edits.add(name)
                self.note(f"queuectl: {name} holds an edit that was not taken in: {_TAKE_OVER}")

    def tell_notices(self) -> None:
        """Show the queue's notices."""
        if self._queue is not None and self._queue.notices:
            for line in self._queue.notices:
                self.note(f"queuectl: {line}")
            self._queue.notices.clear()

    def rescue(self) -> None:
        """Rescue the jobs of workers that died, with a line for each."""
        queue = self.queue
        if not queue.exists() or not queue.lost_workers():
            return
        from queuectl.worker.rescue import rescue

        for job in rescue(queue):
            self.note(f"The worker of job '{job.id}' died; the job is {job.state} now.")

    def close(self) -> None:
        """Close the queue, which folds a small one."""
        self.clear_waiting()
        queue, self._queue = self._queue, None
        if queue is not None:
            queue.close()


def is_terminal(stream: TextIO | None) -> bool:
    """Whether the stream is a terminal; False for one that is closed or missing."""
    try:
        return stream is not None and stream.isatty()
    except ValueError:
        return False


def _colours_wanted(environ: Mapping[str, str], terminal: bool) -> bool:
    if environ.get("NO_COLOR"):
        return False
    forced = environ.get("FORCE_COLOR", "") not in ("", "0")
    return forced or (terminal and environ.get("TERM") != "dumb")
