"""Random schedules over real sockets: whatever subscribers do, each hears everything once and in order."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lalert.matching import parse_filter, wants
from lalert.model import MsgType, Status
from tests.system.live_kit import CITY, ELSEWHERE, FAST, MemoryLog, Reader, Served, receive_buffer, served

TIGHT = replace(
    FAST,
    heartbeat_s=0.1,
    kernel_bytes=4_096,
    buffer_bytes=12_000,
    window_entries=8,
    page_entries=4,
    stall_s=0.3,
    flush_s=0.1,
)
STALLS: list[tuple[str, int]] = [
    *[("connect", who) for who in range(8)],
    ("wait", 5),
    *[("stall", who) for who in range(0, 8, 2)],
    *[("burst", 40)] * 3,
    ("wait", 40),
    ("flow", 0),
    ("burst", 10),
]
"""One schedule in which some are certainly cut off."""

QUERIES = [f"area={CITY}", "", "status=all", f"area={ELSEWHERE}"]


@dataclass
class Subscriber:
    """Reads until the stream ends, and resumes from the last position that it saw."""

    hub: Served
    query: str
    websocket: bool
    since: str | None = None
    last: str | None = None
    told: list[str | None] = field(default_factory=list)
    task: asyncio.Task[None] | None = None
    reader: Reader | None = None

    @property
    def connected(self) -> bool:
        return self.task is not None and not self.task.done()

    async def connect(self) -> None:
        if self.connected:
            return
        query = self.query + (f"&after={self.last}" if self.last else "")
        open_it = self.hub.ws if self.websocket else self.hub.sse
        # Small at first, so that it stalls soon; then usual, because so small a window takes 40 ms for each kilobyte.
        self.reader = await open_it(query, sock=None if self.last else receive_buffer(2_048))
        self.task = asyncio.create_task(self._read(self.reader))

    async def drop(self) -> None:
        if self.reader is not None and self.task is not None:
            self.reader.close()
            await self.task

    def stall(self) -> None:
        if self.reader is not None:
            self.reader.writer.transport.pause_reading()  # type: ignore[attr-defined]  # a socket's transport both reads and writes

    def flow(self) -> None:
        if self.reader is not None:
            self.reader.writer.transport.resume_reading()  # type: ignore[attr-defined]

    async def _read(self, reader: Reader) -> None:
        try:
            while True:
                event = await reader.event()
                if event.kind == "bye":
                    continue
                assert event.kind in ("alert", "heartbeat"), event
                if self.since is None:
                    before = str(int(str(event.id).removeprefix("e-")) - (event.kind == "alert"))
                    self.since = f"e-{before}"
                self.last = event.id
                if event.kind == "alert":
                    self.told.append(event.id)
        except (EOFError, ConnectionError, asyncio.IncompleteReadError):
            pass


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("publish"), st.integers(0, 5)),
            st.tuples(st.just("burst"), st.integers(5, 40)),
            st.tuples(st.sampled_from(["connect", "drop", "stall", "flow"]), st.integers(0, 7)),
            st.tuples(st.just("wait"), st.integers(0, 8)),
        ),
        max_size=40,
    )
)
def test_nothing_is_lost_nothing_comes_twice_and_all_is_in_order(actions: list[tuple[str, int]]) -> None:
    asyncio.run(play(actions))


def test_nothing_is_lost_by_those_who_are_cut_off() -> None:
    cut_offs = asyncio.run(play(STALLS))
    assert cut_offs["cut_too_slow"] + cut_offs["cut_stalled"] >= 4


async def play(actions: list[tuple[str, int]]) -> dict[str, float]:
    """Play a schedule, let everybody come back, and compare; returns the hub's counts."""
    async with served(TIGHT) as hub, asyncio.timeout(30):
        subscribers = [Subscriber(hub, query, websocket) for query in QUERIES for websocket in (False, True)]
        for action, number in actions:
            await step(hub, subscribers, action, number)
        for subscriber in subscribers:
            await come_back(hub, subscriber)
        publish(hub, 0)
        for subscriber in subscribers:
            expected = await wanted(hub.log, subscriber)
            await come_back(hub, subscriber)
            assert subscriber.told == expected
            await subscriber.drop()
        return hub.live.stats()


def step(hub: Served, subscribers: list[Subscriber], action: str, number: int) -> Coroutine[Any, Any, None]:
    async def act() -> None:
        match action:
            case "publish":
                publish(hub, number)
            case "burst":
                for n in range(number):
                    publish(hub, n % 6)
            case "connect":
                await subscribers[number].connect()
            case "drop":
                await subscribers[number].drop()
            case "stall":
                subscribers[number].stall()
            case "flow":
                subscribers[number].flow()
            case _:
                await asyncio.sleep(number * 0.01)

    return act()


def publish(hub: Served, choice: int) -> None:
    """Publish one of several kinds: here or elsewhere, in earnest or as a drill, on its own or as an update of something earlier."""
    entries = hub.log.entries
    about: dict[str, Any] = {
        "area": ELSEWHERE if choice in (1, 3, 4) else CITY,
        "status": Status.EXERCISE if choice in (2, 3) else Status.ACTUAL,
    }
    if choice >= 4 and entries:
        about |= {"msg_type": MsgType.UPDATE, "refers_to": entries[len(entries) // 2]}
    hub.publish(padding=200, **about)


async def come_back(hub: Served, subscriber: Subscriber) -> None:
    """Read on, and connect again if need be, until a heartbeat has come from after the newest entry."""
    while subscriber.last != hub.log.newest or not subscriber.connected:
        subscriber.flow()
        if not subscriber.connected:
            await subscriber.connect()
        await asyncio.sleep(0.01)


async def wanted(log: MemoryLog, subscriber: Subscriber) -> list[str]:
    """Return what a subscriber must have heard, by asking for each entry alone."""
    pairs = [tuple(pair.split("=")) for pair in subscriber.query.split("&") if pair]
    chosen = parse_filter([(name, value) for name, value in pairs])
    assert subscriber.since is not None
    entries = log.entries[log.order(subscriber.since)[0] :]
    return [entry.position for entry in entries if wants(chosen, entry, await log.lineage(entry))]
