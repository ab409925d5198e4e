"""Processes that kill themselves (kill -9) where it hurts: at the n-th change of a file, or start.

Kills at random moments mostly hit processes that wait; these hit the moments between two steps.
`python -m tests.campaigns.doom SEED --data DIR` is a worker with such a fate.
"""

from __future__ import annotations

import os
import random
import signal
import sys
from typing import Any, NoReturn

from queuectl.store import door

_CHANGES = frozenset({"write", "fsync", "rename", "unlink", "ftruncate", "makedirs"})


class _Doomed:
    """Stands in for `os` in door.py until the n-th call that changes a file."""

    def __init__(self, at: int, how: str) -> None:
        self._left, self._how = at, how

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in _CHANGES:
            return real

        def call(*args: Any, **more: Any) -> Any:
            self._left -= 1
            if self._left:
                return real(*args, **more)
            if self._how == "half-way" and name == "write":
                real(args[0], bytes(args[1])[: len(args[1]) // 2])
            elif self._how == "after":
                real(*args, **more)
            return _die()

        return call


def _die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("a killed process goes on")


def arm_questions(chance: random.Random, latest: int) -> None:
    """Let this process die at one of its next `latest` questions to a MongoDB server."""
    from pymongo import monitoring

    left, late = chance.randint(1, latest), chance.random() < 0.5

    class Doomed(monitoring.CommandListener):
        def started(self, event: object) -> None:
            nonlocal left
            left -= 1
            if not left and not late:
                _die()

        def succeeded(self, event: object) -> None:
            if left <= 0 and late:
                _die()

        failed = succeeded

    monitoring.register(Doomed())


def arm(chance: random.Random, latest: int) -> None:
    """Let this process die at one of its next `latest` changes of a file."""
    how = chance.choice(("before", "after", "half-way"))
    door.os = _Doomed(chance.randint(1, latest), how)  # type: ignore[assignment]


def _arm_starts(chance: random.Random) -> None:
    """Let this process die just before or after one of its next starts of a command."""
    real, left, late = os.posix_spawn, chance.randint(1, 30), chance.random() < 0.8

    def spawn(*args: Any, **more: Any) -> int:
        nonlocal left
        left -= 1
        if left:
            return real(*args, **more)
        if late:
            real(*args, **more)
        return _die()

    os.posix_spawn = spawn


def main() -> int:
    """A doomed worker."""
    from queuectl.worker import entry

    chance = random.Random(sys.argv[1])
    if "--questions" in sys.argv:
        sys.argv.remove("--questions")
        arm_questions(chance, 300)
    elif chance.random() < 0.6:
        arm(chance, 150)
    else:
        _arm_starts(chance)
    return entry.main(sys.argv[2:])


if __name__ == "__main__":
    raise SystemExit(main())
