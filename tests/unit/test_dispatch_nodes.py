"""Durable delivery by several nodes over one store: who sends what, what a node that dies, freezes or is cut off costs, and that any node may be asked for anything."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, Self

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from lalert.bus import HintListener
from lalert.bus.leases import LeaseTimes, LedgerLeases
from lalert.bus.local import LocalBus
from lalert.clock import SystemClock
from lalert.dispatch import Dispatcher, DispatchSettings, delivery_key
from lalert.errors import Conflict, LalertError, NotFound, TemporaryFailure, Unavailable
from lalert.model import Delivery, Entry, Filter, Origin, OriginKind, Outcome, Status, Subscription
from lalert.plugin import Channel, Limits
from lalert.store import DeliveryRow, DeliveryState, Lane, share_of
from lalert.store.sqlite import SqliteStore
from lalert.testing import declared_facts, make_alert, revive
from lalert.testing.leases import CutOff, MemoryLedger

ORIGIN = Origin(OriginKind.HTTP, tenant="hitoyoshi")
QUICK = DispatchSettings(grace_s=0.3, look_s=0.1, reach_s=1.0)
PATIENCE = 15.0
PATIENT = LeaseTimes(lease=6.0, renewal=0.15, margin=1.0, release=3.0, hurry=0.05)
SHORT = LeaseTimes(lease=0.8, renewal=0.15, margin=0.15, release=0.3, hurry=0.05)


class FakeChannel:
    """A channel of one node; the far end, which all nodes send to, notes what comes."""

    drill_safe: ClassVar[bool] = True
    limits: ClassVar[Limits] = Limits(in_flight=8, timeout=5.0)

    def __init__(self, name: str, far: FarEnd) -> None:
        self.name = name
        self.far = far
        self.alive = asyncio.Event()
        self.alive.set()

    def check_subscription(self, subscription: Subscription) -> Subscription:
        return subscription

    async def deliver(self, delivery: Delivery) -> Outcome:
        await self.alive.wait()
        return await self.far.take(self.name, delivery)


_: type[Channel] = FakeChannel


class FarEnd:
    """Takes everything at once, unless a test says otherwise."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Delivery]] = []
        self.taken: list[tuple[str, str, str]] = []
        """(node, subscription, identifier)"""
        self.reply: Callable[[str, Delivery], Awaitable[None]] | None = None

    async def take(self, node: str, delivery: Delivery) -> Outcome:
        self.calls.append((node, delivery))
        if self.reply is not None:
            await self.reply(node, delivery)
        self.taken.append((node, delivery.subscription.id, delivery.entry.alert.identifier))
        return Outcome(f"by {node}")

    def of(self, subscription: str) -> list[str]:
        return [identifier for _, to, identifier in self.taken if to == subscription]


class Freezer:
    """A node's clock, which stands still while its process does."""

    def __init__(self) -> None:
        self._clock = SystemClock()
        self._stopped: float | None = None
        self._slept = 0.0
        self._runs = asyncio.Event()
        self._runs.set()

    def freeze(self) -> None:
        self._stopped = self._clock.monotonic()
        self._runs.clear()

    def thaw(self) -> None:
        self._stopped = None
        self._runs.set()

    def sleep_through(self, seconds: float) -> None:
        """Let so much time have passed while the process was stopped: nothing of it has run yet."""
        self._slept += seconds

    def now(self) -> datetime:
        return self._clock.now()

    def monotonic(self) -> float:
        return self._slept + (self._clock.monotonic() if self._stopped is None else self._stopped)

    async def sleep(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
        await self._runs.wait()


class NodesStore:
    """One node's way to the store: refuses what is written under another's lease, and is cut with the node."""

    def __init__(self, store: SqliteStore, ledger: MemoryLedger) -> None:
        self._store = store
        self._ledger = ledger
        self.cut = False

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if not asyncio.iscoroutinefunction(found):
            return found

        async def asked(*args: Any, **kwargs: Any) -> Any:
            if self.cut:
                raise Unavailable("this node is cut off")
            return await found(*args, **kwargs)

        return asked

    async def record(self, rows: Any, cursors: Any, fences: Collection[Any] = ()) -> None:
        if self.cut:
            raise Unavailable("this node is cut off")
        self._ledger.require(fences)
        await self._store.record(rows, cursors, fences)


class Line(LocalBus):
    """The bus of all nodes; hints can be lost."""

    deaf = False

    def attend(self, listener: HintListener) -> Callable[[], None]:
        return super().attend(lambda kind, subject: None if self.deaf else listener(kind, subject))


class Node:
    def __init__(self, name: str, nodes: Nodes) -> None:
        self.name = name
        self.clock = Freezer()
        self.channel = FakeChannel(name, nodes.far)
        self.line = CutOff(nodes.ledger)
        self.store = NodesStore(nodes.store, nodes.ledger)
        self.dispatcher = Dispatcher(
            self.store,
            nodes.bus,
            {"fake": self.channel},
            leases=LedgerLeases(self.line, self.clock, node=name, times=nodes.times),
            wants=lambda *_: True,
            clock=self.clock,
            settings=nodes.settings,
        )

    def die(self) -> None:
        """As others see it: it says nothing more to anybody."""
        self.line.cut = self.store.cut = True
        self.channel.alive.clear()

    def revive(self) -> None:
        self.line.cut = self.store.cut = False
        self.channel.alive.set()

    def freeze(self) -> None:
        self.line.cut = True
        self.clock.freeze()

    def thaw(self) -> None:
        self.line.cut = False
        self.clock.thaw()

    @property
    def lanes(self) -> set[str]:
        return set(self.dispatcher._lanes)


class Nodes:
    """Several nodes in one process, as far as the store and the far end can tell."""

    def __init__(self, store: SqliteStore, bus: Line, stack: AsyncExitStack) -> None:
        self.store = store
        self.bus = bus
        self.times = PATIENT
        self.ledger = MemoryLedger(SystemClock(), PATIENT.lease)
        self.far = FarEnd()
        self.settings = QUICK
        self._stack = stack
        self._number = 0

    def hurry(self) -> None:
        """Let leases run out quickly: only where that is what a test is about, as a busy machine may be late by as much."""
        self.times = SHORT
        self.ledger = MemoryLedger(SystemClock(), SHORT.lease)

    async def start(self, name: str) -> Node:
        node = Node(name, self)
        await self._stack.enter_async_context(node.dispatcher)
        return node

    async def submit(self, identifier: str, **changes: Any) -> Entry:
        sent = datetime.now(UTC) - timedelta(hours=1) + timedelta(milliseconds=self._number)
        self._number += 1
        alert = make_alert(identifier=identifier, sent=sent, **changes)
        appended = await self.store.append(
            alert, ORIGIN, datetime.now(UTC), declared_facts(alert), frozenset()
        )
        return appended.entry

    async def rows(self, subscription: str) -> list[DeliveryRow]:
        return await self.store.deliveries(subscription, 1000)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()


@asynccontextmanager
async def open_nodes(path: Path) -> AsyncIterator[Nodes]:
    bus = Line()
    async with (
        SqliteStore(path, revive=revive, on_append=bus.publish, clock=SystemClock()) as store,
        Nodes(store, bus, AsyncExitStack()) as nodes,
    ):
        yield nodes


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[Nodes]:
    async with open_nodes(tmp_path / "hub.db") as nodes:
        yield nodes


def subscription(id: str, **changes: Any) -> Subscription:
    return replace(
        Subscription(id, "fake", f"https://{id}.example/token-of-{id}", Filter(), datetime.now(UTC)),
        **changes,
    )


SUBSCRIPTIONS = [f"s{n}" for n in range(40)]


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


async def two_nodes(nodes: Nodes) -> tuple[Node, Node]:
    """Return two nodes that have divided `SUBSCRIPTIONS`."""
    one = await nodes.start("one")
    for id in SUBSCRIPTIONS:
        await one.dispatcher.subscribe(subscription(id))
    two = await nodes.start("two")
    await until(lambda: is_divided(one, two))
    return one, two


def is_divided(*parts: Node) -> bool:
    counts = Counter(id for node in parts for id in node.lanes)
    return (
        set(counts) == set(SUBSCRIPTIONS)
        and set(counts.values()) == {1}
        and all(node.lanes and node.dispatcher.stats()["caught_up"] for node in parts)
    )


def of(node: Node) -> str:
    """Return a subscription whose lane a node runs."""
    return min(node.lanes)


# Who sends what


async def test_each_target_is_told_once_by_the_one_node_that_runs_its_lane(nodes: Nodes) -> None:
    one, two = await two_nodes(nodes)
    lanes = {id: node.name for node in (one, two) for id in node.lanes}
    await nodes.submit("a")
    await nodes.submit("b")
    await until(lambda: len(nodes.far.taken) >= 80)
    assert sorted(nodes.far.taken) == sorted((lanes[id], id, name) for id in SUBSCRIPTIONS for name in "ab")
    assert len(one.lanes) > 8
    assert len(two.lanes) > 8
    assert one.dispatcher.stats()["lanes"] == len(one.lanes)


async def test_the_only_node_over_shared_leases_runs_every_lane(nodes: Nodes) -> None:
    one = await nodes.start("one")
    for id in SUBSCRIPTIONS:
        await one.dispatcher.subscribe(subscription(id))
    await nodes.submit("a")
    await until(lambda: len(nodes.far.taken) == 40)


async def test_a_newcomer_gets_its_part_without_loss_or_repetition(nodes: Nodes) -> None:
    one = await nodes.start("one")
    for id in SUBSCRIPTIONS:
        await one.dispatcher.subscribe(subscription(id))

    async def slowly(node: str, delivery: Delivery) -> None:
        await asyncio.sleep(0.003)

    nodes.far.reply = slowly

    async def submit() -> None:
        for n in range(30):
            await nodes.submit(f"a{n}")
            await asyncio.sleep(0.02)

    sending = asyncio.create_task(submit())
    await until(lambda: len(nodes.far.taken) > 100)
    two = await nodes.start("two")
    await sending
    await until(lambda: len(nodes.far.taken) >= 40 * 30)
    await until(lambda: is_divided(one, two))
    counts = Counter((to, name) for _, to, name in nodes.far.taken)
    assert set(counts.values()) == {1}
    assert len(counts) == 40 * 30
    assert {node for node, *_ in nodes.far.taken} == {"one", "two"}


async def test_what_a_node_that_stops_had_is_taken_over_at_once_and_nothing_is_sent_twice(
    nodes: Nodes,
) -> None:
    one = await nodes.start("one")
    for id in SUBSCRIPTIONS:
        await one.dispatcher.subscribe(subscription(id))
    two = Node("two", nodes)
    async with two.dispatcher:
        await until(lambda: is_divided(one, two))
        await nodes.submit("a")
        await until(lambda: len(nodes.far.taken) == 40)
    await nodes.submit("b")
    await until(lambda: len(nodes.far.taken) == 80)
    assert set(Counter((to, name) for _, to, name in nodes.far.taken).values()) == {1}


# A node that dies, freezes, or is cut off


async def test_a_dead_nodes_lanes_are_taken_over_and_only_what_was_under_way_is_sent_again(
    nodes: Nodes,
) -> None:
    nodes.hurry()
    one, two = await two_nodes(nodes)
    await nodes.submit("a")
    await until(lambda: len(nodes.far.taken) == 40)
    target, mine = of(one), len(one.lanes)

    async def hang(node: str, delivery: Delivery) -> None:
        if node == "one":
            await asyncio.Event().wait()

    nodes.far.reply = hang
    await nodes.submit("b")
    await until(lambda: sum(node == "one" for node, _ in nodes.far.calls) > mine)
    under_way = {
        call.key for node, call in nodes.far.calls if node == "one" and call.entry.alert.identifier == "b"
    }
    one.die()
    await until(lambda: len(nodes.far.taken) == 80)
    assert set(Counter((to, name) for _, to, name in nodes.far.taken).values()) == {1}
    again = {call.key for node, call in nodes.far.calls if node == "two"} & under_way
    assert again == under_way
    assert nodes.far.of(target) == ["a", "b"]
    assert two.lanes == set(SUBSCRIPTIONS)


async def test_a_frozen_owner_that_goes_on_is_refused_by_the_store_and_strikes_its_lanes(
    nodes: Nodes,
) -> None:
    nodes.hurry()
    one, two = await two_nodes(nodes)
    target = of(one)
    answer = asyncio.Event()

    async def late(node: str, delivery: Delivery) -> None:
        if node == "one":
            await answer.wait()

    nodes.far.reply = late
    entry = await nodes.submit("a")
    await until(lambda: any(call.subscription.id == target for _, call in nodes.far.calls))
    one.freeze()
    await until(lambda: len(nodes.far.taken) == 40)
    await until_async(lambda: nodes.rows(target))
    [by_two] = await nodes.rows(target)
    # It still believes to hold them, and its answer comes.
    answer.set()
    await until(lambda: target not in one.lanes)
    [row] = await nodes.rows(target)
    assert (row, row.detail) == (by_two, "by two")
    [lane] = [lane for lane in await nodes.store.lanes() if lane.subscription.id == target]
    assert lane.cursor == entry.position
    one.thaw()
    await until(lambda: is_divided(one, two))
    await nodes.submit("b")
    await until(lambda: all(nodes.far.of(id)[-1] == "b" for id in SUBSCRIPTIONS))
    assert nodes.far.of(of(one)).count("b") == 1


async def test_a_node_that_wakes_after_its_leases_have_ended_sends_nothing_before_it_looks(
    nodes: Nodes,
) -> None:
    nodes.hurry()
    one, two = await two_nodes(nodes)
    one.clock.sleep_through(60.0)
    await nodes.submit("a")
    await until(lambda: len(nodes.far.taken) == len(two.lanes))
    assert {node for node, _ in nodes.far.calls} == {"two"}
    assert not one.lanes


async def test_a_node_that_is_cut_off_stops_sending_before_another_begins(nodes: Nodes) -> None:
    nodes.hurry()
    one, two = await two_nodes(nodes)
    mine = set(one.lanes)
    one.line.cut = True
    await until(lambda: not one.lanes)
    assert not mine & two.lanes
    await nodes.submit("a")
    await until(lambda: len(nodes.far.taken) == 40)
    assert {node for node, *_ in nodes.far.taken} == {"two"}
    one.line.cut = False
    await until(lambda: is_divided(one, two))
    await nodes.submit("b")
    await until(lambda: len(nodes.far.taken) == 80)
    assert set(Counter((to, name) for _, to, name in nodes.far.taken).values()) == {1}


async def test_what_waits_for_room_is_not_sent_any_more_once_its_lease_is_lost(nodes: Nodes) -> None:
    nodes.hurry()
    one, two = await two_nodes(nodes)
    room = one.channel.limits.in_flight
    assert len(one.lanes) > room

    async def hang(node: str, delivery: Delivery) -> None:
        if node == "one":
            await asyncio.Event().wait()

    nodes.far.reply = hang
    await nodes.submit("a")
    await until(lambda: sum(node == "one" for node, _ in nodes.far.calls) == room)
    one.line.cut = True
    await until(lambda: len(nodes.far.taken) == 40)
    assert not one.dispatcher.stats()["in_flight"]
    nodes.far.reply = None
    one.line.cut = False
    await until(lambda: is_divided(one, two))
    await nodes.submit("b")
    await until(lambda: len(nodes.far.taken) == 80)
    by_one = [call.entry.alert.identifier for node, call in nodes.far.calls if node == "one"]
    assert by_one.count("a") == room
    assert by_one.count("b") == len(one.lanes)


async def test_what_waited_for_another_try_is_tried_again_by_the_node_that_takes_over(nodes: Nodes) -> None:
    nodes.hurry()
    one, _ = await two_nodes(nodes)
    target = of(one)

    async def fail(node: str, delivery: Delivery) -> None:
        if node == "one":
            raise TemporaryFailure("busy")

    nodes.far.reply = fail
    await nodes.submit("a")

    async def recorded() -> bool:
        return [row.state for row in await nodes.rows(target)] == [DeliveryState.RETRY]

    await until_async(recorded)
    one.die()
    await until(lambda: nodes.far.of(target) == ["a"])
    assert (
        next(
            call.attempt for node, call in nodes.far.calls if node == "two" and call.subscription.id == target
        )
        == 2
    )


async def test_a_clock_that_is_behind_does_not_make_a_takers_rows_look_old(nodes: Nodes) -> None:
    nodes.hurry()
    one = await nodes.start("one")
    await one.dispatcher.subscribe(subscription("s0"))

    async def fail(node: str, delivery: Delivery) -> None:
        if node == "one":
            raise TemporaryFailure("busy")

    nodes.far.reply = fail
    real = one.clock.now
    one.clock.now = lambda: real() + timedelta(minutes=5)  # type: ignore[method-assign]
    await nodes.submit("a")

    async def recorded() -> bool:
        return [row.state for row in await nodes.rows("s0")] == [DeliveryState.RETRY]

    await until_async(recorded)
    one.die()
    await nodes.start("two")

    async def settled() -> bool:
        return [row.state for row in await nodes.rows("s0")] == [DeliveryState.DELIVERED]

    await until_async(settled)


async def test_the_order_within_an_incident_is_kept_over_a_takeover(nodes: Nodes) -> None:
    nodes.hurry()
    one, two = await two_nodes(nodes)
    target = of(one)

    async def slowly(node: str, delivery: Delivery) -> None:
        await asyncio.sleep(0.02)

    nodes.far.reply = slowly
    before = await nodes.submit("0")
    for n in range(1, 30):
        before = await nodes.submit(f"{n}", msg_type="Update", references=[before])
        if n == 12:
            one.die()
        await asyncio.sleep(0.02)
    await until(lambda: all(nodes.far.of(id)[-1:] == ["29"] for id in SUBSCRIPTIONS))
    for id in SUBSCRIPTIONS:
        told = [int(name) for name in nodes.far.of(id)]
        assert told == sorted(told)
    assert len(set(nodes.far.of(target))) > 3
    assert two.lanes >= {target}


# Any node may be asked for anything


async def test_a_target_made_at_another_node_misses_nothing_from_that_moment_on(nodes: Nodes) -> None:
    one, two = await two_nodes(nodes)
    await nodes.submit("before")
    await until(lambda: len(nodes.far.taken) == 40)
    foreign = next(id for id in (f"n{n}" for n in range(200)) if share_of(id) in two.dispatcher._tenure.run)
    await one.dispatcher.subscribe(subscription(foreign))
    await nodes.submit("after")
    await until(lambda: nodes.far.of(foreign) == ["after"])
    assert foreign in two.lanes
    assert foreign not in one.lanes
    assert (await one.dispatcher.subscription(foreign)).id == foreign
    assert {s.id for s in await one.dispatcher.subscriptions()} == {*SUBSCRIPTIONS, foreign}


async def test_an_alert_that_is_planned_while_a_lane_is_being_loaded_is_not_missed_by_it(
    nodes: Nodes,
) -> None:
    one, two = await two_nodes(nodes)
    foreign = next(id for id in (f"n{n}" for n in range(200)) if share_of(id) in two.dispatcher._tenure.run)
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def look_late(id: str) -> Lane | None:
        found = await nodes.store.lane(id)
        asked.set()
        await go_on.wait()
        return found

    two.store.lane = look_late  # type: ignore[attr-defined]
    await one.dispatcher.subscribe(subscription(foreign))
    await asked.wait()
    entry = await nodes.submit("a")
    await until(lambda: len(nodes.far.taken) == 40)
    assert two.dispatcher._real.begun == nodes.store.order(entry.position)
    go_on.set()
    await until(lambda: nodes.far.of(foreign) == ["a"])


async def test_what_is_changed_at_another_node_is_seen_even_if_every_hint_is_lost(nodes: Nodes) -> None:
    nodes.bus.deaf = True
    one, two = await two_nodes(nodes)
    goes, moves = sorted(two.lanes)[:2]
    await one.dispatcher.unsubscribe(goes)
    await one.dispatcher.subscribe(
        replace(await one.dispatcher.subscription(moves), target="https://new.example/x")
    )
    await until(lambda: goes not in two.lanes)
    await until(lambda: two.dispatcher._lanes[moves].subscription.target == "https://new.example/x")
    await nodes.submit("a")
    await until(lambda: len(nodes.far.taken) == 39)
    assert nodes.far.of(goes) == []
    with pytest.raises(NotFound):
        await one.dispatcher.subscription(goes)


async def test_a_list_of_all_targets_is_read_once_and_then_kept_up_with_what_changes_anywhere(
    nodes: Nodes,
) -> None:
    one, two = await two_nodes(nodes)
    reads: list[object] = []

    async def counted(shares: object = None) -> list[Lane]:
        reads.append(shares)
        return await nodes.store.lanes()

    one.store.lanes = counted  # type: ignore[attr-defined]
    assert {s.id for s in await one.dispatcher.subscriptions()} == set(SUBSCRIPTIONS)
    goes, moves = sorted(two.lanes)[:2]
    await two.dispatcher.unsubscribe(goes)
    await two.dispatcher.subscribe(replace(subscription(moves), target="https://new.example/x"))
    await two.dispatcher.subscribe(subscription("new"))
    for _ in range(2):
        listed = {s.id: s.target for s in await one.dispatcher.subscriptions()}
        assert set(listed) == {*SUBSCRIPTIONS, "new"} - {goes}
        assert listed[moves] == "https://new.example/x"
    assert reads == [None]


async def test_a_store_that_has_forgotten_what_was_changed_is_compared_lane_by_lane(nodes: Nodes) -> None:
    one, two = await two_nodes(nodes)
    goes = of(two)

    async def forgotten(after: int) -> tuple[int, None]:
        return after, None

    two.store.target_changes = forgotten  # type: ignore[attr-defined]
    await one.dispatcher.unsubscribe(goes)
    await until(lambda: goes not in two.lanes)
    assert len(two.lanes) > 4


async def test_a_fail_over_that_lost_changes_of_targets_is_not_taken_for_none_by_their_count(
    nodes: Nodes,
) -> None:
    """The count is then as high as before, for changes that nobody here has seen."""
    _, two = await two_nodes(nodes)
    goes = of(two)
    assert len(await two.dispatcher.subscriptions()) == len(SUBSCRIPTIONS)

    async def as_high_as_before(after: int) -> tuple[int, frozenset[str] | None]:
        return max(after, 1), None if after < 0 else frozenset()

    two.store.target_changes = as_high_as_before  # type: ignore[attr-defined]
    await nodes.store.drop_subscription(goes)
    two.dispatcher._start_over()
    await until(lambda: goes not in two.lanes)
    assert goes not in {s.id for s in await two.dispatcher.subscriptions()}


async def test_an_id_that_belongs_to_another_channel_is_refused_at_any_node(nodes: Nodes) -> None:
    one, two = await two_nodes(nodes)
    one.dispatcher._outlets["other"] = one.dispatcher._outlets["fake"]
    with pytest.raises(Conflict):
        await one.dispatcher.subscribe(subscription(of(two), channel="other"))


@pytest.mark.parametrize("deaf", [False, True])
async def test_a_redelivery_asked_for_at_another_node_is_made_by_the_one_that_runs_the_lane(
    nodes: Nodes, deaf: bool
) -> None:
    nodes.bus.deaf = deaf
    one, two = await two_nodes(nodes)
    target = of(two)
    entry = await nodes.submit("a")
    key = delivery_key(target, entry.alert.id)

    async def delivered() -> bool:
        row = await nodes.store.delivery(key)
        return row is not None and row.state is DeliveryState.DELIVERED

    await until_async(delivered)
    await one.dispatcher.redeliver(key)
    await until(lambda: nodes.far.of(target) == ["a", "a"])
    await until_async(delivered)
    assert nodes.far.taken[-1][0] == "two"


async def test_a_confirmation_at_another_node_settles_what_waits_for_another_try(nodes: Nodes) -> None:
    one, two = await two_nodes(nodes)
    target = of(two)

    async def fail(node: str, delivery: Delivery) -> None:
        if delivery.subscription.id == target:
            raise TemporaryFailure("the answer was lost")

    nodes.far.reply = fail
    entry = await nodes.submit("a")
    key = delivery_key(target, entry.alert.id)

    async def recorded() -> bool:
        return await nodes.store.delivery(key) is not None

    await until_async(recorded)
    await one.dispatcher.confirm(key)
    await until(lambda: not two.dispatcher._lanes[target].waiting)
    row = await nodes.store.delivery(key)
    assert row is not None
    assert (row.state, row.confirmed is not None) == (DeliveryState.DELIVERED, True)


async def test_a_confirmation_that_is_quicker_than_its_own_answer_is_kept_at_any_node(nodes: Nodes) -> None:
    one, two = await two_nodes(nodes)
    target = of(two)
    answer = asyncio.Event()

    async def late(node: str, delivery: Delivery) -> None:
        if delivery.subscription.id == target:
            await answer.wait()

    nodes.far.reply = late
    entry = await nodes.submit("a")
    key = delivery_key(target, entry.alert.id)
    await until(lambda: any(call.key == key for _, call in nodes.far.calls))
    confirming = asyncio.create_task(one.dispatcher.confirm(key))
    await asyncio.sleep(0.05)
    answer.set()
    await confirming
    row = await nodes.store.delivery(key)
    assert row is not None
    assert row.confirmed is not None
    with pytest.raises(NotFound):
        await one.dispatcher.confirm("no such key")


async def test_a_test_message_is_sent_by_the_node_that_is_asked(nodes: Nodes) -> None:
    one, two = await two_nodes(nodes)
    entry = await nodes.submit("drill", status=Status.TEST)
    assert (await one.dispatcher.send_test(of(two), entry)).detail == "by one"


# Whatever happens


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["submit", "submit", "submit", "die", "freeze", "heal", "subscribe", "wait"]),
        st.integers(0, 2),
    ),
    min_size=4,
    max_size=14,
)


async def run_schedule(steps: list[tuple[str, int]]) -> None:
    with TemporaryDirectory() as folder:
        async with open_nodes(Path(folder) / "hub.db") as nodes:
            nodes.hurry()
            cluster = [await nodes.start(name) for name in ("one", "two", "three")]
            owed: dict[str, list[str]] = {}
            for id in SUBSCRIPTIONS[:12]:
                await cluster[0].dispatcher.subscribe(subscription(id))
                owed[id] = []
            for number, (step, which) in enumerate(steps):
                node = cluster[which]
                if step == "submit":
                    await nodes.submit(f"{number}")
                    for told in owed.values():
                        told.append(f"{number}")
                elif step == "subscribe":
                    try:
                        await node.dispatcher.subscribe(subscription(f"n{number}"))
                        owed[f"n{number}"] = []
                    except LalertError:
                        pass
                elif step == "die":
                    node.die()
                elif step == "freeze":
                    node.freeze()
                elif step == "heal":
                    node.revive()
                    node.thaw()
                else:
                    await asyncio.sleep(0.2 * which)
            for node in cluster:
                node.revive()
                node.thaw()
            for id, told in owed.items():
                await until(lambda: set(nodes.far.of(id)) == set(told), f"{id} is owed {told}")  # noqa: B023
            await until(lambda: all(not n.dispatcher.stats()["unrecorded"] for n in cluster))

            async def all_settled() -> bool:
                rows = [row for id in owed for row in await nodes.rows(id)]
                states = {row.state for row in rows}
                return states <= {DeliveryState.DELIVERED} and len(rows) == sum(map(len, owed.values()))

            await until_async(all_settled)


# Shrinking what takes seconds would take an hour.
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)


@settings(max_examples=4, deadline=None, phases=PHASES, suppress_health_check=list(HealthCheck))
@given(STEPS)
def test_whatever_happens_to_the_nodes_everybody_is_told_everything(steps: list[tuple[str, int]]) -> None:
    asyncio.run(run_schedule(steps))


@pytest.mark.slow
@pytest.mark.timeout(1200)
@settings(max_examples=150, deadline=None, phases=PHASES, suppress_health_check=list(HealthCheck))
@given(STEPS)
def test_whatever_happens_to_the_nodes_everybody_is_told_everything_at_length(
    steps: list[tuple[str, int]],
) -> None:
    asyncio.run(run_schedule(steps))
