"""The completion menu: candidates from the grammar and the queue, for prompt_toolkit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document

from queuectl.commands.grammar.tokens import tokenize
from queuectl.commands.render import unjoined
from queuectl.live.live_queue import LiveQueue
from queuectl.shell.aliases import Aliases
from queuectl.shell.lines import is_system_line, split_commands

if TYPE_CHECKING:
    from queuectl.completion.candidates import Candidate


class ShellCompleter(Completer):
    """Completes the text before the cursor; runs in its own thread."""

    def __init__(self, queue: LiveQueue, aliases: Aliases) -> None:
        self._queue = queue
        self._aliases = aliases

    def get_completions(self, document: Document, event: CompleteEvent) -> Iterator[Completion]:
        """The candidates, likeliest first."""
        # Here, in the thread that completes: the first prompt need not wait for it.
        from queuectl.completion.candidates import complete, shell_words

        pieces = split_commands(document.text_before_cursor, self._aliases.specs)
        text = pieces[-1].text if pieces else ""
        if pieces and pieces[-1].start + len(text) < document.cursor_position:
            text = ""  # a new line has begun
        if is_system_line(text):
            text = text.lstrip()[1:]
            for found in shell_words(text, tokenize(text, behind_dashes=True)):
                yield _as_shown(found, text)
            return
        if not text and not event.completion_requested:
            return  # an empty line does not ask for a menu
        if event.completion_requested:
            self._queue.look_again()
        bound = self._aliases.bind(text, typing=True).bound
        for found in complete(bound, self._queue, whole=event.completion_requested):
            yield _as_shown(found, bound.text)


def _as_shown(found: Candidate, text: str) -> Completion:
    return Completion(
        found.text,
        start_position=found.start - len(text),
        display=unjoined(found.shown),
        display_meta=unjoined(found.meaning),
    )
