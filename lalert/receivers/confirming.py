"""Hears confirmations, measures them, and writes down whose they are.

What came on a stream is on disk within a second; a hub that is killed before has lost it, and the receiver's next one says more. What was posted is
answered when it is on disk.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Collection
from datetime import datetime
from itertools import islice
from types import TracebackType
from typing import Final, Protocol, Self, TypeVar

import structlog

from lalert.clock import Clock
from lalert.errors import BadRequest, LalertError, NotFound, UnknownPosition
from lalert.model import Entry, Filter, Role
from lalert.receivers.figures import TOTAL, seconds_by_hop
from lalert.store import Confirmation, ConfirmationBook
from lalert.tenancy import Caller, KeyRing, may_see

log = structlog.get_logger()

FLUSH_SECONDS: Final = 1.0

MAX_WAITING: Final = 50_000
"""Confirmations that wait to be looked at, and that wait to be written; those beyond are dropped and counted."""

ROWS_AT_ONCE: Final = 200
"""Written in one go: a few milliseconds of the writer that alerts wait for too."""

LOOKS_AT_ONCE: Final = 100
"""Looked at before other work gets a turn: under 2 ms."""

K = TypeVar("K")
T = TypeVar("T")

REMEMBERED: Final = 1_000
"""Alerts that are confirmed now, and whom they concern."""


class Ack(Protocol):
    """What a receiver said on a stream: it has everything up to `position`."""

    @property
    def position(self) -> str: ...

    @property
    def received(self) -> datetime: ...

    @property
    def key_id(self) -> str | None: ...

    @property
    def filter(self) -> Filter: ...

    @property
    def audience(self) -> object: ...


class Log(Protocol):
    """What is asked of the log (`store.AlertLog`)."""

    def order(self, position: str) -> tuple[int, ...]: ...

    async def reach(self, position: str) -> None: ...

    async def entry(self, position: str) -> Entry | None: ...


class Receivers:
    """Listens for as long as it is entered; what is left is written when it is left.

    Handed in: `wants` says whether a filter wants an entry, `sent` when this node told of what is at a position, `observe` hears the seconds of each hop.
    """

    def __init__(
        self,
        book: ConfirmationBook,
        log: Log,
        keyring: KeyRing,
        clock: Clock,
        *,
        wants: Callable[[Filter, Entry], Awaitable[bool]],
        sent: Callable[[str], datetime | None],
        observe: Callable[[str, float], object],
    ) -> None:
        self._book = book
        self._log = log
        self._keyring = keyring
        self._clock = clock
        self._wants = wants
        self._sent = sent
        self._observe = observe
        self._said: deque[Ack] = deque()
        self._unwritten: dict[tuple[str, str], Confirmation] = {}
        self._known: OrderedDict[str, Entry | None] = OrderedDict()
        self._concerned: OrderedDict[tuple[str, Filter], bool] = OrderedDict()
        self._streamed: OrderedDict[str, None] = OrderedDict()
        self._one = asyncio.Lock()
        self.dropped = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self.flush()
        except LalertError as failure:
            log.error("the last confirmations of receivers were lost", detail=failure.detail)

    async def run(self) -> None:
        """Look and write every second, until cancelled."""
        while True:
            await self._clock.sleep(FLUSH_SECONDS)
            await self.flush()

    def hear(self, ack: Ack) -> None:
        """Take note of what a receiver said on a stream; never waits."""
        if len(self._said) < MAX_WAITING:
            self._said.append(ack)
        else:
            self.dropped += 1

    def streamed(self, entry: Entry, subscribers: int) -> None:
        """Measure how long an entry took to be told to somebody, once; never waits."""
        sent = self._sent(entry.position)
        if not subscribers or sent is None or entry.position in self._streamed:
            return
        _remember(self._streamed, entry.position, None)
        self._measure(
            Confirmation("", entry.position, "", entry.received, entry.stored, sent, sent), ("stored", "sent")
        )

    async def confirm(self, position: str, caller: Caller) -> None:
        """Keep it that a receiver has the alert at a position; returns once that is on disk.

        Raises `BadRequest`, `UnknownPosition`, `NotFound` (also for what the caller may not see) and `Unavailable`.
        """
        await self._log.reach(position)
        self._log.order(position)
        entry = await self._log.entry(position)
        if entry is None or not may_see(caller.audience, entry):
            raise NotFound("there is no such alert here")
        assert caller.key is not None
        self._note(caller.key.id, entry, self._clock.now())
        await self.flush()

    async def confirmed(self, keys: Collection[str]) -> dict[str, list[Confirmation]]:
        """Return what each of some keys has confirmed, the newest position first."""
        await self.flush()
        found: dict[str, list[Confirmation]] = {key: [] for key in keys}
        for each in await self._book.confirmations(keys):
            found[each.key].append(each)
        return found

    async def flush(self) -> None:
        """Look at what was said and write it down; broken off, or failed, it goes on where it was. Raises `Unavailable` and `StoreError`."""
        async with self._one:
            looks = 0
            while self._said:
                try:
                    await self._take(self._said[0])
                except LalertError:
                    raise
                except Exception:
                    # One that cannot be looked at must not keep all others waiting for ever.
                    log.exception("a confirmation could not be looked at", position=self._said[0].position)
                    self.dropped += 1
                self._said.popleft()
                looks += 1
                if looks % LOOKS_AT_ONCE == 0:
                    await asyncio.sleep(0)
            while self._unwritten:
                # Taken out only when it is written: to write it twice changes nothing.
                rows = list(islice(self._unwritten.values(), ROWS_AT_ONCE))
                await self._write(rows)
                for row in rows:
                    self._unwritten.pop((row.key, row.position), None)

    async def _write(self, rows: list[Confirmation]) -> None:
        try:
            await self._book.add_confirmations(rows)
        except UnknownPosition:
            # The log has begun a new epoch: these positions are nobody's any more.
            self.dropped += len(rows)

    async def _take(self, ack: Ack) -> None:
        entry = await self._entry(ack.position)
        audience = ack.audience if isinstance(ack.audience, str) else None
        # Only what it was told: the position of a heartbeat may be that of an alert which it never asked for.
        if entry is not None and may_see(audience, entry) and await self._concerns(ack.filter, entry):
            self._note(ack.key_id, entry, ack.received)

    async def _concerns(self, filter: Filter, entry: Entry) -> bool:
        # Ten thousand who asked for the same confirm the same alert.
        case = (entry.position, filter)
        if case not in self._concerned:
            _remember(self._concerned, case, await self._wants(filter, entry))
        return self._concerned[case]

    async def _entry(self, position: str) -> Entry | None:
        if position not in self._known:
            try:
                entry = await self._log.entry(position)
            except (BadRequest, UnknownPosition):
                entry = None
            _remember(self._known, position, entry)
        return self._known[position]

    def _note(self, key_id: str | None, entry: Entry, now: datetime) -> None:
        sent = self._sent(entry.position)
        confirmation = Confirmation(
            key_id or "", entry.position, entry.alert.id, entry.received, entry.stored, sent, now
        )
        self._measure(confirmation, ("confirmed",))
        holder = self._keyring.holder(key_id) if key_id is not None else None
        if holder is None or holder.role is not Role.RECEIVER:
            return
        if len(self._unwritten) < MAX_WAITING:
            self._unwritten.setdefault((confirmation.key, confirmation.position), confirmation)
        else:
            self.dropped += 1

    def _measure(self, confirmation: Confirmation, hops: Collection[str]) -> None:
        for hop, seconds in seconds_by_hop(confirmation):
            if hop in hops and hop != TOTAL:
                self._observe(hop, seconds)


def _remember(known: OrderedDict[K, T], key: K, what: T) -> None:
    known[key] = what
    if len(known) > REMEMBERED:
        known.popitem(last=False)
