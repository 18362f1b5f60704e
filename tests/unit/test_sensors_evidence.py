"""What a warning stands on goes with it: trend, history and an image, the same however often the decision is made again."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from lalert import cap
from lalert.model import Alert, NamedValue, Reading
from lalert.sensors import Stage, Station
from lalert.sensors.combine import Outlook
from lalert.sensors.evidence import image_path, with_evidence
from lalert.sensors.rules import Act, Decision
from lalert.sensors.warning import warning
from lalert.store import StoredReading
from lalert.texts import hydrograph

START = datetime(2026, 6, 3, 1, 0, tzinfo=UTC)
GAUGE = Station(
    id="hitoyoshi",
    name="人吉",
    name_en="Hitoyoshi",
    river="球磨川",
    river_en="Kuma River",
    org="river",
    sender="gauge@river.example",
    sender_name="球磨川河川事務所",
    sender_name_en="Kuma River Office",
    contact="https://river.example/contact",
    codes=("432032",),
    lon=130.76,
    lat=32.21,
    levels={Stage.CAUTION: 3.0, Stage.EVACUATION: 3.2, Stage.DANGER: 3.4},
)
SVG = "{http://www.w3.org/2000/svg}"


def river(*levels: float, every: float = 10.0) -> list[StoredReading]:
    times = [START + timedelta(minutes=number * every) for number in range(len(levels))]
    return [
        StoredReading(number, "river", Reading("hitoyoshi", time, level_m=level), time)
        for number, (time, level) in enumerate(zip(times, levels, strict=True), 1)
    ]


def told(
    readings: Sequence[StoredReading],
    station: Station = GAUGE,
    address: str = "https://hub.example",
    rate: float | None = 1.3,
) -> Alert:
    """Return the warning that the last of these readings decides."""
    decision = Decision(Act.WARN, Stage.CAUTION, Stage.CALM, readings[-1], None, outlook=Outlook(rate))
    return with_evidence(warning(station, decision), station, decision, readings, address)


def said(alert: Alert) -> dict[str, str]:
    return {parameter.name: parameter.value for parameter in alert.infos[0].parameters}


def test_a_warning_tells_how_the_water_came_there_and_names_its_image() -> None:
    alert = told(river(2.4, 2.5, 2.7, 3.05))
    parameters = said(alert)
    assert parameters["trend"] == "rising"
    assert parameters["rise_m_per_h"] == "1.30"
    assert parameters["history"] == "-30:2.40 -20:2.50 -10:2.70 0:3.05"
    assert parameters["thresholds"] == "caution:3.00 evacuation:3.20 danger:3.40"
    for info in alert.infos:
        [resource] = info.resources
        drawn = hydrograph.image(info)
        assert drawn is not None
        assert resource.uri == f"https://hub.example{image_path(alert.id, info.language)}"
        assert resource.deref_uri is None
        assert (resource.mime_type, resource.size) == ("image/svg+xml", len(drawn))
        assert resource.digest == hashlib.sha1(drawn, usedforsecurity=False).hexdigest()
        assert len(drawn) < 6_000


@pytest.mark.parametrize("address", ["https://hub.example", ""])
def test_what_it_tells_is_valid_and_right_by_the_japanese_profile(address: str) -> None:
    report = cap.examine(cap.render(told(river(2.4, 2.5, 2.7, 3.05), address=address)))
    assert report.problems == ()
    assert report.alert is not None
    assert [p.rule for p in cap.judge(report.alert, cap.PROFILES["jp"]) if p.severity != "advice"] == []


def test_a_trend_that_is_none_is_found_by_the_japanese_profile() -> None:
    alert = told(river(2.4, 3.05))
    parameters = tuple(
        NamedValue("trend", "upwards") if p.name == "trend" else p for p in alert.infos[0].parameters
    )
    wrong = replace(alert, infos=(replace(alert.infos[0], parameters=parameters), alert.infos[1]))
    assert "JP-PARAMETER-FORM" in [p.rule for p in cap.judge(wrong, cap.PROFILES["jp"])]


def test_a_hub_without_a_public_address_puts_the_image_inside() -> None:
    alert = told(river(2.4, 3.05), address="")
    [resource] = alert.infos[1].resources
    assert resource.uri is None
    assert base64.b64decode(resource.deref_uri or "") == hydrograph.image(alert.infos[1])


def test_what_came_later_or_in_another_order_changes_nothing() -> None:
    readings = river(2.4, 2.5, 3.05, 3.3, 3.6)
    alone = told(readings[:3])
    decision = Decision(Act.WARN, Stage.CAUTION, Stage.CALM, readings[2], None, outlook=Outlook(1.3))
    between = Reading("hitoyoshi", START + timedelta(minutes=15), level_m=2.8)
    late = StoredReading(6, "river", between, START + timedelta(hours=1))
    found = [late, *readings[::-1]]
    again = with_evidence(warning(GAUGE, decision), GAUGE, decision, found, "https://hub.example")
    assert cap.render(again) == cap.render(alone)


@pytest.mark.parametrize(
    ("rate", "word"),
    [(None, "unknown"), (0.04, "steady"), (-0.04, "steady"), (-0.3, "falling"), (0.06, "rising")],
)
def test_the_trend_is_that_of_the_rules_in_a_word(rate: float | None, word: str) -> None:
    parameters = said(told(river(2.4, 3.05), rate=rate))
    assert parameters["trend"] == word
    assert parameters.get("rise_m_per_h") == (None if rate is None else f"{rate:.2f}")


def test_a_doubtful_level_is_not_drawn() -> None:
    readings = river(2.4, 9.9, 2.7, 3.05)
    decision = Decision(Act.WARN, Stage.CAUTION, Stage.CALM, readings[-1], None)
    doubted = {readings[1].reading.time}
    alert = with_evidence(warning(GAUGE, decision), GAUGE, decision, readings, "", doubted)
    assert said(alert)["history"] == "-30:2.40 -10:2.70 0:3.05"


def test_the_image_shows_six_hours_with_their_peaks_and_says_so_in_its_language() -> None:
    levels = [2.0] * 500
    levels[400] = 2.9
    levels[499] = 3.05
    alert = told(river(*levels, every=1))
    history = said(alert)["history"].split()
    assert len(history) <= hydrograph.MOST_POINTS
    assert history[0] == "-360:2.00"
    assert history[-1] == "0:3.05"
    assert "2.90" in {word.partition(":")[2] for word in history}
    japanese, english = (hydrograph.image(info) or b"" for info in alert.infos)
    assert "氾濫注意 3.00".encode() in japanese
    assert "水位(m)".encode() in japanese
    assert b">caution 3.00<" in english
    assert b'lang="en"' in english


@given(
    st.lists(st.floats(-50.0, 2_500.0), min_size=1, max_size=40),
    st.lists(st.floats(-40.0, 2_000.0), max_size=5, unique=True),
    st.sampled_from([0.1, 1.0, 10.0, 90.0]),
)
def test_every_river_can_be_drawn(levels: list[float], thresholds: list[float], every: float) -> None:
    station = replace(
        GAUGE, levels={Stage.CAUTION: 0.0} | dict(zip(list(Stage)[1:], sorted(thresholds), strict=False))
    )
    for info in told(river(*levels, every=every), station).infos:
        drawn = hydrograph.image(info) or b""
        root = etree.fromstring(drawn)
        assert root.tag == f"{SVG}svg"
        assert {element.tag for element in root.iter()} <= {
            SVG + name for name in ("svg", "title", "rect", "text", "path", "polyline", "circle")
        }
        assert re.search(rb"[\" ,-](nan|inf)", drawn) is None
        assert len(drawn) < 20_000


def test_a_name_cannot_become_a_script() -> None:
    evil = replace(GAUGE, name="</title><script>alert(1)</script>", name_en='"onload="alert(1)&')
    for info in told(river(2.4, 3.05), evil).infos:
        drawn = hydrograph.image(info) or b""
        root = etree.fromstring(drawn)
        assert [element for element in root.iter() if element.tag == f"{SVG}script"] == []
        assert root.findtext(f"{SVG}title") == (info.headline or "")[: hydrograph.MOST_TITLE]
        assert "onload" not in root.attrib


@pytest.mark.parametrize(
    "history",
    ["", "nothing", "1:2.0", "-361:2.0", "-10:", "-10:nan", "-10:1e9", "-1.5:2.0", "a:2.0", "-10:99999999"],
)
def test_what_a_stranger_writes_as_history_is_no_picture(history: str) -> None:
    info = told(river(2.4, 3.05)).infos[0]
    kept = tuple(p for p in info.parameters if p.name != "history")
    assert hydrograph.image(replace(info, parameters=(*kept, NamedValue("history", history)))) is None


def test_an_image_once_told_stays_the_same_bytes() -> None:
    """A receiver checks the digest years later: whoever changes how images are drawn has to keep the old way for old alerts."""
    digests = [info.resources[0].digest for info in told(river(2.4, 2.5, 2.7, 3.05)).infos]
    assert digests == [
        "0cf507a6f0e1fe6689239d4357e463dc7313fe90",
        "47b6a768f0bff88fcd39b779d051102ac8b60939",
    ]
