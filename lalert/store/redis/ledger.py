"""Who holds which share of work that only one node may do, in a stream and its consumer group.

Each share is an item of the stream `work:KIND`, delivered once to the group and never acknowledged. Whose pending list it is in holds the lease; how
often it was delivered is the token; since when it is idle says when the lease runs out. What nobody holds is idle since 1970, with a consumer of
no name. `nodes:KIND` has when each node was last heard of, by the server's clock, and `short:KIND` the same of those that are short of their part.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from lalert.model import Lease
from lalert.store.redis.access import GROUP, item, key, work_key
from lalert.store.redis.link import Link
from lalert.store.redis.scripts import Script
from lalert.store.redis.wire import Reply, Word

NOBODY: Final = "-"

_MINE: Final = f"""
local function mine(stream, item, node, token)
  local held = redis.pcall('XPENDING', stream, '{GROUP}', item, item, 1)[1]
  return held and held[2] == node and held[4] == tonumber(token)
end
"""
# A consumer that has a share must never be deleted: the share would go with it, and so would its token.
_TIDY: Final = f"""
local function tidy(stream, node)
  if #redis.call('XPENDING', stream, '{GROUP}', '-', '+', 1, node) == 0 then
    redis.call('XGROUP', 'DELCONSUMER', stream, '{GROUP}', node)
  end
end
"""
_NOW: Final = """
local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
"""
_BEAT: Final = Script(
    "beat",
    _MINE
    + _TIDY
    + _NOW
    + f"""
    local node, lease, short = ARGV[1], tonumber(ARGV[2]), ARGV[3] == '1'
    local still = {{}}
    for at = 4, #ARGV, 2 do
      if mine(KEYS[1], ARGV[at], node, ARGV[at + 1]) then
        redis.call('XCLAIM', KEYS[1], '{GROUP}', node, 0, ARGV[at], 'JUSTID')
        still[#still + 1] = (at - 4) / 2
      end
    end
    local time = now()
    redis.call('ZADD', KEYS[2], time, node)
    -- Last heard of by a clock that was ahead: until it comes there again, such a node would neither die nor its leases run out.
    for _, ahead in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], time + lease, '+inf')) do
      local held = redis.pcall('XPENDING', KEYS[1], '{GROUP}', '-', '+', 1000, ahead)
      for _, one in ipairs(held.err and {{}} or held) do
        redis.call('XCLAIM', KEYS[1], '{GROUP}', '{NOBODY}', 0, one[1], 'TIME', 0, 'JUSTID')
      end
      if not held.err then tidy(KEYS[1], ahead) end
      redis.call('ZREM', KEYS[2], ahead)
      redis.call('ZREM', KEYS[3], ahead)
    end
    if short then redis.call('ZADD', KEYS[3], time, node) else redis.call('ZREM', KEYS[3], node) end
    redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', time - lease)
    redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', time - lease)
    return {{still, redis.call('ZCARD', KEYS[2]), redis.call('ZCARD', KEYS[3])}}
    """,
    due=True,
)
_TAKE: Final = Script(
    "take",
    _TIDY
    + f"""
    local stream, node, lease, most, count = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
    if redis.call('EXISTS', stream) == 0 then redis.call('XGROUP', 'CREATE', stream, '{GROUP}', 0, 'MKSTREAM') end
    local made = redis.call('XLEN', stream)
    for number = made + 1, count do
      redis.call('XADD', stream, '0-' .. number, 'share', number - 1)
      redis.call('XCLAIM', stream, '{GROUP}', '{NOBODY}', 0, '0-' .. number, 'TIME', 0, 'RETRYCOUNT', 0, 'FORCE', 'JUSTID')
    end
    local taken = {{}}
    for _, free in ipairs(redis.call('XPENDING', stream, '{GROUP}', 'IDLE', lease, '0-1', '0-' .. count, count)) do
      if #taken >= most then break end
      local owner, token = free[2], free[4] + 1
      redis.call('XCLAIM', stream, '{GROUP}', node, lease, free[1], 'RETRYCOUNT', token, 'JUSTID')
      if owner ~= '{NOBODY}' and owner ~= node then tidy(stream, owner) end
      taken[#taken + 1] = {{free[1], token}}
    end
    return taken
    """,
    due=True,
)
_GIVE: Final = Script(
    "give",
    _MINE
    + _TIDY
    + f"""
    local node, leaves = ARGV[1], ARGV[2] == '1'
    for at = 3, #ARGV, 2 do
      if mine(KEYS[1], ARGV[at], node, ARGV[at + 1]) then
        redis.call('XCLAIM', KEYS[1], '{GROUP}', '{NOBODY}', 0, ARGV[at], 'TIME', 0, 'JUSTID')
      end
    end
    if leaves then
      redis.call('ZREM', KEYS[2], node)
      redis.call('ZREM', KEYS[3], node)
      if redis.call('EXISTS', KEYS[1]) == 1 then tidy(KEYS[1], node) end
    end
    return 1
    """,
    due=True,
)


class RedisLedger:
    """Keeps `bus.Ledger`; a lease and a sign of life run out after `lease` seconds of the server's clock."""

    def __init__(self, link: Link, lease: float) -> None:
        self._link = link
        self._milliseconds = int(lease * 1000)

    async def beat(
        self, kind: str, node: str, held: Collection[Lease], *, short: bool = False
    ) -> tuple[Collection[Lease], int, int]:
        asked = [lease for lease in held if lease.owner == node]
        words: list[Word] = [node, self._milliseconds, int(short), *_items(asked)]
        still, nodes, all_short = await self._write(_BEAT, kind, words)
        return [asked[int(number)] for number in still], nodes, all_short

    async def take(self, kind: str, count: int, node: str, most: int) -> Collection[Lease]:
        words: list[Word] = [node, self._milliseconds, most, count]
        return [
            Lease(f"{kind}/{int(id.partition(b'-')[2]) - 1}", node, token)
            for id, token in await self._write(_TAKE, kind, words)
        ]

    async def give(self, kind: str, node: str, leases: Collection[Lease], *, leaves: bool = False) -> None:
        own = [lease for lease in leases if lease.owner == node]
        await self._write(_GIVE, kind, [node, int(leaves), *_items(own)])

    async def _write(self, script: Script, kind: str, words: Sequence[Word]) -> Reply:
        # A lease that is renewed late is lost.
        return await self._link.write(
            script, [work_key(kind), key("nodes", kind), key("short", kind)], words, first=True
        )


def _items(leases: Collection[Lease]) -> list[Word]:
    words: list[Word] = []
    for lease in leases:
        words += [item(int(lease.name.rpartition("/")[2])), lease.token]
    return words
