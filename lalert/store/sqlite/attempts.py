"""What each attempt of a delivery said, the newest of each, for a month."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import apsw

from lalert.store import ATTEMPTS_KEPT, MAX_ATTEMPTS, Attempt, DeliveryState
from lalert.store.sqlite.access import Access
from lalert.store.sqlite.codec import micros, moment
from lalert.store.sqlite.statements import Row, Value, all_or_nothing, execute_rows

_SAVE: Final = "INSERT OR REPLACE INTO attempt SELECT * FROM (VALUES {rows}) WHERE column1 IS NOT NULL"
_BOUND: Final = (
    "DELETE FROM attempt WHERE (key, number) IN (SELECT * FROM (VALUES {rows}) WHERE column1 IS NOT NULL)"
)
# More than are added at a time, so that it keeps up.
_FORGET: Final = """
DELETE FROM attempt WHERE (key, number) IN (SELECT key, number FROM attempt WHERE began < ? ORDER BY began LIMIT ?)
"""


class AttemptTable(Access):
    """Keeps `store.AttemptBook`."""

    async def add_attempts(self, attempts: Sequence[Attempt]) -> None:
        if not attempts:
            return
        values = [encode_attempt(each) for each in attempts]
        over = [(each.key, each.number - MAX_ATTEMPTS) for each in attempts]
        old = micros(max(each.began for each in attempts) - ATTEMPTS_KEPT)

        def add(db: apsw.Connection) -> None:
            with all_or_nothing(db):
                execute_rows(db, _SAVE, values)
                execute_rows(db, _BOUND, over)
                db.execute(_FORGET, (old, 2 * len(values) + 10))

        size = sum(len(each.detail) + len(each.request) + len(each.response) for each in attempts)
        await self._write(add, rows=len(values), size=size)

    async def attempts(self, key: str) -> list[Attempt]:
        found = await self._rows("SELECT * FROM attempt WHERE key = ? ORDER BY number", key)
        return [decode_attempt(row) for row in found]


def encode_attempt(attempt: Attempt) -> tuple[Value, ...]:
    return (
        attempt.key,
        attempt.number,
        micros(attempt.began),
        attempt.took,
        attempt.state,
        attempt.detail,
        attempt.request,
        attempt.response,
    )


def decode_attempt(row: Row) -> Attempt:
    key, number, began, took, state, detail, request, response = row
    return Attempt(key, number, moment(began), took, DeliveryState(state), detail, request, response)
