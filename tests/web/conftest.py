"""Fixtures of the page's tests, all of which need the extra `web` (requirements.txt brings it)."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from queuectl.places import find_folder
from queuectl.store.files.worker_files import worker_infos
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
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("QUEUECTL_DATA", forms[FORMS[0]].url + name)
    yield os.environ["QUEUECTL_DATA"]
    folder = find_folder(os.environ["QUEUECTL_DATA"], os.environ)
    for worker in list(worker_infos(folder)) if os.path.isdir(folder) else ():
        for pid in (worker.group_pid, worker.pid) if worker.alive else ():
            if pid and pid != os.getpid():
                with suppress(ProcessLookupError):
                    os.kill(-pid if pid == worker.group_pid else pid, signal.SIGKILL)


@pytest.fixture
def serve_it(data_dir: str) -> Iterator[Callable[..., Web]]:
    """Makes served queues; `serve_it(read_only=True)`."""
    from tests.web.served import Web

    made: list[Web] = []

    def make(**how: Any) -> Web:
        made.append(Web(find_folder(data_dir, os.environ), **how))
        return made[-1]

    yield make
    for web in made:
        web.service.close()


@pytest.fixture
def web(serve_it: Callable[..., Web]) -> Web:
    """A served queue of this test's own."""
    return serve_it()
