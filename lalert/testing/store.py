"""What every store must do, as tests to inherit: each promise of `lalert.store`, asked of the real thing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Final, TypeVar

from lalert.clock import Clock
from lalert.errors import (
    BadRequest,
    Conflict,
    LalertError,
    NotFound,
    Problem,
    ProblemSeverity,
    StoreError,
    UnknownPosition,
)
from lalert.model import (
    JST,
    Alert,
    Changes,
    Entry,
    Filter,
    Key,
    Lease,
    Origin,
    OriginKind,
    Reading,
    Role,
    Severity,
    SignaturePolicy,
    Status,
    Subscription,
    Tenant,
)
from lalert.store import (
    MAX_ATTEMPTS,
    MAX_CONFIRMATIONS,
    MAX_DAYS,
    MAX_SENDERS,
    OTHERS,
    SHARES,
    Appended,
    Attempt,
    Confirmation,
    DeliveryRow,
    DeliveryState,
    Example,
    Foreseen,
    KeptStation,
    OnAppend,
    Reason,
    Score,
    Store,
    share_of,
)
from lalert.testing.alerts import CITY_CENTRE, HITOYOSHI, declared_facts, make_alert, timeless
from lalert.testing.clock import FakeClock

T = TypeVar("T")

PATIENCE: Final = 30.0

ORIGIN: Final = Origin(OriginKind.HTTP, "hitoyoshi", "key-1", "192.0.2.7", signer="ab" * 32)
NEIGHBOUR: Final = Origin(OriginKind.HTTP, "minamata", "key-2")
TEN: Final = datetime(2026, 6, 1, 10, 0, tzinfo=JST)
LATER: Final = TEN + timedelta(hours=1)

MALFORMED: Final = (
    "",
    "-",
    "1",
    "nonsense",
    "-1",
    "0badcafe-",
    "0badcafe--1",
    "0badcafe-1x",
    "0badcafe-1 ",
    "0badcafe-１",
    "0BADCAFE-1",
    "0badcafe-1\n",
    "0badcafe-+1",
    "a" * 33 + "-1",
    "0badcafe-" + "1" * 30,
    "0badcafe-1' OR 1=1 --",
)


def ignore(entries: Sequence[Entry]) -> None:
    """Hear of entries and do nothing."""


class StoreContract:
    """Inherit it in a test module (the class's name begins with Test), and let `open_store` return your store.

    The methods are coroutines: run them with a plug-in for asyncio tests. Each begins with an empty store.
    """

    def open_store(
        self, *, on_append: OnAppend = ignore, clock: Clock | None = None
    ) -> AbstractAsyncContextManager[Store]:
        """Return a context manager that opens the store; called again within one test it opens the same data.

        Build it with `revive=lalert.testing.revive`.
        """
        raise NotImplementedError

    async def held_lease(self, store: Store) -> Lease:  # noqa: ARG002  # for who overrides it
        """Return a lease that is held; a store for one node alone takes any."""
        return Lease("lanes/1", "", 1)

    # Appending

    async def test_what_is_appended_is_read_back_whole_even_after_reopening(self) -> None:
        clock = FakeClock(TEN)
        alert = make_alert(sent=TEN)
        received = TEN + timedelta(seconds=1, microseconds=234567)
        async with self.open_store(clock=clock) as store:
            appended = await store.append(alert, ORIGIN, received, declared_facts(alert), frozenset())
            entry = appended.entry
            assert appended.fresh
            assert entry.alert == alert
            assert entry.alert.raw == alert.raw
            assert (entry.received, entry.stored) == (received, clock.now())
            assert entry.origin == ORIGIN
            assert entry.incident == alert.id
            assert entry.facts == declared_facts(alert)
            assert entry.position == store.newest
            assert not store.storing
        async with self.open_store(clock=clock) as store:
            [again] = await store.read(None, 10)
            assert again == entry
            assert again.alert.raw == alert.raw
            assert again.facts == entry.facts
            assert again.alert.sent.utcoffset() == timedelta(hours=9)
            assert (again.received.utcoffset(), again.stored.utcoffset()) == (timedelta(0), timedelta(0))
            assert store.newest == entry.position

    async def test_findings_made_before_acceptance_stay_with_the_alert(self) -> None:
        found = Problem("HUB-X", ProblemSeverity.WARNING, "/alert/references", 3, "en", "日本語", "do this")
        alert = replace(make_alert(), defects=(found,))
        async with self.open_store() as store:
            assert (await append(store, alert)).entry.alert.defects == (found,)
        async with self.open_store() as store:
            [entry] = await store.read(None, 1)
            assert entry.alert.defects == (found,)

    async def test_an_alert_without_a_place_keeps_the_jurisdiction_it_was_accepted_for(self) -> None:
        alert = make_alert(areas=())
        home = frozenset({"432032", "43"})
        async with self.open_store() as store:
            facts = declared_facts(alert, home)
            await store.append(alert, ORIGIN, TEN, facts, home)
            await store.append(make_alert(areas=()), NEIGHBOUR, TEN, facts, frozenset({"432059"}))
        async with self.open_store() as store:
            first, second = await store.read(None, 10)
            assert first.facts == facts
            assert first.facts.nowhere
            assert second.facts.codes == {"432059"}

    async def test_a_document_of_a_megabyte_is_kept_byte_for_byte(self) -> None:
        alert = make_alert(description="球磨川" * 110_000)
        assert len(alert.raw) > 950_000
        async with self.open_store() as store:
            await append(store, alert)
        async with self.open_store() as store:
            [entry] = await store.read(None, 1)
            assert entry.alert.raw == alert.raw

    async def test_an_exact_repeat_gives_the_first_entry_and_is_told_to_nobody(self) -> None:
        heard: list[Entry] = []
        alert = make_alert()
        async with self.open_store(on_append=heard.extend) as store:
            first = await append(store, alert)
            repeat = await store.append(alert, NEIGHBOUR, LATER, declared_facts(alert), frozenset({"43"}))
            assert repeat == Appended(first.entry, fresh=False)
            assert heard == [first.entry]
        async with self.open_store(on_append=heard.extend) as store:
            assert await append(store, alert) == Appended(first.entry, fresh=False)
            assert len(await store.read(None, 10)) == len(heard) == 1

    async def test_the_same_document_sent_at_once_by_many_is_kept_once(self) -> None:
        heard: list[Entry] = []
        alert = make_alert()
        async with self.open_store(on_append=heard.extend) as store:
            answers = await together([append(store, alert) for _ in range(20)])
            assert sum(answer.fresh for answer in answers) == 1
            assert {answer.entry.position for answer in answers} == {store.newest}
            assert [entry.alert.id for entry in heard] == [alert.id]

    async def test_the_same_identity_with_other_content_is_a_conflict_and_changes_nothing(self) -> None:
        alert = make_alert(sent=TEN)
        other = make_alert(identifier=alert.identifier, sent=TEN, headline="別の内容")
        async with self.open_store() as store:
            first = await append(store, alert)
            await refuses(append(store, other), Conflict)
            assert await store.read(None, 10) == [first.entry]
            assert (await store.find(alert.id)) == first.entry
            assert store.newest == first.entry.position

    async def test_the_same_instant_spelled_otherwise_is_the_same_identity(self) -> None:
        alert = make_alert(sent="2026-06-01T10:00:00+09:00")
        same = make_alert(identifier=alert.identifier, sent="2026-06-01T01:00:00-00:00")
        async with self.open_store() as store:
            await append(store, alert)
            await refuses(append(store, same), Conflict)

    async def test_another_time_sender_or_identifier_is_another_alert(self) -> None:
        alert = make_alert(sent=TEN)
        others = [
            make_alert(identifier=alert.identifier, sent=TEN + timedelta(seconds=1)),
            make_alert(identifier=alert.identifier, sent=TEN, sender="shobo@hitoyoshi.example"),
            make_alert(sent=TEN),
        ]
        async with self.open_store() as store:
            for each in [alert, *others]:
                assert (await append(store, each)).fresh

    async def test_a_refused_append_does_not_harm_those_that_come_at_the_same_moment(self) -> None:
        alert = make_alert(sent=TEN)
        other = make_alert(identifier=alert.identifier, sent=TEN, headline="別の内容")
        async with self.open_store() as store:
            await append(store, alert)
            mixed = [
                make_alert(),
                other,
                make_alert(references=[alert], msg_type="Update"),
                other,
                make_alert(),
            ]
            answers = await asyncio.gather(*(append(store, each) for each in mixed), return_exceptions=True)
            assert [type(answer) for answer in answers] == [Appended, Conflict, Appended, Conflict, Appended]
            kept = [entry.alert.id for entry in await store.read(None, 10)]
            assert sorted(kept) == sorted([alert.id, mixed[0].id, mixed[2].id, mixed[4].id])

    async def test_sixty_four_appenders_get_rising_positions_and_are_told_in_that_order(self) -> None:
        heard: list[Entry] = []
        async with self.open_store(on_append=heard.extend) as store:

            async def sender() -> list[str]:
                return [(await append(store, make_alert())).entry.position for _ in range(5)]

            answers = await together([sender() for _ in range(64)])
            positions = [position for answer in answers for position in answer]
            assert len(set(positions)) == 320
            for answer in answers:
                assert answer == sorted(answer, key=store.order)
            assert [entry.position for entry in heard] == sorted(positions, key=store.order)
            assert await store.read(None, 1000) == heard
            assert store.newest == heard[-1].position

    async def test_alerts_updates_and_repeats_at_once_are_told_in_the_order_of_positions(self) -> None:
        heard: list[Entry] = []
        async with self.open_store(on_append=heard.extend) as store:
            known = [entry.alert for entry in await append_all(store, *(make_alert() for _ in range(10)))]
            mixed: list[Alert] = []
            for alert in known:
                mixed += [
                    make_alert(msg_type="Update", references=[alert]),
                    make_alert(),
                    alert,
                    make_alert(),
                ]
            answers = await together([append(store, alert) for alert in mixed])
            positions = [store.order(entry.position) for entry in heard]
            assert positions == sorted(set(positions))
            assert len(heard) == 40
            assert await store.read(None, 100) == heard
            assert [answer.entry.alert for answer in answers] == mixed
            assert [answer.fresh for answer in answers] == [True, True, False, True] * 10
        async with self.open_store() as store:
            assert await store.read(None, 100) == heard

    async def test_listeners_hear_of_an_entry_before_its_sender_is_answered_and_newest_counts_it(
        self,
    ) -> None:
        heard: list[str] = []
        async with self.open_store(
            on_append=lambda entries: heard.extend(e.position for e in entries)
        ) as store:
            for _ in range(3):
                entry = (await append(store, make_alert())).entry
                assert heard[-1] == entry.position == store.newest

    async def test_when_a_listener_hears_of_an_entry_it_can_be_read(self) -> None:
        order: list[tuple[int, ...]] = []
        opened: list[Store] = []

        def listen(entries: Sequence[Entry]) -> None:
            order.extend(opened[0].order(entry.position) for entry in entries)

        async with self.open_store(on_append=listen) as store:
            opened.append(store)
            await together([append(store, make_alert()) for _ in range(10)])
        assert order == sorted(order)
        assert len(order) == 10

    async def test_what_is_read_has_been_told(self) -> None:
        heard: set[str] = set()
        async with self.open_store(
            on_append=lambda entries: heard.update(e.position for e in entries)
        ) as store:

            async def reader() -> None:
                for _ in range(5):
                    for entries in (
                        await store.read(None, 500),
                        await store.active(TEN),
                        await store.latest(500),
                    ):
                        assert heard.issuperset(entry.position for entry in entries)

            writers = [append(store, make_alert(sent=TEN)) for _ in range(50)]
            await together([reader(), *writers])

    async def test_a_listener_that_fails_does_not_spoil_the_append(self) -> None:
        def fail(_: Sequence[Entry]) -> None:
            raise RuntimeError("a listener's own fault")

        async with self.open_store(on_append=fail) as store:
            appended = await append(store, make_alert())
            assert await store.read(None, 10) == [appended.entry]

    async def test_an_append_whose_sender_has_gone_is_told_exactly_if_it_is_kept(self) -> None:
        heard: list[Entry] = []
        async with self.open_store(on_append=heard.extend) as store:
            tasks = [asyncio.ensure_future(append(store, make_alert())) for _ in range(30)]
            await asyncio.sleep(0)
            for task in tasks[::2]:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await append(store, make_alert())
            kept = await store.read(None, 100)
            assert kept == heard
            assert len(kept) >= 16
        async with self.open_store() as store:
            assert await store.read(None, 100) == heard

    async def test_everything_taken_is_kept_when_the_store_closes(self) -> None:
        async with self.open_store() as store:
            tasks = [asyncio.ensure_future(append(store, make_alert())) for _ in range(100)]
            await asyncio.sleep(0)
        kept = {answer.entry.position for answer in await together(tasks)}
        async with self.open_store() as store:
            assert {entry.position for entry in await store.read(None, 200)} == kept

    async def test_positions_go_on_after_reopening(self) -> None:
        async with self.open_store() as store:
            first = (await append(store, make_alert())).entry.position
        async with self.open_store() as store:
            assert store.newest == first
            second = (await append(store, make_alert())).entry.position
            assert store.order(first) < store.order(second)

    # Positions and reading

    async def test_an_empty_store_has_an_epoch_and_the_offset_nought(self) -> None:
        async with self.open_store() as store:
            assert store.newest.endswith("-0")
            assert (
                await store.read(None, 10)
                == await store.read(store.newest, 10)
                == await store.latest(10)
                == []
            )
            assert await store.active(TEN) == []
            assert await store.entry(store.newest) is None
            epoch = store.newest
        async with self.open_store() as store:
            assert store.newest == epoch

    async def test_what_is_no_position_is_a_bad_request(self) -> None:
        async with self.open_store() as store:
            for text in MALFORMED:
                refuses_at_once(store.order, text, BadRequest)
                await refuses(store.read(text, 1), BadRequest)

    async def test_a_position_of_another_log_or_of_the_future_is_unknown(self) -> None:
        async with self.open_store() as store:
            newest = (await append(store, make_alert())).entry.position
            epoch = newest.partition("-")[0]
            other = "0000dead" if epoch != "0000dead" else "0000beef"
            future = int(newest.partition("-")[2]) + 1
            for position in (f"{other}-1", f"{other}-0", f"{epoch}-{future}", f"{epoch}-1780275600000-0"):
                refuses_at_once(store.order, position, UnknownPosition)
                await refuses(store.read(position, 1), UnknownPosition)
                assert await store.entry(position) is None

    async def test_reading_goes_by_pages_that_join_without_gap_or_overlap(self) -> None:
        async with self.open_store() as store:
            entries = [(await append(store, make_alert())).entry for _ in range(25)]
            for _ in range(2):
                pages: list[Entry] = []
                after = None
                while page := await store.read(after, 7):
                    assert len(page) <= 7
                    pages += page
                    after = page[-1].position
                assert pages == entries
            assert await store.read(entries[9].position, 100) == entries[10:]
            assert await store.read(entries[-1].position, 100) == []
            assert await store.read(None, 0) == []
        async with self.open_store() as store:
            assert await store.read(entries[21].position, 2) == entries[22:24]
            assert await store.read(entries[0].position, 100) == entries[1:]
            assert await store.read(None, 3) == entries[:3]

    async def test_the_latest_entries_rise(self) -> None:
        async with self.open_store() as store:
            entries = [(await append(store, make_alert())).entry for _ in range(5)]
            assert await store.latest(3) == entries[2:]
        async with self.open_store() as store:
            assert await store.latest(3) == entries[2:]
            assert await store.latest(100) == entries
            assert await store.latest(0) == []

    async def test_an_entry_is_found_by_position_and_by_its_permanent_id(self) -> None:
        async with self.open_store() as store:
            entries = [(await append(store, make_alert())).entry for _ in range(3)]
            assert await store.entry(entries[1].position) == entries[1]
            assert await store.find(entries[1].alert.id) == entries[1]
            assert await store.find("unknown") is None
        async with self.open_store() as store:
            assert await store.entry(entries[1].position) == entries[1]
            assert await store.find(entries[1].alert.id) == entries[1]
            assert await store.find("unknown") is None

    # Incidents and what is in force

    async def test_an_update_joins_the_incident_and_takes_the_place_of_what_it_refers_to(self) -> None:
        first = make_alert(sent=TEN)
        second = make_alert(sent=TEN + timedelta(minutes=5), msg_type="Update", references=[first])
        third = make_alert(sent=TEN + timedelta(minutes=9), msg_type="Update", references=[second])
        async with self.open_store() as store:
            entries = await append_all(store, first, second, third)
            assert {entry.incident for entry in entries} == {first.id}
            assert await in_force(store) == [third]
        async with self.open_store() as store:
            assert await in_force(store) == [third]
            assert {entry.incident for entry in await store.read(None, 10)} == {first.id}

    async def test_an_alert_replaces_nothing_that_it_refers_to(self) -> None:
        # CAP 1.2, 3.2.1 <msgType>: an Update supersedes, an Alert does not; and only follow-ups reach those who were told before.
        first = make_alert(sent=TEN)
        second = make_alert(sent=TEN + timedelta(minutes=1), references=[first])
        update = make_alert(sent=TEN + timedelta(minutes=2), msg_type="Update", references=[first])
        early = make_alert(sent=TEN, references=[update])
        async with self.open_store() as store:
            entries = await append_all(store, early, first, second, update)
            assert [entry.incident for entry in entries] == [early.id, first.id, second.id, first.id]
            assert [entry.replaced for entry in entries] == [(), (), (), (first.id,)]
            assert await in_force(store) == [early, second, update]
            assert alerts(await store.lineage(entries[2])) == []

    async def test_a_cancel_ends_the_incident(self) -> None:
        first, other = make_alert(sent=TEN), make_alert(sent=TEN)
        cancel = make_alert(sent=TEN + timedelta(minutes=1), msg_type="Cancel", references=[first], infos=())
        async with self.open_store() as store:
            await append_all(store, first, other)
            assert await in_force(store) == [first, other]
            await append_all(store, cancel)
            assert await in_force(store) == [other]

    async def test_what_has_expired_is_not_in_force(self) -> None:
        soon = make_alert(sent=TEN, expires=TEN + timedelta(minutes=30))
        never = make_alert(sent=TEN, expires=None)
        async with self.open_store() as store:
            await append_all(store, soon, never)
            assert await in_force(store, TEN + timedelta(minutes=29, seconds=59)) == [soon, never]
            assert await in_force(store, TEN + timedelta(minutes=30)) == [never]
            assert await in_force(store, TEN + timedelta(days=36500)) == [never]

    async def test_an_update_that_has_expired_does_not_bring_back_what_it_replaced(self) -> None:
        first = make_alert(sent=TEN, expires=TEN + timedelta(hours=9))
        update = make_alert(
            sent=TEN + timedelta(minutes=1),
            msg_type="Update",
            references=[first],
            expires=TEN + timedelta(minutes=5),
        )
        async with self.open_store() as store:
            await append_all(store, first, update)
            assert await in_force(store, TEN + timedelta(minutes=6)) == []

    async def test_an_acknowledgement_or_error_changes_no_state(self) -> None:
        first = make_alert(sent=TEN)
        ack = make_alert(sent=TEN + timedelta(minutes=1), msg_type="Ack", references=[first])
        error = make_alert(sent=TEN + timedelta(minutes=2), msg_type="Error", references=[first], note="x")
        async with self.open_store() as store:
            entries = await append_all(store, first, ack, error)
            assert {entry.incident for entry in entries} == {first.id}
            assert await in_force(store) == [first]
            update = make_alert(sent=TEN + timedelta(minutes=3), msg_type="Update", references=[first])
            await append_all(store, update)
            assert await in_force(store) == [update]

    async def test_a_cancel_of_several_incidents_ends_them_all(self) -> None:
        first, second, third = (make_alert(sent=TEN) for _ in range(3))
        update = make_alert(sent=TEN + timedelta(minutes=1), msg_type="Update", references=[second])
        cancel = make_alert(
            sent=TEN + timedelta(minutes=2), msg_type="Cancel", references=[first, second], infos=()
        )
        async with self.open_store() as store:
            await append_all(store, first, second, third, update)
            assert await in_force(store) == [first, third, update]
            [entry] = await append_all(store, cancel)
            assert entry.incident == first.id
            assert await in_force(store) == [third]

    async def test_an_update_that_joins_two_incidents_continues_both(self) -> None:
        first, second = make_alert(sent=TEN), make_alert(sent=TEN)
        joined = make_alert(sent=TEN + timedelta(minutes=1), msg_type="Update", references=[first, second])
        later = make_alert(sent=TEN + timedelta(minutes=2), msg_type="Update", references=[joined])
        async with self.open_store() as store:
            await append_all(store, first, second, joined)
            assert await in_force(store) == [joined]
            await append_all(store, later)
            assert await in_force(store) == [later]

    async def test_a_cancel_of_one_of_two_joined_incidents_leaves_the_other_in_force(self) -> None:
        first, second = make_alert(sent=TEN), make_alert(sent=TEN)
        joined = make_alert(sent=TEN + timedelta(minutes=1), msg_type="Update", references=[first, second])
        cancel = make_alert(sent=TEN + timedelta(minutes=2), msg_type="Cancel", references=[second], infos=())
        async with self.open_store() as store:
            await append_all(store, first, second, joined, cancel)
            assert await in_force(store) == [joined]

    async def test_of_two_updates_the_one_sent_last_counts_whichever_arrives_last(self) -> None:
        first = make_alert(sent=TEN)
        older = make_alert(sent=TEN + timedelta(minutes=1), msg_type="Update", references=[first])
        newer = make_alert(sent=TEN + timedelta(minutes=2), msg_type="Update", references=[first])
        async with self.open_store() as store:
            await append_all(store, first, newer, older)
            assert await in_force(store) == [newer]

    async def test_an_update_by_a_slow_clock_still_follows_what_it_refers_to(self) -> None:
        first = make_alert(sent=TEN)
        update = make_alert(sent=TEN - timedelta(minutes=3), msg_type="Update", references=[first])
        cancel = make_alert(sent=TEN - timedelta(minutes=2), msg_type="Cancel", references=[update], infos=())
        async with self.open_store() as store:
            await append_all(store, first, update)
            assert await in_force(store) == [update]
            await append_all(store, cancel)
            assert await in_force(store) == []

    async def test_an_alert_that_comes_after_its_update_joins_it_and_is_not_in_force(self) -> None:
        for apart in (timedelta(minutes=1), timedelta(0), timedelta(seconds=-5)):
            first = make_alert(sent=TEN)
            update = make_alert(sent=TEN + apart, msg_type="Update", references=[first])
            other = make_alert(sent=TEN)
            async with self.open_store() as store:
                before = await in_force(store)
                [early] = await append_all(store, update)
                assert early.incident == update.id
                assert await in_force(store) == [*before, update]
                late, _ = await append_all(store, first, other)
                assert late.incident == early.incident
                assert await in_force(store) == [*before, update, other]

    async def test_an_alert_that_comes_after_its_cancel_is_not_in_force(self) -> None:
        first = make_alert(sent=TEN)
        cancel = make_alert(sent=TEN, msg_type="Cancel", references=[first], infos=())
        async with self.open_store() as store:
            await append_all(store, cancel, first)
            assert await in_force(store) == []
        async with self.open_store() as store:
            assert await in_force(store) == []

    async def test_an_alert_that_comes_after_its_acknowledgement_is_in_force(self) -> None:
        first = make_alert(sent=TEN)
        ack = make_alert(sent=TEN + timedelta(minutes=1), msg_type="Ack", references=[first])
        async with self.open_store() as store:
            _, late = await append_all(store, ack, first)
            assert late.incident == first.id
            assert await in_force(store) == [first]

    async def test_a_revision_that_arrives_last_joins_those_before_and_after_it(self) -> None:
        for minutes in (2, 1, -30):
            first = make_alert(sent=TEN)
            second = make_alert(sent=TEN + timedelta(minutes=1), msg_type="Update", references=[first])
            third = make_alert(sent=TEN + timedelta(minutes=minutes), msg_type="Update", references=[second])
            cancel = make_alert(
                sent=TEN + timedelta(minutes=9), msg_type="Cancel", references=[first], infos=()
            )
            async with self.open_store() as store:
                await append_all(store, third, first)
                assert await in_force(store) == [third, first]
                await append_all(store, second)
                assert await in_force(store) == [third]
                await append_all(store, cancel)
                assert await in_force(store) == []

    async def test_what_a_late_revision_shows_to_be_old_is_no_longer_in_force(self) -> None:
        first = make_alert(sent=TEN)
        second = make_alert(sent=TEN + timedelta(minutes=1), msg_type="Update", references=[first])
        third = make_alert(sent=TEN + timedelta(minutes=2), msg_type="Update", references=[second])
        newest = make_alert(sent=TEN + timedelta(minutes=9), msg_type="Update", references=[first])
        async with self.open_store() as store:
            await append_all(store, first, newest, third)
            assert await in_force(store) == [newest, third]
            await append_all(store, second)
            assert await in_force(store) == [newest]

    async def test_no_order_of_arrival_changes_what_is_in_force(self) -> None:
        async with self.open_store() as store:
            for order in permutations(range(4)):
                chain = [make_alert(sent=TEN)]
                for minute in (1, 2, 3):
                    sent = TEN + timedelta(minutes=minute)
                    chain.append(make_alert(sent=sent, msg_type="Update", references=[chain[-1]]))
                before = await in_force(store)
                await append_all(store, *(chain[number] for number in order))
                assert await in_force(store) == [*before, chain[3]], order

    async def test_a_reference_to_another_organisations_alert_changes_nothing_of_it(self) -> None:
        ours = make_alert(sent=TEN)
        theirs = make_alert(sent=TEN + timedelta(minutes=1), msg_type="Cancel", references=[ours], infos=())
        async with self.open_store() as store:
            await append(store, ours)
            entry = (await append(store, theirs, NEIGHBOUR)).entry
            assert entry.incident == theirs.id
            assert await in_force(store) == [ours]
            assert await store.lineage(entry) == []

    async def test_nobody_can_end_another_organisations_alert_before_it_comes(self) -> None:
        ours = make_alert(sent=TEN)
        theirs = make_alert(sent=TEN + timedelta(minutes=1), msg_type="Cancel", references=[ours], infos=())
        async with self.open_store() as store:
            await append(store, theirs, NEIGHBOUR)
            entry = (await append(store, ours)).entry
            assert entry.incident == ours.id
            assert await in_force(store) == [ours]

    async def test_a_drill_changes_nothing_that_is_real_in_either_order(self) -> None:
        for drill_first in (False, True):
            real = make_alert(sent=TEN)
            drill = make_alert(
                sent=TEN + timedelta(minutes=1),
                status="Exercise",
                msg_type="Cancel",
                references=[real],
                infos=(),
            )
            async with self.open_store() as store:
                before = await in_force(store)
                await append_all(store, *((drill, real) if drill_first else (real, drill)))
                assert await in_force(store) == [*before, real]

    async def test_an_alert_that_refers_to_itself_is_kept_and_in_force(self) -> None:
        alert = make_alert(sent=TEN)
        itself = make_alert(identifier=alert.identifier, sent=TEN, msg_type="Update", references=[alert])
        async with self.open_store() as store:
            await append_all(store, itself)
            assert await in_force(store) == [itself]

    async def test_alerts_that_refer_to_each_other_are_kept_and_one_is_in_force(self) -> None:
        placeholder = make_alert(sent=TEN)
        first = make_alert(sent=TEN, msg_type="Update", references=[placeholder])
        second = make_alert(
            identifier=placeholder.identifier, sent=TEN, msg_type="Update", references=[first]
        )
        async with self.open_store() as store:
            await append_all(store, first, second)
            assert len(await in_force(store)) == 1

    async def test_an_alert_with_too_many_references_is_refused_and_leaves_nothing(self) -> None:
        one = make_alert(sent=TEN)
        [reference] = make_alert(references=[one]).references
        many = [replace(reference, identifier=f"r{n}") for n in range(2001)]
        async with self.open_store() as store:
            await refuses(
                append(store, make_alert(msg_type="Update", references=many, raw=b"x")), LalertError
            )
            assert await store.read(None, 10) == []

    # Lineage

    async def test_the_lineage_is_everything_earlier_of_the_incident(self) -> None:
        first, other = make_alert(sent=TEN), make_alert(sent=TEN)
        second = make_alert(sent=TEN + timedelta(minutes=1), msg_type="Update", references=[first])
        third = make_alert(sent=TEN + timedelta(minutes=2), msg_type="Update", references=[second])
        cancel = make_alert(sent=TEN + timedelta(minutes=3), msg_type="Cancel", references=[third], infos=())
        async with self.open_store() as store:
            entries = await append_all(store, first, other, second, third, cancel)
            wanted = [[], [], [first], [first, second], [first, second, third]]
            assert [alerts(await store.lineage(entry)) for entry in entries] == wanted
        async with self.open_store() as store:
            assert [alerts(await store.lineage(entry)) for entry in entries] == wanted

    async def test_the_lineage_spans_all_incidents_that_were_joined_on_the_way(self) -> None:
        first, second = make_alert(sent=TEN), make_alert(sent=TEN)
        joined = make_alert(sent=TEN + timedelta(minutes=1), msg_type="Update", references=[first, second])
        later = make_alert(sent=TEN + timedelta(minutes=2), msg_type="Cancel", references=[joined], infos=())
        async with self.open_store() as store:
            *_, third, fourth = await append_all(store, first, second, joined, later)
            assert alerts(await store.lineage(third)) == [first, second]
            assert alerts(await store.lineage(fourth)) == [first, second, joined]

    async def test_an_error_has_the_lineage_of_what_it_refers_to(self) -> None:
        first = make_alert(sent=TEN)
        update = make_alert(sent=TEN + timedelta(minutes=1), msg_type="Update", references=[first])
        error = make_alert(sent=TEN + timedelta(minutes=2), msg_type="Error", references=[update], note="x")
        async with self.open_store() as store:
            *_, entry = await append_all(store, first, update, error)
            assert alerts(await store.lineage(entry)) == [first, update]

    async def test_the_lineage_of_a_late_alert_is_what_came_before_it_by_referring_to_it(self) -> None:
        first = make_alert(sent=TEN)
        update = make_alert(sent=TEN + timedelta(minutes=1), msg_type="Update", references=[first])
        later = make_alert(sent=TEN + timedelta(minutes=2), msg_type="Update", references=[update])
        async with self.open_store() as store:
            early, late, last = await append_all(store, update, first, later)
            assert await store.lineage(early) == []
            assert alerts(await store.lineage(late)) == [update]
            assert alerts(await store.lineage(last)) == [update, first]

    async def test_the_lineage_reaches_further_back_once_the_link_between_has_come(self) -> None:
        first = make_alert(sent=TEN)
        second = make_alert(sent=TEN + timedelta(minutes=1), msg_type="Update", references=[first])
        other = make_alert(sent=TEN)
        third = make_alert(sent=TEN + timedelta(minutes=2), msg_type="Update", references=[other, second])
        async with self.open_store() as store:
            _, _, early = await append_all(store, first, other, third)
            assert alerts(await store.lineage(early)) == [other]
            [late] = await append_all(store, second)
            assert alerts(await store.lineage(early)) == [first, other]
            assert alerts(await store.lineage(late)) == [first, third]

    async def test_the_lineage_of_an_unknown_reference_is_empty(self) -> None:
        update = make_alert(sent=TEN, msg_type="Update", references=[make_alert(sent=TEN)])
        async with self.open_store() as store:
            [entry] = await append_all(store, update)
            assert entry.incident == update.id
            assert await store.lineage(entry) == []

    async def test_the_lineage_of_a_long_incident_is_bounded_and_holds_its_beginning_and_its_end(
        self,
    ) -> None:
        chain = [make_alert(sent=TEN)]
        for minute in range(1, 230):
            sent = TEN + timedelta(minutes=minute)
            chain.append(make_alert(sent=sent, msg_type="Update", references=[chain[-1]]))
        async with self.open_store() as store:
            entries = await append_all(store, *chain)
            lineage = await store.lineage(entries[-1])
            assert len(lineage) < 229
            assert alerts(lineage)[:10] == chain[:10]
            assert alerts(lineage)[-10:] == chain[-11:-1]
            assert await in_force(store, TEN + timedelta(minutes=230)) == [chain[-1]]
            [entry] = await append_all(
                store, make_alert(sent=LATER, msg_type="Update", references=[chain[115]])
            )
            assert chain[115] in alerts(await store.lineage(entry))
        async with self.open_store() as store:
            assert chain[115] in alerts(await store.lineage(entry))

    # How a message found the log

    async def test_what_a_message_ended_or_took_the_place_of_stays_with_it(self) -> None:
        first, second = make_alert(sent=TEN), make_alert(sent=TEN)
        update = make_alert(sent=TEN + timedelta(minutes=1), msg_type="Update", references=[first])
        ack = make_alert(sent=TEN + timedelta(minutes=2), msg_type="Ack", references=[update])
        cancel = make_alert(
            sent=TEN + timedelta(minutes=3), msg_type="Cancel", references=[update, second], infos=()
        )
        wanted = [(), (), (first.id,), (), (second.id, update.id)]
        async with self.open_store() as store:
            entries = await append_all(store, first, second, update, ack, cancel)
            assert [entry.replaced for entry in entries] == wanted
            assert not any(entry.outdated for entry in entries)
        async with self.open_store() as store:
            assert [entry.replaced for entry in await store.read(None, 10)] == wanted

    async def test_a_message_that_comes_after_a_newer_state_is_outdated_for_good(self) -> None:
        first = make_alert(sent=TEN)
        older = make_alert(sent=TEN + timedelta(minutes=1), msg_type="Update", references=[first])
        newer = make_alert(sent=TEN + timedelta(minutes=2), msg_type="Update", references=[first])
        cancel = make_alert(sent=TEN + timedelta(minutes=1), msg_type="Cancel", references=[first], infos=())
        error = make_alert(sent=TEN, msg_type="Error", references=[newer], note="x")
        last = make_alert(sent=TEN + timedelta(minutes=3), msg_type="Update", references=[first])
        wanted = [True, False, True, True, False, False]
        async with self.open_store() as store:
            entries = await append_all(store, newer, first, older, cancel, error, last)
            found = [entries[1], entries[0], *entries[2:]]
            assert [entry.outdated for entry in found] == wanted
            assert [entry.replaced for entry in found] == [(), (), (), (), (), (newer.id,)]
        async with self.open_store() as store:
            assert [entry.outdated for entry in await store.read(None, 10)] == [
                False,
                *wanted[:1],
                *wanted[2:],
            ]

    async def test_a_late_link_replaces_what_it_shows_to_be_old(self) -> None:
        first = make_alert(sent=TEN)
        second = make_alert(sent=TEN + timedelta(minutes=1), msg_type="Update", references=[first])
        third = make_alert(sent=TEN + timedelta(minutes=2), msg_type="Update", references=[second])
        newest = make_alert(sent=TEN + timedelta(minutes=9), msg_type="Update", references=[first])
        async with self.open_store() as store:
            *_, late = await append_all(store, first, newest, third, second)
            assert (late.outdated, late.replaced) == (True, (third.id,))

    async def test_what_an_update_changed_and_that_it_corrects_stays_with_it(self) -> None:
        changed = Changes(issued=("432032",), lifted=("432059", "435015"))
        alert = make_alert(sent=TEN)
        async with self.open_store() as store:
            appended = await store.append(
                alert, ORIGIN, TEN, declared_facts(alert), frozenset(), changes=changed, correction=True
            )
            assert (appended.entry.changes, appended.entry.correction) == (changed, True)
        async with self.open_store() as store:
            [entry] = await store.read(None, 1)
            assert (entry.changes, entry.correction) == (changed, True)

    async def test_what_is_foreseen_is_what_an_append_then_does_and_leaves_nothing(self) -> None:
        first, second = make_alert(sent=TEN), make_alert(sent=TEN)
        update = make_alert(sent=TEN + timedelta(minutes=2), msg_type="Update", references=[first])
        older = make_alert(sent=TEN + timedelta(minutes=1), msg_type="Update", references=[first])
        joined = make_alert(sent=TEN + timedelta(minutes=3), msg_type="Update", references=[update, second])
        cancel = make_alert(sent=TEN + timedelta(minutes=4), msg_type="Cancel", references=[joined], infos=())
        heard: list[Entry] = []
        async with self.open_store(on_append=heard.extend, clock=FakeClock(LATER)) as store:
            for alert in (update, first, second, older, joined, cancel):
                newest, told = store.newest, len(heard)
                columns = (alert, ORIGIN, TEN, declared_facts(alert), frozenset({"432032"}))
                foreseen = await store.foresee(*columns)
                assert await store.foresee(*columns) == foreseen
                assert (store.newest, len(heard)) == (newest, told)
                assert await store.find(alert.id) is None
                entry = (await store.append(*columns)).entry
                assert foreseen == Foreseen(
                    replace(entry, position=""), True, tuple(await store.lineage(entry))
                )
                assert await store.foresee(*columns) == Foreseen(entry, fresh=False)
            assert alerts(heard) == [update, first, second, older, joined, cancel]
            assert (heard[1].outdated, heard[3].outdated) == (True, True)
            assert heard[4].replaced
            other = make_alert(identifier=first.identifier, sent=TEN, headline="別の内容")
            await refuses(store.foresee(other, ORIGIN, TEN, declared_facts(other), frozenset()), Conflict)

    async def test_the_heads_are_the_newest_states_of_every_chain(self) -> None:
        first, second, alone = (make_alert(sent=TEN) for _ in range(3))
        update = make_alert(sent=TEN + timedelta(minutes=1), msg_type="Update", references=[first])
        joined = make_alert(sent=TEN + timedelta(minutes=2), msg_type="Update", references=[first, second])
        cancel = make_alert(sent=TEN + timedelta(minutes=3), msg_type="Cancel", references=[second], infos=())
        ack = make_alert(sent=TEN + timedelta(minutes=4), msg_type="Ack", references=[first])
        async with self.open_store() as store:
            entries = await append_all(store, first, second, alone, update, joined, cancel, ack)
            wanted = [[joined], [cancel], [alone], [joined], [joined, cancel], [cancel], [joined]]
            assert [alerts(await store.heads(entry)) for entry in entries] == wanted

    async def test_a_sender_and_an_identifier_find_what_they_name(self) -> None:
        one, again = (make_alert(identifier="a-1", sent=TEN + timedelta(hours=n)) for n in range(2))
        other = make_alert(identifier="a-1", sender="b@hitoyoshi.example", sent=TEN)
        async with self.open_store() as store:
            await append_all(store, one, other, make_alert(), again)
            assert alerts(await store.named(one.sender, "a-1", 10)) == [one, again]
            assert alerts(await store.named(one.sender, "a-1", 1)) == [one]
            assert await store.named(one.sender, "a-2", 10) == []
        async with self.open_store() as store:
            assert alerts(await store.named(other.sender, "a-1", 10)) == [other]

    async def test_a_reference_without_a_time_means_the_one_alert_of_that_name_in_either_order(self) -> None:
        for update_first in (False, True):
            first = make_alert(sent=TEN, version="1.0", response=())
            update = make_alert(
                sent=TEN + timedelta(minutes=1),
                version="1.0",
                response=(),
                msg_type="Update",
                references=[timeless(first)],
            )
            later = make_alert(sent=TEN + timedelta(minutes=2), msg_type="Update", references=[update])
            async with self.open_store() as store:
                before = await in_force(store)
                entries = await append_all(store, *((update, first) if update_first else (first, update)))
                assert await in_force(store) == [*before, update]
                assert len({entry.incident for entry in entries}) == 1
                assert [entry.outdated for entry in entries] == [False, update_first]
                await append_all(store, later)
                assert await in_force(store) == [*before, later]

    async def test_a_reference_without_a_time_is_awaited_over_a_restart(self) -> None:
        first = make_alert(sent=TEN, version="1.0", response=())
        cancel = make_alert(
            sent=TEN, version="1.0", msg_type="Cancel", references=[timeless(first)], infos=()
        )
        async with self.open_store() as store:
            await append_all(store, cancel)
        async with self.open_store() as store:
            await append_all(store, make_alert(sent=TEN), first)
            assert first not in await in_force(store)

    async def test_a_reference_that_could_mean_several_alerts_means_none(self) -> None:
        one, again = (
            make_alert(identifier="a-1", sent=TEN + timedelta(hours=n), version="1.0", response=())
            for n in range(2)
        )
        cancel = make_alert(
            sent=TEN + timedelta(hours=3),
            version="1.0",
            msg_type="Cancel",
            references=[timeless(one)],
            infos=(),
        )
        third = make_alert(identifier="a-1", sent=TEN + timedelta(hours=2), version="1.0", response=())
        async with self.open_store() as store:
            await append_all(store, one, again, cancel, third)
            assert await in_force(store, LATER) == [one, again, third]

    async def test_a_reference_without_a_time_never_crosses_to_another_organisation(self) -> None:
        ours = make_alert(sent=TEN, version="1.0", response=())
        theirs = make_alert(
            sent=LATER, version="1.0", msg_type="Cancel", references=[timeless(ours)], infos=()
        )
        async with self.open_store() as store:
            await append(store, ours)
            await append(store, theirs, NEIGHBOUR)
            assert await in_force(store) == [ours]

    async def test_what_a_reference_without_a_time_was_found_to_mean_is_kept(self) -> None:
        first = make_alert(sent=TEN)
        update = make_alert(
            sent=LATER, version="1.0", response=(), msg_type="Update", references=[timeless(first)]
        )
        (vague,) = update.references
        found = replace(update, references=(replace(vague, instant=first.sent),))
        async with self.open_store() as store:
            await append_all(store, first, found)
        async with self.open_store() as store:
            _, entry = await store.read(None, 10)
            assert [reference.id for reference in entry.alert.references] == [first.id]

    # Ends

    async def test_what_ends_is_told_once_by_the_moment_of_its_end(self) -> None:
        ends = [TEN + timedelta(minutes=n) for n in (30, 10, 20, 20)]
        several = [make_alert(sent=TEN, expires=end) for end in ends]
        endless = make_alert(sent=TEN, expires=None)
        async with self.open_store() as store:
            entries = await append_all(store, *several, endless)
            position = {entry.alert.id: entry.position for entry in entries}
            by_end = [position[several[n].id] for n in (1, 2, 3, 0)]
            assert await store.next_end(TEN) == ends[1]
            assert await store.next_end(ends[1]) == ends[2]
            assert await store.next_end(ends[0]) is None
            assert await store.ended(TEN, TEN) == []
            assert await store.ended(TEN, ends[1]) == by_end[:1]
            assert await store.ended(ends[1], ends[2]) == by_end[1:3]
            assert await store.ended(TEN, TEN + timedelta(days=9)) == by_end
            assert await store.ended(TEN, TEN + timedelta(days=9), limit=2) == by_end[:2]

    async def test_what_was_replaced_or_cancelled_has_no_end_of_its_own(self) -> None:
        soon = TEN + timedelta(minutes=10)
        first, second, third = (make_alert(sent=TEN, expires=soon) for _ in range(3))
        update = make_alert(
            sent=TEN, msg_type="Update", references=[first], expires=TEN + timedelta(minutes=20)
        )
        cancel = make_alert(sent=TEN, msg_type="Cancel", references=[second], expires=soon)
        ack = make_alert(sent=TEN, msg_type="Ack", references=[third], expires=soon)
        async with self.open_store() as store:
            _, _, last, end, *_ = await append_all(store, first, second, third, update, cancel, ack)
            assert await store.ended(TEN, LATER) == [last.position, end.position]
            assert await store.next_end(soon) == TEN + timedelta(minutes=20)

    # Organisations and keys

    async def test_organisations_are_kept_and_their_ids_are_taken_once(self) -> None:
        hitoyoshi = Tenant("hitoyoshi", "人吉市", frozenset({HITOYOSHI, "43"}), ("*@hitoyoshi.example", "x"))
        jma = Tenant("jma", "気象庁", frozenset(), ("*@jma.example",), everywhere=True)
        async with self.open_store() as store:
            assert await store.tenants() == []
            await store.save_tenant(jma)
            await store.save_tenant(hitoyoshi)
            await refuses(store.save_tenant(replace(jma, name="別")), Conflict)
            await refuses(store.update_tenant(replace(jma, id="nobody")), NotFound)
        async with self.open_store() as store:
            assert await store.tenants() == [hitoyoshi, jma]

    async def test_an_organisations_policy_is_kept_and_replaced(self) -> None:
        town = Tenant(
            "town",
            "町",
            frozenset({HITOYOSHI}),
            ("*@town.example",),
            tolerant=("*@town.example", "x"),
            signatures=SignaturePolicy.REQUIRE,
            certificates=("one", "two"),
        )
        other = Tenant("other", "他", frozenset({"43"}), ("*",))
        strict = replace(town, tolerant=(), signatures=SignaturePolicy.VERIFY, certificates=("three",))
        async with self.open_store() as store:
            await store.save_tenant(town)
            await store.save_tenant(other)
            assert await store.tenants() == [other, town]
            await store.update_tenant(strict)
        async with self.open_store() as store:
            assert await store.tenants() == [other, strict]

    async def test_keys_belong_to_an_organisation_and_are_revoked_once_for_good(self) -> None:
        key = Key("key-1", "hitoyoshi", Role.SENDER, b"\x01" * 32, TEN)
        drill = Key("key-2", "hitoyoshi", Role.SENDER, b"\x02" * 32, LATER, exercise_only=True, expires=LATER)
        gauge = Key("key-3", "hitoyoshi", Role.SENSOR, b"\x03" * 32, LATER, stations=("kuma-*", "人吉"))
        async with self.open_store() as store:
            await refuses(store.save_key(key), NotFound)
            await store.save_tenant(Tenant("hitoyoshi", "人吉市", frozenset({HITOYOSHI}), ("*",)))
            await store.save_key(key)
            await store.save_key(drill)
            await store.save_key(gauge)
            assert await store.keys() == [key, drill, gauge]
            await refuses(store.revoke_key("nobody's", TEN), NotFound)
            await store.revoke_key("key-1", TEN)
            await store.revoke_key("key-1", LATER)
        async with self.open_store() as store:
            assert await store.keys() == [replace(key, revoked=TEN), drill, gauge]

    async def test_a_keys_id_and_digest_are_its_own(self) -> None:
        key = Key("key-1", "hitoyoshi", Role.SENDER, b"\x01" * 32, TEN)
        async with self.open_store() as store:
            await store.save_tenant(Tenant("hitoyoshi", "人吉市", frozenset({HITOYOSHI}), ("*",)))
            await store.save_key(key)
            await refuses(store.save_key(replace(key, digest=b"\x09" * 32, role=Role.ADMIN)), Conflict)
            await refuses(store.save_key(replace(key, id="key-9", role=Role.ADMIN)), Conflict)
            assert await store.keys() == [key]

    # The outbox

    async def test_a_subscription_is_kept_whole_with_its_cursor(self) -> None:
        everything = Filter(
            areas=frozenset({"43", HITOYOSHI}),
            points=((130.7625, 32.21), (0.1 + 0.2, -1e-9)),
            polygon=CITY_CENTRE,
            bbox=(130.0, 32.0, 131.0, 33.5),
            min_severity=Severity.SEVERE,
            min_level=4,
            level_required=True,
            categories=frozenset({"Met", "Safety"}),
            events=frozenset({"避難指示", "洪水 \"x\" 'y'"}),
            senders=frozenset({"a@example"}),
            statuses=frozenset({Status.ACTUAL, Status.EXERCISE}),
        )
        options = {"secret": "whsec_x", "書式": "値"}
        one = Subscription("s1", "hook", "https://a.example/", everything, TEN, "org", "cap", "ja", options)
        two = Subscription("s2", "mail", "x@b.example", Filter(statuses=frozenset()), LATER)
        async with self.open_store() as store:
            start = store.newest
            position = (await append(store, make_alert())).entry.position
            await store.save_subscription(one, start)
            await store.save_subscription(two, position)
        async with self.open_store() as store:
            lanes = await store.lanes()
            assert [(lane.subscription, lane.cursor) for lane in lanes] == [(one, start), (two, position)]
            assert lanes[0].subscription.filter == everything
            assert hash(lanes[0].subscription.filter) == hash(everything)

    async def test_a_subscription_that_is_saved_again_keeps_its_cursor(self) -> None:
        async with self.open_store() as store:
            start = store.newest
            position = (await append(store, make_alert())).entry.position
            await store.save_subscription(subscription("s1"), start)
            await store.save_subscription(
                replace(subscription("s1"), target="https://new.example/"), position
            )
            [lane] = await store.lanes()
            assert (lane.subscription.target, lane.cursor) == ("https://new.example/", start)

    async def test_a_cursor_that_is_no_position_of_this_log_is_refused(self) -> None:
        async with self.open_store() as store:
            await refuses(store.save_subscription(subscription("s1"), "0000dead-7"), UnknownPosition)
            await refuses(store.save_subscription(subscription("s1"), "x"), BadRequest)
            assert await store.lanes() == []

    async def test_rows_and_cursors_are_written_together_or_not_at_all(self) -> None:
        async with self.open_store() as store:
            positions = await some_positions(store, 2)
            await store.save_subscription(subscription("s1"), positions[0])
            row = delivery("k1", "s1", positions[1])
            await refuses(store.record([row], {"s1": "0000dead-7"}), UnknownPosition)
            await refuses(store.record([row, replace(row, position="x")], {"s1": positions[1]}), BadRequest)
            assert await store.delivery("k1") is None
            assert [lane.cursor for lane in await store.lanes()] == [positions[0]]
            await store.record([row], {"s1": positions[1], "unknown": positions[1]})
            await store.record([], {})
        async with self.open_store() as store:
            assert await store.delivery("k1") == row
            assert [lane.cursor for lane in await store.lanes()] == [positions[1]]

    async def test_a_row_is_kept_whole_and_replaced_by_a_newer_one_alone(self) -> None:
        async with self.open_store() as store:
            [position] = await some_positions(store, 1)
            retry = delivery("k1", "s1", position, DeliveryState.RETRY, due=LATER, detail="503 サーバー")
            done = replace(
                retry, state=DeliveryState.DELIVERED, attempts=2, due=None, updated=LATER, confirmed=LATER
            )
            await store.record([done], {})
            assert await store.delivery("k1") == done
            await store.record([retry], {})
            assert await store.delivery("k1") == done
            later = replace(done, state=DeliveryState.RETRY, due=LATER, updated=LATER + timedelta(seconds=1))
            await store.record([later], {})
            assert await store.delivery("k1") == later
            assert await store.delivery("k2") is None

    async def test_of_each_delivery_the_newest_attempts_are_kept_whole_and_one_again_replaces(self) -> None:
        many = [attempt("k1", number) for number in range(1, MAX_ATTEMPTS + 6)]
        async with self.open_store() as store:
            await store.add_attempts([])
            await store.add_attempts([attempt("k2", 1), *many])
            again = replace(many[-1], took=9.5, state=DeliveryState.DELIVERED, response="200 「はい」")
            await store.add_attempts([again])
        async with self.open_store() as store:
            assert await store.attempts("k1") == [*many[5:-1], again]
            assert await store.attempts("k2") == [attempt("k2", 1)]
            assert await store.attempts("k3") == []

    async def test_a_cursor_never_goes_back(self) -> None:
        async with self.open_store() as store:
            positions = await some_positions(store, 3)
            await store.save_subscription(subscription("s1"), positions[0])
            await store.record([], {"s1": positions[2]})
            await store.record([], {"s1": positions[1]})
            assert [lane.cursor for lane in await store.lanes()] == [positions[2]]

    async def test_what_a_restart_must_know_are_the_retries_and_what_is_settled_beyond_the_cursor(
        self,
    ) -> None:
        async with self.open_store() as store:
            positions = await some_positions(store, 4)
            await store.save_subscription(subscription("s1"), positions[1])
            await store.save_subscription(subscription("s2"), positions[3])
            rows = [
                delivery("early retry", "s1", positions[0], DeliveryState.RETRY, due=LATER),
                delivery("early done", "s1", positions[1], DeliveryState.DELIVERED),
                delivery("retry", "s1", positions[2], DeliveryState.RETRY, due=LATER),
                delivery("done", "s1", positions[2], DeliveryState.DELIVERED),
                delivery("dead", "s1", positions[3], DeliveryState.DEAD),
                delivery("passed", "s2", positions[3], DeliveryState.EXPIRED),
                delivery("nobody's retry", "s3", positions[2], DeliveryState.RETRY, due=LATER),
            ]
            await store.record(rows, {})
        async with self.open_store() as store:
            assert {row.key for row in await store.unsettled()} == {"early retry", "retry", "done", "dead"}
            assert all(row in rows for row in await store.unsettled())
            await store.record([], {"s1": positions[2]})
            assert {row.key for row in await store.unsettled()} == {"early retry", "retry", "dead"}

    async def test_lanes_and_what_is_unsettled_are_found_by_share_and_by_name(self) -> None:
        async with self.open_store() as store:
            first, second = await some_positions(store, 2)
            ids = [f"s{n:02}" for n in range(100)]
            for id in ids:
                await store.save_subscription(subscription(id), first)
            waiting = [delivery(id, id, second, DeliveryState.RETRY, due=LATER) for id in ids]
            await store.record(waiting, {})
            found: list[str] = []
            for start in range(0, SHARES, 8):
                shares = range(start, start + 8)
                lanes = [lane.subscription.id for lane in await store.lanes(shares)]
                assert lanes == [id for id in ids if share_of(id) in shares]
                assert {row.subscription for row in await store.unsettled(shares)} == set(lanes)
                found += lanes
            assert sorted(found) == sorted(ids)
            assert await store.lanes([]) == []
            assert await store.unsettled([]) == []
            lane = await store.lane("s07")
            assert lane is not None
            assert (lane.subscription, lane.cursor) == (subscription("s07"), first)
            assert await store.unsettled_of("s07") == [waiting[7]]
            assert await store.lane("unknown") is None
            assert await store.unsettled_of("unknown") == []

    async def test_which_targets_were_changed_by_whoever_does_not_hold_them_is_told(self) -> None:
        async with self.open_store() as store:
            start, position = await some_positions(store, 2)
            for id in ("s1", "s2", "s3", "s4"):
                await store.save_subscription(subscription(id), start)
            seen, _ = await store.target_changes(0)
            assert await store.target_changes(seen) == (seen, frozenset())
            await store.save_subscription(subscription("s1"), start)
            await store.drop_subscription("s2")
            await store.record([delivery("k3", "s3", position)], {"s3": position})
            await store.record([delivery("k4", "s4", position)], {}, [await self.held_lease(store)])
            now, changed = await store.target_changes(seen)
            assert now > seen
            assert changed == frozenset({"s1", "s2", "s3"})
            assert await store.target_changes(now) == (now, frozenset())
            assert (await store.target_changes(now + 1))[1] is None

    async def test_what_was_confirmed_stays_confirmed(self) -> None:
        async with self.open_store() as store:
            [position] = await some_positions(store, 1)
            row = delivery("k1", "s1", position)
            await store.record([replace(row, confirmed=LATER)], {})
            await store.record([replace(row, attempts=2, updated=LATER)], {})
            assert await store.delivery("k1") == replace(row, attempts=2, updated=LATER, confirmed=LATER)

    async def test_the_history_of_a_subscription_is_newest_first_and_bounded(self) -> None:
        async with self.open_store() as store:
            positions = await some_positions(store, 3)
            rows = [delivery(f"k{n}", "s1", position) for n, position in enumerate(positions)]
            await store.record([*rows, delivery("other", "s2", positions[2])], {})
            assert await store.deliveries("s1", 10) == rows[::-1]
            assert await store.deliveries("s1", 2) == rows[:0:-1]
            assert await store.deliveries("s1", 0) == await store.deliveries("s9", 10) == []

    async def test_a_dropped_subscription_leaves_its_history_and_nothing_to_do(self) -> None:
        async with self.open_store() as store:
            [position] = await some_positions(store, 1)
            await store.save_subscription(subscription("s1"), position)
            await store.record([delivery("k1", "s1", position, DeliveryState.RETRY, due=LATER)], {})
            assert await store.drop_subscription("s1")
            assert not await store.drop_subscription("s1")
            assert await store.lanes() == []
            assert await store.unsettled() == []
            [row] = await store.deliveries("s1", 10)
            assert (row.key, row.state, row.due) == ("k1", DeliveryState.DROPPED, None)
            await store.record([], {"s1": position})
            assert await store.lanes() == []

    # Sensors

    async def test_readings_are_kept_whole_and_numbered_as_they_arrive(self) -> None:
        readings = [
            Reading("gauge", TEN, level_m=1.25, seq=1),
            Reading("rain", TEN + timedelta(seconds=5, microseconds=1), rain_mm=0.5, period_s=600),
            Reading("rain", TEN.astimezone(UTC) + timedelta(minutes=9), rain_total_mm=12.5),
            Reading("gauge", TEN + timedelta(microseconds=1), level_m=1.3, by="消防団第3分団"),
        ]
        async with self.open_store() as store:
            assert await store.readings_after(0, 10) == []
            first = await store.append_readings("hitoyoshi", readings[:2], LATER)
            second = await store.append_readings("hitoyoshi", readings[2:], LATER)
            kept = [each for each in [*first, *second] if each is not None]
            assert [each.reading for each in kept] == readings
            assert {(each.tenant, each.received) for each in kept} == {("hitoyoshi", LATER)}
            numbers = [each.number for each in kept]
            assert numbers == sorted(set(numbers))
            assert numbers[0] > 0
        async with self.open_store() as store:
            again = await store.readings_after(0, 10)
            assert again == kept
            assert again[0].reading.time.utcoffset() == timedelta(hours=9)
            assert await store.readings_after(numbers[0], 1) == kept[1:2]

    async def test_a_reading_known_by_time_or_by_seq_is_kept_once(self) -> None:
        reading = Reading("gauge", TEN, level_m=1.0, seq=7)
        same_time = replace(reading, time=TEN.astimezone(UTC), level_m=2.0, seq=8)
        same_seq = replace(reading, time=TEN + timedelta(seconds=48))
        new = Reading("gauge", TEN + timedelta(seconds=60), level_m=1.0, seq=9)
        async with self.open_store() as store:
            answers = await store.append_readings("t", [reading, same_time, same_seq, new, new], LATER)
            assert [answer is not None for answer in answers] == [True, False, False, True, False]
            assert await store.append_readings("t", [reading], LATER) == [None]
            assert await store.append_readings("t", [], LATER) == []
            elsewhere = replace(reading, station="other")
            assert None not in await store.append_readings("t", [elsewhere], LATER)

    async def test_a_device_that_counts_from_nought_again_is_heard(self) -> None:
        reading = Reading("gauge", TEN, level_m=1.0, seq=0)
        restarted = replace(reading, time=TEN + timedelta(days=3))
        async with self.open_store() as store:
            assert None not in await store.append_readings("t", [reading, restarted], LATER)

    async def test_a_stations_newest_readings_go_by_the_devices_time_and_rise(self) -> None:
        async with self.open_store() as store:
            for minute in (3, 1, 2, 0):
                reading = Reading("gauge", TEN + timedelta(minutes=minute), level_m=float(minute))
                await store.append_readings("t", [reading, replace(reading, station="other")], LATER)
            levels = [each.reading.level_m for each in await store.readings("gauge", 3)]
            assert levels == [1.0, 2.0, 3.0]
            assert await store.readings("gauge", 0) == await store.readings("unknown", 5) == []

    async def test_what_the_rules_know_is_kept_together_with_how_far_they_have_judged(self) -> None:
        async with self.open_store() as store:
            assert await store.judged() == 0
            assert await store.rule_state("a") is None
            await store.save_rule_states({"a": b"1", "b": b"\x00\xff"}, 7)
            await store.save_rule_states({"a": b"2"}, 9)
            await store.save_rule_states({}, 8)
        async with self.open_store() as store:
            assert await store.rule_state("a") == b"2"
            assert await store.rule_states() == {"a": b"2", "b": b"\x00\xff"}
            assert await store.judged() == 9

    # Adapters' state, and the store itself

    async def test_counts_of_a_senders_documents_add_up_and_outlive_the_store(self) -> None:
        day, next_day = TEN.date(), TEN.date() + timedelta(days=1)
        early = Reason(1, TEN, TEN, Example("a-1", "/alert/sent", 4))
        late = Reason(2, LATER, LATER, Example("a-3", "/alert/info[1]/area[1]/polygon[1]", 31))
        other = Reason(1, TEN, TEN, Example())
        async with self.open_store() as store:
            assert await store.scores(None, None, day) == []
            # What was given back and is written late has the earlier example.
            await store.add_scores([Score("hitoyoshi", "s", day, 3, 0, 2, {"CAP-VALUE": late})])
            await store.add_scores(
                [
                    Score("hitoyoshi", "s", day, 1, 1, 1, {"CAP-VALUE": early, "conflict": other}),
                    Score("hitoyoshi", "s", next_day, 0, 0, 1, {"CAP-VALUE": late}),
                    Score("minamata", "s", day, 7, 0, 0, {}),
                ]
            )
        async with self.open_store() as store:
            both = {"CAP-VALUE": replace(late, documents=3, first=TEN), "conflict": other}
            first = Score("hitoyoshi", "s", day, 4, 1, 3, both)
            second = Score("hitoyoshi", "s", next_day, 0, 0, 1, {"CAP-VALUE": late})
            neighbour = Score("minamata", "s", day, 7, 0, 0, {})
            assert await store.scores(None, None, day) == [first, second, neighbour]
            assert await store.scores("hitoyoshi", None, day) == [first, second]
            assert await store.scores("hitoyoshi", None, next_day) == [second]
            assert await store.scores("hitoyoshi", "nobody", day) == []

    async def test_the_first_confirmation_of_an_alert_is_kept_for_each_receiver(self) -> None:
        def confirmation(
            key: str, entry: Entry, seconds: float, sent: datetime | None = LATER
        ) -> Confirmation:
            confirmed = LATER + timedelta(seconds=seconds)
            return Confirmation(key, entry.position, entry.alert.id, TEN, TEN, sent, confirmed)

        async with self.open_store() as store:
            one, two = await append_all(store, make_alert(identifier="1"), make_alert(identifier="2"))
            first, second = confirmation("key-1", one, 0.000_001), confirmation("key-1", two, 2, None)
            other = confirmation("key-2", one, 3)
            await store.add_confirmations([])
            await store.add_confirmations([second, other])
            await store.add_confirmations(
                [first, confirmation("key-1", one, 1), confirmation("key-1", two, 0)]
            )
        async with self.open_store() as store:
            assert await store.confirmations(["key-1"]) == [second, first]
            assert await store.confirmations(["key-2", "key-3"]) == [other]
            assert await store.confirmations() == [second, first, other]
            assert await store.confirmations([]) == []
            unknown = replace(first, position="other-1")
            await refuses(store.add_confirmations([other, unknown]), UnknownPosition)

    async def test_of_each_receiver_the_newest_confirmed_alerts_are_kept(self) -> None:
        async with self.open_store() as store:
            alerts = [make_alert(identifier=str(n)) for n in range(MAX_CONFIRMATIONS + 5)]
            taken = await asyncio.gather(*(append(store, alert) for alert in alerts))
            entries = sorted((each.entry for each in taken), key=lambda entry: store.order(entry.position))
            rows = [Confirmation("k", e.position, e.alert.id, TEN, TEN, None, LATER) for e in entries]
            few = [replace(row, key="few") for row in rows[:2]]
            await store.add_confirmations([*rows[50:], *few])
            await store.add_confirmations(rows[:50])
            await store.add_confirmations([rows[0]])
            assert await store.confirmations(["k"]) == rows[:4:-1]
            assert await store.confirmations(["few"]) == few[::-1]

    async def test_senders_beyond_the_bound_are_counted_together(self) -> None:
        day = TEN.date()
        reasons = {"CAP-VALUE": Reason(1, TEN, TEN, Example())}
        async with self.open_store() as store:
            for start in range(0, MAX_SENDERS + 10, 10):
                numbers = range(start, start + 10)
                await store.add_scores(
                    [Score("a", f"s{number}", day, 1, 0, 1, reasons) for number in numbers]
                )
            await store.add_scores([Score("a", "s0", day, 1, 0, 0, {}), Score("b", "s", day, 1, 0, 0, {})])
            kept = {score.sender: score for score in await store.scores("a", None, day)}
            assert len(kept) == MAX_SENDERS + 1
            assert (kept["s0"].accepted, kept[OTHERS].accepted, kept[OTHERS].refused) == (2, 10, 10)
            assert kept[OTHERS].reasons["CAP-VALUE"].documents == 10
            assert [score.sender for score in await store.scores("b", None, day)] == ["s"]

    async def test_counts_are_forgotten_after_a_year(self) -> None:
        day = TEN.date()
        reasons = {"CAP-VALUE": Reason(1, TEN, TEN, Example())}
        async with self.open_store() as store:
            for org, age in (("a", 0), ("a", 1), ("b", 0)):
                old = day + timedelta(days=age)
                await store.add_scores([Score(org, "s", old, 1, 0, 0, reasons)])
            now = day + timedelta(days=MAX_DAYS)
            await store.add_scores([Score("a", "s", now, 1, 0, 0, {})])
            kept = await store.scores(None, None, day)
            assert [(score.org, (score.day - day).days) for score in kept] == [
                ("a", 1),
                ("a", MAX_DAYS),
                ("b", 0),
            ]
            assert kept[0].reasons == reasons

    # Stations

    async def test_stations_are_kept_for_their_organisation(self) -> None:
        first, second = KeptStation("a", "one", b'{"n":1}'), KeptStation("b", "two", b"{}")
        async with self.open_store() as store:
            assert await store.stations() == []
            await store.save_stations([])
            await store.save_stations([second, replace(first, document=b"{}")])
            await store.save_stations([first])
        async with self.open_store() as store:
            assert await store.stations() == [first, second]
            assert await store.stations("two") == [second]
            assert await store.station("a") == first
            assert await store.station("c") is None
            theirs = KeptStation("b", "one", b"{}")
            await refuses(store.save_stations([KeptStation("c", "one", b"{}"), theirs]), Conflict)
            assert await store.station("c") is None
            assert not await store.forget_station("b", "one")
            assert await store.forget_station("b", "two")
            assert not await store.forget_station("b", "two")
            assert await store.stations() == [first]
            # Whoever gave an id up does not keep it from others.
            await store.save_stations([theirs])
            assert await store.stations("one") == [first, theirs]

    async def test_what_changed_of_stations_is_told_in_order(self) -> None:
        async with self.open_store() as store:
            await store.save_stations([KeptStation(name, "org", b"{}") for name in "abc"])
            known = await store.stations_after(0, 10)
            assert [each.id for each in known] == ["a", "b", "c"]
            await store.save_stations([KeptStation("a", "org", b"[]")])
            await store.forget_station("b", "org")
        async with self.open_store() as store:
            news = await store.stations_after(known[-1].revision, 10)
            assert news == [KeptStation("a", "org", b"[]"), KeptStation("b", "org", None)]
            assert await store.stations_after(known[-1].revision, 1) == news[:1]
            assert [each.id for each in await store.stations_after(0, 10)] == ["c", "a", "b"]
            assert await store.stations_after(news[-1].revision, 10) == []

    async def test_an_adapters_values_are_its_own(self) -> None:
        async with self.open_store() as store:
            await store.put("one", "k", b"\x00a")
            await store.put("two", "k", b"b")
            await store.put("one", "k", b"c")
            await store.delete("two", "k")
            await store.delete("two", "k")
        async with self.open_store() as store:
            assert await store.get("one", "k") == b"c"
            assert await store.get("two", "k") is None

    async def test_an_adapters_value_has_a_bound(self) -> None:
        async with self.open_store() as store:
            await store.put("one", "k" * 200, b"x" * 65_536)
            await refuses(store.put("one", "k", b"x" * 65_537), LalertError)
            await refuses(store.put("one", "k" * 201, b"x"), LalertError)

    async def test_a_healthy_store_passes_its_check_again_and_again(self) -> None:
        async with self.open_store() as store:
            await store.check()
            await together([store.check() for _ in range(5)])

    async def test_a_closed_store_says_so(self) -> None:
        async with self.open_store() as store:
            pass
        await refuses(append(store, make_alert()), StoreError)
        await refuses(store.read(None, 1), StoreError)
        await refuses(store.check(), StoreError)


async def append(store: Store, alert: Alert, origin: Origin = ORIGIN) -> Appended:
    """Append with the facts that the alert itself declares."""
    return await store.append(alert, origin, datetime.now(UTC), declared_facts(alert), frozenset())


async def append_all(store: Store, *alerts: Alert) -> list[Entry]:
    """Append one after another."""
    return [(await append(store, alert)).entry for alert in alerts]


async def in_force(store: Store, now: datetime = LATER) -> list[Alert]:
    """Return the alerts in force at `now`."""
    return alerts(await store.active(now))


def alerts(entries: Sequence[Entry]) -> list[Alert]:
    return [entry.alert for entry in entries]


async def some_positions(store: Store, number: int) -> list[str]:
    """Append alerts and return their positions."""
    return [entry.position for entry in await append_all(store, *(make_alert() for _ in range(number)))]


def subscription(id: str) -> Subscription:
    return Subscription(id, "hook", "https://a.example/", Filter(), TEN)


def delivery(
    key: str,
    subscription: str,
    position: str,
    state: DeliveryState = DeliveryState.DELIVERED,
    *,
    due: datetime | None = None,
    detail: str = "",
) -> DeliveryRow:
    return DeliveryRow(key, subscription, position, state, 1, due, detail, TEN)


def attempt(key: str, number: int) -> Attempt:
    began = TEN + timedelta(seconds=number, microseconds=1)
    return Attempt(
        key, number, began, 0.25, DeliveryState.RETRY, "HTTP 503", "POST 10 bytes", "HTTP 503, 混雑"
    )


async def together(work: Sequence[Awaitable[T]]) -> list[T]:
    """Await all at once, within `PATIENCE` seconds."""
    async with asyncio.timeout(PATIENCE):
        return await asyncio.gather(*work)


async def refuses(work: Awaitable[object], error: type[LalertError]) -> None:
    """Assert that an operation is refused with an error of this kind."""
    try:
        await work
    except error:
        return
    raise AssertionError(f"expected {error.__name__}")


def refuses_at_once(call: Callable[[str], object], text: str, error: type[LalertError]) -> None:
    """Assert that a call with `text` is refused with an error of this kind."""
    try:
        call(text)
    except error:
        return
    raise AssertionError(f"expected {error.__name__} for {text!r}")
