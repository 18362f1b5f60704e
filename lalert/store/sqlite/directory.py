"""Organisations and their keys."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import apsw

from lalert.errors import Conflict, NotFound
from lalert.model import Key, Tenant
from lalert.store.sqlite.access import Access
from lalert.store.sqlite.codec import decode_key, decode_tenant, encode_key, encode_tenant, micros
from lalert.store.sqlite.statements import row

_UPDATE_TENANT: Final = """
UPDATE tenant SET name = ?, codes = ?, senders = ?, everywhere = ?, tolerant = ?, signatures = ?, certificates = ?
WHERE id = ?
"""


class DirectoryTables(Access):
    """Keeps `store.Directory`."""

    async def save_tenant(self, tenant: Tenant) -> None:
        values = encode_tenant(tenant)

        def save(db: apsw.Connection) -> None:
            db.execute(
                "INSERT INTO tenant VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING", values
            )
            if not db.changes():
                raise Conflict(f"the organisation {tenant.id} exists already; choose another id")

        await self._write(save)

    async def update_tenant(self, tenant: Tenant) -> None:
        id, *values = encode_tenant(tenant)

        def update(db: apsw.Connection) -> None:
            db.execute(_UPDATE_TENANT, (*values, id))
            if not db.changes():
                raise NotFound(f"there is no organisation {tenant.id}; `lalert org list` shows them")

        await self._write(update)

    async def tenants(self) -> list[Tenant]:
        return [decode_tenant(found) for found in await self._rows("SELECT * FROM tenant ORDER BY id")]

    async def save_key(self, key: Key) -> None:
        values = encode_key(key)

        def save(db: apsw.Connection) -> None:
            if row(db, "SELECT 1 FROM tenant WHERE id = ?", (key.tenant,)) is None:
                raise NotFound(f"there is no organisation {key.tenant}; create it first")
            db.execute("INSERT INTO key VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING", values)
            if not db.changes():
                raise Conflict(f"the key {key.id} exists already")

        await self._write(save)

    async def keys(self) -> list[Key]:
        return [decode_key(found) for found in await self._rows("SELECT * FROM key ORDER BY created, id")]

    async def revoke_key(self, key_id: str, now: datetime) -> None:
        revoked = micros(now)

        def revoke(db: apsw.Connection) -> None:
            db.execute("UPDATE key SET revoked = coalesce(revoked, ?) WHERE id = ?", (revoked, key_id))
            if not db.changes():
                raise NotFound("no such key; `lalert key list` shows the ids")

        await self._write(revoke)
