"""config.json, worker_pids.json and env_sets.json: small files that are read and written whole."""

from __future__ import annotations

import json
import os
import re
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from zlib import crc32

from queuectl.config import Settings
from queuectl.errors import BadFile, InvalidInput
from queuectl.model.env_set import fault
from queuectl.model.fields import check_id
from queuectl.places import ENV_SETS, SETTINGS, WORKER_LIST
from queuectl.store import door
from queuectl.store.files.job_files import LEFT, mistake, no_twins
from queuectl.store.files.marker import check_folder, is_new

TYPE_CHECKING = False
if TYPE_CHECKING:
    from queuectl.model.gate import Gate

_SETTING = r'^[ \t{]*"([^"\\]+)"[ \t]*:[ \t]*(.+?)[ \t]*[,}]?[ \t]*$'
_MANY = 32  # with more sets, a fold looks for those that no job names
_NAMED = rb'"env_set": "(\w+)"'  # compiled only if there are many sets


class SettingsFile:
    """config.json, parsed anew only after it changed."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._path = os.path.join(folder, SETTINGS)
        self._gate: tuple[Mapping[str, object], Gate | None] = ({}, None)
        self._known: tuple[int, int, int] | None = None
        self.last: Mapping[str, object] = {}  # its content when it was last read

    def read(self) -> Mapping[str, object]:
        """Its settings, none if there is no queue yet; BadFile if the file has a mistake."""
        try:
            found = os.lstat(self._path)
        except OSError:
            if not check_folder(self._folder) or is_new(self._folder):
                return {}
            found = self._look_again()
        key = (found.st_ino, found.st_mtime_ns, found.st_size)
        if self._known != key:
            self.last, self._known = read_settings(self._folder), key
        return self.last

    def patience(self) -> float:
        return Settings(self.read()).lock_timeout

    def gate(self) -> Gate | None:
        """What the settings hold; called under the lock at each claim, so it costs only a stat."""
        values = self.read()
        if values is not self._gate[0]:
            self._gate = (values, Settings(values).gate())
        return self._gate[1]

    def _look_again(self) -> os.stat_result:
        # It is made before the journal, which perhaps did not exist at the first look.
        try:
            return os.lstat(self._path)
        except FileNotFoundError:
            raise BadFile(
                f"{self._path} is missing; queuectl doctor --repair writes it anew, "
                "with every setting at its default"
            ) from None
        except OSError as exc:
            raise door.unusable(self._folder, exc) from exc


class EnvSets:
    """env_sets.json: sets of captured variables, each once, under the id that its jobs hold.

    A set is written before the record of the first job that names it, and unused sets are removed
    only in a fold: so a job never names a missing set.
    """

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
            self._known = (key, parse_sets(door.read(self._path), self._path))
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
        door.replace(self._path, layout_sets(sets))


def parse_object(data: bytes, path: str) -> tuple[str, dict[str, Any]]:
    """The file's text and the JSON object in it; BadFile, with the position, for anything else."""
    try:
        text = data.removeprefix(BOM_UTF8).decode()  # some editors begin a file with this
        values = json.loads(text, object_pairs_hook=no_twins)
    except json.JSONDecodeError as exc:
        raise mistake(path, text, exc.pos, exc.msg) from None
    except (ValueError, RecursionError, InvalidInput) as exc:
        raise BadFile(f"{path}: {exc}; {LEFT}") from None
    if not isinstance(values, dict):
        raise BadFile(f"{path} must hold a JSON object; {LEFT}")
    return text, values


def read_settings(folder: str) -> Mapping[str, object]:
    """The settings in config.json; BadFile, with line and column, for a mistake."""
    path = os.path.join(folder, SETTINGS)
    text, values = parse_object(door.read(path), path)
    named: set[str] = set()
    for name, value in values.items():
        try:
            settings = Settings({name: value})
            if not named.isdisjoint(settings.changed):
                raise InvalidInput(f"'{name}' is there already, in another spelling")
        except InvalidInput as exc:
            key = re.search(rf'"{re.escape(name)}"\s*:', text)
            raise mistake(path, text, key.start() if key else 0, str(exc)) from None
        named |= settings.changed.keys()
    return values


def write_settings(folder: str, values: Mapping[str, object]) -> None:
    """Replace config.json; under the lock."""
    text = json.dumps(values, indent=2, ensure_ascii=False)
    door.replace(os.path.join(folder, SETTINGS), f"{text}\n".encode())


def read_workers(folder: str) -> list[dict[str, object]]:
    """The entries of worker_pids.json; BadFile if it holds anything else."""
    path = os.path.join(folder, WORKER_LIST)
    try:
        entries = json.loads(door.read(path))
    except (ValueError, RecursionError) as exc:
        raise BadFile(f"{path}: {exc}; {LEFT}") from None
    if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
        raise BadFile(f"{path} must hold an array of objects; {LEFT}")
    for entry in entries:
        if not _has_name(entry):
            raise BadFile(f"{path}: {entry.get('id')!r} is not a worker's id; {LEFT}")
    return entries


def _has_name(entry: Mapping[str, object]) -> bool:
    """Whether the entry's id, a part of file names, does not lead elsewhere."""
    try:
        check_id(entry.get("id"))
    except InvalidInput:
        return False
    return True


def write_workers(folder: str, entries: Sequence[Mapping[str, object]]) -> None:
    """Replace worker_pids.json; under the lock."""
    lines = ",\n".join(json.dumps(entry) for entry in entries)
    text = f"[\n{lines}\n]\n" if entries else "[\n]\n"
    door.replace(os.path.join(folder, WORKER_LIST), text.encode())


def layout_sets(sets: Mapping[str, Mapping[str, Any]]) -> bytes:
    """The content of env_sets.json: a JSON object, one set a line."""
    # ASCII: a variable may hold bytes that are not UTF-8.
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(form)}" for key, form in sets.items())
    return f"{{\n{lines}\n}}\n".encode() if sets else b"{\n}\n"


def _free_id(form: Mapping[str, Any], sets: Mapping[str, Any]) -> str:
    """The id under which exactly this set is kept, or can be."""
    sum_ = crc32(json.dumps(form, sort_keys=True).encode())
    while sets.get(f"{sum_:08x}", form) != form:  # taken by another set with the same checksum
        sum_ = (sum_ + 1) & 0xFFFFFFFF
    return f"{sum_:08x}"


def parse_sets(data: bytes, path: str) -> dict[str, Any]:
    """The sets in the bytes of env_sets.json; BadFile with the position if they are not sets."""
    text, sets = parse_object(data, path)
    for key, form in sets.items():
        wrong = fault(form)
        if wrong:
            at = text.find(json.dumps(key))
            raise mistake(path, text, max(at, 0), f"set {key}: {wrong}")
    return sets


# -- what can be read from a damaged file


def settings_in(data: bytes) -> dict[str, object]:
    """The settings that are whole and have an allowed value."""
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
    for found in re.finditer(_SETTING, text, re.M):
        try:
            yield found[1], json.loads(found[2])
        except (ValueError, RecursionError):
            continue


def workers_in(values: Sequence[object]) -> list[dict[str, object]]:
    """Those of the values that describe a worker."""
    return [
        value for value in values if isinstance(value, dict) and _has_name(value) and "pid" in value
    ]


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
