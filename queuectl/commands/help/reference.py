"""docs/commands.md and docs/queuectl.1, made from the table of commands.

`python -m queuectl.commands.help.reference` writes both into docs/, or into the folder it is given.
"""

from __future__ import annotations

import os
import sys

from queuectl import __version__
from queuectl.commands.grammar.specs import GLOBAL_OPTIONS, CommandSpec, Param
from queuectl.commands.help.pages import TOPICS, help_text, spelled, synopsis
from queuectl.commands.table import COMMANDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_ABOUT = "run shell commands in the background, with retries and dead letters"
_WAYS = (
    ("queuectl COMMAND ...", "run one command"),
    ("queuectl < SCRIPT", "run a command a line; or: queuectl -f SCRIPT"),
    ("queuectl", "open the shell, on a terminal"),
)
_SCRIPT_OPTIONS = (
    ("-f FILE", "read the commands from FILE"),
    ("--stop-on-error", "end at the first command that fails"),
    ("--dry-run", "tell the mistakes and run nothing"),
    ("--resume FILE", "keep in FILE how far it got, and go on from there"),
)
_TOPICS = (*TOPICS, "settings", "fields")


def markdown() -> str:
    """The command reference."""
    parts = [
        "# Commands",
        "Made from the table of commands by `python -m queuectl.commands.help.reference`; "
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


PAGES = {"commands.md": markdown, "queuectl.1": man_page}


def write_pages(folder: str) -> None:
    """Write both documents into a folder."""
    for name, page in PAGES.items():
        with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
            file.write(page())


if __name__ == "__main__":
    write_pages(sys.argv[1] if len(sys.argv) > 1 else "docs")
