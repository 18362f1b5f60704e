"""Web Push: a push service on loopback that decrypts what it gets, and what browsers ask of the hub."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import tomllib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from importlib.metadata import EntryPoint
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from lalert import registry
from lalert.clock import Clock, SystemClock
from lalert.config import Settings
from lalert.dispatch import guarded_session
from lalert.errors import BadRequest, ConfigError, DeliveryError, Gone, PermanentFailure, TemporaryFailure
from lalert.model import Delivery, Facts, Filter, MsgType, Outcome, Severity, Status, Subscription
from lalert.plugin import Health, HubApi, PagePart, Text
from lalert.testing import FakeClock, make_alert, make_cap
from lalert.testing.channel import Answer, ChannelContract, Received, delivery, subscription
from lalert.testing.endpoint import EndpointContract, serving
from lalert.testing.hub import FakeHub
from lalert.testing.node import running_node
from lalert_adapters.webpush import WebPush, WebPushConfig
from tests.push_kit import Browser, PushService, base64url, claims, push_service, unbase64url

LOOPBACK = ip_network("127.0.0.0/8")
CONTACT = "mailto:bousai@hitoyoshi.example"
ROOT = Path(__file__).parents[2]
PATH = "/push/token-that-nobody-may-see"
HITOYOSHI = "432032"
STATUS = {Answer.OK: 201, Answer.TEMPORARY: 503, Answer.PERMANENT: 400, Answer.GONE: 410}


def config(**own: Any) -> WebPushConfig:
    given = {"contact": CONTACT, "services": ["127.0.0.1"], "allow_http": True}
    return msgspec.convert(given | own, WebPushConfig)


@dataclass
class PushRig:
    channel: WebPush
    subscription: Subscription
    service: PushService
    browser: Browser
    hub: FakeHub

    def answer(self, how: Answer) -> None:
        self.service.silent = how is Answer.SILENCE
        self.service.status = STATUS.get(how, 201)

    def notes(self) -> list[dict[str, Any]]:
        return [json.loads(self.browser.open(pushed.body)) for pushed in self.service.pushed]

    def received(self) -> Sequence[Received]:
        return [Received(note["key"], note["title"] + note["body"]) for note in self.notes()]


@asynccontextmanager
async def make_rig(clock: Clock | None = None, **own: Any) -> AsyncIterator[PushRig]:
    async with push_service() as service, guarded_session([LOOPBACK]) as session:
        hub, browser = FakeHub(session=session, clock=clock or SystemClock()), Browser()
        async with WebPush("push", config(**own), hub) as channel:
            target = subscription("push", service.url + PATH, **browser.keys)
            hub.saved[target.id] = target
            yield PushRig(channel, target, service, browser, hub)


class TestWebPush(ChannelContract):
    def rig(self) -> Any:
        return make_rig()


class TestDesk(EndpointContract):
    def make(self, hub: HubApi) -> WebPush:
        return WebPush("push", config(), hub)


# What is pushed


async def pushed(rig: PushRig, sent: Delivery) -> tuple[dict[str, Any], dict[str, str]]:
    """Deliver, and return the note and the headers."""
    await rig.channel.deliver(sent)
    return rig.notes()[-1], dict(rig.service.pushed[-1].headers)


def of(sent: Delivery, incident: str = "incident-1", **changes: Any) -> Delivery:
    alert = make_alert(**changes)
    facts = Facts(reach=frozenset({"43", HITOYOSHI}), level=changes.get("level", 4))
    return replace(sent, entry=replace(sent.entry, alert=alert, incident=incident, facts=facts))


async def test_a_browser_reads_the_note_and_nobody_on_the_way_does() -> None:
    async with make_rig() as rig:
        sent = delivery(rig.subscription)
        note, headers = await pushed(rig, sent)
        expected = rig.hub.text(sent.entry)
        assert (note["title"], note["body"], note["lang"]) == (expected.title, expected.body, expected.lang)
        assert note["key"] == sent.key
        assert headers["Content-Encoding"] == "aes128gcm"
        assert expected.title.encode() not in rig.service.pushed[0].body


async def test_each_message_is_encrypted_with_a_key_and_salt_of_its_own() -> None:
    async with make_rig() as rig:
        sent = delivery(rig.subscription)
        for _ in range(2):
            await rig.channel.deliver(sent)
        one, other = (each.body for each in rig.service.pushed)
        assert one[:16] != other[:16]
        assert one[21:86] != other[21:86]


async def test_a_push_service_keeps_it_until_the_alert_expires_and_never_for_0_s() -> None:
    clock = FakeClock(datetime.now(UTC))
    async with make_rig(clock) as rig:
        for left, ttl in (
            (timedelta(hours=2), 7_200),
            (timedelta(milliseconds=200), 1),
            (timedelta(seconds=-1), 1),
            (timedelta(days=90), 28 * 86_400),
        ):
            _, headers = await pushed(rig, of(delivery(rig.subscription), expires=clock.now() + left))
            assert headers["TTL"] == str(ttl)
        _, headers = await pushed(rig, of(delivery(rig.subscription), expires=None))
        assert headers["TTL"] == "86400"


@pytest.mark.parametrize(
    ("changes", "urgency"),
    [
        ({"severity": Severity.EXTREME, "level": None}, "high"),
        ({"severity": Severity.SEVERE, "level": None}, "high"),
        ({"severity": Severity.UNKNOWN, "level": 3}, "high"),
        ({"severity": Severity.MODERATE, "level": 2}, "normal"),
        ({"severity": Severity.UNKNOWN, "level": None}, "normal"),
        ({"severity": Severity.EXTREME, "level": 5, "status": Status.EXERCISE}, "normal"),
    ],
)
async def test_a_sleeping_phone_is_woken_for_what_is_grave_and_real(changes: Any, urgency: str) -> None:
    async with make_rig() as rig:
        note, headers = await pushed(rig, of(delivery(rig.subscription), **changes))
        assert headers["Urgency"] == urgency
        assert note["urgent"] is (urgency == "high")


async def test_an_update_takes_the_place_of_what_it_continues_on_the_way_and_on_the_screen() -> None:
    async with make_rig() as rig:
        first, waits = await pushed(rig, of(delivery(rig.subscription), "i" * 32))
        update, comes = await pushed(
            rig, of(delivery(rig.subscription, 2), "i" * 32, msg_type=MsgType.UPDATE)
        )
        other, apart = await pushed(rig, of(delivery(rig.subscription, 3), "j" * 32))
        assert waits["Topic"] == comes["Topic"] != apart["Topic"]
        assert first["tag"] == update["tag"] != other["tag"]
        # RFC 8030, 5.4: no more than 32 characters of the URL and filename-safe base64 alphabet
        assert re.fullmatch(r"[A-Za-z0-9_-]{1,32}", waits["Topic"])
        assert "i" * 32 not in waits["Topic"], "a push service could tell who hears of the same"


async def test_an_acknowledgement_takes_the_place_of_nothing() -> None:
    async with make_rig() as rig:
        first, _ = await pushed(rig, of(delivery(rig.subscription)))
        note, headers = await pushed(rig, of(delivery(rig.subscription, 2), msg_type=MsgType.ACK))
        assert "Topic" not in headers
        assert note["tag"] != first["tag"]


async def test_a_note_opens_the_page_of_the_place_that_is_concerned() -> None:
    async with make_rig() as rig:
        for areas, lang, url in (
            ({HITOYOSHI}, None, f"/place/{HITOYOSHI}"),
            ({"432024", HITOYOSHI}, "en", f"/place/{HITOYOSHI}?lang=en"),
            ({"432024"}, None, "/place/432024"),
            (set(), None, "/"),
        ):
            target = replace(rig.subscription, filter=Filter(areas=frozenset(areas)), lang=lang)
            note, _ = await pushed(rig, of(delivery(target)))
            assert note["url"] == url


async def test_what_is_long_in_every_letter_fits_into_4096_bytes() -> None:
    async with make_rig() as rig:
        rig.hub.text = lambda *_, **__: Text("\u0001" * 50, "\n" * 1_000, "ja")  # type: ignore[method-assign]
        note, _ = await pushed(rig, delivery(rig.subscription))
        assert len(note["body"]) == 1_000


@pytest.mark.parametrize(
    ("title", "body", "named"), [("あ" * 101, "", "title.*300"), ("", "あ" * 667, "body.*2000")]
)
async def test_a_text_that_does_not_fit_is_a_failure_that_names_the_limit(
    title: str, body: str, named: str
) -> None:
    async with make_rig() as rig:
        rig.hub.text = lambda *_, **__: Text(title, body, "ja")  # type: ignore[method-assign]
        with pytest.raises(PermanentFailure, match=named):
            await rig.channel.deliver(delivery(rig.subscription))
        assert not rig.service.pushed


# The hub's signature


async def test_one_signature_serves_a_push_service_for_half_a_day() -> None:
    clock = FakeClock(datetime.now(UTC))
    async with make_rig(clock) as rig:
        for wait, signatures in ((0, 1), (3_600, 1), (6 * 3_600, 2)):
            await clock.advance(wait)
            await rig.channel.deliver(delivery(rig.subscription))
            assert len({each.headers["Authorization"] for each in rig.service.pushed}) == signatures
        assert {each.claims["sub"] for each in rig.service.pushed} == {CONTACT}


async def test_the_key_is_made_once_and_is_the_one_that_browsers_are_given() -> None:
    async with make_rig() as rig, aiohttp.ClientSession() as http:
        again = WebPush("push", config(), rig.hub)
        async with serving(again) as url, http.get(f"{url}/push/push/settings.json") as answer:
            public = (await answer.json())["key"]
        await rig.channel.deliver(delivery(rig.subscription))
        claims(rig.service.pushed[0].headers["Authorization"], public)
        assert len(unbase64url(public)) == 65


async def test_a_signature_that_is_not_accepted_is_made_anew() -> None:
    clock = FakeClock(datetime.now(UTC))
    async with make_rig(clock) as rig:
        for status in (403, 401):
            rig.service.status = status
            with pytest.raises(TemporaryFailure, match=str(status)):
                await rig.channel.deliver(delivery(rig.subscription))
            await clock.advance(1)
        rig.service.status = 201
        await rig.channel.deliver(delivery(rig.subscription))
        assert len({each.headers["Authorization"] for each in rig.service.pushed}) == 3


# What an answer means


@pytest.mark.parametrize("status", [200, 201, 202, 204])
async def test_every_2xx_is_a_success(status: int) -> None:
    async with make_rig() as rig:
        rig.service.status = status
        assert await rig.channel.deliver(delivery(rig.subscription)) == Outcome(f"HTTP {status}")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        *((status, TemporaryFailure) for status in (307, 401, 403, 408, 429, 500, 502, 503)),
        *((status, PermanentFailure) for status in (301, 400, 405, 413)),
        *((status, Gone) for status in (404, 410)),
    ],
)
async def test_what_an_answer_means(status: int, kind: type[DeliveryError]) -> None:
    async with make_rig() as rig:
        rig.service.status = status
        rig.service.headers = {"Location": "/elsewhere"}
        with pytest.raises(DeliveryError) as caught:
            await rig.channel.deliver(delivery(rig.subscription))
        assert type(caught.value) is kind
        assert caught.value.detail.startswith(f"HTTP {status}")
        assert len(rig.service.pushed) == 1, "a redirect was followed"


@pytest.mark.parametrize(
    ("said", "seconds"), [("7", 7.0), ("999999999", 86_400.0), ("soon", None), ("", None), ("１２", None)]
)
async def test_retry_after_is_read(said: str, seconds: float | None) -> None:
    async with make_rig() as rig:
        rig.service.status, rig.service.headers = 429, {"Retry-After": said}
        with pytest.raises(TemporaryFailure) as caught:
            await rig.channel.deliver(delivery(rig.subscription))
        assert caught.value.retry_after == seconds


async def test_an_address_that_is_not_public_is_not_called() -> None:
    async with make_rig(services=["*"]) as rig:
        inside = replace(rig.subscription, target="http://10.1.2.3/secret-token")
        with pytest.raises(TemporaryFailure, match="not a public one"):
            await rig.channel.deliver(delivery(inside))


async def test_health_names_the_push_service_that_does_not_answer_until_it_does() -> None:
    async with make_rig() as rig:
        rig.service.status = 503
        with pytest.raises(TemporaryFailure):
            await rig.channel.deliver(delivery(rig.subscription))
        assert rig.channel.health() == Health(False, "127.0.0.1: HTTP 503")
        rig.service.status = 201
        await rig.channel.deliver(delivery(rig.subscription))
        assert rig.channel.health().ok


async def test_a_canary_goes_only_to_a_browser_that_has_subscribed() -> None:
    async with make_rig() as rig:
        await rig.channel.canary(rig.subscription.target, "token-1")
        [note] = rig.notes()
        assert note["answer"] == "/v1/canaries/token-1"
        assert note["status"] == "System"
        with pytest.raises(PermanentFailure, match="press the button"):
            await rig.channel.canary(rig.subscription.target + "x", "token-1")


# What may be subscribed


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://fcm.googleapis.com/fcm/send/abc:def",
        "https://updates.push.services.mozilla.com/wpush/v2/abc",
        "https://web.push.apple.com/abc",
        "https://wns2-ty1p.notify.windows.com/w/?token=abc",
    ],
)
def test_the_push_services_of_the_browsers_are_called(endpoint: str) -> None:
    ordinary = WebPush("push", WebPushConfig(contact=CONTACT), FakeHub())
    asked = subscription("push", endpoint, **Browser().keys)
    assert ordinary.check_subscription(asked) == asked


@pytest.mark.parametrize(
    ("endpoint", "reason"),
    [
        ("http://fcm.googleapis.com/fcm/send/abc", "https"),
        ("https://fcm.googleapis.com.evil.example/", "services"),
        ("https://evil-push.apple.com.example/", "services"),
        ("https://push.apple.com/", "services"),
        ("https://notpush.apple.com/", "services"),
        ("https://127.0.0.1/", "services"),
        ("https://user@fcm.googleapis.com/", "password"),
        ("https://fcm.googleapis.com/#a", "fragment"),
        ("https://fcm.googleapis.com:0/", "host"),
        ("https://fcm.googleapis.com:99999/", "URL"),
        ("https://fcm.googleapis.com/\r\nX: 1", "printable"),
        ("https://fcm.googleapis.com/" + "a" * 2_048, "2048"),
        ("", "printable"),
    ],
)
def test_other_addresses_are_refused_with_the_reason(endpoint: str, reason: str) -> None:
    ordinary = WebPush("push", WebPushConfig(contact=CONTACT), FakeHub())
    with pytest.raises(BadRequest, match=reason) as caught:
        ordinary.check_subscription(subscription("push", endpoint, **Browser().keys))
    assert caught.value.detail.startswith("target: ")


COMPRESSED = base64url(b"\x02" + Browser().point[1:33])


@pytest.mark.parametrize(
    "options",
    [
        {"p256dh": ""},
        {"p256dh": base64url(b"\x04" + bytes(64))},
        {"p256dh": COMPRESSED},
        {"p256dh": "あ" * 87},
        {"auth": ""},
        {"auth": base64url(bytes(15))},
        {"auth": "not base64url!"},
        {"auth": "A" * 500},
        {"secret": "unknown"},
    ],
)
def test_keys_that_no_browser_gives_are_refused(options: dict[str, str]) -> None:
    channel = WebPush("push", config(services=["*"]), FakeHub())
    asked = subscription("push", "https://service.example/a", **Browser().keys | options)
    with pytest.raises(BadRequest, match="options"):
        channel.check_subscription(asked)


@pytest.mark.parametrize(
    "own",
    [
        {"contact": "bousai@hitoyoshi.example"},
        {"contact": "mailto:bousai"},
        {"contact": "http://hitoyoshi.example"},
        {"services": ["https://fcm.googleapis.com"]},
        {"max_subscriptions": 0},
        {"timeout_s": 60},
        {"contcat": CONTACT},
    ],
)
def test_a_configuration_that_will_not_do_is_refused(own: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        config(**own)


def blocks() -> dict[str, str]:
    page = (ROOT / "docs/adapters/webpush.md").read_text(encoding="utf-8")
    example = (ROOT / "examples/lalert.toml").read_text(encoding="utf-8")
    commented = example.split("# [adapters.webpush]")[1].split("\n\n")[0].splitlines()[1:]
    return {
        "page": page.split("```toml\n[adapters.webpush]\n")[1].split("```")[0],
        "example": "\n".join(line.removeprefix("# ") for line in commented),
    }


def test_the_block_on_its_page_is_the_default_and_the_one_in_the_example_holds() -> None:
    shown = {name: msgspec.convert(tomllib.loads(block), WebPushConfig) for name, block in blocks().items()}
    assert shown["page"] == WebPushConfig(contact=shown["page"].contact)
    assert set(tomllib.loads(blocks()["page"])) == set(WebPushConfig.__struct_fields__)
    assert shown["example"] == WebPushConfig(contact=CONTACT)


# What browsers ask


@dataclass
class Visitor:
    """A browser that asks the hub's routes."""

    http: aiohttp.ClientSession
    base: str
    hub: FakeHub
    browser: Browser
    endpoint: str = "https://service.example/one"

    async def ask(self, path: str, **body: Any) -> tuple[int, Any]:
        async with self.http.post(f"{self.base}/{path}", json=body) as answer:
            return answer.status, await answer.json(content_type=None)

    async def subscribe(self, place: str | None = HITOYOSHI, **more: Any) -> tuple[int, Any]:
        given = {"endpoint": self.endpoint, "keys": self.browser.keys} | more
        return await self.ask("subscribe", **given | ({"place": place} if place else {}))


@asynccontextmanager
async def visiting(**own: Any) -> AsyncIterator[Visitor]:
    hub = FakeHub()
    async with serving(WebPush("push", config(**own), hub)) as url, aiohttp.ClientSession() as http:
        yield Visitor(http, f"{url}/push/push", hub, Browser())


def following(*places: str, level: int | None = None) -> tuple[int, Any]:
    return 200, {"places": list(places), "min_level": level}


async def test_a_browser_may_hear_of_grave_things_alone_at_all_of_its_places() -> None:
    async with visiting() as visitor:
        assert await visitor.subscribe(min_level=3) == following(HITOYOSHI, level=3)
        [kept] = visitor.hub.saved.values()
        assert kept.filter == Filter(areas=frozenset({HITOYOSHI}), min_level=3, level_required=True)
        assert await visitor.subscribe("43", min_level=3) == following("43", HITOYOSHI, level=3)
        left = await visitor.ask("unsubscribe", endpoint=visitor.endpoint, place="43")
        assert left == following(HITOYOSHI, level=3)
        moved = await visitor.subscribe(None, endpoint="https://service.example/2", replaces=visitor.endpoint)
        assert moved == following(HITOYOSHI, level=3)
        again = await visitor.subscribe(endpoint="https://service.example/2", min_level=None)
        assert again == following(HITOYOSHI)
        assert (await visitor.subscribe(min_level=6))[0] == 400


async def test_a_browser_has_one_subscription_with_all_of_its_places() -> None:
    async with visiting() as visitor:
        assert await visitor.subscribe(lang="en") == following(HITOYOSHI)
        assert await visitor.subscribe("43") == following("43", HITOYOSHI)
        [kept] = visitor.hub.saved.values()
        assert kept.filter == Filter(areas=frozenset({"43", HITOYOSHI}))
        assert (kept.channel, kept.target, kept.lang) == ("push", visitor.endpoint, "en")
        assert kept.options == visitor.browser.keys
        assert await visitor.ask("places", endpoint=visitor.endpoint) == following("43", HITOYOSHI)


async def test_the_same_again_changes_nothing_and_is_not_written() -> None:
    async with visiting() as visitor:
        await visitor.subscribe()
        before = dict(visitor.hub.saved)
        visitor.hub.save_subscription = None  # type: ignore[method-assign, assignment]
        assert (await visitor.subscribe())[0] == 200
        assert visitor.hub.saved == before


async def test_a_place_can_be_taken_away_and_the_last_one_ends_it() -> None:
    async with visiting() as visitor:
        await visitor.subscribe()
        await visitor.subscribe("43")
        one = {"endpoint": visitor.endpoint, "place": "43"}
        assert await visitor.ask("unsubscribe", **one) == following(HITOYOSHI)
        assert await visitor.ask("unsubscribe", **one) == following(HITOYOSHI)
        assert await visitor.ask("unsubscribe", **one | {"place": HITOYOSHI}) == following()
        assert not visitor.hub.saved
        assert await visitor.ask("unsubscribe", endpoint="https://nobody.example/") == following()


async def test_all_places_go_where_none_is_named() -> None:
    async with visiting() as visitor:
        await visitor.subscribe()
        await visitor.subscribe("43")
        assert await visitor.ask("unsubscribe", endpoint=visitor.endpoint) == following()
        assert not visitor.hub.saved


async def test_a_browser_whose_address_changes_keeps_its_places() -> None:
    async with visiting() as visitor:
        await visitor.subscribe(lang="en")
        old, visitor.endpoint, visitor.browser = visitor.endpoint, "https://service.example/two", Browser()
        assert await visitor.subscribe(None, replaces=old) == following(HITOYOSHI)
        [kept] = visitor.hub.saved.values()
        assert (kept.target, kept.lang, kept.options) == (visitor.endpoint, "en", visitor.browser.keys)
        assert (await visitor.subscribe(None, endpoint="https://service.example/3", replaces=old))[0] == 404


async def test_there_are_no_more_subscriptions_and_places_than_the_hub_takes() -> None:
    async with visiting(max_subscriptions=2) as visitor:
        for number in (1, 2):
            assert (await visitor.subscribe(endpoint=f"https://service.example/{number}"))[0] == 200
        status, problem = await visitor.subscribe(endpoint="https://service.example/3")
        assert (status, problem["code"]) == (429, "too-many-requests")
        for prefecture in range(1, 20):
            assert (await visitor.subscribe(f"{prefecture:02}", endpoint="https://service.example/1"))[
                0
            ] == 200
        assert (await visitor.subscribe("20", endpoint="https://service.example/1"))[0] == 400


async def test_who_is_known_is_found_without_a_look_at_all_others() -> None:
    async with visiting() as visitor:
        await visitor.subscribe()
        visitor.hub.subscriptions = None  # type: ignore[method-assign, assignment]
        assert await visitor.subscribe("43") == following("43", HITOYOSHI)
        moved = "https://service.example/2"
        assert (await visitor.subscribe(None, endpoint=moved, replaces=visitor.endpoint))[0] == 200
        assert await visitor.ask("places", endpoint=moved) == following("43", HITOYOSHI)
        assert await visitor.ask("unsubscribe", endpoint=moved) == following()


async def test_nobody_asks_more_often_than_the_operator_allows() -> None:
    async with visiting(max_per_minute=3) as visitor:
        answers = [(await visitor.ask("places", endpoint="x"))[0] for _ in range(4)]
        assert answers == [200, 200, 200, 429]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"endpoint": "", "keys": {"p256dh": "", "auth": ""}},
        {"endpoint": "x", "keys": {"p256dh": "a" * 200, "auth": ""}},
        {"endpoint": "x", "keys": {"p256dh": "", "auth": ""}, "place": "人吉"},
        {"endpoint": "x", "keys": {"p256dh": "", "auth": ""}, "place": HITOYOSHI, "lang": "<script>"},
        {"endpoint": "x", "keys": None, "place": HITOYOSHI},
    ],
)
async def test_a_request_that_does_not_read_is_refused(body: dict[str, Any]) -> None:
    async with visiting() as visitor:
        assert (await visitor.ask("subscribe", **body))[0] == 400
        assert not visitor.hub.saved


async def test_a_form_of_another_site_a_long_body_and_deep_nesting_are_refused() -> None:
    async with visiting() as visitor:
        for body, media_type, status in (
            (b"{}", "text/plain", 415),
            (b" " * 8_193, "application/json", 413),
            (b"[" * 8_000, "application/json", 400),
            (b"\xff", "application/json", 400),
        ):
            headers = {"Content-Type": media_type}
            async with visitor.http.post(f"{visitor.base}/subscribe", data=body, headers=headers) as answer:
                assert answer.status == status


async def test_the_scripts_are_kept_by_a_browser_until_they_change_and_the_worker_may_only_ask_the_hub() -> (
    None
):
    policy = ""
    async with visiting() as visitor:
        for name in ("button.js", "worker.js"):
            async with visitor.http.get(f"{visitor.base}/{name}") as answer:
                assert answer.content_type == "text/javascript"
                tag = answer.headers["ETag"]
                policy = answer.headers.get("Content-Security-Policy", "")
                assert (await answer.text()).startswith("/** ")
            async with visitor.http.get(f"{visitor.base}/{name}", headers={"If-None-Match": tag}) as answer:
                assert answer.status == 304
        assert policy == "default-src 'none'; connect-src 'self'"


async def test_each_place_is_an_app_of_its_own_and_what_is_no_place_is_none() -> None:
    async with visiting() as visitor:
        for name, status in ((HITOYOSHI, 200), ("43", 200), ("place", 404), ("4320321", 404)):
            async with visitor.http.get(f"{visitor.base}/{name}.webmanifest") as answer:
                assert answer.status == status
                if status == 200:
                    assert answer.content_type == "application/manifest+json"
                    assert (await answer.json(content_type=None))["id"] == f"/place/{name}"


# In a whole hub


async def test_from_the_button_on_a_page_to_the_note_of_an_alert(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    point = EntryPoint("webpush", "lalert_adapters.webpush:WebPush", registry.GROUP)
    others = registry.installed()
    monkeypatch.setattr(registry, "installed", lambda: others | {"webpush": point})
    block = {"contact": CONTACT, "services": ["127.0.0.1"], "allow_http": True}
    browser = Browser()
    async with (
        push_service() as service,
        running_node(tmp_path, Settings(adapters={"webpush": block})) as node,
    ):
        async with node.http.get(f"{node.url}/place/{HITOYOSHI}") as answer:
            page = await answer.text()
        assert '<script src="/push/webpush/button.js" type="module"></script>' in page
        asked = {"endpoint": service.url + PATH, "keys": browser.keys, "place": HITOYOSHI}
        for path, status in (("http://evil.example/", 400), (asked["endpoint"], 200)):
            async with node.http.post(
                f"{node.url}/push/webpush/subscribe", json=asked | {"endpoint": path}
            ) as answer:
                assert answer.status == status, await answer.text()
        await node.post(make_cap(headline="人吉市に避難指示"))
        async with asyncio.timeout(10):
            await service.came.wait()
        note = json.loads(browser.open(service.pushed[0].body))
        assert "人吉市に避難指示" in note["title"]
        assert note["url"] == f"/place/{HITOYOSHI}"
        # The browser has ended it: it is dropped, and nothing more is tried.
        service.status = 410
        await node.post(make_cap(headline="二つ目"))
        async with asyncio.timeout(10):
            while await node.node.dispatcher.subscriptions():
                await asyncio.sleep(0.01)


def test_without_the_extra_the_operator_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("webpush", "lalert_adapters.webpush:WebPush", registry.GROUP)
    monkeypatch.setattr(registry, "installed", lambda: {"webpush": point})
    monkeypatch.setitem(sys.modules, "pywebpush", None)
    for name in [name for name in sys.modules if name.startswith("lalert_adapters.webpush")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ConfigError, match=r"pip install 'lalert\[webpush\]'"):
        registry.plan({"feeds": {"enabled": False}, "webpush": {"contact": CONTACT}})


def test_it_says_that_it_has_something_on_the_page_of_a_place() -> None:
    assert isinstance(WebPush("push", config(), FakeHub()), PagePart)
    assert WebPush("a/b", config(), FakeHub()).place_script == "/push/a%2Fb/button.js"
