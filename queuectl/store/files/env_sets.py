"""env_sets.json: sets of captured variables, each once, under the id that its jobs hold.

A set is written before the record of the first job that names it, and unused sets are removed only
in a fold: so a job never names a missing set.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any
from zlib import crc32

from queuectl.model.env_set import fault
from queuectl.places import ENV_SETS
from queuectl.store import door
from queuectl.store.files.job_files import mistake
from queuectl.store.files.side_files import parse_object

_MANY = 32  # with more sets, a fold looks for those that no job names
_NAMED = rb'"env_set": "(\w+)"'  # compiled only if there are many sets


class EnvSets:
    """The file env_sets.json, parsed anew only after it changed."""

    def __init__(self, folder: str) -> None:
        self._path = os.path.join(folder, ENV_SETS)
        self._known: tuple[tuple[int, int, int], dict[str, Any]] | None = None

    def read(self) -> Mapping[str, Mapping[str, Any]]:
        """The sets by id, none if there is no file; BadFile if it has a mistake."""
        try:
            found = os.lstat(self._path)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        key = (found.st_ino, found.st_mtime_ns, found.st_size)
        if self._known is None or self._known[0] != key:
            self._known = (key, parse(door.read(self._path), self._path))
        return self._known[1]

    def id_of(self, form: Mapping[str, Any]) -> str:
        """The id that the set has, or will have unless another set takes it first."""
        return _free_id(form, self.read())

    def keep(self, form: Mapping[str, Any]) -> str:
        """Put the set on the disk, if it is not there; returns its id. Under the lock."""
        return self.keep_all({"": form})[""]

    def keep_all(self, forms: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
        """Put these sets on the disk; returns the new id of each by its own. Under the lock.

        Raises BadFile for a file with a mistake, which is not overwritten.
        """
        sets = dict(self.read())
        before, ids = len(sets), {}
        for own, form in forms.items():
            wanted = ids[own] = _free_id(form, sets)
            sets.setdefault(wanted, form)
        if len(sets) > before:
            self._write(sets)
        return ids

    def drop_unused(self, lines: Iterable[bytes]) -> None:
        """If there are many sets, remove those that no job names; under the lock.

        `lines` are those of all jobs.
        """
        sets = self.read()
        if len(sets) < _MANY:
            return
        named = {found[1].decode() for line in lines for found in re.finditer(_NAMED, line)}
        kept = {key: form for key, form in sets.items() if key in named}
        if len(kept) < len(sets):
            self._write(kept)

    def _write(self, sets: Mapping[str, Mapping[str, Any]]) -> None:
        door.replace(self._path, layout(sets))


def layout(sets: Mapping[str, Mapping[str, Any]]) -> bytes:
    """The file's content: a JSON object, one set a line."""
    # ASCII: a variable may hold bytes that are not UTF-8.
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(form)}" for key, form in sets.items())
    return f"{{\n{lines}\n}}\n".encode() if sets else b"{\n}\n"


def _free_id(form: Mapping[str, Any], sets: Mapping[str, Any]) -> str:
    """The id under which exactly this set is kept, or can be."""
    sum_ = crc32(json.dumps(form, sort_keys=True).encode())
    while sets.get(f"{sum_:08x}", form) != form:  # taken by another set with the same checksum
        sum_ = (sum_ + 1) & 0xFFFFFFFF
    return f"{sum_:08x}"


def parse(data: bytes, path: str) -> dict[str, Any]:
    """The sets in the file's bytes; BadFile with the position if they are not sets."""
    text, sets = parse_object(data, path)
    for key, form in sets.items():
        wrong = fault(form)
        if wrong:
            at = text.find(json.dumps(key))
            raise mistake(path, text, max(at, 0), f"set {key}: {wrong}")
    return sets


def sets_in(data: bytes) -> dict[str, Any]:
    """The sets of a damaged file that are whole on a line of their own."""
    found: dict[str, Any] = {}
    for line in data.decode("utf-8", "replace").splitlines():
        try:
            pairs = json.loads(f"{{{line.strip().rstrip(',')}}}")
        except (ValueError, RecursionError):
            continue
        found |= {key: form for key, form in pairs.items() if not fault(form)}
    return found
