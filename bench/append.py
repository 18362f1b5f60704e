"""Durable appends a second with 1, 16 and 128 senders, against SQLite alone doing the same work on the disk.

Run it as `python -m bench.append`. "Alone" inserts the same rows into the same tables, as many in each transaction as there are senders, with
nothing around it: no threads, no event loop, no value made of a row. In the first column its rows lie ready; in the second it makes them of the alerts as it goes (id,
SHA-256, JSON), as the store must. The figures that count are the ratios, taken in turns in one run, so that a busy machine slows all three. The process is
set up as `lalert serve` sets up its own.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from operator import truediv
from pathlib import Path
from uuid import uuid4

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
APPENDS = {1: 300, 16: 3_200, 128: 12_800}
PAGES = 1000
"""What SQLite does unless it is told otherwise."""
TARGET = 0.7
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
        f"{'senders':>8} {'rows ready /s':>14} {'rows made /s':>13} {'store /s':>9} {'to ready':>9} {'to made':>8} {'p50 ms':>7} {'p99 ms':>7}"
    )
    for senders, appends in APPENDS.items():
        ready, made, kept, waits = [], [], [], []
        for _ in range(options.rounds):
            with tempfile.TemporaryDirectory(dir=options.directory) as directory:
                folder = Path(directory)
                ready.append(measure_alone(folder / "ready.db", senders, appends, ready=True))
                made.append(measure_alone(folder / "made.db", senders, appends, ready=False))
                rate, latencies = asyncio.run(measure_store(folder / "store.db", senders, appends))
            kept.append(rate)
            waits += latencies
        p50, p99 = quantiles(waits)
        ratio = statistics.median(map(truediv, kept, made))
        print(
            f"{senders:8} {statistics.median(ready):14.0f} {statistics.median(made):13.0f} {statistics.median(kept):9.0f} "
            f"{statistics.median(map(truediv, kept, ready)):9.2f} {ratio:8.2f} {p50:7.2f} {p99:7.2f}"
        )
        worst = min(worst, ratio)
    print(f"target: a ratio of {TARGET} or more to rows made, for each (#4)")
    return worst < TARGET


def measure_alone(path: Path, group: int, number: int, *, ready: bool) -> float:
    """Return rows a second of SQLite alone, `group` of them in each transaction; `ready` says that they were made before."""
    work = alerts(number)
    rows = [row_of(alert) for alert in work] if ready else []
    prepare(path)
    db = open_for_writing(path, None)
    migrate(db)
    db.wal_autocheckpoint(PAGES)
    start = time.perf_counter()
    for first in range(0, number, group):
        some = rows[first : first + group] or [row_of(alert) for alert in work[first : first + group]]
        db.execute("BEGIN IMMEDIATE")
        for row in some:
            db.execute(INSERT, row)
        db.execute("COMMIT")
    rate = number / (time.perf_counter() - start)
    db.close()
    return rate


async def measure_store(path: Path, senders: int, number: int) -> tuple[float, list[float]]:
    async with SqliteStore(path, revive=revive, on_append=lambda _: None, clock=SystemClock()) as store:
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


def row_of(alert: Alert) -> tuple[Value, ...]:
    new = log.prepare(alert, ORIGIN, NOW, FACTS, frozenset())
    return (new.id, new.sent, new.until, new.state, new.scope, new.sent, new.about, new.digest, alert.raw)


if __name__ == "__main__":
    raise SystemExit(main())
