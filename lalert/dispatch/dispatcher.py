"""Durable delivery: plans every entry for every lane that wants it, sends what is due, and never forgets what is owed.

How: docs/delivery.md; why so: docs/adr/0005-lanes-and-cursors.md. The decisions are in `lanes`, `outlets` and `schedule`; here are the store, the
bus, the tasks and the channels' calls.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import traceback
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path
from random import random as dice
from typing import Final, Protocol, Self
from weakref import WeakSet

import structlog

from lalert import texts
from lalert.bus import Bus, Held, Hints, Leases
from lalert.clock import Clock
from lalert.dispatch.audience import Audience, Bar, MaySee, Reached, Wants, barred
from lalert.dispatch.follower import MOST_OPEN, Follower, Plan
from lalert.dispatch.groups import Groups, Index
from lalert.dispatch.history import History
from lalert.dispatch.journal import Journal, Result
from lalert.dispatch.lanes import Gap, Lane, Mark, Order, Planned, Tries, delivery_key, plan
from lalert.dispatch.outlets import Flight, Outlet
from lalert.dispatch.planning import FILTER, PASSED_OVER, PATIENCE, Pace, Planning
from lalert.dispatch.schedule import patience
from lalert.dispatch.tenure import KIND, Tenure
from lalert.dispatch.told import Told
from lalert.dispatch.trial import Trial
from lalert.errors import (
    BadRequest,
    Conflict,
    DeliveryError,
    Fenced,
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
from lalert.model import Delivery, Entry, Lease, MsgType, Outcome, Status, Subscription
from lalert.plugin import Channel
from lalert.store import (
    SHARES,
    AlertLog,
    Attempt,
    AttemptBook,
    DeliveryRow,
    DeliveryState,
    Outbox,
    StateStore,
)
from lalert.store import Lane as StoredLane

log = structlog.get_logger("lalert.dispatch")

MAX_DETAIL: Final = 200
MAX_SAID: Final = 400
"""Characters that are kept of what was sent, and of what was answered."""
LAUNCHES: Final = 16
"""How many deliveries, of all channels together, begin in one turn of the loop. As many end in one, so both take about 2 ms of it: an alert that comes in meanwhile has
half a dozen turns to wait for."""
LONG_TURN_S: Final = 0.004
"""After a turn that took longer, others have much to do, or the machine has: then a quarter as many begin."""
RENEW_S: Final = 1.0
"""How often the index of filters is looked at, whether it should be made anew."""
GUARDS: Final = 64
TARGET: Final = "target"
CONFIRMED: Final = "confirmed"
"""Hints between nodes: a subscription was changed, or a row of it, by whoever was asked; a delivery, by its key, was confirmed."""
START: Final = datetime.min.replace(tzinfo=UTC)
BY_HAND: Final = "asked for by hand"
STUMBLE_S: Final = 1.0
"""Pause after the store could not be read, or after a defect, before the same work is begun again."""


class Records(AlertLog, Outbox, AttemptBook, StateStore, Protocol):
    """What the dispatcher asks of the store."""


class Line(Bus, Hints, Protocol):
    """What the dispatcher hears, and says to the other nodes."""


NewIndex = Callable[[], Index]
"""Makes an empty index of filters."""


class Tally(Protocol):
    """Hears how many deliveries of each alert there are, and what becomes of them. Never waits."""

    def planned(self, planned: Planned, channel: str, number: int, /) -> None: ...

    def settled(self, planned: Planned, channel: str, state: DeliveryState, /) -> None: ...

    def confirmed(self, position: str, channel: str, /) -> None: ...

    def gone(self, subscription: Subscription, /) -> None:
        """Hear that a subscription is dropped because its target is gone."""
        ...


class _Unheard:
    """A tally that keeps nothing."""

    def planned(self, *_: object) -> None:
        pass

    settled = confirmed = gone = planned


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
    batch: int = 250
    """Rows in one write: 5 ms of the store's writer, and several times that beside a busy loop, so that appends never wait long."""
    page: int = 200
    arrivals: int = 1_000
    """Entries that may wait for planning in memory; beyond them the log itself is read."""
    cache: int = 256
    """Entries kept at hand for sending; the others are read from the log again."""
    advance_s: float = 600.0
    """How often the cursors of quiet lanes follow the log."""
    look_s: float = 2.0
    """How often a node among several asks the store which of its targets were changed at another one, where no hint came."""
    reach_s: float = 5.0
    """How long it waits for what another node has seen of the log, and how long for the answer of the one that runs a lane."""
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
    well: bool = False
    """Nothing failed: it was taken, or was not to be sent."""
    defect: Exception | None = None
    request: str = ""
    response: str = ""


class StoredTargets:
    """What a dispatcher would foresee, asked of the store while no node runs; `drill_safe` says of each configured channel whether it is."""

    def __init__(
        self,
        store: Outbox,
        drill_safe: Mapping[str, bool],
        *,
        wants: Wants,
        may_see: MaySee,
        clock: Clock,
    ) -> None:
        self._store = store
        self._drill_safe = drill_safe
        self._audience = Audience(wants, may_see)
        self._clock = clock

    async def foresee(self, entry: Entry, lineage: Sequence[Entry]) -> list[Reached]:
        subscriptions = [lane.subscription for lane in await self._store.lanes()]
        bounds = DispatchSettings()
        planned = plan(entry, (), None, lineage, max_age=bounds.max_age, longest=bounds.longest)
        return await self._audience.foresee(
            entry, planned, lineage, subscriptions, self._drill_safe, self._clock.now()
        )


class Dispatcher:
    """Moves every lane's cursor: at least once, most urgent first, in order within an incident, until the alert expires.

    An async context manager: at the start it plans again what the store says is unsettled, at the end it waits for what is under way and
    records it. `channels` are instances by name; subscriptions of a channel that is not among them rest until it is configured again.
    `index` makes what finds filters as `wants` decides; without it every filter is asked.

    Of several nodes each runs the lanes of the shares that it holds (docs/nodes.md); any of them may be asked for anything.
    """

    def __init__(
        self,
        store: Records,
        bus: Line,
        channels: Mapping[str, Channel],
        *,
        leases: Leases,
        wants: Wants,
        index: NewIndex | None = None,
        clock: Clock,
        settings: DispatchSettings | None = None,
        may_see: MaySee | None = None,
        tally: Tally | None = None,
        random: Callable[[], float] = dice,
    ) -> None:
        self._store = store
        self._bus = bus
        self._audience = Audience(wants, may_see)
        self._tally = tally or _Unheard()
        self._clock = clock
        self._random = random
        self._settings = settings or DispatchSettings()
        self._outlets = {name: Outlet(name, channel) for name, channel in channels.items()}
        self._lanes: dict[str, Lane] = {}
        self._groups = Groups(index() if index is not None else None)
        self._gaps: list[Gap] = []
        """What lanes have missed that this node has begun to run."""
        self._plannings: WeakSet[Planning] = WeakSet()
        self._resting: dict[str, Subscription] = {}
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._leases = leases
        self._stopping = False
        self._wake = asyncio.Event()
        self._landed = asyncio.Event()
        self._news = asyncio.Event()
        self._seen = 0
        self._listing = asyncio.Lock()
        self._listed: dict[str, Subscription] | None = None
        """All subscriptions of all nodes, once somebody has asked, as of `_listed_at`: to read them all for every list would be a second's work."""
        self._listed_at = 0
        self._guards = tuple(asyncio.Lock() for _ in range(GUARDS))
        self._causes: dict[str, str] = {}
        self._last_update = clock.now()
        self._canaries: list[Callable[[], None]] = []
        self._journal = Journal(store, clock, self._examined, self._place, self._settings.batch, self._taken)
        self._told = Told(store)
        self._history = History(store, clock)
        self._pace = Pace()
        self._real = self._follower(self._plan_real, self._start_over)
        self._drills = self._follower(self._plan_drill, self._start_over, gives_way=self._real_is_busy)

    async def __aenter__(self) -> Self:
        self._part = self._leases.divide(KIND, SHARES, release=self._release)
        shares = await self._part.__aenter__()
        try:
            self._tenure = Tenure(shares)
            for follower in (self._real, self._drills):
                follower.begin(self._newest())
            self._seen, _ = await self._store.target_changes(0)
            if self._tenure.sole:
                await self._told.load()
                self._journal.told = self._told
            await self._load(self._tenure.gained())
        except BaseException:
            await self._part.__aexit__(None, None, None)
            raise
        self._detach = [
            self._bus.attach(self._hear, name="deliveries", watcher=self._watch),
            self._bus.attend(self._hear_hint),
            shares.attach(self._hear_of_shares),
        ]
        self._main = asyncio.create_task(self._run(), name="dispatch")
        return self

    async def __aexit__(self, *exc: object) -> None:
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
            for detach in self._detach:
                detach()
            self._main.cancel()
            await asyncio.wait([self._main])
        try:
            async with asyncio.timeout(grace):
                await self._journal.flush()
                await self._tidy()
                await self._history.flush()
        except (TimeoutError, LalertError) as error:
            log.error(
                "not everything was recorded; it is sent again",
                unrecorded=self._journal.unrecorded,
                cause=str(error) or "it took too long",
            )
        finally:
            await self._part.__aexit__(None, None, None)

    # What people and adapters ask for

    async def subscriptions(self) -> list[Subscription]:
        """Return every durable subscription."""
        if self._tenure.sole:
            return [lane.subscription for lane in self._lanes.values()] + list(self._resting.values())
        async with self._listing:
            at = self._listed_at
            count, changed = await self._store.target_changes(at)
            if self._listed is None or changed is None:
                self._listed = {lane.subscription.id: lane.subscription for lane in await self._store.lanes()}
            else:
                for id in changed:
                    if (lane := await self._store.lane(id)) is not None:
                        self._listed[id] = lane.subscription
                    else:
                        self._listed.pop(id, None)
            if self._listed_at == at:
                self._listed_at = count
            return list(self._listed.values())

    async def foresee(self, entry: Entry, lineage: Sequence[Entry]) -> list[Reached]:
        """Return which targets, of all nodes, an alert would go to that is in no log yet."""
        drill_safe = {name: outlet.channel.drill_safe for name, outlet in self._outlets.items()}
        planned = self._plan_of(entry, (), None, lineage)
        everybody: Iterable[Subscription]
        if self._tenure.sole:
            # Listed at one moment, read as they are asked.
            everybody = chain(
                (lane.subscription for lane in list(self._lanes.values())), list(self._resting.values())
            )
        else:
            everybody = await self.subscriptions()
        return await self._audience.foresee(entry, planned, lineage, everybody, drill_safe, self._clock.now())

    async def subscription(self, subscription_id: str) -> Subscription:
        """Return one; raises `NotFound`."""
        lane = self._lanes.get(subscription_id) or await self._store.lane(subscription_id)
        if lane is None:
            raise NotFound("there is no such subscription")
        return lane.subscription

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
            lease = self._tenure.lease_of(subscription.id)
            if lease is None:
                await self._subscribe_elsewhere(subscription)
                return
            known = self._lanes.get(subscription.id)
            if subscription.id in self._resting or (
                known and known.subscription.channel != subscription.channel
            ):
                raise Conflict("a subscription with this id belongs to another channel; make a new one")
            if known is not None:
                await self._store.save_subscription(subscription, known.cursor.position)
                self._replace(known, subscription)
                return
            self._journal.keep(subscription.id)
            newest = self._newest()
            lane = Lane(subscription, newest, outlet.channel.limits.per_target, lease)
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

    async def _subscribe_elsewhere(self, subscription: Subscription) -> None:
        """Keep a subscription whose lane another node runs: it plans it from this moment on, whenever it hears of it."""
        known = await self._store.lane(subscription.id)
        if known is not None and known.subscription.channel != subscription.channel:
            raise Conflict("a subscription with this id belongs to another channel; make a new one")
        await self._store.save_subscription(subscription, self._store.newest)
        self._bus.hint(TARGET, subscription.id)

    def _replace(self, lane: Lane, subscription: Subscription) -> None:
        if lane.closed:
            return
        self._groups.leave(lane)
        lane.subscription = subscription
        self._join(lane)
        for planning in self._plannings:
            planning.change(lane)
        # Whoever corrects an address does not want to wait for the old one's pause.
        lane.gate = lane.not_before = 0.0
        self._place(lane)

    async def unsubscribe(self, subscription_id: str) -> bool:
        """Forget a subscription: nothing more is sent. Returns False if there was none. Raises `Unavailable`."""
        async with self._guard(subscription_id):
            dropped = await self._store.drop_subscription(subscription_id)
            self._resting.pop(subscription_id, None)
            lane = self._lanes.get(subscription_id)
            if lane is not None:
                self._strike(lane)
            if dropped and self._tenure.lease_of(subscription_id) is None:
                self._bus.hint(TARGET, subscription_id)
            return dropped

    async def history(self, subscription_id: str, limit: int = 100) -> list[DeliveryRow]:
        """Return the newest deliveries of a subscription, newest first."""
        return await self._store.deliveries(subscription_id, limit)

    async def attempts(self, key: str) -> list[Attempt]:
        """Return what the newest attempts of a delivery said, the first of them first."""
        return await self._store.attempts(key)

    async def redeliver(self, key: str) -> None:
        """Send something again because a person asks for it, with the same key, even if it has expired since; returns once that is durable.

        Raises `NotFound` for a key, subscription or alert that is not known any more, and `Conflict` for what must not go out: a revision that was
        replaced, or a drill for a channel that is not drill-safe.
        """
        async with self._guard(key):
            row = await self._store.delivery(key)
            if row is None or not await self._has_lane(row.subscription):
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
            if not (planned.actual or await self._takes_drills(row.subscription)):
                raise Conflict(f"this must not be sent: {_unsafe(entry)}")
            if await self._replaced(entry, planned):
                raise Conflict("a later message has replaced this one; it must not be sent after it")
            again = replace(
                row, state=DeliveryState.RETRY, due=now, detail=BY_HAND, updated=self._updated(row)
            )
            await self._record_by_hand(again)
            lane = self._lanes.get(row.subscription)
            if lane is not None:
                self._again(lane, planned, again)

    async def _takes_drills(self, subscription_id: str) -> bool:
        outlet = self._outlets.get((await self.subscription(subscription_id)).channel)
        return outlet is not None and outlet.channel.drill_safe

    async def _has_lane(self, subscription_id: str) -> bool:
        if subscription_id in self._lanes:
            return True
        if self._tenure.lease_of(subscription_id) is not None:
            return False
        return await self._store.lane(subscription_id) is not None

    async def _record_by_hand(self, row: DeliveryRow) -> None:
        """Write what a person or a far end asked for, whoever runs the lane; if that is another node, it will look at it."""
        lease = self._tenure.lease_of(row.subscription)
        try:
            if lease is not None:
                await self._store.record([row], {}, [lease])
                return
        except Fenced as error:
            self._taken(error.names)
        await self._store.record([row], {})
        self._bus.hint(TARGET, row.subscription)

    def _again(self, lane: Lane, planned: Planned, row: DeliveryRow) -> None:
        """Let a lane try again at once, because a person has asked for it."""
        if lane.find(planned.order) is None:
            lane.add(planned, Tries(row.attempts, recorded=True, until=row.updated + self._settings.by_hand))
            self._tally.planned(planned, lane.subscription.channel, 1)
        elif (tries := lane.tries.get(planned.position)) is not None:
            tries.due = 0.0
        lane.gate = lane.not_before = 0.0
        self._place(lane)

    async def _replaced(self, entry: Entry, planned: Planned) -> bool:
        if entry.alert.msg_type not in (MsgType.ALERT, MsgType.UPDATE) or planned.expired(self._clock.now()):
            return False
        in_force = await self._store.active(self._clock.now())
        return all(e.position != entry.position for e in in_force)

    async def confirm(self, key: str, words: str = "") -> None:
        """Note that the far end has confirmed a delivery; a second time changes nothing. Raises `NotFound`, `Unavailable`.

        A confirmation of what still waits for another try settles it: the peer had taken it, only its answer was lost. `words` take the place of the
        detail of what was delivered and has its row.
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
        if not self._tenure.sole and (row is None or self._tenure.lease_of(row.subscription) is None):
            # It may be under way at the node that runs the lane, and has no row before it has landed.
            self._bus.hint(CONFIRMED, key)
            row = row or await self._row_from_elsewhere(key)
        if row is None:
            raise NotFound("there is no delivery with that key")
        if row.confirmed is None:
            confirmed = self._confirmed(row, now)
            if words and confirmed.state is DeliveryState.DELIVERED:
                confirmed = replace(confirmed, detail=words[:MAX_DETAIL])
            await self._record_by_hand(confirmed)

    async def _row_from_elsewhere(self, key: str) -> DeliveryRow | None:
        give_up = self._clock.monotonic() + self._settings.reach_s
        while (row := await self._store.delivery(key)) is None and self._clock.monotonic() < give_up:
            await self._clock.sleep(0.1)
        return row

    def _confirm_unwritten(self, key: str, now: datetime) -> bool:
        """Confirm what is under way or waits to be written; False if it is neither."""
        for outlet in self._outlets.values():
            if (flight := outlet.flights.get(key)) is not None:
                if flight.confirmed is None:
                    flight.confirmed = now
                    self._tally.confirmed(flight.planned.position, outlet.name)
                return True
        result = self._journal.pending(key)
        if result is None:
            return False
        if result.row.confirmed is None:
            result.row = self._confirmed(result.row, now)
        return True

    def _confirmed(self, row: DeliveryRow, now: datetime) -> DeliveryRow:
        lane = self._lanes.get(row.subscription)
        if lane is not None:
            self._tally.confirmed(row.position, lane.subscription.channel)
        if row.state is not DeliveryState.RETRY:
            return replace(row, confirmed=now)
        planned = lane.find(self._store.order(row.position)) if lane else None
        if lane is not None and planned is not None:
            lane.remove(planned)
            self._place(lane)
            self._tally.settled(planned, lane.subscription.channel, DeliveryState.DELIVERED)
        detail = "confirmed by the far end"
        return replace(
            row,
            state=DeliveryState.DELIVERED,
            due=None,
            detail=detail,
            updated=self._updated(row),
            confirmed=now,
        )

    async def send_test(self, subscription_id: str, entry: Entry) -> Trial:
        """Send one entry that is not in the log to one target, once, whatever its filter says; its status must be Test. What came of it is kept nowhere.

        Raises `NotFound`, and `Forbidden` where the channel is not drill-safe or the entry is no test.
        """
        subscription = await self.subscription(subscription_id)
        outlet = self._outlets.get(subscription.channel)
        if outlet is None:
            raise NotFound("the channel of that subscription is not configured")
        channel = outlet.channel
        if entry.alert.status is not Status.TEST or not channel.drill_safe:
            raise Forbidden(
                "only a message with status Test is sent as a test, and only by a channel that is drill-safe"
            )
        delivery = Delivery("test" + secrets.token_hex(14), entry, subscription, 1)
        since = self._clock.monotonic()
        verdict = await _handed_over(channel, delivery)
        took = self._clock.monotonic() - since
        return Trial(delivery.key, verdict.state, verdict.detail, took, verdict.request, verdict.response)

    def by_channel(self) -> dict[str, ChannelStats]:
        """Return how each channel fares. May be called from another thread."""
        now = self._clock.now()
        return {name: _stats(outlet, now.timestamp()) for name, outlet in self._outlets.items()}

    def stats(self) -> dict[str, float]:
        """Return the sums over all channels, by metric name. May be called from another thread."""
        channels = list(self.by_channel().values())
        return {
            "caught_up": float(not self._gaps),
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

    # What the store remembers, and what other nodes have made of it

    async def _load(self, gained: Held) -> None:
        """Load the lanes of shares that this node begins to run; they are behind until they have caught up."""
        self._tenure.begin(gained)
        try:
            stored = await self._store.lanes(gained.keys())
            rows = await self._store.unsettled(gained.keys())
            await self._reached((*(lane.cursor for lane in stored), *(row.position for row in rows)))
            await self._load_lanes(stored, rows)
        except BaseException:
            self._tenure.end(gained.values())
            self._abandon(gained.values())
            raise

    async def _load_lanes(self, stored: Sequence[StoredLane], rows: Sequence[DeliveryRow]) -> None:
        """Load lanes; what they have missed is planned apart. Raises `LalertError`, and then leaves lanes that know nothing of their rows."""
        gap = Gap()
        self._gaps.append(gap)
        try:
            await self._load_into(gap, stored)
            await self._load_rows(gap, rows)
        except BaseException:
            self._gaps.remove(gap)
            raise
        # An entry that is being planned at this moment may have passed some of them over.
        gap.until = max(self._newest().order, self._real.begun, self._drills.begun)

    async def _load_into(self, gap: Gap, stored: Sequence[StoredLane]) -> None:
        newest, lost = self._newest(), False
        for one in stored:
            await self._give_way(weight=FILTER)
            lease = self._tenure.lease_of(one.subscription.id)
            # It was lost meanwhile, or somebody who was asked here was quicker.
            if lease is None or one.subscription.id in self._lanes:
                continue
            outlet = self._outlets.get(one.subscription.channel)
            if outlet is None:
                self._resting[one.subscription.id] = one.subscription
                continue
            try:
                cursor = Mark(self._store.order(one.cursor), one.cursor)
            except (UnknownPosition, BadRequest):
                cursor, lost = Mark((), one.cursor), True
            lane = Lane(one.subscription, cursor, outlet.channel.limits.per_target, lease)
            lane.lost_until = None if cursor.order else newest.order
            gap.take(lane)
            self._join(lane)
        if lost:
            log.warning(
                "cursors of another epoch: their lanes are planned again from the oldest alert that is kept"
            )
        for name in sorted(
            {channel for one in stored if (channel := one.subscription.channel) not in self._outlets}
        ):
            log.warning("subscriptions rest: their channel is not configured", channel=name)

    async def _load_rows(self, gap: Gap, found: Sequence[DeliveryRow]) -> None:
        due: dict[str, list[DeliveryRow]] = {}
        for row in found:
            await self._give_way()
            lane = gap.lanes.get(row.subscription)
            if row.state is DeliveryState.RETRY:
                if lane is not None:
                    due.setdefault(row.position, []).append(row)
            elif lane is not None:
                lane.settled.add(row.position)
            # Another node's clock may be ahead of this one's: what is written here is the newer all the same.
            self._last_update = max(self._last_update, row.updated)
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
                await self._give_way()
                lane = gap.lanes.get(row.subscription)
                if planned is not None and lane is not None:
                    # Never longer than the pause that was meant: the clock that it was reckoned by may be another's.
                    wait = (min(row.due - now, row.due - row.updated)).total_seconds() if row.due else 0.0
                    wait = min(max(wait, 0.0), self._settings.longest_retry_after_s)
                    until = row.updated + self._settings.by_hand if row.detail == BY_HAND else None
                    lane.add(planned, Tries(row.attempts, instant + wait, recorded=True, until=until))
                    self._place(lane)
                elif lane is not None and lane.lost_until is None:
                    orphans.append(row)
        gone = [
            replace(
                row,
                state=DeliveryState.DROPPED,
                due=None,
                detail="its alert is no longer kept",
                updated=self._updated(row),
            )
            for row in orphans
        ]
        for start in range(0, len(gone), self._settings.batch):
            chunk = gone[start : start + self._settings.batch]
            leases = {self._tenure.lease_of(row.subscription) for row in chunk}
            await self._store.record(chunk, {}, {lease for lease in leases if lease is not None})

    async def _reached(self, positions: Iterable[str]) -> None:
        """Wait until this node has seen as much of the log as whoever wrote these; not for ever, as they may be of another log."""
        give_up = self._clock.monotonic() + self._settings.reach_s
        for position in positions:
            try:
                self._store.order(position)
            except UnknownPosition:
                if self._clock.monotonic() < give_up:
                    await self._store.reach(position)
            except BadRequest:
                pass

    async def _catch_up(self) -> None:
        """Plan what lanes have missed and let them go on with the others: real alerts for all of them before drills."""
        for gap in list(self._gaps):
            for actual in (True, False):
                await self._regain(gap, actual=actual)
            for lane in list(gap.lanes.values()):
                await self._give_way(weight=PASSED_OVER)
                if lane.gap is gap:
                    lane.leave_gap()
            if gap in self._gaps:
                self._gaps.remove(gap)

    async def _regain(self, gap: Gap, *, actual: bool) -> None:
        async def plan(entry: Entry, before: Mark | None) -> Planning | None:
            if (entry.alert.status is Status.ACTUAL) is not actual:
                return None
            planning = await self._plan(entry, before, gap=gap)
            if planning is not None and await self._is_head(entry):
                gap.heads.add(entry.position)
            return planning

        def lose_place() -> None:
            until = self._newest().order
            gap.heads.clear()
            for lane in gap.lanes.values():
                lane.lose_place_in_gap(until)

        if gap.closed[actual] or gap.lowest is None:
            return
        # In the order of the log: how far a lane was offered it is then a single mark.
        history = self._follower(plan, lose_place, most_open=1, gives_way=self._real_is_busy)
        history.begin(gap.lowest if gap.lowest.order else None)
        await history.read_on(gap.until)
        gap.closed[actual] = True
        for lane in list(gap.lanes.values()):
            await self._give_way(weight=1 if lane.waiting else PASSED_OVER)
            if lane.waiting:
                lane.look_afresh()
                self._place(lane)

    # Which lanes are this node's

    def _hear_of_shares(self) -> None:
        self._strike_lost()
        self._news.set()

    def _strike_lost(self) -> None:
        if lost := self._tenure.lost():
            self._abandon(lost)

    def _taken(self, names: Collection[str]) -> None:
        """The store has refused a write: these leases are another node's, whatever this one believed."""
        self._abandon(self._tenure.refused(names))
        self._news.set()

    def _abandon(self, leases: Collection[Lease]) -> None:
        """Strike lanes without a word in the journal: what becomes of their deliveries is another node's to say, with the same keys."""
        # All at once: one by one, thirty thousand of them would hold up the loop for a second.
        gone = set(leases)
        for lane in self._lanes.values():
            if lane.lease in gone:
                lane.lost = lane.closed = True
                lane.stands = None
                lane.stamp += 1
        self._lanes = _left(self._lanes)
        for gap in self._gaps:
            gap.lanes = _left(gap.lanes)
        self._groups.leave_lost()
        for outlet in self._outlets.values():
            outlet.lanes, outlet.busy = _left(outlet.lanes), _left(outlet.busy)
            for flight in outlet.flights.values():
                if flight.lane.lost and flight.planned in flight.lane.flying:
                    flight.call_off()
        self._causes = {id: cause for id, cause in self._causes.items() if id in self._lanes}
        self._resting = {
            id: resting for id, resting in self._resting.items() if self._tenure.lease_of(id) is not None
        }
        self._journal.forget_lost()

    async def _release(self, leases: Collection[Lease]) -> None:
        """Finish what is under way in lanes that another node is to have: then it repeats nothing."""
        gone = set(leases)
        lanes = {lane.id: lane for lane in self._lanes.values() if lane.lease in gone}
        for lane in lanes.values():
            # Nothing more is sent.
            lane.held += lane.per_target
        while any(flight.lane.id in lanes for flight in self._flights()):
            self._landed.clear()
            await self._landed.wait()
        await self._journal.drained(lanes.values())
        await self._journal.advance(lanes.values())

    async def _tend(self) -> None:
        """Run what is held: load it, let it catch up, and look at what was changed at other nodes."""
        while True:
            self._news.clear()
            self._strike_lost()
            if gained := self._tenure.gained():
                await self._load(gained)
            if self._gaps:
                await self._catch_up()
            if not self._tenure.sole:
                await self._look_at_changes()
            await self._news.wait()

    async def _look_often(self) -> None:
        while True:
            await self._clock.sleep(self._settings.look_s)
            self._news.set()

    def _hear_hint(self, kind: str, subject: str) -> None:
        if kind == TARGET and self._tenure.lease_of(subject) is not None:
            self._news.set()
        elif kind == CONFIRMED:
            self._confirm_unwritten(subject, self._clock.now())

    async def _look_at_changes(self) -> None:
        seen = self._seen
        count, changed = await self._store.target_changes(seen)
        for id in changed if changed is not None else await self._what_differs():
            await self._look_at(id)
        if self._gaps:
            await self._catch_up()
        if self._seen == seen:
            self._seen = count

    async def _what_differs(self) -> set[str]:
        """Return which lanes are not as the store has them."""
        shares = self._tenure.run.keys()
        stored = {lane.subscription.id: lane.subscription for lane in await self._store.lanes(shares)}
        here = {id: lane.subscription for id, lane in self._lanes.items()} | self._resting
        asked = {row.subscription for row in await self._store.unsettled(shares) if row.detail == BY_HAND}
        return asked | {id for id in stored.keys() | here.keys() if stored.get(id) != here.get(id)}

    async def _look_at(self, subscription_id: str) -> None:
        """Make of a lane what the store says of it."""
        async with self._guard(subscription_id):
            if self._tenure.lease_of(subscription_id) is None:
                return
            lane = self._lanes.get(subscription_id)
            tries = dict(lane.tries) if lane is not None else {}
            stored = await self._store.lane(subscription_id)
            rows = await self._store.unsettled_of(subscription_id)
            if stored is None:
                self._resting.pop(subscription_id, None)
                if lane is not None:
                    self._strike(lane)
            elif lane is None:
                await self._reached((stored.cursor, *(row.position for row in rows)))
                try:
                    await self._load_lanes([stored], rows)
                except BaseException:
                    if (half := self._lanes.get(subscription_id)) is not None:
                        self._take_out(half)
                    raise
            elif not lane.closed:
                if lane.subscription != stored.subscription:
                    self._replace(lane, stored.subscription)
                await self._look_at_rows(lane, rows, tries)

    async def _look_at_rows(
        self, lane: Lane, rows: Sequence[DeliveryRow], before: Mapping[str, Tries]
    ) -> None:
        """Note what was confirmed or asked for by hand at another node; `before` is what the lane knew before the rows were read."""
        waiting = {row.position for row in rows if row.state is DeliveryState.RETRY}
        for planned in [w for w in lane.waiting if w not in lane.flying]:
            tries = lane.tries.get(planned.position)
            known = tries is not None and tries.recorded and before.get(planned.position) is tries
            if known and planned.position not in waiting:
                lane.remove(planned)
        for row in rows:
            if row.state is not DeliveryState.RETRY or row.detail != BY_HAND or self._is_under_way(row.key):
                continue
            entry = await self._entry(row.position)
            if entry is not None and not lane.closed:
                self._again(lane, self._planned(entry, None, await self._lineage(entry)), row)
        self._place(lane)

    def _is_under_way(self, key: str) -> bool:
        return self._journal.pending(key) is not None or any(key in o.flights for o in self._outlets.values())

    # Lanes and who is in them

    def _newest(self) -> Mark:
        newest = self._store.newest
        return Mark(self._store.order(newest), newest)

    def _join(self, lane: Lane) -> None:
        self._lanes[lane.id] = lane
        self._outlet(lane).lanes[lane.id] = lane
        self._groups.join(lane)

    def _take_out(self, lane: Lane) -> None:
        """Do nothing more for a lane; what is under way is called off."""
        if lane.closed:
            return
        lane.closed = True
        # Where it stood in line, or slept, it is passed over.
        lane.stands = None
        lane.stamp += 1
        self._groups.leave(lane)
        if lane.gap is not None:
            lane.gap.lanes.pop(lane.id, None)
        self._lanes.pop(lane.id, None)
        self._causes.pop(lane.id, None)
        outlet = self._outlet(lane)
        outlet.lanes.pop(lane.id, None)
        outlet.busy.pop(lane.id, None)
        for flight in outlet.flights.values() if lane.flying else ():
            if flight.lane is lane and flight.planned in lane.flying:
                flight.call_off()

    def _strike(self, lane: Lane) -> None:
        """Take a lane out for good; what was tried and still waited is journalled as dropped."""
        if lane.closed:
            return
        self._take_out(lane)
        for planned in list(lane.waiting):
            if lane.attempts(planned):
                self._settle(lane, planned, DeliveryState.DROPPED, "the subscription was dropped")
            else:
                self._tally.settled(planned, lane.subscription.channel, DeliveryState.DROPPED)

    def _guard(self, name: str) -> asyncio.Lock:
        """Return what keeps two requests about the same thing apart, without making everybody wait for everybody's commit."""
        return self._guards[hash(name) % GUARDS]

    def _outlet(self, lane: Lane) -> Outlet:
        return self._outlets[lane.subscription.channel]

    def _flights(self) -> list[Flight]:
        return [flight for outlet in self._outlets.values() for flight in outlet.flights.values()]

    # Planning: every entry, in the order of the log, for every lane that wants it

    def _follower(
        self,
        plan: Plan,
        lost: Callable[[], None],
        *,
        most_open: int = MOST_OPEN,
        gives_way: Callable[[], bool] = lambda: False,
    ) -> Follower:
        return Follower(
            self._store,
            plan,
            lost,
            pace=self._pace,
            page=self._settings.page,
            arrivals=self._settings.arrivals,
            most_open=most_open,
            gives_way=gives_way,
        )

    def _hear(self, entry: Entry) -> None:
        self._real.hear(entry)
        self._drills.hear(entry)

    def _watch(self, sighted: Callable[[], None]) -> None:
        """Call `sighted` once real alerts, drills and what is due have been looked at."""
        missing = 3

        def one_more() -> None:
            nonlocal missing
            missing -= 1
            if not missing:
                sighted()

        self._real.watch(one_more)
        self._drills.watch(one_more)
        self._canaries.append(one_more)
        self._wake.set()

    def _examined(self, lane: Lane) -> Mark | None:
        """Return up to where everything was planned for a lane, real alerts and drills; None where that is not known."""
        if self._real.examined is None or self._drills.examined is None or lane.gap is not None:
            return None
        return min(self._real.examined, self._drills.examined)

    async def _follow(self) -> None:
        """Plan real alerts and drills apart: fifty drills for seventy thousand targets must not keep a real alert from being planned."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep(self._real.run))
            group.create_task(self._keep(self._drills.run))

    def _start_over(self) -> None:
        """The log does not know how far it was planned: plan all that it keeps, and let the rows say what is settled."""
        log.warning(
            "the log does not know the position reached; every lane is planned again from the oldest alert that is kept"
        )
        for follower in (self._real, self._drills):
            follower.start_over()
        # What lost its place in the log may have lost changes of targets too, and counts on from an older number.
        self._seen = self._listed_at = -1
        self._news.set()
        until = self._newest().order
        for lane in self._lanes.values():
            # What is planned anew for all need not be caught up with; who is just being loaded is not among these yet.
            if lane.gap is not None and lane.gap.until is not None:
                lane.leave_gap()
            lane.lose_place(until)
        self._gaps = [gap for gap in self._gaps if gap.until is None]

    async def _plan_real(self, entry: Entry, before: Mark | None) -> Planning | None:
        return await self._plan(entry, before) if entry.alert.status is Status.ACTUAL else None

    async def _plan_drill(self, entry: Entry, before: Mark | None) -> Planning | None:
        return await self._plan(entry, before) if entry.alert.status is not Status.ACTUAL else None

    async def _plan(self, entry: Entry, before: Mark | None, *, gap: Gap | None = None) -> Planning | None:
        """Begin to offer an entry to every lane that wants it, or to those alone that have missed it."""
        if entry.alert.status is Status.DRAFT or not self._groups:
            return None
        lineage = await self._lineage(entry)
        planned = self._planned(entry, before, lineage)
        self._remember(entry)
        planning = Planning(
            entry,
            planned,
            lineage,
            pace=self._pace,
            groups=self._groups,
            wanted=self._audience.wanted,
            passes_over=lambda lane: lane.missed_in(planned) is not gap,
            offer=self._offer_open if gap is None else self._offer_missed,
            finished=self._tell_planned,
        )
        self._plannings.add(planning)
        return planning

    def _tell_planned(self, planned: Planned, by_channel: Counter[str]) -> None:
        for channel, number in by_channel.items():
            self._tally.planned(planned, channel, number)

    async def _offer_open(self, lane: Lane, planned: Planned, entry: Entry) -> bool:
        return await self._is_open(lane, planned) and self._offer(lane, planned, entry)

    async def _offer_missed(self, lane: Lane, planned: Planned, entry: Entry) -> bool:
        """Offer in the order of the log, and note how far that is: where planning has to be begun again, none of it comes again."""
        new = await self._offer_open(lane, planned, entry)
        if lane.gap is not None:
            lane.offered[planned.actual] = max(lane.offered[planned.actual], planned.order)
        return new

    async def _give_way(self, weight: float = 1) -> None:
        """Let everybody else have a turn before the next look, after so many lanes."""
        await self._pace.rest(PATIENCE if self._real_is_busy() else 0)
        self._pace.spend(weight)

    def _real_is_busy(self) -> bool:
        return self._real.busy

    async def _is_head(self, entry: Entry) -> bool:
        """Say whether nothing has replaced an entry, and nothing else is the newest of its incident."""
        try:
            return any(head.position == entry.position for head in await self._store.heads(entry))
        except StoreError:
            return False

    async def _lineage(self, entry: Entry) -> Sequence[Entry]:
        try:
            return await self._store.lineage(entry)
        except StoreError as error:
            # One document that cannot be read must not stop the log: the entry still goes to everybody whose filter wants it.
            log.error(
                "the earlier audience of an alert cannot be read", position=entry.position, cause=error.detail
            )
            return ()

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

    def _offer(self, lane: Lane, planned: Planned, entry: Entry) -> bool:
        """Let an entry wait for a lane, or settle it at once; returns whether it was new to the lane and meant for it."""
        if not self._audience.permitted(lane.subscription, entry):
            return False
        for older in lane.replaced_by(planned):
            self._settle(
                lane,
                older,
                DeliveryState.SUPERSEDED,
                f"replaced by {planned.alert_id} before it was delivered",
            )
        known = (
            planned.position in lane.settled
            or lane.find(planned.order) is not None
            or self._told.knows(lane.id, planned.alert_id)
        )
        if known:
            lane.settled.discard(planned.position)
        else:
            self._settle_barred_or_add(lane, planned, entry)
        if lane.held_back(planned):
            self._outlet(lane).mark(lane)
        else:
            self._place(lane)
        return not known

    def _settle_barred_or_add(self, lane: Lane, planned: Planned, entry: Entry) -> None:
        bar = barred(planned, self._clock.now(), drill_safe=self._outlet(lane).channel.drill_safe)
        if bar is Bar.NOT_DRILL_SAFE:
            self._settle(lane, planned, DeliveryState.DROPPED, _unsafe(entry))
        elif bar is Bar.TOO_LATE:
            self._settle_overdue(lane, planned)
        elif bar is Bar.OUTDATED or lane.superseded(planned):
            detail = "arrived after the message that replaces it"
            self._settle(lane, planned, DeliveryState.SUPERSEDED, detail)
        else:
            lane.add(planned)

    def _planned(self, entry: Entry, before: Mark | None, lineage: Sequence[Entry]) -> Planned:
        return self._plan_of(entry, self._store.order(entry.position), before, lineage)

    def _plan_of(self, entry: Entry, order: Order, before: Mark | None, lineage: Sequence[Entry]) -> Planned:
        return plan(
            entry,
            order,
            before,
            lineage,
            since=self._since(entry, order, lineage),
            max_age=self._settings.max_age,
            longest=self._settings.longest,
        )

    def _since(self, entry: Entry, order: Order, lineage: Sequence[Entry]) -> Order:
        # A lineage that could not be read looks like none.
        if not lineage:
            return order if entry.incident == entry.alert.id else ()
        try:
            return min(order, *(self._store.order(e.position) for e in lineage))
        except UnknownPosition:
            return ()

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
        if lane.closed:
            return
        outlet = self._outlet(lane)
        if self._stopping:
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
        last: float | None = None
        while True:
            self._wake.clear()
            now = self._clock.monotonic()
            number = LAUNCHES if last is None or now - last <= LONG_TURN_S else LAUNCHES // 4
            # Also after a sleep of the whole process: what was lost meanwhile is not sent.
            self._strike_lost()
            each = max(1, number // max(1, len(self._outlets)))
            for outlet in self._outlets.values():
                self._launch(outlet, each)
            canaries, self._canaries = self._canaries, []
            for sighted in canaries:
                sighted()
            last = now if self._wake.is_set() else None
            await self._rest()

    def _launch(self, outlet: Outlet, number: int) -> None:
        for _ in range(number):
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
        flight.begun = True
        try:
            if flight.called_off:
                raise asyncio.CancelledError
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
        # There is room for others, also where this lane is no more.
        self._wake.set()

    async def _attempt(self, outlet: Outlet, flight: Flight, attempt: int) -> _Verdict:
        subscription = flight.lane.subscription
        try:
            entry = await self._entry(flight.planned.position)
        except LalertError as error:
            return _Verdict(DeliveryState.RETRY, _clean(error.detail, subscription))
        if entry is None:
            return _Verdict(DeliveryState.DEAD, "the alert is no longer kept")
        if not (flight.planned.actual or outlet.channel.drill_safe):
            # What waited for another try may have been planned when this name was another adapter's.
            return _Verdict(DeliveryState.DROPPED, _unsafe(entry), well=True)
        return await _handed_over(outlet.channel, Delivery(flight.key, entry, subscription, attempt))

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
        # Of a hundred thousand targets of one server that is down the same story is not told a hundred thousand times a minute.
        if self._journals(outlet) or state in (DeliveryState.DEAD, DeliveryState.DROPPED):
            self._history.note(self._attempt_of(flight, attempt, verdict))
        if verdict.gone:
            self._tally.gone(lane.subscription)
            self._strike(lane)

    def _attempt_of(self, flight: Flight, number: int, verdict: _Verdict) -> Attempt:
        took = self._clock.monotonic() - flight.since
        began = self._clock.now() - timedelta(seconds=took)
        said = (verdict.state, verdict.detail, verdict.request, verdict.response)
        return Attempt(flight.key, number, began, took, *said)

    def _updated(self, older: DeliveryRow | None = None) -> datetime:
        """Return the time for a row; it never goes back, or a clock that is set right would make a new row look older than the one it replaces."""
        self._last_update = max(self._last_update, self._clock.now(), older.updated if older else START)
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
            self._tally.settled(planned, outlet.name, state)

    def _note(self, outlet: Outlet, result: Result) -> None:
        if result.lane.lost:
            return
        if result.row.state is not DeliveryState.RETRY:
            outlet.counts[result.row.state] += 1
            self._tally.settled(result.planned, outlet.name, result.row.state)
        self._journal.note(result)

    def _journals(self, outlet: Outlet) -> bool:
        # What people have to tick is the row itself, however many others there are.
        return outlet.by_hand or len(outlet.lanes) <= self._settings.journal_lanes

    def _say(self, lane: Lane, verdict: _Verdict) -> None:
        """Log a change of a target's state, not each attempt: a dead target has 1,400 a day."""
        cause = "" if verdict.well else verdict.detail
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
            works = [
                self._follow,
                self._tend,
                self._send,
                self._journal.run,
                self._history.run,
                self._advance,
            ]
            works.append(self._renew)
            for work in works if self._tenure.sole else [*works, self._look_often]:
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
            await self._tidy()

    async def _renew(self) -> None:
        while True:
            await self._groups.renew()
            await self._clock.sleep(RENEW_S)

    async def _tidy(self) -> None:
        """Let the cursors of quiet lanes follow the log, and drop what they tell by then."""
        notes, before = self._told.notes, self._idle
        await self._journal.advance(self._lanes.values())
        # Also before: what was planned to its end meanwhile is beyond the cursors that were just written.
        if notes and before and self._idle:
            await self._told.forget(notes)

    @property
    def _idle(self) -> bool:
        busy = any(outlet.busy for outlet in self._outlets.values())
        busy = busy or self._real.busy or self._drills.busy
        return not (busy or self._gaps or self._journal.unrecorded)


async def _handed_over(channel: Channel, delivery: Delivery) -> _Verdict:
    """Let a channel deliver, and say what came of it, whatever it does."""
    subscription, entry, limits = delivery.subscription, delivery.entry, channel.limits
    try:
        if entry.large:
            # The channel finds the body made, in place of making it on the loop.
            await asyncio.to_thread(texts.body, entry, subscription.format, subscription.lang)
        async with asyncio.timeout(limits.timeout):
            outcome = await channel.deliver(delivery)
        state = DeliveryState.DELIVERED if outcome.sent else DeliveryState.DROPPED
        return replace(_said(state, outcome.detail, outcome, subscription), well=True)
    except TimeoutError:
        return _Verdict(DeliveryState.RETRY, f"no answer within {limits.timeout:g} s")
    except asyncio.CancelledError:
        if (task := asyncio.current_task()) is None or task.cancelling():
            raise
        # Nobody cancelled this task: the adapter let one of its own escape, and may not bring the delivery down with it.
        return _Verdict(DeliveryState.RETRY, "the adapter broke off by itself")
    except TemporaryFailure as error:
        verdict = _said(DeliveryState.RETRY, error.detail, error, subscription)
        return replace(verdict, retry_after=error.retry_after)
    except PermanentFailure as error:
        return _said(DeliveryState.DEAD, error.detail, error, subscription)
    except Gone as error:
        verdict = _said(DeliveryState.DROPPED, f"the target is gone: {error.detail}", error, subscription)
        return replace(verdict, gone=True)
    except DeliveryError as error:
        return _said(DeliveryState.RETRY, error.detail, error, subscription)
    except LalertError as error:
        return _Verdict(DeliveryState.RETRY, _clean(error.detail, subscription))
    except Exception as error:  # noqa: BLE001  # a defect of an adapter may cost a retry, never an alert
        return _Verdict(
            DeliveryState.RETRY, _clean(f"{type(error).__name__}: {error}", subscription), defect=error
        )


def _said(
    state: DeliveryState, detail: str, said: Outcome | DeliveryError, subscription: Subscription
) -> _Verdict:
    request, response = (_clean(text, subscription, MAX_SAID) for text in (said.request, said.response))
    return _Verdict(state, _clean(detail, subscription), request=request, response=response)


def _unsafe(entry: Entry) -> str:
    return f"status {entry.alert.status}, and the channel is not drill-safe"


def _left(lanes: Mapping[str, Lane]) -> dict[str, Lane]:
    return {id: lane for id, lane in lanes.items() if not lane.lost}


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
SHORTEST_SECRET: Final = 8
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


def _clean(detail: str, subscription: Subscription, most: int = MAX_DETAIL) -> str:
    """Return a detail fit for the journal and the log: short, one line, without any address, part of the target, or option: they carry tokens."""
    if len(detail) < SHORTEST_SECRET and detail.isalnum():
        return detail
    secrets_of_it = [subscription.target, *_PARTS.split(subscription.target)]
    secrets_of_it += [part for value in subscription.options.values() for part in value.split()]
    for secret in secrets_of_it:
        if len(secret) >= SHORTEST_SECRET:
            detail = detail.replace(secret, "[…]")
    return _CONTROL.sub(" ", _ADDRESS.sub("[…]", detail))[:most]
