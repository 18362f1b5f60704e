"""Makes results durable, in batches: rows and the cursors that they allow, in one transaction, after the peer has answered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from itertools import islice

import structlog

from lalert.clock import Clock
from lalert.dispatch.lanes import Lane, Mark, Planned
from lalert.dispatch.told import Told
from lalert.errors import Fenced, LalertError, Refused, UnknownPosition
from lalert.model import Lease, Subscription
from lalert.store import DeliveryRow, DeliveryState, Outbox

log = structlog.get_logger("lalert.dispatch")

RETRY_S = 1.0
"""Pause before a write that the store could not take is tried again."""


@dataclass(slots=True, eq=False)
class Result:
    """What became of one delivery.

    `holds` counts how often the lane waits for it; `optional` when the cursor alone can say it; `gone` when the subscription is to be forgotten with it.
    """

    row: DeliveryRow
    lane: Lane
    planned: Planned
    holds: int = 0
    optional: bool = False
    gone: bool = False


class Journal:
    """Group commit: while one batch is written the next one gathers, so a busy hub writes large batches and a quiet one writes at once.

    A lane goes on only when its last result was written, so a crash repeats at most the delivery that was under way. While the store cannot
    write, deliveries go on and their results wait here: nobody goes untold because a disk is full.
    """

    def __init__(
        self,
        store: Outbox,
        clock: Clock,
        examined: Callable[[Lane], Mark | None],
        released: Callable[[Lane], None],
        batch: int,
        taken: Callable[[Collection[str]], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._examined = examined
        self._released = released
        self._batch = batch
        self._taken = taken
        """Told the names of leases that the store says are another node's."""
        self.told: Told | None = None
        """Where results go that a row is too much for; None where other nodes would not find them."""
        self._pending: dict[str, Result] = {}
        self._writing: dict[str, Result] = {}
        self._wrote = asyncio.Event()
        self._one_by_one = 0
        self._gone: dict[str, Subscription] = {}
        self._work = asyncio.Event()
        self._cause = ""

    @property
    def unrecorded(self) -> int:
        """Return how many results are not durable yet."""
        return len(self._pending) + len(self._writing)

    def pending(self, key: str) -> Result | None:
        """Return the result of a delivery that is not durable yet."""
        return self._pending.get(key)

    def note(self, result: Result) -> None:
        """Take a result; a newer one of the same delivery replaces it."""
        older = self._pending.get(result.row.key)
        if older is not None:
            result.holds, older.holds = result.holds + older.holds, 0
            result.optional = result.optional and older.optional
        self._pending[result.row.key] = result
        self._work.set()

    def keep(self, subscription_id: str) -> None:
        """Forget no subscription whose target was gone and has just been subscribed again, under the same id."""
        self._gone.pop(subscription_id, None)
        for result in (*self._pending.values(), *self._writing.values()):
            if result.lane.id == subscription_id:
                result.gone = False

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._work.wait()
            if not await self._write():
                await self._clock.sleep(RETRY_S)

    async def flush(self) -> None:
        """Write everything, or stop at the first write that the store refuses."""
        while (self._pending or self._gone) and await self._write():
            pass

    async def advance(self, lanes: Iterable[Lane]) -> None:
        """Move the cursors of lanes that had nothing to send, so that a restart and the log's trimming do not wait for them. Raises `LalertError`."""
        busy = {result.lane.id for result in (*self._pending.values(), *self._writing.values())}
        behind = iter([lane for lane in lanes if lane.id not in busy and self._move(lane, set()) is not None])
        while chunk := list(islice(behind, self._batch)):
            try:
                await self._advance(chunk)
            except Fenced as error:
                self._taken(error.names)
                # Those that were taken are closed by now.
                await self._advance(chunk)

    async def _advance(self, chunk: Iterable[Lane]) -> None:
        moves = {lane.id: (lane, move) for lane in chunk if (move := self._move(lane, set())) is not None}
        if not moves:
            return
        fences = _fences(lane for lane, _ in moves.values())
        await self._store.record((), {key: move.position for key, (_, move) in moves.items()}, fences)
        for lane, move in moves.values():
            lane.cursor = move

    def forget_lost(self) -> None:
        """Drop the results of lanes that are another node's by now: it sends again, and says itself what became of it."""
        self._pending = {key: result for key, result in self._pending.items() if not result.lane.lost}

    async def drained(self, lanes: Collection[Lane]) -> None:
        """Wait until nothing of these lanes is left to write."""
        concerned = {lane.id for lane in lanes}
        while any(r.lane.id in concerned for r in (*self._pending.values(), *self._writing.values())):
            await self._wrote.wait()

    async def written(self, key: str) -> None:
        """Wait until no write is under way that holds this delivery."""
        while key in self._writing:
            await self._wrote.wait()

    async def _write(self) -> bool:
        """Write a batch; returns False if the store could not take it."""
        self._work.clear()
        size = 1 if self._one_by_one else self._batch
        self._writing = {key: self._pending.pop(key) for key in list(islice(self._pending, size))}
        batch = list(self._writing.values())
        try:
            await self._commit(batch)
        except (UnknownPosition, Refused) as error:
            self._refused(batch, error)
        except Fenced as error:
            self._fenced(batch, error)
        except BaseException as error:
            self._put_back(batch)
            if not isinstance(error, LalertError):
                raise
            self._say(error.detail)
            return False
        finally:
            self._writing = {}
            self._wrote.set()
            self._wrote = asyncio.Event()
            for result in batch:
                self._release(result)
            if self._pending or self._gone:
                self._work.set()
        self._one_by_one = max(0, self._one_by_one - 1)
        self._say("")
        return True

    def _refused(self, batch: list[Result], error: LalertError) -> None:
        """Find the one row that the store will never take: it must not keep all others from being written."""
        if len(batch) > 1:
            self._one_by_one = len(batch) + 1
            self._put_back(batch)
            return
        for result in batch:
            log.error(
                "a delivery's result is refused by the store and lost", key=result.row.key, cause=str(error)
            )

    def _fenced(self, batch: list[Result], error: Fenced) -> None:
        taken = [r for r in batch if r.lane.lease is not None and r.lane.lease.name in error.names]
        for result in taken:
            result.lane.lost = True
        self._put_back(batch)
        self._taken(error.names)

    def _put_back(self, batch: list[Result]) -> None:
        # In front: what superseded something must never become durable before the row that says so.
        newer = self._pending
        self._pending = {result.row.key: result for result in batch if not result.lane.lost}
        for result in newer.values():
            self.note(result)

    async def _commit(self, batch: list[Result]) -> None:
        touched: dict[str, tuple[Lane, set[str]]] = {}
        for result in batch:
            touched.setdefault(result.lane.id, (result.lane, set()))[1].add(result.planned.position)
        moves = {
            key: move
            for key, (lane, known) in touched.items()
            if (move := self._move(lane, known)) is not None
        }
        for result in batch:
            # Only a row has room for a confirmation.
            result.optional = result.optional and result.row.confirmed is None
        left = [r for r in batch if not (r.optional and self._told_by_cursor(r, moves))]
        rows = [r.row for r in left if not (r.optional and self.told is not None)]
        ahead = [(r.lane.id, r.planned.alert_id) for r in left if r.optional]
        if self.told is not None and ahead:
            await self.told.note(ahead)
        if rows or moves:
            fences = _fences(lane for lane, _ in touched.values())
            await self._store.record(rows, {key: move.position for key, move in moves.items()}, fences)
        for key, move in moves.items():
            touched[key][0].cursor = move
        for result in batch:
            tries = result.lane.tries.get(result.planned.position)
            if tries is not None and result.row.state is DeliveryState.RETRY:
                tries.recorded = True
            if result.gone:
                self._gone[result.lane.id] = result.lane.subscription
        for subscription_id in list(self._gone):
            kept = await self._store.lane(subscription_id)
            # Subscribed again meanwhile, here or at another node?
            if kept is not None and kept.subscription == self._gone.get(subscription_id):
                await self._store.drop_subscription(subscription_id)
            self._gone.pop(subscription_id, None)

    def _move(self, lane: Lane, recorded: set[str]) -> Mark | None:
        """Return where a lane's cursor may go, None if it stays."""
        blocker, examined = lane.blocker(recorded), self._examined(lane)
        before = examined if blocker is None else blocker.before
        if lane.closed or examined is None or before is None:
            return None
        reached = min(examined, before)
        return reached if reached.order > lane.cursor.order else None

    @staticmethod
    def _told_by_cursor(result: Result, moves: dict[str, Mark]) -> bool:
        return result.planned.order <= moves.get(result.lane.id, result.lane.cursor).order

    def _release(self, result: Result) -> None:
        if result.holds:
            result.lane.held -= result.holds
            result.holds = 0
            self._released(result.lane)

    def _say(self, cause: str) -> None:
        if cause == self._cause:
            return
        self._cause = cause
        if cause:
            log.error(
                "delivery results cannot be recorded; deliveries go on",
                cause=cause,
                unrecorded=self.unrecorded,
            )
        else:
            log.info("delivery results are recorded again")


def _fences(lanes: Iterable[Lane]) -> frozenset[Lease]:
    return frozenset(lane.lease for lane in lanes if lane.lease is not None)
