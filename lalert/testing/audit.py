"""What every store must do with the audit chain, as tests to inherit."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Final

from lalert.clock import Clock
from lalert.model import JST, Origin, OriginKind
from lalert.store import Appended, OnAppend, Store
from lalert.store.audit import (
    EMPTY,
    HUB,
    LOCAL,
    Accepted,
    Action,
    Actor,
    ActorKind,
    Document,
    KeptLine,
    Note,
    decode,
    verify,
)
from lalert.testing.alerts import declared_facts, make_alert
from lalert.testing.clock import FakeClock
from lalert.testing.store import ignore

TEN: Final = datetime(2026, 6, 1, 10, 0, tzinfo=JST)
ORIGIN: Final = Origin(OriginKind.HTTP, "hitoyoshi", "key-1", "192.0.2.77")
GAUGE: Final = Origin(OriginKind.SENSOR, "minamata", None, "gauge-3")


def note(subject: str, org: str = "") -> Note:
    """Return a note to order."""
    return Note(TEN, LOCAL, Action.ORG_CREATED, subject, org, {"name": "人吉市", "codes": ["432032"]})


async def whole(store: Store) -> list[KeptLine]:
    """Return the chain, read in pages."""
    found: list[KeptLine] = []
    while page := await store.audit_lines(found[-1].number if found else 0, 3):
        found += page
    return found


async def accept(store: Store, identifier: str, origin: Origin = ORIGIN) -> Appended:
    """Append an alert of its own."""
    alert = make_alert(identifier=identifier, sent=TEN)
    return await store.append(alert, origin, TEN, declared_facts(alert), frozenset())


class AuditContract:
    """Inherit it beside `StoreContract`: it uses the same `open_store`."""

    def open_store(
        self, *, on_append: OnAppend = ignore, clock: Clock | None = None
    ) -> AbstractAsyncContextManager[Store]:
        """Return a context manager that opens the store; called again within one test it opens the same data."""
        raise NotImplementedError

    async def test_audit_lines_are_numbered_linked_and_kept(self) -> None:
        async with self.open_store() as store:
            assert await store.audit_head() == EMPTY
            assert await store.audit_lines(0, 10) == []
            first = await store.append_audit([note("a", "hitoyoshi"), note("b")])
            second = await store.append_audit([note("c")])
            assert await store.append_audit([]) == second
        async with self.open_store() as store:
            lines = await whole(store)
            assert await store.audit_head() == second == lines[-1].head
            assert [line.number for line in lines] == [1, 2, 3]
            assert lines[1].head == first
            assert verify(lines, [first, second]) is None
            read = decode(lines[0].text)
            assert (read.number, read.time, read.org) == (1, TEN, "hitoyoshi")
            assert (read.actor, read.action, read.subject) == ("local", "org.created", "a")
            assert read.details == {"name": "人吉市", "codes": ["432032"]}

    async def test_audit_lines_written_at_once_make_one_sound_chain(self) -> None:
        async with self.open_store() as store:
            heads = await asyncio.gather(
                *(store.append_audit([note(f"{n}a"), note(f"{n}b")]) for n in range(20))
            )
            lines = await whole(store)
            assert verify(lines, heads) is None
            subjects = [decode(line.text).subject for line in lines]
            assert sorted(subjects) == sorted(f"{n}{part}" for n in range(20) for part in "ab")
            pairs = zip(subjects[::2], subjects[1::2], strict=True)
            assert all(one[:-1] == other[:-1] for one, other in pairs)

    async def test_an_organisation_reads_its_own_audit_lines_alone(self) -> None:
        async with self.open_store() as store:
            await store.append_audit(
                [note(f"{n}", ("", "hitoyoshi", "minamata", "hito")[n % 4]) for n in range(12)]
            )
            own = await store.audit_lines(0, 100, "hitoyoshi")
            assert [line.number for line in own] == [2, 6, 10]
            assert await store.audit_lines(2, 1, "hitoyoshi") == own[1:2]
            assert await store.audit_lines(0, 100, "hitoyosh") == []
            assert await store.latest_audit_lines(2, None, "hitoyoshi") == own[1:]
            assert await store.latest_audit_lines(2, 10, "hitoyoshi") == own[:2]
            assert [line.number for line in await store.latest_audit_lines(2)] == [11, 12]
            assert [line.number for line in await store.latest_audit_lines(2, 3)] == [1, 2]
            assert await store.latest_audit_lines(0) == await store.audit_lines(0, 0) == []
            assert [line.number for line in await store.audit_lines(10, 100)] == [11, 12]

    async def test_every_accepted_alert_gets_one_audit_line(self) -> None:
        clock = FakeClock(TEN + timedelta(minutes=1))
        async with self.open_store(clock=clock) as store:
            assert await store.audit_accepted(10) == 0
            kept = [await accept(store, f"{n}") for n in range(3)]
            assert not (await accept(store, "0")).fresh
            kept.append(await accept(store, "3", GAUGE))
            assert await store.audit_accepted(3) == 3
        async with self.open_store(clock=clock) as store:
            await store.append_audit([Note(TEN, HUB, Action.STARTED, "node")])
            assert await store.audit_accepted(3) == 1
            assert await store.audit_accepted(3) == 0
            lines = await whole(store)
            assert verify(lines, [await store.audit_head()]) is None
            read = [decode(line.text) for line in lines]
            accepted = [line for line in read if line.action == Action.ACCEPTED]
            assert [line.subject for line in accepted] == [one.entry.alert.id for one in kept]
            first, *_, last = accepted
            assert (first.time, first.time.utcoffset()) == (clock.now(), UTC.utcoffset(None))
            assert (first.org, first.actor) == ("hitoyoshi", str(Actor(ActorKind.KEY, "key-1")))
            assert first.details == {
                "network": "192.0.2.0/24",
                "origin": "http",
                "position": kept[0].entry.position,
                "sha256": first.details["sha256"],
                "status": "Actual",
            }
            assert len(str(first.details["sha256"])) == 64
            assert (last.org, last.actor, last.details["network"]) == ("minamata", "station:gauge-3", None)

    async def test_what_the_log_holds_can_be_compared_with_the_lines(self) -> None:
        async with self.open_store() as store:
            kept = [(await accept(store, f"{n}")).entry for n in range(5)]
            assert await store.documents(None, 10) == []
            await store.audit_accepted(4)
            expected = [
                Document(entry.position, entry.alert.id, sha256(entry.alert.raw).digest())
                for entry in kept[:4]
            ]
            assert await store.documents(None, 10) == expected
            assert await store.documents(None, 3) == expected[:3]
            assert await store.documents(expected[1].position, 10) == expected[2:]
            accepted = Accepted()
            for line in await whole(store):
                accepted.take(line)
            assert not any(map(accepted.fault, expected))

    async def test_no_alert_gets_a_second_audit_line_when_many_write_them_at_once(self) -> None:
        async with self.open_store() as store:
            kept = [await accept(store, f"{n}") for n in range(12)]
            while any(await asyncio.gather(*(store.audit_accepted(2) for _ in range(4)))):
                pass
            subjects = [decode(line.text).subject for line in await whole(store)]
            assert subjects == [one.entry.alert.id for one in kept]
