"""jobs.json and dlq.json edited by a person: taken in whole, or refused and left alone."""

from __future__ import annotations

import json
import os
import threading
import time
from contextlib import suppress
from zlib import crc32

import pytest
from failing_disk import Killed, failing_disk
from samples import configure, make_job, moment, put

from queuectl.errors import BadFile, DuplicateId
from queuectl.model.job import job_from_person
from queuectl.model.times import format_time
from queuectl.store.files import job_files, writer
from queuectl.store.files.file_store import FileStore
from queuectl.store.files.job_files import encode_job, read_edited
from queuectl.store.files.journal import PLAIN, Journal
from queuectl.store.files.lock import QueueLock

TAKEN = "the edit was taken in"

pytestmark = pytest.mark.usefixtures("no_patience")


@pytest.fixture
def tmp_path(memory_path):
    """Thousands of files are written here."""
    return memory_path


@pytest.fixture
def store(tmp_path):
    """Jobs a, b and c, and a dead one, d; all in the files for an hour."""
    store = FileStore(str(tmp_path / "queue"))
    set_clock(store, -3600)
    store.add([make_job(name) for name in "abc"] + [make_job("d", state="dead")])
    store.fold()
    set_clock(store, 0)
    yield store
    store.close()


def set_clock(store, seconds):
    """Let the store's clock go ahead of the system's."""
    store.now = store._writer._now = lambda: time.time() + seconds


def path_of(store, name="jobs.json"):
    return os.path.join(store.folder, name)


def read(store, name="jobs.json"):
    with open(path_of(store, name), "rb") as file:
        return file.read()


def write(store, data, name="jobs.json", how="in place"):
    data = data.encode() if isinstance(data, str) else data
    path = path_of(store, name)
    with open(path if how == "in place" else f"{path}~", "wb") as file:
        file.write(data)
    if how == "renamed":
        os.rename(f"{path}~", path)


def edit(store, change, name="jobs.json", **layout):
    """Load the file, apply `change` to its jobs by id, and write it."""
    jobs = {form["id"]: form for form in json.loads(read(store, name))}
    change(jobs)
    write(store, json.dumps(list(jobs.values()), **layout), name)


def jobs_of(store):
    return {job.id: job for job in store.find()}


def take_in(store):
    """The notices of the next write."""
    store.fold()
    store.notices.clear()
    configure(store, {})
    return store.notices


# -- edits that are sound


@pytest.mark.parametrize("how", ["in place", "renamed"])
@pytest.mark.parametrize("same_size", [True, False])
def test_an_edit_is_taken_in_with_a_new_rev_and_a_notice(store, how, same_size):
    text = read(store).replace(b'"true"', b'"fals"' if same_size else b'"echo by hand"', 1)
    write(store, text, how=how)
    wanted = "fals" if same_size else "echo by hand"
    assert jobs_of(store)["a"].command == wanted  # a reader sees it at once
    assert store.get("a").rev == 2
    configure(store, {})
    assert store.notices == [f"{store.folder}: a job file was edited by hand; {TAKEN}"]
    assert (store.get("a").command, store.get("a").rev) == (wanted, 2)
    assert json.loads(read(store))[0]["rev"] == 2
    store.notices.clear()
    store.add([make_job("e")])
    assert store.notices == []
    assert list(jobs_of(store)) == [*"abce", "d"]
    assert store.check() == []


@pytest.mark.parametrize("layout", [{"indent": 4}, {"separators": (",", ":")}, {"sort_keys": True}])
def test_any_layout_is_read_and_put_into_ours(store, layout):
    ours = read(store)
    edit(store, lambda jobs: None, **layout)
    assert list(jobs_of(store)) == list("abcd")
    assert store.get("b").command == "true"
    assert store.counts()["pending"] == 3
    store.add([make_job("e")])
    store.fold()
    lines = read(store).splitlines()
    assert len(lines) == 6
    assert lines[1].startswith(ours.splitlines()[1].rstrip(b"},"))
    assert store.check() == []


def test_a_trailing_comma_and_blank_lines_do_no_harm(store):
    write(store, "\n\n[\n\n" + '{"id": "x", "command": "y"},\n\n]\n\n')
    assert list(jobs_of(store)) == ["x", "d"]


def test_id_and_command_suffice(store):
    write(store, '[{"id": "new", "command": "echo hi"}]')
    job = store.claim("w", moment(1)).job
    assert (job.id, job.command, job.max_retries, job.run) == ("new", "echo hi", 3, 1)
    assert list(jobs_of(store)) == ["new", "d"]


def test_jobs_can_be_added_removed_and_changed_at_once(store):
    def change(jobs):
        del jobs["a"]
        jobs["b"]["priority"] = -5
        jobs["b"]["note"] = "mine"
        jobs["n"] = {"id": "n", "command": "x", "run_at": "2020-01-01T00:00:00+01:00"}

    edit(store, change)
    take_in(store)
    found = jobs_of(store)
    assert list(found) == ["b", "c", "n", "d"]
    assert (found["b"].priority, found["b"].extra) == (-5, {"note": "mine"})
    assert found["n"].run_at == "2019-12-31T23:00:00.000000Z"
    assert store.counts() == {**store.counts(), "pending": 3, "dead": 1}
    assert store.claim("w", moment(1)).job.id == "b"
    assert store.check() == []


def test_unknown_keys_are_kept_for_good(store):
    edit(store, lambda jobs: jobs["a"].update({"tags": ["x"], "stdin": "b", "x": {"y": 1.5}}))
    take_in(store)
    job = store.claim("w", moment(1)).job
    put(store, job._replace(state="dead", rev=job.rev + 1))
    store.fold()
    form = next(form for form in json.loads(read(store, "dlq.json")) if form["id"] == "a")
    assert (form["tags"], form["stdin"], form["x"]) == (["x"], "b", {"y": 1.5})


def test_a_state_is_changed_as_update_could_and_moves_the_job_to_its_file(store):
    edit(store, lambda jobs: jobs["a"].update(state="cancelled"))
    assert [job.id for job in store.find(["cancelled"])] == ["a"]
    edit(store, lambda jobs: jobs["d"].update(state="pending"), "dlq.json")
    assert store.counts()["pending"] == 3
    take_in(store)
    assert {form["id"] for form in json.loads(read(store))} == {"a", "b", "c", "d"}
    assert store.get("a").error == "cancelled"
    assert store.check() == []
    edit(store, lambda jobs: jobs["b"].update(state="dead"))
    with pytest.raises(BadFile, match=r"jobs\.json:1:\d+: job 'b' is pending: cannot make dead"):
        store.get("b")


def test_a_schedule_that_an_edit_brings_back_waits_for_its_next_time(store):
    now = int(store.now())
    due = {"run_at": format_time(now - 50), "every": 60.0}
    store.add([make_job("s", state="cancelled", **due), make_job("t", state="dead", **due)])
    store.fold()
    edit(store, lambda jobs: jobs["s"].update(state="pending"))
    moved = {}
    edit(store, lambda jobs: moved.update(jobs.pop("t")), "dlq.json")
    edit(store, lambda jobs: jobs.update(t={**moved, "state": "pending"}))
    take_in(store)
    jobs = jobs_of(store)
    assert [(jobs[i].state, jobs[i].run_at) for i in "st"] == [
        ("pending", format_time(now + 10)),
    ] * 2


def test_a_job_may_be_moved_by_hand_from_one_file_to_the_other(store):
    moved = {}
    edit(store, lambda jobs: moved.update(jobs.pop("d")), "dlq.json")
    edit(store, lambda jobs: jobs.update(d={**moved, "state": "pending"}))
    assert store.counts()["dead"] == 0
    take_in(store)
    assert list(jobs_of(store)) == list("abcd")
    assert store.check() == []


def test_a_job_in_dlq_json_that_names_no_state_is_dead(store):
    write(store, '[{"id": "z", "command": "x"}]', "dlq.json")
    assert [job.id for job in store.find(["dead"])] == ["z"]
    take_in(store)
    assert [job.id for job in store.find(["dead"])] == ["z"]


def test_old_state_names_are_read(store):
    new = {"id": "n", "command": "x", "state": "processing", "worker": "w-gone"}
    edit(store, lambda jobs: jobs.update(n=new))
    assert [job.id for job in store.find(["in_progress"])] == ["n"]


def test_both_files_may_be_emptied(store):
    write(store, "[]")
    write(store, " [ ] ", "dlq.json")
    assert jobs_of(store) == {}
    take_in(store)
    assert sum(store.counts().values()) == 0
    store.add([make_job("a")])
    assert list(jobs_of(store)) == ["a"]


def test_changes_in_the_journal_are_kept(store):
    job = store.claim("w", moment(1)).job
    edit(store, lambda jobs: [form.update(command="by hand") for form in jobs.values()])
    for _ in range(2):
        found = jobs_of(store)
        assert (found["a"].command, found["a"].state, found["a"].rev) == ("true", "in_progress", 2)
        assert (found["b"].command, found["b"].rev) == ("by hand", 2)
        configure(store, {})
    assert store.notices[1] == "changes that came first were kept for: a"
    assert store.present(job) == job


def test_a_run_that_goes_on_is_settled_over_the_edit(store):
    held = store.claim("w", moment(1)).job
    store.fold()
    edit(store, lambda jobs: jobs["a"].update(priority=7))
    claim = store.claim("w", moment(1), (held, held._replace(state="completed", rev=held.rev + 1)))
    assert not claim.settled  # the edit came first: the result goes onto the edited job
    stored = claim.stored
    assert (stored.priority, stored.rev, stored.worker, stored.run) == (7, held.rev + 1, "w", 1)
    done = stored._replace(state="completed", rev=stored.rev + 1)
    assert store.claim("w", moment(1), (stored, done)).job.id == "b"
    assert store.check() == []


def test_a_reader_from_before_the_edit_does_not_write_over_it(store):
    old = store.get("a")
    edit(store, lambda jobs: jobs["a"].update(priority=7))
    assert store.remove([old.id], lambda job: job == old) == []
    store.change(["a"], lambda job: job._replace(rev=job.rev + 1, command="mine"))
    assert (store.get("a").priority, store.get("a").command) == (7, "mine")


def test_an_id_taken_by_an_edit_is_taken(store):
    edit(store, lambda jobs: jobs.update(n={"id": "n", "command": "x"}), indent=1)
    with pytest.raises(DuplicateId, match=r"jobs\.json"):
        store.add([make_job("n")])


def test_a_touched_file_is_not_an_edit(store):
    os.utime(path_of(store))
    os.chmod(path_of(store), 0o600)
    write(store, read(store), how="renamed")
    assert take_in(store) == []
    assert store.get("a").rev == 1


def test_an_edit_with_a_forged_time_is_noticed(store):
    found, edited = os.stat(path_of(store)), read(store).replace(b'"true"', b'"fals"', 1)
    while os.stat(path_of(store)).st_ctime_ns == found.st_ctime_ns:  # within one tick of the clock
        write(store, edited)
        os.utime(path_of(store), ns=(found.st_atime_ns, found.st_mtime_ns))
    assert store.get("a").command == "fals"
    assert store.get("a").rev == 2


@pytest.mark.parametrize("tick", [1, 2])
def test_an_edit_right_after_a_fold_is_noticed_where_times_have_no_fractions(
    store, monkeypatch, tick
):
    real, tick = os.utime, tick * 1_000_000_000

    def keep(path, ns):
        real(path, ns=tuple(moment // tick * tick for moment in ns))

    monkeypatch.setattr("queuectl.store.door.os.utime", keep)
    store.change(["a"], lambda job: job._replace(rev=2, command="true"))
    store.fold()
    write(store, read(store).replace(b'"true"', b'"fals"', 1))
    keep(path_of(store), [os.stat(path_of(store)).st_mtime_ns] * 2)
    assert (store.get("a").command, store.get("a").rev) == ("fals", 3)


def test_nobody_sums_up_a_job_file_after_a_fold(store, monkeypatch):
    store.change(["a"], lambda job: job._replace(rev=2, state="dead"))
    store.fold()
    monkeypatch.setattr(
        "queuectl.store.files.snapshot.checksum", lambda fd: pytest.fail("summed up")
    )
    monkeypatch.setattr(
        "queuectl.store.files.summary._has_sum", lambda *_: pytest.fail("summed up")
    )
    other = FileStore(store.folder)
    other.add([make_job("e")])
    assert other.get("d").state == "dead"
    assert other.counts()["dead"] == 2
    other._writer.close()


def test_the_old_content_put_back_keeps_what_came_after_it(store):
    backup = read(store)
    store.claim("w", moment(1))
    store.add([make_job("e")])
    store.fold()
    write(store, backup)
    assert list(jobs_of(store)) == [*"abce", "d"]
    take_in(store)
    assert list(jobs_of(store)) == [*"abce", "d"]
    assert store.get("a").state == "in_progress"
    assert store.check() == []


def test_a_backup_put_back_over_both_files_and_the_journal_is_taken(store):
    names = ("jobs.json", "dlq.json", "journal")
    backup = {name: read(store, name) for name in names}
    store.add([make_job("e")])
    store.fold()
    for name in names:
        write(store, backup[name], name, how="renamed")
    assert list(jobs_of(store)) == list("abcd")
    store.add([make_job("f")])
    assert list(jobs_of(store)) == [*"abcf", "d"]
    assert store.check() == []


# -- edits that took their time


def finish(store, worker="w"):
    """Run the next job to its end."""
    job = store.claim(worker, moment(1)).job
    done = job._replace(state="completed", rev=job.rev + 1)
    assert store.claim("other", moment(-9), (job, done)).settled


@pytest.mark.parametrize("how", ["in place", "renamed"])
@pytest.mark.parametrize("folds", [0, 1, 3])
def test_changes_that_came_while_somebody_edited_stay(store, how, folds):
    forms = json.loads(read(store))
    finish(store)
    store.remove(["b", "d"])
    store.add([make_job("e")])
    for _ in range(folds):
        store.fold()
        store.change(["e"], lambda job: job._replace(rev=job.rev + 1, priority=job.rev))
    before = jobs_of(store)
    for form in forms:
        form |= {"priority": 7}
    write(store, json.dumps(forms, indent=2), how=how)
    after = {**before, "c": before["c"]._replace(priority=7, rev=2)}
    assert jobs_of(store) == after
    assert take_in(store) == []
    assert jobs_of(store) == after
    assert store.check() == []
    assert list(jobs_of(FileStore(store.folder))) == list("ace")


def test_jobs_that_both_changed_are_told_by_name(store):
    forms = json.loads(read(store))
    finish(store)
    store.remove(["b"])
    store.fold()
    write(store, json.dumps([{**form, "priority": 7} for form in forms]))
    store.fold()
    assert store.notices[1:] == [
        "changes that came first were kept for: a",
        "removed meanwhile, and not put back: b",
    ]


def test_a_job_that_may_not_have_been_seen_is_not_removed(store):
    store.add([make_job("e")])
    store.fold()
    edit(store, lambda jobs: jobs.pop("e"))
    assert list(jobs_of(store)) == [*"abce", "d"]
    store.fold()
    assert store.notices[1].endswith("may have read the file before it was there: e")
    set_clock(store, 3600)
    edit(store, lambda jobs: jobs.pop("e"))
    os.utime(path_of(store), (time.time() + 3600,) * 2)
    assert list(jobs_of(store)) == [*"abc", "d"]


def test_a_running_job_is_not_removed(store):
    held = store.claim("w", moment(1)).job
    set_clock(store, -3600)
    store.fold()
    set_clock(store, 0)
    write(store, "[]")
    store.fold()
    assert list(jobs_of(store)) == ["a", "d"]
    assert store.notices[1] == "not removed, because it runs ('queuectl cancel' ends it): a"
    assert store.present(held) == held


def test_an_edit_that_cannot_be_decided_is_kept_beside_and_the_queue_goes_on(store):
    edit(store, lambda jobs: jobs["a"].update(rev=40, command="mine"))
    edited, before = read(store), store.get("a")
    assert (before.command, before.rev) == ("true", 1)
    assert "an edit cannot be taken in: it has rev 40 of job 'a'" in store.notices.pop()
    store.add([make_job("e")])
    (name,) = [name for name in os.listdir(store.folder) if ".edit-" in name]
    assert store.notices == [
        "an edit was not taken in: it has rev 40 of job 'a', of which nothing is known; "
        f"it is kept as {name}"
    ]
    assert read(store, name) == edited
    assert os.stat(path_of(store, name)).st_mode & 0o777 == 0o600
    assert list(jobs_of(store)) == [*"abce", "d"]
    assert store.check() == []
    edit(store, lambda jobs: jobs["b"].update(rev=40))
    store.fold()
    assert len([name for name in os.listdir(store.folder) if ".edit-" in name]) == 2


def test_an_edit_that_is_set_aside_is_so_once_though_that_is_cut_short(store):
    edit(store, lambda jobs: jobs["a"].update(rev=40))
    at, names = 0, []
    while True:
        at += 1
        other = FileStore(store.folder)
        with failing_disk(at, "die after") as disk, suppress(Killed):
            other.fold()
        other._writer.lock.close()
        names = [name for name in os.listdir(store.folder) if ".edit-" in name]
        assert len([name for name in names if not name.endswith(".new")]) <= 1
        if not disk.broken:
            break
    assert at > 10
    assert len(names) == 1
    assert store.check() == []


def test_an_edit_is_judged_while_nobody_waits_for_the_lock(store, monkeypatch):
    from queuectl.store.edits import hand_edits

    real, judged = hand_edits.decide, []

    def decide(*args):
        with QueueLock(store.folder, lambda: 0.0):  # it is free
            judged.append(len(args))
        return real(*args)

    monkeypatch.setattr(hand_edits, "decide", decide)
    edit(store, lambda jobs: jobs["a"].update(priority=4))
    store.add([make_job("e")])
    assert len(judged) == 1
    assert store.get("a").priority == 4


@pytest.mark.parametrize("other", ["claims another", "claims it", "edits again"])
def test_a_change_between_the_judging_and_the_lock_is_seen(store, monkeypatch, other):
    real, left = writer.Writer.look_at_edit, [True]

    def look(self):
        found = real(self)
        if left:
            left.clear()
            monkeypatch.undo()
            if other == "edits again":
                edit(store, lambda jobs: jobs["a"].update(priority=5))
            else:  # as by a worker that looks for edits a moment later only
                name = "a" if other == "claims it" else "b"
                job = make_job(name, state="in_progress", worker="w", run=1, rev=2)
                lines = b"".join(line + b"\n" for line in [encode_job(job)])
                journal = Journal.for_writing(store.folder)
                journal.append(lines, PLAIN, {**journal.counts, "pending": 2, "in_progress": 1})
                journal.close()
        return found

    monkeypatch.setattr(writer.Writer, "look_at_edit", look)
    edit(store, lambda jobs: jobs["a"].update(priority=4))
    store.add([make_job("e")])
    assert not left
    wanted = {"claims another": 4, "claims it": 0, "edits again": 5}[other]
    assert store.get("a").priority == wanted
    assert [job.id for job in store.find(["in_progress"])] == {
        "claims another": ["b"],
        "claims it": ["a"],
        "edits again": [],
    }[other]
    assert store.check() == []


def test_half_of_a_file_that_is_being_written_is_waited_for(store, monkeypatch):
    monkeypatch.setattr("queuectl.store.files.snapshot.PATIENCE", 30.0)
    whole = read(store).replace(b'"true"', b'"echo by hand"', 1)

    def write_on():
        while not waiting.is_set():
            time.sleep(0.01)
        write(store, whole)

    waiting, real = threading.Event(), time.sleep
    monkeypatch.setattr(
        "queuectl.store.files.snapshot._wait", lambda seconds: (waiting.set(), real(seconds))
    )
    write(store, whole[:100])
    thread = threading.Thread(target=write_on)
    thread.start()
    store.add([make_job("e")])
    thread.join()
    assert waiting.is_set()
    assert store.get("a").command == "echo by hand"
    assert list(jobs_of(store)) == [*"abce", "d"]


def test_an_old_mistake_is_not_waited_for(store, monkeypatch):
    monkeypatch.setattr("queuectl.store.files.snapshot.PATIENCE", 2.0)
    monkeypatch.setattr(
        "queuectl.store.files.snapshot._wait", lambda seconds: pytest.fail("waited")
    )
    write(store, "[")
    os.utime(path_of(store), (time.time() - 3,) * 2)
    with pytest.raises(BadFile):
        store.get("a")


def test_without_our_copy_an_edited_file_counts_as_it_is(store):
    for name in os.listdir(store.folder):
        if name.startswith(".jobs.json-"):
            os.unlink(path_of(store, name))
    write(store, '[{"id": "x", "command": "y"}]')
    assert list(jobs_of(store)) == ["x", "d"]
    store._writer.forget()
    take_in(store)
    assert list(jobs_of(store)) == ["x", "d"]
    edit(store, lambda jobs: jobs["x"].update(priority=3))
    assert store.get("x").priority == 3


@pytest.mark.parametrize("loss", ["gone", "torn", "a fold missing", "nonsense"])
def test_without_notes_nothing_is_lost(store, loss):
    forms = json.loads(read(store))
    finish(store)
    store.fold()
    path = path_of(store, ".folded")
    data = read(store, ".folded")
    if loss == "gone":
        os.unlink(path)
    elif loss == "nonsense":
        head = data[data.rindex(b"@") :].split()
        with open(path, "ab") as file:
            file.write(b"%s 1.2.3 2 %08x\nx\n" % (head[0], crc32(b"x\n")))
            file.write(b"%s %s 2 %08x\nx\n" % (head[0], head[1], crc32(b"x\n")))
    else:
        with open(path, "wb") as file:
            file.write(data[:-3] if loss == "torn" else data[: data.rindex(b"@")])
    write(store, json.dumps([{**form, "priority": 7} for form in forms]))
    store.fold()
    assert [job.id for job in store.find(["completed"])] == ["a"]
    assert any("it has rev 1 of job 'a', of which nothing is known" in n for n in store.notices)
    assert {job.priority for job in store.find()} == {0}
    store.add([make_job("e")])
    store.fold()
    edit(store, lambda jobs: jobs["b"].update(priority=7))
    assert store.get("b").priority == 7


def test_a_folder_that_has_no_copies_yet_gets_them_at_the_first_change(store):
    for name in os.listdir(store.folder):
        if name.startswith((".jobs", ".dlq", ".folded")):
            os.unlink(path_of(store, name))
    other = FileStore(store.folder)
    other.change_settings({}, {"base": 3})
    forms = json.loads(read(store))
    other.add([make_job("e")])
    other.fold()
    write(store, json.dumps([{**form, "priority": 7} for form in forms]))
    other.fold()
    assert [job.priority for job in other.find()] == [7, 7, 7, 0, 0]
    other.close()


# -- mistakes

GOOD = '{"id": "x", "command": "y"}'
MISTAKES = [
    ("", ":1:1: a JSON array is wanted, but the file is empty"),
    (" \n \n", ":3:1: a JSON array is wanted, but the file is empty"),
    ("{}", ":1:1: a JSON array is wanted, but the file begins with '{}'"),
    ('{"jobs": []}', ":1:1: a JSON array is wanted"),
    ("null", ":1:1: a JSON array is wanted"),
    ("\0" * 50, ":1:1: a JSON array is wanted, but the file begins with"),
    ("[", ":1:2: "),
    ("[\n" + GOOD, ":2:28: a comma or ] is wanted here"),
    ("[\n" + GOOD + "\n  " + GOOD + "]", ":3:3: a comma or ] is wanted here"),
    ("[\n" + GOOD + ",\n  " + GOOD[:-1] + "]", ":3:29: "),
    ("[" + GOOD + "]\n[]", ":2:1: nothing may follow the array"),
    ("[" + GOOD + "]]", ":1:30: nothing may follow the array"),
    ("[,]", ":1:2: "),
    ("[1]", ":1:2: a job must be an object"),
    ("[[]]", ":1:2: a job must be an object"),
    ('[{"id": "x"}]', ":1:2: a job has no command"),
    ('[\n\n  {"command": "x"}]', ":3:3: a job has no id"),
    ('[{"id": "a/b", "command": "x"}]', ":1:2: id 'a/b' may hold only letters"),
    ('[{"id": "x", "command": 5}]', ":1:2: command must be text, not 5"),
    ('[{"id": "x", "command": "y", "state": "gone"}]', ":1:2: unknown state 'gone'"),
    ('[{"id": "x", "command": "y", "priority": true}]', ":1:2: priority must be a whole number"),
    ('[{"id": "x", "command": "y", "max_retries": -1}]', ":1:2: max_retries must lie between"),
    ('[{"id": "x", "command": "y", "run_at": "2026-01-01T00:00:00"}]', "names no zone"),
    ('[{"id": "x", "command": "y", "id": "z"}]', ":1:2: the key 'id' occurs twice in one object"),
    ('[{"id": "x", "command": "y", "env": {"A": "1", "A": "2"}}]', "the key 'A' occurs twice"),
    ("[" + GOOD + ",\n" + GOOD + "]", ":2:1: job 'x' occurs twice, in "),
    ('[{"id": "a", "command": "y", "state": "failed"}]', ":1:2: job 'a' is pending: cannot make"),
    ('[{"id": "x", "command": "y", "k": NaN}]', "NaN is not a JSON number"),
    ('[{"id": "x", "command": "y", "k": 1e999}]', ":1:2: "),
    ('[{"id": "x", "command": "y", "k": "\\ud800"}]', ":1:2: "),
    ('[{"id": "x", "command": "y", "\\udc00": 1}]', ":1:2: "),
    ('[{"id": "x", "command": "y", "history": [{"error": "\\ud800"}]}]', ":1:2: "),
    ('[{"id": "x", "command": "\\ud800"}]', "command is not valid UTF-8"),
    ('[{"id": "x", "command": "a\\u0000"}]', "command holds a NUL byte"),
    ('[{"id": "x", "command": "a\nb"}]', ":1:27: "),
    ('[{"id": "x", "command": "y", "k": ' + "9" * 5000 + "}]", ":1:2: "),
    ("[" + '{"a": ' * 100_000, ":1:2: "),
    ("// my jobs\n[]", ":1:1: a JSON array is wanted, but the file begins with '// my jobs"),
    ("[{'id': 'x'}]", ":1:3: "),
    (b"[\xff]", "is not valid UTF-8 at byte 1"),
]


@pytest.mark.parametrize(("text", "complaint"), MISTAKES, ids=lambda text: str(text)[:40])
def test_a_mistake_is_refused_with_its_position_and_nothing_changes(store, text, complaint):
    write(store, text)
    bad = read(store)
    before = {name: read(store, name) for name in ("dlq.json", "journal", "config.json")}
    deeds = (
        lambda: store.add([make_job("e")]),
        lambda: list(store.find()),
        store.counts,
        lambda: store.get("a"),
        lambda: store.claim("w", moment(1)),
        lambda: configure(store, {"base": 3}),
        lambda: FileStore(store.folder).fold(),
    )
    for deed in deeds:
        with pytest.raises(BadFile) as caught:
            deed()
        line = str(caught.value)
        assert line.startswith(path_of(store, "jobs.json"))
        assert complaint in line
        assert "nothing was changed" in line
        assert "\n" not in line
        assert len(line) < 500
    assert read(store) == bad
    assert {name: read(store, name) for name in before} == before


def test_once_the_mistake_is_put_right_all_goes_on(store):
    good = read(store)
    write(store, good[:-10])
    with pytest.raises(BadFile):
        store.add([make_job("e")])
    write(store, good.replace(b'"true"', b'"echo"', 1))
    store.add([make_job("e")])
    assert list(jobs_of(store)) == [*"abce", "d"]
    assert store.get("a").command == "echo"
    assert store.check() == []


def test_a_mistake_stops_a_worker_that_knew_the_files_before(store, monkeypatch):
    monkeypatch.setattr("queuectl.store.files.writer._VET_EVERY", 0.0)  # it looks now and then only
    held = store.claim("w", moment(1)).job
    write(store, read(store)[:-10])
    for _ in range(2):
        with pytest.raises(BadFile):
            store.claim("w", moment(1), (held, held._replace(state="completed", rev=3)))
    write(store, read(store) + b'"}]')
    with pytest.raises(BadFile):
        store.claim("w", moment(1))


# -- what was not touched


@pytest.mark.parametrize("layout", ["ours", "indented", "sorted"])
def test_only_what_an_edit_changes_is_read_as_a_job(store, monkeypatch, layout):
    read_as_job = []

    def counting(form, **how):
        read_as_job.append(form["id"])
        return job_from_person(form, **how)

    monkeypatch.setattr(job_files, "job_from_person", counting)
    forms = json.loads(read(store))
    next(form for form in forms if form["id"] == "b")["priority"] = 7
    if layout == "ours":
        lines = [json.dumps(form, ensure_ascii=False) for form in forms]
        write(store, "[\n" + ",\n".join(lines) + "\n]\n")
    else:
        write(store, json.dumps(forms, indent=2, sort_keys=layout == "sorted"))
    take_in(store)
    assert set(read_as_job) == {"b"}
    jobs = jobs_of(store)
    assert (jobs["b"].priority, jobs["b"].rev, jobs["a"].rev) == (7, 2, 1)
    assert set(jobs) == set("abcd")


@pytest.mark.parametrize("note", ["true", "1.0", "[1]"])
def test_a_value_that_only_python_takes_for_the_same_is_not_an_untouched_one(note):
    line = encode_job(make_job("a", extra={"note": 1}))
    data, untouched = b"[" + line + b"]", set()
    assert list(read_edited(data, "f", moment(0), "pending", {b"a": line}, untouched)) == []
    assert untouched == {b"a"}
    data, untouched = data.replace(b'"note": 1', b'"note": ' + note.encode()), set()
    ((_, job, _),) = read_edited(data, "f", moment(0), "pending", {b"a": line}, untouched)
    assert (job.extra, untouched) == ({"note": json.loads(note)}, set())


@pytest.mark.parametrize("changed_comes_first", [True, False])
def test_an_untouched_line_and_a_changed_one_of_one_job_are_refused(store, changed_comes_first):
    lines = read(store).decode().splitlines()
    changed = lines[1].replace('"priority": 0', '"priority": 5')
    assert changed != lines[1]
    lines.insert(1 if changed_comes_first else 2, changed)
    write(store, "\n".join(lines) + "\n")
    with pytest.raises(BadFile, match=r"jobs\.json:[23]:1: job 'a' occurs twice"):
        list(store.find())


def test_lines_that_an_editor_gave_other_ends_stay_as_they_are(store):
    text = read(store).decode().replace(",\n", " ,\r\n")
    write(store, text.replace('"id": "b"', '"id": "bb"'))
    take_in(store)
    assert set(jobs_of(store)) == {"a", "bb", "c", "d"}


def test_the_mark_that_some_editors_begin_a_file_with_is_passed_over(store):
    text = read(store).decode().replace("\n", "\r\n").replace('"id": "b"', '"id": "bb"')
    write(store, b"\xef\xbb\xbf" + text.encode())
    assert set(jobs_of(store)) == {"a", "bb", "c", "d"}
    take_in(store)
    assert read(store).startswith(b"[\n{")
    assert set(jobs_of(store)) == {"a", "bb", "c", "d"}
    write(store, b'\xef\xbb\xbf{"base": 3}\r\n', "config.json")
    assert store.settings() == {"base": 3}
