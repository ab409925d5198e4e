"""docs/mongodb.md is true: its steps from one machine to ten are run, line by line."""

from __future__ import annotations

import ast
import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from samples import PYTHON

pytest.importorskip("pymongo")

from mongodb import conftest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "mongodb.md").read_text()
SECTION = TEXT[TEXT.index("## From one machine to ten") : TEXT.index("## Keeping it running")]
BLOCKS = [
    re.sub(r"^ {7}", "", block, flags=re.MULTILINE)
    for block in re.findall(r"(?:^ {7}\S.*\n|(?<=\n)\n(?= {7}\[))+", SECTION, re.MULTILINE)
]
PASSWORD = "s3cr et@:/?#%"
SPELLED = "s3cr%20et%40%3A%2F%3F%23%25"


class Host:
    """The one host of the how-to, with a home of its own; `db1` is another name of this one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "bin").mkdir()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.environ = {**os.environ, "HOME": str(path), "PYTHONPATH": str(ROOT)}
        self.environ["PATH"] = f"{path / 'bin'}:{os.environ['PATH']}"
        self.environ["XDG_STATE_HOME"] = str(path / "state")
        for name, told in (
            ("queuectl", f'exec {PYTHON} -m queuectl "$@"'),
            ("mongod", f'exec {conftest.MONGOD} "$@"'),
        ):
            script = path / "bin" / name
            script.write_text(f"#!/bin/sh\n{told}\n")
            script.chmod(0o700)

    def here(self, line: str) -> str:
        """A line of the how-to as it is for this host."""
        line = re.sub(r"\b(localhost|db1)(:27017)?(?=[/'])", f"localhost:{self.port}", line)
        line = re.sub(r"(?<=tlsCAFile=)[^'\s]+", str(self.path / "db1.crt"), line)
        return line.replace("PASSWORD", SPELLED)

    def run(self, lines: str) -> str:
        """What sh prints for the lines."""
        done = subprocess.run(
            ["/bin/sh", "-ec", self.here(lines)],
            **{"cwd": self.path, "env": self.environ, "stdin": subprocess.DEVNULL},
            **{"capture_output": True, "text": True, "check": False},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self, line: str) -> subprocess.Popen[bytes]:
        """What sh starts for the line, which goes on until it is told to end."""
        return subprocess.Popen(
            ["/bin/sh", "-c", f"exec {line}"],
            **{"cwd": self.path, "env": self.environ, "stdin": subprocess.DEVNULL},
            **{"stdout": subprocess.DEVNULL, "start_new_session": True},
        )


class Shell:
    """Does what mongosh would do with the few words of the how-to."""

    def __init__(self, url: str) -> None:
        from pymongo import MongoClient

        self._open = lambda **how: MongoClient(url, serverSelectionTimeoutMS=20_000, **how)
        self.client: Any = self._open()

    def do(self, line: str) -> None:
        line = line.replace("passwordPrompt()", repr(PASSWORD))
        line = re.sub(r"([{,] ?)(\w+):", r"\1'\2':", line)
        if form := re.fullmatch(r"rs\.initiate\((.*)\)", line):
            self.client.admin.command("replSetInitiate", ast.literal_eval(form[1]))
            while not self.client.admin.command("hello")["isWritablePrimary"]:
                time.sleep(0.02)
        elif form := re.fullmatch(r"db\.getSiblingDB\('(\w+)'\)\.createUser\((.*)\)", line):
            user = ast.literal_eval(form[2])
            self.client[form[1]].command("createUser", user.pop("user"), **user)
        else:
            form = re.fullmatch(r"db\.getSiblingDB\('(\w+)'\)\.auth\('(\w+)', (.*)\)", line)
            name, password = form[2], ast.literal_eval(form[3])
            self.client.close()
            self.client = self._open(username=name, password=password, authSource=form[1])


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    if not (conftest.MONGOD and shutil.which("openssl")):
        pytest.skip("there is no mongod to be started here, or no openssl")
    with contextlib.ExitStack() as stack:
        host = Host(tmp_path)
        data = conftest.scratch()
        stack.callback(shutil.rmtree, data, ignore_errors=True)
        make, _, line = BLOCKS[0].rstrip("\n").rpartition("\n")
        host.run(make)
        more = f"--port {host.port} --nounixsocket --oplogSize 32 --wiredTigerCacheSizeGB 0.25"
        server = host.start(f"{line.replace('DIR', data)} {more}")
        stack.callback(server.wait)
        stack.callback(server.kill)
        yield host


def test_the_way_from_one_machine_to_ten_can_be_gone_as_it_is_shown(host, wait_until):
    _, made, user, named, unit = BLOCKS
    host.run("queuectl --data ./data enqueue --id a --command 'echo done'")
    [url] = re.findall(r"`mongosh '(.*)'`", SECTION)
    shell = Shell(host.here(url))
    for line in host.here(made + user).splitlines():
        shell.do(line)
    assert "replica set" in host.run(named)
    copy, back = re.search(r"`(queuectl copy ./data (\S+))`", SECTION).groups()
    assert "1 job(s)" in host.run(copy)
    assert "1 job(s)" in host.run(f"queuectl copy {back} ./again")
    settings = dict(line.split("=", 1) for line in unit.splitlines() if "=" in line)
    name, value = settings["Environment"].split("=", 1)
    host.environ[name] = value.replace("%h", str(host.path))
    assert settings["ExecStart"].startswith("/usr/local/bin/queuectl ")
    worker = host.start(settings["ExecStart"].removeprefix("/usr/local/bin/"))
    try:
        wait_until(lambda: '"completed"' in host.run("queuectl list --json"))
        assert host.run("queuectl logs a") == "done\n"
        host.run("queuectl worker stop")
        assert settings["Restart"] == "on-failure"
        assert worker.wait() == 0  # so systemd leaves it ended
    finally:
        worker.send_signal(signal.SIGTERM)
        worker.wait()
    [known] = shell.client.queue.command("usersInfo", "queue")["users"]
    assert known["roles"] == [{"role": "readWrite", "db": "queue"}]
    shell.client.close()
    url = (host.path / ".queue-url").read_text().strip()
    host.environ[name] = url.replace("/queue?", "/another?")
    with pytest.raises(AssertionError, match="refuses what queuectl needs"):
        host.run("queuectl status")
