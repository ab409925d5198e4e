"""The folder that a queue in MongoDB has on each host; see addresses.py."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from queuectl.addresses import Address
from queuectl.places import ADDRESS
from queuectl.store import door


def make_host_folder(folder: str, address: Address) -> None:
    """Make this host's folder for a queue, and note in it which queue it stands for."""
    door.make_folder(folder)
    door.make_private(folder, os.stat(folder))
    text = f"@{address.path}\n{address.name}" if address.path else address.url
    door.replace(os.path.join(folder, ADDRESS), text.encode() + b"\n")


def forget_secret(folder: str, address: Address) -> None:
    """Remove the password from a host folder, which still stands for its queue."""
    if address.has_secret and not address.path:
        door.replace(os.path.join(folder, ADDRESS), address.name.encode() + b"\n")


@contextmanager
def folder_held(folder: str, *, alone: bool = False) -> Iterator[None]:
    """Hold a lock on a host folder, shared with others or `alone`.

    Raises BlockingIOError if `alone` and another process holds it; OSError or StoreError if the
    folder cannot be opened.
    """
    fd = door.open_folder(folder)
    with door.Closing(fd):
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB if alone else fcntl.LOCK_SH)
        yield
