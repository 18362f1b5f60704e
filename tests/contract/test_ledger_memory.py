"""The ledger of leases that tests of many nodes use keeps every promise of one, and nodes divide work over it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Collection
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import structlog

from lalert.bus import Ledger
from lalert.bus.leases import LeaseTimes, LedgerLeases, only_here, part
from lalert.bus.local import LocalLeases
from lalert.clock import SystemClock
from lalert.model import Lease
from lalert.store import SHARES
from lalert.testing import FakeClock, LedgerContract
from lalert.testing.bus import eventually
from lalert.testing.leases import TIMES, CutOff, MemoryLedger


class TestMemoryLedger(LedgerContract):
    @asynccontextmanager
    async def open_ledger(self) -> AsyncIterator[Ledger]:
        yield MemoryLedger(SystemClock())


async def test_the_only_node_holds_everything_for_good() -> None:
    async with LocalLeases().divide("work", 3) as shares:
        assert shares.sole
        assert [shares.held[n].name for n in range(3)] == ["work/0", "work/1", "work/2"]


def test_the_documentation_gives_the_times_that_hold() -> None:
    times = LeaseTimes()
    told = (Path(__file__).parents[2] / "docs" / "nodes.md").read_text(encoding="utf-8")
    assert f"A lease runs for {times.lease:g} seconds and is renewed every {times.renewal:g}." in told
    assert f"believes it lost after {times.lease - times.margin:g}," in told
    assert f"nobody else gets it before {times.lease:g}." in told
    assert f"{SHARES} shares; a target belongs to one by its id" in told


def test_all_shares_are_held_and_no_node_has_more_than_its_part() -> None:
    for nodes in range(1, 70):
        assert part(64, nodes, 0) * nodes >= 64
        assert (part(64, nodes, 0) - 1) * nodes < 64
        assert part(64, nodes, 1) == 64 // nodes
    assert part(1, 3, 0) == 1


async def test_a_node_that_was_frozen_holds_nothing_when_it_wakes_before_anybody_tells_it() -> None:
    clock = FakeClock()
    async with LedgerLeases(MemoryLedger(clock, 6.0), clock, times=LeaseTimes()).divide("work", 2) as shares:
        assert len(shares.held) == 2
        clock.move(4.9)
        assert len(shares.held) == 2
        clock.move(0.2)
        assert not shares.held


async def test_what_a_frozen_node_lost_it_takes_again_only_with_a_new_token() -> None:
    clock = FakeClock()
    async with LedgerLeases(MemoryLedger(clock, 6.0), clock, times=LeaseTimes()).divide("work", 1) as shares:
        before = shares.held[0]
        await eventually(lambda: clock.sleeping == 2)
        clock.move(60.0)
        with structlog.testing.capture_logs() as logs:
            await clock.advance(2.0)
        assert shares.held[0].token > before.token
        assert [line["event"] for line in logs] == ["leases ran out before they were renewed"]


async def test_the_work_under_a_lease_is_finished_before_a_newcomer_gets_it() -> None:
    ledger = MemoryLedger(SystemClock())
    finish, asked = asyncio.Event(), list[Lease]()

    async def release(leases: Collection[Lease]) -> None:
        asked.extend(leases)
        await finish.wait()

    times = LeaseTimes(lease=0.6, renewal=0.1, margin=0.15, release=5.0, hurry=0.05)
    part_of = LedgerLeases(ledger, SystemClock(), node="old", times=times).divide("w", 2, release=release)
    newcomer = LedgerLeases(ledger, SystemClock(), node="new", times=times).divide("w", 2)
    async with part_of as old, newcomer as new:
        await eventually(lambda: bool(asked))
        # Longer than a lease: it is renewed meanwhile.
        await asyncio.sleep(times.lease * 1.5)
        assert (len(old.held), len(new.held)) == (2, 0)
        finish.set()
        await eventually(lambda: len(old.held) == len(new.held) == 1)
        assert [lease.name for lease in asked] == [new.held[1].name]


async def test_a_release_that_never_ends_keeps_nothing_for_ever() -> None:
    ledger = MemoryLedger(SystemClock())

    async def release(_: Collection[Lease]) -> None:
        await asyncio.Event().wait()

    part_of = LedgerLeases(ledger, SystemClock(), node="old", times=TIMES).divide("w", 2, release=release)
    newcomer = LedgerLeases(ledger, SystemClock(), node="new", times=TIMES).divide("w", 2)
    async with part_of as old, newcomer as new:
        await eventually(lambda: len(old.held) == len(new.held) == 1)


async def test_a_ledger_that_cannot_be_asked_at_the_start_is_asked_again() -> None:
    line = CutOff(MemoryLedger(SystemClock()))
    line.cut = True
    async with LedgerLeases(line, SystemClock(), times=TIMES).divide("work", 2) as shares:
        assert not shares.held
        line.cut = False
        await eventually(lambda: len(shares.held) == 2)


async def test_what_only_one_node_may_do_moves_to_another_and_back_and_is_never_done_by_both() -> None:
    ledger = MemoryLedger(SystemClock())
    lines = {name: CutOff(ledger) for name in "ab"}
    at_work: dict[str, Lease] = {}
    both: list[object] = []

    def node(name: str) -> Awaitable[None]:
        async def work(lease: Lease) -> None:
            both.extend(at_work)
            at_work[name] = lease
            try:
                await asyncio.Event().wait()
            finally:
                del at_work[name]

        return only_here(LedgerLeases(lines[name], SystemClock(), node=name, times=TIMES), "work", work)

    async with running(node("a"), node("b")):
        await eventually(lambda: bool(at_work))
        [(first, lease)] = at_work.items()
        [other] = set("ab") - {first}
        lines[first].cut = True
        await eventually(lambda: other in at_work)
        assert at_work[other].token > lease.token
        lines[first].cut = False
        lines[other].cut = True
        await eventually(lambda: first in at_work)
    assert not both
    assert not at_work


async def test_work_that_fails_fails_whoever_watches_it_and_leaves_the_lease_to_others() -> None:
    ledger = MemoryLedger(SystemClock())

    async def fail(_: Lease) -> None:
        raise RuntimeError("a defect")

    with pytest.raises(RuntimeError, match="a defect"):
        await only_here(LedgerLeases(ledger, SystemClock(), node="a", times=TIMES), "work", fail)
    assert len(await ledger.take("work", 1, "b", 1)) == 1


@asynccontextmanager
async def running(*works: Awaitable[None]) -> AsyncIterator[None]:
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
