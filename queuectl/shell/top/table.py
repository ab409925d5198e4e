"""The look of `top`: pictures of the queue as styled lines, for any size of screen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from queuectl.commands.render import Column, cells, clip, one_line, pad, unjoined
from queuectl.live.feed import Picture
from queuectl.live.rows import View, state_name
from queuectl.live.standing import Standing
from queuectl.model.derived import moment
from queuectl.model.job import Job
from queuectl.model.times import format_duration
from queuectl.shell.prompt.toolbar import standing_text
from queuectl.store.facts import WorkerInfo
from queuectl.worker.hindrance import hindrance

Line: TypeAlias = "list[tuple[str, str]]"

_STATE, _TIME, _TRIES, _PRIORITY = 9, 9, 5, 8  # columns of these cells
_LEAST_ID = 8
_LEAST = 4  # with fewer columns a command is not shown
_WIDE, _MIDDLING, _NARROW = 100, 60, 36  # from so many columns on there is room for more cells
_TALL, _TITLED = 10, 6  # from so many rows on workers and titles are shown
_STEP, _LONG_STEP = 5, 60  # seconds to which the time since the last change is rounded
_LONGEST = 400  # characters of a command that can be shown

SNAPSHOT = (
    Column("ID", _LEAST_ID),
    Column("State", _STATE),
    Column("Time", 4),
    Column("Tries", _TRIES),
    Column("Command", 12, elastic=True),
    Column("Last output", 11, elastic=True),
)


def time_of(job: Job, now: float) -> str:
    """How long the job has run, until when it waits, or how long ago it ended."""
    if job.state == "in_progress":
        return format_duration(int(max(0.0, now - (moment(job.started_at) or 0.0))))
    if job.state in ("failed", "pending"):
        left = (moment(job.run_at) or 0.0) - now
        return f"in {format_duration(int(left) + 1)}" if left > 0 else "due"
    ago = max(0.0, now - (moment(job.updated_at) or 0.0))
    # Rounded, since each change of a row costs bytes on a slow line.
    if ago < _STEP:
        return "just now"
    step = _LONG_STEP if ago >= _LONG_STEP else _STEP
    return f"{format_duration(ago // step * step)} ago"


def body_rows(rows: int) -> int:
    """The number of jobs that fit on a screen of `rows` rows."""
    around = 2 + int(rows >= _TITLED) + int(rows >= _TALL)
    return max(1, rows - around)


def screen(
    picture: Picture, view: View, columns: int, rows: int, footer: tuple[str, str]
) -> list[Line]:
    """The lines of the whole screen; `footer`: style and text of the last one."""
    listed = view.rows(picture.jobs)
    room = body_rows(rows)
    marked = view.row_shown(listed, room)
    layout = _Layout(listed.longest, columns, view.order == "priority")
    lines = [_title(picture, view, columns, room)]
    if rows >= _TALL:
        lines.append([("", clip(f" {workers_line(picture.workers, view, columns - 1)}", columns))])
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
    """The lines of the whole screen with the wished part of a job's output."""
    job, page = picture.jobs.get(job_id), picture.page
    about = f"{state_name(job)} {time_of(job, picture.now)}" if job else "is gone"
    if page is not None and not page.at_end:
        about += f" | {100 * page.position[0] // max(1, page.size)} %"
    title = clip(f" output of {job_id} | {about}", columns)
    body = () if page is None else page.lines if page.size else ("(no output)",)
    lines: list[Line] = [[("class:top.title", pad(title, columns))]]
    lines += [[("", clip(line, columns))] for line in body]
    lines += [[] for _ in range(rows - 1 - len(lines))]
    return [*lines[: rows - 1], [(footer[0], clip(footer[1], columns))]]


def log_rows(rows: int) -> int:
    """The number of lines of output that fit on a screen of `rows` rows."""
    return max(1, rows - 2)


def _title(picture: Picture, view: View, columns: int, room: int) -> Line:
    chosen = " | display paused" if view.paused else ""
    if view.filter:
        chosen += f" | /{unjoined(view.filter)}"
    if view.order != "state" or view.backward:
        chosen += f" | by {view.order}{' backward' if view.backward else ''}"
    if columns >= _MIDDLING:
        chosen += _whole(picture, view, room)
    left = columns - cells(chosen)
    told = "".join(part[1] for part in standing_text(picture.standing, columns))
    if columns < _MIDDLING and not picture.standing.trouble:
        told = _short_counts(picture.standing, left if left > 10 else columns)
    text = clip(clip(told, left) + chosen if left > 10 else chosen[3:] or told, columns)
    return [("class:top.title", pad(text, columns))]


def _short_counts(standing: Standing, columns: int) -> str:
    """The counts of running, waiting, dead and ended jobs, in as few letters as necessary."""
    whole = "".join(part[1] for part in standing_text(standing, 10_000))
    counts = standing.counts
    sums = {name: sum(counts.get(state, 0) for state in states) for name, states in _SUMS.items()}
    told = [(count, name) for name, count in sums.items() if count]
    mark = " !" if sums["wait"] and not standing.workers else ""
    long = f"{mark} {', '.join(f'{count} {name}' for count, name in told)}"
    short = mark + "".join(f" {count}{name[0]}" for count, name in told)
    return next((text for text in (whole, long) if cells(text) <= columns), short)


_SUMS = {
    "run": ("in_progress",),
    "wait": ("pending", "failed"),
    "dead": ("dead",),
    "ended": ("completed", "cancelled"),
}


def _whole(picture: Picture, view: View, room: int) -> str:
    """Which jobs of how many are shown, if not all."""
    count = len(picture.jobs)
    if picture.partial:
        return " | reading all jobs"
    if count <= room:
        return ""
    return f" | {view.first + 1}-{min(view.first + room, count)} of {count}"


def _at(worker: WorkerInfo) -> str:
    """What a worker is doing."""
    if not worker.alive or hindrance(worker):
        return "hindered" if worker.alive else "lost"
    return worker.job_id or "idle"


def workers_line(workers: Sequence[WorkerInfo], view: View, columns: int) -> str:
    """The workers with what they run, from `view.worker` on if not all fit."""
    told = _told(workers)
    whole = f"workers: {', '.join(told)}" if told else _NO_WORKERS
    if cells(whole) <= columns or len(told) < 2:
        view.worker = 0
        return whole
    view.worker = max(0, min(view.worker, len(told) - 1))
    return f"workers {view.worker + 1}- of {len(told)}: {', '.join(told[view.worker :])}"


_NO_WORKERS = "no workers ('worker start' starts one)"


def _told(workers: Sequence[WorkerInfo]) -> list[str]:
    return [
        f"{worker.pid} {_at(worker)}" for worker in sorted(workers, key=lambda worker: worker.pid)
    ]


class _Layout:
    """Which cells fit into a row, and their widths."""

    def __init__(self, longest: int, columns: int, prioritised: bool) -> None:
        self.columns = columns
        self.prioritised = prioritised  # shows the priority; if narrow, with the state
        self.priority = _PRIORITY if prioritised and columns >= _MIDDLING else 0
        most = columns // 3 if columns >= _MIDDLING else columns - _STATE - 1
        if columns >= _NARROW and columns < _MIDDLING:
            most -= _TIME + 1
        self.id = max(_LEAST_ID, min(longest, most))
        self.time = _TIME if columns >= _NARROW else 0
        self.tries = _TRIES if columns >= _WIDE else 0
        cells = (self.id, _STATE, self.priority, self.time, self.tries)
        used = sum(width + 1 for width in cells if width)
        room = max(0, columns - used)
        self.output = room * 3 // 5 if columns >= _MIDDLING else 0
        self.command = room - self.output - bool(self.output) if room >= _LEAST else 0

    def _cut(self, *texts: str) -> list[str]:
        widths = (self.id, _STATE, self.priority, self.time, self.tries, self.command, self.output)
        return [
            pad(clip(text, width), width)
            for text, width in zip(texts, widths, strict=True)
            if width
        ]

    def titles(self) -> str:
        state = "Priority" if self.prioritised and not self.priority else "State"
        return " ".join(
            self._cut("ID", state, "Priority", "Time", "Tries", "Command", "Last output")
        )

    def row(self, job: Job, picture: Picture, marked: bool) -> Line:
        command = unjoined(one_line(job.command[:_LONGEST]))
        said = unjoined(picture.said.get(job.id, ""))
        if not self.output and said and job.state == "in_progress":
            command = said
        state, priority = state_name(job), str(job.priority)
        if self.prioritised and not self.priority:
            state = f"{priority} {state}"
        time = time_of(job, picture.now)
        shown = self._cut(job.id, state, priority, time, tries(job), command, said)
        if marked:
            text = pad(clip(" ".join(shown), self.columns), self.columns)
            return [("class:top.marked", text)]
        head, state, rest = shown[0] + " ", shown[1], "".join(f" {cell}" for cell in shown[2:])
        return [("", head), (f"class:state.{job.state}", state), ("", rest)]


def tries(job: Job) -> str:
    """How many of the job's attempts are used."""
    return f"{job.attempts}/{job.max_retries + 1}"


def snapshot_rows(jobs: Sequence[Job], picture: Picture) -> list[tuple[str, ...]]:
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
        for job in jobs
    ]


def snapshot_head(picture: Picture) -> str:
    """The text above a snapshot's table."""
    told = "".join(part[1] for part in standing_text(picture.standing, 10_000)).strip()
    return f"{told}\nworkers: {', '.join(_told(picture.workers))}" if picture.workers else told
