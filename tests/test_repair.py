"""doctor --repair: readable data stays, the rest is set aside; a kill at any step is harmless."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
from pathlib import Path

import pytest
from failing_disk import DEATHS, failing_disk
from samples import START, make_job, moment, put, read

from queuectl.errors import StoreError
from queuectl.job_queue import JobQueue
from queuectl.store import door
from queuectl.store.damage import salvage
from queuectl.store.damage.journal_remains import JournalRemains
from queuectl.store.files.file_store import FileStore
from queuectl.store.files.job_files import encode_job
from queuectl.store.files.journal import scan
from queuectl.store.files.worker_files import make_slot

pytestmark = pytest.mark.usefixtures("no_sync")


@pytest.fixture
def tmp_path(memory_path):
    """Thousands of files are written here."""
    return memory_path


class Store(FileStore):
    """A store whose clock stands still, a minute after the samples."""

    def now(self):
        return START + 60.0


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """Six jobs in the files, and a journal that changes, removes, buries, raises and adds.

    Without the copies of the job files, for what can be read to be all that there is.
    """
    path = make_template(tmp_path_factory)
    remove_copies(path)
    return path


def remove_copies(path):
    for copy in Path(path).glob(".*.json-*"):
        copy.unlink()


def make_template(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("template") / "queue")
    store = Store(path)
    store.add([make_job(name) for name in ("stays", "changed", "removed", "buried")])
    store.add([make_job("dead", state="dead"), make_job("raised", state="dead")])
    store.fold()
    change_fields(store, "changed", priority=5)
    store.remove(["removed"])
    change_fields(store, "buried", state="dead")
    change_fields(store, "raised", state="pending")
    store.add([make_job("added", command="echo a@b")])
    change_fields(store, "changed", priority=6)
    store._writer.close()
    for name in os.listdir(path):
        os.utime(os.path.join(path, name), (START, START))
    return path


@pytest.fixture
def queue(template, tmp_path):
    """The path of a copy of it."""
    return copy_of(template, tmp_path / "queue")


def copy_of(template, path):
    shutil.copytree(template, path)
    return str(path)


def change_fields(store, job_id, **changes):
    old = store.get(job_id)
    put(store, old._replace(rev=old.rev + 1, **changes))


def jobs_of(path):
    """Every job; each exactly once, and everything in order."""
    store = Store(path)
    jobs = list(store.find())
    assert store.check() == []
    assert sum(store.counts().values()) == len(jobs) == len({job.id for job in jobs})
    return {job.id: job for job in jobs}


def repair(path):
    """What was done, and what could not be read."""
    store = Store(path)
    done, unread = [], []
    try:
        store.care.repair(done, unread)
    finally:
        store._writer.close()
    return done, unread


def problems(path):
    store = Store(path)
    found = [finding for finding in store.care.examine() if finding.about != "clock"]
    return [f"{one.about}: {one.text}" for one in found if one.problem]


def contents(path):
    """The bytes of every file in the folder."""
    return [entry.read_bytes() for entry in Path(path).iterdir() if entry.is_file()]


def write(path, name, data):
    Path(path, name).write_bytes(data)


def change(path, name, old, new):
    data = read(path, name)
    assert old in data
    write(path, name, data.replace(old, new, 1))


def record_with(path, text):
    """The bounds of the journal record that holds `text`, its head included."""
    data = read(path, "journal")
    begin = data.index(b"\n") + 1
    for record in scan(data, begin):
        if text in record.payload:
            return begin, record.end
        begin = record.end
    raise AssertionError(text)


def spoil(path, text):
    """Turn a byte over in the journal record that holds `text`."""
    _, end = record_with(path, text)
    data = bytearray(read(path, "journal"))
    data[end - 20] ^= 0x20
    write(path, "journal", bytes(data))


# -- kinds of damage: what each does, and which jobs it may cost or set back


def header(path):
    change(path, "journal", b"queuectl-journal", b"queuectl-jOurnal")


def first_record(path):
    spoil(path, b'"priority": 5')


def added_record(path):
    spoil(path, b'"added"')


def last_record(path):
    spoil(path, b'"priority": 6')


def removal_record(path):
    spoil(path, b'"removed": ')


def record_cut_out(path):
    begin, end = record_with(path, b'"buried"')
    data = read(path, "journal")
    write(path, "journal", data[:begin] + data[end:])


def zeros_in_journal(path):
    begin, end = record_with(path, b'"raised"')
    data = read(path, "journal")
    write(path, "journal", data[:begin] + b"\0" * (end - begin) + data[end:])


def journal_gone(path):
    os.remove(os.path.join(path, "journal"))


def journal_empty(path):
    write(path, "journal", b"")


def line_spoilt(path):
    change(path, "jobs.json", b'{"id": "stays"', b'{"id: "stays"')


def line_spoilt_twice_known(path):
    change(path, "jobs.json", b'{"id": "changed"', b'["id": "changed"')


def not_utf8(path):
    change(path, "jobs.json", b'"command": "true"', b'"command": "\xfftrue"')


def jobs_cut(path):
    data = read(path, "jobs.json")
    write(path, "jobs.json", data[: data.index(b"removed") + 40])


def jobs_empty(path):
    write(path, "jobs.json", b"")


def jobs_gone(path):
    os.remove(os.path.join(path, "jobs.json"))


def jobs_a_folder(path):
    os.remove(os.path.join(path, "jobs.json"))
    os.mkdir(os.path.join(path, "jobs.json"))


def dead_gone(path):
    os.remove(os.path.join(path, "dlq.json"))


def dead_spoilt(path):
    change(path, "dlq.json", b'{"id": "dead"', b'{"id" "dead"')


def twice_in_one_file(path):
    line = next(line for line in read(path, "jobs.json").splitlines() if b'"stays"' in line)
    older = line.rstrip(b",").replace(b'"rev": 1', b'"rev": 0')
    change(path, "jobs.json", b"[", b"[\n" + older + b",")


def all_at_once(path):
    header(path)
    added_record(path)
    line_spoilt(path)
    dead_gone(path)


DAMAGES = {
    # what to do: jobs that are gone, jobs in an older form, jobs that come back
    header: (set(), set(), set()),
    first_record: (set(), set(), set()),
    added_record: ({"added"}, set(), set()),
    last_record: (set(), {"changed"}, set()),
    removal_record: (set(), set(), {"removed"}),
    record_cut_out: (set(), {"buried"}, set()),
    zeros_in_journal: (set(), {"raised"}, set()),
    journal_gone: ({"added"}, {"changed", "buried", "raised"}, {"removed"}),
    journal_empty: ({"added"}, {"changed", "buried", "raised"}, {"removed"}),
    line_spoilt: ({"stays"}, set(), set()),
    line_spoilt_twice_known: (set(), set(), set()),
    not_utf8: ({"stays"}, set(), set()),
    jobs_cut: (set(), set(), set()),
    jobs_empty: ({"stays"}, set(), set()),
    jobs_gone: ({"stays"}, set(), set()),
    jobs_a_folder: ({"stays"}, set(), set()),
    dead_gone: ({"dead"}, set(), set()),
    dead_spoilt: ({"dead"}, set(), set()),
    twice_in_one_file: (set(), set(), set()),
    all_at_once: ({"stays", "added", "dead"}, set(), set()),
}


def differs(found, before):
    """Ids that are gone, that have another form, that are new."""
    changed = {name for name in found if name in before and found[name] != before[name]}
    return set(before) - set(found), changed, set(found) - set(before)


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_all_that_can_be_read_is_kept(queue, template, damage):
    before = jobs_of(template)
    damage(queue)
    bad = [data for data in contents(queue) if data not in contents(template)]
    assert problems(queue) != []
    done, unread = repair(queue)
    assert differs(jobs_of(queue), before) == DAMAGES[damage]
    assert done != []
    gone, older, _ = DAMAGES[damage]
    # What cannot be read is told of.
    if gone or older:
        assert unread != []
    if damage in (header, twice_in_one_file):
        assert unread == []
    # No byte that was there is gone.
    assert all(data in contents(queue) for data in bad)
    # And it is over: no problem is left, nothing more to mend, work goes on.
    assert problems(queue) == []
    assert repair(queue) == ([], [])
    store = Store(queue)
    store.add([make_job("next")])
    assert store.claim("w", moment(30)).job is not None
    store.close()
    assert jobs_of(queue).keys() >= {"next"}


def test_a_file_system_without_links_is_repaired_too(queue, template, monkeypatch):
    def link(old, new):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    line_spoilt(queue)
    header(queue)
    bad = [read(queue, name) for name in ("jobs.json", "journal")]
    repair(queue)
    assert differs(jobs_of(queue), jobs_of(template)) == DAMAGES[line_spoilt]
    assert all(data in contents(queue) for data in bad)


def test_a_worker_that_slept_through_a_repair_reads_anew(queue, template):
    sleeper = FileStore(queue)
    sleeper.prepare_claims()
    known = sleeper._writer.journal.header.generation
    header(queue)
    repair(queue)
    store, generation = FileStore(queue), 0
    while generation <= known:
        change_fields(store, "stays", state="completed")
        store.fold()
        generation = store._writer.journal.header.generation
    ids = [job.id for job in iter(lambda: sleeper.claim("w-1", moment(90)).job, None)]
    assert "stays" not in ids
    assert sleeper.check() == []
    sleeper.close()
    store.close()


def test_a_second_repair_takes_the_work_of_the_first_for_no_edit(queue, monkeypatch):
    line_spoilt(queue)
    store, other = FileStore(queue), FileStore(queue)
    monkeypatch.setattr(store, "fold", lambda: other.care.repair([], []))
    store.care.repair([], [])
    assert store.notices == other.notices == []


def test_nothing_is_touched_where_nothing_is_wrong(queue):
    repair(queue)
    before = contents(queue)
    assert repair(queue) == ([], [])
    assert contents(queue) == before


def test_a_folder_that_is_absent_stays_so(tmp_path):
    assert repair(str(tmp_path / "queue")) == ([], [])
    assert not os.path.exists(tmp_path / "queue")


def test_a_loss_is_named(queue):
    all_at_once(queue)
    done, unread = repair(queue)
    stamp = "bad-20270115T080100Z"
    assert any(f"kept as jobs.json.{stamp}" in line for line in done)
    assert any(f"kept as journal.{stamp}" in line for line in done)
    assert any("dlq.json: is missing" in line for line in done)
    assert "jobs.json: line 2" in unread  # its id is spoilt too
    assert any(line.startswith("journal: ") and "bytes of changes" in line for line in unread)
    assert any("dlq.json: whatever it held" in line for line in unread)
    assert read(queue, f"jobs.json.{stamp}").startswith(b'[\n{"id: "stays"')


def test_a_line_that_is_lost_is_named_with_its_id(queue):
    change(queue, "jobs.json", b'"id": "stays", "state": "pending"', b'"id": "stays", "state": ""')
    assert repair(queue)[1][0] == "jobs.json: line 2 (stays)"


def test_a_file_that_a_person_edited_is_not_damaged(queue):
    change(queue, "jobs.json", b'"command": "true"', b'"command": "edited"')
    header(queue)
    repair(queue)
    assert jobs_of(queue)["stays"].command == "edited"
    assert not [name for name in os.listdir(queue) if name.startswith("jobs.json.")]


def test_a_file_that_is_saved_while_it_is_mended_is_not_written_over(queue, monkeypatch):
    line_spoilt(queue)
    real = door.rename

    def rename(old, new):
        real(old, new)
        if new.endswith("journal") and not saved:
            change(queue, "jobs.json", b'{"id: "stays"', b'{"id": "stays", "priority": 9')
            saved.append(True)

    saved = []
    monkeypatch.setattr(door, "rename", rename)
    change(queue, "jobs.json", b', "priority": 0', b"")
    repair(queue)
    assert saved
    assert jobs_of(queue)["stays"].priority == 9


def test_bytes_that_changed_without_a_new_stat_are_found(queue):
    path = os.path.join(queue, "jobs.json")
    store = Store(queue)
    store.fold()
    store._writer.close()
    with open(path, "r+b") as file:
        data = file.read()
        os.pwrite(file.fileno(), b"\0", data.index(b'"stays"') + 2)
    found = os.stat(path)
    journal = read(queue, "journal")
    old = journal.split()[7].split(b":")
    # As rot would: the stat is what it was.
    new = b":".join(
        [old[0], b"%d" % found.st_mtime_ns, b"%d" % found.st_ctime_ns, b"%d" % found.st_ino, old[4]]
    )
    line = journal.splitlines()[0].replace(b":".join(old), new, 1).rpartition(b" ")[0]
    write(queue, "journal", b"%s %08x\n" % (line, salvage.crc32(line)))

    class Later(Store):
        def now(self):
            return found.st_mtime + 3600

    told = [one.text for one in Later(queue).care.examine() if one.about == "jobs.json"]
    assert told == ["has other bytes than were written to it"]
    Later(queue).care.repair([], [])
    assert "stays" in jobs_of(queue)  # from the copy
    assert not [one for one in Later(queue).care.examine() if one.about == "jobs.json"]


def test_the_newest_copy_of_a_job_wins():
    journal = JournalRemains("", True, None, [], [], None, None, "", "")
    old, new = make_job("a", rev=3), make_job("a", rev=4, state="dead")
    for found in ([("jobs.json", [old]), ("dlq.json", [new])], [("jobs.json", [new, old])]):
        kept = salvage.merge(journal, found)
        assert kept.jobs == {"a": new}
        assert kept.twins == {name for name, _ in found}
    later = make_job("a", rev=1, created_at=moment(9))
    line = salvage.encode_job(later)
    removal = b'{"id": "a", "removed": "completed"}'
    for lines in ([removal, line], [line]):
        kept = salvage.merge(journal._replace(lines=lines), [("jobs.json", [new])])
        assert kept.jobs == {"a": later}, "the id was used again"
    kept = salvage.merge(journal._replace(lines=[removal]), [("jobs.json", [new])])
    assert (kept.jobs, kept.removed) == ({}, {"a": "completed"})
    stale = salvage.encode_job(old)
    assert salvage.merge(journal._replace(lines=[stale]), [("j", [new])]).jobs == {"a": new}


@pytest.mark.parametrize(
    "layout",
    [{"indent": 2}, {"indent": None}, {"indent": 0}, {"separators": (",", ":")}, {"indent": "\t"}],
)
def test_jobs_are_found_however_the_file_is_laid_out(layout):
    jobs = [make_job(f"j{n}", env={"A": "{}"}, history=({"a": {}},)) for n in range(5)]
    forms = [json.loads(encode_job(job)) for job in jobs]
    text = json.dumps(forms, **layout)
    found = [form for *_, form in salvage.objects_in(text)]
    assert found == json.loads(text)
    middle = text.replace('"id": "j2"', '"id" "j2"', 1).replace('"id":"j2"', '"id" "j2"', 1)
    kept = {form.get("id") for *_, form in salvage.objects_in(middle)} - {None}
    if layout.get("indent"):
        assert kept == {"j0", "j1", "j3", "j4"}
    assert kept >= {"j0", "j1"}


def test_blocks_that_the_disk_cannot_read_are_passed_over(queue, monkeypatch):
    store = Store(queue)
    store.add([make_job(f"more{n}", command="x" * 300) for n in range(50)])
    store.fold()
    store._writer.close()
    remove_copies(queue)
    before = jobs_of(queue)
    inode = os.stat(os.path.join(queue, "jobs.json")).st_ino
    real = os.pread

    def pread(fd, size, at):
        if os.fstat(fd).st_ino == inode and at <= 8192 < at + size:
            raise OSError(5, "Input/output error")
        return real(fd, size, at)

    with monkeypatch.context() as patched:
        patched.setattr(os, "pread", pread)
        assert repair(queue)[1]
    found = jobs_of(queue)
    assert len(before) - 12 <= len(found) < len(before)
    assert found.items() <= before.items()


# -- one byte, anywhere


def flips(data, count):
    chance = random.Random(7)
    for _ in range(count):
        at = chance.randrange(len(data))
        yield at, data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]


def ever(template):
    """Every form that each job ever had, by id."""
    forms = {}
    for name in ("jobs.json", "dlq.json", "journal"):
        for line in read(template, name).splitlines():
            if line.startswith(b'{"id"') and b'"state"' in line:
                job = salvage.decode_job(line.rstrip(b","))
                forms.setdefault(job.id, []).append(job)
    return forms


def test_any_byte_of_the_journal_spoilt_costs_its_record_and_no_more(template, tmp_path):
    known, before = ever(template), jobs_of(template)
    for number, (at, data) in enumerate(flips(read(template, "journal"), 80)):
        path = copy_of(template, tmp_path / str(number))
        write(path, "journal", data)
        repair(path)
        found = jobs_of(path)
        for job_id, job in found.items():
            assert job in known[job_id], at
        assert len(differs(found, before)[0]) <= 1, at
        assert sum(map(len, differs(found, before))) <= 1, at
        assert problems(path) == []
        shutil.rmtree(path)


def test_the_journal_cut_anywhere_is_a_prefix(template, tmp_path):
    data = read(template, "journal")
    for number, cut in enumerate(range(0, len(data), 23)):
        path = copy_of(template, tmp_path / str(number))
        write(path, "journal", data[:cut])
        repair(path)
        found = jobs_of(path)
        assert {"stays", "changed", "buried", "dead", "raised"} <= found.keys(), cut
        assert problems(path) == []
        shutil.rmtree(path)


@pytest.mark.parametrize("name", ["jobs.json", "dlq.json"])
def test_any_byte_of_a_job_file_spoilt_costs_one_job_at_most(template, tmp_path, name):
    before = jobs_of(template)
    for number, (at, data) in enumerate(flips(read(template, name), 40)):
        path = copy_of(template, tmp_path / str(number))
        write(path, name, data)
        repair(path)
        found = jobs_of(path)
        # A file that still parses counts as edited, which raises the rev of its jobs.
        plain = [{j.id: j._replace(rev=0) for j in jobs.values()} for jobs in (found, before)]
        lost, changed, new = differs(*plain)
        assert len(lost | changed) <= 1, at
        assert len(new) <= 1, at  # the id itself was hit
        assert problems(path) == []
        shutil.rmtree(path)


# -- killed, refused, twice at once

MANY = [(all_at_once, how) for how in (*DEATHS, "once", "full")]
MANY += [(twice_in_one_file, how) for how in ("die before", "die half-way", "full")]
MANY += [(damage, "die after") for damage in (jobs_gone, journal_gone, jobs_a_folder)]
# A death before a call leaves what one after the call before it leaves, or one half-way.
LONG = [(all_at_once, "die before"), (twice_in_one_file, "die before")]


def also_the_rest(path):
    """Damage of every other kind."""
    write(path, "config.json", b'{\n  "base": 3,\n  "jitter": 7,\n  "unknown": [1],\n')
    write(path, "worker_pids.json", b'[{"id": "w-1"')
    if os.path.isfile(f"{path}/jobs.json"):
        os.chmod(f"{path}/jobs.json", 0o644)
    else:
        os.chmod(path, 0o755)
    write(path, ".queuectl", b'{"form')
    write(path, "dlq.json.new", b"half")
    os.makedirs(os.path.join(path, "workers"), exist_ok=True)
    write(path, "workers/.w-0", b"half")
    write(path, "workers/w-2.wake", b"")


def steps(template, tmp_path, damage, how):
    """A damaged copy for each thing that its repair does to the disk, which failed there."""
    at = 0
    while True:
        at += 1
        path = copy_of(template, tmp_path / f"copy{at}")
        damage(path)
        also_the_rest(path)
        bad = [data for data in contents(path) if data not in contents(template)]
        with failing_disk(at, how) as disk:
            try:
                repair(path)
            except StoreError:
                assert not how.startswith("die")
        yield at, path, bad
        shutil.rmtree(path)
        if not disk.broken:
            assert at > 10
            return


@pytest.mark.parametrize(
    ("damage", "how"),
    [
        pytest.param(
            *one,
            id=f"{one[0].__name__}-{one[1]}",
            marks=[pytest.mark.campaign] if one in LONG else [],
        )
        for one in MANY
    ],
)
def test_killed_or_refused_at_any_step_and_run_again_it_loses_nothing(
    template, tmp_path, damage, how
):
    whole = copy_of(template, tmp_path / "whole")
    damage(whole)
    also_the_rest(whole)
    repair(whole)
    wanted = jobs_of(whole)
    assert differs(wanted, jobs_of(template)) == DAMAGES[damage]
    for at, path, bad in steps(template, tmp_path, damage, how):
        repair(path)
        assert jobs_of(path) == wanted, at
        assert problems(path) == [], at
        kept = contents(path)
        assert all(data in kept or data in (b"", b"half") for data in bad), at
        assert Store(path).settings() == {"base": 3, "unknown": [1]}


def test_three_repairs_at_once_mend_once(cli, wait_until):
    for name in "abc":
        cli.ok("enqueue", "--id", name, "--", "true")
    change(cli.folder, "jobs.json", b'{"id": "b"', b'{"id": b"')
    remove_copies(cli.folder)
    write(cli.folder, "config.json", b"{")
    both = [cli.popen("doctor", "--repair") for _ in range(3)]
    told = [process.communicate(timeout=30) for process in both]
    assert [err for _, err in told] == [b""] * 3
    assert sorted(process.returncode for process in both) == [0, 0, 1]
    assert [name in cli.ok("list") for name in ("a  ", "b  ", "c  ")] == [True, False, True]
    assert cli("doctor").code == 0


# -- the small files


def test_settings_keep_what_is_right(queue):
    write(queue, "config.json", b'{"base": 3, "jitter": 7, "mine": {"a": 1}, "max-retries": "x"}')
    assert any("config.json: written anew with base, mine" in line for line in repair(queue)[0])
    assert Store(queue).settings() == {"base": 3, "mine": {"a": 1}}


@pytest.mark.parametrize("damage", [None, b"", b"[", b"{}", b'[1, {"id": "w-1", "pid": 2}'])
def test_the_list_of_workers_is_made_from_the_workers_that_live(queue, damage):
    path = os.path.join(queue, "worker_pids.json")
    os.remove(path) if damage is None else write(queue, "worker_pids.json", damage)
    slot = make_slot(queue, "w-9", "123 start boot 2026-01-01T00:00:00.000000Z")
    assert repair(queue)[0] != []
    [entry] = json.loads(read(queue, "worker_pids.json"))
    assert (entry["id"], entry["pid"], entry["boot_id"]) == ("w-9", 123, "boot")
    assert problems(queue) == []
    slot.release()
    assert [text for text in problems(queue) if "w-9" in text] == [
        "worker_pids.json: names w-9, gone by now"
    ]
    repair(queue)
    assert read(queue, "worker_pids.json") == b"[\n]\n"


@pytest.mark.parametrize("mark", [b"", b"{}", b"\0" * 15, None])
def test_the_marker_is_written_anew(queue, mark):
    marker = os.path.join(queue, ".queuectl")
    os.remove(marker) if mark is None else write(queue, ".queuectl", mark)
    before = read(queue, "journal")
    assert [text.partition(":")[0] for text in problems(queue)] == [".queuectl"]
    assert any(line.startswith(".queuectl: written anew") for line in repair(queue)[0])
    assert read(queue, ".queuectl") == b'{"format": 2}\n'
    assert before != b""
    assert problems(queue) == []


def test_a_folder_that_is_newer_or_not_ours_is_left_alone(queue, tmp_path):
    write(queue, ".queuectl", b'{"format": 3}\n')
    before = contents(queue)
    for deed in (repair, problems):
        with pytest.raises(StoreError, match="update"):
            deed(queue)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "jobs.json").write_bytes(b"{}")
    for deed in (repair, problems):
        with pytest.raises(StoreError, match="not queuectl's"):
            deed(str(foreign))
    assert contents(queue) == before
    assert contents(foreign) == [b"{}"]


def test_temporary_files_go_and_modes_become_private(queue):
    for name in ("jobs.json.new", ".queuectl.77.new", "journal.torn-1-2.new"):
        write(queue, name, b"half")
    write(queue, "mine.new", b"not ours")
    os.chmod(queue, 0o755)
    os.chmod(os.path.join(queue, "dlq.json"), 0o040)
    repair(queue)
    assert {".new" in name for name in os.listdir(queue)} == {False, True}
    assert read(queue, "mine.new") == b"not ours"
    assert os.stat(os.path.join(queue, "dlq.json")).st_mode & 0o777 == 0o600
    assert problems(queue) == []
    assert os.stat(queue).st_mode & 0o777 == 0o755  # others may have to get to what is not ours
    os.remove(os.path.join(queue, "mine.new"))
    assert len(problems(queue)) == 1
    repair(queue)
    assert os.stat(queue).st_mode & 0o777 == 0o700
    assert problems(queue) == []


def test_a_torn_end_is_cut_off_and_kept(queue, template):
    with open(os.path.join(queue, "journal"), "ab") as journal:
        journal.write(b"@500 1234")
    assert problems(queue)[0].startswith("journal: ends in the midst of a change")
    repair(queue)
    assert jobs_of(queue) == jobs_of(template)
    assert any(name.startswith("journal.torn-") for name in os.listdir(queue))


# -- workers


def test_a_job_that_a_living_worker_runs_is_not_run_again(cli, tmp_path, wait_until):
    gate = tmp_path / "gate"
    command = f"echo run >> '{tmp_path}/runs'; while [ ! -e '{gate}' ]; do sleep 0.05; done"
    cli.ok("enqueue", "--id", "a", "--command", command)
    cli.ok("checkpoint")
    cli.ok("worker", "start")
    wait_until(lambda: os.path.exists(tmp_path / "runs"))
    wait_until(lambda: " running  a " in cli.ok("worker", "list"))
    queue = JobQueue.open(cli.folder)
    queue.enqueue([{"id": "b", "command": "true"}])
    queue.store._writer.close()  # which, unlike a command, leaves the journal as it is
    spoil(cli.folder, b'"in_progress"')
    mended = cli("doctor", "--repair")
    assert "job 'a': " in mended.out
    assert "runs it, so it is in progress" in mended.out
    cli.ok("worker", "start")
    assert cli("wait", "b", "--timeout", "20").code == 0  # the second worker had its chance
    gate.touch()
    assert cli("wait", "a", "--timeout", "20").code == 0
    assert (tmp_path / "runs").read_text() == "run\n"
    job = json.loads(cli.ok("show", "a", "--json"))["job"]
    assert (job["state"], job["run"], job["attempts"]) == ("completed", 1, 1)
    cli.ok("worker", "stop")
    assert cli("doctor").code == 0


def test_jobs_of_workers_that_died_are_taken_back(cli, wait_until):
    cli.ok("enqueue", "--id", "a", "--", "sleep", "60")
    cli.ok("worker", "start")
    wait_until(lambda: " running  a " in cli.ok("worker", "list"))
    [worker] = json.loads(cli.ok("worker", "list", "--json"))["workers"]
    os.kill(worker["pid"], signal.SIGKILL)
    wait_until(lambda: "lost" in cli.ok("worker", "list"))
    found = cli("doctor")
    assert found.code == 1
    assert f"workers/{worker['id']}: the worker with pid {worker['pid']} died" in found.out
    mended = cli("doctor", "--repair")
    assert "job 'a': taken back from its dead worker; it is pending now" in mended.out
    assert mended.code == 0
    assert os.listdir(os.path.join(cli.folder, "workers")) == []


def test_every_write_of_a_repair_goes_through_the_door(queue, monkeypatch):
    """So that the kills above hit each of them."""
    all_at_once(queue)
    also_the_rest(queue)
    seen = []
    for name in ("rename", "link", "unlink", "chmod", "ftruncate"):
        real = getattr(os, name)

        def told(*args, real=real, name=name):
            seen.append(name)
            return real(*args)

        monkeypatch.setattr(os, name, told)
    with failing_disk(10**6, "once") as disk:
        repair(queue)
    assert seen
    assert sorted(seen) == sorted(
        set(disk.calls) & set(seen)
        and [
            call
            for call in disk.calls
            if call in ("rename", "link", "unlink", "chmod", "ftruncate")
        ]
    )
    assert door.os is os


# -- with the copy that the last fold kept


@pytest.fixture(scope="module")
def whole_template(tmp_path_factory):
    return make_template(tmp_path_factory)


@pytest.fixture
def whole(whole_template, tmp_path):
    """The path of such a queue with its copies."""
    return copy_of(whole_template, tmp_path / "whole")


def delete(path):
    os.unlink(path)


def empty(path):
    os.truncate(path, 0)


def cut(path):
    os.truncate(path, os.stat(path).st_size // 2)


def overwrite_by_zeros(path):
    size = os.stat(path).st_size
    Path(path).write_bytes(b"\0" * size)


def write_text(path):
    Path(path).write_text("see you later\n")


@pytest.mark.parametrize("damage", [delete, empty, cut, overwrite_by_zeros, write_text])
@pytest.mark.parametrize("name", ["jobs.json", "dlq.json"])
def test_a_job_file_that_is_lost_is_written_anew_from_its_copy(whole, name, damage):
    before = {job.id: job for job in Store(whole).find()}
    path = os.path.join(whole, name)
    damage(path)
    done, unread = [], []
    store = Store(whole)
    found = [finding for finding in store.care.examine() if finding.about == name]
    assert "from our copy of it" in found[0].todo
    store.care.repair(done, unread)
    assert any(line.startswith(f"{name}: ") and "from our copy" in line for line in done)
    assert unread == []
    assert {job.id: job for job in store.find()} == before
    assert store.check() == []
    store.close()


def test_the_readable_part_of_a_file_comes_before_its_copy(whole):
    path = Path(whole, "jobs.json")
    lines = path.read_text().splitlines()
    at = next(n for n, line in enumerate(lines) if '"stays"' in line)
    edited = lines[at].replace('"priority": 0', '"priority": 8').removesuffix(",")
    path.write_text("[\n" + edited + ',\n{"id": "changed", "comm\n]\n')
    store, unread = Store(whole), []
    store.care.repair([], unread)
    jobs = {job.id: job for job in store.find()}
    assert (jobs["stays"].priority, jobs["changed"].priority) == (8, 6)
    assert set(jobs) == {"stays", "changed", "buried", "dead", "raised", "added"}
    assert unread == []
    store.close()


def test_bytes_that_went_wrong_on_the_disk_count_for_nothing_beside_the_copy(whole):
    before = {job.id: job for job in Store(whole).find()}
    path = Path(whole, "jobs.json")
    remains = salvage.read_remains(whole, START + 60)
    assert remains.jobs.ours
    path.write_bytes(path.read_bytes().replace(b'"max_retries": 3', b'"max_retries": 7'))
    spoilt = salvage.read_remains(whole, START + 60).jobs
    copy = next(Path(whole).glob(".jobs.json-*"))
    spoilt = spoilt._replace(fault=salvage.OTHER_BYTES, copy=str(copy))
    jobs, unread = salvage.jobs_in(spoilt, START)
    assert next(job for job in jobs if job.id == "stays") == before["stays"]
    assert unread == []
