"""What nodes put back after a fail-over: all that they know to be accepted, by whatever clocks the servers go, and at once from more than one connection."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from lalert.errors import StoreError, Unavailable
from lalert.store.redis import repair
from lalert.store.redis.entries import encode, id_of, offset_of
from lalert.store.redis.keys import IDS, LOG, MARKS, META
from lalert.store.sqlite import log
from lalert.testing import declared_facts, make_alert
from tests.redis_kit import ask, free_port, kill, valkey
from tests.system.test_redis_log import Moving, a_failover, a_node, eventually, ids, in_step


async def test_much_that_is_put_back_by_several_at_once_begins_no_new_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repair, "AT_ONCE", 3)
    call = repair._call

    async def slowly(*args: Any) -> Any:
        await asyncio.sleep(0.03)
        return await call(*args)

    monkeypatch.setattr(repair, "_call", slowly)
    async with a_failover(tmp_path) as (primary, replica):
        ways = [Moving(primary.port or 0) for _ in range(3)]
        async with (
            a_node(ways[0], tmp_path) as a,
            a_node(ways[1], tmp_path) as b,
            a_node(ways[2], tmp_path) as c,
        ):
            nodes = (a, b, c)
            await a.append(make_alert())
            await in_step(primary, replica)
            await ask(replica.port, "REPLICAOF", "NO", "ONE")
            for _ in range(60):
                await a.append(make_alert())
            await eventually(lambda: all(len(node.told) == 61 for node in nodes))
            for way in ways:
                way.port = replica.port or 0
            kill(primary)
            last = (await c.append(make_alert())).entry
            await eventually(lambda: all(len(node.told) == 62 for node in nodes))
            assert a.told == b.told == c.told
            assert a.told[-1] == last
            assert not any(node.store.lost.is_set() for node in nodes)


async def test_nothing_is_lost_to_an_entry_of_a_new_primary_whose_clock_is_behind(tmp_path: Path) -> None:
    async with a_failover(tmp_path) as (primary, replica):
        way = Moving(primary.port or 0)
        async with a_node(way, tmp_path) as a:
            first = (await a.append(make_alert())).entry
            await in_step(primary, replica)
            await ask(replica.port, "REPLICAOF", "NO", "ONE")
            lost = [(await a.append(make_alert())).entry for _ in range(4)]
            # By its clock, which is behind, this stands between those that are lost.
            quicker = make_alert()
            new = log.prepare(quicker, first.origin, first.received, declared_facts(quicker), frozenset())
            new.stored = first.received
            between = (await ask(primary.port, "XRANGE", LOG, "-", "+"))[2][0].decode()
            milliseconds, _, number = between.partition("-")
            place = f"{milliseconds}-{int(number) + 1}"
            await ask(replica.port, "XADD", LOG, place, *encode(new))
            await ask(replica.port, "HSET", IDS, new.id, f"{new.digest.hex()} {place}")
            way.port = replica.port or 0
            kill(primary)
            async with asyncio.timeout(15):
                await a.store.lost.wait()
        async with a_node(replica.port or 0, tmp_path) as again:
            assert set(ids(await again.store.read(None, 100))) == {
                first.alert.id,
                quicker.id,
                *ids(lost),
            }


async def test_what_comes_after_a_letting_go_that_a_failover_lost_is_read_whatever_the_clock(
    tmp_path: Path,
) -> None:
    async with a_failover(tmp_path) as (primary, replica):
        way = Moving(primary.port or 0)
        async with a_node(way, tmp_path) as a:
            await a.append(make_alert())
            await in_step(primary, replica)
            await ask(replica.port, "REPLICAOF", "NO", "ONE")
            # Far ahead, as a clock of the old primary would have it.
            ahead = id_of(
                offset_of((await ask(primary.port, "XRANGE", LOG, "-", "+"))[0][0]) + (3_600_000 << 21)
            )
            await ask(primary.port, "XADD", LOG, ahead, "v", "1", "forget", "[]")
            await a.store._settle()
            await eventually(lambda: a.store._following.view.offset == offset_of(ahead))
            way.port = replica.port or 0
            kill(primary)
            later = make_alert()
            assert (await a.append(later)).fresh
            assert ids(a.told)[-1] == later.id


async def test_what_a_node_knows_to_be_accepted_and_has_not_told_yet_is_put_back_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_failover(tmp_path) as (primary, replica):
        way = Moving(primary.port or 0)
        async with a_node(way, tmp_path) as a:
            await in_step(primary, replica)
            await ask(replica.port, "REPLICAOF", "NO", "ONE")
            view = a.store._following.view
            apply, go_on = view.apply, asyncio.Event()

            async def held_up(entries: Any) -> Any:
                await go_on.wait()
                return await apply(entries)

            monkeypatch.setattr(view, "apply", held_up)
            async with a_node(primary.port or 0, tmp_path) as b:
                lost = (await b.append(make_alert())).entry
            offset = int(lost.position.rpartition("-")[2])
            await eventually(lambda: a.store._following.committed >= offset)
            way.port = replica.port or 0
            kill(primary)
            await asyncio.sleep(0.3)
            go_on.set()
            later = (await a.append(make_alert())).entry
            assert a.told == [lost, later]
            assert await ask(replica.port, "XLEN", LOG) == 2


async def test_a_node_leaves_a_server_that_is_no_primary_any_more_also_to_read(tmp_path: Path) -> None:
    async with a_failover(tmp_path) as (primary, replica):
        way = Moving(primary.port or 0)
        async with a_node(way, tmp_path) as a:
            first = (await a.append(make_alert())).entry
            await in_step(primary, replica)
            await ask(replica.port, "REPLICAOF", "NO", "ONE")
            # It answers all the same, and hears of nothing.
            await ask(primary.port, "REPLICAOF", "127.0.0.1", free_port())
            way.port = replica.port or 0
            later = (await a.append(make_alert())).entry
            assert a.told == [first, later]
            await a.store.check()


async def test_a_new_epoch_is_seen_also_where_the_mark_that_says_so_is_missed(tmp_path: Path) -> None:
    with valkey(tmp_path / "one") as server:
        async with a_node(server.port or 0, tmp_path) as a:
            await ask(server.port, "HSET", META, "epoch", "another")
            async with asyncio.timeout(5):
                await a.store.lost.wait()


async def test_the_mark_of_an_epoch_that_is_over_again_ends_no_node(tmp_path: Path) -> None:
    with valkey(tmp_path / "one") as server:
        for epoch in ("second", "third"):
            await ask(server.port, "XADD", MARKS, "*", "epoch", epoch)
        await ask(server.port, "HSET", META, "epoch", "third", "format", "1")
        async with a_node(server.port or 0, tmp_path) as a:
            assert (await a.append(make_alert())).entry.position.startswith("third-")
            await a.store.check()
            assert not a.store.lost.is_set()


async def test_a_node_whose_view_does_not_go_on_is_not_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with valkey(tmp_path / "one") as server:
        async with a_node(server.port or 0, tmp_path) as a, a_node(server.port or 0, tmp_path) as b:

            async def full(_: Any) -> Any:
                raise StoreError("the disk is full")

            monkeypatch.setattr(a.store._following.view, "apply", full)
            await b.append(make_alert())
            await b.store.check()
            with pytest.raises(Unavailable, match="view"):
                await a.store.check()
            monkeypatch.undo()
            await eventually(lambda: a.told == b.told)
            await a.store.check()


async def test_nothing_is_taken_for_committed_that_a_failover_has_lost_before_it_was_read(
    tmp_path: Path,
) -> None:
    async with a_failover(tmp_path) as (primary, replica):
        way = Moving(primary.port or 0)
        async with a_node(way, tmp_path) as a:
            first = (await a.append(make_alert())).entry
            await in_step(primary, replica)
            await ask(replica.port, "REPLICAOF", "NO", "ONE")
            following = a.store._following
            following.commit(following.read + (3_600_000 << 21))
            way.port = replica.port or 0
            kill(primary)
            later = (await a.append(make_alert())).entry
            assert a.told == [first, later]
            assert following.committed == int(later.position.rpartition("-")[2])
