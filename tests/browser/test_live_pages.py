"""Home, a municipality's page and signage follow the hub by themselves, and say so when they cannot."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from playwright.async_api import Page, expect
from shapely.geometry import box, mapping

from tests.browser.conftest import Open
from tests.browser.stage import HITOYOSHI, Hub, alert, area, drill, info

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]

PLACE = f"/place/{HITOYOSHI}"
PAGES = ["/", PLACE]
SCREENS = [PLACE, "/signage/lobby?lang=ja"]
LOST = ("Failed to load resource", "net::ERR", "503")


def updated(data: dict[str, Any], **overrides: Any) -> dict[str, Any]:
    """Return an update of an alert: another message of the same incident."""
    change = {
        "id": "u" + data["id"][1:],
        "msgType": "Update",
        "references": [{"id": data["id"]}],
        "replaced": [data["id"]],
    }
    return {**data, **change, **overrides}


@pytest.mark.parametrize("path", PAGES)
async def test_a_new_alert_appears_without_a_reload_and_its_cancellation_removes_it(
    visit: Open, path: str
) -> None:
    at = await visit()
    page = await at.live(path)
    await expect(page.locator("h1")).to_have_text("発令中の情報はありません")
    await page.evaluate("window.untouched = true")

    at.hub.emit(alert(1))
    await expect(page.locator(".card h2")).to_have_text("球磨川沿いの地区に避難指示を発令しました")
    await expect(page.locator(".card .grade")).to_have_text("警戒レベル4避難指示")
    await expect(page.locator("h1")).to_have_text("発令中の情報 1件")
    await expect(page.locator("#told")).to_contain_text("新しい情報")

    at.hub.cancel(alert(1))
    await expect(page.locator(".card")).to_have_count(0)
    await expect(page.locator("h1")).to_have_text("発令中の情報はありません")
    await expect(page.locator("#ended li")).to_contain_text("避難指示")
    assert await page.evaluate("window.untouched")


async def test_an_update_replaces_what_it_updates_and_a_graver_alert_comes_first(visit: Open) -> None:
    at = await visit()
    first = alert(1, level=3)
    at.hub.emit(first)
    page = await at.live(PLACE)
    at.hub.emit(alert(2, level=2))
    await expect(page.locator(".card")).to_have_count(2)
    at.hub.emit(updated(alert(2, level=2), level=5))
    await expect(page.locator(".card .grade").first).to_have_text("警戒レベル5緊急安全確保")
    await expect(page.locator(".card .grade").last).to_have_text("警戒レベル3高齢者等避難")
    await expect(page.locator(".card .facts").first).to_contain_text("更新")


async def test_an_alert_leaves_by_itself_when_it_expires(visit: Open) -> None:
    at = await visit()
    page = await at.live(PLACE)
    soon = (datetime.now(UTC) + timedelta(seconds=2)).isoformat()
    at.hub.emit(alert(1, info=[info(expires=soon)]))
    await expect(page.locator(".card")).to_have_count(1)
    await expect(page.locator(".card")).to_have_count(0, timeout=6000)


async def test_an_alert_leaves_when_the_hub_tells_of_its_end(visit: Open) -> None:
    at = await visit()
    page = await at.live(PLACE)
    at.hub.emit(alert(1))
    at.hub.emit(alert(2))
    await expect(page.locator(".card")).to_have_count(2)
    at.hub.expire(alert(1))
    await expect(page.locator(".card")).to_have_count(1)
    await expect(page.locator("#ended li")).to_have_count(1)


async def test_an_old_revision_that_comes_late_takes_away_nothing_newer(visit: Open) -> None:
    at = await visit()
    page = await at.live(PLACE)
    newer = updated(alert(1), level=5)
    at.hub.emit(newer)
    at.hub.emit({**alert(1), "outdated": True}, "expired")
    at.hub.emit({**newer, "id": "e" + newer["id"][1:], "msgType": "Error", "references": []})
    at.hub.emit(alert(2))
    await expect(page.locator(".card")).to_have_count(2)
    await expect(page.locator(".card .grade").first).to_have_text("警戒レベル5緊急安全確保")


async def test_why_something_was_cancelled_stands_with_what_has_ended(visit: Open) -> None:
    at = await visit()
    page = await at.live(PLACE)
    at.hub.emit(alert(1))
    await expect(page.locator(".card")).to_have_count(1)
    at.hub.cancel(alert(1), "<b>水位計</b>の故障による誤報のため")
    await expect(page.locator("#ended li")).to_contain_text("取消理由：<b>水位計</b>の故障による誤報のため")


async def test_a_correction_is_shown_and_draws_no_attention_to_itself(visit: Open) -> None:
    at = await visit()
    page = await at.live(PLACE)
    at.hub.emit(alert(1))
    await expect(page.locator(".card")).to_have_count(1)
    await expect(page.locator(".card.fresh")).to_have_count(0, timeout=6000)
    at.hub.emit(updated(alert(1), correction=True, info=[info(description="避難所は第二中学校です。")]))
    await expect(page.locator(".card")).to_contain_text("避難所は第二中学校です。")
    await expect(page.locator(".card .facts")).to_contain_text("訂正")
    await expect(page.locator("#told")).to_contain_text("訂正：")
    await expect(page.locator(".card.fresh")).to_have_count(0)


async def test_an_update_that_no_longer_concerns_the_place_takes_the_alert_off_its_page(visit: Open) -> None:
    at = await visit()
    order = alert(1)
    at.hub.emit(order)
    page = await at.live(f"/place/{HITOYOSHI}")
    await expect(page.locator(".card")).to_have_count(1)
    at.hub.emit(updated(order, codes=["435015"]))
    await expect(page.locator(".card")).to_have_count(0, timeout=8000)


async def test_a_drill_never_ends_or_replaces_a_real_alert(visit: Open) -> None:
    at = await visit()
    real = alert(1)
    at.hub.emit(real)
    page = await at.live(PLACE + "?status=all")
    at.hub.emit(updated({**drill(1), "incident": real["incident"]}))
    at.hub.cancel({**drill(1), "incident": real["incident"]})
    at.hub.emit(alert(2))
    await expect(page.locator(".card")).to_have_count(2)
    await expect(page.locator(".card.tone-drill")).to_have_count(0)


async def test_a_drill_looks_different_and_carries_its_mark(visit: Open) -> None:
    at = await visit()
    page = await at.live(PLACE + "?status=all")
    at.hub.emit(alert(1))
    at.hub.emit(drill(50))
    await expect(page.locator(".card")).to_have_count(2)
    practice = page.locator(".card").last
    await expect(practice.locator(".notice")).to_have_text("【訓練】これは訓練です")
    await expect(practice.locator("h2")).to_contain_text("【訓練】")
    real, drilled = [
        await page.locator(".card")
        .nth(n)
        .locator(".band")
        .evaluate("e => getComputedStyle(e).backgroundColor")
        for n in (0, 1)
    ]
    assert real == "rgb(170, 0, 170)"
    assert drilled != real
    assert "repeating-linear-gradient" in await practice.locator(".band").evaluate(
        "e => getComputedStyle(e).backgroundImage"
    )
    await expect(page.locator("h1")).to_have_text("発令中の情報 1件")


async def test_drills_stay_away_from_who_did_not_ask_for_them(visit: Open) -> None:
    hub = Hub()
    hub.emit(drill(50))
    at = await visit(hub)
    page = await at.live(PLACE)
    await expect(page.locator(".card")).to_have_count(0)


@pytest.mark.parametrize("path", SCREENS)
async def test_a_lost_connection_is_said_in_words_after_90_seconds_and_the_state_stays(
    visit: Open, path: str
) -> None:
    hub = Hub()
    hub.emit(alert(1))
    at = await visit(hub, expected=LOST)
    await at.page.clock.install()
    page = await at.live(path)
    hub.refusing = 503
    hub.cut()
    await page.wait_for_selector('#pulse[data-state="waiting"]')
    await expect(page.locator("#lost")).to_be_hidden()
    await page.clock.fast_forward(95_000)
    await expect(page.locator("#lost")).to_contain_text(
        re.compile(r"\d+:\d\d:\d\dから情報を受信できていません")
    )
    await expect(page.locator("#lost")).to_contain_text("ほかの手段でも確認してください")
    await expect(page.locator("#pulse")).to_have_attribute("data-state", "stale")
    await expect(page.locator(".grade").first).to_have_text("警戒レベル4避難指示")

    hub.refusing = None
    await page.clock.fast_forward(35_000)
    await expect(page.locator("#pulse")).to_have_attribute("data-state", "live")
    await expect(page.locator("#lost")).to_be_hidden()


@pytest.mark.parametrize("path", SCREENS)
async def test_silence_is_never_shown_as_calm(visit: Open, path: str) -> None:
    at = await visit(expected=LOST)
    await at.page.clock.install()
    page = await at.live(path)
    calm = page.get_by_text("発令中の情報はありません", exact=True)
    await expect(calm).to_be_visible()
    at.hub.refusing = 503
    at.hub.cut()
    await page.clock.fast_forward(95_000)
    await expect(calm).to_have_count(0)
    await expect(page.get_by_text(re.compile("の時点では、発令中の情報はありませんでした"))).to_be_visible()


@pytest.mark.parametrize("path", SCREENS)
async def test_an_alert_that_would_expire_unheard_stays_with_its_age(visit: Open, path: str) -> None:
    hub = Hub()
    soon = (datetime.now(UTC) + timedelta(seconds=60)).isoformat()
    hub.emit(alert(1, info=[info(expires=soon)]))
    at = await visit(hub, expected=LOST)
    await at.page.clock.install()
    page = await at.live(path)
    hub.refusing = 503
    hub.cut()
    await page.clock.fast_forward(95_000)
    await expect(page.locator("#lost")).to_be_visible()
    await expect(page.locator(".grade").first).to_have_text("警戒レベル4避難指示")
    hub.refusing = None
    hub.log.clear()
    await page.clock.fast_forward(35_000)
    await expect(page.get_by_text("発令中の情報はありません", exact=True)).to_be_visible()


async def test_after_a_broken_connection_the_page_resumes_from_its_last_position(visit: Open) -> None:
    hub = Hub()
    at = await visit(hub, expected=LOST)
    page = await at.live(PLACE)
    hub.emit(alert(1))
    await expect(page.locator(".card")).to_have_count(1)
    hub.cut()
    missed = hub.emit(alert(2))
    await expect(page.locator(".card")).to_have_count(2)
    assert hub.asked[-1] == "e1-1"
    assert missed == "e1-2"


async def test_a_connection_that_died_silently_is_noticed_by_its_missing_heartbeats(visit: Open) -> None:
    hub = Hub(heartbeat_s=3600)
    at = await visit(hub)
    await at.page.clock.install()
    page = await at.live(PLACE)
    before = len(hub.asked)
    await page.clock.fast_forward(56_000)
    await page.clock.run_for(5_000)
    await expect(page.locator("#pulse")).to_have_attribute("data-state", "live")
    assert len(hub.asked) > before


async def test_a_forgotten_position_is_answered_by_a_snapshot_that_the_page_takes_over(visit: Open) -> None:
    hub = Hub()
    hub.emit(alert(1))
    at = await visit(hub, expected=LOST)
    page = await at.live(PLACE)
    await expect(page.locator(".card")).to_have_count(1)
    asked = hub.snapshots
    hub.cut()
    # Restored from a backup: another epoch, in which only another alert is in force.
    hub.epoch = "e2"
    hub.log.clear()
    hub.emit(alert(7, info=[info(headline="復旧後の情報")]))
    await expect(page.locator(".card h2")).to_have_text("復旧後の情報")
    await expect(page.locator(".card")).to_have_count(1)
    assert hub.snapshots == asked


async def test_the_page_says_the_same_with_and_without_scripts(visit: Open) -> None:
    hub = Hub()
    for number, level in enumerate([1, 2, 3, 4, 5], 1):
        hub.emit(alert(number, level=level))
    hub.emit(
        alert(
            6,
            level=3,
            kind="river-level",
            info=[info(event="氾濫警戒情報", expires=None, headline=None, instruction="")],
        )
    )
    hub.emit(
        alert(
            7,
            level=None,
            kind="other",
            info=[info(severity="Extreme", web="https://example.jp/a?b=1&c=2"), info(event="二つ目")],
        )
    )
    hub.emit(
        alert(
            8,
            level=None,
            info=[info(language="en-US", headline="Only English"), info(language="fr", headline="Français")],
        )
    )
    hub.emit(alert(9, info=[info(areas=[area(f"地区{n}") for n in range(45)], description="長" * 5000)]))
    hub.emit(alert(10, level=None, info=[], references=[]))
    hub.emit(drill(50))
    hub.emit(updated(alert(11), level=1))
    told: list[list[str]] = []
    for scripts in (False, True):
        at = await visit(hub, java_script_enabled=scripts)
        for path in ("/?status=all", PLACE + "?status=all&lang=en", PLACE + "?status=all&lang=fr"):
            page = await (at.live(path) if scripts else at.go(path))
            if scripts:
                await page.evaluate("document.querySelectorAll('.locate').forEach(e => e.remove())")
            told.append(await page.locator("#cards .card").all_inner_texts())
    assert told[:3] == told[3:]
    assert len(told[0]) == 12


async def test_without_scripts_the_state_its_age_and_the_reload_are_there(visit: Open) -> None:
    hub = Hub()
    hub.emit(alert(1))
    at = await visit(hub, java_script_enabled=False)
    page = await at.go(f"/place/{HITOYOSHI}")
    await expect(page.locator(".card .grade")).to_have_text("警戒レベル4避難指示")
    await expect(page.locator("noscript p")).to_contain_text("1分ごとに読み込み直します")
    assert await page.locator('head noscript meta[http-equiv="refresh"]').get_attribute("content") == "60"


async def test_the_map_colours_what_is_concerned_and_names_it(visit: Open) -> None:
    hub = Hub()
    ring = [[130.74, 32.2], [130.78, 32.2], [130.78, 32.23], [130.74, 32.2]]
    circle = {"lon": 130.757, "lat": 32.211, "radius_m": 1500}
    hub.emit(alert(1, info=[info(areas=[area(polygons=[ring], circles=[circle])])]))
    hub.emit(alert(2, level=3, codes=["435015"], info=[info(areas=[area("錦町")])]))
    at = await visit(hub)
    page = await at.live("/")
    await expect(page.locator("#map path.zone.tone-l4")).to_have_count(2)
    await expect(page.locator("#map path.zone.town.tone-l3")).to_have_count(1)
    await expect(page.locator("#map .leaflet-tooltip.name")).to_have_text(["錦町", "人吉市"])
    await page.locator(".card .locate").last.click()
    await expect(page.locator("#map")).to_be_focused()
    await expect(page.locator("#rough")).not_to_have_attribute("hidden", "")
    hub.cancel(alert(2, level=3, codes=["435015"]))
    await expect(page.locator("#map path.zone.town")).to_have_count(0)
    await expect(page.locator("#rough")).to_have_attribute("hidden", "")


async def test_a_place_is_dotted_while_its_own_boundary_is_approximate(visit: Open) -> None:
    square = mapping(box(130.6, 32.1, 130.9, 32.3))
    feature = {"type": "Feature", "properties": {"code": HITOYOSHI[:5]}, "geometry": square}
    hub = Hub()
    hub.gazetteer = hub.gazetteer.with_boundaries(json.dumps({"features": [feature]}).encode())
    hub.emit(alert(1, info=[info(areas=[area("人吉市")])]))
    hub.emit(alert(2, level=3, codes=["435015"], info=[info(areas=[area("錦町")])]))
    at = await visit(hub)
    page = await at.live("/")
    await expect(page.locator("#map path.zone.town.tone-l4:not(.rough)")).to_have_count(1)
    await expect(page.locator("#map path.zone.town.tone-l3.rough")).to_have_count(1)
    await expect(page.locator("#map path.ground.rough")).to_have_count(47)


async def test_signage_changes_by_itself_and_returns_to_the_clock(visit: Open) -> None:
    at = await visit(width=1920, height=1080)
    page = await at.live("/signage/lobby?area=43203")
    await expect(page.locator("body")).to_have_attribute("data-mode", "calm")
    await expect(page.locator(".clock")).to_have_text(re.compile(r"^\d{1,2}:\d\d$"))
    at.hub.emit(alert(1))
    await expect(page.locator("body")).to_have_attribute("data-mode", "alert")
    await expect(page.locator(".grade strong")).to_have_text("避難指示")
    await expect(page.locator(".band .shape use")).to_have_attribute("href", "#level-4")
    at.hub.cancel(alert(1))
    await expect(page.locator("body")).to_have_attribute("data-mode", "calm")


async def test_signage_tells_each_language_in_turn_and_news_at_once(visit: Open) -> None:
    hub = Hub()
    easy = info(language="ja-x-easy", headline="にげてください")
    english = info(language="en", headline="Evacuate now", instruction="Leave now.")
    hub.emit(alert(1, info=[info(), easy, english]))
    at = await visit(hub)
    await at.page.clock.install()
    page = await at.live("/signage/lobby?lang=ja,en")
    headline = page.locator("#alert h1")
    seen = []
    for _ in range(4):
        seen.append(await headline.inner_text())
        await page.clock.run_for(12_000)
    assert seen == ["球磨川沿いの地区に避難指示を発令しました", "にげてください", "Evacuate now", seen[0]]
    hub.emit(alert(2, level=5, info=[info(headline="命を守ってください")]))
    await expect(headline).to_have_text("命を守ってください")


async def test_signage_shows_no_drill_while_something_real_is_in_force(visit: Open) -> None:
    hub = Hub()
    hub.emit(drill(50))
    at = await visit(hub)
    page = await at.live("/signage/lobby?status=all")
    await expect(page.locator("body")).to_have_attribute("data-mode", "drill")
    await expect(page.locator(".drillbar")).to_have_text("【訓練】これは訓練です")
    assert "repeating-linear-gradient" in await page.evaluate(
        "getComputedStyle(document.body).backgroundImage"
    )
    assert (
        await page.locator(".band").evaluate("e => getComputedStyle(e).backgroundColor")
        == "rgb(255, 255, 255)"
    )
    hub.emit(alert(1, level=2))
    await expect(page.locator("body")).to_have_attribute("data-mode", "alert")
    await expect(page.locator(".drillbar")).to_be_hidden()
    await expect(page.locator(".pages")).to_have_text("")


async def test_signage_cuts_nothing_off_and_is_large_in_every_format(visit: Open) -> None:
    hub = Hub()
    headline = "球磨川が氾濫するおそれが高まったため、沿川の全域に緊急安全確保を発令しました"
    areas = [area(f"人吉市 第{n}地区") for n in range(8)]
    hub.emit(alert(1, level=5, info=[info(headline=headline, areas=areas)]))
    at = await visit(hub, width=1920, height=1080)
    page = await at.live("/signage/lobby")
    await page.evaluate("document.fonts.ready.then(() => true)")
    for width, height in ((1920, 1080), (1080, 1920), (1280, 720), (640, 360)):
        await page.set_viewport_size({"width": width, "height": height})
        await page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        for selector in (".band", ".text", "body"):
            over = "e => [e.scrollHeight - e.clientHeight, e.scrollWidth - e.clientWidth]"
            down, across = await page.locator(selector).evaluate(over)
            assert max(down, across) <= 1, (selector, width, height)
        shorter = min(width, height)
        assert await _size(page, ".grade strong") >= 0.1 * shorter
        assert await _size(page, "#alert h1") >= 0.045 * shorter


async def _size(page: Page, selector: str) -> float:
    return float(await page.locator(selector).evaluate("e => parseFloat(getComputedStyle(e).fontSize)"))


async def test_a_month_of_alerts_leaves_nothing_behind_on_signage(visit: Open) -> None:
    at = await visit()
    page = await at.live("/signage/lobby")
    session = await page.context.new_cdp_session(page)

    async def round_of_alerts(start: int) -> dict[str, int]:
        for number in range(start, start + 150):
            at.hub.emit(alert(number, info=[info(headline=f"情報 {number}")]))
            at.hub.cancel(alert(number))
        at.hub.emit(alert(start + 150, info=[info(headline=f"最後 {start}")]))
        await expect(page.locator("#alert h1")).to_have_text(f"最後 {start}")
        at.hub.cancel(alert(start + 150))
        await expect(page.locator("body")).to_have_attribute("data-mode", "calm")
        await session.send("HeapProfiler.collectGarbage")
        return await session.send("Memory.getDOMCounters")

    first = await round_of_alerts(1)
    second = await round_of_alerts(1000)
    assert second["nodes"] <= first["nodes"] + 10
    assert second["jsEventListeners"] <= first["jsEventListeners"] + 2
