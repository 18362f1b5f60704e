"""What every store must do to be kept well, as tests to inherit: proposals are decided once, and only what is over is let go."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final, Protocol

from lalert.clock import Clock
from lalert.errors import Conflict, NotFound, UnknownPosition
from lalert.model import Entry, Proposal, Reading
from lalert.store import DeliveryState, OnAppend, Proposals, Retained, Store
from lalert.testing.alerts import make_alert
from lalert.testing.clock import FakeClock
from lalert.testing.store import LATER, TEN, append, delivery, ignore, refuses, subscription

FAR: Final = TEN + timedelta(days=100)
"""When everything that a test appends at `TEN` is old, and over if it ends at all."""

HOUR: Final = timedelta(hours=1)


class KeptStore(Store, Proposals, Retained, Protocol):
    """A store that can be kept well."""


def proposal(number: int, tenant: str = "hitoyoshi") -> Proposal:
    made = TEN + timedelta(minutes=number)
    return Proposal(f"p{number}", "gauge", tenant, made, 4, ("432032",), f"第{number}号")


async def over(
    store: Retained, *, before: datetime = FAR - HOUR, now: datetime = FAR
) -> list[tuple[str, ...]]:
    """Return the groups that may go."""
    return [group async for group in store.over(await store.settled(), before, now)]


class KeepingContract:
    """Inherit it in a test module (the class's name begins with Test), and let `open_store` return your store, as for `StoreContract`."""

    def open_store(
        self, *, on_append: OnAppend = ignore, clock: Clock | None = None
    ) -> AbstractAsyncContextManager[KeptStore]:
        """Return a context manager that opens the store; called again within one test it opens the same data."""
        raise NotImplementedError

    # Proposals

    async def test_proposals_are_listed_newest_first_by_organisation_and_state(self) -> None:
        first, second, foreign = proposal(1), proposal(2), proposal(3, "minamata")
        async with self.open_store() as store:
            for each in (first, second, foreign):
                await store.save_proposal(each)
            await store.decide_proposal("p1", "rejected", "key-9", LATER)
        async with self.open_store() as store:
            assert await store.proposals("hitoyoshi", None, 10) == [
                second,
                replace(first, state="rejected", by="key-9", decided=LATER),
            ]
            assert await store.proposals("hitoyoshi", "open", 10) == [second]
            assert await store.proposals(None, "open", 10) == [foreign, second]
            assert await store.proposals(None, None, 1) == [foreign]
            assert await store.proposals(None, None, 0) == []
            assert await store.proposal("p2") == second
            assert await store.proposal("p9") is None

    async def test_a_proposal_is_decided_once_and_then_stays_as_it_is(self) -> None:
        async with self.open_store() as store:
            await store.save_proposal(proposal(1))
            changed = replace(proposal(1), level=5)
            await store.save_proposal(changed)
            decided = await store.decide_proposal("p1", "approved", "mayor", LATER)
            assert decided == replace(changed, state="approved", by="mayor", decided=LATER)
            await refuses(store.decide_proposal("p1", "rejected", "clerk", FAR), Conflict)
            await refuses(store.save_proposal(proposal(1)), Conflict)
            await refuses(store.decide_proposal("p9", "approved", "mayor", LATER), NotFound)
            assert await store.proposal("p1") == decided

    # What may go

    async def test_only_what_is_old_settled_and_over_may_go(self) -> None:
        clock = FakeClock(TEN)
        async with self.open_store(clock=clock) as store:
            over_at_eleven = await old(store, expires=LATER)
            in_force = await old(store, expires=FAR + HOUR)
            await old(store, expires=None)
            cancelled = await old(store, expires=FAR + HOUR)
            cancel = await old(store, cancelled, msg_type="Cancel")
            await old(store, expires=LATER, sent=FAR - timedelta(minutes=1))
            clock.step(FAR)
            await old(store, expires=LATER)
            assert await audited(store) == [names(over_at_eleven), names(cancelled, cancel)]
            assert await over(store, now=FAR + 2 * HOUR) == [
                names(over_at_eleven),
                names(in_force),
                names(cancelled, cancel),
            ]
            assert await over(store, before=TEN - HOUR) == []

    async def test_what_refers_to_one_another_goes_together_or_not_at_all(self) -> None:
        clock = FakeClock(TEN)
        async with self.open_store(clock=clock) as store:
            first = await old(store, expires=LATER)
            other = await old(store, expires=LATER)
            joined = await old(store, first, other, msg_type="Update", expires=LATER)
            ack = await old(store, first, msg_type="Ack")
            alive = await old(store, expires=LATER)
            await old(store, alive, msg_type="Update", expires=FAR + HOUR)
            awaiting = await old(store, make_alert(sent=TEN), msg_type="Update", expires=LATER)
            clock.step(FAR)
            recent = await old(store, expires=LATER, sent=TEN)
            assert recent.stored == clock.now()
            assert await audited(store) == [names(first, other, joined, ack), names(awaiting)]
            # A late Update makes the whole group young again.
            await old(store, joined, msg_type="Update", expires=LATER)
            assert await audited(store) == [names(awaiting)]

    async def test_nothing_goes_that_a_lane_has_not_passed_or_that_is_tried_again(self) -> None:
        async with self.open_store(clock=FakeClock(TEN)) as store:
            entries = [await old(store, expires=LATER) for _ in range(4)]
            assert await over(store) == []  # not in the audit chain yet
            await store.save_subscription(subscription("s"), entries[0].position)
            await store.save_subscription(subscription("t"), entries[2].position)
            assert await audited(store) == [names(entries[0])]
            await store.record([], {"s": entries[3].position})
            assert await over(store) == [names(each) for each in entries[:3]]
            row = delivery("s-2", "s", entries[1].position, DeliveryState.RETRY, due=LATER)
            await store.record([row], {})
            assert await over(store) == [names(entries[0])]
            await store.record([replace(row, state=DeliveryState.DEAD, due=None)], {})
            assert await over(store) == [names(each) for each in entries[:3]]

    # How it goes

    async def test_what_is_let_go_is_nowhere_any_more_and_positions_before_it_say_so(self) -> None:
        clock = FakeClock(TEN)
        async with self.open_store(clock=clock) as store:
            start = store.newest
            kept = await old(store, expires=None)
            gone = [await old(store, expires=LATER) for _ in range(3)]
            last = await old(store, expires=None)
            store.require_kept(start)
            for entry in gone:
                assert await store.forget([entry.position], entry.position)
            await self._gone(store, gone, kept, last)
        async with self.open_store(clock=clock) as store:
            await self._gone(store, gone, kept, last)
            store.require_kept(gone[-1].position)
            store.require_kept(last.position)
            assert store.newest == last.position
            # Its identity is free again: to keep old documents out is for whoever let it go.
            assert (await append(store, gone[0].alert)).fresh

    async def _gone(self, store: KeptStore, gone: Sequence[Entry], kept: Entry, last: Entry) -> None:
        for entry in gone:
            assert await store.entry(entry.position) is None
            assert await store.find(entry.alert.id) is None
            assert await store.named(entry.alert.sender, entry.alert.identifier, 10) == []
        assert [each for each in await store.read(None, 100) if each in gone] == []
        assert [each for each in await store.latest(100) if each in gone] == []
        assert (await store.read(kept.position, 1)) == [last]
        for position in (kept.position, gone[0].position):
            try:
                store.require_kept(position)
            except UnknownPosition:
                continue
            raise AssertionError(f"{position} is not refused")

    async def test_a_group_that_has_grown_since_stays(self) -> None:
        clock = FakeClock(TEN)
        async with self.open_store(clock=clock) as store:
            single = await old(store, expires=LATER)
            first = await old(store, expires=LATER)
            second = await old(store, first, msg_type="Update", expires=LATER)
            groups = await audited(store)
            await old(store, single, msg_type="Update", expires=None)
            await old(store, second, msg_type="Update", expires=None)
            for group in groups:
                assert not await store.forget(group, group[-1])
            for entry in (single, first, second):
                assert await store.entry(entry.position) == entry

    async def test_rows_of_deliveries_outlive_their_alert_and_no_longer_than_asked(self) -> None:
        async with self.open_store(clock=FakeClock(TEN)) as store:
            gone, kept = await old(store, expires=LATER), await old(store, expires=LATER)
            await store.save_subscription(subscription("s"), kept.position)
            rows = [
                delivery("of-gone", "s", gone.position),
                delivery("of-kept", "s", kept.position),
                delivery("waits", "s", gone.position, DeliveryState.RETRY, due=LATER),
                delivery("of-nobody", "dropped", gone.position),
            ]
            await store.record(rows, {})
            await store.forget([gone.position], gone.position)
            assert await store.forget_deliveries(TEN - HOUR) == 0
            assert await store.forget_deliveries(TEN) == 2
            assert [await store.delivery(row.key) for row in rows] == [None, rows[1], rows[2], None]

    async def test_old_readings_go_once_they_are_judged(self) -> None:
        async with self.open_store() as store:
            for batch in range(5):
                hours = range(100 * batch, 100 * batch + 100)
                readings = [Reading("gauge", TEN + hour * HOUR, level_m=1.0) for hour in hours]
                await store.append_readings("org", readings, TEN + batch * HOUR)
            assert await store.forget_readings(FAR) == 0
            await store.save_rule_states({}, 450)
            assert await store.forget_readings(TEN + 3 * HOUR) == 400
            assert await store.forget_readings(FAR) == 50
            assert [each.number for each in await store.readings_after(0, 1000)] == list(range(451, 501))


async def old(store: Store, *references: Entry | object, sent: datetime = TEN, **about: object) -> Entry:
    """Append an alert that was sent at `TEN`."""
    alert = make_alert(sent=sent, references=references, **about)  # type: ignore[arg-type]
    return (await append(store, alert)).entry


async def audited(store: KeptStore) -> list[tuple[str, ...]]:
    """Return the groups that may go, once everything has its line in the audit chain."""
    while await store.audit_accepted(100):
        pass
    return await over(store)


def names(*entries: Entry) -> tuple[str, ...]:
    return tuple(entry.position for entry in entries)
