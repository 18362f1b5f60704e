"""A disk whose power is cut: a way for SQLite to reach files of which only what was synced is sure to be there afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import apsw
import pytest

from lalert.clock import SystemClock
from lalert.errors import StoreError, Unavailable
from lalert.store.sqlite import SqliteStore
from lalert.testing import revive
from lalert.testing.store import ignore
from tests.system.promises import Promised, check, write

SECTOR = 512
FILE = "lalert.db"
_names = itertools.count()


@dataclass(frozen=True, slots=True)
class Write:
    data: bytes
    offset: int


@dataclass(frozen=True, slots=True)
class Truncate:
    size: int


Change = Write | Truncate
Survival = Callable[[list[Change], random.Random], list[Change]]
"""Says which of the changes that were not synced, in their order, are on the disk after the cut, and what is left of each."""


def nothing(_changes: list[Change], _dice: random.Random) -> list[Change]:
    """Drop all: the disk's cache is gone."""
    return []


def everything(changes: list[Change], _dice: random.Random) -> list[Change]:
    """Keep all: the disk was quicker than it had to be."""
    return changes


def some(changes: list[Change], dice: random.Random) -> list[Change]:
    """Keep some and not others: the disk writes in an order of its own."""
    return [change for change in changes if dice.random() < 0.5]


def torn(changes: list[Change], dice: random.Random) -> list[Change]:
    """Keep some sectors of each write, and leave noise in the one under the head when the power went."""
    kept: list[Change] = []
    for change in changes:
        if isinstance(change, Truncate):
            kept += [change] if dice.random() < 0.5 else []
        else:
            kept += [sector for sector in _sectors(change) if dice.random() < 0.5]
    writes = [change for change in kept if isinstance(change, Write)]
    if writes:
        struck = dice.choice(writes)
        kept.append(Write(dice.randbytes(len(struck.data)), struck.offset))
    return kept


def _sectors(write: Write) -> Iterator[Write]:
    start, end = write.offset, write.offset + len(write.data)
    while start < end:
        stop = min(end, (start // SECTOR + 1) * SECTOR)
        yield Write(write.data[start - write.offset : stop - write.offset], start)
        start = stop


SURVIVALS: tuple[Survival, ...] = (nothing, everything, some, torn)


@dataclass(slots=True)
class _Image:
    """A file as the disk has it. `exists`: its name is in its directory for sure."""

    exists: bool
    durable: bytearray
    pending: list[Change] = field(default_factory=list)
    failures: int = 0


class PowerCut(apsw.VFS):
    """Use it as `with PowerCut(dice, after=100) as disk: SqliteStore(..., vfs=disk.name)`, then `disk.leave(folder)`.

    The power goes at the write, truncation, deletion or sync with number `after`: it and everything later fails. Before that a sync fails with
    probability `sync_fails`, and what it should have written is lost although it can still be read; as on Linux, everybody who has the file open hears
    of that with his next sync.
    """

    def __init__(self, dice: random.Random, after: int, sync_fails: float = 0.0) -> None:
        self.name = f"power-cut-{next(_names)}"
        self.real = apsw.vfs_names()[0]
        self.gone = threading.Event()
        self.operations: list[str] = []
        self._dice = dice
        self._after = after
        self.failing = ""  # the name of a file of which each sync fails
        self._sync_fails = sync_fails
        self._files: dict[str, _Image] = {}
        self._deleted: dict[str, _Image] = {}
        self._lock = threading.RLock()
        super().__init__(self.name, base=self.real)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.unregister()

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        if name is None:  # a file for a moment, of which nothing has to last
            return apsw.VFSFile(self.real, name, flags)
        path = name if isinstance(name, str) else name.filename()
        with self._lock:
            if path not in self._files:
                exists = Path(path).exists()
                self._files[path] = _Image(exists, bytearray(Path(path).read_bytes() if exists else b""))
        return _File(self, path, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        with self._lock:
            self.step(f"delete {Path(filename).name}")
            super().xDelete(filename, False)
            self._deleted[filename] = self._files.pop(filename)
            if syncdir:
                self._deleted.clear()

    def step(self, what: str) -> None:
        """Count an operation; raises what a disk without power says."""
        if len(self.operations) >= self._after:
            self.gone.set()
            raise apsw.IOError("the power is gone")
        self.operations.append(what)

    def change(self, path: str, what: str, change: Change, do: Callable[[], None]) -> None:
        with self._lock:
            self.step(f"{what} {Path(path).name}")
            do()
            self._files.setdefault(path, _Image(False, bytearray())).pending.append(change)

    def sync(self, path: str) -> int:
        """Make a file durable; returns how often that has failed by now."""
        with self._lock:
            self.step(f"sync {Path(path).name}")
            image = self._files[path]
            if Path(path).name == self.failing or self._dice.random() < self._sync_fails:
                image.failures += 1
            else:
                if not image.exists:
                    # SQLite syncs the directory of a new log with its first sync, and with it the deletions before.
                    image.exists = True
                    self._deleted.clear()
                _apply(image.durable, image.pending)
            image.pending.clear()
            return image.failures

    def failures(self, path: str) -> int:
        return self._files[path].failures

    def leave(self, folder: Path, survival: Survival) -> None:
        """Write into a folder what is on the disk after the cut."""
        folder.mkdir(parents=True)
        for path, image in (*self._deleted.items(), *self._files.items()):
            if image.exists or self._dice.random() < 0.5:
                content = bytearray(image.durable)
                _apply(content, survival(image.pending, self._dice))
                (folder / Path(path).name).write_bytes(content)


class FailedSync(apsw.IOError):
    """What SQLite says of an fsync that failed."""

    extendedresult = apsw.SQLITE_IOERR_FSYNC


def _apply(content: bytearray, changes: list[Change]) -> None:
    for change in changes:
        if isinstance(change, Truncate):
            del content[change.size :]
            continue
        end = change.offset + len(change.data)
        if len(content) < end:
            content.extend(bytes(end - len(content)))
        content[change.offset : end] = change.data


class _File(apsw.VFSFile):
    def __init__(self, disk: PowerCut, path: str, name: str | apsw.URIFilename, flags: list[int]) -> None:
        self._disk = disk
        self._path = path
        self._known_failures = disk.failures(path)
        super().__init__(disk.real, name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        do = super().xWrite
        self._disk.change(self._path, "write", Write(bytes(data), offset), lambda: do(data, offset))

    def xTruncate(self, size: int) -> None:  # noqa: N802
        do = super().xTruncate
        self._disk.change(self._path, "truncate", Truncate(size), lambda: do(size))

    def xSync(self, flags: int) -> None:  # noqa: N802
        failures = self._disk.sync(self._path)
        if failures > self._known_failures:
            self._known_failures = failures
            raise FailedSync("the disk of this test")


def keep_the_log_small(patch: pytest.MonkeyPatch) -> None:
    """Have the log moved into the database all the time, so that the power is cut in the middle of that too."""
    patch.setattr("lalert.store.sqlite.checkpoints.SOON_PAGES", 4)
    patch.setattr("lalert.store.sqlite.checkpoints.FULL_PAGES", 24)
    patch.setattr("lalert.store.sqlite.checkpoints.IDLE_SECONDS", 0.005)
    patch.setattr("lalert.store.sqlite.files.WAL_KEPT_BYTES", 65_536)


async def cut_again_and_again(
    folder: Path, dice: random.Random, survival: Survival, sync_fails: float, times: int
) -> tuple[Promised, Counter[str]]:
    """Cut the power of a store so many times, each time on what the last cut has left; fails where a promise is broken.

    Returns what was promised and how often each operation was done.
    """
    promised = Promised()
    done: Counter[str] = Counter()
    for number in range(times):
        before, after = folder / f"{number}", folder / f"{number + 1}"
        with PowerCut(dice, after=int(10 ** dice.uniform(0.5, 3)), sync_fails=sync_fails) as disk:
            await _work(before / FILE, disk, promised)
            disk.leave(after, survival)
        done.update(disk.operations)
        await check(after / FILE, promised)
    return promised, done


async def _work(path: Path, disk: PowerCut, promised: Promised) -> None:
    """Write until the power is gone, wherever that may be; what failed of it is nobody's promise."""
    store = SqliteStore(path, revive=revive, on_append=ignore, clock=SystemClock(), vfs=disk.name)
    with contextlib.suppress(StoreError, Unavailable):
        async with store:
            writing = asyncio.ensure_future(write(store, promised.take))
            try:
                async with asyncio.timeout(30):
                    while not disk.gone.is_set():
                        await asyncio.sleep(0.002)
                await asyncio.sleep(0.002)  # for answers that are on their way
            finally:
                writing.cancel()
                await asyncio.gather(writing, return_exceptions=True)
