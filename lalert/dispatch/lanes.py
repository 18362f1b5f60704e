"""Which delivery of a target comes next, and how far its cursor may move: pure decisions, no clock and no I/O.

A lane is one durable target: its subscription, its cursor, and what waits for it. Nothing is written when something is planned, so a lane
must be able to say after every result which prefix of the log is settled (docs/adr/0005-lanes-and-cursors.md).
"""

from __future__ import annotations

import base64
import hashlib
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from lalert.dispatch.schedule import deadline, pause
from lalert.model import SEVERITY_RANK, Alert, Entry, Lease, MsgType, Status, Subscription

Order = tuple[int, ...]
"""What makes positions comparable (`AlertLog.order`)."""


class Mark(NamedTuple):
    """A position that can be compared; the order of one that the log does not know is empty, before everything."""

    order: Order
    position: str


QUICK_S: Final = 1.0
"""A failure that took less than this is an answer; longer, and the target hangs."""

SELDOM: Final = 4
"""Every how many rounds a target that hangs is asked for a second opinion all the same."""

REPLACES: Final = frozenset({MsgType.UPDATE, MsgType.CANCEL})
"""CAP 3.2.1 <msgType>: these supersede or withdraw what they refer to. An Error only says that somebody rejected it."""


def delivery_key(subscription_id: str, alert_id: str) -> str:
    """Return the name of one alert for one target: the same on every attempt, after a restart, on another node, and after a restored backup."""
    digest = hashlib.sha256(f"{subscription_id}\x00{alert_id}".encode()).digest()
    return base64.b32encode(digest[:20]).decode().lower()


@dataclass(frozen=True, slots=True, eq=False)
class Planned:
    """What lanes need to know of an entry: small, and shared by all of them, because a dead target may have a day of alerts waiting.

    `before` is the position just before it in the log (None where it was not met in the order of the log); `outdated` when it came after what
    replaces it; `urgency` sorts what goes first: no drill before drill, the gravest, the newest; `since` is the order of the oldest message that it
    continues or refers to, its own where it is the first, and empty where that is not known.
    """

    position: str
    order: Order
    before: Mark | None
    alert_id: str
    incident: str
    actual: bool
    supersedes: frozenset[str]
    outdated: bool
    urgency: tuple[bool, int, Order]
    stored: datetime
    expires: datetime | None
    deadline: datetime
    org: str = ""
    since: Order = ()

    def expired(self, now: datetime) -> bool:
        """Say whether the alert itself is over, and not only given up."""
        return self.expires is not None and self.expires <= now


def plan(
    entry: Entry,
    order: Order,
    before: Mark | None,
    lineage: Sequence[Entry],
    *,
    since: Order = (),
    max_age: timedelta,
    longest: timedelta,
) -> Planned:
    """Return what lanes need to know of an entry; `lineage` are the earlier entries that it continues or refers to.

    What changes or withdraws an alert is as urgent as the gravest thing its audience was told: a Cancel has no info, so no severity of its own, and
    the lifting of an order is a lower severity to the same people.
    """
    alert = entry.alert
    actual = alert.status is Status.ACTUAL
    told = [e.alert for e in lineage]
    gravest = max(SEVERITY_RANK[a.severity] for a in (alert, *told))
    return Planned(
        position=entry.position,
        order=order,
        before=before,
        alert_id=alert.id,
        incident=entry.incident,
        actual=actual,
        # Also what the log has found to be over, since many refer to the first message of a series for ever; and nothing that is not its own to
        # end: what another organisation, or a drill, said it would replace before it came.
        supersedes=frozenset(entry.replaced) | (_replaced_by(alert) & {a.id for a in told}),
        outdated=entry.outdated
        or any(alert.id in _replaced_by(a) and (a.status is Status.ACTUAL) == actual for a in told),
        urgency=(not actual, -gravest, tuple(-part for part in order)),
        stored=entry.stored,
        expires=alert.expires,
        deadline=deadline(entry.stored, alert.expires, max_age, longest),
        org=entry.origin.tenant or "",
        since=since,
    )


def _replaced_by(alert: Alert) -> frozenset[str]:
    return frozenset(ref.id for ref in alert.references) if alert.msg_type in REPLACES else frozenset()


@dataclass(slots=True)
class Tries:
    """What is remembered of one delivery that was tried: `due` in monotonic seconds; `recorded` once a row in the store says so.

    `until` is set for one that a person asked for again: it is tried until then, even when the alert is over.
    """

    attempts: int = 0
    due: float = 0.0
    recorded: bool = False
    until: datetime | None = None


class Gap:
    """What lanes that were loaded together have missed: everything after their cursors, up to `until`; None while some of them are still being loaded.

    Until that is planned for them, a lane is sent only what continues nothing of it, and what nothing has replaced that is planned already. Drills and real
    alerts (the index is `Planned.actual`) are planned, and `closed`, apart: neither replaces the other.
    """

    __slots__ = ("closed", "heads", "lanes", "lowest", "until")

    def __init__(self) -> None:
        self.lanes: dict[str, Lane] = {}
        self.lowest: Mark | None = None
        """The lowest cursor of all."""
        self.until: Order | None = None
        self.closed = [False, False]
        self.heads: set[str] = set()
        """Positions of what is the newest state of its incident, noted when all that came before it is planned."""

    def take(self, lane: Lane) -> None:
        """Let a lane belong here."""
        lane.gap = self
        self.lanes[lane.id] = lane
        self.lowest = lane.cursor if self.lowest is None else min(self.lowest, lane.cursor)

    def holds_back(self, planned: Planned) -> bool:
        """Say whether a lane must not be sent this yet: something that was missed may have replaced it, or has to be sent before."""
        if self.closed[planned.actual]:
            return False
        if self.until is None:
            return True
        if planned.order > self.until:
            return planned.since <= self.until
        return planned.position not in self.heads


class Lane:
    """One target. Times are monotonic seconds, except where they are datetimes.

    A lane has a circuit of its own. As long as the target answers, each delivery that failed waits for its own next try and holds up nobody. After
    a failure the next best delivery is tried at once, as a second opinion: does it pass, then the first one was at fault; does it fail too, or
    is there none, then the target is down, and one probe at a time, the most urgent delivery, follows the schedule. What arrives meanwhile
    starts the schedule afresh, so that every alert has its own dense minute.
    """

    __slots__ = (
        "_choice", "closed", "cursor", "down", "flying", "gap", "gate", "held", "lease", "lost", "lost_until", "not_before", "offered", "per_target",
        "rounds", "settled", "stamp", "stands", "subscription", "suspect", "tries", "waiting",
    )  # fmt: skip

    def __init__(
        self, subscription: Subscription, cursor: Mark, per_target: int, lease: Lease | None = None
    ) -> None:
        self.subscription = subscription
        self.lease = lease
        """Under what everything about it is written."""
        self.lost = False
        """Another node's by now: nothing more is sent or written."""
        self.cursor = cursor
        self.offered = [cursor.order, cursor.order]
        """How far drills and real alerts (the index is `Planned.actual`) were offered that the lane has missed: nothing of them is offered twice."""
        self.gap: Gap | None = None
        """What it has still to catch up with."""
        self.lost_until: Order | None = None
        """While a lane whose cursor the log does not know is planned anew from the oldest entry kept: how far rows have to be asked."""
        self.per_target = per_target
        self.waiting: list[Planned] = []
        """Everything unsettled, in the order of the log, what is under way included."""
        self.tries: dict[str, Tries] = {}
        self.flying: list[Planned] = []
        self.settled: set[str] = set()
        """Positions beyond the cursor that were settled before a restart."""
        self.held = 0
        """Results that are not durable yet: the lane goes on only after them, so that a crash repeats at most what was under way."""
        self.down = False
        self.suspect: str | None = None
        self.rounds = 0
        self.gate = 0.0
        self.not_before = 0.0
        """Until when the peer asked for peace (Retry-After)."""
        self.closed = False
        self.stamp = 0
        self.stands: tuple[object, tuple[bool, int, Order]] | None = None
        """In which queue of its outlet, and how urgent what it sends next is there."""
        self._choice: Planned | None = None
        """The best of what waits, as long as nothing failed or is under way and that is known: a lane is asked far more often than it changes."""

    @property
    def id(self) -> str:
        return self.subscription.id

    @property
    def doubtful(self) -> bool:
        """Say whether the last attempt failed."""
        return self.down or self.suspect is not None

    def find(self, order: Order) -> Planned | None:
        """Return what waits with this order."""
        if not self.waiting or self.waiting[-1].order < order:
            return None
        index = bisect_left(self.waiting, order, key=_order)
        return (
            self.waiting[index] if index < len(self.waiting) and self.waiting[index].order == order else None
        )

    def attempts(self, planned: Planned) -> int:
        """Return how often a delivery was tried."""
        tries = self.tries.get(planned.position)
        return tries.attempts if tries else 0

    def recorded(self, planned: Planned) -> bool:
        """Say whether a row in the store stands for it."""
        tries = self.tries.get(planned.position)
        return tries is not None and tries.recorded

    def replaced_by(self, newer: Planned) -> list[Planned]:
        """Return what waits and is replaced by `newer`; what is under way is left to finish.

        A drill never replaces a real alert: to a subscriber who asked for both, the real one is still owed.
        """
        if not newer.supersedes:
            return []
        return [
            w for w in self.waiting
            if w.alert_id in newer.supersedes and w.actual == newer.actual and w.order < newer.order and w not in self.flying
        ]  # fmt: skip

    def superseded(self, planned: Planned) -> bool:
        """Say whether something that waits replaces this one: it is then not tried again."""
        return any(
            w.supersedes and planned.alert_id in w.supersedes and w.actual == planned.actual
            for w in self.waiting
        )

    def add(self, planned: Planned, tries: Tries | None = None) -> None:
        """Let something wait."""
        if self.waiting and self.waiting[-1].order > planned.order:
            self._choice = None
            self.waiting.insert(bisect_left(self.waiting, planned.order, key=_order), planned)
        else:
            # What begins an incident of its own is the first of its chain: nothing that came before it can be in that chain.
            if planned.incident != planned.alert_id:
                self._choice = None
            elif self._choice is not None and not self.held_back(planned):
                self._choice = min(self._choice, planned, key=_urgency)
            self.waiting.append(planned)
        if tries is not None:
            self.tries[planned.position] = tries
        if self.down:
            self.rounds, self.gate = 0, 0.0

    def remove(self, planned: Planned) -> None:
        """Forget something that waited; harmless if it does not."""
        if self.find(planned.order) is not None:
            del self.waiting[bisect_left(self.waiting, planned.order, key=_order)]
            self._choice = None
        self.tries.pop(planned.position, None)
        if self.suspect == planned.position:
            self.suspect = None

    def overdue(self, now: datetime) -> list[Planned]:
        """Return what may not be sent any more at `now`, what is under way excepted."""
        return [
            w for w in self.waiting if w.deadline <= now and self._until(w) <= now and w not in self.flying
        ]

    def _until(self, planned: Planned) -> datetime:
        tries = self.tries.get(planned.position) if self.tries else None
        return max(planned.deadline, tries.until) if tries and tries.until else planned.deadline

    def choose(self, now: float) -> Planned | None:
        """Return what should be sent now, or None.

        Within an incident strictly in the order of the log; across incidents no drill before a real alert, then the gravest, then the newest.
        """
        return None if self._full else self._best(now)

    def must_yield(self, now: float) -> Planned | None:
        """Return the drill under way that takes a real alert's place, or None: real traffic never waits behind drills."""
        drill = next((f for f in self.flying if not f.actual), None) if self.flying else None
        if drill is None or not self._full:
            return None
        best = self._best(now)
        return drill if best is not None and best.actual and best.position != self.suspect else None

    def wakes_at(self) -> float | None:
        """Return from when on `choose` may have an answer; None while only a result can change that."""
        if self._full:
            return None
        heads = list(self._heads())
        if not heads:
            return None
        second_opinion = self.suspect is not None and any(w.position != self.suspect for w in heads)
        due = 0.0 if self.down or second_opinion else min(map(self._due, heads))
        return max(due, self.gate, self.not_before)

    def _best(self, now: float) -> Planned | None:
        if now < max(self.gate, self.not_before):
            return None
        plain = not (self.tries or self.flying or self.doubtful)
        if plain and self._choice is not None:
            return self._choice
        if plain:
            self._choice = min(self._heads(), key=_urgency, default=None)
            return self._choice
        heads = list(self._heads())
        others = [w for w in heads if w.position != self.suspect] if self.suspect is not None else []
        if others:
            return min(others, key=lambda w: (not w.actual, self.attempts(w), w.urgency))
        return min((w for w in heads if self.down or self._due(w) <= now), key=_urgency, default=None)

    @property
    def _full(self) -> bool:
        return len(self.flying) + self.held >= (1 if self.doubtful else self.per_target)

    def _due(self, planned: Planned) -> float:
        tries = self.tries.get(planned.position) if self.tries else None
        return tries.due if tries else 0.0

    def _heads(self) -> Iterator[Planned]:
        """Return the first of each incident that is not under way. Drills are chains of their own: a real Update never waits for a drill."""
        seen: set[tuple[str, bool]] = set()
        flying = {f.alert_id for f in self.flying}
        for planned in self.waiting:
            chain = (planned.incident, planned.actual)
            if chain in seen:
                continue
            seen.add(chain)
            # A revision that joins two incidents is in the chain of the first only, and must not overtake what it replaces in the other.
            if (
                planned.alert_id not in flying
                and flying.isdisjoint(planned.supersedes)
                and not self.held_back(planned)
            ):
                yield planned

    def missed_in(self, planned: Planned) -> Gap | None:
        """Return the gap that an entry belongs to; None if it is planned with those of the others."""
        gap = self.gap
        return gap if gap is not None and (gap.until is None or planned.order <= gap.until) else None

    def held_back(self, planned: Planned) -> bool:
        """Say whether the lane must catch up before it is sent this."""
        return self.gap is not None and self.gap.holds_back(planned)

    def look_afresh(self) -> None:
        """Choose anew from all that waits: less of it is held back than before."""
        self._choice = None

    def leave_gap(self) -> None:
        """Go on with the others: all that was missed is planned."""
        if self.gap is not None:
            until = self.gap.until or ()
            self.offered = [max(order, until) for order in self.offered]
            self.gap = None
            self.settled.clear()
            self._choice = None

    def take_off(self, planned: Planned) -> int:
        """Note that a delivery is under way; returns the number of this attempt, from 1."""
        self.flying.append(planned)
        return self.attempts(planned) + 1

    def put_back(self, planned: Planned) -> None:
        """Note that a delivery was called off before it had a result."""
        self.flying.remove(planned)

    def answered(self, planned: Planned) -> None:
        """Note that the target took or refused a delivery for good: it is settled, and the target is there."""
        self.flying.remove(planned)
        self.remove(planned)
        if self.down:
            for position, tries in self.tries.items():
                if position != self.suspect:
                    tries.due = 0.0
        self.down, self.suspect, self.rounds, self.gate = False, None, 0, 0.0

    def failed(
        self,
        planned: Planned,
        now: float,
        random: Callable[[], float],
        *,
        asked: float = 0.0,
        took: float = 0.0,
    ) -> float:
        """Note that a delivery failed and is to be tried again; returns the seconds until then.

        `asked` is the peace that the peer wants, `took` how long the attempt lasted.
        """
        self.flying.remove(planned)
        tries = self.tries.setdefault(planned.position, Tries())
        tries.attempts += 1
        wait = pause(tries.attempts, random, asked)
        tries.due = now + wait
        if asked:
            self.not_before = max(self.not_before, now + asked)
        elif (
            self.suspect is None and self._worth_asking(took) and any(w is not planned for w in self._heads())
        ):
            self.suspect = planned.position
            return wait
        self.down, self.suspect = True, None
        self.rounds += 1
        self.gate = now + pause(self.rounds, random, asked)
        return self.gate - now

    def _worth_asking(self, took: float) -> bool:
        """Say whether to ask for a second opinion.

        A target that is down and hangs is seldom asked: whatever hangs when it returns arrives first, and that should be the most urgent.
        """
        return not self.down or took < QUICK_S or self.rounds % SELDOM == SELDOM - 1

    def blocker(self, recorded: Collection[str] = ()) -> Planned | None:
        """Return the first that is neither settled nor in a row: the cursor must stay before it.

        `recorded` are positions whose rows are written in the same transaction.
        """
        unrecorded = (w for w in self.waiting if w.position not in recorded and not self.recorded(w))
        return next(unrecorded, None)

    def lose_place(self, until: Order) -> None:
        """Forget how far the log was offered, and what waits: all up to `until` is offered again, and rows say what of it is settled."""
        self._lose(until, self.waiting)

    def lose_place_in_gap(self, until: Order) -> None:
        """Do the same with what is in the gap, and leave what came after it."""
        self._lose(until, [w for w in self.waiting if self.missed_in(w) is not None])

    def _lose(self, until: Order, waiting: Iterable[Planned]) -> None:
        self.cursor, self.lost_until = Mark((), self.cursor.position), until
        self.offered = [(), ()]
        self.settled.clear()
        for planned in [w for w in waiting if w not in self.flying]:
            self.remove(planned)


def _order(planned: Planned) -> Order:
    return planned.order


def _urgency(planned: Planned) -> tuple[bool, int, Order]:
    return planned.urgency
