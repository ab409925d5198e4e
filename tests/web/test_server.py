"""The server as a process: its first lines, its sockets, its end."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys

import pytest

pytest.importorskip("starlette", reason="the extra is missing: pip install -e '.[web]'")

from queuectl.errors import StoreError
from queuectl.web.server import listen
from queuectl.web.tokens import Desk, at_short_path


class Served:
    """A `serve` that runs, with the address that it told."""

    def __init__(self, cli, *argv: str) -> None:
        self.process = cli.popen("serve", "--allow-root", *argv)
        self.lines = []
        for line in self.process.stdout:
            self.lines.append(line.decode())
            if line.startswith(b"API: "):
                break
        assert self.lines, self.process.stderr.read()
        found = re.search(r"http://[\d.]+:(\d+)/", "".join(self.lines))
        self.port = int(found[1]) if found else 0
        self.token = re.search(r"#token=(\S+)", "".join(self.lines) + "#token=none")[1]

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, bytes]:
        """One request."""
        asked = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body)
        asked.request(method, path, data, headers)
        told = asked.getresponse()
        found = told.status, told.read()
        asked.close()
        return found

    def stream(self) -> socket.socket:
        """A stream of events, of which the first one has come."""
        opened = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        head = f"GET /api/v1/events HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n"
        opened.sendall(f"{head}Authorization: Bearer {self.token}\r\n\r\n".encode())
        seen = b""
        while b"event: hello" not in seen:
            seen += opened.recv(65536)
        return opened


@pytest.fixture
def state(monkeypatch, tmp_path):
    """Where tokens and sockets lie; its path has a blank and is longer than a socket's may be."""
    folder = tmp_path / ("lo ng" * 30)
    monkeypatch.setenv("XDG_STATE_HOME", str(folder))
    return folder


def test_1_it_listens_on_this_machine_and_on_a_socket_and_ctrl_c_ends_it(cli, data_dir, state):
    served = Served(cli, "--port", "0")
    assert served.ask("POST", "/api/v1/jobs", {"command": "true", "id": "a"})[0] == 201
    assert json.loads(cli.ok("show", "a", "--json"))["job"]["state"] == "pending"
    with open("/proc/net/tcp") as table:
        addresses = [line.split()[1] for line in table]
    bound = [name for name in addresses if name.endswith(f":{served.port:04X}")]
    assert {name.partition(":")[0] for name in bound} == {"0100007F"}  # 127.0.0.1, reversed
    desk = Desk(data_dir, os.environ)
    assert shlex.split(served.lines[-1])[2:4] == ["-H", f"@{desk.file('full')}"]
    assert desk.served()["port"] == served.port
    with at_short_path(desk.file("socket")) as short, socket.socket(socket.AF_UNIX) as own:
        own.connect(short)
        own.sendall(b"GET /status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert own.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")
    with open(f"/proc/{served.process.pid}/cmdline", "rb") as file:
        assert served.token.encode() not in file.read()
    taken = cli("serve", "--allow-root", "--port", str(served.port))
    assert taken.code == 5
    assert f"the queue {data_dir} is served there" in taken.err
    again = cli("serve", "--allow-root", "--port", "0")
    assert (again.code, f"at http://127.0.0.1:{served.port}/" in again.err) == (5, True)
    streams = [served.stream() for _ in range(10)]
    served.process.send_signal(signal.SIGINT)
    assert served.process.wait(2) == 130
    told = served.process.stderr.read().decode()
    assert "Traceback" not in told
    assert told.endswith("queuectl: interrupted\n")
    assert desk.served() is None
    for stream in streams:
        stream.close()


def test_sigterm_ends_it_at_once_and_its_workers_finish_their_job(cli, state, tmp_path, wait_until):
    gate = tmp_path / "gate"
    cli.ok("enqueue", "--id", "slow", "--command", f"until [ -e '{gate}' ]; do sleep 0.05; done")
    served = Served(cli, "--port", "0", "--workers", "1", "--read-only", "--host", "0.0.0.0")
    wait_until(lambda: "in_progress" in cli.ok("list"))
    assert served.ask("GET", "/api/v1/status")[0] == 200
    assert served.ask("POST", "/api/v1/jobs", {"command": "true"})[0] == 403
    stream = served.stream()
    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(2) == 0
    assert b"can be reached from other machines" in served.process.stderr.read()
    gate.touch()
    wait_until(lambda: "Active Workers: 0" in cli.ok("status"))
    assert json.loads(cli.ok("show", "slow", "--json"))["job"]["state"] == "completed"
    stream.close()


def test_26_a_socket_alone(cli, data_dir, state, tmp_path):
    path = tmp_path / "my page.sock"
    served = Served(cli, "--unix", str(path))
    assert served.port == 0
    assert shlex.split(served.lines[-1])[2:4] == ["--unix-socket", str(path)]
    assert not os.path.exists(Desk(data_dir, os.environ).file("served"))  # not for 'dashboard'
    with socket.socket(socket.AF_UNIX) as own:
        own.connect(str(path))
        own.sendall(b"GET /api/v1/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert own.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")
    with open("/proc/net/tcp") as table:
        inodes = {line.split()[9] for line in table}
    links = []
    for fd in os.listdir(f"/proc/{served.process.pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # it was closed since: our own connection
            links.append(os.readlink(f"/proc/{served.process.pid}/fd/{fd}"))
    assert links
    assert not [link for link in links if link[8:-1] in inodes and link.startswith("socket:")]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_an_answer_is_sent_without_waiting_for_what_came_before(host):
    """Else each request of a connection but the first took 40 ms: Nagle, and a delayed ACK."""

    async def told(listening):
        waits = asyncio.get_running_loop().create_future()
        server = await asyncio.start_server(lambda _, out: waits.set_result(out), sock=listening)
        _, own = await asyncio.open_connection(*listening.getsockname()[:2])
        out = await waits
        found = out.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        for one in (own, out, server):
            one.close()
        return found

    try:
        listening = listen(host, 0, lambda port: "")
    except StoreError:
        pytest.skip(f"there is no {host} here")
    assert asyncio.run(told(listening)) == 1


def test_a_port_of_another_program_is_told_with_its_holder(cli, state):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        told = cli("serve", "--allow-root", "--port", str(other.getsockname()[1]))
    assert told.code == 5
    assert f"PID {os.getpid()} has it" in told.err
    assert "--port 0" in told.err


def test_without_the_extra_it_says_what_to_install(cli):
    code = (
        "import sys; sys.modules['uvicorn'] = None; import importlib.util as u; "
        "real = u.find_spec; u.find_spec = lambda n: None if n == 'uvicorn' else real(n); "
        "from queuectl.cli import main; sys.exit(main(['serve', '--allow-root']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (5, 1)
    assert f"{shlex.quote(sys.executable)} -m pip install uvicorn" in done.stderr


def test_nothing_of_it_is_loaded_by_other_commands(cli):
    code = (
        "import sys; from queuectl.cli import main; main(['status']); main(['help', 'serve']); "
        "print([m for m in sys.modules if m.startswith(('queuectl.web', 'starlette', 'uvicorn'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
