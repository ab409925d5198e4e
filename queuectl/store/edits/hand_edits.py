"""Reads job files that a person edited, compares them with what we kept, and judges the edit.

Changes nothing. files/snapshot.py notices an edit; files/writer.py takes it in, with the fold of
the next change.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple
from zlib import crc32

from queuectl.model.fields import State
from queuectl.model.times import compact, format_time
from queuectl.store import door
from queuectl.store.edits.decision import Edit, History, Mistake, Saved, SavedFile, decide
from queuectl.store.files import evidence
from queuectl.store.files.job_files import (
    checksum,
    line_id,
    line_state,
    mistake,
    read_edited,
    read_lines,
)
from queuectl.store.files.journal import Journal, Stamp, read_at, scan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class BaseFile(Protocol):
        """One open job file; see store/files/snapshot.py."""

        path: str
        fd: int
        found: os.stat_result

        def read(self) -> bytes: ...


class HandEdit(NamedTuple):
    """A judged edit: what it changes, and what it was judged by.

    `found`: the stat of both job files. `fresh`: which of them have an edit that was not taken in
    yet. `generation`, `end`: the journal, and how far it was read.
    """

    edit: Edit
    found: list[Stamp]
    fresh: list[int]
    generation: int
    end: int

    def holds(self, journal: Journal, files: Sequence[BaseFile]) -> bool:
        """Whether the judgement still holds for the present journal and files."""
        if journal.header.generation != self.generation or journal.end < self.end:
            return False
        if not all(map(_is_as_found, self.found, files)):
            return False
        data = read_at(journal.fd, self.end, journal.end - self.end)
        newer = (line for record in scan(data) for line in record.payload.splitlines())
        # Records of abandoned folds hold other lines.
        ids = (line_id(line) for line in newer if line.startswith(b"{"))
        return self.edit.lines.keys().isdisjoint(ids)

    def lines(self, files: Sequence[BaseFile]) -> list[bytes]:
        """The lines to journal: the changes, and that these files were taken in."""
        return [*self.edit.lines.values(), *(_taken_in(files[which]) for which in self.fresh)]

    def tell_undecided(self, files: Sequence[BaseFile], notices: list[str]) -> None:
        """For a reader: why it does not show an edit, which the next change will set aside."""
        for dead, reason in self.edit.undecided.items():
            line = f"{files[dead].path}: an edit cannot be taken in: {reason}"
            if line not in notices:
                notices.append(line)


def _is_as_found(stamp: Stamp, file: BaseFile) -> bool:
    # Perhaps its mode was mended since: that changes the ctime but not the content.
    return stamp.fits(file.found) or (
        (stamp.size, stamp.mtime, stamp.inode, stamp.crc)
        == (file.found.st_size, file.found.st_mtime_ns, file.found.st_ino, checksum(file.fd))
    )


def _taken_in(file: BaseFile) -> bytes:
    """The line that says that the file was taken in: the removal of a job with an impossible id.

    So a reader that does not know such lines skips it.
    """
    name = os.path.basename(file.path).encode()
    return b'{"id": " %s %d %d", "removed": ""}' % (name, file.found.st_size, checksum(file.fd))


def judge(
    journal: Journal,
    files: Sequence[BaseFile],
    bases: Sequence[BaseFile],
    overlay: Mapping[bytes, bytes],
    edited: Collection[int],
    signs: Collection[bytes],
    now: float,
) -> HandEdit:
    """What the edited files change; BadFile, with the position, for a mistake.

    `bases`: the queue's own form of both files. `overlay`: what the journal makes of it.
    """
    fresh = [which for which in edited if _taken_in(files[which]) not in signs]
    generation = journal.header.generation
    edit = Edit({}, [], {})
    data = [file.read() if which in fresh else b"" for which, file in enumerate(files)]
    if fresh:
        folder = os.path.dirname(files[0].path)
        history = evidence.read_history(folder, generation, journal.header.folded_at)
        present = _present(bases, overlay, history, generation)
        saved = [_saved(files[which], data[which], bool(which), now, present) for which in fresh]
        try:
            edit = decide(present, history, generation, saved, format_time(now))
        except Mistake as exc:
            file = files[exc.dead]
            raise mistake(file.path, data[exc.dead].decode(), exc.at, str(exc)) from None
    found = [Stamp.of(file.found, crc32(read)) for file, read in zip(files, data, strict=True)]
    return HandEdit(edit, found, fresh, generation, journal.end)


def _present(
    bases: Sequence[BaseFile], overlay: Mapping[bytes, bytes], history: History, generation: int
) -> dict[bytes, bytes]:
    """Each job's present line; adds the folded form of those with journal records to `history`.

    What the journal says becomes the next version.
    """
    present: dict[bytes, bytes] = {}
    folded: dict[bytes, bytes] = {}
    for base in bases:
        for line in read_lines(base.fd):
            job_id = line_id(line)
            (folded if job_id in overlay else present)[job_id] = line
    for job_id, line in overlay.items():
        old = folded.get(job_id)
        if old != line:
            history.past.setdefault(job_id, []).append(evidence.past_form(old, generation + 1))
        if line_state(line) is not None:
            present[job_id] = line
    return present


def _saved(
    file: BaseFile, data: bytes, dead: bool, now: float, present: Mapping[bytes, bytes]
) -> SavedFile:
    saved_at, untouched = min(file.found.st_mtime, now), set[bytes]()
    state: State = "dead" if dead else "pending"
    read = read_edited(data, file.path, format_time(now), state, present, untouched)
    # In this order: reading also fills `untouched`.
    return SavedFile(dead, saved_at, [Saved(*one) for one in read], untouched)


def settled(judged: HandEdit | None, files: Sequence[BaseFile]) -> tuple[bool, list[str]]:
    """Whether an edit is taken in now, and the messages; sets the other files aside."""
    if judged is None:
        return True, []
    edit, told = judged.edit, []
    for dead, reason in edit.undecided.items():
        kept = _set_aside(files[dead])
        told.append(f"an edit was not taken in: {reason}; it is kept as {kept}")
    return len(edit.undecided) < len(judged.fresh), told + edit.told


def _set_aside(file: BaseFile) -> str:
    """Keep a synced copy of the edited file beside it; returns its name."""
    path = wanted = f"{file.path}.edit-{compact(file.found.st_mtime)}"
    data, number = file.read(), 1
    while os.path.lexists(path) and door.read(path, len(data) + door.LARGEST) != data:
        number += 1
        path = f"{wanted}-{number}"
    if not os.path.lexists(path):  # otherwise a process that was then killed set this edit aside
        door.replace(path, data)
    return os.path.basename(path)
