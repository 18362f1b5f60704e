"""The sensor engine on a real store and through the real door: after a crash nothing is said twice, and nothing silences a gauge."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import cast

import pytest

from lalert import cap, intake, matching
from lalert.app import load_gazetteer
from lalert.bus.local import LocalBus
from lalert.clock import Clock
from lalert.errors import Fenced, StoreError, Unavailable
from lalert.geo import Gazetteer, normalise_code
from lalert.hub import Follower, Hub
from lalert.model import Alert, Entry, Facts, Lease, MsgType, OriginKind, Reading, Status
from lalert.sensors import Engine, Roster, Stage, Station
from lalert.sensors.engine import READINGS, SensorLog, Submit
from lalert.sensors.rules import Decision
from lalert.sensors.settings import Quality, RainLevel, Rules, Window
from lalert.sensors.upkeep import Datum, Maintenance
from lalert.store import KeptStation
from lalert.store.sqlite import SqliteStore
from lalert.tenancy import Administration, Caller, KeyRing
from lalert.testing.clock import FakeClock
from tests.signing_kit import Signs

ORG = "hitoyoshi"
LEASE = Lease("stations/0", "", 1)
START = datetime(2026, 6, 3, 1, 0, tzinfo=UTC)
GAUGE = Station(
    id="hitoyoshi",
    name="人吉",
    org=ORG,
    sender="gauge@hitoyoshi.example",
    codes=("432032",),
    lon=130.762,
    lat=32.214,
    river="球磨川",
    levels={Stage.CAUTION: 3.0, Stage.EVACUATION: 3.2, Stage.DANGER: 3.4},
)


@cache
def gazetteer() -> Gazetteer:
    return load_gazetteer(Path("nowhere"))


def revive(raw: bytes, jurisdiction: frozenset[str]) -> tuple[Alert, Facts]:
    alert = cap.parse(raw)
    return alert, matching.facts_of(alert, gazetteer(), jurisdiction)


class Crash(BaseException):
    """Ends a task as `kill -9` would: nobody catches it and nothing is tidied up."""


class CrashBeforeSaving:
    """A store on which the node dies between the submission of a warning and the saving of what the rules know."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self.append_readings = store.append_readings
        self.readings = store.readings
        self.readings_after = store.readings_after
        self.rule_states = store.rule_states
        self.judged = store.judged

    async def save_rule_states(
        self, states: Mapping[str, bytes], judged: int, fence: Lease | None = None
    ) -> None:
        raise Crash


@dataclass
class Life:
    """One life of a node, as far as sensors need it."""

    store: SqliteStore
    engine: Engine
    clock: FakeClock
    submit: Submit

    async def river(self, *readings: tuple[float, float]) -> None:
        """Take (minutes after the start, metres) one by one, each judged before the next comes."""
        for minutes, level in readings:
            self.clock.step(START + timedelta(minutes=minutes))
            taken = await self.engine.observe(
                ORG, [Reading(GAUGE.id, START + timedelta(minutes=minutes), level_m=level)]
            )
            assert taken.accepted == 1
            await self.judge()

    async def judge(self) -> None:
        """Run the rules until everything kept is judged."""
        task = asyncio.create_task(self.engine.run(LEASE))
        try:
            async with asyncio.timeout(10):
                while not task.done() and await self.store.readings_after(await self.store.judged(), 1):
                    await asyncio.sleep(0.005)
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def said(self) -> list[Entry]:
        return await self.store.read(None, 100)


def roster(store: SqliteStore, *stations: Station) -> Roster:
    def decode(document: bytes) -> Station:
        return replace(GAUGE, id="kept", name=document.decode())

    return Roster(store, stations or [GAUGE], decode, LocalBus())


@asynccontextmanager
async def life(
    folder: Path,
    *stations: Station,
    policy: intake.Policy | None = None,
    senders: Sequence[str] = ("*@hitoyoshi.example",),
    log: Callable[[SqliteStore], SensorLog] = lambda store: store,
) -> AsyncIterator[Life]:
    clock = FakeClock(START)
    async with SqliteStore(
        folder / "lalert.db", revive=revive, on_append=lambda _entries: None, clock=clock
    ) as store:
        keyring = KeyRing(store, clock)
        if not await store.tenants():
            await Administration(store, normalise_code, clock).create_org(ORG, ["432032"], senders)
        await keyring.refresh()
        hub = Hub(
            store=store,
            live=cast("Follower", None),
            keyring=keyring,
            gazetteer=gazetteer(),
            policy=policy or intake.Policy(),
            clock=cast("Clock", clock),
            signing=Signs(),
            base_url=lambda: "",
        )

        async def submit(raw: bytes, station: Station) -> object:
            return await hub.issue(raw, Caller(keyring.tenant(station.org)), OriginKind.SENSOR, station.id)

        yield Life(
            store, Engine(log(store), roster(store, *stations), submit, clock, LocalBus()), clock, submit
        )


def kinds(entries: Sequence[Entry]) -> list[MsgType]:
    return [entry.alert.msg_type for entry in entries]


async def test_a_crash_between_submitting_and_saving_says_nothing_twice(tmp_path: Path) -> None:
    async with life(tmp_path, log=CrashBeforeSaving) as first:
        with pytest.raises(Crash):
            await first.river((0, 3.1))
        assert len(await first.said()) == 1
    async with life(tmp_path) as second:
        await second.judge()
        assert len(await second.said()) == 1
        await second.river((10, 2.0))
        assert kinds(await second.said()) == [MsgType.ALERT, MsgType.CANCEL]


async def test_a_crash_between_keeping_and_judging_forgets_nothing(tmp_path: Path) -> None:
    async with life(tmp_path) as first:
        await first.engine.observe(ORG, [Reading(GAUGE.id, START, level_m=3.1)])
    async with life(tmp_path) as second:
        await second.judge()
        assert kinds(await second.said()) == [MsgType.ALERT]


async def test_a_warning_said_before_a_crash_in_other_words_is_still_lifted(tmp_path: Path) -> None:
    async with life(tmp_path, log=CrashBeforeSaving) as first:
        with pytest.raises(Crash):
            await first.river((0, 3.1))
    async with life(tmp_path, replace(GAUGE, name="人吉大橋")) as second:
        await second.judge()
        await second.river((10, 2.0))
        assert kinds(await second.said()) == [MsgType.ALERT, MsgType.CANCEL]


async def test_a_trial_that_ended_in_high_water_does_not_silence_the_gauge(tmp_path: Path) -> None:
    async with life(tmp_path, replace(GAUGE, status=Status.EXERCISE)) as trial:
        await trial.river((0, 3.1))
    async with life(tmp_path) as real:
        await real.river((10, 3.3), (20, 3.5), (30, 2.0))
        said = [(entry.alert.status, entry.alert.msg_type) for entry in await real.said()]
    assert said == [
        (Status.EXERCISE, MsgType.ALERT),
        (Status.ACTUAL, MsgType.ALERT),
        (Status.ACTUAL, MsgType.UPDATE),
        (Status.ACTUAL, MsgType.CANCEL),
    ]


async def test_heavy_rain_is_warned_of_and_lifted_through_the_same_door(tmp_path: Path) -> None:
    rules = Rules(rain=(RainLevel(Window.HOUR, 30.0),))
    async with life(tmp_path, replace(GAUGE, rule=rules)) as node:
        for minutes, mm in ((10, 20.0), (20, 15.0), (90, 0.0), (100, 0.0)):
            node.clock.step(START + timedelta(minutes=minutes))
            reading = Reading(GAUGE.id, START + timedelta(minutes=minutes), rain_mm=mm, period_s=600)
            await node.engine.observe(ORG, [reading])
            await node.judge()
        said = await node.said()
    assert kinds(said) == [MsgType.ALERT, MsgType.CANCEL]
    assert said[0].alert.infos[0].headline == "人吉 1時間の雨量35mm"
    assert cap.kind(said[0].alert) == "rain"
    assert [reference.id for reference in said[1].alert.references] == [said[0].alert.id]


async def test_what_was_refused_is_said_with_the_next_reading_once_the_cause_is_mended(
    tmp_path: Path,
) -> None:
    async with life(tmp_path, replace(GAUGE, sender="gauge@elsewhere.example")) as wrong:
        await wrong.river((0, 3.5), (10, 3.5))
        assert await wrong.said() == []
    async with life(tmp_path) as mended:
        await mended.river((20, 3.5), (30, 3.5))
        assert kinds(await mended.said()) == [MsgType.ALERT]


@pytest.mark.parametrize(
    "time",
    [
        datetime.fromisoformat("0001-01-01T00:00:00+23:59"),
        datetime.fromisoformat("9999-12-31T23:59:59-12:00"),
        datetime.fromisoformat("1969-12-31T23:59:59+00:00"),
        datetime.fromisoformat("2026-06-03T10:00:00"),
    ],
)
async def test_a_time_that_cannot_be_kept_is_rejected_and_stops_no_rule(
    tmp_path: Path, time: datetime
) -> None:
    async with life(tmp_path) as node:
        taken = await node.engine.observe(ORG, [Reading(GAUGE.id, time, level_m=3.1)])
        assert taken.rejected == ((0, "bad-time"),)
        await node.river((0, 3.1))
        assert kinds(await node.said()) == [MsgType.ALERT]


async def test_a_station_that_cannot_be_judged_silences_no_other(tmp_path: Path) -> None:
    # Kept by a version that did not bound it: the sum of two times lies outside the calendar.
    odd = replace(GAUGE, id="odd", quality=Quality(stale_h=1e12))
    async with life(tmp_path, odd, GAUGE) as node:
        await node.engine.observe(ORG, [Reading("odd", START, level_m=3.1)])
        await node.river((0, 3.1))
        assert [entry.alert.source for entry in await node.said()] == ["lalert station hitoyoshi"]


async def test_a_proposal_that_could_not_be_made_is_made_by_the_next_reading(tmp_path: Path) -> None:
    made: list[Stage] = []

    async def propose(_station: Station, decision: Decision) -> None:
        made.append(decision.stage)
        if len(made) == 1:
            raise StoreError("the disk is full")

    async with life(tmp_path) as node:
        stations = roster(node.store, replace(GAUGE, rule=Rules(propose_from=4)))
        node.engine = Engine(node.store, stations, node.submit, node.clock, LocalBus(), propose)
        await node.river((0, 3.5), (10, 3.5), (20, 3.5))
        assert made == [Stage.DANGER, Stage.DANGER]
        assert kinds(await node.said()) == [MsgType.ALERT]


async def test_readings_given_to_any_node_are_judged_by_the_one_that_may_and_every_node_tells_the_stage(
    tmp_path: Path,
) -> None:
    async with life(tmp_path) as node:
        bus = LocalBus()
        judge, other = (
            Engine(node.store, roster(node.store), node.submit, node.clock, bus) for _ in range(2)
        )
        judging = asyncio.create_task(judge.run(LEASE))
        [before] = await other.stations()
        assert before["stage"] == "no-data"
        async with asyncio.timeout(10):
            await until_judged(node.store)
            await other.observe(ORG, [Reading(GAUGE.id, START, level_m=3.1)])
            # By the hint: without it the judge would look only two seconds later.
            async with asyncio.timeout(1.5):
                await until_judged(node.store)
        assert [told["stage"] for told in await judge.stations()] == ["caution"]
        assert (await other.stations())[0]["stage"] == "no-data"
        node.clock.move(1.0)
        assert (await other.stations())[0] == (await judge.stations())[0]
        judging.cancel()
        await asyncio.wait([judging])
        # The other takes over where it stopped, and says nothing again.
        judging = asyncio.create_task(other.run(LEASE))
        await other.observe(ORG, [Reading(GAUGE.id, START + timedelta(minutes=1), level_m=3.1)])
        await until_judged(node.store)
        judging.cancel()
        await asyncio.wait([judging])
        assert kinds(await node.said()) == [MsgType.ALERT]


async def test_a_node_that_begins_to_judge_while_it_reads_for_others_judges_by_what_it_knows(
    tmp_path: Path,
) -> None:
    go_on, asked = asyncio.Event(), asyncio.Event()

    class Slow(CrashBeforeSaving):
        def __init__(self, store: SqliteStore) -> None:
            super().__init__(store)
            self.save_rule_states = store.save_rule_states  # type: ignore[method-assign]

    async with life(tmp_path) as node:
        slow = Slow(node.store)
        engine = Engine(slow, roster(node.store), node.submit, node.clock, LocalBus())

        async def read_late() -> dict[str, bytes]:
            states = await node.store.rule_states()
            asked.set()
            await go_on.wait()
            return states

        slow.rule_states = read_late
        showing = asyncio.create_task(engine.stations())
        await asked.wait()
        slow.rule_states = node.store.rule_states
        judging = asyncio.create_task(engine.run(LEASE))
        for minutes in range(2):
            await engine.observe(ORG, [Reading(GAUGE.id, START + timedelta(minutes=minutes), level_m=3.1)])
            await until_judged(node.store)
            go_on.set()
            await showing
        assert [told["stage"] for told in await engine.stations()] == ["caution"]
        assert kinds(await node.said()) == [MsgType.ALERT]
        judging.cancel()
        await asyncio.wait([judging])
        # While the store cannot be asked, what was known last is shown.
        node.clock.move(1.0)
        assert [told["stage"] for told in await engine.stations()] == ["caution"]

        async def away() -> dict[str, bytes]:
            raise Unavailable("away")

        slow.rule_states = away
        node.clock.move(1.0)
        assert [told["stage"] for told in await engine.stations()] == ["caution"]


async def test_a_flood_of_readings_is_a_trickle_of_hints_and_the_last_one_is_judged_soon(
    tmp_path: Path,
) -> None:
    async with life(tmp_path) as node:
        bus = LocalBus()
        hints: list[str] = []
        bus.attend(lambda kind, _: hints.append(kind))
        judge, other = (
            Engine(node.store, roster(node.store), node.submit, node.clock, bus) for _ in range(2)
        )
        judging = asyncio.create_task(judge.run(LEASE))
        for minutes in range(30):
            time = START + timedelta(minutes=minutes)
            await other.observe(ORG, [Reading(GAUGE.id, time, level_m=3.1)])
        async with asyncio.timeout(1.5):
            await until_judged(node.store)
        assert hints == [READINGS]
        await judge.observe(ORG, [Reading(GAUGE.id, START + timedelta(hours=1), level_m=3.1)])
        await until_judged(node.store)
        assert hints == [READINGS]  # it need not tell itself
        judging.cancel()
        await asyncio.wait([judging])


async def until_judged(store: SqliteStore) -> None:
    while await store.readings_after(await store.judged(), 1):
        await asyncio.sleep(0.005)


async def test_a_node_whose_lease_is_another_s_by_now_stops_judging_and_tells_what_the_other_has_kept(
    tmp_path: Path,
) -> None:
    class Taken(CrashBeforeSaving):
        async def save_rule_states(
            self, states: Mapping[str, bytes], judged: int, fence: Lease | None = None
        ) -> None:
            assert fence == LEASE
            raise Fenced([fence.name])

    async with life(tmp_path) as node:
        frozen = Engine(Taken(node.store), roster(node.store), node.submit, node.clock, LocalBus())
        await node.engine.observe(ORG, [Reading(GAUGE.id, START, level_m=3.1)])
        with pytest.raises(Fenced):
            await frozen.run(LEASE)
        assert [told["stage"] for told in await frozen.stations()] == ["no-data"]
        await node.judge()
        node.clock.move(1.0)
        assert [told["stage"] for told in await frozen.stations()] == ["caution"]
        # What the frozen one had said was the same document.
        assert kinds(await node.said()) == [MsgType.ALERT]


async def test_a_station_that_was_just_set_up_at_another_node_is_heard_and_judged(tmp_path: Path) -> None:
    async with life(tmp_path) as node:
        await node.store.save_stations([KeptStation("kept", ORG, "新しい橋".encode())])
        reading = Reading("kept", START, level_m=3.1)
        assert (await node.engine.observe(ORG, [reading])).accepted == 1
        await node.judge()
        [entry] = await node.said()
        assert "新しい橋" in (entry.alert.infos[0].headline or "")
        await node.store.forget_station("kept", ORG)
        await node.engine.observe(ORG, [Reading("nobody", START, level_m=3.1)])
        again = await node.engine.observe(ORG, [replace(reading, time=START + timedelta(minutes=1))])
        assert again.rejected == ((0, "unknown-station"),)
        assert await node.engine.station("kept") is None


async def test_in_maintenance_readings_are_kept_and_judged_by_nobody(tmp_path: Path) -> None:
    work = Maintenance(START, START + timedelta(minutes=30))
    async with life(tmp_path, replace(GAUGE, maintenance=work)) as node:
        await node.river((0, 3.5), (10, 3.5))
        assert await node.said() == []
        assert len(await node.engine.history(GAUGE.id, 10)) == 2
        # It was measured while they worked, and comes when they are gone.
        node.clock.step(START + timedelta(minutes=40))
        await node.engine.observe(ORG, [Reading(GAUGE.id, START + timedelta(minutes=29), level_m=3.5)])
        await node.judge()
        assert await node.said() == []
        await node.river((41, 3.1))
        assert kinds(await node.said()) == [MsgType.ALERT]


async def test_a_level_is_judged_from_the_zero_that_holds_and_kept_as_the_device_said_it(
    tmp_path: Path,
) -> None:
    async with life(tmp_path, replace(GAUGE, datum=(Datum(START, 1.0),))) as node:
        await node.river((0, 1.9), (10, 2.1))
        [entry] = await node.said()
        said = {p.name: p.value for p in entry.alert.infos[0].parameters}
        assert said["level_m"] == "3.10"
        # The levels before it, too, are drawn from the station's zero.
        assert said["history"] == "-10:2.90 0:3.10"
        [stored] = (await node.store.readings(GAUGE.id, 1))[-1:]
        assert stored.reading.level_m == 2.1
        shown = (await node.engine.history(GAUGE.id, 1))[0]
        assert (shown["level_m"], shown["said_m"]) == (3.1, 2.1)


async def test_a_neighbour_warns_by_a_gauge_that_is_shared_by_its_own_thresholds(tmp_path: Path) -> None:
    shared = replace(GAUGE, shared=("friend",))
    lower = replace(GAUGE, id="below", name="下流", source=GAUGE.id, levels={Stage.CAUTION: 2.0})
    async with life(tmp_path, shared, lower) as node:
        await node.river((0, 2.5))
        [entry] = await node.said()
        assert entry.alert.identifier.startswith("below-")
        assert [each["level_m"] for each in await node.engine.history("below", 5)] == [2.5]
        answer = await node.engine.observe(ORG, [Reading("below", START, level_m=9.0)])
        assert answer.rejected == ((0, "unknown-station"),)


async def test_a_gauge_that_is_silent_is_shown_as_that_and_never_as_calm(tmp_path: Path) -> None:
    async with life(tmp_path) as node:
        [never] = await node.engine.stations()
        assert (never["condition"], never["stage"], never["age_s"]) == ("silent", "no-data", None)
        await node.river((0, 1.0))
        node.clock.move(2)
        [heard] = await node.engine.stations()
        assert (heard["condition"], heard["stage"], heard["age_s"]) == ("live", "calm", 2)
        node.clock.step(START + timedelta(hours=27))
        [silent] = await node.engine.stations()
        assert (silent["condition"], silent["stage"], silent["last_stage"]) == ("silent", "no-data", "calm")
        assert silent["age_s"] == 27 * 3600


async def test_while_the_water_stands_high_half_an_hour_is_silence(tmp_path: Path) -> None:
    async with life(tmp_path) as node:
        await node.river((0, 3.1))
        node.clock.step(START + timedelta(minutes=36))
        [silent] = await node.engine.stations()
        assert (silent["stage"], silent["stage_name"], silent["last_stage"]) == ("no-data", None, "caution")
        assert silent["warning"] is not None


async def test_in_maintenance_a_gauge_is_heard_and_shown_as_maintained(tmp_path: Path) -> None:
    work = Maintenance(START, START + timedelta(minutes=30))
    async with life(tmp_path, replace(GAUGE, maintenance=work)) as node:
        await node.river((10, 3.5))
        [shown] = await node.engine.stations()
        assert (shown["condition"], shown["stage"], shown["age_s"]) == ("maintenance", "no-data", 0)
        node.clock.step(START + timedelta(minutes=31))
        assert (await node.engine.stations())[0]["condition"] == "live"


async def test_the_overview_has_warnings_first_then_those_without_data_then_the_rest(tmp_path: Path) -> None:
    def gauge(id: str, code: str = "432032") -> Station:
        return replace(GAUGE, id=id, name=id, codes=(code,))

    names = ("calm", "caution", "danger", "never", "other")
    stations = [gauge(name, "011002" if name == "other" else "432032") for name in names]
    async with life(tmp_path, *stations) as node:
        for name, level in (("calm", 1.0), ("caution", 3.1), ("danger", 3.5), ("other", 1.0)):
            await node.engine.observe(ORG, [Reading(name, START, level_m=level)])
        await node.judge()
        found = await node.engine.gravest("43", 3)
        assert [each["id"] for each in found.rows] == ["danger", "caution", "never"]
        assert (found.total, found.silent) == (4, 1)
        assert (await node.engine.gravest(None, 10)).total == 5
        page = await node.engine.stations(after="calm", limit=2)
        assert [each["id"] for each in page] == ["caution", "danger"]
        assert [each["id"] for each in await node.engine.stations(code="011002")] == ["other"]
        assert await node.engine.stations(org="nobody") == []
