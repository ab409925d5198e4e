"""How much memory long queues take: of busy workers, and of one large `enqueue --file`."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time

from queuectl.job_queue import JobQueue
from tests.benchmarks.drains import drain
from tests.benchmarks.measure import (
    ROOT,
    Figure,
    Sizes,
    add_waiting,
    console_script,
    new_queue,
    start_workers,
)

_RUNS = 1_000  # what workers have claimed when they are looked at, as far as there are jobs
_MB = 1e6


def memory(sizes: Sizes) -> list[Figure]:
    """Peak resident sizes, and the rate of a drain beside as many jobs as a queue may hold."""
    some, most = sizes.waiting, sizes.million
    size, took = _handed_in(most)
    return [
        Figure(f"two busy workers beside {some} waiting jobs, together", _busy(some, 2), "MB", 60),
        Figure(f"a busy worker beside {most} waiting jobs", _busy(most, 1), "MB", 150),
        _ruled(some),
        Figure(f"enqueue --file of {most} jobs", size, "MB", 300, note=f"{took:.1f} s"),
        _beside(sizes),
    ]


def _ruled(waiting: int) -> Figure:
    """What plain jobs take where there are rules too, which concern others, of where are none."""
    name = f"a busy worker beside {waiting} plain jobs and some rules, of without rules"
    return Figure(name, _busy(waiting, 1, ruled=True) / _busy(waiting, 1), "", 1.1)


def _busy(waiting: int, workers: int, *, ruled: bool = False) -> float:
    """The sum of the workers' peaks after their claims, in MB."""
    with new_queue() as queue:
        if ruled:
            queue.change_settings({"limits": {"gpu": 1}, "paused": ["late"]})
            queue.enqueue(
                {"command": "true", "tags": [tag], "lock": ["a"]} for tag in ("gpu", "late")
            )
        _fill(queue, waiting)
        pids = start_workers(queue.folder, workers)
        deadline = time.monotonic() + 600
        while queue.counts()["completed"] < min(waiting, _RUNS):
            assert time.monotonic() < deadline, queue.counts()
            time.sleep(0.1)
        return sum(map(_peak, pids)) / _MB


def _fill(queue: JobQueue, count: int) -> None:
    while count:
        part = min(count, 50_000)
        queue.enqueue([{"command": "true"}] * part)
        count -= part
    queue.checkpoint()


def _peak(pid: int) -> float:
    """The greatest resident size that a process had, in bytes; 0 where it is not told."""
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8") as file:
            lines = [line.split() for line in file if line.startswith("VmHWM:")]
    except OSError:
        return 0.0
    return 1024.0 * int(lines[0][1]) if lines else 0.0


def _handed_in(count: int) -> tuple[float, float]:
    """The peak of an `enqueue --file` of so many jobs in MB, and its seconds."""
    with tempfile.NamedTemporaryFile("w", prefix="queuectl-") as file:
        file.write('{"command": "true"}\n' * count)
        file.flush()
        with new_queue() as queue, console_script() as command:
            argv = command("-q", "enqueue", "--file", file.name)
            env = {**os.environ, "PYTHONPATH": ROOT, "QUEUECTL_DATA": queue.folder}
            # A process of its own: the peak of children is that of the greatest one.
            code = (
                "import resource, subprocess, sys\n"
                "subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)\n"
                "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
            )
            begun = time.perf_counter()
            told = subprocess.check_output([sys.executable, "-c", code, *argv], env=env)
            unit = 1 if sys.platform == "darwin" else 1024
            return int(told) * unit / _MB, time.perf_counter() - begun


def _beside(sizes: Sizes) -> Figure:
    ratios = []
    with new_queue() as long:
        for _ in range(max(1, sizes.million // 50_000)):
            add_waiting(long, min(sizes.million, 50_000))
        for _ in range(sizes.drain_rounds):
            with new_queue() as empty:
                alone = drain(empty, sizes.drain).speed.rate
            ratios.append(drain(long, sizes.drain).speed.rate / alone)
    ratio = sorted(ratios)[len(ratios) // 2]
    return Figure(f"drain beside {sizes.million} waiting jobs, of without", ratio, "", 0.95, True)
