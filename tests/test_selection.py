"""Which jobs a selection means, against a plain reading of each of its parts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from queuectl.model.fields import STATES
from queuectl.model.selection import Selection, matches, selected
from tests.samples import make_job, moment

words = st.sampled_from(("a", "B", "ab", "Ba"))
moments = st.integers(0, 4).map(moment)
jobs = st.builds(
    make_job,
    words,
    state=st.sampled_from(STATES),
    command=words,
    error=st.none() | words,
    exit_code=st.none() | st.integers(0, 2),
    updated_at=moments,
    tags=st.lists(words, unique=True).map(tuple),
    every=st.sampled_from((None, None, 60.0)),
)
# Each part of a selection, and what it asks of a job, said in the most direct way.
PARTS = {
    "ids": (st.frozensets(words), lambda job, ids: job.id in ids),
    "states": (st.frozensets(st.sampled_from(STATES)), lambda job, states: job.state in states),
    "tags": (
        st.frozensets(words, min_size=1, max_size=2),
        lambda job, tags: all(tag in job.tags for tag in tags),
    ),
    "match": (words, lambda job, text: text.lower() in f"{job.id}\n{job.command}".lower()),
    "error": (words, lambda job, text: job.error is not None and text.lower() in job.error.lower()),
    "exit_code": (st.integers(0, 2), lambda job, code: job.exit_code == code),
    "since": (moments, lambda job, since: job.updated_at >= since),
    "recurring": (st.just(True), lambda job, _: job.every is not None),
    "until": (moments, lambda job, until: job.updated_at <= until),
}
selections = st.fixed_dictionaries({}, optional={name: part[0] for name, part in PARTS.items()})


@given(st.lists(jobs, max_size=8), selections, st.none() | st.integers(0, 4))
def test_a_selection_means_the_jobs_that_fit_each_part_that_is_set(given_jobs, parts, limit):
    fitting = [job for job in given_jobs if all(PARTS[n][1](job, v) for n, v in parts.items())]
    selection = Selection(**parts)
    assert [job for job in given_jobs if matches(job, selection)] == fitting
    assert list(selected(given_jobs, selection._replace(limit=limit))) == fitting[:limit]


@given(jobs)
def test_nothing_asked_for_is_every_job_and_an_empty_set_is_none(job):
    assert matches(job, Selection())
    assert not matches(job, Selection(ids=frozenset()))
    assert not matches(job, Selection(states=frozenset()))
