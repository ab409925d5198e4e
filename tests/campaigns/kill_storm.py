"""Kill -9 at random on everything that uses a queue; afterwards nothing may be lost or doubled.

    python -m tests.campaigns.kill_storm --seconds 30 --seed 1 [--keep DIR]
                                         [--workers N] [--older | --mongodb WHERE]

Eight workers, and clients that enqueue, cancel, retry, change, purge, fold and read; all of them,
and the jobs that run, are killed and replaced; queue.lock is removed, the folder is copied and the
copy used, strange files are planted. Then the queue is left to drain, and verdict.py compares it
with what everybody noted. Exit code 1 and a line for each fault if one is found. `--older`: workers
and commands of the last version of format 1 take part until the folder is taken over.
"""

from __future__ import annotations

import argparse
import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from queuectl.errors import NoSuchJob, QueuectlError
from queuectl.job_queue import JobQueue
from queuectl.model import lifecycle
from queuectl.model.dependencies import has_fallen
from queuectl.model.hooks import is_hook
from queuectl.model.job import recurs
from queuectl.store.facts import WorkerInfo
from queuectl.worker import pool, processes
from queuectl.worker.rescue import rescue
from tests.campaigns import clients, doom, verdict
from tests.campaigns.yard import MARK, Notes, Yard, processes_of, whole_lines

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
WORKERS = 8
PACE = 0.15  # mean seconds between two blows
DRAIN = 120.0  # seconds for the queue to come to rest
SETTINGS = {"poll-interval": 0.2, "kill-grace": 0.3, "base": 1, "max-delay": 0.3}
SETTINGS |= {"lock-timeout": 60}  # a busy machine may give its holder little time
OLDER = "queuectl-a61fc90.zip"


class Storm:
    """One storm over one yard."""

    def __init__(self, yard: Yard, seed: str, workers: int = WORKERS) -> None:
        self.yard, self.seed, self.workers = yard, seed, workers
        self.chance = random.Random(seed)
        self.notes = Notes(yard, "storm")
        self.queue = JobQueue.open(yard.data)
        self.blows: Counter[str] = Counter()
        self._born = 0
        self._clients: dict[int, str] = {}  # by pid: role
        self._starting: dict[int, float] = {}  # by pid: when it is given up
        deeds: dict[Callable[[], bool], float] = {
            self._kill_worker: 3,
            self._kill_client: 4,
            self._shoot_shell: 2,
            self._shoot_group: 1,
            self._kill_starter: 0.5,
            self._stop: 0.4,
            self._stop_now: 0.4,
            self._pause: 0.4,
            self._unlink: 0.2,
            self._usurp: 0.4,
            self._remove_lock: 1,
            self._supervise: 0.4,
            self._copy: 0.1,
            self._plant: 0.2,
        }
        of_files = (self._remove_lock, self._copy, self._plant)
        self._deeds = {deed: n for deed, n in deeds.items() if not yard.url or deed not in of_files}

    # -- the weather

    def rage(self, seconds: float) -> None:
        """Kill and replace for so long, or until somebody saw what must not be."""
        limits = {} if self.yard.older else {"limits": clients.LIMITS}
        self.queue.change_settings(SETTINGS | limits)
        if self.yard.has_all:
            hooks = ("on-dead", "on-completed", "on-cancelled")
            self.queue.change_settings(dict.fromkeys(hooks, self.yard.hook()))
            self.queue.enqueue(self.yard.schedules())
        pool.start(self.yard.data, self.workers // (2 if self.yard.older else 1))
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self.yard.violations():
            self._replace()
            deed = self.chance.choices(list(self._deeds), list(self._deeds.values()))[0]
            if deed():
                self.blows[deed.__name__.strip("_").replace("_", "-")] += 1
            time.sleep(min(self.chance.expovariate(1 / PACE), 1.0))

    def calm(self) -> list[str]:
        """End all clients and let the workers come to rest; what is wrong if they do not."""
        for pid in list(self._clients):
            os.kill(pid, signal.SIGKILL)
        self._await(lambda: not self._clients, 10.0)
        # What a client ran outlives it, and may hand in a job when all has come to rest.
        self._await(lambda: not _commands(self.yard), 30.0)
        found = []
        self.queue.change_settings({"paused": None})  # whoever paused may have been killed
        if schedules := [job.id for job in self.queue.find(("pending",)) if recurs(job)]:
            self.notes.tell("cancelling", *schedules)
            self.queue.cancel(schedules)
        if not self._await(self._at_rest, DRAIN):
            found = [f"not drained after {DRAIN:g} s: {self.queue.counts()}"]
        self._await(lambda: not self._starting, 30.0)
        pool.stop(self.queue)
        # As the next command would: a worker that was killed while it took leave is still on the
        # list, and a process that opens the folder clears temporary files away.
        self.queue.close()
        _until(lambda: not rescue(self.queue) and not self.queue.lost_workers(), 10.0)
        self.queue.checkpoint()
        facts = {MARK: self.yard.root, "QUEUECTL_WORKER": ""}
        # What escaped from its run on purpose looks for the end of its parent by itself.
        if not _until(lambda: self._stopped_late() and not processes_of(facts), 10.0):
            found.append(f"processes left over: {[_words(pid) for pid in processes_of(facts)]}")
        return found

    def _stopped_late(self) -> bool:
        """Stop workers that came up only now: who started them was killed, or waits no longer."""
        return not pool.stop(self.queue)

    def end(self) -> None:
        """Leave no process behind, whatever happened."""
        for pid in (*self._clients, *self._starting):
            _signal(pid, signal.SIGKILL)
        _until(lambda: not _killed_all(self.yard), 20.0)
        self.queue.close()

    def _await(self, condition: Callable[[], bool], seconds: float) -> bool:
        def looked() -> bool:
            self._reap()
            if not self._clients:
                self._start_workers(doomed=False)
            return condition()

        return _until(looked, seconds)

    def _at_rest(self) -> bool:
        counts = self.queue.counts()
        busy = any(counts[state] for state in ("pending", "failed", "in_progress"))
        return not busy and all(worker.alive for worker in self.queue.workers())

    # -- replacing

    def _replace(self) -> None:
        self._reap()
        present = Counter(self._clients.values())
        for role, (_, count, _) in clients.ROLES.items():
            for _ in range(count - present[role]):
                self._clients[self._fork(role)] = role
        self._start_workers(doomed=True)

    def _reap(self) -> None:
        """Take note of children that ended."""
        while True:
            try:
                pid = os.waitpid(-1, os.WNOHANG)[0]
            except ChildProcessError:
                break
            if not pid:
                break
            self._clients.pop(pid, None)
            self._starting.pop(pid, None)

    def _start_workers(self, *, doomed: bool) -> None:
        living = [worker.pid for worker in self.queue.workers() if worker.alive]
        for pid in self._starting.keys() & set(living):
            del self._starting[pid]  # a doomed one is the worker itself
        for _ in range(self.workers - len(living) - len(self._starting)):
            role = "doomed" if doomed and self.chance.random() < 0.4 else "starter"
            if doomed and self.yard.older and self.chance.random() < 0.5:
                role = "older"
            self._starting[self._fork(role)] = time.monotonic()

    def _fork(self, role: str) -> int:
        """A child of this process that plays the role; clients may be doomed too."""
        self._born += 1
        name = f"{role}-{self._born:05d}"
        doomed = self.chance.random() < 0.3
        sys.stdout.flush()
        pid = os.fork()
        if pid:
            return pid
        try:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
            if self.yard.url:
                from queuectl.store.mongodb import connection

                connection._connections.clear()  # they are the parent's
            self._play(role, name, doomed)
        finally:
            os._exit(0)

    def _play(self, role: str, name: str, doomed: bool) -> None:
        if role == "starter":
            try:
                pool.start(self.yard.data, 1)
            except QueuectlError as exc:  # its worker was killed while it started
                Notes(self.yard, name).tell("unstarted", exc)
        elif role == "doomed":
            self._become_doomed(name)
        elif role == "older":
            done = clients.older_command(self.yard, "worker", "start")
            if done.returncode not in (0, 5):  # 5: it was taken over; 1: killed while it started
                Notes(self.yard, name).tell("unstarted", done.stderr.decode())
        else:
            if doomed and self.yard.url:
                doom.arm_questions(random.Random(f"{self.seed} {name}"), 100)
            client = clients.new_client(self.yard, role, name, self.seed)
            if doomed and not self.yard.url:
                doom.arm(client.chance, 100)
            deed, _, pause = clients.ROLES[role]
            client.live_by(deed, pause)

    def _become_doomed(self, name: str) -> None:
        log = os.path.join(self.yard.data, "logs", f"worker-{name}.log")
        out = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.dup2(out, 1)
        os.dup2(out, 2)
        argv = [sys.executable, "-m", "tests.campaigns.doom", f"{self.seed} {name}"]
        argv += ["--questions"] if self.yard.url and self.chance.random() < 0.5 else []
        os.execve(sys.executable, [*argv, "--data", self.yard.data], os.environ)

    # -- blows

    def _worker(self) -> WorkerInfo | None:
        living = [worker for worker in self.queue.workers() if worker.alive and worker.pid]
        return self.chance.choice(living) if living else None

    def _hit_worker(self, number: int) -> bool:
        worker = self._worker()
        return worker is not None and _send(worker.pid, worker.start_time, number)

    def _kill_worker(self) -> bool:
        return self._hit_worker(signal.SIGKILL)

    def _stop(self) -> bool:
        return self._hit_worker(signal.SIGTERM)

    def _stop_now(self) -> bool:
        return self._hit_worker(pool.STOP_NOW)

    def _kill_client(self) -> bool:
        return self._kill_one(list(self._clients))

    def _kill_starter(self) -> bool:
        return self._kill_one(list(self._starting))

    def _kill_one(self, pids: list[int]) -> bool:
        if pids:
            os.kill(self.chance.choice(pids), signal.SIGKILL)
        return bool(pids)

    def _shoot_shell(self) -> bool:
        return self._shoot(lambda worker: _send(worker.group_pid, worker.group_start, 9))

    def _shoot_group(self) -> bool:
        return self._shoot(lambda worker: processes.signal_group(worker.group_pid, 9))

    def _shoot(self, how: Callable[[WorkerInfo], bool]) -> bool:
        """Kill a run; that it will be is noted before, for it fails and nobody is to blame."""
        worker = self._worker()
        if worker is None or worker.job_id is None:
            return False
        if processes.start_time(worker.group_pid) != worker.group_start:
            return False
        self.notes.tell("shot", worker.job_id, worker.run)
        return how(worker)

    def _pause(self) -> bool:
        """Let a worker stand still for a while: it lives, and nobody may take its job."""
        worker = self._worker()
        if worker is None or not _send(worker.pid, worker.start_time, signal.SIGSTOP):
            return False
        self._send_later(worker, signal.SIGCONT, self.chance.uniform(0.2, 2.0))
        return True

    def _unlink(self) -> bool:
        """Take a worker's file away: it must end its run and leave."""
        worker = self._worker()
        if worker is not None:
            os.unlink(os.path.join(self.yard.data, "workers", worker.id))
        return worker is not None

    def _remove_lock(self) -> bool:
        """Take queue.lock for a stale one."""
        try:
            os.unlink(os.path.join(self.yard.data, "queue.lock"))
        except FileNotFoundError:
            return False
        return True

    def _supervise(self) -> bool:
        """Stop a worker as supervisors do: TERM, and KILL a little later."""
        worker = self._worker()
        if worker is None or not _send(worker.pid, worker.start_time, signal.SIGTERM):
            return False
        self._send_later(worker, signal.SIGKILL, self.chance.uniform(0.0, 1.0))
        return True

    def _send_later(self, worker: WorkerInfo, number: int, seconds: float) -> None:
        """Signal a worker after a while, though this process may wait for what it holds."""
        if os.fork() == 0:
            try:
                time.sleep(seconds)
                _send(worker.pid, worker.start_time, number)
            finally:
                os._exit(0)

    def _copy(self) -> bool:
        """Copy the folder while all work, and let commands at the copy: no process is its own."""
        copy = os.path.join(self.yard.root, "copy")
        # Not `cp -al`: files with two names are refused in both folders.
        argv = ["cp", "-a", self.yard.data, copy]
        subprocess.run(argv, stderr=subprocess.DEVNULL, check=False)  # files come and go
        for words in (["checkpoint"], ["worker", "list"], ["enqueue", "--", "true"]):
            done = clients.command(copy, *words)
            # A copy that was made while others wrote may be damaged.
            if done.returncode not in (0, 5) or b"Traceback" in done.stderr:
                self.notes.tell("violation", f"in a copy {words}: {done.stderr.decode()}")
        shutil.rmtree(copy, ignore_errors=True)
        return True

    def _plant(self) -> bool:
        """Put a pipe, or a link that leads outside, where files of ours are looked for."""
        victim = os.path.join(self.yard.root, "victim")
        with open(victim, "w", encoding="ascii") as file:
            file.write("untouched")
        name = self.chance.choice(("jobs.json.new", "journal.new", "logs/planted.1.log", "strange"))
        path = os.path.join(self.yard.data, name)
        with suppress(FileExistsError):
            self.chance.choice((os.mkfifo, lambda at: os.symlink(victim, at)))(path)
        time.sleep(0.05)
        with suppress(FileNotFoundError):
            os.unlink(path)
        with open(victim, encoding="ascii") as file:
            if file.read() != "untouched":
                self.notes.tell("violation", f"{name}: written through a link")
        return True

    def _usurp(self) -> bool:
        """Give a job to another though its worker lives: the first result must not count."""
        # What another one may have then: a slot would be free though its run goes on.
        running = [job for job in self.queue.find(("in_progress",)) if not job.slots]
        if not running:
            return False
        job = self.chance.choice(running)
        self.notes.tell("usurped", job.id)
        now = self.queue.now()
        with suppress(NoSuchJob):
            return bool(
                self.queue.store.change(
                    [job.id],
                    lambda stored: (
                        lifecycle.lost(stored, job.worker, now) if stored.rev == job.rev else None
                    ),
                )
            )
        return False


def _signal(pid: int, number: int) -> bool:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def _send(pid: int, started: str, number: int) -> bool:
    """Signal exactly that process, if it is there."""
    try:
        process = processes.Process(pid, started)
    except ProcessLookupError:
        return False
    process.send(number)
    process.close()
    return True


def _until(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _killed_all(yard: Yard) -> bool:
    found = processes_of({MARK: yard.root})
    for pid in found:
        _signal(pid, signal.SIGKILL)
    return bool(found)


def _words(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as file:
            return f"{pid} {file.read()}"
    except (FileNotFoundError, ProcessLookupError):
        return f"{pid}, which has ended"


def _commands(yard: Yard) -> list[int]:
    """The commands of queuectl that run in the yard; a worker is none of them."""
    return [p for p in processes_of({MARK: yard.root}) if "\0-m\0queuectl\0" in _words(p)]


def figures(yard: Yard, storm: Storm) -> Iterator[tuple[str, object]]:
    """What the storm came to."""
    told = verdict.Told(yard)
    jobs = told.purged | {job.id: job for job in storm.queue.find()}
    yield "accepted", sum(len(ids) for ids in told.accepted.values())
    yield "known", dict(Counter(job.state for job in jobs.values()))
    yield "purged", len(told.purged)
    yield "runs", sum(job.run for job in jobs.values())
    events = Counter(str(entry["event"]) for job in jobs.values() for entry in job.history)
    yield "events", dict(events)
    yield "hooks", sum(map(is_hook, jobs.values()))
    yield "copies of schedules", sum(job.planned is not None for job in jobs.values())
    yield "with parents", sum(bool(job.after or job.after_end) for job in jobs.values())
    yield "fallen", sum(has_fallen(job) for job in jobs.values())
    yield "unique keys", sum(job.unique is not None for job in jobs.values())
    yield "buried as lost", sum(job.error == "lost" for job in jobs.values())
    yield "blows", dict(storm.blows)
    yield "born", storm._born
    logs = os.path.join(yard.data, "logs")
    own = [name for name in os.listdir(logs) if name.startswith("worker-")]
    lines = [line for name in own for line in whole_lines(os.path.join(logs, name))]
    yield "rescues by workers", sum("rescued job" in line for line in lines)
    if not yard.url:
        yield "folds", yard.folds()
        yield "torn tails", sum(".torn-" in name for name in os.listdir(yard.data))
    for word in ("wait", "command"):
        waits = sorted((float(note[1]), " ".join(note[2:])) for note in yard.told(word))
        yield f"longest {word}s", waits[-3:]


def storm(
    seconds: float, seed: str, root: str, older: bool, url: str = "", workers: int = WORKERS
) -> list[str]:
    """A whole storm in a new folder; what is wrong afterwards."""
    os.environ[MARK] = os.path.abspath(root)
    os.environ["PYTHONPATH"] = ROOT
    os.environ["XDG_STATE_HOME"] = os.path.join(os.path.abspath(root), "state")
    yard = Yard(root, os.path.join(root, "older") if older else "", url)
    yard.make()
    if url:
        JobQueue.open(yard.data).make()
    if older:
        shutil.unpack_archive(os.path.join(ROOT, "tests", "data", OLDER), yard.older)
        started = clients.older_command(yard, "worker", "start", "--count", str(workers // 2))
        assert started.returncode == 0, started
    raging = Storm(yard, seed, workers)
    try:
        raging.rage(seconds)
        found = raging.calm()
        found += verdict.faults(yard, raging.queue)
        for name, value in figures(yard, raging):
            print(f"{name}: {value}")
    finally:
        raging.end()
    return found


def _server(form: str) -> dict[str, Any]:
    """A MongoDB server of the storm's own."""
    from tests.mongodb import conftest

    return conftest._start(form)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.kill_storm")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--seed", default=secrets.token_hex(4))
    parser.add_argument("--workers", type=int, default=WORKERS)
    parser.add_argument("--older", action="store_true", help="a version of format 1 takes part")
    where = "'replica set', 'standalone', or the URL of a server of one's own"
    parser.add_argument("--mongodb", metavar="WHERE", help=where)
    parser.add_argument("--keep", metavar="DIR", help="a new folder that is left as it is")
    options = parser.parse_args()
    print(f"kill storm: {options.seconds:g} s, --seed {options.seed}", flush=True)
    root = options.keep or tempfile.mkdtemp(prefix="queuectl-storm-")
    os.makedirs(root, exist_ok=True)
    begun = time.monotonic()
    url, server = options.mongodb or "", {}
    if url and "://" not in url:
        server = _server(url)
        url = f"{server['url']}storm"
    try:
        found = storm(options.seconds, options.seed, root, options.older, url, options.workers)
    finally:
        if server:
            os.kill(server["pid"], signal.SIGKILL)
            os.waitpid(server["pid"], 0)
            shutil.rmtree(server["path"])
        if not options.keep:
            shutil.rmtree(root)
    for line in found[:100]:
        print(f"FAULT {line}")
    print(f"{len(found)} fault(s) after {time.monotonic() - begun:.1f} s, --seed {options.seed}")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
