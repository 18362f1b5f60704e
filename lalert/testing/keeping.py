"""What every store must do to be kept well, as tests to inherit: proposals are decided once, and only what is over is let go."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from lalert.clock import Clock
from lalert.errors import Conflict, NotFound, UnknownPosition
from lalert.model import Changes, Entry, Key, Proposal, Reading, Role, Tenant
from lalert.store import (
    Confirmation,
    DeliveryRow,
    DeliveryState,
    Example,
    KeptStation,
    OnAppend,
    Part,
    Reason,
    Retained,
    Score,
    Store,
)
from lalert.store.audit import LOCAL, Action, Note, verify
from lalert.testing.alerts import declared_facts, make_alert
from lalert.testing.clock import FakeClock
from lalert.testing.store import LATER, ORIGIN, TEN, append, delivery, ignore, refuses, subscription

FAR: Final = TEN + timedelta(days=100)
"""When everything that a test appends at `TEN` is old, and over if it ends at all."""

HOUR: Final = timedelta(hours=1)


def proposal(number: int, tenant: str = "hitoyoshi") -> Proposal:
    made = TEN + timedelta(minutes=number)
    document = f"<alert>第{number}号</alert>\n"
    return Proposal(f"p{number}", "gauge", tenant, made, 4, ("432032",), f"第{number}号", document=document)


async def over(
    store: Retained, *, before: datetime = FAR - HOUR, now: datetime = FAR
) -> list[tuple[str, ...]]:
    """Return the groups that may go."""
    return [group async for group in store.over(await store.settled(), before, now)]


class KeepingContract:
    """Inherit it in a test module (the class's name begins with Test), and let `open_store` return your store, as for `StoreContract`."""

    def open_store(
        self, *, on_append: OnAppend = ignore, clock: Clock | None = None
    ) -> AbstractAsyncContextManager[Store]:
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
            decided = await store.decide_proposal("p1", "approved", "mayor", LATER, "堤防の巡視\nOK")
            reason = "堤防の巡視\nOK"
            assert decided == replace(changed, state="approved", by="mayor", decided=LATER, reason=reason)
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
                assert await store.forget([Part([entry.position], entry.position)]) == [True]
            await self._gone(store, gone, kept, last)
        async with self.open_store(clock=clock) as store:
            await self._gone(store, gone, kept, last)
            store.require_kept(gone[-1].position)
            store.require_kept(last.position)
            assert store.order(store.newest) >= store.order(last.position)
            # Its identity is free again: to keep old documents out is for whoever let it go.
            assert (await append(store, gone[0].alert)).fresh

    async def _gone(self, store: Store, gone: Sequence[Entry], kept: Entry, last: Entry) -> None:
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
            alone = await old(store, expires=LATER)
            going = [*groups, names(alone)]
            assert await store.forget([Part(group, group[-1]) for group in going]) == [False, False, True]
            assert await store.entry(alone.position) is None
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
            await store.forget([Part([gone.position], gone.position)])
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


class PortableContract:
    """Inherit it in a test module (the class's name begins with Test): a store that holds everything is taken to another and is still the same."""

    def open_store(self, *, clock: Clock | None = None) -> AbstractAsyncContextManager[Store]:
        """Return a context manager that opens the store."""
        raise NotImplementedError

    async def move(self, store: Store) -> None:
        """Back the store up, and take the backup into another that is empty."""
        raise NotImplementedError

    def open_other(self, *, clock: Clock | None = None) -> AbstractAsyncContextManager[Store]:
        """Return a context manager that opens the other store."""
        raise NotImplementedError

    async def test_a_store_is_the_same_after_it_was_moved_but_for_its_epoch(self) -> None:
        clock = FakeClock(TEN)
        async with self.open_store(clock=clock) as store:
            first = await fill(store)
            before, epoch = await everything(store), store.newest.partition("-")[0]
            await self.move(store)
        async with self.open_other(clock=clock) as store:
            assert store.newest.partition("-")[0] != epoch
            await refuses_position(store, first.position)
            after = await everything(store)
            for name, value in before.items():
                assert after[name] == value, name

    async def test_a_moved_store_goes_on_where_the_other_ended(self) -> None:
        clock = FakeClock(TEN)
        async with self.open_store(clock=clock) as store:
            first = await fill(store)
            newest, head = offset(store.newest), await store.audit_head()
            await self.move(store)
        async with self.open_other(clock=clock) as store:
            assert not (await append(store, first.alert)).fresh
            update = await old(store, first, msg_type="Update", expires=FAR)
            assert offset(update.position) > newest
            assert update.incident == first.incident
            assert (await store.lineage(update))[0].alert.id == first.alert.id
            [reading] = await store.append_readings("org", [Reading("gauge", FAR, level_m=1.0)], FAR)
            assert reading is not None
            assert reading.number == 4
            assert [(await store.append_readings("org", [Reading("gauge", TEN, level_m=1.0)], FAR))[0]] == [
                None
            ]
            while await store.audit_accepted(10):
                pass
            lines = await store.audit_lines(0, 100)
            assert [line.number for line in lines] == list(range(1, (head.number or 0) + 2))
            assert verify(lines, [await store.audit_head()]) is None
            await store.record([], {"s": update.position})
            assert (await store.lanes())[0].cursor == update.position


async def fill(store: Store) -> Entry:
    """Keep some of everything; returns the first alert."""
    await store.save_tenant(Tenant("hitoyoshi", "人吉市", frozenset({"432032"}), ("*@hitoyoshi.example",)))
    await store.save_key(Key("k1", "hitoyoshi", Role.SENDER, bytes(range(32)), TEN, expires=FAR))
    await store.save_key(Key("k2", "hitoyoshi", Role.RECEIVER, bytes(range(1, 33)), LATER))
    await store.revoke_key("k2", FAR)
    first = await old(store, expires=FAR)
    gone = await old(store, expires=LATER)
    update = await old(store, first, make_alert(identifier="never", sent=TEN), msg_type="Update", expires=FAR)
    await old(store, update, msg_type="Ack", expires=None)
    late = make_alert(sent=TEN - HOUR, expires=FAR)
    await old(store, late, msg_type="Cancel")
    await append(store, late)
    home = frozenset({"432032", "43"})
    nowhere = make_alert(areas=(), sent=TEN)
    await store.append(
        nowhere,
        ORIGIN,
        LATER,
        declared_facts(nowhere, home),
        home,
        changes=Changes(issued=("432032",)),
        correction=True,
    )
    for id, cursor in (("s", update.position), ("t", store.newest)):
        await store.save_subscription(subscription(id), cursor)
    await store.record(
        [
            delivery("s-1", "s", first.position, detail="200"),
            delivery("s-2", "s", update.position, DeliveryState.RETRY, due=LATER),
            delivery("s-3", "s", store.newest, DeliveryState.SUPERSEDED),
            delivery("of-nobody", "dropped", first.position, DeliveryState.DROPPED),
        ],
        {},
    )
    readings = [Reading("gauge", TEN + n * HOUR, level_m=1.0 + n, seq=n) for n in range(2)] + [
        Reading("rain", TEN, rain_mm=2.5, period_s=600, by="消防団")
    ]
    await store.append_readings("hitoyoshi", readings, LATER)
    await store.save_rule_states({"gauge": b"state"}, 2)
    reasons = {"CAP-1": Reason(2, TEN, LATER, Example("id", "/alert", 3))}
    await store.add_scores([Score("hitoyoshi", "a@b", TEN.date(), 5, 1, 2, reasons)])
    await store.add_confirmations(
        [
            Confirmation("key-1", first.position, first.alert.id, TEN, TEN, LATER, LATER),
            Confirmation("key-1", update.position, update.alert.id, TEN, TEN, None, LATER),
        ]
    )
    await store.put("webhook", "a", b"\x00value")
    await store.put("webhook", "b", b"")
    await store.save_stations([KeptStation("gauge", "hitoyoshi", b"{}"), KeptStation("gone", "org", b"[]")])
    await store.forget_station("gone", "org")
    await store.save_proposal(proposal(1))
    await store.save_proposal(proposal(2))
    await store.decide_proposal("p1", "approved", "mayor", LATER, "確認済み")
    while await store.audit_accepted(10):
        pass
    await store.append_audit([Note(TEN, LOCAL, Action.STARTED, "node", "hitoyoshi")])
    await store.record([], {"t": store.newest})
    await store.forget([Part([gone.position], gone.position)])
    return first


async def everything(store: Store) -> dict[str, object]:
    """Return all that a store says, its epoch left out."""
    entries = await store.read(None, 100)
    return {
        "newest": offset(store.newest),
        "alerts": [(offset(each.position), replace(each, position="")) for each in entries],
        "documents": [each.alert.raw for each in entries],
        "in force": [each.alert.id for each in await store.active(LATER)],
        "ended": [offset(each) for each in await store.ended(TEN, FAR)],
        "heads": [[each.alert.id for each in await store.heads(entry)] for entry in entries],
        "lineages": [[each.alert.id for each in await store.lineage(entry)] for entry in entries],
        "kept": [kept_after(store, entry.position) for entry in entries],
        "organisations": await store.tenants(),
        "keys": await store.keys(),
        "lanes": [(lane.subscription, offset(lane.cursor)) for lane in await store.lanes()],
        "unsettled": sorted(map(_row, await store.unsettled())),
        "deliveries": [[_row(row) for row in await store.deliveries(id, 10)] for id in ("s", "t", "dropped")],
        "readings": await store.readings_after(0, 100),
        "of a station": await store.readings("gauge", 10),
        "rules": (await store.rule_states(), await store.judged()),
        "stations": await store.stations(),
        "scores": await store.scores(None, None, TEN.date()),
        "confirmed": [
            (offset(each.position), replace(each, position="")) for each in await store.confirmations()
        ],
        "state": [await store.get("webhook", name) for name in ("a", "b", "c")],
        "proposals": await store.proposals(None, None, 10),
        "audit": (await store.audit_lines(0, 100), await store.audit_head()),
        "audited": await store.audit_accepted(10),
    }


def _row(row: DeliveryRow) -> tuple[object, ...]:
    return (
        row.key,
        row.subscription,
        offset(row.position),
        row.state,
        row.attempts,
        row.due,
        row.detail,
        row.updated,
    )


def offset(position: str) -> int:
    return int(position.rpartition("-")[2])


def kept_after(store: Store, position: str) -> bool:
    try:
        store.require_kept(position)
    except UnknownPosition:
        return False
    return True


async def refuses_position(store: Store, position: str) -> None:
    try:
        store.order(position)
    except UnknownPosition:
        return
    raise AssertionError(f"{position} is taken for one of this log")


async def old(store: Store, *references: Entry | object, sent: datetime = TEN, **about: object) -> Entry:
    """Append an alert that was sent at `TEN`."""
    alert = make_alert(sent=sent, references=references, **about)  # type: ignore[arg-type]
    return (await append(store, alert)).entry


async def audited(store: Store) -> list[tuple[str, ...]]:
    """Return the groups that may go, once everything has its line in the audit chain."""
    while await store.audit_accepted(100):
        pass
    return await over(store)


def names(*entries: Entry) -> tuple[str, ...]:
    return tuple(entry.position for entry in entries)
