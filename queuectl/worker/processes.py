"""Processes as the platform shows them: who they are, and ending exactly those that are meant.

A pid alone names nobody, for another process may have taken it since. Start time and boot id say
which one is meant, and what they do not confirm is never signalled.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

_SCARCE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_ENDED = (b"Z", b"X")  # states of a process in /proc/PID/stat
_FIRST_PAUSE, _LONGEST_PAUSE = 0.001, 0.05  # seconds between looks at what nobody reports
_UNKILLABLE = 10.0  # seconds after which a process that survives KILL is given up


def start_time(pid: int) -> str | None:
    """When the process started, as one word in the platform's own terms; None if there is none."""
    if sys.platform == "linux":
        words = _stat_words(pid)
        return words[19].decode() if words else None
    return _asked("ps", "-o", "lstart=", "-p", str(pid)) or None


def boot_id() -> str:
    """One word that differs each time the machine was started."""
    if sys.platform == "linux":
        return _contents("/proc/sys/kernel/random/boot_id").decode().strip()
    return _asked("sysctl", "-n", "kern.bootsessionuuid")


def is_process(pid: int, started: str, boot: str) -> bool:
    """Whether `pid` is now the process that started at `started` after the boot `boot`."""
    return pid > 0 and boot == boot_id() and start_time(pid) == started


def is_running(pid: int, started: str) -> bool:
    """Whether that process still runs; one that ended, but was not reaped yet, does not."""
    if sys.platform == "linux":
        words = _stat_words(pid)
        return bool(words) and words[19].decode() == started and words[0] not in _ENDED
    return start_time(pid) == started


class SpawnClock:
    """Start times of processes that were just spawned, as `start_time` gives them.

    The system's clock tells them without a look into /proc, which would cost 8 us for each job.
    """

    def __init__(self) -> None:
        self._exact: bool | None = None if sys.platform == "linux" else False

    def tick(self) -> int:
        """To be taken just before the process is spawned."""
        if sys.platform == "linux":
            return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // _TICK
        return 0

    def start_of(self, pid: int, before: int) -> str:
        """The start time of a process spawned since `before`, and not reaped yet."""
        # Within one tick there is only one start time that it can have.
        if self._exact and before == self.tick():
            return str(before)
        try:
            found = start_time(pid) or ""
        except OSError:
            return ""  # its environment names it too
        if self._exact is None and before == self.tick():
            self._exact = found == str(before)
        return found


_TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")  # nanoseconds


class Process:
    """One certain process. What is sent to it reaches it or nobody, even if its pid is reused."""

    def __init__(self, pid: int, started: str) -> None:
        """Raises ProcessLookupError unless `pid` is the process that started at `started`."""
        self.pid = pid
        self._started = started
        self._fd = _pidfd(pid)
        if start_time(pid) != started:
            self.close()
            raise ProcessLookupError(pid)

    def send(self, number: int) -> None:
        """Signal it; nothing happens if it is gone."""
        try:
            if sys.platform == "linux" and self._fd >= 0:
                signal.pidfd_send_signal(self._fd, number)
            elif start_time(self.pid) == self._started:
                os.kill(self.pid, number)
        except ProcessLookupError:
            pass

    def wait(self, seconds: float) -> bool:
        """Whether it is gone, at the latest after `seconds`."""
        if self._fd < 0:
            return _until(lambda: not is_running(self.pid, self._started), seconds)
        import select

        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def close(self) -> None:
        """Let go of it; it goes on."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def group_alive(group: int) -> bool:
    """Whether a process of the group lives that we may signal; zombies do not count."""
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return False
    # Where nobody reaps orphans (a container's first process may not), zombies stay for ever.
    try:
        return sys.platform != "linux" or any(True for _ in _living_members(group))
    except OSError:  # no descriptor is left to look with
        return True


def signal_group(group: int, number: int) -> bool:
    """Signal each process of the group that we may; whether there was any."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def await_group_end(group: int, grace: float) -> bool:
    """Give a group that was sent TERM `grace` seconds, then KILL it; whether all of it is gone."""
    return _until(lambda: not group_alive(group), grace) or kill_group(group)


def kill_group(group: int) -> bool:
    """KILL the group and wait until it is gone; False if some of it cannot be killed."""
    signal_group(group, signal.SIGKILL)
    return _until(lambda: not group_alive(group), _UNKILLABLE)


def processes_marked(marks: Collection[bytes]) -> list[int]:
    """Pids whose environment at their start held all of `marks` (`NAME=value`); Linux only."""
    return [pid for pid in _pids() if _is_marked(pid, marks)]


def kill_marked(marks: Collection[bytes]) -> bool:
    """KILL all those processes and wait until none is left; False if one cannot be killed."""
    return _until(lambda: not _sweep(marks), _UNKILLABLE)


def _sweep(marks: Collection[bytes]) -> bool:
    """KILL what is marked; whether there was anything."""
    found = processes_marked(marks)
    for pid in found:
        try:
            process = Process(pid, start_time(pid) or "")
        except ProcessLookupError:
            continue
        # Between the look and the grip another process may have come to this pid.
        if _is_marked(pid, marks):
            process.send(signal.SIGKILL)
        process.close()
    return bool(found)


def _is_marked(pid: int, marks: Collection[bytes]) -> bool:
    environment = _contents(f"/proc/{pid}/environ")
    return bool(environment) and frozenset(marks) <= set(environment.split(b"\0"))


def _living_members(group: int) -> Iterator[int]:
    name = str(group).encode()
    for pid in _pids():
        words = _stat_words(pid)
        if words and words[2] == name and words[0] not in _ENDED:
            yield pid


def _pids() -> list[int]:
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except FileNotFoundError:
        return []


def _stat_words(pid: int) -> list[bytes]:
    """The words of /proc/PID/stat from the third (the state) on; the second may hold anything."""
    return _contents(f"/proc/{pid}/stat").rpartition(b")")[2].split()


def _contents(path: str) -> bytes:
    """What a file of /proc says; nothing if the process is gone or another user's."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as exc:
        if exc.errno in _SCARCE:
            raise  # nothing is known: who took that for "gone" would run its job a second time
        return b""
    try:
        pieces = []
        while piece := os.read(fd, 65_536):
            pieces.append(piece)
        return b"".join(pieces)
    except OSError:
        return b""
    finally:
        os.close(fd)


def _asked(*argv: str) -> str:
    """What the command prints, as one word."""
    import subprocess

    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    return "_".join(done.stdout.decode("utf-8", "replace").split())


def _pidfd(pid: int) -> int:
    """A descriptor that holds on to the process, or -1 where the system has none."""
    if sys.platform == "linux":
        try:
            return os.pidfd_open(pid)
        except OSError:  # gone, which its start time will tell; or refused by an old sandbox
            return -1
    return -1


def _until(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether the condition came true within `seconds`."""
    deadline = time.monotonic() + seconds
    pause = _FIRST_PAUSE
    while not condition():
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        time.sleep(min(pause, left))
        pause = min(pause * 2, _LONGEST_PAUSE)
    return True
