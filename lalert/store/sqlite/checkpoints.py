"""Moves what is committed from the log file into the database, in a thread of its own, so that no commit waits for it."""

from __future__ import annotations

import logging
import threading
import time
from typing import Final

import apsw

from lalert.store.sqlite.files import close

log = logging.getLogger(__name__)

SOON_PAGES: Final = 512
"""Unmoved pages (4 MB) at which a pass begins."""

FULL_PAGES: Final = 2048
"""Pages in the log (16 MB) at which the writer itself finishes a pass between two commits, so that the log can begin anew."""

IDLE_SECONDS: Final = 1.0

_SYNC_FAILED: Final = (apsw.SQLITE_IOERR_FSYNC, apsw.SQLITE_IOERR_DIR_FSYNC)


class Checkpoints:
    """Owns a connection and a thread. Passes are PASSIVE: they hold up neither readers nor the writer.

    Once all is moved, the next commit begins the log anew at its start. Under load without a pause that never happens by itself, as commits
    arrive during every pass; then the writer moves the small rest between two commits. The log file keeps its size: writing over it is
    quicker than growing it, and `journal_size_limit` bounds it.

    After a sync of the database that failed nothing is moved any more (`over`). What earlier passes had written may be lost with it, although it
    can still be read, and SQLite would not write it again: it counts each pass as done, and syncs after the last one only. The log then keeps all
    that was committed, and whoever opens the file next moves all of it from its start.
    """

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db
        self._changed = threading.Condition()
        self._passing = threading.Lock()
        self._pages = 0
        self._moved = 0
        self._last_commit = time.monotonic()
        self._closing = False
        self._not_before = 0.0
        self._trouble = ""
        self.over = False
        self._thread = threading.Thread(target=self._run, name="lalert-store-checkpoints", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """End the thread and close the connection; blocks until a pass under way is over."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()
        close(self._db)

    def note(self, pages: int) -> None:
        """Take note, in the writer's thread, that the log has `pages` pages after a commit."""
        with self._changed:
            first = self._pages == self._moved
            if pages < self._pages:
                # The log has begun anew.
                self._moved = 0
            self._pages = pages
            self._last_commit = time.monotonic()
            if first or pages - self._moved >= SOON_PAGES:
                self._changed.notify()

    def finish(self, db: apsw.Connection) -> None:
        """Move the rest between two commits, in the writer's thread, when the log is full and the rest is small (or the log far too long)."""
        if self._pages < FULL_PAGES or self.over:
            return
        overdue = self._pages >= 4 * FULL_PAGES
        if not overdue and self._pages - self._moved > SOON_PAGES:
            return
        if self._passing.acquire(blocking=overdue):
            try:
                self._move(db)
            finally:
                self._passing.release()

    def _run(self) -> None:
        while self._wait():
            wanted = self._pages
            with self._passing:
                complete = self._move(self._db) >= wanted
            # A reader in an old state of the log, or a disk without room, holds the pass up: trying at once again would only burn the processor.
            self._not_before = 0.0 if complete else time.monotonic() + IDLE_SECONDS

    def _wait(self) -> bool:
        """Wait until a pass is due (much to move, or some and a quiet second); False when it is time to end."""
        with self._changed:
            while not (self._closing or self.over):
                now = time.monotonic()
                unmoved = self._pages - self._moved
                due = self._last_commit + (0.0 if unmoved >= SOON_PAGES else IDLE_SECONDS)
                wait = max(due, self._not_before) - now
                if unmoved and wait <= 0:
                    return True
                self._changed.wait(wait if unmoved else None)
            return False

    def _move(self, db: apsw.Connection) -> int:
        if self.over:
            return 0
        try:
            _, moved = db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        except apsw.Error as error:
            if getattr(error, "extendedresult", None) in _SYNC_FAILED:
                self.over = True
                log.error(
                    "the disk has failed to sync the database (%s); its log keeps everything: check the disk and restart this node",
                    error,
                )
                return 0
            # The log still holds everything, so nothing is lost; said once for each cause.
            if str(error) != self._trouble:
                self._trouble = str(error)
                log.warning("the store's log cannot be moved into its database: %s", error)
            return 0
        self._trouble = ""
        with self._changed:
            self._moved = min(moved, self._pages)
        return moved
