"""Which store keeps the queue that a path or URL names. Only that one is imported."""

from __future__ import annotations

from queuectl.addresses import address_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from typing import Protocol

    from queuectl.model.job import Job
    from queuectl.store.contract import Store
    from queuectl.store.facts import Summary

    class Follower(Protocol):
        """See Follower in store/files/glance.py."""

        def changes(self) -> list[bytes] | None: ...
        def close(self) -> None: ...

    class Glance(Protocol):
        """See Glance in store/files/glance.py."""

        def newest(self, states: Collection[str] | None, start: str, most: int) -> list[Job]: ...
        def next_claimed(self, now: str, most: int) -> list[Job]: ...
        def latest(self, key: str, most: int) -> tuple[list[Job], bool]: ...
        def holding(self, states: Collection[str] | None, text: str) -> Iterator[Job]: ...
        def present(self, ids: Collection[str]) -> dict[str, Job]: ...
        def close(self) -> None: ...

    class Seen(Protocol):
        """What a menu shows of a job; see store/files/peek.py."""

        @property
        def id(self) -> str: ...
        @property
        def state(self) -> str: ...
        @property
        def command(self) -> str: ...
        @property
        def updated_at(self) -> str: ...
        @property
        def started_at(self) -> str | None: ...

    class Peek(Protocol):
        """See Peek in store/files/peek.py."""

        def newest(
            self, states: Collection[str] | None, start: str, most: int
        ) -> Sequence[Seen]: ...
        def tags(self) -> list[str]: ...
        def close(self) -> None: ...


def open_store(where: str) -> Store:
    """The store of the queue at `where`; nothing is read or made before it is needed.

    InvalidInput if it is the URL of a kind of store that is not known, StoreError if what the
    store needs is not installed.
    """
    _refuse_url(where)
    if address_of(where):
        from queuectl.store.mongodb.opening import opened

        return opened(where)
    from queuectl.store.files.file_store import FileStore

    return FileStore(where)


def summary(where: str, now: float) -> Summary:
    """What `status` shows of the queue at the moment `now` (epoch seconds); absent, it is empty.

    Raises StoreError if it cannot be read, and as `open_store`.
    """
    _refuse_url(where)
    if address_of(where):
        from queuectl.store.mongodb.opening import read_summary as read_elsewhere

        return read_elsewhere(where)
    from queuectl.store.files.summary import read_summary

    return read_summary(where, now)


def exists(where: str) -> bool:
    """Whether there is a queue already; StoreError if what is there cannot be used."""
    _refuse_url(where)
    if address_of(where):
        return open_store(where).exists()
    from queuectl.store.files.marker import check_folder

    return check_folder(where)


def change_mark(where: str) -> tuple[object, ...]:
    """Differs from an earlier one whenever jobs, settings or the list of workers changed."""
    if address_of(where):
        from queuectl.store.mongodb import watch

        return watch.change_mark(where)
    from queuectl.store.files import peek

    return peek.change_mark(where)


def follower(where: str) -> Follower:
    """What tells which jobs changed since it was asked last."""
    if address_of(where):
        from queuectl.store.mongodb.watch import MongodbFollower

        return MongodbFollower(where)
    from queuectl.store.files.glance import Follower

    return Follower(where)


def glance(where: str, now: float) -> Glance:
    """The newest jobs, and those that are claimed next, as they are at the moment `now`."""
    if address_of(where):
        from queuectl.store.mongodb.watch import MongodbGlance

        return MongodbGlance(where)
    from queuectl.store.files.glance import Glance

    return Glance(where, now)


def peek(where: str, now: float) -> Peek:
    """What a menu shows of the queue at the moment `now`."""
    if address_of(where):
        from queuectl.store.mongodb.watch import MongodbPeek

        return MongodbPeek(where)
    from queuectl.store.files.peek import Peek

    return Peek(where, now)


def menu_mark(where: str, now: float) -> tuple[object, ...]:
    """The same as `change_mark` for a menu, which may look more often than need be."""
    return (now,) if address_of(where) else change_mark(where)


def menu_settings(where: str) -> Mapping[str, object]:
    """The settings that were changed, for a menu, which does not wait."""
    if address_of(where):
        from queuectl.store.mongodb.watch import quick_settings

        return quick_settings(where)
    return open_store(where).settings()


def let_go(where: str) -> None:
    """Close what this process holds open of a database, before it forks; it is opened anew."""
    if address_of(where):
        from queuectl.store.mongodb.connection import close_all

        close_all()


def greeting(where: str) -> str:
    """What a server answers that keeps the queue: its name, version, form, and how long it took."""
    from queuectl.store.mongodb.opening import greeting as greeting_of

    return greeting_of(where)


def _refuse_url(where: str) -> None:
    if "://" in where:
        from queuectl.places import refuse_address

        refuse_address(where)
