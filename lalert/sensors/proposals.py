"""What rules propose: laid before the officers of an organisation, decided once, and sent only by who approves it.

A decision is kept first, with its time; the order's document follows from that time alone. So an answer that was lost, a second click or a node that
died between deciding and sending leads to the same one alert.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, Protocol

import structlog

from lalert import cap
from lalert.clock import Clock
from lalert.errors import Conflict, Forbidden, LalertError, NotFound, Refused, Unavailable
from lalert.model import Alert, Entry, MsgType, Proposal, Reference
from lalert.plugin import Receipt
from lalert.sensors.evidence import with_image, with_levels
from lalert.sensors.order import draft, given, level_of
from lalert.sensors.rules import RAIN, Act, Decision
from lalert.sensors.station import Station
from lalert.sensors.upkeep import Datum, levelled
from lalert.store import StoredReading
from lalert.store.audit import Action, Actor, ActorKind, Detail
from lalert.tenancy import Caller

log = structlog.get_logger("lalert.proposals")

LOOK_S: Final = 5.0
"""How often what is open is counted, and what was approved and not sent is made up for."""
WAITS_S: Final = 300.0
"""After so long without a decision the operator's log says so."""
MADE_UP_FOR: Final = timedelta(hours=1)
"""An order that was approved longer ago is not sent by itself any more: an officer has to look again."""
MOST: Final = 1_000
RECENT: Final = 100
EVIDENCE: Final = 500
RETRY_SECONDS: Final = (0.1, 0.5, 1.0, 2.0, 5.0)

Issue = Callable[[bytes, Caller, str | None], Awaitable[Receipt]]
"""Hand in a document in the name of a caller, from a network address; raises what the door raises."""


class State(StrEnum):
    """Where a proposal stands. `REPLACED` by one of another level and `WITHDRAWN` because the cause is over are said by the rules, the rest by officers."""

    OPEN = "open"
    APPROVED = "approved"
    REJECTED = "rejected"
    REPLACED = "replaced"
    WITHDRAWN = "withdrawn"


class ProposalLog(Protocol):
    """What is asked of the store."""

    async def save_proposal(self, proposal: Proposal) -> None: ...

    async def proposals(self, tenant: str | None, state: str | None, limit: int) -> list[Proposal]: ...

    async def proposal(self, proposal_id: str) -> Proposal | None: ...

    async def decide_proposal(
        self, proposal_id: str, state: str, by: str, now: datetime, reason: str = ""
    ) -> Proposal: ...

    async def readings(self, station: str, limit: int) -> list[StoredReading]: ...

    async def find(self, alert_id: str) -> Entry | None: ...

    async def heads(self, entry: Entry) -> list[Entry]: ...


class Audit(Protocol):
    """Where it is written down who decided."""

    async def note(
        self,
        action: Action,
        subject: str,
        *,
        by: Actor,
        org: str = "",
        details: Mapping[str, Detail] | None = None,
    ) -> None: ...


class Directory(Protocol):
    """Who holds a key (`tenancy.KeyRing`)."""

    def holder(self, key_id: str) -> Caller | None: ...


class Proposals:
    """The proposals of all organisations, at one node; any number of nodes may decide and send."""

    def __init__(
        self,
        store: ProposalLog,
        clock: Clock,
        audit: Audit,
        directory: Directory,
        *,
        issue: Issue,
        foresee: Callable[[bytes, Caller, str | None], Awaitable[object]],
        public_address: Callable[[], str],
        datum_of: Callable[[Station], Sequence[Datum]] = lambda station: station.datum,
    ) -> None:
        """`issue` sends; `foresee` raises what `issue` would raise, and sends nothing."""
        self._store = store
        self._clock = clock
        self._audit = audit
        self._directory = directory
        self._issue = issue
        self._foresee = foresee
        self._public_address = public_address
        self._datum_of = datum_of
        self._open: Sequence[Proposal] = ()
        self._overdue: set[str] = set()
        self._failing: dict[str, str] = {}
        self._noted: set[str] = set()
        self._sent: set[str] = set()
        self._one = asyncio.Lock()

    # Rules propose

    async def propose(self, station: Station, decision: Decision) -> None:
        """Lay a decision before the officers, or take back what it overtakes; the same decision again changes nothing. Waits while the store cannot be asked; raises whatever else prevents it."""
        attempt = 0
        while True:
            try:
                await self._propose(station, decision)
                return
            except Unavailable as error:
                pause = RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)]
                log.warning("a proposal must wait", station=station.id, detail=error.detail, again_in=pause)
                attempt += 1
                await self._clock.sleep(pause)

    async def _propose(self, station: Station, decision: Decision) -> None:
        series = _series(station, decision)
        proposal_id = f"{series}-{decision.evidence.number:015d}"
        level = 0 if decision.act is Act.LIFT else level_of(decision)
        ordered = await self._ordered(station, series) if level else None
        # Of an order that holds at this level or above nobody has to be asked again: lowering one is the officers' own business.
        if level and (ordered is None or (cap.level(ordered.alert) or 0) < level):
            # Judged again after a crash it may be decided by now; what it overtakes is older, and overtaken all the same.
            with suppress(Conflict):
                await self._store.save_proposal(
                    await self._proposal(station, decision, proposal_id, level, ordered)
                )
            await self._overtake(station, series, proposal_id, State.REPLACED)
        else:
            await self._overtake(station, series, proposal_id, State.WITHDRAWN)

    async def _proposal(
        self, station: Station, decision: Decision, proposal_id: str, level: int, ordered: Entry | None
    ) -> Proposal:
        continues: tuple[Reference, ...] = ()
        if ordered is not None:
            told = ordered.alert
            continues = (Reference(told.sender, told.identifier, told.sent_text, told.sent),)
        order = draft(station, decision, proposal_id, continues)
        data = self._datum_of(station)
        kept = await self._store.readings(station.source or station.id, EVIDENCE)
        readings = [replace(each, reading=levelled(data, each.reading)) for each in kept]
        order = with_levels(order, station, decision, readings)
        return Proposal(
            proposal_id,
            station.id,
            station.org,
            decision.evidence.received,
            level,
            station.codes,
            order.infos[0].headline or "",
            document=cap.render(order).decode(),
        )

    async def _overtake(self, station: Station, series: str, proposal_id: str, state: State) -> None:
        """Decide what is open of the station's series and older. Ids rise in the order of the readings that decided."""
        for older in await self._store.proposals(station.org, State.OPEN, MOST):
            if older.id.startswith(f"{series}-") and older.id < proposal_id:
                with suppress(Conflict):
                    await self._store.decide_proposal(
                        older.id, state, f"station:{station.id}", self._clock.now()
                    )

    async def _ordered(self, station: Station, series: str) -> Entry | None:
        """Return the newest state of the order that holds because an officer approved one of this series, None where none does."""
        for approved in await self._store.proposals(station.org, State.APPROVED, RECENT):
            if not approved.id.startswith(f"{series}-"):
                continue
            entry = await self._store.find(self._given(approved).id)
            if entry is not None and entry.alert.status is not station.status:
                continue  # a drill's order moves nobody, and a drill changes no real one
            for head in reversed(await self._store.heads(entry)) if entry else ():
                ends = head.alert.expires
                in_force = ends is None or ends > self._clock.now()
                if in_force and head.alert.msg_type in (MsgType.ALERT, MsgType.UPDATE):
                    return head
            return None
        return None

    # Officers decide

    async def of(self, org: str | None, state: str | None, limit: int) -> list[Proposal]:
        """Return an organisation's newest proposals, newest first."""
        return await self._store.proposals(org, state, limit)

    async def one(self, org: str | None, proposal_id: str) -> Proposal:
        """Return one proposal; raises `NotFound`, also for another organisation's."""
        found = await self._store.proposal(proposal_id)
        if found is None or org is None or found.tenant != org:
            raise NotFound("your organisation has no such proposal")
        return found

    async def sent(self, proposal: Proposal) -> Entry | None:
        """Return the order in the log that came of a proposal, None where there is none (yet)."""
        if proposal.state != State.APPROVED:
            return None
        return await self._store.find(self._given(proposal).id)

    async def approve(self, proposal_id: str, caller: Caller, remote: str | None) -> tuple[Entry, bool]:
        """Send a proposal as an order in the caller's name; returns its entry and whether this call sent it. Again, it is the same entry.

        Raises what the door would say (nothing is decided then), and `Conflict` for what was rejected, replaced or withdrawn.
        """
        assert caller.key is not None
        proposal = await self.one(caller.audience, proposal_id)
        if proposal.state == State.OPEN:
            now = self._clock.now()
            await self._foresee(cap.render(self._given(proposal, now)), caller, remote)
            try:
                proposal = await self._store.decide_proposal(proposal_id, State.APPROVED, caller.key.id, now)
            except Conflict:
                proposal = await self.one(caller.audience, proposal_id)
        if proposal.state != State.APPROVED:
            raise _decided(proposal)
        return await self._send(proposal, remote)

    async def reject(self, proposal_id: str, caller: Caller, reason: str) -> Proposal:
        """Reject a proposal for a reason; again, it stays as it was rejected first. Raises `Conflict` for what was decided otherwise."""
        assert caller.key is not None
        proposal = await self.one(caller.audience, proposal_id)
        if caller.key.exercise_only and not _is_drill(proposal):
            raise Forbidden("this key is for drills only", code="exercise-only-key")
        if proposal.state == State.OPEN:
            try:
                proposal = await self._store.decide_proposal(
                    proposal_id, State.REJECTED, caller.key.id, self._clock.now(), reason
                )
                await self._note(Action.PROPOSAL_REJECTED, proposal)
            except Conflict:
                proposal = await self.one(caller.audience, proposal_id)
        if proposal.state != State.REJECTED:
            raise _decided(proposal)
        return proposal

    async def _send(self, proposal: Proposal, remote: str | None) -> tuple[Entry, bool]:
        async with self._one:
            alert = self._given(proposal)
            if (known := await self._store.find(alert.id)) is not None:
                return known, False
            caller = self._directory.holder(proposal.by or "")
            if caller is None:
                raise Forbidden(
                    "the key that approved this is no longer valid, and its order has not been sent; send one yourself"
                )
            # Once, however often it is tried.
            if proposal.id not in self._noted:
                await self._note(Action.PROPOSAL_APPROVED, proposal)
                self._noted.add(proposal.id)
            try:
                receipt = await self._issue(cap.render(alert), caller, remote)
            except Conflict:
                # Another node was faster; its signature may differ.
                return await self._told_by_another(alert), False
            return receipt.entry, receipt.fresh

    async def _told_by_another(self, alert: Alert) -> Entry:
        for _ in range(40):
            if (known := await self._store.find(alert.id)) is not None:
                return known
            await self._clock.sleep(0.05)
        raise Unavailable("the order is being sent by another node; ask again", retry_after=1.0)

    async def _note(self, action: Action, proposal: Proposal) -> None:
        details: dict[str, Detail] = {"station": proposal.station, "level": proposal.level}
        if proposal.reason:
            details["reason"] = proposal.reason
        by = Actor(ActorKind.KEY, proposal.by or "")
        await self._audit.note(action, proposal.id, by=by, org=proposal.tenant, details=details)

    def _given(self, proposal: Proposal, decided: datetime | None = None) -> Alert:
        order = cap.parse(proposal.document.encode())
        at = decided or proposal.decided
        assert at is not None
        return with_image(given(order, at), self._public_address())

    # The operator looks on

    async def watch(self) -> None:
        """Count what is open and send what was approved by a node that died before it had sent it, until cancelled."""
        cause = ""
        while True:
            try:
                await self.look()
                cause = ""
            except LalertError as error:
                if cause != error.detail:
                    cause = error.detail
                    log.warning("proposals cannot be looked at", cause=cause)
            await self._clock.sleep(LOOK_S)

    async def look(self) -> None:
        """Do so once; raises `Unavailable`."""
        now = self._clock.now()
        self._open = await self._store.proposals(None, State.OPEN, MOST)
        waiting = {each.id: each for each in self._open if (now - each.made).total_seconds() >= WAITS_S}
        for each in (one for id, one in waiting.items() if id not in self._overdue):
            log.error(
                "a proposal waits for an officer",
                proposal=each.id,
                station=each.station,
                org=each.tenant,
                level=each.level,
                since=each.made.isoformat(timespec="seconds"),
            )
        self._overdue = set(waiting)
        approved = await self._store.proposals(None, State.APPROVED, MOST)
        known = {each.id for each in approved}
        self._noted &= known
        self._sent &= known
        for each in approved:
            assert each.decided is not None
            if each.id in self._sent:
                continue
            if LOOK_S <= (now - each.decided).total_seconds() <= MADE_UP_FOR.total_seconds():
                await self._make_up_for(each)

    async def _make_up_for(self, proposal: Proposal) -> None:
        try:
            _, fresh = await self._send(proposal, None)
        except Refused as error:
            if self._failing.get(proposal.id) != error.error_code:
                self._failing[proposal.id] = error.error_code
                log.error(
                    "an approved order is not sent",
                    proposal=proposal.id,
                    code=error.error_code,
                    detail=error.detail,
                )
        else:
            self._failing.pop(proposal.id, None)
            self._sent.add(proposal.id)
            if fresh:
                log.warning("an order was sent late that had been approved", proposal=proposal.id)

    def gauges(self) -> dict[str, float]:
        """Return how many proposals are open and how old the oldest is, in seconds, for the metrics."""
        now = self._clock.now()
        ages = [(now - each.made).total_seconds() for each in self._open]
        return {"proposals_open": float(len(ages)), "proposals_oldest_open_seconds": max(ages, default=0.0)}


def _series(station: Station, decision: Decision) -> str:
    """Return what tells a station's proposals for the river, or for rain, from all others, as the beginning of an id fit for an address."""
    digest = hashlib.sha256(station.id.encode()).hexdigest()[:12]
    return f"{'rain' if decision.rule == RAIN else 'river'}-{digest}"


def _is_drill(proposal: Proposal) -> bool:
    return cap.parse(proposal.document.encode()).status in ("Exercise", "Test")


def _decided(proposal: Proposal) -> Conflict:
    return Conflict(f"this proposal is {proposal.state} already", code="proposal-decided")
