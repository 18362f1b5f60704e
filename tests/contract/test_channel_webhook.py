"""The webhook under the suite that every channel must pass, and what is its own: payload, signature, addresses, answers."""

from __future__ import annotations

import asyncio
import base64
import zlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import msgspec
import pytest
import standardwebhooks
from aiohttp import web
from multidict import CIMultiDictProxy

from lalert.clock import Clock, SystemClock
from lalert.dispatch import guarded_session
from lalert.errors import BadRequest, ConfigError, DeliveryError, Gone, PermanentFailure, TemporaryFailure
from lalert.model import Delivery, Filter, Outcome, Status, Subscription
from lalert.plugin import Limits
from lalert.testing import FakeClock
from lalert.testing.channel import Answer, ChannelContract, Received, delivery, subscription
from lalert.testing.hub import FakeHub
from lalert_adapters.webhook import Webhook, WebhookConfig

LOOPBACK = ip_network("127.0.0.0/8")
SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
OLD_SECRET = "whsec_" + base64.b64encode(bytes(24)).decode()
CANARY_SECRET = "whsec_" + base64.b64encode(bytes(range(40, 72))).decode()
PATH = "/hooks/token-that-nobody-may-see"
STATUS = {Answer.OK: 204, Answer.TEMPORARY: 503, Answer.PERMANENT: 400, Answer.GONE: 410}


@dataclass
class Post:
    headers: CIMultiDictProxy[str]
    body: bytes
    path: str


@dataclass
class Receiver:
    """A server on loopback that answers as it is told, and keeps what it got."""

    posts: list[Post] = field(default_factory=list)
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    silent: bool = False
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{PATH}"

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.posts.append(Post(request.headers, await request.read(), request.path))
        if self.silent:
            await asyncio.Event().wait()
        return web.Response(status=self.status, headers=self.headers, body=self.body)


@dataclass
class WebhookRig:
    channel: Webhook
    subscription: Subscription
    receiver: Receiver

    def answer(self, how: Answer) -> None:
        self.receiver.silent = how is Answer.SILENCE
        self.receiver.status = STATUS.get(how, 200)

    def received(self) -> Sequence[Received]:
        return [Received(post.headers["webhook-id"], post.body.decode()) for post in self.receiver.posts]


@asynccontextmanager
async def make_rig(
    format: str = "json",
    secret: str = SECRET,
    config: WebhookConfig | None = None,
    clock: Clock | None = None,
    kind: type[Webhook] = Webhook,
) -> AsyncIterator[WebhookRig]:
    receiver = Receiver()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", receiver.handle)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        receiver.port = runner.addresses[0][1]
        with NamedTemporaryFile("w") as file:
            file.write(CANARY_SECRET)
            file.flush()
            chosen = config or WebhookConfig(allow_http=True, canary_secret_file=file.name)
            async with guarded_session([LOOPBACK]) as session:
                hub = FakeHub(session=session, clock=clock or SystemClock())
                async with kind("hook", chosen, hub) as channel:
                    asked = subscription("hook", receiver.url, format, secret=secret)
                    yield WebhookRig(channel, asked, receiver)
    finally:
        await runner.cleanup()


class TestWebhookWithJson(ChannelContract):
    def rig(self) -> Any:
        return make_rig("json")


class TestWebhookWithCap(ChannelContract):
    def rig(self) -> Any:
        return make_rig("cap")


# Payload and signature


async def test_a_receiver_verifies_it_with_the_standards_own_library() -> None:
    async with make_rig() as rig:
        sent = delivery(rig.subscription)
        await rig.channel.deliver(sent)
        [post] = rig.receiver.posts
        payload = standardwebhooks.Webhook(SECRET).verify(post.body, dict(post.headers))
    assert post.headers["webhook-id"] == sent.key
    assert post.headers["Content-Type"] == "application/json"
    assert payload["type"] == "alert"
    assert datetime.fromisoformat(payload["timestamp"]).tzinfo is not None
    assert payload["data"]["id"] == sent.entry.alert.id
    assert payload["data"]["info"][0]["headline"] == sent.entry.alert.infos[0].headline


@pytest.mark.parametrize("secret", [SECRET, OLD_SECRET])
async def test_while_a_secret_is_replaced_both_verify(secret: str) -> None:
    async with make_rig(secret=f"{SECRET} {OLD_SECRET}") as rig:
        await rig.channel.deliver(delivery(rig.subscription))
        [post] = rig.receiver.posts
        standardwebhooks.Webhook(secret).verify(post.body, dict(post.headers))


async def test_another_secret_does_not_verify() -> None:
    async with make_rig() as rig:
        await rig.channel.deliver(delivery(rig.subscription))
        [post] = rig.receiver.posts
        with pytest.raises(standardwebhooks.WebhookVerificationError):
            standardwebhooks.Webhook(OLD_SECRET).verify(post.body, dict(post.headers))


async def test_cap_goes_out_byte_for_byte_as_it_came_in() -> None:
    async with make_rig("cap") as rig:
        sent = delivery(rig.subscription)
        await rig.channel.deliver(sent)
        [post] = rig.receiver.posts
        standardwebhooks.Webhook(SECRET).verify(post.body, dict(post.headers), json_parse=False)
    assert post.body == sent.entry.alert.raw
    assert post.headers["Content-Type"] == "application/cap+xml"


async def test_every_attempt_carries_the_same_body_and_a_time_of_its_own() -> None:
    clock = FakeClock()
    async with make_rig(clock=clock) as rig:
        sent = delivery(rig.subscription)
        await rig.channel.deliver(sent)
        clock.move(60)
        await rig.channel.deliver(replace(sent, attempt=2))
        first, second = rig.receiver.posts
    assert first.body == second.body
    assert int(second.headers["webhook-timestamp"]) == int(first.headers["webhook-timestamp"]) + 60


async def test_a_drill_is_marked_in_the_headline_that_a_receiver_shows() -> None:
    async with make_rig() as rig:
        await rig.channel.deliver(delivery(rig.subscription, status=Status.EXERCISE))
        [post] = rig.receiver.posts
    data = msgspec.json.decode(post.body)["data"]
    assert data["info"][0]["headline"].startswith("【訓練】")
    assert data["status"] == "Exercise"


# The canary


async def test_a_canary_is_an_event_of_its_own_type_that_its_recipient_verifies_and_can_answer() -> None:
    async with make_rig() as rig:
        await rig.channel.canary(rig.receiver.url, "canary-1")
        [post] = rig.receiver.posts
        payload = standardwebhooks.Webhook(CANARY_SECRET).verify(post.body, dict(post.headers))
    assert post.headers["webhook-id"] == "canary-1"
    assert payload["type"] == "lalert.canary"
    assert payload["data"]["token"] == "canary-1"
    assert payload["data"]["answer"] == "http://hub.example/v1/canaries/canary-1"


async def test_a_canary_without_a_secret_says_what_to_set_and_calls_nobody() -> None:
    async with make_rig(config=WebhookConfig(allow_http=True)) as rig:
        with pytest.raises(PermanentFailure, match="canary_secret_file"):
            await rig.channel.canary(rig.receiver.url, "canary-1")
        assert rig.receiver.posts == []


@pytest.mark.parametrize("content", ["", "whsec_short", None])
async def test_a_secret_of_the_canary_that_does_not_hold_is_a_mistake_of_the_configuration(
    tmp_path: Path, content: str | None
) -> None:
    file = tmp_path / "secret"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigError, match="canary_secret_file"):
        async with make_rig(config=WebhookConfig(canary_secret_file=str(file))):
            pass


async def test_a_preview_is_the_very_body_that_is_sent() -> None:
    async with make_rig() as rig:
        sent = delivery(rig.subscription)
        await rig.channel.deliver(sent)
        [post] = rig.receiver.posts
        [part] = rig.channel.preview(sent.entry, rig.subscription.lang).parts
    assert part.text == post.body.decode()


# For the history


async def test_an_outcome_and_a_failure_say_what_was_sent_and_how_the_answer_begins() -> None:
    async with make_rig() as rig:
        sent = delivery(rig.subscription)
        rig.receiver.body = "受け取りました\n".encode() + b"x" * 10_000
        outcome = await rig.channel.deliver(sent)
        [post] = rig.receiver.posts
        rig.receiver.status, rig.receiver.headers, rig.receiver.body = (
            503,
            {"Retry-After": "7"},
            b"\xff later",
        )
        with pytest.raises(TemporaryFailure) as caught:
            await rig.channel.deliver(sent)
    request = f"POST application/json, {len(post.body)} bytes, webhook-id {sent.key}"
    assert (outcome.request, caught.value.request) == (request, request)
    assert outcome.response.startswith("HTTP 200, 受け取りました xxx")
    assert len(outcome.response) < 320
    assert caught.value.response == "HTTP 503, Retry-After 7, \ufffd later"


async def test_who_cannot_be_called_has_said_nothing() -> None:
    async with make_rig() as rig:
        gone = replace(rig.subscription, target="http://127.0.0.1:1/")
        with pytest.raises(TemporaryFailure) as caught:
            await rig.channel.deliver(delivery(gone))
    assert caught.value.request.startswith("POST ")
    assert caught.value.response == ""


# What an answer means


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
async def test_every_2xx_is_a_success(status: int) -> None:
    async with make_rig() as rig:
        rig.receiver.status = status
        assert await rig.channel.deliver(delivery(rig.subscription)) == Outcome(f"HTTP {status}")


@pytest.mark.parametrize(
    "status", [302, 303, 307, 404, 408, 421, 425, 429, 500, 501, 502, 503, 504, 507, 599]
)
async def test_what_may_pass_is_temporary(status: int) -> None:
    await answers_with(status, TemporaryFailure)


@pytest.mark.parametrize("status", [300, 301, 304, 308, 400, 401, 403, 405, 409, 413, 415, 422, 451])
async def test_what_will_not_change_by_itself_is_permanent(status: int) -> None:
    await answers_with(status, PermanentFailure)


async def test_410_means_gone() -> None:
    await answers_with(410, Gone)


async def answers_with(status: int, kind: type[DeliveryError]) -> None:
    async with make_rig() as rig:
        rig.receiver.status = status
        rig.receiver.headers = {"Location": "/elsewhere"}
        with pytest.raises(DeliveryError) as caught:
            await rig.channel.deliver(delivery(rig.subscription))
        assert type(caught.value) is kind
        assert caught.value.detail == f"HTTP {status}"
        assert [post.path for post in rig.receiver.posts] == [PATH], "a redirect was followed"


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("7", 7.0),
        (" 120 ", 120.0),
        ("0", 0.0),
        ("999999999", 86_400.0),
        ("9999999999999999999999", None),
        ("-5", None),
        ("１２", None),
        ("1e3", None),
        ("soon", None),
        ("", None),
        ("Fri, 99 Foo 2026 00:00:00 GMT", None),
    ],
)
async def test_retry_after_in_seconds_is_read(said: str, seconds: float | None) -> None:
    async with make_rig() as rig:
        rig.receiver.status = 429
        rig.receiver.headers = {"Retry-After": said}
        with pytest.raises(TemporaryFailure) as caught:
            await rig.channel.deliver(delivery(rig.subscription))
        assert caught.value.retry_after == seconds


@pytest.mark.parametrize(("ahead", "least", "most"), [(90, 80, 91), (-90, 0, 0), (10**8, 86_400, 86_400)])
async def test_retry_after_as_a_date_is_read(ahead: int, least: float, most: float) -> None:
    async with make_rig() as rig:
        when = datetime.now(UTC) + timedelta(seconds=ahead)
        rig.receiver.status = 503
        rig.receiver.headers = {"Retry-After": when.strftime("%a, %d %b %Y %H:%M:%S GMT")}
        with pytest.raises(TemporaryFailure) as caught:
            await rig.channel.deliver(delivery(rig.subscription))
        assert caught.value.retry_after is not None
        assert least <= caught.value.retry_after <= most


async def test_a_receiver_that_says_nothing_is_a_temporary_failure_after_the_configured_time() -> None:
    async with make_rig(config=WebhookConfig(timeout_s=1.0, allow_http=True)) as rig:
        rig.answer(Answer.SILENCE)
        with pytest.raises(TemporaryFailure, match="no answer within 1 s"):
            await rig.channel.deliver(delivery(rig.subscription))


async def test_a_receiver_that_is_not_there_is_a_temporary_failure() -> None:
    async with make_rig() as rig:
        nowhere = replace(rig.subscription, target="http://127.0.0.1:1/")
        with pytest.raises(TemporaryFailure, match="cannot connect"):
            await rig.channel.deliver(delivery(nowhere))


async def test_an_address_that_is_not_public_is_not_called_and_the_reason_names_none() -> None:
    async with make_rig() as rig:
        inside = replace(rig.subscription, target="http://10.1.2.3/")
        with pytest.raises(TemporaryFailure, match="not a public one") as caught:
            await rig.channel.deliver(delivery(inside))
        assert "10.1.2.3" not in caught.value.detail


# Answers that misbehave


@asynccontextmanager
async def raw_receiver(reply: Callable[[asyncio.StreamWriter], Any]) -> AsyncIterator[str]:
    """A TCP server that reads a request and then does what the test says."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await reply(writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    finally:
        server.close()


async def send_to(url: str) -> Outcome:
    async with guarded_session([LOOPBACK]) as session:
        config = WebhookConfig(timeout_s=5.0, allow_http=True)
        channel = Webhook("hook", config, FakeHub(session=session))
        async with asyncio.timeout(4):
            return await channel.deliver(delivery(subscription("hook", url, secret=SECRET)))


async def endless(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n")
    while True:
        writer.write(b"x" * 65_536)
        await writer.drain()


async def dripping(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"1\r\nx\r\n")
        await writer.drain()
        await asyncio.sleep(0.05)


async def bomb(writer: asyncio.StreamWriter) -> None:
    packed = zlib.compress(bytes(50_000_000))
    writer.write(
        b"HTTP/1.1 200 OK\r\nContent-Encoding: deflate\r\nContent-Length: %d\r\n\r\n" % len(packed) + packed
    )
    await writer.drain()
    await asyncio.sleep(5)


@pytest.mark.parametrize("reply", [endless, dripping, bomb], ids=lambda reply: str(reply.__name__))
async def test_a_200_counts_whatever_body_follows_and_the_body_is_not_waited_for(
    reply: Callable[[asyncio.StreamWriter], Any],
) -> None:
    async with raw_receiver(reply) as url:
        assert await send_to(url) == Outcome("HTTP 200")


async def reset(writer: asyncio.StreamWriter) -> None:
    transport = writer.transport
    assert isinstance(transport, asyncio.Transport)
    transport.abort()


async def hang_up(writer: asyncio.StreamWriter) -> None:
    writer.close()


async def nonsense(writer: asyncio.StreamWriter) -> None:
    writer.write(b"SSH-2.0-OpenSSH_9.6\r\n")
    await writer.drain()


async def huge_header(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 1_000_000 + b"\r\n\r\n")
    await writer.drain()


@pytest.mark.parametrize(
    "reply", [reset, hang_up, nonsense, huge_header], ids=lambda reply: str(reply.__name__)
)
async def test_a_connection_that_breaks_is_a_temporary_failure(
    reply: Callable[[asyncio.StreamWriter], Any],
) -> None:
    async with raw_receiver(reply) as url:
        with pytest.raises(TemporaryFailure) as caught:
            await send_to(url)
        assert "127.0.0.1" not in caught.value.detail


# What may be subscribed


def webhook(**config: Any) -> Webhook:
    return Webhook("hook", msgspec.convert(config, WebhookConfig), FakeHub())


@pytest.mark.parametrize(
    "target",
    [
        "https://receiver.example.jp/alerts",
        "https://receiver.example.jp:8443/a?b=c",
        "https://xn--wgv71a119e.example/",
        "https://[2606:4700::1111]/",
    ],
)
def test_an_https_address_is_taken(target: str) -> None:
    webhook().check_subscription(subscription("hook", target, secret=SECRET))


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("http://receiver.example.jp/", "https"),
        ("ftp://receiver.example.jp/", "https"),
        ("file:///etc/passwd", "https"),
        ("//receiver.example.jp/", "https"),
        ("https:///path", "host"),
        ("https://", "host"),
        ("https://receiver.example.jp:0/", "host"),
        ("https://receiver.example.jp:99999/", "URL"),
        ("https://[::1/", "URL"),
        ("https://user:pass@receiver.example.jp/", "password"),
        ("https://@receiver.example.jp/", "password"),
        ("https://receiver.example.jp/#part", "fragment"),
        ("https://receiver.example.jp/\r\nX-Evil: 1", "printable"),
        ("https://receiver.example.jp/a b", "printable"),
        ("https://受信.example.jp/", "printable"),
        ("https://receiver.example.jp/" + "a" * 2_048, "2048"),
        ("", "https"),
    ],
)
def test_an_address_that_will_not_do_is_refused_with_the_reason(target: str, reason: str) -> None:
    with pytest.raises(BadRequest, match=reason) as caught:
        webhook().check_subscription(subscription("hook", target, secret=SECRET))
    assert caught.value.detail.startswith("target: ")


def test_http_is_taken_only_where_the_operator_allows_it() -> None:
    webhook(allow_http=True).check_subscription(
        subscription("hook", "http://receiver.example.jp/", secret=SECRET)
    )


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "whsec_",
        "whsec_!!!!",
        "whsec_" + base64.b64encode(bytes(23)).decode(),
        "whsec_" + base64.b64encode(bytes(65)).decode(),
        base64.b64encode(bytes(32)).decode(),
        "whsk_" + base64.b64encode(bytes(32)).decode(),
        " ".join([SECRET] * 5),
        f"{SECRET} short",
    ],
)
def test_a_secret_that_will_not_do_is_refused_and_not_repeated(secret: str) -> None:
    with pytest.raises(BadRequest) as caught:
        webhook().check_subscription(subscription("hook", "https://receiver.example.jp/", secret=secret))
    assert caught.value.detail.startswith("options.secret: ")
    assert len(secret) < 12 or secret not in caught.value.detail


def test_who_brings_no_secret_is_given_one_that_signs() -> None:
    asked = Subscription("s", "hook", "https://receiver.example.jp/", Filter(), datetime.now(UTC))
    first, second = (webhook().check_subscription(asked).options["secret"] for _ in range(2))
    assert first != second
    standardwebhooks.Webhook(first).sign("id", datetime.now(UTC), "{}")
    assert len(base64.b64decode(first.removeprefix("whsec_"))) == 32


def test_an_unknown_option_or_format_is_refused() -> None:
    known = subscription("hook", "https://receiver.example.jp/", secret=SECRET)
    with pytest.raises(BadRequest, match="secrt"):
        webhook().check_subscription(replace(known, options={"secrt": SECRET}))
    with pytest.raises(BadRequest, match="format"):
        webhook().check_subscription(replace(known, format="geojson"))


@pytest.mark.parametrize(
    "config", [{"timeout_s": 0}, {"timeout_s": 60}, {"user_agent": "a\r\nb"}, {"user_agent": "警報"}]
)
def test_a_configuration_that_will_not_do_is_refused(config: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        webhook(**config)


# The suite itself: a channel with a defect does not pass


class ForgetsKey(Webhook):
    """A new key with every attempt: the receiver cannot tell a repetition from a second alert."""

    async def deliver(self, delivery: Delivery) -> Outcome:
        return await super().deliver(replace(delivery, key=f"{delivery.key}-{delivery.attempt}"))


class LosesKey(Webhook):
    """One key for everything: the second alert would be dropped as a repetition."""

    async def deliver(self, delivery: Delivery) -> Outcome:
        return await super().deliver(replace(delivery, key="always-the-same"))


class ClingsOn(Webhook):
    """Swallows its cancellation."""

    async def deliver(self, delivery: Delivery) -> Outcome:
        try:
            return await super().deliver(delivery)
        except asyncio.CancelledError:
            return Outcome("never mind")


class Tells(Webhook):
    """Shows the target in its errors."""

    async def deliver(self, delivery: Delivery) -> Outcome:
        try:
            return await super().deliver(delivery)
        except DeliveryError as error:
            raise type(error)(f"{delivery.subscription.target}: {error.detail}") from None


class Hides(Webhook):
    """Sends drills like real alerts."""

    async def deliver(self, delivery: Delivery) -> Outcome:
        alert = replace(delivery.entry.alert, status=Status.ACTUAL, note=None)
        return await super().deliver(replace(delivery, entry=replace(delivery.entry, alert=alert)))


class GivesUp(Webhook):
    """Takes every failure for a lasting one."""

    async def deliver(self, delivery: Delivery) -> Outcome:
        try:
            return await super().deliver(delivery)
        except DeliveryError as error:
            raise PermanentFailure(error.detail) from None


class GoesOn(Webhook):
    """Takes every failure for one that passes, also of who unsubscribed."""

    async def deliver(self, delivery: Delivery) -> Outcome:
        try:
            return await super().deliver(delivery)
        except DeliveryError as error:
            raise TemporaryFailure(error.detail) from None


class SaysNothing(Webhook):
    """Reports a failure as a success."""

    async def deliver(self, delivery: Delivery) -> Outcome:
        try:
            return await super().deliver(delivery)
        except DeliveryError as error:
            return Outcome(error.detail)


class TakesAnything(Webhook):
    def check_subscription(self, subscription: Subscription) -> Subscription:
        return subscription


class Invents(Webhook):
    """Makes a new secret at every check: the receiver's own would be worthless."""

    def check_subscription(self, subscription: Subscription) -> Subscription:
        return super().check_subscription(replace(subscription, options={}))


class WaitsForEver(Webhook):
    limits = Limits(timeout=3_600)


@pytest.mark.parametrize(
    ("defective", "caught_by"),
    [
        (ForgetsKey, "test_every_attempt_carries_the_same_key"),
        (LosesKey, "test_two_alerts_have_two_keys"),
        (ClingsOn, "test_a_delivery_that_is_broken_off_ends_at_once_and_does_no_harm"),
        (Tells, "test_a_passing_failure_is_temporary"),
        (Tells, "test_a_lasting_failure_is_permanent"),
        (Hides, "test_a_drill_is_marked_or_the_channel_says_that_it_is_not_drill_safe"),
        (GivesUp, "test_a_passing_failure_is_temporary"),
        (GivesUp, "test_a_target_that_unsubscribed_is_gone"),
        (GoesOn, "test_a_lasting_failure_is_permanent"),
        (SaysNothing, "test_a_passing_failure_is_temporary"),
        (TakesAnything, "test_an_empty_target_is_refused_with_a_reason"),
        (Invents, "test_a_subscription_is_taken_and_checking_it_again_changes_nothing"),
        (WaitsForEver, "test_it_is_a_channel_with_sane_limits"),
    ],
)
async def test_a_channel_with_a_defect_does_not_pass_the_suite(
    defective: type[Webhook], caught_by: str
) -> None:
    class Suite(ChannelContract):
        def rig(self) -> Any:
            return make_rig(kind=defective)

    with pytest.raises(AssertionError):
        await getattr(Suite(), caught_by)()
