"""How long a failed job waits before its next run: base ^ attempts, capped, with jitter."""

from __future__ import annotations

from typing import NamedTuple


class RetryPolicy(NamedTuple):
    """`base` >= 0; `max_delay` in seconds; `jitter` 0 to 1: the part of the wait left to chance."""

    base: float = 2.0
    max_delay: float = 86_400.0
    jitter: float = 0.0


def retry_delay(policy: RetryPolicy, attempt: int, dice: float = 0.0) -> float:
    """Seconds to wait after failed attempt number `attempt` (1 is the first).

    `dice` is a throw in [0, 1). Jitter only shortens the wait, so the cap holds and jobs that
    reached it still spread (the "full jitter" of AWS's architecture blog, 2015, at jitter 1).
    """
    return capped_power(policy.base, attempt, policy.max_delay) * (1.0 - policy.jitter * dice)


def capped_power(base: float, exponent: int, cap: float) -> float:
    """min(base ** exponent, cap), without ever computing a number that overflows."""
    from math import log  # a millisecond at every start, for what only failures need

    if base > 1 and exponent * log(base) >= log(max(cap, 1.0)):
        return cap
    return float(min(base**exponent, cap))
