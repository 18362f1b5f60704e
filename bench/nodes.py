"""What several nodes add to the way of an alert from the POST to a subscriber's receipt.

An alert is posted to one node and received at that one and at another; beside it go a single node with the embedded store, and the bare commands of
Redis that no hub over it can do without. Two nodes over one Valkey (append-only file, fsync always) and the single one, each in its own process, take turns, one alert at a time.

    python -m bench.nodes [COUNT]
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from lalert.store.redis.wire import Login, Place, Wire
from lalert.testing import make_cap
from tests.redis_kit import valkey

SENDER = "bousai@hitoyoshi.example"
WARM = 50
AIM_MS = 5.0
LALERT = [sys.executable, "-m", "lalert"]


@dataclass
class Stream:
    """One subscriber; notes when the newest alert came."""

    url: str
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    at: float = 0.0

    async def listen(self, session: aiohttp.ClientSession, ready: asyncio.Event) -> None:
        async with session.get(f"{self.url}/v1/stream") as response:
            ready.set()
            async for line in response.content:
                if line.startswith(b"event: alert"):
                    self.at = time.perf_counter()
                    self.arrived.set()


class Way:
    """From a POST to one node to the receipts at some; `answered` and `received` in seconds."""

    def __init__(self, session: aiohttp.ClientSession, url: str, key: str, streams: Sequence[Stream]) -> None:
        self._session = session
        self._url = url
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/cap+xml"}
        self._streams = streams
        self.answered: list[float] = []
        self.received: list[list[float]] = [[] for _ in streams]

    async def one(self, raw: bytes, note: bool) -> None:
        for stream in self._streams:
            stream.arrived.clear()
        begun = time.perf_counter()
        async with self._session.post(f"{self._url}/v1/alerts", data=raw, headers=self._headers) as response:
            await response.read()
            assert response.status == 201, await response.text()
        answered = time.perf_counter()
        for stream in self._streams:
            await asyncio.wait_for(stream.arrived.wait(), 10)
        if note:
            self.answered.append(answered - begun)
            for stream, received in zip(self._streams, self.received, strict=True):
                received.append(stream.at - begun)


class Bare:
    """XADD and WAITAOF on one connection, and the entry read on another: what no hub over Redis can do without."""

    def __init__(self, port: int) -> None:
        self._writer = Wire(Place("127.0.0.1", port), Login())
        self._reader = Wire(Place("127.0.0.1", port), Login())
        self.answered: list[float] = []
        self.received: list[float] = []

    async def open(self) -> None:
        await self._writer.open(5.0)
        await self._reader.open(5.0)

    async def close(self) -> None:
        await self._writer.close()
        await self._reader.close()

    async def one(self, raw: bytes, note: bool) -> None:
        reading = asyncio.create_task(
            self._reader.call("XREAD", "BLOCK", 5000, "STREAMS", "bare", "$", seconds=10)
        )
        await asyncio.sleep(0.001)
        begun = time.perf_counter()
        await self._writer.call("XADD", "bare", "MAXLEN", 10, "*", "raw", raw, seconds=5)
        await self._writer.call("WAITAOF", 1, 0, 1000, seconds=5)
        answered = time.perf_counter()
        await reading
        if note:
            self.answered.append(answered - begun)
            self.received.append(time.perf_counter() - begun)


@asynccontextmanager
async def node(folder: Path, store: str) -> AsyncIterator[str]:
    """Run a node; gives its address."""
    folder.mkdir()
    config = folder / "lalert.toml"
    config.write_text(f'[hub]\nport = 0\ndata = "{folder}/data"\n{store}', encoding="utf-8")
    process = subprocess.Popen(
        [*LALERT, "serve", "--config", str(config)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield (await asyncio.to_thread(process.stdout.readline)).split()[-1]
    finally:
        process.terminate()
        process.wait(30)


def key_of(folder: Path) -> str:
    """Make an organisation and a key at a running node."""
    there = ["--config", str(folder / "lalert.toml")]
    org = ["org", "create", "hitoyoshi", "--codes", "432032", "--senders", SENDER, *there]
    subprocess.run([*LALERT, *org], check=True, stdout=subprocess.DEVNULL)
    key = ["key", "create", "--org", "hitoyoshi", "--role", "sender", *there]
    return subprocess.run([*LALERT, *key], check=True, capture_output=True, text=True).stdout.strip()


async def measure(folder: Path, port: int, count: int) -> bool:
    """Print the figures; returns whether the aim is met."""
    store = f'[store]\nurl = "redis://127.0.0.1:{port}"\n'
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        urls = [
            await enter(node(folder / name, block))
            for name, block in (("one", ""), ("a", store), ("b", store))
        ]
        keys = [key_of(folder / name) for name in ("one", "a")]
        session = await enter(aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)))
        streams = [Stream(url) for url in urls]
        listening = []
        for stream in streams:
            ready = asyncio.Event()
            listening.append(asyncio.create_task(stream.listen(session, ready)))
            await ready.wait()
        bare = Bare(port)
        await bare.open()
        stack.push_async_callback(bare.close)
        one = Way(session, urls[0], keys[0], streams[:1])
        many = Way(session, urls[1], keys[1], streams[1:])
        try:
            for number in range(WARM + count):
                raw = make_cap(sender=SENDER, identifier=f"bench-{number}")
                for way in (one, many, bare):
                    await way.one(raw, number >= WARM)
        finally:
            for task in listening:
                task.cancel()
    show("XADD + WAITAOF, XREAD: confirmed", bare.answered)
    show("XADD + WAITAOF, XREAD: read", bare.received)
    show("one node: 201", one.answered)
    show("one node: receipt", one.received[0])
    show("two nodes: 201", many.answered)
    show("two nodes: receipt at the same", many.received[0])
    show("two nodes: receipt at the other", many.received[1])
    added = [(percentile(times, 50) - percentile(one.received[0], 50)) * 1000 for times in many.received]
    print(
        f"added to the receipt, p50: {added[0]:.2f} ms at the same node, {added[1]:.2f} ms at the other (aim {AIM_MS:g})"
    )
    return max(added) <= AIM_MS


def percentile(times: Sequence[float], share: float) -> float:
    return sorted(times)[min(len(times) - 1, int(len(times) * share / 100))]


def show(name: str, times: Sequence[float]) -> None:
    p50, p99 = (percentile(times, share) * 1000 for share in (50, 99))
    print(f"{name:36} p50 {p50:6.2f} ms   p99 {p99:6.2f} ms")


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    with tempfile.TemporaryDirectory(prefix="lalert-bench-") as folder:
        path = Path(folder)
        (path / "valkey").mkdir()
        with valkey(path / "valkey") as server:
            met = asyncio.run(measure(path, server.port, count))
    sys.exit(0 if met else 1)


if __name__ == "__main__":
    main()
