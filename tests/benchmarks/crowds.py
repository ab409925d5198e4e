"""Many workers with nothing to do beside many finished jobs: what they cost, and who waits."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

from tests.benchmarks.measure import (
    ROOT,
    Figure,
    Sizes,
    add_finished,
    console_script,
    new_queue,
    start_workers,
)
from tests.benchmarks.waits import cpu_seconds

_SETTLED = 8.0  # seconds: until each has looked around, and what their start left is folded


def crowd(sizes: Sizes) -> list[Figure]:
    """A crowd of idle workers against one: CPU, and `enqueue` by many clients at once."""
    _, one, _ = _measured(1, sizes)
    idle, many, refused = _measured(sizes.crowd, sizes)
    name = f"{sizes.crowd} idle workers beside {sizes.finished} finished jobs"
    note = f"{1000 * one:.0f} ms with one worker, {1000 * many:.0f} ms with {sizes.crowd}"
    return [
        Figure(f"{name}: CPU in all", 100 * idle, "%", 5),
        Figure(f"{sizes.clients} clients beside them: refused", refused, "", 0),
        Figure("their enqueue, median, of that with one worker", many / one, "", 5, note=note),
    ]


def _measured(workers: int, sizes: Sizes) -> tuple[float, float, int]:
    """Processors in use while idle; the median seconds of an enqueue; how many were refused."""
    with new_queue() as queue, console_script() as command:
        add_finished(queue, sizes.finished)
        pids = start_workers(queue.folder, workers)
        time.sleep(min(_SETTLED, 10 * sizes.idle_seconds))
        before, begun = cpu_seconds(pids), time.monotonic()
        time.sleep(sizes.idle_seconds)
        idle = (cpu_seconds(pids) - before) / (time.monotonic() - begun)
        argv = command("enqueue", "--command", "true")
        env = {**os.environ, "PYTHONPATH": ROOT, "QUEUECTL_DATA": queue.folder}
        env.pop("PYTHONDONTWRITEBYTECODE", None)

        def enqueue(_: int) -> tuple[float, int]:
            begun = time.perf_counter()
            done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, env=env)
            return time.perf_counter() - begun, done.returncode

        with ThreadPoolExecutor(sizes.clients) as clients:
            done = list(clients.map(enqueue, range(5 * sizes.clients)))
    return idle, statistics.median(took for took, _ in done), sum(code != 0 for _, code in done)
