"""The Japanese profile: the examples are right, and one change to one of them is found for what it is, where it is."""

from __future__ import annotations

import re
import string
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lalert import cap, matching
from lalert.cap.places import places
from lalert.cap.profiles.base import Finding, Lookup, Profile, finding, table
from lalert.cap.profiles.jp import kinds, mail, reading
from lalert.cap.profiles.jp.reading import ShelterState, as_of, said_kind, topic, town_municipality
from lalert.cap.profiles.jp.table import RULES
from lalert.errors import InvalidCode, Problem, ProblemSeverity
from lalert.geo import REGION_NAMES, Gazetteer
from lalert.model import Alert, Circle, Info, MsgType, NamedValue, Severity, Status
from lalert.resources import former_codes_csv, gazetteer_csv
from lalert.testing import make_alert, make_cap

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples" / "jp").glob("*.xml"))
DOCS = ROOT / "docs" / "profile-jp.md"
JP = cap.PROFILES["jp"]
JST = "+09:00"
GAZETTEER = Gazetteer.from_csv(gazetteer_csv(), former_codes_csv())


def example(name: str, *changes: tuple[str, str]) -> bytes:
    """Return an example with some of its text replaced; every replacement must find its text."""
    text = (ROOT / "examples" / "jp" / f"{name}.xml").read_text(encoding="utf-8")
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    return text.encode()


def judged(raw: bytes, lookup: Lookup | None = GAZETTEER.place) -> list[Problem]:
    report = cap.examine(raw)
    assert report.alert is not None, report.problems
    return list(cap.judge(report.alert, JP, lookup))


def found(raw: bytes, lookup: Lookup | None = GAZETTEER.place) -> list[str]:
    return [f"{p.severity} {p.rule} {p.path}" for p in judged(raw, lookup)]


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
@pytest.mark.parametrize("lookup", [GAZETTEER.place, None], ids=["gazetteer", "alone"])
def test_an_example_is_valid_and_has_no_findings(file: Path, lookup: Lookup | None) -> None:
    report = cap.examine(file.read_bytes())
    assert report.problems == ()
    assert found(file.read_bytes(), lookup) == []


def test_every_kind_has_an_example() -> None:
    shown = {cap.kind(cap.parse(file.read_bytes())) for file in EXAMPLES}
    assert shown == set(cap.KINDS)


I1 = "/alert/info[1]"
LEVEL = f"{I1}/parameter[2]/value"
CODE = f"{I1}/area[1]/geocode[1]/value"
GEOCODE = "<valueName>JISX0402</valueName>\n        <value>432032</value>\n      </geocode>"
LEVEL_4 = "<valueName>警戒レベル</valueName>\n      <value>4</value>"


def town(name: str, code: str) -> str:
    return (
        f"<geocode>\n        <valueName>{name}</valueName>\n        <value>{code}</value>\n      </geocode>"
    )


def parameter(name: str, value: str) -> str:
    return f"<parameter>\n      <valueName>{name}</valueName>\n      <value>{value}</value>\n    </parameter>"


CASES: list[tuple[str, list[tuple[str, str]], list[str]]] = [
    # the whole alert
    ("weather", [("<language>ja<", "<language>en<")], ["warning JP-LANGUAGE-JA /alert", f"warning JP-LANGUAGE-WRONG {I1}"]),
    ("weather", [("    <language>ja</language>\n", "")], ["warning JP-LANGUAGE-JA /alert", f"warning JP-LANGUAGE-WRONG {I1}"]),
    ("cancel", [("<note>対象地域の入力を誤ったため、2時20分の避難指示を取り消します。</note>", "<note> </note>")], ["error JP-CANCEL-REASON /alert"]),
    ("weather", [(f"<expires>2026-07-04T06:00:00{JST}", "<expires>2026-07-03T21:00:00-00:00")], [f"info JP-TIME-OFFSET {I1}/expires"]),
    ("general", [("<sent>2026-07-04T08:00:00+09:00", "<sent>2026-07-04T07:00:00+08:00")], ["info JP-TIME-OFFSET /alert/sent"]),
    ("evacuation", [("<scope>Public</scope>", "<scope>Restricted</scope>\n  <restriction>防災関係機関</restriction>")], ["warning JP-SCOPE-NOT-PUBLIC /alert/scope"]),
    # drills
    ("evacuation", [("<headline>人吉市 球磨川沿いに", "<headline>【訓練】球磨川沿いに")], [f"error JP-DRILL-IN-ACTUAL {I1}/headline"]),
    ("evacuation", [("<headline>人吉市 球磨川沿いに避難指示", "<headline>球磨川沿いに避難指示（訓　練")], []),
    ("evacuation", [("<headline>人吉市 球磨川沿いに避難指示", "<headline>球磨川沿いに避難指示（訓練）")], [f"error JP-DRILL-IN-ACTUAL {I1}/headline"]),
    ("evacuation", [("<description>球磨川の", "<description>［訓練放送］球磨川の")], [f"error JP-DRILL-IN-ACTUAL {I1}/description"]),
    ("evacuation", [("<instruction>危険な", "<instruction>これは訓練です。危険な")], [f"error JP-DRILL-IN-ACTUAL {I1}/instruction"]),
    ("general", [("<description>配水管", "<description>訓練、訓練。配水管")], [f"error JP-DRILL-IN-ACTUAL {I1}/description"]),
    ("general", [("<areaDesc>人吉市西部", "<areaDesc>人吉市西部(訓練)"), ("人吉市西部=", "人吉市西部(訓練)=")], [f"error JP-DRILL-IN-ACTUAL {I1}/area[1]/areaDesc"]),
    ("cancel", [("<note>対象地域", "<note>【訓練】対象地域")], ["error JP-DRILL-IN-ACTUAL /alert/note"]),
    ("general", [("<headline>人吉市西部で断水", "<headline>8日に防災訓練を行います")], []),
    ("general", [("<description>配水管", "<description>※訓練※配水管")], [f"error JP-DRILL-IN-ACTUAL {I1}/description"]),
    ("general", [("<description>配水管", "<description>★★訓練★★配水管")], [f"error JP-DRILL-IN-ACTUAL {I1}/description"]),
    ("general", [("<description>配水管", "<description>≪訓練≫配水管")], [f"error JP-DRILL-IN-ACTUAL {I1}/description"]),
    ("general", [("<description>配水管", "<description>【訓練・試験】配水管")], [f"error JP-DRILL-IN-ACTUAL {I1}/description"]),
    ("general", [("<description>配水管", "<description>【くんれん】配水管")], [f"error JP-DRILL-IN-ACTUAL {I1}/description"]),
    ("general", [("<description>配水管", "<description>EXERCISE EXERCISE EXERCISE 配水管")], [f"error JP-DRILL-IN-ACTUAL {I1}/description"]),
    ("general", [("<description>配水管", "<description>これは、訓練です。配水管")], [f"error JP-DRILL-IN-ACTUAL {I1}/description"]),
    ("general", [("<description>配水管", "<description>This is a drill. 配水管")], [f"error JP-DRILL-IN-ACTUAL {I1}/description"]),
    ("general", [("<description>配水管", "<description>THIS IS ONLY A TEST! 配水管")], [f"error JP-DRILL-IN-ACTUAL {I1}/description"]),
    ("general", [("<description>配水管", "<description>これは訓練ではありません。配水管")], []),
    ("general", [("<description>配水管", "<description>This is not a drill. 配水管")], []),
    ("general", [("<description>配水管", "<description>This is a test track area. 配水管")], []),
    ("general", [("<description>配水管", "<description>【防災訓練のお知らせ】配水管")], []),
    ("general", [("<description>配水管", "<description>訓練用の配水管")], []),
    ("general", [("<description>配水管", "<description>試験の日、テスト期間中です。配水管")], []),
    ("general", [("<description>配水管", "<description>水質検査(テスト)のため、配水管")], []),
    ("drill", [("<headline>人吉市全域に", "<headline>【訓練】人吉市全域に")], [f"advice JP-URGENT-MAIL-TITLE {I1}/headline"]),
    # kinds and parameters
    ("general", [(parameter("jp:kind", "general"), "")], [f"advice JP-KIND-MISSING {I1}"]),
    ("general", [("<value>general<", "<value>お知らせ<")], [f"advice JP-KIND-MISSING {I1}", f"error JP-KIND-FORM {I1}/parameter[1]/value"]),
    ("general", [("<value>general<", "<value>bear-sighting<")], [f"info JP-KIND-OWN {I1}/parameter[1]/value"]),
    ("shelter", [("jp:shelter", "jp:refuge")], [f"error JP-PARAMETER-MISSING {I1}"]),
    ("shelter", [("state=full; ", "")], [f"error JP-PARAMETER-FORM {I1}/parameter[4]/value"]),
    ("shelter", [("state=full", "state=crowded")], [f"error JP-PARAMETER-FORM {I1}/parameter[4]/value"]),
    ("shelter", [("occupancy=138", "occupancy=138人")], [f"error JP-PARAMETER-FORM {I1}/parameter[3]/value"]),
    ("shelter", [("pets=yes", "pets=yes; pets=no")], [f"error JP-PARAMETER-FORM {I1}/parameter[3]/value"]),
    ("shelter", [("capacity=220; ", "cap=220; ")], [f"error JP-PARAMETER-FORM {I1}/parameter[4]/value"]),
    ("shelter", [("at=32.2050,130.7380", "at=130.7380,32.2050")], [f"error JP-PARAMETER-FORM {I1}/parameter[5]/value"]),
    ("shelter", [("name=第一中学校体育館; kana=だいいちちゅうがっこう たいいくかん; state=full; occupancy=220", "name=第一中学校体育館; state=open; occupancy=220")], [f"warning JP-SHELTER-OVERFULL {I1}/parameter[4]/value"]),
    ("shelter", [("name=第一中学校体育館", "name=人吉カルチャーパレス")], [f"error JP-SHELTER-CONTRADICTION {I1}/parameter[4]/value"]),
    ("damage", [(parameter("jp:as_of", "2026-07-04T09:00:00+09:00"), "")], [f"error JP-PARAMETER-MISSING {I1}"]),
    ("damage", [("item=dead; count=0", "item=死者; count=0")], [f"error JP-PARAMETER-FORM {I1}/parameter[4]/value"]),
    ("damage", [("<value>3</value>", "<value>第3報</value>")], [f"error JP-PARAMETER-FORM {I1}/parameter[3]/value"]),
    ("damage", [(">2026-07-04T09:00:00+09:00</value>", ">2026-07-04T09:30:00+09:00</value>")], [f"warning JP-OBSERVED-LATER {I1}/parameter[2]/value"]),
    ("damage", [("jp:report", "jp:as_of"), ("<value>3</value>", "<value>2026-07-04T08:00:00+09:00</value>")], [f"warning JP-PARAMETER-TWICE {I1}/parameter[3]/value"]),
    ("headquarters", [("state=established", "state=設置")], [f"error JP-PARAMETER-FORM {I1}/parameter[2]/value"]),
    ("general", [("<value>lifeline<", "<value>water<")], [f"error JP-PARAMETER-FORM {I1}/parameter[2]/value"]),
    ("river-level", [("<value>3.28<", "<value>3.28m<")], [f"error JP-PARAMETER-FORM {I1}/parameter[4]/value"]),
    ("river-level", [("jp:level_m", "jp:level")], [f"error JP-PARAMETER-MISSING {I1}"]),
    ("river-level", [("<valueName>警戒レベル相当</valueName>\n      <value>3<", "<valueName>警戒レベル相当</valueName>\n      <value>4<")], [f"warning JP-STAGE-LEVEL {I1}/parameter[7]/value"]),
    ("rain", [("jp:rain_1h_mm", "jp:a"), ("jp:rain_total_mm", "jp:b")], [f"error JP-RAIN-AMOUNT {I1}"]),
    ("rain", [("<value>72.5<", "<value>-1<")], [f"error JP-PARAMETER-FORM {I1}/parameter[4]/value"]),
    ("rain", [("<valueName>jp:", "<valueName>"), ("<valueName>kind", "<valueName>jp:kind")], []),
    # 警戒レベル
    ("drill", [("<value>3<", "<value>3以上<")], [f"warning JP-LEVEL-MISSING {I1}", f"error JP-LEVEL-FORM {LEVEL}"]),
    ("drill", [("<value>3<", "<value>２<")], [f"error JP-LEVEL-MAYOR {LEVEL}", f"error JP-LEVEL-EVENT {I1}/event"]),
    ("drill", [("<value>3<", "<value>5<"), ("Severe", "Extreme")], [f"error JP-LEVEL-EVENT {I1}/event"]),
    ("drill", [(parameter("警戒レベル", "3"), "")], [f"warning JP-LEVEL-MISSING {I1}"]),
    ("drill", [(parameter("警戒レベル", "3"), ""), ("<value>landslide<", "<value>fire<")], []),
    ("drill", [("<value>landslide<", "<value>tsunami<")], [f"warning JP-LEVEL-HAZARD {LEVEL}"]),
    ("drill", [("jp:hazard", "警戒レベル相当"), ("<value>landslide<", "<value>3<")], [f"warning JP-LEVEL-MIXED {I1}/parameter[3]/value"]),
    ("drill", [("Severe", "Minor")], [f"warning JP-LEVEL-SEVERITY {I1}/severity"]),
    ("drill", [("Expected", "Future")], [f"warning JP-LEVEL-URGENCY {I1}/urgency"]),
    ("drill", [("<headline>人吉市全域に高齢者等避難", "<headline>警戒レベル４ 人吉市全域")], [f"error JP-LEVEL-HEADLINE {I1}/headline"]),
    ("drill", [("<headline>人吉市全域に高齢者等避難", "<headline>警戒レベル4相当の雨、3")], []),
    ("weather", [("警戒レベル相当", "警戒レベル")], [f"error JP-LEVEL-ORDER {LEVEL}"]),
    ("weather", [("警戒レベル相当", "警戒レベル"), ("<value>3<", "<value>2<")], []),
    ("weather", [("<value>3<", "<value>レベル3<")], [f"error JP-LEVEL-FORM {LEVEL}"]),
    # names and lifting
    ("drill", [("<event>高齢者等避難", "<event>避難準備・高齢者等避難開始")], [f"error JP-EVENT-ABOLISHED {I1}/event"]),
    ("drill", [("<event>高齢者等避難", "<event>避難勧告")], [f"error JP-EVENT-ABOLISHED {I1}/event"]),
    ("drill", [("<headline>人吉市全域に高齢者等避難", "<headline>人吉市全域に避難勧告")], [f"warning JP-TEXT-ABOLISHED {I1}/headline"]),
    ("drill", [("<event>高齢者等避難", "<event>避難情報")], [f"advice JP-EVENT-NAME {I1}/event"]),
    ("drill", [("<event>高齢者等避難", "<event>自主避難の呼びかけ"), (parameter("警戒レベル", "3"), "")], []),
    ("drill", [("<event>高齢者等避難", "<event>高齢者等避難解除")], [f"error JP-LIFT-RESPONSE {I1}/event"]),
    ("evacuation-lifting", [("<value>flood<", "<value>flood</value>\n    </parameter>\n    " + parameter("警戒レベル", "4").removesuffix("</value>\n    </parameter>") + "<")], [f"warning JP-LIFT-LEVEL {I1}/parameter[3]/value"]),
    ("evacuation-lifting", [("<msgType>Update", "<msgType>Alert"), ("  <references>bousai@hitoyoshi.example,hitoyoshi-20260704-evacuation,2026-07-04T02:20:00+09:00</references>\n", "")], [f"warning JP-LIFT-NEW {I1}"]),
    # times and places
    ("drill", [("    <expires>2026-07-04T12:00:00+09:00</expires>\n", "")], [f"error JP-EXPIRES-MISSING {I1}"]),
    ("rain", [("    <expires>2026-07-04T04:00:00+09:00</expires>\n", "")], [f"error JP-EXPIRES-MISSING {I1}"]),
    ("rain", [("    <expires>2026-07-04T04:00:00+09:00</expires>\n", ""), (parameter("jp:kind", "rain"), "")], [f"advice JP-KIND-MISSING {I1}"]),
    ("general", [("    <expires>2026-07-04T18:00:00+09:00</expires>\n", "")], []),
    ("weather", [(f"<geocode>\n        {GEOCODE}", "")], [f"error JP-AREA-PLACE {I1}/area[1]"]),
    ("weather", [("JISX0402", "気象庁コード")], [f"error JP-AREA-PLACE {I1}/area[1]", f"warning JP-CODE-NAME {I1}/area[1]/geocode[1]/valueName"]),
    ("weather", [("JISX0402", "SAME")], [f"error JP-AREA-PLACE {I1}/area[1]"]),
    ("drill", [("JISX0402", "気象庁コード")], [f"warning JP-CODE-NAME {I1}/area[1]/geocode[1]/valueName", f"advice JP-URGENT-MAIL-AREA {I1}"]),
    ("weather", [("<value>432032<", "<value>432033<")], [f"error JP-CODE-CHECK-DIGIT {CODE}"]),
    ("weather", [("<value>432032<", "<value>43203<")], [f"warning JP-CODE-SPELLING {CODE}"]),
    ("weather", [("<value>432032<", "<value>４３２０３２<")], [f"warning JP-CODE-SPELLING {CODE}"]),
    ("drill", [("<value>432032<", "<value>43<"), ("<areaDesc>人吉市", "<areaDesc>熊本県")], [f"warning JP-ORDER-PREFECTURE {CODE}", f"advice JP-URGENT-MAIL-AREA {I1}"]),
    ("weather", [("<value>432032<", "<value>43<")], [f"advice JP-KANA-MISSING {I1}"]),
    ("weather", [("<value>432032<", "<value>430005<")], [f"advice JP-KANA-MISSING {I1}"]),
    ("weather", [("<value>432032<", "<value>481009<")], [f"error JP-CODE-FORM {CODE}"]),
    ("weather", [("<value>432032<", "<value>11002<")], [f"error JP-CODE-FORM {CODE}"]),
    ("weather", [("<value>432032<", "<value>439991<")], [f"warning JP-CODE-UNKNOWN {CODE}"]),
    ("weather", [("<value>432032<", "<value>432016<")], [f"warning JP-CODE-FORMER {CODE}", f"advice JP-KANA-MISSING {I1}"]),
    ("weather", [("<value>432032<", "<value>43201<")], [f"warning JP-CODE-SPELLING {CODE}", f"warning JP-CODE-FORMER {CODE}", f"advice JP-KANA-MISSING {I1}"]),
    ("weather", [(GEOCODE, GEOCODE + "\n      " + town("町丁目コード", "432030012001"))], []),
    ("weather", [(GEOCODE, GEOCODE + "\n      " + town("jp:town", "435010012001"))], [f"error JP-TOWN-ELSEWHERE {I1}/area[1]/geocode[2]/value"]),
    ("weather", [(GEOCODE, GEOCODE + "\n      " + town("jp:town", "43203001200"))], [f"error JP-TOWN-FORM {I1}/area[1]/geocode[2]/value"]),
    ("weather", [(f"<geocode>\n        {GEOCODE}", town("jp:town", "432030012001"))], [f"advice JP-TOWN-ALONE {I1}/area[1]"]),
    ("general", [(parameter("jp:kana", "人吉市西部=ひとよしし せいぶ"), "")], [f"advice JP-KANA-MISSING {I1}"]),
    ("general", [("=ひとよしし せいぶ", "=人吉市西部")], [f"warning JP-KANA-FORM {I1}/parameter[3]/value"]),
    ("general", [("=ひとよしし せいぶ", "")], [f"advice JP-KANA-MISSING {I1}", f"warning JP-KANA-FORM {I1}/parameter[3]/value"]),
    ("general", [("人吉市西部=", "人吉市東部=")], [f"advice JP-KANA-MISSING {I1}", f"warning JP-KANA-STRAY {I1}/parameter[3]/value"]),
    # texts
    ("general", [("<headline>人吉市西部で断水", "<headline>" + "人吉市西部で断水" * 13)], [f"advice JP-HEADLINE-LONG {I1}/headline"]),
    ("general", [("<description>配水管", "<description>ﾊｲｽｲ管")], [f"advice JP-TEXT-HALF-KANA {I1}/description"]),
    # 緊急速報メール
    ("drill", [("<headline>人吉市全域に", "<headline>人吉市全域に警戒レベル3")], [f"advice JP-URGENT-MAIL-TITLE {I1}/headline"]),
    ("drill", [("<description>", "<description>" + "大雨です。" * 40)], [f"advice JP-URGENT-MAIL-BODY {I1}/description"]),
    ("drill", [("<description>大雨", "<description>https://a.example 大雨")], [f"advice JP-URGENT-MAIL-LINK {I1}"]),
    ("drill", [("<description>大雨", "<description>bousai@hitoyoshi.example 大雨")], [f"advice JP-URGENT-MAIL-LINK {I1}"]),
    ("drill", [("<description>大雨", "<description>☔大雨")], [f"advice JP-URGENT-MAIL-CHARACTER {I1}"]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "changes", "expected"), CASES, ids=[f"{n}-{case[0]}" for n, case in enumerate(CASES)]
)
def test_a_change_is_found_for_what_it_is(
    name: str, changes: list[tuple[str, str]], expected: list[str]
) -> None:
    assert sorted(found(example(name, *changes))) == sorted(expected)


# What no single change of an example shows
ELSEWHERE = {
    "JP-AREA-MISSING",
    "JP-KIND-MIXED",
    "JP-LEVEL-TRANSLATION",
    "JP-URGENT-MAIL-EMPTY",
    "JP-URGENT-MAIL-NEW",
}


def test_every_rule_is_shown() -> None:
    assert {line.split()[1] for *_, expected in CASES for line in expected} == set(RULES) - ELSEWHERE


def only(raw: bytes, rule: str) -> Problem:
    (one,) = [p for p in judged(raw) if p.rule == rule]
    return one


def test_real_and_public_without_an_area_is_an_error_and_a_drill_or_a_cancel_is_not() -> None:
    def rules(alert: Alert) -> set[str]:
        return {p.rule for p in cap.judge(alert, JP)}

    alert = cap.parse(example("weather"))
    bare = replace(alert, infos=(replace(alert.infos[0], areas=()),), raw=b"")
    assert "JP-AREA-MISSING" in rules(bare)
    assert "JP-AREA-MISSING" in rules(replace(bare, msg_type=MsgType.UPDATE))
    for harmless in (
        replace(bare, status=Status.EXERCISE),
        replace(bare, msg_type=MsgType.CANCEL),
        replace(bare, msg_type=MsgType.ACK),
    ):
        assert "JP-AREA-MISSING" not in rules(harmless)
    circle = replace(alert.infos[0].areas[0], geocodes=(), circles=(Circle(130.76, 32.21, 1_000.0),))
    drawn = replace(bare, infos=(replace(alert.infos[0], areas=(circle,)),))
    assert not rules(drawn) & {"JP-AREA-MISSING", "JP-AREA-PLACE"}


def test_two_languages_must_order_the_same() -> None:
    raw = example("evacuation")
    before, english = raw.decode().split("<language>en</language>")
    changed = f"{before}<language>en</language>{english.replace('<value>4<', '<value>3<')}".encode()
    one = only(changed, "JP-LEVEL-TRANSLATION")
    assert (one.severity, one.path) == ("error", "/alert/info[2]")
    assert "3" in one.message
    assert "4" in one.message
    assert "JP-LEVEL-TRANSLATION" not in [p.rule for p in judged(raw)]


def test_that_only_the_gravest_level_is_translated_is_no_contradiction() -> None:
    four, three = make_alert(level=4).infos[0], make_alert(event="高齢者等避難", level=3).infos[0]
    english = replace(four, language="en", event="Evacuation order")

    def rules(*infos: Info) -> list[str]:
        found = cap.judge(make_alert(infos=infos), JP)
        return [p.rule for p in found if p.rule == "JP-LEVEL-TRANSLATION"]

    assert rules(four, three, english) == []
    assert rules(four, three, replace(english, parameters=three.parameters)) == ["JP-LEVEL-TRANSLATION"]
    assert rules(three, english) == ["JP-LEVEL-TRANSLATION"]


def test_an_alert_is_of_one_kind() -> None:
    before, english = example("evacuation").decode().split("<language>en</language>")
    mixed = f"{before}<language>en</language>{english.replace('>evacuation<', '>shelter<')}".encode()
    assert only(mixed, "JP-KIND-MIXED").severity == "warning"


def test_a_ward_lies_in_its_city_with_a_gazetteer_and_without() -> None:
    ward = ("weather", (GEOCODE, GEOCODE.replace("432032", "431001") + town("jp:town", "431010012001")))
    other = ("weather", (GEOCODE, GEOCODE.replace("432032", "401307") + town("jp:town", "401010012001")))
    for lookup in (GAZETTEER.place, None):
        assert "JP-TOWN-ELSEWHERE" not in "".join(found(example(*ward), lookup))
        assert "JP-TOWN-ELSEWHERE" in "".join(found(example(*other), lookup))
    prefecture = ("weather", (GEOCODE, GEOCODE.replace("432032", "43") + town("jp:town", "432030012001")))
    assert "JP-TOWN" not in "".join(found(example(*prefecture)))


def test_without_a_gazetteer_a_code_is_never_called_unknown() -> None:
    raw = example("weather", ("<value>432032<", "<value>439991<"))
    assert "JP-CODE-UNKNOWN" not in "".join(found(raw, None))


@pytest.mark.parametrize("name", sorted(reading.JMA_CITY_GEOCODE_NAMES))
def test_a_municipality_by_its_code_of_jma_is_a_place(name: str) -> None:
    assert cap.declared_code(NamedValue(name, "4320300")) == "432032"
    assert cap.declared_code(NamedValue(name, "0120601")) == "012068"  # a part of 釧路市
    assert found(example("weather", ("JISX0402", name), (">432032<", ">4320300<"))) == []
    for wrong in ("432032", "432030012001", "4800000", "人吉"):
        with pytest.raises(InvalidCode):
            cap.declared_code(NamedValue(name, wrong))
        assert found(example("weather", ("JISX0402", name), (">432032<", f">{wrong}<"))) == [
            f"error JP-CODE-FORM {CODE}"
        ]
    unknown = example("weather", ("JISX0402", name), (">432032<", ">4399900<"))
    assert found(unknown) == [f"warning JP-CODE-UNKNOWN {CODE}"]


@pytest.mark.parametrize("name", sorted(REGION_NAMES))
def test_a_region_of_jma_is_a_place(name: str) -> None:
    assert found(example("weather", ("JISX0402", name), (">432032<", ">430010<"))) in (
        [],
        [f"advice JP-KANA-MISSING {I1}"],
    )
    for wrong in ("43", "43001", "4300100", "990000"):
        assert f"error JP-CODE-FORM {CODE}" in found(
            example("weather", ("JISX0402", name), (">432032<", f">{wrong}<"))
        )


@pytest.mark.parametrize("name", sorted(reading.JIS_GEOCODE_NAMES))
def test_a_municipality_is_read_under_every_name_of_its_scheme(name: str) -> None:
    for value in ("432032", "43203", "４３２０３２"):
        assert cap.declared_code(NamedValue(name, value)) == "432032"
    assert (
        cap.declared_code(NamedValue(name, "431010"))
        == cap.declared_code(NamedValue(name, "43101"))
        == "431010"
    )
    for value in ("43", "43000", "430005"):
        assert cap.declared_code(NamedValue(name, value)) == "43"
    for value in ("432033", "4320300", "432030012001"):
        with pytest.raises(InvalidCode):
            cap.declared_code(NamedValue(name, value))


@pytest.mark.parametrize("name", sorted(reading.TOWN_GEOCODE_NAMES))
def test_a_town_lies_in_the_municipality_or_ward_that_its_code_begins_with(name: str) -> None:
    for town_code, place in (
        ("432030012001", "432032"),
        ("431010012001", "431010"),
        ("131010001001", "131016"),
    ):
        assert cap.declared_code(NamedValue(name, town_code)) == place


def test_the_right_code_is_in_the_advice() -> None:
    for wrong, right in (("432033", "432032"), ("43203", "432032"), ("011011", "011011")):
        problems = judged(example("weather", ("<value>432032<", f"<value>{wrong}<")))
        codes = [p for p in problems if p.rule.startswith("JP-CODE")]
        if wrong == right:
            assert codes == []
        for p in codes:
            assert right in p.message + p.help
            assert right in p.message_ja + p.help_ja


def test_an_old_code_is_told_its_successors_and_the_day() -> None:
    one = only(example("weather", ("<value>432032<", "<value>193411<")), "JP-CODE-FORMER")
    for text in (one.message, one.message_ja):
        for told in ("193411", "上九一色村", "2006-03-01", "甲府市 192015", "富士河口湖町 194301"):
            assert told in text
    assert "甲府市 192015" in one.help
    assert "甲府市 192015" in one.help_ja


def test_a_town_may_have_the_old_code_of_its_municipality() -> None:
    hanamaki = ("weather", (GEOCODE, GEOCODE.replace("432032", "032051") + town("jp:town", "033410012001")))
    kofu = ("weather", (GEOCODE, GEOCODE.replace("432032", "192015") + town("jp:town", "033410012001")))
    assert "JP-TOWN-ELSEWHERE" not in "".join(found(example(*hanamaki)))
    assert "JP-TOWN-ELSEWHERE" in "".join(found(example(*kofu)))


def test_a_finding_has_the_line_of_its_element() -> None:
    raw = example("weather", ("<value>432032<", "<value>432033<"))
    one = only(raw, "JP-CODE-CHECK-DIGIT")
    assert "432033" in raw.decode().splitlines()[one.line - 1]


def test_what_is_missing_is_placed_at_what_should_hold_it() -> None:
    raw = example("drill", ("    <expires>2026-07-04T12:00:00+09:00</expires>\n", ""))
    one = only(raw, "JP-EXPIRES-MISSING")
    assert raw.decode().splitlines()[one.line - 1].strip() == "<info>"


def test_an_alert_without_its_document_is_judged_without_lines() -> None:
    alert = replace(cap.parse(example("drill", ("Severe", "Minor"))), raw=b"")
    (one,) = cap.judge(alert, JP, GAZETTEER.place)
    assert (one.rule, one.path, one.line) == ("JP-LEVEL-SEVERITY", f"{I1}/severity", 0)


def test_a_path_ends_at_the_nearest_element_that_is_there() -> None:
    raw = example("evacuation")
    asked = ["/alert", f"{I1}/area[1]/geocode[1]/value", f"{I1}/area[2]/geocode[1]", "/alert/info[3]", "/alert/note/x", "/alert/..", "/alert/info[0]"]  # fmt: skip
    placed = places(raw, asked)
    assert [placed[path][0] for path in asked] == ["/alert", f"{I1}/area[1]/geocode[1]/value", I1, "/alert", "/alert", "/alert", "/alert"]  # fmt: skip
    assert placed["/alert"][1] == 2
    assert places(b"", asked) == {}


def test_cap_1_0_is_judged_too() -> None:
    raw = re.sub(
        rb"<(parameter|geocode)>\s*<valueName>(.*?)</valueName>\s*<value>(.*?)</value>\s*</\1>",
        rb"<\1>\2=\3</\1>",
        example("weather", ("<value>432032<", "<value>432033<")),
    )
    raw = raw.replace(b"urn:oasis:names:tc:emergency:cap:1.2", b"http://www.incident.com/cap/1.0")
    raw = re.sub(rb"\s*<responseType>.*?</responseType>", b"", raw)
    assert found(raw) == [f"error JP-CODE-CHECK-DIGIT {I1}/area[1]/geocode[1]"]


# The rules as a table


def test_every_rule_is_worded_in_both_languages() -> None:
    def fields(template: str) -> set[str]:
        return {name for _, name, _, _ in string.Formatter().parse(template) if name}

    for rule in RULES.values():
        assert rule.id.startswith("JP-")
        for text in (rule.message, rule.message_ja, rule.help, rule.help_ja):
            assert text
            assert not text.endswith((".", "。"))
        for text in (rule.message_ja, rule.help_ja):
            assert re.search("[ぁ-んァ-ン]", text), text
        assert {f.removesuffix("_ja") for f in fields(rule.message)} >= {
            f.removesuffix("_ja") for f in fields(rule.message_ja)
        } - {"title", "hint"}


def test_every_message_is_filled_in() -> None:
    for name, changes, _ in CASES:
        for p in judged(example(name, *changes)):
            for text in (p.message, p.message_ja, p.help, p.help_ja):
                assert not re.search(r"[{}]", text), text
            assert p.doc == f"/rules#{p.rule}"


def test_the_page_says_what_the_table_says() -> None:
    def cell(text: str) -> str:
        escaped = text.replace("<", "&lt;").replace(">", "&gt;")
        return re.sub(r"{(\w+)}", r"*\1*", escaped)

    lines = DOCS.read_text(encoding="utf-8").splitlines()
    rows = [line for line in lines if line.startswith("| `JP-")]
    assert rows == [
        f"| `{r.id}` | {r.severity} | {r.clause} | {cell(r.message)} | {cell(r.message_ja)} |"
        for r in RULES.values()
    ]


def test_the_page_names_every_kind_and_parameter() -> None:
    text = DOCS.read_text(encoding="utf-8")
    for kind in cap.KINDS.values():
        assert f"### `{kind.name}` {kind.title_ja}" in text
        for p in kind.parameters:
            shown = p.name if p.name.startswith("警戒") else f"jp:{p.name}"
            assert f"`{shown}`" in text, shown
            for f in p.fields:
                assert f"`{f.name}`" in text, f.name


def test_two_rules_cannot_share_an_id() -> None:
    rule = next(iter(RULES.values()))
    with pytest.raises(ValueError, match="same id"):
        table(rule, rule)


# Another country


def test_another_country_is_another_small_file() -> None:
    rules = table(
        cap.Rule("XX-SIREN", ProblemSeverity.WARNING, "law", "no siren for {event}", "{event}のサイレンがありません", "sound it", "鳴らしてください"),
    )  # fmt: skip

    def judge(alert: Alert, _lookup: Lookup | None) -> list[Finding]:
        return [
            finding("XX-SIREN", f"/alert/info[{n}]", event=info.event)
            for n, info in enumerate(alert.infos, 1)
            if not any(p.name == "siren" for p in info.parameters)
        ]

    profile = Profile("xx", "a country", "ある国", rules, judge)
    raw = example("weather")
    (one,) = cap.judge(cap.parse(raw), profile)
    assert (one.rule, one.path, one.message) == ("XX-SIREN", I1, "no siren for 大雨警報")
    assert raw.decode().splitlines()[one.line - 1].strip() == "<info>"


def test_the_profile_cap_asks_for_nothing() -> None:
    assert cap.judge(make_alert(expires=None, codes=["1"]), cap.PROFILES["cap"]) == ()


# Any alert


@given(
    st.text(max_size=20),
    st.sampled_from([*cap.KINDS, "", "x-y", "あ"]),
    st.lists(
        st.tuples(
            st.sampled_from(["警戒レベル", "警戒レベル相当", "jp:shelter", "jp:damage", "jp:headquarters", "observed", "jp:kana", "stage", "jp:rain_1h_mm"]),
            st.text(alphabet="name=;state=openfull0-9.,:T あア=", max_size=40),
        ),
        max_size=4,
    ),
    st.sampled_from(MsgType),
    st.sampled_from(Status),
    st.lists(st.text(alphabet="0123456789０１ab", max_size=13), max_size=3),
)  # fmt: skip
@settings(deadline=None, max_examples=150)
def test_any_alert_can_be_judged_and_read(
    text: str,
    kind: str,
    said: list[tuple[str, str]],
    msg_type: MsgType,
    status: Status,
    codes: list[str],
) -> None:
    alert = make_alert(
        event=text or "x",
        headline=text,
        msg_type=msg_type,
        status=status,
        parameters=[("jp:kind", kind), *said],
        codes=codes,
        raw=b"",
    )
    for problem in cap.judge(alert, JP, GAZETTEER.place):
        assert problem.rule in RULES
        assert problem.path.startswith("/alert")
    for read in (
        cap.orders, cap.shelters, cap.headquarters, cap.damages, cap.river_levels, cap.rainfalls, cap.level,
        cap.equivalent_level, cap.kind, cap.urgent_mail, as_of, topic,
    ):  # fmt: skip
        read(alert)


def test_a_great_many_findings_are_cut_with_the_errors_first() -> None:
    codes = [f"{10000 + n}" for n in range(300)]
    alert = make_alert(codes=[*codes, "432033"], raw=None)
    problems = cap.judge(alert, JP)
    assert len(problems) == 201
    assert problems[-1].rule == "CAP-TOO-MANY"
    assert "JP-CODE-CHECK-DIGIT" in [p.rule for p in problems]


@pytest.mark.parametrize("lookup", [GAZETTEER.place, None], ids=["gazetteer", "alone"])
def test_many_codes_of_one_area_cost_no_more_than_their_number(lookup: Lookup | None) -> None:
    geocodes = [
        NamedValue(name, f"{number:05}{rest}")
        for number in range(1100, 6100)
        for name, rest in (("JISX0402", ""), ("jp:town", "9999999"))
    ]
    areas = [replace(make_alert().infos[0].areas[0], geocodes=tuple(geocodes))]
    begun = time.process_time()
    list(JP.judge(make_alert(areas=areas, raw=b""), lookup))
    assert time.process_time() - begun < 2.0


@pytest.mark.parametrize(
    "text",
    ["あ" * 200_000, "a" * 200_000, "a-" * 100_000, "a@" * 100_000, "【" * 200_000, "【訓練" * 60_000, "これは " * 60_000, "警戒レベル " * 40_000, "訓練、" * 60_000, "避難" * 100_000],
)  # fmt: skip
def test_a_long_text_costs_no_more_than_its_length(text: str) -> None:
    alert = make_alert(headline=text, description=text, instruction=text, raw=b"")
    begun = time.process_time()
    cap.judge(alert, JP)
    assert time.process_time() - begun < 2.0


# Readers


def test_orders_are_read_in_one_language() -> None:
    (order,) = cap.orders(cap.parse(example("evacuation")))
    assert (order.level, order.event, order.lifted, order.hazard) == (4, "避難指示", False, "flood")
    assert (order.codes, order.households, order.people) == (("432032",), 1240, 2810)
    assert order.areas == ("人吉市 球磨川沿いの浸水想定区域",)
    (lifted,) = cap.orders(cap.parse(example("evacuation-lifting")))
    assert (lifted.level, lifted.lifted) == (None, True)
    (withdrawn,) = cap.orders(cap.parse(example("cancel")))
    assert withdrawn.lifted
    assert cap.orders(cap.parse(example("weather"))) == ()


def test_shelters_are_read_and_a_record_that_does_not_read_is_passed_over() -> None:
    first, second, third = cap.shelters(cap.parse(example("shelter")))
    assert (first.name, first.state) == ("人吉カルチャーパレス", ShelterState.OPEN)
    assert (first.occupancy, first.capacity, first.households) == (138, 600, 52)
    assert (first.lon, first.lat, first.type) == (130.7690, 32.2106, "designated")
    assert (first.pets, first.accessible, second.pets) == (True, True, None)
    assert first.since == datetime(2026, 7, 3, 12, tzinfo=UTC)
    assert (second.state, third.state) == (ShelterState.FULL, ShelterState.CLOSED)
    assert third.lon == 130.738
    damaged = cap.parse(example("shelter", ("state=full", "state=crowded")))
    assert [s.name for s in cap.shelters(damaged)] == ["人吉カルチャーパレス", "西瀬コミュニティセンター"]


def test_headquarters_damage_rivers_rain_and_notices_are_read() -> None:
    (headquarters,) = cap.headquarters(cap.parse(example("headquarters")))
    assert (headquarters.name, headquarters.established) == ("人吉市災害対策本部", True)
    report = cap.parse(example("damage"))
    counts = {d.item: d.count for d in cap.damages(report)}
    assert (counts["dead"], counts["missing"], counts["houses-flooded-above-floor"]) == (0, None, 84)
    assert as_of(report) == datetime(2026, 7, 4, 0, tzinfo=UTC)
    (river,) = cap.river_levels(cap.parse(example("river-level")))
    assert (river.level_m, river.stage, river.threshold_m, river.equivalent) == (3.28, "evacuation", 3.2, 3)
    (rain,) = cap.rainfalls(cap.parse(example("rain")))
    assert rain.amounts_mm == {"rain_1h_mm": 72.5, "rain_total_mm": 214.0}
    assert topic(cap.parse(example("general"))) == "lifeline"
    notice = cap.parse(example("general"))
    assert cap.readings(notice.infos[0]) == {"人吉市西部": "ひとよしし せいぶ"}


def test_what_is_lifted_has_no_level() -> None:
    alert = make_alert(level=4, response="AllClear")
    assert cap.level(alert) is None
    both = replace(alert, infos=(*alert.infos, *make_alert(level=3).infos))
    assert cap.level(both) == 3


def test_the_two_levels_are_two_fields() -> None:
    river = cap.parse(example("river-level"))
    assert (cap.level(river), cap.equivalent_level(river)) == (None, 3)
    order = cap.parse(example("evacuation"))
    assert (cap.level(order), cap.equivalent_level(order)) == (4, None)


def test_a_kind_without_the_prefix_counts_only_if_it_is_known() -> None:
    assert said_kind(make_alert(parameters=[("kind", "river-level")]).infos[0]) == "river-level"
    assert said_kind(make_alert(parameters=[("kind", "watch")]).infos[0]) is None


def test_a_town_lies_in_its_municipality() -> None:
    assert town_municipality("432030012001") == "432032"
    for wrong in ("", "432030", "43203001200１", "990000012001"):
        with pytest.raises(InvalidCode):
            town_municipality(wrong)


def test_a_town_code_alone_tells_the_hub_whom_the_alert_concerns() -> None:
    weather = example("weather", (f"<geocode>\n        {GEOCODE}", town("jp:town", "432030012001")))
    facts = matching.facts_of(cap.parse(weather), GAZETTEER)
    assert facts.codes == frozenset({"432032"})
    assert not facts.nowhere
    assert cap.declared_code(NamedValue("ooAzaTyouTyouMoku", "432030012001")) == "432032"
    assert cap.declared_code(NamedValue("SAME", "432032")) is None


def test_a_hub_of_any_profile_asks_for_codes_that_can_be_read() -> None:
    def rules(*codes: tuple[str, str]) -> list[str]:
        geocodes = tuple(NamedValue(name, value) for name, value in codes)
        areas = (replace(make_alert().infos[0].areas[0], geocodes=geocodes),)
        return [p.rule for p in cap.judge(make_alert(areas=areas), cap.CODES)]

    assert (
        rules(("JISX0402", "432032"), ("JISX0402", "43203"), ("SAME", "1"), ("jp:town", "432030012001")) == []
    )
    assert rules(("JISX0402", "432033")) == ["JP-CODE-CHECK-DIGIT"]
    assert rules(("JISX0402", "人吉"), ("jp:town", "1")) == ["JP-CODE-FORM", "JP-TOWN-FORM"]


def test_plain_japanese_is_read_and_easy_japanese_says_the_same_again() -> None:
    text = example("shelter").decode()
    info = text[text.index("  <info>") : text.index("</alert>")]
    easy = info.replace("<language>ja<", "<language>ja-x-easy<").replace("避難所開設", "にげる ばしょ")
    both = text.replace("</alert>", f"{easy}</alert>").encode()
    assert len(cap.shelters(cap.parse(both))) == 3
    assert found(both) == []
    order = example("evacuation").decode()
    info = order[order.index("  <info>") : order.index("  <info>", order.index("</info>"))]
    easy = info.replace("<language>ja<", "<language>ja-x-easy<").replace(
        "<event>避難指示", "<event>にげてください"
    )
    both = order.replace("</alert>", f"{easy}</alert>").encode()
    assert found(both) == []
    assert [o.event for o in cap.orders(cap.parse(both))] == ["避難指示"]
    only(
        "".join((order.replace("</alert>", easy.replace("<value>4<", "<value>3<")), "</alert>")).encode(),
        "JP-LEVEL-TRANSLATION",
    )
    assert cap.urgent_mail(cap.parse(both.replace(b"<language>ja<", b"<language>ja-JP<"))).fits


def test_a_receipt_orders_nothing() -> None:
    order = cap.parse(example("evacuation"))
    for msg_type in (MsgType.ACK, MsgType.ERROR):
        assert cap.orders(replace(order, msg_type=msg_type)) == ()


@given(
    st.dictionaries(
        st.sampled_from(["a", "b", "c"]),
        st.text(alphabet="xyzあ,:. ", min_size=1).filter(str.strip),
        max_size=3,
    )
)
def test_a_record_reads_back(said: dict[str, str]) -> None:
    fields = [kinds.Field(name, kinds.TEXT) for name in "abc"]
    text = "; ".join(f"{key}={value}" for key, value in said.items())
    assert kinds.record(text, fields) == ({key: value.strip() for key, value in said.items()}, [])


# 緊急速報メール


def mail_of(**changes: str | None) -> cap.UrgentMail:
    return cap.urgent_mail(make_alert(polygon=None, **changes))  # type: ignore[arg-type]


def problems_of(found: cap.UrgentMail) -> list[str]:
    return [f.rule for f in found.problems]


def test_a_mail_is_made_of_headline_description_and_instruction() -> None:
    made = mail_of(headline="避難指示", description="氾濫しています。", instruction="逃げてください。")
    assert (made.title, made.body, made.fits) == ("避難指示", "氾濫しています。\n逃げてください。", True)


def test_a_mail_has_exact_limits_and_a_line_break_counts_twice() -> None:
    assert mail_of(headline="あ" * 15, description="あ" * 200, instruction=None).fits
    assert problems_of(mail_of(headline="あ" * 16)) == ["JP-URGENT-MAIL-TITLE"]
    assert problems_of(mail_of(headline="あ", description="あ" * 198 + "\nあ", instruction=None)) == [
        "JP-URGENT-MAIL-BODY"
    ]
    assert mail_of(headline="あ", description="あ" * 197 + "\nあ", instruction=None).fits
    assert mail.length("あ\r\nあ") == 4
    wide = mail.Limits(title=20, body=500)
    assert cap.urgent_mail(make_alert(headline="あ" * 20, description="あ" * 480), wide).fits


def test_a_mail_is_new_and_japanese_and_for_a_municipality() -> None:
    assert "JP-URGENT-MAIL-NEW" in problems_of(
        cap.urgent_mail(make_alert(msg_type="Update", references=[make_alert()]))
    )
    assert problems_of(mail_of(headline="a", language="en")) == ["JP-URGENT-MAIL-EMPTY"]
    assert "JP-URGENT-MAIL-EMPTY" in problems_of(mail_of(description=None, instruction=None))
    assert problems_of(cap.urgent_mail(make_alert(headline="a", codes=["43"]))) == ["JP-URGENT-MAIL-AREA"]


@pytest.mark.parametrize(
    "text", ["http://a.example/", "www.hitoyoshi.example", "a@b.example", "hitoyoshi.jp"]
)
def test_a_mail_has_no_addresses(text: str) -> None:
    assert problems_of(mail_of(headline="a", description=f"詳細は{text}へ")) == ["JP-URGENT-MAIL-LINK"]


@pytest.mark.parametrize(("text", "shown"), [("①髙ｶﾅ", False), ("～－‖ ☆〒、。", True), ("😀", False)])
def test_a_mail_has_only_characters_that_every_telephone_has(text: str, shown: bool) -> None:
    assert mail_of(headline="a", description=text).fits is shown


def test_the_limits_of_a_drill_are_the_same() -> None:
    assert cap.urgent_mail(make_alert(status=Status.EXERCISE, headline="訓練")).fits


def test_a_graver_level_never_asks_for_a_lesser_severity() -> None:
    for level, fitting in ((5, {"Extreme"}), (4, {"Extreme", "Severe"}), (3, {"Severe", "Moderate"})):
        names = {5: "緊急安全確保", 4: "避難指示", 3: "高齢者等避難"}
        for severity in Severity:
            alert = make_alert(event=names[level], level=level, severity=severity, parameters=[("jp:kind", "evacuation")])  # fmt: skip
            rules = [p.rule for p in cap.judge(alert, JP)]
            assert ("JP-LEVEL-SEVERITY" in rules) == (severity.value not in fitting), (level, severity)


def test_a_later_observation_is_noticed_and_an_earlier_one_is_not() -> None:
    now = datetime(2026, 7, 4, 3, tzinfo=UTC)
    for minutes, noticed in ((1, True), (0, False), (-10, False)):
        when = (now + timedelta(minutes=minutes)).isoformat()
        raw = make_cap(sent=now, event="水位", level=None, parameters=[("observed", when)])
        assert ("JP-OBSERVED-LATER" in "".join(found(raw))) == noticed


# What a change of one word of the rules would else leave unnoticed


@pytest.mark.parametrize(
    ("code", "rule", "zero"),
    [
        ("011001", "JP-CODE-CHECK-DIGIT", False),
        ("472011", "JP-CODE-CHECK-DIGIT", False),
        ("480001", "JP-CODE-FORM", False),
        ("001002", "JP-CODE-FORM", False),
        ("11002", "JP-CODE-FORM", True),
        ("1100", "JP-CODE-FORM", True),
        ("1", "JP-CODE-FORM", True),
        ("123", "JP-CODE-FORM", False),
        ("人吉市", "JP-CODE-FORM", False),
    ],
)
def test_a_lost_zero_is_supposed_only_where_one_may_be_lost(code: str, rule: str, zero: bool) -> None:
    (one,) = cap.judge(make_alert(codes=[code], raw=None), cap.CODES)
    assert (one.rule, "先頭の0" in one.message_ja) == (rule, zero)


def test_a_code_is_placed_in_the_info_and_area_that_have_it() -> None:
    good, bad = make_alert().infos[0], make_alert(codes=["432033"]).infos[0]
    alert = make_alert(infos=(good, replace(bad, areas=(good.areas[0], bad.areas[0]))))
    (one,) = cap.judge(alert, cap.CODES)
    assert one.path == "/alert/info[2]/area[2]/geocode[1]/value"
    assert "432033" in alert.raw.decode().splitlines()[one.line - 1]


@pytest.mark.parametrize(
    ("municipality", "ward", "inside"),
    [
        ("431001", "43101", True),  # 熊本市
        ("141305", "14131", True),  # 川崎市
        ("141305", "14118", False),  # a ward of 横浜市
        ("432032", "43204", False),
        ("132047", "13205", False),
        ("131016", "13102", False),  # wards of Tokyo are municipalities
    ],
)
def test_without_a_gazetteer_only_what_may_be_a_ward_passes(
    municipality: str, ward: str, inside: bool
) -> None:
    geocodes = (NamedValue("JISX0402", municipality), NamedValue("jp:town", f"{ward}0012001"))
    area = replace(make_alert().infos[0].areas[0], geocodes=geocodes)
    rules = [p.rule for p in cap.judge(make_alert(areas=[area]), JP)]
    assert ("JP-TOWN-ELSEWHERE" not in rules) is inside


def test_what_is_not_a_code_is_not_taken_for_one() -> None:
    assert found(example("weather", (GEOCODE, GEOCODE + "\n      " + town("postcode", "868860")))) == []
    assert found(example("weather", (GEOCODE, GEOCODE + "\n      " + town("postcode", "481009")))) == []


def test_easy_japanese_is_read_rather_than_english() -> None:
    japanese = make_alert(parameters=[("jp:shelter", "name=ひなんじょ; state=open")]).infos[0]
    english = replace(
        japanese, language="en", parameters=(NamedValue("jp:shelter", "name=Shelter; state=open"),)
    )
    easy = replace(japanese, language="ja-x-easy")
    assert [s.name for s in cap.shelters(make_alert(infos=(english, easy)))] == ["ひなんじょ"]
    assert [s.name for s in cap.shelters(make_alert(infos=(english,)))] == ["Shelter"]


def test_rain_without_a_station_or_an_amount_says_nothing() -> None:
    said = {"station": "人吉", "observed": "2026-07-04T01:00:00+09:00", "rain_1h_mm": "72.5"}

    def read(*without: str) -> int:
        given = [(name, value) for name, value in said.items() if name not in without]
        return len(cap.rainfalls(make_alert(event="雨", level=None, parameters=given)))

    assert read() == 1
    assert [read(name) for name in said] == [0, 0, 0]


def test_what_corresponds_to_a_level_is_led_to_its_own_field() -> None:
    for value, led in (("4相当", True), ("四", False)):
        one = only(example("drill", ("<value>3<", f"<value>{value}<")), "JP-LEVEL-FORM")
        assert ("警戒レベル相当に書きます" in one.message_ja) is led
        assert ("goes into 警戒レベル相当" in one.message) is led


@pytest.mark.parametrize(("event", "level"), [("緊急安全確保", 5), ("避難指示", 4), ("高齢者等避難", 3)])
def test_each_order_has_its_level(event: str, level: int) -> None:
    for written in (3, 4, 5):
        rules = [p.rule for p in cap.judge(make_alert(event=event, level=written), JP)]
        assert ("JP-LEVEL-EVENT" in rules) == (written != level)


def test_a_headline_may_have_a_hundred_characters_and_an_english_one_more() -> None:
    def rules(**changes: str) -> list[str]:
        found = cap.judge(make_alert(event="お知らせ", level=None, **changes), JP)  # type: ignore[arg-type]
        return [p.rule for p in found]

    assert "JP-HEADLINE-LONG" not in rules(headline="あ" * 100)
    assert "JP-HEADLINE-LONG" in rules(headline="あ" * 101)
    assert "JP-HEADLINE-LONG" not in rules(headline="a" * 101, language="en")


def test_a_tsunami_is_known_by_the_words_unless_another_hazard_is_said() -> None:
    def rules(level: int | None, *parameters: tuple[str, str]) -> set[str]:
        alert = make_alert(headline="津波のおそれ", level=level, parameters=parameters)
        return {p.rule for p in cap.judge(alert, JP)} & {"JP-LEVEL-MISSING", "JP-LEVEL-HAZARD"}

    assert rules(None) == set()
    assert rules(4) == {"JP-LEVEL-HAZARD"}
    assert rules(None, ("jp:hazard", "flood")) == {"JP-LEVEL-MISSING"}
    assert rules(4, ("jp:hazard", "flood")) == set()


def test_each_info_is_judged_by_the_kind_that_it_names() -> None:
    order = make_alert(parameters=[("jp:kind", "evacuation")]).infos[0]
    river = make_alert(event="水位", level=3, parameters=[("jp:kind", "river-level")]).infos[0]
    wrong = [(p.rule, p.path) for p in cap.judge(make_alert(infos=(order, river)), JP)]
    assert ("JP-LEVEL-ORDER", "/alert/info[2]/parameter[1]/value") in wrong
    assert ("JP-PARAMETER-MISSING", "/alert/info[2]") in wrong
    assert [path for rule, path in wrong if rule.startswith("JP-LEVEL")] == [
        "/alert/info[2]/parameter[1]/value"
    ]


def test_names_of_others_are_left_to_others() -> None:
    raw = example(
        "weather",
        ("<area>", parameter("level", "Orange") + parameter("kind", "watch") + "<area>"),
    )
    assert found(raw) == []


def test_a_record_has_a_greatest_length() -> None:
    fields = [kinds.Field("a", kinds.TEXT)]
    longest = "a=" + "x" * (kinds.MAX_RECORD - 2)
    assert kinds.record(longest, fields)[1] == []
    assert kinds.record(longest + "x", fields)[0] == {}
