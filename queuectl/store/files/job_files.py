"""jobs.json and dlq.json: a JSON array with one job a line, read and written line by line.

A line is `{"id": "...", "state": "...", "priority": N, "run_at": "...", ...}`. The front of a line
is enough to find and order a job, so finished jobs are skipped without being parsed. A file that a
person edited may have any layout; it is read whole and checked.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Container, Iterator, Mapping
from functools import cache
from zlib import crc32

from queuectl.errors import BadFile, InvalidInput
from queuectl.model import job as job_model
from queuectl.model.fields import LONGEST_JOB, TOO_LONG, State, check_id, check_state, is_too_long
from queuectl.model.job import Job, job_from_person
from queuectl.places import DEAD, JOBS

_LONGEST_WORD = 12  # characters of the longest escape that may be cut: \ud800\udc00
_STEP = 1 << 20  # characters by which the window on a file moves on at least
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
_quote = json.encoder.encode_basestring
_decode = json.JSONDecoder().raw_decode
_FRONT = (
    rb'\{"id": "([A-Za-z0-9][A-Za-z0-9._:-]*)", "state": "([^"]+)", '
    rb'"priority": (-?\d+), "run_at": "([^"]+)"(, "command)?'
)
# Within a text its quotes would have a backslash before them.
_REV = re.compile(rb'"rev": (\d+)')
_sorted = json.JSONEncoder(sort_keys=True).encode

# What a claim of a later version must see without parsing a line stands directly after `run_at`.
# Readers of the front skip it: line_state, line_front (and through it LiveIndex), read_live_lines
# and peek.py rely on the four keys before it, in this order and spacing, and on nothing else.
BEHIND_RUN_AT = ("after", "after_end", "tags", "lock", "slots", "unique", "every", "cron")
# Stands before those keys in the line of a job that names others, and nowhere else in our layout:
# in text it is escaped. So one search of the bytes shows that a queue holds no such job.
NAMES_OTHERS = b"\t"


def encode_job(job: Job) -> bytes:
    """The job's line without a newline: JSON, without values that equal their default."""
    # Spelled out because a worker does this twice for each job that it runs, and a JSON encoder
    # takes four times as long. Ids, states, times and words need no escaping.
    front, extra = "", job.extra
    if job[job_model.PLACED_SLOTS] != job_model.NOT_PLACED or extra:
        placed = {**(extra or {}), **job_model.given(job, Job._fields[job_model.PLACED_SLOTS])}
        placed = {name: placed[name] for name in BEHIND_RUN_AT if name in placed}
        if placed:
            front = f"{_encode(placed)[1:-1]}, "
            if job.after or job.after_end:
                front = f"\t{front}"
            extra = {n: value for n, value in (extra or {}).items() if n not in placed}
    line = (
        f'{{"id": "{job.id}", "state": "{job.state}", "priority": {job.priority}, '
        f'"run_at": "{job.run_at}", {front}"command": {_quote(job.command)}, '
        f'"max_retries": {job.max_retries}, '
        f'"created_at": "{job.created_at}", "updated_at": "{job.updated_at}"'
    )
    if job.attempts:
        line += f', "attempts": {job.attempts}'
    if job.run:
        line += f', "run": {job.run}'
    if job.losses:
        line += f', "losses": {job.losses}'
    if job.rev != 1:
        line += f', "rev": {job.rev}'
    if job.started_at is not None:
        line += f', "started_at": "{job.started_at}"'
    if job.finished_at is not None:
        line += f', "finished_at": "{job.finished_at}"'
    if job.timeout is not None:
        line += f', "timeout": {job.timeout}'
    if job.cwd is not None:
        line += f', "cwd": {_quote(job.cwd)}'
    if job.env is not None:
        line += f', "env": {_encode(job.env)}'
    if job.env_file is not None:
        line += f', "env_file": {_encode(job.env_file)}'
    if not job.rerun:
        line += ', "rerun": false'
    if job.exit_code is not None:
        line += f', "exit_code": {job.exit_code}'
    if job.error is not None:
        line += f', "error": {_quote(job.error)}'
    if job.worker is not None:
        line += f', "worker": {_quote(job.worker)}'
    if job.cancel_requested:
        line += ', "cancel_requested": true'
    if job[job_model.RARE_SLOTS] != job_model.NO_RARE:
        line += f", {_encode(job_model.given(job, Job._fields[job_model.RARE_SLOTS]))[1:-1]}"
    if job.log_word is not None:
        line += f', "log_word": "{job.log_word}"'
    if job.env_set is not None:
        line += f', "env_set": "{job.env_set}"'
    if job.history:
        line += f', "history": {_encode(job.history)}'
    if extra:
        line += f", {_encode(extra)[1:-1]}"
    return (line + "}").encode()


def checked_line(job: Job) -> bytes:
    """The line of a job from outside; InvalidInput if it is too long."""
    line = encode_job(job)
    if len(line) > LONGEST_JOB:
        raise InvalidInput(
            f"job '{job.id}' takes {len(line):,} bytes, and a job at most {LONGEST_JOB:,}: "
            "put what it works on into a file"
        )
    return line


def decode_job(line: bytes) -> Job:
    """The job of a line that `encode_job` wrote; ValueError if a required field is missing."""
    job = Job.from_dict(_decode(line.decode())[0])
    # A checksum proves bytes, not meaning; this is the only check made of each job each time.
    if (
        type(job.command) is not str
        or type(job.run_at) is not str
        or type(job.updated_at) is not str
        or type(job.priority) is not int
        or type(job.max_retries) is not int
        or type(job.run) is not int
    ):
        raise ValueError(f"a line is not a whole job: {line[:80]!r}")
    return job


def is_sound(line: bytes) -> bool:
    """Whether a line is valid in every part: that of a job, or of a removal."""
    try:
        form = json.loads(line)
        if line_state(line) is None:
            return line == removal_line(check_id(form["id"]), check_state(form["removed"]))
        job = job_from_person(form, now="", state="pending", ours=True)
        encode_job(job)
        return decode_job(line).id == job.id == line_id(line).decode()
    except (InvalidInput, RecursionError, LookupError, ValueError, TypeError, AttributeError):
        return False


def rev_and_sum(line: bytes) -> tuple[int, int]:
    """A job's rev, and a checksum of its line that does not depend on the order of its keys."""
    # Each fold does this for each job that it changes. A line without an object or array in it need
    # not be parsed to be sorted.
    if b"[" not in line and line.rfind(b"{") == 0:
        found = _REV.search(line)
        parts = sorted(line[2:-1].split(b', "'))
        return int(found[1]) if found else 1, crc32(b"\n".join(parts))
    form = json.loads(line)
    return form.get("rev", 1), crc32(_sorted(form).encode())


# The line of a whole job, except rare ones: those with a history or unknown keys.
_TEXT, _TIME = rb'"[^"\\\x00-\x1f]*(?:\\.[^"\\\x00-\x1f]*)*"', rb'"[0-9T:.-]+Z"'
_WHOLE = (
    rb'\{"id": "[A-Za-z0-9][A-Za-z0-9._:-]*", '
    rb'"state": "(?:pending|in_progress|completed|failed|dead|cancelled)", '
    rb'"priority": -?\d+, "run_at": %b, \t?'
    rb'(?:"(?:after|after_end|tags|lock|slots)": \[%b(?:, %b)*\], )*(?:"unique": %b, )?'
    rb'(?:"every": \d+(?:\.\d+)?(?:e[+-]?\d+)?, )?(?:"cron": %b, )?'
    rb'"command": %b, "max_retries": \d+, '
    rb'"created_at": %b, "updated_at": %b'
    rb'(?:, (?:"(?:attempts|run|losses|rev|exit_code|deferrals|log_limit)": -?\d+'
    rb'|"(?:timeout|retry_delay|base|max_delay|jitter)": \d+(?:\.\d+)?(?:e[+-]?\d+)?'
    rb'|"(?:no_)?retry_on": \[(?:(?:\d+|"timeout"|"signal")(?:, )?)*\]'
    rb'|"(?:(?:started|finished)_at|planned)": %b|"(?:cwd|env_file|error|tz)": %b'
    rb'|"(?:rerun|notify|cancel_requested|catch_up|overlap)": [a-z]+'
    rb'|"(?:worker|log_word|env_set|last)": "[A-Za-z0-9][A-Za-z0-9._:-]*"'
    rb'|"env": \{(?:%b: %b(?:, )?)*\}))*\}' % (_TIME, *(_TEXT,) * 5, *(_TIME,) * 3, *(_TEXT,) * 3)
)


_FEW = 50  # as many lines are parsed in the time that compiling the pattern takes, 4 ms


@cache
def _whole() -> re.Pattern[bytes]:
    return re.compile(_WHOLE)


def check_lines(lines: Collection[bytes]) -> None:
    """Raise BadFile for a journal line that is not a job's, before a fold takes it over.

    A fold checks thousands: of many lines most are not parsed. The few that a short command folds
    at its end are.
    """
    looks_whole = _whole().fullmatch if len(lines) > _FEW else None
    for line in lines:
        if not (looks_whole and looks_whole(line) and _is_text(line)) and not is_sound(line):
            raise BadFile(
                f"the journal holds what is not a job: {line[:80]!r}; nothing was changed: "
                "queuectl doctor --repair keeps what can be read"
            )


def _is_text(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def removal_line(job_id: str, state: str) -> bytes:
    """The journal's line for a job that was removed in this state."""
    return b'{"id": "%s", "removed": "%s"}' % (job_id.encode(), state.encode())


def line_id(line: bytes) -> bytes:
    """The id in a job line or removal line."""
    return line[8 : line.index(b'"', 8)]


def line_state(line: bytes) -> bytes | None:
    """The state of a job line; None for a removal line, ValueError for anything else."""
    at = line.index(b'"', 8) + 13
    word = line[at - 9 : at - 4]
    if word == b"state":
        return line[at : line.index(b'"', at)]
    if word != b"remov":
        raise ValueError(f"a line is not a job's: {line[:80]!r}")
    return None


def is_live(line: bytes) -> bool:
    """Whether a line is that of a pending, in_progress or failed job."""
    return line[line.index(b'"', 8) + 13] in b"pif"  # of the others: completed, cancelled, dead


@cache
def _front() -> re.Pattern[bytes]:
    return re.compile(_FRONT)  # costs half a millisecond; an enqueue does not need it


def line_front(line: bytes) -> tuple[bytes, ...] | None:
    """Id, state, priority, due time, and None if a rule may follow (lanes.py); None for a removal.

    BadFile for a line that is neither.
    """
    found = _front().match(line)
    if found is not None:
        return found.groups()
    if line_state(line) is None:
        return None
    raise BadFile(f"a job line does not begin as it should: {line[:80]!r}")


def read_lines(fd: int) -> Iterator[bytes]:
    """The job lines of a file in our layout, from its start, without comma and newline."""
    with open(os.dup(fd), "rb", buffering=1 << 18) as file:
        file.seek(0)
        for line in file:
            if line[0] == 123:  # "{"
                yield line.rstrip(b",\n")


def read_live_lines(fd: int) -> Iterator[bytes]:
    """`read_lines` for live jobs only: a hundred thousand finished ones cost little."""
    with open(os.dup(fd), "rb", buffering=1 << 18) as file:
        file.seek(0)
        for line in file:
            # One letter tells the state: pending, in_progress, failed; completed, cancelled.
            if line[0] == 123 and line[line.index(b'"', 8) + 13] in b"pif":
                yield line.rstrip(b",\n")


def lines_with(text: bytes, needles: Collection[bytes], end: int | None = None) -> list[bytes]:
    """The lines in the text, up to `end`, that contain a needle; each must end with a newline."""
    starts = set()
    for needle in needles:
        at = text.find(needle, 0, end)
        while at >= 0:
            starts.add(text.rfind(b"\n", 0, at) + 1)
            at = text.find(needle, text.index(b"\n", at), end)
    return [text[start : text.index(b"\n", start)] for start in sorted(starts)]


def read_lines_with(fd: int, needles: Collection[bytes]) -> Iterator[bytes]:
    """The lines of a file in our layout that contain a needle."""
    for piece, end in read_pieces(fd):
        for line in lines_with(piece, needles, end):
            yield line.rstrip(b",")


def read_pieces(fd: int) -> Iterator[tuple[bytes, int]]:
    """A file in pieces, each with the end of its last whole line, where the next piece begins."""
    # Not through mmap: a file that an editor truncates or a disk cannot read would kill us.
    at, size = 0, 1 << 20
    while piece := os.pread(fd, size, at):
        end = piece.rfind(b"\n") + 1
        yield piece, end
        if end == 0 and len(piece) < size:
            return
        at, size = at + end, size if end else 2 * size  # a line may be longer


def find_line(fd: int, job_id: str) -> bytes | None:
    """The line of one job in a file in our layout, or None."""
    front = b'{"id": "%s", ' % job_id.encode()
    found = read_lines_with(fd, (front,))
    return next((line for line in found if line.startswith(front)), None)


def checksum(fd: int) -> int:
    """The checksum of a whole file."""
    crc = at = 0
    while chunk := os.pread(fd, 1 << 20, at):
        crc = crc32(chunk, crc)
        at += len(chunk)
    return crc


def parse_edited(
    data: bytes, path: str, now: str, state: State, taken: Container[str]
) -> dict[str, Job]:
    """The jobs of a file that a person may have written, by id.

    `state`: for a job that names none. `taken`: ids that are in the other file. Raises BadFile with
    line and column of the first mistake.
    """
    jobs: dict[str, Job] = {}
    for at, job, _ in read_edited(data, path, now, state):
        if job.id in taken:
            what = f"job '{job.id}' occurs twice, in {JOBS} and {DEAD}"
            raise mistake(path, data.decode(), at, what)
        jobs[job.id] = job
    return jobs


def read_edited(
    data: bytes,
    path: str,
    now: str,
    state: State,
    known: Mapping[bytes, bytes] | None = None,
    untouched: set[bytes] | None = None,
) -> Iterator[tuple[int, Job, Collection[str]]]:
    """For each job of such a file: its offset, the job, and which of _TIMES were written.

    A job equal to its line in `known` is skipped, since there may be a hundred thousand of them;
    its id is added to `untouched`. Raises BadFile, with line and column, for a mistake.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError as exc:
        raise BadFile(f"{path} is not valid UTF-8 at byte {exc.start}; {LEFT}") from None
    known, untouched = known or {}, set() if untouched is None else untouched
    changed = _changed_lines(text, known, untouched)
    seen: set[bytes] = set()
    for at, form in _array_items(text, path) if changed is None else changed:
        job_id = _same_as_known(form, known)
        if job_id is not None:
            if job_id in untouched or job_id in seen:
                raise _twice(path, text, at, job_id.decode())
            untouched.add(job_id)
            continue
        try:
            job = job_from_person(form, now=now, state=state)
            if job.extra or job.history or len(text) > LONGEST_JOB:
                checked_line(job)  # what cannot be written back must not be accepted
        except InvalidInput as exc:
            raise mistake(path, text, at, str(exc)) from None
        except (ValueError, RecursionError) as exc:
            raise mistake(path, text, at, f"the job is not plain JSON: {exc}") from None
        if job.id.encode() in seen or job.id.encode() in untouched:
            raise _twice(path, text, at, job.id)
        seen.add(job.id.encode())
        yield at, job, _TIMES & form.keys() if isinstance(form, dict) else ()


def _twice(path: str, text: str, at: int, job_id: str) -> BadFile:
    return mistake(path, text, at, f"job '{job_id}' occurs twice, in {path}")


def _changed_lines(
    text: str, known: Mapping[bytes, bytes], untouched: set[bytes]
) -> list[tuple[int, object]] | None:
    """_array_items of the unknown lines of a file in our layout; None for another layout.

    The ids of the known lines go into `untouched`.
    """
    if not (text.startswith("[\n{") and text.endswith("}\n]\n")):
        return None
    if text.count(",\n") > 2 * len(known) + 10_000:  # most of them do not end a job
        return None
    ids = dict(zip(known.values(), known, strict=True))
    changed: list[tuple[int, object]] = []
    found: list[bytes] = []
    at = 2
    try:
        for line in text[2:-3].split(",\n"):
            job_id = ids.get(line.encode())
            if job_id is None:
                if len(line) > LONGEST_JOB:
                    return None
                changed.append((at, _strictly.decode(line)))
            else:
                found.append(job_id)
            at += len(line) + 2
    except (InvalidInput, ValueError, RecursionError):  # an item of several lines, or a mistake
        return None
    if len(set(found)) < len(found):
        return None
    untouched.update(found)
    return changed


def _same_as_known(form: object, known: Mapping[bytes, bytes]) -> bytes | None:
    """The id of a job whose known line says the same in any layout and order of keys."""
    job_id = form.get("id") if isinstance(form, dict) else None
    line = known.get(job_id.encode("utf-8", "replace")) if isinstance(job_id, str) else None
    if line is None:
        return None
    try:
        # Objects are not compared, since true, 1 and 1.0 would be equal.
        same = _encode(form).encode() == line or _sorted(form) == _sorted(json.loads(line))
    except (ValueError, RecursionError):  # the job is not plain JSON: its own check says why
        return None
    return line_id(line) if same else None


_TIMES = frozenset({"created_at", "updated_at", "run_at", "available_at"})
LEFT = "nothing was changed: put it right, then try again"
_SPACE = re.compile(r"[ \t\r\n]*")


def _array_items(text: str, path: str) -> Iterator[tuple[int, object]]:
    """Offset and value of each item of the JSON array that `text` must be."""
    at = _skip_space(text, int(text.startswith("\ufeff")))  # some editors begin so
    if text[at : at + 1] != "[":
        found = "is empty" if at == len(text) else f"begins with {text[at : at + 12]!r}"
        raise mistake(path, text, at, f"a JSON array is wanted, but the file {found}")
    at = _skip_space(text, at + 1)
    # The window never holds a whole item that is too long: parsing it might use up the memory.
    window, begin = text[: LONGEST_JOB + _STEP], 0
    while text[at : at + 1] != "]":
        if at + LONGEST_JOB > begin + len(window) < len(text):
            window, begin = text[at : at + LONGEST_JOB + _STEP], at
        try:
            form, end = _strictly.raw_decode(window, at - begin)
        except json.JSONDecodeError as exc:
            is_cut = exc.pos > len(window) - _LONGEST_WORD or exc.msg.startswith("Unterminated")
            if is_cut and is_too_long(text, at):
                raise mistake(path, text, at, TOO_LONG) from None
            raise mistake(path, text, begin + exc.pos, exc.msg) from None
        except (InvalidInput, ValueError, RecursionError) as exc:
            raise mistake(path, text, at, str(exc)) from None
        if begin + end - at > LONGEST_JOB:
            raise mistake(path, text, at, TOO_LONG)
        yield at, form
        at = _skip_space(text, begin + end)
        if text[at : at + 1] == ",":
            at = _skip_space(text, at + 1)
        elif text[at : at + 1] != "]":
            raise mistake(path, text, at, "a comma or ] is wanted here")
    rest = _skip_space(text, at + 1)
    if rest != len(text):
        raise mistake(path, text, rest, "nothing may follow the array")


def _skip_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at


def no_twins(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """The object of a JSON text; InvalidInput if a key occurs twice."""
    form = dict(pairs)
    if len(form) < len(pairs):
        names = [name for name, _ in pairs]
        twin = next(name for name in names if names.count(name) > 1)
        raise InvalidInput(f"the key {twin!r} occurs twice in one object")
    return form


def _no_constant(name: str) -> object:
    raise InvalidInput(f"{name} is not a JSON number")


_strictly = json.JSONDecoder(object_pairs_hook=no_twins, parse_constant=_no_constant)


def mistake(path: str, text: str, at: int, what: str) -> BadFile:
    """The error for a mistake at an offset of a file, with its line and column."""
    line = text.count("\n", 0, at) + 1
    column = at - text.rfind("\n", 0, at)
    return BadFile(f"{path}:{line}:{column}: {what}; {LEFT}")
