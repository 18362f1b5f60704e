"""The canary by itself: how often it flies, what it says of whom, and how long anybody has to wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from lalert import canary
from lalert.bus.local import LocalBus
from lalert.canary import EVERY_S, FLIGHT_S, STORE_S, WELL, Canary
from lalert.errors import Unavailable
from lalert.testing import FakeClock

PARTS = {"live": "the live streams", "deliveries": "the durable deliveries"}


class Store:
    def __init__(self) -> None:
        self.checks = 0
        self.error: Exception | None = None

    async def check(self) -> None:
        self.checks += 1
        await asyncio.sleep(0)
        if self.error:
            raise self.error


def at_once(sighted: Callable[[], None]) -> None:
    sighted()


def never(_sighted: Callable[[], None]) -> None:
    pass


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canary, "FLIGHT_S", 0.05)
    monkeypatch.setattr(canary, "STORE_S", 0.05)


def ignore(_entry: object) -> None:
    pass


def aviary(**watchers: Callable[[Callable[[], None]], None]) -> LocalBus:
    bus = LocalBus()
    for name, watcher in watchers.items():
        bus.attach(ignore, name=name, watcher=watcher)
    return bus


def test_what_is_broken_is_known_within_five_seconds() -> None:
    assert EVERY_S + STORE_S + FLIGHT_S <= 5.0


async def test_all_is_well_when_the_store_answers_and_every_part_sights_it() -> None:
    async with Canary(Store(), aviary(live=at_once, deliveries=at_once), FakeClock(), PARTS) as bird:
        report = await bird.report()
    assert report.well
    assert report.checks == {"store": WELL, "live": WELL, "deliveries": WELL}


async def test_whoever_asks_one_flies_in_a_second() -> None:
    store, clock = Store(), FakeClock()
    async with Canary(store, aviary(live=at_once, deliveries=at_once), clock, PARTS) as bird:
        await asyncio.gather(*(bird.report() for _ in range(20)))
        await bird.report()
        assert store.checks == 1
        await clock.advance(EVERY_S / 2)
        assert bird.age == EVERY_S / 2
        await bird.report()
        assert store.checks == 1
        await clock.advance(EVERY_S)
        await asyncio.gather(*(bird.report() for _ in range(20)))
        assert store.checks == 2


async def test_a_part_that_stands_still_and_one_that_hears_nothing_are_named() -> None:
    async with Canary(Store(), aviary(live=never), FakeClock(), PARTS) as bird:
        report = await bird.report()
    assert not report.well
    assert report.checks["store"] == WELL
    assert "stand still" in report.checks["live"]
    assert "do not hear" in report.checks["deliveries"]


async def test_a_part_that_is_detached_hears_nothing() -> None:
    bus = aviary(live=at_once)
    detach = bus.attach(ignore, name="deliveries", watcher=at_once)
    async with Canary(Store(), bus, FakeClock(), PARTS) as bird:
        assert (await bird.report()).well
    detach()
    async with Canary(Store(), bus, FakeClock(), PARTS) as bird:
        assert "do not hear" in (await bird.report()).checks["deliveries"]


@pytest.mark.parametrize(
    ("error", "words"),
    [(Unavailable("the disk is full"), "the disk is full"), (ValueError("x"), "ValueError")],
)
async def test_what_the_store_says_is_said(error: Exception, words: str) -> None:
    store = Store()
    store.error = error
    async with Canary(store, aviary(live=at_once, deliveries=at_once), FakeClock(), PARTS) as bird:
        report = await bird.report()
    assert words in report.checks["store"]
    assert report.checks["live"] == WELL


async def test_a_store_that_hangs_is_not_waited_for() -> None:
    class Hangs(Store):
        async def check(self) -> None:
            await asyncio.Event().wait()

    async with Canary(Hangs(), aviary(live=at_once, deliveries=at_once), FakeClock(), PARTS) as bird:
        async with asyncio.timeout(5):
            report = await bird.report()
    assert "did not answer" in report.checks["store"]


async def test_one_who_asked_and_left_takes_nothing_from_the_others() -> None:
    async with Canary(Store(), aviary(live=at_once, deliveries=never), FakeClock(), PARTS) as bird:
        leaves, stays = (asyncio.ensure_future(bird.report()) for _ in range(2))
        await asyncio.sleep(0)
        leaves.cancel()
        assert not (await stays).well
