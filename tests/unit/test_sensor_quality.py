"""What is not believed triggers nothing, whatever it says; what is the river is believed one reading later at most."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from lalert.sensors import Stage
from lalert.sensors.quality import DOUBTS, silent_after
from lalert.sensors.rules import State
from lalert.sensors.settings import Quality, Rise, Rules
from tests.sensor_kit import Played, at, counter, gauge, level, play, rain, river

DOCS = Path(__file__).parents[2] / "docs" / "sensors-rules.md"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_never_believed(value: float) -> None:
    played = play(gauge(), river([1.0, value, value, value]))
    assert played.said == []
    assert played.doubts == ["not-a-number"] * 3


def test_centimetres_for_metres_are_never_believed_however_often_they_are_said() -> None:
    without_range = gauge(levels={Stage.CAUTION: 140.0})
    for scale in (100,):
        played = play(without_range, river([1.5, *[1.5 * scale, 1.6 * scale, 1.7 * scale] * 3], every=60))
        assert played.said == []
        assert set(played.doubts) == {"unit"}


def test_a_gauge_whose_zero_and_thresholds_were_moved_is_not_silenced() -> None:
    played = Played([gauge(levels={Stage.CAUTION: 121.0})], play(gauge(), river([1.2])).states)
    assert played.feed(level(10, 120.0), level(20, 120.1), level(30, 121.2)).said == [
        ("warn", "WARN", "CAUTION")
    ]
    assert played.doubts == ["spike"]
    nowhere = play(
        gauge(levels={}), [level(0, 1.2), level(60, 120.0), level(1450, 120.0), level(1460, 120.0)]
    )
    assert nowhere.doubts == ["unit", "spike"]
    assert nowhere.state().last == (at(1460), 120.0)


def test_a_fall_that_goes_on_by_leaps_is_believed_after_a_day_at_last() -> None:
    leaps = [level(10 + 30 * number, 2.0 + number % 2) for number in range(48)]
    played = play(gauge(), [level(0, 5.1), *leaps])
    assert played.said[-1][1:] == ("WARN", "FLOODING")
    assert played.feed(level(1450, 1.0)).said[-1][1:] == ("LIFT", "CALM")


def test_a_small_brook_that_rises_a_hundredfold_is_no_mistake_of_the_unit() -> None:
    assert play(gauge(), river([0.04, 4.2], every=30)).said == [("warn", "WARN", "DANGER")]


def test_a_level_beyond_what_the_sensor_can_say_is_never_believed() -> None:
    short = gauge(quality=Quality(lowest_m=0.0, highest_m=6.0))
    played = play(short, river([1.0, 6.5, 6.5, -0.5]))
    assert played.said == []
    assert played.doubts == ["out-of-range"] * 3


def test_a_float_that_snaps_to_the_end_of_its_range_never_warns_and_water_that_climbs_there_does() -> None:
    short = gauge(quality=Quality(lowest_m=0.0, highest_m=5.0))
    torn = play(short, river([1.0, *[5.0] * 40]))
    assert torn.said == []
    assert set(torn.doubts) == {"at-limit"}
    climbed = play(short, river([3.5, 4.2, 4.6, 5.0, 5.0]))
    assert climbed.said[-1] == ("warn", "CHANGE", "FLOODING")


def test_one_spike_warns_of_nothing_and_two_readings_that_agree_are_the_river() -> None:
    assert play(gauge(), river([1.0, 4.5, 1.0, 4.5, 1.0], every=1)).said == []
    assert play(gauge(), river([1.0, 4.5, 4.6], every=1)).said == [("warn", "WARN", "DANGER")]


def test_a_late_reading_between_two_that_agree_does_not_part_them() -> None:
    played = play(gauge(), [level(0, 1.0), level(2, 4.5), level(-5, 1.0), level(3, 4.6)])
    assert played.said == [("warn", "WARN", "DANGER")]


def test_the_same_reading_twice_does_not_agree_with_itself() -> None:
    assert play(gauge(), [level(0, 1.0), level(1, 4.5), level(1, 4.5)]).said == []


def test_a_gauge_that_hangs_loose_lifts_no_warning_before_an_hour_has_passed() -> None:
    loose = [level(0, 4.5)] + [level(1 + minute, 0.5) for minute in range(0, 59, 5)]
    played = play(gauge(), loose)
    assert played.said == [("warn", "WARN", "DANGER")]
    assert set(played.doubts) == {"sudden-fall"}
    assert played.feed(level(62, 0.5)).said[-1] == ("warn", "LIFT", "CALM")


def test_a_calm_river_may_say_the_same_for_days() -> None:
    assert play(gauge(quality=Quality(neighbours=("n",))), river([1.0] * 200, every=60)).doubts == []


def neighbourhood() -> Played:
    return Played([gauge(quality=Quality(neighbours=("n", "r"))), gauge("n"), gauge("r")])


def test_a_value_that_never_changes_while_the_neighbour_rises_is_stuck() -> None:
    played = neighbourhood().feed(*river([1.0] * 18))
    assert played.doubts == []
    played.feed(level(170, 0.5, "n"), level(180, 0.8, "n"), level(180, 1.0))
    assert played.doubts == ["stuck"]
    # It moves again: it is believed again.
    played.feed(level(190, 2.1))
    assert played.said == [("warn", "WARN", "CAUTION")]


def test_a_stuck_high_level_neither_warns_again_nor_is_lifted() -> None:
    played = neighbourhood().feed(*river([3.2] * 19))
    for hour in range(4, 30):
        minutes = hour * 60.0
        played.feed(level(minutes - 9, 1.0, "n"), level(minutes - 1, 1.5, "n"), level(minutes, 3.2))
    assert played.said == [("warn", "WARN", "EVACUATION")]


def test_a_rise_that_no_neighbour_feels_waits_for_a_second_reading() -> None:
    calm = [level(-9, 0.50, "n"), level(-1, 0.52, "n"), rain(0, 0.0, station="r")]
    played = neighbourhood().feed(level(-5, 1.0), *calm, level(5, 2.2))
    assert played.said == []
    assert played.doubts == ["alone"]
    assert played.feed(level(15, 2.3)).said == [("warn", "WARN", "CAUTION")]


@pytest.mark.parametrize("moving", [level(-1, 0.9, "n"), rain(0, 12.0, station="r")])
def test_a_rise_that_one_neighbour_feels_is_believed_at_once(moving: object) -> None:
    played = neighbourhood().feed(level(-9, 0.5, "n"), level(-5, 1.0), moving, level(5, 2.2))  # type: ignore[arg-type]
    assert played.said == [("warn", "WARN", "CAUTION")]


def test_neighbours_of_which_nothing_is_known_raise_no_doubt() -> None:
    assert neighbourhood().feed(level(0, 1.0), level(10, 2.2)).said == [("warn", "WARN", "CAUTION")]


def test_a_clock_that_is_wrong_triggers_nothing_whether_water_or_rain() -> None:
    ahead, stale = level(20, 4.5, late=-20), level(0, 4.5, late=7 * 60)
    assert play(gauge(), [ahead, stale]).doubts == ["clock-ahead", "stale"]
    wet = replace(rain(60, 30.0), received=at(0))
    assert play(gauge(), [wet]).doubts == ["clock-ahead"]


def test_rain_that_was_never_measured_anywhere_is_not_believed() -> None:
    played = play(gauge(), [rain(0, 70.0), rain(10, -1.0), rain(20, math.nan), rain(30, 5.0, 0)])
    assert played.doubts == ["out-of-range", "out-of-range", "not-a-number", "out-of-range"]
    assert play(gauge(), [counter(0, 10.0), counter(10, 900.0)]).doubts == ["counter-jump"]


def test_a_gauge_may_be_silent_for_a_day_in_calm_and_half_an_hour_in_flood() -> None:
    station = gauge()
    assert silent_after(station, State()) == timedelta(hours=26)
    assert silent_after(station, State(last=(at(0), 1.6))) == timedelta(minutes=35)
    assert silent_after(station, State(stage=Stage.CAUTION)) == timedelta(minutes=35)
    early = gauge(quality=Quality(start_m=0.8))
    assert silent_after(early, State(last=(at(0), 0.9))) == timedelta(minutes=35)


def test_only_so_many_marks_are_kept() -> None:
    assert len(play(gauge(), river([1.0, *[math.nan] * 50])).doubts) == 20


def test_every_word_is_explained_to_people_in_the_docs() -> None:
    page = DOCS.read_text(encoding="utf-8")
    assert [word for word in DOUBTS if f"| `{word}` |" not in page] == []
    for doubt in DOUBTS.values():
        assert doubt.ja in page
        assert doubt.en in page


def test_a_zero_that_is_corrected_silences_the_gauge_only_until_two_readings_agree() -> None:
    above_the_sea = {Stage.CAUTION: 33.0, Stage.DANGER: 35.0}
    station = gauge(levels=above_the_sea, rule=Rules(rises=(Rise(1.0),)))
    played = play(station, [level(0, 0.3), level(10, 30.3), level(20, 30.4)])
    assert played.said == []
    played.feed(level(30, 31.6), level(40, 33.1))
    assert played.said[-1] == ("warn", "CHANGE", "CAUTION")


def test_centimetres_are_no_flood_however_often_they_are_said() -> None:
    assert play(gauge(), [level(0, 0.2), *(level(10 * n, 20.0) for n in range(1, 9))]).said == []


DAY = 1_440


def test_a_wild_value_of_a_gauge_that_reports_daily_warns_nobody() -> None:
    assert play(gauge(), [level(0, 0.5), level(DAY, 4.6), level(2 * DAY, 0.5)]).said == []


@pytest.mark.parametrize("second", [4.3, 4.6, 6.4])
def test_a_flood_after_a_day_without_readings_waits_for_one_reading_and_no_longer(second: float) -> None:
    played = play(gauge(), [level(0, 0.5), level(DAY, 4.6), level(DAY + 10, second)])
    assert [act for _, act, _ in played.said] == ["WARN"]
