"""The store that a host folder stands for, or one line that says what to install."""

from __future__ import annotations

import gc

from queuectl.addresses import address_of
from queuectl.errors import StoreError, not_installed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from queuectl.store.facts import Summary
    from queuectl.store.mongodb.mongodb_store import MongodbStore
    from queuectl.store.watch import Watch


def opened(folder: str) -> MongodbStore:
    """The store, not connected yet; StoreError if the driver is not installed."""
    address = address_of(folder)
    assert address is not None
    gc.disable()  # loading the driver's 300 modules would trigger it often: a tenth of a command
    try:
        import pymongo  # noqa: F401

        from queuectl.store.mongodb.mongodb_store import MongodbStore
    except ImportError as exc:
        if exc.name != "pymongo":
            raise
        raise StoreError(not_installed("a queue in MongoDB", "pymongo")) from None
    finally:
        gc.enable()
    return MongodbStore(address, folder)


def watch(folder: str) -> Watch:
    """The store's watch; raises what `opened` raises."""
    return opened(folder).watch()


def read_summary(folder: str) -> Summary:
    """What `status` shows of the queue; raises what `opened` raises."""
    return opened(folder).summary()


def greeting(folder: str) -> str:
    """Name, version and form of the server, and the time of its answer; raises as `opened`."""
    store = opened(folder)
    store.exists()  # a server may answer a greeting but refuse reads
    return store.connection.greeting()
