"""How the queue stands, for what shows it all the time."""

from __future__ import annotations

from typing import NamedTuple


class Standing(NamedTuple):
    """Counts by state and living workers; `trouble` if the queue cannot be read.

    `hindered`: which workers cannot work, if any.
    """

    counts: dict[str, int]
    workers: int
    trouble: str = ""
    hindered: str = ""
