"""The first set-up in a browser: a form that says what is wrong, keys that are shown once, a link that works once."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from tests.browser.conftest import Open
from tests.browser.stage import TOKEN

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]


async def test_the_form_makes_keys_that_are_shown_once(visit: Open) -> None:
    at = await visit(expected=("404",))
    page = await at.go(f"/setup?token={TOKEN}")
    await page.get_by_label("団体の名前").fill("人吉市")
    await page.get_by_label("団体のID").fill("hitoyoshi")
    await page.get_by_label("担当する地域のコード").fill("43203、435015")
    await page.get_by_label("発信者").fill("*@hitoyoshi.example")
    await page.get_by_role("button", name="登録して鍵を作る").click()
    await expect(page.locator("h1")).to_have_text("鍵ができました")
    await expect(page.locator(".keys dt")).to_have_text(["管理用の鍵", "発信用の鍵"])
    await expect(page.locator("#key-2")).to_have_text("lk_sender_0123456789abcdefghijklmnopqrstuvwxyz-ABCDE")
    await expect(page.locator("#try")).to_contain_text("Authorization: Bearer lk_sender_")
    assert TOKEN not in await page.content()

    again = await at.go(f"/setup?token={TOKEN}")
    await expect(again.locator("h1")).to_have_text("この設定リンクは使えません")


async def test_every_mistake_is_named_at_once_and_what_was_typed_stays(visit: Open) -> None:
    at = await visit(expected=("422",))
    page = await at.go(f"/setup?token={TOKEN}")
    await page.get_by_label("団体のID").fill("Hito Yoshi")
    await page.get_by_label("担当する地域のコード").fill("432032 999999")
    await page.get_by_role("button").click()
    await expect(page.locator(".faults li")).to_have_count(4)
    await expect(page.locator(".faults")).to_contain_text("コード 999999 は見つかりません")
    await expect(page.get_by_label("団体のID")).to_have_value("Hito Yoshi")
    await expect(page.locator("#codes")).to_have_attribute("aria-invalid", "true")
    await page.locator(".faults a").first.click()
    await expect(page.locator("#name")).to_be_focused()
    await page.get_by_label("団体の名前").fill("人吉市")
    await page.get_by_label("団体のID").fill("hitoyoshi")
    await page.get_by_label("担当する地域のコード").fill("all")
    await page.get_by_label("発信者").fill("*")
    await page.get_by_role("button").click()
    await expect(page.locator("h1")).to_have_text("鍵ができました")


async def test_a_key_can_be_copied(visit: Open) -> None:
    at = await visit(permissions=["clipboard-read", "clipboard-write"])
    page = await at.go(f"/setup?token={TOKEN}&lang=en")
    for label, text in (
        ("Organisation name", "Hitoyoshi"),
        ("Organisation id", "hitoyoshi"),
        ("Codes", "all"),
        ("Senders", "*"),
    ):
        await page.get_by_label(label).fill(text)
    await page.get_by_role("button", name="Register").click()
    await page.locator(".copy").first.click()
    await expect(page.locator(".copy").first).to_have_text("Copied")
    assert await page.evaluate("navigator.clipboard.readText()") == await page.locator("#key-1").inner_text()
