"""Runs that hide their processes, and every way but success in which a run ends.

All processes of a run share the lock of one file by a descriptor that they inherit. So a run that
starts beside what is left of an earlier one finds it locked, and so does whoever looks after a
job's end.

    python -m tests.campaigns.leftovers --jobs 1000 --seed 1
"""

from __future__ import annotations

import argparse
import fcntl
import os
import random
import shlex
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

from queuectl.job_queue import JobQueue
from queuectl.model.job import Job
from queuectl.worker import pool
from queuectl.worker.rescue import rescue

_SLEEP = "sleep 777"
_PYTHON = (
    "import subprocess; subprocess.Popen(['sleep', '777'], start_new_session=True, "
    "close_fds=False); subprocess.run(['sleep', '777'], close_fds=False)"
)
FORMS = {
    "plain": _SLEEP,
    "group": f"{_SLEEP} & {_SLEEP}",
    "timeout": f"timeout 60 sh -c '{_SLEEP}'; echo after",
    "env": f"timeout 60 env -i sh -c '{_SLEEP}; echo after'",
    "setsid": f"setsid -w sh -c '{_SLEEP}; echo after'",
    "monitor": f"bash -c 'set -m; {_SLEEP} & wait'",
    "python": f'{shlex.quote(sys.executable)} -c "{_PYTHON}"',
    "perl": "perl -e 'setpgrp(0, 0); system(\"sleep 777\")'",
    "orphan": f"(setsid {_SLEEP} &); sleep 9",
    "stubborn": f"trap '' TERM; (trap '' TERM; while :; do {_SLEEP}; done) & {_SLEEP}; {_SLEEP}",
    "stopped": f"timeout 60 sh -c 'kill -STOP $$; {_SLEEP}'",
    "forking": "timeout 60 sh -c 'while :; do setsid sleep 0.2 & sleep 0.02; done'",
}
ENDS = ("timeout", "cancel", "stop", "kill", "fail")
_FIRST = "me=$QUEUECTL_JOB_ID; exec 9>> $me.lock; flock -n 9 || : > $me.beside; : > $me.begun; "
_AT_ONCE, _PATIENCE = 4, 60.0  # jobs, seconds


class Leftovers:
    """A queue with workers, the jobs' locks, and what was found wrong."""

    def __init__(self, folder: str, seed: str) -> None:
        self.folder, self.dice = folder, random.Random(seed)
        self.queue = JobQueue.open(os.path.join(folder, "queue"))
        self.queue.change_settings({"poll-interval": 0.05, "kill-grace": 0.2, "base": 0})
        self.faults: list[str] = []
        self.done: Counter[str] = Counter()

    def run(self, jobs: int, forms: tuple[str, ...] = tuple(FORMS)) -> None:
        """Let so many jobs meet their ends, some at a time."""
        pool.start(self.queue.folder, _AT_ONCE)
        try:
            while jobs > 0 and not self.faults:
                end = self.dice.choice(ENDS)
                batch = [self.dice.choice(forms) for _ in range(min(jobs, _AT_ONCE))]
                self._meet(end, batch)
                jobs -= len(batch)
        finally:
            pool.stop(self.queue, now=True)
            self.queue.close()

    def _meet(self, end: str, batch: list[str]) -> None:
        ids = {job.id: form for job, form in zip(self._enqueue(end, batch), batch, strict=True)}
        begun = [os.path.join(self.folder, f"{job_id}.begun") for job_id in ids]
        self._await(lambda: all(map(os.path.exists, begun)), f"the start of {ids} for {end}")
        getattr(self, f"_{end}")(list(ids))
        ended = ("cancelled",) if end == "cancel" else ("completed",)
        self._await(
            lambda: all(self.queue.get(job_id).state in ended for job_id in ids),
            f"the end of {ids} by {end}",
        )
        for job_id, form in ids.items():
            self.done[f"{end} {form}"] += 1
            if self._is_locked(job_id):
                self.faults.append(f"{job_id}: something is left of {form} after {end}")
            if os.path.exists(os.path.join(self.folder, f"{job_id}.beside")):
                self.faults.append(f"{job_id}: two runs of {form} beside each other after {end}")

    def _enqueue(self, end: str, batch: list[str]) -> list[Job]:
        drafts = []
        for form in batch:
            leader = FORMS[form]
            if end == "fail":  # it ends by itself, and leaves all behind
                leader = f"({leader}) & sleep 0.2; exit 9"
            drafts.append(
                {
                    "command": f"{_FIRST}[ $QUEUECTL_ATTEMPT -gt 1 ] && exit 0; {leader}",
                    "cwd": self.folder,
                    "timeout": 0.4 if end == "timeout" else 120.0,
                    "max_retries": 1,
                }
            )
        return self.queue.enqueue(drafts)

    def _timeout(self, ids: list[str]) -> None:
        """Nothing to do."""

    _fail = _timeout

    def _cancel(self, ids: list[str]) -> None:
        self._let_it_fork()
        self.queue.cancel(ids)

    def _stop(self, ids: list[str]) -> None:
        self._let_it_fork()
        pool.stop(self.queue, now=True)
        pool.start(self.queue.folder, _AT_ONCE)

    def _kill(self, ids: list[str]) -> None:
        self._let_it_fork()
        for worker in self.queue.workers():
            if worker.alive:
                with suppress(ProcessLookupError):
                    os.kill(worker.pid, signal.SIGKILL)
        rescue(self.queue)
        pool.start(self.queue.folder, _AT_ONCE)

    def _let_it_fork(self) -> None:
        time.sleep(self.dice.choice((0.0, 0.05, 0.2)))

    def _is_locked(self, job_id: str) -> bool:
        with open(os.path.join(self.folder, f"{job_id}.lock"), "rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def _await(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + _PATIENCE
        while not condition():
            if time.monotonic() > deadline:
                states = Counter(job.state for job in self.queue.find())
                raise AssertionError(f"still waiting for {what}; {dict(states)}")
            time.sleep(0.02)


def main() -> int:
    """Run it as told by the command line; 1 if something was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--seed", default=os.urandom(4).hex())
    told = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        leftovers = Leftovers(folder, told.seed)
        began = time.monotonic()
        leftovers.run(told.jobs)
    print(
        f"seed {told.seed}: {sum(leftovers.done.values())} runs in {time.monotonic() - began:.0f} s"
    )
    print("\n".join(leftovers.faults) or "0 processes left, 0 runs beside another")
    return bool(leftovers.faults)


if __name__ == "__main__":
    raise SystemExit(main())
