"""What people are told about edits of the job files, whichever process took them in."""

from __future__ import annotations

import json
import os

import pytest

from queuectl.job_queue import JobQueue


@pytest.fixture
def queue(cli):
    cli.ok("enqueue", "--id", "a", "--", "true")
    return cli


def edit(queue, **fields):
    """Change fields of the first job by hand."""
    path = os.path.join(queue.folder, "jobs.json")
    with open(path, encoding="utf-8") as file:
        forms = json.load(file)
    forms[0] |= fields
    with open(path, "w", encoding="utf-8") as file:
        json.dump(forms, file)


def test_each_command_says_that_an_edit_lies_aside_until_it_is_removed(queue):
    edit(queue, rev=40)
    told = "queuectl: {}/jobs.json: an edit cannot be taken in: it has rev 40 of job 'a'"
    assert queue("list").err.startswith(told.format(queue.folder))
    assert queue("checkpoint").err.startswith("queuectl: an edit was not taken in: it has rev 40")
    (name,) = [name for name in os.listdir(queue.folder) if ".edit-" in name]
    line = (
        f"queuectl: {name} holds an edit that was not taken in: "
        "make its changes anew where they are missed, then delete it\n"
    )
    for command in ("status", "list", "checkpoint", "ping", "show a"):
        result = queue(*command.split())
        assert (result.code, result.err) == (0, line), command
    assert queue(stdin="status\nlist\n").err == line  # once a script
    assert queue("help").err == ""
    assert name in queue.ok("doctor")
    os.unlink(os.path.join(queue.folder, name))
    assert queue("status").err == ""


def test_edits_that_a_worker_found_are_told_by_the_next_command(queue):
    worker = JobQueue.open(queue.folder)
    edit(queue, rev=40)
    worker.checkpoint()
    worker.leave_notices()
    assert worker.notices == []
    (name,) = [name for name in os.listdir(queue.folder) if ".edit-" in name]
    os.unlink(os.path.join(queue.folder, name))
    assert "an edit was not taken in: it has rev 40" in queue("status").err
    assert queue("status").err == ""
    edit(queue, priority=4)
    worker.checkpoint()
    worker.leave_notices()  # all went well
    assert queue("status").err == ""
    assert queue("doctor").out.startswith("All is well")
    worker.close()
