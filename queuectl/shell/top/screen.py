"""The full screen of `top`: when it is drawn, and what the keys do."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from functools import partial

from prompt_toolkit.application import Application
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.input import Input
from prompt_toolkit.key_binding import KeyBindings
from prompt_toolkit.key_binding.key_processor import KeyPressEvent
from prompt_toolkit.layout import FormattedTextControl, Layout, Window
from prompt_toolkit.output import ColorDepth, Output

from queuectl.commands.render import clip
from queuectl.errors import QueuectlError
from queuectl.job_queue import JobQueue
from queuectl.live.feed import Feed, Picture
from queuectl.live.output import Position, Wish, wrapped
from queuectl.live.rows import ORDERS, Rows, View
from queuectl.live.standing import Standing
from queuectl.model.job import FINISHED, Job
from queuectl.model.times import format_time
from queuectl.shell.failures import failure_text, guard_keys, guard_loop
from queuectl.shell.signals import terminal_kept
from queuectl.shell.style import shell_style
from queuectl.shell.top.table import Line, body_rows, log_rows, log_screen, screen
from queuectl.store import opening

_PAUSE = 0.5  # seconds between looks
_HINT = " q quit  Enter output  c cancel  r retry  p pause  s sort  / filter  ? all keys"
_SHORT_HINT = " q quit  ? all keys"
_NARROW = 60  # columns
_LOG_HINT = " q back  arrows scroll  End follow  w wrap  c cancel  r retry  p hold"
_SHORT_LOG_HINT = " q back  ? all keys"
_KEYS = """\
 Up, Down, j, k    another job; scroll output
 PgUp, PgDn        a screen at once
 Home, End         the first, the last
 Enter, l          its output, as it grows
 w                 wrap long lines, or cut
 c                 cancel it (asks first)
 r                 retry it, or run it again
 p, Space          pause the display; jobs and workers go on
 Left, Right       other workers, if not all are named
 s, S              next order; turn it round
 /                 filter by id, state, command (Ctrl-U, Ctrl-W)
 Esc               no filter
 q, Ctrl-C         leave; jobs go on"""
_MOVES = {name: name for name in ("up", "down", "pageup", "pagedown", "home", "end")}
_NAMED = (*_MOVES, "left", "right", "enter", "escape", "backspace", "c-u", "c-w")
_MOVES |= {"k": "up", "j": "down"}
_SILENT = frozenset(("<cursor-position-response>", "<ignore>"))  # the terminal's own


class TopScreen:
    """The screen on one data folder; `run` returns when the person leaves."""

    def __init__(
        self,
        folder: str,
        view: View,
        *,
        colour: bool = True,
        input: Input | None = None,
        output: Output | None = None,
    ) -> None:
        self.view = view
        self.picture = Picture(0.0, Standing({}, 0), Rows())
        self.mode = "jobs"  # "keys", "filter", or "cancel" and "retry" while it asks
        self._help_at = 0  # the first line shown of the help on keys
        self.message = ""
        self.failures: list[str] = []  # shown when the screen is left
        self._folder = folder
        self._feed = Feed(opening.watch(folder), opening.output(folder))
        self._log = ""  # the job whose output is shown
        self._position: Position | None = None  # from which position; None: its growing end
        self._moves = 0  # by how many rows to scroll
        self._wrap = True
        self._asked: Wish | None = None  # the read that is under way, if still wanted
        self._shown: list[Line] = []
        self._looking = asyncio.Lock()
        control = FormattedTextControl(self._text, show_cursor=False)
        self.app: Application[int] = Application(
            Layout(Window(control, always_hide_cursor=True, wrap_lines=False)),
            style=shell_style(colour),
            include_default_pygments_style=False,
            color_depth=ColorDepth.DEPTH_4_BIT if colour else ColorDepth.DEPTH_1_BIT,
            key_bindings=self._bindings(),
            full_screen=True,
            input=input,
            output=output,
        )
        self.app.ttimeoutlen = 0.05  # Escape alone has a meaning here
        guard_keys(self.app, self._failed)

    def run(self) -> int:
        """Returns 0; SystemExit after SIGTERM and SIGHUP. Restores the screen."""

        def begin() -> None:
            guard_loop(self._failed)
            self.app.create_background_task(self._watch())

        try:
            with terminal_kept(self._leave):
                code = self.app.run(pre_run=begin, set_exception_handler=False)
        finally:
            self._feed.close()
            if sys.stderr is not None:
                sys.stderr.write("".join(f"{text}\n" for text in self.failures))
        if code:
            raise SystemExit(code)
        return 0

    def _leave(self, code: int) -> bool:
        """Called by a signal's handler."""
        loop = self.app.loop
        if loop is None or not self.app.is_running:
            return False
        loop.call_soon_threadsafe(partial(self._exit, code))
        return True

    def _exit(self, code: int = 0) -> None:
        if self.app.is_running and not self.app.is_done:
            self.app.exit(result=code)

    def _failed(self, error: BaseException) -> None:
        """Show an error in a key in the last line; the screen stays."""
        self.message = failure_text(error, os.environ).splitlines()[-1]
        if os.environ.get("QUEUECTL_DEBUG"):
            self.failures.append(failure_text(error, os.environ))
        self.app.invalidate()

    async def _watch(self) -> None:
        first = True
        while True:
            try:
                await self._look()
            except Exception as exc:
                self._failed(exc)
            # The first time, again at once: only now it is known what is visible.
            await asyncio.sleep(0 if first else _PAUSE)
            first = False

    async def _look(self) -> None:
        """Take a picture in another thread, and draw it if it looks different."""
        async with self._looking:
            if not self.view.paused:
                await self._take_picture()
        if self._lines() != self._shown:
            self.app.invalidate()

    async def _take_picture(self) -> None:
        wish = self._asked = self._wish()
        first = not self.picture.now
        rows, top = self._rows(), self.view.first
        shown = [rows[at] for at in range(top, min(top + body_rows(self._size()[1]), len(rows)))]
        look = partial(self._feed.look, shown, wish, at_once=first)
        picture = await asyncio.get_running_loop().run_in_executor(None, look)
        picture.jobs.apply(picture.changes)
        picture.jobs.wake(format_time(picture.now))
        self.picture = picture
        if wish is not None and wish is self._asked and wish.move and picture.page is not None:
            page = picture.page
            self._moves -= wish.move
            ends = page.at_end and (wish.move > 0 or page.position == (0, 0))
            self._position = None if ends else page.position

    def _wish(self) -> Wish | None:
        """Which part of an output to show."""
        if not self._log:
            return None
        columns, rows = self._size()
        return Wish(self._log, self._position, self._moves, columns, log_rows(rows), self._wrap)

    def _size(self) -> tuple[int, int]:
        size = self.app.output.get_size()
        return size.columns, size.rows

    def _rows(self) -> Rows:
        return self.view.rows(self.picture.jobs)

    # -- what is drawn

    def _text(self) -> StyleAndTextTuples:
        self._shown = self._lines()
        text: StyleAndTextTuples = []
        for at, line in enumerate(self._shown):
            text += [("", "\n")] * bool(at) + line
        return text

    def _lines(self) -> list[Line]:
        columns, rows = self._size()
        if self.mode == "keys":
            return self._help(columns, rows)
        if self._log:
            return log_screen(self.picture, self._log, columns, rows, self._footer())
        return screen(self.picture, self.view, columns, rows, self._footer())

    def _help(self, columns: int, rows: int) -> list[Line]:
        """The help on keys, as much as fits; the last line says how to go on."""
        lines = [part for line in _KEYS.splitlines() for part in wrapped(line, columns)]
        room = rows if len(lines) <= rows else rows - 1
        self._help_at = max(0, min(self._help_at, len(lines) - room))
        shown: list[Line] = [[("", line)] for line in lines[self._help_at : self._help_at + room]]
        if room < rows:
            shown.append([("class:top.message", clip(" arrows, q back", columns))])
        return shown

    def _footer(self) -> tuple[str, str]:
        if self.mode == "filter":
            return "", f" filter: {self.view.filter}_  (Enter keeps it, Esc drops it)"
        if self.mode == "cancel":
            return "class:top.question", f" Cancel job '{self.view.marked}'? y/n"
        if self.mode == "retry":
            return "class:top.question", f" Run job '{self.view.marked}' again? y/n"
        if self.message:
            return "class:top.message", f" {self.message}"
        narrow = self._size()[0] < _NARROW
        if self._log:
            return "", _SHORT_LOG_HINT if narrow else _LOG_HINT
        return "", _SHORT_HINT if narrow else _HINT

    # -- what the keys do

    def _bindings(self) -> KeyBindings:
        keys = KeyBindings()
        for name in _NAMED:
            keys.add(name, eager=name == "escape")(partial(self._press, name))
        for name in ("c-c", "<sigint>"):
            keys.add(name)(lambda event: self._exit())
        keys.add("c-z")(lambda event: event.app.suspend_to_background())
        keys.add("c-l")(lambda event: event.app.renderer.clear())
        keys.add("<any>")(self._typed)
        return keys

    def _typed(self, event: KeyPressEvent) -> None:
        key = event.key_sequence[0].key
        name = str(getattr(key, "value", key))
        if name == "<bracketed-paste>":  # pasted text is not keys but may go into a filter
            if self.mode == "filter":
                self.view.filter += "".join(filter(str.isprintable, event.data))
        elif event.data.isprintable():
            for char in event.data:
                self._press(char, event)
        elif name not in _SILENT:
            self._press(name, event)

    def _press(self, key: str, event: KeyPressEvent) -> None:
        self.message = ""
        if self.mode == "filter":
            self._edit_filter(key)
        elif self.mode in ("cancel", "retry"):
            deed, self.mode = self.mode, "jobs"
            if key in ("y", "Y") and self.view.marked:
                self._change(deed, self.view.marked)
        elif self.mode == "keys":
            self._read_help(key)
        elif key in _ACTIONS:
            _ACTIONS[key](self)
        elif key in _MOVES and self._log:
            self._scroll(_MOVES[key])
        elif key in _MOVES:
            self._move(_MOVES[key])
        elif key in ("left", "right") and not self._log:
            self.view.worker = max(0, self.view.worker + (1 if key == "right" else -1))
        else:
            self.message = f"'{key}' does nothing here (? shows the keys)"
        self.app.create_background_task(self._look())  # other jobs may be visible now

    def _edit_filter(self, key: str) -> None:
        if key in ("enter", "escape"):
            self.mode = "jobs"
            self.view.filter = self.view.filter if key == "enter" else ""
        elif key == "backspace":
            self.view.filter = self.view.filter[:-1]
        elif key == "c-u":
            self.view.filter = ""
        elif key == "c-w":
            self.view.filter = self.view.filter.rstrip().rpartition(" ")[0]
        elif len(key) == 1:
            self.view.filter += key

    def _read_help(self, key: str) -> None:
        page = self._size()[1] - 1
        steps = {"up": -1, "down": 1, "pageup": -page, "pagedown": page, "home": -999, "end": 999}
        if key in _MOVES:
            self._help_at = max(0, self._help_at + steps[_MOVES[key]])
        else:
            self.mode = "jobs"

    def _move(self, key: str) -> None:
        rows, room = self._rows(), body_rows(self._size()[1])
        if not rows:
            return
        at, last = self.view.row_shown(rows, room), len(rows) - 1
        steps = {"up": -1, "down": 1, "pageup": -room, "pagedown": room, "home": -at, "end": last}
        self.view.marked = rows[max(0, min(at + steps[key], last))].id
        self.view.row_shown(rows, room)

    def _scroll(self, key: str) -> None:
        """Scroll the output; the next picture will show it."""
        room = log_rows(self._size()[1])
        if key in ("home", "end"):
            self._show_from((0, 0) if key == "home" else None)
        else:
            self._moves += {"up": -1, "down": 1, "pageup": -room, "pagedown": room}[key]

    def _show_from(self, position: Position | None) -> None:
        self._position, self._moves, self._asked = position, 0, None

    def _mark(self) -> Job | None:
        """The marked job, or the first one if none was chosen yet."""
        rows = self._rows()
        if not rows:
            return None
        job = rows[self.view.row_shown(rows, body_rows(self._size()[1]))]
        self.view.marked = job.id
        return job

    def follow(self) -> None:
        """Show the output of the marked job as it grows."""
        job = self._mark()
        self._log = job.id if job and not self._log else ""
        self._show_from(None)
        self.view.paused = False

    def ask_cancel(self) -> None:
        """Ask before cancelling the marked job, if it can be cancelled."""
        job = self._mark()
        if job is not None and job.state in FINISHED:
            self.message = f"Job '{job.id}' is {job.state}; there is nothing to cancel."
        elif job is not None:
            self.mode = "cancel"

    def retry(self) -> None:
        """Make the marked job pending; ask first if it has ended."""
        job = self._mark()
        if job is not None and job.state in FINISHED:
            self.mode = "retry"
        elif job is not None:
            self._change("retry", job.id)

    def _change(self, deed: str, job_id: str) -> None:
        """Cancel or retry a job in another thread, since that may wait for the lock."""

        def act() -> str:
            queue = JobQueue.open(self._folder)
            try:
                if deed == "cancel":
                    queue.cancel([job_id])
                else:
                    queue.retry([job_id])
                queue.close()
            except QueuectlError as exc:
                return str(exc)
            done = "is cancelled, or will be" if deed == "cancel" else "is pending again"
            return f"Job '{job_id}' {done}."

        async def change() -> None:
            self.message = await asyncio.get_running_loop().run_in_executor(None, act)
            await self._look()

        self.message = "..."
        self.app.create_background_task(change())

    def back(self) -> None:
        """Leave the output, or the screen."""
        if self._log:
            self._log = ""
        else:
            self._exit()

    def escape(self) -> None:
        """Leave the output; remove the filter."""
        if self._log:
            self._log = ""
        else:
            self.view.filter = ""

    def wrap(self) -> None:
        """Wrap long lines of output, or cut them at the edge."""
        self._wrap = not self._wrap
        self._show_from(self._position and (self._position[0], 0))

    def pause(self) -> None:
        """Pause or resume the display; output pauses by no longer following its end."""
        if self._log:
            page = self.picture.page
            self._show_from(page.position if page and self._position is None else None)
        else:
            self.view.paused = not self.view.paused
            if self.view.paused:
                self.message = "Only the display is paused: jobs and workers go on. p shows them."

    def next_order(self) -> None:
        orders = [*ORDERS]
        self.view.order = orders[(orders.index(self.view.order) + 1) % len(orders)]

    def turn_round(self) -> None:
        self.view.backward = not self.view.backward

    def ask_filter(self) -> None:
        if not self._log:
            self.mode = "filter"

    def show_keys(self) -> None:
        self.mode, self._help_at = "keys", 0


_ACTIONS: dict[str, Callable[[TopScreen], None]] = {
    "q": TopScreen.back,
    "escape": TopScreen.escape,
    "enter": TopScreen.follow,
    "l": TopScreen.follow,
    "c": TopScreen.ask_cancel,
    "r": TopScreen.retry,
    "w": TopScreen.wrap,
    "p": TopScreen.pause,
    " ": TopScreen.pause,
    "s": TopScreen.next_order,
    "S": TopScreen.turn_round,
    "/": TopScreen.ask_filter,
    "?": TopScreen.show_keys,
    "h": TopScreen.show_keys,
}
