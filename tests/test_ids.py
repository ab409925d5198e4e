"""Ids that are made up."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from samples import START

from queuectl.model.fields import check_id
from queuectl.model.ids import MadeIds


def made_ids(now, count, chance):
    ids = MadeIds(now, chance)
    return [ids.take() for _ in range(count)]


BITS = st.binary(min_size=3, max_size=3)
YEARS = st.integers(START * 1_000_000, (START + 10**9) * 1_000_000 - 10**6)  # in microseconds


@given(micros=YEARS, chance=BITS, count=st.integers(0, 50))
def test_ids_are_short_usable_and_all_different(micros, chance, count):
    ids = made_ids(micros / 1e6, count, chance)
    assert len(set(ids)) == count
    assert all(check_id(made) == made and len(made) == 14 for made in ids)


@given(early=YEARS, later=st.integers(10, 10**12), bits=st.tuples(BITS, BITS))
def test_ids_sort_by_the_moment_they_were_made(early, later, bits):
    first = made_ids(early / 1e6, 3, bits[0])
    second = made_ids((early + later) / 1e6, 1, bits[1])
    assert sorted(first) == first
    assert first[0] < second[0] or (early + later) / 1e6 > START + 10**9


def test_ids_of_one_moment_differ_by_chance():
    assert made_ids(START, 1, b"1") != made_ids(START, 1, b"2")


def test_a_clock_that_stands_at_1970_still_makes_usable_ids():
    ids = made_ids(0.0, 2, b"any")
    assert [check_id(made) for made in ids] == ids
