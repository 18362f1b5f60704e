"""What every ledger of leases must do, as tests to inherit; and one in memory, for tests of many nodes in one process."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import TYPE_CHECKING, Final

from lalert.bus import Ledger, Shares
from lalert.bus.leases import LeaseTimes, LedgerLeases
from lalert.clock import Clock, SystemClock
from lalert.errors import Fenced, Unavailable
from lalert.model import Lease
from lalert.testing.bus import eventually

TIMES: Final = LeaseTimes(lease=0.8, renewal=0.15, margin=0.15, release=0.3, hurry=0.05)
"""Almost ten times as quick as in earnest."""


class MemoryLedger:
    """Holds the leases of all nodes of a test."""

    def __init__(self, clock: Clock, lease: float = TIMES.lease) -> None:
        self._clock = clock
        self._lease = lease
        self._signs: dict[tuple[str, str], tuple[float, bool]] = {}
        self._holders: dict[str, tuple[Lease, float]] = {}
        self._tokens: dict[str, int] = {}

    async def beat(
        self, kind: str, node: str, held: Collection[Lease], *, short: bool = False
    ) -> tuple[Collection[Lease], int, int]:
        now = self._clock.monotonic()
        self._signs[kind, node] = (now, short)
        still = [lease for lease in held if lease.owner == node and self._holds(lease)]
        for lease in still:
            self._holders[lease.name] = (lease, now)
        living = [sign for (k, _), sign in self._signs.items() if k == kind and now - sign[0] < self._lease]
        return still, len(living), sum(short for _, short in living)

    async def take(self, kind: str, count: int, node: str, most: int) -> Collection[Lease]:
        now = self._clock.monotonic()
        taken: list[Lease] = []
        for name in (f"{kind}/{number}" for number in range(count)):
            if len(taken) >= most:
                break
            if name not in self._holders or now - self._holders[name][1] >= self._lease:
                self._tokens[name] = self._tokens.get(name, 0) + 1
                taken.append(Lease(name, node, self._tokens[name]))
                self._holders[name] = (taken[-1], now)
        return taken

    async def give(self, kind: str, node: str, leases: Collection[Lease], *, leaves: bool = False) -> None:
        for lease in leases:
            if lease.owner == node and self._holds(lease):
                del self._holders[lease.name]
        if leaves:
            self._signs.pop((kind, node), None)

    def require(self, fences: Collection[Lease]) -> None:
        """Raise `Fenced`, as a store of many nodes does in each write, for leases that are another's by now."""
        lost = [fence.name for fence in fences if not self._holds(fence)]
        if lost:
            raise Fenced(lost)

    def _holds(self, lease: Lease) -> bool:
        return self._holders.get(lease.name, (None,))[0] == lease


class CutOff:
    """Stands between one node and the ledger: while `cut` the node hears nothing from it, and its requests are lost."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.cut = False

    async def beat(
        self, kind: str, node: str, held: Collection[Lease], *, short: bool = False
    ) -> tuple[Collection[Lease], int, int]:
        self._pass()
        return await self._ledger.beat(kind, node, held, short=short)

    async def take(self, kind: str, count: int, node: str, most: int) -> Collection[Lease]:
        self._pass()
        return await self._ledger.take(kind, count, node, most)

    async def give(self, kind: str, node: str, leases: Collection[Lease], *, leaves: bool = False) -> None:
        self._pass()
        await self._ledger.give(kind, node, leases, leaves=leaves)

    def _pass(self) -> None:
        if self.cut:
            raise Unavailable("this node is cut off")


class LedgerContract:
    """Inherit it in a test module (the class's name begins with Test), and let `open_ledger` return your ledger, empty, with leases of `TIMES.lease` seconds.

    The methods are coroutines: run them with a plug-in for asyncio tests.
    """

    def open_ledger(self) -> AbstractAsyncContextManager[Ledger]:
        """Return a context manager that gives a ledger in which nothing is written yet."""
        raise NotImplementedError

    async def test_a_share_has_one_owner_until_it_is_given_back(self) -> None:
        async with self.open_ledger() as ledger:
            first = await ledger.take("work", 4, "a", 3)
            second = await ledger.take("work", 4, "b", 3)
            assert sorted(lease.name for lease in (*first, *second)) == [f"work/{n}" for n in range(4)]
            assert {lease.owner for lease in first} == {"a"}
            assert {lease.owner for lease in second} == {"b"}
            assert list(await ledger.take("work", 4, "c", 4)) == []
            await ledger.give("work", "b", first)
            assert list(await ledger.take("work", 4, "c", 4)) == []
            await ledger.give("work", "a", first)
            assert len(await ledger.take("work", 4, "c", 4)) == 3

    async def test_a_token_is_higher_after_every_change_of_hands(self) -> None:
        async with self.open_ledger() as ledger:
            tokens: list[int] = []
            for node in ("a", "b", "a", "a"):
                [lease] = await ledger.take("work", 1, node, 1)
                tokens.append(lease.token)
                await ledger.give("work", node, [lease])
            assert tokens == sorted(set(tokens))

    async def test_kinds_are_apart(self) -> None:
        async with self.open_ledger() as ledger:
            await ledger.beat("work", "a", [])
            assert len(await ledger.take("work", 2, "a", 2)) == 2
            assert len(await ledger.take("other", 2, "b", 2)) == 2
            assert await ledger.beat("other", "b", []) == ([], 1, 0)

    async def test_a_lease_runs_out_unless_it_is_renewed_and_so_does_a_sign_of_life(self) -> None:
        async with self.open_ledger() as ledger:
            await ledger.beat("work", "dead", [])
            [kept] = await ledger.take("work", 1, "living", 1)
            [lost] = await ledger.take("work", 2, "dead", 1)
            nodes = 0
            for _ in range(6):
                still, nodes, _ = await ledger.beat("work", "living", [kept])
                assert list(still) == [kept]
                await asyncio.sleep(TIMES.lease / 5)
            assert nodes == 1  # the last beat came when the dead one's had run out
            [taken] = await ledger.take("work", 2, "living", 2)
            assert (taken.name, taken.owner, taken.token > lost.token) == (lost.name, "living", True)
            assert list((await ledger.beat("work", "dead", [lost]))[0]) == []

    async def test_who_leaves_is_not_counted_any_more(self) -> None:
        async with self.open_ledger() as ledger:
            await ledger.beat("work", "a", [])
            assert (await ledger.beat("work", "b", []))[1] == 2
            await ledger.give("work", "a", [], leaves=True)
            assert (await ledger.beat("work", "b", []))[1] == 1

    async def test_who_is_short_of_its_part_is_told_until_it_says_otherwise_or_is_gone(self) -> None:
        async with self.open_ledger() as ledger:
            await ledger.beat("work", "a", [], short=True)
            await ledger.beat("work", "b", [], short=True)
            assert await ledger.beat("work", "c", []) == ([], 3, 2)
            await ledger.beat("work", "a", [])
            assert await ledger.beat("work", "c", []) == ([], 3, 1)
            await ledger.give("work", "b", [], leaves=True)
            assert await ledger.beat("work", "c", []) == ([], 2, 0)
            await ledger.beat("work", "a", [], short=True)
            await asyncio.sleep(TIMES.lease * 1.1)
            assert await ledger.beat("work", "c", []) == ([], 1, 0)

    async def test_no_node_has_two_more_than_another(self) -> None:
        async with self.open_ledger() as ledger, AsyncExitStack() as nodes:
            parts: list[Shares] = []
            for name in "abcde":
                leases = LedgerLeases(ledger, SystemClock(), node=name, times=TIMES)
                parts.append(await nodes.enter_async_context(leases.divide("work", 11)))
            # Were each just to keep to its part rounded up, the last would have none.
            await eventually(lambda: sorted(len(part.held) for part in parts) == [2, 2, 2, 2, 3])
            assert all_of(*parts) == list(range(11))

    async def test_nodes_share_fairly_and_a_newcomer_gets_its_part(self) -> None:
        async with self.open_ledger() as ledger, AsyncExitStack() as nodes:
            first, second, third = [
                LedgerLeases(ledger, SystemClock(), node=name, times=TIMES).divide("work", 8)
                for name in "abc"
            ]
            one = await nodes.enter_async_context(first)
            assert len(one.held) == 8
            two = await nodes.enter_async_context(second)
            await eventually(lambda: len(one.held) == len(two.held) == 4)
            three = await nodes.enter_async_context(third)
            await eventually(lambda: sorted(len(s.held) for s in (one, two, three)) == [2, 3, 3])
            assert all_of(one, two, three) == list(range(8))

    async def test_a_node_that_stops_gives_its_part_back_at_once(self) -> None:
        async with self.open_ledger() as ledger:
            stays = LedgerLeases(ledger, SystemClock(), node="stays", times=TIMES).divide("work", 4)
            async with stays as kept:
                async with LedgerLeases(ledger, SystemClock(), node="goes", times=TIMES).divide(
                    "work", 4
                ) as left:
                    await eventually(lambda: len(left.held) == 2)
                assert not left.held
                assert len(await ledger.take("work", 4, "sees", 4)) == 2
                assert len(kept.held) == 2

    async def test_who_is_cut_off_believes_its_leases_lost_before_another_has_them(self) -> None:
        async with self.open_ledger() as ledger, AsyncExitStack() as nodes:
            line = CutOff(ledger)
            lonely = await nodes.enter_async_context(
                LedgerLeases(line, SystemClock(), node="lonely", times=TIMES).divide("work", 4)
            )
            other = await nodes.enter_async_context(
                LedgerLeases(ledger, SystemClock(), node="other", times=TIMES).divide("work", 4)
            )
            await eventually(lambda: len(lonely.held) == len(other.held) == 2)
            told: list[int] = []
            lonely.attach(lambda: told.append(len(lonely.held)))
            both: list[bool] = []
            other.attach(lambda: both.append(bool(lonely.held.keys() & other.held.keys())))
            line.cut = True
            await eventually(lambda: len(other.held) == 4)
            assert (told, any(both)) == ([0], False)
            line.cut = False
            await eventually(lambda: len(lonely.held) == len(other.held) == 2)
            assert all_of(lonely, other) == list(range(4))


def all_of(*parts: Shares) -> list[int]:
    """Return every share that is held, as often as it is."""
    return sorted(number for part in parts for number in part.held)


if TYPE_CHECKING:
    _: type[Ledger] = MemoryLedger
    __: type[Ledger] = CutOff
