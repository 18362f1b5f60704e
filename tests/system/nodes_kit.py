"""What the tests of several nodes share: whole nodes over one Valkey, and readers that say what a client of theirs was told."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, cast

import aiohttp
import msgspec
import orjson

from lalert.client import SseParser
from lalert.config import Live, Settings, Store
from lalert.testing.node import RunningNode, running_node
from tests.system.history import History, Jump, Stream, Told, offset

PATIENCE = 10.0


@asynccontextmanager
async def nodes(
    url: str, path: Path, count: int = 2, settings: Settings | None = None
) -> AsyncIterator[list[RunningNode]]:
    """Run whole nodes over one server; they have the keys of the first in common."""
    chosen = msgspec.structs.replace(settings or Settings(), store=Store(url=url), live=Live(heartbeat_s=1.0))
    async with AsyncExitStack() as stack:
        running: list[RunningNode] = []
        for number in range(count):
            node = await stack.enter_async_context(running_node(path / f"node-{number}", chosen))
            node.keys = running[0].keys if running else node.keys
            running.append(node)
        yield running


class Ear:
    """One connection to a stream, SSE or WebSocket; `heard` is every event that was taken off it."""

    def __init__(self, events: AsyncIterator[dict[str, Any]]) -> None:
        self._events = events
        self.heard: list[dict[str, Any]] = []

    async def next(self, *kinds: str) -> dict[str, Any]:
        """Return the data of the next event of one of `kinds` (all but heartbeats where none is named), its kind as `type`."""
        async with asyncio.timeout(PATIENCE):
            while True:
                event = await anext(self._events)
                self.heard.append(event)
                if event["type"] in kinds if kinds else event["type"] != "heartbeat":
                    return event

    async def identifiers(self, count: int) -> list[str]:
        """Return of which alerts the next so many events tell; anything else between them is an error."""
        told = [await self.next() for _ in range(count)]
        assert {event["type"] for event in told} == {"alert"}, told
        return [event["identifier"] for event in told]


@asynccontextmanager
async def listening(
    node: RunningNode,
    *,
    ws: bool = False,
    key: str | None = None,
    last_event_id: str | None = None,
    test: bool = False,
    **query: str,
) -> AsyncIterator[Ear]:
    """Open a stream (`test`: the test stream) and wait until it is registered."""
    which = "/test" if test else ""
    headers = node.headers(key)
    if last_event_id is not None:
        headers["Last-Event-ID"] = last_event_id
    if ws:
        async with node.http.ws_connect(f"{node.url}/v1/ws{which}", params=query, headers=headers) as socket:
            yield Ear(_frames(socket))
        return
    async with node.http.get(f"{node.url}/v1/stream{which}", params=query, headers=headers) as response:
        assert response.status == 200, await response.text()
        yield Ear(_events(response))


async def _frames(socket: aiohttp.ClientWebSocketResponse) -> AsyncIterator[dict[str, Any]]:
    async for message in socket:
        if message.type is aiohttp.WSMsgType.TEXT:
            yield orjson.loads(message.data)


async def _events(response: aiohttp.ClientResponse) -> AsyncIterator[dict[str, Any]]:
    parser = SseParser()
    async for chunk in response.content.iter_any():
        for message in parser.feed(chunk):
            yield {**cast("dict[str, Any]", orjson.loads(message.data)), "type": message.event}


class Roamer:
    """A client that leaves its node again and again, in the middle of whatever it is told, and goes on at any of them from its last position."""

    def __init__(
        self, name: str, nodes: Sequence[RunningNode], *, ws: bool, rng: random.Random, history: History
    ) -> None:
        self.stream = Stream(name, "")
        self.at: str | None = None
        self.registered = asyncio.Event()
        self.connections = 0
        self.gaps = 0
        self._nodes = nodes
        self._ws = ws
        self._rng = rng
        history.streams.append(self.stream)

    async def run(self) -> None:
        """Roam until cancelled."""
        while True:
            # A short stay is often over before the first event has come.
            stay = self._rng.uniform(0.0, 0.12) if self.registered.is_set() else PATIENCE
            query: dict[str, Any] = {} if self.at is None else {"after": self.at}
            with suppress(TimeoutError):
                async with (
                    asyncio.timeout(stay),
                    listening(self._rng.choice(self._nodes), ws=self._ws, **query) as ear,
                ):
                    self.connections += 1
                    while self.registered.is_set() or self.at is None:
                        self._take(await ear.next("alert", "snapshot", "gap", "heartbeat"))
            if self.at is not None:
                self.registered.set()

    def _take(self, event: dict[str, Any]) -> None:
        match event["type"]:
            case "alert":
                self.stream.events.append(Told(event["position"], event["identifier"]))
            case "snapshot":
                shown = frozenset(alert["identifier"] for alert in event["alerts"])
                self.stream.events.append(Jump(event["position"], shown))
            case "gap":
                self.gaps += 1
                return
        if self.at is None:
            self.stream.start = event["position"]
        if self.at is None or offset(event["position"]) > offset(self.at):
            self.at = event["position"]


async def until(claim: Callable[[], bool], seconds: float = PATIENCE) -> None:
    """Wait until something holds; raises `TimeoutError`."""
    async with asyncio.timeout(seconds):
        while not claim():
            await asyncio.sleep(0.01)


def lalert(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command line."""
    command = [sys.executable, "-m", "lalert", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
