"""`unique` keys: at most one live job with a key, and what becomes of a second one."""

from __future__ import annotations

import threading

import pytest

from queuectl.errors import KeyTaken
from queuectl.job_queue import JobQueue
from queuectl.store.files import lookup
from queuectl.store.files.file_store import FileStore

PLAIN = ("enqueue", "--unique", "k", "-q")


def test_a_second_job_of_a_key_is_refused_kept_away_or_put_in_its_place(cli):
    assert cli.ok("enqueue", "{id: a, command: one, unique: k}").startswith("Job added")
    refused = cli(*PLAIN, "--", "two")
    assert refused.code == 4
    assert "job 'a' with the unique key 'k' is pending (enqueue --if-absent" in refused.err
    assert cli.ok("enqueue", "--unique", "k", "--if-absent", "--", "two") == (
        "A job is there already, pending, with job id: a\n"
    )
    assert "one" in cli.ok("show", "a")
    text = cli.ok("enqueue", "--unique", "k", "--replace", "--delay", "1h", "--", "three")
    assert text.startswith("Waiting job replaced with job id: a\n")
    assert cli.ok("list", "--fields", "id,command,unique,rev", "--csv").splitlines()[1:] == [
        "a,three,k,2"
    ]
    assert cli.ok("list", "--jsonl", "--input").count('"unique": "k"') == 1
    assert cli.ok("enqueue", "--id", "a", "--if-absent", "-q", "--", "four") == "a\n"
    cli.ok("cancel", "a")
    assert cli.ok("enqueue", "--id", "a", "--if-absent", "--", "x").endswith(
        "cancelled, with job id: a\n"
    )
    assert cli.ok(*PLAIN, "--id", "b", "--", "five") == "b\n"
    again = cli("retry", "a")
    assert again.code == 4
    assert "job 'b' with the unique key 'k' is pending" in again.err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--if-absent",), "--if-absent looks for a job by its id or unique key"),
        (("--replace",), "--replace looks for a job by its unique key"),
        (("--replace", "--unique", "k", "--id", "x"), "a job that is replaced keeps its id"),
        (("--replace", "--if-absent", "--id", "x"), "give --if-absent or --replace, not both"),
        (("--unique", "k" * 201), "unique has 201 characters; at most 200 fit"),
        (("--unique", ""), "unique is empty"),
    ],
)
def test_nonsense_is_refused(cli, options, told):
    refused = cli("enqueue", *options, "--", "true")
    assert (refused.code, refused.out) == (2, "")
    assert told in refused.err
    cli.ok("enqueue", "--id", "x", "--", "true")
    changed = cli("update", "{id: x, unique: k}")
    assert changed.code == 2
    assert "field 'unique' cannot be changed" in changed.err


def test_the_jobs_of_a_file_meet_each_other_too(cli):
    lines = "{id: a, command: one, unique: k}\n{command: two, unique: k}\n{command: x}\n"
    refused = cli("enqueue", "--file", "-", stdin=lines)
    assert refused.code == 4
    assert "<stdin>:2: a job with the unique key 'k' is in the same input" in refused.err
    assert cli.ok("list", "-q") == ""
    ids = cli.ok(
        "enqueue", "--file", "-", "-q", "--if-absent", stdin=lines.replace("{command: x}\n", "")
    )
    assert ids == "a\na\n"
    assert "one" in cli.ok("show", "a")
    lines = "{command: three, unique: k}\n{command: four, unique: k}\n"
    assert cli.ok("enqueue", "--file", "-", "-q", "--replace", stdin=lines) == "a\na\n"
    assert cli.ok("list", "--fields", "id,command", "--csv").splitlines()[1:] == ["a,four"]
    rows = cli.ok(
        "enqueue", "--each", "-", "--unique", "{}", "--if-absent", "--", "y", stdin="k\nl\nl\n"
    )
    new = cli.ok("list", "-q").split()[-1]  # the first and the last row added none
    assert rows == f"Jobs added to the queue: 1 ({new}); there before: 2\n"


def test_one_of_many_processes_gets_the_key(data_dir):
    answers: list[object] = []

    def hand_in() -> None:
        queue = JobQueue(FileStore(data_dir))
        try:
            for _ in range(10):
                answers.append(queue.enqueue([{"command": "true", "unique": "k"}])[0].id)
        except KeyTaken as exc:
            answers.append(exc)
        finally:
            queue.close()

    threads = [threading.Thread(target=hand_in) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [type(answer) for answer in answers].count(str) == 1
    assert len(answers) == 9


def test_a_key_is_found_by_bytes_wherever_its_job_lies_and_nowhere_else(data_dir, monkeypatch):
    """Folded or in the journal, with few keys or many; text that looks like it is none."""
    looks = 'printf \'"unique": "k"\''
    for few in (20, 0):
        monkeypatch.setattr(lookup, "FEW", few)
        queue = JobQueue(FileStore(f"{data_dir}{few}"))
        draft = {
            "command": looks,
            "unique": 'k "\\ é\n\x7f\u2028',
            "tags": "a b",
            "env": {"unique": "k"},
        }
        first = queue.enqueue([draft])[0]
        queue.enqueue([{"command": looks, "unique": "k"}])
        for folds in (True, False):
            if folds:
                queue.checkpoint()
            with pytest.raises(KeyTaken):
                queue.enqueue([{"command": "true", "unique": first.unique}])
            queue.cancel([first.id])
            first = queue.enqueue([draft])[0]
        queue.close()
