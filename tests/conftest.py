"""Fixtures that many tests share."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

import hypothesis
import pytest

import queuectl
from queuectl.job_queue import JobQueue
from queuectl.store.files.file_store import FileStore
from tests.campaigns.crash_points import scratch

OLDER = "queuectl-a61fc90.zip"  # the last version of format 1, its package as it was

# Whoever starts tests in the background may ignore these, and each child would go on doing so.
for _number, _usual in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGHUP, signal.SIG_DFL),
    (signal.SIGQUIT, signal.SIG_DFL),
):
    if signal.getsignal(_number) == signal.SIG_IGN:
        signal.signal(_number, _usual)

# How long an example takes is a matter of the machine, and of what else it does.
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")

# Else each of the hundreds of commands that tests start compiles all modules anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Thousands of files are written and synced. Whoever wants them on a disk sets TMPDIR.
_MEMORY = "/dev/shm"
if (
    os.path.isdir(_MEMORY)
    and shutil.disk_usage(_MEMORY).free > 1 << 30
    and "TMPDIR" not in os.environ
):
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", _MEMORY)


def pytest_collection(session: pytest.Session) -> None:
    """Let each process of a full run begin with other modules, so that it compiles a part only."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    if not worker or "tests" not in session.config.args:
        return
    here = os.path.dirname(__file__)
    names = sorted(name[:-3] for name in os.listdir(here) if fnmatch(name, "test_*.py"))
    begin = len(names) * int(worker[2:]) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    for name in names[begin:] + names[:begin]:
        with contextlib.suppress(Exception, pytest.skip.Exception):
            importlib.import_module(name)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Long proofs, measurements and browsers run only when they are named, as by -m campaign."""
    if config.option.markexpr:
        return
    named = ("campaign", "benchmark", "browser")
    long = [item for item in items if any(item.get_closest_marker(name) for name in named)]
    items[:] = [item for item in items if not any(map(item.get_closest_marker, named))]
    config.hook.pytest_deselected(items=long)


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> str:
    """The seed that the test is given, else a new one; the log ends with all of them."""
    seed = getattr(request, "param", None) or secrets.token_hex(4)
    request.node.user_properties.append(("seed", seed))
    return seed


@pytest.fixture(params=[pytest.param("all", marks=pytest.mark.campaign), "a third"])
def places(request: pytest.FixtureRequest, seed: str) -> Callable[[bytes], range]:
    """The places of some bytes that a sweep tries: in its short form a third, which chance has."""
    step = 1 if request.param == "all" else 3
    return lambda data: range(random.Random(seed).randrange(step), len(data), step)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What it takes to do the same again, in whichever process the tests ran."""
    ended = terminalreporter.getreports("passed") + terminalreporter.getreports("failed")
    told = [(dict(report.user_properties).get("seed"), report.nodeid) for report in ended]
    seeds = [f"{seed:<9} {test}" for seed, test in told if seed]
    if seeds:
        terminalreporter.section("seeds")
        terminalreporter.write("\n".join([*seeds, ""]))


def _wait_until(condition: Callable[[], object], timeout: float = 30.0, what: str = "") -> object:
    """What `condition` returns once it is true; fails the test if that takes too long."""
    deadline = time.monotonic() + timeout
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, f"still waiting for {what or condition}"
        time.sleep(0.01)


@pytest.fixture
def wait_until() -> Callable[..., object]:
    return _wait_until


@pytest.fixture
def queue(data_dir: str) -> Iterator[JobQueue]:
    queue = JobQueue.open(data_dir)
    yield queue
    queue.close()


@pytest.fixture
def no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing has to survive a power cut."""
    monkeypatch.setattr(os, "fsync", lambda fd: None)


@pytest.fixture
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake in a file is told at once, though somebody may still be writing it."""
    monkeypatch.setattr("queuectl.store.files.snapshot.PATIENCE", 0.0)


@pytest.fixture
def memory_path(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder like tmp_path, in memory where that is to be had; it is removed afterwards.

    For sweeps that write thousands of files, of which nothing but their content matters.
    """
    path = scratch()
    yield Path(path)
    monkeypatch.undo()  # what removes a folder may be patched, and the working folder lie in it
    shutil.rmtree(path)


@pytest.fixture(autouse=True)
def _stores_are_closed() -> Iterator[None]:
    """No test leaves files of a queue open: thousands of tests run in one process."""
    # Not by monkeypatch, which would then be undone after all other fixtures of a test.
    opened: list[FileStore] = []
    made = FileStore.__init__

    def make(store: FileStore, path: str) -> None:
        made(store, path)
        opened.append(store)

    FileStore.__init__ = make  # type: ignore[method-assign]
    yield
    FileStore.__init__ = made  # type: ignore[method-assign]
    for store in opened:
        with contextlib.suppress(OSError):
            store._writer.close()


@pytest.fixture
def data_dir(tmp_path, monkeypatch) -> str:
    """The path of a data folder that does not exist yet; commands run in this test use it."""
    path = str(tmp_path / "queue")
    monkeypatch.setenv("QUEUECTL_DATA", path)
    # So that processes find the package that is tested, installed or not, from any folder.
    package = os.path.dirname(os.path.dirname(queuectl.__file__))
    monkeypatch.setenv("PYTHONPATH", package, prepend=os.pathsep)
    monkeypatch.delenv("QUEUECTL_DEBUG", raising=False)
    monkeypatch.chdir(tmp_path)
    return path


class Result(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


class Cli:
    """Runs commands on a data folder: `cli("list")` in this process, `cli.run("list")` outside."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.started: list[subprocess.Popen[bytes]] = []

    def __call__(self, *argv: str, stdin: str | bytes = b"") -> Result:
        """`queuectl ARGV...` in this process; standard input is not a terminal."""
        from queuectl.cli import main

        data = stdin.encode() if isinstance(stdin, str) else stdin
        streams = [io.TextIOWrapper(io.BytesIO(start), "utf-8") for start in (data, b"", b"")]
        kept = sys.stdin, sys.stdout, sys.stderr
        sys.stdin, sys.stdout, sys.stderr = streams
        try:
            code = main(argv)
        finally:
            sys.stdin, sys.stdout, sys.stderr = kept
        for stream in streams[1:]:
            stream.flush()
        out, err = (stream.buffer.getvalue().decode() for stream in streams[1:])
        return Result(code, out, err)

    def ok(self, *argv: str, stdin: str | bytes = b"") -> str:
        """The output of a command that must succeed."""
        result = self(*argv, stdin=stdin)
        assert result.code == 0, result
        return result.out

    def run(self, *argv: str, stdin: str | bytes = b"", **env: str) -> Result:
        """`python -m queuectl ARGV...` as a process of its own."""
        data = stdin.encode() if isinstance(stdin, str) else stdin
        done = subprocess.run(
            [sys.executable, "-m", "queuectl", *argv],
            input=data,
            capture_output=True,
            env={**os.environ, **env},
            timeout=60,
            check=False,
        )
        return Result(done.returncode, done.stdout.decode(), done.stderr.decode())

    def popen(self, *argv: str, **how: object) -> subprocess.Popen[bytes]:
        """The same, still running; its output on pipes unless `how` says otherwise."""
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        command = [sys.executable, "-m", "queuectl", *argv]
        self.started.append(subprocess.Popen(command, **{**pipes, **how}))
        return self.started[-1]


class Older:
    """The queuectl of commit a61fc90, which knows format 1 only, on the same data folder."""

    def __init__(self, code: str) -> None:
        self._environ = {"PYTHONPATH": code, "PYTHONUNBUFFERED": "1"}

    def run(self, *argv: str, stdin: str = "") -> Result:
        """`python -m queuectl ARGV...` of that version."""
        done = subprocess.run(**self._how(argv), input=stdin.encode(), capture_output=True)
        return Result(done.returncode, done.stdout.decode(), done.stderr.decode())

    def popen(self, *argv: str) -> subprocess.Popen[bytes]:
        """The same, still running; its output on pipes."""
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        return subprocess.Popen(**self._how(argv), **pipes)

    def _how(self, argv: tuple[str, ...]) -> dict[str, object]:
        return {
            "args": [sys.executable, "-m", "queuectl", *argv],
            "env": {**os.environ, **self._environ},
        }


@pytest.fixture(scope="session")
def older_code(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where the older version's package lies."""
    path = tmp_path_factory.mktemp("older")
    shutil.unpack_archive(os.path.join(os.path.dirname(__file__), "data", OLDER), path)
    return str(path)


@pytest.fixture
def older(data_dir: str, older_code: str) -> Iterator[Older]:
    """Commands of the older version on the queue of this test."""
    yield Older(older_code)
    _end_workers(data_dir)


@pytest.fixture
def cli(data_dir: str) -> Iterator[Cli]:
    """Commands on a queue of this test's own; no worker of it outlives the test."""
    cli = Cli(data_dir)
    yield cli
    for process in cli.started:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
    _end_workers(data_dir)


def _end_workers(folder: str) -> None:
    from queuectl.store.files.worker_files import worker_infos

    for worker in list(worker_infos(folder)) if os.path.isdir(folder) else []:
        for pid in (worker.group_pid, worker.pid) if worker.alive else ():
            if pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(-pid if pid == worker.group_pid else pid, signal.SIGKILL)
