"""Text that becomes part of a path, names of temporary files, links, and who may write."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
import subprocess
import sys

import pytest

from queuectl.commands.handlers import copying
from queuectl.errors import InvalidTransition, StoreError
from queuectl.job_queue import JobQueue
from queuectl.shell.history_file import MOST, HistoryFile
from queuectl.store import door
from queuectl.store.files import strays
from queuectl.store.files.worker_files import listed_info

AWAY = "../../thesis.txt"

pytestmark = pytest.mark.usefixtures("no_patience")


@pytest.fixture
def queue(cli):
    """A queue with one job, beside a file of a person."""
    cli.ok("enqueue", "--id", "a", "--command", "true")
    with open("thesis.txt", "wb") as file:
        file.write(b"thesis")
    yield cli
    with open("thesis.txt", "rb") as file:
        assert file.read() == b"thesis"


def in_queue(cli, name):
    return os.path.join(cli.folder, name)


def write(path, text):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def refused(cli, *argv, words=(), code=5):
    result = cli(*argv)
    assert result.code == code, result
    assert result.err.count("\n") == 1, result
    for word in words:
        assert word in result.err
    return result


# -- text that becomes part of a path


@pytest.mark.parametrize("worker", [AWAY, "..", ".", "/etc/passwd", "a/b", "w\n1", "", "w 1", "-w"])
def test_a_worker_that_leads_elsewhere_is_refused(queue, worker):
    job = {"id": "b", "command": "true", "state": "in_progress", "worker": worker}
    write(in_queue(queue, "jobs.json"), json.dumps([job]))
    for argv in (("checkpoint",), ("list",), ("status",), ("enqueue", "--command", "true")):
        refused(queue, *argv, words=["jobs.json:1:2: worker"])


def test_a_word_of_logs_that_leads_elsewhere_is_refused(queue):
    job = {"id": "b", "command": "true", "run": 1, "log_word": "/../../../thesis"}
    write(in_queue(queue, "jobs.json"), json.dumps([job]))
    refused(queue, "logs", "b", words=["jobs.json:1:2: log_word"])


@pytest.mark.parametrize("name", [AWAY, "..", "", 7, None])
def test_a_listed_worker_that_leads_elsewhere_is_refused_and_struck_off(queue, name):
    write(in_queue(queue, "worker_pids.json"), json.dumps([{"id": name, "pid": 1}]))
    refused(queue, "checkpoint", words=["worker_pids.json", repr(name)])
    assert queue("doctor").code == 1
    assert queue("doctor", "--repair").code == 0
    queue.ok("checkpoint")


def test_a_listed_worker_tells_of_no_process_that_would_be_ended():
    entry = {"pid": 7, "start_time": "8", "boot_id": "b", "started_at": "t\na 1 7 8\nfolder=1:2"}
    info = listed_info("w-1", entry)
    assert (info.pid, info.started_at, info.job_id, info.facts) == (7, "t", None, {})


def test_a_backup_with_a_path_for_a_worker_is_refused(queue):
    queue.ok("backup", "good.jsonl")
    with open("good.jsonl", "rb") as file:
        head = file.readline()
    job = {"id": "b", "command": "true", "state": "in_progress", "worker": AWAY}
    body = head + json.dumps(job).encode() + b"\n"
    from hashlib import sha256

    with open("bad.jsonl", "wb") as file:
        file.write(body + b'{"jobs": 1, "sha256": "%s"}\n' % sha256(body).hexdigest().encode())
    refused(queue, "restore", "bad.jsonl", "--replace", "--yes", words=["bad.jsonl:2: worker"])


@pytest.mark.parametrize("name", ["../x", "a/b", "..", ".", "", "a\0b", "\ud800"])
def test_no_name_leads_out_of_its_folder(name):
    with pytest.raises(door.BadFile, match="names no file in it"):
        door.within("/data", name)
    assert door.within("/data", "..a") == "/data/..a"


# -- temporary files


def test_a_temporary_file_is_new_private_and_of_a_name_that_cannot_be_guessed(queue, monkeypatch):
    made, real = [], os.open

    def note(path, flags, mode=0o777, **more):
        if flags & os.O_CREAT and os.path.basename(path) != "queue.lock":
            made.append((path, flags, mode))
        return real(path, flags, mode, **more)

    monkeypatch.setattr(os, "open", note)
    queue.ok("config", "set", "base", "3")
    queue.ok("enqueue", "--id", "b", "--command", "true")
    queue.ok("checkpoint")
    queue.ok("backup", "copy.jsonl")
    queue.ok("init", "other")
    new = [os.path.basename(path) for path, _, _ in made if path.endswith(".new")]
    bases = {name[: -len(".0123456789abcdef.new")] for name in new}
    assert bases >= {"config.json", "jobs.json", "journal", "copy.jsonl", ".queuectl"}
    assert len(set(new)) == len(new)
    for path, flags, mode in made:
        assert flags & os.O_NOFOLLOW, path
        assert mode == 0o600, path
        if path.endswith(".new"):
            assert flags & os.O_EXCL, path
    assert all(strays._is_temporary(name) for name in new if not name.startswith("copy"))


def test_a_file_of_a_queue_is_not_written_over_by_what_goes_elsewhere(queue):
    write("nightly", "enqueue --id b -- true\n")
    for name in ("journal", "jobs.json", ".queuectl", "queue.lock", "logs", ".jobs.json-1"):
        path = in_queue(queue, name)
        refused(queue, "backup", "--force", path, words=("a file of the queue itself",), code=2)
    kept = in_queue(queue, "journal"), "thesis.txt"
    for path in kept:  # it would be written to, and removed at the end
        refused(queue, "-f", "nightly", "--resume", path, words=("how far a script got",), code=2)
    queue.ok("backup", in_queue(queue, "saved.jsonl"))
    assert queue.ok("list", "-q") == "a\n"


def test_what_a_person_keeps_beside_the_workers_is_left_alone(queue):
    os.mkdir(in_queue(queue, "workers"))
    write(in_queue(queue, "workers/notes"), "mine")
    queue.ok("enqueue", "--id", "b", "--command", "true")
    queue.ok("doctor", "--repair")
    with open(in_queue(queue, "workers/notes"), encoding="utf-8") as file:
        assert file.read() == "mine"


def test_a_queue_is_not_moved_onto_itself_by_another_name(queue):
    os.symlink(queue.folder, "link")
    for argv in ((queue.folder, "link"), ("link", queue.folder, "--move")):
        refused(queue, "copy", *argv, words=("cannot be copied onto itself",), code=2)
    assert queue.ok("list", "-q") == "a\n"


def test_a_move_that_was_cut_short_behind_its_last_step_can_be_made_again(queue):
    queue.ok("copy", queue.folder, "other", "--move")
    again = queue("copy", queue.folder, "other", "--move")
    assert (again.code, "nothing is left to be moved" in again.err) == (0, True), again
    assert queue.ok("--data", "other", "list", "-q") == "a\n"


@pytest.mark.parametrize("deed", ["claim", "cancel"])
def test_a_move_of_jobs_of_which_one_changes_meanwhile_moves_none(queue, monkeypatch, deed):
    queue.ok("enqueue", "--id", "b", "--after", "a", "--command", "true")
    missing = copying._missing

    def then_changed(target, jobs):
        if found := missing(target, jobs):
            return found
        with contextlib.suppress(InvalidTransition):  # it was cancelled already
            getattr(JobQueue.open(queue.folder), deed)("w-1" if deed == "claim" else ["b"])
        return found

    monkeypatch.setattr(copying, "_missing", then_changed)
    words = ("changed meanwhile", "nothing was moved")
    refused(queue, "copy", queue.folder, "other", "--move", words=words, code=4)
    assert queue.ok("--data", "other", "list", "-q") == ""
    assert queue.ok("list", "-q") == "a\nb\n"


def test_a_move_tells_of_what_jobs_wait_for_that_came_meanwhile(queue, monkeypatch):
    real = JobQueue.take_away

    def awaited(source, jobs):
        queue.ok("enqueue", "--id", "b", "--after", "a", "--command", "true")
        return real(source, jobs)

    monkeypatch.setattr(JobQueue, "take_away", awaited)
    moved = queue("copy", queue.folder, "other", "--move")
    assert (moved.code, "wait for a, which stay there, too" in moved.err) == (0, True), moved
    assert queue.ok("list", "-q") == "a\nb\n"


def test_an_empty_path_does_not_mean_the_usual_one(queue):
    for line in ("copy {} {}", "copy other {}", "init {}", "backup {}", "restore {}"):
        argv = [word.format("") for word in line.split()]
        refused(queue, *argv, words=("is empty",), code=2)


def test_a_move_that_cannot_empty_its_source_tells_that_both_hold_the_jobs(queue, monkeypatch):
    def refuse(*_):
        raise StoreError("the disk is read-only; nothing was changed")

    with monkeypatch.context() as patch:
        patch.setattr(JobQueue, "take_away", refuse)
        found = refused(queue, "copy", queue.folder, "other", "--move", words=("both hold",))
    assert "nothing was changed" not in found.err
    assert "Moved 1 job(s)" in queue.ok("copy", queue.folder, "other", "--move")


@pytest.mark.parametrize("named", ["mongodb:/host/db", "mongodb:host/db", "mongodb+srv:/host"])
def test_a_mistyped_url_does_not_become_a_folder(queue, named):
    refused(queue, "copy", queue.folder, named, words=("reads mongodb://HOST/",), code=2)
    refused(queue, "--data", named, "enqueue", "--", "true", words=("mongodb://HOST/",), code=2)
    queue.ok("--data", f"./{named}", "enqueue", "--", "true")


def test_a_copy_that_was_cut_off_while_it_was_verified_is_repeated(queue, monkeypatch):
    queue.ok("enqueue", "--id", "b", "--", "true")
    missing, calls = copying._missing, []

    def interrupted(*given):
        calls.append(given)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return missing(*given)

    monkeypatch.setattr(copying, "_missing", interrupted)
    assert queue("copy", queue.folder, "other").code == 130
    assert "already holds the " in queue.ok("copy", queue.folder, "other")
    queue.ok("--data", "other", "enqueue", "--id", "more", "--", "true")
    words = ("a queue is copied into an empty one",)
    refused(queue, "copy", queue.folder, "other", words=words, code=4)


def test_a_copy_without_room_for_what_it_reads_names_the_folder(queue, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    for name in ("TemporaryFile", "gettempdir"):
        monkeypatch.setattr(copying.tempfile, name, refuse)
    refused(queue, "copy", queue.folder, "other", words=("TMPDIR", "No space left"))


def test_nothing_is_written_through_what_was_put_in_the_way(queue):
    names = ["jobs.json", "dlq.json", "config.json", "worker_pids.json", "journal", ".queuectl"]
    for name in names:
        for end in (".new", f".{os.getpid()}.new"):
            os.symlink(os.path.abspath("thesis.txt"), in_queue(queue, name + end))
    for path in ("copy.jsonl", "before"):
        os.symlink(os.path.abspath("thesis.txt"), f"{path}.{os.getpid()}.new")
    queue.ok("enqueue", "--id", "b", "--command", "true")
    queue.ok("config", "set", "base", "3")
    queue.ok("checkpoint")
    queue.ok("backup", "copy.jsonl")
    assert not [name for name in os.listdir(queue.folder) if name.endswith(".new")]


def test_how_far_a_script_got_is_not_written_through_a_link(queue):
    write("script", "enqueue --id x -- true\nenqueue --id y -- true\n")
    os.symlink("nothing", "dangling")
    os.symlink("thesis.txt", "link")
    os.link("script", "second")
    os.mkfifo("pipe")
    os.mkdir("folder")
    for name in ("dangling", "link", "second", "pipe", "folder"):
        refused(queue, "-f", "script", "--resume", name, words=[name, "--resume"], code=2)
    assert not os.path.lexists("nothing")
    assert queue("show", "x").code == 3
    assert queue("-f", "script", "--resume", "progress").code == 0
    assert not os.path.lexists("progress")


# -- the history of the shell


def test_a_pipe_is_not_a_history(tmp_path):
    os.mkfifo(tmp_path / "history")
    file = HistoryFile(str(tmp_path / "history"))
    for deed in (lambda: file.append("list"), file.news):
        with pytest.raises(OSError, match="not a plain file"):
            deed()
    HistoryFile(os.devnull).append("list")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a link away")
def test_a_history_is_not_written_through_the_link_of_another_user(tmp_path):
    (tmp_path / "thesis").write_text("thesis\n")
    os.symlink("thesis", tmp_path / "history")
    HistoryFile(str(tmp_path / "history")).append("mine")
    assert (tmp_path / "thesis").read_text() == "thesis\nmine\n"
    os.lchown(tmp_path / "history", 12_345, -1)
    with pytest.raises(OSError, match="Too many levels"):
        HistoryFile(str(tmp_path / "history")).append("list")
    assert (tmp_path / "thesis").read_text() == "thesis\nmine\n"


def test_a_history_that_is_trimmed_leaves_nothing_and_follows_nothing(tmp_path):
    path = tmp_path / "history"
    (tmp_path / "thesis").write_text("thesis")
    os.symlink("thesis", f"{path}.{os.getpid()}")
    (tmp_path / f"history.{'0' * 16}.new").write_text("of a shell that was killed")
    path.write_text("".join(f"line {n}\n" for n in range(MOST + 2000)))
    HistoryFile(str(path)).news()
    assert sorted(os.listdir(tmp_path)) == ["history", f"history.{os.getpid()}", "thesis"]
    assert len(path.read_text().splitlines()) == MOST
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert (tmp_path / "thesis").read_text() == "thesis"


# -- a copy of hard links


def copied(queue):
    """The queue with a worker that runs, and a copy of hard links beside it."""
    other = os.path.abspath("copy")
    subprocess.run(["cp", "-al", queue.folder, other], check=True)
    return other


@pytest.mark.skipif(sys.platform != "linux", reason="cp -al is GNU's")
def test_a_copy_of_hard_links_is_not_a_queue_until_it_is_mended(queue):
    queue.ok("checkpoint")
    other = copied(queue)
    for folder in (other, queue.folder):
        for argv in (("enqueue", "--id", "b", "--command", "true"), ("list",), ("status",)):
            refused(queue, "--data", folder, *argv, words=["has 2 names", "doctor --repair"])
    assert queue("--data", other, "doctor", "--repair").code == 0
    queue.ok("--data", other, "enqueue", "--id", "b", "--command", "true")
    assert "b" in queue.ok("--data", other, "list", "--json")
    assert queue("doctor").code == 0
    assert [job.id for job in JobQueue.open(queue.folder).find()] == ["a"]
    queue.ok("enqueue", "--id", "c", "--command", "true")
    assert queue("--data", other, "show", "c").code == 3


@pytest.mark.skipif(sys.platform != "linux", reason="cp -al is GNU's")
@pytest.mark.parametrize("first", ["copy", "queue"])
def test_a_copy_of_hard_links_disturbs_no_worker(queue, wait_until, first):
    queue.ok("worker", "start")
    queue.ok("enqueue", "--id", "long", "--command", "until test -e go; do sleep 0.05; done")
    wait_until(lambda: queue("show", "long", "--json").out.count('"in_progress"'))
    other = copied(queue)
    order = (other, queue.folder) if first == "copy" else (queue.folder, other)
    for folder in order:
        assert queue("--data", folder, "doctor", "--repair").code in (0, 1)
    refused(queue, "--data", other, "worker", "stop", code=0)
    write("go", "")
    wait_until(lambda: queue("show", "long", "--json").out.count('"completed"'))
    assert '"run": 1' in queue.ok("show", "long", "--json")
    assert queue.ok("worker", "stop").count("Stopped") == 1
    assert queue("doctor").code == 0


# -- a folder that others may write to


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702, 0o720])
def test_a_queue_that_others_may_write_to_is_closed_before_it_is_read(queue, monkeypatch, mode):
    os.chmod(queue.folder, mode)
    seen, real = [], os.open

    def note(path, *args, **more):
        if str(path).startswith(queue.folder + os.sep):
            seen.append(stat.S_IMODE(os.stat(queue.folder).st_mode))
        return real(path, *args, **more)

    monkeypatch.setattr(os, "open", note)
    queue.ok("status")
    assert set(seen) == {0o700}


def test_a_folder_that_is_not_a_queue_keeps_its_modes(cli):
    os.mkdir(cli.folder)
    os.chmod(cli.folder, 0o777)
    cli.ok("status")
    assert stat.S_IMODE(os.stat(cli.folder).st_mode) == 0o777


def test_a_folder_that_is_shared_is_refused_and_keeps_its_modes(cli):
    os.mkdir(cli.folder)
    os.chmod(cli.folder, 0o1777)
    for argv in (("status",), ("enqueue", "--command", "true"), ("init",), ("doctor",)):
        refused(cli, *argv, words=["is shared with other users"])
    assert stat.S_IMODE(os.stat(cli.folder).st_mode) == 0o1777
    assert os.listdir(cli.folder) == []
