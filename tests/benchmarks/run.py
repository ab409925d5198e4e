"""Measures what the README claims: `python -m tests.benchmarks.run [NAME ...] [--small]`.

Prints a row for each figure with its target. `--small` only shows that everything runs. Nothing
asserts the figures: they belong to a machine, and most of them to how busy it is.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from tests.benchmarks import (
    crowds,
    databases,
    drains,
    gates,
    hosts,
    memory,
    pages,
    prompts,
    starts,
    waits,
)
from tests.benchmarks.measure import Figure, full, small

ROWS = {
    "drain": drains.short_drain,
    "long-drain": drains.long_drain,
    "crowded-drain": drains.crowded_drain,
    "bulk": starts.bulk,
    "one-shots": starts.one_shots,
    "tabs": starts.tabs,
    "explain": starts.explaining,
    "latency": waits.latency,
    "freed-slot": waits.freed_slot,
    "idle": waits.idle,
    "crowd": crowds.crowd,
    "gates": gates.gates,
    "memory": memory.memory,
    "page-readers": pages.readers,
    "page-list": pages.first_page,
    "page-idle": pages.idle,
    "page-news": pages.news,
    "first-prompt": prompts.first_prompt,
    "key-echo": prompts.key_echo,
    "top": prompts.top,
    "mongodb-claims": databases.claims,
    "mongodb-crowds": databases.crowds,
    "mongodb-drain": databases.drains,
    "mongodb-hosts": hosts.hosts,
    "mongodb-one-shots": databases.one_shots,
}


def main(words: Sequence[str]) -> int:
    """Measure the rows named, or all of them."""
    sizes = small() if "--small" in words else full()
    names = [word for word in words if word != "--small"] or list(ROWS)
    unknown = [name for name in names if name not in ROWS]
    if unknown:
        sys.stderr.write(f"no benchmark named {unknown[0]}; there are {', '.join(ROWS)}\n")
        return 2
    sys.stdout.write(f"{'figure':<66} {'measured':>12}  target\n")
    for name in names:
        begun = time.monotonic()
        for figure in ROWS[name](sizes):
            sys.stdout.write(line(figure))
        sys.stdout.write(f"# {name} took {time.monotonic() - begun:.1f} s\n")
        sys.stdout.flush()
    return 0


def line(figure: Figure) -> str:
    """The figure as a row of the table."""
    value = f"{figure.value:.3g} {figure.unit}".strip()
    target = "-"
    if figure.limit is not None:
        sign = "at least" if figure.more else "at most"
        target = f"{sign} {figure.limit:g} {figure.unit}".strip()
        target += ": reached" if figure.reached else ": MISSED"
    note = f"  ({figure.note})" if figure.note else ""
    return f"{figure.what:<66} {value:>12}  {target}{note}\n"


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
