"""Which store keeps the queue that a path or URL names, and the name of the queue for people.

Only that store is imported.
"""

from __future__ import annotations

import os

from queuectl.errors import QueuectlError
from queuectl.places import ADDRESS, find_folder, is_address, refuse_address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from queuectl.addresses import Address
    from queuectl.store.contract import Store
    from queuectl.store.facts import Summary
    from queuectl.store.output import Output
    from queuectl.store.watch import Watch

_host_folders: set[str] = set()  # those that `find` returned, which need not exist yet


def find(option: str | None, environ: Mapping[str, str]) -> str:
    """The absolute path of the data folder; for a queue in MongoDB, of this host's folder for it.

    Raises what places.find_folder raises and, for an address, addresses.host_folder.
    """
    named = option or environ.get("QUEUECTL_DATA") or ""
    if not is_address(named):
        return find_folder(option, environ)
    from queuectl.addresses import host_folder

    folder = host_folder(named, environ)
    _host_folders.add(folder)
    return folder


def is_usual(where: str, environ: Mapping[str, str]) -> bool:
    """Whether this is the queue that commands use without `--data`."""
    try:
        return find(None, environ) == where
    except QueuectlError:
        return False


def is_database(where: str) -> bool:
    """Whether the path stands for a queue in MongoDB; InvalidInput for a URL of any kind."""
    # Without loading addresses.py: each command calls this for each folder.
    refuse_address(where)
    return where in _host_folders or os.path.lexists(os.path.join(where, ADDRESS))


def name_of(where: str) -> str:
    """The name of the queue at `where` for people: its path or its URL."""
    address = _address_of(where)
    return address.name if address else where


def reached_by(where: str) -> str:
    """How `--data` names the queue at `where`; "" if that would show a password."""
    address = _address_of(where)
    if address is None:
        return where
    return f"@{address.path}" if address.path else "" if address.has_secret else address.name


def without_secrets(environ: Mapping[str, str], where: str) -> dict[str, str]:
    """The environment without the variables that hold the password of the queue at `where`.

    No worker or job needs them.
    """
    kept, address = dict(environ), _address_of(where)
    if address is not None and address.has_secret:
        for name in ("QUEUECTL_DATA", "MONGO_URI"):
            if address.is_spelled(kept.get(name, "")):
                del kept[name]
    return kept


def _address_of(where: str) -> Address | None:
    if not is_database(where):
        return None
    from queuectl.addresses import address_of

    return address_of(where)


def open_store(where: str) -> Store:
    """The store of the queue at `where`; it reads and makes nothing before it is needed.

    Raises InvalidInput for a URL of an unknown kind of store, and StoreError if a package that the
    store needs is not installed.
    """
    if is_database(where):
        from queuectl.store.mongodb.opening import opened

        return opened(where)
    from queuectl.store.files.file_store import FileStore

    return FileStore(where)


def summary(where: str, now: float) -> Summary:
    """What `status` shows of the queue at `now` (epoch seconds); empty if there is no queue.

    Raises StoreError if it cannot be read, and what `open_store` raises.
    """
    if is_database(where):
        from queuectl.store.mongodb.opening import read_summary as read_elsewhere

        return read_elsewhere(where)
    from queuectl.store.files.summary import read_summary

    return read_summary(where, now)


def exists(where: str) -> bool:
    """Whether the queue exists; StoreError if what is there cannot be used."""
    if is_database(where):
        return open_store(where).exists()
    from queuectl.store.files.marker import check_folder

    return check_folder(where)


def watch(where: str) -> Watch:
    """The store's watch without the store; raises what `open_store` raises."""
    if is_database(where):
        from queuectl.store.mongodb.opening import watch as watch_elsewhere

        return watch_elsewhere(where)
    from queuectl.store.files.watch import FileWatch

    return FileWatch(where, lambda: open_store(where).find())


def output(where: str) -> Output:
    """The store's output without the store; raises what `open_store` raises."""
    if is_database(where):
        return open_store(where).output
    from queuectl.store.files.logs import LogFolder

    return LogFolder(where)


def words_left(where: str) -> tuple[list[str], list[str]]:
    """The messages that workers left for people, now taken, and the files that keep hand edits."""
    if is_database(where):
        return [], []
    from queuectl.store.files import marker

    return marker.words_left(where)


def let_go(where: str) -> None:
    """Close this process's connection to a database before a fork; later use opens it anew."""
    if is_database(where):
        from queuectl.store.mongodb.connection import close_all

        close_all()


def greeting(where: str) -> str:
    """The answer of the queue's server: its name, version, form, and how long it took."""
    from queuectl.store.mongodb.opening import greeting as greeting_of

    return greeting_of(where)
