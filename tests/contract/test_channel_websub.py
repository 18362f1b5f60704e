"""The WebSub hub of the feeds: the suite of every channel, and a subscriber written to the recommendation."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from lalert.config import Hub, Settings
from lalert.dispatch import guarded_session
from lalert.errors import BadRequest, DeliveryError, Gone, PermanentFailure
from lalert.model import Delivery, Filter, Outcome, Role, Status, Subscription
from lalert.testing import FakeClock, make_cap
from lalert.testing.channel import Answer, ChannelContract, Received, delivery, until
from lalert.testing.endpoint import serving
from lalert.testing.hub import FakeHub
from lalert.testing.node import RunningNode, running_node
from lalert_adapters import syndication_websub
from lalert_adapters.syndication import Syndication, SyndicationConfig
from lalert_adapters.syndication_websub import WebSubConfig, subscription_id
from tests.redis_kit import valkey
from tests.system.nodes_kit import nodes

TOPIC = "/feeds/all.atom"
SECRET = "a-secret-that-nobody-may-see"
STATUS = {Answer.OK: 204, Answer.TEMPORARY: 503, Answer.PERMANENT: 400, Answer.GONE: 410}
CONFIG = SyndicationConfig(websub=WebSubConfig(allow_http=True))


@dataclass
class Subscriber:
    """A callback on loopback: answers what it wants with the challenge, and keeps all that it is told."""

    port: int = 0
    asked: list[dict[str, str]] = field(default_factory=list)
    pushes: list[tuple[Any, bytes]] = field(default_factory=list)
    wants: bool = True
    challenge: str | None = None
    status: int = 200
    silent: bool = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/callback-with-a-token?for=me"

    async def handle(self, request: web.Request) -> web.Response:
        if request.method == "GET":
            assert request.query["for"] == "me"
            self.asked.append(dict(request.query))
            if not self.wants:
                return web.Response(status=404)
            return web.Response(text=self.challenge or request.query.get("hub.challenge", ""))
        self.pushes.append((request.headers.copy(), await request.read()))
        if self.silent:
            await asyncio.Event().wait()
        return web.Response(status=self.status, headers={"Location": "/elsewhere"})


@asynccontextmanager
async def subscriber() -> AsyncIterator[Subscriber]:
    receiver = Subscriber()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", receiver.handle)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        receiver.port = runner.addresses[0][1]
        yield receiver
    finally:
        await runner.cleanup()


# The suite of every channel


class InTheLog(Syndication):
    """As in a hub, what is delivered is in the log and in the feed of its status; each in a second of its own."""

    async def deliver(self, delivery: Delivery) -> Outcome:
        hub = self._hub
        assert isinstance(hub, FakeHub)
        if all(entry.position != delivery.entry.position for entry in hub.entries):
            hub.add(delivery.entry)
        kept = delivery.subscription
        if delivery.entry.alert.status is Status.EXERCISE:
            kept = replace(kept, options={**kept.options, "topic": f"{TOPIC}?status=exercise"})
        return await super().deliver(replace(delivery, subscription=kept))


@dataclass
class Rig:
    channel: Syndication
    subscription: Subscription
    receiver: Subscriber

    def answer(self, how: Answer) -> None:
        self.receiver.silent = how is Answer.SILENCE
        self.receiver.status = STATUS.get(how, 200)

    def received(self) -> Sequence[Received]:
        return [
            Received(headers["X-Lalert-Delivery"], body.decode()) for headers, body in self.receiver.pushes
        ]


@asynccontextmanager
async def make_rig() -> AsyncIterator[Rig]:
    async with subscriber() as receiver, guarded_session([ip_network("127.0.0.0/8")]) as session:
        clock = FakeClock()
        lease = (clock.now() + timedelta(hours=1)).isoformat()
        kept = Subscription(
            subscription_id("feeds", receiver.url, TOPIC),
            "feeds",
            receiver.url,
            Filter(),
            clock.now(),
            options={"topic": TOPIC, "secret": SECRET, "until": lease},
        )
        async with InTheLog("feeds", CONFIG, FakeHub(session=session, clock=clock)) as channel:
            await asyncio.sleep(0)
            yield Rig(channel, kept, receiver)


class TestWebSub(ChannelContract):
    def rig(self) -> Any:
        return make_rig()


async def test_what_waited_together_is_one_document_and_a_repetition_is_sent_again() -> None:
    async with make_rig() as rig:
        first, second = delivery(rig.subscription, 1), delivery(rig.subscription, 2)
        hub = rig.channel._hub
        assert isinstance(hub, FakeHub)
        hub.add(first.entry, second.entry)
        assert await rig.channel.deliver(first) == Outcome("HTTP 200")
        assert await rig.channel.deliver(second) == Outcome("unchanged since the last push")
        await rig.channel.deliver(first)
        assert len(rig.receiver.pushes) == 2


async def test_a_delivery_that_is_quicker_than_the_follower_of_the_log_pushes_no_old_feed() -> None:
    async with make_rig() as rig:
        hub = rig.channel._hub
        assert isinstance(hub, FakeHub)
        await rig.channel.deliver(delivery(rig.subscription, 1))
        await until(lambda: rig.channel._following)
        await rig.channel.deliver(delivery(rig.subscription, 1))
        second = delivery(rig.subscription, 2)
        hub.entries.append(second.entry)
        assert await rig.channel.deliver(second) == Outcome("HTTP 200")
        assert second.entry.alert.id.encode() in rig.receiver.pushes[-1][1]


async def test_after_the_lease_nothing_is_sent_and_the_subscription_ends() -> None:
    async with make_rig() as rig:
        clock = rig.channel._hub.clock
        assert isinstance(clock, FakeClock)
        clock.move(3_600)
        with pytest.raises(Gone, match="lease"):
            await rig.channel.deliver(delivery(rig.subscription))
        assert rig.receiver.pushes == []


async def test_of_a_feed_that_is_no_more_the_subscriber_is_told() -> None:
    async with make_rig() as rig:
        old = replace(rig.subscription, options={**rig.subscription.options, "topic": "/feeds/kind/old.atom"})
        with pytest.raises(Gone):
            await rig.channel.deliver(delivery(old))
        [asked] = rig.receiver.asked
        assert (asked["hub.mode"], asked["hub.topic"]) == ("denied", "http://hub.example/feeds/kind/old.atom")


@pytest.mark.parametrize("status", [301, 308, 403])
async def test_redirects_are_not_followed_and_a_refusal_lasts(status: int) -> None:
    async with make_rig() as rig:
        rig.receiver.status = status
        with pytest.raises(DeliveryError) as caught:
            await rig.channel.deliver(delivery(rig.subscription))
        assert type(caught.value) is PermanentFailure
        assert len(rig.receiver.pushes) == 1


async def test_a_subscription_that_no_callback_has_confirmed_is_refused() -> None:
    async with make_rig() as rig:
        with pytest.raises(BadRequest, match="/websub"):
            rig.channel.check_subscription(replace(rig.subscription, id="sub-0011223344556677"))


# Subscribing


@dataclass
class Desk:
    """The hub as who subscribes sees it."""

    hub: FakeHub
    url: str
    http: aiohttp.ClientSession
    receiver: Subscriber
    adapter: Syndication

    async def ask(self, mode: str = "subscribe", topic: str = TOPIC, **more: str) -> int:
        form = {"hub.mode": mode, "hub.topic": self.hub.base_url + topic, "hub.callback": self.receiver.url}
        form |= {f"hub.{name}": value for name, value in more.items()}
        async with self.http.post(f"{self.url}/websub", data=form) as response:
            status = response.status
        await until(lambda: not self.adapter._websub._calls)
        return status

    def lease(self) -> timedelta:
        [kept] = self.hub.saved.values()
        return syndication_websub._until(kept) - self.hub.clock.now()


@asynccontextmanager
async def desk(**websub: Any) -> AsyncIterator[Desk]:
    config = SyndicationConfig(websub=WebSubConfig(**{"allow_http": True, **websub}))
    async with subscriber() as receiver, guarded_session([ip_network("127.0.0.0/8")]) as session:
        hub = FakeHub(session=session, clock=FakeClock())
        adapter = Syndication("feeds", config, hub)
        async with serving(adapter) as url, aiohttp.ClientSession() as http:
            yield Desk(hub, url, http, receiver, adapter)


async def test_a_callback_that_confirms_is_subscribed_and_a_renewal_replaces() -> None:
    async with desk() as at:
        assert await at.ask(secret="old") == 202
        assert await at.ask(secret=SECRET, lease_seconds="7200", unknown="ignored") == 202
        [kept] = at.hub.saved.values()
        assert (kept.target, kept.options["topic"], kept.options["secret"]) == (
            at.receiver.url,
            TOPIC,
            SECRET,
        )
        assert at.lease() == timedelta(hours=2)
        assert at.receiver.asked[1]["hub.topic"] == "http://hub.example/feeds/all.atom"
        assert at.receiver.asked[1]["hub.lease_seconds"] == "7200"
        assert at.adapter.check_subscription(kept) == kept


@pytest.mark.parametrize(
    ("asked", "lease"), [("1", 3_600), ("0", 3_600), ("315360000", 14 * 86_400), ("", 7 * 86_400)]
)
async def test_a_lease_lasts_an_hour_to_two_weeks(asked: str, lease: int) -> None:
    async with desk() as at:
        await at.ask(lease_seconds=asked)
        assert at.lease() == timedelta(seconds=lease)
        assert at.receiver.asked[0]["hub.lease_seconds"] == str(lease)


@pytest.mark.parametrize("how", [{"wants": False}, {"challenge": "wrong"}, {"challenge": "x" * 100_000}])
async def test_who_does_not_confirm_is_asked_once_and_not_subscribed(how: dict[str, Any]) -> None:
    async with desk() as at:
        for name, value in how.items():
            setattr(at.receiver, name, value)
        assert await at.ask() == 202
        assert (len(at.receiver.asked), at.hub.saved) == (1, {})


async def test_nobody_unsubscribes_others() -> None:
    async with desk() as at:
        await at.ask("unsubscribe")
        assert at.receiver.asked == [], "who is not subscribed was called"
        await at.ask()
        at.receiver.wants = False
        await at.ask("unsubscribe")
        assert len(at.hub.saved) == 1
        at.receiver.wants = True
        await at.ask("unsubscribe")
        assert at.hub.saved == {}
        assert "hub.lease_seconds" not in at.receiver.asked[-1]


async def test_who_has_no_room_is_denied_with_the_reason_until_a_lease_runs_out() -> None:
    async with desk(max_per_host=1) as at:
        await at.ask(lease_seconds="1")
        await at.ask(topic="/feeds/43.rss")
        assert at.receiver.asked[-1]["hub.mode"] == "denied"
        assert "host" in at.receiver.asked[-1]["hub.reason"]
        assert isinstance(at.hub.clock, FakeClock)
        at.hub.clock.move(3_600)
        await at.ask(topic="/feeds/43.rss")
        assert [kept.options["topic"] for kept in at.hub.saved.values()] == ["/feeds/43.rss"]


@pytest.mark.parametrize(
    ("status", "changes"),
    [
        (400, {"mode": "publish"}),
        (400, {"callback": "ftp://receiver.example/"}),
        (400, {"callback": "https://user:pass@receiver.example/"}),
        (400, {"callback": "https://receiver.example/#a"}),
        (400, {"callback": "https://receiver.example/\r\nX: y"}),
        (400, {"callback": ""}),
        (400, {"lease_seconds": "-1"}),
        (400, {"lease_seconds": "soon"}),
        (400, {"secret": "あ" * 67}),
        (404, {"topic": "/feeds/nowhere.atom"}),
        (404, {"topic": "/feeds/43203.atom"}),
        (404, {"topic": "/v1/alerts"}),
        (400, {"topic": "/feeds/all.atom?a=b"}),
        (413, {"secret": "x" * 20_000}),
    ],
)
async def test_what_does_not_read_is_refused_and_nobody_is_called(
    status: int, changes: dict[str, str]
) -> None:
    async with desk() as at:
        assert await at.ask(**changes) == status
        assert at.receiver.asked == []


async def test_http_is_called_only_where_the_operator_allows_it_and_inner_addresses_never() -> None:
    async with desk(allow_http=False) as at:
        assert await at.ask() == 400
    async with desk() as at:
        assert await at.ask(callback="http://10.1.2.3/") == 202
        assert at.hub.saved == {}


async def test_a_flood_is_bounded() -> None:
    async with desk() as at:
        answers = [await at.ask(topic="/feeds/nowhere.atom") for _ in range(61)]
        assert answers == [404] * 60 + [429]
        assert isinstance(at.hub.clock, FakeClock)
        at.hub.clock.move(60)
        assert await at.ask() == 202


async def test_who_asks_while_very_many_are_subscribed_holds_up_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with desk() as at:
        await at.ask()
        [one] = at.hub.saved.values()
        for n in range(2_000):
            at.hub.saved[f"{n}"] = replace(one, id=f"{n}", target=f"https://{n}.example/")
        looked, most = 0, 0
        until_of = syndication_websub._until

        def look(subscription: Subscription) -> Any:
            nonlocal looked, most
            looked += 1
            most = max(most, looked)
            return until_of(subscription)

        async def turns() -> None:
            nonlocal looked
            while True:
                looked = 0
                await asyncio.sleep(0)

        monkeypatch.setattr(syndication_websub, "_until", look)
        loop = asyncio.create_task(turns())
        assert await at.ask() == 202
        loop.cancel()
        assert 0 < most <= 2 * syndication_websub.AT_ONCE


async def test_one_callback_host_is_not_called_at_the_bidding_of_many() -> None:
    async with desk(max_per_minute=2) as at:
        answers = []
        for _ in range(3):
            at.adapter._websub._askers._counts.clear()  # as if each came from an address of its own
            answers.append(await at.ask())
        assert answers == [202, 202, 429]
        assert len(at.receiver.asked) == 2


async def test_the_feed_names_its_hub_and_itself() -> None:
    async with desk() as at, at.http.get(f"{at.url}/feeds/43/rain.rss?status=test") as response:
        assert response.headers["Link"] == (
            '<http://hub.example/websub>; rel="hub", <http://hub.example/feeds/43/rain.rss?status=test>; rel="self"'
        )


async def test_it_can_be_turned_off() -> None:
    async with desk(enabled=False) as at:
        assert await at.ask() == 404
        async with at.http.get(f"{at.url}{TOPIC}") as response:
            assert "Link" not in response.headers
            assert b"websub" not in await response.read()


# A whole node


async def test_a_subscriber_is_pushed_the_signed_feed_also_after_a_restart_until_410(tmp_path: Path) -> None:
    settings = Settings(adapters={"feeds": {"websub": {"allow_http": True}}})
    async with subscriber() as receiver:
        async with running_node(tmp_path / "data", settings) as node:
            form = {"hub.mode": "subscribe", "hub.callback": receiver.url, "hub.secret": SECRET}
            form["hub.topic"] = f"{node.url}/feeds/432032.atom"
            async with node.http.post(f"{node.url}/websub", data=form) as response:
                assert response.status == 202
            await until_subscribed(node, 1)
            assert (await node.post(make_cap(identifier="one", codes=["432032"])))[0] == 201
            await until(lambda: receiver.pushes)
            async with node.http.get(f"{node.url}/feeds/432032.atom") as response:
                fetched, link = await response.read(), response.headers["Link"]
            headers, body = receiver.pushes[0]
            assert (body, headers["Link"]) == (fetched, link)
            assert headers["Content-Type"] == "application/atom+xml; charset=utf-8"
            signature = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
            assert headers["X-Hub-Signature"] == f"sha256={signature}"
            key = node.keys[Role.SENDER]
        async with running_node(tmp_path / "data", settings) as node:
            receiver.status = 410
            assert (await node.post(make_cap(identifier="two", codes=["432032"]), key))[0] == 201
            await until(lambda: len(receiver.pushes) == 2)
            await until_subscribed(node, 0)


async def test_who_subscribed_at_one_node_is_pushed_what_another_took(tmp_path: Path) -> None:
    settings = Settings(
        hub=Hub(base_url="https://alert.example"), adapters={"feeds": {"websub": {"allow_http": True}}}
    )
    (tmp_path / "valkey").mkdir()
    keys: set[str] = set()
    async with subscriber() as receiver:
        with valkey(tmp_path / "valkey") as server:
            async with nodes(f"redis://127.0.0.1:{server.port}", tmp_path, settings=settings) as (a, b):
                form = {"hub.mode": "subscribe", "hub.topic": "https://alert.example/feeds/432032.atom"}
                for number in range(8):
                    form["hub.callback"] = f"{receiver.url}&number={number}"
                    async with a.http.post(f"{a.url}/websub", data=form) as response:
                        assert response.status == 202
                await until_subscribed(a, 8)
                for node, headline in ((b, "一つ目"), (a, "二つ目")):
                    receiver.pushes.clear()
                    await node.post(make_cap(identifier=headline, headline=headline, codes=["432032"]))
                    await until(lambda: len(receiver.pushes) == 8)
                    assert all(headline in body.decode() for _, body in receiver.pushes)
                    keys |= {headers["X-Lalert-Delivery"] for headers, _ in receiver.pushes}
                assert len(keys) == 16


async def until_subscribed(node: RunningNode, number: int) -> None:
    async with asyncio.timeout(10):
        while len(await node.node.hub.dispatcher.subscriptions()) != number:
            await asyncio.sleep(0.01)
