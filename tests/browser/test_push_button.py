"""Notes on a browser's own screen: the button on the page of a place, and the service worker.

A browser without its maker's push service subscribes to none, so `PushManager` is a stand-in with a real browser's keys. All else is real: what the hub
encrypts reaches a push service on loopback, is decrypted, and is handed to the worker as a push event.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from ipaddress import ip_network
from typing import Any

import pytest
from aiohttp import web
from playwright.async_api import CDPSession, Page, expect

from lalert.dispatch import guarded_session
from lalert.model import Delivery, MsgType
from lalert.plugin import CANARY_TITLE
from lalert.testing import make_alert
from lalert.testing.channel import delivery, until
from lalert.testing.hub import FakeHub
from lalert.web.pages import Site
from lalert_adapters.webpush import WebPush, WebPushConfig
from tests.browser.conftest import Open, Visit
from tests.browser.stage import HITOYOSHI, Hub
from tests.push_kit import Browser, PushService, push_service, unbase64url

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]

PLACE = f"/place/{HITOYOSHI}"
STAND_IN = """(made) => {
    const fake = { endpoint: made.endpoint, toJSON: () => made, unsubscribe: async () => localStorage.removeItem("on") };
    PushManager.prototype.subscribe = async (options) => {
        localStorage.setItem("on", JSON.stringify([options.userVisibleOnly, ...new Uint8Array(options.applicationServerKey)]));
        return fake;
    };
    PushManager.prototype.getSubscription = async () => localStorage.getItem("on") ? fake : null;
}"""


@dataclass
class Stage:
    """A staged hub with Web Push, the channel's own hub, and the browser's push service."""

    channel: WebPush
    behind: FakeHub
    service: PushService
    hub: Hub
    browser: Browser = field(default_factory=Browser)

    @property
    def stand_in(self) -> str:
        return (
            f"({STAND_IN})({json.dumps({'endpoint': self.service.url + '/one', 'keys': self.browser.keys})})"
        )

    async def push(self, sent: Delivery) -> str:
        """Deliver to the one browser that has subscribed; returns what it decrypts."""
        [subscription] = self.behind.saved.values()
        await self.channel.deliver(replace(sent, subscription=self.channel.check_subscription(subscription)))
        return self.browser.open(self.service.pushed[-1].body).decode()


@asynccontextmanager
async def staged_push() -> AsyncIterator[Stage]:
    async with push_service() as service, guarded_session([ip_network("127.0.0.0/8")]) as session:
        behind = FakeHub(session=session)
        config = WebPushConfig(contact="mailto:a@b.example", services=("127.0.0.1",), allow_http=True)
        async with WebPush("push", config, behind) as channel:
            routes = [web.RouteDef(each.method, each.path, each.handler, {}) for each in channel.routes()]
            hub = Hub(site=Site("ハブ", place_scripts=(channel.place_script,)), more=routes)
            yield Stage(channel, behind, service, hub)


class Worker:
    """The page's service worker, told of push events as a browser tells it."""

    def __init__(self, session: CDPSession, page: Page, origin: str) -> None:
        self._session = session
        self._page = page
        self._origin = origin
        self._ids: set[str] = set()

    async def attach(self) -> None:
        def updated(event: dict[str, Any]) -> None:
            self._ids |= {each["registrationId"] for each in event["registrations"] if not each["isDeleted"]}

        self._session.on("ServiceWorker.workerRegistrationUpdated", updated)
        await self._session.send("ServiceWorker.enable")
        await until(lambda: self._ids)

    async def push(self, data: str) -> None:
        [id] = self._ids
        message = {"origin": self._origin, "registrationId": id, "data": data}
        await self._session.send("ServiceWorker.deliverPushMessage", message)

    async def shown(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = await self._page.evaluate(
            """async () => (await (await navigator.serviceWorker.getRegistration("/push/push/")).getNotifications()).map(
                ({title, body, tag, lang, data, requireInteraction}) => ({title, body, tag, lang, data, requireInteraction}))"""
        )
        return found


async def pressed(visit: Open, stage: Stage, **options: Any) -> tuple[Visit, Page]:
    """Open the page with a browser that allows notes, and press the button."""
    at = await visit(stage.hub, permissions=["notifications"], **options)
    await at.page.add_init_script(stage.stand_in)
    page = await at.live(PLACE)
    await page.get_by_role("button", name="この地域の情報を通知で受け取る").click()
    await expect(page.get_by_role("button", name="この地域の通知を止める")).to_be_visible()
    return at, page


async def test_pressing_the_button_subscribes_with_the_hubs_key_and_pressing_again_ends_it(
    visit: Open,
) -> None:
    async with staged_push() as stage:
        _, page = await pressed(visit, stage)
        await expect(page.locator("#push [role=status]")).to_contain_text("この端末に通知します")
        [kept] = stage.behind.saved.values()
        assert (kept.target, kept.filter.areas) == (stage.service.url + "/one", frozenset({HITOYOSHI}))
        assert kept.options == stage.browser.keys
        visible, *point = json.loads(await page.evaluate("localStorage.getItem('on')"))
        assert visible is True
        key = await page.evaluate(
            "(async () => (await (await fetch('/push/push/settings.json')).json()).key)()"
        )
        assert bytes(point) == unbase64url(key)
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        await page.reload()
        await page.get_by_role("button", name="この地域の通知を止める").click()
        await expect(page.locator("#push [role=status]")).to_have_text("この地域の通知を止めました。")
        assert not stage.behind.saved
        assert await page.evaluate("localStorage.getItem('on')") is None
        assert not [url for url in asked if url.endswith("/places")], "everybody would ask for the same alert"


async def test_a_browser_may_hear_of_grave_things_alone_and_the_hub_is_asked_what_is_forgotten(
    visit: Open,
) -> None:
    async with staged_push() as stage:
        _, page = await pressed(visit, stage)
        box = page.get_by_label("警戒レベル3以上だけ")
        await expect(box).not_to_be_checked()
        await box.check()
        await until(lambda: [each.filter.min_level for each in stage.behind.saved.values()] == [3])
        await page.reload()
        await expect(box).to_be_checked()
        await page.evaluate("localStorage.removeItem('lalert /push/push/')")
        await page.goto(
            page.url.replace(HITOYOSHI, "432041")
        )  # which asks the hub: this browser remembers nothing
        await expect(page.get_by_role("button", name="この地域の情報を通知で受け取る")).to_be_visible()
        await expect(box).to_be_checked()


async def test_the_worker_shows_what_the_hub_pushed_and_answers_a_canary_once_it_is_shown(
    visit: Open,
) -> None:
    async with staged_push() as stage:
        answered: list[str] = []

        async def answer(request: web.Request) -> web.Response:
            answered.append(request.path)
            return web.Response(status=204)

        stage.hub.more.append(web.post("/v1/canaries/{token}", answer))
        at, page = await pressed(visit, stage)
        worker = Worker(await page.context.new_cdp_session(page), page, at.url)
        await worker.attach()
        first, second = (delivery(each, n) for n in (1, 2) for each in stage.behind.saved.values())
        pushed = await stage.push(first)
        await worker.push(pushed)
        text = stage.behind.text(first.entry)
        [note] = await shown(worker, text.title)
        assert (note["title"], note["body"], note["lang"]) == (text.title, text.body, "ja-JP")
        assert note["data"]["url"] == PLACE + "?lang=ja"
        assert note["requireInteraction"] is True
        await worker.push(pushed)
        alert = make_alert(
            msg_type=MsgType.UPDATE, headline="避難指示を解除しました", references=[first.entry.alert]
        )
        update = replace(second, entry=replace(second.entry, alert=alert, incident=first.entry.incident))
        await worker.push(await stage.push(update))
        [_] = await shown(worker, stage.behind.text(update.entry).title)  # in the place of the first
        assert not answered
        await stage.channel.canary(stage.service.url + "/one", "token-1")
        await worker.push(stage.browser.open(stage.service.pushed[-1].body).decode())
        await until(lambda: answered)
        title = f"{CANARY_TITLE} token-1"
        [check] = [note for note in await shown(worker, title) if note["title"] == title]
        assert check["requireInteraction"] is False
        assert answered == ["/v1/canaries/token-1"]


async def shown(worker: Worker, title: str) -> list[dict[str, Any]]:
    """Return the notes on the screen once one of them has a title."""
    async with asyncio.timeout(10):
        while True:
            notes = await worker.shown()
            if title in [each["title"] for each in notes]:
                return notes
            await asyncio.sleep(0.01)


async def test_the_worker_tells_the_hub_of_a_new_address_of_its_browser(visit: Open) -> None:
    async with staged_push() as stage:
        _, page = await pressed(visit, stage)
        made = {"endpoint": stage.service.url + "/two", "keys": Browser().keys}
        [worker] = page.context.service_workers
        await worker.evaluate(
            "([old, made]) => renew({ oldSubscription: { endpoint: old }, newSubscription: { toJSON: () => made } })",
            [stage.service.url + "/one", made],
        )
        [kept] = stage.behind.saved.values()
        assert (kept.target, kept.options) == (made["endpoint"], made["keys"])
        assert kept.filter.areas == frozenset({HITOYOSHI})


async def test_a_browser_that_refuses_notes_is_told_where_to_allow_them(visit: Open) -> None:
    async with staged_push() as stage:
        at = await visit(stage.hub, locale="en-GB")
        page = await at.live(PLACE)
        await page.get_by_role("button", name="Notify me of this place").click()
        await expect(page.locator("#push [role=status]")).to_contain_text("settings refuse notifications")
        assert not stage.behind.saved


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("", "このブラウザは通知に対応していません。"),
        ("Object.defineProperty(navigator, 'standalone', { value: false })", "ホーム画面に追加"),
    ],
    ids=["without notes", "with notes for pages on the home screen only"],
)
async def test_a_browser_that_knows_no_notes_is_told_what_can_be_done(
    visit: Open, kind: str, sentence: str
) -> None:
    async with staged_push() as stage:
        at = await visit(stage.hub)
        await at.page.add_init_script(f"delete window.PushManager; {kind}")
        page = await at.live(PLACE)
        await expect(page.locator("#push [role=status]")).to_contain_text(sentence)
        await expect(page.locator("#push button")).to_be_hidden()
        session = await page.context.new_cdp_session(page)
        manifest = await session.send("Page.getAppManifest")
        assert not manifest["errors"]
        app = json.loads(manifest["data"])
        assert (app["start_url"], app["display"]) == (PLACE, "standalone")


async def test_a_hub_that_refuses_is_said_and_the_button_can_be_pressed_again(visit: Open) -> None:
    async with staged_push() as stage:
        at = await visit(stage.hub, permissions=["notifications"], expected=("400",))
        broken = replace(stage.browser)
        await at.page.add_init_script(stage.stand_in.replace(broken.keys["auth"], "A" * 300))
        page = await at.live(PLACE)
        await page.get_by_role("button", name="この地域の情報を通知で受け取る").click()
        await expect(page.locator("#push [role=status]")).to_contain_text("設定できませんでした")
        await expect(page.get_by_role("button", name="この地域の情報を通知で受け取る")).to_be_enabled()
        assert not stage.behind.saved
