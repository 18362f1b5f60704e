"""Durable appends a second with 1, 16 and 128 senders, against SQLite alone doing the same work on the disk.

Run it as `python -m bench.append`. Four peers insert the same rows into the same tables, as many in each transaction as there are senders:

- "ready": SQLite alone, with nothing around it: no threads, no event loop, no value made of a row. Its rows lie ready.
- "made": the same, but it makes its rows of the alerts as it goes (id, SHA-256, JSON), as the store must.
- "behind": SQLite on a thread of its own behind an event loop, as a program has to have it whose loop must not wait for a disk. Its rows lie ready; each sender awaits a future, the
  last of a group hands the group over, and nothing else is done.
- "both": behind a loop, and its rows made as they come: the peer that does the work that the store cannot be without.

All have filled their log once before they are measured: a log that grows costs each commit about half as much again, for a node's first seconds. The figures that count are the
ratios, taken in turns in one run, so that a busy machine slows all. The process is set up as `lalert serve` sets up its own.
"""

from __future__ import annotations

import argparse
import asyncio
import queue
import statistics
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from operator import truediv
from pathlib import Path
from uuid import uuid4

import apsw

from lalert.cli.serving import settle
from lalert.clock import SystemClock
from lalert.model import Alert, Origin, OriginKind
from lalert.store import AlertLog
from lalert.store.sqlite import SqliteStore, log
from lalert.store.sqlite.files import open_for_writing, prepare
from lalert.store.sqlite.schema import migrate
from lalert.store.sqlite.statements import Value
from lalert.testing import declared_facts, make_alert, revive

ROUNDS = 7
APPENDS = {1: 600, 16: 4_800, 128: 12_800}
FIRST = {1: 480, 16: 2_400, 128: 3_200}
"""Appends before the measured ones: the log is full by then, and begins anew."""
PAGES = 1000
"""What SQLite does unless it is told otherwise."""
TARGET = 0.7
Row = tuple[Value, ...]

ORIGIN = Origin(OriginKind.HTTP, "hitoyoshi", "key-1", "192.0.2.1")
NOW = datetime.now(UTC)
MARK = b"to-be-named"
MODEL = make_alert(
    identifier=MARK.decode(), description="球磨川の水位が上がり、氾濫のおそれがあります。" * 35
)
FACTS = declared_facts(MODEL)

INSERT = """
INSERT INTO entry (id, sent, until, head, scope, incident, stored, places, about, digest, raw)
VALUES (?, ?, ?, ?, ?, NULL, ?, NULL, ?, ?, ?)
"""


def main() -> bool:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument(
        "--directory", type=Path, help="where the files are made (a disk that is to be measured)"
    )
    options = parser.parse_args()
    settle()
    worst = 1.0
    print(
        f"{'senders':>8} {'ready /s':>9} {'made /s':>9} {'behind /s':>10} {'both /s':>9} {'store /s':>9}   store / {'ready':>6} {'made':>6} {'behind':>7} {'both':>6} {'p50 ms':>7} {'p99 ms':>7}"
    )
    for senders, appends in APPENDS.items():
        rates: dict[str, list[float]] = {"ready": [], "made": [], "behind": [], "both": [], "store": []}
        waits: list[float] = []
        for _ in range(options.rounds):
            with tempfile.TemporaryDirectory(dir=options.directory) as directory:
                folder = Path(directory)
                rates["ready"].append(measure_alone(folder / "ready.db", senders, ready=True))
                rates["made"].append(measure_alone(folder / "made.db", senders, ready=False))
                for name in ("behind", "both"):
                    measured = measure_behind(folder / f"{name}.db", senders, ready=name == "behind")
                    rates[name].append(asyncio.run(measured))
                rate, latencies = asyncio.run(
                    measure_store(folder / "store.db", senders, appends, FIRST[senders])
                )
            rates["store"].append(rate)
            waits += latencies
        p50, p99 = quantiles(waits)
        ready, made, behind, both, store = (statistics.median(each) for each in rates.values())
        to_ready, to_made, to_behind, to_both = (
            statistics.median(map(truediv, rates["store"], rates[peer]))
            for peer in ("ready", "made", "behind", "both")
        )
        print(
            f"{senders:8} {ready:9.0f} {made:9.0f} {behind:10.0f} {both:9.0f} {store:9.0f}           {to_ready:6.2f} {to_made:6.2f} {to_behind:7.2f} {to_both:6.2f} {p50:7.2f} {p99:7.2f}"
        )
        worst = min(worst, to_both)
    print(
        f"target: a ratio of {TARGET} or more to 'both', for each, and to the others as near as can be (#4)"
    )
    return worst < TARGET


def measure_alone(path: Path, group: int, *, ready: bool) -> float:
    """Return rows a second of SQLite alone, `group` of them in each transaction; `ready` says that they were made before."""
    work = alerts(FIRST[group] + APPENDS[group])
    rows = [row_of(alert) for alert in work] if ready else []
    db = open_alone(path)
    start = 0.0
    for first in range(0, len(work), group):
        if first == FIRST[group]:
            start = time.perf_counter()
        insert(db, rows[first : first + group] or [row_of(alert) for alert in work[first : first + group]])
    rate = APPENDS[group] / (time.perf_counter() - start)
    db.close()
    return rate


async def measure_behind(path: Path, group: int, *, ready: bool) -> float:
    """Return rows a second of SQLite on a thread behind the loop, for `group` senders with as many rows in each transaction; `ready` as above."""
    loop = asyncio.get_running_loop()
    db = open_alone(path)
    handed: queue.SimpleQueue[list[tuple[Row, asyncio.Future[None]]]] = queue.SimpleQueue()
    gathered: list[tuple[Row, asyncio.Future[None]]] = []

    def write() -> None:
        while batch := handed.get():
            insert(db, [row for row, _ in batch])
            loop.call_soon_threadsafe(tell, [done for _, done in batch])

    def tell(waiting: list[asyncio.Future[None]]) -> None:
        for done in waiting:
            done.set_result(None)

    async def send(mine: Sequence[int]) -> None:
        nonlocal gathered
        for number in mine:
            done: asyncio.Future[None] = loop.create_future()
            gathered.append((rows[number] if ready else row_of(work[number]), done))
            if len(gathered) == group:
                handed.put(gathered)
                gathered = []
            await done

    async def send_all(numbers: range) -> None:
        async with asyncio.TaskGroup() as tasks:
            for sender in range(group):
                tasks.create_task(send(numbers[sender::group]))

    work = alerts(FIRST[group] + APPENDS[group])
    rows = [row_of(alert) for alert in work] if ready else []
    thread = threading.Thread(target=write)
    thread.start()
    await send_all(range(FIRST[group]))
    start = time.perf_counter()
    await send_all(range(FIRST[group], len(work)))
    rate = APPENDS[group] / (time.perf_counter() - start)
    handed.put([])
    thread.join()
    db.close()
    return rate


def open_alone(path: Path) -> apsw.Connection:
    prepare(path)
    db = open_for_writing(path, None)
    migrate(db)
    db.wal_autocheckpoint(PAGES)
    return db


def insert(db: apsw.Connection, rows: Sequence[Row]) -> None:
    db.execute("BEGIN IMMEDIATE")
    for row in rows:
        db.execute(INSERT, row)
    db.execute("COMMIT")


async def measure_store(path: Path, senders: int, number: int, first: int = 0) -> tuple[float, list[float]]:
    async with SqliteStore(path, revive=revive, on_append=lambda _: None, clock=SystemClock()) as store:
        await measure(store, senders, first)
        return await measure(store, senders, number)


async def measure(store: AlertLog, senders: int, number: int) -> tuple[float, list[float]]:
    """Return appends a second, and the seconds that each sender waited for each."""
    work = alerts(number)
    waits: list[float] = []

    async def send(mine: Sequence[Alert]) -> None:
        for alert in mine:
            start = time.perf_counter()
            await store.append(alert, ORIGIN, NOW, FACTS, frozenset())
            waits.append(time.perf_counter() - start)

    start = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for sender in range(senders):
            group.create_task(send(work[sender::senders]))
    return number / (time.perf_counter() - start), waits


def quantiles(seconds: list[float]) -> tuple[float, float]:
    """Return the median and the 99th percentile in milliseconds."""
    seconds = sorted(seconds)
    return 1e3 * seconds[len(seconds) // 2], 1e3 * seconds[len(seconds) * 99 // 100]


def alerts(number: int) -> list[Alert]:
    """Return alerts of about 4 kB that differ in their identifiers."""
    name = uuid4().hex
    return [
        replace(MODEL, identifier=f"{name}-{n:06}", raw=MODEL.raw.replace(MARK, f"{name}-{n:06}".encode()))
        for n in range(number)
    ]


def row_of(alert: Alert) -> Row:
    new = log.prepare(alert, ORIGIN, NOW, FACTS, frozenset())
    return (new.id, new.sent, new.until, new.state, new.scope, new.sent, new.about, new.digest, alert.raw)


if __name__ == "__main__":
    raise SystemExit(main())
