"""Durable targets: subscriptions, which are lanes with a cursor, and the deliveries that were tried or settled out of turn."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

import apsw

from lalert.model import Lease, Subscription
from lalert.store import DeliveryRow, DeliveryState, Lane, share_of
from lalert.store.sqlite.access import Access
from lalert.store.sqlite.codec import (
    decode_delivery,
    decode_subscription,
    encode_delivery,
    encode_subscription,
    micros,
    position,
)
from lalert.store.sqlite.statements import all_or_nothing, execute_rows

_SAVE_SUBSCRIPTION: Final = """
INSERT INTO subscription VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET channel = excluded.channel, target = excluded.target, filter = excluded.filter,
    created = excluded.created, tenant = excluded.tenant, format = excluded.format, lang = excluded.lang, options = excluded.options
"""
_SAVE_DELIVERIES: Final = """
INSERT INTO delivery SELECT * FROM (VALUES {rows}) WHERE column1 IS NOT NULL
ON CONFLICT (key) DO UPDATE SET subscription = excluded.subscription, offset = excluded.offset, state = excluded.state,
    attempts = excluded.attempts, due = excluded.due, detail = excluded.detail, updated = excluded.updated,
    confirmed = coalesce(excluded.confirmed, delivery.confirmed)
WHERE excluded.updated >= delivery.updated
"""
MOVE_CURSORS: Final = """
UPDATE subscription SET cursor = moved.column2 FROM (VALUES {rows}) AS moved
WHERE subscription.id = moved.column1 AND moved.column2 > subscription.cursor
"""
# CROSS JOIN keeps the order: each lane looks beyond its own cursor, instead of all history being read.
UNSETTLED: Final = """
SELECT d.* FROM subscription s CROSS JOIN delivery d INDEXED BY delivery_of_subscription
ON d.subscription = s.id AND d.offset > s.cursor WHERE d.state <> 'retry'
UNION ALL
SELECT d.* FROM delivery d INDEXED BY delivery_waiting JOIN subscription s ON s.id = d.subscription WHERE d.state = 'retry'
"""
_UNSETTLED_OF: Final = """
SELECT d.* FROM subscription s JOIN delivery d ON d.subscription = s.id
WHERE s.id = ? AND (d.state = 'retry' OR d.offset > s.cursor)
"""
REMEMBERED: Final = 10_000
"""So many changed subscriptions are named; before them any may have changed."""


class TargetChanges:
    """Which subscriptions were changed since when. Kept in memory: this store is one process's, which loads everything when it starts."""

    def __init__(self) -> None:
        self.count = 0
        self._forgotten = 0
        self._last: dict[str, int] = {}

    def note(self, ids: Iterable[str]) -> None:
        for id in ids:
            self.count += 1
            self._last.pop(id, None)
            self._last[id] = self.count
            if len(self._last) > REMEMBERED:
                self._forgotten = self._last.pop(next(iter(self._last)))

    def after(self, count: int) -> frozenset[str] | None:
        if not self._forgotten <= count <= self.count:
            return None
        return frozenset(id for id, when in self._last.items() if when > count)


class OutboxTables(Access):
    """Keeps `store.Outbox`."""

    _target_changes: TargetChanges

    async def save_subscription(self, subscription: Subscription, cursor: str) -> None:
        values = (*encode_subscription(subscription), self._offset(cursor))

        def save(db: apsw.Connection) -> None:
            db.execute(_SAVE_SUBSCRIPTION, values)

        await self._write(save)
        self._target_changes.note([subscription.id])

    async def drop_subscription(self, subscription_id: str) -> bool:
        now = micros(self._parts.clock.now())

        def drop(db: apsw.Connection) -> bool:
            with all_or_nothing(db):
                db.execute("DELETE FROM subscription WHERE id = ?", (subscription_id,))
                dropped = db.changes() > 0
                # History must not say for ever that another try is to come.
                db.execute(
                    "UPDATE delivery SET state = ?, due = NULL, updated = ? WHERE subscription = ? AND state = 'retry'",
                    (DeliveryState.DROPPED, now, subscription_id),
                )
                return dropped

        dropped = await self._write(drop)
        self._target_changes.note([subscription_id])
        return dropped

    async def lanes(self, shares: Collection[int] | None = None) -> list[Lane]:
        epoch = self._parts.epoch
        found = await self._rows("SELECT * FROM subscription ORDER BY created, id")
        return [
            Lane(decode_subscription(row[:-1]), position(epoch, row[-1]))
            for row in found
            if shares is None or share_of(str(row[0])) in shares
        ]

    async def lane(self, subscription_id: str) -> Lane | None:
        row = await self._row("SELECT * FROM subscription WHERE id = ?", subscription_id)
        if row is None:
            return None
        return Lane(decode_subscription(row[:-1]), position(self._parts.epoch, row[-1]))

    async def record(
        self, rows: Sequence[DeliveryRow], cursors: Mapping[str, str], fences: Collection[Lease] = ()
    ) -> None:
        deliveries = [encode_delivery(row, self._offset(row.position)) for row in rows]
        # A cursor never goes back: what it has passed is settled.
        moves = [(subscription, self._offset(cursor)) for subscription, cursor in cursors.items()]
        if not deliveries and not moves:
            return

        def record(db: apsw.Connection) -> None:
            with all_or_nothing(db):
                execute_rows(db, _SAVE_DELIVERIES, deliveries)
                execute_rows(db, MOVE_CURSORS, moves)

        size = sum(len(row.key) + len(row.subscription) + len(row.detail) for row in rows)
        await self._write(record, rows=len(deliveries) + len(moves), size=size)
        if not fences:
            self._target_changes.note({row.subscription for row in rows})

    async def unsettled(self, shares: Collection[int] | None = None) -> list[DeliveryRow]:
        epoch = self._parts.epoch
        return [
            decode_delivery(row, epoch)
            for row in await self._rows(UNSETTLED)
            if shares is None or share_of(str(row[1])) in shares
        ]

    async def unsettled_of(self, subscription_id: str) -> list[DeliveryRow]:
        epoch = self._parts.epoch
        return [decode_delivery(row, epoch) for row in await self._rows(_UNSETTLED_OF, subscription_id)]

    async def target_changes(self, after: int) -> tuple[int, frozenset[str] | None]:
        return self._target_changes.count, self._target_changes.after(after)

    async def deliveries(self, subscription_id: str, limit: int) -> list[DeliveryRow]:
        epoch = self._parts.epoch
        sql = "SELECT * FROM delivery WHERE subscription = ? ORDER BY offset DESC, key DESC LIMIT ?"
        return [decode_delivery(row, epoch) for row in await self._rows(sql, subscription_id, max(0, limit))]

    async def delivery(self, key: str) -> DeliveryRow | None:
        epoch = self._parts.epoch
        row = await self._row("SELECT * FROM delivery WHERE key = ?", key)
        return None if row is None else decode_delivery(row, epoch)
