"""Durable delivery on a real store: what INTERFACE promises of targets, and what holds when target, store or hub fail."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, ClassVar

import pytest
import structlog

from lalert.bus.local import LocalBus, LocalLeases
from lalert.clock import Clock, SystemClock
from lalert.dispatch import Dispatcher, DispatchSettings, delivery_key
from lalert.dispatch.dispatcher import LAUNCHES, LONG_TURN_S
from lalert.dispatch.lanes import Planned
from lalert.dispatch.outlets import Flight, Outlet
from lalert.dispatch.planning import TURN
from lalert.dispatch.told import Told
from lalert.errors import (
    BadRequest,
    Conflict,
    Forbidden,
    Gone,
    NotFound,
    PermanentFailure,
    StoreError,
    TemporaryFailure,
    Unavailable,
    UnknownPosition,
)
from lalert.matching import FilterIndex
from lalert.model import Alert, Delivery, Entry, Filter, Origin, OriginKind, Outcome, Status, Subscription
from lalert.plugin import Channel, Limits
from lalert.store import DeliveryRow, DeliveryState, Lane
from lalert.store.sqlite import SqliteStore
from lalert.testing import FakeClock, declared_facts, make_alert, revive

ORIGIN = Origin(OriginKind.HTTP, tenant="hitoyoshi")
ALL = Filter(statuses=frozenset(Status))
QUICK = DispatchSettings(grace_s=0.3)
PATIENCE = 10.0

Reply = Callable[[Delivery], Awaitable[Outcome]]


async def take(delivery: Delivery) -> Outcome:
    return Outcome("taken")


class FakeChannel:
    """A channel whose far end does what the test says."""

    drill_safe: ClassVar[bool] = True
    limits: ClassVar[Limits] = Limits(in_flight=8, timeout=5.0)

    def __init__(self, reply: Reply = take) -> None:
        self.reply = reply
        self.calls: list[Delivery] = []
        self.taken: list[Delivery] = []

    def check_subscription(self, subscription: Subscription) -> Subscription:
        return subscription

    async def deliver(self, delivery: Delivery) -> Outcome:
        self.calls.append(delivery)
        outcome = await self.reply(delivery)
        self.taken.append(delivery)
        return outcome

    @property
    def sent(self) -> list[str]:
        return [call.entry.alert.identifier for call in self.calls]

    @property
    def arrived(self) -> list[str]:
        return [call.entry.alert.identifier for call in self.taken]


class RealOnly(FakeChannel):
    drill_safe: ClassVar[bool] = False


class Impatient(FakeChannel):
    limits: ClassVar[Limits] = Limits(in_flight=8, timeout=0.05)


class OneAtATime(FakeChannel):
    limits: ClassVar[Limits] = Limits(in_flight=1, timeout=5.0)


_: type[Channel] = FakeChannel


def wants(filter: Filter, entry: Entry, lineage: Sequence[Entry]) -> bool:
    """Stands for matching: places alone, with the former audience."""
    return not filter.areas or any(filter.areas & told.facts.codes for told in (entry, *lineage))


class CountingTally:
    """Adds up what the dispatcher tells of deliveries, by the alert's id."""

    def __init__(self) -> None:
        self.counts: dict[str, Counter[str]] = defaultdict(Counter)
        self.confirmations: list[str] = []
        self.dropped: list[str] = []

    def planned(self, planned: Planned, channel: str, number: int) -> None:
        self.counts[planned.alert_id][f"{channel} planned"] += number

    def settled(self, planned: Planned, channel: str, state: DeliveryState) -> None:
        self.counts[planned.alert_id][f"{channel} {state}"] += 1

    def confirmed(self, position: str, channel: str) -> None:
        self.confirmations.append(f"{channel} {position}")

    def gone(self, subscription: Subscription) -> None:
        self.dropped.append(subscription.id)


class Hub:
    """Store, bus and dispatcher, which can be started again on the same file."""

    def __init__(self, path: Path, channel: Channel, clock: Clock, settings: DispatchSettings) -> None:
        self.path = path
        self.channel = channel
        self.clock = clock
        self.settings = settings
        self.around: Callable[[SqliteStore], Any] = lambda store: store
        self.wants: Callable[[Filter, Entry, Sequence[Entry]], bool] = wants
        self.index: Callable[[], FilterIndex] | None = FilterIndex
        self.channels: dict[str, Channel] = {"fake": channel}
        self.tally = CountingTally()
        self.store: SqliteStore
        self.dispatcher: Dispatcher

    @asynccontextmanager
    async def open_store(self) -> AsyncIterator[LocalBus]:
        bus = LocalBus()
        async with SqliteStore(
            self.path, revive=revive, on_append=bus.publish, clock=SystemClock()
        ) as self.store:
            yield bus

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Dispatcher]:
        async with self.open_store() as bus:
            self.dispatcher = Dispatcher(
                self.around(self.store),
                bus,
                self.channels,
                leases=LocalLeases(),
                wants=self.wants,
                index=self.index,
                tally=self.tally,
                may_see=lambda subscription, entry: subscription.tenant == entry.origin.tenant,
                clock=self.clock,
                settings=self.settings,
            )
            async with self.dispatcher:
                yield self.dispatcher

    async def append(self, alert: Alert, origin: Origin = ORIGIN) -> Entry:
        facts = declared_facts(alert)
        return (await self.store.append(alert, origin, datetime.now(UTC), facts, frozenset())).entry

    async def submit(self, identifier: str, **changes: Any) -> Entry:
        return await self.append(
            make_alert(identifier=identifier, sent=datetime.now(UTC) - timedelta(hours=1), **changes)
        )

    async def rows(self, subscription: str = "s") -> dict[str, DeliveryRow]:
        """Return the history by the alerts' identifiers."""
        found = await self.store.deliveries(subscription, 1000)
        entries = {row.position: await self.store.entry(row.position) for row in found}
        return {entry.alert.identifier: row for row in found if (entry := entries[row.position])}

    async def states(self, subscription: str = "s") -> dict[str, DeliveryState]:
        return {name: row.state for name, row in (await self.rows(subscription)).items()}


MakeHub = Callable[..., Hub]


@pytest.fixture
def make_hub(tmp_path: Path) -> MakeHub:
    def make(channel: Channel, clock: Clock | None = None, settings: DispatchSettings = QUICK) -> Hub:
        return Hub(tmp_path / "hub.db", channel, clock or SystemClock(), settings)

    return make


def subscription(id: str = "s", **changes: Any) -> Subscription:
    return replace(
        Subscription(id, "fake", f"https://{id}.example/token-of-{id}", Filter(), datetime.now(UTC)),
        **changes,
    )


async def until(true: Callable[[], object], why: str = "") -> None:
    try:
        async with asyncio.timeout(PATIENCE):
            while not true():
                await asyncio.sleep(0.002)
    except TimeoutError:
        raise AssertionError(why or "it did not happen in time") from None


async def until_async(true: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not await true():
            await asyncio.sleep(0.005)


def failing(error: Exception) -> Reply:
    async def reply(delivery: Delivery) -> Outcome:
        raise error

    return reply


def first_failing(error: Exception, times: int = 1) -> Reply:
    """Fail the first attempts of each delivery."""
    seen: dict[str, int] = {}

    async def reply(delivery: Delivery) -> Outcome:
        seen[delivery.key] = seen.get(delivery.key, 0) + 1
        if seen[delivery.key] <= times:
            raise error
        return Outcome()

    return reply


class Gate:
    """A far end that answers when it is opened."""

    def __init__(self) -> None:
        self.open = asyncio.Event()

    async def __call__(self, delivery: Delivery) -> Outcome:
        await self.open.wait()
        return Outcome()


class Proxy:
    """Stands before the store and changes what a subclass says."""

    def __init__(self, store: SqliteStore) -> None:
        self.store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)


# What is delivered


async def test_an_alert_reaches_its_target_once_and_is_journalled(make_hub: MakeHub) -> None:
    channel = FakeChannel()
    hub = make_hub(channel)
    async with hub.running() as dispatcher:
        await dispatcher.subscribe(subscription())
        entry = await hub.submit("one")
        await until(lambda: channel.arrived)
        await until_async(hub.rows)
    assert channel.arrived == ["one"]
    [call] = channel.calls
    assert (call.key, call.attempt) == (delivery_key("s", entry.alert.id), 1)
    async with hub.open_store():
        row = (await hub.rows())["one"]
        assert (row.state, row.attempts, row.detail, row.due) == (DeliveryState.DELIVERED, 1, "taken", None)
        [lane] = await hub.store.lanes()
        assert lane.cursor == entry.position


async def test_what_each_attempt_sent_and_got_is_kept_without_what_is_secret(make_hub: MakeHub) -> None:
    secret = "https://s.example/token-of-s"

    async def reply(delivery: Delivery) -> Outcome:
        if delivery.attempt > 1:
            return Outcome("taken", request=f"POST to {secret}", response="welcome\n" + "x" * 1000)
        failure = PermanentFailure("HTTP 400")
        failure.request, failure.response = f"POST to {secret}", "go away, token-of-s"
        raise failure

    hub = make_hub(FakeChannel(reply))
    async with hub.running() as dispatcher:
        await dispatcher.subscribe(subscription())
        entry = await hub.submit("one")
        key = delivery_key("s", entry.alert.id)
        await until_async(lambda: settled(hub, "one"))
        await dispatcher.redeliver(key)
        await until_async(lambda: settled(hub, "one"))
    async with hub.open_store():
        first, second = await hub.store.attempts(key)
    assert (first.number, first.state, first.detail) == (1, DeliveryState.DEAD, "HTTP 400")
    assert (first.request, first.response) == ("POST to […]", "go away, […]")
    assert (second.number, second.state) == (2, DeliveryState.DELIVERED)
    assert second.response == "welcome " + "x" * 392
    assert timedelta(0) <= second.began - first.began < timedelta(seconds=10)
    assert 0 <= second.took < 5


async def settled(hub: Hub, identifier: str) -> bool:
    rows = await hub.rows()
    return identifier in rows and rows[identifier].state is not DeliveryState.RETRY


async def test_history_that_cannot_be_written_holds_up_nothing_and_is_written_later(
    make_hub: MakeHub,
) -> None:
    class Full:
        def __init__(self, store: SqliteStore) -> None:
            self._store = store

        def __getattr__(self, name: str) -> Any:
            return getattr(self._store, name)

        async def add_attempts(self, attempts: Any) -> None:
            raise Unavailable("the disk is full")

    channel = FakeChannel()
    hub = make_hub(channel)
    hub.around = Full
    async with hub.running() as dispatcher:
        await dispatcher.subscribe(subscription())
        for name in ("one", "two"):
            await hub.submit(name)
            await until_async(lambda name=name: settled(hub, name))  # type: ignore[misc]
        hub.dispatcher._history._store = hub.store
    async with hub.open_store():
        for row in (await hub.rows()).values():
            assert len(await hub.store.attempts(row.key)) == 1


async def test_every_delivery_is_counted_once_when_it_is_planned_and_once_when_it_is_settled(
    make_hub: MakeHub,
) -> None:
    async def reply(delivery: Delivery) -> Outcome:
        match delivery.subscription.id:
            case "dead":
                raise PermanentFailure("no such address")
            case "gone":
                raise Gone("left")
            case "later" if delivery.attempt == 1:
                raise TemporaryFailure("busy")
        return Outcome()

    hub = make_hub(RealOnly(reply))
    async with hub.running() as dispatcher:
        for id in ("good", "later", "dead", "gone"):
            await dispatcher.subscribe(subscription(id, filter=ALL))
        alert = await hub.submit("a")
        drill = await hub.submit("d", status=Status.EXERCISE)
        over = await hub.submit("o", expires=datetime.now(UTC) - timedelta(minutes=1))
        counts, total = hub.tally.counts, 4
        await until(lambda: sum(counts[alert.alert.id].values()) == 2 * total)
        assert counts[alert.alert.id] == {
            "fake planned": 4, "fake delivered": 2, "fake dead": 1, "fake dropped": 1,
        }  # fmt: skip
        await until(
            lambda: sum(counts[over.alert.id].values()) == 2 * counts[over.alert.id]["fake planned"] > 0
        )
        assert set(counts[over.alert.id]) == {"fake planned", "fake expired"}
        assert set(counts[drill.alert.id]) == {"fake planned", "fake dropped"}
        assert hub.tally.dropped == ["gone"]

        key = delivery_key("good", alert.alert.id)
        for _ in range(2):
            await dispatcher.confirm(key)
        await dispatcher.redeliver(key)
        await until(lambda: counts[alert.alert.id]["fake delivered"] == 3)
        assert counts[alert.alert.id]["fake planned"] == 5
        assert hub.tally.confirmations == [f"fake {alert.position}"]


async def test_who_changes_filters_while_an_alert_is_planned_that_both_want_is_told_once(
    make_hub: MakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wish(number: int, more: str) -> Filter:
        return Filter(areas=frozenset({"432032", f"13{number:04d}", more}))

    monkeypatch.setattr("lalert.dispatch.planning.TURN", 1)
    channel = FakeChannel()
    hub = make_hub(channel)
    async with hub.running() as dispatcher:
        for number in range(4):
            await dispatcher.subscribe(subscription(f"s{number}", filter=wish(number, "011002")))
        async with dispatcher._pace._one:
            await hub.submit("one", codes=["432032"])
            await until(lambda: dispatcher._pace._one._waiters, "planning has begun")
            for number in range(4):
                await dispatcher.subscribe(subscription(f"s{number}", filter=wish(number, "022012")))
        await hub.submit("two", codes=["432032"])
        await until(lambda: channel.arrived.count("two") == 4 and channel.arrived.count("one") >= 4)
        await hub.submit("three", codes=["432032"])
        await until(lambda: channel.arrived.count("three") == 4)
    assert sorted(call.subscription.id for call in channel.calls if call.entry.alert.identifier == "one") == [
        "s0", "s1", "s2", "s3",
    ]  # fmt: skip


async def test_a_flood_to_one_town_is_not_felt_in_another_and_the_gravest_goes_before_it(
    make_hub: MakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lalert.dispatch.planning.TURN", 2)
    monkeypatch.setattr("lalert.dispatch.follower.SMALL", 4)
    channel, people = FakeChannel(), 60
    hub = make_hub(channel)
    async with hub.running() as dispatcher:
        for number in range(people):
            await dispatcher.subscribe(subscription(f"p{number}", filter=Filter(areas=frozenset({"432032"}))))
        await dispatcher.subscribe(subscription("elsewhere", filter=Filter(areas=frozenset({"132209"}))))
        async with dispatcher._pace._one:
            for number in range(6):
                await hub.submit(f"notice-{number}", codes=["432032"], severity="Moderate")
            await hub.submit("order", codes=["432032"], severity="Extreme")
            await hub.submit("few", codes=["132209"], severity="Minor")
        await until(lambda: len(channel.arrived) == 7 * people + 1)
    assert channel.arrived.index("few") < people
    last_order = max(n for n, name in enumerate(channel.arrived) if name == "order")
    assert last_order < 3 * people
    assert Counter(channel.arrived) == {
        **{f"notice-{n}": people for n in range(6)},
        "order": people,
        "few": 1,
    }


async def test_a_subscription_hears_of_nothing_before_it_and_misses_nothing_after(make_hub: MakeHub) -> None:
    channel = FakeChannel()
    hub = make_hub(channel)
    cursors: dict[str, str] = {}

    class Slow(Proxy):
        async def save_subscription(self, subscription: Subscription, cursor: str) -> None:
            cursors[subscription.id] = cursor
            await asyncio.sleep(0.01)
            await self.store.save_subscription(subscription, cursor)

    hub.around = Slow
    async with hub.running() as dispatcher:
        async with asyncio.TaskGroup() as group:
            appends = [group.create_task(hub.submit(f"{n}")) for n in range(60)]
            for n in range(6):
                await asyncio.sleep(0.002)
                await dispatcher.subscribe(subscription(f"s{n}"))
        entries = [append.result() for append in appends]
        for n in range(6):
            started = hub.store.order(cursors[f"s{n}"])
            owed = sorted(e.alert.identifier for e in entries if hub.store.order(e.position) > started)
            await until(lambda: len(arrived_at(channel, f"s{n}")) >= len(owed))  # noqa: B023
            assert sorted(arrived_at(channel, f"s{n}")) == owed


def arrived_at(channel: FakeChannel, subscription: str) -> list[str]:
    return [c.entry.alert.identifier for c in channel.taken if c.subscription.id == subscription]


async def test_only_what_the_filter_wants_is_sent_and_an_update_follows_its_audience(
    make_hub: MakeHub,
) -> None:
    channel = FakeChannel()
    hub = make_hub(channel)
    async with hub.running() as dispatcher:
        await dispatcher.subscribe(subscription(filter=Filter(areas=frozenset({"432032"}))))
        first = await hub.submit("here", codes=["432032"])
        await hub.submit("elsewhere", codes=["132209"])
        await until(lambda: channel.arrived)
        await hub.submit("shrunk", msg_type="Update", references=[first], codes=["132209"])
        await until(lambda: len(channel.arrived) == 2)
    assert channel.arrived == ["here", "shrunk"]


async def test_a_draft_is_sent_to_nobody_and_a_drill_only_to_those_who_asked(make_hub: MakeHub) -> None:
    channel = FakeChannel()
    hub = make_hub(channel)
    hub.wants, hub.index = lambda *anything: True, None
    async with hub.running() as dispatcher:
        await dispatcher.subscribe(subscription("quiet"))
        await dispatcher.subscribe(subscription("keen", filter=ALL))
        await hub.submit("draft", status="Draft")
        await hub.submit("drill", status="Exercise")
        await hub.submit("real")
        await until(lambda: len(channel.taken) == 3)
    assert sorted((c.subscription.id, c.entry.alert.identifier) for c in channel.taken) == [
        ("keen", "drill"),
        ("keen", "real"),
        ("quiet", "real"),
    ]


async def test_what_a_channel_has_not_sent_on_purpose_is_journalled_as_dropped_and_tried_once(
    make_hub: MakeHub,
) -> None:
    async def reply(delivery: Delivery) -> Outcome:
        return Outcome("nothing for this channel", sent=False)

    channel = FakeChannel(reply)
    hub = make_hub(channel)
    async with hub.running() as dispatcher:
        await dispatcher.subscribe(subscription())
        with structlog.testing.capture_logs() as logs:
            await hub.submit("update")
            await until_async(lambda: _has(hub, 1))
        row = (await hub.rows())["update"]
        assert (row.state, row.detail) == (DeliveryState.DROPPED, "nothing for this channel")
        assert channel.sent == ["update"]
        assert "delivery fails" not in [log["event"] for log in logs]


async def test_a_channel_that_is_not_drill_safe_never_gets_a_drill_and_the_journal_says_why(
    make_hub: MakeHub,
) -> None:
    channel = RealOnly()
    hub = make_hub(channel)
    async with hub.running() as dispatcher:
        await dispatcher.subscribe(subscription(filter=ALL))
        for status in ("Exercise", "Test", "System"):
            await hub.submit(status, status=status)
        await hub.submit("real")
        await until(lambda: channel.arrived)
        await until_async(lambda: _has(hub, 4))
        rows = await hub.rows()
        assert channel.sent == ["real"]
        assert {name: row.state for name, row in rows.items() if name != "real"} == dict.fromkeys(
            ("Exercise", "Test", "System"), DeliveryState.DROPPED
        )
        assert "drill-safe" in rows["Test"].detail
        with pytest.raises(Conflict):
            await dispatcher.redeliver(rows["Exercise"].key)


async def test_a_drill_that_waits_is_not_sent_once_its_channel_is_one_that_carries_none(
    make_hub: MakeHub,
) -> None:
    """As where another adapter is configured under the same name."""
    hub = make_hub(FakeChannel(failing(TemporaryFailure("down"))))
    async with hub.running() as dispatcher:
        await dispatcher.subscribe(subscription(filter=ALL))
        await hub.submit("drill", status="Exercise")
        await hub.submit("other", status="Test")
        await until_async(lambda: _has(hub, 2))
    other = RealOnly()
    hub.channels = {"fake": other}
    async with hub.running() as dispatcher:
        await until_async(lambda: _are(hub, drill=DeliveryState.DROPPED, other=DeliveryState.DROPPED))
        rows = await hub.rows()
        assert "drill-safe" in rows["drill"].detail
        await hub.store.record([replace(rows["drill"], state=DeliveryState.DEAD)], {})
        with pytest.raises(Conflict, match="drill-safe"):
            await dispatcher.redeliver(rows["drill"].key)
    assert other.calls == []


async def _are(hub: Hub, **states: DeliveryState) -> bool:
    return await hub.states() == states


async def test_what_people_have_to_tick_has_a_row_however_many_targets_there_are(make_hub: MakeHub) -> None:
    class People(FakeChannel):
        by_hand: ClassVar[bool] = True

    hub = make_hub(People(), settings=replace(QUICK, journal_lanes=1))
    async with hub.running() as dispatcher:
        for n in range(3):
            await dispatcher.subscribe(subscription(f"s{n}"))
        await hub.submit("one")
        for n in range(3):
            await until_async(partial(hub.rows, f"s{n}"))


async def _has(hub: Hub, number: int) -> bool:
    return len(await hub.rows()) == number


async def test_what_is_not_public_goes_only_to_those_who_may_see_it(make_hub: MakeHub) -> None:
    channel = FakeChannel()
    hub = make_hub(channel)
    async with hub.running() as dispatcher:
        await dispatcher.subscribe(subscription("stranger", tenant="other"))
        await dispatcher.subscribe(subscription("owner", tenant="hitoyoshi"))
        await hub.submit("private", scope="Private", addresses=["a"])
        await hub.submit("public")
        await until(lambda: len(channel.taken) == 3)
        assert await hub.rows("stranger") == {} or set(await hub.rows("stranger")) == {"public"}
    assert sorted((c.subscription.id, c.entry.alert.identifier) for c in channel.taken) == [
        ("owner", "private"),
        ("owner", "public"),
        ("stranger", "public"),
    ]


async def test_a_filter_that_cannot_be_judged_leaves_nobody_untold_and_stops_nothing(
    make_hub: MakeHub,
) -> None:
    channel = FakeChannel()
    hub = make_hub(channel)

    def broken(filter: Filter, entry: Entry, lineage: Sequence[Entry]) -> bool:
        raise ZeroDivisionError

    hub.wants, hub.index = broken, None
    with structlog.testing.capture_logs() as logs:
        async with hub.running() as dispatcher:
            await dispatcher.subscribe(subscription())
            await hub.submit("drill", status="Exercise")
            await hub.submit("one")
            await hub.submit("two")
            await until(lambda: len(channel.taken) == 2)
    assert [log["log_level"] for log in logs] == ["error", "error"]
    assert sorted(channel.arrived) == ["one", "two"]


# In which order


async def test_what_waits_goes_out_most_urgent_first(make_hub: MakeHub) -> None:
    gate = Gate()
    channel = OneAtATime(gate)
    hub = make_hub(channel)
    async with hub.running() as dispatcher:
        await dispatcher.subscribe(subscription(filter=ALL))
        await hub.submit("under-way")
        await until(lambda: channel.calls)
        await hub.submit("drill", status="Exercise", severity="Extreme")
        await hub.submit("minor", severity="Minor")
        await hub.submit("severe-1")
        await hub.submit("severe-2")
        await hub.submit("last")
        await until(lambda: dispatcher.stats()["waiting"] == 6)
        gate.open.set()
        await until(lambda: len(channel.taken) == 6)
    assert channel.arrived == ["under-way", "last", "severe-2", "severe-1", "minor", "drill"]


async def test_a_cancel_is_as_urgent_as_what_it_withdraws(make_hub: MakeHub) -> None:
    channel = FakeChannel()
    hub = make_hub(channel)
    async with hub.running() as dispatcher:
        await dispatcher.subscribe(subscription())
        order = await hub.submit("order", severity="Extreme")
        await until(lambda: channel.arrived)
        gate = channel.reply = Gate()
        await hub.submit("under-way", severity="Minor")
        await until(lambda: len(channel.calls) == 2)
        await hub.submit("severe", severity="Severe")
        await hub.submit("cancel", msg_type="Cancel", references=[order], infos=[])
        await until(lambda: dispatcher.stats()["waiting"] == 3)
        gate.open.set()
        await until(lambda: len(channel.taken) == 4)
    assert channel.arrived[2:] == ["cancel", "severe"]


@pytest.mark.parametrize("names_every_revision", [True, False])
async def test_a_superseded_revision_that_waits_is_dropped_and_journalled(
    make_hub: MakeHub, names_every_revision: bool
) -> None:
    channel = FakeChannel(failing(TemporaryFailure("down")))
    hub = make_hub(channel)
    async with hub.running() as dispatcher:
        await dispatcher.subscribe(subscription())
        first = await hub.submit("first")
        await until(lambda: channel.calls)
        second = await hub.submit("second", msg_type="Update", references=[first])
        await until(lambda: "second" in channel.sent)
        channel.reply = take
        named = [first, second] if names_every_revision else [first]
        # Later by its own word: of two revisions of the same second the id would decide.
        third = make_alert(identifier="third", sent=datetime.now(UTC), msg_type="Update", references=named)
        await hub.append(third)
        await until(lambda: channel.arrived)
        await until_async(lambda: _has(hub, 3))
        states = await hub.states()
    assert channel.arrived == ["third"]
    assert states == {
        "first": DeliveryState.SUPERSEDED,
        "second": DeliveryState.SUPERSEDED,
        "third": DeliveryState.DELIVERED,
    }


async def test_what_another_organisation_said_it_would_cancel_is_delivered_all_the_same(
    make_hub: MakeHub,
) -> None:
    channel = FakeChannel(failing(TemporaryFailure("down")))
    hub = make_hub(channel)
    real = make_alert(identifier="real", sent=datetime.now(UTC) - timedelta(hours=1))
    ahead = make_alert(identifier="ahead", msg_type="Cancel", references=[real])
    async with hub.running() as dispatcher:
        await dispatcher.subscribe(subscription())
        await hub.append(ahead, replace(ORIGIN, tenant="somebody-else"))
        await until(lambda: channel.calls)
        await hub.append(real)
        await until(lambda: "real" in channel.sent)
        channel.reply = take
        await until(lambda: len(channel.arrived) == 2)
    assert set(channel.arrived) == {"ahead", "real"}


async def test_a_revision_under_way_is_followed_by_the_next_and_never_overtaken(make_hub: MakeHub) -> None:
    gate = Gate()
    channel = FakeChannel(gate)
    hub = make_hub(channel)
    async with hub.running() as dispatcher:
        await dispatcher.subscribe(subscription())
        first = await hub.submit("first")
        await until(lambda: channel.calls)
        await hub.submit("second", msg_type="Update", references=[first])
        await until(lambda: dispatcher.stats()["waiting"] == 2)
        assert channel.sent == ["first"]
        gate.open.set()
        await until(lambda: len(channel.taken) == 2)
    assert channel.arrived == ["first", "second"]


async def test_a_revision_under_way_that_fails_is_not_tried_again_once_it_is_replaced(
    make_hub: MakeHub,
) -> None:
    gate = Gate()

    async def fail_first(delivery: Delivery) -> Outcome:
        await gate(delivery)
        if delivery.entry.alert.identifier == "first":
            raise TemporaryFailure("down")
        return Outcome()

    channel = FakeChannel(fail_first)
    hub = make_hub(channel)
    async with hub.running() as dispatcher:
        await dispatcher.subscribe(subscription())
        first = await hub.submit("first")
        await until(lambda: channel.calls)
        await hub.submit("second", msg_type="Update", references=[first])
        await until(lambda: dispatcher.stats()["waiting"] == 2)
        gate.open.set()
        await until(lambda: channel.arrived)
        await until_async(lambda: _has(hub, 2))
        assert (await hub.states())["first"] is DeliveryState.SUPERSEDED
    assert channel.sent == ["first", "second"]


async def test_an_alert_that_arrives_after_what_replaces_it_is_not_sent(make_hub: MakeHub) -> None:
    channel = FakeChannel()
    hub = make_hub(channel)
    async with hub.running() as dispatcher:
        await dispatcher.subscribe(subscription())
        late = make_alert(identifier="late")
        await hub.submit("update", msg_type="Update", references=[late])
        await until(lambda: channel.arrived)
        await hub.append(late)
        await hub.submit("other")
        await until(lambda: len(channel.taken) == 2)
    assert channel.arrived == ["update", "other"]


async def hang_on_drills(delivery: Delivery) -> Outcome:
    if delivery.entry.alert.status is Status.EXERCISE:
        await asyncio.Event().wait()
    return Outcome()


async def test_a_real_alert_does_not_wait_for_a_drill_that_the_same_target_has_under_way(
    make_hub: MakeHub,
) -> None:
    channel = FakeChannel(hang_on_drills)
    hub = make_hub(channel)
    async with hub.running() as dispatcher:
        await dispatcher.subscribe(subscription(filter=ALL))
        await hub.submit("drill", status="Exercise")
        await until(lambda: channel.calls)
        await hub.submit("real")
        async with asyncio.timeout(channel.limits.timeout / 2):
            await until(lambda: channel.arrived == ["real"])
        channel.reply = take
        await until(lambda: channel.sent[-1] == "drill", "the drill was forgotten")
        assert len({c.key for c in channel.calls if c.entry.alert.identifier == "drill"}) == 1


async def test_a_drill_that_is_called_off_before_it_has_begun_blocks_its_target_no_longer(
    make_hub: MakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    fly = Dispatcher._fly

    def called_off_at_once(self: Dispatcher, outlet: Outlet, flight: Flight, attempt: int) -> Any:
        if not channel.calls:
            monkeypatch.undo()
            asyncio.get_running_loop().call_soon(flight.call_off)
        return fly(self, outlet, flight, attempt)

    channel = FakeChannel()
    hub = make_hub(channel)
    monkeypatch.setattr(Dispatcher, "_fly", called_off_at_once)
    async with hub.running() as dispatcher:
        await dispatcher.subscribe(subscription(filter=ALL))
        await hub.submit("drill", status="Exercise")
        await until(lambda: channel.arrived == ["drill"])


async def test_a_real_alert_does_not_wait_for_the_room_that_other_targets_drills_take(
    make_hub: MakeHub,
) -> None:
    channel = OneAtATime(hang_on_drills)
    hub = make_hub(channel)
    async with hub.running() as dispatcher:
        drills_only = Filter(statuses=frozenset({Status.EXERCISE}))
        await dispatcher.subscribe(subscription("school", filter=drills_only))
        await hub.submit("drill", status="Exercise")
        await until(lambda: channel.calls)
        for n in range(3):
            await dispatcher.subscribe(subscription(f"s{n}"))
        await hub.submit("real")
        async with asyncio.timeout(channel.limits.timeout / 2):
            await until(lambda: channel.arrived.count("real") == 3)


async def test_planning_drills_holds_up_no_real_alert_and_their_place_in_the_log_is_kept(
    make_hub: MakeHub,
) -> None:
    channel = FakeChannel()
    hub = make_hub(channel, settings=replace(QUICK, advance_s=0.01))
    ready = asyncio.Event()

    class SlowDrills(Proxy):
        async def lineage(self, entry: Entry) -> list[Entry]:
            if entry.alert.status is Status.EXERCISE:
                await ready.wait()
            return await self.store.lineage(entry)

    hub.around = SlowDrills
    async with hub.running() as dispatcher:
        await dispatcher.subscribe(subscription(filter=ALL))
        before = hub.store.newest
        await hub.submit("drill", status="Exercise")
        await hub.submit("real")
        await until(lambda: channel.arrived == ["real"])
        await until_async(hub.rows)
        gate = channel.reply = Gate()
        await hub.submit("under-way")
        await until(lambda: channel.sent == ["real", "under-way"])
        await asyncio.sleep(0.1)
        assert (await _cursors(hub))["s"] == before, "a crash now would lose the drill"
        gate.open.set()
        ready.set()
        await until(lambda: channel.arrived == ["real", "under-way", "drill"])


# What fails


async def test_a_failure_that_passes_is_retried_on_schedule_with_the_same_key(make_hub: MakeHub) -> None:
    clock = FakeClock(datetime.now(UTC))
    start = clock.monotonic()
    times: list[float] = []

    async def reply(delivery: Delivery) -> Outcome:
        times.append(clock.monotonic() - start)
        raise TemporaryFailure("HTTP 503")

    channel = FakeChannel(reply)
    hub = make_hub(channel, clock)
    async with hub.running() as dispatcher:
        await dispatcher.subscribe(subscription())
        await hub.submit("one")
        for number, second in enumerate([0, 1, 2, 5, 10, 20, 30, 60], start=1):
            await advance_to(clock, start + second)
            await until(lambda: len(times) == number, f"attempt {number} did not come at {second} s")  # noqa: B023
            await until_async(lambda: _tried(hub, number))  # noqa: B023
        channel.reply = take
        await advance_to(clock, start + 121)
        await until(lambda: channel.arrived)
    assert times == [0, 1, 2, 5, 10, 20, 30, 60]
    assert len({call.key for call in channel.calls}) == 1
    assert [call.attempt for call in channel.calls] == list(range(1, 10))


async def advance_to(clock: FakeClock, when: float) -> None:
    if when > clock.monotonic():
        await clock.advance(when - clock.monotonic())


async def _tried(hub: Hub, number: int) -> bool:
    rows = await hub.rows()
    return bool(rows) and rows["one"].attempts == number and not hub.dispatcher._journal.unrecorded


async def test_retry_after_is_honoured_and_bounded(make_hub: MakeHub) -> None:
    clock = FakeClock(datetime.now(UTC))
    channel = FakeChannel(failing(TemporaryFailure("HTTP 429", retry_after=1e9)))
    hub = make_hub(channel, clock)
    async with hub.running() as dispatcher:
        await dispatcher.subscribe(subscription())
        await hub.submit("one")
        await until_async(hub.rows)
        channel.reply = take
        await clock.advance(299)
        assert channel.arrived == []
        await clock.advance(1)
        await until(lambda: channel.arrived)


async def test_a_lasting_failure_goes_to_the_dead_letters_and_holds_up_nobody(make_hub: MakeHub) -> None:
    async def reply(delivery: Delivery) -> Outcome:
        if delivery.entry.alert.identifier == "bad":
            raise PermanentFailure("HTTP 400")
        return Outcome()

    channel = FakeChannel(reply)
    hub = make_hub(channel)
    async with hub.running() as dispatcher:
        await dispatcher.subscribe(subscription())
        await hub.submit("bad")
        await hub.submit("good")
        await until_async(lambda: _has(hub, 2))
        assert await hub.states() == {"bad": DeliveryState.DEAD, "good": DeliveryState.DELIVERED}
    assert channel.sent.count("bad") == 1


async def test_a_target_that_is_gone_loses_its_subscription_and_keeps_its_history(make_hub: MakeHub) -> None:
    channel = FakeChannel(failing(Gone("HTTP 410")))
    hub = make_hub(channel)
    async with hub.running() as dispatcher:
        await dispatcher.subscribe(subscription())
        await hub.submit("one")
        await hub.submit("two")
        await until_async(lambda: _no_lanes(hub))
        assert await dispatcher.subscriptions() == []
        assert (await hub.rows())["one" if channel.sent == ["one"] else "two"].state is DeliveryState.DROPPED
    assert len(channel.calls) == 1


@pytest.mark.parametrize("elsewhere", [False, True])
async def test_who_is_gone_and_subscribes_again_before_that_is_written_stays_subscribed(
    make_hub: MakeHub, elsewhere: bool
) -> None:
    channel = FakeChannel(failing(Gone("HTTP 410")))
    hub = make_hub(channel)
    writing, door = asyncio.Event(), asyncio.Event()

    class Slow(Proxy):
        async def record(self, rows: Any, cursors: Any, fences: Any = ()) -> None:
            writing.set()
            await door.wait()
            await self.store.record(rows, cursors, fences)

    hub.around = Slow
    async with hub.running() as dispatcher:
        await dispatcher.subscribe(subscription())
        await hub.submit("one")
        await until(writing.is_set)
        assert await dispatcher.subscriptions() == []
        channel.reply = take
        if elsewhere:
            await hub.store.save_subscription(subscription(), hub.store.newest)
        else:
            await dispatcher.subscribe(subscription())
        door.set()
        await until_async(hub.rows)
        await until(lambda: not dispatcher.stats()["unrecorded"])
    async with hub.running():
        await hub.submit("two")
        await until(lambda: channel.arrived == ["two"])


async def _no_lanes(hub: Hub) -> bool:
    return not await hub.store.lanes()


@pytest.mark.parametrize(
    "error",
    [
        ValueError("a defect of the adapter"),
        TimeoutError(),
        asyncio.CancelledError(),
        OSError("no route"),
        Unavailable("busy"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_whatever_an_adapter_raises_costs_a_retry_and_never_the_alert(
    make_hub: MakeHub, error: Exception
) -> None:
    clock = FakeClock(datetime.now(UTC))
    channel = FakeChannel(first_failing(error))
    hub = make_hub(channel, clock)
    async with hub.running() as dispatcher:
        await dispatcher.subscribe(subscription())
        await hub.submit("one")
        await until_async(hub.rows)
        assert (await hub.rows())["one"].state is DeliveryState.RETRY
        await clock.advance(1)
        await until(lambda: channel.arrived == ["one"])


async def test_a_target_that_says_nothing_is_given_up_after_the_channels_time(make_hub: MakeHub) -> None:
    channel = Impatient(Gate())
    hub = make_hub(channel)
    async with hub.running() as dispatcher:
        await dispatcher.subscribe(subscription())
        await hub.submit("one")
        await until_async(hub.rows)
        row = (await hub.rows())["one"]
        assert (row.state, row.detail) == (DeliveryState.RETRY, "no answer within 0.05 s")


async def test_dead_targets_cost_the_others_nothing(make_hub: MakeHub) -> None:
    """Forty targets that hang until they time out, eight places in all, and one healthy target."""
    hanging = Gate()

    async def reply(delivery: Delivery) -> Outcome:
        if delivery.subscription.id != "healthy":
            await hanging(delivery)
        return Outcome()

    channel = FakeChannel(failing(TemporaryFailure("down")))
    hub = make_hub(channel)
    async with hub.running() as dispatcher:
        for n in range(40):
            await dispatcher.subscribe(subscription(f"dead{n}"))
        await hub.submit("first")
        await until(lambda: dispatcher.stats()["failing_lanes"] == 40)
        await dispatcher.subscribe(subscription("healthy"))
        channel.reply = reply
        async with asyncio.timeout(channel.limits.timeout / 2):
            for n in range(10):
                await hub.submit(f"{n}")
                await until(lambda: len(arrived_at(channel, "healthy")) == n + 1)  # noqa: B023
        assert dispatcher.stats()["in_flight"] == 2, (
            "a quarter of the room goes on looking whether they are back"
        )
        hanging.open.set()


async def test_an_expired_alert_is_settled_and_never_sent(make_hub: MakeHub) -> None:
    clock = FakeClock(datetime.now(UTC))
    channel = FakeChannel(failing(TemporaryFailure("down")))
    hub = make_hub(channel, clock)
    async with hub.running() as dispatcher:
        await dispatcher.subscribe(subscription())
        await hub.submit("short", expires=clock.now() + timedelta(minutes=3))
        await hub.submit("over", expires=clock.now() - timedelta(minutes=3))
        await until(lambda: channel.calls)
        await until_async(lambda: _has(hub, 2))
        for _ in range(5):
            await clock.advance(60)
        channel.reply = take
        await hub.submit("long")
        await until(lambda: channel.arrived)
        await until_async(lambda: _has(hub, 3))
        assert await hub.states() == {
            "short": DeliveryState.EXPIRED,
            "over": DeliveryState.EXPIRED,
            "long": DeliveryState.DELIVERED,
        }
    assert channel.arrived == ["long"]
    assert "over" not in channel.sent


async def test_an_alert_without_an_expiry_is_given_up_as_dead_after_its_greatest_age(
    make_hub: MakeHub,
) -> None:
    clock = FakeClock(datetime.now(UTC))
    channel = FakeChannel(failing(TemporaryFailure("down")))
    hub = make_hub(channel, clock, replace(QUICK, max_age=timedelta(minutes=5)))
    async with hub.running() as dispatcher:
        await dispatcher.subscribe(subscription())
        await hub.submit("endless", expires=None)
        for _ in range(8):
            await until_async(hub.rows)
            await clock.advance(60)
        await until_async(lambda: _is(hub, "endless", DeliveryState.DEAD))


async def _is(hub: Hub, name: str, state: DeliveryState) -> bool:
    return (await hub.states()).get(name) is state


async def test_deliveries_go_on_while_the_store_cannot_write_and_are_recorded_later(
    make_hub: MakeHub,
) -> None:
    channel = FakeChannel()
    hub = make_hub(channel)
    full = True

    class Full(Proxy):
        async def record(self, rows: Any, cursors: Any, fences: Any = ()) -> None:
            if full:
                raise Unavailable("the disk is full")
            await self.store.record(rows, cursors, fences)

    hub.around = Full
    async with hub.running() as dispatcher:
        await dispatcher.subscribe(subscription())
        for n in range(3):
            await hub.submit(f"{n}")
        await until(lambda: len(channel.taken) == 3)
        assert await hub.rows() == {}
        full = False
        await until_async(lambda: _has(hub, 3))
        assert len(channel.taken) == 3


async def test_a_clock_that_is_set_back_does_not_make_a_result_older_than_what_it_replaces(
    make_hub: MakeHub,
) -> None:
    clock = FakeClock(datetime.now(UTC))
    channel = FakeChannel(first_failing(TemporaryFailure("down")))
    hub = make_hub(channel, clock)
    async with hub.running() as dispatcher:
        await dispatcher.subscribe(subscription())
        await hub.submit("one")
        await until_async(hub.rows)
        clock.step(clock.now() - timedelta(hours=1))
        await clock.advance(1)
        await until_async(lambda: _is(hub, "one", DeliveryState.DELIVERED))


async def test_a_burst_larger_than_the_queue_is_read_from_the_log(make_hub: MakeHub) -> None:
    channel = FakeChannel()
    hub = make_hub(channel, settings=replace(QUICK, arrivals=3, page=7, cache=2))
    async with hub.running() as dispatcher:
        await dispatcher.subscribe(subscription())
        async with asyncio.TaskGroup() as group:
            for n in range(100):
                group.create_task(hub.submit(f"{n}"))
        await until(lambda: len(channel.taken) >= 100)
        await asyncio.sleep(0.05)
    assert sorted(map(int, channel.arrived)) == list(range(100))


async def test_a_result_replaced_before_it_was_written_does_not_hold_its_lane_for_ever(
    make_hub: MakeHub,
) -> None:
    channel = FakeChannel(failing(TemporaryFailure("down")))
    hub = make_hub(channel)
    writing, go_on = asyncio.Event(), asyncio.Event()

    class Slow(Proxy):
        async def record(self, rows: Any, cursors: Any, fences: Any = ()) -> None:
            if rows and not go_on.is_set():
                writing.set()
                await go_on.wait()
            await self.store.record(rows, cursors, fences)

    hub.around = Slow
    async with hub.running() as dispatcher:
        await dispatcher.subscribe(subscription("other", filter=Filter(areas=frozenset({"132209"}))))
        await dispatcher.subscribe(subscription(filter=Filter(areas=frozenset({"432032"}))))
        await hub.submit("elsewhere", codes=["132209"])
        await writing.wait()
        first = await hub.submit("first", codes=["432032"])
        await until(lambda: "first" in channel.sent)
        channel.reply = take
        await hub.submit("update", msg_type="Update", references=[first], codes=["432032"])
        await until(lambda: dispatcher.stats()["superseded"] == 1)
        go_on.set()
        await until(lambda: "update" in channel.arrived)


async def test_a_row_that_the_store_refuses_keeps_no_other_from_being_written(make_hub: MakeHub) -> None:
    channel = FakeChannel()
    hub = make_hub(channel)
    refused = ""

    class Refuses(Proxy):
        async def record(self, rows: Any, cursors: Any, fences: Any = ()) -> None:
            if any(row.key == refused for row in rows):
                raise UnknownPosition("a position of another epoch")
            await self.store.record(rows, cursors, fences)

    hub.around = Refuses
    async with hub.running() as dispatcher:
        for n in range(5):
            await dispatcher.subscribe(subscription(f"s{n}"))
        alert = make_alert(identifier="one")
        refused = delivery_key("s2", alert.id)
        await hub.append(alert)
        await until(lambda: len(channel.taken) == 5)
        await until(lambda: not dispatcher.stats()["unrecorded"])
        assert [len(await hub.rows(f"s{n}")) for n in range(5)] == [1, 1, 0, 1, 1]


async def test_a_document_that_cannot_be_read_costs_neither_the_start_nor_its_successors(
    make_hub: MakeHub,
) -> None:
    channel = FakeChannel(failing(TemporaryFailure("down")))
    hub = make_hub(channel)
    async with hub.running() as dispatcher:
        await dispatcher.subscribe(subscription())
        damaged = await hub.submit("damaged")
        await until_async(hub.rows)
    channel.reply = take

    class Damaged(Proxy):
        async def entry(self, position: str) -> Entry | None:
            if position == damaged.position:
                raise StoreError("damaged on disk")
            return await self.store.entry(position)

        async def lineage(self, entry: Entry) -> list[Entry]:
            if entry.alert.references:
                raise StoreError("damaged on disk")
            return await self.store.lineage(entry)

    hub.around = Damaged
    async with hub.running():
        await hub.submit("update", msg_type="Update", references=[damaged])
        await hub.submit("other")
        await until(lambda: sorted(channel.arrived) == ["other", "update"])


async def test_planning_that_fails_midway_is_begun_again_and_tells_nobody_twice(make_hub: MakeHub) -> None:
    accesses = 0

    class Flaky(FakeChannel):
        @property
        def drill_safe(self) -> bool:  # type: ignore[override]
            nonlocal accesses
            accesses += 1
            if accesses == 2:
                raise ZeroDivisionError
            return True

    channel = Flaky()
    hub = make_hub(channel)
    with structlog.testing.capture_logs():
        async with hub.running() as dispatcher:
            await dispatcher.subscribe(subscription("a", filter=ALL))
            await dispatcher.subscribe(subscription("b", filter=ALL))
            await hub.submit("drill", status="Exercise")
            await until(lambda: len(channel.taken) == 2)
            await asyncio.sleep(0.05)
    assert sorted(c.subscription.id for c in channel.calls) == ["a", "b"]


# Across a restart


class NeverRecords(Proxy):
    """A hub that dies between the peer's acceptance and the record: the write never comes back."""

    async def record(self, rows: Any, cursors: Any, fences: Any = ()) -> None:
        await asyncio.Event().wait()


async def test_a_crash_between_sending_and_recording_repeats_one_delivery_with_the_same_key(
    make_hub: MakeHub,
) -> None:
    channel = FakeChannel()
    hub = make_hub(channel)
    hub.around = NeverRecords
    async with hub.running() as dispatcher:
        await dispatcher.subscribe(subscription())
        for n in range(3):
            await hub.submit(f"{n}")
        await until(lambda: channel.taken)
        await asyncio.sleep(0.05)
        assert len(channel.calls) == 1, "the next is sent only once the last is durable"
    hub.around = lambda store: store
    async with hub.running():
        await until(lambda: len(channel.taken) == 4)
        await until_async(lambda: _has(hub, 3))
    first, again = [c for c in channel.calls if c.entry.alert.identifier == channel.sent[0]]
    assert first.key == again.key
    assert sorted(set(channel.arrived)) == ["0", "1", "2"]


async def test_after_a_restart_nothing_that_was_delivered_is_sent_again(make_hub: MakeHub) -> None:
    """Also not while something older waits for another try, which has a row of its own and holds no cursor back."""

    async def only_old_fails(delivery: Delivery) -> Outcome:
        if delivery.entry.alert.identifier == "old":
            raise TemporaryFailure("cannot digest this one")
        return Outcome()

    clock = FakeClock(datetime.now(UTC))
    channel = FakeChannel(only_old_fails)
    hub = make_hub(channel, clock)
    async with hub.running() as dispatcher:
        await dispatcher.subscribe(subscription())
        await hub.submit("old")
        await until(lambda: channel.calls)
        for n in range(4):
            last = await hub.submit(f"{n}")
        await until_async(lambda: _has(hub, 5))
        await until_async(lambda: _reached(hub, "s", last.position))
    channel.calls.clear()
    channel.taken.clear()
    channel.reply = take
    async with hub.running() as dispatcher:
        await until(lambda: dispatcher.stats()["caught_up"])
        await clock.advance(60)  # the old one may have been tried once or twice before
        await until(lambda: channel.arrived == ["old"])
        await asyncio.sleep(0.05)
    assert channel.sent == ["old"]


@pytest.mark.parametrize("journal_lanes", [2_000, 0], ids=["few-targets", "very-many-targets"])
async def test_after_a_restart_what_was_delivered_out_of_turn_is_not_sent_again(
    make_hub: MakeHub, journal_lanes: int
) -> None:
    gate, last = Gate(), Gate()

    async def reply(delivery: Delivery) -> Outcome:
        await (last if delivery.entry.alert.identifier == "minor" else gate)(delivery)
        return Outcome()

    channel = FakeChannel(reply)
    hub = make_hub(channel, settings=replace(QUICK, journal_lanes=journal_lanes, grace_s=0.1))
    async with hub.running() as dispatcher:
        await dispatcher.subscribe(subscription())
        await hub.submit("first")
        await until(lambda: channel.calls)
        await hub.submit("minor", severity="Minor")
        for n in range(3):
            await hub.submit(f"grave-{n}", severity="Extreme")
        await until(lambda: dispatcher.stats()["waiting"] == 5)
        gate.open.set()
        await until(lambda: channel.sent[-1] == "minor")
    assert channel.arrived == ["first", "grave-2", "grave-1", "grave-0"]
    channel.calls.clear()
    channel.reply = take
    async with hub.running():
        # "first" came before "minor", so the cursor tells of it; the others have rows only where there are few targets.
        few = journal_lanes > 0
        assert set(await hub.rows()) == ({"first", "grave-0", "grave-1", "grave-2"} if few else set())
        assert (hub.dispatcher._told.notes > 0) is not few
        await until(lambda: channel.arrived[-1] == "minor")
        await asyncio.sleep(0.05)
    assert channel.sent == ["minor"]
    async with hub.running():
        assert hub.dispatcher._told.notes == 0, "once nothing waits, cursors tell it all"


async def test_a_restart_goes_on_with_the_attempts_where_it_left_off(make_hub: MakeHub) -> None:
    clock = FakeClock(datetime.now(UTC))
    channel = FakeChannel(failing(TemporaryFailure("down")))
    hub = make_hub(channel, clock)
    async with hub.running() as dispatcher:
        await dispatcher.subscribe(subscription())
        await hub.submit("one")
        for number, gap in enumerate((0, 1, 1), start=1):
            await clock.advance(gap)
            await until_async(lambda: _tried(hub, number))  # noqa: B023
    assert [c.attempt for c in channel.calls] == [1, 2, 3]
    async with hub.running():
        await clock.advance(2)
        await asyncio.sleep(0.02)
        assert len(channel.calls) == 3, "it is due after three seconds"
        await clock.advance(1)
        await until(lambda: len(channel.calls) == 4)
    assert channel.calls[-1].attempt == 4
    assert channel.calls[-1].key == channel.calls[0].key


async def test_what_was_accepted_while_the_hub_was_down_is_sent_and_what_expired_meanwhile_is_not(
    make_hub: MakeHub,
) -> None:
    channel = FakeChannel()
    hub = make_hub(channel)
    async with hub.running() as dispatcher:
        await dispatcher.subscribe(subscription())
    async with hub.open_store():
        await hub.submit("over", expires=datetime.now(UTC) - timedelta(seconds=1))
        first = await hub.submit("first")
        await hub.submit("update", msg_type="Update", references=[first])
        await hub.submit("other", severity="Minor")
    async with hub.running():
        await until(lambda: len(channel.taken) == 2)
        await until_async(lambda: _has(hub, 4))
        assert await hub.states() == {
            "over": DeliveryState.EXPIRED,
            "first": DeliveryState.SUPERSEDED,
            "update": DeliveryState.DELIVERED,
            "other": DeliveryState.DELIVERED,
        }
    assert channel.arrived == ["update", "other"]


async def test_lanes_that_are_behind_are_found_by_the_index_and_not_asked(make_hub: MakeHub) -> None:
    asked: list[Filter] = []

    def noted(filter: Filter, entry: Entry, lineage: Sequence[Entry]) -> bool:
        asked.append(filter)
        return wants(filter, entry, lineage)

    channel = FakeChannel()
    hub = make_hub(channel)
    hub.wants = noted
    async with hub.open_store():
        for n in range(120):
            code = "432032" if n % 60 == 0 else f"{n:06d}"
            one = subscription(f"s{n}", filter=Filter(areas=frozenset({code, f"{n:05d}"})))
            await hub.store.save_subscription(one, hub.store.newest)
        await hub.submit("missed", codes=["432032"])
    async with hub.running() as dispatcher:
        await hub.submit("new", codes=["432032"])
        await until(lambda: dispatcher.stats()["caught_up"] and len(channel.arrived) == 4)
    assert sorted(channel.arrived) == ["missed", "missed", "new", "new"]
    assert not asked


class Held(Proxy):
    """A store that lets nothing of some entries be planned before it is allowed: those whose identifiers begin so."""

    def __init__(self, store: SqliteStore, *names: str) -> None:
        super().__init__(store)
        self.names = names
        self.changed = asyncio.Event()

    def allow(self, name: str) -> None:
        self.names = tuple(other for other in self.names if other != name)
        self.changed.set()

    async def lineage(self, entry: Entry) -> list[Entry]:
        while entry.alert.identifier.startswith(self.names):
            await self.changed.wait()
            self.changed.clear()
        return await self.store.lineage(entry)


async def test_what_is_new_does_not_wait_until_what_was_missed_is_planned(make_hub: MakeHub) -> None:
    channel = FakeChannel()
    hub = make_hub(channel)
    async with hub.open_store():
        await hub.store.save_subscription(subscription(), hub.store.newest)
        missed = [await hub.submit(f"missed-{n}") for n in range(3)]
    held: list[Held] = []

    def hold(store: SqliteStore) -> Held:
        held.append(Held(store, "missed"))
        return held[-1]

    hub.around = hold
    async with hub.running() as dispatcher:
        new = await hub.submit("new")
        await until(lambda: channel.arrived == ["new"])
        await hub.submit("after-missed", msg_type="Update", references=[missed[0]])
        await hub.submit("after-both", msg_type="Update", references=[new, missed[1]])
        other = await hub.submit("other")
        await until(lambda: channel.arrived == ["new", "other"])
        await hub.submit("after-other", msg_type="Cancel", references=[other], infos=[])
        await until(lambda: channel.arrived == ["new", "other", "after-other"])
        assert not dispatcher.stats()["caught_up"]
        held[0].allow("missed")
        await until(lambda: len(channel.arrived) == 6)
        await until(lambda: dispatcher.stats()["waiting"] == 0)
    assert sorted(channel.sent[3:]) == ["after-both", "after-missed", "missed-2"]


async def test_what_was_missed_goes_out_as_it_is_planned_but_for_what_was_replaced(
    make_hub: MakeHub,
) -> None:
    channel = FakeChannel()
    hub = make_hub(channel)
    async with hub.open_store():
        await hub.store.save_subscription(subscription(), hub.store.newest)
        first = await hub.submit("first")
        await hub.submit("alone")
        await hub.submit("held")
        await hub.submit("second", msg_type="Update", references=[first])
    held: list[Held] = []

    def hold(store: SqliteStore) -> Held:
        held.append(Held(store, "held"))
        return held[-1]

    hub.around = hold
    async with hub.running() as dispatcher:
        await until(lambda: channel.arrived == ["alone"])
        await asyncio.sleep(0.05)
        assert channel.arrived == ["alone"]
        assert not dispatcher.stats()["caught_up"]
        held[0].allow("held")
        await until(lambda: len(channel.arrived) == 3)
        await until(lambda: dispatcher.stats()["waiting"] == 0)
    assert sorted(channel.sent) == ["alone", "held", "second"]


async def test_what_waits_for_another_try_does_not_overtake_what_it_replaced_and_is_not_planned_yet(
    make_hub: MakeHub,
) -> None:
    """A channel with very many targets keeps no row of what was replaced before it was sent."""
    channel = FakeChannel()
    hub = make_hub(channel)
    async with hub.open_store():
        await hub.store.save_subscription(subscription(), hub.store.newest)
        first = await hub.submit("first")
        second = await hub.submit("second", msg_type="Update", references=[first])
        key, now = delivery_key("s", second.alert.id), datetime.now(UTC)
        row = DeliveryRow(key, "s", second.position, DeliveryState.RETRY, 1, now, "down", now)
        await hub.store.record([row], {})
    held: list[Held] = []

    def hold(store: SqliteStore) -> Held:
        held.append(Held(store, "first"))
        return held[-1]

    hub.around = hold
    async with hub.running() as dispatcher:
        await hub.submit("new")
        await until(lambda: channel.arrived == ["new"])
        held[0].allow("first")
        await until(lambda: dispatcher.stats()["caught_up"] and dispatcher.stats()["waiting"] == 0)
    assert channel.sent == ["new", "second"]


async def test_a_hub_without_targets_reads_nothing_of_its_log_again(make_hub: MakeHub) -> None:
    class Watched(Proxy):
        async def read(self, after: str | None, limit: int) -> list[Entry]:
            asked.append(after)
            return await self.store.read(after, limit)

    asked: list[str | None] = []
    hub = make_hub(FakeChannel())
    hub.around = Watched
    async with hub.open_store():
        newest = (await hub.submit("old")).position
    async with hub.running() as dispatcher:
        await until(lambda: dispatcher.stats()["caught_up"] and len(asked) == 2)
    assert asked == [newest, newest], "real alerts and drills are followed from here on"


async def test_what_was_missed_of_real_alerts_does_not_wait_for_drills(make_hub: MakeHub) -> None:
    channel = FakeChannel()
    hub = make_hub(channel)
    async with hub.open_store():
        await hub.store.save_subscription(subscription(filter=ALL), hub.store.newest)
        await hub.submit("drill", status="Exercise")
        await hub.submit("real")
    held: list[Held] = []

    def hold(store: SqliteStore) -> Held:
        held.append(Held(store, "drill"))
        return held[-1]

    hub.around = hold
    async with hub.running():
        await until(lambda: channel.arrived == ["real"])
        held[0].allow("drill")
        await until(lambda: channel.arrived == ["real", "drill"])


@pytest.mark.parametrize("seed", [1, 2, pytest.param(3, marks=pytest.mark.slow)])
async def test_whatever_comes_while_lanes_catch_up_each_target_gets_all_of_it_once_and_in_order(
    make_hub: MakeHub, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    dice = Random(seed)
    monkeypatch.setattr("lalert.dispatch.planning.TURN", 2)
    ids = [f"s{n}" for n in range(5)]
    log: list[Entry] = []

    async def some_turns(most: int) -> None:
        for _ in range(dice.randrange(most)):
            await asyncio.sleep(0)

    async def reply(_: Delivery) -> Outcome:
        await some_turns(20)
        return Outcome()

    class Uneven(Proxy):
        async def lineage(self, entry: Entry) -> list[Entry]:
            await some_turns(30)
            return await self.store.lineage(entry)

    async def grow(number: int) -> None:
        for _ in range(number):
            status = dice.choice(["Actual", "Exercise"])
            same = [e for e in log if str(e.alert.status) == status]
            msg_type = dice.choice(["Alert", "Update", "Cancel"]) if same else "Alert"
            about = dice.sample(same, min(len(same), dice.choice([1, 1, 2]))) if msg_type != "Alert" else []
            log.append(
                await hub.submit(f"{len(log):02d}", status=status, msg_type=msg_type, references=about)
            )
            await some_turns(10)

    channel = FakeChannel(reply)
    hub = make_hub(channel, settings=replace(QUICK, grace_s=PATIENCE))
    hub.around = Uneven
    async with hub.open_store():
        for id in ids:
            await hub.store.save_subscription(subscription(id, filter=ALL), hub.store.newest)
        await grow(8)
    for _ in range(4):
        async with hub.running():
            await grow(6)
        async with hub.open_store():
            await grow(4)
    async with hub.running() as dispatcher:
        last = [await hub.submit("end"), await hub.submit("end-of-drill", status="Exercise")]
        await until(lambda: sum(call.entry in last for call in channel.taken) == 2 * len(ids))
        await until(lambda: dispatcher.stats()["waiting"] == 0 and dispatcher.stats()["caught_up"])

    order = {entry.alert.identifier: n for n, entry in enumerate(log)}
    names = {entry.alert.id: entry.alert.identifier for entry in log}
    replaced = {
        names[id]: entry.alert.identifier
        for entry in reversed(log)
        for id in {*entry.replaced, *(ref.id for ref in entry.alert.references)}
    }
    incidents = {entry.alert.identifier: (entry.incident, entry.alert.status) for entry in log}
    for id in ids:
        got = [call.entry.alert.identifier for call in channel.taken if call.subscription.id == id]
        got = [name for name in got if name in order]
        assert len(got) == len(set(got)), "nothing twice"
        outdated = {entry.alert.identifier for entry in log if entry.outdated}
        assert order.keys() - set(got) <= replaced.keys() | outdated, "only what was replaced is left out"
        for name, newer in replaced.items():
            assert name not in got or newer not in got or got.index(name) < got.index(newer)
        for incident in set(incidents.values()):
            chain = [order[name] for name in got if incidents[name] == incident]
            assert chain == sorted(chain)


async def test_a_revision_replaced_before_the_restart_is_not_sent_after_it(make_hub: MakeHub) -> None:
    """The Update was delivered out of turn; what it replaced has a row that waits for another try."""
    channel = FakeChannel(failing(TemporaryFailure("down")))
    hub = make_hub(channel)
    async with hub.running() as dispatcher:
        await dispatcher.subscribe(subscription())
        first = await hub.submit("first")
        await until_async(hub.rows)
    async with hub.open_store():
        update = await hub.submit("update", msg_type="Update", references=[first])
        row = DeliveryRow(
            delivery_key("s", update.alert.id),
            "s",
            update.position,
            DeliveryState.DELIVERED,
            1,
            None,
            "",
            datetime.now(UTC),
        )
        await hub.store.record([row], {})
    channel.calls.clear()
    channel.reply = take
    async with hub.running():
        await hub.submit("next")
        await until(lambda: channel.arrived)
        await until_async(lambda: _is(hub, "first", DeliveryState.SUPERSEDED))
    assert channel.arrived == ["next"]


async def test_nothing_is_sent_to_a_target_that_was_dropped_while_it_waited_for_room(
    make_hub: MakeHub,
) -> None:
    gate = Gate()
    channel = OneAtATime(gate)
    hub = make_hub(channel)
    async with hub.running() as dispatcher:
        for name in "ab":
            await dispatcher.subscribe(subscription(name))
        await hub.submit("one")
        await until(lambda: channel.calls)
        [busy] = {call.subscription.id for call in channel.calls}
        [waits] = {"a", "b"} - {busy}
        await until(lambda: dispatcher.stats()["waiting"] == 2)
        await dispatcher.unsubscribe(waits)
        gate.open.set()
        await hub.submit("two")
        await until(lambda: arrived_at(channel, busy) == ["one", "two"])
    assert arrived_at(channel, waits) == []


async def test_the_room_of_a_target_that_was_dropped_in_flight_is_given_to_the_next(
    make_hub: MakeHub,
) -> None:
    first: list[str] = []

    async def hang_first(delivery: Delivery) -> Outcome:
        first.append(delivery.subscription.id)
        if len(first) == 1:
            await asyncio.Event().wait()
        return Outcome()

    channel = OneAtATime(hang_first)
    hub = make_hub(channel)
    async with hub.running() as dispatcher:
        for name in "ab":
            await dispatcher.subscribe(subscription(name))
        await hub.submit("one")
        await until(lambda: first and dispatcher.stats()["waiting"] == 2)
        await dispatcher.unsubscribe(first[0])
        await until(lambda: len(first) == 2)
    assert channel.arrived == ["one"]


async def test_what_is_under_way_at_a_stop_is_finished(make_hub: MakeHub) -> None:
    gate = Gate()
    channel = FakeChannel(gate)
    hub = make_hub(channel)
    async with hub.running() as dispatcher:
        await dispatcher.subscribe(subscription())
        await hub.submit("one")
        await until(lambda: channel.calls)
        asyncio.get_running_loop().call_later(0.1, gate.open.set)
    assert channel.arrived == ["one"]
    async with hub.open_store():
        assert await hub.states() == {"one": DeliveryState.DELIVERED}


async def test_what_does_not_end_is_broken_off_and_sent_after_the_restart(make_hub: MakeHub) -> None:
    channel = FakeChannel(Gate())
    hub = make_hub(channel, settings=replace(QUICK, grace_s=0.05))
    async with hub.running() as dispatcher:
        await dispatcher.subscribe(subscription())
        await hub.submit("one")
        await until(lambda: channel.calls)
    assert channel.arrived == []
    channel.reply = take
    async with hub.running():
        await until(lambda: channel.arrived)
    assert len({c.key for c in channel.calls}) == 1


async def test_cursors_of_quiet_targets_follow_the_log(make_hub: MakeHub) -> None:
    clock = FakeClock(datetime.now(UTC))
    channel = FakeChannel()
    hub = make_hub(channel, clock)
    async with hub.running() as dispatcher:
        await dispatcher.subscribe(subscription("quiet", filter=Filter(areas=frozenset({"132209"}))))
        await dispatcher.subscribe(subscription("busy"))
        entry = await hub.submit("one", codes=["432032"])
        await until(lambda: channel.arrived)
        assert (await _cursors(hub))["quiet"] != entry.position
        await clock.advance(600)
        await until_async(lambda: _reached(hub, "quiet", entry.position))
        last = await hub.submit("two", codes=["432032"])
        await until(lambda: len(channel.arrived) == 2)
    async with hub.open_store():
        assert await _cursors(hub) == {"quiet": last.position, "busy": last.position}


async def test_what_waits_for_another_try_has_its_row_and_holds_no_cursor_back(make_hub: MakeHub) -> None:
    channel = FakeChannel(failing(TemporaryFailure("HTTP 429", retry_after=300)))
    hub = make_hub(channel, settings=replace(QUICK, advance_s=0.02))
    async with hub.running() as dispatcher:
        await dispatcher.subscribe(subscription(filter=Filter(areas=frozenset({"432032"}))))
        await hub.submit("waits", codes=["432032"])
        await until_async(hub.rows)
        last = await hub.submit("elsewhere", codes=["132209"])
        await until_async(lambda: _reached(hub, "s", last.position))


async def _cursors(hub: Hub) -> dict[str, str]:
    return {lane.subscription.id: lane.cursor for lane in await hub.store.lanes()}


async def _reached(hub: Hub, subscription: str, position: str) -> bool:
    return (await _cursors(hub))[subscription] == position


async def test_a_channel_with_very_many_targets_keeps_rows_only_where_the_cursor_cannot_tell(
    make_hub: MakeHub,
) -> None:
    clock = FakeClock(datetime.now(UTC))
    channel = FakeChannel()
    hub = make_hub(channel, clock, replace(QUICK, journal_lanes=0))
    async with hub.running() as dispatcher:
        await dispatcher.subscribe(subscription())
        await hub.submit("in-turn")
        await until(lambda: channel.arrived)
        channel.reply = first_failing(TemporaryFailure("down"))
        await hub.submit("tried-again")
        await until_async(hub.rows)
        await clock.advance(1)
        await until(lambda: channel.arrived == ["in-turn", "tried-again"])
        await until_async(lambda: _is(hub, "tried-again", DeliveryState.DELIVERED))
        assert set(await hub.states()) == {"tried-again"}
        assert dispatcher.stats()["delivered"] == 2
    channel.reply = take
    async with hub.running():
        await hub.submit("next")
        await until(lambda: len(channel.taken) == 3)
    assert channel.arrived == ["in-turn", "tried-again", "next"]


async def test_notes_of_who_was_told_are_kept_while_a_cursor_is_behind_them(make_hub: MakeHub) -> None:
    """What is planned to its end while cursors are being written is beyond them."""
    door, pace, writing, written = (asyncio.Event() for _ in range(4))

    async def reply(delivery: Delivery) -> Outcome:
        await door.wait()
        return Outcome()

    class Slow(Proxy):
        async def record(self, rows: Any, cursors: Any, fences: Any = ()) -> None:
            if isinstance(rows, tuple):  # cursors that follow the log
                writing.set()
                await written.wait()
            await self.store.record(rows, cursors, fences)

    channel = FakeChannel(reply)
    hub = make_hub(channel, settings=replace(QUICK, journal_lanes=0))
    hub.around = Slow
    async with hub.running() as dispatcher:
        rest, told = dispatcher._pace.rest, dispatcher._told

        async def held(patience: int = 0) -> None:
            await pace.wait()
            await rest(patience)

        for n in range(3 * TURN):
            await dispatcher.subscribe(subscription(f"s{n}", filter=Filter(areas=frozenset({"432032"}))))
        await hub.submit("elsewhere", codes=["131016"])
        await until(lambda: dispatcher._real.examined == dispatcher._newest())
        dispatcher._pace.rest = held  # type: ignore[method-assign]
        door.set()
        entry = await hub.submit("one", codes=["432032"])
        await until(lambda: channel.taken and told.notes and not dispatcher.stats()["unrecorded"])
        await until(lambda: not dispatcher.stats()["waiting"])
        assert dispatcher._real.busy
        tidy = asyncio.create_task(dispatcher._tidy())
        await until(writing.is_set)
        door.clear()
        pace.set()
        await until(lambda: not dispatcher._real.busy)
        door.set()
        await until(lambda: len(channel.taken) == 3 * TURN and not dispatcher.stats()["unrecorded"])
        written.set()
        await tidy
        noted = Told(hub.store)
        await noted.load()
        order = hub.store.order
        for lane in await hub.store.lanes():
            reached = order(lane.cursor) >= order(entry.position)
            assert reached or noted.knows(lane.subscription.id, entry.alert.id)
        assert noted.notes
        await dispatcher._tidy()
        await dispatcher._tidy()
        assert not told.notes


async def test_what_was_tried_has_its_row_settled_however_many_targets_a_channel_has(
    make_hub: MakeHub,
) -> None:
    """Or it would be tried again after every restart for ever."""
    clock = FakeClock(datetime.now(UTC))
    channel = FakeChannel(failing(TemporaryFailure("down")))
    hub = make_hub(channel, clock, replace(QUICK, journal_lanes=0))
    async with hub.running() as dispatcher:
        await dispatcher.subscribe(subscription())
        await hub.submit("short", expires=clock.now() + timedelta(seconds=90))
        await until_async(hub.rows)
        for _ in range(4):
            await clock.advance(60)
        await until_async(lambda: _is(hub, "short", DeliveryState.EXPIRED))
        first = await hub.submit("first")
        await until_async(lambda: _is(hub, "first", DeliveryState.RETRY))
        await hub.submit("update", msg_type="Update", references=[first])
        await until_async(lambda: _is(hub, "first", DeliveryState.SUPERSEDED))
        assert (await hub.rows())["first"].attempts >= 1


async def test_a_lane_whose_cursor_the_log_does_not_know_gets_what_it_is_still_owed(
    make_hub: MakeHub,
) -> None:
    """As after a restored backup: nothing that has a row is sent twice, nothing unsettled is lost, a Cancel least of all."""
    channel = FakeChannel()
    hub = make_hub(channel)
    async with hub.running() as dispatcher:
        await dispatcher.subscribe(subscription())
        first = await hub.submit("delivered")
        await hub.submit("in-force")
        await until_async(lambda: _has(hub, 2))
    async with hub.open_store():
        await hub.submit("cancel", msg_type="Cancel", references=[first], infos=[])
        await hub.submit("owed")
        await hub.submit("over", expires=datetime.now(UTC) - timedelta(seconds=1))

    class OtherEpoch(Proxy):
        async def lanes(self, shares: Any = None) -> list[Lane]:
            return [replace(lane, cursor="lost-7") for lane in await self.store.lanes(shares)]

        def order(self, position: str) -> tuple[int, ...]:
            if position.startswith("lost"):
                raise UnknownPosition("another epoch")
            return self.store.order(position)

    hub.around = OtherEpoch
    channel.calls.clear()
    channel.taken.clear()
    async with hub.running():
        await until(lambda: len(channel.taken) == 2)
        await hub.submit("new")
        await until(lambda: len(channel.taken) == 3)
        await until_async(lambda: _has(hub, 5))
    assert sorted(channel.arrived) == ["cancel", "new", "owed"]


async def test_when_the_log_loses_the_place_at_run_time_everything_owed_is_planned_again(
    make_hub: MakeHub,
) -> None:
    channel = FakeChannel(failing(TemporaryFailure("down")))
    hub = make_hub(channel, settings=replace(QUICK, arrivals=1))
    lost = False

    class Trimmed(Proxy):
        async def read(self, after: str | None, limit: int) -> list[Entry]:
            nonlocal lost
            if lost and after is not None:
                lost = False
                raise UnknownPosition("trimmed")
            return await self.store.read(after, limit)

    hub.around = Trimmed
    async with hub.running() as dispatcher:
        await dispatcher.subscribe(subscription())
        await hub.submit("before")
        await until(lambda: channel.calls)
        lost = True
        async with asyncio.TaskGroup() as group:
            for n in range(5):
                group.create_task(hub.submit(f"{n}"))
        channel.reply = take
        await until(lambda: len(set(channel.arrived)) == 6)
    assert not lost


async def test_subscriptions_of_a_channel_that_is_not_configured_rest_and_go_on_later(
    make_hub: MakeHub,
) -> None:
    channel = FakeChannel()
    hub = make_hub(channel)
    async with hub.running() as dispatcher:
        await dispatcher.subscribe(subscription())
    hub.channels = {}
    async with hub.running() as dispatcher:
        assert [s.id for s in await dispatcher.subscriptions()] == ["s"]
        await hub.submit("meanwhile")
        with pytest.raises(BadRequest):
            await dispatcher.subscribe(subscription("t"))
    hub.channels = {"fake": channel}
    async with hub.running():
        await until(lambda: channel.arrived == ["meanwhile"])


# What people ask for


async def test_a_dead_letter_is_redelivered_by_hand_with_the_same_key(make_hub: MakeHub) -> None:
    channel = FakeChannel(failing(PermanentFailure("HTTP 400")))
    hub = make_hub(channel)
    async with hub.running() as dispatcher:
        await dispatcher.subscribe(subscription())
        await hub.submit("one")
        await until_async(lambda: _is(hub, "one", DeliveryState.DEAD))
        key = (await hub.rows())["one"].key
        channel.reply = take
        await dispatcher.redeliver(key)
        await until(lambda: channel.arrived)
        await until_async(lambda: _is(hub, "one", DeliveryState.DELIVERED))
        assert [(c.key, c.attempt) for c in channel.calls] == [(key, 1), (key, 2)]


async def test_a_redelivery_asked_for_is_durable(make_hub: MakeHub) -> None:
    channel = FakeChannel(failing(PermanentFailure("HTTP 400")))
    hub = make_hub(channel)
    async with hub.running() as dispatcher:
        await dispatcher.subscribe(subscription())
        await hub.submit("one")
        await until_async(lambda: _is(hub, "one", DeliveryState.DEAD))
        channel.reply = Gate()
        await dispatcher.redeliver((await hub.rows())["one"].key)
        await until(lambda: len(channel.calls) == 2)
    channel.reply = take
    async with hub.running():
        await until(lambda: channel.arrived == ["one"])


async def test_what_expired_is_sent_again_only_because_a_person_asks(make_hub: MakeHub) -> None:
    channel = FakeChannel()
    hub = make_hub(channel)
    async with hub.running() as dispatcher:
        await dispatcher.subscribe(subscription())
        await hub.submit("over", expires=datetime.now(UTC) - timedelta(seconds=1))
        await until_async(lambda: _is(hub, "over", DeliveryState.EXPIRED))
        assert channel.calls == []
        await dispatcher.redeliver((await hub.rows())["over"].key)
        await until(lambda: channel.arrived == ["over"])


async def test_what_was_replaced_is_not_redelivered_after_what_replaced_it(make_hub: MakeHub) -> None:
    async def reply(delivery: Delivery) -> Outcome:
        if delivery.entry.alert.identifier == "first":
            raise PermanentFailure("HTTP 400")
        return Outcome()

    channel = FakeChannel(reply)
    hub = make_hub(channel)
    async with hub.running() as dispatcher:
        await dispatcher.subscribe(subscription())
        first = await hub.submit("first")
        await until_async(lambda: _is(hub, "first", DeliveryState.DEAD))
        await hub.submit("update", msg_type="Update", references=[first])
        await until(lambda: channel.arrived)
        with pytest.raises(Conflict):
            await dispatcher.redeliver((await hub.rows())["first"].key)
    assert channel.sent == ["first", "update"]


async def test_unknown_keys_are_not_found(make_hub: MakeHub) -> None:
    hub = make_hub(FakeChannel())
    async with hub.running() as dispatcher:
        with pytest.raises(NotFound):
            await dispatcher.redeliver("nothing")
        with pytest.raises(NotFound):
            await dispatcher.confirm("nothing")
        assert await dispatcher.unsubscribe("nothing") is False


async def test_a_confirmation_is_journalled_once(make_hub: MakeHub) -> None:
    channel = FakeChannel()
    hub = make_hub(channel)
    async with hub.running() as dispatcher:
        await dispatcher.subscribe(subscription())
        await hub.submit("one")
        await until_async(hub.rows)
        key = (await hub.rows())["one"].key
        await dispatcher.confirm(key)
        first = (await hub.rows())["one"].confirmed
        await dispatcher.confirm(key)
        assert first is not None
        assert (await hub.rows())["one"].confirmed == first


async def test_a_confirmation_quicker_than_the_answer_is_kept(make_hub: MakeHub) -> None:
    gate = Gate()
    channel = FakeChannel(gate)
    hub = make_hub(channel)
    async with hub.running() as dispatcher:
        await dispatcher.subscribe(subscription())
        await hub.submit("one")
        await until(lambda: channel.calls)
        await dispatcher.confirm(channel.calls[0].key)
        gate.open.set()
        await until_async(hub.rows)
        assert (await hub.rows())["one"].confirmed is not None


async def test_a_confirmation_while_the_result_is_being_written_is_kept(make_hub: MakeHub) -> None:
    channel = FakeChannel()
    hub = make_hub(channel)
    writing, go_on = asyncio.Event(), asyncio.Event()

    class Slow(Proxy):
        async def record(self, rows: Any, cursors: Any, fences: Any = ()) -> None:
            if rows and not go_on.is_set():
                writing.set()
                await go_on.wait()
            await self.store.record(rows, cursors, fences)

    hub.around = Slow
    async with hub.running() as dispatcher:
        await dispatcher.subscribe(subscription())
        await hub.submit("one")
        await writing.wait()
        confirming = asyncio.ensure_future(dispatcher.confirm(channel.calls[0].key))
        await asyncio.sleep(0.02)
        go_on.set()
        await confirming
        await until(lambda: not dispatcher.stats()["unrecorded"])
        row = (await hub.rows())["one"]
        assert row.state is DeliveryState.DELIVERED
        assert row.confirmed is not None


async def test_a_confirmation_of_what_seemed_to_fail_settles_it(make_hub: MakeHub) -> None:
    channel = FakeChannel(failing(TemporaryFailure("the answer was lost")))
    hub = make_hub(channel, FakeClock(datetime.now(UTC)))
    async with hub.running() as dispatcher:
        await dispatcher.subscribe(subscription())
        await hub.submit("one")
        await until_async(hub.rows)
        await dispatcher.confirm(channel.calls[0].key)
        await until_async(lambda: _is(hub, "one", DeliveryState.DELIVERED))
        assert dispatcher.stats()["waiting"] == 0
        assert isinstance(hub.clock, FakeClock)
        await hub.clock.advance(120)
    assert len(channel.calls) == 1


async def test_unsubscribing_breaks_off_what_is_under_way_and_ends_the_retries(make_hub: MakeHub) -> None:
    channel = FakeChannel(failing(TemporaryFailure("down")))
    hub = make_hub(channel, FakeClock(datetime.now(UTC)))
    async with hub.running() as dispatcher:
        await dispatcher.subscribe(subscription())
        await hub.submit("one")
        await until_async(hub.rows)
        gate = channel.reply = Gate()
        await hub.submit("two")
        await until(lambda: len(channel.calls) == 2)
        assert await dispatcher.unsubscribe("s") is True
        async with asyncio.timeout(channel.limits.timeout / 2):
            await until(lambda: dispatcher.stats()["in_flight"] == 0)
        gate.open.set()
        await until_async(lambda: _is(hub, "one", DeliveryState.DROPPED))
        assert await hub.store.unsettled() == []
    assert channel.arrived == []


async def test_a_subscription_that_is_replaced_keeps_its_place(make_hub: MakeHub) -> None:
    channel = FakeChannel(failing(TemporaryFailure("down")))
    clock = FakeClock(datetime.now(UTC))
    hub = make_hub(channel, clock)
    async with hub.running() as dispatcher:
        await dispatcher.subscribe(subscription())
        await hub.submit("owed")
        await until_async(hub.rows)
        await dispatcher.subscribe(
            subscription(target="https://new.example/", filter=Filter(areas=frozenset({"132209"})))
        )
        channel.reply = take
        await until(
            lambda: channel.arrived == ["owed"], "whoever corrects an address waited for the old one's pause"
        )
        await hub.submit("unwanted", codes=["432032"])
        await hub.submit("wanted", codes=["132209"])
        await until(lambda: len(channel.taken) == 2)
        hub.channels["other"] = channel
    assert channel.arrived == ["owed", "wanted"]
    assert channel.calls[-1].subscription.target == "https://new.example/"


async def test_nothing_is_sent_for_a_subscription_that_could_not_be_saved(make_hub: MakeHub) -> None:
    channel = FakeChannel()
    hub = make_hub(channel)

    class Refuses(Proxy):
        async def save_subscription(self, subscription: Subscription, cursor: str) -> None:
            await hub.submit("meanwhile")
            await asyncio.sleep(0.02)
            raise Unavailable("the disk is full")

    hub.around = Refuses
    async with hub.running() as dispatcher:
        with pytest.raises(Unavailable):
            await dispatcher.subscribe(subscription())
        await hub.submit("after")
        await asyncio.sleep(0.02)
        assert await dispatcher.subscriptions() == []
    assert channel.calls == []


async def test_a_test_goes_to_one_target_alone_and_leaves_no_trace(make_hub: MakeHub) -> None:
    channel = FakeChannel()
    hub = make_hub(channel)
    async with hub.running() as dispatcher:
        await dispatcher.subscribe(subscription("a"))
        await dispatcher.subscribe(subscription("b"))
        entry = test_entry("Test")
        trial = await dispatcher.send_test("a", entry)
        assert (trial.state, trial.detail) == (DeliveryState.DELIVERED, "taken")
        assert [c.subscription.id for c in channel.taken] == ["a"]
        assert await hub.rows("a") == {}
        with pytest.raises(Forbidden):
            await dispatcher.send_test("a", test_entry("Actual"))
        with pytest.raises(NotFound):
            await dispatcher.send_test("c", entry)
        for failure, state in (
            (TemporaryFailure("HTTP 500"), DeliveryState.RETRY),
            (PermanentFailure("HTTP 400"), DeliveryState.DEAD),
            (Gone("HTTP 410"), DeliveryState.DROPPED),
            (ValueError("a defect"), DeliveryState.RETRY),
        ):
            channel.reply = failing(failure)
            assert (await dispatcher.send_test("a", entry)).state is state
        assert {one.id for one in await dispatcher.subscriptions()} == {"a", "b"}


def test_entry(status: str) -> Entry:
    now = datetime.now(UTC)
    alert = make_alert(identifier="test-send", status=status)
    return Entry("test-0", now, now, alert, ORIGIN, alert.id)


test_entry.__test__ = False  # type: ignore[attr-defined]


async def test_the_age_of_the_oldest_undelivered_is_told_by_channel(make_hub: MakeHub) -> None:
    clock = FakeClock(datetime.now(UTC))
    channel = FakeChannel(failing(TemporaryFailure("down")))
    hub = make_hub(channel, clock)
    async with hub.running() as dispatcher:
        await dispatcher.subscribe(subscription())
        assert dispatcher.by_channel()["fake"].oldest_s == 0
        await hub.submit("one")
        await until(lambda: channel.calls)
        clock.move(90)
        assert 89 < dispatcher.by_channel()["fake"].oldest_s < 95
        assert dispatcher.stats()["oldest_undelivered_seconds"] == dispatcher.by_channel()["fake"].oldest_s
        assert dispatcher.by_channel()["fake"].failing == 1


# What is told


async def test_trouble_is_logged_once_per_cause_and_never_with_a_secret(make_hub: MakeHub) -> None:
    clock = FakeClock(datetime.now(UTC))
    secret = "whsec_" + "c2VjcmV0" * 4
    target = "https://receiver.example/hooks/very-secret-token?key=other-secret-token"
    causes = [
        TemporaryFailure(f"cannot reach {target}"),
        TemporaryFailure(f"cannot reach {target}"),
        ValueError(f"bad url /hooks/very-secret-token with {secret}\nand more"),
        TemporaryFailure("see https://elsewhere.example/?token=abc"),
    ]

    async def reply(delivery: Delivery) -> Outcome:
        if causes:
            raise causes.pop(0)
        return Outcome()

    channel = FakeChannel(reply)
    hub = make_hub(channel, clock)
    with structlog.testing.capture_logs() as logs:
        async with hub.running() as dispatcher:
            await dispatcher.subscribe(subscription(target=target, options={"secret": secret}))
            await hub.submit("one")
            for number, gap in enumerate((1, 1, 3, 5), start=1):
                await until_async(lambda: _tried(hub, number))  # noqa: B023
                assert_clean((await hub.rows())["one"].detail)
                await clock.advance(gap)
            await until(lambda: channel.arrived)
    told = [log for log in logs if "delivery" in log["event"]]
    assert [log["event"] for log in told] == ["delivery fails"] * 3 + ["delivery works again"]
    for log in logs:
        assert_clean(str(log))


def assert_clean(text: str) -> None:
    for secret in ("very-secret-token", "other-secret-token", "c2VjcmV0", "token=abc", "\n"):
        assert secret not in text, text


# Many targets


class Turns:
    """The turns of the event loop, numbered, and how often something happened in each."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # A task that sleeps for no time comes before the others in one turn and after them in the next, and would take both for one.
        loop: Any = asyncio.get_running_loop()
        turn = loop._run_once
        self.number = 0

        def counted() -> None:
            self.number += 1
            turn()

        monkeypatch.setattr(loop, "_run_once", counted)


async def test_a_flood_of_deliveries_takes_the_loop_a_little_at_a_time(
    make_hub: MakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = Turns(monkeypatch)
    began, looked = Counter[int](), Counter[int]()

    async def reply(delivery: Delivery) -> Outcome:
        began[turns.number] += 1
        return Outcome()

    class Roomy(FakeChannel):
        limits: ClassVar[Limits] = Limits(in_flight=500)

    hub = make_hub(Roomy(reply), settings=replace(QUICK, journal_lanes=10))
    async with hub.open_store():
        for n in range(350):
            await hub.store.save_subscription(
                subscription(f"s{n}", tenant="hitoyoshi", filter=ALL), hub.store.newest
            )
    async with hub.running() as dispatcher:
        look = dispatcher._audience._may_see
        assert look is not None

        def counted(subscription: Subscription, entry: Entry) -> bool:
            looked[turns.number] += 1
            return look(subscription, entry)

        dispatcher._audience._may_see = counted
        # Drills are planned at the same time as what is real.
        for n in range(3):
            await asyncio.gather(
                hub.submit(f"a{n}", scope="Restricted", restriction="staff"),
                hub.submit(f"d{n}", scope="Restricted", restriction="staff", status=Status.EXERCISE),
            )
        await until(lambda: looked.total() == 6 * 350 and began.total() >= 3 * 350)
    assert max(looked.values()) <= TURN
    assert max(began.values()) <= LAUNCHES


async def test_while_turns_of_the_loop_are_long_deliveries_take_less_of_them(
    make_hub: MakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = Turns(monkeypatch)
    began = Counter[int]()

    async def reply(delivery: Delivery) -> Outcome:
        began[turns.number] += 1
        return Outcome()

    class Roomy(FakeChannel):
        limits: ClassVar[Limits] = Limits(in_flight=500)

    class Slow(SystemClock):
        """A clock by which every look is a long turn after the last."""

        looks = 0

        def monotonic(self) -> float:
            self.looks += 1
            return self.looks * 2 * LONG_TURN_S

    hub = make_hub(Roomy(reply), Slow(), replace(QUICK, journal_lanes=10))
    async with hub.open_store():
        for n in range(100):
            await hub.store.save_subscription(subscription(f"s{n}"), hub.store.newest)
    async with hub.running():
        await hub.submit("a")
        await until(lambda: began.total() == 100)
    # All of what one turn of planning has put in line begins together at first; from then on turns are long.
    assert sorted(began.values())[-2] <= LAUNCHES // 4
