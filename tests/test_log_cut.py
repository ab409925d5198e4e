"""Output longer than log-limit: its first half, a line, its last half, whatever is killed when."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import pytest

from queuectl.errors import DiskRefused, InvalidInput
from queuectl.model.job import Job
from queuectl.model.sizes import format_size, parse_size
from queuectl.store.facts import LATER, SOON
from queuectl.store.files import log_cut
from queuectl.store.files.logs import LogFolder, Spool
from tests.failing_disk import DEATHS, failing_disk

T = "2026-01-01T00:00:00.000000Z"
LIMIT = 2000
JOB = Job("a", "in_progress", 0, T, "true", 3, T, T, run=1, worker="w-1", log_word="rw")


def refuse(error: Exception) -> None:
    raise error


@pytest.fixture
def logs(tmp_path) -> LogFolder:
    return LogFolder(str(tmp_path))


@pytest.fixture
def spool(logs, monkeypatch) -> Iterator[Spool]:
    monkeypatch.setattr(log_cut, "free_of", lambda _fd: 1e12)
    spool = Spool(logs, "w-1")
    spool.limit_to(LIMIT)
    spool.begin(JOB)
    yield spool
    spool.close()


def lines(first: int, last: int) -> bytes:
    """Lines of ten bytes."""
    return b"".join(b"line %04d\n" % at for at in range(first, last))


def kept(logs: LogFolder) -> bytes:
    with open(logs.run_path(JOB), "rb") as file:
        return file.read()


def halves(data: bytes) -> tuple[bytes, str, bytes]:
    """Head, what is told of what is missing, and tail."""
    found = re.fullmatch(rb"(.*)\.\.\. about (\d[^\n]*) not kept \.\.\.\n(.*)", data, re.S)
    assert found, data
    return found[1], found[2].decode(), found[3]


CUT = {
    "once": [(0, 300)],
    "many times": [(0, 300), (300, 800), (800, 1200)],
    "and little after it": [(0, 300), (300, 310)],
    "and much after it": [(0, 300), (300, 450)],
}


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("written", CUT.values(), ids=CUT)
def test_the_log_is_head_line_and_tail(logs, spool, written, clean):
    for first, last in written:
        os.write(spool.fd, lines(first, last))
        spool.look(refuse)
        assert os.fstat(spool.fd).st_size <= LIMIT
    end = written[-1][1]
    assert b"".join(logs.output(JOB)) == (
        lines(0, 100)
        + f"... about {format_size(end * 10 - LIMIT)} not kept ...\n".encode()
        + lines(end - 100, end)
    )
    assert spool.reason() == f"line {end - 1:04d}"
    spool.finish(JOB, clean=clean)
    head, told, tail = halves(kept(logs))
    assert (head, tail) == (lines(0, 100), lines(end - 100, end))
    assert told == format_size(end * 10 - LIMIT)
    assert sorted(os.listdir(logs.path)) == ["a.1.rw.log", "w-1.spool"]


def test_a_run_that_ended_before_a_look_is_cut_too_and_a_short_one_is_whole(logs, spool):
    os.write(spool.fd, b"x" * 3000)
    spool.finish(JOB)
    assert kept(logs) == b"x" * 1000 + b"\n... about 1.0 KB not kept ...\n" + b"x" * 1000
    os.unlink(logs.run_path(JOB))
    os.write(spool.fd, lines(0, 200))
    assert spool.look(refuse) <= LATER
    spool.finish(JOB)
    assert kept(logs) == lines(0, 200)


def test_the_looks_come_as_fast_as_the_output_grows(spool):
    assert spool.look(refuse) == LATER
    os.write(spool.fd, lines(0, 190))
    assert spool.look(refuse) == SOON
    os.write(spool.fd, lines(190, 210))
    assert spool.look(refuse) == SOON
    spool.begin(JOB._replace(log_limit=0))
    os.write(spool.fd, lines(0, 900))
    assert spool.look(refuse) == LATER
    assert os.fstat(spool.fd).st_size == 9000


def test_a_process_that_may_still_write_has_the_log_as_its_output(logs, spool):
    late = os.dup(spool.fd)
    os.write(spool.fd, lines(0, 500))
    spool.finish(JOB, clean=False)
    os.write(late, b"late\n")
    os.close(late)
    assert halves(kept(logs))[2] == lines(400, 500) + b"late\n"


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("how", DEATHS)
def test_a_kill_at_any_step_leaves_what_the_log_is_made_of(tmp_path, how, clean):
    for at in range(1, 99):
        logs = LogFolder(str(tmp_path / f"{at}"))
        os.mkdir(tmp_path / f"{at}")
        spool = Spool(logs, "w-1")
        spool.limit_to(LIMIT)
        spool.begin(JOB)
        end, done = 300, False
        with failing_disk(at=at, how=how):
            os.write(spool.fd, lines(0, 300))
            spool.look(refuse)
            os.write(spool.fd, lines(300, end := 800))
            spool.look(refuse)
            os.write(spool.fd, lines(800, end := 850))
            spool.finish(JOB, clean=clean)
            done = True
        if done:
            spool.close()
            break
        if spool.is_ready:
            os.close(spool.fd)
        logs.rescue_spool("w-1", JOB, LIMIT)
        logs.drop_spool("w-1")
        head, told, tail = halves(kept(logs))
        assert (head, tail) == (lines(0, 100), lines(end - 100, end)), at
        assert told == format_size(end * 10 - LIMIT), at
        assert os.listdir(logs.path) == ["a.1.rw.log"], at
    assert at > 10


@pytest.mark.parametrize("left", [b"", b"\0" * 50, b"0" * 20 + b" 000"])
@pytest.mark.parametrize("part", ["next", "tail"])
def test_a_part_of_which_a_power_cut_left_little_is_passed_over(logs, spool, part, left):
    os.write(spool.fd, lines(0, 50))
    with open(f"{spool.path.removesuffix('spool')}{part}.spool", "wb") as file:
        file.write(left)
    assert b"".join(logs.output(JOB)) == lines(0, 50)
    logs.rescue_spool("w-1", JOB, LIMIT)
    logs.drop_spool("w-1")
    assert kept(logs) == lines(0, 50)


@pytest.mark.parametrize("ends", ["itself", "killed"])
def test_without_room_for_the_parts_the_first_half_stays(logs, spool, ends):
    os.write(spool.fd, lines(0, 300))
    told: list[Exception] = []
    with failing_disk(at=2, how="full", lasts=1):
        if ends == "itself":
            spool.look(told.append)
        else:
            logs.rescue_spool("w-1", JOB, LIMIT)
    if ends == "itself":
        assert [type(one) for one in told] == [DiskRefused]
        os.write(spool.fd, b"and on\n")
        spool.look(refuse)
        spool.finish(JOB)
    line = b"... about 2.0 KB not kept: the disk was full ...\n"
    assert kept(logs) == lines(0, 100) + line + b"and on\n" * (ends == "itself")


def test_on_a_small_disk_less_is_kept_and_looked_at_sooner(logs, spool, monkeypatch):
    monkeypatch.setattr(log_cut, "_LEAST", 50)
    monkeypatch.setattr(log_cut, "free_of", lambda fd: 2000 - os.fstat(fd).st_size)
    assert spool.look(refuse) == SOON
    os.write(spool.fd, lines(0, 90))
    spool.look(refuse)
    spool.finish(JOB)
    assert halves(kept(logs)) == (lines(0, 25), "400 bytes", lines(65, 90))
    monkeypatch.setattr(log_cut, "free_of", lambda fd: 0)
    monkeypatch.setattr(log_cut, "_LEAST", 60)  # whatever is free
    spool.begin(JOB)
    os.write(spool.fd, b"x" * 50)
    spool.look(refuse)
    spool.finish(second := JOB._replace(run=2))
    assert os.path.getsize(logs.run_path(second)) == 50


def test_following_goes_on_behind_a_cut_and_shows_the_end_once(logs, spool):
    steps = [
        lambda: os.write(spool.fd, lines(0, 300)),
        lambda: spool.look(refuse),
        lambda: os.write(spool.fd, lines(300, 310)),
        lambda: (os.write(spool.fd, lines(310, 320)), spool.finish(JOB)),
    ]
    state = [JOB]

    def wait(_seconds: float) -> None:
        steps.pop(0)()
        if not steps:
            state[0] = JOB._replace(state="completed")

    shown = logs.follow(lambda: state[0], wait, lambda _run: None, lambda _job: None)
    assert b"".join(shown) == (
        lines(0, 300) + b"\n... some output not kept ...\n" + lines(300, 320)
    )


def test_following_a_run_that_was_cut_at_its_end_only_shows_all_of_it(logs, spool):
    state = [JOB]

    def wait(_seconds: float) -> None:
        os.write(spool.fd, lines(0, 300))
        spool.finish(JOB)
        state[0] = JOB._replace(state="completed")

    shown = logs.follow(lambda: state[0], wait, lambda _run: None, lambda _job: None)
    assert b"".join(shown) == lines(0, 300)


@pytest.mark.parametrize(
    ("text", "size"), [("1500", 1500), ("100MB", 10**8), ("1.5 gb", 15 * 10**8), ("2KiB", 2048)]
)
def test_sizes_are_read(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MB", "1.2.3", "5 parrots", "-1", "inf"])
def test_a_text_that_is_not_a_size_is_refused(text):
    with pytest.raises(InvalidInput, match="not a size like"):
        parse_size(text)
