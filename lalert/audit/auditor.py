"""`Auditor`: writes down what is done while the hub runs. Nothing that a sender waits for waits for it, but for what is noted by `note`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self

import structlog

from lalert import __version__
from lalert.audit import heads
from lalert.audit.refusals import Refusals
from lalert.audit.sent import Sent
from lalert.clock import Clock
from lalert.errors import LalertError
from lalert.model import Entry, Subscription
from lalert.store import AuditLog, DeliveryState, StateStore
from lalert.store.audit import HUB, Action, Actor, Detail, Note, network_of

log = structlog.get_logger()

FLUSH_SECONDS: Final = 1.0
LINES_AT_ONCE: Final = 100
"""Lines in one write: a millisecond or two of the writer that alerts wait for too."""
PAUSE_SECONDS: Final = 0.05
"""Between two such writes while many alerts come in: they then have their lines some seconds later, and no sender waits for it."""
LAST_WRITES: Final = 50
"""How many writes a node that stops still makes for alerts that have no line; the next start makes the rest."""


class Planned(Protocol):
    """What is asked of a durable delivery (`dispatch.lanes.Planned`)."""

    @property
    def org(self) -> str: ...

    @property
    def alert_id(self) -> str: ...

    @property
    def position(self) -> str: ...


class Records(AuditLog, StateStore, Protocol):
    """What is asked of the store."""

    @property
    def newest(self) -> str: ...


class Auditor:
    """An async context manager: notes that the node has started, and at the end writes what is left and that it has stopped.

    `folder` is where the file with the daily heads lies.
    """

    def __init__(self, records: Records, clock: Clock, folder: Path, node: str = "") -> None:
        self._records = records
        self._clock = clock
        self._folder = folder
        self._node = node
        self._refusals = Refusals()
        self._sent = Sent()
        self._pending: list[Note] = []
        self._one = asyncio.Lock()
        self._seen = ""
        self._published: date | None = None
        self._noted: date | None = None
        self._cause = ""

    async def __aenter__(self) -> Self:
        self._pending.append(self._note(Action.STARTED, self._node, HUB, "", {"version": __version__}))
        await self._tried()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            for _ in range(LAST_WRITES):
                if not await self._records.audit_accepted(LINES_AT_ONCE):
                    break
            await self.flush(ending=True)
            await self.note(Action.STOPPED, self._node, by=HUB)
        except LalertError as failure:
            log.error("the last lines of the audit chain were lost", cause=failure.detail)

    @property
    def unwritten(self) -> int:
        """Return how many lines are due and cannot be written: above zero for long, the store takes nothing."""
        return len(self._pending)

    async def note(
        self,
        action: Action,
        subject: str,
        *,
        by: Actor,
        org: str = "",
        details: Mapping[str, Detail] | None = None,
    ) -> None:
        """Write one line and return once it is durable: before whoever did it is answered. Raises `Unavailable` and `StoreError`."""
        await self._records.append_audit([self._note(action, subject, by, org, details or {})])

    # What is only counted here, and written within a second or when it is due

    def refused(self, org: str, actor: Actor, code: str, remote: str | None) -> None:
        """Count a submission that was refused."""
        self._refusals.add(self._clock.now(), org, actor, code, network_of(remote))

    def streamed(self, entry: Entry, subscribers: int) -> None:
        """Count the live subscribers that an alert was written to."""
        org = entry.origin.tenant or ""
        self._sent.streamed(self._clock.now(), org, entry.alert.id, entry.position, subscribers)

    def planned(self, delivery: Planned, channel: str, number: int) -> None:
        """Count durable deliveries that are to be made."""
        now, what = self._clock.now(), delivery
        self._sent.planned(now, what.org, what.alert_id, what.position, channel, number)

    def settled(self, delivery: Planned, channel: str, state: DeliveryState) -> None:
        """Count what became of a delivery."""
        now, what = self._clock.now(), delivery
        self._sent.settled(now, what.org, what.alert_id, what.position, channel, state)

    def confirmed(self, position: str, channel: str) -> None:
        """Count a delivery that the far end has confirmed."""
        self._sent.confirmed(self._clock.now(), position, channel)

    def gone(self, subscription: Subscription) -> None:
        """Note that the hub drops a subscription because its target is gone."""
        org, details = subscription.tenant or "", {"channel": subscription.channel}
        self._pending.append(self._note(Action.UNSUBSCRIBED, subscription.id, HUB, org, details))

    # Background work

    async def run(self) -> None:
        """Write what this node has counted, every second, and keep its file of heads; until cancelled."""
        while True:
            await self._clock.sleep(FLUSH_SECONDS)
            await self._tried()

    async def follow(self) -> None:
        """Give every accepted alert its line, and publish each day's head, until cancelled. One node does it; were it two, they would only be in each other's way."""
        cause = ""
        while True:
            try:
                await self._catch_up()
                cause = ""
            except LalertError as failure:
                if failure.detail != cause:
                    cause = failure.detail
                    log.error("accepted alerts get their lines in the audit chain later", cause=cause)
            await self._clock.sleep(FLUSH_SECONDS)

    async def _catch_up(self) -> None:
        newest, now = self._records.newest, self._clock.now()
        if newest != self._seen:
            while await self._records.audit_accepted(LINES_AT_ONCE):
                await self._clock.sleep(PAUSE_SECONDS)
            self._seen = newest
        if self._published != heads.yesterday(now):
            await heads.publish(self._records, now)
            self._published = heads.yesterday(now)

    async def flush(self, *, ending: bool = False) -> None:
        """Write what is due, a little at a time; what cannot be written now is kept for the next time. Raises `Unavailable` and `StoreError`."""
        async with self._one:
            await self._drain()
            for _ in range(max(1, self._sent.slices)):
                now = self._clock.now()
                self._pending += self._refusals.due(now, ending=ending)
                self._pending += self._sent.due(now, ending=ending)
                await self._drain()
                await asyncio.sleep(0)

    async def _drain(self) -> None:
        while self._pending:
            await self._write(self._pending[:LINES_AT_ONCE])

    async def _write(self, notes: list[Note]) -> None:
        writing = asyncio.ensure_future(self._records.append_audit(notes))
        gone: asyncio.CancelledError | None = None
        # To its end, also when this task is cancelled: else nobody knows whether the lines are there, and they would be lost or written twice.
        while not writing.done():
            try:
                await asyncio.wait({writing})
            except asyncio.CancelledError as cancelled:
                gone = cancelled
        failure = writing.exception()
        if failure is None:
            del self._pending[: len(notes)]
        if gone is not None:
            raise gone
        if failure is not None:
            raise failure

    async def _tried(self) -> None:
        """Write what is due, and say once for each cause why that cannot be done."""
        try:
            await self.flush()
            await self._note_heads_down()
            self._cause = ""
        except (LalertError, OSError) as failure:
            if str(failure) != self._cause:
                self._cause = str(failure)
                log.error(
                    "the audit chain cannot be written; its lines are kept in memory", cause=self._cause
                )

    async def _note_heads_down(self) -> None:
        # Whoever follows the log publishes a day's head once; until that is seen here, the store is asked every second after midnight.
        day = heads.yesterday(self._clock.now())
        if day == self._noted:
            return
        known = await heads.published(self._records)
        await asyncio.to_thread(heads.note_down, self._folder, known)
        if any(one.day == day for one in known):
            self._noted = day

    def _note(self, action: Action, subject: str, by: Actor, org: str, details: Mapping[str, Detail]) -> Note:
        return Note(self._clock.now(), by, action, subject, org, details)
