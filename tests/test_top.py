"""`top`: what it shows for which size of screen, what its keys do, and what it sends."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest
from prompt_toolkit.data_structures import Size
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput
from terminal import CTRL_C, ENTER, Terminal

from queuectl.job_queue import JobQueue
from queuectl.model.job import Job
from queuectl.model.lifecycle import Outcome
from queuectl.model.times import format_time
from queuectl.shell.toolbar import Standing
from queuectl.shell.top_feed import Feed, Picture
from queuectl.shell.top_screen import TopScreen
from queuectl.shell.top_table import View, log_screen, screen, time_of

NOW = 1_800_000_000.0
ESCAPE, DOWN, UP, END, HOME = "\x1b", "\x1b[B", "\x1b[A", "\x1b[F", "\x1b[H"


def at(seconds: float) -> str:
    return format_time(NOW + seconds)


def job(job_id: str, state: str = "pending", **fields: object) -> Job:
    usual = {"command": f"do {job_id}", "priority": 0, "run_at": at(-9), "max_retries": 3}
    times = {"created_at": at(-100), "updated_at": at(-90), "started_at": at(-70)}
    return Job(**{"id": job_id, "state": state, **usual, **times, **fields})  # type: ignore[arg-type]


JOBS = (
    job("slow1", "in_progress", started_at=at(-125)),
    job("next1"),
    job("later1", run_at=at(89.5)),
    job("flaky1", "failed", run_at=at(11.5), attempts=1, error="exit code 3: no"),
    job("gone1", "dead", attempts=4, error="exit code 4"),
    job("done1", "completed", attempts=1, updated_at=at(-7200)),
)
PICTURE = Picture(NOW, Standing({"in_progress": 1}, 2), JOBS, (), {"slow1": "at 50 %"})


def text(lines: list[list[tuple[str, str]]]) -> list[str]:
    return ["".join(part for _, part in line).rstrip() for line in lines]


def ids(view: View, jobs: tuple[Job, ...] = JOBS) -> list[str]:
    return [job.id for job in view.rows(jobs)]


# -- the table


def test_what_a_row_tells_on_a_wide_screen() -> None:
    lines = text(screen(PICTURE, View(), 120, 12, ("", " keys")))
    assert lines[0] == " 2 workers | 1 running"
    assert lines[2].split() == ["ID", "State", "Time", "Tries", "Command", "Last", "output"]
    assert lines[3].split() == ["slow1", "running", "2m5s", "0/4", "do", "slow1", "at", "50", "%"]
    assert "in 12s" in lines[4]
    assert "due" in lines[5]
    assert lines[-1] == " keys"


@pytest.mark.parametrize("columns", [20, 21, 35, 36, 40, 59, 60, 80, 99, 100, 300])
@pytest.mark.parametrize("rows", [4, 5, 6, 9, 10, 40, 80])
def test_every_size_is_filled_and_never_overrun(columns, rows) -> None:
    wide = (*JOBS, job("w" * 30, "failed", command="日本語 \x1b[31m\n" * 50))
    picture = PICTURE._replace(jobs=wide)
    for filter in ("", "zzz"):
        lines = text(screen(picture, View(filter=filter), columns, rows, ("", "f" * 400)))
        assert len(lines) == rows
        assert all(len(line) <= columns and line.isprintable() for line in lines)
    assert len(log_screen(picture, "slow1", columns, rows, ("", "f"))) == rows


def test_a_small_screen_still_shows_id_and_state() -> None:
    lines = text(screen(PICTURE, View(), 20, 4, ("", " q")))
    assert lines[1:3] == ["slow1    running", "flaky1   failed"]


@pytest.mark.parametrize(
    ("order", "first"),
    [("state", "slow1"), ("time", "slow1"), ("id", "done1"), ("priority", "slow1")],
)
def test_orders(order, first) -> None:
    view = View(order)
    assert ids(view)[0] == first
    view.backward = True
    assert set(ids(view)) == {job.id for job in JOBS}


def test_the_order_by_state_is_that_of_interest() -> None:
    assert ids(View()) == ["slow1", "flaky1", "next1", "later1", "gone1", "done1"]


def test_a_filter_looks_at_id_state_and_command() -> None:
    assert ids(View(filter="FLAKY")) == ["flaky1"]
    assert ids(View(filter="running")) == ["slow1"]
    assert ids(View(filter="do done")) == ["done1"]
    assert "no jobs fit" in text(screen(PICTURE, View(filter="zz"), 60, 8, ("", "")))[2]


def test_the_marked_job_stays_marked_and_visible() -> None:
    view = View()
    many = tuple(job(f"j{n:03}", priority=n) for n in range(100))
    view.marked = "j050"
    lines = text(screen(PICTURE._replace(jobs=many), view, 80, 20, ("", "")))
    assert any(line.startswith("j050") for line in lines)
    view.marked = "nobody"
    assert view.place(view.rows(many), 10) == view.first


@pytest.mark.parametrize(
    ("state", "fields", "told"),
    [
        ("in_progress", {"started_at": at(-3600 * 3)}, "3h"),
        ("pending", {"run_at": at(0.5)}, "in 1s"),
        ("completed", {"updated_at": at(-150)}, "2m ago"),
        ("completed", {"updated_at": at(-5)}, "now"),
        ("in_progress", {"started_at": "yesterday"}, "20833d8h"),
    ],
)
def test_times(state, fields, told) -> None:
    assert time_of(job("a", state, **fields), NOW) == told


# -- what it reads


@pytest.fixture
def queue(data_dir) -> Iterator[JobQueue]:
    queue = JobQueue.open(data_dir)
    yield queue
    queue.close()


def _run_one(queue: JobQueue, job_id: str, outcome: Outcome | None = None, **more: object) -> Job:
    queue.enqueue([{"id": job_id, "command": "x", "priority": -1, **more}])
    job = queue.claim("w-1")
    assert job is not None
    if outcome is not None:
        queue.settle(job, outcome)
    return job


def _print(folder: str, name: str, output: bytes) -> None:
    os.makedirs(os.path.join(folder, "logs"), exist_ok=True)
    with open(os.path.join(folder, "logs", name), "ab") as file:
        file.write(output)


def test_the_feed_follows_the_queue_and_its_output(queue, data_dir) -> None:
    feed = Feed(data_dir)
    assert feed.look(None).jobs == ()
    _run_one(queue, "a")
    _print(data_dir, "w-1.spool", b"one\n10%\r20%\r\n")
    picture = feed.look(None, "a", 5)
    assert [job.state for job in picture.jobs] == ["in_progress"]
    assert picture.standing.counts["in_progress"] == 1
    assert picture.said == {"a": "20%"}
    assert picture.log == ("one", "20%")
    _print(data_dir, "w-1.spool", b"\x1b[31mmore" + b"\n" * 3)
    assert feed.look(["a", "nobody"]).said == {"a": "\u241b[31mmore"}
    feed.close()


def test_a_failed_job_says_why(queue, data_dir) -> None:
    _run_one(queue, "a", Outcome("exited", 3, "no such thing", queue.now()))
    feed = Feed(data_dir)
    assert "no such thing" in feed.look(None).said["a"]
    feed.close()


def test_trouble_is_shown_and_goes_away(queue, data_dir) -> None:
    queue.enqueue([{"id": "a", "command": "x"}])
    queue.checkpoint()
    feed = Feed(data_dir)
    path = os.path.join(data_dir, "dlq.json")
    os.rename(path, path + "x")
    picture = feed.look(None)
    assert "dlq.json" in picture.standing.trouble
    assert "dlq.json" in text(screen(picture, View(), 200, 10, ("", "")))[0]
    os.rename(path + "x", path)
    assert feed.look(None).standing.trouble == ""
    feed.close()


# -- without a screen


def test_on_no_terminal_it_prints_one_snapshot(cli, queue) -> None:
    _run_one(queue, "a")
    queue.enqueue([{"id": "b", "command": "echo " + "long " * 50}])
    out = cli.ok("top")
    assert "1 running, 1 pending" in out.splitlines()[0]
    assert out.index("a  ") < out.index("b  ")
    assert "long " * 49 + "long" in out
    assert "b  " not in cli.ok("top", "--filter", "running")
    assert cli.ok("top", "--sort", "id", stdin="") == cli.ok("top", "--sort=id")
    assert cli.run("top", TERM="dumb").code == 0


def test_a_snapshot_of_no_queue_and_of_a_broken_one(cli, queue, data_dir) -> None:
    assert "no jobs" in cli.ok("top")
    queue.enqueue([{"id": "a", "command": "x"}])
    queue.checkpoint()
    os.remove(os.path.join(data_dir, "jobs.json"))
    result = cli("top")
    assert result.code == 5
    assert "jobs.json" in result.err


# -- keys


class _Sized(DummyOutput):
    def get_size(self) -> Size:
        return Size(rows=12, columns=80)


class Typist:
    """A screen without a terminal; `press` types when what stands before is done."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.view = View()

    def __call__(self, *steps: object) -> TopScreen:
        """Each step is keys, or a condition on the screen to wait for; q ends it all."""
        with create_pipe_input() as pipe:
            top = TopScreen(self.folder, self.view, input=pipe, output=_Sized())
            waiting = [lambda: top.picture.now, *steps]
            deadline = time.monotonic() + 10

            def go_on() -> None:
                while waiting:
                    step = waiting[0]
                    if not callable(step):
                        pipe.send_text(str(step))
                    elif not (step(top) if step.__code__.co_argcount else step()):
                        break
                    del waiting[0]
                if time.monotonic() > deadline and not top.app.is_done:
                    top.app.exit(exception=AssertionError(text(top._lines())))

            look = top._look

            async def looked() -> None:
                await look()
                go_on()

            top._look = looked  # type: ignore[method-assign]
            assert top.run() == 0
            assert not waiting
            return top


@pytest.fixture
def typist(data_dir) -> Typist:
    return Typist(data_dir)


def test_cancel_asks_first(typist, queue) -> None:
    queue.enqueue([{"id": "a", "command": "x"}, {"id": "b", "command": "x"}])
    typist(
        DOWN + "c", lambda top: top.mode == "cancel", "n", lambda top: top.mode == "jobs",
        "c", lambda top: top.mode == "cancel", "y", lambda top: "cancelled" in top.message, "q",
    )  # fmt: skip
    assert (queue.get("a").state, queue.get("b").state) == ("pending", "cancelled")


def test_retry_and_what_cannot_be_retried(typist, queue) -> None:
    _run_one(queue, "dead", Outcome("exited", 3, None, queue.now()), max_retries=0)
    queue.enqueue([{"id": "wait", "command": "x"}])
    typist(
        END + "r", lambda top: "'dead' is pending again" in top.message,
        HOME, lambda top: top.message == "", "q",
    )  # fmt: skip
    assert queue.get("dead").state == "pending"
    typist("r", lambda top: "pending" in top.message and "again" not in top.message, "q")


def test_sorting_filtering_and_pause(typist, queue) -> None:
    queue.enqueue([{"id": f"job{n}", "command": "x"} for n in range(3)])
    typist(
        "sS/b2x\x7f", lambda top: top.view.filter == "b2", ENTER,
        lambda top: text(top._lines())[3].startswith("job2"), "p", lambda top: top.view.paused,
        "q",
    )  # fmt: skip
    assert (typist.view.order, typist.view.backward, typist.view.filter) == ("time", True, "b2")
    typist.view.paused = False
    typist(ESCAPE, lambda top: not top.view.filter, "?", lambda top: top.mode == "keys", "xq")


def test_a_paused_display_stands_still(typist, queue) -> None:
    queue.enqueue([{"id": "a", "command": "x"}])
    looks = []
    top = typist(
        "p", lambda top: top.view.paused,
        lambda: queue.enqueue([{"id": "b", "command": "x"}]),
        lambda: looks.append(1) or len(looks) > 2, "q",
    )  # fmt: skip
    assert [job.id for job in top.picture.jobs] == ["a"]
    assert "PAUSED" in text(top._lines())[0]


def test_following_the_output_of_a_job(typist, queue, data_dir) -> None:
    _run_one(queue, "a")
    _print(data_dir, "w-1.spool", b"first\n")
    typist(
        ENTER, lambda top: "first" in text(top._lines()),
        lambda: _print(data_dir, "w-1.spool", b"second\n") or True,
        lambda top: "second" in text(top._lines()),
        "q", lambda top: not top._log, "q",
    )  # fmt: skip


# -- on a terminal


@pytest.fixture
def terminal(cli, tmp_path, monkeypatch) -> Iterator[object]:
    monkeypatch.setenv("QUEUECTL_HISTORY", str(tmp_path / "history"))
    started: list[Terminal] = []

    def start(*argv: str, columns: int = 80, rows: int = 24) -> Terminal:
        started.append(Terminal(columns, rows, argv=argv))
        return started[-1]

    yield start
    for shell in started:
        shell.close()


def test_the_screen_lives_and_is_restored(terminal, queue) -> None:
    _run_one(queue, "slow1")
    top = terminal("top", columns=100, rows=40)
    top.shows("slow1", "running", "q quit")
    queue.enqueue([{"id": "zz1", "command": "x"}])
    top.shows("zz1")
    assert top.style("running   ").fg == "default"  # the marked row
    top.keys(DOWN)
    top.until(lambda: top.style("zz1").reverse, "the mark to move")
    assert top.style("running   ").fg == "cyan"
    for columns, rows in ((40, 8), (20, 4), (200, 50)):
        top.resize(columns, rows)
        top.shows("zz1")
        top.until(lambda: "q quit" in top.lines[-1], "the last line")
    top.keys("q")
    assert top.ended() == 0
    assert b"\x1b[?1049h" in top.raw
    assert top.raw.rindex(b"\x1b[?1049l") > top.raw.rindex(b"zz1")


@pytest.mark.parametrize(("how", "code"), [("ctrl-c", 0), ("term", 143)])
def test_however_it_ends_the_screen_is_restored(terminal, queue, how, code) -> None:
    queue.enqueue([{"id": "a", "command": "x"}])
    top = terminal("top")
    top.shows("a  ")
    if how == "term":
        os.kill(top.process.pid, signal.SIGTERM)
    else:
        top.keys(CTRL_C)
    assert top.ended() == code
    assert b"\x1b[?1049l" in top.raw


def test_it_sends_little_when_little_changes(terminal, queue) -> None:
    for n in range(3):
        _run_one(queue, f"slow{n}")
    _run_one(queue, "flaky", Outcome("exited", 3, None, queue.now()))
    queue.enqueue([{"id": f"job{n}", "command": f"echo {n}"} for n in range(60)])
    top = terminal("top", columns=120, rows=40)
    top.shows("flaky", "job30", "q quit")
    began, before = time.monotonic(), len(top.raw)
    while time.monotonic() - began < 2.2:
        top.read(0.1)
    sent = (len(top.raw) - before) / (time.monotonic() - began)
    assert 0 < sent < 500, f"{sent:.0f} bytes a second"


def test_in_the_shell_it_returns_to_the_prompt(terminal, queue) -> None:
    queue.enqueue([{"id": "a", "command": "x"}])
    shell = terminal()
    shell.until(lambda: ">" in shell.line, "the prompt")
    shell.keys("top" + ENTER)
    shell.shows("q quit")
    shell.keys("q")
    shell.prompted()
    shell.run("ping")
    shell.shows("Queue can be reached")
