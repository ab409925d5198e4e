"""The keys of the prompt that prompt_toolkit does not bind in our way."""

from __future__ import annotations

import asyncio
from functools import partial

from prompt_toolkit.application import get_app
from prompt_toolkit.buffer import Buffer, CompletionState
from prompt_toolkit.completion import CompleteEvent, Completion, get_common_complete_suffix
from prompt_toolkit.document import Document
from prompt_toolkit.enums import DEFAULT_BUFFER, EditingMode
from prompt_toolkit.filters import (
    Condition,
    emacs_mode,
    has_completions,
    has_focus,
    is_searching,
    vi_insert_mode,
    vi_navigation_mode,
)
from prompt_toolkit.key_binding import KeyBindings
from prompt_toolkit.key_binding.bindings.search import abort_search, accept_search
from prompt_toolkit.key_binding.key_processor import KeyPressEvent
from prompt_toolkit.keys import Keys
from prompt_toolkit.layout import Layout
from prompt_toolkit.search import SearchState

from queuectl.shell.aliases import Aliases
from queuectl.shell.lines import is_open
from queuectl.shell.prompt.validator import LineError

_typing = has_focus(DEFAULT_BUFFER)
_GOES_ON = ("/", "=", "{", ": ")  # ends of candidates after which no blank may follow


def shell_keys(aliases: Aliases) -> KeyBindings:
    """The shell's bindings of Enter, Tab, Up, Escape and F4."""
    keys = KeyBindings()
    inserting = emacs_mode | vi_insert_mode
    keys.add("tab", filter=_typing & inserting)(_complete)
    keys.add("up", filter=_typing & Condition(_menu_is_untouched))(_history)
    keys.add("c-p", filter=_typing & inserting & Condition(_menu_is_untouched))(_history)
    keys.add("enter", filter=is_searching & emacs_mode)(_run_found)
    keys.add("enter", filter=_typing)(partial(_enter, aliases))
    keys.add("escape", "enter", filter=_typing & ~vi_navigation_mode)(
        lambda event: event.current_buffer.insert_text("\n")
    )
    keys.add("tab", filter=_typing & Condition(lambda: _offer() is not None))(_take_offer)
    keys.add("escape", filter=_typing & has_completions)(
        lambda event: event.current_buffer.cancel_completion()
    )
    keys.add("f4")(_change_mode)
    keys.add(Keys.BracketedPaste, filter=_typing)(_paste)
    return keys


def _enter(aliases: Aliases, event: KeyPressEvent) -> None:
    """Take the chosen entry of the menu; else continue an open line; else run the line."""
    buffer = event.current_buffer
    if buffer.complete_state and buffer.complete_state.current_completion:
        buffer.complete_state = None
    elif is_open(buffer.text, aliases):
        buffer.cursor_position = len(buffer.text)
        buffer.insert_text("\n")
    else:
        buffer.cancel_completion()
        buffer.validate_and_handle()


def _run_found(event: KeyPressEvent) -> None:
    """Run the line that was found; if none was, stay on the line being typed."""
    if unfound(event.app.layout):
        abort_search.call(event)
        return
    accept_search.call(event)
    event.current_buffer.validate_and_handle()


def unfound(layout: Layout) -> str:
    """The text of a search in the history, if no line contains it."""
    line = layout.search_target_buffer_control
    if line is None:
        return ""
    text, state = layout.current_buffer.text if layout.current_buffer else "", line.search_state
    wanted = SearchState(text, state.direction, state.ignore_case)
    found = line.buffer.document_for_search(wanted).text
    return "" if text.lower() in found.lower() else text


def _menu_is_untouched() -> bool:
    buffer = get_app().current_buffer
    return buffer.complete_state is not None and not _is_chosen(buffer)


def _history(event: KeyPressEvent) -> None:
    event.current_buffer.cancel_completion()
    event.current_buffer.auto_up(count=event.arg)


def _complete(event: KeyPressEvent) -> None:
    """Move on in the menu; a single candidate is taken, and the menu of what follows opens."""
    buffer = event.current_buffer
    if _is_chosen(buffer):
        buffer.complete_next()
    else:  # an open menu may not be complete yet
        menu = buffer.complete_state
        has_menu = menu is not None and bool(menu.completions)
        event.app.create_background_task(_ask(buffer, enter=has_menu))


def _is_chosen(buffer: Buffer) -> bool:
    return buffer.complete_state is not None and buffer.complete_state.complete_index is not None


async def candidates(buffer: Buffer, document: Document) -> list[Completion]:
    """The candidates for the end of the text, found in another thread."""
    event = CompleteEvent(completion_requested=True)
    find = partial(buffer.completer.get_completions, document, event)
    return await asyncio.get_running_loop().run_in_executor(None, lambda: list(find()))


async def _ask(buffer: Buffer, enter: bool) -> None:
    """Take a single candidate; of several insert the common part, or `enter` their menu."""
    document = buffer.document
    found = await candidates(buffer, document)
    if buffer.document != document or _is_chosen(buffer) or not found:
        return
    if len(found) == 1:
        _take(buffer, found[0])
        return
    common = "" if enter else get_common_complete_suffix(document, found)
    if common:
        buffer.insert_text(common)
        found = [one.new_completion_from_position(len(common)) for one in found]
    buffer.complete_state = CompletionState(buffer.document, found)
    if enter:
        buffer.go_to_completion(0)


def _take(buffer: Buffer, found: Completion) -> None:
    buffer.apply_completion(found)
    if not found.text.endswith(_GOES_ON):
        if buffer.document.current_char == " ":
            buffer.cursor_position += 1
        else:
            buffer.insert_text(" ", fire_event=False)
    buffer.start_completion()


def _paste(event: KeyPressEvent) -> None:
    """Insert pasted text; its last line end does not start a new line."""
    text = event.data.replace("\r\n", "\n").replace("\r", "\n")
    event.current_buffer.insert_text(text.rstrip("\n"))


def _offer() -> LineError | None:
    error = get_app().current_buffer.validation_error
    return error if isinstance(error, LineError) and error.mistake.hint else None


def _take_offer(event: KeyPressEvent) -> None:
    """Replace what was typed by the suggested word."""
    buffer, error = event.current_buffer, _offer()
    if error is not None:
        wrong, text = error.mistake, buffer.text
        buffer.text = text[: wrong.start] + wrong.hint + text[wrong.end :]
        buffer.cursor_position = wrong.start + len(wrong.hint)


def _change_mode(event: KeyPressEvent) -> None:
    vi = event.app.editing_mode == EditingMode.VI
    event.app.editing_mode = EditingMode.EMACS if vi else EditingMode.VI
