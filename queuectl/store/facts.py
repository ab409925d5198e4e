"""What every store reports about itself: its workers, its counts, what is wrong with it.

Lean because `status` loads it: it imports nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

    from typing_extensions import TypeIs  # for mypy only, which provides it

    from queuectl.config import Settings
    from queuectl.model.selection import Selection

# The order of counts by state; a journal of format 1 has six numbers in this order.
STATE_ORDER = ("pending", "in_progress", "completed", "failed", "dead", "cancelled")
WAKE, CANCEL = b"w", b"c"  # what wakes a worker: there may be work; a job is to be cancelled
SOON, LATER = 0.05, 1.0  # seconds between looks at a spool, the shortest and the longest
ALL = "*"  # in `paused`; as in model/gate.py, which neither `status` nor an enqueue loads
MOST_LEFT = 5  # how many processes that cannot be ended a worker names
ENDS = ("exited", "timed_out", "not_started", "no_resources", "stopped")  # see Outcome
RUN_LINE = 256  # bytes of the second line of a worker's file


def is_selection(which: Collection[str] | Selection) -> TypeIs[Selection]:
    """Whether this is a selection of jobs, not a list of ids."""
    # Not isinstance: loading the class costs each one-shot enqueue half a millisecond.
    return hasattr(which, "states")


def check_count(count: int, exactly: int | None) -> None:
    """Raise OtherJobs if a change means another number of jobs than `exactly`, if that is given."""
    if exactly is not None and count != exactly:
        from queuectl.errors import OtherJobs  # only here: the rest needs no module

        raise OtherJobs(count, exactly)


class WorkerInfo:
    """One worker as it described itself. `missing`: its description is gone.

    `alive`: it holds its lock, or its lease has not ended. `text`: three lines in the form of
    store/files/worker_files.py. `facts`: what the third line holds; empty for a worker of an older
    queuectl. `inode`: of the file that was read, 0 if there is none.
    """

    def __init__(self, worker_id: str, alive: bool, text: str = "", missing: bool = False) -> None:
        first, _, rest = text.partition("\n")
        words = first.split(" ")
        self.id = worker_id
        self.alive = alive
        self.missing = missing
        self.inode = 0
        whole = len(words) == 5 and _is_pid(words[1])
        self.pid = int(words[1]) if whole else 0
        self.start_time, self.boot_id, self.started_at = words[2:5] if whole else ("", "", "")
        self.job_id: str | None = None
        self.run = self.group_pid = 0
        self.group_start = ""
        job = rest.partition("\n")[0].split(" ")
        if len(job) == 4 and job[1].isdigit() and _is_pid(job[2]):
            self.job_id, self.run, self.group_pid = job[0], int(job[1]), int(job[2])
            self.group_start = job[3]
        third = text[len(first) + 1 + RUN_LINE :].partition("\n")[0].split()
        self.facts = dict(fact.split("=", 1) for fact in third if "=" in fact)

    @property
    def host(self) -> str | None:
        """The host where it runs; None in a store of one host, or if the worker did not say."""
        return self.facts.get("host")

    @property
    def beat(self) -> str | None:
        """Its last sign of life, RFC 3339 text by the store's clock; None if it gives none."""
        return self.facts.get("beat")

    @property
    def trouble(self) -> str:
        """What keeps it from working, in its own words; "" if nothing does."""
        return _unspelled(self.facts.get("trouble", ""))

    @property
    def end(self) -> tuple[str, int, str, int | None, str | None, str] | None:
        """The end of a run that it could not settle: job, run, kind, exit code, error, time.

        None for invalid text, which must not get into the journal.
        """
        words = self.facts.get("end", "").split(",")
        if len(words) != 5 or not words[1].isdigit() or words[2] not in ENDS:
            return None
        from queuectl.errors import InvalidInput  # rare, hence loaded only here
        from queuectl.model.times import format_time, parse_time

        try:
            at = format_time(parse_time(words[4]))
        except InvalidInput:
            return None
        error = _unspelled(self.facts.get("error", "")) or None
        code = int(words[3]) if words[3].isdigit() and len(words[3]) < 4 else None
        return words[0], int(words[1]), words[2], code, error, at

    @property
    def left(self) -> list[tuple[int, str, str]]:
        """Processes of the run that cannot be ended, as pid, user and command."""
        words = [entry.split(":") for entry in self.facts.get("left", "").split(",")]
        return [
            (int(word[0]), word[1], word[2])
            for word in words
            if len(word) == 3 and word[0].isascii() and word[0].isdigit()
        ]


def _is_pid(word: str) -> bool:
    """Whether the word can be a pid; a damaged file may hold anything."""
    return word.isascii() and word.isdigit() and 0 < int(word) < 1 << 31


def _unspelled(word: str) -> str:
    first, *others = word.split("%")
    data = first.encode()
    for other in others:
        try:
            data += bytes([int(other[:2], 16)]) + other[2:].encode()
        except ValueError:
            break  # cut off
    return data.decode("utf-8", "ignore")


class Summary:
    """What `status` shows of a queue; some seconds old if the store counts only now and then.

    `counts`: by state. `waiting`: the number of changes that the files for people do not show yet.
    `settings`: None if no known setting keeps jobs waiting. `untold`: the jobs whose end a dead
    hook failed to report, newest last. `is_early`: no worker runs, and all waiting jobs are due
    later. `note`: what else a person should know about the store.
    """

    def __init__(
        self,
        path: str,
        counts: dict[str, int],
        waiting: int,
        workers: list[WorkerInfo],
        settings: Settings | None = None,
        untold: tuple[str, ...] = (),
        is_early: bool = False,
        note: str = "",
    ) -> None:
        self.folder = path
        self.note = note
        self.untold = untold
        self.is_early = is_early
        self.settings = settings
        self.counts = counts
        self.waiting = waiting
        self.workers = workers

    @property
    def paused(self) -> tuple[str, ...]:
        """What is paused: the value of the setting."""
        return self.settings.paused if self.settings else ()

    @property
    def worker_pids(self) -> list[int]:
        return [worker.pid for worker in self.workers if worker.alive]


class Finding:
    """One finding about a folder: the file or job, what is the case, and what to do about it.

    A finding that is not a `problem` breaks no promise, but a person should know it.
    """

    def __init__(self, about: str, text: str, todo: str, problem: bool = True) -> None:
        self.about = about
        self.text = text
        self.todo = todo
        self.problem = problem
