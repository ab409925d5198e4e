"""Forked processes that work on one queue until they are told to stop, and the notes they leave."""

from __future__ import annotations

import mmap
import os
import shutil
import signal
import struct
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.campaigns.yard import Notes, Yard

_WORD = struct.Struct("Q")


class Shared:
    """Numbers that forked processes see at once; each has one writer."""

    def __init__(self, count: int) -> None:
        self._memory = mmap.mmap(-1, count * _WORD.size)

    def __getitem__(self, at: int) -> int:
        return int(_WORD.unpack_from(self._memory, at * _WORD.size)[0])

    def __setitem__(self, at: int, value: int) -> None:
        _WORD.pack_into(self._memory, at * _WORD.size, value)


class Crew:
    """The processes of one campaign. A role gets its notes, and `over` to ask whether to stop."""

    def __init__(self, yard: Yard) -> None:
        self.yard = yard
        self._flag = Shared(1)
        self._pids: list[int] = []

    def over(self) -> bool:
        """Whether the campaign is over."""
        return bool(self._flag[0])

    def fork(self, name: str, role: Callable[[Notes], None]) -> None:
        """Start a process that plays the role once."""
        pid = os.fork()
        if pid:
            self._pids.append(pid)
            return
        try:
            notes = Notes(self.yard, name)
            try:
                role(notes)
            except Exception:
                notes.tell("violation", f"{name}: {traceback.format_exc()}")
        finally:
            os._exit(0)

    def work(self, seconds: float) -> list[str]:
        """Let them work for so long; what they saw that must not be."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self.yard.violations():
            time.sleep(0.1)
        self._flag[0] = 1
        late = self._join(30.0)
        found = [f"{late} process(es) did not come to an end"] if late else []
        return found + self.yard.violations()

    def _join(self, seconds: float) -> int:
        """Reap them all, killing those that take longer than that; how many did."""
        end, late = time.monotonic() + seconds, 0
        while self._pids:
            pid, _ = os.waitpid(-1, os.WNOHANG)
            if pid:
                self._pids.remove(pid)
            elif time.monotonic() > end:
                late += 1
                self.kill()
            else:
                time.sleep(0.01)
        return late

    def kill(self) -> None:
        """End them at once; they still have to be waited for."""
        for pid in self._pids:
            os.kill(pid, signal.SIGKILL)


@contextmanager
def crew() -> Iterator[Crew]:
    """A crew in a new folder that is removed afterwards."""
    root = tempfile.mkdtemp(prefix="queuectl-campaign-")
    yard = Yard(root)
    yard.make()
    gathered = Crew(yard)
    try:
        yield gathered
    finally:
        gathered.kill()
        gathered._join(10.0)
        shutil.rmtree(root)
