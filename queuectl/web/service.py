"""What the handlers of all routes share: the queue, its mirror, and costly results."""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from queuectl.model.job import Job
from queuectl.web.exchange import Answer, Call, Refused
from queuectl.web.mirror import Mirror
from queuectl.web.operations import Operations

Made = TypeVar("Made")
_SLOW = 0.5  # seconds; cheaper results are computed again whenever the queue has changed
_REST = 20.0  # a result stays valid for this many times its cost
MASK = "***"


class Service:
    """One served queue. `read_only`: nothing may be changed, whatever the token is.

    `no_token`: every accepted request has all rights.
    """

    def __init__(
        self, operations: Operations, *, read_only: bool = False, no_token: bool = False
    ) -> None:
        self.operations = operations
        self.mirror = Mirror(operations)
        self.read_only = read_only
        self.no_token = no_token
        self.started = time.time()
        # Command and start of the workers' runs, by job and run.
        self.runs: dict[tuple[str, int | None], tuple[str, str | None] | None] = {}
        self._kept: dict[str, _Kept] = {}
        self._mutex = threading.Lock()

    def kept(self, name: str, find_out: Callable[[], Made], most: float = 5.0) -> Made:
        """The result of `find_out`, computed again if the queue changed; less often if slow.

        It is valid for at most `most` seconds.
        """
        mark = self.operations.mark()
        with self._mutex:
            kept = self._kept.setdefault(name, _Kept())
        with kept.mutex:
            now = time.monotonic()
            if kept.mark is None or (kept.mark != mark and now >= kept.rest_until):
                kept.value = find_out()
                took = time.monotonic() - now
                rest = min(_REST * took, most) if took > _SLOW else 0.0
                kept.mark, kept.rest_until = mark, now + took + rest
            value: Made = kept.value
            return value

    def etag_of(self, name: str, more: int = 0) -> dict[str, str]:
        """The header with the ETag of a kept result; empty while that is behind the queue.

        With a newer ETag a reader would later be told that nothing has changed.
        """
        kept = self._kept[name]
        return {"etag": self.etag(more)} if kept.mark == self.operations.mark() else {}

    def etag(self, more: int = 0) -> str:
        """A value that differs if anything, or `more`, may have changed; reads no job."""
        text = repr((self.operations.mark(), more)).encode()
        return f'W/"{hashlib.sha256(text).hexdigest()[:20]}"'

    def close(self) -> None:
        """Close the queue."""
        self.mirror.close()
        self.operations.close()


class _Kept:
    """One kept result, and until when it is valid."""

    def __init__(self) -> None:
        self.mutex = threading.Lock()
        self.mark: object = None
        self.rest_until = 0.0
        self.value: Any = None


def unchanged(call: Call, etag: str) -> Answer | None:
    """The 304 for a reader that already has this."""
    known = [tag.strip() for tag in call.headers.get("if-none-match", "").split(",")]
    return Answer(304, headers={"etag": etag}) if etag in known or "*" in known else None


def masked(form: Mapping[str, Any]) -> dict[str, Any]:
    """A job's form with the values of its variables hidden."""
    env = form.get("env")
    shown = dict(form)
    if isinstance(env, Mapping):
        shown["env"] = dict.fromkeys(env, MASK)
    return shown


def rev_tag(job: Job) -> str:
    """The ETag of a job."""
    return f'"{job.rev}"'


def wanted_rev(call: Call) -> int | None:
    """The rev that `If-Match` requires, None for any; Refused if it is not an ETag of a job."""
    given = call.headers.get("if-match")
    if given is None or given.strip() == "*":
        return None
    found = re.fullmatch(r'(?:W/)?"(\d{1,15})"', given.strip(), re.ASCII)
    if found is None:
        raise Refused(400, f"If-Match {given[:40]!r} is not the ETag of a job")
    return int(found[1])
