"""`top`: what it shows for which size of screen, what its keys do, and what it sends."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator

import pytest
from prompt_toolkit.data_structures import Size
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput
from terminal import CTRL_C, ENTER, Terminal

from queuectl.job_queue import JobQueue
from queuectl.live import feed as feed_module
from queuectl.live.feed import Feed, Picture
from queuectl.live.output import Page, Wish, turn, wrapped
from queuectl.live.rows import ORDERS, Rows, View
from queuectl.live.standing import Standing
from queuectl.model.job import Job
from queuectl.model.lifecycle import Outcome
from queuectl.model.selection import in_state
from queuectl.model.times import format_time
from queuectl.shell.top.screen import TopScreen
from queuectl.shell.top.table import log_screen, screen, time_of
from queuectl.store import opening
from queuectl.store.facts import WorkerInfo

NOW = 1_800_000_000.0
ESCAPE, DOWN, UP, END, HOME = "\x1b", "\x1b[B", "\x1b[A", "\x1b[F", "\x1b[H"
PAGE_UP, PAGE_DOWN = "\x1b[5~", "\x1b[6~"


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
PICTURE = Picture(NOW, Standing({"in_progress": 1}, 2), Rows(JOBS), (), {"slow1": "at 50 %"})


def text(lines: list[list[tuple[str, str]]]) -> list[str]:
    return ["".join(part for _, part in line).rstrip() for line in lines]


def ids(view: View, jobs: tuple[Job, ...] = JOBS) -> list[str]:
    return [job.id for job in view.rows(Rows(jobs))]


# -- the table


def test_a_row_on_a_wide_screen_tells_time_tries_and_output() -> None:
    lines = text(screen(PICTURE, View(), 120, 12, ("", " keys")))
    assert lines[0] == " 2 workers | 1 running"
    assert lines[2].split() == ["ID", "State", "Time", "Tries", "Command", "Last", "output"]
    assert lines[3].split() == ["slow1", "running", "2m5s", "0/4", "do", "slow1", "at", "50", "%"]
    assert "due" in lines[4]
    assert "in 12s" in lines[5]
    assert lines[-1] == " keys"


@pytest.mark.parametrize("columns", [20, 21, 35, 36, 40, 59, 60, 80, 99, 100, 300])
@pytest.mark.parametrize("rows", [4, 5, 6, 9, 10, 40, 80])
def test_every_size_is_filled_and_never_overrun(columns, rows) -> None:
    wide = (*JOBS, job("w" * 30, "failed", command="日本語 \x1b[31m\n" * 50))
    picture = PICTURE._replace(jobs=Rows(wide), page=Page(("x" * 400,) * 99, size=9))
    for filter in ("", "zzz"):
        lines = text(screen(picture, View(filter=filter), columns, rows, ("", "f" * 400)))
        assert len(lines) == rows
        assert all(len(line) <= columns and line.isprintable() for line in lines)
    assert len(log_screen(picture, "slow1", columns, rows, ("", "f"))) == rows


def test_a_small_screen_still_shows_id_and_state() -> None:
    lines = text(screen(PICTURE, View(), 20, 4, ("", " q")))
    assert lines[1:3] == ["slow1    running", "next1    pending"]


@pytest.mark.parametrize(
    ("order", "first"),
    [("state", "slow1"), ("time", "flaky1"), ("id", "done1"), ("priority", "slow1")],
)
def test_each_order_has_its_first_job(order, first) -> None:
    view = View(order)
    assert ids(view)[0] == first
    view.backward = True
    assert set(ids(view)) == {job.id for job in JOBS}


def test_the_order_by_state_is_that_of_interest() -> None:
    assert ids(View()) == ["slow1", "next1", "flaky1", "later1", "gone1", "done1"]


def test_the_next_to_run_stands_first_by_the_rule_of_claims(queue, data_dir) -> None:
    later = {"run_at": format_time(time.time() + 3600)}
    queue.enqueue([{"id": f"b{n}", "command": "x"} for n in range(1, 13)])
    queue.enqueue([{"id": "urgent", "command": "x", "priority": -1, **later}])
    queue.enqueue([{"id": "now", "command": "x", "priority": -1}])
    feed = Feed(queue.store.watch(), opening.output(data_dir))
    rows = feed.look().jobs
    feed.close()
    shown = [job.id for job in View().rows(rows)]
    assert shown == ["now", *(f"b{n}" for n in range(1, 13)), "urgent"]
    for job_id in shown[:-1]:
        claimed = queue.claim("w")
        assert claimed is not None
        assert claimed.id == job_id


def test_a_job_that_becomes_due_moves_among_those_that_can_run() -> None:
    jobs = (job("a"), job("b", priority=-1, run_at=at(60)), job("c", "failed", run_at=at(30)))
    rows = Rows(jobs, at(0))
    assert [job.id for job in rows] == ["a", "c", "b"]
    rows.wake(at(40))
    assert [job.id for job in rows] == ["a", "c", "b"]
    rows.apply({"d": job("d", run_at=at(50))})
    rows.wake(at(61))
    assert [job.id for job in rows] == ["b", "a", "c", "d"]
    assert [rows.row_of(job_id) for job_id in "bacd"] == [0, 1, 2, 3]


def test_with_aging_jobs_stand_as_they_are_claimed() -> None:
    jobs = (job("new", run_at=at(50)), job("low", priority=1, run_at=at(0)), job("mid"))
    for aging, order in ((0.0, ["mid", "new", "low"]), (40.0, ["mid", "low", "new"])):
        assert [job.id for job in Rows(jobs, at(60), aging)] == order


def test_a_filter_looks_at_id_state_and_command() -> None:
    assert ids(View(filter="FLAKY")) == ["flaky1"]
    assert ids(View(filter="running")) == ["slow1"]
    assert ids(View(filter="do done")) == ["done1"]
    assert "no jobs fit" in text(screen(PICTURE, View(filter="zz"), 60, 8, ("", "")))[2]


@pytest.mark.parametrize(
    ("counts", "workers", "shown"),
    [
        ({"in_progress": 1, "pending": 3}, 2, " 1 run, 3 wait"),
        ({"pending": 2, "failed": 1, "dead": 1}, 0, " ! 3 wait, 1 dead"),
        ({"in_progress": 12, "pending": 34567, "completed": 99}, 2, " 12r 34567w 99e"),
    ],
)
def test_the_smallest_screen_shows_the_counts(counts, workers, shown) -> None:
    picture = PICTURE._replace(standing=Standing(counts, workers))
    assert text(screen(picture, View(), 20, 4, ("", "")))[0] == shown


@pytest.mark.parametrize("columns", [20, 40, 80, 120])
def test_the_priority_is_shown_when_sorted_by_it(columns) -> None:
    picture = PICTURE._replace(jobs=Rows((job("a", priority=-5), job("b"))))
    assert " -5 " in text(screen(picture, View("priority"), columns, 8, ("", "")))[2]
    assert "-5" not in text(screen(picture, View(), columns, 8, ("", "")))[2]


def test_workers_that_do_not_fit_can_be_scrolled_to() -> None:
    lines = [f"w-{n} {1000 + n} 1 boot {at(0)}\njob{n} 1 1 1" for n in range(12)]
    workers = tuple(WorkerInfo(f"w-{n}", True, line) for n, line in enumerate(lines))
    view = View()
    picture = PICTURE._replace(workers=workers)
    assert " workers 1- of 12: 1000 job0, " in text(screen(picture, view, 60, 12, ("", "")))[1]
    view.worker = 11
    assert text(screen(picture, view, 60, 12, ("", "")))[1] == " workers 12- of 12: 1011 job11"
    view.worker = 99
    screen(picture, view, 60, 12, ("", ""))
    assert view.worker == 11
    assert text(screen(picture, view, 300, 12, ("", "")))[1].startswith(" workers: 1000 job0, ")


def test_the_marked_job_stays_marked_and_visible() -> None:
    view = View()
    many = tuple(job(f"j{n:03}", priority=n) for n in range(100))
    view.marked = "j050"
    lines = text(screen(PICTURE._replace(jobs=Rows(many)), view, 80, 20, ("", "")))
    assert any(line.startswith("j050") for line in lines)
    view.marked = "nobody"
    assert view.row_shown(view.rows(Rows(many)), 10) == view.first


@pytest.mark.parametrize(
    ("state", "fields", "told"),
    [
        ("in_progress", {"started_at": at(-3600 * 3)}, "3h"),
        ("pending", {"run_at": at(0.5)}, "in 1s"),
        ("completed", {"updated_at": at(-150)}, "2m ago"),
        ("completed", {"updated_at": at(-3)}, "just now"),
        ("dead", {"updated_at": at(-58)}, "55s ago"),
        ("in_progress", {"started_at": "yesterday"}, "20833d8h"),
    ],
)
def test_each_state_has_its_time(state, fields, told) -> None:
    assert time_of(job("a", state, **fields), NOW) == told


# -- many jobs, in order


def test_rows_stay_in_order_whatever_changes() -> None:
    """Whatever happens, the rows are those that sorting anew would give."""
    dice = random.Random(4)
    states = ["in_progress", "failed", "pending", "dead", "completed", "cancelled"]

    def some(number: int) -> Job:
        when = at(dice.randrange(1000))
        return job(
            f"j{number}", dice.choice(states), priority=dice.randrange(3),
            run_at=when, updated_at=at(dice.randrange(1000)), started_at=when,
        )  # fmt: skip

    now = {f"j{n}": some(n) for n in range(300)}
    rows = Rows(now.values())
    for round_ in range(60):
        order, backward = dice.choice([*ORDERS]), dice.random() < 0.5
        wanted = dice.choice(["", "j1", "j11", "dead", "no such"])
        rows.arrange(order, backward, wanted)
        few = dice.choice([3, 150])
        changes = {
            f"j{n}": dice.choice([None, some(n), some(n)])
            for n in (dice.randrange(400) for _ in range(few))
        }
        rows.apply(changes)
        kept = {i: j for i, j in now.items() if i not in changes}
        now = kept | {i: j for i, j in changes.items() if j is not None}  # as they came in
        anew = Rows(now.values())
        anew.arrange(order, backward, wanted)
        listed = [found.id for found in rows]
        assert listed == [found.id for found in anew], round_
        assert [rows.row_of(job_id) for job_id in listed] == [*range(len(listed))]
        assert rows.total == len(now)
        assert rows.row_of("nobody") is None


def test_the_title_tells_which_of_how_many_are_shown() -> None:
    view = View("id")
    picture = PICTURE._replace(jobs=Rows(job(f"j{n:03}") for n in range(100)))
    assert text(screen(picture, view, 80, 20, ("", "")))[0].endswith("| 1-16 of 100")
    view.marked = "j099"
    assert text(screen(picture, view, 80, 20, ("", "")))[0].endswith("| 85-100 of 100")
    view.filter = "j09"
    assert " of " not in text(screen(picture, view, 80, 20, ("", "")))[0]


# -- output


LOG = b"".join(b"line %d\n" % n for n in range(1, 100_001))


def page(place=None, move=0, data=LOG, rows=10, columns=80, wrap=True) -> Page:
    wish = Wish("a", place, move, columns, rows, wrap)
    return turn(lambda begin, end: data[begin:end], len(data), wish)


def test_output_is_followed_at_its_end_and_scrolled_from_there() -> None:
    end = page()
    assert end.at_end
    assert end.lines == tuple(f"line {n}" for n in range(99_991, 100_001))
    up = page(None, -1)
    assert not up.at_end
    assert up.lines[0] == "line 99990"
    assert page(up.position, -10_000).lines[0] == "line 89990"
    assert page(up.position, 1) == end
    assert page(up.position, 500) == end
    assert page((0, 0), -7).lines[0] == "line 1"
    assert page((0, 0), 500).lines[-1] == "line 510"
    assert page((0, 0), 500).at_end is False


@pytest.mark.parametrize("wrap", [True, False])
def test_scrolling_there_and_back_shows_the_same(wrap) -> None:
    data = b"".join(b"%d " % n * (n * 37 % 90) + b"\n" for n in range(3000)) + b"x" * 200_000
    place = page(None, 0, data, wrap=wrap)
    shown = [place]
    for _ in range(40):
        place = page(place.position, -7, data, wrap=wrap)
        shown.append(place)
    assert len({found.position for found in shown}) == len(shown)
    for earlier in reversed(shown[:-1]):
        place = page(place.position, 7, data, wrap=wrap)
        assert place == earlier


def test_long_lines_are_wrapped_or_left_to_be_cut() -> None:
    data = b"a" * 25 + b"\n" + "日本語".encode() * 4 + b"\n\nend"
    shown = page((0, 0), 0, data, columns=10)
    wide = ("日本語日本", "語日本語日", "本語")
    assert shown.lines == ("a" * 10, "a" * 10, "a" * 5, *wide, "", "end")
    assert page((0, 0), 4, data, columns=10, rows=2).lines == wide[1:]
    assert page((0, 0), 0, data, columns=10, wrap=False).lines[:2] == ("a" * 25, "日本語" * 4)
    assert list(wrapped("日", 1)) == ["日"]


def test_no_output_is_an_empty_page() -> None:
    assert page(None, 0, b"") == Page()
    assert page(None, -5, b"one\n").lines == ("one",)
    lines = text(log_screen(PICTURE._replace(page=Page()), "slow1", 60, 8, ("", "")))
    assert lines[1] == "(no output)"


# -- what it reads


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
    feed = Feed(queue.store.watch(), opening.output(data_dir))
    assert len(feed.look().jobs) == 0
    _run_one(queue, "a")
    _print(data_dir, "w-1.spool", b"one\n10%\r20%\r\n")
    jobs = seen(feed)
    assert [job.state for job in jobs] == ["in_progress"]
    picture = feed.look(jobs, Wish("a", None, 0, 80, 5, True))
    assert picture.standing.counts["in_progress"] == 1
    assert picture.said == {"a": "20%"}
    assert picture.page == Page(("one", "20%"), (0, 0), 13, True)
    _print(data_dir, "w-1.spool", b"\x1b[31mmore" + b"\n" * 3)
    assert feed.look(jobs, Wish("nobody", None, 0, 80, 5, True)).page == Page()
    assert feed.look(jobs).said == {"a": "more"}
    feed.close()


def seen(feed: Feed) -> Rows:
    """The jobs as a screen has them that takes in every picture."""
    picture = feed.look(at_once=False)
    picture.jobs.apply(picture.changes)
    return picture.jobs


def test_the_feed_keeps_up_with_every_change(queue, data_dir) -> None:
    feed = Feed(queue.store.watch(), opening.output(data_dir))
    queue.enqueue([{"id": f"j{n}", "command": "x"} for n in range(9)])
    rows = seen(feed)
    assert rows.total == 9
    _run_one(queue, "a", Outcome("exited", 0, None, queue.now()))
    queue.cancel(["j3"])
    assert seen(feed) is rows, "read on, not read anew"
    assert rows.get("a").state == "completed"
    assert rows.get("j3").state == "cancelled"
    queue.purge(in_state("cancelled"), None)
    queue.checkpoint()
    queue.enqueue([{"id": "b", "command": "x"}])
    assert {job.id for job in seen(feed)} == {job.id for job in queue.find()}
    path = os.path.join(data_dir, "jobs.json")
    with open(path) as file:
        edited = file.read().replace('"j5"', '"mine"')
    with open(path, "w") as file:
        file.write(edited)
    assert {job.id for job in seen(feed)} == {job.id for job in queue.find()} >= {"mine"}
    feed.close()


def test_of_many_jobs_some_are_shown_at_once_and_all_soon(queue, data_dir, monkeypatch) -> None:
    monkeypatch.setattr(feed_module, "_MANY", 5)
    monkeypatch.setattr(feed_module, "_SOME", 2)
    queue.enqueue([{"id": f"j{n}", "command": "x"} for n in range(9)])
    queue.update("j8", {"priority": -1})
    feed = Feed(queue.store.watch(), opening.output(data_dir))
    picture = feed.look()
    assert picture.partial
    assert [job.id for job in picture.jobs] == ["j8", "j0"]
    assert text(screen(picture, View(), 80, 12, ("", "")))[0].endswith("reading all jobs")
    picture = feed.look()
    assert not picture.partial
    assert len(picture.jobs) == 9
    feed.close()


def test_a_failed_job_says_why(queue, data_dir) -> None:
    _run_one(queue, "a", Outcome("exited", 3, "no such thing", queue.now()))
    feed = Feed(queue.store.watch(), opening.output(data_dir))
    assert "no such thing" in feed.look(seen(feed)).said["a"]
    feed.close()


def test_a_job_that_is_held_back_says_by_what(queue, data_dir) -> None:
    for job_id, more in (
        ("a", {"lock": ["l"]}),
        ("b", {"lock": ["l"]}),
        ("c", {"tags": ["gpu"]}),
        ("d", {"after": ["b"]}),
    ):
        queue.enqueue([{"id": job_id, "command": "true", **more}])
    queue.claim("w")
    feed = Feed(queue.store.watch(), opening.output(data_dir))
    said = feed.look(seen(feed)).said
    assert (said["b"], said["c"], said["d"]) == ("lock l is held by a", "", "waits for b")
    queue.pause(["gpu"])
    picture = feed.look(feed.look().jobs)
    assert picture.said["c"] == "tag gpu is paused"
    queue.settle(queue.get("a"), Outcome("exited", 0, None, queue.now()))
    rows = seen(feed)
    assert feed.look(rows).said["b"] == ""
    feed.close()


def test_trouble_is_shown_and_goes_away(queue, data_dir) -> None:
    queue.enqueue([{"id": "a", "command": "x"}])
    queue.checkpoint()
    feed = Feed(queue.store.watch(), opening.output(data_dir))
    path = os.path.join(data_dir, "dlq.json")
    os.rename(path, path + "x")
    picture = feed.look()
    assert "dlq.json" in picture.standing.trouble
    assert "dlq.json" in text(screen(picture, View(), 200, 10, ("", "")))[0]
    os.rename(path + "x", path)
    assert feed.look().standing.trouble == ""
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


def test_a_snapshot_tells_what_it_leaves_out(cli, queue, monkeypatch) -> None:
    monkeypatch.setattr("queuectl.shell.top.command._MOST", 2)
    queue.enqueue([{"id": f"j{n}", "command": "x"} for n in range(3)])
    result = cli("top", "--sort", "id")
    assert "The first 2 of 3 jobs" in result.err
    assert "j1" in result.out
    assert "j2" not in result.out


def test_a_snapshot_shows_no_queue_as_empty_and_refuses_a_broken_one(cli, queue, data_dir) -> None:
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


def test_retry_asks_first_and_refuses_a_job_that_waits(typist, queue) -> None:
    _run_one(queue, "dead", Outcome("exited", 3, None, queue.now()), max_retries=0)
    queue.enqueue([{"id": "wait", "command": "x"}])
    typist(
        END + "r", lambda top: "again?" in text(top._lines())[-1], "n",
        lambda top: top.mode == "jobs", "c", lambda top: "nothing to cancel" in top.message,
        lambda: queue.get("dead").state == "dead",
        "r", lambda top: top.mode == "retry", "y",
        lambda top: "'dead' is pending again" in top.message, HOME,
        lambda top: top.message == "", "q",
    )  # fmt: skip
    assert queue.get("dead").state == "pending"
    typist("r", lambda top: "pending" in top.message and "again" not in top.message, "q")


def test_keys_sort_filter_and_pause(typist, queue) -> None:
    queue.enqueue([{"id": f"job{n}", "command": "x"} for n in range(3)])
    typist(
        "sS/b2x\x7f", lambda top: top.view.filter == "b2", ENTER,
        lambda top: text(top._lines())[3].startswith("job2"), "p", lambda top: top.view.paused,
        lambda top: "jobs and workers go on" in text(top._lines())[-1], "q",
    )  # fmt: skip
    assert (typist.view.order, typist.view.backward, typist.view.filter) == ("time", True, "b2")
    typist.view.paused = False
    typist(ESCAPE, lambda top: not top.view.filter, "?", lambda top: top.mode == "keys", "xq")


def test_the_filter_takes_the_usual_editing_keys(typist, queue) -> None:
    typist(
        "/one two\x17", lambda top: top.view.filter == "one", "\x15x",
        lambda top: top.view.filter == "x", "\x1b[200~cy\nz\x1b[201~",
        lambda top: top.view.filter == "xcyz", ENTER, "q",
    )  # fmt: skip


def test_keys_without_a_meaning_say_so_and_pasted_text_does_nothing(typist, queue) -> None:
    queue.enqueue([{"id": "a", "command": "x"}])
    typist(
        "z", lambda top: "'z' does nothing here" in top.message, "\x01",
        lambda top: "'c-a' does nothing here" in top.message, "\x1b[200~cy\x1b[201~", DOWN,
        lambda top: top.message == "", "q",
    )  # fmt: skip
    assert queue.get("a").state == "pending"


def test_the_help_on_keys_can_be_scrolled(typist, queue) -> None:
    typist(
        "?", lambda top: "arrows, q back" in text(top._lines())[-1], END,
        lambda top: any("leave" in line for line in text(top._lines())), HOME,
        lambda top: "Up, Down" in text(top._lines())[0], DOWN,
        lambda top: "PgUp" in text(top._lines())[0], "x", lambda top: top.mode == "jobs", "q",
    )  # fmt: skip


def test_every_job_of_many_can_be_reached(typist, queue, monkeypatch) -> None:
    monkeypatch.setattr(feed_module, "_MANY", 5)
    monkeypatch.setattr(feed_module, "_SOME", 2)
    queue.enqueue([{"id": f"j{n:03}", "command": "x"} for n in range(100)])
    top = typist(
        lambda top: not top.picture.partial, "sss", lambda top: top.view.order == "priority",
        END, lambda top: top.view.marked == "j099", PAGE_UP,
        lambda top: top.view.marked == "j091", "/j04", ENTER, HOME,
        lambda top: text(top._lines())[3].startswith("j040"), "c",
        lambda top: top.mode == "cancel", "y", lambda top: "cancelled" in top.message, "q",
    )  # fmt: skip
    assert queue.get("j040").state == "cancelled"
    assert top.picture.jobs.total == 100


def test_a_paused_display_stands_still(typist, queue) -> None:
    queue.enqueue([{"id": "a", "command": "x"}])
    looks = []
    top = typist(
        "p", lambda top: top.view.paused,
        lambda: queue.enqueue([{"id": "b", "command": "x"}]),
        lambda: looks.append(1) or len(looks) > 2, "q",
    )  # fmt: skip
    assert [job.id for job in top.picture.jobs] == ["a"]
    assert "display paused" in text(top._lines())[0]


def test_enter_follows_the_output_of_a_job(typist, queue, data_dir) -> None:
    _run_one(queue, "a")
    _print(data_dir, "w-1.spool", b"first\n")
    typist(
        ENTER, lambda top: "first" in text(top._lines()),
        lambda: _print(data_dir, "w-1.spool", b"second\n") or True,
        lambda top: "second" in text(top._lines()),
        "q", lambda top: not top._log, "q",
    )  # fmt: skip


def test_output_scrolls_by_keys_and_follows_at_its_end(typist, queue, data_dir) -> None:
    _run_one(queue, "a")
    _print(data_dir, "w-1.spool", b"".join(b"line %d\n" % n for n in range(1, 101)) + b"y" * 100)

    def first(wanted: str) -> Callable[[TopScreen], bool]:
        return lambda top: text(top._lines())[1] == wanted

    typist(
        ENTER, first("line 93"), UP, first("line 92"), PAGE_UP, first("line 82"),
        lambda top: "%" in text(top._lines())[0],
        HOME, first("line 1"), DOWN + DOWN, first("line 3"), PAGE_DOWN, first("line 13"),
        lambda: _print(data_dir, "w-1.spool", b"\nlast\n") or True,
        END, lambda top: "last" in text(top._lines()),
        "w", lambda top: text(top._lines())[-3].endswith("y…"),
        "p", lambda: _print(data_dir, "w-1.spool", b"more\n" * 30) or True,
        lambda top: "%" in text(top._lines())[0] and "last" in text(top._lines()),
        "p", lambda top: "last" not in text(top._lines()), "q", "q",
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
