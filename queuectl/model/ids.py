"""Ids for jobs that were given none: short, and sorting by the time they were made."""

from __future__ import annotations

_DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no i, l, o, u
_EPOCH = 1_735_689_600  # 2025-01-01T00:00:00Z
_TIME_DIGITS, _CHANCE_DIGITS = 10, 4  # microseconds for 35 years; 20 bits


def made_ids(now: float, count: int, chance: int) -> list[str]:
    """`count` ids, the first for the moment `now` (epoch seconds), one more microsecond each.

    `chance` is 20 random bits, the same for all of them: two processes make equal ids only if
    they draw the same bits within as many microseconds as they make ids.
    """
    tail = _spell(chance, _CHANCE_DIGITS)
    first = int((now - _EPOCH) * 1_000_000)
    ids: list[str] = []
    high, front = -1, ""
    for number in range(first, first + count):
        if number >> 10 != high:  # two digits more: most ids differ from the one before in these
            high = number >> 10
            front = _spell(high, _TIME_DIGITS - 2)
        ids.append(front + _DIGITS[number >> 5 & 31] + _DIGITS[number & 31] + tail)
    return ids


def made_word(dice: float) -> str:
    """A short word that begins with a letter, from a throw in [0, 1)."""
    return f"r{int(dice * 16**7):07x}"


def _spell(number: int, width: int) -> str:
    digits = ""
    for _ in range(width):
        number, digit = divmod(number, 32)
        digits = _DIGITS[digit] + digits
    return digits
