"""What an id may be, and the ids made for jobs without one: short, sorted by creation time."""

from __future__ import annotations

LONGEST_ID = 128
# The id of a job or a worker. check_id in fields.py has the same rule and says what is wrong.
ID = rf"[A-Za-z0-9][A-Za-z0-9._:-]{{0,{LONGEST_ID - 1}}}"
_DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no i, l, o, u
_EPOCH = 1_735_689_600  # 2025-01-01T00:00:00Z
WORDS = 16**7
_TIME_DIGITS, _CHANCE_DIGITS = 10, 4  # microseconds for 35 years; 20 bits


class MadeIds:
    """Ids: the first for the moment `now` (epoch seconds), each next one a microsecond later.

    All contain the last 20 bits of the random `chance`: two processes make equal ids only if they
    draw the same bits within as many microseconds as they make ids. `in` finds an id made here.
    """

    def __init__(self, now: float, chance: bytes) -> None:
        self._tail = _spell(int.from_bytes(chance, "big"), _CHANCE_DIGITS)
        self._first = self._next = int((now - _EPOCH) * 1_000_000)
        self._high, self._front = -1, ""

    def take(self) -> str:
        number = self._next
        self._next += 1
        if number >> 10 != self._high:  # most ids differ from the one before in only two digits
            self._high = number >> 10
            self._front = _spell(self._high, _TIME_DIGITS - 2)
        return f"{self._front}{_DIGITS[number >> 5 & 31]}{_DIGITS[number & 31]}{self._tail}"

    def __contains__(self, job_id: str) -> bool:
        digits = job_id[:_TIME_DIGITS]
        if job_id != digits + self._tail or not set(digits) <= set(_DIGITS):
            return False
        number = 0
        for digit in digits:
            number = number * 32 + _DIGITS.index(digit)
        return len(digits) == _TIME_DIGITS and self._first <= number < self._next


def made_word(number: int) -> str:
    """A short word that begins with a letter, one of WORDS."""
    return f"r{number % WORDS:07x}"


def _spell(number: int, width: int) -> str:
    digits = ""
    for _ in range(width):
        number, digit = divmod(number, 32)
        digits = _DIGITS[digit] + digits
    return digits
