"""A copy of the whole store in one file, made while the store is in use, and a store made of such a copy again."""

from __future__ import annotations

import fcntl
import glob
import hashlib
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import apsw

from lalert.errors import BadRequest, Conflict, StoreError, Unavailable
from lalert.store.sqlite.codec import moment
from lalert.store.sqlite.files import (
    Lock,
    open_for_reading,
    open_for_writing,
    require_sound_sqlite,
    sync_directory,
)
from lalert.store.sqlite.schema import APPLICATION_ID, epoch_of, migrate
from lalert.store.sqlite.statements import rows

STEP_PAGES: Final = 128
"""Pages (1 MB) that are copied before the disk is left to others for as long as that took."""

SYNC_STEPS: Final = 8
"""After so many steps what was copied is put on disk: else a later sync, an alert's among them, might have to wait for all of it."""

_SIDECARS: Final = ("-wal", "-shm", "-journal")


@dataclass(frozen=True, slots=True)
class Restored:
    """What came back: how many alerts, when the newest was accepted, offsets of those damaged in the backup itself, and where the former files are now."""

    entries: int
    newest: datetime | None
    damaged: tuple[int, ...]
    moved: Path | None


def back_up(
    source: Path,
    target: Path,
    *,
    force: bool = False,
    stop: threading.Event | None = None,
    vfs: str | None = None,
    fill: Callable[[apsw.Connection], None] | None = None,
) -> int:
    """Copy the store in the file `source` as it is at one moment to `target` and return its bytes; blocks, but hinders no writer.

    The copy is whole, checked and on disk before it has its name; a failure, or `stop`, leaves nothing. A `target` that exists is replaced with
    `force` alone; `fill` may put more into the copy. Raises `Conflict`, `BadRequest` for a place that cannot be written to, `Unavailable` for a full disk, `StoreError` for a damaged store.
    """
    stopped = (stop or threading.Event()).is_set
    _require_free(source, target, force)
    with _partial(target) as (partial, fd):
        try:
            with closing(open_for_reading(source, vfs)) as store:
                _copy(store, partial, vfs, lambda: os.fdatasync(fd), stopped)
            if fill is not None:
                with closing(open_for_writing(partial, vfs)) as copy:
                    fill(copy)
            _finish(partial, vfs, stopped)
        except apsw.InterruptError as error:
            raise _stopped() from error
        except (apsw.FullError, apsw.IOError) as error:
            raise Unavailable(
                f"the backup failed ({_cause(error)}): make room at {target} or choose another place"
            ) from error
        except apsw.Error as error:
            raise StoreError(f"{source} cannot be copied ({error}): restore the newest backup") from error
        _put_in_place(partial, fd, target)
        return target.stat().st_size


def restore(
    file: Path,
    path: Path,
    *,
    force: bool = False,
    now: datetime,
    epoch: str | None = None,
    stop: threading.Event | None = None,
) -> Restored:
    """Make the store at `path` out of a backup, with a new epoch (or the one that is given); offsets, and with them cursors and history, stay.

    A store that is there already is moved aside with `force`, never deleted. Raises `StoreError` while a node holds the store, and for what is no
    sound backup; `Conflict` without `force`; `Unavailable` after `stop`. Either everything is in place when it returns, or nothing has changed.
    """
    require_sound_sqlite(apsw.sqlite_lib_version())
    stopped = (stop or threading.Event()).is_set
    lock = Lock(path)
    lock.acquire()
    try:
        taken = path.exists() and path.stat().st_size > 0
        if taken and not force:
            raise Conflict(
                f"{path} holds a hub already; --force moves it aside and restores the backup in its place"
            )
        with _partial(path) as (partial, fd):
            try:
                _take(file, partial)
                found = _renew(partial, epoch or secrets.token_hex(4))
            except (apsw.FullError, apsw.IOError) as error:
                raise Unavailable(
                    f"{path} cannot be written ({_cause(error)}): make room on the disk"
                ) from error
            except apsw.Error as error:
                raise StoreError(f"{file} is damaged ({error}): take an older backup") from error
            if stopped():
                raise Unavailable("the restore was called off; nothing has changed")
            moved = _move_aside(path, now) if taken else None
            for sidecar in _SIDECARS:
                path.with_name(path.name + sidecar).unlink(missing_ok=True)
            _put_in_place(partial, fd, path)
    finally:
        lock.release()
    return Restored(*found, moved)


def _require_free(source: Path, target: Path, force: bool) -> None:
    folder = target.parent
    if not folder.is_dir():
        raise BadRequest(f"{folder} is no folder; create it first")
    # Whatever the options say: the store that is copied would be replaced by its copy.
    if folder.resolve() == source.parent.resolve() and target.name.startswith(source.name):
        raise Conflict(f"{target} belongs to the store itself; choose another name")
    if target.is_symlink() or target.exists():
        if not target.is_file():
            raise BadRequest(f"{target} is no plain file; choose another name")
        if not force:
            raise Conflict(f"{target} exists already; choose another name, or --force replaces it")


@contextmanager
def _partial(target: Path) -> Iterator[tuple[Path, int]]:
    """Give an empty file beside `target`, nobody else's to read, which is gone at the end unless it was put in place."""
    partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
    try:
        fd = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise BadRequest(f"{target} cannot be written ({error.strerror}); choose another place") from error
    try:
        # The system drops it with the process, however that ends.
        fcntl.flock(fd, fcntl.LOCK_SH)
        _clear_abandoned(target)
        yield partial, fd
    finally:
        os.close(fd)
        _remove(partial)


def _clear_abandoned(target: Path) -> None:
    """Remove what backups to the same place have left whose process was killed."""
    pattern = f".{glob.escape(target.name)}.????????.partial"
    for each in target.parent.glob(pattern):
        with suppress(OSError), each.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(each)


def _remove(partial: Path) -> None:
    for name in ("", *_SIDECARS):
        partial.with_name(partial.name + name).unlink(missing_ok=True)


def _copy(
    store: apsw.Connection,
    partial: Path,
    vfs: str | None,
    sync: Callable[[], None],
    stopped: Callable[[], bool],
) -> None:
    # One state of the store for the whole copy: what is committed meanwhile neither waits nor makes it begin anew.
    store.execute("BEGIN")
    epoch_of(store)
    with closing(apsw.Connection(str(partial), flags=apsw.SQLITE_OPEN_READWRITE, vfs=vfs)) as copy:
        copy.pragma("journal_mode", "off")
        copy.pragma("synchronous", "off")
        with copy.backup("main", store, "main") as work:
            steps = 0
            while not work.done:
                if stopped():
                    raise _stopped()
                begun = time.monotonic()
                work.step(STEP_PAGES)
                steps += 1
                if steps % SYNC_STEPS == 0:
                    sync()
                time.sleep(time.monotonic() - begun)


def _finish(partial: Path, vfs: str | None, stopped: Callable[[], bool] = lambda: False) -> None:
    """Make one sound file of a copy that still says it has a log beside it."""
    with closing(open_for_writing(partial, vfs)) as copy:
        copy.set_progress_handler(stopped, 10_000)
        if (found := copy.execute("PRAGMA integrity_check(1)").get) != "ok":
            raise StoreError(f"the store is damaged ({found}): no backup was made; restore the newest one")
        copy.set_progress_handler(None)
        copy.pragma("journal_mode", "delete")


def _cause(error: apsw.Error) -> str:
    """Return what went wrong with a disk; SQLite itself has no words for what stops its copying."""
    if str(error) != "not an error":
        return str(error)
    return "the disk is full" if isinstance(error, apsw.FullError) else "the disk cannot be written"


def _put_in_place(partial: Path, fd: int, target: Path) -> None:
    try:
        os.fsync(fd)
        partial.replace(target)
        sync_directory(target.parent)
    except OSError as error:
        raise Unavailable(f"{target} cannot be written ({error.strerror}); choose another place") from error


def _take(file: Path, partial: Path) -> None:
    try:
        source = open_for_reading(file, None)
    except apsw.Error as error:
        raise StoreError(f"{file} cannot be read ({error})") from error
    with closing(source):
        try:
            ours = source.pragma("application_id") == APPLICATION_ID
        except apsw.NotADBError:
            ours = False
        if not ours:
            raise StoreError(f"{file} is no backup of lalert")
        with closing(apsw.Connection(str(partial), flags=apsw.SQLITE_OPEN_READWRITE)) as copy:
            copy.pragma("journal_mode", "off")
            copy.pragma("synchronous", "off")
            with copy.backup("main", source, "main") as work:
                work.step(-1)


def _renew(partial: Path, epoch: str) -> tuple[int, datetime | None, tuple[int, ...]]:
    """Check a copy, bring it up to this version, and begin a new life of its log."""
    with closing(open_for_writing(partial, None)) as db:
        if (found := db.execute("PRAGMA integrity_check(1)").get) != "ok":
            raise StoreError(f"the backup is damaged ({found}): take an older one")
        migrate(db)
        epoch_of(db)
        damaged = tuple(
            offset
            for offset, digest, raw in db.execute("SELECT offset, digest, raw FROM entry")
            if hashlib.sha256(raw).digest() != digest
        )
        [(entries, newest)] = rows(db, "SELECT count(*), max(stored) FROM entry")
        db.execute("UPDATE meta SET value = ? WHERE key = 'epoch'", (epoch,))
        db.pragma("journal_mode", "delete")
    return entries, None if newest is None else moment(newest), damaged


def _move_aside(path: Path, now: datetime) -> Path:
    """Move the files of a store into a folder beside it; at every moment they are whole in one place or the other."""
    folder = path.with_name(f"before-restore-{now.astimezone(UTC):%Y%m%dT%H%M%S}Z-{secrets.token_hex(2)}")
    try:
        folder.mkdir(mode=0o700)
        # What its log still holds has both names until the file itself has gone there too.
        with suppress(FileNotFoundError):
            wal = path.name + "-wal"
            os.link(path.with_name(wal), folder / wal)
        sync_directory(folder)
        path.replace(folder / path.name)
        sync_directory(folder)
        sync_directory(path.parent)
    except OSError as error:
        raise StoreError(f"{path} cannot be moved to {folder} ({error.strerror})") from error
    return folder


def _stopped() -> Unavailable:
    return Unavailable("the backup was broken off; nothing was left behind")
