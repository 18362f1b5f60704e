"""The embedded store: one SQLite file, one thread that writes, and no answer before the commit is on disk."""

from __future__ import annotations

import asyncio
import secrets
import threading
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self, TypeVar

import apsw

from lalert.clock import Clock
from lalert.errors import StoreError, Unavailable
from lalert.model import Alert, Changes, Facts, Origin
from lalert.store import Appended, OnAppend, Revive, Store
from lalert.store.sqlite import log
from lalert.store.sqlite.attempts import AttemptTable
from lalert.store.sqlite.audit import AuditTable
from lalert.store.sqlite.backup import back_up
from lalert.store.sqlite.confirmations import ConfirmationTable
from lalert.store.sqlite.directory import DirectoryTables
from lalert.store.sqlite.opened import Files, Memory, Open
from lalert.store.sqlite.outbox import OutboxTables, TargetChanges
from lalert.store.sqlite.portable import PortableTables
from lalert.store.sqlite.proposals import ProposalTable
from lalert.store.sqlite.retention import RetentionTables
from lalert.store.sqlite.scores import ScoreTables
from lalert.store.sqlite.sensors import SensorTables, StateTable
from lalert.store.sqlite.stations import StationTable
from lalert.store.sqlite.writer import Bounds

__all__ = ["Bounds", "Memory", "SqliteStore"]

CHECK_SECONDS: Final = 2.0

T = TypeVar("T")


class SqliteStore(
    PortableTables,
    RetentionTables,
    DirectoryTables,
    OutboxTables,
    AttemptTable,
    ScoreTables,
    ConfirmationTable,
    SensorTables,
    StationTable,
    AuditTable,
    ProposalTable,
    StateTable,
):
    """Keeps everything in the file at `path`, for one process alone.

    `vfs` names another way for SQLite to reach the disk: faults and power cuts are tested with it.
    """

    def __init__(
        self,
        path: Path,
        *,
        revive: Revive,
        on_append: OnAppend,
        clock: Clock,
        bounds: Bounds | None = None,
        memory: Memory | None = None,
        vfs: str | None = None,
    ) -> None:
        self._path = path
        self._revive = revive
        self._on_append = on_append
        self._clock = clock
        self._bounds = bounds or Bounds()
        self._memory = memory or Memory()
        self._vfs = vfs
        self._open: Open | None = None
        self._target_changes = TargetChanges()

    async def __aenter__(self) -> Self:
        if self._open is not None:
            raise StoreError(f"{self._path} is open already")
        opening = asyncio.ensure_future(asyncio.to_thread(Files, self._path, self._clock, self._vfs))
        try:
            files = await _to_its_end(opening)
        except asyncio.CancelledError:
            if opening.exception() is None:
                await asyncio.to_thread(opening.result().close)
            raise
        self._open = Open(files, self._revive, self._on_append, self._clock, self._bounds, self._memory)
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._open is not None:
            try:
                await _to_its_end(asyncio.ensure_future(self._open.close()))
            finally:
                self._open = None

    @property
    def storing(self) -> bool:
        return self._open is not None and self._open.writer.urgent > 0

    async def check(self) -> None:
        token = secrets.token_hex(8)

        def write(db: apsw.Connection) -> None:
            db.execute(
                "INSERT INTO meta VALUES ('canary', ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                (token,),
            )

        try:
            async with asyncio.timeout(CHECK_SECONDS):
                await self._write(write)
                read = await self._ask(
                    lambda db: db.execute("SELECT value FROM meta WHERE key = 'canary'").get
                )
        except TimeoutError as error:
            raise Unavailable(f"the disk has not answered within {CHECK_SECONDS:g} s") from error
        # Another check may have written since; what must not happen is that nothing comes back.
        if read is None:
            raise StoreError("the store does not give back what it was given")

    async def backup(self, target: str, *, force: bool = False) -> int:
        if self._open is None:
            raise StoreError("the store is not open")
        stop = threading.Event()
        copying = asyncio.ensure_future(
            asyncio.to_thread(back_up, self._path, Path(target), force=force, stop=stop, vfs=self._vfs)
        )
        try:
            return await asyncio.shield(copying)
        except asyncio.CancelledError:
            stop.set()
            await asyncio.gather(copying, return_exceptions=True)
            raise

    async def append(
        self,
        alert: Alert,
        origin: Origin,
        received: datetime,
        facts: Facts,
        jurisdiction: frozenset[str],
        *,
        changes: Changes | None = None,
        correction: bool = False,
    ) -> Appended:
        parts = self._parts
        new = log.prepare(alert, origin, received.astimezone(UTC), facts, jurisdiction, changes, correction)
        work = partial(parts.appender.append, new=new)
        while True:
            kept = await parts.writer.submit(
                work, size=len(alert.raw) + len(new.about), urgent=True, item=new
            )
            if isinstance(kept, Appended):
                return kept
            assert isinstance(kept, log.Placed)
            # Nothing, if it was deleted between the two looks: then it is new.
            for entry in await parts.entries([kept.offset]):
                return Appended(entry, fresh=False)

    @property
    def _parts(self) -> Open:
        if self._open is None:
            raise StoreError("the store is not open")
        return self._open


async def _to_its_end(task: asyncio.Future[T]) -> T:
    """Await a task that must not be left half done: a cancellation is passed on only when the task is over."""
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            cancelled = error
        except Exception:  # noqa: BLE001  # told below, by the task's result
            break
    if cancelled is not None:
        raise cancelled
    return task.result()


if TYPE_CHECKING:

    def _keeps_the_contract(store: SqliteStore) -> Store:
        return store
