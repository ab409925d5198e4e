"""Which requests are accepted at all: the outermost layer, before every route.

The page runs commands as its user, and any page in a browser can send requests to it. So nothing
that a foreign page can cause is trusted: a request must name this server (against DNS rebinding),
must not come from another origin (other ports of this machine are foreign too), and must have its
token in a header that no browser adds by itself (App in app.py checks it with Tokens in tokens.py).
Sources of the rules: the Fetch Metadata and Origin headers of the Fetch standard; RFC 6750 for the
token.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from typing import Any, NamedTuple

from queuectl.web.exchange import Refused

MOST_BODY = 1 << 20  # bytes
LONGEST_BODY = 30.0  # seconds that a body may take to arrive
MOST_QUERY = 4096
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
_LOOPBACK = re.compile(r"127(\.(25[0-5]|2[0-4]\d|1?\d?\d)){3}", re.ASCII)
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SAFE = ("GET", "HEAD", "OPTIONS")
# If one of these is sent twice, another program may trust the other one.
_ONCE = (
    *("authorization", "content-type", "content-length", "origin", "transfer-encoding"),
    *("sec-fetch-site", "sec-fetch-mode", "sec-purpose"),
)


class Door(NamedTuple):
    """The names of this server. `names`: additional ones, as HOST or HOST:PORT.

    `port` None: it listens only on a Unix socket. `proxy`: the address of the only proxy whose
    forwarded headers are trusted.
    """

    port: int | None
    bound: str = "127.0.0.1"
    names: tuple[str, ...] = ()
    proxy: str = ""

    def knows(self, host: str, *, secure: bool = False) -> bool:
        """Whether a `Host`, or an `Origin` without its scheme, means this server."""
        name, port = split_host(host)
        if not name:
            return False
        for own in self.names:
            own_name, own_port = split_host(own)
            if name == own_name and port in (own_port, *(("443", "") if secure else ())):
                return True
            if name == own_name and not own_port and port in ("", str(self.port)):
                return True
        bound = f"[{self.bound}]" if ":" in self.bound else self.bound
        known = name in ("localhost", "[::1]", bound.lower())
        known = known or bool(_LOOPBACK.fullmatch(name))
        return known and (port or "80") == str(self.port)


def split_host(host: str) -> tuple[str, str]:
    """Name and port of HOST[:PORT] in lower case; `("", "")` for other text."""
    found = re.fullmatch(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::(\d{1,5}))?", host)
    return (found[1].lower(), found[2] or "") if found else ("", "")


def is_address(text: str) -> bool:
    """Whether a text is an IP address."""
    try:
        return bool(ip_address(text))
    except ValueError:
        return False


class Head(NamedTuple):
    """The head of a request. `local`: over the Unix socket, which only the user can open."""

    method: str
    path: str
    headers: Mapping[str, str]  # names in lower case
    hosts: int  # the number of Host headers
    local: bool
    query: bytes = b""
    twice: str = ""  # a header that decides about access and was sent more than once


def check(head: Head, door: Door, *, acts: bool, advice: str = "") -> None:
    """Refuse a request that a foreign page or a rebound name may have caused.

    `acts`: it would change something, whatever its method. `advice`: how to do that instead.
    """
    if head.twice:
        raise Refused(400, f"the header {head.twice} was sent twice")
    if len(head.query) > MOST_QUERY:
        raise Refused(414, f"the query is longer than {MOST_QUERY} bytes")
    if not head.local:
        _check_host(head, door)
    _check_origin(head, door)
    _check_site(head, acts=acts, advice=advice)
    _check_body(head)


def _check_host(head: Head, door: Door) -> None:
    host = head.headers.get("host", "")
    if head.hosts != 1 or not door.knows(host, secure=bool(door.proxy)):
        raise Refused(
            403,
            "this server is not called that: open it by the link that 'queuectl serve' printed "
            "(--name HOST lets it answer to another name)",
        )


def _check_origin(head: Head, door: Door) -> None:
    origin = head.headers.get("origin")
    if origin is None:
        return
    scheme, _, host = origin.partition("://")
    schemes = ("http", "https") if door.proxy else ("http",)
    if scheme not in schemes or not door.knows(host, secure=scheme == "https"):
        raise Refused(403, "requests from another page are refused")


def _check_site(head: Head, *, acts: bool, advice: str) -> None:
    site = head.headers.get("sec-fetch-site")
    if acts and head.method in _SAFE and head.method != "OPTIONS":
        mode = head.headers.get("sec-fetch-mode")
        if mode == "navigate" or "sec-purpose" in head.headers or site == "none":
            raise Refused(403, f"a link must not start or stop anything. {advice}".strip())
    allowed = ("same-origin", "none") if head.method in _SAFE else ("same-origin",)
    if site is not None and site not in allowed:
        raise Refused(403, "requests from another page are refused")


def _check_body(head: Head) -> None:
    if "transfer-encoding" in head.headers and "content-length" in head.headers:
        raise Refused(400, "content-length and transfer-encoding contradict each other")
    length = head.headers.get("content-length", "0")
    if not length.isdigit():
        raise Refused(400, "content-length is not a number")
    if int(length) > MOST_BODY:
        raise Refused(413, f"a body takes at most {MOST_BODY} bytes")
    if int(length) == 0 and "transfer-encoding" not in head.headers:
        return
    kind = head.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Refused(415, "a body must be sent as application/json")


def head_of(scope: Mapping[str, Any]) -> Head:
    """The head of a request from its ASGI scope."""
    pairs = [(k.decode("latin-1").lower(), v.decode("latin-1")) for k, v in scope["headers"]]
    server = scope.get("server")
    names = [name for name, _ in pairs]
    headers: dict[str, str] = {}
    for name, value in pairs:  # several headers of one name form a list, so none is dropped
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return Head(
        scope["method"],
        scope["path"],
        headers,
        names.count("host"),
        server is not None and server[1] is None,
        scope.get("query_string", b""),
        next((name for name in _ONCE if names.count(name) > 1), ""),
    )


async def read_body(receive: Callable[[], Any]) -> bytes:
    """The body; Refused if it is too large, whatever its head said, or too slow."""
    try:
        return await asyncio.wait_for(_read_body(receive), LONGEST_BODY)
    except asyncio.TimeoutError:
        raise Refused(400, f"the body did not come within {LONGEST_BODY:g} seconds") from None


async def _read_body(receive: Callable[[], Any]) -> bytes:
    body = b""
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Refused(400, "the request was not sent whole")
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > MOST_BODY:
            raise Refused(413, f"a body takes at most {MOST_BODY} bytes")
    return body


def caller(scope: Mapping[str, Any], head: Head, door: Door) -> str:
    """The origin of the request, for the log; forwarded headers count only from our proxy."""
    client = scope.get("client")
    address = client[0] if client else "socket"
    forwarded = head.headers.get("x-forwarded-for", "")
    if door.proxy and address == door.proxy and forwarded:
        last = forwarded.rpartition(",")[2].strip()
        return last if re.fullmatch(r"[0-9A-Fa-f.:]{2,45}", last) else address
    return str(address)


def is_near(scope: Mapping[str, Any], head: Head, door: Door) -> bool:
    """Whether the request certainly comes from this machine, not through a proxy."""
    client = scope.get("client")
    address = client[0] if client else ""
    near = head.local or address == "::1" or bool(_LOOPBACK.fullmatch(address))
    return near and address != door.proxy


def request_id(headers: Mapping[str, str]) -> str:
    """The caller's id of the request if it is a plain word, else a new one."""
    given = headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
