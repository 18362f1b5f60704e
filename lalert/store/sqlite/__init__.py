"""The embedded store: one SQLite file, one thread that writes, and no answer before the commit is on disk."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self, TypeVar, cast

import apsw

from lalert.clock import Clock
from lalert.errors import StoreError, Unavailable, UnknownPosition
from lalert.model import Alert, Changes, Entry, Facts, Origin
from lalert.store import Appended, OnAppend, Revive, Store
from lalert.store.sqlite import log
from lalert.store.sqlite.checkpoints import Checkpoints
from lalert.store.sqlite.codec import decode_about, decode_codes, moment, offset_of, position, scope_of
from lalert.store.sqlite.directory import DirectoryTables
from lalert.store.sqlite.files import (
    Lock,
    close,
    open_for_checkpoints,
    open_for_reading,
    open_for_writing,
    prepare,
    require_sound_sqlite,
)
from lalert.store.sqlite.outbox import OutboxTables
from lalert.store.sqlite.readers import Readers
from lalert.store.sqlite.ring import Old, Ring
from lalert.store.sqlite.schema import epoch_of, migrate
from lalert.store.sqlite.scores import ScoreTables
from lalert.store.sqlite.sensors import SensorTables, StateTable
from lalert.store.sqlite.statements import Row
from lalert.store.sqlite.writer import Bounds, Write, Writer

__all__ = ["Bounds", "Memory", "SqliteStore"]

CHECK_SECONDS: Final = 2.0
READERS: Final = 3

T = TypeVar("T")

logger = logging.getLogger(__name__)

_codes = lru_cache(maxsize=256)(decode_codes)


@dataclass(frozen=True, slots=True)
class Memory:
    """How much is kept in memory: the newest entries, and old ones that were asked for, each up to so many and so many bytes of documents."""

    newest: int = 1000
    newest_bytes: int = 32 * 1024 * 1024
    old: int = 1000
    old_bytes: int = 32 * 1024 * 1024


class SqliteStore(DirectoryTables, OutboxTables, ScoreTables, SensorTables, StateTable):
    """Keeps everything in the file at `path`, for one process alone.

    What a read returns has been told to `on_append` before. `vfs` names another way for SQLite to reach the disk: faults and power
    cuts are tested with it.
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
        self._open: _Open | None = None

    async def __aenter__(self) -> Self:
        if self._open is not None:
            raise StoreError(f"{self._path} is open already")
        opening = asyncio.ensure_future(asyncio.to_thread(_Files, self._path, self._clock, self._vfs))
        try:
            files = await _to_its_end(opening)
        except asyncio.CancelledError:
            if opening.exception() is None:
                await asyncio.to_thread(opening.result().close)
            raise
        self._open = _Open(files, self._revive, self._on_append, self._clock, self._bounds, self._memory)
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._open is not None:
            try:
                await _to_its_end(asyncio.ensure_future(self._open.close()))
            finally:
                self._open = None

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

    @property
    def newest(self) -> str:
        return position(self._parts.epoch, self._parts.newest)

    def order(self, position: str) -> tuple[int, ...]:
        return (self._offset(position),)

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
        kept = await parts.writer.submit(work, size=len(alert.raw) + len(new.about), urgent=True, item=new)
        if isinstance(kept, Appended):
            return kept
        assert isinstance(kept, log.Placed)
        [entry] = await parts.entries([kept.offset])
        return Appended(entry, fresh=False)

    async def read(self, after: str | None, limit: int) -> list[Entry]:
        parts, offset = self._parts, 0 if after is None else self._offset(after)
        if limit <= 0:
            return []
        if offset < parts.ring.floor and parts.newest - offset <= self._memory.newest:
            await parts.fill()
        if offset >= parts.ring.floor:
            return parts.ring.after(offset, limit)
        upto = parts.newest
        return await self._ask(lambda db: parts.decode(log.rows_after(db, offset, upto, limit)))

    async def latest(self, limit: int) -> list[Entry]:
        parts = self._parts
        if limit <= 0:
            return []
        if limit > len(parts.ring):
            await parts.fill()
        entries, floor = parts.ring.latest(limit), parts.ring.floor
        missing = limit - len(entries)
        if not missing or not floor:
            return entries
        older = await self._ask(lambda db: parts.decode(islice(log.rows_before(db, floor), missing)))
        return [*reversed(older), *entries]

    async def active(self, now: datetime) -> list[Entry]:
        return await self._parts.entries(await self._ask(lambda db: log.in_force(db, now)))

    async def next_end(self, after: datetime) -> datetime | None:
        return await self._ask(lambda db: log.next_end(db, after))

    async def ended(self, after: datetime, upto: datetime, limit: int | None = None) -> list[str]:
        epoch = self._parts.epoch
        return [position(epoch, at) for at in await self._ask(lambda db: log.ended(db, after, upto, limit))]

    async def heads(self, entry: Entry) -> list[Entry]:
        parts, scope, offset = self._parts, scope_of(entry.alert, entry.origin), self._offset(entry.position)
        return await parts.entries(await self._ask(lambda db: log.heads_of(db, scope, offset)))

    async def named(self, sender: str, identifier: str, limit: int) -> list[Entry]:
        while await self._write(log.index_names):
            pass
        offsets = await self._ask(lambda db: log.named(db, sender, identifier, limit))
        return await self._parts.entries(offsets)

    async def entry(self, position: str) -> Entry | None:
        try:
            offset = self._offset(position)
        except UnknownPosition:
            return None
        return next(iter(await self._parts.entries([offset])), None)

    async def find(self, alert_id: str) -> Entry | None:
        parts = self._parts
        entry = parts.ring.find(alert_id)
        if entry is not None or not parts.ring.floor:
            return entry
        offset = await self._ask(lambda db: log.offset_of_id(db, alert_id))
        return None if offset is None else next(iter(await parts.entries([offset])), None)

    async def lineage(self, entry: Entry) -> list[Entry]:
        parts, alert = self._parts, entry.alert
        if not alert.references and entry.incident == alert.id:
            return []
        offset = self._offset(entry.position)
        offsets = parts.ring.lineage(offset)
        if offsets is None:
            offsets = await self._ask(lambda db: log.lineage_of(db, alert, entry.origin, offset))
        return await parts.entries(offsets)

    @property
    def _parts(self) -> _Open:
        if self._open is None:
            raise StoreError("the store is not open")
        return self._open


class _Files:
    """The lock and the connections, opened and closed in a thread, because both touch the disk."""

    def __init__(self, path: Path, clock: Clock, vfs: str | None) -> None:
        require_sound_sqlite(apsw.sqlite_lib_version())
        with ExitStack() as undo:
            prepare(path)
            lock = Lock(path)
            lock.acquire()
            undo.callback(lock.release)
            try:
                self.db = open_for_writing(path, vfs)
                undo.callback(close, self.db)
                migrate(self.db)
                self.epoch = epoch_of(self.db)
                self.newest = log.newest(self.db)
                self.appender = log.Appender(self.db, clock)
                self.moving = open_for_checkpoints(path, vfs)
                undo.callback(close, self.moving)
                self.reading: list[apsw.Connection] = []
                for _ in range(READERS):
                    self.reading.append(open_for_reading(path, vfs))
                    undo.callback(close, self.reading[-1])
            except apsw.Error as error:
                raise StoreError(
                    f"{path} cannot be opened ({error}); check the disk and its room, or restore the newest backup"
                ) from error
            # The connection that writes is closed last: it then moves what the log still holds, and removes it.
            self._undo = undo.pop_all()

    def close(self) -> None:
        self._undo.close()


class _Open:
    """A store that is open, seen from the event loop."""

    def __init__(
        self, files: _Files, revive: Revive, on_append: OnAppend, clock: Clock, bounds: Bounds, memory: Memory
    ) -> None:
        self.epoch = files.epoch
        self.newest = files.newest
        self.ring = Ring(memory.newest, memory.newest_bytes, files.newest)
        self.clock = clock
        self.appender = files.appender
        self.readers = Readers(files.reading)
        self._files = files
        self._revive = revive
        self._on_append = on_append
        self._memory = memory
        self._old = Old(memory.old, memory.old_bytes)
        self._filling: asyncio.Task[None] | None = None
        self._grown = asyncio.Event()
        self._checkpoints = Checkpoints(files.moving)
        self.writer = Writer(
            files.db,
            bounds=bounds,
            checkpoints=self._checkpoints,
            together=self.appender.append_many,
            committed=self._announce,
            rolled_back=self.appender.forget,
        )
        self._checkpoints.start()
        self.writer.start()

    async def close(self) -> None:
        ended = await self.writer.close()
        self.readers.refuse()
        if self._filling is not None:
            self._filling.cancel()
            await asyncio.gather(self._filling, return_exceptions=True)
        if ended:
            await asyncio.to_thread(self._close_files)
        else:
            # To wait for it would keep the whole node from stopping; the lock is given back when the process ends.
            logger.error("the disk hangs: the store is left as it is, and what was promised is in its log")

    async def entries(self, offsets: Sequence[int]) -> list[Entry]:
        """Return the entries at these offsets, in their order, without those that do not exist."""
        if offsets:
            # A reader may see a commit a moment before the loop has heard of it.
            while self.newest < max(offsets):
                await self._grown.wait()
        found = {offset: self.ring.get(offset) or self._old.get(offset) for offset in offsets}
        missing = [offset for offset, entry in found.items() if entry is None]
        if missing:
            rows = await self.readers.ask(lambda db: self.decode(log.rows_at(db, missing)))
            for entry in rows:
                offset = self._offset(entry)
                self._old.add(offset, entry)
                found[offset] = entry
        return [entry for entry in found.values() if entry is not None]

    async def fill(self) -> None:
        """Read the newest entries into the ring, once, for all who ask meanwhile."""
        if not self.ring.floor:
            return
        if self._filling is None:
            self._filling = asyncio.create_task(self._fill())
        try:
            await asyncio.shield(self._filling)
        except Exception:
            self._filling = None
            raise

    async def _fill(self) -> None:
        floor, room, max_bytes = self.ring.floor, self.ring.room, self._memory.newest_bytes

        def newest(db: apsw.Connection) -> Iterator[Row]:
            size = 0
            for row in islice(log.rows_before(db, floor), room):
                size += len(row[-1])
                if size > max_bytes:
                    return
                yield row

        older = await self.readers.ask(lambda db: self.decode(newest(db)))
        # Appends may have pushed the floor up meanwhile; then there is no room left before it.
        if older and self.ring.floor == floor:
            self.ring.extend_back([(self._offset(entry), entry.alert.id, entry) for entry in reversed(older)])

    def decode(self, rows: Iterable[Row]) -> list[Entry]:
        """Make entries of rows, in a reader's thread."""
        entries = []
        for row in rows:
            entries.append(self._decode(row))
            # Parsing holds the interpreter's lock: let the event loop have it between two documents.
            time.sleep(0)
        return entries

    def _decode(self, row: Row) -> Entry:
        offset, incident, stored, codes, outdated, replaced, about, digest, raw = row
        at = position(self.epoch, offset)
        if hashlib.sha256(raw).digest() != digest:
            raise StoreError(f"the document at {at} is damaged on disk: restore the newest backup")
        try:
            alert, facts = self._revive(raw, _codes(codes))
        except Exception as error:
            raise StoreError(
                f"the document at {at} was accepted but can no longer be read: {error}"
            ) from error
        kept = decode_about(about, alert)
        return Entry(
            position=at,
            received=kept.received,
            stored=moment(stored),
            alert=kept.alert,
            origin=kept.origin,
            incident=incident,
            facts=facts,
            outdated=bool(outdated),
            replaced=tuple(replaced.split()) if replaced else (),
            correction=kept.correction,
            changes=kept.changes,
        )

    def _announce(self, writes: Sequence[Write]) -> None:
        fresh = [write for write in writes if isinstance(write.result, log.Placed) and write.result.fresh]
        # Within a batch, what could be kept in one step came before the rest.
        fresh.sort(key=lambda write: cast("log.Placed", write.result).offset)
        entries = [self._add(write) for write in fresh]
        if entries:
            self._grown.set()
            self._grown = asyncio.Event()
            self._on_append(entries)

    def _add(self, write: Write) -> Entry:
        placed = cast("log.Placed", write.result)
        if placed.joined:
            self.ring.forget_lineages()
        new, offset = placed.new, placed.offset
        at = position(self.epoch, offset)
        entry = Entry(
            position=at,
            received=new.received,
            stored=placed.stored,
            alert=new.alert,
            origin=new.origin,
            incident=placed.incident,
            facts=new.facts,
            outdated=placed.outdated,
            replaced=placed.replaced,
            correction=new.correction,
            changes=new.changes,
        )
        self.ring.add(offset, new.id, entry, placed.lineage)
        self.newest = offset
        write.result = Appended(entry, fresh=True)
        return entry

    def _offset(self, entry: Entry) -> int:
        return offset_of(entry.position, self.epoch, self.newest)

    def _close_files(self) -> None:
        self.writer.join()
        self._checkpoints.close()
        self.readers.close()
        self._files.close()


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
