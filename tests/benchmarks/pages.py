"""The page's server: what its readers cost a drain, its first list, its idle stream, its news."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import NamedTuple

from queuectl.job_queue import JobQueue
from tests.benchmarks.drains import drain
from tests.benchmarks.measure import (
    ROOT,
    Figure,
    Sizes,
    add_finished,
    age,
    new_queue,
)

_WORKERS = 4
_MIB = 1 << 20
_PAGE = "/api/v1/jobs?limit=100"
_AGAIN = 20
# A process that lists a queue so that all is loaded, then another one, and how long each took.
_LISTS = """
import sys, time
from queuectl.cli import main
empty, queue, again = sys.argv[1:]
for folder in (empty, *[queue] * (1 + int(again))):
    begun = time.perf_counter()
    code = main(["--data", folder, "list", "--limit", "100"])
    assert code == 0
    if folder == queue:
        print(time.perf_counter() - begun, file=sys.stderr)
"""
# A process that has streams open and takes what comes. It says so when all have begun.
_READERS = """
import select, socket, sys
port, token, count = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
head = f"GET /api/v1/events HTTP/1.1\\r\\nHost: 127.0.0.1:{port}\\r\\n"
head += f"Authorization: Bearer {token}\\r\\n\\r\\n"
streams = [socket.create_connection(("127.0.0.1", port)) for _ in range(count)]
for stream in streams:
    stream.sendall(head.encode())
for stream in streams:
    stream.recv(65536)
print("open", flush=True)
taken = 0
while True:
    for stream in select.select([*streams, sys.stdin], [], [])[0]:
        if stream is sys.stdin:
            print(taken, flush=True)
            raise SystemExit
        taken += len(stream.recv(1 << 20))
"""


class Server(NamedTuple):
    """A `serve` that runs."""

    pid: int
    port: int
    token: str

    def get(self, path: str) -> bytes:
        """What a request gives."""
        asked = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        asked.request("GET", path, headers={"Authorization": f"Bearer {self.token}"})
        told = asked.getresponse()
        data = told.read()
        asked.close()
        assert told.status == 200, data
        return data

    def memory(self) -> float:
        """Its resident size in bytes, 0 where it is not told."""
        return self._told("status", "VmRSS:") * 1024.0

    def has_read(self) -> float:
        """The bytes that it has read from files and sockets, 0 where it is not told."""
        return self._told("io", "rchar:")

    def _told(self, name: str, word: str) -> float:
        try:
            with open(f"/proc/{self.pid}/{name}", encoding="utf-8") as file:
                return next(float(line.split()[1]) for line in file if line.startswith(word))
        except OSError:
            return 0.0


@contextmanager
def _served(queue: JobQueue) -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="queuectl-") as state:
        env = {**os.environ, "PYTHONPATH": ROOT, "XDG_STATE_HOME": state}
        argv = [sys.executable, "-m", "queuectl", "--data", queue.folder, "serve", "--port", "0"]
        process = subprocess.Popen([*argv, "--allow-root"], stdout=subprocess.PIPE, env=env)
        assert process.stdout is not None
        try:
            found = next(re.search(rb":(\d+)/#token=(\S+)", line) for line in process.stdout)
            assert found is not None
            yield Server(process.pid, int(found[1]), found[2].decode())
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()
            process.stdout.close()


@contextmanager
def _reading(server: Server, count: int) -> Iterator[None]:
    argv = [sys.executable, "-c", _READERS, str(server.port), server.token, str(count)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as readers:
        assert readers.stdin is not None
        assert readers.stdout is not None
        assert readers.stdout.readline() == b"open\n"
        yield
        readers.stdin.close()
        assert int(readers.stdout.readline()) > 0


def readers(sizes: Sizes) -> list[Figure]:
    """A drain by four workers while many have the stream open, beside one that nobody watches."""
    ratios, rates = [], []
    for _ in range(sizes.drain_rounds):
        with new_queue() as queue:
            alone = drain(queue, sizes.drain, _WORKERS).speed.rate
        with new_queue() as queue, _served(queue) as server, _reading(server, sizes.readers):
            rates.append(drain(queue, sizes.drain, _WORKERS).speed.rate)
        ratios.append(rates[-1] / alone)
    note = f"{median(rates):.0f} jobs/s; {min(ratios):.2f} to {max(ratios):.2f}"
    what = f"drain by {_WORKERS} workers with {sizes.readers} readers, of without"
    return [Figure(what, median(ratios), "", 0.9, True, note)]


def first_page(sizes: Sizes) -> list[Figure]:
    """A list by the server, beside `list` without its start, and what the server grows by.

    A fresh one of each does it for the first time, then again and again.
    """
    first: dict[str, list[float]] = {"list": [], "page": []}
    later: dict[str, list[float]] = {"list": [], "page": []}
    grown = []
    with new_queue() as queue, new_queue() as empty:
        add_finished(queue, sizes.finished)
        add_finished(empty, 1)
        age(queue, sizes)
        for _ in range(sizes.drain_rounds):
            for name, took in (("list", _listed(empty, queue)), ("page", _asked(queue, grown))):
                first[name].append(took[0])
                later[name].append(median(took[1:]))
        with _served(empty) as server:
            server.get(_PAGE)
            small = server.memory() / _MIB
    figures = []
    for name, seconds in (("first", first), ("each later", later)):
        listed, asked = (1000 * median(seconds[way]) for way in ("list", "page"))
        what = f"{name} page of 100 of {sizes.finished}, of list without its start"
        note = f"{asked:.2f} ms, list {listed:.2f} ms"
        figures.append(Figure(what, asked / listed, "", 3, False, note))
    what = "what the server grows by beside one of an empty queue"
    return [*figures, Figure(what, median(grown) - small, "MiB", 30)]


def _listed(empty: JobQueue, queue: JobQueue) -> list[float]:
    """Seconds that `list` takes in a process that has listed another queue: its start is over."""
    env = {**os.environ, "PYTHONPATH": ROOT}
    argv = [sys.executable, "-c", _LISTS, empty.folder, queue.folder, str(_AGAIN)]
    done = subprocess.run(argv, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert done.returncode == 0, done.stderr
    return [float(word) for word in done.stderr.split()]


def _asked(queue: JobQueue, grown: list[float]) -> list[float]:
    """Seconds that a fresh server takes for the page, and MiB that it has then."""
    took = []
    with _served(queue) as server:
        for _ in range(1 + _AGAIN):
            begun = time.perf_counter()
            server.get(_PAGE)
            took.append(time.perf_counter() - begun)
        grown.append(server.memory() / _MIB)
    return took


def idle(sizes: Sizes) -> list[Figure]:
    """An open page on a queue in which nothing happens: what it is sent, what is read for it."""
    with new_queue() as queue:
        add_finished(queue, sizes.finished)
        age(queue, sizes)
        with _served(queue) as server:
            return _idle(server, sizes)


def _idle(server: Server, sizes: Sizes) -> list[Figure]:
    stream = _stream(server)
    time.sleep(min(5.0, sizes.idle_seconds))
    _take(stream)
    read, begun, taken = server.has_read(), time.monotonic(), 0
    while time.monotonic() - begun < sizes.idle_seconds:
        time.sleep(min(1.0, sizes.idle_seconds))
        taken += _take(stream)
    minutes = (time.monotonic() - begun) / 60
    stream.close()
    read = (server.has_read() - read) / minutes
    return [
        Figure("sent to an idle page", taken / minutes, "bytes a minute", 1000),
        Figure("read for it from files", read, "bytes a minute", 100_000),
    ]


def news(sizes: Sizes) -> list[Figure]:
    """From a change to its event at a reader of the stream."""
    took = []
    with new_queue() as queue, _served(queue) as server:
        stream = _stream(server)
        for _ in range(sizes.latencies // 2 or 1):
            time.sleep(0.4)
            _take(stream)
            [job] = queue.enqueue([{"command": "true"}])
            begun, seen = time.perf_counter(), b""
            stream.setblocking(True)
            while job.id.encode() not in seen:
                seen += stream.recv(65536)
            took.append(1000 * (time.perf_counter() - begun))
        stream.close()
    took.sort()
    note = f"{len(took)} changes, the slowest {took[-1]:.0f} ms"
    return [Figure("a change to its event, median", median(took), "ms", 200, note=note)]


def _stream(server: Server) -> socket.socket:
    stream = socket.create_connection(("127.0.0.1", server.port), timeout=10)
    head = f"GET /api/v1/events HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
    stream.sendall(f"{head}Authorization: Bearer {server.token}\r\n\r\n".encode())
    assert stream.recv(65536).startswith(b"HTTP/1.1 200")
    return stream


def _take(stream: socket.socket) -> int:
    """How many bytes have come; they are taken."""
    stream.setblocking(False)
    taken = 0
    try:
        while data := stream.recv(1 << 20):
            taken += len(data)
    except BlockingIOError:
        return taken
    raise AssertionError("the stream has ended")
