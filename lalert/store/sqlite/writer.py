"""The one thread that writes: everything waiting is committed together, and nobody is told before the commit is durable."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import apsw

from lalert.errors import LalertError, StoreError, Unavailable
from lalert.store.sqlite.checkpoints import Checkpoints

T = TypeVar("T")

log = logging.getLogger(__name__)

_DISK_RETRY_SECONDS: Final = 5.0
_LOOK_SECONDS: Final = 0.5

MANY: Final = 4
"""From so many on, one step for all costs less than a step for each: between steps the writer has to win the interpreter from the event loop."""

ENOUGH: Final = 64
"""So many writes of one turn of the loop are worth a commit: while it is made, the loop prepares the next."""


Work = Callable[[apsw.Connection], T]
"""What one write does to the database, in the writer's thread, inside the batch's transaction.

It either succeeds or raises and leaves nothing: more than one changing statement goes into `all_or_nothing`.
"""


Together = Callable[[apsw.Connection, Sequence[Any]], Sequence[object | None]]
"""Does the work of many items in one step; None is the result of one that must be done by itself. Raises only if it has changed nothing."""


class Write:
    """One piece of work on its way, and what came of it. `rows` and `size` (bytes) are what it weighs in a batch.

    `item` is set where the work may also be done `Together` with others.
    """

    __slots__ = ("done", "failure", "item", "result", "rows", "since", "size", "urgent", "work")

    def __init__(
        self,
        work: Work[object],
        done: asyncio.Future[object],
        rows: int,
        size: int,
        urgent: bool,
        since: float,
    ) -> None:
        self.work = work
        self.done = done
        self.rows = rows
        self.size = size
        self.urgent = urgent
        self.since = since
        self.item: object = None
        self.result: object = None
        self.failure: Exception | None = None


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much may wait, how much one commit takes, and how many seconds a write may take before its caller is told to come back."""

    waiting: int = 4096
    waiting_bytes: int = 64 * 1024 * 1024
    batch_rows: int = 256
    notes_rows: int = 128
    """Of the hub's own notes one commit takes fewer: an alert that comes meanwhile waits for it."""
    notes_beside: int = 16
    """So few may go with alerts, so that small notes need no commit of their own."""
    batch_bytes: int = 4 * 1024 * 1024
    stall_seconds: float = 10.0


class Writer:
    """Owns the write connection, its thread and the queue before it.

    There are two lines: what a sender waits for (`urgent`), and the hub's own notes (deliveries, readings, keys). Where both have something they take turns, so that neither starves
    and no alert waits for more notes than are being written when it comes; a few notes go with the alerts.

    `committed` is called on the loop with the writes of a batch that are durable, before any of their callers is answered.
    """

    def __init__(
        self,
        db: apsw.Connection,
        *,
        bounds: Bounds,
        checkpoints: Checkpoints,
        together: Together,
        committed: Callable[[Sequence[Write]], None],
        rolled_back: Callable[[], None],
    ) -> None:
        self._db = db
        self._bounds = bounds
        self._checkpoints = checkpoints
        self._together = together
        self._committed = committed
        self._rolled_back = rolled_back
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._arrivals: queue.SimpleQueue[Sequence[Write] | None] = queue.SimpleQueue()
        # Touched by the writer's thread only.
        self._urgent: deque[Write] = deque()
        self._other: deque[Write] = deque()
        self._notes_next = False
        self._ending = False
        # Touched by the loop's thread only, like everything about futures.
        self._closing = False
        self._gathered: list[Write] = []
        self._crowded = False
        self._open: dict[Write, None] = {}
        self._open_bytes = 0
        self.urgent = 0
        """Of those that were taken and are not settled, the alerts."""
        self._stalled = False
        self._settled = 0
        self._look: asyncio.TimerHandle | None = None
        self._broken = ""
        self._trouble = ""
        self._thread = threading.Thread(target=self._run, name="lalert-store-writer", daemon=True)
        db.set_wal_hook(self._note_log)

    def start(self) -> None:
        self._thread.start()

    async def close(self) -> bool:
        """Commit what was taken and tell the thread to end; then `join` it. The connection stays open for its owner to close.

        Returns False when the disk hangs and the thread with it: nothing can be joined or closed then, and whoever waits has been told.
        """
        self._closing = True
        self._hand_over()
        self._arrivals.put(None)
        settled = -1
        while self._thread.is_alive() and not self._ended.done() and settled != self._settled:
            settled = self._settled
            await asyncio.wait([self._ended], timeout=self._bounds.stall_seconds)
        if self._look is not None:
            self._look.cancel()
        return self._ended.done() or not self._thread.is_alive()

    def join(self) -> None:
        """Wait until the thread has ended: blocks, if only for a moment."""
        self._thread.join()

    def submit(
        self, work: Work[object], *, rows: int = 1, size: int = 0, urgent: bool = False, item: object = None
    ) -> asyncio.Future[object]:
        """Put work into its line; the future is resolved once it is durable. `item` is what `together` takes, where that can do the same.

        Raises `Unavailable` at once when the line is full or the disk has stopped answering, `StoreError` when the store is closed or broken.
        """
        if self._broken:
            raise StoreError(self._broken)
        if self._closing:
            raise StoreError("the store is closed")
        if self._stalled:
            raise Unavailable("the disk has stopped answering", retry_after=_DISK_RETRY_SECONDS)
        if len(self._open) >= self._bounds.waiting or self._open_bytes + size > self._bounds.waiting_bytes:
            raise Unavailable(
                "the disk cannot keep up: too many alerts are waiting to be stored", retry_after=1.0
            )
        done: asyncio.Future[object] = self._loop.create_future()
        write = Write(work, done, rows, size, urgent, self._loop.time())
        write.item = item
        if self._open or self._crowded:
            # Where there is one there are others in this turn of the loop: together they are one commit and wake the thread once.
            if not self._gathered:
                self._loop.call_soon(self._hand_over)
            self._gathered.append(write)
            if len(self._gathered) >= ENOUGH:
                self._hand_over()
        else:
            self._arrivals.put((write,))
        self._open[write] = None
        self._open_bytes += size
        self.urgent += urgent
        if self._look is None:
            self._look = self._loop.call_later(_LOOK_SECONDS, self._look_for_stall)
        return done

    def _hand_over(self) -> None:
        if self._gathered:
            self._arrivals.put(self._gathered)
            self._gathered = []

    def _run(self) -> None:
        failure: BaseException | None = None
        try:
            while batch := self._take():
                self._commit(batch)
                self._tell(self._settle, batch)
                self._checkpoints.finish(self._db)
        except BaseException as error:
            # The thread's whole body: whoever waits must be told that nobody writes any more.
            failure = error
            log.exception("the store's writer has died")
        self._tell(self._end, failure)

    def _take(self) -> list[Write]:
        """Wait for work and take a batch; an empty one means that it is time to end."""
        if not (self._urgent or self._other or self._ending):
            self._sort(self._arrivals.get())
        for _ in range(self._arrivals.qsize()):
            self._sort(self._arrivals.get())
        if self._urgent and not self._notes_next:
            batch = self._from(self._urgent, self._bounds.batch_rows)
            if self._other and self._other[0].rows <= self._bounds.notes_beside:
                batch += self._from(self._other, self._bounds.notes_beside)
            self._notes_next = bool(self._other)
        else:
            batch = self._from(self._other, self._bounds.notes_rows)
            self._notes_next = False
        return batch

    def _from(self, line: deque[Write], most: int) -> list[Write]:
        """Take up to `most` rows out of a line; a write that is larger than a batch goes alone."""
        batch: list[Write] = []
        rows = size = 0
        while line:
            rows += line[0].rows
            size += line[0].size
            if batch and (rows > most or size > self._bounds.batch_bytes):
                break
            batch.append(line.popleft())
        return batch

    def _sort(self, arrivals: Sequence[Write] | None) -> None:
        if arrivals is None:
            self._ending = True
            return
        for write in arrivals:
            (self._urgent if write.urgent else self._other).append(write)

    def _commit(self, batch: Sequence[Write]) -> None:
        """Make all of a batch durable, in as few steps as can be; what failed has its `failure`, what did not is committed."""
        for way in (self._commit_in_one_step, self._commit_in_one_transaction):
            if len(batch) > 1:
                batch = self._attempt(way, batch)
        for write in batch:
            self._commit_alone(write)

    def _attempt(
        self, way: Callable[[Sequence[Write]], Sequence[Write]], batch: Sequence[Write]
    ) -> Sequence[Write]:
        """Go one way with a batch; returns what must go another."""
        try:
            left = way(batch)
        except apsw.FullError:
            # Perhaps one is too large for the room that is left on the disk, and the others are not.
            self._roll_back()
            for write in batch:
                write.result = write.failure = None
            return batch
        except Exception as error:  # noqa: BLE001  # whatever it is, each caller is told of it
            self._roll_back()
            for write in batch:
                self._fail(write, error)
            return ()
        self._trouble = ""
        return left

    def _commit_in_one_step(self, batch: Sequence[Write]) -> Sequence[Write]:
        """Do and commit fresh alerts, the usual batch, in a single statement; returns what is left, and all if there is anything else."""
        return self._do_together(batch) if all(write.item is not None for write in batch) else batch

    def _commit_in_one_transaction(self, batch: Sequence[Write]) -> Sequence[Write]:
        self._db.execute("BEGIN IMMEDIATE")
        for write in self._do_together(batch):
            self._do(write)
        self._db.execute("COMMIT")
        return ()

    def _commit_alone(self, write: Write) -> None:
        # Work by itself is a transaction of its own, without the two more steps of BEGIN and COMMIT.
        try:
            write.result = write.work(self._db)
            self._trouble = ""
        except Exception as error:  # noqa: BLE001  # whatever it is, the caller is told of it
            self._roll_back()
            self._fail(write, _first_cause(error))

    def _do_together(self, batch: Sequence[Write]) -> Sequence[Write]:
        """Do what can be done in one step; returns what is left to be done one by one."""
        many = [write for write in batch if write.item is not None]
        if len(many) < MANY:
            return batch
        try:
            results = self._together(self._db, [write.item for write in many])
        except apsw.Error:
            raise
        except Exception:  # noqa: BLE001  # one by one it shows whose fault it is
            return batch
        for write, result in zip(many, results, strict=True):
            write.result = result
        return [write for write in batch if write.result is None]

    def _do(self, write: Write) -> None:
        try:
            write.result = write.work(self._db)
        except Exception as error:
            self._rolled_back()
            # On a full disk or an I/O error SQLite may end the whole transaction; then it failed for everybody.
            if not self._db.in_transaction:
                raise _first_cause(error) from error
            self._fail(write, error)

    def _roll_back(self) -> None:
        self._rolled_back()
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def _fail(self, write: Write, error: Exception) -> None:
        write.result, write.failure = None, _explained(error)
        if isinstance(error, LalertError):
            return
        if write.failure is error:
            log.error("a write failed for a reason of its own", exc_info=error)
        elif str(error) != self._trouble:
            self._trouble = str(error)
            log.error("the store cannot commit: %s", error)

    def _tell(self, callback: Callable[..., None], *values: object) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, *values)
        except RuntimeError:
            # The loop is closed only if somebody ended it without closing the store; then nobody is left to be told.
            return

    def _note_log(self, _db: apsw.Connection, _name: str, pages: int) -> int:
        self._checkpoints.note(pages)
        return apsw.SQLITE_OK

    def _settle(self, batch: Sequence[Write]) -> None:
        self._stalled = False
        self._settled += 1
        self._crowded = len(batch) > 1
        for write in batch:
            del self._open[write]
            self._open_bytes -= write.size
            self.urgent -= write.urgent
        durable = [write for write in batch if write.failure is None]
        if durable:
            try:
                self._committed(durable)
            except Exception:  # what is durable must be answered, whatever a listener did
                log.exception("a listener to the store failed")
        for write in batch:
            if isinstance(write.failure, StoreError):
                self._broken = write.failure.detail
            if write.done.done():
                continue
            if write.failure is None:
                write.done.set_result(write.result)
            else:
                write.done.set_exception(write.failure)

    def _end(self, failure: BaseException | None) -> None:
        if failure is not None:
            self._broken = f"the store's writer has died ({type(failure).__name__}); restart this node"
        for write in self._open:
            if not write.done.done():
                write.done.set_exception(StoreError(self._broken))
        self._open.clear()
        self.urgent = 0
        self._ended.set_result(None)

    def _look_for_stall(self) -> None:
        """Answer those who have waited too long. Their writes may still be made: a sender that comes again is then told of its first one."""
        self._look = None
        oldest = next(iter(self._open), None)
        if oldest is None:
            return
        if self._loop.time() - oldest.since >= self._bounds.stall_seconds:
            self._stalled = True
            for write in self._open:
                if not write.done.done():
                    write.done.set_exception(
                        Unavailable("the disk has stopped answering", retry_after=_DISK_RETRY_SECONDS)
                    )
        self._look = self._loop.call_later(_LOOK_SECONDS, self._look_for_stall)


def _first_cause(error: Exception) -> Exception:
    """Return what came first: a savepoint that went with its transaction complains on top of it."""
    while isinstance(error, apsw.SQLError) and isinstance(error.__context__, apsw.Error):
        error = error.__context__
    return error


def _explained(error: Exception) -> Exception:
    """Return what the caller of a failed write is told."""
    match error:
        case apsw.FullError():
            return Unavailable("the disk is full: make room on it", retry_after=_DISK_RETRY_SECONDS)
        case apsw.CorruptError() | apsw.NotADBError():
            return StoreError(f"the store is damaged ({error}): stop this node and restore the newest backup")
        case (
            apsw.IOError()
            | apsw.ReadOnlyError()
            | apsw.BusyError()
            | apsw.CantOpenError()
            | apsw.LockedError()
        ):
            return Unavailable(
                f"the disk does not take anything now ({error})", retry_after=_DISK_RETRY_SECONDS
            )
        case _:
            return error
