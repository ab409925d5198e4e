"""A queue as one file, and back: text of one JSON object a line, for grep and jq as for restore.

The first line names format, time, settings and sets of captured variables; then comes every job on
a line of its own, as in jobs.json, the dead ones last; the last line counts the jobs and holds the
SHA-256 of all bytes before it. A file without its last line, or with another checksum, is refused
as a whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from typing import Any, NamedTuple

from queuectl.config import Settings
from queuectl.errors import BadFile, InvalidInput, StoreError
from queuectl.model.env_set import fault
from queuectl.model.escapes import terminal_safe
from queuectl.model.job import Job, job_from_person

FORMAT = 2  # 1 had no sets of captured variables
_LEFT = "nothing was changed"


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
    """The file's lines; `lines` are the jobs' as encode_job makes them."""
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


def parse_backup(data: bytes, name: str) -> Backup:
    """The backup in a file's bytes; BadFile unless it is whole. `name` is what errors call it."""
    first, _, _ = data.partition(b"\n")
    head = _object(first)
    if head is None or head.get("queuectl") != "backup":
        raise BadFile(f"{name} is no backup of queuectl; {_LEFT}")
    if head.get("format") not in (1, FORMAT):
        raise StoreError(
            f"{name} was made by a newer queuectl (a backup of format {head.get('format')}; this "
            f"one knows {FORMAT}): update it"
        )
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
    """All but the last line, which must vouch for it."""
    at = data.rfind(b"\n", 0, len(data) - 1) + 1
    tail = _object(data[at:])
    if tail is None or "sha256" not in tail or not data.endswith(b"\n"):
        raise BadFile(f"{name} is cut short: its last line is missing; {_LEFT}")
    body = data[:at]
    if tail["sha256"] != sha256(body).hexdigest():
        raise BadFile(f"{name} is damaged: its checksum does not fit; {_LEFT}")
    return body


def _jobs(lines: list[bytes], now: str, name: str) -> list[Job]:
    jobs: dict[str, Job] = {}
    for number, line in enumerate(lines, 2):
        try:
            job = job_from_person(_object(line), now=now, state="pending")
        except InvalidInput as exc:
            raise BadFile(f"{name}:{number}: {exc}; {_LEFT}") from None
        if job.id in jobs:
            raise BadFile(f"{name}:{number}: job '{job.id}' stands twice; {_LEFT}")
        jobs[job.id] = job
    return list(jobs.values())


def _object(line: bytes) -> dict[str, object] | None:
    try:
        form = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return form if isinstance(form, dict) else None
