"""The order that a gauge would have an officer give is one that an officer could have written: valid, right by the Japanese profile, the same for the same moment."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from lalert import cap
from lalert.model import MsgType, Reading, Reference
from lalert.sensors import Stage, Station
from lalert.sensors.evidence import with_image, with_levels
from lalert.sensors.order import draft, given, level_of
from lalert.sensors.rules import RAIN, Act, Decision
from lalert.sensors.settings import Grade, Mode, RainLevel, Window
from lalert.store import StoredReading

AT = datetime(2026, 6, 3, 1, 0, tzinfo=UTC)
GAUGE = Station(
    id="hitoyoshi",
    name="人吉",
    name_en="Hitoyoshi",
    river="球磨川",
    river_en="Kuma River",
    area="人吉市 球磨川沿い",
    area_en="Hitoyoshi along the Kuma River",
    sender_name="人吉市",
    sender_name_en="Hitoyoshi City",
    contact="人吉市防災課 0966-00-0000",
    org="river",
    sender="bousai@hitoyoshi.example",
    codes=("432032",),
    lon=130.76,
    lat=32.21,
    levels={Stage.CAUTION: 3.0, Stage.EVACUATION: 3.2, Stage.DANGER: 3.4, Stage.FLOODING: 4.7},
)


def river(stage: Stage, level_m: float) -> Decision:
    arrived = StoredReading(7, "river", Reading("hitoyoshi", AT, level_m=level_m), AT)
    return Decision(Act.WARN, stage, Stage.CALM, arrived, None, Mode.PROPOSE)


def rain(grade: Grade) -> Decision:
    arrived = StoredReading(7, "river", Reading("hitoyoshi", AT, rain_mm=20, period_s=600), AT)
    rule = RainLevel(Window.HOUR, 50, grade)
    fallen = {Window.HOUR: 62.0}
    return Decision(
        Act.WARN, Stage.CALM, Stage.CALM, arrived, None, Mode.PROPOSE, RAIN, grade=grade, fallen=fallen, rain_level=rule
    )  # fmt: skip


DECISIONS = [
    (river(Stage.EVACUATION, 3.25), 3, "高齢者等避難", "flood"),
    (river(Stage.DANGER, 3.45), 4, "避難指示", "flood"),
    (river(Stage.FLOODING, 4.8), 5, "緊急安全確保", "flood"),
    (rain(Grade.HEAVY), 3, "高齢者等避難", "landslide"),
    (rain(Grade.SEVERE), 4, "避難指示", "landslide"),
]


@pytest.mark.parametrize(("decision", "level", "event", "hazard"), DECISIONS)
@pytest.mark.parametrize("named", [True, False])
def test_an_order_says_what_the_mayor_would(
    decision: Decision, level: int, event: str, hazard: str, named: bool
) -> None:
    station = GAUGE if named else replace(GAUGE, area="", area_en="", name_en="", river_en="")
    assert level_of(decision) == level
    order = with_levels(draft(station, decision, "p-1"), station, decision, [])
    report = cap.examine(cap.render(with_image(given(order, AT), "https://hub.example")))
    assert report.problems == ()
    alert = report.alert
    assert alert is not None
    assert [p.rule for p in cap.judge(alert, cap.PROFILES["jp"]) if p.severity != "advice"] == []
    assert (cap.level(alert), cap.kind(alert), alert.infos[0].event) == (level, "evacuation", event)
    assert f"jp:hazard={hazard}" in [f"{p.name}={p.value}" for p in alert.infos[0].parameters]
    for info in alert.infos:
        assert str(level) in (info.description or "")
        assert ("3.25" in (info.description or "")) == (decision is DECISIONS[0][0])
        assert len(info.resources) == (decision.evidence.reading.level_m is not None)


def test_below_the_first_level_nothing_is_ordered() -> None:
    assert [level_of(river(stage, 1.0)) for stage in Stage if stage < Stage.EVACUATION] == [0, 0, 0]
    assert level_of(rain(Grade.NONE)) == 0


def test_an_order_given_at_a_time_is_always_the_same_document_with_that_time() -> None:
    order = draft(GAUGE, river(Stage.DANGER, 3.45), "p-1")
    later = AT + timedelta(minutes=7, microseconds=5)
    first, again = given(order, later), given(cap.parse(cap.render(order)), later)
    assert cap.render(first) == cap.render(again)
    assert first.sent_text == "2026-06-03T10:07:00+09:00"
    assert first.infos[0].effective == first.sent
    assert first.infos[0].expires == first.sent + timedelta(hours=24)


def test_an_order_that_goes_on_from_another_is_its_update() -> None:
    before = Reference(
        "bousai@hitoyoshi.example", "p-0", "2026-06-03T09:00:00+09:00", AT - timedelta(hours=1)
    )
    order = draft(GAUGE, river(Stage.DANGER, 3.45), "p-1", (before,))
    assert (order.msg_type, order.references) == (MsgType.UPDATE, (before,))
    assert cap.examine(cap.render(order)).problems == ()
