"""TESTS R2 with a real `kill -9`: the hub dies between the receiver's acceptance and its own record."""

from __future__ import annotations

import asyncio
import base64
import sys
from contextlib import AsyncExitStack, closing
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path

import apsw
import pytest
import standardwebhooks
from aiohttp import web

from lalert import matching
from lalert.bus.local import LocalBus, LocalLeases
from lalert.clock import SystemClock
from lalert.dispatch import Dispatcher, guarded_session
from lalert.model import Filter, Origin, OriginKind, Subscription
from lalert.store import DeliveryState
from lalert.store.sqlite import SqliteStore
from lalert.testing import declared_facts, make_alert, revive
from lalert.testing.channel import until
from lalert.testing.hub import FakeHub
from lalert_adapters.webhook import Webhook, WebhookConfig

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()


@pytest.mark.timeout(300)  # three processes are started one after another
async def test_a_hub_killed_before_it_could_record_delivers_again_with_the_same_id_and_then_never_more(
    tmp_path: Path,
) -> None:
    posts: list[tuple[str, str]] = []
    hubs: list[asyncio.subprocess.Process] = []

    async def receive(request: web.Request) -> web.Response:
        payload = standardwebhooks.Webhook(SECRET).verify(await request.read(), dict(request.headers))
        posts.append((request.headers["webhook-id"], payload["data"]["identifier"]))
        if len(posts) == 2:
            # All three are kept by then, and the first delivery is on record: the crash falls on the second alone.
            await until(lambda: on_record(tmp_path / "hub.db") == (3, 1), 60)
            hubs[-1].kill()
        return web.Response(status=204)

    app = web.Application()
    app.router.add_post("/", receive)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/"

        async def run(words: str) -> None:
            command = [sys.executable, __file__, str(tmp_path / "hub.db"), url, *words.split()]
            hub = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.PIPE)
            hubs.append(hub)

        await run("subscribe one two three")
        await asyncio.wait_for(hubs[-1].wait(), 90)
        assert hubs[-1].returncode == -9
        assert len(posts) == 2

        await run("")
        await until(lambda: len(posts) == 4, 90)
        await stop(hubs[-1])
        # Which of the two comes first is not promised: between incidents the newest goes first.
        assert posts[1] in posts[2:], "what was accepted and not recorded comes again, with the same id"
        assert sorted(name for _, name in posts) == sorted(["one", "two", "three", posts[1][1]])

        await run("last")
        await until(lambda: len(posts) == 5, 90)
        await stop(hubs[-1])
        assert posts[4][1] == "last"
    finally:
        for hub in hubs:
            if hub.returncode is None:
                hub.kill()
                await hub.wait()
        await runner.cleanup()


def on_record(path: Path) -> tuple[int, int]:
    """Count the alerts and the deliveries on disk."""
    with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as db:
        alerts: int = db.execute("SELECT count(*) FROM entry").get
        deliveries: int = db.execute(
            "SELECT count(*) FROM delivery WHERE state = ?", (DeliveryState.DELIVERED,)
        ).get
    return alerts, deliveries


async def stop(hub: asyncio.subprocess.Process) -> None:
    """End a hub in peace: it serves until its standard input is closed."""
    assert hub.stdin is not None
    hub.stdin.close()
    assert await asyncio.wait_for(hub.wait(), 90) == 0


async def serve(path: str, url: str, words: list[str]) -> None:
    """Be a hub with one webhook; accept an alert for each word, then deliver until standard input ends."""
    clock, bus = SystemClock(), LocalBus()
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        store = await enter(SqliteStore(Path(path), revive=revive, on_append=bus.publish, clock=clock))
        session = await enter(guarded_session([ip_network("127.0.0.0/8")]))
        webhook = await enter(Webhook("hook", WebhookConfig(allow_http=True), FakeHub(session=session)))
        dispatcher = await enter(
            Dispatcher(store, bus, {"hook": webhook}, leases=LocalLeases(), wants=matching.wants, clock=clock)
        )
        if words[:1] == ["subscribe"]:
            options = {"secret": SECRET}
            await dispatcher.subscribe(
                Subscription("a", "hook", url, Filter(), datetime.now(UTC), options=options)
            )
            words = words[1:]
        for word in words:
            alert = make_alert(identifier=word)
            await store.append(
                alert, Origin(OriginKind.HTTP), datetime.now(UTC), declared_facts(alert), frozenset()
            )
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], sys.argv[2], sys.argv[3:]))
