"""What each attempt of a delivery said: a hash for each delivery, by the attempt's number, which the server forgets after a month."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import orjson

from lalert.store import ATTEMPTS_KEPT, MAX_ATTEMPTS, Attempt
from lalert.store.redis.access import Tables, encode, key
from lalert.store.redis.scripts import Script
from lalert.store.redis.wire import Word
from lalert.store.sqlite.attempts import decode_attempt, encode_attempt

_ADD: Final = Script(
    "add attempts",
    """
    -- ARGV: the prefix of the hashes, how long they are kept; of each the delivery's key, its number, the number that goes, and the row.
    for at = 3, #ARGV, 4 do
      local name = ARGV[1] .. ARGV[at]
      redis.call('HSET', name, ARGV[at + 1], ARGV[at + 3])
      redis.call('HDEL', name, ARGV[at + 2])
      redis.call('EXPIRE', name, ARGV[2])
    end
    return 1
    """,
    idempotent=True,
)


class AttemptTable(Tables):
    """Keeps `store.AttemptBook`."""

    async def add_attempts(self, attempts: Sequence[Attempt]) -> None:
        if not attempts:
            return
        words: list[Word] = [key("attempts", ""), int(ATTEMPTS_KEPT.total_seconds())]
        for each in attempts:
            words += [each.key, each.number, each.number - MAX_ATTEMPTS, encode(encode_attempt(each))]
        await self._change(_ADD, [key("attempts", attempts[0].key)], words)

    async def attempts(self, key: str) -> list[Attempt]:
        rows = (await self._hash(_of(key))).values()
        return sorted((decode_attempt(orjson.loads(row)) for row in rows), key=lambda each: each.number)


def _of(name: str) -> str:
    return key("attempts", name)
