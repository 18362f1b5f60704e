"""A process that writes to a store as fast as it can and says what it was promised, until somebody kills it.

Each line is a promise: `alert ID POSITION`, `reading SEQ`, `note NUMBER` or `cursor POSITION`, written once the store has answered.
"""

from __future__ import annotations

import asyncio
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from lalert.clock import SystemClock
from lalert.model import Reading
from lalert.store.sqlite import SqliteStore
from lalert.testing import make_alert, revive
from lalert.testing.store import append, delivery, ignore, subscription

SENDERS = 12


async def main(path: Path) -> None:
    async with SqliteStore(path, revive=revive, on_append=ignore, clock=SystemClock()) as store:
        await store.save_subscription(subscription("s"), store.newest)
        promise("ready")
        async with asyncio.TaskGroup() as group:
            for _ in range(SENDERS):
                group.create_task(send(store))
            group.create_task(measure(store))


async def send(store: SqliteStore) -> None:
    """Send an alert, sometimes update it, and deliver it."""
    while True:
        first = make_alert()
        entry = (await append(store, first)).entry
        promise("alert", first.id, entry.position)
        update = make_alert(msg_type="Update", references=[first])
        entry = (await append(store, update)).entry
        promise("alert", update.id, entry.position)
        await store.record([delivery(f"s-{update.id}", "s", entry.position)], {"s": entry.position})
        promise("cursor", entry.position)


async def measure(store: SqliteStore) -> None:
    """Send readings, and keep how many."""
    known = await store.get("measure", "number")
    number = int(known) if known else 0
    start = datetime(2000, 1, 1, tzinfo=UTC)
    while True:
        number += 1
        reading = Reading("gauge", start + timedelta(hours=2 * number), level_m=1.0, seq=number)
        await store.append_readings("org", [reading], datetime.now(UTC))
        promise("reading", str(number))
        await store.put("measure", "number", str(number).encode())
        promise("note", str(number))


def promise(*words: str) -> None:
    # One write for each line, past every buffer of this process: what was said before the kill is with the parent.
    os.write(1, (" ".join(words) + "\n").encode())


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
