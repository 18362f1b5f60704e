"""A node's view of a log that is kept elsewhere: the same tables in a file that is thrown away, so that both kinds of log mean the same.

Nothing here is durable. What each entry does to the states and chains before it follows from the order of the log alone, so every node
that has seen the same log has the same view of it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Self

import apsw

from lalert.clock import Clock
from lalert.errors import Conflict, StoreError
from lalert.model import Entry
from lalert.store import OnAppend, Revive
from lalert.store.sqlite import log
from lalert.store.sqlite.codec import decode_about, decode_codes, moment
from lalert.store.sqlite.log import Columns, NewEntry
from lalert.store.sqlite.opened import Files, Memory, Open
from lalert.store.sqlite.reading import LogTables
from lalert.store.sqlite.retention import forget
from lalert.store.sqlite.statements import Row, all_or_nothing
from lalert.store.sqlite.writer import Bounds

logger = logging.getLogger(__name__)


class LogView(LogTables):
    """What `store.AlertLog` says of reading, about entries that `load` and `apply` were given, each with its offset, rising.

    An async context manager. The file at `path` is made anew, and removed at the end.
    """

    def __init__(
        self,
        path: Path,
        epoch: str,
        *,
        revive: Revive,
        on_append: OnAppend,
        clock: Clock,
        memory: Memory | None = None,
    ) -> None:
        self.epoch = epoch
        self._path = path
        self._revive = revive
        self._on_append = on_append
        self._clock = clock
        self._memory = memory or Memory()
        self._open: Open | None = None

    async def __aenter__(self) -> Self:
        files = await asyncio.to_thread(Files, self._path, self._clock, None, self.epoch)
        self._open = Open(files, self._revive, self._on_append, self._clock, Bounds(), self._memory)
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._open is not None:
            opened, self._open = self._open, None
            await opened.close()
            self._path.unlink(missing_ok=True)

    @property
    def offset(self) -> int:
        """Return the offset of the newest entry, 0 if there is none."""
        return self._parts.newest

    async def load(self, entries: Sequence[Columns], upto: int) -> None:
        """Take history in, of which nobody is to be told; `upto` is where the log was read to, whether or not an entry is there."""

        def load(db: apsw.Connection) -> None:
            with all_or_nothing(db):
                for new in entries:
                    self._append(db, new)

        await self._write(load, rows=len(entries))
        self._parts.loaded(upto)

    async def apply(self, entries: Sequence[NewEntry]) -> list[Entry]:
        """Take new entries in, all or nothing, and tell of them; returns those that were not there yet."""

        def apply(db: apsw.Connection) -> list[log.Placed]:
            with all_or_nothing(db):
                placed = [self._append(db, new) for new in entries]
            return [one for one in placed if one is not None]

        parts = self._parts
        fresh = [parts.add(placed) for placed in await self._write(apply, rows=len(entries))]
        if fresh:
            parts.announce(fresh)
        return fresh

    async def forget(self, offsets: Sequence[int], at: int) -> None:
        """Let entries go that are over; `at` is where the log says so."""
        parts = self._parts
        if offsets:
            parts.trimmed = max(parts.trimmed, *offsets)
            await self._write(lambda db: forget(db, offsets, at), rows=len(offsets))
            parts.forget(offsets)
        self.passed(at)

    def passed(self, offset: int) -> None:
        """Take note that the log was read up to `offset`, whether or not an entry is there."""
        self._parts.passed(offset)

    def revived(self, columns: Columns) -> NewEntry:
        """Read an entry's document again, in whatever thread this is called. Raises `StoreError` if it is not what was accepted."""
        if log.digest_of(columns.raw) != columns.digest:
            raise StoreError(f"the document at offset {columns.offset} is damaged: restore the newest backup")
        alert, facts = self._revive(columns.raw, columns.jurisdiction)
        about = decode_about(columns.about, alert)
        return NewEntry(
            **{name: getattr(columns, name) for name in Columns.__slots__},
            alert=about.alert,
            origin=about.origin,
            received=about.received,
            facts=facts,
            changes=about.changes,
            correction=about.correction,
        )

    async def again(self, after: int, limit: int) -> list[Columns]:
        """Return the first `limit` entries after an offset as they were given to the view, rising."""
        upto = self._parts.newest
        return await self._ask(
            lambda db: [columns_of(row, self._revive) for row in log.rows_after(db, after, upto, limit)]
        )

    async def last(self, upto: int, limit: int) -> list[Columns]:
        """Return the last `limit` entries up to an offset as they were given to the view, rising."""
        found = await self._ask(
            lambda db: [columns_of(row, self._revive) for row in islice(log.rows_before(db, upto), limit)]
        )
        return found[::-1]

    async def require_bounded(self, new: Columns) -> None:
        """Raise `InvalidAlert` for an entry that would continue more incidents than one may."""
        if new.references:
            await self._ask(lambda db: log.require_bounded(db, new))

    @property
    def parts(self) -> Open:
        """Return what is open, for who answers from it; raises `StoreError`."""
        return self._parts

    @property
    def _parts(self) -> Open:
        if self._open is None:
            raise StoreError("the store is not open")
        return self._open

    def _append(self, db: apsw.Connection, new: Columns) -> log.Placed | None:
        try:
            placed = self._parts.appender.append(db, new)
        except Conflict as error:
            logger.error("the log holds two alerts of one identity; the first counts: %s", error)
            return None
        return placed if placed.fresh else None


def columns_of(row: Row, revive: Revive) -> Columns:
    """Return an entry of the table as it was given to the log. Raises whatever reading its document again raises."""
    offset, _, stored, codes, _, _, about, _, raw = row
    jurisdiction = decode_codes(codes)
    alert, facts = revive(raw, jurisdiction)
    kept = decode_about(about, alert)
    new = log.prepare(
        kept.alert, kept.origin, kept.received, facts, jurisdiction, kept.changes, kept.correction
    )
    new.about, new.offset, new.stored = about, offset, moment(stored)
    return new
