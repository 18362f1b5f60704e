"""The lanes of one channel: which of them is next, and how much may be under way at once. No I/O, no clock."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter, deque
from dataclasses import dataclass
from datetime import datetime
from heapq import heappop, heappush

from lalert.dispatch.lanes import Lane, Order, Planned
from lalert.plugin import ByHand, Channel
from lalert.store import DeliveryState

Urgency = tuple[bool, int, Order]


@dataclass(slots=True, eq=False)
class Flight:
    """A delivery under way, `since` a time in monotonic seconds. `called_off` when it makes way for a real alert; `confirmed` when the far end was quicker than its own answer."""

    lane: Lane
    planned: Planned
    key: str
    doubtful: bool
    since: float = 0.0
    task: asyncio.Task[None] | None = None
    begun: bool = False
    called_off: bool = False
    confirmed: datetime | None = None

    def call_off(self) -> None:
        """End it without a result: it will be sent again with the same key."""
        self.called_off = True
        # A task that is cancelled before its first step runs no line of its own, so nobody would ever note that the flight is over.
        if self.task is not None and self.begun:
            self.task.cancel()


class Queue:
    """Lanes by the urgency of what they send next; equals in the order in which they came.

    What is planned for all lanes has one urgency for all of them, so this is a line for each alert and not a heap of lanes. A lane that has come to
    stand elsewhere is passed over where it stood before.
    """

    def __init__(self) -> None:
        self._lines: dict[Urgency, deque[Lane]] = {}
        self._order: list[Urgency] = []

    def put(self, lane: Lane, urgency: Urgency) -> None:
        """Let a lane stand here, and nowhere else."""
        if lane.stands is not None and lane.stands[0] is self and lane.stands[1] == urgency:
            return
        lane.stands = (self, urgency)
        line = self._lines.get(urgency)
        if line is None:
            line = self._lines[urgency] = deque()
            heappush(self._order, urgency)
        line.append(lane)

    def first(self) -> Urgency | None:
        """Return the urgency of who is next, None if nobody stands here."""
        while self._order:
            urgency = self._order[0]
            line = self._lines[urgency]
            while line:
                stands = line[0].stands
                if stands is not None and stands[0] is self and stands[1] == urgency:
                    return urgency
                line.popleft()
            heappop(self._order)
            del self._lines[urgency]
        return None

    def pop(self) -> Lane:
        """Take out who is next; `first` has said that there is one."""
        lane = self._lines[self._order[0]].popleft()
        lane.stands = None
        return lane


class Outlet:
    """One channel with its lanes. Idle lanes cost nothing: only those with something to send stand in a queue.

    Lanes whose last attempt failed have a quarter of the channel's room to themselves and never get more, so that a hundred dead
    targets that each hold a connection until it times out cost the healthy ones nothing.
    """

    def __init__(self, name: str, channel: Channel) -> None:
        self.name = name
        self.channel = channel
        self.by_hand = isinstance(channel, ByHand) and channel.by_hand
        self.lanes: dict[str, Lane] = {}
        self.busy: dict[str, Lane] = {}
        """Those with something to send."""
        self.flights: dict[str, Flight] = {}
        self.counts: Counter[DeliveryState] = Counter()
        self.failures = 0
        self._limit = channel.limits.in_flight
        self._probes = max(1, self._limit // 4) if self._limit > 1 else 0
        self._probing = 0
        self._drills = 0
        self._sound = Queue()
        self._doubtful = Queue()
        self._later: list[tuple[float, int, int, Lane]] = []
        self._serial = itertools.count()

    def place(self, lane: Lane, now: float) -> None:
        """Look at a lane again: after anything that may change what it sends next, or when."""
        lane.stamp += 1
        planned = lane.choose(now) if self.mark(lane) else None
        if planned is not None:
            (self._doubtful if lane.doubtful else self._sound).put(lane, planned.urgency)
            return
        lane.stands = None
        if lane.waiting and not lane.closed and (when := lane.wakes_at()) is not None:
            heappush(self._later, (when, next(self._serial), lane.stamp, lane))

    def mark(self, lane: Lane) -> bool:
        """Note, and say, whether a lane has something to send."""
        if lane.closed or not lane.waiting:
            self.busy.pop(lane.id, None)
            return False
        self.busy[lane.id] = lane
        return True

    def take(self, now: float) -> tuple[Lane, Planned] | None:
        """Return what to send next, or None while there is nothing or no room."""
        while self._sleeps() and self._later[0][0] <= now:
            self.place(heappop(self._later)[3], now)
        for queue, doubtful in ((self._sound, False), (self._doubtful, True)):
            while queue.first() is not None and self._room(doubtful):
                lane = queue.pop()
                planned = lane.choose(now)
                if planned is not None:
                    return lane, planned
                self.place(lane, now)
        return None

    def launch(self, flight: Flight) -> int:
        """Note that a delivery is under way; returns the number of its attempt, from 1."""
        self.flights[flight.key] = flight
        self._probing += flight.doubtful
        self._drills += not flight.planned.actual
        return flight.lane.take_off(flight.planned)

    def land(self, flight: Flight) -> None:
        """Note that it is not any more."""
        # A lane that was lost and came back may have sent it again before this one was off.
        if self.flights.get(flight.key) is flight:
            del self.flights[flight.key]
        self._probing -= flight.doubtful
        self._drills -= not flight.planned.actual

    def wakes_at(self) -> float | None:
        """Return when the next sleeping lane is due."""
        return self._later[0][0] if self._sleeps() else None

    def drill_in_the_way(self) -> Flight | None:
        """Return a drill under way whose room a real alert needs now; one at a time."""
        if not self._drills or any(flight.called_off for flight in self.flights.values()):
            return None
        for queue, doubtful in ((self._sound, False), (self._doubtful, True)):
            urgency = queue.first()
            if urgency is not None and not urgency[0] and not self._room(doubtful):
                drills = (f for f in self.flights.values() if f.doubtful == doubtful and not f.planned.actual)
                if (drill := next(drills, None)) is not None:
                    return drill
        return None

    def _room(self, doubtful: bool) -> bool:
        if len(self.flights) >= self._limit:
            return False
        if doubtful:
            return self._probing < max(1, self._probes)
        return (
            self._doubtful.first() is None or len(self.flights) - self._probing < self._limit - self._probes
        )

    def _sleeps(self) -> bool:
        later = self._later
        while later and later[0][2] != later[0][3].stamp:
            heappop(later)
        return bool(later)
