from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lalert import cap
from lalert.model import MsgType, Reading, Severity, Status
from lalert.sensors import Stage, Station
from lalert.sensors.quality import doubt
from lalert.sensors.rules import Act, Decision, Issued, State, step, told
from lalert.sensors.settings import Rules
from lalert.sensors.warning import warning
from lalert.store import StoredReading

START = datetime(2026, 6, 3, 1, 0, tzinfo=UTC)
MINUTES = timedelta(minutes=1)
GAUGE = Station(
    id="hitoyoshi",
    name="人吉",
    name_en="Hitoyoshi",
    river="球磨川",
    river_en="Kuma River",
    org="river",
    sender="gauge@river.example",
    codes=("432032",),
    sender_name="球磨川河川事務所",
    sender_name_en="Kuma River Office",
    contact="https://river.example/contact",
    lon=130.76,
    lat=32.21,
    levels={
        Stage.STANDBY: 1.5,
        Stage.CAUTION: 3.0,
        Stage.EVACUATION: 3.2,
        Stage.DANGER: 3.4,
        Stage.FLOODING: 4.7,
    },
)


def arrived(level: float, minutes: float, number: int = 1, late: float = 0.0) -> StoredReading:
    time = START + minutes * MINUTES
    return StoredReading(number, "river", Reading("hitoyoshi", time, level_m=level), time + late * MINUTES)


def play(levels: Sequence[float], station: Station = GAUGE, every: float = 10.0) -> list[Decision]:
    """Feed levels, acting on each decision as the engine does."""
    state, decisions = State(), []
    for number, level in enumerate(levels):
        state, made = step(station, state, arrived(level, number * every, number))
        for decision in made:
            decisions.append(decision)
            alert = warning(station, decision)
            issued = (
                None if decision.act is Act.LIFT else Issued(alert.sender, alert.identifier, alert.sent_text)
            )
            state = told(state, decision, issued)
    return decisions


def acts(decisions: Sequence[Decision]) -> list[tuple[Act, Stage]]:
    return [(decision.act, decision.stage) for decision in decisions]


def test_a_flood_is_one_incident_that_climbs_falls_and_is_lifted() -> None:
    decisions = play([1.0, 2.0, 3.05, 3.25, 3.3, 3.5, 3.3, 3.1, 2.9, 2.7, 2.0])
    assert acts(decisions) == [
        (Act.WARN, Stage.CAUTION),
        (Act.CHANGE, Stage.EVACUATION),
        (Act.CHANGE, Stage.DANGER),
        (Act.CHANGE, Stage.EVACUATION),
        (Act.CHANGE, Stage.CAUTION),
        (Act.LIFT, Stage.STANDBY),
    ]


def test_the_standby_level_of_the_flood_corps_warns_nobody() -> None:
    assert play([1.0, 1.6, 2.0, 1.2]) == []


def test_a_level_that_trembles_at_a_threshold_warns_once() -> None:
    assert acts(play([2.9, 3.01, 2.99, 3.02, 2.95, 3.0, 2.85])) == [(Act.WARN, Stage.CAUTION)]


def test_a_hub_that_starts_during_a_flood_warns_of_it() -> None:
    assert acts(play([3.6])) == [(Act.WARN, Stage.DANGER)]


def test_hold_waits_for_readings_that_agree() -> None:
    patient = replace(GAUGE, rule=Rules(hold=3))
    assert play([3.5, 3.5, 2.0, 3.5, 3.5], patient) == []
    assert acts(play([3.05, 3.5, 3.25], patient)) == [(Act.WARN, Stage.CAUTION)]


def test_a_jumping_float_triggers_nothing_but_a_wave_that_stays_is_believed() -> None:
    assert play([1.0, 9.0, 1.0], every=1) == []
    assert acts(play([1.0, 4.9, 4.9], every=1)) == [(Act.WARN, Stage.FLOODING)]


@pytest.mark.parametrize(
    ("reading", "word"),
    [
        (arrived(2.0, 0, late=-11), "clock-ahead"),
        (arrived(2.0, 0, late=361), "stale"),
        (arrived(2.0, -1), "out-of-order"),
        (arrived(2.0, 0), "out-of-order"),
        (arrived(-51.0, 10), "out-of-range"),
        (arrived(24.8, 60), "out-of-range"),
        (arrived(9.0, 10), "spike"),
        (arrived(2.4, 0.1), None),
        (arrived(3.4, 10), None),
        (arrived(3.6, 10), "spike"),
    ],
)
def test_a_doubtful_reading_is_named(reading: StoredReading, word: str | None) -> None:
    assert doubt(GAUGE, reading.reading, reading.received, State(last=(START, 1.5)), {}) == word


def test_a_doubtful_reading_is_remembered_with_its_reason_and_changes_no_stage() -> None:
    state, decisions = step(GAUGE, State(last=(START, 1.0)), arrived(24.9, 10))
    assert decisions == ()
    assert state.stage is Stage.CALM
    assert state.doubted is not None
    assert state.doubted[1] == "out-of-range"


def test_rain_says_nothing_to_the_level_rule() -> None:
    rain = StoredReading(1, "river", Reading("hitoyoshi", START, rain_mm=30.0, period_s=600), START)
    state, decisions = step(GAUGE, State(), rain)
    assert (replace(state, rain=None, good=None, org="", status=""), decisions) == (State(), ())


@given(st.lists(st.floats(0.0, 6.0), min_size=1, max_size=60), st.integers(1, 4), st.floats(0.0, 1.0))
def test_every_incident_begins_with_one_alert_and_each_message_answers_the_one_before(
    levels: list[float], hold: int, hysteresis: float
) -> None:
    station = replace(GAUGE, rule=Rules(hold=hold, hysteresis_m=hysteresis))
    before: Issued | None = None
    for decision in play(levels, station, every=60):
        assert decision.answers == before
        assert (decision.act is Act.WARN) == (before is None)
        assert (decision.act is Act.LIFT) == (decision.stage < Stage.CAUTION)
        alert = warning(station, decision)
        before = None if decision.act is Act.LIFT else Issued(alert.sender, alert.identifier, alert.sent_text)


@given(st.lists(st.floats(0.0, 6.0), min_size=1, max_size=40))
def test_the_same_readings_give_the_same_documents(levels: list[float]) -> None:
    documents = [
        [cap.render(warning(GAUGE, decision)) for decision in play(levels, every=60)] for _ in range(2)
    ]
    assert documents[0] == documents[1]


@pytest.mark.parametrize("levels", [[3.1], [3.1, 3.3], [3.5], [3.5, 2.0], [5.0], [3.5, 3.1]])
def test_what_a_gauge_says_is_a_valid_alert_in_both_languages(levels: list[float]) -> None:
    decision = play(levels)[-1]
    report = cap.examine(cap.render(warning(GAUGE, decision)))
    assert report.valid, report.problems
    assert report.problems == ()
    assert report.alert is not None
    assert [info.language for info in report.alert.infos] == ["ja", "en"]


@pytest.mark.parametrize("levels", [[3.1], [3.1, 3.3], [3.5], [3.5, 2.0], [5.0], [3.5, 3.1]])
def test_what_a_gauge_says_is_right_by_the_japanese_profile(levels: list[float]) -> None:
    alert = warning(GAUGE, play(levels)[-1])
    assert [p.rule for p in cap.judge(alert, cap.PROFILES["jp"]) if p.severity != "advice"] == []


def test_a_warning_carries_its_evidence_and_never_the_mayors_level() -> None:
    alert = warning(GAUGE, play([3.5])[0])
    parameters = {p.name: p.value for p in alert.infos[0].parameters}
    assert parameters["level_m"] == "3.50"
    assert parameters["threshold_m"] == "3.40"
    assert parameters["station"] == "hitoyoshi"
    assert parameters["observed"] == "2026-06-03T10:00:00+09:00"
    assert parameters["警戒レベル相当"] == "4"
    assert cap.level(alert) is None
    assert cap.kind(alert) == "river-level"
    assert alert.severity is Severity.EXTREME
    assert alert.sent.utcoffset() == timedelta(hours=9)
    assert alert.infos[0].headline == "球磨川 人吉 氾濫危険水位に到達"
    assert alert.infos[1].headline == "Kuma River at Hitoyoshi: reached flood danger level"


def test_every_time_that_a_gauge_writes_is_japanese_time() -> None:
    for decision in play([3.1, 3.5, 2.0]):
        document = cap.render(warning(GAUGE, decision)).decode()
        offsets = re.findall(r"[0-9]T[0-9]{2}:[0-9]{2}:[0-9.]+([^0-9.][^< ]*)", document)
        assert len(offsets) > 8
        assert set(offsets) == {"+09:00"}


def test_a_lifting_is_a_cancel_with_its_reason_and_its_reference() -> None:
    rise, lift = play([3.5, 2.0])
    first, last = warning(GAUGE, rise), warning(GAUGE, lift)
    assert last.msg_type is MsgType.CANCEL
    assert [reference.id for reference in last.references] == [first.id]
    assert last.note is not None
    assert "解除" in last.note
    assert last.infos[0].headline == "球磨川 人吉 氾濫注意水位を下回り、注意喚起を解除"


def test_a_warning_that_still_holds_is_said_again_before_it_expires() -> None:
    decisions = play([3.5] * 4, every=6 * 60)
    assert acts(decisions) == [(Act.WARN, Stage.DANGER), (Act.CHANGE, Stage.DANGER)]
    first, again = (warning(GAUGE, decision) for decision in decisions)
    assert first.expires is not None
    assert again.sent < first.expires
    assert [reference.id for reference in again.references] == [first.id]
    assert again.infos[0].headline == "球磨川 人吉 氾濫危険水位以上が継続"


def test_a_station_on_trial_issues_exercises() -> None:
    trial = replace(GAUGE, status=Status.EXERCISE)
    assert warning(trial, play([3.5], trial)[0]).status is Status.EXERCISE
