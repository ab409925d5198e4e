"""What a run leaves behind: finding the processes that belong to it, and ending them all.

A process can change its group, session, environment and parent, so all of these are checked. On
Linux a worker is the subreaper of all that it starts: whatever a run does, its processes descend
from the worker, and a worker without children proves that nothing is left.
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
_FIRST_PAUSE, _LONGEST_PAUSE = 0.01, 0.25  # seconds between looks at signalled processes
_DETACHED = b"\0-m\0queuectl.worker\0--data\0"  # as pool.py, also an older one, starts a worker
_MOST_LEFT = 200  # the most runs whose marks are remembered
_SHORT = 0.5  # seconds; within a shorter run pids do not wrap around


class Run(NamedTuple):
    """One run: the pid of its shell, which leads its session, and its start time."""

    pid: int
    start: str


class Offspring:
    """The descendants of this process, which must be their subreaper; Linux only.

    What a successful run left behind is spared by later runs, with all that it starts.
    """

    def __init__(self) -> None:
        self._spared: set[tuple[int, str]] = set()
        self._left_by: list[frozenset[bytes]] = []  # marks of the runs that left something

    def of(self, run: Run, table: Found | None = None) -> Found:
        """The living processes of this run, in `table` or else in a new look."""
        table = processes.look() if table is None else table
        mine = os.getpid()
        leader = table.get(run.pid)
        # Once a session or group is empty, its number can be reused.
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
        """Whether a run of `seconds` surely left nothing; quick, False if it cannot tell."""
        if not self._spared or seconds > _SHORT or processes.latest_pid() < run.pid:
            return False
        mine, pid = os.getpid(), run.pid
        return not any(
            one.parent == mine or one.parent >= pid or pid in (one.session, one.group)
            for one in processes.look(pid).values()
        )

    def spare(self, run: Run, marks: Collection[bytes]) -> bool:
        """Spare what the run with these marks left behind; returns whether it left anything."""
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
        """Whether an earlier run left this process: an orphan whose parents are gone."""
        if process.session == run.pid or not self._left_by:
            return False
        environment = processes.environment_of(process.pid)
        return any(marks <= environment for marks in self._left_by)


def _is_older(process: Seen, run: Run) -> bool:
    return run.start.isdigit() and int(process.start) < int(run.start)


def _closure(table: Found, seeds: Iterable[int], barred: Collection[int]) -> Found:
    """The seeds and their descendants, but not those below a barred process.

    A worker that a job started in the background is not part of the job, nor are its runs.
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
    # Not by one word alone: `grep -r queuectl.worker` is a command like any other.
    return _DETACHED in b"\0".join(processes.arguments_of(pid))


def lost_run(
    leader: Run | None, marks: Collection[frozenset[bytes]], holders: Callable[[Found], set[int]]
) -> Found:
    """The living processes of a run whose worker is dead.

    `leader`: its shell as the worker noted it. `marks`: those of the lost runs. `holders` selects
    the processes that hold the worker's spool open.
    """
    table = processes.look()
    young = {pid: one for pid, one in table.items() if leader is None or not _is_older(one, leader)}
    marked = {
        pid for pid in young if marks and any(map(processes.environment_of(pid).issuperset, marks))
    }
    seeds = marked | holders(young)
    # A session number can be reused: its leader or a marked member must confirm it.
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
    """TERM and CONT once to each found process; returns whether all are gone within `grace` s.

    What a process starts after its TERM is its cleanup, and gets no TERM while the process lives.
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
        # Parents first: a shell whose command ends by TERM would go on with its next command.
        for number in (signal.SIGTERM, signal.SIGCONT):  # a stopped process would not notice
            for one in new:
                processes.send_to(one, number)
        told.update((one.pid, one.start) for one in new)
        wait(min(left, pause))
        pause = min(pause * 2, _LONGEST_PAUSE)
    return True


def _above(process: Seen, found: Found) -> list[Seen]:
    """Those of the found processes that this one descends from."""
    chain: list[Seen] = []
    above = found.get(process.parent)
    while above is not None and above not in chain:
        chain.append(above)
        above = found.get(above.parent)
    return chain


def kill_all(find: Callable[[], Found], patience: float, wait: Callable[[float], None]) -> Found:
    """KILL all found processes and what they started meanwhile; returns what is left.

    First all are stopped: if a parent were killed while its children fork, they would get another
    parent, and could not be found by descent any more.
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
    """The processes found in two looks: one can miss a process whose parent is just ending."""
    return find() or find()
