"""Each JSON file and the marker cut after every byte, and with every byte flipped.

What test_journal.py does for the journal. No checksum tells a flipped byte in a command from an
edit by hand; but jobs on other lines must stay what they are, none may be lost or doubled, and a
file that is refused must be left as it is.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator

import pytest

from queuectl.errors import StoreError
from tests.campaigns.crash_points import scratch
from tests.campaigns.scenes import let_go, open_queue, outcome, view
from tests.samples import read

NAMES = ("jobs.json", "dlq.json", "config.json", "worker_pids.json", ".queuectl")


@pytest.fixture(scope="module")
def queue() -> Iterator[str]:
    """A folded queue: two jobs, one of them with all that can be odd in a line, and a dead one."""
    root = scratch()
    path = os.path.join(root, "queue")
    queue = open_queue(path)
    odd = {"id": "b", "command": "echo 'é\t\\ \"'", "env": {"A": "1"}, "cwd": "/tmp"}
    queue.enqueue(
        [{"id": "d", "command": "false", "max_retries": 0}, odd, {"id": "a", "command": "x"}]
    )
    queue.settle(queue.claim("w-1"), outcome(1))
    queue.change_settings({"base": 3, "inherit-env": ["HOME"]})
    queue.store.register("w-1", 1, "-", "-")
    queue.checkpoint()
    let_go(queue)
    shutil.rmtree(os.path.join(path, "workers"))
    yield path
    shutil.rmtree(root)


@pytest.fixture
def broken(queue, tmp_path, monkeypatch):
    """Gives a copy of the queue in which a file holds other bytes."""
    monkeypatch.setattr(os, "fsync", lambda fd: None)
    path = os.path.join(os.path.dirname(queue), "copy")

    def make(name: str, data: bytes) -> str:
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(queue, path)
        with open(os.path.join(path, name), "wb") as file:
            file.write(data)
        return path

    yield make
    shutil.rmtree(path, ignore_errors=True)


def tried(path: str, name: str) -> list[dict[str, str] | None]:
    """The commands by job that a reader finds, and a writer who came after; None for refused."""
    data = read(path, name)
    found: list[dict[str, str] | None] = []
    for write in (False, True):
        queue, refusal = open_queue(path), ""
        try:
            if write:
                queue.store.change_settings(queue.store.settings(), queue.store.settings())
                queue.enqueue([{"id": "next", "command": "x"}])
                queue.checkpoint()
                queue.store.release(queue.store.register("w-2", 1, "-", "-"))
            found.append({job.id: job.command for job in view(queue).jobs.values()})
        except StoreError as exc:
            refusal = str(exc)
            found.append(None)
        let_go(queue)
        if refusal:
            assert name in refusal
            assert read(path, name) == data, "what was refused was changed"
    return found


WHOLE = {"d": "false", "b": "echo 'é\t\\ \"'", "a": "x"}


@pytest.mark.parametrize("name", NAMES)
def test_a_file_cut_anywhere_is_refused_or_whole(queue, broken, places, name):
    data = read(queue, name)
    for size in places(data):
        reader, writer = tried(broken(name, data[:size]), name)
        assert reader in (WHOLE, None), size
        assert writer in ({**WHOLE, "next": "x"}, None), size
        # A list of workers that cannot be read does not matter to a reader of jobs.
        assert (reader is None) is (writer is None) or name == "worker_pids.json", size
        if name != "worker_pids.json" and size < len(data) - 1:
            assert reader is None or data[:size].strip() == data.strip(), size


def flipped(queue: str, broken, places, name: str, masks) -> None:
    data = read(queue, name)
    for at in places(data):
        for mask in masks():
            other = bytearray(data)
            other[at] ^= mask
            for found in tried(broken(name, bytes(other)), name):
                if found is None:
                    continue
                found.pop("next", None)
                assert len(found) == len(WHOLE), (at, mask)
                line = data[:at].count(b"\n") - 1
                hit = {"jobs.json": ["b", "a"], "dlq.json": ["d"]}.get(name, [])[line : line + 1]
                for job_id in WHOLE.keys() - set(hit):
                    assert found[job_id] == WHOLE[job_id], (at, mask)


@pytest.mark.parametrize("name", NAMES)
def test_a_flipped_byte_is_refused_or_harms_one_job(queue, broken, places, name, seed):
    chance = random.Random(seed)
    flipped(queue, broken, places, name, lambda: [chance.choice((1 << chance.randrange(8), 0xFF))])


@pytest.mark.campaign
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", NAMES)
def test_any_flipped_bit_is_refused_or_harms_one_job(queue, broken, name):
    flipped(
        queue,
        broken,
        lambda data: range(len(data)),
        name,
        lambda: [*(1 << bit for bit in range(8)), 0xFF],
    )
