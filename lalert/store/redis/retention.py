"""What need not be kept any longer leaves the stream. That it did is an entry of the stream itself, so that every view lets go at the same place."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Final

import orjson

from lalert.store import SHARES, DeliveryState, Part
from lalert.store.redis.access import PAGE, key, padded
from lalert.store.redis.audit import AUDITED, AuditTable
from lalert.store.redis.entries import FORGET, id_of
from lalert.store.redis.entries import offset_of as offset_of_id
from lalert.store.redis.keys import IDS, LAST, LOG, TRIMMED
from lalert.store.redis.outbox import OutboxTables
from lalert.store.redis.scripts import Script
from lalert.store.redis.sensors import READINGS, SensorTables, decode_entry, words_of
from lalert.store.redis.wire import Word
from lalert.store.sqlite.codec import position
from lalert.store.sqlite.retention import OverTables, grown, ids_of, kept_among

TRIES: Final = 20
"""So often it is tried to let go at a moment at which nothing has been appended since this node looked."""
PAUSE_SECONDS: Final = 0.05

FORGOTTEN: Final = Script(
    "forget entries",
    LAST
    + f"""
    -- KEYS: log, ids, trimmed. ARGV: the last id that the log was seen to have, the highest offset that goes, offsets as JSON, and of each entry its id and the alert's.
    if last(KEYS[1]) ~= ARGV[1] then return '' end
    local position = redis.call('XADD', KEYS[1], '*', 'v', '1', '{FORGET}', ARGV[3])
    for n = 4, #ARGV, 2 do
      redis.call('XDEL', KEYS[1], ARGV[n])
      redis.call('HDEL', KEYS[2], ARGV[n + 1])
    end
    if ARGV[2] > (redis.call('GET', KEYS[3]) or '') then redis.call('SET', KEYS[3], ARGV[2]) end
    return position
    """,
    due=True,
)
_FORGET_ROWS: Final = Script(
    "forget deliveries",
    f"""
    -- KEYS: history, beyond. ARGV: the rows' prefix; of each its member and its name.
    local gone = 0
    for n = 2, #ARGV, 2 do
      local name = ARGV[1] .. ARGV[n + 1]
      local row = redis.call('GET', name)
      if row and string.match(row, '^%d+ %d+ (%S+)') ~= '{DeliveryState.RETRY}' then
        redis.call('DEL', name)
        redis.call('ZREM', KEYS[1], ARGV[n])
        redis.call('ZREM', KEYS[2], ARGV[n])
        gone = gone + 1
      end
    end
    return gone
    """,
    due=True,
)
_FORGET_READINGS: Final = Script(
    "forget readings",
    """
    -- ARGV: of each reading its number, the keys of its station, kind, time, `seq` ("": none).
    for at = 1, #ARGV, 6 do
      local number, by_time, by_seq, kind, time, seq = unpack(ARGV, at, at + 5)
      redis.call('XDEL', KEYS[1], number .. '-0')
      redis.call('ZREM', by_time, time .. kind .. number)
      if seq ~= '' then redis.call('ZREM', by_seq, kind .. seq .. time) end
    end
    return #ARGV / 6
    """,
    due=True,
)


class RetentionTables(OverTables, OutboxTables, SensorTables, AuditTable):
    """Keeps `store.Retained`."""

    async def settled(self) -> str:
        bounds = [int(await self._look("GET", AUDITED) or 0)]
        for share in range(SHARES):
            bounds += [int(cursor) for cursor in (await self._hash(key("cursors", share))).values()]
            async for members in self._members(key("retry", share), b"-", b"+"):
                bounds.append(min(int(member.split(b"\0")[1]) for member in members) - 1)
        return position(self._parts.epoch, min(bounds))

    async def forget(self, parts: Sequence[Part]) -> list[bool]:
        going = [
            ([self._offset(each) for each in part.positions], self._offset(part.newest)) for part in parts
        ]
        opened = self._parts
        # Before the deletion: nobody may read across it without being told.
        opened.trimmed = max(opened.trimmed, *(offset for offsets, _ in going for offset in offsets))
        for _ in range(TRIES):
            upto = await self._level()
            if upto is not None:
                kept = [
                    await self._ask(partial(grown, offsets=some, newest=newest)) for some, newest in going
                ]
                offsets = [
                    offset
                    for (some, _), stays in zip(going, kept, strict=True)
                    if not stays
                    for offset in some
                ]
                if not offsets or await self._let_go(offsets, upto):
                    return [not stays for stays in kept]
            await asyncio.sleep(PAUSE_SECONDS)
        return [False] * len(parts)

    async def _let_go(self, offsets: Sequence[int], upto: int) -> bool:
        """Delete entries, unless the log has gone beyond `upto`: what has come since may refer to them."""
        ids = await self._ask(partial(ids_of, offsets=offsets))
        words: list[Word] = [id_of(upto), padded(max(offsets)), orjson.dumps(offsets)]
        for offset in offsets:
            words += [id_of(offset), ids.get(offset, "")]
        place = await self._change(FORGOTTEN, [LOG, IDS, TRIMMED], words)
        if place:
            await self._come_to(offset_of_id(place))
        return bool(place)

    @abstractmethod
    async def _level(self, *, at_least: bool = False) -> int | None:
        """Return the last offset that the log ever gave, once this node's view has come to it; None if it has not, or (unless `at_least`) if more has come since."""

    @abstractmethod
    async def _come_to(self, offset: int) -> None:
        """Wait, for a bounded time, until this node's view has come to an offset."""

    async def forget_deliveries(self, before: datetime) -> int:
        gone = 0
        for share in range(SHARES):
            async for members in self._members(key("history", share), b"-", b"+"):
                parts = {member: member.split(b"\0", 2) for member in members}
                offsets = {int(offset) for _, offset, _ in parts.values()}
                kept = await self._ask(partial(kept_among, offsets=list(offsets)))
                orphans = [member for member, (_, offset, _) in parts.items() if int(offset) not in kept]
                old = {row.key for row in await self._read(orphans) if row.updated <= before}
                words: list[Word] = [key("delivery", "")]
                for member in orphans:
                    if (name := parts[member][2].decode()) in old:
                        words += [member, name]
                if len(words) > 1:
                    gone += await self._change(
                        _FORGET_ROWS, [key("history", share), key("beyond", share)], words
                    )
        return gone

    async def forget_readings(self, before: datetime) -> int:
        gone, judged = 0, await self.judged()
        while True:
            page = await self._look("XRANGE", READINGS, "-", "+", "COUNT", PAGE)
            old = [
                each
                for each in (decode_entry(*entry) for entry in page)
                if each.received <= before and each.number <= judged
            ]
            words: list[Word] = []
            for each in old:
                words += [each.number, *words_of(each.tenant, each.reading, each.received)[:5]]
            if words:
                gone += await self._change(_FORGET_READINGS, [READINGS], words)
            if len(old) < PAGE:
                return gone
