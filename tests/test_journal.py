"""The journal: records, torn tails, damage, failed appends and failed syncs."""

from __future__ import annotations

import errno
import os
import shutil

import pytest
from failing_disk import failing_disk
from samples import configure, make_job, moment, put, read

from queuectl.errors import BadFile, DiskRefused, NotConfirmed, StoreError
from queuectl.store import door
from queuectl.store.files.file_store import FileStore
from queuectl.store.files.journal import (
    INTENT,
    PLAIN,
    PROMISED,
    Header,
    Journal,
    Stamp,
    counts_after,
    format_record,
    is_corrupt,
    last_counts,
    no_counts,
    parse_counts,
    record_at,
    scan,
)

NO_COUNTS = no_counts()
STAMPS = (Stamp(1, 2, 3, 4, 5), Stamp(6, 7, 8, 9, 10))


@pytest.fixture
def tmp_path(memory_path):
    """Thousands of files are written here."""
    return memory_path


def state_of(store):
    return {job.id: (job.state, job.rev) for job in store.find()}


class History:
    """A queue whose journal holds a record of each kind, and what it held after each of them."""

    def __init__(self, path):
        self.path = str(path)
        store = FileStore(self.path)
        store.add([make_job("base"), make_job("old", state="dead")])
        store.fold()
        self.journal = os.path.join(self.path, "journal")
        self.ends, self.states, self.promised = [], [], []
        self._note(store, True)
        store.add([make_job("a", command="echo 'ä\n@1 2 3'"), make_job("b")])
        self._note(store, True)
        held = store.claim("w", moment(1)).job
        self._note(store, False)
        store.claim("w", moment(1), (held, held._replace(state="completed", rev=3)))
        self._note(store, False)
        store.remove(["old"])
        self._note(store, True)
        job = store.get("b")
        put(store, job._replace(priority=1, rev=job.rev + 1), promised=False)
        self._note(store, False)
        put(store, store.get("b")._replace(state="cancelled", rev=9))
        self._note(store, True)
        store._writer.close()
        self.data = read(self.journal)

    def _note(self, store, promised):
        self.ends.append(os.path.getsize(self.journal))
        self.states.append(state_of(store))
        self.promised.append(promised)

    def whole_before(self, size):
        """The number of the last state whose record lies whole within `size` bytes."""
        return max(number for number, end in enumerate(self.ends) if end <= size)

    def promised_behind(self, at):
        """Whether a promised record begins behind the one that holds byte `at`."""
        number = next(number for number, end in enumerate(self.ends) if at < end)
        return any(self.promised[number + 1 :])


@pytest.fixture(scope="module")
def history(tmp_path_factory):
    return History(tmp_path_factory.mktemp("history") / "queue")


@pytest.fixture
def broken(history, tmp_path, no_sync):
    """Gives a copy of that queue with other bytes in its journal."""
    path = str(tmp_path / "queue")
    shutil.copytree(history.path, path)

    def make(data):
        for name in os.listdir(path):
            if name.startswith("journal.torn-"):
                os.unlink(os.path.join(path, name))
        with open(os.path.join(path, "journal"), "wb") as file:
            file.write(data)
        return path

    return make


def read_by_all(path):
    """What a reader finds, and what is left after a writer came: states, or their errors."""
    found = []
    for act in (lambda store: None, lambda store: store.add([make_job("next")])):
        store = FileStore(path)
        try:
            act(store)
            state = state_of(store)
            assert store.check() == []
            found.append(state)
        except StoreError as exc:
            found.append(exc)
        store._writer.close()
    return found


def without_next(state):
    assert state["next"] == ("pending", 1)
    return {job_id: job for job_id, job in state.items() if job_id != "next"}


def test_a_journal_cut_anywhere_holds_what_came_before(history, broken, places):
    for size in places(history.data):
        path = broken(history.data[:size])
        reader, writer = read_by_all(path)
        if size < history.ends[0]:
            assert isinstance(reader, BadFile)
            assert isinstance(writer, BadFile)
        else:
            wanted = history.states[history.whole_before(size)]
            assert reader == wanted, size
            assert without_next(writer) == wanted, size


@pytest.mark.parametrize(
    "mask",
    [0xFF, *(pytest.param(1 << bit, marks=pytest.mark.campaign) for bit in range(8))],
)
def test_a_flipped_byte_gives_a_prefix_or_a_refusal(history, broken, places, mask):
    for at in places(history.data):
        data = bytearray(history.data)
        data[at] ^= mask
        reader, writer = read_by_all(broken(bytes(data)))
        if at < history.ends[0]:
            assert isinstance(reader, StoreError), at
            assert isinstance(writer, StoreError), at
            continue
        before = history.states[history.whole_before(at)]
        # The letter case of a checksum is the one thing that may change without harm.
        assert reader == before or reader == history.states[-1], at
        if isinstance(writer, StoreError):
            assert read(broken(bytes(data)), "journal") == data
        elif history.promised_behind(at):
            assert without_next(writer) == history.states[-1], at
        else:
            assert without_next(writer) in (before, history.states[-1]), at


def test_damage_before_a_promised_record_is_refused(history, broken):
    for end in history.ends[1:-1]:
        data = bytearray(history.data)
        data[end - 2 : end + 1] = b"\0\0\0"  # the end of one record and the start of the next
        _, writer = read_by_all(broken(bytes(data)))
        behind = history.promised_behind(end)
        assert isinstance(writer, BadFile) is behind, end
        if behind:
            assert "is damaged" in str(writer)
            assert "restore it from a backup" in str(writer)


@pytest.mark.parametrize(
    "tail",
    [
        b"\0",
        b"\0" * 5000,
        b"@",
        b"\n",
        b"@120 ",
        b"@99 0a0b0c0d 7 d 1,2,3,4,5,6\n" + b"\0" * 20,
        b"@99 0a0b0c0d 7 d 1,2,3,4,5,6\n" + b"\0" * 99,
        b"@99 0a0b0c0d 7 - 1,2,3,4,5,6\n" + b"x" * 99,
        os.urandom(300).replace(b"@", b"x"),
    ],
)
def test_a_tail_that_is_not_a_record_is_cut_off_and_kept(history, broken, tail):
    path = broken(history.data + tail)
    reader, writer = read_by_all(path)
    assert reader == history.states[-1]
    assert without_next(writer) == history.states[-1]
    aside = [name for name in os.listdir(path) if name.startswith("journal.torn-")]
    assert len(aside) == 1
    assert read(path, aside[0]) == tail


def test_a_whole_last_record_that_was_promised_and_fails_its_checksum_is_damage(history, broken):
    data = history.data[:-4] + b"?" + history.data[-3:]
    reader, writer = read_by_all(broken(data))
    assert reader == history.states[-2]
    assert isinstance(writer, BadFile)


def test_a_foreign_file_is_not_taken_for_a_journal(history, broken):
    for data in (b"", b"\n", b"[]\n", b"\0" * 2000, b"queuectl-journal\n", os.urandom(2000)):
        path = broken(data)
        for found in read_by_all(path):
            assert isinstance(found, BadFile)
        assert read(path, "journal") == data


def test_a_journal_of_a_later_version_is_refused(history, broken):
    from zlib import crc32

    line = history.data.partition(b"\n")[0].rpartition(b" ")[0]
    line = line.replace(b"queuectl-journal 2 ", b"queuectl-journal 3 ")
    for found in read_by_all(broken(b"%s %08x\n" % (line, crc32(line)))):
        assert isinstance(found, StoreError)
        assert "made by a newer queuectl (format 3)" in str(found)


# -- records


def test_records_are_read_back():
    data = format_record(b"one\n", 1, PROMISED, {**NO_COUNTS, "pending": 1})
    data += format_record(b"two\nthree\n", 2, PLAIN, NO_COUNTS)
    first, second = scan(data)
    assert first.payload == b"one\n"
    assert (first.seq, first.flag, first.counts) == (1, PROMISED, b"pending=1")
    assert second.payload == b"two\nthree\n"
    assert second.end == len(data)


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"@", b"@\n", b"@1\n", b"@1 2\n", b"@x y z\n", b"@-1 0 0 d 0\n", b"@" * 5000),
        *(b"@5 00000000 1 d 0\n12", b"@4 zz 1 d 0\none\n"),
        b"x" + format_record(b"one\n", 1, PLAIN, NO_COUNTS),
    ],
)
def test_bytes_that_are_not_a_record_read_as_none(data):
    assert record_at(data, 0) is None


@pytest.mark.parametrize("flag", [PROMISED, INTENT])
def test_a_synced_record_behind_a_bad_region_means_damage(flag):
    record = format_record(b"{}\n", 1, flag, NO_COUNTS)
    assert is_corrupt(b"bad" + record)
    assert is_corrupt(b"bad\n" + record)
    assert not is_corrupt(b"bad\n" + record[:-1])
    assert not is_corrupt(b"bad\n" + format_record(b"{}\n", 1, PLAIN, NO_COUNTS))


@pytest.mark.parametrize("version", [1, 2])
def test_a_header_is_read_back(version):
    counts = dict(zip(NO_COUNTS, (1, 2, 3, 4, 5, 6), strict=True))
    header = Header(7, 0.25, 1234.5, True, counts, STAMPS, version=version)
    got = Header.parse(header.format() + b"@...", "journal")
    assert (got.generation, got.fold_seconds, got.folded_at, got.edited) == (7, 0.25, 1234.5, True)
    assert (got.counts, got.version) == (counts, version)
    assert [stamp.format() for stamp in got.stamps] == [stamp.format() for stamp in STAMPS]
    assert got.length == len(header.format())


def test_a_header_of_huge_numbers_is_still_read_whole():
    big = 2**63
    stamp = Stamp(big, big, big, big, 2**32 - 1)
    data = Header(big, 1e9, 1e12, True, dict.fromkeys(NO_COUNTS, big), (stamp, stamp)).format()
    assert Header.parse(data[:4096], "journal").generation == big


def test_counts_follow_moves():
    one = {**NO_COUNTS, "pending": 1}
    after = counts_after(one, [(None, "pending"), ("pending", "dead")])
    assert after == {**NO_COUNTS, "pending": 1, "dead": 1}
    assert counts_after(after, [("dead", None)]) == one


def test_counts_have_names_and_those_not_known_here_are_kept():
    assert parse_counts(b"-") == NO_COUNTS
    assert parse_counts(b"1,2,3,4,5,6")["cancelled"] == 6
    assert parse_counts(b"dead=3,blocked=2") == {**NO_COUNTS, "dead": 3, "blocked": 2}
    for nonsense in (b"", b"1", b"dead", b"dead=x", b"\xff=1", b"1,2,3,4,5,6,7"):
        with pytest.raises(ValueError):  # noqa: PT011
            parse_counts(nonsense)


@pytest.mark.parametrize("size", [10, 70_000])
def test_the_last_record_alone_answers_for_the_counts(tmp_path, no_sync, size):
    store = FileStore(str(tmp_path / "queue"))
    store.add([make_job("a", command="x" * size), make_job("b")])
    store.add([make_job("c", state="dead", command="x" * size)])
    journal = Journal.for_reading(store.folder)
    assert last_counts(journal) == ({**NO_COUNTS, "pending": 2, "dead": 1}, 2)
    journal.close()
    with open(os.path.join(store.folder, "journal"), "ab") as file:
        file.write(b"@torn")
    journal = Journal.for_reading(store.folder)
    assert last_counts(journal) == ({**NO_COUNTS, "pending": 2, "dead": 1}, 2)
    journal.close()
    store.close()


# -- appends that fail


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
@pytest.mark.parametrize("part", [0, 1, 40])
def test_a_failed_append_cuts_itself_back(tmp_path, monkeypatch, code, part):
    store = FileStore(str(tmp_path / "queue"))
    store.add([make_job("a")])
    size = os.path.getsize(os.path.join(store.folder, "journal"))
    write, left = os.write, [part]

    def failing(fd, data):
        if left[0] == 0:
            raise OSError(code, os.strerror(code))
        count, left[0] = left[0], 0
        return write(fd, bytes(data)[:count])

    with monkeypatch.context() as patch:
        patch.setattr(door.os, "write", failing)
        with pytest.raises(DiskRefused, match="nothing was changed") as caught:
            store.add([make_job("b")])
    assert os.strerror(code) in str(caught.value)
    assert os.path.getsize(os.path.join(store.folder, "journal")) == size
    store.add([make_job("c")])
    assert sorted(state_of(store)) == ["a", "c"]
    assert not [name for name in os.listdir(store.folder) if "torn" in name]
    assert store.check() == []
    store.close()


def test_a_fold_makes_sure_of_what_others_appended_beside_its_own(tmp_path):
    store = FileStore(str(tmp_path / "queue"))
    store.add([make_job("a")])
    other = Journal.for_writing(store.folder)
    other.read_on()
    mark = other.mark()
    line = b'{"id": "b", "state": "pending", "priority": 0, "run_at": "x", "command": 5}\n'
    other.append(line, PROMISED, counts_after(other.counts, [(None, "pending")]))
    assert (other.own, other.seq) == (1, 2)
    with pytest.raises(BadFile, match="holds what is not a job"):
        store.fold()
    other.cut_back(mark)
    assert (other.own, other.seq) == (0, 1)
    other.close()
    store.fold()
    assert sorted(state_of(store)) == ["a"]
    store.close()


def test_an_append_that_cannot_even_be_cut_back_is_cut_by_the_next_writer(tmp_path):
    store = FileStore(str(tmp_path / "queue"))
    store.add([make_job("a")])
    with failing_disk(at=1, how="die half-way"):
        store.add([make_job("b")])
    other = FileStore(store.folder)
    assert sorted(state_of(other)) == ["a"]
    other.add([make_job("c")])
    store.add([make_job("d")])
    assert sorted(state_of(other)) == ["a", "c", "d"]
    assert other.check() == []
    for each in (store, other):
        each.close()


# -- syncs that fail


def fail_once(monkeypatch, name, error):
    real, left = getattr(door, name), [True]

    def failing(*args):
        if left:
            left.clear()
            raise error
        return real(*args)

    monkeypatch.setattr(door, name, failing)


def test_a_failed_sync_is_made_good_by_fresh_files(tmp_path, monkeypatch):
    store = FileStore(str(tmp_path / "queue"))
    store.add([make_job("a")])
    before = os.stat(os.path.join(store.folder, "journal")).st_ino
    fail_once(monkeypatch, "sync", OSError(errno.EIO, "Input/output error"))
    store.add([make_job("b")])
    journal = Journal.for_reading(store.folder)
    assert journal.inode != before
    assert journal.unread() == b""
    journal.close()
    assert list(state_of(store)) == ["a", "b"]
    store.close()


@pytest.mark.parametrize("then", ["disk", "lock"])
def test_a_failed_sync_that_cannot_be_made_good_is_not_confirmed(tmp_path, monkeypatch, then):
    store = FileStore(str(tmp_path / "queue"))
    store.add([make_job("a")])
    configure(store, {"lock-timeout": 0})
    other = FileStore(store.folder)
    real, error = door.sync, OSError(errno.EIO, "Input/output error")

    def failing(fd):
        if then == "lock":
            other._writer.lock.__enter__()  # somebody else is faster
        raise error

    monkeypatch.setattr(door, "sync", failing)
    with pytest.raises(NotConfirmed, match="may not survive a power cut") as caught:
        store.add([make_job("b")])
    assert caught.value.exit_code == 5
    if then == "lock":
        other._writer.lock.__exit__(None, None, None)
    monkeypatch.setattr(door, "sync", real)
    assert list(state_of(store)) == ["a", "b"]
    assert store.check() == []
    for each in (store, other):
        each.close()


def test_claims_are_synced_when_asked_and_not_before(tmp_path, monkeypatch):
    store = FileStore(str(tmp_path / "queue"))
    store.add([make_job("a")])
    synced, real = [], door.sync
    monkeypatch.setattr(door, "sync", lambda fd: synced.append(fd) or real(fd))
    held = store.claim("w", moment(1)).job
    put(store, held._replace(rev=3, state="completed"), promised=False)
    assert synced == []
    store.sync()
    assert len(synced) == 1
    store.sync()
    assert len(synced) == 1
    store.close()


def test_a_promise_is_synced_after_the_lock_is_free(tmp_path, monkeypatch):
    store = FileStore(str(tmp_path / "queue"))
    store.add([make_job("a")])
    other, real, free = FileStore(store.folder), door.sync, []

    def watching(fd):
        other._writer.lock.__enter__()
        other._writer.lock.__exit__(None, None, None)
        free.append(True)
        real(fd)

    monkeypatch.setattr(door, "sync", watching)
    store.add([make_job("b")])
    job = store.get("b")
    put(store, job._replace(rev=2, state="dead"))
    store.remove(["b"])
    assert free == [True] * 3
    for each in (store, other):
        each._writer.close()
