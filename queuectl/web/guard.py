"""Who may ask at all: the outermost layer, in front of every route.

The page runs commands as its user, and whatever a browser opens can send requests to it. So nothing
is believed that a foreign page can bring about: a request must name this server (against rebound
names), must not come from another origin (ports of this machine are foreign too), and must hold its
token in a header that no browser adds by itself (App in app.py asks Tokens in tokens.py for it).
The sources of the rules: the Fetch Metadata and Origin headers of the Fetch standard, RFC 6750 for
the token.
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
LONGEST_BODY = 30.0  # seconds that a body may take to come
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
# Of two of these another program may believe the other one.
_ONCE = (
    *("authorization", "content-type", "content-length", "origin", "transfer-encoding"),
    *("sec-fetch-site", "sec-fetch-mode", "sec-purpose"),
)


class Door(NamedTuple):
    """What this server is called. `names` are further ones, as HOST or HOST:PORT.

    `port` None: it is reached by a Unix socket alone. `proxy` is the address of the only one whose
    forwarded headers are believed.
    """

    port: int | None
    bound: str = "127.0.0.1"
    names: tuple[str, ...] = ()
    proxy: str = ""

    def knows(self, host: str, *, secure: bool = False) -> bool:
        """Whether a `Host`, or the part of an `Origin` behind its scheme, means this server."""
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
    """Name and port of HOST[:PORT] in lower case; `("", "")` if it is neither."""
    found = re.fullmatch(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::(\d{1,5}))?", host)
    return (found[1].lower(), found[2] or "") if found else ("", "")


def is_address(text: str) -> bool:
    """Whether a text is an IP address."""
    try:
        return bool(ip_address(text))
    except ValueError:
        return False


class Head(NamedTuple):
    """The head of a request. `local`: it came by the Unix socket, which only the user can open."""

    method: str
    path: str
    headers: Mapping[str, str]  # names in lower case
    hosts: int  # how many Host headers there were
    local: bool
    query: bytes = b""
    twice: str = ""  # a header that decides who may ask and was sent more than once


def check(head: Head, door: Door, *, acts: bool, advice: str = "") -> None:
    """Refuse a request that a foreign page, or a rebound name, may have brought about.

    `acts`: it would change something, whatever its method; `advice` says how to do it instead.
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
    """The head of a request as ASGI has it."""
    pairs = [(k.decode("latin-1").lower(), v.decode("latin-1")) for k, v in scope["headers"]]
    server = scope.get("server")
    names = [name for name, _ in pairs]
    headers: dict[str, str] = {}
    for name, value in pairs:  # of several with one name none is left out: they are a list
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
    """The body; Refused if it is larger than allowed, whatever its head said, or comes too late."""
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
    """Where the request came from, for the log: what a proxy forwards only if it is ours."""
    client = scope.get("client")
    address = client[0] if client else "socket"
    forwarded = head.headers.get("x-forwarded-for", "")
    if door.proxy and address == door.proxy and forwarded:
        last = forwarded.rpartition(",")[2].strip()
        return last if re.fullmatch(r"[0-9A-Fa-f.:]{2,45}", last) else address
    return str(address)


def is_near(scope: Mapping[str, Any], head: Head, door: Door) -> bool:
    """Whether the request is known to come from this machine; what a proxy passes on is not."""
    client = scope.get("client")
    address = client[0] if client else ""
    near = head.local or address == "::1" or bool(_LOOPBACK.fullmatch(address))
    return near and address != door.proxy


def request_id(headers: Mapping[str, str]) -> str:
    """The id that the caller gave the request, if it is a plain word, else a new one."""
    given = headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
