"""What holds for whatever gauges say: nothing is said twice, nothing broken is believed, more water never counts for less."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import msgspec
from hypothesis import example, given
from hypothesis import strategies as st

from lalert.sensors import Stage, Station
from lalert.sensors.rules import RENEW, Act, Decision, State
from lalert.sensors.settings import Grade, Mode, Quality, RainLevel, Rise, Rules, Upstream, Window
from lalert.sensors.station import STAGES
from lalert.store import StoredReading
from tests.sensor_kit import Played, at, counter, gauge, level, play, rain, river

LEVELS = st.floats(0.0, 6.0)
RULES = st.builds(
    Rules,
    hold=st.integers(1, 3),
    of=st.sampled_from([0, 3, 5]),
    hysteresis_m=st.floats(0.0, 1.0),
    quiet_min=st.sampled_from([0.0, 10.0, 60.0]),
    propose_from=st.sampled_from([0, 3, 4, 5]),
    rises=st.sampled_from([(), (Rise(0.5, 30),)]),
    forecast_min=st.sampled_from([0.0, 60.0]),
    rain=st.sampled_from([(), (RainLevel(Window.HOUR, 20.0), RainLevel(Window.TOTAL, 60.0, Grade.SEVERE))]),
    upstream=st.sampled_from([(), (Upstream("up", Window.HOUR, 20.0, 1.0),)]),
    early=st.sampled_from(Mode),
    rainfall=st.sampled_from(Mode),
)
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["level", "rain", "counter", "rain upstream"]),
        st.floats(0.0, 6.0) | st.sampled_from([math.nan, math.inf, 150.0, -99.0]),
        st.integers(0, 15),  # minutes after the last one
        st.sampled_from([0, 0, 0, -25, 30]),  # how wrong the device's clock is
    ),
    max_size=60,
)


def arrivals(events: Sequence[tuple[str, float, int, int]]) -> list[StoredReading]:
    made: list[StoredReading] = []
    minutes = 0
    for kind, value, later, off in events:
        minutes += later
        time = minutes + off
        if kind == "level":
            reading = level(time, value)
        elif kind == "counter":
            reading = counter(time, value * 10)
        else:
            reading = rain(time, value * 3, station="up" if kind == "rain upstream" else "g")
        made.append(replace(reading, number=len(made) + 1, received=at(minutes)))
    return made


def stations(rule: Rules) -> list[Station]:
    return [gauge(rule=rule, quality=Quality(neighbours=("up",), highest_m=6.0)), gauge("up")]


@given(RULES, EVENTS)
def test_every_incident_is_one_alert_its_updates_and_one_cancel(
    rule: Rules, events: list[tuple[str, float, int, int]]
) -> None:
    decisions = Played(stations(rule)).feed(*arrivals(events)).decisions
    for kind in Mode:
        for of_rain in (False, True):
            told = [d for d in decisions if d.kind is kind and (d.rule == "rain") is of_rain]
            is_open = False
            for decision in told:
                assert (decision.act is Act.WARN) is not is_open
                is_open = decision.act is not Act.LIFT
                if kind is Mode.WARN:
                    assert (decision.answers is None) is (decision.act is Act.WARN)


@given(RULES, EVENTS)
def test_nothing_is_said_twice_and_little_is_said_at_all(
    rule: Rules, events: list[tuple[str, float, int, int]]
) -> None:
    decisions = Played(stations(rule)).feed(*arrivals(events)).decisions
    river_said = [d for d in decisions if d.kind is Mode.WARN and d.rule != "rain"]
    for earlier, later in pairwise(river_said):
        apart = later.evidence.received - earlier.evidence.received
        climbs = later.stage > earlier.stage
        if later.act is not Act.WARN:
            assert climbs or apart.total_seconds() >= rule.quiet_min * 60
            repeated = (later.stage, later.outlook.rules) == (earlier.stage, earlier.outlook.rules)
            assert not repeated or apart >= RENEW
    for decision in decisions:
        if decision.act is not Act.LIFT and decision.rule == "level" and decision.kind is Mode.WARN:
            assert decision.stage in STAGES


@given(RULES, EVENTS, st.integers(0, 60))
def test_the_same_readings_give_the_same_decisions_also_after_a_restart(
    rule: Rules, events: list[tuple[str, float, int, int]], restart: int
) -> None:
    readings = arrivals(events)
    once = Played(stations(rule)).feed(*readings)
    first = Played(stations(rule)).feed(*readings[:restart])
    kept = {name: msgspec.json.encode(state) for name, state in first.states.items()}
    again = Played(
        stations(rule),
        {name: msgspec.json.decode(raw, type=State) for name, raw in kept.items()},
        list(first.decisions),
    ).feed(*readings[restart:])
    assert said(again.decisions) == said(once.decisions)
    assert again.states == once.states


def said(decisions: Sequence[Decision]) -> list[tuple[object, ...]]:
    return [
        (d.kind, d.act, d.rule, d.stage, d.before, d.grade, d.evidence.number, d.answers) for d in decisions
    ]


@given(RULES, EVENTS)
def test_readings_that_come_twice_or_late_change_nothing(
    rule: Rules, events: list[tuple[str, float, int, int]]
) -> None:
    levels = [arrived for arrived in arrivals(events) if arrived.reading.level_m is not None]
    once = Played(stations(rule)).feed(*levels)
    twice = Played(stations(rule))
    for number, arrived in enumerate(levels):
        late = [replace(old, received=arrived.received) for old in levels[:number][-3:]]
        known = twice.state().last
        twice.feed(*[old for old in late if known is not None and old.reading.time <= known[0]], arrived)
    assert said(twice.decisions) == said(once.decisions)
    assert replace(twice.state(), marks=()) == replace(once.state(), marks=())


@given(
    st.lists(st.tuples(LEVELS, st.floats(0.0, 2.0)), min_size=1, max_size=25),
    st.integers(1, 4),
    st.sampled_from([0, 4, 6]),
    st.floats(0.0, 1.0),
)
@example([(2.0, 0.0), (0.0, 2.0), (0.0, 0.0)], 1, 4, 0.0)
def test_more_water_never_counts_for_less(
    pairs: list[tuple[float, float]], hold: int, of: int, hysteresis: float
) -> None:
    station = gauge(rule=Rules(hold=hold, of=of, hysteresis_m=hysteresis))
    low, high = Played([station]), Played([station])
    for number, (metres, more) in enumerate(pairs):
        low.feed(level(60.0 * number, metres))
        high.feed(level(60.0 * number, metres + more))
        assert low.doubts == high.doubts == []
        assert high.state().stage >= low.state().stage


BROKEN = st.sampled_from([math.nan, math.inf, -math.inf, 1e9, -500.0, 120.0, 1200.0, 6.0])
"""No numbers, other units (the river stands at 1.2 m), and the end of the sensor's range."""


@given(st.lists(BROKEN | st.just(1.2), max_size=20), st.sampled_from([1.0, 10.0, 100.0]))
def test_a_sensor_that_is_broken_never_fires(values: list[float], every: float) -> None:
    station = gauge(rule=Rules(propose_from=3), quality=Quality(lowest_m=0.0, highest_m=6.0))
    assert play(station, river([1.2, *values], every)).said == []


@given(st.lists(st.tuples(st.integers(1, 9), st.floats(4.0, 6.0)), max_size=20))
def test_single_spikes_never_fire(spikes: list[tuple[int, float]]) -> None:
    readings = [1.2]
    for calm, spike in spikes:
        readings += [*[1.2] * calm, spike]
    assert play(gauge(rule=Rules(propose_from=3)), river([*readings, 1.2])).said == []


@given(st.floats(0.2, 1.0), st.lists(st.floats(-0.49, 0.49), min_size=1, max_size=80))
def test_noise_smaller_than_the_hysteresis_never_flaps(hysteresis: float, noise: list[float]) -> None:
    station = gauge(
        levels={Stage.CAUTION: 3.0}, rule=Rules(hysteresis_m=hysteresis, propose_from=3, quiet_min=0)
    )
    trembling = [3.0 + hysteresis * part for part in noise]
    assert len(play(station, river([1.0, 2.5, *trembling], every=6)).decisions) <= 1


@given(st.floats(0.2, 5.8), st.permutations(range(6)))
def test_a_batch_in_any_order_ends_at_the_newest_reading(top: float, order: list[int]) -> None:
    """The newest by the device's time decides: what comes after it and is older changes nothing."""
    levels = [top * (number + 1) / 6 for number in range(6)]
    batch = [level(60.0 * number, levels[number]) for number in order]
    received = [replace(arrived, received=at(6 * 60)) for arrived in batch]
    played = Played([gauge()]).feed(level(-120, 0.1), *received)
    assert played.state().stage is gauge().stage_at(levels[-1])
