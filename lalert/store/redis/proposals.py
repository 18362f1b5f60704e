"""What rules propose, and what was decided."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import orjson

from lalert.errors import Conflict, NotFound
from lalert.model import Proposal
from lalert.store.redis.access import Tables, encode, key
from lalert.store.redis.scripts import Script
from lalert.store.sqlite.codec import micros
from lalert.store.sqlite.proposals import decode_proposal, encode_proposal

PROPOSALS: Final = key("proposals")
"""A hash: id -> the row up to its state, and the document, as JSON."""

DECISIONS: Final = key("decisions")
"""A hash: id -> state, when (microseconds), who decided and why, as JSON; what has none is open."""

_SAVE: Final = Script(
    "save proposal",
    """
    -- ARGV: id, row, decision ("": it is open).
    if redis.call('HEXISTS', KEYS[2], ARGV[1]) == 1 then return 0 end
    redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
    if ARGV[3] ~= '' then redis.call('HSET', KEYS[2], ARGV[1], ARGV[3]) end
    return 1
    """,
)
_DECIDE: Final = Script(
    "decide proposal",
    """
    -- Returns what was decided before, a word where there is no such proposal, or nothing.
    if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 'unknown' end
    local known = redis.call('HGET', KEYS[2], ARGV[1])
    if known then return known end
    redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
    return ''
    """,
)
_STATE: Final = 7
_OPEN: Final = ("open", None, None)
_DOCUMENT: Final = 10


class ProposalTable(Tables):
    """Keeps `store.Proposals`."""

    async def save_proposal(self, proposal: Proposal) -> None:
        row = encode_proposal(proposal)
        decision = (
            b"" if row[_STATE] == "open" else orjson.dumps((*row[_STATE:_DOCUMENT], row[_DOCUMENT + 1]))
        )
        kept = encode((*row[:_STATE], row[_DOCUMENT]))
        if not await self._change(_SAVE, [PROPOSALS, DECISIONS], [proposal.id, kept, decision]):
            raise Conflict(f"the proposal {proposal.id} is decided already")

    async def proposals(self, tenant: str | None, state: str | None, limit: int) -> list[Proposal]:
        rows, decisions = await self._hashes([PROPOSALS, DECISIONS])
        found = [_decode(row, decisions.get(id)) for id, row in rows.items()]
        wanted = [each for each in found if tenant in (None, each.tenant) and state in (None, each.state)]
        return sorted(wanted, key=lambda each: (each.made, each.id), reverse=True)[: max(0, limit)]

    async def proposal(self, proposal_id: str) -> Proposal | None:
        asked = [("HGET", name, proposal_id) for name in (PROPOSALS, DECISIONS)]
        row, decision = await self._look_all(asked)
        return None if row is None else _decode(row, decision)

    async def decide_proposal(
        self, proposal_id: str, state: str, by: str, now: datetime, reason: str = ""
    ) -> Proposal:
        decision = orjson.dumps((state, micros(now), by, reason))
        known = await self._change(_DECIDE, [PROPOSALS, DECISIONS], [proposal_id, decision])
        if known == b"unknown":
            raise NotFound("there is no such proposal")
        if known:
            raise Conflict(f"this proposal is {orjson.loads(known)[0]} already")
        found = await self.proposal(proposal_id)
        assert found is not None
        return found


def _decode(row: bytes, decision: bytes | None) -> Proposal:
    kept = orjson.loads(row)
    # What was kept before there were drafts and reasons has neither.
    document = kept[_STATE] if len(kept) > _STATE else ""
    state, decided, by, *reason = orjson.loads(decision) if decision else _OPEN
    return decode_proposal((*kept[:_STATE], state, decided, by, document, *(reason or [""])))
