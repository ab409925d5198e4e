"""The keys of the prompt that prompt_toolkit does not bind as we want them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from prompt_toolkit.enums import DEFAULT_BUFFER, EditingMode
from prompt_toolkit.filters import Condition, has_completions, has_focus, vi_navigation_mode
from prompt_toolkit.key_binding import KeyBindings
from prompt_toolkit.keys import Keys

from queuectl.shell.lines import is_open
from queuectl.shell.validator import LineError

if TYPE_CHECKING:
    from prompt_toolkit.buffer import Buffer
    from prompt_toolkit.key_binding.key_processor import KeyPressEvent

    from queuectl.shell.aliases import Aliases

_typing = has_focus(DEFAULT_BUFFER)


def shell_keys(aliases: Aliases) -> KeyBindings:
    """Enter, Tab, Escape and F4 as the shell wants them."""
    keys = KeyBindings()
    keys.add("enter", filter=_typing)(partial(_enter, aliases))
    keys.add("escape", "enter", filter=_typing & ~vi_navigation_mode)(_new_line)
    keys.add("tab", filter=_typing & Condition(_has_offer))(_take_offer)
    keys.add("escape", filter=_typing & has_completions)(_close_menu)
    keys.add("f4")(_change_mode)
    keys.add(Keys.BracketedPaste, filter=_typing)(_paste)
    return keys


def _enter(aliases: Aliases, event: KeyPressEvent) -> None:
    """Take the chosen entry of the menu; else go on with an open line; else run the line."""
    buffer = event.current_buffer
    if buffer.complete_state and buffer.complete_state.current_completion:
        buffer.complete_state = None
    elif is_open(buffer.text, aliases):
        buffer.cursor_position = len(buffer.text)
        buffer.insert_text("\n")
    else:
        buffer.cancel_completion()
        buffer.validate_and_handle()


def _new_line(event: KeyPressEvent) -> None:
    event.current_buffer.insert_text("\n")


def _paste(event: KeyPressEvent) -> None:
    """Insert what was pasted; its last line end is no line of its own."""
    text = event.data.replace("\r\n", "\n").replace("\r", "\n")
    event.current_buffer.insert_text(text.rstrip("\n"))


def _offer(buffer: Buffer) -> LineError | None:
    error = buffer.validation_error
    return error if isinstance(error, LineError) and error.mistake.hint else None


def _has_offer() -> bool:
    from prompt_toolkit.application import get_app

    return _offer(get_app().current_buffer) is not None


def _take_offer(event: KeyPressEvent) -> None:
    """Put what was meant in place of what was typed."""
    buffer = event.current_buffer
    error = _offer(buffer)
    if error is not None:
        wrong, text = error.mistake, buffer.text
        buffer.text = text[: wrong.start] + wrong.hint + text[wrong.end :]
        buffer.cursor_position = wrong.start + len(wrong.hint)


def _close_menu(event: KeyPressEvent) -> None:
    event.current_buffer.cancel_completion()


def _change_mode(event: KeyPressEvent) -> None:
    vi = event.app.editing_mode == EditingMode.VI
    event.app.editing_mode = EditingMode.EMACS if vi else EditingMode.VI
