"""Readings in order of arrival, what the rules know of stations, and the adapters' few values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

import apsw

from lalert.errors import TooLarge
from lalert.model import Lease, Reading
from lalert.store import StoredReading
from lalert.store.sqlite.access import Access
from lalert.store.sqlite.codec import decode_reading, encode_reading
from lalert.store.sqlite.statements import Value, all_or_nothing

SEQ_WINDOW_SECONDS: Final = 3600
"""A device that restarts counts from 0 again, so the same `seq` means the same reading only within this time of the device's clock."""

MAX_STATE_BYTES: Final = 64 * 1024
MAX_STATE_KEY: Final = 200

_INSERT: Final = """
INSERT INTO reading (tenant, station, time, time_offset, level_m, rain_mm, period_s, rain_total_mm, seq, received, by)
SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11
WHERE ?9 IS NULL OR NOT EXISTS (
  SELECT 1 FROM reading WHERE station = ?2 AND seq = ?9 AND time BETWEEN ?3 - ?12 AND ?3 + ?12
    AND (level_m IS NULL) = (?5 IS NULL) AND (rain_mm IS NULL) = (?6 IS NULL))
ON CONFLICT DO NOTHING
"""


class SensorTables(Access):
    """Keeps `store.SensorLog`."""

    async def append_readings(
        self, tenant: str, readings: Sequence[Reading], received: datetime
    ) -> list[StoredReading | None]:
        window = SEQ_WINDOW_SECONDS * 1_000_000
        values = [(*encode_reading(tenant, reading, received), window) for reading in readings]

        def append(db: apsw.Connection) -> list[int | None]:
            with all_or_nothing(db):
                return [_insert(db, value) for value in values]

        numbers = await self._write(append, rows=len(values), size=100 * len(values))
        return [
            None if number is None else StoredReading(number, tenant, reading, received)
            for number, reading in zip(numbers, readings, strict=True)
        ]

    async def readings(self, station: str, limit: int) -> list[StoredReading]:
        sql = "SELECT * FROM reading WHERE station = ? ORDER BY time DESC LIMIT ?"
        found = await self._rows(sql, station, max(0, limit))
        return [decode_reading(row) for row in reversed(found)]

    async def readings_after(self, number: int, limit: int) -> list[StoredReading]:
        sql = "SELECT * FROM reading WHERE number > ? ORDER BY number LIMIT ?"
        return [decode_reading(row) for row in await self._rows(sql, number, max(0, limit))]

    async def rule_state(self, station: str) -> bytes | None:
        row = await self._row("SELECT state FROM rule_state WHERE station = ?", station)
        return None if row is None else bytes(row[0])

    async def rule_states(self) -> dict[str, bytes]:
        return {row[0]: row[1] for row in await self._rows("SELECT station, state FROM rule_state")}

    async def save_rule_states(
        self,
        states: Mapping[str, bytes],
        judged: int,
        fence: Lease | None = None,  # noqa: ARG002  # the one node has every lease
    ) -> None:
        values = list(states.items())

        def save(db: apsw.Connection) -> None:
            with all_or_nothing(db):
                db.executemany(
                    "INSERT INTO rule_state VALUES (?, ?) ON CONFLICT (station) DO UPDATE SET state = excluded.state",
                    values,
                )
                # A reading once judged stays judged.
                db.execute("UPDATE meta SET value = max(value, ?) WHERE key = 'judged'", (judged,))

        await self._write(save, rows=1 + len(values), size=sum(len(state) for _, state in values))

    async def judged(self) -> int:
        row = await self._row("SELECT value FROM meta WHERE key = 'judged'")
        return 0 if row is None else int(row[0])


class StateTable(Access):
    """Keeps `store.StateStore`."""

    async def get(self, owner: str, key: str) -> bytes | None:
        row = await self._row("SELECT value FROM adapter_state WHERE owner = ? AND key = ?", owner, key)
        return None if row is None else bytes(row[0])

    async def put(self, owner: str, key: str, value: bytes) -> None:
        if len(key) > MAX_STATE_KEY or len(value) > MAX_STATE_BYTES:
            raise TooLarge(
                f"state of {owner}: keys are up to {MAX_STATE_KEY} characters, values up to {MAX_STATE_BYTES} bytes"
            )

        def put(db: apsw.Connection) -> None:
            db.execute(
                "INSERT INTO adapter_state VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value = excluded.value",
                (owner, key, value),
            )

        await self._write(put, size=len(value))

    async def delete(self, owner: str, key: str) -> None:
        def delete(db: apsw.Connection) -> None:
            db.execute("DELETE FROM adapter_state WHERE owner = ? AND key = ?", (owner, key))

        await self._write(delete)


def _insert(db: apsw.Connection, row: Sequence[Value]) -> int | None:
    db.execute(_INSERT, row)
    return db.last_insert_rowid() if db.changes() else None
