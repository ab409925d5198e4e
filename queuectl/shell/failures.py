"""Errors in a key's handler or in what it started: shown in a line, and the keyboard works on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from prompt_toolkit.application import Application
from prompt_toolkit.buffer import Buffer

from queuectl.errors import InvalidInput, line_of


def guard_keys(app: Application[Any], failed: Callable[[BaseException], None]) -> None:
    """Keep exceptions of key handlers inside `app`; call `failed` with them instead."""
    keys = app.key_processor
    # Handler by handler: after an exception in `process_keys` the keys after it are lost.
    _guard(keys, "_call_handler", failed)
    _guard(keys, "process_keys", failed)


def _guard(keys: object, name: str, failed: Callable[[BaseException], None]) -> None:
    usual = getattr(keys, name)

    def guarded(*args: Any, **named: Any) -> None:
        try:
            usual(*args, **named)
        except Exception as exc:
            failed(exc)

    setattr(keys, name, guarded)


def guard_editor(buffer: Buffer) -> None:
    """Pass only UTF-8 text to an editor and back; InvalidInput for other text."""
    usual, run = buffer.open_in_editor, buffer._open_file_in_editor

    def opened(validate_and_handle: bool = False) -> asyncio.Task[None]:
        try:
            buffer.text.encode()
        except UnicodeEncodeError as exc:
            where = f"character {exc.start + 1} of the line is a byte that is not UTF-8"
            raise InvalidInput(f"the editor is not opened: {where}; delete it first") from None
        return usual(validate_and_handle)

    def saved(path: str) -> bool:
        if not run(path):
            return False
        try:
            with open(path, encoding="utf-8") as file:
                file.read()
        except UnicodeDecodeError:
            raise InvalidInput(
                "what the editor saved is not in UTF-8; the line stays as it was"
            ) from None
        return True

    setattr(buffer, "open_in_editor", opened)  # noqa: B010
    setattr(buffer, "_open_file_in_editor", saved)  # noqa: B010


def guard_loop(failed: Callable[[BaseException], None]) -> None:
    """Call `failed` with the exceptions of callbacks and tasks of the running loop."""

    def told(_: asyncio.AbstractEventLoop, what: Mapping[str, Any]) -> None:
        error = what.get("exception")
        if error is not None:
            failed(error)

    asyncio.get_running_loop().set_exception_handler(told)


def failure_text(error: BaseException, environ: Mapping[str, str]) -> str:
    """The line that a person sees, after the traceback if QUEUECTL_DEBUG is set."""
    line = f"queuectl: {line_of(error)}"
    if not environ.get("QUEUECTL_DEBUG"):
        return line
    import traceback

    return "".join(traceback.format_exception(error)) + line
