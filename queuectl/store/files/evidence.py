"""What an edit by hand is compared with: a copy of each job file, and notes on what folds changed.

A person who saves a job file overwrites the only copy of what queuectl wrote. So each fold keeps a
copy of what it wrote (`.jobs.json-7` is from the fold that began generation 7), and notes in
`.folded` which forms of which jobs it replaced. Neither is synced, and a fold goes on if the disk
refuses them: a copy counts only if it has the size and checksum that the journal knows, notes only
as far back as no fold is missing. Without them an edit is taken in more cautiously.

`.folded` is text, appended to: `@GENERATION TIME LENGTH CRC` and LENGTH bytes of lines
`ID FILE REV CHECKSUM`, one for each form that was replaced. FILE is j (jobs.json), d (dlq.json)
or - (neither), in upper case (or +) if an edit by hand replaced the form and left its state.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from zlib import crc32

from queuectl.errors import BadFile, DiskRefused, StoreError
from queuectl.places import DEAD, JOBS, NOTES
from queuectl.store import door
from queuectl.store.files.job_files import checksum, line_state, rev_and_sum
from queuectl.store.files.journal import Header, Stamp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from queuectl.store.edits.decision import History, Past

MOST = 16 << 20  # bytes of notes; more, or notes older than a day, may be dropped
_DAY = 86_400.0
# Compiled only when it is used.
_HEAD = rb"@(\d{1,18}) (\d{1,18}\.\d{3}) (\d{1,18}) ([0-9a-f]{8})\n"
_FILES = {b"j": (False, False), b"J": (False, True), b"d": (True, False), b"D": (True, True)}
_FILES |= {b"-": (False, False), b"+": (False, True)}


def is_evidence(name: str) -> bool:
    """Whether a file of this name in a data folder is a copy or the notes."""
    return name == NOTES or _copied(name) is not None


# -- copies


def _copied(name: str) -> tuple[str, int] | None:
    """The job file and generation that a file of this name copies; None if it is not a copy."""
    if name[:1] != ".":
        return None
    copied, _, generation = name[1:].rpartition("-")
    if copied not in (JOBS, DEAD) or not (generation.isascii() and generation.isdigit()):
        return None
    return copied, int(generation)


def keep_copy(folder: str, name: str, source: str, generation: int) -> None:
    """Keep a copy of the file at `source` as the job file of this generation."""
    path = os.path.join(folder, f".{name}-{generation}")
    with suppress(StoreError):
        door.copy_unsynced(source, path)


def drop_copies(folder: str, kept: int, names: Collection[str]) -> None:
    """Remove the copies of these job files that are not of the generation `kept`."""
    for entry in os.listdir(folder):
        found = _copied(entry)
        if found and found[0] in names and found[1] != kept:
            with suppress(DiskRefused):
                door.remove(os.path.join(folder, entry))


def make_whole(folder: str, header: Header) -> None:
    """Copy job files that have no copy of the right size; under the lock, the files unedited."""
    copies = [(entry, found[0]) for entry in os.listdir(folder) if (found := _copied(entry))]
    for name, stamp in zip((JOBS, DEAD), header.stamps, strict=True):
        sizes = [_size(folder, entry) for entry, copied in copies if copied == name]
        if stamp.size not in sizes:
            keep_copy(folder, name, os.path.join(folder, name), header.generation)
            drop_copies(folder, header.generation, [name])


def _size(folder: str, name: str) -> int:
    try:
        return os.stat(os.path.join(folder, name)).st_size
    except OSError:
        return -1


def find_copy(folder: str, name: str, stamp: Stamp) -> str | None:
    """The path of a copy of the job file with the size and checksum of the stamp."""
    for entry in os.listdir(folder):
        found = _copied(entry)
        path = os.path.join(folder, entry)
        fits = found and found[0] == name and _size(folder, entry) == stamp.size
        if fits and _sum_of(path) == stamp.crc:
            return path
    return None


def _sum_of(path: str) -> int | None:
    try:
        fd = door.open_file(path, os.O_RDONLY)
    except (BadFile, DiskRefused):  # a fold has removed it
        return None
    with door.Closing(fd), suppress(OSError):
        return checksum(fd)
    return None


# -- notes


def note_line(job_id: bytes, old: bytes | None, new: bytes, by_hand: bool) -> bytes:
    """The note on the form that a job had before `new`; `old` is None if it was in no file."""
    if old is None:
        return b"%s %s 0 0\n" % (job_id, b"+" if by_hand else b"-")
    file = b"d" if line_state(old) == b"dead" else b"j"
    # A person who edits a form from before a change of its state does not mean to undo that change.
    by_hand = by_hand and line_state(new) in (line_state(old), None)
    return b"%s %s %d %d\n" % (job_id, file.upper() if by_hand else file, *rev_and_sum(old))


def past_form(old: bytes | None, until: int) -> Past:
    """The record of the form that a job had until that version, without an edit by hand."""
    from queuectl.store.edits.decision import Past

    if old is None:
        return Past(until, False, 0, 0, False)
    return Past(until, line_state(old) == b"dead", *rev_and_sum(old), False)


def note_fold(folder: str, generation: int, now: float, lines: Iterable[bytes]) -> None:
    """Append the notes of the fold that began this generation."""
    payload = b"".join(lines)
    head = b"@%d %.3f %d %08x\n" % (generation, now, len(payload), crc32(payload))
    path = os.path.join(folder, NOTES)
    with suppress(StoreError, OSError):
        fd = door.open_file(path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
        with door.Closing(fd):
            size = os.fstat(fd).st_size
            oldest = re.match(_HEAD, os.pread(fd, 100, 0))
            door.append(fd, head + payload, size, path)
        # It may grow to twice its limit, so that it is seldom rewritten.
        if size and (oldest is None or float(oldest[2]) < now - 2 * _DAY or size > MOST):
            _forget(path, now)


def _forget(path: str, now: float) -> None:
    """Rewrite the notes with at most their newer half."""
    kept: list[bytes] = []
    size = 0
    for block in reversed(list(_blocks(door.read(path)))):
        size += len(block.text)
        if block.at < now - _DAY or (kept and size > MOST // 2):
            break
        kept.append(block.text)
    door.rename(door.write_new(path, reversed(kept)), path)


class _Block:
    def __init__(self, generation: int, at: float, payload: bytes, text: bytes) -> None:
        self.generation = generation
        self.at = at
        self.payload = payload
        self.text = text


def _blocks(data: bytes) -> Iterator[_Block]:
    """The complete blocks of notes, wherever they begin."""
    at = 0
    head = re.compile(_HEAD)
    while (found := head.search(data, at)) is not None:
        end = found.end() + int(found[3])
        payload = data[found.end() : end]
        if len(payload) == int(found[3]) and crc32(payload) == int(found[4], 16):
            yield _Block(int(found[1]), float(found[2]), payload, data[found.start() : end])
            at = end
        else:
            at = found.end()


def read_history(folder: str, generation: int, folded_at: float) -> History:
    """What is known about the versions before this generation, which was folded at `folded_at`."""
    from queuectl.store.edits.decision import History

    path = os.path.join(folder, NOTES)
    data = b""
    with suppress(BadFile):  # it does not exist yet, or is not ours
        data = door.read(path)
    blocks: list[_Block] = []
    for block in reversed(list(_blocks(data))):
        # A fold that was killed is noted twice; before a missing fold nothing is known.
        again = bool(blocks) and block.generation == blocks[-1].generation
        if not again and block.generation != (blocks[-1].generation - 1 if blocks else generation):
            break
        blocks.append(block)
    blocks.reverse()
    past: dict[bytes, list[Past]] = {}
    try:
        for block in blocks:
            _take_in(block, past)
    except (ValueError, LookupError):  # a checksum vouches for bytes, not for sense
        blocks, past = [], {}
    folded = dict.fromkeys((block.generation for block in blocks), 0.0)
    folded |= {block.generation: block.at for block in blocks}
    since = blocks[0].generation - 1 if blocks else generation
    return History(since, list(folded.items()) or [(generation, folded_at)], past)


def _take_in(block: _Block, past: dict[bytes, list[Past]]) -> None:
    """Add the forms that the block notes to `past`."""
    from queuectl.store.edits.decision import Past

    birth = Past(block.generation, False, 0, 0, False)
    for line in block.payload.splitlines():
        job_id, file, rev, check = line.split(b" ")
        if file == b"-":  # one record for all: there may be a hundred thousand
            form = birth
        else:
            dead, by_hand = _FILES[file]
            form = Past(block.generation, dead, int(rev), int(check), by_hand)
        forms = past.setdefault(job_id, [])
        if not forms or forms[-1] != form:
            forms.append(form)
