"""The adapters' few values."""

from __future__ import annotations

from typing import Final

from lalert.errors import TooLarge
from lalert.store.redis.access import Tables, key
from lalert.store.redis.scripts import Script
from lalert.store.sqlite.sensors import MAX_STATE_BYTES, MAX_STATE_KEY

_PUT: Final = Script("put state", "return redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])")
_DELETE: Final = Script("delete state", "return redis.call('HDEL', KEYS[1], ARGV[1])")


class StateTable(Tables):
    """Keeps `store.StateStore`."""

    async def get(self, owner: str, key: str) -> bytes | None:
        found: bytes | None = await self._look("HGET", _of(owner), key)
        return found

    async def put(self, owner: str, key: str, value: bytes) -> None:
        if len(key) > MAX_STATE_KEY or len(value) > MAX_STATE_BYTES:
            raise TooLarge(
                f"state of {owner}: keys are up to {MAX_STATE_KEY} characters, values up to {MAX_STATE_BYTES} bytes"
            )
        await self._change(_PUT, [_of(owner)], [key, value])

    async def delete(self, owner: str, key: str) -> None:
        await self._change(_DELETE, [_of(owner)], [key])


def _of(owner: str) -> str:
    return key("state", owner)
