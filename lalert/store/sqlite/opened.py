"""A file that is open: its lock, its connections, the writer, and what is kept in memory; seen from the event loop."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Final

import apsw

from lalert.clock import Clock
from lalert.errors import StoreError
from lalert.model import Entry
from lalert.store import Appended, OnAppend, Revive
from lalert.store.sqlite import log
from lalert.store.sqlite.checkpoints import Checkpoints
from lalert.store.sqlite.codec import decode_about, decode_codes, moment, offset_of, position
from lalert.store.sqlite.files import (
    Lock,
    begin_anew,
    close,
    open_for_checkpoints,
    open_for_reading,
    open_for_writing,
    prepare,
    require_sound_sqlite,
)
from lalert.store.sqlite.readers import Readers
from lalert.store.sqlite.ring import Old, Ring
from lalert.store.sqlite.schema import epoch_of, migrate
from lalert.store.sqlite.statements import Row
from lalert.store.sqlite.writer import Bounds, Write, Writer

READERS: Final = 3

logger = logging.getLogger(__name__)

_codes = lru_cache(maxsize=256)(decode_codes)


@dataclass(frozen=True, slots=True)
class Memory:
    """How much is kept in memory: the newest entries, and old ones that were asked for, each up to so many and so many bytes of documents."""

    newest: int = 1000
    newest_bytes: int = 32 * 1024 * 1024
    old: int = 1000
    old_bytes: int = 32 * 1024 * 1024


class Files:
    """The lock and the connections, opened and closed in a thread, because both touch the disk.

    With an `epoch` the file is a view: made anew, not synced, and worth nothing once it is closed.
    """

    def __init__(self, path: Path, clock: Clock, vfs: str | None = None, epoch: str | None = None) -> None:
        require_sound_sqlite(apsw.sqlite_lib_version())
        with ExitStack() as undo:
            prepare(path)
            lock = Lock(path)
            lock.acquire()
            undo.callback(lock.release)
            if epoch is not None:
                begin_anew(path)
            try:
                self.db = open_for_writing(path, vfs)
                undo.callback(close, self.db)
                migrate(self.db)
                if epoch is not None:
                    self.db.execute("UPDATE meta SET value = ? WHERE key = 'epoch'", (epoch,))
                    self.db.pragma("synchronous", "off")
                self.epoch = epoch_of(self.db)
                self.newest = log.newest(self.db)
                self.trimmed = log.trimmed(self.db)
                self.appender = log.Appender(self.db, clock)
                self.moving = open_for_checkpoints(path, vfs)
                if epoch is not None:
                    self.moving.pragma("synchronous", "off")
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

    def close(self, *, keep_log: bool = False) -> None:
        """Close the connections and give the lock back; with `keep_log` nothing is moved out of the log, and it stays for whoever opens the file next."""
        if keep_log:
            self.db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        self._undo.close()


class Open:
    """A store that is open, seen from the event loop."""

    def __init__(
        self, files: Files, revive: Revive, on_append: OnAppend, clock: Clock, bounds: Bounds, memory: Memory
    ) -> None:
        self.epoch = files.epoch
        self.newest = files.newest
        self.trimmed = files.trimmed
        """The highest offset of what is no longer kept."""
        self.ring = Ring(memory.newest, memory.newest_bytes, files.newest)
        self.clock = clock
        self.appender = files.appender
        self.readers = Readers(files.reading)
        self._files = files
        self._revive = revive
        self._on_append = on_append
        self.memory = memory
        self._old = Old(memory.old, memory.old_bytes)
        self._filling: asyncio.Task[None] | None = None
        self._forgotten = 0
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
            forgotten = self._forgotten
            rows = await self.readers.ask(lambda db: self.decode(log.rows_at(db, missing)))
            for entry in rows:
                offset = self._offset(entry)
                found[offset] = entry
                if forgotten == self._forgotten:
                    self._old.add(offset, entry)
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
        floor, room, max_bytes = self.ring.floor, self.ring.room, self.memory.newest_bytes

        def newest(db: apsw.Connection) -> Iterator[Row]:
            size = 0
            for row in islice(log.rows_before(db, floor), room):
                size += len(row[-1])
                if size > max_bytes:
                    return
                yield row

        while True:
            forgotten = self._forgotten
            older = await self.readers.ask(lambda db: self.decode(newest(db)))
            if forgotten == self._forgotten:
                break
        # Appends may have pushed the floor up meanwhile; then there is no room left before it.
        if older and self.ring.floor == floor:
            self.ring.extend_back([(self._offset(entry), entry.alert.id, entry) for entry in reversed(older)])

    def passed(self, offset: int) -> None:
        """Take note that the log has come to `offset`, where no entry is."""
        self.newest = max(self.newest, offset)
        self._grown.set()
        self._grown = asyncio.Event()

    def forget(self, offsets: Sequence[int]) -> None:
        """Take note that entries are no longer kept."""
        self._forgotten += 1
        self.ring.forget(offsets)
        self._old.forget(offsets)

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
        fresh = [
            (placed.offset, placed, write)
            for write in writes
            if isinstance(placed := write.result, log.Placed) and placed.fresh
        ]
        # Within a batch, what could be kept in one step came before the rest.
        fresh.sort(key=itemgetter(0))
        entries: list[Entry] = []
        for _, placed, write in fresh:
            entry = self.add(placed)
            write.result = Appended(entry, fresh=True)
            entries.append(entry)
        if entries:
            self.announce(entries)

    def announce(self, entries: Sequence[Entry]) -> None:
        """Tell of entries that were added."""
        self._grown.set()
        self._grown = asyncio.Event()
        self._on_append(entries)

    def add(self, placed: log.Placed) -> Entry:
        """Take what was just placed into memory, as the newest entry."""
        if placed.joined:
            self.ring.forget_lineages()
        offset = placed.offset
        entry = self.entry_of(placed, position(self.epoch, offset))
        self.ring.add(offset, placed.new.id, entry, placed.lineage)
        self.newest = offset
        return entry

    @staticmethod
    def entry_of(placed: log.Placed, at: str) -> Entry:
        """Return what was placed as the entry at a position."""
        new = placed.new
        assert isinstance(new, log.NewEntry)
        return Entry(
            at,
            new.received,
            placed.stored,
            new.alert,
            new.origin,
            placed.incident,
            new.facts,
            placed.outdated,
            placed.replaced,
            new.correction,
            new.changes,
        )

    def loaded(self, offset: int) -> None:
        """Take note that the file has been filled up to `offset` behind the back of memory, and nobody was to be told."""
        self.newest = self.ring.floor = offset

    def _offset(self, entry: Entry) -> int:
        return offset_of(entry.position, self.epoch, self.newest)

    def _close_files(self) -> None:
        self.writer.join()
        self._checkpoints.close()
        self.readers.close()
        self._files.close(keep_log=self._checkpoints.over)
