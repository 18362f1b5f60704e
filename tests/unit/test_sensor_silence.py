"""Who falls silent is told once, and so is who comes back."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from structlog.testing import capture_logs

from lalert.sensors import Station
from lalert.sensors.silence import NAMED, SLICE, Condition, Watch, condition
from lalert.sensors.state import State
from lalert.sensors.upkeep import Maintenance
from tests.sensor_kit import at, gauge, level, play, rain

TEN = datetime(2026, 6, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def station(id: str, maintenance: Maintenance | None = None) -> Station:
    return Station(id, id, "org", "a@b", (), 130.0, 32.0, maintenance=maintenance)


def go_round(
    watch: Watch, stations: dict[str, Station], states: dict[str, State], now: datetime
) -> list[tuple[str, int]]:
    with capture_logs() as logs:
        for _ in range(len(stations) // SLICE + 2):
            watch.look(stations, states, now)
    return [(line["log_level"], line["number"]) for line in logs]


def test_silence_and_return_are_each_told_once() -> None:
    watch = Watch()
    stations = {"a": station("a"), "b": station("b"), "never": station("never")}
    states = {"a": State(heard=TEN), "b": State(heard=TEN)}
    assert go_round(watch, stations, states, TEN) == []
    late = TEN + 2 * DAY
    states["b"] = State(heard=late)
    assert go_round(watch, stations, states, late) == [("warning", 1)]
    assert go_round(watch, stations, states, late) == []
    assert watch.gauges(late) == {
        "stations_live": 1.0,
        "station_silent": 2.0,
        "stations_in_maintenance": 0.0,
        "station_silence_seconds": 2 * 86_400.0,
    }
    states["a"] = State(heard=late)
    assert go_round(watch, stations, states, late) == [("info", 1)]
    assert watch.gauges(late)["station_silence_seconds"] == 0.0


def test_maintenance_is_no_silence_and_no_return() -> None:
    watch, states = Watch(), {"a": State(heard=TEN)}
    late = TEN + 3 * DAY
    maintained = {"a": station("a", Maintenance(late, late + DAY))}
    assert go_round(watch, {"a": station("a")}, states, late) == [("warning", 1)]
    assert go_round(watch, maintained, states, late) == []
    assert watch.gauges(late)["stations_in_maintenance"] == 1.0


def test_of_very_many_some_are_named_and_a_station_that_is_gone_is_forgotten() -> None:
    watch = Watch()
    stations = {name: station(name) for name in (f"s{n}" for n in range(SLICE + 500))}
    states = {name: State(heard=TEN) for name in stations}
    with capture_logs() as logs:
        for _ in range(3):
            watch.look(stations, states, TEN + 2 * DAY)
    [line] = logs
    assert (line["number"], len(line["stations"])) == (SLICE + 500, NAMED)
    assert go_round(watch, {}, {}, TEN + 2 * DAY) == []
    assert watch.gauges(TEN + 2 * DAY)["station_silence_seconds"] == 0.0


def test_a_gauge_that_only_says_what_is_not_believed_is_silent() -> None:
    late = TEN + 2 * DAY
    talked = State(heard=late, good=TEN, org="org", status="Actual")
    assert condition(station("a"), talked, TEN) is Condition.LIVE
    assert condition(station("a"), talked, late) is Condition.SILENT
    assert condition(station("a"), replace(talked, good=None), TEN) is Condition.SILENT
    believed = play(gauge(), [level(0, 1.0), level(10, 999.0)]).state()
    assert believed.good == at(0)
    assert play(gauge(), [level(0, 1.0), rain(10, 1.0)]).state().good == at(0)
    assert play(gauge(levels={}), [rain(10, 1.0)]).state().good == at(10)
