"""Times as a person writes them: `18:30`, `tomorrow 03:00`, `2030-01-01 05:00`, or RFC 3339.

A time without a zone is in this machine's. Loaded only for a line with a time.
"""

from __future__ import annotations

import calendar
import re
import time

from queuectl.commands.context import Context
from queuectl.errors import InvalidInput
from queuectl.model.fields import Field
from queuectl.model.times import LATEST, format_time, parse_duration, parse_time

_DAY = 86_400
_LOCAL = re.compile(
    r"(?:(yesterday|today|tomorrow)[ ]+|(\d{4})-(\d\d)-(\d\d)[ T]+)?(\d{1,2}):(\d\d)(?::(\d\d))?",
    re.IGNORECASE | re.ASCII,
)
_FROM_NOW = re.compile(r"(?:now)? *\+? *(\d+) *([dhms])[a-z]*", re.ASCII)  # as `at` accepts it
_DAY_ALONE = re.compile(r"yesterday|today|\d{4}-\d\d-\d\d", re.IGNORECASE | re.ASCII)


def read_time(text: str, now: float | None = None) -> str:
    """The moment as RFC 3339 text: in UTC with `Z` if a zone was named, else with our offset.

    `now`: epoch seconds. Raises InvalidInput for what is not a time, and for a time that a clock
    change here skips or repeats.
    """
    found = _LOCAL.fullmatch(text.strip())
    if found is None:
        return _with_zone(text)
    day, year, month, date, hour, minute, second = found.groups(default="")
    if day or not year:
        today = time.localtime(time.time() if now is None else now)
        base = calendar.timegm((*today[:3], 0, 0, 0))
        base += _DAY * {"yesterday": -1, "tomorrow": 1}.get(day.lower(), 0)
        wall = [*time.gmtime(base)[:3]]
    else:
        wall = [int(year), int(month), int(date)]
    wall += [int(hour), int(minute), int(second or 0)]
    seconds = calendar.timegm((*wall, 0, 0, 0)) if wall[0] >= 1970 else -1
    if seconds < 0 or [*time.gmtime(seconds)[:6]] != wall:
        raise InvalidInput(f"'{text}' is not a time")
    return _only_one(text, seconds)


def read_time_of(field: Field, text: str) -> str:
    """`read_time` for a field, which InvalidInput names then."""
    try:
        return read_time(text)
    except InvalidInput as exc:
        raise InvalidInput(f"{field.name}: {exc}") from None


def read_past(text: str) -> str:
    """The moment as a job holds it, from a time as above, a day (its start) or an age (`2h`).

    Raises InvalidInput.
    """
    try:
        return format_time(time.time() - parse_duration(text))
    except InvalidInput:
        if span := _span(text):
            raise InvalidInput(f"'{text}' is not a time; for a time ago write {span}") from None
        day = _DAY_ALONE.fullmatch(text.strip())
        moment = parse_time(read_time(f"{day[0]} 00:00" if day else text))
        # A time without a day is its latest occurrence.
        is_clock = ":" in text and "-" not in text and not text[:1].isalpha()
        return format_time(moment - _DAY if is_clock and moment > time.time() else moment)


def tell_time(context: Context, written: object) -> None:
    """Show how a time without a zone was read; a past time is due now."""
    if isinstance(written, str) and not written.endswith("Z") and not context.quiet:
        if parse_time(written) > time.time():
            context.note(f"Not before {written}.")
            return
        is_today = written[:10] == time.strftime("%Y-%m-%d")
        meant = f" ('tomorrow {written[11:16]}' is the next such time)" if is_today else ""
        context.note(f"{written} is past: it is due now{meant}.")


def _with_zone(text: str) -> str:
    try:
        return format_time(parse_time(text))
    except InvalidInput as exc:
        if "is not a time" not in str(exc) and "names no zone" not in str(exc):
            raise
        span = _span(text)
        more = f"; for a time from now use --delay {span}" if span else ""
        raise InvalidInput(
            f"'{text}' is not a time like 18:30, tomorrow 03:00, 2026-01-31 08:30 or "
            f"2026-01-31T08:30:00Z{more}"
        ) from None


def _span(text: str) -> str:
    """The duration meant by `now + 1 hour` and the like; "" for other texts."""
    found = _FROM_NOW.fullmatch(text.strip().lower())
    return f"{found[1]}{found[2]}" if found else ""


def _only_one(text: str, wall: int) -> str:
    """The moment at which local clocks show `wall`, given as if it were UTC; InvalidInput."""
    near = {time.localtime(min(max(wall + d, 0), LATEST)).tm_gmtoff for d in (-_DAY, 0, _DAY)}
    moments = [wall - off for off in near if time.localtime(wall - off).tm_gmtoff == off]
    if len(moments) == 1:
        return spell_here(moments[0])
    if not moments:
        raise InvalidInput(f"the clock change here leaves out '{text}'; name another time")
    first, second = map(spell_here, sorted(moments))
    raise InvalidInput(f"the clock change here brings '{text}' twice: write {first} or {second}")


def spell_here(seconds: float) -> str:
    """A moment on this machine's clock, with its offset: `2030-01-01T05:00:00+01:00`."""
    local = time.localtime(seconds)
    sign, minutes = "-" if local.tm_gmtoff < 0 else "+", abs(local.tm_gmtoff) // 60
    return (
        f"{time.strftime('%Y-%m-%dT%H:%M:%S', local)}{sign}{minutes // 60:02d}:{minutes % 60:02d}"
    )
