"""How long a failed job waits before its next run: base ^ attempts, capped, with jitter.

What a job itself says about its retries overrides the settings: `own_policy` in lifecycle.py.
"""

from typing import NamedTuple

_LARGEST = 1e30  # the most that a first wait is multiplied by
DEFERRED = 60.0  # seconds that a job waits after it asked to run later, if it names no wait


class RetryPolicy(NamedTuple):
    """`base` >= 0; `max_delay` in seconds; `jitter` 0 to 1: the part of the wait left to chance.

    `first`: seconds before the first retry, which `base` multiplies from then on; None: the wait
    before retry n is base ^ n.
    """

    base: float = 2.0
    max_delay: float = 86_400.0
    jitter: float = 0.0
    first: float | None = None


def retry_delay(policy: RetryPolicy, attempt: int, dice: float = 0.0) -> float:
    """Seconds to wait after failed attempt number `attempt` (1 is the first).

    `dice` is a throw in [0, 1). Jitter only shortens the wait, so the cap holds and jobs that
    reached it still spread (the "full jitter" of AWS's architecture blog, 2015, at jitter 1).
    """
    if policy.first is None:
        wait = capped_power(policy.base, attempt, policy.max_delay)
    else:
        wait = _grown(policy.first, policy.base, attempt - 1, policy.max_delay)
    return wait * (1.0 - policy.jitter * dice)


def deferral_delay(policy: RetryPolicy, deferral: int) -> float:
    """Seconds that a job waits after it asked, for the n-th time in a row, to run later."""
    first = policy.first or DEFERRED  # never 0: the job would be run again and again
    return _grown(first, 2.0, deferral - 1, policy.max_delay)


def _grown(first: float, base: float, exponent: int, cap: float) -> float:
    """min(first * base ** exponent, cap), without a number that overflows."""
    if first * _LARGEST <= cap:
        return 0.0  # even the largest factor leaves it far below the cap
    return min(first * capped_power(base, exponent, cap / first), cap)


def capped_power(base: float, exponent: int, cap: float) -> float:
    """min(base ** exponent, cap), without ever computing a number that overflows."""
    from math import log  # a millisecond at every start, for what only failures need

    if base > 1 and exponent * log(base) >= log(max(cap, 1.0)):
        return cap
    return float(min(base**exponent, cap))
