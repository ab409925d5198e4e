"""A worker that is the first process of a container.

All orphans of a container become children of its first process. So that process only reaps, and
passes signals to the worker beneath it, which then never takes a stranger for part of a run.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable

_FROM_KERNEL = 0x80  # si_code of a signal that the terminal sent to its whole group
# Signals that cannot be waited for, or that report a fault of this process itself.
_OWN = frozenset({"SIGKILL", "SIGSTOP", "SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGTRAP"})


def beneath_first(work: Callable[[], int]) -> int:
    """Run `work`, in a child if this process is the first one; returns its result.

    With a child it returns in both processes, in the parent with the child's exit code (128 + n for
    signal n). Call it before anything is open or locked, and with nothing left to flush.
    """
    if sys.platform != "linux" or os.getpid() != 1:
        return work()
    watched = {number for number in signal.Signals if number.name not in _OWN}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, watched)
    pid = os.fork()
    if not pid:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return work()
    while (status := _reap(pid)) is None:
        came = signal.sigwaitinfo(watched)
        if came.si_signo != signal.SIGCHLD and came.si_code != _FROM_KERNEL:
            os.kill(pid, came.si_signo)
    code = os.waitstatus_to_exitcode(status)
    return 128 - code if code < 0 else code


def _reap(awaited: int) -> int | None:
    """Reap all ended children; returns the wait status of the awaited child once it ended."""
    while True:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == awaited:
            return status
        if not pid:
            return None
