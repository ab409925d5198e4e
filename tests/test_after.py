"""Jobs that wait for others: `after` and `after_end`."""

from __future__ import annotations

import json
import re

import pytest
from memory_store import MemoryStore
from samples import make_job
from test_live_index import line

from queuectl.errors import Conflict, InvalidInput, KeyTaken, NoSuchJob
from queuectl.job_queue import JobQueue
from queuectl.model import dependencies
from queuectl.model.dependencies import ring, told_ring
from queuectl.model.gate import gate_of
from queuectl.model.lifecycle import Outcome
from queuectl.store.files import kin, lanes, live_index
from queuectl.store.files.file_store import FileStore


@pytest.fixture(params=["files", "memory"])
def queue(request, tmp_path):
    store = FileStore(str(tmp_path / "data")) if request.param == "files" else MemoryStore()
    queue = JobQueue(store)
    yield queue
    queue.close()


def enqueue(queue, *ids, **fields):
    queue.enqueue({"id": job_id, "command": "true", "max_retries": 0, **fields} for job_id in ids)


def states(queue):
    return {job.id: job.state for job in queue.find()}


def ended(code=0):
    return Outcome("exited", code, None, "2026-01-01T00:00:00.000000Z")


def end(queue, code=0):
    """Claim the next job and end it so; its id."""
    job = queue.claim("w")
    queue.settle(job, ended(code))
    return job.id


def test_a_job_starts_when_its_parents_ended_as_it_asks(queue):
    enqueue(queue, "a")
    enqueue(queue, "b", priority=-5)
    enqueue(queue, "c", priority=-9, after=["a"], after_end=["b"])
    enqueue(queue, "d", priority=-9, after_end=["a", "b"], run_at="2020-01-01T00:00:00Z")
    assert end(queue, 1) == "b"
    job = queue.claim("w")
    assert job.id == "a"
    assert queue.claim("v") is None
    # Freed in the very step in which the parent is settled.
    assert queue.claim("w", (job, ended())).id == "d"
    assert queue.claim("v").id == "c"


def test_a_job_that_cannot_start_any_more_falls_with_its_parent_and_comes_back(queue):
    enqueue(queue, "a")
    enqueue(queue, "b", after=["a"])
    enqueue(queue, "c", after=["b"])
    enqueue(queue, "d", after=["a", "c"], after_end=["b"])
    enqueue(queue, "e", after_end=["a"])
    job = queue.claim("w")
    assert queue.claim("w", (job, ended(1))).id == "e"
    assert states(queue) == {**dict.fromkeys("abcd", "dead"), "e": "in_progress"}
    fell = queue.get("c")
    assert (fell.attempts, fell.error) == (0, "dependency: parent 'b' is dead")
    with pytest.raises(Conflict, match="job 'c' waits for 'b', which is dead: retry that first"):
        queue.retry(["c"])
    assert {job.id for job in queue.retry(["a"])} == set("abcd")
    assert states(queue) == {**dict.fromkeys("abcd", "pending"), "e": "in_progress"}
    assert {job.id for job in queue.cancel(["b"])} == set("bcd")
    assert states(queue) == {
        **dict.fromkeys("bcd", "cancelled"),
        "a": "pending",
        "e": "in_progress",
    }
    assert {job.id for job in queue.retry(["b"])} == set("bcd")
    assert [end(queue) for _ in "abcd"] == ["a", "b", "c", "d"]


def test_only_the_present_state_of_a_parent_counts(queue):
    enqueue(queue, "a")
    assert end(queue) == "a"
    enqueue(queue, "b", after=["a"])
    enqueue(queue, "c", after=["a"], run_at="2100-01-01T00:00:00Z")
    queue.retry(["a"])
    queue.retry(["c"])
    assert end(queue) == "a"
    assert [end(queue) for _ in "bc"] == ["b", "c"]
    queue.retry(["a"])
    assert states(queue) == {"a": "pending", "b": "completed", "c": "completed"}


def test_nonsense_is_refused_and_changes_nothing(queue):
    enqueue(queue, "a")
    enqueue(queue, "b", after=["a"])
    with pytest.raises(NoSuchJob, match="job 'x' is to wait for 'nobody', and no job has that id"):
        enqueue(queue, "x", after=["nobody"])
    with pytest.raises(InvalidInput, match="in a ring: x after y after x"):
        queue.enqueue(
            {"id": name, "command": "true", "after": [other]} for name, other in ("xy", "yx")
        )
    with pytest.raises(InvalidInput, match="ring"):
        queue.update("a", {"after_end": ["b"]})
    with pytest.raises(InvalidInput, match="ring"):
        queue.update("a", {"after": ["a"]})
    queue.cancel(["a"])
    with pytest.raises(Conflict, match="'a', which is cancelled: retry that first, or name it in"):
        enqueue(queue, "x", after=["a"])
    enqueue(queue, "y", after_end=["a"])
    assert states(queue) == {"a": "cancelled", "b": "cancelled", "y": "pending"}
    queue.enqueue(
        [
            {"id": "k", "command": "true", "after": "l, m"},
            {"id": "l", "command": "true"},
            {"id": "m", "command": "true", "after": ["l"]},
        ]
    )
    assert queue.get("k").after == ("l", "m")


def test_a_parent_that_a_live_job_names_is_not_purged(queue):
    enqueue(queue, "a")
    enqueue(queue, "b")
    assert [end(queue), end(queue)] == ["a", "b"]
    enqueue(queue, "c", after=["a"], run_at="2100-01-01T00:00:00Z")
    assert [job.id for job in queue.purge(["a", "b"])] == ["b"]
    queue.update("c", {"after": []})
    assert [job.id for job in queue.purge(["a"])] == ["a"]


def test_a_parent_is_taken_away_with_all_that_wait_for_it_and_not_before(queue):
    enqueue(queue, "a")
    enqueue(queue, "b", after=["a"])
    enqueue(queue, "c", after_end=["b"])
    jobs = {job.id: job for job in queue.find()}
    assert queue.take_away({name: jobs[name] for name in "ab"}) == []
    assert {job.id for job in queue.take_away(jobs)} == {"a", "b", "c"}
    assert list(queue.find()) == []


@pytest.mark.parametrize("shape", ["chain", "fan-in", "fan-out"])
def test_large_graphs_are_worked_off_in_order(tmp_path, shape):
    queue = JobQueue.open(str(tmp_path / "data"))
    count = 300
    drafts = [{"id": f"j{n}", "command": "true"} for n in range(count)]
    if shape == "chain":
        for n in range(1, count):
            drafts[n]["after"] = [f"j{n - 1}"]
    elif shape == "fan-in":
        drafts[0]["after"] = [f"j{n}" for n in range(1, count)]
    else:
        for draft in drafts[1:]:
            draft["after"] = ["j0"]
    queue.enqueue(drafts)
    order, job = [], queue.claim("w")
    while job is not None:
        order.append(job.id)
        job = queue.claim("w", (job, ended()))
    ids = [f"j{n}" for n in range(count)]
    assert order == ([*ids[1:], "j0"] if shape == "fan-in" else ids)
    assert queue.counts()["completed"] == count
    queue.close()


def test_a_ring_is_found_in_a_graph_of_any_depth():
    names = {str(n): [str(n + 1)] for n in range(5000)}
    assert ring(names, lambda name: names.get(name, ())) == []
    names["5000"] = ["0"]
    found = ring(["7", *names], names.__getitem__)
    assert (len(found), found[0], found[-1]) == (5002, "7", "7")
    assert told_ring(found) == "7 after 8 after 9 after 10 after 11 after 12 after ... after 7"
    assert told_ring(["a", "b", "a"]) == "a after b after a"


def test_the_commands_take_and_tell_parents(cli):
    cli.ok("enqueue", "--id", "a", "--max-retries", "0", "--", "false")
    cli.ok("enqueue", "--id", "b", "--after", "a", "--after-end", "a", "--", "true")
    assert json.loads(cli.ok("show", "b", "--json"))["job"]["after"] == ["a"]
    assert "It waits for a (pending)." in cli.ok("explain", "b")
    assert "After         : a (pending)" in cli.ok("show", "b")
    refused = cli("enqueue", "--after", "nobody", "--", "true")
    assert refused.code == 3
    assert cli("enqueue", "--after", "b", "--id", "c", "--", "true").code == 0
    assert cli.ok("cancel", "a") == (
        "Job 'a' is cancelled.\n2 jobs that come after are cancelled, too: b, c.\n"
    )
    assert "2 jobs that come after are pending, too: b, c." in cli.ok("retry", "a")
    assert cli("worker", "run", "--drain", "-q").code == 1
    assert cli.ok("list", "--state", "dead", "-q") == "a\nb\nc\n"
    assert "dependency: parent 'b' is dead" in cli.ok("dlq", "list")
    assert cli.ok("dlq", "retry", "a", "--alone").count("\n") == 1
    cli.ok("update", "a", "--command", "true")
    refused = cli("retry", "c")
    assert (refused.code, "'b', which is dead: retry that first" in refused.err) == (4, True)
    assert cli.ok("retry", "b").endswith("1 job that comes after is pending, too: c.\n")
    cli.ok("pause")
    drained = cli("worker", "run", "--drain")
    assert "3 jobs are paused and nothing else is left to run" in drained.err
    cli.ok("resume")
    cli.ok("pause", "t")
    cli.ok("update", "a", "--tag", "t")
    for stuck in (cli("worker", "run", "--drain"), cli("wait", "--all")):
        assert stuck.code == 1
        assert "1 job is paused, 2 jobs wait for others and nothing else is left" in stuck.err
    cli.ok("resume", "t")
    cli.ok("update", "c", "--run-at", "2100-01-01 05:00")
    queue = JobQueue.open(cli.folder)
    for job_id in "ab":
        job = queue.claim("w")
        assert job.id == job_id
        queue.settle(job, ended())
    queue.close()
    purged = cli("purge", "--yes")
    assert (purged.code, purged.out) == (0, "Removed 1 job.\n")
    assert "Not removed, as jobs that have not ended wait for them: b." in purged.err
    assert "b" in cli.ok("list", "--state", "completed")
    cli.ok("update", "c", "--after", "")
    assert cli.ok("purge", "b", "--yes") == "Removed 1 job.\n"


def test_a_job_that_an_edit_makes_unstartable_is_named_and_hangs_nothing(cli):
    for job_id in "abcd":
        cli.ok("enqueue", "--id", job_id, "--", "true")
    path = f"{cli.folder}/jobs.json"
    with open(path, encoding="utf-8") as file:
        forms = json.load(file)
    for form, after in zip(forms, ["b", "a", "x"], strict=False):
        form["after"] = [after]
    with open(path, "w", encoding="utf-8") as file:
        json.dump(forms, file)
    drained = cli("worker", "run", "--drain")
    assert (drained.code, cli.ok("list", "--state", "completed", "-q")) == (1, "d\n")
    assert "3 jobs wait for others and nothing else is left to run" in drained.err
    assert cli("wait", "--all").code == 1
    assert "There is a ring, a after b after a: 'update a' can break it." in cli.ok("explain", "a")
    assert json.loads(cli.ok("explain", "c", "--json"))["reasons"][0]["code"] == "parent_gone"
    doctor = cli("doctor")
    assert doctor.code == 1
    assert "job 'a' waits in a ring: a after b after a" in doctor.out
    assert "job 'c' waits for 'x', which is not there" in doctor.out
    cli.ok("update", "a", "--after", "")
    cli.ok("update", "c", "--after", "b")
    assert cli("worker", "run", "--drain").code == 0
    assert cli("doctor").code == 0


def test_the_children_of_a_job_are_those_that_name_it_now(queue):
    enqueue(queue, "a")
    enqueue(queue, "b", "c", after=["a"])
    enqueue(queue, "d", after_end=["a"])
    queue.checkpoint()
    queue.update("b", {"after": []})
    queue.cancel(["c"])
    assert [(job.id, job.state) for job in queue.children("a")] == [
        *(("c", "cancelled"), ("d", "pending")),
    ]
    queue.purge(["c"])
    assert [job.id for job in queue.children("a")] == ["d"]


def test_children_are_shown_and_what_becomes_of_them_is_explained(cli):
    cli.ok("enqueue", "--id", "a", "--max-retries", "0", "--", "false")
    cli.ok("enqueue", "--id", "b", "--after", "a", "--", "true")
    cli.ok("enqueue", "--id", "c", "--after", "b", "--after-end", "a", "--", "true")
    cli.ok("enqueue", "--id", "d", "--after-end", "a", "--", "true")
    assert re.search(
        r"Children +: b \(pending\), c \(pending\), d \(pending\)\n", cli.ok("show", "a")
    )
    kin = [
        "When it is completed, 2 jobs can start: b, d.",
        "If it dies or is cancelled, 2 jobs would fall with it: b, c.",
    ]
    assert [line.strip() for line in cli.ok("explain", "a").splitlines()][-2:] == kin
    cli("worker", "run", "--drain")
    shown = json.loads(cli.ok("show", "a", "--json"))
    assert [(child["id"], child["state"]) for child in shown["children"]] == [
        *(("b", "dead"), ("c", "dead"), ("d", "completed")),
    ]
    reasons = json.loads(cli.ok("explain", "a", "--json"))["reasons"]
    text = "2 jobs that fell with it would come back with it: b, c."
    assert reasons[-1] == {"code": "brings_back", "text": text}
    assert "Children" not in cli.ok("show", "d")
    assert json.loads(cli.ok("explain", "d", "--json"))["reasons"][-1]["code"] == "completed"
    enqueue(JobQueue.open(cli.folder), *(f"e{n:02}" for n in range(12)), after=["d"])
    assert "e09 (pending), and 2 more\n" in cli.ok("show", "d")


def test_a_dry_run_shows_what_falls_or_comes_back_too(cli):
    cli.ok("enqueue", "--id", "a", "--max-retries", "0", "--", "false")
    cli.ok("enqueue", "--id", "b", "--after", "a", "--", "true")
    cli.ok("enqueue", "--id", "c", "--after", "b", "--after-end", "a", "--", "true")
    assert cli.ok("cancel", "a", "--dry-run", "-q") == "a\nb\nc\n"
    assert cli.ok("cancel", "b", "a", "--dry-run", "-q") == "b\na\nc\n"
    assert cli.ok("update", "a", "--state", "cancelled", "--dry-run", "-q") == "a\nb\nc\n"
    assert cli("worker", "run", "--drain", "-q").code == 1
    for retry in (["retry"], ["dlq", "retry"]):
        assert cli.ok(*retry, "a", "--dry-run", "-q") == "a\nb\nc\n"
        assert cli.ok(*retry, "a", "--alone", "--dry-run", "-q") == "a\n"


def test_a_job_that_fell_with_one_that_was_purged_is_told_how_it_comes_back(cli):
    cli.ok("enqueue", "--id", "a", "--max-retries", "0", "--", "false")
    cli.ok("enqueue", "--id", "b", "--after", "a", "--", "true")
    assert cli("worker", "run", "--drain", "-q").code == 1
    assert "A retry of a, or of what that fell with" in cli.ok("explain", "b")
    cli.ok("dlq", "purge", "a", "--yes")
    assert "a is not there any more: 'update b' with --after names others" in cli.ok("explain", "b")
    cli.ok("update", "b", "--after", "")
    assert "\n  'retry b' brings it back." in cli.ok("explain", "b")
    assert cli.ok("retry", "b") == "Job 'b' is pending and due now.\n"


def test_a_job_that_replaces_a_running_one_waits_for_it_and_may_be_replaced(queue):
    """So at most one job of a key runs, however many workers there are."""

    def hand_in(command):
        return queue.enqueue([{"command": command, "unique": "k"}], None, "replace")[0].id

    first = hand_in("one")
    job = queue.claim("w")
    second = hand_in("two")
    assert queue.get(second).after_end == (first,)
    assert queue.claim("v") is None
    assert hand_in("three") == hand_in("four") == second
    assert queue.claim("v") is None
    assert queue.claim("w", (job, ended(1))) is None  # its retry comes first
    queue.cancel([first])
    job = queue.claim("w")
    assert (job.id, job.command) == (second, "four")


def test_a_schedule_is_not_a_parent_but_may_have_some(queue):
    enqueue(queue, "s", every=60)
    with pytest.raises(Conflict, match="'a' cannot wait for 's': that is a schedule, which"):
        enqueue(queue, "a", after_end=["s"])
    queue.cancel(["s"])
    enqueue(queue, "b")
    enqueue(queue, "t", every=60, after=["b"], priority=-1)
    assert end(queue) == "b"
    copy = queue.claim("w")
    assert (copy.id.partition(":")[0], copy.after) == ("t", ())


def test_jobs_that_an_end_frees_are_told_to_idle_workers(queue, monkeypatch):
    """Of those that a claim frees with the run before it, one is for this worker itself."""
    enqueue(queue, "a")
    enqueue(queue, "b", "c", "d", after=["a"])
    enqueue(queue, "e", after_end=["b"])
    woken = []
    monkeypatch.setattr(queue.store, "wake_idle", woken.append)
    job = queue.claim("w", (queue.claim("w"), ended()))
    assert (job.id, woken) == ("b", [2])
    woken.clear()
    queue.settle(job, ended())
    assert woken == [1]
    woken.clear()
    enqueue(queue, "f")
    enqueue(queue, "g", "h", after_end=["f"])
    queue.cancel(["f"])
    assert woken == [1, 2, 2]


def test_a_large_family_falls_and_comes_back(queue):
    enqueue(queue, "a")
    kids = [f"b{n}" for n in range(12)]
    for kid in kids:
        enqueue(queue, kid, after=["a"])
    enqueue(queue, "c", after=["b3", "b4"])
    enqueue(queue, "d", after=["c"])
    enqueue(queue, "e", after_end=["b5"])
    assert end(queue, 1) == "a"
    fallen = {job.id for job in queue.find(["dead"])}
    assert fallen == {"a", *kids, "c", "d"}
    assert end(queue) == "e", "b5 has ended"
    assert {job.id for job in queue.retry(["a"])} == fallen
    assert [end(queue) for _ in range(15)] == ["a", *kids, "c", "d"]


def test_a_job_that_falls_with_a_parent_has_no_hook_and_keeps_its_key(queue):
    queue.change_settings({"on-dead": "tell"})
    enqueue(queue, "a")
    enqueue(queue, "b", after=["a"], unique="k")
    assert end(queue, 1) == "a"
    assert [job.env["QUEUECTL_OF"] for job in queue.find(["pending"])] == ["a"]
    enqueue(queue, "c", unique="k")
    with pytest.raises(KeyTaken):
        queue.retry(["a"])
    assert [job.id for job in queue.retry(["a"], alone=True)] == ["a"]
    assert queue.get("b").state == "dead"


def test_a_child_that_runs_falls_as_it_would_wait_again(queue):
    """Its parent was retried meanwhile, and that one then died."""
    enqueue(queue, "a")
    assert end(queue) == "a"
    enqueue(queue, "b", after=["a"], max_retries=3)
    child = queue.claim("w")
    queue.retry(["a"])
    assert end(queue, 1) == "a"
    assert queue.claim("w", (child, ended(1))) is None
    assert (queue.get("b").state, queue.get("b").attempts) == ("dead", 1)


def test_an_empty_name_of_a_parent_is_refused_where_it_could_mean_none(cli):
    """As `--after "$BUILD"` gives, where BUILD is not set: the job would start at once."""
    for option in ("--after", "--after-end"):
        for command in ("enqueue", "run"):
            refused = cli(command, option, "", "--", "true")
            assert (refused.code, f"{option} is empty" in refused.err) == (2, True)
    cli.ok("enqueue", "--id", "a", "--", "true")
    cli.ok("enqueue", "--id", "b", "--after", "a", "--", "true")
    cli.ok("update", "b", "--after", "")
    assert json.loads(cli.ok("show", "b", "--json"))["job"]["after"] == []


def test_jobs_with_a_tag_are_waited_for(cli):
    cli.ok("enqueue", "--id", "a", "--tag", "shard", "--", "true")
    cli.ok("worker", "run", "--drain", "-q")
    cli.ok("enqueue", "--id", "b", "--tag", "shard", "--", "true")
    cli.ok("enqueue", "--id", "c", "--tag", "shard", "--max-retries", "0", "--", "false")
    cli.ok("enqueue", "--id", "d", "--after", "tag=shard", "--after-end", "c", "--", "true")
    form = json.loads(cli.ok("show", "d", "--json"))["job"]
    assert (form["after"], form["after_end"]) == (["b", "c"], ["c"])
    assert cli("enqueue", "--after", "tag=shards", "--", "true").code == 3
    cli("worker", "run", "--drain", "-q")
    refused = cli("enqueue", "--after", "tag=shard", "--", "true")
    assert (refused.code, "'c', which is dead" in refused.err) == (4, True)
    cli.ok("enqueue", "--id", "e", "--after-end", "tag=shard", "--", "true")
    assert cli("worker", "run", "--drain").code == 0


@pytest.mark.parametrize("lost", [0, 499])
def test_each_of_many_parents_that_come_back_is_looked_at_once(monkeypatch, lost):
    parents = [make_job(f"p{n}", state="dead") for n in range(500)]
    child = make_job("child", state="dead", after=tuple(job.id for job in parents))
    child = child._replace(error="dependency: parent 'p0' is dead")
    kin = dependencies.Kin.among([child], {job.id: job.state for job in parents}.get)
    looks, real = [], dependencies.parent_state
    monkeypatch.setattr(dependencies, "parent_state", lambda job: looks.append(1) or real(job))
    pairs = [(job, job._replace(state="pending")) for job in parents]
    assert [new.id for _, new in kin.consequences(pairs, child.run_at)] == ["child"]
    assert not kin.consequences(pairs[:lost] + pairs[lost + 1 :], child.run_at)
    assert len(looks) <= 2 * 500


def test_the_parents_of_a_job_that_fails_are_looked_for_at_once(tmp_path, monkeypatch):
    queue = JobQueue(FileStore(str(tmp_path / "data")))
    names = [f"p{n}" for n in range(30)]
    enqueue(queue, *names)
    enqueue(queue, "child", after=names, max_retries=1)
    assert [end(queue) for _ in names] == names
    queue.checkpoint()
    looks, real = [], kin._states
    monkeypatch.setattr(kin, "_states", lambda *args: looks.append(1) or real(*args))
    assert end(queue, 1) == "child"
    assert (states(queue)["child"], len(looks)) == ("failed", 1)
    queue.close()


def test_the_child_of_many_that_fall_is_parsed_once(tmp_path, monkeypatch):
    queue = JobQueue(FileStore(str(tmp_path / "data")))
    names = [f"p{n}" for n in range(20)]
    enqueue(queue, "first")
    enqueue(queue, *names, after=["first"])
    enqueue(queue, "child", after=names)
    job = queue.claim("w")
    parsed, real = [], kin.decode_job
    monkeypatch.setattr(kin, "decode_job", lambda line: parsed.append(1) or real(line))
    assert queue.claim("w", (job, ended(1))) is None
    assert set(states(queue).values()) == {"dead"}
    assert len(parsed) == len(names) + 1
    queue.close()


def test_a_dry_run_is_refused_as_the_change_is(queue):
    enqueue(queue, "a", unique="k")
    enqueue(queue, "b", after=["a"])
    wrong = [
        ("a", {"after": ["b"]}, "b after a after b|a after b after a"),
        ("a", {"after": ["c"]}, "'c'"),
    ]
    for job_id, changes, words in wrong:
        for update in (queue.would_update, queue.update_all):
            with pytest.raises((InvalidInput, NoSuchJob), match=words):
                update([job_id], changes)
    queue.cancel(["a"])
    enqueue(queue, "c", unique="k")
    for job_id, kind in [("b", Conflict), ("a", KeyTaken)]:
        for retry in (queue.would_retry, queue.retry):
            with pytest.raises(kind):
                retry([job_id])
    queue.cancel(["c"])
    assert [job.id for job in queue.would_retry(["b", "a"])] == ["b", "a"]


def test_many_keys_are_looked_for_in_one_pass(queue, monkeypatch):
    ids = [f"u{n}" for n in range(20)]
    queue.enqueue({"id": name, "command": "true", "unique": name} for name in ids)
    queue.cancel(ids)
    passes, find = [], queue.store.find
    monkeypatch.setattr(queue.store, "find", lambda *args: passes.append(1) or find(*args))
    assert len(queue.would_retry(ids)) == 20
    assert len(passes) == 1


@pytest.mark.parametrize("shape", ["chain", "fan-in", "fan-out", "full limit", "paused tag"])
def test_a_job_costs_few_steps_in_a_heap(monkeypatch, shape):
    """However many wait for others, or behind a limit or a pause: a claim passes none of them."""
    count, held, steps = 2_000, 10_000, []
    for module in (live_index, lanes):
        for name in ("heappush", "heappop"):
            real = getattr(module, name)
            monkeypatch.setattr(module, name, lambda *a, real=real: steps.append(1) or real(*a))
    after = {
        "chain": {n: f'"after": ["j{n - 1}"], ' for n in range(1, count)},
        "fan-in": {0: f'"after": {json.dumps([f"j{n}" for n in range(1, count)])}, '},
        "fan-out": dict.fromkeys(range(1, count), '"after": ["j0"], '),
    }.get(shape, {})
    lines = [
        line(f"j{n}").replace(b'"command', after.get(n, "").encode() + b'"command')
        for n in range(count)
    ]
    gate = {"full limit": gate_of((), {"gpu": 1}), "paused tag": gate_of(["gpu"])}.get(shape)
    if gate:
        lines += [line(f"g{n}", tags=("gpu",), priority=-1) for n in range(held)]
        lines.append(line("holder", tags=("gpu",), state="in_progress"))
    now = make_job().run_at.encode()
    index = live_index.LiveIndex(lines, now=now, most=held, gate=gate)
    ran = 0
    while (found := index.first_ready(now)) is not None:
        index.put(found.replace(b'"pending"', b'"in_progress"'))
        index.put(found.replace(b'"pending"', b'"completed"'))
        ran += 1
    assert ran == count
    assert len(steps) <= 3 * count
