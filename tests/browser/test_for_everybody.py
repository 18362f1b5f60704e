"""The pages are for everybody: small screens, keyboards, dark rooms, paper, slow lines, two languages."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.async_api import Page, expect

from tests.browser.conftest import Open
from tests.browser.stage import HITOYOSHI, TOKEN, Hub, alert, area, drill, info

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]

PAGES = [
    "/?status=all",
    f"/place/{HITOYOSHI}?status=all",
    "/signage/lobby?status=all",
    "/rules#CAP-XML-SIZE",
    f"/setup?token={TOKEN}",
    "/setup?token=wrong",
    "/no-such-page",
]

# Every piece of visible text against the nearest background that is one colour; hatched ground is judged by both of its colours.
CONTRASTS = """() => {
    const channel = (v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    const numbers = (colour) => colour.startsWith("color(srgb") ? colour.match(/[\\d.]+/g).map((v, i) => i < 3 ? v * 255 : +v) : colour.match(/[\\d.]+/g).map(Number);
    const luminance = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
    const ratio = (a, b) => { const [x, y] = [luminance(a), luminance(b)].sort((p, q) => q - p); return (x + 0.05) / (y + 0.05); };
    const grounds = (element) => {
        for (let at = element; at; at = at.parentElement) {
            const style = getComputedStyle(at);
            if (style.backgroundImage.includes("gradient")) return style.backgroundImage.match(/rgba?\\([^)]+\\)/g).map(numbers);
            const colour = numbers(style.backgroundColor);
            if (colour[3] !== 0) return [colour];
        }
        return [[255, 255, 255]];
    };
    const found = [];
    for (const element of document.querySelectorAll("body *")) {
        const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
        if (!own || !element.checkVisibility({ visibilityProperty: true }) || element.closest(".vh, .skip, noscript, svg, script")) continue;
        const text = numbers(getComputedStyle(element).color);
        for (const ground of grounds(element)) {
            const value = ratio(text, ground);
            found.push([element.className + " " + element.textContent.trim().slice(0, 20), value]);
        }
    }
    return found;
}"""


def full_hub() -> Hub:
    hub = Hub()
    for number, level in enumerate([1, 2, 3, 4, 5], 1):
        hub.emit(alert(number, level=level))
    for number, severity in enumerate(["Extreme", "Severe", "Moderate", "Minor", "Unknown"], 6):
        hub.emit(
            alert(
                number,
                level=None,
                kind="weather",
                info=[info(severity=severity, event="気象情報", web="https://example.jp/")],
            )
        )
    hub.emit(drill(50))
    return hub


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_text_has_a_contrast_of_4_5_on_every_ground(visit: Open, scheme: str) -> None:
    at = await visit(full_hub(), color_scheme=scheme, expected=("404",))
    for path in PAGES:
        page = await at.go(path)
        contrasts = await page.evaluate(CONTRASTS)
        assert contrasts, path
        poor = [(path, text, round(value, 2)) for text, value in contrasts if value < 4.5]
        assert not poor


async def test_each_level_is_legible_on_signage(visit: Open) -> None:
    at = await visit()
    page = await at.live("/signage/lobby")
    severities = ["Extreme", "Severe", "Moderate", "Minor", "Unknown"]
    for number, wanted in enumerate([5, 4, 3, 2, 1, *severities], 1):
        level = wanted if isinstance(wanted, int) else None
        shown = alert(number, level=level, info=[info(severity="Severe" if level else wanted)])
        at.hub.emit(shown)
        await expect(page.locator("body")).to_have_class(
            f"tone-l{level}" if level else f"tone-s-{str(wanted).lower()}"
        )
        poor = [(text, value) for text, value in await page.evaluate(CONTRASTS) if value < 4.5]
        assert not poor, wanted
        shape = f"#level-{level or 'none'}"
        await expect(page.locator(".band .shape use")).to_have_attribute("href", shape)
        await expect(page.locator(".grade span")).not_to_be_empty()
        at.hub.cancel(shown)


async def test_levels_differ_in_shape_and_words_not_only_in_colour(visit: Open) -> None:
    at = await visit(full_hub(), java_script_enabled=False)
    page = await at.go("/")
    shapes = await page.locator(".card .shape use").evaluate_all(
        "all => all.map(e => e.getAttribute('href'))"
    )
    words = await page.locator(".card .grade").all_inner_texts()
    assert len(set(shapes)) == 6
    assert len(set(words)) == 10


@pytest.mark.parametrize("path", [*PAGES, "/"])
async def test_nothing_scrolls_sideways_at_360_pixels(visit: Open, path: str) -> None:
    hub = full_hub()
    long = dict.fromkeys(("event", "headline", "description", "instruction", "senderName"), "long" * 400)
    hub.emit(alert(90, level=None, sender="long" * 60, info=[info(**long, areas=[area("long" * 50)])]))
    at = await visit(hub, width=360, height=780, expected=("404",))
    page = await at.go(path)
    await page.wait_for_load_state("load")
    assert await page.evaluate("document.scrollingElement.scrollWidth") <= 360
    if "token=token" in path:
        await page.locator("button.primary").click()
        at.expected = ("404", "422")
        await expect(page.locator(".faults")).to_be_visible()
        assert await page.evaluate("document.scrollingElement.scrollWidth") <= 360


async def test_everything_is_reached_and_seen_by_keyboard(visit: Open) -> None:
    hub = Hub()
    hub.emit(alert(1))
    at = await visit(hub)
    page = await at.live("/")
    await expect(page.locator(".locate")).to_be_visible()
    reached = []
    for _ in range(40):
        await page.keyboard.press("Tab")
        focused = await page.evaluate(
            """() => {
                const e = document.activeElement, style = getComputedStyle(e);
                return [e.id || e.className || e.dataset.slot || e.getAttribute("href") || e.tagName, style.outlineStyle !== "none"];
            }"""
        )
        if focused[0] == "BODY":
            break
        reached.append(focused)
    names = [name for name, _ in reached]
    assert names[0] == "skip"
    for wanted in (
        "brand",
        "lang",
        "locate",
        "copy",
        "/feeds/all.atom",
        "/openapi.yaml",
        "/signage/lobby",
        "SUMMARY",
        "map",
    ):
        assert wanted in names, wanted
    assert [name for name, outlined in reached if not outlined] == []


async def test_the_skip_link_leads_to_the_content(visit: Open) -> None:
    at = await visit()
    page = await at.live("/")
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await expect(page.locator("main")).to_be_focused()


async def test_targets_are_at_least_24_pixels(visit: Open) -> None:
    hub = Hub()
    hub.emit(alert(1))
    at = await visit(hub, width=360, height=780)
    for path in ("/", f"/place/{HITOYOSHI}", "/rules", f"/setup?token={TOKEN}"):
        page = await at.go(path)
        small = await page.evaluate(
            """() => [...document.querySelectorAll("a, button, input:not([type=hidden]), textarea, summary")]
                .filter((e) => e.checkVisibility() && !e.matches(".skip"))
                .map((e) => [e.textContent.trim().slice(0, 20), e.getBoundingClientRect()])
                .filter(([, box]) => box.width < 24 || box.height < 24).map(([text, box]) => [text, box.width, box.height])"""
        )
        assert small == []


async def test_each_language_is_complete_and_the_toggle_keeps_the_filter(visit: Open) -> None:
    hub = Hub()
    hub.emit(alert(1, info=[info(), info(language="en", event="Evacuation", headline="Evacuate now")]))
    at = await visit(hub, locale="en-GB")
    page = await at.live("/?area=43203")
    await expect(page.locator("html")).to_have_attribute("lang", "en")
    await expect(page.locator("h1")).to_have_text("Alerts in force: 1")
    await expect(page.locator(".card .grade")).to_have_text("Alert Level 4Evacuation Instruction")
    await expect(page.locator(".card h2")).to_have_text("Evacuate now")
    await page.locator(".lang").click()
    await expect(page.locator("html")).to_have_attribute("lang", "ja")
    await expect(page.locator(".where")).to_have_text("人吉市")
    await expect(page.locator(".card h2")).to_have_text("球磨川沿いの地区に避難指示を発令しました")


@pytest.mark.parametrize(
    ("path", "limit"), [("/", 500_000), (f"/place/{HITOYOSHI}", 150_000), ("/signage/lobby", 400_000)]
)
async def test_pages_are_light(visit: Open, path: str, limit: int) -> None:
    hub = full_hub()
    at = await visit(hub)
    sizes: dict[str, int] = {}

    async def weigh(response: Any) -> None:
        if "/v1/stream" not in response.url and not response.url.endswith(".woff2"):
            sizes[response.url] = len(await response.body())

    at.page.on("response", weigh)
    page = await at.live(path)
    await page.wait_for_timeout(500)
    assert sum(sizes.values()) <= limit, sizes
    assert len(sizes) >= 5


async def test_on_paper_the_state_and_where_to_look_again_are_there_and_the_rest_is_not(visit: Open) -> None:
    hub = Hub()
    hub.emit(alert(1))
    at = await visit(hub)
    page = await at.live(f"/place/{HITOYOSHI}")
    await page.emulate_media(media="print")
    await expect(page.locator(".card h2")).to_be_visible()
    await expect(page.locator(".printed")).to_contain_text(f"http://hub.example/place/{HITOYOSHI}")
    for hidden in (".pulse", ".connect", ".lang"):
        await expect(page.locator(hidden)).to_be_hidden()
    await _home_on_paper(await at.live("/"))


async def _home_on_paper(page: Page) -> None:
    await expect(page.locator(".card h2")).to_be_visible()
    await expect(page.locator("#map")).to_be_hidden()


async def test_motion_is_reduced_where_that_is_wished(visit: Open) -> None:
    at = await visit(reduced_motion="reduce")
    page = await at.live("/")
    at.hub.emit(alert(1))
    await expect(page.locator(".card.fresh")).to_be_visible()
    assert await page.locator(".card").evaluate("e => getComputedStyle(e).animationName") == "none"


async def test_a_screen_reader_is_told_of_changes_and_not_of_every_second(visit: Open) -> None:
    at = await visit()
    page = await at.live("/")
    await page.evaluate(
        """() => {
            window.told = 0;
            for (const region of document.querySelectorAll("[role=status], [role=alert], [aria-live]")) {
                new MutationObserver((changes) => { window.told += changes.length; }).observe(region, { childList: true, characterData: true, subtree: true });
            }
        }"""
    )
    await page.wait_for_timeout(2500)
    assert await page.evaluate("window.told") == 0
    at.hub.emit(alert(1))
    await expect(page.locator("#told")).to_contain_text("新しい情報")
    assert await page.evaluate("window.told") > 0
