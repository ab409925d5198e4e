"""Moments as RFC 3339 text in UTC, which sorts as it counts, and durations in seconds.

A moment is always `YYYY-MM-DDTHH:MM:SS.ffffffZ`: one width, so text order is time order.
"""

from __future__ import annotations

import time

from queuectl.errors import InvalidInput

_DAY = 86_400
_seconds: dict[int, str] = {}  # texts of moments, the last ones asked for
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_DAYS_BEFORE = (0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334)
LATEST = 253_402_300_799.0  # the last second of the year 9999
LONGEST = 1e9  # seconds, about 31 years: a longer wait is a typing mistake


def format_time(seconds: float) -> str:
    """The moment `seconds` after 1970-01-01T00:00:00Z; clamped to the years 1970 to 9999."""
    if not 0.0 <= seconds <= LATEST:
        seconds = min(max(seconds, 0.0), LATEST)
    whole, micro = divmod(round(seconds * 1_000_000), 1_000_000)
    # A busy worker formats one second thousands of times; loading functools would cost a Tab 2 ms.
    text = _seconds.get(whole) or _whole_second(whole)
    return f"{text}.{micro:06d}Z"


def _whole_second(whole: int) -> str:
    if len(_seconds) >= 64:
        _seconds.clear()
    year, month, day, hour, minute, second = time.gmtime(whole)[:6]
    text = f"{year:04d}-{month:02d}-{day:02d}T{hour:02d}:{minute:02d}:{second:02d}"
    _seconds[whole] = text
    return text


def compact(seconds: float) -> str:
    """The moment to the second, for the name of a file: `20260131T083000Z`."""
    return format_time(seconds)[:19].replace("-", "").replace(":", "") + "Z"


def parse_time(text: str) -> float:
    """Seconds since 1970 of an RFC 3339 moment; InvalidInput for other text or a missing zone."""
    plain = _plain(text)
    if plain is not None:
        return plain
    from datetime import datetime

    spelled = text.strip().replace(" ", "T", 1)
    if spelled[-1:] in ("Z", "z"):
        spelled = spelled[:-1] + "+00:00"
    try:
        moment = datetime.fromisoformat(_six_digits(spelled))
    except ValueError:
        raise InvalidInput(
            f"'{text}' is not a time like 2026-01-31T08:30:00Z or 2026-01-31T09:30:00+01:00"
        ) from None
    if moment.tzinfo is None:
        raise InvalidInput(f"the time '{text}' names no zone: end it with Z (UTC) or +01:00")
    seconds = moment.timestamp()
    if not 0 <= seconds <= LATEST + 1:  # within that second, as a float has it
        raise InvalidInput(f"the time '{text}' is outside the years 1970 to 9999")
    return seconds


def _plain(text: str) -> float | None:
    """Epoch seconds of a moment in our own form, without loading `datetime`; None for any other."""
    if len(text) != 27 or text[4::3][:5] + text[19::7] != "--T::.Z":
        return None
    digits = (
        f"{text[:4]}{text[5:7]}{text[8:10]}{text[11:13]}{text[14:16]}{text[17:19]}{text[20:26]}"
    )
    if not (digits.isascii() and digits.isdigit()):
        return None
    year, month, day = int(digits[:4]), int(digits[4:6]), int(digits[6:8])
    hour, minute, second = int(digits[8:10]), int(digits[10:12]), int(digits[12:14])
    micro = int(digits[14:])
    sound = year >= 1970 and 1 <= month <= 12 and hour < 24 and minute < 60 and second < 60
    if not sound or not 1 <= day <= 28:
        return None  # `datetime` knows how long a month is
    days = (year - 1970) * 365 + (year - 1969) // 4 - (year - 1901) // 100 + (year - 1601) // 400
    days += _DAYS_BEFORE[month - 1] + day - 1
    days += month > 2 and year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    seconds = days * _DAY + hour * 3600 + minute * 60 + second
    return (seconds * 1_000_000 + micro) / 1_000_000


def _six_digits(spelled: str) -> str:
    """The fraction of a second made six digits long, as Python 3.10 wants it."""
    head, dot, tail = spelled.partition(".")
    if not dot:
        return spelled
    digits = tail[: len(tail) - len(tail.lstrip("0123456789"))]
    return f"{head}.{digits[:6]:0<6}{tail[len(digits) :]}" if digits else spelled


def parse_duration(text: str) -> float:
    """Seconds in `90`, `1.5`, `90s`, `5m`, `1h30m`, `2d`; InvalidInput for anything else."""
    total, rest = 0.0, text.strip()
    if not rest:
        raise _bad_duration(text)
    while rest:
        number = rest[: len(rest) - len(rest.lstrip("0123456789."))]
        rest = rest[len(number) :]
        unit = rest[: len(rest) - len(rest.lstrip("abcdefghijklmnopqrstuvwxyz"))]
        rest = rest[len(unit) :]
        try:
            total += float(number) * _UNITS[unit or "s"]
        except (ValueError, KeyError):
            raise _bad_duration(text) from None
    if total > LONGEST:
        raise InvalidInput(f"the duration '{text}' is longer than {LONGEST:.0f} seconds")
    return total


def _bad_duration(text: str) -> InvalidInput:
    return InvalidInput(f"'{text}' is not a duration like 90, 90s, 5m, 1h30m or 2d")


def format_duration(seconds: float) -> str:
    """A duration for people: `450ms`, `12s`, `5m`, `1h30m`, `2d3h`; at most two units."""
    if 0 < seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    rest, parts = round(seconds), []
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)):
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts[:2]) or "0s"
