"""The queue as front ends and workers use it."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest
from memory_store import MemoryStore

from queuectl.errors import (
    Conflict,
    InvalidInput,
    InvalidTransition,
    NoSuchJob,
    StoreError,
)
from queuectl.job_queue import JobQueue
from queuectl.model.fields import STATES
from queuectl.model.lifecycle import Outcome
from queuectl.model.selection import in_state as that_are
from queuectl.model.times import format_time, parse_time
from queuectl.store.files.file_store import FileStore

# Each kind of store that a queue may lie in, by a function that opens one in a folder.
STORES = {"files": FileStore, "memory": MemoryStore}
SHARED = [name for name in STORES if name != "memory"]  # those that two processes can have


@pytest.fixture(params=STORES)
def queue(tmp_path, request):
    queue = JobQueue(STORES[request.param](str(tmp_path / "queue")))
    yield queue
    assert queue.store.check() == []
    queue.close()
    assert queue.store.check() == []


def ended(exit_code):
    """How a run ended, just now."""
    return Outcome("exited", exit_code, None, format_time(time.time()))


def put(queue, *names, **fields):
    return queue.enqueue([{"id": name, "command": "true", **fields} for name in names])


def fail(queue, job_id, times=1):
    """Run the job so often, each time failing, and see it due at once again."""
    for _ in range(times):
        job = queue.claim("w-1")
        assert job.id == job_id
        queue.settle(job, ended(1))
        if queue.get(job_id).state == "failed":
            queue.retry([job_id])
    return queue.get(job_id)


def in_state(queue, job_id, state):
    """A job in this state, got there by the queue's own ways."""
    priority = 0 if state == "pending" else -1
    put(queue, job_id, max_retries=0 if state == "dead" else 3, priority=priority)
    if state == "cancelled":
        queue.cancel([job_id])
    elif state != "pending":
        job = queue.claim("w-1")
        if state != "in_progress":
            queue.settle(job, ended(0 if state == "completed" else 1))
    assert queue.get(job_id).state == state
    return queue.get(job_id)


def states(queue):
    return {job.id: job.state for job in queue.find()}


# -- enqueue


def test_a_new_job_takes_its_defaults_from_the_settings(queue):
    queue.change_settings({"max-retries": 7, "timeout": 60})
    (job,) = queue.enqueue([{"command": "echo hi"}])
    assert (job.state, job.max_retries, job.timeout, job.rev) == ("pending", 7, 60, 1)
    assert job.created_at == job.updated_at == job.run_at
    assert queue.get(job.id) == job
    assert put(queue, "mine", timeout=None, max_retries=0)[0].timeout is None


def test_max_retries_are_fixed_when_the_job_is_enqueued(queue):
    put(queue, "a")
    queue.change_settings({"max-retries": 0})
    assert fail(queue, "a").state == "pending"


def test_many_jobs_are_enqueued_in_their_order(queue):
    jobs = queue.enqueue([{"command": f"echo {number}"} for number in range(50)])
    assert [job.command for job in queue.find()] == [f"echo {number}" for number in range(50)]
    assert sorted(jobs, key=lambda job: job.id) == jobs
    assert [queue.claim("w").id for _ in range(3)] == [job.id for job in jobs[:3]]


def test_enqueueing_nothing_makes_nothing(tmp_path):
    queue = JobQueue.open(str(tmp_path / "queue"))
    assert queue.enqueue([]) == []
    queue.close()
    assert not os.path.exists(queue.folder)


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        ({"command": ""}, "command is empty"),
        ({}, "a job needs a command"),
        ({"command": "x", "run": 3}, "cannot be set"),
        ({"command": "x", "id": "../up"}, "may hold only"),
    ],
)
def test_one_bad_draft_keeps_all_of_them_out_and_is_named(queue, bad, complaint):
    put(queue, "there")
    with pytest.raises(InvalidInput, match=complaint) as caught:
        queue.enqueue([{"command": "x"}, {"command": "y"}, bad])
    assert caught.value.index == 2
    assert list(states(queue)) == ["there"]


# -- update


def test_fields_are_updated_together_or_not_at_all(queue):
    put(queue, "a")
    job = queue.update("a", {"priority": "5", "run_timeout": "2m", "command": "false"})
    assert (job.priority, job.timeout, job.command, job.rev) == (5, 120.0, "false", 2)
    with pytest.raises(InvalidInput, match="priority"):
        queue.update("a", {"command": "x", "priority": "high"})
    assert queue.get("a") == job


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({}, "nothing to change"),
        ({"state": "dead"}, "a job cannot be made dead"),
        ({"state": "completed"}, "a job cannot be made completed"),
        ({"state": "done"}, "unknown state"),
        ({"attempts": 0}, "field 'attempts' cannot be changed"),
        ({"id": "b"}, "field 'id' cannot be changed"),
        ({"comand": "x"}, "did you mean 'command'"),
    ],
)
def test_an_update_that_makes_no_sense_is_refused(queue, changes, complaint):
    (job,) = put(queue, "a")
    with pytest.raises(InvalidInput, match=complaint):
        queue.update("a", changes)
    assert queue.get("a") == job


def test_an_update_of_no_job_is_refused(queue):
    with pytest.raises(NoSuchJob, match="no job has the id 'a'"):
        queue.update("a", {"priority": 1})


@pytest.mark.parametrize("state", sorted(set(STATES) - {"pending", "in_progress"}))
def test_an_update_to_pending_is_a_retry(queue, state):
    in_state(queue, "a", state)
    job = queue.update("a", {"state": "pending", "priority": 3})
    assert (job.state, job.priority) == ("pending", 3)
    assert job.attempts == (1 if state == "failed" else 0)


@pytest.mark.parametrize("how", [("retry", ["a"]), ("update", "a", {"state": "pending"})])
def test_a_retry_makes_a_job_due_that_waits_for_its_time(queue, how):
    put(queue, "a", "b", run_at="2099-01-01T00:00:00Z")
    getattr(queue, how[0])(*how[1:])
    assert queue.claim("w-1").id == "a"
    assert queue.claim("w-1") is None


@pytest.mark.parametrize("state", ["dead", "failed", "pending"])
def test_a_run_at_given_with_a_retry_holds(queue, state):
    in_state(queue, "a", state)
    job = queue.update("a", {"state": "pending", "run_at": "2099-01-01T00:00:00Z"})
    assert (job.state, job.run_at) == ("pending", "2099-01-01T00:00:00.000000Z")
    assert queue.claim("w-1") is None


def test_an_update_to_cancelled_is_a_cancel(queue):
    put(queue, "a")
    assert queue.update("a", {"state": "cancelled"}).state == "cancelled"
    with pytest.raises(InvalidTransition):
        queue.update("a", {"state": "cancelled"})


def test_while_it_runs_only_some_fields_can_be_changed(queue):
    job = in_state(queue, "a", "in_progress")
    assert queue.update("a", {"priority": 9, "max_retries": 0}).priority == 9
    with pytest.raises(Conflict, match="'command' cannot be changed while it runs"):
        queue.update("a", {"priority": 1, "command": "x"})
    assert queue.get("a").priority == 9
    assert queue.settle(job, ended(1)).state == "dead"  # the new max_retries counts


# -- cancel, retry


def test_several_jobs_are_cancelled_all_or_none(queue):
    put(queue, "a", "b", "c")
    in_state(queue, "done", "completed")
    with pytest.raises(InvalidTransition, match="job 'done' is completed: cannot cancel it"):
        queue.cancel(["a", "done", "b"])
    with pytest.raises(NoSuchJob, match="'nobody'"):
        queue.cancel(["a", "nobody"])
    assert set(states(queue).values()) == {"pending", "completed"}
    assert [job.id for job in queue.cancel(["c", "a", "c"])] == ["c", "a"]
    assert states(queue) == {**states(queue), "a": "cancelled", "b": "pending", "c": "cancelled"}


def test_a_running_job_is_asked_to_end(queue):
    job = in_state(queue, "a", "in_progress")
    assert not queue.cancel_requested(job)
    (asked,) = queue.cancel(["a"])
    assert (asked.state, asked.cancel_requested) == ("in_progress", True)
    assert queue.cancel_requested(job)
    got = queue.settle(job, ended(0))
    assert got.state == "cancelled"
    assert got.history[-1]["exit_code"] == 0


@pytest.mark.parametrize("state", STATES)
def test_retry_from_every_state(queue, state):
    in_state(queue, "a", state)
    if state in ("pending", "in_progress"):
        with pytest.raises(Conflict):
            queue.retry(["a"])
    else:
        (job,) = queue.retry(["a"])
        assert job.state == "pending"
        assert queue.claim("w-2").run == 2 if state != "cancelled" else 1


def test_only_dead_jobs_come_back_from_the_dlq(queue):
    for name in ("d1", "d2"):
        in_state(queue, name, "dead")
    put(queue, "a")
    with pytest.raises(Conflict, match="job 'a' is pending, not dead: it is not in the DLQ"):
        queue.retry_dead(["d1", "a"])
    with pytest.raises(NoSuchJob):
        queue.retry_dead(["d1", "nobody"])
    assert queue.counts()["dead"] == 2
    assert {job.id for job in queue.retry_dead(that_are("dead"))} == {"d1", "d2"}
    assert queue.counts()["dead"] == 0
    assert queue.retry_dead(that_are("dead")) == []


def test_many_dead_jobs_come_back_at_once(queue):
    jobs = queue.enqueue([{"command": "x", "max_retries": 0} for _ in range(60)])
    for _ in jobs:
        queue.settle(queue.claim("w-1"), ended(1))
    queue.checkpoint()
    assert [job.id for job in queue.retry_dead(that_are("dead"))] == [job.id for job in jobs]
    assert queue.counts()["pending"] == 60


# -- purge


def test_ended_jobs_are_purged_by_state(queue):
    for state in STATES:
        in_state(queue, f"a-{state}", state)
    assert queue.counts() == dict.fromkeys(STATES, 1)
    assert [job.id for job in queue.purge(that_are("completed"), dry_run=True)] == ["a-completed"]
    assert len(states(queue)) == 6
    gone = {job.id for job in queue.purge(that_are("completed", "dead"))}
    assert gone == {"a-completed", "a-dead"}
    assert queue.purge(that_are("completed", "dead")) == []
    assert set(states(queue)) == {"a-pending", "a-failed", "a-in_progress", "a-cancelled"}


@pytest.mark.parametrize("state", ["pending", "failed", "in_progress"])
def test_live_jobs_are_never_purged(queue, state):
    in_state(queue, "b", "completed")
    in_state(queue, "a", state)
    with pytest.raises(InvalidInput, match=f"only ended jobs can be purged, not {state} ones"):
        queue.purge(that_are("completed", state))
    assert len(states(queue)) == 2


def test_jobs_are_purged_by_age(queue, monkeypatch):
    in_state(queue, "old", "completed")
    now = time.time()
    monkeypatch.setattr(queue.store, "now", lambda: now + 100)
    in_state(queue, "new", "cancelled")
    assert queue.purge(that_are("completed", "cancelled"), 1000) == []
    assert [job.id for job in queue.purge(that_are("completed", "cancelled"), 50)] == ["old"]
    queue.change_settings({"keep-finished": 3600})
    assert queue.purge_old() == []
    monkeypatch.setattr(queue.store, "now", lambda: now + 3800)
    assert [job.id for job in queue.purge_old()] == ["new"]
    queue.change_settings({"keep-finished": None})
    assert queue.purge_old() == []


# -- settings


def test_settings_change_together_or_not_at_all(queue):
    queue.change_settings({"base": 3, "max_retries": 5})
    with pytest.raises(InvalidInput):
        queue.change_settings({"base": 4, "max-retries": -1})
    assert queue.settings().changed == {"base": 3, "max-retries": 5}
    queue.change_settings({"base": None})
    assert queue.settings().changed == {"max-retries": 5}
    assert queue.settings().base == 2


def test_backoff_follows_the_settings_at_the_failure(queue):
    put(queue, "a")
    job = queue.claim("w-1")
    queue.change_settings({"base": 5, "max-delay": 100})
    failed = queue.settle(job, ended(1))
    wait = parse_time(failed.run_at) - parse_time(failed.updated_at)
    assert wait == pytest.approx(5)
    assert 0 < queue.next_due() <= 5 if queue.claim("w-1") is None else None


# -- claim and settle


def test_a_claim_settles_and_goes_on(queue):
    put(queue, "a", "b")
    job = queue.claim("w-1")
    other = queue.claim("w-1", (job, ended(0)))
    assert (other.id, queue.get("a").state) == ("b", "completed")
    assert queue.claim("w-1", (other, ended(1))) is None
    assert queue.get("b").state == "failed"
    assert not queue.is_drained()


def test_the_same_result_may_be_given_twice(queue):
    put(queue, "a", "b")
    job = queue.claim("w-1")
    assert queue.claim("w-1", (job, ended(0))).id == "b"
    assert queue.claim("w-1", (job, ended(0))) is None
    assert queue.get("a").attempts == 1
    assert queue.settle(job, ended(0)) is None


@pytest.mark.parametrize("what", ["completed by another", "cancelled", "purged", "claimed again"])
def test_a_result_of_a_run_that_was_given_up_changes_nothing(queue, what):
    put(queue, "a")
    put(queue, "b", priority=1)
    job = queue.claim("w-1")
    queue.rescue_worker("w-1")
    if what == "cancelled":
        queue.cancel(["a"])
    else:
        again = queue.claim("w-2")
        assert (again.id, again.run) == ("a", 2)
        if what != "claimed again":
            queue.settle(again, ended(0))
        if what == "purged":
            queue.purge(that_are("completed"))
    before = states(queue)
    assert queue.settle(job, ended(1)) is None
    assert queue.claim("w-1", (job, ended(1))).id == "b"
    assert {**states(queue), "b": "pending"} == before


def test_what_changed_while_it_ran_is_kept_by_the_settlement(queue):
    put(queue, "a", "b")
    job = queue.claim("w-1")
    queue.update("a", {"priority": 7})
    assert queue.claim("w-1", (job, ended(0))).id == "b"
    assert (queue.get("a").state, queue.get("a").priority) == ("completed", 7)


def test_drained_means_nothing_is_left_to_run(queue):
    assert queue.is_drained()
    put(queue, "a", run_at="2099-01-01T00:00:00Z")
    assert not queue.is_drained()
    queue.cancel(["a"])
    assert queue.is_drained()


# -- rescue


def test_the_jobs_of_a_dead_worker_are_taken_back(queue):
    put(queue, "a", "b", "c")
    queue.claim("w-1")
    queue.claim("w-2")
    (job,) = queue.rescue_worker("w-1")
    assert (job.id, job.state, job.losses, job.attempts) == ("a", "pending", 1, 0)
    assert queue.get("b").worker == "w-2"
    assert queue.rescue_worker("w-1") == []


def test_a_lost_worker_is_found_though_others_are_idle(queue):
    put(queue, "a", rerun=False)
    queue.claim("w-gone")
    idle = [queue.register_worker() for _ in range(3)]
    assert [worker.id for worker in queue.lost_workers()] == ["w-gone"]
    (job,) = queue.rescue_worker("w-gone")
    assert (job.state, job.error) == ("dead", "interrupted")
    assert queue.lost_workers() == []
    for slot in idle:
        queue.release_worker(slot)


def test_a_living_busy_worker_is_not_lost(queue):
    put(queue, "a")
    slot = queue.register_worker("12", "boot")
    job = queue.claim(slot.id)
    assert queue.lost_workers() == []
    slot.note_run(job.id, job.run, os.getpid(), "1")
    assert queue.lost_workers() == []
    assert [worker.job_id for worker in queue.workers()] == ["a"]
    queue.settle(job, ended(0))
    queue.release_worker(slot)


@pytest.mark.parametrize("queue", ["files"], indirect=True)
def test_a_job_in_progress_that_a_person_wrote_is_taken_back(queue):
    queue.change_settings({})
    with open(os.path.join(queue.folder, "jobs.json"), "w") as file:
        file.write('[{"id": "a", "command": "x", "state": "processing"}]')
    (worker,) = queue.lost_workers()
    (job,) = queue.rescue_worker(worker.id)
    assert (job.id, job.state) == ("a", "pending")


# -- several at once

RACE = """
import sys
from queuectl.job_queue import JobQueue
queue, mine, rounds = JobQueue.open(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
for number in range(rounds):
    queue.update("shared", {"priority": mine * 1000 + number})
    queue.change_settings({("base", "max-delay", "jitter", "kill-grace")[mine]: 1 + number / rounds
                           if mine != 2 else number / rounds})
    queue.enqueue([{"command": f"echo {mine} {number}"}])
queue.close()
"""


def run_all(script, folder, count, *words):
    """So many processes run the script at once; all end well."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, folder, str(number), *map(str, words)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for number in range(count)
    ]
    for process in processes:
        assert process.stdout.readline() == b"ready\n"
    for process in processes:
        process.stdin.write(b"go\n")
        process.stdin.flush()
    outputs = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * count
    return outputs


@pytest.mark.parametrize("queue", SHARED, indirect=True)
def test_no_update_is_lost_between_processes(queue):
    put(queue, "shared")
    run_all(RACE, queue.folder, 4, 15)
    assert queue.get("shared").rev == 1 + 4 * 15
    assert queue.counts()["pending"] == 1 + 4 * 15
    changed = queue.settings().changed
    assert changed == {
        **{"base": 1 + 14 / 15, "max-delay": 1 + 14 / 15},
        **{"jitter": 14 / 15, "kill-grace": 1 + 14 / 15},
    }


def test_times_follow_the_stores_clock(queue, monkeypatch):
    monkeypatch.setattr(queue.store, "now", lambda: 1_800_000_000.25)
    (job,) = put(queue, "a")
    assert job.created_at == queue.now() == format_time(1_800_000_000.25)


def test_a_part_that_the_store_lacks_is_named_in_one_line(tmp_path, monkeypatch):
    queue = JobQueue(MemoryStore(str(tmp_path)))
    with pytest.raises(StoreError, match=rf"^the queue in {tmp_path} has no doctor: [^\n]+$"):
        queue.care.examine()
    monkeypatch.setattr(MemoryStore, "archive", None)
    with pytest.raises(StoreError, match=rf"^the queue in {tmp_path} has no backups: [^\n]+$"):
        list(queue.archive.backup())
