"""What receivers have confirmed, the newest alerts of each."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

import apsw

from lalert.store import MAX_CONFIRMATIONS, Confirmation
from lalert.store.sqlite.access import Access
from lalert.store.sqlite.codec import micros, moment, position
from lalert.store.sqlite.statements import Row, Value, all_or_nothing, rows

_ADD: Final = "INSERT INTO confirmation VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
_FORGET: Final = """
DELETE FROM confirmation WHERE key = ?1 AND offset <= (
    SELECT offset FROM confirmation WHERE key = ?1 ORDER BY offset DESC LIMIT 1 OFFSET ?2
)
"""
_OF_ONE: Final = "SELECT * FROM confirmation WHERE key = ? ORDER BY offset DESC"
_ALL: Final = "SELECT * FROM confirmation ORDER BY key, offset DESC"


class ConfirmationTable(Access):
    """Keeps `store.ConfirmationBook`."""

    async def add_confirmations(self, confirmations: Sequence[Confirmation]) -> None:
        if not confirmations:
            return
        values = [encode_confirmation(each, self._offset(each.position)) for each in confirmations]

        def add(db: apsw.Connection) -> None:
            with all_or_nothing(db):
                db.executemany(_ADD, values)
                db.executemany(
                    _FORGET, [(key, MAX_CONFIRMATIONS) for key in {each.key for each in confirmations}]
                )

        await self._write(add, rows=len(values))

    async def confirmations(self, keys: Collection[str] | None = None) -> list[Confirmation]:
        epoch = self._parts.epoch

        def read(db: apsw.Connection) -> list[Row]:
            if keys is None:
                return rows(db, _ALL)
            return [found for key in sorted(keys) for found in rows(db, _OF_ONE, (key,))]

        return [decode_confirmation(row, position(epoch, row[1])) for row in await self._ask(read)]


def encode_confirmation(confirmation: Confirmation, offset: int) -> tuple[Value, ...]:
    return (
        confirmation.key,
        offset,
        confirmation.alert,
        micros(confirmation.received),
        micros(confirmation.stored),
        None if confirmation.sent is None else micros(confirmation.sent),
        micros(confirmation.confirmed),
    )


def decode_confirmation(row: Row, position: str) -> Confirmation:
    key, _, alert, received, stored, sent, confirmed = row
    return Confirmation(
        key=key,
        position=position,
        alert=alert,
        received=moment(received),
        stored=moment(stored),
        sent=None if sent is None else moment(sent),
        confirmed=moment(confirmed),
    )
