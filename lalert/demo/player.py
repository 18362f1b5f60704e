"""Plays the scenario: everything goes in and comes out by the public interface, as a municipality and a broadcaster would do it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final, cast

import aiohttp
from aiohttp import web
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lalert import cap, config
from lalert.app import Node
from lalert.client import Client
from lalert.demo.scenario import (
    CITY,
    ELSEWHERE,
    HITOYOSHI,
    LEVELS,
    ORDERS,
    ORGS,
    RAIN_MM,
    RIVER,
    STATIONS,
    STEP_SECONDS,
    STEPS,
    Order,
    order_alert,
)
from lalert.model import JST, Alert, Role

MSG_TYPES: Final = {"Alert": "発表", "Update": "更新", "Cancel": "解除", "Ack": "確認", "Error": "誤報"}

SETTLE_SECONDS: Final = 10.0
"""How long `--once` waits for the last receiver before it says that something did not arrive."""


@dataclass
class Heard:
    """What one receiver got: alert ids in order, and when each came by the monotonic clock."""

    name: str
    aloud: bool = False
    ids: list[str] = field(default_factory=list)
    at: dict[str, float] = field(default_factory=dict)

    def note(self, alert_id: str) -> None:
        self.ids.append(alert_id)
        self.at.setdefault(alert_id, time.monotonic())


async def run(*, port: int, speed: float, once: bool) -> int:
    """Play the demo; returns the exit code. Without `once` it keeps serving until Ctrl-C."""
    console = Console(highlight=False, soft_wrap=True)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    with tempfile.TemporaryDirectory(prefix="lalert-demo-") as folder:
        settings = config.Settings(
            hub=config.Hub(name="lalert デモ(架空の想定)", port=port, data=str(Path(folder) / "data")),
            outbound=config.Outbound(allow=("127.0.0.0/8",)),
            stations=STATIONS,
            adapters={"webhook": {"allow_http": True}},
        )
        try:
            async with Node(settings) as node:
                return await Play(node, console, speed).perform(stop, once)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            console.print(f"Port {port} is taken. Choose another: [bold]make demo PORT={port + 1}[/bold]")
            return 1


class Play:
    """One performance on one node."""

    def __init__(self, node: Node, console: Console, speed: float) -> None:
        self._node = node
        self._console = console
        self._pause = STEP_SECONDS / speed
        self._broadcaster = Heard("broadcaster, SSE, area=432032", aloud=True)
        self._webhook = Heard("webhook, area=43")
        self._drills = Heard("drill desk, SSE, status=exercise", aloud=True)
        self._elsewhere = Heard("another town, SSE, area=432059")
        self._begun: dict[str, float] = {}
        self._http: aiohttp.ClientSession
        self._keys: dict[str, str] = {}

    async def perform(self, stop: asyncio.Event, once: bool) -> int:
        async with contextlib.AsyncExitStack() as stack:
            self._http = await stack.enter_async_context(aiohttp.ClientSession())
            await self._make_keys()
            hook = await stack.enter_async_context(receiver(self._webhook))
            await self._subscribe_webhook(hook)
            listeners = [
                asyncio.create_task(self._listen(self._broadcaster, area=HITOYOSHI)),
                asyncio.create_task(self._listen(self._drills, status="exercise")),
                asyncio.create_task(self._listen(self._elsewhere, area=ELSEWHERE)),
            ]
            stack.callback(lambda: [task.cancel() for task in listeners])
            await self._connected(3)
            self._introduce()
            finished = await self._storm(stop)
            code = await self._verdict() if finished else 0
            if not once and finished:
                self._console.print(
                    "\nThe hub keeps running for you to look at. [bold]Ctrl-C[/bold] stops it."
                )
                await stop.wait()
            return code

    async def _make_keys(self) -> None:
        office = self._node.administration
        for org in ORGS:
            await office.create_org(org.id, org.codes, [org.sender], org.name)
        await office.create_org("broadcaster", ["all"], ["nobody@broadcaster.example"], "放送局(デモ)")
        orders = {
            "人吉市 officer": (CITY.id, Role.SENDER, False),
            "錦町 drill desk": (ORDERS[0].org.id, Role.SENDER, True),
            "river gauges": (RIVER.id, Role.SENSOR, False),
            "broadcaster": ("broadcaster", Role.RECEIVER, False),
        }
        for name, (org_id, role, drill) in orders.items():
            self._keys[name] = (await office.create_key(org_id, role, exercise_only=drill)).secret
        await self._node.keyring.refresh()

    async def _subscribe_webhook(self, url: str) -> None:
        body = {"channel": "webhook", "target": url, "filter": {"area": ["43"]}}
        headers = {"Authorization": f"Bearer {self._keys['broadcaster']}"}
        async with self._http.post(
            f"{self._node.url}/v1/subscriptions", json=body, headers=headers
        ) as response:
            response.raise_for_status()

    async def _listen(self, heard: Heard, **filters: str) -> None:
        async with Client(self._node.url) as client:
            async for event in client.stream(list(filters.items())):
                if event.kind == "alert":
                    heard.note(str(event.data["id"]))
                    if heard.aloud:
                        self._announce(heard, event.data)

    def _announce(self, heard: Heard, alert: Mapping[str, Any]) -> None:
        info = alert["info"][0] if alert["info"] else {}
        level = f"  警戒レベル{alert['level']}" if alert["level"] else ""
        style = "bold red" if alert["status"] == "Actual" else "bold yellow"
        took = self._took(heard, alert["id"])
        self._console.print(
            f"      [{style}]{MSG_TYPES[alert['msgType']]}[/{style}] {escape(info.get('headline') or info.get('event') or '')}{level}"
            f"  [dim]-> {heard.name.split(',')[0]}{took}[/dim]"
        )

    def _took(self, heard: Heard, alert_id: str) -> str:
        begun = self._begun.get(alert_id)
        return "" if begun is None else f" {1_000 * (heard.at[alert_id] - begun):.1f} ms after the post"

    async def _connected(self, count: int) -> None:
        async with asyncio.timeout(SETTLE_SECONDS):
            while self._node.live.stats()["sse"] < count:  # noqa: ASYNC110  # the hub tells nobody of this
                await asyncio.sleep(0.02)

    def _introduce(self) -> None:
        url, show = self._node.url, self._console.print
        show("\n[bold]lalert demo[/bold]  a storm over 人吉・球磨 (fictional), on a hub of its own\n")
        pages = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2))
        pages.add_row("map and list", f"[link]{url}/[/link]")
        pages.add_row("signage screen", f"{url}/signage/lobby?area={HITOYOSHI}")
        pages.add_row("residents' page", f"{url}/place/{HITOYOSHI}")
        pages.add_row("live stream", f"curl -N '{url}/v1/stream?area={HITOYOSHI}'")
        pages.add_row("feeds", f"{url}/feeds/all.atom   {url}/feeds/{HITOYOSHI}.rss")
        show(pages)
        show("\nDemo keys (random, gone with the demo)")
        keys = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2))
        for name, key in self._keys.items():
            keys.add_row(name, key)
        show(keys)
        show()

    async def _storm(self, stop: asyncio.Event) -> bool:
        """Play every step; returns False if it was stopped on the way."""
        alerts: list[Alert] = []
        self._console.print("step   多良木 m   柳瀬 m   人吉 m   rain mm", style="dim")
        for step in range(STEPS):
            await self._readings(step)
            levels = "".join(f"{LEVELS[name][step]:9.1f}" for name in LEVELS)
            self._console.print(f"{step + 1:>2}/{STEPS}{levels}{RAIN_MM[step]:10.1f}", style="dim")
            for number, order in enumerate(ORDERS):
                if order.step == step:
                    alerts.append(await self._order(order, number, alerts))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), self._pause)
                return False
        return True

    async def _readings(self, step: int) -> None:
        now = datetime.now(JST).isoformat(timespec="milliseconds")
        body: list[dict[str, object]] = [
            {"station": name, "time": now, "level_m": levels[step]} for name, levels in LEVELS.items()
        ]
        body.append({"station": "hitoyoshi", "time": now, "rain_mm": RAIN_MM[step], "period_s": 600})
        headers = {"Authorization": f"Bearer {self._keys['river gauges']}"}
        async with self._http.post(f"{self._node.url}/v1/readings", json=body, headers=headers) as response:
            answer = await response.json()
            if response.status != 200 or answer["accepted"] != len(body):
                raise RuntimeError(f"the demo's own readings were refused: {answer}")

    async def _order(self, order: Order, number: int, before: list[Alert]) -> Alert:
        alert = order_alert(order, number, datetime.now(JST), before)
        key = self._keys["人吉市 officer" if order.org is CITY else "錦町 drill desk"]
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/cap+xml"}
        self._begun[alert.id] = time.monotonic()
        async with self._http.post(
            f"{self._node.url}/v1/alerts", data=cap.render(alert), headers=headers
        ) as response:
            if response.status != 201:
                raise RuntimeError(f"the demo's own order was refused: {await response.text()}")
        return alert

    async def _verdict(self) -> int:
        """Say who should have heard what, and who did; returns the exit code."""
        everything = await self._get("/v1/alerts?status=all&limit=500")
        real = [alert for alert in everything["alerts"] if alert["status"] == "Actual"]
        drills = [alert["id"] for alert in everything["alerts"] if alert["status"] == "Exercise"]
        here = [alert["id"] for alert in real if HITOYOSHI in alert["codes"]]
        checks = [
            (self._broadcaster, here),
            (self._webhook, [alert["id"] for alert in real]),
            (self._drills, drills),
            (self._elsewhere, []),
        ]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_SECONDS):
                while any(set(wanted) - set(heard.ids) for heard, wanted in checks):  # noqa: ASYNC110  # four receivers at once
                    await asyncio.sleep(0.05)
        feed = await self._text(f"/feeds/{HITOYOSHI}.atom")
        active = await self._get("/v1/alerts?active=true")
        results = [
            (heard.name, len(wanted), len(set(heard.ids)), set(heard.ids) == set(wanted))
            for heard, wanted in checks
        ]
        newest = {alert["incident"]: alert["id"] for alert in real if HITOYOSHI in alert["codes"]}
        in_feed = sum(alert_id in feed for alert_id in newest.values())
        results.append(
            (
                f"Atom feed of {HITOYOSHI} (newest of each incident)",
                len(newest),
                in_feed,
                in_feed == len(newest),
            )
        )
        results.append(("in force after the lifting", 0, len(active["alerts"]), not active["alerts"]))
        by_gauges = sum(alert["sender"] == RIVER.sender for alert in real)
        results.append(("warnings issued by gauges alone", by_gauges, by_gauges, by_gauges >= len(STATIONS)))

        table = Table(box=None, pad_edge=False, padding=(0, 2))
        table.add_column("what arrived where")
        table.add_column("due", justify="right")
        table.add_column("arrived", justify="right")
        table.add_column("")
        for name, due, arrived, good in results:
            table.add_row(
                name,
                str(due),
                str(arrived),
                "[green]ok[/green]" if good else "[bold red]MISSING OR TOO MUCH[/bold red]",
            )
        self._console.print()
        self._console.print(table)
        times = sorted(
            self._broadcaster.at[i] - begun for i, begun in self._begun.items() if i in self._broadcaster.at
        )
        if times:
            self._console.print(
                f"\nFrom the officer's post to the broadcaster's receipt: {1_000 * times[0]:.1f} to {1_000 * times[-1]:.1f} ms"
            )
        return 0 if all(good for *_, good in results) else 1

    async def _get(self, path: str) -> dict[str, Any]:
        async with self._http.get(self._node.url + path) as response:
            response.raise_for_status()
            return cast(dict[str, Any], await response.json())

    async def _text(self, path: str) -> str:
        async with self._http.get(self._node.url + path) as response:
            response.raise_for_status()
            return await response.text()


@contextlib.asynccontextmanager
async def receiver(heard: Heard) -> AsyncIterator[str]:
    """Run a webhook receiver on a free port; gives its address."""

    async def take(request: web.Request) -> web.Response:
        body = await request.json()
        heard.note(str(body["data"]["id"]))
        return web.Response(status=204)

    app = web.Application()
    app.router.add_post("/hook", take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    finally:
        await runner.cleanup()
