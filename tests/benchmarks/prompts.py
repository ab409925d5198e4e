"""The shell as a person waits for it: the first prompt, from each key to its echo; and `top`."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import statistics
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from queuectl.job_queue import JobQueue
from queuectl.store.files.lock import QueueLock
from tests.benchmarks.measure import (
    ROOT,
    Figure,
    Sizes,
    add_finished,
    age,
    console_script,
    cpu_seconds,
    medians,
    new_queue,
    process_seconds,
)

_IMPORT = [sys.executable, "-c", "import prompt_toolkit"]
_PROMPT = b"queuectl>"
_DEADLINE = 30.0
_RUNNING = 3  # jobs
_TICK = 0.5  # seconds between two looks of `top`
_PAUSE = 0.04  # seconds between keys: 25 a second is faster than anyone types
_ESCAPES = re.compile(rb"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\a]*\a|[()].|[=>78])")
_WHERE, _HERE = b"\x1b[6n", b"\x1b[1;1R"  # the terminal is asked where its cursor is, and answers
# The words ask for all that completion knows: commands, options, states, jobs by state and by id.
_LINES = ("list --state completed", "show finished-199", "dlq retry nobody", "logs finished-77 -f")
_WRITER = """
import sys, time
from queuectl.job_queue import JobQueue
queue = JobQueue.open(sys.argv[1])
while True:
    queue.enqueue([{"command": "true", "run_at": "2999-01-01T00:00:00Z"}])
    time.sleep(0.02)
"""


class Shell:
    """The shell on a pseudo-terminal that draws nothing: what it costs is the shell's alone."""

    def __init__(self, argv: Sequence[str], folder: str) -> None:
        self.fd, inner = pty.openpty()
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        env = {**os.environ, "PYTHONPATH": ROOT, "QUEUECTL_DATA": folder, "TERM": "xterm-256color"}
        env["QUEUECTL_HISTORY"] = os.path.join(os.path.dirname(folder), "history")
        env.pop("PYTHONDONTWRITEBYTECODE", None)
        streams = dict.fromkeys(("stdin", "stdout", "stderr"), inner)
        self.process = subprocess.Popen(argv, **streams, env=env, start_new_session=True)
        os.close(inner)
        self._unread = b""
        self.drawn = 0  # bytes

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.fd)

    def key(self, char: str) -> None:
        self._unread = b""
        os.write(self.fd, char.encode())

    def until(self, text: bytes) -> None:
        """Read on until this text was drawn after the last key."""
        deadline = time.monotonic() + _DEADLINE
        while text not in _ESCAPES.sub(b"", self._unread):
            assert time.monotonic() < deadline, (text, self._unread)
            self.read(0.5)

    def rest(self, seconds: float) -> None:
        """Read what is drawn for so long."""
        ends = time.monotonic() + seconds
        while (left := ends - time.monotonic()) > 0:
            self.read(left)

    def read(self, seconds: float) -> None:
        """Read what is drawn next, at the latest in so many seconds."""
        if select.select([self.fd], [], [], seconds)[0]:
            piece = os.read(self.fd, 65_536)
            self._unread += piece
            self.drawn += len(piece)
            if _WHERE in piece:
                os.write(self.fd, _HERE)


@contextmanager
def shell_on(argv: Sequence[str], folder: str) -> Iterator[Shell]:
    """A shell at its first prompt."""
    shell = Shell(argv, folder)
    try:
        shell.until(_PROMPT)
        yield shell
    finally:
        shell.close()


def first_prompt(sizes: Sizes) -> list[Figure]:
    """From the start of the process to the first prompt, beside the import it cannot save."""
    with new_queue() as few, new_queue() as many, console_script() as command:
        add_finished(few, 3)
        add_finished(many, sizes.finished)
        age(many, sizes)

        def timed(queue: JobQueue) -> Callable[[], float]:
            def measure() -> float:
                begun = time.perf_counter()
                with shell_on(command(), queue.folder):
                    return time.perf_counter() - begun

            return measure

        took = medians(
            {
                "import": lambda: process_seconds(_IMPORT, few.folder),
                "few": timed(few),
                "many": timed(many),
            },
            sizes.starts,
        )
    told = {name: f"{1000 * seconds:.0f} ms in all" for name, seconds in took.items()}
    return [
        Figure("import of prompt_toolkit, whole process", 1000 * took["import"], "ms"),
        Figure("first prompt, of that", took["few"] / took["import"], "", 1.3, note=told["few"]),
        Figure(
            f"first prompt with {sizes.finished} jobs, of that",
            *(took["many"] / took["import"], "", 1.3),
            note=told["many"],
        ),
    ]


def key_echo(sizes: Sizes) -> list[Figure]:
    """From each key of some lines to its echo: the queue at rest, locked, and changing."""
    jobs = 2 * sizes.finished
    figures = []
    with new_queue() as queue, console_script() as command:
        add_finished(queue, jobs)
        age(queue, sizes)
        for name, meanwhile in (
            ("", ExitStack()),
            (", locked by another process", QueueLock(queue.folder, lambda: 1.0)),
            (", another process enqueuing", _enqueuing(queue.folder)),
        ):
            with meanwhile, shell_on(command(), queue.folder) as shell:
                took = _echoes(shell, sizes.lines)
            took.sort()
            note = f"median {statistics.median(took):.1f} ms, the slowest {took[-1]:.1f} ms"
            what = f"key to echo, {jobs} jobs{name}, 95 %"
            figures.append(Figure(what, took[int(0.95 * (len(took) - 1))], "ms", 30, note=note))
    return figures


@contextmanager
def _enqueuing(folder: str) -> Iterator[None]:
    """Another process hands in some fifty jobs a second."""
    env = {**os.environ, "PYTHONPATH": ROOT}
    writer = subprocess.Popen([sys.executable, "-c", _WRITER, folder], env=env)
    try:
        yield
    finally:
        writer.kill()
        writer.wait()


def top(sizes: Sizes) -> list[Figure]:
    """`top` on 40 rows beside many jobs, of which three run: until it lists all, and its cost."""
    with new_queue() as queue, console_script() as command:
        add_finished(queue, sizes.finished)
        queue.enqueue([{"command": "true"}] * _RUNNING)
        for n in range(_RUNNING):
            queue.claim(f"w-{n}")
        age(queue, sizes)
        begun = time.perf_counter()
        screen = Shell(command("top"), queue.folder)
        try:
            screen.until(str(sizes.finished + _RUNNING).encode())
            listed = time.perf_counter() - begun
            screen.rest(1.0)
            drawn, cpu = screen.drawn, cpu_seconds(screen.process.pid)
            screen.rest(sizes.idle_seconds)
            drawn, cpu = screen.drawn - drawn, cpu_seconds(screen.process.pid) - cpu
        finally:
            screen.close()
    name = f"top beside {sizes.finished} jobs"
    return [
        Figure(f"{name}: until all are listed", listed, "s"),
        Figure(f"{name}: CPU", 100 * cpu / sizes.idle_seconds, "%", 2),
        Figure(f"{name}: bytes a tick", drawn * _TICK / sizes.idle_seconds, "", 500),
    ]


def _echoes(shell: Shell, lines: int) -> list[float]:
    """Milliseconds from each key to the moment it is drawn."""
    took = []
    shell.rest(0.5)
    for at in range(lines):
        for char in _LINES[at % len(_LINES)]:
            if char == " ":  # nothing to be seen: blanks are drawn by moving the cursor
                shell.key(char)
                shell.rest(_PAUSE)
                continue
            begun = time.perf_counter()
            shell.key(char)
            shell.until(char.encode())
            took.append(1000 * (time.perf_counter() - begun))
            shell.rest(_PAUSE)
        shell.key("\x03")
        shell.until(_PROMPT)
        shell.rest(0.2)
    return took
