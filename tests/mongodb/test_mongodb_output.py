"""Output in pieces: any part of it is read without the rest, whatever is missing between."""

from __future__ import annotations

import os

import pytest

pytest.importorskip("pymongo")

from samples import make_job

from queuectl.errors import StoreError
from queuectl.store.files.log_cut import MISSING
from queuectl.store.files.printed import PIECE
from queuectl.store.mongodb.output import Pieces, Sender

JOB = make_job("a", state="completed", run=1, log_word="w")


@pytest.fixture
def pieces(store):
    store.make()  # else what is sent makes a database that is not a queue
    return Pieces(store.connection)


def test_of_a_part_of_long_output_no_more_than_that_is_fetched(store, pieces, database):
    text = os.urandom(3 * PIECE + 100)
    pieces.send("a.1.w.log", JOB, 0, text, promised=True)
    database.command("profile", 2)
    log = store.output.open(JOB)
    got = [log.read(begin, most) for begin, most in ((0, 1), (PIECE - 2, 4), (3 * PIECE, 999))]
    lines = b"".join(store.output.tail(JOB, 1))
    database.command("profile", 0)
    found = list(database.system.profile.find({"ns": f"{database.name}.logs"}))
    database.system.profile.drop()
    assert log.size == len(text)
    assert got == [text[:1], text[PIECE - 2 : PIECE + 2], text[3 * PIECE :]]
    assert text.endswith(lines)
    assert sum(one["nreturned"] for one in found) < 16
    assert sum(one["responseLength"] for one in found) < 6 * PIECE
    assert b"".join(store.output.output(JOB)) == text


@pytest.mark.parametrize("thinned", [True, False])
def test_what_is_missing_of_output_is_told_in_each_part_of_it(store, pieces, thinned):
    for at, data in ((0, b"abc"), (3, b"de"), (90, b"fgh"), (93, b"i")):
        pieces.send("a.1.w.log", JOB, at, data, promised=True, thinned=thinned and at > 3)
    told = MISSING if thinned else b"\n" * 85
    whole, log = b"abcde" + told + b"fghi", store.output.open(JOB)
    assert log.size == len(whole)
    for begin in range(len(whole) + 1):
        for most in (1, 4, 60, 200):
            assert log.read(begin, most) == whole[begin : begin + most]
    assert b"".join(store.output.output(JOB)) == whole


def test_a_run_that_prints_little_has_few_pieces(store, pieces, database, tmp_path):
    sender, path = Sender(pieces), tmp_path / "a.1.w.log"
    with open(path, "wb", buffering=0) as spool, open(path, "rb") as file:
        sender._job, sender._name, sender._fd = JOB, path.name, file.fileno()
        for number in range(20):
            spool.write(b"%02d\n" % number)
            assert sender._send_on()
            assert not sender._send_on()
        assert database.logs.count_documents({}) == 1
        spool.write(b"x" * 30_000)
        assert sender._send_on()
        spool.write(b"y")
        assert sender._send_on()
        spool.write(b"z")
    assert database.logs.count_documents({}) == 2
    text = path.read_bytes()
    database.logs.delete_one({"at": 0})  # a new primary has not got it
    sender.send_file(JOB, str(path))
    assert b"".join(store.output.output(JOB)) == text


def test_what_could_not_be_sent_is_sent_later_though_nothing_runs(
    store, pieces, database, monkeypatch
):
    database.workers.insert_one({"_id": "w"})
    spool = store.output.spool("w")
    with monkeypatch.context() as patch:
        patch.setattr(Pieces, "send", unanswered)
        spool.begin(JOB)
        os.write(spool.fd, b"text\n")
        with pytest.raises(StoreError):
            spool.finish(JOB)
        spool.make_ready()
    assert pieces.printed("a.1.w.log") is None
    spool.make_ready()
    assert b"".join(store.output.output(JOB)) == b"text\n"
    spool.close()


def test_no_run_is_shown_the_output_of_another_that_had_its_number(store, pieces, database):
    database.workers.insert_one({"_id": "w"})
    second = JOB._replace(run=2)
    for text in (b"", b"new\n"):
        pieces.keep("a.2.w.log", second, [b"of a run before a backup came back\n" * 9000])
        spool = store.output.spool("w")
        spool.begin(second)
        os.write(spool.fd, text)
        spool.finish(second)
        assert b"".join(store.output.output(second)) == text
        spool.close()


def test_what_a_worker_prints_that_was_declared_lost_is_refused(
    store, pieces, database, monkeypatch
):
    monkeypatch.setattr("queuectl.store.mongodb.output._TRUSTED", 0.0)
    database.workers.insert_one({"_id": "w"})
    spool = store.output.spool("w")
    spool.begin(JOB)
    os.write(spool.fd, b"before\n")
    with spool._sender._sending:  # its thread looks, too
        spool._sender._send_on()
    database.workers.update_one({}, {"$set": {"lost": True}})
    os.write(spool.fd, b"after\n")
    assert not spool._sender._send_on()
    spool.finish(JOB)
    assert b"".join(store.output.output(JOB)) == b"before\n"
    spool.close()
    assert os.listdir(store.output.path) == []


def test_whether_a_worker_is_lost_is_not_asked_for_each_piece(store, pieces, database, monkeypatch):
    monkeypatch.setattr("queuectl.store.mongodb.output.clock", lambda: 5000.0)
    database.workers.insert_one({"_id": "w"})
    asked = []
    spool = store.output.spool("w")
    monkeypatch.setattr(spool._sender._pieces, "is_lost", lambda worker: asked.append(worker))
    spool.begin(JOB)
    os.write(spool.fd, b"x" * (5 * PIECE))
    with spool._sender._sending:  # its thread looks, too
        while spool._sender._send_on():
            pass
    assert len(asked) == 1
    spool.finish(JOB)  # what is left of a run is sent once, so it asks once more
    assert len(asked) == 2
    spool.close()
    assert b"".join(store.output.output(JOB)) == b"x" * (5 * PIECE)


def unanswered(*_args, **_how):
    raise StoreError("nobody answers")
