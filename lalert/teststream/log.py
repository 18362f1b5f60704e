"""The test stream's log, which keeps nothing: what it says of any step is made from the step's number."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Final

from lalert import lifecycle, matching
from lalert.clock import Clock
from lalert.errors import BadRequest, UnknownPosition
from lalert.geo import Gazetteer
from lalert.model import Entry, MsgType, Origin, OriginKind
from lalert.teststream.script import EVERY_SECONDS, STEPS, alert_at, due, step_at

KEPT: Final = 30
"""Steps that can be gone back: five minutes. From before, there is a gap, as from what a hub no longer keeps."""

AHEAD: Final = 1
"""Another node's clock may be so many steps ahead."""

MISSED: Final = 6
"""After a standstill so many steps are told; who wants more asks for them."""

ORIGIN: Final = Origin(OriginKind.ADAPTER)

_POSITION: Final = re.compile(r"test-([0-9]{1,18})", re.ASCII)


class TestLog:
    """Keeps as much of `store.AlertLog` as the live streams ask. `play` moves it on."""

    __test__ = False  # pytest takes it for a test by its name

    def __init__(self, gazetteer: Gazetteer, clock: Clock, every: float = EVERY_SECONDS) -> None:
        self.every = every
        self.step = step_at(clock.now(), every)
        self._gazetteer = gazetteer
        self._entry = lru_cache(maxsize=2 * KEPT)(self._made)

    @property
    def newest(self) -> str:
        return _position(self.step)

    def order(self, position: str) -> tuple[int, ...]:
        found = _POSITION.fullmatch(position)
        if found is None:
            raise BadRequest(f"position: {position[:80]!r} is none of the test stream")
        step = int(found[1])
        if step > self.step + AHEAD:
            raise UnknownPosition("the test stream has not come to that position")
        return (step,)

    async def reach(self, position: str) -> None:
        """Every node knows every step by itself."""

    def require_kept(self, after: str) -> None:
        if self.order(after)[0] < self.step - KEPT:
            raise UnknownPosition("the test stream goes back five minutes")

    async def read(self, after: str | None, limit: int) -> list[Entry]:
        first = self.step - KEPT + 1
        if after is not None:
            first = max(first, self.order(after)[0] + 1)
        steps = range(first, min(first + limit, self.step + 1))
        # Each takes milliseconds to be made: those who catch up on a test must not take them from an alert.
        return await asyncio.to_thread(lambda: [self._entry(step) for step in steps])

    async def lineage(self, entry: Entry) -> list[Entry]:
        (step,) = self.order(entry.position)
        return [self._entry(earlier) for earlier in range(step - step % STEPS, step)]

    async def entry(self, position: str) -> Entry | None:
        (step,) = self.order(position)
        return self._entry(step) if self.step - KEPT <= step <= self.step + AHEAD else None

    async def active(self, now: datetime) -> list[Entry]:  # noqa: ARG002  # a round is cancelled long before it expires
        newest = self._entry(self.step)
        return [] if newest.alert.msg_type is MsgType.CANCEL else [newest]

    async def next_end(self, after: datetime) -> datetime | None:  # noqa: ARG002
        return None

    async def ended(self, after: datetime, upto: datetime, limit: int | None = None) -> list[str]:  # noqa: ARG002
        return []

    def go_on(self, now: datetime) -> list[Entry]:
        """Come to what is due at `now` and return what is new of it; nothing where the clock was set back."""
        last, self.step = self.step, max(self.step, step_at(now, self.every))
        return [self._entry(step) for step in range(max(last, self.step - MISSED) + 1, self.step + 1)]

    def _made(self, step: int) -> Entry:
        """Return the entry of a step as a hub would have taken it, received and stored when it was due."""
        alert = alert_at(step, self.every)
        facts = matching.facts_of(alert, self._gazetteer)
        before = [self._entry(step - 1)] if step % STEPS else []
        when = due(step, self.every)
        return Entry(
            position=_position(step),
            received=when,
            stored=when,
            alert=alert,
            origin=ORIGIN,
            incident=before[0].incident if before else alert.id,
            facts=facts,
            replaced=tuple(each.alert.id for each in before),
            changes=lifecycle.changes(alert, facts, before),
        )


async def play(log: TestLog, publish: Callable[[Sequence[Entry]], None], clock: Clock) -> None:
    """Publish each step when it is due, until cancelled."""
    while True:
        wait = (due(log.step + 1, log.every) - clock.now()).total_seconds()
        await clock.sleep(min(max(0.0, wait), log.every))
        if new := log.go_on(clock.now()):
            publish(new)


def _position(step: int) -> str:
    return f"test-{step}"
