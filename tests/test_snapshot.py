"""Readers without a lock beside folding writers: nothing missed, doubled or out of date."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest
from samples import make_job, moment, put

from queuectl.errors import BadFile
from queuectl.store.door import is_young
from queuectl.store.files.file_store import FileStore
from queuectl.store.files.job_files import encode_job
from queuectl.store.files.journal import PLAIN, Journal
from queuectl.store.files.snapshot import Snapshot, merged
from queuectl.store.files.summary import read_summary

# Writes numbered jobs, moves each through all states and folds all the time; tells each number
# only after it was acknowledged.
WRITER = """
import sys
sys.path[:0] = sys.argv[2:]
from samples import make_job, moment, put
from queuectl.store.files.file_store import FileStore
store = FileStore(sys.argv[1])
number = 0
while True:
    number += 1
    store.add([make_job(f"j{number}", priority=number)])
    print(number, flush=True)
    job = store.claim("w", moment(1)).job
    dead = job._replace(state="dead" if number % 2 else "completed", rev=job.rev + 1)
    put(store, dead, promised=False)
    if number % 3 == 0:
        store.fold()
"""
# What a fold leaves at each of its steps.
MOVES = {"pending": 0, "in_progress": 1, "dead": 2, "completed": 2}


class Numbers:
    """The last number that the writer told, read without waiting."""

    def __init__(self, stream):
        os.set_blocking(stream.fileno(), False)
        self._stream, self._text, self.last = stream, b"", 0

    def read(self):
        self._text += self._stream.read() or b""
        lines, _, self._text = self._text.rpartition(b"\n")
        if lines:
            self.last = int(lines.splitlines()[-1])
        return self.last


@pytest.fixture
def writing(tmp_path):
    """A folder, and the number of the last job that another process has added to it."""
    folder = str(tmp_path / "queue")
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, folder, os.path.dirname(__file__), os.getcwd()],
        stdout=subprocess.PIPE,
    )
    yield folder, Numbers(process.stdout)
    process.kill()
    process.wait(20)
    process.stdout.close()
    store = FileStore(folder)
    store.fold()
    assert store.check() == []
    store.close()


def watch(folder, numbers, jobs):
    """Read until the writer has added so many jobs; each read must be right."""
    store, seen, reads = FileStore(folder), {}, 0
    while numbers.read() < jobs:
        known = numbers.read()
        found = [(job.id, job.state, job.rev) for job in store.find()]
        ids = [job_id for job_id, _, _ in found]
        assert len(set(ids)) == len(ids), "a job was seen twice"
        assert {f"j{number}" for number in range(1, known + 1)} <= set(ids), "a job was missed"
        for job_id, state, rev in found:
            assert (MOVES[state], rev) >= seen.get(job_id, (0, 1)), "a job went back in time"
            seen[job_id] = (MOVES[state], rev)
        known = numbers.read()
        assert sum(read_summary(folder, store.now()).counts.values()) >= known
        if known:
            assert store.get(f"j{known}") is not None
        reads += 1
    store.close()
    return reads


def test_readers_miss_nothing_while_a_writer_folds(writing):
    assert watch(*writing, jobs=150) > 5


@pytest.mark.campaign
def test_readers_miss_nothing_for_a_long_time(writing):
    assert watch(*writing, jobs=5000) > 100


# -- the same, step by step


@pytest.fixture
def store(tmp_path):
    store = FileStore(str(tmp_path / "queue"))
    store.add([make_job("a"), make_job("b", state="dead")])
    store.fold()
    yield store
    store.close()


def test_a_reader_that_a_fold_overtakes_starts_over(store, monkeypatch):
    store.add([make_job("c")])
    read_on, left = Journal.read_on, [3]

    def overtaken(journal):
        if left[0]:
            left[0] -= 1
            monkeypatch.setattr(Journal, "read_on", read_on)
            job = store.get("a")
            put(store, job._replace(rev=job.rev + 1))
            store.fold()
            monkeypatch.setattr(Journal, "read_on", overtaken)
        return read_on(journal)

    monkeypatch.setattr(Journal, "read_on", overtaken)
    assert [job.id for job in FileStore(store.folder).find()] == ["a", "c", "b"]
    assert left == [0]


def test_files_that_a_fold_changed_under_a_reader_of_an_edit_are_not_a_mistake(store, monkeypatch):
    store.fold()
    path = os.path.join(store.folder, "jobs.json")
    with open(path, encoding="utf-8") as file:
        text = file.read()
    put(store, store.get("a")._replace(rev=2, state="dead"))
    with open(path, "w", encoding="utf-8") as file:
        file.write(text.replace("}", ', "remark": "mine"}', 1))
    os.utime(path, (time.time() - 60,) * 2)  # what is young may only be half written
    other, parse_both = FileStore(store.folder), Snapshot._parse_both

    def overtaken(snapshot, now):
        # The reader has jobs.json as it was; it finds dlq.json, and no copies, as they are now.
        monkeypatch.setattr(Snapshot, "_open_copies", open_copies)
        monkeypatch.setattr(Snapshot, "_parse_both", parse_both)
        other.fold()
        raise BadFile("job 'a' occurs twice, in jobs.json and dlq.json")

    open_copies = Snapshot._open_copies
    monkeypatch.setattr(Snapshot, "_open_copies", lambda *_: False)
    monkeypatch.setattr(Snapshot, "_parse_both", overtaken)
    assert [(job.id, job.state) for job in FileStore(store.folder).find()] == [
        ("b", "dead"),
        ("a", "dead"),
    ]
    other.close()


def test_a_reader_that_is_always_overtaken_takes_the_lock(store, monkeypatch):
    tries = []
    monkeypatch.setattr(Journal, "is_current", lambda journal: len(tries) > 5)
    real = Snapshot._try.__func__
    monkeypatch.setattr(
        Snapshot, "_try", classmethod(lambda cls, *args: tries.append(1) or real(cls, *args))
    )
    assert [job.id for job in FileStore(store.folder).find()] == ["a", "b"]
    assert len(tries) == 6


def test_a_journal_that_somebody_else_keeps_replacing_is_refused(store, monkeypatch):
    monkeypatch.setattr(Journal, "is_current", lambda journal: False)
    with pytest.raises(BadFile, match="is replaced by something else than queuectl"):
        list(FileStore(store.folder).find())


def test_a_reader_ignores_a_tail_that_is_not_whole_and_cuts_nothing(store):
    store.add([make_job("c")])
    path = os.path.join(store.folder, "journal")
    with open(path, "ab") as file:
        file.write(b"@200 12345678 9 d 1,2,3,4,5,6\n{")
    size = os.path.getsize(path)
    reader = FileStore(store.folder)
    assert [job.id for job in reader.find()] == ["a", "c", "b"]
    assert reader.counts()["pending"] == 2
    assert os.path.getsize(path) == size


@pytest.mark.parametrize("step", ["nothing renamed", "jobs.json renamed", "both renamed"])
def test_between_the_renames_of_a_fold_every_reader_sees_the_same(store, monkeypatch, step):
    job = store.claim("w", moment(1)).job
    put(store, job._replace(state="dead", rev=3))
    put(store, store.get("b")._replace(state="pending", rev=2))
    wanted = sorted((job.id, job.state, job.rev) for job in store.find())
    from queuectl.store import door

    done, real = [], door.rename

    def rename(old, new):
        if len(done) == ("nothing", "jobs.json", "both").index(step.split()[0]):
            reader = FileStore(store.folder)
            assert sorted((job.id, job.state, job.rev) for job in reader.find()) == wanted
            assert reader.counts() == {**reader.counts(), "pending": 1, "dead": 1}
            assert reader.get("a").state == "dead"
            assert reader.get("b").state == "pending"
            assert reader.check() == []
            done.append("looked")
        real(old, new)
        done.append(new)

    monkeypatch.setattr(door, "rename", rename)
    store.fold()
    assert "looked" in done
    assert sorted((job.id, job.state, job.rev) for job in store.find()) == wanted


def test_a_snapshot_stays_as_it_was(store):
    found = store.find()
    assert next(found).id == "a"
    store.remove(["b"])
    store.fold()
    assert [job.id for job in found] == ["b"]


def test_lines_that_changed_take_the_place_of_the_old_ones():
    base = [b'{"id": "a", "state": "pending"', b'{"id": "b", "state": "pending"']
    overlay = {
        b"b": b'{"id": "b", "state": "failed"',
        b"c": b'{"id": "c", "state": "dead"',
        b"a": b'{"id": "a", "removed": "pending"}',
    }
    assert list(merged(iter(base), overlay, False)) == [b'{"id": "b", "state": "failed"']
    assert list(merged(iter([]), overlay, True)) == [b'{"id": "c", "state": "dead"']


def test_a_summary_of_a_queue_that_is_being_edited_counts_the_edit(store):
    path = os.path.join(store.folder, "jobs.json")
    with open(path, "w") as file:
        file.write('[{"id": "x", "command": "y"}, {"id": "z", "command": "y"}]')
    before = sum(job.state == "pending" for job in store.find())
    assert before > 2
    assert read_summary(store.folder, store.now()).counts["pending"] == before


@pytest.mark.parametrize(
    ("written", "now", "young"),
    [(5.25, 5.3, True), (5.25, 5.4, False), (5.0, 6.9, True), (5.0, 7.1, False), (9.5, 5.0, True)],
)
def test_a_file_is_young_for_longer_than_a_tick_of_its_clock(tmp_path, written, now, young):
    path = tmp_path / "file"
    path.touch()
    os.utime(path, (written, written))
    assert is_young(path.stat().st_mtime_ns, now) is young


def test_a_summary_tells_how_many_changes_wait(store):
    assert read_summary(store.folder, store.now()).waiting == 0
    store.add([make_job("c")])
    store.add([make_job("d")])
    summary = read_summary(store.folder, store.now())
    assert (summary.waiting, summary.counts["pending"], summary.counts["dead"]) == (2, 3, 1)
    assert (summary.folder, summary.worker_pids) == (store.folder, [])


def test_counts_below_zero_are_counted_anew(tmp_path):
    """Two writers at once leave them, where something let the second one in."""
    store = FileStore(str(tmp_path / "queue"))
    store.add([make_job("a"), make_job("b")])
    with store._writer.writing() as journal:
        line = encode_job(make_job("a", state="completed"))
        moves = [("pending", "completed"), ("failed", "completed")]
        store._writer.append(journal, [line], moves, PLAIN)
        assert min(journal.counts.values()) < 0
    counts = store.counts()
    assert {state: counts[state] for state in counts if counts[state]} == {
        "pending": 1,
        "completed": 1,
    }
    store.fold()
    assert store.check() == []
    store.close()
