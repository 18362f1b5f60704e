"""Whatever a sender writes is shown as text, and breaks nothing: not the page, not its layout, not the next alert."""

from __future__ import annotations

import json
from typing import Any

import pytest
from playwright.async_api import expect

from lalert.web.pages import Site
from tests.browser.conftest import Open
from tests.browser.stage import HITOYOSHI, Hub, alert, area, info

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]

ATTACKS = [
    "<script>alert('owned')</script>",
    "\"><img src=x onerror=alert('owned')>",
    "'><svg/onload=alert('owned')>",
    "</script><script>alert('owned')</script>",
    "<!--<script>",
    "{{ 7*7 }} ${7*7} {n} {time} &amp; &lt;b&gt;",
    "\u202e\u2066左から右\u202c",
    "A" * 20_000,
    "👨‍👩‍👧‍👦" * 300,
    "\u0000\u0007\uffff",
]
PAGES = ["/", "/signage/lobby"]


def poisoned(attack: str, number: int) -> dict[str, Any]:
    """Return an alert with an attack in everything that a sender may write."""
    texts = dict.fromkeys(
        ("event", "headline", "description", "instruction", "senderName", "category", "urgency", "severity"),
        attack,
    )
    link = {"web": "javascript:alert('owned')" if number % 2 else f"https://example.jp/{attack}"}
    places = [area(attack, geocodes=[{"valueName": attack, "value": attack}])]
    bad = info(
        **texts,
        **link,
        areas=places,
        resources=[{"resourceDesc": attack, "uri": "javascript:alert('owned')"}],
    )
    return alert(
        number,
        info=[bad],
        sender=attack,
        identifier=attack,
        kind="general",
        level=None,
        incident=f"{number}{attack[:50]}",
    )


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("scripted", [True, False])
async def test_markup_in_every_field_is_shown_as_text(visit: Open, path: str, scripted: bool) -> None:
    hub = Hub()
    at = await visit(hub, java_script_enabled=scripted)
    if scripted:
        await at.live(path)
    for number, attack in enumerate(ATTACKS, 1):
        hub.emit(poisoned(attack, number))
    if not scripted:
        await at.go(path)
    page = at.page
    where = "#alert h1" if "signage" in path else ".card h2"
    await expect(page.locator(where).first).not_to_be_empty()
    for element in ("img", "iframe", "object", "embed", "svg[onload]", "[onerror]", 'a[href^="javascript"]'):
        await expect(page.locator(f"main {element}")).to_have_count(0)
    scripts = (
        await page.locator("script").evaluate_all(
            "all => all.map(e => e.type + ' ' + (e.src ? new URL(e.src).pathname : ''))"
        )
        if scripted
        else []
    )
    assert all(
        script.split()[0] in ("module", "application/json") or "/static/vendor/" in script
        for script in scripts
    )
    if "signage" not in path:
        texts = await page.locator(".card h2").all_inner_texts()
        assert "<script>alert('owned')</script>" in texts
        assert "\"><img src=x onerror=alert('owned')>" in texts
        assert "{{ 7*7 }} ${7*7} {n} {time} &amp; &lt;b&gt;" in texts


async def test_an_attack_after_a_sound_alert_leaves_the_sound_one_readable(visit: Open) -> None:
    at = await visit()
    page = await at.live("/")
    at.hub.emit(alert(1))
    for number, attack in enumerate(ATTACKS, 2):
        at.hub.emit(poisoned(attack, number))
    await expect(page.locator(".card")).to_have_count(1 + len(ATTACKS))
    await expect(page.locator(".card h2").first).to_have_text("球磨川沿いの地区に避難指示を発令しました")


@pytest.mark.parametrize("path", PAGES)
async def test_broken_frames_are_survived(visit: Open, path: str) -> None:
    at = await visit()
    page = await at.live(path)
    for frame in (
        b"event: alert\ndata: {not json\n\n",
        b"event: alert\ndata: \n\n",
        b"event: unknown\ndata: {}\n\n",
        b"data: {}\n\n",
    ):
        for queue in at.hub.listeners:
            queue.put_nowait(frame)
    at.hub.emit(alert(1))
    await expect(page.get_by_role("heading", name="球磨川沿いの地区に避難指示を発令しました")).to_be_visible()


async def test_names_from_the_operator_and_the_query_are_text_too(visit: Open) -> None:
    hub = Hub(site=Site("<script>alert('owned')</script>", attribution="<b>x</b>"))
    at = await visit(hub, expected=("404", "400"))
    page = at.page
    for path in (
        "/",
        f"/place/{HITOYOSHI}",
        "/signage/lobby",
        "/?event=%3Cscript%3Ealert(1)%3C/script%3E",
        "/place/%3Cscript%3Ealert(1)",
        "/?x=%3Cb%3E",
    ):
        await at.go(path)
        await expect(page.locator("b")).to_have_count(0)
    assert await page.title() == "アドレスの指定が正しくありません | <script>alert('owned')</script>"


async def test_the_policy_stops_inline_script_and_style_should_one_ever_slip_through(visit: Open) -> None:
    at = await visit(expected=("Content Security Policy", "content-security-policy", "Refused", "404"))
    page = await at.live("/")
    await page.evaluate(
        """() => {
            const script = document.createElement("script");
            script.textContent = "window.owned = true";
            document.body.append(script);
            document.body.insertAdjacentHTML("beforeend", '<img src="x" onerror="window.owned = true"><p id="styled" style="position:fixed">');
            document.body.insertAdjacentHTML("beforeend", '<img src="https://example.jp/pixel.png">');
        }"""
    )
    await page.wait_for_timeout(300)
    assert not await page.evaluate("window.owned")
    assert await page.locator("#styled").evaluate("e => getComputedStyle(e).position") == "static"
    blocked = [c for c in at.complaints if "example.jp" in c and "ontent Security Policy" in c]
    assert blocked
    at.complaints[:] = [c for c in at.complaints if "example.jp" not in c]


async def test_state_and_words_in_the_page_cannot_end_its_script_element(visit: Open) -> None:
    at = await visit(java_script_enabled=False)
    page = await at.go("/?event=%3C/script%3E%3Cb%3E")
    data = json.loads(await page.locator("#page").text_content() or "")
    assert data["query"] == "event=%3C%2Fscript%3E%3Cb%3E"
