"""env_sets.json: sets of captured variables, each once, by the id that its jobs hold.

It is written before the record of the first job that names a set, and sets that no job names any
more are removed in a fold only: so a job never names a set that is not there.
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

_MANY = 32  # sets from which on a fold looks for those that no job names
_NAMED = rb'"env_set": "(\w+)"'  # compiled only when there are many sets


class EnvSets:
    """The file, parsed anew only when it changed."""

    def __init__(self, folder: str) -> None:
        self._path = os.path.join(folder, ENV_SETS)
        self._known: tuple[tuple[int, int, int], dict[str, Any]] | None = None

    def read(self) -> Mapping[str, Mapping[str, Any]]:
        """The sets by id, none if there is no file; BadFile if that holds a mistake."""
        try:
            found = os.lstat(self._path)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        key = (found.st_ino, found.st_mtime_ns, found.st_size)
        if self._known is None or self._known[0] != key:
            self._known = (key, parse(door.read(self._path), self._path))
        return self._known[1]

    def id_of(self, form: Mapping[str, Any]) -> str:
        """The id that the set has, or will have unless another takes it first."""
        return _free_id(form, self.read())

    def keep(self, form: Mapping[str, Any]) -> str:
        """The id of the set, which is on the disk from now on; under the lock."""
        return self.keep_all({"": form})[""]

    def keep_all(self, forms: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
        """The ids under which these sets are on the disk from now on, by their own; under the lock.

        Raises BadFile for a file that holds a mistake: it is not written over.
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
        """Remove sets that no job names, if there are many; under the lock.

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
    """The id under which just this set is kept, or may be."""
    sum_ = crc32(json.dumps(form, sort_keys=True).encode())
    while sets.get(f"{sum_:08x}", form) != form:  # another set has the same checksum
        sum_ = (sum_ + 1) & 0xFFFFFFFF
    return f"{sum_:08x}"


def parse(data: bytes, path: str) -> dict[str, Any]:
    """The sets in the file's bytes; BadFile, with the position, if these are not sets."""
    text, sets = parse_object(data, path)
    for key, form in sets.items():
        wrong = fault(form)
        if wrong:
            at = text.find(json.dumps(key))
            raise mistake(path, text, max(at, 0), f"set {key}: {wrong}")
    return sets


def sets_in(data: bytes) -> dict[str, Any]:
    """Those sets of a damaged file that stand whole on a line of their own."""
    found: dict[str, Any] = {}
    for line in data.decode("utf-8", "replace").splitlines():
        try:
            pairs = json.loads(f"{{{line.strip().rstrip(',')}}}")
        except (ValueError, RecursionError):
            continue
        found |= {key: form for key, form in pairs.items() if not fault(form)}
    return found
