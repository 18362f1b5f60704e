"""What receivers have confirmed, at whichever node: the newest alerts of each."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

import orjson

from lalert.store import MAX_CONFIRMATIONS, Confirmation
from lalert.store.redis.access import Tables, encode, key, padded
from lalert.store.redis.scripts import Script
from lalert.store.redis.wire import Word
from lalert.store.sqlite.codec import position
from lalert.store.sqlite.confirmations import decode_confirmation, encode_confirmation

CONFIRMERS: Final = key("confirmers")
"""A set of the keys that have confirmed anything; `confirmed:KEY` is a sorted set of `offset NUL row as JSON`."""

KEYS_AT_ONCE: Final = 50
"""So many keys' are asked for at a time."""

_ADD: Final = Script(
    "add confirmations",
    """
    -- KEYS: confirmers. ARGV: the prefix of the sets, the most of one; key, offset and member of each.
    for at = 3, #ARGV, 3 do
      local name, offset = ARGV[1] .. ARGV[at], ARGV[at + 1]
      if #redis.call('ZRANGEBYLEX', name, '[' .. offset .. '\\0', '(' .. offset .. '\\1', 'LIMIT', 0, 1) == 0 then
        redis.call('SADD', KEYS[1], ARGV[at])
        redis.call('ZADD', name, 0, ARGV[at + 2])
        redis.call('ZREMRANGEBYRANK', name, 0, -1 - ARGV[2])
      end
    end
    return 1
    """,
)


class ConfirmationTable(Tables):
    """Keeps `store.ConfirmationBook`."""

    async def add_confirmations(self, confirmations: Sequence[Confirmation]) -> None:
        if not confirmations:
            return
        words: list[Word] = [_of(""), MAX_CONFIRMATIONS]
        for each in confirmations:
            offset = self._offset(each.position)
            member = padded(offset).encode() + b"\0" + encode(encode_confirmation(each, offset))
            words += [each.key, padded(offset), member]
        await self._change(_ADD, [CONFIRMERS], words)

    async def confirmations(self, keys: Collection[str] | None = None) -> list[Confirmation]:
        if keys is None:
            keys = [name.decode() for name in await self._look("SMEMBERS", CONFIRMERS)]
        found: list[Confirmation] = []
        names = sorted(keys)
        for start in range(0, len(names), KEYS_AT_ONCE):
            some = names[start : start + KEYS_AT_ONCE]
            for members in await self._look_all([("ZREVRANGE", _of(name), 0, -1) for name in some]):
                found += [self._decoded(member) for member in members]
        return found

    def _decoded(self, member: bytes) -> Confirmation:
        row = orjson.loads(member.partition(b"\0")[2])
        return decode_confirmation(row, position(self._parts.epoch, row[1]))


def _of(name: str) -> str:
    return key("confirmed", name)
