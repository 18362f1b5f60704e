"""The stream client that ships with the pages, as a third party would use it."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import web
from playwright.async_api import Page

from tests.browser.conftest import Open
from tests.browser.stage import Hub, alert, event

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]

LOST = ("Failed to load resource", "net::ERR")
FOLLOW = """async (after) => {
    const { AlertStream } = await import("/static/js/lalert-stream.js");
    window.heard = [];
    window.stream = new AlertStream("/v1/stream?area=43203", { after });
    for (const kind of ["alert", "expired", "snapshot", "gap", "bye", "refused", "state"]) {
        stream.addEventListener(kind, ({ detail }) => heard.push([kind, detail.position ?? detail.state ?? detail.status ?? detail.reason ?? null]));
    }
    stream.open();
}"""


async def follow(page: Page, after: str | None = None) -> None:
    await page.evaluate(FOLLOW, after)
    await until(page, "stream.state === 'live'")


async def until(page: Page, claim: str) -> None:
    """Wait until a claim holds; playwright's own waiting needs `eval`, which the pages' policy forbids."""
    for _ in range(200):
        if await page.evaluate(claim):
            return
        await page.wait_for_timeout(100)
    raise AssertionError(f"{claim} did not come true; heard: {await page.evaluate('heard')}")


async def heard(page: Page, kind: str, count: int) -> list[Any]:
    """Return what was heard of one kind, once there are `count` of it."""
    await until(page, f"heard.filter(([kind]) => kind === '{kind}').length >= {count}")
    return [
        what for what, position in await page.evaluate("heard.map(h => [h[1], h[0]])") if position == kind
    ]


async def test_it_resumes_where_it_was_and_tells_nothing_twice(visit: Open) -> None:
    hub = Hub()
    at = await visit(hub, expected=LOST)
    page = await at.go("/setup")
    await follow(page)
    for number in (1, 2):
        hub.emit(alert(number))
    await heard(page, "alert", 2)
    hub.cut()
    hub.emit(alert(3))
    await heard(page, "alert", 3)
    for queue in hub.listeners:
        queue.put_nowait(event("alert", hub.log[1][1], "e1-2"))
    hub.emit(alert(4))
    assert await heard(page, "alert", 4) == ["e1-1", "e1-2", "e1-3", "e1-4"]
    assert hub.asked == ["", "e1-2"]


async def test_it_resumes_from_the_heartbeats_position_when_nothing_was_told(visit: Open) -> None:
    hub = Hub()
    hub.emit(alert(1, codes=["011011"]))
    at = await visit(hub, expected=LOST)
    page = await at.go("/setup")
    await follow(page)
    await until(page, "stream.position === 'e1-1'")
    hub.cut()
    await until(page, "stream.state === 'waiting'")
    await until(page, "stream.state === 'live'")
    assert hub.asked == ["", "e1-1"]


async def test_after_an_http_error_it_comes_back_by_itself(visit: Open) -> None:
    hub = Hub(refusing=503)
    at = await visit(hub, expected=LOST)
    page = await at.go("/setup")
    await page.evaluate(FOLLOW, None)
    assert set(await heard(page, "refused", 1)) == {503}
    hub.refusing = None
    hub.emit(alert(1))
    await until(page, "stream.state === 'live'")
    hub.emit(alert(2))
    assert "e1-2" in await heard(page, "alert", 1)


async def test_a_farewell_without_return_is_final_and_one_with_it_is_not(visit: Open) -> None:
    hub = Hub()
    at = await visit(hub, expected=LOST)
    page = await at.go("/setup")
    await follow(page)
    for queue in hub.listeners:
        queue.put_nowait(event("bye", {"reason": "going-away", "code": 1001, "reconnect": 0.2}))
    await until(page, "stream.state === 'waiting'")
    await until(page, "stream.state === 'live'")
    for queue in hub.listeners:
        queue.put_nowait(event("bye", {"reason": "key-revoked", "code": 4101, "reconnect": None}))
    await until(page, "stream.state === 'closed'")
    asked = len(hub.asked)
    await page.wait_for_timeout(3000)
    assert len(hub.asked) == asked


async def test_a_position_that_is_refused_does_not_lock_it_out(visit: Open) -> None:
    hub = PickyHub()
    at = await visit(hub, expected=(*LOST, "400"))
    page = await at.go("/setup")
    await page.evaluate(FOLLOW, "nonsense")
    await until(page, "stream.state === 'live'")
    assert await heard(page, "gap", 1) == ["position refused"]


class PickyHub(Hub):
    """A hub that answers what is no position with 400."""

    async def stream(self, request: web.Request) -> web.StreamResponse:
        if request.query.get("after") == "nonsense":
            raise web.HTTPBadRequest
        return await super().stream(request)
