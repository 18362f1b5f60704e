"""What people have to do for an alert, and whether they have: deliveries of channels that work by hand, open until somebody ticks them.

A row is a delivery that the channel has taken and nobody has confirmed. A tick is its confirmation, with who says so and when it was done. Nothing else is kept.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, Protocol

import structlog

from lalert.clock import Clock
from lalert.errors import BadRequest, LalertError, NotFound
from lalert.model import Entry, MsgType, Subscription
from lalert.store import DeliveryRow, DeliveryState

log = structlog.get_logger("lalert.checklist")

LOOK_S: Final = 10.0
"""How often what is open is counted for the metrics."""
PER_TARGET: Final = 1_000
"""Of each target so many rows are looked at, the newest."""
SHOWN: Final = 100
"""And so many shown of what is done or over."""
REMEMBERED: Final = 10_000
"""Alerts that are known to be over: they are not read again each time that somebody asks what is open."""
LATE: Final = timedelta(minutes=1)
"""Only what is older than this: what was accepted while somebody looked is not in force yet for who looks."""
AHEAD: Final = timedelta(minutes=2)
"""So far a telephone's clock may be ahead of the hub's."""


class Deliveries(Protocol):
    """What is asked of the durable deliveries."""

    async def subscriptions(self) -> list[Subscription]: ...

    async def history(self, subscription_id: str, limit: int = 100) -> list[DeliveryRow]: ...

    async def confirm(self, key: str, words: str = "") -> None: ...


class Log(Protocol):
    """What is asked of the store."""

    async def entry(self, position: str) -> Entry | None: ...

    async def active(self, now: datetime) -> list[Entry]: ...

    async def delivery(self, key: str) -> DeliveryRow | None: ...


class State(StrEnum):
    """How a row stands: to be done, done, or over before anybody did it."""

    OPEN = "open"
    TICKED = "ticked"
    MISSED = "missed"


@dataclass(frozen=True, slots=True)
class Item:
    """One row: what to do (the subscription's target) about which alert, since when, and how it stands. `words` say who ticked it."""

    key: str
    subscription: Subscription
    entry: Entry
    since: datetime
    state: State
    ticked: datetime | None
    words: str


class Checklist:
    """The rows of the channels named in `channels`."""

    def __init__(self, deliveries: Deliveries, entries: Log, clock: Clock, channels: Collection[str]) -> None:
        self.channels = frozenset(channels)
        self._deliveries = deliveries
        self._log = entries
        self._clock = clock
        self._open: dict[str, list[datetime]] = {}
        self._over: OrderedDict[str, None] = OrderedDict()

    async def items(self, org: str | None, *, everything: bool = False) -> list[Item]:
        """Return an organisation's open rows, the oldest first; with `everything` also what is ticked or was missed."""
        in_force = await self._in_force()
        mine = [one for one in await self._subscriptions() if one.tenant == org]
        items = [item for one in mine for item in await self._of(one, in_force, everything=everything)]
        return sorted(items, key=lambda item: (item.since, item.key))

    async def item(self, org: str | None, key: str) -> Item:
        """Return one row; raises `NotFound`, also for another organisation's."""
        row = await self._log.delivery(key)
        for one in await self._subscriptions() if row is not None else ():
            if row is not None and one.id == row.subscription and one.tenant == org:
                item = await self._item(one, row, await self._in_force())
                if item is not None:
                    return item
        raise NotFound("your checklist has no such row")

    async def tick(self, item: Item, name: str, at: datetime | None, note: str = "") -> None:
        """Note that somebody has done it; what is ticked stays as it was ticked first. Raises `BadRequest` for a time that cannot be."""
        now = self._clock.now()
        if at is not None and not item.entry.stored - timedelta(minutes=1) <= at <= now + AHEAD:
            raise BadRequest("at: must be between the alert and now")
        done = (at or now).astimezone(now.tzinfo).isoformat(timespec="seconds")
        if item.state is not State.TICKED:
            await self._deliveries.confirm(item.key, f"{name}, {done}" + (f": {note}" if note else ""))

    def gauges(self) -> dict[str, dict[str, float]]:
        """Return what metrics show, by metric and channel, as of the last look. May be called from another thread."""
        now, known = self._clock.now(), dict(self._open)
        ages = {name: (now - min(since)).total_seconds() if since else 0.0 for name, since in known.items()}
        return {
            "unticked": {name: float(len(since)) for name, since in known.items()},
            "oldest_unticked_seconds": ages,
        }

    async def watch(self) -> None:
        """Count what is open, until cancelled."""
        cause = ""
        while True:
            try:
                await self._look()
                cause = ""
            except LalertError as error:
                if cause != error.detail:
                    cause = error.detail
                    log.warning("open rows of checklists cannot be counted", cause=cause)
            await self._clock.sleep(LOOK_S)

    async def _look(self) -> None:
        found: dict[str, list[datetime]] = {name: [] for name in self.channels}
        in_force = await self._in_force()
        for one in await self._subscriptions():
            found[one.channel] += [item.since for item in await self._of(one, in_force)]
        self._open = found

    async def _subscriptions(self) -> list[Subscription]:
        return [one for one in await self._deliveries.subscriptions() if one.channel in self.channels]

    async def _in_force(self) -> Mapping[str, Entry]:
        return {entry.position: entry for entry in await self._log.active(self._clock.now())}

    async def _of(
        self, subscription: Subscription, in_force: Mapping[str, Entry], *, everything: bool = False
    ) -> list[Item]:
        """Return the open rows of a task; with `everything` the newest of the others too."""
        rows = await self._deliveries.history(subscription.id, PER_TARGET)
        found: list[Item] = []
        for number, row in enumerate(rows):
            if (everything and number < SHOWN) or not (row.confirmed or row.position in self._over):
                item = await self._item(subscription, row, in_force)
                if item is not None and (item.state is State.OPEN or (everything and number < SHOWN)):
                    found.append(item)
        return found

    async def _item(
        self, subscription: Subscription, row: DeliveryRow, in_force: Mapping[str, Entry]
    ) -> Item | None:
        if row.state is not DeliveryState.DELIVERED:
            return None
        entry = in_force.get(row.position) or await self._log.entry(row.position)
        if entry is None:
            return None
        state = State.TICKED if row.confirmed is not None else _untouched(entry, in_force)
        if state is State.MISSED and self._clock.now() - entry.stored > LATE:
            self._over[row.position] = None
            if len(self._over) > REMEMBERED:
                self._over.popitem(last=False)
        words = row.detail if row.confirmed is not None else ""
        return Item(row.key, subscription, entry, row.updated, state, row.confirmed, words)


def _untouched(entry: Entry, in_force: Collection[str]) -> State:
    """Return how a row stands that nobody has ticked: what was replaced or has ended is not to be announced any more. A Cancel is."""
    over = entry.alert.msg_type in (MsgType.ALERT, MsgType.UPDATE) and entry.position not in in_force
    return State.MISSED if over else State.OPEN
