"""Accepted posts a second over HTTP with 1, 16 and 128 connections, against a bare aiohttp server that makes the same commits.

Run it as `python -m bench.accept`. Each server runs in a process of its own; the load comes from this one, by bare sockets. The floor reads the body, has the embedded store keep
an alert of that size that was made beforehand, and answers 201: the same HTTP and the same disk, without keys, parsing, checking, judging, matching and audit.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from operator import truediv
from pathlib import Path
from uuid import uuid4

from aiohttp import web

from bench.append import FACTS, MODEL, NOW, ORIGIN, quantiles
from lalert.cli.serving import settle
from lalert.clock import SystemClock
from lalert.store.sqlite import SqliteStore
from lalert.testing import make_cap, revive

ROUNDS = 5
POSTS = {1: 400, 16: 2_400, 128: 4_800}
SENDER = "bousai@hitoyoshi.example"
WORDS = "球磨川の水位が上がり、氾濫のおそれがあります。" * 35


def floor() -> None:
    """Run the bare server until it is told to stop."""

    async def serve() -> None:
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        with tempfile.TemporaryDirectory() as name:
            path = Path(name) / "data" / "floor.db"
            async with SqliteStore(
                path, revive=revive, on_append=lambda _: None, clock=SystemClock()
            ) as store:

                async def post(request: web.Request) -> web.Response:
                    alert = replace(MODEL, identifier=uuid4().hex, raw=await request.read())
                    appended = await store.append(alert, ORIGIN, NOW, FACTS, frozenset())
                    return web.Response(status=201, text=appended.entry.position)

                app = web.Application()
                app.add_routes([web.post("/v1/alerts", post)])
                runner = web.AppRunner(app, access_log=None)
                await runner.setup()
                await web.TCPSite(runner, "127.0.0.1", 0).start()
                settle()
                print(runner.addresses[0][1], flush=True)
                await stop.wait()
                await runner.cleanup()

    asyncio.run(serve())


@asynccontextmanager
async def servers(folder: Path) -> AsyncIterator[tuple[int, int, str]]:
    """Start both; gives the node's port, the floor's, and a sender's key."""
    lalert = [sys.executable, "-m", "lalert"]
    data = str(folder / "data")
    org = ["org", "create", "hitoyoshi", "--codes", "432032", "--senders", SENDER, "--data", data]
    subprocess.run([*lalert, *org], check=True, stdout=subprocess.DEVNULL)
    made = [*lalert, "key", "create", "--org", "hitoyoshi", "--role", "sender", "--data", data]
    key = subprocess.run(made, check=True, capture_output=True, text=True).stdout.strip()
    node = subprocess.Popen(
        [*lalert, "serve", "--port", "0", "--data", data],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    bare = subprocess.Popen(
        [sys.executable, "-c", "from bench.accept import floor; floor()"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert node.stdout is not None
        assert bare.stdout is not None
        url = (await asyncio.to_thread(node.stdout.readline)).split()[-1]
        port = int(await asyncio.to_thread(bare.stdout.readline))
        yield int(url.rpartition(":")[2]), port, key
    finally:
        for process in (node, bare):
            process.terminate()
            process.wait(30)


async def load(port: int, key: str, connections: int, number: int) -> tuple[float, list[float]]:
    """Return accepted posts a second, and the seconds that each took."""
    waits: list[float] = []
    requests = [request(key) for _ in range(number)]

    async def send(mine: list[bytes]) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for one in mine:
            start = time.perf_counter()
            writer.write(one)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 201"), head
            await reader.readexactly(int(head.lower().split(b"content-length:")[1].split()[0]))
            waits.append(time.perf_counter() - start)
        writer.close()

    start = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for connection in range(connections):
            group.create_task(send(requests[connection::connections]))
    return number / (time.perf_counter() - start), waits


def request(key: str) -> bytes:
    body = make_cap(sender=SENDER, description=WORDS)
    head = (
        "POST /v1/alerts HTTP/1.1\r\nHost: hub\r\nContent-Type: application/cap+xml\r\n"
        f"Authorization: Bearer {key}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    print(f"alerts of {len(make_cap(sender=SENDER, description=WORDS))} bytes")
    print(f"{'connections':>12} {'floor /s':>9} {'node /s':>9} {'ratio':>6} {'p50 ms':>8} {'p99 ms':>8}")
    with tempfile.TemporaryDirectory() as name:
        async with servers(Path(name)) as (node, bare, key):
            await load(node, key, 16, 320)
            await load(bare, key, 16, 320)
            for connections, posts in POSTS.items():
                low, taken, waits = [], [], []
                for _ in range(options.rounds):
                    low.append((await load(bare, key, connections, posts))[0])
                    rate, seconds = await load(node, key, connections, posts)
                    taken.append(rate)
                    waits += seconds
                p50, p99 = quantiles(waits)
                ratio = statistics.median(map(truediv, taken, low))
                print(
                    f"{connections:12} {statistics.median(low):9.0f} {statistics.median(taken):9.0f} {ratio:6.2f} {p50:8.2f} {p99:8.2f}"
                )


if __name__ == "__main__":
    asyncio.run(main())
