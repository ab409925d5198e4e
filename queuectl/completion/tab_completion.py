"""Answers another shell's Tab: `queuectl __complete SHELL LINE`.

LINE is the command line up to the cursor as typed, with quotes. The answer is a line for each
candidate: the whole word, a tab, its description. The exit code `FILES` asks the shell for file
names instead. Errors are never shown at a Tab.
"""

from __future__ import annotations

import os
import sys

from queuectl.commands.grammar.expecting import UncheckedBinder, expected
from queuectl.commands.grammar.tokens import tokenize
from queuectl.commands.table import COMMANDS
from queuectl.completion.candidates import complete
from queuectl.live.live_queue import LiveQueue
from queuectl.store import opening

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from queuectl.commands.grammar.bound import Bound
    from queuectl.completion.candidates import Candidate

FILES = 10
_MOST = 200  # candidates; jobs of a kind; a shell shows no more without asking
_LONGEST = 60  # characters of a description
_TO_BE_QUOTED = frozenset(" \t\n'\"\\{}$`|&;<>()*?[]!#~")


def answer(words: Sequence[str]) -> int:
    """Write the candidates for `[SHELL, LINE]`; 0, or FILES. Never raises."""
    try:
        shell, line = words
        found = candidates(line, os.environ, only_prefixes=shell != "fish")
    except Exception:
        return 0  # whatever the error is, the command itself reports it when it is run
    if found is None:
        return FILES
    lines = [f"{word}\t{meaning}\n" for word, meaning in found]
    if sys.stdout is not None:
        sys.stdout.write("".join(lines))
    return 0


def candidates(
    line: str, environ: Any, *, only_prefixes: bool = False
) -> list[tuple[str, str]] | None:
    """The words that may replace the last one, with descriptions; None: file names.

    `only_prefixes`: only words that begin with it, for a shell that would replace it by any other.
    """
    program = tokenize(line)[:1]
    text = line[program[0].end :].lstrip() if program else ""
    bound = UncheckedBinder(COMMANDS, text, tokenize(text)).bind()
    last = bound.tokens[-1] if bound.tokens else None
    begins = last.start if last is not None and last.end == len(text) else len(text)
    typed = text[begins:]
    if _is_for_files(bound, typed):
        return _programs(bound, typed) or None
    live = LiveQueue(opening.watch(_folder(bound, environ)), most=_MOST)
    try:
        found = complete(bound, live, only_prefixes=only_prefixes)
    finally:
        live.close()
    words = [(text[begins : item.start] + item.text, item) for item in found]
    if bound.open:
        typed = bound.tokens[-1].text  # inside quotes that the shell will close
    return [
        (word, _one_line(item))
        for word, item in words[:_MOST]
        if _TO_BE_QUOTED.isdisjoint(word) and (not only_prefixes or word.startswith(typed))
    ]


def _is_for_files(bound: Bound, typed: str) -> bool:
    """Whether a file name may come, or a word of a command line after `--`."""
    kinds = {item.kind for item in expected(bound)}
    if "argv" in kinds:
        return any(token.role == "end" for token in bound.tokens)
    return "path" in kinds and (typed[:1] != "-" or "=" in typed)


def _programs(bound: Bound, typed: str) -> list[tuple[str, str]]:
    """The programs that the first word after `--` may become, each with its folder."""
    ends = [at for at, token in enumerate(bound.tokens) if token.role == "end"]
    if not typed or "/" in typed or ends[:1] != [len(bound.tokens) - 2]:
        return []
    from queuectl.completion.system_words import programs

    found = ((name, folder) for _, name, folder in programs(typed))
    return [pair for pair in found if _TO_BE_QUOTED.isdisjoint(pair[0])][:_MOST]


def _folder(bound: Bound, environ: Any) -> str:
    data = bound.values.get("data")
    return opening.find(data if isinstance(data, str) else None, environ)


def _one_line(item: Candidate) -> str:
    meaning = " ".join(item.meaning.split())
    return meaning if len(meaning) <= _LONGEST else meaning[: _LONGEST - 1] + "…"
