"""The error for an unusable server: one line that says what to do."""

from __future__ import annotations

import socket
import struct
import threading

import pytest

bson = pytest.importorskip("bson")

from queuectl.addresses import Address
from queuectl.errors import StoreError
from queuectl.store.mongodb.connection import Connection
from queuectl.store.mongodb.mongodb_store import MongodbStore

_FINE = {"isWritablePrimary": True, "minWireVersion": 0, "maxWireVersion": 17, "ok": 1.0}
_SIZES = {"maxBsonObjectSize": 1 << 24, "maxMessageSizeBytes": 1 << 25, "maxWriteBatchSize": 1000}


@pytest.fixture
def pretended():
    """Makes a server that says of itself what it is told to; where it listens."""
    listeners = []

    def serve(one, hello):
        with one, one.makefile("rb") as asked:
            while head := asked.read(16):
                length, _, _, kind = struct.unpack("<iiii", head)
                asked.read(length - 16)
                document = bson.encode({**_FINE, **_SIZES, **hello})
                old = kind == 2004  # the driver's first question
                body = struct.pack("<iqii", 8, 0, 0, 1) if old else struct.pack("<IB", 0, 0)
                size = 16 + len(body) + len(document)
                head = struct.pack(
                    "<iiii", size, 1, struct.unpack("<iiii", head)[1], 2013 - 2012 * old
                )
                one.sendall(head + body + document)

    def accept(listener, hello):
        while True:
            try:
                one = listener.accept()[0]
            except OSError:
                return
            threading.Thread(target=serve, args=(one, hello), daemon=True).start()

    def start(**hello):
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)
        threading.Thread(target=accept, args=(listener, hello), daemon=True).start()
        return f"127.0.0.1:{listener.getsockname()[1]}"

    yield start
    for listener in listeners:
        listener.close()


_MEMBER = {"isWritablePrimary": False, "setName": "t", "hosts": ["db1.queue.invalid:1"]}


@pytest.mark.parametrize(
    ("hello", "options", "told"),
    [
        ({"maxWireVersion": 9}, "", "is older than MongoDB 5.0: update the server"),
        ({"maxWireVersion": 5}, "", "is older than MongoDB 5.0: update the server"),
        (
            {"isWritablePrimary": False, "isreplicaset": True},
            "",
            "belongs to a replica set that was not initiated yet: run rs.initiate() in mongosh, "
            "once",
        ),
        (
            {**_MEMBER, "secondary": True, "primary": "db1.queue.invalid:1"},
            "?directConnection=true",
            "is not the primary of its set, and directConnection=true lets nobody look for that: "
            "take it out of the URL",
        ),
        (
            {**_MEMBER, "isWritablePrimary": True, "me": "db1.queue.invalid:1"},
            "",
            "does not answer: Could not reach any servers in [('db1.queue.invalid', 1)]; a set "
            "must name its members so that each host finds them",
        ),
        (
            {},
            "?tls=true&tlsCAFile=/nowhere/ca.pem",
            "[Errno 2] The tlscafile file is not readable; look at the certificates that its URL "
            "names",
        ),
    ],
)
def test_a_server_that_cannot_be_used_is_told_in_one_line(pretended, hello, options, told):
    address = Address(f"mongodb://{pretended(**hello)}/q{options}")
    with pytest.raises(StoreError) as caught:
        _ = Connection(address, 1.5).client
    assert str(caught.value).removeprefix(address.name).removeprefix(":").strip() == told


def test_a_command_waits_once_for_a_server_that_does_not_answer(monkeypatch):
    now = [0.0]
    connection = Connection(Address("mongodb://127.0.0.1:9/q"), 0.2)
    with pytest.raises(StoreError, match="does not answer"):
        _ = connection.client
    connection._refused = (now[0], connection._refused[1])
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    monkeypatch.setattr(connection, "_connect", lambda: "connected")
    with pytest.raises(StoreError, match="does not answer"):
        _ = connection.client
    now[0] = 1.0
    assert connection.client == "connected"


def test_of_an_option_that_the_driver_does_not_know_a_line_is_told(url, tmp_path):
    address = Address(f"{url}?nonsense=1")
    store = MongodbStore(address, str(tmp_path))
    assert set(store.counts().values()) == {0}
    assert store.notices == [
        f"{address.name}: its URL has an option that the driver does not know and that is ignored"
    ]
    store.connection.close()


def test_the_workers_of_this_host_are_known_though_no_server_answers(tmp_path):
    """So that `worker stop` reaches them."""
    store = MongodbStore(Address("mongodb://127.0.0.1:9/q"), str(tmp_path))
    with pytest.raises(StoreError):
        store.workers()
    assert store.workers(here=True) == []
