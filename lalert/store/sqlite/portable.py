"""What a restored file gives away page by page, when it is another store that takes it in."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import apsw

from lalert.store import DeliveryRow, Revive
from lalert.store.sqlite import log
from lalert.store.sqlite.access import Access
from lalert.store.sqlite.codec import decode_delivery
from lalert.store.sqlite.log import Columns
from lalert.store.sqlite.statements import Row, row
from lalert.store.sqlite.view import columns_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Progress:
    """The highest offsets that were ever given, deleted and audited, and the number of the last reading that ever came."""

    newest: int
    trimmed: int
    audited: int
    readings: int


class PortableTables(Access):
    """Reads what no other method gives whole."""

    _revive: Revive

    async def progress(self) -> Progress:
        def ask(db: apsw.Connection) -> Progress:
            meta = dict(db.execute("SELECT key, value FROM meta WHERE key IN ('trimmed', 'audited')"))
            counted = row(db, "SELECT seq FROM sqlite_sequence WHERE name = 'reading'")
            readings = 0 if counted is None else int(counted[0])
            return Progress(log.newest(db), int(meta["trimmed"]), int(meta["audited"]), readings)

        return await self._ask(ask)

    async def given_alerts(self, after: int, limit: int) -> tuple[list[Columns], int | None]:
        """Return what can be read of the next `limit` entries, and the offset to go on from (None: that was all)."""

        def ask(db: apsw.Connection) -> tuple[list[Columns], int | None]:
            found = log.rows_after(db, after, 2**63 - 1, limit)
            given = [new for each in found if (new := self._given(each)) is not None]
            return given, found[-1][0] if len(found) == limit else None

        return await self._ask(ask)

    async def given_deliveries(self, after: str, limit: int) -> list[DeliveryRow]:
        """Return the next rows by their key."""
        sql = "SELECT * FROM delivery WHERE key > ? ORDER BY key LIMIT ?"
        return [decode_delivery(each, self._parts.epoch) for each in await self._rows(sql, after, limit)]

    async def given_states(self, owner: str, key: str, limit: int) -> list[tuple[str, str, bytes]]:
        """Return the next values of adapters, with whose and which they are."""
        sql = "SELECT * FROM adapter_state WHERE (owner, key) > (?, ?) ORDER BY owner, key LIMIT ?"
        return [(each[0], each[1], each[2]) for each in await self._rows(sql, owner, key, limit)]

    def _given(self, found: Row) -> Columns | None:
        offset, digest, raw = found[0], found[-2], found[-1]
        try:
            if log.digest_of(raw) == digest:
                return columns_of(found, self._revive)
            cause: object = "its bytes are not those that were accepted"
        except Exception as error:  # noqa: BLE001  # whatever is wrong with one document
            cause = error
        logger.error("the document at offset %d is left out: %s", offset, cause)
        return None
