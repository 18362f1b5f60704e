from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import pytest

from lalert.errors import BadRequest, NotFound, Unavailable, UnknownPosition
from lalert.geo import normalise_code
from lalert.live import Ack
from lalert.model import Entry, Filter, Role, Scope
from lalert.receivers import Receivers, confirming, receiver_json
from lalert.receivers.figures import latency
from lalert.store import Confirmation
from lalert.tenancy import Administration, KeyRing
from lalert.testing import FakeClock
from tests.system.live_kit import SENT, make_entry
from tests.unit.test_tenancy import MemoryDirectory


class MemoryBook:
    """Keeps everything; `broken` refuses to, `lost` has begun a new epoch."""

    def __init__(self) -> None:
        self.rows: list[Confirmation] = []
        self.broken = self.lost = False

    async def add_confirmations(self, confirmations: Sequence[Confirmation]) -> None:
        await asyncio.sleep(0)
        if self.broken:
            raise Unavailable("the disk is full")
        if self.lost:
            raise UnknownPosition("another epoch")
        self.rows += confirmations

    async def confirmations(self, keys: Collection[str] | None = None) -> list[Confirmation]:
        return [row for row in self.rows if keys is None or row.key in keys]


@dataclass
class Log:
    entries: dict[str, Entry] = field(default_factory=dict)
    looks: int = 0

    def add(self, number: int, scope: Scope = Scope.PUBLIC) -> Entry:
        entry = make_entry(number, scope=scope)
        self.entries[entry.position] = replace(entry, stored=SENT + timedelta(seconds=0.01))
        return self.entries[entry.position]

    def order(self, position: str) -> tuple[int, ...]:
        if not position.startswith("e-"):
            raise UnknownPosition("of another log") if "-" in position else BadRequest("no position")
        return (int(position[2:]),)

    async def reach(self, position: str) -> None:
        """There is only this node."""

    async def entry(self, position: str) -> Entry | None:
        self.looks += 1
        return self.entries.get(position)


class Rig:
    """Receivers over fakes; what each hop took is in `seen`."""

    def __init__(self) -> None:
        self.clock = FakeClock(SENT)
        self.book, self.log = MemoryBook(), Log()
        self.directory = MemoryDirectory()
        self.ring = KeyRing(self.directory, self.clock)
        self.sent: dict[str, datetime] = {}
        self.seen: list[tuple[str, float]] = []
        self.asked = 0
        self.receivers = Receivers(
            self.book,
            self.log,
            self.ring,
            self.clock,
            wants=self.wants,
            sent=self.sent.get,
            observe=lambda hop, seconds: self.seen.append((hop, round(seconds, 6))),
        )

    async def wants(self, filter: Filter, entry: Entry) -> bool:
        self.asked += 1
        return not filter.areas or not filter.areas.isdisjoint(entry.facts.codes)

    async def key(self, role: Role = Role.RECEIVER) -> str:
        administration = Administration(self.directory, normalise_code, self.clock)
        if not self.ring.tenants():
            await administration.create_org("town", ["432032"], ["*"])
        made = await administration.create_key("town", role)
        await self.ring.refresh()
        return made.key.id

    def ack(self, entry: Entry, key: str | None, seconds: float = 1.0, **about: object) -> Ack:
        said = Ack(entry.position, SENT + timedelta(seconds=seconds), key, "192.0.2.1", Filter(), None)
        return replace(said, **about)  # type: ignore[arg-type]


async def test_what_a_receiver_says_on_a_stream_is_measured_and_written_once() -> None:
    rig = Rig()
    key, entry = await rig.key(), rig.log.add(1)
    rig.sent[entry.position] = SENT + timedelta(seconds=0.05)
    rig.receivers.streamed(entry, 3)
    rig.receivers.streamed(entry, 2)  # the other lane
    for seconds in (1.0, 2.0):
        rig.receivers.hear(rig.ack(entry, key, seconds))
    await rig.receivers.flush()
    assert rig.seen == [("stored", 0.01), ("sent", 0.04), ("confirmed", 0.95), ("confirmed", 1.95)]
    [row] = rig.book.rows
    assert (row.key, row.position, row.alert) == (key, entry.position, entry.alert.id)
    assert row.confirmed == SENT + timedelta(seconds=1)
    assert (await rig.receivers.confirmed([key]))[key] == [row]


async def test_only_what_it_was_told_is_confirmed_by_whoever_may_see_it() -> None:
    rig = Rig()
    key, public, private = await rig.key(), rig.log.add(1), rig.log.add(2, Scope.PRIVATE)
    elsewhere = Filter(areas=frozenset({"131016"}))
    rig.receivers.hear(rig.ack(public, key, filter=elsewhere))
    rig.receivers.hear(rig.ack(private, key, audience=None))
    rig.receivers.hear(replace(rig.ack(public, key), position="e-9"))
    rig.receivers.hear(rig.ack(private, key, audience=private.origin.tenant or "other"))
    await rig.receivers.flush()
    assert rig.book.rows == []
    assert rig.seen == []


async def test_who_has_no_receiver_key_is_measured_and_not_written_down() -> None:
    rig = Rig()
    entry = rig.log.add(1)
    rig.sent[entry.position] = SENT
    for key in (None, await rig.key(Role.SENDER), "key-of-nobody"):
        rig.receivers.hear(rig.ack(entry, key))
    await rig.receivers.flush()
    assert rig.seen == [("confirmed", 1.0)] * 3
    assert rig.book.rows == []


async def test_ten_thousand_who_confirm_the_same_ask_the_log_once() -> None:
    rig = Rig()
    entry = rig.log.add(1)
    for _ in range(10_000):
        rig.receivers.hear(rig.ack(entry, None))
    await rig.receivers.flush()
    assert (rig.log.looks, rig.asked) == (1, 1)


async def test_what_cannot_be_written_is_kept_and_written_later() -> None:
    rig = Rig()
    key = await rig.key()
    entries = [rig.log.add(number) for number in range(confirming.ROWS_AT_ONCE + 50)]
    for entry in entries:
        rig.receivers.hear(rig.ack(entry, key))
    rig.book.broken = True
    with pytest.raises(Unavailable):
        await rig.receivers.flush()
    rig.book.broken = False
    flush = asyncio.ensure_future(rig.receivers.flush())
    await asyncio.sleep(0)
    flush.cancel()
    await asyncio.gather(flush, return_exceptions=True)
    await rig.receivers.flush()
    assert {row.position for row in rig.book.rows} == {entry.position for entry in entries}


async def test_one_confirmation_that_cannot_be_looked_at_holds_nobody_else_up() -> None:
    rig = Rig()
    key, entry = await rig.key(), rig.log.add(1)
    rig.receivers.hear(rig.ack(entry, key, filter=None))
    rig.receivers.hear(rig.ack(entry, key))
    await rig.receivers.flush()
    assert rig.receivers.dropped == 1
    assert [row.position for row in rig.book.rows] == [entry.position]


async def test_positions_of_an_epoch_that_is_gone_hold_nothing_up() -> None:
    rig = Rig()
    key = await rig.key()
    rig.receivers.hear(rig.ack(rig.log.add(1), key))
    rig.book.lost = True
    await rig.receivers.flush()
    assert rig.receivers.dropped == 1


async def test_there_is_a_bound_to_what_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confirming, "MAX_WAITING", 3)
    rig = Rig()
    key = await rig.key()
    entries = [rig.log.add(number) for number in range(5)]
    for entry in entries:
        rig.receivers.hear(rig.ack(entry, key))
    assert rig.receivers.dropped == 2


async def test_what_is_posted_is_written_before_it_is_answered() -> None:
    rig = Rig()
    key = await rig.key()
    caller = rig.ring.holder(key)
    assert caller is not None
    entry, hidden = rig.log.add(1), rig.log.add(2, Scope.RESTRICTED)
    rig.clock.move(3)
    await rig.receivers.confirm(entry.position, caller)
    assert [(row.confirmed, row.sent) for row in rig.book.rows] == [(SENT + timedelta(seconds=3), None)]
    for position, error in ((hidden.position, NotFound), ("e-9", NotFound), ("f-1", UnknownPosition)):
        with pytest.raises(error):
            await rig.receivers.confirm(position, caller)
    rig.book.broken = True
    with pytest.raises(Unavailable):
        await rig.receivers.confirm(entry.position, caller)


def test_the_figures_are_of_every_hop_that_is_known_and_never_below_nothing() -> None:
    def confirmation(number: int, sent: float | None, confirmed: float) -> Confirmation:
        at = [None if each is None else SENT + timedelta(seconds=each) for each in (0.002, sent, confirmed)]
        assert at[0] is not None
        assert at[2] is not None
        return Confirmation("k", f"e-{number}", f"id-{number}", SENT, at[0], at[1], at[2])

    rows = [confirmation(n, 0.002 + n / 100, 0.002 + n / 100 + n) for n in range(100, 0, -1)]
    found = latency(rows)
    assert found["stored"] == {"p50": 0.002, "p90": 0.002, "p99": 0.002, "max": 0.002}
    assert found["sent"] == {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
    assert found["confirmed"] == {"p50": 50.0, "p90": 90.0, "p99": 99.0, "max": 100.0}
    assert found["total"] == {"p50": 50.502, "p90": 90.902, "p99": 99.992, "max": 101.002}
    skewed = latency([confirmation(1, -5, -9)])
    assert skewed["sent"] == skewed["confirmed"] == {"p50": 0.0, "p90": 0.0, "p99": 0.0, "max": 0.0}
    posted = latency([confirmation(1, None, 4)])
    assert (posted["sent"], posted["confirmed"]) == (None, None)
    assert posted["total"] is not None
    shown = receiver_json(rows, 2)
    assert (shown["position"], [each["position"] for each in shown["alerts"]]) == ("e-100", ["e-100", "e-99"])
    assert receiver_json([], 5) == {
        "position": None,
        "confirmed": None,
        "alerts": [],
        "latency": {"stored": None, "sent": None, "confirmed": None, "total": None},
    }
