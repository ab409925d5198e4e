"""The fold: killed at every step, never losing or doubling a job; and when it is due."""

from __future__ import annotations

import json
import os
import shutil

import pytest
from failing_disk import DEATHS, failing_disk
from samples import START, configure, make_job, moment, put, read

from queuectl.errors import StoreError
from queuectl.store import door
from queuectl.store.files import checkpoint
from queuectl.store.files.file_store import FileStore
from queuectl.store.files.journal import Header, Journal, Stamp, no_counts

NAMES = ("jobs.json", "dlq.json")
STAMPS = (Stamp(0, 0, 0, 0, 0), Stamp(0, 0, 0, 0, 0))

pytestmark = pytest.mark.usefixtures("no_sync")


@pytest.fixture
def tmp_path(memory_path):
    """Thousands of files are written here."""
    return memory_path


@pytest.fixture
def store(tmp_path):
    store = FileStore(str(tmp_path / "queue"))
    yield store
    assert store.check() == []
    store.close()


def contents(store):
    """Every job; each exactly once."""
    jobs = list(store.find())
    assert len({job.id for job in jobs}) == len(jobs)
    return {job.id: job for job in jobs}


def in_files(folder):
    """The ids in each job file."""
    return [[form["id"] for form in json.loads(read(folder, name))] for name in NAMES]


def header(folder):
    journal = Journal.for_reading(folder)
    journal.close()
    return journal.header


def change(store, job_id, **fields):
    old = store.get(job_id)
    put(store, old._replace(rev=old.rev + 1, **fields))


def prepare(path):
    """A queue with folded jobs and journal records of each kind on top of them."""
    store = FileStore(path)
    store.add([make_job(name) for name in ("stays", "claimed", "buried", "removed", "edited")])
    store.add([make_job("raised", state="dead"), make_job("deleted", state="dead")])
    store.fold()
    held = store.claim("w", moment(1)).job
    change(store, "buried", state="dead")
    change(store, "raised", state="pending")
    change(store, "edited", command="new")
    store.remove(["removed", "deleted"])
    store.add([make_job("added"), make_job("late", state="dead")])
    store._writer.close()
    return held


# -- killed at any step


def enqueue(store):
    store.add([make_job("n1"), make_job("n2", state="dead")])


def claim(store):
    store.claim("w", moment(1))


def finish(store):
    held = store.get("stays")
    store.claim("w", moment(1), (held, held._replace(state="completed", rev=held.rev + 1)))


def bury(store):
    change(store, "added", state="dead")


def retry(store):
    change(store, "late", state="pending")


def update(store):
    change(store, "edited", command="newer", priority=3)


def purge(store):
    store.remove(["late", "buried"])


def set_base(store):
    configure(store, {"base": 3})


def fold(store):
    store.fold()


def close(store):
    store.add([make_job("n1")])
    store.close()


DEEDS = (enqueue, claim, finish, bury, retry, update, purge, set_base, fold, close)


def prepared(tmp_path, deed):
    """The path of a prepared queue, its jobs before and after the deed, the settings after it."""
    template, done = str(tmp_path / "template"), FileStore(str(tmp_path / "after"))
    prepare(template)
    before = contents(FileStore(template))
    shutil.copytree(template, done.folder)
    deed(done)
    after, settings = contents(done), done.settings()
    done.close()
    return template, before, after, settings


def steps(tmp_path, template, deed, how):
    """Runs the deed on a fresh copy once for each thing it does to the disk, failing there."""
    at = 0
    while True:
        at += 1
        path = str(tmp_path / f"copy{at}")
        shutil.copytree(template, path)
        store, ended, error = FileStore(path), False, None
        with failing_disk(at, how) as disk:
            try:
                deed(store)
                ended = True
            except StoreError as exc:
                error = exc
        yield store, path, ended, error
        store._writer.close()
        shutil.rmtree(path)
        if not disk.broken:
            assert ended, "nothing failed, and yet the deed did not end"
            return


@pytest.mark.parametrize("how", DEATHS)
@pytest.mark.parametrize("deed", DEEDS, ids=lambda deed: deed.__name__)
def test_killed_at_any_step_a_change_is_there_whole_or_not_at_all(tmp_path, deed, how):
    template, before, after, changed = prepared(tmp_path, deed)
    settings = [{}, changed]
    count = 0
    for _, path, ended, _ in steps(tmp_path, template, deed, how):
        count += 1
        for again in range(2):
            fresh = FileStore(path)
            found = contents(fresh)
            assert found in ([after] if ended else [before, after]), (count, again)
            assert fresh.settings() in (settings[1:] if ended else settings)
            assert fresh.check() == []
            assert fresh.counts() == dict(fresh.counts())
            fresh.fold()
            assert contents(fresh) == found
            fresh.close()
        fresh = FileStore(path)
        fresh.add([make_job("next")])
        assert contents(fresh) == {**found, "next": make_job("next")}
        fresh.fold()
        assert fresh.check() == []
        assert not [name for name in os.listdir(path) if name.endswith(".new")]
        fresh.close()
    assert count > 1


@pytest.mark.parametrize("how", ["once", "full"])
@pytest.mark.parametrize("deed", DEEDS, ids=lambda deed: deed.__name__)
def test_refused_at_any_step_a_change_is_there_whole_or_not_at_all(tmp_path, deed, how):
    template, before, after, _ = prepared(tmp_path, deed)
    for store, path, ended, _ in steps(tmp_path, template, deed, how):
        # The process lives on: the same store, and others, go on with it.
        found = contents(store)
        assert found in ([after] if ended else [before, after])
        other = FileStore(path)
        assert contents(other) == found
        other.add([make_job("other")])
        store.add([make_job("next")])
        store.fold()
        assert store.check() == []
        assert contents(other) == {**found, "next": make_job("next"), "other": make_job("other")}
        other.close()


@pytest.mark.parametrize("how", DEATHS)
def test_killed_at_any_step_the_making_of_a_folder_is_taken_up_again(tmp_path, how):
    template = str(tmp_path / "template")
    os.mkdir(template)
    for _, path, ended, _ in steps(tmp_path, template, lambda s: s.add([make_job("a")]), how):
        fresh = FileStore(path)
        assert list(contents(fresh)) in ([["a"]] if ended else [[], ["a"]])
        fresh.settings()
        fresh.add([make_job("b")])
        fresh.fold()
        assert set(contents(fresh)) - {"a"} == {"b"}
        assert fresh.check() == []
        for name in ("jobs.json", "dlq.json", "config.json", "worker_pids.json"):
            json.loads(read(path, name))
        fresh.close()


# -- what a fold does

NEW_FILE = ["create", "write", "fsync"]


@pytest.mark.parametrize("files_changed", [1, 2])
def test_a_fold_does_each_step_only_when_the_one_before_is_on_the_disk(store, files_changed):
    store.add([make_job("a"), make_job("d", state="dead")])
    store.fold()
    change(store, "a", state="dead" if files_changed == 2 else "failed")
    with failing_disk(at=-1, how="once") as disk:
        store.fold()
    assert disk.calls == [
        *(NEW_FILE * files_changed),
        *("write", "fsync"),  # what is about to be renamed, announced in the journal
        "write",  # the notes for edits by hand, and the copies
        *(["create", "write"] * files_changed),
        *(["rename"] * files_changed),
        "fsync",  # the folder
        *NEW_FILE,
        *("chmod", "rename", "fsync", "chmod"),  # the new journal
        *(["unlink"] * files_changed),  # the copies before these
    ]


def test_only_promised_changes_are_synced(store):
    store.add([make_job("a"), make_job("b")])
    for deed, synced in (
        (lambda: store.add([make_job("c")]), True),
        (lambda: change(store, "b", priority=3), True),
        (lambda: store.claim("w", moment(1)), False),
        (lambda: store.remove(["c"]), True),
    ):
        with failing_disk(at=-1, how="once") as disk:
            deed()
        assert disk.calls == (["write", "fsync"] if synced else ["write"])
    with failing_disk(at=-1, how="once") as disk:
        store.change_settings({}, {"base": 3})
    assert disk.calls == [*NEW_FILE, "rename", "fsync"]


def test_a_fold_makes_the_files_the_whole_truth(tmp_path):
    path = str(tmp_path / "queue")
    prepare(path)
    store = FileStore(path)
    before = contents(store)
    store.fold()
    assert in_files(path) == [["stays", "claimed", "edited", "raised", "added"], ["buried", "late"]]
    assert contents(store) == before
    assert read(path, "journal").count(b"\n") == 1
    store.close()


def test_a_fold_with_nothing_to_fold_does_nothing(store):
    store.add([make_job("a")])
    store.fold()
    before = header(store.folder).generation
    store.fold()
    assert header(store.folder).generation == before


@pytest.mark.parametrize("touched", ["jobs.json", "dlq.json"])
def test_a_file_that_does_not_change_is_not_rewritten(store, touched):
    store.add([make_job("a"), make_job("d", state="dead")])
    store.fold()
    inodes = {name: os.stat(os.path.join(store.folder, name)).st_ino for name in NAMES}
    change(store, "a" if touched == "jobs.json" else "d", command="new")
    store.fold()
    for name in NAMES:
        same = os.stat(os.path.join(store.folder, name)).st_ino == inodes[name]
        assert same is (name != touched)


def test_leftovers_of_a_killed_fold_are_removed_at_the_next_write(store):
    store.add([make_job("a")])
    store._writer.forget()
    ours = ["jobs.json.new", "dlq.json.new", "journal.new", "config.json.new"]
    for name in [*ours, "notes.new"]:
        with open(os.path.join(store.folder, name), "w") as file:
            file.write("half")
    assert list(contents(store)) == ["a"]
    store.add([make_job("b")])
    assert not set(ours) & set(os.listdir(store.folder))
    assert "notes.new" in os.listdir(store.folder)


def test_the_order_of_jobs_stays_first_in_first(store):
    for number in range(5):
        store.add([make_job(f"j{number}")])
        if number % 2:
            store.fold()
        change(store, f"j{number // 2}", priority=number)
    assert list(contents(store)) == [f"j{number}" for number in range(5)]
    store.fold()
    assert list(contents(store)) == [f"j{number}" for number in range(5)]


def test_a_person_who_edits_while_a_fold_runs_is_not_overwritten(store, monkeypatch):
    store.add([make_job("a"), make_job("b")])
    store.fold()
    path, rename, left = os.path.join(store.folder, "jobs.json"), door.rename, [True]
    real = door.sync

    def sync(fd):
        # The intent is on its way to the disk: the last moment at which an edit can be seen.
        if left:
            left.clear()
            text = read(store.folder, "jobs.json").replace(b'"true"', b'"echo by hand"', 1)
            with open(path, "wb") as file:
                file.write(text)
        real(fd)

    store.add([make_job("c")])
    monkeypatch.setattr(door, "sync", sync)
    monkeypatch.setattr(door, "rename", rename)
    store.fold()
    found = contents(store)
    assert found["a"].command == "echo by hand"
    assert list(found) == ["a", "b", "c"]


@pytest.mark.parametrize("kept", [True, False])
def test_a_person_who_edits_just_after_a_fold_renamed_is_noticed_later(store, monkeypatch, kept):
    """Also if nobody looks before the file has grown old."""
    store.add([make_job("a"), make_job("d", state="dead")])
    store.fold()
    name = "dlq.json" if kept else "jobs.json"  # a file that the fold leaves, or one it renames
    path, real, left = os.path.join(store.folder, name), door.sync_folder, [True]

    def sync_folder(folder):
        if left:
            left.clear()
            text = read(folder, name).replace(b'"true"', b'"fail"', 1)
            with open(path, "wb") as file:
                file.write(text)
        real(folder)

    store.add([make_job("b")])
    monkeypatch.setattr(door, "sync_folder", sync_folder)
    store.fold()
    assert not left
    now = store.now()
    late = FileStore(store.folder)
    late.now = lambda: now + 60
    late._writer._now = late.now
    for _ in range(2):
        edited = contents(late)["d" if kept else "a"]
        assert (edited.command, edited.rev) == ("fail", 2)
        if not late.notices:
            late.add([make_job("c")])
    assert any("was edited by hand" in notice for notice in late.notices)
    assert late.check() == []
    late.close()


# -- followers


def test_a_follower_reads_the_rest_of_its_journal_before_it_moves_on(store):
    follower = FileStore(store.folder)
    store.add([make_job("a", priority=5)])
    assert follower.claim("f", moment(1)).job.id == "a"
    store.add([make_job("b", priority=4), make_job("c", priority=3)])
    store.fold()
    store.add([make_job("d", priority=2)])
    live = follower._writer._live
    assert follower.claim("f", moment(1)).job.id == "d"
    assert follower._writer._live is live  # it followed, and did not read everything anew
    assert [follower.claim("f", moment(1)).job.id for _ in range(2)] == ["c", "b"]
    follower.close()


@pytest.mark.parametrize("folds", [1, 2, 5])
def test_a_follower_that_fell_behind_reads_anew(store, folds):
    follower = FileStore(store.folder)
    store.add([make_job("a")])
    assert follower.claim("f", moment(1)).job.id == "a"
    for number in range(folds):
        store.add([make_job(f"j{number}", priority=-number)])
        store.fold()
    store.add([make_job("last")])
    wanted = [f"j{number}" for number in reversed(range(folds))] + ["last", None]
    claims = [follower.claim("f", moment(1)).job for _ in wanted]
    assert [job and job.id for job in claims] == wanted
    assert follower.check() == []
    follower.close()


def test_a_follower_learns_of_edits_by_hand(store):
    follower = FileStore(store.folder)
    store.add([make_job("a"), make_job("b")])
    store.fold()
    assert follower.claim("f", moment(1)).job.id == "a"
    follower.fold()
    text = read(store.folder, "jobs.json").replace(b'"id": "b"', b'"id": "by-hand"')
    with open(os.path.join(store.folder, "jobs.json"), "wb") as file:
        file.write(text)
    store.add([make_job("c")])
    assert [follower.claim("f", moment(1)).job.id for _ in range(2)] == ["by-hand", "c"]
    follower.close()


def test_a_follower_settles_across_folds(store):
    follower = FileStore(store.folder)
    store.add([make_job("a"), make_job("b")])
    held = follower.claim("f", moment(1)).job
    for _ in range(3):
        store.fold()
        change(store, "b", priority=1)
    got = follower.claim("f", moment(1), (held, held._replace(state="dead", rev=3)))
    assert (got.settled, got.job.id) == (True, "b")
    store.fold()
    assert in_files(store.folder) == [["b"], ["a"]]
    follower.close()


# -- when it is due


@pytest.mark.parametrize(
    ("seconds", "running", "later", "due"),
    [
        (0.0, 0, 0.0, True),
        (1.0, 0, 0.0, False),
        (1.0, 1, 19.99, False),
        (1.0, 1, 20.0, True),
        (0.04, 0, 0.79, False),
        (0.04, 0, 0.81, True),
        (0.04, 1, 0.99, False),  # the end of the run would wait for it
        (0.04, 1, 1.01, True),
        (1.0, 1, -5.0, True),  # the clock was set back: not put off for ever
    ],
)
def test_a_fold_may_take_a_twentieth_of_the_time(store, seconds, running, later, due):
    store.add([make_job("a", state="in_progress" if running else "pending", worker="w")])
    store.fold()
    restamp(store, seconds, float(START))
    with store._writer.writing() as journal:
        assert checkpoint.is_due(journal, START + later) is due


def restamp(store, seconds, folded_at):
    """Pretend that the last fold took so long, and when it was."""
    old = header(store.folder)
    new = Header(old.generation, seconds, folded_at, False, old.counts, old.stamps)
    checkpoint.start_journal(store.folder, new)


@pytest.mark.parametrize(("seconds", "folds"), [(0.001, True), (0.0099, True), (0.5, False)])
def test_a_command_folds_only_if_the_last_fold_was_quick(store, seconds, folds, monkeypatch):
    monkeypatch.setattr(checkpoint, "SMALL", 0)
    store.add([make_job("a")])
    store.fold()
    restamp(store, seconds, store.now())
    command = FileStore(store.folder)
    command.add([make_job("b")])
    command.close()
    assert in_files(store.folder)[0] == (["a", "b"] if folds else ["a"])
    assert list(contents(store)) == ["a", "b"]


def test_a_command_folds_a_small_queue_on_a_disk_that_is_slow_to_sync(store):
    store.add([make_job("a")])
    store.fold()
    restamp(store, 0.5, store.now())
    command = FileStore(store.folder)
    command.add([make_job("b")])
    command.close()
    assert in_files(store.folder)[0] == ["a", "b"]


def test_an_idle_worker_folds_when_it_is_due(store):
    store.add([make_job("a")])
    store.fold()
    restamp(store, 0.5, store.now())
    store.add([make_job("b")])
    assert not store.fold_if_due()
    assert 9 < store.fold_due_in() <= 10
    restamp(store, 0.5, store.now() - 11)
    store.add([make_job("c")])
    assert store.fold_due_in() == 0
    assert not store.fold_if_due(busy=True)
    assert store.fold_if_due()
    assert store.fold_due_in() is None
    assert not store.fold_if_due()


def test_a_busy_worker_folds_what_has_grown_large(store, monkeypatch):
    monkeypatch.setattr("queuectl.store.files.file_store.LARGE", 2000)
    store.add([make_job("a", command="x" * 1000)])
    assert not store.fold_if_due(busy=True)
    store.add([make_job("b", command="x" * 1000)])
    assert store.fold_if_due(busy=True)


def test_the_header_tells_how_long_the_fold_took(store):
    store.add([make_job(f"j{number}") for number in range(2000)])
    store.fold()
    head = header(store.folder)
    assert 0 < head.fold_seconds < 60
    assert abs(head.folded_at - store.now()) < 60
    assert head.counts == {**no_counts(), "pending": 2000}


def test_a_folder_that_takes_the_place_of_another_while_it_folds_is_left_alone(
    tmp_path, monkeypatch
):
    moved, other = FileStore(str(tmp_path / "queue")), FileStore(str(tmp_path / "other"))
    for store, name in ((moved, "a"), (other, "b")):
        store.add([make_job(f"{name}1")])
        store.fold()
        store.add([make_job(f"{name}2")])
    write = checkpoint._write

    def swap(*args):
        written = write(*args)
        if os.path.exists(other.folder):
            os.rename(moved.folder, tmp_path / "moved")
            os.rename(other.folder, moved.folder)
        return written

    monkeypatch.setattr(checkpoint, "_write", swap)
    with pytest.raises(StoreError, match="is gone"):
        moved.fold()
    assert sorted(contents(FileStore(moved.folder))) == ["b1", "b2"]
    assert sorted(contents(FileStore(str(tmp_path / "moved")))) == ["a1", "a2"]
    for store in (moved, other):
        store._writer.close()
