"""A worker as a separate process: its options, its log, and its report to its starter."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from queuectl.errors import FileMissing, QueuectlError
from queuectl.job_queue import JobQueue
from queuectl.worker.aside import aside
from queuectl.worker.first_process import beneath_first
from queuectl.worker.loop import run_worker
from queuectl.worker.own_log import OwnLog, Starter, to_stderr

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from queuectl.store.contract import Slot


def main(argv: Sequence[str] | None = None) -> int:
    """`_main`, in a child if this is the first process of a container."""
    return beneath_first(lambda: _main(argv))


def _main(argv: Sequence[str] | None) -> int:
    """A worker process: `--data DIR [--foreground [--drain]] [--log PATH] [--ready FD]`.

    `--log`: the file for stderr. `--ready`: a descriptor that gets the pid after registration, or
    the reason why that failed. Returns the exit code.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    foreground, drain = "--foreground" in words, "--drain" in words
    words = [word for word in words if word not in ("--foreground", "--drain")]
    options = dict(zip(words[::2], words[1::2], strict=True))
    if not foreground:
        with suppress(PermissionError):  # it already leads a session
            os.setsid()
    queue = aside(lambda: JobQueue.open(os.path.abspath(options["--data"])))  # this loads the store
    own_log = OwnLog(options.get("--log"))
    starter = Starter(int(options.get("--ready", -1)))

    def registered(slot: Slot) -> None:
        own_log.name_for(slot.id)
        starter.tell(str(os.getpid()))

    try:
        tell = _to_stdout if foreground else None
        return run_worker(
            queue, tell=tell, registered=registered, detached=not foreground, until_empty=drain
        )
    except (QueuectlError, OSError) as exc:
        to_stderr(str(exc))
        starter.tell(str(exc))  # the log may be on a full disk
        return exc.exit_code if isinstance(exc, QueuectlError) else 1
    finally:
        try:
            queue.close()
        except FileMissing:  # the folder was moved away, which was reported
            pass
        except (QueuectlError, OSError) as exc:
            to_stderr(str(exc))
        own_log.drop_if_empty()


def _to_stdout(text: str) -> None:
    os.write(1, f"{text}\n".encode("utf-8", "replace"))
