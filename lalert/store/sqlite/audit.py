"""The audit chain as a table."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import apsw
import orjson

from lalert.errors import StoreError
from lalert.store.audit import Action, Document, Head, KeptLine, Note, actor_of, chained, network_of
from lalert.store.sqlite.access import Access
from lalert.store.sqlite.codec import moment, position
from lalert.store.sqlite.files import open_for_reading
from lalert.store.sqlite.schema import APPLICATION_ID
from lalert.store.sqlite.statements import all_or_nothing, row, rows

_INSERT: Final = "INSERT INTO audit VALUES (?, CAST(? AS TEXT), ?)"
_SET: Final = "UPDATE meta SET value = ? WHERE key = ?"
# As bytes: a text that somebody has changed may be no UTF-8 any more, and must be found all the same.
_AFTER: Final = "SELECT number, CAST(text AS BLOB), hash FROM audit WHERE number > ? ORDER BY number LIMIT ?"
_BEFORE: Final = "SELECT number, CAST(text AS BLOB), hash FROM audit WHERE number > 0 AND number < ? ORDER BY number DESC LIMIT ?"
AFTER_OF: Final = """
SELECT number, CAST(text AS BLOB), hash FROM audit WHERE text ->> 'org' = ? AND number > ? ORDER BY number LIMIT ?
"""
BEFORE_OF: Final = """
SELECT number, CAST(text AS BLOB), hash FROM audit WHERE text ->> 'org' = ? AND number > 0 AND number < ? ORDER BY number DESC LIMIT ?
"""
_ACCEPTED: Final = """
SELECT offset, id, scope, stored, digest, about FROM entry WHERE offset > ? ORDER BY offset LIMIT ?
"""
_DOCUMENTS: Final = (
    "SELECT offset, id, raw FROM entry WHERE offset > ? AND offset <= ? ORDER BY offset LIMIT ?"
)
_LINED: Final = """
SELECT e.offset FROM audit a JOIN entry e ON e.id = CASE
    WHEN json_valid(a.text) AND a.text ->> '$.action' = 'alert.accepted' THEN a.text ->> '$.subject' END
ORDER BY a.number DESC LIMIT 1
"""
_NO_END: Final = 2**63 - 1
_NO_BEGIN: Final = -(2**63)
"""A chain begins at 1; what somebody has put before that is found by whoever reads from the begin."""


class AuditTable(Access):
    """Keeps `store.AuditLog`."""

    async def append_audit(self, notes: Sequence[Note]) -> Head:
        def append(db: apsw.Connection) -> Head:
            with all_or_nothing(db):
                return _append(db, notes)

        return await self._write(append, rows=len(notes))

    async def audit_accepted(self, limit: int) -> int:
        epoch = self._parts.epoch
        if await self._ask(_audited) >= self._parts.newest:
            return 0

        def append(db: apsw.Connection) -> int:
            with all_or_nothing(db):
                found = accepted_after(db, epoch, _audited(db), limit)
                if found:
                    _append(db, [note for _, note in found])
                    db.execute(_SET, (found[-1][0], "audited"))
                return len(found)

        return await self._write(append, rows=limit)

    async def documents(self, after: str | None, limit: int) -> list[Document]:
        offset = 0 if after is None else self._offset(after)
        upto = await self._ask(_lined)
        return await self._ask(
            partial(documents_after, epoch=self._parts.epoch, offset=offset, upto=upto, limit=limit)
        )

    async def audit_lines(self, after: int, limit: int, org: str | None = None) -> list[KeptLine]:
        if org is None:
            found = await self._rows(_AFTER, after or _NO_BEGIN, max(0, limit))
        else:
            found = await self._rows(AFTER_OF, org, after, max(0, limit))
        return [KeptLine(*line) for line in found]

    async def latest_audit_lines(
        self, limit: int, before: int | None = None, org: str | None = None
    ) -> list[KeptLine]:
        end = _NO_END if before is None else before
        if org is None:
            found = await self._rows(_BEFORE, end, max(0, limit))
        else:
            found = await self._rows(BEFORE_OF, org, end, max(0, limit))
        return [KeptLine(*line) for line in reversed(found)]

    async def audit_head(self) -> Head:
        return await self._ask(head_of)


@dataclass(frozen=True, slots=True)
class Chain:
    """The chain in a file: its lines, its head, what `StateStore` holds of the heads that were published, and what the log holds."""

    lines: Iterator[KeptLine]
    head: Head
    days: bytes | None
    documents: Iterator[Document]


@contextmanager
def chain_in(path: Path) -> Iterator[Chain]:
    """Open the chain of a store's file that nobody writes to, such as a backup.

    Raises `StoreError` for what is no such file, or one of a lalert that had no audit chain.
    """
    try:
        with closing(open_for_reading(path, None)) as db:
            if db.pragma("application_id") != APPLICATION_ID:
                raise StoreError(f"{path} is no backup of lalert")
            if row(db, "SELECT 1 FROM sqlite_schema WHERE name = 'audit'") is None:
                raise StoreError(f"{path} is of a lalert that kept no audit chain yet")
            days = row(db, "SELECT value FROM adapter_state WHERE owner = 'audit' AND key = 'heads'")
            lines = (KeptLine(*line) for line in db.execute(_AFTER, (_NO_BEGIN, _NO_END)))
            documents = _documents_in(db, _lined(db))
            yield Chain(lines, head_of(db), None if days is None else bytes(days[0]), documents)
    except apsw.NotADBError as error:
        raise StoreError(f"{path} is no backup of lalert") from error
    except apsw.Error as error:
        raise StoreError(f"{path} cannot be read ({error}); it is damaged, or not a whole file") from error


def _documents_in(db: apsw.Connection, upto: int) -> Iterator[Document]:
    for offset, id, raw in db.execute(_DOCUMENTS, (0, upto, _NO_END)):
        yield Document(str(offset), id, hashlib.sha256(raw).digest())


def head_of(db: apsw.Connection) -> Head:
    """Return the head that the file itself knows, apart from the lines: some that were cut off at the end are missed by it."""
    found = row(db, "SELECT value FROM meta WHERE key = 'audit'")
    try:
        return Head.parse(str(found and found[0]))
    except ValueError as error:
        raise StoreError(
            "the store does not say where its audit chain ends: somebody has changed it; restore the newest backup"
        ) from error


def accepted_after(db: apsw.Connection, epoch: str, offset: int, limit: int) -> list[tuple[int, Note]]:
    """Return up to `limit` entries that follow an offset, each with its offset, as the notes that they leave. Reads no document."""
    notes = []
    for at, id, scope, stored, digest, about in rows(db, _ACCEPTED, (offset, limit)):
        fields = orjson.loads(about)
        kind, remote = fields["kind"], fields["remote"]
        note = Note(
            moment(stored),
            actor_of(kind, fields["key_id"], remote),
            Action.ACCEPTED,
            id,
            fields["tenant"] or "",
            {
                "network": network_of(remote),
                "origin": kind,
                "position": position(epoch, at),
                "sha256": digest.hex(),
                "status": scope.partition("/")[0],
            },
        )
        notes.append((at, note))
    return notes


def documents_after(db: apsw.Connection, epoch: str, offset: int, upto: int, limit: int) -> list[Document]:
    """Return up to `limit` entries beyond an offset, up to another, by what their documents are now, whatever else the file says of them."""
    found = db.execute(_DOCUMENTS, (offset, upto, limit))
    return [Document(position(epoch, at), id, hashlib.sha256(raw).digest()) for at, id, raw in found]


def _append(db: apsw.Connection, notes: Sequence[Note]) -> Head:
    head = head_of(db)
    lines = chained(head, notes)
    if lines:
        head = lines[-1].head
        db.executemany(_INSERT, [(line.number, line.text, line.hash) for line in lines])
        db.execute(_SET, (str(head), "audit"))
    return head


def _audited(db: apsw.Connection) -> int:
    found = row(db, "SELECT value FROM meta WHERE key = 'audited'")
    try:
        return int(str(found and found[0]))
    except ValueError as error:
        raise StoreError(
            "the store does not say how far its audit chain goes: somebody has changed it; restore the newest backup"
        ) from error


def _lined(db: apsw.Connection) -> int:
    """Return up to where entries have their lines; a cursor that somebody has set back does not hide what they say."""
    last = row(db, _LINED)
    return max(_audited(db), last[0] if last else 0)
