"""The index of live jobs: the right job at the right time, whatever was put in."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from samples import make_job, moment

from queuectl.model.claim_order import claim_order, is_ready
from queuectl.model.dependencies import unmet
from queuectl.model.fields import STATES
from queuectl.model.gate import full, gate_of, holders, paused_by, slots_for
from queuectl.store.files import live_index
from queuectl.store.files.job_files import encode_job, line_id, removal_line
from queuectl.store.files.live_index import LiveIndex


def line(job_id, **fields):
    return encode_job(make_job(job_id, **fields))


def first(index, seconds=0.0):
    found = index.first_ready(moment(seconds).encode())
    return found and line_id(found).decode()


def test_finished_jobs_weigh_nothing():
    index = LiveIndex(line(f"{state}{n}", state=state) for state in STATES for n in range(3))
    assert {line_id(kept).decode() for kept in index.lines.values()} == {
        f"{state}{n}" for state in ("pending", "in_progress", "failed") for n in range(3)
    }
    index.put(line("pending0", state="completed"))
    index.put(removal_line("pending1", "pending"))
    assert b"pending0" not in index.lines
    assert b"pending1" not in index.lines


def test_asking_takes_nothing_away():
    index = LiveIndex([line("a"), line("b")])
    assert [first(index) for _ in range(3)] == ["a"] * 3


def test_ties_go_by_arrival():
    index = LiveIndex([line("z"), line("a")])
    index.put(line("m"))
    order = []
    while (job_id := first(index)) is not None:
        order.append(job_id)
        index.put(line(job_id, state="completed"))
    assert order == ["z", "a", "m"]


def test_a_newer_line_counts_and_the_older_does_not():
    index = LiveIndex([line("a", priority=-5), line("b")])
    index.put(line("a", priority=5))
    assert first(index) == "b"
    index.put(line("a", priority=-5, run_at=moment(9)))
    assert first(index) == "b"
    assert first(index, 9) == "a"


def test_a_clock_set_back_puts_jobs_off_again():
    index = LiveIndex([line("a", run_at=moment(5), priority=-1), line("b", run_at=moment(1))])
    assert first(index, 5) == "a"
    assert first(index, 1) == "b"
    assert first(index, 0) is None
    assert index.next_due() == moment(1).encode()
    assert first(index, 6) == "a"


def test_the_next_due_time_skips_what_is_stale():
    index = LiveIndex([line("a", run_at=moment(5)), line("b", run_at=moment(7))])
    assert index.next_due() == moment(5).encode()
    index.put(line("a", state="cancelled", run_at=moment(5)))
    assert index.next_due() == moment(7).encode()
    index.put(line("b", state="in_progress", run_at=moment(7)))
    assert index.next_due() is None


CHANGE = st.tuples(
    st.sampled_from("abcde"),
    st.sampled_from([*STATES, "removed"]),
    st.integers(-1, 1),
    st.integers(0, 5),
)


@settings(max_examples=200)
@given(base=st.lists(CHANGE), changes=st.lists(CHANGE), nows=st.lists(st.integers(-1, 6)))
def test_it_agrees_with_a_plain_sort(base, changes, nows):
    jobs = {
        name: make_job(name, state=state, priority=priority, run_at=moment(due))
        for name, state, priority, due in base
        if state != "removed"
    }
    index = LiveIndex(encode_job(job) for job in jobs.values())
    for number, (name, state, priority, due) in enumerate(changes):
        # No two jobs tie here: their arrival is another test's.
        due_at = moment(due + number / 1000)
        job = make_job(name, state=state, priority=priority, run_at=due_at)
        jobs.pop(name, None)
        if state == "removed":
            index.put(removal_line(name, "pending"))
        else:
            jobs[name] = job
            index.put(encode_job(job))
        for now in nows:
            ready = [job for job in jobs.values() if is_ready(job, moment(now))]
            found = index.first_ready(moment(now).encode())
            assert (found is None) == (not ready)
            if found is not None:
                best = jobs[line_id(found).decode()]
                assert claim_order(best) == claim_order(min(ready, key=claim_order))


def test_entries_that_count_no_more_are_dropped_though_their_time_is_far(monkeypatch):
    monkeypatch.setattr(live_index, "_SPARE", 10)
    index = LiveIndex([line("first", run_at=moment(50))])
    for number in range(100):
        index.put(line(f"j{number}", run_at=moment(100)))
        index.put(line(f"j{number}", state="cancelled"))
    assert len(index._later) + len(index._due) < 20
    assert (first(index, 60), first(index, 40)) == ("first", None)


class Queue:
    """A window of two jobs over a queue, filled anew when it does not reach far enough."""

    def __init__(self, jobs, gate=None):
        self.jobs, self.passes, self.gate = {}, 0, gate
        for job in jobs:
            self.jobs[job.id] = job
        self.fill(-9)

    def fill(self, now):
        lines = [encode_job(job) for job in self.jobs.values()]
        half = len(lines) // 2
        older = [encode_job(job._replace(priority=-9)) for job in list(self.jobs.values())[half:]]
        self.index = LiveIndex(
            lines[:half] + older, lines[half:], moment(now).encode(), 2, self.gate
        )
        self.passes += 1

    def put(self, job):
        self.jobs.pop(job.id, None)
        self.jobs[job.id] = job
        self.index.put(encode_job(job))

    def first(self, now):
        self.index.resolve(self.look_up)
        try:
            return self.index.first_ready(moment(now).encode())
        except LiveIndex.Beyond:
            self.fill(now)
            self.index.resolve(self.look_up)
            return self.index.first_ready(moment(now).encode())

    def look_up(self, ids):
        return {i: (encode_job(self.jobs[i]), "jobs.json") for i in ids if i in self.jobs}

    def state_of(self, job_id):
        return self.jobs[job_id].state if job_id in self.jobs else None


@settings(max_examples=150)
@given(
    base=st.lists(st.tuples(st.integers(-1, 1), st.integers(0, 5)), max_size=40),
    changes=st.lists(
        st.tuples(
            st.integers(0, 45), st.sampled_from(STATES), st.integers(-1, 1), st.integers(0, 5)
        ),
        max_size=30,
    ),
    nows=st.lists(st.integers(-1, 6), min_size=1, max_size=3),
)
def test_a_window_gives_the_same_order_as_the_whole_queue(base, changes, nows):
    # No two jobs tie here: a pass may see them in another order than they came.
    queue = Queue(
        make_job(f"j{n}", priority=priority, run_at=moment(due + n / 1000))
        for n, (priority, due) in enumerate(base)
    )
    steps = [None, *enumerate(changes, 100)]
    for step in steps:
        if step is not None:
            n, (which, state, priority, due) = step
            at = moment(due + n / 1000)
            queue.put(make_job(f"j{which}", state=state, priority=priority, run_at=at))
        for now in nows:
            ready = [job for job in queue.jobs.values() if is_ready(job, moment(now))]
            found = queue.first(now)
            best = min(ready, key=claim_order).id if ready else None
            assert (found and line_id(found).decode()) == best
            if best is not None:
                queue.put(queue.jobs[best]._replace(state="in_progress"))
        waiting = [j.run_at for j in queue.jobs.values() if j.state in ("pending", "failed")]
        later = [at for at in waiting if at > moment(max(nows))]
        due = queue.index.next_due()
        if later:
            assert due is not None
            assert due.decode() <= min(later)
    known = queue.index.lines.keys() - queue.index.running.keys()
    assert len(known) <= 5 * 2 + 1


PARENTS = st.frozensets(st.sampled_from(["j0", "j1", "j2", "j9", "x"]), max_size=2)
PARENTS = PARENTS.map(sorted).map(tuple)
WORDS = st.frozensets(st.sampled_from(["a", "b", "c"]), max_size=2).map(sorted).map(tuple)
GATES = st.builds(
    gate_of,
    st.sets(st.sampled_from(["a", "b", "b", "*"]), max_size=2),
    st.dictionaries(st.sampled_from(["a", "c"]), st.integers(1, 2)),
    st.sampled_from([None, None, 1.5]),
)


RULED = st.fixed_dictionaries(
    {"priority": st.integers(-1, 1)},
    optional={"tags": WORDS, "lock": WORDS, "after": PARENTS, "after_end": PARENTS},
)


@settings(max_examples=300)
@given(
    base=st.lists(st.tuples(st.integers(0, 5), RULED), max_size=30),
    changes=st.lists(
        st.tuples(st.integers(0, 35), st.sampled_from(STATES), st.integers(0, 5), RULED),
        max_size=30,
    ),
    now=st.integers(-1, 6),
    gates=st.lists(GATES, min_size=1, max_size=3),
)
def test_lanes_give_the_first_job_that_nothing_holds_back(base, changes, now, gates):
    queue = Queue(
        make_job(f"j{n}", run_at=moment(due + n / 1000), **fields)
        for n, (due, fields) in enumerate(base)
    )
    for n, step in enumerate([None, *changes], 100):
        if step is not None:
            which, state, due, fields = step
            at = moment(due + n / 1000)
            queue.put(make_job(f"j{which}", state=state, run_at=at, **fields))
        gate = gates[n // 10 % len(gates)]
        if gate != queue.gate:
            queue.gate = gate
            queue.fill(now)
        for _ in range(3):
            using = holders((j for j in queue.jobs.values() if j.state == "in_progress"), gate)
            free = [
                job
                for job in queue.jobs.values()
                if is_ready(job, moment(now))
                and not paused_by(job, gate)
                and not full(job, gate, using)
                and not unmet(job, queue.state_of)
            ]
            found = queue.first(now)
            best = min(free, key=lambda job: claim_order(job, gate.aging)) if free else None
            assert (found and line_id(found).decode()) == (best and best.id)
            if best is not None:
                slots = slots_for(best, gate, using)
                assert queue.index.slots(found) == slots
                queue.put(best._replace(state="in_progress", slots=slots))


def test_a_pass_is_asked_for_before_a_claim_must_wait_for_it():
    jobs = [make_job(f"j{n:03}", run_at=moment(n / 100)) for n in range(100)]
    jobs += [make_job(f"k{n:03}", run_at=moment(60 + n)) for n in range(100)]
    index = LiveIndex(map(encode_job, jobs), now=moment(50).encode(), most=8)
    assert not index.is_whole
    claimed = []
    while not index.is_low(moment(50).encode()):
        claimed.append(first(index, 50))
        index.put(line(claimed[-1], state="in_progress"))
    assert claimed == [f"j{n:03}" for n in range(len(claimed))]
    assert 6 <= len(claimed) < 100
    assert index.is_low(moment(75).encode())
    assert LiveIndex(map(encode_job, jobs), now=moment(50).encode()).is_whole
