"""Follows the log for planning: every entry once, in order, without a gap, whatever the bus and the store do meanwhile."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from lalert.dispatch.lanes import Mark, Order
from lalert.errors import UnknownPosition
from lalert.model import Entry
from lalert.store import AlertLog

Plan = Callable[[Entry, Mark | None], Awaitable[None]]
"""Takes an entry and where the one just before it is (None: unknown). Called again with the same entry if it raises."""


class Follower:
    """Registered first, then reads history, then drops the overlap.

    What arrives by the bus waits in a bounded queue; when that overflows, or at the start, the log itself is read. `examined` is the position up to
    which everything was planned. When the log does not know that position (another epoch, or trimmed) it starts over, and says so to `lost`.
    """

    def __init__(
        self, store: AlertLog, plan: Plan, lost: Callable[[], None], *, page: int, arrivals: int
    ) -> None:
        self.examined: Mark | None = None
        self.begun: Order = ()
        """How far planning was begun: up to `examined`, or the entry that is just being planned."""
        self._store = store
        self._plan = plan
        self._lost = lost
        self._page = page
        self._limit = arrivals
        self._arrivals: deque[Entry] = deque()
        self._missed = False
        self._starts = 0
        self._heard = asyncio.Event()
        self._canaries: list[Callable[[], None]] = []

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

    def begin(self, examined: Mark) -> None:
        """Plan everything after this; what the log has of it first."""
        self.examined = examined
        self._missed = True

    def start_over(self) -> None:
        """Plan everything from the oldest entry that is kept."""
        self.examined, self.begun = None, ()
        self._starts += 1
        self._arrivals.clear()
        self._missed = True
        self._heard.set()

    async def run(self) -> None:
        """Plan what arrives, until cancelled."""
        while True:
            if self._missed:
                self._missed = False
                try:
                    await self.read_on()
                except BaseException:
                    self._missed = True
                    raise
            while self._arrivals and not self._missed:
                # Left in the queue until it is planned: whatever fails here is begun again, and nothing is skipped.
                entry = self._arrivals[0]
                if self._is_new(entry):
                    await self._take(entry)
                if self._arrivals and self._arrivals[0] is entry:
                    self._arrivals.popleft()
            if not self._missed:
                self.sight()
                self._heard.clear()
                await self._heard.wait()

    async def read_on(self) -> None:
        """Plan all that the log has."""
        while True:
            try:
                page = await self._store.read(self.examined.position if self.examined else None, self._page)
            except UnknownPosition:
                self.start_over()
                self._lost()
                continue
            if not page:
                return
            for entry in page:
                await self._take(entry)

    def _is_new(self, entry: Entry) -> bool:
        try:
            return self.examined is None or self._store.order(entry.position) > self.examined.order
        except UnknownPosition:
            self.start_over()
            self._lost()
            return False

    async def _take(self, entry: Entry) -> None:
        starts = self._starts
        self.begun = order = self._store.order(entry.position)
        await self._plan(entry, self.examined)
        if starts == self._starts:
            self.examined = Mark(order, entry.position)
        self.sight()

    def sight(self) -> None:
        """Let canaries pass: planning goes on."""
        canaries, self._canaries = self._canaries, []
        for sighted in canaries:
            sighted()
