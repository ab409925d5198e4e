"""Two hosts with a network and processes of their own: what befalls one of them, and the other.

Their clocks are an hour apart.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

pytest.importorskip("pymongo")
pytestmark = [pytest.mark.campaign, pytest.mark.timeout(600)]

_ROOT = str(Path(__file__).parents[2])
_LEASE = 30.0  # seconds, the shortest
# Each run says all the time that it is there, "RUN TIME" a line, until it may end.
_TICKS = (
    "until [ -e {go} ]; do echo $QUEUECTL_ATTEMPT $(date +%s.%N) >> {path}; sleep 0.1; done; "
    "echo $QUEUECTL_ATTEMPT ends"
)
_AHEAD = "import time; own = time.time; time.time = lambda: own() + 3600\n"


class Host(NamedTuple):
    """Namespaces that processes of ours enter by its first one; `link` leads to the server.

    `first` and `server` are pids.
    """

    name: str
    number: int
    link: str
    environ: dict[str, str]
    first: int
    server: int

    def run(self, *argv: str, stderr: bool = False) -> str:
        """What a command of queuectl prints there, or what it says beside that."""
        within = ["nsenter", "--target", str(self.first), "--net", "--mount", "--pid", "--"]
        within += [sys.executable, "-m", "queuectl", *argv]
        done = subprocess.run(within, env=self.environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stderr if stderr else done.stdout

    def set_link(self, state: str) -> None:
        """Cut the host off from the server ("down"), or join it again ("up")."""
        _ip("link", "set", self.link, state)

    def signal_all(self, number: int) -> None:
        """Send a signal to all that runs there, until that is nothing new."""
        told: set[str] = set()
        while new := {*_ip("netns", "pids", self.name).split()} - told:
            for pid in new:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), number)
            told |= new


def _ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout


def _first_process(name: str, boot: Path) -> int:
    """The pid of the first process of a network namespace, which has a boot of its own."""
    # Processes of the same boot would be taken for those of one host. It reaps all that end.
    begin = f"mount --bind {boot} /proc/sys/kernel/random/boot_id; trap '' CHLD; exec sleep 1d"
    apart = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", begin]
    argv = ["ip", "netns", "exec", name, *apart]
    quiet = [(os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0)]  # of how it ends
    above = os.posix_spawnp("ip", argv, os.environ, file_actions=quiet)
    children = Path(f"/proc/{above}/task/{above}/children")
    _until(lambda: children.read_text(), 10)
    first = int(children.read_text())
    _until(lambda: b"sleep" in Path(f"/proc/{first}/cmdline").read_bytes()[:5], 10)
    return first


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[list[Host]]:
    """Two hosts that share a queue on a server which is on neither."""
    from mongodb import conftest

    if os.getuid() or not (shutil.which("ip") and shutil.which("nsenter")):
        pytest.skip("only root can make hosts, by ip netns and nsenter")
    made = []
    with contextlib.ExitStack() as stack:
        # Not an address of either link: with the link that would be gone for the other host too.
        _ip("addr", "add", "10.213.0.1/32", "dev", "lo")
        stack.callback(_ip, "addr", "del", "10.213.0.1/32", "dev", "lo")
        server = conftest._start(conftest.FORMS[0], "10.213.0.1")
        stack.callback(shutil.rmtree, server["path"], ignore_errors=True)
        stack.callback(os.waitpid, server["pid"], 0)
        stack.callback(os.kill, server["pid"], signal.SIGKILL)
        (tmp_path / "clock-2").mkdir()
        (tmp_path / "clock-2" / "sitecustomize.py").write_text(_AHEAD)
        for number in (1, 2):
            name, link = f"queuectl{os.getpid()}-{number}", f"q{os.getpid()}-{number}"
            try:
                _ip("netns", "add", name)
            except subprocess.CalledProcessError:
                pytest.skip("no network namespace can be made here")
            stack.callback(_ip, "netns", "del", name)
            _ip("link", "add", link, "type", "veth", "peer", "name", "server", "netns", name)
            stack.callback(_ip, "link", "del", link)
            _ip("addr", "add", f"10.213.{number}.1/30", "dev", link)
            _ip("link", "set", link, "up")
            _ip("-n", name, "addr", "add", f"10.213.{number}.2/30", "dev", "server")
            _ip("-n", name, "link", "set", "server", "up")
            _ip("-n", name, "link", "set", "lo", "up")
            _ip("-n", name, "route", "add", "default", "via", f"10.213.{number}.1")
            boot = tmp_path / f"boot-{number}"
            boot.write_text(f"0000000{number}-0000-4000-8000-000000000000\n")
            first = _first_process(name, boot)
            stack.callback(os.kill, first, signal.SIGKILL)  # and with it all that runs there
            environ = {**os.environ, "XDG_STATE_HOME": str(tmp_path / name)}
            environ |= {"PYTHONPATH": f"{tmp_path}/clock-{number}:{_ROOT}", "TZ": "UTC"}
            environ["QUEUECTL_DATA"] = f"{server['url']}hosts"
            made.append(Host(name, number, link, environ, first, server["pid"]))
        made[0].run("config", "set", "kill-grace", "0s")
        made[0].run("config", "set", "lease", f"{_LEASE:g}s")
        yield made


def _until(condition: Callable[[], object], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


class Ticking:
    """The job `a`, whose runs say that they are there."""

    def __init__(self, folder: Path) -> None:
        self._path, self._go = folder / "ticks", folder / "go"
        self.command = _TICKS.format(path=self._path, go=self._go)

    def seen(self) -> dict[str, list[float]]:
        """When each run was seen, by its number."""
        seen: dict[str, list[float]] = {}
        for line in self._path.read_text().splitlines() if self._path.exists() else ():
            run, at = line.split()
            seen.setdefault(run, []).append(float(at))
        return seen

    def end(self) -> None:
        """Let its runs end."""
        self._go.touch()


@pytest.fixture
def job(tmp_path: Path, hosts: list[Host]) -> Ticking:
    """A job that runs on the first host; the second has an idle worker, too."""
    ticking = Ticking(tmp_path)
    hosts[0].run("enqueue", "--id", "a", "--command", ticking.command)
    hosts[0].run("worker", "start")
    _until(ticking.seen, 60)
    hosts[1].run("worker", "start")
    return ticking


def _runs_on(host: Host, other: Host, *ids: str) -> None:
    """Assert that a worker of this host, while that of the other rests, runs what comes next."""
    other.run("worker", "stop")
    for job_id in ids:
        other.run("enqueue", "--id", job_id, "--", "true")
    host.run("wait", *ids, "--timeout", "60s")


def test_a_host_that_is_cut_off_ends_its_run_before_another_begins_it(hosts, job):
    one, two = hosts
    began = time.time()
    one.set_link("down")
    _until(lambda: "2" in job.seen(), 6 * _LEASE)
    seen = job.seen()
    assert seen["1"][-1] < seen["2"][0]
    assert seen["2"][0] > began + _LEASE / 2
    one.set_link("up")
    two.run("cancel", "a")
    _until(lambda: "cancelled" in two.run("list"), 60)
    last = job.seen()
    assert [*last] == ["1", "2"]
    _runs_on(one, two, "b", "c")
    assert job.seen() == last
    assert "cancelled" in two.run("list", "a")


def test_a_host_that_stood_still_for_longer_than_the_lease_has_lost_its_run(hosts, job):
    one, two = hosts
    one.signal_all(signal.SIGSTOP)
    began = time.time()
    _until(lambda: "2" in job.seen(), 6 * _LEASE)
    assert job.seen()["2"][0] > began + _LEASE / 2
    job.end()  # the first run ends at the moment at which it goes on
    one.signal_all(signal.SIGCONT)
    two.run("wait", "a", "--timeout", "60s")
    _runs_on(one, two, "b", "c")
    assert two.run("logs", "a") == "2 ends\n"
    assert _history(two) == [("lose", 1)]


def test_a_host_that_stood_still_for_less_than_the_lease_goes_on(hosts, job):
    one, two = hosts
    one.signal_all(signal.SIGSTOP)
    stopped = time.time()
    _until(lambda: time.time() > stopped + _LEASE / 2, _LEASE)
    one.signal_all(signal.SIGCONT)
    _until(lambda: job.seen()["1"][-1] > stopped + 2 * _LEASE, 3 * _LEASE)
    job.end()
    two.run("wait", "a", "--timeout", "60s")
    assert [*job.seen()] == ["1"]
    assert two.run("logs", "a") == "1 ends\n"
    assert _history(two) == []


def test_after_an_outage_longer_than_the_lease_nobody_is_lost_who_lives(hosts, job):
    one, two = hosts
    began = time.time()
    os.kill(one.server, signal.SIGSTOP)
    try:
        _until(lambda: time.time() > began + 1.5 * _LEASE, 3 * _LEASE)
    finally:
        os.kill(one.server, signal.SIGCONT)
    assert job.seen()["1"][-1] < began + _LEASE
    _until(lambda: len(job.seen()) > 1, 60)  # as what was stopped, not as what was lost
    job.end()
    two.run("wait", "a", "--timeout", "60s")
    assert [event for event, _ in _history(two)] == ["release"]
    assert two.run("worker", "list").count("idle") == 2


@pytest.mark.parametrize(
    ("delay", "rate", "size"),
    [(0.3, 1e9, 0), (0.02, 50_000, int(1.7 * _LEASE * 50_000))],
    ids=["late", "narrow"],
)
def test_behind_a_slow_link_all_goes_on_as_ever(hosts, tmp_path, delay, rate, size):
    one, two = hosts
    job = Ticking(tmp_path)
    printing = f"head -c {size} /dev/zero | tr '\\0' x; echo; "
    with _slow_link(one, delay, rate):
        told = one.run("enqueue", "--id", "a", "--command", printing + job.command, stderr=True)
        assert told == "No worker runs; 'worker start' starts one.\n"
        one.run("worker", "start")
        _until(job.seen, 60)
        began = time.time()
        two.run("worker", "start")
        if size:
            job.end()  # what it has printed is sent for longer than the lease
        _until(lambda: size or job.seen()["1"][-1] > began + 1.5 * _LEASE, 2 * _LEASE)
        job.end()
        assert one.run("wait", "a", "--timeout", "180s", stderr=True) == ""
        assert two.run("logs", "a") == "x" * size + "\n1 ends\n"
        assert _history(two) == []
        assert one.run("status", "--json", stderr=True) == ""
        _runs_on(one, two, "b", "c")
        one.run("worker", "stop")
        assert "lease" not in two.run("worker", "list")
        two.run("enqueue", "--id", "d", "--", "true")
        two.run("pause")
        [row] = [line for line in one.run("top").splitlines() if line.startswith("d ")]
        assert row.endswith("the queue is paused")


def _history(host: Host) -> list[tuple[str, int]]:
    """What became of the earlier runs of `a`."""
    job = json.loads(host.run("show", "a", "--json"))["job"]
    assert job["state"] == "completed"
    return [(entry["event"], entry["run"]) for entry in job.get("history", ())]


@contextlib.contextmanager
def _slow_link(host: Host, delay: float, rate: float) -> Iterator[None]:
    """Within it the server answers this host late: so many seconds each way, so many bytes each."""
    url = host.environ["QUEUECTL_DATA"]
    server = url.removeprefix("mongodb://").partition("/")[0].rpartition(":")
    listening = socket.create_server((f"10.213.{host.number}.1", 0))
    ends = asyncio.Event()

    async def pump(source: Any, target: Any, way: list[float]) -> None:
        loop = asyncio.get_running_loop()
        while data := await source.read(4096):
            way[0] = max(loop.time(), way[0]) + len(data) / rate
            loop.call_at(way[0] + delay, target.write, data)
            await asyncio.sleep(way[0] - loop.time())
        loop.call_later(delay, target.close)

    ways = [0.0], [0.0]  # when each is free again

    async def serve(source: Any, target: Any) -> None:
        there, back = await asyncio.open_connection(server[0], int(server[2]))
        try:
            await asyncio.gather(pump(source, back, ways[0]), pump(there, target, ways[1]))
        except (OSError, asyncio.CancelledError):
            return
        finally:
            target.close()
            back.close()

    async def work() -> None:
        loops.append(asyncio.get_running_loop())
        async with await asyncio.start_server(serve, sock=listening):
            await ends.wait()

    loops: list[asyncio.AbstractEventLoop] = []
    thread = threading.Thread(target=asyncio.run, args=(work(),))
    thread.start()
    name, port = listening.getsockname()
    host.environ["QUEUECTL_DATA"] = f"mongodb://{name}:{port}/hosts?directConnection=true"
    try:
        yield
    finally:
        host.environ["QUEUECTL_DATA"] = url
        loops[0].call_soon_threadsafe(ends.set)
        thread.join()
