"""Two hosts, each a network namespace: one is cut off from the server, and comes back."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

pytest.importorskip("pymongo")
pytestmark = [pytest.mark.campaign, pytest.mark.timeout(600)]

_ROOT = str(Path(__file__).parents[2])
_LEASE = 30.0  # seconds, the shortest
# Each run says all the time that it is there: "RUN TIME" a line.
_TICKS = "while :; do echo $QUEUECTL_ATTEMPT $(date +%s.%N) >> {path}; sleep 0.1; done"


class Host(NamedTuple):
    """A network namespace whose link to the server is `link`, and its own state."""

    name: str
    link: str
    environ: dict[str, str]

    def run(self, *argv: str) -> str:
        """What a command of queuectl prints there."""
        return subprocess.run(
            self._how(argv), env=self.environ, check=True, capture_output=True, text=True
        ).stdout

    def popen(self, *argv: str) -> subprocess.Popen[bytes]:
        """A command that goes on."""
        return subprocess.Popen(self._how(argv), env=self.environ, stdin=subprocess.DEVNULL)

    def _how(self, argv: tuple[str, ...]) -> list[str]:
        # Processes of the same boot would be taken for those of one host.
        boot = f"mount --bind {self.environ['BOOT']} /proc/sys/kernel/random/boot_id"
        within = ["ip", "netns", "exec", self.name, "sh", "-c", f'{boot}; exec "$@"', "sh"]
        return [*within, sys.executable, "-m", "queuectl", *argv]

    def set_link(self, state: str) -> None:
        """Cut the host off from the server ("down"), or join it again ("up")."""
        _ip("link", "set", self.link, state)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[list[Host]]:
    """Two hosts that share a queue on a server which is on neither."""
    from mongodb import conftest

    if os.getuid() or not shutil.which("ip"):
        pytest.skip("only root can make hosts, by ip netns")
    made, server = [], {}
    with contextlib.ExitStack() as stack:
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
            _ip("-n", name, "route", "add", "default", "via", f"10.213.{number}.1")
            environ = {**os.environ, "XDG_STATE_HOME": str(tmp_path / name), "PYTHONPATH": _ROOT}
            environ["BOOT"] = str(tmp_path / f"boot-{number}")
            Path(environ["BOOT"]).write_text(f"0000000{number}-0000-4000-8000-000000000000\n")
            made.append(Host(name, link, environ))
        # Not an address of either link: with the link that would be gone for the other host too.
        _ip("addr", "add", "10.213.0.1/32", "dev", "lo")
        stack.callback(_ip, "addr", "del", "10.213.0.1/32", "dev", "lo")
        server = conftest._start(conftest.FORMS[0], "10.213.0.1")
        stack.callback(shutil.rmtree, server["path"], ignore_errors=True)
        stack.callback(os.waitpid, server["pid"], 0)
        stack.callback(os.kill, server["pid"], signal.SIGKILL)
        for host in made:
            host.environ["QUEUECTL_DATA"] = f"{server['url']}hosts"
        made[0].run("config", "set", "kill-grace", "0s")
        made[0].run("config", "set", "lease", f"{_LEASE:g}s")
        yield made


def _until(condition: Callable[[], object], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _ticks(path: Path) -> dict[str, list[float]]:
    """When each run was seen, by its number."""
    seen: dict[str, list[float]] = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        run, at = line.split()
        seen.setdefault(run, []).append(float(at))
    return seen


def test_a_host_that_is_cut_off_ends_its_run_before_another_begins_it(hosts, tmp_path):
    one, two = hosts
    path = tmp_path / "ticks"
    workers = [one.popen("worker", "run")]
    try:
        one.run("enqueue", "--id", "a", "--command", _TICKS.format(path=path))
        _until(lambda: _ticks(path), 60)
        workers.append(two.popen("worker", "run"))
        began = time.time()
        one.set_link("down")
        _until(lambda: "2" in _ticks(path), 6 * _LEASE)
        seen = _ticks(path)
        assert seen["1"][-1] < seen["2"][0]
        assert seen["2"][0] > began + _LEASE / 2
        one.set_link("up")
        two.run("cancel", "a")
        _until(lambda: "cancelled" in two.run("list"), 60)
        last = _ticks(path)
        assert [*last] == ["1", "2"]
        # Either of them runs what comes next, and what the first one had is not told of any more.
        for job_id in ("b", "c", "d"):
            one.run("enqueue", "--id", job_id, "--", "true")
        one.run("wait", "b", "c", "d", "--timeout", "60s")
        assert _ticks(path) == last
        assert "cancelled" in two.run("list", "a")
    finally:
        for worker in workers:
            worker.send_signal(signal.SIGTERM)
            worker.send_signal(signal.SIGTERM)
            worker.wait()
