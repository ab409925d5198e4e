"""What a saved job file changes, against every version that its editor may have read.

Jobs change in versions 1, 2, ... 9 (the present one), each folded an hour after the one before.
"""

from __future__ import annotations

import json
import random

import pytest
from samples import START, make_job, moment

from queuectl.model.job import job_from_person
from queuectl.store.edits import decision
from queuectl.store.edits.decision import History, Mistake, Past, SavedFile, decide
from queuectl.store.edits.decision import Saved as SavedJob
from queuectl.store.files.job_files import decode_job, encode_job, removal_line, rev_and_sum

HOUR, NOW = 3600, 9
PRESENT = START + 20 * HOUR
TIMES = {"created_at", "updated_at", "run_at"}


class Queue:
    """A queue's forms by version, as folds would note them."""

    def __init__(self, since=1, folded=range(2, NOW + 1)):
        self.forms, self.present, self.by_hand = {}, {}, set()
        self.since, self.folded = since, [(version, START + version * HOUR) for version in folded]

    def has(self, job_id, *forms, by_hand=()):
        """`forms`: version, and the job as it was from then on; None: it was gone."""
        self.forms[job_id] = forms
        self.by_hand |= {(job_id, version) for version in by_hand}
        last = forms[-1][1]
        if last is not None:
            self.present[job_id.encode()] = encode_job(last)
        return last

    def history(self):
        past = {}
        for job_id, forms in self.forms.items():
            before = None
            for version, job in forms:
                if version > max(self.since, 1):
                    old = (0, 0) if before is None else rev_and_sum(encode_job(before))
                    dead = before is not None and before.state == "dead"
                    by_hand = (job_id, version) in self.by_hand
                    past.setdefault(job_id.encode(), []).append(Past(version, dead, *old, by_hand))
                before = job
        return History(self.since, self.folded, past)

    def saved(self, *jobs, dead=False, at=PRESENT, spell=lambda form: form):
        """The file as a person saved it: jobs, or the objects that they wrote."""
        saved = []
        for number, job in enumerate(jobs):
            form = job if isinstance(job, dict) else json.loads(encode_job(job))
            form = spell(form)
            state = "dead" if dead else "pending"
            read = job_from_person(form, now=moment(99 * HOUR), state=state)
            saved.append(SavedJob(number, read, TIMES & form.keys()))
        return SavedFile(dead, at, saved)

    def decide(self, *files):
        return decide(self.present, self.history(), NOW, files, moment(20 * HOUR))

    def edit(self, *jobs, **how):
        return self.decide(self.saved(*jobs, **how))


def changed(edit):
    """The jobs that the edit puts in place, by id; None: removed."""
    lines = {job_id.decode(): line for job_id, line in edit.lines.items()}
    return {
        job_id: None if b'"removed"' in line else decode_job(line) for job_id, line in lines.items()
    }


@pytest.fixture
def queue():
    return Queue()


def done(job, **fields):
    return job._replace(state="completed", rev=job.rev + 2, run=1, **fields)


# -- a job that stands in the file


def test_an_untouched_file_changes_nothing(queue):
    a, b = queue.has("a", (1, make_job("a"))), queue.has("b", (3, make_job("b")))
    for layout in (dict, lambda form: dict(sorted(form.items())), lambda form: {**form, "run": 0}):
        assert queue.edit(a, b, spell=layout) == ({}, [], {})


def test_a_difference_to_the_present_form_is_the_edit(queue):
    a = queue.has("a", (1, make_job("a")), (2, make_job("a", rev=4, attempts=1, state="failed")))
    edit = queue.edit(a._replace(command="new", extra={"note": 1}))
    assert changed(edit) == {"a": a._replace(command="new", extra={"note": 1}, rev=5)}
    assert (edit.told, edit.undecided) == ([], {})


def test_an_untouched_older_form_leaves_the_present_one(queue):
    old = make_job("a", env={"B": "2", "A": "1"}, extra={"z": 1, "y": [1]})
    queue.has("a", (2, old), (5, done(old)))
    assert queue.edit(old) == ({}, [], {})
    assert queue.edit(old, spell=lambda form: dict(sorted(form.items()))) == ({}, [], {})


def test_an_untouched_job_that_is_gone_stays_gone(queue):
    old = make_job("a")
    queue.has("a", (2, old), (5, None))
    queue.has("b", (1, make_job("b")))
    assert queue.edit(old, make_job("b")) == ({}, [], {})


def test_a_job_that_both_changed_keeps_the_form_of_the_queue_and_is_told(queue):
    old = make_job("a")
    queue.has("a", (2, old), (5, done(old)))
    edit = queue.edit(old._replace(priority=7))
    assert (edit.lines, edit.told) == ({}, [decision.FIRST.format("a")])


def test_a_changed_job_that_is_gone_is_not_put_back_and_told(queue):
    old = make_job("a")
    queue.has("a", (2, old), (5, None))
    edit = queue.edit(old._replace(priority=7))
    assert (edit.lines, edit.told) == ({}, [decision.GONE.format("a")])


def test_a_rev_of_which_nothing_is_known_sets_the_edit_aside(queue):
    queue.has("a", (1, make_job("a", rev=4)))
    queue.has("b", (1, make_job("b")))
    edit = queue.edit(make_job("a", rev=2), make_job("b", priority=3))
    assert edit.lines == {}
    assert edit.undecided == {False: "it has rev 2 of job 'a', of which nothing is known"}
    assert queue.edit(make_job("a", rev=9)).undecided  # copied from another job
    assert queue.edit({"id": "a", "command": "true"}).undecided  # without a rev it is 1


def test_a_new_job_is_added_as_it_is_written(queue):
    queue.has("a", (1, make_job("a")))
    copied = make_job("n", rev=7, state="completed", run=3)
    edit = queue.edit(make_job("a"), {"id": "m", "command": "x"}, copied)
    assert changed(edit)["n"] == copied
    assert (changed(edit)["m"].rev, changed(edit)["m"].state) == (1, "pending")


def test_a_job_that_may_have_been_removed_long_ago_sets_the_edit_aside():
    queue = Queue(since=7, folded=(8, 9))
    a = queue.has("a", (1, make_job("a")), (8, make_job("a", rev=3)))
    gone, before = make_job("gone"), START + 7.5 * HOUR
    assert queue.edit(make_job("a", rev=1), gone, at=before).undecided == {
        False: "job 'gone' is not known any more"
    }
    written = {"id": "gone", "command": "true"}
    assert set(changed(queue.edit(make_job("a"), written, at=before))) == {"gone"}
    late = make_job("gone", created_at=moment(8.5 * HOUR))
    assert set(changed(queue.edit(a, late, at=before))) == {"gone"}
    assert set(changed(queue.edit(a, gone))) == {"gone"}  # saved long after the last fold


def test_the_form_of_an_id_that_was_used_again_is_not_taken_for_the_new_job(queue):
    old, new = make_job("a"), make_job("a", command="new", created_at=moment(HOUR))
    queue.has("a", (1, old), (3, None), (5, new))
    assert queue.edit(old) == ({}, [], {})
    edit = queue.edit(old._replace(priority=3))
    assert (edit.lines, edit.told) == ({}, [decision.FIRST.format("a")])
    assert changed(queue.edit(new._replace(priority=3)))["a"].command == "new"


def test_a_second_save_without_a_second_read_edits_the_form_before_the_first(queue):
    old = make_job("a")
    first = old._replace(priority=5, rev=2)
    queue.has("a", (2, old), (6, first), by_hand=[6])
    assert queue.edit(old._replace(priority=5)) == ({}, [], {})
    assert changed(queue.edit(old._replace(priority=6))) == {"a": old._replace(priority=6, rev=3)}
    queue.has("b", (2, make_job("b")))
    assert changed(queue.edit(make_job("b"))) == {"a": None}  # its own edit did not make it new


# -- state and running jobs


@pytest.mark.parametrize("state", ["failed", "dead", "completed", "cancelled"])
def test_the_state_pending_is_a_retry(queue, state):
    dead = state == "dead"
    a = queue.has("a", (1, make_job("a", state=state, attempts=4, losses=1, run=4, rev=9)))
    edit = queue.edit(a._replace(state="pending", priority=2), dead=dead)
    job = changed(edit)["a"]
    assert (job.state, job.rev, job.run, job.priority) == ("pending", 10, 4, 2)
    assert job.attempts == (4 if state == "failed" else 0)
    assert job.run_at == moment(20 * HOUR)
    later = queue.edit(a._replace(state="pending", run_at=moment(HOUR)), dead=dead)
    assert changed(later)["a"].run_at == moment(HOUR)


@pytest.mark.parametrize("state", ["pending", "failed", "in_progress"])
def test_the_state_cancelled_is_a_cancel(queue, state):
    a = queue.has("a", (1, make_job("a", state=state, worker="w", run=1)))
    job = changed(queue.edit(a._replace(state="cancelled")))["a"]
    if state == "in_progress":
        assert (job.state, job.cancel_requested, job.worker) == ("in_progress", True, "w")
    else:
        assert (job.state, job.error) == ("cancelled", "cancelled")


@pytest.mark.parametrize(
    ("state", "wanted"),
    [
        *(("pending", wanted) for wanted in ("in_progress", "completed", "failed", "dead")),
        *(("in_progress", wanted) for wanted in ("pending", "completed", "dead")),
        *(("completed", wanted) for wanted in ("cancelled", "dead", "in_progress")),
        ("dead", "cancelled"),
    ],
)
def test_another_state_is_a_mistake(queue, state, wanted):
    a = queue.has("a", (1, make_job("a", state=state, worker="w")))
    with pytest.raises(Mistake, match=f"job 'a' is {state}: cannot") as caught:
        queue.edit(a._replace(state=wanted), dead=state == "dead")
    assert (caught.value.dead, caught.value.at) == (state == "dead", 0)


def test_a_running_job_is_changed_as_update_could(queue):
    a = queue.has("a", (1, make_job("a", state="in_progress", worker="w", run=2, rev=3)))
    edit = queue.edit(a._replace(priority=9, extra={"note": 1}))
    assert changed(edit) == {"a": a._replace(priority=9, extra={"note": 1}, rev=4)}
    assert edit.told == []
    edit = queue.edit(a._replace(priority=9, command="other", worker="x", run=7))
    assert changed(edit) == {"a": a._replace(priority=9, rev=4)}
    assert edit.told == [decision.RUNS_ON.format("a")]


def test_the_number_of_runs_never_falls(queue):
    a = queue.has("a", (1, make_job("a", run=3)))
    assert changed(queue.edit(a._replace(run=0, priority=1)))["a"].run == 3


# -- a job that is missing in the file


def test_a_job_that_was_seen_and_left_out_is_removed(queue):
    a = queue.has("a", (2, make_job("a")), (5, make_job("a", rev=2)))
    queue.has("b", (4, make_job("b", state="completed")))
    edit = queue.edit(a)
    assert edit.lines == {b"b": removal_line("b", "completed")}
    assert edit.told == []


def test_a_job_that_was_born_after_the_version_that_was_read_stays(queue):
    old = make_job("a")
    queue.has("a", (2, old), (5, done(old)))  # the file was read before version 5
    queue.has("b", (5, make_job("b")))
    queue.has("c", (7, make_job("c")))
    assert queue.edit(old) == ({}, [], {})


def test_a_job_that_may_have_been_born_too_late_stays_and_is_told(queue):
    old = make_job("a")
    queue.has("a", (2, old), (8, done(old)))  # it was read in version 2 to 7
    queue.has("b", (5, make_job("b")))
    edit = queue.edit(old)
    assert (edit.lines, edit.told) == ({}, [decision.UNSEEN.format("b")])
    queue.has("x", (1, make_job("x")), (6, make_job("x", rev=2)))
    edit = queue.edit(old, make_job("x", rev=2))  # in version 6 or 7
    assert changed(edit) == {"b": None}


def test_a_job_that_changed_since_it_was_seen_stays_and_is_told(queue):
    old, other = make_job("a"), make_job("b")
    queue.has("a", (2, old), (5, done(old)))
    queue.has("b", (2, other), (7, done(other)))
    edit = queue.edit(old)
    assert (edit.lines, edit.told) == ({}, [decision.FIRST.format("b")])


def test_a_running_job_that_is_left_out_stays_and_is_told(queue):
    queue.has("a", (2, make_job("a", state="in_progress", worker="w")))
    edit = queue.edit()
    assert (edit.lines, edit.told) == ({}, [decision.RUNS.format("a")])


@pytest.mark.parametrize(("minutes", "removed"), [(9, False), (11, True)])
def test_a_file_without_evidence_was_read_ten_minutes_before_it_was_saved(queue, minutes, removed):
    queue.has("a", (2, make_job("a")))
    newest = queue.has("b", (9, make_job("b")))
    at = START + 9 * HOUR + minutes * 60
    for file in ((make_job("a"),), ()):
        edit = queue.edit(*file, at=at)
        assert (edit.lines.get(b"b") is not None) is removed
        assert edit.told == ([] if removed else [decision.UNSEEN.format("b")])
    assert newest.rev == 1


def test_a_clock_that_was_set_back_removes_nothing_that_may_not_have_been_seen(queue):
    queue.folded = [(version, START - version * HOUR) for version, _ in queue.folded[:-2]]
    queue.folded += [(8, START + 90 * HOUR), (9, START + HOUR)]
    queue.has("a", (2, make_job("a")))
    queue.has("b", (9, make_job("b")))
    edit = queue.edit(at=START + 2 * HOUR)
    assert changed(edit) == {"a": None}
    assert edit.told == [decision.UNSEEN.format("b")]


def test_without_any_notes_only_a_later_edit_removes_a_job():
    queue = Queue(since=NOW, folded=[NOW])
    queue.has("a", (1, make_job("a")))
    assert queue.edit(at=START + 9 * HOUR + 60).told == [decision.UNSEEN.format("a")]
    assert changed(queue.edit()) == {"a": None}


def test_contradictory_revs_remove_nothing_between(queue):
    old, other = make_job("a"), make_job("b", rev=2)
    queue.has("a", (2, old), (4, done(old)))  # read before version 4
    queue.has("b", (2, make_job("b")), (7, other))  # and yet in version 7 or later
    queue.has("c", (5, make_job("c")))
    queue.has("d", (2, make_job("d")))
    edit = queue.edit(old, other)
    assert changed(edit) == {"d": None}
    assert edit.told == [decision.UNSEEN.format("c")]


# -- both files


def test_a_job_is_moved_by_two_edits_in_whichever_order(queue):
    d = queue.has("d", (2, make_job("d", state="dead", attempts=4, rev=5)))
    moved = d._replace(state="pending")
    pasted = changed(queue.edit(moved))
    assert (pasted["d"].state, pasted["d"].attempts, pasted["d"].rev) == ("pending", 0, 6)
    assert queue.edit(d) == ({}, [], {})  # still dead: it goes back to where it was

    assert changed(queue.edit(dead=True)) == {"d": None}
    queue.has("d", (2, d), (9, None), by_hand=[9])
    del queue.present[b"d"]
    pasted = changed(queue.edit(moved))
    assert (pasted["d"].state, pasted["d"].attempts) == ("pending", 0)
    assert changed(queue.edit(d))["d"].state == "dead"


def test_a_job_that_died_since_jobs_json_was_read_is_not_a_twin(queue):
    old = make_job("a")
    dead = done(old)._replace(state="dead")
    queue.has("a", (2, old), (5, dead))
    assert queue.edit(old) == ({}, [], {})
    assert queue.decide(queue.saved(old), queue.saved(dead, dead=True)) == ({}, [], {})
    both = queue.decide(queue.saved(old), queue.saved(dead._replace(priority=4), dead=True))
    assert changed(both)["a"] == dead._replace(priority=4, rev=dead.rev + 1)


def test_a_job_in_both_files_that_differs_is_a_mistake(queue):
    a = queue.has("a", (1, make_job("a")))
    with pytest.raises(Mistake, match=r"'a' occurs twice, in jobs\.json and dlq\.json"):
        queue.decide(
            queue.saved(a._replace(priority=1)), queue.saved(a._replace(priority=2), dead=True)
        )


def test_a_job_that_one_file_lost_and_the_other_holds_is_not_removed(queue):
    d = queue.has("d", (2, make_job("d", state="dead")))
    edit = queue.decide(queue.saved(d._replace(state="pending")), queue.saved(dead=True))
    assert changed(edit)["d"].state == "pending"


def test_one_file_that_cannot_be_decided_keeps_nothing_from_the_other(queue):
    queue.has("a", (1, make_job("a", rev=5)))
    d = queue.has("d", (1, make_job("d", state="dead")))
    edit = queue.decide(
        queue.saved(make_job("a", rev=2)), queue.saved(d._replace(priority=3), dead=True)
    )
    assert list(edit.undecided) == [False]
    assert changed(edit)["d"].priority == 3


def test_only_a_few_names_are_told(queue):
    names = [f"j{number}" for number in range(8)]
    for name in names:
        queue.has(name, (2, make_job(name, state="in_progress", worker="w")))
    assert queue.edit().told == [decision.RUNS.format("j0, j1, j2, j3, j4 and 3 more")]


def test_a_job_under_another_id_was_seen(queue):
    queue.has("a", (2, make_job("a")))
    b = queue.has("b", (9, make_job("b", command="b")))
    at = START + 9 * HOUR + 60
    edit = queue.edit(make_job("a"), b._replace(id="c"), at=at)
    assert changed(edit) == {"b": None, "c": b._replace(id="c")}
    edit = queue.edit(make_job("a"), b._replace(id="c", priority=1), at=at)
    assert edit.told == [decision.UNSEEN.format("b")]


def test_a_job_that_was_added_by_hand_shows_nothing_of_the_version_that_was_read(queue):
    a = queue.has("a", (2, make_job("a")), (4, make_job("a", rev=2)))
    added = queue.has("n", (7, make_job("n")), by_hand=[7])
    queue.has("b", (6, make_job("b")))
    edit = queue.edit(a, added, at=START + 6.1 * HOUR)  # it was read in version 4 or later
    assert (edit.lines, edit.told) == ({}, [decision.UNSEEN.format("b")])


LINES = [
    b'{"id": "a", "state": "pending", "priority": 0, "run_at": "x", "command": "echo, \\"b\\", c"}',
    b'{"id": "a", "state": "pending", "priority": 0, "run_at": "x", "command": "a, ", "rev": 7}',
    b'{"id": "a", "state": "pending", "command": "{\\"rev\\": 5}", "rev": 3, "tags": ["x", "y"]}',
    b'{"id": "a", "state": "pending", "command": "x", "env": {"A": "1", "B": "2"}, "rev": 2}',
]


@pytest.mark.parametrize("line", LINES)
def test_a_form_is_known_again_in_any_order_of_its_keys(line):
    form, dice = json.loads(line), random.Random(7)
    for _ in range(20):
        keys = dice.sample(sorted(form), len(form))
        again = json.dumps({key: form[key] for key in keys}, ensure_ascii=False).encode()
        assert rev_and_sum(again) == rev_and_sum(line)
    assert rev_and_sum(line)[0] == form.get("rev", 1)
    for key, value in form.items():
        other = {**form, key: [value] if isinstance(value, (list, dict)) else f"{value}{value}"}
        assert rev_and_sum(json.dumps(other).encode())[1] != rev_and_sum(line)[1]
