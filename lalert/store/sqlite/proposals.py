"""What rules propose, and what was decided."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import apsw
import orjson

from lalert.errors import Conflict, NotFound
from lalert.model import Proposal
from lalert.store.sqlite.access import Access
from lalert.store.sqlite.codec import micros, moment
from lalert.store.sqlite.statements import Row, Value, row

_SAVE: Final = """
INSERT INTO proposal VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET station = excluded.station, tenant = excluded.tenant, made = excluded.made, level = excluded.level,
    areas = excluded.areas, headline = excluded.headline, state = excluded.state, decided = excluded.decided, by = excluded.by,
    document = excluded.document, reason = excluded.reason
WHERE proposal.state = 'open'
"""


class ProposalTable(Access):
    """Keeps `store.Proposals`."""

    async def save_proposal(self, proposal: Proposal) -> None:
        values = encode_proposal(proposal)

        def save(db: apsw.Connection) -> None:
            db.execute(_SAVE, values)
            if not db.changes():
                raise Conflict(f"the proposal {proposal.id} is decided already")

        await self._write(save)

    async def proposals(self, tenant: str | None, state: str | None, limit: int) -> list[Proposal]:
        sql = """
        SELECT * FROM proposal WHERE (?1 IS NULL OR tenant = ?1) AND (?2 IS NULL OR state = ?2)
        ORDER BY made DESC, id DESC LIMIT ?3
        """
        return [decode_proposal(found) for found in await self._rows(sql, tenant, state, max(0, limit))]

    async def proposal(self, proposal_id: str) -> Proposal | None:
        found = await self._row("SELECT * FROM proposal WHERE id = ?", proposal_id)
        return None if found is None else decode_proposal(found)

    async def decide_proposal(
        self, proposal_id: str, state: str, by: str, now: datetime, reason: str = ""
    ) -> Proposal:
        decided = micros(now)

        def decide(db: apsw.Connection) -> Row:
            changed = row(
                db,
                "UPDATE proposal SET state = ?, by = ?, decided = ?, reason = ? WHERE id = ? AND state = 'open' RETURNING *",
                (state, by, decided, reason, proposal_id),
            )
            if changed is not None:
                return changed
            found = row(db, "SELECT state, by FROM proposal WHERE id = ?", (proposal_id,))
            if found is None:
                raise NotFound("there is no such proposal")
            raise Conflict(f"this proposal is {found[0]} already")

        return decode_proposal(await self._write(decide))


def encode_proposal(proposal: Proposal) -> tuple[Value, ...]:
    return (
        proposal.id,
        proposal.station,
        proposal.tenant,
        micros(proposal.made),
        proposal.level,
        orjson.dumps(proposal.areas),
        proposal.headline,
        proposal.state,
        None if proposal.decided is None else micros(proposal.decided),
        proposal.by,
        proposal.document,
        proposal.reason,
    )


def decode_proposal(row: Row) -> Proposal:
    id, station, tenant, made, level, areas, headline, state, decided, by, document, reason = row
    return Proposal(
        id=id,
        station=station,
        tenant=tenant,
        made=moment(made),
        level=level,
        areas=tuple(orjson.loads(areas)),
        headline=headline,
        state=state,
        decided=None if decided is None else moment(decided),
        by=by,
        document=document,
        reason=reason,
    )
