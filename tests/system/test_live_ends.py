"""What ends by itself is told at the second, to whoever was told of it, and moves nobody's position."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lalert import texts
from lalert.bus.local import LocalBus
from lalert.client import Client, EventKind
from lalert.errors import Unavailable
from lalert.live import LiveSettings
from lalert.matching import parse_filter
from lalert.model import Alert, Entry, Origin, OriginKind
from lalert.store.sqlite import Memory, SqliteStore
from lalert.testing import FakeClock, declared_facts, make_alert, revive
from lalert.testing.node import running_node
from tests.system.live_kit import Event, Reader, Served, served

NOW = datetime(2026, 6, 1, 3, 0, tzinfo=UTC)
ORIGIN = Origin(OriginKind.HTTP, "hitoyoshi")
SETTINGS = LiveSettings(retry_s=(0.01, 0.02), stop_s=2.0)


class Hub:
    """The streams over a store file, with a clock that a test moves."""

    def __init__(self, live: Served, store: SqliteStore, clock: FakeClock) -> None:
        self.live = live
        self.store = store
        self.clock = clock

    async def append(self, minutes: float | None = None, **about: Any) -> Entry:
        """Append an alert that is over after so many minutes, None for never."""
        expires = None if minutes is None else NOW + timedelta(minutes=minutes)
        alert: Alert = make_alert(**{"sent": NOW, "expires": expires, **about})
        now = self.clock.now()
        return (await self.store.append(alert, ORIGIN, now, declared_facts(alert), frozenset())).entry

    async def resumed(self, after: Entry) -> list[Reader]:
        """Listen over SSE and over WebSocket from a position on."""
        query = f"after={after.position}"
        return [await self.live.sse(query), await self.live.ws(query)]

    async def readers(self, query: str = "") -> list[Reader]:
        """Listen over SSE and over WebSocket from now on."""
        readers: list[Reader] = [await self.live.sse(query), await self.live.ws(query)]
        for reader in readers:
            await reader.next("heartbeat")
        return readers

    async def told(self, reader: Reader) -> tuple[str, str | None, str]:
        """Return what a reader is told next; who catches up may stand back for a moment, which has to pass."""
        reading = asyncio.create_task(reader.next())
        await asyncio.wait({reading}, timeout=0.2)
        while not reading.done():
            await self.clock.advance(0.05)
            await asyncio.wait({reading}, timeout=0.01)
        event: Event = reading.result()
        return event.kind, event.id, event.data["id"]

    async def advance(self, seconds: float) -> None:
        """Move the clock second by second, letting the store's threads keep up."""
        while seconds > 0:
            await self.clock.advance(min(1.0, seconds))
            seconds -= 1.0
            await self.store.check()


@asynccontextmanager
async def running(
    path: Path, clock: FakeClock | None = None, settings: LiveSettings = SETTINGS, **memory: int
) -> AsyncIterator[Hub]:
    clock, bus = clock or FakeClock(NOW), LocalBus()
    store = SqliteStore(
        path, revive=revive, on_append=bus.publish, clock=clock, memory=Memory(**{"old": 5, **memory})
    )
    async with store, AsyncExitStack() as stack:
        live = await stack.enter_async_context(served(settings, store, bus=bus, body=texts.body, clock=clock))
        yield Hub(live, store, clock)
        passing = asyncio.create_task(_pass(clock))
        await stack.aclose()
        passing.cancel()


async def _pass(clock: FakeClock) -> None:
    """Let time pass by itself: who says farewell waits for it."""
    while True:
        await clock.advance(0.1)


async def test_the_end_of_an_alert_is_told_within_a_second_and_with_a_position_to_resume_from(
    tmp_path: Path,
) -> None:
    async with running(tmp_path / "hub.db") as hub:
        readers = await hub.readers()
        soon = await hub.append(1)
        other = await hub.append()
        await hub.advance(59.4)
        before = await hub.append()
        await hub.advance(1.0)
        for reader in readers:
            for entry in (soon, other, before):
                assert await hub.told(reader) == ("alert", entry.position, entry.alert.id)
            event = await reader.next()
            assert (event.kind, event.id, event.data["id"]) == ("expired", before.position, soon.alert.id)
            assert event.data["position"] == before.position
            assert event.data["ended"] == "2026-06-01T03:01:00.000Z"
        again = await hub.append()
        for resumed in await hub.resumed(before):
            # When it was cut off nobody knows: what ended since its position came is told once more.
            assert await hub.told(resumed) == ("expired", before.position, soon.alert.id)
            assert await hub.told(resumed) == ("alert", again.position, again.alert.id)


async def test_what_was_replaced_or_cancelled_has_no_end_of_its_own(tmp_path: Path) -> None:
    async with running(tmp_path / "hub.db") as hub:
        [reader, _] = await hub.readers()
        first, second = await hub.append(1), await hub.append(1)
        update = await hub.append(2, msg_type="Update", references=[first])
        cancel = await hub.append(1, msg_type="Cancel", references=[second], infos=(), note="誤報")
        ack = await hub.append(1, msg_type="Ack", references=[update])
        await hub.advance(61)
        marker = await hub.append()
        await hub.advance(60)
        heard = [await hub.told(reader) for _ in range(7)]
        assert heard == [
            *(("alert", e.position, e.alert.id) for e in (first, second, update, cancel, ack, marker)),
            ("expired", marker.position, update.alert.id),
        ]


async def test_the_end_of_a_drill_is_told_only_to_who_hears_drills(tmp_path: Path) -> None:
    async with running(tmp_path / "hub.db") as hub:
        [real, _], [drills, _] = await hub.readers(), await hub.readers("status=exercise")
        drill = await hub.append(1, status="Exercise")
        await hub.advance(61)
        marker = await hub.append()
        assert await hub.told(real) == ("alert", marker.position, marker.alert.id)
        assert await hub.told(drills) == ("alert", drill.position, drill.alert.id)
        assert await hub.told(drills) == ("expired", drill.position, drill.alert.id)


async def test_who_was_told_of_something_that_has_left_its_place_is_told_of_its_end(tmp_path: Path) -> None:
    async with running(tmp_path / "hub.db") as hub:
        [here, _] = await hub.readers("area=432032")
        first = await hub.append(2, codes=["432032"])
        update = await hub.append(1, codes=["131016"], msg_type="Update", references=[first])
        unseen = await hub.append(1, codes=["131016"])
        await hub.advance(61)
        assert [(await hub.told(here))[2] for _ in range(3)] == [first.alert.id, *[update.alert.id] * 2]
        assert unseen.position


async def test_ends_are_told_after_a_restart_and_to_who_was_away(tmp_path: Path) -> None:
    clock = FakeClock(NOW)
    async with running(tmp_path / "hub.db", clock) as hub:
        [reader, _] = await hub.readers()
        first, second, third = await hub.append(1), await hub.append(2), await hub.append(3)
        for entry in (first, second, third):
            assert await hub.told(reader) == ("alert", entry.position, entry.alert.id)
    clock.move(61)
    async with running(tmp_path / "hub.db", clock, newest=1) as hub:
        readers = await hub.resumed(second)
        for reader in readers:
            assert await hub.told(reader) == ("expired", second.position, first.alert.id)
            assert await hub.told(reader) == ("alert", third.position, third.alert.id)
        await hub.advance(60)
        for reader in readers:
            assert await hub.told(reader) == ("expired", third.position, second.alert.id)
        [late, _] = await hub.resumed(first)
        # What came after its position and is over, it hears of in its place; what it had been told of, once more.
        heard = [await hub.told(late) for _ in range(3)]
        assert heard == [
            ("expired", first.position, first.alert.id),
            ("expired", second.position, second.alert.id),
            ("alert", third.position, third.alert.id),
        ]


async def test_who_was_away_for_more_ends_than_are_replayed_gets_a_snapshot(tmp_path: Path) -> None:
    clock = FakeClock(NOW)
    async with running(tmp_path / "hub.db", clock, replace(SETTINGS, replay_limit=3)) as hub:
        for _ in range(4):
            await hub.append(1)
        standing = await hub.append()
        await hub.advance(61)
        for reader in await hub.resumed(standing):
            gap = await reader.next()
            assert (gap.kind, gap.data["reason"]) == ("gap", "too-far")
            snapshot = await reader.next()
            assert [alert["id"] for alert in snapshot.data["alerts"]] == [standing.alert.id]


async def test_a_follower_inside_the_hub_hears_of_ends_that_concern_it(tmp_path: Path) -> None:
    async with running(tmp_path / "hub.db") as hub:
        here = parse_filter([("area", "432032")])
        async with hub.live.live.ends(here) as ends:
            await hub.append(1, codes=["131016"])
            drill = await hub.append(1, codes=["432032"], status="Exercise")
            entry = await hub.append(1, codes=["432032"])
            cancelled = await hub.append(1, codes=["432032"])
            await hub.append(1, msg_type="Cancel", references=[cancelled], infos=(), note="x")
            waiting = asyncio.ensure_future(anext(ends))
            await hub.advance(59)
            assert not waiting.done()
            await hub.advance(2)
            assert await waiting == entry
            assert drill.position
            waiting = asyncio.ensure_future(anext(ends))
            hub.live.live._fan_out.stop()
            with pytest.raises(Unavailable, match="stopping"):
                await waiting


async def test_a_wall_clock_that_was_set_back_loses_no_end(tmp_path: Path) -> None:
    async with running(tmp_path / "hub.db") as hub:
        [reader, _] = await hub.readers()
        await hub.append(30)
        assert (await reader.next()).kind == "alert"
        hub.clock.step(NOW + timedelta(hours=1))
        await hub.advance(1)
        assert (await reader.next()).kind == "expired"
        hub.clock.step(NOW)
        await hub.advance(1)
        entry = await hub.append(1)
        await hub.advance(60)
        told = [await reader.next() for _ in range(2)]
        assert [(event.kind, event.data["id"]) for event in told] == [
            ("alert", entry.alert.id),
            ("expired", entry.alert.id),
        ]


async def test_a_clock_that_is_set_back_during_a_look_loses_no_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path / "hub.db") as hub:
        [reader, _] = await hub.readers()
        await hub.append(30)
        look, gate = hub.store.ended, asyncio.Event()

        async def slow(after: datetime, upto: datetime) -> list[str]:
            await gate.wait()
            return await look(after, upto)

        monkeypatch.setattr(hub.store, "ended", slow)
        hub.clock.step(NOW + timedelta(hours=1))
        await hub.advance(1)
        hub.clock.step(NOW)
        entry = await hub.append(1)
        gate.set()
        await hub.advance(30)
        await hub.append()
        assert [(await reader.next()).kind for _ in range(3)] == ["alert"] * 3  # nothing is over yet
        await hub.advance(32)
        end = await reader.next()
        assert (end.kind, end.data["id"]) == ("expired", entry.alert.id)


async def test_an_end_that_cannot_be_looked_up_holds_up_no_new_alert(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path / "hub.db") as hub:
        readers = await hub.readers()
        ending = await hub.append(1)
        for reader in readers:
            assert await hub.told(reader) == ("alert", ending.position, ending.alert.id)
        look_up, broken = hub.store.entry, True

        async def entry(position: str) -> Entry | None:
            if broken:
                raise Unavailable("the disk is away")
            return await look_up(position)

        monkeypatch.setattr(hub.store, "entry", entry)
        await hub.advance(61)
        coming = await hub.append()
        for reader in readers:
            event = await reader.next("alert")  # while the clock stands still
            assert event.data["id"] == coming.alert.id
        broken = False
        await hub.advance(3)
        for reader in readers:
            assert await hub.told(reader) == ("expired", coming.position, ending.alert.id)


async def test_time_that_passes_without_an_end_asks_nothing_of_the_store(tmp_path: Path) -> None:
    async with running(tmp_path / "hub.db") as hub:
        await hub.append(4)
        await hub.append(9)
        await hub.advance(2)
        asked: list[datetime] = []
        ended = hub.store.ended

        async def counted(after: datetime, upto: datetime, limit: int | None = None) -> list[str]:
            asked.append(upto)
            return await ended(after, upto, limit)

        hub.store.ended = counted  # type: ignore[method-assign]
        await hub.clock.advance(230)
        assert asked == []
        await hub.advance(9)
        assert len(asked) == 1


async def test_a_real_node_tells_the_end_of_a_real_alert_within_a_second(tmp_path: Path) -> None:
    async with running_node(tmp_path) as node, Client(node.url) as client:
        expires = (datetime.now(UTC) + timedelta(seconds=2)).replace(microsecond=0)
        alert = make_alert(expires=expires)
        kinds: list[EventKind] = []
        async with asyncio.timeout(10):
            async for event in client.stream():
                if event.kind is EventKind.HEARTBEAT and not kinds:
                    assert (await node.post(alert.raw))[0] == 201
                    kinds.append(event.kind)
                elif event.kind in (EventKind.ALERT, EventKind.EXPIRED):
                    kinds.append(event.kind)
                    assert event.data["id"] == alert.id
                if event.kind is EventKind.EXPIRED:
                    assert timedelta(0) <= datetime.now(UTC) - expires < timedelta(seconds=1)
                    break
        assert kinds == [EventKind.HEARTBEAT, EventKind.ALERT, EventKind.EXPIRED]
