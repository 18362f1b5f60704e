"""The log as it is read: by offset, by id, and what is the newest state of what. From memory where it is there, else from a reader's connection."""

from __future__ import annotations

from abc import abstractmethod
from datetime import UTC, datetime
from itertools import islice

from lalert.errors import UnknownPosition
from lalert.model import Alert, Changes, Entry, Facts, Origin
from lalert.store import Foreseen
from lalert.store.sqlite import log
from lalert.store.sqlite.access import Access
from lalert.store.sqlite.codec import position, scope_of
from lalert.store.sqlite.opened import Open


class LogTables(Access):
    """Keeps what `store.AlertLog` promises of reading. What a read returns has been told to `on_append` before."""

    @property
    @abstractmethod
    def _parts(self) -> Open: ...

    @property
    def newest(self) -> str:
        return position(self._parts.epoch, self._parts.newest)

    def order(self, position: str) -> tuple[int, ...]:
        return (self._offset(position),)

    async def foresee(
        self,
        alert: Alert,
        origin: Origin,
        received: datetime,
        facts: Facts,
        jurisdiction: frozenset[str],
        *,
        changes: Changes | None = None,
        correction: bool = False,
    ) -> Foreseen:
        parts = self._parts
        new = log.prepare(alert, origin, received.astimezone(UTC), facts, jurisdiction, changes, correction)
        now = parts.clock.now()
        while True:
            rehearsed = await self._write(lambda db: log.rehearse(db, new, now), size=len(new.raw))
            placed = rehearsed.placed
            if placed.fresh:
                break
            # Nothing, if it was deleted between the two looks: then it would be new.
            for known in await parts.entries([placed.offset]):
                return Foreseen(known, fresh=False)
        return Foreseen(parts.entry_of(placed, ""), True, tuple(await parts.entries(placed.lineage)))

    async def reach(self, position: str) -> None:  # noqa: ARG002  # nobody else has told any
        return

    def require_kept(self, after: str) -> None:
        if self._offset(after) < self._parts.trimmed:
            raise UnknownPosition(
                f"alerts that followed position {after[:80]} are no longer kept; start again from a snapshot"
            )

    async def read(self, after: str | None, limit: int) -> list[Entry]:
        parts, offset = self._parts, 0 if after is None else self._offset(after)
        if limit <= 0:
            return []
        if offset < parts.ring.floor and parts.newest - offset <= parts.memory.newest:
            await parts.fill()
        if offset >= parts.ring.floor:
            return parts.ring.after(offset, limit)
        upto = parts.newest
        return await self._ask(lambda db: parts.decode(log.rows_after(db, offset, upto, limit)))

    async def latest(self, limit: int) -> list[Entry]:
        parts = self._parts
        if limit <= 0:
            return []
        if limit > len(parts.ring):
            await parts.fill()
        entries, floor = parts.ring.latest(limit), parts.ring.floor
        missing = limit - len(entries)
        if not missing or not floor:
            return entries
        older = await self._ask(lambda db: parts.decode(islice(log.rows_before(db, floor), missing)))
        return [*reversed(older), *entries]

    async def active(self, now: datetime) -> list[Entry]:
        return await self._parts.entries(await self._ask(lambda db: log.in_force(db, now)))

    async def next_end(self, after: datetime) -> datetime | None:
        return await self._ask(lambda db: log.next_end(db, after))

    async def ended(self, after: datetime, upto: datetime, limit: int | None = None) -> list[str]:
        epoch = self._parts.epoch
        return [position(epoch, at) for at in await self._ask(lambda db: log.ended(db, after, upto, limit))]

    async def heads(self, entry: Entry) -> list[Entry]:
        parts, scope, offset = self._parts, scope_of(entry.alert, entry.origin), self._offset(entry.position)
        return await parts.entries(await self._ask(lambda db: log.heads_of(db, scope, offset)))

    async def named(self, sender: str, identifier: str, limit: int) -> list[Entry]:
        while await self._write(log.index_names):
            pass
        offsets = await self._ask(lambda db: log.named(db, sender, identifier, limit))
        return await self._parts.entries(offsets)

    async def entry(self, position: str) -> Entry | None:
        try:
            offset = self._offset(position)
        except UnknownPosition:
            return None
        return next(iter(await self._parts.entries([offset])), None)

    async def find(self, alert_id: str) -> Entry | None:
        parts = self._parts
        entry = parts.ring.find(alert_id)
        if entry is not None or not parts.ring.floor:
            return entry
        offset = await self._ask(lambda db: log.offset_of_id(db, alert_id))
        return None if offset is None else next(iter(await parts.entries([offset])), None)

    async def lineage(self, entry: Entry) -> list[Entry]:
        parts, alert = self._parts, entry.alert
        if not alert.references and entry.incident == alert.id:
            return []
        offset = self._offset(entry.position)
        offsets = parts.ring.lineage(offset)
        if offsets is None:
            offsets = await self._ask(lambda db: log.lineage_of(db, alert, entry.origin, offset))
        return await parts.entries(offsets)
