"""Words of the system for completion: programs, files and folders."""

from __future__ import annotations

import os

from queuectl.commands.grammar.tokens import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import TypeAlias

    from queuectl.commands.grammar.bound import Token

    # How it is written on the line, how the menu shows it, and its description.
    Word: TypeAlias = tuple[str, str, str]

_MOST = 300  # programs
_SIGNS = frozenset(("|", "||", "&", "&&", "!", "(", "{"))
_BEFORE_A_PROGRAM = _SIGNS | {"do", "then", "else", "env", "exec", "nice", "nohup", "sudo", "time"}


def of_line(text: str, tokens: Sequence[Token]) -> tuple[int, list[Word]]:
    """What may come at the end of a command line for /bin/sh, and from which index on.

    Programs where a command begins; files and folders elsewhere and after a slash.
    """
    last = tokens[-1] if tokens and tokens[-1].end == len(text) else None
    before = [*(tokens[:-1] if last else tokens)]
    typed, start = (last.text, last.start) if last else ("", len(text))
    begins = not before or before[-1].raw in _BEFORE_A_PROGRAM or before[-1].raw.endswith(";")
    if begins and "/" not in typed and typed[:1] != "~":
        return start, programs(typed)
    return start, list(paths(typed))


def programs(start: str) -> list[Word]:
    """The programs of the PATH whose names begin with `start`, each with its folder."""
    folders: dict[str, str] = {}
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        try:
            names = os.listdir(folder or ".")
        except OSError:
            continue
        for name in names:
            if name.startswith(start):
                folders.setdefault(name, folder)
    found: list[Word] = []
    for name in sorted(folders):
        path = os.path.join(folders[name], name)
        if os.access(path, os.X_OK) and os.path.isfile(path):
            found.append((quote(name), name, folders[name]))
            if len(found) == _MOST:
                break
    return found


def paths(typed: str, only_folders: bool = False) -> Iterator[Word]:
    """Files and folders whose path begins with what is typed."""
    folder, name = os.path.split(typed)
    try:
        entries = sorted(os.scandir(os.path.expanduser(folder) or "."), key=lambda e: e.name)
        kinds = {entry.name: entry.is_dir() for entry in entries}
    except (OSError, ValueError):
        return
    for entry, is_folder in kinds.items():
        hidden = entry.startswith(".") and not name.startswith(".")
        if entry.startswith(name) and not hidden and (is_folder or not only_folders):
            shown = entry + "/" * is_folder
            whole = os.path.join(folder, shown)
            text = whole if folder.startswith("~") else quote(whole)
            yield text, shown, "folder" if is_folder else ""
