"""A real browser on the real pages; whatever a page complains of, or asks of another host, fails its test."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, ConsoleMessage, Dialog, Page, Request, async_playwright, expect

from tests.browser.stage import Hub, staged

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or "/usr/bin/chromium"
expect.set_options(timeout=15_000)  # a machine that runs other tests beside these is slow, not broken
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@dataclass
class Visit:
    """A page on a staged hub. `complaints` are console errors, uncaught exceptions, dialogs, and requests to anywhere else."""

    hub: Hub
    url: str
    page: Page
    complaints: list[str] = field(default_factory=list)
    expected: tuple[str, ...] = ()

    async def go(self, path: str) -> Page:
        await self.page.goto(self.url + path)
        return self.page

    async def live(self, path: str) -> Page:
        """Open a page and wait until it hears the hub."""
        await self.go(path)
        await self.page.wait_for_selector('#pulse[data-state="live"]', state="attached")
        return self.page

    def watch(self) -> None:
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.complaints.append(f"uncaught: {error}"))
        self.page.on("dialog", self._dialog)
        self.page.on("request", self._request)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.type}: {message.text}")

    async def _dialog(self, dialog: Dialog) -> None:
        self.complaints.append(f"dialog: {dialog.message}")
        await dialog.dismiss()

    def _request(self, request: Request) -> None:
        if not request.url.startswith((self.url, "data:", "blob:")):
            self.complaints.append(f"foreign request: {request.url}")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        await browser.close()


Open = Callable[..., Awaitable[Visit]]


@pytest_asyncio.fixture(loop_scope="module")
async def visit(browser: Browser) -> AsyncIterator[Open]:
    """Return what opens a browser window on a hub of one's own: `await visit(hub, width=360, color_scheme="dark", ...)`."""
    visits: list[Visit] = []

    # Windows close before the hubs go away: an end that no test asked for is no complaint.
    async with AsyncExitStack() as hubs, AsyncExitStack() as windows:

        async def opened(
            hub: Hub | None = None,
            *,
            width: int = 1280,
            height: int = 900,
            expected: tuple[str, ...] = (),
            **options: Any,
        ) -> Visit:
            hub = hub or Hub()
            url = await hubs.enter_async_context(staged(hub))
            chosen = {
                "viewport": {"width": width, "height": height},
                "locale": "ja-JP",
                "timezone_id": "Asia/Tokyo",
            }
            context = await browser.new_context(**chosen | options)
            windows.push_async_callback(context.close)
            made = Visit(hub, url, await context.new_page(), expected=expected)
            made.watch()
            visits.append(made)
            return made

        yield opened
    complaints = [c for v in visits for c in v.complaints if not any(text in c for text in v.expected)]
    if complaints:
        pytest.fail("the page complained: " + "; ".join(complaints))
