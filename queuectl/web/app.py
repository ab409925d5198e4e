"""The ASGI application: guard, right, route, handler, answer; every answer passes through here."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from anyio import CapacityLimiter, to_thread
from starlette.responses import Response

from queuectl.errors import NoSuchJob, QueuectlError
from queuectl.web.exchange import Answer, Call, Refused, old_problem, problem, refusal_of
from queuectl.web.guard import (
    HEADERS,
    Door,
    Head,
    caller,
    check,
    head_of,
    is_near,
    read_body,
    request_id,
)
from queuectl.web.routes import Route, check_members, find, read_json, read_query
from queuectl.web.service import Service
from queuectl.web.streams import Sender, Streams
from queuectl.web.tokens import Tokens

_THREADS = 4
MOST_CONNECTIONS = 100
_OLDER = "@1735689600"  # when the ten older endpoints were deprecated, in the form of RFC 9745

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


class App:
    """Answers requests on one queue. `log` is called for every change and every internal error.

    `told_how`: the curl line with the token's file, for a caller on this machine without a token.
    """

    def __init__(
        self,
        service: Service,
        routes: Sequence[Route],
        door: Door,
        tokens: Tokens,
        *,
        log: Callable[[str], None],
        told_how: str = "",
    ) -> None:
        self.service = service
        self.streams = Streams(service)
        self._routes = routes
        self._door = door
        self._tokens = tokens
        self._log = log
        self._told_how = told_how
        self._limiter: CapacityLimiter | None = None
        self.connections: Collection[object] = ()  # all open connections, as the server keeps them

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        head = head_of(scope)
        route, named, allowed = find(self._routes, head.method, head.path)
        frame = _frame(head, route)
        try:
            answer = await self._answer(scope, receive, head, route, named, allowed)
        except Exception as exc:
            answer = self._failed(exc, head, route)
        if callable(answer):
            try:
                await answer(send, receive, frame)
            except Exception as exc:  # its head is sent: it can only be logged
                self._tell(exc, head)
            return
        headers = {**frame, **answer.headers}
        if answer.status == 413:
            headers["connection"] = "close"  # otherwise the rest of the body would have to be read
        if answer.status not in (204, 304):
            headers["content-type"] = answer.media
        content = answer.content()
        if head.method == "HEAD":
            headers["content-length"] = str(len(content))
            content = b""
        response = Response(content, answer.status, headers)
        if answer.status in (204, 304) and "content-length" in response.headers:
            del response.headers["content-length"]
        await response(scope, receive, send)

    async def _answer(
        self,
        scope: Scope,
        receive: Receive,
        head: Head,
        route: Route | None,
        named: dict[str, str],
        allowed: list[str],
    ) -> Any:
        if len(self.connections) > MOST_CONNECTIONS:
            headers = {"retry-after": "5", "connection": "close"}
            raise Refused(503, "too many connections are open", headers=headers)
        acts = route is not None and (route.acts or route.right == "full")
        check(head, self._door, acts=acts, advice=route.advice if route else "")
        if not allowed:
            raise Refused(404, "there is nothing at this address")
        if head.method == "OPTIONS":
            return Answer(204, headers={"allow": ", ".join(allowed)})
        if route is None:
            raise _impossible(head, allowed)
        right = self._right(route, head, is_near(scope, head, self._door))
        if head.method not in allowed and not await self._is_there(named["id"]):
            raise _impossible(head, allowed)
        who = f"{right or 'no'} token, {caller(scope, head, self._door)}"
        query = {} if route.kind == "page" else read_query(route, head.query)
        body = await _body(route, receive)
        call = Call(head.method, named, query, head.headers, body, right, who)
        if route.kind == "stream":
            return await self.streams.open(call)
        if query.get("wait"):
            await self.streams.wait_for_change(call, self.service.etag, query["wait"])
        assert route.handler is not None
        answer: Answer = await self._in_thread(route.handler, self.service, call)
        if isinstance(answer.body, Iterator):
            return await self._in_parts(answer, head)
        if answer.did:
            self._log(f"{_now()} {who}: {head.method} {head.path}: {answer.did}")
        return answer

    def _right(self, route: Route, head: Head, near: bool) -> str:
        """The right that the caller has; Refused if the route needs more.

        `near`: the caller is on this machine and may learn where the token is.
        """
        if not route.right:
            return ""
        right = "full" if head.local else self._tokens.right_of(head.headers.get("authorization"))
        if not right:
            if "authorization" in head.headers and self._tokens.failed():
                raise Refused(429, "too many wrong tokens", headers={"retry-after": "1"})
            raise Refused(
                401,
                f"this needs the token of this server. {self._told_how if near else ''}".strip(),
                headers={"www-authenticate": 'Bearer realm="queuectl"'},
            )
        if route.right == "full" and self.service.read_only and route.name != "getVariables":
            raise Refused(403, "this server is read-only: it was started with --read-only")
        if route.right == "full" and right != "full":
            raise Refused(403, "this token may only read; the full one may change the queue")
        return right

    async def _in_parts(self, answer: Answer, head: Head) -> Sender:
        """A sender of a body as it is read; an error before its first part becomes an answer."""
        parts = answer.body
        first = await self._in_thread(next, parts, b"")

        async def send_all(send: Any, receive: Any, frame: Mapping[str, str]) -> None:
            headers = {**frame, **answer.headers, "content-type": answer.media}
            raw = [(name.encode(), text.encode()) for name, text in headers.items()]
            part = b"" if head.method == "HEAD" else first
            try:
                await send({"type": "http.response.start", "status": answer.status, "headers": raw})
                while part:
                    await send({"type": "http.response.body", "body": part, "more_body": True})
                    part = await self._in_thread(next, parts, b"")
                await send({"type": "http.response.body", "body": b""})
            finally:
                await self._in_thread(parts.close)

        return send_all

    async def _in_thread(self, work: Callable[..., Any], *given: object) -> Any:
        if self._limiter is None:
            self._limiter = CapacityLimiter(_THREADS)
        return await to_thread.run_sync(work, *given, limiter=self._limiter)

    async def _is_there(self, job_id: str) -> bool:
        try:
            await self._in_thread(self.service.operations.job, job_id)
        except NoSuchJob:
            return False
        return True

    def _tell(self, error: Exception, head: Head) -> None:
        self._log(f"{_now()} {head.method} {head.path}: {type(error).__name__}: {error}")

    def _failed(self, error: Exception, head: Head, route: Route | None) -> Answer:
        refused = refusal_of(error)
        if not isinstance(error, (Refused, QueuectlError)):
            self._tell(error, head)
        old = route is not None and route.kind == "old"
        return old_problem(refused) if old else problem(refused)


def _impossible(head: Head, allowed: Sequence[str]) -> Refused:
    return Refused(
        405, f"{head.method} is not possible here", headers={"allow": ", ".join(allowed)}
    )


async def _body(route: Route, receive: Receive) -> Any:
    data = await read_body(receive)
    if route.body is None:
        return None
    if not data and isinstance(route.body, tuple):
        return check_members(route.body, {})
    form = read_json(data)
    return check_members(route.body, form) if isinstance(route.body, tuple) else form


def _frame(head: Head, route: Route | None) -> dict[str, str]:
    """The headers of every answer."""
    frame = {**HEADERS, "x-request-id": request_id(head.headers)}
    if route is not None and route.kind == "old":
        frame["deprecation"] = _OLDER
    return frame


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
