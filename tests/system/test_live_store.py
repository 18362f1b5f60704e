"""The streams over the embedded store: what was durable is heard, across restarts of the hub and whatever comes at once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from lalert import texts
from lalert.bus.local import LocalBus
from lalert.clock import SystemClock
from lalert.model import Alert, Entry, MsgType, Origin, OriginKind
from lalert.store.sqlite import Memory, SqliteStore
from lalert.testing import declared_facts, make_alert, revive
from tests.system.live_kit import FAST, Reader, Served, served

HERE, ELSEWHERE = "432032", "131016"
ORIGIN = Origin(OriginKind.HTTP)


@asynccontextmanager
async def running(path: Path, *, window: int = 1_000) -> AsyncIterator[tuple[Served, SqliteStore]]:
    """Serve the streams over a store file."""
    bus = LocalBus()
    clock = SystemClock()
    memory = Memory(newest=window, old=1)
    store = SqliteStore(path, revive=revive, on_append=bus.publish, clock=clock, memory=memory)
    settings = replace(FAST, window_entries=window, page_entries=7)
    async with store, served(settings, store, bus=bus, body=texts.body) as hub:
        yield hub, store


async def append(store: SqliteStore, alert: Alert) -> Entry:
    facts = declared_facts(alert)
    return (await store.append(alert, ORIGIN, datetime.now(UTC), facts, frozenset())).entry


async def told(reader: Reader, count: int) -> list[str | None]:
    return [(await reader.next("alert")).id for _ in range(count)]


async def test_an_alert_is_heard_as_the_object_of_the_contract(tmp_path: Path) -> None:
    async with running(tmp_path / "hub.db") as (hub, store):
        readers: list[Reader] = [await hub.sse("lang=ja"), await hub.ws("lang=ja")]
        entry = await append(store, make_alert(headline="避難してください"))
        for reader in readers:
            event = await reader.next()
            assert (event.kind, event.id) == ("alert", entry.position)
            assert event.data["id"] == entry.alert.id
            assert event.data["info"][0]["headline"] == "避難してください"
            assert {"received", "stored", "sent", "level", "codes"} <= event.data.keys()


async def test_a_subscriber_resumes_across_a_restart_of_the_hub(tmp_path: Path) -> None:
    path = tmp_path / "hub.db"
    async with running(path) as (hub, store):
        reader = await hub.sse()
        positions = [(await append(store, make_alert())).position for _ in range(30)]
        assert await told(reader, 10) == positions[:10]
    async with running(path) as (hub, store):
        reader, live = await hub.sse(f"after={positions[9]}"), await hub.ws()
        await live.next("heartbeat")
        positions.append((await append(store, make_alert())).position)
        assert await told(reader, 21) == positions[10:]
        assert await told(live, 1) == positions[30:]


async def test_a_position_of_another_store_gets_what_is_in_force_here(tmp_path: Path) -> None:
    async with running(tmp_path / "one.db") as (_, store):
        elsewhere = (await append(store, make_alert())).position
    async with running(tmp_path / "two.db") as (hub, store):
        entry = await append(store, make_alert())
        gone = await append(store, make_alert())
        cancel = await append(store, make_alert(msg_type=MsgType.CANCEL, references=[gone]))
        for reader in (await hub.sse(f"after={elsewhere}"), await hub.ws(f"after={elsewhere}")):
            gap, snapshot = await reader.next(), await reader.next()
            assert (gap.kind, gap.data["reason"], gap.data["requested"]) == ("gap", "unknown", elsewhere)
            assert (snapshot.kind, snapshot.id) == ("snapshot", cancel.position)
            assert [alert["position"] for alert in snapshot.data["alerts"]] == [entry.position]


async def test_an_update_reaches_who_was_told_of_the_first_after_a_restart_too(tmp_path: Path) -> None:
    path = tmp_path / "hub.db"
    async with running(path) as (hub, store):
        reader = await hub.sse(f"area={HERE}")
        first = await append(store, make_alert(codes=[HERE]))
        assert await told(reader, 1) == [first.position]
    async with running(path, window=1) as (hub, store):
        live = await hub.sse(f"area={HERE}")
        await live.next("heartbeat")
        update = await append(
            store, make_alert(codes=[ELSEWHERE], msg_type=MsgType.UPDATE, references=[first])
        )
        assert await told(live, 1) == [update.position]
        await append(store, make_alert(codes=[ELSEWHERE]))
        assert await told(await hub.ws(f"area={HERE}&after={first.position}"), 1) == [update.position]


async def test_many_writers_and_many_who_come_and_go_lose_nothing(tmp_path: Path) -> None:
    rng = random.Random(6)

    async with running(tmp_path / "hub.db", window=20) as (hub, store), asyncio.timeout(40):
        writing = True
        appended: list[Entry] = []

        async def write() -> None:
            for _ in range(60):
                appended.append(await append(store, make_alert(codes=[rng.choice([HERE, ELSEWHERE])])))
                await asyncio.sleep(rng.random() * 0.005)

        async def listen(query: str, websocket: bool) -> list[str]:
            found: list[str] = []
            last = start
            while writing or last != store.newest:
                after = f"{query}&after={last}"
                reader: Reader = await (hub.ws(after) if websocket else hub.sse(after))
                for _ in range(rng.randint(1, 40)):
                    event = await reader.event()
                    assert event.kind in ("alert", "heartbeat")
                    if event.kind == "alert":
                        found.append(str(event.id))
                    last = str(event.id)
                    if not writing and last == store.newest:
                        break
                reader.close()
            return found

        start = store.newest
        async with asyncio.TaskGroup() as group:
            asked = [(f"area={HERE}", False), (f"area={HERE}", True), ("", False), ("", True)] * 3
            listeners = [group.create_task(listen(query, websocket)) for query, websocket in asked]
            async with asyncio.TaskGroup() as writers:
                for _ in range(5):
                    writers.create_task(write())
            writing = False
        log = sorted(appended, key=lambda entry: store.order(entry.position))
        assert len(log) == 300
        for (query, _), listener in zip(asked, listeners, strict=True):
            wanted = [entry.position for entry in log if not query or HERE in entry.facts.codes]
            assert listener.result() == wanted
