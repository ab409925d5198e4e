"""A change during which a person saves the job files reads what queuectl itself wrote."""

import json
import os

import pytest

from queuectl.errors import BadFile, DuplicateId, KeyTaken
from queuectl.job_queue import JobQueue
from queuectl.model.lifecycle import Outcome
from queuectl.model.selection import in_state
from queuectl.store.files import checkpoint, own_files, side_files
from queuectl.store.files.journal import Journal


@pytest.fixture
def queue(tmp_path):
    queue = JobQueue.open(str(tmp_path / "q"))
    queue.enqueue(
        [
            {"id": "free", "command": "true"},
            {"id": "parent", "command": "true"},
            {"id": "child", "command": "true", "after": ["parent"]},
            {"id": "keyed", "command": "true", "unique": "a key"},
        ]
    )
    queue.checkpoint()
    yield queue
    queue.close()


def save(queue, remark, in_place=False):
    """Save jobs.json as an editor does, in another layout."""
    path = os.path.join(queue.folder, "jobs.json")
    with open(path, encoding="utf-8") as file:
        forms = [{**form, "remark": remark} for form in json.load(file)]
    target = path if in_place else f"{path}~"
    with open(target, "w", encoding="utf-8") as file:
        json.dump(forms, file, indent=2)
    if not in_place:
        os.replace(target, path)


@pytest.fixture
def edited(queue, monkeypatch):
    """Each change finds both files as queuectl wrote them, and then a person saves one."""
    are_ours = own_files.OwnFiles.are_ours
    saves = []

    def then_edited(files, journal):
        ours = are_ours(files, journal)
        if ours:
            saves.append(1)
            save(queue, len(saves))
        return ours

    monkeypatch.setattr(own_files.OwnFiles, "are_ours", then_edited)
    yield saves
    assert saves
    monkeypatch.undo()
    queue.checkpoint()
    assert {"remark": len(saves)} in [job.extra for job in queue.find()]


def end_two(queue):
    for job_id in ("free", "parent"):
        job = queue.claim("w")
        assert job.id == job_id
        queue.settle(job, Outcome("exited", 0, None, "2026-01-01T00:00:00.000000Z"))


def test_a_purge_keeps_what_a_live_job_waits_for(queue, edited):
    end_two(queue)
    kept = []
    assert [job.id for job in queue.purge(["free", "parent"], kept=kept)] == ["free"]
    assert [job.id for job in kept] == ["parent"]


def test_a_purge_of_a_selection_keeps_it_too(queue, edited):
    end_two(queue)
    queue.checkpoint()
    assert [job.id for job in queue.purge(in_state("completed"))] == ["free"]


def test_a_child_falls_with_its_parent(queue, edited):
    queue.cancel(["parent"])
    assert queue.get("child").state == "cancelled"


def test_a_child_waits(queue, edited):
    assert [queue.claim("w").id for _ in range(3)] == ["free", "parent", "keyed"]
    assert queue.claim("w") is None


def test_a_unique_key_is_held(queue, edited):
    with pytest.raises(KeyTaken):
        queue.enqueue([{"command": "true", "unique": "a key"}])


def test_an_id_is_taken(queue, edited):
    with pytest.raises(DuplicateId):
        queue.enqueue([{"id": "keyed", "command": "true"}])


def test_sets_of_variables_stay_that_jobs_use(queue, monkeypatch):
    monkeypatch.setattr(side_files, "_MANY", 1)
    queue.enqueue([{"id": "e", "command": "true"}], {"umask": "022", "env": {"A": "1"}})
    fold = checkpoint.fold

    def then_edited(*args):
        done = fold(*args)
        save(queue, 1)
        return done

    monkeypatch.setattr(checkpoint, "fold", then_edited)
    queue.checkpoint()
    assert queue.env_set(queue.get("e"))["env"] == {"A": "1"}


def test_a_file_saved_in_place_while_it_is_read_is_refused(queue):
    files = queue.store._writer.files
    journal = Journal.for_reading(queue.folder)
    with pytest.raises(BadFile, match="changed while it was read"), files.open(journal, 0):
        save(queue, 1, in_place=True)
    journal.close()
    assert queue.get("keyed").extra == {"remark": 1}


def test_without_a_copy_it_is_refused(queue):
    files = queue.store._writer.files
    journal = Journal.for_reading(queue.folder)
    for name in os.listdir(queue.folder):
        if name.startswith(".jobs.json-"):
            os.remove(os.path.join(queue.folder, name))
    save(queue, 1)
    with pytest.raises(BadFile, match="try again"):
        files.open(journal, 0)
    journal.close()
