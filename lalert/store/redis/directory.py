"""Organisations and their keys."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import orjson

from lalert.errors import Conflict, NotFound
from lalert.model import Key, Tenant
from lalert.store.redis.access import Tables, encode, key
from lalert.store.redis.scripts import Script
from lalert.store.sqlite.codec import decode_key, decode_tenant, encode_key, encode_tenant, micros

TENANTS: Final = key("tenants")
KEYS: Final = key("keys")
DIGESTS: Final = key("key-digests")
REVOKED: Final = key("keys-revoked")

_SAVE_TENANT: Final = Script("save tenant", "return redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2])")
_UPDATE_TENANT: Final = Script(
    "update tenant",
    """
    if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 0 end
    redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
    return 1
    """,
)
_SAVE_KEY: Final = Script(
    "save key",
    """
    local id, digest, tenant, row = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
    if redis.call('HEXISTS', KEYS[1], tenant) == 0 then return 'no tenant' end
    if redis.call('HEXISTS', KEYS[2], id) == 1 or redis.call('HEXISTS', KEYS[3], digest) == 1 then return 'taken' end
    redis.call('HSET', KEYS[2], id, row)
    redis.call('HSET', KEYS[3], digest, id)
    return 'saved'
    """,
)
# Apart from the row, which no script could change: a number of microseconds is too long for Lua's JSON.
_REVOKE: Final = Script(
    "revoke key",
    """
    if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 0 end
    redis.call('HSETNX', KEYS[2], ARGV[1], ARGV[2])
    return 1
    """,
)
_DIGEST: Final = 3
_REVOKED: Final = 7


class DirectoryTables(Tables):
    """Keeps `store.Directory`."""

    async def save_tenant(self, tenant: Tenant) -> None:
        if not await self._change(_SAVE_TENANT, [TENANTS], [tenant.id, encode(encode_tenant(tenant))]):
            raise Conflict(f"the organisation {tenant.id} exists already; choose another id")

    async def update_tenant(self, tenant: Tenant) -> None:
        if not await self._change(_UPDATE_TENANT, [TENANTS], [tenant.id, encode(encode_tenant(tenant))]):
            raise NotFound(f"there is no organisation {tenant.id}; `lalert org list` shows them")

    async def tenants(self) -> list[Tenant]:
        found = await self._hash(TENANTS)
        return [decode_tenant(tuple(orjson.loads(found[id]))) for id in sorted(found)]

    async def save_key(self, key: Key) -> None:
        row = list(encode_key(key))
        digest = row[_DIGEST] = key.digest.hex()
        if not key.stations:
            row.pop()  # nodes of an earlier version, still there while a newer one is brought in, know no limit and read no more than this
        # A key that is revoked when it is saved (a backup put back) is so from the first moment.
        reply = await self._change(
            _SAVE_KEY, [TENANTS, KEYS, DIGESTS], [key.id, digest, key.tenant, encode(row)]
        )
        if reply == b"no tenant":
            raise NotFound(f"there is no organisation {key.tenant}; create it first")
        if reply == b"taken":
            raise Conflict(f"the key {key.id} exists already")

    async def keys(self) -> list[Key]:
        found, revoked = await self._hash(KEYS), await self._hash(REVOKED)
        rows = []
        for id, text in found.items():
            row = orjson.loads(text)
            row[_DIGEST] = bytes.fromhex(row[_DIGEST])
            if row[_REVOKED] is None and id in revoked:
                row[_REVOKED] = int(revoked[id])
            rows.append(tuple(row))
        return sorted(map(decode_key, rows), key=lambda key: (key.created, key.id))

    async def revoke_key(self, key_id: str, now: datetime) -> None:
        if not await self._change(_REVOKE, [KEYS, REVOKED], [key_id, micros(now)]):
            raise NotFound("no such key; `lalert key list` shows the ids")
