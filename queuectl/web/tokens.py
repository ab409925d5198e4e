"""The tokens for the page, in private files, and the address where a queue is served now.

In `$XDG_STATE_HOME/queuectl/serve/`, under a hash of the queue's name, are `full` and `read` (each
a header line for `curl -H @FILE`), `socket` (needs no token) and `served` (JSON: the address).
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import socket
import time
from collections.abc import Mapping
from typing import Any

from queuectl.errors import StoreError
from queuectl.places import state_folder
from queuectl.store import door

FULL, READ = "full", "read"
_BEARER = "Authorization: Bearer "
_MOST_FAILURES = 10  # a second


class Desk:
    """The files for serving one queue. StoreError for what is not only this user's."""

    def __init__(self, queue: str, environ: Mapping[str, str]) -> None:
        above = state_folder(environ)
        if not above:
            raise StoreError("no home folder is known to keep the page's token in; set HOME")
        name = hashlib.sha256(os.fsencode(queue)).hexdigest()[:16]
        self.root = os.path.join(above, "serve")
        self.path = os.path.join(self.root, name)

    def file(self, name: str) -> str:
        """The path of one of them."""
        return os.path.join(self.path, name)

    def prepare(self) -> None:
        """Make the folder, or close it to others; refuse another user's."""
        try:
            os.makedirs(self.path, mode=0o700, exist_ok=True)
            for folder in (self.root, self.path):
                found = os.lstat(folder)
                if found.st_uid != os.geteuid() or os.path.islink(folder):
                    raise StoreError(f"{folder} belongs to another user; remove it")
                os.chmod(folder, 0o700)
        except OSError as exc:
            raise StoreError(f"{self.path}: {exc.strerror}; the token is kept there") from exc

    def tokens(self, *, anew: bool = False) -> dict[str, str]:
        """Tokens by right; makes missing ones, or with `anew` all."""
        self.prepare()
        return {right: self._token(right, anew) for right in (FULL, READ)}

    def _token(self, right: str, anew: bool) -> str:
        path = self.file(right)
        if not anew and (found := self._read(path)):
            return found
        token = secrets.token_urlsafe(32)
        _write(path, f"{_BEARER}{token}\n")
        return token

    def _read(self, path: str) -> str:
        try:
            text = door.read(path).decode("ascii", "replace").strip()
            door.set_mode(path, 0o600)
        except StoreError:
            return ""
        token = text.removeprefix(_BEARER)
        return token if text.startswith(_BEARER) and len(token) >= 40 else ""

    def note_served(self, form: Mapping[str, Any]) -> None:
        """Note where the queue is served, for `dashboard` and another server."""
        _write(self.file("served"), json.dumps(form) + "\n")

    def served(self) -> dict[str, Any] | None:
        """Where the queue is served now, or None."""
        return _served(self.path)

    def on_port(self, port: int) -> dict[str, Any] | None:
        """Which of this user's queues is served on a port, or None."""
        try:
            names = os.listdir(self.root)
        except OSError:
            return None
        told = (_served(os.path.join(self.root, name)) for name in names)
        return next((form for form in told if form and form.get("port") == port), None)


def _served(folder: str) -> dict[str, Any] | None:
    try:
        form = json.loads(door.read(os.path.join(folder, "served")))
    except (StoreError, ValueError):
        return None
    alive = isinstance(form, dict) and answers(os.path.join(folder, "socket"))
    return form if alive else None


def answers(path: str) -> bool:
    """Whether a process listens on a Unix socket."""
    with at_short_path(path) as short, socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(short)
        except OSError:
            return False
    return True


class at_short_path:
    """A name for a socket of at most 100 bytes, the limit of some systems.

    A longer path is used by its name inside its own folder: only for single-threaded callers.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._back = -1

    def __enter__(self) -> str:
        if len(os.fsencode(self._path)) <= 100:
            return self._path
        try:
            back = os.open(".", os.O_RDONLY | os.O_CLOEXEC)
            os.chdir(os.path.dirname(self._path))
            self._back = back
        except OSError:
            return self._path
        return os.path.basename(self._path)

    def __exit__(self, *_: object) -> None:
        if self._back >= 0:
            os.fchdir(self._back)
            os.close(self._back)


def _write(path: str, text: str) -> None:
    """Write a private file atomically."""
    made = f"{path}-{secrets.token_hex(4)}"
    try:
        fd = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(fd, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(made, path)
    except OSError as exc:
        raise StoreError(f"{path}: {exc.strerror}") from exc


class Tokens:
    """Finds the right of a request; slows down a caller that guesses."""

    def __init__(self, tokens: Mapping[str, str] | None) -> None:
        """`tokens` by right; None: no token is needed, and every caller has all rights."""
        self._tokens = tokens
        self._failures: list[float] = []

    @property
    def asked_for(self) -> bool:
        """Whether a token is needed."""
        return self._tokens is not None

    def right_of(self, authorization: str | None) -> str:
        """ "full", "read", or "" for a header without a valid token."""
        if self._tokens is None:
            return FULL
        scheme, _, given = (authorization or "").partition(" ")
        found = ""
        for right, token in self._tokens.items():  # all, so that the time reveals nothing
            if hmac.compare_digest(given.strip().encode(), token.encode()):
                found = right
        return found if scheme.lower() == "bearer" else ""

    def failed(self) -> bool:
        """Count a failure; returns whether there were too many in the last second."""
        now = time.monotonic()
        self._failures = [at for at in self._failures if now - at < 1.0][-_MOST_FAILURES:]
        self._failures.append(now)
        return len(self._failures) > _MOST_FAILURES
