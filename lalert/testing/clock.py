"""A clock that moves only when a test moves it."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from datetime import UTC, datetime, timedelta

START = datetime(2026, 6, 1, tzinfo=UTC)


class FakeClock:
    """Stands for `clock.Clock`: `advance` moves it and wakes whoever sleeps until then, in the order of their times."""

    def __init__(self, now: datetime = START) -> None:
        if now.tzinfo is None:
            raise ValueError("a clock needs an aware time")
        self._now = now.astimezone(UTC)
        self._monotonic = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    @property
    def sleeping(self) -> int:
        """Return how many are asleep, so that a test can wait until what it tests has gone to sleep."""
        return sum(not future.done() for _, _, future in self._sleepers)

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    async def sleep(self, seconds: float) -> None:
        """Sleep until the clock has been advanced by as much; nothing or less only lets others run."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._monotonic + seconds, next(self._order), woken))
        await woken

    def move(self, seconds: float) -> None:
        """Move the clock and wake nobody: for code that only asks what time it is."""
        if seconds < 0:
            raise ValueError("a clock does not go back; use step for a wrong wall clock")
        self._monotonic += seconds
        self._now += timedelta(seconds=seconds)

    def step(self, now: datetime) -> None:
        """Set the wall clock alone, forward or back, as an operator or NTP would."""
        self._now = now.astimezone(UTC)

    async def advance(self, seconds: float) -> None:
        """Move the clock, stopping at the time of every sleeper on the way to let it run (and perhaps sleep again)."""
        if seconds < 0:
            raise ValueError("a clock does not go back; use step for a wrong wall clock")
        until = self._monotonic + seconds
        while self._sleepers and self._sleepers[0][0] <= until:
            due, _, woken = heapq.heappop(self._sleepers)
            self.move(max(0.0, due - self._monotonic))
            if not woken.done():
                woken.set_result(None)
                await _let_run()
        self.move(max(0.0, until - self._monotonic))
        await _let_run()


async def _let_run() -> None:
    # Enough turns of the loop for one who was woken to act, hand on and go to sleep again.
    for _ in range(10):
        await asyncio.sleep(0)
