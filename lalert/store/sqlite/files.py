"""The files of the embedded store: made private, locked by one node, opened with the settings that durability needs."""

from __future__ import annotations

import fcntl
import logging
import os
from pathlib import Path
from typing import Final

import apsw

from lalert.errors import StoreError

log = logging.getLogger(__name__)

OLDEST_SQLITE: Final = (3, 51, 3)
"""Before it, two connections that write and checkpoint can corrupt the file or lose a commit (SQLite's "WAL-reset bug")."""

PAGE_BYTES: Final = 8192
"""A usual alert with its row fits on one page, so that keeping it writes no overflow pages."""

WAL_KEPT_BYTES: Final = 32 * 1024 * 1024
"""How much of the log file stays after a checkpoint: writing over it is twice as fast as growing a new one."""


def require_sound_sqlite(version: str) -> None:
    """Raise `StoreError` for an SQLite that can lose what it has committed."""
    if tuple(int(part) for part in version.split(".")[:3]) < OLDEST_SQLITE:
        needed = ".".join(map(str, OLDEST_SQLITE))
        raise StoreError(
            f"SQLite {version} can lose committed alerts (WAL-reset bug); install apsw with SQLite {needed} or newer"
        )


class Lock:
    """Held by the one process that may open a data file; the system drops it when that process dies, however it dies."""

    def __init__(self, path: Path) -> None:
        # Never removed: another process may have it open and would then lock a file that nobody else can see.
        self._path = path.with_name(path.name + ".lock")
        self._fd: int | None = None

    def acquire(self) -> None:
        """Take the lock at once or raise `StoreError` that names who holds it."""
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(fd, 20, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(fd)
            raise StoreError(
                f"{self._path} is held by process {holder}: one node per data directory. "
                "Stop that node, or give this one a directory of its own"
            ) from error
        except OSError as error:
            os.close(fd)
            raise StoreError(f"{self._path} cannot be locked ({error.strerror}); use a local disk") from error
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        self._fd = fd

    def release(self) -> None:
        """Give the lock back; harmless when it is not held."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def prepare(path: Path) -> None:
    """Make the directory (0700) and an empty file (0600) where there is none, so that nothing of it is ever readable by others."""
    try:
        if not path.parent.is_dir():
            path.parent.mkdir(mode=0o700, parents=True)
            sync_directory(path.parent.parent)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        sync_directory(path.parent)
    except OSError as error:
        raise StoreError(
            f"{path} cannot be opened for writing ({error.strerror}); check the owner and permissions of its directory"
        ) from error


def begin_anew(path: Path) -> None:
    """Empty a file that only repeats what is kept elsewhere; whoever calls holds its lock."""
    for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
        path.with_name(name).unlink(missing_ok=True)
    prepare(path)


def open_for_writing(path: Path, vfs: str | None) -> apsw.Connection:
    """Return a connection whose commits are durable when they return: WAL with an fsync for each (`synchronous=FULL`)."""
    db = _open(path, apsw.SQLITE_OPEN_READWRITE, vfs)
    db.pragma("page_size", PAGE_BYTES)
    if db.pragma("journal_mode", "wal") != "wal":
        raise StoreError(f"{path} cannot be used with a write-ahead log; use a local disk")
    db.pragma("synchronous", "full")
    # On macOS alone fsync leaves the data in the drive's cache; elsewhere this changes nothing.
    db.pragma("fullfsync", 1)
    db.pragma("checkpoint_fullfsync", 1)
    db.pragma("journal_size_limit", WAL_KEPT_BYTES)
    db.pragma("foreign_keys", 1)
    return db


def open_for_reading(path: Path, vfs: str | None) -> apsw.Connection:
    return _open(path, apsw.SQLITE_OPEN_READONLY, vfs)


def open_for_checkpoints(path: Path, vfs: str | None) -> apsw.Connection:
    db = _open(path, apsw.SQLITE_OPEN_READWRITE, vfs)
    db.pragma("synchronous", "full")
    db.pragma("fullfsync", 1)
    db.pragma("checkpoint_fullfsync", 1)
    # Only once it has read does a connection know of the log; before, a checkpoint silently does nothing.
    db.execute("SELECT count(*) FROM sqlite_schema").fetchall()
    return db


def close(db: apsw.Connection) -> None:
    """Close a connection. What fails then is only tidying up: the log file keeps all that was committed."""
    try:
        db.close()
    except apsw.Error as error:
        log.warning("the store was not closed cleanly: %s", error)


def _open(path: Path, flags: int, vfs: str | None) -> apsw.Connection:
    db = apsw.Connection(str(path), flags=flags, vfs=vfs)
    db.set_busy_timeout(5_000)
    db.wal_autocheckpoint(0)
    db.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
    db.config(apsw.SQLITE_DBCONFIG_DQS_DML, 0)
    db.pragma("trusted_schema", 0)
    return db


def sync_directory(path: Path) -> None:
    """Put the names in a folder on disk: without it a power cut can take the name of a file whose content is safe."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
