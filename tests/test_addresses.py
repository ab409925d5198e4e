"""How a queue in MongoDB is named, and that its password is never shown; needs no server."""

from __future__ import annotations

import os

import pytest

from queuectl import addresses
from queuectl.addresses import Address, address_of, find_address
from queuectl.errors import InvalidInput, StoreError
from queuectl.job_queue import JobQueue
from queuectl.places import is_address
from queuectl.store import opening
from queuectl.store.mongodb.host import forget_secret, make_host_folder
from queuectl.worker import pool
from queuectl.worker.runner import Runner
from queuectl.worker.wakeups import Wakeups
from tests.memory_store import MemoryStore

SECRET = "mongodb://ann:s3cr%40t@db1:27017,db2/jobs?tls=true&tlsCertificateKeyFilePassword=hidden"


@pytest.fixture
def environ(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return {"XDG_STATE_HOME": str(tmp_path / "state")}


def test_a_queue_in_mongodb_is_told_from_a_folder_by_its_name():
    urls = ("mongodb://h/d", "mongodb+srv://h", "mongodb", "@file")
    assert all(map(is_address, urls))
    assert not any(map(is_address, ("./mongodb", "data", "", "mongodb/", "redis://h", "/a@b")))


def test_the_name_has_neither_password_nor_options():
    address = Address(SECRET)
    assert address.name == "mongodb://ann@db1:27017,db2/jobs"
    assert (address.url, address.database, address.has_secret) == (SECRET, "jobs", True)
    assert not Address("mongodb://h/d").has_secret


@pytest.mark.parametrize(
    "url", ["mongodb://h", "mongodb://h/", "mongodb+srv://h/?retryWrites=true"]
)
def test_without_a_name_the_database_is_queuectl(url):
    address = Address(url)
    assert address.database == "queuectl"
    assert address.url.startswith(f"{url.partition('://')[0]}://h/queuectl")


def test_a_database_that_cannot_be_a_queue_is_refused_before_it_is_asked():
    assert Address("mongodb://h/my%C3%A4").database == "my\u00e4"
    for name in ("admin", "local", "config"):
        with pytest.raises(StoreError, match=f"^database '{name}' is MongoDB's own: name another"):
            Address(f"mongodb://h/{name}?tls=true")
    for name in ("a.b", "a%2Eb", "a%20b", "a$b", "a/b", "x" * 64):
        with pytest.raises(StoreError, match=r"^a database of MongoDB cannot be named '"):
            Address(f"mongodb://h/{name}")


@pytest.mark.parametrize(
    "url",
    [
        "mongodb://u:s3cr@t@h/d",
        "mongodb://u:s3c/r@h/d",
        "mongodb://u:s3c?r@h",
        "mongodb://u:s3c#@h",
        "mongodb://u:s3c50%@h",
    ],
)
def test_a_password_that_is_not_spelled_as_a_url_wants_it_is_refused_unseen(url):
    with pytest.raises(InvalidInput, match="%40 %2F %3F %23") as refused:
        Address(url)
    assert "s3c" not in str(refused.value)


def test_a_secret_is_hidden_in_every_spelling():
    told = f"cannot use {SECRET}: s3cr%40t, s3cr@t, hidden"
    assert Address(SECRET).cleaned(told) == "cannot use ***: ***, ***, ***"


@pytest.mark.parametrize("password", ["a", "ask", "db1", "jobs"])
def test_a_password_that_cannot_be_told_from_words_leaves_them_whole(password):
    address = Address(f"mongodb://ann:{password}@db1/jobs?tlsCertificateKeyFilePassword=jobs")
    told = f"not authorized to ask jobs of db1; ann:{password}@db1 {address.url}"
    assert address.cleaned(told) == "not authorized to ask jobs of db1; ann***db1 ***"


def test_a_file_with_the_url_is_for_its_owner_alone(environ, tmp_path):
    path = tmp_path / "url"
    path.write_text(SECRET + "\n")
    path.chmod(0o640)
    with pytest.raises(StoreError, match="others may use it: chmod 600"):
        find_address(f"@{path}", environ)
    path.chmod(0o600)
    found = find_address("@url", environ)
    assert (found.url, found.path) == (SECRET, str(path))
    path.write_text("mongodb://a\nmongodb://b\n")
    with pytest.raises(StoreError, match="should hold one URL and nothing else"):
        find_address(f"@{path}", environ)
    path.write_text(f"\ufeff{SECRET}\n")
    assert find_address(f"@{path}", environ).url == SECRET
    path.unlink()
    os.mkfifo(path, 0o600)
    with pytest.raises(StoreError, match="is not a plain file"):
        find_address(f"@{path}", environ)
    with pytest.raises(StoreError, match="gone should hold the URL of the queue: No such file"):
        find_address("@gone", environ)


@pytest.mark.parametrize(
    "line",
    [
        "MONGO_URI=mongodb://env/d",
        "export MONGO_URI = 'mongodb://env/d'  ",
        "export\tMONGO_URI=mongodb://env/d\t# the queue\r",
        '#MONGO_URI=no\nMONGO_URI="mongodb://env/d" # the queue',
    ],
)
def test_mongodb_alone_takes_mongo_uri(environ, tmp_path, line):
    with pytest.raises(InvalidInput, match="takes its URL from MONGO_URI"):
        find_address("mongodb", environ)
    for before in ("# a comment\nOTHER=1\n", "\ufeff"):
        (tmp_path / ".env").write_text(f"{before}{line}\n")
        assert find_address("mongodb", environ).name == "mongodb://env/d"
    (tmp_path / ".env").unlink()
    os.mkfifo(tmp_path / ".env")
    with pytest.raises(InvalidInput, match="takes its URL from MONGO_URI"):
        find_address("mongodb", environ)
    named = {**environ, "MONGO_URI": "mongodb://own/d"}
    assert find_address("mongodb", named).name == "mongodb://own/d"
    # A MONGO_URI that happens to be set changes nothing otherwise.
    assert opening.find(str(tmp_path / "q"), named) == str(tmp_path / "q")


def test_a_host_folder_stands_for_the_queue_without_telling_the_password(environ, tmp_path):
    folder = opening.find(SECRET, environ)
    assert folder.startswith(str(tmp_path / "state" / "queuectl" / "mongodb"))
    assert not os.path.exists(folder)
    assert "s3cr" not in folder
    assert (address_of(folder).url, opening.name_of(folder)) == (SECRET, Address(SECRET).name)
    assert opening.find("mongodb://ann:new@db1:27017,db2/jobs", environ) == folder
    assert opening.find("mongodb://db1/other", environ) != folder


def test_a_variable_with_the_password_of_the_queue_gets_to_no_worker_and_no_job(
    environ, monkeypatch
):
    folder = opening.find("mongodb", {**environ, "MONGO_URI": SECRET})
    monkeypatch.setenv("MONGO_URI", SECRET)
    monkeypatch.setenv("QUEUECTL_DATA", SECRET)
    assert not {"MONGO_URI", "QUEUECTL_DATA"} & pool.command(folder)[1].keys()
    with Wakeups(detached=True) as wakeups:
        runner = Runner("w", folder, "1:2", wakeups)
        assert b"MONGO_URI" not in runner._environment
        runner.close()
    queue = JobQueue(MemoryStore(folder))
    queue.change_settings({"inherit-env": ["all"]})
    taken = queue.taken_along({"MONGO_URI": SECRET, "OTHER": "kept"}, 0o022)
    assert taken["env"] == {"OTHER": "kept"}
    monkeypatch.setenv("MONGO_URI", "mongodb://ann:other@h/d")  # that of another program
    assert "MONGO_URI" in pool.command(folder)[1]


def test_another_process_finds_the_queue_by_the_host_folder(tmp_path, monkeypatch):
    def address_of(folder):
        monkeypatch.setattr(addresses, "_given", {})
        return addresses.address_of(folder)

    folder = str(tmp_path / "host")
    assert address_of(folder) is None
    make_host_folder(folder, Address(SECRET))
    assert os.stat(folder).st_mode & 0o777 == 0o700
    assert os.stat(os.path.join(folder, "mongodb")).st_mode & 0o777 == 0o600
    assert address_of(folder).url == SECRET
    forget_secret(folder, Address(SECRET))
    assert address_of(folder).url == Address(SECRET).name
    path = tmp_path / "my url"
    path.write_text(SECRET.replace("s3cr", "new"))
    path.chmod(0o600)
    make_host_folder(folder, Address(SECRET, str(path)))
    forget_secret(folder, Address(SECRET, str(path)))
    assert address_of(folder).url == SECRET.replace("s3cr", "new")
    path.write_text(SECRET.replace("/jobs", "/others"))
    with pytest.raises(StoreError, match=r"my url names .*/others by now, and not .*/jobs: say"):
        address_of(folder)
