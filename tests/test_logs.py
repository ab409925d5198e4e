"""Where output lies, what of it is shown, and whose it is."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest
from samples import read

from queuectl.errors import DiskRefused
from queuectl.model.job import Job
from queuectl.model.log_words import one_line
from queuectl.store.door import above_standard
from queuectl.store.files.logs import LogFolder, Spool, named_run

T = "2026-01-01T00:00:00.000000Z"


def make_job(
    job_id: str = "a", state: str = "in_progress", run: int = 1, word: str | None = "rw"
) -> Job:
    return Job(job_id, state, 0, T, "true", 3, T, T, run=run, worker="w-1", log_word=word)


def path_of(logs: LogFolder, job_id: str, run: int, word: str | None = "rw") -> str:
    return logs.run_path(make_job(job_id, run=run, word=word))


@pytest.fixture
def logs(tmp_path) -> LogFolder:
    return LogFolder(str(tmp_path))


@pytest.fixture
def spool(logs) -> Iterator[Spool]:
    spool = Spool(logs, "w-1")
    yield spool
    spool.close()


def keep(logs: LogFolder, job_id: str, run: int, data: bytes) -> None:
    logs.make()
    with open(path_of(logs, job_id, run), "wb") as file:
        file.write(data)


def test_output_gets_the_name_of_its_run(logs, spool):
    os.write(spool.fd, b"hello\n")
    spool.finish(make_job("a", run=2))
    assert read(path_of(logs, "a", 2)) == b"hello\n"
    assert os.stat(path_of(logs, "a", 2)).st_mode & 0o777 == 0o600
    assert os.stat(logs.path).st_mode & 0o777 == 0o700


def test_a_run_without_output_leaves_no_log_and_costs_no_file(logs, spool):
    before = spool.fd
    spool.finish(make_job("a", run=1))
    assert os.listdir(logs.path) == ["w-1.spool"]
    assert spool.fd == before


def test_the_next_runs_output_is_its_own(logs, spool):
    os.write(spool.fd, b"first\n")
    spool.finish(make_job("a", run=1))
    os.write(spool.fd, b"second\n")
    spool.finish(make_job("b", run=1))
    assert read(path_of(logs, "a", 1)) == b"first\n"
    assert read(path_of(logs, "b", 1)) == b"second\n"


def test_a_log_folder_removed_by_a_person_is_made_again(logs, spool):
    os.write(spool.fd, b"gone\n")
    os.unlink(spool.path)
    os.rmdir(logs.path)
    spool.finish(make_job("a", run=1))
    os.write(spool.fd, b"here\n")
    spool.finish(make_job("a", run=2))
    assert read(path_of(logs, "a", 2)) == b"here\n"


def test_output_that_cannot_be_named_does_not_reach_the_next_run(logs, spool):
    os.write(spool.fd, b"first\n")
    os.mkdir(path_of(logs, "a", 1))
    with pytest.raises(DiskRefused, match=r"a\.1\.rw\.log"):
        spool.finish(make_job("a", run=1))
    os.write(spool.fd, b"second\n")
    spool.finish(make_job("b", run=1))
    assert read(path_of(logs, "b", 1)) == b"second\n"


def test_a_closed_spool_leaves_nothing(logs):
    Spool(logs, "w-2").close()
    assert os.listdir(logs.path) == []


@pytest.mark.parametrize(
    ("written", "line"),
    [
        (b"", ""),
        (b"\n \n", ""),
        (b"one\ntwo\n\n", "two"),
        (b"no newline", "no newline"),
        (b"\x1b[31mred\x1b[0m\ttab\x00\n", "red tab"),
        (b"\x1b]0;title\x07\x1b(B\xc2\x9b1mbold \x1bcend\x0e\n", "bold end"),
        (b"".join(b"\r%d%%" % at for at in range(900)) + b"\rERROR: no space\n", "ERROR: no space"),
        (b"10%\r100%\r\n", "100%"),
        (b"the reason\n10%\r100%\r    \r", "the reason"),
        (b"the reason\r\n50%\r\x1b[2K\r\n", "the reason"),
        (b"\xff\xfe broken\n", "\ufffd\ufffd broken"),
        ("ünï 日本\n".encode(), "ünï 日本"),
        ("é".encode() * 5000, "…" + "é" * 199),
        (b"x" * 5000, "…" + "x" * 199),
        (b"before\n" + b"y" * 5000 + b" the end\n", "…" + "y" * 191 + " the end"),
    ],
)
def test_the_last_line_is_made_fit_to_show(spool, written, line):
    os.write(spool.fd, written)
    assert spool.reason() == line


MAKE = """make: Entering directory '/p'
cc -Wall -Werror -c -o error.o error.c
a.c:1:14: error: unknown type name 'retrun'
    1 | int a(void){ retrun 1; }
      |              ^~~~~~
%scc -c -o c.o c.c
make[1]: *** [Makefile:3: a.o] Error 1
make: *** Waiting for unfinished jobs....
make: Leaving directory '/p'
"""
NODE = (
    "x.js:1\nthrow new Error('boom')\n^\n\nError: boom\n    at X (/x.js:1:7)\n    at node:a/b:23:47"
)
JAVA = (
    'Exception in thread "main" E: x\n\tat A.b(A.java:3)\nCaused by: IOException: y\n\t... 9 more'
)


@pytest.mark.parametrize(
    ("written", "line"),
    [
        (MAKE % "", "a.c:1:14: error: unknown type name 'retrun'"),
        (MAKE % "ld: cannot find -lz\n", "ld: cannot find -lz"),
        ("sh build.sh\ncp: h is away\nmake: *** [M:2: p] Error 1\n", "cp: h is away"),
        (
            "make: *** No rule for 'x'.  Stop.\nmake: Leaving '/'",
            "make: *** No rule for 'x'. Stop.",
        ),
        ("make: *** [M:2: p] Error 1\n", "make: *** [M:2: p] Error 1"),
        (
            "a.c:1: fatal error: z.h: away\n 1 | #i\n   | ^\ncompilation terminated.",
            "a.c:1: fatal error: z.h: away",
        ),
        (NODE + "\n\nNode.js v18.19.0\n", "Error: boom"),
        ("ld: away -lz\ncollect2: error: ld returned 1 exit status\nmake: *** E\n", "ld: away -lz"),
        ("a.c:1: error: b\n 1 | x\n   | ^\n   | ;\n", "a.c:1: error: b"),
        (JAVA, "Caused by: IOException: y"),
        (
            "x.rb:1:in 'f': boom (RuntimeError)\n\tfrom x.rb:3:in 'm'\n",
            "x.rb:1:in 'f': boom (RuntimeError)",
        ),
        ("tar: q: Cannot stat\nb\ntar: Exiting with failure status", "tar: q: Cannot stat"),
        ("an error: once\nepoch 3\nout of cheese\n", "out of cheese"),
        ("an error: once\nat least 3 GB are needed\n", "at least 3 GB are needed"),
        ("an error: once\nat home (soon)\n", "at home (soon)"),
        ("| an error |\n| 3 |\n", "| 3 |"),
    ],
)
def test_under_the_closing_words_of_a_tool_the_reason_is_looked_for(spool, written, line):
    os.write(spool.fd, written.encode())
    assert spool.reason() == line


def test_one_line_is_cut_to_width():
    assert one_line("a\nb\r\n\tc", 3) == "a b"


def test_runs_are_those_of_exactly_this_id(logs):
    for job_id, run in (("a", 1), ("a", 12), ("a.1", 2), ("a.1.2", 3), ("ab", 4), ("a-b", 5)):
        keep(logs, job_id, run, b"x")
    for name in ("w-1.spool", "worker-w-1.log", "a.x.log", "a..log", "a.1", "a.²" + ".log"):
        with open(os.path.join(logs.path, name), "wb"):
            pass
    runs = [("a", 1), ("a", 12), ("a-b", 5), ("a.1", 2), ("a.1.2", 3), ("ab", 4)]
    assert sorted(logs.all_runs()) == [(*run, "rw") for run in runs]


def test_pruning_takes_all_logs_of_those_jobs_and_no_others(logs):
    for job_id, run in (("a", 1), ("a", 2), ("a.1", 1), ("b", 1)):
        keep(logs, job_id, run, b"x")
    logs.prune([make_job("a", "completed"), make_job("gone", "completed")])
    assert sorted(os.listdir(logs.path)) == ["a.1.1.rw.log", "b.1.rw.log"]


def test_no_job_is_shown_the_output_of_another_that_had_its_id(logs):
    keep(logs, "a", 1, b"of the first a\n")
    for word in (None, "rx"):
        for job in (make_job(state="completed", word=word), make_job(word=word)):
            assert list(logs.output(job)) == []
            assert list(logs.tail(job, 5)) == []
            assert logs.end(job, 100) == b""


def test_no_run_is_shown_the_output_of_another_that_had_its_number(logs, spool):
    keep(logs, "a", 2, b"of the second run before a backup of the first one came back\n")
    spool.begin(make_job(run=2))
    assert list(logs.output(make_job(run=2))) == []
    spool.finish(make_job(run=2))
    assert list(logs.output(make_job(state="completed", run=2))) == []


def test_pruning_leaves_the_output_of_a_later_job_with_the_id_and_takes_that_of_an_earlier(logs):
    for word in ("rw", "rearlier", "rlater"):
        os.makedirs(logs.path, exist_ok=True)
        with open(path_of(logs, "a", 1, word), "wb"):
            pass
    os.utime(path_of(logs, "a", 1, "rearlier"), (1e9, 1e9))
    logs.prune([make_job("a", "completed")])
    assert os.listdir(logs.path) == ["a.1.rlater.log"]


def test_the_name_of_a_log_tells_job_run_and_word():
    assert named_run("a.1.log") == ("a", 1, None)
    assert named_run("a.1.rw.log") == ("a", 1, "rw")
    assert named_run("a.5.3.log") == ("a.5", 3, None)
    assert named_run("a.5.w.7.log") == ("a.5.w", 7, None)
    assert named_run("a.5.w.7.rx.log") == ("a.5.w", 7, "rx")
    for name in ("worker-w-1.log", "a.rw.log", ".1.log", "a.1.rw", "w.spool", ".log"):
        assert named_run(name) is None


def test_without_a_folder_there_is_nothing(logs):
    job = make_job(state="completed")
    assert list(logs.all_runs()) == []
    assert list(logs.output(job)) == []
    assert list(logs.tail(job, 5)) == []
    logs.prune([make_job()])
    logs.rescue_spool("w-1", make_job())


def test_a_finished_runs_output_is_read_from_its_log(logs):
    keep(logs, "a", 1, b"old\n")
    keep(logs, "a", 2, b"new\n")
    job = make_job(state="failed", run=2)
    assert b"".join(logs.output(job)) == b"new\n"
    assert b"".join(logs.output(job, 1)) == b"old\n"
    assert list(logs.output(job, 3)) == []


def test_a_running_runs_output_is_read_from_the_spool(logs, spool):
    keep(logs, "a", 1, b"old\n")
    os.write(spool.fd, b"now\n")
    job = make_job(run=2)
    assert b"".join(logs.output(job)) == b"now\n"
    assert b"".join(logs.output(job, 1)) == b"old\n"


@pytest.mark.parametrize(
    ("written", "lines", "shown"),
    [
        (b"a\nb\nc\n", 2, b"b\nc\n"),
        (b"a\nb\nc", 2, b"b\nc"),
        (b"a\nb\nc", 1, b"c"),
        (b"a\nb\n", 9, b"a\nb\n"),
        (b"a\nb\n", 0, b""),
        (b"", 3, b""),
        (b"\n\n\n", 2, b"\n\n"),
        (b"x" * 200_000 + b"\n" + b"y" * 200_000 + b"\n", 1, b"y" * 200_000 + b"\n"),
        (b"line\n" * 50_000, 20_000, b"line\n" * 20_000),
    ],
)
def test_the_tail_is_the_last_lines(logs, written, lines, shown):
    keep(logs, "a", 1, written)
    assert b"".join(logs.tail(make_job(state="completed"), lines)) == shown


def test_a_dead_workers_spool_becomes_the_log_of_its_run(logs, spool):
    os.write(spool.fd, b"last words\n")
    logs.rescue_spool("w-1", make_job(run=3))
    assert read(path_of(logs, "a", 3)) == b"last words\n"
    assert not os.path.exists(spool.path)


@pytest.mark.parametrize("left", [b"", b"left\n"])
def test_a_dead_workers_spool_overwrites_no_log(logs, spool, left):
    keep(logs, "a", 3, b"kept\n")
    os.write(spool.fd, left)
    logs.rescue_spool("w-1", make_job(run=3))
    assert read(path_of(logs, "a", 3)) == b"kept\n"


class Scene:
    """A job whose life goes on one step each time somebody looks or waits."""

    def __init__(self, *steps: object) -> None:
        self.steps = list(steps)
        self.job = make_job()

    def look(self) -> Job:
        while self.steps:
            step = self.steps.pop(0)
            if isinstance(step, Job):
                self.job = step
                break
            step()
        return self.job


def follow(logs: LogFolder, scene: Scene, wait=lambda _seconds: None) -> Iterator[bytes]:
    return logs.follow(scene.look, wait, lambda _run: None, lambda _job: None)


def test_following_shows_the_spool_and_then_the_rest(logs, spool):
    running = make_job()

    def write(text: bytes) -> None:
        os.write(spool.fd, text)

    scene = Scene(
        running,
        running,
        lambda: write(b"one\n"),
        running,
        lambda: write(b"two\n"),
        running,
        lambda: (write(b"three\n"), spool.finish(make_job("a", run=1))),
        make_job(state="completed"),
    )
    shown = list(follow(logs, scene))
    assert b"".join(shown) == b"one\ntwo\nthree\n"
    assert shown[0] == b"one\n"


def test_following_a_silent_run_never_shows_the_next_ones_output(logs, spool):
    def next_job_writes() -> None:
        spool.finish(make_job("a", run=1))
        os.write(spool.fd, b"not yours\n")

    scene = Scene(make_job(), make_job())
    waits = []

    def wait(_seconds: float) -> None:
        waits.append(1)
        next_job_writes()
        scene.job = make_job(state="completed")

    assert list(follow(logs, scene, wait)) == []
    assert waits == [1]


def test_following_goes_on_with_the_next_run(logs, spool):
    os.write(spool.fd, b"first\n")

    def again() -> None:
        spool.finish(make_job("a", run=1))
        os.write(spool.fd, b"second\n")

    def end() -> None:
        spool.finish(make_job("a", run=2))

    failed, second = make_job(state="failed"), make_job(run=2)
    steps = (make_job(), make_job(), again, failed, failed, failed, second, second, end)
    scene = Scene(*steps, make_job(state="completed", run=2))
    told: list[object] = []
    shown = logs.follow(scene.look, lambda _seconds: None, told.append, told.append)
    assert [*shown] == [b"first\n", b"second\n"]
    assert told == [1, failed, 2]


def test_following_shows_runs_that_came_and_went_between_two_looks(logs):
    for run in (1, 2, 3):
        keep(logs, "a", run, b"%d\n" % run)
    told: list[object] = []
    failed, dead = make_job(state="failed"), make_job(state="dead", run=3)
    scene = Scene(failed, failed, dead)
    shown = logs.follow(scene.look, lambda _seconds: None, told.append, told.append)
    assert b"".join(shown) == b"1\n2\n3\n"
    assert told == [1, failed, 2, 3]
    scene = Scene(dead)
    shown = logs.follow(scene.look, lambda _: None, told.append, told.append)
    assert b"".join(shown) == b"3\n"
    shown = logs.follow(scene.look, lambda _: None, told.append, told.append, shown=1)
    assert b"".join(shown) == b"2\n3\n"


def test_following_waits_for_the_first_run(logs):
    keep(logs, "a", 1, b"done\n")
    waiting = make_job(state="pending", run=0)
    scene = Scene(waiting, waiting, make_job(state="completed"))
    assert b"".join(follow(logs, scene)) == b"done\n"


def test_following_a_job_that_will_never_run_ends(logs):
    cancelled = make_job(state="cancelled", run=0)
    assert list(follow(logs, Scene(cancelled))) == []


def test_descriptors_for_children_lie_above_the_standard_ones():
    low = os.open(os.devnull, os.O_RDONLY)
    assert above_standard(low) == low
    kept = os.dup(0)
    try:
        os.close(0)
        zero = os.open(os.devnull, os.O_RDONLY)
        assert zero == 0
        high = above_standard(zero)
        assert high > 2
        assert not os.get_inheritable(high)
        os.close(high)
    finally:
        os.dup2(kept, 0)
        os.close(kept)
        os.close(low)


# -- what goes on after its run


def test_a_process_that_may_still_write_keeps_its_log_though_that_is_empty(logs, spool):
    late = os.dup(spool.fd)
    spool.finish(make_job("a"), clean=False)
    os.write(spool.fd, b"of b\n")
    os.write(late, b"late\n")
    os.close(late)
    spool.finish(make_job("b"))
    assert read(logs.run_path(make_job("a"))) == b"late\n"
    assert read(logs.run_path(make_job("b"))) == b"of b\n"


def test_a_process_that_inherited_the_output_holds_it(logs):
    job, spool = make_job("a"), Spool(logs, "w-1")
    writer = subprocess.Popen(["sleep", "60"], stdout=spool.fd)
    try:
        os.close(spool.fd)  # as when the worker dies
        assert logs.is_held("w-1", [job])
        os.rename(logs.spool_path("w-1"), logs.run_path(job))
        assert logs.is_held("w-1", [job])
    finally:
        writer.kill()
        writer.wait()
    assert not logs.is_held("w-1", [job])
