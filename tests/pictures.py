"""The README's pictures, of real sessions on a terminal: `python -m tests.pictures [FOLDER]`.

Queue, workers and commands are real; what pyte then has on its screen is written down as SVG.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from typing import NamedTuple
from xml.sax.saxutils import escape

from queuectl.job_queue import JobQueue
from queuectl.worker import pool
from tests.terminal import TAB, Terminal

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
DOCS = os.path.join(ROOT, "docs")
_WIDE, _HIGH, _MARGIN, _SIZE = 8.4, 19, 14, 14  # pixels: a cell, the edge, the letters
_PAPER, _INK, _EDGE = "#171b22", "#d7dce3", "#59626f"
_INKS = {
    "black": "#171b22",
    "red": "#ff7b72",
    "green": "#7ee787",
    "brown": "#e3b341",
    "blue": "#4c92ff",
    "magenta": "#d2a8ff",
    "cyan": "#56d4dd",
    "white": "#c3c9d1",
    "brightblack": "#8b949e",
    "brightwhite": "#ffffff",
    "default": _INK,
}
_FONTS = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
_HEAD = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" width="{wide}" height="{high}"
 font-family="{fonts}" font-size="{size}" shape-rendering="crispEdges"
 role="img" aria-label="{title}">
<title>{title}</title>
<rect x="0.5" y="0.5" width="{inner}" height="{height}" rx="8" fill="{paper}" stroke="{edge}"/>
"""
# What the jobs run: they print and end as such programs do.
_PROGRAMS = {
    "render": 'for n in $(seq 1 900); do echo "shot $1: frame $n of 900"; sleep 0.1; done',
    "fetch": 'echo "fetch: $1: connection refused" >&2; exit 7',
    "thumbs": "sleep 1.2; echo 48 thumbnails made",
    "report": "echo report for week $1 written",
    "upload": 'echo "upload: $1: no space left on server" >&2; exit 28',
}
_EARLIER = """
config set base 45
enqueue {id: report-46, command: ./report 46}
enqueue {id: report-47, command: ./report 47}
enqueue {id: upload-web, command: ./upload web.tar, max_retries: 0}
enqueue {id: upload-raw, command: ./upload raw.tar, max_retries: 0}
enqueue {id: fetch-feeds, command: ./fetch feeds.example.org, max_retries: 5}
enqueue --id backup --delay 8h -- tar czf site.tgz site
worker start --count 3
wait report-46 report-47
enqueue {id: shot-12, command: ./render 12}
enqueue {id: shot-13, command: ./render 13}
"""


class Run(NamedTuple):
    """Cells of a row that are drawn alike."""

    at: int
    text: str
    ink: str
    paper: str
    bold: bool
    underlined: bool


def draw(terminal: Terminal, title: str, *, cursor: bool) -> str:
    """What the terminal shows, as SVG."""
    screen = terminal.screen
    wide = round(screen.columns * _WIDE + 2 * _MARGIN)
    high = screen.lines * _HIGH + 2 * _MARGIN
    head = _HEAD.format(
        wide=wide, high=high, inner=wide - 1, height=high - 1, title=escape(title),
        fonts=_FONTS, size=_SIZE, paper=_PAPER, edge=_EDGE,
    )  # fmt: skip
    parts = [head]
    for y in range(screen.lines):
        for run in _runs(screen.buffer[y], screen.columns):
            parts += _paint(run, y)
    if cursor:
        parts.append(_box(screen.cursor.x, screen.cursor.y, 1, _INK))
    return "".join([*parts, "</svg>\n"])


def _runs(row, columns: int) -> Iterator[Run]:
    looks = ((at, row[at].data or " ", _look(row[at])) for at in range(columns))
    for look, cells in groupby(looks, key=lambda cell: cell[2]):
        found = list(cells)
        yield Run(found[0][0], "".join(text for _, text, _ in found), *look)


def _look(cell) -> tuple[str, str, bool, bool]:
    ink, paper = _INKS[cell.fg], _PAPER if cell.bg == "default" else _INKS[cell.bg]
    if cell.reverse:
        ink, paper = paper, ink
    return ink, paper, cell.bold, cell.underscore


def _paint(run: Run, y: int) -> Iterator[str]:
    """A background, and the words at their places: whatever the font, columns stay columns."""
    if run.paper != _PAPER:
        yield _box(run.at, y, len(run.text), run.paper)
    for words in re.finditer(r"\S+(?: \S+)*", run.text):
        yield _words(words[0], run.at + words.start(), y, run)


def _words(text: str, at: int, y: int, run: Run) -> str:
    style = ' font-weight="bold"' * run.bold + ' text-decoration="underline"' * run.underlined
    x, base = _MARGIN + at * _WIDE, _MARGIN + y * _HIGH + 14
    return (
        f'<text x="{x:.1f}" y="{base}" textLength="{len(text) * _WIDE:.1f}" '
        f'lengthAdjust="spacingAndGlyphs" fill="{run.ink}"{style}>{escape(text)}</text>\n'
    )


def _box(x: int, y: int, wide: int, ink: str) -> str:
    left, top = _MARGIN + x * _WIDE, _MARGIN + y * _HIGH
    return (
        f'<rect x="{left:.1f}" y="{top}" width="{wide * _WIDE:.1f}" height="{_HIGH}" '
        f'fill="{ink}"/>\n'
    )


@contextmanager
def workshop() -> Iterator[dict[str, str]]:
    """A queue with jobs behind it and jobs going on; its environment, and its own folder."""
    before, home = os.getcwd(), tempfile.mkdtemp(prefix="queuectl-")
    os.chdir(home)
    for name, program in _PROGRAMS.items():
        with open(name, "w") as file:
            file.write(f"#!/bin/sh\n{program}\n")
        os.chmod(name, 0o700)
    folder = os.path.join(home, "studio")
    env = {"QUEUECTL_DATA": folder, "QUEUECTL_HISTORY": os.path.join(home, "history")}
    env["PYTHONPATH"] = ROOT
    queue = JobQueue.open(folder)
    try:
        argv = [sys.executable, "-m", "queuectl"]
        quiet = {"stdout": subprocess.DEVNULL, "env": {**os.environ, **env}}
        subprocess.run(argv, input=_EARLIER.encode(), **quiet)
        yield env
    finally:
        pool.stop(queue, now=True)
        queue.close()
        os.chdir(before)
        shutil.rmtree(home)


@contextmanager
def _terminal(columns: int, rows: int, *argv: str, **env: str) -> Iterator[Terminal]:
    terminal = Terminal(columns, rows, argv, **env)
    try:
        yield terminal
    finally:
        terminal.close()


def shell_picture(env: dict[str, str]) -> str:
    """The shell: a notice above the prompt, and the menu for a half-typed line."""
    with _terminal(96, 20, **env) as shell:
        shell.prompted()
        shell.run("enqueue {id: thumbs, command: ./thumbs photos}")
        shell.run("list --state dead")
        shell.keys("retry ")
        shell.shows("Job 'thumbs' (./thumbs photos) completed", "upload-raw", "fetch-feeds")
        shell.until(lambda: re.search("thumbs +completed", shell.text), "it in the menu")
        shell.keys(TAB)
        shell.prompted("retry fetch-feeds")
        shell.shows("2 running")
        return draw(shell, "The shell of queuectl, completing job ids", cursor=True)


def top_picture(env: dict[str, str]) -> str:
    """`top`, some seconds later."""
    with _terminal(104, 15, "top", **env) as top:
        for shot in ("12", "13"):
            some = re.compile(rf"shot {shot}: frame ([3-9]\d|\d{{3}}) ")
            top.until(lambda some=some: some.search(top.text), some.pattern)
        top.shows("q quit")
        return draw(top, "queuectl top: jobs and workers live on the whole screen", cursor=False)


def main(folder: str = DOCS) -> int:
    """Make both pictures anew."""
    with workshop() as env:
        for name, picture in (("top.svg", top_picture), ("shell.svg", shell_picture)):
            drawn = picture(env)
            with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
                file.write(drawn)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
