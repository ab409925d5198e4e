"""What every store keeps: one suite, run against each of them.

A module that tests a store defines a class that inherits StoreContract, and a fixture `store`.
"""

from __future__ import annotations

import os
import random
import select
from io import BytesIO

import pytest
from samples import configure, ended, make_job, moment, put

from queuectl.errors import Conflict, DuplicateId, InvalidInput, KeyTaken, NoSuchJob, OtherJobs
from queuectl.model import lifecycle
from queuectl.model.backoff import RetryPolicy
from queuectl.model.claim_order import ahead_of, claim_order
from queuectl.model.fields import STATES
from queuectl.model.job import CLAIMABLE, LIVE
from queuectl.model.selection import Selection
from queuectl.model.times import format_time
from queuectl.store.backup import read_backup
from queuectl.store.facts import CANCEL, WAKE
from queuectl.store.files import staged

NOW = moment(10)
POLICY = RetryPolicy(2.0, 60.0, 0.0)
HARD = (
    "printf '%s\\n' \"a\tb\\\\\" 'ä ✓ \u2028 \U0001f600'\r\n"
    '# {"id": "x", "state": "dead"}\n@1 2 3 d 4\n'
)


def names(jobs):
    return [job.id for job in jobs]


def filled(store):
    """One job of each state, named after it."""
    jobs = [make_job(state, state=state) for state in STATES]
    store.add(jobs)
    return {job.id: job for job in jobs}


class StoreContract:
    begins_absent = True  # whether there is no queue before one is made

    # -- add and read

    def test_a_new_store_is_empty(self, store):
        assert list(store.find()) == []
        assert store.get("a") is None
        assert store.counts() == dict.fromkeys(STATES, 0)
        assert store.check() == []
        assert dict(store.settings()) == {}

    def test_an_added_job_is_read_back_whole(self, store):
        job = make_job(
            **{"job_id": "a.B-c:1_", "command": HARD, "priority": -7, "env": {"A ä": "b\n"}},
            **{"timeout": 0.5, "cwd": "/x y", "rerun": False, "exit_code": 0, "error": '"'},
            **{"history": ({"event": "fail", "at": NOW, "run": 1},), "extra": {"note": [1, None]}},
        )
        store.add([job])
        assert store.get(job.id) == job
        assert list(store.find()) == [job]

    def test_jobs_come_first_in_first_and_the_dead_last(self, store):
        filled(store)
        store.add([make_job("later")])
        assert names(store.find()) == [
            *("pending", "in_progress", "completed", "failed", "cancelled", "later", "dead"),
        ]

    @pytest.mark.parametrize("state", STATES)
    def test_jobs_are_found_by_state(self, store, state):
        filled(store)
        assert names(store.find([state])) == [state]
        assert set(names(store.find({state, "dead"}))) == {state, "dead"}
        assert list(store.find([])) == []

    def test_counts_name_every_state(self, store):
        filled(store)
        store.add([make_job("x", state="dead"), make_job("y", state="dead")])
        assert store.counts() == {**dict.fromkeys(STATES, 1), "dead": 3}

    def test_adding_nothing_changes_nothing(self, store):
        store.add([])
        assert list(store.find()) == []

    @pytest.mark.parametrize("state", STATES)
    def test_a_taken_id_is_refused_and_nothing_added(self, store, state):
        filled(store)
        with pytest.raises(DuplicateId, match=f"the id '{state}' exists already"):
            store.add([make_job("new"), make_job(state)])
        assert store.get("new") is None
        assert store.get(state).state == state
        assert len(list(store.find())) == len(STATES)

    def test_twins_in_one_input_are_refused(self, store):
        with pytest.raises(DuplicateId):
            store.add([make_job("a"), make_job("b"), make_job("a")])
        assert list(store.find()) == []

    def test_an_id_that_begins_like_another_is_another(self, store):
        store.add([make_job("job10")])
        store.add([make_job("job1"), make_job("job100")])
        assert store.get("job1").id == "job1"
        assert store.get("job") is None

    def test_many_jobs_at_once(self, store):
        jobs = [make_job(f"j{number}", priority=number) for number in range(500)]
        store.add(jobs, {})
        assert list(store.find()) == jobs
        with pytest.raises(DuplicateId):
            store.add([make_job(f"k{number}") for number in range(30)] + [make_job("j250")])

    def test_more_jobs_than_fit_into_memory(self, store, monkeypatch):
        store.add([make_job("old")])
        store.claim("w", NOW)
        monkeypatch.setattr(staged, "FEW", 1000)
        store.add(make_job(f"j{number}", priority=number) for number in range(100))
        assert [job.id for job in store.find()] == ["old", *(f"j{number}" for number in range(100))]
        assert store.counts()["pending"] == 100
        assert store.claim("w", NOW).job.id == "j0"
        with pytest.raises(DuplicateId) as refused:
            store.add([*(make_job(f"k{number}") for number in range(100)), make_job("j7")])
        assert refused.value.index == 100
        with pytest.raises(DuplicateId) as refused:
            store.add(make_job(f"k{number % 99}") for number in range(100))
        assert refused.value.index == 99
        assert sum(store.counts().values()) == 101

    def test_a_job_that_is_too_large_is_refused_by_its_index(self, store):
        large = make_job("large", env={f"V{at}": "x" * 100_000 for at in range(41)})
        with pytest.raises(InvalidInput, match=r"'large' takes 4,1.* bytes") as refused:
            store.add([make_job("a"), large])
        assert refused.value.index == 1
        assert list(store.find()) == []
        with pytest.raises(InvalidInput, match="takes"):
            store.check_size(large)

    def test_one_live_job_has_a_key(self, store):
        for state in STATES:
            store.add([make_job(state, state=state, unique=state)])
        for state in STATES:
            if state in LIVE:
                with pytest.raises(KeyTaken, match=f"'{state}' with the unique key .* {state}"):
                    store.add([make_job("x"), make_job("y", unique=state)])
            else:
                store.add([make_job(f"new-{state}", unique=state)])
                with pytest.raises(KeyTaken, match=f"job 'new-{state}'"):
                    put(store, make_job(state, unique=state, rev=2))
                put(store, make_job(f"new-{state}", state="completed", unique=state, rev=2))
                put(store, make_job(state, unique=state, rev=2))
        assert store.get("x") is None
        twins = [make_job(name, state="dead", unique="t") for name in ("one", "two")]
        store.add(twins)
        with pytest.raises(KeyTaken, match="'one' with"):
            store.change(["one", "two"], lambda job: job._replace(state="pending", rev=2))
        assert store.get("one").state == "dead"

    def test_the_caller_decides_where_a_new_job_meets_others(self, store, monkeypatch):
        store.add([make_job("a", unique="k"), make_job("done", state="completed", unique="l")])
        met = []

        def replace(index, job, others):
            met.append((index, job.id, names(others)))
            return job._replace(id=others[-1].id, rev=others[-1].rev + 1)

        new = [make_job("b", command="b", unique="k"), make_job("c", unique="l"), make_job("d")]
        store.add([*new, make_job("e", command="e", unique="l")], {}, meet=replace)
        assert met == [(0, "b", ["a"]), (3, "e", ["c"])]
        assert {job.id: job.command for job in store.find()} == {
            **{"a": "b", "done": "true", "c": "e", "d": "true"},
        }
        assert store.counts()["pending"] == 3
        put(store, store.get("a")._replace(state="in_progress", worker="w", rev=3))
        monkeypatch.setattr(staged, "FEW", 1000)  # more than fits into memory
        many = [make_job(f"m{number}", unique=f"{number % 50}") for number in range(100)]
        store.add([*many, make_job("d"), make_job("f", unique="k")], {"d": 100}, meet=self.keep)
        assert store.counts()["pending"] == 52
        assert store.get("f") is None
        store.add([make_job("g", unique="k")], {}, meet=lambda index, job, others: job)
        assert {job.id for job in store.find() if job.unique == "k"} == {"a", "g"}

    @staticmethod
    def keep(index, job, others):
        assert all(other.unique == job.unique or other.id == job.id for other in others)

    def test_a_change_adds_jobs_in_the_same_step(self, store):
        seen = []

        def on_change(pairs, settings):
            assert settings == {"base": 3}
            seen.extend((old.state, new.state) for old, new in pairs)
            return [make_job(f"h-{new.id}-{len(seen)}", priority=-9) for _, new in pairs]

        store.add([make_job("a"), make_job("b")])
        configure(store, {"base": 3})
        store.on_change = on_change
        held = store.claim("w", NOW).job
        assert seen == []
        ended = held._replace(state="completed", rev=held.rev + 1)
        assert store.claim("w", NOW, (held, ended)).job.id == "h-a-1"
        assert store.counts() == {
            **dict.fromkeys(STATES, 0),
            **{"completed": 1, "in_progress": 1, "pending": 1},
        }
        assert not store.claim("w", NOW, (held, ended)).settled
        assert set(seen) == {("in_progress", "completed")}
        changed = store.change(["b", "a"], lambda job: job._replace(rev=9))
        assert set(changed) == {"a", "b"}
        assert seen[-2:] == [("pending",) * 2, ("completed",) * 2]
        assert {job.id[:3] for job in store.find(("pending",))} == {"b", "h-a", "h-b"}
        assert store.claim("v", NOW).job.id.startswith("h-")
        assert sum(store.counts().values()) == 5

        def refuse(pairs, settings):
            raise Conflict("no")

        store.on_change = refuse
        with pytest.raises(Conflict):
            store.change(["b"], lambda job: job._replace(rev=10))
        assert store.get("b").rev == 9

    # -- claim

    def test_nothing_is_claimed_from_an_empty_store(self, store):
        assert store.claim("w", NOW).job is None

    def test_a_claim_is_stored(self, store):
        store.add([make_job("a")])
        got = store.claim("w", NOW).job
        assert (got.id, got.state, got.worker, got.run, got.rev) == ("a", "in_progress", "w", 1, 2)
        assert store.get("a") == got
        assert store.counts()["in_progress"] == 1
        assert store.claim("w2", NOW).job is None

    def test_only_ready_jobs_are_claimed(self, store):
        filled(store)
        store.add([make_job("future", run_at=moment(11))])
        got = [store.claim("w", NOW).job for _ in range(3)]
        assert [job and job.id for job in got] == ["pending", "failed", None]
        assert store.claim("w", moment(11)).job.id == "future"

    def test_jobs_are_claimed_by_priority_then_due_time_then_arrival(self, store):
        store.add(
            [
                make_job("first"),
                make_job("second"),
                make_job("old", run_at=moment(-5)),
                make_job("urgent", priority=-1, run_at=moment(9)),
                make_job("lazy", priority=1, run_at=moment(-99)),
                make_job("z-first-retry", state="failed", run_at=moment(-2)),
            ]
        )
        got = [store.claim("w", NOW).job.id for _ in range(6)]
        assert got == ["urgent", "old", "z-first-retry", "first", "second", "lazy"]

    @pytest.mark.parametrize("aging", [0.0, 7.5])
    def test_jobs_claimed_before_a_job_are_counted_by_kind(self, store, aging):
        dice = random.Random(3)
        rules = [{}, {"tags": ("t",)}, {"tags": ("t", "u"), "lock": ("l",)}]
        jobs = [make_job("j0", state="in_progress", worker="w")]
        for n in range(1, 60):
            how = {"priority": dice.randint(-1, 1), "run_at": moment(dice.randint(-2, 1))}
            odd = {"unique": f"k{n}", "env": {'"state": "pending"': ', "tags": ["x"], '}}
            state = dice.choice(["pending", "failed", "pending", "completed", "dead"])
            jobs.append(make_job(f"j{n}", state=state, **how, **dice.choice(rules), **odd))
        store.add(jobs[:40])
        if hasattr(store, "fold"):
            store.fold()
        store.add(jobs[40:])
        put(store, store.get("j9")._replace(priority=-2, state="pending", rev=2))
        waiting = list(store.find(CLAIMABLE))
        for job in waiting:
            both = store.ahead(job, NOW, aging), ahead_of(job, waiting, NOW, aging)
            assert both[0] or job.run_at > NOW or job.priority < 0
            found, wanted = ([(one.tags, one.lock, n) for one, n in of] for of in both)
            assert sorted(found) == sorted(wanted)

    def test_a_change_of_priority_counts_at_the_next_claim(self, store):
        store.add([make_job("a"), make_job("b")])
        old = store.get("b")
        put(store, old._replace(priority=-1, rev=2))
        assert store.claim("w", NOW).job.id == "b"

    def test_a_clock_that_was_set_back_hides_jobs_until_they_are_due(self, store):
        store.add([make_job("a", run_at=moment(5)), make_job("b", run_at=moment(6), priority=-1)])
        assert store.claim("w", moment(5)).job.id == "a"
        assert store.claim("w", moment(5)).job is None
        assert store.claim("w", moment(4)).job is None
        assert store.claim("w", moment(6)).job.id == "b"

    def test_a_claim_settles_the_job_before(self, store):
        store.add([make_job("a"), make_job("b")])
        held = store.claim("w", NOW).job
        done = held._replace(state="completed", rev=held.rev + 1)
        claim = store.claim("w", NOW, (held, done))
        assert (claim.settled, claim.job.id) == (True, "b")
        assert store.get("a") == done

    def test_the_last_job_is_settled_though_none_follows(self, store):
        store.add([make_job("a")])
        held = store.claim("w", NOW).job
        claim = store.claim("w", NOW, (held, held._replace(state="dead", rev=3)))
        assert (claim.settled, claim.job) == (True, None)
        assert store.counts()["dead"] == 1

    def test_a_job_that_goes_back_can_be_claimed_in_the_same_step(self, store):
        store.add([make_job("a")])
        held = store.claim("w", NOW).job
        claim = store.claim("w", NOW, (held, held._replace(state="pending", rev=3)))
        assert (claim.job.id, claim.job.run, claim.job.rev) == ("a", 2, 4)

    def test_a_finished_job_that_somebody_changed_is_handed_back(self, store):
        store.add([make_job("a"), make_job("b")])
        held = store.claim("w", NOW).job
        newer = lifecycle.cancelled(held, NOW)
        put(store, newer)
        claim = store.claim("w", NOW, (held, held._replace(state="completed", rev=3)))
        assert (claim.job, claim.settled, claim.stored) == (None, False, newer)
        assert store.get("a") == newer
        assert store.get("b").state == "pending"

    def test_a_finished_job_that_is_gone_is_not_settled(self, store):
        store.add([make_job("a"), make_job("b")])
        held = store.claim("w", NOW).job
        assert store.remove([held.id]) == [held]
        claim = store.claim("w", NOW, (held, held._replace(state="completed", rev=3)))
        assert (claim.job, claim.settled, claim.stored) == (None, False, None)
        assert store.get("a") is None

    def test_a_result_that_was_settled_already_is_not_settled_twice(self, store):
        store.add([make_job("a"), make_job("b")])
        held = store.claim("w", NOW).job
        done = held._replace(state="completed", rev=3)
        put(store, done)
        claim = store.claim("w", NOW, (held, done))
        assert (claim.job, claim.settled) == (None, False)
        assert claim.stored in (None, done)

    def test_a_schedule_that_is_due_is_put_off_and_a_copy_is_claimed(self, store):
        store.add([make_job("s", every=60.0, priority=3), make_job("plain", priority=5)])
        copy = store.claim("w", NOW).job
        assert (copy.id[:2], copy.planned, copy.run, copy.worker) == ("s:", moment(), 1, "w")
        assert store.get("s") == make_job(
            **{"job_id": "s", "every": 60.0, "priority": 3, "run_at": moment(60), "rev": 2},
            **{"last": copy.id, "updated_at": NOW},
        )
        assert store.get(copy.id) == copy
        assert store.claim("v", NOW).job.id == "plain"
        assert store.claim("v", moment(61)).job is None, "the copy lives"
        assert [entry["reason"] for entry in store.get("s").history] == ["overlap"]
        done = copy._replace(state="completed", rev=copy.rev + 1)
        again = store.claim("w", moment(121), (copy, done)).job
        assert (again.id[:2], again.planned) == ("s:", moment(120))
        assert again.id != copy.id
        assert store.counts() == {
            **dict.fromkeys(STATES, 0),
            **{"pending": 1, "in_progress": 2, "completed": 1},
        }

    def test_with_aging_a_stream_of_better_jobs_starves_nobody(self, store):
        store.add([make_job("low", priority=5), make_job("paused", priority=-9, tags=("t",))])
        configure(store, {"aging": 2, "paused": ["t"]})
        claimed = []
        for second in range(1, 20):
            store.add([make_job(f"j{second}", priority=-1, run_at=moment(second))])
            claimed.append(store.claim("w", moment(second)).job.id)
        # Six steps of priority are worth 12 seconds; of two that tie the one due first is claimed.
        assert claimed == [
            *(f"j{n}" for n in range(1, 12)),
            "low",
            *(f"j{n}" for n in range(12, 19)),
        ]
        configure(store, {"paused": ["t"]})
        store.add([make_job("old", priority=3, run_at=moment(-99)), make_job("new", priority=2)])
        assert [store.claim("w", moment(20)).job.id for _ in range(2)] == ["j19", "new"]

    def test_with_aging_jobs_are_claimed_in_the_order_of_its_rule(self, store):
        dice = random.Random(7)
        jobs = [
            make_job(f"j{n}", priority=dice.randint(-4, 4), run_at=moment(dice.randint(-30, 12)))
            for n in range(60)
        ]
        store.add([job._replace(state=dice.choice(["pending", "failed"])) for job in jobs])
        configure(store, {"aging": 7.5})
        due = sorted((j for j in jobs if j.run_at <= NOW), key=lambda job: claim_order(job, 7.5))
        assert [store.claim("w", NOW).job.id for _ in due] == names(due)
        assert store.claim("w", NOW).job is None

    # -- change

    def test_change_puts_the_new_for_the_old(self, store):
        jobs = filled(store)
        for state in STATES:
            old = jobs[state]
            new = old._replace(rev=2, command="new", error="why")
            put(store, new, promised=state != "failed")
            assert store.get(state) == new
        assert store.counts() == dict.fromkeys(STATES, 1)

    @pytest.mark.parametrize("after", STATES)
    @pytest.mark.parametrize("before", STATES)
    def test_a_job_moves_from_any_state_to_any_other(self, store, before, after):
        old = make_job("a", state=before)
        store.add([old, make_job("other")])
        new = old._replace(state=after, rev=2)
        put(store, new)
        assert [job for job in store.find() if job.id == "a"] == [new]
        assert names(store.find([after])).count("a") == 1
        assert sum(store.counts().values()) == 2

    def test_a_change_of_many_is_one_of_all_or_of_none(self, store):
        jobs = [make_job(job_id) for job_id in "abc"]
        store.add(jobs)

        def refuse_c(job):
            if job.id == "c":
                raise Conflict("not c")
            return job._replace(rev=2, command="mine")

        with pytest.raises(Conflict, match="not c"):
            store.change(["a", "b", "c"], refuse_c)
        with pytest.raises(NoSuchJob):
            store.change(["a", "nobody"], refuse_c)
        assert list(store.find()) == jobs
        assert list(store.change(["b", "a"], refuse_c)) == ["b", "a"]
        assert [job.command for job in store.find()] == ["mine", "mine", "true"]

    def test_a_change_of_no_job_changes_nothing(self, store):
        assert store.change([], lambda job: job) == {}

    def test_a_rule_may_leave_jobs_as_they_are(self, store):
        store.add([make_job("a"), make_job("b")])
        newer = make_job("b", rev=2, command="new")
        rule = {"a": None, "b": newer}.get
        assert store.change(["a", "b", "a"], lambda job: rule(job.id)) == {"b": newer}
        assert list(store.find()) == [make_job("a"), newer]

    def test_many_changes_at_once(self, store):
        jobs = [make_job(f"j{number}") for number in range(60)]
        store.add(jobs)
        found = store.change(
            [job.id for job in jobs], lambda job: job._replace(rev=2, state="dead")
        )
        assert names(found.values()) == names(jobs)
        assert store.counts()["dead"] == 60

    # -- remove

    @pytest.mark.parametrize("state", ["completed", "cancelled", "dead"])
    def test_a_removed_job_is_gone_and_its_id_free(self, store, state):
        jobs = filled(store)
        assert store.remove([state]) == [jobs[state]]
        assert store.get(state) is None
        assert state not in names(store.find())
        assert store.counts()[state] == 0
        store.add([make_job(state)])
        assert store.get(state).state == "pending"

    def test_jobs_are_removed_all_or_none_and_some_may_be_spared(self, store):
        jobs = filled(store)
        with pytest.raises(NoSuchJob):
            store.remove(["dead", "nobody"])

        def refuse_dead(job):
            if job.state == "dead":
                raise Conflict("not dead")
            return True

        with pytest.raises(Conflict, match="not dead"):
            store.remove(["completed", "dead"], refuse_dead)
        assert len(list(store.find())) == len(STATES)
        spared = store.remove(["dead", "completed", "dead"], lambda job: job.state != "dead")
        assert spared == [jobs["completed"]]
        assert store.get("dead") == jobs["dead"]
        assert store.get("completed") is None

    # -- selections

    def test_a_selection_is_changed_as_it_is_at_that_moment(self, store):
        store.add([make_job(job_id, tags=("t",) if job_id in "abd" else ()) for job_id in "abcd"])
        put(store, make_job("b", rev=2, state="dead", tags=("t",)))
        tagged = Selection(tags=frozenset({"t"}))

        def mine(job):
            return None if job.id == "d" else job._replace(rev=job.rev + 1, command="mine")

        assert names(store.change(tagged, mine).values()) == ["a", "b"]
        assert [job.command for job in store.find()] == ["mine", "true", "true", "mine"]
        assert names(store.change(tagged._replace(limit=1), mine).values()) == ["a"]
        assert store.change(Selection(ids=frozenset({"x"})), mine) == {}

        def refuse_the_dead(job):
            if job.state == "dead":
                raise Conflict("not the dead")
            return mine(job)

        before = list(store.find())
        with pytest.raises(Conflict, match="not the dead"):
            store.change(tagged, refuse_the_dead)
        assert list(store.find()) == before

    def test_exactly_as_many_jobs_are_changed_or_removed_as_were_said(self, store):
        store.add([make_job(job_id, tags=("t",) if job_id != "c" else ()) for job_id in "abc"])
        tagged = Selection(tags=frozenset({"t"}))

        def mine(job):
            return None if job.id == "a" else job._replace(rev=job.rev + 1, command="mine")

        for count in (0, 2):
            with pytest.raises(OtherJobs, match=f"1 jobs are meant now, not {count}") as refused:
                store.change(tagged, mine, exactly=count)
            assert refused.value.count == 1
            with pytest.raises(OtherJobs):
                store.remove(tagged, lambda job: job.id == "a", exactly=count)
        with pytest.raises(OtherJobs):
            store.change(Selection(ids=frozenset({"x"})), mine, exactly=1)
        assert [job.command for job in store.find()] == ["true"] * 3
        assert names(store.change(tagged, mine, exactly=1).values()) == ["b"]
        assert names(store.remove(tagged, exactly=2)) == ["a", "b"]
        assert store.remove(tagged, exactly=0) == []

    def test_a_selection_is_removed_at_once(self, store):
        jobs = filled(store)
        ended = Selection(ended_by=jobs["dead"].updated_at)
        assert names(store.remove(ended._replace(limit=2))) == ["completed", "cancelled"]
        assert store.remove(ended, lambda job: job.state != "dead") == []
        assert names(store.remove(Selection())) == ["pending", "in_progress", "failed", "dead"]
        assert store.counts() == dict.fromkeys(STATES, 0)

    def test_nothing_is_made_for_a_selection_of_no_job(self, store):
        assert store.change(Selection(), lambda job: job) == {}
        assert store.remove(Selection()) == []
        assert store.exists() is not self.begins_absent

    def test_removing_nothing_changes_nothing(self, store):
        filled(store)
        assert store.remove([]) == []
        assert len(list(store.find())) == len(STATES)

    # -- the gate

    def test_a_paused_job_is_passed_over_until_it_is_resumed(self, store):
        tagged = [make_job(f"g{n}", tags=("gpu", "x"), priority=-1) for n in range(3)]
        store.add([*tagged, make_job("plain"), make_job("later", run_at=moment(20))])
        configure(store, {"paused": ["gpu"]})
        assert store.claim("w", NOW).job.id == "plain"
        assert store.claim("w", NOW).job is None
        put(store, store.get("g1")._replace(tags=("x",), rev=2))
        assert store.claim("w", NOW).job.id == "g1"
        configure(store, {"paused": ["*"]})
        assert store.claim("w", moment(30)).job is None
        put(store, store.get("g0")._replace(priority=5, rev=2))
        configure(store, {"paused": ["y"]})
        order = [store.claim("w", moment(30)).job.id for _ in range(3)]
        assert order == ["g2", "later", "g0"]

    def test_a_limit_counts_what_runs_and_numbers_it(self, store):
        configure(store, {"limits": {"gpu": 2}})
        store.add(make_job(f"g{n}", tags=("gpu",), priority=n) for n in range(4))
        store.add([make_job("plain", priority=9)])
        first, second = (store.claim("w", NOW).job for _ in range(2))
        assert (first.slots, second.slots) == (("gpu#0",), ("gpu#1",))
        assert store.claim("w", NOW).job.id == "plain"
        after = lifecycle.settled(first, first, ended(), None, 0.0, NOW)
        third = store.claim("w", NOW, (first, after)).job
        assert (third.id, third.slots, store.get("g0").slots) == ("g2", ("gpu#0",), ())
        assert store.claim("w", NOW).job is None
        assert names(store.find(["in_progress"])) == ["g1", "g2", "plain"]
        configure(store, {"limits": {"gpu": 1}})  # ends nothing
        put(store, lifecycle.lost(second, "w", NOW))
        assert store.claim("w", NOW).job is None
        put(store, lifecycle.settled(third, third, ended(1), lambda: POLICY, 0.0, NOW))
        assert store.claim("w", NOW).job.id == "g1"
        configure(store, {})
        assert store.claim("w", NOW).job.slots == ()
        configure(store, {"limits": {"gpu": 2}})  # both run, one without a number
        assert store.claim("w", moment(99)).job is None

    def test_a_lock_is_held_by_one_running_job_whatever_becomes_of_its_tags(self, store):
        configure(store, {"limits": {"gpu": 1}})
        store.add([make_job("a", lock=("db", "net"), tags=("gpu",)), make_job("b", lock=("db",))])
        store.add([make_job("c", lock=("net",), priority=1), make_job("d", lock=("x",))])
        job = store.claim("w", NOW).job
        assert job.slots == ("gpu#0", "lock/db", "lock/net")
        put(store, job._replace(tags=("other",), rev=job.rev + 1))
        store.add([make_job("e", tags=("gpu",))])
        assert store.claim("w", NOW).job.id == "d"
        assert store.claim("w", NOW).job is None
        put(store, lifecycle.abandoned(store.get("a"), NOW))
        assert [store.claim("w", NOW).job.id for _ in range(3)] == ["b", "e", "c"]

    def test_a_finished_job_is_settled_though_all_is_paused(self, store):
        store.add([make_job("a"), make_job("b")])
        job = store.claim("w", NOW).job
        configure(store, {"paused": ["*"]})
        after = lifecycle.settled(job, job, ended(), None, 0.0, NOW)
        assert store.claim("w", NOW, (job, after)).job is None
        assert store.get("a").state == "completed"

    # -- settings and the rest

    def test_settings_are_replaced_as_a_whole(self, store):
        configure(store, {"base": 3, "inherit-env": ["A"], "x-later": {"k": None}})
        assert dict(store.settings()) == {"base": 3, "inherit-env": ["A"], "x-later": {"k": None}}
        configure(store, {"jitter": 0.5})
        assert dict(store.settings()) == {"jitter": 0.5}

    def test_settings_that_somebody_changed_first_are_left_alone(self, store):
        old = dict(store.settings())
        assert store.change_settings(old, {"base": 3})
        assert not store.change_settings(old, {"jitter": 0.5})
        assert dict(store.settings()) == {"base": 3}

    def test_settings_leave_the_jobs_alone(self, store):
        store.add([make_job("a")])
        configure(store, {"base": 3})
        assert names(store.find()) == ["a"]

    def test_the_clock_does_not_go_back(self, store):
        assert store.now() <= store.now()

    def test_waiting_ends(self, store):
        store.wait(0.0)
        store.wait(0.001)

    # -- watch

    def test_a_watch_shows_the_queue(self, store):
        jobs = filled(store)
        store.add([make_job("later", priority=-1, run_at=moment(99), tags=("t", "u"))])
        configure(store, {"base": 3})
        store.release(store.register("w-1", os.getpid(), "1", "b"))
        watch = store.watch()
        assert watch.summary().counts == store.counts()
        assert (watch.summary().workers, watch.workers()) == ([], [])
        assert (dict(watch.settings()), list(watch.jobs())) == ({"base": 3}, list(store.find()))
        glance = watch.glance()
        assert names(glance.newest({"pending", "completed"}, "", 2)) == ["later", "completed"]
        assert names(glance.newest(None, "la", 9)) == ["later"]
        assert names(glance.next_claimed(NOW, 1)) == ["pending"]
        assert names(glance.latest("created_at", 1)[0]) == ["pending"]
        assert [glance.latest("updated_at", most)[1] for most in (6, 7)] == [False, True]
        assert names(glance.holding({"failed", "dead"}, "FAIL")) == ["failed"]
        assert glance.present({"dead", "nobody"}) == {"dead": jobs["dead"]}
        assert glance.present({*jobs, "nobody"}) == jobs
        glance.close()
        peek = watch.peek()
        (seen,) = peek.newest({"failed"}, "f", 5)
        assert (seen.id, seen.state, seen.command) == ("failed", "failed", jobs["failed"].command)
        assert peek.tags() == ["t", "u"]
        peek.close()
        watch.close()

    def test_a_watch_tells_what_changes(self, store, wait_until):
        store.add([make_job("a"), make_job("b")])
        watch = store.watch()
        known = {}

        def catch_up(ids=None):
            changes = watch.changes(ids)
            if changes is None:
                known.clear()
                changes = [(job.id, job) for job in watch.jobs()]
            known.update(changes)
            return known

        wait_until(lambda: catch_up() == {"a": make_job("a"), "b": make_job("b")} == catch_up())
        wait_until(lambda: watch.changes() == [])
        before, newer = watch.mark(), make_job("a", rev=2, command="new", state="dead")
        assert watch.mark() == before
        put(store, newer)
        store.remove(["b"])
        now = [newer, None, make_job("c")]
        store.add(now[2:])
        wait_until(lambda: [known.get(job_id) for job_id in "abc" if catch_up()] == now)
        assert watch.mark() != before
        put(store, make_job("c", rev=2))
        put(store, make_job("a", rev=3))
        known.clear()
        wait_until(lambda: "c" in catch_up(["c"]))
        watch.close()

    # -- workers

    def test_a_worker_is_seen_with_what_it_notes(self, store):
        assert store.workers() == []
        slot = store.register("w-1", os.getpid(), "12", "boot")
        assert slot.id == "w-1"
        assert slot.still_held()
        assert slot.crowd() == 1
        assert not slot.sees_lost()
        slot.note_run("a", 2, 77, "99")
        slot.note_facts(stopping=1)
        slot.note_trouble("100 % odd: ä")
        (worker,) = store.workers()
        assert (worker.id, worker.pid, worker.start_time) == ("w-1", os.getpid(), "12")
        assert (worker.alive, worker.missing, worker.boot_id) == (True, False, "boot")
        assert (worker.job_id, worker.run, worker.group_pid) == ("a", 2, 77)
        assert worker.facts["stopping"] == "1"
        assert worker.trouble == "100 % odd: ä"
        assert [here.id for here in store.workers(here=True)] == ["w-1"]
        assert (slot.declared, slot.asked, slot.patience >= 1) == (False, "", True)
        if slot.note_end("a", 2, ("exited", 3, "why it failed", NOW)):  # a rescue sees that
            assert store.workers()[0].end == ("a", 2, "exited", 3, "why it failed", NOW)
        slot.clear_run()
        slot.note_trouble("")
        (worker,) = store.workers()
        assert (worker.job_id, worker.trouble) == (None, "")
        store.release(slot)
        assert store.workers() == []

    def test_a_worker_that_lets_go_without_leave_is_lost(self, store):
        lost, other = (store.register(name, os.getpid(), "1", "b") for name in ("w-1", "w-2"))
        assert not store.forget_worker("w-1"), "it lives"
        store.note_lost("w-1", left="1:me:sleep")
        lost.close()
        assert {worker.id: worker.alive for worker in store.workers()} == {
            "w-1": False,
            "w-2": True,
        }
        store.note_lost("w-1", left="2:me:sleep")
        assert [worker.left for worker in store.workers()] == [[(2, "me", "sleep")], []]
        assert store.forget_worker("w-1")
        assert [worker.id for worker in store.workers()] == ["w-2"]
        assert store.forget_worker("w-1"), "again is harmless"
        store.release(other)

    def test_a_worker_that_was_struck_off_can_tell_why(self, store):
        slot = store.register("w-1", os.getpid(), "1", "b")
        slot.close()
        assert store.forget_worker("w-1")
        assert not slot.still_held()
        assert "given up" in slot.why_gone()

    def test_one_worker_keeps_watch(self, store):
        slots = [store.register(f"w-{number}", os.getpid(), "1", "b") for number in range(2)]
        assert [slot.keep_watch() for slot in slots] == [True, False]
        assert [slot.on_watch for slot in slots] == [True, False]
        slots[1].leave_watch()
        assert not slots[1].keep_watch()
        slots[0].leave_watch()
        assert slots[1].keep_watch()
        for slot in slots:
            store.release(slot)

    def test_a_job_of_an_unknown_worker_has_an_orphan(self, store):
        store.add([make_job("a")])
        assert store.orphans() == []
        slot = store.register("w-1", os.getpid(), "1", "b")
        store.claim("w-1", NOW)
        assert store.orphans() == []
        store.release(slot)
        assert [(one.id, one.alive, one.missing) for one in store.orphans()] == [
            ("w-1", False, True)
        ]
        assert store.orphans(1) == []

    def test_workers_are_woken(self, store):
        slots = [store.register(f"w-{number}", os.getpid(), "1", "b") for number in range(3)]
        slots[0].note_run("a", 1, 77, "99")

        def heard():
            ready, _, _ = select.select([slot.wake_fd for slot in slots], [], [], 0.0)
            return [os.read(slot.wake_fd, 9) if slot.wake_fd in ready else b"" for slot in slots]

        assert heard() == [b"", b"", b""]
        store.wake()
        assert heard() == [WAKE] * 3
        store.wake(CANCEL, "w-1")
        assert heard() == [b"", CANCEL, b""]
        store.wake_idle(1)
        assert sorted(heard()) == [b"", b"", WAKE]
        store.wake_idle(5)
        assert heard() == [b"", WAKE, WAKE], "the first one is busy"
        store.wake(WAKE, "w-gone")
        for slot in slots:
            store.release(slot)

    # -- the run that goes on, and the next one

    def test_the_present_form_of_a_run(self, store):
        store.add([make_job("a")])
        job = store.claim("w", NOW).job
        assert store.present(job) == job
        asked = lifecycle.cancelled(job, NOW)
        put(store, asked)
        assert store.present(job) == asked
        put(store, lifecycle.abandoned(asked, NOW))
        assert store.present(job) != job
        store.remove([job.id])
        assert store.present(job) is None

    def test_when_the_next_job_is_due(self, store):
        assert store.claim("w", NOW).job is None
        assert store.next_due() is None
        later = format_time(store.now() + 1000)
        store.add([make_job("b", run_at=later), make_job("c", state="dead")])
        assert 990 < store.next_due() <= 1000
        store.add([make_job("a", run_at=format_time(store.now() - 1))])
        assert store.next_due() == 0

    # -- the whole

    def test_it_exists_once_it_was_made(self, store):
        assert store.exists() is not self.begins_absent
        store.make()
        assert store.exists()
        store.make()
        assert store.identity() == store.identity()
        assert not set(" \n") & set(store.identity())
        assert store.notices == []

    def test_due_work_can_be_done_at_any_time(self, store):
        filled(store)
        store.sync()
        store.fold()
        store.fold_if_due(busy=True)
        store.fold_if_due()
        assert store.fold_due_in() is None
        store.tidy()
        assert store.counts() == dict.fromkeys(STATES, 1)

    def test_a_backup_brings_everything_back(self, store):
        if store.archive is None:
            pytest.skip("this store has no backups")
        filled(store)
        store.remove(["in_progress"])
        configure(store, {"base": 3})
        jobs, lines = list(store.find()), list(store.archive.backup())
        backup = read_backup(BytesIO(b"".join(lines)), "it")
        assert (backup.jobs, backup.settings) == (jobs, {"base": 3})
        content = (backup.jobs, backup.settings, backup.env_sets)
        with pytest.raises(Conflict):
            store.archive.refill(*content, replace=False)
        store.remove(["completed"])
        store.add([make_job("new")])
        store.archive.refill(*content, replace=True)
        assert {job.id: job.state for job in store.find()} == {job.id: job.state for job in jobs}
        assert dict(store.settings()) == {"base": 3}
