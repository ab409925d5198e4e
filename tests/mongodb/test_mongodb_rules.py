"""The rules of hooks, limits and schedules hold in MongoDB as they do in the files."""

from __future__ import annotations

import pytest
from samples import ended

from tests import test_gate, test_hooks, test_schedules

test_the_worker_that_ends_a_job_runs_its_hook_next = (
    test_hooks.test_the_worker_that_ends_a_job_runs_its_hook_next
)
test_the_end_that_frees_a_token_wakes_a_worker_for_it = (
    test_gate.test_the_end_that_frees_a_token_wakes_a_worker_for_it
)
_NAMES = (
    *("a_schedule_runs_a_copy_again_and_again", "after_two_weeks_off_it_runs_once"),
    *("a_clock_that_is_set_doubles_nothing", "by_the_clock_one_copy_makes_up_for_what_was_missed"),
    *("while_a_copy_lives_none_is_added", "the_end_of_a_schedule_adds_a_hook"),
    *("a_pause_holds_a_schedule_and_then_it_runs_once", "a_restored_queue_makes_up_once_for_each"),
    *("a_cancelled_schedule_rests_and_its_copy_runs_on", "an_update_plans_it_anew"),
    "a_start_may_be_given",
)
globals().update({f"test_{name}": getattr(test_schedules, f"test_{name}") for name in _NAMES})


@pytest.fixture
def clocked(queue):
    return test_schedules.Clocked(queue.store)


def test_a_hook_needs_no_folder_that_other_hosts_lack(queue):
    queue.change_settings({"on-completed": "tell"})
    queue.enqueue([{"id": "a", "command": "x"}])
    queue.settle(queue.claim("w"), ended())
    hook = queue.claim("w")
    assert (hook.command, hook.cwd, hook.env["QUEUECTL_LOG"]) == ("tell", None, "")


def test_sets_of_variables_that_no_job_names_go_when_they_are_a_day_old(queue, url, client):
    database = client[url.rpartition("/")[2]]
    sets = database.env_sets
    database.meta.update_one({"_id": "queuectl"}, {"$unset": {"sets_looked_at": ""}})
    for number in range(40):
        queue.enqueue([{"id": f"j{number}", "command": "x"}], {"env": {"N": str(number)}})
    queue.cancel([f"j{number}" for number in range(40)])
    queue.purge([f"j{number}" for number in range(1, 40)])
    queue.checkpoint()
    assert sets.count_documents({}) == 40, "their jobs may be about to be added"
    sets.update_many({}, {"$inc": {"kept_at": -90_000}})
    queue.checkpoint()
    assert sets.count_documents({}) == 40, "it was looked for them today"
    queue.enqueue([{"id": "again", "command": "x"}], {"env": {"N": "7"}})
    queue.cancel(["again"])
    queue.purge(["again"])
    database.meta.update_one({"_id": "queuectl"}, {"$inc": {"sets_looked_at": -90_000}})
    queue.checkpoint()
    assert queue.env_set(queue.get("j0")) == {"env": {"N": "0"}}
    assert sorted(found["form"] for found in sets.find()) == [
        '{"env": {"N": "0"}}',
        '{"env": {"N": "7"}}',
    ]
