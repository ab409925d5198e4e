"""The store in a data folder keeps the contract, whether jobs are in the journal or the files."""

from __future__ import annotations

import errno
import json
import os

import pytest
from failing_disk import failing_disk
from samples import configure, make_job, moment, put, read
from store_contract import StoreContract, filled, names

from queuectl.errors import BadFile, DiskRefused, DuplicateId, NotConfirmed
from queuectl.model.selection import Selection
from queuectl.store.files import checkpoint, snapshot, staged, writer
from queuectl.store.files.file_store import FileStore


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
    assert FileStore(store.folder).check() == []


class FoldingStore(FileStore):
    """Folds before each step: all is in the files."""

    def _fold_first(self):
        if os.path.exists(self.folder):
            self.fold()


class FreshStore(FileStore):
    """Forgets before each step: all is read anew."""

    def _fold_first(self):
        self._writer.forget()


def _folding(name):
    def step(self, *args, **kwargs):
        self._fold_first()
        return getattr(FileStore, name)(self, *args, **kwargs)

    return step


for _kind in (FoldingStore, FreshStore):
    for _name in ("add", "get", "find", "counts", "claim", "change", "remove"):
        setattr(_kind, _name, _folding(_name))


class TestFileStore(StoreContract):
    pass


class TestFoldedFileStore(StoreContract):
    @pytest.fixture
    def store(self, tmp_path):
        store = FoldingStore(str(tmp_path / "queue"))
        yield store
        assert store.check() == []
        store.close()


class TestReopenedFileStore(StoreContract):
    @pytest.fixture
    def store(self, tmp_path):
        store = FreshStore(str(tmp_path / "queue"))
        yield store
        assert store.check() == []
        store.close()

    test_when_the_next_job_is_due = None  # only a store that has claimed before can tell


class TestTwoFileStores(StoreContract):
    """Two stores on one folder: what one does, the other knows."""

    @pytest.fixture
    def store(self, tmp_path):
        stores = [FileStore(str(tmp_path / "queue")) for _ in range(2)]
        turns = iter(range(10**9))

        class Turns:
            def __getattr__(self, name):
                return getattr(stores[next(turns) % 2], name)

            def __setattr__(self, name, value):
                for store in stores:
                    setattr(store, name, value)

        yield Turns()
        for store in stores:
            assert store.check() == []
            store.close()


def test_reading_makes_no_folder(tmp_path):
    store = FileStore(str(tmp_path / "queue"))
    assert list(store.find()) == []
    assert store.counts()["pending"] == 0
    assert store.get("a") is None
    assert store.settings() == {}
    store.close()
    assert not os.path.exists(store.folder)


def test_the_files_are_json_one_job_a_line(store):
    filled(store)
    store.fold()
    jobs, dead = read(store.folder, "jobs.json"), read(store.folder, "dlq.json")
    assert names(map(lambda form: type("J", (), form), json.loads(jobs))) == [
        *("pending", "in_progress", "completed", "failed", "cancelled"),
    ]
    assert [form["id"] for form in json.loads(dead)] == ["dead"]
    lines = jobs.splitlines()
    assert (lines[0], lines[-1]) == (b"[", b"]")
    assert lines[1].startswith(b'{"id": "pending", "state": "pending", "priority": 0, "run_at": "')
    assert all(json.loads(line.rstrip(b",")) for line in lines[1:-1])


def test_empty_files_are_json_too(store):
    configure(store, {})
    for name, empty in (
        *(("jobs.json", []), ("dlq.json", []), ("worker_pids.json", [])),
        ("config.json", {}),
    ):
        assert json.loads(read(store.folder, name)) == empty


def test_one_change_is_one_append_and_leaves_the_files_alone(store):
    store.add([make_job("a")])
    store.fold()
    before = read(store.folder, "jobs.json"), read(store.folder, "dlq.json")
    size = os.path.getsize(os.path.join(store.folder, "journal"))
    claim = store.claim("w", moment(10)).job
    put(store, claim._replace(state="dead", rev=3))
    assert (read(store.folder, "jobs.json"), read(store.folder, "dlq.json")) == before
    assert read(store.folder, "journal")[size:].count(b"\n@") == 1
    assert names(store.find(["dead"])) == ["a"]


def test_closing_a_small_queue_makes_its_files_the_whole_truth(tmp_path):
    store = FileStore(str(tmp_path / "queue"))
    store.add([make_job("a")])
    store.close()
    assert [form["id"] for form in json.loads(read(store.folder, "jobs.json"))] == ["a"]
    assert read(store.folder, "journal").count(b"\n") == 1


@pytest.mark.parametrize("folded", [False, True])
def test_a_taken_id_names_the_file_that_holds_it(store, folded):
    store.add([make_job("a"), make_job("b", state="dead")])
    if folded:
        store.fold()
    with pytest.raises(DuplicateId, match=r"exists already, in .*/queue/jobs\.json"):
        store.add([make_job("a")])
    with pytest.raises(DuplicateId, match=r"exists already, in .*/queue/dlq\.json"):
        store.add([make_job("b")])
    with pytest.raises(DuplicateId, match="in the same input"):
        store.add([make_job("c"), make_job("c")])


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (b"", "config.json"),
        (b"{", "config.json"),
        (b"\0\0\0", "config.json"),
        (b"\xff{}", "config.json"),
        (b"[]", "must hold a JSON object"),
        (b'{"base": "two"}', "base must be a number, not 'two'"),
        (b'{"max-retries": true}', "max-retries must be a whole number"),
        (b'{"base": NaN}', "base must lie between"),
        (b'{"a": ' + b"[" * 100_000, "config.json"),
    ],
)
def test_a_bad_config_is_refused_and_left_alone(tmp_path, text, complaint):
    store = FileStore(str(tmp_path / "queue"))
    configure(store, {"base": 3})
    path = os.path.join(store.folder, "config.json")
    with open(path, "wb") as file:
        file.write(text)
    for deed in (store.settings, lambda: configure(store, {"base": 4})):
        with pytest.raises(BadFile, match=complaint) as caught:
            deed()
        assert caught.value.exit_code == 5
    assert read(store.folder, "config.json") == text
    store.close()


@pytest.mark.parametrize("name", ["jobs.json", "dlq.json", "config.json"])
def test_a_missing_file_is_a_bad_file_and_not_an_empty_one(tmp_path, name):
    store = FileStore(str(tmp_path / "queue"))
    store.add([make_job("a"), make_job("b", state="dead")])
    store.fold()
    os.unlink(os.path.join(store.folder, name))
    fresh = FileStore(store.folder)
    with pytest.raises(BadFile, match=f"{name} is missing"):
        fresh.settings() if name == "config.json" else fresh.add([make_job("c")])
    if name != "config.json":
        for read_it in (lambda: list(fresh.find()), fresh.counts, lambda: fresh.get("x")):
            with pytest.raises(BadFile, match=f"{name} is missing"):
                read_it()
    assert not os.path.exists(os.path.join(store.folder, name))
    for each in (store, fresh):
        each.close()


def test_a_missing_journal_is_not_an_empty_one(tmp_path):
    store = FileStore(str(tmp_path / "queue"))
    store.add([make_job("a")])
    store.close()
    os.unlink(os.path.join(store.folder, "journal"))
    fresh = FileStore(store.folder)
    for deed in (lambda: list(fresh.find()), fresh.counts, lambda: fresh.add([make_job("b")])):
        with pytest.raises(BadFile, match=r"journal is missing though .* holds jobs"):
            deed()


def test_a_journal_that_held_the_only_jobs_is_missed(tmp_path):
    store = FileStore(str(tmp_path / "queue"))
    store.add([make_job("a")])
    os.unlink(os.path.join(store.folder, "journal"))
    with pytest.raises(BadFile, match="journal is missing"):
        FileStore(store.folder).add([make_job("b")])


def test_waiting_returns_when_something_changes(tmp_path, wait_until):
    import threading
    import time

    store, other = (FileStore(str(tmp_path / "queue")) for _ in range(2))
    store.add([make_job("a")])
    waited = []

    def wait():
        began = time.monotonic()
        store.wait(30)
        waited.append(time.monotonic() - began)

    thread = threading.Thread(target=wait)
    thread.start()
    numbers = iter(range(10**6))
    wait_until(lambda: other.add([make_job(f"j{next(numbers)}")]) or waited)
    thread.join()
    assert waited[0] < 20
    store.close()
    other.close()


@pytest.mark.parametrize("folds", [0, 1, 9])
@pytest.mark.parametrize("limit", [None, 2])
def test_a_selection_is_what_it_is_under_the_lock(store, monkeypatch, folds, limit):
    """Another is faster, once or at each look: what is changed is what is selected by then."""
    other = FileStore(store.folder)
    store.add([make_job(job_id, state="failed") for job_id in "abcd"])
    store.add([make_job("e"), make_job("f")])
    writing, looks = store._writer.writing, []

    def late(**options):
        number = len(looks)
        looks.append(number)
        if number == 0:
            put(other, make_job("b", rev=2))
            put(other, make_job("e", rev=2, state="failed"))
            other.remove(["c"])
        if number < folds:
            put(other, make_job("f", rev=number + 2, command=str(number)))
            other.fold()
        return writing(**options)

    monkeypatch.setattr(store._writer, "writing", late)
    failed = Selection(states=frozenset({"failed"}), limit=limit)
    seen = store.change(failed, lambda job: job._replace(rev=job.rev + 1, state="cancelled"))
    assert [*seen] == ["a", "d", "e"][:limit]
    assert [job.id for job in store.find({"failed"})] == ["a", "d", "e"][limit or 3 :]
    assert len(looks) == (4 if folds == 9 else 1 + (folds == 1 or limit is not None))
    assert store.check() == []
    other.close()


# -- what others do meanwhile, and what the disk refuses


def test_a_claim_that_was_refused_leaves_nothing_behind_in_memory(store):
    other = FileStore(store.folder)
    store.add([make_job("x")])
    store.prepare_claims()
    with failing_disk(1, "once"), pytest.raises(DiskRefused):
        store.claim("w-1", moment(1))
    assert other.claim("w-2", moment(1)).job.id == "x"
    other.fold()
    assert store.claim("w-1", moment(1)).job is None
    assert store.check() == other.check() == []
    other.close()


def test_a_fold_that_the_disk_refuses_is_put_off(store):
    store.add([make_job("a")])
    tries = []

    def refuse(*_):
        tries.append(1)
        raise DiskRefused("full")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "fold", refuse)
        assert not any(store.fold_if_due() for _ in range(5))
        assert len(tries) == 1
        store.next_due()  # as an idle worker asks, which opens everything anew
        assert 5 < store.fold_due_in() <= 10
    assert store.counts()["pending"] == 1


def test_a_file_that_is_saved_while_the_index_is_made_is_read_again(store, monkeypatch):
    store.add([make_job(job_id) for job_id in "abc"])
    store.fold()
    path = os.path.join(store.folder, "jobs.json")
    real = writer.read_live_lines

    def saved_meanwhile(fd):
        lines = list(real(fd))
        data = read(path)
        with open(path, "wb") as file:  # in place and the same bytes, as an editor may
            file.write(data)
        monkeypatch.setattr(writer, "read_live_lines", real)
        yield lines[0]

    monkeypatch.setattr(writer, "read_live_lines", saved_meanwhile)
    fresh = FileStore(store.folder)
    fresh.prepare_claims()
    assert [fresh.claim("w", moment(1)).job.id for _ in "abc"] == ["a", "b", "c"]
    fresh.close()


@pytest.mark.parametrize("line", [b'{"id": "a', b'{"id": "a", "state": "pending"', b"{"])
def test_a_line_that_is_cut_while_it_is_read_is_a_bad_file(store, monkeypatch, line):
    store.add([make_job("a")])
    store.fold()
    with monkeypatch.context() as patch:
        patch.setattr(snapshot, "read_lines", lambda _: iter([line]))
        patch.setattr(writer, "read_live_lines", lambda _: iter([line]))
        with pytest.raises(BadFile):
            list(store.find())
        with pytest.raises(BadFile):
            store.claim("w", moment(1))


def test_a_worker_that_cannot_be_woken_gets_the_job_all_the_same(store, monkeypatch):
    def refuse(_):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "listdir", refuse)
    store.wake()


def test_the_list_of_workers_of_a_queue_in_the_making_is_made_with_it(store):
    store.add([make_job("a")])
    os.unlink(os.path.join(store.folder, "worker_pids.json"))
    fresh = FileStore(store.folder)
    assert fresh.orphans() == []
    fresh.close()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('{"base": 2,\n "base": 3}', "the key 'base' occurs twice"),
        ('{"base": 2,\n "backoff_base": 3}', ":2:2: 'backoff_base' is there already"),
        ('{\n "base": "x"\n}', ":2:2: base must be a number"),
        ('{"a": 1\n', ":2:1: "),
    ],
)
def test_a_mistake_in_the_settings_is_told_with_its_place(store, text, complaint):
    store.add([make_job("a")])
    path = os.path.join(store.folder, "config.json")
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    with pytest.raises(BadFile, match=complaint):
        store.settings()
    with pytest.raises(BadFile):
        store.change_settings({}, {"jitter": 0.5})
    with open(path, encoding="utf-8") as file:
        assert file.read() == text


def test_very_many_new_jobs_are_folded_before_anybody_reads_them(store, monkeypatch):
    store.add([make_job("a")])
    worker = FileStore(store.folder)
    assert worker.claim("w", moment(1)).job.id == "a"
    monkeypatch.setattr(staged, "FEW", 1000)
    store.add(make_job(f"j{number}", priority=-number) for number in range(100))
    assert read(store.folder, "jobs.json").count(b"\n{") == 101
    assert b"j7" not in read(store.folder, "journal")
    assert worker.claim("w", moment(1)).job.id == "j99"
    assert [name for name in os.listdir(store.folder) if name.endswith(".new")] == []
    worker.close()


@pytest.mark.parametrize("how", ["once", "full"])
@pytest.mark.parametrize("nth", range(1, 30))
def test_very_many_new_jobs_are_all_there_or_none_on_a_full_disk(store, monkeypatch, nth, how):
    store.add([make_job("a")])
    monkeypatch.setattr(staged, "FEW", 1000)
    wanted = ["a", *(f"j{number}" for number in range(100))]
    try:
        with failing_disk(nth, how):
            store.add(make_job(name) for name in wanted[1:])
    except NotConfirmed:  # they are there, which is said
        pass
    except DiskRefused:
        wanted = ["a"]
    fresh = FileStore(store.folder)
    assert names(fresh.find()) == wanted
    assert fresh.counts()["pending"] == len(wanted)
    assert fresh.check() == []
    fresh.close()
