"""Rain is summed once, however it is told."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lalert.sensors.rain import MOST_FALLS, Rain, add, sums
from lalert.sensors.rules import State
from lalert.sensors.settings import Quality, Rules, Window
from lalert.sensors.settings import RainLevel as Level
from lalert.store import StoredReading
from tests.sensor_kit import at, counter, gauge, play, rain

QUALITY = Quality()


def summed(readings: list[StoredReading], minutes: float) -> dict[str, float]:
    known: Rain | None = None
    for arrived in readings:
        known, _ = add(known, arrived.reading, QUALITY)
    assert known is not None
    return {window.value: round(mm, 3) for window, mm in sums(known, at(minutes)).items()}


def test_sums_are_over_the_time_before() -> None:
    readings = [rain(10 * (i + 1), 3.0) for i in range(12)]
    assert summed(readings, 120) == {"10min": 3.0, "1h": 18.0, "24h": 36.0, "total": 36.0}
    assert summed(readings, 150) == {"10min": 0.0, "1h": 9.0, "24h": 36.0, "total": 36.0}
    assert summed(readings, 120 + 6 * 60)["total"] == 0.0
    assert summed(readings, 26 * 60)["24h"] == 0.0


def test_six_dry_hours_end_an_event_and_less_does_not() -> None:
    assert summed([rain(0, 5.0), rain(350, 2.0)], 350)["total"] == 7.0
    assert summed([rain(0, 5.0), rain(370, 2.0)], 370)["total"] == 2.0


def test_periods_that_overlap_are_counted_once() -> None:
    tens = [rain(10 * (i + 1), mm) for i, mm in enumerate([0.0, 4.0, 0.0, 6.0, 0.0, 0.0])]
    assert summed([*tens, rain(60, 10.0, 60)], 60)["1h"] == 10.0
    assert summed([rain(60, 10.0, 60), *tens], 60)["1h"] == 10.0
    assert summed([*tens, rain(60, 13.0, 60)], 60)["1h"] == 13.0
    assert summed([rain(10, 5.0), rain(10, 5.0), rain(15, 5.0)], 15)["1h"] == 7.5


def test_a_late_period_is_added_where_it_belongs() -> None:
    in_order = [rain(10, 1.0), rain(20, 2.0), rain(30, 3.0)]
    assert summed([in_order[0], in_order[2], in_order[1]], 30) == summed(in_order, 30)


@pytest.mark.parametrize(
    ("totals", "mm"),
    [
        ([10.0, 12.0, 12.0, 15.5], 5.5),
        ([10.0, 12.0, 0.0, 3.0], 5.0),  # restarted
        ([998.0, 999.5, 1.5], 3.5),  # wrapped at 1,000
        ([254.0, 2.0], 4.0),  # wrapped at 256
        ([10.0, 900.0, 902.0], 2.0),  # another device
        ([532.0], 0.0),  # where the counter stands at first says nothing
    ],
)
def test_a_counter_may_restart_wrap_and_be_exchanged(totals: list[float], mm: float) -> None:
    readings = [counter(10 * (i + 1), total) for i, total in enumerate(totals)]
    assert summed(readings, 10 * len(totals))["24h"] == mm


def test_a_counter_that_is_told_late_adds_nothing_twice() -> None:
    assert summed([counter(0, 10.0), counter(20, 14.0), counter(10, 12.0)], 20)["1h"] == 4.0


@given(st.lists(st.floats(0.0, 9.0), min_size=1, max_size=60))
def test_the_counter_and_the_periods_say_the_same(pieces: list[float]) -> None:
    periods = [rain(10 * (i + 1), mm) for i, mm in enumerate(pieces)]
    totals = [counter(10 * i, sum(pieces[:i])) for i in range(len(pieces) + 1)]
    end = 10 * len(pieces)
    assert summed(periods, end)["24h"] == pytest.approx(sum(pieces), abs=0.01)
    assert summed(totals, end)["24h"] == pytest.approx(sum(pieces), abs=0.01)
    assert summed(periods, end)["1h"] == pytest.approx(sum(pieces[-6:]), abs=0.01)


@given(st.lists(st.tuples(st.integers(1, 3000), st.floats(0.0, 20.0), st.integers(1, 120)), max_size=120))
def test_whatever_is_told_memory_is_bounded_and_no_sum_is_above_what_fell(
    told: list[tuple[int, float, int]],
) -> None:
    readings = [rain(minutes, mm, period) for minutes, mm, period in told]
    known: Rain | None = None
    for arrived in readings:
        known, _ = add(known, arrived.reading, QUALITY)
    if known is None:
        return
    assert len(known.falls) <= 250
    for earlier, later in zip(known.falls, known.falls[1:], strict=False):
        assert earlier.end <= later.start
    fallen = sums(known, known.newest)
    assert fallen[Window.TEN_MINUTES] <= fallen[Window.HOUR] + 1e-6 <= fallen[Window.DAY] + 2e-6
    assert fallen[Window.DAY] <= sum(mm for _, mm, _ in told) + 1e-6


def test_rain_of_every_minute_takes_little_memory() -> None:
    state = play(gauge(), [rain(i + 1, 0.5, 1) for i in range(26 * 60)]).state()
    assert state.rain is not None
    assert len(state.rain.falls) < 60
    assert sums(state.rain, state.rain.newest)[Window.HOUR] == pytest.approx(30.0)
    assert sums(state.rain, state.rain.newest)[Window.DAY] == pytest.approx(720.0, abs=10)
    assert msgspec.json.decode(msgspec.json.encode(state), type=State) == state


HEAVY = Rules(rain=(Level(Window.HOUR, 30.0), Level(Window.TOTAL, 80.0)), quiet_min=10.0)


def test_heavy_rain_is_one_incident_that_ends_when_it_has_eased() -> None:
    falling = [5.0] * 8 + [0.0] * 40
    played = play(gauge(rule=HEAVY), [rain(10 * (i + 1), mm) for i, mm in enumerate(falling)])
    assert played.said == [("warn", "WARN", "HEAVY"), ("warn", "LIFT", "NONE")]
    first, last = played.decisions
    assert first.evidence.reading.time == at(60)
    assert first.fallen[Window.HOUR] == pytest.approx(30.0)
    assert last.answers is not None
    # A fifth less than 30 mm: 24 mm are still heavy rain, so that rain about the threshold does not flap.
    assert last.evidence.reading.time == at(100)


@pytest.mark.parametrize("total", [50.0, 41.0, 30.0])
def test_a_counter_that_steps_back_or_is_anothers_is_no_rain(total: float) -> None:
    rule = Rules(rain=(Level(Window.TEN_MINUTES, 10.0),))
    played = play(gauge(rule=rule), [counter(0, 50.2), counter(10, total), counter(20, total + 1)])
    assert played.said == []
    assert played.doubts == ["counter-jump"]


def test_rain_after_a_restart_counts() -> None:
    rule = Rules(rain=(Level(Window.TEN_MINUTES, 10.0),))
    assert play(gauge(rule=rule), [counter(0, 50.2), counter(10, 12.0)]).said == [("warn", "WARN", "HEAVY")]


@pytest.mark.parametrize(("every", "period"), [(0.5, 1 / 60), (1, 59 / 60), (0.1, 1440), (7, 1)])
def test_a_gauge_that_reports_moments_fills_no_memory_and_loses_no_rain(every: float, period: float) -> None:
    readings = [rain(number * every, 0.02, period) for number in range(1_500)]
    known = play(gauge(), readings).state().rain
    assert known is not None
    assert len(known.falls) <= MOST_FALLS
    if period <= every:
        hour = sums(known, known.newest)[Window.HOUR]
        assert hour == pytest.approx(0.02 * 60 / every, rel=0.1)
