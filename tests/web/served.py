"""A served queue in this process: the application is called directly, without a server."""

from __future__ import annotations

import asyncio
import json
from typing import Any, NamedTuple

import pytest

from queuectl.job_queue import JobQueue
from queuectl.model.job import Job
from queuectl.web.app import App
from queuectl.web.guard import Door
from queuectl.web.operations import Operations
from queuectl.web.pages import PAGES
from queuectl.web.route_table import ROUTES
from queuectl.web.service import Service
from queuectl.web.tokens import Tokens

# The test runs on a data folder, and on a queue in MongoDB where there is one to be had.
both_stores = pytest.mark.parametrize("data_dir", ["files", "mongodb"], indirect=True)
FULL, READ = "f" * 43, "r" * 43
HOST = "127.0.0.1:8000"


class Reply(NamedTuple):
    """What came back."""

    status: int
    headers: dict[str, str]
    data: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.data)


class Web:
    """Asks the application: `web("GET", "/status")` with the full token and a plain Host."""

    def __init__(self, folder: str, **how: Any) -> None:
        self.log: list[str] = []
        self.folder = folder
        environ = {"PATH": "/usr/bin:/bin", "TZ": "Asia/Tokyo"}
        operations = Operations(folder, environ, "/")
        self.service = Service(operations, read_only=how.pop("read_only", False))
        tokens = Tokens(how.pop("tokens", {"full": FULL, "read": READ}))
        door = how.pop("door", Door(8000))
        self.app = App(
            self.service,
            (*ROUTES, *PAGES),
            door,
            tokens,
            log=self.log.append,
            told_how="From this machine: curl -H @FILE",
        )

    def __call__(
        self,
        method: str,
        target: str,
        body: Any = None,
        *,
        token: str | None = FULL,
        local: bool = False,
        raw: bytes | None = None,
        headers: list[tuple[str, str]] | None = None,
        client: str = "127.0.0.1",
        **more: str,
    ) -> Reply:
        """One request. A `body` is sent as JSON; `more` are headers, `_` standing for `-`.

        None leaves out one that is usual; `headers` are sent beside all others.
        """
        path, _, query = target.partition("?")
        data = raw if raw is not None else b"" if body is None else json.dumps(body).encode()
        sent = [("host", HOST)]
        if token is not None:
            sent.append(("authorization", f"Bearer {token}"))
        if data:
            sent += [("content-type", "application/json"), ("content-length", str(len(data)))]
        given = {name.replace("_", "-").lower(): value for name, value in more.items()}
        sent = [(name, value) for name, value in sent if name not in given]
        sent += [(name, value) for name, value in given.items() if value is not None]
        sent += headers or []
        scope = {
            "type": "http",
            "method": method,
            "path": _decoded(path),
            "query_string": query.encode(),
            "headers": [(n.encode("latin-1"), v.encode("latin-1")) for n, v in sent],
            "client": None if local else (client, 50000),
            "server": ("/run/x", None) if local else ("127.0.0.1", 8000),
        }
        return asyncio.run(_ask(self.app, scope, data))


CAUSES = (
    "exit code {exit}: no such file: /data/in-{n}.csv",
    "exit code {exit}: line {n}: bad magic 0x{n:x}",
    "exit code {exit}: 'shard-{n}' timed out after {n} s",
    "killed by signal 9",
    "exit code {exit}: at 2026-01-01T00:00:{s:02}Z the disk was full",
    "exit code {exit}",
)


def bury(folder: str, count: int) -> list[str]:
    """Put so many dead jobs into a queue, in turn of each of CAUSES; their ids."""
    queue = JobQueue.open(folder)
    now = queue.now()
    jobs = []
    for n in range(count):
        kind = n % len(CAUSES)
        error = CAUSES[kind].format(n=n, s=n % 60, exit=kind + 1)
        job = Job(f"dead-{n:03}", "dead", 0, now, f"run {n}", 0, now, now, 1, 1, rev=3)
        ended = {"started_at": now, "finished_at": now, "worker": "w-1"}
        jobs.append(job._replace(exit_code=kind + 1, error=error, **ended))
    queue.store.add(jobs, {})
    queue.close()
    return [job.id for job in jobs]


def _decoded(path: str) -> str:
    from urllib.parse import unquote

    return unquote(path)


async def _ask(app: App, scope: dict[str, Any], data: bytes) -> Reply:
    app._limiter = app.streams._moved = app.streams._looking = None  # a loop for each request
    sent: list[dict[str, Any]] = []
    asked = False

    async def receive() -> dict[str, Any]:
        nonlocal asked
        if asked:
            await asyncio.sleep(3600)
        asked = True
        return {"type": "http.request", "body": data, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    start, *parts = sent
    headers = {name.decode().lower(): text.decode() for name, text in start["headers"]}
    return Reply(start["status"], headers, b"".join(part.get("body", b"") for part in parts))


def every_route() -> list[Any]:
    """All routes, for tables of tests."""
    return [*ROUTES, *PAGES]


def filled(path: str) -> str:
    """A path with something in place of its names."""
    return path.replace("{id}", "job1")
