"""A node's part in dividing work, over any `Ledger`: what it holds, when it must believe that it lost it, and how much it gives to others."""

from __future__ import annotations

import asyncio
import math
import secrets
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import structlog

from lalert.bus import Held, Leases, Ledger, Release, Shares
from lalert.clock import Clock
from lalert.errors import LalertError
from lalert.model import Lease

log = structlog.get_logger("lalert.leases")


@dataclass(frozen=True, slots=True)
class LeaseTimes:
    """Seconds: how long the ledger lets a lease run, how often it is renewed, how long before its end a node believes it lost, and how long a release may take.

    In a `hurry` is a node that has less than its part, or could not ask the ledger.
    """

    lease: float = 6.0
    renewal: float = 2.0
    margin: float = 1.0
    release: float = 3.0
    hurry: float = 0.5


class LedgerLeases:
    """The leases of one node among many. `node` is a name that no other process has, nor this one after a restart."""

    def __init__(
        self,
        ledger: Ledger,
        clock: Clock,
        *,
        node: str | None = None,
        times: LeaseTimes | None = None,
    ) -> None:
        self.node = node or secrets.token_hex(8)
        self._ledger = ledger
        self._clock = clock
        self._times = times or LeaseTimes()

    def divide(self, kind: str, count: int, *, release: Release | None = None) -> _Part:
        return _Part(kind, count, self.node, self._ledger, self._clock, self._times, release)


def part(count: int, nodes: int, short: int) -> int:
    """Return how many of `count` shares a node holds at most.

    That is its part rounded up, so that all are held and none moves without need; rounded down as long as somebody is `short` of as much.
    """
    return count // nodes if short else math.ceil(count / nodes)


async def only_here(leases: Leases, name: str, work: Callable[[Lease], Awaitable[None]]) -> None:
    """Do a piece of work while this node holds the one lease of that name: ended when it is lost, begun again when it is there again; for ever.

    What the work raises ends this too, and gives the lease to whoever else will have it.
    """
    changed = asyncio.Event()
    async with leases.divide(name, 1) as shares:
        detach = shares.attach(changed.set)
        try:
            while True:
                changed.clear()
                lease = shares.held.get(0)
                if lease is not None:
                    await _while_held(lease, work, shares, changed)
                else:
                    await changed.wait()
        finally:
            detach()


async def _while_held(
    lease: Lease, work: Callable[[Lease], Awaitable[None]], shares: Shares, changed: asyncio.Event
) -> None:
    task = asyncio.ensure_future(work(lease))
    try:
        while shares.held.get(0) == lease and not task.done():
            changed.clear()
            told = asyncio.ensure_future(changed.wait())
            try:
                await asyncio.wait([task, told], return_when=asyncio.FIRST_COMPLETED)
            finally:
                told.cancel()
    finally:
        done = task.done()
        task.cancel()
        await asyncio.wait([task])
    if done:
        task.result()


class _Part:
    """One node's shares of one kind. `_until` says, in monotonic seconds, from when on each must be believed lost."""

    def __init__(
        self,
        kind: str,
        count: int,
        node: str,
        ledger: Ledger,
        clock: Clock,
        times: LeaseTimes,
        release: Release | None,
    ) -> None:
        self.sole = False
        self._kind = kind
        self._count = count
        self._node = node
        self._ledger = ledger
        self._clock = clock
        self._times = times
        self._release = release
        self._leases: dict[int, Lease] = {}
        self._until = 0.0
        self._leaving: asyncio.Task[None] | None = None
        self._listeners: dict[object, Callable[[], None]] = {}
        self._told: Held = {}
        self._cause = ""
        self._short = False

    @property
    def held(self) -> Held:
        return {} if self._clock.monotonic() >= self._until else dict(self._leases)

    def attach(self, listener: Callable[[], None]) -> Callable[[], None]:
        name = object()
        self._listeners[name] = listener

        def detach() -> None:
            self._listeners.pop(name, None)

        return detach

    async def __aenter__(self) -> Self:
        # What can be had at once is there when the context begins; a ledger that cannot be asked yet keeps nobody from starting.
        await self._round()
        self._tasks = [
            asyncio.create_task(self._keep(), name=f"leases of {self._kind}"),
            asyncio.create_task(self._watch(), name=f"ends of leases of {self._kind}"),
        ]
        return self

    async def __aexit__(self, *exc: object) -> None:
        tasks = [*self._tasks, self._leaving] if self._leaving is not None else self._tasks
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        leases, self._leases = list(self._leases.values()), {}
        self._tell()
        with suppress(LalertError, TimeoutError):
            async with asyncio.timeout(self._times.renewal):
                await self._ledger.give(self._kind, self._node, leases, leaves=True)

    async def _keep(self) -> None:
        while True:
            await self._clock.sleep(self._times.hurry if self._cause or self._short else self._times.renewal)
            await self._round()

    async def _watch(self) -> None:
        """Tell of a loss when it comes to pass by the clock, whatever the ledger does."""
        while True:
            left = self._until - self._clock.monotonic()
            await self._clock.sleep(left if left > 0 else self._times.margin)
            self._tell()

    async def _round(self) -> None:
        try:
            # Longer than this, and what it renewed would be believed lost before the answer came.
            async with asyncio.timeout(self._times.lease - self._times.margin):
                await self._renew_and_share()
        except (LalertError, TimeoutError) as error:
            self._say(str(error) or "it took too long")
        except Exception as error:
            self._say(repr(error))
            log.exception("a defect in the leases", kind=self._kind)
        else:
            self._say("")

    async def _renew_and_share(self) -> None:
        before = self._clock.monotonic()
        # What ran out while this node was frozen or cut off is not taken up again, though the ledger may not have given it to others yet.
        if before >= self._until and self._leases:
            log.warning("leases ran out before they were renewed", kind=self._kind, count=len(self._leases))
            self._leases = {}
            self._tell()
        held = list(self._leases.values())
        still, nodes, short = await self._ledger.beat(self._kind, self._node, held, short=self._short)
        kept = set(still)
        self._leases = {number: lease for number, lease in self._leases.items() if lease in kept}
        self._until = before + self._times.lease - self._times.margin
        self._tell()
        most = part(self._count, nodes, short)
        if len(self._leases) < most:
            for lease in await self._ledger.take(
                self._kind, self._count, self._node, most - len(self._leases)
            ):
                self._leases[_number(lease)] = lease
            self._tell()
        elif len(self._leases) > most and (self._leaving is None or self._leaving.done()):
            # Apart from this, which has the others to renew meanwhile.
            self._leaving = asyncio.create_task(self._give_up(sorted(self._leases)[most:]))
        # Others hold more than their part then, and give it up when they hear of this.
        self._short = len(self._leases) < self._count // nodes

    async def _give_up(self, numbers: Collection[int]) -> None:
        leases = [self._leases[number] for number in numbers]
        if self._release is not None:
            try:
                async with asyncio.timeout(self._times.release):
                    await self._release(leases)
            except TimeoutError:
                pass
            except Exception:
                log.exception("work under a lease could not be finished", kind=self._kind)
        self._leases = {number: lease for number, lease in self._leases.items() if lease not in leases}
        self._tell()
        # If this fails, they are not renewed, and run out.
        with suppress(LalertError, TimeoutError):
            async with asyncio.timeout(self._times.renewal):
                await self._ledger.give(self._kind, self._node, leases)

    def _tell(self) -> None:
        held = self.held
        if held == self._told:
            return
        self._told = held
        for listener in list(self._listeners.values()):
            listener()

    def _say(self, cause: str) -> None:
        if cause == self._cause:
            return
        self._cause = cause
        if cause:
            log.warning("leases cannot be renewed", kind=self._kind, cause=cause)
        else:
            log.info("leases are renewed again", kind=self._kind)


def _number(lease: Lease) -> int:
    return int(lease.name.rpartition("/")[2])


if TYPE_CHECKING:
    _: type[Leases] = LedgerLeases
    __: type[Shares] = _Part
