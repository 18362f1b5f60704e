"""From the POST to the subscriber's receipt, one alert at a time, through a whole node in its own process.

The floor, in the same run and alternating with the node, is a bare aiohttp handler that appends the bytes to a file, calls fdatasync, answers 201 and
writes them to one open stream: the same hops with nothing in them.

    python -m bench.first_alert [COUNT]
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
from aiohttp import web

from lalert.testing import make_cap

ROUNDS = 10
SENDER = "bousai@hitoyoshi.example"


class Target:
    """A server to post to and the stream that it answers on; notes what a post and a receipt took, in seconds."""

    def __init__(self, session: aiohttp.ClientSession, url: str, key: str) -> None:
        self._session = session
        self._url = url
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/cap+xml"}
        self._arrived = asyncio.Event()
        self.answered: list[float] = []
        self.received: list[float] = []

    async def listen(self, ready: asyncio.Event) -> None:
        async with self._session.get(f"{self._url}/v1/stream") as response:
            ready.set()
            async for line in response.content:
                if line.startswith(b"event: alert"):
                    self._at = time.perf_counter()
                    self._arrived.set()

    async def one(self, raw: bytes, note: bool) -> None:
        self._arrived.clear()
        begun = time.perf_counter()
        async with self._session.post(f"{self._url}/v1/alerts", data=raw, headers=self._headers) as response:
            await response.read()
            assert response.status == 201, await response.text()
        answered = time.perf_counter()
        await asyncio.wait_for(self._arrived.wait(), 10)
        if note:
            self.answered.append(answered - begun)
            self.received.append(self._at - begun)


def floor(port_file: Path, log: Path) -> None:
    """Run the floor's server for ever."""

    async def serve() -> None:
        streams: list[web.StreamResponse] = []
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

        async def post(request: web.Request) -> web.Response:
            raw = await request.read()
            os.write(descriptor, raw)
            os.fdatasync(descriptor)
            for stream in streams:
                await stream.write(b"event: alert\ndata: " + raw.replace(b"\n", b" ") + b"\n\n")
            return web.Response(status=201)

        async def stream(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await response.prepare(request)
            streams.append(response)
            await asyncio.Event().wait()
            return response

        app = web.Application()
        app.add_routes([web.post("/v1/alerts", post), web.get("/v1/stream", stream)])
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port_file.write_text(f"http://127.0.0.1:{runner.addresses[0][1]}")
        await asyncio.Event().wait()

    asyncio.run(serve())


@asynccontextmanager
async def servers(folder: Path) -> AsyncIterator[tuple[str, str, str]]:
    """Start both; gives the node's address, its key and the floor's address."""
    lalert = [sys.executable, "-m", "lalert"]
    data = str(folder / "data")
    org = ["org", "create", "hitoyoshi", "--codes", "432032", "--senders", SENDER, "--data", data]
    subprocess.run([*lalert, *org], check=True, stdout=subprocess.DEVNULL)
    made = [*lalert, "key", "create", "--org", "hitoyoshi", "--role", "sender", "--data", data]
    key = subprocess.run(made, check=True, capture_output=True, text=True).stdout.strip()
    port_file = folder / "floor"
    code = f"from bench.first_alert import floor; from pathlib import Path; floor(Path({str(port_file)!r}), Path({str(folder / 'log')!r}))"
    node = subprocess.Popen(
        [*lalert, "serve", "--port", "0", "--data", data],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    bare = subprocess.Popen([sys.executable, "-c", code])
    try:
        assert node.stdout is not None
        url = (await asyncio.to_thread(node.stdout.readline)).split()[-1]
        while not port_file.exists() or not port_file.read_text():
            await asyncio.sleep(0.05)
        yield url, key, port_file.read_text()
    finally:
        for process in (node, bare):
            process.terminate()
            process.wait(30)


async def main(count: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with servers(folder) as (url, key, bare), aiohttp.ClientSession() as session:
            node, low = Target(session, url, key), Target(session, bare, key)
            listeners = []
            for target in (node, low):
                ready = asyncio.Event()
                listeners.append(asyncio.create_task(target.listen(ready)))
                await ready.wait()
            await asyncio.sleep(0.2)
            for number in range(20):
                for target in (node, low):
                    await target.one(make_cap(sender=SENDER, identifier=f"warm-{number}"), note=False)
            each = count // ROUNDS
            for turn in range(ROUNDS):
                for target in (node, low):
                    for number in range(each):
                        await target.one(make_cap(sender=SENDER, identifier=f"b-{turn}-{number}"), note=True)
            for listener in listeners:
                listener.cancel()
    print(
        f"{each * ROUNDS} alerts of {len(make_cap(sender=SENDER))} bytes, one after another, one SSE subscriber; milliseconds"
    )
    rows = {
        "node: POST to receipt": node.received,
        "node: POST to 201": node.answered,
        "floor: POST to receipt": low.received,
        "floor: POST to 201": low.answered,
    }
    for name, times in rows.items():
        print(f"  {name:24} p50 {quantile(times, 0.5):7.2f}   p99 {quantile(times, 0.99):7.2f}")
    ratio = quantile(node.received, 0.5) / quantile(low.received, 0.5)
    print(
        f"  node / floor, POST to receipt: p50 {ratio:.2f}, p99 {quantile(node.received, 0.99) / quantile(low.received, 0.99):.2f}"
    )


def quantile(times: list[float], q: float) -> float:
    """Return a quantile in milliseconds."""
    return 1_000 * sorted(times)[min(len(times) - 1, int(q * len(times)))]


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000))
