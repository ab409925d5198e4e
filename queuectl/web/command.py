"""The commands `serve` and `dashboard`."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from queuectl.commands.dispatch import Result
from queuectl.commands.grammar.tokens import quote
from queuectl.errors import InvalidInput, QueuectlError, StoreError, not_installed

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping

    from queuectl.commands.context import Context
    from queuectl.web.guard import Door
    from queuectl.web.tokens import Tokens

_INTERRUPTED = 130
_WARM = 1.0  # seconds; the most that it reads the queue before it prints its address
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def serve(context: Context, args: dict[str, Any]) -> Result:
    """Serve the page and the API until a signal ends them."""
    _check_installed()
    _check_options(args)
    return Result(code=_Serving(context, args).run())


def dashboard(context: Context, args: dict[str, Any]) -> Result:
    """Open the page of a running server, or of one started here."""
    _check_installed()
    from queuectl.web.tokens import FULL, Desk

    desk = Desk(context.folder, context.environ)
    served = desk.served()
    if served is None:
        port = 5000 if args["port"] is None else args["port"]
        how = {"port": port, "open": not args["no_browser"]}
        return serve(context, {**_DEFAULTS, **args, **how})
    link = str(served.get("url"))
    if served.get("tokens"):
        link += f"#token={desk.tokens()[FULL]}"
    if not args["no_browser"]:
        _open_browser(context, link)
    return Result([f"Page: {link}"], words=[link])


_DEFAULTS: dict[str, Any] = {
    **dict.fromkeys(("unix", "name", "proxy", "workers")),
    **dict.fromkeys(("read_only", "new_token", "no_token", "allow_root"), False),
    "host": "127.0.0.1",
}


def _check_installed() -> None:
    from importlib.util import find_spec

    missing = [name for name in ("starlette", "uvicorn", "anyio") if find_spec(name) is None]
    if missing:
        raise StoreError(not_installed("the page", *missing))


def _check_options(args: Mapping[str, Any]) -> None:
    if args["no_token"] and args["host"] not in _LOOPBACK:
        raise InvalidInput("--no-token is possible on this machine's own address only, not --host")
    from queuectl.web.guard import is_address, split_host

    wrong = [name for name in args["name"] or () if not split_host(name)[0]]
    if wrong:
        raise InvalidInput(f"--name must be HOST or HOST:PORT, not {wrong[0]!r}")
    if args["proxy"] and not is_address(args["proxy"]):
        raise InvalidInput(f"--proxy must be an address like 10.0.0.7, not {args['proxy']!r}")
    if os.geteuid() == 0 and not args["allow_root"]:
        raise InvalidInput(
            "the page runs commands as the user that serves it, and that is root here; "
            "serve as another user, or add --allow-root"
        )


class _Serving:
    """One run of `serve`: what it opens, shows and leaves."""

    def __init__(self, context: Context, args: dict[str, Any]) -> None:
        from queuectl.store import opening
        from queuectl.web.operations import Operations
        from queuectl.web.service import Service
        from queuectl.web.tokens import Desk

        opening.exists(context.folder)  # this refuses what cannot be a queue of this user
        self._context, self._args = context, args
        self._desk = Desk(context.folder, context.environ)
        operations = Operations(context.folder, context.environ, os.getcwd())
        how = {name: bool(args[name]) for name in ("read_only", "no_token")}
        self._service = Service(operations, **how)
        self._sockets: list[socket.socket] = []
        self._pids: list[int] = []

    def run(self) -> int:
        """Serve; returns the exit code."""
        from queuectl.web.tokens import Tokens

        try:
            made = self._desk.tokens(anew=bool(self._args["new_token"]))
            tokens = Tokens(None if self._args["no_token"] else made)
            return self._end(self._serve(tokens, self._listen()))
        finally:
            for opened in self._sockets:
                opened.close()
            self._service.close()

    def _listen(self) -> Door:
        from queuectl.web.guard import Door
        from queuectl.web.server import listen, listen_at

        args = self._args
        names = tuple(args["name"] or ())
        if args["unix"]:
            self._sockets.append(listen_at(os.path.abspath(args["unix"])))
            return Door(None, "", names)
        host = args["host"]
        self._sockets.append(listen(host, args["port"], self._holder))
        served = self._desk.served()
        if served is not None:
            raise StoreError(
                f"this queue is served already, at {served.get('url')} (PID {served.get('pid')}); "
                "'queuectl dashboard' opens it"
            )
        self._sockets.append(listen_at(self._desk.file("socket")))
        bound = self._sockets[0].getsockname()
        return Door(bound[1], bound[0], names, args["proxy"] or "")

    def _holder(self, port: int) -> str:
        from queuectl.web.server import holder_of

        other = self._desk.on_port(port)
        if other is not None:
            return f"; the queue {other.get('queue')} is served there; --port names another"
        return f"{holder_of(port)}; --port names another, --port 0 takes any"

    def _serve(self, tokens: Tokens, door: Door) -> int:
        from queuectl.web.app import App
        from queuectl.web.pages import PAGES
        from queuectl.web.route_table import ROUTES
        from queuectl.web.server import run

        url = _url(self._args["host"], door)
        curl = self._curl(url, tokens)
        app = App(
            self._service,
            (*ROUTES, *PAGES),
            door,
            tokens,
            log=self._context.note,
            told_how=f"From this machine: {curl}" if url else "",
        )
        if count := self._args["workers"]:
            self._pids = self._service.operations.start_workers(count)
        return run(app, self._sockets, lambda: self._tell(door, tokens, url, curl))

    def _curl(self, url: str, tokens: Tokens) -> str:
        if not url:
            socket = quote(os.path.abspath(self._args["unix"]))
            return f"curl --unix-socket {socket} http://localhost/status"
        header = f" -H {quote('@' + self._desk.file('full'))}" if tokens.asked_for else ""
        return f"curl{header} {url}api/v1/status"

    def _tell(self, door: Door, tokens: Tokens, url: str, curl: str) -> None:
        context, args = self._context, self._args
        warming = threading.Thread(target=self._warm_up, daemon=True)
        warming.start()
        warming.join(_WARM)
        if not tokens.asked_for:
            context.note(
                "Warning: no token is required: anyone who reaches this port can run commands."
            )
        if url and door.bound not in ("127.0.0.1", "::1"):
            context.note(
                f"Warning: {door.bound} can be reached from other machines, and nothing here is "
                "encrypted: put a proxy with TLS in front of it (--proxy), or use ssh -L."
            )
        link = url
        if tokens.asked_for and url:
            full = self._desk.tokens()["read" if args["read_only"] else "full"]
            link = f"{url}#token={full}"
        if url:
            context.write(f"Page: {link}")
            context.write(f"Reference: {url}docs{link[len(url) :]}")
        context.write(f"Queue: {context.name}")
        context.write(f"API: {curl}")
        if self._pids:
            context.write(f"Workers: {self._pids}")
        context.flush()
        if not url:
            return
        form = {"queue": context.name, "url": url, "port": door.port, "pid": os.getpid()}
        self._desk.note_served({**form, "tokens": tokens.asked_for})
        if args["open"]:
            _open_browser(context, link)

    def _warm_up(self) -> None:
        """Make the first list, which reads the queue, before somebody waits for it."""
        from queuectl.web.exchange import Call
        from queuectl.web.route_table import ROUTES
        from queuectl.web.routes import read_query

        route = next(route for route in ROUTES if route.name == "listJobs")
        assert route.handler is not None
        with suppress(Exception):  # the first request will report it
            route.handler(self._service, Call("GET", {}, read_query(route, b""), {}))

    def _end(self, number: int) -> int:
        """Tell the workers of this server to finish; returns the exit code of the signal."""
        if self._pids:
            try:
                self._service.operations.stop_workers(list(map(str, self._pids)))
            except QueuectlError as exc:
                self._context.note(f"queuectl: {exc}")
        if number == signal.SIGINT:
            self._context.note("queuectl: interrupted")
            return _INTERRUPTED
        return 0


def _url(host: str, door: Door) -> str:
    if door.port is None:
        return ""
    shown = host if host not in ("", "0.0.0.0", "::") else "127.0.0.1"
    return f"http://{f'[{shown}]' if ':' in shown else shown}:{door.port}/"


def _open_browser(context: Context, link: str) -> None:
    """Open the page if there is a display."""
    import sys
    import webbrowser

    if sys.platform.startswith("linux") and not any(
        context.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
    ):
        return
    if not webbrowser.open(link):
        context.note("No browser could be opened; open the link above.")
