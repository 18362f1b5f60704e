"""What need not be kept any longer, and up to where nothing is owed.

What an alert does to those before it follows from the log's order, so a deletion has its place in that order too: it is made only while the log ends
where this node's view ends, and every view follows it between what came before and after.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Collection, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Final

import apsw
import orjson

from lalert.store import SHARES, DeliveryState
from lalert.store.redis.access import PAGE, Tables, key, ordered, padded
from lalert.store.redis.audit import AUDITED
from lalert.store.redis.entries import id_of
from lalert.store.redis.keys import FORGOTTEN, FORGOTTEN_KEPT, IDS, LAST, LOG, META
from lalert.store.redis.scripts import Script
from lalert.store.redis.sensors import JUDGED, READINGS, index_words
from lalert.store.redis.stream import Follower
from lalert.store.redis.wire import Word
from lalert.store.sqlite.codec import decode_reading, micros, position
from lalert.store.sqlite.retention import RetentionTables, grown
from lalert.store.sqlite.statements import rows

ATTEMPTS: Final = 100
PAUSE_SECONDS: Final = 0.02
FOLLOW_SECONDS: Final = 5.0

_FORGET: Final = Script(
    "forget",
    LAST
    + f"""
    -- KEYS: log, ids, meta, forgotten. ARGV: where the log must end, the offsets, the newest of their group, the highest of them, of each alert its id and its place.
    if last(KEYS[1]) ~= ARGV[1] then return 0 end
    for at = 5, #ARGV, 2 do
      redis.call('HDEL', KEYS[2], ARGV[at])
      redis.call('XDEL', KEYS[1], ARGV[at + 1])
    end
    local trimmed = redis.call('HGET', KEYS[3], 'trimmed')
    if not trimmed or ARGV[4] > trimmed then redis.call('HSET', KEYS[3], 'trimmed', ARGV[4]) end
    local number = redis.call('HINCRBY', KEYS[3], 'deletions', 1)
    redis.call('XADD', KEYS[4], 'MAXLEN', '~', {FORGOTTEN_KEPT}, '*', 'number', number, 'at', ARGV[1], 'offsets', ARGV[2], 'newest', ARGV[3])
    return number
    """,
)

# Looked at once more: the row may have been written again since.
_FORGET_ROWS: Final = Script(
    "forget deliveries",
    f"""
    local prefix, limit, gone = ARGV[1], ARGV[2], 0
    for at = 3, #ARGV, 2 do
      local member, name = ARGV[at], prefix .. ARGV[at + 1]
      local updated, state = string.match(redis.call('GET', name) or '', '^(%d+) %d+ (%S+)')
      if updated and state ~= '{DeliveryState.RETRY}' and updated <= limit then
        redis.call('DEL', name)
        redis.call('ZREM', KEYS[1], member)
        redis.call('ZREM', KEYS[2], member)
        gone = gone + 1
      end
    end
    return gone
    """,
)
_FORGET_READINGS: Final = Script(
    "forget readings",
    """
    for at = 1, #ARGV, 5 do
      redis.call('XDEL', KEYS[1], ARGV[at])
      redis.call('ZREM', ARGV[at + 1], ARGV[at + 2])
      if ARGV[at + 4] ~= '' then redis.call('ZREM', ARGV[at + 3], ARGV[at + 4]) end
    end
    return 1
    """,
)


class KeepingTables(Tables, RetentionTables):
    """Keeps `store.Retained`."""

    @property
    @abstractmethod
    def _following(self) -> Follower: ...

    async def forget(self, positions: Sequence[str], newest: str) -> bool:
        """Do as `store.Retained` says; False too where the log does not stand still for a moment."""
        offsets, last = [self._offset(each) for each in positions], self._offset(newest)
        for _ in range(ATTEMPTS):
            end = self._parts.newest
            if await self._ask(partial(grown, offsets=offsets, newest=last)):
                return False
            alerts = await self._ask(partial(_ids, offsets=offsets))
            words: list[Word] = [id_of(end), " ".join(map(str, offsets)), last, padded(max(offsets))]
            for id, offset in alerts:
                words += [id, id_of(offset)]
            if number := await self._change(_FORGET, [LOG, IDS, META, FORGOTTEN], words):
                with suppress(TimeoutError):
                    async with asyncio.timeout(FOLLOW_SECONDS):
                        await self._following.wait_for_deletion(number)
                return True
            await asyncio.sleep(PAUSE_SECONDS)
        return False

    async def settled(self) -> str:
        bounds = [int(await self._look("GET", AUDITED) or 0)]
        for share in range(SHARES):
            bounds += map(int, (await self._hash(key("cursors", share))).values())
            async for members in self._members(key("retry", share), b"-", b"+"):
                bounds += [_offset(member) - 1 for member in members]
        return position(self._parts.epoch, min(bounds))

    async def forget_deliveries(self, before: datetime) -> int:
        gone = 0
        for share in range(SHARES):
            keys = [key("history", share), key("beyond", share)]
            async for members in self._members(keys[0], b"-", b"+"):
                offsets = {_offset(member) for member in members}
                kept = await self._ask(partial(_kept, offsets=offsets, newest=self._parts.newest))
                words: list[Word] = [key("delivery", ""), ordered(micros(before))]
                for member in members:
                    if _offset(member) not in kept:
                        words += [member, member.split(b"\0", 2)[2]]
                if len(words) > 2:
                    gone += await self._change(_FORGET_ROWS, keys, words)
        return gone

    async def forget_readings(self, before: datetime) -> int:
        judged, gone = int(await self._look("GET", JUDGED) or 0), 0
        while True:
            words: list[Word] = []
            old = 0
            for id, fields in await self._look("XRANGE", READINGS, "-", "+", "COUNT", PAGE):
                reading = decode_reading((int(id.partition(b"-")[0]), *orjson.loads(fields[1])))
                if reading.number <= judged and reading.received <= before:
                    words += [id, *index_words(reading)]
                    old += 1
            if words:
                await self._change(_FORGET_READINGS, [READINGS], words)
            gone += old
            if old < PAGE:
                return gone


def _ids(db: apsw.Connection, offsets: Sequence[int]) -> list[tuple[str, int]]:
    sql = "SELECT id, offset FROM entry WHERE offset IN (SELECT value FROM json_each(?))"
    return [(id, offset) for id, offset in rows(db, sql, (orjson.dumps(offsets).decode(),))]


def _offset(member: bytes) -> int:
    return int(member.split(b"\0", 2)[1])


def _kept(db: apsw.Connection, offsets: Collection[int], newest: int) -> set[int]:
    sql = "SELECT offset FROM entry WHERE offset IN (SELECT value FROM json_each(?))"
    found: Sequence[Sequence[int]] = rows(db, sql, (orjson.dumps(sorted(offsets)).decode(),))
    # What this node has not seen yet is kept.
    return {row[0] for row in found} | {offset for offset in offsets if offset > newest}
