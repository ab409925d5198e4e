"""Fixtures of the page's tests, all of which need the extra `web` (requirements.txt brings it)."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from queuectl.errors import StoreError
from queuectl.store import opening
from queuectl.store.files.worker_files import worker_infos
from tests.conftest import Cli, Result
from tests.conftest import _wait_until as wait
from tests.mongodb.conftest import (  # noqa: F401  # fixtures, too
    COLLECTIONS,
    FORMS,
    MISSING,
    _clients,
    servers,
)

if TYPE_CHECKING:
    from tests.web.served import Web


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without a server a single skipped test says why MongoDB was not tested."""
    here = Path(__file__).parent
    found = [item for item in items if here in item.path.parents and "[mongodb" in item.name]
    if MISSING and found:
        found[0].add_marker(pytest.mark.skip(reason=f"MongoDB was not tested: {MISSING}"))
        items[:] = [item for item in items if item not in found[1:]]
        config.hook.pytest_deselected(items=found[1:])


@pytest.fixture
def data_dir(
    data_dir: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[str]:
    """Where the queue of this test is: a folder, or with both_stores a database that is empty."""
    if getattr(request, "param", "files") == "files":
        yield data_dir
        return
    forms, clients = map(request.getfixturevalue, ("servers", "_clients"))
    if FORMS[0] not in forms:
        pytest.skip(f"MongoDB was not tested as a {FORMS[0]}: QUEUECTL_TEST_MONGODB is none")
    name = f"queuectl_test_web_{os.getpid()}"
    database = clients[FORMS[0]][name]
    for collection in COLLECTIONS:  # which takes less long than to make a database
        database[collection].delete_many({})
    database.meta.delete_many({"_id": {"$ne": "queuectl"}})
    monkeypatch.setattr("queuectl.store.mongodb.watch._AGAIN", 0.05)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("QUEUECTL_DATA", forms[FORMS[0]].url + name)
    yield os.environ["QUEUECTL_DATA"]
    folder = opening.find(os.environ["QUEUECTL_DATA"], os.environ)
    for worker in list(worker_infos(folder)) if os.path.isdir(folder) else ():
        for pid in (worker.group_pid, worker.pid) if worker.alive else ():
            if pid and pid != os.getpid():
                with suppress(ProcessLookupError):
                    os.kill(-pid if pid == worker.group_pid else pid, signal.SIGKILL)


class HeardCli(Cli):
    """Commands on a database: each returns once all servers of the test have heard of it."""

    webs: list[Web]

    def __call__(self, *argv: str, stdin: str | bytes = b"") -> Result:
        """See Cli."""
        result = super().__call__(*argv, stdin=stdin)
        for web in self.webs:
            wait(lambda web=web: _has_heard(web))
        return result


def _has_heard(web: Web) -> bool:
    with web.service.operations.queue() as queue:
        there = sorted(queue.find(), key=lambda job: (job.updated_at, job.id), reverse=True)
    try:
        shown = web.service.mirror.first("-updated_at", lambda _: True, None, len(there))
    except StoreError:  # 'worker run' closes what this process holds open
        return False
    shown = there if shown is None else shown  # more than are kept
    return [(job.id, job.rev) for job in shown] == [(job.id, job.rev) for job in there]


@pytest.fixture
def webs() -> list[Web]:
    """The servers of this test."""
    return []


@pytest.fixture
def cli(cli: Cli, data_dir: str, webs: list[Web]) -> Cli:
    """Commands on the queue of this test."""
    if "://" not in data_dir:
        return cli
    heard = HeardCli(data_dir)
    heard.started, heard.webs = cli.started, webs
    return heard


@pytest.fixture
def serve_it(data_dir: str, webs: list[Web]) -> Iterator[Callable[..., Web]]:
    """Makes served queues; `serve_it(read_only=True)`."""
    from tests.web.served import Web

    def make(**how: Any) -> Web:
        webs.append(Web(opening.find(data_dir, os.environ), **how))
        return webs[-1]

    yield make
    for web in webs:
        web.service.close()


@pytest.fixture
def web(serve_it: Callable[..., Web]) -> Web:
    """A served queue of this test's own."""
    return serve_it()
