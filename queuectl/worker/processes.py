"""Processes as the platform shows them: identifying them, and ending exactly the right ones.

A pid alone does not identify a process, since another one may have it by now. Start time and boot
id do; a process that they do not confirm is never signalled.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import time
from collections.abc import Callable, Collection
from typing import NamedTuple

_SCARCE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_ENDED = (b"Z", b"X")  # states of a process in /proc/PID/stat
_FIRST_PAUSE, _LONGEST_PAUSE = 0.001, 0.05  # seconds between looks where nothing reports an end
_UNKILLABLE = 10.0  # seconds after which a process that survives KILL is given up on
_SET_CHILD_SUBREAPER = 36  # of prctl(2)


def start_time(pid: int) -> str | None:
    """When the process started, as one word in the platform's form; None if it is gone."""
    if sys.platform == "linux":
        words = _stat_words(pid)
        return words[19].decode() if words else None
    return _asked("ps", "-o", "lstart=", "-p", str(pid)) or None


def boot_id() -> str:
    """One word that differs after each start of the machine."""
    if sys.platform == "linux":
        return _contents("/proc/sys/kernel/random/boot_id").decode().strip()
    return _asked("sysctl", "-n", "kern.bootsessionuuid")


def namespace() -> str:
    """One word that names the pid namespace (usually a container's); empty if there are none."""
    try:
        return os.readlink("/proc/self/ns/pid").strip("pid:[]")
    except OSError:
        return ""


def are_seen() -> bool:
    """Whether /proc shows the processes that this one can signal, under the same pids.

    A chroot may have no /proc, or that of another pid namespace; only Linux has it.
    """
    try:
        return sys.platform == "linux" and os.readlink("/proc/self") == str(os.getpid())
    except OSError:
        return False


def has_children() -> bool:
    """Whether this process has children, living or not reaped yet; always False off Linux."""
    if sys.platform != "linux":
        return False
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def be_subreaper(wanted: bool = True) -> bool:
    """Make all orphans that descend from this process its children, or stop that.

    Returns whether it works and they can be seen; only on Linux (prctl(2)).
    """
    if not are_seen():
        return False
    import ctypes  # only a worker needs it, once

    arguments = [ctypes.c_ulong(number) for number in (wanted, 0, 0, 0)]
    return ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, *arguments) == 0 and wanted


class Seen(NamedTuple):
    """One process at one moment; `start` as start_time returns it."""

    pid: int
    parent: int
    group: int
    session: int
    start: str
    ended: bool  # a zombie that was not reaped yet


def look(since: int = 0) -> dict[int, Seen]:
    """All visible processes with a pid of `since` or more; Linux only."""
    found = {}
    for pid in _pids():
        words = _stat_words(pid) if pid >= since else []
        if words:
            parent, group, session = map(int, words[1:4])
            ended = words[0] in _ENDED
            found[pid] = Seen(pid, parent, group, session, words[19].decode(), ended)
    return found


def latest_pid() -> int:
    """The pid assigned last; 0 if unknown."""
    words = _contents("/proc/loadavg").split()
    return int(words[4]) if len(words) == 5 else 0


def arguments_of(pid: int) -> list[bytes]:
    """The command line of a process; empty if it is gone."""
    return _contents(f"/proc/{pid}/cmdline").split(b"\0")


def described(process: Seen) -> str:
    """A process as `PID:USER:COMMAND`, without blanks."""
    try:
        owner = _name_of(os.stat(f"/proc/{process.pid}").st_uid)
    except OSError:
        owner = "?"
    name = _contents(f"/proc/{process.pid}/comm").decode("utf-8", "replace").strip()
    return f"{process.pid}:{_word(owner)}:{_word(name)}"


def _word(text: str) -> str:
    plain = (c if c.isascii() and c.isprintable() and c not in " :,=" else "_" for c in text)
    return "".join(plain) or "?"


def _name_of(uid: int) -> str:
    import pwd  # needed only for a rare trouble

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def is_process(pid: int, started: str, boot: str) -> bool:
    """Whether `pid` is now the process that started at `started` after the boot `boot`."""
    return pid > 0 and boot == boot_id() and start_time(pid) == started


def is_running(pid: int, started: str) -> bool:
    """Whether that process still runs; a zombie does not."""
    if sys.platform == "linux":
        words = _stat_words(pid)
        return bool(words) and words[19].decode() == started and words[0] not in _ENDED
    return start_time(pid) == started


def await_end(pid: int, started: str, seconds: float) -> bool:
    """Wait at most `seconds` for the end of that process; returns whether it has ended."""
    return _until(lambda: not is_running(pid, started), seconds)


def ancestors(pid: int) -> set[int]:
    """The process, its parent, and so on up."""
    found: set[int] = set()
    while pid > 0 and pid not in found:
        found.add(pid)
        words = _stat_words(pid)
        pid = int(words[1]) if words else 0
    return found


def holders(table: Collection[int], paths: Collection[str]) -> set[int]:
    """Those of these processes that inherited a locked descriptor of one of the files.

    A process that only reads the file or locked it itself does not count.
    """
    wanted = set()
    for path in paths:
        try:
            found = os.stat(path)
        except OSError:
            continue
        wanted.add((found.st_dev, found.st_ino))
    return {pid for pid in table if wanted and _holds(pid, wanted)}


def _holds(pid: int, wanted: Collection[tuple[int, int]]) -> bool:
    try:
        names = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return False
    for name in names:
        try:
            found = os.stat(f"/proc/{pid}/fd/{name}")
        except OSError:
            continue
        if (found.st_dev, found.st_ino) in wanted:
            locks = _contents(f"/proc/{pid}/fdinfo/{name}").splitlines()
            if any(b"FLOCK" in line and b"WRITE" in line for line in locks):
                return True
    return False


def is_stopped(pid: int, started: str) -> bool:
    """Whether that process was stopped by a signal, according to ps."""
    return _asked("ps", "-o", "state=", "-p", str(pid))[:1] == "T" and start_time(pid) == started


class SpawnClock:
    """Start times of processes that were just spawned, in the form of `start_time`.

    They come from the system's clock: reading /proc would cost 8 us for each job.
    """

    def __init__(self) -> None:
        self._exact: bool | None = None if sys.platform == "linux" else False

    def tick(self) -> int:
        """The present tick; call it just before the process is spawned."""
        if sys.platform == "linux":
            return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // _TICK
        return 0

    def start_of(self, pid: int, before: int) -> str:
        """The start time of a process spawned since the tick `before` and not reaped yet."""
        # Within one tick there is only one possible start time.
        if self._exact and before == self.tick():
            return str(before)
        try:
            found = start_time(pid) or ""
        except OSError:
            return ""  # its environment identifies it too
        if self._exact is None and before == self.tick():
            self._exact = found == str(before)
        return found


_TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")  # nanoseconds


class Process:
    """One certain process: a signal reaches it or nothing, even if its pid is reused."""

    def __init__(self, pid: int, started: str) -> None:
        """Raises ProcessLookupError unless `pid` is the process that started at `started`."""
        self.pid = pid
        self._started = started
        self._fd = _pidfd(pid)
        if start_time(pid) != started or (sys.platform == "linux" and not are_seen()):
            self.close()
            raise ProcessLookupError(pid)

    def send(self, number: int) -> None:
        """Signal it; does nothing if it is gone. Raises PermissionError."""
        try:
            if sys.platform == "linux" and self._fd >= 0:
                signal.pidfd_send_signal(self._fd, number)
            elif start_time(self.pid) == self._started:
                os.kill(self.pid, number)
        except ProcessLookupError:
            pass

    def wait(self, seconds: float) -> bool:
        """Wait at most `seconds` for its end; returns whether it is gone."""
        if self._fd < 0:
            return _until(lambda: not is_running(self.pid, self._started), seconds)
        import select

        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def close(self) -> None:
        """Close the handle; the process goes on."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def send_to(process: Seen, number: int) -> bool:
    """Signal exactly this process; False if that is refused because it is another user's."""
    try:
        gripped = Process(process.pid, process.start)
    except ProcessLookupError:
        return True
    try:
        gripped.send(number)
    except PermissionError:
        return False
    finally:
        gripped.close()
    return True


def group_alive(group: int) -> bool:
    """Whether the group has a living process that we may signal; zombies do not count."""
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return False
    # If nothing reaps orphans (a container's first process may not), zombies stay for ever.
    try:
        return not are_seen() or any(
            one.group == group and not one.ended for one in look().values()
        )
    except OSError:  # no descriptor is free
        return True


def signal_group(group: int, number: int) -> bool:
    """Signal each process of the group that we may signal; returns whether there was any."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def await_group_end(group: int, grace: float) -> bool:
    """Give a group that got TERM `grace` seconds, then KILL it; returns whether all is gone."""
    return _until(lambda: not group_alive(group), grace) or kill_group(group)


def kill_group(group: int) -> bool:
    """KILL the group and wait until it is gone; False if part of it cannot be killed."""
    signal_group(group, signal.SIGKILL)
    return _until(lambda: not group_alive(group), _UNKILLABLE)


def processes_marked(marks: Collection[bytes]) -> list[int]:
    """Pids of processes that started with all of `marks` (`NAME=value`) in the environment.

    Linux only.
    """
    wanted = frozenset(marks)
    return [pid for pid in _pids() if wanted <= environment_of(pid)]


def environment_of(pid: int) -> set[bytes]:
    """The environment of a process at its start, as `NAME=value`; empty if it cannot be read."""
    return set(_contents(f"/proc/{pid}/environ").split(b"\0")) - {b""}


def _pids() -> list[int]:
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except FileNotFoundError:
        return []


def _stat_words(pid: int) -> list[bytes]:
    """The words of /proc/PID/stat from the third (the state) on; the second may be anything."""
    return _contents(f"/proc/{pid}/stat").rpartition(b")")[2].split()


def _contents(path: str) -> bytes:
    """The content of a file in /proc; empty if the process is gone or another user's."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as exc:
        if exc.errno in _SCARCE:
            raise  # unknown: to take it for "gone" would run its job a second time
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
    """The output of the command as one word."""
    import subprocess

    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    return "_".join(done.stdout.decode("utf-8", "replace").split())


def _pidfd(pid: int) -> int:
    """A descriptor that keeps the identity of the process, or -1 if the system has none."""
    if sys.platform == "linux":
        try:
            return os.pidfd_open(pid)
        except OSError:  # gone, which its start time will show; or refused by an old sandbox
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
