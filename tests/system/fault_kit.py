"""What the fault tests share: nodes in processes of their own, senders, subscribers and receivers around them, and the verdict on all they were told."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from aiohttp import web

from lalert.client import SseParser
from lalert.testing import make_cap
from lalert.web.admin import socket_path
from tests.system.history import (
    ACCEPTED,
    Answer,
    History,
    Jump,
    Receiver,
    Stream,
    Told,
    Verdict,
    check,
    offset,
)

ROOT = Path(__file__).resolve().parents[2]

CONFIG = """
[outbound]
allow = ["127.0.0.0/8"]

[adapters.webhook]
allow_http = true

[live]
heartbeat_s = 1
"""
ORG = "hitoyoshi"
SILENCE_SECONDS = 3.0
"""Three heartbeats."""

_DOCUMENT = make_cap(identifier="IDENTIFIER")
_BROKEN = (aiohttp.ClientError, OSError, TimeoutError)


class Hub:
    """A node in a process of its own, with its data in `data`. What it logs goes to a file beside it."""

    def __init__(self, data: Path, store: str = "", module: str = "lalert", root: Path = ROOT) -> None:
        """`store` is the block [store] of its configuration; else it has the embedded one. `root` is the tree that it is run from at its next start."""
        self.data = data
        self.url = ""
        self._config = data.with_name(data.name + ".toml")
        self._config.write_text(CONFIG + store, encoding="utf-8")
        self._module = module
        self.root = root
        self.log = data.with_name(data.name + ".log")

    async def start(self, seconds: float = 60) -> None:
        """Start it and wait until it accepts."""
        options = ["serve", "--port", "0", "--data", str(self.data), "--config", str(self._config)]
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                self._module,
                *options,
                cwd=self.root,
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join((str(self.root), str(self.root / "adapters"))),
                },
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
            )
        assert self.process.stdout is not None
        line = await asyncio.wait_for(self.process.stdout.readline(), seconds)
        assert line.startswith(b"lalert ready on "), f"{self.data.name} did not start: {self.said()}"
        self.url = line.split()[-1].decode()

    def said(self) -> str:
        """Return the end of its log."""
        return self.log.read_text(encoding="utf-8", errors="replace")[-2_000:]

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def kill(self) -> None:
        """End it as a power switch would."""
        if self.process.returncode is None:
            self.process.kill()
            await self.process.wait()

    async def terminate(self, seconds: float = 60) -> float:
        """Ask it to end; returns the seconds it took. It must end well."""
        begun = time.monotonic()
        self.process.terminate()
        assert await asyncio.wait_for(self.process.wait(), seconds) == 0, self.said()
        return time.monotonic() - begun

    def order(self, word: str) -> None:
        """Say a word on its standard input, for a module that listens there."""
        assert self.process.stdin is not None
        self.process.stdin.write(word.encode() + b"\n")

    async def administer(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Do what the command line does over the local socket."""
        with socket_path(self.data) as sock:
            async with (
                aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(sock))) as http,
                http.post(f"http://node/{path}", json=body) as response,
            ):
                assert response.status == 200, await response.text()
                answer: dict[str, Any] = await response.json()
                return answer

    async def keys(self) -> tuple[str, str]:
        """Make an organisation, and a key to send and one to receive."""
        order = {"org": ORG, "codes": ["432032"], "senders": ["*@hitoyoshi.example"]}
        await self.administer("orgs", order)
        made = [await self.administer("keys", {"org": ORG, "role": role}) for role in ("sender", "receiver")]
        return made[0]["secret"], made[1]["secret"]


@asynccontextmanager
async def running(*hubs: Hub) -> AsyncIterator[None]:
    """Start nodes one after another, and kill at the end what still runs."""
    try:
        for hub in hubs:
            await hub.start()
        yield
    finally:
        for hub in hubs:
            if hasattr(hub, "process"):
                await hub.kill()


@dataclass
class Report:
    """One run of a scenario: the verdict, and for how many seconds at most nobody's alert was accepted."""

    verdict: Verdict
    outage: float
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.verdict} (longest outage {self.outage:.2f} s)"


class Load:
    """Senders that post with `pace` seconds between, each document until it is accepted or they are stopped; who is not accepted tries another node."""

    def __init__(
        self,
        hubs: Sequence[Hub],
        http: aiohttp.ClientSession,
        key: str,
        history: History,
        *,
        pace: float,
        patience: float,
    ) -> None:
        self._hubs = hubs
        self._http = http
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/cap+xml"}
        self._history = history
        self._pace = pace
        self._timeout = aiohttp.ClientTimeout(total=patience)
        self._numbers = itertools.count(1)
        self._stopping = False
        self.accepted_at: list[float] = []
        self.wrong: list[str] = []
        self.statuses: list[int | None] = []

    def stop(self) -> None:
        self._stopping = True

    async def run(self) -> None:
        hub = random.choice(self._hubs)
        while not self._stopping:
            hub = await self.send(f"alert-{next(self._numbers)}", hub)
            await asyncio.sleep(self._pace)

    async def send(self, identifier: str, hub: Hub) -> Hub:
        """Send a document until it is accepted; returns the node that did."""
        document = _DOCUMENT.replace(b"IDENTIFIER", identifier.encode())
        while True:
            answer = await self._post(identifier, document, f"{hub.url}/v1/alerts")
            self._history.answers.append(answer)
            self.statuses.append(answer.status)
            if answer.status in ACCEPTED:
                self.accepted_at.append(time.monotonic())
                return hub
            if self._stopping:
                return hub
            await asyncio.sleep(0.05)
            hub = random.choice([other for other in self._hubs if other is not hub] or [hub])

    async def _post(self, identifier: str, document: bytes, url: str) -> Answer:
        try:
            async with self._http.post(
                url, data=document, headers=self._headers, timeout=self._timeout
            ) as response:
                body = await response.json(content_type=None)
                if response.status in (429, 503) and not int(response.headers.get("Retry-After", 0)):
                    self.wrong.append(f"{identifier}: {response.status} without Retry-After")
                if response.status not in (*ACCEPTED, 429, 503):
                    self.wrong.append(f"{identifier}: was answered {response.status} {body}")
                return Answer(identifier, response.status, body.get("position"))
        except _BROKEN:
            return Answer(identifier, None)

    def outage(self, begun: float, ended: float) -> float:
        """Return the longest time between two accepted alerts, the beginning and the end counted as such."""
        times = [begun, *(at for at in self.accepted_at if begun <= at <= ended), ended]
        return max(after - before for before, after in itertools.pairwise(times))


class Listener:
    """A subscriber that comes back after its last position, to any of the nodes, whenever its connection ends or falls silent."""

    def __init__(
        self, name: str, hubs: Sequence[Hub], http: aiohttp.ClientSession, history: History, *, ws: bool
    ) -> None:
        self.stream = Stream(name, "")
        self.at: str | None = None
        self.registered = asyncio.Event()
        self.farewells: list[dict[str, Any]] = []
        self.connections = 0
        self.wrong: list[str] = []
        self._hubs = hubs
        self._http = http
        self._ws = ws
        history.streams.append(self.stream)

    async def run(self) -> None:
        while True:
            query = {} if self.at is None else {"after": self.at}
            with suppress(*_BROKEN):
                await (self._listen_ws if self._ws else self._listen_sse)(
                    random.choice(self._hubs).url, query
                )
            await asyncio.sleep(random.uniform(0.02, 0.2))

    async def _listen_sse(self, url: str, query: dict[str, str]) -> None:
        parser = SseParser()
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=2, sock_read=SILENCE_SECONDS)
        async with self._http.get(f"{url}/v1/stream", params=query, timeout=timeout) as response:
            self._opened(response.status)
            async for chunk in response.content.iter_any():
                for message in parser.feed(chunk):
                    data = orjson.loads(message.data)
                    if message.event in ("alert", "snapshot") and message.id != data["position"]:
                        self.wrong.append(f"{self.stream.name}: id {message.id} on {data['position']}")
                    self._take(message.event, data)

    async def _listen_ws(self, url: str, query: dict[str, str]) -> None:
        timeout = aiohttp.ClientWSTimeout(ws_receive=SILENCE_SECONDS, ws_close=1.0)
        connecting = self._http.ws_connect(f"{url}/v1/ws", params=query, timeout=timeout, max_msg_size=0)
        async with await asyncio.wait_for(connecting, 3) as socket:
            self._opened(200)
            async for message in socket:
                if message.type is aiohttp.WSMsgType.TEXT:
                    data = orjson.loads(message.data)
                    self._take(data["type"], data)

    def _opened(self, status: int) -> None:
        self.connections += 1
        if status not in (200, 503):
            self.wrong.append(f"{self.stream.name}: the stream was answered {status}")

    def _take(self, kind: str, data: dict[str, Any]) -> None:
        match kind:
            case "alert" | "expired":
                self.stream.events.append(Told(data["position"], data["identifier"]))
                self.at = data["position"]
            case "snapshot":
                shown = frozenset(alert["identifier"] for alert in data["alerts"])
                self.stream.events.append(Jump(data["position"], shown))
                self.at = data["position"]
            case "heartbeat":
                if self.at is None:
                    self.stream.start = self.at = data["position"]
                    self.registered.set()
                elif offset(data["position"]) > offset(self.at):
                    self.at = data["position"]
            case "bye":
                self.farewells.append(data)


class Hook:
    """A receiver of webhooks on loopback; `answers` says with which status the next ones are answered, 204 else."""

    def __init__(self, name: str, history: History) -> None:
        self.receiver = Receiver(name, "")
        self.url = ""
        history.receivers.append(self.receiver)

    async def take(self, request: web.Request) -> web.Response:
        data = (await request.json())["data"]
        self.receiver.deliveries.append((request.headers["webhook-id"], data["identifier"]))
        return web.Response(status=204)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        app = web.Application()
        app.router.add_post("/", self.take)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
            yield
        finally:
            await runner.cleanup()


class Trial:
    """Nodes under load, and everything that everybody is told. `finish` gives the verdict."""

    def __init__(self, hubs: Sequence[Hub], http: aiohttp.ClientSession, keys: tuple[str, str]) -> None:
        self.hubs = hubs
        self.http = http
        self.keys = keys
        self.history = History()
        self.listeners: list[Listener] = []
        self.hooks: list[Hook] = []
        self._senders: list[asyncio.Task[None]] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def begin(
        self, stack: AsyncExitStack, *, senders: int, pace: float, patience: float, hooks: int
    ) -> None:
        """Register the receivers and half of the subscribers, start the load, then let the other half come in the middle of it."""
        stack.push_async_callback(self._end)
        await self._known_everywhere()
        for number in range(1, hooks + 1):
            hook = Hook(f"hook-{number}", self.history)
            await stack.enter_async_context(hook.serving())
            self.hooks.append(hook)
            # The position comes first: what is accepted after it is owed.
            hook.receiver.start = await self.position()
            await self._subscribe(hook)
        await self._listen("sse-1", ws=False)
        await self._listen("ws-1", ws=True)
        self.load = Load(self.hubs, self.http, self.keys[0], self.history, pace=pace, patience=patience)
        self.begun = time.monotonic()
        self._senders = [asyncio.create_task(self.load.run()) for _ in range(senders)]
        await self._listen("sse-2", ws=False)
        await self._listen("ws-2", ws=True)

    async def position(self, number: int = 0) -> str:
        """Return the newest position that a node has."""
        return str((await self.ready(self.hubs[number]))[1]["position"])

    async def ready(self, hub: Hub) -> tuple[int, dict[str, Any]]:
        """Ask a node whether it can do its work."""
        timeout = aiohttp.ClientTimeout(total=10)
        async with self.http.get(f"{hub.url}/readyz", timeout=timeout) as response:
            return response.status, await response.json(content_type=None)

    async def _known_everywhere(self) -> None:
        """Wait until every node knows the new keys."""
        headers = {"Authorization": f"Bearer {self.keys[1]}"}
        async with asyncio.timeout(10):
            for hub in self.hubs:
                while True:
                    async with self.http.get(f"{hub.url}/v1/subscriptions", headers=headers) as response:
                        if response.status == 200:
                            break
                    await asyncio.sleep(0.05)

    async def _subscribe(self, hook: Hook) -> None:
        headers = {"Authorization": f"Bearer {self.keys[1]}"}
        body = {"channel": "webhook", "target": hook.url}
        async with self.http.post(
            f"{self.hubs[0].url}/v1/subscriptions", json=body, headers=headers
        ) as response:
            assert response.status == 201, await response.text()

    async def _listen(self, name: str, *, ws: bool) -> None:
        listener = Listener(name, self.hubs, self.http, self.history, ws=ws)
        self.listeners.append(listener)
        self._tasks.append(asyncio.create_task(listener.run()))
        await asyncio.wait_for(listener.registered.wait(), 20)

    async def accepted(self, more: int, seconds: float = 30) -> float:
        """Wait until so many more alerts were accepted; returns the seconds that took."""
        begun, wanted = time.monotonic(), len(self.load.accepted_at) + more
        await until(lambda: len(self.load.accepted_at) >= wanted, seconds)
        return time.monotonic() - begun

    async def finish(self, seconds: float = 30) -> Report:
        """End the load, wait until everybody should have everything, and judge."""
        ended = time.monotonic()
        self.load.stop()
        await asyncio.gather(*self._senders)
        await self._settled()
        logs = [await self._read_log(hub) for hub in self.hubs]
        self.history.log = logs[0]
        with suppress(TimeoutError):  # then the verdict names what is missing
            await until(self._everybody_has_all, seconds)
        await asyncio.sleep(0.1)  # for what should not come any more
        await self._end()
        verdict = check(self.history)
        if any(log != logs[0] for log in logs):
            verdict.wrong.append(f"the nodes list {[len(log) for log in logs]} alerts, and not the same")
        verdict.wrong += [*self.load.wrong, *(what for each in self.listeners for what in each.wrong)]
        return Report(verdict, self.load.outage(self.begun, ended))

    def _everybody_has_all(self) -> bool:
        if not self.history.log:
            return True
        newest = offset(self.history.log[-1][0])
        told = all(listener.at and offset(listener.at) >= newest for listener in self.listeners)
        return told and all(
            len({name for _, name in hook.receiver.deliveries})
            >= sum(offset(position) > offset(hook.receiver.start) for position, _ in self.history.log)
            for hook in self.hooks
        )

    async def _settled(self) -> None:
        """Wait until all nodes stand at one position for a while: what was under way when its sender gave up may still arrive."""
        before: set[str] = set()
        async with asyncio.timeout(60):
            while True:
                with suppress(*_BROKEN):
                    now = {await self.position(number) for number in range(len(self.hubs))}
                    if len(now) == 1 and now == before:
                        return
                    before = now
                await asyncio.sleep(0.3)

    async def _read_log(self, hub: Hub) -> list[tuple[str, str]]:
        """List the whole log of a node over HTTP."""
        log: list[tuple[str, str]] = []
        query = {"limit": "500"}
        while True:
            async with self.http.get(f"{hub.url}/v1/alerts", params=query) as response:
                assert response.status == 200, await response.text()
                page = await response.json(content_type=None)
            if not page["alerts"]:
                return log
            log += [(alert["position"], alert["identifier"]) for alert in page["alerts"]]
            query["after"] = page["next"]

    async def _end(self) -> None:
        for task in (*self._senders, *self._tasks):
            task.cancel()
        for result in await asyncio.gather(*self._senders, *self._tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result


@asynccontextmanager
async def trial(
    *hubs: Hub, senders: int = 6, pace: float = 0.03, patience: float = 5.0, hooks: int = 1
) -> AsyncIterator[Trial]:
    """Start nodes (the first must be new) and put them under load."""
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(running(*hubs))
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        http = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        this = Trial(hubs, http, await hubs[0].keys())
        await this.begin(stack, senders=senders, pace=pace, patience=patience, hooks=hooks)
        yield this


async def until(claim: Callable[[], bool], seconds: float) -> None:
    """Wait until something holds; raises `TimeoutError`."""
    async with asyncio.timeout(seconds):
        while not claim():
            await asyncio.sleep(0.01)
