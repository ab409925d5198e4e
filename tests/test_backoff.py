"""How long a failed job waits."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuectl.model.backoff import RetryPolicy, capped_power, retry_delay


@pytest.mark.parametrize(
    ("base", "attempt", "cap", "wait"),
    [
        (2, 1, 86_400, 2),
        (2, 2, 86_400, 4),
        (2, 10, 86_400, 1024),
        (2, 16, 86_400, 65_536),
        (2, 17, 86_400, 86_400),
        (10, 10_000, 86_400, 86_400),
        (10, 10_000, 1e9, 1e9),
        (1e6, 10**9, 1e9, 1e9),
        (0, 1, 86_400, 0),
        (0, 10_000, 86_400, 0),
        (0.5, 1, 86_400, 0.5),
        (0.5, 10_000, 86_400, 0),
        (1, 1, 86_400, 1),
        (1, 10_000, 86_400, 1),
        (1.0001, 1, 86_400, 1.0001),
        (3, 2, 9, 9),
        (2, 3, 0, 0),
        (2, 1, 0.25, 0.25),
        (0.5, 1, 0.25, 0.25),
    ],
)
def test_the_wait_is_a_capped_power(base, attempt, cap, wait):
    assert retry_delay(RetryPolicy(float(base), float(cap)), attempt) == pytest.approx(wait)


@given(
    base=st.floats(0, 1e6),
    attempt=st.integers(1, 10**6),
    cap=st.floats(0, 1e9),
    jitter=st.floats(0, 1),
    dice=st.floats(0, 1, exclude_max=True),
)
def test_no_wait_is_negative_or_above_the_cap(base, attempt, cap, jitter, dice):
    wait = retry_delay(RetryPolicy(base, cap, jitter), attempt, dice)
    assert 0 <= wait <= cap
    assert wait >= capped_power(base, attempt, cap) * (1 - jitter) * (1 - 1e-12)


@given(base=st.floats(0, 50), attempt=st.integers(1, 60), cap=st.floats(0, 1e9))
def test_it_is_what_exact_arithmetic_says(base, attempt, cap):
    exact = min(Fraction(base) ** attempt, Fraction(cap))
    assert capped_power(base, attempt, cap) == pytest.approx(float(exact), rel=1e-9, abs=1e-12)


@given(base=st.floats(1, 1e6), attempt=st.integers(1, 10**5), cap=st.floats(1, 1e9))
def test_waits_do_not_shrink_from_one_attempt_to_the_next(base, attempt, cap):
    assert capped_power(base, attempt, cap) <= capped_power(base, attempt + 1, cap)


def test_jitter_takes_its_part_of_the_wait_and_no_more():
    policy = RetryPolicy(2.0, 86_400.0, 0.5)
    assert retry_delay(policy, 3, 0.0) == 8.0
    assert retry_delay(policy, 3, 0.5) == 6.0
    assert retry_delay(policy, 3, 0.999999) == pytest.approx(4.0, abs=1e-4)
