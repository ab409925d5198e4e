"""What `top` looks like: pictures of the queue as lines of styled text, for any size of screen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from queuectl.commands.render import Column, cells, clip, one_line, pad
from queuectl.errors import InvalidInput
from queuectl.model.times import format_duration, parse_time
from queuectl.shell.toolbar import standing_text

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from queuectl.model.job import Job
    from queuectl.shell.top_feed import Picture
    from queuectl.store.worker_files import WorkerInfo

    Line: TypeAlias = "list[tuple[str, str]]"

_RANKS = {"in_progress": 0, "failed": 1, "pending": 2, "dead": 3, "completed": 4, "cancelled": 4}
_STATE, _TIME, _TRIES = 9, 9, 5  # columns of these cells
_LEAST_ID = 8
_LEAST = 4  # columns below which a command says nothing
_WIDE, _MIDDLING, _NARROW = 100, 60, 36  # columns from which there is room for more cells
_TALL, _TITLED = 10, 6  # rows from which workers and titles are shown
_LONGEST = 400  # characters of a command that may matter

SNAPSHOT = (
    Column("ID", _LEAST_ID),
    Column("State", _STATE),
    Column("Time", 4),
    Column("Tries", _TRIES),
    Column("Command", 12, elastic=True),
    Column("Last output", 11, elastic=True),
)


class View:
    """What the person chose to see: the order, a filter, the job that is marked."""

    def __init__(self, order: str = "state", filter: str = "") -> None:
        self.order = order
        self.backward = False
        self.filter = filter
        self.marked: str | None = None
        self.first = 0  # the first row that is shown
        self.paused = False

    def rows(self, jobs: tuple[Job, ...]) -> list[Job]:
        """The jobs that fit, in order."""
        wanted = self.filter.lower()
        fitting = [job for job in jobs if not wanted or _fits(job, wanted)]
        return sorted(fitting, key=ORDERS[self.order], reverse=self.backward)

    def place(self, rows: list[Job], room: int) -> int:
        """The index of the marked row; moves the part that is shown so that it is in it."""
        ids = [job.id for job in rows]
        at = ids.index(self.marked) if self.marked in ids else min(self.first, len(ids) - 1)
        at = max(at, 0)
        self.first = max(min(self.first, at, len(ids) - room), at - room + 1, 0)
        return at


def _fits(job: Job, wanted: str) -> bool:
    return wanted in f"{job.id} {job.state} {state_name(job)} {job.command}".lower()


def _by_state(job: Job) -> tuple[int, float, float]:
    rank = _RANKS.get(job.state, 5)
    if job.state == "in_progress":
        return rank, 0, _seconds(job.started_at)
    if job.state == "pending":
        return rank, job.priority, _seconds(job.run_at)
    return rank, 0, _seconds(job.run_at) if rank == 1 else -_seconds(job.updated_at)


ORDERS: dict[str, Callable[[Job], tuple[object, ...]]] = {
    "state": _by_state,
    "time": lambda job: (-_seconds(job.updated_at),),
    "id": lambda job: (job.id,),
    "priority": lambda job: (job.priority, job.run_at),
}


def _seconds(text: str | None) -> float:
    try:
        return parse_time(text or "")
    except InvalidInput:
        return 0.0  # a person wrote it by hand


def state_name(job: Job) -> str:
    """The state in at most nine letters."""
    if job.cancel_requested and job.state == "in_progress":
        return "ending"
    return "running" if job.state == "in_progress" else job.state


def time_of(job: Job, now: float) -> str:
    """How long it runs, until when it waits, or how long ago it ended."""
    if job.state == "in_progress":
        return format_duration(int(max(0.0, now - _seconds(job.started_at))))
    if job.state in ("failed", "pending"):
        left = _seconds(job.run_at) - now
        return f"in {format_duration(int(left) + 1)}" if left > 0 else "due"
    ago = max(0.0, now - _seconds(job.updated_at))
    # Told no finer than it matters: each change of a row costs bytes on a slow line.
    return "now" if ago < 60 else f"{format_duration(ago // 60 * 60)} ago"


def body_rows(rows: int) -> int:
    """How many jobs fit on a screen of so many rows."""
    return max(1, rows - 2 - (rows >= _TITLED) - (rows >= _TALL))


def screen(
    picture: Picture, view: View, columns: int, rows: int, footer: tuple[str, str]
) -> list[Line]:
    """The lines of the whole screen; `footer` is the style and text of its last one."""
    listed = view.rows(picture.jobs)
    room = body_rows(rows)
    marked = view.place(listed, room)
    layout = _Layout(listed, columns)
    lines = [_title(picture, view, columns)]
    if rows >= _TALL:
        lines.append([("", clip(f" {_workers(picture.workers)}", columns))])
    if rows >= _TITLED:
        lines.append([("class:top.head", pad(layout.titles(), columns))])
    for at in range(view.first, view.first + room):
        lines.append(layout.row(listed[at], picture, at == marked) if at < len(listed) else [])
    if not listed:
        lines[-room] = [("", clip(" no jobs" + " fit the filter" * bool(view.filter), columns))]
    return [*lines, [(footer[0], clip(footer[1], columns))]]


def log_screen(
    picture: Picture, job_id: str, columns: int, rows: int, footer: tuple[str, str]
) -> list[Line]:
    """The end of a job's output on the whole screen."""
    job = next((job for job in picture.jobs if job.id == job_id), None)
    about = f"{state_name(job)} {time_of(job, picture.now)}" if job else "is gone"
    title = clip(f" output of {job_id} | {about}", columns)
    body = picture.log[-(rows - 2) :] if rows > 2 else ()
    lines: list[Line] = [[("class:top.title", pad(title, columns))]]
    lines += [[("", clip(line, columns))] for line in body or ("(no output)",)]
    lines += [[] for _ in range(rows - 1 - len(lines))]
    return [*lines[: rows - 1], [(footer[0], clip(footer[1], columns))]]


def _title(picture: Picture, view: View, columns: int) -> Line:
    chosen = " | PAUSED" if view.paused else ""
    if view.filter:
        chosen += f" | /{view.filter}"
    if view.order != "state" or view.backward:
        chosen += f" | by {view.order}{' backward' if view.backward else ''}"
    told = "".join(part[1] for part in standing_text(picture.standing, columns))
    room = columns - cells(chosen)
    text = clip(clip(told, room) + chosen if room > 10 else chosen[3:] or told, columns)
    return [("class:top.title", pad(text, columns))]


def _workers(workers: tuple[WorkerInfo, ...]) -> str:
    told = [
        f"{worker.pid} {worker.job_id or 'idle' if worker.alive else 'lost'}"
        for worker in sorted(workers, key=lambda worker: worker.pid)
    ]
    return f"workers: {', '.join(told)}" if told else "no workers ('worker start' starts one)"


class _Layout:
    """Which cells fit into a row of so many columns, and how wide they are."""

    def __init__(self, jobs: list[Job], columns: int) -> None:
        self.columns = columns
        longest = max((len(job.id) for job in jobs), default=0)
        most = columns // 3 if columns >= _MIDDLING else columns - _STATE - 1
        if columns >= _NARROW and columns < _MIDDLING:
            most -= _TIME + 1
        self.id = max(_LEAST_ID, min(longest, most))
        self.time = _TIME if columns >= _NARROW else 0
        self.tries = _TRIES if columns >= _WIDE else 0
        used = sum(width + 1 for width in (self.id, _STATE, self.time, self.tries) if width)
        room = max(0, columns - used)
        self.output = room * 3 // 5 if columns >= _MIDDLING else 0
        self.command = room - self.output - bool(self.output) if room >= _LEAST else 0

    def _cut(self, texts: tuple[str, str, str, str, str, str]) -> list[str]:
        widths = (self.id, _STATE, self.time, self.tries, self.command, self.output)
        return [
            pad(clip(text, width), width)
            for text, width in zip(texts, widths, strict=True)
            if width
        ]

    def titles(self) -> str:
        return " ".join(self._cut(("ID", "State", "Time", "Tries", "Command", "Last output")))

    def row(self, job: Job, picture: Picture, marked: bool) -> Line:
        command = one_line(job.command[:_LONGEST])
        said = picture.said.get(job.id, "")
        if not self.output and said and job.state == "in_progress":
            command = said
        shown = self._cut(
            (job.id, state_name(job), time_of(job, picture.now), tries(job), command, said)
        )
        if marked:
            text = pad(clip(" ".join(shown), self.columns), self.columns)
            return [("class:top.marked", text)]
        head, state, rest = shown[0] + " ", shown[1], "".join(f" {cell}" for cell in shown[2:])
        return [("", head), (f"class:state.{job.state}", state), ("", rest)]


def tries(job: Job) -> str:
    """How many of its runs are spent."""
    return f"{job.attempts}/{job.max_retries + 1}"


def snapshot_rows(picture: Picture, view: View) -> list[tuple[str, ...]]:
    """The rows of `SNAPSHOT`."""
    return [
        (
            job.id,
            state_name(job),
            time_of(job, picture.now),
            tries(job),
            one_line(job.command),
            picture.said.get(job.id, ""),
        )
        for job in view.rows(picture.jobs)
    ]


def snapshot_head(picture: Picture) -> str:
    """What stands above a snapshot's table."""
    told = "".join(part[1] for part in standing_text(picture.standing, 10_000)).strip()
    return f"{told}\n{_workers(picture.workers)}" if picture.workers else told
