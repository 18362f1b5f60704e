"""The bus of one process keeps every promise of a bus."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from lalert.bus import Bus, Hints
from lalert.bus.local import LocalBus
from lalert.testing import BusContract, HintsContract


class TestLocalBus(BusContract):
    @asynccontextmanager
    async def open_bus(self) -> AsyncIterator[Bus]:
        yield LocalBus()


class TestLocalHints(HintsContract):
    @asynccontextmanager
    async def open_hints(self) -> AsyncIterator[Hints]:
        yield LocalBus()
