"""The page, the reference pages and their parts: our own files, from a fixed table."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from functools import cache

from queuectl.web import openapi
from queuectl.web.exchange import Answer, Call
from queuectl.web.routes import Route
from queuectl.web.service import Service

_FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "page")
_MEDIA = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


@cache
def _file(name: str) -> tuple[bytes, str]:
    with open(os.path.join(_FOLDER, name), "rb") as file:
        data = file.read()
    return data, f'"{hashlib.sha256(data).hexdigest()[:20]}"'


def _page(name: str) -> Callable[[Service, Call], Answer]:
    def handler(service: Service, call: Call) -> Answer:
        data, etag = _file(name)
        headers = {"etag": etag, "cache-control": "no-cache"}
        if etag in call.headers.get("if-none-match", ""):
            return Answer(304, headers=headers)
        return Answer(200, data, headers, _MEDIA[name.rpartition(".")[2]])

    return handler


def _row(path: str, name: str) -> Route:
    told = f"The file {name} of the page"
    return Route("GET", path, f"page {name}", "", _page(name), told, kind="page")


# Every path is listed: what is not in this table cannot be read, however it is spelled.
PAGES: tuple[Route, ...] = (
    _row("/", "index.html"),
    _row("/docs", "docs.html"),
    _row("/redoc", "docs.html"),
    Route("GET", "/openapi.json", "openapi", "", openapi.show, "This API", kind="page"),
    *(
        _row(f"/page/{name}", name)
        for name in ("style.css", "docs.css", "early.js", "page.js", "parts.js", "docs.js")
    ),
)
