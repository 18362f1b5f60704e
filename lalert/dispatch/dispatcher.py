"""Durable delivery: plans every entry for every lane that wants it, sends what is due, and never forgets what is owed.

How: docs/delivery.md; why so: docs/adr/0005-lanes-and-cursors.md. The decisions are in `lanes`, `outlets` and `schedule`; here are the store, the
bus, the tasks and the channels' calls.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import traceback
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from random import random as dice
from typing import Final, Protocol, Self

import structlog

from lalert import texts
from lalert.bus import Bus
from lalert.clock import Clock
from lalert.dispatch.follower import Follower, Plan
from lalert.dispatch.journal import Journal, Result
from lalert.dispatch.lanes import Lane, Mark, Planned, Tries, delivery_key, plan
from lalert.dispatch.outlets import Flight, Outlet
from lalert.dispatch.schedule import patience
from lalert.errors import (
    BadRequest,
    Conflict,
    DeliveryError,
    Forbidden,
    Gone,
    LalertError,
    NotFound,
    PermanentFailure,
    StoreError,
    TemporaryFailure,
    Unavailable,
    UnknownPosition,
)
from lalert.model import Delivery, Entry, Filter, MsgType, Outcome, Scope, Status, Subscription
from lalert.plugin import Channel
from lalert.store import AlertLog, DeliveryRow, DeliveryState, Outbox

log = structlog.get_logger("lalert.dispatch")

MAX_DETAIL: Final = 200
TURN: Final = 100
"""How many lanes or filters are looked at before everybody else has a turn on the loop: about 2 ms."""
GUARDS: Final = 64
STUMBLE_S: Final = 1.0
"""Pause after the store could not be read, or after a defect, before the same work is begun again."""


class Records(AlertLog, Outbox, Protocol):
    """What the dispatcher asks of the store."""


class Wants(Protocol):
    """Says whether a filter wants an entry, the former audience of what it refers to included (`matching.wants`)."""

    def __call__(self, filter: Filter, entry: Entry, lineage: Sequence[Entry], /) -> bool: ...


MaySee = Callable[[Subscription, Entry], bool]
"""Says whether the owner of a subscription may have an entry that is not Public."""


@dataclass(frozen=True, slots=True)
class DispatchSettings:
    """Bounds of durable delivery; the defaults suit a prefecture."""

    max_age: timedelta = timedelta(hours=24)
    """How long an alert without an expiry is kept up."""
    longest: timedelta = timedelta(days=7)
    """How long any alert is kept up for a target that does not answer."""
    by_hand: timedelta = timedelta(minutes=10)
    """How long a redelivery asked for by a person is tried, at least."""
    longest_retry_after_s: float = 300.0
    grace_s: float = 10.0
    """How long a stop waits for what is under way and for the last write, each."""
    batch: int = 500
    """Rows in one write: about 10 ms of the store's writer, so that appends never wait long."""
    page: int = 200
    arrivals: int = 1_000
    """Entries that may wait for planning in memory; beyond them the log itself is read."""
    cache: int = 256
    """Entries kept at hand for sending; the others are read from the log again."""
    advance_s: float = 600.0
    """How often the cursors of quiet lanes follow the log."""
    journal_lanes: int = 2_000
    """A channel with more targets than this keeps rows only of what was tried again, failed or settled out of turn; the rest are counts."""


@dataclass(frozen=True, slots=True)
class ChannelStats:
    """How a channel fares; the counts are since the start, `oldest_s` is the age of the oldest undelivered alert in seconds (0 for none)."""

    lanes: int
    waiting: int
    in_flight: int
    failing: int
    oldest_s: float
    attempts_failed: int
    delivered: int
    dead: int
    expired: int
    superseded: int
    dropped: int


@dataclass(frozen=True, slots=True)
class _Verdict:
    state: DeliveryState
    detail: str
    retry_after: float | None = None
    gone: bool = False
    defect: Exception | None = None


class Dispatcher:
    """Moves every lane's cursor: at least once, most urgent first, in order within an incident, until the alert expires.

    An async context manager: at the start it plans again what the store says is unsettled, at the end it waits for what is under way and
    records it. `channels` are instances by name; subscriptions of a channel that is not among them rest until it is configured again.
    """

    def __init__(
        self,
        store: Records,
        bus: Bus,
        channels: Mapping[str, Channel],
        *,
        wants: Wants,
        clock: Clock,
        settings: DispatchSettings | None = None,
        may_see: MaySee | None = None,
        random: Callable[[], float] = dice,
    ) -> None:
        self._store = store
        self._bus = bus
        self._wants = wants
        self._may_see = may_see
        self._clock = clock
        self._random = random
        self._settings = settings or DispatchSettings()
        self._outlets = {name: Outlet(name, channel) for name, channel in channels.items()}
        self._lanes: dict[str, Lane] = {}
        self._groups: dict[Filter, dict[str, Lane]] = {}
        self._resting: dict[str, Subscription] = {}
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._caught_up = False
        self._stopping = False
        self._wake = asyncio.Event()
        self._landed = asyncio.Event()
        self._guards = tuple(asyncio.Lock() for _ in range(GUARDS))
        self._causes: dict[str, str] = {}
        self._last_update = clock.now()
        self._journal = Journal(store, clock, self._examined, self._place, self._settings.batch)
        self._real = self._follower(self._plan_real)
        self._drills = self._follower(self._plan_drill)

    async def __aenter__(self) -> Self:
        await self._load()
        self._detach = self._bus.attach(self._hear)
        self._main = asyncio.create_task(self._run(), name="dispatch")
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._detach()
        self._stopping = True
        grace = self._settings.grace_s
        try:
            async with asyncio.timeout(grace):
                while self._flights():
                    self._landed.clear()
                    await self._landed.wait()
        except TimeoutError:
            log.warning(
                "deliveries under way are broken off; they are sent again with the same key",
                count=len(self._flights()),
            )
        finally:
            self._main.cancel()
            await asyncio.wait([self._main])
        try:
            async with asyncio.timeout(grace):
                await self._journal.flush()
                await self._journal.advance(self._lanes.values())
        except (TimeoutError, LalertError) as error:
            log.error(
                "not everything was recorded; it is sent again",
                unrecorded=self._journal.unrecorded,
                cause=str(error) or "it took too long",
            )

    # What people and adapters ask for

    def subscriptions(self) -> list[Subscription]:
        """Return every durable subscription."""
        return [lane.subscription for lane in self._lanes.values()] + list(self._resting.values())

    async def subscribe(self, subscription: Subscription) -> None:
        """Keep a subscription; it hears of everything after this moment. One with a known id is replaced and keeps its place.

        The channel has checked the target before (`Channel.check_subscription`). Raises `BadRequest` for an unknown channel, `Conflict` where the id belongs to
        another channel, `Unavailable` when the store cannot take it.
        """
        outlet = self._outlets.get(subscription.channel)
        if outlet is None:
            raise BadRequest(
                f"channel: {subscription.channel!r} is not one of {', '.join(sorted(self._outlets)) or 'none'}"
            )
        async with self._guard(subscription.id):
            known = self._lanes.get(subscription.id)
            if subscription.id in self._resting or (
                known and known.subscription.channel != subscription.channel
            ):
                raise Conflict("a subscription with this id belongs to another channel; make a new one")
            if known is not None:
                await self._store.save_subscription(subscription, known.cursor.position)
                self._leave(known)
                known.subscription = subscription
                self._join(known)
                # Whoever corrects an address does not want to wait for the old one's pause.
                known.gate = known.not_before = 0.0
                self._place(known)
                return
            newest = self._newest()
            lane = Lane(subscription, newest, outlet.channel.limits.per_target)
            # Registered before it is saved, or an alert accepted meanwhile would be planned without it; held, so that nothing is sent before that.
            lane.held += lane.per_target
            self._join(lane)
            try:
                await self._store.save_subscription(subscription, newest.position)
            except BaseException:
                self._strike(lane)
                raise
            lane.held -= lane.per_target
            self._place(lane)

    async def unsubscribe(self, subscription_id: str) -> bool:
        """Forget a subscription: nothing more is sent. Returns False if there was none. Raises `Unavailable`."""
        async with self._guard(subscription_id):
            dropped = await self._store.drop_subscription(subscription_id)
            self._resting.pop(subscription_id, None)
            lane = self._lanes.get(subscription_id)
            if lane is not None:
                self._strike(lane)
            return dropped

    async def history(self, subscription_id: str, limit: int = 100) -> list[DeliveryRow]:
        """Return the newest deliveries of a subscription, newest first."""
        return await self._store.deliveries(subscription_id, limit)

    async def redeliver(self, key: str) -> None:
        """Send something again because a person asks for it, with the same key, even if it has expired since; returns once that is durable.

        Raises `NotFound` for a key, subscription or alert that is not known any more, and `Conflict` for what must not go out: a revision that was
        replaced, or a drill for a channel that is not drill-safe.
        """
        async with self._guard(key):
            row = await self._store.delivery(key)
            lane = self._lanes.get(row.subscription) if row else None
            if row is None or lane is None:
                raise NotFound("there is no delivery with that key, or its subscription was dropped")
            if self._journal.pending(key) is not None:
                raise Unavailable(
                    "the last result of this delivery is just being recorded; ask again in a moment"
                )
            if row.state in (DeliveryState.SUPERSEDED, DeliveryState.DROPPED):
                raise Conflict(f"this must not be sent: {row.detail}")
            entry = await self._entry(row.position)
            if entry is None:
                raise NotFound("the alert of that delivery is no longer kept")
            now = self._clock.now()
            planned = self._planned(entry, None, ())
            if await self._replaced(entry, planned):
                raise Conflict("a later message has replaced this one; it must not be sent after it")
            again = replace(
                row, state=DeliveryState.RETRY, due=now, detail="asked for by hand", updated=self._updated()
            )
            await self._store.record([again], {})
            if lane.find(planned.order) is None:
                lane.add(planned, Tries(row.attempts, recorded=True, until=now + self._settings.by_hand))
            elif (tries := lane.tries.get(planned.position)) is not None:
                tries.due = 0.0
            lane.gate = lane.not_before = 0.0
            self._place(lane)

    async def _replaced(self, entry: Entry, planned: Planned) -> bool:
        if entry.alert.msg_type not in (MsgType.ALERT, MsgType.UPDATE) or planned.expired(self._clock.now()):
            return False
        in_force = await self._store.active(self._clock.now())
        return all(e.position != entry.position for e in in_force)

    async def confirm(self, key: str) -> None:
        """Note that the far end has confirmed a delivery; a second time changes nothing. Raises `NotFound`, `Unavailable`.

        A confirmation of what still waits for another try settles it: the peer had taken it, only its answer was lost.
        """
        now = self._clock.now()
        row: DeliveryRow | None = None
        for _ in range(2):
            row = await self._store.delivery(key)
            await self._journal.written(key)
            if self._confirm_unwritten(key, now):
                return
            if row is not None:
                break
            # Between flight and store when it was asked for: by now it is in one of them, or nowhere.
        if row is None:
            raise NotFound("there is no delivery with that key")
        if row.confirmed is None:
            await self._store.record([self._confirmed(row, now)], {})

    def _confirm_unwritten(self, key: str, now: datetime) -> bool:
        """Confirm what is under way or waits to be written; False if it is neither."""
        for outlet in self._outlets.values():
            if (flight := outlet.flights.get(key)) is not None:
                flight.confirmed = flight.confirmed or now
                return True
        result = self._journal.pending(key)
        if result is None:
            return False
        if result.row.confirmed is None:
            result.row = self._confirmed(result.row, now)
        return True

    def _confirmed(self, row: DeliveryRow, now: datetime) -> DeliveryRow:
        lane = self._lanes.get(row.subscription)
        if row.state is not DeliveryState.RETRY or lane is None:
            return replace(row, confirmed=now)
        planned = lane.find(self._store.order(row.position))
        if planned is not None:
            lane.remove(planned)
            self._place(lane)
        detail = "confirmed by the far end"
        return replace(
            row,
            state=DeliveryState.DELIVERED,
            due=None,
            detail=detail,
            updated=self._updated(),
            confirmed=now,
        )

    async def send_test(self, subscription_id: str, entry: Entry) -> Outcome:
        """Send one entry that is not in the log to one target, once, whatever its filter says; its status must be Test.

        Raises `NotFound`, `Forbidden` where the channel is not drill-safe or the entry is no test, and what the channel says (`DeliveryError`).
        """
        lane = self._lanes.get(subscription_id)
        if lane is None:
            raise NotFound("there is no such subscription")
        channel = self._outlets[lane.subscription.channel].channel
        if entry.alert.status is not Status.TEST or not channel.drill_safe:
            raise Forbidden(
                "only a message with status Test is sent as a test, and only by a channel that is drill-safe"
            )
        delivery = Delivery("test" + secrets.token_hex(14), entry, lane.subscription, 1)
        try:
            async with asyncio.timeout(channel.limits.timeout):
                return await channel.deliver(delivery)
        except TimeoutError:
            raise TemporaryFailure(f"no answer within {channel.limits.timeout:g} s") from None

    def by_channel(self) -> dict[str, ChannelStats]:
        """Return how each channel fares. May be called from another thread."""
        now = self._clock.now()
        return {name: _stats(outlet, now.timestamp()) for name, outlet in self._outlets.items()}

    def stats(self) -> dict[str, float]:
        """Return the sums over all channels, by metric name. May be called from another thread."""
        channels = list(self.by_channel().values())
        return {
            "caught_up": float(self._caught_up),
            "lanes": len(self._lanes),
            "waiting": sum(c.waiting for c in channels),
            "in_flight": sum(c.in_flight for c in channels),
            "failing_lanes": sum(c.failing for c in channels),
            "oldest_undelivered_seconds": max((c.oldest_s for c in channels), default=0.0),
            "unrecorded": self._journal.unrecorded,
            "attempts_failed": sum(c.attempts_failed for c in channels),
            "delivered": sum(c.delivered for c in channels),
            "dead": sum(c.dead for c in channels),
            "expired": sum(c.expired for c in channels),
            "superseded": sum(c.superseded for c in channels),
            "dropped": sum(c.dropped for c in channels),
        }

    # What the store remembers

    async def _load(self) -> None:
        newest = self._newest()
        for stored in await self._store.lanes():
            outlet = self._outlets.get(stored.subscription.channel)
            if outlet is None:
                self._resting[stored.subscription.id] = stored.subscription
                continue
            try:
                cursor = Mark(self._store.order(stored.cursor), stored.cursor)
            except (UnknownPosition, BadRequest):
                cursor = Mark((), stored.cursor)
            lane = Lane(stored.subscription, cursor, outlet.channel.limits.per_target)
            lane.lost_until = None if cursor.order else newest.order
            self._join(lane)
        lowest = min((lane.cursor for lane in self._lanes.values()), default=newest)
        if lowest.order:
            self._real.examined = lowest
        else:
            log.warning(
                "cursors of another epoch: their lanes are planned again from the oldest alert that is kept"
            )
        for name in sorted({s.channel for s in self._resting.values()}):
            log.warning("subscriptions rest: their channel is not configured", channel=name)
        await self._load_rows()

    async def _load_rows(self) -> None:
        due: dict[str, list[DeliveryRow]] = {}
        for row in await self._store.unsettled():
            lane = self._lanes.get(row.subscription)
            if row.state is DeliveryState.RETRY:
                if row.subscription not in self._resting:
                    due.setdefault(row.position, []).append(row)
            elif lane is not None:
                lane.settled.add(row.position)
        now, instant = self._clock.now(), self._clock.monotonic()
        orphans: list[DeliveryRow] = []
        for position, rows in due.items():
            try:
                entry = await self._entry(position)
                planned = self._planned(entry, None, await self._lineage(entry)) if entry else None
            except StoreError as error:
                # One document that cannot be read must not keep the hub from starting; its rows stay, and are looked at again next time.
                log.error(
                    "an alert that waits for another try cannot be read",
                    position=position,
                    cause=error.detail,
                )
                continue
            for row in rows:
                lane = self._lanes.get(row.subscription)
                if planned is not None and lane is not None:
                    wait = (row.due - now).total_seconds() if row.due else 0.0
                    wait = min(max(wait, 0.0), self._settings.longest_retry_after_s)
                    lane.add(planned, Tries(row.attempts, instant + wait, recorded=True))
                    self._place(lane)
                elif lane is None or lane.lost_until is None:
                    orphans.append(row)
        gone = [
            replace(
                row,
                state=DeliveryState.DROPPED,
                due=None,
                detail="its subscription or its alert is no longer kept",
                updated=self._updated(),
            )
            for row in orphans
        ]
        for start in range(0, len(gone), self._settings.batch):
            await self._store.record(gone[start : start + self._settings.batch], {})

    # Lanes and who is in them

    def _newest(self) -> Mark:
        newest = self._store.newest
        return Mark(self._store.order(newest), newest)

    def _join(self, lane: Lane) -> None:
        self._lanes[lane.id] = lane
        self._outlet(lane).lanes[lane.id] = lane
        self._groups.setdefault(lane.subscription.filter, {})[lane.id] = lane

    def _leave(self, lane: Lane) -> None:
        group = self._groups.get(lane.subscription.filter, {})
        group.pop(lane.id, None)
        if not group:
            self._groups.pop(lane.subscription.filter, None)

    def _strike(self, lane: Lane) -> None:
        """Take a lane out for good; what was tried and still waited is journalled as dropped."""
        lane.closed = True
        self._leave(lane)
        self._lanes.pop(lane.id, None)
        self._causes.pop(lane.id, None)
        outlet = self._outlet(lane)
        outlet.lanes.pop(lane.id, None)
        outlet.busy.pop(lane.id, None)
        for flight in outlet.flights.values():
            if flight.lane is lane and flight.planned in lane.flying:
                flight.call_off()
        for planned in list(lane.waiting):
            if lane.attempts(planned):
                self._settle(lane, planned, DeliveryState.DROPPED, "the subscription was dropped")

    def _guard(self, name: str) -> asyncio.Lock:
        """Return what keeps two requests about the same thing apart, without making everybody wait for everybody's commit."""
        return self._guards[hash(name) % GUARDS]

    def _outlet(self, lane: Lane) -> Outlet:
        return self._outlets[lane.subscription.channel]

    def _flights(self) -> list[Flight]:
        return [flight for outlet in self._outlets.values() for flight in outlet.flights.values()]

    # Planning: every entry, in the order of the log, for every lane that wants it

    def _follower(self, plan: Plan) -> Follower:
        return Follower(
            self._store, plan, self._start_over, page=self._settings.page, arrivals=self._settings.arrivals
        )

    def _hear(self, entry: Entry) -> None:
        self._real.hear(entry)
        self._drills.hear(entry)

    def _examined(self) -> Mark | None:
        """Return up to where everything was planned, real alerts and drills."""
        if self._real.examined is None or self._drills.examined is None:
            return None
        return min(self._real.examined, self._drills.examined)

    async def _follow(self) -> None:
        """Plan real alerts and drills apart: fifty drills for seventy thousand targets must not keep a real alert from being planned."""
        if not self._caught_up:
            history = self._follower(self._plan)
            history.examined = self._real.examined
            await history.read_on()
            self._real.examined = self._drills.examined = history.examined
            self._caught_up = True
            for lane in list(self._lanes.values()):
                lane.settled.clear()
                self._place(lane)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep(self._real.run))
            group.create_task(self._keep(self._drills.run))

    def _start_over(self) -> None:
        """The log does not know how far it was planned: plan all that it keeps, and let the rows say what is settled."""
        log.warning(
            "the log does not know the position reached; every lane is planned again from the oldest alert that is kept"
        )
        until = self._newest().order
        for follower in (self._real, self._drills):
            follower.start_over()
        for lane in self._lanes.values():
            lane.lose_place(until)

    async def _plan_real(self, entry: Entry, before: Mark | None) -> None:
        if entry.alert.status is Status.ACTUAL:
            await self._plan(entry, before)

    async def _plan_drill(self, entry: Entry, before: Mark | None) -> None:
        if entry.alert.status is not Status.ACTUAL:
            await self._plan(entry, before)

    async def _plan(self, entry: Entry, before: Mark | None) -> None:
        """Offer an entry to every lane that wants it. Nothing is written: a lane's cursor stays before it until it is settled."""
        if entry.alert.status is Status.DRAFT:
            return
        lineage = await self._lineage(entry)
        planned = self._planned(entry, before, lineage)
        self._remember(entry)
        turns = 0
        for filter in list(self._groups):
            wanted = self._wanted(filter, entry, lineage)
            for lane in list(self._groups.get(filter, {}).values()) if wanted else ():
                if await self._is_open(lane, planned):
                    self._offer(lane, planned, entry)
                turns += 1
                if turns % TURN == 0:
                    await asyncio.sleep(0)
            turns += 1
            if turns % TURN == 0:
                await asyncio.sleep(0)

    async def _lineage(self, entry: Entry) -> Sequence[Entry]:
        try:
            return await self._store.lineage(entry)
        except StoreError as error:
            # One document that cannot be read must not stop the log: the entry still goes to everybody whose filter wants it.
            log.error(
                "the earlier audience of an alert cannot be read", position=entry.position, cause=error.detail
            )
            return ()

    def _wanted(self, filter: Filter, entry: Entry, lineage: Sequence[Entry]) -> bool:
        # The gate for drills stands here too, so that no defect in matching can send one to somebody who did not ask for it.
        if entry.alert.status not in filter.statuses:
            return False
        try:
            return self._wants(filter, entry, lineage)
        except Exception:
            # A defect over one filter must neither stop the log nor leave somebody untold.
            log.exception("a filter cannot be judged; its subscribers are told", position=entry.position)
            return True

    async def _is_open(self, lane: Lane, planned: Planned) -> bool:
        """Say whether an entry is still to be planned for a lane."""
        if lane.closed or planned.order <= lane.offered[planned.actual]:
            return False
        if lane.lost_until is not None and planned.order <= lane.lost_until:
            if planned.deadline <= self._clock.now():
                return False
            row = await self._store.delivery(delivery_key(lane.id, planned.alert_id))
            if row is not None and row.state is not DeliveryState.RETRY:
                lane.settled.add(planned.position)
        return True

    def _offer(self, lane: Lane, planned: Planned, entry: Entry) -> None:
        if not self._permitted(lane, entry):
            return
        for older in lane.replaced_by(planned):
            self._settle(
                lane,
                older,
                DeliveryState.SUPERSEDED,
                f"replaced by {planned.alert_id} before it was delivered",
            )
        if planned.position in lane.settled or lane.find(planned.order) is not None:
            lane.settled.discard(planned.position)
        elif not planned.actual and not self._outlet(lane).channel.drill_safe:
            self._settle(
                lane,
                planned,
                DeliveryState.DROPPED,
                f"status {entry.alert.status}, and the channel is not drill-safe",
            )
        elif planned.deadline <= self._clock.now():
            self._settle_overdue(lane, planned)
        elif planned.outdated or lane.superseded(planned):
            self._settle(
                lane, planned, DeliveryState.SUPERSEDED, "arrived after the message that replaces it"
            )
        else:
            lane.add(planned)
        # Last: what failed before here is offered again, and nobody who was told is told twice.
        lane.offered[planned.actual] = planned.order
        self._place(lane)

    def _permitted(self, lane: Lane, entry: Entry) -> bool:
        if entry.alert.scope is Scope.PUBLIC:
            return True
        try:
            return self._may_see is not None and self._may_see(lane.subscription, entry)
        except Exception:
            log.exception(
                "who may see an alert cannot be judged; it is withheld",
                position=entry.position,
                subscription=lane.id,
            )
            return False

    def _planned(self, entry: Entry, before: Mark | None, lineage: Sequence[Entry]) -> Planned:
        order = self._store.order(entry.position)
        return plan(
            entry, order, before, lineage, max_age=self._settings.max_age, longest=self._settings.longest
        )

    def _remember(self, entry: Entry) -> None:
        self._entries[entry.position] = entry
        self._entries.move_to_end(entry.position)
        while len(self._entries) > self._settings.cache:
            self._entries.popitem(last=False)

    async def _entry(self, position: str) -> Entry | None:
        entry = self._entries.get(position)
        if entry is None:
            try:
                entry = await self._store.entry(position)
            except (UnknownPosition, BadRequest):
                return None
            if entry is not None:
                self._remember(entry)
        return entry

    # Sending: what is due, as far as there is room

    def _place(self, lane: Lane) -> None:
        outlet = self._outlet(lane)
        if not self._caught_up or self._stopping:
            outlet.mark(lane)
            return
        now = self._clock.monotonic()
        drill = lane.must_yield(now)
        if (
            drill is not None
            and (flight := outlet.flights.get(delivery_key(lane.id, drill.alert_id))) is not None
        ):
            flight.call_off()
        outlet.place(lane, now)
        self._wake.set()

    async def _send(self) -> None:
        while True:
            self._wake.clear()
            for outlet in self._outlets.values():
                self._launch(outlet)
            await self._rest()

    def _launch(self, outlet: Outlet) -> None:
        for _ in range(TURN):
            next_one = None if self._stopping else outlet.take(self._clock.monotonic())
            if next_one is None:
                break
            lane, planned = next_one
            overdue = lane.overdue(self._clock.now())
            for late in overdue:
                self._settle_overdue(lane, late)
            if not overdue:
                flight = Flight(
                    lane,
                    planned,
                    delivery_key(lane.id, planned.alert_id),
                    lane.doubtful,
                    self._clock.monotonic(),
                )
                attempt = outlet.launch(flight)
                flight.task = self._group.create_task(self._fly(outlet, flight, attempt))
            outlet.place(lane, self._clock.monotonic())
        else:
            self._wake.set()
        if (in_the_way := outlet.drill_in_the_way()) is not None:
            in_the_way.call_off()

    async def _rest(self) -> None:
        """Wait until something changed or the next lane is due."""
        times = [when for outlet in self._outlets.values() if (when := outlet.wakes_at()) is not None]
        if self._wake.is_set():
            await asyncio.sleep(0)
            return
        if not times:
            await self._wake.wait()
            return
        seconds = min(times) - self._clock.monotonic()
        waits = [
            self._group.create_task(self._wake.wait()),
            self._group.create_task(self._clock.sleep(max(seconds, 0.0))),
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _fly(self, outlet: Outlet, flight: Flight, attempt: int) -> None:
        try:
            verdict = await self._attempt(outlet, flight, attempt)
        except BaseException:
            # Called off, or the hub stops: no result, so nothing is recorded and the same key goes out again.
            flight.lane.put_back(flight.planned)
            self._landed_one(outlet, flight)
            raise
        self._land(outlet, flight, attempt, verdict)
        self._landed_one(outlet, flight)

    def _landed_one(self, outlet: Outlet, flight: Flight) -> None:
        outlet.land(flight)
        self._landed.set()
        self._place(flight.lane)

    async def _attempt(self, outlet: Outlet, flight: Flight, attempt: int) -> _Verdict:
        subscription, limits = flight.lane.subscription, outlet.channel.limits
        try:
            entry = await self._entry(flight.planned.position)
            if entry is None:
                return _Verdict(DeliveryState.DEAD, "the alert is no longer kept")
            if entry.alert.large:
                # The channel finds the body made, in place of making it on the loop.
                await asyncio.to_thread(texts.body, entry, subscription.format, subscription.lang)
            async with asyncio.timeout(limits.timeout):
                outcome = await outlet.channel.deliver(Delivery(flight.key, entry, subscription, attempt))
            return _Verdict(DeliveryState.DELIVERED, _clean(outcome.detail, subscription))
        except TimeoutError:
            return _Verdict(DeliveryState.RETRY, f"no answer within {limits.timeout:g} s")
        except asyncio.CancelledError:
            if (task := asyncio.current_task()) is None or task.cancelling():
                raise
            # Nobody cancelled this task: the adapter let one of its own escape, and may not bring the delivery down with it.
            return _Verdict(DeliveryState.RETRY, "the adapter broke off by itself")
        except TemporaryFailure as error:
            return _Verdict(DeliveryState.RETRY, _clean(error.detail, subscription), error.retry_after)
        except PermanentFailure as error:
            return _Verdict(DeliveryState.DEAD, _clean(error.detail, subscription))
        except Gone as error:
            return _Verdict(
                DeliveryState.DROPPED, _clean(f"the target is gone: {error.detail}", subscription), gone=True
            )
        except (DeliveryError, LalertError) as error:
            return _Verdict(DeliveryState.RETRY, _clean(error.detail, subscription))
        except Exception as error:  # noqa: BLE001  # a defect of an adapter may cost a retry, never an alert
            return _Verdict(
                DeliveryState.RETRY, _clean(f"{type(error).__name__}: {error}", subscription), defect=error
            )

    def _land(self, outlet: Outlet, flight: Flight, attempt: int, verdict: _Verdict) -> None:
        lane, planned = flight.lane, flight.planned
        known = lane.recorded(planned)
        state, detail, due = verdict.state, verdict.detail, None
        if state is DeliveryState.RETRY and flight.confirmed is not None:
            state, detail = DeliveryState.DELIVERED, "confirmed by the far end"
        if state is DeliveryState.RETRY:
            outlet.failures += 1
            asked = patience(verdict.retry_after, self._settings.longest_retry_after_s)
            now = self._clock.monotonic()
            wait = lane.failed(planned, now, self._random, asked=asked, took=now - flight.since)
            due = self._clock.now() + timedelta(seconds=wait)
            if lane.superseded(planned):
                lane.remove(planned)
                state, detail, due = (
                    DeliveryState.SUPERSEDED,
                    f"replaced before it was delivered ({detail})",
                    None,
                )
        else:
            lane.answered(planned)
        self._say(lane, verdict)
        lane.held += 1
        row = DeliveryRow(
            flight.key,
            lane.id,
            planned.position,
            state,
            attempt,
            due,
            detail,
            self._updated(),
            flight.confirmed,
        )
        optional = (
            state is DeliveryState.DELIVERED and attempt == 1 and not known and not self._journals(outlet)
        )
        self._note(outlet, Result(row, lane, planned, holds=1, optional=optional, gone=verdict.gone))
        if verdict.gone:
            self._strike(lane)

    def _updated(self) -> datetime:
        """Return the time for a row; it never goes back, or a clock that is set right would make a new row look older than the one it replaces."""
        self._last_update = max(self._last_update, self._clock.now())
        return self._last_update

    def _settle_overdue(self, lane: Lane, planned: Planned) -> None:
        if planned.expired(self._clock.now()):
            self._settle(lane, planned, DeliveryState.EXPIRED, "expired before it could be delivered")
        else:
            self._settle(lane, planned, DeliveryState.DEAD, "given up: undelivered for too long")

    def _settle(self, lane: Lane, planned: Planned, state: DeliveryState, detail: str) -> None:
        """Settle what is not under way without sending it."""
        attempts = lane.attempts(planned)
        lane.remove(planned)
        outlet = self._outlet(lane)
        key = delivery_key(lane.id, planned.alert_id)
        if attempts or self._journals(outlet) or self._journal.pending(key) is not None:
            row = DeliveryRow(key, lane.id, planned.position, state, attempts, None, detail, self._updated())
            self._note(outlet, Result(row, lane, planned))
        else:
            outlet.counts[state] += 1

    def _note(self, outlet: Outlet, result: Result) -> None:
        if result.row.state is not DeliveryState.RETRY:
            outlet.counts[result.row.state] += 1
        self._journal.note(result)

    def _journals(self, outlet: Outlet) -> bool:
        return len(outlet.lanes) <= self._settings.journal_lanes

    def _say(self, lane: Lane, verdict: _Verdict) -> None:
        """Log a change of a target's state, not each attempt: a dead target has 1,400 a day."""
        cause = "" if verdict.state is DeliveryState.DELIVERED else verdict.detail
        if cause == self._causes.get(lane.id, ""):
            return
        words = log.bind(channel=lane.subscription.channel, subscription=lane.id)
        if cause:
            self._causes[lane.id] = cause
            # No traceback: the text of a stranger's exception may hold the target's address.
            words.warning(
                "delivery fails", state=str(verdict.state), cause=cause, **_place_of(verdict.defect)
            )
        else:
            del self._causes[lane.id]
            words.info("delivery works again")

    # Life

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            self._group = group
            for work in (self._follow, self._send, self._journal.run, self._advance):
                group.create_task(self._keep(work))

    async def _keep(self, work: Callable[[], Awaitable[None]]) -> None:
        """Begin a work again whenever it fails: a hub that stopped delivering and said nothing would be the worst defect of all."""
        cause = ""
        while True:
            try:
                await work()
            except LalertError as error:
                if error.detail != cause:
                    cause = error.detail
                    log.warning("dispatch waits for the store", cause=cause)
            except Exception as error:
                if repr(error) != cause:
                    cause = repr(error)
                    log.exception("a defect in dispatch; the work is begun again")
            await self._clock.sleep(STUMBLE_S)

    async def _advance(self) -> None:
        while True:
            await self._clock.sleep(self._settings.advance_s)
            await self._journal.advance(self._lanes.values())


def _stats(outlet: Outlet, now: float) -> ChannelStats:
    lanes = list(outlet.busy.values())
    # A slice and not an index: the loop may take the last one out while another thread counts.
    oldest = min((first.stored.timestamp() for lane in lanes for first in lane.waiting[:1]), default=now)
    return ChannelStats(
        lanes=len(outlet.lanes),
        waiting=sum(len(lane.waiting) for lane in lanes),
        in_flight=len(outlet.flights),
        failing=sum(lane.doubtful for lane in lanes),
        oldest_s=max(0.0, now - oldest),
        attempts_failed=outlet.failures,
        delivered=outlet.counts[DeliveryState.DELIVERED],
        dead=outlet.counts[DeliveryState.DEAD],
        expired=outlet.counts[DeliveryState.EXPIRED],
        superseded=outlet.counts[DeliveryState.SUPERSEDED],
        dropped=outlet.counts[DeliveryState.DROPPED],
    )


def _place_of(defect: Exception | None) -> dict[str, str]:
    frames = traceback.extract_tb(defect.__traceback__) if defect is not None else []
    return {"defect_at": f"{Path(frames[-1].filename).name}:{frames[-1].lineno}"} if frames else {}


_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S+")
_PARTS = re.compile(r"[/?&=#@:]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


def _clean(detail: str, subscription: Subscription) -> str:
    """Return a detail fit for the journal and the log: short, one line, without any address, part of the target, or option: they carry tokens."""
    secrets_of_it = [subscription.target, *_PARTS.split(subscription.target)]
    secrets_of_it += [part for value in subscription.options.values() for part in value.split()]
    for secret in secrets_of_it:
        if len(secret) >= 8:
            detail = detail.replace(secret, "[…]")
    return _CONTROL.sub(" ", _ADDRESS.sub("[…]", detail))[:MAX_DETAIL]
