"""Which folder is used, which is refused, how one is made, and what its modes are."""

from __future__ import annotations

import errno
import os
import pwd
import shutil
import stat
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from failing_disk import failing_disk
from samples import configure, make_job, put, read

from queuectl import places
from queuectl.errors import DiskRefused, StoreError
from queuectl.job_queue import JobQueue
from queuectl.store import door
from queuectl.store.files import marker
from queuectl.store.files.file_store import FileStore
from queuectl.store.files.summary import read_summary

DEEDS = {
    "add": lambda store: store.add([make_job("a")]),
    "find": lambda store: list(store.find()),
    "counts": lambda store: store.counts(),
    "get": lambda store: store.get("a"),
    "check": lambda store: store.check(),
}


def tree(path):
    """Every file below the path with its content."""
    found = {}
    for where, _, names in os.walk(path):
        for name in names:
            found[os.path.join(where, name)] = read(where, name)
    return found


def refused(path, complaint, deeds=tuple(DEEDS)):
    """Every deed refuses the folder with this complaint, and changes nothing in it."""
    before = tree(path)
    for name in deeds:
        store = FileStore(str(path))
        with pytest.raises(StoreError, match=complaint) as caught:
            DEEDS[name](store)
        assert caught.value.exit_code == 5
        assert "\n" not in str(caught.value)
        store.close()
    assert tree(path) == before


# -- which folder


def test_the_option_comes_first_then_the_environment(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    home = {"HOME": "/h", "XDG_DATA_HOME": "/x"}
    assert places.find_folder("opt", {"QUEUECTL_DATA": "env"}) == str(tmp_path / "opt")
    assert places.find_folder(None, {"QUEUECTL_DATA": "env"}) == str(tmp_path / "env")
    assert places.find_folder(None, {"QUEUECTL_DATA": "", **home}) == "/x/queuectl"
    assert places.find_folder("/abs/q/../p", {}) == "/abs/p"


def test_a_data_folder_here_is_used_only_if_it_is_ours(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "jobs.json").write_text("{}")
    assert places.find_folder(None, {"XDG_DATA_HOME": "/x"}) == "/x/queuectl"
    (tmp_path / "data" / ".queuectl").write_text('{"format": 1}')
    assert places.find_folder(None, {"XDG_DATA_HOME": "/x"}) == str(tmp_path / "data")


def test_the_users_own_folder_is_the_last_resort(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/somebody")
    assert places.find_folder(None, {}) == "/home/somebody/.local/share/queuectl"
    assert places.find_folder("~/q", {}) == "/home/somebody/q"
    assert places.find_folder("~", {}) == "/home/somebody"
    monkeypatch.setenv("HOME", "/")
    assert places.find_folder("~//q", {}) == "/q"


def test_an_xdg_folder_that_is_not_absolute_is_ignored(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/somebody")
    for odd in ("", "rel", "./rel", "~"):
        found = places.find_folder(None, {"XDG_DATA_HOME": odd})
        assert found == "/home/somebody/.local/share/queuectl"


@pytest.mark.parametrize("home", [None, ""])
def test_without_home_the_system_is_asked(monkeypatch, tmp_path, home):
    monkeypatch.chdir(tmp_path)
    if home is None:
        monkeypatch.delenv("HOME", raising=False)
    else:
        monkeypatch.setenv("HOME", home)
    monkeypatch.setattr(pwd, "getpwuid", lambda _: SimpleNamespace(pw_dir="/home/of-system"))
    assert places.find_folder(None, {}) == "/home/of-system/.local/share/queuectl"
    assert places.find_folder("~/q", {}) == "/home/of-system/q"


@pytest.mark.parametrize("home", [None, "", "rel", "~"])
@pytest.mark.parametrize("data", [None, "~", "~/q"])
def test_a_home_that_is_not_known_is_told(cli, monkeypatch, home, data):
    def nobody(uid):
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    for name in ("QUEUECTL_DATA", "XDG_DATA_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    if home is not None:
        monkeypatch.setenv("HOME", home)
    option = ("--data", data) if data else ()
    for argv in (("status",), ("enqueue", "--command", "true"), ("worker", "start")):
        told = "queuectl: no home folder is known; name a data folder with --data DIR\n"
        assert cli(*option, *argv) == (5, "", told)
    assert os.listdir() == []
    assert cli("--data", "here", "enqueue", "--command", "true").code == 0
    assert os.listdir() == ["here"]


# -- folders that are refused


@pytest.mark.parametrize(
    "name", ["jobs.json", "dlq.json", "config.json", "worker_pids.json", "journal"]
)
def test_a_folder_with_foreign_files_is_refused(tmp_path, name):
    (tmp_path / name).write_text("mine\n")
    refused(tmp_path, f"holds a {name} that is not queuectl's; name another folder with --data DIR")
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("name", ["workers", "logs"])
def test_a_folder_with_foreign_folders_is_refused(cli, name):
    """A file in workers/ was taken for that of a dead worker, and removed."""
    mine = os.path.join(cli.folder, name, "mine.1.log")
    os.makedirs(os.path.dirname(mine))
    Path(mine).touch(0o644)
    for words in (("enqueue", "--command", "true"), ("worker", "run", "--drain"), ("doctor",)):
        assert f"holds a folder {name} that is not queuectl's; name another" in cli(*words).err
    assert cli("doctor", "--repair").code == 5
    assert stat.S_IMODE(os.stat(mine).st_mode) == 0o644


def test_a_folder_with_other_files_may_be_used_and_stays_as_it_is(tmp_path):
    """With its mode: made private, / or the folder of a web server would be shut to all others."""
    path = tmp_path / "mine"
    path.mkdir()
    (path / "notes.txt").write_text("mine\n")
    for each, mode in ((path, 0o755), (path / "notes.txt", 0o644)):
        each.chmod(mode)
    store = FileStore(str(path))
    store.add([make_job("a")])
    store.close()
    assert not any(found.problem for found in JobQueue.open(str(path)).care.examine())
    (path / "journal").chmod(0o644)
    JobQueue.open(str(path)).care.repair([], [])
    assert (path / "notes.txt").read_text() == "mine\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o755
    private = {entry.name for entry in os.scandir(path) if not entry.stat().st_mode & 0o077}
    assert set(os.listdir(path)) - private == {"notes.txt"}


def test_a_folder_with_other_files_that_others_may_write_to_is_refused(tmp_path):
    path = tmp_path / "shared"
    path.mkdir()
    (path / "notes.txt").touch()
    path.chmod(0o770)
    complaint = "holds other files, and other users may write to it; name one of your own"
    refused(path, complaint, deeds=("add",))
    assert os.listdir(path) == ["notes.txt"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o770


@pytest.mark.parametrize("name", ["workers", "logs"])
def test_a_folder_of_a_queue_is_not_made_another(tmp_path, name):
    queue = FileStore(str(tmp_path / "queue"))
    queue.add([make_job("a")])
    within = os.path.join(queue.folder, name)
    with pytest.raises(StoreError, match="is a part of the queue in"):
        FileStore(within).add([make_job("b")])
    assert not os.path.lexists(within)
    queue.close()


def test_a_file_is_not_a_folder(tmp_path):
    path = tmp_path / "queue"
    path.write_text("mine")
    refused(path, "is a file; name a folder with --data DIR")
    refused(path / "below", "data folder .*: Not a directory")
    assert path.read_text() == "mine"


@pytest.mark.parametrize(
    ("mark", "complaint"),
    [
        (
            b'{"format": 3}\n',
            r"was made by a newer queuectl \(format 3; this one knows 2\): update it",
        ),
        (b'{"format": "new"}', "is not a queuectl marker"),
        (b'{"format": true}', "is not a queuectl marker"),
        (b'{"format": 0}', "is not a queuectl marker"),
        (b"", r'is not a queuectl marker: it should read \{"format": 2\}$'),
        (b"{}", "is not a queuectl marker"),
        (b"[1]", "is not a queuectl marker"),
        (b"\0\xff", "is not a queuectl marker"),
        (b"{" * 4000, "is not a queuectl marker"),
        (b"[" * 100_000 + b"]" * 100_000, "is not a queuectl marker"),
    ],
)
def test_a_marker_that_is_not_ours_is_refused(tmp_path, mark, complaint):
    (tmp_path / ".queuectl").write_bytes(mark)
    refused(tmp_path, complaint)


@pytest.mark.parametrize("mark", [b'{"format":2}', b'{\n  "format": 2,\n  "later": true\n}\n'])
def test_a_marker_spelled_otherwise_is_ours(tmp_path, mark):
    (tmp_path / ".queuectl").write_bytes(mark)
    store = FileStore(str(tmp_path))
    store.add([make_job("a")])
    store.close()
    assert (tmp_path / ".queuectl").read_bytes() == mark


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_another_user_is_refused(tmp_path):
    path = tmp_path / "queue"
    store = FileStore(str(path))
    store.add([make_job("a")])
    store.close()
    os.chown(path, 12_345, -1)
    refused(path, r"belongs to another user \(uid 12345\)")


# -- folders that are made


def test_a_folder_is_made_with_all_that_leads_to_it(tmp_path):
    path = tmp_path / "a" / "b" / "queue"
    store = FileStore(str(path))
    store.add([make_job("a")])
    store.close()
    assert {".queuectl", "jobs.json", "dlq.json", "config.json", "worker_pids.json", "journal"} < {
        *os.listdir(path)
    }
    assert (path / ".queuectl").read_bytes() == b'{"format": 2}\n'


def test_a_marked_empty_folder_is_an_empty_queue(tmp_path):
    (tmp_path / ".queuectl").write_bytes(b'{"format": 1}\n')
    assert read_summary(str(tmp_path), 0.0).counts["pending"] == 0
    assert os.listdir(tmp_path) == [".queuectl"]
    store = FileStore(str(tmp_path))
    store.add([make_job("a")])
    assert store.counts()["pending"] == 1
    store.close()


def test_an_umask_that_takes_the_owners_own_rights_is_refused(tmp_path):
    old = os.umask(0o277)
    try:
        if os.geteuid() == 0:  # root needs no rights
            FileStore(str(tmp_path / "queue")).add([make_job("a")])
            assert modes(tmp_path / "queue") <= {0o600, 0o700, 0o400, 0o500}
        else:
            with pytest.raises(StoreError, match="queue"):
                FileStore(str(tmp_path / "queue")).add([make_job("a")])
    finally:
        os.umask(old)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_files_are_private_whatever_the_umask(tmp_path, umask):
    old = os.umask(umask)
    try:
        store = FileStore(str(tmp_path / "queue"))
        store.add([make_job("a")])
        store.fold()
        store.close()
    finally:
        os.umask(old)
    assert modes(store.folder) <= {0o600, 0o700, 0o400, 0o500}


def test_a_umask_that_takes_the_rights_of_the_owner_breaks_no_queue(cli):
    cli.ok("enqueue", "--id", "a", "--", "true")
    old = os.umask(0o777)
    try:
        cli.ok("enqueue", "--id", "b", "--", "true")
        cli.ok("worker", "run", "--drain")
    finally:
        os.umask(old)
    assert modes(cli.folder) <= {0o600, 0o700}


def test_a_folder_that_is_a_link_to_nothing_is_told_as_one(cli):
    os.symlink("nowhere", cli.folder)
    for line in (("list",), ("enqueue", "--", "true")):
        told = f"queuectl: data folder {cli.folder} is a link to nowhere, where no folder is\n"
        assert cli(*line) == (5, "", told)


def test_in_a_folder_that_is_gone_only_relative_paths_are_refused(cli, tmp_path, monkeypatch):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    here.rmdir()
    told = "queuectl: the current folder is gone: go to another, or give paths from / on\n"
    for line in (("--data", "queue", "list"), ("backup", "file"), ("init", "queue")):
        assert cli(*line) == (2, "", told)
    cli.ok("enqueue", "--cwd", "/", "--", "true")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "own"))
    monkeypatch.delenv("QUEUECTL_DATA")
    assert str(tmp_path / "own") in cli("list").err


def modes(path):
    found = [os.stat(path), *(entry.stat() for entry in os.scandir(path))]
    return {stat.S_IMODE(each.st_mode) for each in found}


def test_rights_that_the_owner_lacks_are_not_given(tmp_path):
    path = tmp_path / "queue"
    path.mkdir()
    path.chmod(0o555)
    door.make_private(str(path), path.stat())
    assert modes(path) == {0o500}


def test_a_folder_of_another_user_keeps_its_modes(tmp_path, monkeypatch):
    tmp_path.chmod(0o755)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    door.make_private(str(tmp_path), tmp_path.stat())
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


def test_modes_that_let_others_read_are_mended_at_the_first_write(tmp_path):
    store = FileStore(str(tmp_path / "queue"))
    store.add([make_job("a")])
    store.close()
    os.chmod(store.folder, 0o755)
    for entry in os.scandir(store.folder):
        os.chmod(entry.path, 0o644)
    fresh = FileStore(store.folder)
    assert list(fresh.find()) != []
    assert modes(store.folder) == {0o755, 0o644}  # reading changes nothing
    configure(fresh, {"base": 3})
    assert modes(store.folder) == {0o700, 0o600}
    fresh.close()


# -- disks that refuse


@pytest.fixture
def unprivileged():
    """A folder of a user who is bound by mode bits, and this process as that user."""
    path = tempfile.mkdtemp(prefix="queuectl-test-")
    root = os.geteuid() == 0
    if root:
        os.chown(path, 65_534, -1)
        os.seteuid(65_534)
    try:
        yield path
    finally:
        if root:
            os.seteuid(0)
        for where, names, _ in os.walk(path):
            for name in names:
                os.chmod(os.path.join(where, name), 0o700)
        shutil.rmtree(path)


def test_a_read_only_folder_is_read_and_not_written(unprivileged):
    path = os.path.join(unprivileged, "queue")
    store = FileStore(path)
    store.add([make_job("a")])
    store.close()
    for entry in os.scandir(path):
        os.chmod(entry.path, 0o400)
    os.chmod(path, 0o500)
    before = tree(path)
    fresh = FileStore(path)
    assert [job.id for job in fresh.find()] == ["a"]
    assert fresh.counts()["pending"] == 1
    assert fresh.check() == []
    with pytest.raises(DiskRefused, match="may not be written to; nothing was changed"):
        fresh.add([make_job("b")])
    fresh.close()
    assert tree(path) == before


def test_a_folder_that_cannot_be_made_is_refused(unprivileged):
    os.chmod(unprivileged, 0o500)
    store = FileStore(os.path.join(unprivileged, "queue"))
    with pytest.raises(DiskRefused, match=r"making .*: Permission denied"):
        store.add([make_job("a")])
    assert list(store.find()) == []
    store.close()
    os.chmod(unprivileged, 0o700)


@pytest.mark.parametrize("mode", [0, 0o400])
@pytest.mark.parametrize("name", [".queuectl", "queue.lock"])
def test_a_repair_gives_back_what_it_needs_itself(unprivileged, name, mode):
    store = FileStore(os.path.join(unprivileged, "queue"))
    store.add([make_job("a")])
    store.close()
    os.chmod(os.path.join(store.folder, name), mode)
    done = []
    store.care.repair(done, [])
    assert done == [f"modes: {name} can be used again"]
    store.add([make_job("b")])
    assert store.care.examine() == []
    store.close()


def test_a_file_that_cannot_be_read_is_a_bad_file(unprivileged):
    path = os.path.join(unprivileged, "queue")
    store = FileStore(path)
    store.add([make_job("a")])
    store.close()
    os.chmod(os.path.join(path, "jobs.json"), 0)
    fresh = FileStore(path)
    with pytest.raises(StoreError, match=r"jobs\.json: Permission denied"):
        list(fresh.find())
    with pytest.raises(StoreError, match=r"jobs\.json: Permission denied"):
        fresh.add([make_job("b")])
    fresh.close()


def test_a_full_disk_refuses_the_change_and_leaves_everything_as_it_was(tmp_path):
    store = FileStore(str(tmp_path / "queue"))
    store.add([make_job("a")])
    before = tree(store.folder)
    held = store.get("a")
    for deed in (
        lambda: store.add([make_job("b", command="x" * 5000)]),
        lambda: put(store, held._replace(rev=2, state="dead")),
        lambda: store.remove([held.id]),
        lambda: configure(store, {"base": 3}),
        lambda: store.fold(),
    ):
        with failing_disk(1, "full"), pytest.raises(DiskRefused, match="No space left") as caught:
            deed()
        assert caught.value.exit_code == 5
    found = tree(store.folder)
    assert {path: found[path] for path in before} == before
    assert [job.id for job in store.find()] == ["a"]
    store.add([make_job("b")])
    assert store.check() == []
    store.close()


def test_a_file_that_may_not_be_replaced_is_refused_and_nothing_is_left_beside_it(
    tmp_path, monkeypatch
):
    def refuse(_, new):
        raise PermissionError(errno.EPERM, "Operation not permitted", new)  # as of `chattr +i`

    store = FileStore(str(tmp_path / "queue"))
    store.add([make_job("a")])
    for deed in (lambda: configure(store, {"base": 3}), store.fold):
        with monkeypatch.context() as refusing:
            refusing.setattr(os, "rename", refuse)
            with pytest.raises(DiskRefused, match="Operation not permitted"):
                deed()
        assert not [name for name in os.listdir(store.folder) if name.endswith(".new")]
    store.close()


def test_a_queue_that_is_made_while_somebody_looks_has_lost_nothing(tmp_path, monkeypatch):
    (tmp_path / ".queuectl").write_bytes(b'{"format": 1}\n')
    store, exists = FileStore(str(tmp_path)), os.path.lexists

    def slow(path):
        found = exists(path)
        monkeypatch.setattr(os.path, "lexists", exists)
        store.add([make_job("a")])
        return found

    monkeypatch.setattr(os.path, "lexists", slow)
    assert not marker.is_new(str(tmp_path))
    store.close()


def test_a_queue_that_is_made_between_two_looks_at_its_folder_is_one(data_dir, monkeypatch):
    FileStore(data_dir).add([make_job("a")])
    looks = iter([0, marker.FORMAT])
    monkeypatch.setattr(marker, "marked_format", lambda path: next(looks))
    assert marker.check_folder(data_dir)
    looks = iter([0, 0])
    with pytest.raises(StoreError, match="that is not queuectl's"):
        marker.check_folder(data_dir)
