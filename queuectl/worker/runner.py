"""One shell command: started in its own session, timed, and ended with all that it left behind."""

from __future__ import annotations

import errno
import os
import signal
import stat
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias

from queuectl.errors import InvalidInput, QueuectlError, StoreError
from queuectl.job_queue import JobQueue
from queuectl.model.env_file import LARGEST, variables
from queuectl.model.env_set import applied
from queuectl.model.job import Job
from queuectl.model.lifecycle import Outcome
from queuectl.model.times import format_time
from queuectl.places import home_folder
from queuectl.store.door import above_standard
from queuectl.store.facts import LATER, SOON
from queuectl.store.opening import without_secrets
from queuectl.worker import processes, remains
from queuectl.worker.remains import Found, Offspring, Run
from queuectl.worker.wakeups import Wakeups

Interruption: TypeAlias = Literal["cancel", "stop"]
SHELL = b"/bin/sh"
_OURS = b"QUEUECTL_"
MARK = "QUEUECTL_WORKER"  # in the environment of each job: its worker
FOLDER_MARK = "QUEUECTL_FOLDER"  # DEV:INO of the data folder, which differs for a copy
PLANNED = b"QUEUECTL_PLANNED"  # when the schedule was due that the job is a copy of
DEFERRALS = b"QUEUECTL_DEFERRALS"  # how often the job was put off in a row (exit code 75)
MARKS = (MARK, "QUEUECTL_JOB_ID", "QUEUECTL_ATTEMPT", FOLDER_MARK)
_LONGEST_WHY = 1000  # characters
_FEW_DESCRIPTORS = 256  # as many as a process may inherit from its starter
_TRY_AGAIN = 1.0  # seconds to try to KILL before what cannot be ended is reported
# Signals that a worker or its starter may ignore, and a command must find at their default.
_DEFAULTED = [
    *(signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGQUIT),
    *(signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2),
]
_SCARCE = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE})


class Runner:
    """Runs the commands of one worker, one after the other; for a single-threaded process.

    `folder`: the data folder, for QUEUECTL_DATA. `identity`: tells the queue from a copy of it.
    `kill_grace`: seconds between TERM and KILL. `look`: seconds between two looks for an
    interruption that neither a signal nor the pipe announced. `clean`: whether all that the latest
    run started is proved to be gone. All children of this process are reaped, whatever started
    them.
    """

    def __init__(self, worker_id: str, folder: str, identity: str, wakeups: Wakeups) -> None:
        self.kill_grace = 10.0
        self.look = 1.0
        self.clean = True
        self._wakeups = wakeups
        self._clock = processes.SpawnClock()
        self._nothing = above_standard(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        kept = without_secrets(os.environ, folder)
        kept.pop("OLDPWD", None)
        self._environment = {os.fsencode(name): os.fsencode(text) for name, text in kept.items()}
        self._own = {
            MARK.encode(): worker_id.encode(),
            FOLDER_MARK.encode(): identity.encode(),
            b"QUEUECTL_DATA": os.fsencode(os.path.abspath(folder)),
            DEFERRALS: b"0",
        }
        self._environment |= self._own
        home = home_folder()
        self._home = os.fsencode(home) if os.path.isdir(home) else b"/"
        self._files: tuple[int, list[tuple[int, int, int]]] = (-1, [])
        self._pid = 0  # of the running shell
        self._status: int | None = None  # how it ended
        self._children = False  # whether there were other children when it was reaped
        self.proves = processes.be_subreaper()  # otherwise `clean` is never known
        self._offspring = Offspring()
        # Gives the job's captured variables; set by the caller, which knows the queue.
        self.env_set: Callable[[Job], Mapping[str, Any] | None] = lambda _: None
        # Also set by the caller if the queue has its own clock.
        self.now: Callable[[], str] = lambda: format_time(time.time())
        # Looks at the output; returns the seconds until the next look.
        self.watch_output: Callable[[], float] = lambda: LATER
        # The id of the set of variables read last, and the result, since most jobs of a queue share
        # one set. None: read it again.
        self.set_id: str | None = None
        self._taken: tuple[dict[bytes, bytes], int | None] = ({}, None)
        self._umask = os.umask(0)
        os.umask(self._umask)
        _keep_descriptors()

    def run(
        self,
        job: Job,
        output: int,
        *,
        started: Callable[[int, str], None],
        interrupted: Callable[[], Interruption | None],
        unended: Callable[[Found], bool] = lambda _: False,
    ) -> Outcome | None:
        """Run the job's command to its end, with stdout and stderr on the descriptor `output`.

        `started` is called with the pid of the process group and its start time. `interrupted` is
        called whenever a signal or a cancel came, and every `look` seconds: it says whether to end
        the run early. `unended` is called with what cannot be ended and says whether to give up:
        then the result is None, and the processes go on. After any end but success nothing of the
        run is left.
        """
        before = self._clock.tick()
        began = time.monotonic()
        self.clean = True
        try:
            pid = self._pid = self._spawn(job, output)
        except (OSError, ValueError, QueuectlError) as exc:
            return _not_started(exc, self.now())
        self._status = None
        start = ""
        try:
            start = self._clock.start_of(pid, before)
            started(pid, start)
            cut = self._attend(job.timeout, interrupted)
        except BaseException:
            # Never leave a command running unattended.
            if self._status is None:
                processes.signal_group(pid, signal.SIGKILL)
            self._clear_away(Run(pid, start or str(before)), 0.0, lambda _: True)
            raise
        if cut is not None or self._children or not self.proves:
            run = Run(pid, start or str(before))
            if cut is None and self._status == 0:
                ended = self._leave(run, time.monotonic() - began, unended)
            else:
                ended = self._clear_away(run, self.kill_grace, unended)
            if not ended:
                self.clean = False
                self._leaves_some(run, job)
                return None
            if not self.clean:
                self.clean = not self._leaves_some(run, job)
        return self._outcome(cut, job)

    def reap(self) -> bool:
        """Reap every child that has ended; returns whether any child is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if not pid:
                return True
            if pid == self._pid:
                self._status = status

    def close(self) -> None:
        """Close what is open; this process no longer adopts orphans."""
        os.close(self._nothing)
        if self.proves:
            processes.be_subreaper(False)

    def _spawn(self, job: Job, output: int) -> int:
        folder = job.cwd.encode() if job.cwd else self._home
        if not folder.startswith(b"/"):
            folder = os.path.join(self._home, folder)
        environment, umask = self._environment, None
        if job.env_set is not None:
            if job.env_set != self.set_id:
                self._taken, self.set_id = self._taken_along(job), job.env_set
            environment, umask = self._taken
        environment = environment.copy()
        if job.env_file is not None:
            environment.update(_variables(job.env_file))
            environment.update(self._own)
        if job.env:
            environment.update((name.encode(), text.encode()) for name, text in job.env.items())
            environment.update(self._own)
        environment[b"PWD"] = folder
        environment[b"QUEUECTL_JOB_ID"] = job.id.encode()
        environment[b"QUEUECTL_ATTEMPT"] = b"%d" % job.run
        if job.deferrals:
            environment[DEFERRALS] = b"%d" % job.deferrals
        if job.planned is not None:
            environment[PLANNED] = job.planned.encode()
        if job.slots:
            environment.update(_numbers(job))
        command = job.command.encode()
        # The shell would take a command that begins like one of its options for that option.
        argv = [SHELL, b"-c", command]
        if command[:1] in (b"-", b"+"):
            argv.insert(2, b"--")
        _enter(folder)
        if umask in (None, self._umask):
            return self._start(argv, environment, output)
        os.umask(umask)
        try:
            return self._start(argv, environment, output)
        finally:
            os.umask(self._umask)

    def _taken_along(self, job: Job) -> tuple[dict[bytes, bytes], int | None]:
        """The environment and the umask that the job takes along from where it was enqueued.

        Variables of queuectl come from this worker. Raises NoSuchSet, and StoreError for sets that
        cannot be read.
        """
        form = self.env_set(job)
        if form is None:
            return self._environment, None
        ours = {name: text for name, text in self._environment.items() if name[:9] == _OURS}
        return applied(form, self._environment) | ours, int(form.get("umask", "022"), 8)

    def _start(self, argv: list[bytes], environment: dict[bytes, bytes], output: int) -> int:
        if self._files[0] != output:
            wiring = ((self._nothing, 0), (output, 1), (output, 2))
            self._files = (output, [(os.POSIX_SPAWN_DUP2, fd, place) for fd, place in wiring])
        try:
            return os.posix_spawn(
                SHELL,
                argv,
                environment,
                file_actions=self._files[1],
                setsid=True,
                setsigdef=_DEFAULTED,
                setsigmask=(),
            )
        except NotImplementedError:  # this system's posix_spawn makes no sessions
            return self._start_slowly(argv, environment, output)

    def _start_slowly(self, argv: list[bytes], environment: dict[bytes, bytes], output: int) -> int:
        import subprocess

        child = subprocess.Popen(
            argv,
            stdin=self._nothing,
            stdout=output,
            stderr=output,
            env=environment,
            start_new_session=True,
        )
        child.returncode = 0  # this class waits for it, not the Popen object
        return child.pid

    def _attend(
        self, timeout: float | None, interrupted: Callable[[], Interruption | None]
    ) -> str | None:
        """Wait for the end of the shell; returns what cut it short, if anything."""
        now = time.monotonic()
        deadline = float("inf") if timeout is None else now + timeout
        next_look, output_at = now + self.look, now + SOON
        asked = (False, False)
        while True:
            came = self._wakeups.wait(min(deadline - now, self.look, output_at - now))
            self._children = self.reap()
            if self._status is not None:
                return None
            now = time.monotonic()
            if now >= min(output_at, next_look):  # all together, if possible
                output_at = now + self.watch_output()
            cut: str | None = None
            if now >= deadline:
                cut = "timeout"
            elif (
                asked != (self._wakeups.stopping, self._wakeups.now)
                or b"c" in came
                or now >= next_look
            ):
                # Hints and ends of orphans may come at any rate: they must neither delay the look
                # nor cause one.
                asked = (self._wakeups.stopping, self._wakeups.now)
                cut = interrupted()
                now = time.monotonic()
                next_look = now + self.look
            if cut:
                return cut

    def _leave(self, run: Run, seconds: float, unended: Callable[[Found], bool]) -> bool:
        """After a success: end what stayed in the session; returns whether that was possible.

        What left the session lives on.
        """
        if not self.proves:
            self._end_group(run.pid, self.kill_grace)
        elif not self._has_nothing_new(run, seconds):
            ended = self._end(lambda: self._in_session(run), self.kill_grace, unended)
            self.clean = not self.reap()
            return ended
        return True

    def _clear_away(self, run: Run, grace: float, unended: Callable[[Found], bool]) -> bool:
        """End all that is left of the run, the shell too; returns whether that was possible."""
        if not self.proves:
            self._end_group(run.pid, grace)
            return True
        if self._status is not None and not self._children:
            return True
        ended = self._end(lambda: self._found(run), grace, unended)
        if ended and self._status is None:
            self._status = os.waitpid(run.pid, 0)[1]
        return ended

    def _end(
        self, find: Callable[[], Found], grace: float, unended: Callable[[Found], bool]
    ) -> bool:
        """TERM, the grace, KILL; returns whether all is gone, which may never happen."""
        had_time = False
        while True:
            try:
                if not had_time and remains.end_gently(find, grace, self._pause):
                    return True
                had_time = True
                left = remains.kill_all(find, _TRY_AGAIN, self._pause)
                if not left:
                    return True
            except OSError:  # no descriptor is free: nothing is known yet
                left = {}
            if unended(left):
                return False
            self._pause(self.look)

    def _has_nothing_new(self, run: Run, seconds: float) -> bool:
        try:
            return self._offspring.has_nothing_new(run, seconds)
        except OSError:  # as above
            return False

    def _leaves_some(self, run: Run, job: Job) -> bool:
        """Spare what the run left; returns whether it left anything."""
        while not self._wakeups.now:
            try:
                return self._offspring.spare(run, marks_of(job))
            except OSError:  # as above; a later run would end what is not spared
                self._pause(self.look)
        return True

    def _found(self, run: Run) -> Found:
        return self._offspring.of(run) if self.reap() else {}

    def _in_session(self, run: Run) -> Found:
        return {pid: one for pid, one in self._found(run).items() if one.session == run.pid}

    def _pause(self, seconds: float) -> None:
        self._wakeups.wait(seconds)
        self.reap()
        self.watch_output()

    def _end_group(self, pid: int, grace: float) -> None:
        """TERM, the grace, KILL for the shell's group, which is all that some systems can find."""
        processes.signal_group(pid, signal.SIGTERM)
        if processes.signal_group(pid, signal.SIGCONT):  # what is stopped would not notice
            deadline = time.monotonic() + grace
            while self._status is None and (left := deadline - time.monotonic()) > 0:
                self._pause(min(left, self.look))
            processes.await_group_end(pid, max(0.0, deadline - time.monotonic()))
        while self._status is None:
            self._pause(self.look)

    def _outcome(self, cut: str | None, job: Job) -> Outcome:
        assert self._status is not None
        code = os.waitstatus_to_exitcode(self._status)
        exit_code = 128 - code if code < 0 else code
        if cut == "timeout":
            return Outcome("timed_out", exit_code, f"timed out after {job.timeout:g}s", self.now())
        if cut is not None:
            why = "cancelled" if cut == "cancel" else "ended because its worker was stopped"
            return Outcome("stopped", exit_code, why, self.now())
        error = None
        if code:
            error = f"exit code {code}" if code > 0 else f"killed by signal {_spelled(-code)}"
        return Outcome("exited", exit_code, error, self.now())


def marks_of(job: Job) -> list[bytes]:
    """What the environment of each process of this run contains, unless a process changed it.

    Processes of the same run in a copied queue have these too, except the mark of the folder.
    """
    values = (job.worker, job.id, job.run)
    return [f"{name}={value}".encode() for name, value in zip(MARKS[:3], values, strict=True)]


def queue_mark(queue: JobQueue) -> bytes:
    """The mark, in each run's environment, of this queue and not of a copy."""
    return f"{FOLDER_MARK}={queue.identity()}".encode()


def _keep_descriptors() -> None:
    """Keep children from inheriting the descriptors that this process got, except 0 to 2."""
    try:
        opened = list(map(int, os.listdir("/dev/fd")))
    except OSError:  # a dangling link without /proc
        opened = list(range(_FEW_DESCRIPTORS))
    for fd in opened:
        if fd > 2:
            try:
                os.set_inheritable(fd, False)
            except OSError:  # the one that listed the folder, or not open
                continue


def _numbers(job: Job) -> dict[bytes, bytes]:
    """The job's numbers in its limited tags, as variables."""
    from queuectl.model.gate import variable

    given = (slot.partition("#") for slot in job.slots)
    return {variable(tag).encode(): number.encode() for tag, _, number in given if number}


def _variables(path: str) -> dict[bytes, bytes]:
    """The present variables in a job's env_file; OSError or InvalidInput if it is unusable."""
    try:
        # Non-blocking: a pipe in its place must not block the worker.
        with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise InvalidInput(f"env_file {path} is not a plain file")
            return variables(file.read(LARGEST + 1), path)
    except OSError as exc:
        raise OSError(exc.errno, f"env_file {path}: {exc.strerror}") from exc


def _enter(folder: bytes) -> None:
    """Make `folder` the current folder, which the child inherits."""
    try:
        # Each time, since the folder may have been replaced under the same name.
        os.chdir(folder)
    except OSError as exc:
        raise OSError(exc.errno, f"folder {folder.decode()}: {exc.strerror}") from exc


def _not_started(error: OSError | ValueError | QueuectlError, now: str) -> Outcome:
    """The outcome of a failed start. ValueError: a NUL byte, half a character, or `=` in a name."""
    why = str(error)
    if isinstance(error, StoreError):  # a person must correct the file
        return Outcome("no_resources", None, f"cannot start: {why}", now)
    if isinstance(error, OSError):
        why = error.strerror or why
        if error.errno == errno.E2BIG:
            why = "the command or its environment is too long for this system"
        if error.errno in _SCARCE:
            return Outcome("no_resources", None, f"cannot start: {why}", now)
    if len(why) > _LONGEST_WHY:  # the path in it may have any length
        why = f"{why[: _LONGEST_WHY // 2]}...{why[-_LONGEST_WHY // 2 :]}"
    return Outcome("not_started", None, f"cannot start: {why}", now)


def _spelled(number: int) -> str:
    try:
        return f"{number} ({signal.Signals(number).name})"
    except ValueError:
        return str(number)
