"""The fan-out and the resume against transports that are fakes: what schedules, stalls and failures do to what is offered."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lalert.errors import Unavailable
from lalert.live import LiveSettings, fanout, resume
from lalert.live.audience import Audience, Bodies, nobody
from lalert.live.connection import Connection, Lines, Subscriber
from lalert.live.fanout import FanOut
from lalert.live.follow import Follower
from lalert.live.frames import Wire
from lalert.live.resume import Resume
from lalert.matching import FilterIndex, parse_filter, wants
from lalert.matching.columns import Numbers
from lalert.model import Entry, Filter, MsgType, Status
from tests.system.live_kit import CITY, ELSEWHERE, MemoryBus, MemoryLog, body

HERE = parse_filter([("area", CITY)])
EVERYWHERE = Filter()
DRILLS_TOO = parse_filter([("status", "all")])
SETTINGS = LiveSettings(window_entries=4, page_entries=3, buffer_bytes=2_000, stall_s=10.0)


class ManualClock:
    """Stands still until it is moved; sleeping only gives up the loop."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.slept: list[float] = []

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(0)


class FakeTransport:
    """Takes bytes until it is stalled; then they wait, as in asyncio."""

    def __init__(self) -> None:
        self.taken = bytearray()
        self.writes: list[bytes] = []
        self.aborted = False
        self._waiting = bytearray()
        self._stalled = False
        self._closing = False
        self._room = asyncio.Event()
        self._room.set()

    def write(self, data: bytes) -> None:
        assert not self._closing, "written to after the end"
        self.writes.append(data)
        (self._waiting if self._stalled else self.taken).extend(data)
        if len(self._waiting) > 500:
            self._room.clear()

    def get_write_buffer_size(self) -> int:
        return len(self._waiting)

    def set_write_buffer_limits(self, high: int) -> None:
        self.high = high

    def is_closing(self) -> bool:
        return self._closing

    def get_extra_info(self, name: str) -> None:
        return None

    def stall(self) -> None:
        self._stalled = not self._closing

    def flow(self) -> None:
        self._stalled = False
        self.taken += self._waiting
        self._waiting.clear()
        self._room.set()

    def abort(self) -> None:
        self.aborted = True
        self.end()

    def end(self) -> None:
        self._closing = True
        self._waiting.clear()
        self._room.set()

    async def drain(self) -> None:
        await self._room.wait()


@dataclass
class Receiver:
    """A client that resumes from the last SSE id, as a browser does. `since` is from where on it must miss nothing."""

    filter: Filter
    since: str | None = None
    last: str | None = None
    told: list[str] = field(default_factory=list)
    snapshots: list[list[str]] = field(default_factory=list)
    transport: FakeTransport | None = None
    task: asyncio.Task[None] | None = None

    def read(self) -> None:
        """Take what has come, whole events only."""
        assert self.transport is not None
        *events, rest = bytes(self.transport.taken).split(b"\n\n")
        self.transport.taken = bytearray(rest)
        for event in events:
            fields = dict(line.split(": ", 1) for line in event.decode().split("\n"))
            position = fields.get("id")
            if position is not None and self.since is None:
                # Told of an entry before the first heartbeat: it was there from just before that one.
                epoch, offset = position.split("-")
                self.since = position if fields["event"] != "alert" else f"{epoch}-{int(offset) - 1}"
            self.last = position or self.last
            if fields["event"] == "alert":
                self.told.append(json.loads(fields["data"])["position"])
            elif fields["event"] == "snapshot":
                self.snapshots.append([alert["position"] for alert in json.loads(fields["data"])["alerts"]])


class Hub:
    """The inside of `Live`, without HTTP."""

    def __init__(self, settings: LiveSettings = SETTINGS, **handed_in: Any) -> None:
        self.log: MemoryLog = handed_in.get("log") or MemoryLog()
        self.bus = MemoryBus()
        self.clock = ManualClock()
        self.settings = settings
        self.bodies_made = 0
        self.lines = Lines(settings, self.clock)
        self.audience = Audience(
            handed_in.get("wants", wants), handed_in.get("may_see", nobody), self.log.lineage, self.clock
        )
        bodies = Bodies(handed_in.get("body", self._body), self.clock, settings.body_cache_bytes)
        index = handed_in.get("index", FilterIndex)
        self.fan_out = FanOut(self.log, index, self.audience, bodies, self.lines, settings, self.clock)
        self.resume = Resume(self.log, self.fan_out, self.audience, bodies, self.lines, settings, self.clock)
        self.bus.attach(self.fan_out.hear)

    def _body(self, entry: Entry, format: str, lang: str | None) -> bytes:
        self.bodies_made += 1
        return body(entry, format, lang)

    def publish(self, **about: Any) -> Entry:
        entry = self.log.append(**about)
        self.bus.publish([entry])
        return entry

    def connect(self, receiver: Receiver, wire: Wire = Wire.SSE_PLAIN, lang: str | None = None) -> Connection:
        transport = FakeTransport()
        about = Subscriber(receiver.filter, "json", lang, None, None, None)
        lane = self.fan_out.lane(receiver.filter)
        conn = Connection(cast("asyncio.Transport", transport), wire, about, lane)
        receiver.transport = transport
        receiver.task = asyncio.create_task(self._serve(conn, receiver.last, transport))
        return conn

    async def _serve(self, conn: Connection, after: str | None, transport: FakeTransport) -> None:
        self.lines.add(conn)
        try:
            await self.resume.go_live(conn, after, transport)
            await conn.over
        finally:
            self.fan_out.drop(conn)
            self.lines.drop(conn)

    async def quiet(self) -> None:
        """Run until everything that was published has been offered to whoever can take it."""
        async with asyncio.timeout(10):
            for _ in range(3):
                while not self.fan_out.idle or self.resume.under_way:
                    await asyncio.sleep(0)
                await asyncio.sleep(0)

    def follow(self, filter: Filter, after: str | None = None) -> Follower:
        return Follower(
            self.log,
            self.fan_out,
            self.audience,
            filter,
            after,
            who=None,
            page_entries=self.settings.page_entries,
        )


@asynccontextmanager
async def running(hub: Hub) -> AsyncIterator[Hub]:
    task = asyncio.create_task(hub.fan_out.run())
    try:
        yield hub
    finally:
        tasks = [task, *(t for t in asyncio.all_tasks() if t is not asyncio.current_task())]
        for one in tasks:
            one.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_one_frame_object_is_written_to_every_subscriber_of_a_group() -> None:
    async with running(Hub()) as hub:
        receivers = [Receiver(HERE) for _ in range(20)]
        for receiver in receivers:
            hub.connect(receiver)
        await hub.quiet()
        hub.publish()
        await hub.quiet()
        last = {id(receiver.transport.writes[-1]) for receiver in receivers if receiver.transport}
        assert len(last) == 1
        assert hub.bodies_made == 1


async def test_groups_with_other_filters_and_wires_share_the_encoding() -> None:
    async with running(Hub()) as hub:
        for filter in (HERE, EVERYWHERE, DRILLS_TOO):
            for wire in Wire:
                hub.connect(Receiver(filter), wire)
        hub.connect(Receiver(HERE), lang="en")
        await hub.quiet()
        hub.publish()
        await hub.quiet()
        assert hub.bodies_made == 2, "one for no language, one for English"


async def test_who_hears_no_drills_is_served_before_those_who_do() -> None:
    order: list[str] = []

    async with running(Hub()) as hub:
        receivers = {"drills": Receiver(DRILLS_TOO), "real": Receiver(EVERYWHERE)}
        for name, receiver in receivers.items():
            hub.connect(receiver)
            await hub.quiet()
            assert receiver.transport is not None
            note_writes(receiver.transport, name, order)
        hub.publish()
        await hub.quiet()
        assert order == ["real", "drills"]


def note_writes(transport: FakeTransport, name: str, order: list[str]) -> None:
    write = transport.write

    def noted(data: bytes) -> None:
        order.append(name)
        write(data)

    transport.write = noted  # type: ignore[method-assign]


async def test_an_exercise_backlog_does_not_hold_up_an_actual_alert() -> None:
    hub = Hub(LiveSettings(window_entries=1_000))
    desks = [Receiver(DRILLS_TOO) for _ in range(400)]
    resident = Receiver(EVERYWHERE)
    async with running(hub):
        for receiver in (*desks, resident):
            hub.connect(receiver)
        await hub.quiet()
        order: list[str] = []
        for receiver in (*desks, resident):
            assert receiver.transport is not None
            note_writes(receiver.transport, "resident" if receiver is resident else "desk", order)
        for _ in range(200):
            hub.publish(status=Status.EXERCISE)
        real = hub.publish()
        await hub.quiet()
        assert order.index("resident") < 400 * 200 / 10, "the alert waited for the drills"
        for desk in desks:
            desk.read()
            assert len(desk.told) == 201
            assert desk.told[-1] == real.position, "one connection is always in order of positions"


async def test_an_actual_alert_does_not_wait_for_the_end_of_one_large_drill(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fanout, "SLICE_SECONDS", 0.0)
    hub = Hub()
    desks = [Receiver(DRILLS_TOO) for _ in range(500)]
    resident = Receiver(EVERYWHERE)
    async with running(hub):
        for receiver in (*desks, resident):
            hub.connect(receiver)
        await hub.quiet()
        order: list[str] = []
        for receiver in (*desks, resident):
            assert receiver.transport is not None
            note_writes(receiver.transport, "resident" if receiver is resident else "desk", order)
        hub.publish(status=Status.EXERCISE)
        while not order:
            await asyncio.sleep(0)
        hub.publish()
        await hub.quiet()
        assert order.index("resident") < 100
        assert order.count("desk") == 1_000


async def test_a_long_fan_out_lets_other_work_run_but_does_not_start_the_next_entry() -> None:
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    hub = Hub()
    receivers = [Receiver(EVERYWHERE) for _ in range(6_000)]
    order: list[str] = []
    async with running(hub):
        for receiver in receivers:
            hub.connect(receiver)
        await hub.quiet()
        for receiver in receivers:
            assert receiver.transport is not None
            receiver.transport.write = lambda data: order.append(data[4:7].decode())  # type: ignore[method-assign]
        counter = asyncio.create_task(count_turns())
        hub.publish()
        while not order:
            await asyncio.sleep(0)
        hub.publish()
        await hub.quiet()
        counter.cancel()
        assert order == ["e-1"] * 6_000 + ["e-2"] * 6_000
        assert turns > 3


async def test_who_comes_or_goes_during_a_fan_out_disturbs_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fanout, "SLICE_SECONDS", 0.0)
    async with running(Hub()) as hub:
        receivers = [Receiver(EVERYWHERE) for _ in range(200)]
        conns = [hub.connect(receiver) for receiver in receivers]
        await hub.quiet()
        hub.publish()
        while conns[0].lane.at.position != "e-1":
            await asyncio.sleep(0)
        late, resuming = Receiver(EVERYWHERE), Receiver(EVERYWHERE, since="e-0", last="e-0")
        hub.connect(late)
        hub.connect(resuming)
        hub.lines.detach(conns[199])
        for _ in range(4):
            await asyncio.sleep(0)
        assert not hub.fan_out.idle
        await hub.quiet()
        hub.publish()
        await hub.quiet()
        for receiver in (*receivers, late, resuming):
            receiver.read()
        assert hub.fan_out.failures == 0
        assert {tuple(receiver.told) for receiver in receivers[:199]} == {("e-1", "e-2")}
        assert [receivers[199].told, late.told, resuming.told] == [[], ["e-2"], ["e-1", "e-2"]]


def writes(receiver: Receiver) -> list[list[str]]:
    """Return the positions of the alerts in each write to a receiver."""
    assert receiver.transport is not None
    found = [
        re.findall(rb'"position":"(e-\d+)"', write)
        for write in receiver.transport.writes
        if b"alert" in write
    ]
    return [[each.decode() for each in positions] for positions in found]


async def test_what_waits_is_told_in_one_write_to_each_of_what_it_wants_and_in_order() -> None:
    async with running(Hub()) as hub:
        everything, here = Receiver(EVERYWHERE), Receiver(parse_filter([("area", CITY)]))
        for receiver in (everything, here):
            hub.connect(receiver)
        await hub.quiet()
        for area in (CITY, ELSEWHERE, CITY, ELSEWHERE):
            hub.publish(area=area)
        await hub.quiet()
        assert writes(everything) == [["e-1", "e-2", "e-3", "e-4"]]
        assert writes(here) == [["e-1", "e-3"]]
        assert hub.fan_out.entries == 4
        assert hub.lines.frames == 2 + 4 + 2, "each event counts, and the heartbeat at first"
        for receiver in (everything, here):
            receiver.read()
        assert (everything.last, here.last) == ("e-4", "e-3")


async def test_what_is_told_together_is_bounded_in_entries_in_bytes_and_in_the_time_to_make_it_ready(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with running(Hub(replace(SETTINGS, window_entries=100))) as hub:
        receiver = Receiver(EVERYWHERE)
        hub.connect(receiver)
        await hub.quiet()
        for _ in range(10):
            hub.publish()
        await hub.quiet()
        for _ in range(3):
            hub.publish(padding=fanout.TOGETHER_BYTES // 2 - 100)
        await hub.quiet()
        monkeypatch.setattr(fanout, "PLAN_SECONDS", 1e-9)
        for _ in range(2):
            hub.publish()
        await hub.quiet()
        assert [len(write) for write in writes(receiver)] == [fanout.MOST_TOGETHER, 2, 2, 1, 1, 1]


async def test_an_update_that_waits_for_the_store_holds_up_nothing_that_came_before_it() -> None:
    async with running(Hub()) as hub:
        receiver = Receiver(EVERYWHERE)
        hub.connect(receiver)
        await hub.quiet()
        first = hub.publish()
        await hub.quiet()
        hub.log.broken = True
        hub.publish()
        hub.publish(refers_to=first)
        for _ in range(50):
            await asyncio.sleep(0)
        receiver.read()
        assert receiver.told == ["e-1", "e-2"]
        hub.log.broken = False
        await hub.quiet()
        receiver.read()
        assert receiver.told == ["e-1", "e-2", "e-3"]


async def test_who_overflowed_is_offered_nothing_more_even_when_there_is_room_again() -> None:
    async with running(Hub()) as hub:
        slow = Receiver(EVERYWHERE)
        conn = hub.connect(slow)
        await hub.quiet()
        assert slow.transport is not None
        slow.transport.stall()
        for _ in range(40):
            hub.publish(padding=100)
            await hub.quiet()
        assert not conn.open
        slow.transport.flow()
        slow.read()
        first = len(slow.told)
        hub.publish()
        await hub.quiet()
        slow.read()
        assert slow.told == [f"e-{n}" for n in range(1, first + 1)], "a prefix, without a hole"
        assert len(slow.told) == first < 40
        assert hub.lines.cut_offs == {"too-slow": 1}
        hub.connect(slow)
        await hub.quiet()
        slow.read()
        assert slow.told == [f"e-{n}" for n in range(1, 42)]


@pytest.mark.parametrize("buffer_bytes", [1_000, 100_000, 10_000_000])
async def test_who_catches_up_drains_well_before_it_counts_as_too_slow(buffer_bytes: int) -> None:
    async with running(Hub(replace(SETTINGS, buffer_bytes=buffer_bytes))) as hub:
        receiver = Receiver(EVERYWHERE)
        hub.connect(receiver)
        await hub.quiet()
        assert receiver.transport is not None
        assert 0 < receiver.transport.high <= buffer_bytes / 2


async def test_an_alert_larger_than_the_bound_still_goes_to_who_has_taken_all_before_it() -> None:
    async with running(Hub()) as hub:
        receiver = Receiver(EVERYWHERE)
        hub.connect(receiver)
        await hub.quiet()
        hub.publish(padding=3 * SETTINGS.buffer_bytes)
        hub.publish()
        await hub.quiet()
        receiver.read()
        assert receiver.told == ["e-1", "e-2"]


async def test_who_takes_nothing_for_the_allowed_time_is_reset() -> None:
    async with running(Hub()) as hub:
        stalled, slow = Receiver(EVERYWHERE), Receiver(EVERYWHERE)
        for receiver in (stalled, slow):
            hub.connect(receiver)
            await hub.quiet()
            assert receiver.transport is not None
            receiver.transport.stall()
        hub.publish()
        await hub.quiet()
        for _ in range(3):
            hub.clock.seconds += 4.0
            assert slow.transport is not None
            slow.transport._waiting = slow.transport._waiting[1:]  # takes one byte every four seconds
            hub.lines.tick()
        assert stalled.transport is not None
        assert slow.transport is not None
        assert stalled.transport.aborted
        assert not slow.transport.aborted
        assert hub.lines.cut_offs == {"stalled": 1}


async def test_a_body_that_cannot_be_made_becomes_a_gap_that_names_the_alert() -> None:
    def unwritable(entry: Entry, format: str, lang: str | None) -> bytes:
        if entry.position == "e-1":
            raise RuntimeError("a template is broken")
        return body(entry, format, lang)

    async with running(Hub(body=unwritable)) as hub:
        receiver = Receiver(EVERYWHERE)
        hub.connect(receiver)
        await hub.quiet()
        hub.publish()
        hub.publish()
        await hub.quiet()
        assert receiver.transport is not None
        assert b'event: gap\ndata: {"reason":"unreadable","requested":"e-1"' in receiver.transport.taken
        receiver.read()
        assert receiver.told == ["e-2"]


async def test_an_entry_that_cannot_be_matched_goes_to_all_who_may_hear_of_its_status() -> None:
    class Broken(FilterIndex):
        def match(self, entry: Entry, lineage: object = ()) -> Numbers:
            raise RuntimeError("no geometry")

    async with running(Hub(index=Broken)) as hub:
        receivers = [
            Receiver(EVERYWHERE),
            Receiver(parse_filter([("area", ELSEWHERE)])),
            Receiver(DRILLS_TOO),
        ]
        for receiver in receivers:
            hub.connect(receiver)
        await hub.quiet()
        hub.publish(status=Status.EXERCISE)
        hub.publish()
        await hub.quiet()
        for receiver in receivers:
            receiver.read()
        assert [receiver.told for receiver in receivers] == [["e-2"], ["e-2"], ["e-1", "e-2"]]


async def test_after_a_failure_of_the_fan_out_everybody_resumes_from_before_the_entry_under_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with running(Hub()) as hub:
        receivers = [Receiver(EVERYWHERE) for _ in range(40)]
        for receiver in receivers:
            hub.connect(receiver)
        await hub.quiet()
        breathe = hub.fan_out._breathe
        failures = iter([RuntimeError("a defect")])

        async def failing() -> None:
            for failure in failures:
                raise failure
            await breathe()

        monkeypatch.setattr(hub.fan_out, "_breathe", failing)
        monkeypatch.setattr("lalert.live.fanout.SLICE_SECONDS", 0.0)
        hub.publish()
        hub.publish()
        await hub.quiet()
        assert hub.fan_out.failures == 1
        for receiver in receivers:
            receiver.read()
            hub.connect(receiver)
        await hub.quiet()
        for receiver in receivers:
            receiver.read()
        assert {tuple(receiver.told) for receiver in receivers} <= {("e-1", "e-2"), ("e-1", "e-1", "e-2")}


async def test_after_a_failure_over_an_end_nobody_goes_on_behind_half_an_event(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with running(Hub()) as hub:
        conn = hub.connect(Receiver(HERE))
        await hub.quiet()
        told = hub.publish()
        await hub.quiet()

        def fail(*_: object) -> bool:
            raise RuntimeError("a defect")

        with monkeypatch.context() as patch:
            patch.setattr(hub.lines, "write", fail)
            hub.fan_out.end([told.position], hub.clock.now())
            async with asyncio.timeout(10):
                while not hub.fan_out.failures:
                    await asyncio.sleep(0)
        assert not conn.open
        assert hub.lines.cut_offs["resync"] == 1


async def test_an_update_waits_for_a_store_that_does_not_answer_rather_than_miss_those_told_before() -> None:
    async with running(Hub()) as hub:
        receiver = Receiver(HERE)
        hub.connect(receiver)
        await hub.quiet()
        first = hub.publish()
        await hub.quiet()
        hub.log.broken = True
        hub.publish(area=ELSEWHERE, msg_type=MsgType.UPDATE, refers_to=first)
        for _ in range(50):
            await asyncio.sleep(0)
        assert not hub.fan_out.idle
        hub.log.broken = False
        await hub.quiet()
        receiver.read()
        assert receiver.told == ["e-1", "e-2"]


async def test_a_burst_larger_than_the_window_is_read_from_the_store_by_the_fan_out_itself() -> None:
    async with running(Hub()) as hub:
        receiver = Receiver(EVERYWHERE)
        hub.connect(receiver)
        await hub.quiet()
        for _ in range(50):
            hub.publish()
        assert len(hub.fan_out.window) == SETTINGS.window_entries
        await hub.quiet()
        receiver.read()
        assert receiver.told == [f"e-{n}" for n in range(1, 51)]


async def test_a_fan_out_whose_place_was_trimmed_sends_everybody_to_resume_with_a_gap() -> None:
    async with running(Hub()) as hub:
        receiver = Receiver(EVERYWHERE)
        hub.connect(receiver)
        await hub.quiet()
        receiver.read()
        for _ in range(50):
            hub.publish()
        hub.log.oldest = 30
        await hub.quiet()
        assert hub.lines.cut_offs == {"resync": 1}
        hub.connect(receiver)
        await hub.quiet()
        receiver.read()
        assert receiver.snapshots == [[f"e-{n}" for n in range(31, 51)]]


async def test_a_resume_over_more_than_the_limit_is_answered_by_a_snapshot() -> None:
    async with running(Hub(replace(SETTINGS, replay_limit=10))) as hub:
        for _ in range(40):
            hub.publish()
        await hub.quiet()
        near, far = Receiver(EVERYWHERE, last="e-32"), Receiver(EVERYWHERE, last="e-2")
        for receiver in (near, far):
            hub.connect(receiver)
        await hub.quiet()
        for receiver in (near, far):
            receiver.read()
        assert near.told == [f"e-{n}" for n in range(33, 41)]
        assert far.snapshots == [[f"e-{n}" for n in range(1, 41)]]
        hub.publish()
        await hub.quiet()
        far.read()
        assert far.told[-1] == "e-41"


async def test_who_has_seen_more_than_was_fanned_out_here_hears_nothing_twice() -> None:
    hub = Hub()
    for _ in range(3):
        hub.publish()
    receiver = Receiver(EVERYWHERE, last="e-2")
    hub.connect(receiver)
    for _ in range(10):
        await asyncio.sleep(0)
    async with running(hub):
        await hub.quiet()
        receiver.read()
        assert receiver.told == ["e-3"]


async def test_who_catches_up_stands_back_while_real_alerts_wait_to_be_told() -> None:
    hub = Hub()
    for _ in range(20):
        hub.log.append()
    hub = Hub(log=hub.log)
    receiver = Receiver(DRILLS_TOO, last="e-0")
    hub.connect(receiver)
    hub.publish()
    while not receiver.transport or not receiver.transport.taken:
        await asyncio.sleep(0)
    assert set(hub.clock.slept) == {resume.PRESSED_SECONDS}
    async with running(hub):
        await hub.quiet()
        receiver.read()
        assert receiver.told == [f"e-{n}" for n in range(1, 22)]
        hub.clock.slept.clear()
        hub.connect(Receiver(EVERYWHERE, last="e-0"))
        await hub.quiet()
        assert set(hub.clock.slept) == {0}


@pytest.mark.parametrize("turns", range(12))
async def test_an_alert_that_comes_while_a_snapshot_is_taken_is_told_once(turns: int) -> None:
    async with running(Hub()) as hub:
        hub.log.pauses = 4
        hub.publish()
        await hub.quiet()
        receiver = Receiver(EVERYWHERE, last="other-1")
        hub.connect(receiver)
        for _ in range(turns):
            await asyncio.sleep(0)
        hub.publish()
        await hub.quiet()
        receiver.read()
        assert len(receiver.snapshots) == 1
        assert sorted(receiver.snapshots[0] + receiver.told) == ["e-1", "e-2"]


@pytest.mark.parametrize("turns", range(12))
async def test_positions_that_are_missing_hide_nothing_that_comes_meanwhile(turns: int) -> None:
    log = MemoryLog()
    for _ in range(5):
        log.append()
    log.missing = {"e-4", "e-5"}
    log.pauses = 4
    async with running(Hub(log=log)) as hub:
        receiver = Receiver(EVERYWHERE, last="e-3")
        hub.connect(receiver)
        for _ in range(turns):
            await asyncio.sleep(0)
        hub.publish()
        await hub.quiet()
        receiver.read()
        assert receiver.told == ["e-6"]


async def test_one_snapshot_of_the_store_serves_everybody_who_needs_it_at_once() -> None:
    async with running(Hub()) as hub:
        hub.publish()
        active = hub.log.active
        looks = 0

        async def counted(now: datetime) -> list[Entry]:
            nonlocal looks
            looks += 1
            return await active(now)

        hub.log.active = counted  # type: ignore[method-assign]
        for _ in range(30):
            hub.connect(Receiver(EVERYWHERE, last="other-1"))
        await hub.quiet()
        assert looks == 1


async def test_a_follower_hears_what_its_filter_wants_without_a_gap_across_history_and_live() -> None:
    async with running(Hub()) as hub:
        for n in range(20):
            hub.publish(area=CITY if n % 2 else ELSEWHERE)
        heard: list[str] = []
        async with hub.follow(HERE, "e-3") as entries:
            async for entry in entries:
                heard.append(entry.position)
                if len(heard) < 12:
                    hub.publish(area=CITY if len(heard) % 2 else ELSEWHERE)
                if entry.position == "e-31":
                    break
        assert heard == [entry.position for entry in hub.log.entries[3:31] if CITY in entry.facts.codes]


async def test_a_follower_that_falls_more_than_a_window_behind_is_told_and_resumes_by_position() -> None:
    async with running(Hub()) as hub:
        async with hub.follow(EVERYWHERE) as entries:
            hub.publish()
            assert (await anext(entries)).position == "e-1"
            for _ in range(SETTINGS.window_entries + 1):
                hub.publish()
            with pytest.raises(Unavailable, match="behind"):
                await anext(entries)
        async with hub.follow(EVERYWHERE, "e-1") as entries:
            assert [(await anext(entries)).position for _ in range(5)] == [f"e-{n}" for n in range(2, 7)]


async def test_a_follower_that_is_cancelled_while_it_decides_loses_nothing() -> None:
    hub = Hub()
    hub.log.pauses = 5
    first = hub.publish()
    async with hub.follow(HERE, first.position) as entries:
        hub.publish(area=ELSEWHERE, msg_type=MsgType.UPDATE, refers_to=first)
        reading = asyncio.ensure_future(anext(entries))
        for _ in range(3):
            await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        async with asyncio.timeout(5):
            assert (await anext(entries)).position == "e-2"


async def test_followers_are_told_when_the_hub_stops_so_that_silence_is_not_taken_for_calm() -> None:
    async with running(Hub()) as hub, hub.follow(EVERYWHERE) as entries:
        reading = asyncio.ensure_future(anext(entries))
        await asyncio.sleep(0)
        hub.fan_out.stop()
        with pytest.raises(Unavailable, match="stopping"):
            await reading


ACTION = st.one_of(
    st.tuples(st.just("publish"), st.integers(0, 5)),
    st.tuples(st.just("burst"), st.integers(2, 12)),
    st.tuples(st.sampled_from(["connect", "drop", "stall", "flow"]), st.integers(0, 4)),
    st.tuples(st.just("spin"), st.integers(1, 8)),
    st.tuples(st.just("wait"), st.integers(1, 6)),
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(ACTION, max_size=60), st.integers(0, 3))
def test_whatever_the_schedule_nothing_is_lost_nothing_comes_twice_and_all_is_in_order(
    actions: list[tuple[str, int]], pauses: int
) -> None:
    asyncio.run(play(actions, pauses))


@pytest.mark.slow
@pytest.mark.timeout(1_800)
@settings(max_examples=10_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(ACTION, max_size=60), st.integers(0, 3))
def test_ten_thousand_schedules(actions: list[tuple[str, int]], pauses: int) -> None:
    asyncio.run(play(actions, pauses))


async def play(actions: list[tuple[str, int]], pauses: int) -> None:
    """Play a schedule, then let everybody come back and catch up, and compare with what the log says each should have heard."""
    hub = Hub()
    hub.log.pauses = pauses
    with pytest.MonkeyPatch.context() as patch:
        # A turn for others after every single write: each place where the loop may be given up, is.
        patch.setattr(fanout, "LOOK_EVERY", 1)
        patch.setattr(fanout, "SLICE_SECONDS", 0.0)
        patch.setattr(resume, "SLICE_SECONDS", 0.0)
        await perform(hub, actions)


async def perform(hub: Hub, actions: list[tuple[str, int]]) -> None:
    receivers = [
        Receiver(filter)
        for filter in (HERE, HERE, EVERYWHERE, DRILLS_TOO, parse_filter([("area", ELSEWHERE)]))
    ]
    steps = Schedule(hub, receivers).steps()
    async with running(hub):
        for action, number in actions:
            await steps[action](number)
        # All at once: `quiet` waits for whoever catches up, and one that is stalled would be waited for in vain.
        for receiver in receivers:
            if receiver.transport is not None:
                receiver.transport.flow()
        for receiver in receivers:
            await come_back(hub, receiver)
        hub.publish()
        await hub.quiet()
        for receiver in receivers:
            receiver.read()
            await check(hub, receiver)
        assert hub.fan_out.failures == 0, "it starts again after a failure, which would hide one"


async def come_back(hub: Hub, receiver: Receiver) -> None:
    """Take everything that is on its way and connect again if need be, as often as it takes."""
    for _ in range(20):
        if receiver.transport is not None:
            receiver.transport.flow()
            await hub.quiet()
            receiver.read()
            if receiver.task is not None and not receiver.task.done():
                return
        hub.connect(receiver)
        await hub.quiet()
    raise AssertionError("a receiver that takes everything must get through")


async def check(hub: Hub, receiver: Receiver) -> None:
    assert receiver.since is not None
    start = hub.log.order(receiver.since)[0]
    expected = []
    for entry in hub.log.entries[start:]:
        lineage = await hub.log.lineage(entry) if entry.alert.references else []
        if wants(receiver.filter, entry, lineage):
            expected.append(entry.position)
    assert receiver.told == expected


class Schedule:
    """What can happen. Numbers choose among areas, statuses, references and receivers."""

    def __init__(self, hub: Hub, receivers: list[Receiver]) -> None:
        self._hub = hub
        self._receivers = receivers

    def steps(self) -> dict[str, Callable[[int], Coroutine[Any, Any, None]]]:
        return {
            "publish": self._publish,
            "burst": self._burst,
            "connect": self._connect,
            "drop": self._drop,
            "stall": self._stall,
            "flow": self._flow,
            "spin": self._spin,
            "wait": self._wait,
        }

    async def _publish(self, choice: int) -> None:
        earlier = self._hub.log.entries[len(self._hub.log.entries) // 2] if self._hub.log.entries else None
        area = ELSEWHERE if choice in (1, 3, 4) else CITY
        status = Status.EXERCISE if choice in (2, 3) else Status.ACTUAL
        if choice >= 4 and earlier is not None:
            self._hub.publish(area=area, status=status, msg_type=MsgType.UPDATE, refers_to=earlier)
        else:
            self._hub.publish(area=area, status=status, padding=50)

    async def _burst(self, number: int) -> None:
        for n in range(number):
            await self._publish(n % 6)

    async def _connect(self, who: int) -> None:
        receiver = self._receivers[who]
        if receiver.task is None or receiver.task.done():
            self._hub.connect(receiver)

    async def _drop(self, who: int) -> None:
        receiver = self._receivers[who]
        if receiver.task is not None and not receiver.task.done():
            assert receiver.transport is not None
            receiver.read()
            receiver.transport.end()
            receiver.task.cancel()
            await asyncio.gather(receiver.task, return_exceptions=True)

    async def _stall(self, who: int) -> None:
        if (transport := self._receivers[who].transport) is not None:
            transport.stall()

    async def _flow(self, who: int) -> None:
        if (transport := self._receivers[who].transport) is not None:
            transport.flow()
            self._receivers[who].read()

    async def _spin(self, turns: int) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)

    async def _wait(self, seconds: int) -> None:
        self._hub.clock.seconds += seconds
        self._hub.lines.tick()
        self._hub.fan_out.tick()
        for receiver in self._receivers:
            if receiver.transport is not None:
                receiver.read()
