"""The journal: changes that the job files do not show yet, one record each. Cuts a torn tail.

The file is text. Its first line, the header, holds the generation, the stamps of the job files
(what they looked like) and the number of jobs in each state, all from its start. A record is a head
line `@LENGTH CRC SEQ FLAG COUNTS` and LENGTH bytes of lines: a whole job as in jobs.json, or
`{"id": "x", "removed": "completed"}`. The checksum covers the head too. COUNTS are those after the
record, by name (`pending=3,dead=1`, without zeros, `-` if all are zero), so the header or the last
record alone answers `status`. In format 1 they are six numbers in STATE_ORDER.

Flags: `d` durable: promised, so it is synced before the answer; `-` not promised; `i` intent: a
fold is about to rename files with these checksums over the job files; `e` edit: every job of files
that a person edited, except those with earlier records (jobs that the person removed are in no
record, so a follower of the journal must read the files anew).

A record without its last byte does not exist yet: a reader stops before it, and the next writer,
under the lock, cuts it off (`cut_tail` keeps it in a file beside the journal). The models are
Redis's append-only file and bbolt's commit order.

Kept lean: `status` reads it with nothing but os and zlib.
"""

from __future__ import annotations

import os
from zlib import crc32

from queuectl.errors import BadFile, StoreError
from queuectl.places import JOURNAL
from queuectl.store import door
from queuectl.store.facts import STATE_ORDER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    Counts = dict[str, int]  # jobs by state, and by other names that later versions count
    Mark = tuple[int, int, int, Counts, bool]

# To change what the journal or a job's line holds:
# 1. A new field of a job, or a count, needs no new number. Unknown fields are kept (Job.extra);
#    unknown counts are kept until the next fold, which drops what it cannot count. Add the field to
#    model/fields.py and model/job.py; if a claim must see it without parsing the line, also to
#    job_files.BEHIND_RUN_AT.
# 2. What an older reader would misunderstand or act on wrongly needs VERSION + 1 (marker.FORMAT is
#    the same number). Keep reading the older form, and keep writing it while an older worker lives
#    (Writer.version_to_write). Until then refuse whatever needs the new form.
# 3. A worker of the new form says so in its file: worker_files writes `format=N`.
# 4. Keep tests/data/vN for good, add vN+1 and its expected.json, and run the older code from
#    tests/data against a new folder: it must refuse it (tests/test_old_data.py).
VERSION = 2
PROMISED, PLAIN, INTENT, EDIT = b"d", b"-", b"i", b"e"
MAGIC = b"queuectl-journal"
MEND = "nothing was changed: queuectl doctor --repair keeps what can be read"
NAMELESS = 0o100  # a mode bit of the file: its name may not be on the disk yet
_LONGEST_HEAD = 1000  # bytes; far more than the counts and a checksum need


class Stamp:
    """What a job file looked like: enough to see whether it changed since."""

    __slots__ = ("crc", "ctime", "inode", "mtime", "size")

    def __init__(self, size: int, mtime: int, ctime: int, inode: int, crc: int) -> None:
        self.size = size
        self.mtime = mtime  # ns
        self.ctime = ctime  # ns
        self.inode = inode
        self.crc = crc

    @classmethod
    def of(cls, found: os.stat_result, crc: int) -> Stamp:
        """The stamp of a file whose stat is `found`."""
        return cls(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, crc)

    @classmethod
    def parse(cls, text: bytes) -> Stamp:
        """The stamp that `format` wrote."""
        return cls(*(int(part) for part in text.split(b":")))

    def format(self) -> bytes:
        """The stamp as one word."""
        return b"%d:%d:%d:%d:%d" % (self.size, self.mtime, self.ctime, self.inode, self.crc)

    def fits(self, found: os.stat_result) -> bool:
        """Whether the file with this stat is unchanged."""
        return (
            found.st_mtime_ns == self.mtime
            and found.st_size == self.size
            and found.st_ino == self.inode
            and found.st_ctime_ns == self.ctime
        )


class Header:
    """A journal's first line."""

    __slots__ = (
        "counts",
        "edited",
        "fold_seconds",
        "folded_at",
        "generation",
        "length",
        "stamps",
        "version",
    )

    def __init__(
        self,
        generation: int,
        fold_seconds: float,
        folded_at: float,
        edited: bool,
        counts: Counts,
        stamps: tuple[Stamp, Stamp],
        length: int = 0,
        version: int = VERSION,
    ) -> None:
        self.generation = generation
        self.fold_seconds = fold_seconds
        self.folded_at = folded_at  # epoch seconds
        self.edited = edited  # this fold took in a person's edit: followers must reload
        self.counts = counts
        self.stamps = stamps  # of jobs.json and dlq.json
        self.length = length  # bytes, the newline included
        self.version = version

    def format(self) -> bytes:
        """The header line."""
        line = b"%s %d %d %.6f %.6f %d %s %s %s" % (
            MAGIC,
            self.version,
            self.generation,
            self.fold_seconds,
            self.folded_at,
            self.edited,
            _format_counts(self.counts, self.version),
            self.stamps[0].format(),
            self.stamps[1].format(),
        )
        return b"%s %08x\n" % (line, crc32(line))

    @classmethod
    def parse(cls, data: bytes, path: str) -> Header:
        """The header at the start of `data`; BadFile for damage, StoreError for a newer format."""
        line, newline, _ = data.partition(b"\n")
        text, _, check = line.rpartition(b" ")
        if not line.startswith(MAGIC) or not newline or check != b"%08x" % crc32(text):
            raise BadFile(
                f"{path} does not begin with a whole journal header; it was left as it is"
            )
        words = text.split(b" ")
        try:
            version = int(words[1])
            if not 1 <= version <= VERSION:
                raise StoreError(
                    f"{path} was made by a newer queuectl (format {version}): update it"
                )
            return cls(
                int(words[2]),
                float(words[3]),
                float(words[4]),
                words[5] == b"1",
                parse_counts(words[6]),
                (Stamp.parse(words[7]), Stamp.parse(words[8])),
                len(line) + 1,
                version,
            )
        except (ValueError, LookupError, TypeError) as exc:
            raise BadFile(
                f"{path} begins with a header that means nothing ({exc}); {MEND}"
            ) from exc


class Record:
    """One whole record: its content, its end within the scanned bytes, and what its head says."""

    __slots__ = ("counts", "end", "flag", "payload", "seq")

    def __init__(self, payload: bytes, end: int, seq: int, flag: bytes, counts: bytes) -> None:
        self.payload = payload
        self.end = end
        self.seq = seq
        self.flag = flag
        self.counts = counts


def no_counts() -> dict[str, int]:
    """The counts of a queue without jobs: zero for every state."""
    return dict.fromkeys(STATE_ORDER, 0)


def _format_counts(counts: Counts, version: int) -> bytes:
    if version == 1:
        return b"%d,%d,%d,%d,%d,%d" % tuple([counts[state] for state in STATE_ORDER])
    return ",".join([f"{name}={count}" for name, count in counts.items() if count]).encode() or b"-"


def parse_counts(text: bytes) -> Counts:
    """The counts in a header or a record's head: of every state, then unknown ones.

    Raises ValueError for other bytes.
    """
    counts = no_counts()
    if b"=" in text:
        words = text.decode("ascii").replace("=", ",").split(",")
        counts.update(zip(words[::2], map(int, words[1::2]), strict=True))
    elif text != b"-":
        counts.update(zip(STATE_ORDER, map(int, text.split(b",")), strict=True))
    return counts


def format_record(
    payload: bytes, seq: int, flag: bytes, counts: Counts, version: int = VERSION
) -> bytes:
    """The bytes of one record; the payload must end with a newline."""
    tail = b"%d %s %s" % (seq, flag, _format_counts(counts, version))
    return b"@%d %08x %s\n%s" % (len(payload), crc32(tail, crc32(payload)), tail, payload)


def record_at(data: bytes, start: int) -> Record | None:
    """The whole record that begins at `start`, or None."""
    head_end = data.find(b"\n", start, start + _LONGEST_HEAD)
    if head_end < 0 or data[start : start + 1] != b"@":
        return None
    words = data[start + 1 : head_end].split(b" ", 2)
    try:
        length, check = int(words[0]), int(words[1], 16)
        seq, flag, counts = words[2].split(b" ")
        end = head_end + 1 + length
        payload = data[head_end + 1 : end]
        if len(payload) == length and crc32(words[2], crc32(payload)) == check:
            return Record(payload, end, int(seq), flag, counts)
    except (ValueError, IndexError):
        pass
    return None


def _holds_jobs(payload: bytes) -> bool:
    """Whether each line begins like a job's; a checksum proves bytes, not meaning."""
    lines = payload.count(b"\n")
    return payload.count(b'\n{"id": "') + payload.startswith(b'{"id": "') == lines


def scan(data: bytes, start: int = 0) -> Iterator[Record]:
    """The whole records from `start` on, up to the first position where none begins."""
    record = record_at(data, start)
    while record is not None:
        yield record
        record = record_at(data, record.end)


def is_corrupt(rest: bytes) -> bool:
    """Whether bytes that are not a record mean damage, not just an append that was cut short.

    Damage is a bad region with a synced record after it, or a promised record that is complete to
    its last byte but fails its checksum.
    """
    if _claims_to_be_whole(rest):
        return True
    # Not "\n@": the damage may have hit the newline before.
    at = rest.find(b"@")
    while at >= 0:
        record = record_at(rest, at)
        if record is not None and record.flag != PLAIN:
            return True
        at = rest.find(b"@", at + 1)
    return False


def _claims_to_be_whole(rest: bytes) -> bool:
    head, newline, body = rest[:_LONGEST_HEAD].partition(b"\n")
    words = head.split(b" ")
    try:
        length = int(words[0][1:])
    except ValueError:
        return False
    payload = rest[len(head) + 1 :][:length]
    # A payload holds no NUL: a NUL shows that a power cut kept the bytes from the disk.
    whole = len(payload) == length and b"\0" not in payload
    return bool(newline) and len(words) == 5 and words[3] == PROMISED and whole and bool(body)


class Journal:
    """An open journal: its header, how far it was read, and the counts at that point."""

    def __init__(self, path: str, flags: int) -> None:
        self.path = path
        self.fd, found = door.open_ours(path, flags)
        try:
            self.inode, self.size = found.st_ino, found.st_size  # the size at the last look
            self.is_named = not found.st_mode & NAMELESS
            self.header = Header.parse(os.pread(self.fd, 4096, 0), path)
        except BaseException:
            os.close(self.fd)
            raise
        self.end, self.seq = self.header.length, 0
        self.own = 0  # how many of its records were appended through this object
        self.counts = self.header.counts
        self.intents: list[bytes] = []
        self.edited = False  # whether the records read include an edit by hand

    @classmethod
    def for_writing(cls, folder: str) -> Journal:
        """The folder's journal, to be read and appended to by the holder of the lock."""
        return cls(os.path.join(folder, JOURNAL), os.O_RDWR | os.O_APPEND)

    @classmethod
    def for_reading(cls, folder: str) -> Journal:
        """The folder's journal for a reader without the lock, which cuts nothing."""
        return cls(os.path.join(folder, JOURNAL), os.O_RDONLY)

    def close(self) -> None:
        """Close the file; may be called twice."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def is_current(self) -> bool:
        """Whether this is still the file named `journal`: a fold renames another over it.

        BadFile if there is none.
        """
        try:
            found = os.lstat(self.path)
        except FileNotFoundError:
            raise BadFile(f"{self.path} is missing") from None
        if found.st_ino != self.inode:
            return False
        self.size = found.st_size
        return True

    def look(self) -> None:
        """Read the present size; faster than a stat, and each claim does it."""
        self.size = os.lseek(self.fd, 0, os.SEEK_END)

    def unread(self, *, looked: bool = False) -> bytes:
        """The bytes after the last record read; `looked` as in `read_on`. BadFile for damage."""
        if not looked:
            self.look()
        if self.size < self.end:
            raise BadFile(f"{self.path} was cut by something else than queuectl")
        if self.size - self.end > door.LARGEST:
            end = end_of_records(self.fd, self.end, self.size)
            if self.size - end > door.LARGEST:
                raise BadFile(f"{self.path} holds no change from byte {end} on; {MEND}")
        return read_at(self.fd, self.end, self.size - self.end)

    def unread_size(self) -> int:
        """The number of bytes after the last record read."""
        return os.fstat(self.fd).st_size - self.end

    def read_on(self, *, looked: bool = False, check: bool = True) -> tuple[list[bytes], bytes]:
        """The payloads of the records appended since, and the rest, which is not a whole record.

        `looked`: the size was read under the lock that is still held. `check`: raise BadFile for a
        record whose lines are not those of jobs; else the caller checks as it takes them in.
        """
        data = self.unread(looked=looked)
        payloads: list[bytes] = []
        record, following = None, record_at(data, 0)
        while following is not None:
            record, following = following, record_at(data, following.end)
            if record.flag == INTENT:
                self.intents.append(record.payload)
            else:
                if check and not _holds_jobs(record.payload):
                    raise BadFile(
                        f"{self.path}: record {record.seq} holds what is not a job; {MEND}"
                    )
                payloads.append(record.payload)
                self.edited |= record.flag == EDIT
        if record is None:
            return payloads, data
        self.counts, self.seq = self._counts_of(record), record.seq
        self.end += record.end
        return payloads, data[record.end :]

    def _counts_of(self, record: Record) -> Counts:
        try:
            return parse_counts(record.counts)
        except ValueError:
            raise BadFile(f"{self.path}: record {record.seq} has no counts; {MEND}") from None

    def append(self, payload: bytes, flag: bytes, counts: Counts) -> None:
        """Append one record; the caller has read up to the end under the lock. DiskRefused."""
        record = format_record(payload, self.seq + 1, flag, counts, self.header.version)
        door.append(self.fd, record, self.end, self.path)
        self.end += len(record)
        self.seq += 1
        self.own += 1
        self.counts = counts
        self.edited |= flag == EDIT

    def append_pieces(
        self, pieces: Iterable[bytes], size: int, crc: int, flag: bytes, counts: Counts
    ) -> None:
        """`append` for a payload, of that size and checksum, that is not held in memory."""
        start, told = self.end, _format_counts(counts, self.header.version)
        tail = b"%d %s %s" % (self.seq + 1, flag, told)
        head = b"@%d %08x %s\n" % (size, crc32(tail, crc), tail)
        door.append(self.fd, head, start, self.path)
        for piece in pieces:
            door.append(self.fd, piece, start, self.path)
        self.end += len(head) + size
        self.seq += 1
        self.own += 1
        self.counts = counts

    def mark(self) -> Mark:
        """The present end and state of the journal, for `cut_back`."""
        return self.end, self.seq, self.own, self.counts, self.edited

    def cut_back(self, mark: Mark) -> None:
        """Take back what was appended since the mark; under the lock held since then."""
        door.truncate(self.fd, mark[0], self.path)
        self.end, self.seq, self.own, self.counts, self.edited = mark

    def text(self) -> bytes:
        """Everything after the header that was read so far, with a newline before it."""
        start = self.header.length - 1
        return read_at(self.fd, start, self.end - start)

    def all_lines(self) -> Iterator[bytes]:
        """The lines of every record read so far, oldest first: jobs and removals."""
        data = self.text()
        for record in scan(data, 1):
            if record.flag != INTENT:
                yield from record.payload.splitlines()

    def cut_tail(self, rest: bytes) -> None:
        """Under the lock: set aside an append that was cut short; BadFile for other damage."""
        if is_corrupt(rest):
            raise BadFile(
                f"{self.path} is damaged {self.end} bytes from its start, "
                "before a change that was confirmed; nothing was changed: "
                "queuectl doctor --repair keeps what can be read, or restore it from a backup"
            )
        door.replace(f"{self.path}.torn-{self.header.generation}-{self.end}", rest)
        door.truncate(self.fd, self.end, self.path)


def end_of_records(fd: int, at: int, size: int) -> int:
    """Where the unbroken series of records from `at` on ends, judged by their heads."""
    while at < size:
        head = os.pread(fd, _LONGEST_HEAD, at).partition(b"\n")[0]
        length = head[1:].partition(b" ")[0]
        if head[:1] != b"@" or not length.isdigit():
            break
        at += len(head) + 1 + int(length)
    return min(at, size)


def read_at(fd: int, start: int, size: int) -> bytes:
    """`size` bytes from `start`, fewer only at the end of the file."""
    data = os.pread(fd, size, start)
    while 0 < len(data) < size:  # one call reads at most 2 GiB
        more = os.pread(fd, size - len(data), start + len(data))
        if not more:
            break
        data += more
    return data


def counts_after(counts: Counts, moves: Iterable[tuple[str | None, str | None]]) -> Counts:
    """The counts after moves of jobs from one state to another; None: not in the queue."""
    after = dict(counts)
    for old, new in moves:
        if old is not None:
            after[old] -= 1
        if new is not None:
            after[new] += 1
    return after


def last_counts(journal: Journal) -> tuple[Counts, int]:
    """The present counts and the number of waiting records, reading as little as possible.

    Looks for the last record at the end of the file; if that is unusual in any way, reads the whole
    journal.
    """
    size = os.fstat(journal.fd).st_size
    if size == journal.end:
        return journal.counts, journal.seq
    start = max(journal.end, size - 65_536)
    data = read_at(journal.fd, start, size - start)
    at = 0 if start == journal.end else data.rfind(b"\n@") + 1
    record, last = record_at(data, at), None
    while record is not None:
        record, last = record_at(data, record.end), record
    if last is not None and last.end == len(data) and last.flag != INTENT:
        return journal._counts_of(last), last.seq
    journal.read_on()
    return journal.counts, journal.seq
