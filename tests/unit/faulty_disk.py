"""A disk that fails on command: a way for SQLite to reach real files that can refuse to write or sync, run full, or hang."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

import apsw

_names = itertools.count()


class FaultyDisk(apsw.VFS):
    """Use it as `with FaultyDisk() as disk: SqliteStore(..., vfs=disk.name)`.

    `on_write` and `on_sync` are called, with the file's kind (`wal`, `main`, ...), before each write and sync; what they raise is what the disk says.
    With `everywhere` every connection of this process that names no other way goes this one.
    """

    def __init__(self, *, everywhere: bool = False) -> None:
        self.name = f"faulty-{next(_names)}"
        self.heal()
        self.real = apsw.vfs_names()[0]
        super().__init__(self.name, base=self.real, makedefault=everywhere)

    def heal(self) -> None:
        """Work well from now on."""
        self.on_write: Callable[[str], None] = lambda _: None
        self.on_sync: Callable[[str], None] = lambda _: None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.unregister()

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        return _File(self, name, flags)


class _File(apsw.VFSFile):
    def __init__(self, disk: FaultyDisk, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        self._disk = disk
        self._kind = "wal" if flags[0] & apsw.SQLITE_OPEN_WAL else "main"
        super().__init__(disk.real, name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        self._disk.on_write(self._kind)
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:  # noqa: N802
        self._disk.on_sync(self._kind)
        super().xSync(flags)


def failing(error: type[apsw.Error], *kinds: str) -> Callable[[str], None]:
    """Return what makes a disk fail for files of these kinds."""

    def fail(kind: str) -> None:
        if kind in kinds:
            raise error("the disk of this test")

    return fail


class Hang:
    """Makes a disk hang until `end` is called; `began` says that something hangs."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self._over = threading.Event()

    def __call__(self, _kind: str) -> None:
        self.began.set()
        self._over.wait(30)

    def end(self) -> None:
        self._over.set()
