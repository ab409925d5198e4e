"""The standing of the queue, for parts of the screen that always show it."""

from __future__ import annotations

from typing import NamedTuple

from queuectl.commands.render import untold
from queuectl.store.facts import ALL, Summary
from queuectl.worker.hindrance import told_shortly

LOOK_AT_WORKERS = 2.0  # seconds between looks at workers, since their deaths change no file


class Standing(NamedTuple):
    """Counts by state and living workers; `trouble` if the queue cannot be read.

    `hindered`: workers that cannot work, dead hooks, or what is paused, if anything. `is_early`:
    all waiting jobs are due later.
    """

    counts: dict[str, int]
    workers: int
    trouble: str = ""
    hindered: str = ""
    is_early: bool = False


def standing_of(summary: Summary) -> Standing:
    """The standing from a summary."""
    hindered = told_shortly(summary.workers)
    if not hindered and summary.untold:
        hindered = "; ".join(untold(summary.untold))
    if not hindered and summary.paused:
        tags = ", ".join(summary.paused)
        hindered = "the queue is paused" if ALL in summary.paused else f"paused: {tags}"
    return Standing(
        dict(summary.counts), len(summary.worker_pids), hindered=hindered, is_early=summary.is_early
    )
