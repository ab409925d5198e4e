"""Which store keeps the queue that a path or URL names. Only that one is imported."""

from __future__ import annotations

from queuectl.addresses import address_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from queuectl.store.contract import Store
    from queuectl.store.facts import Summary
    from queuectl.store.output import Output
    from queuectl.store.watch import Watch


def open_store(where: str) -> Store:
    """The store of the queue at `where`; nothing is read or made before it is needed.

    InvalidInput if it is the URL of a kind of store that is not known, StoreError if what the
    store needs is not installed.
    """
    if _is_database(where):
        from queuectl.store.mongodb.opening import opened

        return opened(where)
    from queuectl.store.files.file_store import FileStore

    return FileStore(where)


def summary(where: str, now: float) -> Summary:
    """What `status` shows of the queue at the moment `now` (epoch seconds); absent, it is empty.

    Raises StoreError if it cannot be read, and as `open_store`.
    """
    if _is_database(where):
        from queuectl.store.mongodb.opening import read_summary as read_elsewhere

        return read_elsewhere(where)
    from queuectl.store.files.summary import read_summary

    return read_summary(where, now)


def exists(where: str) -> bool:
    """Whether there is a queue already; StoreError if what is there cannot be used."""
    if _is_database(where):
        return open_store(where).exists()
    from queuectl.store.files.marker import check_folder

    return check_folder(where)


def watch(where: str) -> Watch:
    """The store's watch, without the store; raises as `open_store`."""
    if _is_database(where):
        from queuectl.store.mongodb.opening import watch as watch_elsewhere

        return watch_elsewhere(where)
    from queuectl.store.files.watch import FileWatch

    return FileWatch(where, lambda: open_store(where).find())


def output(where: str) -> Output:
    """The store's output, without the store; raises as `open_store`."""
    if _is_database(where):
        return open_store(where).output
    from queuectl.store.files.logs import LogFolder

    return LogFolder(where)


def words_left(where: str) -> tuple[list[str], list[str]]:
    """What workers left to be told, now taken; and the files in which an edit by hand is kept."""
    if address_of(where):
        return [], []
    from queuectl.store.files import marker

    return marker.words_left(where)


def let_go(where: str) -> None:
    """Close what this process holds open of a database, before it forks; it is opened anew."""
    if address_of(where):
        from queuectl.store.mongodb.connection import close_all

        close_all()


def greeting(where: str) -> str:
    """What a server answers that keeps the queue: its name, version, form, and how long it took."""
    from queuectl.store.mongodb.opening import greeting as greeting_of

    return greeting_of(where)


def _is_database(where: str) -> bool:
    """Whether the path stands for a queue in MongoDB; InvalidInput for a URL of any kind."""
    if "://" in where:
        from queuectl.places import refuse_address

        refuse_address(where)
    return address_of(where) is not None
