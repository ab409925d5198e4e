"""Lines do on a queue in MongoDB what they do on files: seeds, corpus and acceptance drain."""

from __future__ import annotations

import os

import pytest

from queuectl.store import opening
from tests import test_three_modes
from tests.acceptance import test_real_commands
from tests.seeds import test_seeds

_FROM = {
    test_seeds: (
        "waiting",
        *(name for name in vars(test_seeds) if name.lower().startswith("test")),
    ),
    test_three_modes: ("tmp_path", "stage", "test_a_line_does_the_same_in_all_modes"),
    test_real_commands: [name for name in vars(test_real_commands) if name.startswith("test_")],
}
for _module, _names in _FROM.items():
    globals().update({name: getattr(_module, name) for name in _names})


@pytest.fixture
def cli(cli, url, monkeypatch, tmp_path):
    """Commands on an empty queue in MongoDB; its host folder is this test's own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("QUEUECTL_DATA", url)
    cli.folder = opening.find(url, os.environ)
    return cli


@pytest.fixture
def place(server, client, tmp_path, monkeypatch):
    """See test_three_modes: a database for each mode."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    names = []

    def placed(mode):
        names.append(f"queuectl_test_{os.urandom(6).hex()}")
        where = server.url + names[-1]
        return where, opening.find(where, os.environ)

    yield placed
    for name in names:
        client.drop_database(name)
