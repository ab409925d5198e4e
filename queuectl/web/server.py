"""One server: its sockets, and its life from the first request to a signal."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import stat
import time
from collections.abc import Callable
from typing import Any

import uvicorn
from anyio import to_thread

from queuectl.errors import StoreError
from queuectl.web.app import App
from queuectl.web.tokens import answers, at_short_path

_IDLE = 40.0  # seconds that a connection may be open without a request
_GRACE = 2  # seconds for answers being sent


def listen(host: str, port: int, holder: Callable[[int], str]) -> socket.socket:
    """A listening socket; StoreError that names the holder of a taken port."""
    try:
        [family, kind, protocol, _, address] = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as exc:
        raise StoreError(f"--host {host}: {exc.strerror or exc}") from exc
    # Unless the socket names TCP, asyncio leaves Nagle's algorithm on: the body of an answer would
    # wait for the acknowledgement of its head, 40 ms for each later request of a connection.
    found = socket.socket(family, kind, protocol)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        found.listen(100)
    except OSError as exc:
        found.close()
        raise StoreError(f"port {port} on {host}: {exc.strerror}{holder(port)}") from exc
    found.setblocking(False)
    return found


def listen_at(path: str) -> socket.socket:
    """A Unix socket that only this user may open; StoreError if a process listens there."""
    if answers(path):
        raise StoreError(f"{path}: another 'queuectl serve' listens there")
    found = socket.socket(socket.AF_UNIX)
    before = os.umask(0o177)
    try:
        with at_short_path(path) as short:
            if os.path.lexists(short):
                if not stat.S_ISSOCK(os.lstat(short).st_mode):
                    raise StoreError(f"{path} is there and is not a socket; name another path")
                os.unlink(short)
            found.bind(short)
        found.listen(100)
    except OSError as exc:
        found.close()
        raise StoreError(f"{path}: {exc.strerror or exc}") from exc
    except StoreError:
        found.close()
        raise
    finally:
        os.umask(before)
    found.setblocking(False)
    return found


def holder_of(port: int) -> str:
    """The process that listens on a port, as far as this user may see; "" if unknown."""
    inodes = set()
    for name in ("tcp", "tcp6"):
        try:
            with open(f"/proc/net/{name}") as table:
                rows = [line.split() for line in table][1:]
        except OSError:
            return ""
        inodes |= {row[9] for row in rows if row[3] == "0A" and int(row[1][-4:], 16) == port}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if any(
                _inode(f"/proc/{pid}/fd/{fd}") in inodes for fd in os.listdir(f"/proc/{pid}/fd")
            ):
                with open(f"/proc/{pid}/cmdline", "rb") as file:
                    words = file.read().replace(b"\0", b" ").decode("utf-8", "replace").strip()
                return f"; PID {pid} has it ({words[:100]})"
        except OSError:
            continue
    return ""


def _inode(path: str) -> str:
    """The inode of a descriptor's socket; "" if it is not a socket or is closed by now."""
    try:
        link = os.readlink(path)
    except FileNotFoundError:
        return ""
    return link[8:-1] if link.startswith("socket:[") else ""


def run(app: App, sockets: list[socket.socket], ready: Callable[[], None]) -> int:
    """Serve until a signal; returns its number. `ready` is called once requests are accepted."""
    # The application itself reports its failures. A reader that went away, which uvicorn would
    # also report, is not an error.
    logging.getLogger("uvicorn.error").disabled = True
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=_GRACE,
        timeout_keep_alive=30,
    )
    return asyncio.run(_serve(uvicorn.Server(config), app, sockets, ready))


async def _serve(
    server: Any, app: App, sockets: list[socket.socket], ready: Callable[[], None]
) -> int:
    ended_by: list[int] = []

    def end(number: int) -> None:
        ended_by.append(number)
        app.streams.close()  # first, since an open stream would delay the end
        server.should_exit = True
        server.force_exit = len(ended_by) > 1

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, end, number)
    config = server.config
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup(sockets=sockets)
    app.connections = server.server_state.connections
    idle = asyncio.create_task(_close_idle(server.server_state.connections))
    await to_thread.run_sync(int)  # loads what threads need at their first use, which is slow
    ready()
    await server.main_loop()
    idle.cancel()
    await server.shutdown(sockets=sockets)
    return ended_by[0] if ended_by else signal.SIGTERM


async def _close_idle(connections: set[Any]) -> None:
    """Close connections without requests, which would take the places of others.

    uvicorn itself counts only the time after an answer, and only until the next byte.
    """
    seen: dict[Any, tuple[object, float]] = {}
    while True:
        await asyncio.sleep(_IDLE / 4)
        seen = idle_since(list(connections), seen, time.monotonic())
        for connection, (_, since) in seen.items():
            if time.monotonic() - since >= _IDLE:
                connection.transport.close()


def idle_since(
    connections: list[Any], seen: dict[Any, tuple[object, float]], now: float
) -> dict[Any, tuple[object, float]]:
    """uvicorn's connections that wait for a request: after which one, and since when."""
    found = {}
    for connection in connections:
        cycle = connection.cycle
        if cycle is None or cycle.response_complete:
            before = seen.get(connection)
            found[connection] = before if before and before[0] is cycle else (cycle, now)
    return found
