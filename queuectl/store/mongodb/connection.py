"""The connection to a MongoDB server or replica set: one client per process, and its clock.

Every error of the driver becomes one line here. An acknowledged write is in the journal of a
majority, whatever the URL says: the default of a standalone server loses data.
"""

from __future__ import annotations

import random
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import timezone
from itertools import islice
from typing import Any, TypeVar

from pymongo import MongoClient, ReadPreference, WriteConcern, errors
from pymongo.errors import PyMongoError

from queuectl.addresses import Address
from queuectl.errors import (
    DiskRefused,
    InvalidInput,
    NotConfirmed,
    StoreBusy,
    StoreError,
    Unanswered,
)

_APP = "queuectl"  # the name of our clients at the server
PATIENCE = 4.0  # seconds to wait for a silent server; a command ends within 5
MARKER = "queuectl"  # the document of the collection `meta` that makes a database a queue
SETTINGS = "settings"  # the document of the collection `config`
_PIECE = 1000  # documents inserted, or queried by id, at once
DUPLICATE = 11000  # the server's code for a duplicate in a unique index
STANDALONE, SHARDED = "standalone", "sharded cluster"  # forms
MAKE_SET = "start mongod with --replSet rs0, then once rs.initiate() in mongosh"
JOB_BY_JOB = "a standalone server: changes of several jobs are made job by job"
ELECTION = 20.0  # seconds to wait for a primary while other members of the set answer
_TRY_AGAIN = 0.2  # seconds until a server that fell silent is asked again
_TELL_AFTER = 1.0  # seconds
_SILENCE = 5  # times that patience: the longest that a single answer may take
_CLOCK_AGE = 60.0  # seconds after which the server's clock is read again
_CLOCK_MOVED = 0.01  # seconds
_TRANSACTION = 10.0  # seconds for which a transaction in conflict with others is tried
_ABANDONED = 2.0  # seconds after which an idle transaction counts as left by a killed process
_PAUSE = 0.02  # seconds at most until it is tried again
_OLDEST = 13  # wire version: MongoDB 5.0, which keeps keys with dots and dollars
_RIGHTS = (13, 18, 31, 8000)  # codes of the server: no rights, wrong password, no such role
_TOO_OLD = "is older than MongoDB 5.0: update the server"
_NO_RIGHTS = 13
_FULL = (14031, 17280, 39)
_TOO_LARGE = (10334, 17419, 17420)
_ADVICE = (  # advice, by what the driver says about a silent server
    ("CERTIFICATE", "is its certificate the right one?"),
    ("SSL", "does it speak TLS?"),
    ("connection closed", "does it ask for TLS (tls=true in the URL)?"),
    ("internal hostnames", "a set must name its members so that each host finds them"),
    ("[Errno -", "does this host know that name?"),
    ("replica set name", "is its set named so?"),
    ("No primary", "rs.status() in mongosh tells why"),
    ("Primary()", "rs.status() in mongosh tells why"),
)
_Item = TypeVar("_Item")


class Connection:
    """The client of one address; connected at its first use.

    Methods that ask the server raise StoreError, and Unanswered if one may answer later. Other code
    asks it within `told`.

    `form`: "replica set", "standalone" or "sharded cluster". `on_wait` is called once, with a line,
    when an answer takes longer than a second.
    """

    def __init__(self, address: Address, patience: float = PATIENCE) -> None:
        self.address = address
        self.form = ""
        self.on_wait: Callable[[str], None] | None = None
        self._patience = patience
        self.notices: list[str] = []  # what a person should know about the URL
        self._client: MongoClient[dict[str, Any]] | None = None
        self._database: Any = None
        self._jobs: Any = None
        self._soon: Any = None
        self._mutex = threading.Lock()
        self._refused = (float("-inf"), "")  # when nobody answered last, and what was said then
        self._offset, self._looked = 0.0, float("-inf")
        self._apart = 0.0  # between our own two clocks when the server's was read
        self.lacks_index = False  # whether an index was found missing; see MongodbStore._there
        self.got_on = float("-inf")  # when part of a long operation was last done, by `clock`

    @property
    def client(self) -> MongoClient[dict[str, Any]]:
        """The connected client; StoreError if no server answers."""
        client = self._client
        if client is None:
            with self._mutex:  # one thread may watch while another works
                client = self._client = self._client or self._connect_again()
        return client

    @property
    def database(self) -> Any:
        """The queue's database; kept, since the driver makes a new object at each access."""
        client = self.client
        if self._database is None or self._database.client is not client:
            self._database = client[self.address.database]
            self._jobs = self._database.jobs
        return self._database

    @property
    def jobs(self) -> Any:
        """Its collection of jobs, also kept."""
        _ = self.database
        return self._jobs

    @property
    def soon(self) -> Any:
        """The database for writes that the next write makes durable, or that are done again."""
        if self._soon is None or self._soon.client is not self.client:
            self._soon = self.database.with_options(write_concern=WriteConcern(w=1))
        return self._soon

    @property
    def term(self) -> object:
        """A value that changes with each new primary of a set."""
        return self.client.topology_description.max_election_id

    @property
    def has_transactions(self) -> bool:
        """Whether the server can change several documents at once; a standalone one cannot."""
        return self.client is not None and self.form != STANDALONE

    def _connect_again(self) -> MongoClient[dict[str, Any]]:
        """A client; Unanswered at once where nobody answered a moment ago.

        So a command that asks several times waits once.
        """
        refused_at, why = self._refused
        if time.monotonic() - refused_at < _TELL_AFTER:
            raise Unanswered(why)
        try:
            return self._connect()
        except Unanswered as exc:
            self._refused = time.monotonic(), str(exc)
            raise

    def _connect(self) -> MongoClient[dict[str, Any]]:
        with self.told(), self._url_read():
            client: MongoClient[dict[str, Any]] = MongoClient(
                self.address.url,
                w="majority",
                journal=True,
                readPreference="primary",
                retryWrites=True,
                retryReads=True,
                appname=_APP,
                serverSelectionTimeoutMS=int(min(_TELL_AFTER, self._patience) * 1000),
                connectTimeoutMS=int(self._patience * 1000),
                # An error shows at once that a server is gone; a notice of it would cost the driver
                # two more threads and a connection.
                serverMonitoringMode="poll",
                # A stopped server accepts a connection but does not answer.
                socketTimeoutMS=int(self._patience * _SILENCE * 1000),
            )
        try:
            self._find_primary(client)
        except BaseException:
            client.close()
            raise
        servers = client.topology_description.server_descriptions().values()
        kinds = _kinds(client)
        self.form = STANDALONE if "Standalone" in kinds else "replica set"
        if kinds & {"Mongos", "LoadBalancer"}:
            self.form = SHARDED
        if max(server.max_wire_version for server in servers) < _OLDEST:
            client.close()
            raise StoreError(f"{self.address.name} {_TOO_OLD}")
        return client

    @contextmanager
    def _url_read(self) -> Iterator[None]:
        """Report in our own words what the driver says about the options of the URL."""
        try:
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                yield
        except OSError as exc:
            raise StoreError(
                f"{self.address.name}: {self._short(exc)}; look at the certificates that its URL "
                "names"
            ) from exc
        for one in told:
            text = self._short(one.message)
            if text.startswith("Unknown option"):
                text = "its URL has an option that the driver does not know and that is ignored"
            self.notices.append(f"{self.address.name}: {text}")

    def _find_primary(self, client: MongoClient[dict[str, Any]]) -> None:
        """Wait for a server that accepts writes, or for the election of one."""
        began, election = time.monotonic(), None
        while True:
            try:
                with self.told():
                    if client.is_primary:  # this waits, and asks nothing new
                        return
                    self._refuse_uninitiated(client)
                    text = (
                        f"{self.address.name} is not the primary of its set, and "
                        "directConnection=true lets nobody look for that: take it out of the URL"
                    )
                    raise StoreError(text) if _primary_of(client) else Unanswered(text)
            except Unanswered:
                waited = time.monotonic() - began
                elects = bool(_kinds(client) - {"Unknown", "PossiblePrimary", "RSGhost"})
                if not elects:
                    self._refuse_uninitiated(client)
                if elects and election is None:
                    election = self._election_timeout(client)
                if waited >= (election if elects and election else self._patience - _TELL_AFTER):
                    raise
                if self.on_wait is not None:
                    what = "has no primary at the moment" if elects else "does not answer"
                    self.on_wait(f"{self.address.name} {what}; waiting")
                    self.on_wait = None

    def await_answer(self) -> None:
        """Wait until a server accepts writes again, as at the start; Unanswered if none does."""
        wait(_TRY_AGAIN)  # a caller that fails at once, again and again, must not keep us busy
        self._find_primary(self.client)

    def _refuse_uninitiated(self, client: MongoClient[dict[str, Any]]) -> None:
        if "RSGhost" in _kinds(client):
            raise Unanswered(
                f"{self.address.name} belongs to a replica set that was not initiated yet: run "
                "rs.initiate() in mongosh, once"
            )

    def _election_timeout(self, client: MongoClient[dict[str, Any]]) -> float:
        """The setting, read from another member of the set."""
        others = ReadPreference.SECONDARY_PREFERRED
        config = client.get_database(self.address.database, read_preference=others).config
        found = None
        with suppress(PyMongoError):
            found = config.find_one({"_id": SETTINGS})
        value = (found or {}).get("election-timeout")
        return float(value) if isinstance(value, (int, float)) else ELECTION

    def greeting(self) -> str:
        """Name, version and form of the server, and the time of its answer."""
        admin = self.client.admin
        with self.told():
            version = admin.command("buildInfo")["version"]
            began = time.monotonic()
            admin.command("ping")
        took = (time.monotonic() - began) * 1000
        return f"{self.address.name}, MongoDB {version}, {self.form}, {took:.1f} ms"

    def now(self) -> float:
        """The server's clock: seconds since 1970."""
        # Ours may be set, or stop while the machine is suspended.
        moved = now() - time.monotonic() - self._apart
        if time.monotonic() - self._looked > _CLOCK_AGE or abs(moved) > _CLOCK_MOVED:
            try:
                self._look_at_clock()
            except Unanswered:
                # A run may end while no server answers; only what is stored must wait.
                if self._looked < 0 or abs(moved) > _CLOCK_MOVED:
                    raise
        return now() + self._offset

    def _look_at_clock(self) -> None:
        client, sent = self.client, now()
        with self.told():
            told = client.admin.command("hello")["localTime"].replace(tzinfo=timezone.utc)
        took = now() - sent
        # As of the middle of the round trip; the server answers in whole milliseconds.
        offset = told.timestamp() + 0.0005 - (sent + took / 2)
        # A difference that the round trip or the rounding can explain counts as none.
        self._offset = offset if abs(offset) > took / 2 + 0.001 else 0.0
        self._looked = time.monotonic()
        self._apart = now() - self._looked

    @contextmanager
    def told(self, unsure: str = "") -> Iterator[None]:
        """Turn each of the driver's errors into one line.

        `unsure`: what may have been done although the answer was lost; raises NotConfirmed then.
        """
        try:
            yield
        except PyMongoError as exc:
            raise self._told(exc, unsure) from exc
        except (OverflowError, errors.InvalidDocument) as exc:
            raise InvalidInput(f"MongoDB cannot keep this job: {exc}") from exc
        # From a URL that the driver cannot read, or a document that an edit broke.
        except (KeyError, ValueError, TypeError) as exc:
            raise InvalidInput(f"{self.address.name}: {self._short(exc)}") from exc

    def _told(self, exc: PyMongoError, unsure: str) -> StoreError | InvalidInput:
        name, short = self.address.name, self._short(exc)
        code = getattr(exc, "code", None)
        if isinstance(exc, errors.ServerSelectionTimeoutError):
            advice = next((text for part, text in _ADVICE if part in short), "is it running?")
            short = short.partition(" Replica set is configured")[0].rstrip(".")
            return Unanswered(f"{name} does not answer: {short}; {advice}")
        if isinstance(exc, errors.ConfigurationError) and "reports wire version" in short:
            return StoreError(f"{name} {_TOO_OLD}")  # also for the driver
        if isinstance(exc, (errors.InvalidURI, errors.ConfigurationError)):
            return StoreError(f"{name}: {short}")
        if code in _RIGHTS:
            what, brace, command = short.partition(" { ")  # the whole command if it is not allowed
            short = f"{what} {{ {command.partition(',')[0]} }}" if brace else short
            advice = "give the user the role readWrite on the database"
            if code != _NO_RIGHTS or "requires authentication" in short:
                advice = "look at user, password and authSource in the URL"
            return StoreError(f"{name} refuses what queuectl needs: {short}; {advice}")
        if code in _FULL:
            return DiskRefused(f"nothing was changed: the disk of {name} is full")
        if "hint provided does not" in short:
            self.lacks_index = True
            with suppress(PyMongoError):
                self.database.meta.update_one({"_id": MARKER}, {"$set": {"layout": 0}})
            return StoreError(f"{name} lacks an index that it had; the next command makes it anew")
        if code in _TOO_LARGE:
            return InvalidInput("MongoDB keeps at most 16 MB in one document: put it into a file")
        if isinstance(exc, errors.ConnectionFailure) or exc.has_error_label("RetryableWriteError"):
            if unsure:
                return NotConfirmed(f"{name} did not confirm {unsure}: {short}")
            return Unanswered(f"the connection to {name} broke: {short}")
        return StoreError(f"{name}: {short}")

    def _short(self, exc: Exception | str) -> str:
        """The driver's message without its settings, its view of the set, and any password."""
        text = " ".join(self.address.cleaned(str(exc)).split())
        for end in (" (configured timeouts", ", Timeout:", ", full error:"):
            text = text.partition(end)[0]
        return text[:300]

    @contextmanager
    def snapshot(self) -> Iterator[Any]:
        """A session that reads everything as of its first read; None if the server has none."""
        if not self.has_transactions:
            yield None
            return
        with self.client.start_session(snapshot=True) as session:
            yield session

    def transaction(self, deed: Callable[[Any], Any], what: str) -> Any:
        """Run `deed`, which gets a session, as a whole or not at all; returns its result.

        It may be called several times. `what` names it in NotConfirmed, raised if its outcome stays
        unknown. Also raises what `deed` raises, and StoreBusy if others keep getting in its way.
        The driver's own loop for this goes on for two minutes.
        """
        looked = time.monotonic()
        deadline = looked + _TRANSACTION
        with self.told(), self.client.start_session() as session:
            while True:
                session.start_transaction()
                try:
                    done = deed(session)
                    self._commit(session, deadline, what)
                    return done
                except PyMongoError as exc:
                    if session.in_transaction:
                        session.abort_transaction()
                    if not exc.has_error_label("TransientTransactionError"):
                        raise
                    if time.monotonic() > deadline:
                        if isinstance(exc, errors.ConnectionFailure):
                            raise
                        raise StoreBusy(
                            f"others change the same jobs in {self.address.name} all the time; "
                            "nothing was changed: try again"
                        ) from exc
                    if time.monotonic() > looked + _ABANDONED:
                        self.end_abandoned()
                        looked = time.monotonic()
                    wait(random.uniform(0, _PAUSE))  # the others must get on too
                except BaseException:
                    if session.in_transaction:
                        session.abort_transaction()
                    raise

    def end_abandoned(self) -> None:
        """End transactions of killed processes; the server would lock their jobs for a minute."""
        idle = {"$gt": int(_ABANDONED * 1_000_000)}
        steps: list[dict[str, Any]] = [
            {"$currentOp": {"allUsers": False, "idleSessions": True}},
            {"$match": {"appName": _APP, "transaction.timeInactiveMicros": idle}},
        ]
        with suppress(PyMongoError):  # otherwise it is over in a minute
            ids = [{"id": found["lsid"]["id"]} for found in self.client.admin.aggregate(steps)]
            if ids:
                self.client.admin.command("killSessions", ids)

    def _commit(self, session: Any, deadline: float, what: str) -> None:
        """Commit; a commit whose answer was lost is repeated, which does no harm."""
        while True:
            try:
                session.commit_transaction()
                return
            except PyMongoError as exc:
                if not exc.has_error_label("UnknownTransactionCommitResult"):
                    raise
                if time.monotonic() > deadline:
                    raise NotConfirmed(
                        f"{self.address.name} did not confirm {what}: {self._short(exc)}"
                    ) from exc

    def close(self) -> None:
        """Close the client."""
        client, self._client, self._database, self._jobs = self._client, None, None, None
        if client is not None:
            client.close()


def _kinds(client: MongoClient[dict[str, Any]]) -> set[str]:
    """The kinds of the servers that a client knows."""
    servers = client.topology_description.server_descriptions().values()
    return {server.server_type_name for server in servers}


def _primary_of(client: MongoClient[dict[str, Any]]) -> object:
    """The primary, as named by a member of its set."""
    servers = client.topology_description.server_descriptions().values()
    return next((server.primary for server in servers if server.primary), None)


def pieces(items: Iterable[_Item], most: int = _PIECE) -> Iterator[list[_Item]]:
    """The items in their order, at most `most` at a time."""
    source = iter(items)
    while piece := list(islice(source, most)):
        yield piece


def now() -> float:
    """This host's own clock: seconds since 1970."""
    return time.time()


def clock() -> float:
    """Monotonic seconds, which also count suspended time if the system supports that."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def wait(seconds: float) -> None:
    """Sleep for `seconds`."""
    time.sleep(seconds)


_connections: dict[tuple[str, float], Connection] = {}  # by URL and patience


def connect(address: Address, patience: float = PATIENCE) -> Connection:
    """The process's only connection to this address; it connects at its first use."""
    return _connections.setdefault((address.url, patience), Connection(address, patience))


def close_all() -> None:
    """Close all clients; a connection that is used again reconnects."""
    for connection in _connections.values():
        connection.close()
