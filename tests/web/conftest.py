"""Fixtures of the page's tests, all of which need the extra `web` (requirements.txt brings it)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.web.served import Web


@pytest.fixture
def serve_it(data_dir: str) -> Iterator[Callable[..., Web]]:
    """Makes served queues; `serve_it(read_only=True)`."""
    from tests.web.served import Web

    made: list[Web] = []

    def make(**how: Any) -> Web:
        made.append(Web(data_dir, **how))
        return made[-1]

    yield make
    for web in made:
        web.service.close()


@pytest.fixture
def web(serve_it: Callable[..., Web]) -> Web:
    """A served queue of this test's own."""
    return serve_it()
