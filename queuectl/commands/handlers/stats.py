"""Statistics of the jobs: `stats`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from queuectl.commands import render
from queuectl.commands.context import Context
from queuectl.commands.dispatch import Result
from queuectl.model.stats import stats as stats_of
from queuectl.model.times import format_duration

_BLOCKS = "▁▂▃▄▅▆▇█"
_PLAIN = ".:-=+*#@"


def stats(context: Context, args: dict[str, Any]) -> Result:
    """Counts, failures, waiting and run times, and the ends of each hour of the last day."""
    found = stats_of(context.queue.find(), time.time())
    is_utf = "utf" in (getattr(context.out, "encoding", None) or "").lower()
    blocks = _BLOCKS if is_utf else _PLAIN
    words = (f"{state} {count}" for state, count in found["jobs"].items())
    return Result(_lines(context, found, blocks), words=words, form=lambda: found)


def _lines(context: Context, found: dict[str, Any], blocks: str) -> Iterator[str]:
    since = f", since {render.moment(found['since'], context.clock)}" if found["since"] else ""
    yield f"Jobs: {found['total']}{since}"
    yield f"Runs: {found['runs']}, of which {found['failures']} failed"
    if found["success"] is not None:
        yield f"Completed of those that ended: {100 * found['success']:.4g} %"
    for title, times in (("Waiting", found["wait"]), ("Run", found["run"])):
        if times["count"]:
            parts = [f"{name} {format_duration(round(times[key], 3))}" for name, key in _RANKS]
            yield f"{title} times of {times['count']}: {', '.join(parts)}"
    hour = found["hour"]
    yield (
        f"The last hour: {hour['completed']} completed, "
        f"{render.counted(hour['failed'], 'run')} failed, {hour['dead']} dead"
    )
    hours = [completed + failed for completed, failed, _ in found["hours"]]
    if any(hours):
        most, steps = max(hours), len(blocks) - 1
        row = (blocks[(count * steps + most - 1) // most] if count else " " for count in hours)
        yield f"Runs ended an hour, the last 24: {''.join(row)} (most: {most})"


_RANKS = (("median", "median"), ("95 %", "p95"), ("longest", "longest"))
