"""The unused tickets of all nodes: what one has made serves once at any other."""

from __future__ import annotations

from typing import Final

from lalert.store.redis.access import key
from lalert.store.redis.link import Link
from lalert.store.redis.scripts import Script

_PUT: Final = Script(
    "put ticket",
    """
    -- KEYS: the ticket, the unused ones of its key by the millisecond of their end. ARGV: the key, milliseconds, the most.
    local time = redis.call('TIME')
    local now = time[1] * 1000 + math.floor(time[2] / 1000)
    redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
    if redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[3]) then return 0 end
    redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
    redis.call('ZADD', KEYS[2], now + ARGV[2], KEYS[1])
    redis.call('PEXPIRE', KEYS[2], ARGV[2])
    return 1
    """,
)
_TAKE: Final = Script(
    "take ticket",
    """
    redis.call('ZREM', KEYS[2], KEYS[1])
    return redis.call('DEL', KEYS[1])
    """,
    due=True,
)


class RedisShelf:
    """Keeps `tenancy.tickets.Shelf`; the server's own clock says when a ticket is too old."""

    def __init__(self, link: Link, seconds: float, most: int) -> None:
        self._link = link
        self._milliseconds = round(seconds * 1000)
        self._most = most

    async def put(self, digest: bytes, key_id: str) -> bool:
        keys = (_of(digest), _unused(key_id))
        return bool(await self._link.write(_PUT, keys, (key_id, self._milliseconds, self._most)))

    async def take(self, digest: bytes) -> str | None:
        # Only asked at first: a ticket that somebody invents writes nothing.
        found: bytes | None = await self._link.ask("GET", _of(digest))
        if found is None:
            return None
        key_id = found.decode()
        return key_id if await self._link.write(_TAKE, (_of(digest), _unused(key_id)), ()) else None


def _of(digest: bytes) -> str:
    return key("ticket", digest.hex())


def _unused(key_id: str) -> str:
    return key("tickets", key_id)
