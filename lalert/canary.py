"""The canary: shows, on the way that an alert takes, that alerts get through; it never is one, and reaches nobody.

It is written into the store and read back, goes out on the bus, and is sighted by each part that has to hear of every alert. A part sights it
once it has dealt with what came before, or at least with the next of it: a part that has much to do is not ill, one that does nothing is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol, Self

import structlog

from lalert.bus import Aviary
from lalert.clock import Clock
from lalert.errors import LalertError

log = structlog.get_logger("lalert.canary")

EVERY_S: Final = 1.0
"""One flight in so many seconds at most, whoever asks."""

STORE_S: Final = 2.5
"""How long the store may take; its own patience is a little shorter, and its words are better."""

FLIGHT_S: Final = 1.5
"""How long the parts may take after that: with `EVERY_S` and `STORE_S`, what is broken is known within five seconds."""

WELL: Final = "ok"


class Checked(Protocol):
    """What is asked of the store."""

    async def check(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Report:
    """What a flight found: `checks` by part, "ok" or what is wrong. `begun` is in monotonic seconds, `took` in seconds."""

    checks: Mapping[str, str]
    begun: float
    took: float

    @property
    def well(self) -> bool:
        return all(found == WELL for found in self.checks.values())


class Canary:
    """Lets a canary fly when somebody asks. An async context manager: what is in the air at the end is called off.

    `parts` maps the names under which parts watch for it to their names in a sentence.
    """

    def __init__(self, store: Checked, aviary: Aviary, clock: Clock, parts: Mapping[str, str]) -> None:
        self._store = store
        self._aviary = aviary
        self._clock = clock
        self._parts = parts
        self._flight: asyncio.Task[Report] | None = None
        self._causes: dict[str, str] = {}
        self.last: Report | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._flight is not None:
            self._flight.cancel()
            await asyncio.gather(self._flight, return_exceptions=True)

    @property
    def age(self) -> float:
        """Return how many seconds ago the last flight that is over began; 0 before the first."""
        return 0.0 if self.last is None else self._clock.monotonic() - self.last.begun

    def stats(self) -> dict[str, float]:
        """Return what metrics show of the last flight: its age and how long it took, in seconds, and whether all was well (1 before the first)."""
        last = self.last
        return {
            "age_seconds": self.age,
            "seconds": last.took if last else 0.0,
            "well": float(last is None or last.well),
        }

    async def report(self) -> Report:
        """Return the last report if it is of this second, else that of the flight under way or a new one."""
        if self._flight is None or self._flight.done():
            if self.last is not None and self.age < EVERY_S:
                return self.last
            self._flight = asyncio.create_task(self._fly(), name="canary")
        # Whoever asked may go away; the others still want to know.
        return await asyncio.shield(self._flight)

    async def _fly(self) -> Report:
        begun = self._clock.monotonic()
        checks = {"store": await self._store_state(), **await self._sightings()}
        self._say(checks)
        self.last = Report(checks, begun, self._clock.monotonic() - begun)
        return self.last

    async def _store_state(self) -> str:
        try:
            async with asyncio.timeout(STORE_S):
                await self._store.check()
        except LalertError as error:
            return error.detail
        except TimeoutError:
            return f"did not answer within {STORE_S:g} seconds"
        except Exception as error:
            log.exception("the store's check failed for a reason of its own")
            return f"cannot be checked: {type(error).__name__}"
        return WELL

    async def _sightings(self) -> dict[str, str]:
        missing = set(self._parts)
        all_there = asyncio.Event()

        def sighted(name: str) -> None:
            missing.discard(name)
            if not missing:
                all_there.set()

        watching = self._aviary.release(sighted)
        try:
            async with asyncio.timeout(FLIGHT_S if missing & watching else 0.0):
                await all_there.wait()
        except TimeoutError:
            pass
        return {name: self._state(name, watching, missing) for name in self._parts}

    def _state(self, name: str, watching: frozenset[str], missing: set[str]) -> str:
        if name not in missing:
            return WELL
        if name not in watching:
            return f"{self._parts[name]} do not hear of new alerts"
        return f"{self._parts[name]} stand still: nothing happened within {FLIGHT_S:g} seconds"

    def _say(self, checks: Mapping[str, str]) -> None:
        """Log each change once: somebody may ask every second."""
        for name, found in checks.items():
            if found == self._causes.get(name, WELL):
                continue
            self._causes[name] = found
            if found == WELL:
                log.info("the canary comes through again", part=name)
            else:
                log.error("the canary does not come through", part=name, cause=found)
