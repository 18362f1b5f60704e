"""Following the log: every entry once, in order, without a gap, whatever bus and store do meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from lalert.dispatch.follower import Follower
from lalert.dispatch.lanes import Mark
from lalert.errors import Unavailable, UnknownPosition
from lalert.model import Entry, Origin, OriginKind
from lalert.testing import make_alert

NOW = datetime.now(UTC)
ALERT = make_alert()


class Log:
    """A log in a list; `epoch` may change, and `down` makes one read fail."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.epoch = "e"
        self.down = False

    def grow(self) -> Entry:
        position = f"{self.epoch}-{len(self.entries) + 1}"
        self.entries.append(Entry(position, NOW, NOW, ALERT, Origin(OriginKind.HTTP), ALERT.id))
        return self.entries[-1]

    def order(self, position: str) -> tuple[int, ...]:
        epoch, number = position.split("-")
        if epoch != self.epoch:
            raise UnknownPosition("another epoch")
        return (int(number),)

    async def read(self, after: str | None, limit: int) -> list[Entry]:
        await asyncio.sleep(0)
        if self.down:
            self.down = False
            raise Unavailable("busy")
        start = self.order(after)[0] if after else 0
        return self.entries[start : start + limit]


class Planner:
    """Notes what it is given; can be held, and made to fail once."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str | None]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.fails = False

    async def __call__(self, entry: Entry, before: Mark | None) -> None:
        await self.open.wait()
        if self.fails:
            self.fails = False
            raise ZeroDivisionError
        self.seen.append((entry.position, before.position if before else None))

    @property
    def positions(self) -> list[int]:
        return [int(position.split("-")[1]) for position, _ in self.seen]


def make(log: Any, planner: Planner, arrivals: int = 4) -> Follower:
    follower = Follower(log, planner, lambda: None, page=3, arrivals=arrivals)
    follower.examined = Mark((0,), "e-0")
    return follower


@contextlib.asynccontextmanager
async def running(follower: Follower) -> AsyncIterator[None]:
    async def keep() -> None:
        while True:
            with contextlib.suppress(ZeroDivisionError, Unavailable):
                await follower.run()

    task = asyncio.ensure_future(keep())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def turns(number: int = 50) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


async def test_what_arrives_is_planned_once_with_the_position_before_it() -> None:
    log, planner = Log(), Planner()
    follower = make(log, planner)
    async with running(follower):
        for _ in range(3):
            follower.hear(log.grow())
        await turns()
    assert planner.seen == [("e-1", "e-0"), ("e-2", "e-1"), ("e-3", "e-2")]


async def test_what_was_read_from_the_log_is_not_planned_again_when_it_arrives() -> None:
    log, planner = Log(), Planner()
    follower = make(log, planner)
    arrived = [log.grow() for _ in range(4)]
    await follower.read_on()
    async with running(follower):
        for entry in [*arrived, log.grow()]:
            follower.hear(entry)
        await turns()
    assert planner.positions == [1, 2, 3, 4, 5]


async def test_what_overflows_while_something_is_planned_is_read_from_the_log_before_what_came_after_it() -> (
    None
):
    log, planner = Log(), Planner()
    follower = make(log, planner)
    async with running(follower):
        planner.open.clear()
        follower.hear(log.grow())
        await turns()
        for _ in range(7):
            follower.hear(log.grow())
        planner.open.set()
        await turns(100)
    assert planner.positions == [1, 2, 3, 4, 5, 6, 7, 8]


async def test_what_fails_is_begun_again_and_nothing_is_skipped() -> None:
    log, planner = Log(), Planner()
    follower = make(log, planner)
    async with running(follower):
        planner.fails = True
        for _ in range(2):
            follower.hear(log.grow())
        await turns()
        assert follower.examined == Mark((2,), "e-2")
    assert planner.positions == [1, 2]


async def test_in_another_epoch_everything_is_planned_from_the_oldest_and_the_owner_is_told() -> None:
    log, planner = Log(), Planner()
    told: list[bool] = []
    follower = Follower(log, planner, lambda: told.append(True), page=3, arrivals=4)  # type: ignore[arg-type]
    follower.examined = Mark((9,), "old-9")
    for _ in range(2):
        log.grow()
    async with running(follower):
        follower.hear(log.grow())
        log.epoch = "f"
        log.entries.clear()
        for _ in range(3):
            follower.hear(log.grow())
        await turns()
    assert told
    assert [position for position, _ in planner.seen][-3:] == ["f-1", "f-2", "f-3"]
    assert planner.seen[-3][1] is None


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(["grow", "burst", "hold", "go", "fail", "down", "turn"]), max_size=40))
def test_whatever_happens_every_entry_is_planned_once_in_order(steps: list[str]) -> None:
    async def play() -> None:
        log, planner = Log(), Planner()
        follower = make(log, planner, arrivals=3)
        async with running(follower):
            for step in steps:
                if step == "grow":
                    follower.hear(log.grow())
                elif step == "burst":
                    for _ in range(5):
                        follower.hear(log.grow())
                elif step == "hold":
                    planner.open.clear()
                elif step == "go":
                    planner.open.set()
                elif step == "fail":
                    planner.fails = True
                elif step == "down":
                    log.down = True
                else:
                    await turns(7)
            planner.open.set()
            follower.hear(log.grow())
            await turns(400)
        assert planner.positions == list(range(1, len(log.entries) + 1))
        assert [before for _, before in planner.seen] == [f"e-{n}" for n in range(len(log.entries))]

    asyncio.run(play())
