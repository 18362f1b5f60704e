"""Follows the log for planning: every entry once, without a gap, whatever the bus and the store do meanwhile, and what is urgent before what is large."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Final, Protocol

from lalert.dispatch.lanes import Mark, Order
from lalert.dispatch.planning import PATIENCE, Pace
from lalert.errors import UnknownPosition
from lalert.model import Entry
from lalert.store import AlertLog

MOST_OPEN: Final = 128
"""How many entries are planned side by side."""

MOST_BEHIND: Final = 10_000
"""How many may be done while one that came before them is not."""

SMALL: Final = 500
"""Lanes that an entry is offered to before it counts as a large one. Every other turn goes to those that are not large yet, so that a flood to one town is not felt in another."""


class Planning(Protocol):
    """An entry that is being planned (`planning.Planning`)."""

    @property
    def urgency(self) -> tuple[bool, int, Order]: ...

    @property
    def incidents(self) -> Collection[str]: ...

    @property
    def served(self) -> float: ...

    async def step(self) -> bool: ...


Plan = Callable[[Entry, Mark | None], Awaitable[Planning | None]]
"""Begins with an entry, and where the one just before it is (None: unknown); returns None if it concerns nobody. Called again with the same entry if it raises."""


@dataclass(slots=True, eq=False)
class _Open:
    """An entry that was begun, and where it is."""

    mark: Mark


class Follower:
    """Registered first, then reads history, then drops the overlap.

    What arrives by the bus waits in a bounded queue; when that overflows, or at the start, the log itself is read. Entries are begun in the order of the log and planned side by side: the
    gravest and then the newest first, those of one incident one after the other; with `most_open` = 1 strictly one after the other. `examined` is the position up to which everything was planned. When the log does not know that position (another epoch, or trimmed) it starts
    over, and says so to `lost`. While `gives_way` says so, others have more turns.
    """

    def __init__(
        self,
        store: AlertLog,
        plan: Plan,
        lost: Callable[[], None],
        *,
        pace: Pace,
        page: int,
        arrivals: int,
        most_open: int = MOST_OPEN,
        gives_way: Callable[[], bool] = lambda: False,
    ) -> None:
        self.examined: Mark | None = None
        self.begun: Order = ()
        """How far planning was begun."""
        self._store = store
        self._plan = plan
        self._lost = lost
        self._pace = pace
        self._page = page
        self._limit = arrivals
        self._most_open = most_open
        self._gives_way = gives_way
        self._last: Mark | None = None
        """The newest entry that was begun, or what everything is planned after."""
        self._open: deque[_Open] = deque()
        """What was begun behind `examined`, in the order of the log, what is done already included."""
        self._waiting: dict[_Open, Planning] = {}
        """What of it is not done, in the same order."""
        self._small_next = False
        self._arrivals: deque[Entry] = deque()
        self._missed = False
        self._starts = 0
        self._heard = asyncio.Event()
        self._canaries: list[Callable[[], None]] = []

    @property
    def busy(self) -> bool:
        """Say whether anything was begun that is not planned for everybody."""
        return bool(self._open)

    def watch(self, sighted: Callable[[], None]) -> None:
        """Call `sighted` once planning has gone a step further, or nothing is left to be planned."""
        self._canaries.append(sighted)
        self._heard.set()

    def hear(self, entry: Entry) -> None:
        """Take what the bus says."""
        if len(self._arrivals) >= self._limit:
            self._arrivals.clear()
            self._missed = True
        self._arrivals.append(entry)
        self._heard.set()

    def begin(self, examined: Mark | None) -> None:
        """Plan everything after this (None: everything that is kept); what the log has of it first."""
        self.examined = self._last = examined
        self._missed = True

    def start_over(self) -> None:
        """Plan everything from the oldest entry that is kept."""
        self.begun = ()
        self._starts += 1
        self._open.clear()
        self._waiting.clear()
        self._arrivals.clear()
        self.begin(None)
        self._heard.set()

    async def run(self) -> None:
        """Plan what arrives, until cancelled."""
        while True:
            if self._missed:
                self._missed = False
                try:
                    await self._read()
                except BaseException:
                    self._missed = True
                    raise
            while self._arrivals and not self._missed and not self._full:
                # Left in the queue until it is begun: whatever fails here is begun again, and nothing is skipped.
                entry = self._arrivals[0]
                if self._is_new(entry):
                    await self._take(entry)
                if self._arrivals and self._arrivals[0] is entry:
                    self._arrivals.popleft()
            if self._waiting:
                await self._step()
            elif not self._missed:
                self.sight()
                self._heard.clear()
                await self._heard.wait()

    async def read_on(self, until: Order | None = None) -> None:
        """Plan all that the log has, to the end, or up to and with `until`."""
        self._missed = True
        while self._missed:
            self._missed = False
            await self._read(until)
            while self._waiting:
                await self._step()

    async def _read(self, until: Order | None = None) -> None:
        """Begin with all that the log has."""
        while until is None or self._last is None or self._last.order < until:
            try:
                page = await self._store.read(self._last.position if self._last else None, self._page)
            except UnknownPosition:
                self._lose()
                continue
            if not page:
                return
            starts = self._starts
            for entry in page:
                if until is not None and self._store.order(entry.position) > until:
                    return
                while self._full:
                    await self._step()
                if starts == self._starts:
                    await self._take(entry)

    def _is_new(self, entry: Entry) -> bool:
        try:
            return self._last is None or self._store.order(entry.position) > self._last.order
        except UnknownPosition:
            self._lose()
            return False

    def _lose(self) -> None:
        self.start_over()
        self._lost()

    async def _take(self, entry: Entry) -> None:
        starts = self._starts
        self.begun = order = self._store.order(entry.position)
        planning = await self._plan(entry, self._last)
        if starts != self._starts:
            return
        self._last = Mark(order, entry.position)
        one = _Open(self._last)
        self._open.append(one)
        if planning is not None:
            self._waiting[one] = planning
        self._close()

    async def _step(self) -> None:
        """Plan a little more of what is next."""
        self._small_next = not self._small_next
        one, planning = self._next()
        if await planning.step():
            self._waiting.pop(one, None)
            self._close()
        if self._pace.spent:
            self.sight()
            await self._pace.rest(PATIENCE if self._gives_way() else 0)

    def _next(self) -> tuple[_Open, Planning]:
        waiting = list(self._waiting.items())
        chosen = min(waiting, key=lambda each: each[1].urgency)
        if self._small_next:
            least = min(waiting, key=lambda each: each[1].served)
            chosen = least if least[1].served < SMALL else chosen
        # What continues an incident waits for what came before it, and that perhaps for something else.
        first = None
        while first is not chosen:
            first = chosen
            incidents = frozenset(chosen[1].incidents)
            chosen = next(
                each for each in waiting if each is chosen or not incidents.isdisjoint(each[1].incidents)
            )
        return chosen

    @property
    def _full(self) -> bool:
        return len(self._waiting) >= self._most_open or len(self._open) >= MOST_BEHIND

    def _close(self) -> None:
        """Move on over what is planned for everybody."""
        while self._open and self._open[0] not in self._waiting:
            self.examined = self._open.popleft().mark
        self.sight()

    def sight(self) -> None:
        """Let canaries pass: planning goes on."""
        canaries, self._canaries = self._canaries, []
        for sighted in canaries:
            sighted()
