"""The store in a dictionary keeps the contract."""

from __future__ import annotations

import pytest
from memory_store import MemoryStore
from store_contract import StoreContract


@pytest.fixture
def store():
    store = MemoryStore()
    yield store
    assert store.check() == []
    store.close()


class TestMemoryStore(StoreContract):
    pass
