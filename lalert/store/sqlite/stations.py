"""Stations that are kept here, beside those of the configuration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import apsw

from lalert.errors import Conflict
from lalert.store import KeptStation
from lalert.store.sqlite.access import Access
from lalert.store.sqlite.statements import Row, all_or_nothing

_NEXT: Final = "(SELECT coalesce(max(revision), 0) + 1 FROM station)"
_SAVE: Final = f"""
INSERT INTO station VALUES (?, ?, {_NEXT}, ?)
ON CONFLICT (id) DO UPDATE SET org = excluded.org, revision = excluded.revision, document = excluded.document
WHERE station.org = excluded.org OR station.document IS NULL
"""  # noqa: S608  # of our own
_FORGET: Final = f"UPDATE station SET document = NULL, revision = {_NEXT} WHERE id = ? AND org = ? AND document IS NOT NULL"  # noqa: S608  # of our own


class StationTable(Access):
    """Keeps `store.Stations`."""

    async def save_stations(self, stations: Sequence[KeptStation]) -> None:
        def save(db: apsw.Connection) -> None:
            with all_or_nothing(db):
                for each in stations:
                    db.execute(_SAVE, (each.id, each.org, each.document))
                    if not db.changes():
                        raise Conflict(f"the station {each.id} belongs to another organisation")

        size = sum(len(each.document or b"") for each in stations)
        if stations:
            await self._write(save, rows=len(stations), size=size)

    async def forget_station(self, station: str, org: str) -> bool:
        def forget(db: apsw.Connection) -> bool:
            db.execute(_FORGET, (station, org))
            return bool(db.changes())

        return await self._write(forget)

    async def stations(self, org: str | None = None) -> list[KeptStation]:
        sql = "SELECT * FROM station WHERE document IS NOT NULL AND (?1 IS NULL OR org = ?1) ORDER BY id"
        return [_decode(row) for row in await self._rows(sql, org)]

    async def station(self, station: str) -> KeptStation | None:
        row = await self._row("SELECT * FROM station WHERE id = ? AND document IS NOT NULL", station)
        return None if row is None else _decode(row)

    async def stations_after(self, revision: int, limit: int) -> list[KeptStation]:
        sql = "SELECT * FROM station WHERE revision > ? ORDER BY revision LIMIT ?"
        return [_decode(row) for row in await self._rows(sql, revision, max(0, limit))]


def _decode(row: Row) -> KeptStation:
    id, org, revision, document = row
    return KeptStation(id, org, document, revision)
