"""How long one alert takes to the last of N live subscribers: the hub, a naive loop, and bare socket writes, in the same run.

    python bench/fanout.py [--subscribers 1000] [--rounds 20] [--burst 50]

All three append to a real store first, and time runs from before the append. `floor` writes one prepared frame with send(2) from
Python to every socket; `naive` encodes once and awaits `ws.send_str()` (or `response.write()`) for each subscriber. The load
client is a process of its own, also in Python: it limits all three alike, so that ratios are worth more than milliseconds.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import multiprocessing
import os
import resource
import selectors
import socket
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path

from aiohttp import web

from lalert import texts
from lalert.bus.local import LocalBus
from lalert.clock import SystemClock
from lalert.live import Live, LiveSettings, frames
from lalert.live.frames import Kind, Wire
from lalert.matching import FilterIndex, parse_filter, wants
from lalert.model import Entry, Origin, OriginKind
from lalert.store.sqlite import SqliteStore
from lalert.testing import declared_facts, make_alert, revive

BODY_BYTES = 2_048
PAUSE_SECONDS = 0.05
QUERY = "area=432032"
CONTENDERS = ("floor", "hub", "naive")


@dataclass(frozen=True, slots=True)
class Result:
    """Milliseconds from before the append; `cpu_us` is the server's user time for each receipt, `kb` its memory for each connection."""

    last_p50: float
    last_p99: float
    receipt_p50: float
    burst: float
    cpu_us: float
    kb: float


def marker(number: int) -> str:
    return f"bench-{number:06d}-"


def padded(number: int) -> str:
    """Return a headline that makes the JSON of the alert about `BODY_BYTES` long."""
    return marker(number) + "x" * (BODY_BYTES - 1_250)


# --- the load client: one process, one selector -----------------------------------------------------------------------------


def listen(pipe: Connection, port: int, subscribers: int, websocket: bool) -> None:
    """Connect, then for each number that is asked for answer with the times at which each socket had that alert."""
    selector = selectors.DefaultSelector()
    request = _request(websocket)
    for _ in range(subscribers):
        sock = socket.create_connection(("127.0.0.1", port))
        sock.sendall(request)
        head = b""
        while b"\r\n\r\n" not in head:
            head += sock.recv(4_096)
        sock.setblocking(False)
        selector.register(sock, selectors.EVENT_READ, bytearray())
    pipe.send("connected")
    end = b"}" if websocket else b"\n\n\r\n"
    while (number := pipe.recv()) is not None:
        pipe.send("listening")
        pipe.send(_receipts(selector, subscribers, marker(number).encode(), end))


def _request(websocket: bool) -> bytes:
    key = base64.b64encode(os.urandom(16)).decode()
    upgrade = f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
    path = "ws" if websocket else "stream"
    return f"GET /v1/{path}?{QUERY} HTTP/1.1\r\nHost: bench\r\n{upgrade if websocket else ''}\r\n".encode()


def _receipts(selector: selectors.BaseSelector, subscribers: int, wanted: bytes, end: bytes) -> list[float]:
    times: list[float] = []
    while len(times) < subscribers:
        for key, _ in selector.select():
            sock, buffer = key.fileobj, key.data
            assert isinstance(sock, socket.socket)
            data = sock.recv(262_144)
            if not data:
                raise ConnectionError("the server cut a subscriber off")
            buffer += data
            if buffer.endswith(end):
                if wanted in buffer:
                    times.append(time.monotonic())
                buffer.clear()
    return times


# --- the contenders -----------------------------------------------------------------------------------------------------------

Tell = Callable[[Entry], Awaitable[None]]


@asynccontextmanager
async def hub(store: SqliteStore, bus: LocalBus, _wire: Wire) -> AsyncIterator[tuple[int, Tell]]:
    """Serve with `Live`; it hears of entries from the bus by itself."""
    settings = LiveSettings(heartbeat_s=3_600, max_per_address=100_000)
    live = Live(store, bus, index=FilterIndex, wants=wants, body=texts.body, settings=settings)

    async def sse(request: web.Request) -> web.StreamResponse:
        return await live.sse(request, parse_filter(request.query.items()))

    async def websocket(request: web.Request) -> web.StreamResponse:
        return await live.websocket(request, parse_filter(request.query.items()))

    async def tell(entry: Entry) -> None:
        pass

    async with live, _serving([web.get("/v1/stream", sse), web.get("/v1/ws", websocket)]) as port:
        yield port, tell
        await live.drain(0.1)


@asynccontextmanager
async def naive(_store: SqliteStore, _bus: LocalBus, _wire: Wire) -> AsyncIterator[tuple[int, Tell]]:
    """Serve with one encoding, and an awaited send for each subscriber."""
    sockets: dict[web.WebSocketResponse, None] = {}
    streams: dict[web.StreamResponse, None] = {}

    async def sse(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        streams[response] = None
        await asyncio.Event().wait()
        return response

    async def websocket(request: web.Request) -> web.StreamResponse:
        response = web.WebSocketResponse(compress=False)
        await response.prepare(request)
        sockets[response] = None
        await response.receive()
        return response

    async def tell(entry: Entry) -> None:
        body = texts.body(entry, "json", None)
        text = '{"type":"alert",' + body[1:].decode()
        for one in sockets:
            await one.send_str(text)
        event = frames.event(Wire.SSE_PLAIN, Kind.ALERT, body, entry.position)
        for stream in streams:
            await stream.write(event)

    async with _serving([web.get("/v1/stream", sse), web.get("/v1/ws", websocket)]) as port:
        yield port, tell


@asynccontextmanager
async def floor(_store: SqliteStore, _bus: LocalBus, wire: Wire) -> AsyncIterator[tuple[int, Tell]]:
    """Serve with nothing but send(2)."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=4_096)
    listening.setblocking(False)
    socks: list[socket.socket] = []
    loop = asyncio.get_running_loop()

    async def accept() -> None:
        while True:
            sock, _ = await loop.sock_accept(listening)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await loop.sock_recv(sock, 4_096)
            await loop.sock_sendall(sock, b"HTTP/1.1 200 OK\r\n\r\n")
            sock.setblocking(True)
            socks.append(sock)

    async def tell(entry: Entry) -> None:
        frame = frames.event(wire, Kind.ALERT, texts.body(entry, "json", None), entry.position)
        for sock in socks:
            sock.send(frame)

    accepting = asyncio.create_task(accept())
    try:
        yield listening.getsockname()[1], tell
    finally:
        accepting.cancel()
        await asyncio.gather(accepting, return_exceptions=True)
        for sock in (*socks, listening):
            sock.close()


@asynccontextmanager
async def _serving(routes: list[web.RouteDef]) -> AsyncIterator[int]:
    app = web.Application()
    app.add_routes(routes)
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, backlog=4_096).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


# --- the run ------------------------------------------------------------------------------------------------------------------


async def measure(contender: str, wire: Wire, subscribers: int, rounds: int, burst: int) -> Result:
    """Serve, connect everybody, publish, and collect the receipts."""
    with tempfile.TemporaryDirectory(prefix="lalert-bench-") as folder:
        bus = LocalBus()
        store = SqliteStore(
            Path(folder) / "hub.db", revive=revive, on_append=bus.publish, clock=SystemClock()
        )
        serve = {"hub": hub, "naive": naive, "floor": floor}[contender]
        async with store, serve(store, bus, wire) as (port, tell):
            before = _resident_kb()
            pipe, theirs = multiprocessing.Pipe()
            client = multiprocessing.get_context("spawn").Process(
                target=listen, args=(theirs, port, subscribers, wire is Wire.WS), daemon=True
            )
            client.start()
            try:
                await _answer(pipe)
                await asyncio.sleep(0.3)
                kb = (_resident_kb() - before) / subscribers
                return await _rounds(store, tell, pipe, subscribers, rounds, burst, kb)
            finally:
                pipe.send(None)
                await asyncio.to_thread(client.join, 10)


async def _rounds(
    store: SqliteStore, tell: Tell, pipe: Connection, subscribers: int, rounds: int, burst: int, kb: float
) -> Result:
    last, receipts = [], []
    cpu = 0.0
    for number in range(rounds):
        begun, times, used = await _publish(store, tell, pipe, [number])
        last.append((max(times) - begun) * 1_000)
        receipts += [(at - begun) * 1_000 for at in times]
        cpu += used
    begun, times, _ = await _publish(store, tell, pipe, list(range(rounds, rounds + burst)))
    return Result(
        last_p50=statistics.median(last),
        last_p99=max(last),
        receipt_p50=statistics.median(receipts),
        burst=(max(times) - begun) * 1_000,
        cpu_us=cpu * 1e6 / (rounds * subscribers),
        kb=kb,
    )


async def _publish(
    store: SqliteStore, tell: Tell, pipe: Connection, numbers: list[int]
) -> tuple[float, list[float], float]:
    """Publish alerts one after the other; returns when the first began, when each subscriber had the last, and the CPU used."""
    pipe.send(numbers[-1])
    await _answer(pipe)
    await asyncio.sleep(PAUSE_SECONDS)
    cpu = _user_seconds()
    begun = time.monotonic()
    for number in numbers:
        alert = make_alert(headline=padded(number), polygon=None)
        appended = await store.append(
            alert, Origin(OriginKind.HTTP), datetime.now(UTC), declared_facts(alert), frozenset()
        )
        await tell(appended.entry)
    times = await _answer(pipe)
    assert isinstance(times, list)
    return begun, times, _user_seconds() - cpu


async def _answer(pipe: Connection) -> object:
    return await asyncio.to_thread(pipe.recv)


def _user_seconds() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_utime


def _resident_kb() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 1_024


def _in_child(
    pipe: Connection, contender: str, wire: Wire, subscribers: int, rounds: int, burst: int
) -> None:
    pipe.send(asyncio.run(measure(contender, wire, subscribers, rounds, burst)))


def isolated(contender: str, wire: Wire, subscribers: int, rounds: int, burst: int) -> Result:
    """Measure in a fresh process, so that no contender inherits another's memory."""
    pipe, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("spawn").Process(
        target=_in_child, args=(theirs, contender, wire, subscribers, rounds, burst)
    )
    child.start()
    theirs.close()
    try:
        result = pipe.recv()
    finally:
        child.join()
    assert isinstance(result, Result)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--subscribers", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--burst", type=int, default=50)
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(4_096, options.subscribers * 2 + 200)), hard))
    print(
        f"{options.subscribers} subscribers, alerts of about {BODY_BYTES} bytes, milliseconds; (x) = times the floor"
    )
    print(
        f"{'':14} {'last p50':>16} {'last max':>16} {'receipt p50':>12} {'burst':>16} {'user us':>8} {'kB/conn':>8}"
    )
    for wire in (Wire.SSE, Wire.WS):
        lowest: Result | None = None
        for contender in CONTENDERS:
            found = isolated(contender, wire, options.subscribers, options.rounds, options.burst)
            lowest = lowest or found
            print(
                f"{wire:4} {contender:9}"
                f" {_times(found.last_p50, lowest.last_p50)} {_times(found.last_p99, lowest.last_p99)}"
                f" {found.receipt_p50:12.1f} {_times(found.burst, lowest.burst)} {found.cpu_us:8.1f} {found.kb:8.1f}"
            )


def _times(value: float, lowest: float) -> str:
    return f"{value:8.1f} ({value / lowest:4.2f})"


if __name__ == "__main__":
    main()
