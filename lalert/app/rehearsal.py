"""The test stream beside the real ones: a log, a bus and live parts of its own, so that nothing leads from it to anything else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Final

from lalert import matching, texts
from lalert.bus.local import LocalBus
from lalert.clock import Clock
from lalert.geo import Gazetteer
from lalert.live import Live, LiveSettings
from lalert.matching import FilterIndex
from lalert.model import Entry, Filter
from lalert.teststream import EVERY_SECONDS, TestLog, play

StartTask = Callable[[str, Callable[[], Awaitable[None]]], None]
"""Takes on background work by a name."""

MAX_CONNECTIONS: Final = 1_000
"""In all; what one address may have is as for the real streams."""


@asynccontextmanager
async def open_test_streams(
    gazetteer: Gazetteer, settings: LiveSettings, clock: Clock, start: StartTask
) -> AsyncIterator[Live]:
    """Serve the test stream until the block ends; `start` takes on its task."""

    def wants(wanted: Filter, entry: Entry, lineage: Sequence[Entry] = ()) -> bool:
        return matching.wants(wanted, entry, lineage, gazetteer)

    bus, log = LocalBus(), TestLog(gazetteer, clock, EVERY_SECONDS)
    bounded = replace(settings, max_connections=min(MAX_CONNECTIONS, settings.max_connections), writers=1)
    live = Live(
        log,
        bus,
        index=partial(FilterIndex, gazetteer),
        wants=wants,
        body=texts.body,
        clock=clock,
        settings=bounded,
    )
    async with live:
        start("test stream", partial(play, log, bus.publish, clock))
        yield live
