"""What need not be kept any longer, and how it goes: always all that refers to one another together, so that what remains means the same as before."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from functools import partial
from typing import Final

import apsw
import orjson

from lalert.store import Part
from lalert.store.sqlite.codec import micros, position
from lalert.store.sqlite.reading import LogTables
from lalert.store.sqlite.statements import all_or_nothing, row, rows

PAGE: Final = 200
"""Entries that one look goes through."""

MAX_GROUP: Final = 20_000
"""A group of alerts that refer to one another is kept for good if it has more: no incident has, and to look through it would take long."""

ROWS_AT_ONCE: Final = 2_000

_WALK: Final = "SELECT offset, stored FROM entry WHERE offset > ? AND offset <= ? ORDER BY offset LIMIT ?"
_NEEDED: Final = """
SELECT 1 FROM entry WHERE offset = ?1 AND (offset > ?2 OR stored > ?3 OR sent > ?3 OR head = 1 AND until > ?4)
"""
_GROWN: Final = """
SELECT 1 FROM link l WHERE l.offset > ?2 AND (l.scope, l.chain) IN
    (SELECT k.scope, k.chain FROM link k WHERE k.offset IN (SELECT value FROM json_each(?1)))
"""
# Named, because only few rows wait, and without statistics SQLite would read all.
_WAITING: Final = "SELECT min(offset) FROM delivery INDEXED BY delivery_waiting WHERE state = 'retry'"
_ORPHANS: Final = """
SELECT d.key, d.state <> 'retry' AND d.updated <= ?2 AND NOT EXISTS (SELECT 1 FROM entry e WHERE e.offset = d.offset)
FROM delivery d WHERE d.key > ?1 ORDER BY d.key LIMIT ?3
"""


class OverTables(LogTables):
    """Finds what may go, for every store that has these tables or a view of them."""

    async def over(self, upto: str, before: datetime, now: datetime) -> AsyncIterator[tuple[str, ...]]:
        epoch, last = self._parts.epoch, self._offset(upto)
        visited: set[int] = set()
        after: int | None = 0
        while after is not None:
            look = partial(over, after=after, upto=last, before=before, now=now, visited=visited)
            groups, after = await self._ask(look)
            for group in groups:
                yield tuple(position(epoch, offset) for offset in group)


class RetentionTables(OverTables):
    """Keeps `store.Retained`."""

    async def settled(self) -> str:
        return position(self._parts.epoch, await self._ask(_settled))

    async def forget(self, parts: Sequence[Part]) -> list[bool]:
        going = [
            ([self._offset(each) for each in part.positions], self._offset(part.newest)) for part in parts
        ]
        offsets = [offset for some, _ in going for offset in some]
        opened = self._parts
        # Before the deletion: nobody may read across it without being told.
        opened.trimmed = max(opened.trimmed, *offsets)

        def work(db: apsw.Connection) -> list[bool]:
            with all_or_nothing(db):
                return [forget(db, some, newest) for some, newest in going]

        gone = await self._write(work, rows=len(offsets))
        opened.forget(
            [offset for (some, _), is_gone in zip(going, gone, strict=True) if is_gone for offset in some]
        )
        return gone

    async def forget_deliveries(self, before: datetime) -> int:
        key: str | None = ""
        gone, limit = 0, micros(before)
        while key is not None:
            found = await self._rows(_ORPHANS, key, limit, ROWS_AT_ONCE)
            orphans = [(each,) for each, orphan in found if orphan]
            if orphans:
                await self._write(
                    partial(
                        _many, sql="DELETE FROM delivery WHERE key = ? AND state <> 'retry'", values=orphans
                    ),
                    rows=len(orphans),
                )
            gone += len(orphans)
            key = found[-1][0] if len(found) == ROWS_AT_ONCE else None
        return gone

    async def forget_readings(self, before: datetime) -> int:
        sql = """
        SELECT number, received <= ? AND number <= (SELECT value FROM meta WHERE key = 'judged') FROM reading
        ORDER BY number LIMIT ?
        """
        gone = 0
        while True:
            found = await self._rows(sql, micros(before), PAGE)
            old = [(number,) for number, is_old in found if is_old]
            if old:
                await self._write(
                    partial(_many, sql="DELETE FROM reading WHERE number = ?", values=old), rows=len(old)
                )
            gone += len(old)
            if len(old) < PAGE:
                return gone


def over(
    db: apsw.Connection, *, after: int, upto: int, before: datetime, now: datetime, visited: set[int]
) -> tuple[list[list[int]], int | None]:
    """Return the groups that begin in the next page of the log and need not be kept, and where the walk goes on (None: it is over).

    `visited` are the offsets of groups that were looked at before; it grows.
    """
    page = rows(db, _WALK, (after, upto, PAGE))
    groups: list[list[int]] = []
    for offset, stored in page:
        if stored > micros(before):
            return groups, None
        if offset in visited:
            continue
        group = _group(db, offset)
        visited |= set(group[1:])
        if len(group) <= MAX_GROUP and not any(
            row(db, _NEEDED, (each, upto, micros(before), micros(now))) for each in group
        ):
            groups.append(group)
    return groups, page[-1][0] if len(page) == PAGE else None


def forget(db: apsw.Connection, offsets: Sequence[int], newest: int) -> bool:
    """Delete entries of one group, whose newest is at `newest`, with all that names them; changes nothing and returns False if the group has grown since."""
    if grown(db, offsets, newest):
        return False
    these = orjson.dumps(offsets).decode()
    with all_or_nothing(db):
        for table in ("link", "awaited", "refers", "effect", "named", "entry"):
            db.execute(f"DELETE FROM {table} WHERE offset IN (SELECT value FROM json_each(?))", (these,))  # noqa: S608  # from the tuple above
        db.execute("UPDATE meta SET value = max(value, ?) WHERE key = 'trimmed'", (max(offsets),))
    return True


def grown(db: apsw.Connection, offsets: Sequence[int], newest: int) -> bool:
    """Say whether something after `newest` belongs to the group of these entries."""
    return row(db, _GROWN, (orjson.dumps(offsets).decode(), newest)) is not None


def ids_of(db: apsw.Connection, offsets: Sequence[int]) -> dict[int, str]:
    """Return the alerts' ids by offset."""
    sql = "SELECT offset, id FROM entry WHERE offset IN (SELECT value FROM json_each(?))"
    return {each[0]: each[1] for each in rows(db, sql, (orjson.dumps(offsets).decode(),))}


def kept_among(db: apsw.Connection, offsets: Sequence[int]) -> set[int]:
    """Return those of these offsets at which there is an entry."""
    return set(ids_of(db, offsets))


def _group(db: apsw.Connection, offset: int) -> list[int]:
    """Return the offsets of all that an entry is connected with by references, rising; more than `MAX_GROUP` if there are too many to find."""
    found = {offset}
    todo = [offset]
    chains: set[tuple[str, str]] = set()
    while todo and len(found) <= MAX_GROUP:
        for scope, chain in rows(db, "SELECT scope, chain FROM link WHERE offset = ?", (todo.pop(),)):
            if (scope, chain) in chains:
                continue
            chains.add((scope, chain))
            for (other,) in rows(db, "SELECT offset FROM link WHERE scope = ? AND chain = ?", (scope, chain)):
                if other not in found:
                    found.add(other)
                    todo.append(other)
    return sorted(found)


def _settled(db: apsw.Connection) -> int:
    bounds = [
        row(db, "SELECT min(cursor) FROM subscription"),
        row(db, f"SELECT ({_WAITING}) - 1"),
        row(db, "SELECT value FROM meta WHERE key = 'audited'"),
    ]
    known = [found[0] for found in bounds if found is not None and found[0] is not None]
    return int(min(known))


def _many(db: apsw.Connection, sql: str, values: Sequence[tuple[int | str]]) -> None:
    with all_or_nothing(db):
        db.executemany(sql, values)
