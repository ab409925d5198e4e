"""The prompt: one or more lines of input, with all that is drawn around them."""

from __future__ import annotations

import contextlib
import contextvars
import sys
from collections.abc import Callable

from prompt_toolkit import PromptSession
from prompt_toolkit.application import run_in_terminal
from prompt_toolkit.buffer import CompletionState
from prompt_toolkit.cursor_shapes import ModalCursorShapeConfig
from prompt_toolkit.enums import EditingMode
from prompt_toolkit.filters import to_filter
from prompt_toolkit.formatted_text import AnyFormattedText, StyleAndTextTuples
from prompt_toolkit.input import Input
from prompt_toolkit.output import ColorDepth, Output
from prompt_toolkit.output.plain_text import PlainTextOutput
from prompt_toolkit.utils import is_dumb_terminal

from queuectl.commands.render import clip, one_line, unjoined
from queuectl.live.live_queue import LiveQueue
from queuectl.live.standing import Standing
from queuectl.shell.aliases import Aliases
from queuectl.shell.failures import guard_editor, guard_keys, guard_loop
from queuectl.shell.history import SharedHistory, SuggestFromHistory
from queuectl.shell.prompt.highlighter import LineLexer
from queuectl.shell.prompt.keys import candidates, shell_keys, unfound
from queuectl.shell.prompt.menu import ShellCompleter
from queuectl.shell.prompt.toolbar import toolbar, toolbar_lines
from queuectl.shell.prompt.validator import LineValidator
from queuectl.shell.style import shell_style

_NAME = "queuectl> "
_NARROW = 40  # columns below which the prompt is short
_MENU = 8  # rows kept free for the menu, if the terminal has them


class _Session(PromptSession[str]):
    """A PromptSession that keeps as much room for the menu as the terminal has now."""

    @property
    def reserve_space_for_menu(self) -> int:
        """Rows of the input and below; with a fixed number a small terminal shows no prompt."""
        rows = self.app.output.get_size().rows
        return max(1, min(_MENU, rows - toolbar_lines(rows) - 1))

    @reserve_space_for_menu.setter
    def reserve_space_for_menu(self, rows: int) -> None:
        pass  # prompt_toolkit's own default

    @property
    def bottom_toolbar(self) -> AnyFormattedText:
        """None if there is no room for it: an empty one would still take a row."""
        return self._shown_below if toolbar_lines(self.app.output.get_size().rows) else None

    @bottom_toolbar.setter
    def bottom_toolbar(self, shown: AnyFormattedText) -> None:
        self._shown_below = shown


class Prompt:
    """Reads lines from the terminal. `standing` gives what the toolbar shows about the queue.

    `failed` is called with errors in a key or around the line; the person can type on.
    """

    def __init__(
        self,
        queue: LiveQueue,
        history: SharedHistory,
        standing: Callable[[], Standing | None],
        aliases: Aliases,
        failed: Callable[[BaseException], None],
        *,
        colour: bool = True,
        input: Input | None = None,
        output: Output | None = None,
    ) -> None:
        self._standing = standing
        self._aliases = aliases
        self._failed = failed
        self._context: contextvars.Context | None = None
        self._dumb = output is None and is_dumb_terminal()
        self._session = _Session(
            self._message,
            multiline=True,
            prompt_continuation=self._continuation,
            lexer=LineLexer(aliases),
            completer=ShellCompleter(queue, aliases),
            complete_in_thread=True,
            validator=None if self._dumb else LineValidator(aliases),
            validate_while_typing=False,
            history=history,
            auto_suggest=SuggestFromHistory(history),
            search_ignore_case=True,
            enable_suspend=True,
            enable_open_in_editor=True,
            tempfile_suffix=".queuectl",
            style=shell_style(colour),
            include_default_pygments_style=False,
            color_depth=ColorDepth.DEPTH_4_BIT if colour else ColorDepth.DEPTH_1_BIT,
            cursor=ModalCursorShapeConfig(),
            bottom_toolbar=self._toolbar,
            key_bindings=shell_keys(aliases),
            input=input,
            output=PlainTextOutput(sys.stdout) if self._dumb else output,
        )
        if self._dumb:
            # A plain prompt needs output=None; an output of ours would write escapes.
            self._session._output = None
        # Set only on the buffer: on the session it would end completion while typing.
        self._session.default_buffer.enable_history_search = to_filter(True)
        guard_keys(self._session.app, failed)
        guard_editor(self._session.default_buffer)

    def read(self, started: Callable[[], None] | None = None) -> str:
        """The next line; `started` is called once the prompt is on the screen.

        Raises KeyboardInterrupt for Ctrl-C and EOFError for Ctrl-D.
        """
        app = self._session.app

        def rendered(_: object) -> None:
            app.after_render.remove_handler(rendered)
            if started is not None:
                started()

        def begin() -> None:
            self._context = contextvars.copy_context()
            guard_loop(self._failed)
            # A search that was open when the last line ended would keep the keys.
            app.layout.focus(self._session.default_buffer)
            app.after_render.add_handler(rendered)

        try:
            return self._session.prompt(pre_run=begin, set_exception_handler=False)
        finally:
            self._context = None

    def leave(self) -> bool:
        """End the line being read with EOFError; False if there is none.

        For the handler of a signal.
        """
        app = self._session.app

        def end() -> None:
            if app.is_running and not app.is_done:
                app.exit(exception=EOFError)

        return self._soon(end)

    def _soon(self, act: Callable[[], None]) -> bool:
        """Let the loop that reads the line call `act`, from any thread; False without a line."""
        context, loop = self._context, self._session.app.loop
        if context is None or loop is None:
            return False
        with contextlib.suppress(RuntimeError):  # the line has just been finished
            loop.call_soon_threadsafe(act, context=context)
        return True

    def redraw(self) -> None:
        """Redraw what changed; from any thread."""
        self._soon(self._session.app.invalidate)

    def above(self, show: Callable[[], None]) -> None:
        """Call `show`, which writes to the terminal, with the prompt hidden; from any thread.

        Without a line being read it is not called.
        """

        def begin() -> None:
            if self._session.app.is_running:
                run_in_terminal(show)

        self._soon(begin)

    def offer_anew(self) -> None:
        """Update an open menu, unless the person is choosing from it; from any thread."""

        def begin() -> None:
            state = self._session.default_buffer.complete_state
            if state and state.complete_index is None and self._session.app.is_running:
                self._session.app.create_background_task(self._offer_anew(state))

        self._soon(begin)

    async def _offer_anew(self, state: CompletionState) -> None:
        buffer, document = self._session.default_buffer, state.original_document
        found = await candidates(buffer, document)
        if len(found) == 1 and document.text_before_cursor.endswith(found[0].text):
            found = []  # it is already typed
        if buffer.complete_state is state and state.complete_index is None:
            # A new state, so that a thread that still fills the old one sees that it is obsolete.
            buffer.complete_state = CompletionState(document, found) if found else None
            self._session.app.invalidate()

    @property
    def rows(self) -> int:
        return self._session.app.output.get_size().rows

    @property
    def keys(self) -> str:
        """ "vi" or "emacs"."""
        return "vi" if self._session.app.editing_mode == EditingMode.VI else "emacs"

    def set_keys(self, mode: str) -> None:
        """Use the keys of "vi" or "emacs" from now on."""
        self._session.app.editing_mode = EditingMode.VI if mode == "vi" else EditingMode.EMACS

    def _message(self) -> StyleAndTextTuples:
        narrow = self._session.app.output.get_size().columns < _NARROW
        return [("class:prompt", "> " if narrow else _NAME)]

    def _continuation(self, width: int, line: int, wrapped: int) -> StyleAndTextTuples:
        return [("class:prompt", "" if wrapped else "... ".rjust(width)[-width:])]

    def _toolbar(self) -> StyleAndTextTuples:
        size = self._session.app.output.get_size()
        missing = unfound(self._session.app.layout)
        if missing:
            text = clip(f" no line holds '{unjoined(one_line(missing))}'", size.columns)
            return [("class:bottom-toolbar.warning", text)]
        line = self._session.default_buffer.document.text_before_cursor
        return toolbar(self._standing(), line, size.columns, size.rows, self._aliases)
