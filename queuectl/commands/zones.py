"""The name of this machine's time zone, for schedules with `cron`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

from queuectl.errors import InvalidInput
from queuectl.model.job import Job

_DATABASE = "/zoneinfo/"  # what precedes a zone's name in the path of its file


def zone_here(environ: Mapping[str, str] = os.environ, etc: str = "/etc") -> str:
    """The name, from TZ or the files in `etc`; InvalidInput if this zone has no name."""
    given = environ.get("TZ")
    if given is not None and given[:1] != "/":
        return given.removeprefix(":") or "UTC"  # an unknown name is refused later
    path, local = given or "", os.path.join(etc, "localtime")
    if given is None:
        if not os.path.lexists(local):
            return "UTC"
        with suppress(OSError):
            path = os.readlink(local)
    if _DATABASE in path:
        return path.rpartition(_DATABASE)[2]
    with suppress(OSError), open(os.path.join(etc, "timezone"), encoding="ascii") as file:
        if given is None and (name := file.readline().strip()):
            return name
    raise InvalidInput("the time zone of this machine has no name: give --tz, like --tz UTC")


def add_zone(
    changes: dict[str, object],
    meant: Callable[[], Iterable[Job]],
    environ: Mapping[str, str] = os.environ,
) -> None:
    """Add this machine's time zone to cron fields that come without one.

    A schedule that already has a zone keeps it. `meant` gives the jobs that are changed.
    """
    if changes.get("cron") is None or changes.get("tz") is not None:
        return
    if "tz" in changes or any(job.tz is None for job in meant()):
        changes["tz"] = zone_here(environ)
