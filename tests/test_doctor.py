"""doctor: finds what is wrong with a folder in any state, says it in a line, changes nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from queuectl.job_queue import JobQueue
from queuectl.store.damage import examination
from queuectl.store.files import strays
from queuectl.store.files.lock import QueueLock
from queuectl.store.files.logs import LogFolder
from queuectl.store.files.worker_files import make_slot


@pytest.fixture
def queue(cli):
    """A queue of one job that is pending, one that is completed with output, and one dead."""
    cli.ok("enqueue", "{id: a, command: echo out}")
    cli.ok("enqueue", "{id: b, command: false, max_retries: 0}")
    assert cli("worker", "run", "--drain").code == 1
    cli.ok("enqueue", "{id: c, command: true}")
    return cli


def path(cli, *names):
    return Path(cli.folder, *names)


def picture(cli):
    """Every name in the folder, with what it holds and how it may be used."""
    return {
        str(found): (found.lstat().st_mode, found.lstat().st_mtime_ns)
        for found in [path(cli), *path(cli).rglob("*")]
        if found.name != "queue.lock"
    }


def found(cli, code=1):
    """The lines that `doctor` says, without the summary."""
    result = cli("doctor")
    assert (result.code, result.err) == (code, ""), result
    *lines, summary = result.out.splitlines()
    problems = sum(line.startswith("Problem: ") for line in lines)
    assert summary.startswith(f"{problems} problem") if problems else "All is well: " in summary
    return lines


def test_all_is_well(queue):
    assert found(queue, 0) == []
    before = picture(queue)
    assert queue.ok("doctor") == f"All is well: 3 jobs, 0 workers, {queue.folder}\n"
    assert queue.ok("doctor", "-q") == ""
    assert json.loads(queue.ok("doctor", "--json")) == {
        "schema": 1,
        "ok": True,
        "findings": [],
        "mended": [],
        "unread": [],
        "data": queue.folder,
    }
    assert queue.ok("doctor", "--repair") == queue.ok("doctor")
    assert picture(queue) == before


def test_a_queue_that_is_not_there_yet_is_not_a_problem(cli):
    for argv in (("doctor",), ("doctor", "--repair")):
        assert "Nothing is queued yet" in cli.ok(*argv)
    assert not path(cli).exists()
    cli.ok("init")
    assert found(cli, 0) == []
    for name in ("journal", "worker_pids.json"):  # as if killed while it was made
        os.remove(path(cli, name))
    assert found(cli, 0) == []


@pytest.mark.parametrize("argv", [("doctor",), ("doctor", "--repair"), ("doctor", "--json")])
def test_a_folder_that_is_not_ours_is_exit_code_5(cli, tmp_path, argv):
    path(cli).write_text("a file")
    assert cli(*argv).code == 5
    path(cli).unlink()
    path(cli).mkdir()
    path(cli, "jobs.json").write_text("{}")
    assert cli(*argv).code == 5
    path(cli, ".queuectl").write_text('{"format": 99}')
    result = cli(*argv)
    assert (result.code, "format 99" in result.err) == (5, True)
    assert path(cli, "jobs.json").read_text() == "{}"


DAMAGES = {
    "journal: is missing": lambda at: os.remove(at("journal")),
    "journal: does not begin": lambda at: at("journal").write_bytes(b""),
    "journal: cannot be read from byte 0": lambda at: at("journal").write_bytes(b"x" * 99),
    "jobs.json: is missing": lambda at: os.remove(at("jobs.json")),
    "dlq.json: has a mistake in line 1, column 1: a JSON": lambda at: at("dlq.json").write_text(""),
    "jobs.json: is not valid UTF-8": lambda at: at("jobs.json").write_bytes(b"[\xff]"),
    "config.json: is missing": lambda at: os.remove(at("config.json")),
    "config.json: 1:1: Expecting value": lambda at: at("config.json").write_text("-"),
    "config.json: 1:2: base must": lambda at: at("config.json").write_text('{"base": "x"}'),
    "config.json: must hold a JSON object": lambda at: at("config.json").write_text("[]"),
    "worker_pids.json: is missing": lambda at: os.remove(at("worker_pids.json")),
    "worker_pids.json: must hold": lambda at: at("worker_pids.json").write_text("{}"),
    "worker_pids.json: names w-0, gone": lambda at: at("worker_pids.json").write_text(
        '[{"id": "w-0", "pid": 1}]'
    ),
    ".queuectl: is missing": lambda at: os.remove(at(".queuectl")),
    ".queuectl: is not a queuectl marker": lambda at: at(".queuectl").write_text("{"),
    "jobs.json.new: was left behind": lambda at: write_private(at("jobs.json.new")),
    "journal: ends in the midst of a change": lambda at: at("journal").write_bytes(
        at("journal").read_bytes() + b"@500 0"
    ),
    "modes: not private to you: jobs.json": lambda at: os.chmod(at("jobs.json"), 0o644),
    "modes: not private to you: the folder": lambda at: os.chmod(at(), 0o755),
    "modes: not private to you: logs/a.1.": lambda at: os.chmod(log_of_a(at), 0o640),
    "workers/w-9.wake: was left behind": lambda at: os.mkfifo(at("workers", "w-9.wake"), 0o600),
    "workers/.w-9: was left behind": lambda at: write_private(at("workers", ".w-9")),
    "logs: output of jobs or workers that are gone: gone.1.log, w-9.spool": lambda at: [
        write_private(at("logs", name)) for name in ("gone.1.log", "w-9.spool")
    ],
}


def log_of_a(at):
    """The one log of job a; its name holds a random word."""
    [log] = at("logs").glob("a.1.*log")
    return log


def write_private(path, text="text"):
    path.write_text(text)
    path.chmod(0o600)


@pytest.mark.usefixtures("no_patience")
@pytest.mark.parametrize("text", DAMAGES)
def test_each_damage_is_told_in_a_line_and_mended(queue, text):
    DAMAGES[text](lambda *names: path(queue, *names))
    before = picture(queue)
    [line] = [line for line in found(queue) if line.startswith("Problem: ")]
    assert line.startswith(f"Problem: {text}"), line
    assert "doctor --repair' " in line
    assert picture(queue) == before
    mended = queue("doctor", "--repair")
    assert mended.out.startswith("Mended: ")
    assert mended.code == ("Not readable: " in mended.out)
    assert not [line for line in found(queue, 0) if line.startswith("Problem: ")]
    assert queue.ok("doctor", "--repair") == queue.ok("doctor")


def test_everything_at_once_is_a_list_and_no_traceback(queue):
    for name in ("jobs.json", "dlq.json", "config.json", "worker_pids.json", "journal"):
        path(queue, name).write_bytes(os.urandom(500))
    log_of_a(partial(path, queue)).rename(path(queue, "spare"))
    path(queue, "logs").rmdir()
    path(queue, "logs").write_bytes(b"")
    result = queue("doctor")
    assert (result.code, result.err) == (1, "")
    for name in ("jobs.json", "dlq.json", "config.json", "worker_pids.json", "journal", "logs"):
        assert f"Problem: {name}: " in result.out
    assert "Note: other files: not of queuectl: spare;" in result.out
    form = json.loads(queue("doctor", "--json").out)
    assert form["ok"] is False
    assert {one["about"] for one in form["findings"] if one["problem"]} >= {"journal", "jobs.json"}
    assert all(set(one) == {"about", "problem", "text", "todo"} for one in form["findings"])
    assert queue("doctor", "--repair").code == 1
    assert path(queue, "spare").exists()


@pytest.mark.usefixtures("no_patience")
def test_a_hand_edit_is_not_a_problem_but_a_mistake_in_it_is(queue):
    text = path(queue, "jobs.json").read_text()
    path(queue, "jobs.json").write_text(text.replace("echo out", "echo edited"))
    assert found(queue, 0) == []
    path(queue, "jobs.json").write_text(text.replace('"command": "true"', '"comand": "true"'))
    assert "mistake in line 3, column 1: a job has no command" in found(queue)[0]
    twin = text.replace('"id": "c"', '"id": "a"')
    path(queue, "jobs.json").write_text(twin)
    assert "job 'a' occurs twice" in found(queue)[0]


def test_two_live_jobs_with_one_unique_key_are_named(queue):
    """As an edit by hand makes them, or a backup that was edited; never by --replace."""
    for job_id in ("d", "e", "f"):
        queue.ok("enqueue", "--id", job_id, "--unique", f"key {job_id}", "--", "true")
    queue.ok("update", "f", "--state", "cancelled")
    text = path(queue, "jobs.json").read_text()
    path(queue, "jobs.json").write_text(
        text.replace('"key e"', '"key d"').replace("key f", "key d")
    )
    assert found(queue) == [
        "Problem: jobs.json: live with one unique key: d, e; "
        "'queuectl cancel ID' all but one of them"
    ]
    assert queue("doctor", "--repair").code == 1
    queue.ok("cancel", "e")
    assert found(queue, 0) == []
    other = JobQueue.open(queue.folder)
    other.claim("w")  # c
    assert other.claim("w").id == "d"
    queue.ok("enqueue", "--unique", "key d", "--replace", "--", "true")
    assert found(queue, 0) == []
    other.close()


def test_jobs_that_contradict_the_journal_are_told(queue):
    """As no fault of the disk could make them, but a fault of ours."""
    lines = path(queue, "jobs.json").read_bytes()
    head, _, rest = path(queue, "journal").read_bytes().partition(b"\n")
    words = head.split(b" ")
    dead = lines.replace(b'"state": "completed"', b'"state": "dead"')
    from zlib import crc32

    size, *stat, _ = words[7].split(b":")
    assert int(size) == len(lines)
    words[7] = b":".join([b"%d" % len(dead), *stat, b"%d" % crc32(dead)])
    text = b" ".join(words[:-1])
    path(queue, "jobs.json").write_bytes(dead)
    path(queue, "journal").write_bytes(b"%s %08x\n" % (text, crc32(text)) + rest)
    told = found(queue)
    assert any("job a is dead" in line for line in told)
    assert any("the journal counts" in line for line in told)
    assert queue("doctor", "--repair").code == 0
    assert "b  " in queue.ok("dlq", "list")
    assert "a  " in queue.ok("dlq", "list")


def test_settings_that_mean_nothing_are_noted(queue):
    path(queue, "config.json").write_text('{"max-retry": 1, "base": 3}')
    [line] = found(queue, 0)
    assert line.startswith("Note: config.json: holds settings that mean nothing here: max-retry;")


def test_fields_of_a_later_version_are_kept_and_noted(queue, cli):
    cli.ok("checkpoint")
    jobs = path(queue, "jobs.json")
    text = jobs.read_text()
    assert '"command": ' in text
    jobs.write_text(text.replace('"command": ', '"stdin": ["x"], "stall": "l", "command": ', 1))
    assert '"stdin": ["x"]' in cli.ok("list", "--json")
    lines = found(queue, 0)
    assert [line.split(" is not")[0] for line in lines] == [
        "Note: field 'stall':",
        "Note: field 'stdin':",
    ]
    assert all("; 1 job with it: " in line for line in lines)
    assert '"stdin": ["x"]' in jobs.read_text()


def test_files_that_were_set_aside_are_noted(queue):
    for name in ("jobs.json.bad-2026", "journal.torn-1-2", "before-restore-2026.jsonl"):
        write_private(path(queue, name))
    write_private(path(queue, "logs", "x.1.log.bad-2026"))
    write_private(path(queue, "logs", "worker-w-9.log"), "trouble\n")
    lines = found(queue, 0)
    assert [line.split(":")[:2] for line in lines] == [
        ["Note", " set aside"],
        ["Note", " logs"],
        ["Note", " logs"],
    ]


def test_a_disk_that_is_nearly_full_is_told(queue, monkeypatch):
    real = os.statvfs(queue.folder)

    class Full:
        f_bavail, f_frsize, f_files, f_favail = 10, real.f_frsize, 100, 0

    monkeypatch.setattr(os, "statvfs", lambda path: Full)
    told = found(queue)
    assert told[0].startswith(
        "Problem: free space: 40 KiB are free, writing the files anew takes 1"
    )
    assert told[1].startswith("Problem: free space: the file system has no room for another file")


def test_a_clock_that_is_behind_the_files_is_told(queue):
    os.utime(path(queue, "dlq.json"), (2e9, 2e9))
    [line] = found(queue)
    assert line.startswith("Problem: clock: dlq.json is ")
    assert "ahead of the clock; set the clock right" in line


def test_files_of_another_user_are_told(queue, monkeypatch):
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    write_private(path(queue, "notes.txt"))
    for name in ("config.json", "notes.txt"):
        os.chown(path(queue, name), 4711, 4711)
    told = found(queue)
    assert told[0].startswith("Problem: config.json: belongs to another user (uid 4711); ")
    assert told[1].startswith("Problem: owner: belong to another user: notes.txt;")


def test_workers_whose_files_cannot_be_read_are_told(queue, monkeypatch):
    def probe(folder, worker_id):
        raise PermissionError(13, "Permission denied")

    slot = make_slot(queue.folder, "w-1", "123 start boot 2026-01-01T00:00:00.000000Z")
    with monkeypatch.context() as patched:
        patched.setattr("queuectl.store.files.worker_files.probe", probe)
        patched.setattr("queuectl.store.damage.stray_logs.find_stray_logs", lambda queue: [])
        assert found(queue)[0].startswith("Problem: workers: cannot be read; ")
    slot.release()


def test_a_lock_that_is_held_is_told_with_its_holder(queue, monkeypatch):
    monkeypatch.setattr("queuectl.store.damage.care._PATIENCE", 0.05)
    with QueueLock(queue.folder, lambda: 1.0):
        [line] = found(queue)
        assert f"queue.lock is held by process {os.getpid()}" in line
        assert queue("doctor", "--repair").code == 5
    assert found(queue, 0) == []


# -- workers


@pytest.fixture
def briefly(monkeypatch):
    """No worker here is in the midst of anything that a longer look would see the end of."""
    monkeypatch.setattr(examination, "_WATCHED", 0.1)


def test_a_worker_at_work_is_well(queue, wait_until):
    queue.ok("enqueue", "--id", "long", "--", "sleep", "60")
    queue.ok("worker", "start", "--count", "2")
    wait_until(lambda: " running  long " in queue.ok("worker", "list"))
    assert found(queue, 0) == []
    assert "2 workers" in queue.ok("doctor")
    queue.ok("worker", "stop", "--now")
    assert found(queue, 0) == []


def test_a_job_whose_worker_is_gone_is_told_and_taken_back(queue, briefly):
    store = JobQueue.open(queue.folder)
    store.claim("w-gone")
    store.store._writer.close()
    [line] = found(queue)
    assert line.startswith("Problem: job 'c': is in progress, but its worker w-gone is gone;")
    assert "job 'c': taken back from its dead worker" in queue.ok("doctor", "--repair")


def test_a_job_that_its_worker_does_not_run_is_told(queue, briefly):
    slot = make_slot(queue.folder, "w-1", "123 start boot 2026-01-01T00:00:00.000000Z")
    path(queue, "worker_pids.json").write_text('[{"id": "w-1", "pid": 123}]')
    store = JobQueue.open(queue.folder)
    store.claim("w-1")
    store.store._writer.close()
    [line] = found(queue)
    assert "its worker w-1 runs something else; 'queuectl worker stop', then" in line
    slot.note_run("c", 1, 4, "start")
    assert found(queue, 0) == []
    slot.release()


def test_a_worker_that_is_not_on_the_list_is_told(queue):
    slot = make_slot(queue.folder, "w-1", "123 start boot 2026-01-01T00:00:00.000000Z")
    [line] = found(queue)
    assert line.startswith("Problem: worker_pids.json: does not name w-1;")
    slot.close()  # it died
    assert "died; the next command that writes removes its file; " in "".join(found(queue))


def test_logs_of_no_job_are_put_aside(queue):
    write_private(path(queue, "logs", "gone.3.log"))
    path(queue, "logs", "w-9.spool").touch(0o600)
    mended = queue.ok("doctor", "--repair")
    assert "logs/gone.3.log: belongs to no job or worker; kept as gone.3.log.bad-" in mended
    assert "logs/w-9.spool: empty, and belongs to no job or worker; removed" in mended
    names = sorted(name.partition(".bad-")[0] for name in os.listdir(path(queue, "logs")))
    assert names == [log_of_a(partial(path, queue)).name, "gone.3.log"]


def test_output_that_is_being_written_is_not_parted_from_its_worker(queue):
    slot = make_slot(queue.folder, "w-1", "123 start boot 2026-01-01T00:00:00.000000Z")
    path(queue, "worker_pids.json").write_text('[{"id": "w-1", "pid": 123}]')
    spool = LogFolder(queue.folder).spool("w-1")
    os.write(spool.fd, b"one\n")
    os.link(spool.path, f"{queue.folder}-copy")
    queue.ok("doctor", "--repair")
    assert os.path.samestat(os.stat(spool.path), os.fstat(spool.fd))
    spool.close()
    assert found(queue)[0].startswith("Problem: logs/w-1.spool: has 2 names")
    slot.release()


def test_it_is_right_while_others_work(queue, wait_until):
    """No finding comes from a writer, a fold or a worker in the midst of its work."""
    program = (
        "import sys\n"
        "from queuectl.job_queue import JobQueue\n"
        "queue = JobQueue.open(sys.argv[1])\n"
        "while True:\n"
        "    queue.enqueue([{'command': 'true', 'run_at': '2100-01-01T00:00:00Z'}])\n"
        "    slot = queue.register_worker()\n"
        "    queue.checkpoint()\n"
        "    queue.release_worker(slot)\n"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", program, queue.folder], stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    try:
        before = sum(JobQueue.open(queue.folder).counts().values())
        store = JobQueue.open(queue.folder)
        wait_until(lambda: sum(store.counts().values()) > before + 5)
        for _ in range(25):
            assert [one.text for one in store.care.examine() if one.problem] == []
    finally:
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
            assert writer.communicate()[1] == b""


def test_every_file_of_ours_is_known(queue):
    queue.ok("worker", "start")
    queue.ok("worker", "stop")
    assert all(map(strays.is_ours, os.listdir(queue.folder)))
