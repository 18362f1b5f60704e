"""One entry on its way to all lanes that want it, a little at a time, so that a flood of them is planned side by side."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from lalert.dispatch.groups import Groups
from lalert.dispatch.lanes import Lane, Planned
from lalert.model import Entry, Filter

TURN: Final = 50
"""How many lanes are looked at before everybody else has a turn on the loop: about half a millisecond."""
FILTER: Final = 5
"""To ask a filter, or to index it, takes as long as to look at so many lanes."""
PASSED_OVER: Final = 0.1
"""To pass over a lane takes this much of it."""
PATIENCE: Final = 4
"""So many turns whoever can wait leaves to a new real alert before having one."""


class Pace:
    """Shares a turn of the loop among all who look at lanes (real alerts, drills, lanes that are behind), so that together they take no more than one would."""

    def __init__(self) -> None:
        self._looked = 0.0
        self._one = asyncio.Lock()

    @property
    def spent(self) -> bool:
        """Say whether it is time for everybody else to have a turn."""
        return self._looked >= TURN

    def spend(self, weight: float = 1) -> None:
        """Note that so many lanes were looked at."""
        self._looked += weight

    async def rest(self, patience: int = 0) -> None:
        """Let everybody else have a turn, if it is time, and the others so many more."""
        if self.spent:
            for _ in range(patience):
                await asyncio.sleep(0)
            # Of those who wait here one goes on in each turn.
            async with self._one:
                await asyncio.sleep(0)
                self._looked = 0.0


class Planning:
    """Offers an entry to every lane that wants it, each once. Nothing is written: a lane's cursor stays before it until it is settled.

    `incidents` are those that it continues: what shares one with it is offered in the order of the log. `served` counts the lanes looked at.
    """

    def __init__(
        self,
        entry: Entry,
        planned: Planned,
        lineage: Sequence[Entry],
        *,
        pace: Pace,
        groups: Groups,
        wanted: Callable[[Filter, Entry, Sequence[Entry]], bool],
        passes_over: Callable[[Lane], bool],
        offer: Callable[[Lane, Planned, Entry], Awaitable[bool]],
        finished: Callable[[Planned, Counter[str]], None],
    ) -> None:
        self.urgency = planned.urgency
        self.incidents = frozenset({entry.incident, *(earlier.incident for earlier in lineage)})
        self.served = 0.0
        self._entry = entry
        self._planned = planned
        self._lineage = lineage
        self._pace = pace
        self._groups = groups
        self._wanted = wanted
        self._passes_over = passes_over
        self._offer = offer
        self._finished = finished
        self._filters: deque[tuple[Filter, bool]] | None = None
        self._lanes: deque[Lane] = deque()
        self._changed: deque[Lane] = deque()
        self._offered: set[str] = set()
        self._by_channel: Counter[str] = Counter()

    def change(self, lane: Lane) -> None:
        """Note that a lane has come to have another filter: it may be under none of those that were found."""
        self._changed.append(lane)

    async def step(self) -> bool:
        """Go on until this turn is spent; returns whether all have been offered it. Raises what the store raises; then the next step begins with the same lane."""
        if self._filters is None:
            self._filters = deque(self._groups.candidates(self._entry, self._lineage).items())
        while not self._pace.spent:
            if self._lanes:
                await self._take(self._lanes[0])
                self._lanes.popleft()
            elif self._filters:
                self._ask(*self._filters.popleft())
            elif self._changed:
                self._look_again(self._changed.popleft())
            else:
                self._finished(self._planned, self._by_channel)
                return True
        return False

    def _ask(self, filter: Filter, known: bool) -> None:
        if not known:
            self._spend(FILTER)
        if known or self._wanted(filter, self._entry, self._lineage):
            self._lanes.extend(self._groups.lanes(filter))

    def _look_again(self, lane: Lane) -> None:
        if self._wanted(lane.subscription.filter, self._entry, self._lineage):
            self._lanes.append(lane)

    async def _take(self, lane: Lane) -> None:
        if self._passes_over(lane):
            self._spend(PASSED_OVER)
            return
        self._spend(1)
        if lane.id not in self._offered:
            if await self._offer(lane, self._planned, self._entry):
                self._by_channel[lane.subscription.channel] += 1
            self._offered.add(lane.id)

    def _spend(self, weight: float) -> None:
        self.served += weight
        self._pace.spend(weight)
