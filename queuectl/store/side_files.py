"""config.json and worker_pids.json: small files that are read and written whole."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence

from queuectl.config import Settings
from queuectl.errors import BadFile, InvalidInput
from queuectl.store import files

SETTINGS, WORKERS = "config.json", "worker_pids.json"
_LEFT = "nothing was changed: put it right, then try again"
_SETTING = re.compile(r'^[ \t{]*"([^"\\]+)"[ \t]*:[ \t]*(.+?)[ \t]*[,}]?[ \t]*$', re.M)


def read_settings(folder: str) -> Mapping[str, object]:
    """What config.json holds; BadFile if that is a mistake."""
    path = os.path.join(folder, SETTINGS)
    try:
        values = json.loads(files.read(path))
    except (ValueError, RecursionError) as exc:
        raise BadFile(f"{path}: {exc}; {_LEFT}") from None
    if not isinstance(values, dict):
        raise BadFile(f"{path} must hold a JSON object; {_LEFT}")
    try:
        Settings(values)
    except InvalidInput as exc:
        raise BadFile(f"{path}: {exc}; {_LEFT}") from None
    return values


def write_settings(folder: str, values: Mapping[str, object]) -> None:
    """Replace config.json; under the lock."""
    text = json.dumps(values, indent=2, ensure_ascii=False)
    files.replace(os.path.join(folder, SETTINGS), f"{text}\n".encode())


def read_workers(folder: str) -> list[dict[str, object]]:
    """The entries of worker_pids.json; BadFile if they are none."""
    path = os.path.join(folder, WORKERS)
    try:
        entries = json.loads(files.read(path))
    except (ValueError, RecursionError) as exc:
        raise BadFile(f"{path}: {exc}; {_LEFT}") from None
    if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
        raise BadFile(f"{path} must hold an array of objects; {_LEFT}")
    return entries


def write_workers(folder: str, entries: Sequence[Mapping[str, object]]) -> None:
    """Replace worker_pids.json; under the lock."""
    lines = ",\n".join(json.dumps(entry) for entry in entries)
    text = f"[\n{lines}\n]\n" if entries else "[\n]\n"
    files.replace(os.path.join(folder, WORKERS), text.encode())


# -- what can be read of a damaged one


def settings_in(data: bytes) -> dict[str, object]:
    """Those settings that are whole and have a value that is allowed."""
    text = data.decode("utf-8", "surrogateescape")
    found: dict[str, object] = {}
    for name, value in _pairs(text):
        try:
            Settings({name: value})
            json.dumps({name: value}, ensure_ascii=False).encode()
        except (InvalidInput, ValueError):
            continue
        found[name] = value
    return found


def _pairs(text: str) -> Iterator[tuple[str, object]]:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        values = None
    if isinstance(values, dict):
        yield from values.items()
        return
    for found in _SETTING.finditer(text):
        try:
            yield found[1], json.loads(found[2])
        except (ValueError, RecursionError):
            continue


def workers_in(values: Sequence[object]) -> list[dict[str, object]]:
    """Those of the values that tell of a worker."""
    return [
        value
        for value in values
        if isinstance(value, dict) and isinstance(value.get("id"), str) and "pid" in value
    ]
