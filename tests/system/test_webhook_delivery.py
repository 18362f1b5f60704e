"""Webhooks end to end: real store, real dispatcher, real sockets, and receivers that misbehave (TESTS R2, R10)."""

from __future__ import annotations

import asyncio
import base64
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import msgspec
import pytest
import standardwebhooks
from aiohttp import web

from lalert import matching
from lalert.bus.local import LocalBus, LocalLeases
from lalert.clock import Clock, SystemClock
from lalert.dispatch import Dispatcher, DispatchSettings, guarded_session
from lalert.model import Alert, Entry, Filter, Origin, OriginKind, Subscription
from lalert.store import DeliveryState
from lalert.store.sqlite import SqliteStore
from lalert.testing import FakeClock, declared_facts, make_alert, revive
from lalert.testing.channel import until
from lalert.testing.hub import FakeHub
from lalert_adapters.webhook import Webhook, WebhookConfig

LOOPBACK = ip_network("127.0.0.0/8")
SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
SETTINGS = DispatchSettings(grace_s=0.5)


@dataclass
class Hit:
    key: str
    identifier: str
    body: bytes
    status: int


Answer = Callable[["Receiver"], web.StreamResponse | str]


@dataclass
class Receiver:
    """A webhook receiver on loopback. `behave` says how the next call is answered; what was answered 2xx counts as taken."""

    port: int = 0
    hits: list[Hit] = field(default_factory=list)
    behave: list[str] = field(default_factory=list)
    always: str = "200"

    @property
    def taken(self) -> list[str]:
        return [hit.identifier for hit in self.hits if hit.status == 200]

    def subscription(self, id: str, **changes: Any) -> Subscription:
        target = f"http://127.0.0.1:{self.port}/{id}"
        return replace(
            Subscription(id, "hook", target, Filter(), datetime.now(UTC), options={"secret": SECRET}),
            **changes,
        )

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        payload = standardwebhooks.Webhook(SECRET).verify(body, dict(request.headers))
        how = self.behave.pop(0) if self.behave else self.always
        status = int(how.split(":")[0]) if how[0].isdigit() else 0
        self.hits.append(Hit(request.headers["webhook-id"], payload["data"]["identifier"], body, status))
        if how == "hang":
            await asyncio.Event().wait()
        if how == "reset":
            assert request.transport is not None
            request.transport.abort()
            await asyncio.Event().wait()
        if how == "200:endless":
            return await endless(request)
        headers = {"Location": "/elsewhere"} if status == 302 else {}
        if how == "429:1":
            headers = {"Retry-After": "1"}
        return web.Response(
            status=status, headers=headers, body=b"x" * 1_000_000 if how == "500:huge" else b""
        )


async def endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b"x" * 65_536)


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    app = web.Application()
    app.router.add_post("/{id}", receiver.handle)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        receiver.port = runner.addresses[0][1]
        yield receiver
    finally:
        await runner.cleanup()


@dataclass
class Hub:
    store: SqliteStore
    dispatcher: Dispatcher

    async def submit(self, identifier: str, **changes: Any) -> Entry:
        return await self.append(make_alert(identifier=identifier, **changes))

    async def append(self, alert: Alert) -> Entry:
        origin = Origin(OriginKind.HTTP, "hitoyoshi")
        appended = await self.store.append(
            alert, origin, datetime.now(UTC), declared_facts(alert), frozenset()
        )
        return appended.entry

    async def states(self, subscription: str) -> dict[str, DeliveryState]:
        states = {}
        for row in await self.dispatcher.history(subscription, 1_000):
            entry = await self.store.entry(row.position)
            assert entry is not None
            states[entry.alert.identifier] = row.state
        return states

    async def settled(self) -> None:
        """Wait until nothing is under way, nothing is about to be, and every result is durable."""
        quiet = 0
        async with asyncio.timeout(20):
            while quiet < 5:
                stats = self.dispatcher.stats()
                quiet = 0 if stats["in_flight"] or stats["unrecorded"] else quiet + 1
                await asyncio.sleep(0.001)


class Crash:
    """A store whose process dies before a delivery's result is durable: the write never comes back."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def record(self, rows: Sequence[object], cursors: object, fences: object = ()) -> None:
        await asyncio.Event().wait()


@asynccontextmanager
async def hub_on(
    path: Path, clock: Clock | None = None, around: Callable[[SqliteStore], Any] = lambda store: store
) -> AsyncIterator[Hub]:
    clock = clock or SystemClock()
    bus = LocalBus()
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        store = await enter(SqliteStore(path, revive=revive, on_append=bus.publish, clock=SystemClock()))
        session = await enter(guarded_session([LOOPBACK]))
        # The webhook keeps the real time: its signatures are verified by it, however far the dispatcher's clock was moved.
        config = WebhookConfig(timeout_s=1.0, allow_http=True)
        webhook = await enter(Webhook("hook", config, FakeHub(session=session)))
        dispatcher = Dispatcher(
            around(store),
            bus,
            {"hook": webhook},
            leases=LocalLeases(),
            wants=matching.wants,
            clock=clock,
            settings=SETTINGS,
        )
        await enter(dispatcher)
        yield Hub(store, dispatcher)


async def pass_time(clock: FakeClock, hub: Hub, seconds: int) -> None:
    """Let time go by in steps, with real answers in between."""
    for _ in range(seconds):
        await clock.advance(1)
        await hub.settled()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "hub.db"


async def test_a_receiver_that_misbehaves_in_every_way_gets_the_alert_when_it_recovers(path: Path) -> None:
    clock = FakeClock(datetime.now(UTC))
    async with receiving() as receiver, hub_on(path, clock) as hub:
        receiver.behave = ["500:huge", "429:1", "reset", "302", "hang", "503", "404"]
        await hub.dispatcher.subscribe(receiver.subscription("a"))
        await hub.submit("order")
        await until(lambda: len(receiver.hits) == 1)
        await hub.settled()
        await pass_time(clock, hub, 61)
        assert receiver.taken == ["order"]
        assert len(receiver.hits) == 8
        assert len({hit.key for hit in receiver.hits}) == 1
        assert len({hit.body for hit in receiver.hits}) == 1
        assert await hub.states("a") == {"order": DeliveryState.DELIVERED}


async def test_a_receiver_that_is_back_after_ten_minutes_has_everything_within_a_minute_and_nobody_else_waited(
    path: Path,
) -> None:
    clock = FakeClock(datetime.now(UTC))
    async with receiving() as down, receiving() as up, hub_on(path, clock) as hub:
        down.always = "503"
        await hub.dispatcher.subscribe(down.subscription("down"))
        await hub.dispatcher.subscribe(up.subscription("up"))
        first = await hub.submit("first", severity="Minor")
        await until(lambda: len(down.hits) == 1)
        await pass_time(clock, hub, 90)
        await hub.submit("update", msg_type="Update", references=[first], severity="Moderate")
        await hub.submit("grave", severity="Extreme")
        await hub.submit("short", expires=clock.now() + timedelta(minutes=3))
        await until(lambda: len(up.taken) == 4)
        for _ in range(510):
            await clock.advance(1)
        await hub.settled()
        before = len(down.hits)
        down.always = "200"
        await pass_time(clock, hub, 61)
        assert down.taken == ["grave", "update"], (
            "the gravest first, no revision that was replaced, nothing that expired"
        )
        assert {hit.identifier for hit in down.hits[before:]} == {"grave", "update"}
        await hub.settled()
        assert await hub.states("down") == {
            "first": DeliveryState.SUPERSEDED,
            "update": DeliveryState.DELIVERED,
            "grave": DeliveryState.DELIVERED,
            "short": DeliveryState.EXPIRED,
        }
        assert up.taken == ["first", *up.taken[1:]]


async def test_a_body_that_never_ends_is_an_answer_all_the_same(path: Path) -> None:
    async with receiving() as receiver, hub_on(path) as hub:
        receiver.always = "200:endless"
        await hub.dispatcher.subscribe(receiver.subscription("a"))
        await hub.submit("one")
        await hub.submit("two")
        await until(lambda: hub.dispatcher.stats()["delivered"] == 2)
        assert sorted(receiver.taken) == ["one", "two"]


async def test_a_crash_before_the_record_repeats_the_delivery_with_the_same_id(path: Path) -> None:
    async with receiving() as receiver:
        async with hub_on(path, around=Crash) as hub:
            await hub.dispatcher.subscribe(receiver.subscription("a"))
            await hub.submit("order")
            await until(lambda: receiver.taken)
        async with hub_on(path) as hub:
            await until(lambda: len(receiver.taken) == 2)
            await hub.settled()
        async with hub_on(path) as hub:
            await hub.submit("next")
            await until(lambda: len(receiver.taken) == 3)
    assert receiver.taken == ["order", "order", "next"]
    assert receiver.hits[0].key == receiver.hits[1].key != receiver.hits[2].key


async def test_retries_go_on_after_a_restart(path: Path) -> None:
    clock = FakeClock(datetime.now(UTC))
    async with receiving() as receiver:
        receiver.always = "503"
        async with hub_on(path, clock) as hub:
            await hub.dispatcher.subscribe(receiver.subscription("a"))
            await hub.submit("order")
            await until(lambda: receiver.hits)
            await hub.settled()
        receiver.always = "200"
        async with hub_on(path, clock) as hub:
            await pass_time(clock, hub, 1)
            await until(lambda: receiver.taken == ["order"])
    assert len({hit.key for hit in receiver.hits}) == 1


async def test_a_receiver_that_says_gone_is_asked_nothing_more(path: Path) -> None:
    async with receiving() as receiver:
        receiver.always = "410"
        async with hub_on(path) as hub:
            await hub.dispatcher.subscribe(receiver.subscription("a"))
            await hub.submit("one")
            await until(lambda: not hub.dispatcher.stats()["lanes"])
            await hub.settled()
            await hub.submit("two")
        async with hub_on(path) as hub:
            await hub.submit("three")
            assert await hub.dispatcher.subscriptions() == []
    assert [hit.identifier for hit in receiver.hits] == ["one"]


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_receivers_and_hub_do_every_target_gets_what_it_is_owed_in_order(
    path: Path, seed: int
) -> None:
    """Receivers that answer at random, revisions at random, crashes and restarts at random; then a history checker."""
    dice = random.Random(seed)
    clock = FakeClock(datetime.now(UTC))
    ways = ["200", "200", "500", "503", "429:1", "302", "reset"]
    chains: dict[str, list[Entry]] = defaultdict(list)
    async with AsyncExitStack() as stack:
        receivers = [await stack.enter_async_context(receiving()) for _ in range(3)]
        async with hub_on(path, clock) as hub:
            for n, receiver in enumerate(receivers):
                await hub.dispatcher.subscribe(receiver.subscription(f"r{n}"))
        for round in range(5):
            crash = round % 2 == 1
            async with hub_on(path, clock, Crash if crash else lambda store: store) as hub:
                for receiver in receivers:
                    receiver.behave = [dice.choice(ways) for _ in range(6)]
                for _ in range(4):
                    chain = dice.choice("xyz")
                    await submit_revision(hub, chain, chains[chain], dice)
                    await clock.advance(dice.choice([0, 1, 3]))
                    if not crash:
                        await hub.settled()
        async with hub_on(path, clock) as hub:
            for receiver in receivers:
                receiver.behave = []
            await until(lambda: hub.dispatcher.stats()["caught_up"])
            await pass_time(clock, hub, 62)
            await until(lambda: hub.dispatcher.stats()["waiting"] == 0)
    for receiver in receivers:
        check_history(receiver, chains)


async def submit_revision(hub: Hub, chain: str, known: list[Entry], dice: random.Random) -> None:
    number = len(known)
    changes: dict[str, Any] = {"severity": dice.choice(["Minor", "Severe", "Extreme"])}
    if known:
        changes |= {"msg_type": "Update", "references": known}
    sent = datetime.now(UTC) + timedelta(seconds=number)
    known.append(await hub.submit(f"{chain}{number}", sent=sent, **changes))


def check_history(receiver: Receiver, chains: dict[str, list[Entry]]) -> None:
    """Every chain's last revision arrived; none arrived after a later one, except as a repetition with the same key; one key for each alert."""
    keys: dict[str, set[str]] = defaultdict(set)
    for hit in receiver.hits:
        keys[hit.identifier].add(hit.key)
    assert all(len(several) == 1 for several in keys.values())
    assert len({key for several in keys.values() for key in several}) == len(keys)
    for chain, entries in chains.items():
        got = [int(name[1:]) for name in receiver.taken if name[0] == chain]
        first_times = list(dict.fromkeys(got))
        assert first_times == sorted(first_times), f"{chain}: {got}"
        assert got[-1] == len(entries) - 1, f"{chain}: {got}"


async def test_the_payload_is_the_alerts_json(path: Path) -> None:
    async with receiving() as receiver, hub_on(path) as hub:
        await hub.dispatcher.subscribe(receiver.subscription("a"))
        entry = await hub.submit("order", headline="人吉市に避難指示")
        await until(lambda: receiver.taken)
        data = msgspec.json.decode(receiver.hits[0].body)["data"]
    assert (data["position"], data["id"]) == (entry.position, entry.alert.id)
    assert data["info"][0]["headline"] == "人吉市に避難指示"
