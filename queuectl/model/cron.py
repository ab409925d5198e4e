"""When the five fields of a crontab line match next, by the rules of Debian's cron.

Only this module loads cronsim and the time zones, and only for a job that has such fields: the
base install does without them.
"""

from __future__ import annotations

import re
from datetime import datetime, timezone
from zoneinfo import ZoneInfo, available_timezones

from queuectl.errors import InvalidInput, as_given, not_installed
from queuectl.model.field_checks import CRON

try:
    from cronsim import CronSim, CronSimError
except ImportError:
    raise InvalidInput(not_installed("cron", "cronsim")) from None

ALIASES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_FORM = f"cron takes {CRON}"
_NO_DAY = "it never fits, because none of its months has such a day: name another day or month"
_ODD = re.compile(r"[^0-9A-Za-z*/,#@ -]")


def next_fitting(fields: str, zone: str | None, after: float) -> float:
    """The first moment after `after` that the fields match, in epoch seconds.

    A time that a clock change skips matches right after the change; a time that occurs twice
    matches only the first time. If the minute or the hour begins with `*`, neither holds: the
    fields follow the clock. Raises InvalidInput for wrong fields, for fields that match no day, and
    for an unknown zone.
    """
    words = ALIASES.get(fields.strip().lower(), fields).split()
    if len(words) != 5 or _ODD.search(fields):
        raise InvalidInput(f"cron '{fields}': {_FORM}")
    where = _zone(zone or "UTC")
    try:
        start = datetime.fromtimestamp(int(after), where)
        found = map(datetime.timestamp, CronSim(" ".join(words), start))
        # Within an hour that a clock change repeats, cronsim answers with the first of the two.
        return next(moment for moment in found if moment > after)
    except CronSimError as exc:
        why = _NO_DAY if _is_day_of_no_month(words, start) else f"{exc}; {_FORM}"
        raise InvalidInput(f"cron '{fields}': {why}") from None
    except (StopIteration, ValueError, OverflowError):
        raise InvalidInput(f"cron '{fields}': {_NO_DAY}") from None


def _is_day_of_no_month(words: list[str], start: datetime) -> bool:
    """Whether each field is valid, but no named month has the day, such as 30 February."""
    try:
        CronSim(" ".join([*words[:3], "*", words[4]]), start)
        CronSim(" ".join([*words[:2], "*", *words[3:]]), start)
    except CronSimError:
        return False
    return True


def _zone(name: str) -> timezone | ZoneInfo:
    if name in ("UTC", "Etc/UTC"):
        return timezone.utc  # no database is needed
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        why = "like Europe/Berlin or UTC"
        if not available_timezones():
            why = "this machine has no time zones: install tzdata"
        raise InvalidInput(f"tz: there is no time zone {as_given(name)} here ({why})") from None
