"""What one command costs as a whole process, beside the bare interpreter."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable

from queuectl.commands.handlers.completion import direct_code
from queuectl.job_queue import JobQueue
from tests.benchmarks.measure import (
    Figure,
    Sizes,
    add_finished,
    age,
    console_script,
    medians,
    new_queue,
    process_seconds,
)

BARE = [sys.executable, "-c", "pass"]


def one_shots(sizes: Sizes) -> list[Figure]:
    """`status` and `enqueue` in a small queue and in one of 100,000 jobs."""
    with new_queue() as few, new_queue() as many, console_script() as command:
        add_finished(few, 3)
        add_finished(many, sizes.finished)
        age(many, sizes)

        def timed(queue: JobQueue, *words: str) -> Callable[[], float]:
            argv = command(*words)
            return lambda: process_seconds(argv, queue.folder)

        took = medians(
            {
                "bare": lambda: process_seconds(BARE, few.folder),
                "status few": timed(few, "status"),
                "status many": timed(many, "status"),
                "enqueue few": timed(few, "enqueue", "{command: true}"),
                "enqueue many": timed(many, "enqueue", "{command: true}"),
            },
            sizes.starts,
        )
    return _told(took, sizes.finished)


def tabs(sizes: Sizes) -> list[Figure]:
    """A Tab in bash, of the bare interpreter; the last word shares its letters with all lines."""
    jobs = 2 * sizes.finished
    lines = {"command": "sho", "many ids": "show ", "few ids": "show finished-1999"}
    lines |= {"states": "retry finished-7", "no id": "show created"}
    with new_queue() as queue:
        add_finished(queue, jobs)
        age(queue, sizes)
        ask = [sys.executable, "-S", "-c", direct_code(), "__complete", "bash"]

        def timed(argv: list[str]) -> Callable[[], float]:
            return lambda: process_seconds(argv, queue.folder)

        measures = {name: timed([*ask, f"queuectl {line}"]) for name, line in lines.items()}
        took = medians({"bare": timed(BARE), **measures}, sizes.starts)
    bare = took.pop("bare")
    return [
        Figure(f"Tab beside {jobs} jobs, {name}", each / bare, "", 3, note=f"{1000 * each:.1f} ms")
        for name, each in took.items()
    ]


def _told(took: dict[str, float], many: int) -> list[Figure]:
    """The figures as the targets put them: above the bare interpreter, in milliseconds."""
    over = {name: 1000 * (seconds - took["bare"]) for name, seconds in took.items()}
    whole = {name: f"{1000 * seconds:.1f} ms in all" for name, seconds in took.items()}
    ratio = took["enqueue many"] / took["enqueue few"]
    named = f"with {many} jobs"
    return [
        Figure("bare interpreter", 1000 * took["bare"], "ms"),
        Figure("status, over bare", over["status few"], "ms", 20, note=whole["status few"]),
        Figure(f"status {named}", over["status many"], "ms", 60, note=whole["status many"]),
        Figure("enqueue, over bare", over["enqueue few"], "ms", 50, note=whole["enqueue few"]),
        Figure(f"enqueue {named}, of small", ratio, "", 1.5, note=whole["enqueue many"]),
    ]


def explaining(sizes: Sizes) -> list[Figure]:
    """`explain` of the last of many waiting jobs, of which half have tags, beside `status`."""
    count = sizes.finished
    with new_queue() as queue, console_script() as command:
        queue.enqueue(
            {"id": f"j{n}", "command": "true", "tags": ["t"] * (n % 2)} for n in range(count)
        )
        queue.checkpoint()
        words = {"status": ("status",), "explain": ("explain", f"j{count - 1}")}
        argvs = {name: command(*argv) for name, argv in words.items()}

        def timed(name: str) -> Callable[[], float]:
            return lambda: process_seconds(argvs[name], queue.folder)

        took = medians({name: timed(name) for name in words}, sizes.starts)
    name = f"explain of the last of {count} waiting jobs, of status"
    note = f"{1000 * took['explain']:.0f} ms"
    return [Figure(name, took["explain"] / took["status"], "", 6, note=note)]


def bulk(sizes: Sizes) -> list[Figure]:
    """One process that enqueues a whole file: jobs without ids, with ids, and longer files."""
    with console_script() as command:

        def timed(count: int, ids: bool) -> Callable[[], float]:
            def measure() -> float:
                with new_queue() as queue:
                    path = os.path.join(os.path.dirname(queue.folder), "jobs.jsonl")
                    _write_jobs(path, count, ids)
                    return process_seconds(command("enqueue", "--file", path), queue.folder)

            return measure

        n = sizes.bulk
        took = medians(
            {
                "made": timed(n, False),
                "named": timed(n, True),
                "double": timed(2 * n, False),
                "fourfold": timed(4 * n, False),
            },
            sizes.bulk_rounds,
        )
    growth = took["fourfold"] / took["made"]
    return [
        Figure(f"bulk enqueue of {n}", took["made"], "s", 0.3),
        Figure(f"bulk enqueue of {n} with ids", took["named"], "s", 0.3),
        Figure(
            "bulk enqueue of 4 times as many, of once",
            *(growth, "", 4.4),
            note=f"{took['double']:.2f} s for {2 * n}, {took['fourfold']:.2f} s for {4 * n}",
        ),
    ]


def _write_jobs(path: str, count: int, ids: bool) -> None:
    with open(path, "w") as file:
        for n in range(count):
            form = {"id": f"job-{n}"} if ids else {}
            file.write(json.dumps({**form, "command": "true", "priority": n % 3}) + "\n")
