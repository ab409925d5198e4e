"""The lines below the prompt: the standing of the queue, and the usage of the typed command.

live/watcher.py reads the standing.
"""

from __future__ import annotations

from prompt_toolkit.formatted_text import StyleAndTextTuples

from queuectl.commands.grammar.bound import Bound
from queuectl.commands.grammar.expecting import expected
from queuectl.commands.help.pages import synopsis
from queuectl.commands.render import cells, clip, counted
from queuectl.live.standing import Standing
from queuectl.shell.aliases import Aliases
from queuectl.shell.lines import is_system_line, split_commands

_SHOWN = (
    ("in_progress", "running"),
    ("pending", "pending"),
    ("failed", "failed"),
    ("dead", "dead"),
    ("completed", "completed"),
    ("cancelled", "cancelled"),
)
_FEW = 2  # up to so many options are all named
_WAITING = ("pending", "failed")
_TIP = "Tab completes, 'help' explains, Ctrl-D leaves"
_NOW = "class:bottom-toolbar.now"
_WARNING = "class:bottom-toolbar.warning"
TALL = 10  # from so many rows on the usage gets its own line
SHORT = 5  # with fewer rows there is no toolbar


def toolbar_lines(rows: int) -> int:
    """The number of lines of the toolbar on a terminal of `rows` rows."""
    return 0 if rows < SHORT else 1 if rows < TALL else 2


def toolbar(
    standing: Standing | None, line: str, columns: int, rows: int, aliases: Aliases
) -> StyleAndTextTuples:
    """What the toolbar shows for a half-typed line."""
    lines = toolbar_lines(rows)
    state: StyleAndTextTuples = standing_text(standing, columns) if standing else [("", "")]
    if lines < 2:
        return state if lines else []
    return [*_usage_line(line, columns, aliases), ("", "\n"), *state]


def standing_text(standing: Standing, columns: int) -> StyleAndTextTuples:
    """The standing in one line; a warning comes first."""
    if standing.trouble:
        return [(_WARNING, clip(f" ! {standing.trouble}", columns))]
    waiting = sum(standing.counts.get(state, 0) for state in _WAITING)
    workers = counted(standing.workers, "worker") if standing.workers else "no workers"
    counts = [f"{standing.counts[s]} {name}" for s, name in _SHOWN if standing.counts.get(s)]
    told = f" {workers} | {', '.join(counts) or 'no jobs'}"
    if standing.hindered:
        warning = clip(f" ! {standing.hindered}", columns)
        return [(_WARNING, warning), ("", clip(f" |{told}", columns - cells(warning)))]
    if not waiting or standing.workers or standing.is_early:
        return [("", clip(told, columns))]
    jobs = "1 job waits" if waiting == 1 else f"{waiting} jobs wait"
    warning = f" ! {jobs}, no worker runs: worker start"
    if cells(warning) > columns:
        warning = f" ! no worker, {waiting} wait"
    rest = clip(f" |{told.partition('|')[2]}", columns - cells(warning))
    return [(_WARNING, clip(warning, columns)), ("", rest)]


def _usage_line(line: str, columns: int, aliases: Aliases) -> StyleAndTextTuples:
    pieces = split_commands(line, aliases.specs)
    if not pieces:
        return [("", clip(f" {_TIP}", columns))]
    if is_system_line(pieces[-1].text):
        return [("", clip(" runs at once in your own shell, outside the queue", columns))]
    parts = usage(aliases.bind(pieces[-1].text).bound)
    if not parts:
        return [("", clip(f" {_TIP}", columns))]
    shown: StyleAndTextTuples = []
    room = columns - 1
    for style, text in [("", " "), *parts]:
        shown.append((style, clip(text, room)))
        room -= cells(text)
        if room <= 0:
            break
    return shown


def usage(bound: Bound) -> list[tuple[str, str]]:
    """The usage of the line's command, with the next part highlighted."""
    spec = bound.innermost.spec or bound.spec
    awaited = next((e.param for e in expected(bound) if e.param is not None), None)
    if spec is None:
        return []
    if awaited is not None and awaited.name[0] == "-":
        return [(_NOW, awaited.name), ("", f": {awaited.help}")]
    operands = [param for param in spec.params if param.name[0] != "-"]
    options = [param for param in spec.params if param.name[0] == "-"]
    parts = [("", " ".join(spec.words))]
    for param in operands:
        parts += [("", " "), (_NOW if param is awaited else "", synopsis((param,))[0])]
    few = synopsis(options) if len(options) <= _FEW else ["[OPTIONS]"]
    about = awaited.help if awaited is not None else spec.summary
    return [*parts, *(("", f" {word}") for word in few), ("", f" - {about}")]
