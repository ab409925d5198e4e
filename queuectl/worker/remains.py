"""What a run leaves behind: which processes belong to it, and ending all of them.

A process can change its group, its session, its environment and its parent, so each of these is
looked at. On Linux a worker is the subreaper of all that it starts: whatever a run does, its
processes descend from the worker, and having no child at all proves that nothing is left.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple, TypeAlias

from queuectl.worker import processes
from queuectl.worker.processes import Seen

Found: TypeAlias = "dict[int, Seen]"  # living processes by pid
_FIRST_PAUSE, _LONGEST_PAUSE = 0.01, 0.25  # seconds between looks at what was signalled
_DETACHED = b"\0-m\0queuectl.worker\0--data\0"  # as pool.py starts one, and older versions did
_MOST_LEFT = 200  # runs whose marks are remembered
_SHORT = 0.5  # seconds; in a shorter run the pids do not start again from below


class Run(NamedTuple):
    """One run: the pid of its shell, which leads its session, and its start time."""

    pid: int
    start: str


class Offspring:
    """What descends from this process, which must be the subreaper of it; Linux only.

    What a run left behind that succeeded is spared by the later ones, and all that it starts, too.
    """

    def __init__(self) -> None:
        self._spared: set[tuple[int, str]] = set()
        self._left_by: list[frozenset[bytes]] = []  # marks of the runs that left something

    def of(self, run: Run, table: Found | None = None) -> Found:
        """The living processes of this run, in a look that was just taken or in a new one."""
        table = processes.look() if table is None else table
        mine = os.getpid()
        leader = table.get(run.pid)
        # Once nobody is left in a session or group, its number can come again.
        same = leader is None or leader.start == run.start
        spared = self._spared_in(table, run)
        seeds = {
            one.pid
            for one in table.values()
            if (one.parent == mine and not _is_older(one, run))
            or (same and run.pid in (one.session, one.group))
        }
        strange = {pid for pid in seeds if self._was_left(table[pid], run)}
        return _closure(table, seeds, spared | strange | {mine})

    def has_nothing_new(self, run: Run, seconds: float) -> bool:
        """Whether a run that took so long surely left nothing; a quick look, which may not know."""
        if not self._spared or seconds > _SHORT or processes.latest_pid() < run.pid:
            return False
        mine, pid = os.getpid(), run.pid
        return not any(
            one.parent == mine or one.parent >= pid or pid in (one.session, one.group)
            for one in processes.look(pid).values()
        )

    def spare(self, run: Run, marks: Collection[bytes]) -> bool:
        """Let live what the run with these marks has left behind; whether that is anything."""
        table = processes.look()
        found = self.of(run, table)
        known = {(one.pid, one.start) for one in table.values() if not one.ended}
        self._spared = (self._spared & known) | {(one.pid, one.start) for one in found.values()}
        if found:
            self._left_by = [*self._left_by[-_MOST_LEFT:], frozenset(marks)]
        elif not self._spared:
            self._left_by.clear()
        return bool(found)

    def _spared_in(self, table: Found, run: Run) -> set[int]:
        roots = {one.pid for one in table.values() if (one.pid, one.start) in self._spared}
        sessions = {table[pid].session for pid in roots} - {run.pid, os.getsid(0)}
        roots |= {one.pid for one in table.values() if one.session in sessions}
        return set(_closure(table, roots, {os.getpid(), run.pid}))

    def _was_left(self, process: Seen, run: Run) -> bool:
        """Whether it belongs to what an earlier run left: an orphan whose parents are gone."""
        if process.session == run.pid or not self._left_by:
            return False
        environment = processes.environment_of(process.pid)
        return any(marks <= environment for marks in self._left_by)


def _is_older(process: Seen, run: Run) -> bool:
    return run.start.isdigit() and int(process.start) < int(run.start)


def _closure(table: Found, seeds: Iterable[int], barred: Collection[int]) -> Found:
    """The seeds and all that descends from them, but not through what is barred.

    A worker that a job has started in the background is not part of that job, nor is what it runs.
    """
    children: dict[int, list[int]] = {}
    for one in table.values():
        children.setdefault(one.parent, []).append(one.pid)
    waiting, found = list(seeds), {}
    while waiting:
        pid = waiting.pop()
        if pid in table and pid not in found and pid not in barred and not _is_worker(pid):
            found[pid] = table[pid]
            waiting += children.get(pid, ())
    return {pid: one for pid, one in found.items() if not one.ended}


def _is_worker(pid: int) -> bool:
    # Not by the one word: `grep -r queuectl.worker` is a command like any other.
    return _DETACHED in b"\0".join(processes.arguments_of(pid))


def lost_run(
    leader: Run | None, marks: Collection[frozenset[bytes]], holders: Callable[[Found], set[int]]
) -> Found:
    """The living processes of a run whose worker is dead.

    `leader` is its shell as the worker noted it, `marks` are those of the runs that are lost;
    `holders` picks the processes that hold the worker's spool open.
    """
    table = processes.look()
    young = {pid: one for pid, one in table.items() if leader is None or not _is_older(one, leader)}
    marked = {
        pid for pid in young if marks and any(map(processes.environment_of(pid).issuperset, marks))
    }
    seeds = marked | holders(young)
    # The number of a session can come again: its leader or one of its members must vouch for it.
    sessions = {table[pid].session for pid in marked}
    if leader is not None:
        noted = table.get(leader.pid)
        if noted is not None and noted.start == leader.start:
            seeds.add(leader.pid)
            sessions.add(leader.pid)
            seeds |= {one.pid for one in table.values() if one.group == leader.pid}
    seeds |= {one.pid for one in table.values() if one.session in sessions and sessions}
    return _closure(table, seeds, {1})


def end_gently(find: Callable[[], Found], grace: float, wait: Callable[[float], None]) -> bool:
    """TERM and CONT once to each that `find` finds; whether all of it is gone within `grace`.

    What a process starts that got TERM is its tidying up, and gets none as long as it lives.
    """
    told: set[tuple[int, str]] = set()
    deadline, pause = time.monotonic() + grace, _FIRST_PAUSE
    while found := _twice(find):
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        new = [
            one
            for one in sorted(found.values(), key=lambda one: len(_above(one, found)))
            if (one.pid, one.start) not in told
            and not any((above.pid, above.start) in told for above in _above(one, found))
        ]
        # Parents first: a shell whose command ends by TERM would go on to the next one.
        for number in (signal.SIGTERM, signal.SIGCONT):  # what is stopped would not notice
            for one in new:
                processes.send_to(one, number)
        told.update((one.pid, one.start) for one in new)
        wait(min(left, pause))
        pause = min(pause * 2, _LONGEST_PAUSE)
    return True


def _above(process: Seen, found: Found) -> list[Seen]:
    """Those of the processes found that it descends from."""
    chain: list[Seen] = []
    above = found.get(process.parent)
    while above is not None and above not in chain:
        chain.append(above)
        above = found.get(above.parent)
    return chain


def kill_all(find: Callable[[], Found], patience: float, wait: Callable[[float], None]) -> Found:
    """KILL all that `find` finds, and what they have started meanwhile; what is left after all.

    First everything is stopped: a parent that is killed while its children still fork would leave
    them to somebody else, and they would not be found by descent any more.
    """
    deadline, pause = time.monotonic() + patience, _FIRST_PAUSE
    tried = False
    while found := _twice(find):
        if tried and time.monotonic() >= deadline:
            return found
        stopped: dict[tuple[int, str], Seen] = {}
        while new := [one for one in found.values() if (one.pid, one.start) not in stopped]:
            for one in new:
                processes.send_to(one, signal.SIGSTOP)
                stopped[one.pid, one.start] = one
            found = find()
        refused = [not processes.send_to(one, signal.SIGKILL) for one in stopped.values()]
        tried = True
        if all(refused):
            return {one.pid: one for one in stopped.values()}
        wait(pause)
        pause = min(pause * 2, _LONGEST_PAUSE)
    return {}


def _twice(find: Callable[[], Found]) -> Found:
    """What is found. One look can miss a process whose parent ends just then."""
    return find() or find()
