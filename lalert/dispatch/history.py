"""Writes down what each attempt said, apart from the results: no delivery waits for it, and none fails because it cannot be written."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

import structlog

from lalert.clock import Clock
from lalert.errors import LalertError
from lalert.store import Attempt, AttemptBook

log = structlog.get_logger("lalert.dispatch")

WAITING: Final = 5_000
"""Beyond so many the oldest is let go of."""
BATCH: Final = 250
GATHER_S: Final = 0.2
"""So long what is to be written gathers."""
PAUSE_S: Final = 5.0
"""After a write that the store could not take."""


class History:
    """Attempts on their way to the store. What has not got there when the process is killed is lost."""

    def __init__(self, store: AttemptBook, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._waiting: deque[Attempt] = deque(maxlen=WAITING)
        self._work = asyncio.Event()
        self._cause = ""

    def note(self, attempt: Attempt) -> None:
        self._waiting.append(attempt)
        self._work.set()

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._work.wait()
            self._work.clear()
            await self._clock.sleep(GATHER_S)
            if not await self.flush():
                self._work.set()
                await self._clock.sleep(PAUSE_S)

    async def flush(self) -> bool:
        """Write what waits; returns False if the store could not take it, and keeps the rest."""
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
            try:
                await self._store.add_attempts(batch)
            except LalertError as error:
                # In front again, as far as there is room: what came meanwhile is newer.
                room = WAITING - len(self._waiting)
                self._waiting.extendleft(reversed(batch[len(batch) - min(room, len(batch)) :]))
                self._say(error.detail)
                return False
        self._say("")
        return True

    def _say(self, cause: str) -> None:
        if cause and cause != self._cause:
            log.warning("the history of attempts cannot be written; deliveries go on", cause=cause)
        self._cause = cause
