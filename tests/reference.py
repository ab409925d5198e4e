"""docs/commands.md and docs/queuectl.1, made from the table of commands, docs/life.md of the moves.

`python -m tests.reference` writes them into docs/, or into the folder it is given.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

from queuectl import __version__
from queuectl.commands.grammar.specs import GLOBAL_OPTIONS, CommandSpec, Param
from queuectl.commands.help.pages import TOPICS, help_text, spelled, synopsis
from queuectl.commands.table import COMMANDS
from queuectl.model.fields import STATES
from queuectl.model.job import FINISHED
from queuectl.model.lifecycle import LATER, MOST_INTERRUPTIONS, MOST_LOSSES, TRANSITIONS

_ABOUT = "run shell commands in the background, with retries and dead letters"
_WAYS = (
    ("queuectl COMMAND ...", "run one command"),
    ("queuectl < SCRIPT", "run one command per line; or: queuectl -f SCRIPT"),
    ("queuectl", "open the shell, on a terminal"),
)
_SCRIPT_OPTIONS = (
    ("-f FILE", "read the commands from FILE"),
    ("--stop-on-error", "end at the first command that fails"),
    ("--dry-run", "show the mistakes and run nothing"),
    ("--resume FILE", "keep the progress in FILE, and go on from there"),
)
_TOPICS = (*TOPICS, "settings", "fields")


def markdown() -> str:
    """The command reference."""
    parts = [
        "# Commands",
        "Made from the table of commands by `python -m tests.reference`; "
        "`queuectl help` shows the same.",
        _bullets(_WAYS),
        "Options of every command, anywhere on the line:",
        _bullets([(spelled(param), param.help) for param in GLOBAL_OPTIONS]),
        "Options of a script:",
        _bullets(_SCRIPT_OPTIONS),
        *(_section(spec) for spec in COMMANDS),
    ]
    for topic in _TOPICS:
        title, _, text = help_text((topic,)).partition("\n")
        parts.append(f"## {title}\n\n```text\n{text.rstrip()}\n```")
    return "\n\n".join(parts) + "\n"


def _section(spec: CommandSpec) -> str:
    usage = " ".join(["queuectl", *spec.words, *synopsis(spec.params)])
    parts = [f"## {' '.join(spec.words)}", spec.summary, f"    {usage}"]
    parts += [spec.details] if spec.details else []
    if spec.params:
        parts.append(_bullets(_described(spec)))
    parts.append("\n".join(["```sh", *(f"queuectl {line}" for line in spec.examples), "```"]))
    if spec.aliases:
        parts.append("Also: " + ", ".join(f"`{' '.join(alias)}`" for alias in spec.aliases) + ".")
    return "\n\n".join(parts)


def _described(spec: CommandSpec) -> list[tuple[str, str]]:
    return [(spelled(param), _bounded(param)) for param in spec.params]


def _bounded(param: Param) -> str:
    """What the parameter means, and the values it is limited to."""
    if param.choices and not any(word in param.help for word in param.choices):
        return f"{param.help}: {', '.join(param.choices)}"
    if param.high is not None:
        return f"{param.help} ({param.low:g} to {param.high:g})"
    return param.help


def _bullets(pairs: Iterable[tuple[str, str]]) -> str:
    return "\n".join(f"- `{name}`: {meaning}" for name, meaning in pairs)


def man_page() -> str:
    """The manual page, as man(7) wants it."""
    lines = [
        f'.TH QUEUECTL 1 "" "queuectl {__version__}" "User Commands"',
        *_heading("NAME"),
        f"queuectl \\- {_ABOUT}",
        *_heading("SYNOPSIS"),
    ]
    for way, meaning in _WAYS:
        lines += [".TP", f".B {_roff(way)}", _roff(meaning)]
    lines += [*_heading("OPTIONS"), "Of every command, anywhere on the line:"]
    lines += _tagged([(spelled(param), param.help) for param in GLOBAL_OPTIONS])
    lines += [".PP", "Of a script:", *_tagged(_SCRIPT_OPTIONS)]
    lines += _heading("COMMANDS")
    for spec in COMMANDS:
        lines += _manual_of(spec)
    for topic in _TOPICS:
        title, _, text = help_text((topic,)).partition("\n")
        lines += [*_heading(title.upper()), ".nf", *map(_roff, text.splitlines()), ".fi"]
    return "\n".join(lines) + "\n"


def _heading(title: str) -> list[str]:
    return [f".SH {_roff(title)}"]


def _manual_of(spec: CommandSpec) -> list[str]:
    usage = " ".join([*spec.words, *synopsis(spec.params)])
    lines = [f".SS {_roff(' '.join(spec.words))}", f".B {_roff(usage)}", ".PP"]
    lines.append(_roff(" ".join(filter(None, (spec.summary, spec.details)))))
    lines += _tagged(_described(spec))
    lines += [".PP", "Examples:", ".PP", ".nf", ".RS"]
    lines += [*(_roff(f"queuectl {line}") for line in spec.examples), ".RE", ".fi"]
    if spec.aliases:
        lines += [".PP", _roff("Also: " + ", ".join(" ".join(words) for words in spec.aliases))]
    return lines


def _tagged(pairs: Iterable[tuple[str, str]]) -> list[str]:
    return [line for name, text in pairs for line in (".TP", f".B {_roff(name)}", _roff(text))]


def _roff(text: str) -> str:
    """Text in which roff finds nothing to act on."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
    text = text.replace("`", "\\(ga").replace("^", "\\(ha").replace("~", "\\(ti")
    return f"\\&{text}" if text.startswith((".", "\\(aq")) else text


# What each event of model/lifecycle.py means to a reader.
_EVENTS = {
    "claim": "a worker takes the job and runs its command",
    "fire": "a schedule is due: a copy of it runs, and it waits for its next time",
    "skip": "a schedule is due, but its copy before still lives, or it is late and is not to catch "
    "up: no copy runs",
    "succeed": "the command exits with 0",
    "fail": "the run fails, and a retry is left: the job waits for base ^ attempts seconds",
    "defer": f"the run exits with {LATER}: it asks for a later one, and nothing is spent",
    "bury": "the last try fails, or one that must not be tried again, "
    f"{MOST_LOSSES} workers die of it, or {MOST_INTERRUPTIONS} stops in a row leave it unended; or "
    "nobody can tell when a schedule is due next",
    "release": "its worker is stopped, or has no room to start it: the run does not count",
    "lose": "its worker died: the rescuer ends what is left of the run",
    "cancel": "somebody cancels it; of a job that runs the worker is asked to end it",
    "end": "the worker has ended the run that was to be cancelled",
    "retry": "somebody makes it due now; an ended job starts anew, with all its tries",
    "replace": "enqueue --replace puts another command in its place, with all its tries",
    "fall": "a job that it waits for is dead; it comes back when that is retried",
    "fall_cancelled": "a job that it waits for was cancelled; it comes back when that is retried",
}


def life() -> str:
    """The states of a job and the moves between them, as a diagram and as a table."""
    edges: dict[tuple[str, str], list[str]] = {}
    for (before, event), after in TRANSITIONS.items():
        edges.setdefault((before, after), []).append(event)
    diagram = [
        "```mermaid",
        "stateDiagram-v2",
        "    [*] --> pending: enqueue",
        *(f"    {old} --> {new}: {', '.join(names)}" for (old, new), names in edges.items()),
        *(f"    {state} --> [*]: purge" for state in STATES if state in FINISHED),
        "```",
    ]
    rows = [
        f"| {event} | {', '.join(old for old, name in TRANSITIONS if name == event)} | {meaning} |"
        for event, meaning in _EVENTS.items()
    ]
    return (
        "\n\n".join(
            [
                "# The life of a job",
                "Made from the moves in `model/lifecycle.py`, as the reference of commands is. A "
                "move that is not among them is refused, and changes nothing.",
                "\n".join(diagram),
                "\n".join(["| event | from | what happened |", "|---|---|---|", *rows]),
            ]
        )
        + "\n"
    )


PAGES = {"commands.md": markdown, "queuectl.1": man_page, "life.md": life}


def write_pages(folder: str) -> None:
    """Write the documents into a folder."""
    for name, page in PAGES.items():
        with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
            file.write(page())


if __name__ == "__main__":
    write_pages(sys.argv[1] if len(sys.argv) > 1 else "docs")
