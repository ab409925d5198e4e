"""The folder that a queue in MongoDB has on each host; see addresses.py."""

from __future__ import annotations

import os

from queuectl.addresses import ADDRESS, Address
from queuectl.store import door


def make_host_folder(folder: str, address: Address) -> None:
    """Make this host's folder for a queue, and write down there which queue it stands for."""
    door.make_folder(folder)
    door.make_private(folder, os.stat(folder))
    text = f"@{address.path}" if address.path else address.url
    door.replace(os.path.join(folder, ADDRESS), text.encode() + b"\n")


def forget_secret(folder: str, address: Address) -> None:
    """Take the password out of a host folder, which goes on to stand for its queue."""
    if address.has_secret and not address.path:
        door.replace(os.path.join(folder, ADDRESS), address.name.encode() + b"\n")
