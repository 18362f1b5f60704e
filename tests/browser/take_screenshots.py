"""Takes the pictures of the pages for the documentation: `python -m tests.browser.take_screenshots docs/screenshots`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from playwright.async_api import Browser, async_playwright

from tests.browser.conftest import ARGUMENTS, CHROMIUM
from tests.browser.stage import Hub, alert, area, drill, info, staged


@dataclass(frozen=True)
class Picture:
    """A page in a window of a size, with a hub in a state."""

    name: str
    path: str
    size: tuple[int, int]
    hub: Callable[[], Hub]
    dark: bool = False
    live: bool = True


def storm() -> Hub:
    """Return a hub in the middle of a storm: an order, a call for the elderly, and what a gauge says."""
    hub = Hub()
    bank = [
        [130.735, 32.205],
        [130.75, 32.215],
        [130.775, 32.217],
        [130.79, 32.21],
        [130.77, 32.203],
        [130.735, 32.205],
    ]
    districts = [area("人吉市 下薩摩瀬町"), area("人吉市 相良町"), area("人吉市 灰久保町", polygons=[bank])]
    in_english = info(
        language="en",
        headline="Evacuate: districts along the Kuma River",
        description="The Kuma River has passed its danger level and is still rising.",
        instruction="Leave dangerous places now.",
        senderName="Hitoyoshi City",
        areas=[area("Shimosatsumase, Sagara and Haikubo, Hitoyoshi", polygons=[bank])],
    )
    hub.emit(alert(1, info=[info(areas=districts), in_english]))
    elderly = info(
        senderName="錦町",
        headline="球磨川沿いの地区に高齢者等避難を発令しました",
        description=None,
        instruction="高齢の方や避難に時間がかかる方は、危険な場所から避難してください。",
        areas=[area("錦町 西地区"), area("錦町 木上地区")],
    )
    hub.emit(alert(2, level=3, codes=["435015"], info=[elderly]))
    gauge = info(
        event="氾濫危険水位",
        senderName="球磨川水位観測",
        headline="球磨川 人吉で氾濫危険水位に達しました",
        description="14時10分の観測水位は4.02mです。自動観測による速報値です。",
        instruction=None,
        areas=[area("球磨川 人吉", circles=[{"lon": 130.757, "lat": 32.211, "radius_m": 1500}])],
    )
    hub.emit(alert(3, level=None, kind="river-level", info=[gauge]))
    return hub


def exercise() -> Hub:
    hub = Hub()
    hub.emit(drill())
    return hub


PICTURES = [
    Picture("home", "/", (1440, 900), storm),
    Picture("home-dark", "/", (1440, 900), storm, dark=True),
    Picture("home-calm", "/", (1440, 900), Hub),
    Picture("phone", "/", (360, 780), storm),
    Picture("signage", "/signage/lobby?area=43203", (1920, 1080), storm),
    Picture("signage-portrait", "/signage/lobby?area=43203", (1080, 1920), storm),
    Picture("signage-drill", "/signage/lobby?status=exercise", (1920, 1080), exercise),
    Picture("signage-calm", "/signage/lobby?area=43203", (1920, 1080), Hub),
    Picture("rules", "/rules#CAP-POLYGON-OPEN", (1280, 900), Hub, live=False),
]


async def take(browser: Browser, picture: Picture, folder: Path) -> None:
    width, height = picture.size
    async with staged(picture.hub()) as url:
        context = await browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if picture.dark else "light",
            locale="ja-JP",
            timezone_id="Asia/Tokyo",
        )
        page = await context.new_page()
        await page.goto(url + picture.path)
        if picture.live:
            await page.wait_for_selector('#pulse[data-state="live"]')
        await page.wait_for_timeout(2000)  # fonts and the map
        await page.screenshot(path=folder / f"{picture.name}.png")
        await context.close()


async def main(folder: Path) -> None:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        for picture in PICTURES:
            await take(browser, picture, folder)
        await browser.close()


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    asyncio.run(main(target))
