"""Everything that can go wrong, as one family: each kind has its exit code.

`str(error)` is the line that a person sees: what happened, where, and what to do next. `attempt` in
commands/dispatch.py prints it and returns the code. Two kinds of exit codes do not come from an
error: those of `wait` (commands/handlers/wait.py) and those of signals (cli.py).
"""

from __future__ import annotations

import sys

# Sentences with a command line, before which the queue may have to be named.
NO_WORKER = "No worker runs; '{}worker start' starts one."
PAUSED = "The queue is paused; '{}resume' lets jobs start."
NO_PROCESS = "no process can be started; end some, or raise the limit (ulimit -u)"
COMMANDS_IN = "to enqueue a file of command lines: sed 's/^/enqueue -- /' FILE | queuectl"
_FEW = 5  # things that a line names; more are only counted
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def not_installed(what: str, *packages: str) -> str:
    """The line for a part that needs missing packages, with the command that installs them.

    It names the packages, not an extra of queuectl: on PyPI that name is another program's.
    """
    import shlex
    from importlib.util import find_spec

    python = shlex.quote(sys.executable)
    pip = f"{python} -m pip install" if find_spec("pip") else f"uv pip install --python {python}"
    found = f"{what} needs {' and '.join(packages)}, not installed here"
    return f"{found}: {pip} {' '.join(packages)}"


class QueuectlError(Exception):
    """The root: the operation failed and changed nothing."""

    exit_code = 1


class InvalidInput(QueuectlError):
    """The request makes no sense as written.

    `start` and `end`: offsets into the text, if known. `index`: which of several jobs it is about
    (0 is the first).
    """

    exit_code = 2

    def __init__(
        self,
        message: str,
        *,
        start: int | None = None,
        end: int | None = None,
        index: int | None = None,
    ) -> None:
        super().__init__(message)
        self.start = start
        self.end = start if end is None else end
        self.index = index


class Reworded(QueuectlError):
    """An error in the words of a caller that knows more; its exit code is that of `error`."""

    def __init__(self, message: str, error: QueuectlError) -> None:
        super().__init__(message)
        self.exit_code = error.exit_code
        self.job_id = getattr(error, "job_id", "")


class NoSuchJob(QueuectlError):
    """No job has this id; `told` is the message if the person did not name it like this."""

    exit_code = 3

    def __init__(self, job_id: str, told: str = "") -> None:
        super().__init__(told or f"no job has the id '{job_id}' (queuectl list shows the ids)")
        self.job_id = job_id


class NoSuchRun(QueuectlError):
    """The job was not started that often; `runs`: how often it was."""

    exit_code = 3

    def __init__(self, job_id: str, run: int, runs: int) -> None:
        had = "it has run once" if runs else "it has not run yet"
        has = f"it has runs 1 to {runs}" if runs > 1 else had
        super().__init__(f"job '{job_id}' has no run {run}; {has}")
        self.job_id = job_id


class NoMatch(QueuectlError):
    """No job is selected where that is probably a mistake."""

    exit_code = 3

    def __init__(self) -> None:
        super().__init__("no job matches, so there is nothing to wait for (list shows the jobs)")


class NoSuchWorker(QueuectlError):
    """No living worker has this id or pid."""

    exit_code = 3

    def __init__(self, name: str) -> None:
        super().__init__(f"no worker has the id or pid '{name}' (queuectl worker list shows them)")


class Conflict(QueuectlError):
    """The request is valid, but not in the present state."""

    exit_code = 4


class DuplicateId(Conflict):
    """A job with this id exists; `where` names the file that holds it.

    `index`: which of several new jobs it is about.
    """

    def __init__(self, job_id: str, where: str, index: int | None = None) -> None:
        super().__init__(f"a job with the id '{job_id}' exists already, in {where}")
        self.job_id = job_id
        self.index = index


class KeyTaken(DuplicateId):
    """A live job has this key or, without a state, another job of the same input."""

    def __init__(self, job_id: str, key: str, state: str = "", index: int | None = None) -> None:
        way = "enqueue --if-absent then adds nothing, --replace changes one that waits"
        Conflict.__init__(
            self,
            f"job '{job_id}' with the unique key '{key}' is {state} ({way})"
            if state
            else f"a job with the unique key '{key}' is in the same input already ({way})",
        )
        self.job_id = job_id
        self.index = index


class InvalidTransition(Conflict):
    """The job's state does not allow this event."""

    def __init__(self, job_id: str, state: str, event: str) -> None:
        super().__init__(f"job '{job_id}' is {state}: cannot {event} it")
        self.job_id = job_id


class Outdated(Conflict):
    """The job has changed since the decision; `rev` is its present one."""

    def __init__(self, job_id: str, seen: int, rev: int) -> None:
        super().__init__(f"job '{job_id}' has changed: it is at rev {rev}, not {seen}")
        self.job_id = job_id
        self.rev = rev


class OtherJobs(Conflict):
    """A change would affect more or fewer jobs than expected: `count`."""

    def __init__(self, count: int, expected: int) -> None:
        super().__init__(f"{count} jobs are meant now, not {expected}")
        self.count = count


class StoreError(QueuectlError):
    """The data folder cannot be used as it is."""

    exit_code = 5


class NoSuchSet(QueuectlError):
    """The captured variables of a job are missing."""

    def __init__(self, job_id: str, name: str, where: str) -> None:
        super().__init__(
            f"the captured variables of job '{job_id}' (set {name}) are not in {where}"
        )


class StoreBusy(StoreError):
    """Another process held the lock for longer than lock-timeout."""


class Unanswered(StoreError):
    """No server answers, or no primary: one may answer later."""


class BadFile(StoreError):
    """A file cannot be read as what it should be; it stays as it is."""


class FileMissing(BadFile):
    """A file that should be there is not."""


class DiskRefused(StoreError):
    """The operating system refused a write; what was there before is still there."""


class NotConfirmed(StoreError):
    """The change was written, but the disk did not confirm that it will survive a power cut."""


UNREADABLE = (QueuectlError, OSError, ValueError)  # how a look at a queue may fail


def line_of(error: BaseException) -> str:
    """The line that a person sees for any error; an unexpected one says so."""
    if isinstance(error, QueuectlError):
        return str(error)
    what = f"{type(error).__name__}: {error}".replace("\n", " ")
    return f"unexpected {what} (set QUEUECTL_DEBUG=1 for the traceback)"


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word that was most likely meant, or ""."""
    names = list(known)
    if not names or len(word) > 40:
        return ""
    import difflib

    return next(iter(difflib.get_close_matches(word, names, n=1, cutoff=0.6)), "")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`" (did you mean 'pending'?)"`, or `""` if no known word is similar."""
    near = nearest(word, known)
    return f" (did you mean '{near}'?)" if near else ""


def list_few(things: Iterable[object]) -> str:
    """The first few with commas, and the number of the others."""
    shown = [str(thing) for thing in things]
    more = f" and {len(shown) - _FEW} more" if len(shown) > _FEW else ""
    return ", ".join(shown[:_FEW]) + more


def as_given(value: object) -> str:
    """The value as the person wrote it, shortened for an error message."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null"
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "a list"
    shown = repr(value)
    return shown if len(shown) <= 40 else shown[:37] + "..."
