"""Durable targets: subscriptions, which are lanes with a cursor, and the deliveries that were tried or settled out of turn.

A lane stands in two hashes of its share: what it is, and its cursor, which moves all the time. A row is a text under its own key. Of each share there
are three sorted sets of `subscription NUL offset NUL key`: `history` has every row, `retry` those that wait for another try, `beyond` those settled
beyond their lane's cursor. So nothing that a node must know after a start has to be searched for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final

import orjson

from lalert.model import Lease, Subscription
from lalert.store import SHARES, DeliveryRow, DeliveryState, Lane, share_of
from lalert.store.redis.access import (
    FENCES,
    PAGE,
    Tables,
    encode,
    fence_words,
    key,
    ordered,
    padded,
    require_held,
    require_plain,
    unordered,
    within,
)
from lalert.store.redis.scripts import Script
from lalert.store.redis.wire import Word
from lalert.store.sqlite.codec import (
    decode_delivery,
    decode_subscription,
    encode_delivery,
    encode_subscription,
    micros,
    position,
)
from lalert.store.sqlite.outbox import REMEMBERED

CHANGES: Final = key("target-changes")
CHANGED: Final = key("targets-changed")
FORGOTTEN: Final = key("target-changes-forgotten")

TOGETHER: Final = 4
"""So many shares are read at a time."""

_NEVER: Final = "0" * 20
"""Stands for no time; no time is ordered so."""

_CHANGED: Final = f"""
local function changed(id)
  redis.call('ZADD', '{CHANGED}', redis.call('INCR', '{CHANGES}'), id)
  if redis.call('ZCARD', '{CHANGED}') > {REMEMBERED} then
    redis.call('SET', '{FORGOTTEN}', redis.call('ZPOPMIN', '{CHANGED}')[2])
  end
end
"""
_SAVE: Final = Script(
    "save subscription",
    _CHANGED
    + """
    redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
    redis.call('HSETNX', KEYS[2], ARGV[1], ARGV[3])
    changed(ARGV[1])
    return 1
    """,
)
# A row is `updated confirmed state due rest`; the times are texts of 20 digits, so that a script sees which is later, and the rest is JSON.
_SETTLE_WAITING: Final = f"""
local function settle_waiting(id, retry, prefix, now, limit)
  local members = redis.call('ZRANGEBYLEX', retry, '[' .. id .. '\\0', '(' .. id .. '\\1', 'LIMIT', 0, limit)
  for _, member in ipairs(members) do
    local name = prefix .. string.sub(member, #id + 23)
    local row = redis.call('GET', name)
    redis.call('ZREM', retry, member)
    if row then
      local confirmed, rest = string.match(row, '^%d+ (%d+) %S+ %d+ (.*)$')
      redis.call('SET', name, now .. ' ' .. confirmed .. ' {DeliveryState.DROPPED} {_NEVER} ' .. rest)
    end
  end
  return #members
end
"""
_DROP: Final = Script(
    "drop subscription",
    _CHANGED
    + _SETTLE_WAITING
    + """
    local id = ARGV[1]
    local dropped = redis.call('HDEL', KEYS[1], id)
    redis.call('HDEL', KEYS[2], id)
    redis.call('ZREMRANGEBYLEX', KEYS[4], '[' .. id .. '\\0', '(' .. id .. '\\1')
    changed(id)
    return {dropped, settle_waiting(id, KEYS[3], ARGV[2], ARGV[3], ARGV[4])}
    """,
    due=True,
)
_DROP_REST: Final = Script(
    "drop more rows of a subscription",
    _SETTLE_WAITING + "return {0, settle_waiting(ARGV[1], KEYS[3], ARGV[2], ARGV[3], ARGV[4])}",
    due=True,
)
_RECORD: Final = Script(
    "record deliveries",
    _CHANGED
    + FENCES
    + f"""
    local prefix = ARGV[1]
    local names, at = lost(ARGV, 2)
    if #names > 0 then return names end
    local fenced = ARGV[2] ~= '0'
    local rows, moves = tonumber(ARGV[at]), tonumber(ARGV[at + 1])
    at = at + 2
    for _ = 1, rows do
      local id, share, offset, name, updated, confirmed, state, due, rest = unpack(ARGV, at, at + 8)
      at = at + 9
      local row = redis.call('GET', prefix .. 'delivery:' .. name)
      if not row or updated >= string.sub(row, 1, 20) then
        -- What was confirmed once stays confirmed.
        if row and confirmed == '{_NEVER}' then confirmed = string.sub(row, 22, 41) end
        redis.call('SET', prefix .. 'delivery:' .. name, table.concat({{updated, confirmed, state, due, rest}}, ' '))
        local member = id .. '\\0' .. offset .. '\\0' .. name
        local retry, beyond = prefix .. 'retry:' .. share, prefix .. 'beyond:' .. share
        redis.call('ZADD', prefix .. 'history:' .. share, 0, member)
        redis.call('ZREM', retry, member)
        redis.call('ZREM', beyond, member)
        local cursor = redis.call('HGET', prefix .. 'cursors:' .. share, id)
        if cursor and state == '{DeliveryState.RETRY}' then redis.call('ZADD', retry, 0, member)
        elseif cursor and offset > cursor then redis.call('ZADD', beyond, 0, member) end
      end
      if not fenced then changed(id) end
    end
    for _ = 1, moves do
      local id, share, offset = unpack(ARGV, at, at + 2)
      at = at + 3
      local cursor = redis.call('HGET', prefix .. 'cursors:' .. share, id)
      if cursor and offset > cursor then
        redis.call('HSET', prefix .. 'cursors:' .. share, id, offset)
        redis.call('ZREMRANGEBYLEX', prefix .. 'beyond:' .. share, '[' .. id .. '\\0', '(' .. id .. '\\0' .. offset .. '\\1')
      end
    end
    return {{}}
    """,
    due=True,
)


class OutboxTables(Tables):
    """Keeps `store.Outbox`."""

    async def save_subscription(self, subscription: Subscription, cursor: str) -> None:
        id, row = subscription.id, encode(encode_subscription(subscription))
        require_plain(id)
        words: list[Word] = [id, row, padded(self._offset(cursor))]
        await self._change(_SAVE, [_lanes(id), _cursors(id)], words)

    async def drop_subscription(self, subscription_id: str) -> bool:
        id, share = subscription_id, share_of(subscription_id)
        keys = [_lanes(id), _cursors(id), key("retry", share), key("beyond", share)]
        # History must not say for ever that another try is to come.
        words: list[Word] = [id, key("delivery", ""), ordered(micros(self._parts.clock.now())), PAGE]
        dropped, settled = await self._change(_DROP, keys, words)
        while settled == PAGE:
            _, settled = await self._change(_DROP_REST, keys, words)
        return bool(dropped)

    async def lanes(self, shares: Collection[int] | None = None) -> list[Lane]:
        epoch = self._parts.epoch
        found = []
        for some in _by_so_many(shares):
            # The lanes first: one that is saved in between is not there yet, and one that is there has its cursor.
            lanes = await self._hashes([key("lanes", share) for share in some])
            cursors = await self._hashes([key("cursors", share) for share in some])
            for rows, at in zip(lanes, cursors, strict=True):
                found += [_lane(row, at[id], epoch) for id, row in rows.items() if id in at]
                await asyncio.sleep(0)
        await self._reach(lane.cursor for lane in found)
        return sorted(found, key=lambda lane: (lane.subscription.created, lane.subscription.id))

    async def lane(self, subscription_id: str) -> Lane | None:
        id = subscription_id
        row, cursor = await self._look_all([("HGET", _lanes(id), id), ("HGET", _cursors(id), id)])
        if row is None or cursor is None:
            return None
        lane = _lane(row, cursor, self._parts.epoch)
        await self._reach([lane.cursor])
        return lane

    async def record(
        self, rows: Sequence[DeliveryRow], cursors: Mapping[str, str], fences: Collection[Lease] = ()
    ) -> None:
        words: list[Word] = [key(""), *fence_words(fences), len(rows), len(cursors)]
        for row in rows:
            words += _words(row, self._offset(row.position))
        for subscription, cursor in cursors.items():
            words += [subscription, share_of(subscription), padded(self._offset(cursor))]
        if rows or cursors:
            require_held(await self._change(_RECORD, [CHANGES, CHANGED], words))

    async def unsettled(self, shares: Collection[int] | None = None) -> list[DeliveryRow]:
        found = []
        for some in _by_so_many(shares):
            for share in some:
                for kind in ("retry", "beyond"):
                    async for members in self._members(key(kind, share), b"-", b"+"):
                        found += await self._read(members)
        return found

    async def unsettled_of(self, subscription_id: str) -> list[DeliveryRow]:
        found = []
        for kind in ("retry", "beyond"):
            index = key(kind, share_of(subscription_id))
            async for members in self._members(index, *within(subscription_id)):
                found += await self._read(members)
        return found

    async def target_changes(self, after: int) -> tuple[int, frozenset[str] | None]:
        # What is forgotten is asked for last, lest something be forgotten after it.
        asked = [("GET", CHANGES), ("ZRANGEBYSCORE", CHANGED, f"({after}", "+inf"), ("GET", FORGOTTEN)]
        count, ids, forgotten = await self._look_all(asked)
        if not int(forgotten or 0) <= after <= int(count or 0):
            return int(count or 0), None
        return int(count or 0), frozenset(id.decode() for id in ids)

    async def deliveries(self, subscription_id: str, limit: int) -> list[DeliveryRow]:
        index = key("history", share_of(subscription_id))
        last, first = within(subscription_id)
        found: list[DeliveryRow] = []
        while len(found) < limit:
            count = min(PAGE, limit - len(found))
            members = await self._look("ZREVRANGEBYLEX", index, first, last, "LIMIT", 0, count)
            found += await self._read(members)
            if len(members) < count:
                break
            first = b"(" + members[-1]
        return found

    async def delivery(self, key: str) -> DeliveryRow | None:
        text = await self._look("GET", _row(key))
        if text is None:
            return None
        row = _decode(text, self._parts.epoch)
        await self._reach([row.position])
        return row

    async def _read(self, members: Sequence[bytes]) -> list[DeliveryRow]:
        if not members:
            return []
        epoch = self._parts.epoch
        names = [_row(member.split(b"\0", 2)[2].decode()) for member in members]
        rows = [_decode(row, epoch) for row in await self._look("MGET", *names) if row is not None]
        await self._reach(row.position for row in rows)
        return rows

    async def _reach(self, positions: Iterable[str]) -> None:
        """See to it that this node knows the positions that another has written."""
        newest = max(positions, key=lambda position: int(position.rpartition("-")[2]), default=None)
        if newest is not None:
            await self.reach(newest)


def _by_so_many(shares: Collection[int] | None) -> Iterator[list[int]]:
    wanted = sorted(range(SHARES) if shares is None else shares)
    for start in range(0, len(wanted), TOGETHER):
        yield wanted[start : start + TOGETHER]


def _lanes(id: str) -> str:
    return key("lanes", share_of(id))


def _cursors(id: str) -> str:
    return key("cursors", share_of(id))


def _row(name: str) -> str:
    return key("delivery", name)


def _lane(row: bytes, cursor: bytes, epoch: str) -> Lane:
    return Lane(decode_subscription(orjson.loads(row)), position(epoch, int(cursor)))


def _words(row: DeliveryRow, offset: int) -> list[Word]:
    require_plain(row.subscription)
    name, subscription, at, _, attempts, due, detail, updated, confirmed = encode_delivery(row, offset)
    return [
        row.subscription,
        share_of(row.subscription),
        padded(offset),
        row.key,
        _time(updated),
        _time(confirmed),
        row.state,
        _time(due),
        encode((name, subscription, at, attempts, detail)),
    ]


def _decode(text: bytes, epoch: str) -> DeliveryRow:
    updated, confirmed, state, due, rest = text.split(b" ", 4)
    name, subscription, offset, attempts, detail = orjson.loads(rest)
    times = [None if time == _NEVER.encode() else unordered(time) for time in (updated, confirmed, due)]
    columns = (name, subscription, offset, state.decode(), attempts, times[2], detail, times[0], times[1])
    return decode_delivery(columns, epoch)


def _time(micros: object) -> str:
    return ordered(micros) if isinstance(micros, int) else _NEVER
