"""When something ends by itself: one look at the clock for the next end, and none at what else is in force.

The log knows from an index what ends when, and only of what nothing has replaced or cancelled: whoever was told of a successor needs no
second word. So ten thousand alerts in force cost nothing, and a restart forgets nothing.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime
from typing import Final, Protocol

from lalert.clock import Clock
from lalert.live.fanout import FanOut
from lalert.model import Entry

log = logging.getLogger(__name__)

RETRY_SECONDS: Final = 1.0
"""Between two looks while the store does not answer."""


class Log(Protocol):
    """What this needs of the store (`store.AlertLog`)."""

    async def next_end(self, after: datetime) -> datetime | None: ...

    async def ended(self, after: datetime, upto: datetime) -> list[str]: ...


class Ends:
    """Gives the fan-out the positions of what has just ended. `tick` is called twice a second: an end is told within one second of it."""

    def __init__(self, log: Log, fan_out: FanOut, clock: Clock) -> None:
        self._log = log
        self._fan_out = fan_out
        self._clock = clock
        self._next: datetime | None = clock.now()
        self._due = asyncio.Event()

    def hear(self, entry: Entry) -> None:
        """Take note of an entry just published: it may end before all others."""
        expires = entry.alert.expires
        if expires is not None and expires > self._clock.now():
            self._expect(expires)

    def tick(self) -> None:
        """Look whether the next end has come. Compared with the clock and not slept for: the wall clock may be set."""
        now = self._clock.now()
        if now < self._fan_out.told:
            # The clock was set back: what ends anew is told anew, and what ends next may be something else.
            self._fan_out.told = now
            self._due.set()
        if self._next is not None and self._next <= now:
            self._due.set()

    async def run(self) -> None:
        """Tell of each end when it has come, until cancelled."""
        cause = ""
        while True:
            await self._due.wait()
            self._due.clear()
            try:
                await self._look()
                cause = ""
            except Exception as error:
                if repr(error) != cause:
                    cause = repr(error)
                    log.exception("it cannot be found out what has ended; live delivery asks again")
                await self._clock.sleep(RETRY_SECONDS)
                self._due.set()

    async def _look(self) -> None:
        now = self._clock.now()
        self._next = None  # before anything is waited for: what is heard of meanwhile stays
        positions = await self._log.ended(self._fan_out.told, now)
        coming = await self._log.next_end(now)
        if self._clock.now() < now:
            # The clock was set back meanwhile: what was found is not over yet.
            self._due.set()
            return
        self._fan_out.end(positions, now)
        if coming is not None:
            self._expect(coming)

    def _expect(self, end: datetime) -> None:
        # What was heard of during a look may end before what the look has found.
        self._next = end if self._next is None else min(self._next, end)
