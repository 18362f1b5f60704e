"""What is over and old enough leaves the store, once the archive has it: in the background, in steps that let alerts pass."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Final, Protocol

from lalert.clock import Clock
from lalert.errors import StoreError
from lalert.model import Entry
from lalert.retention.archive import Archive
from lalert.store import Part, Retained
from lalert.store.audit import HUB, Action, Detail, Note

__all__ = ["Archive", "Retention", "Swept"]

log = logging.getLogger(__name__)

EVERY_SECONDS: Final = 86_400.0
PAUSE_SECONDS: Final = 0.05
"""Between two steps: archiving and deleting together take a fraction of the disk's time."""

STEP_ENTRIES: Final = 50
STEP_BYTES: Final = 1_000_000

HISTORY: Final = timedelta(days=30)
"""For so long the rows of settled deliveries outlive their alert: a receiver may ask what became of one."""


class Log(Retained, Protocol):
    """What retention needs of the store."""

    async def entry(self, position: str) -> Entry | None: ...

    async def audit_accepted(self, limit: int) -> int: ...

    async def append_audit(self, notes: Sequence[Note]) -> object: ...


@dataclass(slots=True)
class Swept:
    """How many were deleted; of `damaged` groups of alerts one could not be read, and they stay."""

    alerts: int = 0
    deliveries: int = 0
    readings: int = 0
    damaged: int = 0


class Retention:
    """Deletes alerts `days` and readings `readings_days` after they came; 0 keeps them for good."""

    def __init__(
        self,
        store: Log,
        archive: Archive,
        clock: Clock,
        *,
        days: int = 0,
        readings_days: int = 0,
        pause: float = PAUSE_SECONDS,
    ) -> None:
        self._store = store
        self._archive = archive
        self._clock = clock
        self._days = days
        self._readings_days = readings_days
        self._pause = pause

    async def run(self) -> None:
        """Sweep now and then once a day, until cancelled."""
        while True:
            swept = await self.sweep()
            if swept != Swept():
                log.info(
                    "retention: %d alerts archived and deleted, %d delivery rows and %d readings deleted",
                    swept.alerts,
                    swept.deliveries,
                    swept.readings,
                )
                details: dict[str, Detail] = {
                    **asdict(swept),
                    "days": self._days,
                    "readings_days": self._readings_days,
                }
                note = Note(self._clock.now(), HUB, Action.TRIMMED, "retention", details=details)
                await self._store.append_audit([note])
            await self._clock.sleep(EVERY_SECONDS)

    async def sweep(self) -> Swept:
        """Archive and delete what need not be kept any longer. Raises `Unavailable` where the archive or the store cannot be written."""
        swept = Swept()
        now = self._clock.now()
        if self._days:
            while await self._store.audit_accepted(STEP_ENTRIES):
                await self._clock.sleep(self._pause)
            upto = await self._store.settled()
            batch: list[list[Entry]] = []
            async for group in self._store.over(upto, now - timedelta(days=self._days), now):
                entries = await self._entries(group, swept)
                if entries:
                    batch.append(entries)
                if sum(map(len, batch)) >= STEP_ENTRIES or sum(map(_size, batch)) >= STEP_BYTES:
                    await self._let_go(batch, swept)
                    batch = []
            await self._let_go(batch, swept)
        # Also where all alerts are kept by now: rows of those that went before are left.
        swept.deliveries = await self._store.forget_deliveries(now - HISTORY)
        if self._readings_days:
            swept.readings = await self._store.forget_readings(now - timedelta(days=self._readings_days))
        return swept

    async def _entries(self, group: Sequence[str], swept: Swept) -> list[Entry]:
        """Return the entries of a group; none if one cannot be read: without it the others would mean something else."""
        try:
            found = [await self._store.entry(position) for position in group]
        except StoreError as error:
            log.error("retention keeps what cannot be archived: %s", error.detail)
            swept.damaged += 1
            return []
        return [entry for entry in found if entry is not None]

    async def _let_go(self, groups: Sequence[Sequence[Entry]], swept: Swept) -> None:
        for step in _steps([entry for group in groups for entry in group]):
            await asyncio.to_thread(self._archive.keep, step)
            await self._clock.sleep(self._pause)
        # Of each group the oldest first, until something new has referred to it.
        left = [(_steps(group), group[-1].position) for group in groups]
        while left:
            going = [(step, each) for each in left if (step := next(each[0], []))]
            if not going:
                return
            gone = await self._store.forget(
                [Part([entry.position for entry in step], newest) for step, (_, newest) in going]
            )
            swept.alerts += sum(len(step) for (step, _), is_gone in zip(going, gone, strict=True) if is_gone)
            left = [each for (_, each), is_gone in zip(going, gone, strict=True) if is_gone]
            await self._clock.sleep(self._pause)


def _size(entries: Sequence[Entry]) -> int:
    return sum(len(entry.alert.raw) for entry in entries)


def _steps(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    step: list[Entry] = []
    size = 0
    for entry in entries:
        if step and (len(step) == STEP_ENTRIES or size + len(entry.alert.raw) > STEP_BYTES):
            yield step
            step, size = [], 0
        step.append(entry)
        size += len(entry.alert.raw)
    if step:
        yield step
