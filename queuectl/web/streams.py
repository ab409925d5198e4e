"""The stream of events: what changed, for every reader, from a single look at the queue.

Server-sent events (HTML standard), over a request that can carry a token. An event's id is a
position in the mirror's changes: a reader that comes back sends it and misses nothing, or is told
to read everything anew (`resync`). A slow reader costs no memory: when it reads again, it gets the
latest.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

from anyio import CapacityLimiter, to_thread

from queuectl.errors import QueuectlError, line_of
from queuectl.model.job import Job
from queuectl.model.times import parse_time
from queuectl.web.exchange import Call, Refused
from queuectl.web.jobs_api import status_form, whole_signs
from queuectl.web.mirror import Change, event
from queuectl.web.operations import Part
from queuectl.web.queue_api import workers_form
from queuectl.web.service import Service

MOST_STREAMS = 64
_LOOK = 0.15  # seconds between looks at the queue while somebody listens
_WORKERS = 2.0  # between looks at the workers, since their deaths change no file
_BEAT = 15.0  # between signs of life
_BEATS = 30.0  # between beats of a worker that are sent: each one sends all workers to all readers
# The rest after a look: times its processor time, times its duration (longer on a busy machine or
# with a database), and the maximum.
_REST, _WAITED, _LONGEST_REST = 20.0, 2.0, 0.8
_PART = 1 << 16  # bytes of output in one event
_LAST = 256  # bytes by which the output is recognised again
# Seconds between two rounds, in which all readers get the same: at least, and for each reader.
_PACE, _PACE_EACH = 0.25, 0.015
_FIRST = asyncio.FIRST_COMPLETED

Sender = Callable[[Any, Any, Mapping[str, str]], Awaitable[None]]


class Streams:
    """All readers. Belongs to the event loop; the queue is read in a thread."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._open = 0
        self._waiting = 0
        self._looking: asyncio.Task[None] | None = None
        self._moved: asyncio.Event | None = None  # set by the next round
        self._looked: asyncio.Event | None = None  # whether there was a first look
        self._closing: asyncio.Event | None = None
        self._round: dict[object, asyncio.Future[_Told]] = {}  # what it sends, by reader
        # What every reader gets again when it changes, by the event's name.
        self.news: dict[str, dict[str, Any]] = {"counts": {}, "worker": {}, "trouble": {}}
        self._spelled: dict[str, tuple[object, bytes]] = {}
        self._limiter: CapacityLimiter | None = None
        self.closed = False

    def close(self) -> None:
        """End every stream at once."""
        self.closed = True
        for waited in (self._closing, self._moved, self._looked):
            if waited is not None:
                waited.set()

    # -- looking

    async def _begin(self) -> None:
        if self._moved is None:
            self._moved, self._closing = asyncio.Event(), asyncio.Event()
            self._limiter, self._round = CapacityLimiter(2), {}
        if self._looking is None or self._looking.done():
            self._looked = asyncio.Event()
            self._looking = asyncio.create_task(self._keep_looking(self._looked))
        assert self._looked is not None
        await self._looked.wait()

    async def _keep_looking(self, looked_once: asyncio.Event) -> None:
        looked, told, is_news = -_WORKERS, -_BEAT, False
        try:
            while (self._open or self._waiting) and not self.closed:
                began = time.monotonic()
                (moved, looked_at_workers), rest = await to_thread.run_sync(
                    self._look, began - looked >= _WORKERS, limiter=self._limiter
                )
                is_news = is_news or moved
                looked = began if looked_at_workers else looked
                now = time.monotonic()
                if is_news and now - told >= self.pace():
                    assert self._moved is not None
                    self._moved.set()  # wakes all readers that wait for news
                    self._moved, self._round = asyncio.Event(), {}
                    told, is_news = now, False
                looked_once.set()
                await asyncio.sleep(rest)
        finally:
            looked_once.set()

    def _look(self, workers: bool) -> tuple[tuple[bool, bool], float]:
        """The result of `_read`, and the seconds to rest after it."""
        began, worked = time.monotonic(), time.thread_time()
        found = self._read(workers)
        rest = max(
            _REST * (time.thread_time() - worked), _WAITED * (time.monotonic() - began), _LOOK
        )
        return found, min(rest, _LONGEST_REST)

    def _read(self, workers: bool) -> tuple[bool, bool]:
        try:
            changed = self._service.mirror.catch_up()
            if not changed and not workers:
                return False, False
            standing = status_form(self._service)
            found = _calm(workers_form(self._service, at_once=False), self.news["worker"])
            trouble = ""
        except Exception as exc:  # readers get it; an end of the loop would leave them deaf
            standing, found, trouble, changed = {}, [], line_of(exc), False
        standing.pop("time", None)
        new = {"counts": standing, "worker": {"items": found}, "trouble": {"detail": trouble}}
        moved = changed or new != self.news
        if moved:
            # Unchanged parts stay the same object, so that readers can compare by identity.
            self.news = {n: self.news[n] if self.news[n] == v else v for n, v in new.items()}
        return moved, True

    async def wait_for_change(self, call: Call, etag: Callable[[], str], seconds: float) -> None:
        """Return when the queue differs from `If-None-Match`, or when the time is up."""
        known = call.headers.get("if-none-match", "")
        deadline = time.monotonic() + seconds
        self._waiting += 1
        try:
            await self._begin()
            while not self.closed and etag() in known and time.monotonic() < deadline:
                assert self._moved is not None
                left = max(0.0, deadline - time.monotonic())
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._moved.wait(), left)
        finally:
            self._waiting -= 1

    # -- telling

    async def open(self, call: Call) -> Sender:
        """The sender of events to this reader; Refused if too many read, NoSuchJob, NoSuchRun."""
        if self._open >= MOST_STREAMS:
            raise Refused(503, "too many streams are open", headers={"retry-after": "5"})
        log = call.query["log"]
        if log is not None:
            ask, run = self._service.operations, call.query["run"]
            await to_thread.run_sync(lambda: ask.output(ask.job(log), run, 0, 1))
        return partial(self._send_all, call)

    async def _send_all(
        self, call: Call, send: Any, receive: Any, frame: Mapping[str, str]
    ) -> None:
        headers = {**frame, "content-type": "text/event-stream", "x-accel-buffering": "no"}
        raw = [(name.encode(), text.encode()) for name, text in headers.items()]
        await send({"type": "http.response.start", "status": 200, "headers": raw})
        if call.method == "HEAD":
            await send({"type": "http.response.body", "body": b""})
            return
        self._open += 1
        gone = asyncio.create_task(_gone(receive))
        ends: list[asyncio.Future[Any]] = [gone]
        try:
            await self._begin()
            assert self._closing is not None
            ends.append(asyncio.create_task(self._closing.wait()))
            await self._tell(_Reader(call, self), send, ends)
            if not gone.done():
                await send({"type": "http.response.body", "body": b""})
        except OSError:
            pass  # the reader went away
        finally:
            self._open -= 1
            for end in ends:
                end.cancel()

    def spelled(self, name: str, value: object) -> bytes:
        """An event that is the same for every reader, encoded once."""
        known = self._spelled.get(name)
        if known is None or known[0] is not value:
            known = self._spelled[name] = (value, event(name, value))
        return known[1]

    def pace(self) -> float:
        """Seconds between two rounds; longer with more readers."""
        return max(_PACE, _PACE_EACH * self._open)

    async def _tell(self, reader: _Reader, send: Any, ends: Sequence[asyncio.Future[Any]]) -> None:
        """Send the reader all news until one of `ends` is done or it has what it wanted."""
        beat = time.monotonic()
        await _put(send, b"retry: 2000\n\n", ends)
        while not any(end.done() for end in ends):
            moved = self._moved
            assert moved is not None
            text = await self._news(reader)
            if not text and time.monotonic() - beat >= _BEAT:
                text = b":\n\n"
            if text:
                await _put(send, text, ends)
                beat = time.monotonic()
            if reader.is_done():
                return
            await self._rest(reader, moved, ends)

    async def _news(self, reader: _Reader) -> bytes:
        """The news for the reader; made once for all readers that know the same."""
        place = reader.place()
        if place is None:
            return await self._find_news(reader)
        if place not in self._round:
            self._round[place] = asyncio.ensure_future(self._told_to(reader))
        told = await asyncio.shield(self._round[place])
        reader.take(told)
        return told.text

    async def _told_to(self, reader: _Reader) -> _Told:
        return reader.told(await self._find_news(reader))

    async def _find_news(self, reader: _Reader) -> bytes:
        text: bytes = await to_thread.run_sync(reader.news, limiter=self._limiter)
        return text

    async def _rest(
        self, reader: _Reader, moved: asyncio.Event, ends: Sequence[asyncio.Future[Any]]
    ) -> None:
        """Wait until there may be news for the reader and it may be sent."""
        pause = reader.pause() if reader.follows else 0.0
        if pause > 0:
            await asyncio.wait(ends, timeout=min(pause, reader.left()), return_when=_FIRST)
        longest = min(reader.left(), _LOOK * 2 if reader.follows else _BEAT)
        if moved.is_set() or any(end.done() for end in ends):
            return
        waiting = asyncio.ensure_future(moved.wait())
        try:
            await asyncio.wait([waiting, *ends], timeout=longest, return_when=_FIRST)
        finally:
            waiting.cancel()


class _Told(NamedTuple):
    """What was sent to a reader, and what the reader knows after it."""

    text: bytes
    position: str
    known: Mapping[str, Any]


class _Reader:
    """One reader: its position, and what it knows."""

    def __init__(self, call: Call, streams: Streams) -> None:
        query = call.query
        self._streams = streams
        self._service = streams._service
        self._position = call.headers.get("last-event-id") or query["since"]
        self._left = query["max"]
        wanted = query["timeout"]
        self._until = None if wanted is None else time.monotonic() + wanted
        self._told_at = 0.0
        self._known: dict[str, Any] = {}
        self._log, self._run, self._offset = query["log"], query["run"], query["offset"] or 0
        self._last = b""  # the end of the output sent so far
        self._ended = False

    @property
    def follows(self) -> bool:
        """Whether it follows the output of a running job."""
        return self._log is not None and not self._ended

    def place(self) -> object:
        """Equal for readers that get the same; None for a reader with its own wish."""
        if self._log is not None or self._left is not None:
            return None
        there = [self._service.mirror.position, *map(id, self._streams.news.values())]
        return (self._position, *(id(self._known.get(name)) for name in self._streams.news), *there)

    def told(self, text: bytes) -> _Told:
        """What readers like it also get."""
        return _Told(text, self._position, dict(self._known))

    def take(self, told: _Told) -> None:
        """Take over what another reader that knew the same got."""
        self._position, self._known = told.position, dict(told.known)

    def left(self) -> float:
        """Seconds until the end that the reader asked for."""
        return 3600.0 if self._until is None else max(0.0, self._until - time.monotonic())

    def is_done(self) -> bool:
        """Whether the reader has what it wanted."""
        return self._left == 0 or self.left() == 0.0

    def pause(self) -> float:
        """Seconds until the next round: a burst of changes is sent at once, then paced."""
        return self._told_at + self._streams.pace() - time.monotonic()

    def news(self) -> bytes:
        """The events that the reader does not know yet."""
        streams = self._streams
        events: list[bytes] = []
        position = self._service.mirror.position
        if self._position is None:
            events.append(event("hello", {"position": position}))
            self._position = position
        mirror = self._service.mirror
        found = (
            mirror.events_since(self._position)
            if self._left is None
            else _told(mirror.since(self._position))
        )
        if found is None:
            events.append(event("resync", {"position": position}))
            self._position = position
        else:
            changes, self._position = found
            events += changes
        for name, value in streams.news.items():
            if self._known.get(name) != value and (value or name != "counts"):
                if name != "trouble" or value["detail"] or name in self._known:
                    events.append(streams.spelled(name, value))
                self._known[name] = value
        events += [event("log", form) for form in self._output()]
        return self._joined(events)

    def _output(self) -> list[dict[str, Any]]:
        if not self.follows:
            return []
        try:
            job = self._service.operations.job(self._log)
        except QueuectlError:
            self._ended = True
            return [{"id": self._log, "gone": True}]
        run = self._run or job.run
        try:
            part = self._part(job, run or None)
        except QueuectlError:  # unreadable at the moment, or gone
            return []
        data = part.data
        if not part.complete:
            data = data[: whole_signs(data)]
        self._last = (self._last + data)[-_LAST:]
        end = part.offset + len(data)
        ended = part.complete and end >= part.size
        self._ended = ended and bool(job.run)
        if not data and not self._ended:
            return []
        form = {"id": self._log, "run": run, "offset": part.offset, "next": end}
        form |= {"size": part.size, "text": data.decode("utf-8", "replace"), "ended": self._ended}
        self._offset = end
        return [form]

    def _part(self, job: Job, run: int | None) -> Part:
        """The next part of the output; after a cut, which starts the file anew, the end.

        The bytes sent last must still precede it: a run that prints more than is kept goes on in an
        empty file, and its log is put together from pieces.
        """
        last, read = self._last, self._service.operations.output
        begin = self._offset - len(last)
        part = read(job, run, begin, _PART + len(last))
        if part.offset == begin and part.data.startswith(last):
            return part._replace(data=part.data[len(last) :], offset=self._offset)
        self._last = b""
        return read(job, run, -_PART, _PART)

    def _joined(self, events: list[bytes]) -> bytes:
        if not events:
            return b""
        whole = self._left is None or len(events) <= self._left
        if self._left is not None:
            events = events[: self._left]
            self._left -= len(events)
        self._told_at = time.monotonic()
        # Only the last event has the position: a reader that got only a part starts where it was.
        if whole:
            events = [*events[:-1], b"id: %s\n" % str(self._position).encode() + events[-1]]
        return b"".join(events)


def _calm(found: list[dict[str, Any]], told: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The workers, each with the beat sent before unless the new one is much later."""
    beats = {worker["id"]: worker.get("beat") for worker in told.get("items", ())}
    for worker in found:
        beat, before = worker.get("beat"), beats.get(worker["id"])
        if beat and before and parse_time(beat) - parse_time(before) < _BEATS:
            worker["beat"] = before
    return found


def _told(found: tuple[list[Change], str] | None) -> tuple[list[bytes], str] | None:
    """The changes as single events, for a reader that counts them."""
    return None if found is None else ([change.text for change in found[0]], found[1])


async def _put(send: Any, data: bytes, ends: Sequence[asyncio.Future[Any]]) -> None:
    """Send data, or give up at one of `ends`: a stuck reader must not delay the end."""
    part = {"type": "http.response.body", "body": data, "more_body": True}
    sending = asyncio.ensure_future(send(part))
    try:
        await asyncio.wait([sending, *ends], return_when=_FIRST)
        if sending.done():
            sending.result()
    finally:
        sending.cancel()


async def _gone(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
