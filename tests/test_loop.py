"""A worker's loop when things go wrong, on a simulated queue."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from memory_store import MemoryStore

from queuectl.config import Settings
from queuectl.errors import BadFile, StoreBusy, StoreError
from queuectl.job_queue import JobQueue
from queuectl.model.job import Job
from queuectl.model.lifecycle import Outcome
from queuectl.model.times import format_time
from queuectl.worker import loop, rescue
from queuectl.worker.aside import aside
from queuectl.worker.loop import Worker
from queuectl.worker.wakeups import FINISH, STOP_NOW, Wakeups

T = "2026-01-01T00:00:00.000000Z"


def make_job(command: str, job_id: str = "a") -> Job:
    blank = Job("", "in_progress", 0, T, "", 3, T, T, run=1, worker="w-1")
    return blank._replace(id=job_id, command=command)


class PlayedSlot:
    id = "w-1"
    on_watch = False
    patience = 1.0
    lapsed = declared = False
    asked = ""

    def __init__(self) -> None:
        self.held = True
        self.noted: list[tuple[Any, ...] | None] = []
        self.facts: dict[str, Any] = {}

    def why_gone(self) -> str:
        return "was given up: its file in workers/ is gone"

    def still_held(self) -> bool:
        return self.held

    def note_run(self, *facts: Any) -> None:
        self.noted.append(facts)

    def clear_run(self) -> None:
        self.noted.append(None)

    def note_facts(self, **facts: Any) -> None:
        self.facts.update(facts)

    def note_trouble(self, _why: str) -> None: ...

    def note_end(self, *_end: Any) -> bool:
        return False

    def keep_watch(self) -> bool:
        self.on_watch = True
        return True

    def leave_watch(self) -> None:
        self.on_watch = False

    def sees_lost(self) -> bool:
        return False

    def crowd(self) -> int:
        return 1


class PlayedQueue:
    """Gives out the jobs in `waiting`; the errors in `refusals` come first, one a claim."""

    def __init__(self, folder: str) -> None:
        self.folder, self.store = folder, MemoryStore(folder)
        self.waiting: list[Job] = []
        self.refusals: list[Exception | None] = []
        self.settled: list[tuple[Job, Outcome]] = []
        self.env_set: Callable[[Job], None] = lambda _: None
        self.on_empty: Callable[[], None] = lambda: os.kill(os.getpid(), FINISH)
        self.cancelled = False
        self.notices: list[str] = []
        self.asked: list[str | None] = []  # what the worker said it runs, asked what is not its own

        self.woken = 0
        self.changed: dict[str, object] = {"kill-grace": 0.2, "poll-interval": 0.02}

    def now(self) -> str:
        return format_time(time.time())

    def claim(self, _worker: str, finished: tuple[Job, Outcome] | None = None) -> Job | None:
        self._refuse()
        if finished is not None:
            self.settled.append(finished)
        if not self.waiting:
            self.on_empty()
            return None
        return self.waiting.pop(0)

    def give_back(self, _worker: str, held: Job | None) -> list[Job]:
        self.asked.append(held and held.id)
        return []

    def leave_notices(self) -> None:
        self.notices.clear()

    def settle(self, job: Job, outcome: Outcome) -> Job | None:
        self._refuse()
        self.settled.append((job, outcome))
        state = "completed" if outcome.exit_code == 0 else "failed"
        return job._replace(state=state, run_at="2026-01-01T00:00:04.000000Z")

    def _refuse(self) -> None:
        refusal = self.refusals.pop(0) if self.refusals else None
        if refusal is not None:
            raise refusal

    def identity(self) -> str:
        return "1:2"

    def prepare_claims(self) -> None: ...
    def on_wait(self, tell) -> None: ...

    def settings(self) -> Settings:
        return Settings(self.changed)

    def cancel_requested(self, _job: Job) -> bool:
        return self.cancelled

    def is_drained(self) -> bool:
        return not self.waiting

    def count_stuck(self) -> tuple[int, int]:
        return 0, 0

    def workers(self) -> list[Any]:
        return []

    lost_workers = workers

    def purge_old(self) -> list[Job]:
        return []

    def sync(self) -> None: ...

    def wake_idle(self, count: int) -> None:
        self.woken += count

    def fold_if_due(self, *, busy: bool = False) -> bool:
        return False

    def next_due(self) -> float | None:
        return None

    def checkpoint_due_in(self) -> float | None:
        return None


class Stage:
    """A worker on a played queue, and what it said."""

    def __init__(self, folder: str, wakeups: Wakeups) -> None:
        self.queue = PlayedQueue(folder)
        self.slot = PlayedSlot()
        self.wakeups = wakeups
        self.log: list[str] = []
        self.told: list[str] = []

    def work(self, *, tell: Callable[[str], None] | None = None, until_empty: bool = False) -> int:
        worker = Worker(self.queue, self.slot, self.wakeups, tell, self.log.append)
        return worker.work(until_empty=until_empty)

    def codes(self) -> list[int | None]:
        return [outcome.exit_code for _, outcome in self.queue.settled]


@pytest.fixture
def stage(tmp_path, monkeypatch) -> Iterator[Stage]:
    monkeypatch.setattr(loop, "_FIRST_PAUSE", 0.001)
    monkeypatch.chdir(tmp_path)  # to return from where the jobs lead
    with Wakeups(detached=True) as wakeups:
        yield Stage(str(tmp_path), wakeups)


def test_jobs_are_run_and_settled_in_turn(stage):
    stage.queue.waiting = [make_job("exit 0"), make_job("exit 3", "b"), make_job("exit 0", "c")]
    assert stage.work() == 0
    assert stage.codes() == [0, 3, 0]
    assert [noted[:2] for noted in stage.slot.noted if noted] == [("a", 1), ("b", 1), ("c", 1)]
    assert stage.slot.noted[-1] is None
    assert stage.log == []


def test_a_worker_that_rested_hands_its_watch_over_when_it_gets_a_job(stage):
    stage.queue.waiting = [make_job("exit 0"), make_job("exit 0", "b")]
    stage.queue.on_empty = lambda: (
        stage.queue.waiting.append(make_job("exit 0", "c"))
        if len(stage.codes()) < 3
        else os.kill(os.getpid(), FINISH)
    )
    assert stage.work() == 0
    assert len(stage.codes()) == 3
    assert stage.queue.woken == 2  # for a and c: b was claimed without a rest


def test_a_new_worker_hands_on_a_hint_that_came_before_its_first_claim(stage):
    """It lies in its pipe, and is lost with the first look at that: nobody else was sent one."""
    stage.slot.keep_watch = lambda: False
    stage.queue.waiting = [make_job("exit 0"), make_job("exit 0", "b")]
    assert stage.work() == 0
    assert stage.queue.woken == 1


@pytest.mark.parametrize(("watches", "crowd", "looks"), [(True, 40, 5), (False, 40, 10)])
def test_others_look_seldom_where_one_hears_of_all_news(stage, monkeypatch, watches, crowd, looks):
    """And none but that one asks what is due next."""
    stage.slot.patience, stage.slot.crowd = 5.0, lambda: crowd
    stage.slot.keep_watch = lambda: watches
    asked, waits = [], []
    monkeypatch.setattr(Worker, "_wait_for", lambda _, left: waits.append(left))
    monkeypatch.setattr(stage.queue, "next_due", lambda: asked.append(1))
    stage.work()
    assert waits == [pytest.approx(looks * stage.queue.settings().poll_interval)]
    assert len(asked) == watches


@pytest.mark.parametrize(("crowd", "looks"), [(100, 1), (200, 2), (100_000, 500)])
def test_in_a_crowd_each_looks_at_another_less_often(stage, monkeypatch, crowd, looks):
    """A lost worker is seen as soon by 200 that look half as often as by 100."""
    stage.slot.crowd, stage.slot.keep_watch = lambda: crowd, lambda: False
    waits = []
    monkeypatch.setattr(stage.wakeups, "wait", lambda seconds: waits.append(seconds) or True)
    stage.work()
    assert waits == [pytest.approx(min(looks * 0.02, 10.0), rel=0.2)]


def test_a_failure_is_explained_by_the_last_line(stage):
    stage.queue.waiting = [make_job("echo first; echo out of cheese >&2; exit 3")]
    stage.work()
    assert stage.queue.settled[0][1].error == "exit code 3: out of cheese"


def test_the_log_lies_there_before_the_result_is_told(stage):
    path = os.path.join(stage.queue.folder, "logs", "a.1.log")
    seen = []
    stop = stage.queue.on_empty
    stage.queue.on_empty = lambda: (seen.append(os.path.exists(path)), stop())
    stage.queue.waiting = [make_job("echo hello")]
    stage.work()
    assert seen == [True]


def test_an_idle_worker_keeps_no_folder_busy(stage, tmp_path):
    stage.queue.waiting = [make_job("true")._replace(cwd=str(tmp_path))]
    stage.work()
    assert os.getcwd() == "/"


def test_a_result_that_cannot_be_written_is_kept_and_tried_again(stage):
    stage.queue.waiting = [make_job("exit 4")]
    full = StoreBusy("no space left")
    stage.queue.refusals = [None, full, full, full]
    assert stage.work() == 0
    assert stage.codes() == [4]
    assert stage.log == ["w-1 no space left"]


def test_a_result_is_kept_even_when_told_to_stop(stage):
    stage.queue.waiting = [make_job(f"kill -{int(FINISH)} $PPID; exit 4"), make_job("exit 5")]
    stage.queue.refusals = [None, StoreBusy("busy"), StoreBusy("busy")]
    assert stage.work() == 0
    assert stage.codes() == [4]


def test_a_worker_told_to_stop_at_once_leaves_a_result_that_cannot_be_written(stage):
    stage.queue.waiting = [make_job(f"kill -{int(STOP_NOW)} $PPID; sleep 60")]
    stage.queue.refusals = [None, StoreBusy("busy")]
    assert stage.work() == 1
    assert stage.codes() == []


@pytest.mark.parametrize("code", [0, 3])
def test_a_worker_told_to_stop_notes_a_result_that_the_queue_does_not_take(
    tmp_path, monkeypatch, code
):
    """Whoever takes the job back settles that run: it is not lost, nor run again."""
    for part, seconds in ((loop, "_FIRST_PAUSE"), (loop, "_PATIENCE"), (rescue, "_LAST_BREATH")):
        monkeypatch.setattr(part, seconds, 0.001)
    queue = JobQueue.open(str(tmp_path / "data"))
    queue.enqueue([{"id": "a", "command": f"echo 'out of 100% cheese'; exit {code}"}])
    claim = queue.claim

    def refuse(_worker: str, finished: object = None) -> Job | None:
        if finished is None:
            return claim(_worker)
        os.kill(os.getpid(), FINISH)
        raise StoreError("no space left")

    monkeypatch.setattr(queue, "claim", refuse)
    monkeypatch.setattr(queue, "settle", lambda job, _: refuse("", job))
    told: list[str] = []
    assert loop.run_worker(queue, log=told.append) == 1
    assert told[-1].endswith("leaves in spite of: no space left")
    with closing(JobQueue.open(queue.folder)) as other:
        [job] = rescue.rescue(other)
        assert (job.state, job.attempts, job.losses, job.run) == (
            "failed" if code else "completed", 1, 0, 1,
        )  # fmt: skip
        assert job.error == ("exit code 3: out of 100% cheese" if code else None)
        assert other.workers() == []


def test_long_work_is_done_aside(monkeypatch):
    main, seen = threading.main_thread(), []

    def fail() -> None:
        seen.append(threading.current_thread())
        raise BadFile("no")

    with pytest.raises(BadFile):
        aside(fail)
    monkeypatch.setattr(threading.Thread, "start", lambda _: (_ for _ in ()).throw(RuntimeError))
    with pytest.raises(BadFile):
        aside(fail)
    assert (seen[0] is main, seen[1] is main) == (False, True)


def test_trouble_at_a_claim_ends_no_worker_and_is_logged_once(stage):
    mistake = BadFile("jobs.json: line 3")
    stage.queue.refusals = [mistake, mistake, OSError("odd"), mistake, None]
    stage.queue.waiting = [make_job("true")]
    assert stage.work() == 0
    assert stage.codes() == [0]
    assert stage.log == ["w-1 jobs.json: line 3", "w-1 odd"]


def test_a_worker_whose_lease_is_over_waits_until_it_is_renewed(stage):
    answers = iter([False, False])
    stage.slot.lapsed, stage.slot.still_held = True, lambda: next(answers, True)
    stage.queue.waiting = [make_job("true")]
    assert stage.work() == 0
    assert stage.codes() == [0]
    assert stage.log == ["w-1 its lease is over; it waits until that is renewed"]


def test_a_worker_that_was_given_up_ends_its_job_and_leaves(stage):
    def lose() -> bool:
        stage.slot.held = False
        return False

    stage.queue.cancel_requested = lambda _job: lose()
    stage.queue.waiting = [make_job("sleep 60")]
    assert stage.work() == 1
    assert stage.codes() == []
    assert "given up" in stage.log[0]


def test_what_was_claimed_as_the_lease_ended_is_not_begun(stage):
    """As where the machine was suspended before the claim was answered."""
    claim = stage.queue.claim

    def late(*args: object) -> Job | None:
        stage.slot.held, stage.slot.lapsed = False, True
        stage.slot.still_held = lambda: next(answers, True)
        return claim(*args)

    answers = iter([False])
    stage.queue.claim = late
    stage.queue.waiting = [make_job("true")]
    assert stage.work() == 0
    assert stage.codes() == []


def test_a_worker_that_was_declared_lost_begins_anew(tmp_path, monkeypatch):
    queue, ids = JobQueue.open(str(tmp_path / "data")), []
    queue.enqueue([{"id": "a", "command": "true"}])

    def registered(slot: Any) -> None:
        ids.append(slot.id)
        if len(ids) == 1:
            slot.__class__ = type("Lost", (slot.__class__,), {"declared": True})
            monkeypatch.setattr(slot, "still_held", lambda: False)

    told: list[str] = []
    assert loop.run_worker(queue, log=told.append, registered=registered, until_empty=True) == 0
    assert len(set(ids)) == 2
    assert [line.rpartition("; ")[2] for line in told] == ["it begins anew"]
    assert (queue.counts()["completed"], queue.workers()) == (1, [])


def test_a_worker_that_cannot_begin_leaves_no_file_for_output(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(24, "Too many open files")

    queue = JobQueue.open(str(tmp_path / "data"))
    queue.make()
    queue.store.output.make()
    monkeypatch.setattr(loop, "Runner", refuse)
    with pytest.raises(OSError, match="Too many"):
        loop.run_worker(queue)
    assert (os.listdir(queue.store.output.path), queue.workers()) == ([], [])


def test_a_run_is_looked_at_however_long_the_poll_interval(tmp_path, monkeypatch):
    """Whoever holds a lease must show life; and what a run left is tried again soon."""
    queue = JobQueue.open(str(tmp_path / "data"))
    queue.change_settings({"poll-interval": 3600})
    queue.enqueue([{"id": "a", "command": "sleep 0.2"}])
    monkeypatch.setattr(loop, "_LONGEST_LOOK", 0.01)
    looks, asked = [], queue.cancel_requested
    monkeypatch.setattr(queue, "cancel_requested", lambda job: looks.append(job) or asked(job))
    assert loop.run_worker(queue, until_empty=True) == 0
    assert len(looks) > 3


def test_a_cancel_is_seen_while_the_job_runs(stage):
    stage.queue.cancelled = True
    stage.queue.waiting = [make_job("sleep 60")]
    stage.work()
    assert stage.queue.settled[0][1].kind == "stopped"


def test_a_machine_out_of_resources_is_given_time(stage, monkeypatch):
    spawn, refusals = os.posix_spawn, [BlockingIOError(11, "try again")] * 2

    def scarce(*args: Any, **how: Any) -> int:
        if refusals:
            raise refusals.pop()
        return spawn(*args, **how)

    monkeypatch.setattr(os, "posix_spawn", scarce)
    stage.queue.waiting = [make_job("true"), make_job("true", "b"), make_job("true", "c")]
    assert stage.work() == 0
    kinds = [outcome.kind for _, outcome in stage.queue.settled]
    assert kinds == ["no_resources", "no_resources", "exited"]
    assert stage.log == ["w-1 cannot start: try again"]


def test_it_leaves_when_nothing_is_left_if_asked_to(stage):
    stage.queue.on_empty = lambda: None
    stage.queue.waiting = [make_job("true")]
    assert stage.work(until_empty=True) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, FINISH])
def test_a_worker_told_to_stop_does_not_pass_for_done(stage, number):
    stop = f"kill -{int(number)} $PPID"
    stage.queue.waiting = [make_job(stop), make_job("true", "b")]
    assert stage.work(until_empty=True) == 128 + (15 if number == FINISH else number)
    stage.wakeups.stopping = False
    stage.queue.waiting = [make_job(stop)]
    assert stage.work(until_empty=True) == 0  # nothing is left


def test_each_event_of_a_jobs_life_is_told(stage):
    stage.queue.waiting = [make_job("echo 'a\n\tb'"), make_job("exit 3", "b")]
    stage.work(tell=stage.told.append)
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d a run 1 started", stage.told[0])
    told = [line.split(" ", 2)[2] for line in stage.told]
    assert told[0] == "a run 1 started: echo 'a b'"
    assert told[1].startswith("a run 1 completed after 0.")
    assert told[3].endswith("(exit code 3), retry in 4s")


def test_a_worker_to_which_nobody_listens_finishes_its_job_and_leaves(stage):
    def closed(_line: str) -> None:
        raise BrokenPipeError

    stage.queue.waiting = [make_job("exit 4"), make_job("exit 5")]
    assert stage.work(tell=closed) == 0
    assert stage.codes() == [4]


def test_settings_are_looked_at_while_it_works(stage, monkeypatch):
    monkeypatch.setattr(loop, "_LOOK_AROUND", 0.0)
    stage.queue.waiting = [make_job("trap '' TERM; while :; do sleep 0.05; done")]
    stage.queue.waiting[0] = stage.queue.waiting[0]._replace(timeout=0.1)
    stage.queue.changed = {"kill-grace": 0, "poll-interval": 60}
    stage.work()
    assert stage.codes() == [137]


def test_a_worker_that_is_woken_claims_before_it_looks_around(stage, monkeypatch):
    """Only the settings, by which the job is to run, come first."""
    monkeypatch.setattr(loop, "_LOOK_AROUND", 0.0)
    reading, writing = os.pipe()
    stage.wakeups.watch(reading)
    events: list[str] = []

    def noted(name: str) -> None:
        real = getattr(stage.queue, name)
        monkeypatch.setattr(stage.queue, name, lambda *args: (events.append(name), real(*args))[1])

    for name in ("claim", "settings", "give_back"):  # the last is part of a look around
        noted(name)
    stop = stage.queue.on_empty

    def wake() -> None:
        stage.queue.waiting.append(make_job("true"))
        stage.queue.on_empty = stop
        events.append("woken")
        os.write(writing, b"w")

    stage.queue.on_empty = wake
    assert stage.work() == 0
    for fd in (reading, writing):
        os.close(fd)
    assert stage.codes() == [0]
    after = events[events.index("woken") :]
    # The look after the claim that found nothing, then what the hint leads to.
    assert after[:5] == ["woken", "settings", "give_back", "settings", "claim"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_the_job(stage, number):
    def listen(line: str) -> None:
        if "goes on to its end" in line:
            os.kill(os.getpid(), number)

    stage.queue.waiting = [make_job(f"kill -{int(number)} $PPID; sleep 60"), make_job("true")]
    assert stage.work(tell=listen) == 0
    assert [outcome.kind for _, outcome in stage.queue.settled] == ["stopped"]


def test_asking_twice_to_finish_is_not_an_order_to_hurry(stage):
    number = int(FINISH)
    stage.queue.waiting = [make_job(f"kill -{number} $PPID; kill -{number} $PPID; exit 7")]
    assert stage.work() == 0
    assert stage.codes() == [7]
    assert not stage.wakeups.now


def test_signals_are_as_before_afterwards():
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    with Wakeups(detached=False):
        os.kill(os.getpid(), signal.SIGINT)
    assert {number: signal.getsignal(number) for number in before} == before
    assert signal.set_wakeup_fd(-1) == -1


@pytest.mark.parametrize(("detached", "stops"), [(True, False), (False, True)])
def test_a_hangup_stops_only_a_worker_in_the_foreground(detached, stops):
    with Wakeups(detached=detached) as wakeups:
        os.kill(os.getpid(), signal.SIGHUP)
        assert wakeups.stopping is stops


def test_under_nohup_a_hangup_means_nothing_in_the_foreground():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Wakeups(detached=False) as wakeups:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not wakeups.stopping
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("data_dir")
def test_a_worker_loads_nothing_it_does_not_need():
    heavy = ("subprocess", "prompt_toolkit", "asyncio", "argparse", "logging", "difflib")
    code = "import sys, queuectl.worker.loop; print(*[m for m in sys.argv[1:] if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code, *heavy], capture_output=True, check=True)
    assert found.stdout.strip() == b""
