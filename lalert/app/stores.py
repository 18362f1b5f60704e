"""Which store, bus and leases the settings name: the only place that knows the concrete ones."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from lalert.bus import Leases
from lalert.bus.leases import LeaseTimes, LedgerLeases
from lalert.bus.local import LocalBus, LocalLeases
from lalert.bus.shared import SharedBus
from lalert.clock import Clock
from lalert.config import Store as StoreSettings
from lalert.errors import ConfigError
from lalert.store import Revive, Store
from lalert.store.redis import Finder, RedisStore, parse_url
from lalert.store.redis.restoring import restore_into
from lalert.store.sqlite import SqliteStore
from lalert.store.sqlite.backup import Restored, restore
from lalert.tenancy.tickets import MAX_TICKETS, TICKET_SECONDS, LocalShelf, Shelf

DATABASE: Final = "lalert.db"
LEASE: Final = LeaseTimes()
VIEW: Final = "view.db"
OFFLINE_VIEW: Final = "offline-view.db"
"""Of a command beside a node; both are made anew each time."""


@dataclass(frozen=True, slots=True)
class Ground:
    """What a node stands on. `lost` is set when this process can never use the store again and has to begin anew."""

    store: Store
    bus: LocalBus
    leases: Leases
    shelf: Shelf
    lost: asyncio.Event = field(default_factory=asyncio.Event)


@asynccontextmanager
async def open_ground(
    settings: StoreSettings, data: Path, revive: Revive, clock: Clock, view: str = VIEW
) -> AsyncIterator[Ground]:
    """Open the store that the settings name, with the bus that it tells; raises `ConfigError`, `StoreError`."""
    finder = find_server(settings)
    if finder is None:
        bus = LocalBus()
        async with SqliteStore(data / DATABASE, revive=revive, on_append=bus.publish, clock=clock) as store:
            yield Ground(store, bus, LocalLeases(), LocalShelf(clock))
        return
    shared = SharedBus()
    async with RedisStore(
        finder,
        data / view,
        revive=revive,
        on_append=shared.publish,
        on_hint=shared.heard,
        clock=clock,
        durability=settings.durability,
        replicas=settings.replicas,
    ) as remote:
        shared.send = remote.hint
        yield Ground(
            remote,
            shared,
            LedgerLeases(remote.ledger(LEASE.lease), clock, times=LEASE),
            remote.shelf(TICKET_SECONDS, MAX_TICKETS),
            remote.lost,
        )


async def restore_store(
    settings: StoreSettings, data: Path, file: Path, revive: Revive, clock: Clock, *, force: bool
) -> Restored:
    """Make the store that the settings name out of a backup (`sqlite.backup.restore`, `redis.restoring.restore_into`)."""
    finder = find_server(settings)
    if finder is None:
        stop = threading.Event()
        try:
            return await asyncio.to_thread(
                restore, file, data / DATABASE, force=force, now=clock.now(), stop=stop
            )
        except asyncio.CancelledError:  # who has pressed Ctrl-C must not find a hub afterwards
            stop.set()
            raise
    return await restore_into(
        finder,
        file,
        data,
        revive=revive,
        clock=clock,
        durability=settings.durability,
        replicas=settings.replicas,
        force=force,
    )


def find_server(settings: StoreSettings) -> Finder | None:
    """Return what leads to the server that the settings name, None for the embedded store; raises `ConfigError` with every mistake."""
    if not settings.url:
        return None
    mistakes: list[str] = []
    password = ""
    if settings.password_file:
        try:
            password = Path(settings.password_file).read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            mistakes.append(f"store.password_file: {settings.password_file} cannot be read ({error})")
    try:
        finder = Finder(parse_url(settings.url), password=password, ca_file=settings.ca_file)
    except ConfigError as error:
        raise ConfigError([*error.mistakes, *mistakes]) from error
    if mistakes:
        raise ConfigError(mistakes)
    return finder
