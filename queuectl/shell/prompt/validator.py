"""Checks whether a line can be run, when Enter is pressed, never while typing."""

from __future__ import annotations

from typing import NamedTuple

from prompt_toolkit.application import get_app
from prompt_toolkit.document import Document
from prompt_toolkit.validation import ValidationError, Validator

from queuectl.commands.render import cells, clip
from queuectl.shell.aliases import Aliases
from queuectl.shell.lines import is_system_line, split_commands


class Mistake(NamedTuple):
    """The mistake in `text[start:end]`; `hint` could replace it, or is ""."""

    message: str
    start: int
    end: int
    hint: str


def find_mistake(text: str, aliases: Aliases) -> Mistake | None:
    """The first mistake in a line, or in several that were pasted."""
    pieces = split_commands(text, aliases.specs)
    for piece in pieces:
        if is_system_line(piece.text):
            continue
        reading = aliases.bind(piece.text)
        for fault in reading.bound.faults:
            prefix = f"line {piece.line}: " if len(pieces) > 1 else ""
            start, end = reading.typed(fault.start, fault.end)
            hint = "" if reading.within_alias(fault.start) else fault.hint
            return Mistake(prefix + fault.message, piece.start + start, piece.start + end, hint)
    return None


class LineError(ValidationError):
    """A mistake as the prompt shows it."""

    def __init__(self, mistake: Mistake, width: int) -> None:
        super().__init__(mistake.start, fitted(mistake, width))
        self.mistake = mistake


def fitted(mistake: Mistake, width: int) -> str:
    """The message within `width` columns; if it does not fit, the suggestion comes first."""
    short, meant, _ = mistake.message.partition("?)")
    for message in (mistake.message, short + meant):
        for offer in (" [Tab takes it]" if mistake.hint else "", ""):
            if cells(message + offer) <= width:
                return message + offer
    return clip(f"{mistake.hint}? " + mistake.message if mistake.hint else mistake.message, width)


class LineValidator(Validator):
    """Refuses a wrong line, so that it stays on the prompt with the cursor at the fault."""

    def __init__(self, aliases: Aliases) -> None:
        self._aliases = aliases

    def validate(self, document: Document) -> None:
        """Raises LineError."""
        mistake = find_mistake(document.text, self._aliases)
        if mistake is not None:
            raise LineError(mistake, get_app().output.get_size().columns)
