"""Following the log: every entry once, in order, without a gap, whatever bus and store do meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from lalert.dispatch.follower import MOST_OPEN, SMALL, Follower
from lalert.dispatch.lanes import Mark
from lalert.dispatch.planning import TURN, Pace
from lalert.errors import Unavailable, UnknownPosition
from lalert.model import Entry, Origin, OriginKind
from lalert.testing import make_alert

NOW = datetime.now(UTC)
ALERT = make_alert()
Urgency = tuple[bool, int, tuple[int, ...]]


class Log:
    """A log in a list; `epoch` may change, and `down` makes one read fail."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.epoch = "e"
        self.down = False

    def grow(self, incident: str = ALERT.id) -> Entry:
        position = f"{self.epoch}-{len(self.entries) + 1}"
        self.entries.append(Entry(position, NOW, NOW, ALERT, Origin(OriginKind.HTTP), incident))
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
    """Notes what it has planned; can be held, and made to fail once. `gravity` and `size` (lanes) are by position, 0 and 1 where nothing is said."""

    def __init__(self, gravity: dict[str, int] | None = None, size: dict[str, int] | None = None) -> None:
        self.gravity = gravity or {}
        self.size = size or {}
        self.seen: list[tuple[str, str | None]] = []
        self.pace = Pace()
        self.open = asyncio.Event()
        self.open.set()
        self.fails = False

    async def __call__(self, entry: Entry, before: Mark | None) -> One:
        await self.open.wait()
        self._fail()
        return One(self, entry, before)

    def _fail(self) -> None:
        if self.fails:
            self.fails = False
            raise ZeroDivisionError

    def finish(self, entry: Entry, before: Mark | None) -> None:
        self._fail()
        self.seen.append((entry.position, before.position if before else None))

    @property
    def positions(self) -> list[int]:
        return [int(position.split("-")[1]) for position, _ in self.seen]


class One:
    """An entry that concerns as many lanes as the planner says; each step takes one turn."""

    def __init__(self, planner: Planner, entry: Entry, before: Mark | None) -> None:
        order = tuple(-int(part) for part in entry.position.split("-")[1:])
        self.urgency: Urgency = (False, -planner.gravity.get(entry.position, 0), order)
        self.incidents = frozenset({entry.incident})
        self.served = 0.0
        self._planner, self._entry, self._before = planner, entry, before
        self._left = planner.size.get(entry.position, 1)

    async def step(self) -> bool:
        self._left -= min(TURN, self._left)
        self.served += TURN
        self._planner.pace.spend(TURN)
        if self._left:
            return False
        self._planner.finish(self._entry, self._before)
        return True


def make(log: Any, planner: Planner, arrivals: int = 4) -> Follower:
    follower = Follower(log, planner, lambda: None, pace=planner.pace, page=3, arrivals=arrivals)
    follower.begin(Mark((0,), "e-0"))
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
    follower = Follower(
        log,  # type: ignore[arg-type]
        planner,
        lambda: told.append(True),
        pace=planner.pace,
        page=3,
        arrivals=4,
    )
    follower.begin(Mark((9,), "old-9"))
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


async def planned(log: Log, planner: Planner) -> list[int]:
    """Let a follower plan all that the log has, and say in which order that was done."""
    follower = make(log, planner)
    await follower.read_on()
    assert follower.examined == Mark((len(log.entries),), log.entries[-1].position)
    assert not follower.busy
    return planner.positions


async def test_the_gravest_and_then_the_newest_is_planned_first() -> None:
    log = Log()
    for number in range(4):
        log.grow(f"incident-{number}")
    assert await planned(
        log, Planner({"e-2": 3}, dict.fromkeys(["e-1", "e-2", "e-3", "e-4"], 4 * SMALL))
    ) == [
        2,
        4,
        3,
        1,
    ]


async def test_what_concerns_few_does_not_wait_for_what_concerns_many() -> None:
    log = Log()
    for number in range(3):
        log.grow(f"incident-{number}")
    large = {"e-1": 20 * SMALL, "e-2": 20 * SMALL}
    assert (await planned(log, Planner({"e-1": 4, "e-2": 4}, large)))[0] == 3


async def test_however_many_come_behind_one_for_very_many_they_do_not_wait_for_it() -> None:
    log, planner = Log(), Planner(size={"e-1": 2_000 * TURN})
    follower = make(log, planner, arrivals=1_000)
    async with running(follower):
        for number in range(3 * MOST_OPEN):
            follower.hear(log.grow(f"incident-{number}"))
        while len(planner.positions) < 3 * MOST_OPEN - 1:
            await asyncio.sleep(0)
        assert 1 not in planner.positions
        assert follower.examined == Mark((0,), "e-0")


async def test_an_incident_is_planned_in_the_order_of_the_log() -> None:
    log = Log()
    for incident in ("a", "b", "a", "a", "b"):
        log.grow(incident)
    done = await planned(log, Planner({"e-4": 9}, dict.fromkeys([f"e-{n}" for n in range(1, 6)], 3 * SMALL)))
    assert [n for n in done if n in {1, 3, 4}] == [1, 3, 4]
    assert [n for n in done if n in {2, 5}] == [2, 5]
    # What the gravest waits for is as urgent as it is itself.
    assert done.index(4) < done.index(5)


async def test_a_place_is_examined_only_when_everything_before_it_is_planned() -> None:
    log, planner = Log(), Planner({"e-2": 5}, {"e-1": 50 * SMALL})
    follower = make(log, planner)
    async with running(follower):
        for number in range(2):
            follower.hear(log.grow(f"incident-{number}"))
        while planner.positions != [2]:
            await asyncio.sleep(0)
        assert follower.examined == Mark((0,), "e-0")
        while len(planner.positions) < 2:
            await asyncio.sleep(0)
        await turns()
        assert not follower.busy
        assert follower.examined == Mark((2,), "e-2")


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


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("abcd"), st.integers(0, 3), st.sampled_from([1, 60, 2 * SMALL])),
        min_size=1,
        max_size=12,
    ),
    st.lists(st.integers(0, 4), max_size=12),
)
def test_side_by_side_each_is_planned_once_and_incidents_keep_their_order(
    alerts: list[tuple[str, int, int]], pauses: list[int]
) -> None:
    async def play() -> None:
        names = [f"e-{n}" for n in range(1, len(alerts) + 1)]
        planner = Planner(
            {name: gravity for name, (_, gravity, _) in zip(names, alerts, strict=True)},
            {name: size for name, (_, _, size) in zip(names, alerts, strict=True)},
        )
        log = Log()
        follower = make(log, planner, arrivals=5)
        async with running(follower):
            for number, (incident, *_) in enumerate(alerts):
                planner.fails = planner.fails or number % 4 == 3
                follower.hear(log.grow(incident))
                await turns(pauses[number] if number < len(pauses) else 0)
                reached = follower.examined.order[0] if follower.examined else 0
                assert set(range(1, reached + 1)) <= set(planner.positions)
            await turns(2_000)
        assert sorted(planner.positions) == list(range(1, len(alerts) + 1))
        for one in {incident for incident, *_ in alerts}:
            own = [n for n in planner.positions if alerts[n - 1][0] == one]
            assert own == sorted(own)

    asyncio.run(play())
