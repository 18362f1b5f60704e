"""What rules propose, and what was decided."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import orjson

from lalert.errors import Conflict, NotFound
from lalert.model import Proposal
from lalert.store.redis.access import PAGE, Tables, encode, key, ordered
from lalert.store.redis.scripts import Script
from lalert.store.redis.wire import Word
from lalert.store.sqlite.codec import micros
from lalert.store.sqlite.proposals import decode_proposal, encode_proposal

ANY: Final = "*"

_FIELDS: Final = ("row", "state", "decided", "by")

# A proposal is a hash, and stands in the sorted sets of its organisation and of any, in its state and in any; each has `time id`, so that the newest is last.
_PLACE: Final = f"""
local function place(id, made, tenant, state, command)
  for _, whose in ipairs({{tenant, '{ANY}'}}) do
    for _, how in ipairs({{state, '{ANY}'}}) do
      local set = '{key("proposals", "")}' .. whose .. ':' .. how
      if command == 'ZADD' then redis.call('ZADD', set, 0, made .. id) else redis.call('ZREM', set, made .. id) end
    end
  end
end
"""
_SAVE: Final = Script(
    "save proposal",
    _PLACE
    + """
    local id, made, tenant, state = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
    local known = redis.call('HMGET', KEYS[1], 'state', 'made', 'tenant')
    if known[1] and known[1] ~= 'open' then return 0 end
    if known[1] then place(id, known[2], known[3], known[1], 'ZREM') end
    redis.call('HSET', KEYS[1], 'made', made, 'tenant', tenant, 'state', state, 'decided', ARGV[5], 'by', ARGV[6], 'row', ARGV[7])
    place(id, made, tenant, state, 'ZADD')
    return 1
    """,
)
_DECIDE: Final = Script(
    "decide proposal",
    _PLACE
    + """
    local id, state = ARGV[1], ARGV[2]
    local known = redis.call('HMGET', KEYS[1], 'state', 'made', 'tenant')
    if not known[1] then return 'none' end
    if known[1] ~= 'open' then return known[1] end
    place(id, known[2], known[3], known[1], 'ZREM')
    redis.call('HSET', KEYS[1], 'state', state, 'decided', ARGV[3], 'by', ARGV[4])
    place(id, known[2], known[3], state, 'ZADD')
    return 'open'
    """,
)


class ProposalTable(Tables):
    """Keeps `store.Proposals`."""

    async def save_proposal(self, proposal: Proposal) -> None:
        id, station, tenant, made, level, areas, headline, _, decided, by = encode_proposal(proposal)
        row = encode((id, station, tenant, made, level, areas, headline))
        words: list[Word] = [
            proposal.id,
            ordered(micros(proposal.made)),
            proposal.tenant,
            proposal.state,
            orjson.dumps(decided),
            orjson.dumps(by),
            row,
        ]
        if not await self._change(_SAVE, [_of(proposal.id)], words):
            raise Conflict(f"the proposal {proposal.id} is decided already")

    async def proposals(self, tenant: str | None, state: str | None, limit: int) -> list[Proposal]:
        if limit <= 0:
            return []
        index = key("proposals", ANY if tenant is None else tenant, ANY if state is None else state)
        members = await self._look("ZREVRANGE", index, 0, limit - 1)
        ids = [member[len(ordered(0)) :].decode() for member in members]
        found: list[Proposal] = []
        for start in range(0, len(ids), PAGE):
            asked = [("HMGET", _of(id), *_FIELDS) for id in ids[start : start + PAGE]]
            found += map(_decode, await self._look_all(asked))
        return found

    async def proposal(self, proposal_id: str) -> Proposal | None:
        fields = await self._look("HMGET", _of(proposal_id), *_FIELDS)
        return None if fields[0] is None else _decode(fields)

    async def decide_proposal(self, proposal_id: str, state: str, by: str, now: datetime) -> Proposal:
        words: list[Word] = [proposal_id, state, micros(now), orjson.dumps(by)]
        was = await self._change(_DECIDE, [_of(proposal_id)], words)
        if was == b"none":
            raise NotFound("there is no such proposal")
        if was != b"open":
            raise Conflict(f"this proposal is {was.decode()} already")
        decided = await self.proposal(proposal_id)
        assert decided is not None
        return decided


def _of(id: str) -> str:
    return key("proposal", id)


def _decode(fields: Sequence[bytes]) -> Proposal:
    row, state, decided, by = fields
    return decode_proposal((*orjson.loads(row), state.decode(), orjson.loads(decided), orjson.loads(by)))
