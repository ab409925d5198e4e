"""A queue as one file, and back: one JSON object a line, for grep and jq as well as for restore.

The first line has the format, time, settings and sets of captured variables. Each job follows on a
line of its own, as in jobs.json, the dead ones last. The last line has the number of jobs and the
SHA-256 of all bytes before it. A file without its last line, or whose checksum differs, is refused
as a whole.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from typing import IO, Any, NamedTuple

from queuectl.config import Settings
from queuectl.errors import BadFile, Conflict, InvalidInput, StoreError
from queuectl.model.env_set import fault
from queuectl.model.escapes import terminal_safe
from queuectl.model.job import Job, job_from_person
from queuectl.model.times import format_time
from queuectl.places import MARKER
from queuectl.store import door
from queuectl.store.files.strays import BEFORE_RESTORE, is_known

FORMAT = 2  # format 1 had no sets of captured variables
_LEFT = "nothing was changed"
_BATCH = 2048  # lines written at once


class Backup(NamedTuple):
    """What a backup holds. `made_at` is RFC 3339 text."""

    made_at: str
    settings: Mapping[str, object]
    jobs: list[Job]
    env_sets: Mapping[str, Mapping[str, Any]]


def format_backup(
    lines: Iterable[bytes],
    settings: Mapping[str, object],
    env_sets: Mapping[str, Mapping[str, Any]],
    made_at: str,
) -> Iterator[bytes]:
    """The file's lines; `lines` are those of the jobs, as encode_job makes them."""
    seen, count = sha256(), 0
    head = {"queuectl": "backup", "format": FORMAT, "made_at": made_at, "settings": dict(settings)}
    # ASCII: a captured variable may hold bytes that are not UTF-8.
    line = terminal_safe(json.dumps({**head, "env_sets": dict(env_sets)})).encode() + b"\n"
    seen.update(line)
    yield line
    for job in lines:
        line = terminal_safe(job.decode()).encode() + b"\n"
        seen.update(line)
        count += 1
        yield line
    yield b'{"jobs": %d, "sha256": "%s"}\n' % (count, seen.hexdigest().encode())


def check_refill(held: int, running: int, *, replace: bool) -> None:
    """Raise Conflict unless a backup may replace `held` jobs, of which `running` run."""
    if running:
        raise Conflict(f"{running} job(s) are running: 'queuectl worker stop' comes first")
    if held and not replace:
        raise Conflict(f"the queue holds {held} job(s); --replace puts the backup in place")


def keep_replaced(folder: str, lines: Iterable[bytes], now: float) -> str:
    """Write a backup of what is about to be replaced; returns its path."""
    stamp = format_time(now).replace("-", "").replace(":", "")
    path = os.path.join(folder, f"{BEFORE_RESTORE}{stamp}.jsonl")
    write_backup(path, lines, overwrite=True)
    return path


def following(job: Job, present: Job | None) -> Job:
    """The job with a `rev` after that of the job it replaces, which makes older knowledge stale."""
    if present is None:
        return job
    return job._replace(rev=max(job.rev, present.rev) + 1, run=max(job.run, present.run))


def write_backup(path: str, lines: Iterable[bytes], *, overwrite: bool) -> int:
    """Write a backup's lines to a file, whole or not at all; returns the number of jobs.

    Raises Conflict for a file that exists, unless `overwrite`, and InvalidInput for a path where no
    plain file can be.
    """
    folder, name = os.path.split(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise InvalidInput(f"there is no folder {folder}")
    of_queue = os.path.lexists(os.path.join(folder, MARKER)) and is_known(name)
    if of_queue and not name.startswith(BEFORE_RESTORE):
        raise InvalidInput(f"{path} is a file of the queue itself: name another one")
    if os.path.islink(path) or (os.path.lexists(path) and not os.path.isfile(path)):
        raise InvalidInput(f"{path} is not a plain file (- writes to standard output)")
    if os.path.lexists(path) and not overwrite:
        raise Conflict(f"{path} exists; --force overwrites it")
    counted = _Counted(lines)
    door.rename(door.write_new(path, counted), path)
    door.sync_folder(folder)
    return counted.lines - 2  # the first and the last line are not jobs


class _Counted:
    """Lines joined to larger chunks, and counted."""

    def __init__(self, lines: Iterable[bytes]) -> None:
        self._lines = lines
        self.lines = 0

    def __iter__(self) -> Iterator[bytes]:
        batch: list[bytes] = []
        for line in self._lines:
            batch.append(line)
            self.lines += 1
            if len(batch) == _BATCH:
                yield b"".join(batch)
                batch.clear()
        yield b"".join(batch)


_BEGINNING = b'{"queuectl": "backup", '
_END = re.compile(rb'\{"jobs": \d+, "sha256": "[0-9a-f]{64}"\}\n\Z')
_LONGEST_END = 200  # bytes; far more than a count and a checksum need
_LONGEST_HEAD = 64_000_000  # bytes, as many as config.json and env_sets.json may have together
_PIECE = 1 << 20  # bytes


def read_backup(file: IO[bytes], name: str) -> Backup:
    """The backup in a file; BadFile unless it is whole. Errors call it `name`.

    It is read into memory only once it is known to be a backup, so a huge wrong file takes none.
    (Of a pipe only the beginning is checked before.)
    """
    first = file.read(len(_BEGINNING))
    if first != _BEGINNING:
        raise BadFile(f"{name} is not a backup of queuectl; {_LEFT}")
    if not file.seekable():
        return parse_backup(first + file.read(), name)
    start = file.tell() - len(first)
    size = file.seek(0, os.SEEK_END)
    file.seek(max(start, size - _LONGEST_END))
    end = _END.search(file.read())
    file.seek(start)
    first = file.readline(_LONGEST_HEAD if end else _LONGEST_END)
    if end is None and not first.endswith(b"\n"):
        raise _cut_short(name)
    _check_head(first, name)
    if end is None:
        raise _cut_short(name)
    _check_sum(file, size - len(end[0]) - start - len(first), sha256(first), end[0], name)
    file.seek(start)
    return parse_backup(file.read(), name)


def _check_sum(file: IO[bytes], left: int, seen: Any, end: bytes, name: str) -> None:
    """Raise BadFile unless the checksum in the last line fits what was `seen` and the rest."""
    while left > 0 and (piece := file.read(min(_PIECE, left))):
        seen.update(piece)
        left -= len(piece)
    if seen.hexdigest().encode() not in end:
        raise _damaged(name)


def _cut_short(name: str) -> BadFile:
    why = "is cut short, or its line ends were changed: its last line is not as it was written"
    return BadFile(f"{name} {why}; {_LEFT}")


def _damaged(name: str) -> BadFile:
    return BadFile(f"{name} is damaged: its checksum does not fit; {_LEFT}")


def _check_head(first: bytes, name: str) -> dict[str, object]:
    head = _object(first)
    if head is None or head.get("queuectl") != "backup":
        raise BadFile(f"{name} is not a backup of queuectl; {_LEFT}")
    if head.get("format") not in (1, FORMAT):
        raise StoreError(
            f"{name} was made by a newer queuectl (a backup of format {head.get('format')}; this "
            f"one knows {FORMAT}): update it"
        )
    return head


def parse_backup(data: bytes, name: str) -> Backup:
    """The backup in a file's bytes; raises BadFile as `read_backup` does."""
    first, _, _ = data.partition(b"\n")
    head = _check_head(first, name)
    body = _checked_body(data, name)
    settings = head.get("settings")
    try:
        Settings(settings if isinstance(settings, dict) else {})
    except InvalidInput as exc:
        raise BadFile(f"{name}:1: {exc}; {_LEFT}") from None
    env_sets: Any = head.get("env_sets", {})
    wrong = "" if isinstance(env_sets, dict) else "it must be an object"
    wrong = wrong or next(filter(None, map(fault, env_sets.values())), "")
    if wrong:
        raise BadFile(f"{name}:1: env_sets: {wrong}; {_LEFT}")
    made_at = str(head.get("made_at"))
    values = settings if isinstance(settings, dict) else {}
    return Backup(made_at, values, _jobs(body.split(b"\n")[1:-1], made_at, name), env_sets)


def _checked_body(data: bytes, name: str) -> bytes:
    """All but the last line, whose checksum must fit it."""
    at = data.rfind(b"\n", 0, len(data) - 1) + 1
    tail = _object(data[at:])
    if tail is None or "sha256" not in tail or not data.endswith(b"\n"):
        raise _cut_short(name)
    body = data[:at]
    if tail["sha256"] != sha256(body).hexdigest():
        raise _damaged(name)
    return body


def _jobs(lines: list[bytes], now: str, name: str) -> list[Job]:
    jobs: dict[str, Job] = {}
    for number, line in enumerate(lines, 2):
        try:
            job = job_from_person(_object(line), now=now, state="pending", ours=True)
        except InvalidInput as exc:
            raise BadFile(f"{name}:{number}: {exc}; {_LEFT}") from None
        if job.id in jobs:
            raise BadFile(f"{name}:{number}: job '{job.id}' occurs twice; {_LEFT}")
        jobs[job.id] = job
    return list(jobs.values())


def _object(line: bytes) -> dict[str, object] | None:
    try:
        form = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return form if isinstance(form, dict) else None
