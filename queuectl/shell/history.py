"""The history of lines, of this shell and others: for arrow keys, Ctrl-R and suggestions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable

from prompt_toolkit.auto_suggest import AutoSuggest, Suggestion
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.document import Document
from prompt_toolkit.history import History

from queuectl.shell.history_file import HistoryFile

_BATCH = 500  # entries passed on before a key may be handled


class SharedHistory(History):
    """The entries of the file, each once at its latest position; read again at every prompt.

    `warn` is called once if the file cannot be read or written; the shell goes on without it.
    """

    def __init__(self, file: HistoryFile, warn: Callable[[str], None]) -> None:
        super().__init__()
        self._file = file
        self._warn: Callable[[str], None] | None = warn
        self._entries: dict[str, None] = {}  # oldest first

    async def load(self) -> AsyncGenerator[str, None]:
        """The entries, newest first, those of other shells too."""
        # The prompt has been drawn by now; a thread would only let a quick Ctrl-R find nothing.
        self._look()
        for count, entry in enumerate(self.get_strings()[::-1]):
            if count % _BATCH == _BATCH - 1:
                await asyncio.sleep(0)
            yield entry

    def get_strings(self) -> list[str]:
        """The entries known so far, oldest first."""
        return list(self._entries)

    def append_string(self, string: str) -> None:
        """Keep a line, unless it starts with a blank, which means: forget it."""
        entry = string.rstrip()
        if not entry or string[0].isspace():
            return
        self._add(entry)
        self.store_string(entry)

    def load_history_strings(self) -> Iterable[str]:
        """The entries, newest first."""
        self._look()
        return reversed(self.get_strings())

    def store_string(self, string: str) -> None:
        try:
            self._file.append(string)
        except OSError as exc:
            self._refused("written", exc)

    def newest(self, start: str) -> str | None:
        """The newest entry that begins with `start` and is longer."""
        for entry in reversed(self.get_strings()):
            if entry.startswith(start) and entry != start:
                return entry
        return None

    def _look(self) -> None:
        try:
            entries, everything = self._file.news()
        except OSError as exc:
            self._refused("read", exc)
            return
        if everything:
            self._entries = {}
        for entry in entries:
            self._add(entry)

    def _add(self, entry: str) -> None:
        self._entries.pop(entry, None)
        self._entries[entry] = None

    def _refused(self, deed: str, exc: OSError) -> None:
        warn, self._warn = self._warn, None
        if warn is not None:
            warn(f"The history cannot be {deed} ({self._file.path}: {exc.strerror or exc}).")


class SuggestFromHistory(AutoSuggest):
    """Suggests how a line that began like this went on; taken with the right arrow."""

    def __init__(self, history: SharedHistory) -> None:
        self._history = history

    def get_suggestion(self, buffer: Buffer, document: Document) -> Suggestion | None:
        """The rest of the newest line of history that starts with this one."""
        text = document.text
        if not text.strip() or "\n" in text:
            return None
        found = self._history.newest(text)
        return Suggestion(found[len(text) :]) if found and "\n" not in found else None
