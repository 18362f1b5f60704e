"""Writers that note what a store has promised them, and the proof that it is there when the file is opened again."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TypeVar

import apsw

from lalert.clock import SystemClock
from lalert.errors import Unavailable
from lalert.model import Reading
from lalert.store.sqlite import SqliteStore
from lalert.testing import make_alert, revive
from lalert.testing.store import append, delivery, ignore, subscription

T = TypeVar("T")

SENDERS = 12

Note = Callable[..., None]
"""Takes a promise as words: `alert ID POSITION`, `reading SEQ`, `note NUMBER` or `cursor POSITION`."""


async def write(store: SqliteStore, promised: Note) -> None:
    """Write as fast as can be and note each promise as soon as the store has made it, until cancelled."""
    await insist(partial(store.save_subscription, subscription("s"), store.newest))
    promised("ready")
    async with asyncio.TaskGroup() as group:
        for _ in range(SENDERS):
            group.create_task(send(store, promised))
        group.create_task(measure(store, promised))


async def send(store: SqliteStore, promised: Note) -> None:
    """Send an alert, update it, and deliver the update, again and again."""
    while True:
        first = make_alert()
        entry = (await insist(partial(append, store, first))).entry
        promised("alert", first.id, entry.position)
        update = make_alert(msg_type="Update", references=[first])
        entry = (await insist(partial(append, store, update))).entry
        promised("alert", update.id, entry.position)
        row = delivery(f"s-{update.id}", "s", entry.position)
        await insist(partial(store.record, [row], {"s": row.position}))
        promised("cursor", entry.position)


async def measure(store: SqliteStore, promised: Note) -> None:
    """Send readings, and keep how many."""
    known = await insist(partial(store.get, "measure", "number"))
    number = int(known) if known else 0
    start = datetime(2000, 1, 1, tzinfo=UTC)
    while True:
        number += 1
        reading = Reading("gauge", start + timedelta(hours=2 * number), level_m=1.0, seq=number)
        await insist(partial(store.append_readings, "org", [reading], datetime.now(UTC)))
        promised("reading", str(number))
        note = str(number)
        await insist(partial(store.put, "measure", "number", note.encode()))
        promised("note", note)


async def insist(ask: Callable[[], Awaitable[T]]) -> T:
    """Ask until the store does it."""
    while True:
        try:
            return await ask()
        except Unavailable:
            await asyncio.sleep(0.001)


@dataclass
class Promised:
    """What was promised of one file, over all the times that it was open."""

    alerts: dict[str, str] = field(default_factory=dict)
    cursors: list[str] = field(default_factory=list)
    readings: set[int] = field(default_factory=set)
    note: int = 0

    def take(self, kind: str, *words: str) -> None:
        match kind:
            case "alert":
                assert words[0] not in self.alerts
                self.alerts[words[0]] = words[1]
            case "cursor":
                self.cursors.append(words[0])
            case "reading":
                self.readings.add(int(words[0]))
            case "note":
                self.note = int(words[0])


async def check(path: Path, promised: Promised) -> None:
    """Open the file and fail unless everything promised is there, once, and the file is sound."""
    async with SqliteStore(path, revive=revive, on_append=ignore, clock=SystemClock()) as store:
        entries = []
        after = None
        while page := await store.read(after, 500):
            entries += page
            after = page[-1].position
        kept = {entry.alert.id: entry.position for entry in entries}
        assert max(Counter(entry.alert.id for entry in entries).values(), default=1) == 1
        lost = {id: position for id, position in promised.alerts.items() if kept.get(id) != position}
        assert not lost
        order = [store.order(entry.position) for entry in entries]
        assert order == sorted(set(order))
        for entry in entries:
            if entry.alert.references:
                assert entry.incident in kept
        lanes = await store.lanes()
        if promised.cursors:
            assert store.order(lanes[0].cursor) >= max(map(store.order, promised.cursors))
        readings = await store.readings_after(0, 100_000)
        assert promised.readings <= {stored.reading.seq for stored in readings}
        assert len({stored.reading.seq for stored in readings}) == len(readings)
        note = await store.get("measure", "number")
        assert int(note or 0) >= promised.note
    with apsw.Connection(str(path)) as db:
        assert db.pragma("integrity_check") == "ok"
        assert db.execute("PRAGMA foreign_key_check").fetchall() == []
    db.close()
