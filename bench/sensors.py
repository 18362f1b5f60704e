"""Readings through a whole node: how many a second by HTTP and MQTT, how soon a warning is with a live subscriber, and what 100,000 stations need.

Run it as `python -m bench.sensors`. The node runs in a process of its own; the load comes from this one. Peers of one run, in turns:

- "store": the embedded store alone, keeping the same batches in this process;
- "floor": a bare aiohttp server that decodes the batch, has the store keep it and answers: the node's HTTP and disk without keys, checks, stations, rules and warnings;
- "broker": mosquitto alone, a bare subscriber acknowledging what the node would have to store (left out where mosquitto is not installed).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from datetime import UTC, datetime, timedelta
from operator import truediv
from pathlib import Path

import aiohttp
import msgspec
import orjson
from aiohttp import web
from paho.mqtt.client import Client, MQTTMessage, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion

from bench.append import quantiles
from lalert.cli.serving import settle
from lalert.clock import SystemClock
from lalert.config import Station, Thresholds
from lalert.model import Reading
from lalert.store import KeptStation
from lalert.store.sqlite import SqliteStore
from lalert.testing import make_cap, revive

ORG = "hitoyoshi"
BATCH = 500
CONNECTIONS = 4
ROUNDS = 5
BATCHES = 20
GAUGES = 1_000
RATE = 1_000
FLOODS = 200
"""Warnings that are timed."""


def station(name: str) -> Station:
    return Station(
        name,
        name,
        ORG,
        "gauge@hitoyoshi.example",
        ("432032",),
        130.76,
        32.21,
        river="球磨川",
        thresholds=Thresholds(caution_m=3.0, evacuation_m=3.2, danger_m=3.4),
    )


async def stock(data: Path, names: Sequence[str]) -> None:
    """Put stations into a node's store before it starts."""
    path = data / "lalert.db"
    async with SqliteStore(path, revive=revive, on_append=lambda _: None, clock=SystemClock()) as store:
        for at in range(0, len(names), 1_000):
            some = names[at : at + 1_000]
            await store.save_stations([KeptStation(n, ORG, msgspec.json.encode(station(n))) for n in some])


@asynccontextmanager
async def node(folder: Path, names: Sequence[str], config: str = "") -> AsyncIterator[tuple[str, str, int]]:
    """Run a node with these stations; gives its address, a sensor's key and the process."""
    data = folder / "data"
    org = ["org", "create", ORG, "--codes", "432032", "--senders", "*", "--data", str(data)]
    await asyncio.to_thread(
        subprocess.run, [sys.executable, "-m", "lalert", *org], check=True, stdout=subprocess.DEVNULL
    )
    key = await asyncio.to_thread(new_key, data, "sensor")
    await stock(data, names)
    (folder / "lalert.toml").write_text(config, encoding="utf-8")
    with serving(folder) as (url, pid):
        yield url, key, pid


def new_key(data: Path, role: str) -> str:
    make = ["key", "create", "--org", ORG, "--role", role, "--data", str(data)]
    made = subprocess.run([sys.executable, "-m", "lalert", *make], check=True, capture_output=True, text=True)
    return made.stdout.strip()


@contextmanager
def serving(folder: Path) -> Iterator[tuple[str, int]]:
    serve = ["serve", "--port", "0", "--data", str(folder / "data"), "--config", str(folder / "lalert.toml")]
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "lalert", *serve], stdout=subprocess.PIPE, stderr=log, text=True
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, (folder / "log").read_text(encoding="utf-8")[-2_000:]
        yield line.split()[-1], process.pid
    finally:
        process.terminate()
        process.wait(60)


def floor() -> None:
    """Run the bare server until it is told to stop."""

    async def serve() -> None:
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        with tempfile.TemporaryDirectory() as name:
            async with SqliteStore(
                Path(name) / "data" / "f.db", revive=revive, on_append=lambda _: None, clock=SystemClock()
            ) as store:

                async def post(request: web.Request) -> web.Response:
                    kept = await store.append_readings(
                        ORG, readings(orjson.loads(await request.read())), datetime.now(UTC)
                    )
                    return web.json_response({"accepted": sum(one is not None for one in kept)})

                app = web.Application()
                app.add_routes([web.post("/v1/readings", post)])
                runner = web.AppRunner(app, access_log=None)
                await runner.setup()
                await web.TCPSite(runner, "127.0.0.1", 0).start()
                settle()
                print(f"http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
                await stop.wait()
                await runner.cleanup()

    asyncio.run(serve())


@contextmanager
def bare() -> Iterator[str]:
    code = "from bench.sensors import floor; floor()"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait(30)


def readings(body: Sequence[dict[str, object]]) -> list[Reading]:
    return [
        Reading(str(one["station"]), datetime.fromisoformat(str(one["time"])), level_m=float(str(one["level_m"])))
        for one in body
    ]  # fmt: skip


class Rivers:
    """Calm rivers whose gauges report ever new readings, each a second after its last one."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._number = 0
        self._began = datetime.now(UTC) - timedelta(hours=5)

    def batch(self, size: int) -> list[dict[str, object]]:
        made: list[dict[str, object]] = []
        for _ in range(size):
            turn, at = divmod(self._number, len(self._names))
            when = (self._began + timedelta(seconds=turn)).isoformat()
            made.append({"station": self._names[at], "time": when, "level_m": 1.0 + turn % 3 / 100})
            self._number += 1
        return made


async def post(http: aiohttp.ClientSession, url: str, key: str, body: bytes) -> int:
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    async with http.post(f"{url}/v1/readings", data=body, headers=headers) as response:
        assert response.status == 200, await response.text()
        return int((await response.json())["accepted"])


async def by_http(http: aiohttp.ClientSession, url: str, key: str, rivers: Rivers) -> float:
    """Return readings a second."""
    bodies = [orjson.dumps(rivers.batch(BATCH)) for _ in range(BATCHES)]
    begun = time.perf_counter()

    async def send(mine: Sequence[bytes]) -> None:
        for body in mine:
            assert await post(http, url, key, body) == BATCH

    async with asyncio.TaskGroup() as group:
        for connection in range(CONNECTIONS):
            group.create_task(send(bodies[connection::CONNECTIONS]))
    return BATCH * BATCHES / (time.perf_counter() - begun)


async def by_store(store: SqliteStore, rivers: Rivers) -> float:
    batches = [readings(rivers.batch(BATCH)) for _ in range(BATCHES)]
    begun = time.perf_counter()

    async def keep(mine: Sequence[list[Reading]]) -> None:
        for batch in mine:
            await store.append_readings(ORG, batch, datetime.now(UTC))

    async with asyncio.TaskGroup() as group:
        for connection in range(CONNECTIONS):
            group.create_task(keep(batches[connection::CONNECTIONS]))
    return BATCH * BATCHES / (time.perf_counter() - begun)


async def throughput(folder: Path, rounds: int) -> None:
    names = [f"g{number}" for number in range(GAUGES)]
    rates: dict[str, list[float]] = {"store": [], "floor": [], "node": []}
    async with (
        node(folder, names) as (url, key, _),
        SqliteStore(
            folder / "bare" / "b.db", revive=revive, on_append=lambda _: None, clock=SystemClock()
        ) as store,
        aiohttp.ClientSession() as http,
    ):
        with bare() as low:
            rivers = Rivers(names)
            await by_http(http, url, key, rivers)
            for _ in range(rounds):
                rates["store"].append(await by_store(store, rivers))
                rates["floor"].append(await by_http(http, low, key, rivers))
                rates["node"].append(await by_http(http, url, key, rivers))
    print(
        f"readings a second, {BATCH} in a POST, {CONNECTIONS} connections; ratio: the node to each, median of {rounds} rounds in turns"
    )
    for peer, found in rates.items():
        ratio = statistics.median(map(truediv, rates["node"], found))
        print(f"  {peer:6} {statistics.median(found):9.0f} /s   ratio {ratio:5.2f}")


async def latency(folder: Path) -> None:
    """Readings come at `RATE` a second; now and then one of them is above a threshold, and the time to its warning on a stream is taken.

    In turns with those an alert is posted, which comes to the same stream: what a warning takes with no reading behind it.
    """
    calm = [f"g{number}" for number in range(GAUGES)]
    floods = [f"f{number}" for number in range(FLOODS + 10)]
    async with (
        node(folder, [*calm, *floods]) as (url, key, _),
        aiohttp.ClientSession() as http,
    ):
        sender = await asyncio.to_thread(new_key, folder / "data", "sender")
        await asyncio.sleep(1.5)  # until the node knows the key
        arrived: dict[str, asyncio.Future[float]] = {
            name: asyncio.get_running_loop().create_future() for name in floods
        }
        ready = asyncio.Event()

        async def listen() -> None:
            async with http.get(f"{url}/v1/stream", timeout=aiohttp.ClientTimeout(total=None)) as response:
                ready.set()
                async for line in response.content:
                    if not line.startswith(b"data: ") or b'"identifier"' not in line:
                        continue
                    at = time.perf_counter()
                    if b"river-level" not in line:
                        arrived[orjson.loads(line[6:])["identifier"]].set_result(at)
                        continue
                    for parameter in orjson.loads(line[6:])["info"][0]["parameters"]:
                        if parameter["valueName"] == "station":
                            arrived[parameter["value"]].set_result(at)

        async def trickle() -> None:
            rivers = Rivers(calm)
            due = time.perf_counter()
            while True:
                # 20 gateways' worth: a batch of 20 readings, fifty times a second.
                await post(http, url, key, orjson.dumps(rivers.batch(RATE // 50)))
                due += 0.02
                await asyncio.sleep(max(0.0, due - time.perf_counter()))

        listener = asyncio.create_task(listen())
        await ready.wait()
        load = asyncio.create_task(trickle())
        took: list[float] = []
        posted: list[float] = []
        for number, name in enumerate(floods):
            await asyncio.sleep(0.05)
            reading = {"station": name, "time": datetime.now(UTC).isoformat(), "level_m": 3.25}
            begun = time.perf_counter()
            await post(http, url, key, json.dumps(reading).encode())
            async with asyncio.timeout(30):
                at = await arrived[name]
            if number >= 10:
                took.append(at - begun)
            await asyncio.sleep(0.05)
            arrived[f"a-{name}"] = asyncio.get_running_loop().create_future()
            raw = make_cap(sender="bousai@hitoyoshi.example", identifier=f"a-{name}")
            headers = {"Authorization": f"Bearer {sender}", "Content-Type": "application/cap+xml"}
            begun = time.perf_counter()
            async with http.post(f"{url}/v1/alerts", data=raw, headers=headers) as response:
                assert response.status == 201, await response.text()
            async with asyncio.timeout(30):
                at = await arrived[f"a-{name}"]
            if number >= 10:
                posted.append(at - begun)
        for task in (load, listener):
            task.cancel()
        await asyncio.gather(load, listener, return_exceptions=True)
    low50, low99 = quantiles(posted)
    print(
        f"from the POST of an alert to its receipt, in the same minute: p50 {low50:.1f} ms, p99 {low99:.1f} ms"
    )
    p50, p99 = quantiles(took)
    print(
        f"from the POST of a reading to its warning on a stream, at {RATE} readings a second: p50 {p50:.1f} ms, p99 {p99:.1f} ms ({len(took)} warnings)"
    )


async def by_mqtt(folder: Path, messages: int) -> None:
    """Single readings by QoS 1: the broker with a bare subscriber, then with the node behind it, which stores before it acknowledges."""
    if shutil.which("mosquitto") is None:
        print("mosquitto is not installed: MQTT is left out")
        return
    names = [f"g{number}" for number in range(GAUGES)]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = folder / "mosquitto.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n")
    broker = await asyncio.create_subprocess_exec(
        "mosquitto", "-c", str(config), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    settings = f"""
[adapters.gauges]
type = "mqtt_sensors"
org = "{ORG}"
host = "127.0.0.1"
port = {port}
tls = false
topics = [{{ topic = "node/{{station}}" }}]
"""
    rivers = Rivers(names)
    try:
        async with node(folder, names, settings):
            counter = Counter(port)
            publisher = Client(CallbackAPIVersion.VERSION2, protocol=MQTTv5)
            publisher.max_queued_messages_set(0)
            publisher.connect("127.0.0.1", port)
            publisher.loop_start()
            # Until the node has subscribed, what is published goes to nobody.
            while kept(folder) < 1:
                publisher.publish("node/g0", orjson.dumps(rivers.batch(1)[0]), qos=1)
                await asyncio.sleep(0.2)
            await asyncio.sleep(1)
            rates: dict[str, list[float]] = {"broker": [], "node": []}
            for number in range(3):
                made = [rivers.batch(1)[0] for _ in range(messages)]
                begun = time.perf_counter()
                for one in made:
                    publisher.publish("bare/g", orjson.dumps(one), qos=1)
                while counter.seen < messages * (number + 1):
                    await asyncio.sleep(0.005)
                rates["broker"].append(messages / (time.perf_counter() - begun))
                before, begun = kept(folder), time.perf_counter()
                for one in made:
                    publisher.publish(f"node/{one['station']}", orjson.dumps(one), qos=1)
                while kept(folder) < before + messages:
                    await asyncio.sleep(0.02)
                rates["node"].append(messages / (time.perf_counter() - begun))
            publisher.loop_stop()
            publisher.disconnect()
            counter.stop()
    finally:
        broker.terminate()
        await broker.wait()
    ratio = statistics.median(map(truediv, rates["node"], rates["broker"]))
    print(
        f"single readings a second by MQTT, QoS 1: broker {statistics.median(rates['broker']):.0f} /s, node {statistics.median(rates['node']):.0f} /s, ratio {ratio:.2f}"
    )


class Counter:
    """A bare subscriber."""

    def __init__(self, port: int) -> None:
        self.seen = 0
        ready = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTv5)
        self._client.on_message = self._count
        self._client.on_subscribe = lambda *_: ready.set()
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        self._client.subscribe("bare/#", qos=1)
        ready.wait(10)

    def _count(self, _client: Client, _data: object, _message: MQTTMessage) -> None:
        self.seen += 1

    def stop(self) -> None:
        self._client.loop_stop()
        self._client.disconnect()


def kept(folder: Path) -> int:
    """Return how many readings the node has kept: its database says so, whichever way they came."""
    with closing(sqlite3.connect(f"file:{folder}/data/lalert.db?mode=ro", uri=True)) as db:
        return int(db.execute("SELECT count(*) FROM reading").fetchone()[0])


async def nation(folder: Path, stations: int) -> None:
    """Start a node with very many stations, have each report once, and start it again."""
    names = [f"g{number}" for number in range(stations)]
    begun = time.perf_counter()
    async with node(folder, names) as (url, key, pid), aiohttp.ClientSession() as http:
        empty = memory(pid)
        rivers = Rivers(names)
        begun = time.perf_counter()
        for at in range(0, stations, BATCH):
            await post(http, url, key, orjson.dumps(rivers.batch(min(BATCH, stations - at))))
        took = time.perf_counter() - begun
        await asyncio.sleep(3)
        full = memory(pid)
    disk = sum(file.stat().st_size for file in (folder / "data").glob("lalert.db*"))
    begun = time.perf_counter()
    with serving(folder) as (_, pid):
        again, after = time.perf_counter() - begun, memory(pid)
    print(
        f"{stations} stations: {empty:.0f} MB before any reading, {full:.0f} MB after one of each ({took:.1f} s), "
        f"{disk / 1e6:.0f} MB on disk; started again in {again:.1f} s with {after:.0f} MB"
    )


def memory(pid: int) -> float:
    """Return what a process holds, in MB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1_000
    return 0.0


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--stations", type=int, default=100_000)
    parser.add_argument("--messages", type=int, default=5_000)
    parser.add_argument("--only", choices=["http", "latency", "mqtt", "nation"])
    options = parser.parse_args()
    parts: dict[str, Callable[[Path], Awaitable[None]]] = {
        "http": lambda folder: throughput(folder, options.rounds),
        "latency": latency,
        "mqtt": lambda folder: by_mqtt(folder, options.messages),
        "nation": lambda folder: nation(folder, options.stations),
    }
    for name, part in parts.items():
        if options.only in (None, name):
            with tempfile.TemporaryDirectory() as folder:
                await part(Path(folder))


if __name__ == "__main__":
    asyncio.run(main())
