"""What a station decides of itself: stages, rises, forecasts, rain upstream, proposals; one incident, few messages."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from lalert import cap, config
from lalert.model import Status
from lalert.sensors import Stage
from lalert.sensors.rules import Issued, State
from lalert.sensors.settings import (
    QUALITY,
    RULES,
    Grade,
    Mode,
    Quality,
    Rise,
    Rules,
    Upstream,
    Window,
    mistakes,
)
from lalert.sensors.settings import RainLevel as Level
from lalert.sensors.warning import warning
from tests.sensor_kit import START, Played, at, gauge, level, play, rain, river


def test_a_stage_counts_once_n_of_m_readings_stand_at_it() -> None:
    two_of_three = gauge(rule=Rules(hold=2, of=3))
    assert play(two_of_three, river([1.0, 2.2, 1.0, 1.0, 2.2])).said == []
    assert play(two_of_three, river([1.0, 2.2, 1.9, 3.2])).said == [("warn", "WARN", "CAUTION")]


def test_a_fall_counts_once_the_newest_readings_all_stand_below() -> None:
    patient = gauge(rule=Rules(hold=2, quiet_min=0))
    played = play(patient, river([2.2, 2.2, 1.0, 2.2, 1.0]))
    assert played.said == [("warn", "WARN", "CAUTION")]
    assert played.feed(level(50, 1.0)).said[-1] == ("warn", "LIFT", "CALM")


def test_a_reading_that_is_over_does_not_bring_a_stage_back() -> None:
    one_of_four = gauge(rule=Rules(hold=1, of=4, quiet_min=0))
    assert play(one_of_four, river([2.2, 1.0, 1.0, 1.0])).said == [
        ("warn", "WARN", "CAUTION"),
        ("warn", "LIFT", "CALM"),
    ]


def test_a_fall_is_told_no_sooner_than_the_quiet_time_and_a_rise_at_once() -> None:
    station = gauge(rule=Rules(quiet_min=15))
    played = play(station, [level(0, 3.2), level(1, 4.1), level(5, 3.3), level(9, 3.2), level(15, 3.2)])
    assert played.said == [("warn", "WARN", "EVACUATION"), ("warn", "CHANGE", "DANGER")]
    played.feed(level(16, 3.2))
    assert played.said[-1] == ("warn", "CHANGE", "EVACUATION")
    assert played.feed(level(30, 1.6)).said[-1] == ("warn", "CHANGE", "EVACUATION")
    assert played.feed(level(31, 1.6)).said[-1] == ("warn", "LIFT", "STANDBY")


def test_a_quick_rise_warns_below_every_threshold_and_is_lifted_when_it_is_over() -> None:
    station = gauge(rule=Rules(rises=(Rise(0.6, 30),)))
    played = play(station, river([0.2, 0.4, 0.6, 0.8, 0.9, 1.0, 1.0, 1.0]))
    assert played.said == [("warn", "WARN", "CALM"), ("warn", "LIFT", "CALM")]
    assert [d.rule for d in played.decisions] == ["rise", "level"]
    assert played.decisions[0].outlook.rise == pytest.approx((0.6, 30))


def test_a_rise_that_was_told_holds_until_it_is_a_fifth_slower() -> None:
    station = gauge(rule=Rules(rises=(Rise(0.6, 30),), quiet_min=0))
    played = play(station, river([0.2, 0.4, 0.6, 0.8, 0.97, 1.14, 1.31]))
    assert played.decisions[-1].outlook.rise == pytest.approx((0.6, 30))
    assert played.said == [("warn", "WARN", "CALM")]
    played = play(station, river([0.2, 0.4, 0.6, 0.8, 0.9, 0.95]))
    assert played.said == [("warn", "WARN", "CALM"), ("warn", "LIFT", "CALM")]


def test_a_gauge_that_reports_every_second_fills_no_memory() -> None:
    readings = [level(second / 60, 1.0 + second / 10_000) for second in range(0, 2 * 3600, 5)]
    state = play(gauge(), readings).state()
    assert len(state.recent) <= 20
    assert state.recent[-1][0] - state.recent[0][0] >= timedelta(hours=1)


def test_a_forecast_tells_when_the_next_threshold_is_reached_at_this_rate() -> None:
    station = gauge(rule=Rules(forecast_min=60))
    played = play(station, river([0.4, 0.6, 0.8, 1.0, 1.2, 1.4]))
    first = played.decisions[0]
    assert (first.rule, first.stage, first.evidence.reading.time) == ("forecast", Stage.CALM, at(20))
    ahead = first.outlook.crossing
    assert ahead is not None
    assert (ahead.stage, ahead.level_m) == (Stage.CAUTION, 2.0)
    assert ahead.minutes == pytest.approx(60.0)
    assert first.outlook.per_hour_m == pytest.approx(1.2)
    # It comes true: the same incident goes on.
    played.feed(level(60, 2.05))
    assert played.said == [("warn", "WARN", "CALM"), ("warn", "CHANGE", "CAUTION")]


def test_a_gauge_that_reports_seldom_is_forecast_by_its_newest_three_readings() -> None:
    played = play(gauge(rule=Rules(forecast_min=60)), river([0.2, 0.8, 1.4, 1.95], every=100))
    assert [d.rule for d in played.decisions] == ["forecast"]
    assert played.decisions[0].outlook.per_hour_m == pytest.approx(0.345)


def test_a_forecast_that_has_come_true_holds_until_the_stage_counts() -> None:
    patient = gauge(rule=Rules(hold=3, forecast_min=30, quiet_min=0))
    played = play(patient, river([1.75, 1.8, 1.85, 1.9, 1.95, 2.01, 2.02, 2.03]))
    assert played.said == [("warn", "WARN", "STANDBY"), ("warn", "CHANGE", "CAUTION")]


def test_one_wild_reading_in_five_does_not_move_the_rate() -> None:
    played = play(gauge(rule=Rules(forecast_min=120)), river([0.4, 0.5, 0.6, 0.7, 1.6]))
    assert [d.outlook.per_hour_m for d in played.decisions] == [pytest.approx(0.6)]


def test_without_a_forecast_rule_a_forecast_is_told_only_with_what_is_observed() -> None:
    played = play(gauge(), river([1.4, 1.6, 1.8, 2.0]))
    assert played.said == [("warn", "WARN", "CAUTION")]
    ahead = played.decisions[0].outlook.crossing
    assert ahead is not None
    assert ahead.minutes == pytest.approx(50)


UPSTREAM = Rules(upstream=(Upstream("up", Window.HOUR, 40.0, 1.5),), quiet_min=0)


def test_rain_upstream_warns_only_while_the_water_here_is_high() -> None:
    played = Played([gauge(rule=UPSTREAM), gauge("up")])
    played.feed(*[rain(10 * i, 8.0, station="up") for i in range(1, 7)])
    assert played.feed(level(60, 1.4)).said == []
    assert played.feed(level(70, 1.6)).said == [("warn", "WARN", "STANDBY")]
    upstream = played.decisions[0].outlook.upstream
    assert upstream is not None
    assert upstream[0] == "up"
    assert upstream[1] == pytest.approx(48.0)
    assert played.feed(level(80, 1.2)).said[-1] == ("warn", "LIFT", "CALM")


def test_rain_upstream_that_was_told_long_ago_is_not_known() -> None:
    played = Played([gauge(rule=UPSTREAM), gauge("up")])
    played.feed(*[rain(10 * i, 8.0, station="up") for i in range(1, 7)])
    assert played.feed(level(121, 1.6)).said == []


def test_an_evacuation_is_proposed_beside_the_warning_and_never_warned() -> None:
    played = play(gauge(rule=Rules(propose_from=3)), river([2.1, 3.1, 4.1, 5.1, 2.2, 1.0], every=20))
    assert [said for said in played.said if said[0] == "propose"] == [
        ("propose", "WARN", "EVACUATION"),
        ("propose", "CHANGE", "DANGER"),
        ("propose", "CHANGE", "FLOODING"),
        ("propose", "LIFT", "CAUTION"),
    ]
    assert [said for said in played.said if said[0] == "warn"] == [
        ("warn", "WARN", "CAUTION"),
        ("warn", "CHANGE", "EVACUATION"),
        ("warn", "CHANGE", "DANGER"),
        ("warn", "CHANGE", "FLOODING"),
        ("warn", "CHANGE", "CAUTION"),
        ("warn", "LIFT", "CALM"),
    ]


def test_a_forecast_may_propose_in_place_of_warning() -> None:
    station = gauge(rule=Rules(forecast_min=60, early=Mode.PROPOSE))
    played = play(station, river([1.0, 1.2, 1.4, 1.6, 1.8, 1.8, 1.8, 1.8, 1.8, 1.8, 1.8]))
    assert played.said == [("propose", "WARN", "EVACUATION"), ("propose", "LIFT", "STANDBY")]


def test_rain_may_propose_in_place_of_warning() -> None:
    station = gauge(rule=Rules(rain=(Level(Window.HOUR, 20.0, Grade.SEVERE),), rainfall=Mode.PROPOSE))
    played = play(station, [rain(10 * i, 7.0) for i in range(1, 8)])
    assert played.said == [("propose", "WARN", "SEVERE")]


def test_missing_thresholds_are_allowed() -> None:
    partly = gauge(levels={Stage.CAUTION: 2.0, Stage.FLOODING: 5.0})
    assert play(partly, river([1.0, 4.9, 5.1], every=30)).said == [
        ("warn", "WARN", "CAUTION"),
        ("warn", "CHANGE", "FLOODING"),
    ]
    assert play(gauge(levels={}), river([1.0, 4.9, 9.0])).said == []


@pytest.mark.parametrize("language", [0, 1])
@pytest.mark.parametrize(
    "rule",
    [
        Rules(rises=(Rise(0.5, 60),)),
        Rules(forecast_min=90),
        Rules(rain=(Level(Window.HOUR, 30.0), Level(Window.HOUR, 50.0, Grade.SEVERE))),
        UPSTREAM,
    ],
)
def test_what_each_rule_says_is_valid_by_cap_and_by_the_japanese_profile(rule: Rules, language: int) -> None:
    station = gauge(rule=rule)
    played = Played([station, gauge("up")])
    played.feed(*[rain(10 * i, 10.0, station=name) for i in range(1, 7) for name in ("g", "up")])
    played.feed(*[level(60 + 10 * i, 1.0 + 0.16 * i) for i in range(6)])
    played.feed(*[level(120 + 10 * i, 1.0) for i in range(12)])
    played.feed(*[rain(70 + 10 * i, 0.0) for i in range(12)])
    assert len(played.decisions) >= 2
    for decision in played.decisions:
        report = cap.examine(cap.render(warning(station, decision)))
        assert report.problems == ()
        alert = report.alert
        assert alert is not None
        assert [p for p in cap.judge(alert, cap.PROFILES["jp"]) if p.severity != "advice"] == []
        assert cap.kind(alert) == ("rain" if decision.rule == "rain" else "river-level")
        lifted = decision is played.decisions[-1]
        assert ("AllClear" in alert.infos[language].response_types) is lifted


def test_a_forecast_is_called_an_estimate_in_both_languages() -> None:
    alert = warning(gauge(), play(gauge(), river([1.4, 1.6, 1.8, 2.0])).decisions[0])
    said = [info.description or "" for info in alert.infos]
    assert "約50分で避難判断水位(3.00m)に達する見込みです(推定)" in said[0]
    assert "flood" not in said[0]
    assert "in about 50 minutes (estimate)" in said[1]


OLD = b'{"stage":2,"waiting":[2],"last":["2026-06-03T00:50:00Z",2.1],"doubted":null,"issued":{"sender":"s","identifier":"i","sent":"2026-06-03T00:00:00+00:00"}}'


def test_what_an_older_version_kept_is_read_on() -> None:
    state = msgspec.json.decode(OLD, type=State)
    assert state.issued == Issued("s", "i", "2026-06-03T00:00:00+00:00")
    played = Played([gauge()], {"g": state})
    assert at(0) == START
    assert played.feed(level(0, 2.1)).said == []
    assert played.feed(level(10, 3.1), level(30, 1.0)).said == [
        ("warn", "CHANGE", "EVACUATION"),
        ("warn", "LIFT", "CALM"),
    ]


def test_what_the_rules_know_survives_being_written_down() -> None:
    readings = [*river([1.0, 3.2, 9.0, 3.4, math.nan]), rain(60, 5.0)]
    state = play(gauge(rule=Rules(propose_from=3)), readings).state()
    assert state.doubted is not None
    assert msgspec.json.decode(msgspec.json.encode(state), type=State) == state


def test_the_example_of_the_docs_is_a_configuration() -> None:
    page = (Path(__file__).parents[2] / "docs" / "sensors-rules.md").read_text(encoding="utf-8")
    [station] = config.parse(page.split("```toml\n")[1].split("```")[0]).stations
    assert station.rule.rain[1] == Level(Window.TOTAL, 200.0, Grade.SEVERE)
    assert station.rule.early is Mode.WARN
    assert station.quality.neighbours == ("hill",)


@pytest.mark.parametrize(
    ("rule", "quality", "named"),
    [
        (Rules(quiet_min=1e300), QUALITY, "rule.quiet_min"),
        (Rules(rises=(Rise(1.0),) * 51), QUALITY, "rule.rises"),
        (RULES, Quality(stale_h=1e12), "quality.stale_h"),
        (RULES, Quality(clock_ahead_min=1e10), "quality.clock_ahead_min"),
        (RULES, Quality(neighbours=("n",) * 51), "quality.neighbours"),
    ],
)
def test_what_no_calendar_and_no_minute_can_hold_is_a_mistake(
    rule: Rules, quality: Quality, named: str
) -> None:
    [mistake] = mistakes(rule, quality)
    assert mistake.startswith(f"{named}:")


def test_a_stage_whose_threshold_was_taken_away_is_still_told() -> None:
    [decision] = play(gauge(), [level(0, 4.1)]).decisions
    assert cap.render(warning(gauge(levels={Stage.CAUTION: 2.0}), decision))


def test_what_a_drill_was_told_does_not_silence_the_real_station() -> None:
    drill = replace(gauge(rule=Rules(propose_from=4)), status=Status.EXERCISE)
    real = replace(drill, status=Status.ACTUAL)
    trial = play(drill, [level(0, 4.2)])
    assert trial.said == [("warn", "WARN", "DANGER"), ("propose", "WARN", "DANGER")]
    assert Played([real], trial.states).feed(level(10, 4.2)).said == trial.said
    assert Played([replace(real, org="other")], dict(trial.states)).feed(level(20, 4.2)).said == trial.said


def test_a_station_on_trial_is_no_evidence_for_a_real_one() -> None:
    rule = Rules(upstream=(Upstream("up", Window.HOUR, 30.0, 1.0),))
    here, trial = gauge(rule=rule), replace(gauge("up"), status=Status.EXERCISE)
    readings = [rain(0, 40, station="up"), level(1, 1.2)]
    assert Played([here, trial]).feed(*readings).said == []
    assert Played([here, gauge("up")]).feed(*readings).said == [("warn", "WARN", "CALM")]
    hearer = replace(here, source="up")
    assert not hearer.hears(trial)
    assert hearer.hears(gauge("up"))
    assert replace(hearer, status=Status.EXERCISE).hears(trial)
