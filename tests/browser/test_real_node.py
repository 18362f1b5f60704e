"""The pages on a real hub: what is posted is seen, what is cancelled is gone, and the first keys come from a browser."""

from __future__ import annotations

import time
from pathlib import Path

import aiohttp
import msgspec
import pytest
from playwright.async_api import Browser, Page, expect

from lalert.app import Node
from lalert.config import Settings
from lalert.model import MsgType
from lalert.testing import make_alert, make_cap
from lalert.testing.node import running_node

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]

PATHS = {"/": ".card h2", "/place/432032": ".card h2", "/signage/lobby?area=43203": "#alert h1"}


async def opened(browser: Browser, address: str, complaints: list[str]) -> Page:
    page = await browser.new_page(locale="ja-JP")
    page.on(
        "console",
        lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None,
    )
    page.on("pageerror", lambda error: complaints.append(str(error)))
    await page.goto(address)
    await page.wait_for_selector('#pulse[data-state="live"]')
    return page


async def test_a_posted_alert_is_on_every_page_at_once_and_gone_when_it_is_cancelled(
    browser: Browser, tmp_path: Path
) -> None:
    complaints: list[str] = []
    order = make_alert(sender="bousai@hitoyoshi.example")
    lifting = make_cap(sender="bousai@hitoyoshi.example", msg_type=MsgType.CANCEL, references=[order])
    async with running_node(tmp_path) as hub:
        pages = {path: await opened(browser, hub.url + path, complaints) for path in PATHS}
        status, answer = await hub.post(order.raw)
        assert status == 201, answer
        accepted = time.monotonic()
        for path, page in pages.items():
            await expect(page.locator(PATHS[path])).to_have_text("人吉市に避難指示を発令しました")
        assert time.monotonic() - accepted < 5
        await expect(pages["/"].locator("#map path.zone.tone-l4")).to_have_count(1)
        assert (await hub.post(lifting))[0] == 201
        for page in pages.values():
            await expect(page.get_by_text("発令中の情報はありません", exact=True)).to_be_visible()
        for page in pages.values():
            await page.close()
    assert complaints == []


async def test_the_first_keys_are_made_in_a_browser_and_work(browser: Browser, tmp_path: Path) -> None:
    settings = Settings()
    own = msgspec.structs.replace(settings.hub, host="127.0.0.1", port=0, data=str(tmp_path))
    async with Node(msgspec.structs.replace(settings, hub=own)) as node:
        assert node.setup_link is not None
        page = await browser.new_page(locale="ja-JP")
        await page.goto(node.setup_link.read_text(encoding="utf-8").strip())
        for name, text in (
            ("name", "人吉市"),
            ("org", "hitoyoshi"),
            ("codes", "43203"),
            ("senders", "*@hitoyoshi.example"),
        ):
            await page.locator(f"#{name}").fill(text)
        await page.get_by_role("button", name="登録して鍵を作る").click()
        await expect(page.locator("h1")).to_have_text("鍵ができました")
        keys = page.locator(".keys > div")
        key = await keys.filter(has_text="発信用の鍵").locator("code").inner_text()
        await page.close()
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/cap+xml"}
        document = make_cap(sender="bousai@hitoyoshi.example")
        async with (
            aiohttp.ClientSession() as http,
            http.post(f"{node.url}/v1/alerts", data=document, headers=headers) as response,
        ):
            assert response.status == 201, await response.text()
