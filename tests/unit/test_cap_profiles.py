"""What an alert means in Japan."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from lalert import cap
from lalert.model import (
    Alert,
    Certainty,
    Info,
    MsgType,
    NamedValue,
    Scope,
    Severity,
    Status,
    Urgency,
)

INFO = Info(
    event="避難指示",
    categories=("Met",),
    urgency=Urgency.IMMEDIATE,
    severity=Severity.EXTREME,
    certainty=Certainty.LIKELY,
)


def alert(*infos: Info) -> Alert:
    return Alert(
        identifier="a",
        sender="a@example.jp",
        sent=datetime(2026, 7, 4, tzinfo=UTC),
        status=Status.ACTUAL,
        msg_type=MsgType.ALERT,
        scope=Scope.PUBLIC,
        sent_text="2026-07-04T00:00:00-00:00",
        infos=infos,
    )


def saying(name: str, value: str) -> Info:
    return replace(INFO, parameters=(NamedValue(name, value),))


@pytest.mark.parametrize("name", ["警戒レベル", "jp:alertLevel", "alertLevel", "level"])
@pytest.mark.parametrize(("value", "level"), [("1", 1), ("4", 4), ("５", 5)])
def test_the_level_is_read_under_every_name(name: str, value: str, level: int) -> None:
    assert cap.level(alert(saying(name, value))) == level


@pytest.mark.parametrize("value", ["", "0", "6", "44", "4.0", "-4", "警戒レベル4", "四", "四以上"])
def test_a_level_is_one_digit_from_1_to_5(value: str) -> None:
    assert cap.level(alert(saying("警戒レベル", value))) is None


@pytest.mark.parametrize("name", ["警戒レベル相当情報", "警戒レベル相当", "jp:alertLevelEquivalent"])
def test_the_level_of_the_weather_agency_is_not_the_mayor_s(name: str) -> None:
    assert cap.level(alert(saying(name, "4"))) is None


def test_the_highest_level_of_all_infos_counts() -> None:
    assert cap.level(alert(saying("警戒レベル", "3"), saying("警戒レベル", "4"), INFO)) == 4


def test_without_a_parameter_there_is_no_level() -> None:
    assert cap.level(alert(INFO)) is None
    assert cap.level(alert()) is None


@pytest.mark.parametrize(
    ("event", "categories", "kind"),
    [
        ("避難指示", ("Met",), "evacuation"),
        ("高齢者等避難", ("Safety",), "evacuation"),
        ("緊急安全確保", ("Safety",), "evacuation"),
        ("大雨による避難指示", ("Met",), "evacuation"),
        ("Evacuation order", ("Safety",), "evacuation"),
        ("避難所開設", ("Safety",), "shelter"),
        ("人吉市災害対策本部の設置", ("Safety",), "headquarters"),
        ("避難指示に伴う災害警戒本部の設置", ("Safety",), "headquarters"),
        ("住家の被害状況", ("Safety",), "damage"),
        ("Damage report", ("Other",), "damage"),
        ("Damaging winds", ("Met",), "weather"),
        ("球磨川 氾濫危険水位到達", ("Met",), "river-level"),
        ("Flood warning", ("Met",), "river-level"),
        ("大雨警報", ("Met",), "rain"),
        ("強風注意報", ("Met",), "weather"),
        ("クマ出没", ("Safety",), "general"),
    ],
)
def test_the_kind_is_told_by_the_event(event: str, categories: tuple[str, ...], kind: str) -> None:
    assert cap.kind(alert(replace(INFO, event=event, categories=categories))) == kind


def test_a_sender_may_name_the_kind() -> None:
    assert cap.kind(alert(saying("jp:kind", "bear-sighting"))) == "bear-sighting"


@pytest.mark.parametrize("value", ["", "Bear", "../all", "クマ", "a" * 33, "-a"])
def test_a_kind_fits_into_an_address(value: str) -> None:
    assert cap.kind(alert(saying("jp:kind", value))) == "evacuation"


def test_an_alert_without_info_is_general() -> None:
    assert cap.kind(alert()) == "general"


def test_the_usual_names_of_municipality_codes_are_known() -> None:
    assert {"JIS X 0402", "jisX0402", "市区町村コード"} <= cap.JIS_GEOCODE_NAMES
