"""The canaries of channels by themselves: when they fly, what came of them, who is told, and what a restart remembers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from structlog.testing import capture_logs

from lalert.channel_canary import AGAIN_S, LATE_S, ChannelCanaries, Schedule, Sighting
from lalert.errors import NotFound, PermanentFailure, TemporaryFailure, Unavailable
from lalert.plugin import Limits
from lalert.testing import FakeClock
from lalert.testing.channel import until

TARGET = "https://watch.example/token-of-the-watch"


@dataclass
class Store:
    values: dict[tuple[str, str], bytes] = field(default_factory=dict)
    down: bool = False

    async def get(self, owner: str, key: str) -> bytes | None:
        return self.values.get((owner, key))

    async def put(self, owner: str, key: str, value: bytes) -> None:
        if self.down:
            raise Unavailable("the disk is full")
        self.values[owner, key] = value

    async def delete(self, owner: str, key: str) -> None:
        self.values.pop((owner, key), None)


@dataclass
class Flyer:
    """A channel whose far end does what `answer` does."""

    flown: list[tuple[float, str, str]] = field(default_factory=list)
    clock: FakeClock = field(default_factory=FakeClock)
    trouble: Exception | None = None
    answer: Callable[[str], Any] | None = None
    limits: Limits = field(default_factory=Limits)

    async def canary(self, target: str, token: str) -> None:
        self.flown.append((self.clock.monotonic(), target, token))
        if self.trouble is not None:
            raise self.trouble
        if self.answer is not None:
            await self.answer(token)


@dataclass
class Watch:
    canaries: ChannelCanaries
    flyer: Flyer
    store: Store
    clock: FakeClock

    @property
    def times(self) -> list[float]:
        return [when for when, _, _ in self.flyer.flown]

    @property
    def token(self) -> str:
        return self.flyer.flown[-1][2]

    def sighting(self) -> Sighting | None:
        record = self.canaries.record("mail")
        return record.last.sighting if record is not None and record.last is not None else None

    def gauge(self, name: str) -> float:
        return self.canaries.gauges()[f"canary_{name}"]["mail"]


@asynccontextmanager
async def watch(
    schedule: Schedule | None = None, former: Watch | None = None, trouble: Exception | None = None
) -> AsyncIterator[Watch]:
    """Fly by a schedule; `former` is whose store and clock are gone on with."""
    clock = former.clock if former else FakeClock()
    store, flyer = former.store if former else Store(), Flyer(clock=clock, trouble=trouble)
    canaries = ChannelCanaries(store, clock, {"mail": flyer}, {"mail": schedule or Schedule(TARGET)})
    flying = asyncio.create_task(canaries.run())
    try:
        await until(lambda: clock.sleeping)
        yield Watch(canaries, flyer, store, clock)
    finally:
        flying.cancel()
        await asyncio.gather(flying, return_exceptions=True)


async def test_one_flies_at_the_start_and_then_on_schedule_with_a_token_of_its_own() -> None:
    async with watch(Schedule(TARGET, every=300)) as at:
        await at.clock.advance(900)
        assert at.times == [0, 300, 600, 900]
        assert {target for _, target, _ in at.flyer.flown} == {TARGET}
        assert len({token for _, _, token in at.flyer.flown}) == 4
        assert at.sighting() is Sighting.SENT
        assert (at.gauge("well"), at.gauge("age_seconds")) == (1, 0)


async def test_a_restart_goes_on_with_the_schedule_and_remembers_what_came_of_the_last() -> None:
    async with watch(Schedule(TARGET, every=300)) as first:
        await first.clock.advance(100)
    async with watch(Schedule(TARGET, every=300), first) as second:
        await second.clock.advance(0)
        assert second.gauge("age_seconds") == 100
        assert second.flyer.flown == []
        await second.clock.advance(200)
        assert second.times == [300]


async def test_what_passes_is_tried_again_with_the_same_token_and_is_no_alarm() -> None:
    async with watch(trouble=TemporaryFailure("greylisted")) as at:
        await at.clock.advance(5)
        at.flyer.trouble = None
        with capture_logs() as logs:
            await at.clock.advance(10)
        assert at.times == [0, 2, 7]
        assert len({token for _, _, token in at.flyer.flown}) == 1
        assert at.sighting() is Sighting.SENT
        assert logs == []


async def test_what_does_not_arrive_in_time_is_an_alarm_once_and_again_when_it_is_back() -> None:
    async with watch(Schedule(TARGET, every=300, within=60)) as at:
        with capture_logs() as logs:
            at.flyer.trouble = TemporaryFailure(f"{TARGET} does not answer")
            await at.clock.advance(400)
            assert at.sighting() is Sighting.MISSED
            assert (at.gauge("well"), at.gauge("age_seconds")) == (0, 400)
            at.flyer.trouble = None
            await at.clock.advance(AGAIN_S)
        assert [line["log_level"] for line in logs] == ["error", "info"]
        assert "[…] does not answer" in logs[0]["cause"]
        assert at.gauge("well") == 1


async def test_another_cause_is_said_too_and_a_refusal_is_not_tried_again() -> None:
    with capture_logs() as logs:
        async with watch(Schedule(TARGET, every=300), trouble=PermanentFailure("no such mailbox")) as at:
            await at.clock.advance(59)
            assert at.times == [0]
            at.flyer.trouble = PermanentFailure("mailbox closed")
            await at.clock.advance(120)
    assert [line["cause"] for line in logs] == ["no such mailbox", "mailbox closed"]


async def test_a_pause_that_is_asked_for_is_given() -> None:
    async with watch(trouble=TemporaryFailure("later", retry_after=25)) as at:
        await at.clock.advance(55)
        assert at.times == [0, 25, 50]


async def test_a_defect_of_an_adapter_is_a_miss_and_ends_nothing() -> None:
    async with watch(Schedule(TARGET, every=300, within=1), trouble=ValueError(TARGET)) as at:
        await at.clock.advance(120)
        record = at.canaries.record("mail")
        assert record is not None
        assert record.last is not None
        assert record.last.detail.startswith("the adapter failed: ValueError at test_channel_canary.py:")
        at.flyer.trouble = None
        await at.clock.advance(60)
        assert at.sighting() is Sighting.SENT


async def test_an_answer_of_the_far_end_is_observed_also_when_it_is_quicker_than_the_sending() -> None:
    async with watch() as at:
        at.flyer.answer = at.canaries.answered
        await at.clock.advance(900)
        assert at.sighting() is Sighting.OBSERVED


async def test_an_answer_that_comes_later_counts_from_any_node_and_only_for_the_last() -> None:
    async with watch(Schedule(TARGET, every=300)) as at:
        await at.clock.advance(30)
        elsewhere = ChannelCanaries(at.store, at.clock, {}, {"mail": Schedule(TARGET)})
        await elsewhere.answered(at.token)
        assert at.sighting() is Sighting.SENT
        following = asyncio.create_task(at.canaries.follow())
        await at.clock.advance(0)
        following.cancel()
        record = at.canaries.record("mail")
        assert record is not None
        assert record.last is not None
        assert (record.last.sighting, record.last.took) == (Sighting.OBSERVED, 30)
        old = at.token
        await at.clock.advance(300)
        for token in (old, "canary-" + "0" * 32, "canary-\u3042", ""):
            with pytest.raises(NotFound):
                await elsewhere.answered(token)


async def test_where_it_must_be_observed_a_sending_alone_is_a_miss() -> None:
    async with watch(Schedule(TARGET, every=300, within=60, observe=True)) as at:
        await at.clock.advance(59)
        assert at.sighting() is None
        await at.clock.advance(1)
        assert at.sighting() is Sighting.MISSED
        await at.clock.advance(240)
        assert len(at.times) > 1
        await at.canaries.answered(at.token)
        await at.clock.advance(2)
        assert at.sighting() is Sighting.OBSERVED


async def test_where_nobody_flies_any_more_it_is_overdue() -> None:
    async with watch(Schedule(TARGET, every=300, within=60)) as at:
        await at.clock.advance(1)
    at.clock.move(300 + 60 + LATE_S - 2)
    assert at.gauge("well") == 1
    at.clock.move(2)
    assert at.gauge("well") == 0


async def test_while_the_store_takes_nothing_it_is_said_once_and_goes_on_afterwards() -> None:
    async with watch() as at:
        at.store.down = True
        with capture_logs() as logs:
            await at.clock.advance(60)
        assert len(logs) <= 1
        at.store.down = False
        await at.clock.advance(900)
        assert at.sighting() is Sighting.SENT


async def test_who_reads_while_a_result_is_written_does_not_remember_the_one_before() -> None:
    async with watch(Schedule(TARGET, every=300)) as at:
        slow = asyncio.Event()
        read = at.store.get

        async def get(owner: str, key: str) -> bytes | None:
            found = await read(owner, key)
            if key == "record/mail" and at.flyer.trouble is not None:
                await slow.wait()
            return found

        at.flyer.trouble = PermanentFailure("no such mailbox")
        at.store.get = get  # type: ignore[method-assign]
        following = asyncio.create_task(at.canaries.follow())
        await asyncio.sleep(0)
        at.store.get = read  # type: ignore[method-assign]
        await at.clock.advance(300)
        slow.set()
        await at.clock.advance(0)
        following.cancel()
        assert (at.sighting(), at.gauge("well")) == (Sighting.MISSED, 0)
