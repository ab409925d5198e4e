"""`edit`: a job's fields in an editor; here the editors are small scripts."""

from __future__ import annotations

import errno
import json
import os
import re

import pytest
from samples import PYTHON

from queuectl.model.lifecycle import Outcome


@pytest.fixture
def editor(tmp_path, monkeypatch):
    """Sets the editor to a line of Python that changes `form`, or to other text of the file."""

    def use(change):
        lines = f"""
import json, sys
path = sys.argv[1]
form = json.load(open(path))
text = None
{change}
open(path, "w").write(json.dumps(form) if text is None else text)
"""
        (tmp_path / "my editor.py").write_text(lines)
        monkeypatch.delenv("VISUAL", raising=False)
        monkeypatch.setenv("EDITOR", f"{PYTHON} '{tmp_path}/my editor.py'")
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        monkeypatch.setattr("tempfile.tempdir", None)

    return use


def _dead(queue, job_id="a"):
    queue.enqueue([{"id": job_id, "command": "flase", "max_retries": 0, "timeout": 5}])
    job = queue.claim("w-1")
    queue.settle(job, Outcome("exited", 1, None, queue.now()))


def _drafts(folder):
    return [name for name in os.listdir(folder) if name.endswith(".json")]


def test_a_dead_job_is_mended_and_retried(cli, queue, editor, tmp_path):
    _dead(queue)
    editor("assert 'state' not in form; form['command'] = 'true'; form['timeout'] = None")
    assert cli.ok("edit", "a", "--retry") == "Job 'a' is updated; it is pending.\n"
    job = queue.get("a")
    assert (job.command, job.timeout, job.attempts) == ("true", None, 0)
    assert _drafts(tmp_path) == []


def test_a_dead_job_stays_dead_where_nobody_can_be_asked(cli, queue, editor):
    _dead(queue)
    editor("form['command'] = 'true'")
    assert cli.ok("edit", "a") == "Job 'a' is updated; it is dead.\n"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("sys.exit(3)", "The editor ended with exit code 3; nothing was changed."),
        ("import os; os.kill(os.getpid(), 9)", "exit code 137"),
        ("pass", "Nothing was changed"),
        ("text = json.dumps(form, indent=9)", "Nothing was changed"),
        ("import os; os.unlink(path); os._exit(0)", "Nothing was changed: the editor removed"),
        ("import os; os.unlink(path); os._exit(3)", "The editor ended with exit code 3"),
    ],
)
def test_an_edit_without_a_change_changes_nothing(cli, queue, editor, tmp_path, change, told):
    queue.enqueue([{"id": "a", "command": "x"}])
    before = queue.get("a")
    editor(change)
    result = cli("edit", "a")
    assert result.code == int("exit code" in told)
    assert told in result.err
    assert queue.get("a") == before
    assert _drafts(tmp_path) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("text = '{'", "cannot be read"),
        ("text = '[]'", "not an object"),
        ("form['id'] = 'b'", "'id' cannot be edited"),
        ("form['priority'] = 'high'", "priority must be a whole number"),
    ],
)
def test_a_draft_with_a_mistake_is_kept(cli, queue, editor, change, told):
    queue.enqueue([{"id": "a", "command": "x"}])
    before = queue.get("a")
    editor(change)
    result = cli("edit", "a")
    assert result.code == 2
    assert told in result.err
    kept = re.search(r"kept in (.+)$", result.err, re.MULTILINE)
    assert kept
    assert os.path.exists(kept[1])
    assert queue.get("a") == before


def test_only_some_fields_of_a_running_job_are_shown(cli, queue, editor):
    queue.enqueue([{"id": "a", "command": "x"}])
    slot = queue.register_worker()
    queue.claim(slot.id)
    editor(
        "assert {'priority', 'max_retries', 'tags'} <= set(form), form\n"
        "assert not {'command', 'cwd', 'env', 'run_at', 'timeout'} & set(form), form\n"
        "form.update(priority=5, tags=['a', 'b'])"
    )
    cli.run("edit", "a")
    assert (queue.get("a").priority, queue.get("a").tags) == (5, ("a", "b"))
    editor("pass")
    assert "Nothing was changed" in cli("edit", "a").err
    queue.release_worker(slot)


def test_a_missing_and_a_wrong_editor_are_told(cli, queue, monkeypatch, tmp_path):
    queue.enqueue([{"id": "a", "command": "x"}])
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.delenv("EDITOR", raising=False)
    assert "no terminal for an editor" in cli("edit", "a").err
    monkeypatch.setenv("EDITOR", "/no/such/editor")
    assert "cannot be run: No such file" in cli("edit", "a").err
    assert cli("edit", "nobody").code == 3


def test_a_draft_that_cannot_be_written_is_told_and_not_left(
    cli, queue, editor, tmp_path, monkeypatch
):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    queue.enqueue([{"id": "a", "command": "true"}])
    editor("form['priority'] = 3")
    monkeypatch.setattr(json, "dump", full)
    result = cli("edit", "a")
    assert (result.code, result.out) == (1, "")
    assert re.fullmatch(r"queuectl: writing /.*\.json: No space left on device\n", result.err)
    assert _drafts(tmp_path) == []


def test_a_draft_that_cannot_be_made_is_told(cli, queue, editor, monkeypatch, tmp_path):
    _dead(queue)
    editor("form['command'] = 'true'")
    monkeypatch.setattr("tempfile._candidate_tempdir_list", lambda: [str(tmp_path / "none")])
    assert cli("edit", "a").err.startswith("queuectl: making a file to be edited: No usable temp")
